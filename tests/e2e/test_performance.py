"""/api/performance and what /metrics says of the process and the schedulers: the numbers follow what happens."""

import json
import os
import re
import signal
import threading
import time

import pytest

from backend import keep_answering
from metrics_text import parse
from programs import http_route, inference_route, respond_route
from rawhttp import get, post, wait_until

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
TOKEN = 'tr0ub4dor.and-3-more'


def performance(gateway, query='history=0', address=None, fields=''):
    answer = get(address or gateway.admin, '/api/performance' + (query and '?' + query), fields=fields)
    assert answer.status == 200 and answer.fields['content-type'] == 'application/json', answer
    assert answer.fields['cache-control'] == 'no-store'
    return json.loads(answer.body)


def until(gateway, holds, what, seconds=15, query='history=0'):
    """The figures once `holds` of them."""
    found = []

    def look():
        found[:] = [performance(gateway, query)]
        return holds(found[0])
    wait_until(look, seconds=seconds, what=what)
    return found[0]


def model_of(figures, upstream='backend'):
    models = [m for m in figures['models'] if m['upstream'] == upstream]
    return models[0] if len(models) == 1 else None


class Held:
    """A backend that answers only when it is told to."""

    def __init__(self, world):
        self.gate = threading.Event()
        self.backend = world.backend(keep_answering(self.answer))

    def answer(self, peer, request):
        self.gate.wait(20)
        peer.answer(f'done {request.target}')

    def ask(self, gateway, count, fields=''):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(get(gateway.address, '/x', fields=fields).status))
                   for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads, answers

    def let_go(self, threads):
        self.gate.set()
        for thread in threads:
            thread.join(20)


# ---- who is answered, and what

def test_it_takes_get_and_head_and_knows_two_queries(module_world):
    gateway = module_world.gateway([respond_route('/unused', status=204)])
    whole = performance(gateway, '')
    assert set(performance(gateway, 'history=only')) == {'history'}
    assert set(performance(gateway, 'history=0')) == set(whole) - {'history'}
    head = get(gateway.admin, '/api/performance', method='HEAD')
    assert head.status == 200 and head.body == b'' and int(head.fields['content-length']) > 1000
    for method in ('POST', 'DELETE', 'PUT'):
        answer = get(gateway.admin, '/api/performance', method=method)
        assert answer.status == 405 and answer.fields['allow'] == 'GET, HEAD'
        assert json.loads(answer.body)['error']['code'] == 'method_not_allowed'
    for query in ('history=1x', 'history', 'x=1', 'history=0&history=0'):
        answer = get(gateway.admin, '/api/performance?' + query)
        assert answer.status == 400 and json.loads(answer.body)['error']['code'] == 'bad_query', query
    assert get(gateway.admin, '/api/performance/x').status == 404


def test_clients_need_the_token(world):
    routes = [{'path_prefix': '/', 'respond': {'status': 200, 'body': 'a route'}}]
    gateway = world.gateway(routes, cache={'api_token': TOKEN})
    right = f'Authorization: Bearer {TOKEN}\r\n'
    assert performance(gateway, address=gateway.address, fields=right)['version']
    for wrong in ('', 'Authorization: Basic dTpw\r\n', f'Authorization: Bearer {TOKEN}x\r\n'):
        answer = get(gateway.address, '/api/performance', fields=wrong)
        assert answer.status == 401 and answer.fields['www-authenticate'].startswith('Bearer realm=')
        assert 'uptime' not in answer.body.decode()
    assert get(gateway.address, '/api/performances').body == b'a route'


def test_without_a_token_it_is_a_path_like_any_other(world):
    gateway = world.gateway([{'path_prefix': '/', 'respond': {'status': 200, 'body': 'a route'}}])
    assert get(gateway.address, '/api/performance').body == b'a route'


# ---- what it says

