"""Refusals at every place, kills at many moments, other people's changes."""

import os
import random
import signal
import subprocess
import time

import pytest

import conftest
import machines

# One of each kind of write, few enough for a run at each position.
SMALL = '''
sysctl fs.nr_open | >= 2097152 | why | effect | source | risk
sysctl net.ipv4.tcp_rmem | >= 4096 131072 16777216 | why | effect | source | risk
sysctl vm.dirty_bytes | = 256M | why | effect | source | risk
sysctl vm.swappiness | <= 10 | why | effect | source | risk
limit nofile | >= 1048576 | why | effect | source | risk
sysfs /sys/kernel/mm/transparent_hugepage/enabled | = madvise | why | effect | source | risk
irq /sys/class/net/eth0/queues/rx-0/rps_cpus | = ff | why | effect | source | risk
service irqbalance | = 0-3 | why | effect | source | risk
'''
VALUES = ['/proc/sys/fs/nr_open', '/proc/sys/net/ipv4/tcp_rmem', '/proc/sys/vm/dirty_bytes', '/proc/sys/vm/swappiness',
          '/sys/kernel/mm/transparent_hugepage/enabled', '/sys/class/net/eth0/queues/rx-0/rps_cpus']
FILES = ['/etc/sysctl.d/60-sluice.conf', '/etc/security/limits.d/60-sluice.conf', '/etc/default/irqbalance',
         '/etc/systemd/system/sluice.service.d/60-tuning.conf', '/etc/udev/rules.d/60-sluice.rules',
         '/etc/tmpfiles.d/sluice-tuning.conf']

# bash reads the file that BASH_ENV names first, so the shell's own commands can be made to fail without a line of
# tune.sh knowing: printf is what writes the live values, cat what writes the files.
REFUSE = '''
printf() {
    [[ $1 != -v && /proc/self/fd/1 -ef "$FAULT" ]] || { builtin printf "$@"; return; }
    [ ! -e "$FAULT.once" ] || { builtin printf "$@"; return; }
    : >"$FAULT.once"
    ANSWER
}
'''
REFUSE_FILE = '''
cat() {
    [[ $(readlink /proc/$$/fd/1) == *"${FAULT%/*}/.${FAULT##*/}.sluice-new" ]] && return 1
    command cat "$@"
}
'''
# Kills the shell before the Nth command after the record's directory is begun.
KILL = '''
set -o functrace
KILL_COUNT=-1
kill_at() {
    ((KILL_COUNT >= 0)) || [[ $BASH_COMMAND != "$KILL_FROM"* ]] || KILL_COUNT=0
    ((KILL_COUNT >= 0)) || return 0
    ((++KILL_COUNT != KILL_AT)) || kill -KILL $$
    [[ $KILL_AT != -1 || $BASH_COMMAND != say* ]] || builtin printf '%s' "$KILL_COUNT" >"$KILL_SAYS"
}
trap kill_at DEBUG
'''


@pytest.fixture
def small(tune, tmp_path):
    tune.become('plain')
    machines.write(tune.root, 'usr/sbin/irqbalance', '', 0o755)
    machines.write(tune.root, 'etc/default/irqbalance', '# theirs\n', 0o640)
    tune.set_profile(SMALL)
    tune.hook = str(tmp_path / 'hook')
    return tune


def hooked(tune, text, **env):
    with open(tune.hook, 'w', encoding='utf-8') as f:
        f.write(text)
    return dict(BASH_ENV=tune.hook, **{k: str(v) for k, v in env.items()})


@pytest.mark.parametrize('path', VALUES)
@pytest.mark.parametrize('answer', ['return 1', "builtin printf '3\\n'"], ids=['refused', 'other'])
def test_one_refused_value_undoes_all(small, path, answer):
    before = small.snapshot()
    env = hooked(small, REFUSE.replace('ANSWER', answer), FAULT=small.root + path)
    out = small.must('apply', code=1, env=env)
    assert path in out and 'undone' in out
    os.remove(small.root + path + '.once')
    folder = os.path.dirname(small.root + path)
    at = before[os.path.relpath(folder, small.root)][3]
    os.utime(folder, ns=(at, at))
    assert machines.difference(before, small.snapshot()) == []
    small.must('apply')


