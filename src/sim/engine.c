/* Walks over `running` call back, and a receiver may take out any sequence: `cursor` moves on when the next one goes,
 * `current` becomes NULL when the one at hand does.
 *
 * The invariants: `running` and `waiting`, one behind the other, are in order of arrival, so the newest running
 * sequence is the last of `running`, and a preempted one goes to the front of `waiting`. kv_tokens is the sum over
 * `running` and never above kv_tokens_max. A sequence alone always fits (engine_submit saw to it), so every step
 * makes progress. */
#include "sim/engine.h"

#include <stddef.h>

#include "base/check.h"

enum { SCALE_ONE = 1000 };

static struct engine_sequence *sequence_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct engine_sequence, node);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

void engine_init(struct engine *engine, const struct engine_options *options, engine_on_event *on_event, void *context)
{
    const struct engine_profile *profile = options->profile;
    CHECK(profile->prefill_tokens_per_s > 0 && profile->prefill_tokens_max > 0);
    CHECK(profile->sequences_max > 0 && profile->context_tokens_max <= profile->kv_tokens_max);
    *engine = (struct engine){
        .profile = profile,
        .time_scale_milli = options->time_scale_milli == 0 ? SCALE_ONE : options->time_scale_milli,
        .prefills_side_by_side = options->prefills_side_by_side,
        .on_event = on_event,
        .context = context,
    };
    list_init(&engine->running);
    list_init(&engine->waiting);
}

nanos engine_step_ns(const struct engine *engine, uint32_t batch, uint32_t prefill_tokens)
{
    const struct engine_profile *profile = engine->profile;
    nanos length = profile->step_base_ns + profile->step_per_sequence_ns * (batch - 1) +
                   prefill_tokens * NANOS_PER_S / profile->prefill_tokens_per_s;
    length = length * SCALE_ONE / engine->time_scale_milli;
    return length > 0 ? length : 1;
}

static void tell(struct engine *engine, enum engine_event_kind kind, struct engine_sequence *sequence, uint32_t tokens,
                 nanos at)
{
    struct engine_event event = {.kind = kind, .tokens = tokens, .at_ns = at, .sequence = sequence};
    engine->on_event(engine, &event, engine->context);
}

/* ---- in and out ---- */

enum result engine_submit(struct engine *engine, nanos now, struct engine_sequence *sequence)
{
    CHECK(sequence->state == ENGINE_SEQUENCE_OUT);
    CHECK(sequence->prompt_tokens > 0);
    uint64_t total = (uint64_t)sequence->prompt_tokens + sequence->output_tokens;
    if (total > engine->profile->context_tokens_max) {
        return RESULT_LIMIT;
    }
    sequence->state = ENGINE_SEQUENCE_WAITING;
    sequence->takes_part = false;
    sequence->started = false;
    sequence->emitted_tokens = 0;
    sequence->prefill_left = 0;
    sequence->kv_tokens = 0;
    sequence->preemptions = 0;
    sequence->arrived_ns = now;
    sequence->first_step_ns = 0;
    list_push_back(&engine->waiting, &sequence->node);
    engine->waiting_count++;
    engine->counters.submitted++;
    return RESULT_OK;
}

/* Takes a running sequence off its list and frees its KV memory. */
static void leave_running(struct engine *engine, struct engine_sequence *sequence)
{
    if (engine->cursor == &sequence->node) {
        engine->cursor = sequence->node.next;
    }
    list_remove(&sequence->node);
    engine->running_count--;
    engine->prefilling_count -= sequence->state == ENGINE_SEQUENCE_PREFILLING;
    engine->kv_tokens -= sequence->kv_tokens;
    sequence->kv_tokens = 0;
    sequence->takes_part = false;
    sequence->state = ENGINE_SEQUENCE_OUT;
}

void engine_cancel(struct engine *engine, struct engine_sequence *sequence)
{
    if (engine->current == sequence) {
        engine->current = NULL;
    }
    switch (sequence->state) {
    case ENGINE_SEQUENCE_OUT: return;
    case ENGINE_SEQUENCE_WAITING:
        list_remove(&sequence->node);
        engine->waiting_count--;
        sequence->state = ENGINE_SEQUENCE_OUT;
        break;
    case ENGINE_SEQUENCE_PREFILLING:
    case ENGINE_SEQUENCE_DECODING: leave_running(engine, sequence); break;
    }
    engine->counters.cancelled++;
}

