/* What this process takes of its machine, as the kernel counts it.
 *
 * All of it blocks: these are files of /proc and /sys, and under memory pressure, which is when they are worth reading,
 * even those make their reader wait. So never on a worker. */
#ifndef SLUICE_RING_USAGE_H
#define SLUICE_RING_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

/* With a twentieth of 256 GB to go nobody is short: beyond this much, what is left counts, not its share. */
#define RING_USAGE_MEMORY_COUNTED (UINT64_C(8) << 30)

/* 0 where the kernel does not say; memory_short: below 0. */
struct ring_usage {
    nanos at_ns; /* ring_now's clock */
    int64_t unix_ms;
    uint64_t cpu_ns; /* of all threads, since the start */
    uint64_t resident_bytes;
    uint64_t threads;
    uint64_t descriptors;
    uint64_t descriptors_max; /* the limit on them */
    /* Of the control group on the way to the root, or of the machine, whichever is nearest to its limit. What the
     * kernel can take back without writing (clean file pages, however lately they were read; caches of its own) does
     * not count as used. */
    uint64_t memory_used_bytes;
    uint64_t memory_max_bytes;
    double memory_short; /* 0: nothing is used; 1: all is; of a large memory the last RING_USAGE_MEMORY_COUNTED count */
    double memory_stall; /* share of the last 10 s in which some thread waited for memory (PSI); -1: not known */
};

/* `root`: the folder that /proc and /sys are in; "" but for tests. */
void ring_usage_read(const char *root, struct ring_usage *ret_usage);

/* What a thread of this process has got, and how long it was ready and did not run, since its start. False: there is no
 * such thread, or the kernel does not say (CONFIG_SCHED_INFO). */
bool ring_usage_of_thread(const char *root, int thread_id, nanos *ret_ran_ns, nanos *ret_waited_ns);

/* ring_now's clock, read now: for threads without a ring. */
nanos ring_clock(void);

/* The number of the calling thread. */
int ring_thread_id(void);

#endif
