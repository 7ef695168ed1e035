"""The program: starting, stopping, draining, running out of things, and what it tells about itself."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time

import pytest
from backend import OK, keep_answering
from metrics_text import parse
from programs import SANITIZED, SLUICE, http_route, inference_route, respond_route
from rawhttp import Client, Ended, get, post, wait_until

GET = 'GET {} HTTP/1.1\r\nHost: t\r\n\r\n'
SSE = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n'


def run(*arguments, **more):
    return subprocess.run([SLUICE, *arguments], capture_output=True, text=True, timeout=30, check=False, **more)


# ---- draining

def ticking(stop):
    """A backend that streams an event every 20 ms until told to stop."""
    def script(peer):
        peer.request()
        peer.send(SSE)
        while not stop.is_set():
            peer.send('9\r\ndata: 1\n\n\r\n')
            time.sleep(0.02)
        peer.send('e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n')
        peer.wait_end()
    return script


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_draining_finishes_what_is_in_flight_and_nothing_else(world, number):
    stop = threading.Event()
    backend, gateway = world.in_front_of(ticking(stop), routes=[inference_route(), respond_route('/fixed', body='hi')])
    del backend
    streaming, idle, fresh, begun = (Client(gateway.address) for _ in range(4))
    streaming.send(GET.format('/v1/x'))
    streaming.head()
    streaming.chunk()
    assert idle.request(GET.format('/fixed')).body == b'hi'
    begun.send('GET /fixed HTTP/1.1\r\nHo')
    time.sleep(0.05)
    gateway.signal(number)
    assert idle.end() == 'fin', 'an idle connection is closed'
    assert fresh.end() == 'fin', 'so is one that never said anything'

    def is_refused():
        try:
            with Client(gateway.address) as client:
                return client.end() and False
        except ConnectionRefusedError:
            return True
        except ConnectionError:
            return False
    wait_until(is_refused, what='new connections are refused')
    begun.send('st: t\r\n\r\n')
    answer = begun.response()
    assert answer.body == b'hi' and not answer.keeps_alive(), 'a request that had begun is still answered'
    for _ in range(5):
        assert streaming.chunk(), 'the stream goes on'
    assert gateway.is_running()
    stop.set()
    while True:
        data = streaming.chunk()
        if b'[DONE]' in data:
            break
    assert streaming.chunk() == b''
    streaming.trailers()
    assert streaming.end() == 'fin'
    for client in (streaming, idle, fresh, begun):
        client.close()
    start = time.monotonic()
    assert gateway.wait() == 0
    assert time.monotonic() - start < 1, 'it goes as soon as the last one is through'


def test_draining_says_close_to_who_is_in_flight(world):
    go = threading.Event()

    def answer(peer, request):
        del request
        go.wait(5)
        peer.send(OK)
    _, gateway = world.in_front_of(keep_answering(answer))
    with Client(gateway.address) as client:
        client.send(GET.format('/'))
        time.sleep(0.05)
        gateway.signal()
        time.sleep(0.05)
        go.set()
        response = client.response()
        assert response.body == b'ok' and not response.keeps_alive()
    assert gateway.wait() == 0


def test_a_second_signal_does_not_wait(world):
    _, gateway = world.in_front_of(ticking(threading.Event()))
    with Client(gateway.address) as client:
        client.send(GET.format('/'))
        client.head()
        gateway.signal()
        time.sleep(0.3)
        assert gateway.is_running() and client.chunk()
        gateway.signal()
        assert gateway.wait(5) == 0
        with pytest.raises(Ended):
            while client.chunk():
                pass


def test_draining_ends_after_its_time(world):
    _, gateway = world.in_front_of(ticking(threading.Event()), limits={'drain_timeout_ms': 500})
    with Client(gateway.address) as client:
        client.send(GET.format('/'))
        client.head()
        start = time.monotonic()
        gateway.signal()
        assert gateway.wait(10) == 0
        assert 0.4 < time.monotonic() - start < 4
    gateway.wait_line('drain timeout')


def test_a_drain_timeout_of_zero_cuts_at_once(world):
    _, gateway = world.in_front_of(ticking(threading.Event()), limits={'drain_timeout_ms': 0})
    with Client(gateway.address) as client:
        client.send(GET.format('/'))
        client.head()
        gateway.signal()
        assert gateway.wait(5) == 0


def test_draining_under_load_loses_no_request(world):
    """Clients that stop when told to see a whole answer to each request that was sent."""
    _, gateway = world.in_front_of(routes=[http_route(), respond_route('/fixed', body='hi')], workers=2)
    wrong, answered = [], []

    def work(path):
        try:
            while True:
                with Client(gateway.address) as client:
                    while True:
                        try:
                            client.send(GET.format(path))
                            response = client.response()
                        except Ended as e:
                            if e.args[0].endswith("b'' unread"):
                                break  # closed between two requests: the next one goes on a new connection
                            raise
                        except ConnectionError:
                            break
                        answered.append(1)
                        if not response.keeps_alive():
                            break
        except ConnectionRefusedError:
            return
        except Exception as e:  # pylint: disable=broad-except
            if not isinstance(e, ConnectionError):
                wrong.append(e)
    threads = [threading.Thread(target=work, args=(p,)) for p in ('/fixed', '/x') * 4]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    gateway.signal()
    assert gateway.wait() == 0
    for thread in threads:
        thread.join(10)
    assert not wrong and len(answered) > 100


def test_health_says_that_it_drains(world):
    _, gateway = world.in_front_of(ticking(threading.Event()), limits={'drain_timeout_ms': 1000})
    assert json.loads(get(gateway.admin, '/health').body) == {'status': 'ok'}
    with Client(gateway.address) as client, Client(gateway.admin) as admin:
        client.send(GET.format('/'))
        client.head()
        admin.send('GET /health HTTP/1.1\r\n')
        time.sleep(0.05)
        gateway.signal()
        time.sleep(0.1)
        admin.send('Host: t\r\n\r\n')
        response = admin.response()
        assert response.status == 503 and json.loads(response.body) == {'status': 'draining'}
    assert gateway.wait() == 0


# ---- starting

def test_an_address_in_use_is_said_and_exits_with_1(world, tmp_path):
    gateway = world.gateway([respond_route('/')])
    path = tmp_path / 'second.yaml'
    path.write_text(json.dumps({'listeners': [{'address': gateway.address}], 'routes': [respond_route('/')]}))
    start = time.monotonic()
    done = run('serve', str(path))
    assert done.returncode == 1 and time.monotonic() - start < 5
    assert gateway.address in done.stderr and 'in use' in done.stderr
    assert get(gateway.address, '/').status == 200


def test_a_socket_file_left_by_a_crash_is_taken_over_but_not_a_living_ones(world, tmp_path):
    address = f'unix:{tmp_path}/s.sock'
    listeners = [{'address': '127.0.0.1:0'}, {'address': address}]
    first = world.gateway([respond_route('/', body='first')], listeners=listeners)
    config = tmp_path / 'second.yaml'
    config.write_text(json.dumps({'listeners': [{'address': address}], 'routes': [respond_route('/')]}))
    done = run('serve', str(config))
    assert done.returncode == 1 and 'in use' in done.stderr
    assert get(address, '/').body == b'first'
    first.process.kill()
    first.process.wait()
    world.gateways.remove(first)
    second = world.gateway([respond_route('/', body='second')], listeners=listeners)
    assert get(address, '/').body == b'second'
    assert second.is_running()


def test_an_address_of_another_machine_is_said(tmp_path):
    path = tmp_path / 'c.yaml'
    path.write_text(json.dumps({'listeners': [{'address': '192.0.2.1:8080'}], 'routes': [respond_route('/')]}))
    done = run('serve', str(path))
    assert done.returncode == 1 and '192.0.2.1:8080' in done.stderr


GOOD = '''
listeners:
  - address: 127.0.0.1:8080
upstreams:
  - name: models
    endpoints: ["127.0.0.1:8000"]
routes:
  - path_prefix: /v1
    inference: { upstream: models }
'''
BAD = '''
listeners:
  - address: 127.0.0.1:99999
workers: many
upstreams:
  - name: models
    endpoints: ["127.0.0.1:8000"]
routes:
  - path_prefix: /v1
    inference: { upstream: modles }
  - path_prefix: /x
    repond: { status: 200 }
'''


def test_check_says_that_a_good_file_is_good(tmp_path):
    path = tmp_path / 'good.yaml'
    path.write_text(GOOD)
    done = run('check', str(path))
    assert done.returncode == 0 and 'good' in done.stdout and done.stderr == ''


@pytest.mark.parametrize('verb', ['check', 'serve'])
def test_everything_that_is_wrong_is_said_with_its_line(tmp_path, verb):
    path = tmp_path / 'bad.yaml'
    path.write_text(BAD)
    done = run(verb, str(path))
    assert done.returncode == 1
    for line, word in ((3, '99999'), (4, 'workers'), (10, 'modles'), (12, 'repond')):
        assert re.search(rf'^{re.escape(str(path))}:{line}:.*{word}', done.stderr, re.M), done.stderr


@pytest.mark.parametrize('verb', ['check', 'serve'])
def test_a_missing_file_is_said(tmp_path, verb):
    done = run(verb, str(tmp_path / 'nope.yaml'))
    assert done.returncode == 1 and 'nope.yaml' in done.stderr
    done = run(verb, str(tmp_path))
    assert done.returncode == 1 and str(tmp_path) in done.stderr


def test_the_examples_are_good():
    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'examples')
    names = [n for n in os.listdir(folder) if n.endswith('.yaml')]
    assert names
    for name in names:
        done = run('check', os.path.join(folder, name))
        assert done.returncode == 0, done.stderr


def test_environment_variables_are_put_in(tmp_path):
    path = tmp_path / 'env.yaml'
    path.write_text(GOOD.replace('127.0.0.1:8000', '${BACKEND:-127.0.0.1:8000}').replace('8080', '${PORT}'))
    assert run('check', str(path), env={**os.environ, 'PORT': '8080'}).returncode == 0
    assert run('check', str(path), env={**os.environ, 'PORT': 'x'}).returncode == 1
    missing = run('check', str(path), env={k: v for k, v in os.environ.items() if k != 'PORT'})
    assert missing.returncode == 1 and 'PORT' in missing.stderr


def test_the_reference_is_what_the_program_reads_by():
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'docs', 'configuration.md'), encoding='utf-8') as f:
        assert run('reference').stdout == f.read()


def test_usage_and_version():
    assert run('--version').stdout.startswith('sluice ')
    assert run('--help').returncode == 0 and 'serve FILE' in run('--help').stdout
    for arguments in ((), ('nonsense',), ('serve',), ('check', 'a', 'b'), ('demo', '--nonsense')):
        done = run(*arguments)
        assert done.returncode == 2 and done.stderr


def test_an_upstream_may_have_as_many_endpoints_as_the_reference_says(world):
    bounds = re.search(r'^\| `endpoints` \|.*\| 1–(\d+) entries', run('reference').stdout, re.M)
    backend = world.backend()
    endpoints = [f'127.0.0.1:{p}' for p in range(1, int(bounds[1]))] + [backend.address]
    gateway = world.gateway(endpoints=endpoints)
    wait_until(lambda: get(gateway.address, '/').status == 200, 10, 'the one that lives is found')


# ---- the demo

def free_port():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        return sock.getsockname()[1]


def test_the_demo_prints_three_lines_that_work_and_stops_on_ctrl_c(world):
    port, admin = free_port(), free_port()
    demo = world.program([SLUICE, 'demo', '--port', str(port), '--admin-port', str(admin)], r'Ctrl-C stops', 'sluice demo')
    lines = [line.strip() for line in demo.output if line.strip().startswith('curl ')]
    assert len(lines) == 3
    answers = []
    for line in lines:
        done = subprocess.run(['sh', '-c', line + ' -sS --noproxy "*" --max-time 20'], capture_output=True, timeout=30, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    assert json.loads(answers[0])['choices'][0]['message']['content']
    assert answers[1].startswith(b'data: {') and answers[1].endswith(b'data: [DONE]\n\n')
    assert parse(answers[2].decode()).value('http_requests_total', status='200') == 2
    assert get(('127.0.0.1', port), '/health').status == 200
    assert post(('127.0.0.1', port), '/api/requests', '{"a": 1}').status == 202
    assert json.loads(post(('127.0.0.1', port), '/api/compute', '{"n": 100}').body)['primes'] == 25
    demo.signal(signal.SIGINT)
    assert demo.wait(10) == 0


def test_the_demo_says_when_its_port_is_in_use():
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        sock.listen()
        port = sock.getsockname()[1]
        done = run('demo', '--port', str(port), '--admin-port', str(free_port()))
        assert done.returncode == 1 and str(port) in done.stderr and 'in use' in done.stderr


def test_the_demo_stops_in_the_middle_of_a_stream(world):
    port = free_port()
    demo = world.program([SLUICE, 'demo', '--port', str(port), '--admin-port', str(free_port())], r'Ctrl-C stops', 'sluice demo')
    with Client(('127.0.0.1', port)) as client:
        body = json.dumps({'stream': True, 'max_tokens': 20, 'ignore_eos': True, 'messages': [{'role': 'user', 'content': 'x'}]})
        client.send(f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n{body}')
        response = client.head()
        client.chunk()
        demo.signal(signal.SIGINT)
        assert b'[DONE]' in client.body_of(response).body
    assert demo.wait(10) == 0


# ---- what it tells about itself

def test_the_admin_listener_answers_what_it_has_and_nothing_else(world):
    gateway = world.gateway([respond_route('/')])
    with Client(gateway.admin) as admin:
        assert admin.request(GET.format('/health')).fields['content-type'] == 'application/json'
        assert admin.request('HEAD /health HTTP/1.1\r\nHost: t\r\n\r\n').status == 200
        assert admin.request(GET.format('/metrics')).fields['content-type'].startswith('text/plain; version=0.0.4')
        assert admin.request(GET.format('/')).status == 404
        refused = admin.request('POST /health HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n')
        assert refused.status == 405 and 'GET' in refused.fields['allow']
    assert get(gateway.address, '/metrics').status == 404, 'it is not on the other port'


def test_metrics_parse_and_add_up(world):
    sim = world.sim()
    gateway = world.gateway([http_route(name='web'), inference_route(path='/v1', name='models'), respond_route('/fixed', body='hi')],
                            endpoints=[sim.address], workers=2)
    first = gateway.metrics()
    assert first.value('http_requests_total') == 0
    for _ in range(7):
        assert get(gateway.address, '/fixed').status == 200
    for status in (200, 200, 404, 503):
        assert get(gateway.address, f'/status/{status}').status == status
    assert post(gateway.address, '/v1/chat/completions', '{"max_tokens":2,"messages":[{"role":"user","content":"x"}]}').status == 200
    assert get(gateway.address, '/fixed', method='HEAD').status == 200
    assert get(gateway.address, '/delay/120').status == 200
    with Client(gateway.address) as client:
        assert client.request('GET / HTTP/1.1\r\n\r\n').status == 400
    metrics = gateway.metrics()
    total = lambda **labels: metrics.value('http_requests_total', **labels)  # noqa: E731
    assert total(route='/fixed', method='GET', status='200') == 7
    assert total(route='/fixed', method='HEAD', status='200') == 1
    assert total(route='web', method='GET', status='200') == 3
    assert total(route='web', status='404') == 1 and total(route='web', status='503') == 1
    assert total(route='models', method='POST', status='200') == 1
    assert total(route='none', status='400') == 1
    assert total() == 7 + 4 + 1 + 1 + 1 + 1
    count = metrics.value('http_request_duration_seconds_count')
    assert count == total()
    assert metrics.value('http_request_duration_seconds_bucket', route='web', le='0.1') == 4
    assert 0.1 < metrics.value('http_request_duration_seconds_sum', route='web') < 3
    assert metrics.value('errors_total', type='bad_request') == 1
    assert metrics.value('active_connections') == 1
    assert metrics.value('sluice_upstream_connects_total') >= 1
    assert metrics.value('sluice_endpoint_in_flight') == 0
    assert metrics.value('sluice_build_info') == 1
    for name in ('submissions', 'completions', 'enters', 'buffer_shortages', 'overflows'):
        assert metrics.labels(f'sluice_ring_{name}_total', 'worker') == {'0', '1'}, name
    assert metrics.value('sluice_ring_submissions_total') > 0
    assert metrics.value('sluice_ring_overflows_total') == 0
    later = gateway.metrics()
    for key, value in metrics.items():
        if key[0].endswith(('_total', '_count', '_bucket')):
            assert later[key] >= value, f'{key} went down'


def test_metrics_can_be_asked_for_while_workers_start_and_stop(world, tmp_path):
    """Whichever worker answers reads the counters of all: those that are not there yet, and those that are through."""
    admin = f'127.0.0.1:{free_port()}'
    config = tmp_path / 'c.yaml'
    config.write_text(json.dumps({'workers': 4, 'pin': False, 'listeners': [{'address': '127.0.0.1:0'}], 'admin': {'address': admin},
                                  'limits': {'linger_timeout_ms': 0}, 'routes': [respond_route('/')]}))
    for _ in range(10):
        program = world.program([SLUICE, 'serve', str(config)], r'listening on .*admin', 'sluice')
        assert parse(get(admin, '/metrics').body.decode()).labels('sluice_ring_enters_total', 'worker') == set('0123')
        clients = [Client(admin) for _ in range(8)]
        for client in clients:
            client.send('GET /metrics HTTP/1.1\r\n')
        time.sleep(0.02)
        program.signal()
        for client in clients:  # the workers stop one after the other
            time.sleep(0.01)
            client.send('Host: t\r\n\r\n')
            assert client.response().status == 200
            client.close()
        assert program.wait() == 0


def test_labels_come_from_fixed_sets_only(world):
    gateway = world.gateway([respond_route('/fixed')])
    for i in range(20):
        get(gateway.address, f'/random/{i}')
        get(gateway.address, '/fixed', method=('PROPFIND', 'LOCK', 'REPORT', 'SEARCH')[i % 4], host=f'h{i}')
    metrics = gateway.metrics()
    assert metrics.labels('http_requests_total', 'route') == {'/fixed', 'none'}
    assert metrics.labels('http_requests_total', 'method') <= {'GET', 'OTHER'}


def test_the_access_log_tells_each_request_in_json(world):
    sim = world.sim()
    gateway = world.gateway([http_route(name='web'), respond_route('/fixed', body='hello')], endpoints=[sim.address], access_log=True)
    get(gateway.address, '/fixed?a=b%22c', host='Example.com:80', fields='X-Request-Id: id-1\r\n')
    post(gateway.address, '/upload', b'x' * 1234, host='h')
    get(gateway.address, '/bytes/5000')
    get(gateway.address, '/delay/60')
    get(gateway.address, '/status/404')
    lines = gateway.access_log(5)
    by_target = {line['target']: line for line in lines}
    assert len(lines) == 5
    fixed = by_target['/fixed?a=b%22c']
    assert (fixed['method'], fixed['host'], fixed['status'], fixed['route']) == ('GET', 'Example.com:80', 200, '/fixed')
    assert fixed['client'] == '127.0.0.1' and fixed['request_id'] == 'id-1' and fixed['response_bytes'] == 5
    assert abs(fixed['time_ms'] / 1000 - time.time()) < 60
    upload = by_target['/upload']
    assert upload['request_bytes'] == 1234 and upload['endpoint'] == sim.address and upload['route'] == 'web'
    assert by_target['/bytes/5000']['response_bytes'] == 5000
    slow = by_target['/delay/60']
    assert 60_000 <= slow['first_byte_us'] <= slow['duration_us'] < 5_000_000
    assert by_target['/status/404']['status'] == 404
    assert len({line['request_id'] for line in lines}) == 5


def test_the_access_log_cannot_be_forged(world):
    gateway = world.gateway([respond_route('/')], access_log=True)
    with Client(gateway.address) as client:
        client.send(b'GET /?x HTTP/1.1\r\nHost: t\r\nX-Request-Id: a"b\\c\r\n\r\nGET /?\xc3\xa9\x80"\n HTTP/1.1\r\n\r\n')
        assert client.response().fields['x-request-id'] == 'a"b\\c'
        client.response()
    get(gateway.address, '/?' + 'a' * 5000)
    lines = gateway.access_log(3)
    assert [line['status'] for line in lines] == [200, 400, 200]
    assert lines[0]['request_id'] == 'a"b\\c'


def test_requests_that_fail_are_in_the_access_log_too(world):
    """Refused for their head, without a route, left by their client: each is one line."""
    _, gateway = world.in_front_of(lambda peer: (peer.request(), peer.wait_end()), access_log=True,
                                   routes=[http_route(path='/wait'), respond_route('/fixed')])
    get(gateway.address, '/nowhere')
    with Client(gateway.address) as client:
        assert client.request('GET /fixed HTTP/1.1\r\nHost: a b\r\n\r\n').status == 400
    client = Client(gateway.address)
    client.send(GET.format('/wait'))
    time.sleep(0.05)
    client.reset()
    lines = gateway.access_log(3)
    assert sorted(line['status'] for line in lines) == [400, 404, 499]


# ---- running out

def limit_descriptors(count):
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def test_out_of_descriptors_it_pauses_and_recovers(world):
    gateway = world.gateway([respond_route('/', body='hi')], start={'preexec': limit_descriptors(64)})
    clients = []
    answered = 0
    for _ in range(100):
        client = Client(gateway.address)
        client.send(GET.format('/'))
        clients.append(client)
    for client in clients:
        client.sock.settimeout(0.05 if answered >= 20 else 5)
        try:
            assert client.response().body == b'hi'
            answered += 1
        except (socket.timeout, TimeoutError, Ended, ConnectionError):
            pass
    assert 20 <= answered < 64
    for client in clients:
        client.close()
    for _ in range(20):
        assert get(gateway.address, '/').body == b'hi'
    assert gateway.metrics().value('sluice_ring_accept_failures_total') > 0
    wait_until(lambda: gateway.descriptors() < 30)


@pytest.mark.parametrize('route', [http_route(), inference_route()], ids=['http', 'inference'])
def test_out_of_descriptors_a_proxied_request_gets_an_error_and_later_ones_do_not(world, route):
    backend = world.backend()
    gateway = world.gateway([route], endpoints=[backend], start={'preexec': limit_descriptors(40)})
    clients = [Client(gateway.address) for _ in range(40)]
    time.sleep(0.2)
    clients[0].send(GET.format('/'))
    answer = clients[0].response()
    assert answer.status == 503
    assert (answer.fields['retry-after'], answer.fields['retry-after-ms']) == ('1', '1000')
    assert answer.fields['x-should-retry'] == 'true' and answer.fields['x-sluice-reason'] == 'overloaded'
    for client in clients:
        client.close()
    wait_until(lambda: get(gateway.address, '/').status == 200, 10)


def test_more_connections_than_allowed_wait_or_are_refused_and_then_served(world):
    gateway = world.gateway([respond_route('/', body='hi')], limits={'connections_max': 10})
    held = [Client(gateway.address) for _ in range(10)]
    for client in held:
        assert client.request(GET.format('/')).body == b'hi'
    with Client(gateway.address) as waiting:
        waiting.send(GET.format('/'))
        assert waiting.is_open(0.3), 'it waits in the kernel\'s queue, as the reference says'
        assert get(gateway.admin, '/health').status == 200, 'the admin is not shut out'
        assert gateway.metrics().value('active_connections') == 11
        held.pop().close()
        assert waiting.response().body == b'hi'
    for client in held:
        assert client.request(GET.format('/')).body == b'hi'
        client.close()


def test_no_descriptor_is_lost(world):
    backend = world.backend()
    gateway = world.gateway([http_route(), respond_route('/fixed')], endpoints=[backend], upstream={'keepalive_idle_ms': 200})
    get(gateway.address, '/')
    wait_until(lambda: backend.peers[0].how)
    before = gateway.descriptors()
    for _ in range(50):
        get(gateway.address, '/')
        get(gateway.address, '/fixed')
        client = Client(gateway.address)
        client.send('GET /')
        client.reset()
    wait_until(lambda: gateway.descriptors() <= before, what='every descriptor is closed')


# ---- workers

def test_two_workers_share_the_connections(world):
    sim = world.sim()
    gateway = world.gateway([http_route(), respond_route('/fixed', body='hi')], endpoints=[sim.address], workers=2, pin=True)
    clients = [Client(gateway.address) for _ in range(64)]
    for client in clients:
        client.send(GET.format('/fixed'))
    for client in clients:
        assert client.response().body == b'hi'
        client.send(GET.format('/echo'))
    for client in clients:
        assert client.response().status == 200
    metrics = gateway.metrics()
    accepts = [metrics.value('sluice_ring_accepts_total', worker=w) for w in '01']
    assert sum(accepts) >= 64 and min(accepts) > 5, accepts
    assert metrics.value('http_requests_total') == 128
    for client in clients:
        client.close()


def test_more_workers_than_cores_work_too(world):
    gateway = world.gateway([respond_route('/', body='hi')], workers=5)
    for _ in range(40):
        assert get(gateway.address, '/').body == b'hi'


def test_workers_stay_on_the_cores_that_the_process_may_use(world):
    allowed = sorted(os.sched_getaffinity(0))
    gateway = world.gateway([respond_route('/')], workers='auto', pin=True,
                            start={'preexec': lambda: os.sched_setaffinity(0, {allowed[-1]})})
    gateway.wait_line(r'starting 1 worker on 1 core')
    assert get(gateway.address, '/').status == 200


def test_idle_it_uses_no_time(world):
    gateway = world.gateway([respond_route('/')])
    clients = [Client(gateway.address) for _ in range(100)]
    for client in clients:
        client.request(GET.format('/'))

    def ticks():
        with open(f'/proc/{gateway.pid}/stat', encoding='ascii') as f:
            fields = f.read().rsplit(')', 1)[1].split()
        return int(fields[11]) + int(fields[12])
    time.sleep(0.3)
    before = ticks()
    time.sleep(1)
    assert ticks() - before <= (10 if SANITIZED else 2), 'ticks of 10 ms in a second'
    for client in clients:
        client.close()
