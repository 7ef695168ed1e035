/* Seeded runs of clients, keys, classes, budgets and cancels against a naive record of what waits. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "sched/batch.h"

enum { ITEMS = 400, CALLS = 400, STEPS = 20000, SEEDS = 12 };

enum fate { OUT, WAITING, FLUSHED };

struct world {
    struct batch_options options;
    struct batch_former *former;
    struct batch_item items[ITEMS];
    enum fate fates[ITEMS];
    unsigned call_of[ITEMS];
    struct {
        bool is_in_flight;
        uint64_t key;
        unsigned items;
        nanos sent_ns;
    } calls[CALLS];
    unsigned in_flight;
    nanos now;
    nanos blocked_until_ns; /* no call was free until then */
    uint64_t random;
    uint64_t submitted, flushed, canceled;
};

static struct world w;

static uint64_t draw(uint64_t below)
{
    w.random ^= w.random << 13;
    w.random ^= w.random >> 7;
    w.random ^= w.random << 17;
    return (w.random >> 11) % below;
}

static unsigned free_call(void)
{
    unsigned i = 0;
    while (w.calls[i].is_in_flight) {
        i++;
    }
    cr_assert(i < CALLS);
    return i;
}

/* Of one key, class and tenant, those that leave have no later deadlines than those that stay, but for an aged one in
 * front and for what does not fit. */
static void expect_order(uint64_t key, const char *why, unsigned call)
{
    if (w.calls[call].items < 2 || strcmp(why, "aged") == 0) {
        return;
    }
    for (unsigned i = 0; i < ITEMS; i++) {
        const struct batch_item *left = &w.items[i];
        if (w.fates[i] != FLUSHED || w.call_of[i] != call) {
            continue;
        }
        for (unsigned k = 0; k < ITEMS; k++) {
            const struct batch_item *stays = &w.items[k];
            bool is_rival = w.fates[k] == WAITING && stays->key == key && stays->class == left->class &&
                            stays->tenant == left->tenant;
            cr_assert(!is_rival || stays->deadline_ns >= left->deadline_ns);
        }
    }
}

static void on_flush(void *context, uint64_t key, struct list_node *items, const char *why)
{
    cr_assert_eq(context, &w);
    unsigned call = free_call();
    uint64_t tokens = 0;
    uint64_t bytes = 0;
    unsigned count = 0;
    unsigned runs = 0;
    for (struct list_node *node; (node = list_pop_front(items)) != NULL; runs++) {
        struct batch_item *item = CONTAINER_OF(node, struct batch_item, node);
        unsigned i = (unsigned)(item - w.items);
        cr_assert_eq(w.fates[i], WAITING);
        cr_assert_eq(item->key, key);
        cr_assert_not(item->is_waiting);
        w.fates[i] = FLUSHED;
        w.call_of[i] = call;
        tokens += item->tokens;
        bytes += item->bytes;
        count += item->items;
        w.flushed++;
    }
    cr_assert(runs > 0 && count <= w.options.items_max && tokens <= w.options.tokens_max &&
              bytes <= w.options.bytes_max);
    w.calls[call].is_in_flight = true;
    w.calls[call].key = key;
    w.calls[call].items = count;
    w.calls[call].sent_ns = w.now;
    w.in_flight++;
    cr_assert(w.options.calls_max == 0 || w.in_flight <= w.options.calls_max);
    expect_order(key, why, call);
}

static bool has_slot(void)
{
    return w.options.calls_max == 0 || w.in_flight < w.options.calls_max;
}

static void submit(void)
{
    unsigned i = (unsigned)draw(ITEMS);
    if (w.fates[i] != OUT) {
        return;
    }
    struct batch_item *item = &w.items[i];
    *item = (struct batch_item){.key = draw(draw(2) == 0 ? 2 : 40),
                                .class = (uint8_t)draw(SCHED_CLASSES),
                                .tenant = draw(6),
                                .weight = (uint32_t)draw(3) * 500,
                                .items = (uint32_t)draw(4) + 1,
                                .tokens = draw(60),
                                .bytes = draw(200),
                                .deadline_ns = draw(2) == 0 ? NANOS_NEVER : w.now + draw(50 * NANOS_PER_MS)};
    w.fates[i] = WAITING;
    enum result result = batch_submit(w.former, w.now, item);
    if (result == RESULT_OK) {
        w.submitted++;
    } else {
        cr_assert_eq(result, RESULT_LIMIT);
        w.fates[i] = OUT;
    }
}

