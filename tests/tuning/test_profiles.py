"""The format of profiles and its arithmetic, and every profile of the tree on every machine."""

import glob
import json
import os
import re
import shutil
import subprocess

import pytest

import conftest
import machines

PROFILES = sorted(glob.glob(os.path.join(conftest.TUNING, 'profiles', '*.conf')))
REFUSED = os.path.join(conftest.TUNING, 'refused.conf')


def value(tune, want, *args):
    tune.set_profile(f'sysctl not.here | {want} | w | e | s | r\n')
    if tune.run('check', '--json', *args) == 2:
        return 'error: ' + tune.out
    return json.loads(tune.out)['settings'][0]['wanted']


VALUES = [
    ('7', '7'), ('= 007', '7'), ('= 2 + 3 * 4', '14'), ('= (2 + 3) * 4', '20'), ('= 7 / 2', '3'), ('= 10 - 2 - 3', '5'),
    ('= -1', '-1'), ('= 17 % 5', '2'), ('= 64K', '65536'), ('= 1G', '1073741824'), ('= cores', '8'),
    ('= min(3, cores, 5)', '3'), ('= max(1, 2)', '2'), ('= clamp(100, 1, 10)', '10'), ('= clamp(0, 1, 10)', '1'),
    ('= pow2(1000)', '1024'), ('= pow2(1024)', '1024'), ('= pow2(0)', '1'), ('= connections * 2', '20000'),
    ('= cores > 4 && !virtual', '1'), ('= cores == 8 || 1 / 1', '1'), ('>= 4096 131072 2 * 4', '>= 4096 131072 8'),
    ('= cpumask(4)', 'f'), ('= cpumask(40)', 'ff,ffffffff'), ('= cpumask(64)', 'ffffffff,ffffffff'),
    ('= cpubit(33)', '2,00000000'), ('= cpulist(1, cores - 1)', '1-7'), ('= bbr', 'bbr'), ('in bbr cubic', 'in bbr cubic'),
    ('= "a * b"', 'a * b'), ('= unlimited', 'unlimited'), ('>= unlimited', '>= unlimited'), ('= 10m', '10m')]


def test_values_are_worked_out(tune):
    tune.become('plain')
    tune.set_profile(''.join(f'sysctl n{n} | {want} | w | e | s | r\n' for n, (want, _) in enumerate(VALUES)))
    tune.run('check', '--json')
    worked_out = [s['wanted'] for s in json.loads(tune.out)['settings']]
    assert [(want, got) for (want, _), got in zip(VALUES, worked_out)] == VALUES


@pytest.mark.parametrize('want', [
    '= 1 / 0', '= 1 % (cores - cores)', '= (1', '= 1)', '= max()', '= pow2(1, 2)', '= 1 +', '>= nothing', '= $(id)',
    '= `id`', '= cores[0]', '= a; b', '= 99999999999999999999', '= 4611686018427387904 * 4', '= ' + '(' * 60 + '1' + ')' * 60,
    '= x$IFS', '=', '{cores >} = 1', '{nowhere} = 1', '>= 1 x', '= 1 2 )', "= 'x'"])
def test_what_is_no_formula_is_refused(tune, want):
    tune.become('plain')
    result = value(tune, want)
    assert result.startswith('error: tune.sh: test.conf'), result


def test_no_text_of_a_profile_or_of_a_tree_is_run(tune, tmp_path):
    tune.become('plain')
    evil = f'a[$(touch {tmp_path}/PWNED)]'
    tune.write(machines.sysctl_path('vm.swappiness'), evil + '\n')
    tune.write('proc/meminfo', f'MemTotal: {evil} kB\n')
    tune.write('sys/devices/system/cpu/online', evil + '\n')
    tune.write('sys/fs/cgroup/cpu.max', f'{evil} 100000\n')
    for want in (f'>= {evil}', f'= {evil}', f'= cpumask({evil})', f'{{{evil}}} = 1', '<= 10'):
        tune.set_profile(f'sysctl vm.swappiness | {want} | w | e | s | r\n')
        tune.run('check')
        tune.run('plan')
    tune.set_profile(f'sysctl {evil} | 1 | w | e | s | r\nlimit {evil} | 1 | w | e | s | r\ndrop sysctl {evil}\n')
    tune.run('check')
    tune.run('explain', evil)
    assert not (tmp_path / 'PWNED').exists()