def test_it_says_what_the_kernel_says_of_the_process(world):
    gateway = world.gateway([respond_route('/unused', status=204)], workers=3)
    figures = until(gateway, lambda f: f['uptime_seconds'] >= 1 and f['workers'][0]['cpu_percent'] is not None
                    and f['process']['threads'] == len(os.listdir(f'/proc/{gateway.pid}/task')), 'as many threads')
    assert figures['process']['threads'] >= 5  # main, three workers, the observer
    assert figures['process']['descriptors'] == pytest.approx(gateway.descriptors(), abs=6)
    assert figures['memory']['resident_bytes'] / 1024 == pytest.approx(gateway.resident_kb(), rel=0.5)
    assert 0 < figures['memory']['used_bytes'] <= figures['memory']['limit_bytes']
    assert [w['worker'] for w in figures['workers']] == [0, 1, 2]
    for worker in figures['workers']:
        assert 0 <= worker['cpu_percent'] <= 110 and worker['run_queue_percent'] >= 0
        assert 0 <= worker['loop_lag_ms'] <= worker['loop_lag_max_ms'] * 1.001 + 2000
    assert abs(figures['unix_ms'] / 1000 - time.time()) < 5
    before = figures['uptime_seconds']
    assert until(gateway, lambda f: f['uptime_seconds'] > before, 'time to pass')['uptime_seconds'] < before + 10


def test_each_request_counts_under_its_route_and_status(world):
    def script(peer, request):
        time.sleep(0.05 if request.target == '/slow' else 0)
        peer.answer('no', status='500 Broken' if request.target == '/broken' else '200 OK')
    backend = world.backend(keep_answering(script))
    gateway = world.gateway([http_route(name='site'), {'name': 'fixed', 'path': '/fixed', 'respond': {'status': 204}}],
                            endpoints=[backend], workers=2, cache={'memory': 0})
    for path, count in (('/', 20), ('/slow', 10), ('/broken', 10), ('/fixed', 5)):
        for _ in range(count):
            get(gateway.address, path)
    figures = until(gateway, lambda f: f['requests']['error_rate'] is not None, 'a look at them')
    routes = {r['route']: r for r in figures['routes']}
    assert set(routes) == {'site', 'fixed'}
    assert routes['site']['kind'] == 'http' and routes['fixed']['kind'] == 'respond'
    assert routes['site']['statuses'] == {'200': 30, '500': 10} and routes['fixed']['statuses'] == {'204': 5}
    latency = routes['site']['latency_ms']
    assert latency['count'] == 40
    assert latency['p50'] < 40 < 45 <= latency['p95'] <= latency['p99'] <= latency['max'] < 2000
    assert latency['max'] >= 50 and latency['mean'] > 50 * 10 / 40 * 0.9
    requests = figures['requests']
    assert requests['total'] == 45 and requests['failed'] == 10 and requests['latency_ms']['count'] == 45
    figures = until(gateway, lambda f: f['requests']['error_rate'] == pytest.approx(10 / 45, abs=0.01), 'the error rate')
    assert figures['requests']['per_second'] > 0 and figures['requests']['p95_ms'] >= 45
    get(gateway.address, '/fixed', method='POST')
    get(gateway.address, '/fixed/none', host='other')
    assert performance(gateway)['requests']['total'] == 47
    assert figures['cache']['enabled'] is False and figures['cache']['hit_rate'] is None
    assert figures['upstreams'] == [{'upstream': 'backend',
                                     'endpoints': [{'endpoint': backend.address, 'in_flight': 0}]}]
    assert figures['upstream_connections']['connects'] >= 1


def test_the_hit_rate_is_that_of_the_cache(world):
    backend = world.backend(keep_answering(lambda peer, request: peer.answer('x', fields='Cache-Control: max-age=60\r\n')))
    route = {'path_prefix': '/', 'http': {'upstream': 'backend', 'cache': True}}
    gateway = world.gateway([route], endpoints=[backend])
    get(gateway.address, '/a')
    wait_until(lambda: 'hit' in get(gateway.address, '/a').fields['cache-status'], what='it in the cache')
    for _ in range(20):
        get(gateway.address, '/a')
    cache = performance(gateway)['cache']
    stats = json.loads(get(gateway.admin, '/api/cache/stats').body)['totals']
    assert cache['hits'] == stats['hits'] >= 20 and cache['misses'] == stats['misses'] >= 1
    assert cache['hit_rate'] == pytest.approx(stats['hit_rate'], abs=0.001) and cache['hit_rate'] > 0.9
    until(gateway, lambda f: (f['cache']['recent_hit_rate'] or 0) > 0.8, 'the rate of the last seconds')


