/* What made-up machines are read as. */
#include "ring/machine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tree.h"

#define MB (UINT64_C(1) << 20)

static char *root;
static struct machine machine;

static void set_up(void)
{
    root = tree_make();
}

static void tear_down(void)
{
    tree_remove(root);
}

TestSuite(machine, .init = set_up, .fini = tear_down);

static bool is_near(double value, double expected)
{
    return fabs(value - expected) < 1e-9;
}

/* The kernel's numbers of the first `count` CPUs to pin to, "0 1 2". */
static const char *order(unsigned count)
{
    static char out[512];
    size_t used = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < count && i < machine.topology.cpu_count; i++) {
        used +=
            (size_t)snprintf(out + used, sizeof(out) - used, "%s%u", i == 0 ? "" : " ", machine.topology.cpus[i].cpu);
    }
    return out;
}

/* ---- CPUs ---- */

Test(machine, a_desktop_has_two_threads_for_each_core)
{
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 8, .threads = 2});
    tree_put_memory(root, 32768);
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.online, 16);
    cr_expect_eq(machine.topology.cpu_count, 16);
    cr_expect_eq(machine.topology.core_count, 8);
    cr_expect_eq(machine.topology.node_count, 1);
    cr_expect_eq(machine.topology.kind_count, 1);
    cr_expect_eq(machine.topology.l1_bytes, 48 << 10);
    cr_expect_eq(machine.topology.l2_bytes, 2 * MB);
    cr_expect_eq(machine.topology.l3_bytes, 32 * MB);
    cr_expect_str_eq(order(16), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15");
    cr_expect_eq(machine.topology.cpus[7].sibling, 0);
    cr_expect_eq(machine.topology.cpus[8].sibling, 1);
    cr_expect_eq(machine.topology.cpus[8].core, machine.topology.cpus[0].core);
    cr_expect_eq(machine.memory_total_bytes, 32768 * MB);
    cr_expect_eq(machine.limits.memory_bytes, 32768 * MB);
    cr_expect_str_eq(machine.limits.memory_where, "");
}

Test(machine, only_what_is_allowed_counts)
{
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 8, .threads = 2});
    tree_allow(root, "2-3,10-11,14");
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.cpu_count, 5);
    cr_expect_eq(machine.limits.cpus_allowed, 5);
    cr_expect_eq(machine.topology.core_count, 3, "14 is the second thread of 6, whose first is not allowed");
    cr_expect_str_eq(order(5), "2 3 14 10 11");
}

Test(machine, what_could_be_plugged_in_is_not_there)
{
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 2, .threads = 1});
    tree_allow(root, "0-127");
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.cpu_count, 2);
}

Test(machine, the_node_of_the_network_card_comes_first)
{
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 2, .cores = 4, .threads = 2});
    tree_put_nic(root, "eth0", 8, 100000, 1);
    tree_put_nic(root, "eth1", 2, 1000, 0);
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.node_count, 2);
    cr_expect_eq(machine.topology.core_count, 8);
    cr_expect_str_eq(order(16), "4 5 6 7 0 1 2 3 12 13 14 15 8 9 10 11");
    cr_expect_eq(machine.topology.cpus[0].node, 1);
    cr_expect_str_eq(machine_main_nic(&machine)->name, "eth0");
}

Test(machine, without_a_card_nodes_come_by_number)
{
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 2, .cores = 2, .threads = 1});
    machine_read(root, &machine);
    cr_expect_str_eq(order(4), "0 1 2 3");
    cr_expect_null(machine_main_nic(&machine));
}

Test(machine, without_sys_every_allowed_cpu_is_a_core)
{
    tree_allow(root, "0,2,4");
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.cpu_count, 3);
    cr_expect_eq(machine.topology.core_count, 3);
    cr_expect_eq(machine.topology.node_count, 1);
    cr_expect_eq(machine.topology.online, 0);
    cr_expect_eq(machine.topology.cpus[0].node, -1);
    cr_expect_str_eq(order(3), "0 2 4");
}

