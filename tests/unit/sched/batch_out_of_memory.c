/* Batches once more, over an allocator whose nth call fails: 1, 2, 3 … until all goes well. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;
static unsigned blocks_held;

static void *failing_calloc(size_t count, size_t bytes)
{
    if (--calls_until_failure == 0) {
        return NULL;
    }
    blocks_held++;
    return calloc(count, bytes);
}

static void counting_free(void *block)
{
    blocks_held -= block != NULL;
    free(block);
}

#define calloc                failing_calloc
#define free                  counting_free
#define batch_create          nth_batch_create
#define batch_destroy         nth_batch_destroy
#define batch_submit          nth_batch_submit
#define batch_fits            nth_batch_fits
#define batch_cancel          nth_batch_cancel
#define batch_on_end          nth_batch_on_end
#define batch_set_calls_max   nth_batch_set_calls_max
#define batch_next_ns         nth_batch_next_ns
#define batch_advance         nth_batch_advance
#define batch_figures         nth_batch_figures
#define batch_order_init      nth_batch_order_init
#define batch_order_fini      nth_batch_order_fini
#define batch_order_put       nth_batch_order_put
#define batch_order_remove    nth_batch_order_remove
#define batch_order_set_ready nth_batch_order_set_ready
#define batch_order_best      nth_batch_order_best
#define batch_order_fill      nth_batch_order_fill
#define batch_group_find      nth_batch_group_find
#define batch_group_create    nth_batch_group_create
#define batch_group_destroy   nth_batch_group_destroy
#include "../../../src/sched/batch.c"
#include "../../../src/sched/batch_order.c"

static void on_flush(void *context, uint64_t key, struct list_node *items, const char *why)
{
    (void)key;
    (void)why;
    while (list_pop_front(items) != NULL) {
        ++*(unsigned *)context;
    }
}

/* Two tenants, two keys. True when nothing failed. */
static bool try(void)
{
    static const struct batch_options options = {
        .items_max = 4, .tokens_max = 10, .bytes_max = 10, .calls_max = 1, .waiting_max = 10};
    unsigned flushed = 0;
    struct batch_former *former = batch_create(&options, on_flush, &flushed);
    if (former == NULL) {
        return false;
    }
    struct batch_item items[4];
    unsigned submitted = 0;
    for (unsigned i = 0; i < 4; i++) {
        items[i] = (struct batch_item){.key = i / 2, .tenant = i % 2, .items = 1, .deadline_ns = NANOS_NEVER};
        enum result result = batch_submit(former, i, &items[i]);
        cr_assert(result == RESULT_OK || result == RESULT_NO_MEMORY);
        cr_assert(result == RESULT_OK || !items[i].is_waiting);
        submitted += result == RESULT_OK;
    }
    for (;;) {
        uint64_t key = batch_group_find(former, 0) != NULL && batch_group_find(former, 0)->calls > 0 ? 0 : 1;
        const struct batch_end end = {.key = key, .items = 1, .took_ns = 1};
        struct batch_figures figures;
        batch_figures(former, &figures);
        if (figures.calls_in_flight == 0) {
            break;
        }
        batch_on_end(former, 10, &end);
    }
    cr_assert_eq(flushed, submitted);
    batch_destroy(former);
    return submitted == 4;
}

Test(batch, refuses_an_item_when_memory_is_out_and_loses_none)
{
    unsigned n = 1;
    for (;; n++) {
        calls_until_failure = n;
        bool is_done = try();
        cr_assert_eq(blocks_held, 0, "the %uth", n);
        if (is_done) {
            break;
        }
    }
    cr_assert_gt(n, 6);
}
