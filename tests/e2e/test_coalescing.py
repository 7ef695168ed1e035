"""Requests for the same at the same time: who shares an answer under way, who must not, and what becomes of the others
when one of them, or the origin, fails."""

import json
import resource
import threading
import time

import pytest
from backend import keep_answering
from programs import SANITIZED, http_route, inference_route
from rawhttp import Client, Ended, get, wait_until

FRESH = 'Cache-Control: max-age=60\r\n'
CROWD = 1000


def status_of(response):
    return response.fields['cache-status']


def is_hit(response):
    return status_of(response).startswith('sluice; hit')


def is_joined(response):
    return '; collapsed' in status_of(response)


# ---- three kinds of answers, each in a head and three pieces ----


class Http:
    pieces = [b'a' * 30_000, b'b' * 30_000, b'c' * 30_000]
    fields = FRESH
    chunked = False

    @staticmethod
    def route(**cache):
        route = http_route()
        route['http']['cache'] = {'enabled': True, **cache}
        return route

    @staticmethod
    def request(path, fields='', **_):
        return f'GET {path} HTTP/1.1\r\nHost: t\r\n{fields}\r\n'


class Chat:
    message = {'id': 'c', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'choices': [
        {'index': 0, 'message': {'role': 'assistant', 'content': 'word ' * 6000}, 'finish_reason': 'stop'}],
        'usage': {'prompt_tokens': 1, 'completion_tokens': 6000, 'total_tokens': 6001}}
    text = json.dumps(message).encode()
    pieces = [text[:10_000], text[10_000:20_000], text[20_000:]]
    fields = 'Content-Type: application/json\r\n'
    stream = False
    chunked = False

    @staticmethod
    def route(**cache):
        route = inference_route()
        route['inference']['cache'] = {'enabled': True, **cache}
        return route

    @classmethod
    def request(cls, path, fields='', key='one', **more):
        body = json.dumps({'model': 'm', 'temperature': 0, 'stream': cls.stream, **more,
                           'messages': [{'role': 'user', 'content': path}]})
        return (f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n{fields}'
                f'Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n{body}')


def event(word, finish=None):
    return b'data: ' + json.dumps({'id': 'c', 'object': 'chat.completion.chunk', 'created': 1, 'model': 'm', 'choices': [
        {'index': 0, 'delta': {'content': word}, 'finish_reason': finish}]}).encode() + b'\n\n'


class Events(Chat):
    pieces = [event('one ') * 50, event('two ') * 50, event('three', 'stop') + b'data: [DONE]\n\n']
    fields = 'Content-Type: text/event-stream\r\n'
    stream = True
    chunked = True


KINDS = {'http': Http, 'chat': Chat, 'events': Events}
each_kind = pytest.mark.parametrize('kind', KINDS.values(), ids=KINDS.keys())
each_inference = pytest.mark.parametrize('kind', [Chat, Events], ids=['chat', 'events'])
each_width = pytest.mark.parametrize('workers', [1, 2])


def head_of(kind, status='200 OK', fields=None):
    framing = 'Transfer-Encoding: chunked' if kind.chunked else f'Content-Length: {sum(map(len, kind.pieces))}'
    return f'HTTP/1.1 {status}\r\n{framing}\r\n{kind.fields if fields is None else fields}\r\n'.encode()


def framed(kind, piece, is_last=False):
    if not kind.chunked:
        return piece
    return b'%x\r\n%s\r\n' % (len(piece), piece) + (b'0\r\n\r\n' if is_last else b'')


