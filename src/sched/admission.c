/* Who may go: arrival, queue, grant, shed. What happens to the granted is in admission_feedback.c. */
#include "sched/admission.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/admission_internal.h"

enum {
    GAP_WEIGHT = 16,     /* of the mean of gaps between grants */
    ERROR_WEIGHT = 64,   /* of the prediction's error */
    BEYOND_PERCENT = 25, /* of the limit, for the highest class in use */
};

/* A class counts as in use for so long after its last request: that is how long headroom is held back for it. */
#define CLASS_SEEN_NS (60 * NANOS_PER_S)

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
    struct queue_figures figures;
    queue_figures(admission->queue, &figures);
    return admission->census.in_flight == 0 && figures.requests == 0;
}

/* ---- room ---- */

static bool is_large(const struct admission *admission, const struct sched_request *request)
{
    return sched_uncached_tokens(&request->cost) > admission->options.queue.small_tokens_max;
}

/* Where a class stands among those in use. */
struct standing {
    bool is_above; /* some class below it is in use */
    bool is_below; /* some class above it is */
};

static struct standing standing_of(const struct admission *admission, unsigned class, nanos now)
{
    nanos window = limiter_scaled(&admission->limiter, CLASS_SEEN_NS);
    struct standing standing = {false, false};
    for (unsigned other = 0; other < SCHED_CLASSES; other++) {
        nanos seen = admission->class_seen_ns[other];
        bool is_in_use = seen != 0 && now - seen < window;
        standing.is_below |= is_in_use && other < class;
        standing.is_above |= is_in_use && other > class;
    }
    return standing;
}

/* The lowest classes go first when this machine is short of something: class 3 from a tenth on, class 2 from the half.
 */
static double share_under_pressure(const struct admission *admission, unsigned class)
{
    static const double begins[SCHED_CLASSES] = {2, 0.8, 0.5, 0.1};
    double pressure = admission->pressure_milli / 1000.0;
    if (pressure <= begins[class]) {
        return 1;
    }
    double share = 1 - (pressure - begins[class]) / (1 - begins[class]) * 2;
    return share > 0 ? share : 0;
}

/* Whether a class may have one more in flight, by count alone. A part of the limit is kept free for the classes above,
 * as long as they are in use. The highest in use may go beyond the limit, as long as those like it alone do not reach
 * it: what the lower ones have in flight cannot be taken back, and would hold it up whenever the limit is cut. */
static bool fits_by_count(const struct admission *admission, unsigned class, struct standing standing)
{
    double limit = floor(admission->limiter.limit * share_under_pressure(admission, class));
    double in_flight = admission->census.in_flight + admission->lent;
    if (in_flight == 0) {
        return limit > 0; /* or nothing would ever be learned again */
    }
    if (standing.is_below) {
        return in_flight < limit - ceil(limit * admission->options.holdback_percent / 100.0);
    }
    /* A limit that somebody has set is not gone beyond. */
    bool is_learned = admission->options.limiter.kind == LIMITER_EXCESS;
    if (standing.is_above && is_learned && admission->in_flight_of[class] < limit) {
        limit = fmin(limit * (1 + BEYOND_PERCENT / 100.0), admission->limiter.options.max);
    }
    return in_flight < limit;
}

/* Time of prefill that a request of this class may bring beside what is pending. The highest class in use goes at once:
 * nothing that is pending gets out of its way by its waiting here. */
static nanos prefill_room(const struct admission *admission, struct standing standing)
{
    const struct limiter *limiter = &admission->limiter;
    const struct limiter_census *census = &admission->census;
    bool is_highest = standing.is_above && !standing.is_below;
    if (census->pending == 0 || limiter->prefill_ns == NANOS_NEVER || is_highest) {
        return NANOS_NEVER;
    }
    nanos allowed = standing.is_below ? limiter->prefill_ns / 4 : limiter->prefill_ns;
    return allowed > census->pending_base_ns ? allowed - census->pending_base_ns : 0;
}

/* One of the highest class in use goes at once here, too; one of a class below it only where nothing else is pending,
 * since what comes behind it waits for all of it. */
