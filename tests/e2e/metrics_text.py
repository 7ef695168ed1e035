"""A strict reader of Prometheus' text format 0.0.4: what a scraper might forgive is an error here."""

import re

NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
SAMPLE = re.compile(rf'^({NAME})(?:\{{(.*)\}})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(,|$)')
TYPES = ('counter', 'gauge', 'histogram', 'summary', 'untyped')
ESCAPES = {'\\n': '\n', '\\"': '"', '\\\\': '\\'}


class Metrics(dict):
    """(name, frozenset of label pairs) → value."""

    def value(self, name, **labels):
        """The sum over all samples of this name that have these labels; 0 when there are none."""
        wanted = set(labels.items())
        return sum(v for (n, own), v in self.items() if n == name and wanted <= own)

    def labels(self, name, label):
        return {dict(own).get(label) for (n, own) in self if n == name}


def parse_labels(text):
    labels, at = {}, 0
    while at < len(text):
        match = LABEL.match(text, at)
        assert match, f'labels: {text!r}'
        assert match[1] not in labels, f'a label twice: {text!r}'
        labels[match[1]] = re.sub(r'\\.', lambda m: ESCAPES[m[0]], match[2])
        at = match.end()
    return labels


def parse(text):
    assert text.endswith('\n'), 'the last line does not end'
    metrics, types, helps = Metrics(), {}, set()
    seen, family = set(), None
    for line in text[:-1].split('\n'):
        match = re.match(rf'^# (HELP|TYPE) ({NAME}) (.+)$', line)
        if match:
            kind, name, rest = match.groups()
            if kind == 'HELP':
                assert name not in helps, f'HELP of {name} twice'
                helps.add(name)
            else:
                assert rest in TYPES and name not in types, line
                types[name] = rest
                assert name not in seen, f'samples of {name} in two groups'
                family = name
                seen.add(name)
            continue
        match = SAMPLE.match(line)
        assert match, f'a line: {line!r}'
        name = match[1]
        base = name
        if types.get(family) == 'histogram':
            base = re.sub(r'_(bucket|sum|count)$', '', name)
        assert base == family, f'{name} stands among the samples of {family}'
        key = (name, frozenset(parse_labels(match[2] or '').items()))
        assert key not in metrics, f'twice: {line}'
        metrics[key] = float(match[3])
        if types[family] == 'counter':
            assert metrics[key] >= 0, line
    check_histograms(metrics, types)
    return metrics


def check_histograms(metrics, types):
    for family in [n for n, t in types.items() if t == 'histogram']:
        series = {}
        for (name, labels), value in metrics.items():
            if name == family + '_bucket':
                own = dict(labels)
                bound = float(own.pop('le').replace('+Inf', 'inf'))
                series.setdefault(frozenset(own.items()), []).append((bound, value))
        for labels, buckets in series.items():
            buckets.sort()
            counts = [count for _, count in buckets]
            assert counts == sorted(counts), f'{family}: buckets that shrink'
            assert buckets[-1][0] == float('inf'), f'{family}: no +Inf'
            assert metrics[(family + '_count', labels)] == counts[-1], f'{family}: _count is not +Inf'
            assert metrics[(family + '_sum', labels)] >= 0
