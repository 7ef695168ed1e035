#!/usr/bin/env python3
"""The tree's own rules, checked on every test run. Run it from anywhere: tests/lint/lint.py

  include    a folder of src includes one that it may not know (the table is CMakeLists.txt's <folder>_USES)
  order      that table contradicts the order of the layers
  world      an I/O call, a clock or random bits outside src/ring (tests/lint/allow.txt names the exceptions, with reasons)
  allow      an exception without a reason, or that nothing needs
  text       tabs, trailing blanks, a last line without an end
  local      a machine's path or a registry's host in a committed file
  long-file, long-function     warnings: they never fail a run

Errors make it exit 1. It reads text, not a parse tree: comments and strings are blanked first, then names are matched.
tests/lint/selftest.py shows that each rule catches what it is for.
"""

import os
import re
import subprocess
import sys

FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 80

# Folders inside a layer that know less than their layer, through whatever they include.
PURE = {'cache/policy': {'ring'}}

WORLD = {
    'socket': '''socket socketpair bind listen accept accept4 connect shutdown recv recvfrom recvmsg recvmmsg send sendto
        sendmsg sendmmsg sendfile splice tee vmsplice getsockopt setsockopt getsockname getpeername getaddrinfo
        getnameinfo gethostbyname gethostbyaddr''',
    'file': '''open open64 openat openat2 creat read write pread pwrite pread64 pwrite64 readv writev preadv pwritev close
        close_range fsync fdatasync lseek truncate ftruncate fallocate stat fstat lstat fstatat statx access faccessat
        unlink unlinkat rename renameat link symlink readlink mkdir rmdir opendir fdopendir readdir closedir scandir
        mkstemp mkostemp mkdtemp flock lockf''',
    'stdio': '''fopen fdopen freopen tmpfile fread fwrite fgets fgetc getc getchar getline getdelim fscanf scanf ungetc
        fputs fputc putc puts putchar printf vprintf fprintf vfprintf dprintf vdprintf perror fflush fclose fseek ftell''',
    'wait': '''poll ppoll select pselect epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait eventfd eventfd_read
        eventfd_write signalfd timerfd_create timerfd_settime inotify_init inotify_init1 pipe pipe2 dup dup2 dup3 fcntl
        ioctl syscall aio_read aio_write''',
    'clock': '''clock_gettime clock_getres gettimeofday time clock times nanosleep clock_nanosleep usleep sleep alarm
        setitimer __rdtsc __rdtscp __builtin_ia32_rdtsc __builtin_ia32_rdtscp''',
    'random': '''getrandom getentropy rand rand_r srand random srandom random_r drand48 lrand48 mrand48 arc4random
        arc4random_buf arc4random_uniform''',
    'process': '''fork vfork execl execlp execle execv execvp execve execvpe posix_spawn posix_spawnp system popen pclose
        wait waitpid waitid''',
}
KIND_OF = {name: kind for kind, names in WORLD.items() for name in names.split()}
CALL = re.compile(r'(?<![\w.])(?<!->)(io_uring_\w+|' + '|'.join(sorted(KIND_OF, key=len, reverse=True)) + r')\s*\(')
# Preceded by a type name the match is a declaration, of which there is none in the tree but a mistaken one: also caught.

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)

# Written with the dots escaped, so that this file does not itself hold a host's name.
HOSTS = re.compile(
    r'(deb|security|snapshot|ftp|http)(\.\w+)?\.debian\.org|archive\.ubuntu\.com|registry\.npmjs\.org|registry\.yarnpkg\.com'
    r'|\bpypi\.org|pythonhosted\.org|static\.crates\.io|index\.crates\.io|proxy\.golang\.org|repo1?\.maven\b'
    r'|rubygems\.org|\w[\w-]*-docker\.pkg\.dev|\w[\w-]*\.pkg\.dev', re.I)
MACHINE_PATHS = re.compile(r'(?<![\w.$}~/*-])/(?:work/[\w.]+|root/[\w.]+|home/(?!(?:you|user|sluice)\b)\w+|Users/\w+)')

BINARY = re.compile(r'\.(png|jpg|gif|ico|gz|xz|zst|zip|pdf|woff2?|db|pcap)$')
CORPUS = re.compile(r'^tests/(fuzz/(corpus|crash)|.*/data)/')


