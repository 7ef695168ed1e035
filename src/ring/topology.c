/* Which cores to use: affinity and cgroup decide, hwloc knows which of them share a core. And how much memory. */
#include "ring/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/cgroup.h"

/* Ceil(quota ÷ period) from a cgroup v2 `cpu.max` such as "150000 100000"; 0 when it sets none ("max 100000"). */
static uint64_t cpus_of(FILE *file)
{
    unsigned long long quota;
    unsigned long long period;
    bool is_set = fscanf(file, "%llu %llu", &quota, &period) == 2 && period > 0;
    return is_set ? (quota + period - 1) / period : 0;
}

/* Bytes from `memory.max`, `memory.high` or `memory.limit_in_bytes`; 0 when it sets none ("max"). */
static uint64_t bytes_of(FILE *file)
{
    unsigned long long bytes;
    return fscanf(file, "%llu", &bytes) == 1 ? bytes : 0;
}

/* Where a limit stands: in the one hierarchy of version 2, or in a controller's own of version 1. */
struct cgroup_limit {
    const char *controller; /* of version 1; NULL: version 2 */
    const char *mount;
    const char *name;
    uint64_t (*parse)(FILE *file);
};

/* The tightest on the way from this process's group to the root; 0: none. A container may see its group's path as the
 * host does, and only its own part of the hierarchy: what is not there is passed over. */
static uint64_t read_limit(const char *root, const struct cgroup_limit *limit)
{
    char group[1024];
    cgroup_find(root, limit->controller, group, sizeof(group));
    uint64_t tightest = 0;
    for (;;) {
        char path[2400];
        snprintf(path, sizeof(path), "%s%s%s/%s", root, limit->mount, strcmp(group, "/") == 0 ? "" : group,
                 limit->name);
        FILE *file = fopen(path, "re");
        uint64_t value = file == NULL ? 0 : limit->parse(file);
        if (file != NULL) {
            fclose(file);
        }
        if (value > 0 && (tightest == 0 || value < tightest)) {
            tightest = value;
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL) {
            return tightest;
        }
        *slash = '\0';
    }
}

static void add_cpu(struct topology *topology, unsigned cpu, const cpu_set_t *allowed)
{
    if (cpu < TOPOLOGY_CPUS_MAX && CPU_ISSET(cpu, allowed) && topology->cpu_count < TOPOLOGY_CPUS_MAX) {
        topology->cpus[topology->cpu_count++] = (uint16_t)cpu;
    }
}

/* Every core's first allowed thread, then the second of each, and so on. */
static void order_by_core(struct topology *topology, hwloc_topology_t hw, const cpu_set_t *allowed)
{
    int cores = hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_CORE);
    for (unsigned sibling = 0; sibling < 8; sibling++) {
        for (int i = 0; i < cores; i++) {
            hwloc_obj_t core = hwloc_get_obj_by_type(hw, HWLOC_OBJ_CORE, (unsigned)i);
            unsigned seen = 0;
            int cpu;
            hwloc_bitmap_foreach_begin(cpu, core->cpuset)
            {
                if (CPU_ISSET((size_t)cpu, allowed) && seen++ == sibling) {
                    add_cpu(topology, (unsigned)cpu, allowed);
                }
            }
            hwloc_bitmap_foreach_end();
        }
        if (sibling == 0) {
            topology->core_count = topology->cpu_count;
        }
    }
}

void topology_read(struct topology *ret_topology)
{
    memset(ret_topology, 0, sizeof(*ret_topology));
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
        CPU_SET(0, &allowed);
    }
    hwloc_topology_t hw;
    if (hwloc_topology_init(&hw) == 0) {
        if (hwloc_topology_load(hw) == 0) {
            order_by_core(ret_topology, hw, &allowed);
        }
        hwloc_topology_destroy(hw);
    }
    if ((int)ret_topology->cpu_count < CPU_COUNT(&allowed)) {
        /* hwloc could not tell (no /sys): the kernel's order has to do. */
        ret_topology->cpu_count = 0;
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            add_cpu(ret_topology, cpu, &allowed);
        }
        ret_topology->core_count = ret_topology->cpu_count;
    }
    ret_topology->cpu_quota =
        (unsigned)read_limit("", &(struct cgroup_limit){NULL, "/sys/fs/cgroup", "cpu.max", cpus_of});
}

uint64_t ring_memory_bytes(const char *root)
{
    static const struct cgroup_limit limits[] = {
        {NULL, "/sys/fs/cgroup", "memory.max", bytes_of},
        {NULL, "/sys/fs/cgroup", "memory.high", bytes_of},
        {"memory", "/sys/fs/cgroup/memory", "memory.limit_in_bytes", bytes_of},
    };
    unsigned long long total_kb = 0;
    char path[1024];
    snprintf(path, sizeof(path), "%s/proc/meminfo", root);
    FILE *file = fopen(path, "re");
    if (file != NULL) {
        if (fscanf(file, "MemTotal: %llu kB", &total_kb) != 1) {
            total_kb = 0;
        }
        fclose(file);
    }
    uint64_t bytes = (uint64_t)total_kb * 1024;
    for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
        uint64_t limit = read_limit(root, &limits[i]);
        bytes = limit > 0 && (bytes == 0 || limit < bytes) ? limit : bytes;
    }
    return bytes;
}
