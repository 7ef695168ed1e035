/* Memory, all of it taken by cost_create: 700 bytes for each of tenants_max, and 8 for each of prefix_blocks_max. */
#include "sched/cost.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/cost_internal.h"

#define RATIO_MEMORY  256.0 /* answers that count for bytes per token, about */
#define ALL_MEMORY    512.0 /* … for the output of all tenants together */
#define TENANT_MEMORY 128.0 /* … for the output of one */
#define ERROR_MEMORY  64.0
#define FEW           16.0  /* with so many answers of its own, a tenant counts for half of its estimate */
#define RATIO_PRIOR   256.0 /* prompt tokens for which the ratio to begin with stands */
#define RATIO_MIN     0.125 /* bytes per token beyond which `usage` does not speak of this text: images, or nonsense */
#define RATIO_MAX     128.0
#define STALE_NS      (600 * NANOS_PER_S) /* a tenant unheard of for so long gives its place to a new one */

enum { NO_TENANT = UINT32_MAX };

struct tenant_record {
    struct outputs outputs;
    struct list_node recent;
    uint64_t tenant;
    nanos seen_ns;
    uint32_t next; /* in its chain */
    uint32_t output_tokens;
};
_Static_assert(sizeof(struct tenant_record) <= 700, "the head promises so");

struct cost_model {
    struct cost_options options;
    double bytes_sum, tokens_sum; /* the ratio's two sums, forgotten alike */
    double cached_told, cached_guessed;
    bool tells_cached; /* the backend has told of cached tokens at least once */
    uint64_t answers;
    double prompt_error, output_error;
    uint64_t prompt_errors, output_errors;
    struct outputs all;
    struct tenant_record strangers;
    struct prefixes prefixes;
    struct tenant_record *tenants; /* tenants_max */
    uint32_t *chains;              /* chain_mask + 1 */
    uint32_t chain_mask;
    uint32_t tenant_count;
    struct list_node recent; /* tenants, the latest used last */
};

static bool take_memory(struct cost_model *cost)
{
    const struct cost_options *options = &cost->options;
    uint32_t chains = 1;
    while (chains < options->tenants_max && chains < UINT32_C(1) << 31) {
        chains *= 2;
    }
    cost->chain_mask = chains - 1;
    cost->chains = malloc((size_t)chains * sizeof *cost->chains);
    cost->tenants = calloc(options->tenants_max == 0 ? 1 : options->tenants_max, sizeof *cost->tenants);
    if (cost->chains == NULL || cost->tenants == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < chains; i++) {
        cost->chains[i] = NO_TENANT;
    }
    return options->prefix_blocks_max == 0 || prefixes_init(&cost->prefixes, options->prefix_blocks_max);
}

struct cost_model *cost_create(const struct cost_options *options)
{
    struct cost_model *cost = calloc(1, sizeof *cost);
    if (cost == NULL) {
        return NULL;
    }
    cost->options = *options;
    list_init(&cost->recent);
    if (!take_memory(cost)) {
        cost_destroy(cost);
        return NULL;
    }
    cost->tokens_sum = RATIO_PRIOR;
    cost->bytes_sum = RATIO_PRIOR * options->bytes_per_token;
    cost->strangers.output_tokens = options->output_tokens;
    return cost;
}

void cost_destroy(struct cost_model *cost)
{
    if (cost != NULL) {
        prefixes_fini(&cost->prefixes);
        free(cost->chains);
        free(cost->tenants);
        free(cost);
    }
}

static uint32_t *chain_of(const struct cost_model *cost, uint64_t tenant)
{
    return &cost->chains[(tenant ^ tenant >> 32) & cost->chain_mask];
}

static struct tenant_record *find_tenant(const struct cost_model *cost, uint64_t tenant)
{
    uint32_t at = *chain_of(cost, tenant);
    while (at != NO_TENANT && cost->tenants[at].tenant != tenant) {
        at = cost->tenants[at].next;
    }
    return at == NO_TENANT ? NULL : &cost->tenants[at];
}

static void unchain(struct cost_model *cost, struct tenant_record *record)
{
    uint32_t *link = chain_of(cost, record->tenant);
    while (&cost->tenants[*link] != record) {
        link = &cost->tenants[*link].next;
    }
    *link = record->next;
}

