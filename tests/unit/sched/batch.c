#include "sched/batch.h"

#include <criterion/criterion.h>
#include <string.h>

#include "base/check.h"

enum { ITEMS = 64, CALLS = 64 };

#define MS NANOS_PER_MS

/* What left, in order: each call as the numbers of its items. */
struct record {
    struct batch_former *former;
    struct batch_item items[ITEMS];
    unsigned count; /* of items made */
    struct {
        uint64_t key;
        const char *why;
        unsigned count;
        unsigned items[ITEMS];
        bool is_over;
    } calls[CALLS];
    unsigned call_count;
};

static struct record record;

static void on_flush(void *context, uint64_t key, struct list_node *items, const char *why)
{
    struct record *r = context;
    cr_assert(r->call_count < CALLS);
    typeof(&r->calls[0]) call = &r->calls[r->call_count++];
    call->key = key;
    call->why = why;
    call->count = 0;
    call->is_over = false;
    for (struct list_node *node; (node = list_pop_front(items)) != NULL;) {
        call->items[call->count++] = (unsigned)(CONTAINER_OF(node, struct batch_item, node) - r->items);
    }
}

static struct batch_options usual(void)
{
    return (struct batch_options){
        .items_max = 8, .tokens_max = 1000, .bytes_max = 10000, .waiting_max = 1000, .wait_max_ns = 10 * MS};
}

static void start(const struct batch_options *options)
{
    memset(&record, 0, sizeof(record));
    record.former = batch_create(options, on_flush, &record);
    cr_assert_not_null(record.former);
}

static struct batch_item *make(uint64_t key, unsigned class, uint64_t tenant)
{
    struct batch_item *item = &record.items[record.count++];
    *item = (struct batch_item){.key = key,
                                .class = (uint8_t) class,
                                .tenant = tenant,
                                .items = 1,
                                .tokens = 10,
                                .bytes = 40,
                                .deadline_ns = NANOS_NEVER};
    return item;
}

static void put(nanos now, struct batch_item *item)
{
    cr_assert_eq(batch_submit(record.former, now, item), RESULT_OK);
}

static void add(nanos now, uint64_t key)
{
    put(now, make(key, 2, 0));
}

static void end(nanos now, uint64_t key, unsigned items, nanos took_ns)
{
    unsigned call = 0;
    while (record.calls[call].is_over || record.calls[call].key != key) {
        call++;
        cr_assert(call < record.call_count, "a call that has not been sent");
    }
    record.calls[call].is_over = true;
    const struct batch_end ended = {.key = key, .items = items, .took_ns = took_ns};
    batch_on_end(record.former, now, &ended);
}

static void expect_call(unsigned call, const char *why, unsigned count, const unsigned *items)
{
    cr_assert(call < record.call_count, "%u calls", record.call_count);
    cr_assert_str_eq(record.calls[call].why, why);
    cr_assert_eq(record.calls[call].count, count, "%u items", record.calls[call].count);
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(record.calls[call].items[i], items[i], "at %u: %u", i, record.calls[call].items[i]);
    }
}

#define EXPECT_CALL(call, why, ...) \
    expect_call(call, why, ARRAY_COUNT(((const unsigned[]){__VA_ARGS__})), (const unsigned[]){__VA_ARGS__})

static void finish(void)
{
    for (unsigned i = 0; i < record.count; i++) {
        batch_cancel(record.former, &record.items[i]);
    }
    for (unsigned i = 0; i < record.call_count; i++) {
        if (!record.calls[i].is_over) {
            end(1000 * MS, record.calls[i].key, record.calls[i].count, MS);
        }
    }
    batch_destroy(record.former);
}

/* Fills the rate of arrivals, so that it is worth waiting for company: many came just now. */
static void make_busy(nanos now, uint64_t key)
{
    for (unsigned i = 0; i < 5; i++) {
        add(now, key);
    }
}

Test(batch, sends_a_single_item_at_once_when_nothing_is_in_flight)
{
    struct batch_options options = usual();
    start(&options);
    add(5, 7);
    EXPECT_CALL(0, "idle", 0);
    cr_assert_eq(record.calls[0].key, 7);
    add(5, 8);
    EXPECT_CALL(1, "idle", 1);
    finish();
}

