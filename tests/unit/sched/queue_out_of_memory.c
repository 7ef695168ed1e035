/* The queue once more, under other names and over an allocator whose nth call fails. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;

static bool fails(void)
{
    return calls_until_failure > 0 && --calls_until_failure == 0;
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

static void *failing_malloc(size_t bytes)
{
    return fails() ? NULL : malloc(bytes);
}

#define calloc              failing_calloc
#define malloc              failing_malloc
#define queue_create        nth_queue_create
#define queue_destroy       nth_queue_destroy
#define queue_put           nth_queue_put
#define queue_next          nth_queue_next
#define queue_take          nth_queue_take
#define queue_remove        nth_queue_remove
#define queue_defer         nth_queue_defer
#define queue_is_deferred   nth_queue_is_deferred
#define queue_charge        nth_queue_charge
#define queue_settle        nth_queue_settle
#define queue_deadline      nth_queue_deadline
#define queue_ahead_of      nth_queue_ahead_of
#define queue_figures       nth_queue_figures
#define queue_length        nth_queue_length
#define queue_length_of     nth_queue_length_of
#define queue_each_tenant   nth_queue_each_tenant
#define queue_floor         nth_queue_floor
#define queue_unlink        nth_queue_unlink
#define queue_link          nth_queue_link
#define queue_let_go        nth_queue_let_go
#define queue_share         nth_queue_share
#define queue_make_room     nth_queue_make_room
#define queue_tenants_init  nth_queue_tenants_init
#define queue_tenants_fini  nth_queue_tenants_fini
#define queue_tenant_get    nth_queue_tenant_get
#define queue_tenant_find   nth_queue_tenant_find
#define queue_tenant_hold   nth_queue_tenant_hold
#define queue_tenant_let_go nth_queue_tenant_let_go
#define queue_offer         nth_queue_offer
#define queue_served        nth_queue_served
#define queue_share_of      nth_queue_share_of
#define queue_greed_of      nth_queue_greed_of
#define rate_at             nth_rate_at
#define rate_add            nth_rate_add
#include "../../../src/sched/queue.c"
#include "../../../src/sched/queue_bounds.c"
#include "../../../src/sched/queue_order.c"
#include "../../../src/sched/queue_tenants.c"

static const struct queue_options options = {
    .requests_max = 10,
    .tenants_max = 10,
    .tenant_share_percent = 50,
    .input_weight = 1000,
    .output_weight = 1000,
};

static struct sched_request request_of_tenant(uint64_t tenant)
{
    return (struct sched_request){.tenant = tenant, .start_by_ns = NANOS_NEVER, .cost = {.prompt_tokens = 1}};
}

Test(queue_out_of_memory, without_memory_for_its_table_there_is_no_queue)
{
    unsigned failed = 0;
    struct queue *queue = NULL;
    while (queue == NULL) {
        calls_until_failure = failed + 1;
        queue = queue_create(&options);
        failed += queue == NULL;
    }
    calls_until_failure = 0;
    cr_expect(failed == 2, "itself and the table, not %u", failed);
    queue_destroy(queue);
}

Test(queue_out_of_memory, tenant_without_memory_takes_an_idle_ones_record_or_is_a_stranger)
{
    struct queue *queue = queue_create(&options);
    struct list_node evicted;
    list_init(&evicted);
    struct sched_request requests[3];
    for (unsigned i = 0; i < 3; i++) {
        requests[i] = request_of_tenant(i + 1);
    }
    cr_expect(queue_put(queue, 0, &requests[0], &evicted) == SCHED_SHED_NONE);
    calls_until_failure = 1;
    cr_expect(queue_put(queue, 0, &requests[1], &evicted) == SCHED_SHED_NONE);
    cr_expect(requests[1].place.tenant == &queue->strangers && queue->tenants == 1);
    struct queue_tenant *record = requests[0].place.tenant;
    queue_remove(queue, &requests[0]);
    calls_until_failure = 1;
    cr_expect(queue_put(queue, 0, &requests[2], &evicted) == SCHED_SHED_NONE);
    cr_expect(requests[2].place.tenant == record && record->id == 3 && queue->tenants == 1);
    cr_expect(calls_until_failure == 0, "each was asked for");
    queue_remove(queue, &requests[1]);
    queue_remove(queue, &requests[2]);
    queue_destroy(queue);
}
