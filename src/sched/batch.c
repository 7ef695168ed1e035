#include "sched/batch.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/batch_internal.h"

/* While calls_max holds everything back, one call in so many begins with what has waited longest: strict order by class
 * would let the lowest starve. */
enum { AGED_CALLS = 8 };

/* A deadline is urgent when a call of this many times the usual length would miss it. */
static const double urgency = 1.25;
static const double fill_alpha = 0.05;

static bool due_before(const struct pairing_node *a, const struct pairing_node *b)
{
    return CONTAINER_OF(a, const struct batch_group, in_due)->due_ns <
           CONTAINER_OF(b, const struct batch_group, in_due)->due_ns;
}

static struct batch_item *item_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct batch_item, node);
}

static bool has_slot(const struct batch_former *former)
{
    return former->options.calls_max == 0 || former->calls_in_flight < former->options.calls_max;
}

/* ---- making and unmaking ---- */

struct batch_former *batch_create(const struct batch_options *options, batch_on_flush *on_flush, void *context)
{
    CHECK(options->items_max >= 1 && options->items_max <= INT32_MAX && options->waiting_max <= INT32_MAX);
    struct batch_former *former = calloc(1, sizeof(*former));
    if (former == NULL) {
        return NULL;
    }
    former->options = *options;
    former->on_flush = on_flush;
    former->context = context;
    pairing_init(&former->due, due_before);
    list_init(&former->ages);
    list_init(&former->idle);
    batch_pace_init(&former->pace, options);
    if (batch_order_init(former) != RESULT_OK) {
        batch_order_fini(former);
        free(former);
        return NULL;
    }
    return former;
}

void batch_destroy(struct batch_former *former)
{
    if (former == NULL) {
        return;
    }
    CHECK(former->waiting_items == 0 && former->calls_in_flight == 0);
    while (!list_is_empty(&former->idle)) {
        batch_group_destroy(former, CONTAINER_OF(former->idle.next, struct batch_group, idle));
    }
    batch_order_fini(former);
    free(former);
}

/* A group that nothing waits in and nobody serves is kept for a while: what is known of its arrivals says whether it
 * is worth waiting for company. */
static void rest_or_go(struct batch_former *former, struct batch_group *group)
{
    if (group->waiting_items > 0 || group->calls > 0 || list_is_linked(&group->idle)) {
        return;
    }
    list_push_back(&former->idle, &group->idle);
    former->idle_groups++;
    if (former->idle_groups > BATCH_GROUPS_IDLE_MAX) {
        former->idle_groups--;
        batch_group_destroy(former, CONTAINER_OF(former->idle.next, struct batch_group, idle));
    }
}

static struct batch_group *group_get(struct batch_former *former, uint64_t key)
{
    struct batch_group *group = batch_group_find(former, key);
    if (group == NULL) {
        return batch_group_create(former, key);
    }
    if (list_is_linked(&group->idle)) {
        list_remove(&group->idle);
        former->idle_groups--;
    }
    return group;
}

/* ---- when a group is due ---- */

static bool is_full(const struct batch_former *former, const struct batch_group *group)
{
    return group->waiting_items >= batch_pace_items(&former->pace) ||
           group->waiting_tokens >= former->options.tokens_max || group->waiting_bytes >= former->options.bytes_max;
}

static nanos later(nanos a, nanos b)
{
    return a > NANOS_NEVER - b ? NANOS_NEVER : a + b;
}

static void earliest(struct batch_group *group, nanos due_ns, const char *why)
{
    if (due_ns < group->due_ns) {
        group->due_ns = due_ns;
        group->why = why;
    }
}

