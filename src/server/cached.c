#include "server/cached.h"

#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "cache/conditional.h"
#include "cache/lines.h"
#include "cache/vary.h"
#include "server/prefetching.h"
#include "server/worker.h"

struct cached_counters *cached_counters_of(struct worker *worker, const struct route *route)
{
    return &worker->cached[route->index];
}

bool cached_concerns(const struct worker *worker, const struct route *route, const struct http_head *head)
{
    return worker->cache != NULL && route->config->cache.enabled && route->config->kind == CONFIG_ROUTE_HTTP &&
           (head->method == HTTP_GET || head->method == HTTP_HEAD) && head->body == HTTP_BODY_NONE && !head->upgrade;
}

/* ---- looking ---- */

/* Among the variants of a key: the one for this request with the latest Date (RFC 9111 §4.1). Leaves its key, or that
 * of the set used last, in look->key. */
static struct cache_object *find_variant(struct cached_look *look, const struct cache_head *marker)
{
    struct bytes note = cache_head_note(marker);
    struct bytes generation = {note.ptr, FILLING_GENERATION_BYTES};
    note = (struct bytes){note.ptr + FILLING_GENERATION_BYTES, note.len - FILLING_GENERATION_BYTES};
    size_t primary_bytes = look->key.primary_bytes;
    struct cache_object *best = NULL;
    size_t first_bytes = 0;
    size_t best_bytes = 0;
    struct bytes best_set = BYTES_NONE;
    struct bytes first_set = BYTES_NONE;
    struct bytes set;
    while (vary_note_next(&note, &set)) {
        size_t bytes = 0;
        if (filling_variant_key(look->key_room, primary_bytes, CACHED_KEY_ROOM_BYTES, generation, set,
                                look->source.head, look->source.base, &bytes) != RESULT_OK) {
            continue;
        }
        struct cache_key key =
            cache_key_make(cache_of(look->worker->cache), (struct bytes){look->key_room, bytes}, primary_bytes);
        struct cache_object *object = cache_find(look->worker->cache, &key);
        if (first_bytes == 0) {
            first_bytes = bytes;
            first_set = set;
        }
        if (object != NULL && (best == NULL || cache_object_head(object)->freshness.date_ms >
                                                   cache_object_head(best)->freshness.date_ms)) {
            best = object;
            best_bytes = bytes;
            best_set = set;
        }
    }
    /* The key in the room is that of the set tried last: write the one that is wanted again. */
    size_t bytes = best != NULL ? best_bytes : first_bytes;
    struct bytes wanted = best != NULL ? best_set : first_set;
    if (bytes > 0 && filling_variant_key(look->key_room, primary_bytes, CACHED_KEY_ROOM_BYTES, generation, wanted,
                                         look->source.head, look->source.base, &bytes) == RESULT_OK) {
        look->key = cache_key_make(cache_of(look->worker->cache), (struct bytes){look->key_room, bytes}, primary_bytes);
    }
    return best;
}

static enum cached_plan plan_without(struct cached_look *look, enum cache_status_forward forward)
{
    look->status.forward = forward;
    return look->asks.only_if_cached ? CACHED_UNAVAILABLE : CACHED_MISS;
}

static enum cached_plan plan_with(struct cached_look *look, int64_t now_ms)
{
    const struct cache_head *head = cache_object_head(look->object);
    enum freshness_why why;
    enum freshness_use use = freshness_decide(&head->freshness, &look->asks, now_ms, &why);
    look->status.has_ttl = true;
    look->status.ttl_ms = freshness_ttl_ms(&head->freshness, now_ms);
    if (conditional_is_for_origin(look->source.head, look->source.base)) {
        look->status.forward = CACHE_STATUS_REQUEST;
        return CACHED_BYPASS;
    }
    switch (use) {
    case FRESHNESS_FRESH:
    case FRESHNESS_STALE: return CACHED_FRESH;
    case FRESHNESS_STALE_BEHIND: return CACHED_BEHIND;
    case FRESHNESS_UNAVAILABLE: return CACHED_UNAVAILABLE;
    case FRESHNESS_VALIDATE: break;
    }
    look->status.forward = why == FRESHNESS_WHY_REQUEST ? CACHE_STATUS_REQUEST : CACHE_STATUS_STALE;
    return CACHED_VALIDATE;
}

