"""What docs/deployment.md and docs/alerts.md say of the tree is so."""

import os
import re

import tree
from test_alerts import ALERTS


def page(name):
    with open(os.path.join(tree.ROOT, 'docs', name), encoding='utf-8') as f:
        return f.read()


def test_paths_that_are_named_exist():
    for name in ('deployment.md', 'alerts.md'):
        for path in re.findall(r'deploy/[\w./-]+[\w/]', page(name)):
            assert os.path.exists(os.path.join(tree.ROOT, path)), path


def test_figures_are_those_of_the_files():
    text = page('deployment.md')
    deployment = tree.read_yaml('kubernetes', 'base', 'deployment.yaml')['spec']['template']['spec']
    assert f'`terminationGracePeriodSeconds` ({deployment["terminationGracePeriodSeconds"]})' in text
    assert f'preStop waits {deployment["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1]} s' in text
    drain_ms = tree.read_yaml('kubernetes', 'base', 'gateway.yaml')['limits']['drain_timeout_ms']
    assert f'`drain_timeout_ms` ({drain_ms // 1000} s here)' in text
    profile = deployment['securityContext']['seccompProfile']['localhostProfile']
    assert f'/var/lib/kubelet/seccomp/{profile}' in text
    overlays = set(re.findall(r'^\| `(\w+)` \| (?!`)', text, re.M))
    assert overlays == set(os.listdir(tree.path_of('kubernetes', 'overlays')))
    variables = set(re.findall(r'`(SLUICE_[A-Z_]+)`', text[text.index('## Compose'):text.index('## Kubernetes')]))
    assert variables == set(re.findall(r'\$\{(SLUICE_[A-Z_]+)', tree.read('container', 'compose.yaml')))


def test_locked_memory_is_enough_for_twice_the_workers_wherever_it_is_set_and_the_figure_is_the_servers():
    """Twice, because a restart has two instances of one user for a moment."""
    def text(*parts):
        with open(os.path.join(tree.ROOT, *parts), encoding='utf-8') as f:
            return f.read()
    kilobytes = int(re.search(r'MACHINE_WORKER_LOCKED_BYTES = (\d+) << 10', text('src', 'server', 'machine_plan.h'))[1])
    twice = 2 * kilobytes << 10
    for path in ('deploy/systemd/sluice.service.in', 'deploy/container/compose.yaml', 'docs/deployment.md', 'docs/operations.md',
                 'docs/tuning.md', 'tuning/profiles/common.conf', 'tuning/profiles/container.conf', 'tuning/profiles/laptop.conf'):
        assert f'{kilobytes} KB' in text(path), path
    unit = text('deploy/systemd/sluice.service.in')
    megabytes = int(re.search(r'^LimitMEMLOCK=(\d+)M$', unit, re.M)[1])
    assert megabytes << 20 >= twice * 256
    assert f'{(megabytes << 10) // kilobytes} of them' in unit
    limit = tree.read_yaml('container', 'compose.yaml')['services']['sluice']['ulimits']['memlock']
    assert limit['soft'] == limit['hard'] >= twice * 32
    assert f'--ulimit memlock={limit["hard"]}' in page('deployment.md')
    assert 'LimitMEMLOCK=infinity' in page('deployment.md')
    assert f'{(8 << 10) // kilobytes} workers' in page('deployment.md') and f'{(8 << 10) // kilobytes} workers' in page('tuning.md')
    for name in ('common', 'container', 'laptop'):
        formulas = re.findall(r'^(?:limit memlock|advise file compose.yaml ulimits.memlock) \| >?= max\((\d+),cores\*(\d+)\)',
                              text('tuning', 'profiles', f'{name}.conf'), re.M)
        assert formulas, name
        for least, each in formulas:
            assert int(least) >= twice and int(each) >= twice, name


def test_an_alerts_page_says_its_severity():
    sections = dict(re.findall(r'^## (Sluice\w+)\n\*(\w+):', page('alerts.md'), re.M))
    assert sections == {alert: rule['labels']['severity'] for alert, rule in ALERTS.items()}


def test_links_lead_to_headings():
    for name in ('deployment.md', 'alerts.md'):
        for target in re.findall(r'\]\(([^)]+)\)', page(name)):
            file, _, anchor = target.partition('#')
            headings = re.findall(r'^#+ (.+)$', page(file or name), re.M)
            anchors = [re.sub(r'[^\w\- ]', '', h).strip().lower().replace(' ', '-') for h in headings]
            assert not anchor or anchor in anchors, f'{name}: {target}'
