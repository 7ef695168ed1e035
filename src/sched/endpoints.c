#include "sched/endpoints.h"

#include <math.h>

#include "base/check.h"

#define CUT 0.7 /* as the limiter's own, on the same event */

enum {
    FORGET_PERIODS = 240, /* a minute of the limiter's periods */
    PAUSE_PERIODS_MAX = 16,
};

_Static_assert(sizeof(struct endpoints) <= 4096, "the header promises so");

static struct endpoint *endpoint_at(struct endpoints *endpoints, unsigned index)
{
    return index < endpoints->count ? &endpoints->all[index] : NULL;
}

void endpoints_init(struct endpoints *endpoints, uint32_t count, uint32_t limit, nanos period_ns, nanos now)
{
    CHECK(count <= SCHED_ENDPOINTS_MAX);
    *endpoints = (struct endpoints){
        .count = count == 0 ? 1 : count,
        .limit_max = limit == 0 ? (double)INFINITY : limit,
        .period_ns = period_ns,
        .period_began_ns = now,
    };
    endpoints->last = endpoints->count - 1;
    for (unsigned i = 0; i < endpoints->count; i++) {
        endpoints->all[i].limit = endpoints->limit_max;
    }
}

static bool is_full(const struct endpoint *endpoint)
{
    return endpoint->in_flight + 1.0 > endpoint->limit;
}

uint64_t endpoints_with_room(const struct endpoints *endpoints, nanos now)
{
    uint64_t with_room = 0;
    for (unsigned i = 0; i < endpoints->count; i++) {
        const struct endpoint *endpoint = &endpoints->all[i];
        if (!is_full(endpoint) && now >= endpoint->paused_until_ns) {
            with_room |= UINT64_C(1) << i;
        }
    }
    return with_room;
}

/* One without a sub-limit was never refused anything: it can take no less than the best of the others. */
static double limit_of_unlimited(const struct endpoints *endpoints)
{
    double most = 1;
    for (unsigned i = 0; i < endpoints->count; i++) {
        double limit = endpoints->all[i].limit;
        most = isinf(limit) ? most : fmax(most, limit);
    }
    return most;
}

unsigned endpoints_choose(const struct endpoints *endpoints, nanos now, uint64_t allowed)
{
    uint64_t candidates = endpoints_with_room(endpoints, now) & (allowed == 0 ? UINT64_MAX : allowed);
    double unlimited = limit_of_unlimited(endpoints);
    unsigned best = SCHED_ENDPOINT_ANY;
    double least = INFINITY;
    for (unsigned step = 1; step <= endpoints->count; step++) {
        unsigned i = (endpoints->last + step) % endpoints->count;
        const struct endpoint *endpoint = &endpoints->all[i];
        double load = endpoint->in_flight / (isinf(endpoint->limit) ? unlimited : endpoint->limit);
        if ((candidates >> i & 1) != 0 && load < least) {
            least = load;
            best = i;
        }
    }
    return best;
}

void endpoints_grant(struct endpoints *endpoints, unsigned index)
{
    struct endpoint *endpoint = endpoint_at(endpoints, index);
    if (endpoint != NULL) {
        endpoint->in_flight++;
        endpoint->was_full = endpoint->was_full || is_full(endpoint);
        endpoints->last = index;
    }
}

void endpoints_release(struct endpoints *endpoints, unsigned index)
{
    struct endpoint *endpoint = endpoint_at(endpoints, index);
    if (endpoint != NULL) {
        CHECK(endpoint->in_flight > 0);
        endpoint->in_flight--;
    }
}

void endpoints_move(struct endpoints *endpoints, unsigned from, unsigned to)
{
    endpoints_release(endpoints, from);
    endpoints_grant(endpoints, to);
}

static void pause_for(struct endpoint *endpoint, nanos now, nanos length_ns)
{
    nanos until_ns = length_ns < NANOS_NEVER - now ? now + length_ns : NANOS_NEVER;
    endpoint->paused_until_ns = until_ns > endpoint->paused_until_ns ? until_ns : endpoint->paused_until_ns;
}

