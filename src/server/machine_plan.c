/* The figures. A limit that cuts one says so: the reason printed is the last that changed the number. */
#include "server/machine_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "ring/ring.h"

enum {
    BUFFERS_SHARE = 8,         /* receive buffers take at most so many'th of the memory */
    MAPPINGS_PER_FIBER = 2,    /* its stack, and the page that guards it */
    DESCRIPTORS_RESERVED = 64, /* standard streams, rings, the database, names being looked up */
};

const char *machine_figure_name(enum machine_figure_name figure)
{
    static const char *const names[MACHINE_FIGURES] = {
        [MACHINE_WORKERS] = "workers",         [MACHINE_PINNED] = "pinned",
        [MACHINE_CACHE_BYTES] = "cache_bytes", [MACHINE_RECEIVE_BUFFERS] = "receive_buffers",
        [MACHINE_FIBERS] = "fibers",           [MACHINE_CONNECTIONS] = "connections",
    };
    return names[figure];
}

const char *machine_severity_name(enum machine_severity severity)
{
    static const char *const names[MACHINE_SEVERITIES] = {"note", "warning", "error"};
    return names[severity];
}

const char *machine_size(uint64_t bytes, char out[MACHINE_SIZE_BYTES])
{
    static const char *const units[] = {"bytes", "KB", "MB", "GB", "TB", "PB", "EB"};
    unsigned unit = 0;
    double value = (double)bytes;
    while (value >= 1024 && unit + 1 < ARRAY_COUNT(units)) {
        value /= 1024;
        unit++;
    }
    snprintf(out, MACHINE_SIZE_BYTES, "%.*f %s", unit == 0 || value >= 100 || value == (double)(uint64_t)value ? 0 : 1,
             value, units[unit]);
    return out;
}

unsigned machine_plan_count(const struct machine_plan *plan, enum machine_severity severity)
{
    unsigned count = 0;
    for (unsigned i = 0; i < plan->finding_count; i++) {
        count += plan->findings[i].severity >= severity ? 1 : 0;
    }
    return count;
}

/* ---- helpers ---- */

__attribute__((format(printf, 4, 5))) static void set_figure(struct machine_figure *figure, uint64_t value,
                                                             enum machine_source source, const char *format, ...)
{
    va_list arguments;
    figure->value = value;
    figure->source = source;
    va_start(arguments, format);
    vsnprintf(figure->reason, sizeof(figure->reason), format, arguments);
    va_end(arguments);
}

static bool is_own_address(const struct config_endpoint *endpoint)
{
    if (endpoint->is_name) {
        return bytes_starts_with(endpoint->text, BYTES("localhost:"));
    }
    const struct ring_address *address = &endpoint->address;
    switch (address->any.sa_family) {
    case AF_UNIX: return true;
    case AF_INET: return ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    case AF_INET6: return IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
    default: return false;
    }
}

bool machine_has_own_backends(const struct config *config)
{
    for (unsigned u = 0; u < config->upstream_count; u++) {
        for (unsigned e = 0; e < config->upstreams[u].endpoint_count; e++) {
            if (is_own_address(&config->upstreams[u].endpoints[e])) {
                return true;
            }
        }
    }
    return false;
}

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

/* ---- workers ---- */

/* One per core: a core's second thread adds little to a worker's work, which waits for the kernel and for memory, and
 * is where the kernel's own work and backends run without taking turns with it. But where there are few CPUs, each
 * counts. */
static void count_by_cores(const struct topology *topology, struct machine_figure *figure)
{
    unsigned cpus = topology->cpu_count;
    unsigned cores = topology->core_count;
    if (cores == cpus) {
        set_figure(figure, cpus, MACHINE_DERIVED, "one for each core that this process may use (%u)", cpus);
    } else if (cpus <= MACHINE_SMALL_CPUS) {
        set_figure(
            figure, cpus, MACHINE_DERIVED,
            "one for each of the %u CPUs that this process may use: so few (up to %u) are all taken, though they "
            "are threads of %u core%s",
            cpus, MACHINE_SMALL_CPUS, cores, plural(cores));
    } else {
        unsigned count = cores < MACHINE_SMALL_CPUS ? MACHINE_SMALL_CPUS : cores;
        set_figure(
            figure, count, MACHINE_DERIVED,
            "%s of the %u cores that this process may use; the second threads of cores (it has %u CPUs) are left "
            "to the kernel's network work and to other programs",
            count > cores ? "four, on CPUs" : "one for each", cores, cpus);
    }
}

/* A backend takes at least as much CPU for a request as the gateway does. */
static void cut_for_backends(const struct config *config, unsigned gpus, struct machine_figure *figure)
{
    if (figure->value < MACHINE_SMALL_CPUS || !machine_has_own_backends(config)) {
        return;
    }
    uint64_t count = figure->value;
    set_figure(figure, count / 2, MACHINE_DERIVED,
               "half of what would be %u: backends run on this machine (endpoints on loopback or unix sockets%s), and "
               "take at least as much CPU as the gateway",
               (unsigned)count, gpus > 0 ? ", and GPUs" : "");
}

