"""deploy/container: the image's recipe, the compose file, and the seccomp profile, under which the server really runs."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

import tree
from programs import BUILD, SANITIZED, SIM, SLUICE, Program
from rawhttp import get

HERE = os.path.dirname(os.path.abspath(__file__))
PROFILE = tree.path_of('container', 'seccomp-io_uring.json')
HEALTH = tree.path_of('container', 'sluice-health')
COMPOSE = tree.read_yaml('container', 'compose.yaml')
OURS = ('sluice', 'models')
IO_URING = {'io_uring_setup', 'io_uring_enter', 'io_uring_register'}
# Each a way out of a container, or into its host.
FORBIDDEN = {'mount', 'umount2', 'pivot_root', 'setns', 'unshare', 'bpf', 'perf_event_open', 'ptrace', 'process_vm_readv',
             'process_vm_writev', 'init_module', 'finit_module', 'delete_module', 'kexec_load', 'kexec_file_load', 'reboot',
             'swapon', 'swapoff', 'open_by_handle_at', 'userfaultfd', 'keyctl', 'add_key', 'request_key', 'chroot', 'syslog',
             'settimeofday', 'clock_settime', 'adjtimex', 'iopl', 'ioperm', 'quotactl', 'acct', 'fsopen', 'move_mount',
             'mknod', 'mknodat', 'pidfd_getfd', 'kcmp', 'modify_ldt', 'personality_any'}


# ---- the recipe, by hadolint's rules

def instructions():
    """[(instruction, rest)] with continued lines joined."""
    text = ''.join(line for line in tree.read('container', 'Dockerfile').splitlines(True) if not line.lstrip().startswith('#'))
    text = re.sub(r'\\\n\s*', ' ', text)
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def stages():
    found = []
    for instruction, rest in instructions():
        if instruction == 'FROM':
            found.append([])
        if found:
            found[-1].append((instruction, rest))
    return found


def values(stage, instruction):
    return [rest for name, rest in stage if name == instruction]


def test_the_bases_are_pinned():
    arguments = dict(rest.split('=') for name, rest in instructions() if name == 'ARG')
    tags = set()
    for stage in stages():
        base = values(stage, 'FROM')[0].split(' AS ')[0]
        for name, value in arguments.items():
            base = base.replace('${' + name + '}', value)
        image, tag = base.split(':')
        assert image == 'debian' and re.fullmatch(r'13\.\d+(-slim)?', tag), base
        tags.add(tag)
    assert len(tags) == 1, 'libraries of the last stage are those that the first was built against'
    labels = ' '.join(values(stages()[-1], 'LABEL'))
    assert f'base.name="docker.io/library/debian:{tags.pop()}"' in labels


def test_apt_leaves_nothing_behind_and_installs_nothing_unasked():
    for name, rest in instructions():
        assert name not in ('ADD', 'MAINTAINER'), 'COPY says what it does'
        if name == 'RUN' and 'apt-get install' in rest:
            assert 'apt-get update' in rest and '--no-install-recommends' in rest and ' -y ' in rest
        if name == 'RUN' and ('apt-get' in rest or 'deps' in rest):
            assert 'rm -rf /var/lib/apt/lists/*' in rest
        if name == 'RUN':
            assert 'sudo' not in rest and '|' not in rest.replace('||', ''), 'a pipe hides a failure'
            assert not re.search(r'(^|&& *)apt ', rest) and 'upgrade' not in rest


def test_the_image_runs_as_nobody_and_stops_when_told():
    last = stages()[-1]
    user = values(last, 'USER')[-1]
    assert re.fullmatch(r'[1-9]\d*:[1-9]\d*', user), 'Kubernetes knows by a number that it is not root'
    names = [name for name, _ in last]
    assert names.index('USER') > max(i for i, name in enumerate(names) if name in ('RUN', 'COPY'))
    assert values(last, 'STOPSIGNAL') == ['SIGTERM']
    assert json.loads(values(last, 'ENTRYPOINT')[0]) == ['sluice']
    assert json.loads(values(last, 'CMD')[0]) == ['serve', '/etc/sluice/gateway.yaml']
    health = values(last, 'HEALTHCHECK')[0]
    assert health.endswith('CMD ["sluice-health"]') and '--timeout=3s' in health
    assert {'8080', '9901'} == set(values(last, 'EXPOSE')[0].split())
    for stage in stages():
        for rest in values(stage, 'ENV') + values(stage, 'ARG'):
            assert not re.search(r'(?i)token|secret|password|key=', rest)


def test_what_is_copied_is_there_and_reaches_the_builder():
    patterns = [line.strip() for line in open(os.path.join(tree.ROOT, '.dockerignore'), encoding='utf-8')
                if line.strip() and not line.startswith('#')]
    assert patterns[0] == '*' and all(p.startswith('!') for p in patterns[1:]), 'only what is named goes to the builder'
    allowed = [p[1:] for p in patterns[1:]]
    assert all(os.path.exists(os.path.join(tree.ROOT, p)) for p in allowed)
    copied = {word for _, rest in instructions() if _ == 'COPY' and '--from' not in rest for word in rest.split()[:-1]}
    for path in copied:
        assert os.path.exists(os.path.join(tree.ROOT, path)), path
        assert any(path == a or path.startswith(a + '/') for a in allowed), f'{path} is kept from the builder'
    assert copied == set(allowed), 'what is not copied need not go there'


@pytest.mark.skipif(SANITIZED, reason='the same files whatever the preset')
def test_what_the_builder_is_given_can_be_configured(tmp_path):
    """CMake finds all that it asks for in what the first stage copies; that it compiles is every other test's."""
    for instruction, rest in stages()[0]:
        if instruction == 'COPY':
            for path in rest.split()[:-1]:
                os.symlink(os.path.join(tree.ROOT, path), tmp_path / os.path.basename(path))
    done = subprocess.run(['cmake', '-S', str(tmp_path), '-B', str(tmp_path / 'build'), '-G', 'Ninja'], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode()
    told = subprocess.run(['ninja', '-C', str(tmp_path / 'build'), '-t', 'query', 'programs'], stdout=subprocess.PIPE, timeout=60,
                          check=True).stdout.decode()
    assert 'sluice' in told.split() and 'sluice-sim' in told.split()


def debian_package(soname):
    """libfoo.so.3 → libfoo3, libfoo-0.so.2 → libfoo-0-2: Debian policy 8.1."""
    name, version = re.fullmatch(r'(.+)\.so\.(.+)', soname).groups()
    return (name + ('-' if name[-1].isdigit() else '') + version).lower()


def debian_of_the_image():
    return re.search(r'^ARG DEBIAN=(\d+)', tree.read('container', 'Dockerfile'), re.M).group(1)


@pytest.mark.skipif(SANITIZED, reason='not what is shipped')
def test_the_last_stage_has_the_libraries_that_the_programs_need():
    needed = set()
    for program in (SLUICE, SIM):
        text = subprocess.run(['objdump', '-p', program], stdout=subprocess.PIPE, timeout=30, check=True).stdout.decode()
        needed |= set(re.findall(r'NEEDED\s+(\S+)', text))
    of_debian_itself = {'libc.so.6', 'libm.so.6', 'ld-linux-x86-64.so.2', 'ld-linux-aarch64.so.1', 'libgcc_s.so.1'}
    with open(os.path.join(BUILD, 'CMakeCache.txt'), encoding='utf-8') as f:
        if 'SLUICE_CARRY:BOOL=ON' in f.read():
            needed.add('liburing.so.2')  # inside, on Debian 12; the image is made on 13, which has it
    install = next(rest for rest in values(stages()[-1], 'RUN') if 'apt-get install' in rest)
    installed = {word for word in install.split() if word.startswith('lib')}
    wanted = {debian_package(soname) for soname in needed - of_debian_itself}
    assert wanted <= installed, 'the program would not start in the image'
    with open('/etc/os-release', encoding='utf-8') as file:
        if f'VERSION_ID="{debian_of_the_image()}"' in file.read():
            assert wanted == installed, 'nothing needs it'  # elsewhere more may be linked statically


# ---- the health check

def test_health_is_what_the_server_says(world):
    gateway = world.gateway([{'path': '/', 'respond': {'body': 'x'}}])
    host, port = gateway.admin.rsplit(':', 1)

    def ask(*arguments):
        done = subprocess.run([HEALTH, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=10, check=False)
        return done.returncode, done.stderr.decode()
    assert ask(host, port) == (0, '')
    code, said = ask(host, port, '/no-such-path')
    assert code == 1 and "answered '404'" in said
    gateway.stop()
    code, said = ask(host, port)
    assert code == 1 and 'refused' in said


def test_health_does_not_wait_for_who_is_silent(world):
    def silent(peer):
        peer.request()
        peer.wait_end()
    backend = world.backend(silent)
    host, port = backend.address.rsplit(':', 1)
    done = subprocess.run([HEALTH, host, port], stderr=subprocess.PIPE, timeout=10, check=False)
    assert done.returncode != 0


# ---- compose

def memory(text):
    return int(re.search(r'(\d+)([mg])\}?$', text)[1]) << {'m': 20, 'g': 30}[text.rstrip('}')[-1]]


@pytest.mark.parametrize('name', sorted(COMPOSE['services']))
def test_a_service_is_hardened(name):
    service = COMPOSE['services'][name]
    assert service['read_only'] is True and service['cap_drop'] == ['ALL'] and 'privileged' not in service
    assert 'no-new-privileges:true' in service['security_opt']
    assert re.search(r':v?\d+\.\d+\.\d+$', service['image']), 'a pinned version'
    assert service['mem_limit']
    for port in service.get('ports', []):
        assert port.startswith('127.0.0.1:') or port.endswith(':8080'), f'{port} is open to every network'
    for volume in service.get('volumes', []):
        source = volume.split(':')[0]
        if source.startswith('.'):
            assert os.path.isfile(os.path.join(tree.path_of('container'), source)), source
            assert volume.endswith(':ro')
        else:
            assert source in COMPOSE['volumes']


@pytest.mark.parametrize('name', OURS)
def test_our_services_may_use_io_uring_and_cannot_be_stopped_by_a_log(name):
    service = COMPOSE['services'][name]
    profile = next(o for o in service['security_opt'] if o.startswith('seccomp:'))
    assert os.path.normpath(os.path.join(tree.path_of('container'), profile.split(':', 1)[1])) == PROFILE
    assert service['logging']['options']['mode'] == 'non-blocking' and service['logging']['options']['max-size']
    assert service['memswap_limit'] == service['mem_limit'], 'no swap'
    assert service['ulimits']['nofile']['soft'] == service['ulimits']['nofile']['hard']
    assert service['pids_limit']


def test_the_gateway_is_pinned_and_given_time_to_drain(tmp_path):
    service = COMPOSE['services']['sluice']
    assert service['cpuset'] and 'cpus' not in service, 'cores, not a quota'
    config = tree.read_yaml('container', 'gateway.yaml')
    grace = int(service['stop_grace_period'].rstrip('s'))
    assert config['limits']['drain_timeout_ms'] / 1000 + 5 <= grace
    assert service['ulimits']['nofile']['hard'] >= 2 * config['limits']['connections_max']
    text = tree.read('container', 'gateway.yaml')
    assert set(service['environment']) <= set(re.findall(r'\$\{([A-Z_]+)', text))
    defaults = {k: re.sub(r'\$\{[A-Z_]+:-(.*)\}', r'\1', v) for k, v in service['environment'].items()}
    done = subprocess.run([SLUICE, 'check', tree.path_of('container', 'gateway.yaml')], env={**os.environ, **defaults},
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=20, check=False)
    assert done.returncode == 0, done.stdout.decode()
    # The model that it looks for is the service beside it.
    host, port = defaults['SLUICE_MODELS'].split(':')
    model = COMPOSE['services'][host]
    assert model['command'][model['command'].index('--listen') + 1].endswith(':' + port)
    assert model['healthcheck']['test'] == ['CMD', 'sluice-health', '127.0.0.1', port]
    assert service['depends_on'] == {host: {'condition': 'service_healthy'}}
    published = {p.rsplit(':', 1)[1] for p in service['ports']}
    assert published == {config['listeners'][0]['address'].rsplit(':', 1)[1], config['admin']['address'].rsplit(':', 1)[1]}


def test_the_images_configuration_answers_with_the_simulated_model(world):
    """What `docker compose up` starts, without the containers: both programs by compose's command lines."""
    sim = world.sim()
    text = tree.read('container', 'gateway.yaml').replace('*:8080', '127.0.0.1:0').replace('*:9901', '127.0.0.1:0')
    config = yaml.safe_load(text.replace('${SLUICE_MODELS:-models:8000}', sim.address).replace('${SLUICE_WORKERS:-auto}', '1'))
    for key in ('pin', 'access_log'):
        assert config.pop(key).endswith(':-false}')
    config['workers'] = 1
    gateway = world.gateway(config.pop('routes'), **config)
    answer = get(gateway.address, '/v1/models')
    assert answer.status == 200 and b'sluice-sim' in answer.body
    assert get(gateway.address, '/ping').body == b'pong\n'


# ---- seccomp

def profile_rules():
    return tree.read_json('container', 'seccomp-io_uring.json')


def test_the_profile_is_one_that_docker_and_the_kubelet_both_read():
    """`archMap`, `includes` and `excludes` are Docker's alone: containerd passes over them, and with them over conditions."""
    profile = profile_rules()
    assert set(profile) == {'defaultAction', 'defaultErrnoRet', 'architectures', 'syscalls'}
    assert profile['defaultAction'] == 'SCMP_ACT_ERRNO' and profile['defaultErrnoRet'] == 1
    assert profile['architectures'] == ['SCMP_ARCH_X86_64', 'SCMP_ARCH_AARCH64']
    names = []
    for rule in profile['syscalls']:
        assert {'names', 'action', 'comment'} <= set(rule) <= {'names', 'action', 'comment', 'args', 'errnoRet'}
        assert rule['action'] in ('SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO')
        assert all(re.fullmatch(r'[a-z][a-z0-9_]+', name) for name in rule['names'])
        for argument in rule.get('args', []):
            assert {'index', 'value', 'op'} <= set(argument) <= {'index', 'value', 'valueTwo', 'op'}
        if 'args' not in rule:
            names += rule['names']
    assert len(set(names)) == len(names), {n for n in names if names.count(n) > 1}


def test_the_profile_allows_io_uring_and_no_way_out():
    allowed = {name for rule in profile_rules()['syscalls'] if rule['action'] == 'SCMP_ACT_ALLOW' and 'args' not in rule
               for name in rule['names']}
    assert IO_URING <= allowed
    assert not FORBIDDEN & allowed
    conditional = {name: rule for rule in profile_rules()['syscalls'] if 'args' in rule for name in rule['names']}
    assert set(conditional) == {'socket', 'clone', 'personality'} and not conditional.keys() & allowed
    # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET: none of them.
    assert conditional['clone']['args'] == [{'index': 0, 'value': 0x7e020000, 'valueTwo': 0, 'op': 'SCMP_CMP_MASKED_EQ'}]


def under_profile(command, without='', **more):
    return Program([sys.executable, os.path.join(HERE, 'under_seccomp.py'), PROFILE, *command], name=os.path.basename(command[0]),
                   env={**os.environ, 'SLUICE_SECCOMP_WITHOUT': without}, **more)


needs_plain_build = pytest.mark.skipif(SANITIZED, reason='a sanitizer asks for more than the server')


@needs_plain_build
def test_the_server_runs_under_the_profile(tmp_path):
    """With everything that makes system calls: names, a database, connections both ways, threads, signals."""
    sim = under_profile([SIM, '--listen', '127.0.0.1:0'], ready=r'listening on \S+')
    try:
        address = sim.find(r'listening on (\S+)')[1]
        config = tmp_path / 'config.yaml'
        config.write_text(json.dumps({
            'workers': 2, 'listeners': [{'address': '127.0.0.1:0'}], 'admin': {'address': '127.0.0.1:0'}, 'access_log': True,
            'cache': {'memory': '8MB', 'database': str(tmp_path / 'cache.db')},
            'upstreams': [{'name': 'models', 'endpoints': ['localhost:' + address.rsplit(':', 1)[1]]}],
            'routes': [{'path_prefix': '/', 'inference': {'upstream': 'models', 'cache': True}}]}), encoding='utf-8')
        gateway = under_profile([SLUICE, 'serve', str(config)], ready=r'starting \d+ worker')
        try:
            listening = [re.search(r'listening on (\S+)', line)[1] for line in gateway.lines if 'listening' in line]
            answer = get(listening[0], '/v1/models')
            assert answer.status == 200 and b'sluice-sim' in answer.body
            assert get(listening[1], '/metrics').status == 200
            done = subprocess.run([sys.executable, os.path.join(HERE, 'under_seccomp.py'), PROFILE, HEALTH,
                                   *listening[1].rsplit(':', 1)], timeout=20, check=False)
            assert done.returncode == 0, 'the health check runs under it too'
            assert not [line for line in gateway.lines if ' error ' in line or 'store' in line and 'unavail' in line]
            gateway.stop()
        finally:
            gateway.kill()
        sim.stop()
    finally:
        sim.kill()


@needs_plain_build
def test_without_io_uring_the_server_says_so(tmp_path):
    """What the runtimes' own profiles do. The message is the one that docs/operations.md has."""
    config = tmp_path / 'config.yaml'
    config.write_text(json.dumps({'workers': 1, 'listeners': [{'address': '127.0.0.1:0'}],
                                  'routes': [{'path': '/', 'respond': {'body': 'x'}}]}), encoding='utf-8')
    server = under_profile([SLUICE, 'serve', str(config)], without=','.join(IO_URING), ready=None)
    assert server.wait(20) == 1
    assert server.find('io_uring is not allowed here: .*seccomp profile'), server.lines


@needs_plain_build
@pytest.mark.parametrize('program', [['unshare', '-Ur', 'true'], ['unshare', '-m', 'true'], ['chroot', '/', 'true']])
def test_ways_out_are_closed_under_the_profile(program):
    done = subprocess.run([sys.executable, os.path.join(HERE, 'under_seccomp.py'), PROFILE, *program], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=20, check=False)
    assert done.returncode != 0 and re.search(r'not permitted|denied', done.stdout.decode()), done.stdout.decode()


def test_the_programs_are_those_that_were_built():
    assert SLUICE.startswith(BUILD) and os.access(SLUICE, os.X_OK) and os.access(SIM, os.X_OK)
