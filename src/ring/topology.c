/* Which CPUs to use: affinity decides, hwloc knows which of them share a core. And how much memory. */
#include "ring/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/cgroup.h"
#include "ring/facts.h"

/* ---- what is allowed ---- */

/* The process's own affinity: the line of its main thread, which is never pinned. */
static bool read_affinity(const char *root, cpu_set_t *allowed)
{
    static const char name[] = "\nCpus_allowed_list:";
    char text[FACT_TEXT_BYTES];
    fact_text(text, "%s/proc/self/status", root);
    const char *list = strstr(text, name);
    if (list == NULL) {
        return false;
    }
    list += strlen(name);
    CPU_ZERO(allowed);
    for (int cpu = -1; fact_list_next(&list, &cpu);) {
        if (cpu < CPU_SETSIZE) {
            CPU_SET((size_t)cpu, allowed);
        }
    }
    return CPU_COUNT(allowed) > 0;
}

/* Leaves out what is not there: an affinity may name CPUs that could be plugged in. */
static unsigned keep_online(const char *root, cpu_set_t *allowed)
{
    char text[FACT_TEXT_BYTES];
    const char *list = text;
    cpu_set_t online;
    CPU_ZERO(&online);
    fact_text(text, "%s/sys/devices/system/cpu/online", root);
    for (int cpu = -1; fact_list_next(&list, &cpu);) {
        if (cpu < CPU_SETSIZE) {
            CPU_SET((size_t)cpu, &online);
        }
    }
    if (CPU_COUNT(&online) > 0) {
        CPU_AND(allowed, allowed, &online);
    }
    return (unsigned)CPU_COUNT(&online);
}

/* At least one. Returns how many are online; 0: not known. */
static unsigned read_allowed(const char *root, cpu_set_t *allowed)
{
    CPU_ZERO(allowed);
    if (!read_affinity(root, allowed) && root[0] == '\0' && sched_getaffinity(0, sizeof(*allowed), allowed) != 0) {
        CPU_ZERO(allowed);
    }
    unsigned online = keep_online(root, allowed);
    if (CPU_COUNT(allowed) == 0) {
        CPU_SET(0, allowed);
    }
    return online;
}

unsigned topology_count_allowed(const char *root)
{
    cpu_set_t allowed;
    read_allowed(root, &allowed);
    return (unsigned)CPU_COUNT(&allowed);
}

/* ---- what hwloc knows ---- */

static void add_core(struct topology *topology, hwloc_topology_t hw, hwloc_obj_t core, const cpu_set_t *allowed)
{
    int kind = hwloc_cpukinds_get_by_cpuset(hw, core->cpuset, 0);
    int node = core->nodeset == NULL ? -1 : hwloc_bitmap_first(core->nodeset);
    unsigned sibling = 0;
    int cpu;
    hwloc_bitmap_foreach_begin(cpu, core->cpuset)
    {
        if (cpu < CPU_SETSIZE && CPU_ISSET((size_t)cpu, allowed) && topology->cpu_count < TOPOLOGY_CPUS_MAX) {
            topology->cpus[topology->cpu_count++] = (struct topology_cpu){
                .cpu = (uint16_t)cpu,
                .core = (uint16_t)topology->core_count,
                .node = (int16_t)node,
                .sibling = (uint8_t)sibling++,
                .kind = (uint8_t)(kind < 0 ? 0 : kind),
            };
        }
    }
    hwloc_bitmap_foreach_end();
    topology->core_count += sibling > 0 ? 1 : 0;
}

static void read_caches(struct topology *topology, hwloc_topology_t hw)
{
    static const hwloc_obj_type_t types[] = {HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE};
    uint64_t *sizes[] = {&topology->l1_bytes, &topology->l2_bytes, &topology->l3_bytes};
    hwloc_obj_t cpu = hwloc_get_pu_obj_by_os_index(hw, topology->cpus[0].cpu);
    for (size_t i = 0; cpu != NULL && i < ARRAY_COUNT(types); i++) {
        hwloc_obj_t cache = hwloc_get_ancestor_obj_by_type(hw, types[i], cpu);
        *sizes[i] = cache == NULL ? 0 : cache->attr->cache.size;
    }
}

static void read_cores(struct topology *topology, hwloc_topology_t hw, const cpu_set_t *allowed)
{
    int cores = hwloc_get_nbobjs_by_type(hw, HWLOC_OBJ_CORE);
    for (int i = 0; i < cores; i++) {
        add_core(topology, hw, hwloc_get_obj_by_type(hw, HWLOC_OBJ_CORE, (unsigned)i), allowed);
    }
    if (topology->cpu_count > 0) {
        read_caches(topology, hw);
    }
}

