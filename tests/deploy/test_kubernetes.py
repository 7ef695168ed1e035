"""deploy/kubernetes: every overlay is put together and looked at as the API server, the scheduler and the kubelet would."""

import copy
import functools
import glob
import os
import re
import shutil
import subprocess

import pytest
import yaml

import kustomize
import tree
from programs import SLUICE
from rawhttp import get
from schema import object_faults

FOLDER = tree.path_of('kubernetes')
PINNED = ('overlays/pinned', 'overlays/production')
OVERLAYS = ['base'] + sorted('overlays/' + name for name in os.listdir(os.path.join(FOLDER, 'overlays')))
SECONDS_TO_SPARE = 3


@functools.lru_cache(maxsize=None)
def built(overlay):
    return kustomize.build(os.path.join(FOLDER, overlay))


def build(overlay):
    return copy.deepcopy(built(overlay))


def of_kind(things, kind):
    return [t for t in things if t['kind'] == kind]


def only(things, kind, name):
    found = [t for t in of_kind(things, kind) if t['metadata']['name'] == name]
    assert len(found) == 1, (kind, name)
    return found[0]


def pods(things):
    """(name, labels, spec) of every workload's pods."""
    return [(t['metadata']['name'], t['spec']['template']['metadata']['labels'], t['spec']['template']['spec'])
            for t in of_kind(things, 'Deployment')]


def gateway(things):
    return only(things, 'Deployment', 'sluice')['spec']['template']['spec']


def configuration(things, tmp_path, **environment):
    """The ConfigMap's file, and what `sluice check` says of it."""
    path = tmp_path / 'gateway.yaml'
    path.write_text(only(things, 'ConfigMap', 'sluice-config')['data']['gateway.yaml'], encoding='utf-8')
    done = subprocess.run([SLUICE, 'check', str(path)], env={**os.environ, **environment}, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=20, check=False)
    return yaml.safe_load(path.read_text(encoding='utf-8')), done


def selects(selector, labels):
    return bool(selector) and selector.items() <= labels.items()


def port_number(pod, port):
    if isinstance(port, int):
        return port
    found = [p['containerPort'] for c in pod['containers'] for p in c.get('ports', []) if p['name'] == port]
    assert len(found) == 1, f'port {port}'
    return found[0]


# ---- the files

@pytest.mark.parametrize('path', tree.files('.yaml', '.yml'), ids=lambda p: os.path.relpath(p, tree.DEPLOY))
def test_a_file_parses_without_a_key_twice(path):
    assert tree.read_yaml_all(path)


def test_no_manifest_is_forgotten():
    used = set()
    for path in glob.glob(FOLDER + '/**/kustomization.yaml', recursive=True):
        file, folder = tree.read_yaml_all(path)[0], os.path.dirname(path)
        names = file.get('resources', []) + [p['path'] for p in file.get('patches', []) if 'path' in p]
        names += [f for g in file.get('configMapGenerator', []) for f in g['files']]
        used |= {os.path.normpath(os.path.join(folder, n)) for n in names} | {path}
    used.add(os.path.join(FOLDER, 'components', 'autoscale', 'prometheus-adapter.yaml'))  # the adapter's, not ours
    assert {p for p in tree.files('.yaml') if p.startswith(FOLDER)} == {p for p in used if os.path.isfile(p)}


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_an_overlay_has_only_fields_that_exist(overlay):
    assert [fault for thing in build(overlay) for fault in object_faults(thing)] == []


def test_the_checker_finds_what_is_wrong():
    thing = only(build('base'), 'Deployment', 'sluice')
    assert object_faults(thing) == []

    def broken(change):
        spoilt = copy.deepcopy(thing)
        change(spoilt['spec']['template']['spec'])
        return object_faults(spoilt)
    assert any('unknown field' in f for f in broken(lambda pod: pod.update(securitycontext={})))
    assert any('missing' in f for f in broken(lambda pod: pod['containers'][0].pop('resources')))
    assert any('is not a int' in f for f in broken(lambda pod: pod.update(terminationGracePeriodSeconds='140')))
    assert any('is not one of' in f for f in broken(lambda pod: pod['containers'][0].update(imagePullPolicy='Sometimes')))
    assert any('is no' in f for f in broken(lambda pod: pod['containers'][0]['resources']['limits'].update(cpu='two')))


