"""What the gateway makes of backends: bad answers, no answers, dead connections, many endpoints."""

import json
import socket
import threading
import time

import pytest
from backend import OK, keep_answering
from programs import RECEIVE_BUFFERS_KB, http_route, inference_route
from rawhttp import Client, Ended, get, post, wait_until

GET = 'GET {} HTTP/1.1\r\nHost: t\r\n\r\n'


def closed_port():
    """A port that nobody listens on: bound, so that nobody else takes it, and not listening."""
    sock = socket.socket()
    sock.bind(('127.0.0.1', 0))
    return sock


# ---- answers that must not be believed

BAD_HEADS = {
    'two content-lengths that differ': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc',
    'a list of content-lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nabc',
    'content-length with transfer-encoding': 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'a negative content-length': 'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
    'an unknown transfer-encoding': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: rot13\r\n\r\nabc',
    'chunked not last': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\nabc',
    'transfer-encoding in HTTP/1.0': 'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'a space before the colon': 'HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nok',
    'obs-fold': 'HTTP/1.1 200 OK\r\nX: y\r\n z\r\nContent-Length: 2\r\n\r\nok',
    'a bare LF': 'HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok',
    'a bare CR in a value': 'HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\nok',
    'NUL in a value': 'HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok',
    'garbage': 'I am not a web server\r\n\r\n',
    'an SSH banner': 'SSH-2.0-OpenSSH_9.2\r\n',
    'TLS': '\x15\x03\x01\x00\x02\x02\x16',
    'status 99': 'HTTP/1.1 99 Low\r\nContent-Length: 0\r\n\r\n',
    'a status of four digits': 'HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n',
    'a status that is no number': 'HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/2.0': 'HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n',
    'HTTP/0.9': '<html>hello</html>',
    'a flood of interim answers': 'HTTP/1.1 102 Processing\r\n\r\n' * 1000,
    'a switch of protocols nobody asked for': 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
    'a huge head': 'HTTP/1.1 200 OK\r\nX: ' + 'a' * 200_000 + '\r\n\r\n',
    'endless fields': 'HTTP/1.1 200 OK\r\n' + 'X: a\r\n' * 20_000 + '\r\n',
    'a head that ends early': 'HTTP/1.1 200 OK\r\nContent-Le',
    'nothing at all': '',
    'more than it said': 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison',
    'a body for a 204': 'HTTP/1.1 204 No Content\r\n\r\npoison',
    'an empty chunk size first': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc',
    'a bad chunk size first': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc',
}


@pytest.fixture(scope='module')
def liar(module_world):
    """Answers the request whose target is /NAME with BAD_HEADS[NAME], and others well."""
    def script(peer):
        while True:
            request = peer.request()
            if request is None:
                return
            name = request.fields.get('x-name')
            if name is None:
                peer.send(OK)
                continue
            peer.send(BAD_HEADS[name])
            if not name.startswith(('more', 'a body for')):
                peer.half_close()
                peer.wait_end()
                return
    return module_world.backend(script)


@pytest.fixture(scope='module')
def gateway(module_world, liar):
    return module_world.gateway(endpoints=[liar], routes=[http_route(), inference_route(path='/v1')])


@pytest.mark.parametrize('path', ['/', '/v1'])
@pytest.mark.parametrize('name', BAD_HEADS)
def test_a_bad_answer_becomes_502_and_its_connection_is_discarded(gateway, liar, name, path):
    with Client(gateway.address) as client:
        assert client.request(GET.format(path)).body == b'ok'
        used = liar.peers[-1]
        response = client.request(f'GET {path} HTTP/1.1\r\nHost: t\r\nX-Name: {name}\r\n\r\n')
        if name in ('more than it said', 'a body for a 204') and response.status != 502:
            # What was valid had gone out before the excess came; the excess is nobody's.
            assert (response.status, response.body) in ((200, b'ok'), (204, b''))
        else:
            assert response.status == 502, response
            assert b'poison' not in response.body
            if path == '/v1':
                assert json.loads(response.body)['error']['type'] == 'upstream_error'
        # The client's connection goes on; the backend's does not.
        assert client.request(GET.format(path)).body == b'ok'
    assert liar.peers[-1] is not used
    wait_until(lambda: used.sock.fileno() < 0 or used.how, what='the connection that lied is closed')