/* Rounded down: workers that all compute cannot use it up, so that none of them stands still until the period ends. */
static void cut_for_quota(const struct machine_limits *limits, struct machine_figure *figure)
{
    if (limits->cpu.cpus <= 0 || limits->cpu.cpus >= (double)figure->value) {
        return;
    }
    unsigned whole = limits->cpu.cpus < 1 ? 1 : (unsigned)limits->cpu.cpus;
    set_figure(figure, whole, MACHINE_DERIVED, "the quota of %.4g CPUs (%s)%s", limits->cpu.cpus, limits->cpu.where,
               limits->cpu.cpus < 1               ? " is not even one; there is always one worker"
               : limits->cpu.cpus > (double)whole ? ", rounded down: workers at full speed then never use it up and "
                                                    "stand still"
                                                  : "");
}

static void cut_for_memory(const struct machine_limits *limits, struct machine_figure *figure)
{
    uint64_t most = limits->memory_bytes / MACHINE_WORKER_MEMORY_BYTES;
    most = most == 0 ? 1 : most;
    if (limits->memory_bytes == 0 || most >= figure->value) {
        return;
    }
    char size[MACHINE_SIZE_BYTES];
    char each[MACHINE_SIZE_BYTES];
    set_figure(figure, most, MACHINE_DERIVED, "%s of memory leave %s for each, which is the least",
               machine_size(limits->memory_bytes, size), machine_size(MACHINE_WORKER_MEMORY_BYTES, each));
}

/* The kernel charges rings to what the user may lock; one that is refused ends the start. */
static void cut_for_locked_memory(const struct machine *machine, struct machine_figure *figure)
{
    const struct machine_rlimit *limit = &machine->locked_bytes;
    uint64_t most = limit->hard / MACHINE_WORKER_LOCKED_BYTES;
    most = most == 0 ? 1 : most;
    if (!limit->is_known || machine->locks_freely || most >= figure->value) {
        return;
    }
    char size[MACHINE_SIZE_BYTES];
    char each[MACHINE_SIZE_BYTES];
    set_figure(figure, most, MACHINE_DERIVED, "the limit of %s on locked memory, of which a worker's ring takes %s",
               machine_size(limit->hard, size), machine_size(MACHINE_WORKER_LOCKED_BYTES, each));
}

static void plan_workers(const struct machine *machine, const struct config *config, struct machine_plan *plan)
{
    struct machine_figure *figure = &plan->figures[MACHINE_WORKERS];
    count_by_cores(&machine->topology, figure);
    cut_for_backends(config, machine->gpu_count, figure);
    cut_for_quota(&machine->limits, figure);
    cut_for_memory(&machine->limits, figure);
    cut_for_locked_memory(machine, figure);
    if (config->workers > 0) {
        unsigned would_be = (unsigned)figure->value;
        set_figure(figure, config->workers, MACHINE_CONFIGURED, "workers: %u is set; auto would be %u", config->workers,
                   would_be);
    }
    plan->workers = (unsigned)figure->value;
}

/* ---- where they run ---- */

/* Under a quota other groups have the same CPUs: every container that pinned itself to the first of them would meet all
 * others there. */
static void plan_pinning(const struct machine *machine, const struct config *config, struct machine_plan *plan)
{
    struct machine_figure *figure = &plan->figures[MACHINE_PINNED];
    const struct topology *topology = &machine->topology;
    double quota = machine->limits.cpu.cpus;
    bool is_set = config->pin != CONFIG_BOOL_AUTO;
    plan->cpu_count = topology->cpu_count;
    for (unsigned i = 0; i < topology->cpu_count; i++) {
        plan->cpus[i] = topology->cpus[i].cpu;
    }
    if (config->pin == 0) {
        set_figure(figure, 0, MACHINE_CONFIGURED, "pin: false is set");
    } else if (plan->workers > topology->cpu_count) {
        set_figure(figure, 0, MACHINE_DERIVED, "%u workers are more than the %u CPU%s: they would only take turns",
                   plan->workers, topology->cpu_count, plural(topology->cpu_count));
    } else if (!is_set && quota > 0 && quota < topology->cpu_count) {
        set_figure(figure, 0, MACHINE_DERIVED,
                   "under a quota of %.4g of %u CPUs others run on the same ones, and the kernel finds the idle one "
                   "better; for a cpuset of its own set pin: true",
                   quota, topology->cpu_count);
    } else {
        const char *order = topology->node_count > 1   ? ", the node of the network card first"
                            : topology->kind_count > 1 ? ", fast cores first"
                                                       : "";
        set_figure(figure, plan->workers, is_set ? MACHINE_CONFIGURED : MACHINE_DERIVED, "%seach on a CPU of its own%s",
                   is_set ? "pin: true is set: " : "", order);
    }
    plan->pin = figure->value > 0;
}

