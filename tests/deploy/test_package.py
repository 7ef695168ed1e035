"""The Debian package: what is in it, what it asks for, what its scripts do (in a tree of its own, where dpkg lets us)."""

import glob
import os
import re

import pytest

from installed import BUILD, ENV, said, tool

pytestmark = pytest.mark.skipif(not tool('dpkg-deb') or not tool('dpkg-shlibdeps'), reason='this is no Debian system with dpkg-dev')


@pytest.fixture(scope='module')
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp('package')
    said(['cpack', '-B', str(folder), '--config', os.path.join(BUILD, 'CPackConfig.cmake')])
    made = glob.glob(f'{folder}/sluice_*.deb')
    assert len(made) == 1, os.listdir(folder)
    return made[0]


def field(package, name):
    return said(['dpkg-deb', '-f', package, name]).strip()


@pytest.fixture(scope='module')
def unpacked(package, tmp_path_factory):
    folder = tmp_path_factory.mktemp('unpacked')
    said(['dpkg-deb', '-R', package, str(folder)])
    return str(folder)


def test_it_says_what_it_is(package):
    assert field(package, 'Package') == 'sluice'
    assert field(package, 'Architecture') == said(['dpkg', '--print-architecture']).strip()
    version = said([os.path.join(BUILD, 'sluice'), '--version']).split()[1]
    assert re.fullmatch(re.escape(version) + r'-1(~deb\d+)?', field(package, 'Version'))
    assert 0 < int(field(package, 'Installed-Size')) < 10_000, 'kilobytes; the debugging information is elsewhere'
    described = field(package, 'Description').splitlines()
    assert len(described[0]) < 80 and len(described) > 5


def test_it_asks_for_the_libraries_that_its_programs_load_and_for_nothing_that_this_release_lacks(package, unpacked):
    depends = field(package, 'Depends')
    for name in ('libc6', 'libhwloc15', 'libjemalloc2', 'libsqlite3-0', 'libxxhash0', 'libyaml-0-2'):
        assert re.search(rf'\b{re.escape(name)}\b', depends), name
    carried = {os.path.basename(p) for p in glob.glob(f'{unpacked}/usr/lib/sluice/*')}
    if 'VERSION_ID="12"' in open('/etc/os-release', encoding='utf-8').read():
        assert carried == {'libyyjson.so.0'}
        assert not re.search('liburing|libyyjson|libllhttp|libmbed', depends)
    for program in ('sluice', 'sluice-sim'):
        dynamic = said(['objdump', '-p', f'{unpacked}/usr/bin/{program}'])
        needed = set(re.findall(r'NEEDED +(\S+)', dynamic))
        runpath = re.findall(r'(?:RUNPATH|RPATH) +(\S+)', dynamic)
        assert runpath == (['$ORIGIN/../lib/sluice'] if carried else [])
        assert not {n for n in needed if n.startswith(('libllhttp', 'libmbedcrypto'))}, 'these are linked statically'
        if carried:
            assert not {n for n in needed if n.startswith('liburing')}
        assert '.debug_info' not in said(['objdump', '-h', f'{unpacked}/usr/bin/{program}'])


def test_the_licences_of_what_is_inside_go_along(unpacked):
    with open(f'{unpacked}/usr/share/doc/sluice/copyright', encoding='utf-8') as f:
        text = f.read()
    carried = ['liburing-dev', 'libyyjson-dev'] if os.path.isdir(f'{unpacked}/usr/lib/sluice') else []
    for name in ['libllhttp-dev', 'libmbedtls-dev'] + carried:
        assert f'---- {name}, of which code is part' in text, name
    assert text.count('Permission is hereby granted') >= 1


def test_what_people_change_is_a_conffile(unpacked):
    with open(f'{unpacked}/DEBIAN/conffiles', encoding='ascii') as f:
        conffiles = f.read().split()
    found = [os.path.join('/', os.path.relpath(os.path.join(at, name), unpacked))
             for at, _, names in os.walk(f'{unpacked}/etc') for name in names]
    assert sorted(conffiles) == sorted(found)


def test_its_files_are_roots_and_its_scripts_are_scripts(package, unpacked):
    for line in said(['dpkg-deb', '-c', package]).splitlines():
        mode, owner, *_, path = line.split(maxsplit=5)
        assert owner == 'root/root', line
        assert mode[5] != 'w' and mode[8] != 'w' or mode[0] == 'l', line
        assert path.startswith(('./usr/', './etc/')) or path == './', line
    for name in ('postinst', 'prerm', 'postrm'):
        script = f'{unpacked}/DEBIAN/{name}'
        assert os.stat(script).st_mode & 0o777 == 0o755
        said(['sh', '-n', script])
        if tool('shellcheck'):
            said(['shellcheck', script])


