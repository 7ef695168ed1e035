#include "limiter_run.h"

#include <criterion/criterion.h>

static void assert_step(struct limiter *limiter, double took_ms, uint32_t in_flight, double expected)
{
    limiter_run_end(limiter, 100000, took_ms, in_flight);
    cr_assert_float_eq(limiter->limit, expected, 1e-9, "%.0f after %.0f ms", limiter->limit, took_ms);
}

Test(limiter_vegas, moves_by_the_estimated_queue)
{
    struct limiter limiter = limiter_run_begin(LIMITER_VEGAS, 20);
    assert_step(&limiter, 100, 20, 20); /* the first is RTT0 */
    assert_step(&limiter, 100, 20, 26); /* q = 0 */
    assert_step(&limiter, 100, 26, 32);
    assert_step(&limiter, 110, 32, 32); /* q = ⌈32 × 0.0909⌉ = 3: neither < 3 nor > 6 */
    assert_step(&limiter, 105, 32, 33); /* q = ⌈1.52⌉ = 2 */
    assert_step(&limiter, 103, 33, 39); /* q = ⌈0.96⌉ = 1 */
    assert_step(&limiter, 118, 39, 39); /* q = ⌈5.95⌉ = 6 */
    assert_step(&limiter, 119, 39, 38); /* q = ⌈6.23⌉ = 7 */
    assert_step(&limiter, 900, 18, 38); /* less than half is in flight */
    assert_step(&limiter, 900, 19, 37);
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_EXCESS], 2);
}

Test(limiter_vegas, a_drop_lowers_it_whatever_is_in_flight)
{
    struct limiter limiter = limiter_run_begin(LIMITER_VEGAS, 20);
    limiter_run_drop(&limiter, 1000, 100, 1);
    cr_assert_float_eq(limiter.limit, 20, 1e-9, "the first is RTT0, dropped or not");
    limiter_run_drop(&limiter, 1000, 100, 1);
    cr_assert_float_eq(limiter.limit, 19, 1e-9);
    cr_assert_eq(limiter.cuts[LIMITER_CAUSE_REFUSED], 1);
}

Test(limiter_vegas, a_new_least_time_moves_that_alone)
{
    struct limiter limiter = limiter_run_begin(LIMITER_VEGAS, 20);
    assert_step(&limiter, 100, 20, 20);
    assert_step(&limiter, 50, 20, 20);
    assert_step(&limiter, 100, 20, 19); /* q = 10 */
}

Test(limiter_vegas, steps_are_the_logarithm_of_the_limit)
{
    struct limiter limiter = limiter_run_begin(LIMITER_VEGAS, 100);
    assert_step(&limiter, 100, 100, 100);
    assert_step(&limiter, 100, 100, 112);
    assert_step(&limiter, 104, 112, 114); /* q = ⌈4.31⌉ = 5 < 6 */
    assert_step(&limiter, 112, 114, 112); /* q = ⌈12.21⌉ = 13 > 12 */
    limiter = limiter_run_begin(LIMITER_VEGAS, 5);
    assert_step(&limiter, 100, 5, 5);
    assert_step(&limiter, 100, 5, 11);
}

Test(limiter_vegas, the_least_time_is_taken_anew_every_so_many_answers)
{
    struct limiter limiter = limiter_run_begin(LIMITER_VEGAS, 20);
    assert_step(&limiter, 100, 20, 20);
    int answers = 1;
    while (limiter.cuts[LIMITER_CAUSE_PROBE] == 0) {
        assert_step(&limiter, 200, 0, 20);
        answers++;
        cr_assert_leq(answers, 600, "30 × 20 at most");
    }
    cr_assert_geq(answers, 300, "half of that at least");
    assert_step(&limiter, 200, 20, 26);
}

Test(limiter_vegas, who_leaves_says_nothing)
{
    struct limiter limiter = limiter_run_begin(LIMITER_VEGAS, 20);
    limiter_run_cancel(&limiter, 1000, 1, 20);
    assert_step(&limiter, 100, 20, 20);
    assert_step(&limiter, 100, 20, 26);
}
