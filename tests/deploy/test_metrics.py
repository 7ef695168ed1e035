"""Every metric and label that rules, dashboard and autoscaler use is one that the server tells: a rename fails here."""

import functools
import json
import os
import re
import socket
import subprocess
import sys

import pytest
import yaml

import tree
from backend import keep_answering
from metrics_text import parse
from programs import Program, http_route
from rawhttp import get, post, wait_until

# Words of PromQL that stand where a metric's name could.
WORDS = {'by', 'on', 'and', 'or', 'unless', 'ignoring', 'without', 'offset', 'group_left', 'group_right', 'bool', 'inf', 'nan'}
# Labels that Prometheus, the operator or a rule's own `sum by` puts there.
TARGET_LABELS = {'job', 'instance', 'namespace', 'pod', 'service'}
# Made by Prometheus for each target.
NOT_OURS = {'up'}
SELECTOR = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?')
MATCHER = re.compile(r'([a-zA-Z_]+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')


def used_metrics(expression):
    """{metric: [(label, operator, value)]} of an expression."""
    bare = re.sub(r'\b(by|on|ignoring|without)\s*\([^)]*\)', ' ', expression)
    bare = re.sub(r'\[[^\]]*\]', ' ', bare)
    found = {}
    for match in SELECTOR.finditer(bare):
        name, matchers = match.groups()
        if bare[:match.start()].rstrip().endswith(tuple('0123456789.')) and not bare[match.start() - 1].isspace():
            continue  # a duration's unit
        if bare[match.end():].lstrip().startswith('(') and matchers is None or name.lower() in WORDS:
            continue
        found.setdefault(name, []).extend(MATCHER.findall(matchers or ''))
    return found


def grouped_labels(expression):
    return {label.strip() for names in re.findall(r'\b(?:by|on|ignoring|without)\s*\(([^)]*)\)', expression)
            for label in names.split(',')}


def test_names_are_found_in_expressions():
    assert used_metrics('sum by (job, le) (rate(a_b{x="1",y=~"c|d"}[5m])) / on (job) c:d:e5m > 0.5') == {
        'a_b': [('x', '=', '1'), ('y', '=~', 'c|d')], 'c:d:e5m': []}
    assert used_metrics('absent(up{job="x"}) and avg_over_time(z[6h] offset 30m) unless on (q) w') == {
        'up': [('job', '=', 'x')], 'z': [], 'w': []}
    assert grouped_labels('sum by (a, b) (x) / on (c) y') == {'a', 'b', 'c'}


# ---- what is used

GROUPS = tree.read_yaml('prometheus', 'sluice.rules.yaml')['groups']
RULES = [rule for group in GROUPS for rule in group['rules']]
RECORDED = {rule['record'] for rule in RULES if 'record' in rule}
DASHBOARD = tree.read_json('grafana', 'sluice.json')
ADAPTER = tree.read_yaml('kubernetes', 'components', 'autoscale', 'prometheus-adapter.yaml')['rules']['custom']


def panels():
    return [panel for panel in DASHBOARD['panels'] if panel['type'] != 'row']


def dashboard_expressions():
    variables = {'$job': 'sluice', '$instance': '.*', '$__rate_interval': '1m'}
    found = [(panel['title'], target['expr']) for panel in panels() for target in panel['targets']]
    found += [(note['name'], note['expr']) for note in DASHBOARD['annotations']['list']]
    for variable in DASHBOARD['templating']['list']:
        if variable['type'] == 'query':
            match = re.fullmatch(r'label_values\((.*), *(\w+)\)', variable['query']['query'])
            found.append((variable['name'], f'count by ({match[2]}) ({match[1]})'))
    for i, (title, expression) in enumerate(found):
        for variable, value in variables.items():
            expression = expression.replace(variable, value)
        assert '$' not in expression, f'{title}: a variable that the dashboard has not: {expression}'
        found[i] = title, expression
    return found


def adapter_expressions():
    found = []
    for rule in ADAPTER:
        series = rule['seriesQuery'].split('{', maxsplit=1)[0]
        matchers = ','.join(f'{label}="x"' for label in rule['resources']['overrides'])
        text = rule['metricsQuery']
        for place, value in (('<<.Series>>', series), ('<<.LabelMatchers>>', matchers), ('<<.GroupBy>>', 'pod')):
            assert place in text, rule['name']
            text = text.replace(place, value)
        found += [(rule['name']['as'], text), (rule['name']['as'], rule['seriesQuery'])]
    return found


def all_expressions():
    rules = [(rule.get('alert') or rule['record'], rule['expr']) for rule in RULES]
    return rules + dashboard_expressions() + adapter_expressions()


