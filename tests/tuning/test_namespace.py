"""The net.* keys for real: the kernel's own, of a network namespace that lives as long as the test."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import machines

# Keys that a network namespace has of its own, with values that the kernel takes.
PROFILE = '''
sysctl net.core.somaxconn | >= 65535 | why | effect | source | risk
sysctl net.ipv4.tcp_max_syn_backlog | >= 16384 | why | effect | source | risk
sysctl net.ipv4.tcp_rmem | >= 4096 262144 67108864 | why | effect | source | risk
sysctl net.ipv4.tcp_wmem | >= 4096 65536 67108864 | why | effect | source | risk
sysctl net.ipv4.tcp_fin_timeout | <= 15 | why | effect | source | risk
sysctl net.ipv4.tcp_keepalive_time | <= 300 | why | effect | source | risk
sysctl net.ipv4.tcp_tw_reuse | = 1 | why | effect | source | risk
sysctl net.ipv4.tcp_max_tw_buckets | >= 1000000 | why | effect | source | risk
sysctl net.ipv4.tcp_fastopen | = 3 | why | effect | source | risk
sysctl net.ipv4.tcp_mtu_probing | = 1 | why | effect | source | risk
sysctl net.ipv4.tcp_slow_start_after_idle | = 0 | why | effect | source | risk
sysctl net.ipv4.tcp_notsent_lowat | <= 131072 | why | effect | source | risk
sysctl net.ipv4.ip_local_port_range | = 12000 65000 | why | effect | source | risk
sysctl net.ipv4.tcp_migrate_req | = 1 | why | effect | source | risk
sysctl net.ipv4.tcp_congestion_control | in reno | why | effect | source | risk
'''
REFUSED = 'sysctl net.ipv4.%s | = 99999999 | why | effect | source | risk\n'


def namespace():
    """The command that enters a new one, or None."""
    if not shutil.which('unshare'):
        return None
    for more in ([], ['-r']):
        command = ['unshare', '-n', '-m'] + more
        probe = 'echo 4097 >/proc/sys/net/core/somaxconn && mount --bind /proc /mnt'
        if subprocess.run(command + ['sh', '-c', probe], capture_output=True, check=False).returncode == 0:
            return command
    return None


def everything(root):
    """Each readable value below /proc/sys/net, and the tree's files."""
    values = {}
    for folder, _, files in os.walk('/proc/sys/net'):
        for name in files:
            try:
                with open(os.path.join(folder, name), 'rb') as f:
                    values[os.path.join(folder, name)] = f.read().decode('latin-1')
            except OSError:
                pass
    tree = {p: [str(x) for x in facts] for p, facts in machines.snapshot(root, skip=('proc',)).items()}
    return {'values': values, 'tree': tree}


def on_the_machine(profile):
    """Without --root: what would be written to the machine goes into file systems of the namespace's own."""
    for place in ('/etc', '/var'):
        subprocess.run(['mount', '-t', 'tmpfs', 'tmpfs', place], check=True)
    for place in ('/etc/sysctl.d', '/var/lib'):
        os.mkdir(place)
    seen = []
    for verb in ('', 'apply', 'check', 'revert'):
        if verb:
            done = subprocess.run([sys.argv[3], verb] + (['--profile', profile] if verb != 'revert' else []),
                                  capture_output=True, text=True, check=False)
            assert done.returncode == 0, f'{verb}: {done.stdout}{done.stderr}'
        etc, var = machines.snapshot('/etc'), machines.snapshot('/var')
        seen.append((everything('/etc/sysctl.d')['values'], etc, var))
    assert seen[0] == seen[3], machines.difference(seen[0][0], seen[3][0])
    assert b'net.core.somaxconn = 65535' in seen[1][1]['sysctl.d/60-sluice.conf'][4]
    assert seen[1][0]['/proc/sys/net/core/somaxconn'] == '65535\n' and seen[1] == seen[2]


def inside(root, profile, script):
    """Runs in the namespace: a port is listened on, the script's verbs run, what is seen in between is printed."""
    import socket
    subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=False, capture_output=True)
    listener = socket.socket()
    listener.bind(('', 12345))
    listener.listen()
    subprocess.run(['mount', '--rbind', '/proc', root + '/proc'], check=True)
    said = [everything(root)]
    for verb in script:
        done = subprocess.run([sys.argv[3], *verb, '--root', root] + (['--profile', profile] if verb[0] != 'revert' else []),
                              capture_output=True, text=True, check=False)
        said.append({'code': done.returncode, 'out': done.stdout + done.stderr, **everything(root)})
    print(json.dumps(said))


@pytest.fixture
def run(tune, request):
    command = namespace()
    if command is None:
        pytest.skip('a network namespace with its own mounts is not permitted here')
    os.makedirs(os.path.join(tune.root, 'proc'))
    os.makedirs(os.path.join(tune.root, 'etc/sysctl.d'))

    def run(profile, *script):
        tune.set_profile(profile)
        import conftest
        done = subprocess.run(command + [sys.executable, os.path.abspath(__file__), tune.root, tune.profile,
                                         os.path.abspath(conftest.SCRIPT), json.dumps(script)],
                              capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    return run


def test_the_kernels_own_keys_are_set_checked_and_given_back(run):
    before, first, applied, check, again, reverted = run(PROFILE, ['check', '--json'], ['apply'], ['check'], ['apply'], ['revert'])
    assert first['code'] == 1
    assert applied['code'] == 0, applied['out']
    changed = machines.difference(before['values'], applied['values'])
    assert len(changed) >= 12, changed
    assert applied['values']['/proc/sys/net/ipv4/tcp_rmem'] == '4096\t262144\t67108864\n'
    assert applied['values']['/proc/sys/net/ipv4/ip_local_reserved_ports'] == '12345\n'
    assert 'net.core.somaxconn = 65535' in applied['tree']['etc/sysctl.d/60-sluice.conf'][4]
    assert check['code'] == 0, check['out']
    assert again['code'] == 0 and again['values'] == applied['values']
    assert reverted['code'] == 0, reverted['out']
    assert machines.difference(before['values'], reverted['values']) == []
    assert machines.difference(before['tree'], reverted['tree']) == []


@pytest.mark.parametrize('position', [0, 7, 15])
def test_what_the_kernel_refuses_undoes_all(run, position):
    lines = PROFILE.strip().splitlines()
    lines.insert(position, (REFUSED % 'tcp_ecn').strip())
    before, applied = run('\n'.join(lines) + '\n', ['apply'])
    assert applied['code'] == 1 and 'the kernel refuses it' in applied['out'], applied['out']
    assert machines.difference(before['values'], applied['values']) == []
    assert machines.difference(before['tree'], applied['tree']) == []


def test_without_a_root_it_is_the_machine_itself(tune):
    import conftest
    command = namespace()
    if command is None:
        pytest.skip('a network namespace with its own mounts is not permitted here')
    tune.set_profile(PROFILE)
    done = subprocess.run(command + [sys.executable, os.path.abspath(__file__), '', tune.profile,
                                     os.path.abspath(conftest.SCRIPT)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


if __name__ == '__main__':
    if sys.argv[1]:
        inside(sys.argv[1], sys.argv[2], json.loads(sys.argv[4]))
    else:
        on_the_machine(sys.argv[2])
