/* Gradient2Limit of Netflix concurrency-limits, behind its WindowedLimit. Once a window, with the window's mean as the
 * short time and an exponential mean over 600 of them as the long time:
 *
 *   g = clamp(1.5 · long / short, 0.5, 1)
 *   L ← 0.8 L + 0.2 (g L + 4)
 *
 * but nothing while in flight < L / 2. While long / short > 2, long is multiplied by 0.95. The first ten windows make
 * a plain mean. Drops are not looked at. */
#include "sched/limiter_internal.h"

#include <math.h>

#define TOLERANCE   1.5
#define SMOOTHING   0.2
#define QUEUE       4.0
#define LONG_FACTOR (2.0 / (600 + 1))
#define DECAY       0.95

enum { WARM_UP = 10 };

struct gradient2 {
    struct limiter_window window;
    double estimate; /* the limit is its integer part */
    double long_ns;
    double warm_up_ns; /* sum */
    uint32_t warm_up_count;
};
_Static_assert(sizeof(struct gradient2) <= LIMITER_STATE_BYTES, "the state fits");

static struct gradient2 *state_of(struct limiter *limiter)
{
    return (struct gradient2 *)(void *)limiter->state;
}

static void init(struct limiter *limiter, nanos now)
{
    (void)now;
    state_of(limiter)->estimate = limiter->limit;
    limiter->limit = floor(limiter->limit);
}

static double lengthen(struct gradient2 *gradient2, double short_ns)
{
    if (gradient2->warm_up_count < WARM_UP) {
        gradient2->warm_up_count++;
        gradient2->warm_up_ns += short_ns;
        gradient2->long_ns = gradient2->warm_up_ns / gradient2->warm_up_count;
    } else {
        gradient2->long_ns += (short_ns - gradient2->long_ns) * LONG_FACTOR;
    }
    return gradient2->long_ns;
}

static void on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census)
{
    (void)now;
    (void)census;
    struct gradient2 *gradient2 = state_of(limiter);
    struct limiter_window_mean mean;
    if (end->is_canceled || !limiter_window_add(limiter, &gradient2->window, end, &mean)) {
        return;
    }
    double long_ns = lengthen(gradient2, mean.took_ns);
    if (long_ns / mean.took_ns > 2) {
        gradient2->long_ns *= DECAY;
    }
    if (mean.in_flight < gradient2->estimate / 2) {
        return;
    }
    double gradient = fmax(0.5, fmin(1, TOLERANCE * long_ns / mean.took_ns));
    double aim = gradient * gradient2->estimate + QUEUE;
    double estimate = limiter_clamped(limiter, gradient2->estimate + SMOOTHING * (aim - gradient2->estimate));
    if (estimate < gradient2->estimate) {
        limiter->cuts[LIMITER_CAUSE_EXCESS]++;
    }
    gradient2->estimate = estimate;
    limiter->limit = floor(estimate);
}

const struct limiter_ops limiter_gradient2_ops = {
    .name = "gradient2",
    .init = init,
    .on_first_token = limiter_ignore_first_token,
    .on_end = on_end,
    .on_refused = limiter_ignore_refused,
    .tick = limiter_ignore_tick,
};
