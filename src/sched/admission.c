/* Who goes: arrival, queue, grant, shed. What there is room for is in admission_room.c, what happens to the granted in
 * admission_feedback.c. */
#include "sched/admission.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/admission_internal.h"

enum {
    GAP_WEIGHT = 16,   /* of the mean of gaps between grants */
    ERROR_WEIGHT = 64, /* of the prediction's error */
    CERTAIN_SHARE = 2, /* of what is predicted: half of a wait or of a base is as good as certain; the whole base: a
                          twelfth of the shed would have made it, and goodput is 5 % less */
};

/* A class counts as in use for so long after its last request: that is how long headroom is held back for it. */
#define CLASS_SEEN_NS (60 * NANOS_PER_S)

/* Nobody is told to stay away for longer than that on a guess; and this is said where there is nothing to guess from.
 */
#define RETRY_NS_MAX     (60 * NANOS_PER_S)
#define RETRY_NS_UNKNOWN NANOS_PER_S

/* A queue that has not been empty for so long is no burst any more. */
#define STANDING_NS (10 * NANOS_PER_S)

/* ---- life ---- */

struct admission *admission_create(const struct admission_options *options, const struct admission_events *events,
                                   void *context, nanos now)
{
    struct admission *admission = calloc(1, sizeof(*admission));
    if (admission == NULL) {
        return NULL;
    }
    admission->queue = queue_create(&options->queue);
    if (admission->queue == NULL) {
        free(admission);
        return NULL;
    }
    admission->options = *options;
    admission->events = events;
    admission->context = context;
    admission_endpoints_init(admission, now);
    baseline_init(&admission->baseline, limiter_scaled(&admission->limiter, 30 * NANOS_PER_S), now);
    baseline_init(&admission->whole_baseline, limiter_scaled(&admission->limiter, 30 * NANOS_PER_S), now);
    admission->class_seen_for_ns = limiter_scaled(&admission->limiter, CLASS_SEEN_NS);
    admission->standing_after_ns = limiter_scaled(&admission->limiter, STANDING_NS);
    list_init(&admission->pending);
    list_init(&admission->running);
    admission->next_tick_ns = NANOS_NEVER;
    return admission;
}

void admission_destroy(struct admission *admission)
{
    CHECK(admission_at_rest(admission));
    queue_destroy(admission->queue);
    free(admission);
}

bool admission_at_rest(const struct admission *admission)
{
    return admission->census.in_flight == 0 && queue_length(admission->queue) == 0;
}

/* ---- grants ---- */

void admission_arm_tick(struct admission *admission, nanos now)
{
    if (admission->next_tick_ns == NANOS_NEVER) {
        admission->next_tick_ns = now + admission->limiter.period_ns;
    }
}

/* Its base_ns is of this moment. */
static void grant(struct admission *admission, nanos now, struct sched_request *request)
{
    struct limiter_census *census = &admission->census;
    request->in_flight_at_grant = census->in_flight + admission->lent_in_use;
    request->granted_ns = now;
    request->first_token_ns = 0;
    request->emitted_tokens = 0;
    admission_endpoints_grant(admission, now, request);
    census->in_flight++;
    admission->in_flight_of[request->class]++;
    admission->large_in_flight += admission_is_large(admission, request);
    admission->large_tokens += admission_is_large(admission, request) ? sched_tokens(&request->cost) : 0;
    census->kv_expected += sched_tokens(&request->cost);
    if (request->is_streamed) {
        request->state = SCHED_PENDING;
        request->ahead_ns = census->pending_base_ns + admission->large_base_ns +
                            admission->unknown_pending * request->base_ns; /* as if they were like this one */
        admission->unknown_pending += request->base_ns == 0;
        census->pending++;
        if (admission_is_large(admission, request)) {
            admission->large_pending++;
            admission->large_base_ns += request->base_ns;
        } else {
            census->pending_base_ns += request->base_ns;
        }
        list_push_back(&admission->pending, &request->node);
    } else {
        request->state = SCHED_RUNNING;
        census->running++;
        census->kv_tokens += request->cost.prompt_tokens;
        list_push_back(&admission->running, &request->node);
    }
    queue_served(admission->queue, now, request);
    admission->counters.granted++;
    histogram_add(&admission->waits[request->class], now - request->arrived_ns);
    admission_arm_tick(admission, now);
}

