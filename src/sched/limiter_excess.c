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
 *    used.
 *
 * 3. KV tokens: what a backend runs out of is what is alike at all its stalls. When that is the tokens held rather than
 *    the number of streams, expected tokens in flight stay just below the most that was held, and probe slowly:
 *    each probe costs preemptions.
 *
 * 4. Decode is guarded by a limit of its own (limiter_excess_decode.c), and 5. whole answers are put on trial
 *    (limiter_excess_whole.c).
 *
 * Refusals (429, 503, reset) cut by 0.7, once per epoch. */
#include "sched/limiter_excess_internal.h"

#include <math.h>
#include <stdlib.h>

enum { SAMPLES_MIN = 4, STALLS_KNOWN = 4 };

#define PERIOD_NS      (250 * NANOS_PER_MS)
#define D_MIN_NS       (150 * NANOS_PER_MS)
#define MINUTE_NS      (60 * NANOS_PER_S)
#define EXCESS_KEPT_NS (10 * NANOS_PER_S)
#define REFUSED_FACTOR 0.7
#define WHOLE_CUT_MIN  0.8 /* where there are streams, too, which say more */

/* Chosen with bench/sched over all its scenarios, 5 to 8 seeds each; beside each is what the others lost. */
#define CUBIC_S        6.0 /* from a cut back to where it was; 12: doubled capacity is found ten seconds later */
#define PROBE_EVERY_NS (90 * NANOS_PER_S) /* each costs class 0 a second without headroom */
#define PROBE_NS       (2 * NANOS_PER_S)
#define PROBE_FILLED   0.9
#define PROBE_SHARE    0.08 /* of the limit: more than is usually held back */
#define USED_MARGIN    1.2  /* how far an unused limit stands above what is used; 1.1: bursts lose 1 % */
/* how much more alike than the streams that ran the tokens held must be; 1: mistaken for slots */
#define KV_ALIKE 0.7
/* of what was held at stalls, once KV memory is known to be what is short; 0.95: preemptions × 1.5 */
#define KV_SHARE 0.93
#define KV_SLOW  2e-7 /* its growth per tick and squared second since the last stall; 1e-6: preemptions × 1.5 */
#define KV_FAST  1e-5 /* the same while it is not known */

static void init(struct limiter *limiter, nanos now)
{
    struct excess_state *state = excess_state_of(limiter);
    const struct limiter_options *options = &limiter->options;
    nanos tenth = options->slo_first_ns / 10;
    nanos least = limiter_scaled(limiter, D_MIN_NS);
    state->d_ns = tenth > least ? tenth : least;
    state->peak_began_ns = now;
    state->probed_ns = now;
    state->kv_began_ns = now;
    excess_decode_init(limiter, now);
    state->count = limiter_clamped(limiter, options->initial);
    limiter->limit = state->count;
    limiter->period_ns = limiter_scaled(limiter, PERIOD_NS);
    limiter->prefill_ns = state->d_ns * options->endpoints;
    limiter->large_max = options->endpoints;
    limiter->kv_tokens = options->kv_tokens_max > 0 ? KV_SHARE * options->kv_tokens_max : INFINITY;
}

/* ---- samples ---- */