/* ---- the start of a step ---- */

static void preempt(struct engine *engine, struct engine_sequence *sequence, nanos at)
{
    leave_running(engine, sequence);
    sequence->state = ENGINE_SEQUENCE_WAITING;
    sequence->preemptions++;
    list_push_front(&engine->waiting, &sequence->node);
    engine->waiting_count++;
    engine->counters.preemptions++;
    tell(engine, ENGINE_PREEMPTED, sequence, 0, at);
}

static void take_part(struct engine *engine, struct engine_sequence *sequence)
{
    engine->step_batch += !sequence->takes_part;
    sequence->takes_part = true;
}

/* Gives each decoding sequence room for one more token. True when somebody had to go for it. */
static bool plan_decodes(struct engine *engine, nanos at)
{
    bool preempted = false;
    engine->cursor = engine->running.next;
    while (engine->cursor != &engine->running) {
        struct engine_sequence *sequence = sequence_of(engine->cursor);
        engine->cursor = engine->cursor->next;
        if (sequence->state != ENGINE_SEQUENCE_DECODING) {
            continue;
        }
        engine->current = sequence;
        while (engine->current != NULL && engine->kv_tokens == engine->profile->kv_tokens_max) {
            /* The newest may be this one itself, which then waits like any other. */
            struct engine_sequence *newest = sequence_of(engine->running.prev);
            if (newest == sequence) {
                engine->current = NULL;
            }
            preempt(engine, newest, at);
            preempted = true;
        }
        if (engine->current != NULL) {
            sequence->kv_tokens++;
            engine->kv_tokens++;
            take_part(engine, sequence);
        }
    }
    engine->cursor = NULL;
    engine->current = NULL;
    return preempted;
}

/* Gives `sequence` up to `share` tokens of the budget; what it took. */
static uint32_t prefill(struct engine *engine, struct engine_sequence *sequence, uint32_t share)
{
    uint32_t tokens = min_u32(sequence->prefill_left, share);
    if (tokens > 0) {
        sequence->prefill_left -= tokens;
        engine->step_prefill_tokens += tokens;
        take_part(engine, sequence);
    }
    return tokens;
}

/* Moves the head of the queue to the running ones, if it may run at `at`. */
static struct engine_sequence *admit(struct engine *engine, nanos at)
{
    if (list_is_empty(&engine->waiting) || engine->running_count >= engine->profile->sequences_max) {
        return NULL;
    }
    struct engine_sequence *sequence = sequence_of(engine->waiting.next);
    /* After a preemption what was emitted already is part of what has to be computed. */
    uint32_t context = sequence->prompt_tokens + sequence->emitted_tokens;
    if (sequence->arrived_ns > at || context > engine->profile->kv_tokens_max - engine->kv_tokens) {
        return NULL;
    }
    list_remove(&sequence->node);
    engine->waiting_count--;
    list_push_back(&engine->running, &sequence->node);
    engine->running_count++;
    engine->prefilling_count++;
    engine->kv_tokens += context;
    sequence->kv_tokens = context;
    sequence->prefill_left = context - min_u32(sequence->cached_prefix_tokens, sequence->prompt_tokens - 1);
    sequence->state = ENGINE_SEQUENCE_PREFILLING;
    if (!sequence->started) {
        sequence->started = true;
        sequence->first_step_ns = at;
    }
    return sequence;
}

static uint32_t plan_prefills_in_order(struct engine *engine, bool may_admit, nanos at, uint32_t budget)
{
    /* Those under way are the last of `running`; at most the newest few, since each but the last used up a budget. */
    struct list_node *node = engine->running.prev;
    uint32_t under_way = engine->prefilling_count;
    for (uint32_t seen = 0; seen < under_way; node = node->prev) {
        seen += sequence_of(node)->state == ENGINE_SEQUENCE_PREFILLING;
    }
    for (node = node->next; node != &engine->running && budget > 0; node = node->next) {
        if (sequence_of(node)->state == ENGINE_SEQUENCE_PREFILLING) {
            budget -= prefill(engine, sequence_of(node), budget);
        }
    }
    while (budget > 0 && may_admit) {
        struct engine_sequence *sequence = admit(engine, at);
        if (sequence == NULL) {
            break;
        }
        budget -= prefill(engine, sequence, budget);
    }
    return budget;
}

