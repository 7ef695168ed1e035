/* Any bytes as two requests with arrays and an answer, a NUL between them: what is merged is JSON with the items of
 * both, the answer that a backend would give is taken apart exactly, and any other is refused or taken apart into as
 * many results as were asked for, each client's with the indexes of its own items; in runs of any size.
 *
 * The first byte chooses the API and the size of the runs. */

#include <stdint.h>
#include <stdlib.h>
#include <yyjson.h>

#include "api/array.h"
#include "api/json_buffer.h"
#include "base/check.h"

enum { RUNS_MAX = 64 };

static const struct array_shape any = {.items = {"x", 1}, .results = {"y", 1}, .takes_any = true};

static void release(struct bytes text)
{
    free((char *)(uintptr_t)text.ptr);
}

static struct bytes next_part(struct bytes *rest)
{
    const char *end = rest->len == 0 ? NULL : memchr(rest->ptr, '\0', rest->len);
    struct bytes part = {rest->ptr, end == NULL ? rest->len : (size_t)(end - rest->ptr)};
    size_t used = part.len + (end != NULL);
    *rest = (struct bytes){rest->ptr + used, rest->len - used};
    return part;
}

static unsigned runs_of(const struct array_request *request, uint32_t items_max, struct array_run *runs)
{
    const struct array_budget budget = {.items_max = items_max, .tokens_max = 20, .bytes_max = 200};
    unsigned count = 0;
    for (uint32_t first = 0; first < request->item_count && count < RUNS_MAX; count++) {
        runs[count] = array_run_from(request, first, &budget);
        CHECK(runs[count].count > 0 && runs[count].count <= items_max && runs[count].first == first);
        first += runs[count].count;
    }
    return count;
}

static uint32_t items_of(const struct array_run *runs, unsigned count)
{
    uint32_t items = 0;
    for (unsigned i = 0; i < count; i++) {
        items += runs[i].count;
    }
    return items;
}

static yyjson_val *results_of(yyjson_doc *doc, const struct array_shape *shape)
{
    return yyjson_obj_getn(yyjson_doc_get_root(doc), shape->results.ptr, shape->results.len);
}

static void check_merged(const struct array_run *runs, unsigned count)
{
    struct bytes body;
    if (array_merge(runs, count, &body) != RESULT_OK) {
        return;
    }
    const struct array_shape *shape = runs[0].request->shape;
    yyjson_doc *doc = yyjson_read(body.ptr, body.len, YYJSON_READ_NUMBER_AS_RAW);
    CHECK(doc != NULL);
    yyjson_val *items = yyjson_obj_getn(yyjson_doc_get_root(doc), shape->items.ptr, shape->items.len);
    CHECK(yyjson_arr_size(items) == items_of(runs, count));
    CHECK(shape->score.len == 0 || runs[0].request->top == ARRAY_TOP_ALL ||
          yyjson_obj_get(yyjson_doc_get_root(doc), "top_n") == NULL);
    yyjson_doc_free(doc);
    release(body);
}

/* What a backend would say, results in reverse where they have indexes. */
static struct bytes make_answer(const struct array_shape *shape, uint32_t items, uint32_t tokens)
{
    struct json_buffer out;
    json_buffer_init(&out, 0, SIZE_MAX);
    json_buffer_text(&out, "{\"usage\":{\"prompt_tokens\":");
    json_buffer_put_u64(&out, tokens);
    json_buffer_text(&out, "},\"");
    json_buffer_put(&out, shape->results);
    json_buffer_text(&out, "\":[");
    for (uint32_t i = 0; i < items; i++) {
        json_buffer_text(&out, i > 0 ? ",{\"index\":" : "{\"index\":");
        json_buffer_put_u64(&out, items - 1 - i);
        json_buffer_text(&out, "}");
    }
    json_buffer_text(&out, "]}");
    CHECK(out.result == RESULT_OK);
    return (struct bytes){out.data, out.len};
}

/* Each index of the run once; gives its share of the tokens. */
static uint64_t check_share(const struct array_run *run, struct bytes answer)
{
    yyjson_doc *doc = yyjson_read(answer.ptr, answer.len, 0);
    CHECK(doc != NULL);
    yyjson_val *results = results_of(doc, run->request->shape);
    bool is_cut = run->request->top != ARRAY_TOP_ALL && array_run_is_whole(run);
    CHECK(is_cut ? yyjson_arr_size(results) <= run->count : yyjson_arr_size(results) == run->count);
    size_t i;
    size_t count;
    yyjson_val *result;
    uint64_t last = run->first + run->count;
    yyjson_arr_foreach(results, i, count, result)
    {
        if (run->request->shape->index.len > 0) {
            uint64_t index = yyjson_get_uint(yyjson_obj_get(result, "index"));
            CHECK(index >= run->first && index < last);
            last = index;
        }
    }
    uint64_t tokens = yyjson_get_uint(yyjson_ptr_get(yyjson_doc_get_root(doc), "/usage/prompt_tokens"));
    yyjson_doc_free(doc);
    return tokens;
}