def test_the_resolver_finds_what_is_missing(tmp_path):
    def broken(text):
        (tmp_path / 'kustomization.yaml').write_text(text, encoding='utf-8')
        with pytest.raises(kustomize.Broken) as raised:
            kustomize.build(str(tmp_path))
        return str(raised.value)
    assert 'there is no gone.yaml' in broken('resources: [gone.yaml]')
    assert 'this does not know' in broken('resourcse: [x.yaml]')
    base = os.path.relpath(os.path.join(FOLDER, 'base'), tmp_path)
    assert 'finds 0 objects' in broken(f'resources: [{base}]\npatches:\n  - target: {{kind: Deployment, name: no}}\n    patch: "[]"\n')


@pytest.mark.skipif(shutil.which('kubectl') is None, reason='kubectl is not installed')
@pytest.mark.parametrize('overlay', OVERLAYS)
def test_kubectl_puts_the_same_together(overlay):
    done = subprocess.run(['kubectl', 'kustomize', os.path.join(FOLDER, overlay)], capture_output=True, timeout=60, check=False)
    if b'unknown command' in done.stderr:
        pytest.skip('this kubectl has no kustomize')
    assert done.returncode == 0, done.stderr.decode()
    # The hash that kustomize puts behind a generated ConfigMap's name, there and where it is used.
    text = re.sub(r'(sluice-config)-[0-9a-z]{10}\b', r'\1', done.stdout.decode())
    theirs = {kustomize.identity(t): t for t in yaml.safe_load_all(text)}
    ours = {kustomize.identity(t): t for t in build(overlay)}
    assert ours == theirs


# ---- what belongs together

@pytest.mark.parametrize('overlay', OVERLAYS)
def test_selectors_select(overlay):
    things = build(overlay)
    for thing in of_kind(things, 'Deployment'):
        assert selects(thing['spec']['selector']['matchLabels'], thing['spec']['template']['metadata']['labels'])
        for constraint in thing['spec']['template']['spec'].get('topologySpreadConstraints', []):
            assert selects(constraint['labelSelector']['matchLabels'], thing['spec']['template']['metadata']['labels'])
    for kind, path in (('Service', ('selector', )), ('PodDisruptionBudget', ('selector', 'matchLabels')),
                       ('NetworkPolicy', ('podSelector', 'matchLabels'))):
        assert of_kind(things, kind)
        for thing in of_kind(things, kind):
            selector = thing['spec']
            for key in path:
                selector = selector[key]
            chosen = [name for name, labels, _ in pods(things) if selects(selector, labels)]
            assert chosen == ['models' if thing['metadata']['name'] == 'models' else 'sluice'], (kind, selector)
    # Two workloads whose selectors overlap fight for each other's pods.
    for thing in of_kind(things, 'Deployment'):
        assert [n for n, labels, _ in pods(things) if selects(thing['spec']['selector']['matchLabels'], labels)] == [
            thing['metadata']['name']]


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_ports_lead_somewhere(overlay):
    things = build(overlay)
    for service in of_kind(things, 'Service'):
        for _, labels, pod in pods(things):
            if selects(service['spec']['selector'], labels):
                for port in service['spec']['ports']:
                    assert port_number(pod, port['targetPort'])
    for policy in of_kind(things, 'NetworkPolicy'):
        allowed = {p['port'] for rule in policy['spec']['ingress'] for p in rule['ports']}
        assert allowed == {'http', 'admin'}
        open_to_all = {p['port'] for rule in policy['spec']['ingress'] if 'from' not in rule for p in rule['ports']}
        assert open_to_all == {'http'}, 'the admin listener removes from the cache without asking who wants it'


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_the_configuration_is_good_and_listens_where_the_pod_says(overlay, tmp_path):
    things = build(overlay)
    config, check = configuration(things, tmp_path)
    assert check.returncode == 0, check.stdout.decode()
    pod = gateway(things)
    assert port_number(pod, 'http') == int(config['listeners'][0]['address'].rsplit(':', 1)[1])
    assert port_number(pod, 'admin') == int(config['admin']['address'].rsplit(':', 1)[1])
    for address in (config['listeners'][0]['address'], config['admin']['address']):
        assert address.startswith('*:'), 'probes and clients come to the pod\'s address'
    mount = pod['containers'][0]['volumeMounts'][0]
    assert pod['containers'][0]['args'] == ['serve', mount['mountPath'] + '/gateway.yaml']
    volume = next(v for v in pod['volumes'] if v['name'] == mount['name'])
    assert volume['configMap']['name'] == 'sluice-config'
    # The models' port is one that the gateway may go to.
    models = re.search(r':-([a-z-]+):(\d+)', config['upstreams'][0]['endpoints'][0])
    egress = {p['port'] for rule in only(things, 'NetworkPolicy', 'sluice')['spec']['egress'] for p in rule['ports']}
    assert {int(models[2]), 53} == egress
    for service in of_kind(things, 'Service'):
        if service['metadata']['name'] == models[1]:
            assert int(models[2]) in {p['port'] for p in service['spec']['ports']}


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_environment_variables_are_those_the_configuration_reads(overlay, tmp_path):
    things = build(overlay)
    text = only(things, 'ConfigMap', 'sluice-config')['data']['gateway.yaml']
    environment = {e['name']: e['value'] for e in gateway(things)['containers'][0].get('env', [])}
    assert set(environment) <= set(re.findall(r'\$\{([A-Z_]+)', text))
    _, check = configuration(things, tmp_path, **environment)
    assert check.returncode == 0, check.stdout.decode()


