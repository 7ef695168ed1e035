"""Bodies on their way to a backend: every framing, every limit, and what happens when one is wrong."""

import json
import os
import threading
import time

import pytest
from backend import OK, echo, keep_answering
from programs import http_route, inference_route, respond_route
from rawhttp import Client, Ended, post, wait_until


@pytest.fixture(scope='module')
def backend(module_world):
    return module_world.backend(keep_answering(echo))


@pytest.fixture(scope='module')
def gateway(module_world, backend):
    return module_world.gateway(endpoints=[backend], routes=[
        http_route(), inference_route(path='/v1'), respond_route('/fixed', body='fixed')])


def chunked(*pieces, trailers=''):
    body = b''.join(b'%x\r\n' % len(p) + p + b'\r\n' for p in pieces)
    return body + b'0\r\n' + trailers.encode() + b'\r\n'


def head_of(path='/', fields='', method='POST'):
    return f'{method} {path} HTTP/1.1\r\nHost: t\r\n{fields}\r\n'.encode('latin-1')


# ---- what passes

@pytest.mark.parametrize('path', ['/stream', '/v1/buffered'])
@pytest.mark.parametrize('size', [0, 1, 4096, 70_000, 3_000_000])
def test_a_body_of_known_length_arrives_byte_for_byte(gateway, path, size):
    body = os.urandom(size)
    response = post(gateway.address, path, body)
    assert response.status == 200 and response.body == body


@pytest.mark.parametrize('path', ['/stream', '/v1/buffered'])
def test_a_chunked_body_arrives_byte_for_byte(gateway, backend, path):
    pieces = [os.urandom(n) for n in (1, 10, 1000, 65_536, 200_000, 7)]
    with Client(gateway.address) as client:
        client.send(head_of(path, 'Transfer-Encoding: chunked\r\n') + chunked(*pieces))
        assert client.response().body == b''.join(pieces)
        client.send(head_of(path, 'Transfer-Encoding: Chunked\r\n') + chunked())  # the name's case does not matter
        assert client.response().body == b''
    assert backend.requests[-1].body == b''


def test_a_streamed_body_keeps_its_framing(gateway, backend):
    post(gateway.address, '/framing', 'abc')
    assert backend.requests[-1].fields['content-length'] == '3'
    with Client(gateway.address) as client:
        client.send(head_of('/framing', 'Transfer-Encoding: chunked\r\n') + chunked(b'abc'))
        client.response()
    assert backend.requests[-1].fields['transfer-encoding'] == 'chunked'


def test_a_buffered_body_has_a_length_upstream(gateway, backend):
    with Client(gateway.address) as client:
        client.send(head_of('/v1/x', 'Transfer-Encoding: chunked\r\n') + chunked(b'abc', b'def'))
        assert client.response().body == b'abcdef'
    assert backend.requests[-1].fields['content-length'] == '6'


def test_a_request_without_a_body_gets_no_framing(gateway, backend):
    for method in ('GET', 'DELETE'):
        with Client(gateway.address) as client:
            assert client.request(head_of('/none', method=method)).status == 200
        assert 'transfer-encoding' not in backend.requests[-1].fields
        assert backend.requests[-1].fields.get('content-length') in (None, '0')


def test_content_length_zero_is_passed_on(gateway, backend):
    with Client(gateway.address) as client:
        assert client.request(head_of('/zero', 'Content-Length: 0\r\n')).status == 200
    assert backend.requests[-1].fields['content-length'] == '0'


def test_trailers_pass_to_the_backend(gateway, backend):
    with Client(gateway.address) as client:
        client.send(head_of('/t', 'Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n') + chunked(b'abc', trailers='X-Sum: 42\r\n'))
        assert client.response().body == b'abc'
    assert backend.requests[-1].trailers.get('x-sum') == '42'


@pytest.mark.parametrize('name', ['Transfer-Encoding: chunked', 'Content-Length: 5', 'Host: evil', 'Connection: close',
                                  'Trailer: X', 'Content-Type: text/html', 'Authorization: Basic eA=='])
