"""Client connections: keep-alive, pipelining, half-closes, versions."""

import socket
import threading
import time

import pytest
from backend import OK, keep_answering
from programs import RECEIVE_BUFFERS_KB, http_route, inference_route, respond_route
from rawhttp import Client, Ended, get, wait_until

GET = 'GET {} HTTP/1.1\r\nHost: t\r\n\r\n'


@pytest.fixture(scope='module')
def backend(module_world):
    def answer(peer, request):
        if request.target == '/slow':
            time.sleep(0.05)
        if request.target == '/chunked':
            peer.send('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n')
        else:
            peer.answer(request.target)
    return module_world.backend(keep_answering(answer))


@pytest.fixture(scope='module')
def gateway(module_world, backend):
    return module_world.gateway(endpoints=[backend], routes=[
        http_route(), respond_route('/fixed', body='fixed'), respond_route('/big', body='b' * 100_000)])


# ---- versions and keep-alive

def test_http_1_1_stays_open_unless_told_otherwise(gateway):
    for path in ('/fixed', '/proxied'):
        with Client(gateway.address) as client:
            for _ in range(3):
                response = client.request(GET.format(path))
                assert response.status == 200 and response.keeps_alive()
            response = client.request(f'GET {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n')
            assert response.fields['connection'].lower() == 'close'
            assert client.end() == 'fin'


@pytest.mark.parametrize('value', ['Close', 'x, close', 'close, x', 'keep-alive, close'])
def test_close_is_found_in_a_list_and_in_any_case(gateway, value):
    with Client(gateway.address) as client:
        assert client.request(f'GET /fixed HTTP/1.1\r\nHost: t\r\nConnection: {value}\r\n\r\n').status == 200
        assert client.end() == 'fin'