Test(machine, an_empty_tree_is_one_cpu_of_which_nothing_is_known)
{
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.cpu_count, 1);
    cr_expect_eq(machine.topology.core_count, 1);
    cr_expect_eq(machine.limits.memory_bytes, 0);
    cr_expect(is_near(machine.limits.cpu.cpus, 0));
    cr_expect(!machine.descriptors.is_known);
    cr_expect_eq(machine.kernel_major, 0);
    cr_expect_eq(machine.nic_count, 0);
    cr_expect_eq(machine.gpu_count, 0);
    for (unsigned i = 0; i < MACHINE_SETTINGS; i++) {
        cr_expect_eq(machine.settings[i], -1);
    }
}

Test(machine, junk_is_not_known)
{
    static const char junk[] = "\xff\xfe \n:::\n- -\n99999999999999999999999999\n[\n";
    static const char *const paths[] = {
        "/proc/self/status",
        "/proc/self/cgroup",
        "/proc/self/mountinfo",
        "/proc/self/limits",
        "/proc/meminfo",
        "/proc/sys/kernel/osrelease",
        "/proc/sys/net/core/somaxconn",
        "/proc/sys/net/ipv4/ip_local_port_range",
        "/sys/devices/system/cpu/online",
        "/sys/fs/cgroup/cpu.max",
        "/sys/fs/cgroup/memory.max",
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/class/net/eth0/operstate",
        "/sys/class/drm/card0/device/vendor",
    };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        tree_write(root, paths[i], junk);
    }
    machine_read(root, &machine);
    cr_expect_eq(machine.topology.cpu_count, 1);
    cr_expect(is_near(machine.limits.cpu.cpus, 0));
    cr_expect_eq(machine.limits.memory_bytes, 0);
    cr_expect(!machine.descriptors.is_known);
    cr_expect_eq(machine.settings[MACHINE_SOMAXCONN], -1);
    cr_expect_eq(machine.settings[MACHINE_PORT_LAST], -1);
    cr_expect_eq(machine.kernel_major, 0);
    cr_expect_eq(machine.gpu_count, 0);
}

/* ---- control groups ---- */

