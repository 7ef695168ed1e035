"""Stored answers of inference routes, as their clients see them: field by field, in each shape, from either tier."""

import json
import re
import sqlite3
import time

import pytest
from backend import keep_answering
from inference_answers import (CASES, EMBEDDINGS, JSON_FIELDS, RESPONSE, RESPONSE_EVENTS, STREAM_FIELDS, answer, answering,
                               event_stream, of_stream, of_whole, send_events)
from programs import inference_route
from rawhttp import Client, Ended, events, get, post, wait_until
from test_inference import openai  # noqa: F401  pylint: disable=unused-import

WHOLE, STREAM, STREAM_USAGE = {}, {'stream': True}, {'stream': True, 'stream_options': {'include_usage': True}}
SHAPES = {'whole': WHOLE, 'stream': STREAM, 'stream+usage': STREAM_USAGE}
KEY = 'Content-Type: application/json\r\nAuthorization: Bearer one\r\n'


def route(**cache):
    it = inference_route()
    it['inference']['cache'] = cache or True
    return it


def body_of(name, shape=WHOLE, text='Hi', **more):
    path = CASES[name]['path']
    asked = {'prompt': text} if path == '/v1/completions' else {'messages': [{'role': 'user', 'content': text}]}
    return {'model': name, 'temperature': 0, **asked, **shape, **more}


def ask(gateway, body, fields='', path='/v1/chat/completions', key=KEY):
    return post(gateway.address, path, body if isinstance(body, (str, bytes)) else json.dumps(body), key + fields)


def ask_case(gateway, name, shape=WHOLE, text='Hi', fields='', **more):
    return ask(gateway, body_of(name, shape, text, **more), fields, CASES[name]['path'])


def status(response):
    return response.fields['cache-status']


def is_hit(response):
    return status(response).startswith('sluice; hit')


def chunks_of(response):
    found = events(response.body)
    assert found[-1] == b'[DONE]' and b'[DONE]' not in found[:-1]
    return [json.loads(e) for e in found[:-1]]


def read(response):
    """What a client makes of an answer, whatever its shape."""
    if response.fields['content-type'].startswith('text/event-stream'):
        return of_stream(chunks_of(response))
    return of_whole(json.loads(response.body))


# ---- all shapes of all answers

@pytest.fixture(scope='module', params=[1, 2])
def site(request, module_world):
    backend = module_world.backend(answering(piece=37))
    return backend, module_world.gateway([route(tool_calls=True)], endpoints=[backend], workers=request.param)


CAN_SERVE = {('whole', s) for s in SHAPES} | {('stream+usage', s) for s in SHAPES} | {('stream', 'stream')}


@pytest.mark.parametrize('name', CASES)
def test_each_shape_is_served_from_each_and_says_the_same(site, name):
    backend, gateway = site
    for first in SHAPES:
        for second in SHAPES:
            text = f'{first} {second} {gateway.pid}'
            made = ask_case(gateway, name, SHAPES[first], text)
            assert 'fwd=uri-miss' in status(made) and 'stored' in status(made), made
            asked = len(backend.requests)
            given = ask_case(gateway, name, SHAPES[second], text)
            can_serve = (first, second) in CAN_SERVE
            assert len(backend.requests) == asked + (not can_serve), (first, second, given)
            if first == second and 'collapsed' in status(given):  # it is being stored at this moment
                given = wait_until(lambda: (lambda r: is_hit(r) and r)(ask_case(gateway, name, SHAPES[second], text)))
            assert is_hit(given) == can_serve, (first, second, given)
            told = of_whole(CASES[name]['whole'])
            if second == 'stream':
                del told['usage']
            assert read(given) == told, (first, second)
            if first == second:
                assert given.body == made.body
            assert ('detail="converted"' in status(given)) == (can_serve and first != second), given


@pytest.mark.parametrize('name', CASES)
def test_a_stream_without_its_usage_is_the_backends_chunk_by_chunk(site, name):
    _, gateway = site
    ask_case(gateway, name, STREAM_USAGE, 'drop')
    given = ask_case(gateway, name, STREAM, 'drop')
    assert is_hit(given)
    assert chunks_of(given) == [json.loads(e) for e in events(event_stream(CASES[name], False))[:-1]]


@pytest.mark.parametrize('name', CASES)
def test_a_stream_made_of_a_whole_answer_is_formed_as_the_apis_are(site, name):
    _, gateway = site
    whole = CASES[name]['whole']
    ask_case(gateway, name, WHOLE, 'form')
    for shape in (STREAM, STREAM_USAGE):
        given = ask_case(gateway, name, shape, 'form')
        assert is_hit(given)
        chunks = chunks_of(given)
        ended = set()
        for i, chunk in enumerate(chunks):
            assert (chunk['id'], chunk['created'], chunk['model']) == (whole['id'], whole['created'], whole['model'])
            assert chunk['object'] == CASES[name]['chunks'][0]['object']
            assert ('usage' in chunk) == (shape is STREAM_USAGE)
            if shape is STREAM_USAGE and i == len(chunks) - 1:
                assert chunk['choices'] == [] and chunk['usage'] == whole['usage']
                continue
            assert chunk.get('usage') is None and len(chunk['choices']) == 1
            choice = chunk['choices'][0]
            assert choice['index'] not in ended and 'message' not in choice
            if choice['finish_reason'] is not None:
                ended.add(choice['index'])
        assert ended == {c['index'] for c in whole['choices']}
        if chunks[0]['object'] == 'chat.completion.chunk':
            assert chunks[0]['choices'][0]['delta']['role'] == 'assistant'


def test_numbers_and_unknown_members_survive_digit_by_digit(world):
    whole = ('{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
             '"content":"x","odd":{"a":1.10,"b":[1e400,-0.0]}},"finish_reason":"stop","score":12345678901234567890123}],'
             '"usage":{"prompt_tokens":1,"completion_tokens":1,"seconds":0.100},"timings":{"ms":3.140000}}')
    _, gateway = world.in_front_of(keep_answering(lambda p, r: p.answer(whole, fields=JSON_FIELDS)), [route()])
    ask_case(gateway, 'openai')
    stream = ask_case(gateway, 'openai', STREAM_USAGE).body.decode()
    for text in ('{"a":1.10,"b":[1e400,-0.0]}', '"score":12345678901234567890123', '"seconds":0.100', '{"ms":3.140000}'):
        assert stream.count(text) == 1


