/* An exchange's dealings with the cache: looking, and deciding.
 *
 *   run ─▶ look ─▶ fresh ──────────────────────────────▶ answer from what is stored
 *             ├─▶ stale, may be used ─▶ answer; refresh behind
 *             ├─▶ only-if-cached ─▶ 504
 *             └─▶ miss, or to be validated
 *                   └─▶ claim ─▶ MINE:   fetch, by a filling        ─▶ answer from the entry
 *                            ─▶ JOINED: another's entry             ─▶ answer from the entry
 *                            ─▶ LOOK_AGAIN: run                       not for us, or too slow: alone
 *                            ─▶ ALONE:  fetch, by a filling without a flight
 *
 * What must not or need not be asked of anyone (bypass, a range of what is not stored) goes alone at once. The answers
 * are in exchange_serve.c, what is asked of the origin in exchange_ask.c, claims in exchange_claim.c. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"

/* ---- life ---- */

struct exchange_cache *exchange_cache_create(struct exchange *exchange)
{
    struct exchange_cache *cache = arena_alloc(&exchange->arena, sizeof(*cache));
    if (cache == NULL) {
        return NULL;
    }
    memset(cache, 0, sizeof(*cache));
    cache->exchange = exchange;
    cache->began_ms = exchange_now_ms(exchange);
    exchange->cache = cache;
    exchange_claim_init(exchange);
    return cache;
}

enum result exchange_cache_prepare(struct exchange *exchange, const struct exchange_start *start)
{
    struct exchange_cache *cache = exchange_cache_create(exchange);
    if (cache == NULL) {
        return RESULT_NO_MEMORY;
    }
    cache->head = arena_copy(&exchange->arena, (struct bytes){start->base, start->parser->head.head_bytes});
    cache->path = arena_copy(&exchange->arena, start->path);
    bool ok = cache->head.ptr != NULL && cache->path.ptr != NULL;
    return ok ? RESULT_OK : RESULT_NO_MEMORY;
}

static void count_outcome(const struct exchange *exchange)
{
    struct cached_counters *counters = cached_counters_of(exchange_worker(exchange), exchange->route);
    switch (exchange->cache->outcome) {
    case EXCHANGE_CACHE_COUNTED: break;
    case EXCHANGE_CACHE_TIER_HIT: counter_add(&counters->fresh_hits, 1); break; /* what it saved: filling_tier.c */
    case EXCHANGE_CACHE_MISS: counter_add(&counters->misses, 1); break;
    case EXCHANGE_CACHE_JOIN: counter_add(&counters->joins, 1); break;
    case EXCHANGE_CACHE_BYPASS: counter_add(&counters->bypasses, 1); break;
    }
}

void exchange_cache_fini(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    count_outcome(exchange);
    exchange_claim_fini(exchange);
    if (cache->fini != NULL) {
        cache->fini(exchange);
    }
    free(cache->key_room);
    cache->key_room = NULL;
}

void exchange_cache_leave_entry(struct exchange *exchange)
{
    entry_reader_leave(&exchange->reader);
    if (exchange->entry != NULL) {
        entry_unref(exchange->entry);
        exchange->entry = NULL;
    }
    if (exchange->cache->prepared == NULL) {
        exchange_drop_fetch(exchange);
    }
}

/* ---- the head, once more ---- */

