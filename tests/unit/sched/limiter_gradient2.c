#include "limiter_run.h"

#include <criterion/criterion.h>
#include <math.h>

Test(limiter_gradient2, moves_by_the_ratio_of_long_to_short)
{
    struct limiter limiter = limiter_run_begin(LIMITER_GRADIENT2, 20);
    double at = 0;
    limiter_run_window(&limiter, &at, 100, 20);
    cr_assert_float_eq(limiter.limit, 20, 1e-9); /* g = 1: 0.8 × 20 + 0.2 × 24 = 20.8 */
    limiter_run_window(&limiter, &at, 100, 20);
    cr_assert_float_eq(limiter.limit, 21, 1e-9); /* 21.6 */
    limiter_run_window(&limiter, &at, 300, 21);
    cr_assert_float_eq(limiter.limit, 21, 1e-9); /* long = 166.7, g = 0.833: 17.28 + 0.2 × 22 = 21.68 */
    limiter_run_window(&limiter, &at, 600, 21);
    cr_assert_float_eq(limiter.limit, 21, 1e-9); /* long = 275, g = 0.6875: 17.344 + 0.2 × 18.905 = 21.125 */
    limiter_run_window(&limiter, &at, 900, 21);
    cr_assert_float_eq(limiter.limit, 20, 1e-9); /* long = 400, g = 0.6667: 16.9 + 0.2 × 18.083 = 20.517 */
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_EXCESS], 2);
}

Test(limiter_gradient2, falls_by_no_more_than_half_a_fifth)
{
    struct limiter limiter = limiter_run_begin(LIMITER_GRADIENT2, 500);
    double at = 10000;
    for (int i = 0; i < 10; i++) {
        limiter_run_window(&limiter, &at, 100, 1); /* below half: only the long time is learned */
    }
    cr_assert_float_eq(limiter.limit, 500, 1e-9);
    limiter_run_window(&limiter, &at, 10000, 500);
    cr_assert_float_eq(limiter.limit, 450, 1e-9); /* 400 + 0.2 × (0.5 × 500 + 4) = 450.8 */
}

Test(limiter_gradient2, the_long_time_is_a_mean_over_600_windows_after_ten_plain_ones)
{
    struct limiter limiter = limiter_run_begin(LIMITER_GRADIENT2, 1000);
    double at = 0;
    for (int i = 0; i < 10; i++) {
        limiter_run_window(&limiter, &at, i == 9 ? 500 : 300, 1);
    }
    /* long = 320 + 320 × 2 ÷ 601 = 321.065: g = 0.752496, 800 + 0.2 × (752.496 + 4) = 951.299 */
    limiter_run_window(&limiter, &at, 640, 1000);
    cr_assert_float_eq(limiter.limit, 951, 1e-9);
}

Test(limiter_gradient2, the_long_time_moves_by_two_parts_in_601)
{
    struct limiter limiter;
    struct limiter_options options = {.kind = LIMITER_GRADIENT2, .initial = 1e8, .min = 1, .max = 1e9};
    limiter_init(&limiter, &options, 0);
    double at = 0;
    for (int i = 0; i < 10; i++) {
        limiter_run_window(&limiter, &at, 300, 1);
    }
    /* so large a limit shows the sixth digit */
    limiter_run_window(&limiter, &at, 500, 100000000);
    cr_assert_float_eq(limiter.limit, 8e7 + 0.2 * (1.5 * (300 + 200 * 2 / 601.0) / 500 * 1e8 + 4), 1.01);
}

Test(limiter_gradient2, a_long_time_of_twice_the_short_one_decays)
{
    struct limiter limiter = limiter_run_begin(LIMITER_GRADIENT2, 1000);
    double at = 0;
    for (int i = 0; i < 10; i++) {
        limiter_run_window(&limiter, &at, 300, 1);
    }
    limiter_run_window(&limiter, &at, 100, 1);
    /* long = 299.334 × 0.95 = 284.368; then 284.368 + 215.632 × 2 ÷ 601 = 285.085: g = 0.85526 */
    limiter_run_window(&limiter, &at, 500, 1000);
    cr_assert_float_eq(limiter.limit, floor(800 + 0.2 * (855.256 + 4)), 1e-9);
}

Test(limiter_gradient2, does_not_look_at_drops)
{
    struct limiter limiter = limiter_run_begin(LIMITER_GRADIENT2, 20);
    for (int i = 0; i < 10; i++) {
        limiter_run_drop(&limiter, 5000, 100, 20);
    }
    for (int i = 0; i < 10; i++) {
        limiter_run_drop(&limiter, 7000, 100, 20);
    }
    cr_assert_float_eq(limiter.limit, 21, 1e-9);
}

Test(limiter_gradient2, keeps_the_bounds_of_the_options)
{
    struct limiter limiter = limiter_run_begin(LIMITER_GRADIENT2, 20);
    limiter.options.max = 22;
    double at = 0;
    for (int i = 0; i < 20; i++) {
        limiter_run_window(&limiter, &at, 100, 22);
    }
    cr_assert_float_eq(limiter.limit, 22, 1e-9);
}