static uint32_t plan_prefills_side_by_side(struct engine *engine, bool may_admit, nanos at, uint32_t budget)
{
    while (may_admit && engine->prefilling_count < engine->prefills_side_by_side && admit(engine, at) != NULL) {
    }
    /* Even shares, until the budget is gone or nobody can use it: each round ends at least one prompt. Shares are
     * rounded up, so that a budget smaller than the number of prompts is given away too. */
    uint32_t able = engine->prefilling_count;
    while (budget > 0 && able > 0) {
        uint32_t share = (budget + able - 1) / able;
        able = 0;
        for (struct list_node *node = engine->running.next; node != &engine->running && budget > 0; node = node->next) {
            struct engine_sequence *sequence = sequence_of(node);
            if (sequence->state == ENGINE_SEQUENCE_PREFILLING) {
                budget -= prefill(engine, sequence, min_u32(share, budget));
                able += sequence->prefill_left > 0;
            }
        }
    }
    return budget;
}

static void begin_step(struct engine *engine, nanos at)
{
    engine->step_batch = 0;
    engine->step_prefill_tokens = 0;
    bool may_admit = !plan_decodes(engine, at);
    uint32_t budget = engine->profile->prefill_tokens_max;
    if (engine->prefills_side_by_side == 0) {
        plan_prefills_in_order(engine, may_admit, at, budget);
    } else {
        plan_prefills_side_by_side(engine, may_admit, at, budget);
    }
    engine->clock_ns = at;
    if (engine->step_batch == 0) {
        /* Only when a receiver of ENGINE_PREEMPTED took out everyone else; the queue is looked at anew. */
        return;
    }
    engine->in_step = true;
    nanos length = engine_step_ns(engine, engine->step_batch, engine->step_prefill_tokens);
    engine->step_end_ns = at + length;
    engine->counters.steps++;
    engine->counters.batch_sum += engine->step_batch;
    engine->counters.prefill_tokens += engine->step_prefill_tokens;
    engine->counters.busy_ns += length;
}

/* ---- the end of a step ---- */

static void finish(struct engine *engine, struct engine_sequence *sequence, nanos at)
{
    leave_running(engine, sequence);
    engine->counters.finished++;
    tell(engine, ENGINE_FINISHED, sequence, 0, at);
}

static void end_of_step_for(struct engine *engine, struct engine_sequence *sequence, nanos at)
{
    sequence->takes_part = false;
    if (sequence->state == ENGINE_SEQUENCE_PREFILLING) {
        if (sequence->prefill_left > 0) {
            return;
        }
        sequence->state = ENGINE_SEQUENCE_DECODING;
        engine->prefilling_count--;
    }
    if (sequence->output_tokens > 0) {
        sequence->emitted_tokens++;
        engine->counters.output_tokens++;
        engine->current = sequence;
        tell(engine, ENGINE_TOKENS, sequence, 1, at);
        if (engine->current == NULL) {
            return; /* the receiver took it out, and its memory may be gone */
        }
        engine->current = NULL;
    }
    if (sequence->emitted_tokens == sequence->output_tokens) {
        finish(engine, sequence, at);
    }
}

static void end_step(struct engine *engine)
{
    nanos at = engine->step_end_ns;
    engine->in_step = false;
    engine->clock_ns = at;
    engine->cursor = engine->running.next;
    while (engine->cursor != &engine->running) {
        struct engine_sequence *sequence = sequence_of(engine->cursor);
        engine->cursor = engine->cursor->next;
        if (sequence->takes_part) {
            end_of_step_for(engine, sequence, at);
        }
    }
    engine->cursor = NULL;
}

nanos engine_next_event_ns(const struct engine *engine)
{
    if (engine->in_step) {
        return engine->step_end_ns;
    }
    if (engine->running_count > 0) {
        return engine->clock_ns;
    }
    if (list_is_empty(&engine->waiting)) {
        return NANOS_NEVER;
    }
    nanos arrived = sequence_of(engine->waiting.next)->arrived_ns;
    return arrived > engine->clock_ns ? arrived : engine->clock_ns;
}

void engine_advance(struct engine *engine, nanos now)
{
    CHECK(engine->cursor == NULL);
    for (;;) {
        nanos at = engine_next_event_ns(engine);
        if (at > now) {
            return;
        }
        if (engine->in_step) {
            end_step(engine);
        } else {
            begin_step(engine, at);
        }
    }
}
