"""/api/cache: what it says, what it removes, and who may ask."""

import json
import os
import re
import threading
import time
from urllib.parse import quote

import pytest

from backend import keep_answering
from metrics_text import parse
from rawhttp import Client, get, wait_until

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
TOKEN = 'tr0ub4dor.and-3-more'
FRESH = 'Cache-Control: max-age=600\r\n'


def cached_route(name, path='/', **cache):
    return {'name': name, 'path_prefix': path, 'http': {'upstream': 'backend', 'cache': {'enabled': True, **cache}}}


def site(peer, request):
    """Answers by what the path asks for."""
    fields = FRESH
    path = request.target.split('?')[0]
    if path.startswith('/vary'):
        fields += 'Vary: Accept-Language\r\n'
    if path.startswith('/tagged'):
        fields += f'Surrogate-Key: {path.rsplit("/", 1)[1]} common\r\n'
    if path.startswith('/grouped'):
        fields += 'Cache-Groups: "scripts"\r\n'
    if path.startswith('/private'):
        fields = 'Cache-Control: private\r\n'
    peer.answer(f'{request.target} {request.fields.get("accept-language", "")}', fields=fields)


def gateway_for(world, routes=None, **more):
    backend = world.backend(keep_answering(site))
    more.setdefault('cache', {'memory': '64MB'})
    gateway = world.gateway(routes or [cached_route('site')], endpoints=[backend], **more)
    return backend, gateway


def is_hit(gateway, path, fields='', host='test'):
    """Asks, and says whether the answer was stored."""
    answer = get(gateway.address, path, host=host, fields=fields)
    assert answer.status == 200
    return '; hit' in answer.fields['cache-status']


def fill(gateway, *paths, fields='', host='test'):
    for path in paths:
        is_hit(gateway, path, fields, host)
        wait_until(lambda p=path: is_hit(gateway, p, fields, host), what=f'{path} in the cache')


def delete(gateway, query, status=200, address=None, fields=''):
    answer = get(address or gateway.admin, f'/api/cache?{query}', method='DELETE', fields=fields)
    assert answer.status == status, answer
    assert answer.fields['content-type'] == 'application/json'
    return json.loads(answer.body)


def stats(gateway):
    answer = get(gateway.admin, '/api/cache/stats')
    assert answer.status == 200 and answer.fields['content-type'] == 'application/json'
    return json.loads(answer.body)


# ---- removing

@pytest.mark.parametrize('workers', [1, 3])
def test_a_key_goes_with_its_variants_and_nothing_else(world, workers):
    _, gateway = gateway_for(world, workers=workers)
    fill(gateway, '/a', '/a?x=1', '/ab', '/vary')
    fill(gateway, '/vary', fields='Accept-Language: de\r\n')
    fill(gateway, '/vary', fields='Accept-Language: fr\r\n')
    fill(gateway, '/a', host='other')
    assert delete(gateway, 'key=http://test/a')['removed'] == 1
    assert not is_hit(gateway, '/a')
    assert is_hit(gateway, '/a?x=1') and is_hit(gateway, '/ab') and is_hit(gateway, '/a', host='other')
    assert delete(gateway, 'key=' + quote('test/a?x=1', safe=''))['removed'] == 1
    assert not is_hit(gateway, '/a?x=1')
    assert delete(gateway, 'key=test/vary')['removed'] == 3  # none, de, fr
    for language in ('de', 'fr'):
        assert not is_hit(gateway, '/vary', f'Accept-Language: {language}\r\n')
    assert delete(gateway, 'key=test/nothing')['removed'] == 0


def test_a_key_is_read_as_a_request_would_be(world):
    _, gateway = gateway_for(world)
    for key in ('HTTP://TEST:80/a/b', 'test/a/./b', 'https://test/a/%2562', 'test//a/x/../b'):
        fill(gateway, '/a/b')
        assert delete(gateway, f'key={key}')['removed'] == 1, key
    fill(gateway, '/')
    assert delete(gateway, 'key=test')['removed'] == 1
    fill(gateway, '/a//b', '/a/b')
    assert delete(gateway, 'key=test/a//b')['removed'] == 1
    assert is_hit(gateway, '/a/b')


