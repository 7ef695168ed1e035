/* Inference requests and the cache: the key comes from the body, what is stored serves streams and whole answers alike.
 *
 *   body complete ─▶ key ─▶ stored? ─▶ as it is, or converted ─▶ answer
 *                              └─ no ─▶ claim, as in exchange_cache.c; the fetch, which has the body, is kept until the
 *                                       answer's head is there */
#include <mbedtls/sha256.h>
#include <stdlib.h>
#include <string.h>

#include "api/filling_inference.h"
#include "api/inference.h"
#include "api/inference_replay.h"
#include "base/check.h"
#include "base/counter.h"
#include "cache/lines.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"

enum { TENANT_BYTES = 32 };

static const char *const credentials[] = {"authorization",  "x-api-key",           "api-key",
                                          "x-goog-api-key", "openai-organization", "openai-project"};

struct exchange_inference {
    struct exchange_cache *cache;
    struct directives_request asks;
    struct bytes prefix;       /* of the key: the route, and the query */
    struct bytes bypassed_why; /* .ptr NULL: it is not */
    bool is_keyed;
    struct inference_key key;
    unsigned char tenant[TENANT_BYTES];
};

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->conn->worker;
}

static void run(struct exchange *exchange);

static void fini(struct exchange *exchange)
{
    struct exchange_inference *inference = exchange->cache->inference;
    if (inference->is_keyed) {
        inference_key_fini(&inference->key);
    }
}

/* Adds all values of a field to the digest, such that no two sets of fields are written alike. */
static bool digest_field(mbedtls_sha256_context *digest, const struct exchange_start *start, const char *name,
                         bool *any)
{
    struct head_values values = head_values(&start->parser->head, start->base, bytes_from(name));
    struct bytes value;
    bool ok = true;
    while (ok && head_next_value(&values, &value)) {
        const uint64_t length = value.len;
        *any = true;
        ok = mbedtls_sha256_update(digest, (const unsigned char *)name, strlen(name) + 1) == 0 &&
             mbedtls_sha256_update(digest, (const unsigned char *)&length, sizeof(length)) == 0 &&
             mbedtls_sha256_update(digest, (const unsigned char *)value.ptr, value.len) == 0;
    }
    return ok;
}

/* The tenant is whose credentials these are: all that backends and SDKs know as such, since which of them the backend
 * heeds is its choice. Cookies count for who has nothing else. Keys are kept on disk, so it is their digest that stands
 * there. */
static bool make_tenant(const struct exchange_start *start, unsigned char out[TENANT_BYTES])
{
    mbedtls_sha256_context digest;
    bool any = false;
    mbedtls_sha256_init(&digest);
    bool ok = mbedtls_sha256_starts(&digest, 0) == 0;
    for (size_t i = 0; ok && i < ARRAY_COUNT(credentials); i++) {
        ok = digest_field(&digest, start, credentials[i], &any);
    }
    ok = ok && (any || digest_field(&digest, start, "cookie", &any));
    ok = ok && mbedtls_sha256_finish(&digest, out) == 0;
    mbedtls_sha256_free(&digest);
    return ok;
}

/* What stands in front of the key: the route, the query, the parts that the route's `key` names; and the Origin,
 * because CORS answers each in its own words, and who has none with nothing. RESULT_LIMIT: the parts are too long. */
