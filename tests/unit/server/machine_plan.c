/* What is made of made-up machines: figures with their reasons, and what is said to hurt. */
#include "server/machine_plan.h"

#include <string.h>

#include "config_test.h"
#include "tree.h"

#define MB (UINT64_C(1) << 20)
#define GB (MB << 10)

#define REMOTE   "upstreams: [{name: u, endpoints: ['10.0.0.1:80']}]\nroutes: [{path: /, http: {upstream: u}}]\n"
#define LOOPBACK "upstreams: [{name: u, endpoints: ['127.0.0.1:8000']}]\nroutes: [{path: /, http: {upstream: u}}]\n"

static char *root;
static struct machine machine;
static struct machine_plan plan;

static void set_up(void)
{
    root = tree_make();
}

static void tear_down(void)
{
    tree_remove(root);
}

TestSuite(machine_plan, .init = set_up, .fini = tear_down);

/* A machine about which nothing is wrong, of so many cores. */
static void put_good(unsigned nodes, unsigned cores, unsigned threads, unsigned long megabytes)
{
    tree_put_cpus(root, &(struct tree_cpus){nodes, cores, threads});
    tree_put_memory(root, megabytes);
    tree_put_nic(root, "eth0", 8, 10000, nodes > 1 ? 0 : -1);
    tree_write(root, "/proc/self/limits",
               "Max processes             100000   100000   processes\n"
               "Max open files            1024   100000000   files\n");
    tree_write(root, "/proc/sys/kernel/osrelease", "6.12.1\n");
    tree_write(root, "/proc/sys/kernel/io_uring_disabled", "0\n");
    tree_write(root, "/proc/sys/kernel/numa_balancing", "0\n");
    tree_write(root, "/proc/sys/net/core/somaxconn", "65535\n");
    tree_write(root, "/proc/sys/net/ipv4/tcp_max_syn_backlog", "8192\n");
    tree_write(root, "/proc/sys/net/ipv4/ip_local_port_range", "1024 65535\n");
    tree_write(root, "/proc/sys/vm/max_map_count", "16777216\n");
    tree_write(root, "/proc/sys/vm/overcommit_memory", "1\n");
    tree_write(root, "/proc/sys/vm/zone_reclaim_mode", "0\n");
    tree_write(root, "/proc/sys/fs/file-max", "9223372036854775807\n");
    tree_write(root, "/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
    tree_write(root, "/sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n");
}

static void make(const char *text)
{
    char whole[1024];
    bool has_routes = strstr(text, "routes:") != NULL;
    snprintf(whole, sizeof(whole), LISTENERS "%s%s", text, has_routes ? "" : ROUTES);
    struct config *config = parse_right(whole);
    machine_read(root, &machine);
    machine_plan_make(&machine, config, &plan);
    config_destroy(config);
}

static uint64_t value(enum machine_figure_name figure)
{
    return plan.figures[figure].value;
}

static void expect_reason(enum machine_figure_name figure, const char *part)
{
    cr_expect(strstr(plan.figures[figure].reason, part) != NULL, "%s: %s", machine_figure_name(figure),
              plan.figures[figure].reason);
}

/* The finding about it; NULL: there is none. */
static const struct machine_finding *about(const char *subject)
{
    for (unsigned i = 0; i < plan.finding_count; i++) {
        if (strcmp(plan.findings[i].subject, subject) == 0) {
            return &plan.findings[i];
        }
    }
    return NULL;
}

static void expect_finding(const char *subject, enum machine_severity severity, const char *part)
{
    const struct machine_finding *finding = about(subject);
    cr_assert_not_null(finding, "nothing is said of %s", subject);
    cr_expect_eq(finding->severity, severity, "%s", finding->what);
    cr_expect(strstr(finding->what, part) != NULL, "%s", finding->what);
    cr_expect_gt(strlen(finding->remedy), 5);
}

static void put_quota(const char *cpu_max)
{
    tree_write(root, "/proc/self/cgroup", "0::/a/b\n");
    tree_write(root, "/sys/fs/cgroup/a/cpu.max", cpu_max);
}

/* ---- workers ---- */

Test(machine_plan, without_second_threads_every_core_has_a_worker)
{
    put_good(1, 6, 1, 16384);
    make(REMOTE);
    cr_expect_eq(plan.workers, 6);
    cr_expect(plan.pin);
    for (unsigned i = 0; i < 6; i++) {
        cr_expect_eq(plan.cpus[i], i);
    }
    cr_expect_eq(plan.figures[MACHINE_WORKERS].source, MACHINE_DERIVED);
    expect_reason(MACHINE_WORKERS, "one for each core that this process may use (6)");
    cr_expect_eq(plan.finding_count, 0, "%s", plan.findings[0].what);
}

Test(machine_plan, a_desktops_second_threads_are_left_to_others)
{
    put_good(1, 8, 2, 32768);
    make(REMOTE);
    cr_expect_eq(plan.workers, 8);
    expect_reason(MACHINE_WORKERS, "second threads of cores (it has 16 CPUs) are left");
    cr_expect_eq(plan.cpus[7], 7);
}

Test(machine_plan, few_cpus_are_all_taken)
{
    put_good(1, 2, 2, 8192);
    make(REMOTE);
    cr_expect_eq(plan.workers, 4);
    expect_reason(MACHINE_WORKERS, "so few (up to 4) are all taken");
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 3, .threads = 2});
    make(REMOTE);
    cr_expect_eq(plan.workers, 4, "never fewer than a smaller machine has");
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 1, .threads = 1});
    make(REMOTE);
    cr_expect_eq(plan.workers, 1);
}