def test_a_key_goes_with_what_is_stored_by_further_parts_of_requests(world):
    routes = [cached_route('site', key=['host', 'path', 'query', 'header:x-plan'])]
    _, gateway = gateway_for(world, routes)
    fill(gateway, '/a')
    fill(gateway, '/a', fields='X-Plan: pro\r\n')
    assert delete(gateway, 'key=test/a')['removed'] == 2
    assert not is_hit(gateway, '/a', 'X-Plan: pro\r\n')


def test_a_key_may_lack_its_host_where_a_route_leaves_it_out(world):
    _, gateway = gateway_for(world, [cached_route('all-hosts', key=['path'])])
    fill(gateway, '/a', '/b/1', '/b/2')
    assert is_hit(gateway, '/a', host='other')
    assert delete(gateway, 'key=/a')['removed'] == 1
    assert delete(gateway, 'prefix=/b/')['removed'] == 2
    assert not is_hit(gateway, '/a')


def test_a_prefix_goes(world):
    _, gateway = gateway_for(world, workers=2)
    fill(gateway, '/news/1', '/news/2', '/newsletter', '/other')
    assert delete(gateway, 'prefix=http://test/news/')['removed'] == 2
    assert is_hit(gateway, '/newsletter') and is_hit(gateway, '/other')
    assert delete(gateway, 'prefix=TEST/')['removed'] == 2
    assert not is_hit(gateway, '/newsletter')


def test_a_tag_goes(world):
    _, gateway = gateway_for(world, workers=2)
    fill(gateway, '/tagged/1', '/tagged/2', '/plain')
    assert delete(gateway, 'tag=1')['removed'] == 1
    assert not is_hit(gateway, '/tagged/1') and is_hit(gateway, '/tagged/2')
    fill(gateway, '/tagged/1')
    assert delete(gateway, 'tag=common')['removed'] == 2
    assert delete(gateway, 'tag=commo')['removed'] == 0
    assert is_hit(gateway, '/plain')


def test_a_group_goes_for_its_origin_only(world):
    _, gateway = gateway_for(world)
    fill(gateway, '/grouped')
    fill(gateway, '/grouped', host='other')
    assert delete(gateway, 'group=http://test%20scripts')['removed'] == 1
    assert is_hit(gateway, '/grouped', host='other') and not is_hit(gateway, '/grouped')
    assert delete(gateway, 'tag=scripts')['removed'] == 0


def test_a_route_goes(world):
    _, gateway = gateway_for(world, [cached_route('a.b', '/a'), cached_route('rest')])
    fill(gateway, '/a/1', '/a/2', '/b')
    assert delete(gateway, 'route=a%2Eb')['removed'] == 2
    assert is_hit(gateway, '/b') and not is_hit(gateway, '/a/1')
    assert delete(gateway, 'route=nope', status=404)['error']['code'] == 'no_such_route'


def test_everything_goes(world):
    _, gateway = gateway_for(world, workers=2)
    paths = [f'/{i}' for i in range(50)]
    for path in paths:
        get(gateway.address, path)
    wait_until(lambda: stats(gateway)['memory']['entries'] == 50)
    assert delete(gateway, 'all=true')['removed'] == 50
    assert stats(gateway)['memory']['entries'] == 0
    assert stats(gateway)['memory']['removed']['purged'] == 50
    assert not any(is_hit(gateway, path) for path in paths)


def test_what_is_on_its_way_is_not_stored_behind_a_purge(world):
    go, came = threading.Event(), threading.Event()

    def slow(peer, request):
        came.set()
        go.wait(10)
        peer.answer('old', fields=FRESH)

    backend = world.backend(keep_answering(slow))
    gateway = world.gateway([cached_route('site')], endpoints=[backend], cache={'memory': '64MB'})
    with Client(gateway.address) as client:
        client.send('GET /a HTTP/1.1\r\nHost: test\r\n\r\n')
        assert came.wait(5)
        delete(gateway, 'key=test/a')
        go.set()
        assert client.response().body == b'old'
    wait_until(lambda: stats(gateway)['routes'][0]['not_stored'].get('purged') == 1)
    assert not is_hit(gateway, '/a')