/* A record for a tenant that has none: NULL when all are in use by others. */
static struct tenant_record *take_record(struct cost_model *cost, nanos now)
{
    if (cost->tenant_count < cost->options.tenants_max) {
        return &cost->tenants[cost->tenant_count++];
    }
    if (list_is_empty(&cost->recent)) {
        return NULL;
    }
    struct tenant_record *oldest = CONTAINER_OF(cost->recent.next, struct tenant_record, recent);
    if (now < oldest->seen_ns + STALE_NS) {
        return NULL;
    }
    unchain(cost, oldest);
    list_remove(&oldest->recent);
    return oldest;
}

static struct tenant_record *tenant_to_teach(struct cost_model *cost, nanos now, uint64_t tenant)
{
    struct tenant_record *record = tenant == 0 ? &cost->strangers : find_tenant(cost, tenant);
    if (record == NULL) {
        record = take_record(cost, now);
        if (record == NULL) {
            return &cost->strangers;
        }
        uint32_t *chain = chain_of(cost, tenant);
        *record = (struct tenant_record){.tenant = tenant, .next = *chain};
        *chain = (uint32_t)(record - cost->tenants);
        list_init(&record->recent);
    }
    if (record != &cost->strangers) {
        record->seen_ns = now;
        list_remove(&record->recent);
        list_push_back(&cost->recent, &record->recent);
    }
    return record;
}

static double bytes_per_token(const struct cost_model *cost)
{
    return cost->bytes_sum / cost->tokens_sum;
}

static uint32_t to_tokens(double tokens)
{
    return (uint32_t)fmin(fmax(tokens, 0), UINT32_MAX);
}

static uint32_t prompt_of(const struct cost_model *cost, const struct cost_question *question)
{
    if (question->prompt_tokens > 0) {
        return question->prompt_tokens;
    }
    uint32_t tokens = to_tokens(round((double)question->prompt_bytes / bytes_per_token(cost)));
    return tokens == 0 ? 1 : tokens;
}

/* What the known leading blocks make in tokens, whatever the backend has kept of them. */
static double known_tokens(const struct cost_model *cost, const struct cost_question *question, uint32_t prompt_tokens)
{
    if (cost->prefixes.lines == NULL || question->blocks == NULL || question->prompt_bytes == 0) {
        return 0;
    }
    uint32_t run = prefixes_run(&cost->prefixes, question->blocks, question->block_count);
    double share = (double)run * question->block_bytes / (double)question->prompt_bytes;
    return fmin(share, 1) * prompt_tokens;
}

static uint32_t cached_of(const struct cost_model *cost, const struct cost_question *question, uint32_t prompt_tokens)
{
    double known = known_tokens(cost, question, prompt_tokens);
    if (cost->tells_cached && cost->cached_guessed > 0) {
        known *= fmin(cost->cached_told / cost->cached_guessed, 1);
    }
    return to_tokens(fmin(known, prompt_tokens - 1.0)); /* the last token is always computed */
}

static uint32_t output_of(const struct cost_model *cost, const struct cost_question *question)
{
    const struct tenant_record *record = question->tenant == 0 ? NULL : find_tenant(cost, question->tenant);
    uint32_t tokens = record != NULL ? record->output_tokens : cost->strangers.output_tokens;
    tokens = tokens < question->output_max ? tokens : question->output_max;
    uint32_t choices = question->choices == 0 ? 1 : question->choices;
    return to_tokens((double)tokens * choices);
}

struct sched_cost cost_estimate(const struct cost_model *cost, const struct cost_question *question)
{
    uint32_t prompt_tokens = prompt_of(cost, question);
    return (struct sched_cost){
        .prompt_tokens = prompt_tokens,
        .cached_tokens = cached_of(cost, question, prompt_tokens),
        .output_tokens = output_of(cost, question),
    };
}

/* An exponential mean that is a plain one until it has seen enough. */
static void learn_error(double *mean, uint64_t *count, double estimate, double truth)
{
    double error = fabs(estimate - truth) / fmax(truth, 1);
    ++*count;
    *mean += (error - *mean) / fmin((double)*count, ERROR_MEMORY);
}

