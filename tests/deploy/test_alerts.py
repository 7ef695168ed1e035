"""Every alert of deploy/prometheus: it fires, it stays quiet, and it does the right one at its threshold."""

import os
import re
import subprocess

import pytest
import yaml

import tree

RULES = tree.path_of('prometheus', 'sluice.rules.yaml')
GROUPS = tree.read_yaml('prometheus', 'sluice.rules.yaml')['groups']
ALERTS = {rule['alert']: rule for group in GROUPS for rule in group['rules'] if 'alert' in rule}
ANCHORS = tree.ROOT + '/docs/alerts.md'

OWN = 'job="sluice",instance="a"'
MODEL = OWN + ',upstream="models",model="m"'


def requests(ok, failed, more=''):
    """Per minute, for half an hour."""
    return {f'http_requests_total{{{OWN},route="r",method="GET",status="200"}}': f'0+{ok}x30',
            f'http_requests_total{{{OWN},route="r",method="GET",status="503"}}{more}': f'0+{failed}x30'}


def durations(name, labels, bounds):
    """`bounds`: how many a minute were up to each bound."""
    return {f'{name}_bucket{{{labels},le="{bound}"}}': f'0+{count}x30' for bound, count in bounds.items()}


def slow(bounds, route='r'):
    return durations('http_request_duration_seconds', f'{OWN},route="{route}",method="GET"', bounds)


def waits(bounds, request_class=1):
    return durations('sluice_sched_wait_seconds', f'{MODEL},class="{request_class}"', bounds)


def kind(name, route='r'):
    return {f'sluice_route_info{{{OWN},route="{route}",kind="{name}"}}': '1x30'}


def limit(now, floor, queued):
    series = {f'sluice_sched_limit{{{MODEL}}}': f'{now}x30', f'sluice_sched_queued{{{MODEL},class="0"}}': '0x30',
              f'sluice_sched_queued{{{MODEL},class="2"}}': f'{queued}x30'}
    if floor is not None:
        series[f'sluice_sched_limit_min{{{MODEL}}}'] = f'{floor}x30'
    return series


def shed(turned_away, granted):
    return {f'sluice_sched_shed_total{{{MODEL},reason="queue_full"}}': f'0+{turned_away}x30',
            f'sluice_sched_granted_total{{{MODEL}}}': f'0+{granted}x30'}


def gauge(name, value, labels=OWN):
    return {f'{name}{{{labels}}}': f'{value}x30'}


def pair(used, used_value, most, most_value):
    return {**gauge(used, used_value), **gauge(most, most_value)}


def hits(before, after, of=300):
    """Seven hours with `before` of `of` hits each five minutes, then one with `after`."""
    labels = f'{OWN},route="r"'

    def counter(first, then):
        return f'0+{first}x84 {first * 84 + then}+{then}x12'
    return {f'sluice_cache_requests_total{{{labels},result="hit"}}': counter(before, after),
            f'sluice_cache_requests_total{{{labels},result="miss"}}': counter(of - before, of - after),
            f'sluice_cache_requests_total{{{labels},result="bypass"}}': counter(5 * of, 5 * of)}


