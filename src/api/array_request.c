#include <mbedtls/sha256.h>
#include <stdlib.h>

#include "api/array.h"
#include "api/json_buffer.h"
#include "api/json_canonical.h"
#include "api/json_walk.h"
#include "base/check.h"

#define NOTHING \
    {           \
        "", 0   \
    }
#define TEXT(text)                \
    {                             \
        "" text, sizeof(text) - 1 \
    }

static const struct {
    struct bytes path;
    struct array_shape shape;
} shapes[] = {
    {TEXT("/v1/embeddings"),
     {.items = TEXT("input"), .results = TEXT("data"), .index = TEXT("index"), .takes_ids = true}},
    {TEXT("/v1/completions"),
     {.items = TEXT("prompt"),
      .results = TEXT("choices"),
      .index = TEXT("index"),
      .takes_ids = true,
      .is_completion = true}},
    {TEXT("/v1/rerank"),
     {.items = TEXT("documents"),
      .results = TEXT("results"),
      .index = TEXT("index"),
      .score = TEXT("relevance_score"),
      .takes_objects = true}},
    {TEXT("/v1/score"), {.items = TEXT("text_2"), .results = TEXT("data"), .index = TEXT("index"), .is_score = true}},
};

enum kind { KIND_TEXT, KIND_IDS, KIND_OBJECT, KIND_ANY };

/* A request under way. */
struct reading {
    const struct array_shape *shape;
    const struct array_terms *terms;
    struct array_request *request;
    yyjson_val *root;
    yyjson_val *value; /* of the items' member */
    enum kind kind;
    bool is_single; /* the value is one item, not an array of items */
};

const struct array_shape *array_shape_of(struct bytes upstream_path)
{
    for (size_t i = 0; i < ARRAY_COUNT(shapes); i++) {
        if (bytes_equal(upstream_path, shapes[i].path)) {
            return &shapes[i].shape;
        }
    }
    return NULL;
}

const char *array_reason_name(enum array_reason reason)
{
    static const char *const names[] = {
        [ARRAY_OK] = "ok",
        [ARRAY_NOT_JSON] = "not_json",
        [ARRAY_NO_ITEMS] = "no_items",
        [ARRAY_MIXED_ITEMS] = "mixed_items",
        [ARRAY_STREAM] = "stream",
        [ARRAY_MANY_CHOICES] = "many_choices",
        [ARRAY_PAIRS] = "pairs",
        [ARRAY_ODD_MEMBER] = "odd_member",
        [ARRAY_OUT_OF_MEMORY] = "out_of_memory",
    };
    return names[reason];
}

/* ---- what keeps it apart ---- */

static bool is_said(yyjson_val *value)
{
    return value != NULL && !yyjson_is_null(value);
}

static struct bytes number_of(yyjson_val *value)
{
    return (struct bytes){yyjson_get_raw(value), yyjson_is_raw(value) ? yyjson_get_len(value) : 0};
}

/* Absent, null, or the number 1. */
static bool is_one(yyjson_val *value)
{
    return !is_said(value) || bytes_equal(number_of(value), BYTES("1"));
}

static bool is_no(yyjson_val *value)
{
    return !is_said(value) || yyjson_is_false(value);
}

static enum array_reason judge(const struct reading *reading)
{
    yyjson_val *root = reading->root;
    if (!is_no(yyjson_obj_get(root, "stream"))) {
        return ARRAY_STREAM;
    }
    if (reading->shape->is_completion &&
        (!is_one(yyjson_obj_get(root, "n")) || !is_one(yyjson_obj_get(root, "best_of")) ||
         !is_no(yyjson_obj_get(root, "echo")))) {
        return ARRAY_MANY_CHOICES;
    }
    if (reading->shape->is_score && !yyjson_is_str(yyjson_obj_get(root, "text_1"))) {
        return ARRAY_PAIRS;
    }
    return ARRAY_OK;
}

static enum array_reason read_top(struct reading *reading)
{
    yyjson_val *top = reading->shape->score.len > 0 ? yyjson_obj_get(reading->root, "top_n") : NULL;
    uint64_t count;
    reading->request->top = ARRAY_TOP_ALL;
    if (!is_said(top)) {
        return ARRAY_OK;
    }
    if (!bytes_to_u64(number_of(top), &count) || count == 0 || count > INT32_MAX) {
        return ARRAY_ODD_MEMBER;
    }
    reading->request->top = (int64_t)count;
    return ARRAY_OK;
}

/* ---- which items there are ---- */

