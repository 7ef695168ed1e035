#include "limiter_run.h"

#include <criterion/criterion.h>
#include <math.h>

#include "base/check.h"

Test(limiter, names_and_kinds_belong_together)
{
    static const struct {
        const char *name;
        enum limiter_kind kind;
    } all[] = {{"excess", LIMITER_EXCESS}, {"fixed", LIMITER_FIXED},         {"aimd", LIMITER_AIMD},
               {"vegas", LIMITER_VEGAS},   {"gradient2", LIMITER_GRADIENT2}, {"envoy", LIMITER_ENVOY}};
    cr_assert_eq(ARRAY_COUNT(all), LIMITER_KINDS);
    for (unsigned i = 0; i < ARRAY_COUNT(all); i++) {
        enum limiter_kind kind = LIMITER_KINDS;
        cr_assert(limiter_kind_from(bytes_from(all[i].name), &kind));
        cr_assert_eq(kind, all[i].kind);
        cr_assert_str_eq(limiter_ops_of(kind)->name, all[i].name);
    }
}

Test(limiter, what_is_no_limiter_is_none)
{
    enum limiter_kind kind = LIMITER_VEGAS;
    cr_assert_not(limiter_kind_from(BYTES("Vegas"), &kind));
    cr_assert_not(limiter_kind_from(BYTES("vegas2"), &kind));
    cr_assert_not(limiter_kind_from(BYTES_NONE, &kind));
    cr_assert_eq(kind, LIMITER_VEGAS);
    cr_assert_null(limiter_ops_of(LIMITER_KINDS));
}

Test(limiter, causes_have_names)
{
    cr_assert_str_eq(limiter_cause_name(LIMITER_CAUSE_EXCESS), "excess");
    cr_assert_str_eq(limiter_cause_name(LIMITER_CAUSE_STALL), "stall");
    cr_assert_str_eq(limiter_cause_name(LIMITER_CAUSE_TOKENS), "tokens");
    cr_assert_str_eq(limiter_cause_name(LIMITER_CAUSE_REFUSED), "refused");
    cr_assert_str_eq(limiter_cause_name(LIMITER_CAUSE_PROBE), "probe");
    cr_assert_str_eq(limiter_cause_name(LIMITER_CAUSES), "unknown");
}

Test(limiter, begins_within_its_bounds)
{
    struct limiter limiter;
    struct limiter_options options = {.kind = LIMITER_VEGAS, .initial = 500, .min = 0, .max = 64, .endpoints = 1};
    limiter_init(&limiter, &options, 0);
    cr_assert_float_eq(limiter.limit, 64, 1e-9);
    cr_assert_float_eq(limiter.options.min, 1, 1e-9, "below one nothing would ever go");
    cr_assert(isinf(limiter.kv_tokens));
    cr_assert_eq(limiter.prefill_ns, NANOS_NEVER);
    cr_assert_eq(limiter.period_ns, MS(250));
    options.time_scale_milli = 10000;
    options.kv_tokens_max = 60000;
    options.initial = 0;
    limiter_init(&limiter, &options, 0);
    cr_assert_float_eq(limiter.limit, 1, 1e-9);
    cr_assert_float_eq(limiter.kv_tokens, 60000, 1e-9);
    cr_assert_eq(limiter.period_ns, MS(25));
}

Test(limiter, fixed_stays_where_it_is_whatever_happens)
{
    struct limiter limiter = limiter_run_begin(LIMITER_FIXED, 37);
    struct limiter_census census = {.in_flight = 37, .blocked_by_count = true, .waiting = 100};
    for (int i = 0; i < 1000; i++) {
        limiter_run_end(&limiter, 10000 + i * 100, i % 7 * 1000, 37);
        limiter_run_drop(&limiter, 10000 + i * 100, 5000, 37);
        limiter.ops->on_refused(&limiter, MS(10000 + i * 100), MS(i), &census);
        limiter.ops->tick(&limiter, MS(10000 + i * 100), &census);
    }
    cr_assert_float_eq(limiter.limit, 37, 1e-9);
    struct limiter_options options = {.kind = LIMITER_FIXED, .initial = 500, .min = 1, .max = 64};
    limiter_init(&limiter, &options, 0);
    cr_assert_float_eq(limiter.limit, 500, 1e-9, "it is what the configuration says");
}

static uint64_t draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return *state >> 33;
}

Test(limiter, every_one_keeps_its_bounds_whatever_it_is_told)
{
    for (unsigned kind = 0; kind < LIMITER_KINDS; kind++) {
        struct limiter limiter;
        struct limiter_options options = {.kind = (enum limiter_kind)kind,
                                          .initial = 20,
                                          .min = 2,
                                          .max = 50,
                                          .slo_first_ns = MS(3000),
                                          .endpoints = 1,
                                          .seed = kind,
                                          .time_scale_milli = kind % 2 == 0 ? 1000 : 10000};
        limiter_init(&limiter, &options, 0);
        uint64_t draws = kind;
        nanos now = MS(100000);
        for (int i = 0; i < 50000; i++) {
            now += draw(&draws) % MS(20);
            nanos took = draw(&draws) % MS(1 << draw(&draws) % 16);
            struct limiter_census census = {.in_flight = (uint32_t)(draw(&draws) % 60),
                                            .blocked_by_count = draw(&draws) % 2 == 0,
                                            .stalled_since_ns = NANOS_NEVER};
            census.running = census.in_flight;
            struct limiter_end end = {.granted_ns = now - took,
                                      .ended_ns = now,
                                      .in_flight = (uint32_t)(draw(&draws) % 60),
                                      .is_dropped = draw(&draws) % 50 == 0,
                                      .is_canceled = draw(&draws) % 50 == 0};
            struct limiter_sample sample = {.granted_ns = now - took,
                                            .first_token_ns = now,
                                            .base_ns = draw(&draws) % MS(300),
                                            .prompt_tokens = 100,
                                            .in_flight = end.in_flight};
            limiter.ops->on_first_token(&limiter, now, &sample);
            limiter.ops->on_end(&limiter, now, &end, &census);
            limiter.ops->tick(&limiter, now, &census);
            if (end.is_dropped) {
                limiter.ops->on_refused(&limiter, now, end.granted_ns, &census);
            }
            cr_assert_geq(limiter.limit, 2, "%s: %f", limiter.ops->name, limiter.limit);
            cr_assert_leq(limiter.limit, 50, "%s: %f", limiter.ops->name, limiter.limit);
        }
    }
}
