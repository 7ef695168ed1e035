/* What processes spent between two moments, taken by the load itself so that both moments are exactly the ends of the
 * measured window.
 *
 * From /proc/PID/task/TID/schedstat, summed over the threads, in nanoseconds: the time on a core, and the time spent
 * runnable but waiting for one. The second is the noise of the machine: on a core of its own a process never waits.
 * (utime and stime are in ticks of 10 ms, and /proc/stat samples.) */
#ifndef BENCH_USAGE_H
#define BENCH_USAGE_H

#include <stdint.h>

enum { USAGE_PIDS_MAX = 16 };

struct usage_spent {
    uint64_t cpu_ns, waited_ns;
};

struct usage {
    int pid[USAGE_PIDS_MAX];
    unsigned pid_count;
    uint64_t at_ns;
    struct usage_spent self;
    struct usage_spent process[USAGE_PIDS_MAX];
};

/* Reads a list of process ids, "12,34"; NULL is the empty list. */
void usage_init(struct usage *usage, const char *pids);

/* Takes the time and every figure now. Processes that are gone count as zero. */
void usage_take(struct usage *usage);

/* Prints `"elapsed_s":…,"load":{"cpu_s":…,"waited_s":…},"watched":{"PID":{"cpu_s":…,"waited_s":…},…}`. */
void usage_print(const struct usage *begin, const struct usage *end);

#endif