def test_a_generation_under_way_is_stored_in_spite_of_a_tag_that_it_cannot_have(world):
    go, came = threading.Event(), threading.Event()
    body = json.dumps({'id': 'x', 'object': 'chat.completion', 'created': 1, 'model': 'm', 'choices': [
        {'index': 0, 'finish_reason': 'stop', 'message': {'role': 'assistant', 'content': 'hi'}}]})

    def slow(peer, request):
        came.set()
        go.wait(10)
        peer.answer(body, fields='Content-Type: application/json\r\n')

    backend = world.backend(keep_answering(slow))
    routes = [{'name': 'models', 'path_prefix': '/v1', 'inference': {'upstream': 'backend', 'cache': True}}]
    gateway = world.gateway(routes, endpoints=[backend], cache={'memory': '64MB'})
    ask = json.dumps({'model': 'm', 'temperature': 0, 'messages': []})
    with Client(gateway.address) as client:
        client.send(f'POST /v1/chat/completions HTTP/1.1\r\nHost: t\r\nContent-Length: {len(ask)}\r\n\r\n{ask}')
        assert came.wait(5)
        delete(gateway, 'tag=prices')
        go.set()
        assert client.response().status == 200
    wait_until(lambda: stats(gateway)['routes'][0]['stored'] == 1)
    assert stats(gateway)['routes'][0]['not_stored'] == {}


@pytest.mark.parametrize('query', [
    '', 'key=', 'key', 'keys=a', 'all=1', 'all=', 'key=a&all=true', 'key=%', 'key=%zz', 'key=test/%20', 'key=te%20st/a',
    'key=test/%00', 'key=/a', 'prefix=/a', 'key=http:///a', 'key=%3Fx=1', 'key=a&tag=b', 'all=true&all=true', 'all',
    '&all=true', 'KEY=test/a', '=a', 'all=TRUE', 'prefix=te%0ast', 'key=te:st:80/a', 'key=test/../a', 'tag=a%0ab', 'group=scripts', 'key=%C3%A4/a'])
def test_a_wrong_selector_is_refused_with_the_remedy(module_world, query):
    gateway = one_gateway(module_world)
    error = delete(gateway, query, status=400)['error']
    assert error['code'] == 'bad_selector' and len(error['message']) > 20


def one_gateway(module_world):
    if not hasattr(module_world, 'one'):
        module_world.one = gateway_for(module_world)[1]
    return module_world.one


def test_a_deletion_may_have_a_body_and_others_follow_on_its_connection(world):
    _, gateway = gateway_for(world)
    fill(gateway, '/a')
    with Client(gateway.admin) as client:
        client.send('DELETE /api/cache?key=test/a HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody'
                    'DELETE /api/cache?all=true HTTP/1.1\r\nHost: x\r\n\r\n'
                    'GET /health HTTP/1.1\r\nHost: x\r\n\r\n')
        assert json.loads(client.response('DELETE').body)['removed'] == 1
        assert json.loads(client.response('DELETE').body)['removed'] == 0
        assert client.response().status == 200


def test_clients_that_leave_while_it_is_removed_do_no_harm(world):
    _, gateway = gateway_for(world, workers=3)
    for round_ in range(30):
        fill(gateway, '/a')
        client = Client(gateway.admin)
        client.send('DELETE /api/cache?all=true HTTP/1.1\r\nHost: x\r\n\r\n')
        if round_ % 2:
            client.reset()
        else:
            client.close()
        wait_until(lambda: not is_hit(gateway, '/a'))
    assert gateway.is_running()


def test_the_process_ends_in_the_middle_of_deletions(world):
    _, gateway = gateway_for(world, workers=3)
    for i in range(200):
        get(gateway.address, f'/{i}')
    clients = [Client(gateway.admin) for _ in range(8)]
    for client in clients:
        client.send('DELETE /api/cache?all=true HTTP/1.1\r\nHost: x\r\n\r\n' * 20)
    gateway.stop()
    for client in clients:
        client.close()


# ---- the figures

