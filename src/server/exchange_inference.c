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
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"

enum { TENANT_BYTES = 32 };

struct exchange_inference {
    struct exchange_cache *cache;
    struct directives_request asks;
    struct bytes prefix; /* of the key: the route, and the query */
    bool is_bypassed;
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

/* The tenant is whose credentials these are. Keys are kept on disk, so it is their digest that stands there. */
static bool make_tenant(const struct exchange_start *start, unsigned char out[TENANT_BYTES])
{
    struct bytes credentials = http_head_value(&start->parser->head, start->base, HTTP_FIELD_AUTHORIZATION);
    if (credentials.ptr == NULL) {
        credentials = http_head_value(&start->parser->head, start->base, HTTP_FIELD_X_API_KEY);
    }
    return mbedtls_sha256((const unsigned char *)(credentials.ptr != NULL ? credentials.ptr : ""), credentials.len, out,
                          0) == 0;
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
    struct bytes coding = http_head_value(head, start->base, HTTP_FIELD_CONTENT_ENCODING);
    inference->is_bypassed = coding.len > 0 || !make_tenant(start, inference->tenant) ||
                             cache_key_is_bypassed(&exchange->route->config->cache, &source);
    cache->path = arena_copy(&exchange->arena, inference_upstream_path(&exchange->arena, start->path));
    inference->prefix = arena_format(&exchange->arena, "inference/%.*s?%.*s\n",
                                     BYTES_ARG(exchange->route->config->name), BYTES_ARG(start->target->query));
    bool ok = cache->path.ptr != NULL && inference->prefix.ptr != NULL;
    return ok ? RESULT_OK : RESULT_NO_MEMORY;
}

/* Goes to the backend, and is neither stored nor joined. */
static void bypass(struct exchange *exchange, struct bytes detail)
{
    struct exchange_cache *cache = exchange->cache;
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
    char *stored = gather(object);
    struct bytes converted = BYTES_NONE;
    if (stored == NULL ||
        inference_convert(key->family, (enum inference_form)head->form, key->wants_stream, key->wants_usage,
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
    enum freshness_use use = freshness_decide(&head->freshness, &cache->inference->asks, now_ms, NULL);
    bool is_too_old = key->max_age_s >= 0 && freshness_age_ms(&head->freshness, now_ms) > key->max_age_s * 1000;
    if ((use != FRESHNESS_FRESH && use != FRESHNESS_STALE) || is_too_old) {
        cache->status.forward = is_too_old ? CACHE_STATUS_REQUEST : CACHE_STATUS_STALE;
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
    case INFERENCE_REPLAY_CONVERTED: return serve_converted(exchange, object, &status);
    case INFERENCE_REPLAY_IMPOSSIBLE: break;
    }
    cache->status.detail = BYTES("other-shape");
    return false;
}

/* ---- fetching ---- */

static struct filling *make_filling(struct exchange *exchange, const struct cache_key *key)
{
    struct worker *worker = worker_of(exchange);
    const struct exchange_inference *inference = exchange->cache->inference;
    struct cached_counters *counters = cached_counters_of(worker, exchange->route);
    struct filling *filling = filling_create(&worker->filling, &exchange->route->filling, &counters->filling,
                                             &filling_inference, exchange->fetch, key);
    int64_t ttl_ms = exchange->route->filling.ttl_ms;
    if (inference->key.ttl_s >= 0) {
        ttl_ms = inference->key.ttl_s * 1000;
    }
    if (filling != NULL && filling_inference_init(filling, &inference->key, ttl_ms,
                                                  exchange->route->filling.tool_calls) != RESULT_OK) {
        filling_destroy(filling);
        return NULL;
    }
    if (filling != NULL) {
        filling->asks = inference->asks;
        filling->is_join_only = !inference->key.may_store || inference->asks.no_store || ttl_ms <= 0;
        filling->may_find_in_tier = !filling->is_join_only && !inference->asks.no_cache && !inference->key.no_cache;
    }
    return filling;
}

static void run(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    struct exchange_inference *inference = cache->inference;
    struct worker *worker = worker_of(exchange);
    if (inference->is_bypassed) {
        bypass(exchange, BYTES_NONE);
        return;
    }
    if (!inference->is_keyed) {
        make_key(exchange);
    }
    const struct inference_key *key = &inference->key;
    bool may_join = key->may_join && exchange->route->config->cache.coalesce;
    if (!key->may_store && !may_join) {
        struct filling_counters *counters = &cached_counters_of(worker, exchange->route)->filling;
        counter_add(&counters->not_stored[FILLING_REASON_RULES + (unsigned)key->reason], 1);
        bypass(exchange, bytes_from(inference_reason_name(key->reason)));
        return;
    }
    cache->status.forward = CACHE_STATUS_URI_MISS;
    struct cache_key stored = cache_key_make(cache_of(worker->cache), key->key, key->key.len);
    struct cache_object *object = cache_find(worker->cache, &stored);
    if (key->may_store && !inference->asks.no_cache && !key->no_cache) {
        if (object != NULL && serve(exchange, object)) {
            return;
        }
    } else if (inference->asks.no_cache || key->no_cache) {
        cache->status.forward = CACHE_STATUS_REQUEST;
    }
    if (inference->asks.only_if_cached) {
        exchange_answer_error(exchange, 504, "the cache has no fresh answer, and the request allows no other",
                              "only_if_cached", METRICS_ERROR_UPSTREAM_TIMEOUT);
        return;
    }
    cache->outcome = EXCHANGE_CACHE_MISS;
    if (cache->prepared == NULL) {
        cache->prepared = make_filling(exchange, &stored);
    }
    if (cache->prepared == NULL) {
        bypass(exchange, BYTES("out-of-memory"));
        return;
    }
    cache->is_alone = cache->is_alone || !may_join;
    uint8_t variant = (uint8_t)(1 + (key->wants_stream ? 1 : 0) + (key->wants_usage ? 2 : 0));
    exchange_cache_claim(exchange, &stored, object, variant);
}