def test_the_history_grows_by_a_step_every_ten_seconds(world):
    gateway = world.gateway([{'path': '/', 'respond': {'status': 200, 'body': 'x'}}])
    assert performance(gateway, 'history=only')['history']['unix_ms'] == []
    began = time.time()
    while time.time() < began + 5:
        get(gateway.address, '/')
        get(gateway.address, '/none')
        time.sleep(0.02)
    figures = until(gateway, lambda f: len(f['history']['unix_ms']) == 1, 'the first step', query='')
    history = figures['history']
    assert history['step_seconds'] == 10
    assert 8 < history['unix_ms'][0] / 1000 - began < 14
    assert all(len(column) == 1 for name, column in history.items() if name != 'step_seconds')
    assert history['requests_per_second'][0] * 10 == pytest.approx(figures['requests']['total'], rel=0.1)
    assert history['error_rate'] == [0] and history['hit_rate'] == [None]
    assert history['p95_ms'][0] > 0 and history['cpu_percent'][0] > 0
    assert history['memory_bytes'][0] > 1 << 20
    assert history['queued'] == history['in_flight'] == [0]


# ---- the schedulers

def test_a_service_is_seen_with_what_waits_for_it(world):
    held = Held(world)
    gateway = world.gateway([http_route()], endpoints=[held.backend],
                            upstream={'scheduling': {'limiter': 'fixed', 'concurrency': 3}})
    threads, answers = held.ask(gateway, 10)
    figures = until(gateway, lambda f: model_of(f) and model_of(f)['queued']['requests'] == 7, 'seven that wait')
    service = model_of(figures)
    assert service['kind'] == 'service' and service['model'] is None
    assert service['limit'] == 3 and service['in_flight'] == 3 and service['outstanding'] == 3
    assert service['queued']['by_class'] == [0, 0, 7, 0] and service['queued']['oldest_ms'] >= 0
    assert sum(t['waiting'] for t in service['queued']['by_tenant']) == 7
    assert figures['upstreams'][0]['endpoints'][0]['in_flight'] == 3
    metrics = gateway.metrics()
    labels = {'upstream': 'backend', 'model': ''}
    assert metrics.value('sluice_sched_limit', **labels) == 3
    assert metrics.labels('sluice_sched_limit_min', 'upstream') == set()  # what is fixed does not fall
    assert metrics.labels('sluice_route_info', 'kind') == {'http'}
    assert metrics.value('sluice_sched_in_flight', **labels) == 3
    assert metrics.value('sluice_sched_queued', **labels, **{'class': '2'}) == 7
    held.let_go(threads)
    assert answers == [200] * 10
    figures = until(gateway, lambda f: model_of(f)['released'] == 10, 'the end of all')
    service = model_of(figures)
    assert service['base_ms'] > 0
    assert service['outstanding'] == 0 and service['granted'] == 10 and service['queued']['requests'] == 0
    assert service['wait_ms']['class_2']['count'] >= 7 and service['wait_ms']['class_2']['max'] > 0
    assert service['inversions'] == 0
    metrics = gateway.metrics()
    assert metrics.value('sluice_sched_granted_total') == 10
    assert metrics.value('sluice_sched_wait_seconds_count', **{'class': '2'}) >= 7


def test_what_is_turned_away_is_counted_by_reason(world):
    held = Held(world)
    scheduling = {'limiter': 'fixed', 'concurrency': 1, 'queue': {'requests_max': 2}}
    gateway = world.gateway([http_route()], endpoints=[held.backend], upstream={'scheduling': scheduling})
    threads, answers = held.ask(gateway, 8)
    wait_until(lambda: len(answers) == 5, what='five turned away')
    assert set(answers) <= {429, 503}
    shed = until(gateway, lambda f: model_of(f) and sum(model_of(f)['shed'].values()) == 5, 'their reasons')
    metrics = gateway.metrics()
    for reason, count in model_of(shed)['shed'].items():
        assert metrics.value('sluice_sched_shed_total', reason=reason) == count
    assert sum(model_of(shed)['shed_by_class']) == 5
    held.let_go(threads)


