/* What this machine lets us use. */
#ifndef SLUICE_RING_TOPOLOGY_H
#define SLUICE_RING_TOPOLOGY_H

#include <stdint.h>

#include "base/result.h"

enum { TOPOLOGY_CPUS_MAX = 1024 };

struct topology {
    unsigned cpu_count;               /* that affinity and cgroup allow, physical cores first */
    uint16_t cpus[TOPOLOGY_CPUS_MAX]; /* the kernel's numbers, in the order to pin workers in */
    unsigned core_count;              /* physical cores among them */
    unsigned cpu_quota;               /* ceil(cgroup cpu.max quota ÷ period); 0: none */
};

/* Reads hwloc and the cgroup. At start, before workers. */
void topology_read(struct topology *ret_topology);

/* How much memory this process may use: the machine's, or the tightest limit between its cgroup and the root when that
 * is less (`memory.max` and `memory.high` of version 2, `memory.limit_in_bytes` of version 1). 0: /proc does not say.
 * `root`: the folder that /proc and /sys are in; "" but for tests. */
uint64_t ring_memory_bytes(const char *root);

#endif