class Gated:
    """An origin that sends its answer's head and pieces one by one, as `allow` says."""

    def __init__(self, kind, fields=None, status='200 OK'):
        self.kind, self.fields, self.status = kind, fields, status
        self.steps = [threading.Event() for _ in range(4)]  # the head, and each piece
        self.ends = []  # how connections ended: (how, when)

    def allow(self, steps):
        for step in self.steps[:steps]:
            step.set()

    def fields_for(self, _request):
        return self.fields

    def answer(self, peer, request):
        pieces = [head_of(self.kind, self.status, self.fields_for(request))]
        pieces += [framed(self.kind, p, p is self.kind.pieces[-1]) for p in self.kind.pieces]
        for step, piece in zip(self.steps, pieces):
            self.await_step(peer, step)
            peer.send(piece)

    def await_step(self, peer, step):
        """Waits, and notes when the gateway goes meanwhile."""
        while not step.wait(0.001):
            peer.sock.settimeout(0.001)
            try:
                if not peer.fill():
                    self.ends.append((peer.how, time.monotonic()))
                    raise Ended(peer.how)
            except TimeoutError:
                pass
            peer.sock.settimeout(20)


class Scene:
    def __init__(self, world, kind, origin, workers=1, rules=None, **more):
        self.kind, self.origin = kind, origin
        answer = origin.answer if isinstance(origin, Gated) else origin
        self.backend, self.gateway = world.in_front_of(keep_answering(answer), [kind.route(**(rules or {}))],
                                                       workers=workers, **more)

    def ask(self, path='/x', receive_buffer=None, **more):
        client = Client(self.gateway.address, timeout=60, receive_buffer=receive_buffer)
        client.send(self.kind.request(path, **more))
        client.taken = bytearray()
        client.answer = None
        return client

    def asked(self):
        return len(self.backend.requests)

    def lead(self, path='/x', **more):
        """One that asks and is known to have been the first."""
        before = self.asked()
        client = self.ask(path, **more)
        wait_until(lambda: self.asked() > before, what='the first request upstream')
        return client

    def wait_active(self, count):
        """So many requests are with the gateway. They have not necessarily joined yet: a message is under way at most."""
        wait_until(lambda: self.gateway.metrics().value('sluice_active_requests') == count, 20, f'{count} active')
        time.sleep(0.05)

    def stored(self, path='/x', **more):
        return wait_until(lambda: (r := whole(self.ask(path, **more))) and is_hit(r) and r or None, what='a hit')

    def results(self):
        metrics = self.gateway.metrics()
        return {r: int(metrics.value('sluice_cache_requests_total', result=r))
                for r in ('hit', 'miss', 'join', 'bypass')}

    def not_stored(self, reason):
        return self.gateway.metrics().value('sluice_cache_not_stored_total', reason=reason)


def take(client, count):
    """The first `count` bytes of the answer's body, however it is framed: as soon as they are there."""
    if client.answer is None:
        client.answer = client.head()
    while len(client.taken) < count:
        if 'transfer-encoding' in client.answer.fields:
            chunk = client.chunk()
            assert chunk, 'it ended early'
            client.taken += chunk
        else:
            client.taken += client.need(count - len(client.taken))
    return bytes(client.taken[:count])


def whole(client):
    """The whole answer; what `take` has read already is part of it."""
    if client.answer is None:
        client.answer = client.head()
    response = client.answer
    left = client.taken
    if 'content-length' in response.fields:
        left += client.need(int(response.fields['content-length']) - len(left))
        response.body = bytes(left)
    else:
        client.body_of(response)
        response.body = bytes(left) + response.body
    client.close()
    return response


def upto(kind, count):
    return b''.join(kind.pieces[:count])


# ---- joining ----


@each_kind
@each_width
def test_who_comes_late_gets_the_beginning_at_once_and_then_what_lands(world, kind, workers):
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers)
    leader = scene.lead()
    early = [scene.ask() for _ in range(10)]
    scene.wait_active(11)
    origin.allow(2)
    clients = [leader] + early
    for pieces in (1, 2):  # the origin waits; those that are there get what has come, and more join
        clients += [scene.ask() for _ in range(10)]
        for client in clients:
            assert take(client, len(upto(kind, pieces))) == upto(kind, pieces)
        origin.allow(2 + pieces)
    for client in clients:
        response = whole(client)
        assert response.body == upto(kind, 3)
        assert 'fwd=uri-miss; fwd-status=200' in status_of(response)
        assert is_joined(response) == (client is not leader)
        assert ('; stored' in status_of(response)) == (client is leader)
    assert scene.asked() == 1
    hit = scene.stored()
    assert hit.body == upto(kind, 3) and scene.asked() == 1
    results = scene.results()
    assert (results['miss'], results['bypass']) == (1, 0) and results['join'] + results['hit'] >= 30