def test_usage_that_nobody_asked_for_stays_where_the_backend_has_it(world):
    case = {**CASES['llama.cpp'], 'chunks': CASES['llama.cpp']['chunks'][:-1] + [
        {**CASES['llama.cpp']['chunks'][-1], 'usage': CASES['llama.cpp']['whole']['usage'], 'timings': {'predicted_ms': 3.5}}]}

    def tell(peer, request):
        send_events(peer, event_stream(case, b'include_usage' in request.body))
    backend, gateway = world.in_front_of(keep_answering(tell), [route()])
    first, again = (ask_case(gateway, 'llama.cpp', STREAM) for _ in range(2))
    assert is_hit(again) and again.body == first.body
    whole = ask_case(gateway, 'llama.cpp')
    told = read(whole)
    assert is_hit(whole) and told['usage'] == CASES['llama.cpp']['whole']['usage'] and told['timings'] == {'predicted_ms': 3.5}
    asked = ask_case(gateway, 'llama.cpp', STREAM_USAGE)
    assert not is_hit(asked) and chunks_of(asked)[-1]['choices'] == [] and len(backend.requests) == 2


def test_embeddings_and_responses(site):
    backend, gateway = site
    body = {'model': 'm', 'input': ['a', 'b']}
    for _ in range(2):
        given = ask(gateway, body, path='/v1/embeddings')
        assert json.loads(given.body) == EMBEDDINGS
    assert is_hit(given)
    body = {'model': 'm', 'input': 'a', 'store': False, 'temperature': 0}
    asked = len(backend.requests)
    streams = [ask(gateway, {**body, 'stream': True}, path='/v1/responses') for _ in range(2)]
    assert streams[0].body == streams[1].body and is_hit(streams[1])
    assert [json.loads(e) for e in events(streams[1].body)] == RESPONSE_EVENTS
    given = ask(gateway, body, path='/v1/responses')
    assert is_hit(given) and json.loads(given.body) == RESPONSE and len(backend.requests) == asked + 1
    for _ in range(2):  # events cannot be made of a whole one
        ask(gateway, {**body, 'input': 'b'}, path='/v1/responses')
    assert len(backend.requests) == asked + 2
    again = ask(gateway, {**body, 'input': 'b', 'stream': True}, path='/v1/responses')
    assert not is_hit(again) and 'other-shape' in status(again)
    assert is_hit(ask(gateway, {**body, 'input': 'b'}, path='/v1/responses'))


# ---- heads

def test_a_converted_answers_head_is_true_of_it(world):
    fields = ('ETag: "e"\r\nContent-Digest: sha-256=:AA==:\r\nX-Model-Host: gpu-7\r\nX-RateLimit-Remaining-Tokens: 5\r\n'
              'Set-Cookie: a=b\r\nServer: uvicorn\r\nX-Request-Id: theirs\r\n')
    _, gateway = world.in_front_of(answering(fields), [route()])
    ask_case(gateway, 'openai', STREAM_USAGE)
    for shape, is_stream in ((WHOLE, False), (STREAM, True), (STREAM_USAGE, True)):
        given = ask_case(gateway, 'openai', shape)
        assert is_hit(given)
        assert given.fields['content-type'].startswith('text/event-stream' if is_stream else 'application/json')
        assert ('cache-control' in given.fields) == ('x-accel-buffering' in given.fields) == is_stream
        assert ('etag' in given.fields) == ('content-digest' in given.fields) == (shape is STREAM_USAGE)
        assert 'transfer-encoding' not in given.fields and int(given.fields['content-length']) == len(given.body)
        assert given.fields['x-model-host'] == 'gpu-7' and given.fields['server'] == 'uvicorn' and 'age' in given.fields
        assert 'set-cookie' not in given.fields and 'x-ratelimit-remaining-tokens' not in given.fields
        assert given.fields['x-request-id'] != 'theirs' and given.fields['via'] == '1.1 sluice'
    ask_case(gateway, 'openai', WHOLE, 'other')
    for shape in (STREAM, STREAM_USAGE):
        given = ask_case(gateway, 'openai', shape, 'other')
        assert is_hit(given) and 'etag' not in given.fields and given.fields['content-type'].startswith('text/event-stream')
    given = ask_case(gateway, 'openai', WHOLE, 'other')
    assert is_hit(given) and given.fields['etag'] == '"e"' and re.search(r'; ttl=\d+$', status(given))


def test_cors_answers_each_origin_in_its_own_words(world):
    def tell(peer, request):
        origin = request.fields.get('origin')
        answer(peer, request, f'Access-Control-Allow-Origin: {origin}\r\nVary: Origin\r\n' if origin else '')
    backend, gateway = world.in_front_of(keep_answering(tell), [route()])
    for _ in range(2):
        for origin in (None, 'https://a.example', 'https://b.example'):
            given = ask_case(gateway, 'openai', fields=f'Origin: {origin}\r\n' if origin else '')
            assert given.fields.get('access-control-allow-origin') == origin
    assert len(backend.requests) == 3


def test_an_answer_that_varies_beside_the_key_is_not_stored(world):
    cases = [('Accept-Language', {}, False), ('*', {}, False), ('Origin, accept-encoding', {}, True), ('Cookie', {}, False),
             ('Authorization', {}, True), ('Authorization', {'scope': 'shared'}, False),
             ('Accept-Encoding, accept-LANGUAGE', {'key': ['header:Accept-Language']}, True)]
    for vary, cache, is_stored in cases:
        backend, gateway = world.in_front_of(answering(f'Vary: {vary}\r\n'), [route(**cache)])
        first, second = (ask_case(gateway, 'openai', fields='Accept-Language: de\r\n') for _ in range(2))
        assert is_hit(second) == is_stored and ('detail="backend_vary"' in status(first)) != is_stored, vary
        assert len(backend.requests) == 2 - is_stored


# ---- keys