@pytest.mark.parametrize('path', FILES)
def test_one_refused_file_undoes_all(small, path):
    before = small.snapshot()
    out = small.must('apply', code=1, env=hooked(small, REFUSE_FILE, FAULT=path))
    assert path in out and 'undone' in out
    assert machines.difference(before, small.snapshot()) == []


@pytest.mark.parametrize('path', FILES)
def test_a_directory_in_a_files_place_stops_apply_before_anything(small, path):
    if path != '/etc/default/irqbalance':
        os.makedirs(small.root + path)
        before = small.snapshot()
        assert 'not an ordinary file' in small.must('apply', code=2)
        assert machines.difference(before, small.snapshot()) == []


@pytest.mark.parametrize('first, second', [(0, 1), (3, 2), (1, 3)])
def test_two_values_that_change_each_other_are_found_and_undone(small, first, second):
    os.remove(small.root + VALUES[second])
    os.link(small.root + VALUES[first], small.root + VALUES[second])
    before = small.snapshot()
    out = small.run('apply'), small.out
    assert out[0] == 1 and 'undone' in out[1], out
    assert machines.difference(before, small.snapshot()) == []


def test_a_refusal_of_a_second_profile_leads_back_to_the_first(small):
    small.must('apply')
    applied = small.snapshot()
    small.set_profile(SMALL.replace('2097152', '4194304').replace('<= 10', '= 5').replace('limit nofile', 'limit memlock'))
    env = hooked(small, REFUSE.replace('ANSWER', 'return 1'), FAULT=small.root + '/proc/sys/vm/swappiness')
    small.must('apply', code=1, env=env)
    os.remove(small.root + '/proc/sys/vm/swappiness.once')
    after = small.snapshot()
    same = [p for p in applied if applied[p][4] == after.get(p, (0, 0, 0, 0, None))[4]]
    assert len(same) == len(applied) == len(after)
    small.must('revert')