@each_kind
@each_width
@pytest.mark.parametrize('steps', [0, 2])
def test_when_the_first_leaves_the_others_get_all_of_it(world, kind, workers, steps):
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers)
    origin.allow(steps)
    leader = scene.lead()
    others = [scene.ask() for _ in range(10)]
    scene.wait_active(11)
    leader.reset()
    scene.wait_active(10)
    origin.allow(4)
    for other in others:
        assert whole(other).body == upto(kind, 3)
    assert scene.stored().body == upto(kind, 3) and scene.asked() == 1


@each_kind
@each_width
@pytest.mark.parametrize('steps', [0, 2])
def test_when_the_last_leaves_the_fetch_is_cancelled(world, kind, workers, steps):
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers)
    origin.allow(steps)
    clients = [scene.lead()] + [scene.ask() for _ in range(8)]
    scene.wait_active(9)
    if steps > 0:
        for client in clients:
            take(client, len(kind.pieces[0]))
    for client in clients[:-1]:
        client.reset()
    scene.wait_active(1)
    assert origin.ends == [], 'one is still there'
    left = time.monotonic()
    clients[-1].reset()
    wait_until(lambda: origin.ends, what='the end of the upstream request')
    how, when = origin.ends[0]
    assert how == 'reset' and when - left < (1 if SANITIZED else 0.1)
    wait_until(lambda: scene.gateway.metrics().value('sluice_upstream_cancels_total') == 1)
    origin.allow(4)
    assert whole(scene.ask()).body == upto(kind, 3) and scene.asked() == 2


@each_width
def test_who_has_it_already_is_told_so_and_the_others_get_it(world, workers):
    origin = Gated(Http, FRESH + 'ETag: "a"\r\n')
    scene = Scene(world, Http, origin, workers)
    leader = scene.lead()
    conditional = [scene.ask(fields='If-None-Match: "a"\r\n') for _ in range(4)]
    others = [scene.ask() for _ in range(4)]
    scene.wait_active(9)
    origin.allow(2)
    for client in conditional:
        response = client.response()
        assert response.status == 304 and response.fields['etag'] == '"a"' and is_joined(response)
        client.close()
    leader.reset()
    origin.allow(4)
    for client in others:
        assert whole(client).body == upto(Http, 3)
    assert scene.asked() == 1


def test_an_old_client_joins_too(world):
    origin = Gated(Http, FRESH)
    scene = Scene(world, Http, origin)
    leader = scene.lead()
    old = Client(scene.gateway.address)
    old.send('GET /x HTTP/1.0\r\nHost: t\r\n\r\n')
    scene.wait_active(2)
    origin.allow(4)
    assert old.response().body == whole(leader).body == upto(Http, 3)
    assert scene.asked() == 1


@each_width
def test_who_comes_late_gets_nothing_that_has_become_stale(world, workers):
    def late(fields, asks='', seconds=0.05):
        """The answers of two that came before the head, and of one that came `seconds` after."""
        origin = Gated(Http, fields)
        scene = Scene(world, Http, origin, workers)
        clients = [scene.lead(fields=asks), scene.ask(fields=asks)]
        scene.wait_active(2)
        origin.allow(2)
        for client in clients:
            take(client, 100)
        time.sleep(seconds)
        clients.append(scene.ask(fields=asks))
        take(clients[-1], 100)
        asked = scene.asked()
        origin.allow(4)
        answers = [whole(client) for client in clients]
        assert all(r.body == upto(Http, 3) for r in answers)
        assert is_joined(answers[1]) and is_joined(answers[2]) == (asked == 1)
        return asked, answers[2]
    asked, answer = late('Cache-Control: max-age=1\r\nETag: "a"\r\n', seconds=1.1)
    assert asked == 2 and 'detail="not-fresh"' in status_of(answer)
    assert late('Cache-Control: no-cache\r\nETag: "a"\r\n')[0] == 2
    assert late(FRESH, 'Cache-Control: no-cache\r\n')[0] == 2
    asked, answer = late(FRESH + 'Age: 10\r\nX-Last: 1\r\n', seconds=1.1)
    assert asked == 1 and 11 <= int(answer.fields['age']) <= 20 and answer.fields['x-last'] == '1'
    assert late(FRESH + 'Age: 10\r\n', 'Cache-Control: max-age=5\r\n')[0] == 2
    assert late('Cache-Control: max-age=1\r\n', 'Cache-Control: max-stale=60\r\n', 1.1)[0] == 1


