/* Which cores to use: affinity and cgroup decide, hwloc knows which of them share a core. And how much memory. */
#include "ring/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Ceil(quota ÷ period) from a cgroup v2 `cpu.max` such as "150000 100000"; 0 when it sets none ("max 100000"). */
static uint64_t cpus_of(FILE *file)
{
    unsigned long long quota;
    unsigned long long period;
    bool is_set = fscanf(file, "%llu %llu", &quota, &period) == 2 && period > 0;
    return is_set ? (quota + period - 1) / period : 0;
}

/* Bytes from a cgroup v2 `memory.max`; 0 when it sets none ("max"). */
static uint64_t bytes_of(FILE *file)
{
    unsigned long long bytes;
    return fscanf(file, "%llu", &bytes) == 1 ? bytes : 0;
}

/* The tightest limit on the way from this process's cgroup (version 2) to the root, as `parse` reads it from the
 * group's file of that name; 0: none. */
static uint64_t read_limit(const char *name, uint64_t (*parse)(FILE *file))
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file == NULL) {
        return 0;
    }
    char line[1024];
    char group[1024] = "";
    while (fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "0::", 3) == 0) {
            snprintf(group, sizeof(group), "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
        }
    }
    fclose(file);
    uint64_t tightest = 0;
    for (;;) {
        char path[1200];
        snprintf(path, sizeof(path), "/sys/fs/cgroup%s/%s", strcmp(group, "/") == 0 ? "" : group, name);
        FILE *limits = fopen(path, "re");
        uint64_t limit = limits == NULL ? 0 : parse(limits);
        if (limits != NULL) {
            fclose(limits);
        }
        if (limit > 0 && (tightest == 0 || limit < tightest)) {
            tightest = limit;
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
    ret_topology->cpu_quota = (unsigned)read_limit("cpu.max", cpus_of);
}

uint64_t ring_memory_bytes(void)
{
    unsigned long long total_kb = 0;
    FILE *file = fopen("/proc/meminfo", "re");
    if (file != NULL) {
        if (fscanf(file, "MemTotal: %llu kB", &total_kb) != 1) {
            total_kb = 0;
        }
        fclose(file);
    }
    uint64_t machine = (uint64_t)total_kb * 1024;
    uint64_t limit = read_limit("memory.max", bytes_of);
    return limit > 0 && (machine == 0 || limit < machine) ? limit : machine;
}
