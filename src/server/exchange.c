/* An exchange's beginning and end, and its request's body. The answer is in exchange_answer.c. */
#include "server/exchange.h"

#include <stdlib.h>
#include <string.h>

#include "api/inference.h"
#include "base/check.h"
#include "server/batches.h"
#include "server/cache_api.h"
#include "server/cached.h"
#include "server/exchange_internal.h"
#include "server/prefetching.h"

static struct worker *worker_of(const struct exchange *exchange)
{
    return exchange->conn->worker;
}

enum api_dialect exchange_dialect(const struct route *route)
{
    return route->config->kind == CONFIG_ROUTE_INFERENCE ? API_DIALECT_OPENAI : API_DIALECT_PLAIN;
}

/* ---- life ---- */

static struct exchange *exchange_acquire(struct worker *worker)
{
    struct exchange *exchange = worker->free_exchanges;
    if (exchange != NULL) {
        worker->free_exchanges = exchange->next_free;
    } else {
        exchange = malloc(sizeof(*exchange));
        if (exchange == NULL) {
            return NULL;
        }
    }
    memset(exchange, 0, offsetof(struct exchange, body));
    exchange->body.trailers = NULL;
    exchange->body.received_bytes = 0;
    arena_init(&exchange->arena, exchange->arena_lent, sizeof(exchange->arena_lent));
    return exchange;
}

static void exchange_release(struct worker *worker, struct exchange *exchange)
{
    entry_reader_leave(&exchange->reader);
    if (exchange->cache != NULL) {
        exchange_cache_fini(exchange);
    }
    if (exchange->entry != NULL) {
        entry_unref(exchange->entry);
    }
    if (exchange->invalidation != NULL) {
        exchange_invalidation_leave(exchange);
    }
    if (exchange->gathering != NULL) {
        model_gathering_cancel(exchange->gathering);
    }
    exchange_drop_fetch(exchange);
    if (exchange->deletion != NULL) {
        cache_api_leave(exchange->deletion);
    }
    if (exchange->body_kind == EXCHANGE_BODY_STREAMED) {
        entry_fini(&exchange->stream);
    }
    http_body_fini(&exchange->body);
    free(exchange->buffer);
    arena_fini(&exchange->arena);
    exchange->next_free = worker->free_exchanges;
    worker->free_exchanges = exchange;
    counter_add(&worker->metrics.active_requests, (uint64_t)-1);
}

void exchange_pool_fini(struct worker *worker)
{
    while (worker->free_exchanges != NULL) {
        struct exchange *exchange = worker->free_exchanges;
        worker->free_exchanges = exchange->next_free;
        free(exchange);
    }
}

static void exchange_log(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    nanos now = ring_now(worker->ring);
    if (exchange->conn->is_admin) {
        return;
    }
    metrics_request(&worker->metrics, exchange->route->index, exchange->method, exchange->status,
                    now - exchange->started_ns);
    if (!worker->access_log.is_on) {
        return;
    }
    const struct fetch *fetch = exchange->fetch;
    bool has_endpoint = fetch != NULL && fetch->endpoint != NULL;
    bool has_first = fetch != NULL && fetch->first_byte_ns != 0;
    access_log_write(&worker->access_log,
                     &(struct access_log_line){
                         .unix_ms = ring_unix_ms(worker->ring),
                         .client = conn_client(exchange->conn),
                         .method = exchange->log_method,
                         .target = exchange->log_target,
                         .host = exchange->log_host,
                         .route = exchange->route->config->name,
                         .endpoint = has_endpoint ? fetch->endpoint->text : BYTES_NONE,
                         .request_id = exchange->request_id,
                         .status = exchange->status,
                         .request_bytes = exchange->body.received_bytes,
                         .response_bytes = exchange->sent_bytes,
                         .duration_ns = now - exchange->started_ns,
                         .first_byte_ns = has_first ? fetch->first_byte_ns - exchange->started_ns : 0,
                     });
}

void exchange_finish(struct exchange *exchange, bool keep_alive)
{
    struct conn *conn = exchange->conn;
    struct worker *worker = conn->worker;
    CHECK(!exchange->is_over);
    if (UNLIKELY(prefetching_is_on(exchange->route))) {
        prefetching_on_exchange(exchange);
    }
    exchange->is_over = true;
    exchange_log(exchange);
    /* What is left of the request's body cannot be told from a next request. */
    bool goes_on = keep_alive && exchange->keep_alive && exchange->body_done && !worker->draining;
    exchange_release(worker, exchange);
    conn_exchange_over(conn, goes_on);
}

