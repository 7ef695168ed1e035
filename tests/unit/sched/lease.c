#include "sched/lease.h"

#include <criterion/criterion.h>

static struct lease lease;

static unsigned take_all(void)
{
    unsigned count = 0;
    while (lease_take(&lease)) {
        count++;
    }
    return count;
}

Test(lease, gives_as_many_as_were_lent)
{
    lease_init(&lease);
    cr_expect(!lease_take(&lease));
    lease_lend(&lease, 2);
    lease_lend(&lease, 1);
    cr_expect_eq(lease_free(&lease), 3);
    cr_expect_eq(take_all(), 3);
    cr_expect(!lease_give_back(&lease), "the owner need not know");
    cr_expect_eq(take_all(), 1);
    cr_expect_eq(lease.lent, 3);
}

Test(lease, recalled_slots_come_back_at_once_when_free_and_as_they_end_when_taken)
{
    lease_init(&lease);
    lease_lend(&lease, 3);
    cr_assert(lease_take(&lease));
    cr_assert(lease_take(&lease));
    cr_expect_eq(lease_recall(&lease), 1);
    cr_expect_eq(lease.lent, 2);
    cr_expect(!lease_take(&lease));
    cr_expect(lease_give_back(&lease), "the owner is to be told");
    cr_expect_eq(lease_collect(&lease), 1);
    cr_expect_eq(lease_collect(&lease), 0);
    cr_expect_eq(lease.lent, 1);
    cr_expect(lease_give_back(&lease));
    cr_expect_eq(lease_recall(&lease), 1, "a recall collects, too");
    cr_expect_eq(lease.lent, 0);
}

Test(lease, what_was_taken_before_a_recall_is_free_again_when_it_ends_after_the_next_lending)
{
    lease_init(&lease);
    lease_lend(&lease, 1);
    cr_assert(lease_take(&lease));
    cr_expect_eq(lease_recall(&lease), 0);
    lease_lend(&lease, 1);
    cr_expect_eq(lease.lent, 2);
    cr_expect(!lease_give_back(&lease));
    cr_expect_eq(take_all(), 2);
}

Test(lease, says_whether_it_was_used_since_it_was_last_asked)
{
    lease_init(&lease);
    lease_lend(&lease, 1);
    cr_expect(!lease_was_used(&lease));
    cr_assert(lease_take(&lease));
    cr_expect(lease_was_used(&lease));
    cr_expect(!lease_was_used(&lease));
}

Test(lease, events_come_in_order_and_a_full_ring_takes_none)
{
    lease_init(&lease);
    struct lease_event event = {.kind = LEASE_TOKENS};
    cr_expect(!lease_pop(&lease, &event));
    unsigned heard = 0;
    unsigned told = 0;
    for (unsigned round = 0; round < 3; round++) {
        for (;;) {
            event.tokens = told;
            if (!lease_push(&lease, &event)) {
                break;
            }
            told++;
        }
        cr_expect_eq(told - heard, LEASE_EVENTS);
        cr_expect(lease_is_filling(&lease));
        for (unsigned i = 0; i < LEASE_EVENTS / 2 + round; i++) {
            cr_assert(lease_pop(&lease, &event));
            cr_expect_eq(event.tokens, heard++);
        }
        cr_expect(!lease_is_filling(&lease));
    }
}
