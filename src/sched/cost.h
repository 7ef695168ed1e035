/* What a request will cost, before it is sent: tokens in, tokens out.
 *
 * Prompt: its bytes ÷ bytes per token, learned per model from `usage` (an exponential mean over the ratio of sums, so
 * that long prompts count for what they are). Output: the smaller of the request's own bound and a quantile of what
 * this tenant's answers took (of all tenants', until it has enough of its own). Both are corrected while the answer
 * streams. Pure; all memory is taken by cost_create. Beyond tenants_max strangers share one record, until a tenant has
 * been silent for ten minutes and gives up its own. Owned by the model's owner core. */
#ifndef SLUICE_SCHED_COST_H
#define SLUICE_SCHED_COST_H

#include "sched/request.h"

struct cost_options {
    double bytes_per_token; /* to begin with: 4.0 */
    double output_quantile; /* 0.75 */
    uint32_t output_tokens; /* expected, to begin with: 256 */
    uint32_t tenants_max;
    uint32_t prefix_blocks_max; /* of the table of prefixes seen; 0: cached tokens are not estimated */
};

struct cost_model;

/* *Gives*; NULL when memory is out. *Keeps* nothing of options. */
struct cost_model *cost_create(const struct cost_options *options);
void cost_destroy(struct cost_model *cost);

/* What is known of a request before it goes. */
struct cost_question {
    uint64_t tenant;
    uint64_t prompt_bytes;  /* of text, in the body: without JSON's own, where that is known */
    uint32_t prompt_tokens; /* known exactly (token ids); 0: not */
    uint32_t output_max;    /* what the request allows; UINT32_MAX: it does not say; 0: none (embeddings) */
    uint32_t choices;       /* n × best_of; ≥ 1 */
    const uint64_t *blocks; /* hashes of the prompt's blocks, each over all before it; NULL: none. *Borrowed* */
    uint32_t block_count;
    uint32_t block_bytes;
};
struct sched_cost cost_estimate(const struct cost_model *cost, const struct cost_question *question);

/* What it took in the end, from `usage`; without that, the tokens that were counted. Not for answers that broke off:
 * their length says nothing. */
struct cost_answer {
    uint32_t prompt_tokens; /* 0: unknown */
    uint32_t cached_tokens; /* prompt_tokens_details.cached_tokens */
    uint32_t output_tokens; /* 0 with a known prompt: none */
    bool has_usage;
};
void cost_learn(struct cost_model *cost, nanos now, const struct cost_question *question,
                const struct cost_answer *answer);

/* The expectation for one that has already emitted so many: never less, and beyond the estimate the estimate grows. */
uint32_t cost_output_expected(uint32_t estimated, uint32_t emitted, uint32_t output_max);

struct cost_figures {
    double bytes_per_token;
    uint64_t answers;
    double prompt_error, output_error; /* mean of |estimate − truth| ÷ truth, exponential */
};
void cost_figures(const struct cost_model *cost, struct cost_figures *ret_figures);

#endif
