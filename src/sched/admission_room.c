/* What one more may bring: room by count, by prefill, by memory, for each class; and what is kept free for whom.
 *
 * Two parts of every bound are held back, holdback_percent each: for the classes above, as long as they are in use, and
 * of the memory for small prompts, as long as there are large ones. A tenant that always wants more leaves room for the
 * others. Nothing here grants anything; admission.c asks. */
#include <math.h>

#include "sched/admission_internal.h"

enum {
    OTHERS_DEVIATIONS = 3, /* 2: the others' p99 is 1.55 times that without the greedy one, 3: 1.19; 4 gains nothing */
    GREED_MAX = 2,         /* asking for more than so many times its share makes a tenant greedy */
    BEYOND_PERCENT = 25,   /* of the limit, for the highest class in use */
};

/* ---- classes ---- */

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

/* ---- of a class ---- */

/* What is kept free of a bound. */
static double held_back(const struct admission *admission, double bound)
{
    return bound * admission->options.holdback_percent / 100.0;
}

/* Of the limit, in whole requests. */
static double slots_held_back(const struct admission *admission, double limit)
{
    return ceil(held_back(admission, limit));
}

double admission_share_under_pressure(const struct admission *admission, unsigned class)
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
    double limit = floor(admission->limiter.limit * admission_share_under_pressure(admission, class));
    double in_flight = admission->census.in_flight + admission->lent - in_flight_large;
    if (in_flight == 0) {
        return limit > 0; /* or nothing would ever be learned again */
    }
    if (standing.is_below) {
        return in_flight < limit - slots_held_back(admission, limit);
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

/* Whether one more that is large may be pending. One of the highest class in use goes at once here, too; one of a class
 * below it only where nothing else is pending, since what comes behind it waits for all of it. */
static bool may_pend_large(const struct admission *admission, struct standing standing)
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
        limit -= held_back(admission, limit);
    }
    double free = limit - (double)census->kv_expected;
    if (census->in_flight == 0 || free >= (double)UINT64_MAX) {
        return UINT64_MAX;
    }
    return free > 0 ? (uint64_t)free : 0;
}

/* `endpoints`: those with room. */
static struct queue_class_room class_room_at(const struct admission *admission, nanos now, unsigned class,
                                             struct classes_in_use in_use, uint64_t endpoints)
{
    struct standing standing = standing_of(in_use, class);
    /* The lane of the small: large ones, each of which may hold what many small ones would, take no places from them
     * where the limit is learned. */
    bool has_lane = admission->options.limiter.kind == LIMITER_EXCESS && !standing.is_below;
    uint32_t lane = has_lane ? admission->large_in_flight : 0;
    bool small_fits = fits_by_count(admission, class, standing, lane);
    bool large_fits = lane == 0 ? small_fits : fits_by_count(admission, class, standing, 0);
    return (struct queue_class_room){
        .may_pass = endpoints != 0 && now >= admission->paused_until_ns && small_fits,
        .large_may_pass = large_fits && may_pend_large(admission, standing),
        .prefill_ns_max = prefill_room(admission, standing),
        .kv_tokens_max = kv_room(admission, standing),
    };
}

/* ---- of a request, and of the whole queue ---- */

struct admission_room admission_room_of(const struct admission *admission, nanos now, unsigned class)
{
    uint64_t endpoints = admission_endpoints_with_room(admission, now);
    return (struct admission_room){
        .of_class = class_room_at(admission, now, class, classes_in_use(admission, now), endpoints),
        .endpoints = endpoints,
    };
}

/* What is kept for small prompts of the KV memory, as long as there are large ones. */
static uint64_t kv_lane(const struct admission *admission)
{
    double limit = admission->limiter.kv_tokens;
    bool has_lane =
        admission->options.limiter.kind == LIMITER_EXCESS && admission->large_in_flight > 0 && !isinf(limit);
    return has_lane ? (uint64_t)held_back(admission, limit) : 0;
}

struct queue_room admission_queue_room(const struct admission *admission, nanos now)
{
    struct queue_room room = {
        .is_overloaded =
            admission->waiting_since_ns != 0 && now - admission->waiting_since_ns >= admission->standing_after_ns,
        .kv_lane_tokens = kv_lane(admission),
        .endpoints = admission_endpoints_with_room(admission, now), /* if there is none, nobody may pass */
    };
    uint64_t small_tokens = admission->census.kv_expected > admission->large_tokens
                                ? admission->census.kv_expected - admission->large_tokens
                                : 0;
    room.is_lane_open = small_tokens < room.kv_lane_tokens;
    struct classes_in_use in_use = classes_in_use(admission, now);
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        /* The queue asks for the highest, and for those of which somebody waits. */
        if (class == 0 || queue_length_of(admission->queue, class) > 0) {
            room.classes[class] = class_room_at(admission, now, class, in_use, room.endpoints);
        }
    }
    return room;
}

