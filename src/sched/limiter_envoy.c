/* The gradient controller of Envoy's adaptive concurrency filter (gradient_controller.cc, its header and proto).
 *
 *   PROBE: L = 3, until 50 answers granted in it have ended; their median is the least time
 *     │ ▲
 *     ▼ │ every 60 s and up to 15 % more; or after five updates that left L at 3
 *   UPDATE, every 100 ms in which something ended:  g = clamp(1.25 · least / median, 0.5, 2);  L ← ⌊g L + √(g L)⌋
 *
 * It begins with a probe, and after a probe goes on with the limit from before. Intervals are those of its
 * documentation's example, the rest are its defaults. Answers granted before the last probe began are not looked at,
 * nor are those that were reset or timed out. Times are kept in microseconds, as there; its log-linear histogram is a
 * sample of at most 900 here. */
#include "sched/limiter_internal.h"

#include <math.h>
#include <stdlib.h>

#define PROBE_INTERVAL_NS  (60 * NANOS_PER_S)
#define UPDATE_INTERVAL_NS (100 * NANOS_PER_MS)
#define PROBE_JITTER       0.15
#define PROBE_LIMIT        3.0
#define BUFFER             0.25

enum {
    PROBE_SAMPLES = 50,
    AT_MINIMUM_MAX = 5,
    SAMPLES_MAX = 900,
};

struct envoy {
    double deferred; /* the limit from before the probe that runs; 0: none runs */
    double least_us;
    nanos epoch_ns; /* when the last probe began */
    nanos next_probe_ns, next_update_ns;
    uint64_t draws;
    uint32_t at_minimum; /* updates in a row that left the limit at its least */
    uint32_t samples;    /* seen; the first SAMPLES_MAX of them, then a fair choice, are held */
    uint32_t took_us[SAMPLES_MAX];
};
_Static_assert(sizeof(struct envoy) <= LIMITER_STATE_BYTES, "the state fits");

static struct envoy *state_of(struct limiter *limiter)
{
    return (struct envoy *)(void *)limiter->state;
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

/* Of what is held, which is then let go. */
static double take_median_us(struct envoy *envoy)
{
    uint32_t held = envoy->samples < SAMPLES_MAX ? envoy->samples : SAMPLES_MAX;
    qsort(envoy->took_us, held, sizeof envoy->took_us[0], compare);
    envoy->samples = 0;
    return ((double)envoy->took_us[(held - 1) / 2] + (double)envoy->took_us[held / 2]) / 2;
}

static void hold(struct envoy *envoy, nanos took_ns)
{
    nanos took_us = took_ns / NANOS_PER_US;
    uint32_t sample = took_us == 0 ? 1 : took_us > UINT32_MAX ? UINT32_MAX : (uint32_t)took_us;
    uint64_t place = envoy->samples < SAMPLES_MAX ? envoy->samples : limiter_draw(&envoy->draws) % (envoy->samples + 1);
    envoy->samples += envoy->samples < UINT32_MAX;
    if (place < SAMPLES_MAX) {
        envoy->took_us[place] = sample;
    }
}

static double at_least(const struct limiter *limiter)
{
    return limiter_clamped(limiter, PROBE_LIMIT);
}

static void begin_probe(struct limiter *limiter, nanos now)
{
    struct envoy *envoy = state_of(limiter);
    envoy->deferred = limiter->limit;
    envoy->epoch_ns = now;
    envoy->samples = 0;
    envoy->at_minimum = 0;
    limiter->limit = at_least(limiter);
    limiter->cuts[LIMITER_CAUSE_PROBE]++;
}

static void end_probe(struct limiter *limiter, nanos now)
{
    struct envoy *envoy = state_of(limiter);
    envoy->least_us = take_median_us(envoy);
    limiter->limit = envoy->deferred;
    envoy->deferred = 0;
    nanos interval_ns = limiter_scaled(limiter, PROBE_INTERVAL_NS);
    nanos jitter_ns = (nanos)((double)interval_ns * PROBE_JITTER);
    envoy->next_probe_ns = now + interval_ns + (jitter_ns == 0 ? 0 : limiter_draw(&envoy->draws) % jitter_ns);
    envoy->next_update_ns = now + limiter_scaled(limiter, UPDATE_INTERVAL_NS);
}

static void update(struct limiter *limiter)
{
    struct envoy *envoy = state_of(limiter);
    double gradient = fmax(0.5, fmin(2, envoy->least_us * (1 + BUFFER) / take_median_us(envoy)));
    double limit = limiter->limit * gradient;
    limit = fmax(at_least(limiter), limiter_clamped(limiter, floor(limit + sqrt(limit))));
    bool stays_least = limit <= at_least(limiter) && limiter->limit <= at_least(limiter);
    envoy->at_minimum = stays_least ? envoy->at_minimum + 1 : 0;
    if (limit < limiter->limit) {
        limiter->cuts[LIMITER_CAUSE_EXCESS]++;
    }
    limiter->limit = limit;
}

static void tick(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    (void)census;
    struct envoy *envoy = state_of(limiter);
    if (envoy->deferred > 0) {
        return;
    }
    if (now >= envoy->next_probe_ns) {
        begin_probe(limiter, now);
        return;
    }
    if (now < envoy->next_update_ns) {
        return;
    }
    envoy->next_update_ns = now + limiter_scaled(limiter, UPDATE_INTERVAL_NS);
    if (envoy->samples > 0) {
        update(limiter);
    }
    if (envoy->at_minimum >= AT_MINIMUM_MAX) {
        begin_probe(limiter, now);
    }
}

static void init(struct limiter *limiter, nanos now)
{
    struct envoy *envoy = state_of(limiter);
    envoy->draws = limiter->options.seed;
    limiter->period_ns = limiter_scaled(limiter, UPDATE_INTERVAL_NS);
    limiter->limit = at_least(limiter);
    begin_probe(limiter, now);
    limiter->cuts[LIMITER_CAUSE_PROBE] = 0; /* it cut nothing */
}

static void on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census)
{
    struct envoy *envoy = state_of(limiter);
    tick(limiter, now, census);
    if (end->is_canceled || end->is_dropped || end->granted_ns < envoy->epoch_ns) {
        return;
    }
    hold(envoy, end->ended_ns - end->granted_ns);
    if (envoy->deferred > 0 && envoy->samples >= PROBE_SAMPLES) {
        end_probe(limiter, now);
    }
}

const struct limiter_ops limiter_envoy_ops = {
    .name = "envoy",
    .init = init,
    .on_first_token = limiter_ignore_first_token,
    .on_end = on_end,
    .on_refused = limiter_ignore_refused, /* nor did it look at these */
    .tick = tick,
};
