/* When fetching ahead is counted as useful or wasted, and when it stops. */
#include "cache/prefetch_ledger.h"

#include <criterion/criterion.h>

enum { OWNER = 3 };
#define WINDOW (NANOS_PER_S)

static struct prefetch_ledger ledger;
static nanos now;

static void begin_with(unsigned floor_percent)
{
    now = 100 * WINDOW;
    prefetch_ledger_init(&ledger, OWNER, floor_percent, WINDOW);
}

static void counts_are(uint64_t begun, uint64_t useful, uint64_t wasted)
{
    cr_expect(atomic_load(&ledger.begun) == begun, "begun %llu", (unsigned long long)atomic_load(&ledger.begun));
    cr_expect(atomic_load(&ledger.useful) == useful, "useful %llu", (unsigned long long)atomic_load(&ledger.useful));
    cr_expect(atomic_load(&ledger.wasted) == wasted, "wasted %llu", (unsigned long long)atomic_load(&ledger.wasted));
}

static uint64_t begin(void)
{
    uint64_t ticket = prefetch_ledger_begin(&ledger, now);
    cr_assert(ticket != 0);
    cr_assert(prefetch_ledger_owner(ticket) == OWNER);
    return ticket;
}

static void begin_used(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        prefetch_ledger_use(&ledger, begin(), true, now);
    }
}

static void begin_wasted(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        (void)begin();
    }
    now += WINDOW;
    (void)prefetch_ledger_may_begin(&ledger, now);
}

Test(prefetch_ledger, what_is_used_within_the_window_is_useful_and_counts_once)
{
    begin_with(50);
    uint64_t ticket = begin();
    counts_are(1, 0, 0);
    now += WINDOW - 1;
    prefetch_ledger_use(&ledger, ticket, true, now);
    counts_are(1, 1, 0);
    prefetch_ledger_use(&ledger, ticket, true, now);
    counts_are(1, 1, 0);
    now += WINDOW;
    cr_expect(prefetch_ledger_may_begin(&ledger, now));
    counts_are(1, 1, 0);
}

Test(prefetch_ledger, what_is_not_used_within_the_window_is_wasted)
{
    begin_with(50);
    uint64_t ticket = begin();
    now += WINDOW - 1;
    cr_expect(prefetch_ledger_may_begin(&ledger, now));
    counts_are(1, 0, 0);
    now += 1;
    cr_expect(prefetch_ledger_may_begin(&ledger, now));
    counts_are(1, 0, 1);
    prefetch_ledger_use(&ledger, ticket, true, now);
    counts_are(1, 0, 1);
}

Test(prefetch_ledger, a_use_that_comes_too_late_is_none)
{
    begin_with(50);
    uint64_t ticket = begin();
    now += WINDOW;
    prefetch_ledger_use(&ledger, ticket, true, now);
    counts_are(1, 0, 1);
}

Test(prefetch_ledger, a_use_on_another_worker_counts_when_it_is_judged)
{
    begin_with(50);
    uint64_t ticket = begin();
    uint64_t other = begin();
    prefetch_ledger_use(&ledger, other, false, now);
    counts_are(2, 0, 0);
    prefetch_ledger_use(&ledger, ticket, false, now);
    cr_expect(prefetch_ledger_may_begin(&ledger, now));
    counts_are(2, 2, 0);
}

Test(prefetch_ledger, an_old_ticket_does_nothing_to_who_has_its_slot)
{
    begin_with(0);
    uint64_t old = begin();
    prefetch_ledger_use(&ledger, old, true, now);
    for (unsigned i = 1; i < PREFETCH_LEDGER_SLOTS; i++) {
        begin_used(1);
    }
    uint64_t young = begin();
    cr_assert((old >> 16 & 0xffff) == (young >> 16 & 0xffff), "the slots have come round");
    prefetch_ledger_use(&ledger, old, true, now);
    prefetch_ledger_use(&ledger, old, false, now);
    now += WINDOW;
    cr_expect(prefetch_ledger_may_begin(&ledger, now));
    counts_are(PREFETCH_LEDGER_SLOTS + 1, PREFETCH_LEDGER_SLOTS, 1);
}

Test(prefetch_ledger, a_trial_lets_sixteen_out_until_they_are_judged)
{
    begin_with(50);
    uint64_t tickets[PREFETCH_LEDGER_TRIAL];
    for (unsigned i = 0; i < PREFETCH_LEDGER_TRIAL; i++) {
        tickets[i] = begin();
    }
    cr_expect(prefetch_ledger_begin(&ledger, now) == 0);
    for (unsigned i = 0; i < PREFETCH_LEDGER_TRIAL; i++) {
        prefetch_ledger_use(&ledger, tickets[i], true, now);
        cr_expect(prefetch_ledger_may_begin(&ledger, now) == (i + 1 == PREFETCH_LEDGER_TRIAL));
    }
    cr_expect(ledger.state == PREFETCH_GOING);
}

