#!/usr/bin/env python3
"""Runs a program as systemd would run it by a unit, as far as that can be done without systemd as the first process:

  confined.py UNIT STATE_DIRECTORY [--without CALLS] PROGRAM [ARGUMENT]...

It reads the unit, and takes the options that say what the process may do. As root: a mount namespace in which all is
read-only but the state's folder, /home and /root are empty and /dev has the usual six; another user, with no capability
left to get. For everybody: limits, umask, no_new_privs, and by libseccomp the system calls, address families, namespaces,
and mappings that are writable and executable. What the unit asks for and this does not know is printed as `not confined: ...`.
"""

import ctypes
import os
import re
import resource
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
CLONE_NEWNS = 0x20000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
NR_MOUNT_SETATTR = 442
AT_RECURSIVE, AT_FDCWD, MOUNT_ATTR_RDONLY = 0x8000, -100, 1
ALLOW, EPERM, ENOSYS = 0x7fff0000, 0x00050001, 0x00050026
EAFNOSUPPORT = 0x00050061
EQ, MASKED_EQ = 4, 7
PROT_WRITE, PROT_EXEC = 2, 4
NAMESPACES = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
FAMILIES = {'AF_UNIX': 1, 'AF_INET': 2, 'AF_INET6': 10, 'AF_NETLINK': 16}
FAMILY_MAX = 46

# What is done here, or has no meaning for a process that is not systemd's.
KNOWN = set('''type notifyaccess execstart environmentfile user group workingdirectory statedirectory statedirectorymode
    runtimedirectory umask killmode timeoutstopsec restart restartsec restartpreventexitstatus watchdogsec timeoutabortsec
    limitnofile limitmemlock limitcore protectsystem protecthome privatedevices privatemounts capabilityboundingset
    ambientcapabilities nonewprivileges memorydenywriteexecute restrictaddressfamilies restrictnamespaces
    systemcallarchitectures systemcallfilter systemcallerrornumber protectkerneltunables protectcontrolgroups'''.split())


class Unit:
    """The last value of each key, and all values of those that add up."""

    def __init__(self, path):
        self.values = {}
        section = ''
        with open(path, encoding='utf-8') as f:
            for line in f:
                if line.startswith('['):
                    section = line.strip()
                elif '=' in line and line[0] not in '#;' and section == '[Service]':
                    key, value = line.strip().split('=', 1)
                    self.values.setdefault(key.lower(), []).append(value)

    def last(self, key, default=''):
        return self.values.get(key, [default])[-1]

    def is_on(self, key):
        return self.last(key) in ('yes', 'true', 'on', '1', 'strict')


def checked(result, what):
    if result < 0:
        raise OSError(ctypes.get_errno(), f'{what}: {os.strerror(ctypes.get_errno())}')


# ---- files and users: root's part

def mount(source, target, kind, flags, data=None):
    checked(LIBC.mount(source.encode(), target.encode(), kind.encode() if kind else None, ctypes.c_ulong(flags),
                       data.encode() if data else None), f'mount {target}')


def confine_files(unit, state):
    try:
        checked(LIBC.unshare(CLONE_NEWNS), 'unshare')
        mount('none', '/', None, MS_REC | MS_PRIVATE)
    except OSError as error:  # a container that forbids it; a chroot, whose root is no mount
        print(f'not confined: files: {error}', flush=True)
        return
    if unit.is_on('protecthome'):
        for folder in ('/home', '/root'):
            if os.path.isdir(folder) and not state.startswith(folder):
                mount('tmpfs', folder, 'tmpfs', 0, 'mode=0755,size=4k')
    if unit.is_on('privatedevices'):
        devices = {name: os.stat(f'/dev/{name}') for name in ('null', 'zero', 'full', 'random', 'urandom', 'tty')}
        mount('tmpfs', '/dev', 'tmpfs', 0, 'mode=0755,size=64k')
        for name, info in devices.items():
            try:
                os.mknod(f'/dev/{name}', 0o20666, info.st_rdev)
                os.chmod(f'/dev/{name}', 0o666)
            except PermissionError:  # in a container without CAP_MKNOD there are none
                pass
    if unit.last('protectsystem') == 'strict':
        mount(state, state, None, MS_BIND)
        attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
        checked(LIBC.syscall(NR_MOUNT_SETATTR, AT_FDCWD, b'/', AT_RECURSIVE, attributes, ctypes.sizeof(attributes)),
                'mount_setattr')
        attributes = (ctypes.c_uint64 * 4)(0, MOUNT_ATTR_RDONLY, 0, 0)
        checked(LIBC.syscall(NR_MOUNT_SETATTR, AT_FDCWD, state.encode(), AT_RECURSIVE, attributes,
                             ctypes.sizeof(attributes)), 'mount_setattr')


