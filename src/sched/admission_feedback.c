/* What becomes of the granted: first tokens, further ones, the end; and what the limiter is told of them. */
#include <math.h>

#include "base/check.h"
#include "sched/admission_internal.h"
#include "sched/cost.h"

enum {
    REFUSALS_AMONG = 32, /* answers */
    /* `bench/sched --scenario all --seeds 5`: with 80 a steady overload has 0.96 of the goodput, and first tokens a p99
     * of 3.3 s where 3.04 come of 95; class 0 fares alike. Without deferring anybody it is 0.88. */
    MARGIN_PERCENT = 95,
    MARGIN_STEPS = 80, /* to the wanted time of a first token */
    WHOLE_WEIGHT = 16, /* of the mean time that whole answers take for a token */
};

#define REFUSALS_SHARE 0.1 /* four in a row, or one in ten for long */

/* ---- the census ---- */

/* All but who stalls. */
static struct limiter_census census_without_stall(const struct admission *admission)
{
    struct limiter_census census = admission->census;
    census.waiting = queue_length(admission->queue);
    census.in_flight += admission->lent_in_use;
    census.stalled_since_ns = NANOS_NEVER;
    census.stalled_ns = 0;
    return census;
}

struct limiter_census admission_census(const struct admission *admission, nanos now)
{
    struct limiter_census census = census_without_stall(admission);
    /* The oldest that should have been served by now. How long a large one takes is known too roughly to tell; but
     * where one stands still, so do the small ones behind it. */
    for (const struct list_node *node = admission->pending.next; node != &admission->pending; node = node->next) {
        const struct sched_request *request = CONTAINER_OF(node, struct sched_request, node);
        bool is_large = admission_is_large(admission, request);
        nanos due = request->granted_ns + request->base_ns + request->ahead_ns;
        if (!is_large && request->base_ns > 0 && due < now) {
            census.stalled_ns = now - due;
            census.stalled_since_ns = request->granted_ns;
            break;
        }
    }
    return census;
}

struct limiter_census admission_tick_census(const struct admission *admission, nanos now)
{
    struct limiter_census census = admission_census(admission, now);
    for (const struct list_node *node = admission->running.next; node != &admission->running; node = node->next) {
        const struct sched_request *request = CONTAINER_OF(node, struct sched_request, node);
        if (request->first_token_ns != 0 && request->emitted_tokens > 1) {
            census.stream_elapsed_ns += now - request->first_token_ns;
            census.stream_tokens += request->emitted_tokens - 1;
        }
    }
    return census;
}

static void stop_pending(struct admission *admission, const struct sched_request *request)
{
    struct limiter_census *census = &admission->census;
    census->pending--;
    admission->unknown_pending -= request->base_ns == 0;
    if (admission_is_large(admission, request)) {
        admission->large_pending--;
        admission->large_base_ns -= request->base_ns;
    } else {
        census->pending_base_ns -= request->base_ns;
    }
}

/* ---- while it runs ---- */

/* Few enough in flight that it met no load. */
static bool met_no_load(const struct admission *admission, const struct sched_request *request)
{
    return request->in_flight_at_grant <= 1 || request->in_flight_at_grant <= admission->limiter.limit / 2;
}

/* Follows the quantile by a step up for each that took longer, and by small ones down for the others. */
static void learn_margin(struct admission *admission, const struct sched_request *request, nanos took, nanos expected)
{
    nanos *margin = &admission->margin_ns[request->is_streamed];
    double up = (double)admission->options.limiter.slo_first_ns / MARGIN_STEPS;
    double step = took > expected + *margin ? up * MARGIN_PERCENT : -up * (100 - MARGIN_PERCENT);
    double moved = (double)*margin + step / 100;
    *margin = moved > 0 ? (nanos)moved : 0;
}

static void sample(struct admission *admission, nanos now, nanos at, const struct sched_request *request, nanos base)
{
    const struct limiter_sample sample = {
        .granted_ns = request->granted_ns,
        .first_token_ns = at,
        .base_ns = base,
        .ahead_ns = request->ahead_ns,
        .prompt_tokens = sched_uncached_tokens(&request->cost),
        .in_flight = request->in_flight_at_grant,
    };
    admission->limiter.ops->on_first_token(&admission->limiter, now, &sample);
}

