"""`sluice check --machine`: what it prints of this machine and of made-up ones; and limits that change under a server."""

import contextlib
import json
import os
import pathlib
import re
import subprocess
import time

import pytest
from programs import SLUICE, respond_route
from rawhttp import get, wait_until

SEVERITIES = ('error', 'warning', 'note')
FIGURES = ('workers', 'pinned', 'cache_bytes', 'receive_buffers', 'fibers', 'connections')
FACTS = {
    'cpus': ('online', 'allowed', 'cores', 'nodes', 'kinds', 'l1_bytes', 'l2_bytes', 'l3_bytes', 'quota', 'quota_file',
             'list'),
    'memory': ('total_bytes', 'usable_bytes', 'limit_file', 'huge_pages'),
    'limits': ('open_files', 'locked_bytes', 'processes'),
    'kernel': ('release', 'io_uring', 'clock_source', 'governor', 'frequency_driver', 'settings'),
}


def check(*arguments, **more):
    return subprocess.run([SLUICE, 'check', '--machine', *arguments], capture_output=True, text=True, timeout=30,
                          check=False, **more)


def check_json(*arguments, **more):
    done = check('--json', *arguments, **more)
    assert done.stderr == '', done.stderr
    return json.loads(done.stdout), done.returncode


def write(folder, files):
    for name, text in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='ascii')


GOOD = {
    'proc/self/status': 'Name:\tx\nCpus_allowed_list:\t0-3\n',
    'proc/self/limits': 'Max open files   1024  10000000  files\n',
    'proc/meminfo': 'MemTotal: 8388608 kB\n',
    'proc/sys/net/core/somaxconn': '65535\n',
    'proc/sys/vm/max_map_count': '1048576\n',
    'proc/sys/kernel/io_uring_disabled': '0\n',
    'proc/sys/kernel/osrelease': '6.12.0\n',
}


# ---- what it prints

def test_this_machine_in_words():
    done = check()
    assert done.returncode == 0 and done.stderr == ''
    assert done.stdout.startswith('machine\n')
    for word in ('\nplan\n', '\nfindings\n', 'workers', 'io_uring works', 'CPU quota', 'receive buffers'):
        assert word in done.stdout, done.stdout
    assert not any(line.endswith(' ') for line in done.stdout.splitlines())
    assert max(len(line) for line in done.stdout.splitlines() if 'kernel' not in line) < 140


def test_this_machine_in_json_has_every_field():
    told, code = check_json()
    assert code == 0
    assert set(told) == {'machine', 'plan', 'pinning', 'findings'}
    machine = told['machine']
    assert set(machine) == {*FACTS, 'network', 'gpus'}
    for part, names in FACTS.items():
        assert set(machine[part]) == set(names), part
    assert set(told['plan']) == set(FIGURES)
    for figure in told['plan'].values():
        assert set(figure) == {'value', 'source', 'reason'}
        assert figure['source'] in ('derived', 'configured') and len(figure['reason']) > 5
    assert machine['cpus']['allowed'] == len(os.sched_getaffinity(0)) == len(machine['cpus']['list'])
    assert {c['cpu'] for c in machine['cpus']['list']} == os.sched_getaffinity(0)
    assert machine['kernel']['release'] == os.uname().release and machine['kernel']['io_uring'] is True
    assert 1 <= told['plan']['workers']['value'] <= machine['cpus']['allowed']
    for finding in told['findings']:
        assert set(finding) == {'severity', 'subject', 'what', 'remedy', 'tune'}
        assert finding['severity'] in SEVERITIES
        assert finding['tune'] is None or finding['tune'].startswith('tuning/tune.sh explain ')
    assert {n['name'] for n in machine['network']} <= set(os.listdir('/sys/class/net'))