void exchange_abort(struct exchange *exchange)
{
    struct worker *worker = worker_of(exchange);
    if (exchange->is_over) {
        return;
    }
    exchange->is_over = true;
    exchange->status = exchange->status == 0 ? 499 : exchange->status;
    exchange_log(exchange);
    metrics_error(&worker->metrics, METRICS_ERROR_CLIENT_CLOSED);
    if (exchange->body_kind == EXCHANGE_BODY_STREAMED && exchange->stream.state == ENTRY_FILLING) {
        entry_fail(&exchange->stream, RESULT_CANCELED);
    }
    exchange_release(worker, exchange);
}

/* ---- the beginning ---- */

static bool copy_for_log(struct exchange *exchange, const struct exchange_start *start)
{
    const struct http_head *head = &start->parser->head;
    exchange->request_id = arena_copy(&exchange->arena, start->request_id);
    bool ok = exchange->request_id.ptr != NULL;
    if (ok && worker_of(exchange)->access_log.is_on) {
        exchange->log_method = arena_copy(&exchange->arena, http_head_method(head, start->base));
        exchange->log_target = arena_copy(&exchange->arena, http_head_target(head, start->base));
        exchange->log_host = arena_copy(&exchange->arena, start->authority);
        ok = exchange->log_method.ptr != NULL && exchange->log_target.ptr != NULL;
    }
    return ok;
}

/* Receives no more of the body until the backend has taken some of it. */
static void stream_hold(struct exchange *exchange)
{
    if (!exchange->conn->receive_paused) {
        exchange->held_since_ns = ring_now(worker_of(exchange)->ring);
        conn_pause_receive(exchange->conn);
    }
}

/* The time for which we held the body back is not counted against the client's rate. */
static void stream_go_on(struct exchange *exchange)
{
    if (exchange->held_since_ns != 0) {
        exchange->body_started_ns += ring_now(worker_of(exchange)->ring) - exchange->held_since_ns;
        exchange->held_since_ns = 0;
    }
    conn_resume_receive(exchange->conn);
    conn_arm_timer(exchange->conn); /* nothing was timed meanwhile */
}

static void stream_on_drained(struct entry_filler *filler)
{
    stream_go_on(CONTAINER_OF(filler, struct exchange, stream_filler));
}

/* The fetch takes no more of the body: an answer is on its way, or a failure. The rest is read away. */
static void stream_on_abandoned(struct entry_filler *filler)
{
    struct exchange *exchange = CONTAINER_OF(filler, struct exchange, stream_filler);
    if (!exchange->is_over) {
        stream_go_on(exchange);
    }
}

/* Where the endpoints offer different models, only those that have this one are used. */
static void allow_those_with(struct fetch_request *request, struct bytes model)
{
    const struct model_directory *directory = request->upstream->models;
    if (directory != NULL && model_directory_matters(directory)) {
        request->endpoints_allowed = model_directory_endpoints(directory, model);
    }
}

/* Makes the fetch with its head, while the client's head is still there to be read. */
enum result exchange_prepare_fetch(struct exchange *exchange, const struct exchange_start *start,
                                   const struct exchange_asking *asking)
{
    struct worker *worker = worker_of(exchange);
    const struct config_route *config = exchange->route->config;
    struct fetch *fetch = fetch_create(&worker->proxy, true);
    if (fetch == NULL) {
        return RESULT_NO_MEMORY;
    }
    exchange->fetch = fetch;
    struct forward forward = {
        .head = &start->parser->head,
        .base = start->base,
        .path = start->target->path,
        .query = start->target->query,
        .authority = start->authority,
        .client = conn_client(exchange->conn),
        .request_id = exchange->request_id,
    };
    if (asking != NULL) {
        forward.for_all = asking->for_all;
        forward.validating = asking->validating;
        forward.completing = asking->completing;
        forward.rest = asking->rest;
        forward.complete_bytes = asking->complete_bytes;
    }
    /* What the backend would read another way than the routes did goes out as the routes have read it: else a request
     * could come in by one route and be taken for another's. Everything else keeps the client's own bytes. */
    bool is_normal = start->path.ptr == start->target->path.ptr;
    if (!is_normal && http_path_is_ambiguous(start->target->path)) {
        forward.path = start->path;
    }
    if (config->kind == CONFIG_ROUTE_INFERENCE) {
        forward.path = inference_upstream_path(&exchange->arena, start->path);
        exchange->is_model_list = exchange->method == HTTP_GET && inference_is_model_list(forward.path);
    }
    fetch->request.upstream = &worker->upstreams[config->upstream];
    fetch->request.endpoints_allowed = UINT64_MAX;
    fetch->request.is_head = exchange->is_head && !forward.for_all;
    exchange_admission_prepare(exchange, start);
    struct bytes model;
    if (config->kind == CONFIG_ROUTE_INFERENCE && inference_model_in_path(&exchange->arena, forward.path, &model)) {
        allow_those_with(&fetch->request, model);
    }
    return forward_request_head(&forward, &fetch->arena, &fetch->request);
}