def test_configured_tenants_have_names_and_strangers_have_none(world):
    held = Held(world)
    gateway = world.gateway([http_route()], endpoints=[held.backend],
                            upstream={'scheduling': {'limiter': 'fixed', 'concurrency': 1}},
                            tenants=[{'name': 'gold', 'key': 'sk-gold', 'weight': 4}])
    threads, _ = held.ask(gateway, 3, fields='Authorization: Bearer sk-gold\r\n')
    more, _ = held.ask(gateway, 3, fields='Authorization: Bearer sk-secret-of-a-stranger\r\n')
    figures = until(gateway, lambda f: model_of(f) and model_of(f)['queued']['requests'] == 5, 'five that wait')
    tenants = model_of(figures)['queued']['by_tenant']
    names = [t['tenant'] for t in tenants]
    assert 'gold' in names and len(names) == 2
    assert re.fullmatch('#[0-9a-f]{16}', next(n for n in names if n != 'gold'))
    assert next(t for t in tenants if t['tenant'] == 'gold')['weight'] == 4
    text = get(gateway.admin, '/metrics').body.decode()
    assert parse(text).labels('sluice_sched_tenant_waiting', 'tenant') == {'gold'}
    assert 'secret' not in text and 'secret' not in json.dumps(figures)
    held.let_go(threads + more)


@pytest.mark.parametrize('workers', [1, 3])
def test_each_model_is_seen_once_whoever_owns_it(world, workers):
    sim = world.sim('--time-scale', '20', '--model', 'one', '--model', 'two', '--model', 'vierzig "%"')
    gateway = world.gateway([inference_route()], endpoints=[sim], workers=workers)
    for model in ('one', 'two', 'vierzig "%"', 'one'):
        body = json.dumps({'model': model, 'stream': True, 'max_tokens': 5,
                           'messages': [{'role': 'user', 'content': 'hello'}]})
        answer = post(gateway.address, '/v1/chat/completions', body, fields='Content-Type: application/json\r\n')
        assert answer.status == 200
    figures = until(gateway, lambda f: sum(m['released'] for m in f['models']) == 4, 'all of them')
    models = {m['model']: m for m in figures['models']}
    assert len(models) == len(figures['models']) and {'one', 'two', 'vierzig "%25"'} <= set(models)
    assert models['one']['granted'] == 2 and models['two']['granted'] == 1
    assert models['one']['kind'] == 'model'
    assert all(m['outstanding'] == 0 and m['owner'] < workers for m in figures['models'])
    metrics = gateway.metrics()
    assert metrics.labels('sluice_sched_limit', 'model') == set(models)
    assert metrics.value('sluice_sched_limit_min', model='one') == 1
    assert metrics.value('sluice_sched_granted_total', model='one') == 2


def test_the_start_does_not_move(world):
    began = time.time()
    gateway = world.gateway([respond_route()])
    told = {gateway.metrics().value('process_start_time_seconds')}
    time.sleep(2.2)  # it is looked at once a second
    told.add(gateway.metrics().value('process_start_time_seconds'))
    assert len(told) == 1 and abs(told.pop() - began) < 5


