/* The best that a fixed limit can do, found by trying: what contenders are measured against.
 *
 * It uses the same admission and the same queue, with the limiter `fixed`. Coarse steps of a quarter first, then finer
 * ones around the best. Where the capacity changes, each phase has a best limit of its own.
 *
 * `fixed` sends whoever can still make it if the backend adds nothing; under a limit that is not strict enough such
 * requests are served in vain. The strict oracle also tries margins: deadlines that are told earlier than they are. */
#ifndef BENCH_SCHED_ORACLE_H
#define BENCH_SCHED_ORACLE_H

#include "run.h"

struct oracle_phase {
    nanos from, to; /* the caller's: the window that counts */
    double limit;   /* the best */
    nanos margin_ns;
    double goodput_per_s;
    uint16_t *good_of_second; /* with that limit, by second of arrival, from 0 on; free() */
    size_t seconds;
};

/* Fills in the phases. The setup's contender is not looked at. */
void oracle_find(const struct run_setup *setup, struct oracle_phase *phases, unsigned count);
/* The most that the backend completes a second in that time, over all fixed limits, first come, first served: without
 * any admission, so that what it can take does not depend on what is measured. The workload should saturate it. */
double oracle_capacity(const struct run_setup *setup, nanos from, nanos to, double *ret_limit);

void oracle_fini(struct oracle_phase *phases, unsigned count);

/* Good requests by the second of their arrival. *Gives*. */
uint16_t *oracle_good_of_second(const struct run_result *result, nanos token_max_ns, size_t seconds);

#endif