def blank_comments_and_strings(text):
    """The same text, line for line and column for column, with comments and the inside of literals as blanks."""
    def blank(match):
        found = match.group(0)
        if found[0] == '/':
            return re.sub(r'[^\n]', ' ', found)
        return found[0] + re.sub(r'[^\n]', ' ', found[1:-1]) + found[-1]
    return re.sub(r'//(?:\\\n|[^\n])*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


class Lint:
    """files: path from the root → text. Everything it finds is in errors and warnings, as (path, line, rule, words)."""

    def __init__(self, files):
        self.files = files
        self.errors = []
        self.warnings = []
        self.uses = {}
        self.allowed = []       # [path, set of names, line, set of names used]
        self.read_layers()
        self.read_allowed()
        self.includes = {path: self.includes_of(path, text) for path, text in files.items() if self.layer_of(path)}
        for path, text in files.items():
            if BINARY.search(path):
                continue
            if not CORPUS.match(path):
                self.check_text(path, text)
                self.check_local(path, text)
            if re.search(r'\.[ch]$', path):
                self.check_length(path, text)
            if self.layer_of(path):
                self.check_includes(path)
                self.check_world(path, text)
        self.check_pure()
        self.check_allowed_used()

    def error(self, path, line, rule, words):
        self.errors.append((path, line, rule, words))

    # ---- tables

    def read_layers(self):
        cmake = self.files.get('CMakeLists.txt', '')
        order = re.search(r'set\(SLUICE_LAYERS ([^)]*)\)', cmake)
        self.order = order.group(1).split() if order else []
        for match in re.finditer(r'set\((\w+)_USES ?([^)]*)\)', cmake):
            layer, used = match.group(1), [u for u in match.group(2).split() if '::' not in u]
            self.uses[layer] = set(used)
            for other in used:
                if layer not in self.order or other not in self.order \
                        or self.order.index(other) >= self.order.index(layer):
                    self.error('CMakeLists.txt', line_of(cmake, match.start()), 'order',
                               f'{layer} is not above {other} in SLUICE_LAYERS, so it may not use it')

    def read_allowed(self):
        for number, line in enumerate(self.files.get('tests/lint/allow.txt', '').splitlines(), 1):
            rule, _, reason = line.partition('#')
            if not rule.strip():
                continue
            path, _, names = rule.partition(':')
            if not reason.strip():
                self.error('tests/lint/allow.txt', number, 'allow', 'an exception needs its reason after a #')
            expanded = set()
            for name in names.split():
                expanded.update(WORLD[name[1:]].split() if name[1:] in WORLD and name[0] == '@' else [name])
            self.allowed.append([path.strip(), expanded, number, set()])

    def is_allowed(self, path, name):
        found = False
        for entry in self.allowed:
            if entry[0] == path and name in entry[1]:
                entry[3].add(name)
                found = True
        return found

    def check_allowed_used(self):
        for path, _, number, used in self.allowed:
            if not used:
                self.warnings.append(('tests/lint/allow.txt', number, 'allow', f'nothing in {path} needs this any more'))

    # ---- includes

    def layer_of(self, path):
        match = re.match(r'src/(\w+)/.*\.[chS]$', path)
        return match.group(1) if match else None

    def includes_of(self, path, text):
        # Only comments are blanked: an include's own quotes must stay.
        text = re.sub(r'//[^\n]*|/\*.*?\*/', lambda m: re.sub(r'[^\n]', ' ', m.group(0)), text, flags=re.S)
        return [(line_of(text, m.start()), m.group(1), m.group(2)) for m in INCLUDE.finditer(text)]

    def check_includes(self, path):
        layer = self.layer_of(path)
        if layer not in self.uses:
            self.error(path, 1, 'include', f'src/{layer} is not one of the layers in CMakeLists.txt')
            return
        for line, bracket, name in self.includes[path]:
            if bracket == '<':
                if name.startswith('liburing') and layer != 'ring':
                    self.error(path, line, 'include', f'<{name}> belongs to ring')
                continue
            if '/' not in name:
                if f'{os.path.dirname(path)}/{name}' not in self.files:
                    self.error(path, line, 'include', f'"{name}": name it by its path from src/')
                continue
            other = name.split('/')[0]
            if other == '..' or '/../' in name:
                self.error(path, line, 'include', f'"{name}": name it by its path from src/')
            elif other != layer and other not in self.uses[layer]:
                self.error(path, line, 'include', f'{layer} may not know {other} ("{name}")')

    def check_pure(self):
        for folder, forbidden in PURE.items():
            for path in self.includes:
                if path.startswith(f'src/{folder}/'):
                    self.walk_pure(path, forbidden, folder)

    def walk_pure(self, start, forbidden, folder):
        seen, todo = set(), [start]
        while todo:
            path = todo.pop()
            for _, bracket, name in self.includes.get(path, []):
                if bracket == '<':
                    continue
                target = f'src/{name}' if '/' in name else f'{os.path.dirname(path)}/{name}'
                if self.layer_of(target) in forbidden:
                    self.error(start, 1, 'include', f'{folder} may not know {self.layer_of(target)} (by way of {path})')
                elif target not in seen:
                    seen.add(target)
                    todo.append(target)

    # ---- the world

    def check_world(self, path, text):
        if self.layer_of(path) == 'ring' or not re.search(r'\.[ch]$', path):
            return
        code = blank_comments_and_strings(text)
        for match in CALL.finditer(code):
            name = match.group(1)
            if not self.is_allowed(path, name):
                kind = KIND_OF.get(name, 'io_uring')
                self.error(path, line_of(code, match.start()), 'world', f'{name}() ({kind}): only ring may')

    # ---- text

    def check_text(self, path, text):
        makes_tabs = os.path.basename(path) == 'Makefile'
        for number, line in enumerate(text.split('\n'), 1):
            if '\t' in line and not makes_tabs:
                self.error(path, number, 'text', 'a tab')
            if line != line.rstrip():
                self.error(path, number, 'text', 'blanks at the end of the line')
        if text and not text.endswith('\n'):
            self.error(path, text.count('\n') + 1, 'text', 'the last line has no end')

    def check_local(self, path, text):
        for pattern, words in ((HOSTS, 'the host of a registry'), (MACHINE_PATHS, 'a path of one machine')):
            for match in pattern.finditer(text):
                if not self.is_allowed(path, match.group(0)):
                    self.error(path, line_of(text, match.start()), 'local', f'{words}: {match.group(0)}')

    def check_length(self, path, text):
        lines = text.count('\n')
        if lines > FILE_LINES_MAX:
            self.warnings.append((path, 1, 'long-file', f'{lines} lines'))
        depth, start, code = 0, None, blank_comments_and_strings(text)
        head = ''
        for number, line in enumerate(code.split('\n'), 1):
            if depth == 0:
                head = (head + ' ' + line.split('{')[0]).rstrip()
                if '{' in line:
                    start = (number, head) if head.endswith(')') else None
            depth += line.count('{') - line.count('}')
            if depth <= 0:
                if start and number - start[0] > FUNCTION_LINES_MAX:
                    name = re.findall(r'(\w+)\s*\(', start[1])
                    self.warnings.append((path, start[0], 'long-function',
                                          f'{name[0] if name else "?"} has {number - start[0]} lines'))
                depth, start = 0, None
                if '}' in line or ';' in line or line.startswith('#'):
                    head = ''


def tracked_files(root):
    """What is committed or would be; outside a git checkout, everything but the build folder."""
    git = subprocess.run(['git', '-c', 'safe.directory=*', 'ls-files', '-co', '--exclude-standard', '-z'],
                         cwd=root, capture_output=True, check=False)
    if git.returncode == 0:
        return [p for p in git.stdout.decode().split('\0') if p]
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if f not in ('.git', 'build', '__pycache__', '.pytest_cache')]
        found += [os.path.relpath(os.path.join(folder, n), root) for n in names]
    return found


def load(root):
    files = {}
    for path in tracked_files(root):
        full = os.path.join(root, path)
        if os.path.isfile(full) and not os.path.islink(full):
            with open(full, 'rb') as f:
                files[path] = f.read().decode('utf-8', 'replace')
    return files


def main():
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    lint = Lint(load(root))
    for path, line, rule, words in sorted(lint.warnings):
        print(f'{path}:{line}: warning: {words} [{rule}]')
    for path, line, rule, words in sorted(lint.errors):
        print(f'{path}:{line}: error: {words} [{rule}]')
    print(f'lint: {len(lint.files)} files, {len(lint.errors)} errors, {len(lint.warnings)} warnings')
    return 1 if lint.errors else 0


if __name__ == '__main__':
    sys.exit(main())