def test_every_expression_is_promql(tmp_path):
    rules = [{'record': f'parsed:{i}', 'expr': expression} for i, (_, expression) in enumerate(all_expressions())]
    path = tmp_path / 'rules.yaml'
    path.write_text(json.dumps({'groups': [{'name': 'parsed', 'rules': rules}]}), encoding='utf-8')
    code, output = tree.promtool('check', 'rules', str(path))
    assert code == 0 and f'{len(rules)} rules found' in output, output
    path.write_text(json.dumps({'groups': [{'name': 'parsed', 'rules': [{'record': 'a', 'expr': 'sum by (rate(x[5m])'}]}]}),
                    encoding='utf-8')
    assert tree.promtool('check', 'rules', str(path))[0] != 0


# ---- what there is

@pytest.fixture(scope='module', name='told')
def what_the_server_tells(module_world, tmp_path_factory):
    """Metrics of a server that has everything that tells something, after a little traffic."""
    sim = module_world.sim()
    gateway = module_world.gateway(
        [http_route('service', '/api'),
         {'path_prefix': '/v1', 'inference': {'upstream': 'models', 'cache': True, 'batching': True}}],
        upstreams=[{'name': 'models', 'endpoints': [sim.address]}, {'name': 'service', 'endpoints': [sim.address]}],
        cache={'memory': '8MB', 'database': str(tmp_path_factory.mktemp('store') / 'cache.db')})
    body = json.dumps({'model': 'sluice-sim', 'input': ['a', 'b']})
    for _ in range(2):
        answer = post(gateway.address, '/v1/embeddings', body, fields='Content-Type: application/json\r\n')
        assert answer.status == 200, answer
    answer = post(gateway.address, '/v1/chat/completions', json.dumps({
        'model': 'sluice-sim', 'max_tokens': 2, 'messages': [{'role': 'user', 'content': 'hello'}]}),
        fields='Content-Type: application/json\r\n')
    assert answer.status == 200, answer
    post(gateway.address, '/api/requests', '{}', fields='Content-Type: application/json\r\n')
    wait_until(lambda: gateway.metrics().value('sluice_sched_granted_total') >= 2, what='the schedulers\' figures')
    # Shares of a second are told from the second look at a worker on, whichever of its figures comes last.
    shares = (b'\nsluice_worker_cpu_ratio{', b'\nsluice_worker_run_queue_ratio{')
    wait_until(lambda: all(name in get(gateway.admin, '/metrics').body for name in shares), what='the workers\' shares')
    text = get(gateway.admin, '/metrics').body.decode()
    series = {}
    for name, labels in parse(text):
        for label, value in labels:
            series.setdefault(name, {}).setdefault(label, set()).add(value)
        series.setdefault(name, {})
    return series


# No sample where nobody bounds the KV memory: only the name is known to be right (src/server/metrics_sched.c).
WITHOUT_SAMPLE = {'sluice_sched_kv_tokens_limit'}


def sources():
    folder = os.path.join(tree.ROOT, 'src', 'server')
    for name in sorted(os.listdir(folder)):
        if name.startswith('metrics') and name.endswith('.c'):
            with open(os.path.join(folder, name), encoding='utf-8') as f:
                yield f.read()


def test_every_metric_is_told(told):
    unknown = {}
    for where, expression in all_expressions():
        for name in used_metrics(expression).keys() - RECORDED - NOT_OURS - told.keys():
            if name not in WITHOUT_SAMPLE or not any(f'"{name}"' in text for text in sources()):
                unknown.setdefault(name, []).append(where)
    assert not unknown, f'not in /metrics: {unknown}'


def test_every_label_is_told(told):
    """Labels that are matched or grouped by, and words they are compared with."""
    wrong = []
    for where, expression in all_expressions():
        names = used_metrics(expression)
        for name in names.keys() & told.keys():
            for label, operator, value in names[name]:
                if label not in told[name].keys() | TARGET_LABELS:
                    wrong.append(f'{where}: {name} has no label {label}')
                if label in told[name] and label in ('state', 'result', 'type', 'why', 'signal', 'class', 'kind'):
                    for word in value.split('|') if operator in ('=~', '!~') else [value]:
                        if not any(re.fullmatch(word, v) for v in told[name][label]):
                            wrong.append(f'{where}: {name} is never told with {label}="{word}"')
        plain = names.keys() - RECORDED - NOT_OURS - WITHOUT_SAMPLE
        if plain:
            known = TARGET_LABELS.union(*(told[name].keys() for name in plain))
            wrong += [f'{where}: nothing in it has a label {label}' for label in grouped_labels(expression) - known]
    assert not wrong, '\n'.join(wrong)