def test_probes_ask_what_the_admin_listener_answers(module_world):
    """The real server, the probes' paths."""
    admin = module_world.gateway([{'path': '/', 'respond': {'body': 'x'}}]).admin
    pod = gateway(build('base'))
    probes = [pod['containers'][0][name]['httpGet'] for name in ('startupProbe', 'readinessProbe', 'livenessProbe')]
    assert all(probe['port'] == 'admin' for probe in probes)
    assert {get(admin, probe['path']).status for probe in probes} == {200}
    sim = only(build('overlays/demo'), 'Deployment', 'models')['spec']['template']['spec']['containers'][0]
    assert get(module_world.sim().address, sim['readinessProbe']['httpGet']['path']).status == 200


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_a_pod_is_given_time_to_drain(overlay, tmp_path):
    things = build(overlay)
    config, _ = configuration(things, tmp_path)
    pod = gateway(things)
    command = pod['containers'][0]['lifecycle']['preStop']['exec']['command']
    assert command[0] == 'sleep'
    needed = int(command[1]) + config['limits']['drain_timeout_ms'] / 1000
    assert needed + SECONDS_TO_SPARE <= pod['terminationGracePeriodSeconds'] <= needed + 30
    # Longer than a failing readiness probe takes to tell, so that nobody is sent here any more.
    probe = pod['containers'][0]['readinessProbe']
    assert int(command[1]) >= probe['periodSeconds'] * probe['failureThreshold']
    startup = pod['containers'][0]['startupProbe']
    assert startup['periodSeconds'] * startup['failureThreshold'] >= 30
    assert only(things, 'Deployment', 'sluice')['spec']['strategy']['rollingUpdate'] == {'maxUnavailable': 0, 'maxSurge': 1}


# ---- safety, resources

@pytest.mark.parametrize('overlay', OVERLAYS)
def test_pods_pass_the_restricted_standard(overlay):
    things = build(overlay)
    assert only(things, 'Namespace', 'sluice')['metadata']['labels']['pod-security.kubernetes.io/enforce'] == 'restricted'
    for _, _, pod in pods(things):
        assert pod['securityContext']['runAsNonRoot'] is True and pod['securityContext']['runAsUser'] > 0
        # RuntimeDefault forbids io_uring.
        assert pod['securityContext']['seccompProfile'] == {
            'type': 'Localhost', 'localhostProfile': 'profiles/sluice-io_uring.json'}
        assert pod['automountServiceAccountToken'] is False
        assert {'hostNetwork', 'hostPID', 'hostIPC'}.isdisjoint(pod)
        for container in pod['containers']:
            context = container['securityContext']
            assert context['allowPrivilegeEscalation'] is False and context['readOnlyRootFilesystem'] is True
            assert context['capabilities'] == {'drop': ['ALL']} and not context.get('privileged')
        assert all('hostPath' not in volume for volume in pod.get('volumes', []))


