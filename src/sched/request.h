/* A request as the scheduler sees it: what it costs, how urgent it is, where it stands.
 *
 * It sits inside whatever asks (a fetch, a simulated client) and must not move while it is in. Nothing here knows a
 * clock or a socket: moments are handed in. Owned by the core that owns the model; from admission_submit until it is
 * released, shed or canceled nobody else touches it. */
#ifndef SLUICE_SCHED_REQUEST_H
#define SLUICE_SCHED_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "sched/treap.h"

enum {
    SCHED_CLASSES = 4,        /* 0 is served first */
    SCHED_CLASS_DEFAULT = 2,  /* of who says nothing */
    SCHED_ENDPOINTS_MAX = 64, /* as many as an upstream may have */
    SCHED_ENDPOINT_ANY = 0xff,
};

/* What a request is expected to take from the backend, in tokens; for a plain service prompt_tokens is 1, the rest 0.
 */
struct sched_cost {
    uint32_t prompt_tokens; /* all of them, those in the backend's prefix cache included */
    uint32_t cached_tokens; /* of them, expected to be there already: they take memory but no prefill */
    uint32_t output_tokens;
};

/* Why a request is not served. The first three are the client's own share (429), the others are capacity (503). */
enum sched_shed {
    SCHED_SHED_NONE,
    SCHED_SHED_TENANT_SHARE,  /* its tenant holds as much of the queue as it may while others wait */
    SCHED_SHED_TOO_LARGE,     /* it alone is more than the queue or the model may ever take: not worth trying again */
    SCHED_SHED_CLIENT_PAUSED, /* the backend asked for a pause (Retry-After) of those who have its credentials */
    SCHED_SHED_QUEUE_FULL,    /* and it was the least worth keeping */
    SCHED_SHED_EVICTED,       /* it was in the queue, and had to go for a better one */
    SCHED_SHED_LATE_ARRIVAL,  /* the predicted wait and first token miss its deadline */
    SCHED_SHED_LATE_DISPATCH, /* it was its turn, and it could no longer make it; or its deadline passed in the queue */
    SCHED_SHED_BACKEND_BUSY,  /* the backend asked for a pause (Retry-After) that is longer than it can wait */
    SCHED_SHED_PRESSURE,      /* this machine is short of something, and its class goes first */
    SCHED_SHED_REASONS,
};

/* Static, lower case with underscores: for labels and for clients. */
const char *sched_shed_name(enum sched_shed shed);

/* Whether it is the client's share (429) rather than capacity (503). */
static inline bool sched_shed_is_clients(enum sched_shed shed)
{
    return shed == SCHED_SHED_TENANT_SHARE || shed == SCHED_SHED_TOO_LARGE || shed == SCHED_SHED_CLIENT_PAUSED;
}

enum sched_state {
    SCHED_OUT,     /* the submitter's: never submitted, shed, canceled or released */
    SCHED_QUEUED,  /* waits in the queue */
    SCHED_PENDING, /* granted; its first token has not come */
    SCHED_RUNNING, /* granted; its first token has come, or it has none to show (is_streamed is false) */
};

/* What a set of waiting requests comes to, and what the one of them that needs least would fit into: a sum over a
 * subtree of the queue's. */
struct queue_fit {
    double charge; /* weighted tokens that they will be charged */
    uint32_t requests;
    uint32_t large;       /* of them, those above small_tokens_max */
    uint32_t deferred;    /* of them, those that queue_defer has put behind the others */
    nanos small_base_min; /* base_ns of the small one with the least; NANOS_NEVER: none is small */
    uint64_t kv_min;      /* prompt and expected output of the one with the least */
    uint64_t endpoints;   /* a bit for each that any of them may use */
};

/* The queue's bookkeeping; nobody else's business, but for `lane` of who was evicted. */
struct queue_place {
    struct treap_node node;      /* among its tenant's, by start_by_ns */
    struct queue_fit fit;        /* over node's subtree */
    struct queue_fit own;        /* its own */
    nanos start_by_ns;           /* as it was when it came */
    uint64_t order;              /* of arrival */
    struct queue_tenant *tenant; /* whose counter it is or was charged to; NULL: it neither waits nor is charged */
    double charged;              /* to its tenant's counter, in weighted tokens; corrected until it is over */
    uint64_t passed_tokens;      /* of the small ones that went before it while it did not fit */
    bool is_waiting;
    struct list_node lane; /* among its tenant's of its class, by arrival; or on queue_put's list of the evicted */
};

struct sched_request {
    /* the submitter's: filled in before the submit, all else zero */
    uint8_t class;       /* < SCHED_CLASSES */
    bool is_streamed;    /* its first token will be told of: an event stream */
    uint32_t weight;     /* of its tenant: 1,000 is ordinary; 0 counts as 1,000 */
    uint64_t tenant;     /* a hash; 0: nobody in particular */
    uint64_t endpoints;  /* a bit for each that may serve it; 0: any */
    nanos arrived_ns;    /* at this gateway */
    nanos deadline_ns;   /* for its first token (without is_streamed: for its end); NANOS_NEVER: none */
    bool is_patient;     /* nobody named the deadline: it bounds the wait alone, however long the backend takes then */
    uint64_t body_bytes; /* held in memory while it waits */
    struct sched_cost cost;

    /* the scheduler's: to be read only */
    enum sched_state state;
    nanos start_by_ns;  /* deadline_ns less what it takes at the least (is_patient: nothing): the latest moment at which
                           it  could leave and still make it; set when it comes, and what the queue orders by */
    uint8_t endpoint;   /* to be used, from the grant on; SCHED_ENDPOINT_ANY: the pool chooses */
    bool was_blocked;   /* it did not leave at once */
    bool is_lane_grant; /* passed others by the small lane, or by the aged share: no inversion */
    bool is_refused;    /* the backend said no, and that was counted */
    uint32_t emitted_tokens; /* so far */
    uint32_t in_flight_at_grant;
    nanos granted_ns;
    nanos first_token_ns;  /* 0: not yet */
    nanos base_ns;         /* the first token's time without load, as known when it was granted; 0: nothing known */
    nanos ahead_ns;        /* base of all that was pending at its grant: prefill in front of it */
    nanos paced_ns;        /* by the pace of grants alone: how long it would wait, when it arrived */
    nanos predicted_ns;    /* for how long it was expected to wait, when it arrived */
    struct list_node node; /* on pending or running */
    struct queue_place place;
};

/* Prompt tokens that the backend has to compute: at least one. */
static inline uint32_t sched_uncached_tokens(const struct sched_cost *cost)
{
    return cost->prompt_tokens > cost->cached_tokens ? cost->prompt_tokens - cost->cached_tokens : 1;
}

/* Prompt and expected output: what it holds of the backend's memory at its end. */
static inline uint64_t sched_tokens(const struct sched_cost *cost)
{
    return (uint64_t)cost->prompt_tokens + cost->output_tokens;
}

#endif