SAME = [
    ('members in another order', lambda b: json.dumps(dict(reversed(list(b.items()))))),
    ('white space', lambda b: json.dumps(b, indent=3)),
    ('escapes', lambda b: json.dumps(b).replace('Hi', '\\u0048\\u0069')),
    ('a float for a whole number', lambda b: json.dumps(b).replace('"temperature": 0', '"temperature": 0.0')),
    ('an exponent', lambda b: json.dumps(b).replace('"temperature": 0', '"temperature": -0e3')),
    ('the user', lambda b: {**b, 'user': 'alice'}),
    ('metadata', lambda b: {**b, 'metadata': {'a': 'b'}, 'store': False}),
    ('stream false', lambda b: {**b, 'stream': False}),
    ('stream null', lambda b: {**b, 'stream': None, 'stream_options': None}),
    ('priority and tier', lambda b: {**b, 'priority': 3, 'service_tier': 'flex', 'safety_identifier': 'x', 'prompt_cache_key': 'y'}),
    ('a ttl', lambda b: {**b, 'cache': {'ttl': 60}}),
]
DIFFERENT = [
    ('model', lambda b: {**b, 'model': 'refusal'}),
    ('messages', lambda b: {**b, 'messages': b['messages'] + [{'role': 'user', 'content': ''}]}),
    ('role', lambda b: {**b, 'messages': [{'role': 'system', 'content': 'Hi'}]}),
    ('a space', lambda b: {**b, 'messages': [{'role': 'user', 'content': 'Hi '}]}),
    ('tools', lambda b: {**b, 'tools': [{'type': 'function', 'function': {'name': 'f'}}]}),
    ('tool_choice', lambda b: {**b, 'tool_choice': 'none'}),
    ('response_format', lambda b: {**b, 'response_format': {'type': 'json_object'}}),
    ('seed', lambda b: {**b, 'seed': 1}),
    ('another seed', lambda b: {**b, 'seed': 12345678901234567890}),
    ('its neighbour', lambda b: {**b, 'seed': 12345678901234567891}),
    ('logit_bias', lambda b: {**b, 'logit_bias': {'5': -100}}),
    ('another bias', lambda b: {**b, 'logit_bias': {'5': -99}}),
    ('n', lambda b: {**b, 'n': 1}),
    ('max_tokens', lambda b: {**b, 'max_tokens': 5}),
    ('max_completion_tokens', lambda b: {**b, 'max_completion_tokens': 5}),
    ('stop', lambda b: {**b, 'stop': ['x']}),
    ('stop order', lambda b: {**b, 'stop': ['x', 'y']}),
    ('the other order', lambda b: {**b, 'stop': ['y', 'x']}),
    ('top_p', lambda b: {**b, 'top_p': 0.5}),
    ('null is not absent', lambda b: {**b, 'top_p': None}),
    ('unknown', lambda b: {**b, 'guided_regex': 'a*'}),
    ('unknown within', lambda b: {**b, 'chat_template_kwargs': {'enable_thinking': False}}),
    ('the user of a message', lambda b: {**b, 'messages': [{'role': 'user', 'content': 'Hi', 'user': 'alice'}]}),
    ('options without a stream', lambda b: {**b, 'stream_options': {'include_usage': True}}),
    ('a namespace', lambda b: {**b, 'cache': {'namespace': 'n'}}),
    ('a string for a number', lambda b: {**b, 'temperature': 0, 'seed': '1'}),
]


@pytest.mark.parametrize('workers', [1, 2])
def test_what_is_the_same_shares_and_what_differs_does_not(world, workers):
    backend, gateway = world.in_front_of(answering(), [route()], workers=workers)
    base = body_of('openai')
    ask(gateway, base)
    for name, change in SAME:
        assert is_hit(ask(gateway, change(base))), name
    assert len(backend.requests) == 1
    for number, (name, change) in enumerate(DIFFERENT):
        given = ask(gateway, change(base))
        assert 'fwd=uri-miss' in status(given) and len(backend.requests) == number + 2, name
    for name, change in DIFFERENT:
        assert is_hit(ask(gateway, change(base))), name
    assert len(backend.requests) == len(DIFFERENT) + 1
    assert not is_hit(ask(gateway, base, path='/v1/chat/completions?api-version=2'))
    for method, target in (('GET', '/v1/chat/completions'), ('HEAD', '/v1/chat/completions')):
        with Client(gateway.address) as client:  # what is stored for POST is no answer to these
            client.send(f'{method} {target} HTTP/1.1\r\nHost: t\r\n{KEY}Content-Length: {len(json.dumps(base))}\r\n\r\n{json.dumps(base)}')
            assert 'hit' not in client.response(method).fields.get('cache-status', '')


@pytest.mark.parametrize('scope', ['tenant', 'shared'])
def test_tenants_share_only_where_the_route_says_so(world, scope):
    backend, gateway = world.in_front_of(answering(), [route(scope=scope)], workers=2)
    tenants = ['', 'Authorization: Bearer a\r\n', 'Authorization: Bearer b\r\n', 'Authorization: bearer a\r\n', 'X-Api-Key: a\r\n',
               'Api-Key: a\r\n', 'Authorization: Bearer a\r\nX-Api-Key: b\r\n', 'Authorization: Bearer a\r\nX-Api-Key: c\r\n',
               'Authorization: Bearer a\r\nOpenAI-Organization: o\r\n', 'Cookie: session=1\r\n', 'Cookie: session=2\r\n']
    for round_ in range(2):
        for fields in tenants:
            given = ask(gateway, body_of('openai'), key='Content-Type: application/json\r\n' + fields)
            expected = round_ == 1 or (scope == 'shared' and fields != '')
            assert is_hit(given) == expected, fields
    assert len(backend.requests) == (1 if scope == 'shared' else len(tenants))


