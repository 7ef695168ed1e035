/* Who may go: arrival, queue, grant, shed. What happens to the granted is in admission_feedback.c. */
#include "sched/admission.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/admission_internal.h"

enum {
    GAP_WEIGHT = 16,       /* of the mean of gaps between grants */
    ERROR_WEIGHT = 64,     /* of the prediction's error */
    CERTAIN_SHARE = 2,     /* of what is predicted: half of a wait or of a base is as good as certain; the whole base: a
                              twelfth of the shed would have made it, and goodput is 5 % less */
    OTHERS_DEVIATIONS = 3, /* 2: the others' p99 is 1.55 times that without the greedy one, 3: 1.19; 4 gains nothing */
    GREED_MAX = 2,         /* asking for more than so many times its share makes a tenant greedy */
    BEYOND_PERCENT = 25,   /* of the limit, for the highest class in use */
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

/* ---- room ---- */

/* Where a class stands among those in use. */
struct standing {
    bool is_above; /* some class below it is in use */
    bool is_below; /* some class above it is */
};

/* The first and the last of the classes in use; none: SCHED_CLASSES and -1. */
struct classes_in_use {
    int highest, lowest;
};

static struct classes_in_use classes_in_use(const struct admission *admission, nanos now)
{
    struct classes_in_use in_use = {SCHED_CLASSES, -1};
    for (int class = 0; class < SCHED_CLASSES; class ++) {
        nanos seen = admission->class_seen_ns[class];
        if (seen != 0 && now - seen < admission->class_seen_for_ns) {
            in_use.highest = class < in_use.highest ? class : in_use.highest;
            in_use.lowest = class;
        }
    }
    return in_use;
}

static struct standing standing_of(struct classes_in_use in_use, unsigned class)
{
    return (struct standing){.is_above = in_use.lowest > (int)class, .is_below = in_use.highest < (int)class};
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
static bool fits_by_count(const struct admission *admission, unsigned class, struct standing standing,
                          uint32_t in_flight_large)
{
    double limit = floor(admission->limiter.limit * share_under_pressure(admission, class));
    double in_flight = admission->census.in_flight + admission->lent - in_flight_large;
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
    if (census->pending == (standing.is_below ? 0 : admission->large_pending) || limiter->prefill_ns == NANOS_NEVER ||
        is_highest) {
        return NANOS_NEVER;
    }
    nanos allowed = standing.is_below ? limiter->prefill_ns / 4 : limiter->prefill_ns;
    return allowed > census->pending_base_ns ? allowed - census->pending_base_ns : 0;
}

/* One of the highest class in use goes at once here, too; one of a class below it only where nothing else is pending,
 * since what comes behind it waits for all of it. */
static bool may_bring_large(const struct admission *admission, unsigned class, struct standing standing)
{
    if (!fits_by_count(admission, class, standing, 0)) {
        return false;
    }
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

/* What one more of a class may bring. */
struct class_room {
    bool may_pass; /* by count */
    bool large_may_pass;
    nanos prefill_ns_max; /* of a small one */
    uint64_t kv_tokens_max;
    uint64_t endpoints; /* with room */
};

static struct class_room class_room_at(const struct admission *admission, nanos now, unsigned class,
                                       struct classes_in_use in_use)
{
    uint64_t endpoints = admission_endpoints_with_room(admission, now);
    struct standing standing = standing_of(in_use, class);
    /* The lane of the small: large ones, each of which may hold what many small ones would, take no places from them
     * where the limit is learned. */
    bool has_lane = admission->options.limiter.kind == LIMITER_EXCESS && !standing.is_below;
    uint32_t lane = has_lane ? admission->large_in_flight : 0;
    return (struct class_room){
        .may_pass =
            endpoints != 0 && now >= admission->paused_until_ns && fits_by_count(admission, class, standing, lane),
        .large_may_pass = may_bring_large(admission, class, standing),
        .prefill_ns_max = prefill_room(admission, standing),
        .kv_tokens_max = kv_room(admission, standing),
        .endpoints = endpoints,
    };
}

/* What is kept for small prompts of the KV memory, as long as there are large ones. */
static uint64_t kv_lane(const struct admission *admission)
{
    double limit = admission->limiter.kv_tokens;
    bool has_lane =
        admission->options.limiter.kind == LIMITER_EXCESS && admission->large_in_flight > 0 && !isinf(limit);
    return has_lane ? (uint64_t)(limit * admission->options.holdback_percent / 100.0) : 0;
}

/* Only of the classes that the queue asks for: the highest, and those of which somebody waits. */
static struct queue_room room_at(const struct admission *admission, nanos now)
{
    struct queue_room room = {
        .is_overloaded =
            admission->waiting_since_ns != 0 && now - admission->waiting_since_ns >= admission->standing_after_ns,
        .kv_lane_tokens = kv_lane(admission),
    };
    uint64_t small_tokens = admission->census.kv_expected > admission->large_tokens
                                ? admission->census.kv_expected - admission->large_tokens
                                : 0;
    room.is_lane_open = small_tokens < room.kv_lane_tokens;
    struct classes_in_use in_use = classes_in_use(admission, now);
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        if (class > 0 && queue_length_of(admission->queue, class) == 0) {
            continue;
        }
        struct class_room of_class = class_room_at(admission, now, class, in_use);
        room.class_may_pass[class] = of_class.may_pass;
        room.prefill_ns_max[class] = of_class.prefill_ns_max;
        room.kv_tokens_max[class] = of_class.kv_tokens_max;
        room.large_may_pass[class] = of_class.large_may_pass;
        room.endpoints = of_class.endpoints; /* of all alike; if there is none, nobody may pass */
    }
    return room;
}

static bool has_endpoint(const struct class_room *room, const struct sched_request *request)
{
    return request->endpoints == 0 ? room->endpoints != 0 : (room->endpoints & request->endpoints) != 0;
}

static bool fits(const struct admission *admission, const struct sched_request *request, const struct class_room *room)
{
    bool is_big = admission_is_large(admission, request);
    uint64_t lane = is_big ? kv_lane(admission) : 0;
    return room->may_pass && (is_big ? room->large_may_pass : request->base_ns <= room->prefill_ns_max) &&
           (room->kv_tokens_max == UINT64_MAX || sched_tokens(&request->cost) + lane <= room->kv_tokens_max) &&
           has_endpoint(room, request);
}

/* Whether a tenant that always wants more leaves room for the others. It may have its share, and beyond that what they
 * do not need: they are as many as they are only on average, and for as long as its requests take they may be two
 * deviations more. */
static bool leaves_room_for_others(struct admission *admission, nanos now, const struct sched_request *request)
{
    double limit = floor(admission->limiter.limit);
    struct queue_share share = queue_share_of(admission->queue, now, request);
    bool is_greedy = share.greed > GREED_MAX;
    if (!is_greedy || !admission->limiter.is_found || share.others == 0 || share.own + 1 <= limit * share.share) {
        return true;
    }
    struct greedy_tenant *greedy = &admission->greedy;
    if (greedy->seen_ns == 0 || greedy->tenant != request->tenant) {
        *greedy = (struct greedy_tenant){.tenant = request->tenant, .others_mean = share.others};
    }
    greedy->seen_ns = now;
    double needed = greedy->others_mean + OTHERS_DEVIATIONS * sqrt(greedy->others_mean);
    nanos prefill = admission->census.pending_base_ns + request->base_ns;
    return share.own + 1 <= limit - needed &&
           (admission->census.pending == 0 ||
            (!admission_is_large(admission, request) && prefill <= admission->limiter.prefill_ns / 4));
}

/* What the others have in flight beside a greedy tenant, over half a minute. */
static void follow_greedy(struct admission *admission, nanos now)
{
    struct greedy_tenant *greedy = &admission->greedy;
    nanos window = limiter_scaled(&admission->limiter, CLASS_SEEN_NS);
    if (greedy->seen_ns == 0 || now - greedy->seen_ns > window) {
        greedy->seen_ns = 0;
        return;
    }
    const struct sched_request one = {.tenant = greedy->tenant};
    double others = queue_share_of(admission->queue, now, &one).others;
    greedy->others_mean += (others - greedy->others_mean) * 2 * (double)admission->limiter.period_ns / (double)window;
}

/* Says which bound it was that made somebody wait: only that one may grow. */
static void note_block(struct admission *admission, const struct sched_request *request, const struct class_room *room)
{
    struct limiter_census *census = &admission->census;
    if (!has_endpoint(room, request)) {
        return; /* a sub-limit's doing */
    }
    if (!room->may_pass) {
        bool is_headroom = census->in_flight + admission->lent + 1 <= admission->limiter.limit;
        census->blocked_by_headroom |= is_headroom;
        census->blocked_by_count |= !is_headroom;
    } else if (sched_tokens(&request->cost) > room->kv_tokens_max) {
        census->blocked_by_kv = true;
    } else {
        census->blocked_by_prefill = true;
    }
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

/* What its first token takes for certain: the base of its size is learned under load, and its size is estimated. */
static nanos least_of(const struct sched_request *request)
{
    return request->is_patient ? 0 : request->base_ns / CERTAIN_SHARE;
}

/* Whether its first token would come too late if it were sent now, whatever happens. */
static bool is_late(const struct sched_request *request, nanos now)
{
    return request->deadline_ns != NANOS_NEVER && now + least_of(request) > request->deadline_ns;
}

/* Whether one like it would often come too late if it were sent now. Who is sent before it has been in doubt for long
 * rarely is; and where more ask than can be served, there is always somebody else whose time is not yet up. */
static bool is_in_doubt(const struct admission *admission, nanos now, const struct sched_request *request)
{
    return !request->is_patient && request->deadline_ns != NANOS_NEVER &&
           now + request->base_ns + admission->margin_ns > request->deadline_ns;
}

/* The next one to go; a greedy tenant's only if it leaves room for the others. */
static struct sched_request *choose(struct admission *admission, nanos now)
{
    struct queue_room room = room_at(admission, now);
    bool blocked = false;
    struct sched_request *request = queue_next(admission->queue, now, &room, &blocked);
    if (request != NULL && !leaves_room_for_others(admission, now, request)) {
        admission->census.blocked_by_headroom = true;
        room.is_tenant_held = true;
        room.held_tenant = request->tenant;
        request = queue_next(admission->queue, now, &room, &blocked);
    }
    return request;
}

static void grant_all_that_fit(struct admission *admission, nanos now)
{
    struct sched_request *request;
    while ((request = choose(admission, now)) != NULL) {
        look_up_base(admission, request);
        if (is_late(request, now)) {
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

static void observe(struct admission *admission, nanos now, struct sched_request *request)
{
    struct class_room room = class_room_at(admission, now, request->class, classes_in_use(admission, now));
    if (fits(admission, request, &room)) {
        admission->last_grant_ns = 0; /* nobody would wait: the gap up to here says nothing of the pace */
    } else {
        admission->counters.would_have_waited++;
        note_block(admission, request, &room);
        /* Nothing waits here, so what is beyond the limit is what would. */
        double beyond = admission->census.in_flight + 1 - admission->limiter.limit;
        double wait = admission->grant_gap_ns * (beyond > 0 ? beyond : 0);
        admission->counters.would_have_shed += is_late(request, now + (nanos)wait);
        learn_gap(admission, now);
    }
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
    nanos certain = wait / CERTAIN_SHARE;
    return is_late(request, now + certain) ? SCHED_SHED_LATE_ARRIVAL : SCHED_SHED_NONE;
}

static void shed_all(struct admission *admission, nanos now, struct list_node *evicted)
{
    struct list_node *node;
    while ((node = list_pop_front(evicted)) != NULL) {
        struct sched_request *request = CONTAINER_OF(node, struct sched_request, place.lane);
        shed(admission, now, request, SCHED_SHED_EVICTED);
    }
}

bool admission_submit(struct admission *admission, nanos now, struct sched_request *request)
{
    CHECK(request->state == SCHED_OUT && request->class < SCHED_CLASSES);
    admission->counters.submitted++;
    queue_offer(admission->queue, now, request);
    admission->class_seen_ns[request->class] = now;
    request->endpoint = SCHED_ENDPOINT_ANY;
    look_up_base(admission, request);
    request->start_by_ns = request->deadline_ns;
    if (request->deadline_ns != NANOS_NEVER) {
        nanos least = least_of(request);
        request->start_by_ns -= least < request->deadline_ns ? least : request->deadline_ns;
    }
    if (admission->options.observe_only) {
        observe(admission, now, request);
        return true;
    }
    struct class_room room = class_room_at(admission, now, request->class, classes_in_use(admission, now));
    bool does_fit = fits(admission, request, &room) && leaves_room_for_others(admission, now, request);
    if (does_fit && queue_ahead_of(admission->queue, request) == 0) {
        queue_charge(admission->queue, request);
        grant(admission, now, request);
        admission->counters.granted_at_once++;
        return true;
    }
    request->was_blocked = true;
    request->paced_ns = paced_wait(admission, request);
    request->predicted_ns = corrected(admission, request->paced_ns);
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
        shed(admission, now, request, why);
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

/* Those who wait since long block as much as those who came since the last tick. */
static void note_standing_block(const struct admission *admission, nanos now, struct limiter_census *census)
{
    double limit = floor(admission->limiter.limit);
    double held = ceil(limit * admission->options.holdback_percent / 100.0);
    struct classes_in_use in_use = classes_in_use(admission, now);
    census->is_headroom_held = admission->greedy.seen_ns != 0 || in_use.highest < in_use.lowest;
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
        follow_greedy(admission, now);
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
    if (queue_length(admission->queue) > 0 || now < admission->paused_until_ns ||
        !admission_endpoints_are_free(admission, now)) {
        return -1;
    }
    unsigned lowest = SCHED_CLASSES - 1; /* who goes on a slot that is lent is not asked for its class */
    double part = ceil(limiter->limit * admission->options.holdback_percent / 100.0);
    double held = standing_of(classes_in_use(admission, now), lowest).is_below ? part : 0;
    double limit = floor(limiter->limit * share_under_pressure(admission, lowest)) - held;
    double free = limit - (double)(census->in_flight + admission->lent);
    bool is_tight = (double)census->kv_expected > limiter->kv_tokens / 2 ||
                    (limiter->prefill_ns != NANOS_NEVER && census->pending_base_ns > limiter->prefill_ns / 2);
    return free < 0 ? -1 : is_tight ? 0 : free > UINT16_MAX ? UINT16_MAX : (int)free;
}
