/* What about the machine will hurt, each with what to do. One function each; a fact that is not known finds nothing. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "ring/ring.h"
#include "server/machine_plan.h"

enum {
    KERNEL_MAJOR_MIN = 6, /* IORING_SETUP_DEFER_TASKRUN */
    KERNEL_MINOR_MIN = 1,
    SOMAXCONN_LOW = 4096, /* the kernel's own default since 5.4 */
    SYN_BACKLOG_LOW = 1024,
    PORTS_LOW = 10000,
    MEMORY_PERCENT_MAX = 90, /* for the cache and buffers: as the most that the configuration takes as a percentage */
    PROCESSES_RESERVED = 16, /* observer, store, the kernel's own helpers for a ring */
};

struct finder {
    const struct machine *machine;
    const struct config *config;
    struct machine_plan *plan;
};

/* What a finding says beside its sentence. */
struct advice {
    enum machine_severity severity;
    const char *subject;
    const char *remedy;
    const char *tune;
};

__attribute__((format(printf, 3, 4))) static void tell(struct finder *finder, struct advice advice, const char *format,
                                                       ...)
{
    struct machine_plan *plan = finder->plan;
    CHECK(plan->finding_count < MACHINE_FINDINGS_MAX);
    unsigned at = plan->finding_count++;
    for (; at > 0 && plan->findings[at - 1].severity < advice.severity; at--) {
        plan->findings[at] = plan->findings[at - 1];
    }
    struct machine_finding *finding = &plan->findings[at];
    *finding = (struct machine_finding){
        .severity = advice.severity,
        .subject = advice.subject,
        .remedy = advice.remedy,
        .tune = advice.tune,
    };
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(finding->what, sizeof(finding->what), format, arguments);
    va_end(arguments);
}

/* -1: not known. */
static long long setting(const struct finder *finder, enum machine_setting which)
{
    return (long long)finder->machine->settings[which];
}

/* ---- what it cannot start without ---- */

static void find_kernel(struct finder *finder)
{
    const struct machine *machine = finder->machine;
    bool is_old = machine->kernel_major < KERNEL_MAJOR_MIN ||
                  (machine->kernel_major == KERNEL_MAJOR_MIN && machine->kernel_minor < KERNEL_MINOR_MIN);
    if (machine->kernel_major > 0 && is_old) {
        tell(finder, (struct advice){MACHINE_ERROR, "kernel", "upgrade to Linux 6.1 or newer", NULL},
             "Linux %s is too old: io_uring as the workers use it came with 6.1", machine->kernel);
    }
}

/* Which what the user may lock has room for. */
static uint64_t rings_allowed(const struct machine *machine)
{
    const struct machine_rlimit *limit = &machine->locked_bytes;
    bool is_limited = limit->is_known && !machine->locks_freely;
    return is_limited ? limit->hard / MACHINE_WORKER_LOCKED_BYTES : UINT64_MAX;
}

static void find_io_uring(struct finder *finder)
{
    enum machine_io_uring tried = finder->machine->io_uring;
    long long disabled = setting(finder, MACHINE_IO_URING_DISABLED);
    const char *name = machine_setting_name(MACHINE_IO_URING_DISABLED);
    if (tried == MACHINE_IO_URING_WORKS || (tried == MACHINE_IO_URING_UNKNOWN && disabled <= 0)) {
        return;
    }
    if (disabled == 1 && tried == MACHINE_IO_URING_UNKNOWN) {
        tell(finder,
             (struct advice){MACHINE_WARNING, name,
                             "sysctl kernel.io_uring_disabled=0, or run in kernel.io_uring_group", name},
             "it is 1: io_uring is only for who has CAP_SYS_ADMIN or is in kernel.io_uring_group");
    } else if (disabled > 0) {
        tell(finder, (struct advice){MACHINE_ERROR, name, "sysctl kernel.io_uring_disabled=0", name},
             "it is %lld: io_uring, without which no worker runs, is not allowed to this process", disabled);
    } else if (rings_allowed(finder->machine) > 0) { /* else find_locked_memory has the reason */
        tell(finder,
             (struct advice){MACHINE_ERROR, "io_uring",
                             "in a container a seccomp profile that allows io_uring; else a kernel that has it", NULL},
             "the kernel refuses io_uring, without which no worker runs");
    }
}

/* ---- CPUs ---- */

