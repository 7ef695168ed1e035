"""OpenAI-compatible routes, through the clients that people use."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest
from backend import OK, keep_answering
from programs import SANITIZED, inference_route
from rawhttp import Client, events, get, post, wait_until

HERE = os.path.dirname(os.path.abspath(__file__))
SIM_OPTIONS = ('--time-scale', '20')


def node_has_openai():
    if not shutil.which('node'):
        return False
    return subprocess.run(['node', '-e', 'require("openai")'], stderr=subprocess.DEVNULL, check=False).returncode == 0


CLIENTS = {}
if importlib.util.find_spec('openai'):
    CLIENTS['python'] = [sys.executable, os.path.join(HERE, 'openai_client.py')]
if node_has_openai():
    CLIENTS['node'] = ['node', os.path.join(HERE, 'openai_client.cjs')]


@pytest.fixture(scope='module')
def sim(module_world):
    return module_world.sim(*SIM_OPTIONS)


@pytest.fixture(scope='module')
def gateway(module_world, sim):
    return module_world.gateway([inference_route()], endpoints=[sim.address])


@pytest.fixture(params=CLIENTS or [pytest.param(None, marks=pytest.mark.skip('no openai client is installed'))])
def openai(request):
    def ask(url, *calls, max_retries=0):
        done = subprocess.run(CLIENTS[request.param], input=json.dumps({
            'base_url': url, 'calls': calls, 'max_retries': max_retries}), capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return ask


def messages(text):
    return [{'role': 'user', 'content': text}]


def chat(text, **more):
    return {'do': 'chat', 'params': {'model': 'sluice-sim', 'messages': messages(text), **more}}


# ---- the SDK

@pytest.mark.parametrize('base', ['/v1', ''])
def test_an_openai_client_chats_streams_completes_embeds_and_lists(gateway, sim, openai, base):
    calls = [chat('Hello'), chat('Hello', stream=True), chat('Hello', stream=True, stream_options={'include_usage': True}),
             {'do': 'completion', 'params': {'model': 'sluice-sim', 'prompt': 'Once upon', 'max_tokens': 20}},
             {'do': 'embeddings', 'params': {'model': 'sluice-sim', 'input': ['one', 'two'], 'encoding_format': 'float'}},
             {'do': 'models'}]
    through, direct = openai(gateway.url + base, *calls), openai(sim.url + '/v1', *calls)
    values = [r['value'] for r in through]
    whole = values[0]['choices'][0]['message']['content']
    assert whole and whole == direct[0]['value']['choices'][0]['message']['content']
    assert values[0]['usage'] == direct[0]['value']['usage']
    for stream in values[1:3]:
        assert ''.join(c['choices'][0]['delta'].get('content') or '' for c in stream if c['choices']) == whole
    assert values[1][-1]['choices'][0]['finish_reason'] in ('stop', 'length')
    assert values[2][-1]['usage']['completion_tokens'] == values[0]['usage']['completion_tokens']
    assert values[3]['choices'] == direct[3]['value']['choices']
    assert values[4]['data'] == direct[4]['value']['data']
    assert [m['id'] for m in values[5]] == ['sluice-sim']


def test_an_openai_client_maps_errors_to_its_classes(gateway, openai):
    fault = lambda spec: {'headers': {'x-sim-fault': spec}}  # noqa: E731
    results = openai(gateway.url + '/v1',
                     {'do': 'chat', 'params': {'model': 'no-such-model', 'messages': messages('x')}},
                     chat('x' * 600_000), chat('x', max_tokens=200_000),
                     {**chat('x'), 'options': fault('status=429;retry-after=1')},
                     {**chat('x'), 'options': fault('status=503;retry-after=1')},
                     {**chat('x'), 'options': fault('status=401')},
                     {**chat('x'), 'options': fault('reset')})
    assert [(r.get('error'), r.get('status')) for r in results] == [
        ('NotFoundError', 404), ('BadRequestError', 400), ('BadRequestError', 400), ('RateLimitError', 429),
        ('InternalServerError', 503), ('AuthenticationError', 401), ('InternalServerError', 502)]
    assert 'no-such-model' in results[0]['message']
    assert 'maximum context length' in results[1]['message']
    assert results[6]['code'] == 'upstream_closed' and results[6]['type'] == 'upstream_error'


def test_an_openai_client_waits_as_long_as_it_is_told_and_tries_again(world, openai):
    def answer(peer, request):
        if len([r for r in backend.requests if r.target == request.target]) == 1:
            peer.send('HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Type: application/json\r\n'
                      'Content-Length: 2\r\n\r\n{}')
        else:
            peer.answer(json.dumps({'id': 'x', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'choices': [
                {'index': 0, 'finish_reason': 'stop', 'message': {'role': 'assistant', 'content': 'patience'}}]}),
                fields='Content-Type: application/json\r\n')
    backend, gateway = world.in_front_of(keep_answering(answer), routes=[inference_route()])
    result = openai(gateway.url + '/v1', chat('x'), max_retries=2)[0]
    assert result['value']['choices'][0]['message']['content'] == 'patience'
    assert 900 < result['ms'] < 5000
    assert len(backend.requests) == 2


class Busy:
    """A gateway that takes one request at a time and lets one wait, and a backend that holds the first until it is told.
    """

    def __init__(self, world, **queue):
        self.go = threading.Event()
        self.backend = world.backend(keep_answering(self.answer))
        scheduling = {'limiter': 'fixed', 'concurrency': 1, 'queue': {'requests_max': 1, **queue}}
        self.gateway = world.gateway([inference_route()], endpoints=[self.backend], upstream={'scheduling': scheduling})
        self.clients = []

    def answer(self, peer, request):
        if request.target.endswith('/models'):
            peer.answer('{"object": "list", "data": [{"id": "sluice-sim", "object": "model"}]}')
            return
        self.go.wait(20)
        peer.answer(json.dumps({'id': 'x', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'choices': [
            {'index': 0, 'finish_reason': 'stop', 'message': {'role': 'assistant', 'content': 'patience'}}]}),
            fields='Content-Type: application/json\r\n')

    def occupy(self, count):
        body = json.dumps({'model': 'sluice-sim', 'messages': messages('x')})
        for i in range(count):
            self.clients.append(Client(self.gateway.address))
            self.clients[-1].send('POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n'
                                  f'Content-Length: {len(body)}\r\n\r\n{body}')
            wait_until(lambda: self.gateway.metrics().value('sluice_active_requests') == i + 1, what='one more')

    def shed(self, reason):
        return self.gateway.metrics().value('sluice_sched_shed_total', reason=reason, model='sluice-sim')


def test_an_openai_client_that_was_turned_away_comes_back_when_it_was_told_to(world, openai):
    busy = Busy(world)
    busy.occupy(2)
    done = []
    client = threading.Thread(target=lambda: done.extend(openai(busy.gateway.url + '/v1', chat('x'), max_retries=2)))
    client.start()
    wait_until(lambda: busy.gateway.metrics().value('errors_total', type='shed') == 1, seconds=20, what='it was turned away')
    busy.go.set()
    client.join(30)
    assert done[0]['value']['choices'][0]['message']['content'] == 'patience'
    assert 950 < done[0]['ms'] < 5000  # nothing has shown yet how fast it goes, so it is a second; by itself it waits half
    assert busy.gateway.metrics().value('errors_total', type='shed') == 1
    wait_until(lambda: busy.shed('queue_full') == 1, what='the reason')


def test_an_openai_client_does_not_come_back_with_what_is_too_large(world, openai):
    busy = Busy(world, tokens_max=1000, requests_max=10)
    busy.occupy(1)
    result = openai(busy.gateway.url + '/v1', chat('word ' * 20_000), max_retries=2)[0]
    busy.go.set()
    assert (result['error'], result['status'], result['code']) == ('RateLimitError', 429, 'too_large')
    wait_until(lambda: busy.shed('too_large') == 1, what='the reason')
    assert busy.gateway.metrics().value('errors_total', type='shed') == 1


def test_an_openai_client_sees_a_stream_that_broke_as_an_error(gateway, openai):
    for spec in ('die-after=3', 'close-after=3', 'bad-chunk=3'):
        result = openai(gateway.url + '/v1', {**chat('Hello', stream=True), 'options': {'headers': {'x-sim-fault': spec}}})[0]
        assert result.get('error') in ('APIError', 'APIConnectionError'), result


# ---- paths

@pytest.mark.parametrize('sent,arrived', [
    ('/v1/chat/completions', '/v1/chat/completions'), ('/chat/completions', '/v1/chat/completions'),
    ('/completions', '/v1/completions'), ('/embeddings', '/v1/embeddings'), ('/models/x', '/v1/models/x'),
    ('/v1/rerank?a=b', '/v1/rerank?a=b'), ('/rerank?a=b', '/v1/rerank?a=b'), ('/v1/audio/transcriptions', '/v1/audio/transcriptions'),
    ('/responses', '/v1/responses'), ('/tokenize', '/tokenize'), ('/v1/tokenize', '/v1/tokenize'), ('/health', '/health'),
    ('/modelsx', '/modelsx'),
])
def test_the_api_is_there_with_and_without_v1(world, sent, arrived):
    backend, gateway = world.in_front_of(routes=[inference_route()])
    assert post(gateway.address, sent, '{}').body == b'ok'
    assert backend.requests[0].target == arrived


# ---- bodies

BODIES = {
    'odd spacing': b'{ "model" :\t"x" ,\r\n\n "messages":[ ]  }  \n',
    'unknown fields': b'{"model":"x","zeta":1,"alpha":{"deep":[1,2.50,1e400,-0]},"messages":[]}',
    'a repeated key': b'{"model":"x","model":"y","a":1,"a":2}',
    'escapes': '{"model":"x","content":"\\u0041\\/é\\ud83d\\ude00 \U0001f600"}'.encode(),
    'large numbers': b'{"seed":123456789012345678901234567890,"temperature":0.10000000000000000555}',
    'not JSON at all': b'\x00\xff\xfe{"model":',
    'nothing': b'',
    'not UTF-8': b'{"model":"x","content":"\xe9"}',
}


@pytest.mark.parametrize('endpoints', [1, 2])
@pytest.mark.parametrize('name', BODIES)
def test_a_body_reaches_the_backend_byte_for_byte(world, name, endpoints):
    backends = [world.backend(keep_answering(
        lambda peer, r, i=i: peer.answer(json.dumps({'object': 'list', 'data': [{'id': f'm{i}', 'object': 'model'}]})
                                         if r.target == '/v1/models' else 'ok'))) for i in range(endpoints)]
    gateway = world.gateway([inference_route()], endpoints=backends)
    assert post(gateway.address, '/v1/chat/completions', BODIES[name], 'Content-Type: application/json\r\n').body == b'ok'
    posts = [r for b in backends for r in b.requests if r.method == 'POST']
    assert [r.body for r in posts] == [BODIES[name]]
    assert posts[0].fields['content-type'] == 'application/json'


def test_a_prompt_of_100_kb_is_ordinary(gateway):
    body = json.dumps({'model': 'sluice-sim', 'max_tokens': 5, 'messages': messages('word ' * 20_000)})
    response = post(gateway.address, '/v1/chat/completions', body)
    assert response.status == 200
    assert json.loads(response.body)['usage']['prompt_tokens'] == 25_007


def test_a_body_over_ten_megabytes_gets_413_in_openais_form(gateway):
    limit = 10 * 1024 * 1024
    with Client(gateway.address) as client:
        client.send(f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: {limit + 1}\r\n\r\n')
        response = client.response()
    assert response.status == 413 and response.fields['content-type'] == 'application/json'
    error = json.loads(response.body)['error']
    assert set(error) == {'message', 'type', 'param', 'code'}
    assert error['type'] == 'invalid_request_error' and error['code'] == 'body_too_large'
    # Just at the limit it passes; that it is no JSON is for the backend to say.
    response = post(gateway.address, '/v1/chat/completions', b' ' * limit)
    assert response.status == 400 and b'JSON' in response.body


def test_errors_of_the_gateway_itself_are_in_openais_form(world):
    gateway = world.gateway([inference_route(path='/v1', methods=['POST'])], endpoints=['127.0.0.1:1'],
                            limits={'body_rate_bytes_min': 1000, 'body_grace_ms': 100})
    cases = {
        502: 'POST /v1/x HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}',
        400: 'POST /v1/x HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
        408: 'POST /v1/x HTTP/1.1\r\nHost: t\r\nContent-Length: 100000\r\n\r\n{}',
        405: 'GET /v1/x HTTP/1.1\r\nHost: t\r\nAccept: application/json\r\n\r\n',
        404: 'GET /x HTTP/1.1\r\nHost: t\r\nAccept: application/json\r\n\r\n',
    }
    for status, request in cases.items():
        with Client(gateway.address) as client:
            response = client.request(request)
            assert response.status == status
            assert response.fields['content-type'] == 'application/json'
            assert response.fields['x-request-id']
            error = json.loads(response.body)['error']
            assert set(error) == {'message', 'type', 'param', 'code'} and error['message']


def test_large_prompts_leave_no_memory_behind(gateway):
    body = json.dumps({'model': 'sluice-sim', 'max_tokens': 1, 'messages': messages('x' * 9_000_000)})
    for _ in range(2):
        assert post(gateway.address, '/v1/chat/completions', body).status == 400
    before = gateway.resident_kb()
    for _ in range(5):
        assert post(gateway.address, '/v1/chat/completions', body).status == 400
    growth = gateway.resident_kb() - before
    print(f'resident grew by {growth} KB')
    assert growth < 32768 or SANITIZED, 'a sanitizer keeps what was freed for a while'


# ---- models

@pytest.fixture
def two_models(world):
    sims = [world.sim('--model', 'alpha', '--model', 'shared', *SIM_OPTIONS), world.sim('--model', 'beta', '--model', 'shared', *SIM_OPTIONS)]
    gateway = world.gateway([inference_route()], endpoints=[s.address for s in sims])
    wait_until(lambda: len(json.loads(get(gateway.address, '/v1/models').body)['data']) == 3)
    return sims, gateway


def test_models_are_the_union_of_what_the_backends_offer(two_models):
    _, gateway = two_models
    for path in ('/v1/models', '/models'):
        response = get(gateway.address, path)
        assert response.status == 200 and response.fields['content-type'] == 'application/json'
        listed = json.loads(response.body)
        assert listed['object'] == 'list'
        assert [m['id'] for m in listed['data']] == ['alpha', 'shared', 'beta']
        assert all(m['object'] == 'model' and m['created'] and m['owned_by'] for m in listed['data'])


def test_a_request_for_a_model_goes_to_a_backend_that_has_it(two_models):
    sims, gateway = two_models
    before = [s.metrics().value('sim_engine_submitted_total') for s in sims]
    for model in ['alpha', 'beta', 'shared'] * 6:
        body = json.dumps({'model': model, 'max_tokens': 2, 'messages': messages('hi')})
        response = post(gateway.address, '/v1/chat/completions', body)
        assert response.status == 200, response
        assert json.loads(response.body)['model'] == model
    after = [s.metrics().value('sim_engine_submitted_total') for s in sims]
    assert sum(after) - sum(before) == 18 and all(a - b >= 6 for a, b in zip(after, before))


def test_a_model_that_nobody_has_gets_the_backends_own_404(two_models):
    _, gateway = two_models
    response = post(gateway.address, '/v1/chat/completions', json.dumps({'model': 'gamma', 'messages': messages('hi')}))
    assert response.status == 404 and 'gamma' in json.loads(response.body)['error']['message']


def test_one_model_can_be_asked_about_by_name(two_models):
    _, gateway = two_models
    for model in ['alpha', 'beta', 'shared'] * 4:
        response = get(gateway.address, f'/v1/models/{model}')
        assert response.status == 200 and json.loads(response.body)['id'] == model


def test_models_of_a_backend_that_is_down_are_left_out(world):
    sim = world.sim('--model', 'alpha', *SIM_OPTIONS)
    gateway = world.gateway([inference_route()], endpoints=['127.0.0.1:1', sim.address])
    listed = json.loads(get(gateway.address, '/v1/models').body)
    assert [m['id'] for m in listed['data']] == ['alpha']
    for _ in range(4):
        assert post(gateway.address, '/v1/chat/completions', json.dumps(
            {'model': 'alpha', 'max_tokens': 2, 'messages': messages('hi')})).status == 200


def test_without_any_backend_the_list_of_models_is_502(world):
    gateway = world.gateway([inference_route()], endpoints=['127.0.0.1:1', '127.0.0.1:2'])
    response = get(gateway.address, '/v1/models')
    assert response.status == 502 and json.loads(response.body)['error']['type'] == 'upstream_error'


def test_a_client_that_leaves_while_models_are_gathered_costs_nothing(world):
    backends = [world.backend(lambda peer: (peer.request(), peer.wait_end())) for _ in range(2)]
    gateway = world.gateway([inference_route()], endpoints=backends)
    for _ in range(5):
        with Client(gateway.address) as client:
            client.send('GET /v1/models HTTP/1.1\r\nHost: t\r\n\r\n')
            client.is_open(0.02)
    metrics = wait_until(lambda: (lambda m: m if m.value('sluice_active_requests') == 0 else None)(gateway.metrics()))
    assert metrics.value('active_connections') == 1


# ---- streams through a model

def test_the_events_of_a_stream_are_the_backends(gateway, sim):
    body = json.dumps({'model': 'sluice-sim', 'stream': True, 'stream_options': {'include_usage': True}, 'messages': messages('Tell me')})

    def content(address):
        response = post(address, '/v1/chat/completions', body)
        assert response.fields['content-type'].startswith('text/event-stream')
        found = events(response.body)
        assert found[-1] == b'[DONE]'
        return [{k: v for k, v in json.loads(e).items() if k not in ('id', 'created')} for e in found[:-1]]
    assert content(gateway.address) == content(sim.address)


def test_many_streams_at_once_do_not_mix(gateway):
    bodies = [json.dumps({'model': 'sluice-sim', 'stream': True, 'max_tokens': 30, 'messages': messages(f'question {i}')}) for i in range(40)]
    expected = []
    for body in bodies:
        whole = json.loads(body)
        whole['stream'] = False
        expected.append(json.loads(post(gateway.address, '/v1/chat/completions', json.dumps(whole)).body)['choices'][0]['message']['content'])
    assert len(set(expected)) > 30
    clients = [Client(gateway.address) for _ in bodies]
    for client, body in zip(clients, bodies):
        client.send(f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n{body}')
    for client, text in zip(clients, expected):
        found = events(client.response('POST').body)
        assert ''.join(json.loads(e)['choices'][0]['delta'].get('content', '') for e in found[:-1]) == text
        client.close()


def test_a_plain_answer_is_not_taken_for_a_stream(world):
    """Only text/event-stream is one: anything else that dies is merely cut off."""
    _, gateway = world.in_front_of(keep_answering(OK.replace(b'text/plain', b'text/event-streamer')), routes=[inference_route()])
    assert get(gateway.address, '/v1/x').body == b'ok'
