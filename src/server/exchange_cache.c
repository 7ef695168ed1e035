/* An exchange's dealings with the cache.
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
 * What must not or need not be asked of anyone (bypass, a range of what is not stored) goes alone at once. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "cache/conditional.h"
#include "cache/invalidation.h"
#include "cache/lines.h"
#include "cache/vary.h"
#include "http/date.h"
#include "server/cached.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"

enum { RUNS_MAX = 4 }; /* looks again, before it goes alone */

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->conn->worker;
}

static int64_t now_ms_of(const struct exchange *exchange)
{
    return ring_unix_ms(worker_of(exchange)->ring);
}

static const struct config_cache *config_of(const struct exchange *exchange)
{
    return &exchange->route->config->cache;
}

/* ---- life ---- */

static void on_answer(struct flight_waiter *waiter, enum flight_answer answer);
static void on_wait_over(struct ring_timer *timer);

struct exchange_cache *exchange_cache_create(struct exchange *exchange)
{
    struct exchange_cache *cache = arena_alloc(&exchange->arena, sizeof(*cache));
    if (cache == NULL) {
        return NULL;
    }
    memset(cache, 0, sizeof(*cache));
    cache->exchange = exchange;
    cache->began_ms = now_ms_of(exchange);
    cache->waiter.on_answer = on_answer;
    ring_timer_init(&cache->timer, on_wait_over);
    exchange->cache = cache;
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

static void stop_waiting(struct exchange_cache *cache)
{
    flight_claim_cancel(&cache->waiter);
    ring_timer_cancel(worker_of(cache->exchange)->ring, &cache->timer);
}

/* Drops the fetch that was prepared and will not be used. */
static void drop_prepared(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    if (cache->prepared != NULL) {
        filling_destroy(cache->prepared);
        cache->prepared = NULL;
    }
    exchange_drop_fetch(exchange);
}

static void count_outcome(const struct exchange *exchange)
{
    struct cached_counters *counters = cached_counters_of(worker_of(exchange), exchange->route);
    switch (exchange->cache->outcome) {
    case EXCHANGE_CACHE_COUNTED: break;
    case EXCHANGE_CACHE_TIER_HIT: counter_add(&counters->hits, 1); break; /* what it saved: filling_tier.c */
    case EXCHANGE_CACHE_MISS: counter_add(&counters->misses, 1); break;
    case EXCHANGE_CACHE_JOIN: counter_add(&counters->joins, 1); break;
    case EXCHANGE_CACHE_BYPASS: counter_add(&counters->bypasses, 1); break;
    }
}

void exchange_cache_fini(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    count_outcome(exchange);
    stop_waiting(cache);
    if (cache->prepared != NULL) {
        filling_destroy(cache->prepared);
        cache->prepared = NULL;
    }
    if (cache->fini != NULL) {
        cache->fini(exchange);
    }
    free(cache->key_room);
    cache->key_room = NULL;
}

/* Leaves the entry that was read so far; nothing of it has been shown. */
static void leave_entry(struct exchange *exchange)
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

/* Calls `act` with the request's head: the client's buffer, while it is there, or the copy, parsed again. */
static void with_head(struct exchange *exchange, void (*act)(struct exchange *, const struct exchange_start *))
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
    http_parser_init(parser, HTTP_REQUEST, &worker_of(exchange)->limits);
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

/* ---- answering from what is stored ---- */

/* Several ranges of a large body would have to be kept track of over many sends: the whole is as good an answer (RFC
 * 9110 §14.2). */
static void widen_if_large(struct cached_serving *serving)
{
    if (serving->status == 206 && serving->ranges.count > 1 && !cached_is_small(serving)) {
        serving->status = serving->head->status;
    }
}

bool exchange_serve(struct exchange *exchange, struct cache_object *object, struct cached_serving *serving,
                    const struct cache_status *status)
{
    widen_if_large(serving);
    bool is_small = cached_is_small(serving);
    struct worker *worker = worker_of(exchange);
    struct entry *view = NULL;
    if (!is_small) {
        view = cache_view(worker->cache, object);
        if (view == NULL) {
            return false;
        }
    }
    struct conn_answer answer = exchange_answer_of(exchange);
    exchange->keep_alive = answer.keep_alive;
    int64_t now_ms = now_ms_of(exchange);
    enum result result = cached_put_head(exchange->conn, serving, status, now_ms, &answer);
    exchange->status = serving->status;
    exchange->head_sent = true;
    exchange->cache->outcome = EXCHANGE_CACHE_COUNTED;
    cached_count_hit(worker, exchange->route, object, freshness_ttl_ms(&serving->head->freshness, now_ms) < 0);
    if (result == RESULT_OK && is_small) {
        result = cached_put_body(exchange->conn->outbox, serving, object);
        exchange->sent_bytes = cached_body_bytes(serving);
    }
    if (result != RESULT_OK) {
        if (view != NULL) {
            entry_unref(view);
        }
        conn_close(exchange->conn, true);
        return true;
    }
    if (is_small) {
        exchange_finish(exchange, true);
        return true;
    }
    exchange->entry = view;
    entry_reader_join(&exchange->reader, view, exchange_on_progress);
    view->status = serving->status;
    if (serving->status == 206) {
        entry_reader_skip(&exchange->reader, serving->ranges.ranges[0].first - serving->body_at);
        exchange->body_left = range_bytes(serving->ranges.ranges[0]);
    }
    exchange_on_progress(&exchange->reader);
    return true;
}

/* ---- refreshing behind ---- */

/* A refresh that is waiting for its claim; then the filling is on its own. */
struct refresh {
    struct flight_waiter waiter;
    struct worker *worker;
    struct filling *filling;
};

static void refresh_on_answer(struct flight_waiter *waiter, enum flight_answer answer)
{
    struct refresh *refresh = CONTAINER_OF(waiter, struct refresh, waiter);
    if (answer == FLIGHT_MINE && !refresh->worker->draining) {
        filling_keep_going(refresh->filling);
        filling_start(refresh->filling, waiter->flight);
    } else {
        if (answer == FLIGHT_MINE) {
            flight_release(waiter->flight); /* who asks next fetches it */
        } else if (answer == FLIGHT_JOINED) {
            entry_unref(waiter->entry); /* somebody is at it already */
        }
        filling_destroy(refresh->filling);
    }
    free(refresh);
}

static struct filling *make_filling(struct exchange *exchange, const struct exchange_start *start,
                                    const struct cached_look *look, const struct exchange_asking *asking)
{
    struct worker *worker = worker_of(exchange);
    exchange_drop_fetch(exchange);
    if (exchange_prepare_fetch(exchange, start, asking) != RESULT_OK) {
        return NULL;
    }
    struct cached_counters *counters = cached_counters_of(worker, exchange->route);
    struct filling *filling = filling_create(&worker->filling, &exchange->route->filling, &counters->filling,
                                             &filling_http, exchange->fetch, &look->key);
    if (filling == NULL) {
        return NULL;
    }
    filling->asks = look->asks;
    filling->validates_ms = asking->validating != NULL ? asking->validating->freshness.response_ms : 0;
    filling->is_completing = asking->completing != NULL;
    filling->may_find_in_tier = look->object == NULL && look->part == NULL && exchange->cache->runs < RUNS_MAX;
    filling->request_head = arena_copy(&filling->arena, (struct bytes){start->base, start->parser->head.head_bytes});
    filling->scheme_and_authority = arena_copy(&filling->arena, start->authority);
    if (filling->request_head.ptr == NULL || filling->scheme_and_authority.ptr == NULL) {
        filling_destroy(filling);
        return NULL;
    }
    return filling;
}

static const struct cache_head *validating_head(const struct cached_look *look)
{
    const struct cache_head *head = look->object == NULL ? NULL : cache_object_head(look->object);
    return head != NULL && conditional_can_validate(head) ? head : NULL;
}

static void refresh_behind(struct exchange *exchange, const struct exchange_start *start,
                           const struct cached_look *look)
{
    struct worker *worker = worker_of(exchange);
    if (cache_is_in_back_off(worker->cache, look->key.hash, now_ms_of(exchange)) || worker->draining) {
        return;
    }
    const struct exchange_asking asking = {.for_all = true, .validating = validating_head(look)};
    struct refresh *refresh = calloc(1, sizeof(*refresh));
    struct filling *filling = refresh == NULL ? NULL : make_filling(exchange, start, look, &asking);
    if (filling == NULL) {
        free(refresh);
        return; /* the next request tries again */
    }
    exchange_drop_fetch(exchange); /* the filling's alone */
    refresh->worker = worker;
    refresh->filling = filling;
    refresh->waiter.on_answer = refresh_on_answer;
    if (flight_claim(worker->cache, &refresh->waiter, &look->key, look->object, 0, UINT32_MAX) != RESULT_OK) {
        filling_destroy(filling);
        free(refresh);
    }
}

/* ---- fetching ---- */

/* It holds up others that read the same answer: without it they go on. */
static void on_slow(struct entry_reader *reader, uint64_t below, bool others_wait)
{
    (void)below;
    struct exchange *exchange = CONTAINER_OF(reader, struct exchange, reader);
    if (others_wait) {
        metrics_error(&worker_of(exchange)->metrics, METRICS_ERROR_CLIENT_TIMEOUT);
        conn_close(exchange->conn, true);
    }
}

static void read_shared(struct exchange *exchange, struct entry *entry)
{
    entry_reader_join(&exchange->reader, entry, exchange_on_progress);
    exchange->reader.on_slow = on_slow;
}

/* Reads the entry of the fetch that `filling` runs. */
static void follow_filling(struct exchange *exchange, struct flight *flight)
{
    struct filling *filling = exchange->cache->prepared;
    exchange->cache->prepared = NULL;
    exchange_follow_fetch(exchange);
    exchange->reader.on_slow = on_slow;
    filling_start(filling, flight);
}

static void go_alone(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    stop_waiting(cache);
    cache->outcome = EXCHANGE_CACHE_MISS;
    if (cache->prepared != NULL) {
        follow_filling(exchange, NULL);
        return;
    }
    cache->is_alone = true;
    exchange_cache_run(exchange);
}

/* What was joined is not for this one: nothing of it has been shown. */
static void leave_joined(struct exchange *exchange, struct bytes detail)
{
    struct exchange_cache *cache = exchange->cache;
    leave_entry(exchange);
    cache->is_joined = false;
    cache->status.collapsed = false;
    cache->status.detail = detail;
}

static void on_wait_over(struct ring_timer *timer)
{
    struct exchange_cache *cache = CONTAINER_OF(timer, struct exchange_cache, timer);
    leave_joined(cache->exchange, BYTES("wait-timeout"));
    go_alone(cache->exchange);
}

static void join(struct exchange *exchange, struct entry *entry)
{
    struct exchange_cache *cache = exchange->cache;
    struct worker *worker = worker_of(exchange);
    cache->outcome = EXCHANGE_CACHE_JOIN;
    if (cache->run == NULL) {
        drop_prepared(exchange); /* can be made again; an inference request's body is there once */
    }
    cache->is_joined = true;
    cache->status.collapsed = true;
    exchange->entry = entry;
    read_shared(exchange, entry);
    uint32_t wait_ms = config_of(exchange)->coalesce_wait_ms;
    if (entry->status == 0 && wait_ms > 0) {
        ring_timer_set(worker->ring, &cache->timer, ring_now(worker->ring) + wait_ms * NANOS_PER_MS);
    }
    if (entry->status != 0 || entry->state != ENTRY_FILLING) {
        exchange_on_progress(&exchange->reader);
    }
}

static void on_answer(struct flight_waiter *waiter, enum flight_answer answer)
{
    struct exchange_cache *cache = CONTAINER_OF(waiter, struct exchange_cache, waiter);
    struct exchange *exchange = cache->exchange;
    switch (answer) {
    case FLIGHT_MINE: follow_filling(exchange, waiter->flight); break;
    case FLIGHT_JOINED: join(exchange, waiter->entry); break;
    case FLIGHT_LOOK_AGAIN:
        if (cache->run == NULL) {
            drop_prepared(exchange);
        }
        exchange_cache_run(exchange);
        break;
    case FLIGHT_ALONE:
        cache->status.detail = BYTES("not-collapsed");
        go_alone(exchange);
        break;
    }
}

void exchange_cache_claim(struct exchange *exchange, const struct cache_key *key, const struct cache_object *seen,
                          uint8_t variant)
{
    struct exchange_cache *cache = exchange->cache;
    struct worker *worker = worker_of(exchange);
    const struct config_cache *config = config_of(exchange);
    bool may_wait = config->coalesce && !cache->is_alone && cache->runs < RUNS_MAX &&
                    !cache_is_marked_uncacheable(worker->cache, key->hash, now_ms_of(exchange));
    if (!may_wait ||
        flight_claim(worker->cache, &cache->waiter, key, seen, variant, config->coalesce_waiters_max) != RESULT_OK) {
        go_alone(exchange);
    }
}

/* Without the cache: as any proxied request. */
static void bypass(struct exchange *exchange, const struct exchange_start *start)
{
    exchange->cache->outcome = EXCHANGE_CACHE_BYPASS;
    if (exchange_prepare_fetch(exchange, start, NULL) != RESULT_OK) {
        conn_close(exchange->conn, true);
        return;
    }
    exchange_start_fetch(exchange);
}

/* A part that others could not be answered with alone, or a head: goes alone, and is of use to what is stored. */
static void fetch_for_one(struct exchange *exchange, const struct exchange_start *start, struct cached_look *look)
{
    const struct exchange_asking asking = {.for_all = false};
    struct filling *filling = make_filling(exchange, start, look, &asking);
    if (filling == NULL) {
        conn_close(exchange->conn, true);
        return;
    }
    filling->is_for_head = exchange->is_head;
    filling->is_range = !exchange->is_head;
    filling->may_find_in_tier = false; /* it would have all of it, not what is asked for */
    exchange->cache->prepared = filling;
    follow_filling(exchange, NULL);
}

/* What is to be asked for when everybody is to have the answer. */
static void choose_asking(const struct exchange_cache *cache, const struct cached_look *look,
                          struct exchange_asking *ret_asking)
{
    *ret_asking = (struct exchange_asking){.for_all = true};
    /* The origin has not confirmed what is stored, or that cannot be kept: what is there still is not asked about
     * again. */
    if (cache->is_plain || cache->runs >= RUNS_MAX) {
        return;
    }
    ret_asking->validating = validating_head(look);
    if (look->part == NULL) {
        return;
    }
    const struct cache_head *head = cache_object_head(look->part);
    struct validators validators = validators_of_stored(head);
    struct range_partial partial;
    struct range rest;
    if (range_can_combine(&validators) && range_partial_of_stored(cache_head_lines(head), &partial) &&
        partial.range.first == 0 && partial.complete_bytes <= FILLING_JOIN_BYTES_MAX &&
        range_missing(&partial, (struct range){0, partial.complete_bytes - 1}, &rest)) {
        ret_asking->completing = head;
        ret_asking->rest = rest;
        ret_asking->complete_bytes = partial.complete_bytes;
    }
}

static void fetch_for_all(struct exchange *exchange, const struct exchange_start *start, struct cached_look *look)
{
    struct exchange_cache *cache = exchange->cache;
    const struct http_head *head = &start->parser->head;
    int64_t now_ms = now_ms_of(exchange);
    cache->outcome = EXCHANGE_CACHE_MISS;
    bool is_conditional = conditional_is_conditional(head, start->base);
    bool is_range = head->first[HTTP_FIELD_RANGE] != 0;
    /* Conditions of a client's stay where nobody else is to have the answer: the origin may spare its body. */
    bool is_private = look->object == NULL && is_conditional &&
                      cache_is_marked_uncacheable(worker_of(exchange)->cache, look->key.hash, now_ms);
    bool is_for_one = is_range && (look->object == NULL || validating_head(look) == NULL);
    bool has_own_condition =
        conditional_is_for_origin(head, start->base) ||
        (is_for_one && (head->first[HTTP_FIELD_IF_NONE_MATCH] != 0 || head->first[HTTP_FIELD_IF_MODIFIED_SINCE] != 0));
    if (look->asks.no_store || is_private || has_own_condition || (exchange->is_head && look->object == NULL)) {
        look->status.detail = look->asks.no_store ? BYTES("request-no-store") : BYTES_NONE;
        cache->status = look->status;
        bypass(exchange, start);
        return;
    }
    if (is_for_one || exchange->is_head) {
        fetch_for_one(exchange, start, look);
        return;
    }
    struct exchange_asking asking;
    choose_asking(cache, look, &asking);
    cache->asked_why = look->status.forward;
    cache->is_conditional = is_conditional;
    cache->prepared = make_filling(exchange, start, look, &asking);
    if (cache->prepared == NULL) {
        conn_close(exchange->conn, true);
        return;
    }
    exchange_cache_claim(exchange, &look->key, look->object != NULL ? look->object : look->part, 0);
}

/* Whether what is stored may stand in for an answer that the origin fails to give. */
static bool may_serve_failing(const struct cached_look *look, bool is_unreachable, int64_t now_ms)
{
    const struct freshness *freshness = &cache_object_head(look->object)->freshness;
    return freshness_allows_on_error(freshness, &look->asks, now_ms) ||
           (is_unreachable && freshness_allows_disconnected(freshness, &look->asks));
}

static void on_look(struct exchange *exchange, const struct exchange_start *start)
{
    struct exchange_cache *cache = exchange->cache;
    struct cached_look look = {
        .worker = worker_of(exchange),
        .route = exchange->route,
        .key_room = cache->key_room,
    };
    exchange_cache_source(start, &look.source);
    cached_look(&look);
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
    if (look.plan == CACHED_VALIDATE && cache_is_in_back_off(look.worker->cache, look.key.hash, now_ms_of(exchange)) &&
        may_serve_failing(&look, cache_is_unreachable(look.worker->cache, look.key.hash), now_ms_of(exchange))) {
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
            refresh_behind(exchange, start, &look);
        }
        cached_serve(&start->parser->head, start->base, look.object, look.worker->ring, &serving);
        if (exchange_serve(exchange, look.object, &serving, &look.status)) {
            return;
        }
        cache->status.forward = CACHE_STATUS_BYPASS;
        cache->status.detail = BYTES("not-pinned");
        bypass(exchange, start);
        return;
    case CACHED_UNAVAILABLE:
        exchange_answer_error(exchange, 504, "the cache has no fresh answer, and the request allows no other",
                              "only_if_cached", METRICS_ERROR_UPSTREAM_TIMEOUT);
        return;
    case CACHED_BYPASS: bypass(exchange, start); return;
    case CACHED_MISS:
    case CACHED_VALIDATE: fetch_for_all(exchange, start, &look); return;
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
    with_head(exchange, on_look);
}

/* ---- what comes ---- */

static void serve_stale(struct exchange *exchange, const struct exchange_start *start)
{
    struct exchange_cache *cache = exchange->cache;
    struct cached_look look = {
        .worker = worker_of(exchange),
        .route = exchange->route,
        .key_room = cache->key_room,
    };
    exchange_cache_source(start, &look.source);
    cached_look(&look);
    int64_t now_ms = now_ms_of(exchange);
    const struct entry *entry = exchange->reader.entry;
    bool is_unreachable = entry->state == ENTRY_FAILED && filling_is_unreachable(entry->failure);
    if (look.object == NULL || !may_serve_failing(&look, is_unreachable, now_ms)) {
        return;
    }
    leave_entry(exchange);
    struct cached_serving serving;
    cached_serve(&start->parser->head, start->base, look.object, look.worker->ring, &serving);
    look.status.forward = CACHE_STATUS_HIT;
    look.status.detail = is_unreachable ? BYTES("origin-unreachable") : BYTES("stale-if-error");
    if (!exchange_serve(exchange, look.object, &serving, &look.status)) {
        conn_close(exchange->conn, true);
    }
}

/* Whether the answer that another's request brought is right for this one, too. */
static void compare_variant(struct exchange *exchange, const struct exchange_start *start)
{
    const struct entry_variant *variant = exchange->reader.entry->variant;
    size_t bytes = 0;
    enum result result = vary_put_key(variant->fields, &start->parser->head, start->base, exchange->cache->key_room,
                                      CACHED_KEY_ROOM_BYTES, &bytes);
    exchange->cache->is_other_variant =
        result != RESULT_OK || !bytes_equal(variant->key, (struct bytes){exchange->cache->key_room, bytes});
}

/* ---- the client's own conditions, on what was fetched for all ---- */

/* Lines that a stored answer would not have, or that cached_put_head writes. */
static bool keep_as_stored(const void *unused, struct bytes name)
{
    (void)unused;
    return !bytes_equal_nocase(name, BYTES("age")) && !bytes_equal_nocase(name, BYTES("x-request-id"));
}

/* The head of what is being fetched, as if it were stored already. *Gives* it. NULL: memory is out. */
static struct cache_head *head_of_entry(const struct entry *entry, int64_t now_ms)
{
    struct cache_head *head = calloc(1, sizeof(*head) + entry->head_bytes);
    if (head == NULL) {
        return NULL;
    }
    const struct bytes lines = {entry->head->data, entry->head_bytes};
    head->lines_bytes = (uint32_t)(lines_put_kept(head->data, lines, keep_as_stored, NULL) - head->data);
    head->status = entry->status;
    head->has_date = entry->has_date;
    struct freshness *freshness = &head->freshness;
    uint32_t age_s;
    int64_t unix_s;
    freshness->response_ms = now_ms;
    freshness->initial_age_ms = directives_seconds(lines_find(lines, BYTES("age")), &age_s) ? (int64_t)age_s * 1000 : 0;
    struct bytes etag = lines_find(cache_head_lines(head), BYTES("etag"));
    struct bytes modified = lines_find(cache_head_lines(head), BYTES("last-modified"));
    struct bytes date = lines_find(cache_head_lines(head), BYTES("date"));
    if (etag.ptr != NULL) {
        freshness->etag_at = (uint16_t)(etag.ptr - head->data);
        freshness->etag_bytes = (uint16_t)etag.len;
    }
    freshness->date_ms = date.ptr != NULL && http_date_parse(date, now_ms / 1000, &unix_s) ? unix_s * 1000 : now_ms;
    freshness->last_modified_ms =
        modified.ptr != NULL && http_date_parse(modified, now_ms / 1000, &unix_s) ? unix_s * 1000 : -1;
    return head;
}

/* Answers 304 when the client has what has been fetched; the fetch goes on without it. */
static void spare_body(struct exchange *exchange, const struct exchange_start *start)
{
    const struct entry *entry = exchange->reader.entry;
    int64_t now_ms = now_ms_of(exchange);
    struct cache_head *head = head_of_entry(entry, now_ms);
    if (head == NULL ||
        conditional_evaluate(&start->parser->head, start->base, head, now_ms) != CONDITIONAL_NOT_MODIFIED) {
        free(head);
        return;
    }
    struct cached_serving serving = {.head = head, .status = 304};
    struct cache_status status;
    (void)exchange_cache_status(exchange, &status);
    struct conn_answer answer = exchange_answer_of(exchange);
    enum result result = cached_put_head(exchange->conn, &serving, &status, now_ms, &answer);
    free(head);
    exchange->status = 304;
    exchange->head_sent = true;
    if (result != RESULT_OK) {
        conn_close(exchange->conn, true);
        return;
    }
    if (exchange->fetch != NULL && entry->state == ENTRY_FILLING) {
        filling_keep_fetch(exchange->fetch);
    }
    exchange_finish(exchange, answer.keep_alive);
}

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

/* The first news of an entry that another's request fills: true when this one leaves it. */
static bool intercept_joined(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    struct conn *conn = exchange->conn;
    const struct entry *entry = exchange->reader.entry;
    if (entry->is_expelled) {
        leave_joined(exchange, BYTES("not-shared"));
        go_alone(exchange);
        return true;
    }
    if (entry->state == ENTRY_FAILED && entry->failure == RESULT_CANCELED) {
        leave_joined(exchange, BYTES_NONE); /* its readers had left as this one came: not the origin's doing */
        exchange_cache_run(exchange);
        return true;
    }
    if (entry->variant != NULL && cache->key_room != NULL) {
        with_head(exchange, compare_variant);
        if (conn->exchange != exchange) {
            return true;
        }
        if (cache->is_other_variant) {
            leave_joined(exchange, BYTES_NONE);
            go_alone(exchange);
            return true;
        }
    }
    if (cache->prepared != NULL) {
        drop_prepared(exchange); /* the answer is here */
    }
    return false;
}

bool exchange_cache_intercept(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    struct entry *entry = exchange->reader.entry;
    if (entry->status == 0 && entry->state == ENTRY_FILLING && !entry->is_expelled) {
        return false;
    }
    ring_timer_cancel(worker_of(exchange)->ring, &cache->timer);
    if (entry->state == ENTRY_FAILED && entry->is_look_again) {
        cache->is_asked = cache->is_asked || entry->is_stored;
        cache->is_plain = !entry->is_stored && !entry->is_from_tier;
        cache->is_from_tier = entry->is_from_tier;
        cache->is_joined = false;
        leave_entry(exchange);
        exchange_cache_run(exchange);
        return true;
    }
    if (cache->is_joined && intercept_joined(exchange)) {
        return true;
    }
    if (entry->is_from_tier && cache->outcome == EXCHANGE_CACHE_MISS) {
        cache->outcome = EXCHANGE_CACHE_TIER_HIT;
    }
    if (is_origin_failing(entry) && cache->run == NULL && cache->key_room != NULL) {
        struct conn *conn = exchange->conn;
        with_head(exchange, serve_stale);
        return conn->exchange != exchange || exchange->head_sent;
    }
    if (may_spare_body(exchange, entry)) {
        struct conn *conn = exchange->conn;
        with_head(exchange, spare_body);
        return conn->exchange != exchange || exchange->head_sent;
    }
    return false;
}

bool exchange_cache_status(const struct exchange *exchange, struct cache_status *ret_status)
{
    const struct entry *entry = exchange->reader.entry;
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