static void prepare_body(struct exchange *exchange, const struct exchange_start *start)
{
    const struct http_head *head = &start->parser->head;
    const struct config_route *config = exchange->route->config;
    exchange->body_bytes_max = config->body_bytes_max;
    if (head->body == HTTP_BODY_NONE) {
        exchange->body_done = true;
        if (exchange->fetch != NULL) {
            exchange->fetch->request.has_length = head->has_content_length;
        }
        return;
    }
    http_body_init(&exchange->body, start->parser);
    exchange->body_started_ns = exchange->started_ns;
    if (config->kind == CONFIG_ROUTE_RESPOND) {
        exchange->body_kind = EXCHANGE_BODY_AWAY;
    } else if (config->kind == CONFIG_ROUTE_INFERENCE) {
        exchange->body_kind = EXCHANGE_BODY_BUFFERED;
    } else {
        exchange->body_kind = EXCHANGE_BODY_STREAMED;
        exchange->stream_filler =
            (struct entry_filler){.on_drained = stream_on_drained, .on_abandoned = stream_on_abandoned};
        entry_init(&exchange->stream, &worker_of(exchange)->pool, &exchange->stream_filler,
                   EXCHANGE_STREAM_WINDOW_BYTES, true);
        exchange->stream.rewind_bytes_max = EXCHANGE_STREAM_REWIND_BYTES;
        struct fetch_request *request = &exchange->fetch->request;
        request->stream = &exchange->stream;
        request->stream_is_chunked = head->body == HTTP_BODY_CHUNKED;
        request->has_length = head->body == HTTP_BODY_LENGTH;
        request->length = head->content_length;
    }
}

void exchange_follow_fetch(struct exchange *exchange)
{
    struct fetch *fetch = exchange->fetch;
    exchange->interim.on_interim = exchange_on_interim;
    fetch->interim = &exchange->interim;
    entry_reader_join(&exchange->reader, &fetch->entry, exchange_on_progress);
}

void exchange_drop_fetch(struct exchange *exchange)
{
    struct fetch *fetch = exchange->fetch;
    if (fetch != NULL) {
        exchange->fetch = NULL;
        fetch->interim = NULL;
        fetch_unref(fetch);
    }
}

void exchange_start_fetch(struct exchange *exchange)
{
    exchange_follow_fetch(exchange);
    fetch_start(exchange->fetch);
}

/* Where the endpoints offer different models, only those that have the one asked for are used; and each model has its
 * own gate. */
static void choose_by_model(struct exchange *exchange)
{
    struct fetch_request *request = &exchange->fetch->request;
    const struct model_directory *directory = request->upstream->models;
    bool is_gated = exchange_admission_wants_model(exchange);
    bool is_divided = directory != NULL && model_directory_matters(directory);
    struct bytes body = {request->body, request->body_bytes};
    struct bytes model = BYTES_NONE;
    if (is_gated) {
        model = exchange_admission_choose(exchange);
    } else if (is_divided && !inference_model(&exchange->arena, body, &model)) {
        model = BYTES_NONE;
    }
    if (is_divided && model.ptr != NULL) {
        request->endpoints_allowed = model_directory_endpoints(directory, model);
    }
}

/* The request's body is complete, or needs not be awaited. */
static void exchange_on_body_ready(struct exchange *exchange)
{
    if (exchange->body_kind == EXCHANGE_BODY_BUFFERED) {
        struct fetch_request *request = &exchange->fetch->request;
        request->body = exchange->buffer;
        request->body_bytes = exchange->buffered;
        request->has_length = true;
        request->length = exchange->buffered;
        exchange->buffer = NULL;
        choose_by_model(exchange);
        batches_take(exchange);
    }
    if (exchange->deletion != NULL) {
        cache_api_delete(exchange, exchange->deletion);
    } else if (exchange->route->config->kind == CONFIG_ROUTE_RESPOND) {
        exchange_answer_fixed(exchange);
    } else if (exchange->cache != NULL) {
        exchange_cache_run(exchange);
    } else if (exchange->is_model_list && exchange_begin_model_list(exchange)) {
        return;
    } else {
        exchange_start_fetch(exchange);
    }
}