static void find_quota(struct finder *finder)
{
    const struct cgroup_cpu *cpu = &finder->machine->limits.cpu;
    const struct machine_figure *workers = &finder->plan->figures[MACHINE_WORKERS];
    if (cpu->cpus <= 0) {
        return;
    }
    if (cpu->cpus < 1) {
        tell(finder, (struct advice){MACHINE_WARNING, "cpu quota", "a quota of at least one CPU, or a weight", NULL},
             "%.4g CPUs (%s): a worker that computes stands still for the rest of each period, and every request on it",
             cpu->cpus, cpu->where);
    } else if (workers->source == MACHINE_CONFIGURED && (double)workers->value > cpu->cpus) {
        tell(finder, (struct advice){MACHINE_WARNING, "workers", "workers: auto, or a larger quota", NULL},
             "%llu are set under a quota of %.4g CPUs (%s): when they are busy all stand still until its period ends",
             (unsigned long long)workers->value, cpu->cpus, cpu->where);
    }
    if (finder->config->pin == true && finder->plan->pin && cpu->cpus < finder->machine->topology.cpu_count) {
        tell(finder, (struct advice){MACHINE_NOTE, "pin", "pin: auto, unless these CPUs are a cpuset of its own", NULL},
             "true is set under a quota of %.4g of %u CPUs: others who pin themselves meet the workers there",
             cpu->cpus, finder->machine->topology.cpu_count);
    }
}

static void find_workers(struct finder *finder)
{
    const struct topology *topology = &finder->machine->topology;
    const struct machine_plan *plan = finder->plan;
    if (plan->workers > topology->cpu_count) {
        tell(finder, (struct advice){MACHINE_WARNING, "workers", "workers: auto", NULL},
             "%u are set, and there are %u CPUs: they take turns, and each wait is a client's", plan->workers,
             topology->cpu_count);
        return;
    }
    bool is_mixed = false;
    for (unsigned i = 1; i < plan->workers; i++) {
        is_mixed = is_mixed || topology->cpus[i].kind != topology->cpus[0].kind;
    }
    if (is_mixed) {
        tell(finder, (struct advice){MACHINE_NOTE, "workers", "as many workers as there are fast cores", NULL},
             "they run on cores of %u kinds: connections are spread evenly, and those on slow cores wait longer",
             topology->kind_count);
    }
}

static void find_processes(struct finder *finder)
{
    const struct machine_rlimit *limit = &finder->machine->processes;
    uint64_t wanted = (uint64_t)finder->plan->workers + PROCESSES_RESERVED;
    if (limit->is_known && limit->soft < wanted) {
        tell(finder, (struct advice){MACHINE_WARNING, "nproc", "ulimit -u, or systemd's LimitNPROC=", "nproc"},
             "the user may have %llu threads, all programs together, and this one takes up to %llu",
             (unsigned long long)limit->soft, (unsigned long long)wanted);
    }
}

static void find_locked_memory(struct finder *finder)
{
    const struct machine_rlimit *limit = &finder->machine->locked_bytes;
    uint64_t rings = rings_allowed(finder->machine);
    if (rings > finder->plan->workers) {
        return;
    }
    char size[2][MACHINE_SIZE_BYTES];
    enum machine_severity severity = rings < finder->plan->workers ? MACHINE_ERROR : MACHINE_WARNING;
    tell(finder, (struct advice){severity, "memlock", "ulimit -Hl, or systemd's LimitMEMLOCK=", "memlock"},
         "the user may lock %s, all programs together, and each worker (%u) takes %s of it for its ring",
         machine_size(limit->hard, size[0]), finder->plan->workers, machine_size(MACHINE_WORKER_LOCKED_BYTES, size[1]));
}

static void find_governor(struct finder *finder)
{
    const struct machine *machine = finder->machine;
    /* intel_pstate and amd-pstate call by the same name a governor that does raise the clock. */
    bool is_fixed = strcmp(machine->governor, "powersave") == 0 && strstr(machine->frequency_driver, "pstate") == NULL;
    if (is_fixed) {
        tell(finder,
             (struct advice){MACHINE_WARNING, "cpu governor", "cpupower frequency-set -g performance",
                             "scaling_governor"},
             "powersave keeps CPUs at their lowest clock (driver %s)", machine->frequency_driver);
    }
}

static void find_clock(struct finder *finder)
{
    static const char *const slow[] = {"hpet", "acpi_pm", "xen", "jiffies"};
    for (size_t i = 0; i < ARRAY_COUNT(slow); i++) {
        if (strcmp(finder->machine->clock_source, slow[i]) == 0) {
            tell(finder,
                 (struct advice){MACHINE_WARNING, "clocksource",
                                 "see why the kernel gave up tsc: dmesg | grep -i -e tsc -e clocksource",
                                 "current_clocksource"},
                 "%s: each look at the clock is a system call or worse, and a worker takes two a turn", slow[i]);
        }
    }
}