/* What took so long to its first token, or in all where there are no tokens. */
static void learn_from(struct admission *admission, nanos now, nanos took, const struct sched_request *request)
{
    uint32_t size = sched_uncached_tokens(&request->cost);
    baseline_add(&admission->baseline, now, size, took > 0 ? took : 1, met_no_load(admission, request));
    nanos base = request->base_ns == 0 ? baseline_of(&admission->baseline, size) : request->base_ns;
    sample(admission, now, request->granted_ns + took, request, base);
    if (request->was_blocked && base > 0) {
        learn_margin(admission, request, took, base);
    }
}

/* Of a running one: what is expected of it grows once there is more than was expected. */
static void emit(struct admission *admission, struct sched_request *request, uint32_t tokens)
{
    struct limiter_census *census = &admission->census;
    uint32_t before = cost_output_expected(request->cost.output_tokens, request->emitted_tokens, UINT32_MAX);
    request->emitted_tokens += tokens;
    uint32_t after = cost_output_expected(request->cost.output_tokens, request->emitted_tokens, UINT32_MAX);
    census->kv_tokens += tokens;
    census->kv_expected += after - before;
    census->tokens_emitted += tokens;
}

void admission_on_first_token(struct admission *admission, nanos now, nanos at, struct sched_request *request)
{
    if (request->state != SCHED_PENDING) {
        return;
    }
    struct limiter_census *census = &admission->census;
    stop_pending(admission, request);
    request->state = SCHED_RUNNING;
    request->first_token_ns = at;
    list_remove(&request->node);
    list_push_back(&admission->running, &request->node);
    census->running++;
    census->streaming++;
    census->kv_tokens += request->cost.prompt_tokens;
    emit(admission, request, 1);
    admission->counters.first_tokens++;
    learn_from(admission, now, at - request->granted_ns, request);
    admission_pump(admission, now);
}

void admission_on_tokens(struct admission *admission, struct sched_request *request, uint32_t tokens)
{
    if (request->state == SCHED_RUNNING) {
        emit(admission, request, tokens);
    }
}

/* ---- the end ---- */

static void leave_flight(struct admission *admission, struct sched_request *request)
{
    struct limiter_census *census = &admission->census;
    uint64_t prompt = request->cost.prompt_tokens;
    census->in_flight--;
    admission->in_flight_of[request->class]--;
    if (admission_is_large(admission, request)) {
        admission->large_in_flight--;
        admission->large_tokens -= prompt + request->cost.output_tokens;
    }
    census->kv_expected -=
        prompt + cost_output_expected(request->cost.output_tokens, request->emitted_tokens, UINT32_MAX);
    if (request->state == SCHED_PENDING) {
        stop_pending(admission, request);
    } else {
        census->running--;
        census->streaming -= request->first_token_ns != 0;
        census->kv_tokens -= prompt + request->emitted_tokens;
    }
    list_remove(&request->node);
    request->state = SCHED_OUT;
}

/* `is_refused`: and not by one of several servers, whose own matter that is. */
static void tell_limiter(struct admission *admission, nanos now, nanos ended, const struct sched_request *request,
                         const struct admission_outcome *outcome, bool is_refused)
{
    struct limiter *limiter = &admission->limiter;
    struct limiter_census census = census_without_stall(admission);
    if (is_refused) {
        limiter->ops->on_refused(limiter, now, request->granted_ns, &census);
    }
    struct limiter_end end = {
        .granted_ns = request->granted_ns,
        .ended_ns = ended,
        .first_token_ns = request->first_token_ns,
        .prompt_tokens = sched_uncached_tokens(&request->cost),
        .output_tokens = outcome->has_usage ? outcome->usage.output_tokens : request->emitted_tokens,
        .in_flight = request->in_flight_at_grant,
        .is_dropped = is_refused || outcome->is_failed,
        .is_canceled = outcome->is_canceled || (outcome->is_refused && !is_refused),
    };
    limiter->ops->on_end(limiter, now, &end, &census);
}