/* hwloc takes another machine's tree from the environment alone. */
static void read_hardware(const char *root, struct topology *topology, const cpu_set_t *allowed)
{
    static const char variable[] = "HWLOC_FSROOT";
    char text[FACT_TEXT_BYTES];
    hwloc_topology_t hw;
    if (!fact_text(text, "%s/sys/devices/system/cpu/online", root)) {
        return; /* hwloc would complain on standard error, and know nothing */
    }
    if (root[0] != '\0') {
        setenv(variable, root, 1);
    }
    if (hwloc_topology_init(&hw) == 0) {
        hwloc_topology_set_flags(hw, HWLOC_TOPOLOGY_FLAG_INCLUDE_DISALLOWED);
        if (hwloc_topology_load(hw) == 0) {
            read_cores(topology, hw, allowed);
        }
        hwloc_topology_destroy(hw);
    }
    if (root[0] != '\0') {
        unsetenv(variable);
    }
}

/* ---- the order to pin in ---- */

struct rank {
    uint64_t key;
    struct topology_cpu cpu;
};

static int compare_ranks(const void *a, const void *b)
{
    uint64_t left = ((const struct rank *)a)->key;
    uint64_t right = ((const struct rank *)b)->key;
    return left < right ? -1 : left > right;
}

static uint64_t rank_key(const struct topology_cpu *cpu, int near_node)
{
    uint64_t node = cpu->node == near_node || cpu->node < 0 ? 0 : (uint64_t)cpu->node + 1;
    return (uint64_t)cpu->sibling << 56 | (uint64_t)(UINT8_MAX - cpu->kind) << 48 | node << 32 |
           (uint64_t)cpu->core << 16 | cpu->cpu;
}

/* In the kernel's order when memory is out. */
static void order_cpus(struct topology *topology, int near_node)
{
    struct rank *ranks = calloc(topology->cpu_count, sizeof(*ranks));
    if (ranks == NULL) {
        return;
    }
    for (unsigned i = 0; i < topology->cpu_count; i++) {
        ranks[i] = (struct rank){rank_key(&topology->cpus[i], near_node), topology->cpus[i]};
    }
    qsort(ranks, topology->cpu_count, sizeof(*ranks), compare_ranks);
    for (unsigned i = 0; i < topology->cpu_count; i++) {
        topology->cpus[i] = ranks[i].cpu;
    }
    free(ranks);
}

/* How many different values a small field has. */
static void count_kinds(struct topology *topology)
{
    bool kinds[UINT8_MAX + 1] = {false};
    bool nodes[TOPOLOGY_CPUS_MAX] = {false};
    for (unsigned i = 0; i < topology->cpu_count; i++) {
        const struct topology_cpu *cpu = &topology->cpus[i];
        topology->kind_count += kinds[cpu->kind] ? 0 : 1;
        kinds[cpu->kind] = true;
        unsigned node = cpu->node < 0 ? 0 : (unsigned)cpu->node % TOPOLOGY_CPUS_MAX;
        topology->node_count += nodes[node] ? 0 : 1;
        nodes[node] = true;
    }
}

/* No /sys, or one that does not have what is allowed: every CPU is a core of its own. */
static void take_as_cores(struct topology *topology, const cpu_set_t *allowed)
{
    topology->cpu_count = 0;
    for (unsigned cpu = 0; cpu < CPU_SETSIZE && topology->cpu_count < TOPOLOGY_CPUS_MAX; cpu++) {
        if (CPU_ISSET(cpu, allowed)) {
            topology->cpus[topology->cpu_count] = (struct topology_cpu){
                .cpu = (uint16_t)cpu,
                .core = (uint16_t)topology->cpu_count,
                .node = -1,
            };
            topology->cpu_count++;
        }
    }
    topology->core_count = topology->cpu_count;
}

void topology_read(const char *root, int near_node, struct topology *ret_topology)
{
    cpu_set_t allowed;
    memset(ret_topology, 0, sizeof(*ret_topology));
    ret_topology->online = read_allowed(root, &allowed);
    read_hardware(root, ret_topology, &allowed);
    if ((int)ret_topology->cpu_count < CPU_COUNT(&allowed)) {
        take_as_cores(ret_topology, &allowed);
    }
    order_cpus(ret_topology, near_node);
    count_kinds(ret_topology);
}

uint64_t ring_memory_bytes(const char *root)
{
    char text[FACT_TEXT_BYTES];
    struct cgroup_memory group;
    fact_text(text, "%s/proc/meminfo", root);
    uint64_t bytes = fact_after(text, "MemTotal:") * 1024;
    cgroup_read_memory(root, &group);
    return group.bytes > 0 && (bytes == 0 || group.bytes < bytes) ? group.bytes : bytes;
}
