/* What the files of admission share. */
#ifndef SLUICE_SCHED_ADMISSION_INTERNAL_H
#define SLUICE_SCHED_ADMISSION_INTERNAL_H

#include "sched/admission.h"
#include "sched/endpoints.h"

/* A tenant that has more than its share, and always more waiting. */
struct greedy_tenant {
    uint64_t tenant;
    nanos seen_ns;      /* when it last asked for more; 0: there is none */
    double others_mean; /* in flight, of all others */
};

struct admission {
    struct admission_options options;
    const struct admission_events *events;
    void *context;
    struct limiter limiter;
    struct baseline baseline;
    struct baseline whole_baseline; /* of whole answers that have tokens: what these leave of their time */
    double
        whole_token_ns; /* what such an answer takes beyond its base for each token, exponential mean; 0: not known */
    struct queue *queue;

    struct list_node pending; /* in the order of their grants */
    struct list_node running;
    struct limiter_census census;         /* kept up to date, but for stalled_* and waiting, which are of the moment */
    uint32_t in_flight_of[SCHED_CLASSES]; /* of census.in_flight */
    uint32_t large_in_flight;             /* of census.in_flight, those above queue.small_tokens_max */
    uint64_t large_tokens;                /* of census.kv_expected, as they were estimated at their grants */
    uint32_t large_pending;               /* of census.pending, those above queue.small_tokens_max */
    uint32_t unknown_pending;             /* of census.pending, those whose base was not known at their grant */
    nanos large_base_ns;                  /* sum of base_ns over them */
    struct greedy_tenant greedy;
    uint32_t lent;
    uint32_t lent_in_use;
    uint32_t pressure_milli;

    double refused_share; /* of the last answers of a plain service */

    struct endpoints endpoints; /* counted where there are several */
    nanos endpoint_pause_ns;    /* when the next of their pauses ends; NANOS_NEVER: none is paused */

    nanos next_tick_ns;                 /* NANOS_NEVER: nothing in flight, nothing waits */
    nanos paused_until_ns;              /* the backend asked for it */
    nanos waiting_since_ns;             /* since then somebody has always waited; 0: nobody does */
    nanos last_grant_ns;                /* while somebody waited; 0: nobody did */
    double grant_gap_ns;                /* between two grants while somebody waits, exponential mean; 0: never seen */
    nanos class_seen_ns[SCHED_CLASSES]; /* when one last arrived; 0: never */
    nanos class_seen_for_ns;            /* so long it counts as in use after that */
    nanos standing_after_ns;            /* who has waited for so long stands, is no burst */

    /* MARGIN_PERCENT of those that waited take no longer beyond what is expected: first tokens of streams [1], whole
     * answers [0]. */
    nanos margin_ns[2];

    double wait_off_ns; /* |predicted − real| and real waits, exponential means */
    double wait_real_ns;
    double wait_paced_ns; /* what the pace alone said of them */
    struct histogram waits[SCHED_CLASSES];
    struct admission_counters counters;
};

/* Whether a prompt has its place among the large ones. */
static inline bool admission_is_large(const struct admission *admission, const struct sched_request *request)
{
    return sched_uncached_tokens(&request->cost) > admission->options.queue.small_tokens_max;
}

/* What one more of a class may bring, asked for at its arrival. */
struct admission_room {
    struct queue_class_room of_class;
    uint64_t endpoints; /* with room; 0: none */
};

/* What its first token is expected to take without load; a whole answer: all of it. By its base_ns. */
static inline nanos admission_expected_ns(const struct admission *admission, const struct sched_request *request)
{
    double decoding = request->is_streamed ? 0 : admission->whole_token_ns * request->cost.output_tokens;
    return request->base_ns + (nanos)decoding;
}

/* Grants and sheds whatever the state of things allows now. */
void admission_pump(struct admission *admission, nanos now);

/* Something is in flight or waits: from now on the limiter is called each period. */
void admission_arm_tick(struct admission *admission, nanos now);

/* What the census is at this moment. */
struct limiter_census admission_census(const struct admission *admission, nanos now);

/* The same with what only a tick needs: walks over what runs. */
struct limiter_census admission_tick_census(const struct admission *admission, nanos now);

/* For how long a request of this kind would wait if it came now. */
nanos admission_predict_wait(const struct admission *admission, const struct sched_request *request);

/* ---- admission_room.c */

struct admission_room admission_room_of(const struct admission *admission, nanos now, unsigned class);

/* For all that wait: the classes that the queue will look at. */
struct queue_room admission_queue_room(const struct admission *admission, nanos now);

/* Its base_ns is of this moment. */
bool admission_fits(const struct admission *admission, const struct sched_request *request,
                    const struct admission_room *room);

/* Whether a tenant that always wants more leaves room for the others; notes who it is. It may have its share, and
 * beyond that what they do not need: they are as many as they are only on average, and for as long as its requests take
 * they may be some deviations more. */
bool admission_leaves_room(struct admission *admission, nanos now, const struct sched_request *request);

/* Each period: what the others have in flight beside a greedy tenant, over half a minute. */
void admission_follow_greedy(struct admission *admission, nanos now);

/* Says which bound it was that made somebody wait: only that one may grow. */
void admission_note_block(struct admission *admission, const struct sched_request *request,
                          const struct admission_room *room);

/* Each period: those who wait since long block as much as those who came since the last tick. */
void admission_note_standing_block(const struct admission *admission, nanos now, struct limiter_census *census);

/* Of the limit, for a class: the lowest go first when this machine is short of something, class 3 from a tenth on,
 * class 2 from the half. 0: none of them may go. */
double admission_share_under_pressure(const struct admission *admission, unsigned class);

/* ---- admission_endpoints.c */

/* Makes the limiter, too, which the servers' sub-limits bound. */
void admission_endpoints_init(struct admission *admission, nanos now);

/* A bit for each that may take another one now; where there is only one, all. */
uint64_t admission_endpoints_with_room(const struct admission *admission, nanos now);

/* Names the one that is to serve it. */
void admission_endpoints_grant(struct admission *admission, nanos now, struct sched_request *request);

/* Tells the one that served it how it ended, before the release. False: it is not known which that was, or there is
 * only one, so that it concerns them all. */
bool admission_endpoints_told(struct admission *admission, nanos now, const struct sched_request *request,
                              const struct admission_outcome *outcome);
void admission_endpoints_release(struct admission *admission, const struct sched_request *request);
void admission_endpoints_advance(struct admission *admission, nanos now);

/* Whether nothing has to be counted: who goes on a slot that is lent is counted at none. */
bool admission_endpoints_are_free(const struct admission *admission, nanos now);

/* Until when all that may serve a request (a bit each; 0: all) want to be left alone; not after `now`: they do not. */
nanos admission_paused_until(const struct admission *admission, nanos now, uint64_t allowed);

#endif
