#include "sched/endpoints.h"

#include <criterion/criterion.h>
#include <math.h>

#define PERIOD NANOS_PER_S

static struct endpoints fresh(uint32_t count, uint32_t limit)
{
    struct endpoints endpoints;
    endpoints_init(&endpoints, count, limit, PERIOD, 0);
    return endpoints;
}

static void grant(struct endpoints *endpoints, unsigned index, unsigned times)
{
    for (unsigned i = 0; i < times; i++) {
        endpoints_grant(endpoints, index);
    }
}

/* Chooses and grants one after the other until nobody has room; gives how many that were. */
static unsigned fill(struct endpoints *endpoints, nanos now, unsigned most)
{
    unsigned granted = 0;
    while (granted < most) {
        unsigned index = endpoints_choose(endpoints, now, 0);
        if (index == SCHED_ENDPOINT_ANY) {
            break;
        }
        endpoints_grant(endpoints, index);
        granted++;
    }
    return granted;
}

Test(endpoints, equals_take_turns)
{
    struct endpoints endpoints = fresh(3, 0);
    for (unsigned i = 0; i < 9; i++) {
        unsigned index = endpoints_choose(&endpoints, 0, 0);
        cr_assert_eq(index, i % 3);
        endpoints_grant(&endpoints, index);
        endpoints_release(&endpoints, index);
    }
}

Test(endpoints, the_least_loaded_is_chosen)
{
    struct endpoints endpoints = fresh(3, 10);
    grant(&endpoints, 0, 4);
    grant(&endpoints, 1, 2);
    grant(&endpoints, 2, 3);
    cr_assert_eq(endpoints_choose(&endpoints, 0, 0), 1);
    endpoints.all[0].limit = 40; /* 4 of 40 are less than 2 of 10 */
    cr_assert_eq(endpoints_choose(&endpoints, 0, 0), 0);
}

Test(endpoints, only_those_allowed_are_chosen)
{
    struct endpoints endpoints = fresh(64, 1);
    cr_assert_eq(endpoints_choose(&endpoints, 0, UINT64_C(1) << 63), 63);
    endpoints_grant(&endpoints, 63);
    cr_assert_eq(endpoints_choose(&endpoints, 0, UINT64_C(1) << 63), SCHED_ENDPOINT_ANY);
    cr_assert_eq(endpoints_choose(&endpoints, 0, UINT64_C(1) << 63 | 4), 2);
    cr_assert_eq(endpoints_with_room(&endpoints, 0), UINT64_MAX >> 1);
}

