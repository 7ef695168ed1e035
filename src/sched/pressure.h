/* How short this machine is of what the gateway itself needs: signals in, one number out.
 *
 * Each signal has its own thresholds, and the worst counts. A signal is smoothed (it rises faster than it falls),
 * begins to count at `begin`, and ceases only below `end`: admission does not flap around a threshold.
 *
 *   milli
 *   ceiling ┤                    ╭────────     a signal that has begun counts from `end` on;
 *           │                 ╱                one that has not, from `begin`
 *           │          ┌───╱
 *         0 ┼──────────┴──┴──────┴────────▶ value
 *                    end begin  full
 *
 * Pure: moments and values are handed in. One owner. Fixed size. */
#ifndef SLUICE_SCHED_PRESSURE_H
#define SLUICE_SCHED_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

enum pressure_signal {
    PRESSURE_CPU,       /* share of the time that the workers computed, all together: 0 to 1 */
    PRESSURE_MEMORY,    /* how much of the memory is used, of which the last few GB count: 0 to 1 (ring/usage.h) */
    PRESSURE_RECLAIM,   /* share of the time in which some thread waited for memory: 0 to 1 */
    PRESSURE_RUN_QUEUE, /* share of the time that a worker was ready to run and did not, of the worst: 0 to 1 */
    PRESSURE_LAG,       /* seconds that a worker's timers are late, of the worst */
    PRESSURE_SIGNALS,
};

enum { PRESSURE_MAX = 1000 };

/* Static, lower case with underscores: for labels. */
const char *pressure_signal_name(enum pressure_signal signal);

struct pressure_reading {
    double value[PRESSURE_SIGNALS]; /* below 0: not known, which counts as none */
};

struct pressure {
    nanos updated_ns;
    double smoothed[PRESSURE_SIGNALS];
    bool has_begun[PRESSURE_SIGNALS];
    uint32_t level[PRESSURE_SIGNALS]; /* what each makes of it, 0 to PRESSURE_MAX */
    enum pressure_signal worst;       /* whose level it is; any when all are 0 */
};

void pressure_init(struct pressure *pressure, nanos now);

/* Takes what was read at `now`, once a second or so, and says the worst level: 0 none, PRESSURE_MAX all. */
uint32_t pressure_update(struct pressure *pressure, nanos now, const struct pressure_reading *reading);

#endif
