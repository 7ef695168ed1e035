"""The units: what systemd thinks of them, and the server under what they forbid.

There is no systemd as first process in a test run: confined.py does by itself what the unit asks of the kernel. What is not
done then is printed by it, and listed in docs/operations.md."""

import os
import re
import shutil
import signal
import stat
import tempfile

import pytest

from installed import ENV, ROOT, install, said, tool

from programs import Program, Sim  # noqa: E402  of tests/e2e
from rawhttp import get, post, wait_until

EXPOSURE_MAX = 2.0
needs_systemd = pytest.mark.skipif(not tool('systemd-analyze'), reason='systemd-analyze is not installed')


@pytest.fixture(scope='module')
def tree():
    """Not pytest's own folder, which only its owner can enter: the server is another user here."""
    folder = tempfile.mkdtemp(prefix='sluice-installed-')
    os.chmod(folder, 0o755)
    install(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def root(tree, tmp_path):
    """The tree with the units around ours, for systemd-analyze."""
    shutil.copytree(tree, tmp_path / 'root', symlinks=True)
    units = tmp_path / 'root' / 'usr' / 'lib' / 'systemd' / 'system'
    for name in ('sysinit.target', 'shutdown.target', 'basic.target', 'sockets.target', 'multi-user.target',
                 'network-online.target', 'nss-lookup.target', 'system.slice', '-.slice', 'tmp.mount'):
        if not (units / name).exists():
            (units / name).write_text('[Unit]\nDescription=a unit around ours\n' +
                                      ('[Mount]\nWhat=tmpfs\nWhere=/tmp\n' if name.endswith('.mount') else ''))
    (tmp_path / 'root' / 'etc' / 'passwd').write_text('sluice:x:999:999::/var/lib/sluice:/usr/sbin/nologin\n')
    (tmp_path / 'root' / 'etc' / 'group').write_text('sluice:x:999:\n')
    return tmp_path / 'root'


def unit_of(tree, name='sluice.service'):
    with open(f'{tree}/usr/lib/systemd/system/{name}', encoding='utf-8') as f:
        return f.read()


# ---- systemd's own opinion

@needs_systemd
def test_the_units_are_without_fault(root):
    """Every key is known, every value can be read, what they name is there."""
    assert said(['systemd-analyze', 'verify', f'--root={root}', '--man=no', 'sluice.service', 'sluice.socket']) == ''


@needs_systemd
@pytest.mark.parametrize('example', ['pinning.conf', 'access-log-file.conf'])
def test_the_examples_fit_the_unit(root, example):
    drop_in = root / 'etc' / 'systemd' / 'system' / 'sluice.service.d'
    drop_in.mkdir(parents=True)
    shutil.copy(os.path.join(ROOT, 'deploy', 'systemd', 'examples', example), drop_in)
    assert said(['systemd-analyze', 'verify', f'--root={root}', '--man=no', 'sluice.service']) == ''


@needs_systemd
def test_a_fault_would_be_seen(root):
    drop_in = root / 'etc' / 'systemd' / 'system' / 'sluice.service.d'
    drop_in.mkdir(parents=True)
    (drop_in / 'wrong.conf').write_text('[Service]\nLimitNoFiles=1\n')
    assert 'LimitNoFiles' in said(['systemd-analyze', 'verify', f'--root={root}', '--man=no', 'sluice.service'], None)


@needs_systemd
def test_the_service_is_hardly_exposed(root):
    text = said(['systemd-analyze', 'security', '--offline=true', '--no-pager', f'--root={root}', 'sluice.service'], None)
    exposure = float(re.search(r'Overall exposure level for sluice.service: ([0-9.]+)', text)[1])
    assert exposure <= EXPOSURE_MAX, text


@pytest.mark.skipif(not tool('systemd-sysusers') or not tool('systemd-tmpfiles'), reason='systemd is not installed')
def test_the_user_and_its_folder_are_made(tree, tmp_path):
    (tmp_path / 'etc').mkdir()
    said(['systemd-sysusers', f'--root={tmp_path}', f'{tree}/usr/lib/sysusers.d/sluice.conf'])
    entry = re.search(r'^sluice:x:(\d+):(\d+):Sluice API gateway:/var/lib/sluice:/usr/sbin/nologin$',
                      (tmp_path / 'etc' / 'passwd').read_text(), re.M)
    assert entry and 0 < int(entry[1]) < 1000
    if os.geteuid() == 0:  # it gives the folder to its user
        said(['systemd-tmpfiles', '--create', f'--root={tmp_path}', f'{tree}/usr/lib/tmpfiles.d/sluice.conf'])
        info = os.stat(tmp_path / 'var' / 'lib' / 'sluice')
        assert stat.S_IMODE(info.st_mode) == 0o700 and info.st_uid == int(entry[1])


# ---- what they say

def test_the_socket_is_one_of_the_configuration_as_shipped(tree):
    with open(f'{tree}/etc/sluice/sluice.yaml', encoding='utf-8') as f:
        config = f.read()
    for address in re.findall(r'^ListenStream=(.*)$', unit_of(tree, 'sluice.socket'), re.M):
        assert f'address: {address}' in config


def test_the_manager_waits_longer_than_the_drain(tree):
    with open(f'{tree}/etc/sluice/sluice.yaml', encoding='utf-8') as f:
        drain_ms = int(re.search(r'drain_timeout_ms: ([\d_]+)', f.read())[1].replace('_', ''))
    assert int(re.search(r'^TimeoutStopSec=(\d+)s$', unit_of(tree), re.M)[1]) * 1000 > drain_ms + 2000


# ---- running under them

CONFIG = '''
listeners: [{{ address: "127.0.0.1:0" }}, {{ address: "unix:{state}/socket" }}]
admin: {{ address: "127.0.0.1:0" }}
workers: 2
limits: {{ drain_timeout_ms: 5000 }}
cache: {{ memory: 16MB, database: cache.db, database_cost_min_ms: 0 }}
upstreams: [{{ name: sim, endpoints: ["{sim}"] }}]
routes:
  - {{ path: /, respond: {{ body: "hi" }} }}
  - {{ path_prefix: /v1, inference: {{ upstream: sim }} }}
'''


@pytest.fixture
def confined(tree):
    """Starts the server as the unit does; the state's folder is of the user that it becomes."""
    if not tool('systemd-analyze'):
        pytest.skip('systemd-analyze is not installed, which knows the groups of system calls')
    state = os.path.join(tree, 'state')
    os.makedirs(state, exist_ok=True)
    if os.geteuid() == 0:
        os.chown(state, 65534, 65534)
    started = []

    def start(ready, config, *options):
        path = f'{tree}/etc/sluice/confined.yaml'
        with open(path, 'w', encoding='utf-8') as f:
            f.write(config.replace('{state}', state))
        os.chmod(path, 0o644)
        helper = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'confined.py')
        program = Program(['/usr/bin/python3', helper, f'{tree}/usr/lib/systemd/system/sluice.service', state, *options,
                           f'{tree}/usr/bin/sluice', 'serve', path], ready, 'sluice', seconds=60, env=ENV)
        started.append(program)
        return program
    yield start
    for program in started:
        program.kill()
        program.print_log()


