/* The answer's way from the entry to the client. */
#include <stdlib.h>

#include "base/check.h"
#include "cache/lines.h"
#include "server/exchange_internal.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->conn->worker;
}

/* ---- whole answers ---- */

enum { ERROR_LINES_BYTES_MAX = 256 };

static void finish_queued(struct exchange *exchange, enum result result, uint16_t status, bool keep_alive)
{
    exchange->status = status;
    if (result != RESULT_OK) {
        conn_close(exchange->conn, true);
        return;
    }
    exchange->head_sent = true;
    exchange_finish(exchange, keep_alive);
}

struct conn_answer exchange_answer_of(const struct exchange *exchange)
{
    return (struct conn_answer){
        .request_id = exchange->request_id,
        .version_minor = exchange->version_minor,
        .keep_alive = exchange->keep_alive && exchange->body_done && !worker_of(exchange)->draining,
    };
}

void exchange_answer_fixed(struct exchange *exchange)
{
    struct conn_answer answer = exchange_answer_of(exchange);
    answer.fixed_head = exchange->route->fixed_head;
    if (!exchange->is_head) {
        answer.body = exchange->route->config->body;
    }
    exchange->sent_bytes = answer.body.len;
    enum result result = conn_answer(exchange->conn, &answer);
    finish_queued(exchange, result, exchange->route->config->status, answer.keep_alive);
}

void exchange_answer_error(struct exchange *exchange, uint16_t status, const char *message, const char *code,
                           enum metrics_error kind)
{
    exchange_answer_error_with(exchange, status, message, code, kind,
                               status == 503 ? CONN_OVERLOADED_LINES : BYTES_NONE);
}

void exchange_answer_error_with(struct exchange *exchange, uint16_t status, const char *message, const char *code,
                                enum metrics_error kind, struct bytes lines)
{
    metrics_error(&worker_of(exchange)->metrics, kind);
    struct conn_answer answer = exchange_answer_of(exchange);
    struct api_error error = {.status = status, .message = message, .code = code};
    char extra[CACHE_STATUS_BYTES_MAX + 64 + ERROR_LINES_BYTES_MAX];
    CHECK(lines.len <= ERROR_LINES_BYTES_MAX);
    char *at = bytes_put(extra, lines);
    struct cache_status cache_status;
    if (exchange->cache != NULL && exchange_cache_status(exchange, &cache_status)) {
        at = bytes_put(at, BYTES("Cache-Status: "));
        at += cache_status_put(at, &cache_status);
        at = bytes_put(at, BYTES("\r\n"));
    }
    enum result result = conn_answer_error(exchange->conn, exchange_dialect(exchange->route), &error,
                                           (struct bytes){extra, (size_t)(at - extra)}, &answer, exchange->is_head);
    finish_queued(exchange, result, status, answer.keep_alive);
}

void exchange_answer_json(struct exchange *exchange, uint16_t status, struct bytes json)
{
    struct conn_answer answer = exchange_answer_of(exchange);
    struct bytes reason = http_reason(status);
    answer.fixed_head =
        arena_format(&exchange->arena, "HTTP/1.1 %u %.*s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n",
                     status, BYTES_ARG(reason), json.len);
    answer.body = exchange->is_head ? BYTES_NONE : json;
    answer.copy_body = true;
    exchange->sent_bytes = answer.body.len;
    enum result result = answer.fixed_head.ptr == NULL ? RESULT_NO_MEMORY : conn_answer(exchange->conn, &answer);
    finish_queued(exchange, result, status, answer.keep_alive);
}

/* ---- an upstream's answer ---- */

static bool has_no_body(const struct exchange *exchange, const struct entry *entry)
{
    return exchange->is_head || entry->status == 204 || entry->status == 304;
}

/* Decides the framing: the length where it is known, else chunks, else (HTTP/1.0) the end of the connection. */
static char *put_framing(struct exchange *exchange, char *at)
{
    const struct entry *entry = exchange->reader.entry;
    if (entry->status == 204) {
        return at; /* it has none, whatever the backend said (RFC 9110 §8.6) */
    }
    bool is_whole = entry->state == ENTRY_COMPLETE && entry->trailers == NULL && !entry->is_event_stream;
    if (entry->has_content_length || (is_whole && !has_no_body(exchange, entry))) {
        at = bytes_put(at, BYTES("Content-Length: "));
        at += bytes_put_u64(at, entry->has_content_length ? entry->content_length : entry->body_bytes);
        return bytes_put(at, BYTES("\r\n"));
    }
    if (has_no_body(exchange, entry)) {
        return at;
    }
    if (exchange->version_minor == 0) {
        exchange->is_until_close = true;
        exchange->keep_alive = false;
        return at;
    }
    exchange->is_chunked = true;
    return bytes_put(at, BYTES("Transfer-Encoding: chunked\r\n"));
}

static bool is_not_age(const void *unused, struct bytes name)
{
    (void)unused;
    return !bytes_equal_nocase(name, BYTES("age"));
}

