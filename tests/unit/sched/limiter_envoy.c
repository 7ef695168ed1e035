#include "limiter_run.h"

#include <criterion/criterion.h>

#include "base/check.h"

static const struct limiter_census nobody = {0};

/* A limiter whose least time is 100 ms, and which has just ended its probe at *at_ms. */
static struct limiter after_probe(double *at_ms)
{
    struct limiter limiter = limiter_run_begin(LIMITER_ENVOY, 20);
    for (int i = 0; i < 50; i++) {
        *at_ms += 100;
        limiter_run_end(&limiter, *at_ms, 100, 3);
    }
    return limiter;
}

/* One update, of answers that all took took_ms. */
static void update(struct limiter *limiter, double *at_ms, double took_ms)
{
    *at_ms += 50;
    for (int i = 0; i < 3; i++) {
        limiter_run_end(limiter, *at_ms, took_ms, 3);
    }
    *at_ms += 50;
    limiter->ops->tick(limiter, MS(*at_ms), &nobody);
}

Test(limiter_envoy, begins_with_a_probe_of_fifty_answers_at_three)
{
    struct limiter limiter = limiter_run_begin(LIMITER_ENVOY, 20);
    cr_assert_float_eq(limiter.limit, 3, 1e-9);
    cr_assert_eq(limiter.period_ns, MS(100));
    for (int i = 1; i <= 49; i++) {
        limiter_run_end(&limiter, i * 200, 100, 3);
        limiter.ops->tick(&limiter, MS(i * 200 + 100), &nobody);
        cr_assert_float_eq(limiter.limit, 3, 1e-9);
    }
    limiter_run_end(&limiter, 10000, 100, 3);
    limiter_run_end(&limiter, 10050, 100, 3);
    limiter.ops->tick(&limiter, MS(10100), &nobody);
    cr_assert_float_eq(limiter.limit, 5, 1e-9); /* 3.75 + 1.94 */
}

Test(limiter_envoy, moves_by_the_gradient_and_a_square_root_of_headroom)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    static const struct {
        double took_ms, limit;
    } steps[] = {
        {100, 5},  /* g = 1.25: 3.75 + 1.94 */
        {100, 8},  /* 6.25 + 2.5 */
        {100, 13}, /* 10 + 3.16 */
        {125, 16}, /* g = 1: 13 + 3.61 */
        {250, 10}, /* g = 0.5: 8 + 2.83 */
        {900, 7},  /* no less than 0.5: 5 + 2.24 */
        {1, 17},   /* no more than 2: 14 + 3.74 */
    };
    for (unsigned i = 0; i < ARRAY_COUNT(steps); i++) {
        update(&limiter, &at, steps[i].took_ms);
        cr_assert_float_eq(limiter.limit, steps[i].limit, 1e-9, "step %u: %.0f", i, limiter.limit);
    }
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_EXCESS], 2);
}

Test(limiter_envoy, takes_the_median)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    limiter_run_end(&limiter, at + 50, 900, 3);
    limiter_run_end(&limiter, at + 50, 1, 3);
    limiter_run_end(&limiter, at + 50, 125, 3);
    limiter_run_end(&limiter, at + 60, 125, 3);
    limiter.ops->tick(&limiter, MS(at + 100), &nobody);
    cr_assert_float_eq(limiter.limit, 4, 1e-9); /* 3 + 1.73 */
}

Test(limiter_envoy, more_answers_than_it_holds_still_make_a_median)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    for (int i = 0; i < 20000; i++) {
        limiter_run_end(&limiter, at + 50, i % 10 < 2 ? 10 : i % 10 < 8 ? 100 : 900, 3);
    }
    limiter.ops->tick(&limiter, MS(at + 100), &nobody);
    cr_assert_float_eq(limiter.limit, 5, 1e-9);
}

Test(limiter_envoy, nothing_ended_means_no_update)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    for (int i = 1; i < 100; i++) {
        limiter.ops->tick(&limiter, MS(at + i * 100), &nobody);
    }
    cr_assert_float_eq(limiter.limit, 3, 1e-9);
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_PROBE], 0);
}

Test(limiter_envoy, probes_again_after_a_minute_and_up_to_nine_seconds)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    double began = at;
    while (limiter.cuts[LIMITER_CAUSE_PROBE] == 0) {
        update(&limiter, &at, 100 + limiter.limit);
        cr_assert_leq(at - began, 69100);
    }
    cr_assert_geq(at - began, 60000);
    cr_assert_float_eq(limiter.limit, 3, 1e-9);
}

Test(limiter_envoy, a_probe_looks_only_at_what_was_granted_in_it_and_gives_the_limit_back)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    double before = 0;
    while (limiter.cuts[LIMITER_CAUSE_PROBE] == 0) {
        before = limiter.limit;
        update(&limiter, &at, 100 + limiter.limit);
    }
    cr_assert_gt(before, 15);
    for (int i = 0; i < 200; i++) {
        limiter_run_end(&limiter, at + 500, 501, 30); /* granted before */
        limiter_run_cancel(&limiter, at + 500, 10, 3);
        limiter_run_drop(&limiter, at + 500, 10, 3);
    }
    cr_assert_float_eq(limiter.limit, 3, 1e-9, "none of these counts");
    for (int i = 0; i < 50; i++) {
        cr_assert_float_eq(limiter.limit, 3, 1e-9);
        limiter_run_end(&limiter, at + 1000, 200, 3);
    }
    cr_assert_float_eq(limiter.limit, before, 1e-9);
    at += 1000;
    update(&limiter, &at, 250); /* g = 1 of the new least time */
    cr_assert_gt(limiter.limit, before);
}

Test(limiter_envoy, five_updates_that_leave_it_at_three_begin_a_probe)
{
    double at = 1000;
    struct limiter limiter = after_probe(&at);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(limiter.cuts[LIMITER_CAUSE_PROBE], 0);
        update(&limiter, &at, 1000);
    }
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_PROBE], 1);
    for (int i = 0; i < 50; i++) {
        limiter_run_end(&limiter, at + 2000, 1000, 3);
    }
    at += 2000;
    update(&limiter, &at, 1000);
    cr_assert_float_eq(limiter.limit, 5, 1e-9, "1,000 ms are the least time now");
}

Test(limiter_envoy, time_constants_are_scaled)
{
    struct limiter limiter;
    struct limiter_options options = {
        .kind = LIMITER_ENVOY, .initial = 20, .min = 1, .max = 1000, .time_scale_milli = 10000};
    limiter_init(&limiter, &options, 0);
    cr_assert_eq(limiter.period_ns, MS(10));
    for (int i = 0; i < 50; i++) {
        limiter_run_end(&limiter, 1000, 10, 3);
    }
    double at = 1000;
    while (limiter.cuts[LIMITER_CAUSE_PROBE] == 0) {
        at += 10;
        limiter_run_end(&limiter, at, 10, 3);
        limiter.ops->tick(&limiter, MS(at), &nobody);
        cr_assert_leq(at, 1000 + 6920);
    }
    cr_assert_geq(at, 1000 + 6000);
}