def test_a_key_template_and_bypass_rules(world):
    rules = route(key=['header:X-Adapter', 'cookie:plan'], bypass=['header:X-Fresh', 'query:fresh'])
    backend, gateway = world.in_front_of(answering(), [rules])
    heads = ['', 'X-Adapter: a\r\n', 'X-Adapter:\r\n', 'X-Adapter: b\r\n', 'X-Adapter: a\r\nX-Adapter: b\r\n', 'Cookie: plan=pro\r\n']
    for expected in (False, True):
        for fields in heads:
            assert is_hit(ask_case(gateway, 'openai', fields=fields)) == expected, fields
    assert is_hit(ask_case(gateway, 'openai', fields='X-Fresh: 0\r\nCookie: other=1\r\n'))
    asked = len(backend.requests)
    for fields, path in (('X-Fresh: 1\r\n', ''), ('', '?fresh=yes'), ('Content-Encoding: gzip\r\n', '')):
        for _ in range(2):
            given = ask(gateway, body_of('openai'), fields, '/v1/chat/completions' + path)
            assert 'fwd=bypass' in status(given) and 'detail=' in status(given), status(given)
    assert len(backend.requests) == asked + 6


# ---- what is not stored, and why

def judged(gateway, name):
    """The counter of one reason."""
    return gateway.metrics().value('sluice_cache_not_stored_total', reason=name)


@pytest.mark.parametrize('more,why', [
    ({'temperature': 0.7}, 'sampled'), ({'temperature': None}, 'sampled'), ({'temperature': 1, 'n': 3}, 'sampled'),
    ({'temperature': 1, 'seed': -1}, 'sampled'), ({'temperature': '0'}, 'sampled'), ({'temperature': 1e-9}, 'sampled'),
    ({'store': True}, 'store_requested'), ({'cache': {'no-store': True}}, 'no_store'), ({'stream': 1}, 'odd_member'),
    ({'web_search_options': {}}, 'server_tools'), ({'cache': {'ttl': 0}}, 'no_ttl'),
])
def test_requests_that_are_not_stored_say_why(world, more, why):
    backend, gateway = world.in_front_of(answering(), [route()])
    for number in (1, 2):
        given = ask_case(gateway, 'openai', **more)
        assert given.status == 200 and not is_hit(given) and 'stored' not in status(given).replace('store_', '')
        assert f'detail="{why}"' in status(given), given
        assert len(backend.requests) == number
        wait_until(lambda: judged(gateway, why) == number)  # pylint: disable=cell-var-from-loop


def test_bodies_that_are_no_requests_pass(world):
    backend, gateway = world.in_front_of(keep_answering(lambda p, r: p.answer('{}', '400 Bad Request', JSON_FIELDS)), [route()])
    deep = '[' * 3000 + ']' * 3000
    bodies = ['', '[]', '{', '{"a":1}x', '{"model":"m","model":"n","temperature":0}', f'{{"temperature":0,"a":{deep}}}',
              '{"temperature":0,"a":"\ud800"}'.encode('utf-8', 'surrogatepass'), b'\xff', '\ufeff{"temperature":0}', '{"temperature":00}',
              '{"temperature":0,"cache":{"ttl":9223372036854775807,"s-maxage":9223372036854775807}}']
    for body in bodies:
        given = ask(gateway, body)
        assert given.status == 400 and 'detail=' in status(given), body
    assert [r.body for r in backend.requests] == [b.encode() if isinstance(b, str) else b for b in bodies]


def raw(body, status_line='200 OK', fields=JSON_FIELDS):
    return lambda peer, request: peer.answer(body, status_line, fields)


def streamed(text, fields=STREAM_FIELDS):
    return lambda peer, request: send_events(peer, text, fields=fields)


GOOD = event_stream(CASES['openai'], True)
CHUNK = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
NOT_STORED = {
    'an error': (raw('{"error":{"message":"no"}}', '500 Internal Server Error'), 'status'),
    'too many requests': (raw('{"error":{"message":"no"}}', '429 Too Many Requests', JSON_FIELDS + 'Retry-After: 1\r\n'), 'status'),
    'credentials refused': (raw('{}', '401 Unauthorized'), 'status'),
    'accepted': (raw(json.dumps(CASES['openai']['whole']), '202 Accepted'), 'status'),
    'an error in a 200': (raw('{"error":{"message":"no"}}'), 'error_in_body'),
    'html': (raw('<html>', fields='Content-Type: text/html\r\n'), 'content_type'),
    'coded': (raw('x', fields=JSON_FIELDS + 'Content-Encoding: gzip\r\n'), 'content_type'),
    'no finish reason': (raw('{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":null}]}'), 'truncated'),
    'no choices': (raw('{"choices":[]}'), 'truncated'),
    'filtered': (raw('{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"content_filter"}]}'), 'finished_badly'),
    'half of a json': (raw(json.dumps(CASES['openai']['whole'])[:-1]), 'malformed'),
    'tool calls': (raw(json.dumps(CASES['tools']['whole'])), 'tool_calls'),
    'no-store': (raw(json.dumps(CASES['openai']['whole']), fields=JSON_FIELDS + 'Cache-Control: no-store\r\n'), 'backend_no_store'),
    'a stream without its end': (streamed(GOOD[:-len(b'data: [DONE]\n\n')]), 'no_end'),
    'a stream whose end is cut': (streamed(GOOD[:-1]), 'no_end'),
    'a stream without a finish reason': (streamed(CHUNK + b'data: [DONE]\n\n'), 'truncated'),
    'a stream with an error': (streamed(CHUNK + b'data: {"error":{"message":"oom"}}\n\ndata: [DONE]\n\n'), 'error_in_body'),
    'a stream with an error event': (streamed(CHUNK + b'event: error\ndata: {"message":"oom"}\n\n'), 'error_in_body'),
    'a stream that goes on behind its end': (streamed(GOOD + CHUNK), 'malformed'),
    'a stream of rubbish': (streamed(b'data: {"choices":[{"index":0,\n\ndata: [DONE]\n\n'), 'malformed'),
    'tool calls in a stream': (streamed(event_stream(CASES['tools'], True)), 'tool_calls'),
}


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('name', NOT_STORED)
def test_answers_that_are_not_stored_are_counted_by_their_reason(world, name, workers):
    tell, why = NOT_STORED[name]
    backend, gateway = world.in_front_of(keep_answering(tell), [route()], workers=workers)
    shape = STREAM_USAGE if 'stream' in name else WHOLE
    for number in (1, 2):
        given = ask_case(gateway, 'openai', shape)
        assert not is_hit(given)
        wait_until(lambda: judged(gateway, why) == number, what=why)  # pylint: disable=cell-var-from-loop
        assert len(backend.requests) == number
    if name in ('an error', 'html', 'coded', 'no-store', 'accepted'):
        assert f'detail="{why}"' in status(given) and '; stored' not in status(given)


