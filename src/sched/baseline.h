/* What a first token takes without load, by size: the windowed minimum per octave of uncached prompt tokens.
 *
 * Two windows of 30 s, the smaller of which counts, so that the base follows a backend that has become slower. Under
 * constant overload no sample is free of load, and the minimum creeps upward; so it may rise by at most 5 % a minute,
 * unless the samples were taken at low in-flight: three of these in a window are believed. What they tell holds for
 * the octaves that have none of their own, too, or a slower backend would look overloaded there for long.
 *
 * Between the octaves' points it is interpolated, by time per token: an octave without samples has its neighbours'
 * line. Beyond the last point the line goes on for two octaves, no further: a guess must not turn requests away.
 *
 * Pure; fixed size (2 KB). Owned by whoever holds it. */
#ifndef SLUICE_SCHED_BASELINE_H
#define SLUICE_SCHED_BASELINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"

enum { BASELINE_BUCKETS = 24 }; /* up to 16 M tokens */

struct baseline_bucket {
    nanos base_ns;        /* 0: nothing known */
    nanos minimum_ns;     /* of the window that runs; NANOS_NEVER: none yet */
    nanos previous_ns;    /* of the one before */
    nanos low_minimum_ns; /* of samples at low load, since they were last made use of; NANOS_NEVER: none */
    uint32_t low_count;
    uint32_t size_count; /* of the samples that made base_ns: where in the octave it stands */
    uint64_t size_sum;
};

struct baseline_point {
    double size;
    double base_ns;
};

struct baseline {
    nanos window_ns;
    nanos window_began_ns;
    double low_ratio; /* the least of took ÷ base of the samples at low load in this window, of all octaves */
    uint32_t low_count;
    struct baseline_bucket buckets[BASELINE_BUCKETS];
    /* what is known, smaller sizes first: made anew when a bucket changes, so that asking is cheap */
    struct baseline_point points[BASELINE_BUCKETS];
    uint32_t point_count;
};

/* `window_ns`: 30 s, scaled. */
void baseline_init(struct baseline *baseline, nanos window_ns, nanos now);

/* Adds what one took. `at_low_load`: it was granted with so few in flight that it met no load. */
void baseline_add(struct baseline *baseline, nanos now, uint32_t size, nanos took_ns, bool at_low_load);

/* What a request of this size takes without load; 0: nothing is known of any size. */
nanos baseline_of(const struct baseline *baseline, uint32_t size);

#endif