void exchange_cache_with_head(struct exchange *exchange, void (*act)(struct exchange *, const struct exchange_start *))
{
    if (exchange->start != NULL) {
        act(exchange, exchange->start);
        return;
    }
    struct exchange_cache *cache = exchange->cache;
    struct http_parser *parser = malloc(sizeof(*parser));
    if (parser == NULL) {
        conn_close(exchange->conn, true);
        return;
    }
    http_parser_init(parser, HTTP_REQUEST, &exchange_worker(exchange)->limits);
    enum result result = http_parse_head(parser, cache->head.ptr, cache->head.len);
    CHECK(result == RESULT_OK); /* it was accepted before */
    const struct http_target *target = http_parser_target(parser, cache->head.ptr);
    bool is_absolute = target->form == HTTP_TARGET_ABSOLUTE;
    struct exchange_start start = {
        .route = exchange->route,
        .parser = parser,
        .base = cache->head.ptr,
        .target = target,
        .path = bytes_equal(cache->path, target->path) ? target->path : cache->path,
        .authority = is_absolute ? target->authority : http_head_value(&parser->head, cache->head.ptr, HTTP_FIELD_HOST),
        .request_id = exchange->request_id,
        .keep_alive = exchange->keep_alive,
    };
    act(exchange, &start);
    free(parser);
}

void exchange_cache_source(const struct exchange_start *start, struct cache_key_source *ret_source)
{
    *ret_source = (struct cache_key_source){
        .method = http_head_method(&start->parser->head, start->base),
        .authority = start->authority,
        .path = cache_key_path(start->target->path, start->path),
        .query = start->target->query,
        .head = &start->parser->head,
        .base = start->base,
    };
}

/* ---- looking ---- */

void exchange_cache_look(struct exchange *exchange, const struct exchange_start *start, struct cached_look *ret_look)
{
    *ret_look = (struct cached_look){
        .worker = exchange_worker(exchange),
        .route = exchange->route,
        .key_room = exchange->cache->key_room,
    };
    exchange_cache_source(start, &ret_look->source);
    cached_look(ret_look);
}

static void on_look(struct exchange *exchange, const struct exchange_start *start)
{
    struct exchange_cache *cache = exchange->cache;
    struct cached_look look;
    exchange_cache_look(exchange, start, &look);
    struct bytes detail = cache->status.detail;
    bool collapsed = cache->status.collapsed;
    cache->status = look.status;
    cache->status.collapsed = collapsed;
    cache->status.detail = look.status.detail.len > 0 ? look.status.detail : detail;
    struct cached_serving serving;
    bool is_behind = look.plan == CACHED_BEHIND;
    if (look.plan == CACHED_VALIDATE && cache->is_asked &&
        cache_object_head(look.object)->freshness.response_ms >= cache->began_ms) {
        look.plan = CACHED_FRESH; /* it is as good as the origin's own answer, however stale it is to others */
    }
    bool has_asked = cache->is_asked && look.plan == CACHED_FRESH;
    if (has_asked) {
        look.status.forward = cache->asked_why;
        look.status.forward_status = 304;
        look.status.collapsed = collapsed;
    }
    if (look.plan == CACHED_VALIDATE &&
        cache_is_in_back_off(look.worker->cache, look.key.hash, exchange_now_ms(exchange)) &&
        exchange_may_serve_failing(&look, cache_is_unreachable(look.worker->cache, look.key.hash),
                                   exchange_now_ms(exchange))) {
        look.plan = CACHED_FRESH; /* the origin has just failed, and is left alone for a while */
        look.status.forward = CACHE_STATUS_HIT;
        look.status.detail = BYTES("origin-failing");
    }
    if (cache->is_from_tier && look.status.detail.len == 0 && look.status.forward == CACHE_STATUS_HIT) {
        look.status.detail = BYTES("second-tier");
    }
    switch (look.plan) {
    case CACHED_FRESH:
    case CACHED_BEHIND:
        if (is_behind) {
            exchange_ask_behind(exchange, start, &look);
        }
        cached_serve(&start->parser->head, start->base, look.object, look.worker->ring, &serving);
        if (exchange_serve(exchange, look.object, &serving, &look.status)) {
            return;
        }
        cache->status.forward = CACHE_STATUS_BYPASS;
        cache->status.detail = BYTES("not-pinned");
        exchange_ask_past(exchange, start);
        return;
    case CACHED_UNAVAILABLE:
        exchange_answer_error(exchange, 504, "the cache has no fresh answer, and the request allows no other",
                              "only_if_cached", METRICS_ERROR_UPSTREAM_TIMEOUT);
        return;
    case CACHED_BYPASS: exchange_ask_past(exchange, start); return;
    case CACHED_MISS:
    case CACHED_VALIDATE: exchange_ask(exchange, start, &look); return;
    }
}

