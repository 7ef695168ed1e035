/* The servers that share one model's work: how many requests each has in flight, and how many it may have.
 *
 *   sub-limit: what the configuration says, or none ──refused──▶ × 0.7 of it (without one: of what is in flight),
 *                                                                once for all that were granted before
 *              ◀── + 1 in each period in which it was used up, up to what the configuration says ──┘
 *              ◀── none again, if it was learned and not used up for 240 periods
 *
 * A server that asks for a pause (Retry-After) gets nothing until then; the others go on. One that keeps refusing, or
 * could not be reached, answers quickest and would be the least loaded of all: it gets a pause of a period, doubling up
 * to 16, until one of its requests goes well.
 *
 * Pure; fixed size (4 KB); owned by whoever holds it. Indexes at or above the count, SCHED_ENDPOINT_ANY among them,
 * are nobody's, and nothing is counted for them. */
#ifndef SLUICE_SCHED_ENDPOINTS_H
#define SLUICE_SCHED_ENDPOINTS_H

#include "sched/request.h"

struct endpoint {
    uint32_t in_flight;
    bool was_full;          /* in this period */
    uint32_t spare_periods; /* in a row without having been full */
    uint32_t troubles;      /* in a row: refused, or not reached, each for what was granted after the last */
    double limit;           /* ≥ 1; INFINITY: it has none */
    nanos trouble_ns;       /* when the last was: what was granted before tells nothing new */
    nanos paused_until_ns;  /* 0: never paused */
    uint64_t cuts;
};

struct endpoints {
    uint32_t count;
    uint32_t last;      /* chosen: equals take turns */
    uint32_t uncounted; /* in flight at each, roughly, without having been granted here: to be set before a refusal */
    double limit_max;
    nanos period_ns;
    nanos period_began_ns;
    struct endpoint all[SCHED_ENDPOINTS_MAX];
};

/* `count`: at most SCHED_ENDPOINTS_MAX; 0 counts as 1. `limit`: of each, in flight; 0: none but what refusals teach.
 * `period_ns`: after which a sub-limit may grow by one. */
void endpoints_init(struct endpoints *endpoints, uint32_t count, uint32_t limit, nanos period_ns, nanos now);

/* A bit for each that may take another one now. 0: none may (which queue_room.endpoints cannot say). */
uint64_t endpoints_with_room(const struct endpoints *endpoints, nanos now);

/* The least loaded of `allowed` (a bit each; 0: all) that has room, by in flight ÷ sub-limit; SCHED_ENDPOINT_ANY: none
 * has. Does not count it yet. */
unsigned endpoints_choose(const struct endpoints *endpoints, nanos now, uint64_t allowed);

/* One more is in flight at `index`; one is over; one that was granted to `from` is at `to` after all. */
void endpoints_grant(struct endpoints *endpoints, unsigned index);
void endpoints_release(struct endpoints *endpoints, unsigned index);
void endpoints_move(struct endpoints *endpoints, unsigned from, unsigned to);

/* It said 429 or 503, or reset the connection, for a request that was granted then and is still counted. It wants to be
 * left alone for retry_after_ns; 0: it did not say. */
void endpoints_refuse(struct endpoints *endpoints, nanos now, unsigned index, nanos granted_ns, nanos retry_after_ns);

/* One that was granted to it then could not be sent there. */
void endpoints_fail(struct endpoints *endpoints, nanos now, unsigned index, nanos granted_ns);

/* It has served one. */
void endpoints_succeed(struct endpoints *endpoints, unsigned index);

/* Whether all may take as many as come: nobody has a sub-limit, a pause, or trouble. */
bool endpoints_are_free(const struct endpoints *endpoints, nanos now);

/* When the first of `allowed` (as above) is not paused any more; 0: one of them is not paused. */
nanos endpoints_paused_until(const struct endpoints *endpoints, nanos now, uint64_t allowed);

/* Lets sub-limits grow; to be called once a period or more often. */
void endpoints_advance(struct endpoints *endpoints, nanos now);

/* When the next pause ends; NANOS_NEVER: nobody is paused. */
nanos endpoints_next_ns(const struct endpoints *endpoints, nanos now);

#endif