static void reckon_due(struct batch_former *former, struct batch_group *group)
{
    const struct batch_options *options = &former->options;
    if (group->calls == 0 || is_full(former, group)) {
        group->due_ns = 0;
        group->why = group->calls == 0 ? "idle" : "full";
        return;
    }
    double own = (double)group->waiting_items / batch_pace_items(&former->pace);
    double all = (double)former->waiting_items / (double)options->waiting_max;
    nanos wait_ns = batch_pace_patience(&former->pace, options->wait_max_ns, group->rate, fmax(own, all));
    nanos oldest_ns = item_of(group->items.next)->submitted_ns;
    group->due_ns = NANOS_NEVER;
    earliest(group, later(oldest_ns, options->wait_max_ns), "aged");
    earliest(group, later(oldest_ns, wait_ns), "waited");
    if (group->urgent_ns != NANOS_NEVER) {
        double lead_ns = former->pace.call_ns * urgency;
        bool is_past = (double)group->urgent_ns <= lead_ns;
        earliest(group, is_past ? 0 : group->urgent_ns - (nanos)lead_ns, "deadline");
    }
}

static void leave_state(struct batch_former *former, struct batch_group *group)
{
    if (group->state == BATCH_RESTING) {
        pairing_remove(&former->due, &group->in_due);
    } else if (group->state == BATCH_READY) {
        batch_order_set_ready(former, group, false);
    }
    group->state = BATCH_EMPTY;
}

/* After anything has changed: in which state the group is now. */
static void refresh(struct batch_former *former, nanos now, struct batch_group *group)
{
    if (group->waiting_items == 0) {
        leave_state(former, group);
        group->urgent_ns = NANOS_NEVER;
        rest_or_go(former, group);
        return;
    }
    reckon_due(former, group);
    if (group->due_ns > now) {
        leave_state(former, group);
        group->state = BATCH_RESTING;
        pairing_put(&former->due, &group->in_due);
    } else if (group->state != BATCH_READY) {
        leave_state(former, group);
        group->state = BATCH_READY;
        batch_order_set_ready(former, group, true);
    }
}

/* ---- calls ---- */

/* Who waits longest, when it is his turn. */
static struct batch_item *aged_item(const struct batch_former *former, nanos now)
{
    if (former->calls_since_aged + 1 < AGED_CALLS || list_is_empty(&former->ages)) {
        return NULL;
    }
    struct batch_item *oldest = CONTAINER_OF(former->ages.next, struct batch_item, age);
    bool is_aged = now >= later(oldest->submitted_ns, former->options.wait_max_ns);
    return is_aged && oldest->lane->group->state == BATCH_READY ? oldest : NULL;
}

static void count_call(struct batch_former *former, nanos now, const struct batch_call *call, const char *why)
{
    struct batch_figures *counted = &former->counted;
    double fill = (double)call->item_count / former->options.items_max;
    counted->fill = counted->calls == 0 ? fill : counted->fill + fill_alpha * (fill - counted->fill);
    counted->calls++;
    counted->items += call->item_count;
    counted->flushed_full += why[0] == 'f';
    counted->flushed_idle += why[0] == 'i';
    counted->flushed_waited += why[0] != 'f' && why[0] != 'i';
    for (struct list_node *node = call->items->next; node != call->items; node = node->next) {
        nanos waited_ns = now - item_of(node)->submitted_ns;
        counted->oldest_ns_max = waited_ns > counted->oldest_ns_max ? waited_ns : counted->oldest_ns_max;
    }
}

static void flush(struct batch_former *former, nanos now, struct batch_group *group, struct batch_item *aged)
{
    struct list_node items;
    list_init(&items);
    struct batch_call call = {.items = &items, .item_max = batch_pace_items(&former->pace)};
    const char *why = aged != NULL ? "aged" : group->why;
    uint64_t key = group->key;
    leave_state(former, group);
    batch_order_fill(former, group, aged, &call);
    former->calls_since_aged = aged != NULL ? 0 : former->calls_since_aged + 1;
    former->calls_in_flight++;
    group->calls++;
    count_call(former, now, &call, why);
    refresh(former, now, group);
    former->on_flush(former->context, key, &items, why);
}