def test_any_worker_tells_of_limits_cuts_and_credits(world):
    def script(peer, request):
        is_busy = request.target == '/busy'
        peer.answer('no', '503 Busy' if is_busy else '200 OK', 'Retry-After: 1\r\n' if is_busy else '')
    backend = world.backend(keep_answering(script))
    gateway = world.gateway([http_route()], endpoints=[backend], workers=3, cache={'memory': 0, 'api_token': TOKEN})

    def told():
        return model_of(performance(gateway, address=gateway.address, fields=f'Authorization: Bearer {TOKEN}\r\n'))

    def lends():
        get(gateway.address, '/well')  # each on a connection of its own, which any worker may get
        return told() and told()['credits_lent'] > 0
    wait_until(lends, what='credits of other workers')
    before = told()
    assert get(gateway.address, '/busy').status == 503
    wait_until(lambda: told()['cuts']['refused'] == 1, what='the refusal')
    for _ in range(20):
        service = told()
        assert service['cuts']['refused'] == 1 and 0 < service['limit'] < before['limit']
        assert service['granted'] == service['released'] >= 1 and service['in_flight'] == 0
        assert service['base_ms'] > 0 and service['excess_ms'] is not None
        assert sum(c['count'] for c in service['wait_ms'].values()) > 0
    labels = {'upstream': 'backend', 'model': ''}
    metrics = gateway.metrics()
    assert metrics.value('sluice_sched_cuts_total', cause='refused', **labels) == 1
    assert metrics.value('sluice_sched_base_seconds', **labels) > 0
    assert metrics.value('sluice_sched_limit', **labels) == pytest.approx(service['limit'], rel=0.2)


def test_one_worker_alone_lends_to_nobody_else(world):
    backend = world.backend(keep_answering(lambda peer, request: peer.answer('x')))
    gateway = world.gateway([http_route()], endpoints=[backend], cache={'memory': 0})
    for _ in range(10):
        get(gateway.address, '/')
    figures = until(gateway, lambda f: model_of(f) and model_of(f)['released'] >= 1, 'what was served')
    assert model_of(figures)['credits_lent'] == 0


# ---- pressure

def test_who_was_stopped_feels_pressure_and_turns_the_lowest_class_away(world):
    backend = world.backend(keep_answering(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'))
    gateway = world.gateway([http_route(path='/low', **{'class': 3}), http_route(path='/high', **{'class': 0})],
                            endpoints=[backend])
    assert get(gateway.address, '/low').status == 200
    assert performance(gateway)['pressure']['signals']['lag']['level'] == 0
    time.sleep(1.5)
    gateway.signal(signal.SIGSTOP)
    time.sleep(4)
    gateway.signal(signal.SIGCONT)
    pressure = until(gateway, lambda f: f['pressure']['level'] > 300, 'pressure')['pressure']
    assert pressure['worst'] == 'lag' and pressure['signals']['lag']['level'] == pressure['level']
    assert gateway.metrics().value('sluice_pressure_level', signal='lag') > 100
    wait_until(lambda: get(gateway.address, '/low').status == 503, what='the lowest class to be turned away')
    assert get(gateway.address, '/high').status == 200
    figures = until(gateway, lambda f: model_of(f)['shed']['pressure'] > 0, 'the reason')
    assert model_of(figures)['shed_by_class'][:3] == [0, 0, 0]
    until(gateway, lambda f: f['pressure']['signals']['lag']['level'] == 0, 'it is over', seconds=60)
    wait_until(lambda: get(gateway.address, '/low').status == 200, what='the lowest class to be served again')


# ---- the documentation

def test_every_member_is_in_the_documentation(world):
    held = Held(world)
    gateway = world.gateway([http_route()], endpoints=[held.backend],
                            upstream={'scheduling': {'limiter': 'fixed', 'concurrency': 1}})
    threads, _ = held.ask(gateway, 2)
    until(gateway, lambda f: model_of(f) and model_of(f)['queued']['requests'] == 1, 'one that waits')
    figures = performance(gateway, '')
    held.let_go(threads)

    def names_in(value):
        if isinstance(value, dict):
            for name, member in value.items():
                yield name
                yield from names_in(member)
        elif isinstance(value, list):
            for member in value:
                yield from names_in(member)
    with open(os.path.join(ROOT, 'docs', 'http-api.md'), encoding='utf-8') as f:
        section = f.read().split('### `/api/performance`')[1].split('\n### ')[0]
    documented = set(re.findall(r'`([a-z0-9_]+)`', section))
    codes = {n for n in names_in(figures) if n.isdigit()}
    errors = set(figures['requests']['errors'])  # these stand with errors_total
    assert set(names_in(figures)) - documented - codes - errors == set()
