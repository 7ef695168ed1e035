"""What apply writes is taken back to the last bit, whatever the machine was like."""

import json
import os
import random
import shutil

import pytest

import machines
from conftest import PROFILE

DOCKER = '\n'.join(line for line in PROFILE.splitlines() if line.startswith('docker'))
RUNS = int(os.environ.get('TUNING_RUNS', '3'))


@pytest.mark.parametrize('machine', machines.MACHINES)
def test_apply_then_revert_leaves_every_machine_as_it_was(tune, machine):
    tune.become(machine)
    before = tune.snapshot()
    assert tune.run('check') == 1
    tune.must('plan')
    assert machines.difference(before, tune.snapshot()) == [], 'check and plan only look'
    tune.must('apply')
    tune.must('check')
    applied = tune.snapshot()
    assert 'nothing to be written' in tune.must('apply')
    assert machines.difference(applied, tune.snapshot()) == []
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []
    assert 'no record' in tune.must('revert')


@pytest.mark.parametrize('limit, is_written', [
    ('1048576', False), ('infinity', False), ('2M', False), ('1048576:infinity', False), ('1024:infinity', True),
    ('65536', True), ('1M:2M\nLimitNOFILE=1K', True), (None, True)])
def test_a_drop_in_never_lowers_what_the_unit_has(tune, limit, is_written):
    tune.become('plain')
    tune.set_profile('limit nofile | = 1048576 | why | effect | source | risk\n')
    if limit is not None:
        tune.write('usr/lib/systemd/system/sluice.service', f'[Service]\nLimitNPROC=1\nLimitNOFILE={limit}\n')
    before = tune.snapshot()
    tune.must('apply')
    dropped = os.path.join(tune.root, 'etc/systemd/system/sluice.service.d/60-tuning.conf')
    assert os.path.exists(dropped) == is_written
    assert 'nofile 1048576' in tune.read('etc/security/limits.d/60-sluice.conf')
    tune.must('check')
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []


def random_machine(tune, dice):
    """Values, files, modes and times of all sorts, some of what is to be written already there, some missing."""
    tune.become(dice.choice(list(machines.MACHINES)))
    for key, value in machines.SYSCTLS.items():
        path = os.path.join(tune.root, machines.sysctl_path(key))
        if key == 'kernel.osrelease' or not os.path.exists(path):
            continue
        fate = dice.random()
        if fate < 0.1:
            os.remove(path)
        elif fate < 0.5 and value.replace('\t', '').isdigit():
            numbers = [str(dice.choice([0, 1, 7, 1000, 65535, 10**6, 2**31, 2**63 - 1])) for _ in value.split('\t')]
            tune.write(machines.sysctl_path(key), dice.choice('\t ').join(numbers) + dice.choice(['\n', '', ' \n']))
    for path in ('etc/sysctl.d/60-sluice.conf', 'etc/security/limits.d/60-sluice.conf', 'etc/default/irqbalance',
                 'etc/udev/rules.d/60-sluice.rules', 'etc/systemd/system/sluice.service.d/60-tuning.conf',
                 'etc/tmpfiles.d/sluice-tuning.conf', 'var/lib/sluice/state', 'etc/docker/other'):
        if dice.random() < 0.3:
            tune.write(path, dice.choice(['', 'a = 1\n', '# no last newline', 'b\tc\r\n']), dice.choice([0o600, 0o644, 0o640]))
    for folder, _, files in os.walk(tune.root):
        for path in [folder] + [os.path.join(folder, f) for f in files]:
            at = dice.randrange(10**9, 17 * 10**8) * 10**9 + dice.randrange(10**9)
            os.utime(path, ns=(at, at))


@pytest.mark.parametrize('seed', range(RUNS))
def test_random_machines_come_back_byte_identical(tune, seed):
    random_machine(tune, random.Random(seed))
    before = tune.snapshot()
    tune.must('apply')
    tune.must('check')
    if seed % 2:
        tune.must('apply', '--connections', '3000000')
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []


def test_another_profile_works_from_what_was_there_first(tune):
    tune.become('plain')
    before = tune.snapshot()
    tune.must('apply')
    tune.set_profile('sysctl net.core.somaxconn | = 8192 | why | effect | source | risk\n'
                     'sysctl net.ipv4.tcp_keepalive_time | <= 600 | why | effect | source | risk\n')
    assert '/proc/sys/vm/swappiness: 10 -> 60' in tune.must('plan')
    tune.must('apply')
    tune.must('check')
    assert tune.sysctl('net.core.somaxconn') == '8192\n'
    assert tune.sysctl('net.ipv4.tcp_keepalive_time') == '600\n'
    assert tune.sysctl('vm.swappiness') == '60\n', 'what this profile does not speak of is given back'
    assert tune.sysctl('net.ipv4.tcp_rmem') == '4096\t131072\t6291456\n'
    assert not tune.exists('/etc/security/limits.d/60-sluice.conf')
    assert 'somaxconn = 8192' in tune.read('/etc/sysctl.d/60-sluice.conf')
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []


def test_more_connections_change_only_what_depends_on_them(tune):
    tune.become('plain')
    before = tune.snapshot()
    tune.must('apply')
    tune.must('apply', '--connections', '400000')
    assert tune.sysctl('net.core.somaxconn') == '400000\n'
    tune.must('check'), 'check knows for how many it was applied'
    assert 'nofile 1600000' in tune.read('/etc/security/limits.d/60-sluice.conf')
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []


def test_at_least_never_lowers_what_is_higher(tune):
    tune.become('plain')
    tune.write(machines.sysctl_path('net.core.somaxconn'), '1000000\n')
    tune.write(machines.sysctl_path('net.ipv4.tcp_rmem'), '8192\t87380\t33554432\n')
    tune.must('apply')
    assert tune.sysctl('net.core.somaxconn') == '1000000\n'
    assert tune.sysctl('net.ipv4.tcp_rmem').split() == ['8192', '131072', '33554432']
    assert 'somaxconn' not in tune.read('/etc/sysctl.d/60-sluice.conf')


def test_plan_says_each_file_and_each_value_that_apply_writes(tune):
    tune.become('numa')
    before = tune.snapshot()
    plan = tune.must('plan')
    tune.must('apply')
    after = tune.snapshot()
    changed = [p for p in after if after[p][4] != before.get(p, (0, 0, 0, 0, None))[4] and not p.startswith('var/')]
    files = [p for p in changed if p.startswith('etc/') and oct(0o100000)[:4] in after[p][0]]
    values = [p for p in changed if p.startswith(('proc/', 'sys/'))]
    assert len(files) == 8 and len(values) > 40
    for path in files:
        assert f'+++ /{path}' in plan
    for path in values:
        assert f'/{path}: ' in plan
    assert plan.count(' -> ') == len(values)


def test_files_of_others_are_merged_not_overwritten(tune):
    tune.become('numa')
    tune.must('apply')
    daemon = tune.read('/etc/docker/daemon.json')
    assert '"data-root": "/srv/docker"' in daemon and '"tag": "ä"' in daemon and '"max-file": "3"' in daemon
    assert '"live-restore": true' in daemon and '"Hard": 65536' in daemon
    irqbalance = tune.read('/etc/default/irqbalance')
    assert irqbalance.startswith('# of the package\n') and 'IRQBALANCE_ARGS="--foreground"\n' in irqbalance
    assert irqbalance.endswith('IRQBALANCE_BANNED_CPULIST="0-19"\n')
    assert os.stat(os.path.join(tune.root, 'etc/docker/daemon.json')).st_mode & 0o777 == 0o600


def test_a_daemon_json_that_is_no_json_is_left_alone(tune):
    tune.become('numa')
    tune.write('/etc/docker/daemon.json', '{ broken')
    tune.set_profile(DOCKER)
    tune.must('apply')
    assert tune.read('/etc/docker/daemon.json') == '{ broken'
    assert 'cannot be understood' in tune.must('check')


def test_ports_that_servers_listen_on_are_kept_out_of_a_wider_range(tune):
    tune.become('plain')
    tune.write(machines.sysctl_path('net.ipv4.ip_local_reserved_ports'), '9999,50000-50002\n')
    tune.must('apply')
    # 8080 is outside of the new range, 40960 was inside of the old one already, 12345 is no listener.
    assert tune.sysctl('net.ipv4.ip_local_reserved_ports') == '9999-10000,50000-50002\n'
    order = tune.read('/etc/sysctl.d/60-sluice.conf')
    assert order.index('reserved_ports') < order.index('port_range')


def test_what_must_come_first_comes_first(tune):
    tune.become('plain')
    values = [line.split(':')[0] for line in tune.must('plan').splitlines() if ' -> ' in line]
    assert values.index('/proc/sys/fs/nr_open') == 0
    assert values.index('/proc/sys/net/core/default_qdisc') < values.index('/proc/sys/net/ipv4/tcp_congestion_control')
    tune.must('apply')
    assert tune.read('/etc/modules-load.d/60-sluice.conf').endswith('tcp_bbr\n')