Test(batch, lets_the_others_wait_for_company_and_sends_them_together)
{
    struct batch_options options = usual();
    start(&options);
    make_busy(0, 1);
    cr_assert_eq(record.call_count, 1);
    nanos due_ns = batch_next_ns(record.former);
    cr_assert(due_ns > 0 && due_ns <= options.wait_max_ns);
    batch_advance(record.former, due_ns - 1);
    cr_assert_eq(record.call_count, 1);
    batch_advance(record.former, due_ns);
    EXPECT_CALL(1, "waited", 1, 2, 3, 4);
    cr_assert_eq(batch_next_ns(record.former), NANOS_NEVER);
    finish();
}

Test(batch, sends_what_waits_when_the_last_call_of_its_key_ends)
{
    struct batch_options options = usual();
    start(&options);
    make_busy(0, 1);
    end(MS, 1, 1, MS);
    EXPECT_CALL(1, "idle", 1, 2, 3, 4);
    finish();
}

Test(batch, sends_a_full_call_without_waiting)
{
    struct batch_options options = usual();
    start(&options);
    for (unsigned i = 0; i < 9; i++) {
        add(0, 1);
    }
    EXPECT_CALL(1, "full", 1, 2, 3, 4, 5, 6, 7, 8);
    finish();
}

Test(batch, never_mixes_keys)
{
    struct batch_options options = usual();
    start(&options);
    for (unsigned i = 0; i < 18; i++) {
        add(0, i % 2);
    }
    EXPECT_CALL(2, "full", 2, 4, 6, 8, 10, 12, 14, 16);
    EXPECT_CALL(3, "full", 3, 5, 7, 9, 11, 13, 15, 17);
    finish();
}

Test(batch, waits_for_less_long_the_more_there_is_waiting)
{
    struct batch_options options = usual();
    start(&options);
    make_busy(0, 1);
    nanos due_ns = batch_next_ns(record.former);
    add(0, 1);
    nanos then_ns = batch_next_ns(record.former);
    cr_assert(then_ns < due_ns);
    add(0, 1);
    cr_assert(batch_next_ns(record.former) < then_ns);
    finish();
}

Test(batch, does_not_wait_when_nobody_is_expected)
{
    struct batch_options options = usual();
    start(&options);
    for (unsigned i = 0; i < 20; i++) {
        add(1000 * i * MS, 1);
        end(1000 * i * MS + 5 * MS, 1, 1, 5 * MS);
    }
    add(30000 * MS, 1);
    add(30001 * MS, 1);
    cr_assert_eq(record.call_count, 22);
    EXPECT_CALL(21, "waited", 21);
    finish();
}

Test(batch, keeps_each_budget)
{
    struct batch_options options = usual();
    options.tokens_max = 35;
    start(&options);
    for (unsigned i = 0; i < 5; i++) {
        add(0, 1);
    }
    EXPECT_CALL(1, "full", 1, 2, 3);
    finish();

    options = usual();
    options.bytes_max = 100;
    start(&options);
    for (unsigned i = 0; i < 4; i++) {
        add(0, 1);
    }
    EXPECT_CALL(1, "full", 1, 2);
    finish();
}

Test(batch, lets_a_small_item_pass_one_that_does_not_fit)
{
    struct batch_options options = usual();
    options.tokens_max = 100;
    options.calls_max = 1;
    start(&options);
    add(0, 1);
    const uint64_t tokens[] = {60, 70, 40, 10};
    for (unsigned i = 0; i < ARRAY_COUNT(tokens); i++) {
        struct batch_item *item = make(1, 2, i);
        item->tokens = tokens[i];
        put(0, item);
    }
    end(0, 1, 1, MS);
    EXPECT_CALL(1, "idle", 1, 3);
    end(0, 1, 2, MS);
    EXPECT_CALL(2, "idle", 2, 4);
    finish();
}

