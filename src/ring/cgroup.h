/* Where this process stands among the control groups. */
#ifndef SLUICE_RING_CGROUP_H
#define SLUICE_RING_CGROUP_H

#include <stddef.h>

/* Writes the path of this process's group, such as "/a.slice/b.service", to `out`; empty when it is in none.
 * `controller`: of version 1, in whose hierarchy to look; NULL: version 2. `root`: the folder that /proc is in; "" but
 * for tests. Blocks. */
void cgroup_find(const char *root, const char *controller, char *out, size_t out_bytes);

#endif