static void check_good_answer(const struct array_run *runs, unsigned count)
{
    enum { TOKENS = 1000003 };
    struct bytes answers[RUNS_MAX * 2];
    struct bytes answer = make_answer(runs[0].request->shape, items_of(runs, count), TOKENS);
    const char *error = "";
    CHECK(array_answer_split(runs, count, answer, answers, &error) == RESULT_OK);
    uint64_t tokens = 0;
    for (unsigned i = 0; i < count; i++) {
        tokens += check_share(&runs[i], answers[i]);
        release(answers[i]);
    }
    CHECK(tokens == TOKENS);
    release(answer);
}

static void check_any_answer(const struct array_run *runs, unsigned count, struct bytes answer)
{
    struct bytes answers[RUNS_MAX * 2];
    const char *error = NULL;
    enum result result = array_answer_split(runs, count, answer, answers, &error);
    CHECK(result == RESULT_OK || (result == RESULT_PROTOCOL && error != NULL));
    for (unsigned i = 0; i < count && result == RESULT_OK; i++) {
        CHECK(answers[i].len <= answer.len + 24 * ((size_t)runs[i].count + 32));
        release(answers[i]);
    }
}

/* The runs of one request, each answered by itself, are the whole again. */
static void check_join(const struct array_run *runs, unsigned count)
{
    const struct array_request *request = runs[0].request;
    struct bytes answers[RUNS_MAX];
    const char *error = "";
    for (unsigned i = 0; i < count; i++) {
        struct bytes answer = make_answer(request->shape, runs[i].count, 7);
        CHECK(array_answer_split(&runs[i], 1, answer, &answers[i], &error) == RESULT_OK);
        release(answer);
    }
    struct bytes whole;
    bool is_whole = items_of(runs, count) == request->item_count;
    enum result result = array_answer_join(request, answers, count, &whole, &error);
    bool was_cut = count == 1 && request->top != ARRAY_TOP_ALL;
    CHECK(result == (is_whole ? RESULT_OK : RESULT_PROTOCOL) || was_cut);
    if (result == RESULT_OK) {
        yyjson_doc *doc = yyjson_read(whole.ptr, whole.len, 0);
        size_t wanted = request->item_count;
        wanted = request->top != ARRAY_TOP_ALL && (uint64_t)request->top < wanted ? (size_t)request->top : wanted;
        CHECK(yyjson_arr_size(results_of(doc, request->shape)) == wanted);
        CHECK(yyjson_get_uint(yyjson_ptr_get(yyjson_doc_get_root(doc), "/usage/prompt_tokens")) == 7 * count);
        yyjson_doc_free(doc);
        release(whole);
    }
    for (unsigned i = 0; i < count; i++) {
        release(answers[i]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const paths[] = {"/v1/embeddings", "/v1/completions", "/v1/rerank", "/v1/score"};
    if (size == 0) {
        return 0;
    }
    struct bytes rest = {(const char *)data + 1, size - 1};
    struct bytes parts[3] = {next_part(&rest), next_part(&rest), rest};
    unsigned api = data[0] % 5;
    uint32_t items_max = 1 + data[0] / 5;
    const struct array_shape *shape = api == 4 ? &any : array_shape_of(bytes_from(paths[api]));
    const struct array_terms terms = {.path = BYTES("/"), .credentials = BYTES("c"), .bytes_per_token = 4};
    struct array_request requests[2];
    struct array_run runs[RUNS_MAX * 2];
    if (array_request_read(shape, &terms, parts[0], &requests[0]) != ARRAY_OK) {
        return 0;
    }
    unsigned count = runs_of(&requests[0], items_max, runs);
    check_join(runs, count);
    check_merged(runs, count);
    check_any_answer(runs, count, parts[2]);
    if (array_request_read(shape, &terms, parts[1], &requests[1]) == ARRAY_OK) {
        count += runs_of(&requests[1], items_max, runs + count);
        check_merged(runs, count);
        check_good_answer(runs, count);
        check_any_answer(runs, count, parts[2]);
        array_request_fini(&requests[1]);
    }
    array_request_fini(&requests[0]);
    return 0;
}