def test_lintian_finds_no_fault(package):
    if not tool('lintian'):
        pytest.skip('lintian is not installed')
    said(['lintian', '--allow-root', '--fail-on', 'error', package])


# ---- its scripts: as a user's own root, in a tree that has nothing but what they call

@pytest.fixture
def scene(unpacked, tmp_path):
    """Runs a script with programs that only note that they were called."""
    notes, commands = tmp_path / 'notes', tmp_path / 'bin'
    commands.mkdir()
    fake = f'#!/bin/sh\necho "${{0##*/}} $*" >> {notes}\n'
    for name in ('systemd-sysusers', 'systemd-tmpfiles', 'systemctl', 'deb-systemd-invoke', 'deb-systemd-helper', 'useradd',
                 'userdel', 'install', 'rm'):
        (commands / name).write_text(fake)
        (commands / name).chmod(0o755)
    (commands / 'getent').write_text(f'#!/bin/sh\necho "getent $*" >> {notes}\nexit ${{HAS_USER:-2}}\n')
    (commands / 'getent').chmod(0o755)

    def run(script, *arguments, without=(), has_user=False, says=''):
        """What it called; what it wrote has to be, or to begin with, `says`."""
        for name in without:
            (commands / name).unlink()
        notes.write_text('')
        wrote = said(['sh', f'{unpacked}/DEBIAN/{script}', *arguments], executable='/bin/sh',
                     env=dict(ENV, PATH=str(commands), HAS_USER='0' if has_user else '2', DPKG_ROOT=str(tmp_path)))
        assert wrote.startswith(says) and bool(wrote) == bool(says), wrote
        return notes.read_text().splitlines()
    run.root = tmp_path
    return run


IS_BOOTED = os.path.isdir('/run/systemd/system')


@pytest.mark.skipif(IS_BOOTED, reason='systemd runs here: the scripts would speak to it')
def test_installing_makes_the_user_and_starts_nothing(scene):
    assert 'systemd-sysusers sluice.conf' in scene('postinst', 'configure')
    calls = scene('postinst', 'configure', '0.0.9-1')
    assert not [c for c in calls if 'start' in c or 'enable' in c]


@pytest.mark.skipif(IS_BOOTED, reason='systemd runs here: the scripts would speak to it')
def test_without_systemd_the_user_is_made_by_hand_once(scene):
    missing = ('systemd-sysusers', 'systemd-tmpfiles')
    calls = scene('postinst', 'configure', without=missing)
    assert [c for c in calls if c.startswith('useradd --system') and c.endswith(' sluice')]
    assert not [c for c in scene('postinst', 'configure', has_user=True) if c.startswith('useradd')]


@pytest.mark.skipif(IS_BOOTED, reason='systemd runs here: the scripts would speak to it')
def test_removing_keeps_what_purging_takes(scene):
    assert not [c for c in scene('postrm', 'remove', has_user=True) if c.startswith(('rm', 'userdel'))]
    calls = scene('postrm', 'purge', has_user=True)
    assert 'userdel sluice' in calls and 'rm -rf /var/lib/sluice /var/log/sluice' in calls
    for action in ('upgrade', 'abort-install', 'failed-upgrade'):
        assert not [c for c in scene('postrm', action, has_user=True) if c.startswith(('rm', 'userdel'))], action


@pytest.mark.skipif(IS_BOOTED, reason='systemd runs here: the scripts would speak to it')
def test_who_removes_it_from_a_tuned_machine_is_told_how_to_take_that_back(scene):
    record = scene.root / 'var' / 'lib' / 'sluice-tuning' / 'record'
    for script, action in (('prerm', 'remove'), ('postrm', 'purge')):
        scene(script, action)
    record.parent.mkdir(parents=True)
    record.write_text('sluice-tuning-record 1\n')
    scene('prerm', 'remove', says='sluice: this machine is tuned, and stays so without the package')
    calls = scene('postrm', 'purge', has_user=True, says='sluice: /var/lib/sluice-tuning stays')
    assert 'rm -rf /var/lib/sluice /var/log/sluice' in calls
    assert record.exists()
    for script, action in (('prerm', 'upgrade'), ('postrm', 'upgrade'), ('postrm', 'remove')):
        scene(script, action)


# ---- its libraries, where the ones of the system are out of sight

def test_the_unpacked_programs_run(unpacked):
    assert said([f'{unpacked}/usr/bin/sluice', 'check', f'{unpacked}/etc/sluice/sluice.yaml']).count(': good: ') == 1
    loaded = said(['ldd', f'{unpacked}/usr/bin/sluice'])
    assert 'not found' not in loaded
    if os.path.isdir(f'{unpacked}/usr/lib/sluice'):
        assert re.search(r'libyyjson\.so\.0 => \S*/usr/bin/\.\./lib/sluice/', loaded)