@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('framing', ['length', 'chunked', 'close'])
def test_an_answer_that_breaks_off_is_not_stored(world, shape, framing):
    text = json.dumps(CASES['openai']['whole']).encode() if shape == 'whole' else event_stream(CASES['openai'], shape != 'stream')
    head = JSON_FIELDS if shape == 'whole' else STREAM_FIELDS
    fail = [True]

    def tell(peer):
        request = peer.request()
        if request is None:
            return
        if fail[0]:
            cut = text[:len(text) * 2 // 3]
            if framing == 'length':
                peer.send(f'HTTP/1.1 200 OK\r\n{head}Content-Length: {len(text)}\r\n\r\n'.encode() + cut)
            elif framing == 'chunked':
                peer.send(f'HTTP/1.1 200 OK\r\n{head}Transfer-Encoding: chunked\r\n\r\n{len(cut):x}\r\n'.encode() + cut + b'\r\n')
            else:
                peer.send(f'HTTP/1.1 200 OK\r\n{head}Connection: close\r\n\r\n'.encode() + cut)
        else:
            answer(peer, request)
    backend, gateway = world.in_front_of(tell, [route()])
    for number in (1, 2):
        try:
            given = ask_case(gateway, 'openai', SHAPES[shape])
            assert not is_hit(given) and (given.status != 200 or framing == 'close')
        except (Ended, AssertionError) as e:
            assert isinstance(e, Ended), e
        assert len(backend.requests) == number
    fail[0] = False
    assert read(ask_case(gateway, 'openai', SHAPES[shape]))['choices'] == of_whole(CASES['openai']['whole'])['choices']
    assert is_hit(ask_case(gateway, 'openai', SHAPES[shape]))


@pytest.mark.parametrize('framing', ['length', 'chunked'])
def test_what_is_too_large_passes(world, framing):
    whole = dict(CASES['openai']['whole'], padding='x' * 300_000)

    def tell(peer, request):
        if framing == 'length':
            peer.answer(json.dumps(whole), fields=JSON_FIELDS)
        else:
            send_events(peer, json.dumps(whole).encode(), 16000, JSON_FIELDS)
    backend, gateway = world.in_front_of(keep_answering(tell), [route()], cache={'memory': '64MB', 'object_bytes_max': 100_000})
    for number in (1, 2):
        given = ask_case(gateway, 'openai')
        assert json.loads(given.body) == whole and not is_hit(given) and len(backend.requests) == number
        wait_until(lambda: judged(gateway, 'too-large') == number)  # pylint: disable=cell-var-from-loop
    assert framing == 'chunked' or 'detail="too-large"' in status(given)


def test_private_answers_are_kept_for_a_tenant_but_not_for_all(world):
    for scope, kept in (('tenant', True), ('shared', False)):
        _, gateway = world.in_front_of(answering('Cache-Control: private\r\n'), [route(scope=scope)])
        first, second = (ask_case(gateway, 'openai') for _ in range(2))
        assert is_hit(second) == kept and ('detail="backend_private"' in status(first)) != kept


def test_tool_calls_and_samples_are_stored_where_the_route_says_so(world):
    backend, gateway = world.in_front_of(answering(), [route(tool_calls=True, sampled=True)])
    for name, more in (('tools', {}), ('function', {}), ('openai', {'temperature': 1}), ('several', {'temperature': 1, 'n': 3})):
        assert [is_hit(ask_case(gateway, name, **more)) for _ in range(2)] == [False, True]
    assert len(backend.requests) == 4


# ---- what the client asks of the cache

@pytest.mark.parametrize('workers', [1, 2])
def test_a_clients_cache_control_counts(world, workers):
    backend, gateway = world.in_front_of(answering(), [route()], workers=workers)

    def given(fields='', text='Hi', **more):
        response = ask_case(gateway, 'openai', WHOLE, text, fields, **more)
        return response.fields.get('cache-status'), response.status, len(backend.requests)

    said, code, asked = given('Cache-Control: only-if-cached\r\n')
    assert code == 504 and asked == 0
    said, code, asked = given('Cache-Control: only-if-cached\r\n', temperature=1)
    assert code == 504 and asked == 0, 'not either when it would not be stored'
    said, _, asked = given('Cache-Control: no-store\r\n')
    assert 'fwd=bypass' in said and 'detail="no_store"' in said and 'stored' not in said and asked == 1
    said, _, asked = given()
    assert 'fwd=uri-miss' in said and '; stored' in said and asked == 2
    # What was given to the client a moment ago may still be on its way to the shard's owner.
    wait_until(lambda: '; hit' in given('Cache-Control: only-if-cached\r\n')[0])
    said, _, asked = given('Cache-Control: no-store\r\n')
    assert '; hit' in said and asked == 2
    for fields in ('Cache-Control: no-cache\r\n', 'Pragma: no-cache\r\n', 'Cache-Control: max-age=0\r\n',
                   'Cache-Control: min-fresh=999999999\r\n'):
        before = asked
        said, _, asked = given(fields)
        assert 'fwd=request' in said and '; stored' in said and asked == before + 1, said
    said, _, asked = given(cache={'no-cache': True})
    assert 'fwd=request' in said and asked == before + 2
    for fields in ('', 'Cache-Control: max-age=60\r\n', 'Cache-Control: only-if-cached\r\n'):
        assert '; hit' in given(fields)[0]
    assert '; hit' in given(cache={'s-maxage': 9223372036854775807})[0]
    time.sleep(1.1)
    assert 'fwd=request' in given(cache={'s-maxage': 1})[0]
    wait_until(lambda: '; hit' in given(cache={'s-maxage': 1})[0])


def test_answers_go_when_their_time_is_over(world):
    backend, gateway = world.in_front_of(answering(), [route(ttl_ms=1500)])
    ask_case(gateway, 'openai')
    given = ask_case(gateway, 'openai', cache={'ttl': 100_000})
    assert is_hit(given) and int(re.search(r'ttl=(\d+)', status(given))[1]) <= 1
    ask_case(gateway, 'openai', WHOLE, 'long', cache={'ttl': 100_000})
    ask_case(gateway, 'openai', WHOLE, 'short', cache={'ttl': 1})
    time.sleep(1.1)
    assert not is_hit(ask_case(gateway, 'openai', WHOLE, 'short'))
    time.sleep(0.6)
    assert not is_hit(ask_case(gateway, 'openai')) and not is_hit(ask_case(gateway, 'openai', WHOLE, 'long'))
    assert len(backend.requests) == 6


def test_with_no_time_at_all_only_requests_under_way_are_shared(world):
    _, gateway = world.in_front_of(answering(), [route(ttl_ms=0)])
    for more in ({}, {'cache': {'ttl': 60}}):
        given = ask_case(gateway, 'openai', **more)
        assert 'detail="no_ttl"' in status(given) and 'stored' not in status(given)
    assert not is_hit(ask_case(gateway, 'openai'))


def test_what_must_not_be_stored_is_not_shared_while_it_comes(world):
    def tell(peer, request):
        time.sleep(0.3)
        answer(peer, request, 'Cache-Control: no-store\r\n')
    backend, gateway = world.in_front_of(keep_answering(tell), [route()], workers=2)
    clients = [Client(gateway.address) for _ in range(4)]
    body = json.dumps(body_of('openai'))
    for client in clients:
        client.send(f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n{KEY}Content-Length: {len(body)}\r\n\r\n{body}')
    assert all(client.response('POST').status == 200 for client in clients)
    assert len(backend.requests) == 4
    for client in clients:
        client.close()


# ---- clients that leave, and that read slowly

LARGE = {'id': 'c', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'usage': {'prompt_tokens': 1, 'completion_tokens': 1},
         'choices': [{'index': 0, 'finish_reason': 'stop',
                      'message': {'role': 'assistant', 'content': 'lorem ipsum \u00fc ' * 100_000}}]}


def large(peer, request):
    """Ten thousand events, or the same in one."""
    if b'"stream"' not in request.body:
        peer.answer(json.dumps(LARGE), fields=JSON_FIELDS)
        return
    head = {'id': 'c', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'm'}
    chunks = [{**head, 'choices': [{'index': 0, 'delta': {'role': 'assistant', 'content': 'lorem ipsum \u00fc ' * 10}, 'finish_reason': None}]}] * 10_000
    chunks.append({**head, 'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})
    send_events(peer, event_stream({'chunks': chunks, 'whole': LARGE}, True), 100_000)


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('first', ['whole', 'stream+usage'])
@pytest.mark.parametrize('second', ['whole', 'stream+usage'])
def test_clients_may_leave_a_replay_or_read_it_slowly(world, first, second, workers):
    backend, gateway = world.in_front_of(keep_answering(large), [route()], workers=workers, cache={'memory': '64MB'})
    ask_case(gateway, 'openai', SHAPES[first])
    whole = wait_until(lambda: (lambda r: is_hit(r) and r)(ask_case(gateway, 'openai', SHAPES[second])), seconds=20)
    body = json.dumps(body_of('openai', SHAPES[second]))
    request = f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n{KEY}Content-Length: {len(body)}\r\n\r\n{body}'
    for how in ('reset', 'close', 'half'):
        client = Client(gateway.address, receive_buffer=4096)
        client.send(request)
        client.head()
        client.need(5000)
        if how == 'reset':
            client.reset()
        elif how == 'half':
            client.half_close()
        client.close()
    slow = Client(gateway.address, receive_buffer=4096)
    slow.send(request)
    head = slow.head()
    for _ in range(3):
        time.sleep(0.1)
        assert is_hit(ask_case(gateway, 'openai', SHAPES[second])), 'nobody waits for the slow one'
    assert slow.body_of(head, 'POST').body == whole.body
    slow.send(request)
    assert slow.response('POST').body == whole.body
    slow.close()
    assert read(whole)['choices'] == of_whole(LARGE)['choices']
    wait_until(lambda: gateway.metrics().value('sluice_active_requests') == 0)
    assert len(backend.requests) == 1


@pytest.mark.parametrize('workers', [1, 2])
def test_who_leaves_while_an_answer_is_made_takes_it_along_unless_others_read_it(world, workers):
    go_on = []

    def tell(peer, request):
        case = CASES['openai']
        text = event_stream(case, True)
        peer.send(f'HTTP/1.1 200 OK\r\n{STREAM_FIELDS}Transfer-Encoding: chunked\r\n\r\n64\r\n'.encode() + text[:100] + b'\r\n')
        wait_until(lambda: go_on or peer.how, 15)
        peer.send(b'%x\r\n%s\r\n0\r\n\r\n' % (len(text) - 100, text[100:]))
    backend, gateway = world.in_front_of(keep_answering(tell), [route()], workers=workers)
    body = json.dumps(body_of('openai', STREAM_USAGE))
    request = f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n{KEY}Content-Length: {len(body)}\r\n\r\n{body}'
    leader = Client(gateway.address)
    leader.send(request)
    leader.head()
    joined = Client(gateway.address)
    joined.send(request)
    head = joined.head()
    assert 'collapsed' in status(head)
    leader.reset()
    time.sleep(0.1)
    go_on.append(True)
    assert read(joined.body_of(head, 'POST')) == of_whole(CASES['openai']['whole'])
    joined.close()
    assert len(backend.requests) == 1
    assert is_hit(wait_until(lambda: (lambda r: is_hit(r) and r)(ask_case(gateway, 'openai'))))
    go_on.clear()
    alone = Client(gateway.address)
    alone.send(request.replace('Bearer one', 'Bearer two'))
    alone.head()
    alone.reset()
    wait_until(lambda: gateway.metrics().value('sluice_active_requests') == 0)
    wait_until(lambda: judged(gateway, 'failed') == 1)
    go_on.append(True)
    given = ask(gateway, body_of('openai'), key=KEY.replace('one', 'two'))
    assert not is_hit(given) and len(backend.requests) == 3


# ---- the second tier

def on_disk(world, backend, path, **more):
    gateway = world.gateway([{**route(tool_calls=True), 'name': 'models'}], endpoints=[backend],
                            cache={'memory': '64MB', 'database': path, 'database_cost_min_ms': 0, 'warm_start_percent': 0}, **more)
    ready(gateway)
    return gateway


def tier(gateway):
    return json.loads(get(gateway.admin, '/api/cache/stats').body)['second_tier']


def ready(gateway):
    wait_until(lambda: tier(gateway)['state'] == 'ready', 10)


def records(gateway):
    return tier(gateway)['records']


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('first', SHAPES)
def test_what_is_on_disk_serves_each_shape_it_can(world, tmp_path, first, workers):
    backend = world.backend(answering('ETag: "e"\r\nX-Model-Host: gpu-7\r\n'))
    path = str(tmp_path / 'cache.db')
    gateway = on_disk(world, backend, path, workers=workers)
    for name in CASES:
        ask_case(gateway, name, SHAPES[first])
    wait_until(lambda: records(gateway) == len(CASES))
    for second in sorted(SHAPES, key=lambda s: (first, s) not in CAN_SERVE):
        gateway.stop()
        gateway = on_disk(world, backend, path, workers=workers)
        asked = len(backend.requests)
        for name in CASES:
            given = ask_case(gateway, name, SHAPES[second])
            told = of_whole(CASES[name]['whole'])
            if second == 'stream':
                del told['usage']
            assert read(given) == told
            is_stream = second != 'whole'
            assert given.fields['content-type'].startswith('text/event-stream' if is_stream else 'application/json')
            if (first, second) not in CAN_SERVE:
                assert not is_hit(given)
                return  # it replaces what is there
            assert is_hit(given) and 'second-tier' in status(given), (name, second, status(given), tier(gateway))
            assert given.fields['x-model-host'] == 'gpu-7'
            assert ('x-accel-buffering' in given.fields) == (is_stream and first != 'whole')
            assert ('etag' in given.fields) == (first == second) and int(given.fields['content-length']) == len(given.body)
            again = wait_until(lambda n=name, s=second: (lambda r: 'second-tier' not in status(r) and r)(
                ask_case(gateway, n, SHAPES[s])))
            assert is_hit(again) and again.body == given.body
        assert len(backend.requests) == asked


def change(path, what):
    database = sqlite3.connect(path)
    database.execute(f'UPDATE cache_content SET {what}')
    database.commit()
    database.close()


@pytest.mark.parametrize('warm', [0, 50])
@pytest.mark.parametrize('shape', SHAPES)
@pytest.mark.parametrize('what', [
    "body = CAST(replace(CAST(body AS TEXT), 'Hello', 'Hallo') AS BLOB)", 'body = substr(body, 1, length(body) - 1)', "body = x''",
    "head = CAST(substr(head, 1, length(head) - 1) AS BLOB)", "head = x''", "head = zeroblob(length(head))",
    "head = CAST(substr(head, 1, length(head) - 9) || x'0a00' || substr(head, length(head) - 6) AS BLOB)"])
def test_a_damaged_record_is_fetched_anew(world, tmp_path, what, shape, warm):
    backend = world.backend(answering())
    path = str(tmp_path / 'cache.db')
    gateway = on_disk(world, backend, path)
    ask_case(gateway, 'openai', STREAM_USAGE)
    wait_until(lambda: records(gateway) == 1)
    gateway.stop()
    change(path, what)
    gateway = world.gateway([{**route(), 'name': 'models'}], endpoints=[backend], cache={
        'memory': '64MB', 'database': path, 'database_cost_min_ms': 0, 'warm_start_percent': warm})
    ready(gateway)
    if warm:
        gateway.wait_line('the cache has 0 answers')
    given = ask_case(gateway, 'openai', SHAPES[shape])
    assert not is_hit(given) and read(given)['choices'] == of_whole(CASES['openai']['whole'])['choices']
    assert is_hit(wait_until(lambda: (lambda r: is_hit(r) and r)(ask_case(gateway, 'openai', SHAPES[shape]))))
    assert len(backend.requests) == 2


# ---- through the clients that people use

def calls_of(name, shape, text):
    do = 'completion' if CASES[name]['path'] == '/v1/completions' else 'chat'
    return {'do': do, 'params': body_of(name, shape, text)}


def values(results):
    assert all('value' in r for r in results), results
    return [r['value'] for r in results]


@pytest.mark.parametrize('workers', [1, 2])
def test_openai_clients_see_no_difference(world, openai, workers):
    backend, gateway = world.in_front_of(answering(), [route(tool_calls=True)], workers=workers)
    rows = [(name, *pair) for name in CASES for pair in sorted(CAN_SERVE)]
    calls = [calls_of(name, SHAPES[shape], f'{first} {second}') for name, first, second in rows for shape in (first, second)]
    direct = values(openai(f'http://{backend.address}/v1', *calls))
    through = values(openai(f'{gateway.url}/v1', *calls))
    assert len(backend.requests) == len(calls) + len(rows)
    for (name, first, second), told, given in zip(rows, direct[1::2], through[1::2]):
        if first == 'whole' and second != 'whole':  # equal in content, not in chunks
            told, given = of_stream(told), of_stream(given)
        assert given == told, (name, first, second)


@pytest.mark.parametrize('workers', [1, 2])
def test_openai_clients_see_no_difference_from_the_simulator(world, openai, workers):
    sim = world.sim('--time-scale', '50')
    gateway = world.gateway([route()], endpoints=[sim.address], workers=workers)

    def ask_for(first, second):
        base = {'model': 'sluice-sim', 'temperature': 0, 'max_tokens': 12, 'n': 2}
        text = f'{first} to {second}'
        return [call for shape in (first, second) for call in (
            {'do': 'chat', 'params': {**base, 'messages': [{'role': 'user', 'content': text}], **SHAPES[shape]}},
            {'do': 'completion', 'params': {**base, 'prompt': text, **SHAPES[shape]}})]
    pairs = sorted(CAN_SERVE)
    calls = [call for pair in pairs for call in ask_for(*pair)]
    through = values(openai(f'{gateway.url}/v1', *calls))
    assert sim.metrics().value('sim_engine_finished_total') == len(calls) / 2 * 2, 'of each two choices'
    direct = values(openai(f'{sim.url}/v1', *calls))

    def known(whole):
        """Without what differs from run to run."""
        return {k: v for k, v in whole.items() if k not in ('id', 'created')}
    for number, (told, given) in enumerate(zip(direct, through)):
        first, second = pairs[number // 4]
        if isinstance(told, dict):
            assert known(given) == known(told), (first, second)
        assert of_mixed(given) == of_mixed(told), (first, second)
        assert len({chunk['id'] for chunk in (given if isinstance(given, list) else [given])}) == 1
        if number % 4 >= 2:  # both tell of one answer
            assert ids(given) == ids(through[number - 2])


def ids(value):
    return {(c['id'], c['created'], c['model']) for c in (value if isinstance(value, list) else [value])}


def of_mixed(value):
    """What a client makes of an answer but for its id and time."""
    made = of_stream(value) if isinstance(value, list) else of_whole(value)
    return {k: v for k, v in made.items() if k not in ('id', 'created')}


def test_openai_clients_accumulate_a_replay_as_the_original(world, openai):
    backend, gateway = world.in_front_of(answering(), [route(tool_calls=True)])
    names = [n for n in CASES if CASES[n]['path'] == '/v1/chat/completions' and n not in ('several', 'function')]

    def accumulate(text, first):
        return [call for name in names for call in (
            calls_of(name, SHAPES[first], text), {'do': 'accumulate', 'params': body_of(name, STREAM_USAGE, text)})]
    for first in ('whole', 'stream+usage'):
        calls = accumulate(first, first)
        direct = values(openai(f'http://{backend.address}/v1', *calls))
        asked = len(backend.requests)
        through = values(openai(f'{gateway.url}/v1', *calls))
        assert len(backend.requests) == asked + len(names)
        for name, told, given in zip(names, direct[1::2], through[1::2]):
            if first == 'whole':
                if name in ('vllm', 'router', 'azure'):
                    continue  # of members it does not know, the package keeps the last piece
                told, given = of_whole(told), of_whole(given)
                told.pop('obfuscation', None)
            assert given == told, (first, name)


def test_openai_clients_read_responses_and_embeddings(world, openai):
    backend, gateway = world.in_front_of(answering(), [route()])
    params = {'model': 'm', 'input': 'a', 'store': False, 'temperature': 0}
    calls = [{'do': 'responses', 'params': {**params, 'stream': True}}, {'do': 'responses', 'params': params},
             {'do': 'embeddings', 'params': {'model': 'm', 'input': ['a', 'b'], 'encoding_format': 'float'}}]
    direct = values(openai(f'http://{backend.address}/v1', *calls))
    first = values(openai(f'{gateway.url}/v1', *calls))
    again = values(openai(f'{gateway.url}/v1', *calls))
    assert direct == first == again and len(backend.requests) == 3 + 2


# ---- ways of asking

def test_hits_come_however_the_request_is_framed(world):
    backend, gateway = world.in_front_of(answering(), [route()])
    text = json.dumps(body_of('openai', STREAM_USAGE))
    ask(gateway, text)
    head = f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n{KEY}'
    with Client(gateway.address) as client:
        for more, body in ((f'Content-Length: {len(text)}\r\n', text), ('Transfer-Encoding: chunked\r\n', f'{len(text):x}\r\n{text}\r\n0\r\n\r\n'),
                           ('Transfer-Encoding: chunked\r\n', ''.join(f'1\r\n{c}\r\n' for c in text) + '0\r\n\r\n')):
            client.send(head + more + '\r\n' + body)
            assert is_hit(client.response('POST'))
        client.send(head + f'Expect: 100-continue\r\nContent-Length: {len(text)}\r\n\r\n')
        client.send_slowly(text, 50)
        assert is_hit(client.response('POST'))
        whole = json.dumps(body_of('openai'))
        client.send((head + f'Content-Length: {len(text)}\r\n\r\n{text}' + head + f'Content-Length: {len(whole)}\r\n\r\n{whole}') * 3)
        for _ in range(3):
            stream, json_ = client.response('POST'), client.response('POST')
            assert is_hit(stream) and is_hit(json_) and read(stream) == read(json_)
    for shape in SHAPES:
        with Client(gateway.address) as client:
            text = json.dumps(body_of('openai', SHAPES[shape]))
            client.send(f'POST /chat/completions HTTP/1.0\r\n{KEY}Content-Length: {len(text)}\r\n\r\n{text}')
            given = client.response('POST')
            assert is_hit(given) and client.end() == 'fin', 'the path without /v1 is the same'
    assert len(backend.requests) == 1


@pytest.mark.parametrize('workers', [1, 2])
@pytest.mark.parametrize('shape', SHAPES)
def test_the_same_at_once_costs_one_generation(world, shape, workers):
    def tell(peer, request):
        time.sleep(0.3)
        answer(peer, request)
    backend, gateway = world.in_front_of(keep_answering(tell), [route(coalesce_sampled=True)], workers=workers)
    plain = world.gateway([route()], endpoints=[backend], workers=workers)
    for where, more, count in ((gateway, {}, 1), (gateway, {'temperature': 1}, 1), (plain, {}, 1), (plain, {'temperature': 1}, 20)):
        before = len(backend.requests)
        body = json.dumps(body_of('openai', SHAPES[shape], **more))
        clients = [Client(where.address) for _ in range(20)]
        for client in clients:
            client.send(f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\n{KEY}Content-Length: {len(body)}\r\n\r\n{body}')
        answers = [client.response('POST') for client in clients]
        for client in clients:
            client.close()
        assert len({a.body for a in answers}) == 1 and len(backend.requests) == before + count
        if more:
            assert all('"sampled"' in status(a) or 'collapsed' in status(a) for a in answers)
            assert not any(is_hit(a) or '; stored' in status(a) for a in answers + [ask(where, body)])
