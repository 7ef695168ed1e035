"""Requests for the same at the same time: who must not share an answer under way, and what is the same."""

import threading
import time

import pytest
from backend import keep_answering
from rawhttp import Client, get, wait_until
from scenes import (FRESH, Chat, Events, Gated, Http, Personal, Scene, each_inference, each_kind, each_width, is_hit,
                    is_joined, status_of, take, upto, whole)


# ---- what is not for others ----


ANOTHERS = 'Authorization: Bearer {}\r\n'
PERSONAL = [
    ('Cache-Control: private, max-age=60\r\n', '200 OK', '', 'private'),
    ('Cache-Control: no-store\r\n', '200 OK', '', 'no-store'),
    ('Cache-Control: max-age=60\r\nSet-Cookie: id={}\r\n', '200 OK', '', 'set-cookie'),
    ('Set-Cookie: id={}\r\n', '200 OK', '', 'set-cookie'),
    ('Cache-Control: max-age=60\r\nVary: *\r\n', '200 OK', '', 'vary-all'),
    ('', '200 OK', ANOTHERS, 'authorization'),
    ('Cache-Control: max-age=60\r\n', '200 OK', ANOTHERS, 'authorization'),
    ('Cache-Control: private\r\n', '500 Oh', '', 'private'),
    ('Set-Cookie: id={}\r\n', '500 Oh', '', 'not-cacheable'),
    ('Cache-Control: max-age=60\r\nSet-Cookie: id={}\r\n', '503 Busy', '', 'set-cookie'),
    ('Vary: *\r\n', '500 Oh', '', 'vary-all'),
    ('Cache-Control: must-understand, private\r\n', '599 Odd', '', 'status'),
    ('', '500 Oh', ANOTHERS, 'authorization'),
    ('', '302 Found\r\nLocation: /{}', '', 'not-cacheable'),
    ('', '401 Unauthorized', '', 'not-cacheable'),
    ('', '403 Forbidden', '', 'not-cacheable'),
    ('', '429 Too Many Requests', '', 'not-cacheable'),
    ('Cache-Control: max-age=0\r\n', '200 OK', '', 'useless'),
]


@each_width
@pytest.mark.parametrize('words,status,asks,why', PERSONAL)
def test_what_is_one_clients_own_goes_to_nobody_else(world, words, status, asks, why, workers):
    origin = Personal(Http, words, status)
    scene = Scene(world, Http, origin, workers)
    clients = [scene.lead(fields=asks.format(0))] + [scene.ask(fields=asks.format(i)) for i in range(1, 9)]
    scene.wait_active(9)
    origin.allow(4)
    answers = [whole(client) for client in clients]
    assert len({r.fields['x-number'] for r in answers}) == 9 == scene.asked()
    assert len({r.fields.get('set-cookie', n) for n, r in enumerate(answers)}) == 9
    assert not any(is_joined(r) for r in answers)
    assert all('detail="not-shared"' in status_of(r) for r in answers[1:]), status_of(answers[1])
    assert f'detail="{why}"' in status_of(answers[0]) and '; stored' not in status_of(answers[0])
    wait_until(lambda: scene.not_stored(why) == 9, what=f'nine not stored: {why}')


@each_width
@pytest.mark.parametrize('name,directive', [('x-own', 'private'), ('x-own', 'no-cache'), ('set-cookie', 'no-cache')])
def test_a_line_that_is_one_clients_own_goes_to_nobody_else(world, workers, name, directive):
    """The rest of the answer may, from the cache."""
    origin = Personal(Http, f'Cache-Control: max-age=60, {directive}="{name}"\r\n{name}: id={{}}\r\n')
    scene = Scene(world, Http, origin, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(8)]
    scene.wait_active(9)
    origin.allow(4)
    answers = [whole(client) for client in clients]
    own = [r.fields[name] for r in answers if not is_hit(r)]
    assert len(set(own)) == len(own) == scene.asked()
    assert not any(name in r.fields for r in answers if is_hit(r)) and not any(is_joined(r) for r in answers)
    assert name not in scene.stored().fields


