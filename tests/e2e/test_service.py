"""What a service manager passes and is told: sockets, readiness, drain, signs of life (docs/operations.md, "As a service").

The tests stand in for the manager: they open the listening sockets and NOTIFY_SOCKET themselves."""

import fcntl
import os
import select
import socket
import time

import pytest

from programs import SLUICE, http_route, respond_route
from rawhttp import Client, get, wait_until

GET = 'GET {} HTTP/1.1\r\nHost: t\r\n\r\n'
FIRST_SOURCE = 200  # where descriptors wait until they are put in their places, out of the way of those


class Manager:
    """A datagram socket that keeps what it is told."""

    def __init__(self, address):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(address)
        self.messages = []

    def receive(self, seconds):
        """The next message as a dict, or None."""
        if not select.select([self.sock], [], [], seconds)[0]:
            return None
        message = dict(line.split('=', 1) for line in self.sock.recv(4096).decode().split('\n'))
        self.messages.append(message)
        return message

    def wait(self, name, seconds=15):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            message = self.receive(max(0, end - time.monotonic()))
            if message and name in message:
                return message
        raise AssertionError(f'{name} was not told: {self.messages}')


@pytest.fixture
def manager(tmp_path):
    made = Manager(str(tmp_path / 'notify'))
    yield made
    made.sock.close()


def listening(address='127.0.0.1', family=socket.AF_INET, **more):
    sock = socket.socket(family)
    for level, name, value in more.get('options', ()):
        sock.setsockopt(level, name, value)
    sock.bind(address if family == socket.AF_UNIX else (address, 0))
    sock.listen(1000)
    sock.setblocking(False)  # as systemd makes them
    return sock


def address_of(sock):
    return '{}:{}'.format(*sock.getsockname()[:2])


def started_with(sockets=(), names='', variables=None, stdout=None):
    """What `world.gateway(start=...)` needs: a shell that puts each descriptor in its place, says whose they are, and
    becomes the server."""
    sources, moves = [], ''  # one redirection a descriptor, in order
    for place, sock in enumerate(sockets, 3):
        source = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, FIRST_SOURCE)
        sources.append(source)
        moves += f' {place}<&{source} {source}<&-'
    if stdout is not None:
        sources.append(stdout)
        moves += f' >&{stdout}'
    env = dict(os.environ, **(variables or {}))
    if sockets:
        env.update(LISTEN_FDS=str(len(sockets)), LISTEN_FDNAMES=names)
    return {'prefix': ['/bin/bash', '-c', f'export LISTEN_PID=${{LISTEN_PID:-$$}}; exec "$@"{moves}', 'bash'],
            'env': env, 'pass_fds': tuple(sources)}


def test_ready_is_told_when_connections_are_taken_and_the_drain_when_it_begins(world, manager):
    backend, gateway = world.in_front_of(
        lambda peer: (peer.request(), time.sleep(0.5), peer.send('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi')),
        routes=[http_route(), respond_route('/fixed', body='hi')], limits={'drain_timeout_ms': 7000},
        workers=2, start=started_with(variables={'NOTIFY_SOCKET': manager.sock.getsockname()}))
    ready = manager.wait('READY')
    assert ready == {'READY': '1', 'STATUS': 'serving'}
    assert get(gateway.address, '/fixed').body == b'hi'
    client = Client(gateway.address)
    client.send(GET.format('/'))
    wait_until(lambda: backend.peers)
    gateway.signal()
    stopping = manager.wait('STOPPING', 2)
    assert stopping['STOPPING'] == '1' and 'draining' in stopping['STATUS']
    assert 7_000_000 <= int(stopping['EXTEND_TIMEOUT_USEC']) <= 10_000_000, 'as long as the drain may take'
    assert client.response().body == b'hi'
    assert gateway.wait() == 0


def test_an_abstract_socket_is_told_too(world):
    name = f'sluice-test-{os.getpid()}'
    manager = Manager('\0' + name)
    world.gateway([respond_route('/')], start=started_with(variables={'NOTIFY_SOCKET': '@' + name}))
    assert manager.wait('READY')
    manager.sock.close()


