/* The loop goes from event to event: a change of the backend, a step's end, an arrival, a moment the admission asked
 * for, a sample each second. `waiting + sent + ended` is `arrived` at all times, and at the end all have ended. */
#include "run.h"

#include <stdlib.h>

#include "base/check.h"
#include "contender.h"
#include "die.h"
#include "prefix.h"

struct run {
    const struct run_setup *setup;
    struct run_result *result;
    struct backend backend;
    struct admission *admission; /* NULL: none */
    struct admission_options options;
    struct cost_model *cost;
    struct prefix_cache *prefixes; /* NULL: none */
    nanos now;
    size_t arrived;
    size_t ended;
    size_t sample_room;
    struct list_node spared;  /* wait for their turn, in order of arrival */
    struct list_node held;    /* without an admission: beyond the fixed limit, in order of arrival */
    struct list_node transit; /* sent, and not at the backend yet */
    size_t sent;              /* and not ended */
};

static struct run_request *of_sched(struct sched_request *sched)
{
    return CONTAINER_OF(sched, struct run_request, sched);
}

static struct run_request *of_sequence(struct engine_sequence *sequence)
{
    return CONTAINER_OF(sequence, struct run_request, sequence);
}

static const uint64_t *blocks_of(const struct run *run, const struct workload_request *load)
{
    const struct source *source = run->setup->workload->source;
    return load->row->block_count > 0 ? source->blocks + load->row->first_block : NULL;
}

/* How much of the prompt the backend has computed before. */
static uint32_t cached_tokens(struct run *run, const struct workload_request *load)
{
    const uint64_t *blocks = blocks_of(run, load);
    if (run->prefixes == NULL || blocks == NULL) {
        return 0;
    }
    uint32_t found = prefix_cache_use(run->prefixes, blocks, load->row->block_count);
    uint32_t tokens = found * run->setup->workload->source->block_tokens;
    return tokens < load->prompt_tokens ? tokens : load->prompt_tokens - 1;
}

static struct cost_question question_of(const struct run *run, const struct workload_request *load)
{
    return (struct cost_question){
        .tenant = load->tenant,
        .prompt_bytes = load->prompt_bytes,
        .output_max = run->setup->is_output_known ? load->output_tokens : UINT32_MAX,
        .choices = 1,
        .blocks = blocks_of(run, load),
        .block_count = load->row->block_count,
        .block_bytes = run->setup->workload->source->block_tokens * 4,
    };
}

static void send(struct run *run, struct run_request *request)
{
    CHECK(request->fate == RUN_COMING || request->fate == RUN_WAITING);
    request->fate = RUN_SENT;
    run->sent++;
    request->granted_ns = run->now;
    request->was_blocked = request->sched.was_blocked;
    request->predicted_ns = request->sched.predicted_ns;
    request->sequence.prompt_tokens = request->load->prompt_tokens;
    request->sequence.output_tokens = request->load->output_tokens;
    request->sequence.cached_prefix_tokens = cached_tokens(run, request->load);
    list_push_back(&run->transit, &request->node);
}

/* When the first of those in transit is at the backend. */
static nanos next_delivery(const struct run *run)
{
    if (list_is_empty(&run->transit)) {
        return NANOS_NEVER;
    }
    return CONTAINER_OF(run->transit.next, struct run_request, node)->granted_ns + run->setup->transit_ns;
}

static void deliver(struct run *run)
{
    while (next_delivery(run) <= run->now) {
        struct run_request *request = CONTAINER_OF(list_pop_front(&run->transit), struct run_request, node);
        if (engine_submit(&run->backend.engine, run->now, &request->sequence) != RESULT_OK) {
            bench_die("a request of %u and %u tokens does not fit into the backend", request->load->prompt_tokens,
                      request->load->output_tokens);
        }
    }
}

static void end(struct run *run, struct run_request *request, enum run_fate fate)
{
    CHECK(request->fate != RUN_DONE && request->fate != RUN_SHED);
    request->fate = fate;
    run->ended++;
}

/* ---- those that are served although they were shed ---- */

static bool is_to_be_spared(const struct run *run, const struct run_request *request)
{
    uint32_t one_in = run->setup->spare_one_in;
    uint64_t hash = (request->load->number + 1) * 0x9e3779b97f4a7c15u + run->setup->workload->seed;
    hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9u;
    return one_in > 0 && (hash >> 32) % one_in == 0;
}

static bool is_large(const struct run *run, const struct run_request *request)
{
    return sched_uncached_tokens(&request->estimate) > run->options.queue.small_tokens_max;
}

