"""Requests for the same at the same time share one answer under way: how they join it, and what becomes of the others
when one of them, or the origin, fails. Who must not share, and what is the same: test_coalescing_rules.py."""

import random
import resource
import threading
import time

import pytest
from programs import SANITIZED
from rawhttp import Client, Ended, wait_until
from scenes import (FRESH, Events, Gated, Http, Personal, Scene, each_inference, each_kind, each_width, framed, head_of,
                    is_hit, is_joined, large, status_of, take, upto, whole)

CROWD = 1000


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


@each_width
@pytest.mark.parametrize('framing', ['length', 'chunked', 'trailers', 'close', 'empty', '204'])
def test_every_framing_is_shared(world, workers, framing):
    body = b'' if framing in ('empty', '204') else upto(Http, 3)
    gates = [threading.Event(), threading.Event()]

    def answer(peer, _request):
        half = len(body) // 2
        is_chunked = framing in ('chunked', 'trailers')
        lines = {'length': f'Content-Length: {len(body)}', 'empty': 'Content-Length: 0', 'close': 'Connection: close',
                 '204': 'X-Nothing: 1'}.get(framing, 'Transfer-Encoding: chunked')
        status = '204 No Content' if framing == '204' else '200 OK'
        assert gates[0].wait(20)
        peer.send(f'HTTP/1.1 {status}\r\n{FRESH}{lines}\r\n\r\n')
        peer.send(b'%x\r\n%s\r\n' % (half, body[:half]) if is_chunked else body[:half])
        assert gates[1].wait(20)
        peer.send(b'%x\r\n%s\r\n0\r\n' % (half, body[half:]) if is_chunked else body[half:])
        if is_chunked:
            peer.send('X-Sum: 1\r\n\r\n' if framing == 'trailers' else '\r\n')
        if framing == 'close':
            peer.half_close()
    scene = Scene(world, Http, answer, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(8)]
    scene.wait_active(9)
    gates[0].set()
    if body:
        for client in clients:
            take(client, len(body) // 2)
        clients += [scene.ask() for _ in range(8)]
    gates[1].set()
    for client in clients:
        response = whole(client)
        assert response.body == body and response.status == (204 if framing == '204' else 200)
        if framing == 'trailers' and 'transfer-encoding' in response.fields:
            assert response.trailers['x-sum'] == '1'
    assert scene.asked() == 1


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


@each_inference
@each_width
@pytest.mark.parametrize('status', ['400 Bad Request', '500 Oh', '503 Busy'])
def test_a_backends_error_is_asked_for_once(world, kind, workers, status):
    origin = Personal(kind, '', status)
    scene = Scene(world, kind, origin, workers)
    clients = [scene.lead()] + [scene.ask() for _ in range(10)]
    scene.wait_active(11)
    origin.allow(4)
    answers = [whole(client) for client in clients]
    assert {(r.status, r.fields['x-number']) for r in answers} == {(int(status[:3]), '1')}
    assert scene.asked() == 1 and not is_hit(whole(scene.ask()))


# ---- limits ----


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
    answers = [whole(other) for other in others]
    took = time.monotonic() - began
    origin.allow(4)
    for response in answers:  # the last of them may find what the first has fetched
        assert response.body == upto(kind, 3)
        assert is_hit(response) or 'detail="wait-timeout"' in status_of(response) and not is_joined(response)
    assert scene.asked() == 1 + sum(not is_hit(r) for r in answers) >= 2
    assert 0.3 <= took < (10 if SANITIZED else 3)
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


def test_the_little_behind_a_long_send_is_followed_by_the_rest_at_once(world, tmp_path):
    """Clients join at every 8 KB and then leave off reading. For some a send of nearly what an outbox takes stops half
    way, a little more comes behind it, and the rest finds no room. When such a client reads on, nothing else happens
    on its worker: only the end of the little can move the rest. How much a socket takes is the kernel's to say, so
    that the clients differ in how much they read at first."""
    steps = 30
    pieces = [b'a' * 160_000] + [b'%c' % (97 + n % 26) * 8176 for n in range(steps)] + [b'z' * 500_000]
    kind = type('Steps', (Http,), {'pieces': pieces})
    origin = Gated(kind)
    origin.steps = [threading.Event() for _ in range(1 + len(pieces))]
    path = f'unix:{tmp_path}/sluice.sock'  # these take as much at any time
    scene = Scene(world, kind, origin, listeners=[{'address': '127.0.0.1:0'}, {'address': path}])
    leader = scene.lead()
    clients = []
    for n in range(1, 2 + steps):
        origin.allow(1 + n)
        take(leader, len(upto(kind, n)))
        for at_first in range(1, 80_000, 10_000):
            client = scene.ask(address=path)
            while len(client.buffer) < at_first:
                client.buffer += client.sock.recv(at_first - len(client.buffer))
            clients.append(client)
    origin.allow(1 + len(pieces))
    assert whole(leader).body == upto(kind, len(pieces))
    for client in clients:
        began = time.monotonic()
        assert whole(client).body == upto(kind, len(pieces))
        assert time.monotonic() - began < (4 if SANITIZED else 1)
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
    results = scene.results()  # who was late to join finds it stored
    assert results['miss'] == 1 and results['join'] + results['hit'] == CROWD - 1 and results['join'] > 0


@each_width
def test_whoever_comes_and_goes_gets_the_right_answer_or_none(world, workers):
    """Clients of both kinds that join and leave at any moment, an origin that breaks off now and then."""
    chance = random.Random(1)
    lock = threading.Lock()

    def draw(most):
        with lock:
            return chance.random() * most

    def text_of(path):
        return (path.encode() + b' ') * 4000

    def answer(peer, request):
        text = text_of(request.target)
        time.sleep(draw(0.01))
        fate = draw(10)
        fields = FRESH if fate < 6 else 'Cache-Control: private\r\n' if fate < 8 else 'Cache-Control: max-age=0\r\n'
        peer.send(f'HTTP/1.1 200 OK\r\nContent-Length: {len(text)}\r\n{fields}Vary: X-Who\r\n'
                  f'X-For: {request.fields.get("x-who")}\r\n\r\n')
        for at in range(0, len(text), 8000):
            time.sleep(draw(0.004))
            if draw(100) < 3:
                peer.reset()
                raise ConnectionError('as the test wants it')
            peer.send(text[at:at + 8000])
    scene = Scene(world, Http, answer, workers, {'coalesce_wait_ms': 8, 'coalesce_waiters_max': 6},
                  cache={'memory': '1MB', 'object_bytes_max': 60_000})
    wrong, right = [], []

    def visit():
        for number in range(40):
            path, who = f'/{number}', 'ab'[int(draw(2))]
            try:
                client = Client(scene.gateway.address)
                client.send(f'GET {path} HTTP/1.1\r\nHost: t\r\nX-Who: {who}\r\n\r\n')
                if draw(10) < 3:
                    time.sleep(draw(0.02))
                    client.reset()
                    continue
                response = client.response()
                client.close()
                if response.status == 200 and (response.body != text_of(path) or response.fields['x-for'] != who):
                    wrong.append((path, who, response))
                elif response.status == 200:
                    right.append(response)
            except Ended:
                pass
    visitors = [threading.Thread(target=visit) for _ in range(24)]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert not wrong and len(right) > 300
    wait_until(lambda: scene.gateway.metrics().value('sluice_active_requests') == 0, what='that nothing is left')
    wait_until(lambda: scene.gateway.metrics().value('sluice_endpoint_in_flight') == 0)
