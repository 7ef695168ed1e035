/* A limiter that is told of ends at moments in milliseconds. */
#ifndef TESTS_LIMITER_RUN_H
#define TESTS_LIMITER_RUN_H

#include "sched/limiter.h"

#define MS(ms) ((nanos)((ms)*1e6))

static inline struct limiter limiter_run_begin(enum limiter_kind kind, double initial)
{
    struct limiter limiter;
    struct limiter_options options = {
        .kind = kind, .initial = initial, .min = 1, .max = 1000, .endpoints = 1, .seed = 5, .slo_first_ns = MS(3000)};
    limiter_init(&limiter, &options, 0);
    return limiter;
}

/* One that ended at `ended_ms`, after it took took_ms, and met in_flight at its grant. */
static inline void limiter_run_end(struct limiter *limiter, double ended_ms, double took_ms, uint32_t in_flight)
{
    struct limiter_census census = {.in_flight = in_flight};
    struct limiter_end end = {
        .granted_ns = MS(ended_ms - took_ms), .ended_ns = MS(ended_ms), .in_flight = in_flight, .output_tokens = 1};
    limiter->ops->on_end(limiter, end.ended_ns, &end, &census);
}

static inline void limiter_run_drop(struct limiter *limiter, double ended_ms, double took_ms, uint32_t in_flight)
{
    struct limiter_census census = {.in_flight = in_flight};
    struct limiter_end end = {
        .granted_ns = MS(ended_ms - took_ms), .ended_ns = MS(ended_ms), .in_flight = in_flight, .is_dropped = true};
    limiter->ops->on_end(limiter, end.ended_ns, &end, &census);
}

static inline void limiter_run_cancel(struct limiter *limiter, double ended_ms, double took_ms, uint32_t in_flight)
{
    struct limiter_census census = {.in_flight = in_flight};
    struct limiter_end end = {
        .granted_ns = MS(ended_ms - took_ms), .ended_ns = MS(ended_ms), .in_flight = in_flight, .is_canceled = true};
    limiter->ops->on_end(limiter, end.ended_ns, &end, &census);
}

/* The next of a series of numbers that look random: *state is the seed at first. */
static inline uint64_t limiter_run_draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*state ^ (*state >> 29)) >> 16;
}

/* Fills one window of a second, whose ten answers all took took_ms: *at_ms is when the last one ended, and moves on. */
static inline void limiter_run_window(struct limiter *limiter, double *at_ms, double took_ms, uint32_t in_flight)
{
    *at_ms += 1001;
    for (int i = 0; i < 10; i++) {
        limiter_run_end(limiter, *at_ms, took_ms, in_flight);
    }
}

#endif