static bool may_bring_large(const struct admission *admission, struct standing standing)
{
    if (standing.is_below) {
        return admission->census.pending == 0;
    }
    return standing.is_above || admission->large_pending < admission->limiter.large_max;
}

/* Expected KV tokens that a request of this class may bring. As with slots, a part is kept free for the highest class.
 */
static uint64_t kv_room(const struct admission *admission, struct standing standing)
{
    const struct limiter_census *census = &admission->census;
    double limit = admission->limiter.kv_tokens;
    if (isinf(limit)) {
        return UINT64_MAX;
    }
    if (standing.is_below) {
        limit -= limit * admission->options.holdback_percent / 100.0;
    }
    double free = limit - (double)census->kv_expected;
    if (census->in_flight == 0 || free >= (double)UINT64_MAX) {
        return UINT64_MAX;
    }
    return free > 0 ? (uint64_t)free : 0;
}

static struct queue_room room_at(const struct admission *admission, nanos now)
{
    nanos standing_ns = limiter_scaled(&admission->limiter, STANDING_NS);
    struct queue_room room = {
        .is_overloaded = admission->waiting_since_ns != 0 && now - admission->waiting_since_ns >= standing_ns,
    };
    bool is_paused = !admission_endpoints_room(admission, now, &room) || now < admission->paused_until_ns;
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        struct standing standing = standing_of(admission, class, now);
        room.class_may_pass[class] = !is_paused && fits_by_count(admission, class, standing);
        room.prefill_ns_max[class] = prefill_room(admission, standing);
        room.kv_tokens_max[class] = kv_room(admission, standing);
        room.large_may_pass[class] = may_bring_large(admission, standing);
    }
    return room;
}

static bool fits(const struct admission *admission, const struct sched_request *request, const struct queue_room *room)
{
    bool is_big = is_large(admission, request);
    return room->class_may_pass[request->class] && (!is_big || room->large_may_pass[request->class]) &&
           admission_endpoints_fit(admission, request, room) &&
           (is_big || request->base_ns <= room->prefill_ns_max[request->class]) &&
           (uint64_t)request->cost.prompt_tokens + request->cost.output_tokens <= room->kv_tokens_max[request->class];
}

/* Says which bound it was that made somebody wait: only that one may grow. */
static void note_block(struct admission *admission, const struct sched_request *request, const struct queue_room *room)
{
    struct limiter_census *census = &admission->census;
    if (!admission_endpoints_fit(admission, request, room)) {
        return; /* a sub-limit's doing */
    }
    if (!room->class_may_pass[request->class]) {
        bool is_headroom = census->in_flight + admission->lent + 1 <= admission->limiter.limit;
        census->blocked_by_headroom |= is_headroom;
        census->blocked_by_count |= !is_headroom;
    } else if ((uint64_t)request->cost.prompt_tokens + request->cost.output_tokens >
               room->kv_tokens_max[request->class]) {
        census->blocked_by_kv = true;
    } else {
        census->blocked_by_prefill = true;
    }
}

/* ---- grants ---- */