Test(machine_plan, backends_next_door_get_half_of_the_cores)
{
    put_good(1, 8, 2, 32768);
    make(LOOPBACK);
    cr_expect_eq(plan.workers, 4);
    expect_reason(MACHINE_WORKERS, "backends run on this machine");
    make("upstreams: [{name: u, endpoints: ['unix:/run/b.sock']}]\nroutes: [{path: /, http: {upstream: u}}]\n");
    cr_expect_eq(plan.workers, 4);
    make("upstreams: [{name: u, endpoints: ['localhost:80']}]\nroutes: [{path: /, http: {upstream: u}}]\n");
    cr_expect_eq(plan.workers, 4);
    make("upstreams: [{name: u, endpoints: ['[::1]:80']}]\nroutes: [{path: /, http: {upstream: u}}]\n");
    cr_expect_eq(plan.workers, 4);
    make("upstreams: [{name: u, endpoints: ['gpu.example.org:80']}]\nroutes: [{path: /, http: {upstream: u}}]\n");
    cr_expect_eq(plan.workers, 8);
    tree_put_cpus(root, &(struct tree_cpus){.nodes = 1, .cores = 2, .threads = 1});
    make(LOOPBACK);
    cr_expect_eq(plan.workers, 2, "two cores are shared by the kernel well enough");
}