# ---- what fails ----


@each_kind
@each_width
def test_a_failure_before_the_head_is_everybodys_and_nobody_asks_again(world, kind, workers):
    broken = threading.Event()
    failing = [True]

    def answer(peer, _request):
        if failing[0]:
            assert broken.wait(20)
            peer.reset()
            raise ConnectionError('as the test wants it')
        peer.send(head_of(kind) + framed(kind, upto(kind, 3), True))
    scene = Scene(world, kind, answer, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(12)]
    scene.wait_active(13)
    broken.set()
    for client in clients:
        response = whole(client)
        assert response.status == 502, response
    assert scene.asked() == 1
    failing[0] = False
    assert whole(scene.ask()).body == upto(kind, 3), 'the next one does not suffer for it'
    wait_until(lambda: scene.not_stored('failed') == 1)


@each_kind
@each_width
def test_a_failure_in_the_body_looks_whole_to_nobody(world, kind, workers):
    broken = threading.Event()

    def answer(peer, _request):
        peer.send(head_of(kind) + framed(kind, kind.pieces[0]))
        assert broken.wait(20)
        peer.reset()
        raise ConnectionError('as the test wants it')
    scene = Scene(world, kind, answer, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(12)]
    for client in clients:
        assert take(client, len(kind.pieces[0])) == kind.pieces[0]
    broken.set()
    for client in clients:
        with pytest.raises(Ended):
            while client.fill():
                pass
            assert b'0\r\n\r\n' not in client.buffer
            assert (b'"error"' in client.buffer) == (kind is Events), 'a stream says what happened'
            raise Ended(client.how)
        client.close()
    assert scene.asked() == 1
    wait_until(lambda: scene.not_stored('failed') == 1)
    broken.clear()
    again = scene.ask()
    take(again, 100)
    assert scene.asked() == 2, 'it is kept by nobody'
    broken.set()
    again.close()


@each_width
@pytest.mark.parametrize('status', ['500 Oh', '503 Busy'])
def test_a_failing_origins_answer_serves_all_who_wait_for_it(world, workers, status):
    origin = Gated(Http, 'X-From: origin\r\n', status)
    scene = Scene(world, Http, origin, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(12)]
    scene.wait_active(13)
    origin.allow(4)
    for client in clients:
        response = whole(client)
        assert response.status == int(status[:3]) and response.body == upto(Http, 3)
    assert scene.asked() == 1


@each_width
def test_a_failing_origins_answer_goes_to_those_whom_it_fits(world, workers):
    origin = Gated(Http, 'Vary: Accept-Language\r\n', '503 Busy')
    scene = Scene(world, Http, origin, workers)
    clients = [scene.lead(fields='Accept-Language: de\r\n')]
    clients += [scene.ask(fields=f'Accept-Language: {i}\r\n') for i in ('de', 'fr', 'de', 'de', 'fr')]
    scene.wait_active(6)
    origin.allow(4)
    assert {whole(client).status for client in clients} == {503}
    asked = [r.fields['accept-language'] for r in scene.backend.requests]
    assert asked.count('de') == 1 and 1 <= asked.count('fr') <= 2


# ---- what is not for others ----


class Personal(Gated):
    """Says something else each time: what `words` make of a number."""

    def __init__(self, kind, words, status='200 OK', gate=True):
        super().__init__(kind, status=status)
        self.words, self.count, self.lock = words, 0, threading.Lock()
        if not gate:
            self.allow(4)

    def fields_for(self, request):
        with self.lock:
            self.count += 1
            return self.kind.fields.replace(FRESH, '') + self.words.format(self.count) + f'X-Number: {self.count}\r\n'