def test_a_machines_facts_can_be_given(tune):
    tune.become('plain')
    assert value(tune, '= cores', '--with', 'cores=64') == '64'


def test_guards_choose(tune):
    tune.become('plain')
    tune.set_profile('sysctl vm.swappiness | = 1 | w | e | s | r\nsysctl vm.swappiness | {laptop} = 2 | w | e | s | r\n')
    assert ' 60' in tune.must('check', code=1) and ' 1\n' in tune.out
    machines.write(tune.root, 'sys/class/power_supply/BAT0/x', '')
    assert ' 2\n' in tune.must('check', code=1)


def test_include_replace_and_drop(tune, tmp_path):
    tune.become('plain')
    (tmp_path / 'base.conf').write_text('sysctl vm.swappiness | = 1 | w | e | s | r\n'
                                        'sysctl vm.dirty_ratio | = 5 | w | e | s | r\n'
                                        'sysctl vm.max_map_count | = 6 | w | e | s | r\n')
    tune.set_profile('include base\nsysctl vm.dirty_ratio | = 7 | w | e | s | r\ndrop sysctl vm.max_map_count\n'
                     'sysctl vm.swappiness | {container} = 9 | w | e | s | r\n')
    plan = tune.must('plan')
    assert 'swappiness: 60 -> 1\n' in plan and 'dirty_ratio: 20 -> 7\n' in plan and 'max_map' not in plan


@pytest.mark.parametrize('text, words', [
    ('include test\n', 'test.conf:1: test includes itself'), ('limit nofile | abc | w | e | s | r\n', 'test.conf:1: limit nofile'), ('include nowhere\n', 'test.conf:1: nowhere: there is no such profile'), ('drop sysctl vm.nothing\n', 'there is no'),
    ('sysctl a.b | 1 | w | e\n', '4 fields'), ('sysctl | 1 | w | e | s | r\n', 'no key'),
    ('colour red | 1 | w | e | s | r\n', 'not a kind'), ('limit files | 1 | w | e | s | r\n', 'not a limit'),
    ('sysfs /etc/passwd | 1 | w | e | s | r\n', 'not a path'), ('sysfs /sys/../etc/passwd | 1 | w | e | s | r\n', 'not'),
    ('sysctl ../../etc/passwd | 1 | w | e | s | r\n', 'not a key'), ('docker a"b | 1 | w | e | s | r\n', 'not a key'),
    ('sysctl a.b | 1 |  | e | s | r\n', 'not to be empty'),
    ('sysctl a.b | 1 | w | e | s | r\nsysctl a.b | 2 | w | e | s | r\n', 'here twice')])
def test_a_wrong_line_is_named(tune, text, words):
    tune.set_profile(text)
    out = tune.must('check', code=2)
    assert words in out and '.conf:' in out


@pytest.mark.parametrize('path', PROFILES, ids=[os.path.basename(p) for p in PROFILES])
@pytest.mark.parametrize('machine', ['plain', 'container', 'numa'])
def test_every_profile_is_understood_on_every_machine(tune, machine, path):
    """Every line parses and every formula has a value; apply satisfies check, and comes back."""
    tune.become(machine)
    tune.profile = path
    assert tune.run('check') in (0, 1), tune.out
    if machine == ('container' if 'container' in path else 'plain'):
        before = tune.snapshot()
        tune.must('apply')
        tune.must('check')
        tune.must('revert')
        assert machines.difference(before, tune.snapshot()) == []


@pytest.mark.parametrize('name', ['api', 'laptop', 'container'])
def test_huge_pages_that_a_database_had_switched_off_stay_off(tune, name):
    tune.become('plain')
    tune.profile = name
    for setting in ('enabled', 'defrag'):
        tune.write(f'sys/kernel/mm/transparent_hugepage/{setting}', 'always madvise [never]\n')
    tune.must('check', '--only', '*transparent_hugepage*')
    assert 'transparent_hugepage' not in tune.must('plan')