def become_nobody(unit):
    if unit.last('capabilityboundingset', 'all') == '':
        for capability in range(64):
            LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)  # those that the kernel does not know are an error
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    with open('/proc/self/status', encoding='ascii') as f:
        assert re.search(r'^CapEff:\s+0+$', f.read(), re.M)


# ---- for everybody

def amount(text):
    scale = {'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}.get(text[-1:], 0)
    return int(text[:-1]) * scale if scale else int(text)


def limit(unit):
    for key, which in (('limitnofile', resource.RLIMIT_NOFILE), ('limitmemlock', resource.RLIMIT_MEMLOCK)):
        wanted, hard = amount(unit.last(key)), resource.getrlimit(which)[1]
        if os.geteuid() != 0 and hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        try:
            resource.setrlimit(which, (wanted, wanted))
        except (ValueError, PermissionError):
            print(f'not confined: {key}', flush=True)
    os.umask(int(unit.last('umask', '0022'), 8))


def calls_of(word):
    """A call's name, or those of a group; systemd knows which."""
    if not word.startswith('@'):
        return {word}
    text = subprocess.run(['systemd-analyze', 'syscall-filter', word], check=True, capture_output=True, text=True).stdout
    names = set()
    for line in text.splitlines()[1:]:
        line = line.strip()
        if line and line[0] != '#':
            names |= calls_of(line)
    return names


def allowed_calls(unit):
    allowed = calls_of('@default')
    for value in unit.values['systemcallfilter']:
        for word in value.lstrip('~').split():
            if value.startswith('~'):
                allowed -= calls_of(word)
            else:
                allowed |= calls_of(word)
    return allowed


class Argument(ctypes.Structure):
    _fields_ = [('index', ctypes.c_uint), ('operator', ctypes.c_int), ('first', ctypes.c_uint64),
                ('second', ctypes.c_uint64)]


class Filter:
    def __init__(self, default):
        self.lib = ctypes.CDLL('libseccomp.so.2', use_errno=True)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.lib.seccomp_init.argtypes = [ctypes.c_uint32]
        self.lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                                    ctypes.c_void_p]
        self.lib.seccomp_load.argtypes = [ctypes.c_void_p]
        self.context = self.lib.seccomp_init(default)

    def rule(self, action, name, *arguments):
        number = self.lib.seccomp_syscall_resolve_name(name.encode())
        if number < 0:
            return  # another architecture's
        array = (Argument * len(arguments))(*[Argument(*(a + (0,) * (4 - len(a)))) for a in arguments])
        error = self.lib.seccomp_rule_add_array(self.context, action, number, len(arguments), array)
        assert error == 0, f'{name}: {os.strerror(-error)}'

    def load(self):
        error = self.lib.seccomp_load(self.context)
        assert error == 0, os.strerror(-error)


def filters(unit, without):
    """Those that are narrower first: the last one takes the calls that load filters."""
    made = []
    narrow = Filter(ALLOW)
    families = {FAMILIES[name] for name in unit.last('restrictaddressfamilies').split()}
    for family in range(FAMILY_MAX + 1):
        if family not in families:
            narrow.rule(EAFNOSUPPORT, 'socket', (0, EQ, family))
    if unit.is_on('restrictnamespaces'):
        narrow.rule(EPERM, 'unshare')
        narrow.rule(EPERM, 'setns')
        narrow.rule(ENOSYS, 'clone3')  # its flags cannot be looked at
        for bit in range(32):
            if NAMESPACES >> bit & 1:
                narrow.rule(EPERM, 'clone', (0, MASKED_EQ, 1 << bit, 1 << bit))
    if unit.is_on('memorydenywriteexecute'):
        both = PROT_WRITE | PROT_EXEC
        narrow.rule(EPERM, 'mmap', (2, MASKED_EQ, both, both))
        for name in ('mprotect', 'pkey_mprotect'):
            narrow.rule(EPERM, name, (2, MASKED_EQ, PROT_EXEC, PROT_EXEC))
    made.append(narrow)
    wide = Filter(EPERM)
    for name in sorted(allowed_calls(unit) - without | {'execve'}):
        wide.rule(ALLOW, name)
    made.append(wide)
    return made


def main():
    arguments = sys.argv[1:]
    unit, state, without = Unit(arguments[0]), os.path.abspath(arguments[1]), set()
    arguments = arguments[2:]
    if arguments[0] == '--without':
        without, arguments = set(arguments[1].split(',')), arguments[2:]
    unknown = set(unit.values) - KNOWN
    made = filters(unit, without)
    limit(unit)
    if os.geteuid() == 0:
        confine_files(unit, state)
        become_nobody(unit)
    else:
        print('not confined: files and user, which take root', flush=True)
    print('not confined: ' + ' '.join(sorted(unknown)), flush=True)
    os.chdir(state)  # by its path again: the mount there that can be written
    checked(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'no_new_privs')
    for one in made:
        one.load()
    os.execv(arguments[0], arguments)


if __name__ == '__main__':
    main()