# alert: [(what, series, {minute: how many fire})]. 'fires', 'quiet' and 'boundary' have to be there, more may.
CASES = {
    'SluiceDown': [
        ('fires', {f'up{{{OWN}}}': '1x5 0x20'}, {5: 0, 6: 0, 7: 1}),
        ('quiet', {f'up{{{OWN}}}': '1x20', 'up{job="other",instance="b"}': '0x20'}, {10: 0}),
        ('boundary', {f'up{{{OWN}}}': '1 1 0 1 0 1 0 1 1 1 1'}, {2: 0, 3: 0, 4: 0, 5: 0, 6: 0}),
    ],
    'SluiceAbsent': [
        ('fires', {f'sluice_build_info{{{OWN},version="1"}}': '1x5 stale'}, {5: 0, 12: 1}),
        ('quiet', {f'sluice_build_info{{{OWN},version="1"}}': '1x30'}, {20: 0}),
        ('boundary', {f'sluice_build_info{{{OWN},version="1"}}': '1x5 stale'}, {10: 0, 11: 1}),
    ],
    'SluiceRestarting': [
        ('fires', {f'process_start_time_seconds{{{OWN}}}': '100 100 200 200 300 300 400x20'}, {10: 1}),
        ('quiet', {f'process_start_time_seconds{{{OWN}}}': '100x30'}, {20: 0}),
        ('boundary', {f'process_start_time_seconds{{{OWN}}}': '100 100 200 200 300x20'}, {10: 0}),
    ],
    'SluiceServerErrorsHigh': [
        ('fires', requests(89, 11), {2: 0, 10: 1}),
        ('quiet', requests(100, 0), {10: 0}),
        ('boundary', requests(90, 10), {10: 0}),
        ('one route of two', {**requests(50, 50), **{k.replace('"r"', '"s"'): v for k, v in requests(9999, 0).items()}}, {10: 1}),
        ('a single failure', {f'http_requests_total{{{OWN},route="r",method="GET",status="502"}}': '0x5 1x25'},
         {m: 0 for m in range(5, 15)}),
        ('another program', {k.replace('"sluice"', '"other"'): v for k, v in requests(1, 99).items()}, {10: 0}),
    ],
    'SluiceErrorRate': [
        ('fires', requests(98, 2), {4: 0, 15: 1}),
        ('quiet', requests(999, 1), {15: 0}),
        ('boundary', requests(99, 1), {15: 1}),
    ],
    'SluiceUpstreamFailing': [
        ('fires', {**requests(100, 0), f'errors_total{{{OWN},type="upstream_protocol"}}': '0+3x30'}, {15: 1}),
        ('quiet', {**requests(100, 0), f'errors_total{{{OWN},type="client_closed"}}': '0+50x30'}, {15: 0}),
        ('boundary', {**requests(100, 0), f'errors_total{{{OWN},type="upstream_connect"}}': '0+1x30'}, {15: 1}),
    ],
    'SluiceLatencyHigh': [
        ('fires', {**slow({'0.5': 10, '1': 94, '2.5': 100, '+Inf': 100}), **kind('http')}, {4: 0, 15: 1}),
        ('quiet', {**slow({'0.5': 96, '1': 100, '2.5': 100, '+Inf': 100}), **kind('http')}, {15: 0}),
        ('boundary', {**slow({'0.5': 0, '1': 95, '2.5': 100, '+Inf': 100}), **kind('http')}, {15: 0}),
        ('a model writes', {**slow({'1': 0, '30': 100, '+Inf': 100}), **kind('inference')}, {15: 0}),
        ('a model beside a service', {**slow({'1': 0, '2.5': 100, '+Inf': 100}, 's'), **kind('inference'), **kind('http', 's')},
         {15: 1}),
    ],
    'SluiceLatencyVeryHigh': [
        ('fires', {**slow({'2.5': 10, '5': 90, '10': 100, '+Inf': 100}), **kind('http')}, {15: 1}),
        ('quiet', {**slow({'2.5': 96, '5': 100, '10': 100, '+Inf': 100}), **kind('http')}, {15: 0}),
        ('boundary', {**slow({'2.5': 0, '5': 95, '10': 100, '+Inf': 100}), **kind('http')}, {15: 1}),
        ('a model writes', {**slow({'5': 0, '30': 100, '+Inf': 100}), **kind('inference')}, {15: 0}),
    ],
    'SluiceCacheHitRateFell': [
        ('fires', hits(240, 60), {420: 0, 470: 1}),
        ('quiet', hits(240, 240), {470: 0}),
        ('boundary', hits(240, 150), {470: 0}),  # five eighths of what it was
        ('never high', hits(25, 1), {470: 0}),
        ('hardly used', hits(20, 0, of=25), {470: 0}),
    ],
    'SluiceStoreDegraded': [
        ('fires', gauge('sluice_cache_tier_state', 0, OWN + ',state="ready"'), {6: 1}),
        ('quiet', {**gauge('sluice_cache_tier_state', 1, OWN + ',state="ready"'),
                   **gauge('sluice_cache_tier_state', 0, OWN + ',state="unavailable"')}, {10: 0}),
        ('boundary', gauge('sluice_cache_tier_state', 0, OWN + ',state="ready"'), {4: 0, 5: 1}),
    ],
    'SluiceStoreWritesDropped': [
        ('fires', {f'sluice_cache_tier_writes_dropped_total{{{OWN}}}': '0+1x30'}, {20: 1}),
        ('quiet', {f'sluice_cache_tier_writes_dropped_total{{{OWN}}}': '7x30'}, {20: 0}),
        ('boundary', {f'sluice_cache_tier_writes_dropped_total{{{OWN}}}': '0+1x10 10x20'}, {15: 0, 25: 0}),
    ],
    'SluiceQueueWaitLong': [
        ('fires', waits({'2.5': 10, '5': 90, '10': 100, '+Inf': 100}), {15: 1}),
        ('quiet', waits({'2.5': 100, '5': 100, '10': 100, '+Inf': 100}), {15: 0}),
        ('boundary', waits({'2.5': 0, '5': 95, '10': 100, '+Inf': 100}), {15: 0}),
        ('the lowest class', waits({'5': 0, '60': 100, '+Inf': 100}, 3), {15: 0}),
    ],
    'SluiceLimiterAtFloor': [
        ('fires', limit(1, 1, 3), {6: 1}),
        ('quiet', limit(24, 1, 3), {10: 0}),
        ('boundary', limit(1.01, 1, 3), {10: 0}),
        ('nobody waits', limit(1, 1, 0), {10: 0}),
        ('it is fixed', limit(1, None, 3), {10: 0}),
    ],
    'SluiceShedding': [
        ('fires', shed(20, 80), {15: 1}),
        ('quiet', shed(0, 100), {15: 0}),
        ('boundary', shed(5, 95), {15: 1}),
        ('less', shed(4, 96), {15: 0}),
    ],
    'SluiceBatchAnswersMalformed': [
        ('fires', {f'sluice_batch_retries_total{{{OWN},route="r",why="malformed"}}': '0x5 3x20'}, {10: 1}),
        ('quiet', {f'sluice_batch_retries_total{{{OWN},route="r",why="malformed"}}': '3x30',
                   f'sluice_batch_retries_total{{{OWN},route="r",why="refused"}}': '0+1x30'}, {10: 0}),
        ('boundary', {f'sluice_batch_retries_total{{{OWN},route="r",why="malformed"}}': '0x5 1x100'}, {6: 1, 70: 0}),
    ],
    'SluiceLoopLag': [
        ('fires', {**gauge('sluice_worker_loop_lag_seconds', 0.11, OWN + ',worker="0"'),
                   **gauge('sluice_worker_loop_lag_seconds', 0, OWN + ',worker="1"')}, {1: 0, 2: 1}),
        ('quiet', gauge('sluice_worker_loop_lag_seconds', 0.001, OWN + ',worker="0"'), {10: 0}),
        ('boundary', gauge('sluice_worker_loop_lag_seconds', 0.1, OWN + ',worker="0"'), {10: 0}),
    ],
    'SluiceWorkerStuck': [
        ('fires', gauge('sluice_worker_loop_lag_seconds', 1.1, OWN + ',worker="0"'), {0: 0, 1: 1}),
        ('quiet', gauge('sluice_worker_loop_lag_seconds', 0.5, OWN + ',worker="0"'), {10: 0}),
        ('boundary', gauge('sluice_worker_loop_lag_seconds', 1, OWN + ',worker="0"'), {10: 0}),
    ],
    'SluicePressure': [
        ('fires', gauge('sluice_pressure', 501), {0: 0, 1: 1}),
        ('quiet', gauge('sluice_pressure', 100), {10: 0}),
        ('boundary', gauge('sluice_pressure', 500), {10: 0}),
    ],
    'SluiceMemoryShort': [
        ('fires', pair('sluice_memory_used_bytes', 93, 'sluice_memory_limit_bytes', 100), {4: 0, 5: 1}),
        ('quiet', pair('sluice_memory_used_bytes', 50, 'sluice_memory_limit_bytes', 100), {10: 0}),
        ('boundary', pair('sluice_memory_used_bytes', 92, 'sluice_memory_limit_bytes', 100), {10: 0}),
    ],
    'SluiceBufferShortages': [
        ('fires', {f'sluice_ring_buffer_shortages_total{{{OWN},worker="0"}}': '0+400x30',
                   f'sluice_ring_buffer_shortages_total{{{OWN},worker="1"}}': '0+400x30'}, {5: 0, 20: 1}),
        ('quiet', {f'sluice_ring_buffer_shortages_total{{{OWN},worker="0"}}': '0+30x30'}, {20: 0}),
        ('boundary', {f'sluice_ring_buffer_shortages_total{{{OWN},worker="0"}}': '0+600x30'}, {20: 0}),
    ],
    'SluiceDescriptorsShort': [
        ('fires', pair('process_open_fds', 81, 'process_max_fds', 100), {4: 0, 7: 1}),
        ('quiet', pair('process_open_fds', 20, 'process_max_fds', 100), {10: 0}),
        ('boundary', pair('process_open_fds', 80, 'process_max_fds', 100), {10: 0}),
    ],
    'SluiceDescriptorsGone': [
        ('fires', pair('process_open_fds', 96, 'process_max_fds', 100), {0: 0, 3: 1}),
        ('quiet', pair('process_open_fds', 85, 'process_max_fds', 100), {10: 0}),
        ('boundary', pair('process_open_fds', 95, 'process_max_fds', 100), {10: 0}),
    ],
    'SluiceAcceptFailing': [
        ('fires', {f'sluice_ring_accept_failures_total{{{OWN},worker="1"}}': '0x5 9x20'}, {6: 1}),
        ('quiet', {f'sluice_ring_accept_failures_total{{{OWN},worker="1"}}': '9x20'}, {10: 0}),
        ('boundary', {f'sluice_ring_accept_failures_total{{{OWN},worker="1"}}': '0x5 1x20'}, {6: 1, 12: 0}),
    ],
}


