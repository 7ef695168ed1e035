import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import machines  # noqa: E402

TUNING = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'tuning')
SCRIPT = os.path.join(TUNING, 'tune.sh')

# Of each kind that is written, with formulas; what the machines have of it differs.
PROFILE = '''
# for the tests
sysctl net.core.somaxconn | >= max(65535, connections) | why | effect | source | risk
sysctl net.core.netdev_max_backlog | >= 16384 | why | effect | source | risk
sysctl net.ipv4.tcp_rmem | >= 4096 131072 clamp(memory_bytes / 512, 8M, 16M) | why | effect | source | risk
sysctl net.ipv4.tcp_fin_timeout | <= 30 | why | effect | source | risk
sysctl net.ipv4.ip_local_port_range | = 10000 65000 | why | effect | source | risk
sysctl net.core.default_qdisc | = fq | why | effect | source | risk
sysctl net.ipv4.tcp_congestion_control | in bbr | why | effect | source | risk
sysctl net.ipv4.tcp_migrate_req | = 1 | why | effect | source | risk
sysctl vm.swappiness | <= 10 | why | effect | source | risk
sysctl vm.dirty_bytes | = 256M | why | effect | source | risk
sysctl vm.max_map_count | >= 262144 | why | effect | source | risk
sysctl kernel.numa_balancing | {numa} = 0 | why | effect | source | risk
sysctl fs.nr_open | >= 2097152 | why | effect | source | risk
sysctl fs.file-max | >= connections * 4 | why | effect | source | risk
sysctl not.a.key | = 1 | why | effect | source | risk
limit nofile | >= max(1048576, connections * 4) | why | effect | source | risk
limit memlock | >= 64M | why | effect | source | risk
sysfs /sys/kernel/mm/transparent_hugepage/enabled | in madvise never | why | effect | source | risk
sysfs /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor | {!laptop} = performance | why | effect | source | risk
irq /sys/class/net/*/queues/rx-*/rps_cpus | = cpumask(cores) | why | effect | source | risk
irq /sys/class/net/*/queues/tx-*/xps_cpus | = cpubit(index % cores) | why | effect | source | risk
service irqbalance | = cpulist(0, cores / 2 - 1) | why | effect | source | risk
docker default-ulimits.nofile.Hard | >= 65536 | why | effect | source | risk
docker log-opts.max-file | = "3" | why | effect | source | risk
docker live-restore | = true | why | effect | source | risk
advise sysctl vm.overcommit_memory | = 1 | why | effect | source | risk
cmdline isolcpus | = 2-7 | why | effect | source | risk
file /etc/valkey/valkey.conf maxmemory | >= 1G | why | effect | source | risk
'''


class Tune:
    """One tree with a profile, and tune.sh run on it."""

    def __init__(self, folder):
        self.root = os.path.join(folder, 'a tree')
        os.makedirs(self.root)
        self.profile = os.path.join(folder, 'test.conf')
        self.set_profile(PROFILE)
        self.out = ''

    def set_profile(self, text):
        with open(self.profile, 'w', encoding='utf-8') as f:
            f.write(text)

    def become(self, machine):
        machines.MACHINES[machine](self.root)
        return self

    def run(self, verb, *args, env=None, profile=True, **more):
        command = [SCRIPT, verb, '--root', self.root]
        if profile and verb != 'revert':
            command += ['--profile', self.profile]
        done = subprocess.run(command + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60,
                              stderr=subprocess.STDOUT, env={**os.environ, 'COLUMNS': '120', **(env or {})}, check=False, **more)
        self.out = done.stdout.decode('utf-8', 'replace')
        return done.returncode

    def must(self, verb, *args, code=0, **more):
        assert self.run(verb, *args, **more) == code, self.out
        return self.out

    def read(self, path):
        return machines.read(self.root, path)

    def write(self, path, text, mode=None):
        return machines.write(self.root, path, text, mode)

    def sysctl(self, key):
        return self.read(machines.sysctl_path(key))

    def snapshot(self):
        return machines.snapshot(self.root)

    def exists(self, path):
        return os.path.lexists(os.path.join(self.root, path.lstrip('/')))


@pytest.fixture
def tune(tmp_path):
    return Tune(str(tmp_path))
