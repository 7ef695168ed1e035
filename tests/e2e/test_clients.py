"""Clients and backends that people use: httpx, curl, wrk, nginx."""

import asyncio
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import httpx
import pytest
from programs import http_route, inference_route, respond_route
from rawhttp import Client, get, wait_until

NGINX = shutil.which('nginx', path=os.environ.get('PATH', '') + ':/usr/sbin')


@pytest.fixture(scope='module')
def sim(module_world):
    return module_world.sim('--time-scale', '10')


@pytest.fixture(scope='module')
def gateway(module_world, sim):
    return module_world.gateway([http_route(), inference_route(path='/v1'), respond_route('/fixed', body='fixed')],
                                endpoints=[sim.address])


def curl(*arguments, stdin=None):
    done = subprocess.run(['curl', '-sS', '--max-time', '20', *arguments], input=stdin, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


# ---- httpx

def test_httpx_gets_posts_and_streams(gateway):
    with httpx.Client(base_url=gateway.url) as client:
        assert client.get('/fixed').text == 'fixed'
        assert client.get('/echo', params={'q': 'ä ö'}).json()['target'].replace('+', '%20') == '/echo?q=%C3%A4%20%C3%B6'
        answer = client.post('/echo', json={'a': 1}).json()
        assert json.loads(answer['body']) == {'a': 1}
        assert client.put('/echo', content=(p for p in (b'a', b'b', b'c'))).json()['body'] == 'abc'
        assert client.head('/fixed').headers['content-length'] == '5'
        assert client.get('/status/404').status_code == 404
        with client.stream('GET', '/ticker?events=20&rate=200') as response:
            lines = [line.strip() for line in response.iter_lines() if line.startswith('data:')]
        assert len(lines) == 21 and lines[-1] == 'data: [DONE]'


def test_httpx_posts_files_and_forms(gateway):
    with httpx.Client(base_url=gateway.url) as client:
        data = os.urandom(500_000)
        answer = client.post('/upload', files={'file': ('name.bin', data)}).json()
        assert answer['bytes'] > len(data)
        assert client.post('/echo', data={'a': 'b c', 'd': 'é'}).json()['body'] == 'a=b+c&d=%C3%A9'


def test_a_hundred_httpx_requests_at_once(gateway):
    async def run():
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(base_url=gateway.url, limits=limits, timeout=30) as client:
            answers = await asyncio.gather(*(client.post(f'/echo/{i}', content=f'body {i}' * i) for i in range(100)))
            for i, answer in enumerate(answers):
                assert answer.json()['target'] == f'/echo/{i}' and answer.json()['body'] == f'body {i}' * i
    asyncio.run(run())


def test_httpx_keeps_its_connection(gateway):
    before = gateway.metrics().value('sluice_connections_total')
    with httpx.Client(base_url=gateway.url) as client:
        for _ in range(20):
            assert client.get('/fixed').status_code == 200
            assert client.get('/echo').status_code == 200
    assert gateway.metrics().value('sluice_connections_total') - before <= 2, 'it and the second scrape'


# ---- curl

def test_curl_in_each_of_its_ways(gateway):
    url = gateway.url
    assert curl(url + '/fixed') == b'fixed'
    assert curl('--http1.0', url + '/fixed') == b'fixed'
    assert json.loads(curl('--http1.0', url + '/echo'))['version'] == '1.1'
    assert len(curl('--http1.0', url + '/bytes/100000?chunked=1')) == 100_000
    assert curl('--http1.1', '--no-keepalive', url + '/fixed') == b'fixed'
    echoed = json.loads(curl('--compressed', url + '/echo'))
    assert any(n.lower() == 'accept-encoding' for n, _ in echoed['headers'])
    assert b'HTTP/1.1 200 OK' in curl('-I', url + '/fixed')
    assert curl('-o', '/dev/null', '-w', '%{http_code}', url + '/nowhere/at/all') in (b'404',)
    assert curl('--http2', url + '/fixed') == b'fixed', 'an upgrade to h2c that is asked for is passed over'


def test_curl_normalizes_nothing_with_path_as_is(gateway):
    assert curl('--path-as-is', gateway.url + '/echo/../fixed') == b'fixed'
    assert json.loads(curl('--path-as-is', gateway.url + '/x/../echo/a'))['target']


def test_curl_uploads_a_file(gateway, tmp_path):
    path = tmp_path / 'upload'
    path.write_bytes(os.urandom(3_000_000))
    for more in ((), ('-H', 'Transfer-Encoding: chunked'), ('-H', 'Expect:'), ('--http1.0',), ('-H', 'Expect: 100-continue')):
        answer = json.loads(curl('-T', str(path), *more, gateway.url + '/upload'))
        assert answer['bytes'] == 3_000_000
    answer = json.loads(curl('-T', '-', gateway.url + '/upload', stdin=b'from a pipe'))
    assert answer['bytes'] == 11


def test_curl_resumes_reuses_and_runs_in_parallel(gateway):
    assert curl(*[a for _ in range(10) for a in (gateway.url + '/fixed',)]) == b'fixed' * 10
    urls = [gateway.url + f'/delay/{50 + i}' for i in range(10)]
    start = time.monotonic()
    assert curl('--parallel', *urls).count(b'delay_ms') == 10
    assert time.monotonic() - start < 3


def test_curl_sees_events_as_they_come(gateway):
    process = subprocess.Popen(['curl', '-sN', gateway.url + '/ticker?events=5&rate=10'], stdout=subprocess.PIPE)
    times = []
    for line in process.stdout:
        if line.startswith(b'data: {'):
            times.append(time.monotonic())
    assert process.wait(10) == 0
    assert len(times) == 5
    assert all(b - a > 0.03 for a, b in zip(times, times[1:])), 'they came apart from each other'


def test_curl_says_so_when_an_answer_is_cut_off(gateway):
    for path, code in (('/bytes/1000000', (18, 56)), ('/bytes/1000000?chunked=1', (18, 56))):
        done = subprocess.run(['curl', '-s', '-o', '/dev/null', '-H', 'x-sim-fault: close-after=500000', gateway.url + path],
                              check=False, timeout=20)
        assert done.returncode in code


# ---- wrk

@pytest.mark.parametrize('path', ['/fixed', '/bytes/1000', '/bytes/100000', '/bytes/20000?chunked=1'])
def test_wrk_sees_no_error(gateway, path):
    done = subprocess.run(['wrk', '-t1', '-c32', '-d1s', gateway.url + path], capture_output=True, text=True, timeout=30, check=False)
    print(done.stdout)
    assert done.returncode == 0
    assert 'Socket errors' not in done.stdout and 'Non-2xx' not in done.stdout
    assert int(re.search(r'(\d+) requests in', done.stdout)[1]) > 50
    metrics = wait_until(lambda: (lambda m: m if m.value('active_connections') == 1 else None)(gateway.metrics()))
    assert metrics.value('sluice_active_requests') == 0


def test_wrk_with_a_pipeline_of_sixteen(gateway, tmp_path):
    script = tmp_path / 'pipeline.lua'
    script.write_text('init = function(args)\n  local r = {}\n  for i = 1, 16 do r[i] = wrk.format() end\n'
                      '  all = table.concat(r)\nend\nrequest = function() return all end\n')
    done = subprocess.run(['wrk', '-t1', '-c16', '-d1s', '-s', str(script), gateway.url + '/fixed'],
                          capture_output=True, text=True, timeout=30, check=False)
    print(done.stdout)
    assert 'Socket errors' not in done.stdout and 'Non-2xx' not in done.stdout


# ---- nginx behind the gateway

@pytest.fixture(scope='module')
def nginx(module_world, tmp_path_factory):
    if not NGINX:
        pytest.skip('nginx is not installed')
    folder = tmp_path_factory.mktemp('nginx')
    www = folder / 'www'
    www.mkdir()
    (www / 'index.html').write_text('<h1>hello</h1>')
    (www / 'large.bin').write_bytes(os.urandom(1 << 20) * 40)
    (www / 'empty').write_bytes(b'')
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    temporary = ''.join(f'{kind}_temp_path {folder}/{kind};\n' for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
    (folder / 'nginx.conf').write_text(f'''
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  {temporary} access_log off; keepalive_requests 50; keepalive_timeout 2s;
  server {{ listen 127.0.0.1:{port}; listen unix:{folder}/nginx.sock; root {www}; client_max_body_size 100m;
    location /gone {{ return 410 "gone\\n"; }}
    location /old {{ return 301 /index.html; }} }}
}}''')
    module_world.program([NGINX, '-c', str(folder / 'nginx.conf'), '-p', str(folder), '-e', 'stderr'], name='nginx')

    def is_up():
        try:
            return get(('127.0.0.1', port), '/').status == 200
        except OSError:
            return False
    wait_until(is_up, 10, 'nginx answers')
    return port, folder


@pytest.fixture(scope='module')
def before_nginx(module_world, nginx):
    port, folder = nginx
    return module_world.gateway([http_route('tcp'), http_route('unix', '/local')], upstreams=[
        {'name': 'tcp', 'endpoints': [f'127.0.0.1:{port}']}, {'name': 'unix', 'endpoints': [f'unix:{folder}/nginx.sock']}])


def test_nginxs_files_arrive_whole(before_nginx, nginx):
    with httpx.Client(base_url=before_nginx.url) as client:
        answer = client.get('/')
        assert answer.text == '<h1>hello</h1>' and answer.headers['server'].startswith('nginx')
        assert answer.headers['via'] == '1.1 sluice'
        large = client.get('/large.bin')
        assert hashlib.sha256(large.content).digest() == hashlib.sha256((nginx[1] / 'www' / 'large.bin').read_bytes()).digest()
        assert client.get('/empty').content == b''
        assert client.get('/nope').status_code == 404
        assert client.get('/gone').status_code == 410
        assert client.get('/local/x').status_code == 404
        redirect = client.get('/old')
        assert redirect.status_code == 301 and redirect.headers['location'].endswith('/index.html')


def test_ranges_and_conditional_requests_pass(before_nginx, nginx):
    data = (nginx[1] / 'www' / 'large.bin').read_bytes()
    with httpx.Client(base_url=before_nginx.url) as client:
        part = client.get('/large.bin', headers={'Range': 'bytes=1000-1999'})
        assert part.status_code == 206 and part.content == data[1000:2000]
        assert part.headers['content-range'] == f'bytes 1000-1999/{len(data)}'
        many = client.get('/large.bin', headers={'Range': 'bytes=0-9,20-29'})
        assert many.status_code == 206 and many.headers['content-type'].startswith('multipart/byteranges')
        assert client.get('/large.bin', headers={'Range': 'bytes=999999999-'}).status_code == 416
        first = client.get('/')
        again = client.get('/', headers={'If-None-Match': first.headers['etag']})
        assert again.status_code == 304 and again.content == b''
        assert client.head('/large.bin').headers['content-length'] == str(len(data))
        assert client.get('/').text == '<h1>hello</h1>'


def test_nginxs_keep_alive_limits_cost_no_request(before_nginx):
    """nginx closes each connection after 50 requests, and idle ones after 2 s."""
    with Client(before_nginx.address) as client:
        for _ in range(500):
            assert client.request('GET / HTTP/1.1\r\nHost: t\r\n\r\n').status == 200
    errors = []

    def work():
        with Client(before_nginx.address) as client:
            for _ in range(200):
                status = client.request('POST / HTTP/1.1\r\nHost: t\r\nContent-Length: 3\r\n\r\nabc').status
                if status != 405:  # nginx's answer to a POST for a file
                    errors.append(status)
    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_wrk_through_to_nginx_sees_no_error(before_nginx):
    done = subprocess.run(['wrk', '-t1', '-c32', '-d2s', before_nginx.url + '/index.html'], capture_output=True, text=True, timeout=30, check=False)
    print(done.stdout)
    assert 'Socket errors' not in done.stdout and 'Non-2xx' not in done.stdout


def test_nginx_in_front_of_the_gateway_keeps_its_connections(world, tmp_path):
    """The other way round: nginx as a client, with keep-alive and without buffering."""
    if not NGINX:
        pytest.skip('nginx is not installed')
    sim = world.sim()
    gateway = world.gateway([http_route(), respond_route('/fixed', body='fixed')], endpoints=[sim.address])
    temporary = ''.join(f'{kind}_temp_path {tmp_path}/{kind};\n' for kind in ('client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'))
    (tmp_path / 'nginx.conf').write_text(f'''
daemon off; master_process off; pid {tmp_path}/pid; error_log stderr warn;
events {{ worker_connections 256; }}
http {{
  {temporary} access_log off;
  upstream sluice {{ server {gateway.address}; keepalive 16; }}
  server {{ listen unix:{tmp_path}/front.sock;
    location / {{ proxy_pass http://sluice; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
                  proxy_request_buffering off; }} }}
}}''')
    world.program([NGINX, '-c', str(tmp_path / 'nginx.conf'), '-p', str(tmp_path), '-e', 'stderr'], name='nginx')
    front = f'unix:{tmp_path}/front.sock'

    def is_up():
        try:
            return get(front, '/fixed').body == b'fixed'
        except OSError:
            return False
    wait_until(is_up, 10)
    with Client(front) as client:
        for i in range(100):
            assert client.request('GET /fixed HTTP/1.1\r\nHost: t\r\n\r\n').body == b'fixed'
            body = 'x' * (i * 100)
            answer = client.request(f'POST /upload HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n{body}')
            assert json.loads(answer.body)['bytes'] == len(body)
        assert client.request('GET /bytes/5000000 HTTP/1.1\r\nHost: t\r\n\r\n').status == 200
    assert gateway.metrics().value('sluice_connections_total') < 10