INTERVALS = {'SluiceCacheHitRateFell': '5m'}  # of samples and of evaluation: what takes hours is told in larger steps


def test_each_alert_is_tested_firing_quiet_and_at_its_threshold():
    assert set(CASES) == set(ALERTS)
    for alert, cases in CASES.items():
        names = [name for name, _, _ in cases]
        assert names[:3] == ['fires', 'quiet', 'boundary'] and len(set(names)) == len(names), alert
        assert any(cases[0][2].values()) and not any(cases[1][2].values()), alert


def as_promtool(cases, interval='1m'):
    tests = []
    for alert, name, series, expected in cases:
        query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
        tests.append({
            'name': f'{alert}: {name}', 'interval': INTERVALS.get(alert, '1m'),
            'input_series': [{'series': s, 'values': v} for s, v in series.items()],
            'promql_expr_test': [{'expr': query, 'eval_time': f'{minute}m', 'exp_samples': [{'labels': '{}', 'value': count}]}
                                 for minute, count in expected.items()]})
    return {'rule_files': [RULES], 'evaluation_interval': interval, 'tests': tests}


def run_promtool(tmp_path, cases, interval='1m'):
    path = tmp_path / 'cases.yaml'
    path.write_text(yaml.safe_dump(as_promtool(cases, interval)), encoding='utf-8')
    return tree.promtool('test', 'rules', str(path))


