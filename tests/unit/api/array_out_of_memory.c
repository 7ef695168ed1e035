/* Arrays once more, over an allocator whose nth call fails: 1, 2, 3 … until all is done. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;
static unsigned blocks_held;

static void *failing_realloc(void *old, size_t bytes)
{
    if (--calls_until_failure == 0) {
        return NULL;
    }
    blocks_held += old == NULL;
    return realloc(old, bytes);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    if (--calls_until_failure == 0) {
        return NULL;
    }
    blocks_held++;
    return calloc(count, bytes);
}

static void counting_free(void *block)
{
    blocks_held -= block != NULL;
    free(block);
}

#define calloc                failing_calloc
#define realloc               failing_realloc
#define free                  counting_free
#define json_buffer_init      nth_array_buffer_init
#define json_buffer_fini      nth_array_buffer_fini
#define json_buffer_room      nth_array_buffer_room
#define json_buffer_put       nth_array_buffer_put
#define json_buffer_put_u64   nth_array_buffer_put_u64
#define json_buffer_string    nth_array_buffer_string
#define json_buffer_escaped   nth_array_buffer_escaped
#define json_canonical_put    nth_array_canonical_put
#define array_shape_of        nth_array_shape_of
#define array_reason_name     nth_array_reason_name
#define array_request_read    nth_array_request_read
#define array_request_fini    nth_array_request_fini
#define array_run_from        nth_array_run_from
#define array_merge           nth_array_merge
#define array_status_is_items nth_array_status_is_items
#define array_bisect          nth_array_bisect
#define array_answer_split    nth_array_answer_split
#define array_answer_join     nth_array_answer_join
#define array_cut_read        nth_array_cut_read
#define array_cut_fini        nth_array_cut_fini
#define array_rewrite         nth_array_rewrite
#define usage_read            nth_array_usage_read
#define usage_share           nth_array_usage_share
#define usage_add             nth_array_usage_add
#define usage_put             nth_array_usage_put
#include "../../../src/api/array_answer.c"
#include "../../../src/api/array_cut.c"
#include "../../../src/api/array_merge.c"
#include "../../../src/api/array_request.c"
#include "../../../src/api/array_usage.c"
#include "../../../src/api/json_buffer.c"
#include "../../../src/api/json_canonical.c"

static const struct array_budget budget = {.items_max = 2, .tokens_max = 100, .bytes_max = 1000};

static bool answer_both(const struct array_run *runs, const struct array_request *request)
{
    const struct bytes upstream =
        BYTES("{\"results\":[{\"index\":2},{\"index\":1},{\"index\":0}],\"usage\":{\"total_tokens\":9}}");
    struct bytes body;
    struct bytes answers[2];
    struct bytes whole = BYTES_NONE;
    const char *error = NULL;
    enum result result = array_merge(runs, 2, &body);
    if (result == RESULT_OK) {
        free((char *)(uintptr_t)body.ptr);
        result = array_answer_split(runs, 2, upstream, answers, &error);
    }
    if (result == RESULT_OK) {
        result = array_answer_join(request, answers, 2, &whole, &error);
        free((char *)(uintptr_t)answers[0].ptr);
        free((char *)(uintptr_t)answers[1].ptr);
    }
    if (result == RESULT_OK) {
        free((char *)(uintptr_t)whole.ptr);
    }
    cr_assert(result == RESULT_OK || result == RESULT_NO_MEMORY);
    cr_assert_null(error);
    return result == RESULT_OK;
}

/* A list of three in two runs. True when nothing failed. */
static bool try(void)
{
    const struct array_terms terms = {.path = BYTES("/v1/rerank"), .bytes_per_token = 4};
    struct array_request request;
    enum array_reason reason = array_request_read(array_shape_of(BYTES("/v1/rerank")), &terms,
                                                  BYTES("{\"documents\":[\"a\",\"b\",\"c\"],\"top_n\":2}"), &request);
    cr_assert(reason == ARRAY_OK || reason == ARRAY_OUT_OF_MEMORY);
    if (reason != ARRAY_OK) {
        return false;
    }
    const struct array_run runs[] = {array_run_from(&request, 0, &budget), array_run_from(&request, 2, &budget)};
    bool is_done = answer_both(runs, &request);
    array_request_fini(&request);
    return is_done;
}

Test(array, gives_nothing_when_memory_is_out_and_leaks_nothing)
{
    unsigned n = 1;
    for (;; n++) {
        calls_until_failure = n;
        bool is_done = try();
        cr_assert_eq(blocks_held, 0, "the %uth", n);
        if (is_done) {
            break;
        }
    }
    cr_assert_gt(n, 15);
}
