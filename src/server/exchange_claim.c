/* Claiming and joining: requests for the same thing at the same time cost one fetch (cache/flight.h). */
#include "base/check.h"
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

void exchange_cache_claim(struct exchange *exchange, const struct cache_key *key, const struct cache_object *seen,
                          uint8_t variant)
{
    struct exchange_cache *cache = exchange->cache;
    struct worker *worker = exchange_worker(exchange);
    const struct config_cache *config = &exchange->route->config->cache;
    bool may_wait = config->coalesce && !cache->is_alone && cache->runs < EXCHANGE_CACHE_RUNS_MAX &&
                    !cache_is_marked_uncacheable(worker->cache, key->hash, exchange_now_ms(exchange));
    if (!may_wait ||
        flight_claim(worker->cache, &cache->waiter, key, seen, variant, config->coalesce_waiters_max) != RESULT_OK) {
        go_alone(exchange);
    }
}

/* ---- what the joined one brings ---- */

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
            go_alone(exchange);
            return true;
        }
    }
    if (cache->prepared != NULL) {
        drop_prepared(exchange); /* the answer is here */
    }
    if (UNLIKELY(entry->ticket != 0)) {
        prefetching_on_use(exchange_worker(exchange), exchange->route, entry->ticket);
    }
    return false;
}
