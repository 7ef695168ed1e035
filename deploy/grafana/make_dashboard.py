#!/usr/bin/env python3
"""Writes sluice.json beside it: the dashboard, from the list of rows below. Standard output with `-`."""

import json
import os
import sys

OWN = 'job="$job",instance=~"$instance"'
DATASOURCE = {'type': 'prometheus', 'uid': '${datasource}'}
RATE = '[$__rate_interval]'
FAILED = ',status=~"5.."'
HIT = ',result=~"hit|stale|join"'
CACHEABLE = ',result!="bypass"'


def rate(metric, more=''):
    return f'rate({metric}{{{OWN}{more}}}{RATE})'


def quantile(q, metric, by, more=''):
    return f'histogram_quantile({q}, sum by ({by}, le) ({rate(metric + "_bucket", more)}))'


def share(part, whole):
    return f'{part} / {whole}'


# title, unit, [(query, legend)], and what there is to say
ROWS = [
    ('Traffic', [
        ('Requests', 'reqps', [(f'sum by (route) ({rate("http_requests_total")})', '{{route}}')], 'Answered, by route.'),
        ('By status', 'reqps', [(f'sum by (status) ({rate("http_requests_total")})', '{{status}}')],
         '499: the client left first.'),
        ('5xx share', 'percentunit',
         [(share(f'sum by (route) ({rate("http_requests_total", FAILED)})',
                 f'sum by (route) ({rate("http_requests_total")})'), '{{route}}')],
         'Alerts at 1 % for 5 minutes and above 10 % for 2.'),
        ('Failures by type', 'reqps', [(f'sum by (type) ({rate("errors_total")})', '{{type}}')],
         'What the gateway itself counts as failed, broken streams included.'),
        ('Bytes', 'Bps', [(f'sum ({rate("sluice_ring_received_bytes_total")})', 'received'),
                          (f'sum ({rate("sluice_ring_sent_bytes_total")})', 'sent')], 'Clients and backends together.'),
        ('Waiting for something now', 'short', [(f'sum by (instance) (sluice_active_requests{{{OWN}}})', '{{instance}}')], ''),
    ]),
    ('Latency', [
        ('p50', 's', [(quantile(0.5, 'http_request_duration_seconds', 'route'), '{{route}}')], ''),
        ('p95', 's', [(quantile(0.95, 'http_request_duration_seconds', 'route'), '{{route}}')],
         'Alerts above 1 s and at 5 s, but not of inference routes: those take as long as the model writes.'),
        ('p99', 's', [(quantile(0.99, 'http_request_duration_seconds', 'route'), '{{route}}')], ''),
    ]),
    ('Cache', [
        ('Hit rate', 'percentunit',
         [(share(f'sum by (route) ({rate("sluice_cache_requests_total", HIT)})',
                 f'sum by (route) ({rate("sluice_cache_requests_total", CACHEABLE)})'), '{{route}}')],
         'Of what may be answered from the cache.'),
        ('What became of requests', 'reqps',
         [(f'sum by (result) ({rate("sluice_cache_requests_total")})', '{{result}}')], ''),
        ('Saved work', 's', [(f'sum by (route) ({rate("sluice_cache_saved_seconds_total")})', '{{route}}')],
         'Seconds of backend work per second.'),
        ('Memory', 'bytes', [(f'sum (sluice_cache_bytes{{{OWN}}})', 'used'),
                             (f'sum (sluice_cache_budget_bytes{{{OWN}}})', 'budget')], ''),
        ('Removals', 'ops', [(f'sum by (cause) ({rate("sluice_cache_removals_total")})', '{{cause}}')],
         'Many evicted and a low hit rate: more memory would help.'),
        ('Not stored', 'ops', [(f'topk(5, sum by (reason) ({rate("sluice_cache_not_stored_total")}))', '{{reason}}')], ''),
        ('Database', 'short', [(f'sum by (state) (sluice_cache_tier_state{{{OWN}}})', '{{state}}')],
         'Instances whose second tier is in each state.'),
        ('Database writes', 'ops', [(f'sum ({rate("sluice_cache_tier_writes_total")})', 'written'),
                                    (f'sum ({rate("sluice_cache_tier_writes_dropped_total")})', 'dropped')], ''),
    ]),
    ('Admission', [
        ('In flight and limit', 'short',
         [(f'sum by (upstream, model) (sluice_sched_in_flight{{{OWN}}})', '{{upstream}} {{model}}'),
          (f'sum by (upstream, model) (sluice_sched_limit{{{OWN}}})', '{{upstream}} {{model}} limit'),
          (f'sum by (upstream, model) (sluice_sched_limit_min{{{OWN}}})', '{{upstream}} {{model}} floor')],
         'Each instance finds its own limit; these are sums.'),
        ('Waiting', 'short', [(f'sum by (upstream, model, class) (sluice_sched_queued{{{OWN}}})',
                               '{{upstream}} {{model}} class {{class}}')], 'The queue by class; 0 is the most urgent.'),
        ('Wait, p95', 's', [(quantile(0.95, 'sluice_sched_wait_seconds', 'upstream, model, class'),
                             '{{upstream}} {{model}} class {{class}}')], 'Of those that were let through.'),
        ('Turned away', 'reqps', [(f'sum by (upstream, model, reason) ({rate("sluice_sched_shed_total")}) > 0',
                                   '{{upstream}} {{model}} {{reason}}')], ''),
        ('Limit cuts', 'ops', [(f'sum by (upstream, model, cause) ({rate("sluice_sched_cuts_total")}) > 0',
                                '{{upstream}} {{model}} {{cause}}')], ''),
        ('First token', 's', [(f'max by (upstream, model) (sluice_sched_base_seconds{{{OWN}}})', '{{upstream}} {{model}} unloaded'),
                              (f'max by (upstream, model) (sluice_sched_excess_seconds{{{OWN}}})', '{{upstream}} {{model}} excess')],
         'What it takes without load, and what load adds now.'),
        ('KV tokens', 'short', [(f'sum by (upstream, model) (sluice_sched_kv_tokens{{{OWN}}})', '{{upstream}} {{model}}'),
                                (f'sum by (upstream, model) (sluice_sched_kv_tokens_limit{{{OWN}}})', '{{upstream}} {{model}} limit')],
         'Estimated tokens in the backend\'s memory.'),
    ]),
    ('Batching', [
        ('Items per call', 'short',
         [(share(f'sum by (route) ({rate("sluice_batch_items_sum")})', f'sum by (route) ({rate("sluice_batch_items_count")})'),
           '{{route}}'),
          (f'max by (route) (sluice_batch_target_items{{{OWN}}})', '{{route}} target')], ''),
        ('Wait for company, p95', 's', [(quantile(0.95, 'sluice_batch_wait_seconds', 'route'), '{{route}}')], ''),
        ('Requests by what became of them', 'reqps', [(f'sum by (how) ({rate("sluice_batch_requests_total")})', '{{how}}')], ''),
        ('Asked again alone', 'ops', [(f'sum by (route, why) ({rate("sluice_batch_retries_total")})', '{{route}} {{why}}')], ''),
    ]),
    ('Upstreams', [
        ('In flight by endpoint', 'short', [(f'sum by (upstream, endpoint) (sluice_endpoint_in_flight{{{OWN}}})',
                                             '{{upstream}} {{endpoint}}')], ''),
        ('Connections', 'ops', [(f'sum ({rate("sluice_upstream_connects_total")})', 'opened'),
                                (f'sum ({rate("sluice_upstream_reuses_total")})', 'reused'),
                                (f'sum ({rate("sluice_upstream_connect_failures_total")})', 'failed'),
                                (f'sum ({rate("sluice_upstream_retries_total")})', 'sent again')], ''),
        ('Given up', 'ops', [(f'sum ({rate("sluice_upstream_cancels_total")})', 'client left')],
         'Upstream requests cancelled because the client left.'),
    ]),
    ('Process', [
        ('CPU', 'percentunit', [(rate('process_cpu_seconds_total'), '{{instance}}')], 'One is a whole core.'),
        ('CPU by worker', 'percentunit', [(f'sluice_worker_cpu_ratio{{{OWN}}}', '{{instance}} {{worker}}')], ''),
        ('Resident memory', 'bytes', [(f'process_resident_memory_bytes{{{OWN}}}', '{{instance}}')], ''),
        ('Memory of the group or machine', 'percentunit',
         [(f'sluice_memory_used_bytes{{{OWN}}} / sluice_memory_limit_bytes{{{OWN}}}', '{{instance}}')], 'Beyond 1 is the OOM kill.'),
        ('Loop lag', 's', [(f'max by (instance) (sluice_worker_loop_lag_seconds{{{OWN}}})', '{{instance}}')],
         'How late the worst worker\'s timers are. Alerts above 0.1 s and 1 s.'),
        ('Ready to run and not running', 'percentunit',
         [(f'max by (instance) (sluice_worker_run_queue_ratio{{{OWN}}})', '{{instance}}')],
         'Others on the cores, or a CPU quota that is used up.'),
        ('Pressure', 'short', [(f'max by (signal) (sluice_pressure_level{{{OWN}}})', '{{signal}}')], '0 to 1000.'),
        ('Descriptors', 'short', [(f'process_open_fds{{{OWN}}}', '{{instance}} open'),
                                  (f'process_max_fds{{{OWN}}}', '{{instance}} limit')], ''),
        ('Client connections', 'short', [(f'sum by (instance) (active_connections{{{OWN}}})', '{{instance}}')], ''),
        ('Connections accepted', 'ops', [(f'sum by (instance) ({rate("sluice_connections_total")})', '{{instance}}'),
                                         (f'sum by (instance) ({rate("sluice_ring_accept_failures_total")})', '{{instance}} failed')], ''),
        ('Receive buffer shortages', 'ops', [(f'sum by (instance) ({rate("sluice_ring_buffer_shortages_total")})', '{{instance}}')],
         'Each costs one turn of the loop.'),
        ('io_uring_enter per request', 'short',
         [(share(f'sum ({rate("sluice_ring_enters_total")})', f'sum ({rate("http_requests_total")})'), 'all')], ''),
    ]),
]