static bool has_endpoint(const struct admission_room *room, const struct sched_request *request)
{
    return request->endpoints == 0 ? room->endpoints != 0 : (room->endpoints & request->endpoints) != 0;
}

bool admission_fits(const struct admission *admission, const struct sched_request *request,
                    const struct admission_room *room)
{
    const struct queue_class_room *of_class = &room->of_class;
    bool is_big = admission_is_large(admission, request);
    uint64_t lane = is_big ? kv_lane(admission) : 0;
    return of_class->may_pass && (is_big ? of_class->large_may_pass : request->base_ns <= of_class->prefill_ns_max) &&
           (of_class->kv_tokens_max == UINT64_MAX || sched_tokens(&request->cost) + lane <= of_class->kv_tokens_max) &&
           has_endpoint(room, request);
}

/* ---- the greedy ---- */

bool admission_leaves_room(struct admission *admission, nanos now, const struct sched_request *request)
{
    /* What is known at once comes first: nearly every grant is asked this. */
    if (!admission->limiter.is_found) {
        return true;
    }
    double limit = floor(admission->limiter.limit);
    struct queue_share share = queue_share_of(admission->queue, request);
    if (share.others == 0 || share.own + 1 <= limit * share.share ||
        queue_greed_of(admission->queue, now, request) <= GREED_MAX) {
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

void admission_follow_greedy(struct admission *admission, nanos now)
{
    struct greedy_tenant *greedy = &admission->greedy;
    nanos window = admission->class_seen_for_ns;
    if (greedy->seen_ns == 0 || now - greedy->seen_ns > window) {
        greedy->seen_ns = 0;
        return;
    }
    const struct sched_request one = {.tenant = greedy->tenant};
    double others = queue_share_of(admission->queue, &one).others;
    greedy->others_mean += (others - greedy->others_mean) * 2 * (double)admission->limiter.period_ns / (double)window;
}

/* ---- who was blocked, and by what ---- */

void admission_note_block(struct admission *admission, const struct sched_request *request,
                          const struct admission_room *room)
{
    struct limiter_census *census = &admission->census;
    if (!has_endpoint(room, request)) {
        return; /* a sub-limit's doing */
    }
    if (!room->of_class.may_pass) {
        bool is_headroom = census->in_flight + admission->lent + 1 <= admission->limiter.limit;
        census->blocked_by_headroom |= is_headroom;
        census->blocked_by_count |= !is_headroom;
    } else if (sched_tokens(&request->cost) > room->of_class.kv_tokens_max) {
        census->blocked_by_kv = true;
    } else {
        census->blocked_by_prefill = true;
    }
}

void admission_note_standing_block(const struct admission *admission, nanos now, struct limiter_census *census)
{
    double limit = floor(admission->limiter.limit);
    double held = slots_held_back(admission, limit);
    struct classes_in_use in_use = classes_in_use(admission, now);
    census->is_headroom_held = admission->greedy.seen_ns != 0 || in_use.highest < in_use.lowest;
    if (census->waiting > 0) {
        census->blocked_by_count |= census->in_flight >= limit;
        census->blocked_by_headroom |= census->is_headroom_held && census->in_flight >= limit - held;
    }
}

/* ---- slots to lend ---- */

int admission_lendable(const struct admission *admission, nanos now)
{
    const struct limiter *limiter = &admission->limiter;
    const struct limiter_census *census = &admission->census;
    if (queue_length(admission->queue) > 0 || now < admission->paused_until_ns ||
        !admission_endpoints_are_free(admission, now)) {
        return -1;
    }
    unsigned lowest = SCHED_CLASSES - 1; /* who goes on a slot that is lent is not asked for its class */
    double held =
        standing_of(classes_in_use(admission, now), lowest).is_below ? slots_held_back(admission, limiter->limit) : 0;
    double limit = floor(limiter->limit * admission_share_under_pressure(admission, lowest)) - held;
    double free = limit - (double)(census->in_flight + admission->lent);
    bool is_tight = (double)census->kv_expected > limiter->kv_tokens / 2 ||
                    (limiter->prefill_ns != NANOS_NEVER && census->pending_base_ns > limiter->prefill_ns / 2);
    return free < 0 ? -1 : is_tight ? 0 : free > UINT16_MAX ? UINT16_MAX : (int)free;
}
