/* The guard of decode: when everything runs, only slower, the time between tokens grows.
 *
 * The mean time between tokens is taken over windows of 2 s. Beyond its aim the limit is cut in proportion, and not
 * again before in-flight has come down to it: what a cut does is seen only then. The streams' own means since their
 * first tokens must be beyond it, too, for a burst of prefill passes by itself and does not fall with the limit. The
 * aim moves so that one request in ten misses what is wanted. */
#include <math.h>

#include "sched/limiter_excess_internal.h"

/* Chosen with bench/sched over all its scenarios, 5 to 8 seeds each; beside each is what the others lost. */
#define TOKEN_WINDOW_NS (2 * NANOS_PER_S)
/* of what was in flight: by then a cut must have shown; 0.5: of slow decodes every tenth is left alone */
#define FUTILE_SHARE   0.25
#define FUTILE_TIME    0.95
#define FUTILE_WINDOWS 3 /* 1, of a mean that lags: of slow decodes every fourth was left alone for two minutes */
#define GUARD_NEAR     0.8
#define FUTILE_NS      (120 * NANOS_PER_S)
#define TOKEN_MISSES   10     /* one in so many requests may end above the wanted time between tokens */
#define TOKEN_STEP     0.0002 /* of the aim, for each request that ends; 0.0005: slow decode loses 4 % */
#define TOKEN_CUT_MIN  0.85   /* the deepest cut at once; 0.65: slow decode loses 5 % */

void excess_decode_init(struct limiter *limiter, nanos now)
{
    excess_state_of(limiter)->decode = (struct excess_decode){
        .aim_share = 0.95,
        .limit = INFINITY,
        .began_ns = now,
        .last_ns = now,
    };
}

/* Mean time between tokens of a stream over the window that has just ended; 0: it has not, or there were too few. */
static double token_time(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_decode *decode = &excess_state_of(limiter)->decode;
    if (now - decode->last_ns > 2 * limiter->period_ns) { /* nothing was in flight */
        decode->began_ns = now;
        decode->emitted = census->tokens_emitted;
        decode->streams_ns = 0;
    } else {
        decode->streams_ns += (double)decode->streams * (double)(now - decode->last_ns);
    }
    decode->streams = census->streaming;
    decode->last_ns = now;
    if (now - decode->began_ns < limiter_scaled(limiter, TOKEN_WINDOW_NS)) {
        return 0;
    }
    double tokens = (double)(census->tokens_emitted - decode->emitted);
    double time = tokens >= 16 ? decode->streams_ns / tokens : 0;
    decode->emitted = census->tokens_emitted;
    decode->began_ns = now;
    decode->streams_ns = 0;
    return time;
}

/* From here on it is seen whether cutting helps. */
static void begin_guard(struct excess_decode *decode, double in_flight, double time)
{
    decode->guard_count = in_flight;
    decode->guard_time_ns = time;
    decode->judged_windows = 0;
    decode->judged_ns = 0;
}

/* Looks, with far fewer in flight than when it began, whether cutting has helped; until that is known nothing more is
 * cut. Where the time is nearly what it was it comes from prefill, or from the backend itself: the limit is given back,
 * and for a while the guard lets it be. */
static bool is_judging(struct limiter *limiter, nanos now, double in_flight, double time)
{
    struct excess_state *state = excess_state_of(limiter);
    struct excess_decode *decode = &state->decode;
    if (in_flight > FUTILE_SHARE * decode->guard_count) {
        return false;
    }
    decode->judged_ns += time;
    if (++decode->judged_windows < FUTILE_WINDOWS) {
        return true;
    }
    double judged = decode->judged_ns / decode->judged_windows;
    if (judged < FUTILE_TIME * decode->guard_time_ns) {
        begin_guard(decode, in_flight, judged);
        return false;
    }
    decode->limit = INFINITY;
    state->count = fmax(state->count, decode->guard_count);
    decode->until_ns = now + limiter_scaled(limiter, FUTILE_NS);
    return true;
}

static void cut_for_decode(struct limiter *limiter, double time, double target, double in_flight)
{
    struct excess_decode *decode = &excess_state_of(limiter)->decode;
    if (decode->limit == INFINITY) {
        begin_guard(decode, in_flight, time);
    } else if (in_flight > GUARD_NEAR * decode->guard_count) {
        decode->guard_time_ns = fmax(decode->guard_time_ns, time); /* the first windows began before it was slow */
    }
    decode->limit = fmax(in_flight * excess_clamp(2 - time / target, TOKEN_CUT_MIN, 0.98), limiter->options.min);
    limiter->cuts[LIMITER_CAUSE_TOKENS]++;
}

void excess_guard_decode(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = excess_state_of(limiter);
    struct excess_decode *decode = &state->decode;
    double time = token_time(limiter, now, census);
    if (time == 0 || limiter->options.slo_token_ns == 0) {
        return;
    }
    double target = decode->aim_share * (double)limiter->options.slo_token_ns;
    double in_force = fmin(state->count, decode->limit);
    /* What a cut does is seen only when it is in force; and one that is not used up is not to blame. */
    bool is_settled = census->in_flight <= in_force + 1 && census->in_flight >= EXCESS_USED_SHARE * in_force;
    double mean = census->stream_tokens > 0 ? (double)census->stream_elapsed_ns / (double)census->stream_tokens : 0;
    if (time > target && mean > target && is_settled && now >= decode->until_ns) {
        double in_flight = fmin(in_force, census->in_flight);
        if (decode->limit == INFINITY || !is_judging(limiter, now, in_flight, time)) {
            cut_for_decode(limiter, time, target, in_flight);
        }
    } else if (time < 0.95 * target && decode->limit < INFINITY) {
        decode->limit *= 1 + excess_clamp(target / time - 1, 0, 0.1) * 0.5;
        if (decode->limit > 2 * fmax(state->count, state->peak)) {
            decode->limit = INFINITY;
        }
    }
}

void excess_aim_decode(struct limiter *limiter, const struct limiter_end *end)
{
    struct excess_decode *decode = &excess_state_of(limiter)->decode;
    nanos slo = limiter->options.slo_token_ns;
    if (slo == 0 || decode->limit == INFINITY || end->first_token_ns == 0 || end->output_tokens < 2) {
        return;
    }
    /* A quantile by stochastic steps: it stands still when one in TOKEN_MISSES ends above what is wanted. */
    double mean = (double)(end->ended_ns - end->first_token_ns) / (end->output_tokens - 1);
    decode->aim_share += mean > (double)slo ? -TOKEN_STEP * TOKEN_MISSES : TOKEN_STEP;
    decode->aim_share = excess_clamp(decode->aim_share, 0.8, 1.05);
}