@pytest.mark.parametrize('address', ['/nowhere/to/be/found', 'vsock:2:1234', '@', '/' + 'x' * 200])
def test_a_manager_that_is_not_there_stops_nothing(world, address):
    gateway = world.gateway([respond_route('/', body='hi')],
                            start=started_with(variables={'NOTIFY_SOCKET': address, 'WATCHDOG_USEC': '200000'}))
    gateway.wait_line('service manager')
    assert get(gateway.address, '/').body == b'hi'


def test_the_watchdog_is_fed_twice_in_its_time_while_all_workers_turn(world, manager):
    gateway = world.gateway([respond_route('/', body='hi')], workers=2, start=started_with(
        variables={'NOTIFY_SOCKET': manager.sock.getsockname(), 'WATCHDOG_USEC': '1000000'}))
    manager.wait('READY')
    for _ in range(5):
        before = time.monotonic()
        assert manager.wait('WATCHDOG', 2) == {'WATCHDOG': '1'}
        assert time.monotonic() - before < 0.9, 'before the time is over'
    gateway.signal()
    manager.wait('STOPPING')


def test_a_watchdog_of_another_process_is_not_fed(world, manager):
    world.gateway([respond_route('/')], start=started_with(
        variables={'NOTIFY_SOCKET': manager.sock.getsockname(), 'WATCHDOG_USEC': '200000', 'WATCHDOG_PID': '1'}))
    manager.wait('READY')
    assert manager.receive(0.5) is None


def test_a_worker_that_is_stuck_lets_the_watchdog_bite(world, manager):
    """Nobody reads the access log: its worker waits in a write. Once somebody does, all is well again."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    gateway = world.gateway([respond_route('/', body='hi')], workers=2, access_log=True, start=started_with(
        stdout=writing, variables={'NOTIFY_SOCKET': manager.sock.getsockname(), 'WATCHDOG_USEC': '1000000'}))
    os.close(writing)
    manager.wait('READY')
    with Client(gateway.address) as client:
        client.send(GET.format('/') * 100)
        stuck = manager.wait('STATUS')
        assert 'is stuck' in stuck['STATUS'] and 'WATCHDOG' not in stuck
        assert manager.receive(1.2) is None, 'it is not fed'
        gateway.wait_line(r'error worker \d has not turned its loop')
        end = time.monotonic() + 10
        while not select.select([manager.sock], [], [], 0)[0] and time.monotonic() < end:
            if select.select([reading], [], [], 0.05)[0]:
                os.read(reading, 65536)
        assert manager.wait('WATCHDOG') == {'WATCHDOG': '1', 'STATUS': 'serving'}
    gateway.wait_line('all workers turn again')
    os.close(reading)  # what is left of the log goes nowhere; SIGPIPE is ignored


# ---- sockets

def test_on_a_passed_socket_all_workers_accept(world):
    sock, admin = listening(), listening()
    gateway = world.gateway([respond_route('/', body='hi')], workers=3, listeners=[{'address': address_of(sock)}],
                            admin={'address': address_of(admin)}, start=started_with([sock, admin]))
    assert (gateway.address, gateway.admin) == (address_of(sock), address_of(admin))
    gateway.wait_line(r'listening on \S+ \(passed by the service manager\)')
    gateway.wait_line(r'listening on \S+ \(admin\) \(passed by the service manager\)')
    clients, accepts = [], []
    for _ in range(40):  # who is awake first, and on a busy machine alone, takes more; it leaves the next ones to the others
        for _ in range(10):
            clients.append(Client(gateway.address))
            assert clients[-1].request(GET.format('/')).body == b'hi'
        metrics = gateway.metrics()
        accepts = [metrics.value('sluice_ring_accepts_total', worker=w) for w in '012']
        if sum(accepts) > 60 and min(accepts) * 5 >= sum(accepts):
            break
    assert min(accepts) * 5 >= sum(accepts), accepts
    for client in clients:
        client.close()


def test_a_socket_is_known_by_its_name_when_its_address_is_another(world):
    web, admin = listening(), listening()
    gateway = world.gateway([respond_route('/', body='hi')],
                            listeners=[{'address': '127.0.0.1:0'}, {'address': '127.0.0.1:1', 'name': 'web'}],
                            start=started_with([admin, web], 'admin:web'))
    assert gateway.admin == address_of(admin) and address_of(web) in gateway.addresses
    assert get(address_of(web), '/').body == b'hi'
    own = next(a for a in gateway.addresses if a != address_of(web))
    assert get(own, '/').body == b'hi', 'what is not passed is opened as ever'
    assert get(address_of(admin), '/health').status == 200


@pytest.mark.parametrize('v6only', [0, 1])
def test_a_socket_for_all_addresses_of_both_kinds_is_that_of_all_ipv4_addresses(world, v6only):
    sock = listening('::', socket.AF_INET6, options=[(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)])
    port = sock.getsockname()[1]
    kind = '[::]' if v6only else '*'
    gateway = world.gateway([respond_route('/', body='hi')], listeners=[{'address': f'{kind}:{port}'}],
                            start=started_with([sock], 'sluice.socket'))
    assert get(f'127.0.0.1:{port}' if not v6only else f'[::1]:{port}', '/').body == b'hi'
    gateway.stop()


def test_what_is_queued_at_the_end_is_for_the_next_process(world):
    """With the socket open in the manager's hands, a restart refuses nobody."""
    sock = listening()
    more = {'listeners': [{'address': address_of(sock)}], 'workers': 2}
    first = world.gateway([respond_route('/', body='first')], start=started_with([sock]), **more)
    assert get(first.address, '/').body == b'first'
    first.stop()
    with Client(address_of(sock)) as client:
        client.send(GET.format('/'))
        assert client.is_open(0.2)
        second = world.gateway([respond_route('/', body='second')], start=started_with([sock]), **more)
        assert client.response().body == b'second'
    second.stop()


