/* Admission to one model: who is sent to the backend now, who waits, who is turned away.
 *
 *                     ┌──────────── admission_submit ────────────┐
 *                     ▼                                          ▼
 *   shed at arrival ◀─┤ predicted wait ≤ deadline?   room, nobody waits: GRANTED
 *                     ▼                                          │
 *                   queue ──▶ room? still in time? ──on_grant──▶ PENDING ──first token──▶ RUNNING ──▶ admission_release
 *                     │              └─ no: on_shed                                             │
 *                     └─ full: the worst goes (on_shed)          limiter ◀── samples ───────────┘
 *
 * It joins the limiter (how much), the queue (who), and the deadlines. Pure: moments are handed in, and what it decides
 * comes back by calls; the simulator and the server link the same objects. Owned by the model's owner core; bounded by
 * the queue's bounds; requests sit in their submitters.
 *
 * Every grant is released exactly once. admission_at_rest says whether all have been. */
#ifndef SLUICE_SCHED_ADMISSION_H
#define SLUICE_SCHED_ADMISSION_H

#include "base/histogram.h"
#include "base/result.h"
#include "sched/baseline.h"
#include "sched/limiter.h"
#include "sched/queue.h"

struct admission_options {
    struct limiter_options limiter;
    struct queue_options queue;
    uint32_t holdback_percent; /* of every bound: kept free for the classes above, while they are in use */
    uint32_t endpoint_limit;   /* requests in flight at one endpoint; 0: only what is learned from its refusals */
    uint32_t endpoint_count;   /* 0 counts as 1; alone it has the whole limit, and needs no counting */
    bool observe_only;         /* grants at once, and says what it would have done */
    bool is_plain;             /* a plain service: no tokens; service time in place of the first token */
};

struct admission;

struct admission_events {
    /* It may go: now SCHED_PENDING, or SCHED_RUNNING without is_streamed. May not call back into the admission. */
    void (*on_grant)(void *context, struct sched_request *request);
    /* It will not be served: SCHED_OUT, the submitter's again. retry_after_ns: when it is worth trying again. Likewise.
     */
    void (*on_shed)(void *context, struct sched_request *request, enum sched_shed shed, nanos retry_after_ns);
};

/* *Gives*; *keeps* events and context. NULL when memory is out. */
struct admission *admission_create(const struct admission_options *options, const struct admission_events *events,
                                   void *context, nanos now);
void admission_destroy(struct admission *admission); /* at rest */

/* Asks for a request to be served. True: it is granted at once. False: it waits, or is shed; in either case the events
 * tell, the second perhaps before this returns. *Keeps* request until on_shed, admission_release or admission_cancel.
 */
bool admission_submit(struct admission *admission, nanos now, struct sched_request *request);

/* A queued or granted request's client has left. */
void admission_cancel(struct admission *admission, nanos now, struct sched_request *request);

/* The first event with content has come, at `at` (≤ now); for a plain service the answer's end needs none of this. */
void admission_on_first_token(struct admission *admission, nanos now, nanos at, struct sched_request *request);

/* Further tokens were emitted. */
void admission_on_tokens(struct admission *admission, struct sched_request *request, uint32_t tokens);

/* Which endpoint serves it after all: the one that the grant named could not be reached, or it named none. Of a request
 * that is not granted: nothing. */
void admission_on_endpoint(struct admission *admission, nanos now, struct sched_request *request, unsigned endpoint);

/* How a granted request ended. */
struct admission_outcome {
    bool is_refused;      /* 429, 503, or a reset before the first byte */
    nanos retry_after_ns; /* what the backend asked for with it; 0: nothing */
    bool is_failed;       /* timed out, or broke off */
    bool is_canceled;     /* the client left */
    nanos answered_ns; /* when a plain service's answer began: what follows goes at its reader's pace; 0: it did not */
    bool has_usage;
    struct sched_cost usage; /* what it really took */
};

/* It is over: the submitter's again. Exactly once for each grant. */
void admission_release(struct admission *admission, nanos now, struct sched_request *request,
                       const struct admission_outcome *outcome);

/* The next moment at which admission_advance is to be called; NANOS_NEVER when nothing is in flight or waits. */
nanos admission_next_ns(const struct admission *admission);
void admission_advance(struct admission *admission, nanos now);

/* 0: none; 1000: this machine is out of something. Lowers what the lowest classes may take first. */
void admission_set_pressure(struct admission *admission, uint32_t pressure_milli);

/* Slots of this model's limit that are lent out (sched/lease.h), and how many of them are in use, as far as is known.
 */
void admission_set_lent(struct admission *admission, uint32_t lent, uint32_t in_use);

/* One that went on such a slot, and is over: what the limiter and the tenant's counter learn of it. */
struct admission_lent {
    uint64_t tenant;
    uint32_t weight;
    uint8_t class;
    uint8_t endpoint; /* that served it; SCHED_ENDPOINT_ANY: not known. In flight it counted at none */
    bool is_streamed;
    struct sched_cost cost; /* as it was estimated */
    nanos arrived_ns;
    nanos granted_ns;
    nanos first_token_ns; /* 0: it had none to show */
    nanos ended_ns;
    uint32_t emitted_tokens;
    uint32_t in_flight; /* at the grant, as far as that core knew */
    uint32_t count;     /* it stands for so many: of many alike not every one is told */
};
void admission_on_lent_end(struct admission *admission, nanos now, const struct admission_lent *lent,
                           const struct admission_outcome *outcome);

/* In flight, without what is lent. */
uint32_t admission_in_flight(const struct admission *admission);

/* How many more slots may be lent now. Negative: what is lent is to come back, since somebody waits, or it is more than
 * the limit allows. 0, too, where the count alone does not decide. */
int admission_lendable(const struct admission *admission, nanos now);

/* Whether everything granted was released, and nothing waits. */
bool admission_at_rest(const struct admission *admission);

struct admission_counters {
    uint64_t submitted, granted, granted_at_once, released, canceled;
    uint64_t shed[SCHED_SHED_REASONS];
    uint64_t shed_of_class[SCHED_CLASSES];
    uint64_t would_have_waited, would_have_shed; /* observe_only */
    uint64_t first_tokens;
};

struct admission_figures {
    double limit;
    double kv_limit_tokens; /* INFINITY: none */
    nanos prefill_limit_ns;
    nanos base_ns; /* of a request of the usual size */
    nanos excess_ns;
    uint64_t cuts[LIMITER_CAUSES];
    struct limiter_census census;
    struct queue_figures queue;
    struct admission_counters counters;
    double wait_error;       /* mean of |predicted − real wait| ÷ real, exponential; of those that waited */
    nanos predicted_wait_ns; /* for one of the default class that came now */
};
void admission_figures(const struct admission *admission, nanos now, struct admission_figures *ret_figures);
const struct admission_counters *admission_counters(const struct admission *admission);
const struct histogram *admission_waits(const struct admission *admission, unsigned class);
struct queue *admission_queue(const struct admission *admission);
struct endpoints;
const struct endpoints *admission_endpoints(const struct admission *admission);

#endif
