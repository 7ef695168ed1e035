"""What the gateway keeps of answers, and to whom it gives them: in outline."""

import json
import threading

from backend import keep_answering
from programs import http_route, inference_route
from rawhttp import Client, Ended, events, get, post, wait_until

CACHED = {**http_route()}
CACHED['http'] = {**CACHED['http'], 'cache': True}


def origin(fields='Cache-Control: max-age=60\r\n', body=None):
    """Answers with a count, so that two fetches differ; knows the tag "a"."""
    count = iter(range(1, 100_000))

    def answer(peer, request):
        number = next(count)
        if request.fields.get('if-none-match') == '"a"':
            peer.answer(b'', status='304 Not Modified', fields='ETag: "a"\r\n' + fields)
        else:
            peer.answer(body if body is not None else f'answer {number}', fields=fields)
    return keep_answering(answer)


def status(response):
    return response.fields['cache-status']


def test_a_fresh_answer_is_given_again_with_its_age(world):
    backend, gateway = world.in_front_of(origin(), [CACHED])
    first, second = get(gateway.address, '/x'), get(gateway.address, '/x')
    assert 'fwd=uri-miss' in status(first) and 'stored' in status(first)
    assert status(second).startswith('sluice; hit') and int(second.fields['age']) <= 5
    assert first.body == second.body == b'answer 1' and len(backend.requests) == 1
    assert get(gateway.address, '/y').body == b'answer 2'
    head = get(gateway.address, '/x', method='HEAD')
    assert head.fields['content-length'] == '8' and status(head).startswith('sluice; hit')


def test_without_the_setting_nothing_is_kept(world):
    backend, gateway = world.in_front_of(origin())
    assert [get(gateway.address).body for _ in range(2)] == [b'answer 1', b'answer 2']
    assert len(backend.requests) == 2


def test_what_must_not_be_stored_is_not_and_says_why(world):
    for fields, why in [('Cache-Control: no-store\r\n', 'no-store'), ('Cache-Control: private\r\n', 'private'),
                        ('Cache-Control: max-age=60\r\nVary: *\r\n', 'vary')]:
        backend, gateway = world.in_front_of(origin(fields), [CACHED])
        for number in (1, 2):
            response = get(gateway.address)
            assert response.body == b'answer %d' % number and why in status(response).lower()
        assert len(backend.requests) == 2


def test_a_stale_answer_is_validated_and_its_head_renewed(world):
    backend, gateway = world.in_front_of(origin('Cache-Control: max-age=60, no-cache\r\nETag: "a"\r\n'), [CACHED])
    assert get(gateway.address).body == get(gateway.address).body == b'answer 1'
    assert [r.fields.get('if-none-match') for r in backend.requests] == [None, '"a"']
    response = get(gateway.address, fields='If-None-Match: "a"\r\n')
    assert response.status == 304 and response.body == b''


def test_variants_are_told_apart_by_the_fields_that_vary_names(world):
    backend, gateway = world.in_front_of(origin('Cache-Control: max-age=60\r\nVary: Accept-Language\r\n'), [CACHED])
    bodies = [get(gateway.address, fields=f'Accept-Language: {lang}\r\n').body for lang in ('de', 'fr', 'de', 'fr')]
    assert bodies == [b'answer 1', b'answer 2'] * 2 and len(backend.requests) == 2


def test_parts_of_small_and_large_answers_come_from_the_stored_whole(world):
    for size in (1000, 300_000):
        body = bytes(i % 251 for i in range(size))
        backend, gateway = world.in_front_of(origin(body=body), [CACHED])
        assert get(gateway.address).body == body and get(gateway.address).body == body
        part = get(gateway.address, fields='Range: bytes=100-899\r\n')
        assert part.status == 206 and part.body == body[100:900]
        assert part.fields['content-range'] == f'bytes 100-899/{size}'
        beyond = get(gateway.address, fields=f'Range: bytes={size}-\r\n')
        assert beyond.status == 416 and beyond.fields['content-range'] == f'bytes */{size}'
        assert len(backend.requests) == 1


def test_only_if_cached_never_asks_the_origin(world):
    backend, gateway = world.in_front_of(origin(), [CACHED])
    assert get(gateway.address, fields='Cache-Control: only-if-cached\r\n').status == 504
    assert backend.requests == []


def test_requests_at_the_same_time_cost_one_fetch_on_all_workers(world):
    go = threading.Event()

    def answer(peer, _request):
        peer.send('HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 100000\r\n\r\n' + 'a' * 50_000)
        assert go.wait(20)
        peer.send('b' * 50_000)
    backend, gateway = world.in_front_of(keep_answering(answer), [CACHED], workers=2)
    clients = [Client(gateway.address) for _ in range(60)]
    for client in clients:
        client.send('GET /big HTTP/1.1\r\nHost: t\r\n\r\n')
    for client in clients:  # the beginning comes to everyone before the end is there
        client.head()
        assert client.need(50_000) == b'a' * 50_000
    assert len(backend.requests) == 1
    go.set()
    for client in clients:
        assert client.need(50_000) == b'b' * 50_000
        client.close()
    assert len(backend.requests) == 1
    wait_until(lambda: status(get(gateway.address, '/big')).startswith('sluice; hit'), what='a hit')


