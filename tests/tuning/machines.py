"""Trees that look like machines, for tune.sh --root, and how one tree is compared with another."""

import hashlib
import os
import stat

TABBED = {'net.ipv4.tcp_rmem': '4096\t131072\t6291456', 'net.ipv4.tcp_wmem': '4096\t16384\t4194304',
          'net.ipv4.ip_local_port_range': '32768\t60999'}
SYSCTLS = {
    'fs.file-max': '9223372036854775807', 'fs.nr_open': '1048576', 'fs.inotify.max_user_watches': '65536',
    'kernel.numa_balancing': '1', 'kernel.io_uring_disabled': '0', 'kernel.osrelease': '6.12.1-amd64',
    'kernel.pid_max': '32768', 'kernel.sched_autogroup_enabled': '1', 'kernel.threads-max': '127000',
    'net.core.busy_poll': '0', 'net.core.busy_read': '0', 'net.core.default_qdisc': 'pfifo_fast',
    'net.core.netdev_budget': '300', 'net.core.netdev_max_backlog': '1000', 'net.core.optmem_max': '20480',
    'net.core.rmem_default': '212992', 'net.core.rmem_max': '212992', 'net.core.rps_sock_flow_entries': '0',
    'net.core.somaxconn': '4096', 'net.core.wmem_default': '212992', 'net.core.wmem_max': '212992',
    'net.ipv4.ip_local_reserved_ports': '', 'net.ipv4.tcp_available_congestion_control': 'reno cubic',
    'net.ipv4.tcp_congestion_control': 'cubic', 'net.ipv4.tcp_fastopen': '1', 'net.ipv4.tcp_fin_timeout': '60',
    'net.ipv4.tcp_keepalive_intvl': '75', 'net.ipv4.tcp_keepalive_probes': '9', 'net.ipv4.tcp_keepalive_time': '7200',
    'net.ipv4.tcp_max_orphans': '65536', 'net.ipv4.tcp_max_syn_backlog': '512', 'net.ipv4.tcp_max_tw_buckets': '65536',
    'net.ipv4.tcp_migrate_req': '0', 'net.ipv4.tcp_mtu_probing': '0', 'net.ipv4.tcp_notsent_lowat': '4294967295',
    'net.ipv4.tcp_slow_start_after_idle': '1', 'net.ipv4.tcp_syncookies': '1', 'net.ipv4.tcp_tw_reuse': '2',
    'vm.dirty_background_bytes': '0', 'vm.dirty_background_ratio': '10', 'vm.dirty_bytes': '0', 'vm.dirty_ratio': '20',
    'vm.max_map_count': '65530', 'vm.overcommit_memory': '0', 'vm.overcommit_ratio': '50', 'vm.overcommit_kbytes': '0',
    'vm.swappiness': '60', 'vm.vfs_cache_pressure': '100', 'vm.zone_reclaim_mode': '0', **TABBED,
}
LIMITS = '''Limit                     Soft Limit           Hard Limit           Units
Max cpu time              unlimited            unlimited            seconds
Max stack size            8388608              unlimited            bytes
Max processes             127000               127000               processes
Max open files            1024                 524288               files
Max locked memory         8388608              8388608              bytes
Max file locks            unlimited            unlimited            locks
'''
LISTENERS = '''  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 00000000:2710 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 00000000:A000 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0 100 0 0 10 0
   3: 0100007F:3039 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
'''


def write(root, path, text, mode=None):
    full = os.path.join(root, path.lstrip('/'))
    os.makedirs(os.path.dirname(full), exist_ok=True)
    with open(full, 'wb') as f:
        f.write(text if isinstance(text, bytes) else text.encode())
    if mode is not None:
        os.chmod(full, mode)
    return full


def read(root, path):
    with open(os.path.join(root, path.lstrip('/')), encoding='utf-8') as f:
        return f.read()


def sysctl_path(key):
    return 'proc/sys/' + key.replace('.', '/')


def cpus(root, count, governor=None):
    write(root, 'sys/devices/system/cpu/online', f'0-{count - 1}\n' if count > 1 else '0\n')
    for n in range(count):
        os.makedirs(os.path.join(root, f'sys/devices/system/cpu/cpu{n}'), exist_ok=True)
        if governor:
            at = f'sys/devices/system/cpu/cpu{n}/cpufreq/'
            write(root, at + 'scaling_governor', governor + '\n')
            write(root, at + 'scaling_available_governors', 'performance powersave\n')


def nic(root, name, queues, mbps='10000'):
    at = f'sys/class/net/{name}/'
    os.makedirs(os.path.join(root, at, 'device'))
    write(root, at + 'speed', mbps + '\n')
    for n in range(queues):
        write(root, f'{at}queues/rx-{n}/rps_cpus', '00000000,00000000\n')
        write(root, f'{at}queues/tx-{n}/xps_cpus', '00000000,00000000\n')


