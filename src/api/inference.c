#include "api/inference.h"

#include <yyjson.h>

#include "base/check.h"

/* The first segments of what lives under /v1 (OpenAI's API, and vLLM's additions that live there too). */
static const char *const families[] = {
    "chat",        "completions", "embeddings",    "models",     "responses", "audio",    "images",
    "moderations", "batches",     "files",         "rerank",     "score",     "messages", "fine_tuning",
    "realtime",    "uploads",     "vector_stores", "assistants", "threads",
};

struct bytes inference_upstream_path(struct arena *arena, struct bytes path)
{
    if (path.len < 2) {
        return path;
    }
    struct bytes segment = {path.ptr + 1, 0};
    while (segment.len < path.len - 1 && segment.ptr[segment.len] != '/') {
        segment.len++;
    }
    for (size_t i = 0; i < ARRAY_COUNT(families); i++) {
        if (bytes_equal(segment, bytes_from(families[i]))) {
            struct bytes longer = arena_format(arena, "/v1%.*s", BYTES_ARG(path));
            return longer.ptr == NULL ? path : longer;
        }
    }
    return path;
}

bool inference_is_model_list(struct bytes upstream_path)
{
    return bytes_equal(upstream_path, BYTES("/v1/models"));
}

static unsigned hex_value(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)((c | 0x20) - 'a') + 10;
}

bool inference_model_in_path(struct arena *arena, struct bytes upstream_path, struct bytes *ret_model)
{
    const struct bytes folder = BYTES("/v1/models/");
    if (upstream_path.len <= folder.len || !bytes_starts_with(upstream_path, folder)) {
        return false;
    }
    char *name = arena_alloc(arena, upstream_path.len);
    if (name == NULL) {
        return false;
    }
    size_t length = 0;
    for (size_t i = folder.len; i < upstream_path.len; i++) {
        char c = upstream_path.ptr[i];
        if (c == '%' && i + 2 < upstream_path.len) { /* well-formed: the path has been normalized */
            c = (char)(hex_value(upstream_path.ptr[i + 1]) << 4 | hex_value(upstream_path.ptr[i + 2]));
            i += 2;
        }
        name[length++] = c;
    }
    *ret_model = (struct bytes){name, length};
    return true;
}

bool inference_model(struct arena *arena, struct bytes body, struct bytes *ret_model)
{
    yyjson_doc *doc = yyjson_read(body.ptr, body.len, 0);
    if (doc == NULL) {
        return false;
    }
    yyjson_val *model = yyjson_obj_get(yyjson_doc_get_root(doc), "model");
    bool found = false;
    if (yyjson_is_str(model)) {
        *ret_model = arena_copy(arena, (struct bytes){yyjson_get_str(model), yyjson_get_len(model)});
        found = ret_model->ptr != NULL;
    }
    yyjson_doc_free(doc);
    return found;
}