/* Whether a fresh part that is stored holds all that is asked for, or shows that there is no such thing. */
static bool part_will_do(const struct cached_look *look, const struct cache_object *object, int64_t now_ms)
{
    const struct cache_head *head = cache_object_head(object);
    const struct http_head *request = look->source.head;
    const char *base = look->source.base;
    struct range_partial partial;
    struct validators validators = validators_of_stored(head);
    struct range_set set;
    struct bytes range = range_of_request(request, base);
    if (request->method != HTTP_GET || range.len == 0 || !range_partial_of_stored(cache_head_lines(head), &partial) ||
        range_bytes(partial.range) != object->body_bytes || conditional_is_for_origin(request, base) ||
        !range_if_range_holds(request, base, &validators, now_ms)) {
        return false;
    }
    switch (range_resolve(range, partial.complete_bytes, &set)) {
    case RANGE_UNSATISFIABLE: return true;
    case RANGE_SATISFIABLE: return set.count == 1 && range_partial_covers(&partial, &set);
    case RANGE_WHOLE: break;
    }
    return false;
}

/* A part is used only while it is fresh: what is stale of it is asked for anew. */
static enum cached_plan plan_with_part(struct cached_look *look, struct cache_object *object, int64_t now_ms)
{
    const struct freshness *freshness = &cache_object_head(object)->freshness;
    enum freshness_use use = freshness_decide(freshness, &look->asks, now_ms, NULL);
    bool is_usable = use == FRESHNESS_FRESH || use == FRESHNESS_STALE || use == FRESHNESS_STALE_BEHIND;
    if (is_usable && part_will_do(look, object, now_ms)) {
        look->object = object;
        look->status.has_ttl = true;
        look->status.ttl_ms = freshness_ttl_ms(freshness, now_ms);
        return CACHED_FRESH;
    }
    look->part = use == FRESHNESS_FRESH ? object : NULL;
    return plan_without(look, CACHE_STATUS_PARTIAL);
}

void cached_look(struct cached_look *look)
{
    struct worker *worker = look->worker;
    const struct config_cache *config = &look->route->config->cache;
    int64_t now_ms = ring_unix_ms(worker->ring);
    look->object = NULL;
    look->part = NULL;
    look->status = (struct cache_status){.forward = CACHE_STATUS_HIT};
    size_t bytes = 0;
    bool has_key = cache_key_put(config, &look->source, look->key_room, CACHED_KEY_BYTES_MAX, &bytes) == RESULT_OK;
    if (!has_key || (config->bypass_count > 0 && cache_key_is_bypassed(config, &look->source))) {
        look->status.forward = CACHE_STATUS_BYPASS;
        look->status.detail = has_key ? BYTES("rule") : BYTES("key-too-long");
        look->plan = CACHED_BYPASS;
        return;
    }
    directives_read_request(look->source.head, look->source.base, &look->asks);
    look->key = cache_key_make(cache_of(worker->cache), (struct bytes){look->key_room, bytes}, bytes);
    struct cache_object *object = cache_find(worker->cache, &look->key);
    bool is_varied = object != NULL && filling_is_marker(cache_object_head(object));
    if (is_varied) {
        object = find_variant(look, cache_object_head(object));
    }
    if (object != NULL && cache_object_head(object)->status == 206) {
        look->plan = plan_with_part(look, object, now_ms);
        return;
    }
    look->object = object;
    if (object == NULL) {
        look->plan = plan_without(look, is_varied ? CACHE_STATUS_VARY_MISS : CACHE_STATUS_URI_MISS);
    } else {
        look->plan = plan_with(look, now_ms);
    }
}