Test(batch, refuses_an_item_over_a_budget_and_more_than_may_wait)
{
    struct batch_options options = usual();
    options.waiting_max = 4;
    start(&options);
    struct batch_item *item = make(1, 2, 0);
    item->tokens = 1001;
    cr_assert_eq(batch_submit(record.former, 0, item), RESULT_LIMIT);
    item->tokens = 1;
    item->items = 9;
    cr_assert_eq(batch_submit(record.former, 0, item), RESULT_LIMIT);
    cr_assert_not(batch_fits(record.former, 1, 1, 10001));
    cr_assert(batch_fits(record.former, 8, 1000, 10000));
    item->items = 1;
    put(0, item);
    add(0, 1);
    item = make(1, 2, 0);
    item->items = 4;
    cr_assert_eq(batch_submit(record.former, 0, item), RESULT_LIMIT);
    item->items = 3;
    put(0, item);
    finish();
}

Test(batch, takes_the_upper_class_first)
{
    struct batch_options options = usual();
    options.items_max = 2;
    options.calls_max = 1;
    start(&options);
    add(0, 1);
    put(0, make(1, 3, 0));
    put(0, make(1, 1, 0));
    put(0, make(1, 2, 0));
    put(0, make(2, 0, 0));
    end(0, 1, 1, MS);
    EXPECT_CALL(1, "idle", 4);
    end(0, 2, 1, MS);
    EXPECT_CALL(2, "idle", 2, 3);
    end(0, 1, 2, MS);
    EXPECT_CALL(3, "idle", 1);
    finish();
}

Test(batch, serves_tenants_in_turn_by_their_weights)
{
    struct batch_options options = usual();
    options.items_max = 6;
    options.calls_max = 1;
    start(&options);
    add(0, 1);
    for (unsigned i = 0; i < 10; i++) { /* 1 … 10 */
        put(0, make(1, 2, 100));
    }
    for (unsigned i = 0; i < 4; i++) { /* 11 … 14 */
        struct batch_item *item = make(1, 2, 200);
        item->weight = 2000;
        put(0, item);
    }
    end(0, 1, 1, MS);
    EXPECT_CALL(1, "idle", 1, 11, 12, 2, 13, 14);
    finish();
}

Test(batch, serves_tenants_in_turn_when_each_of_their_requests_has_a_key_of_its_own)
{
    struct batch_options options = usual();
    options.calls_max = 1;
    start(&options);
    add(0, 99);
    for (unsigned i = 0; i < 6; i++) { /* 1 … 6 */
        put(0, make(10 + i, 2, 100));
    }
    for (unsigned i = 0; i < 2; i++) { /* 7, 8 */
        put(0, make(20 + i, 2, 200));
    }
    end(0, 99, 1, MS);
    const unsigned order[] = {1, 7, 2, 8, 3};
    for (unsigned i = 0; i < ARRAY_COUNT(order); i++) {
        expect_call(1 + i, "idle", 1, &order[i]);
        end(0, record.calls[1 + i].key, 1, MS);
    }
    finish();
}

Test(batch, takes_the_earliest_deadline_of_a_tenant_first)
{
    struct batch_options options = usual();
    options.calls_max = 1;
    start(&options);
    add(0, 1);
    const nanos deadlines[] = {NANOS_NEVER, 300 * MS, 100 * MS, 200 * MS};
    for (unsigned i = 0; i < ARRAY_COUNT(deadlines); i++) {
        struct batch_item *item = make(1, 2, 0);
        item->deadline_ns = deadlines[i];
        put(0, item);
    }
    end(0, 1, 1, MS);
    EXPECT_CALL(1, "idle", 3, 4, 2, 1);
    finish();
}

Test(batch, does_not_wait_past_the_moment_from_which_a_deadline_can_be_met)
{
    struct batch_options options = usual();
    start(&options);
    add(0, 1);
    end(80 * MS, 1, 1, 80 * MS);
    make_busy(80 * MS, 1);
    make_busy(80 * MS, 1);
    nanos due_ns = batch_next_ns(record.former);
    struct batch_item *item = make(1, 2, 0);
    item->deadline_ns = 180 * MS + 1000; /* a call takes 80 ms, and a quarter is added for safety */
    put(80 * MS, item);
    cr_assert(batch_next_ns(record.former) == 80 * MS + 1000 && due_ns > 80 * MS + 1000);
    unsigned calls = record.call_count;
    batch_advance(record.former, 80 * MS + 1000);
    cr_assert_eq(record.call_count, calls + 1);
    cr_assert_str_eq(record.calls[calls].why, "deadline");
    cr_assert_eq(record.calls[calls].items[0], 11);
    finish();
}