/* A whole answer has no first token: its time, less what its tokens may take, is normalised by what it made. That is
 * less than a first token takes wherever tokens come faster than they have to, so that it has a base of its own; and
 * where there are streams these say more. */
static void learn_from_tokens(struct admission *admission, nanos now, nanos took, uint32_t output,
                              const struct sched_request *request)
{
    nanos decoding = output * admission->options.limiter.slo_token_ns;
    nanos first = took > decoding ? took - decoding : 1;
    uint32_t size = sched_uncached_tokens(&request->cost);
    if (request->was_blocked) {
        learn_margin(admission, request, took, admission_expected_ns(admission, request));
    }
    double each = took > request->base_ns ? (double)(took - request->base_ns) / output : 0;
    double mean = admission->whole_token_ns;
    admission->whole_token_ns = mean == 0 ? each : mean + (each - mean) / WHOLE_WEIGHT;
    baseline_add(&admission->whole_baseline, now, size, first, met_no_load(admission, request));
    if (admission->census.streaming + admission->census.pending == 0) {
        nanos base = baseline_of(&admission->whole_baseline, size);
        sample(admission, now, request->granted_ns + first, request, base);
    }
}

static void learn_from_whole(struct admission *admission, nanos now, nanos ended, const struct sched_request *request,
                             const struct admission_outcome *outcome)
{
    nanos took = ended - request->granted_ns;
    uint32_t output = outcome->has_usage && !admission->options.is_plain ? outcome->usage.output_tokens : 0;
    if (output > 0 && admission->options.limiter.slo_token_ns > 0) {
        learn_from_tokens(admission, now, took, output, request);
    } else if (admission->options.is_plain || outcome->has_usage) {
        learn_from(admission, now, took, request);
    }
}

/* When the backend was through with it. */
static nanos served_at(const struct admission *admission, nanos ended, const struct admission_outcome *outcome)
{
    return admission->options.is_plain && outcome->answered_ns != 0 ? outcome->answered_ns : ended;
}

/* Whether a refusal is about the whole of a backend. Of an ordinary service one page may be out of order, or one
 * request bring down who serves it, while all else goes well: unless it asks for a pause, only many refusals mean that
 * it is given too much. (One client that met a 503 each second brought 1,000 requests a second of others' down to 50.)
 */
static bool concerns_all(struct admission *admission, const struct admission_outcome *outcome, uint32_t count)
{
    if (!admission->options.is_plain || outcome->is_canceled) {
        return outcome->is_refused;
    }
    double *share = &admission->refused_share;
    *share *= pow(1 - 1.0 / REFUSALS_AMONG, count);
    *share += outcome->is_refused ? 1.0 / REFUSALS_AMONG : 0;
    return outcome->is_refused && (outcome->retry_after_ns > 0 || *share > REFUSALS_SHARE);
}

/* `count`: it stands for so many. */
static void settle(struct admission *admission, nanos now, nanos ended, struct sched_request *request,
                   const struct admission_outcome *outcome, uint32_t count)
{
    bool is_told = admission_endpoints_told(admission, now, request, outcome);
    bool is_refused = concerns_all(admission, outcome, count) && !is_told;
    tell_limiter(admission, now, ended, request, outcome, is_refused);
    struct sched_cost really = request->cost;
    really.output_tokens = request->emitted_tokens;
    if (outcome->has_usage) {
        really = outcome->usage;
    }
    queue_settle(admission->queue, request, &really, true);
    if (is_refused && outcome->retry_after_ns > 0) {
        nanos until = now + outcome->retry_after_ns;
        admission->paused_until_ns = until > admission->paused_until_ns ? until : admission->paused_until_ns;
    }
}

static void end_flight(struct admission *admission, nanos now, struct sched_request *request,
                       const struct admission_outcome *outcome)
{
    bool was_whole = request->state == SCHED_RUNNING && request->first_token_ns == 0;
    leave_flight(admission, request);
    admission->counters.released++;
    if (was_whole && !outcome->is_refused && !outcome->is_failed && !outcome->is_canceled) {
        learn_from_whole(admission, now, served_at(admission, now, outcome), request, outcome);
    }
    settle(admission, now, served_at(admission, now, outcome), request, outcome, 1);
    admission_endpoints_release(admission, request);
}