def test_trailers_that_would_change_framing_never_reach_the_backend(gateway, backend, name):
    count = len(backend.requests)
    with Client(gateway.address) as client:
        client.send(head_of('/bad-trailer', 'Transfer-Encoding: chunked\r\n') + chunked(b'abc', trailers=name + '\r\n'))
        response = client.response()
        if response.status == 400:
            assert client.end() == 'fin'
        else:  # dropped
            assert response.status == 200
            assert name.split(':')[0] not in backend.requests[-1].trailers
    framing = name.split(':')[0] in ('Transfer-Encoding', 'Content-Length', 'Host')
    if framing:
        assert response.status == 400
        assert all(r.trailers is None for r in backend.requests[count:])


def test_chunk_extensions_are_not_passed_on(gateway, backend):
    with Client(gateway.address) as client:
        client.send(head_of('/ext', 'Transfer-Encoding: chunked\r\n') + b'3;a=b\r\nabc\r\n0;c="d e"\r\n\r\n')
        assert client.response().body == b'abc'


@pytest.mark.parametrize('path', ['/slow', '/v1/slow', '/fixed'])
def test_a_body_that_comes_byte_by_byte_is_taken(gateway, path):
    with Client(gateway.address) as client:
        client.send_slowly(head_of(path, 'Transfer-Encoding: chunked\r\n') +
                           chunked(b'hello ', b'slow ', b'world', trailers='X-End: 1\r\n'), pause=0.0005)
        assert client.response().body in (b'hello slow world', b'fixed')
        client.send_slowly(head_of(path, 'Content-Length: 12\r\n') + b'hello again!', pause=0.0005)
        assert client.response().body in (b'hello again!', b'fixed')


def test_an_upload_streams_before_it_is_complete(world):
    seen = threading.Event()

    def script(peer):
        request = peer.request(body=False)
        assert peer.need(6) == b'first '
        seen.set()
        assert peer.need(6) == b'second'
        peer.answer(b'both')
        assert request.fields['content-length'] == '12'
    _, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        client.send(head_of('/', 'Content-Length: 12\r\n') + b'first ')
        assert seen.wait(5), 'the first half did not arrive while the second was still to come'
        client.send(b'second')
        assert client.response().body == b'both'


# ---- Expect

@pytest.mark.parametrize('path', ['/stream', '/v1/buffered', '/fixed'])
def test_expect_gets_100_before_the_body(gateway, backend, path):
    with Client(gateway.address) as client:
        client.send(head_of(path, 'Content-Length: 5\r\nExpect: 100-continue\r\n'))
        assert client.head().status == 100
        client.send(b'hello')
        assert client.response().body in (b'hello', b'fixed')
    if path != '/fixed':
        assert 'expect' not in backend.requests[-1].fields


def test_expect_without_a_body_gets_no_100(gateway):
    with Client(gateway.address) as client:
        client.send(head_of('/fixed', 'Expect: 100-continue\r\n', method='GET'))
        assert client.head().status == 200


def test_an_http_1_0_client_gets_no_100(gateway):
    with Client(gateway.address) as client:
        client.send('POST /stream HTTP/1.0\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello')
        assert client.head().status == 200


def test_expect_with_a_body_too_large_gets_413_instead_of_100(world):
    backend, gateway = world.in_front_of(routes=[http_route(body_bytes_max=10), inference_route(path='/v1', body_bytes_max=10)])
    for path in ('/', '/v1'):
        with Client(gateway.address) as client:
            client.send(head_of(path, 'Content-Length: 11\r\nExpect: 100-continue\r\n'))
            response = client.head()
            assert response.status == 413
            assert not response.keeps_alive()
    assert backend.received == 0


def test_another_expectation_is_refused_or_passed_but_not_answered_with_100(gateway):
    with Client(gateway.address) as client:
        client.send(head_of('/fixed', 'Content-Length: 2\r\nExpect: miracles\r\n') + b'ab')
        assert client.head().status in (200, 417, 400)


# ---- limits

