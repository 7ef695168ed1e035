/* Admission and the servers that share a model's work: which of them a grant names, and what their refusals teach.
 *
 * Where there are several, a refusal is its server's own matter: it lowers that one's sub-limit and pauses that one,
 * and the limiter hears nothing, since the others can take as much as before. Where all refuse, all sub-limits are
 * lowered, which comes to the same. */
#include <math.h>

#include "sched/admission_internal.h"

static bool are_several(const struct admission *admission)
{
    return admission->endpoints.count > 1;
}

/* What the configuration lets one server have bounds what it lets all of them have. One server alone needs no more. */
static void bound_limiter(struct admission_options *options)
{
    struct limiter_options *limiter = &options->limiter;
    uint32_t count = options->endpoint_count == 0 ? 1 : options->endpoint_count;
    if (options->endpoint_limit > 0) {
        double most = (double)options->endpoint_limit * count;
        limiter->max = fmin(limiter->max, most);
        limiter->min = fmin(limiter->min, most);
        limiter->initial = fmin(limiter->initial, most);
    }
}

void admission_endpoints_init(struct admission *admission, nanos now)
{
    const struct admission_options *options = &admission->options;
    bound_limiter(&admission->options);
    limiter_init(&admission->limiter, &options->limiter, now);
    endpoints_init(&admission->endpoints, options->endpoint_count, options->endpoint_limit,
                   admission->limiter.period_ns, now);
    admission->endpoint_pause_ns = NANOS_NEVER;
}

uint64_t admission_endpoints_with_room(const struct admission *admission, nanos now)
{
    return are_several(admission) ? endpoints_with_room(&admission->endpoints, now) : UINT64_MAX;
}

void admission_endpoints_grant(struct admission *admission, nanos now, struct sched_request *request)
{
    request->endpoint = SCHED_ENDPOINT_ANY;
    if (are_several(admission) && !admission->options.observe_only) {
        request->endpoint = (uint8_t)endpoints_choose(&admission->endpoints, now, request->endpoints);
        endpoints_grant(&admission->endpoints, request->endpoint);
    }
}

bool admission_endpoints_told(struct admission *admission, nanos now, const struct sched_request *request,
                              const struct admission_outcome *outcome)
{
    struct endpoints *endpoints = &admission->endpoints;
    if (!are_several(admission) || request->endpoint >= endpoints->count) {
        return false;
    }
    if (outcome->is_refused) {
        endpoints->uncounted = admission->lent_in_use / endpoints->count;
        endpoints_refuse(endpoints, now, request->endpoint, request->granted_ns, outcome->retry_after_ns);
        admission->endpoint_pause_ns = endpoints_next_ns(endpoints, now);
    } else if (!outcome->is_failed && !outcome->is_canceled) {
        endpoints_succeed(endpoints, request->endpoint);
    }
    return true;
}

void admission_endpoints_release(struct admission *admission, const struct sched_request *request)
{
    if (are_several(admission)) {
        endpoints_release(&admission->endpoints, request->endpoint);
    }
}

void admission_endpoints_advance(struct admission *admission, nanos now)
{
    if (are_several(admission)) {
        endpoints_advance(&admission->endpoints, now);
        admission->endpoint_pause_ns = endpoints_next_ns(&admission->endpoints, now);
    }
}

bool admission_endpoints_are_free(const struct admission *admission, nanos now)
{
    return !are_several(admission) || endpoints_are_free(&admission->endpoints, now);
}

nanos admission_paused_until(const struct admission *admission, nanos now, uint64_t allowed)
{
    nanos all = admission->paused_until_ns;
    nanos theirs = are_several(admission) ? endpoints_paused_until(&admission->endpoints, now, allowed) : 0;
    return all > theirs ? all : theirs;
}

void admission_on_endpoint(struct admission *admission, nanos now, struct sched_request *request, unsigned endpoint)
{
    bool is_granted = request->state == SCHED_PENDING || request->state == SCHED_RUNNING;
    unsigned named = request->endpoint;
    if (!are_several(admission) || !is_granted || named == endpoint) {
        return;
    }
    endpoints_move(&admission->endpoints, named, endpoint);
    endpoints_fail(&admission->endpoints, now, named, request->granted_ns);
    admission->endpoint_pause_ns = endpoints_next_ns(&admission->endpoints, now);
    request->endpoint = (uint8_t)endpoint;
}

const struct endpoints *admission_endpoints(const struct admission *admission)
{
    return &admission->endpoints;
}
