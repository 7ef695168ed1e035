/* What the files of the queue share. queue.c: in and out; queue_order.c: who is next; queue_bounds.c: who has to go;
 * queue_tenants.c: the table.
 *
 *   queue ─ classes[4] ─ seats: a treap of the tenants that wait in the class, by (counter, turn)
 *                          │
 *                        seat ─ requests: a treap of this tenant's requests of the class, by (start_by, order)
 *                             ─ arrivals: a list of the same, oldest first
 *
 * Both trees carry sums, so that "the first in order that fits", "the earliest start_by_ns", "who has waited longest"
 * and "who holds most" are found from the root down. A tenant has one counter for each class: classes are served
 * strictly one before the other, and who is behind in the lowest has no claim on the highest. */
#ifndef SLUICE_SCHED_QUEUE_INTERNAL_H
#define SLUICE_SCHED_QUEUE_INTERNAL_H

#include "base/check.h"
#include "sched/queue.h"

/* What the requests of a seat come to, or those of a subtree of seats. */
struct queue_sum {
    struct queue_fit fit;
    uint32_t seats;
    double finish_max; /* the highest counter at which a seat will have been served entirely */
    double share_max;  /* of the bound that a seat fills most */
    nanos start_by_min;
    nanos oldest_min;
};

/* Of a tenant, in one class. */
struct queue_seat {
    struct treap_node node; /* in its class, while requests is not empty */
    struct queue_tenant *tenant;
    struct treap requests;
    struct list_node arrivals;
    double counter; /* weighted tokens charged, or to which it was lifted */
    uint64_t turn;  /* among equal counters; the smaller goes first */
    uint64_t tokens, bytes;
    struct queue_sum own;
    struct queue_sum sum; /* over node's subtree */
};

/* A sum that forgets: a rate, times the window over which it does. */
struct queue_rate {
    double sum;
    nanos at_ns;
};

struct queue_tenant {
    struct queue_tenant *chained; /* in its bucket of the table */
    struct list_node node;        /* on busy, or on idle when nobody holds it */
    uint64_t id;
    uint32_t weight;
    uint32_t held_weight;      /* while it is on busy: what it adds to the queue's busy_weight */
    uint32_t holders;          /* requests that wait, or were charged and are not over */
    uint32_t requests;         /* that wait */
    struct queue_rate offered; /* tokens that came, served or not */
    uint64_t tokens, bytes;
    double served;
    struct queue_seat seats[SCHED_CLASSES];
};

struct queue_class {
    struct treap seats;
    uint32_t requests;
    struct queue_seat *left; /* the last seat to become empty; NULL: none, or forgotten since */
    double left_counter;     /* its counter when it was forgotten */
};

enum queue_grant { QUEUE_GRANT_ORDER, QUEUE_GRANT_LANE, QUEUE_GRANT_AGED };

/* What queue_next has found. */
struct queue_choice {
    struct sched_request *request; /* NULL: none */
    struct sched_request *passed;  /* the one in order that did not fit; NULL: none */
    enum queue_grant grant;
    bool is_inversion;
};

struct queue {
    struct queue_options options;
    uint32_t requests_cap; /* of one tenant, while two or more wait */
    uint64_t tokens_cap, bytes_cap;
    double share_of_request, share_of_token, share_of_byte; /* one of the bound; 0: no bound */
    struct queue_class classes[SCHED_CLASSES];
    uint32_t requests;
    uint64_t tokens, bytes;
    uint32_t tenants_waiting;
    struct queue_tenant *sole; /* the last that waited alone: nobody else can be above its share */
    uint64_t orders, turns;
    uint32_t aged_credit; /* in hundredths of a grant */
    struct queue_choice choice;
    bool is_lifo; /* as of the last queue_next */
    uint64_t inversions, aged_grants, lane_grants;

    struct queue_tenant **buckets;
    uint32_t buckets_mask;
    uint32_t tenants;            /* in the table */
    uint32_t holders;            /* of all tenants together */
    struct queue_rate served;    /* tokens that were granted */
    uint64_t busy_weight;        /* of those on busy */
    struct list_node busy, idle; /* idle: the one that has been so for longest comes first */
    struct queue_tenant strangers;
};

double rate_at(const struct queue *queue, const struct queue_rate *rate, nanos now);
void rate_add(const struct queue *queue, struct queue_rate *rate, nanos now, double amount);

static inline struct queue_place *place_of(const struct treap_node *node)
{
    return CONTAINER_OF(node, struct queue_place, node);
}

static inline struct queue_seat *seat_of(const struct treap_node *node)
{
    return CONTAINER_OF(node, struct queue_seat, node);
}

static inline struct sched_request *request_of(const struct queue_place *place)
{
    return CONTAINER_OF(place, struct sched_request, place);
}

static inline struct sched_request *request_at(const struct list_node *lane)
{
    return CONTAINER_OF(lane, struct sched_request, place.lane);
}

/* The order of one tenant's: the most urgent first; behind them those that were deferred, of which the least urgent is
 * the likeliest to make it. */
static inline bool queue_place_before(const struct queue_place *a, const struct queue_place *b)
{
    if (a->own.deferred != b->own.deferred) {
        return a->own.deferred < b->own.deferred;
    }
    bool comes_first = a->start_by_ns != b->start_by_ns ? a->start_by_ns < b->start_by_ns : a->order < b->order;
    return comes_first == (a->own.deferred == 0);
}

/* Of a seat that waits: the one whose start_by_ns comes first. */
static inline const struct queue_place *queue_most_urgent(const struct queue_seat *seat)
{
    const struct queue_place *first = place_of(seat->requests.first);
    if (place_of(seat->requests.root)->fit.deferred == 0) {
        return first;
    }
    const struct queue_place *last = place_of(treap_last(&seat->requests));
    return last->start_by_ns < first->start_by_ns ? last : first;
}

static inline struct queue_seat *seat_of_request(const struct sched_request *request)
{
    return &request->place.tenant->seats[request->class];
}

/* ---- queue.c */

/* The counter to which a tenant is lifted that becomes active in the class. */
double queue_floor(const struct queue *queue, const struct queue_class *class);

/* Takes a waiting request out of the trees, and puts it back; tenants are held as before, counters stay. */
void queue_unlink(struct queue *queue, struct sched_request *request);
void queue_link(struct queue *queue, struct sched_request *request);

/* It has left the trees for good: lets go of its tenant. */
void queue_let_go(struct queue *queue, struct sched_request *request);

/* The share of the fullest bound that so much is. */
double queue_share(const struct queue *queue, uint64_t requests, uint64_t tokens, uint64_t bytes);

/* ---- queue_bounds.c */

/* Makes room for a request of `tenant`: unlinks others and lets go of them (*evicted gets them), or says why not. */
enum sched_shed queue_make_room(struct queue *queue, nanos now, struct queue_tenant *tenant,
                                const struct sched_request *request, struct list_node *evicted);

/* ---- queue_tenants.c */

bool queue_tenants_init(struct queue *queue);
void queue_tenants_fini(struct queue *queue);

/* The tenant's record, made or taken from an idle one if there is none; the strangers' when that cannot be. */
struct queue_tenant *queue_tenant_get(struct queue *queue, uint64_t id);

/* What queue_tenant_get would give; NULL: a new one. */
const struct queue_tenant *queue_tenant_find(const struct queue *queue, uint64_t id);

void queue_tenant_hold(struct queue *queue, struct queue_tenant *tenant);
void queue_tenant_let_go(struct queue *queue, struct queue_tenant *tenant);

#endif