/* Whether it is new: it was sent when all that is known by now had had its effect. */
static bool note_trouble(struct endpoint *endpoint, nanos now, nanos granted_ns)
{
    if (endpoint->trouble_ns != 0 && granted_ns <= endpoint->trouble_ns) {
        return false;
    }
    endpoint->trouble_ns = now;
    endpoint->troubles++;
    return true;
}

static void back_off(const struct endpoints *endpoints, struct endpoint *endpoint, nanos now, uint32_t doublings)
{
    nanos periods = doublings < 4 ? 1u << doublings : PAUSE_PERIODS_MAX;
    pause_for(endpoint, now, periods * endpoints->period_ns);
}

void endpoints_refuse(struct endpoints *endpoints, nanos now, unsigned index, nanos granted_ns, nanos retry_after_ns)
{
    struct endpoint *endpoint = endpoint_at(endpoints, index);
    if (endpoint == NULL) {
        return;
    }
    if (retry_after_ns > 0) {
        pause_for(endpoint, now, retry_after_ns);
    }
    if (!note_trouble(endpoint, now, granted_ns)) {
        return;
    }
    double had = isinf(endpoint->limit) ? (double)endpoint->in_flight + endpoints->uncounted : endpoint->limit;
    endpoint->limit = fmax(1, had * CUT);
    endpoint->was_full = false;
    endpoint->spare_periods = 0;
    endpoint->cuts++;
    if (endpoint->troubles > 1) { /* the lower sub-limit was not enough */
        back_off(endpoints, endpoint, now, endpoint->troubles - 2);
    }
}

void endpoints_fail(struct endpoints *endpoints, nanos now, unsigned index, nanos granted_ns)
{
    struct endpoint *endpoint = endpoint_at(endpoints, index);
    if (endpoint != NULL && note_trouble(endpoint, now, granted_ns)) {
        back_off(endpoints, endpoint, now, endpoint->troubles - 1);
    }
}

void endpoints_succeed(struct endpoints *endpoints, unsigned index)
{
    struct endpoint *endpoint = endpoint_at(endpoints, index);
    if (endpoint != NULL) {
        endpoint->troubles = 0;
    }
}

bool endpoints_are_free(const struct endpoints *endpoints, nanos now)
{
    for (unsigned i = 0; i < endpoints->count; i++) {
        const struct endpoint *endpoint = &endpoints->all[i];
        if (!isinf(endpoint->limit) || endpoint->troubles > 0 || now < endpoint->paused_until_ns) {
            return false;
        }
    }
    return true;
}

nanos endpoints_paused_until(const struct endpoints *endpoints, nanos now, uint64_t allowed)
{
    nanos first_ns = NANOS_NEVER;
    for (unsigned i = 0; i < endpoints->count; i++) {
        nanos until_ns = endpoints->all[i].paused_until_ns;
        if (allowed == 0 || (allowed >> i & 1) != 0) {
            first_ns = until_ns < first_ns ? until_ns : first_ns;
        }
    }
    return first_ns == NANOS_NEVER || first_ns <= now ? 0 : first_ns;
}

void endpoints_advance(struct endpoints *endpoints, nanos now)
{
    if (now < endpoints->period_began_ns + endpoints->period_ns) {
        return;
    }
    endpoints->period_began_ns = now;
    for (unsigned i = 0; i < endpoints->count; i++) {
        struct endpoint *endpoint = &endpoints->all[i];
        endpoint->spare_periods = endpoint->was_full ? 0 : endpoint->spare_periods + 1;
        if (endpoint->was_full) {
            endpoint->limit = fmin(endpoints->limit_max, endpoint->limit + 1);
        } else if (endpoint->spare_periods >= FORGET_PERIODS) {
            endpoint->limit = endpoints->limit_max;
        }
        endpoint->was_full = is_full(endpoint);
    }
}

nanos endpoints_next_ns(const struct endpoints *endpoints, nanos now)
{
    nanos next_ns = NANOS_NEVER;
    for (unsigned i = 0; i < endpoints->count; i++) {
        nanos until_ns = endpoints->all[i].paused_until_ns;
        next_ns = until_ns > now && until_ns < next_ns ? until_ns : next_ns;
    }
    return next_ns;
}