/* Its turn is when one of its class and kind goes, in its own turn, that came after it: it would have gone before. */
static void send_spared_before(struct run *run, const struct run_request *granted)
{
    struct list_node *node = run->spared.next;
    while (node != &run->spared && !granted->sched.is_lane_grant) {
        struct run_request *spared = CONTAINER_OF(node, struct run_request, node);
        node = node->next;
        if (spared->load->at_ns > granted->load->at_ns) {
            return;
        }
        if (spared->load->class == granted->load->class && is_large(run, spared) == is_large(run, granted)) {
            list_remove(&spared->node);
            send(run, spared);
        }
    }
}

static void spare(struct run *run, struct run_request *request)
{
    request->is_spared = true;
    if (request->shed == SCHED_SHED_LATE_DISPATCH && run->now > request->load->at_ns) {
        send(run, request); /* it was its turn */
        return;
    }
    struct list_node *before = run->spared.prev;
    while (before != &run->spared &&
           CONTAINER_OF(before, struct run_request, node)->load->at_ns > request->load->at_ns) {
        before = before->prev;
    }
    list_push_front(before, &request->node);
}

/* ---- what the admission says ---- */

static void on_grant(void *context, struct sched_request *sched)
{
    struct run *run = context;
    if (of_sched(sched)->fate == RUN_SENT) {
        return;
    }
    send_spared_before(run, of_sched(sched));
    send(run, of_sched(sched));
}

static void on_shed(void *context, struct sched_request *sched, enum sched_shed shed, nanos retry_after_ns)
{
    (void)retry_after_ns;
    struct run *run = context;
    struct run_request *request = of_sched(sched);
    CHECK(sched->state == SCHED_OUT);
    request->shed = shed;
    request->predicted_ns = sched->predicted_ns;
    if (is_to_be_spared(run, request)) {
        spare(run, request);
    } else {
        end(run, request, RUN_SHED);
    }
}

static const struct admission_events EVENTS = {.on_grant = on_grant, .on_shed = on_shed};

/* ---- what the backend says ---- */

static void send_held(struct run *run)
{
    double limit = run->setup->contender.fixed;
    while (!list_is_empty(&run->held) && (limit == 0 || (double)run->sent < limit)) {
        send(run, CONTAINER_OF(list_pop_front(&run->held), struct run_request, node));
    }
}

static void on_tokens(struct run *run, struct run_request *request, const struct engine_event *event)
{
    bool is_first = request->first_ns == 0;
    request->last_ns = event->at_ns;
    if (is_first) {
        request->first_ns = event->at_ns;
    }
    if (run->admission == NULL || request->is_spared) {
        return;
    }
    if (is_first) {
        admission_on_first_token(run->admission, event->at_ns, event->at_ns, &request->sched);
    } else {
        admission_on_tokens(run->admission, &request->sched, event->tokens);
    }
}

static void on_finished(struct run *run, struct run_request *request, const struct engine_event *event)
{
    run->sent--;
    end(run, request, RUN_DONE);
    if (run->admission == NULL) {
        send_held(run);
        return;
    }
    if (request->is_spared) {
        return;
    }
    const struct workload_request *load = request->load;
    struct cost_question question = question_of(run, load);
    struct cost_answer answer = {
        .prompt_tokens = load->prompt_tokens,
        .cached_tokens = request->sequence.cached_prefix_tokens,
        .output_tokens = load->output_tokens,
        .has_usage = true,
    };
    cost_learn(run->cost, event->at_ns, &question, &answer);
    struct admission_outcome outcome = {
        .has_usage = true,
        .usage = {load->prompt_tokens, request->sequence.cached_prefix_tokens, load->output_tokens},
    };
    admission_release(run->admission, event->at_ns, &request->sched, &outcome);
}

static void on_engine_event(struct engine *engine, const struct engine_event *event, void *context)
{
    (void)engine;
    struct run *run = context;
    struct run_request *request = of_sequence(event->sequence);
    run->now = event->at_ns;
    switch (event->kind) {
    case ENGINE_TOKENS: on_tokens(run, request, event); break;
    case ENGINE_FINISHED: on_finished(run, request, event); break;
    case ENGINE_PREEMPTED: break;
    }
}

/* ---- arrivals ---- */

static void describe(const struct run *run, struct run_request *request)
{
    const struct workload_request *load = request->load;
    struct cost_question question = question_of(run, load);
    request->estimate = cost_estimate(run->cost, &question);
    request->sched = (struct sched_request){
        .class = load->class,
        .is_streamed = true,
        .tenant = load->tenant,
        .arrived_ns = load->at_ns,
        .deadline_ns = load->at_ns + load->first_token_max_ns - run->setup->contender.margin_ns,
        .body_bytes = load->prompt_bytes,
        .cost = request->estimate,
    };
}