def test_affinity_is_followed():
    one = max(os.sched_getaffinity(0))
    told, _ = check_json(preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert told['machine']['cpus']['allowed'] == 1 and told['plan']['workers']['value'] == 1
    assert told['pinning'] in ([one], [])


def test_a_configuration_is_heeded_and_one_that_is_wrong_is_refused(tmp_path):
    write(tmp_path, {'right.yaml': 'workers: 3\npin: false\ncache: {memory: 64MB}\nlisteners: [{address: ":0"}]\n'
                                   'routes: [{path: /, respond: {}}]\n',
                     'wrong.yaml': 'workers: x\n'})
    told, _ = check_json(str(tmp_path / 'right.yaml'))
    plan = told['plan']
    assert (plan['workers']['value'], plan['workers']['source']) == (3, 'configured')
    assert plan['pinned']['value'] == 0 and told['pinning'] == []
    assert plan['cache_bytes']['value'] == 64 << 20
    done = check(str(tmp_path / 'wrong.yaml'))
    assert done.returncode == 1 and 'workers' in done.stderr and done.stdout == ''
    assert check(str(tmp_path / 'none.yaml')).returncode == 1


@pytest.mark.parametrize('arguments', [('--root',), ('--root', ''), ('--jsonn',), ('a', 'b')])
def test_wrong_arguments_are_2(arguments):
    done = check(*arguments)
    assert done.returncode == 2 and 'usage: sluice check --machine' in done.stderr


@pytest.mark.parametrize('place', ['nowhere', '.'])
def test_a_folder_that_is_no_machine_is_2(tmp_path, place):
    done = check('--root', str(tmp_path / place))
    assert done.returncode == 2 and 'proc/meminfo' in done.stderr and done.stdout == ''


def test_exit_codes(tmp_path):
    root = ('--root', str(tmp_path))
    write(tmp_path, GOOD)
    done = check(*root)
    assert done.returncode == 0 and 'nothing here will hurt' in done.stdout
    assert check(*root, '--strict').returncode == 0
    write(tmp_path, {'proc/sys/vm/max_map_count': '65530\n'})
    assert check(*root, '--strict').returncode == 0, 'a note is no warning'
    write(tmp_path, {'proc/sys/net/core/somaxconn': '128\n'})
    assert check(*root).returncode == 0, 'warnings do not fail'
    done = check(*root, '--strict')
    assert done.returncode == 1 and 'tuning/tune.sh explain net.core.somaxconn' in done.stdout
    write(tmp_path, {'proc/sys/kernel/io_uring_disabled': '2\n'})
    told, code = check_json(*root)
    assert code == 1 and told['findings'][0]['severity'] == 'error'


def test_another_machines_tree_is_believed_and_its_io_uring_not_tried(tmp_path):
    write(tmp_path, {**GOOD, 'proc/self/cgroup': '0::/a/b\n', 'sys/fs/cgroup/a/cpu.max': '250000 100000\n',
                     'sys/fs/cgroup/a/b/memory.max': '1073741824\n'})
    told, _ = check_json('--root', str(tmp_path))
    assert told['machine']['cpus']['quota'] == 2.5
    assert told['machine']['cpus']['quota_file'] == '/sys/fs/cgroup/a/cpu.max'
    assert told['machine']['memory']['usable_bytes'] == 1 << 30
    assert told['machine']['kernel']['io_uring'] is None
    assert told['plan']['workers']['value'] == 2 and told['pinning'] == []


def test_it_does_not_listen_nor_take_long():
    began = time.monotonic()
    assert check('--json').returncode == 0
    assert time.monotonic() - began < 2


# ---- the server does what is printed

def test_the_server_starts_by_the_very_plan(world):
    told, _ = check_json()
    gateway = world.gateway([respond_route('/')], workers='auto', pin=None)
    plan = told['plan']
    machine = json.loads(get(gateway.admin, '/api/performance?history=0').body)
    assert len(machine['workers']) == plan['workers']['value']
    assert [w['cpu'] for w in machine['workers'] if w['cpu'] is not None] == told['pinning']
    facts = machine['machine']
    assert facts['workers_reason'] == plan['workers']['reason']
    assert facts['cpus_allowed'] == told['machine']['cpus']['allowed']
    assert facts['memory_bytes'] == told['machine']['memory']['usable_bytes']
    assert facts['cpu_quota'] == told['machine']['cpus']['quota']
    metrics = gateway.metrics()
    assert metrics.value('sluice_workers') == plan['workers']['value']
    assert metrics.value('sluice_machine_cpus_allowed') == facts['cpus_allowed']
    assert metrics.value('sluice_machine_memory_bytes') == facts['memory_bytes']
    assert metrics.value('sluice_cache_budget_bytes') == plan['cache_bytes']['value']
    assert metrics.value('sluice_machine_info', kernel=os.uname().release, cores=str(facts['cores']),
                         nodes=str(facts['nodes']), gpus=str(facts['gpus'])) == 1


# ---- limits that change

def hierarchy(controller):
    """Where a controller's groups are, and which version; None: there is none."""
    for line in pathlib.Path('/proc/self/mountinfo').read_text(encoding='ascii', errors='replace').splitlines():
        fields, _, tail = line.partition(' - ')
        kind, _, options = tail.split(' ')[:3]
        point = pathlib.Path(fields.split()[4])
        if kind == 'cgroup' and controller in options.split(','):
            return point, 1
        if kind == 'cgroup2' and controller in (point / 'cgroup.controllers').read_text(encoding='ascii').split():
            return point, 2
    return None


@contextlib.contextmanager
def group(controller):
    """A control group of this test's own, to write limits to; skips where none can be made."""
    found = hierarchy(controller)
    if found is None:
        pytest.skip(f'no control groups with {controller} here')
    point, version = found
    folder = point / f'sluice-test-{os.getpid()}'
    try:
        if version == 2:
            (point / 'cgroup.subtree_control').write_text(f'+{controller}', encoding='ascii')
        folder.mkdir()
    except OSError as error:
        pytest.skip(f'no control group can be made here: {error}')
    try:
        yield folder, version
    finally:
        for pid in (folder / 'cgroup.procs').read_text(encoding='ascii').split():
            (point / 'cgroup.procs').write_text(pid, encoding='ascii')
        folder.rmdir()


def join(folder):
    """For the child: what it does before it runs. It writes to a group that may have gone by then: nothing to see."""
    return lambda: (folder / 'cgroup.procs').write_text('0', encoding='ascii')


def set_quota(folder, version, cpus):
    name, period = ('cpu.max', 100000) if version == 2 else ('cpu.cfs_quota_us', 100000)
    if cpus is None:
        text = 'max' if version == 2 else '-1'
    else:
        text = str(int(cpus * period))
    (folder / name).write_text(text, encoding='ascii')


def test_a_cpu_quota_that_changes_is_followed(world):
    with group('cpu') as (folder, version):
        set_quota(folder, version, 16)
        gateway = world.gateway([respond_route('/', body='hi')], workers='auto', start={'preexec': join(folder)})
        workers = int(gateway.metrics().value('sluice_workers'))
        assert gateway.metrics().value('sluice_machine_cpu_quota') == 16
        set_quota(folder, version, 0.75)
        gateway.wait_line(r'the CPU quota has changed: 0.75 CPUs instead of 16 CPUs')
        gateway.wait_line(r'warn  cpu quota: 0.75 CPUs')
        if workers > 1:
            gateway.wait_line(rf'{workers} workers run, and 1 would be right now')
        wait_until(lambda: gateway.metrics().value('sluice_machine_cpu_quota') == 0.75)
        figures = json.loads(get(gateway.admin, '/api/performance?history=0').body)
        assert figures['machine']['cpu_quota'] == 0.75 and figures['machine']['throttled_seconds'] is not None
        assert get(gateway.address, '/').body == b'hi'
        set_quota(folder, version, None)
        gateway.wait_line(r'the CPU quota has changed: none instead of 0.75 CPUs')
        gateway.stop()


def test_a_memory_limit_that_changes_takes_the_cache_along(world):
    with group('memory') as (folder, version):
        limit = folder / ('memory.max' if version == 2 else 'memory.limit_in_bytes')
        limit.write_text(str(2 << 30), encoding='ascii')
        gateway = world.gateway([respond_route('/', body='hi')], start={'preexec': join(folder)})

        def budget():
            return gateway.metrics().value('sluice_cache_budget_bytes')
        before = budget()
        assert before == (2 << 30) // 100 * 25
        limit.write_text(str(1 << 30), encoding='ascii')
        gateway.wait_line(r'the memory that may be used has changed: 1 GB instead of 2 GB')
        wait_until(lambda: budget() == (1 << 30) // 100 * 25)
        assert gateway.metrics().value('sluice_machine_memory_bytes') == 1 << 30
        limit.write_text(str(2 << 30), encoding='ascii')
        wait_until(lambda: budget() == before)
        assert get(gateway.address, '/').body == b'hi'
        gateway.stop()


def test_cpus_that_are_taken_away_are_seen(world):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip('one CPU cannot be less')
    gateway = world.gateway([respond_route('/')], workers='auto')
    os.sched_setaffinity(gateway.pid, {allowed[0]})
    gateway.wait_line(rf'the CPUs that may be used have changed: 1 instead of {len(allowed)}')


# ---- what the remedies name

def test_every_key_that_a_finding_names_is_one_that_the_profiles_explain(tmp_path):
    profiles = pathlib.Path(__file__).parents[2] / 'tuning' / 'profiles'
    lines = [line for file in profiles.glob('*.conf') for line in file.read_text(encoding='utf-8').splitlines()]
    keys = {re.sub(r'^(advise )?\S+ ', '', line.split(' | ')[0]) for line in lines if ' | ' in line}
    write(tmp_path, {
        'proc/self/status': 'Name:\tx\nCpus_allowed_list:\t0-3\n',
        'proc/self/limits': 'Max open files   10  10  files\nMax processes  5  5  processes\n'
                            'Max locked memory  4096  4096  bytes\n',
        'proc/sys/net/core/somaxconn': '128\n', 'proc/sys/net/ipv4/tcp_max_syn_backlog': '128\n',
        'proc/sys/net/ipv4/ip_local_port_range': '60000 60999\n', 'proc/sys/vm/max_map_count': '65530\n',
        'proc/sys/vm/overcommit_memory': '2\n', 'proc/sys/fs/file-max': '5\n',
        'proc/sys/kernel/io_uring_disabled': '2\n',
        'sys/devices/system/cpu/cpu0/cpufreq/scaling_governor': 'powersave\n',
        'sys/devices/system/clocksource/clocksource0/current_clocksource': 'hpet\n',
        'sys/kernel/mm/transparent_hugepage/enabled': '[always] madvise never\n',
        'config.yaml': 'workers: 4\nlisteners: [{address: ":0"}]\nupstreams: [{name: u, endpoints: ["10.0.0.1:80"]}]\n'
                       'routes: [{path: /, http: {upstream: u}}]\n'})
    told, _ = check_json('--root', str(tmp_path), str(tmp_path / 'config.yaml'))
    named = {f['tune'].removeprefix('tuning/tune.sh explain ') for f in told['findings'] if f['tune']}
    assert len(named) >= 11, named
    for key in named | {'rps_cpus', 'vm.zone_reclaim_mode', 'kernel.numa_balancing'}:
        assert any(known == key or known.endswith(('.' + key, '/' + key)) for known in keys), key