/* ---- memory ---- */

static void find_memory(struct finder *finder)
{
    const struct machine_plan *plan = finder->plan;
    uint64_t usable = finder->machine->limits.memory_bytes;
    uint64_t cache = plan->figures[MACHINE_CACHE_BYTES].value;
    uint64_t buffers = plan->figures[MACHINE_RECEIVE_BUFFERS].value * RING_RECEIVE_BUFFER_BYTES * plan->workers;
    uint64_t most = usable / 100 * MEMORY_PERCENT_MAX;
    struct advice advice = {MACHINE_WARNING, "cache.memory", "a smaller cache.memory, or a higher limit", NULL};
    if (usable > 0 && cache > most) {
        tell(finder, advice,
             "cache.memory is %llu bytes, of %llu that the cgroup or the machine allows: leave room for the rest",
             (unsigned long long)cache, (unsigned long long)usable);
    } else if (usable > 0 && cache + buffers > most) {
        char size[3][MACHINE_SIZE_BYTES];
        tell(finder, advice, "the cache (%s) and receive buffers (%s) leave too little of %s for requests",
             machine_size(cache, size[0]), machine_size(buffers, size[1]), machine_size(usable, size[2]));
    }
}

static void find_mappings(struct finder *finder)
{
    const struct machine_figure *fibers = &finder->plan->figures[MACHINE_FIBERS];
    const char *name = machine_setting_name(MACHINE_MAX_MAP_COUNT);
    if (fibers->value < RING_FIBERS_MAX) {
        tell(finder, (struct advice){MACHINE_NOTE, name, "sysctl vm.max_map_count=262144", name},
             "%lld lets %llu requests of each worker wait for a connection at once, rather than %u; further ones get "
             "503",
             setting(finder, MACHINE_MAX_MAP_COUNT), (unsigned long long)fibers->value, RING_FIBERS_MAX);
    }
}

static void find_overcommit(struct finder *finder)
{
    const char *name = machine_setting_name(MACHINE_OVERCOMMIT);
    if (setting(finder, MACHINE_OVERCOMMIT) == 2) {
        tell(
            finder, (struct advice){MACHINE_WARNING, name, "sysctl vm.overcommit_memory=0", name},
            "it is 2: what is reserved counts as used, so that stacks and the cache are refused long before memory is");
    }
}

static void find_huge_pages(struct finder *finder)
{
    if (strcmp(finder->machine->huge_pages, "always") == 0) {
        tell(finder,
             (struct advice){MACHINE_NOTE, "transparent_hugepage",
                             "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
                             "transparent_hugepage/enabled"},
             "always: small stacks and buffers take 2 MB where 16 KB would do, and the kernel compacts memory for it");
    }
}

static void find_nodes(struct finder *finder)
{
    const struct topology *topology = &finder->machine->topology;
    if (topology->node_count < 2) {
        return;
    }
    const char *reclaim = machine_setting_name(MACHINE_ZONE_RECLAIM);
    if (setting(finder, MACHINE_ZONE_RECLAIM) > 0) {
        tell(finder, (struct advice){MACHINE_WARNING, reclaim, "sysctl vm.zone_reclaim_mode=0", reclaim},
             "it is %lld: a full node throws away its page cache rather than use another one's free memory",
             setting(finder, MACHINE_ZONE_RECLAIM));
    }
    const char *balancing = machine_setting_name(MACHINE_NUMA_BALANCING);
    if (setting(finder, MACHINE_NUMA_BALANCING) > 0 && finder->plan->pin) {
        tell(finder, (struct advice){MACHINE_NOTE, balancing, "sysctl kernel.numa_balancing=0", balancing},
             "the kernel takes page faults to learn where pinned workers' memory should be, which never changes");
    }
    const struct machine_nic *nic = machine_main_nic(finder->machine);
    unsigned away = 0;
    for (unsigned i = 0; i < finder->plan->workers && i < topology->cpu_count; i++) {
        away += nic != NULL && nic->node >= 0 && topology->cpus[i].node != nic->node ? 1 : 0;
    }
    if (away > 0 && finder->plan->pin) {
        tell(finder, (struct advice){MACHINE_NOTE, "workers", "as many workers as the card's node has cores", NULL},
             "%u of them are not on the node of %s (%d): what they receive crosses between nodes", away, nic->name,
             nic->node);
    }
}

