#include <stdlib.h>

#include "api/array_internal.h"

/* The answer's results by run, in the answer's order within each. */
struct dealing {
    const struct array_run *runs;
    unsigned run_count;
    uint32_t item_count; /* of all runs */
    uint32_t *run_of;    /* by item */
    uint32_t *starts;    /* by run, and the end: where its items begin */
    uint32_t *dealt;     /* by run: how many have come */
    bool *is_answered;   /* by item */
    struct array_result **entries;
    uint64_t *positions; /* of the entries, in their requests */
    struct usage_weight *weights;
    uint64_t *shares;
};

static void dealing_fini(struct dealing *dealing)
{
    free(dealing->run_of);
    free(dealing->starts);
    free(dealing->dealt);
    free(dealing->is_answered);
    free(dealing->entries);
    free(dealing->positions);
    free(dealing->weights);
    free(dealing->shares);
}

static bool dealing_init(struct dealing *dealing, const struct array_run *runs, unsigned run_count)
{
    *dealing = (struct dealing){.runs = runs, .run_count = run_count};
    for (unsigned i = 0; i < run_count; i++) {
        dealing->item_count += runs[i].count;
    }
    dealing->run_of = calloc(dealing->item_count, sizeof(*dealing->run_of));
    dealing->starts = calloc((size_t)run_count + 1, sizeof(*dealing->starts));
    dealing->dealt = calloc(run_count, sizeof(*dealing->dealt));
    dealing->is_answered = calloc(dealing->item_count, sizeof(*dealing->is_answered));
    dealing->entries = calloc(dealing->item_count, sizeof(struct array_result *));
    dealing->positions = calloc(dealing->item_count, sizeof(*dealing->positions));
    dealing->weights = calloc(run_count, sizeof(*dealing->weights));
    dealing->shares = calloc((size_t)run_count * USAGE_NUMBERS_MAX, sizeof(*dealing->shares));
    if (dealing->run_of == NULL || dealing->starts == NULL || dealing->dealt == NULL || dealing->is_answered == NULL ||
        dealing->entries == NULL || dealing->positions == NULL || dealing->weights == NULL || dealing->shares == NULL) {
        return false;
    }
    for (unsigned i = 0; i < run_count; i++) {
        dealing->starts[i + 1] = dealing->starts[i] + runs[i].count;
        for (uint32_t k = dealing->starts[i]; k < dealing->starts[i + 1]; k++) {
            dealing->run_of[k] = i;
        }
        dealing->weights[i].prompt = runs[i].tokens;
    }
    return true;
}

static bool deal(struct dealing *dealing, struct array_cut *answer)
{
    if (answer->entry_count < dealing->item_count) {
        answer->error = "it has fewer results than were asked for";
        return false;
    }
    for (uint32_t i = 0; i < answer->entry_count; i++) {
        struct array_result *entry = &answer->entries[i];
        if (entry->position >= dealing->item_count) {
            answer->error = "a result's index is beyond what was asked for";
            return false;
        }
        if (dealing->is_answered[entry->position]) {
            answer->error = "two results have the same index";
            return false;
        }
        dealing->is_answered[entry->position] = true;
        uint32_t run = dealing->run_of[entry->position];
        uint32_t at = dealing->starts[run] + dealing->dealt[run]++;
        dealing->entries[at] = entry;
        dealing->positions[at] = entry->position - dealing->starts[run] + dealing->runs[run].first;
        dealing->weights[run].output += entry->text.len;
    }
    return true;
}

static void free_texts(struct bytes *texts, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        free((char *)(uintptr_t)texts[i].ptr);
        texts[i] = BYTES_NONE;
    }
}

static uint32_t count_wanted(const struct array_run *run)
{
    int64_t top = run->request->top;
    return array_run_is_whole(run) && top != ARRAY_TOP_ALL && top < run->count ? (uint32_t)top : run->count;
}

static enum result write_shares(const struct dealing *dealing, const struct array_cut *answer,
                                struct bytes *ret_answers)
{
    for (unsigned i = 0; i < dealing->run_count; i++) {
        const struct array_rewriting rewriting = {
            .around = answer,
            .entries = dealing->entries + dealing->starts[i],
            .positions = dealing->positions + dealing->starts[i],
            .entry_count = count_wanted(&dealing->runs[i]),
            .values = dealing->shares + i,
            .stride = dealing->run_count,
        };
        if (array_rewrite(&rewriting, &ret_answers[i]) != RESULT_OK) {
            free_texts(ret_answers, i);
            return RESULT_NO_MEMORY;
        }
    }
    return RESULT_OK;
}

