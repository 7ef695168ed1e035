/* Batches for APIs that take arrays: items of several clients become one upstream call and come apart again.
 *
 * The former decides which items go together and when; it knows neither JSON nor connections. Items merge only with an
 * equal `key` (everything that shapes the output, and the upstream credentials). It works within budgets of items,
 * tokens and bytes. When nothing is in flight a single item leaves at once; else it waits for company, for less long
 * the more there is waiting, and never longer than wait_max_ns. The target size follows latency: it grows while a
 * larger call costs less per item and meets latency_max_ns, and shrinks when not. Order: by class, then fairness
 * between tenants, then deadline, as in the queue.
 *
 * What is guaranteed of time, when batch_advance is called at batch_next_ns: while calls_max leaves a call free, no
 * item waits longer than wait_max_ns. While it does not, an item leaves when its turn has come; and since every eighth
 * call begins with what has waited longest, it waits for no more than eight calls for each that was submitted before
 * it.
 *
 * Pure: moments are handed in. Owned by the model's owner core. Memory: items sit in their submitters; beside them, for
 * each key, and each tenant of a key and class, that has something waiting or in flight, a few hundred bytes, and 64
 * keys more; so it is bounded by waiting_max. Cost: O(log n) for each item, and O(tenants) for each call of a key. */
#ifndef SLUICE_SCHED_BATCH_H
#define SLUICE_SCHED_BATCH_H

#include "base/result.h"
#include "sched/pairing.h"
#include "sched/request.h"

struct batch_options {
    uint32_t items_max; /* of one call */
    uint64_t tokens_max;
    uint64_t bytes_max;
    uint32_t calls_max;   /* in flight at once; 0: the admission decides alone */
    uint32_t waiting_max; /* items that wait, of all keys: beyond it RESULT_LIMIT; ≤ INT32_MAX, as is items_max */
    nanos wait_max_ns;    /* the longest that an item waits for company */
    nanos latency_max_ns; /* of a call; 0: no bound */
};

/* One client's share of a request: a run of its items that stays together. Over-budget lists are several of these. */
struct batch_item {
    /* the submitter's */
    uint64_t key;
    uint8_t class;
    uint64_t tenant;
    uint32_t weight; /* thousandths; 0 counts as 1,000 */
    uint32_t items;  /* ≥ 1 */
    uint64_t tokens;
    uint64_t bytes;
    nanos arrived_ns;
    nanos deadline_ns; /* NANOS_NEVER: none */
    /* the former's */
    struct list_node node;     /* of its key's that wait, oldest first; then of its call's */
    struct list_node age;      /* of all that wait, oldest first */
    struct pairing_node place; /* among its tenant's: by deadline */
    uint64_t order;            /* of submission */
    nanos submitted_ns;
    bool is_waiting;
    struct batch_lane *lane;
};

struct batch_former;

/* A call is to leave now: `items` (linked by batch_item.node, in the order they were chosen) are the receiver's, who
 * moves them to a list of its own before it returns. It must say batch_on_end once the call is over. May not call back.
 * `why`: a static word (full, idle, waited, aged, deadline). */
typedef void batch_on_flush(void *context, uint64_t key, struct list_node *items, const char *why);

struct batch_former *batch_create(const struct batch_options *options, batch_on_flush *on_flush, void *context);
void batch_destroy(struct batch_former *former); /* nothing waits */

/* *Keeps* item until it is flushed or canceled; it may be flushed before this returns. Else it is not in:
 * RESULT_LIMIT: too many wait, or the item alone is over a budget (batch_fits says so before); RESULT_NO_MEMORY. */
MUST_USE enum result batch_submit(struct batch_former *former, nanos now, struct batch_item *item);
bool batch_fits(const struct batch_former *former, uint32_t items, uint64_t tokens, uint64_t bytes);
void batch_cancel(struct batch_former *former, struct batch_item *item); /* of a waiting one; else does nothing */

/* A call that was flushed has ended. */
struct batch_end {
    uint64_t key;
    uint32_t items;
    nanos took_ns;    /* since it was flushed, the wait for admission included */
    bool is_failed;   /* the backend could not do it (time-out, reset, 5xx); not that it refused what was asked */
    bool is_canceled; /* or it says nothing of the backend: nothing is learned from it */
};
void batch_on_end(struct batch_former *former, nanos now, const struct batch_end *end);

/* How many calls may be in flight at once from now on; 0: any number. More may let something leave. */
void batch_set_calls_max(struct batch_former *former, nanos now, uint32_t calls_max);

nanos batch_next_ns(const struct batch_former *former);
void batch_advance(struct batch_former *former, nanos now);

struct batch_figures {
    uint32_t waiting_items;
    uint32_t calls_in_flight;
    double target_items;
    uint64_t calls, items, flushed_full, flushed_idle, flushed_waited;
    double fill;         /* items ÷ items_max of the calls, exponential mean */
    nanos oldest_ns_max; /* the longest that an item has waited */
};
void batch_figures(const struct batch_former *former, struct batch_figures *ret_figures);

#endif
