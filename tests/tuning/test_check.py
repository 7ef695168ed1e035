"""What check says, on which machines, and with which exit code."""

import json
import os
import subprocess

import pytest

import conftest
import machines


def states(tune, *args):
    tune.run('check', '--json', *args)
    found = json.loads(tune.out)
    return {s['kind'] + ' ' + s['key']: s for s in found['settings']}, found


def test_check_of_a_plain_machine_says_now_and_wanted(tune):
    tune.become('plain')
    settings, found = states(tune)
    assert settings['sysctl net.core.somaxconn']['state'] == 'finding'
    assert settings['sysctl net.core.somaxconn']['now'] == '4096'
    assert settings['sysctl net.core.somaxconn']['wanted'] == '>= 65535'
    assert settings['sysctl not.a.key']['state'] == 'absent'
    assert settings['sysctl kernel.numa_balancing']['state'] == 'skipped'
    assert settings['limit nofile']['now'] == '1024/524288'
    assert settings['sysfs /sys/kernel/mm/transparent_hugepage/enabled']['now'] == 'always'
    assert settings['sysfs /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor']['now'] == 'powersave x4'
    assert settings['cmdline isolcpus']['state'] == 'advice'
    assert sum(found['counts'].values()) == len(settings) == 28
    assert found['machine']['cores'] == 8 and found['machine']['smt'] == 1 and found['machine']['nic_queues'] == 3
    assert found['machine']['nic_mbps'] == 10000 and found['machine']['memory_bytes'] == 33554432 * 1024


def test_what_belongs_to_the_host_is_no_finding_in_a_container(tune):
    tune.become('container')
    settings, found = states(tune)
    assert settings['sysctl vm.swappiness']['state'] == 'host'
    assert settings['sysfs /sys/kernel/mm/transparent_hugepage/enabled']['state'] == 'host'
    assert settings['sysctl net.core.somaxconn']['state'] == 'finding', 'it has this one of its own'
    assert settings['sysctl net.core.netdev_max_backlog']['state'] == 'absent'
    assert 'host' in settings['sysctl net.core.netdev_max_backlog']['note']
    assert '--ulimit nofile=' in settings['limit nofile']['note']
    assert found['machine']['cores'] == 2, 'the quota of 1.5 CPUs'
    assert found['machine']['memory_bytes'] == 1 << 30


def test_exit_codes_are_by_findings(tune):
    tune.become('plain')
    one = 'sysctl vm.swappiness | %s | why | effect | source | risk\n'
    for text, code in ((one % '= 60', 0), (one % '<= 60', 0), (one % '<= 59', 1), ('advise ' + one % '= 1', 0),
                       (one % 'in 1 60', 0), ('nonsense\n', 2), (one % '{virtual} = 1', 0), ('', 0)):
        tune.set_profile(text)
        assert tune.run('check') == code, (text, tune.out)