static bool inference_concerns_cache(const struct exchange *exchange)
{
    const struct config_route *config = exchange->route->config;
    return config->kind == CONFIG_ROUTE_INFERENCE && config->cache.enabled && exchange->method == HTTP_POST &&
           worker_of(exchange)->cache != NULL;
}

enum result exchange_begin(struct conn *conn, const struct exchange_start *start)
{
    struct worker *worker = conn->worker;
    struct exchange *exchange = exchange_acquire(worker);
    if (exchange == NULL) {
        if (start->deletion != NULL) {
            cache_api_leave(start->deletion);
        }
        return RESULT_NO_MEMORY;
    }
    exchange->deletion = start->deletion;
    counter_add(&worker->metrics.active_requests, 1);
    const struct http_head *head = &start->parser->head;
    exchange->conn = conn;
    exchange->route = start->route;
    exchange->started_ns = ring_now(worker->ring);
    exchange->method = head->method;
    exchange->version_minor = head->version_minor;
    exchange->is_head = head->method == HTTP_HEAD;
    exchange->keep_alive = start->keep_alive;
    bool ok = copy_for_log(exchange, start);
    exchange->body_left = UINT64_MAX;
    exchange->start = start;
    if (ok && cached_concerns(worker, start->route, head)) {
        ok = exchange_cache_prepare(exchange, start) == RESULT_OK;
    } else if (ok && start->route->config->kind != CONFIG_ROUTE_RESPOND) {
        ok = exchange_prepare_fetch(exchange, start, NULL) == RESULT_OK;
        if (ok && start->route->config->kind == CONFIG_ROUTE_HTTP) {
            ok = exchange_invalidation_prepare(exchange, start) == RESULT_OK;
        }
    }
    if (ok && inference_concerns_cache(exchange)) {
        ok = exchange_inference_prepare(exchange, start) == RESULT_OK;
    }
    if (!ok) {
        exchange_release(worker, exchange);
        return RESULT_NO_MEMORY;
    }
    prepare_body(exchange, start);
    conn->exchange = exchange;
    conn->state = CONN_EXCHANGE;
    if (exchange->body_bytes_max > 0 && head->body == HTTP_BODY_LENGTH &&
        head->content_length > exchange->body_bytes_max) {
        exchange_answer_error(exchange, 413, "the request's body is larger than this route takes", "body_too_large",
                              METRICS_ERROR_TOO_LARGE);
        return RESULT_OK;
    }
    if (!exchange->body_done && head->expect_continue) {
        struct outbox *outbox = conn_outbox(conn);
        if (outbox == NULL || outbox_copy(outbox, BYTES("HTTP/1.1 100 Continue\r\n\r\n")) != RESULT_OK) {
            conn_close(conn, true);
            return RESULT_OK;
        }
        conn_flush(conn);
    }
    if (exchange->body_done) {
        exchange_on_body_ready(exchange);
    }
    if (conn->exchange == exchange) {
        exchange->start = NULL; /* the head goes with the client's buffer */
    }
    conn_arm_timer(conn);
    return RESULT_OK;
}

/* ---- the request's body ---- */

static enum result grow_buffer(struct exchange *exchange, size_t more)
{
    size_t wanted = exchange->buffered + more;
    if (wanted <= exchange->buffer_capacity) {
        return RESULT_OK;
    }
    /* Doubling from what has come, not from what Content-Length promises: promises cost a client nothing. */
    size_t capacity = exchange->buffer_capacity == 0 ? 4096 : exchange->buffer_capacity * 2;
    while (capacity < wanted) {
        capacity *= 2;
    }
    char *buffer = realloc(exchange->buffer, capacity);
    if (buffer == NULL) {
        return RESULT_NO_MEMORY;
    }
    exchange->buffer = buffer;
    exchange->buffer_capacity = capacity;
    return RESULT_OK;
}

/* The fetch has turned away from the body: it is answered, or has failed. */
static bool stream_is_unwanted(const struct exchange *exchange)
{
    return exchange->reader.entry != NULL && list_is_empty(&exchange->stream.readers) &&
           exchange->fetch->stream_is_started;
}

static enum result take_body(void *context, struct bytes run)
{
    struct exchange *exchange = context;
    if (exchange->body_bytes_max > 0 && exchange->body.received_bytes > exchange->body_bytes_max) {
        return RESULT_CANCELED; /* too large: told by exchange_on_input */
    }
    enum result result;
    switch (exchange->body_kind) {
    case EXCHANGE_BODY_BUFFERED:
        result = grow_buffer(exchange, run.len);
        if (result == RESULT_OK) {
            memcpy(exchange->buffer + exchange->buffered, run.ptr, run.len);
            exchange->buffered += run.len;
        }
        return result;
    case EXCHANGE_BODY_STREAMED:
        if (stream_is_unwanted(exchange)) {
            return RESULT_OK; /* read away */
        }
        return entry_append(&exchange->stream, run);
    case EXCHANGE_BODY_AWAY:
    case EXCHANGE_BODY_NONE: return RESULT_OK;
    }
    return RESULT_OK;
}