def plain(root):
    """Eight cores of which four can be paced, 32 GB, two interfaces."""
    for key, value in SYSCTLS.items():
        write(root, sysctl_path(key), value + '\n')
    write(root, 'proc/self/limits', LIMITS)
    write(root, 'proc/meminfo', 'MemTotal:       33554432 kB\nMemFree:         1000000 kB\n')
    write(root, 'proc/cmdline', 'BOOT_IMAGE=/vmlinuz root=/dev/sda1 ro quiet\n')
    write(root, 'proc/net/tcp', LISTENERS)
    write(root, 'proc/cpuinfo', 'processor\t: 0\nflags\t\t: fpu vme sse2\n')
    write(root, 'sys/devices/system/cpu/smt/active', '1\n')
    write(root, 'sys/devices/system/node/online', '0\n')
    write(root, 'sys/kernel/mm/transparent_hugepage/enabled', '[always] madvise never\n')
    write(root, 'sys/kernel/mm/transparent_hugepage/defrag', 'always defer defer+madvise [madvise] never\n')
    cpus(root, 4, 'powersave')
    cpus(root, 8)
    nic(root, 'eth0', 3)
    nic(root, 'enp3s0f1', 2, '-1')
    for path in ('etc/sysctl.d', 'etc/security/limits.d', 'etc/systemd/system', 'etc/udev/rules.d', 'etc/tmpfiles.d',
                 'etc/modules-load.d', 'run/systemd/system', 'var/lib', 'usr/sbin'):
        os.makedirs(os.path.join(root, path), exist_ok=True)
    write(root, 'etc/sysctl.d/10-distribution.conf', 'kernel.printk = 4 4 1 7\n')
    module = 'lib/modules/6.12.1-amd64/kernel/net/ipv4/tcp_bbr.ko.xz'
    write(root, module, 'not really\n')


def container(root):
    """Sees the host's /proc/sys, owns only what is of its network namespace, has no systemd."""
    plain(root)
    write(root, '.dockerenv', '')
    os.rmdir(os.path.join(root, 'run/systemd/system'))
    os.remove(os.path.join(root, sysctl_path('net.core.netdev_max_backlog')))
    write(root, 'sys/fs/cgroup/cpu.max', '150000 100000\n')
    write(root, 'sys/fs/cgroup/memory.max', '1073741824\n')


def old_kernel(root):
    """5.4, which knows fewer keys, in a tree that has few of the directories that will be needed."""
    plain(root)
    write(root, sysctl_path('kernel.osrelease'), '5.4.0-generic\n')
    for key in ('net.ipv4.tcp_migrate_req', 'kernel.io_uring_disabled', 'net.ipv4.ip_local_reserved_ports'):
        os.remove(os.path.join(root, sysctl_path(key)))
    for path in ('etc/security/limits.d', 'etc/security', 'etc/systemd/system', 'etc/systemd', 'etc/udev/rules.d',
                 'etc/udev', 'etc/tmpfiles.d', 'etc/modules-load.d', 'var/lib', 'var'):
        os.rmdir(os.path.join(root, path))


def laptop(root):
    plain(root)
    write(root, 'sys/class/power_supply/BAT0/capacity', '80\n')
    cpus(root, 4, 'powersave')


def numa(root):
    """40 CPUs, of which some can be paced, on two nodes, with irqbalance and Docker."""
    plain(root)
    cpus(root, 16, 'powersave')
    cpus(root, 40)
    write(root, 'sys/devices/system/node/online', '0-1\n')
    write(root, 'proc/meminfo', 'MemTotal:       528000000 kB\n')
    write(root, 'usr/sbin/irqbalance', '', 0o755)
    write(root, 'etc/default/irqbalance', '# of the package\n#IRQBALANCE_ONESHOT=\nIRQBALANCE_ARGS="--foreground"\n', 0o640)
    write(root, 'etc/docker/daemon.json', '{\n    "data-root": "/srv/docker",\n    "log-opts": {"tag": "ä"}\n}', 0o600)
    nic(root, 'ens5f0', 4, '100000')


MACHINES = {'plain': plain, 'container': container, 'old_kernel': old_kernel, 'laptop': laptop, 'numa': numa}


def snapshot(root, skip=()):
    """Everything about everything below root: type, mode, owner, time of change, bytes."""
    seen = {}
    for folder, names, files in os.walk(root):
        names[:] = [d for d in names if os.path.relpath(os.path.join(folder, d), root) not in skip]
        for path in [folder] + [os.path.join(folder, n) for n in files + [d for d in names if os.path.islink(os.path.join(folder, d))]]:
            short = os.path.relpath(path, root)
            st = os.lstat(path)
            if stat.S_ISREG(st.st_mode):
                with open(path, 'rb') as f:
                    body = f.read()
            else:
                body = os.readlink(path).encode() if stat.S_ISLNK(st.st_mode) else b''
            seen[short] = (oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns, body)
    return seen


def difference(before, after):
    """In words, empty when there is none."""
    return [f'{path}: {before.get(path)} -> {after.get(path)}' for path in sorted(before.keys() | after.keys())
            if before.get(path) != after.get(path)]


def digest(shot):
    return hashlib.sha256(repr(sorted(shot.items())).encode()).hexdigest()
