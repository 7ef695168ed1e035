"""What is asked. `{n}` becomes a number that is another in each request, so that no cache answers in a backend's place;
with `keys` it is one of so many, so that a cache does. `stretch`: windows and warm-ups are so many times longer, where
answers take seconds."""

import collections
import json

Scenario = collections.namedtuple("Scenario", "name about method path body headers keys pipeline connections tokens stretch")


def scenario(name, about, path, body=None, method=None, headers=None, keys=0, pipeline=1, connections=64, tokens=False,
             stretch=1):
    return Scenario(name, about, method or ("POST" if body is not None else "GET"), path, body, headers, keys, pipeline,
                    connections, tokens, stretch)


def chat(question, **more):
    return json.dumps({"model": "sluice-sim", "messages": [{"role": "user", "content": question}], **more})


def numbered(text):
    """JSON with a number where "{n}" stood as a string."""
    return text.replace('"{n}"', "{n}")


SCENARIOS = {s.name: s for s in (
    scenario("plain", "GET, answered by the gateway itself", "/health"),
    scenario("pipelined", "the same, 16 requests in one send; closed loop only", "/health", pipeline=16),
    scenario("post", "POST of a small JSON object, answered by the backend", "/api/requests",
             numbered(json.dumps({"user_id": "{n}", "action": "load-test"}))),
    scenario("compute", "POST that makes the backend count primes below 1,000", "/api/compute", json.dumps({"n": 1000})),
    scenario("chat", "a chat completion of 16 tokens, each another", "/v1/chat/completions",
             chat("Question {n}", max_tokens=16)),
    scenario("chat-cached", "the same, one of 50 questions at temperature 0: the cache answers most",
             "/v1/chat/completions", chat("Question {n}", max_tokens=16, temperature=0), keys=50),
    scenario("stream", "a chat completion of 32 tokens as server-sent events", "/v1/chat/completions",
             chat("Question {n}", max_tokens=32, stream=True), tokens=True, stretch=2),
)}
DEFAULT = ("plain", "post", "chat-cached", "stream")