Test(machine, of_nested_groups_the_tightest_quota_counts_and_says_where)
{
    tree_write(root, "/proc/self/cgroup", "0::/kubepods/pod1/c1\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "max 100000\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/cpu.max", "150000 100000\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/cpu.stat", "usage_usec 9\nnr_throttled 3\nthrottled_usec 2500\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/cpu.max", "800000 100000\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/memory.max", "536870912\n");
    tree_put_memory(root, 8192);
    machine_read(root, &machine);
    cr_expect(is_near(machine.limits.cpu.cpus, 1.5));
    cr_expect_str_eq(machine.limits.cpu.where, "/sys/fs/cgroup/kubepods/pod1/cpu.max");
    cr_expect(machine.limits.cpu.is_counted);
    cr_expect_eq(machine.limits.cpu.throttled_ns, 2500000);
    cr_expect_eq(machine.limits.memory_bytes, 512 * MB);
    cr_expect_str_eq(machine.limits.memory_where, "/sys/fs/cgroup/kubepods/pod1/memory.max");
    cr_expect_eq(machine.memory_total_bytes, 8192 * MB);
}

Test(machine, the_first_version_of_groups_is_heeded)
{
    tree_write(root, "/proc/self/cgroup", "3:cpuset:/\n2:cpu,cpuacct:/docker/0123\n1:memory:/docker/0123\n");
    tree_write(root, "/proc/self/mountinfo",
               "30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct\n"
               "31 24 0:27 / /sys/fs/cgroup/memory rw,nosuid shared:9 - cgroup cgroup rw,memory\n");
    tree_write(root, "/sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.cfs_quota_us", "250000\n");
    tree_write(root, "/sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.cfs_period_us", "100000\n");
    tree_write(root, "/sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.stat", "nr_throttled 1\nthrottled_time 42\n");
    tree_write(root, "/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us", "-1\n");
    tree_write(root, "/sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us", "100000\n");
    tree_write(root, "/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "268435456\n");
    tree_put_memory(root, 1024);
    machine_read(root, &machine);
    cr_expect(is_near(machine.limits.cpu.cpus, 2.5));
    cr_expect_str_eq(machine.limits.cpu.where, "/sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.cfs_quota_us");
    cr_expect_eq(machine.limits.cpu.throttled_ns, 42);
    cr_expect_eq(machine.limits.memory_bytes, 256 * MB);
}

Test(machine, both_versions_side_by_side_are_found_where_they_are_mounted)
{
    tree_write(root, "/proc/self/cgroup", "4:memory:/a\n0::/b\n");
    tree_write(root, "/proc/self/mountinfo",
               "42 32 0:38 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
               "43 32 0:39 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n");
    tree_write(root, "/sys/fs/cgroup/unified/b/cpu.max", "50000 100000\n");
    tree_write(root, "/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "134217728\n");
    tree_put_memory(root, 1024);
    machine_read(root, &machine);
    cr_expect(is_near(machine.limits.cpu.cpus, 0.5));
    cr_expect_eq(machine.limits.memory_bytes, 128 * MB);
}

Test(machine, a_container_that_sees_the_hosts_path_finds_its_own_part)
{
    tree_write(root, "/proc/self/cgroup", "0::/docker/0123/app\n");
    tree_write(root, "/proc/self/mountinfo", "43 32 0:39 /docker/0123 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
    tree_write(root, "/sys/fs/cgroup/app/cpu.max", "200000 100000\n");
    tree_write(root, "/sys/fs/cgroup/cpu.max", "300000 100000\n");
    machine_read(root, &machine);
    cr_expect(is_near(machine.limits.cpu.cpus, 2));
    cr_expect_str_eq(machine.limits.cpu.where, "/sys/fs/cgroup/app/cpu.max");
    tree_write(root, "/proc/self/cgroup", "0::/docker/01234\n");
    machine_read(root, &machine);
    cr_expect(is_near(machine.limits.cpu.cpus, 3), "a sibling whose name begins alike is no part");
}

Test(machine, without_groups_there_is_no_quota)
{
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 1, .threads = 1});
    tree_put_memory(root, 512);
    machine_read(root, &machine);
    cr_expect(is_near(machine.limits.cpu.cpus, 0));
    cr_expect(!machine.limits.cpu.is_counted);
    cr_expect_eq(machine.limits.memory_bytes, 512 * MB);
}

/* ---- the rest ---- */

Test(machine, limits_are_read_with_unlimited_as_none)
{
    tree_write(root, "/proc/self/limits",
               "Limit                     Soft Limit           Hard Limit           Units     \n"
               "Max processes             unlimited            unlimited            processes \n"
               "Max open files            1024                 524288               files     \n"
               "Max locked memory         8388608              8388608              bytes     \n");
    machine_read(root, &machine);
    cr_expect(machine.descriptors.is_known);
    cr_expect_eq(machine.descriptors.soft, 1024);
    cr_expect_eq(machine.descriptors.hard, 524288);
    cr_expect_eq(machine.processes.hard, UINT64_MAX);
    cr_expect_eq(machine.locked_bytes.soft, 8388608);
}

Test(machine, settings_and_words_are_read)
{
    tree_write(root, "/proc/sys/net/core/somaxconn", "128\n");
    tree_write(root, "/proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n");
    tree_write(root, "/proc/sys/kernel/osrelease", "6.1.0-18-amd64\n");
    tree_write(root, "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree_write(root, "/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n");
    tree_write(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    machine_read(root, &machine);
    cr_expect_eq(machine.settings[MACHINE_SOMAXCONN], 128);
    cr_expect_eq(machine.settings[MACHINE_PORT_FIRST], 32768);
    cr_expect_eq(machine.settings[MACHINE_PORT_LAST], 60999);
    cr_expect_eq(machine.kernel_major, 6);
    cr_expect_eq(machine.kernel_minor, 1);
    cr_expect_str_eq(machine.huge_pages, "madvise");
    cr_expect_str_eq(machine.clock_source, "hpet");
    cr_expect_str_eq(machine.governor, "powersave");
}

Test(machine, cards_are_told_from_bridges_and_counted_by_queue)
{
    tree_put_nic(root, "ens5", 4, 25000, -1);
    tree_write(root, "/sys/class/net/ens5/queues/rx-0/rps_cpus", "00000000,0000000c\n");
    tree_write(root, "/sys/class/net/docker0/operstate", "up\n");
    tree_write(root, "/sys/class/net/docker0/queues/rx-0/rps_cpus", "0\n");
    machine_read(root, &machine);
    cr_assert_eq(machine.nic_count, 2);
    cr_expect_str_eq(machine.nics[0].name, "ens5");
    cr_expect(machine.nics[0].is_hardware && machine.nics[0].is_up && machine.nics[0].has_rps);
    cr_expect_eq(machine.nics[0].receive_queues, 4);
    cr_expect_eq(machine.nics[0].send_queues, 4);
    cr_expect_eq(machine.nics[0].speed_mbit, 25000);
    cr_expect_eq(machine.nics[0].node, -1);
    cr_expect(!machine.nics[1].is_hardware && !machine.nics[1].has_rps);
}

Test(machine, gpus_are_seen_by_the_files_of_their_drivers)
{
    tree_write(root, "/proc/driver/nvidia/gpus/0000:17:00.0/information", "Model: X\n");
    tree_write(root, "/sys/bus/pci/devices/0000:17:00.0/numa_node", "1\n");
    tree_write(root, "/sys/class/drm/card0/device/vendor", "0x10de\n");
    tree_write(root, "/sys/class/drm/card1/device/vendor", "0x1a03\n");
    tree_write(root, "/sys/class/drm/card2/device/vendor", "0x1002\n");
    tree_write(root, "/sys/class/drm/card2-DP-1/status", "connected\n");
    machine_read(root, &machine);
    cr_assert_eq(machine.gpu_count, 2, "NVIDIA's once, AMD's, and no display chip");
    cr_expect_str_eq(machine.gpus[0].name, "nvidia 0000:17:00.0");
    cr_expect_eq(machine.gpus[0].node, 1);
    cr_expect_str_eq(machine.gpus[1].name, "amd card2");
}

Test(machine, a_gpu_of_which_only_the_device_is_there_counts)
{
    tree_write(root, "/dev/kfd", "");
    machine_read(root, &machine);
    cr_assert_eq(machine.gpu_count, 1);
    cr_expect_str_eq(machine.gpus[0].name, "amd kfd");
}

Test(machine, more_devices_than_there_is_room_for_are_left_out)
{
    char name[32];
    for (unsigned i = 0; i < MACHINE_NICS_MAX + 3; i++) {
        snprintf(name, sizeof(name), "veth%u", i);
        tree_put_nic(root, name, 1, -1, -1);
    }
    machine_read(root, &machine);
    cr_expect_eq(machine.nic_count, MACHINE_NICS_MAX);
}

Test(real_machine, says_what_every_linux_says)
{
    machine_read("", &machine);
    cr_expect_gt(machine.topology.cpu_count, 0);
    cr_expect_geq(machine.topology.online, machine.topology.cpu_count);
    cr_expect_gt(machine.limits.memory_bytes, MB);
    cr_expect_leq(machine.limits.memory_bytes, machine.memory_total_bytes);
    cr_expect(machine.descriptors.is_known);
    cr_expect_geq(machine.kernel_major, 5);
    cr_expect_gt(machine.settings[MACHINE_SOMAXCONN], 0);
    cr_expect_eq(machine.limits.cpus_allowed, machine.topology.cpu_count);
}