static char *put_lines(const struct exchange *exchange, char *at)
{
    const struct entry *entry = exchange->reader.entry;
    const struct bytes lines = {entry->head->data, entry->head_bytes};
    uint32_t age_s;
    if (exchange->cache == NULL || !exchange_claim_age(exchange, &age_s)) {
        return bytes_put(at, lines);
    }
    at = lines_put_kept(at, lines, is_not_age, NULL);
    at = bytes_put(at, BYTES("Age: "));
    at += bytes_put_u64(at, age_s);
    return bytes_put(at, BYTES("\r\n"));
}

/* What call it was a part of: an item with a parameter (RFC 8941 §3.3). */
static char *put_batch(const struct entry *entry, char *at)
{
    if (entry->batch_items == 0) {
        return at;
    }
    at = bytes_put(at, BYTES("X-Sluice-Batch: "));
    at += bytes_put_u64(at, entry->batch_items);
    at = bytes_put(at, BYTES("; requests="));
    at += bytes_put_u64(at, entry->batch_requests);
    return bytes_put(at, BYTES("\r\n"));
}

static enum result send_head(struct exchange *exchange, struct outbox *outbox)
{
    const struct entry *entry = exchange->reader.entry;
    size_t bytes_max = 192 + entry->head_bytes + CONN_COMMON_BYTES_MAX + exchange->request_id.len + 96;
    struct cache_status status;
    bool has_status = exchange_cache_status(exchange, &status);
    bytes_max += has_status ? CACHE_STATUS_BYTES_MAX + 32 : 0;
    char *start = outbox_reserve(outbox, bytes_max);
    if (start == NULL) {
        return RESULT_NO_MEMORY;
    }
    char *at = start;
    struct bytes line = http_status_line(entry->status);
    if (line.ptr != NULL) {
        at = bytes_put(at, line);
    } else {
        at = bytes_put(at, BYTES("HTTP/1.1 "));
        at += bytes_put_u64(at, entry->status);
        at = bytes_put(at, BYTES(" \r\n")); /* the phrase may be empty (RFC 9112 §4) */
    }
    at = put_lines(exchange, at);
    at = put_framing(exchange, at);
    if (has_status) {
        at = bytes_put(at, BYTES("Cache-Status: "));
        at += cache_status_put(at, &status);
        at = bytes_put(at, BYTES("\r\n"));
    }
    at = put_batch(entry, at);
    at = bytes_put(at, BYTES("Via: 1.1 sluice\r\n"));
    struct conn_answer answer = exchange_answer_of(exchange);
    answer.keep_alive = exchange->keep_alive && !worker_of(exchange)->draining;
    exchange->keep_alive = answer.keep_alive;
    if (entry->has_request_id) {
        answer.request_id = BYTES_NONE; /* the backend has said its own */
    }
    at = conn_put_common_fields(exchange->conn, at, &answer, entry->has_date);
    exchange->status = entry->status;
    exchange->head_sent = true;
    return outbox_commit(outbox, (size_t)(at - start));
}

void exchange_on_interim(struct fetch_interim *interim, const struct http_head *head, const char *base)
{
    struct exchange *exchange = CONTAINER_OF(interim, struct exchange, interim);
    if (exchange->version_minor == 0 || exchange->head_sent) {
        return;
    }
    /* One that is lost for want of memory is no loss to the answer. */
    struct outbox *outbox = conn_outbox(exchange->conn);
    if (outbox != NULL && forward_add_interim(outbox, head, base) == RESULT_OK) {
        conn_flush(exchange->conn);
    }
}

/* Moves what the entry has into the outbox, as far as there is room. */
static enum result send_body(struct exchange *exchange, struct outbox *outbox)
{
    enum result result = RESULT_OK;
    while (result == RESULT_OK && outbox_has_room(outbox)) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(&exchange->reader, &hold);
        run.len = run.len < exchange->body_left ? run.len : exchange->body_left;
        if (run.len == 0) {
            break;
        }
        exchange->body_left -= run.len;
        result = forward_add_body(outbox, run, hold, exchange->is_chunked);
        exchange->sent_bytes += run.len;
        entry_reader_pass(&exchange->reader, run.len);
    }
    return result;
}

static void answer_failure(struct exchange *exchange)
{
    const struct entry *entry = exchange->reader.entry;
    switch (entry->failure) {
    case RESULT_TIMEOUT: {
        bool connecting = !entry->was_connected;
        exchange_answer_error(exchange, 504,
                              connecting ? "the upstream could not be reached in time"
                                         : "the upstream did not answer in time",
                              "upstream_timeout", METRICS_ERROR_UPSTREAM_TIMEOUT);
        break;
    }
    case RESULT_SHED: exchange_answer_shed(exchange); break;
    case RESULT_LIMIT:
    case RESULT_NO_MEMORY:
        exchange_answer_error(exchange, 503, "the gateway has no room for this request now", "overloaded",
                              METRICS_ERROR_OVERLOAD);
        break;
    case RESULT_PROTOCOL:
        exchange_answer_error(exchange, 502,
                              entry->failure_text != NULL ? entry->failure_text
                                                          : "the upstream's response is not valid HTTP",
                              "upstream_protocol_error", METRICS_ERROR_UPSTREAM_PROTOCOL);
        break;
    case RESULT_CLOSED:
    case RESULT_RESET:
        if (entry->was_connected) {
            exchange_answer_error(exchange, 502, "the upstream closed the connection without an answer",
                                  "upstream_closed", METRICS_ERROR_UPSTREAM_PROTOCOL);
            break;
        }
        /* fall through */
    default:
        exchange_answer_error(exchange, 502, "the upstream could not be reached", "upstream_unreachable",
                              METRICS_ERROR_UPSTREAM_CONNECT);
    }
}

/* The answer broke off after it had begun: the client must not take it for whole. An event stream is told why
 * first, and never gets its last chunk. */
static void break_off(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    struct conn *conn = exchange->conn;
    const struct entry *entry = exchange->reader.entry;
    bool is_timeout = entry->failure == RESULT_TIMEOUT;
    metrics_error(&worker->metrics, is_timeout ? METRICS_ERROR_UPSTREAM_TIMEOUT : METRICS_ERROR_UPSTREAM_PROTOCOL);
    struct outbox *outbox = conn_outbox(conn);
    if (entry->is_event_stream && exchange_dialect(exchange->route) == API_DIALECT_OPENAI && outbox != NULL) {
        struct api_error error = {.status = is_timeout ? 504 : 502,
                                  .message = is_timeout ? "the upstream stopped in the middle of the stream"
                                                        : "the upstream broke off in the middle of the stream",
                                  .code = is_timeout ? "upstream_timeout" : "upstream_closed"};
        struct bytes event = api_error_event(&exchange->arena, &error);
        enum result result = RESULT_OK;
        if (entry->is_mid_event) {
            result = forward_add_body(outbox, BYTES("\n\n"), NULL, exchange->is_chunked);
        }
        if (result == RESULT_OK && event.ptr != NULL) {
            result = forward_add_body(outbox, event, NULL, exchange->is_chunked);
        }
        if (result == RESULT_OK) {
            exchange_finish(exchange, false);
            return;
        }
    }
    if (exchange->is_until_close || outbox == NULL) {
        /* Only a reset tells this client that the end is not the end; what is queued is lost with it. */
        conn_close(conn, true);
        return;
    }
    exchange_finish(exchange, false);
}

static void exchange_pump(struct exchange *exchange)
{
    if (exchange->cache != NULL && !exchange->head_sent && exchange_cache_intercept(exchange)) {
        return;
    }
    if (!exchange->head_sent && exchange_invalidation_is_open(exchange)) {
        return;
    }
    struct entry *entry = exchange->reader.entry;
    if (entry->status == 0) {
        if (entry->state == ENTRY_FAILED) {
            answer_failure(exchange);
        }
        return;
    }
    struct conn *conn = exchange->conn;
    struct outbox *outbox = conn_outbox(conn);
    enum result result = outbox == NULL ? RESULT_NO_MEMORY : RESULT_OK;
    if (result == RESULT_OK && !exchange->head_sent) {
        if (entry->state == ENTRY_FAILED) {
            answer_failure(exchange); /* nothing of it has been shown: say what happened */
            return;
        }
        result = send_head(exchange, outbox);
    }
    if (result == RESULT_OK) {
        result = send_body(exchange, outbox);
    }
    bool at_end =
        (entry_reader_is_level(&exchange->reader) && entry->state != ENTRY_FILLING) || exchange->body_left == 0;
    if (result == RESULT_OK && at_end && entry->state == ENTRY_FAILED && exchange->body_left > 0) {
        break_off(exchange);
        return;
    }
    if (result == RESULT_OK && at_end && exchange->is_chunked) {
        result = forward_add_body_end(outbox, (struct bytes){entry->trailers, entry->trailer_bytes});
    }
    if (result != RESULT_OK) {
        metrics_error(&worker_of(exchange)->metrics, METRICS_ERROR_OVERLOAD);
        conn_close(conn, true);
    } else if (at_end) {
        exchange_finish(exchange, true);
    } else {
        conn_flush(conn);
    }
}

void exchange_on_progress(struct entry_reader *reader)
{
    exchange_pump(CONTAINER_OF(reader, struct exchange, reader));
}

bool exchange_awaits_sent(const struct exchange *exchange)
{
    return exchange->reader.entry != NULL && exchange->head_sent && exchange->body_left > 0 &&
           !entry_reader_is_level(&exchange->reader);
}

void exchange_on_sent(struct exchange *exchange)
{
    if (exchange->reader.entry != NULL && exchange->head_sent) {
        exchange_pump(exchange);
    }
}