static bool is_ids(yyjson_val *value)
{
    size_t i;
    size_t count;
    yyjson_val *id;
    uint64_t number;
    yyjson_arr_foreach(value, i, count, id)
    {
        if (!bytes_to_u64(number_of(id), &number)) {
            return false;
        }
    }
    return yyjson_arr_size(value) > 0;
}

static bool item_is(const struct reading *reading, yyjson_val *item)
{
    switch (reading->kind) {
    case KIND_TEXT: return yyjson_is_str(item);
    case KIND_IDS: return is_ids(item);
    case KIND_OBJECT: return yyjson_is_obj(item);
    case KIND_ANY: return true;
    }
    return false;
}

static enum array_reason read_kind(struct reading *reading)
{
    const struct array_shape *shape = reading->shape;
    yyjson_val *value = reading->value;
    yyjson_val *first = yyjson_arr_get_first(value);
    if (shape->takes_any) {
        reading->kind = KIND_ANY;
        return first != NULL ? ARRAY_OK : ARRAY_NO_ITEMS;
    }
    if (yyjson_is_str(value) || (shape->takes_ids && is_ids(value))) {
        reading->is_single = true;
        reading->kind = yyjson_is_str(value) ? KIND_TEXT : KIND_IDS;
        return ARRAY_OK;
    }
    reading->kind = yyjson_is_obj(first) ? KIND_OBJECT : yyjson_is_arr(first) ? KIND_IDS : KIND_TEXT;
    if (first == NULL || (reading->kind == KIND_OBJECT && !shape->takes_objects) ||
        (reading->kind == KIND_IDS && !shape->takes_ids)) {
        return ARRAY_NO_ITEMS;
    }
    size_t i;
    size_t count;
    yyjson_val *item;
    yyjson_arr_foreach(value, i, count, item)
    {
        if (!item_is(reading, item)) {
            return ARRAY_MIXED_ITEMS;
        }
    }
    return ARRAY_OK;
}

static uint32_t tokens_of(const struct reading *reading, yyjson_val *value, size_t bytes)
{
    double tokens =
        reading->kind == KIND_IDS ? (double)yyjson_arr_size(value) : (double)bytes / reading->terms->bytes_per_token;
    return tokens < 1 ? 1 : tokens > INT32_MAX ? INT32_MAX : (uint32_t)tokens;
}

/* ---- where they stand ---- */

/* A member is dropped with the comma before it, or the one behind it. */
static struct bytes with_comma(struct bytes body, const char *from, const char *end, bool is_first)
{
    if (!is_first) {
        while (*--from != ',') {
        }
        return (struct bytes){from, (size_t)(end - from)};
    }
    while (end < body.ptr + body.len && *end != ',' && *end != '}') {
        end++;
    }
    end += *end == ',';
    return (struct bytes){from, (size_t)(end - from)};
}

static enum array_reason find_members(struct reading *reading)
{
    struct array_request *request = reading->request;
    struct json_walk walk;
    json_walk_init(&walk, request->body);
    bool more = json_walk_open(&walk, '{');
    for (bool is_first = true; more; is_first = false) {
        struct bytes name;
        struct bytes value;
        if (!json_walk_next(&walk, '}', &more) || (more && !json_walk_name(&walk, &name))) {
            return ARRAY_NOT_JSON;
        }
        if (!more) {
            break;
        }
        if (memchr(name.ptr, '\\', name.len) != NULL) {
            return ARRAY_ODD_MEMBER;
        }
        if (!json_walk_value(&walk, &value)) {
            return ARRAY_NOT_JSON;
        }
        if (bytes_equal(name, reading->shape->items)) {
            request->array = value;
        } else if (request->top != ARRAY_TOP_ALL && bytes_equal(name, BYTES("top_n"))) {
            request->dropped = with_comma(request->body, name.ptr - 1, value.ptr + value.len, is_first);
        }
    }
    return request->array.len > 0 ? ARRAY_OK : ARRAY_NO_ITEMS;
}

