/* The controller of size-normalised excess time to the first token.
 *
 * An engine that batches has three things to run out of, and each shows in another place:
 *
 *   prefill   prompts wait for their turn to be computed      the time of prefill not yet past the first token grows
 *   slots,KV  prompts wait for a running one to end           the oldest pending one stands still (stall)
 *   decode    everything runs, only slower                    time between tokens grows
 *
 *   whole     answers that are not streams show none of these  the time they take, beyond what is natural to them
 *
 * 1. Prefill is bounded directly: the sum of the bases of what is pending stays below prefill_ns. It is self-clocking,
 *    each first token lets the next one go, at whatever pace the backend has just now; so a backend whose capacity
 *    halves is fed at half the pace from the next token on, before any limit has moved.
 *
 * 2. Requests in flight are cut when the median excess of the last samples (net of the prefill that was ahead of them),
 *    or the stall of the oldest pending one, is above D = max(150 ms, 0.1 × SLO). The cut goes to what the
 *    backend is seen to run, its streams past their first token and the pending ones that prefill_ns allows, rather
 *    than by a blind factor: what runs is its capacity. Samples granted before the cut are ignored, and a limit
 *    that is not used is not cut. It grows only when somebody was blocked by it: by half a tick until the first
 *    cut, then along a cubic that is flat around the last cut's height (CUBIC, RFC 9438), so that the limit dwells
 *    where capacity was last found and probes away from it ever faster. When another bound holds it follows what is
 * used.
 *
 * 3. KV tokens: what a backend runs out of is what is alike at all its stalls. When that is the tokens held rather than
 *    the number of streams, expected tokens in flight stay just below the most that was held, and probe slowly:
 *    each probe costs preemptions.
 *
 * 4. Decode: the mean time between tokens over windows of 2 s. Beyond its aim the limit is cut in proportion, and
 *    not again before in-flight has come down to it: what a cut does is seen only then. The streams' own means since
 *    their first tokens must be beyond it, too, for a burst of prefill passes by itself and does not fall with the
 *    limit. The aim moves so that one request in ten misses what is wanted.
 *
 * 5. Whole answers: half the limit on trial. Where answers wait for each other they take half the time then, and it
 *    stays; where they do not, the cut is taken back, and the excess counts as natural from then on. Times vary so
 *    widely from one answer to the next that anything less than a half, or fewer samples, would be judged by chance.
 *
 * Refusals (429, 503, reset) cut by 0.7, once per epoch. */
#include "base/check.h"
#include "sched/limiter_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SAMPLES = 64, SAMPLES_MIN = 4, STALLS_KNOWN = 4 };

struct excess_sample {
    nanos at_ns;
    int64_t excess_ns; /* over the base */
    int64_t net_ns;    /* over the base and the prefill that was ahead of it */
    float log_took;    /* logarithm of the whole time in ns */
    bool met_limit;    /* the limit was used up at its grant */
};

struct excess_state {
    nanos d_ns;     /* the excess that is allowed */
    double count;   /* requests in flight, before the guard of decode has had its say */
    nanos cut_ns;   /* the last cut: what was granted before it says nothing any more */
    bool had_cut;   /* slow start is over */
    double height;  /* of the last cut: where the cubic is flat */
    double low;     /* what it was cut to */
    nanos epoch_ns; /* from when the cubic counts */

    double probe_from;  /* the limit before it was raised */
    double probe_step;  /* 0: the last one failed */
    nanos probe_end_ns; /* 0: none is under way */
    nanos probed_ns;

    struct excess_sample samples[SAMPLES];
    unsigned sample_count, sample_next;
    nanos known_ns; /* when there were last enough of them */

    /* whole answers: is a cut followed by shorter times? */
    double natural_ns; /* excess that no cut removes */
    bool is_on_trial;
    double trial_log_took;  /* before the cut */
    double trial_excess_ns; /* over the base alone */
    double trial_count;

    double peak; /* most in flight in this minute, and in the one before */
    double peak_before;
    nanos peak_began_ns;

    double kv_seen; /* most held at a stall in this minute, and in the one before */
    double kv_before;
    nanos kv_began_ns;
    nanos kv_stall_ns;
    double held_mean, running_mean; /* at stalls, and by how much they differ from one to the next */
    double held_spread, running_spread;
    unsigned stalls;

