"""Records: of earlier versions, of later ones, damaged ones."""

import glob
import os
import re
import shutil

import pytest

import machines

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'data')
PLACE = 'var/lib/sluice-tuning'
# Where the files of the records in data/ went, and the values as they were written then.
WRITTEN = {'/etc/sysctl.d/60-sluice.conf': 0, '/etc/security/limits.d/60-sluice.conf': 1,
           '/etc/systemd/system/sluice.service.d/60-tuning.conf': 2, '/etc/tmpfiles.d/sluice-tuning.conf': 3,
           '/etc/udev/rules.d/60-sluice.rules': 4, '/etc/default/irqbalance': 5}
VALUES = {'/proc/sys/fs/nr_open': '2097152\n', '/proc/sys/net/ipv4/tcp_rmem': '4096 131072 16777216\n',
          '/proc/sys/vm/dirty_bytes': '268435456\n', '/proc/sys/vm/dirty_ratio': '0\n', '/proc/sys/vm/swappiness': '10\n',
          '/sys/kernel/mm/transparent_hugepage/enabled': 'always [madvise] never\n',
          '/sys/class/net/eth0/queues/rx-0/rps_cpus': '00000000,000000ff\n'}


def with_record(tune, folder):
    """A machine that a version with this record's format has tuned; gives what it was before."""
    tune.become('plain')
    machines.write(tune.root, 'etc/default/irqbalance', '# theirs\n', 0o640)
    before = tune.snapshot()
    shutil.copytree(os.path.join(DATA, folder), os.path.join(tune.root, PLACE))
    os.chmod(os.path.join(tune.root, PLACE, 'files/5.before'), 0o640)
    for path, number in WRITTEN.items():
        with open(os.path.join(tune.root, PLACE, f'files/{number}.ours'), 'rb') as f:
            tune.write(path, f.read())
    for path, value in VALUES.items():
        tune.write(path, value)
    return before


def without_times(shot):
    return {path: facts[:3] + facts[4:] for path, facts in shot.items()}


@pytest.mark.parametrize('folder', [os.path.basename(p) for p in sorted(glob.glob(os.path.join(DATA, 'record-*')))])
def test_a_record_of_an_earlier_version_is_reverted(tune, folder):
    before = with_record(tune, folder)
    recorded = tune.read(PLACE + '/record')
    tune.must('revert')
    after = tune.snapshot()
    assert machines.difference(without_times(before), without_times(after)) == []
    seconds = float(re.search(r'^value /proc/sys/vm/swappiness \S+ \S+ (\S+)$', recorded, re.M).group(1))
    assert abs(after['proc/sys/vm/swappiness'][3] / 1e9 - seconds) < 1e-3


@pytest.mark.parametrize('old, new, words', [
    ('sluice-tuning-record 1', 'sluice-tuning-record 999', 'later version'),
    ('sluice-tuning-record 1', 'something else', 'not a record'),
    ('\nend\n', '\n', 'not whole'),
    ('value /proc/sys/vm/swappiness', 'valuable /proc/sys/vm/swappiness', 'not understood'),
    ('value /proc/sys/vm/swappiness', 'value /proc/../../etc/passwd', 'not understood'),
    ('value /proc/sys/vm/swappiness 60%0A', 'value /proc/sys/vm/swappiness', 'not understood'),
    ('made /etc/systemd/system/sluice.service.d\n', 'made ../x\n', 'not understood')])
def test_a_record_that_is_not_understood_changes_nothing(tune, old, new, words):
    with_record(tune, 'record-1')
    text = tune.read(PLACE + '/record')
    assert old in text
    tune.write(PLACE + '/record', text.replace(old, new))
    tune.set_profile('sysctl vm.swappiness | = 5 | why | effect | source | risk\n')
    before = tune.snapshot()
    for verb in ('revert', 'apply', 'check'):
        assert words in tune.must(verb, code=2)
    assert machines.difference(before, tune.snapshot()) == []


def test_every_word_comes_back_from_the_record(tune):
    """Blanks, percent signs and line ends of all sorts, where a value may hold them."""
    tune.become('plain')
    odd = ' 5%25 %\t\t7 \r\n\n %0A'
    tune.write(machines.sysctl_path('vm.swappiness'), odd)
    tune.write('/etc/sysctl.d/60-sluice.conf', odd)
    before = tune.snapshot()
    tune.set_profile('sysctl vm.swappiness | = 5 | why | effect | source | risk\n')
    tune.must('apply')
    tune.must('revert')
    assert machines.difference(before, tune.snapshot()) == []


def test_the_record_tells_how_to_do_it_by_hand(tune):
    tune.become('plain')
    tune.must('apply')
    record = tune.read(PLACE + '/record')
    assert record.startswith('sluice-tuning-record 1\n# ') and 'By hand' in record and record.endswith('\nend\n')
    assert 'value /proc/sys/vm/swappiness 60%0A 10 ' in record