static void end_call(unsigned call)
{
    if (!w.calls[call].is_in_flight) {
        return;
    }
    if (!has_slot()) {
        w.blocked_until_ns = w.now;
    }
    for (unsigned i = 0; i < ITEMS; i++) {
        w.fates[i] = w.fates[i] == FLUSHED && w.call_of[i] == call ? OUT : w.fates[i];
    }
    w.calls[call].is_in_flight = false;
    w.in_flight--;
    const struct batch_end end = {.key = w.calls[call].key,
                                  .items = w.calls[call].items,
                                  .took_ns = w.now - w.calls[call].sent_ns,
                                  .is_failed = draw(20) == 0};
    batch_on_end(w.former, w.now, &end);
}

static void cancel(void)
{
    unsigned i = (unsigned)draw(ITEMS);
    batch_cancel(w.former, &w.items[i]);
    if (w.fates[i] == WAITING) {
        w.fates[i] = OUT;
        w.canceled++;
    }
}

/* Time goes on, and the former is called when it asked to be. */
static void pass(nanos ns)
{
    nanos until_ns = w.now + ns;
    for (nanos next_ns; (next_ns = batch_next_ns(w.former)) <= until_ns;) {
        cr_assert(has_slot());
        w.now = next_ns > w.now ? next_ns : w.now;
        batch_advance(w.former, w.now);
        nanos after_ns = batch_next_ns(w.former);
        cr_assert(after_ns > w.now, "what is due has left");
    }
    w.now = until_ns;
}

static void expect_sound(void)
{
    struct batch_figures figures;
    batch_figures(w.former, &figures);
    unsigned waiting = 0;
    for (unsigned i = 0; i < ITEMS; i++) {
        if (w.fates[i] != WAITING) {
            continue;
        }
        waiting += w.items[i].items;
        cr_assert(w.items[i].is_waiting);
        nanos age_ns = w.now - w.items[i].submitted_ns;
        cr_assert(!has_slot() || age_ns <= w.options.wait_max_ns, "%lu ns", (unsigned long)age_ns);
    }
    cr_assert_eq(figures.waiting_items, waiting);
    cr_assert_eq(figures.calls_in_flight, w.in_flight);
    cr_assert(figures.target_items >= 1 && figures.target_items <= w.options.items_max);
}

static void run(uint64_t seed)
{
    memset(&w, 0, sizeof(w));
    w.random = seed * 2654435761u + 1;
    w.options = (struct batch_options){.items_max = 4 + (uint32_t)draw(30),
                                       .tokens_max = 60 + draw(400),
                                       .bytes_max = 200 + draw(2000),
                                       .calls_max = (uint32_t)draw(4),
                                       .waiting_max = 50 + (uint32_t)draw(500),
                                       .wait_max_ns = draw(5 * NANOS_PER_MS),
                                       .latency_max_ns = draw(2) * 3 * NANOS_PER_MS};
    w.former = batch_create(&w.options, on_flush, &w);
    cr_assert_not_null(w.former);
    for (unsigned step = 0; step < STEPS; step++) {
        switch (draw(8)) {
        case 0: pass(draw(NANOS_PER_MS)); break;
        case 1: end_call((unsigned)draw(w.options.calls_max == 0 ? CALLS : w.options.calls_max)); break;
        case 2: cancel(); break;
        default: submit(); break;
        }
        if (w.in_flight > CALLS / 2) {
            for (unsigned call = 0; call < CALLS; call++) {
                end_call(call);
            }
        }
        expect_sound();
    }
    for (unsigned i = 0; i < 10000 && w.flushed + w.canceled < w.submitted; i++) {
        for (unsigned call = 0; call < CALLS; call++) {
            end_call(call);
        }
        pass(NANOS_PER_MS);
    }
    cr_assert_eq(w.flushed + w.canceled, w.submitted);
    for (unsigned call = 0; call < CALLS; call++) {
        end_call(call);
    }
    cr_assert(w.flushed > 1000, "%lu", (unsigned long)w.flushed);
    batch_destroy(w.former);
}

Test(batch_random, loses_and_doubles_nothing_and_keeps_order_budgets_and_time)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run(seed);
    }
}
