#include "cache/qsbr.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { WORKERS = 3 };

Test(qsbr, with_everybody_offline_all_that_was_retired_has_passed)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    for (int i = 0; i < 5; i++) {
        uint64_t epoch = qsbr_retire(qsbr);
        cr_assert_geq(qsbr_passed(qsbr), epoch);
    }
    qsbr_destroy(qsbr);
}

Test(qsbr, each_retirement_has_a_newer_epoch)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    uint64_t first = qsbr_retire(qsbr);
    cr_assert_gt(qsbr_retire(qsbr), first);
    qsbr_destroy(qsbr);
}

Test(qsbr, an_online_worker_holds_back_until_it_is_quiescent)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    qsbr_online(qsbr, 1);
    uint64_t first = qsbr_retire(qsbr);
    cr_assert_lt(qsbr_passed(qsbr), first);
    qsbr_quiescent(qsbr, 1);
    cr_assert_geq(qsbr_passed(qsbr), first);
    uint64_t second = qsbr_retire(qsbr);
    cr_assert_geq(qsbr_passed(qsbr), first);
    cr_assert_lt(qsbr_passed(qsbr), second);
    qsbr_destroy(qsbr);
}

Test(qsbr, the_slowest_of_all_online_workers_counts)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    for (unsigned i = 0; i < WORKERS; i++) {
        qsbr_online(qsbr, i);
    }
    uint64_t epoch = qsbr_retire(qsbr);
    for (unsigned i = 0; i < WORKERS; i++) {
        cr_assert_lt(qsbr_passed(qsbr), epoch);
        qsbr_quiescent(qsbr, i);
    }
    cr_assert_geq(qsbr_passed(qsbr), epoch);
    qsbr_destroy(qsbr);
}

Test(qsbr, a_worker_that_goes_offline_holds_nothing_back)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    qsbr_online(qsbr, 0);
    qsbr_online(qsbr, 2);
    uint64_t epoch = qsbr_retire(qsbr);
    qsbr_quiescent(qsbr, 0);
    cr_assert_lt(qsbr_passed(qsbr), epoch);
    qsbr_offline(qsbr, 2);
    cr_assert_geq(qsbr_passed(qsbr), epoch);
    qsbr_destroy(qsbr);
}

Test(qsbr, a_worker_that_comes_online_late_holds_back_only_what_is_retired_later)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    uint64_t before = qsbr_retire(qsbr);
    qsbr_online(qsbr, 2);
    cr_assert_geq(qsbr_passed(qsbr), before, "it could not find it any more");
    uint64_t after = qsbr_retire(qsbr);
    cr_assert_geq(qsbr_passed(qsbr), before);
    cr_assert_lt(qsbr_passed(qsbr), after);
    qsbr_destroy(qsbr);
}

Test(qsbr, finds_what_is_pinned_by_any_worker_until_the_last_pin_goes)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    static uint64_t objects[5];
    const void *sorted[] = {&objects[0], &objects[1], &objects[2], &objects[4]};
    bool is_pinned[4] = {true, true, true, true};
    uint32_t slots[4];
    cr_assert_eq(qsbr_pin(qsbr, 0, &objects[1], &slots[0]), RESULT_OK);
    cr_assert_eq(qsbr_pin(qsbr, 2, &objects[1], &slots[1]), RESULT_OK);
    cr_assert_eq(qsbr_pin(qsbr, 2, &objects[4], &slots[2]), RESULT_OK);
    cr_assert_eq(qsbr_pin(qsbr, 2, &objects[3], &slots[3]), RESULT_OK, "that nobody asks about");
    qsbr_find_pinned(qsbr, sorted, 4, is_pinned);
    cr_assert(!is_pinned[0] && is_pinned[1] && !is_pinned[2] && is_pinned[3]);
    qsbr_unpin(qsbr, 0, slots[0]);
    qsbr_find_pinned(qsbr, sorted, 4, is_pinned);
    cr_assert(is_pinned[1], "once more, by another worker");
    qsbr_unpin(qsbr, 2, slots[1]);
    qsbr_find_pinned(qsbr, sorted, 4, is_pinned);
    cr_assert(!is_pinned[1] && is_pinned[3]);
    qsbr_unpin(qsbr, 2, slots[2]);
    qsbr_unpin(qsbr, 2, slots[3]);
    qsbr_find_pinned(qsbr, sorted, 4, is_pinned);
    cr_assert(!is_pinned[0] && !is_pinned[1] && !is_pinned[2] && !is_pinned[3]);
    qsbr_destroy(qsbr);
}

Test(qsbr, asked_about_nothing_it_touches_nothing)
{
    struct qsbr *qsbr = qsbr_create(1);
    bool is_pinned = true;
    qsbr_find_pinned(qsbr, NULL, 0, &is_pinned);
    cr_assert(is_pinned);
    qsbr_destroy(qsbr);
}

Test(qsbr, pins_are_not_ended_by_quiescent_states_or_sleep)
{
    struct qsbr *qsbr = qsbr_create(WORKERS);
    uint64_t object;
    const void *sorted[] = {&object};
    uint32_t slot;
    bool is_pinned;
    qsbr_online(qsbr, 1);
    cr_assert_eq(qsbr_pin(qsbr, 1, &object, &slot), RESULT_OK);
    uint64_t epoch = qsbr_retire(qsbr);
    qsbr_quiescent(qsbr, 1);
    qsbr_offline(qsbr, 1);
    cr_assert_geq(qsbr_passed(qsbr), epoch);
    qsbr_find_pinned(qsbr, sorted, 1, &is_pinned);
    cr_assert(is_pinned);
    qsbr_unpin(qsbr, 1, slot);
    qsbr_destroy(qsbr);
}

Test(qsbr, a_table_takes_65536_pins_and_then_says_so)
{
    enum { MOST = 65536 };
    struct qsbr *qsbr = qsbr_create(2);
    static uint64_t objects[MOST];
    static const void *sorted[MOST];
    static uint32_t slots[MOST];
    static bool is_pinned[MOST], is_taken[MOST];
    for (size_t i = 0; i < MOST; i++) {
        sorted[i] = &objects[i];
        cr_assert_eq(qsbr_pin(qsbr, 1, &objects[i], &slots[i]), RESULT_OK);
        cr_assert_lt(slots[i], MOST);
        cr_assert_not(is_taken[slots[i]], "each slot once");
        is_taken[slots[i]] = true;
    }
    uint32_t slot = 7;
    cr_assert_eq(qsbr_pin(qsbr, 1, &objects[0], &slot), RESULT_LIMIT);
    cr_assert_eq(slot, 7);
    cr_assert_eq(qsbr_pin(qsbr, 0, &objects[0], &slot), RESULT_OK, "another worker has its own");
    qsbr_unpin(qsbr, 0, slot);
    for (size_t i = 0; i < MOST; i += 3) {
        qsbr_unpin(qsbr, 1, slots[i]);
    }
    qsbr_find_pinned(qsbr, sorted, MOST, is_pinned);
    for (size_t i = 0; i < MOST; i++) {
        cr_assert_eq(is_pinned[i], i % 3 != 0);
    }
    for (size_t i = 0; i < MOST; i += 3) {
        cr_assert_eq(qsbr_pin(qsbr, 1, &objects[i], &slots[i]), RESULT_OK);
    }
    cr_assert_eq(qsbr_pin(qsbr, 1, &objects[0], &slot), RESULT_LIMIT);
    qsbr_destroy(qsbr);
}