static void learn_cached(struct cost_model *cost, const struct cost_question *question,
                         const struct cost_answer *answer)
{
    cost->tells_cached = cost->tells_cached || answer->cached_tokens > 0;
    double guessed = known_tokens(cost, question, answer->prompt_tokens);
    if (guessed > 0) {
        double told = answer->cached_tokens < answer->prompt_tokens ? answer->cached_tokens : answer->prompt_tokens;
        double keep = 1 - 1 / RATIO_MEMORY;
        cost->cached_guessed = keep * cost->cached_guessed + guessed;
        cost->cached_told = keep * cost->cached_told + fmin(told, guessed);
    }
}

static void learn_prompt(struct cost_model *cost, const struct cost_question *question,
                         const struct cost_answer *answer)
{
    learn_cached(cost, question, answer);
    if (question->prompt_tokens > 0) {
        return;
    }
    learn_error(&cost->prompt_error, &cost->prompt_errors, prompt_of(cost, question), answer->prompt_tokens);
    double ratio = (double)question->prompt_bytes / answer->prompt_tokens;
    if (ratio >= RATIO_MIN && ratio <= RATIO_MAX) {
        double keep = 1 - 1 / RATIO_MEMORY;
        cost->bytes_sum = keep * cost->bytes_sum + (double)question->prompt_bytes;
        cost->tokens_sum = keep * cost->tokens_sum + answer->prompt_tokens;
    }
}

/* Of these answers and the others', which count for FEW; the value to begin with counts for what these lack. */
static uint32_t blended(const struct cost_model *cost, const struct outputs *outputs)
{
    double others = fmin(outputs_count(&cost->all), FEW);
    return outputs_quantile(outputs, &cost->all, others, cost->options.output_tokens, FEW - others,
                            cost->options.output_quantile);
}

static void learn_output(struct cost_model *cost, nanos now, const struct cost_question *question,
                         const struct cost_answer *answer)
{
    learn_error(&cost->output_error, &cost->output_errors, output_of(cost, question), answer->output_tokens);
    struct tenant_record *record = tenant_to_teach(cost, now, question->tenant);
    uint32_t choices = question->choices == 0 ? 1 : question->choices;
    uint32_t tokens = (uint32_t)(((uint64_t)answer->output_tokens + choices - 1) / choices);
    outputs_add(&cost->all, tokens, ALL_MEMORY);
    outputs_add(&record->outputs, tokens, TENANT_MEMORY);
    record->output_tokens = blended(cost, &record->outputs);
    if (record != &cost->strangers) {
        cost->strangers.output_tokens = blended(cost, &cost->strangers.outputs);
    }
}

void cost_learn(struct cost_model *cost, nanos now, const struct cost_question *question,
                const struct cost_answer *answer)
{
    cost->answers++;
    if (answer->prompt_tokens > 0) {
        learn_prompt(cost, question, answer);
    }
    /* Without usage the emitted tokens were counted, and none of them means that nothing is known. */
    if (question->output_max > 0 && (answer->has_usage || answer->output_tokens > 0)) {
        learn_output(cost, now, question, answer);
    }
    if (cost->prefixes.lines != NULL && question->blocks != NULL) {
        prefixes_teach(&cost->prefixes, question->blocks, question->block_count);
    }
}

uint32_t cost_output_expected(uint32_t estimated, uint32_t emitted, uint32_t output_max)
{
    /* Lengths have long tails: the more there was, the more is still to come. */
    uint32_t grown = emitted <= UINT32_MAX - emitted / 4 ? emitted + emitted / 4 : UINT32_MAX;
    uint32_t expected = grown > estimated ? grown : estimated;
    expected = expected < output_max ? expected : output_max;
    return expected > emitted ? expected : emitted;
}

void cost_figures(const struct cost_model *cost, struct cost_figures *ret_figures)
{
    *ret_figures = (struct cost_figures){
        .bytes_per_token = bytes_per_token(cost),
        .answers = cost->answers,
        .prompt_error = cost->prompt_error,
        .output_error = cost->output_error,
    };
}
