/* The figures of single scenarios, beyond the share of the oracle. Each has the form of scenario.measure. */
#ifndef BENCH_SCHED_MEASURES_H
#define BENCH_SCHED_MEASURES_H

#include "scenario.h"

typedef void measure_figures(struct scene *scene, const struct contender *contender, const struct run_result *result,
                             struct scenario_outcome *outcome);

measure_figures measure_steady;        /* the trend of the limit */
measure_figures measure_halves;        /* how soon the limit is right; the share after the change */
measure_figures measure_doubles;       /* how soon the goodput is right */
measure_figures measure_slows;         /* the share after the change */
measure_figures measure_third;         /* that nobody is shed */
measure_figures measure_mooncake;      /* small requests' first tokens, with and without the long ones */
measure_figures measure_kv;            /* preemptions */
measure_figures measure_noisy;         /* the others' first tokens with and without the noisy one; fairness */
measure_figures measure_class0;        /* class 0's first tokens, beside class 0 alone; inversions */
measure_figures measure_shed_accuracy; /* whether those shed would have missed */

#endif