def test_each_request_is_counted_once(world):
    go = threading.Event()

    def answer(peer, request):
        if request.target == '/slow':
            go.wait(10)
        site(peer, request)

    backend = world.backend(keep_answering(answer))
    gateway = world.gateway([cached_route('site', bypass=['query:fresh']), cached_route('other', '/other')],
                            endpoints=[backend], cache={'memory': '64MB'})
    get(gateway.address, '/a')
    wait_until(lambda: stats(gateway)['totals']['stored'] == 1)
    for _ in range(3):
        assert is_hit(gateway, '/a')
    get(gateway.address, '/a?fresh=1')
    get(gateway.address, '/private')
    clients = [Client(gateway.address) for _ in range(4)]
    for client in clients:
        client.send('GET /slow HTTP/1.1\r\nHost: test\r\n\r\n')
    wait_until(lambda: gateway.metrics().value('sluice_active_requests') == 4)
    time.sleep(0.05)
    go.set()
    for client in clients:
        assert client.response().status == 200
        client.close()
    get(gateway.address, '/other/1')
    wait_until(lambda: stats(gateway)['totals']['stored'] == 3)
    told = stats(gateway)
    here, other = told['routes']
    assert (here['route'], here['kind'], other['route']) == ('site', 'http', 'other')
    assert {k: here[k] for k in ('hits', 'misses', 'joins', 'bypasses', 'stale_hits', 'stored')} == {
        'hits': 3, 'misses': 3, 'joins': 3, 'bypasses': 1, 'stale_hits': 0, 'stored': 2}
    assert here['hit_rate'] == pytest.approx(6 / 9)
    assert here['not_stored'] == {'private': 1}
    assert here['saved_seconds'] > 0 and here['saved_tokens'] == 0
    assert other['misses'] == 1 and other['hits'] == 0
    assert told['totals']['hits'] == 3 and told['totals']['misses'] == 4
    memory = told['memory']
    assert told['enabled'] and memory['entries'] == 3 and memory['budget_bytes'] == 64 << 20
    assert 0 < memory['bytes'] < 1 << 20 or memory['bytes'] <= memory['budget_bytes']
    assert told['second_tier'] is None


def test_the_metrics_say_the_same(world):
    _, gateway = gateway_for(world)
    fill(gateway, '/a')
    get(gateway.address, '/private')
    delete(gateway, 'all=true')
    told, metrics = stats(gateway), gateway.metrics()
    route = told['routes'][0]
    for result, name in (('hit', 'hits'), ('miss', 'misses'), ('join', 'joins'), ('bypass', 'bypasses')):
        assert metrics.value('sluice_cache_requests_total', route='site', result=result) == route[name]
    assert metrics.value('sluice_cache_stored_total', route='site') == 1
    assert metrics.value('sluice_cache_not_stored_total', route='site', reason='private') == 1
    assert metrics.value('sluice_cache_saved_seconds_total') == pytest.approx(route['saved_seconds'])
    assert metrics.value('sluice_cache_entries') == 0
    assert metrics.value('sluice_cache_budget_bytes') == 64 << 20
    assert metrics.value('sluice_cache_removals_total', cause='purged') == 1
    assert {n for n, _ in metrics if n.startswith('sluice_cache_tier')} == {'sluice_cache_tier_answers_total'}