static void learn_gap(struct admission *admission, nanos now)
{
    if (admission->last_grant_ns != 0) {
        double gap = (double)(now - admission->last_grant_ns);
        double mean = admission->grant_gap_ns;
        admission->grant_gap_ns = mean == 0 ? gap : mean + (gap - mean) / GAP_WEIGHT;
    }
    admission->last_grant_ns = now;
}

static void judge_prediction(struct admission *admission, nanos now, const struct sched_request *request)
{
    double real = (double)(now - request->arrived_ns);
    double off = fabs((double)request->predicted_ns - real);
    admission->wait_off_ns += (off - admission->wait_off_ns) / ERROR_WEIGHT;
    admission->wait_real_ns += (real - admission->wait_real_ns) / ERROR_WEIGHT;
    admission->wait_paced_ns += ((double)request->paced_ns - admission->wait_paced_ns) / ERROR_WEIGHT;
}

/* When it is worth trying again: once those who wait now have gone, or the backend's pause is over. Who was shed for
 * another reason than the pace, or before there was one to see, would come back at once otherwise. */
static nanos retry_after(const struct admission *admission, nanos now, const struct sched_request *request,
                         enum sched_shed why)
{
    double wait = admission->grant_gap_ns * (queue_length(admission->queue) + 1);
    nanos after = wait > RETRY_NS_MAX ? RETRY_NS_MAX : (nanos)wait;
    nanos until = admission_paused_until(admission, now, request->endpoints);
    nanos pause = until > now ? until - now : 0;
    nanos least = admission->grant_gap_ns == 0 || why == SCHED_SHED_PRESSURE ? RETRY_NS_UNKNOWN : 0;
    after = after > least ? after : least;
    return after > pause ? after : pause;
}

static void shed(struct admission *admission, nanos now, struct sched_request *request, enum sched_shed why)
{
    request->state = SCHED_OUT;
    admission->counters.shed[why]++;
    admission->counters.shed_of_class[request->class]++;
    admission->events->on_shed(admission->context, request, why, retry_after(admission, now, request, why));
}

static void look_up_base(const struct admission *admission, struct sched_request *request)
{
    request->base_ns = baseline_of(&admission->baseline, sched_uncached_tokens(&request->cost));
}

/* What it takes for certain: the base of its size is learned under load, and its size is estimated. */
static nanos least_of(const struct admission *admission, const struct sched_request *request)
{
    return request->is_patient ? 0 : admission_expected_ns(admission, request) / CERTAIN_SHARE;
}

/* Whether what is wanted of it would come too late if it were sent now, whatever happens. */
static bool is_late(const struct admission *admission, nanos now, const struct sched_request *request)
{
    return request->deadline_ns != NANOS_NEVER && now + least_of(admission, request) > request->deadline_ns;
}

/* Whether one like it would often come too late if it were sent now. Who is sent before it has been in doubt for long
 * rarely is; and where more ask than can be served, there is always somebody else whose time is not yet up. */
static bool is_in_doubt(const struct admission *admission, nanos now, const struct sched_request *request)
{
    return !request->is_patient && request->deadline_ns != NANOS_NEVER &&
           now + admission_expected_ns(admission, request) + admission->margin_ns[request->is_streamed] >
               request->deadline_ns;
}

/* The next one to go; a greedy tenant's only if it leaves room for the others. */
static struct sched_request *choose(struct admission *admission, nanos now)
{
    struct queue_room room = admission_queue_room(admission, now);
    struct sched_request *request = queue_next(admission->queue, now, &room);
    if (request != NULL && !admission_leaves_room(admission, now, request)) {
        admission->census.blocked_by_headroom = true;
        room.is_tenant_held = true;
        room.held_tenant = request->tenant;
        request = queue_next(admission->queue, now, &room);
    }
    return request;
}

static void grant_all_that_fit(struct admission *admission, nanos now)
{
    struct sched_request *request;
    while ((request = choose(admission, now)) != NULL) {
        look_up_base(admission, request);
        if (is_late(admission, now, request)) {
            queue_remove(admission->queue, request);
            shed(admission, now, request, SCHED_SHED_LATE_DISPATCH);
            continue;
        }
        if (!queue_is_deferred(request) && is_in_doubt(admission, now, request)) {
            queue_defer(admission->queue, request);
            continue;
        }
        queue_take(admission->queue, request);
        learn_gap(admission, now);
        judge_prediction(admission, now, request);
        grant(admission, now, request);
        admission->events->on_grant(admission->context, request);
    }
}