def test_a_body_over_the_limit_gets_413_at_once_when_its_length_says_so(world):
    backend, gateway = world.in_front_of(routes=[http_route(body_bytes_max=1000), inference_route(path='/v1', body_bytes_max=1000)])
    for path in ('/', '/v1/x'):
        with Client(gateway.address) as client:
            client.send(head_of(path, 'Content-Length: 1001\r\n'))
            response = client.response()
            assert response.status == 413 and not response.keeps_alive()
    assert json.loads(response.body)['error']['code'] == 'body_too_large'
    assert backend.received == 0
    assert post(gateway.address, '/', b'x' * 1000).status == 200
    assert post(gateway.address, '/v1/x', b'x' * 1000).status == 200


@pytest.mark.parametrize('path', ['/', '/v1'])
def test_a_chunked_body_over_the_limit_gets_413_when_it_gets_there(world, path):
    ended = []

    def script(peer):
        try:
            if peer.request() is None:
                ended.append('before its head')
            else:
                peer.answer(b'taken for whole')
        except Ended as e:
            ended.append(e.how)
    backend, gateway = world.in_front_of(script, routes=[
        http_route(body_bytes_max=100_000), inference_route(path='/v1', body_bytes_max=100_000)])
    with Client(gateway.address) as client:
        client.send(head_of(path, 'Transfer-Encoding: chunked\r\n'))
        try:
            for _ in range(40):
                client.send(b'2710\r\n' + b'x' * 10_000 + b'\r\n')
        except ConnectionError:
            pass
        response = client.response()
        assert response.status == 413 and not response.keeps_alive()
    if path == '/v1':
        assert backend.received == 0
    else:
        wait_until(lambda: len(ended) == backend.connections, what='the upload is aborted upstream')
        assert all(r.body is None for r in backend.requests)


def test_a_body_that_is_too_slow_gets_408(world):
    ended = []

    def script(peer):
        try:
            peer.request()
            peer.answer(b'taken for whole')
        except Ended as e:
            ended.append(e.how)
    backend, gateway = world.in_front_of(script, routes=[http_route(), inference_route(path='/v1'), respond_route('/fixed')],
                                         limits={'body_rate_bytes_min': 10_000, 'body_grace_ms': 200})
    for path in ('/', '/v1', '/fixed'):
        with Client(gateway.address) as client:
            client.send(head_of(path, 'Content-Length: 100000\r\n') + b'x' * 1000)
            start = time.monotonic()
            response = client.response()
            assert response.status == 408 and not response.keeps_alive()
            assert 0.1 < time.monotonic() - start < 3
    wait_until(lambda: len(ended) == 1, what='the streamed one is aborted upstream')
    assert backend.requests[0].body is None
    # One that keeps the pace may take longer than the grace.
    with Client(gateway.address) as client:
        client.send(head_of('/v1', 'Content-Length: 20000\r\n'))
        for _ in range(20):
            client.send(b'x' * 1000)
            time.sleep(0.025)
        assert client.response().status == 200


def test_a_body_that_we_held_back_is_timed_again_when_it_goes_on(world):
    go = threading.Event()

    def script(peer):
        peer.request(body=False)
        go.wait(10)
        peer.wait_end()
    _, gateway = world.in_front_of(script, routes=[http_route()],
                                   limits={'body_rate_bytes_min': 10_000_000, 'body_grace_ms': 300})
    with Client(gateway.address) as client:
        client.send(head_of('/', 'Content-Length: 100000000\r\n'))
        sender = threading.Thread(target=client.send, args=(b'x' * 30_000_000,), daemon=True)
        sender.start()
        time.sleep(1)
        assert sender.is_alive() and client.is_open()  # held back, for longer than the grace: not the client's fault
        go.set()
        sender.join(10)
        assert not sender.is_alive()
        assert client.response().status == 408  # the rest does not come


# ---- faults