enum result array_answer_split(const struct array_run *runs, unsigned run_count, struct bytes answer,
                               struct bytes *ret_answers, const char **ret_error)
{
    struct dealing dealing;
    struct array_cut whole = {.shape = runs[0].request->shape, .text = answer};
    enum result result = RESULT_NO_MEMORY;
    if (!dealing_init(&dealing, runs, run_count)) {
        goto out;
    }
    if (!array_cut_read(&whole, dealing.item_count) || !deal(&dealing, &whole)) {
        result = whole.error == NULL ? RESULT_NO_MEMORY : RESULT_PROTOCOL;
        *ret_error = whole.error;
        goto out;
    }
    if (usage_share(&whole.usage, dealing.weights, run_count, dealing.shares) == RESULT_OK) {
        result = write_shares(&dealing, &whole, ret_answers);
    }
out:
    array_cut_fini(&whole);
    dealing_fini(&dealing);
    return result;
}

/* ---- putting together ---- */

/* Answers to the runs of one request. */
struct joining {
    struct array_cut *parts;
    unsigned part_count;
    struct array_result **entries;
    uint32_t entry_count;
    uint64_t sums[USAGE_NUMBERS_MAX];
};

static void joining_fini(struct joining *joining)
{
    for (unsigned i = 0; joining->parts != NULL && i < joining->part_count; i++) {
        array_cut_fini(&joining->parts[i]);
    }
    free(joining->parts);
    free(joining->entries);
}

/* False: *ret_error says why; NULL: memory is out. */
static bool read_parts(struct joining *joining, const struct array_request *request, const struct bytes *answers,
                       const char **ret_error)
{
    *ret_error = NULL;
    for (unsigned i = 0; i < joining->part_count; i++) {
        struct array_cut *part = &joining->parts[i];
        *part = (struct array_cut){.shape = request->shape, .text = answers[i]};
        if (!array_cut_read(part, request->item_count - joining->entry_count)) {
            *ret_error = part->error;
            return false;
        }
        for (uint32_t k = 0; k < part->entry_count; k++) {
            joining->entries[joining->entry_count++] = &part->entries[k];
        }
        usage_add(&joining->parts[0].usage, joining->sums, &part->usage);
    }
    if (joining->entry_count < request->item_count) {
        *ret_error = "it has fewer results than were asked for";
        return false;
    }
    return true;
}

static int compare_scores(const void *a, const void *b)
{
    const struct array_result *x = *(struct array_result *const *)a;
    const struct array_result *y = *(struct array_result *const *)b;
    return x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                : (x->position > y->position) - (x->position < y->position);
}

static enum result join(struct joining *joining, const struct array_request *request, const struct bytes *answers,
                        struct bytes *ret_answer, const char **ret_error)
{
    joining->parts = calloc(joining->part_count, sizeof(*joining->parts));
    joining->entries = calloc(request->item_count, sizeof(struct array_result *));
    if (joining->parts == NULL || joining->entries == NULL) {
        return RESULT_NO_MEMORY;
    }
    if (!read_parts(joining, request, answers, ret_error)) {
        return *ret_error == NULL ? RESULT_NO_MEMORY : RESULT_PROTOCOL;
    }
    uint32_t wanted = request->item_count;
    if (request->shape->score.len > 0) {
        qsort(joining->entries, joining->entry_count, sizeof(struct array_result *), compare_scores);
        wanted = request->top != ARRAY_TOP_ALL && request->top < wanted ? (uint32_t)request->top : wanted;
    }
    const struct array_rewriting rewriting = {
        .around = &joining->parts[0],
        .entries = joining->entries,
        .entry_count = wanted,
        .values = joining->sums,
        .stride = 1,
    };
    return array_rewrite(&rewriting, ret_answer);
}

enum result array_answer_join(const struct array_request *request, const struct bytes *answers, unsigned answer_count,
                              struct bytes *ret_answer, const char **ret_error)
{
    struct joining joining = {.part_count = answer_count};
    enum result result = join(&joining, request, answers, ret_answer, ret_error);
    joining_fini(&joining);
    return result;
}
