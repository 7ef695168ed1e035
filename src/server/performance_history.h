/* The last hour, in steps of ten seconds: what is drawn first when something was wrong.
 *
 * Pure: values are handed in. One owner; others get copies (observer.h). Fixed size: 29 KB. */
#ifndef SLUICE_SERVER_PERFORMANCE_HISTORY_H
#define SLUICE_SERVER_PERFORMANCE_HISTORY_H

#include <stdint.h>

enum { PERFORMANCE_STEP_S = 10, PERFORMANCE_SAMPLES = 360 };

/* What happened in one step, and what was at its end. NAN: there was nothing to measure it by. */
struct performance_sample {
    int64_t unix_ms; /* its end */
    double requests_per_second;
    double error_rate; /* answers of 500 and above, as a share of all */
    double p95_seconds;
    double hit_rate;    /* of those that asked the cache */
    double cpu_percent; /* of one core */
    double sheds_per_second;
    uint64_t memory_bytes; /* resident */
    uint32_t queued;       /* by the scheduler */
    uint32_t in_flight;    /* at endpoints */
    uint32_t pressure_milli;
};

struct performance_history {
    unsigned count; /* up to PERFORMANCE_SAMPLES */
    unsigned next;  /* where the next one goes */
    struct performance_sample samples[PERFORMANCE_SAMPLES];
};

/* An empty history is all zero. When it is full the oldest goes. */
void performance_history_add(struct performance_history *history, const struct performance_sample *sample);

/* The `index`-th, 0 being the oldest; *borrows*. */
const struct performance_sample *performance_history_at(const struct performance_history *history, unsigned index);

/* ---- making them ---- */

/* What had been counted since the start, at one moment. */
struct performance_counts {
    uint64_t requests;
    uint64_t errors;
    uint64_t cache_hits;  /* joins included */
    uint64_t cache_asked; /* hits, joins and misses */
    uint64_t sheds;
    uint64_t cpu_ns;
};

/* Fills in what follows from two moments, `seconds` (> 0) apart: all but p95_seconds and what is of the moment. */
void performance_sample_rates(const struct performance_counts *before, const struct performance_counts *now,
                              double seconds, struct performance_sample *sample);

#endif
