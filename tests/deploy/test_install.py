"""`cmake --install`: what is where, manual pages, completion in real shells."""

import glob
import gzip
import os
import re
import subprocess

import pytest

from installed import BUILD, ENV, ROOT, files_below, install, said, tool


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp('usr')
    install(folder)
    return str(folder)


def page(tree, name):
    section = name.rsplit('.', 1)[1]
    with gzip.open(f'{tree}/usr/share/man/man{section}/{name}.gz', 'rt', encoding='utf-8') as f:
        return f.read()


def has_tuning():
    return os.path.exists(os.path.join(ROOT, 'tuning', 'tune.sh'))


# ---- files

def test_everything_is_where_the_hierarchy_standard_wants_it(tree):
    found = files_below(tree)
    for path in ('usr/bin/sluice', 'usr/bin/sluice-sim', 'etc/sluice/sluice.yaml', 'etc/logrotate.d/sluice',
                 'usr/lib/systemd/system/sluice.service', 'usr/lib/systemd/system/sluice.socket',
                 'usr/lib/sysusers.d/sluice.conf', 'usr/lib/tmpfiles.d/sluice.conf', 'usr/share/man/man1/sluice.1.gz',
                 'usr/share/man/man1/sluice-sim.1.gz', 'usr/share/man/man5/sluice.yaml.5.gz',
                 'usr/share/bash-completion/completions/sluice', 'usr/share/bash-completion/completions/sluice-sim',
                 'usr/share/doc/sluice/copyright', 'usr/share/doc/sluice/docs/operations.md'):
        assert path in found, path
    assert {path.split('/')[0] for path in found} == {'usr', 'etc'}
    for path in found:
        mode = os.stat(os.path.join(tree, path)).st_mode
        assert mode & 0o022 == 0, f'{path} is writable by others'


def test_no_path_of_this_machine_is_left_in_what_is_installed(tree):
    for path in files_below(tree):
        with open(os.path.join(tree, path), 'rb') as f:
            content = f.read()
        if not path.startswith('usr/bin/'):  # those have their debugging information
            assert ROOT.encode() not in content, path
        assert not re.search(rb'@[a-z]+@', content) or path.startswith(('usr/bin/', 'usr/lib/sluice/')), path


def test_the_installed_programs_run_from_where_they_are(tree):
    """With the libraries that they carry, if any."""
    assert said([f'{tree}/usr/bin/sluice', '--version']).startswith('sluice ')
    assert 'Profiles:' in said([f'{tree}/usr/bin/sluice-sim', '--help'])
    assert 'not found' not in said(['ldd', f'{tree}/usr/bin/sluice'])
    assert ': good: ' in said([f'{tree}/usr/bin/sluice', 'check', f'{tree}/etc/sluice/sluice.yaml'])


def test_another_prefix_is_in_all_that_has_paths(tmp_path):
    prefix = install(tmp_path, '/opt/gateway')
    assert 'ExecStart=/opt/gateway/bin/sluice serve /opt/gateway/etc/sluice/sluice.yaml\n' in \
        open(f'{prefix}/lib/systemd/system/sluice.service', encoding='ascii').read()
    assert '/opt/gateway/etc/sluice/sluice.yaml' in open(f'{prefix}/etc/sluice/sluice.yaml', encoding='ascii').read()
    assert '/opt/gateway/etc/sluice/sluice.yaml' in gzip.open(f'{prefix}/share/man/man1/sluice.1.gz', 'rt').read()
    assert os.listdir(tmp_path) == ['opt']


def test_a_configuration_that_is_there_is_kept(tmp_path):
    config = tmp_path / 'etc' / 'sluice' / 'sluice.yaml'
    config.parent.mkdir(parents=True)
    config.write_text('mine\n')
    install(tmp_path)
    install(tmp_path)
    assert config.read_text() == 'mine\n'


@pytest.mark.skipif(not has_tuning(), reason='there is no tuning/tune.sh yet')
def test_the_tuning_script_finds_its_data_through_the_link(tree):
    link = f'{tree}/usr/sbin/sluice-tune'
    assert os.readlink(link) == '../share/sluice/tuning/tune.sh'
    assert ' settings: ' in said([link, 'check'], None)
    assert 'profile' in said([link, 'explain', 'somaxconn'])
    assert 'check' in said([link, '--help'], None)
    assert os.access(link, os.X_OK)