def test_the_metrics_keep_to_the_fields_conventions(world, tmp_path):
    """What promtool check metrics would find, and that no label's values come from requests."""
    routes = [cached_route('site'),
              {'name': 'models', 'path_prefix': '/v1', 'inference': {'upstream': 'backend', 'cache': True}}]
    _, gateway = gateway_for(world, routes, cache={'memory': '64MB', 'database': str(tmp_path / 'c.db')}, workers=2)
    for path in ('/a', '/a', '/private', '/vary', '/tagged/x', '/b%22%0Ac?x="y'):
        get(gateway.address, path)
    text = get(gateway.admin, '/metrics').body.decode()
    types = dict(re.findall(r'^# TYPE (\S+) (\S+)$', text, re.M))
    helps = dict(re.findall(r'^# HELP (\S+) (.+)$', text, re.M))
    units = ('_seconds', '_bytes', '_tokens')
    for name, kind in types.items():
        assert re.fullmatch(r'[a-z][a-z0-9_]*', name) and helps[name].endswith('.'), name
        assert (kind == 'counter') == name.endswith('_total'), f'{name} is a {kind}'
        assert not re.search(r'_(ms|us|ns|milliseconds|kb|mb|count|sum|bucket)(_|$)', name), name
        for unit in units:
            assert unit not in name or name.removesuffix('_total').endswith(unit), f'{name}: its unit goes last'
    metrics = parse(text)
    assert set(types) >= {n for n, _ in metrics if n.startswith('sluice_cache')}
    for name, labels in metrics:
        for label, value in labels:
            if name.startswith('sluice_cache'):
                assert re.fullmatch('[a-z_-]+', value), (name, label, value)
                assert label != 'route' or value in ('site', 'models')
                assert label in ('route', 'result', 'reason', 'cause', 'state', 'fault'), (name, label)
    assert metrics.labels('sluice_cache_requests_total', 'result') == {'hit', 'stale', 'join', 'miss', 'bypass'}


def test_every_metric_is_in_the_documentation_and_the_other_way_round(world, tmp_path):
    _, gateway = gateway_for(world, [cached_route('site', prefetch=True)],
                             cache={'memory': '64MB', 'database': str(tmp_path / 'c.db')})
    get(gateway.address, '/a')  # its scheduler is told of within a second
    wait_until(lambda: gateway.metrics().labels('sluice_sched_limit', 'upstream') == {'backend'}, what='the scheduler')
    told = set(re.findall(r'^# TYPE (\S+)', get(gateway.admin, '/metrics').body.decode(), re.M))
    documented = set()
    for line in open(os.path.join(ROOT, 'docs', 'http-api.md'), encoding='utf-8'):
        if line.startswith('| `'):
            documented.update(re.findall(r'`([a-z_]+)`', line.split('|')[1]))
    assert {n for n in told if n not in documented} == set()
    assert {n for n in documented if n.startswith('sluice_') and n not in told} == set()


def test_with_the_cache_off_there_is_nothing_to_say_or_remove(world):
    _, gateway = gateway_for(world, cache={'memory': 0})
    assert get(gateway.address, '/a').status == 200
    told = stats(gateway)
    assert not told['enabled'] and told['memory']['budget_bytes'] == 0 and told['totals']['misses'] == 0
    assert delete(gateway, 'all=true')['removed'] == 0
    assert not [name for name, _ in gateway.metrics() if name.startswith('sluice_cache')]


@pytest.mark.parametrize('entries_max', [1, 2, 3, 7])
def test_no_more_entries_are_kept_than_allowed_however_many_workers(world, entries_max):
    _, gateway = gateway_for(world, workers=3, cache={'memory': '64MB'},
                             start={'env': {**os.environ, 'CACHE_MAX_SIZE': str(entries_max)}})
    for i in range(60):
        get(gateway.address, f'/{i}')

    def settled():
        route = stats(gateway)['routes'][0]
        return route['stored'] + sum(route['not_stored'].values()) == 60

    wait_until(settled)
    memory = stats(gateway)['memory']
    assert memory['entries_max'] == entries_max and 1 <= memory['entries'] <= entries_max
    assert memory['removed']['evicted'] == memory['stores'] - memory['entries']


def test_every_reason_is_in_the_documentation():
    """The names in the sources, against the tables of Cache-Status's details."""
    text = open(os.path.join(ROOT, 'docs', 'http-api.md'), encoding='utf-8').read()
    text = text[text.index('## The cache'):text.index('## Errors')]
    documented = set(re.findall(r'`([a-z_-]+)`', ' '.join(re.findall(r'^\| (`[^|]*) \|', text, re.M))))
    known = set()
    for path, pattern in (('cache/storing.c', r'\[STORING_\w+\] = "([a-z-]+)"'),
                          ('proxy/filling.c', r'\[FILLING_\w+\] = "([a-z-]+)"'),
                          ('api/inference_reason.c', r'\[INFERENCE_\w+\] = "([a-z_]+)"'),
                          ('server/cached.c', r'detail = .*BYTES\("([a-z-]+)"\)'),
                          ('server/exchange_inference.c', r'(?:detail = |bypass\(exchange, |return )BYTES\("([a-z_-]+)"\)'),
                          ('server/exchange_ask.c', r'BYTES\("([a-z-]+)"\) : BYTES_NONE'),
                          ('server/exchange_claim.c', r'BYTES\("([a-z-]+)"\)'),
                          ('server/exchange_serve.c', r'detail = .*BYTES\("([a-z-]+)"\)'),
                          ('server/exchange_cache.c', r'detail = .*BYTES\("([a-z-]+)"\)')):
        found = re.findall(pattern, open(os.path.join(ROOT, 'src', path), encoding='utf-8').read())
        assert found, path
        known.update(found)
    assert known - {'ok', 'stored'} - documented == set()


