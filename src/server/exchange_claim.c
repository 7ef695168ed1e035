/* Claiming and joining: requests for the same thing at the same time cost one fetch (cache/flight.h). */
#include "base/check.h"
#include "cache/freshness.h"
#include "cache/vary.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"
#include "server/prefetching.h"

/* ---- life ---- */

static void on_answer(struct flight_waiter *waiter, enum flight_answer answer);
static void on_wait_over(struct ring_timer *timer);

void exchange_claim_init(struct exchange *exchange)
{
    exchange->cache->waiter.on_answer = on_answer;
    ring_timer_init(&exchange->cache->timer, on_wait_over);
}

static void stop_waiting(struct exchange_cache *cache)
{
    flight_claim_cancel(&cache->waiter);
    ring_timer_cancel(exchange_worker(cache->exchange)->ring, &cache->timer);
}

/* Destroys the filling that was prepared; its fetch stays. */
static void destroy_prepared(struct exchange_cache *cache)
{
    if (cache->prepared != NULL) {
        filling_destroy(cache->prepared);
        cache->prepared = NULL;
    }
}

void exchange_claim_fini(struct exchange *exchange)
{
    stop_waiting(exchange->cache);
    destroy_prepared(exchange->cache);
}

/* Drops the fetch that was prepared and will not be used. */
static void drop_prepared(struct exchange *exchange)
{
    destroy_prepared(exchange->cache);
    exchange_drop_fetch(exchange);
}

/* ---- reading ---- */

/* It holds up others that read the same answer: without it they go on. */
static void on_slow(struct entry_reader *reader, uint64_t below, bool others_wait)
{
    (void)below;
    struct exchange *exchange = CONTAINER_OF(reader, struct exchange, reader);
    if (others_wait) {
        metrics_error(&exchange_worker(exchange)->metrics, METRICS_ERROR_CLIENT_TIMEOUT);
        conn_close(exchange->conn, true);
    }
}

static void read_shared(struct exchange *exchange, struct entry *entry)
{
    entry_reader_join(&exchange->reader, entry, exchange_on_progress);
    exchange->reader.on_slow = on_slow;
}

void exchange_claim_follow(struct exchange *exchange, struct flight *flight)
{
    struct filling *filling = exchange->cache->prepared;
    exchange->cache->prepared = NULL;
    exchange_follow_fetch(exchange);
    exchange->reader.on_slow = on_slow;
    filling_start(filling, flight);
}

/* ---- the answer to a claim ---- */

static void go_alone(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    stop_waiting(cache);
    cache->outcome = EXCHANGE_CACHE_MISS;
    if (cache->prepared != NULL) {
        exchange_claim_follow(exchange, NULL);
        return;
    }
    cache->is_alone = true;
    exchange_cache_run(exchange);
}

