#include "api/inference_key.h"

#include <stdlib.h>
#include <yyjson.h>

#include "api/json_buffer.h"
#include "api/json_canonical.h"
#include "base/check.h"

_Static_assert((int)INFERENCE_DEPTH_MAX == (int)JSON_CANONICAL_DEPTH_MAX, "the key's bound is its writer's");

/* What reading a body may take: `[1,1,1]` makes 16 bytes of each two, and what needs more is nobody's request. */
enum { READ_FACTOR = 8, READ_BYTES_MIN = 1 << 20 };

/* More is as good as for ever, and can be reckoned with in milliseconds (RFC 9111 §1.2.2). */
enum { SECONDS_MAX = INT32_MAX };

static const struct family {
    const char *path;
    const char *name;
    bool has_stream;
    bool samples;       /* unless told not to */
    bool echoes;        /* the answer repeats the request's labels */
    bool stores_unless; /* the backend keeps the answer unless told not to */
} families[INFERENCE_FAMILIES] = {
    [INFERENCE_FAMILY_NONE] = {"", "none", false, true, true, true},
    [INFERENCE_CHAT] = {"/v1/chat/completions", "chat.completions", true, true, false, false},
    [INFERENCE_COMPLETIONS] = {"/v1/completions", "completions", true, true, false, false},
    [INFERENCE_RESPONSES] = {"/v1/responses", "responses", true, true, true, true},
    [INFERENCE_EMBEDDINGS] = {"/v1/embeddings", "embeddings", false, false, false, false},
    [INFERENCE_RERANK] = {"/v1/rerank", "rerank", false, false, false, false},
    [INFERENCE_SCORE] = {"/v1/score", "score", false, false, false, false},
};

/* Members of the request that do not shape the answer. */
static const struct omitted {
    const char *name;
    bool even_if_echoed;
    const char *why;
} omitted[] = {
    {"stream", true, "JSON and events are made from one stored answer"},
    {"user", false, "names the end user, for the provider's watch over abuse"},
    {"safety_identifier", false, "the same, hashed"},
    {"metadata", false, "labels for the client's own book-keeping"},
    {"store", false, "what asks to be kept is not stored at all, and to decline it changes nothing"},
    {"priority", false, "when it runs"},
    {"service_tier", false, "how fast it runs"},
    {"prompt_cache_key", false, "where the prefix may be found already computed"},
    {"prompt_cache_retention", false, "how long the prefix is kept computed"},
};

/* A request under way. */
struct reading {
    const struct inference_request *request;
    const struct family *family;
    struct inference_key *key;
    yyjson_val *root;
    yyjson_val *model; /* a string, or NULL */
    size_t model_at;   /* within the key; 0: it names none */
    size_t model_bytes;
    bool omits_model;          /* it stands in front */
    bool omits_stream_options; /* as nothing else is in them */
    bool omits_cache;
};

enum inference_family inference_family_of(struct bytes upstream_path)
{
    for (unsigned i = INFERENCE_FAMILY_NONE + 1; i < INFERENCE_FAMILIES; i++) {
        if (bytes_equal(upstream_path, bytes_from(families[i].path))) {
            return (enum inference_family)i;
        }
    }
    return INFERENCE_FAMILY_NONE;
}

/* ---- reading, within bounds ---- */

struct allowance {
    size_t left;
    bool was_exceeded;
};

static bool allowance_take(struct allowance *allowance, size_t bytes)
{
    if (bytes > allowance->left) {
        allowance->was_exceeded = true;
        return false;
    }
    allowance->left -= bytes;
    return true;
}

static void *allowance_malloc(void *context, size_t bytes)
{
    return allowance_take(context, bytes) ? malloc(bytes) : NULL;
}

static void *allowance_realloc(void *context, void *old, size_t old_bytes, size_t bytes)
{
    struct allowance *allowance = context;
    if (bytes > old_bytes && !allowance_take(allowance, bytes - old_bytes)) {
        return NULL;
    }
    allowance->left += bytes < old_bytes ? old_bytes - bytes : 0;
    return realloc(old, bytes);
}

static void allowance_free(void *context, void *memory)
{
    (void)context;
    free(memory);
}

