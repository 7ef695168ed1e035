/* The CPUs that this process may run on: which of them share a core, and which are near each other. */
#ifndef SLUICE_RING_TOPOLOGY_H
#define SLUICE_RING_TOPOLOGY_H

#include <stdint.h>

#include "base/result.h"

enum { TOPOLOGY_CPUS_MAX = 1024 };

struct topology_cpu {
    uint16_t cpu;    /* the kernel's number */
    uint16_t core;   /* the physical core it is a thread of, counted from 0 */
    int16_t node;    /* of memory; -1: there are none */
    uint8_t sibling; /* which of its core's allowed threads: 0, 1, … */
    uint8_t kind;    /* the faster the higher; 0 where all are equal */
};

struct topology {
    unsigned online;                             /* CPUs of the machine; 0: not known */
    unsigned cpu_count;                          /* that affinity and cpuset allow */
    struct topology_cpu cpus[TOPOLOGY_CPUS_MAX]; /* in the order to pin workers in */
    unsigned core_count;                         /* physical cores among them */
    unsigned node_count;                         /* memory nodes that they belong to; at least 1 */
    unsigned kind_count;                         /* kinds of core among them; at least 1 */
    /* Of the first of them; 0: not known. */
    uint64_t l1_bytes;
    uint64_t l2_bytes;
    uint64_t l3_bytes;
};

/* Reads affinity and hwloc. To pin in: every core's first thread before any second one, faster cores before slower,
 * `near_node` (-1: none) before other nodes. Where hwloc cannot tell, each CPU is taken for a core. `root`: the folder
 * that /proc and /sys are in; "" but for another machine's, and tests': it is handed to hwloc by the environment, so
 * that no other thread may run. Blocks. */
void topology_read(const char *root, int near_node, struct topology *ret_topology);

/* How many CPUs the process may use now: its affinity, which a cpuset changes at any time. */
unsigned topology_count_allowed(const char *root);

/* How much memory this process may use: the machine's, or the tightest limit of its control groups when that is less
 * (cgroup_read_memory). 0: /proc does not say. */
uint64_t ring_memory_bytes(const char *root);

#endif