Test(machine_plan, a_quota_is_rounded_down_and_pins_nobody)
{
    put_good(2, 32, 2, 262144);
    put_quota("650000 100000\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 6);
    expect_reason(MACHINE_WORKERS, "6.5 CPUs (/sys/fs/cgroup/a/cpu.max), rounded down");
    cr_expect(!plan.pin);
    expect_reason(MACHINE_PINNED, "under a quota of 6.5 of 128 CPUs others run on the same ones");
    cr_expect_null(about("cpu quota"));
    put_quota("150000 100000\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 1);
    put_quota("50000 100000\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 1);
    expect_reason(MACHINE_WORKERS, "is not even one");
    expect_finding("cpu quota", MACHINE_WARNING, "0.5 CPUs");
    put_quota("20000000 100000\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 64, "a quota of more than there is cuts nothing");
    cr_expect(plan.pin);
}

Test(machine_plan, the_card_of_a_server_decides_where_workers_go)
{
    put_good(2, 4, 2, 65536);
    tree_put_nic(root, "eth0", 8, 10000, 1);
    make(REMOTE "workers: 4\n");
    cr_expect(plan.pin);
    cr_expect_eq(plan.cpus[0], 4);
    cr_expect_eq(plan.cpus[3], 7);
    expect_reason(MACHINE_PINNED, "the node of the network card first");
    cr_expect_null(about("workers"), "all are near it");
    make(REMOTE);
    cr_expect_eq(plan.workers, 8);
    expect_finding("workers", MACHINE_NOTE, "4 of them are not on the node of eth0 (1)");
    tree_write(root, "/proc/sys/vm/zone_reclaim_mode", "1\n");
    tree_write(root, "/proc/sys/kernel/numa_balancing", "1\n");
    make(REMOTE);
    expect_finding("vm.zone_reclaim_mode", MACHINE_WARNING, "page cache");
    expect_finding("kernel.numa_balancing", MACHINE_NOTE, "page faults");
}

Test(machine_plan, little_memory_cuts_workers_and_buffers)
{
    put_good(1, 64, 1, 256);
    make(REMOTE);
    cr_expect_eq(plan.workers, 8);
    expect_reason(MACHINE_WORKERS, "256 MB of memory leave 32 MB for each");
    cr_expect_eq(value(MACHINE_RECEIVE_BUFFERS), 256);
    expect_reason(MACHINE_RECEIVE_BUFFERS, "an eighth");
    cr_expect_eq(value(MACHINE_CACHE_BYTES), 256 * MB / 100 * 25);
    tree_put_memory(root, 16);
    make(REMOTE);
    cr_expect_eq(plan.workers, 1);
    cr_expect_eq(value(MACHINE_RECEIVE_BUFFERS), 128);
}

Test(machine_plan, a_container_gets_what_its_nested_groups_leave)
{
    put_good(1, 32, 2, 262144);
    tree_write(root, "/proc/self/cgroup", "0::/kubepods/pod1/c1\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/c1/cpu.max", "400000 100000\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/cpu.max", "250000 100000\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/pod1/c1/memory.max", "1073741824\n");
    tree_write(root, "/sys/fs/cgroup/kubepods/memory.max", "2147483648\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 2);
    cr_expect(!plan.pin);
    cr_expect_eq(value(MACHINE_CACHE_BYTES), GB / 100 * 25);
    cr_expect_eq(value(MACHINE_RECEIVE_BUFFERS), 1024);
}

Test(machine_plan, of_a_machine_that_says_nothing_the_usual_is_made)
{
    make(REMOTE);
    cr_expect_eq(plan.workers, 1);
    cr_expect(plan.pin);
    cr_expect_eq(plan.cpus[0], 0);
    cr_expect_eq(value(MACHINE_RECEIVE_BUFFERS), 1024);
    cr_expect_eq(value(MACHINE_FIBERS), 16384);
    cr_expect_eq(value(MACHINE_CONNECTIONS), 65536);
    cr_expect_eq(plan.finding_count, 0, "%s", plan.findings[0].what);
}

Test(machine_plan, rings_are_charged_to_locked_memory)
{
    put_good(1, 16, 1, 65536);
    tree_write(root, "/proc/self/limits", "Max locked memory         65536     8388608      bytes\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 8388608 / MACHINE_WORKER_LOCKED_BYTES);
    expect_reason(MACHINE_WORKERS, "the limit of 8 MB on locked memory");
    expect_finding("memlock", MACHINE_WARNING, "may lock 8 MB");
    make(REMOTE "workers: 16\n");
    expect_finding("memlock", MACHINE_ERROR, "each worker (16) takes 704 KB");
    make(REMOTE "workers: 4\n");
    cr_expect_null(about("memlock"));
    tree_write(root, "/proc/self/limits", "Max locked memory         65536     65536      bytes\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 1);
    expect_finding("memlock", MACHINE_ERROR, "may lock 64 KB");
    tree_write(root, "/proc/self/status", "Name:\tx\nCapEff:\t0000000000004000\nCpus_allowed_list:\t0-15\n");
    make(REMOTE);
    cr_expect_eq(plan.workers, 16, "CAP_IPC_LOCK lifts it");
    cr_expect_null(about("memlock"));
}

/* ---- what is configured wins ---- */

Test(machine_plan, configured_values_win_and_are_said_so)
{
    put_good(1, 4, 1, 8192);
    put_quota("200000 100000\n");
    make(REMOTE "workers: 3\npin: true\ncache: {memory: 64MB}\n");
    cr_expect_eq(plan.workers, 3);
    cr_expect_eq(plan.figures[MACHINE_WORKERS].source, MACHINE_CONFIGURED);
    expect_reason(MACHINE_WORKERS, "workers: 3 is set; auto would be 2");
    cr_expect(plan.pin, "also under a quota");
    cr_expect_eq(plan.figures[MACHINE_PINNED].source, MACHINE_CONFIGURED);
    cr_expect_eq(value(MACHINE_CACHE_BYTES), 64 * MB);
    cr_expect_eq(plan.figures[MACHINE_CACHE_BYTES].source, MACHINE_CONFIGURED);
    expect_finding("workers", MACHINE_WARNING, "3 are set under a quota of 2 CPUs");
    expect_finding("pin", MACHINE_NOTE, "under a quota of 2 of 4 CPUs");
    make(REMOTE "pin: false\n");
    cr_expect(!plan.pin);
    expect_reason(MACHINE_PINNED, "pin: false is set");
}

Test(machine_plan, more_workers_than_cpus_take_turns_unpinned)
{
    put_good(1, 2, 1, 8192);
    make(REMOTE "workers: 5\npin: true\n");
    cr_expect_eq(plan.workers, 5);
    cr_expect(!plan.pin);
    expect_finding("workers", MACHINE_WARNING, "5 are set, and there are 2 CPUs");
}

Test(machine_plan, a_cache_of_nearly_everything_is_warned_of)
{
    put_good(1, 2, 1, 1024);
    make(REMOTE "cache: {memory: 1000MB}\n");
    expect_finding("cache.memory", MACHINE_WARNING, "cache.memory is 1048576000 bytes, of 1073741824");
    make(REMOTE "cache: {memory: 900MB}\n");
    expect_finding("cache.memory", MACHINE_WARNING, "leave too little of 1 GB");
    make(REMOTE "cache: {memory: 0}\n");
    cr_expect_eq(value(MACHINE_CACHE_BYTES), 0);
    cr_expect_null(about("cache.memory"));
}

Test(machine_plan, mappings_bound_the_waiting)
{
    put_good(1, 8, 1, 16384);
    tree_write(root, "/proc/sys/vm/max_map_count", "65530\n");
    make(REMOTE);
    cr_expect_eq(value(MACHINE_FIBERS), 65530 / 4 * 3 / 2 / 8);
    expect_finding("vm.max_map_count", MACHINE_NOTE, "65530 lets 3071 requests");
    tree_write(root, "/proc/sys/vm/max_map_count", "100\n");
    make(REMOTE);
    cr_expect_eq(value(MACHINE_FIBERS), MACHINE_FIBERS_MIN);
}

Test(machine_plan, descriptors_bound_connections)
{
    put_good(1, 2, 1, 16384);
    tree_write(root, "/proc/self/limits", "Max open files            1024   4096   files\n");
    make(REMOTE);
    cr_expect_lt(value(MACHINE_CONNECTIONS), 4096);
    cr_expect_gt(value(MACHINE_CONNECTIONS), 3900);
    expect_finding("nofile", MACHINE_WARNING, "open files are limited to 4096, fewer than the 131072");
    tree_write(root, "/proc/self/limits", "Max open files            16   16   files\n");
    make(REMOTE);
    cr_expect_eq(value(MACHINE_CONNECTIONS), 0);
}

/* ---- findings ---- */

struct hurting {
    const char *path;
    const char *text;
    const char *subject;
    enum machine_severity severity;
    const char *part;
};

Test(machine_plan, each_setting_that_hurts_is_found_and_no_other)
{
    static const struct hurting all[] = {
        {"/proc/sys/kernel/osrelease", "5.15.0\n", "kernel", MACHINE_ERROR, "5.15.0 is too old"},
        {"/proc/sys/kernel/osrelease", "6.0.9\n", "kernel", MACHINE_ERROR, "6.0.9 is too old"},
        {"/proc/sys/kernel/io_uring_disabled", "2\n", "kernel.io_uring_disabled", MACHINE_ERROR, "it is 2"},
        {"/proc/sys/kernel/io_uring_disabled", "1\n", "kernel.io_uring_disabled", MACHINE_WARNING, "it is 1"},
        {"/proc/self/limits", "Max processes   10   10  processes\n", "nproc", MACHINE_WARNING, "10 threads"},
        {"/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n", "cpu governor", MACHINE_WARNING,
         "lowest clock"},
        {"/sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet\n", "clocksource", MACHINE_WARNING,
         "hpet"},
        {"/proc/sys/vm/overcommit_memory", "2\n", "vm.overcommit_memory", MACHINE_WARNING, "it is 2"},
        {"/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n", "transparent_hugepage",
         MACHINE_NOTE, "always"},
        {"/proc/sys/fs/file-max", "5000\n", "fs.file-max", MACHINE_WARNING, "5000 files"},
        {"/proc/sys/net/core/somaxconn", "128\n", "net.core.somaxconn", MACHINE_WARNING, "128 connections"},
        {"/proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n", "net.ipv4.tcp_max_syn_backlog", MACHINE_NOTE, "128"},
        {"/proc/sys/net/ipv4/ip_local_port_range", "60000 61000\n", "net.ipv4.ip_local_port_range", MACHINE_WARNING,
         "1001 ports"},
    };
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        put_good(1, 4, 1, 16384);
        tree_write(root, all[i].path, all[i].text);
        make(REMOTE);
        cr_expect_eq(plan.finding_count, 1, "%s: %u", all[i].subject, plan.finding_count);
        expect_finding(all[i].subject, all[i].severity, all[i].part);
        tree_remove(root);
        root = tree_make();
    }
}

Test(machine_plan, a_governor_of_that_name_that_does_raise_the_clock_is_fine)
{
    put_good(1, 4, 1, 16384);
    tree_write(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
    tree_write(root, "/sys/devices/system/cpu/cpu0/cpufreq/scaling_driver", "intel_pstate\n");
    make(REMOTE);
    cr_expect_eq(plan.finding_count, 0);
}

Test(machine_plan, ports_do_not_matter_to_unix_sockets)
{
    put_good(1, 2, 1, 16384);
    tree_write(root, "/proc/sys/net/ipv4/ip_local_port_range", "60000 61000\n");
    make("upstreams: [{name: u, endpoints: ['unix:/b']}]\nroutes: [{path: /, http: {upstream: u}}]\n");
    cr_expect_eq(plan.finding_count, 0);
}

Test(machine_plan, a_card_with_one_queue_is_noted_unless_rps_spreads_it)
{
    put_good(1, 4, 1, 16384);
    tree_remove(root);
    root = tree_make();
    put_good(1, 4, 1, 16384);
    tree_put_nic(root, "eth9", 1, 40000, -1);
    make(REMOTE);
    expect_finding("rps", MACHINE_NOTE, "eth9 has one receive queue");
    tree_write(root, "/sys/class/net/eth9/queues/rx-0/rps_cpus", "0f\n");
    make(REMOTE);
    cr_expect_null(about("rps"));
}

Test(machine_plan, the_worst_is_said_first)
{
    put_good(1, 4, 1, 16384);
    tree_write(root, "/sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never\n");
    tree_write(root, "/proc/sys/net/core/somaxconn", "128\n");
    tree_write(root, "/proc/sys/kernel/io_uring_disabled", "2\n");
    make(REMOTE);
    cr_assert_eq(plan.finding_count, 3);
    cr_expect_eq(plan.findings[0].severity, MACHINE_ERROR);
    cr_expect_eq(plan.findings[1].severity, MACHINE_WARNING);
    cr_expect_eq(plan.findings[2].severity, MACHINE_NOTE);
    cr_expect_eq(machine_plan_count(&plan, MACHINE_NOTE), 3);
    cr_expect_eq(machine_plan_count(&plan, MACHINE_WARNING), 2);
    cr_expect_eq(machine_plan_count(&plan, MACHINE_ERROR), 1);
}

Test(machine_plan, what_was_tried_counts_more_than_what_a_setting_says)
{
    put_good(1, 4, 1, 16384);
    tree_write(root, "/proc/sys/kernel/io_uring_disabled", "1\n");
    machine_read(root, &machine);
    machine.io_uring = MACHINE_IO_URING_WORKS;
    struct config *config = parse_right(LISTENERS ROUTES);
    machine_plan_make(&machine, config, &plan);
    cr_expect_eq(plan.finding_count, 0);
    machine.io_uring = MACHINE_IO_URING_FAILS;
    machine_plan_make(&machine, config, &plan);
    expect_finding("kernel.io_uring_disabled", MACHINE_ERROR, "not allowed to this process");
    machine.settings[MACHINE_IO_URING_DISABLED] = 0;
    machine_plan_make(&machine, config, &plan);
    expect_finding("io_uring", MACHINE_ERROR, "refuses");
    config_destroy(config);
}

Test(machine_plan, slow_cores_beside_fast_ones_are_noted)
{
    put_good(1, 4, 1, 16384);
    machine_read(root, &machine);
    machine.topology.kind_count = 2;
    machine.topology.cpus[0].kind = 1;
    struct config *config = parse_right(LISTENERS ROUTES);
    machine_plan_make(&machine, config, &plan);
    expect_finding("workers", MACHINE_NOTE, "cores of 2 kinds");
    config_destroy(config);
}

Test(machine_plan, sizes_are_written_as_people_write_them)
{
    char out[MACHINE_SIZE_BYTES];
    cr_expect_str_eq(machine_size(0, out), "0 bytes");
    cr_expect_str_eq(machine_size(1023, out), "1023 bytes");
    cr_expect_str_eq(machine_size(16384, out), "16 KB");
    cr_expect_str_eq(machine_size(3 * GB / 2, out), "1.5 GB");
    cr_expect_str_eq(machine_size(260 * MB + 1, out), "260 MB");
    cr_expect_str_eq(machine_size(UINT64_MAX, out), "16 EB");
}