@each_inference
@each_width
@pytest.mark.parametrize('words,status', [('Set-Cookie: id={}\r\n', '200 OK'), ('', '401 Unauthorized'),
                                          ('', '403 Forbidden'), ('Content-Encoding: gzip\r\n', '200 OK')])
def test_what_is_one_clients_own_goes_to_nobody_else_of_inference(world, kind, words, status, workers):
    origin = Personal(kind, words, status)
    scene = Scene(world, kind, origin, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(8)]
    scene.wait_active(9)
    origin.allow(4)
    answers = [whole(client) for client in clients]
    assert len({r.fields['x-number'] for r in answers}) == 9 == scene.asked()
    assert len({r.fields.get('set-cookie', n) for n, r in enumerate(answers)}) == 9
    assert not any(is_joined(r) for r in answers)


@each_width
def test_who_comes_after_the_head_of_what_is_not_shared_does_not_wait(world, workers):
    origin = Personal(Http, 'Cache-Control: private\r\n')
    scene = Scene(world, Http, origin, workers)
    origin.allow(2)
    leader = scene.lead()
    take(leader, 100)
    others = [scene.ask() for _ in range(6)]
    for other in others:
        take(other, 100)  # of its own: the first one's goes on
    assert scene.asked() == 7
    origin.allow(4)
    assert len({whole(c).fields['x-number'] for c in [leader] + others}) == 7


@each_width
def test_tenants_do_not_share_unless_the_route_says_so(world, workers):
    for kind in (Chat, Events):
        for scope, fetches in (('tenant', 4), ('shared', 1)):
            origin = Personal(kind, '')
            scene = Scene(world, kind, origin, workers, {'scope': scope})
            clients = [scene.lead(key='key0')] + [scene.ask(key=f'key{i % 4}') for i in range(1, 12)]
            scene.wait_active(12)
            origin.allow(4)
            told = [(i % 4, whole(client).fields['x-number']) for i, client in enumerate(clients)]
            assert scene.asked() == fetches and len({n for _, n in told}) == fetches
            assert len(set(told)) == 4, 'one answer for each tenant'


@each_width
def test_credentials_are_shared_where_the_origin_allows_it(world, workers):
    origin = Gated(Http, 'Cache-Control: public, max-age=60\r\n')
    scene = Scene(world, Http, origin, workers)
    clients = [scene.lead(fields='Authorization: a\r\n')] + [scene.ask(fields=f'Authorization: {i}\r\n') for i in 'bcd']
    scene.wait_active(4)
    origin.allow(4)
    assert {whole(client).status for client in clients} == {200} and scene.asked() == 1


# ---- what is the same ----


@each_inference
@each_width
def test_sampled_answers_are_shared_only_where_the_route_says_so(world, kind, workers):
    for rules, fetches in (({}, 8), ({'coalesce_sampled': True}, 1)):
        origin = Personal(kind, '')
        scene = Scene(world, kind, origin, workers, rules)
        clients = [scene.lead(temperature=0.7)] + [scene.ask(temperature=0.7) for _ in range(7)]
        scene.wait_active(8)
        origin.allow(4)
        answers = [whole(client) for client in clients]
        assert len({r.fields['x-number'] for r in answers}) == scene.asked() == fetches
        assert whole(scene.ask(temperature=0.7)).fields['x-number'] == str(fetches + 1), 'shared, but not kept'
        wait_until(lambda s=scene, n=fetches: s.not_stored('sampled') == n + 1)


@each_inference
def test_what_asks_for_something_else_is_not_merged(world, kind):
    origin = Personal(kind, '')
    scene = Scene(world, kind, origin)
    clients = [scene.lead()]
    for more in ({'seed': 1}, {'max_tokens': 1}, {'stream': not kind.stream}, {'path': '/other'}, {'top_p': 0.5}):
        clients.append(scene.ask(**more))
    same = [scene.ask(user='somebody'), scene.ask(metadata={'a': 'b'})]
    scene.wait_active(8)
    origin.allow(4)
    assert len({whole(client).fields['x-number'] for client in clients}) == 6
    assert {whole(client).fields['x-number'] for client in same} == {'1'}
    assert scene.asked() == 6