/* *ret_doc goes with yyjson_doc_free before `allowance` does. */
static enum inference_reason read_body(struct bytes body, struct allowance *allowance, const yyjson_alc *alc,
                                       yyjson_doc **ret_doc)
{
    yyjson_read_err error;
    /* The text is not changed without YYJSON_READ_INSITU, though the parameter is not const. */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)body.ptr, body.len, YYJSON_READ_NUMBER_AS_RAW, alc, &error);
    if (doc == NULL) {
        return allowance->was_exceeded                             ? INFERENCE_TOO_COMPLEX
               : error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION ? INFERENCE_OUT_OF_MEMORY
                                                                   : INFERENCE_NOT_JSON;
    }
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return INFERENCE_NOT_JSON;
    }
    *ret_doc = doc;
    return INFERENCE_OK;
}

/* ---- small questions ---- */

static struct bytes string_of(yyjson_val *value)
{
    return (struct bytes){yyjson_get_str(value), yyjson_get_len(value)};
}

static bool is_said(yyjson_val *value)
{
    return value != NULL && !yyjson_is_null(value);
}

/* Absent, null, or a boolean. Backends also take 1, "true" and "on" for true, each as it likes. */
static bool is_plain_flag(yyjson_val *value)
{
    return !is_said(value) || yyjson_is_bool(value);
}

static struct bytes number_of(yyjson_val *value)
{
    return (struct bytes){yyjson_get_raw(value), yyjson_is_raw(value) ? yyjson_get_len(value) : 0};
}

static bool is_zero(struct bytes number)
{
    bool any = false;
    for (size_t i = 0; i < number.len && (number.ptr[i] | 0x20) != 'e'; i++) {
        if (number.ptr[i] >= '1' && number.ptr[i] <= '9') {
            return false;
        }
        any = true;
    }
    return any;
}

static bool is_integer(struct bytes number)
{
    for (size_t i = 0; i < number.len; i++) {
        if ((number.ptr[i] < '0' || number.ptr[i] > '9') && number.ptr[i] != '-') {
            return false;
        }
    }
    return number.len > 0;
}

/* A whole number of seconds, fractions dropped; -1 when it is none. */
static int64_t seconds_of(yyjson_val *value)
{
    struct bytes raw = number_of(value);
    size_t digits = 0;
    while (digits < raw.len && raw.ptr[digits] >= '0' && raw.ptr[digits] <= '9') {
        digits++;
    }
    uint64_t seconds;
    bool is_plain = digits == raw.len || (raw.ptr[digits] == '.' && memchr(raw.ptr, 'e', raw.len) == NULL &&
                                          memchr(raw.ptr, 'E', raw.len) == NULL);
    if (!is_plain || !bytes_to_u64((struct bytes){raw.ptr, digits}, &seconds)) {
        return -1;
    }
    return seconds < SECONDS_MAX ? (int64_t)seconds : SECONDS_MAX;
}

/* ---- what the request wants ---- */

static enum inference_reason read_stream(struct reading *reading)
{
    yyjson_val *stream = yyjson_obj_get(reading->root, "stream");
    yyjson_val *options = yyjson_obj_get(reading->root, "stream_options");
    yyjson_val *usage = yyjson_obj_get(options, "include_usage");
    reading->key->wants_stream = reading->family->has_stream && yyjson_is_true(stream);
    reading->key->wants_usage = reading->key->wants_stream && yyjson_is_true(usage);
    bool is_empty = yyjson_obj_size(options) == (usage == NULL ? 0 : 1);
    /* Without `stream` most backends refuse the options: such a request must not be answered as if it had none. */
    reading->omits_stream_options =
        !is_said(options) || (yyjson_is_obj(options) && is_empty && reading->key->wants_stream);
    bool is_plain = is_plain_flag(stream) && is_plain_flag(usage) && (!is_said(options) || yyjson_is_obj(options));
    return is_plain ? INFERENCE_OK : INFERENCE_ODD_MEMBER;
}