/* ---- serving ---- */

void cached_serve(const struct http_head *request, const char *base, const struct cache_object *object,
                  struct ring *ring, struct cached_serving *ret_serving)
{
    const struct cache_head *head = cache_object_head(object);
    int64_t now_ms = ring_unix_ms(ring);
    *ret_serving = (struct cached_serving){
        .head = head,
        .body_bytes = object->body_bytes,
        .status = head->status,
        .has_body = request->method != HTTP_HEAD && head->status != 204,
    };
    struct range_partial partial;
    bool is_part = head->status == 206 && range_partial_of_stored(cache_head_lines(head), &partial);
    if (is_part) {
        ret_serving->body_at = partial.range.first;
        ret_serving->body_bytes = partial.complete_bytes;
    }
    if (conditional_is_conditional(request, base) &&
        conditional_evaluate(request, base, head, now_ms) == CONDITIONAL_NOT_MODIFIED) {
        ret_serving->status = 304;
        ret_serving->has_body = false;
        return;
    }
    struct bytes range = range_of_request(request, base);
    if (range.len == 0 || request->method != HTTP_GET || (head->status != 200 && !is_part)) {
        return;
    }
    struct validators validators = validators_of_stored(head);
    if (!range_if_range_holds(request, base, &validators, now_ms)) {
        return;
    }
    switch (range_resolve(range, ret_serving->body_bytes, &ret_serving->ranges)) {
    case RANGE_SATISFIABLE:
        ret_serving->status = 206;
        ret_serving->boundary = ret_serving->ranges.count > 1 ? ring_random(ring) : 0;
        break;
    case RANGE_UNSATISFIABLE:
        ret_serving->status = 416;
        ret_serving->has_body = false;
        break;
    case RANGE_WHOLE: break;
    }
}

static bool is_multipart(const struct cached_serving *serving)
{
    return serving->status == 206 && serving->ranges.count > 1;
}

/* The boundary between parts: it must not occur in the body, which was there before these bits were drawn. */
static struct bytes boundary_of(const struct cached_serving *serving, char out[RANGE_BOUNDARY_BYTES_MAX])
{
    static const char digits[] = "0123456789abcdef";
    memcpy(out, "sluice-", 7);
    for (unsigned i = 0; i < 16; i++) {
        out[7 + i] = digits[serving->boundary >> (4 * i) & 15];
    }
    return (struct bytes){out, 23};
}

static struct range_multipart multipart_of(const struct cached_serving *serving, char out[RANGE_BOUNDARY_BYTES_MAX])
{
    return (struct range_multipart){
        .set = &serving->ranges,
        .complete_bytes = serving->body_bytes,
        .content_type = lines_find(cache_head_lines(serving->head), BYTES("content-type")),
        .boundary = boundary_of(serving, out),
    };
}

uint64_t cached_body_bytes(const struct cached_serving *serving)
{
    if (!serving->has_body) {
        return 0;
    }
    if (serving->status != 206) {
        return serving->body_bytes;
    }
    if (!is_multipart(serving)) {
        return range_bytes(serving->ranges.ranges[0]);
    }
    char boundary[RANGE_BOUNDARY_BYTES_MAX];
    struct range_multipart multipart = multipart_of(serving, boundary);
    return range_multipart_bytes(&multipart);
}

bool cached_is_small(const struct cached_serving *serving)
{
    return cached_body_bytes(serving) <= CACHED_COPY_BYTES_MAX;
}

