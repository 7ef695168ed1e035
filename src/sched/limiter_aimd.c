/* Additive increase, multiplicative decrease: AIMDLimit of Netflix concurrency-limits, behind its WindowedLimit.
 *
 *   dropped, or took > 5 s       L ← ⌊0.9 L⌋
 *   else, if in flight ≥ L / 2   L ← L + 1
 *
 * once a window, with the window's mean. */
#include "sched/limiter_internal.h"

#include <math.h>

#define BACKOFF    0.9
#define TIMEOUT_NS (5 * NANOS_PER_S)

struct aimd {
    struct limiter_window window;
};
_Static_assert(sizeof(struct aimd) <= LIMITER_STATE_BYTES, "the state fits");

static struct aimd *state_of(struct limiter *limiter)
{
    return (struct aimd *)(void *)limiter->state;
}

static void init(struct limiter *limiter, nanos now)
{
    (void)now;
    limiter->limit = floor(limiter->limit);
}

static void on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census)
{
    (void)now;
    (void)census;
    struct limiter_window_mean mean;
    if (end->is_canceled || !limiter_window_add(limiter, &state_of(limiter)->window, end, &mean)) {
        return;
    }
    if (mean.is_dropped || mean.took_ns > (double)limiter_scaled(limiter, TIMEOUT_NS)) {
        limiter->limit = limiter_clamped(limiter, floor(limiter->limit * BACKOFF));
        limiter->cuts[mean.is_dropped ? LIMITER_CAUSE_REFUSED : LIMITER_CAUSE_EXCESS]++;
    } else if (mean.in_flight * 2.0 >= limiter->limit) {
        limiter->limit = limiter_clamped(limiter, limiter->limit + 1);
    }
}

const struct limiter_ops limiter_aimd_ops = {
    .name = "aimd",
    .init = init,
    .on_first_token = limiter_ignore_first_token,
    .on_end = on_end,
    .on_refused = limiter_ignore_refused, /* its end is a drop */
    .tick = limiter_ignore_tick,
};
