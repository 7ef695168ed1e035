/* What a worker remembers about keys that are not stored. */
#include "flight_world.h"

Test(cache_mark, of_an_uncacheable_key_ends_at_its_time)
{
    struct flights world = flights_create();
    struct cache_core *core = world.cores[0];
    cr_assert_not(cache_is_marked_uncacheable(core, 5, 0));
    cache_mark_uncacheable(core, 5, 1000);
    cr_assert(cache_is_marked_uncacheable(core, 5, 999));
    cr_assert_not(cache_is_marked_uncacheable(core, 5, 1000));
    cr_assert_not(cache_is_marked_uncacheable(core, 6, 999), "another key");
    cr_assert_not(cache_is_marked_uncacheable(world.cores[1], 5, 999), "another worker");
    flights_destroy(&world);
}

Test(cache_mark, of_failures_doubles_the_wait_up_to_a_minute)
{
    struct flights world = flights_create();
    struct cache_core *core = world.cores[0];
    cr_assert_not(cache_is_in_back_off(core, 5, 0));
    int64_t wait_ms = 1000;
    for (unsigned i = 0; i < 300; i++) {
        cache_mark_failed(core, 5, 0, true);
        cr_assert(cache_is_in_back_off(core, 5, wait_ms / 2 - 1), "half of it at least, after %u", i);
        cr_assert_not(cache_is_in_back_off(core, 5, wait_ms), "all of it at most, after %u", i);
        wait_ms = wait_ms * 2 < 60000 ? wait_ms * 2 : 60000;
    }
    cr_assert(cache_is_unreachable(core, 5));
    cache_mark_failed(core, 5, 0, false);
    cr_assert_not(cache_is_unreachable(core, 5), "it was reached the last time");
    flights_destroy(&world);
}

Test(cache_mark, goes_with_the_first_success)
{
    struct flights world = flights_create();
    struct cache_core *core = world.cores[0];
    cache_mark_failed(core, 5, 0, true);
    cache_mark_failed(core, 5, 0, true);
    cache_mark_succeeded(core, 5);
    cr_assert_not(cache_is_in_back_off(core, 5, 0));
    cr_assert_not(cache_is_unreachable(core, 5));
    cache_mark_failed(core, 5, 0, true);
    cr_assert_not(cache_is_in_back_off(core, 5, 1000), "the first of a new row");
    flights_destroy(&world);
}

Test(cache_mark, of_a_later_key_takes_the_place_of_an_earlier_one)
{
    struct flights world = flights_create();
    struct cache_core *core = world.cores[0];
    cache_mark_failed(core, 5, 0, true);
    cache_mark_uncacheable(core, 5 + CACHE_MARKS, 1000);
    cr_assert_not(cache_is_in_back_off(core, 5, 0));
    cr_assert_not(cache_is_in_back_off(core, 5 + CACHE_MARKS, 0), "it does not inherit");
    cr_assert(cache_is_marked_uncacheable(core, 5 + CACHE_MARKS, 0));
    cache_mark_succeeded(core, 5);
    cr_assert(cache_is_marked_uncacheable(core, 5 + CACHE_MARKS, 0));
    flights_destroy(&world);
}