def test_who_waits_for_what_proves_uncacheable_asks_alone(world):
    backend, gateway = world.in_front_of(origin('Cache-Control: private\r\n'), [CACHED], workers=2)
    clients = [Client(gateway.address) for _ in range(20)]
    for client in clients:
        client.send('GET /mine HTTP/1.1\r\nHost: t\r\n\r\n')
    bodies = {client.response().body for client in clients}
    for client in clients:
        client.close()
    assert len(bodies) == 20 and len(backend.requests) == 20, 'nobody gets what is another\'s'


def test_a_leader_that_leaves_does_not_take_the_others_along(world):
    go = threading.Event()

    def answer(peer, _request):
        peer.send('HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst')
        assert go.wait(20)
        peer.send('last!')
    backend, gateway = world.in_front_of(keep_answering(answer), [CACHED], workers=2)
    leader = Client(gateway.address)
    leader.send('GET / HTTP/1.1\r\nHost: t\r\n\r\n')
    leader.head()
    others = [Client(gateway.address) for _ in range(6)]
    for other in others:
        other.send('GET / HTTP/1.1\r\nHost: t\r\n\r\n')
        other.head()
    leader.reset()
    go.set()
    for other in others:
        assert other.need(10) == b'firstlast!'
        other.close()
    assert len(backend.requests) == 1


def test_an_answer_that_breaks_off_is_kept_by_nobody(world):
    def answer(peer, _request):
        peer.send('HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst')
        peer.reset()
    backend, gateway = world.in_front_of(keep_answering(answer), [CACHED])
    for _ in range(2):
        try:
            get(gateway.address)
            raise AssertionError('it looked whole')
        except Ended:
            pass
    assert len(backend.requests) == 2


# ---- inference

def chat(stream=False, text='Hello', **more):
    return json.dumps({'model': 'sluice-sim', 'max_tokens': 8, 'temperature': 0, 'stream': stream, **more,
                       'messages': [{'role': 'user', 'content': text}]})


def ask(gateway, body, key='one'):
    return post(gateway.address, '/v1/chat/completions', body,
                fields=f'Content-Type: application/json\r\nAuthorization: Bearer {key}\r\n')


def said(response):
    return ''.join(c['delta'].get('content') or '' for e in events(response.body) if e != b'[DONE]'
                   for c in json.loads(e)['choices'])


def test_a_deterministic_answer_serves_both_shapes(world):
    sim = world.sim('--time-scale', '20')
    gateway = world.gateway([inference_route()], endpoints=[sim.address], workers=2)
    whole = ask(gateway, chat())
    again = ask(gateway, chat())
    assert again.body == whole.body and status(again).startswith('sluice; hit')
    stream = ask(gateway, chat(stream=True))
    assert status(stream).startswith('sluice; hit') and events(stream.body)[-1] == b'[DONE]'
    assert said(stream) == json.loads(whole.body)['choices'][0]['message']['content']
    usage = {'include_usage': True}
    first = ask(gateway, chat(stream=True, text='Other', stream_options=usage))
    second = ask(gateway, chat(stream=True, text='Other', stream_options=usage))
    assert first.body == second.body and status(second).startswith('sluice; hit')
    joined = json.loads(ask(gateway, chat(text='Other')).body)
    assert joined['choices'][0]['message']['content'] == said(first) and joined['usage']['completion_tokens'] == 8


def test_neither_sampled_answers_nor_other_tenants_are_served(world):
    sim = world.sim('--time-scale', '20')
    gateway = world.gateway([inference_route()], endpoints=[sim.address])
    sampled = [ask(gateway, chat(temperature=0.7)) for _ in range(2)]
    assert all('sampled' in status(r) and 'hit' not in status(r) for r in sampled)
    assert 'hit' not in status(ask(gateway, chat(), key='one'))
    assert 'hit' not in status(ask(gateway, chat(), key='two'))
    assert status(ask(gateway, chat(), key='two')).startswith('sluice; hit')


def test_what_was_expensive_survives_a_restart(world, tmp_path):
    sim = world.sim('--time-scale', '1')
    cache = {'memory': '64MB', 'database': str(tmp_path / 'cache.db'), 'database_cost_min_ms': 0,
             'warm_start_percent': 0}
    body = chat(max_tokens=2)
    gateway = world.gateway([inference_route()], endpoints=[sim.address], cache=cache)
    gateway.wait_line('store ready')
    first = ask(gateway, body)
    gateway.signal()
    assert gateway.wait() == 0
    gateway = world.gateway([inference_route()], endpoints=[sim.address], cache=cache)
    gateway.wait_line('store ready')
    again = ask(gateway, body)
    assert again.body == first.body and 'second-tier' in status(again)