WIDTH, PANEL_WIDTH, PANEL_HEIGHT = 24, 8, 8


def panel(number, title, unit, queries, text, x, y):
    return {
        'id': number, 'type': 'timeseries', 'title': title, 'description': text, 'datasource': DATASOURCE,
        'gridPos': {'x': x, 'y': y, 'w': PANEL_WIDTH, 'h': PANEL_HEIGHT},
        'fieldConfig': {
            'defaults': {'unit': unit, 'min': 0, 'custom': {'lineWidth': 1, 'fillOpacity': 5, 'showPoints': 'never'}},
            'overrides': []},
        'options': {'legend': {'displayMode': 'list', 'placement': 'bottom', 'showLegend': True},
                    'tooltip': {'mode': 'multi', 'sort': 'desc'}},
        'targets': [{'refId': chr(ord('A') + i), 'datasource': DATASOURCE, 'expr': query, 'legendFormat': legend,
                     'range': True} for i, (query, legend) in enumerate(queries)]}


def panels():
    found, y = [], 0
    for row, contents in ROWS:
        found.append({'id': len(found) + 1, 'type': 'row', 'title': row, 'collapsed': False, 'panels': [],
                      'gridPos': {'x': 0, 'y': y, 'w': WIDTH, 'h': 1}})
        y += 1
        per_line = WIDTH // PANEL_WIDTH
        for i, (title, unit, queries, text) in enumerate(contents):
            found.append(panel(len(found) + 1, title, unit, queries, text, i % per_line * PANEL_WIDTH,
                               y + i // per_line * PANEL_HEIGHT))
        y += (len(contents) + per_line - 1) // per_line * PANEL_HEIGHT
    return found


def variable(name, query, **more):
    return {'name': name, 'type': 'query', 'datasource': DATASOURCE, 'refresh': 2, 'sort': 1, 'hide': 0,
            'query': {'query': query, 'refId': name}, 'definition': query, **more}


def dashboard():
    return {
        'uid': 'sluice', 'title': 'sluice', 'tags': ['sluice'], 'schemaVersion': 39, 'version': 1, 'editable': True,
        'graphTooltip': 1, 'timezone': 'browser', 'refresh': '30s', 'time': {'from': 'now-1h', 'to': 'now'},
        'templating': {'list': [
            {'name': 'datasource', 'label': 'Prometheus', 'type': 'datasource', 'query': 'prometheus', 'hide': 0, 'refresh': 1},
            variable('job', 'label_values(sluice_build_info, job)', multi=False, includeAll=False),
            variable('instance', 'label_values(sluice_build_info{job="$job"}, instance)', multi=True, includeAll=True,
                     current={'selected': True, 'text': ['All'], 'value': ['$__all']}),
        ]},
        'annotations': {'list': [
            {'name': 'Starts', 'datasource': DATASOURCE, 'enable': True, 'iconColor': 'blue', 'titleFormat': 'started',
             'expr': f'changes(process_start_time_seconds{{{OWN}}}[1m]) > 0'}]},
        'panels': panels(),
    }


def main():
    text = json.dumps(dashboard(), indent=1) + '\n'
    if sys.argv[1:] == ['-']:
        sys.stdout.write(text)
        return
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'sluice.json'), 'w', encoding='utf-8') as f:
        f.write(text)


if __name__ == '__main__':
    main()
