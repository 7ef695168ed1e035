/* VegasLimit of Netflix concurrency-limits, after TCP Vegas (Brakmo and Peterson, 1995). For each answer, with the
 * least time seen RTT0, the estimated queue q and lg = max(1, ⌊log10 L⌋):
 *
 *   q = ⌈L (1 − RTT0 / RTT)⌉
 *   dropped        L ← L − lg
 *   in flight × 2 < L   nothing
 *   q ≤ lg         L ← L + 6 lg
 *   q < 3 lg       L ← L + lg
 *   q > 6 lg       L ← L − lg
 *
 * Every 30 · L · U(0.5, 1) answers RTT0 becomes that answer's time, whatever it is; a new least one moves RTT0 alone.
 */
#include "sched/limiter_internal.h"

#include <math.h>

enum { PROBE_MULTIPLIER = 30 };

struct vegas {
    double estimate; /* the limit is its integer part */
    double probe_jitter;
    nanos least_ns; /* 0: none yet */
    uint64_t since_probe;
    uint64_t draws;
};
_Static_assert(sizeof(struct vegas) <= LIMITER_STATE_BYTES, "the state fits");

static struct vegas *state_of(struct limiter *limiter)
{
    return (struct vegas *)(void *)limiter->state;
}

static double jitter(struct vegas *vegas)
{
    return 0.5 + 0.5 * ((double)(limiter_draw(&vegas->draws) >> 11) * 0x1p-53);
}

static void init(struct limiter *limiter, nanos now)
{
    (void)now;
    struct vegas *vegas = state_of(limiter);
    vegas->estimate = limiter->limit;
    vegas->draws = limiter->options.seed;
    vegas->probe_jitter = jitter(vegas);
    limiter->limit = floor(vegas->estimate);
}

static void move(struct limiter *limiter, double took_ns, const struct limiter_end *end)
{
    struct vegas *vegas = state_of(limiter);
    double step = fmax(1, floor(log10(floor(vegas->estimate))));
    double queue = ceil(vegas->estimate * (1 - (double)vegas->least_ns / took_ns));
    double change = 0;
    if (end->is_dropped) {
        change = -step;
    } else if (end->in_flight * 2.0 < vegas->estimate) {
        return;
    } else if (queue <= step) {
        change = 6 * step;
    } else if (queue < 3 * step) {
        change = step;
    } else if (queue > 6 * step) {
        change = -step;
    }
    if (change < 0) {
        limiter->cuts[end->is_dropped ? LIMITER_CAUSE_REFUSED : LIMITER_CAUSE_EXCESS]++;
    }
    vegas->estimate = limiter_clamped(limiter, vegas->estimate + change);
    limiter->limit = floor(vegas->estimate);
}

static void on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census)
{
    (void)now;
    (void)census;
    nanos took_ns = end->ended_ns - end->granted_ns;
    if (end->is_canceled || took_ns == 0) {
        return;
    }
    struct vegas *vegas = state_of(limiter);
    vegas->since_probe++;
    if ((double)vegas->since_probe >= vegas->probe_jitter * PROBE_MULTIPLIER * vegas->estimate) {
        vegas->probe_jitter = jitter(vegas);
        vegas->since_probe = 0;
        vegas->least_ns = took_ns;
        limiter->cuts[LIMITER_CAUSE_PROBE]++;
    } else if (vegas->least_ns == 0 || took_ns < vegas->least_ns) {
        vegas->least_ns = took_ns;
    } else {
        move(limiter, (double)took_ns, end);
    }
}

const struct limiter_ops limiter_vegas_ops = {
    .name = "vegas",
    .init = init,
    .on_first_token = limiter_ignore_first_token,
    .on_end = on_end,
    .on_refused = limiter_ignore_refused, /* its end is a drop */
    .tick = limiter_ignore_tick,
};
