/* A log-linear histogram of durations: 8 steps per octave, so a quantile is within 12.5 %.
 *
 * One writer; others may read while it writes (relaxed loads): a reader sees a state that is at
 * most some samples old, and never a torn word. Fixed size, no allocation. */
#ifndef SLUICE_BASE_HISTOGRAM_H
#define SLUICE_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/clock.h"

enum {
    HISTOGRAM_STEPS_BITS = 3,
    HISTOGRAM_STEPS = 1 << HISTOGRAM_STEPS_BITS,
    HISTOGRAM_OCTAVES = 34, /* of 1,024 ns units: up to about 4.8 hours */
    HISTOGRAM_BUCKETS = HISTOGRAM_STEPS * HISTOGRAM_OCTAVES,
    HISTOGRAM_UNIT_SHIFT = 10,
};

struct histogram {
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* Adds one sample. Only the owner calls it. */
void histogram_add(struct histogram *h, nanos sample_ns);

/* Adds all of `from` to `into`; `from` may be written meanwhile. */
void histogram_merge(struct histogram *into, const struct histogram *from);

/* What `now` has beyond what it had at `before`, a copy of its own past; both may not be written meanwhile. */
void histogram_since(const struct histogram *now, const struct histogram *before, struct histogram *ret_since);

/* How many samples are certain to be ≤ `bound_ns`, up to the step it falls in. */
uint64_t histogram_count_below(const struct histogram *h, nanos bound_ns);

/* The sample below which the share `quantile` (0 to 1) lies; 0 when empty. */
nanos histogram_quantile(const struct histogram *h, double quantile);

/* The largest sample, up to the step it falls in; 0 when empty. */
nanos histogram_max(const struct histogram *h);

#endif