static char *put_lines(char *at, const struct cached_serving *serving)
{
    struct bytes lines = cache_head_lines(serving->head);
    bool several = is_multipart(serving);
    switch (serving->status) {
    case 304: return lines_put_kept(at, lines, conditional_keep_in_304, serving->head);
    case 206: return lines_put_kept(at, lines, range_keep_in_206, &several);
    case 416: return at; /* nothing of it describes what the client gets */
    default: break;
    }
    if (serving->content_type.len > 0) {
        at = lines_put_kept(at, lines, serving->keep, serving->keep_context);
        return lines_put_line(at, BYTES("Content-Type"), serving->content_type);
    }
    return bytes_put(at, lines);
}

static char *put_length(char *at, const struct cached_serving *serving)
{
    uint64_t length = serving->body_bytes;
    char boundary[RANGE_BOUNDARY_BYTES_MAX];
    switch (serving->status) {
    case 204:
    case 304: return at;
    case 416:
        at = range_put_unsatisfied(at, serving->body_bytes);
        length = 0;
        break;
    case 206:
        length = cached_body_bytes(serving);
        if (is_multipart(serving)) {
            at = range_put_multipart_type(at, boundary_of(serving, boundary));
        } else {
            at = range_put_content_range(at, serving->ranges.ranges[0], serving->body_bytes);
        }
        break;
    default: break;
    }
    at = bytes_put(at, BYTES("Content-Length: "));
    at += bytes_put_u64(at, length);
    return bytes_put(at, BYTES("\r\n"));
}

enum result cached_put_head(struct conn *conn, const struct cached_serving *serving, const struct cache_status *status,
                            int64_t now_ms, const struct conn_answer *answer)
{
    struct outbox *outbox = conn_outbox(conn);
    const struct cache_head *head = serving->head;
    size_t bytes_max = 96 + head->lines_bytes + RANGE_LINE_BYTES_MAX + 2 * RANGE_BOUNDARY_BYTES_MAX + 64 +
                       CACHE_STATUS_BYTES_MAX + CONN_COMMON_BYTES_MAX + answer->request_id.len +
                       serving->content_type.len;
    char *start = outbox == NULL ? NULL : outbox_reserve(outbox, bytes_max);
    if (start == NULL) {
        return RESULT_NO_MEMORY;
    }
    char *at = start;
    struct bytes line = http_status_line(serving->status);
    if (line.ptr != NULL) {
        at = bytes_put(at, line);
    } else {
        at = bytes_put(at, BYTES("HTTP/1.1 "));
        at += bytes_put_u64(at, serving->status);
        at = bytes_put(at, BYTES(" \r\n"));
    }
    at = put_lines(at, serving);
    at = put_length(at, serving);
    at = bytes_put(at, BYTES("Age: "));
    at += bytes_put_u64(at, freshness_age_s(&head->freshness, now_ms));
    at = bytes_put(at, BYTES("\r\nCache-Status: "));
    at += cache_status_put(at, status);
    at = bytes_put(at, BYTES("\r\nVia: 1.1 sluice\r\n"));
    at = conn_put_common_fields(conn, at, answer, head->has_date && serving->status != 416);
    return outbox_commit(outbox, (size_t)(at - start));
}

/* Queues bytes [first, first + bytes) of a chain: copied, or, when there is a `hold` of it, long runs where they lie.
 */
static enum result put_run(struct outbox *outbox, const struct chunk *chunk, struct hold *hold, uint64_t first,
                           uint64_t bytes)
{
    enum result result = RESULT_OK;
    while (bytes > 0 && result == RESULT_OK) {
        uint32_t used = chunk_used(chunk);
        if (first < used) {
            uint64_t part = used - first < bytes ? used - first : bytes;
            struct bytes run = {chunk->data + first, part};
            result = hold == NULL ? outbox_copy(outbox, run) : outbox_add(outbox, run, hold);
            bytes -= part;
            first = 0;
        } else {
            first -= used;
        }
        chunk = atomic_load_explicit(&chunk->next, memory_order_relaxed);
    }
    return result;
}

