/* What a request with an unsafe method makes out of date goes before its client can know that it succeeded: who is told
 * so and asks again, on whatever connection, does not get what was stored before (RFC 9111 §4.4).
 *
 *   prepare ─▶ fetch ─▶ head: 2xx, 3xx ─▶ removals to the shards' owners ─▶ all acknowledged: the head goes on
 *                            other      ─▶ goes on at once
 *
 * It lives until the exchange, the fetch and the last of what was sent have let go of it. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/invalidation.h"
#include "cache/tags.h"
#include "server/cached.h"
#include "server/exchange_internal.h"

struct exchange_invalidation {
    struct fetch_observer observer;
    struct worker *worker;
    struct exchange *exchange; /* NULL: it has gone */
    unsigned uses;             /* the exchange's, the fetch's, one for each that is under way */
    unsigned left;             /* under way: the head waits for them */
    uint8_t method;            /* llhttp_method_t */
    struct invalidation_origin origin;
    struct bytes request_head; /* of a POST, whose answer may be one to GET */
    struct directives_request asks;
    struct arena arena;
};

struct removal {
    struct cache_removal cache;
    struct exchange_invalidation *invalidation;
};

struct purge {
    struct cache_purge cache;
    struct exchange_invalidation *invalidation;
};

/* ---- life ---- */

static void release(struct exchange_invalidation *invalidation)
{
    if (--invalidation->uses == 0) {
        arena_fini(&invalidation->arena);
        free(invalidation);
    }
}

static void begin_one(struct exchange_invalidation *invalidation)
{
    invalidation->uses++;
    invalidation->left++;
}

static void end_one(struct exchange_invalidation *invalidation)
{
    invalidation->left--;
    struct exchange *exchange = invalidation->exchange;
    if (invalidation->left == 0 && exchange != NULL && exchange->reader.entry != NULL) {
        exchange_on_progress(&exchange->reader); /* what it has held back */
    }
    release(invalidation);
}

bool exchange_invalidation_is_open(const struct exchange *exchange)
{
    return exchange->invalidation != NULL && exchange->invalidation->left > 0;
}

void exchange_invalidation_leave(struct exchange *exchange)
{
    struct exchange_invalidation *invalidation = exchange->invalidation;
    struct fetch *fetch = exchange->fetch;
    exchange->invalidation = NULL;
    invalidation->exchange = NULL;
    if (fetch != NULL && fetch->phase == FETCH_IDLE && fetch->observer == &invalidation->observer) {
        fetch->observer = NULL; /* it has never begun, and will tell of no end */
        release(invalidation);
    }
    release(invalidation);
}

/* ---- removing ---- */

/* The route on which a GET for this would be answered, when that may come from the cache. */
static const struct route *route_to_get(const struct worker *worker, struct bytes authority, struct bytes path)
{
    struct bytes host;
    struct bytes port;
    uint64_t allow;
    http_authority_split(authority, &host, &port);
    const struct route_query query = {.host = host, .path = path, .method = HTTP_GET};
    const struct route *route = route_find(&worker->routes, &query, &allow);
    bool is_cached = route != NULL && route->config->kind == CONFIG_ROUTE_HTTP && route->config->cache.enabled;
    return is_cached ? route : NULL;
}

static void removal_on_done(struct cache_removal *cache)
{
    end_one(CONTAINER_OF(cache, struct removal, cache)->invalidation);
}

static void remove_key(struct exchange_invalidation *invalidation, struct bytes key)
{
    struct cache_core *core = invalidation->worker->cache;
    struct removal *removal = arena_alloc(&invalidation->arena, sizeof(*removal));
    if (removal == NULL) {
        return; /* what is stored lives on until it is stale: as behind a gateway that did not see the request */
    }
    removal->invalidation = invalidation;
    removal->cache = (struct cache_removal){
        .key = cache_key_make(cache_of(core), key, key.len),
        .cause = SHARD_INVALIDATED,
        .on_done = removal_on_done,
    };
    begin_one(invalidation);
    cache_remove_and_tell(core, &removal->cache);
}

static void purge_on_done(struct cache_purge *cache)
{
    end_one(CONTAINER_OF(cache, struct purge, cache)->invalidation);
}

/* `text` lies in the arena. */
static void purge(struct exchange_invalidation *invalidation, enum shard_filter_kind kind, struct bytes text)
{
    struct purge *purge = arena_alloc(&invalidation->arena, sizeof(*purge));
    if (purge == NULL) {
        return;
    }
    memset(purge, 0, sizeof(*purge));
    purge->invalidation = invalidation;
    purge->cache.filter = (struct shard_filter){.kind = kind, .text = text, .cause = SHARD_INVALIDATED};
    purge->cache.on_done = purge_on_done;
    begin_one(invalidation);
    if (cache_purge(invalidation->worker->cache, &purge->cache) != RESULT_OK) {
        end_one(invalidation);
    }
}