void admission_pump(struct admission *admission, nanos now)
{
    if (queue_length(admission->queue) > 0 || admission->waiting_since_ns != 0) {
        grant_all_that_fit(admission, now);
    }
    if (queue_length(admission->queue) == 0 && !admission->options.observe_only) {
        admission->last_grant_ns = 0; /* the gap that follows is for want of requests */
        admission->waiting_since_ns = 0;
    }
}

/* ---- arrival ---- */

/* By the pace of grants and those ahead alone. Some of those never get their turn, so it is too much under overload. */
static nanos paced_wait(const struct admission *admission, const struct sched_request *request)
{
    return (nanos)(admission->grant_gap_ns * (queue_ahead_of(admission->queue, request) + 1));
}

/* As experience corrects it: what waits really were ÷ what the pace said. */
static nanos corrected(const struct admission *admission, nanos paced_ns)
{
    if (admission->wait_paced_ns <= 0) {
        return paced_ns;
    }
    double factor = admission->wait_real_ns / admission->wait_paced_ns;
    return (nanos)((double)paced_ns * fmin(fmax(factor, 0.25), 2));
}

nanos admission_predict_wait(const struct admission *admission, const struct sched_request *request)
{
    return corrected(admission, paced_wait(admission, request));
}

static void grant_at_once(struct admission *admission, nanos now, struct sched_request *request)
{
    queue_charge(admission->queue, request);
    grant(admission, now, request);
    admission->counters.granted_at_once++;
}

static void observe(struct admission *admission, nanos now, struct sched_request *request)
{
    struct admission_room room = admission_room_of(admission, now, request->class);
    if (admission_fits(admission, request, &room)) {
        admission->last_grant_ns = 0; /* nobody would wait: the gap up to here says nothing of the pace */
    } else {
        admission->counters.would_have_waited++;
        admission_note_block(admission, request, &room);
        /* Nothing waits here, so what is beyond the limit is what would. */
        double beyond = admission->census.in_flight + 1 - admission->limiter.limit;
        double wait = admission->grant_gap_ns * (beyond > 0 ? beyond : 0);
        admission->counters.would_have_shed += is_late(admission, now + (nanos)wait, request);
        learn_gap(admission, now);
    }
    grant_at_once(admission, now, request);
}

/* Shed at arrival, for a reason that no waiting would mend. */
static enum sched_shed hopeless(const struct admission *admission, nanos now, const struct sched_request *request,
                                nanos wait)
{
    if (request->deadline_ns == NANOS_NEVER) {
        return SCHED_SHED_NONE;
    }
    nanos paused_until = admission_paused_until(admission, now, request->endpoints);
    if (paused_until > now && paused_until >= request->deadline_ns) {
        return SCHED_SHED_BACKEND_BUSY;
    }
    /* The prediction errs; who might still make it is kept, and judged again when its turn comes. The first in the
     * queue always is: a prediction that turned everyone away would never hear that it is wrong. */
    if (admission->waiting_since_ns == 0) {
        return SCHED_SHED_NONE;
    }
    nanos certain = wait / CERTAIN_SHARE;
    return is_late(admission, now + certain, request) ? SCHED_SHED_LATE_ARRIVAL : SCHED_SHED_NONE;
}

static void shed_all(struct admission *admission, nanos now, struct list_node *evicted)
{
    struct list_node *node;
    while ((node = list_pop_front(evicted)) != NULL) {
        struct sched_request *request = CONTAINER_OF(node, struct sched_request, place.lane);
        shed(admission, now, request, SCHED_SHED_EVICTED);
    }
}

static void arrive(struct admission *admission, nanos now, struct sched_request *request)
{
    admission->counters.submitted++;
    queue_offer(admission->queue, now, request);
    admission->class_seen_ns[request->class] = now;
    request->endpoint = SCHED_ENDPOINT_ANY;
    look_up_base(admission, request);
    request->start_by_ns = request->deadline_ns;
    if (request->deadline_ns != NANOS_NEVER) {
        nanos least = least_of(admission, request);
        request->start_by_ns -= least < request->deadline_ns ? least : request->deadline_ns;
    }
}