enum result cached_put_body(struct outbox *outbox, const struct cached_serving *serving,
                            const struct cache_object *object)
{
    if (!serving->has_body) {
        return RESULT_OK;
    }
    if (serving->status != 206) {
        return put_run(outbox, object->body, NULL, 0, object->body_bytes);
    }
    if (!is_multipart(serving)) {
        struct range range = serving->ranges.ranges[0];
        return put_run(outbox, object->body, NULL, range.first - serving->body_at, range_bytes(range));
    }
    char boundary[RANGE_BOUNDARY_BYTES_MAX];
    struct range_multipart multipart = multipart_of(serving, boundary);
    enum result result = RESULT_OK;
    for (unsigned i = 0; i < serving->ranges.count && result == RESULT_OK; i++) {
        char *at = outbox_reserve(outbox, range_part_head_bytes(&multipart, i));
        if (at == NULL) {
            return RESULT_NO_MEMORY;
        }
        result = outbox_commit(outbox, (size_t)(range_put_part_head(at, &multipart, i) - at));
        if (result == RESULT_OK) {
            struct range range = serving->ranges.ranges[i];
            result = put_run(outbox, object->body, NULL, range.first, range_bytes(range));
        }
    }
    char *at = result == RESULT_OK ? outbox_reserve(outbox, range_multipart_end_bytes(&multipart)) : NULL;
    if (at == NULL) {
        return RESULT_NO_MEMORY;
    }
    return outbox_commit(outbox, (size_t)(range_put_multipart_end(at, &multipart) - at));
}

struct entry *cached_pin(struct conn *conn, const struct cached_serving *serving, struct cache_object *object)
{
    enum { HEAD_SPANS = 4 };
    if (is_multipart(serving) || cached_body_bytes(serving) > CACHED_AT_ONCE_BYTES_MAX) {
        return NULL;
    }
    unsigned spans = HEAD_SPANS + (conn->outbox == NULL ? 0 : conn->outbox->count);
    for (const struct chunk *chunk = object->body; chunk != NULL && spans <= OUTBOX_SPANS_MAX; spans++) {
        chunk = atomic_load_explicit(&chunk->next, memory_order_relaxed);
    }
    return spans > OUTBOX_SPANS_MAX ? NULL : cache_view(conn->worker->cache, object);
}

enum result cached_put_pinned(struct outbox *outbox, const struct cached_serving *serving, struct entry *view)
{
    bool is_part = serving->status == 206;
    uint64_t first = is_part ? serving->ranges.ranges[0].first - serving->body_at : 0;
    enum result result = put_run(outbox, view->first, view->hold, first, cached_body_bytes(serving));
    entry_unref(view); /* what is queued holds it */
    return result;
}

/* What is used in memory is worth keeping on disk, too: every so often that is told. All are told of at the same rate,
 * so that the store compares them rightly; keys too long for one run are passed over. */
static void touch_tier(struct worker *worker, const struct cache_object *object)
{
    struct store *store = worker->filling.store;
    if (store == NULL || object->cost_ns < worker->filling.tier_cost_min_ns || object->key_rest != NULL ||
        ++worker->tier_hits % CACHED_TOUCH_EVERY != 0) {
        return;
    }
    cache_tier_touch(store, (struct bytes){object->key, object->key_here_bytes}, ring_unix_ms(worker->ring));
}

void cached_count_hit(struct worker *worker, const struct route *route, struct cache_object *object, bool is_stale)
{
    struct cached_counters *counters = cached_counters_of(worker, route);
    counter_add(is_stale ? &counters->stale_hits : &counters->fresh_hits, 1);
    counter_add(&counters->saved_ns, object->cost_ns);
    counter_add(&counters->saved_tokens, object->cost_tokens);
    evict_touch(&object->evict);
    touch_tier(worker, object);
    if (UNLIKELY(prefetching_is_on(route))) {
        uint64_t ticket = cache_object_head(object)->ticket;
        if (ticket != 0) {
            prefetching_on_use(worker, route, ticket);
        }
    }
}