static void purge_tier(struct exchange_invalidation *invalidation, enum cache_tier_purge_kind kind, struct bytes text)
{
    struct worker *worker = invalidation->worker;
    if (worker->filling.store != NULL) {
        cache_tier_purge(worker->filling.store, worker->index, &(struct cache_tier_purge){.kind = kind, .text = text});
    }
}

/* Writes the key that a GET for `target` has without what headers and cookies add to it. .ptr NULL: it is not cached.
 */
static struct bytes put_key(struct exchange_invalidation *invalidation, const struct invalidation_target *target,
                            const struct route **ret_route)
{
    char *room = arena_alloc(&invalidation->arena, CACHED_KEY_BYTES_MAX + target->path.len);
    if (room == NULL) {
        return BYTES_NONE;
    }
    struct cache_key_source source = {
        .method = BYTES("GET"),
        .authority = invalidation->origin.authority,
        .path = target->path,
        .query = target->query,
    };
    bool is_same = false;
    char *path = room + CACHED_KEY_BYTES_MAX;
    size_t path_bytes = http_path_normalize(target->path, path, &is_same);
    struct bytes normal = is_same ? target->path : (struct bytes){path, path_bytes};
    source.path = cache_key_path(target->path, normal);
    const struct route *route = normal.len == 0 ? NULL : route_to_get(invalidation->worker, source.authority, normal);
    size_t bytes = 0;
    if (route == NULL ||
        cache_key_put_url(&route->config->cache, &source, room, CACHED_KEY_BYTES_MAX, &bytes) != RESULT_OK) {
        return BYTES_NONE;
    }
    *ret_route = route;
    return (struct bytes){room, bytes};
}

static void remove_target(struct exchange_invalidation *invalidation, const struct invalidation_target *target)
{
    const struct route *route = NULL;
    struct bytes key = put_key(invalidation, target, &route);
    if (key.ptr == NULL) {
        return;
    }
    if (cache_key_is_url(&route->config->cache)) {
        remove_key(invalidation, key);
        purge_tier(invalidation, CACHE_TIER_PURGE_KEY, key);
        return;
    }
    /* Further parts begin on a line of their own: what only begins with the same URL is left alone. */
    struct bytes prefix = arena_format(&invalidation->arena, "%.*s\n", BYTES_ARG(key));
    if (prefix.ptr != NULL) {
        purge(invalidation, SHARD_PREFIX, prefix);
        purge_tier(invalidation, CACHE_TIER_PURGE_PREFIX, prefix);
    }
}

static void remove_targets(struct exchange_invalidation *invalidation, const struct http_head *head, const char *base)
{
    char *room = arena_alloc(&invalidation->arena, invalidation_bytes_max(&invalidation->origin, head, base));
    struct invalidation_target targets[INVALIDATION_TARGETS_MAX];
    if (room == NULL) {
        return;
    }
    unsigned count = invalidation_targets(&invalidation->origin, head, base, room, targets);
    for (unsigned i = 0; i < count; i++) {
        remove_target(invalidation, &targets[i]);
    }
}

/* RFC 9875 §3. */
static void remove_groups(struct exchange_invalidation *invalidation, const struct http_head *head, const char *base)
{
    if (http_head_find(head, base, BYTES("cache-group-invalidation")).ptr == NULL) {
        return;
    }
    char *room = arena_alloc(&invalidation->arena, TAGS_BYTES_MAX);
    if (room == NULL) {
        return;
    }
    const struct invalidation_origin *origin = &invalidation->origin;
    struct bytes tags = {room, tags_to_invalidate(origin->scheme, origin->authority, head, base, room, TAGS_BYTES_MAX)};
    struct bytes tag;
    while (tags_next(&tags, &tag)) {
        purge(invalidation, SHARD_TAG, tag);
        purge_tier(invalidation, CACHE_TIER_PURGE_TAG, tag);
    }
}

/* ---- an answer to POST that is one to GET ---- */

/* The answer says by Content-Location that a GET for the same would get it (RFC 9110 §9.3.3). */
static bool is_answer_to_get(struct exchange_invalidation *invalidation, const struct http_head *head, const char *base)
{
    const struct invalidation_origin *origin = &invalidation->origin;
    struct bytes location = http_head_find(head, base, BYTES("content-location"));
    if (invalidation->request_head.ptr == NULL || head->status != 200 || location.ptr == NULL) {
        return false;
    }
    char *room = arena_alloc(&invalidation->arena, origin->path.len + location.len + 1);
    size_t used;
    struct invalidation_target target;
    return room != NULL && invalidation_resolve(origin, location, room, &used, &target) &&
           bytes_equal(target.path, origin->path) && bytes_equal(target.query, origin->query) &&
           (target.query.ptr == NULL) == (origin->query.ptr == NULL);
}