/* ---- descriptors ---- */

static void find_descriptors(struct finder *finder)
{
    const struct machine_rlimit *limit = &finder->machine->descriptors;
    uint64_t wanted = (uint64_t)finder->config->limits.connections_max * finder->plan->workers;
    long long file_max = setting(finder, MACHINE_FILE_MAX);
    if (limit->is_known && limit->hard < wanted) {
        tell(finder,
             (struct advice){MACHINE_WARNING, "nofile",
                             "ulimit -Hn, or systemd's LimitNOFILE=; or fewer connections_max", "nofile"},
             "open files are limited to %llu, fewer than the %llu connections configured; accepting pauses when they "
             "are "
             "used up (ulimit -n)",
             (unsigned long long)limit->hard, (unsigned long long)wanted);
    }
    uint64_t own = limit->is_known && limit->hard < wanted ? limit->hard : wanted;
    if (file_max > 0 && (uint64_t)file_max < own) {
        const char *name = machine_setting_name(MACHINE_FILE_MAX);
        tell(finder, (struct advice){MACHINE_WARNING, name, "a larger fs.file-max", name},
             "the whole machine may open %lld files, fewer than the %llu that this process may", file_max,
             (unsigned long long)own);
    }
}

/* ---- network ---- */

static bool has_tcp_upstream(const struct config *config)
{
    for (unsigned u = 0; u < config->upstream_count; u++) {
        for (unsigned e = 0; e < config->upstreams[u].endpoint_count; e++) {
            const struct config_endpoint *endpoint = &config->upstreams[u].endpoints[e];
            if (endpoint->is_name || endpoint->address.any.sa_family != AF_UNIX) {
                return true;
            }
        }
    }
    return false;
}

static void find_network(struct finder *finder)
{
    long long backlog = setting(finder, MACHINE_SOMAXCONN);
    long long half_open = setting(finder, MACHINE_SYN_BACKLOG);
    long long first = setting(finder, MACHINE_PORT_FIRST);
    long long last = setting(finder, MACHINE_PORT_LAST);
    if (backlog >= 0 && backlog < SOMAXCONN_LOW) {
        const char *name = machine_setting_name(MACHINE_SOMAXCONN);
        tell(finder, (struct advice){MACHINE_WARNING, name, "sysctl net.core.somaxconn=65535", name},
             "each worker's accept queue holds %lld connections: what comes in a burst beyond that waits a second for "
             "its "
             "SYN to be sent again",
             backlog);
    }
    if (half_open >= 0 && half_open < SYN_BACKLOG_LOW) {
        const char *name = machine_setting_name(MACHINE_SYN_BACKLOG);
        tell(finder, (struct advice){MACHINE_NOTE, name, "sysctl net.ipv4.tcp_max_syn_backlog=8192", name},
             "%lld handshakes under way per listener; beyond that clients are answered by SYN cookies", half_open);
    }
    if (first >= 0 && last >= first && last - first + 1 < PORTS_LOW && has_tcp_upstream(finder->config)) {
        const char *name = machine_setting_name(MACHINE_PORT_FIRST);
        tell(finder,
             (struct advice){MACHINE_WARNING, name, "sysctl net.ipv4.ip_local_port_range=\"16384 65535\"", name},
             "%lld ports from %lld: no more connections to one backend address can be open or in TIME-WAIT",
             last - first + 1, first);
    }
}

static void find_nic(struct finder *finder)
{
    const struct machine_nic *nic = machine_main_nic(finder->machine);
    if (nic != NULL && nic->receive_queues == 1 && !nic->has_rps && finder->plan->workers > 1) {
        tell(finder,
             (struct advice){MACHINE_NOTE, "rps", "more queues (ethtool -L), or rps_cpus of its queue", "rps_cpus"},
             "%s has one receive queue: one CPU takes all its packets, for %u workers", nic->name,
             finder->plan->workers);
    }
}

/* ---- all of them ---- */

void machine_find(const struct machine *machine, const struct config *config, struct machine_plan *plan)
{
    static void (*const finders[])(struct finder *) = {
        find_kernel,     find_io_uring,    find_quota,   find_workers,  find_locked_memory, find_processes,
        find_governor,   find_clock,       find_memory,  find_mappings, find_overcommit,    find_nodes,
        find_huge_pages, find_descriptors, find_network, find_nic,
    };
    struct finder finder = {machine, config, plan};
    for (size_t i = 0; i < ARRAY_COUNT(finders); i++) {
        finders[i](&finder);
    }
}
