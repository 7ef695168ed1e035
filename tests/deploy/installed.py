"""The tree as `cmake --install` leaves it, and what the tests of it share."""

import os
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get('SLUICE_BUILD', os.path.join(ROOT, 'build', 'release'))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'e2e'))
# Debian keeps some of what is used here where not everybody looks.
TOOLS = os.environ['PATH'] + ':/usr/local/sbin:/usr/sbin:/sbin'
# In a locale that is everywhere.
ENV = dict(os.environ, PATH=TOOLS, LC_ALL='C.UTF-8', LANG='C.UTF-8')


def tool(name):
    return shutil.which(name, path=TOOLS)


def said(command, code=0, **more):
    """What a command writes, on both outputs; it must end with `code` (None: with any)."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                          check=False, **dict({'env': ENV}, **more))
    text = done.stdout.decode('utf-8', 'replace')
    assert code is None or done.returncode == code, f'{command}: {done.returncode}\n{text}'
    return text


def install(destination, prefix='/usr'):
    """Installs below `destination` as DESTDIR; where the prefix is in there."""
    said(['cmake', '--install', BUILD, '--prefix', prefix], env=dict(ENV, DESTDIR=str(destination)))
    return os.path.join(str(destination), prefix.lstrip('/'))


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(at, name), folder)
                  for at, _, names in os.walk(folder) for name in names)