/* ---- memory, descriptors ---- */

static void plan_cache(const struct machine *machine, const struct config *config, struct machine_plan *plan)
{
    struct machine_figure *figure = &plan->figures[MACHINE_CACHE_BYTES];
    const struct config_memory *memory = &config->cache.memory;
    uint64_t bytes = config_cache_memory_bytes(config, machine->limits.memory_bytes);
    char size[MACHINE_SIZE_BYTES];
    if (memory->percent > 0) {
        set_figure(figure, bytes, MACHINE_DERIVED, "cache.memory: %u%% of the %s that this process may use",
                   memory->percent, machine_size(machine->limits.memory_bytes, size));
    } else {
        set_figure(figure, bytes, MACHINE_CONFIGURED, "cache.memory: %s is set%s", machine_size(bytes, size),
                   bytes == 0 ? ": there is no cache" : "");
    }
}

static void plan_buffers(const struct machine *machine, struct machine_plan *plan)
{
    struct machine_figure *figure = &plan->figures[MACHINE_RECEIVE_BUFFERS];
    uint64_t memory = machine->limits.memory_bytes;
    uint64_t each = RING_RECEIVE_BUFFER_BYTES;
    uint64_t count = RING_RECEIVE_BUFFERS;
    while (memory > 0 && count > MACHINE_BUFFERS_MIN && count * each * plan->workers > memory / BUFFERS_SHARE) {
        count /= 2;
    }
    char size[MACHINE_SIZE_BYTES];
    char all[MACHINE_SIZE_BYTES];
    machine_size(count * each * plan->workers, all);
    if (count == RING_RECEIVE_BUFFERS) {
        set_figure(figure, count, MACHINE_DERIVED,
                   "of %s for each worker, the usual number; together %s when all have been used",
                   machine_size(each, size), all);
    } else {
        set_figure(figure, count, MACHINE_DERIVED,
                   "for each worker, fewer than the usual %u: together %s, where %s of memory allow an eighth",
                   RING_RECEIVE_BUFFERS, all, machine_size(memory, size));
    }
}

/* Three quarters of the mappings: the rest is the allocator's and the cache's. Beyond the limit not only stacks fail,
 * but whatever wants memory. */
static void plan_fibers(const struct machine *machine, struct machine_plan *plan)
{
    struct machine_figure *figure = &plan->figures[MACHINE_FIBERS];
    int64_t mappings = machine->settings[MACHINE_MAX_MAP_COUNT];
    uint64_t most = mappings <= 0 ? UINT64_MAX : (uint64_t)mappings / 4 * 3 / MAPPINGS_PER_FIBER / plan->workers;
    most = most < MACHINE_FIBERS_MIN ? MACHINE_FIBERS_MIN : most;
    if (most >= RING_FIBERS_MAX) {
        set_figure(figure, RING_FIBERS_MAX, MACHINE_DERIVED,
                   "requests of each worker that may wait for a connection at once, the usual number");
    } else {
        set_figure(
            figure, most, MACHINE_DERIVED,
            "requests of each worker that may wait for a connection at once: each has a stack of %u mappings, and "
            "vm.max_map_count is %lld for all workers (usual: %u)",
            MAPPINGS_PER_FIBER, (long long)mappings, RING_FIBERS_MAX);
    }
}

static void plan_connections(const struct machine *machine, const struct config *config, struct machine_plan *plan)
{
    struct machine_figure *figure = &plan->figures[MACHINE_CONNECTIONS];
    uint64_t wanted = (uint64_t)config->limits.connections_max * plan->workers;
    uint64_t most = machine->descriptors.is_known ? machine->descriptors.hard : UINT64_MAX;
    uint64_t reserved = DESCRIPTORS_RESERVED + (uint64_t)(config->listener_count + 4) * plan->workers;
    if (most == UINT64_MAX || most >= wanted + reserved) {
        set_figure(figure, wanted, MACHINE_CONFIGURED, "limits.connections_max: %u × %u worker%s",
                   config->limits.connections_max, plan->workers, plural(plan->workers));
    } else {
        set_figure(
            figure, most > reserved ? most - reserved : 0, MACHINE_DERIVED,
            "the limit of %llu open files, of which the gateway needs %llu; limits.connections_max would be %llu "
            "together",
            (unsigned long long)most, (unsigned long long)reserved, (unsigned long long)wanted);
    }
}

void machine_plan_make(const struct machine *machine, const struct config *config, struct machine_plan *ret_plan)
{
    memset(ret_plan, 0, sizeof(*ret_plan));
    plan_workers(machine, config, ret_plan);
    plan_pinning(machine, config, ret_plan);
    plan_cache(machine, config, ret_plan);
    plan_buffers(machine, ret_plan);
    plan_fibers(machine, ret_plan);
    plan_connections(machine, config, ret_plan);
    machine_find(machine, config, ret_plan);
}