@each_width
def test_everybody_gets_the_variant_that_fits(world, workers):
    class Origin(Gated):
        def fields_for(self, request):
            return FRESH + f'Vary: X-Who\r\nX-For: {request.fields["x-who"]}\r\n'
    origin = Origin(Http)
    scene = Scene(world, Http, origin, workers)
    clients = [('a', scene.lead(fields='X-Who: a\r\n'))]
    clients += [(who, scene.ask(fields=f'X-Who: {who}\r\n')) for who in 'aabbbccaab']
    scene.wait_active(11)
    origin.allow(2)
    for _, client in clients:
        take(client, 100)
    origin.allow(4)
    for who, client in clients:
        assert whole(client).fields['x-for'] == who
    asked = [r.fields['x-who'] for r in scene.backend.requests]
    assert {who: asked.count(who) for who in 'abc'} == {'a': 1, 'b': 1, 'c': 1}, 'one request for each variant'
    for who in 'abc':
        assert scene.stored(fields=f'X-Who: {who}\r\n').fields['x-for'] == who


@each_width
def test_parts_and_heads_go_their_own_way(world, workers):
    body = upto(Http, 3)
    gate = threading.Event()

    def answer(peer, request):
        if request.method == 'HEAD':
            peer.send(f'HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n{FRESH}\r\n')
        elif 'range' in request.fields:
            peer.answer(body[10:20], '206 Partial Content', f'{FRESH}Content-Range: bytes 10-19/{len(body)}\r\n')
        else:
            assert gate.wait(20)
            peer.answer(body, fields=FRESH)
    scene = Scene(world, Http, answer, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(3)]
    part = get(scene.gateway.address, '/x', fields='Range: bytes=10-19\r\n', host='t')
    head = get(scene.gateway.address, '/x', method='HEAD', host='t')
    assert part.status == 206 and part.body == body[10:20] and not is_joined(part)
    assert head.status == 200 and head.fields['content-length'] == str(len(body)) and not is_joined(head)
    assert scene.asked() == 3
    gate.set()
    for client in clients:
        assert whole(client).body == body
    scene.stored()
    assert is_hit(get(scene.gateway.address, '/x', fields='Range: bytes=10-19\r\n', host='t'))
    assert is_hit(get(scene.gateway.address, '/x', method='HEAD', host='t')) and scene.asked() == 3


@each_width
def test_what_passes_the_cache_by_joins_nobody(world, workers):
    for kind in (Http, Chat):
        origin = Personal(kind, FRESH)
        scene = Scene(world, kind, origin, workers, {'bypass': ['cookie:session', 'header:x-debug']})
        clients = [scene.lead()]
        clients += [scene.ask(fields=f) for f in ('Cookie: a=b; session=1\r\n', 'X-Debug: yes\r\n')]
        same = [scene.ask(fields='X-Debug: 0\r\n'), scene.ask(fields='Cookie: session=\r\n')]
        scene.wait_active(5)
        origin.allow(4)
        assert len({whole(client).fields['x-number'] for client in clients}) == scene.asked() == 3
        assert all('fwd=bypass' in status_of(c.answer) for c in clients[1:])
        assert {whole(client).fields['x-number'] for client in same} == {'1'}