Test(endpoints, nobody_is_given_more_than_its_limit)
{
    struct endpoints endpoints = fresh(3, 5);
    cr_assert_eq(fill(&endpoints, 0, 100), 15);
    cr_assert_eq(endpoints_with_room(&endpoints, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(endpoints.all[i].in_flight, 5);
    }
    endpoints_release(&endpoints, 1);
    cr_assert_eq(endpoints_with_room(&endpoints, 0), 2);
    cr_assert_eq(endpoints_choose(&endpoints, 0, 0), 1);
}

Test(endpoints, without_a_limit_there_is_always_room)
{
    struct endpoints endpoints = fresh(2, 0);
    cr_assert_eq(fill(&endpoints, 0, 10000), 10000);
    cr_assert_eq(endpoints.all[0].in_flight, 5000);
}

Test(endpoints, a_refusal_teaches_seven_tenths_of_what_was_in_flight)
{
    struct endpoints endpoints = fresh(2, 0);
    grant(&endpoints, 0, 10);
    endpoints_refuse(&endpoints, 100, 0, 50, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 7, 1e-9);
    cr_assert(isinf(endpoints.all[1].limit));
    cr_assert_eq(endpoints_with_room(&endpoints, 100), 2);
    for (unsigned i = 0; i < 4; i++) {
        endpoints_release(&endpoints, 0);
    }
    cr_assert_eq(endpoints_with_room(&endpoints, 100), 3, "6 of 7");
}

Test(endpoints, one_cut_answers_for_all_that_were_granted_before_it)
{
    struct endpoints endpoints = fresh(1, 100);
    grant(&endpoints, 0, 100);
    for (unsigned i = 0; i < 50; i++) {
        endpoints_refuse(&endpoints, 1000 + i, 0, 900 + i, 0);
    }
    cr_assert_float_eq(endpoints.all[0].limit, 70, 1e-9);
    cr_assert_eq(endpoints.all[0].cuts, 1);
    endpoints_refuse(&endpoints, 2000, 0, 1000, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 70, 1e-9, "granted at the moment of the cut");
    endpoints_refuse(&endpoints, 2000, 0, 1001, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 49, 1e-9);
    endpoints_refuse(&endpoints, 2000, 0, 1500, 0);
    cr_assert_eq(endpoints.all[0].cuts, 2);
}

Test(endpoints, what_was_granted_at_the_very_beginning_can_be_refused)
{
    struct endpoints endpoints = fresh(1, 10);
    endpoints_refuse(&endpoints, 0, 0, 0, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 7, 1e-9);
}

Test(endpoints, one_may_always_be_sent)
{
    struct endpoints endpoints = fresh(1, 0);
    for (nanos now = 1; now < 100; now++) {
        endpoints_refuse(&endpoints, now * 10, 0, now * 10 - 1, 0);
    }
    cr_assert_float_eq(endpoints.all[0].limit, 1, 1e-9);
    cr_assert_eq(fill(&endpoints, 2000 + 16 * PERIOD, 10), 1);
}

Test(endpoints, one_that_refuses_again_and_again_gets_longer_pauses_until_it_serves_one)
{
    struct endpoints endpoints = fresh(2, 10);
    endpoints_refuse(&endpoints, 100, 0, 50, 0);
    cr_assert_eq(endpoints_with_room(&endpoints, 100), 3, "the first may be for its load");
    nanos now = 100;
    nanos expected[] = {1, 2, 4, 8, 16, 16};
    for (unsigned i = 0; i < 6; i++) {
        endpoints_refuse(&endpoints, now + 2, 0, now + 1, 0);
        endpoints_refuse(&endpoints, now + 3, 0, now + 1, 0); /* the same trouble */
        now += 2;
        cr_assert_eq(endpoints_next_ns(&endpoints, now), now + expected[i] * PERIOD);
        cr_assert_eq(endpoints_with_room(&endpoints, now), 2);
        now += expected[i] * PERIOD;
        cr_assert_eq(endpoints_with_room(&endpoints, now), 3);
    }
    endpoints_succeed(&endpoints, 0);
    endpoints_refuse(&endpoints, now + 2, 0, now + 1, 0);
    cr_assert_eq(endpoints_with_room(&endpoints, now + 2), 3);
}

Test(endpoints, one_that_cannot_be_reached_is_left_alone_but_keeps_its_limit)
{
    struct endpoints endpoints = fresh(2, 10);
    endpoints_fail(&endpoints, 100, 1, 50);
    endpoints_fail(&endpoints, 101, 1, 60);
    endpoints_fail(&endpoints, 102, SCHED_ENDPOINT_ANY, 60);
    cr_assert_eq(endpoints_with_room(&endpoints, 101), 1);
    cr_assert_eq(endpoints_next_ns(&endpoints, 101), 100 + PERIOD);
    endpoints_fail(&endpoints, 200 + PERIOD, 1, 150 + PERIOD);
    cr_assert_eq(endpoints_next_ns(&endpoints, 200 + PERIOD), 200 + 3 * PERIOD);
    cr_assert_float_eq(endpoints.all[1].limit, 10, 1e-9);
    cr_assert_eq(endpoints.all[1].cuts, 0);
}

Test(endpoints, what_was_learned_is_forgotten_when_it_was_not_reached_for_long)
{
    struct endpoints endpoints = fresh(2, 0);
    grant(&endpoints, 0, 10);
    cr_assert(endpoints_are_free(&endpoints, 0));
    endpoints_refuse(&endpoints, 10, 0, 5, 0);
    for (unsigned i = 0; i < 5; i++) {
        endpoints_release(&endpoints, 0);
    }
    for (unsigned i = 1; i < 240; i++) {
        endpoints_advance(&endpoints, i * PERIOD);
    }
    endpoints_succeed(&endpoints, 0);
    cr_assert(!endpoints_are_free(&endpoints, 239 * PERIOD));
    cr_assert_float_eq(endpoints.all[0].limit, 7, 1e-9);
    endpoints_advance(&endpoints, 240 * PERIOD);
    cr_assert(endpoints_are_free(&endpoints, 240 * PERIOD));
}

Test(endpoints, those_granted_elsewhere_count_for_what_a_refusal_teaches)
{
    struct endpoints endpoints = fresh(2, 0);
    grant(&endpoints, 0, 10);
    endpoints.uncounted = 20;
    endpoints_refuse(&endpoints, 10, 0, 5, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 21, 1e-9);
}

Test(endpoints, all_are_paused_until_the_first_of_those_allowed_is_not)
{
    struct endpoints endpoints = fresh(3, 0);
    endpoints_refuse(&endpoints, 100, 0, 50, 1000);
    endpoints_refuse(&endpoints, 100, 1, 50, 2000);
    cr_assert_eq(endpoints_paused_until(&endpoints, 100, 0), 0);
    cr_assert_eq(endpoints_paused_until(&endpoints, 100, 3), 1100);
    cr_assert_eq(endpoints_paused_until(&endpoints, 100, 2), 2100);
    cr_assert_eq(endpoints_paused_until(&endpoints, 1100, 3), 0);
}

Test(endpoints, a_fraction_of_one_is_not_room)
{
    struct endpoints endpoints = fresh(1, 5);
    endpoints_refuse(&endpoints, 10, 0, 5, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 3.5, 1e-9);
    cr_assert_eq(fill(&endpoints, 20, 10), 3);
}

Test(endpoints, a_limit_grows_back_by_one_a_period_while_it_is_used_up)
{
    struct endpoints endpoints = fresh(1, 10);
    endpoints_refuse(&endpoints, 10, 0, 5, 0);
    cr_assert_float_eq(endpoints.all[0].limit, 7, 1e-9);
    grant(&endpoints, 0, 6);
    endpoints_advance(&endpoints, PERIOD);
    cr_assert_float_eq(endpoints.all[0].limit, 7, 1e-9, "6 were not all");
    endpoints_grant(&endpoints, 0);
    endpoints_release(&endpoints, 0);
    endpoints_advance(&endpoints, 2 * PERIOD - 1);
    cr_assert_float_eq(endpoints.all[0].limit, 7, 1e-9, "not before the period is over");
    endpoints_advance(&endpoints, 2 * PERIOD);
    cr_assert_float_eq(endpoints.all[0].limit, 8, 1e-9, "for a moment it was");
    endpoints_advance(&endpoints, 3 * PERIOD);
    cr_assert_float_eq(endpoints.all[0].limit, 8, 1e-9);
    grant(&endpoints, 0, 2);
    for (unsigned i = 4; i < 20; i++) {
        (void)fill(&endpoints, i * PERIOD - 1, 100);
        endpoints_advance(&endpoints, i * PERIOD);
    }
    cr_assert_float_eq(endpoints.all[0].limit, 10, 1e-9, "and not beyond what the configuration says");
}

Test(endpoints, one_that_is_full_all_the_time_grows_each_period)
{
    struct endpoints endpoints = fresh(1, 0);
    grant(&endpoints, 0, 10);
    endpoints_refuse(&endpoints, 10, 0, 5, 0);
    for (unsigned i = 1; i <= 4; i++) {
        endpoints_advance(&endpoints, i * PERIOD);
    }
    cr_assert_float_eq(endpoints.all[0].limit, 10, 1e-9, "7 at first, of which the first period saw no use");
    cr_assert_eq(endpoints_with_room(&endpoints, 5 * PERIOD), 0);
}

Test(endpoints, a_pause_is_for_one_endpoint_until_it_is_over)
{
    struct endpoints endpoints = fresh(2, 0);
    cr_assert_eq(endpoints_next_ns(&endpoints, 0), NANOS_NEVER);
    endpoints_grant(&endpoints, 0);
    endpoints_refuse(&endpoints, 100, 0, 50, 1000);
    endpoints_refuse(&endpoints, 110, 0, 60, 20);
    cr_assert_eq(endpoints_with_room(&endpoints, 1099), 2, "a shorter one does not end a longer one");
    cr_assert_eq(endpoints_choose(&endpoints, 1099, 1), SCHED_ENDPOINT_ANY);
    cr_assert_eq(endpoints_choose(&endpoints, 1099, 0), 1);
    cr_assert_eq(endpoints_next_ns(&endpoints, 110), 1100);
    endpoints_refuse(&endpoints, 120, 1, 60, 100);
    cr_assert_eq(endpoints_next_ns(&endpoints, 120), 220);
    cr_assert_eq(endpoints_with_room(&endpoints, 130), 0);
    cr_assert_eq(endpoints_next_ns(&endpoints, 1100), NANOS_NEVER);
    endpoints_release(&endpoints, 0);
    cr_assert_eq(endpoints_with_room(&endpoints, 1100), 3);
}

Test(endpoints, a_pause_for_ever_does_not_wrap)
{
    struct endpoints endpoints = fresh(1, 0);
    endpoints_refuse(&endpoints, 100, 0, 50, NANOS_NEVER - 5);
    cr_assert_eq(endpoints_with_room(&endpoints, NANOS_PER_S * 1000000), 0);
}

Test(endpoints, one_without_a_limit_counts_as_the_best_of_the_others)
{
    struct endpoints endpoints = fresh(3, 0);
    grant(&endpoints, 0, 20);
    endpoints_refuse(&endpoints, 10, 0, 5, 0); /* 14 */
    for (unsigned i = 0; i < 13; i++) {
        endpoints_release(&endpoints, 0);
    }
    grant(&endpoints, 1, 6);
    grant(&endpoints, 2, 5);
    cr_assert_eq(endpoints_choose(&endpoints, 20, 6), 2);
    cr_assert_eq(endpoints_choose(&endpoints, 20, 5), 2, "5 of 14 are less than 7");
    grant(&endpoints, 2, 3);
    cr_assert_eq(endpoints_choose(&endpoints, 20, 5), 0);
}

Test(endpoints, what_went_elsewhere_is_counted_there)
{
    struct endpoints endpoints = fresh(2, 3);
    endpoints_grant(&endpoints, 0);
    endpoints_move(&endpoints, 0, 1);
    cr_assert_eq(endpoints.all[0].in_flight, 0);
    cr_assert_eq(endpoints.all[1].in_flight, 1);
    endpoints_move(&endpoints, SCHED_ENDPOINT_ANY, 0);
    cr_assert_eq(endpoints.all[0].in_flight, 1, "the pool has chosen");
    endpoints_release(&endpoints, SCHED_ENDPOINT_ANY);
    endpoints_refuse(&endpoints, 10, SCHED_ENDPOINT_ANY, 5, 1000);
    cr_assert_eq(endpoints_with_room(&endpoints, 10), 3);
}

Test(endpoints, no_count_is_one)
{
    struct endpoints endpoints = fresh(0, 1);
    cr_assert_eq(fill(&endpoints, 0, 10), 1);
}