void exchange_cache_run(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    if (cache->run != NULL) {
        cache->runs++;
        cache->run(exchange);
        return;
    }
    cache->runs++;
    if (cache->key_room == NULL) {
        cache->key_room = malloc(CACHED_KEY_ROOM_BYTES);
    }
    if (cache->key_room == NULL) {
        conn_close(exchange->conn, true);
        return;
    }
    exchange_cache_with_head(exchange, on_look);
}

/* ---- what comes ---- */

/* Whether nobody loses when this client does not read on. */
static bool may_spare_body(const struct exchange *exchange, const struct entry *entry)
{
    const struct exchange_cache *cache = exchange->cache;
    return cache->run == NULL && cache->is_conditional && entry->status == 200 && entry->state != ENTRY_FAILED &&
           (entry->is_stored || cache->is_joined || entry->state == ENTRY_COMPLETE);
}

static bool is_origin_failing(const struct entry *entry)
{
    return entry->state == ENTRY_FAILED || freshness_is_failure(entry->status);
}

bool exchange_cache_intercept(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    struct entry *entry = exchange->reader.entry;
    if (entry->status == 0 && entry->state == ENTRY_FILLING && !entry->is_expelled) {
        return false;
    }
    ring_timer_cancel(exchange_worker(exchange)->ring, &cache->timer);
    if (entry->state == ENTRY_FAILED && entry->is_look_again) {
        cache->is_asked = cache->is_asked || entry->is_stored;
        cache->is_plain = !entry->is_stored && !entry->is_from_tier;
        cache->is_from_tier = entry->is_from_tier;
        cache->is_joined = false;
        exchange_cache_leave_entry(exchange);
        exchange_cache_run(exchange);
        return true;
    }
    if (cache->is_joined && exchange_claim_intercept(exchange)) {
        return true;
    }
    if (entry->is_from_tier && cache->outcome == EXCHANGE_CACHE_MISS) {
        cache->outcome = EXCHANGE_CACHE_TIER_HIT;
    }
    if (is_origin_failing(entry) && cache->run == NULL && cache->key_room != NULL) {
        struct conn *conn = exchange->conn;
        exchange_cache_with_head(exchange, exchange_serve_stale);
        return conn->exchange != exchange || exchange->head_sent;
    }
    if (may_spare_body(exchange, entry)) {
        struct conn *conn = exchange->conn;
        exchange_cache_with_head(exchange, exchange_serve_not_modified);
        return conn->exchange != exchange || exchange->head_sent;
    }
    return false;
}

bool exchange_cache_status(const struct exchange *exchange, struct cache_status *ret_status)
{
    const struct entry *entry = exchange->reader.entry;
    if (exchange->cache == NULL) {
        bool is_unsafe = exchange->invalidation != NULL && exchange->route->config->cache.enabled;
        *ret_status = (struct cache_status){
            .forward = CACHE_STATUS_METHOD, .forward_status = entry->status, .stored = entry->is_stored};
        return is_unsafe;
    }
    if (exchange->cache->runs == 0) {
        return false;
    }
    *ret_status = exchange->cache->status;
    ret_status->has_ttl = false;
    if (entry == NULL) {
        return true;
    }
    ret_status->forward_status = entry->origin_status != 0 ? entry->origin_status : entry->status;
    ret_status->stored = entry->is_stored && !exchange->cache->is_joined;
    if (entry->is_from_tier) {
        ret_status->forward = CACHE_STATUS_HIT;
        ret_status->detail = BYTES("second-tier");
    } else if (entry->not_stored_why != NULL && ret_status->detail.len == 0) {
        ret_status->detail = bytes_from(entry->not_stored_why);
    }
    return true;
}