/* Queues one that cannot go at once. False: it was shed. */
static bool enqueue(struct admission *admission, nanos now, struct sched_request *request)
{
    request->was_blocked = true;
    request->paced_ns = paced_wait(admission, request);
    request->predicted_ns = corrected(admission, request->paced_ns);
    enum sched_shed why = hopeless(admission, now, request, request->predicted_ns);
    if (why == SCHED_SHED_NONE && admission_share_under_pressure(admission, request->class) == 0) {
        why = SCHED_SHED_PRESSURE;
    }
    struct list_node evicted;
    list_init(&evicted);
    if (why == SCHED_SHED_NONE) {
        why = queue_put(admission->queue, now, request, &evicted);
    }
    if (why != SCHED_SHED_NONE) {
        shed(admission, now, request, why);
        return false;
    }
    request->state = SCHED_QUEUED;
    if (admission->waiting_since_ns == 0) {
        admission->waiting_since_ns = now;
        admission->last_grant_ns = now;
    }
    shed_all(admission, now, &evicted);
    return true;
}

bool admission_submit(struct admission *admission, nanos now, struct sched_request *request)
{
    CHECK(request->state == SCHED_OUT && request->class < SCHED_CLASSES);
    arrive(admission, now, request);
    if (admission->options.observe_only) {
        observe(admission, now, request);
        return true;
    }
    struct admission_room room = admission_room_of(admission, now, request->class);
    bool does_fit = admission_fits(admission, request, &room) && admission_leaves_room(admission, now, request);
    if (does_fit && queue_ahead_of(admission->queue, request) == 0) {
        grant_at_once(admission, now, request);
        return true;
    }
    if (!enqueue(admission, now, request)) {
        return false;
    }
    if (does_fit) {
        admission_pump(admission, now); /* it may pass those who do not fit */
    } else {
        admission_note_block(admission, request, &room);
    }
    admission_arm_tick(admission, now);
    return false;
}

/* ---- time ---- */

nanos admission_next_ns(const struct admission *admission)
{
    nanos next = admission->next_tick_ns;
    struct sched_request *first;
    nanos deadline = queue_deadline(admission->queue, &first);
    next = deadline < next ? deadline : next;
    nanos pause = admission->paused_until_ns != 0 ? admission->paused_until_ns : NANOS_NEVER;
    pause = admission->endpoint_pause_ns < pause ? admission->endpoint_pause_ns : pause;
    if (pause < next) {
        next = queue_length(admission->queue) > 0 ? pause : next;
    }
    return next;
}

static void expire(struct admission *admission, nanos now)
{
    struct sched_request *request;
    while (queue_deadline(admission->queue, &request) <= now) {
        queue_remove(admission->queue, request);
        shed(admission, now, request, SCHED_SHED_LATE_DISPATCH);
    }
}

void admission_advance(struct admission *admission, nanos now)
{
    expire(admission, now);
    if (now >= admission->paused_until_ns) {
        admission->paused_until_ns = 0;
    }
    admission_endpoints_advance(admission, now);
    if (now >= admission->next_tick_ns) {
        struct limiter_census census = admission_tick_census(admission, now);
        admission_follow_greedy(admission, now);
        admission_note_standing_block(admission, now, &census);
        admission->limiter.ops->tick(&admission->limiter, now, &census);
        admission->census.blocked_by_count = false;
        admission->census.blocked_by_headroom = false;
        admission->census.blocked_by_kv = false;
        admission->census.blocked_by_prefill = false;
        bool is_idle = census.in_flight == 0 && census.waiting == 0;
        admission->next_tick_ns = is_idle ? NANOS_NEVER : now + admission->limiter.period_ns;
    }
    admission_pump(admission, now);
}

void admission_set_pressure(struct admission *admission, uint32_t pressure_milli)
{
    admission->pressure_milli = pressure_milli;
}

void admission_set_lent(struct admission *admission, uint32_t lent, uint32_t in_use)
{
    admission->lent = lent;
    admission->lent_in_use = in_use;
}

uint32_t admission_in_flight(const struct admission *admission)
{
    return admission->census.in_flight;
}
