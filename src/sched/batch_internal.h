/* What the files of the batch former share.
 *
 *   batch.c         when a call leaves: groups, their due times, slots
 *   batch_order.c   who is in it: classes, tenants, deadlines
 *   batch_pace.c    how large it gets and how long it waits: what is learned from the calls
 *
 *   former ── class ── tenant (counter; heap of the classes's tenants that have something ready)
 *                         └── lane (its items of one group; heap of the tenant's ready lanes, by their first item)
 *   former ── group (one key) ── class ── the same lanes (heap, by their tenants' counters)
 *                                            └── items (heap, by deadline)
 *
 * So the best of all that is ready is found from the tenants, and the best of one key from its group. Everything below
 * the former is allocated when it is first needed and freed when nothing needs it. */
#ifndef SLUICE_SCHED_BATCH_INTERNAL_H
#define SLUICE_SCHED_BATCH_INTERNAL_H

#include "sched/batch.h"

enum {
    BATCH_OCTAVES = 32,
    BATCH_GROUPS_IDLE_MAX = 64, /* kept for the sake of what is known of their arrivals */
};

/* ---- a chained hash table of fixed size: its keys are hashes already ---- */

struct batch_link {
    struct batch_link *next;
    uint64_t hash;
};

struct batch_table {
    struct batch_link **buckets;
    uint64_t mask;
};

/* ---- pace ---- */

/* What calls of 2^i to 2^(i+1)-1 items took. */
struct batch_octave {
    double item_ns; /* exponential means: for each item, and for the call */
    double call_ns;
    uint32_t calls;
    nanos at_ns; /* of the last */
};

struct batch_pace {
    double items_max;
    double latency_max_ns; /* 0: none */
    double target;
    double call_ns; /* exponential mean; 0: nothing known */
    nanos cut_ns;   /* calls sent before say nothing about the target */
    nanos grow_after_ns;
    nanos bound_after_ns; /* until then latency_max_ns is left alone, as it cannot be met */
    struct batch_octave octaves[BATCH_OCTAVES];
};

void batch_pace_init(struct batch_pace *pace, const struct batch_options *options);
void batch_pace_learn(struct batch_pace *pace, nanos now, const struct batch_end *end);

/* Items a call takes now: from 1 to items_max. */
uint32_t batch_pace_items(const struct batch_pace *pace);

/* For how long an item waits for company when `rate` items come each nanosecond and the queue is as full as `pressure`
 * says (0 to 1). */
nanos batch_pace_patience(const struct batch_pace *pace, nanos wait_max_ns, double rate, double pressure);

/* Over how long arrivals are counted for the rate. */
double batch_pace_memory_ns(const struct batch_pace *pace);

/* ---- order ---- */

struct batch_class {
    struct pairing ready;  /* tenants that have a ready lane, by counter */
    double counter_served; /* the highest counter at which anybody was served: where who comes anew begins */
};

struct batch_tenant {
    struct batch_link link;
    uint64_t id;
    uint8_t class;
    uint32_t weight;
    double counter; /* served, in tokens and items ÷ weight */
    uint32_t lanes;
    struct pairing ready;         /* of its lanes, by their first item */
    struct pairing_node in_class; /* while that is not empty */
};

struct batch_lane {
    struct batch_link link;
    struct batch_tenant *tenant;
    struct batch_group *group;
    struct pairing items;
    struct pairing_node in_group;
    struct pairing_node in_tenant; /* while the group is ready */
    struct list_node of_group;
    double counter_seen; /* of the tenant, when it was put in the group's heap: it may only have grown since */
};

enum batch_state {
    BATCH_EMPTY,   /* nothing waits */
    BATCH_RESTING, /* it waits for company until it is due */
    BATCH_READY,   /* it goes as soon as a call may */
};

struct batch_group {
    struct batch_link link;
    uint64_t key;
    enum batch_state state;
    uint32_t waiting_items;
    uint64_t waiting_tokens;
    uint64_t waiting_bytes;
    uint32_t calls;         /* in flight */
    struct list_node items; /* oldest first */
    struct list_node lanes; /* all of them */
    struct pairing by_class[SCHED_CLASSES];
    nanos urgent_ns; /* no later than the earliest deadline among them; NANOS_NEVER: none */
    nanos due_ns;
    const char *why; /* it is due then */
    struct pairing_node in_due;
    double rate; /* of arrivals, in items each nanosecond, as of rate_ns */
    nanos rate_ns;
    struct list_node idle; /* while nothing waits and nothing is in flight */
};

struct batch_former {
    struct batch_options options;
    batch_on_flush *on_flush;
    void *context;
    struct batch_table groups;
    struct batch_table tenants;
    struct batch_table lanes;
    struct batch_class classes[SCHED_CLASSES];
    struct pairing due;    /* groups that rest */
    struct list_node ages; /* of all items, oldest first */
    struct list_node idle; /* groups, longest idle first */
    uint32_t idle_groups;
    uint32_t waiting_items;
    uint32_t calls_in_flight;
    uint32_t calls_since_aged;
    uint64_t order;
    struct batch_pace pace;
    struct batch_figures counted; /* calls and what follows it */
};

/* A call being filled. */
struct batch_call {
    struct list_node *items;
    uint32_t item_count, item_max;
    uint64_t tokens;
    uint64_t bytes;
};

/* On RESULT_NO_MEMORY batch_order_fini is still to be called. */
enum result batch_order_init(struct batch_former *former);
void batch_order_fini(struct batch_former *former);
struct batch_group *batch_group_find(const struct batch_former *former, uint64_t key);
struct batch_group *batch_group_create(struct batch_former *former, uint64_t key);
void batch_group_destroy(struct batch_former *former, struct batch_group *group); /* empty, nothing in flight */

/* Puts an item where its key, class and tenant belong, or nowhere when memory is out. */
enum result batch_order_put(struct batch_former *former, struct batch_group *group, struct batch_item *item);
void batch_order_remove(struct batch_former *former, struct batch_item *item);

/* Whether a group's items are among those that may go. */
void batch_order_set_ready(struct batch_former *former, struct batch_group *group, bool is_ready);

/* The group of the best of all that is ready; NULL: none is. */
struct batch_group *batch_order_best(const struct batch_former *former);

/* Takes items of a group that is not ready, in order, `first` (may be NULL) before all others, until the call is full.
 */
void batch_order_fill(struct batch_former *former, struct batch_group *group, struct batch_item *first,
                      struct batch_call *call);

#endif