PERSONAL = [
    ('Cache-Control: private, max-age=60\r\n', '200 OK', ''),
    ('Cache-Control: no-store\r\n', '200 OK', ''),
    ('Cache-Control: max-age=60\r\nSet-Cookie: id={}\r\n', '200 OK', ''),
    ('Set-Cookie: id={}\r\n', '200 OK', ''),
    ('Cache-Control: max-age=60\r\nVary: *\r\n', '200 OK', ''),
    ('Cache-Control: max-age=60, private="x-own"\r\nX-Own: {}\r\n', '200 OK', ''),
    ('Cache-Control: max-age=60, no-cache="set-cookie"\r\nSet-Cookie: id={}\r\n', '200 OK', ''),
    ('', '200 OK', 'Authorization: Bearer {}\r\n'),
    ('Cache-Control: max-age=60\r\n', '200 OK', 'Authorization: Bearer {}\r\n'),
    ('Cache-Control: private\r\n', '500 Oh', ''),
    ('Set-Cookie: id={}\r\n', '500 Oh', ''),
    ('Cache-Control: max-age=60\r\nSet-Cookie: id={}\r\n', '503 Busy', ''),
    ('Vary: *\r\n', '500 Oh', ''),
    ('Cache-Control: must-understand, private\r\n', '599 Odd', ''),
    ('', '500 Oh', 'Authorization: Bearer {}\r\n'),
    ('', '302 Found\r\nLocation: /{}', ''),
    ('', '401 Unauthorized', ''),
    ('', '403 Forbidden', ''),
    ('', '429 Too Many Requests', ''),
]


@each_width
@pytest.mark.parametrize('words,status,asks', PERSONAL)
def test_what_is_one_clients_own_goes_to_nobody_else(world, words, status, asks, workers):
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


# ---- limits ----


def large(kind, is_chunked, times=20):
    return type('Large', (kind,), {'pieces': [p * times for p in kind.pieces[:2]] + [kind.pieces[2]],
                                   'chunked': is_chunked})


@pytest.mark.parametrize('kind', [Http, Events], ids=['http', 'events'])
@each_width
@pytest.mark.parametrize('is_chunked', [True, False])
def test_what_is_too_large_to_keep_goes_to_all_who_came_in_time(world, kind, workers, is_chunked):
    """The length is known with the head, or turns out on the way."""
    kind = large(kind, is_chunked)
    origin = Gated(kind)
    most = len(kind.pieces[0]) + 1000
    scene = Scene(world, kind, origin, workers, cache={'object_bytes_max': most})
    clients = [scene.lead()] + [scene.ask() for _ in range(8)]
    scene.wait_active(9)
    origin.allow(2)
    if is_chunked:  # it may still prove small enough
        clients += [scene.ask() for _ in range(4)]
    for client in clients:
        assert take(client, len(kind.pieces[0])) == kind.pieces[0]
    assert scene.asked() == 1
    origin.allow(3)
    for client in clients:
        assert take(client, most + 1) == upto(kind, 2)[:most + 1]
    late = [scene.ask() for _ in range(4)]
    for client in late:
        assert take(client, 100) == kind.pieces[0][:100]
    assert scene.asked() == 5, 'what has gone already cannot be given to who comes now'
    origin.allow(4)
    for client in clients + late:
        assert whole(client).body == upto(kind, 3)
    assert all('detail="not-collapsed"' in status_of(c.answer) and not is_joined(c.answer) for c in late)
    wait_until(lambda: scene.not_stored('too-large') == 5)
    assert not is_hit(whole(scene.ask()))
    if not is_chunked:
        assert 'detail="too-large"' in status_of(clients[0].answer) and 'stored' not in status_of(clients[0].answer)