def test_the_file_of_a_passed_unix_socket_stays(world, tmp_path):
    path = str(tmp_path / 'web')
    sock = listening(path, socket.AF_UNIX)
    gateway = world.gateway([respond_route('/', body='hi')], listeners=[{'address': f'unix:{path}'}], workers=2,
                            start=started_with([sock]))
    assert get(f'unix:{path}', '/').body == b'hi'
    gateway.stop()
    assert os.path.exists(path)


def refusal_of(world, tmp_path, sockets, names='', variables=None, listeners=None):
    config = tmp_path / 'c.yaml'
    config.write_text('listeners: [{}]\nroutes: [{{ path: /, respond: {{ body: x }} }}]\n'.format(
        ', '.join(listeners or ['{ address: "127.0.0.1:0" }'])))
    start = started_with(sockets, names, variables)
    prefix = start.pop('prefix')
    program = world.program([*prefix, SLUICE, 'serve', str(config)], name='sluice', **start)
    assert program.wait() == 1
    return '\n'.join(program.lines)


def test_a_socket_that_no_listener_wants_is_an_error(world, tmp_path):
    sock = listening()
    said = refusal_of(world, tmp_path, [sock], 'other')
    assert f"has passed a socket at {address_of(sock)}, named 'other', but no listener has this address or name" in said


def test_two_sockets_for_one_listener_are_an_error(world, tmp_path):
    said = refusal_of(world, tmp_path, [listening(), listening()], 'web:web', listeners=['{ address: "127.0.0.1:0", name: web }'])
    assert 'two sockets for the listener 127.0.0.1:0' in said


@pytest.mark.parametrize('kind, words', [
    ('datagram', 'is not a stream socket'), ('connection', 'is a connection, not a listening socket'), ('file', 'is not a socket')])
def test_what_is_no_listening_socket_is_an_error(world, tmp_path, kind, words):
    if kind == 'datagram':
        passed = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    elif kind == 'connection':
        passed = socket.socketpair()[0]
    else:
        passed = open(os.devnull, 'rb')
    with passed:
        assert f'descriptor 3, passed by the service manager, {words}' in refusal_of(world, tmp_path, [passed])


@pytest.mark.parametrize('count', ['0', '-1', 'many', '100000'])
def test_a_count_that_cannot_be_is_an_error(world, tmp_path, count):
    said = refusal_of(world, tmp_path, [], variables={'LISTEN_FDS': count})
    assert f"LISTEN_FDS is '{count}', not a number from 1 to" in said


def test_sockets_for_another_process_are_left_alone(world):
    sock = listening()
    gateway = world.gateway([respond_route('/', body='hi')], start=started_with([sock], variables={'LISTEN_PID': '1'}))
    assert get(gateway.address, '/').body == b'hi' and gateway.address != address_of(sock)
