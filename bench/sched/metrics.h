/* What a run was worth: goodput, first tokens, who was shed. */
#ifndef BENCH_SCHED_METRICS_H
#define BENCH_SCHED_METRICS_H

#include "run.h"

/* Over the requests that arrived in a window. */
struct metrics {
    size_t requests, done, good;
    size_t late, slow; /* of those done: whose first token came too late; in time, but the others too slowly */
    double goodput_per_s;
    size_t shed[SCHED_SHED_REASONS];
    size_t shed_of_class[SCHED_CLASSES];
    double first_p50_s[SCHED_CLASSES], first_p99_s[SCHED_CLASSES]; /* of those served; 0: none was */
    double all_p50_s, all_p99_s;
    double limit_mean, limit_slope_per_hour;
    double wait_error; /* sum of |predicted − real wait| ÷ sum of the real ones, of those served that waited ≥ 10 ms */
    double wait_bias; /* sum of the predicted ones ÷ sum of the real ones */
    /* Mean tokens of the good ones ÷ of all that arrived: below 1, small ones were preferred. */
    double prompt_bias, output_bias;
    size_t preemptions;
    size_t spared, spared_missed; /* to be shed, but served; of them, with a late first token */
    size_t spared_for[SCHED_SHED_REASONS], spared_missed_for[SCHED_SHED_REASONS];
};

/* First token and tokens in time. */
bool metrics_is_good(const struct run_request *request, nanos token_max_ns);

void metrics_of(const struct run_result *result, nanos from, nanos to, nanos token_max_ns, struct metrics *ret_metrics);

/* Only the goodput. */
double metrics_goodput(const struct run_result *result, nanos from, nanos to, nanos token_max_ns);

/* The 99th percentile of the time to the first token of those served, in s; of requests for which `keeps` is true. */
double metrics_first_p99(const struct run_result *result, nanos from, nanos to,
                         bool (*keeps)(const struct workload_request *request, uint64_t bound), uint64_t bound);

/* Jain's index of the tokens that tenants 1 to `tenants` were served, weighted as the queue charges them, over those
 * who wanted more than they got (somebody of theirs was shed), in each window; the mean of the windows with two or more
 * such tenants. 1 when there was no such window. */
double metrics_jain(const struct run_result *result, nanos from, nanos to, nanos window_ns, unsigned tenants);

#endif