@each_width
def test_each_routes_key_says_what_is_the_same(world, workers):
    def route(path, key):
        made = Http.route(key=key)
        made['path_prefix'] = path
        return made
    origin = Personal(Http, FRESH)
    backend, gateway = world.in_front_of(keep_answering(origin.answer), workers=workers, routes=[
        route('/no-query', ['host', 'path']), route('/plan', ['path', 'header:x-plan']),
        route('/', ['host', 'path', 'query'])])

    def ask(path, fields='', host='t'):
        client = Client(gateway.address)
        client.send(f'GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n')
        return client
    groups = [
        [ask('/no-query?a'), ask('/no-query?b'), ask('/no-query', 'X-Plan: 1\r\n')],
        [ask('/plan', 'X-Plan: 1\r\n'), ask('/plan?q', 'X-Plan: 1\r\n'), ask('/plan', 'X-Plan: 1\r\n', 'other')],
        [ask('/plan', 'X-Plan: 2\r\n'), ask('/plan', 'X-Plan: 2\r\n')],
        [ask('/plan'), ask('/plan')],
        [ask('/any?a'), ask('/any?a', 'X-Plan: 1\r\n')],
        [ask('/any?b')], [ask('/any?a', host='other')], [ask('/any')]]
    wait_until(lambda: gateway.metrics().value('sluice_active_requests') == sum(map(len, groups)))
    time.sleep(0.05)
    origin.allow(4)
    told = [{client.response().fields['x-number'] for client in group} for group in groups]
    assert [len(numbers) for numbers in told] == [1] * len(groups) and len(set.union(*told)) == len(groups)
    assert len(backend.requests) == len(groups)


@each_kind
def test_a_route_may_be_without_it(world, kind):
    origin = Personal(kind, FRESH)
    scene = Scene(world, kind, origin, rules={'coalesce': False})
    clients = [scene.lead()] + [scene.ask() for _ in range(4)]
    scene.wait_active(5)
    origin.allow(4)
    assert len({whole(client).fields['x-number'] for client in clients}) == scene.asked() == 5
    scene.stored()


@each_inference
@each_width
def test_what_cannot_be_stored_is_shared_and_says_why_it_is_not_there_again(world, kind, workers):
    """A generation that was cut short: found out at its end, when all have had it."""
    cut = type('Cut', (kind,), {'pieces': kind.pieces[:2] + [
        b'data: [DONE]\n\n' if kind.stream else kind.pieces[2].replace(b'"stop"', b'"error"')]})
    origin = Gated(cut)
    scene = Scene(world, cut, origin, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(6)]
    scene.wait_active(7)
    origin.allow(4)
    for client in clients:
        assert whole(client).body == upto(cut, 3)
    assert scene.asked() == 1
    reason = 'truncated' if kind.stream else 'finished_badly'
    wait_until(lambda: scene.not_stored(reason) == 1, what=reason)
    assert not is_hit(whole(scene.ask())) and scene.asked() == 2


@each_width
@pytest.mark.parametrize('fields', [FRESH + 'ETag: "a"\r\n', 'Cache-Control: no-cache\r\nETag: "a"\r\n'])
@pytest.mark.parametrize('is_same', [True, False])
def test_what_is_stale_is_asked_about_once_for_all(world, workers, fields, is_same):
    gate = threading.Event()

    def answer(peer, request):
        if 'if-none-match' not in request.fields:
            peer.answer(upto(Http, 3), fields='Cache-Control: no-cache\r\nETag: "a"\r\nX-Number: 1\r\n')
            return
        assert gate.wait(20)
        if is_same:
            peer.send(f'HTTP/1.1 304 Not Modified\r\n{fields}X-Number: 2\r\n\r\n')
        else:
            peer.answer(b'new', fields=fields.replace('"a"', '"b"') + 'X-Number: 2\r\n')
    scene = Scene(world, Http, answer, workers)
    whole(scene.ask())
    wait_until(lambda: scene.gateway.metrics().value('sluice_cache_stored_total') == 1)
    clients = [scene.ask() for _ in range(12)] + [scene.ask(fields='If-None-Match: "a"\r\n')]
    scene.wait_active(13)
    gate.set()
    has_it = clients.pop().response()
    assert has_it.status == (304 if is_same else 200) and has_it.fields['x-number'] == '2'
    for client in clients:
        response = whole(client)
        assert response.body == (upto(Http, 3) if is_same else b'new') and response.fields['x-number'] == '2'
    assert scene.asked() == 2