static void read_cache_member(struct reading *reading)
{
    yyjson_val *cache = yyjson_obj_get(reading->root, "cache");
    struct inference_key *key = reading->key;
    reading->omits_cache = yyjson_is_obj(cache) && !is_said(yyjson_obj_get(cache, "namespace"));
    key->no_cache = yyjson_is_true(yyjson_obj_get(cache, "no-cache"));
    key->no_store = yyjson_is_true(yyjson_obj_get(cache, "no-store"));
    key->ttl_s = seconds_of(yyjson_obj_get(cache, "ttl"));
    key->max_age_s = seconds_of(yyjson_obj_get(cache, "s-maxage"));
}

static bool is_deterministic(const struct reading *reading)
{
    if (!reading->family->samples || is_zero(number_of(yyjson_obj_get(reading->root, "temperature")))) {
        return true;
    }
    /* vLLM and llama.cpp draw a seed when they are given -1, and llama.cpp also for the same in 32 bits. */
    struct bytes seed = number_of(yyjson_obj_get(reading->root, "seed"));
    return is_integer(seed) && !bytes_equal(seed, BYTES("-1")) && !bytes_equal(seed, BYTES("4294967295"));
}

/* Functions are for the client to call; every other tool is the backend's own. */
static bool has_server_tools(yyjson_val *root)
{
    if (is_said(yyjson_obj_get(root, "web_search_options")) || is_said(yyjson_obj_get(root, "data_sources"))) {
        return true;
    }
    yyjson_val *tools = yyjson_obj_get(root, "tools");
    size_t i;
    size_t count;
    yyjson_val *tool;
    yyjson_arr_foreach(tools, i, count, tool)
    {
        struct bytes type = string_of(yyjson_obj_get(tool, "type"));
        if (type.len > 0 && !bytes_equal(type, BYTES("function")) && !bytes_equal(type, BYTES("custom"))) {
            return true;
        }
    }
    return false;
}

/* What forbids both to store and to join. */
static enum inference_reason judge(const struct reading *reading)
{
    yyjson_val *root = reading->root;
    yyjson_val *store = yyjson_obj_get(root, "store");
    yyjson_val *background = yyjson_obj_get(root, "background");
    if (!is_plain_flag(store) || !is_plain_flag(background)) {
        return INFERENCE_ODD_MEMBER;
    }
    if (reading->family->stores_unless ? !yyjson_is_false(store) : yyjson_is_true(store)) {
        return INFERENCE_STORE_REQUESTED;
    }
    bool is_response = reading->key->family == INFERENCE_RESPONSES;
    if (yyjson_is_true(background) || is_said(yyjson_obj_get(root, "previous_response_id")) ||
        is_said(yyjson_obj_get(root, "conversation")) || (is_response && is_said(yyjson_obj_get(root, "prompt")))) {
        return INFERENCE_STATEFUL;
    }
    if (has_server_tools(root)) {
        return INFERENCE_SERVER_TOOLS;
    }
    return reading->key->no_store ? INFERENCE_NO_STORE : INFERENCE_OK;
}

/* ---- the key ---- */

static bool omits_member(const void *context, yyjson_val *outer, yyjson_val *name)
{
    const struct reading *reading = context;
    if (outer != NULL) {
        return (yyjson_equals_str(outer, "stream_options") && reading->key->wants_stream &&
                yyjson_equals_str(name, "include_usage")) ||
               (yyjson_equals_str(outer, "cache") && !yyjson_equals_str(name, "namespace"));
    }
    for (size_t i = 0; i < ARRAY_COUNT(omitted); i++) {
        if (yyjson_equals_str(name, omitted[i].name)) {
            return omitted[i].even_if_echoed || !reading->family->echoes;
        }
    }
    return (reading->omits_model && yyjson_equals_str(name, "model")) ||
           (reading->omits_stream_options && yyjson_equals_str(name, "stream_options")) ||
           (reading->omits_cache && yyjson_equals_str(name, "cache"));
}