# ---- paths and methods

@pytest.mark.parametrize('method,path,status,allow', [
    ('POST', '/api/cache', 405, 'DELETE'), ('GET', '/api/cache', 405, 'DELETE'),
    ('DELETE', '/api/cache/stats', 405, 'GET, HEAD'), ('GET', '/api/cache/', 404, None),
    ('GET', '/api/cache/stat', 404, None), ('GET', '/api/cached', 404, None), ('DELETE', '/metrics', 405, 'GET, HEAD')])
def test_other_paths_and_methods_are_refused(module_world, method, path, status, allow):
    answer = get(one_gateway(module_world).admin, path, method=method)
    assert answer.status == status and answer.fields.get('allow') == allow
    assert b'/api/cache' in answer.body


def test_head_of_the_stats_has_no_body(module_world):
    gateway = one_gateway(module_world)
    with Client(gateway.admin) as client:
        assert client.request('HEAD /api/cache/stats HTTP/1.1\r\nHost: x\r\n\r\n').status == 200
        assert client.request('GET /health HTTP/1.1\r\nHost: x\r\n\r\n').status == 200


# ---- public listeners

def test_without_a_token_public_listeners_know_nothing_of_it(world):
    backend, gateway = gateway_for(world)
    assert get(gateway.address, '/api/cache/stats').body == b'/api/cache/stats '
    assert get(gateway.address, '/api/cache?all=true', method='DELETE').body == b'/api/cache?all=true '
    assert len(backend.requests) == 2


def test_with_a_token_it_is_answered_to_those_who_have_it(world):
    backend, gateway = gateway_for(world, cache={'memory': '64MB', 'api_token': TOKEN})
    fill(gateway, '/a')
    before = len(backend.requests)
    right = f'Authorization: bearer {TOKEN}\r\n'
    for method, path in (('GET', '/api/cache/stats'), ('DELETE', '/api/cache?all=true'), ('GET', '/api/cache/x')):
        for wrong in ('', 'Authorization: Basic dTpw\r\n', 'Authorization: Bearer\r\n',
                      f'Authorization: Bearer {TOKEN}x\r\n', f'Authorization: Bearer {TOKEN[:-1]}\r\n',
                      f'Authorization: Bearer {TOKEN[:-1]}4\r\n'):
            answer = get(gateway.address, path, method=method, fields=wrong)
            assert answer.status == 401, (path, wrong)
            challenge = answer.fields['www-authenticate']
            assert json.loads(answer.body)['error']['code'] in ('no_token', 'wrong_token')
            assert challenge.startswith('Bearer realm=') and ('invalid_token' in challenge) == ('earer ' in wrong)
    assert is_hit(gateway, '/a')
    answer = get(gateway.address, '/api/./cache/stats', fields=right)
    assert answer.status == 200 and json.loads(answer.body)['memory']['entries'] == 1
    assert delete(gateway, 'key=test/a', address=gateway.address, fields=right)['removed'] == 1
    assert delete(gateway, '', 400, address=gateway.address, fields=right)['error']['code'] == 'bad_selector'
    assert len(backend.requests) == before
    assert get(gateway.admin, '/api/cache/stats').status == 200  # the admin's asks for none
    assert get(gateway.address, '/api/cachet').status == 200  # a path of the routes
    metrics = gateway.metrics()
    assert metrics.value('http_requests_total', route='none', method='DELETE', status='200') == 1