static void arrive(struct run *run)
{
    struct run_request *request = &run->result->requests[run->arrived];
    request->load = &run->setup->workload->requests[run->arrived++];
    list_init(&request->node);
    if (run->admission == NULL) {
        list_push_back(&run->held, &request->node);
        send_held(run);
        return;
    }
    describe(run, request);
    if (admission_submit(run->admission, run->now, &request->sched)) {
        on_grant(run, &request->sched);
    } else if (request->fate == RUN_COMING && !request->is_spared) {
        request->fate = RUN_WAITING;
    }
}

/* ---- the loop ---- */

static void sample(struct run *run)
{
    struct run_result *result = run->result;
    if (result->sample_count == run->sample_room) {
        run->sample_room = run->sample_room * 2 + 1024;
        result->samples = realloc(result->samples, run->sample_room * sizeof *result->samples);
        if (result->samples == NULL) {
            bench_die("no memory for %zu samples", run->sample_room);
        }
    }
    struct engine *engine = &run->backend.engine;
    struct run_sample *at = &result->samples[result->sample_count++];
    *at = (struct run_sample){.in_flight = engine->running_count + engine->waiting_count};
    if (run->admission != NULL) {
        struct admission_figures figures;
        admission_figures(run->admission, run->now, &figures);
        at->limit = figures.limit;
        at->excess_ms = (double)figures.excess_ns / 1e6;
        at->base_ms = (double)figures.base_ns / 1e6;
        at->queued = figures.queue.requests;
    }
}

static nanos earlier(nanos a, nanos b)
{
    return a < b ? a : b;
}

static nanos next_arrival(const struct run *run)
{
    const struct workload *workload = run->setup->workload;
    return run->arrived < workload->count ? workload->requests[run->arrived].at_ns : NANOS_NEVER;
}

/* Spared ones whose turn has not come, because nobody came after them. */
static void send_the_last_spared(struct run *run)
{
    struct list_node *node = list_pop_front(&run->spared);
    if (node == NULL) {
        bench_die("%zu of %zu requests ended, and nothing more happens", run->ended, run->setup->workload->count);
    }
    send(run, CONTAINER_OF(node, struct run_request, node));
}

static void step(struct run *run)
{
    nanos at = earlier(earlier(next_arrival(run), next_delivery(run)), backend_next_ns(&run->backend));
    if (run->admission != NULL) {
        at = earlier(at, admission_next_ns(run->admission));
    }
    if (at == NANOS_NEVER) {
        send_the_last_spared(run);
        return;
    }
    while (run->result->sample_count * NANOS_PER_S <= at) {
        sample(run);
    }
    /* A moment in the past means: now. */
    run->now = at > run->now ? at : run->now;
    backend_advance(&run->backend, run->now);
    if (run->admission != NULL && admission_next_ns(run->admission) <= run->now) {
        admission_advance(run->admission, run->now);
    }
    while (next_arrival(run) <= run->now) {
        arrive(run);
    }
    deliver(run);
}

static void begin(struct run *run)
{
    const struct run_setup *setup = run->setup;
    list_init(&run->spared);
    list_init(&run->held);
    list_init(&run->transit);
    backend_init(&run->backend, setup->backend, on_engine_event, run);
    if (setup->prefix_blocks_max > 0) {
        run->prefixes = prefix_cache_create(setup->prefix_blocks_max);
    }
    if (!setup->contender.is_none) {
        run->options = contender_admission(setup);
        struct cost_options cost_options = contender_cost(setup);
        run->admission = admission_create(&run->options, &EVENTS, run, 0);
        run->cost = cost_create(&cost_options);
        if (run->admission == NULL || run->cost == NULL) {
            bench_die("no memory for an admission");
        }
    }
}

static void finish(struct run *run)
{
    run->result->engine = run->backend.engine.counters;
    run->result->ended_ns = run->now;
    if (run->prefixes != NULL) {
        prefix_cache_destroy(run->prefixes);
    }
    if (run->admission != NULL) {
        if (!admission_at_rest(run->admission)) {
            bench_die("all requests have ended, and the admission is not at rest");
        }
        admission_figures(run->admission, run->now, &run->result->figures);
        admission_destroy(run->admission);
        cost_destroy(run->cost);
    }
}

struct run_result *run(const struct run_setup *setup)
{
    struct run_result *result = bench_need(1, sizeof *result);
    result->count = setup->workload->count;
    result->requests = bench_need(result->count, sizeof *result->requests);
    struct run run = {.setup = setup, .result = result};
    begin(&run);
    while (run.ended < result->count) {
        step(&run);
    }
    finish(&run);
    return result;
}

void run_result_destroy(struct run_result *result)
{
    free(result->requests);
    free(result->samples);
    free(result);
}
