/* A made-up machine: a folder with a /proc and a /sys of its own, as much of them as a test wants to say. */
#ifndef TESTS_SUPPORT_TREE_H
#define TESTS_SUPPORT_TREE_H

#include <stdbool.h>

/* Makes an empty tree. *Gives* its path, which tree_remove takes. Ends the program when that cannot be done, as all
 * here do: a test without its machine has nothing to say. */
char *tree_make(void);
void tree_remove(char *root);

/* Writes a file with the folders above it; `path` as in the machine: "/proc/meminfo". */
void tree_write(const char *root, const char *path, const char *text);

/* How its CPUs hang together. They are numbered as Linux on x86 does: every core's first thread, of all nodes one after
 * another, then the second threads in the same order. */
struct tree_cpus {
    unsigned nodes;
    unsigned cores; /* of each node */
    unsigned threads;
};

/* Writes /sys/devices/system/cpu and node: 48 KB, 2 MB and 32 MB of cache for a core, a core and a node. All are
 * allowed. */
void tree_put_cpus(const char *root, const struct tree_cpus *cpus);

/* Writes /proc/self/status with that list of CPUs, such as "0-3,8". */
void tree_allow(const char *root, const char *list);

/* Writes /proc/meminfo. */
void tree_put_memory(const char *root, unsigned long megabytes);

/* A card of hardware that is up, with as many receive as send queues. `node`: -1: none. */
void tree_put_nic(const char *root, const char *name, unsigned queues, int speed_mbit, int node);

#endif