    /* the guard of decode */
    double token_share; /* of what is wanted: the mean to aim at, so that few requests miss it */
    double token_limit; /* INFINITY: it has nothing to say */
    nanos token_began_ns;
    uint32_t token_streams; /* at the last tick */
    uint64_t token_sum;     /* tokens_emitted at the window's beginning */
    double stream_time;     /* of this window: streams × ns */
    nanos token_last_ns;
    double guard_count; /* in flight, and the time, when the guard began to cut */
    double guard_time_ns;
    double judged_ns; /* the sum of the times since there are far fewer, and of how many windows */
    unsigned judged_windows;
    nanos guard_until_ns; /* until then it lets the limit be */
};

_Static_assert(sizeof(struct excess_state) <= LIMITER_STATE_BYTES, "the state fits");

#define PERIOD_NS       (250 * NANOS_PER_MS)
#define D_MIN_NS        (150 * NANOS_PER_MS)
#define MINUTE_NS       (60 * NANOS_PER_S)
#define TOKEN_WINDOW_NS (2 * NANOS_PER_S)
#define EXCESS_KEPT_NS  (10 * NANOS_PER_S)
#define REFUSED_FACTOR  0.7
#define WHOLE_CUT_MIN   0.8 /* where there are streams, too, which say more */
#define TRIAL_CUT       0.5
#define TRIAL_HELPED    0.75 /* of the time that a cut by a half must leave at most */
#define TRIAL_TIMES     8.0  /* an answer's usual time: so long a trial takes, for the quick ones end first */
#define SETTLE_TIMES    2.0  /* the same before one begins */
#define NATURAL_MARGIN  0.5  /* of the natural excess: by so much more it must become before that is tried again */

/* Chosen with bench/sched over all its scenarios, 5 to 8 seeds each; beside each is what the others lost. */
#define CUBIC_S        6.0 /* from a cut back to where it was; 12: doubled capacity is found ten seconds later */
#define PROBE_EVERY_NS (90 * NANOS_PER_S) /* each costs class 0 a second without headroom */
#define PROBE_NS       (2 * NANOS_PER_S)
#define PROBE_FILLED   0.9
#define PROBE_SHARE    0.08 /* of the limit: more than is usually held back */
#define USED_SHARE     0.8  /* of the limit: only a limit in use is cut */
#define USED_MARGIN    1.2  /* how far an unused limit stands above what is used; 1.1: bursts lose 1 % */
#define KV_ALIKE                                                                                        \
    0.7 /* how much more alike than the streams that ran the tokens held must be; 1: mistaken for slots \
         */
#define KV_SHARE \
    0.93 /* of what was held at stalls, once KV memory is known to be what is short; 0.95: preemptions × 1.5 */
#define KV_SLOW       2e-7   /* its growth per tick and squared second since the last stall; 1e-6: preemptions × 1.5 */
#define NATURAL_DECAY 0.9998 /* a tick: 5 % a minute */
#define KV_FAST       1e-5   /* the same while it is not known */
#define FUTILE_SHARE \
    0.25 /* of what was in flight: by then a cut must have shown; 0.5: of slow decodes every tenth is left alone */
#define FUTILE_TIME    0.95
#define FUTILE_WINDOWS 3 /* 1, of a mean that lags: of slow decodes every fourth was left alone for two minutes */
#define GUARD_NEAR     0.8
#define FUTILE_NS      (120 * NANOS_PER_S)
#define TOKEN_MISSES   10     /* one in so many requests may end above the wanted time between tokens */
#define TOKEN_STEP     0.0002 /* of the aim, for each request that ends; 0.0005: slow decode loses 4 % */
#define TOKEN_CUT_MIN  0.85   /* the deepest cut at once; 0.65: slow decode loses 5 % */

static struct excess_state *state_of(struct limiter *limiter)
{
    return (struct excess_state *)limiter->state;
}

static double clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

