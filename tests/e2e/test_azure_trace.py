"""Requests of a production trace, in scaled time, through the gateway: every answer is what the backend sent.

The simulated model's answer depends on the prompt alone, so the same request sent to it directly says what the gateway
should have passed on: the text, the usage, and for a stream each event in its order."""

import csv
import datetime
import json
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from programs import SANITIZED, inference_route
from rawhttp import events, post

HERE = os.path.dirname(os.path.abspath(__file__))
SAMPLE = os.path.join(HERE, 'data', 'azure2023_conversation_sample.csv')
SPEED = 10 if not SANITIZED else 5
ENGINE_SPEED = 40
ROWS_MAX = 2000
AT_ONCE_MAX = 64


def trace():
    rows = []
    with open(os.environ.get('SLUICE_AZURE_TRACE', SAMPLE), encoding='ascii', newline='') as f:
        for row in csv.DictReader(f):
            at = datetime.datetime.fromisoformat(row['TIMESTAMP'][:26])
            rows.append((at, int(row['ContextTokens']), int(row['GeneratedTokens'])))
            if len(rows) == ROWS_MAX:
                break
    start = rows[0][0]
    return [((at - start).total_seconds() / SPEED, context, generated) for at, context, generated in rows]


def request_of(index, context, generated):
    """Every fifth is a whole answer, every seventh a text completion, the others are streamed chats."""
    rng = random.Random(index)
    words = ' '.join(rng.choice(('alpha', 'be', 'cat', 'delta', 'é', '"quoted"', 'new\nline')) for _ in range(40))
    text = (words * (context * 4 // len(words.encode()) + 1)).encode()[:max(1, (context - 7) * 4)].decode('utf-8', 'ignore')
    body = {'model': 'sluice-sim', 'max_tokens': max(1, generated), 'stream': index % 5 != 0}
    if body['stream'] and index % 2:
        body['stream_options'] = {'include_usage': True}
    if index % 7 == 0:
        return '/v1/completions', json.dumps({**body, 'prompt': text})
    return '/v1/chat/completions', json.dumps({**body, 'messages': [{'role': 'user', 'content': text}]})


def plain(value):
    return {k: v for k, v in value.items() if k not in ('id', 'created')}


def ask(address, path, body):
    response = post(address, path, body, 'Content-Type: application/json\r\n', timeout=60)
    assert response.status == 200, response
    if response.fields['content-type'].startswith('text/event-stream'):
        found = events(response.body)
        assert found[-1] == b'[DONE]' and found.count(b'[DONE]') == 1
        return [plain(json.loads(event)) for event in found[:-1]]
    return plain(json.loads(response.body))


@pytest.mark.parametrize('workers', [1, 2])
def test_every_answer_of_a_replayed_trace_is_what_the_backend_sent(world, workers):
    rows = trace()
    if workers == 2:
        rows = rows[:len(rows) // 3]
    sim = world.sim('--time-scale', str(ENGINE_SPEED))
    gateway = world.gateway([inference_route()], endpoints=[sim.address], workers=workers)
    requests = [request_of(i, context, generated) for i, (_, context, generated) in enumerate(rows)]
    start = time.monotonic()

    def replay(i):
        time.sleep(max(0, start + rows[i][0] - time.monotonic()))
        return ask(gateway.address, *requests[i])
    with ThreadPoolExecutor(AT_ONCE_MAX) as pool:
        through = list(pool.map(replay, range(len(rows))))
        seconds = time.monotonic() - start
        direct = list(pool.map(lambda request: ask(sim.address, *request), requests))
    streamed = sum(isinstance(answer, list) for answer in through)
    print(f'{len(rows)} requests ({streamed} streams) in {seconds:.1f} s')
    for i, (got, expected) in enumerate(zip(through, direct)):
        assert got == expected, f'request {i}'
    metrics = gateway.metrics()
    assert metrics.value('http_requests_total', status='200') == len(rows)
    assert metrics.value('sluice_endpoint_in_flight') == 0