@pytest.mark.parametrize('width', [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(tune, width):
    tune.become('plain')
    tune.run('check', '--verbose', env={'COLUMNS': str(width)})
    lines = tune.out.splitlines()
    words = [line for line in lines if len(line) > width]
    # Only what cannot be broken may stand out: a path.
    assert all(max(map(len, line.split())) > width - 20 for line in words), words
    assert width == 40 or len(words) <= 3


def test_check_starts_no_process_for_a_setting(tune):
    """Twice the settings, not one process more: each would cost a millisecond, and a profile has a hundred."""
    tune.become('plain')
    hook = os.path.join(os.path.dirname(tune.profile), 'hook')
    with open(hook, 'w', encoding='utf-8') as f:
        f.write('trap \'read -r _ _ _ _ _ _ _ _ _ _ minor_children _ </proc/$$/stat; '
                'echo "children: $minor_children" >&2\' EXIT\n')
    keys = [k for k in machines.SYSCTLS if k != 'kernel.osrelease']
    faults = []
    for many in (2, len(keys)):
        tune.set_profile(''.join(f'sysctl {k} | = max(1, cores * 2) | why | effect | source | risk\n' for k in keys[:many]))
        tune.run('check', env={'BASH_ENV': hook})
        # The page faults of children that were waited for. Each costs a hundred or more.
        faults.append(int(tune.out.split('children: ')[1]))
    assert faults[1] < 2 * faults[0] + 100, faults


def test_a_boot_setting_and_a_neighbours_file_are_read(tune):
    tune.become('plain')
    tune.write('proc/cmdline', 'ro isolcpus=2-7 quiet\n')
    tune.write('etc/valkey/valkey.conf', '# maxmemory 1gb\nmaxmemory 4gb\n')
    settings, _ = states(tune)
    assert settings['cmdline isolcpus']['state'] == 'ok'
    assert settings['file /etc/valkey/valkey.conf maxmemory'] | {'state': 'ok', 'now': '4gb'} == \
        settings['file /etc/valkey/valkey.conf maxmemory']
    tune.write('etc/valkey/valkey.conf', 'maxmemory 100mb\n')
    assert states(tune)[0]['file /etc/valkey/valkey.conf maxmemory']['state'] == 'advice'


def test_values_beyond_64_bits_and_masks_are_compared_rightly(tune):
    tune.become('plain')
    tune.write(machines.sysctl_path('fs.file-max'), '18446744073709551615\n')
    tune.write('sys/class/net/eth0/queues/rx-0/rps_cpus', '00000000,000000FF\n')
    tune.set_profile('sysctl fs.file-max | >= 9223372036854775 | why | effect | source | risk\n'
                     'irq /sys/class/net/eth0/queues/rx-0/rps_cpus | = ff | why | effect | source | risk\n')
    tune.must('check')


@pytest.mark.parametrize('args, words', [
    (['check', '--profile', 'nowhere'], 'no such profile'), (['dance'], 'no verb'), (['check', '--colour'], 'no option'),
    (['check', '--root', '/nonexistent'], 'not a directory'), (['check', '--connections', '1e6'], 'needs a number'),
    (['check', '--connections'], 'needs a value'), (['check', 'somaxconn'], 'one word too many'), ([], 'usage'),
    (['check', '--with', 'colour=1'], 'no such variable'), (['apply', '--root', ''], 'needs a value'),
    (['apply', '--json'], 'not for apply'), (['plan', '--force'], 'not for plan'),
    (['revert', '--only', 'x'], 'all that was recorded'), (['check', '--profile', 'nowhere'], 'inference-gateway')])
def test_wrong_use_is_said_with_exit_code_2(args, words):
    done = subprocess.run([conftest.SCRIPT] + args, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and words in done.stdout + done.stderr


def test_help_names_every_verb():
    done = subprocess.run([conftest.SCRIPT, '--help'], capture_output=True, text=True, check=True)
    assert all(f'  {verb} ' in done.stdout for verb in ('check', 'plan', 'apply', 'revert', 'explain'))


def test_it_runs_through_a_link_and_from_anywhere(tune, tmp_path):
    tune.become('plain')
    os.symlink(os.path.abspath(conftest.SCRIPT), tmp_path / 'sluice-tune')
    done = subprocess.run([str(tmp_path / 'sluice-tune'), 'check', '--root', tune.root, '--profile', tune.profile],
                          capture_output=True, text=True, cwd='/', check=False)
    assert done.returncode == 1 and 'net.core.somaxconn' in done.stdout


def test_a_file_that_undoes_a_value_at_the_next_boot_is_named(tune):
    tune.become('plain')
    tune.must('apply')
    tune.write('etc/sysctl.d/99-admin.conf', '# later than ours\nnet/core/somaxconn=128\n-vm.swappiness = 5\n')
    tune.write('etc/sysctl.d/50-early.conf', 'vm.max_map_count = 1\n')
    tune.write('usr/lib/sysctl.d/50-early.conf', 'net.ipv4.tcp_fin_timeout = 99\n')
    tune.write('usr/lib/sysctl.d/98-vendor.conf', 'net.ipv4.tcp_migrate_req = 0\n')
    settings, found = states(tune)
    notes = {key: s['note'] for key, s in settings.items() if 'next boot' in s['note']}
    assert notes == {'sysctl net.core.somaxconn': 'at the next boot /etc/sysctl.d/99-admin.conf sets it to 128',
                     'sysctl net.ipv4.tcp_migrate_req': 'at the next boot /usr/lib/sysctl.d/98-vendor.conf sets it to 0'}
    assert found['counts']['finding'] == 0


# As ethtool 6.1 prints it.
RINGS = '''Ring parameters for eth0:
Pre-set maximums:
RX:    2048
RX Mini:  n/a
RX Jumbo:  n/a
TX:    4096
Current hardware settings:
RX:    512
RX Mini:  n/a
RX Jumbo:  n/a
TX:    4096
'''


@pytest.mark.parametrize('key, want, result', [
    ('rx', 4096, '1 eth0 2048'), ('rx', 1024, '1 eth0 1024'), ('rx', 512, '0'), ('tx', 8192, '0')])
def test_a_ring_is_wanted_as_large_as_the_hardware_has_it(key, want, result):
    lib = os.path.join(conftest.TUNING, 'lib')
    script = f'''set -euo pipefail; ROOT=/nonexistent UDEV_FILE=/none S_OP=('>=') nows=() worst=2 J_TARGET=
        . {lib}/text.sh; . {lib}/settings.sh; . {lib}/outside.sh
        J_TARGET=; ring_sizes "$1"; judge_ring 0 eth0 {key} {want}; echo "$worst $J_TARGET"'''
    done = subprocess.run(['bash', '-c', script, 'bash', RINGS], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == result, done.stderr
