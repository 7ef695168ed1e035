#!/usr/bin/env python3
"""Shows that each rule of lint.py finds what it is for, and leaves alone what it is not for.

A case is a name, the files of a small tree, and the rules that must be broken, no more and no fewer.
"""

import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from lint import FILE_LINES_MAX, FUNCTION_LINES_MAX, Lint, load  # noqa: E402

LAYERS = ('set(SLUICE_LAYERS base ring tls http cache sched store proxy api sim server)\n'
          'set(base_USES PkgConfig::XXHASH)\nset(ring_USES base PkgConfig::LIBURING)\nset(tls_USES base)\n'
          'set(http_USES base tls)\nset(cache_USES base ring http tls)\nset(sched_USES base)\nset(store_USES base ring)\n'
          'set(proxy_USES base ring http cache sched store)\nset(api_USES base ring http cache sched store proxy)\n'
          'set(sim_USES base ring http)\nset(server_USES base ring http cache sched store proxy api sim)\n')


def call(statement):
    return {'src/http/a.c': f'void f(void)\n{{\n    {statement}\n}}\n'}


def include(path, name):
    return {path: f'#include "{name}"\n'}


# A host, put together here so that this file does not hold it.
HOST = 'deb.' + 'debian.org'

CASES = [
    # includes against the layers
    ('base includes ring', include('src/base/a.c', 'ring/ring.h'), ['include']),
    ('http includes ring', include('src/http/a.h', 'ring/ring.h'), ['include']),
    ('cache includes sched', include('src/cache/a.c', 'sched/queue.h'), ['include']),
    ('sched includes cache', include('src/sched/a.c', 'cache/entry.h'), ['include']),
    ('store includes cache', include('src/store/a.c', 'cache/entry.h'), ['include']),
    ('proxy includes api', include('src/proxy/a.c', 'api/route.h'), ['include']),
    ('api includes server', include('src/api/a.c', 'server/config.h'), ['include']),
    ('sim includes cache', include('src/sim/a.c', 'cache/entry.h'), ['include']),
    ('a deeper file is of its layer', include('src/http/deep/er/a.c', 'ring/ring.h'), ['include']),
    ('assembly too', include('src/base/a.S', 'ring/ring.h'), ['include']),
    ('spaces hide nothing', {'src/base/a.c': '  #  include   "ring/ring.h"\n'}, ['include']),
    ('a folder that is no layer', include('src/util/a.c', 'base/bytes.h'), ['include']),
    ('a path that climbs', include('src/http/a.c', '../ring/ring.h'), ['include']),
    ('a name without its folder', include('src/http/a.c', 'elsewhere.h'), ['include']),
    ('liburing outside ring', {'src/proxy/a.c': '#include <liburing.h>\n'}, ['include']),
    ('a pure folder reaches ring by a detour',
     {'src/cache/policy/a.c': '#include "cache/entry.h"\n', 'src/cache/entry.h': '#include "ring/ring.h"\n'}, ['include']),
    ('what is allowed', {
        'src/ring/a.c': '#include "ring/ring.h"\n#include "base/bytes.h"\n#include <liburing.h>\n',
        'src/http/a.c': '#include "a_private.h"\n#include <string.h>\n', 'src/http/a_private.h': '',
        'src/cache/policy/a.c': '#include "http/date.h"\n#include "base/clock.h"\n',
        'src/server/main.c': '#include "sim/engine.h"\n#include "api/route.h"\n',
        'tests/unit/base/a.c': '#include "ring/ring.h"\n'}, []),
    ('an include in a comment', {'src/base/a.c': '// #include "ring/ring.h"\n/*\n#include "ring/ring.h"\n*/\n'}, []),
    ('a table that runs against the order', {'CMakeLists.txt': LAYERS + 'set(base_USES ring)\n'}, ['order']),

    # the world
    ('a socket', call('int s = socket(1, 2, 3);'), ['world']),
    ('a receive', call('(void)recv(s, p, n, 0);'), ['world']),
    ('a read', call('n = read(fd, p, n);'), ['world']),
    ('a close after a brace', call('if (x) {close (fd);}'), ['world']),
    ('a file', call('FILE *f = fopen(path, mode);'), ['world']),
    ('a poll', call('epoll_wait(e, ev, 1, -1);'), ['world']),
    ('a raw call', call('syscall(SYS_read, 0, p, 1);'), ['world']),
    ('io_uring itself', call('io_uring_submit(&r);'), ['world']),
    ('the clock', call('clock_gettime(CLOCK_MONOTONIC, &t);'), ['world']),
    ('the time', call('t = time(NULL);'), ['world']),
    ('a sleep', call('usleep(10);'), ['world']),
    ('the cycle counter', call('t = __rdtsc();'), ['world']),
    ('random bits', call('getrandom(p, 8, 0);'), ['world']),
    ('a weak random', call('x = rand() % 6;'), ['world']),
    ('a name looked up', call('getaddrinfo(a, b, c, &d);'), ['world']),
    ('a process', call('if (fork() == 0) return;'), ['world']),
    ('in a macro', {'src/http/a.h': '#define NOW() time(NULL)\n'}, ['world']),
    ('over two lines', {'src/http/a.c': 'int f(void)\n{\n    return read\n        (0, 0, 0);\n}\n'}, ['world']),
    ('after a string with a comment in it', call('s = "/*"; read(0, p, n); t = "*/";'), ['world']),
    ('after a quote character', call("c = '\"'; read(0, p, n); d = '\"';"), ['world']),
    ('what only looks like one', call(
        's = "read(fd)"; /* write(fd) */ ops->read(x); ops.close(x); ring_read(x); read_more(x); int time = 3; // open(x)'),
     []),
    ('ring itself', {'src/ring/a.c': 'void f(void)\n{\n    io_uring_submit(&r);\n    clock_gettime(0, &t);\n}\n'}, []),
    ('tests and bench may', {'tests/stress/a.c': 'int x = rand();\n', 'bench/a.c': 'int x = socket(1, 2, 3);\n'}, []),
    ('an exception with a reason', {
        **call('n = write(2, p, n);'), 'tests/lint/allow.txt': 'src/http/a.c: write  # to show it\n'}, []),
    ('an exception by kind', {
        **call('n = write(2, p, n);'), 'tests/lint/allow.txt': 'src/http/a.c: @file  # to show it\n'}, []),
    ('an exception excuses only what it names', {
        **call('n = write(2, p, n); read(2, p, n);'), 'tests/lint/allow.txt': 'src/http/a.c: write  # to show it\n'},
     ['world']),
    ('an exception excuses only its file', {
        **call('n = write(2, p, n);'), 'tests/lint/allow.txt': 'src/http/b.c: write  # to show it\n'}, ['world', 'allow']),
    ('an exception without a reason', {
        **call('n = write(2, p, n);'), 'tests/lint/allow.txt': 'src/http/a.c: write\n'}, ['allow']),

    # text
    ('a tab', {'README.md': 'a\tb\n'}, ['text']),
    ('a blank at the end', {'build.sh': 'echo \n'}, ['text']),
    ('a carriage return', {'src/base/a.h': 'int a;\r\n'}, ['text']),
    ('no end of line', {'src/base/a.h': 'int a;'}, ['text']),
    ('a corpus may hold anything', {'tests/fuzz/corpus/request/1': 'GET /\t \r\n'}, []),

    # what belongs to one machine
    ('a path', {'docs/a.md': 'see ' + '/work' + '/main/x\n'}, ['local']),
    ('a home', {'bench/run': 'cd ' + '/home' + '/alice\n'}, ['local']),
    ("root's home", {'bench/run': 'cd ' + '/root' + '/x\n'}, ['local']),
    ('a registry', {'build.sh': f'apt {HOST}\n'}, ['local']),
    ('a path inside another', {'docs/a.md': 'src/work/queue.c and $ROOT/work/x\n'}, []),

    # lengths
    ('a long file', {'src/base/a.c': 'int a;\n' * (FILE_LINES_MAX + 1)}, ['long-file']),
    ('a long function', {'src/base/a.c': 'int f(int a,\n      int b)\n{\n' + '    a++;\n' * FUNCTION_LINES_MAX + '}\n'},
     ['long-function']),
    ('a long table is no function', {'src/base/a.c': 'int t[] = {\n' + '    1,\n' * (FUNCTION_LINES_MAX + 9) + '};\n'}, []),
    ('two short functions are not one long one',
     {'src/base/a.c': ('int f(int a)\n{\n' + '    a++;\n' * (FUNCTION_LINES_MAX // 2) + '}\n') * 2}, []),
]


def main():
    failed = 0
    for name, files, expected in CASES:
        lint = Lint({'CMakeLists.txt': LAYERS, **files})
        found = sorted({rule for _, _, rule, _ in lint.errors + lint.warnings})
        if found != sorted(expected):
            failed += 1
            print(f'FAILED {name}: expected {sorted(expected)}, found {found}')
    # The real table is read too: were its form to change, every include would look allowed or none.
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    real = {path: text for path, text in load(root).items() if path == 'CMakeLists.txt'}
    lint = Lint({**real, 'src/http/a.c': '#include "ring/ring.h"\n', 'src/proxy/a.c': '#include "ring/ring.h"\n'})
    if [(path, rule) for path, _, rule, _ in lint.errors] != [('src/http/a.c', 'include')]:
        failed += 1
        print(f'FAILED the real table of layers: {lint.errors}')
    print(f'lint selftest: {len(CASES) + 1 - failed} passed, {failed} failed')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