/* Hands the fetch over to a filling. False: it stays an answer to nobody else. */
static bool store_for_get(struct exchange_invalidation *invalidation, struct fetch *fetch)
{
    struct worker *worker = invalidation->worker;
    const struct invalidation_target own = {invalidation->origin.path, invalidation->origin.query};
    const struct route *route = NULL;
    struct bytes bytes = put_key(invalidation, &own, &route);
    if (bytes.ptr == NULL || !cache_key_is_url(&route->config->cache) || route->config->cache.bypass_count > 0) {
        return false;
    }
    struct cache_key key = cache_key_make(cache_of(worker->cache), bytes, bytes.len);
    struct filling *filling = filling_create(&worker->filling, &route->filling,
                                             &cached_counters_of(worker, route)->filling, &filling_http, fetch, &key);
    if (filling == NULL) {
        return false;
    }
    filling->asks = invalidation->asks;
    filling->method = STORING_POST_LOCATED;
    filling->request_head = arena_copy(&filling->arena, invalidation->request_head);
    filling->scheme_and_authority = arena_copy(&filling->arena, invalidation->origin.authority);
    if (filling->request_head.ptr == NULL || filling->scheme_and_authority.ptr == NULL) {
        filling_destroy(filling);
        return false;
    }
    filling_take_over(filling);
    return true;
}

/* ---- what the fetch says ---- */

static enum fetch_verdict on_head(struct fetch_observer *observer, struct fetch *fetch, const struct http_head *head,
                                  const char *base)
{
    struct exchange_invalidation *invalidation = CONTAINER_OF(observer, struct exchange_invalidation, observer);
    enum fetch_verdict verdict = FETCH_TAKE;
    if (!invalidation_applies(invalidation->method, head->status)) {
        return verdict;
    }
    remove_targets(invalidation, head, base);
    remove_groups(invalidation, head, base);
    if (is_answer_to_get(invalidation, head, base) && store_for_get(invalidation, fetch)) {
        verdict = fetch->observer->on_head(fetch->observer, fetch, head, base);
        release(invalidation); /* the fetch's: it tells the filling of its end */
    }
    return verdict;
}

static void on_end(struct fetch_observer *observer, struct fetch *fetch, enum result result)
{
    (void)fetch;
    (void)result;
    release(CONTAINER_OF(observer, struct exchange_invalidation, observer));
}

/* ---- the beginning ---- */

enum result exchange_invalidation_prepare(struct exchange *exchange, const struct exchange_start *start)
{
    struct worker *worker = exchange->conn->worker;
    const struct http_head *head = &start->parser->head;
    if (worker->cache == NULL || !invalidation_applies(head->method, 200) ||
        route_to_get(worker, start->authority, start->path) == NULL) {
        return RESULT_OK;
    }
    struct exchange_invalidation *invalidation = calloc(1, sizeof(*invalidation));
    if (invalidation == NULL) {
        return RESULT_NO_MEMORY;
    }
    arena_init(&invalidation->arena, NULL, 0);
    invalidation->observer = (struct fetch_observer){.on_head = on_head, .on_end = on_end};
    invalidation->worker = worker;
    invalidation->exchange = exchange;
    invalidation->uses = 2;
    invalidation->method = head->method;
    struct arena *arena = &invalidation->arena;
    struct invalidation_origin *origin = &invalidation->origin;
    origin->scheme = BYTES("http");
    origin->authority = arena_copy(arena, start->authority);
    origin->path = arena_copy(arena, cache_key_path(start->target->path, start->path));
    bool ok = origin->authority.ptr != NULL && origin->path.ptr != NULL;
    if (start->target->query.ptr != NULL) {
        origin->query = arena_copy(arena, start->target->query);
        ok = ok && origin->query.ptr != NULL;
    }
    if (head->method == HTTP_POST) {
        directives_read_request(head, start->base, &invalidation->asks);
        invalidation->request_head = arena_copy(arena, (struct bytes){start->base, head->head_bytes});
        ok = ok && invalidation->request_head.ptr != NULL;
    }
    exchange->invalidation = invalidation;
    exchange->fetch->observer = &invalidation->observer;
    return ok ? RESULT_OK : RESULT_NO_MEMORY; /* the exchange's end lets go of it */
}