@pytest.mark.parametrize('interval', ['1m', '5m'])
def test_each_alert_does_as_its_cases_say(tmp_path, interval):
    code, output = run_promtool(tmp_path, [(alert, *case) for alert, cases in CASES.items() for case in cases
                                           if INTERVALS.get(alert, '1m') == interval], interval)
    assert code == 0, output


def test_a_wrong_expectation_would_be_told(tmp_path):
    """The test above tests something."""
    code, output = run_promtool(tmp_path, [('SluicePressure', 'fires', gauge('sluice_pressure', 501), {1: 0})])
    assert code != 0 and 'SluicePressure' in output


def test_what_an_alert_says_names_what_it_is_about(tmp_path):
    """One of them in full: labels, and texts with their values in."""
    rule = ALERTS['SluiceServerErrorsHigh']
    suite = {'rule_files': [RULES], 'evaluation_interval': '1m', 'tests': [{
        'interval': '1m', 'input_series': [{'series': s, 'values': v} for s, v in requests(75, 25).items()],
        'alert_rule_test': [{
            'eval_time': '10m', 'alertname': 'SluiceServerErrorsHigh', 'exp_alerts': [{
                'exp_labels': {'severity': 'critical', 'job': 'sluice', 'route': 'r'},
                'exp_annotations': {'summary': '25% of the answers on route r are 5xx.',
                                    'description': rule['annotations']['description'],
                                    'runbook_url': rule['annotations']['runbook_url']}}]}]}]}
    path = tmp_path / 'said.yaml'
    path.write_text(yaml.safe_dump(suite), encoding='utf-8')
    code, output = tree.promtool('test', 'rules', str(path))
    assert code == 0, output


