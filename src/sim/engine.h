/* The service-time model of a continuous-batching inference engine: who gets a token when.
 *
 * Pure: no clock, no I/O, no allocation at all. Time is handed in, sequences sit inside their owner's structs.
 * The simulated server drives it by ring_timer, a discrete-event simulation by its own queue of moments, and both
 * see the same thing.
 *
 * The engine works in steps. A step takes
 *
 *     step_base + step_per_sequence × (batch − 1) + prefill tokens of the step ÷ prefill rate
 *
 * where the batch is the sequences that take part. At the start of a step, in this order:
 *   1. each sequence that is decoding, oldest first, takes room for one more token in the KV memory; when there is
 *      none, the newest running sequence is preempted: its KV is freed, it goes back to the front of the queue, and
 *      what it had computed is computed again when its turn comes (what was emitted stays emitted);
 *   2. the prefill budget of the step goes to prompts that are under way and then, when nothing was preempted, to
 *      new ones in order of arrival, as long as the KV memory has room for the whole of the next one's prompt and
 *      fewer than sequences_max are running. The queue's head blocks those behind it.
 * At the end of the step every sequence that decoded, or whose prompt is complete, gets one token.
 *
 * The prefill budget is its own (decoding takes nothing from it), KV memory is counted in tokens (not in blocks), and a
 * cached prefix costs no prefill but takes KV memory like any other. */
#ifndef SLUICE_SIM_ENGINE_H
#define SLUICE_SIM_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/result.h"

struct engine_profile {
    const char *name;
    nanos step_base_ns;            /* a step with one sequence in it */
    nanos step_per_sequence_ns;    /* for each further one */
    uint32_t prefill_tokens_per_s; /* > 0 */
    uint32_t prefill_tokens_max;   /* of one step: the chunk; > 0 */
    uint32_t sequences_max;        /* running at a time; > 0 */
    uint32_t kv_tokens_max;        /* > 0 */
    uint32_t context_tokens_max;   /* prompt and output of one sequence together; ≤ kv_tokens_max */
};

struct engine_options {
    const struct engine_profile *profile; /* *keeps* */
    uint32_t time_scale_milli;            /* 1,000: as the profile says; 10,000: ten times faster; 0: 1,000 */
    /* 0: the budget of a step goes to prompts in order of arrival, each taking what it can use. N: at most N prompts
     * share it evenly (what one cannot use goes to the others), so that a short prompt passes beside a long one. */
    uint32_t prefills_side_by_side;
};

enum engine_sequence_state {
    ENGINE_SEQUENCE_OUT, /* never submitted, finished, or cancelled: the owner's */
    ENGINE_SEQUENCE_WAITING,
    ENGINE_SEQUENCE_PREFILLING,
    ENGINE_SEQUENCE_DECODING,
};

/* What the owner fills in before the submit, and what the engine says about it after. Must not move while it is in. */
struct engine_sequence {
    uint64_t id;                   /* the owner's; not looked at */
    uint32_t prompt_tokens;        /* > 0 */
    uint32_t output_tokens;        /* 0: only the prompt is computed, as for an embedding */
    uint32_t cached_prefix_tokens; /* of the prompt; at least one token of it is computed all the same */

    /* the engine's: to be read only */
    enum engine_sequence_state state;
    bool takes_part; /* in the step that runs now */
    bool started;    /* first_step_ns is valid */
    uint32_t emitted_tokens;
    uint32_t prefill_left; /* tokens still to be computed before the next token can be emitted */
    uint32_t kv_tokens;    /* memory it holds */
    uint32_t preemptions;
    nanos arrived_ns;
    nanos first_step_ns; /* when it was first admitted: its time in the queue ends here */
    struct list_node node;
};

enum engine_event_kind {
    ENGINE_TOKENS,    /* `tokens` were emitted; sequence->emitted_tokens is the sum so far */
    ENGINE_FINISHED,  /* after its last token; the sequence is the owner's again, and may be submitted anew */
    ENGINE_PREEMPTED, /* it is waiting again */
};

struct engine_event {
    enum engine_event_kind kind;
    uint32_t tokens;
    nanos at_ns; /* the exact moment, which may lie before the `now` of the advance */
    struct engine_sequence *sequence;
};

struct engine;

/* May submit and cancel any sequence, and reads all it likes; must not advance. */
typedef void engine_on_event(struct engine *engine, const struct engine_event *event, void *context);

struct engine_counters {
    uint64_t submitted;
    uint64_t finished;
    uint64_t cancelled;
    uint64_t preemptions;
    uint64_t steps;
    uint64_t batch_sum;      /* of the sequences in each step */
    uint64_t prefill_tokens; /* computed, again after preemptions included */
    uint64_t output_tokens;  /* emitted */
    nanos busy_ns;           /* the length of all steps */
};

struct engine {
    const struct engine_profile *profile;
    uint32_t time_scale_milli;
    uint32_t prefills_side_by_side;
    engine_on_event *on_event;
    void *context;

    struct list_node running;        /* oldest first */
    struct list_node waiting;        /* next first */
    struct list_node *cursor;        /* the next of `running` in a walk that calls back; NULL outside of one */
    struct engine_sequence *current; /* the one that walk is at; NULL once a receiver took it out */
    uint32_t running_count;
    uint32_t prefilling_count; /* of running_count */
    uint32_t waiting_count;
    uint32_t kv_tokens;           /* in use */
    uint32_t step_prefill_tokens; /* of the step that runs now */
    uint32_t step_batch;
    bool in_step;
    nanos clock_ns;    /* the end of the last step */
    nanos step_end_ns; /* when in_step */
    struct engine_counters counters;
};

/* Starts an idle engine. *Keeps* the profile and `context`. Nothing needs to be freed. */
void engine_init(struct engine *engine, const struct engine_options *options, engine_on_event *on_event, void *context);

/* Puts a sequence at the end of the queue; *keeps* it until ENGINE_FINISHED or engine_cancel. It takes part in steps
 * that begin at `now` or later, never in one that began before; `now` does not go back. RESULT_LIMIT, and nothing is
 * kept: it could never run, because its prompt and output are more than context_tokens_max. */
MUST_USE enum result engine_submit(struct engine *engine, nanos now, struct engine_sequence *sequence);

/* Takes a sequence out, wherever it is: its KV memory is free at once, and there is no event for it any more. The
 * step that runs now still takes its time. Does nothing for a sequence that is not in. */
void engine_cancel(struct engine *engine, struct engine_sequence *sequence);

/* The moment of the next event inside the engine, at which engine_advance is to be called; NANOS_NEVER when idle. */
nanos engine_next_event_ns(const struct engine *engine);

/* Lives through everything up to and including `now`, telling of it in order. Being late loses nothing: steps follow
 * each other at their exact moments. Costs O(batch) a step, which is O(1) for each token told of. */
void engine_advance(struct engine *engine, nanos now);

/* What a step takes, scaled: the formula above. */
nanos engine_step_ns(const struct engine *engine, uint32_t batch, uint32_t prefill_tokens);

#endif
