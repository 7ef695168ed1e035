#include "limiter_run.h"

#include <criterion/criterion.h>

Test(limiter_aimd, one_more_a_window_while_at_least_half_is_in_use)
{
    struct limiter limiter = limiter_run_begin(LIMITER_AIMD, 10);
    double at = 0;
    limiter_run_window(&limiter, &at, 400, 5);
    cr_assert_float_eq(limiter.limit, 11, 1e-9);
    limiter_run_window(&limiter, &at, 400, 5);
    cr_assert_float_eq(limiter.limit, 11, 1e-9, "5 is less than half of 11");
    limiter_run_window(&limiter, &at, 4999, 6);
    cr_assert_float_eq(limiter.limit, 12, 1e-9);
}

Test(limiter_aimd, a_tenth_less_for_a_window_over_five_seconds_or_with_a_drop)
{
    struct limiter limiter = limiter_run_begin(LIMITER_AIMD, 50);
    double at = 10000;
    limiter_run_window(&limiter, &at, 5001, 50);
    cr_assert_float_eq(limiter.limit, 45, 1e-9);
    limiter_run_window(&limiter, &at, 6000, 1);
    cr_assert_float_eq(limiter.limit, 40, 1e-9, "40.5, and whatever is in flight");
    limiter_run_drop(&limiter, at + 500, 100, 40);
    limiter_run_window(&limiter, &at, 100, 40);
    cr_assert_float_eq(limiter.limit, 36, 1e-9);
    limiter_run_window(&limiter, &at, 100, 40);
    cr_assert_float_eq(limiter.limit, 37, 1e-9);
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_EXCESS], 2);
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_REFUSED], 1);
}

Test(limiter_aimd, the_mean_of_a_window_counts_and_the_most_in_flight)
{
    struct limiter limiter = limiter_run_begin(LIMITER_AIMD, 20);
    for (int i = 0; i < 9; i++) {
        limiter_run_end(&limiter, 60000, 100, 1);
    }
    limiter_run_end(&limiter, 60000, 48000, 10); /* (9 × 0.1 + 48) ÷ 10 = 4.89 s */
    cr_assert_float_eq(limiter.limit, 21, 1e-9);
}

Test(limiter_aimd, a_window_lasts_a_second_and_needs_ten_answers)
{
    struct limiter limiter = limiter_run_begin(LIMITER_AIMD, 10);
    double at = 0;
    limiter_run_window(&limiter, &at, 400, 10);
    cr_assert_float_eq(limiter.limit, 11, 1e-9);
    for (int i = 1; i <= 100; i++) {
        limiter_run_end(&limiter, at + i * 10, 400, 11);
    }
    cr_assert_float_eq(limiter.limit, 11, 1e-9, "exactly a second has passed");
    limiter_run_end(&limiter, at + 1001, 400, 11);
    cr_assert_float_eq(limiter.limit, 12, 1e-9);
    for (int i = 1; i <= 9; i++) {
        limiter_run_end(&limiter, at + 1001 + i * 5000, 400, 12);
    }
    cr_assert_float_eq(limiter.limit, 12, 1e-9, "nine are too few, however long it takes");
    limiter_run_end(&limiter, at + 60000, 400, 12);
    cr_assert_float_eq(limiter.limit, 13, 1e-9);
}

Test(limiter_aimd, who_leaves_and_what_takes_no_time_say_nothing)
{
    struct limiter limiter = limiter_run_begin(LIMITER_AIMD, 10);
    for (int i = 0; i < 100; i++) {
        limiter_run_cancel(&limiter, 10000 + i * 100, 9000, 10);
        limiter_run_end(&limiter, 10000 + i * 100, 0.099, 10);
    }
    cr_assert_float_eq(limiter.limit, 10, 1e-9);
}

Test(limiter_aimd, time_constants_are_scaled)
{
    struct limiter limiter = limiter_run_begin(LIMITER_AIMD, 100);
    limiter.options.time_scale_milli = 10000;
    double at = 1000;
    for (int window = 1; window <= 3; window++) {
        at += 101;
        for (int i = 0; i < 10; i++) {
            limiter_run_end(&limiter, at, 501, 100);
        }
    }
    cr_assert_float_eq(limiter.limit, 72, 1e-9, "90, 81, 72");
}