/* Everything in front of the canonical JSON. */
static void put_front(struct reading *reading, bool is_shared, struct json_buffer *out)
{
    const struct inference_request *request = reading->request;
    json_buffer_put(out, request->prefix);
    if (is_shared) {
        json_buffer_text(out, "*"); /* no tenant's: those are quoted */
    } else {
        json_buffer_string(out, request->tenant);
    }
    json_buffer_text(out, "\n");
    json_buffer_text(out, reading->family->name);
    json_buffer_text(out, "\n");
    struct bytes model = request->model.ptr != NULL ? request->model : string_of(reading->model);
    size_t start = out->len + 1;
    if (model.ptr != NULL) {
        json_buffer_string(out, model);
        reading->model_at = start;
        reading->model_bytes = out->len - 1 - start;
    } else {
        json_buffer_text(out, "null");
    }
    json_buffer_text(out, "\n");
}

static enum inference_reason make(struct reading *reading, bool is_shared)
{
    const struct inference_request *request = reading->request;
    struct json_buffer out;
    size_t expected = request->body.len + request->prefix.len + request->tenant.len + request->model.len;
    /* Numbers may become longer, `1.5` to `15e-1`; prompts, which make up most of a long body, do not. */
    json_buffer_init(&out, expected + expected / 16 + 128, SIZE_MAX / 4);
    put_front(reading, is_shared, &out);
    enum json_canonical_result result = json_canonical_put(&out, reading->root, omits_member, reading);
    if (result != JSON_CANONICAL_OK) {
        json_buffer_fini(&out);
        return result == JSON_CANONICAL_TOO_DEEP           ? INFERENCE_TOO_DEEP
               : result == JSON_CANONICAL_DUPLICATE_MEMBER ? INFERENCE_DUPLICATE_MEMBER
                                                           : INFERENCE_OUT_OF_MEMORY;
    }
    reading->key->key = (struct bytes){out.data, out.len};
    if (reading->model_at > 0) {
        reading->key->model = (struct bytes){out.data + reading->model_at, reading->model_bytes};
    }
    return INFERENCE_OK;
}

static enum inference_reason read_request(struct reading *reading, const struct inference_key_options *options)
{
    struct inference_key *key = reading->key;
    yyjson_val *model = yyjson_obj_get(reading->root, "model");
    reading->model = yyjson_is_str(model) ? model : NULL;
    reading->omits_model = reading->request->model.ptr != NULL || reading->model != NULL || !is_said(model);
    enum inference_reason reason = read_stream(reading);
    read_cache_member(reading);
    key->is_deterministic = is_deterministic(reading);
    reason = reason == INFERENCE_OK ? judge(reading) : reason;
    if (reason != INFERENCE_OK) {
        return reason;
    }
    bool may_store = key->is_deterministic || options->stores_sampled;
    bool may_join = key->is_deterministic || options->coalesces_sampled;
    if (may_store || may_join) {
        reason = make(reading, options->is_shared);
    }
    key->may_store = may_store && reason == INFERENCE_OK;
    key->may_join = may_join && reason == INFERENCE_OK;
    return reason == INFERENCE_OK && !(may_store && may_join) ? INFERENCE_SAMPLED : reason;
}

void inference_key_make(const struct inference_request *request, const struct inference_key_options *options,
                        struct inference_key *ret_key)
{
    *ret_key = (struct inference_key){.family = inference_family_of(request->path), .ttl_s = -1, .max_age_s = -1};
    if (ret_key->family == INFERENCE_FAMILY_NONE) {
        ret_key->reason = INFERENCE_UNKNOWN_FAMILY;
        return;
    }
    struct allowance allowance = {.left = READ_BYTES_MIN};
    if (request->body.len < (SIZE_MAX - READ_BYTES_MIN) / READ_FACTOR) {
        allowance.left += request->body.len * READ_FACTOR;
    }
    const yyjson_alc alc = {allowance_malloc, allowance_realloc, allowance_free, &allowance};
    yyjson_doc *doc;
    ret_key->reason = read_body(request->body, &allowance, &alc, &doc);
    if (ret_key->reason != INFERENCE_OK) {
        return;
    }
    struct reading reading = {
        .request = request,
        .family = &families[ret_key->family],
        .key = ret_key,
        .root = yyjson_doc_get_root(doc),
    };
    ret_key->reason = read_request(&reading, options);
    yyjson_doc_free(doc);
}

void inference_key_fini(struct inference_key *key)
{
    free((char *)(uintptr_t)key->key.ptr);
    key->key = BYTES_NONE;
    key->model = BYTES_NONE;
}