@pytest.mark.parametrize('overlay', OVERLAYS)
def test_pods_are_guaranteed_and_have_whole_cores(overlay):
    for _, _, pod in pods(build(overlay)):
        for container in pod['containers']:
            resources = container['resources']
            assert resources['requests'] == resources['limits']
            assert resources['limits']['cpu'].isdigit() and int(resources['limits']['cpu']) >= 1
            tag = container['image'].rsplit(':', 1)
            assert len(tag) == 2 and re.fullmatch(r'\d+\.\d+\.\d+', tag[1]), container['image']


def test_only_exclusive_cores_are_pinned_to(tmp_path):
    for overlay in OVERLAYS:
        things = build(overlay)
        config, _ = configuration(things, tmp_path)
        environment = {e['name']: e['value'] for e in gateway(things)['containers'][0].get('env', [])}
        assert config['pin'] == '${SLUICE_PIN:-false}' and config['workers'] == 'auto'
        assert environment.get('SLUICE_PIN') == ('true' if overlay in PINNED else None)
    # With full-pcpus-only both threads of a core come together.
    pinned = gateway(build('overlays/pinned'))
    assert int(pinned['containers'][0]['resources']['limits']['cpu']) % 2 == 0 and pinned['nodeSelector']


def test_a_disruption_takes_one_pod_at_a_time():
    things = build('base')
    assert only(things, 'PodDisruptionBudget', 'sluice')['spec']['maxUnavailable'] == 1
    assert only(things, 'Deployment', 'sluice')['spec']['replicas'] >= 2


# ---- autoscaling, monitoring

def test_autoscalers_scale_what_there_is_by_metrics_that_are_served(tmp_path):
    things = build('overlays/autoscale')
    adapter = tree.read_yaml('kubernetes', 'components', 'autoscale', 'prometheus-adapter.yaml')['rules']['custom']
    served = {rule['name']['as']: set(rule['resources']['overrides']) for rule in adapter}
    asked = set()
    config, _ = configuration(things, tmp_path)
    backend = re.search(r':-([a-z-]+):', config['upstreams'][0]['endpoints'][0])[1]
    for scaler in of_kind(things, 'HorizontalPodAutoscaler'):
        spec = scaler['spec']
        assert spec['minReplicas'] < spec['maxReplicas']
        target = spec['scaleTargetRef']['name']
        assert target == backend or 'replicas' not in only(things, 'Deployment', target)['spec'], \
            'an apply would set back what the autoscaler chose'
        for metric in spec['metrics']:
            if metric['type'] == 'Pods':
                assert 'pod' in served[metric['pods']['metric']['name']]
                asked.add(metric['pods']['metric']['name'])
            elif metric['type'] == 'Object':
                described = metric['object']['describedObject']
                assert described['kind'] == 'Service' and only(things, 'Service', described['name'])
                assert 'service' in served[metric['object']['metric']['name']]
                asked.add(metric['object']['metric']['name'])
    assert asked == set(served)
    assert {s['metadata']['name'] for s in of_kind(things, 'HorizontalPodAutoscaler')} == {'sluice', backend}


def test_prometheus_finds_the_admin_ports_and_calls_them_sluice():
    things = build('overlays/monitoring')
    monitor = of_kind(things, 'ServiceMonitor')[0]['spec']
    found = [s for s in of_kind(things, 'Service') if selects(monitor['selector']['matchLabels'], s['metadata']['labels'])]
    assert [s['metadata']['name'] for s in found] == ['sluice-admin']
    assert found[0]['metadata']['labels'][monitor['jobLabel']] == 'sluice'
    assert monitor['namespaceSelector']['matchNames'] == [found[0]['metadata']['namespace']]
    assert monitor['endpoints'][0]['port'] in {p['name'] for p in found[0]['spec']['ports']}
    assert monitor['endpoints'][0]['honorLabels'] is True  # sluice_endpoint_in_flight has a label `endpoint` of its own
    dashboard = only(things, 'ConfigMap', 'sluice-dashboard')
    assert dashboard['metadata']['labels'] == {'grafana_dashboard': '1'} and set(dashboard['data']) == {'sluice.json'}