@pytest.mark.parametrize('path', ['/fixed', '/proxied'])
def test_http_1_0_closes_unless_asked_to_stay(gateway, path):
    with Client(gateway.address) as client:
        assert client.request(f'GET {path} HTTP/1.0\r\n\r\n').status == 200
        assert client.end() == 'fin'
    with Client(gateway.address) as client:
        for _ in range(3):
            response = client.request(f'GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
            assert response.fields['connection'].lower() == 'keep-alive'
        assert client.request(f'GET {path} HTTP/1.0\r\n\r\n').status == 200
        assert client.end() == 'fin'


def test_http_1_0_gets_no_chunks_but_the_end_of_the_connection(gateway):
    with Client(gateway.address) as client:
        client.send('GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n')
        response = client.response()
        assert 'transfer-encoding' not in response.fields
        assert response.body == b'hello'


def test_a_connection_may_be_limited_in_its_requests(world):
    gateway = world.gateway(routes=[respond_route('/', body='hi')], limits={'requests_per_connection_max': 3})
    with Client(gateway.address) as client:
        assert [client.request(GET.format('/')).keeps_alive() for _ in range(3)] == [True, True, False]
        assert client.end() == 'fin'


# ---- pipelining

def test_pipelined_requests_are_answered_in_order(gateway):
    with Client(gateway.address) as client:
        client.send(''.join(GET.format(f'/{i}') for i in range(50)))
        assert [client.response().body for _ in range(50)] == [f'/{i}'.encode() for i in range(50)]


def test_fixed_and_proxied_answers_keep_their_order(gateway):
    paths = ['/fixed', '/slow', '/fixed', '/chunked', '/a', '/big', '/slow', '/fixed', '/big', '/nowhere', '/fixed'] * 5
    with Client(gateway.address) as client:
        client.send(''.join(GET.format(p) for p in paths))
        for path in paths:
            body = client.response().body
            assert body == {'/fixed': b'fixed', '/chunked': b'hello', '/big': b'b' * 100_000}.get(path, path.encode())


def test_pipelined_fixed_answers_leave_together(gateway):
    """Sixteen requests in one segment: their answers come back in one send."""
    with Client(gateway.address) as client:
        client.request(GET.format('/fixed'))
        client.send(GET.format('/fixed') * 16)
        time.sleep(0.1)
        got = client.sock.recv(262144)
        assert got.count(b'HTTP/1.1 200 OK') == 16


def test_pipelined_bodies_are_told_apart(gateway):
    posts = ''.join(f'POST /p{i} HTTP/1.1\r\nHost: t\r\nContent-Length: {i}\r\n\r\n' + 'x' * i for i in range(30))
    with Client(gateway.address) as client:
        client.send(posts + GET.format('/last'))
        assert [client.response().body for _ in range(31)] == [f'/p{i}'.encode() for i in range(30)] + [b'/last']


def test_a_pipeline_cut_anywhere_gives_the_same_answers(gateway):
    data = (GET.format('/a') + 'POST /b HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n' +
            GET.format('/fixed') + GET.format('/c')).encode()
    for at in range(1, len(data), 3):
        with Client(gateway.address) as client:
            client.send(data[:at])
            time.sleep(0.0005)
            client.send(data[at:])
            assert [client.response().body for _ in range(4)] == [b'/a', b'/b', b'fixed', b'/c']


def test_a_head_is_timed_from_its_own_beginning_and_not_from_that_of_the_pipeline(world):
    gateway = world.gateway(routes=[respond_route('/fixed', body='fixed')], limits={'head_timeout_ms': 400})
    head = GET.format('/fixed')
    with Client(gateway.address) as client:
        client.send(head[:10])
        end = time.monotonic() + 1
        while time.monotonic() < end:
            client.send(head[10:] + head[:10])
            assert client.response().status == 200
            time.sleep(0.02)


def test_a_deep_pipeline_of_large_answers_does_not_pile_up_in_memory(gateway):
    """20,000 requests for 100 KB each (2 GB), whose answers nobody reads: the gateway must stop reading."""
    before = gateway.resident_kb()
    client = Client(gateway.address, receive_buffer=65536)
    client.sock.settimeout(1)
    try:
        for _ in range(200):
            client.send(GET.format('/big') * 100)
    except (socket.timeout, TimeoutError):
        pass
    growth = gateway.resident_kb() - before
    print(f'resident grew by {growth} KB')
    client.sock.settimeout(10)
    for _ in range(20):
        assert len(client.response().body) == 100_000
    client.reset()
    assert growth < RECEIVE_BUFFERS_KB + 8192


def test_requests_behind_the_last_one_are_not_served(gateway, backend):
    count = len(backend.requests)
    with Client(gateway.address) as client:
        client.send('GET /last HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n' + GET.format('/behind'))
        assert client.response().body == b'/last'
        assert client.end() == 'fin'
    assert [r.target for r in backend.requests[count:]] == ['/last']


# ---- half-closes

@pytest.mark.parametrize('path', ['/fixed', '/slow', '/big'])
def test_a_client_that_half_closes_still_gets_its_answer(gateway, path):
    with Client(gateway.address) as client:
        client.send(GET.format(path))
        client.half_close()
        assert client.response().status == 200
        assert client.end() == 'fin'


def test_a_pipeline_before_a_half_close_is_answered_whole(gateway):
    with Client(gateway.address) as client:
        client.send(''.join(GET.format(p) for p in ('/fixed', '/slow', '/a', '/fixed', '/slow', '/b')))
        client.half_close()
        assert [client.response().body for _ in range(6)] == [b'fixed', b'/slow', b'/a', b'fixed', b'/slow', b'/b']
        assert client.end() == 'fin'


@pytest.mark.parametrize('kind', ['http', 'inference'])
def test_whether_a_half_close_is_a_departure_is_the_routes_to_say(world, kind):
    gone, arrived = threading.Event(), threading.Event()

    def script(peer):
        if peer.request() is None:
            return
        arrived.set()
        peer.sock.settimeout(5)
        if not peer.fill():
            gone.set()
    route = http_route if kind == 'http' else inference_route
    _, gateway = world.in_front_of(script, routes=[route(half_close_is_departure=True)])
    with Client(gateway.address) as client:
        client.send(GET.format('/x'))
        assert arrived.wait(5)
        start = time.monotonic()
        client.half_close()
        assert gone.wait(5)
        print(f'cancelled upstream after {(time.monotonic() - start) * 1000:.1f} ms')


# ---- many

def test_many_connections_at_once(gateway):
    clients = [Client(gateway.address) for _ in range(300)]
    for i, client in enumerate(clients):
        client.send(GET.format(f'/c{i}'))
    for i, client in enumerate(clients):
        assert client.response().body == f'/c{i}'.encode()
    for client in clients:
        client.send(GET.format('/fixed'))
    for client in clients:
        assert client.response().body == b'fixed'
        client.close()
    wait_until(lambda: gateway.metrics().value('active_connections') == 1)


def test_connections_that_come_and_go_at_every_moment_leave_nothing_behind(gateway):
    requests = [GET.format('/slow'), GET.format('/big') * 3, GET.format('/fixed')[:10], '',
                'POST /x HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\nabc']
    for how in ('close', 'reset', 'half'):
        for request in requests * 10:
            client = Client(gateway.address)
            if request:
                client.send(request)
            if how == 'reset':
                client.reset()
            elif how == 'half':
                client.half_close()
            client.close()
    metrics = wait_until(lambda: (lambda m: m if m.value('active_connections') == 1 and
                                  m.value('sluice_active_requests') == 0 else None)(gateway.metrics()))
    assert metrics.value('sluice_endpoint_in_flight') == 0


def test_a_listener_may_be_ipv6_or_a_unix_socket_or_several(world, tmp_path):
    path = f'unix:{tmp_path}/sluice.sock'
    gateway = world.gateway(routes=[respond_route('/', body='hi')],
                            listeners=[{'address': '127.0.0.1:0'}, {'address': '[::1]:0'}, {'address': path}])
    assert len(gateway.addresses) == 3
    for address in (*gateway.addresses[:2], path):
        assert get(address, '/').body == b'hi'
    gateway.stop()
    assert not (tmp_path / 'sluice.sock').exists(), 'the socket file is left behind'


def test_a_client_on_a_unix_socket_can_be_proxied(world, tmp_path):
    path = f'unix:{tmp_path}/sluice.sock'
    backend = world.backend(keep_answering(OK))
    world.gateway(endpoints=[backend], listeners=[{'address': '127.0.0.1:0'}, {'address': path}])
    assert get(path, '/').body == b'ok'
    with pytest.raises(Ended):
        with Client(path) as client:
            client.half_close()
            client.response()