void admission_release(struct admission *admission, nanos now, struct sched_request *request,
                       const struct admission_outcome *outcome)
{
    CHECK(request->state == SCHED_PENDING || request->state == SCHED_RUNNING);
    end_flight(admission, now, request, outcome);
    admission_pump(admission, now);
}

void admission_on_lent_end(struct admission *admission, nanos now, const struct admission_lent *lent,
                           const struct admission_outcome *outcome)
{
    struct sched_request request = {
        .class = lent->class,
        .is_streamed = lent->is_streamed,
        .weight = lent->weight,
        .tenant = lent->tenant,
        .arrived_ns = lent->arrived_ns,
        .deadline_ns = NANOS_NEVER,
        .cost = lent->cost,
        .endpoint = lent->endpoint,
        .granted_ns = lent->granted_ns,
        .first_token_ns = lent->first_token_ns,
        .emitted_tokens = lent->emitted_tokens,
        .in_flight_at_grant = lent->in_flight,
    };
    bool is_good = !outcome->is_refused && !outcome->is_failed && !outcome->is_canceled;
    uint32_t size = sched_uncached_tokens(&request.cost);
    admission->class_seen_ns[request.class] = now;
    admission->counters.submitted += lent->count;
    admission->counters.granted += lent->count;
    admission->counters.granted_at_once += lent->count;
    admission->counters.released += lent->count;
    histogram_add(&admission->waits[request.class], lent->granted_ns - lent->arrived_ns);
    request.base_ns = baseline_of(&admission->baseline, size);
    queue_charge(admission->queue, &request);
    if (request.first_token_ns != 0) {
        admission->counters.first_tokens++;
        learn_from(admission, now, request.first_token_ns - request.granted_ns, &request);
    } else if (is_good && !lent->is_streamed) {
        learn_from_whole(admission, now, served_at(admission, lent->ended_ns, outcome), &request, outcome);
    }
    settle(admission, now, served_at(admission, lent->ended_ns, outcome), &request, outcome, lent->count);
    /* Where there is one there are more, of which nothing is heard before they end. */
    admission_arm_tick(admission, now);
}

void admission_cancel(struct admission *admission, nanos now, struct sched_request *request)
{
    switch (request->state) {
    case SCHED_OUT: return;
    case SCHED_QUEUED:
        queue_remove(admission->queue, request);
        request->state = SCHED_OUT;
        admission->counters.canceled++;
        break;
    case SCHED_PENDING:
    case SCHED_RUNNING:
        admission_release(admission, now, request, &(struct admission_outcome){.is_canceled = true});
        return;
    }
    admission_pump(admission, now);
}

/* ---- figures ---- */

void admission_figures(const struct admission *admission, nanos now, struct admission_figures *ret_figures)
{
    const struct limiter *limiter = &admission->limiter;
    struct sched_request ordinary = {.class = SCHED_CLASS_DEFAULT, .deadline_ns = NANOS_NEVER, .arrived_ns = now};
    *ret_figures = (struct admission_figures){
        .limit = limiter->limit,
        .kv_limit_tokens = limiter->kv_tokens,
        .prefill_limit_ns = limiter->prefill_ns,
        .base_ns = baseline_of(&admission->baseline, 1024),
        .excess_ns = limiter->excess_ns,
        .census = admission_census(admission, now),
        .counters = admission->counters,
        .wait_error = admission->wait_real_ns > 0 ? admission->wait_off_ns / admission->wait_real_ns : 0,
    };
    for (unsigned i = 0; i < LIMITER_CAUSES; i++) {
        ret_figures->cuts[i] = limiter->cuts[i];
    }
    queue_figures(admission->queue, &ret_figures->queue);
    if (ret_figures->queue.requests > 0) {
        ret_figures->predicted_wait_ns = admission_predict_wait(admission, &ordinary);
    }
}

const struct admission_counters *admission_counters(const struct admission *admission)
{
    return &admission->counters;
}

const struct histogram *admission_waits(const struct admission *admission, unsigned class)
{
    return &admission->waits[class];
}

struct queue *admission_queue(const struct admission *admission)
{
    return admission->queue;
}