static void grant(struct admission *admission, nanos now, struct sched_request *request)
{
    struct limiter_census *census = &admission->census;
    request->in_flight_at_grant = census->in_flight + admission->lent_in_use;
    request->granted_ns = now;
    request->first_token_ns = 0;
    request->emitted_tokens = 0;
    request->base_ns = baseline_of(&admission->baseline, sched_uncached_tokens(&request->cost));
    admission_endpoints_grant(admission, now, request);
    census->in_flight++;
    admission->in_flight_of[request->class]++;
    census->kv_expected += (uint64_t)request->cost.prompt_tokens + request->cost.output_tokens;
    if (request->is_streamed) {
        request->state = SCHED_PENDING;
        request->ahead_ns = census->pending_base_ns + admission->large_base_ns +
                            admission->unknown_pending * request->base_ns; /* as if they were like this one */
        admission->unknown_pending += request->base_ns == 0;
        census->pending++;
        if (is_large(admission, request)) {
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
    admission->counters.granted++;
    histogram_add(&admission->waits[request->class], now - request->arrived_ns);
    if (admission->next_tick_ns == NANOS_NEVER) {
        admission->next_tick_ns = now + admission->limiter.period_ns;
    }
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
}

static void shed(struct admission *admission, struct sched_request *request, enum sched_shed why, nanos retry_after_ns)
{
    request->state = SCHED_OUT;
    admission->counters.shed[why]++;
    admission->counters.shed_of_class[request->class]++;
    admission->events->on_shed(admission->context, request, why, retry_after_ns);
}

/* When it is worth trying again: once those who wait now have gone, or the backend's pause is over. */
static nanos retry_after(const struct admission *admission, nanos now)
{
    struct queue_figures figures;
    queue_figures(admission->queue, &figures);
    double wait = admission->grant_gap_ns * (figures.requests + 1);
    nanos after = wait > 60e9 ? 60 * NANOS_PER_S : (nanos)wait;
    nanos until = admission_paused_until(admission, now, 0);
    nanos pause = until > now ? until - now : 0;
    return after > pause ? after : pause;
}

/* When its first token would come if it were sent now. */
static nanos first_token_at(const struct admission *admission, nanos now, const struct sched_request *request)
{
    nanos base = baseline_of(&admission->baseline, sched_uncached_tokens(&request->cost));
    return now + base + admission->limiter.excess_ns;
}

static bool is_late(const struct admission *admission, nanos now, const struct sched_request *request)
{
    return request->deadline_ns != NANOS_NEVER && first_token_at(admission, now, request) > request->deadline_ns;
}

void admission_pump(struct admission *admission, nanos now)
{
    for (;;) {
        struct queue_room room = room_at(admission, now);
        bool blocked = false;
        struct sched_request *request = queue_next(admission->queue, now, &room, &blocked);
        if (request == NULL) {
            break;
        }
        if (is_late(admission, now, request)) {
            queue_remove(admission->queue, request);
            shed(admission, request, SCHED_SHED_LATE_DISPATCH, retry_after(admission, now));
            continue;
        }
        queue_take(admission->queue, request);
        learn_gap(admission, now);
        judge_prediction(admission, now, request);
        grant(admission, now, request);
        admission->events->on_grant(admission->context, request);
    }
    struct queue_figures figures;
    queue_figures(admission->queue, &figures);
    if (figures.requests == 0) {
        admission->last_grant_ns = 0; /* the gap that follows is for want of requests */
        admission->waiting_since_ns = 0;
    }
}

/* ---- arrival ---- */

nanos admission_predict_wait(const struct admission *admission, const struct sched_request *request)
{
    uint32_t ahead = queue_ahead_of(admission->queue, request);
    return (nanos)(admission->grant_gap_ns * (ahead + 1));
}

static void observe(struct admission *admission, nanos now, struct sched_request *request)
{
    struct queue_room room = room_at(admission, now);
    if (!fits(admission, request, &room)) {
        admission->counters.would_have_waited++;
        note_block(admission, request, &room);
        /* Nothing waits here, so what is beyond the limit is what would. */
        double beyond = admission->census.in_flight + 1 - admission->limiter.limit;
        double wait = admission->grant_gap_ns * (beyond > 0 ? beyond : 0);
        admission->counters.would_have_shed += is_late(admission, now + (nanos)wait, request);
    }
    learn_gap(admission, now);
    queue_charge(admission->queue, request);
    grant(admission, now, request);
    admission->counters.granted_at_once++;
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
    nanos certain = wait - wait / 4;
    return is_late(admission, now + certain, request) ? SCHED_SHED_LATE_ARRIVAL : SCHED_SHED_NONE;
}

static void shed_all(struct admission *admission, nanos now, struct list_node *evicted)
{
    struct list_node *node;
    while ((node = list_pop_front(evicted)) != NULL) {
        struct sched_request *request = CONTAINER_OF(node, struct sched_request, place.lane);
        shed(admission, request, SCHED_SHED_EVICTED, retry_after(admission, now));
    }
}

bool admission_submit(struct admission *admission, nanos now, struct sched_request *request)
{
    CHECK(request->state == SCHED_OUT && request->class < SCHED_CLASSES);
    admission->counters.submitted++;
    admission->class_seen_ns[request->class] = now;
    request->endpoint = SCHED_ENDPOINT_ANY;
    request->base_ns = baseline_of(&admission->baseline, sched_uncached_tokens(&request->cost));
    request->start_by_ns = request->deadline_ns;
    if (request->deadline_ns != NANOS_NEVER) {
        request->start_by_ns -= request->base_ns < request->deadline_ns ? request->base_ns : request->deadline_ns;
    }
    if (admission->options.observe_only) {
        observe(admission, now, request);
        return true;
    }
    struct queue_room room = room_at(admission, now);
    bool does_fit = fits(admission, request, &room);
    if (does_fit && queue_ahead_of(admission->queue, request) == 0) {
        queue_charge(admission->queue, request);
        grant(admission, now, request);
        admission->counters.granted_at_once++;
        return true;
    }
    request->was_blocked = true;
    request->predicted_ns = admission_predict_wait(admission, request);
    enum sched_shed why = hopeless(admission, now, request, request->predicted_ns);
    if (why == SCHED_SHED_NONE && share_under_pressure(admission, request->class) == 0) {
        why = SCHED_SHED_PRESSURE;
    }
    struct list_node evicted;
    list_init(&evicted);
    if (why == SCHED_SHED_NONE) {
        why = queue_put(admission->queue, now, request, &evicted);
    }
    if (why != SCHED_SHED_NONE) {
        shed(admission, request, why, retry_after(admission, now));
        return false;
    }
    request->state = SCHED_QUEUED;
    if (admission->waiting_since_ns == 0) {
        admission->waiting_since_ns = now;
        admission->last_grant_ns = now;
    }
    shed_all(admission, now, &evicted);
    if (does_fit) {
        admission_pump(admission, now); /* it may pass those who do not fit */
    } else {
        note_block(admission, request, &room);
    }
    if (admission->next_tick_ns == NANOS_NEVER) {
        admission->next_tick_ns = now + admission->limiter.period_ns;
    }
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
        struct queue_figures figures;
        queue_figures(admission->queue, &figures);
        next = figures.requests > 0 ? pause : next;
    }
    return next;
}

static void expire(struct admission *admission, nanos now)
{
    struct sched_request *request;
    while (queue_deadline(admission->queue, &request) <= now) {
        queue_remove(admission->queue, request);
        shed(admission, request, SCHED_SHED_LATE_DISPATCH, retry_after(admission, now));
    }
}

/* Those who wait since long block as much as those who came since the last tick. */
static void note_standing_block(const struct admission *admission, nanos now, struct limiter_census *census)
{
    double limit = floor(admission->limiter.limit);
    double held = ceil(limit * admission->options.holdback_percent / 100.0);
    census->is_headroom_held = standing_of(admission, SCHED_CLASSES - 1, now).is_below;
    if (census->waiting > 0) {
        census->blocked_by_count |= census->in_flight >= limit;
        census->blocked_by_headroom |= census->is_headroom_held && census->in_flight >= limit - held;
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
        note_standing_block(admission, now, &census);
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

int admission_lendable(const struct admission *admission, nanos now)
{
    const struct limiter *limiter = &admission->limiter;
    const struct limiter_census *census = &admission->census;
    struct queue_figures figures;
    queue_figures(admission->queue, &figures);
    if (figures.requests > 0 || now < admission->paused_until_ns || !admission_endpoints_are_free(admission, now)) {
        return -1;
    }
    unsigned lowest = SCHED_CLASSES - 1; /* who goes on a slot that is lent is not asked for its class */
    double part = ceil(limiter->limit * admission->options.holdback_percent / 100.0);
    double held = standing_of(admission, lowest, now).is_below ? part : 0;
    double limit = floor(limiter->limit * share_under_pressure(admission, lowest)) - held;
    double free = limit - (double)(census->in_flight + admission->lent);
    bool is_tight = (double)census->kv_expected > limiter->kv_tokens / 2 ||
                    (limiter->prefill_ns != NANOS_NEVER && census->pending_base_ns > limiter->prefill_ns / 2);
    return free < 0 ? -1 : is_tight ? 0 : free > UINT16_MAX ? UINT16_MAX : (int)free;
}