Test(prefetch_ledger, no_more_are_out_than_there_are_slots)
{
    begin_with(50);
    begin_used(PREFETCH_LEDGER_TRIAL);
    for (unsigned i = 0; i < PREFETCH_LEDGER_SLOTS; i++) {
        (void)begin();
    }
    cr_expect(prefetch_ledger_begin(&ledger, now) == 0);
    now += WINDOW - 1;
    cr_expect(prefetch_ledger_begin(&ledger, now) == 0);
}

Test(prefetch_ledger, one_that_stays_out_keeps_no_room_from_others)
{
    begin_with(50);
    begin_used(PREFETCH_LEDGER_TRIAL);
    uint64_t first = begin();
    begin_used(10 * PREFETCH_LEDGER_SLOTS);
    prefetch_ledger_use(&ledger, first, true, now);
    counts_are(PREFETCH_LEDGER_TRIAL + 10 * PREFETCH_LEDGER_SLOTS + 1,
               PREFETCH_LEDGER_TRIAL + 10 * PREFETCH_LEDGER_SLOTS + 1, 0);
}

Test(prefetch_ledger, precision_below_the_floor_stops_it)
{
    begin_with(50);
    begin_used(7);
    begin_wasted(8);
    cr_expect(ledger.state == PREFETCH_TRIAL && atomic_load(&ledger.is_stopped) == 0);
    begin_wasted(1);
    cr_expect(ledger.state == PREFETCH_STOPPED && atomic_load(&ledger.is_stopped) == 1);
    cr_expect(prefetch_ledger_begin(&ledger, now) == 0);
    counts_are(16, 7, 9);
}

Test(prefetch_ledger, precision_at_the_floor_goes_on)
{
    begin_with(50);
    begin_used(8);
    begin_wasted(8);
    cr_expect(ledger.state == PREFETCH_GOING);
    begin_with(0);
    begin_wasted(16);
    cr_expect(ledger.state == PREFETCH_GOING, "a floor of 0 never stops");
}

Test(prefetch_ledger, what_went_well_long_ago_does_not_hold_up_the_stop)
{
    begin_with(50);
    begin_used(10000);
    unsigned wasted = 0;
    while (ledger.state == PREFETCH_GOING) {
        begin_wasted(1);
        wasted++;
    }
    cr_expect(wasted <= PREFETCH_LEDGER_RECENT_MAX, "%u", wasted);
}

static void stop_and_wait(unsigned windows)
{
    begin_wasted(PREFETCH_LEDGER_TRIAL);
    cr_assert(ledger.state == PREFETCH_STOPPED);
    now += windows * WINDOW - 1;
    cr_expect(!prefetch_ledger_may_begin(&ledger, now), "%u", windows);
    cr_expect(atomic_load(&ledger.is_stopped) == 1);
    now += 1;
    cr_expect(prefetch_ledger_may_begin(&ledger, now), "%u", windows);
    cr_expect(atomic_load(&ledger.is_stopped) == 0);
}

Test(prefetch_ledger, it_tries_again_after_a_pause_that_doubles_up_to_a_bound)
{
    begin_with(50);
    unsigned windows = PREFETCH_LEDGER_PAUSE_WINDOWS;
    for (unsigned i = 0; i < 10; i++) {
        stop_and_wait(windows);
        windows *= i < PREFETCH_LEDGER_PAUSE_DOUBLINGS_MAX ? 2 : 1;
    }
    counts_are(160, 0, 160);
}

Test(prefetch_ledger, a_pause_is_short_again_when_it_has_gone_well_for_long)
{
    begin_with(50);
    stop_and_wait(PREFETCH_LEDGER_PAUSE_WINDOWS);
    stop_and_wait(PREFETCH_LEDGER_PAUSE_WINDOWS * 2);
    begin_used(PREFETCH_LEDGER_RECENT_MAX);
    while (ledger.state == PREFETCH_GOING) {
        begin_wasted(1);
    }
    now += PREFETCH_LEDGER_PAUSE_WINDOWS * WINDOW;
    cr_expect(prefetch_ledger_may_begin(&ledger, now));
}

Test(prefetch_ledger, what_began_before_the_stop_does_not_count_in_the_next_trial)
{
    begin_with(50);
    begin_used(PREFETCH_LEDGER_TRIAL);
    for (unsigned i = 0; i < 100; i++) {
        (void)begin();
    }
    now += WINDOW;
    cr_expect(!prefetch_ledger_may_begin(&ledger, now));
    counts_are(116, 16, 100);
    now += PREFETCH_LEDGER_PAUSE_WINDOWS * WINDOW;
    begin_used(PREFETCH_LEDGER_TRIAL);
    cr_expect(ledger.state == PREFETCH_GOING);
}