static void init(struct limiter *limiter, nanos now)
{
    struct excess_state *state = state_of(limiter);
    const struct limiter_options *options = &limiter->options;
    nanos tenth = options->slo_first_ns / 10;
    nanos least = limiter_scaled(limiter, D_MIN_NS);
    state->d_ns = tenth > least ? tenth : least;
    state->peak_began_ns = now;
    state->probed_ns = now;
    state->kv_began_ns = now;
    state->token_began_ns = now;
    state->token_last_ns = now;
    state->token_limit = INFINITY;
    state->token_share = 0.95;
    state->count = clamp(options->initial, options->min, options->max);
    limiter->limit = state->count;
    limiter->period_ns = limiter_scaled(limiter, PERIOD_NS);
    limiter->prefill_ns = state->d_ns * options->endpoints;
    limiter->large_max = options->endpoints;
    limiter->kv_tokens = options->kv_tokens_max > 0 ? KV_SHARE * options->kv_tokens_max : INFINITY;
}

/* ---- samples ---- */

static void on_first_token(struct limiter *limiter, nanos now, const struct limiter_sample *sample)
{
    struct excess_state *state = state_of(limiter);
    if (sample->base_ns == 0 || (state->had_cut && sample->granted_ns < state->cut_ns)) {
        return;
    }
    int64_t took = (int64_t)(sample->first_token_ns - sample->granted_ns);
    state->samples[state->sample_next] = (struct excess_sample){
        .at_ns = now,
        .excess_ns = took - (int64_t)sample->base_ns,
        .net_ns = took - (int64_t)(sample->base_ns + sample->ahead_ns),
        .log_took = logf((float)(took > 0 ? took : 1)),
        .met_limit = sample->in_flight + 1 >= USED_SHARE * limiter->limit,
    };
    state->sample_next = (state->sample_next + 1) % SAMPLES;
    state->sample_count += state->sample_count < SAMPLES;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The median excess of the last samples: at least SAMPLES_MIN, of the last period or as far back as it takes, at most 4
 * periods. False: there are not enough. */
static bool median_excess(struct limiter *limiter, nanos now, double *ret_excess_ns, double *ret_net_ns)
{
    struct excess_state *state = state_of(limiter);
    int64_t recent[SAMPLES];
    int64_t net[SAMPLES];
    unsigned count = 0;
    for (unsigned back = 1; back <= state->sample_count; back++) {
        const struct excess_sample *sample = &state->samples[(state->sample_next + SAMPLES - back) % SAMPLES];
        nanos age = now - sample->at_ns;
        if (age > 8 * limiter->period_ns || (age > limiter->period_ns && count >= SAMPLES_MIN)) {
            break;
        }
        net[count] = sample->net_ns;
        recent[count++] = sample->excess_ns;
    }
    if (count < SAMPLES_MIN) {
        return false;
    }
    qsort(recent, count, sizeof(recent[0]), compare);
    qsort(net, count, sizeof(net[0]), compare);
    *ret_excess_ns = fmax((double)recent[count / 2], 0);
    *ret_net_ns = fmax((double)net[count / 2], 0);
    return true;
}

/* What answers took since the limit was last changed, of those that met it: the mean of the logarithms, and their mean
 * excess. False: there are not enough. */
static bool usual_time(const struct excess_state *state, double *ret_log_took, double *ret_excess_ns)
{
    double log_took = 0;
    double excess = 0;
    for (unsigned i = 0; i < SAMPLES; i++) {
        if (state->sample_count < SAMPLES || !state->samples[i].met_limit) {
            return false;
        }
        log_took += (double)state->samples[i].log_took / SAMPLES;
        excess += (double)state->samples[i].excess_ns / SAMPLES;
    }
    *ret_log_took = log_took;
    *ret_excess_ns = fmax(excess, 0);
    return true;
}

/* ---- the bounds ---- */

static void cut_to(struct limiter *limiter, nanos now, double limit, enum limiter_cause cause)
{
    struct excess_state *state = state_of(limiter);
    limit = clamp(limit, limiter->options.min, fmax(state->count, limiter->options.min));
    state->height = state->count;
    state->low = limit;
    state->epoch_ns = now;
    state->cut_ns = now;
    state->had_cut = true;
    limiter->is_found = true;
    state->sample_count = 0;
    state->probe_end_ns = 0;
    state->probe_step = 0;
    state->count = limit;
    limiter->cuts[cause]++;
}

/* What the backend is seen to take: what runs, and of what is pending as much as may be. Of whole answers nothing is
 * seen: there it is a share of them. */
static double seen_capacity(const struct limiter *limiter, const struct limiter_census *census, bool is_stalled,
                            double over)
{
    double whole = census->running - census->streaming;
    double pending = is_stalled ? 0 : census->pending;
    if (census->pending_base_ns > limiter->prefill_ns) {
        pending *= (double)limiter->prefill_ns / (double)census->pending_base_ns;
    }
    double least = whole > 0 ? 0 : limiter->options.endpoints;
    return census->streaming + fmax(pending, least) + whole * fmax(WHOLE_CUT_MIN, 1 - 0.25 * over);
}

static void grow(struct limiter *limiter, nanos now, double room)
{
    struct excess_state *state = state_of(limiter);
    double period_s = (double)limiter->period_ns / (double)limiter_scaled(limiter, NANOS_PER_S);
    double limit = state->count;
    if (!state->had_cut) {
        limit += limit * period_s * 2 * room;
    } else {
        /* W(t) = C (t − K)³ + height, which is `low` at t = 0 and flat at K (RFC 9438 §4.2). */
        double t = (double)(now - state->epoch_ns) / (double)limiter_scaled(limiter, NANOS_PER_S);
        double drop = state->height - state->low;
        drop = drop < 1 ? 1 : drop;
        double x = (t - CUBIC_S) / CUBIC_S;
        double target = state->height + drop * x * x * x;
        double step = clamp(target - limit, 0, fmax(0.5, 0.02 * limit));
        limit += step * room;
    }
    double peak = fmax(state->peak, state->peak_before);
    limit = fmin(limit, fmax(2 * peak, limiter->options.initial));
    state->count = clamp(fmax(limit, state->count), limiter->options.min, limiter->options.max);
}

/* While headroom is held back for upper classes nothing ever reaches the limit, and growing all the same would fill the
 * headroom for good. So the limit is raised for a moment once in a while: if what it lets in gets its first tokens, the
 * next probe follows at once, and is twice as high; if not, the stall cuts it back. */
static void probe(struct limiter *limiter, nanos now)
{
    struct excess_state *state = state_of(limiter);
    nanos last = state->cut_ns > state->probed_ns ? state->cut_ns : state->probed_ns;
    if (state->probe_end_ns != 0 || (state->probe_step == 0 && now - last < limiter_scaled(limiter, PROBE_EVERY_NS))) {
        return;
    }
    state->probe_step = state->probe_step > 0 ? 2 * state->probe_step : fmax(2, PROBE_SHARE * state->count);
    state->probe_from = state->count;
    state->probe_end_ns = now + limiter_scaled(limiter, PROBE_NS);
    state->count = fmin(state->count + state->probe_step, limiter->options.max);
}

/* The time of a probe is over, and no stall has cut it back. */
static void end_probe(struct limiter *limiter, nanos now, bool was_filled)
{
    struct excess_state *state = state_of(limiter);
    if (state->probe_end_ns != 0 && now >= state->probe_end_ns) {
        state->count = was_filled ? state->count : fmin(state->count, state->probe_from);
        state->probe_step = was_filled ? state->probe_step : 0;
        state->probe_end_ns = 0;
        state->probed_ns = now;
    }
}

static void adapt_prefill(struct limiter *limiter, const struct limiter_census *census, double excess_ns)
{
    const struct excess_state *state = state_of(limiter);
    double least = (double)state->d_ns / 2;
    double most = (double)limiter->options.slo_first_ns / 2 * limiter->options.endpoints;
    double now_ns = (double)limiter->prefill_ns;
    if (excess_ns > (double)state->d_ns) {
        now_ns *= 0.9;
    } else if (census->blocked_by_prefill && excess_ns < (double)state->d_ns / 2) {
        now_ns *= 1.03;
    }
    limiter->prefill_ns = (nanos)clamp(now_ns, least, fmax(most, least));
}

/* Notes what ran and what was held when a stall began. What a backend runs out of is what is alike at all its stalls.
 */
static void note_stall(struct excess_state *state, const struct limiter_census *census)
{
    double held = (double)census->kv_tokens;
    double running = census->running;
    double weight = state->stalls < STALLS_KNOWN ? 1.0 / (state->stalls + 1) : 1.0 / STALLS_KNOWN;
    if (state->stalls > 0) {
        double held_off = fabs(held - state->held_mean) / (state->held_mean + 1);
        double running_off = fabs(running - state->running_mean) / (state->running_mean + 1);
        state->held_spread += (held_off - state->held_spread) * weight;
        state->running_spread += (running_off - state->running_spread) * weight;
    }
    state->held_mean += (held - state->held_mean) * weight;
    state->running_mean += (running - state->running_mean) * weight;
    state->stalls++;
}

static void adapt_kv(struct limiter *limiter, nanos now, const struct limiter_census *census, bool is_stalled,
                     double excess_ns)
{
    struct excess_state *state = state_of(limiter);
    if (limiter->options.kv_tokens_max > 0) {
        return;
    }
    if (now - state->kv_began_ns >= limiter_scaled(limiter, MINUTE_NS)) {
        state->kv_before = state->kv_seen;
        state->kv_seen = 0;
        state->kv_began_ns = now;
    }
    bool is_short_of_kv = state->stalls >= STALLS_KNOWN && state->held_spread < KV_ALIKE * state->running_spread;
    if (is_stalled) {
        if (now - state->kv_stall_ns > 4 * limiter->period_ns) { /* a new one */
            note_stall(state, census);
        }
        state->kv_seen = fmax(state->kv_seen, (double)census->kv_tokens);
        /* A stall at which nothing is held says nothing; a bound of nothing would never grow again. */
        double held = fmax(state->kv_seen, state->kv_before);
        limiter->kv_tokens = is_short_of_kv && held > 0 ? KV_SHARE * held : INFINITY;
        state->kv_stall_ns = now;
    } else if (census->blocked_by_kv && excess_ns < (double)state->d_ns / 2) {
        double since_s = (double)(now - state->kv_stall_ns) / (double)limiter_scaled(limiter, NANOS_PER_S);
        double rate = is_short_of_kv ? KV_SLOW : KV_FAST;
        limiter->kv_tokens *= 1 + fmin(0.05, rate * since_s * since_s);
    }
}

/* Whole answers: tries half the limit where they take longer than is natural, and judges a trial that is under way.
 * Whether the limit may grow; `median_ns` is the excess of the last moments. */
static bool adapt_whole(struct limiter *limiter, nanos now, bool is_used, double median_ns)
{
    struct excess_state *state = state_of(limiter);
    double log_took;
    double excess;
    state->natural_ns *= NATURAL_DECAY;
    double most = state->natural_ns + fmax((double)state->d_ns, NATURAL_MARGIN * state->natural_ns);
    double times = state->is_on_trial ? TRIAL_TIMES : SETTLE_TIMES;
    if (!is_used || !usual_time(state, &log_took, &excess) || (double)(now - state->cut_ns) < times * exp(log_took)) {
        return !state->is_on_trial && median_ns <= most;
    }
    if (state->is_on_trial) {
        state->is_on_trial = false;
        if (log_took > state->trial_log_took + log(TRIAL_HELPED)) {
            state->natural_ns = fmax(excess, state->trial_excess_ns);
            state->count = fmax(state->count, state->trial_count);
            state->cut_ns = now; /* the next is judged by what is granted from now on */
            state->sample_count = 0;
        }
        return false;
    }
    if (excess <= most) {
        return true;
    }
    state->is_on_trial = true;
    state->trial_log_took = log_took;
    state->trial_excess_ns = excess;
    state->trial_count = state->count;
    cut_to(limiter, now, state->count * TRIAL_CUT, LIMITER_CAUSE_EXCESS);
    return false;
}

static void remember_peak(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = state_of(limiter);
    if (now - state->peak_began_ns >= limiter_scaled(limiter, MINUTE_NS)) {
        state->peak_before = state->peak;
        state->peak = 0;
        state->peak_began_ns = now;
    }
    state->peak = fmax(state->peak, census->in_flight);
}

/* ---- decode ---- */

/* Mean time between tokens of a stream over the window that has just ended; 0: it has not, or there were too few. */
static double token_time(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = state_of(limiter);
    if (now - state->token_last_ns > 2 * limiter->period_ns) { /* nothing was in flight */
        state->token_began_ns = now;
        state->token_sum = census->tokens_emitted;
        state->stream_time = 0;
    } else {
        state->stream_time += (double)state->token_streams * (double)(now - state->token_last_ns);
    }
    state->token_streams = census->streaming;
    state->token_last_ns = now;
    if (now - state->token_began_ns < limiter_scaled(limiter, TOKEN_WINDOW_NS)) {
        return 0;
    }
    double tokens = (double)(census->tokens_emitted - state->token_sum);
    double time = tokens >= 16 ? state->stream_time / tokens : 0;
    state->token_sum = census->tokens_emitted;
    state->token_began_ns = now;
    state->stream_time = 0;
    return time;
}

/* From here on it is seen whether cutting helps. */
static void begin_guard(struct excess_state *state, double in_flight, double time)
{
    state->guard_count = in_flight;
    state->guard_time_ns = time;
    state->judged_windows = 0;
    state->judged_ns = 0;
}

/* Looks, with far fewer in flight than when it began, whether cutting has helped; until that is known nothing more is
 * cut. Where the time is nearly what it was it comes from prefill, or from the backend itself: the limit is given back,
 * and for a while the guard lets it be. */
static bool is_judging(struct limiter *limiter, nanos now, double in_flight, double time)
{
    struct excess_state *state = state_of(limiter);
    if (in_flight > FUTILE_SHARE * state->guard_count) {
        return false;
    }
    state->judged_ns += time;
    if (++state->judged_windows < FUTILE_WINDOWS) {
        return true;
    }
    double judged = state->judged_ns / state->judged_windows;
    if (judged < FUTILE_TIME * state->guard_time_ns) {
        begin_guard(state, in_flight, judged);
        return false;
    }
    state->token_limit = INFINITY;
    state->count = fmax(state->count, state->guard_count);
    state->guard_until_ns = now + limiter_scaled(limiter, FUTILE_NS);
    return true;
}

static void cut_for_decode(struct limiter *limiter, double time, double target, double in_flight)
{
    struct excess_state *state = state_of(limiter);
    if (state->token_limit == INFINITY) {
        begin_guard(state, in_flight, time);
    } else if (in_flight > GUARD_NEAR * state->guard_count) {
        state->guard_time_ns = fmax(state->guard_time_ns, time); /* the first windows began before it was slow */
    }
    state->token_limit = fmax(in_flight * clamp(2 - time / target, TOKEN_CUT_MIN, 0.98), limiter->options.min);
    limiter->cuts[LIMITER_CAUSE_TOKENS]++;
}

static void guard_decode(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = state_of(limiter);
    double time = token_time(limiter, now, census);
    if (time == 0 || limiter->options.slo_token_ns == 0) {
        return;
    }
    double target = state->token_share * (double)limiter->options.slo_token_ns;
    double in_force = fmin(state->count, state->token_limit);
    /* What a cut does is seen only when it is in force; and one that is not used up is not to blame. */
    bool is_settled = census->in_flight <= in_force + 1 && census->in_flight >= USED_SHARE * in_force;
    double mean = census->stream_tokens > 0 ? (double)census->stream_elapsed_ns / (double)census->stream_tokens : 0;
    if (time > target && mean > target && is_settled && now >= state->guard_until_ns) {
        double in_flight = fmin(in_force, census->in_flight);
        if (state->token_limit == INFINITY || !is_judging(limiter, now, in_flight, time)) {
            cut_for_decode(limiter, time, target, in_flight);
        }
    } else if (time < 0.95 * target && state->token_limit < INFINITY) {
        state->token_limit *= 1 + clamp(target / time - 1, 0, 0.1) * 0.5;
        if (state->token_limit > 2 * fmax(state->count, state->peak)) {
            state->token_limit = INFINITY;
        }
    }
}

/* ---- events ---- */

static void tick(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = state_of(limiter);
    remember_peak(limiter, now, census);
    guard_decode(limiter, now, census);
    double d = (double)state->d_ns;
    double excess = 0;
    double net = 0;
    bool is_known = median_excess(limiter, now, &excess, &net);
    bool is_whole = census->streaming + census->pending == 0;
    bool is_stalled = census->stalled_since_ns != NANOS_NEVER && (double)census->stalled_ns > d;
    if (is_known) {
        limiter->excess_ns = (nanos)excess;
        state->known_ns = now;
    } else if (now - state->known_ns > limiter_scaled(limiter, EXCESS_KEPT_NS)) {
        limiter->excess_ns -= limiter->excess_ns / 16; /* too few come to say, and what was true then is not any more */
    }
    adapt_kv(limiter, now, census, is_stalled, net);
    bool is_blocked = census->blocked_by_count || census->blocked_by_headroom;
    /* As much as headroom lets in of what the probe allows. */
    end_probe(limiter, now, is_blocked && census->in_flight + 2 >= PROBE_FILLED * state->count);
    /* A limit that is not used up is not what let too many in. */
    bool is_used = census->in_flight >= USED_SHARE * state->count;
    bool may_grow = true;
    if (is_whole) {
        may_grow = adapt_whole(limiter, now, is_used && census->in_flight <= state->count + 1, excess);
        net = 0;
    }
    if (is_stalled || (is_known && net > d)) {
        double seen = seen_capacity(limiter, census, is_stalled, (net - d) / d);
        bool is_in_force = census->in_flight <= state->count + 1 || now - state->cut_ns > 40 * limiter->period_ns;
        if (is_used && is_in_force && seen < state->count) {
            seen = fmax(seen, state->count / 2);
            state->is_on_trial = false;
            cut_to(limiter, now, seen, is_stalled ? LIMITER_CAUSE_STALL : LIMITER_CAUSE_EXCESS);
        }
    } else if (is_blocked && may_grow && state->count <= state->token_limit) {
        if (!is_whole && census->is_headroom_held && state->had_cut && state->count >= state->running_mean) {
            probe(limiter, now);
        } else {
            grow(limiter, now, 1 - net / d);
        }
    } else if (census->waiting > 0 && !is_blocked) {
        /* Another bound holds: the limit follows what is used, so that it is near when it is needed. */
        double used = USED_MARGIN * census->in_flight + 1;
        state->count = fmin(state->count, fmax(used, 0.99 * state->count));
    }
    if (is_known || is_stalled) {
        adapt_prefill(limiter, census, is_stalled ? fmax(excess, d + 1) : excess);
    }
    limiter->limit = clamp(fmin(state->count, state->token_limit), limiter->options.min, limiter->options.max);
}

static void on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census)
{
    struct excess_state *state = state_of(limiter);
    (void)now;
    (void)census;
    nanos slo = limiter->options.slo_token_ns;
    if (slo == 0 || state->token_limit == INFINITY || end->first_token_ns == 0 || end->output_tokens < 2) {
        return;
    }
    /* A quantile by stochastic steps: it stands still when one in TOKEN_MISSES ends above what is wanted. */
    double mean = (double)(end->ended_ns - end->first_token_ns) / (end->output_tokens - 1);
    state->token_share += mean > (double)slo ? -TOKEN_STEP * TOKEN_MISSES : TOKEN_STEP;
    state->token_share = clamp(state->token_share, 0.8, 1.05);
}

static void on_refused(struct limiter *limiter, nanos now, nanos granted_ns, const struct limiter_census *census)
{
    const struct excess_state *state = state_of(limiter);
    if (state->had_cut && granted_ns < state->cut_ns) {
        return;
    }
    /* Where the limit is not used what was refused is no measure of what can be taken. */
    bool is_used = census->in_flight >= USED_SHARE * state->count;
    double was = is_used ? fmin(state->count, census->in_flight + 1.0) : state->count;
    cut_to(limiter, now, was * REFUSED_FACTOR, LIMITER_CAUSE_REFUSED);
    limiter->limit = fmin(state->count, state->token_limit);
}

const struct limiter_ops limiter_excess_ops = {
    .name = "excess",
    .init = init,
    .on_first_token = on_first_token,
    .on_end = on_end,
    .on_refused = on_refused,
    .tick = tick,
};
