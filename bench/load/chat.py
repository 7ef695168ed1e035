"""People who chat: each reads an answer as it is streamed, thinks, and asks again, with the conversation so far.

    locust -f bench/load/chat.py --headless -u 40 -r 5 -t 60s
    LOAD_MODEL=NAME LOAD_TOKENS=200 LOAD_THINK=2,20 locust -f bench/load/chat.py --host http://127.0.0.1:8080 …

Beside the whole answer Locust's table has `first token`, from sending the request to the first token, and `between
tokens`, which has an entry for each token but the first. A stream that ends without [DONE] is a failure.
"""

import json
import os
import random
import time

from locust import HttpUser, between, task

MODEL = os.environ.get("LOAD_MODEL", "sluice-sim")
TOKENS = int(os.environ.get("LOAD_TOKENS", "64"))
THINK_S = [float(word) for word in os.environ.get("LOAD_THINK", "1,5").split(",")]
TURNS = 5       # then a new conversation
TIMEOUT_S = 120


def token_of(line):
    """The text of a line's token; None of a line that has none, as comments, the role and [DONE]."""
    if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
        return None
    choices = json.loads(line[5:]).get("choices") or [{}]
    return (choices[0].get("delta") or {}).get("content") or None


class ChatUser(HttpUser):
    host = "http://127.0.0.1:8080"
    wait_time = between(THINK_S[0], THINK_S[-1])

    def on_start(self):
        self.messages = []

    def note(self, name, since):
        now = time.perf_counter()
        self.environment.events.request.fire(request_type="SSE", name=name, response_time=(now - since) * 1000,
                                             response_length=0, exception=None, context={})
        return now

    @task
    def ask(self):
        if len(self.messages) >= 2 * TURNS:
            self.messages = []
        self.messages.append({"role": "user", "content": "Question %d" % random.randrange(10 ** 9)})
        body = {"model": MODEL, "stream": True, "max_tokens": TOKENS, "messages": self.messages}
        sent = time.perf_counter()
        with self.client.post("/v1/chat/completions", json=body, stream=True, catch_response=True, timeout=TIMEOUT_S,
                              name="answer, whole") as answer:
            if answer.status_code != 200:
                answer.failure("status %d" % answer.status_code)
                self.messages.pop()
                return
            text, is_done = self.read(answer, sent)
            # Locust's own figure ends at the head, because the body is read here.
            answer.request_meta["response_time"] = (time.perf_counter() - sent) * 1000
            if is_done:
                answer.success()
            else:
                answer.failure("the stream ended without [DONE]")
        self.messages.append({"role": "assistant", "content": text})

    def read(self, answer, sent):
        text, last, is_done = "", None, False
        # An event as it comes: a larger chunk size would wait for more.
        for line in answer.iter_lines(chunk_size=None):
            is_done |= line.startswith(b"data:") and line[5:].strip() == b"[DONE]"
            token = token_of(line)
            if token is not None:
                last = self.note("first token", sent) if last is None else self.note("between tokens", last)
                text += token
        return text, is_done