def test_the_server_does_all_its_work_under_what_the_unit_forbids(confined, tree):
    sim = Sim('--time-scale', '100')
    try:
        server = confined(r'starting 2 workers', CONFIG.format(state='{state}', sim=sim.address))
        address = server.find(r'listening on (127\S+)$')[1]
        admin = server.find(r'listening on (\S+) \(admin\)')[1]
        assert get(address, '/').body == b'hi'
        assert get(f'unix:{tree}/state/socket', '/').body == b'hi'
        body = b'{"model":"sluice-sim","temperature":0,"messages":[{"role":"user","content":"hi"}]}'
        first = post(address, '/v1/chat/completions', body, fields='Content-Type: application/json\r\n')
        assert first.status == 200
        wait_until(lambda: 'hit' in post(address, '/v1/chat/completions', body,
                                         fields='Content-Type: application/json\r\n').fields['cache-status'])
        wait_until(lambda: 'sluice_cache_tier_state{state="ready"} 1' in get(admin, '/metrics').body.decode())
        assert 'process_resident_memory_bytes' in get(admin, '/metrics').body.decode()
        with open(f'/proc/{server.pid}/status', encoding='ascii') as f:
            status = f.read()
        assert re.search(r'^NoNewPrivs:\s+1$', status, re.M) and re.search(r'^Seccomp:\s+2$', status, re.M)
        if os.geteuid() == 0:
            assert re.search(r'^CapBnd:\s+0+$', status, re.M) and re.search(r'^Uid:\s+65534', status, re.M)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        words = '\n'.join(server.lines)
        assert not re.search(r' error |could not pin|store unavailable', words), words
    finally:
        sim.stop()
    assert os.path.exists(f'{tree}/state/cache.db')


def test_pinning_works_under_what_the_unit_forbids(confined):
    cores = len(os.sched_getaffinity(0))
    server = confined(rf'starting {cores} worker', 'listeners: [{ address: "127.0.0.1:0" }]\npin: true\n'
                      'routes: [{ path: /, respond: { body: x } }]\n')
    assert get(server.find(r'listening on (127\S+)$')[1], '/').body == b'x'
    pinned = set()
    for task in os.listdir(f'/proc/{server.pid}/task'):
        with open(f'/proc/{server.pid}/task/{task}/status', encoding='ascii') as f:
            pinned.add(re.search(r'^Cpus_allowed_list:\s+(\S+)$', f.read(), re.M)[1])
    assert {str(core) for core in os.sched_getaffinity(0)} <= pinned
    assert not server.find('could not pin')
    server.stop()


def test_without_io_uring_it_says_so_and_ends(confined):
    """The filter bites; and this is what an administrator sees who has written one that is too narrow."""
    server = confined(None, 'listeners: [{ address: "127.0.0.1:0" }]\nroutes: [{ path: /, respond: { body: x } }]\n',
                      '--without', 'io_uring_setup')
    assert server.wait(60) == 1
    assert server.find(r'io_uring is not allowed here')


@pytest.mark.skipif(os.geteuid() != 0, reason='files are confined by root only')
def test_it_can_write_nothing_but_its_state(confined, tree):
    os.makedirs(f'{tree}/open', exist_ok=True)
    os.chmod(f'{tree}/open', 0o777)  # anybody could, but for the unit
    config = CONFIG.format(state='{state}', sim='127.0.0.1:1').replace('database: cache.db', f'database: {tree}/open/cache.db')
    server = confined(r'starting 2 workers', config)
    if server.find('not confined: files'):
        pytest.skip('no mount can be made here')
    server.wait_line(r'store unavailable: .*open/cache\.db')
    assert os.listdir(f'{tree}/open') == []
    server.stop()
