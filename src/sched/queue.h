/* The queue of one model: who goes next.
 *
 *   class 0 ─┐                                            strict order, but for an aged share of the lower classes
 *   class 1 ─┤   each: tenants by virtual token counter     (cost ÷ weight; VTC, OSDI'24: an arriving tenant is lifted
 *   class 2 ─┤            each: requests, earliest start_by first          to the smallest active counter)
 *   class 3 ─┘                                                  behind them all: who was deferred
 *
 * Beside the order stands a lane for small requests: where the next large one does not fit into what is free at the
 * moment, a small one may pass it. The lowest class is served newest first while there is standing overload
 * (adaptive LIFO): who has waited longest there is the least likely to be still wanted.
 *
 * Pure: no clock, no I/O; allocates tenants (bounded by tenants_max; beyond it strangers share one) and nothing per
 * request. Owned by the model's owner core. Cost: O(log n) for each put, take and remove. */
#ifndef SLUICE_SCHED_QUEUE_H
#define SLUICE_SCHED_QUEUE_H

#include "base/result.h"
#include "sched/request.h"

struct queue_options {
    uint32_t requests_max;
    uint64_t tokens_max;           /* prompt and expected output of all that wait; 0: no bound */
    uint64_t bytes_max;            /* of their bodies; 0: no bound */
    uint32_t tenants_max;          /* known at a time */
    uint32_t tenant_share_percent; /* of each bound on what waits, for one tenant while two or more wait */
    uint32_t aged_share_percent;   /* of the grants, for those of lower classes that waited beyond aged_after_ns */
    nanos aged_after_ns;
    uint32_t small_tokens_max; /* uncached prompt tokens up to which a request is small */
    uint32_t input_weight;     /* of a prompt token against an output token's, in thousandths, when charging */
    uint32_t output_weight;
    uint32_t catch_up_tokens; /* weighted: by so much less an arriving tenant is lifted, so that who took less than its
                                 share for a while may take it later; 0: VTC as published, which forgets at once */
    bool lifo_lowest;         /* adaptive LIFO for class 3 */
    uint32_t lane_share_percent; /* small ones that pass a waiting large one may together be so much of its size, by
                                    prompt and expected output; then none passes it; 0: 25 */
};

/* What one more of a class may bring. */
struct queue_class_room {
    bool may_pass;          /* by count: the upper ones have headroom held back for them */
    bool large_may_pass;    /* one above small_tokens_max */
    nanos prefill_ns_max;   /* base_ns of a small one that fits; large ones have large_may_pass */
    uint64_t kv_tokens_max; /* prompt and expected output that fit */
};

/* What may leave now. */
struct queue_room {
    struct queue_class_room classes[SCHED_CLASSES];
    uint64_t kv_lane_tokens; /* of each class's kv_tokens_max, kept for small ones */
    bool is_lane_open;       /* small ones hold less than that: a large one that waits for memory waits for its own
                                kind, and may be passed */
    uint64_t endpoints;      /* with room; 0: any */
    bool is_tenant_held;     /* this one leaves room for the others */
    uint64_t held_tenant;
    bool is_overloaded; /* standing overload: for adaptive LIFO */
};

struct queue;

/* *Gives* a queue; *keeps* nothing of options. NULL when memory is out. */
struct queue *queue_create(const struct queue_options *options);
void queue_destroy(struct queue *queue); /* empty, and all that was charged is over */

/* Puts a request in. SCHED_SHED_NONE: it is in, and *kept* until it is taken or removed; those that had to go for it
 * are out, not charged, and appended to `evicted`, an initialised list, by place.lane. Else it is not in, nobody has
 * gone, and the value says why.
 *
 * SCHED_SHED_TENANT_SHARE: while others wait, its tenant would hold more than its share; only lower classes of the same
 * tenant give way. When full, the worst goes: one that can no longer make it, one of a tenant that holds more than its
 * share since it waited alone, else of the lowest class, of the tenant that holds most there, the one with the latest
 * start_by_ns; that may be the new one itself. */
enum sched_shed queue_put(struct queue *queue, nanos now, struct sched_request *request, struct list_node *evicted);

/* The one that goes next among those that fit into `room`; NULL: none. Does not take it out. Sets is_lane_grant. Valid
 * until the next put. */
struct sched_request *queue_next(struct queue *queue, nanos now, const struct queue_room *room);

/* Takes out who queue_next has given, and charges its tenant. */
void queue_take(struct queue *queue, struct sched_request *request);

/* Puts one that waits behind all others of its class, whoever's they are: its time is nearly up, theirs is not. Among
 * those that were deferred the latest start_by_ns goes first. Once each. */
void queue_defer(struct queue *queue, struct sched_request *request);
bool queue_is_deferred(const struct sched_request *request);

/* Takes one out that leaves without being served: not charged. */
void queue_remove(struct queue *queue, struct sched_request *request);

/* A request that never waited: charges its tenant all the same, or who comes when it is quiet would be served for free.
 */
void queue_charge(struct queue *queue, struct sched_request *request);

/* What a charged request really took: corrects its tenant's counter; once it is over, `is_over` lets go of the tenant.
 */
void queue_settle(struct queue *queue, struct sched_request *request, const struct sched_cost *really, bool is_over);

/* The earliest start_by_ns of all that wait; NANOS_NEVER: none. And the request that has it, among equals the first in
 * order; NULL with NANOS_NEVER. */
nanos queue_deadline(const struct queue *queue, struct sched_request **ret_request);

/* How many would be served before a request of this class and tenant if it came now, as far as the order tells. */
uint32_t queue_ahead_of(const struct queue *queue, const struct sched_request *request);

/* How the tenant of a request stands among those that have something waiting or in flight. */
struct queue_share {
    uint32_t own;    /* of its requests in flight: charged, and not over */
    uint32_t others; /* of all others */
    double share;    /* its weight among all of theirs */
};
struct queue_share queue_share_of(const struct queue *queue, const struct sched_request *request);

/* What the tenant of a request asks for ÷ its share of what is served, in tokens over half a minute. */
double queue_greed_of(const struct queue *queue, nanos now, const struct sched_request *request);

/* A request has come, whatever becomes of it: for queue_greed_of. */
void queue_offer(struct queue *queue, nanos now, const struct sched_request *request);

/* One was granted. */
void queue_served(struct queue *queue, nanos now, const struct sched_request *request);

/* How many wait, of all and of one class. */
uint32_t queue_length(const struct queue *queue);
uint32_t queue_length_of(const struct queue *queue, unsigned class);

struct queue_figures {
    uint32_t requests;
    uint64_t tokens;
    uint64_t bytes;
    uint32_t requests_of_class[SCHED_CLASSES];
    uint32_t tenants_waiting;
    nanos oldest_ns;     /* arrived_ns of the one that waits longest; NANOS_NEVER: none */
    uint64_t inversions; /* grants that passed a waiting upper class which would have fitted: must stay 0 */
    uint64_t aged_grants, lane_grants;
};
void queue_figures(const struct queue *queue, struct queue_figures *ret_figures);

/* Calls `visit` for each tenant known, those that wait first to be seen: for /api/performance. */
struct queue_tenant_figures {
    uint64_t tenant;
    uint32_t weight;
    uint32_t waiting;
    double served; /* weighted tokens charged since it was first seen */
};
void queue_each_tenant(const struct queue *queue,
                       void (*visit)(const struct queue_tenant_figures *figures, void *context), void *context);

#endif