BAD_BODIES = {
    'a chunk size that is no number': b'xyz\r\nabc\r\n0\r\n\r\n',
    'an empty chunk size': b'\r\nabc\r\n0\r\n\r\n',
    'a chunk size with a sign': b'+3\r\nabc\r\n0\r\n\r\n',
    'a negative chunk size': b'-3\r\nabc\r\n0\r\n\r\n',
    'a chunk size with 0x': b'0x3\r\nabc\r\n0\r\n\r\n',
    'a chunk size behind a space': b' 3\r\nabc\r\n0\r\n\r\n',
    'a chunk size with a space behind it': b'3 \r\nabc\r\n0\r\n\r\n',
    'a chunk size that overflows 64 bits': b'10000000000000003\r\nabc\r\n0\r\n\r\n',
    'a chunk size of 2^64 - 1': b'ffffffffffffffff\r\nabc\r\n0\r\n\r\n',
    'a chunk longer than it said': b'3\r\nabcd\r\n0\r\n\r\n',
    'a chunk shorter than it said': b'5\r\nabc\r\n0\r\n\r\nxx',
    'a bare LF behind the size': b'3\nabc\r\n0\r\n\r\n',
    'a bare LF behind the data': b'3\r\nabc\n0\r\n\r\n',
    'a bare CR behind the size': b'3\rabc\r\n0\r\n\r\n',
    'a NUL in an extension': b'3;a=\0\r\nabc\r\n0\r\n\r\n',
    'a bare LF in an extension': b'3;a\nb\r\nabc\r\n0\r\n\r\n',
    'a bad trailer line': b'3\r\nabc\r\n0\r\nnonsense\r\n\r\n',
    'a trailer with a space before its colon': b'3\r\nabc\r\n0\r\nX : y\r\n\r\n',
    'a folded trailer': b'3\r\nabc\r\n0\r\nX: y\r\n z\r\n\r\n',
    'a bare LF at the end of the trailers': b'3\r\nabc\r\n0\r\nX: y\r\n\n',
    'a bare LF behind the last chunk': b'3\r\nabc\r\n0\n\n',
    'endless trailers': b'3\r\nabc\r\n0\r\n' + b'X: y\r\n' * 20_000 + b'\r\n',
    'an endless extension': b'3;' + b'a' * 200_000 + b'\r\nabc\r\n0\r\n\r\n',
    'endless zeros': b'0' * 100_000 + b'3\r\nabc\r\n0\r\n\r\n',
}


@pytest.fixture(scope='module')
def recorder(module_world):
    """Answers only bodies that are complete."""
    return module_world.backend(keep_answering(OK))


@pytest.fixture(scope='module')
def strict(module_world, recorder):
    return module_world.gateway(endpoints=[recorder], routes=[
        http_route(), inference_route(path='/v1'), respond_route('/fixed')])


@pytest.mark.parametrize('cut', ['whole', 'later'])
@pytest.mark.parametrize('path', ['/', '/v1', '/fixed'])
@pytest.mark.parametrize('name', BAD_BODIES)
def test_a_body_with_a_fault_is_never_complete_for_the_backend(strict, recorder, name, path, cut):
    count, connections = len(recorder.requests), recorder.connections
    with Client(strict.address) as client:
        client.send(head_of(path, 'Transfer-Encoding: chunked\r\n') + (b'' if cut == 'whole' else b'1\r\na\r\n'))
        if cut == 'later':
            client.is_open(0.01)
        try:
            client.send(BAD_BODIES[name] + b'GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n')
        except ConnectionError:
            pass
        response = client.response()
        assert response.status in (400, 413, 431), response
        assert not response.keeps_alive()
        assert client.end() == 'fin'
    if path != '/':
        assert (len(recorder.requests), recorder.connections) == (count, connections)
    else:
        wait_until(lambda: all(p.how or p.sock.fileno() < 0 for p in recorder.peers[connections:]),
                   what='the upstream connection is given up')
    assert all(r.body is None for r in recorder.requests[count:])
    assert not any(r.target == '/smuggled' for r in recorder.requests)