static enum result make_prefix(struct exchange *exchange, const struct exchange_start *start,
                               const struct cache_key_source *source, struct bytes *ret_prefix)
{
    const struct config_route *config = exchange->route->config;
    struct bytes origin = http_head_find(source->head, source->base, BYTES("origin"));
    char *parts = config->cache.key_count == 0 ? NULL : arena_alloc(&exchange->arena, CACHED_KEY_BYTES_MAX);
    size_t parts_bytes = 0;
    if (config->cache.key_count > 0 && parts == NULL) {
        return RESULT_NO_MEMORY;
    }
    if (parts != NULL) { /* none of them is of the URL, so only its scheme stands in front */
        enum result result = cache_key_put(&config->cache, source, parts, CACHED_KEY_BYTES_MAX, &parts_bytes);
        if (result != RESULT_OK) {
            return result;
        }
    }
    *ret_prefix = arena_format(&exchange->arena, "inference/%.*s?%.*s\n%.*s%s%.*s\n", BYTES_ARG(config->name),
                               BYTES_ARG(start->target->query), (int)parts_bytes, parts == NULL ? "" : parts,
                               origin.ptr == NULL ? "" : "\norigin=", BYTES_ARG(origin));
    return ret_prefix->ptr == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

static struct bytes why_bypassed(struct exchange *exchange, const struct exchange_start *start,
                                 const struct cache_key_source *source, bool has_tenant)
{
    if (exchange->cache->inference->prefix.ptr == NULL) {
        return BYTES("key-too-long");
    }
    if (http_head_value(&start->parser->head, start->base, HTTP_FIELD_CONTENT_ENCODING).len > 0) {
        return BYTES("content_coding"); /* the body cannot be read */
    }
    if (!has_tenant) {
        return BYTES("out_of_memory");
    }
    return cache_key_is_bypassed(&exchange->route->config->cache, source) ? BYTES("rule") : BYTES_NONE;
}

enum result exchange_inference_prepare(struct exchange *exchange, const struct exchange_start *start)
{
    struct exchange_inference *inference = arena_alloc(&exchange->arena, sizeof(*inference));
    struct exchange_cache *cache = exchange_cache_create(exchange);
    if (inference == NULL || cache == NULL) {
        return RESULT_NO_MEMORY;
    }
    memset(inference, 0, sizeof(*inference));
    inference->cache = cache;
    cache->inference = inference;
    cache->run = run;
    cache->fini = fini;
    const struct http_head *head = &start->parser->head;
    directives_read_request(head, start->base, &inference->asks);
    struct cache_key_source source;
    exchange_cache_source(start, &source);
    bool has_tenant = make_tenant(start, inference->tenant);
    if (make_prefix(exchange, start, &source, &inference->prefix) == RESULT_NO_MEMORY) {
        return RESULT_NO_MEMORY;
    }
    inference->bypassed_why = why_bypassed(exchange, start, &source, has_tenant);
    cache->path = arena_copy(&exchange->arena, inference_upstream_path(&exchange->arena, start->path));
    return cache->path.ptr != NULL ? RESULT_OK : RESULT_NO_MEMORY;
}

static void answer_not_cached(struct exchange *exchange)
{
    exchange_answer_error(exchange, 504, "the cache has no fresh answer, and the request allows no other",
                          "only_if_cached", METRICS_ERROR_UPSTREAM_TIMEOUT);
}

/* Goes to the backend, and is neither stored nor joined. */
static void bypass(struct exchange *exchange, struct bytes detail)
{
    struct exchange_cache *cache = exchange->cache;
    if (cache->inference->asks.only_if_cached) {
        answer_not_cached(exchange);
        return;
    }
    cache->outcome = EXCHANGE_CACHE_BYPASS;
    cache->status = (struct cache_status){.forward = CACHE_STATUS_BYPASS, .detail = detail};
    exchange_start_fetch(exchange);
}

static void make_key(struct exchange *exchange)
{
    struct exchange_inference *inference = exchange->cache->inference;
    const struct config_cache *config = &exchange->route->config->cache;
    const struct fetch_request *request = &exchange->fetch->request;
    const struct inference_request source = {
        .prefix = inference->prefix,
        .tenant = {(const char *)inference->tenant, TENANT_BYTES},
        .path = exchange->cache->path,
        .model = BYTES_NONE,
        .body = {request->body, request->body_bytes},
    };
    const struct inference_key_options options = {
        .is_shared = config->scope == CONFIG_SCOPE_SHARED,
        .stores_sampled = config->sampled,
        .coalesces_sampled = config->coalesce_sampled,
    };
    inference_key_make(&source, &options, &inference->key);
    inference->is_keyed = true;
}

/* ---- answering from what is stored ---- */

/* All of a stored body in one run. *Gives* memory; NULL when it is out. */
static char *gather(const struct cache_object *object)
{
    char *text = malloc(object->body_bytes + 1);
    char *at = text;
    for (const struct chunk *chunk = object->body; chunk != NULL && at != NULL;
         chunk = atomic_load_explicit(&chunk->next, memory_order_relaxed)) {
        at = bytes_put(at, (struct bytes){chunk->data, chunk_used(chunk)});
    }
    return text;
}

/* Answers in the other shape. False: it cannot be made. */
static bool serve_converted(struct exchange *exchange, struct cache_object *object, const struct cache_status *status)
{
    struct exchange_inference *inference = exchange->cache->inference;
    const struct inference_key *key = &inference->key;
    const struct cache_head *head = cache_object_head(object);
    const struct inference_conversion conversion = {(enum inference_form)head->form, key->wants_stream};
    char *stored = gather(object);
    struct bytes converted = BYTES_NONE;
    if (stored == NULL || inference_convert(key->family, conversion.form, key->wants_stream, key->wants_usage,
                                            (struct bytes){stored, object->body_bytes}, &converted) != RESULT_OK) {
        free(stored);
        return false;
    }
    free(stored);
    struct cached_serving serving = {
        .head = head,
        .body_bytes = converted.len,
        .status = head->status,
        .has_body = true,
        .content_type = inference_replay_content_type(key->wants_stream),
        .keep = inference_replay_keeps_line,
        .keep_context = &conversion,
    };
    struct conn_answer answer = exchange_answer_of(exchange);
    exchange->keep_alive = answer.keep_alive;
    enum result result =
        cached_put_head(exchange->conn, &serving, status, ring_unix_ms(worker_of(exchange)->ring), &answer);
    if (result == RESULT_OK) {
        result = outbox_take(exchange->conn->outbox, (char *)(uintptr_t)converted.ptr, converted.len);
    } else {
        free((void *)(uintptr_t)converted.ptr);
    }
    if (result != RESULT_OK) {
        conn_close(exchange->conn, true);
        return true;
    }
    exchange->status = serving.status;
    exchange->head_sent = true;
    exchange->sent_bytes = converted.len;
    exchange->cache->outcome = EXCHANGE_CACHE_COUNTED;
    cached_count_hit(worker_of(exchange), exchange->route, object, false);
    exchange_finish(exchange, true);
    return true;
}

/* Answers from the stored object, if it is fresh enough and can be given the shape that is wanted. */
static bool serve(struct exchange *exchange, struct cache_object *object)
{
    struct exchange_cache *cache = exchange->cache;
    const struct inference_key *key = &cache->inference->key;
    const struct cache_head *head = cache_object_head(object);
    int64_t now_ms = ring_unix_ms(worker_of(exchange)->ring);
    enum freshness_why why;
    enum freshness_use use = freshness_decide(&head->freshness, &cache->inference->asks, now_ms, &why);
    bool is_too_old = key->max_age_s >= 0 && freshness_age_ms(&head->freshness, now_ms) > key->max_age_s * 1000;
    if ((use != FRESHNESS_FRESH && use != FRESHNESS_STALE) || is_too_old) {
        bool by_request = is_too_old || why == FRESHNESS_WHY_REQUEST;
        cache->status.forward = by_request ? CACHE_STATUS_REQUEST : CACHE_STATUS_STALE;
        return false;
    }
    struct cache_status status = {
        .forward = CACHE_STATUS_HIT,
        .has_ttl = true,
        .ttl_ms = freshness_ttl_ms(&head->freshness, now_ms),
    };
    switch (inference_can_serve(key->family, (enum inference_form)head->form, key->wants_stream, key->wants_usage)) {
    case INFERENCE_REPLAY_AS_IS: {
        struct cached_serving serving = {
            .head = head,
            .body_bytes = object->body_bytes,
            .status = head->status,
            .has_body = true,
        };
        return exchange_serve(exchange, object, &serving, &status);
    }
    case INFERENCE_REPLAY_CONVERTED:
        status.detail = BYTES("converted");
        if (serve_converted(exchange, object, &status)) {
            return true;
        }
        break;
    case INFERENCE_REPLAY_IMPOSSIBLE: break;
    }
    cache->status.forward = CACHE_STATUS_MISS;
    cache->status.detail = BYTES("other-shape");
    return false;
}

/* ---- fetching ---- */

/* How long the answer may be kept: what the request says can only shorten what the route does. */
static int64_t ttl_ms_of(const struct exchange *exchange)
{
    const struct inference_key *key = &exchange->cache->inference->key;
    int64_t ttl_ms = exchange->route->filling.ttl_ms;
    return key->ttl_s >= 0 && key->ttl_s * 1000 < ttl_ms ? key->ttl_s * 1000 : ttl_ms;
}

/* Why the answer will not be kept, as far as the request tells; INFERENCE_OK: it will. */
static enum inference_reason why_not_kept(const struct exchange *exchange)
{
    const struct inference_key *key = &exchange->cache->inference->key;
    if (!key->may_store) {
        return key->reason;
    }
    return ttl_ms_of(exchange) <= 0 ? INFERENCE_NO_TTL : INFERENCE_OK;
}

/* Whether requests that differ in this field have different keys. */
static bool is_in_key(const void *context, struct bytes name)
{
    const struct config_cache *config = context;
    for (unsigned i = 0; i < config->key_count; i++) {
        if (config->key[i].kind == CONFIG_PART_HEADER && bytes_equal_nocase(config->key[i].name, name)) {
            return true;
        }
    }
    for (size_t i = 0; i < ARRAY_COUNT(credentials); i++) {
        if (bytes_equal_nocase(name, bytes_from(credentials[i]))) {
            return config->scope != CONFIG_SCOPE_SHARED;
        }
    }
    return bytes_equal_nocase(name, BYTES("origin"));
}

static struct filling *make_filling(struct exchange *exchange, const struct cache_key *key)
{
    struct worker *worker = worker_of(exchange);
    const struct exchange_inference *inference = exchange->cache->inference;
    struct cached_counters *counters = cached_counters_of(worker, exchange->route);
    struct filling *filling = filling_create(&worker->filling, &exchange->route->filling, &counters->filling,
                                             &filling_inference, exchange->fetch, key);
    const struct filling_inference_terms terms = {
        .ttl_ms = ttl_ms_of(exchange),
        .stores_tool_calls = exchange->route->filling.tool_calls,
        .is_shared = exchange->route->config->cache.scope == CONFIG_SCOPE_SHARED,
        .is_in_key = is_in_key,
        .context = &exchange->route->config->cache,
        .not_kept = why_not_kept(exchange),
    };
    if (filling != NULL && filling_inference_init(filling, &inference->key, &terms) != RESULT_OK) {
        filling_destroy(filling);
        return NULL;
    }
    if (filling != NULL) {
        filling->asks = inference->asks;
        filling->may_find_in_tier = !filling->is_join_only && !inference->asks.no_cache && !inference->key.no_cache;
    }
    return filling;
}

/* It is not stored, and not shared either. */
static void go_uncached(struct exchange *exchange, enum inference_reason reason)
{
    struct filling_counters *counters = &cached_counters_of(worker_of(exchange), exchange->route)->filling;
    counter_add(&counters->not_stored[FILLING_REASON_RULES + (unsigned)reason], 1);
    bypass(exchange, bytes_from(inference_reason_name(reason)));
}

/* Looks for a stored answer. True: it was given. */
static bool look(struct exchange *exchange, struct cache_object *object)
{
    struct exchange_cache *cache = exchange->cache;
    const struct exchange_inference *inference = cache->inference;
    cache->status.forward = CACHE_STATUS_URI_MISS;
    if (inference->asks.no_cache || inference->key.no_cache) {
        cache->status.forward = CACHE_STATUS_REQUEST;
        return false;
    }
    return inference->key.may_store && object != NULL && serve(exchange, object);
}

static void run(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    struct exchange_inference *inference = cache->inference;
    struct worker *worker = worker_of(exchange);
    if (inference->bypassed_why.ptr != NULL) {
        bypass(exchange, inference->bypassed_why);
        return;
    }
    if (!inference->is_keyed) {
        make_key(exchange);
    }
    const struct inference_key *key = &inference->key;
    bool may_join = key->may_join && exchange->route->config->cache.coalesce;
    if (!key->may_store && !may_join) {
        go_uncached(exchange, key->reason);
        return;
    }
    struct cache_key stored = cache_key_make(cache_of(worker->cache), key->key, key->key.len);
    struct cache_object *object = cache_find(worker->cache, &stored);
    if (look(exchange, object)) {
        return;
    }
    if (inference->asks.only_if_cached) {
        answer_not_cached(exchange);
        return;
    }
    if (inference->asks.no_store) {
        go_uncached(exchange, INFERENCE_NO_STORE);
        return;
    }
    cache->outcome = EXCHANGE_CACHE_MISS;
    if (cache->prepared == NULL) {
        cache->prepared = make_filling(exchange, &stored);
    }
    if (cache->prepared == NULL) {
        bypass(exchange, BYTES("out_of_memory"));
        return;
    }
    if (cache->prepared->is_join_only) {
        cache->status.detail = bytes_from(inference_reason_name(why_not_kept(exchange)));
    }
    /* Who wants it made anew is not served by what somebody else has begun before. */
    cache->is_alone = cache->is_alone || !may_join || cache->status.forward == CACHE_STATUS_REQUEST;
    uint8_t variant = (uint8_t)(1 + (key->wants_stream ? 1 : 0) + (key->wants_usage ? 2 : 0));
    exchange_cache_claim(exchange, &stored, object, variant);
}