/* What was joined is not for this one: nothing of it has been shown. */
static void leave_joined(struct exchange *exchange, struct bytes detail)
{
    struct exchange_cache *cache = exchange->cache;
    exchange_cache_leave_entry(exchange);
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
    struct worker *worker = exchange_worker(exchange);
    cache->outcome = EXCHANGE_CACHE_JOIN;
    if (cache->run == NULL) {
        drop_prepared(exchange); /* can be made again; an inference request's body is there once */
    }
    cache->is_joined = true;
    cache->status.collapsed = true;
    exchange->entry = entry;
    read_shared(exchange, entry);
    uint32_t wait_ms = exchange->route->config->cache.coalesce_wait_ms;
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
    case FLIGHT_MINE: exchange_claim_follow(exchange, waiter->flight); break;
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

/* The key that is claimed, when the answer to this very key has proved to be another variant: those to whom the same
 * variant will do share the next fetch, though none of it is stored yet. .bytes.ptr NULL: memory is out. */
static struct cache_key varied_key(struct exchange *exchange, const struct cache_key *key)
{
    const struct bytes label = BYTES("\nvaries:"); /* nothing is stored under such a key */
    const struct bytes varied_by = exchange->cache->varied_by;
    char *start = arena_alloc(&exchange->arena, key->primary_bytes + label.len + varied_by.len);
    if (start == NULL) {
        return (struct cache_key){0};
    }
    char *at = bytes_put(start, (struct bytes){key->bytes.ptr, key->primary_bytes});
    at = bytes_put(at, label);
    at = bytes_put(at, varied_by);
    return cache_key_make(cache_of(exchange_worker(exchange)->cache), (struct bytes){start, (size_t)(at - start)},
                          key->primary_bytes);
}

void exchange_cache_claim(struct exchange *exchange, const struct cache_key *key, const struct cache_object *seen,
                          uint8_t variant)
{
    struct exchange_cache *cache = exchange->cache;
    struct worker *worker = exchange_worker(exchange);
    const struct config_cache *config = &exchange->route->config->cache;
    bool may_wait = config->coalesce && !cache->is_alone && cache->runs < EXCHANGE_CACHE_RUNS_MAX &&
                    !cache_is_marked_uncacheable(worker->cache, key->hash, exchange_now_ms(exchange));
    struct cache_key claimed = *key;
    if (cache->varied_by.len > 0 && cache->claimed_hash == key->hash) {
        claimed = varied_key(exchange, key);
    }
    cache->claimed_hash = key->hash;
    if (!may_wait || claimed.bytes.ptr == NULL ||
        flight_claim(worker->cache, &cache->waiter, &claimed, seen, variant, config->coalesce_waiters_max) !=
            RESULT_OK) {
        go_alone(exchange);
    }
}

/* ---- what the joined one brings ---- */

/* "fields\nwhat the request says of them". .ptr NULL: memory is out. */
static struct bytes put_varied_by(struct exchange *exchange, struct bytes fields, struct bytes said)
{
    char *start = arena_alloc(&exchange->arena, fields.len + 1 + said.len);
    if (start == NULL) {
        return BYTES_NONE;
    }
    char *at = bytes_put(start, fields);
    *at++ = '\n';
    at = bytes_put(at, said);
    return (struct bytes){start, (size_t)(at - start)};
}

/* Whether the answer that another's request brought is right for this one, too. */
static void compare_variant(struct exchange *exchange, const struct exchange_start *start)
{
    struct exchange_cache *cache = exchange->cache;
    const struct entry_variant *variant = exchange->reader.entry->variant;
    size_t bytes = 0;
    enum result result = vary_put_key(variant->fields, &start->parser->head, start->base, cache->key_room,
                                      CACHED_KEY_ROOM_BYTES, &bytes);
    const struct bytes said = {cache->key_room, bytes};
    cache->is_other_variant = result != RESULT_OK || !bytes_equal(variant->key, said);
    cache->varied_by = BYTES_NONE;
    if (cache->is_other_variant && result == RESULT_OK) {
        cache->varied_by = put_varied_by(exchange, variant->fields, said);
    }
}

/* Whether an answer that was on its way before this request came is still fresh enough for it, as if it were stored
 * (RFC 9111 §4). One that came later is as good as the request's own. */
static void judge_age(struct exchange *exchange, const struct exchange_start *start)
{
    struct directives_request asks;
    directives_read_request(&start->parser->head, start->base, &asks);
    enum freshness_use use =
        freshness_decide(exchange->reader.entry->freshness, &asks, exchange_now_ms(exchange), NULL);
    exchange->cache->is_too_old = use != FRESHNESS_FRESH && use != FRESHNESS_STALE;
}

/* True when what was joined is too old, and the exchange goes on without it, or is gone. */
static bool leave_too_old(struct exchange *exchange)
{
    struct exchange_cache *cache = exchange->cache;
    const struct conn *conn = exchange->conn;
    const struct freshness *freshness = exchange->reader.entry->freshness;
    cache->is_late = freshness != NULL && cache->run == NULL && freshness->response_ms < cache->began_ms;
    if (!cache->is_late) {
        return false;
    }
    exchange_cache_with_head(exchange, judge_age);
    if (conn->exchange != exchange) {
        return true;
    }
    if (cache->is_too_old) {
        leave_joined(exchange, BYTES("not-fresh"));
        go_alone(exchange);
    }
    return cache->is_too_old;
}

bool exchange_claim_age(const struct exchange *exchange, uint32_t *ret_age_s)
{
    const struct exchange_cache *cache = exchange->cache;
    if (!cache->is_joined || !cache->is_late) {
        return false;
    }
    *ret_age_s = freshness_age_s(exchange->reader.entry->freshness, exchange_now_ms(exchange));
    return true;
}

bool exchange_claim_intercept(struct exchange *exchange)
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
        exchange_cache_with_head(exchange, compare_variant);
        if (conn->exchange != exchange) {
            return true;
        }
        if (cache->is_other_variant) {
            leave_joined(exchange, BYTES_NONE);
            if (cache->varied_by.len > 0) {
                exchange_cache_run(exchange);
            } else {
                go_alone(exchange);
            }
            return true;
        }
    }
    if (leave_too_old(exchange)) {
        return true;
    }
    if (cache->prepared != NULL) {
        drop_prepared(exchange); /* the answer is here */
    }
    if (UNLIKELY(entry->ticket != 0)) {
        prefetching_on_use(exchange_worker(exchange), exchange->route, entry->ticket);
    }
    return false;
}