# ---- manual pages

def pages(tree):
    return [os.path.basename(p)[:-3] for p in glob.glob(f'{tree}/usr/share/man/man*/*.gz')]


def test_manual_pages_are_without_fault(tree, tmp_path):
    if not tool('mandoc'):
        pytest.skip('mandoc is not installed')
    for name in pages(tree):
        (tmp_path / name).write_text(page(tree, name), encoding='utf-8')
        assert said(['mandoc', '-Tlint', '-W', 'warning', str(tmp_path / name)]) == '', name
        text = said(['mandoc', '-Tutf8', '-Owidth=200', str(tmp_path / name)])
        assert re.search(r'^.*SEE.*ALSO', re.sub('.\b', '', text), re.M), name
        assert '\\f' not in text, f'{name}: an escape that was not understood'


def plain(text):
    """A manual page's source as one reads it."""
    return re.sub(r'\\f[BIPR]', '', text).replace('\\-', '-')


def test_every_verb_and_option_has_its_place_in_a_page(tree):
    usage = said([f'{tree}/usr/bin/sluice', '--help'])
    verbs = re.findall(r'^(?:usage:|      ) sluice ([a-z-]+)', usage, re.M)
    assert len(verbs) >= 5
    text = plain(page(tree, 'sluice.1'))
    for verb in verbs:
        assert verb in text, verb
    for option in set(re.findall(r'--[a-z-]+', usage)):
        assert option in text, option
    text = plain(page(tree, 'sluice-sim.1'))
    for option in re.findall(r'^  (--[a-z-]+)', said([f'{tree}/usr/bin/sluice-sim', '--help']), re.M):
        assert option in text, option


def test_every_key_of_the_configuration_is_in_its_page(tree):
    reference = said([f'{tree}/usr/bin/sluice', 'reference'])
    keys = re.findall(r'^\| `([^`]+)` \|', reference, re.M)
    assert len(keys) > 100
    text = page(tree, 'sluice.yaml.5')
    entries = re.findall(r'^\.TP\n\\fB(.*?)\\fP \(', text, re.M)
    assert [e.replace('\\-', '-') for e in entries] == keys
    for section in re.findall(r'^## `(.*)`$', reference, re.M):
        assert f'.SS "{section}"' in text


def test_the_page_of_the_configuration_does_not_take_what_it_does_not_know(tmp_path):
    script = os.path.join(ROOT, 'deploy', 'man', 'reference.awk')
    for text in ('- a list\n', '> a quote\n', '| `a` | b |\n', 'a ` alone\n\n', '```\nnever ended\n'):
        (tmp_path / 'a.md').write_text(text)
        assert 'reference.awk: line' in said(['awk', '-f', script, str(tmp_path / 'a.md')], 1), text


# ---- completion

def complete_in_bash(tree, line, folder):
    """What bash offers for the last word of `line`, as it does when Tab is pressed."""
    words = line.split(' ')
    script = '''
        PATH=$1/usr/bin:$1/usr/sbin:$PATH
        . "$1/usr/share/bash-completion/completions/sluice"
        shift
        compopt() { :; }  # there is no line being edited
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_LINE="$*" COMP_POINT=${#COMP_LINE}
        of=$(complete -p "$1") && of=${of#* -F } && of=${of%% *}
        "$of" "$1" "${@: -1}" "${@: -2:1}"
        printf '%s\\n' "${COMPREPLY[@]}"
    '''
    return said(['bash', '--norc', '-c', script, 'bash', tree, *words], cwd=folder).split()