def test_extra_bytes_that_come_later_end_a_kept_connection(world):
    backend, gateway = world.in_front_of(lambda peer: (peer.request(), peer.send(OK), time.sleep(0.05), peer.send(OK), peer.wait_end()))
    with Client(gateway.address) as client:
        assert client.request(GET.format('/')).body == b'ok'
        time.sleep(0.15)
        assert client.request(GET.format('/')).body == b'ok'
    assert backend.connections == 2


BAD_BODIES = {
    'a bad chunk size': (b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n', b'hello'),
    'a chunk that overflows': (b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10000000000000000\r\n', b'hello'),
    'a chunk without its CR LF': (b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n3\r\nabcdef\r\n', b'hello'),
    'chunks that end early': (b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe', b'hellohe'),
    'chunks without the last': (b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n', b'hello'),
    'a body shorter than it said': (b'Content-Length: 10\r\n\r\nhello', b'hello'),
    'a bad trailer': (b'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX : y\r\n\r\n', b'hello'),
}


@pytest.mark.parametrize('end', ['fin', 'reset'])
@pytest.mark.parametrize('name', BAD_BODIES)
def test_an_answer_that_breaks_off_does_not_look_whole(world, name, end):
    data, _ = BAD_BODIES[name]

    def script(peer):
        peer.request()
        head, _, body = data.partition(b'\r\n\r\n')
        peer.send(b'HTTP/1.1 200 OK\r\n' + head + b'\r\n\r\n')
        time.sleep(0.02)  # the head has gone to the client by now
        peer.send(body[:8])
        time.sleep(0.02)
        peer.send(body[8:])
        time.sleep(0.02)
        if end == 'reset':
            peer.reset()
        else:
            peer.half_close()
            peer.wait_end()
    _, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        client.send(GET.format('/'))
        with pytest.raises(Ended):
            response = client.response()
            raise AssertionError(f'looks whole: {response}')
    assert gateway.metrics().value('errors_total', type='upstream_protocol') == 1


def test_an_http_1_0_client_sees_a_reset_when_an_answer_breaks_off(world):
    """Nothing but the kind of end can tell it that the end is not the end."""
    def script(peer):
        peer.request()
        peer.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n')
        time.sleep(0.05)
    _, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        client.send('GET / HTTP/1.0\r\n\r\n')
        with pytest.raises(Ended) as ended:
            client.response()
        assert ended.value.how == 'reset'


def test_an_answer_ended_by_the_connections_end_becomes_chunks(world):
    def script(peer):
        peer.request()
        peer.send('HTTP/1.1 200 OK\r\n\r\nhello')
        time.sleep(0.02)
        peer.send(' world')
    backend, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        for _ in range(2):
            response = client.request(GET.format('/'))
            assert response.body == b'hello world' and response.keeps_alive()
    assert backend.connections == 2


def test_an_http_1_0_backend_is_not_kept_unless_it_says_so(world):
    def answer(peer, request):
        del request
        peer.send('HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok')
    backend, gateway = world.in_front_of(keep_answering(answer))
    with Client(gateway.address) as client:
        for _ in range(3):
            assert client.request(GET.format('/')).body == b'ok'
    assert backend.connections == 3


def test_interim_answers_are_passed_over(world):
    _, gateway = world.in_front_of(keep_answering(
        b'HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n' + OK))
    with Client(gateway.address) as client:
        for _ in range(3):
            assert client.request(GET.format('/')).body == b'ok'


def test_an_answer_that_comes_byte_by_byte_is_read(world):
    def answer(peer, request):
        data = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nX-T: 1\r\n\r\n'
        for i in range(len(data)):
            peer.send(data[i:i + 1])
            time.sleep(0.0003)
    _, gateway = world.in_front_of(keep_answering(answer))
    with Client(gateway.address) as client:
        for _ in range(3):
            response = client.request(GET.format('/'))
            assert response.body == b'hello!' and response.fields['x-a'] == 'b'
            assert response.trailers.get('x-t') == '1'


def test_a_head_and_304_and_204_answers_have_no_body(world):
    def answer(peer, request):
        if request.method == 'HEAD':
            peer.send('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
        elif request.target == '/304':
            peer.send('HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 1000\r\n\r\n')
        elif request.target == '/204':
            peer.send('HTTP/1.1 204 No Content\r\n\r\n')
        else:
            peer.send(OK)
    backend, gateway = world.in_front_of(keep_answering(answer))
    with Client(gateway.address) as client:
        head = client.request('HEAD / HTTP/1.1\r\nHost: t\r\n\r\n')
        assert head.status == 200 and head.fields['content-length'] == '1000'
        assert client.request(GET.format('/304')).fields['etag'] == '"x"'
        assert client.request(GET.format('/204')).status == 204
        assert client.request(GET.format('/')).body == b'ok'
    assert backend.connections == 1, 'the connection was kept all along'


def test_a_chunked_answer_to_head_has_no_body(world):
    def answer(peer, request):
        peer.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n')
        if request.method != 'HEAD':
            peer.send('2\r\nok\r\n0\r\n\r\n')
    _, gateway = world.in_front_of(keep_answering(answer))
    with Client(gateway.address) as client:
        assert client.request('HEAD / HTTP/1.1\r\nHost: t\r\n\r\n').status == 200
        assert client.request(GET.format('/')).body == b'ok'


def test_an_unusual_status_passes(world):
    _, gateway = world.in_front_of(keep_answering(lambda peer, request: peer.answer(b'x', status=request.target[1:])))
    for status in (201, 299, 418, 451, 499, 520, 599):
        assert get(gateway.address, f'/{status}').status == status


# ---- connections

def test_connections_are_kept_and_reused(world):
    backend, gateway = world.in_front_of()
    with Client(gateway.address) as client:
        for _ in range(20):
            assert client.request(GET.format('/')).body == b'ok'
    assert backend.connections == 1
    metrics = gateway.metrics()
    assert metrics.value('sluice_upstream_connects_total') == 1
    assert metrics.value('sluice_upstream_reuses_total') == 19


def test_no_connection_is_kept_when_so_configured(world):
    backend, gateway = world.in_front_of(upstream={'keepalive_connections_max': 0})
    for _ in range(3):
        assert get(gateway.address, '/').body == b'ok'
    assert backend.connections == 3


def test_a_kept_connection_is_closed_after_its_time(world):
    backend, gateway = world.in_front_of(upstream={'keepalive_idle_ms': 200})
    assert get(gateway.address, '/').body == b'ok'
    wait_until(lambda: backend.peers[0].how == 'fin', what='the idle connection is closed')
    assert get(gateway.address, '/').body == b'ok'
    assert backend.connections == 2


def test_a_backend_that_says_close_is_not_reused(world):
    def script(peer):
        peer.request()
        peer.answer(b'bye', fields='Connection: close\r\n')
        peer.wait_end()
    backend, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        for _ in range(3):
            response = client.request(GET.format('/'))
            assert response.body == b'bye' and response.keeps_alive()
    assert backend.connections == 3


@pytest.mark.parametrize('how', ['fin', 'reset'])
@pytest.mark.parametrize('method', ['GET', 'POST', 'POST of 60 KB', 'POST in chunks', 'POST inference'])
def test_a_request_on_a_connection_that_turns_out_dead_is_sent_again(world, method, how):
    """Every connection dies as soon as it is asked a second time."""
    def script(peer):
        peer.request()
        peer.answer(f'{peer.number}')
        if peer.request(body=False) is not None:
            peer.reset() if how == 'reset' else peer.sock.close()
    backend, gateway = world.in_front_of(script, routes=[http_route(), inference_route(path='/v1')])
    body = b'' if method == 'GET' else bytes(range(256)) * (240 if '60 KB' in method else 10)
    for i in range(5):
        if method == 'GET':
            response = get(gateway.address, '/')
        elif method == 'POST in chunks':
            with Client(gateway.address) as client:
                client.send('POST / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n')
                client.send(b'200\r\n' + body[:512] + b'\r\n')
                client.is_open(0.02)  # the dead connection is found out before the rest comes
                client.send(b'800\r\n' + body[512:] + b'\r\n0\r\n\r\n')
                response = client.response()
        else:
            response = post(gateway.address, '/v1/x' if 'inference' in method else '/', body)
        assert response.status == 200 and response.body == f'{i}'.encode(), response
    assert backend.connections == 5
    assert gateway.metrics().value('sluice_upstream_retries_total') == 4
    assert [p.requests[0].body for p in backend.peers] == [body] * 5


def test_an_upload_too_long_to_be_kept_is_not_sent_again(world):
    """Its first bytes have gone: that is told with 502, never hidden by a body that lacks its beginning."""
    def script(peer):
        peer.request()
        peer.answer(f'{peer.number}')
        if peer.request(body=False) is not None:
            peer.need(1_000_000)
            peer.sock.close()
    backend, gateway = world.in_front_of(script)
    body = bytes(range(256)) * 8000
    assert post(gateway.address, '/', body).status == 200
    assert post(gateway.address, '/', body).status == 502
    assert post(gateway.address, '/', body).status == 200
    assert backend.connections == 2
    assert [r.body for r in backend.requests] == [body, None, body]


def test_a_fresh_connection_that_dies_is_not_tried_again(world):
    """The request may have been acted on: only a reused connection's end says that it was not."""
    backend, gateway = world.in_front_of(lambda peer: peer.request())
    for path in range(3):
        assert post(gateway.address, f'/{path}', 'x').status == 502
    assert len(backend.requests) == 3


def test_an_answer_begun_is_never_tried_again(world):
    def script(peer):
        peer.request()
        peer.answer(b'first')
        if peer.request() is not None:
            peer.send('HTTP/1.1 200 OK\r\nConte')
    backend, gateway = world.in_front_of(script)
    assert get(gateway.address, '/').status == 200
    assert get(gateway.address, '/').status == 502
    assert len(backend.requests) == 2


# ---- no answer

def test_a_backend_that_is_down_gives_502(world):
    with closed_port() as sock:
        gateway = world.gateway([http_route(), inference_route(path='/v1')],
                                endpoints=[f'127.0.0.1:{sock.getsockname()[1]}'])
        with Client(gateway.address) as client:
            response = client.request(GET.format('/'))
            assert response.status == 502 and response.fields['content-type'].startswith('text/plain')
            response = client.request('POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n{}')
            assert response.status == 502
            error = json.loads(response.body)['error']
            assert error['code'] == 'upstream_unreachable' and error['type'] == 'upstream_error'
            assert error['message'] and 'param' in error
        assert gateway.metrics().value('errors_total', type='upstream_connect') == 2


def test_a_backend_that_comes_back_is_used_again(world):
    sock = closed_port()
    port = sock.getsockname()[1]
    gateway = world.gateway(endpoints=[f'127.0.0.1:{port}'])
    assert get(gateway.address, '/').status == 502
    sock.listen(8)

    def serve():
        while True:
            try:
                peer, _ = sock.accept()
            except OSError:
                return
            with peer:
                peer.recv(65536)
                peer.sendall(OK.replace(b'\r\n\r\n', b'\r\nConnection: close\r\n\r\n'))
    threading.Thread(target=serve, daemon=True).start()
    wait_until(lambda: get(gateway.address, '/').status == 200, 5, 'the endpoint is used again')
    sock.shutdown(socket.SHUT_RDWR)
    sock.close()


def test_a_connection_that_is_not_made_in_time_gives_504(world):
    """A listener whose backlog is full drops further SYNs."""
    full = socket.socket()
    full.bind(('127.0.0.1', 0))
    full.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    time.sleep(0.05)
    gateway = world.gateway(endpoints=[f'127.0.0.1:{full.getsockname()[1]}'], upstream={'connect_timeout_ms': 300})
    start = time.monotonic()
    response = get(gateway.address, '/')
    seconds = time.monotonic() - start
    for sock in (*fillers, full):
        sock.close()
    assert response.status == 504
    assert 0.25 < seconds < 3
    assert gateway.metrics().value('errors_total', type='upstream_timeout') == 1


def test_an_upload_waits_while_its_connection_is_being_made(world):
    full = socket.socket()
    full.bind(('127.0.0.1', 0))
    full.listen(0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(full.getsockname())
        fillers.append(filler)
    time.sleep(0.05)
    gateway = world.gateway(endpoints=[f'127.0.0.1:{full.getsockname()[1]}'], upstream={'connect_timeout_ms': 1500})
    before = gateway.resident_kb()
    with Client(gateway.address) as client:
        client.send('POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 500000000\r\n\r\n')
        client.sock.settimeout(1)
        with pytest.raises((socket.timeout, TimeoutError)):
            client.send(b'x' * 500_000_000)
        growth = gateway.resident_kb() - before
        client.sock.settimeout(10)
        try:
            client.send(b'x' * 20_000_000)
        except OSError:
            pass
    for sock in (*fillers, full):
        sock.close()
    print(f'resident grew by {growth} KB')
    assert growth < RECEIVE_BUFFERS_KB + 8192


def test_the_first_byte_is_timed_on_a_kept_connection_while_nothing_else_happens(world):
    def answer(peer, request):
        if request.target != '/silent':
            peer.send(OK)
    gateway = world.gateway(endpoints=[world.backend(keep_answering(answer))], upstream={'first_byte_timeout_ms': 300})
    assert get(gateway.address, '/').status == 200
    begin = time.monotonic()
    assert get(gateway.address, '/silent').status == 504
    assert 0.25 < time.monotonic() - begin < 3, 'not only when something else wakes the worker'


def test_no_first_byte_in_time_gives_504_and_a_cancel(world):
    backend, gateway = world.in_front_of(lambda peer: (peer.request(), peer.wait_end()),
                                         routes=[http_route(), inference_route(path='/v1')],
                                         upstream={'first_byte_timeout_ms': 300})
    start = time.monotonic()
    assert get(gateway.address, '/').status == 504
    assert 0.25 < time.monotonic() - start < 3
    response = post(gateway.address, '/v1/x', '{}')
    assert response.status == 504 and json.loads(response.body)['error']['type'] == 'timeout_error'
    wait_until(lambda: all(p.how for p in backend.peers), what='the backend is told')


def test_silence_inside_an_answer_breaks_it_off(world):
    def script(peer):
        peer.request()
        peer.send('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello')
        peer.wait_end()
    backend, gateway = world.in_front_of(script, upstream={'idle_timeout_ms': 300})
    start = time.monotonic()
    with pytest.raises(Ended):
        get(gateway.address, '/')
    assert 0.25 < time.monotonic() - start < 3
    wait_until(lambda: backend.peers[0].how, what='the backend is told')


def test_an_answer_that_keeps_coming_is_not_silence(world):
    def script(peer):
        peer.request()
        peer.send('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n')
        for _ in range(10):
            time.sleep(0.06)
            peer.send('x')
    _, gateway = world.in_front_of(script, upstream={'idle_timeout_ms': 300})
    assert get(gateway.address, '/').body == b'x' * 10


def test_the_whole_exchange_may_be_limited(world):
    def script(peer):
        request = peer.request()
        if request.target == '/silent':
            peer.wait_end()
        peer.send('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n')
        while True:
            time.sleep(0.05)
            peer.send('x')
    _, gateway = world.in_front_of(script, upstream={'total_timeout_ms': 400})
    start = time.monotonic()
    with pytest.raises(Ended):
        get(gateway.address, '/')
    assert 0.3 < time.monotonic() - start < 3
    assert get(gateway.address, '/silent').status == 504


def test_a_backend_that_stops_reading_an_upload_times_out(world):
    def script(peer):
        peer.request(body=False)
        stop.wait(10)
    stop = threading.Event()
    backend = world.backend(script, receive_buffer=16384)
    gateway = world.gateway(endpoints=[backend], upstream={'idle_timeout_ms': 400})
    start = time.monotonic()
    try:
        with Client(gateway.address) as client:
            client.sock.settimeout(10)
            client.send('POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 50000000\r\n\r\n')
            try:
                client.send(b'x' * 50_000_000)
            except OSError:
                pass
            assert client.response().status == 504
        assert time.monotonic() - start < 5
    finally:
        stop.set()


# ---- endpoints

def test_another_endpoint_takes_over_when_one_cannot_be_connected_to(world):
    backend = world.backend()
    with closed_port() as sock:
        gateway = world.gateway(endpoints=[f'127.0.0.1:{sock.getsockname()[1]}', backend])
        assert [get(gateway.address, '/').status for _ in range(20)] == [200] * 20
        assert post(gateway.address, '/', 'abc').status == 200
    assert backend.requests[-1].body == b'abc'
    metrics = gateway.metrics()
    assert 1 <= metrics.value('sluice_upstream_connect_failures_total') <= 3, 'a dead endpoint is left out for a while'


def test_all_endpoints_down_give_502(world):
    with closed_port() as one, closed_port() as two:
        gateway = world.gateway(endpoints=[f'127.0.0.1:{s.getsockname()[1]}' for s in (one, two)])
        for _ in range(5):
            assert get(gateway.address, '/').status == 502


def test_each_request_goes_to_the_endpoint_with_the_fewest_in_flight(world):
    release = threading.Event()

    def answer(peer, request):
        if request.target == '/hold':
            release.wait(10)
        peer.send(OK)
    one, two = world.backend(keep_answering(answer)), world.backend(keep_answering(answer))
    gateway = world.gateway(endpoints=[one, two])
    held = [Client(gateway.address) for _ in range(6)]
    for i, client in enumerate(held):
        client.send(GET.format('/hold'))
        wait_until(lambda i=i: len(one.requests) + len(two.requests) == i + 1)
    assert (len(one.requests), len(two.requests)) == (3, 3)
    assert gateway.metrics().value('sluice_endpoint_in_flight') == 6
    release.set()
    for client in held:
        assert client.response().status == 200
        client.close()


@pytest.mark.parametrize('kind', ['ipv6', 'unix', 'name', 'http://'])
def test_endpoints_of_every_kind(world, kind):
    backend = world.backend(kind=kind if kind in ('ipv6', 'unix') else 'ipv4')
    address = backend.address
    if kind == 'name':
        address = f'localhost:{backend.port}'
    elif kind == 'http://':
        address = 'http://' + address
    gateway = world.gateway(endpoints=[address])
    with Client(gateway.address) as client:
        for _ in range(3):
            assert client.request(GET.format('/')).body == b'ok'
    assert backend.connections == 1


def test_a_name_that_is_not_found_gives_502_and_does_not_stop_the_others(world):
    backend = world.backend()
    gateway = world.gateway(
        [http_route('lost'), http_route('fine', '/fine')],
        upstreams=[{'name': 'lost', 'endpoints': ['no-such-host.invalid:80']}, {'name': 'fine', 'endpoints': [backend.address]}])
    assert get(gateway.address, '/').status == 502
    assert get(gateway.address, '/fine').status == 200


@pytest.mark.parametrize('host_header', ['client', 'endpoint'])
def test_host_goes_upstream_as_configured(world, host_header):
    backend = world.backend()
    local = world.backend(kind='unix')
    gateway = world.gateway(
        [http_route('tcp'), http_route('unix', '/unix'), http_route('name', '/name')],
        upstreams=[{'name': 'tcp', 'endpoints': [backend.address], 'host_header': host_header},
                   {'name': 'name', 'endpoints': [f'localhost:{backend.port}'], 'host_header': host_header},
                   {'name': 'unix', 'endpoints': [local.address], 'host_header': host_header}])
    for path in ('/', '/unix', '/name'):
        assert get(gateway.address, path, host='www.example.com:8080').status == 200
    hosts = [r.fields['host'] for r in (*backend.requests, *local.requests)]
    if host_header == 'client':
        assert hosts == ['www.example.com:8080'] * 3
    else:
        assert hosts == [backend.address, f'localhost:{backend.port}', 'localhost']


# ---- fields

def test_hop_by_hop_fields_of_a_request_are_removed(world):
    backend, gateway = world.in_front_of()
    with Client(gateway.address) as client:
        client.request('GET / HTTP/1.1\r\nHost: t\r\nConnection: keep-alive, X-Mine, x-other\r\nKeep-Alive: timeout=5\r\n'
                       'X-Mine: 1\r\nX-Other: 2\r\nProxy-Connection: keep-alive\r\nTE: trailers\r\nUpgrade: h2c\r\n'
                       'Proxy-Authorization: Basic eA==\r\nX-Stays: 3\r\nConnection: X-Third\r\nX-Third: 4\r\n\r\n')
    fields = backend.requests[0].fields
    for name in ('keep-alive', 'x-mine', 'x-other', 'proxy-connection', 'upgrade', 'x-third', 'te'):
        assert name not in fields, f'{name} went on: {fields}'
    assert fields['x-stays'] == '3'
    assert fields.get('connection', 'keep-alive').lower() == 'keep-alive'


@pytest.mark.parametrize('name', ['Host', 'Content-Length', 'Content-Length, Transfer-Encoding', 'Authorization', 'Via'])
def test_connection_cannot_nominate_what_the_message_needs(world, name):
    """A client that nominates Host or Content-Length must not change how the backend reads the request."""
    backend, gateway = world.in_front_of()
    with Client(gateway.address) as client:
        client.send(f'POST / HTTP/1.1\r\nHost: t\r\nConnection: {name}\r\nContent-Length: 3\r\n\r\nabc')
        response = client.response()
    if response.status == 200:
        request = backend.requests[0]
        assert request.fields['host'] == 't' and request.body == b'abc'
    else:
        assert response.status == 400 and backend.received == 0


def test_hop_by_hop_fields_of_an_answer_are_removed(world):
    _, gateway = world.in_front_of(keep_answering(
        b'HTTP/1.1 200 OK\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n'
        b'Proxy-Authenticate: Basic\r\nUpgrade: h2c\r\nX-Stays: 2\r\nContent-Length: 2\r\n\r\nok'))
    fields = get(gateway.address, '/').fields
    for name in ('x-mine', 'keep-alive', 'upgrade', 'connection'):
        assert name not in fields, f'{name} went on: {fields}'
    assert fields['x-stays'] == '2'


def test_via_and_forwarded_fields_are_added(world):
    backend, gateway = world.in_front_of()
    response = get(gateway.address, '/', host='www.example.com')
    fields = backend.requests[0].fields
    assert fields['via'] == '1.1 sluice'
    assert fields['x-forwarded-for'] == '127.0.0.1'
    assert fields['x-forwarded-proto'] == 'http'
    assert fields['x-forwarded-host'] == 'www.example.com'
    assert fields['x-request-id'] == response.fields['x-request-id']
    assert response.fields['via'] == '1.1 sluice'


def test_what_is_there_already_is_extended_or_kept(world):
    backend, gateway = world.in_front_of()
    response = get(gateway.address, '/', fields=(
        'X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-For: 10.0.0.2\r\nX-Forwarded-Proto: https\r\nX-Request-Id: abc-1\r\n'
        'X-Forwarded-Host: public.example.com\r\nVia: 1.0 fred\r\n'))
    fields = backend.requests[0].fields
    assert fields['x-forwarded-for'] == '10.0.0.1, 10.0.0.2, 127.0.0.1'
    assert fields['x-forwarded-proto'] == 'https'
    assert fields['x-forwarded-host'] == 'public.example.com'
    assert ', '.join(fields.all('via')) == '1.0 fred, 1.1 sluice'
    assert fields['x-request-id'] == 'abc-1' == response.fields['x-request-id']


def test_the_backends_own_date_and_request_id_are_kept(world):
    _, gateway = world.in_front_of(keep_answering(
        b'HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Request-Id: theirs\r\nContent-Length: 2\r\n\r\nok'))
    response = get(gateway.address, '/')
    assert response.fields['date'] == 'Sun, 06 Nov 1994 08:49:37 GMT'
    assert response.fields['x-request-id'] == 'theirs'


def test_every_other_line_passes_byte_for_byte_in_order(world):
    sent = ['Set-Cookie: a=1; Path=/', 'set-cookie: b=2', 'X-UPPER: MiXed', 'X-Empty:', 'ETag: W/"x"',
            'Content-Type: text/x; charset=utf-8', 'X-Twice: 1', 'X-Twice: 2']
    backend, gateway = world.in_front_of(keep_answering(
        ('HTTP/1.1 200 OK\r\n' + '\r\n'.join(sent) + '\r\nContent-Length: 2\r\n\r\nok').encode()))
    with Client(gateway.address) as client:
        client.send('GET / HTTP/1.1\r\nHost: t\r\n' + '\r\n'.join(sent) + '\r\n\r\n')
        head = client.until(b'\r\n\r\n').decode('latin-1').split('\r\n')
    assert [line for line in head if line in sent] == sent
    assert [line for line in backend.requests[0].raw.decode('latin-1').split('\r\n') if line in sent] == sent


def test_an_expect_is_met_by_the_gateway_and_not_passed_on(world):
    backend, gateway = world.in_front_of()
    with Client(gateway.address) as client:
        client.send('POST / HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n')
        assert client.head().status == 100
        client.send('ab')
        assert client.response().status == 200
    assert 'expect' not in backend.requests[0].fields
