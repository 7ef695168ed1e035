"""What a client sends while the gateway does not receive from it must not be lost, nor waited for in vain."""

import threading

import pytest
from backend import keep_answering
from programs import http_route, inference_route, respond_route
from rawhttp import Client

PING = b'GET /ping HTTP/1.1\r\nHost: x\r\n\r\n'


@pytest.mark.parametrize('tail, method', [
    (b'GET /ping HTTP/1.1\r\nHost: x\r\nX-Long: ' + b'y' * 3000 + b'\r\n\r\n', 'GET'),
    (b'POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n' + b'z' * 300000, 'POST'),
], ids=['a head', 'a body'])
def test_what_is_cut_off_behind_a_long_pipeline_is_read_on(world, tail, method):
    go_on = threading.Event()

    def answer(peer, request):
        if request.target == '/slow':
            go_on.wait(10)
        peer.answer(b'%d' % len(request.body or b''))

    _, gateway = world.in_front_of(keep_answering(answer), routes=[respond_route('/ping', body='pong'), http_route()])
    count = 66000 // len(PING)  # just over what is kept behind a running exchange
    with Client(gateway.address) as client:
        data = b'GET /slow HTTP/1.1\r\nHost: x\r\n\r\n' + PING * count + tail
        sender = threading.Thread(target=client.send, args=(data,), daemon=True)
        sender.start()
        sender.join(0.5)
        go_on.set()
        assert client.response().body == b'0'
        for _ in range(count):
            assert client.response().body == b'pong'
        assert client.response(method).body == (b'pong' if method == 'GET' else b'300000')


@pytest.mark.parametrize('size', [1 << 20, 1500 << 10, 2 << 20, 2300 << 10, 3300 << 10, 5 << 20])
def test_an_upload_that_ends_in_a_half_close_while_it_is_held_back_arrives_whole(world, size):
    def script(peer):
        read_it = threading.Event()
        read_it.wait(0.3)  # until then nothing is read, and the windows on the way fill
        request = peer.request()
        peer.answer(b'%d' % len(request.body))

    _, gateway = world.in_front_of(script)
    with Client(gateway.address) as client:
        client.send(b'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n' % size + b'z' * size)
        client.half_close()
        assert client.response('POST').body == b'%d' % size


def test_a_body_on_a_request_for_the_models_is_used_once(world):
    answer = lambda peer, request: peer.answer(b'{"object":"list","data":[{"id":"m"}]}')  # noqa: E731
    backends = [world.backend(keep_answering(answer)) for _ in range(3)]
    gateway = world.gateway([inference_route()], endpoints=backends)
    with Client(gateway.address) as client:
        for _ in range(3):
            client.send(b'GET /v1/models HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello')
            assert b'"m"' in client.response().body