@pytest.mark.parametrize('signum', [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_in_the_middle_undoes_all(small, signum):
    before = small.snapshot()
    hook = f'''printf() {{
        if [[ $1 != -v && /proc/self/fd/1 -ef "$FAULT" && -z ${{SENT-}} ]]; then SENT=1; kill -{signum.name[3:]} $$; fi
        builtin printf "$@"
    }}'''
    small.must('apply', code=128 + {1: 1, 2: 2, 15: 15}[signum], env=hooked(small, hook, FAULT=small.root + VALUES[3]),
               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    assert 'interrupted' in small.out
    assert machines.difference(before, small.snapshot()) == []


def killed(small, verb, at, begin):
    says = small.hook + '.says'
    env = hooked(small, KILL, KILL_AT=at, KILL_FROM=begin, KILL_SAYS=says)
    code = small.run(verb, env=env)
    return code, says


def kill_positions(small, verb, begin, how_many, seed):
    """How many commands there are from `begin` on is counted once, then so many of them are drawn."""
    code, says = killed(small, verb, -1, begin)
    assert code == 0, small.out
    with open(says, encoding='utf-8') as f:
        count = int(f.read())
    assert count > 100
    return sorted(random.Random(seed).sample(range(1, count), how_many))


KILLS = int(os.environ.get('TUNING_KILLS', '3'))


def test_kill_at_any_moment_of_apply_then_revert_gives_all_back(small):
    before = small.snapshot()
    positions = kill_positions(small, 'apply', 'mkdir -m 0755', KILLS, 1)
    small.must('revert')
    for at in positions:
        code, _ = killed(small, 'apply', at, 'mkdir -m 0755')
        assert code == -signal.SIGKILL, small.out
        small.must('revert')
        assert machines.difference(before, small.snapshot()) == [], f'killed at {at}'


def test_kill_in_a_second_apply_then_revert_gives_all_back(small):
    before = small.snapshot()
    second = SMALL.replace('2097152', '4194304').replace('<= 10', '= 5').replace('limit nofile', 'limit memlock')
    for at in random.Random(3).sample(range(1, 900), (KILLS + 1) // 2):
        small.set_profile(SMALL)
        small.must('apply')
        small.set_profile(second)
        code, _ = killed(small, 'apply', at, 'cp -- "$RECORD/record"')
        assert code == -signal.SIGKILL, small.out
        small.must('revert')
        assert machines.difference(before, small.snapshot()) == [], f'killed at {at}'


def test_kill_at_any_moment_of_revert_then_revert_gives_all_back(small):
    before = small.snapshot()
    small.must('apply')
    positions = kill_positions(small, 'revert', 'revert_all', KILLS, 2)
    for at in positions:
        small.must('apply')
        code, _ = killed(small, 'revert', at, 'revert_all')
        assert code == -signal.SIGKILL, small.out
        small.must('revert')
        assert machines.difference(before, small.snapshot()) == [], f'killed at {at}'


def test_apply_finishes_what_was_cut_short_and_goes_on(small):
    before = small.snapshot()
    hook = 'printf() { [[ $1 == -v || ! /proc/self/fd/1 -ef "$FAULT" ]] || kill -KILL $$; builtin printf "$@"; }'
    assert small.run('apply', env=hooked(small, hook, FAULT=small.root + VALUES[3])) == -signal.SIGKILL
    assert small.sysctl('fs.nr_open') == '2097152\n', 'it was in the middle'
    assert 'cut short' in small.run('check') * '' + small.out
    assert 'cut short' in small.must('apply')
    small.must('check')
    small.must('revert')
    assert machines.difference(before, small.snapshot()) == []


def test_what_somebody_else_changed_stays_and_is_said(small):
    before = small.snapshot()
    small.must('apply')
    small.write('/proc/sys/vm/swappiness', '33\n')
    small.write('/etc/default/irqbalance', 'IRQBALANCE_ARGS=--oneshot\n')
    out = small.must('revert', code=1)
    assert '/proc/sys/vm/swappiness is 33 now' in out and '/etc/default/irqbalance was changed' in out
    assert small.sysctl('vm.swappiness') == '33\n' and small.sysctl('fs.nr_open') == '1048576\n'
    assert small.read('/etc/default/irqbalance') == 'IRQBALANCE_ARGS=--oneshot\n'
    assert not small.exists('/etc/sysctl.d/60-sluice.conf')
    small.must('revert', code=1)
    small.must('revert', '--force')
    after = small.snapshot()
    assert [d for d in machines.difference(before, after) if not d.startswith('etc/default: ')] == []


def test_forget_leaves_all_as_it_is(small):
    small.must('apply')
    small.must('revert', '--forget')
    assert small.sysctl('vm.swappiness') == '10\n' and not small.exists('/var/lib/sluice-tuning')
    assert 'no record' in small.must('revert')


def test_a_changed_drop_in_is_not_replaced_unasked(small):
    small.must('apply')
    small.write('/etc/sysctl.d/60-sluice.conf', 'mine = 1\n')
    small.set_profile(SMALL.replace('<= 10', '= 5'))
    assert 'apply --force' in small.must('apply', code=1)
    assert small.read('/etc/sysctl.d/60-sluice.conf') == 'mine = 1\n' and small.sysctl('vm.swappiness') == '10\n'
    small.must('apply', '--force')
    assert 'vm.swappiness = 5' in small.read('/etc/sysctl.d/60-sluice.conf')


def test_a_better_value_of_somebody_else_stays_at_the_next_apply(small):
    small.must('apply')
    small.write('/proc/sys/vm/swappiness', '1\n')
    small.must('check')
    small.must('apply')
    assert small.sysctl('vm.swappiness') == '1\n'


def test_a_file_that_somebody_put_into_our_directory_keeps_it(small):
    small.must('apply')
    small.write('/etc/systemd/system/sluice.service.d/mine.conf', '[Service]\n')
    assert 'stays' in small.must('revert')
    assert small.read('/etc/systemd/system/sluice.service.d/mine.conf') == '[Service]\n'


def test_what_others_put_beside_the_record_stays(small):
    os.rmdir(small.root + '/var/lib')
    small.must('apply')
    small.write('/var/lib/theirs/file', 'x')
    small.must('revert')
    assert small.exists('/var/lib/theirs/file') and not small.exists('/var/lib/sluice-tuning')


def test_a_record_of_another_user_is_not_trusted(small):
    if os.geteuid() != 0:
        pytest.skip('only root can give a file away')
    small.must('apply')
    for path in ('/record', ''):
        os.chown(small.root + '/var/lib/sluice-tuning' + path, 65534, 65534)
        before = small.snapshot()
        for verb in ('revert', 'apply'):
            assert 'not trusted' in small.must(verb, code=2)
        assert machines.difference(before, small.snapshot()) == []
        os.chown(small.root + '/var/lib/sluice-tuning' + path, 0, 0)


def test_two_at_once_do_not_mix(small):
    before = small.snapshot()
    command = [conftest.SCRIPT, 'apply', '--root', small.root, '--profile', small.profile]
    hook = 'printf() { [[ $1 == -v || ! /proc/self/fd/1 -ef "$FAULT" ]] || sleep 2; builtin printf "$@"; }'
    env = dict(os.environ, **hooked(small, hook, FAULT=small.root + VALUES[1]))
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as first:
        while small.sysctl('fs.nr_open') != '2097152\n':
            assert first.poll() is None
            time.sleep(0.02)
        assert 'another tune.sh' in small.must('revert', code=2)
        assert 'another tune.sh' in small.must('apply', code=2)
        first.communicate()
        assert first.returncode == 0
    small.must('check')
    small.must('revert')
    assert machines.difference(before, small.snapshot()) == []


def test_without_the_right_to_write_apply_says_so_and_changes_nothing(small):
    if os.geteuid() != 0:
        pytest.skip('only root can become somebody else')
    before = small.snapshot()
    os.chmod(os.path.dirname(small.root), 0o755)
    for parent in (os.path.dirname(small.root), os.path.dirname(os.path.dirname(small.root)),
                   os.path.dirname(os.path.dirname(os.path.dirname(small.root)))):
        os.chmod(parent, 0o755)
    assert small.run('check', user=65534, group=65534, extra_groups=[]) == 1
    assert '!!' in small.out
    out = small.must('plan', user=65534, group=65534, extra_groups=[])
    assert 'cannot be written here' in out
    assert small.run('apply', user=65534, group=65534, extra_groups=[]) != 0
    assert machines.difference(before, small.snapshot()) == []


# What the kernel does: writing one of the two sets the other to zero.
COUPLED = '''
printf() {
    local code=0
    if [[ $1 == -v || ! /proc/self/fd/1 -ef "$VM/dirty_bytes" && ! /proc/self/fd/1 -ef "$VM/dirty_ratio" ]]; then
        builtin printf "$@"
        return
    fi
    local other=dirty_ratio
    [[ ! /proc/self/fd/1 -ef "$VM/dirty_ratio" ]] || other=dirty_bytes
    builtin printf "$@"
    builtin printf '0\\n' >"$VM/$other"
}
'''


@pytest.mark.parametrize('ratio, size', [('20\n', '0\n'), ('0\n', '1048576\n')])
@pytest.mark.parametrize('want', ['dirty_bytes | = 256M', 'dirty_ratio | = 5'])
def test_a_value_that_the_kernel_changes_along_is_given_back(small, ratio, size, want):
    small.write('/proc/sys/vm/dirty_ratio', ratio)
    small.write('/proc/sys/vm/dirty_bytes', size)
    values = ['vm.dirty_bytes', 'vm.dirty_ratio', 'vm.swappiness']
    before = [small.sysctl(key) for key in values]
    env = hooked(small, COUPLED, VM=small.root + '/proc/sys/vm')
    small.set_profile(f'sysctl vm.{want} | why | effect | source | risk\n')
    small.must('apply', env=env)
    small.must('check')
    small.must('revert', env=env)
    assert [small.sysctl(key) for key in values] == before
    # Refused after it: the same way back.
    small.set_profile(f'sysctl vm.{want} | why | effect | source | risk\n'
                      'sysctl vm.swappiness | = 5 | why | effect | source | risk\n')
    refuse = REFUSE.replace('ANSWER', 'return 1').replace('printf()', 'refused()').replace('builtin printf "$@"', 'coupled "$@"')
    env = hooked(small, COUPLED.replace('printf()', 'coupled()') + refuse.replace('    : >"$FAULT.once"', '    REFUSED_ONCE=1')
                 .replace('[ ! -e "$FAULT.once" ]', '[ -z "${REFUSED_ONCE-}" ]') + 'printf() { refused "$@"; }\n',
                 VM=small.root + '/proc/sys/vm', FAULT=small.root + '/proc/sys/vm/swappiness')
    small.must('apply', code=1, env=env)
    assert [small.sysctl(key) for key in values] == before
