/* The best that a fixed limit can do, found by trying: what contenders are measured against.
 *
 * It uses the same admission and the same queue, with the limiter `fixed`. Coarse steps of a quarter first, then finer
 * ones around the best. Where the capacity changes, each phase has a best limit of its own. */
#ifndef BENCH_SCHED_ORACLE_H
#define BENCH_SCHED_ORACLE_H

#include "run.h"

struct oracle_phase {
    nanos from, to; /* the caller's: the window that counts */
    double limit;   /* the best */
    double goodput_per_s;
    double most_completions_per_s; /* of any limit, good or not */
    uint16_t *good_of_second;      /* with that limit, by second of arrival, from 0 on; free() */
    size_t seconds;
};

/* Fills in the phases. The setup's contender is not looked at. */
void oracle_find(const struct run_setup *setup, struct oracle_phase *phases, unsigned count);
void oracle_fini(struct oracle_phase *phases, unsigned count);

/* Good requests by the second of their arrival. *Gives*. */
uint16_t *oracle_good_of_second(const struct run_result *result, nanos token_max_ns, size_t seconds);

#endif
