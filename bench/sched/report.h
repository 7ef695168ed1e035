/* What is printed and written: a table for each scenario, all of it as JSON, time series as TSV. */
#ifndef BENCH_SCHED_REPORT_H
#define BENCH_SCHED_REPORT_H

#include <stdio.h>

#include "scenario.h"

/* All that one scenario brought: outcome of contender c and seed s at [c * seed_count + s]. */
struct report {
    const struct stage *stage;
    const char *const *contenders;
    unsigned contender_count, seed_count;
    const struct scenario_outcome *outcomes;
    const struct oracle_phase *phases; /* of seed s at [s * SCENARIO_PHASES_MAX] */
    unsigned phase_count;
    double seconds; /* that all of it took */
};

/* For each contender and figure the worst and the median of the seeds. True: whatever is wanted of the first contender
 * holds for each seed. */
bool report_print(const struct report *report, FILE *to);

void report_json(const struct report *report, FILE *to);

/* A line for each second: limit, in flight, queued, good requests by arrival and the oracle's (-1: not measured),
 * excess and base in ms.
 */
void report_series(const struct scene *scene, const struct run_result *result, const char *path);

/* The requests of a scene, a line each, behind lines that say what its backend does. */
void report_arrivals(const struct scene *scene, const char *path);

#endif
