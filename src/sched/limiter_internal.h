/* What the limiters of this folder share. Nobody else includes it. */
#ifndef SLUICE_SCHED_LIMITER_INTERNAL_H
#define SLUICE_SCHED_LIMITER_INTERNAL_H

#include "sched/limiter.h"

extern const struct limiter_ops limiter_excess_ops;
extern const struct limiter_ops limiter_fixed_ops;
extern const struct limiter_ops limiter_aimd_ops;
extern const struct limiter_ops limiter_vegas_ops;
extern const struct limiter_ops limiter_gradient2_ops;
extern const struct limiter_ops limiter_envoy_ops;

/* `limit`, within what the options allow. */
double limiter_clamped(const struct limiter *limiter, double limit);

/* For events that say nothing to an algorithm. */
void limiter_ignore_first_token(struct limiter *limiter, nanos now, const struct limiter_sample *sample);
void limiter_ignore_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                        const struct limiter_census *census);
void limiter_ignore_refused(struct limiter *limiter, nanos now, nanos granted_ns, const struct limiter_census *census);
void limiter_ignore_tick(struct limiter *limiter, nanos now, const struct limiter_census *census);

/* Windows of one second and at least ten samples, with their mean: WindowedLimit and ImmutableAverageSampleWindow of
 * Netflix concurrency-limits. Where the original throws a second with fewer samples away, this one goes on with it:
 * answers that take seconds would otherwise never be heard. */
struct limiter_window {
    nanos ends_ns;
    nanos sum_ns;
    uint32_t samples;
    uint32_t in_flight_max;
    bool is_dropped;
};

struct limiter_window_mean {
    double took_ns;
    uint32_t in_flight; /* the most that any of them met */
    bool is_dropped;    /* any of them */
};

/* Adds one end; true: the window is full, its mean is in *ret_mean, and the next one begins. */
bool limiter_window_add(const struct limiter *limiter, struct limiter_window *window, const struct limiter_end *end,
                        struct limiter_window_mean *ret_mean);

/* The next of a series of numbers that look random (splitmix64, Steele et al., OOPSLA'14): *state is the seed at
 * first. */
uint64_t limiter_draw(uint64_t *state);

#endif