def test_without_the_module_bbr_is_not_wanted_of_the_machine(tune):
    tune.become('old_kernel')
    tune.must('apply')
    assert tune.sysctl('net.ipv4.tcp_congestion_control') == 'cubic\n'
    assert 'offers only: reno cubic' in tune.must('check')


def test_nofile_does_not_go_above_nr_open(tune):
    tune.become('plain')
    tune.set_profile('limit nofile | >= 5000000 | why | effect | source | risk\n')
    tune.must('apply')
    assert '* soft nofile 1048576\n' in tune.read('/etc/security/limits.d/60-sluice.conf')


def test_limits_stay_when_they_hold_at_last(tune):
    tune.become('plain')
    tune.must('apply')
    drop_in = tune.read('/etc/security/limits.d/60-sluice.conf')
    tune.write('proc/self/limits', machines.LIMITS.replace('1024                 524288 ', '1048576              1048576')
               .replace('8388608              8388608 ', '67108864             67108864'))
    tune.must('check')
    assert 'nothing to be written' in tune.must('apply')
    assert tune.read('/etc/security/limits.d/60-sluice.conf') == drop_in


def test_only_narrows_the_profile(tune):
    tune.become('plain')
    tune.must('apply', '--only', 'sysctl net.core.*')
    assert tune.sysctl('net.core.somaxconn') == '65535\n' and tune.sysctl('vm.swappiness') == '60\n'
    assert not tune.exists('/etc/udev/rules.d/60-sluice.rules')


def test_odd_names_are_safe(tune):
    tune.become('plain')
    machines.nic(tune.root, 'a $(touch PWNED) `id`;"\'b\\', 1)
    tune.write('sys/devices/odd %h $(touch PWNED)/knob', '1\n')
    tune.set_profile('irq /sys/class/net/*/queues/rx-*/rps_cpus | = ff | why | effect | source | risk\n'
                     'sysfs /sys/devices/odd*/knob | = 2 | why | effect | source | risk\n'
                     'sysfs /sys/devices/o[d]d*/kn?b | = 2 | why | effect | source | risk\n')
    before = tune.snapshot()
    tune.must('apply', cwd=tune.root)
    tune.must('check', cwd=tune.root)
    tune.must('revert', cwd=tune.root)
    assert machines.difference(before, tune.snapshot()) == []


def test_a_link_that_leads_out_of_the_tree_stops_apply(tune, tmp_path):
    tune.become('plain')
    outside = tmp_path / 'outside'
    outside.write_text('60\n')
    os.remove(os.path.join(tune.root, machines.sysctl_path('vm.swappiness')))
    os.symlink(outside, os.path.join(tune.root, machines.sysctl_path('vm.swappiness')))
    before = tune.snapshot()
    assert 'leads out of' in tune.must('apply', code=2)
    assert outside.read_text() == '60\n'
    assert machines.difference(before, tune.snapshot()) == []


def test_with_jq_in_place_of_python_daemon_json_becomes_the_same(tune, tmp_path):
    if not shutil.which('jq'):
        pytest.skip('jq is not installed')
    tools = tmp_path / 'bin'
    tools.mkdir()
    for folder in ('/bin', '/usr/bin'):
        for name in os.listdir(folder):
            if not name.startswith('python') and not (tools / name).is_symlink():
                (tools / name).symlink_to(os.path.join(folder, name))
    tune.become('numa')
    tune.set_profile(DOCKER)
    before = tune.snapshot()
    tune.must('apply')
    by_python = json.loads(tune.read('/etc/docker/daemon.json'))
    tune.must('revert')
    tune.must('apply', env={'PATH': str(tools)})
    assert json.loads(tune.read('/etc/docker/daemon.json')) == by_python
    tune.must('check', env={'PATH': str(tools)})
    tune.must('revert', env={'PATH': str(tools)})
    assert machines.difference(before, tune.snapshot()) == []


def test_without_a_daemon_json_one_is_made_and_goes_again(tune):
    tune.become('plain')
    os.makedirs(tune.root + '/etc/docker')
    tune.set_profile(DOCKER)
    before = tune.snapshot()
    tune.must('apply')
    assert json.loads(tune.read('/etc/docker/daemon.json'))['live-restore'] is True
    tune.must('check')
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []
