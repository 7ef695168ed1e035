/* Answering an `http` request, and whoever needs an answer as it is stored, from what is stored. */
#include <stdlib.h>

#include "cache/conditional.h"
#include "cache/lines.h"
#include "http/date.h"
#include "server/exchange_cache.h"
#include "server/exchange_internal.h"

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
    struct worker *worker = exchange_worker(exchange);
    struct entry *view = NULL;
    if (!is_small) {
        view = cache_view(worker->cache, object);
        if (view == NULL) {
            return false;
        }
    }
    struct conn_answer answer = exchange_answer_of(exchange);
    exchange->keep_alive = answer.keep_alive;
    int64_t now_ms = exchange_now_ms(exchange);
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

/* ---- instead of what fails ---- */

bool exchange_may_serve_failing(const struct cached_look *look, bool is_unreachable, int64_t now_ms)
{
    const struct freshness *freshness = &cache_object_head(look->object)->freshness;
    return freshness_allows_on_error(freshness, &look->asks, now_ms) ||
           (is_unreachable && freshness_allows_disconnected(freshness, &look->asks));
}

void exchange_serve_stale(struct exchange *exchange, const struct exchange_start *start)
{
    struct cached_look look;
    exchange_cache_look(exchange, start, &look);
    int64_t now_ms = exchange_now_ms(exchange);
    const struct entry *entry = exchange->reader.entry;
    bool is_unreachable = entry->state == ENTRY_FAILED && filling_is_unreachable(entry->failure);
    if (look.object == NULL || !exchange_may_serve_failing(&look, is_unreachable, now_ms)) {
        return;
    }
    exchange_cache_leave_entry(exchange);
    struct cached_serving serving;
    cached_serve(&start->parser->head, start->base, look.object, look.worker->ring, &serving);
    look.status.forward = CACHE_STATUS_HIT;
    look.status.detail = is_unreachable ? BYTES("origin-unreachable") : BYTES("stale-if-error");
    if (!exchange_serve(exchange, look.object, &serving, &look.status)) {
        conn_close(exchange->conn, true);
    }
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
    freshness->response_ms = entry->freshness != NULL ? entry->freshness->response_ms : now_ms;
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

void exchange_serve_not_modified(struct exchange *exchange, const struct exchange_start *start)
{
    const struct entry *entry = exchange->reader.entry;
    int64_t now_ms = exchange_now_ms(exchange);
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