@pytest.mark.skipif(not os.path.exists(REFUSED), reason='there is no refused.conf')
def test_every_refusal_has_its_four_fields():
    seen = set()
    with open(REFUSED, encoding='utf-8') as f:
        for number, line in enumerate(f, 1):
            if line.strip() and not line.startswith('#'):
                fields = [x.strip() for x in line.split(' | ')]
                assert len(fields) == 4 and all(fields), f'line {number}'
                assert ' ' in fields[0], f'line {number}: kind and key'
                assert (fields[0], fields[1]) not in seen, f'line {number} is here twice'
                seen.add((fields[0], fields[1]))


@pytest.fixture
def folder(tmp_path):
    """A copy of the script with two profiles and a refusal of its own."""
    shutil.copytree(conftest.TUNING, tmp_path / 'tuning', ignore=shutil.ignore_patterns('*.conf'))
    os.makedirs(tmp_path / 'tuning/profiles', exist_ok=True)
    (tmp_path / 'tuning/profiles/a.conf').write_text(
        'sysctl net.core.somaxconn | >= cores * 2 | the queue | longer queue | the manual | little\n'
        'limit nofile | >= 65536 | w | e | s | r\n')
    (tmp_path / 'tuning/profiles/b.conf').write_text('sysctl net.core.somaxconn | = 99 | other why | e | s | r\n')
    (tmp_path / 'tuning/refused.conf').write_text(
        'sysctl net.ipv4.tcp_tw_recycle | 1 | it broke NAT and is gone | Linux 4.12\n'
        'sysctl net.ipv4.conf.all.arp_ignore | 1 | for balancers | s\n'
        'sysctl net.ipv4.conf.all.arp_announce | 2 | As arp_ignore. | s\n'
        'ethtool gro | off | packet by packet; the same for gso | s\n'
        'file compose.yaml pids_limit | 1 | runaways | s\n')

    def explain(*args):
        done = subprocess.run([str(tmp_path / 'tuning/tune.sh'), 'explain', *args], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr
    return explain


def test_explain_tells_all_profiles_and_the_refusals(folder):
    code, out = folder('net.core.somaxconn')
    assert code == 0 and 'profile a: >= cores * 2' in out and 'the queue' in out and 'profile b: = 99' in out
    assert 'little' in out and 'the manual' in out
    assert folder('somaxconn') == (code, out), 'the last part is enough'
    code, out = folder('tcp_tw_recycle')
    assert code == 0 and 'refused: 1' in out and 'it broke NAT' in out and 'Linux 4.12' in out


@pytest.mark.parametrize('asked, words', [
    ('net.ipv4.conf.eth0.arp_ignore', 'for balancers'), ('arp_announce', 'arp_ignore: for balancers'), ('gso', 'packet by packet'),
    ('pids-limit', 'runaways'), ('net.ipv4.tcp_tw_recycle=1', 'it broke NAT'), ('/proc/sys/net/core/somaxconn', 'the queue')])
def test_explain_finds_a_key_as_people_write_it(folder, asked, words):
    code, out = folder(asked)
    assert code == 0 and words in out


def test_files_of_the_tree_that_profiles_name_are_there():
    for path in PROFILES + [REFUSED]:
        with open(path, encoding='utf-8') as f:
            for name in re.findall(r'deploy/[a-z0-9_./-]*[a-z0-9]', f.read()):
                assert os.path.exists(os.path.join(conftest.TUNING, '..', name)), f'{os.path.basename(path)}: {name}'


def test_explain_suggests_what_is_near(folder):
    code, out = folder('net.core.somaxcon')
    assert code == 2 and 'did you mean' in out and 'net.core.somaxconn' in out and 'nofile' not in out
    code, out = folder('tcp_tw_recyle')
    assert code == 2 and 'tcp_tw_recycle' in out
    code, out = folder('zzz')
    assert code == 2 and 'did you mean' not in out


def test_explain_without_a_key_lists_each_once(folder):
    code, out = folder()
    assert code == 0 and out.count('somaxconn') == 1 and 'a b' in out and 'tcp_tw_recycle: refused' in out


@pytest.mark.skipif(not shutil.which('shellcheck'), reason='shellcheck is not installed')
def test_shellcheck_has_nothing_to_say():
    files = [conftest.SCRIPT] + sorted(glob.glob(os.path.join(conftest.TUNING, 'lib', '*.sh')))
    done = subprocess.run(['shellcheck', '-x'] + files, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