static enum array_reason find_items(struct reading *reading)
{
    struct array_request *request = reading->request;
    size_t count = reading->is_single ? 1 : yyjson_arr_size(reading->value);
    if (count > INT32_MAX || request->body.len > UINT32_MAX) {
        return ARRAY_NO_ITEMS;
    }
    request->items = calloc(count, sizeof(*request->items));
    if (request->items == NULL) {
        return ARRAY_OUT_OF_MEMORY;
    }
    if (reading->is_single) {
        request->items[0] = (struct array_item){request->array, tokens_of(reading, reading->value, request->array.len)};
        request->item_count = 1;
        return ARRAY_OK;
    }
    struct json_walk walk;
    json_walk_init(&walk, request->array);
    yyjson_arr_iter iter = yyjson_arr_iter_with(reading->value);
    bool more = json_walk_open(&walk, '[');
    while (more && json_walk_next(&walk, ']', &more) && more && request->item_count < count) {
        struct array_item *item = &request->items[request->item_count++];
        if (!json_walk_value(&walk, &item->text)) {
            return ARRAY_NOT_JSON;
        }
        item->tokens = tokens_of(reading, yyjson_arr_iter_next(&iter), item->text.len);
    }
    return !more && request->item_count == count ? ARRAY_OK : ARRAY_NOT_JSON;
}

/* ---- the digest ---- */

static bool omits(const void *context, yyjson_val *outer, yyjson_val *name)
{
    const struct reading *reading = context;
    struct bytes text = {yyjson_get_str(name), yyjson_get_len(name)};
    return outer == NULL && (bytes_equal(text, reading->shape->items) ||
                             (reading->request->top != ARRAY_TOP_ALL && bytes_equal(text, BYTES("top_n"))));
}

/* Lengths first, so that no two texts run into each other. */
static void put_counted(struct json_buffer *out, struct bytes text)
{
    json_buffer_put_u64(out, text.len);
    json_buffer_text(out, ":");
    json_buffer_put(out, text);
}

static enum array_reason make_digest(struct reading *reading)
{
    static const char *const kinds[] = {
        [KIND_TEXT] = "text\n", [KIND_IDS] = "ids\n", [KIND_OBJECT] = "object\n", [KIND_ANY] = "any\n"};
    struct array_request *request = reading->request;
    struct json_buffer out;
    json_buffer_init(&out, 0, SIZE_MAX);
    json_buffer_text(&out, kinds[reading->kind]);
    put_counted(&out, reading->terms->path);
    put_counted(&out, reading->terms->credentials);
    enum json_canonical_result result = json_canonical_put(&out, reading->root, omits, reading);
    enum array_reason reason = result == JSON_CANONICAL_OK          ? ARRAY_OK
                               : result == JSON_CANONICAL_NO_MEMORY ? ARRAY_OUT_OF_MEMORY
                                                                    : ARRAY_ODD_MEMBER;
    /* Not XXH3: whoever finds two requests with one digest has his items sent with another's credentials. */
    if (reason == ARRAY_OK && mbedtls_sha256((const unsigned char *)out.data, out.len, request->digest, 0) != 0) {
        reason = ARRAY_OUT_OF_MEMORY;
    }
    json_buffer_fini(&out);
    memcpy(&request->key, request->digest, sizeof(request->key));
    return reason;
}

static enum array_reason read_all(struct reading *reading)
{
    reading->value = yyjson_obj_getn(reading->root, reading->shape->items.ptr, reading->shape->items.len);
    if (reading->value == NULL) {
        return ARRAY_NO_ITEMS;
    }
    enum array_reason (*const steps[])(struct reading *) = {read_top, read_kind, make_digest, find_members, find_items};
    enum array_reason reason = judge(reading);
    for (size_t i = 0; i < ARRAY_COUNT(steps) && reason == ARRAY_OK; i++) {
        reason = steps[i](reading);
    }
    return reason;
}

enum array_reason array_request_read(const struct array_shape *shape, const struct array_terms *terms,
                                     struct bytes body, struct array_request *ret_request)
{
    yyjson_read_err error;
    /* The text is not changed without YYJSON_READ_INSITU, though the parameter is not const. */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)body.ptr, body.len, YYJSON_READ_NUMBER_AS_RAW, NULL, &error);
    if (doc == NULL) {
        return error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION ? ARRAY_OUT_OF_MEMORY : ARRAY_NOT_JSON;
    }
    struct array_request request = {.shape = shape, .body = body};
    struct reading reading = {.shape = shape, .terms = terms, .request = &request, .root = yyjson_doc_get_root(doc)};
    enum array_reason reason = yyjson_is_obj(reading.root) ? read_all(&reading) : ARRAY_NOT_JSON;
    yyjson_doc_free(doc);
    if (reason != ARRAY_OK) {
        array_request_fini(&request);
        return reason;
    }
    *ret_request = request;
    return ARRAY_OK;
}

void array_request_fini(struct array_request *request)
{
    free(request->items);
    request->items = NULL;
    request->item_count = 0;
}