def test_recorded_names_are_used():
    used = functools.reduce(set.union, (set(used_metrics(e)) for _, e in all_expressions()))
    shown_elsewhere = {'sluice:http_requests:rate5m', 'sluice:http_request_duration_seconds:p50_5m',
                       'sluice:http_request_duration_seconds:p99_5m'}  # for people's own queries
    assert RECORDED - used == shown_elsewhere


def free_port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def test_prometheus_itself_scrapes_evaluates_and_finds_nothing_wrong(world, tmp_path):
    """The real thing, for a few seconds, on a gateway that is well: every rule can be evaluated and no alert is pending."""
    backend = world.backend(keep_answering(lambda peer, request: peer.answer('x')))
    gateway = world.gateway([http_route()], endpoints=[backend], cache={'memory': '8MB', 'database': str(tmp_path / 'cache.db')})
    config = yaml.safe_load(tree.read('prometheus', 'prometheus.yaml'))
    config['global'] = {'scrape_interval': '1s', 'evaluation_interval': '1s'}
    config['scrape_configs'][0]['static_configs'] = [{'targets': [gateway.admin]}]
    config['rule_files'] = [tree.path_of('prometheus', 'sluice.rules.yaml')]
    (tmp_path / 'prometheus.yaml').write_text(yaml.safe_dump(config), encoding='utf-8')
    address = f'127.0.0.1:{free_port()}'
    prometheus = Program(['prometheus', f'--config.file={tmp_path}/prometheus.yaml', f'--storage.tsdb.path={tmp_path}/data',
                          f'--web.listen-address={address}'], ready=r'Server is ready to receive', name='prometheus')

    def ask(path):
        answer = get(address, '/api/v1/' + path)
        assert answer.status == 200, answer
        return json.loads(answer.body)['data']

    def evaluated():
        get(gateway.address, '/')
        rules = [rule for group in ask('rules')['groups'] for rule in group['rules']]
        return len(rules) == len(RULES) and all(rule['health'] == 'ok' for rule in rules) and \
            ask('query?query=sluice%3Ahttp_requests%3Arate5m')['result']
    try:
        wait_until(evaluated, seconds=20, what='every rule evaluated')
        target, = ask('targets')['activeTargets']
        assert target['health'] == 'up' and target['labels']['job'] == 'sluice', target
        assert ask('alerts')['alerts'] == []
    finally:
        prometheus.signal()
        prometheus.wait()


# ---- the dashboard

def test_the_dashboard_is_what_its_program_writes():
    done = subprocess.run([sys.executable, tree.path_of('grafana', 'make_dashboard.py'), '-'], stdout=subprocess.PIPE,
                          timeout=20, check=True)
    assert done.stdout.decode() == tree.read('grafana', 'sluice.json'), 'deploy/grafana/make_dashboard.py has to be run'


def test_the_dashboard_is_one_that_grafana_takes():
    assert {'uid', 'title', 'schemaVersion', 'panels', 'templating', 'time'} <= set(DASHBOARD)
    assert [v['name'] for v in DASHBOARD['templating']['list']] == ['datasource', 'job', 'instance']
    assert DASHBOARD['templating']['list'][0]['type'] == 'datasource'
    ids = [panel['id'] for panel in DASHBOARD['panels']]
    assert len(set(ids)) == len(ids)
    for panel in panels():
        assert panel['type'] == 'timeseries' and panel['title'] and panel['targets']
        assert panel['fieldConfig']['defaults']['unit']
        sources_used = [panel['datasource']] + [target['datasource'] for target in panel['targets']]
        assert all(s == {'type': 'prometheus', 'uid': '${datasource}'} for s in sources_used)
        references = [target['refId'] for target in panel['targets']]
        assert len(set(references)) == len(references)


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD['panels']:
        place = panel['gridPos']
        cells = {(x, y) for x in range(place['x'], place['x'] + place['w']) for y in range(place['y'], place['y'] + place['h'])}
        assert not cells & taken and max(x for x, _ in cells) < 24, panel['title']
        taken |= cells


def test_the_dashboard_shows_what_operators_ask_for():
    rows = [panel['title'] for panel in DASHBOARD['panels'] if panel['type'] == 'row']
    assert rows == ['Traffic', 'Latency', 'Cache', 'Admission', 'Batching', 'Upstreams', 'Process']
    used = functools.reduce(set.union, (set(used_metrics(e)) for _, e in dashboard_expressions()))
    for name in ('sluice_sched_limit', 'sluice_sched_in_flight', 'sluice_sched_queued', 'sluice_sched_wait_seconds_bucket',
                 'sluice_sched_shed_total', 'sluice_sched_cuts_total', 'sluice_batch_items_sum', 'sluice_endpoint_in_flight',
                 'process_cpu_seconds_total', 'process_resident_memory_bytes', 'sluice_worker_loop_lag_seconds',
                 'process_open_fds', 'active_connections'):
        assert name in used, name