@each_kind
@each_width
def test_no_more_wait_than_are_allowed_to(world, kind, workers):
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers, {'coalesce_waiters_max': 3})
    clients = [scene.lead()] + [scene.ask() for _ in range(9)]
    wait_until(lambda: scene.asked() == 7, what='those who do not fit go upstream')
    scene.wait_active(10)
    assert scene.asked() == 7
    origin.allow(4)
    answers = [whole(client) for client in clients]
    assert sum(is_joined(r) for r in answers) == 3
    assert sum('detail="not-collapsed"' in status_of(r) for r in answers) == 6


@each_kind
@each_width
def test_who_has_waited_long_enough_goes_alone(world, kind, workers):
    origin = Gated(kind)
    first = threading.Event()

    def answer(peer, request):
        if not first.is_set():
            first.set()
            origin.answer(peer, request)
        else:
            peer.send(head_of(kind) + framed(kind, upto(kind, 3), True))
    scene = Scene(world, kind, answer, workers, {'coalesce_wait_ms': 300})
    leader = scene.lead()
    began = time.monotonic()
    others = [scene.ask() for _ in range(6)]
    for other in others:
        response = whole(other)
        assert response.body == upto(kind, 3)
        assert 'detail="wait-timeout"' in status_of(response) and not is_joined(response)
    assert 0.3 <= time.monotonic() - began < (10 if SANITIZED else 3) and scene.asked() == 7
    origin.allow(4)
    assert whole(leader).body == upto(kind, 3)


@each_kind
@each_width
def test_who_has_the_head_waits_for_the_rest(world, kind, workers):
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers, {'coalesce_wait_ms': 100})
    origin.allow(2)
    clients = [scene.lead()]
    take(clients[0], 1)
    clients += [scene.ask() for _ in range(6)]
    for client in clients:
        take(client, len(kind.pieces[0]))
    time.sleep(0.3)
    origin.allow(4)
    for client in clients:
        assert whole(client).body == upto(kind, 3)
    assert scene.asked() == 1


@each_width
def test_a_slow_reader_of_what_can_be_kept_holds_nobody_up(world, workers):
    kind = large(Http, False, 200)  # 12 MB
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers)
    leader = scene.lead()
    slow = scene.ask(receive_buffer=4096)
    fast = [scene.ask() for _ in range(4)]
    scene.wait_active(6)
    origin.allow(4)
    for client in [leader] + fast:
        assert whole(client).body == upto(kind, 3)
    assert is_hit(scene.stored()), 'it is stored while one still reads'
    assert whole(slow).body == upto(kind, 3), 'and that one catches up'
    assert scene.asked() == 1


@each_width
def test_a_slow_reader_of_what_is_too_large_is_left_behind(world, workers):
    kind = large(Http, False, 500)  # 30 MB
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers, cache={'object_bytes_max': '1MB'}, limits={'send_timeout_ms': 700})
    fast = [scene.lead()]
    slow = [scene.ask(receive_buffer=4096) for _ in range(2)]
    fast += [scene.ask() for _ in range(4)]
    scene.wait_active(7)
    origin.allow(4)
    began = time.monotonic()
    readers = [threading.Thread(target=whole, args=(client,)) for client in fast]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert time.monotonic() - began < (20 if SANITIZED else 6)
    for client in fast:
        assert client.answer.body == upto(kind, 3)
    for client in slow:
        with pytest.raises(Ended):
            whole(client)
    assert scene.asked() == 1


def raise_limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < 4 * CROWD:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4 * CROWD), hard))


@each_kind
@each_width
def test_a_thousand_at_once_cost_one_request_upstream(world, kind, workers):
    raise_limit()
    origin = Gated(kind)
    scene = Scene(world, kind, origin, workers)
    clients = [scene.ask() for _ in range(CROWD)]
    wait_until(lambda: scene.gateway.metrics().value('sluice_active_requests') == CROWD, 60, 'all of them')
    origin.allow(4)
    for client in clients:
        assert whole(client).body == upto(kind, 3)
    assert scene.asked() == 1
    wait_until(lambda: sum(scene.results().values()) == CROWD)
    assert scene.results()['miss'] == 1 and scene.results()['join'] == CROWD - 1


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