def test_bash_completes_verbs_options_and_files(tree, tmp_path):
    for name in ('a.yaml', 'b.yml', 'c.txt', 'with space.yaml'):
        (tmp_path / name).write_text('')
    (tmp_path / 'folder').mkdir()

    def offered(line):
        return complete_in_bash(tree, line, tmp_path)
    usage = said([f'{tree}/usr/bin/sluice', '--help'])
    verbs = offered('sluice ')
    for verb in re.findall(r'^(?:usage:|      ) sluice ([a-z-]+)', usage, re.M):
        assert verb in verbs
    assert offered('sluice se') == ['serve']
    assert set(offered('sluice serve ')) == {'a.yaml', 'b.yml', 'folder', 'with', 'space.yaml'}
    assert offered('sluice check a') == ['a.yaml']
    line = re.search(r'^ +sluice check --machine (.*)$', usage, re.M)[1]
    assert set(offered('sluice check -')) == {'--machine'} | set(re.findall(r'--[a-z]+', line))
    assert offered('sluice check --machine --root f') == ['folder']
    assert offered('sluice serve a.yaml ') == []
    assert offered('sluice demo --p') == ['--port']
    assert offered('sluice demo --port ') == []
    assert offered('sluice-sim --prof') == ['--profile']
    options = re.findall(r'^  (--[a-z-]+)', said([f'{tree}/usr/bin/sluice-sim', '--help']), re.M)
    assert offered('sluice-sim ') == options
    assert offered('sluice-sim --profile llama2-70b-a100-x') == [f'llama2-70b-a100-x{n}' for n in (2, 4, 8)]
    assert offered('sluice-sim --model ') == []


@pytest.mark.skipif(not has_tuning(), reason='there is no tuning/tune.sh yet')
def test_bash_completes_the_tuning_script(tree, tmp_path):
    assert complete_in_bash(tree, 'sluice-tune ', tmp_path) == ['check', 'plan', 'apply', 'revert', 'explain', '--help']
    profiles = {os.path.basename(p)[:-5] for p in glob.glob(os.path.join(ROOT, 'tuning', 'profiles', '*.conf'))}
    assert set(complete_in_bash(tree, 'sluice-tune check --profile ', tmp_path)) == profiles - {'common'}
    usage = said([f'{tree}/usr/sbin/sluice-tune', '--help'], None)
    assert set(re.findall(r'^ +(--[a-z]+)', usage, re.M)) <= set(complete_in_bash(tree, 'sluice-tune check ', tmp_path))


def test_a_terminal_with_bash_in_it_completes(tree, tmp_path):
    """Through readline itself, with a key that stands for Tab twice."""
    (tmp_path / 'gateway.yaml').write_text('')
    rc = tmp_path / 'rc'
    rc.write_text(f'PATH={tree}/usr/bin:$PATH\n. {tree}/usr/share/bash-completion/completions/sluice\nPS1="> "\n'
                  'bind "set enable-bracketed-paste off"\nsluice() { echo "ran<$*>"; }\n')
    primary, secondary = os.openpty()
    shell = subprocess.Popen(['bash', '--noprofile', '--rcfile', str(rc), '-i'], stdin=secondary, stdout=secondary,
                             stderr=secondary, cwd=tmp_path, env=dict(ENV, TERM='dumb'), start_new_session=True)
    os.close(secondary)
    os.write(primary, b'sluice ser\tgate\t\nexit\n')
    seen = b''
    while True:
        try:
            part = os.read(primary, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    shell.wait(20)
    os.close(primary)
    assert b'ran<serve gateway.yaml>' in seen, seen


def test_zsh_and_fish_complete_where_they_are_installed(tree, tmp_path):
    shells = [s for s in ('zsh', 'fish') if tool(s)]
    if not shells:
        pytest.skip('neither zsh nor fish is installed')
    if 'fish' in shells:
        path = f'set -x PATH {tree}/usr/bin $PATH; source {tree}/usr/share/fish/vendor_completions.d/sluice.fish; '
        home = dict(ENV, HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path))

        def offered(line):
            out = said(['fish', '--no-config', '-c', f'{path} complete -C "{line}"'], env=home)
            return {entry.split('\t')[0] for entry in out.splitlines()}
        assert {'serve', 'check', 'demo'} <= offered('sluice ')
        assert '--port' in offered('sluice demo --')
        assert 'llama2-70b-h100-x4' in offered('sluice-sim --profile llama2')
    if 'zsh' in shells:
        folder = glob.glob(f'{tree}/usr/share/zsh/*')[0]
        said(['zsh', '-f', '-c', f'fpath=({folder} $fpath); autoload -Uz compinit && compinit -u -d {tmp_path}/dump && '
              '[[ $_comps[sluice] == _sluice && $_comps[sluice-sim] == _sluice ]] && autoload -Uz +X _sluice'])
