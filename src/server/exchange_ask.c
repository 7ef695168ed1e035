/* What the origin is asked when what is stored will not do: for everybody, for this client only, or behind. */
#include <stdlib.h>

#include "base/check.h"
#include "cache/conditional.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"

void exchange_ask_past(struct exchange *exchange, const struct exchange_start *start)
{
    exchange->cache->outcome = EXCHANGE_CACHE_BYPASS;
    if (exchange_prepare_fetch(exchange, start, NULL) != RESULT_OK) {
        conn_close(exchange->conn, true);
        return;
    }
    exchange_start_fetch(exchange);
}

static struct filling *make_filling(struct exchange *exchange, const struct exchange_start *start,
                                    const struct cached_look *look, const struct exchange_asking *asking)
{
    struct worker *worker = exchange_worker(exchange);
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
    filling->may_find_in_tier =
        look->object == NULL && look->part == NULL && exchange->cache->runs < EXCHANGE_CACHE_RUNS_MAX;
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

void exchange_ask_behind(struct exchange *exchange, const struct exchange_start *start, const struct cached_look *look)
{
    struct worker *worker = exchange_worker(exchange);
    if (cache_is_in_back_off(worker->cache, look->key.hash, exchange_now_ms(exchange)) || worker->draining) {
        return;
    }
    const struct exchange_asking asking = {.for_all = true, .validating = validating_head(look)};
    struct refresh *refresh = calloc(1, sizeof(*refresh));
    struct filling *filling = refresh == NULL ? NULL : make_filling(exchange, start, look, &asking);
    if (filling == NULL) {
        free(refresh);
        return; /* the next request tries again */
    }
    exchange->fetch->pass.request.class = SCHED_CLASSES - 1; /* nobody waits for it */
    exchange_drop_fetch(exchange);                           /* the filling's alone */
    refresh->worker = worker;
    refresh->filling = filling;
    refresh->waiter.on_answer = refresh_on_answer;
    if (flight_claim(worker->cache, &refresh->waiter, &look->key, look->object, 0, UINT32_MAX) != RESULT_OK) {
        filling_destroy(filling);
        free(refresh);
    }
}

/* ---- for the client ---- */

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
    exchange_claim_follow(exchange, NULL);
}

/* What is to be asked for when everybody is to have the answer. */
static void choose_asking(const struct exchange_cache *cache, const struct cached_look *look,
                          struct exchange_asking *ret_asking)
{
    *ret_asking = (struct exchange_asking){.for_all = true};
    /* The origin has not confirmed what is stored, or that cannot be kept: what is there still is not asked about
     * again. */
    if (cache->is_plain || cache->runs >= EXCHANGE_CACHE_RUNS_MAX) {
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

void exchange_ask(struct exchange *exchange, const struct exchange_start *start, struct cached_look *look)
{
    struct exchange_cache *cache = exchange->cache;
    const struct http_head *head = &start->parser->head;
    int64_t now_ms = exchange_now_ms(exchange);
    cache->outcome = EXCHANGE_CACHE_MISS;
    bool is_conditional = conditional_is_conditional(head, start->base);
    bool is_range = head->first[HTTP_FIELD_RANGE] != 0;
    /* Conditions of a client's stay where nobody else is to have the answer: the origin may spare its body. */
    bool is_private = look->object == NULL && is_conditional &&
                      cache_is_marked_uncacheable(exchange_worker(exchange)->cache, look->key.hash, now_ms);
    bool is_for_one = is_range && (look->object == NULL || validating_head(look) == NULL);
    bool has_own_condition =
        conditional_is_for_origin(head, start->base) ||
        (is_for_one && (head->first[HTTP_FIELD_IF_NONE_MATCH] != 0 || head->first[HTTP_FIELD_IF_MODIFIED_SINCE] != 0));
    if (look->asks.no_store || is_private || has_own_condition || (exchange->is_head && look->object == NULL)) {
        look->status.detail = look->asks.no_store ? BYTES("request-no-store") : BYTES_NONE;
        cache->status = look->status;
        exchange_ask_past(exchange, start);
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