@pytest.mark.parametrize('how', ['fin', 'reset'])
@pytest.mark.parametrize('framing', ['length', 'chunked'])
@pytest.mark.parametrize('path', ['/', '/v1'])
def test_a_body_that_is_cut_off_is_never_complete_for_the_backend(strict, recorder, path, framing, how):
    count, connections = len(recorder.requests), recorder.connections
    client = Client(strict.address)
    if framing == 'length':
        client.send(head_of(path, 'Content-Length: 100000\r\n') + b'x' * 99_999)
    else:
        client.send(head_of(path, 'Transfer-Encoding: chunked\r\n') + b'3\r\nabc\r\n0\r\n')
    if path == '/':
        wait_until(lambda: len(recorder.requests) > count, what='the upload has begun')
    client.reset() if how == 'reset' else client.close()
    if path == '/':
        wait_until(lambda: all(p.how or p.sock.fileno() < 0 for p in recorder.peers[connections:]),
                   what='the upload is aborted')
        assert all(r.body is None for r in recorder.requests[count:])
    else:
        time.sleep(0.05)
        assert len(recorder.requests) == count
    assert post(strict.address, path, 'fine').status == 200


def test_the_backend_sees_a_reset_when_an_upload_of_known_length_is_cut_off(world):
    """By FIN alone a lenient backend might take what came for all there is."""
    ended = []

    def script(peer):
        peer.request(body=False)
        ended.append(peer.wait_end())
    backend, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        client.send(head_of('/', 'Content-Length: 100\r\n') + b'x' * 50)
        wait_until(lambda: backend.received > 50)
    wait_until(lambda: ended)
    assert ended == ['reset']


# ---- early answers and lingering

def test_a_client_that_sends_all_before_it_reads_gets_the_error_and_no_reset(world):
    _, gateway = world.in_front_of(routes=[http_route(body_bytes_max=1000), respond_route('/fixed')],
                                   limits={'linger_timeout_ms': 5000})
    body = b'x' * 3_000_000
    for _ in range(5):
        with Client(gateway.address) as client:
            client.send(head_of('/', f'Content-Length: {len(body)}\r\n'))
            client.send(body)  # would fail, were the connection reset
            client.half_close()
            response = client.response()
            assert response.status == 413
            assert client.end() == 'fin'
    with Client(gateway.address) as client:  # a head that is wrong
        client.send(b'PUT /fixed HTTP/1.1\r\nHost: a b\r\nContent-Length: 3000000\r\n\r\n')
        client.send(body)
        client.half_close()
        assert client.response().status == 400
        assert client.end() == 'fin'


def test_lingering_ends(world):
    _, gateway = world.in_front_of(routes=[http_route(body_bytes_max=10)], limits={'linger_timeout_ms': 300})
    with Client(gateway.address) as client:
        client.send(head_of('/', 'Content-Length: 1000000\r\n'))
        assert client.response().status == 413
        start = time.monotonic()
        ended = False
        while time.monotonic() - start < 5:  # a client that never stops sending
            try:
                client.send(b'x' * 100)
            except ConnectionError:
                ended = True
                break
            time.sleep(0.02)
        assert ended and time.monotonic() - start < 3


def test_an_answer_that_comes_before_the_body_was_read_reaches_the_client(world):
    """A backend refuses an upload early; the client is still sending."""
    def script(peer):
        peer.request(body=False)
        peer.answer(b'too much', status='413 Content Too Large', fields='Connection: close\r\n')
        peer.half_close()
        peer.wait_end()
    _, gateway = world.in_front_of(script, limits={'linger_timeout_ms': 5000})
    for size in (200_000, 20_000_000):
        with Client(gateway.address) as client:
            client.send(head_of('/', f'Content-Length: {size}\r\n'))
            client.send(b'x' * size)
            response = client.response()
            assert response.status == 413 and response.body == b'too much'


def test_an_early_answer_and_a_reset_from_the_backend_reach_the_client(world):
    """The unkind sort: it answers and closes with bytes unread, so that a reset follows its answer."""
    def script(peer):
        peer.request(body=False)
        peer.answer(b'too much', status='413 Content Too Large', fields='Connection: close\r\n')
        time.sleep(0.05)
    _, gateway = world.in_front_of(script, limits={'linger_timeout_ms': 5000})
    for _ in range(5):
        with Client(gateway.address) as client:
            client.send(head_of('/', 'Content-Length: 20000000\r\n'))
            client.send(b'x' * 20_000_000)
            response = client.response()
            assert response.status == 413 and response.body == b'too much'
