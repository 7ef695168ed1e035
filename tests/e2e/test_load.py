"""bench/load: that its figures are true, that its page says the same as its JSON, and that it loads nobody else's server.

Its programs are built in release only, where alone they are measured; in other presets there is nothing to test."""

import html.parser
import importlib.util
import json
import math
import os
import py_compile
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import types
import xml.etree.ElementTree as ElementTree

import pytest

from programs import BUILD, ROOT, SLUICE
from rawhttp import wait_until

LOAD = os.path.join(BUILD, 'bench', 'load')
FOLDER = os.path.join(ROOT, 'bench', 'load')
RUN = os.path.join(FOLDER, 'run')
sys.path[:0] = [os.path.join(ROOT, 'bench'), FOLDER]

from loadtest import compare, judge, plot, soak, target  # noqa: E402  pylint: disable=wrong-import-position
from runner.process import Failure  # noqa: E402  pylint: disable=wrong-import-position

needs_load = pytest.mark.skipif(not os.access(LOAD, os.X_OK), reason='the load is built in release only')


def load(port, *arguments, seconds=1.0, warmup=0.1):
    done = subprocess.run([LOAD, '--port', str(port), '--window-ms', str(int(seconds * 1000)),
                           '--warmup-ms', str(int(warmup * 1000)), *map(str, arguments)],
                          capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def run(*arguments, seconds=60):
    return subprocess.run([sys.executable, RUN, '--program', LOAD, '--sluice', SLUICE, *map(str, arguments)],
                          capture_output=True, text=True, timeout=seconds, check=False)


class Server:
    """One thread that answers each request at once, except that it does nothing at all for `stall_s` once, `at_s` after
    the first request. Counts what it has answered."""

    def __init__(self, at_s=None, stall_s=0.0, status='200 OK'):
        self.at_s, self.stall_s, self.answered = at_s, stall_s, 0
        self.answer = f'HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nok'.encode()
        self.listener = socket.create_server(('127.0.0.1', 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        import selectors
        selector = selectors.DefaultSelector()
        selector.register(self.listener, selectors.EVENT_READ)
        began = None
        while not self.ending.is_set():
            for key, _ in selector.select(0.02):
                if key.fileobj is self.listener:
                    selector.register(self.listener.accept()[0], selectors.EVENT_READ)
                    continue
                data = key.fileobj.recv(65536)
                if not data:
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    continue
                began = began or time.monotonic()
                if self.at_s is not None and time.monotonic() - began > self.at_s:
                    self.at_s = None
                    time.sleep(self.stall_s)
                for _ in range(data.count(b'\r\n\r\n')):
                    key.fileobj.sendall(self.answer)
                    self.answered += 1
        for key in list(selector.get_map().values()):
            key.fileobj.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.thread.join()


# ---- the generator

@needs_load
def test_a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one():
    """Coordinated omission. Half of the requests are due while the server does nothing for a second: a closed loop of
    four connections has just four slow ones."""
    with Server(at_s=0.5, stall_s=1.0) as server:
        closed, = load(server.port, '--mode', 'paced', '--connections', 4, seconds=2)
    with Server(at_s=0.5, stall_s=1.0) as server:
        open_loop, = load(server.port, '--mode', 'paced', '--connections', 4, '--rate', 200, seconds=2)
    assert closed['latency']['max_us'] > 900e3 and open_loop['latency']['max_us'] > 900e3
    assert closed['latency']['p99_us'] < 100e3, 'the closed loop asked nothing while it should have suffered'
    assert 700e3 < open_loop['latency']['p90_us'] < 900e3, 'a tenth of all waited for more than 0.8 s'
    assert open_loop['service']['p90_us'] < 100e3, 'from the send, an open loop looks as good as a closed one'
    assert open_loop['requests'] == pytest.approx(400, abs=2) and open_loop['good'] == open_loop['requests']
    assert open_loop['waited'] == pytest.approx(200, abs=30), 'of those that were due meanwhile'


@needs_load
def test_who_is_never_answered_counts_with_the_time_waited():
    with Server(at_s=0.4, stall_s=1.5) as server:
        figures, = load(server.port, '--mode', 'paced', '--connections', 2, '--rate', 100, '--grace-ms', 300, seconds=1)
    assert figures['unanswered'] + figures['good'] == figures['requests'] == pytest.approx(100, abs=1)
    assert figures['unanswered'] == pytest.approx(70, abs=10)
    assert figures['latency']['count'] == figures['requests']
    assert figures['latency']['p90_us'] > 700e3


@needs_load
def test_a_rate_is_kept_and_every_request_is_counted_by_both_ends():
    with Server() as server:
        figures, = load(server.port, '--mode', 'paced', '--connections', 16, '--rate', 400, '--arrivals', 'poisson')
        assert figures['good_ever'] == figures['sent_ever'] == server.answered
    assert figures['requests'] == pytest.approx(400, abs=5 * math.sqrt(400))
    assert figures['statuses'] == {'200': figures['requests']}


@needs_load
def test_refusals_are_apart_from_what_was_answered():
    with Server(status='503 Service Unavailable') as server:
        figures, = load(server.port, '--mode', 'paced', '--connections', 2, '--rate', 100, seconds=0.5)
    assert figures['good'] == 0 and figures['per_s'] == 0 and 'latency' not in figures
    assert figures['failed'] == figures['refusal']['count'] == figures['requests'] == figures['statuses']['503']


@needs_load
def test_tokens_and_their_times_are_those_of_the_stream(world):
    sim = world.sim('--ticker', '--ticker-rate', '50')
    body = json.dumps({'model': 'sluice-sim', 'stream': True, 'max_tokens': 10, 'ignore_eos': True,
                       'messages': [{'role': 'user', 'content': 'Question {n}'}]})
    figures, = load(sim.address.rsplit(':', 1)[1], '--mode', 'paced', '--connections', 32, '--rate', 20, '--method', 'POST',
                    '--path', '/v1/chat/completions', '--body', body)
    assert figures['good'] == figures['requests'] == pytest.approx(20, abs=1)
    assert figures['tokens'] == 10 * figures['good'] and figures['first_token']['count'] == figures['good']
    assert figures['token_gap']['count'] == 9 * figures['good']
    assert figures['token_gap']['p50_us'] == pytest.approx(20e3, rel=0.15)
    assert figures['latency']['p50_us'] == pytest.approx(figures['first_token']['p50_us'] + 9 * 20e3, rel=0.15)


@needs_load
def test_numbers_make_each_request_another_and_keys_make_them_few(world):
    targets = []

    def answer(peer):
        while True:
            request = peer.request()
            if request is None:
                return
            targets.append((request.target, request.body.decode(), request.fields.get('x-a')))
            peer.answer('ok')
    backend = world.backend(answer)
    port = backend.address.rsplit(':', 1)[1]
    common = ['--mode', 'paced', '--connections', 2, '--rate', 100, '--method', 'POST', '--path', '/of/{n}',
              '--headers', 'X-A: b\nX-C: d']
    load(port, *common, '--body', '{"user_id": {n}}', seconds=0.3)
    assert len(targets) == len(set(targets)) > 20
    for path, body, field in targets:
        assert path == '/of/%d' % json.loads(body)['user_id'] and field == 'b'
    targets.clear()
    load(port, *common, '--body', '{"user_id": {n}}', '--keys', 3, seconds=0.3)
    assert len(set(targets)) == 3 and len(targets) > 20


@needs_load
def test_an_interval_has_its_line_and_sigterm_ends_with_the_result():
    with Server() as server:
        process = subprocess.Popen([LOAD, '--port', str(server.port), '--mode', 'paced', '--rate', '200', '--connections', '4',
                                    '--warmup-ms', '50', '--window-ms', '60000', '--interval-ms', '100'],
                                   stdout=subprocess.PIPE)
        lines = [json.loads(process.stdout.readline()) for _ in range(4)]
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read().splitlines()
        assert process.wait(5) == 0
        process.stdout.close()
    result = json.loads(rest[-1])
    assert [round(line['at_s'], 1) for line in lines] == [0.1, 0.2, 0.3, 0.4]
    assert sum(line['answered'] for line in lines) == pytest.approx(80, abs=10)
    assert 0.4 <= result['elapsed_s'] < 5 and result['good'] >= 70 and result['failed'] == 0


@needs_load
def test_the_generator_loads_no_other_machine():
    """192.0.2.1 is of a range that exists nowhere; the refusal comes before a connection is begun."""
    for arguments in (['--address', '192.0.2.1'], ['--address', '192.0.2.1', '--host-is-mine', '192.0.2.2'],
                      ['--address', '2001:db8::1'], ['--address', 'localhost']):
        done = subprocess.run([LOAD, '--port', '80', '--mode', 'paced', *arguments], capture_output=True, text=True,
                              timeout=5, check=False)
        assert done.returncode != 0 and ('is not this machine' in done.stderr or 'not an address' in done.stderr)


# ---- the runner

class Page(html.parser.HTMLParser):
    """Insists on balanced elements; keeps the tables' cells, and what would be fetched."""

    VOID = {'meta', 'br', 'hr', 'img', 'link', 'input'}

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.fetched, self.cell = [], [], [], None
        self.feed(text)
        self.close()
        assert not self.open, f'not closed: {self.open}'

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ('src', 'href', 'data', 'srcset'):
                self.fetched.append(value)
        if tag in self.VOID:
            return
        self.open.append(tag)
        if tag == 'tr':
            self.rows.append([])
        self.cell = [] if tag in ('td', 'th') else self.cell

    def handle_startendtag(self, tag, attrs):
        assert tag in ('line', 'rect', 'circle', 'path'), tag

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f'</{tag}> closes what is not open'
        if tag in ('td', 'th'):
            self.rows[-1].append(''.join(self.cell))
            self.cell = None

    def handle_data(self, data):
        if self.cell is not None:
            self.cell.append(data)


@pytest.fixture(scope='module')
def matrix(tmp_path_factory):
    """A short matrix of the demo: (what was printed, JSON, HTML, prefix)."""
    prefix = str(tmp_path_factory.mktemp('load') / 'result')
    return result_of(prefix, '--scenario', 'plain,chat-cached', '--seconds', 0.4, '--warmup', 0.2, '--connections', '8',
                     '--rates', '100', '--arrivals', 'even')


def result_of(prefix, *arguments):
    done = run(*arguments, '--out', prefix)
    assert done.returncode == 0, done.stdout + done.stderr
    with open(prefix + '.json', encoding='utf-8') as file:
        figures = json.load(file)
    with open(prefix + '.html', encoding='utf-8') as file:
        return done.stdout, figures, file.read(), prefix


@needs_load
def test_the_server_counts_what_the_load_counts(matrix):
    _, figures, _, _ = matrix
    for name in ('plain', 'chat-cached'):
        points = figures['scenarios'][name]['points']
        assert [p['kind'] for p in points] == ['closed', 'open']
        for point in points:
            assert point['server_counted'] == point['figures']['answered_ever'] == point['figures']['sent_ever'] > 0
        assert points[1]['figures']['requests'] == pytest.approx(40, abs=1)
        assert all(p['server_core'] > 0 and p['load_core'] > 0 for p in points)
    last = figures['scenarios']['chat-cached']['samples'][-1]
    assert 0 < last['served_by_cache'] < last['asked_of_cache'], 'of fifty questions each is a miss at first'


@needs_load
def test_any_url_is_loaded_and_streams_have_their_own_columns(world, tmp_path):
    sim = world.sim('--ticker', '--ticker-rate', '500')
    body = tmp_path / 'body.json'
    body.write_text(json.dumps({'stream': True, 'max_tokens': 20, 'ignore_eos': True,
                                'messages': [{'role': 'user', 'content': 'Question {n}'}]}))
    printed, figures, text, _ = result_of(
        str(tmp_path / 'url'), '--url', sim.url + '/v1/chat/completions', '--body', f'@{body}', '--tokens', '--watch', sim.pid,
        '--seconds', 0.5, '--warmup', 0.2, '--connections', '8', '--shares', '0.5', '--header', 'X-Any: thing')
    points = figures['scenarios']['url']['points']
    for point in points:
        streams = point['figures']
        assert streams['good'] > 5 and streams['tokens'] == 20 * streams['good'] and point['server_counted'] is None
    assert points[1]['rate'] == pytest.approx(points[0]['figures']['per_s'] / 2)
    assert 'first token p50' in printed and 'Time to first token' in text and 'At the backend' not in text
    Page(text)


@needs_load
def test_the_page_is_whole_needs_nothing_and_says_what_the_json_says(matrix):
    printed, figures, text, _ = matrix
    page = Page(text)
    assert page.fetched == [] and 'url(' not in text and '@import' not in text
    pictures = re.findall(r'<svg.*?</svg>', text, re.DOTALL)
    assert len(pictures) >= 8
    for picture in pictures:
        for element in ElementTree.fromstring(picture).iter():
            for value in element.attrib.values():
                assert 'nan' not in value.lower() and 'inf' not in value.lower(), (element.tag, element.attrib)
    embedded = re.search(r"id='figures'>(.*?)</script>", text, re.DOTALL)[1]
    assert json.loads(embedded) == figures
    for outcome in figures['scenarios'].values():
        for point in outcome['points']:
            good = plot.si(point['figures']['per_s'])
            row, = [row for row in page.rows if row[2:3] == [good] and row[0].startswith(point['kind'])]
            assert not point['rate'] or row[1] == plot.si(point['rate'])
            assert re.search(rf'{point["kind"]}.* {re.escape(good)} ', printed), printed


@needs_load
def test_two_results_are_compared_point_by_point(matrix, tmp_path):
    prefix = matrix[3]
    done = run('--compare', prefix + '.json', prefix + '.html', '--out', tmp_path / 'two')
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith('  open, ')]
    assert len(rows) == 2 and all(' 1.00 ' in row for row in rows)
    Page((tmp_path / 'two-compare.html').read_text())
    assert run('--compare', prefix + '.json', tmp_path / 'none.json').returncode == 1


@needs_load
def test_a_soak_that_is_ended_early_writes_its_report(tmp_path):
    with Server() as server:
        process = subprocess.Popen(
            [sys.executable, RUN, '--program', LOAD, '--soak', '5', '--url', f'http://127.0.0.1:{server.port}/x',
             '--rates', '100', '--sample-seconds', '0.2', '--warmup', '0.1', '--watch', str(os.getpid()),
             '--out', tmp_path / 'soak'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        printed = []
        reader = threading.Thread(target=lambda: printed.extend(process.stdout), daemon=True)
        reader.start()
        wait_until(lambda: sum('resident' in line for line in printed) >= 6, seconds=20, what='six samples')
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, 1), printed
        reader.join()
        process.stdout.close()
        result = json.loads((tmp_path / 'soak.json').read_text())['soak']
        assert result['interrupted'] and len(result['samples']) >= 6
        assert result['figures']['good_ever'] == server.answered
    verdicts = {v['name']: v['verdict'] for v in result['verdicts']}
    assert set(verdicts) == {'memory', 'descriptors', 'p50', 'p99', 'errors'} and verdicts['errors'] == 'ok'
    assert all(s['rss_kb'] > 1000 and s['descriptors'] > 3 for s in result['samples'])
    Page((tmp_path / 'soak.html').read_text())


@pytest.mark.parametrize('url, word', [('http://192.0.2.1/', '--host-is-mine 192.0.2.1'), ('https://127.0.0.1/', 'plain HTTP'),
                                       ('127.0.0.1:80', 'plain HTTP'), ('http://127.0.0.1:99999/', 'not a port')])
def test_who_may_not_be_loaded(url, word):
    with pytest.raises(Failure, match=word):
        target.parse_url(url, None)


def test_who_may_be_loaded():
    assert target.parse_url('http://127.1.2.3:81/a?b=c', None) == ('127.1.2.3', 81, '127.1.2.3:81', '/a?b=c')
    assert target.parse_url('http://[::1]/', None) == ('::1', 80, '[::1]', '/')
    assert target.parse_url('http://192.0.2.1/', '192.0.2.1')[0] == '192.0.2.1'
    with pytest.raises(Failure):
        target.parse_url('http://192.0.2.1/', '192.0.2.2')


@needs_load
def test_a_matrix_that_takes_too_long_is_not_begun():
    done = run('--seconds', 600, '--minutes-max', 1)
    assert done.returncode == 1 and 'higher --minutes-max' in done.stderr


# ---- verdicts

def test_percentiles_fall_between_neighbours():
    assert judge.percentile([4, 1, 3, 2], 0.5) == 2.5 and judge.percentile([7], 0.99) == 7
    assert judge.percentile(range(101), 0.9) == pytest.approx(90) and judge.percentile([], 0.5) is None


def test_a_trend_has_the_slope_and_an_honest_uncertainty():
    """Of many noisy lines with the slope 2, about 19 of 20 have 2 between their limits."""
    chance, held = random.Random(5), 0
    xs = list(range(40))
    for _ in range(400):
        line = judge.trend(xs, [2 * x + chance.gauss(0, 10) for x in xs])
        held += line['low'] <= 2 <= line['high']
    assert 0.92 < held / 400 < 0.99
    assert judge.trend([1, 1, 1], [1, 2, 3]) is None and judge.trend([1, 2], [1, 2]) is None


def test_samples_that_are_like_their_neighbours_are_worth_less():
    """A random walk has no trend, and an uncertainty that takes its samples for independent finds one nearly always."""
    chance, found = random.Random(3), 0
    for _ in range(200):
        ys = [0.0]
        for _ in range(59):
            ys.append(ys[-1] * 0.8 + chance.gauss(0, 1))
        found += judge.direction(judge.trend(range(60), ys), 0, 59) in ('grows', 'falls')
    assert found / 200 < 0.15


def soak_samples(leak_bytes, count=60):
    chance = random.Random(1)
    return [{'at_s': 10.0 * i, 'answered_ever': 5000 * i, 'p50_us': 100 + chance.gauss(0, 3), 'p99_us': 900, 'descriptors': 50,
             'rss_kb': 100000 + (min(i, 8) * 1000) + leak_bytes * 5000 * i / 1024 + chance.gauss(0, 60)} for i in range(count)]


def test_a_leak_of_fifty_bytes_a_request_is_found_and_a_warm_up_is_none():
    verdict, sentence = soak.judge_memory(soak_samples(50))
    assert verdict == 'bad' and re.search(r'\+(49|50|51)(\.\d+)? bytes a request', sentence), sentence
    assert soak.judge_memory(soak_samples(0))[0] == 'ok'
    assert soak.judge_memory(soak_samples(0, 3))[0] == 'unclear'


def test_latency_that_drifts_and_descriptors_that_grow_are_found():
    figures = {'requests': 1000, 'failed': 0, 'broken': 0, 'unanswered': 0}
    samples = soak_samples(0)
    assert {v['name']: v['verdict'] for v in soak.verdicts(samples, figures)} == dict.fromkeys(
        ('memory', 'descriptors', 'p50', 'p99', 'errors'), 'ok')
    for i, sample in enumerate(samples):
        sample['p50_us'] += 2 * i
        sample['descriptors'] += i
    figures['failed'] = 2
    assert {v['name'] for v in soak.verdicts(samples, figures) if v['verdict'] == 'bad'} == {'p50', 'descriptors', 'errors'}


def point(**more):
    figures = {'requests': 1000, 'per_s': 1000.0, 'elapsed_s': 1.0, 'late': 0, 'waited': 0,
               'load': {'cpu_s': 0.3, 'waited_s': 0.0}, 'latency': {'p50_us': 100}, 'lag': {'p99_us': 1500}}
    figures.update(more.pop('figures', {}))
    return {'rate': 1000.0, 'connections': 64, 'server_core': 0.5, 'figures': figures, **more}


@pytest.mark.parametrize('more, kinds', [
    ({}, []),
    ({'figures': {'load': {'cpu_s': 0.97, 'waited_s': 0}}}, ['client']),
    ({'figures': {'load': {'cpu_s': 0.97, 'waited_s': 0}}, 'server_core': 0.99}, []),
    ({'figures': {'late': 50}}, ['client']),
    ({'figures': {'late': 50, 'latency': {'p50_us': 50e3}}}, []),
    ({'figures': {'late': 50, 'per_s': 700.0}}, ['client']),
    ({'figures': {'load': {'cpu_s': 0.3, 'waited_s': 0.2}}}, ['noise']),
    ({'figures': {'watched': {'7': {'waited_s': 0.2}}, 'late': 50, 'per_s': 700.0}}, ['noise']),
    ({'figures': {'per_s': 700.0}}, ['server']),
    ({'figures': {'per_s': 970.0}}, []),
    ({'figures': {'failed': 3, 'statuses': {'200': 997, '503': 3}}}, ['server']),
    ({'figures': {'unanswered': 1}}, ['server']),
    ({'figures': {'waited': 300}}, ['note']),
    ({'rate': None, 'figures': {'requests': 20, 'latency': {'p50_us': 900e3}}}, ['note', 'note']),
])
def test_a_point_says_what_it_measures(more, kinds):
    assert [kind for kind, _ in judge.remarks(point(**more))] == kinds


# ---- pictures

@pytest.mark.parametrize('kind, values, ticks', [
    ('linear', [0, 97], ['0', '20', '40', '60', '80', '100']),
    ('log', [40, 90000], ['100', '1000', '10 k', '100 k']),
    ('share', [0, 0.999], ['50 %', '90 %', '99 %', '99.9 %']),
    ('linear', [5], None), ('linear', [], None), ('log', [], None), ('log', [3], None), ('linear', [0, 0], None)])
def test_an_axis_holds_its_values_between_round_ticks(kind, values, ticks):
    axis = plot.Axis('x', kind=kind)
    axis.fit(values)
    assert all(-1e-9 <= axis.at(v) <= 1 + 1e-9 for v in values)
    assert ticks is None or [axis.name(t) for t in axis.ticks] == ticks


def test_a_line_breaks_where_there_is_no_value():
    chart = plot.Chart('t <&>', plot.Axis('x'), plot.Axis('y', kind='log'))
    chart.add('a', [(0, 1), (1, None), (2, 10), (3, 0), (4, 5)], hollow=[True] + [False] * 4)
    root = ElementTree.fromstring(chart.svg())
    path, = [e for e in root.iter('path')]
    assert path.attrib['d'].count('M') == 3 and len([e for e in root.iter('circle')]) == 3
    assert sum('hollow' in e.attrib['class'] for e in root.iter('circle')) == 1


def test_durations_have_the_unit_that_suits():
    assert [plot.duration_us(v) for v in (0, 12.34, 1500, 2.5e6)] == ['0 µs', '12.3 µs', '1.5 ms', '2.5 s']


def test_a_file_without_a_matrix_is_not_compared(tmp_path):
    (tmp_path / 'a.json').write_text('{"soak": {}}')
    with pytest.raises(Failure, match='no report'):
        compare.read(str(tmp_path / 'a.json'))


# ---- Locust and wrk

class LocustUser:
    """What the files use of Locust's HttpUser."""

    def __init__(self, client):
        self.client, self.fired = client, []
        self.environment = types.SimpleNamespace(events=types.SimpleNamespace(request=types.SimpleNamespace(
            fire=lambda **event: self.fired.append(event))))


def locust_module(name, monkeypatch):
    """A Locust file, with as much of Locust as it needs: Locust itself is not in every Debian."""
    stub = types.ModuleType('locust')
    stub.HttpUser, stub.between = LocustUser, lambda low, high: (low, high)
    stub.task = lambda it: it if callable(it) else lambda function: function
    stub.LoadTestShape = type('LoadTestShape', (), {'at': 0.0, 'get_run_time': lambda self: self.at})
    monkeypatch.setitem(sys.modules, 'locust', stub)
    for other in ('locustfile', 'chat'):
        monkeypatch.delitem(sys.modules, other, raising=False)
    spec = importlib.util.spec_from_file_location(name, os.path.join(FOLDER, name + '.py'))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('name', ['locustfile', 'chat', 'step', 'spike'])
def test_locust_files_compile(name, tmp_path):
    py_compile.compile(os.path.join(FOLDER, name + '.py'), cfile=str(tmp_path / 'out'), doraise=True)


def test_shapes_go_up_and_end_by_themselves(monkeypatch):
    for variable in ('LOAD_STEP', 'LOAD_STEP_SECONDS', 'LOAD_STEPS', 'LOAD_SECONDS', 'LOAD_QUIET', 'LOAD_CROWD', 'LOAD_USERS'):
        monkeypatch.delenv(variable, raising=False)
    shape = locust_module('step', monkeypatch).Steps()
    users = []
    for shape.at in (0, 19.9, 20, 119, 120):
        users.append(shape.tick())
    assert users == [(20, 20), (20, 20), (40, 20), (120, 20), None]
    shape, users = locust_module('spike', monkeypatch).Spike(), []
    for shape.at in (0, 30, 49.9, 50, 89.9, 90):
        users.append(shape.tick())
    assert users == [(10, 200), (200, 200), (200, 200), (10, 200), (10, 200), None]


class StreamedAnswer:
    def __init__(self, lines, status=200):
        self.lines, self.status_code, self.request_meta, self.outcome = lines, status, {}, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert self.outcome is not None, 'the answer was neither good nor bad'

    def iter_lines(self, chunk_size):
        assert chunk_size is None
        for line in self.lines:
            time.sleep(0.01)
            yield line

    def success(self):
        self.outcome = 'good'

    def failure(self, why):
        self.outcome = why


CHAT_LINES = [b'data: {"choices":[{"delta":{"role":"assistant","content":""}}]}', b'',
              b'data: {"choices":[{"delta":{"content":"dry "}}]}', b'', b'data: {"choices":[{"delta":{"content":"win "}}]}', b'',
              b': comment', b'data: {"choices":[],"usage":{}}', b'', b'data: [DONE]', b'']


def test_a_chat_user_measures_first_token_and_gaps(monkeypatch):
    chat = locust_module('chat', monkeypatch)
    answers = [StreamedAnswer(CHAT_LINES), StreamedAnswer(CHAT_LINES[:-2]), StreamedAnswer([], 503)]
    sent = []

    def post(path, json, **how):     # pylint: disable=redefined-outer-name
        sent.append([dict(m) for m in json['messages']])
        assert path == '/v1/chat/completions' and json['stream'] is True and how['stream'] and how['catch_response']
        return answers[len(sent) - 1]
    user = chat.ChatUser(types.SimpleNamespace(post=post))
    user.on_start()
    for _ in answers:
        user.ask()
    assert [a.outcome for a in answers] == ['good', 'the stream ended without [DONE]', 'status 503']
    assert [e['name'] for e in user.fired] == ['first token', 'between tokens'] * 2
    first, gap = [e['response_time'] for e in user.fired[:2]]
    assert 25 < first < 200 and 15 < gap < 150, 'three lines and two, of 10 ms'
    assert answers[0].request_meta['response_time'] > 100
    assert [m['role'] for m in sent[1]] == ['user', 'assistant', 'user'] and sent[1][1]['content'] == 'dry win '
    assert [m['role'] for m in user.messages] == ['user', 'assistant'] * 2, 'a question without an answer is taken back'


@pytest.mark.parametrize('script, words', [('chat.lua', r'not 200: 0; tokens: [1-9]\d*'),
                                           ('sse.lua', r'not 200: 0; streams without \[DONE\]: 0; events: [1-9]\d*')])
@needs_load
def test_wrk_scripts_count_what_was_answered(world, script, words):
    sim = world.sim('--time-scale', '20')
    try:
        done = subprocess.run(['wrk', '-t1', '-c4', '-d1', '-s', os.path.join(FOLDER, script),
                               sim.url + '/v1/chat/completions', '--', 'sluice-sim', '4'],
                              capture_output=True, text=True, timeout=20, check=False)
    except FileNotFoundError:
        pytest.skip('wrk is not installed')
    assert done.returncode == 0 and re.search(words, done.stdout), done.stdout + done.stderr