Test(batch, sends_no_more_calls_than_may_be_in_flight)
{
    struct batch_options options = usual();
    options.calls_max = 2;
    start(&options);
    for (unsigned i = 0; i < 5; i++) {
        add(0, i);
    }
    cr_assert_eq(record.call_count, 2);
    cr_assert_eq(batch_next_ns(record.former), NANOS_NEVER);
    batch_advance(record.former, 1000 * MS);
    cr_assert_eq(record.call_count, 2);
    end(1000 * MS, 0, 1, 1000 * MS);
    cr_assert_eq(record.call_count, 3);
    finish();
}

Test(batch, sends_what_waits_when_more_calls_are_allowed)
{
    struct batch_options options = usual();
    options.calls_max = 1;
    start(&options);
    for (unsigned i = 0; i < 4; i++) {
        add(0, i);
    }
    cr_assert_eq(record.call_count, 1);
    batch_set_calls_max(record.former, 0, 3);
    cr_assert_eq(record.call_count, 3);
    batch_set_calls_max(record.former, 0, 1); /* those under way stay */
    end(MS, 0, 1, MS);
    cr_assert_eq(record.call_count, 3);
    batch_set_calls_max(record.former, MS, 0);
    cr_assert_eq(record.call_count, 4);
    finish();
}

Test(batch, learns_nothing_from_a_call_that_was_canceled)
{
    const struct batch_options options = usual();
    start(&options);
    struct batch_figures before;
    struct batch_figures after;
    batch_figures(record.former, &before);
    for (int is_canceled = 1; is_canceled >= 0; is_canceled--) { /* first so, then not */
        add(0, 1);
        record.calls[record.call_count - 1].is_over = true;
        const struct batch_end ended = {
            .key = 1, .items = 8, .took_ns = MS, .is_failed = true, .is_canceled = is_canceled == 1};
        batch_on_end(record.former, MS, &ended);
        batch_figures(record.former, &after);
        cr_expect_eq(after.target_items < before.target_items, is_canceled == 0);
    }
    finish();
}

Test(batch, gives_every_eighth_call_to_who_waits_longest_while_all_calls_are_taken)
{
    struct batch_options options = usual();
    options.items_max = 1;
    options.calls_max = 1;
    start(&options);
    add(0, 1);
    put(0, make(2, 3, 0)); /* 1: the lowest class */
    for (unsigned i = 0; i < 20; i++) {
        put(0, make(1, 0, 0));
    }
    unsigned at = 0;
    for (unsigned i = 0; record.calls[i].items[0] != 1; i++) {
        end(20 * MS + i, record.calls[i].key, 1, MS);
        at = i + 1;
    }
    cr_assert_eq(at, 7);
    cr_assert_str_eq(record.calls[at].why, "aged");
    finish();
}

Test(batch, sends_all_that_have_waited_their_time_as_soon_as_calls_are_free)
{
    struct batch_options options = usual();
    options.calls_max = 1;
    start(&options);
    for (unsigned i = 0; i < 20; i++) {
        add(0, 1);
    }
    end(50 * MS, 1, 1, 50 * MS);
    cr_assert_eq(record.calls[1].count, 8);
    end(60 * MS, 1, 8, 10 * MS);
    cr_assert_eq(record.call_count, 3);
    end(70 * MS, 1, record.calls[2].count, 10 * MS);
    finish();
}

Test(batch, forgets_an_item_that_is_canceled)
{
    struct batch_options options = usual();
    start(&options);
    make_busy(0, 1);
    batch_cancel(record.former, &record.items[1]);
    batch_cancel(record.former, &record.items[1]);
    batch_cancel(record.former, &record.items[3]);
    batch_cancel(record.former, &record.items[0]); /* it is in flight: nothing happens */
    batch_advance(record.former, 10 * MS);
    EXPECT_CALL(1, "waited", 2, 4);
    add(20 * MS, 1);
    finish();
}

