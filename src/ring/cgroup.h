/* Where this process stands among the control groups, and what they allow it.
 *
 * Both versions, alone or side by side: where a hierarchy is mounted, and which part of it, is read from mountinfo. A
 * limit above the own group holds for it, too, so that always the tightest on the way to the root counts. A container
 * may see its group's path as the host does, and only its own part of the hierarchy: what is not there is passed over.
 *
 * All of it blocks. `root` is the folder that /proc and /sys are in; "" but for another machine's, and tests'. */
#ifndef SLUICE_RING_CGROUP_H
#define SLUICE_RING_CGROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CGROUP_PATH_BYTES = 2400, CGROUP_WHERE_BYTES = 160 };

/* A folder on the way from this process's group to the root. */
struct cgroup_way {
    char folder[CGROUP_PATH_BYTES];
    size_t top_bytes; /* of the folder that the hierarchy is mounted on */
};

/* The own group's folder, which may not be there. `controller`: of version 1, in whose hierarchy to look; NULL: version
 * 2. */
void cgroup_enter(const char *root, const char *controller, struct cgroup_way *ret_way);

/* The folder above. False: this was the mounted one. */
bool cgroup_up(struct cgroup_way *way);

/* The tightest limit, and the file that sets it, cut to fit and without `root`. */
struct cgroup_memory {
    uint64_t bytes; /* 0: none */
    char where[CGROUP_WHERE_BYTES];
};

/* Of `memory.max` and `memory.high` (version 2) and `memory.limit_in_bytes` (version 1). */
void cgroup_read_memory(const char *root, struct cgroup_memory *ret_memory);

struct cgroup_cpu {
    double cpus; /* quota ÷ period; 0: none */
    char where[CGROUP_WHERE_BYTES];
    bool is_counted;       /* the kernel says how long the group with that quota stood still for it */
    uint64_t throttled_ns; /* all its CPUs together, since it was made */
};

/* Of `cpu.max` (version 2) and `cpu.cfs_quota_us` (version 1). */
void cgroup_read_cpu(const char *root, struct cgroup_cpu *ret_cpu);

#endif
