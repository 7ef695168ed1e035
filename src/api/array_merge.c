#include "api/array.h"
#include "api/json_buffer.h"

struct array_run array_run_from(const struct array_request *request, uint32_t first, const struct array_budget *budget)
{
    struct array_run run = {.request = request, .first = first, .bytes = request->body.len - request->array.len + 2};
    for (uint32_t i = first; i < request->item_count && run.count < budget->items_max; i++) {
        const struct array_item *item = &request->items[i];
        uint64_t tokens = run.tokens + item->tokens;
        uint64_t bytes = run.bytes + item->text.len + 1; /* and a comma */
        if (run.count > 0 && (tokens > budget->tokens_max || bytes > budget->bytes_max)) {
            break;
        }
        run.tokens = tokens;
        run.bytes = bytes;
        run.count++;
    }
    return run;
}

static void put_items(struct json_buffer *out, const struct array_run *runs, unsigned run_count)
{
    const char *separator = "[";
    for (unsigned i = 0; i < run_count; i++) {
        for (uint32_t k = 0; k < runs[i].count; k++) {
            json_buffer_text(out, separator);
            json_buffer_put(out, runs[i].request->items[runs[i].first + k].text);
            separator = ",";
        }
    }
    json_buffer_text(out, "]");
}

/* Of the body [from, end), without what is dropped. */
static void put_between(struct json_buffer *out, const struct array_request *request, const char *from, const char *end)
{
    const char *gap = request->dropped.ptr;
    if (request->dropped.len > 0 && gap >= from && gap < end) {
        json_buffer_put(out, (struct bytes){from, (size_t)(gap - from)});
        from = gap + request->dropped.len;
    }
    json_buffer_put(out, (struct bytes){from, (size_t)(end - from)});
}

enum result array_merge(const struct array_run *runs, unsigned run_count, struct bytes *ret_body)
{
    const struct array_request *first = runs[0].request;
    size_t bytes = first->body.len;
    for (unsigned i = 0; i < run_count; i++) {
        if (memcmp(runs[i].request->digest, first->digest, sizeof(first->digest)) != 0) {
            return RESULT_INTERNAL;
        }
        bytes += runs[i].bytes;
    }
    struct json_buffer out;
    json_buffer_init(&out, bytes, SIZE_MAX);
    put_between(&out, first, first->body.ptr, first->array.ptr);
    put_items(&out, runs, run_count);
    put_between(&out, first, first->array.ptr + first->array.len, first->body.ptr + first->body.len);
    if (out.result != RESULT_OK) {
        json_buffer_fini(&out);
        return RESULT_NO_MEMORY;
    }
    *ret_body = (struct bytes){out.data, out.len};
    return RESULT_OK;
}

/* ---- when it was refused ---- */

bool array_status_is_items(unsigned status)
{
    return status == 400 || status == 413 || status == 422;
}

unsigned array_bisect(const struct array_run *runs, unsigned run_count)
{
    uint64_t items = 0;
    for (unsigned i = 0; i < run_count; i++) {
        items += runs[i].count;
    }
    if (run_count < 2) {
        return 0;
    }
    unsigned cut = 1;
    for (uint64_t before = runs[0].count; cut + 1 < run_count && before + runs[cut].count <= items / 2; cut++) {
        before += runs[cut].count;
    }
    return cut;
}