/* Calls of the size of the target, one after the other, that take what `took` says; gives the target at the end. */
static double settle(unsigned calls, nanos (*took)(unsigned items), nanos *now)
{
    double target = 0;
    for (unsigned i = 0; i < calls; i++) {
        struct batch_figures figures;
        batch_figures(record.former, &figures);
        target = figures.target_items;
        record.count = 0;
        record.call_count = 0;
        record.calls[0].is_over = false;
        struct batch_item *item = make(1, 2, 0);
        item->items = (uint32_t)target;
        item->tokens = 0;
        put(*now, item);
        cr_assert_eq(record.call_count, 1);
        *now += took((unsigned)target);
        end(*now, 1, (unsigned)target, took((unsigned)target));
    }
    return target;
}

static nanos mostly_fixed(unsigned items)
{
    return 5 * MS + items * MS / 20;
}

static nanos by_item(unsigned items)
{
    return items * MS;
}

static nanos worse_beyond_32(unsigned items)
{
    return items <= 32 ? 5 * MS + items * MS / 20 : items * MS;
}

static nanos slow_whatever_the_size(unsigned items)
{
    return 100 * MS + items * 100;
}

Test(batch, grows_while_larger_calls_cost_less_for_each_item)
{
    struct batch_options options = usual();
    options.items_max = 256;
    start(&options);
    nanos now = 0;
    cr_assert_eq(settle(60, mostly_fixed, &now), 256);
    finish();
}

Test(batch, does_not_grow_when_a_larger_call_costs_as_much_for_each_item)
{
    struct batch_options options = usual();
    options.items_max = 256;
    start(&options);
    nanos now = 0;
    cr_assert_lt(settle(200, by_item, &now), 40);
    finish();
}

Test(batch, shrinks_when_a_larger_call_costs_more_for_each_item)
{
    struct batch_options options = usual();
    options.items_max = 256;
    start(&options);
    nanos now = 0;
    double target = settle(100, worse_beyond_32, &now);
    cr_assert(target >= 16 && target <= 40, "%f", target);
    finish();
}

Test(batch, keeps_the_latency_of_a_call_within_its_bound)
{
    struct batch_options options = usual();
    options.items_max = 256;
    options.latency_max_ns = 8 * MS; /* 60 items */
    start(&options);
    nanos now = 0;
    settle(100, mostly_fixed, &now);
    for (unsigned i = 0; i < 50; i++) {
        double target = settle(2, mostly_fixed, &now);
        cr_assert(target >= 20 && target <= 60, "%f", target);
    }
    finish();
}

Test(batch, does_not_shrink_for_a_bound_that_smaller_calls_do_not_meet)
{
    struct batch_options options = usual();
    options.items_max = 256;
    start(&options);
    nanos now = 0;
    settle(60, mostly_fixed, &now);
    finish();
    options.latency_max_ns = 20 * MS;
    start(&options);
    double target = settle(100, slow_whatever_the_size, &now);
    cr_assert_gt(target, 100, "%f", target);
    finish();
}

Test(batch, halves_its_target_after_a_failure)
{
    struct batch_options options = usual();
    start(&options);
    add(0, 1);
    for (unsigned i = 0; i < 8; i++) {
        add(0, 1);
    }
    const struct batch_end failed = {.key = 1, .items = 8, .took_ns = 0, .is_failed = true};
    batch_on_end(record.former, MS, &failed);
    struct batch_figures figures;
    batch_figures(record.former, &figures);
    cr_assert_eq(figures.target_items, 4);
    end(MS, 1, 1, MS);
    batch_destroy(record.former);
}

Test(batch, counts_what_it_does)
{
    struct batch_options options = usual();
    start(&options);
    for (unsigned i = 0; i < 12; i++) {
        add(0, 1);
    }
    batch_advance(record.former, 9 * MS);
    batch_advance(record.former, 10 * MS);
    struct batch_figures figures;
    batch_figures(record.former, &figures);
    cr_assert_eq(figures.calls, 3);
    cr_assert_eq(figures.items, 12);
    cr_assert_eq(figures.calls_in_flight, 3);
    cr_assert_eq(figures.waiting_items, 0);
    cr_assert_eq(figures.flushed_full, 1);
    cr_assert_eq(figures.flushed_idle, 1);
    cr_assert_eq(figures.flushed_waited, 1);
    cr_assert(figures.oldest_ns_max > 0 && figures.oldest_ns_max <= 10 * MS);
    cr_assert(figures.fill > 0.1 && figures.fill < 0.5);
    finish();
}