def test_promtool_accepts_the_rules_and_the_configurations():
    for path in (RULES, ):
        code, output = tree.promtool('check', 'rules', path)
        assert code == 0, output
    code, output = tree.promtool('check', 'config', tree.path_of('prometheus', 'prometheus.yaml'))
    assert code == 0, output


def test_composes_prometheus_is_configured_alike(tmp_path):
    for source, name in (('container/monitoring/prometheus.yaml', 'prometheus.yaml'),
                         ('prometheus/sluice.rules.yaml', 'sluice.rules.yaml')):
        (tmp_path / name).write_text(tree.read(source), encoding='utf-8')
    code, output = tree.promtool('check', 'config', str(tmp_path / 'prometheus.yaml'))
    assert code == 0, output
    ours, theirs = (tree.read_yaml(*p)['scrape_configs'][0] for p in (
        ('prometheus', 'prometheus.yaml'), ('container', 'monitoring', 'prometheus.yaml')))
    assert {**ours, 'static_configs': None} == {**theirs, 'static_configs': None}


@pytest.mark.parametrize('alert', sorted(ALERTS))
def test_an_alert_says_what_to_do(alert):
    rule = ALERTS[alert]
    assert rule['labels']['severity'] in ('critical', 'warning', 'info')
    notes = rule['annotations']
    assert set(notes) == {'summary', 'description', 'runbook_url'}
    assert len(notes['summary']) < 140 and len(notes['description']) > 60
    page, anchor = notes['runbook_url'].split('#')
    assert anchor == alert.lower()
    with open(os.path.join(tree.ROOT, page), encoding='utf-8') as f:
        headings = re.findall(r'^#+ (.+)$', f.read(), re.M)
    assert anchor in [re.sub(r'[^\w\- ]', '', h).strip().lower().replace(' ', '-') for h in headings]


def test_a_share_of_few_requests_cannot_fire():
    """A window is no longer than the `for` behind it: what happened once is out of the window before the alert fires."""
    for alert in ('SluiceServerErrorsHigh', 'SluiceErrorRate', 'SluiceUpstreamFailing', 'SluiceShedding'):
        expression = ALERTS[alert]['expr']
        for group in GROUPS:
            for rule in group['rules']:
                if 'record' in rule and rule['record'] in expression:
                    expression += rule['expr']
        windows = {int(w) for w in re.findall(r'\[(\d+)m\]', expression)}
        assert max(windows) <= int(ALERTS[alert]['for'].rstrip('m')), alert


def test_the_operators_copy_is_the_same(tmp_path):
    copy = tmp_path / 'rule.yaml'
    subprocess.run([tree.path_of('prometheus', 'make-prometheusrule'), str(copy)], check=True, timeout=10)
    assert copy.read_text(encoding='utf-8') == tree.read('kubernetes', 'components', 'monitoring', 'prometheusrule.yaml'), \
        'deploy/prometheus/make-prometheusrule has to be run'
    assert yaml.safe_load(copy.read_text(encoding='utf-8'))['spec']['groups'] == GROUPS