static void on_first_token(struct limiter *limiter, nanos now, const struct limiter_sample *sample)
{
    struct excess_state *state = excess_state_of(limiter);
    if (sample->base_ns == 0 || (state->had_cut && sample->granted_ns < state->cut_ns)) {
        return;
    }
    int64_t took = (int64_t)(sample->first_token_ns - sample->granted_ns);
    state->samples[state->sample_next] = (struct excess_sample){
        .at_ns = now,
        .excess_ns = took - (int64_t)sample->base_ns,
        .net_ns = took - (int64_t)(sample->base_ns + sample->ahead_ns),
        .log_took = logf((float)(took > 0 ? took : 1)),
        .met_limit = sample->in_flight + 1 >= EXCESS_USED_SHARE * limiter->limit,
    };
    state->sample_next = (state->sample_next + 1) % EXCESS_SAMPLES;
    state->sample_count += state->sample_count < EXCESS_SAMPLES;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* The median excess of the last samples: at least SAMPLES_MIN, of the last period or as far back as it takes, at most 8
 * periods. False: there are not enough. */
static bool median_excess(struct limiter *limiter, nanos now, double *ret_excess_ns, double *ret_net_ns)
{
    struct excess_state *state = excess_state_of(limiter);
    int64_t recent[EXCESS_SAMPLES];
    int64_t net[EXCESS_SAMPLES];
    unsigned count = 0;
    for (unsigned back = 1; back <= state->sample_count; back++) {
        const struct excess_sample *sample =
            &state->samples[(state->sample_next + EXCESS_SAMPLES - back) % EXCESS_SAMPLES];
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

/* ---- the bounds ---- */

void excess_cut(struct limiter *limiter, nanos now, double limit, enum limiter_cause cause)
{
    struct excess_state *state = excess_state_of(limiter);
    limit = excess_clamp(limit, limiter->options.min, fmax(state->count, limiter->options.min));
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
    struct excess_state *state = excess_state_of(limiter);
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
        double step = excess_clamp(target - limit, 0, fmax(0.5, 0.02 * limit));
        limit += step * room;
    }
    double peak = fmax(state->peak, state->peak_before);
    limit = fmin(limit, fmax(2 * peak, limiter->options.initial));
    state->count = limiter_clamped(limiter, fmax(limit, state->count));
}

/* While headroom is held back for upper classes nothing ever reaches the limit, and growing all the same would fill the
 * headroom for good. So the limit is raised for a moment once in a while: if what it lets in gets its first tokens, the
 * next probe follows at once, and is twice as high; if not, the stall cuts it back. */
static void probe(struct limiter *limiter, nanos now)
{
    struct excess_state *state = excess_state_of(limiter);
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
    struct excess_state *state = excess_state_of(limiter);
    if (state->probe_end_ns != 0 && now >= state->probe_end_ns) {
        state->count = was_filled ? state->count : fmin(state->count, state->probe_from);
        state->probe_step = was_filled ? state->probe_step : 0;
        state->probe_end_ns = 0;
        state->probed_ns = now;
    }
}

static void adapt_prefill(struct limiter *limiter, const struct limiter_census *census, double excess_ns)
{
    const struct excess_state *state = excess_state_of(limiter);
    double least = (double)state->d_ns / 2;
    double most = (double)limiter->options.slo_first_ns / 2 * limiter->options.endpoints;
    double now_ns = (double)limiter->prefill_ns;
    if (excess_ns > (double)state->d_ns) {
        now_ns *= 0.9;
    } else if (census->blocked_by_prefill && excess_ns < (double)state->d_ns / 2) {
        now_ns *= 1.03;
    }
    limiter->prefill_ns = (nanos)excess_clamp(now_ns, least, fmax(most, least));
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
    struct excess_state *state = excess_state_of(limiter);
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

static void remember_peak(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = excess_state_of(limiter);
    if (now - state->peak_began_ns >= limiter_scaled(limiter, MINUTE_NS)) {
        state->peak_before = state->peak;
        state->peak = 0;
        state->peak_began_ns = now;
    }
    state->peak = fmax(state->peak, census->in_flight);
}

/* ---- events ---- */

static void tick(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    struct excess_state *state = excess_state_of(limiter);
    remember_peak(limiter, now, census);
    excess_guard_decode(limiter, now, census);
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
    bool is_used = census->in_flight >= EXCESS_USED_SHARE * state->count;
    bool may_grow = true;
    if (is_whole) {
        may_grow = excess_adapt_whole(limiter, now, is_used && census->in_flight <= state->count + 1, excess);
        net = 0;
    }
    if (is_stalled || (is_known && net > d)) {
        double seen = seen_capacity(limiter, census, is_stalled, (net - d) / d);
        bool is_in_force = census->in_flight <= state->count + 1 || now - state->cut_ns > 40 * limiter->period_ns;
        if (is_used && is_in_force && seen < state->count) {
            seen = fmax(seen, state->count / 2);
            state->whole.is_on_trial = false;
            excess_cut(limiter, now, seen, is_stalled ? LIMITER_CAUSE_STALL : LIMITER_CAUSE_EXCESS);
        }
    } else if (is_blocked && may_grow && state->count <= state->decode.limit) {
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
    limiter->limit = limiter_clamped(limiter, fmin(state->count, state->decode.limit));
}

static void on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census)
{
    (void)now;
    (void)census;
    excess_aim_decode(limiter, end);
}

static void on_refused(struct limiter *limiter, nanos now, nanos granted_ns, const struct limiter_census *census)
{
    const struct excess_state *state = excess_state_of(limiter);
    if (state->had_cut && granted_ns < state->cut_ns) {
        return;
    }
    /* Where the limit is not used what was refused is no measure of what can be taken. */
    bool is_used = census->in_flight >= EXCESS_USED_SHARE * state->count;
    double was = is_used ? fmin(state->count, census->in_flight + 1.0) : state->count;
    excess_cut(limiter, now, was * REFUSED_FACTOR, LIMITER_CAUSE_REFUSED);
    limiter->limit = fmin(state->count, state->decode.limit);
}

const struct limiter_ops limiter_excess_ops = {
    .name = "excess",
    .init = init,
    .on_first_token = on_first_token,
    .on_end = on_end,
    .on_refused = on_refused,
    .tick = tick,
};
