#!/usr/bin/env python3
"""Runs a program under a seccomp profile as an OCI runtime would: under_seccomp.py PROFILE PROGRAM [ARGUMENT]...

SLUICE_SECCOMP_WITHOUT=a,b takes these system calls out of the profile first. Uses libseccomp, as runtimes do.
"""

import ctypes
import ctypes.util
import json
import os
import sys

ACTIONS = {'SCMP_ACT_ALLOW': 0x7fff0000, 'SCMP_ACT_ERRNO': 0x00050000}
OPERATORS = {'SCMP_CMP_NE': 1, 'SCMP_CMP_EQ': 4, 'SCMP_CMP_MASKED_EQ': 7}
ARCHITECTURES = {'SCMP_ARCH_X86_64': b'x86_64', 'SCMP_ARCH_AARCH64': b'aarch64'}
EEXIST = 17
NO_SUCH_CALL = -1  # __NR_SCMP_ERROR


class Argument(ctypes.Structure):
    _fields_ = [('index', ctypes.c_uint), ('operator', ctypes.c_int),
                ('datum', ctypes.c_uint64), ('datum_two', ctypes.c_uint64)]


def library():
    seccomp = ctypes.CDLL('libseccomp.so.2', use_errno=True)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
    seccomp.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    seccomp.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint,
                                               ctypes.POINTER(Argument)]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    return seccomp


def action(seccomp_action, errno):
    return ACTIONS[seccomp_action] | (errno if seccomp_action == 'SCMP_ACT_ERRNO' else 0)


def load(profile, without):
    """From here on this process, and what it starts, is under the profile. Returns the names that libseccomp does not know."""
    seccomp, unknown = library(), []
    context = seccomp.seccomp_init(action(profile['defaultAction'], profile['defaultErrnoRet']))
    assert context, 'seccomp_init'
    for architecture in profile['architectures']:
        error = seccomp.seccomp_arch_add(context, seccomp.seccomp_arch_resolve_name(ARCHITECTURES[architecture]))
        assert error in (0, -EEXIST), f'{architecture}: {os.strerror(-error)}'
    for rule in profile['syscalls']:
        arguments = [Argument(a['index'], OPERATORS[a['op']], a['value'], a.get('valueTwo', 0))
                     for a in rule.get('args', [])]
        array = (Argument * len(arguments))(*arguments)
        for name in rule['names']:
            number = seccomp.seccomp_syscall_resolve_name(name.encode())
            if number == NO_SUCH_CALL:
                unknown.append(name)  # runtimes pass over them too: a newer kernel's
            elif name not in without:
                error = seccomp.seccomp_rule_add_array(context, action(rule['action'], rule.get('errnoRet', 1)), number,
                                                       len(arguments), array)
                assert error == 0, f'{name}: {os.strerror(-error)}'
    error = seccomp.seccomp_load(context)  # sets no_new_privs first
    assert error == 0, f'seccomp_load: {os.strerror(-error)}'
    return unknown


def main():
    with open(sys.argv[1], encoding='utf-8') as f:
        profile = json.load(f)
    unknown = load(profile, set(filter(None, os.environ.get('SLUICE_SECCOMP_WITHOUT', '').split(','))))
    if os.environ.get('SLUICE_SECCOMP_UNKNOWN'):
        print('unknown: ' + ' '.join(unknown), flush=True)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == '__main__':
    main()