static void dispatch(struct batch_former *former, nanos now)
{
    while (has_slot(former)) {
        while (former->due.root != NULL) {
            struct batch_group *group = CONTAINER_OF(former->due.root, struct batch_group, in_due);
            if (group->due_ns > now) {
                break;
            }
            refresh(former, now, group);
        }
        struct batch_item *aged = aged_item(former, now);
        struct batch_group *group = aged != NULL ? aged->lane->group : batch_order_best(former);
        if (group == NULL) {
            return;
        }
        flush(former, now, group, aged);
    }
}

/* ---- the submitter's side ---- */

bool batch_fits(const struct batch_former *former, uint32_t items, uint64_t tokens, uint64_t bytes)
{
    return items <= former->options.items_max && tokens <= former->options.tokens_max &&
           bytes <= former->options.bytes_max;
}

static void count_arrival(struct batch_former *former, nanos now, struct batch_group *group, uint32_t items)
{
    double memory_ns = batch_pace_memory_ns(&former->pace);
    double gap_ns = now > group->rate_ns ? (double)(now - group->rate_ns) : 0;
    group->rate = group->rate * exp(-gap_ns / memory_ns) + items / memory_ns;
    group->rate_ns = now;
}

enum result batch_submit(struct batch_former *former, nanos now, struct batch_item *item)
{
    CHECK(item->items > 0 && item->class < SCHED_CLASSES && !item->is_waiting);
    if (!batch_fits(former, item->items, item->tokens, item->bytes) ||
        former->waiting_items + item->items > former->options.waiting_max) {
        return RESULT_LIMIT;
    }
    struct batch_group *group = group_get(former, item->key);
    if (group == NULL) {
        return RESULT_NO_MEMORY;
    }
    item->submitted_ns = now;
    enum result result = batch_order_put(former, group, item);
    if (result == RESULT_OK) {
        group->urgent_ns = item->deadline_ns < group->urgent_ns ? item->deadline_ns : group->urgent_ns;
        count_arrival(former, now, group, item->items);
    }
    refresh(former, now, group);
    dispatch(former, now);
    return result;
}

void batch_cancel(struct batch_former *former, struct batch_item *item)
{
    if (!item->is_waiting) {
        return;
    }
    struct batch_group *group = item->lane->group;
    batch_order_remove(former, item);
    /* Those who stay are due no earlier than before: that is seen when the time has come. */
    if (group->waiting_items == 0) {
        refresh(former, 0, group);
    }
}

void batch_on_end(struct batch_former *former, nanos now, const struct batch_end *end)
{
    struct batch_group *group = batch_group_find(former, end->key);
    CHECK(group != NULL && group->calls > 0 && former->calls_in_flight > 0 && end->items > 0);
    group->calls--;
    former->calls_in_flight--;
    if (!end->is_canceled) {
        batch_pace_learn(&former->pace, now, end);
    }
    refresh(former, now, group);
    dispatch(former, now);
}

void batch_set_calls_max(struct batch_former *former, nanos now, uint32_t calls_max)
{
    former->options.calls_max = calls_max;
    dispatch(former, now);
}

nanos batch_next_ns(const struct batch_former *former)
{
    /* Without a slot nothing can leave, whatever is due; the end of a call looks again. */
    if (former->due.root == NULL || !has_slot(former)) {
        return NANOS_NEVER;
    }
    return CONTAINER_OF(former->due.root, const struct batch_group, in_due)->due_ns;
}

void batch_advance(struct batch_former *former, nanos now)
{
    dispatch(former, now);
}

void batch_figures(const struct batch_former *former, struct batch_figures *ret_figures)
{
    *ret_figures = former->counted;
    ret_figures->waiting_items = former->waiting_items;
    ret_figures->calls_in_flight = former->calls_in_flight;
    ret_figures->target_items = former->pace.target;
}
