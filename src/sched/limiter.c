/* The limiters by name, and what they all begin with. */
#include "sched/limiter_internal.h"

#include <math.h>

#include "base/check.h"

#define PERIOD_NS (250 * NANOS_PER_MS) /* DESIGN: no faster than four samples of a busy model come in */

static const struct limiter_ops *const all_ops[LIMITER_KINDS] = {
    [LIMITER_EXCESS] = &limiter_excess_ops,       [LIMITER_FIXED] = &limiter_fixed_ops,
    [LIMITER_AIMD] = &limiter_aimd_ops,           [LIMITER_VEGAS] = &limiter_vegas_ops,
    [LIMITER_GRADIENT2] = &limiter_gradient2_ops, [LIMITER_ENVOY] = &limiter_envoy_ops,
};

static const char *const cause_names[LIMITER_CAUSES] = {
    [LIMITER_CAUSE_EXCESS] = "excess",   [LIMITER_CAUSE_STALL] = "stall", [LIMITER_CAUSE_TOKENS] = "tokens",
    [LIMITER_CAUSE_REFUSED] = "refused", [LIMITER_CAUSE_PROBE] = "probe",
};

const char *limiter_cause_name(enum limiter_cause cause)
{
    return (unsigned)cause < LIMITER_CAUSES ? cause_names[cause] : "unknown";
}

const struct limiter_ops *limiter_ops_of(enum limiter_kind kind)
{
    return (unsigned)kind < LIMITER_KINDS ? all_ops[kind] : NULL;
}

bool limiter_kind_from(struct bytes name, enum limiter_kind *ret_kind)
{
    for (unsigned kind = 0; kind < LIMITER_KINDS; kind++) {
        if (bytes_equal(name, bytes_from(all_ops[kind]->name))) {
            *ret_kind = (enum limiter_kind)kind;
            return true;
        }
    }
    return false;
}

double limiter_clamped(const struct limiter *limiter, double limit)
{
    return fmax(limiter->options.min, fmin(limiter->options.max, limit));
}

void limiter_init(struct limiter *limiter, const struct limiter_options *options, nanos now)
{
    *limiter = (struct limiter){.ops = limiter_ops_of(options->kind), .options = *options};
    CHECK(limiter->ops != NULL);
    /* Below one nothing would ever go, and nothing would ever be learned. */
    limiter->options.min = fmax(1, options->min);
    limiter->options.max = fmax(limiter->options.min, options->max);
    limiter->period_ns = limiter_scaled(limiter, PERIOD_NS);
    limiter->limit = limiter_clamped(limiter, options->initial);
    limiter->kv_tokens = options->kv_tokens_max > 0 ? options->kv_tokens_max : INFINITY;
    limiter->prefill_ns = NANOS_NEVER;
    limiter->large_max = UINT32_MAX;
    limiter->is_found = options->kind != LIMITER_EXCESS;
    limiter->ops->init(limiter, now);
}

void limiter_ignore_first_token(struct limiter *limiter, nanos now, const struct limiter_sample *sample)
{
    (void)limiter;
    (void)now;
    (void)sample;
}

void limiter_ignore_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                        const struct limiter_census *census)
{
    (void)limiter;
    (void)now;
    (void)end;
    (void)census;
}

void limiter_ignore_refused(struct limiter *limiter, nanos now, nanos granted_ns, const struct limiter_census *census)
{
    (void)limiter;
    (void)now;
    (void)granted_ns;
    (void)census;
}

void limiter_ignore_tick(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    (void)limiter;
    (void)now;
    (void)census;
}