/* A body that is wrong or too large. The upstream request, if it has begun, is cut off before the backend can
 * take it for complete. */
static void refuse_body(struct exchange *exchange, enum result why)
{
    if (exchange->body_kind == EXCHANGE_BODY_STREAMED && exchange->stream.state == ENTRY_FILLING) {
        entry_fail(&exchange->stream, RESULT_CANCELED);
    }
    entry_reader_leave(&exchange->reader);
    if (exchange->head_sent) {
        conn_close(exchange->conn, true);
    } else if (why == RESULT_CANCELED) {
        exchange_answer_error(exchange, 413, "the request's body is larger than this route takes", "body_too_large",
                              METRICS_ERROR_TOO_LARGE);
    } else if (why == RESULT_NO_MEMORY) {
        exchange_answer_error(exchange, 503, "the gateway is out of memory", "overloaded", METRICS_ERROR_OVERLOAD);
    } else {
        exchange_answer_error(exchange, exchange->body.fault.status, exchange->body.fault.message, "bad_request",
                              METRICS_ERROR_BAD_REQUEST);
    }
}

static void on_stream_input(struct exchange *exchange, bool is_complete)
{
    if (is_complete && exchange->stream.state == ENTRY_FILLING) {
        char *trailers = exchange->body.trailers;
        exchange->body.trailers = NULL;
        entry_complete(&exchange->stream, trailers, exchange->body.trailer_bytes);
    }
    if (exchange->reader.entry == NULL) {
        exchange_start_fetch(exchange); /* with the bytes that came together with the head */
        return;
    }
    /* While the fetch still connects nobody reads yet: all the more reason to wait. */
    if (!is_complete && !stream_is_unwanted(exchange) && entry_is_full(&exchange->stream)) {
        stream_hold(exchange);
    }
    entry_tell(&exchange->stream);
}

size_t exchange_on_input(struct exchange *exchange, struct bytes input)
{
    if (exchange->body_done) {
        return 0;
    }
    size_t used = 0;
    enum result result = http_body_read(&exchange->body, input, &used, take_body, exchange);
    if (result != RESULT_OK && result != RESULT_MORE) {
        refuse_body(exchange, result);
        return input.len;
    }
    if (result == RESULT_OK) {
        exchange->body_done = true;
    }
    if (exchange->body_kind == EXCHANGE_BODY_STREAMED) {
        on_stream_input(exchange, result == RESULT_OK);
    } else if (result == RESULT_OK) {
        exchange_on_body_ready(exchange);
    }
    return used;
}

nanos exchange_body_deadline(const struct exchange *exchange)
{
    const struct config *config = exchange->conn->worker->config;
    uint64_t rate = config->limits.body_rate_bytes_min;
    /* A body held back by us is not the client's slowness. */
    if (exchange->body_done || exchange->conn->receive_paused || rate == 0) {
        return NANOS_NEVER;
    }
    nanos grace = exchange->body_started_ns + config->limits.body_grace_ms * NANOS_PER_MS;
    /* When the bytes so far would have arrived at the lowest rate allowed. Bytes times NANOS_PER_S would overflow at
     * 18 GB. */
    uint64_t bytes = exchange->body.received_bytes;
    nanos due = exchange->body_started_ns + bytes / rate * NANOS_PER_S + bytes % rate * NANOS_PER_S / rate;
    return due > grace ? due : grace;
}

void exchange_on_body_deadline(struct exchange *exchange)
{
    if (exchange_body_deadline(exchange) > ring_now(worker_of(exchange)->ring)) {
        return;
    }
    entry_reader_leave(&exchange->reader);
    if (exchange->head_sent) {
        conn_close(exchange->conn, true);
        return;
    }
    exchange_answer_error(exchange, 408, "the request's body arrived too slowly", "request_timeout",
                          METRICS_ERROR_CLIENT_TIMEOUT);
}

void exchange_on_client_end(struct exchange *exchange, bool is_reset)
{
    struct conn *conn = exchange->conn;
    bool is_gone = is_reset || !exchange->body_done || exchange->route->config->half_close_is_departure;
    if (is_gone) {
        conn_close(conn, false);
    }
}
