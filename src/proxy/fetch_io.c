/* The bytes of a fetch: the request on its way out, the response on its way into the entry. All of it runs in the
 * completion handler, so that an event of a stream costs a parse, a copy and a look at the readers. */
#include "proxy/fetch_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "http/date.h"
#include "proxy/forward.h"

/* A backend that asks for more is taken at this: one wrong line must not close a gate for a day. */
#define RETRY_AFTER_NS_MAX (60 * NANOS_PER_S)

static struct fetch *fetch_of(struct upstream_user *user)
{
    return CONTAINER_OF(user, struct fetch, user);
}

/* ---- the request ---- */

static enum result outbox_of(struct upstream_conn *conn, struct outbox **ret_outbox)
{
    if (conn->outbox == NULL) {
        conn->outbox = outbox_acquire(conn->endpoint->upstream->proxy->pool);
    }
    *ret_outbox = conn->outbox;
    return conn->outbox == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

/* Adds what the client's streamed body has, as far as there is room. *ret_done: all of it is added. */
static enum result add_stream(struct fetch *fetch, struct outbox *outbox, bool *ret_done)
{
    struct entry *stream = fetch->request.stream;
    bool chunked = fetch->request.stream_is_chunked;
    enum result result = RESULT_OK;
    while (result == RESULT_OK && outbox_has_room(outbox)) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(&fetch->stream_reader, &hold);
        if (run.len == 0) {
            break;
        }
        fetch->stream_is_started = true;
        result = forward_add_body(outbox, run, hold, chunked);
        entry_reader_pass(&fetch->stream_reader, run.len);
    }
    *ret_done = false;
    if (result == RESULT_OK && stream->state == ENTRY_FAILED) {
        return RESULT_CANCELED; /* the client's body was cut short or wrong: so is this one */
    }
    if (result == RESULT_OK && stream->state == ENTRY_COMPLETE && entry_reader_is_level(&fetch->stream_reader)) {
        *ret_done = true;
        if (chunked) {
            result = forward_add_body_end(outbox, (struct bytes){stream->trailers, stream->trailer_bytes});
        }
        entry_reader_leave(&fetch->stream_reader);
    }
    return result;
}

/* Moves the streamed body on; true when there is none or all of it is on its way. */
static enum result pump_stream(struct fetch *fetch)
{
    if (fetch->stream_reader.entry == NULL) {
        return RESULT_OK;
    }
    struct outbox *outbox;
    enum result result = outbox_of(fetch->conn, &outbox);
    if (result != RESULT_OK) {
        return result;
    }
    bool done;
    result = add_stream(fetch, outbox, &done);
    if (outbox->pending_bytes == 0 && !fetch->conn->stream.send_armed) {
        outbox_release(outbox);
        fetch->conn->outbox = NULL;
    }
    upstream_conn_flush(fetch->conn, fetch->stream_reader.entry == NULL);
    fetch_arm_timer(fetch);
    return result;
}

static void fetch_on_stream_progress(struct entry_reader *reader)
{
    struct fetch *fetch = CONTAINER_OF(reader, struct fetch, stream_reader);
    if (fetch->conn == NULL || fetch->outcome != RESULT_MORE || fetch->phase < FETCH_SENDING) {
        return;
    }
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    enum result result = pump_stream(fetch);
    if (result != RESULT_OK) {
        fetch_settle(fetch, result);
    }
}

enum result fetch_send(struct fetch *fetch)
{
    const struct fetch_request *request = &fetch->request;
    struct outbox *outbox;
    enum result result = outbox_of(fetch->conn, &outbox);
    if (result != RESULT_OK) {
        return result;
    }
    struct bytes host =
        request->upstream->options.client_host && request->host.len > 0 ? request->host : fetch->endpoint->host;
    char framing[48];
    size_t framing_bytes = 0;
    if (request->has_length) {
        memcpy(framing, "Content-Length: ", 16);
        framing_bytes = 16 + bytes_put_u64(framing + 16, request->length);
        memcpy(framing + framing_bytes, "\r\n", 2);
        framing_bytes += 2;
    } else if (request->stream != NULL && request->stream_is_chunked) {
        static const char chunked[] = "Transfer-Encoding: chunked\r\n";
        framing_bytes = sizeof(chunked) - 1;
        memcpy(framing, chunked, framing_bytes);
    }
    const struct bytes parts[] = {request->line, BYTES("Host: "),          host,
                                  BYTES("\r\n"), {framing, framing_bytes}, request->fields};
    for (size_t i = 0; i < ARRAY_COUNT(parts) && result == RESULT_OK; i++) {
        result = outbox_copy(outbox, parts[i]);
    }
    if (result == RESULT_OK && request->body_bytes > 0) {
        /* The fetch keeps the body until the connection has let go of it (on_unpinned). */
        struct bytes body = {request->body, request->body_bytes};
        result = outbox_add(outbox, body, NULL);
    }
    if (result != RESULT_OK) {
        return result;
    }
    if (request->stream != NULL) {
        if (fetch->stream_reader.entry == NULL) {
            entry_reader_join(&fetch->stream_reader, request->stream, fetch_on_stream_progress);
        } else {
            entry_reader_rewind(&fetch->stream_reader); /* sent again: on a connection that was dead it had begun */
        }
        return pump_stream(fetch);
    }
    upstream_conn_flush(fetch->conn, fetch->stream_reader.entry == NULL);
    return RESULT_OK;
}

static void fetch_on_sent(struct upstream_user *user, enum result result)
{
    struct fetch *fetch = fetch_of(user);
    if (result != RESULT_OK) {
        /* A backend may answer and close without reading all: what it said comes by the receive, which
         * also tells when the connection is dead. Nothing more is sent; the body stays where it may have to be
         * sent again. */
        bool may_go_again = fetch->conn->is_reused && !fetch->any_byte;
        if (fetch->stream_reader.entry != NULL && !may_go_again) {
            entry_reader_leave(&fetch->stream_reader);
        }
        return;
    }
    fetch->progress_ns = fetch->conn->is_lazy ? fetch->conn->flushed_ns : ring_now(fetch->proxy->ring);
    if (fetch->outcome != RESULT_MORE) {
        return;
    }
    result = pump_stream(fetch);
    if (result != RESULT_OK) {
        fetch_settle(fetch, result);
        return;
    }
    upstream_conn_flush(fetch->conn, fetch->stream_reader.entry == NULL);
    if (fetch->conn->outbox == NULL && fetch->stream_reader.entry == NULL && fetch->sent_ns == 0) {
        fetch->sent_ns = fetch->progress_ns;
        fetch_arm_timer(fetch);
    }
}

/* ---- the response's head ---- */

void fetch_drop_partial(struct fetch *fetch)
{
    free(fetch->partial);
    free(fetch->partial_bytes);
    fetch->partial = NULL;
    fetch->partial_bytes = NULL;
    fetch->partial_used = 0;
}

static enum result bad_response(struct fetch *fetch, const char *fault)
{
    fetch->fault = fault;
    return RESULT_PROTOCOL;
}

/* Keeps an unfinished head together with the parser that has read it so far. */
static enum result keep_partial(struct fetch *fetch, struct http_parser *parser, struct bytes data)
{
    size_t capacity = fetch->proxy->limits.head_bytes_max + RING_RECEIVE_BUFFER_BYTES;
    fetch->partial = malloc(sizeof(*fetch->partial));
    fetch->partial_bytes = malloc(capacity);
    if (fetch->partial == NULL || fetch->partial_bytes == NULL) {
        return RESULT_NO_MEMORY;
    }
    http_parser_move(fetch->partial, parser);
    memcpy(fetch->partial_bytes, data.ptr, data.len);
    fetch->partial_used = data.len;
    return RESULT_MORE;
}

static bool read_number(struct bytes text, uint64_t *ret_value)
{
    uint64_t value = 0;
    bool is_number = text.len > 0 && text.len <= 9;
    for (size_t i = 0; i < text.len && is_number; i++) {
        is_number = text.ptr[i] >= '0' && text.ptr[i] <= '9';
        value = value * 10 + (uint64_t)(text.ptr[i] - '0');
    }
    *ret_value = value;
    return is_number;
}

/* For how long the backend wants to be left alone (RFC 9110 §10.2.3; retry-after-ms is what the SDKs of the inference
 * APIs read first). */
static __attribute__((noinline)) void read_retry_after(struct fetch *fetch, const struct http_head *head,
                                                       const char *base)
{
    struct bytes ms_text = http_head_find(head, base, BYTES("retry-after-ms"));
    struct bytes text = http_head_value(head, base, HTTP_FIELD_RETRY_AFTER);
    int64_t now_s = ring_unix_s(fetch->proxy->ring);
    nanos *retry_after_ns = &fetch->pass.outcome.retry_after_ns;
    uint64_t value;
    int64_t at_s;
    if (read_number(ms_text, &value)) {
        *retry_after_ns = value * NANOS_PER_MS;
    } else if (read_number(text, &value)) {
        *retry_after_ns = value * NANOS_PER_S;
    } else if (text.len > 0 && http_date_parse(text, now_s, &at_s) && at_s > now_s) {
        *retry_after_ns = (nanos)(at_s - now_s) * NANOS_PER_S;
    }
    if (*retry_after_ns > RETRY_AFTER_NS_MAX) {
        *retry_after_ns = RETRY_AFTER_NS_MAX;
    }
}

static enum result take_head(struct fetch *fetch, struct http_parser *parser, const char *base)
{
    struct http_head *head = &parser->head;
    if (head->status == 101) {
        return bad_response(fetch, "the upstream switched protocols without being asked to");
    }
    if (head->status < 200) {
        if (++fetch->interim_count > FETCH_INTERIM_MAX) {
            return bad_response(fetch, "the upstream sent too many interim responses");
        }
        if (head->status != 100 && fetch->interim != NULL) {
            fetch->interim->on_interim(fetch->interim, head, base);
        }
        return RESULT_MORE;
    }
    fetch->status = head->status;
    if (fetch->pass.gate != NULL) {
        fetch->pass.outcome.answered_ns = fetch->progress_ns;
        if (head->status == 429 || head->status == 503) {
            read_retry_after(fetch, head, base);
        }
        gate_on_answer(&fetch->pass, head->status);
    }
    if (fetch->meter != NULL) {
        fetch->meter->on_head(fetch->meter, fetch, head, base);
    }
    enum fetch_verdict verdict = FETCH_TAKE;
    if (fetch->observer != NULL) {
        verdict = fetch->observer->on_head(fetch->observer, fetch, head, base);
    }
    fetch->is_swallowed = verdict == FETCH_SWALLOW;
    if (verdict == FETCH_GIVE_UP) {
        return RESULT_NO_MEMORY;
    }
    if (verdict == FETCH_TAKE) {
        enum result result = forward_response_head(&fetch->entry, head, base);
        if (result != RESULT_OK) {
            return result;
        }
    }
    fetch->keep_alive = head->keep_alive;
    http_body_init(&fetch->body, parser);
    if (fetch->entry.is_event_stream) {
        sse_scanner_init(&fetch->sse);
        if (fetch->pass.gate != NULL && gate_is_plain(fetch->pass.gate)) {
            fetch_leave_gate(fetch, RESULT_OK); /* it waits for news, perhaps for hours, and nothing is worked on */
        }
    }
    fetch->phase = FETCH_BODY;
    fetch_arm_timer(fetch);
    return RESULT_OK;
}

/* Reads heads from `data` until the real one is complete. *ret_used counts bytes of data. In line, although
 * fetch_feed calls it, too: it runs for every answer. */
static inline __attribute__((always_inline)) enum result read_head(struct fetch *fetch, struct bytes data,
                                                                   size_t *ret_used)
{
    *ret_used = 0;
    for (;;) {
        struct http_parser *parser = &fetch->proxy->parser;
        const char *base = data.ptr + *ret_used;
        size_t base_bytes = data.len - *ret_used;
        size_t had = 0;
        if (fetch->partial != NULL) {
            parser = fetch->partial;
            had = fetch->partial_used;
            size_t room = fetch->proxy->limits.head_bytes_max + RING_RECEIVE_BUFFER_BYTES - had;
            base_bytes = base_bytes < room ? base_bytes : room;
            memcpy(fetch->partial_bytes + had, base, base_bytes);
            base = fetch->partial_bytes;
            base_bytes += had;
            fetch->partial_used = base_bytes;
        } else {
            if (base_bytes == 0) {
                return RESULT_MORE;
            }
            http_parser_init(parser, HTTP_RESPONSE, &fetch->proxy->limits);
            if (fetch->request.is_head) {
                http_parser_response_to_head(parser);
            }
        }
        enum result result = http_parse_head(parser, base, base_bytes);
        if (result == RESULT_MORE) {
            return fetch->partial != NULL ? RESULT_MORE : keep_partial(fetch, parser, (struct bytes){base, base_bytes});
        }
        if (result != RESULT_OK) {
            return bad_response(fetch, parser->fault.message);
        }
        *ret_used += parser->head.head_bytes - had;
        result = take_head(fetch, parser, base);
        fetch_drop_partial(fetch);
        if (result != RESULT_MORE) {
            return result;
        }
    }
}

/* ---- its body ---- */

static enum result sink_body(void *context, struct bytes run)
{
    struct fetch *fetch = context;
    if (fetch->entry.is_event_stream) {
        sse_scan(&fetch->sse, run);
    }
    if (fetch->observer != NULL && fetch->observer->on_body != NULL) {
        fetch->observer->on_body(fetch->observer, run);
    }
    if (fetch->meter != NULL) {
        fetch->meter->on_body(fetch->meter, fetch, run);
    }
    if (fetch->is_swallowed) {
        return RESULT_OK;
    }
    return entry_append(&fetch->entry, run);
}

/* RESULT_OK: the response is complete. In line likewise. */
static inline __attribute__((always_inline)) enum result read_body(struct fetch *fetch, struct bytes data)
{
    size_t used = 0;
    enum result result = http_body_read(&fetch->body, data, &used, sink_body, fetch);
    if (result == RESULT_OK && used < data.len) {
        return bad_response(fetch, "the upstream sent more than its response");
    }
    if (result == RESULT_PROTOCOL || result == RESULT_LIMIT) {
        return bad_response(fetch, fetch->body.fault.message);
    }
    return result;
}

static bool pause_if_full(struct fetch *fetch)
{
    if (fetch->receive_paused || !entry_is_full(&fetch->entry)) {
        return fetch->receive_paused;
    }
    fetch->receive_paused = true;
    fetch->paused_ns = fetch->progress_ns;
    fetch_arm_timer(fetch);
    return true;
}

/* A long body of known length is received straight into the entry: the multishot receive is stopped, and
 * single ones go on from there. */
static void go_direct_if_long(struct fetch *fetch)
{
    bool is_watched =
        fetch->is_swallowed || fetch->meter != NULL || (fetch->observer != NULL && fetch->observer->on_body != NULL);
    if (!fetch->is_direct && !is_watched && fetch->body.kind == HTTP_BODY_LENGTH && !fetch->entry.is_event_stream &&
        fetch->body.remaining_bytes >= FETCH_DIRECT_BYTES_MIN) {
        fetch->is_direct = true;
        ring_stream_receive_stop(&fetch->conn->stream);
    }
}

static void fetch_on_data(struct upstream_user *user, struct bytes data)
{
    struct fetch *fetch = fetch_of(user);
    if (fetch->outcome != RESULT_MORE || fetch->phase < FETCH_SENDING) {
        /* Spoken before asked, or after the end. */
        fetch->keep_alive = false;
        if (fetch->outcome == RESULT_MORE) {
            fetch_settle(fetch, bad_response(fetch, "the upstream spoke before it was asked"));
        }
        return;
    }
    fetch->any_byte = true;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    if (fetch->first_byte_ns == 0) {
        fetch->first_byte_ns = fetch->progress_ns;
    }
    enum result result = RESULT_OK;
    if (fetch->phase == FETCH_SENDING) {
        size_t used = 0;
        result = read_head(fetch, data, &used);
        data.ptr += used;
        data.len -= used;
    }
    if (result == RESULT_OK) {
        result = read_body(fetch, data);
    }
    if (result != RESULT_MORE) {
        fetch_settle(fetch, result);
        return;
    }
    if (fetch->phase == FETCH_BODY) {
        go_direct_if_long(fetch);
        fetch_ref(fetch); /* a reader that leaves may end it */
        entry_tell(&fetch->entry);
        if (fetch->outcome == RESULT_MORE && !fetch->receive_paused && pause_if_full(fetch)) {
            ring_stream_receive_stop(&fetch->conn->stream);
        }
        fetch_unref(fetch);
    }
}

enum result fetch_feed(struct fetch *fetch, struct bytes head, struct bytes body)
{
    size_t used = 0;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    fetch->first_byte_ns = fetch->progress_ns;
    fetch->any_byte = true;
    enum result result = read_head(fetch, head, &used);
    if (result == RESULT_OK) {
        result = read_body(fetch, body);
    }
    return result == RESULT_MORE ? RESULT_INTERNAL : result;
}

void fetch_resume_receive(struct fetch *fetch)
{
    fetch->receive_paused = false;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    fetch_arm_timer(fetch);
    if (fetch->outcome != RESULT_MORE || fetch->conn == NULL || fetch->conn->stream.receive_armed) {
        return; /* still stopping: fetch_on_ended goes on */
    }
    if (fetch->is_direct && fetch->body.remaining_bytes > 0) {
        char *at;
        size_t room;
        enum result result = entry_room(&fetch->entry, &at, &room);
        if (result != RESULT_OK) {
            fetch_settle_later(fetch, result);
            return;
        }
        if (room > fetch->body.remaining_bytes) {
            room = (size_t)fetch->body.remaining_bytes;
        }
        ring_stream_receive_into(&fetch->conn->stream, at, room);
    } else {
        ring_stream_receive(&fetch->conn->stream);
    }
}

/* What a single receive put straight into the entry. */
static void fetch_on_direct(struct fetch *fetch, size_t bytes)
{
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    fetch->body.remaining_bytes -= bytes;
    fetch->body.received_bytes += bytes;
    entry_commit(&fetch->entry, bytes);
    if (fetch->body.remaining_bytes == 0) {
        fetch->body.done = true;
        fetch_settle(fetch, RESULT_OK);
        return;
    }
    fetch_ref(fetch);
    entry_tell(&fetch->entry);
    if (fetch->outcome == RESULT_MORE) {
        if (!pause_if_full(fetch)) {
            fetch_resume_receive(fetch);
        }
    }
    fetch_unref(fetch);
}

static void fetch_on_data_any(struct upstream_user *user, struct bytes data)
{
    struct fetch *fetch = fetch_of(user);
    if (fetch->conn != NULL && !fetch->conn->stream.receive_multishot && fetch->is_direct) {
        if (fetch->outcome == RESULT_MORE) {
            fetch_on_direct(fetch, data.len);
        }
    } else {
        fetch_on_data(user, data);
    }
}

static void fetch_on_ended(struct upstream_user *user, enum result why)
{
    struct fetch *fetch = fetch_of(user);
    fetch->keep_alive = fetch->keep_alive && why == RESULT_CANCELED;
    if (fetch->outcome != RESULT_MORE) {
        return;
    }
    if (why == RESULT_CANCELED) {
        /* Stopped by us: to go direct, or because the entry was full, and perhaps is not any more. */
        if (!fetch->receive_paused) {
            fetch_resume_receive(fetch);
        }
        return;
    }
    enum result result = why;
    if (fetch->phase == FETCH_BODY) {
        fetch->keep_alive = false;
        result = why == RESULT_CLOSED ? http_body_end(&fetch->body) : why;
        if (result != RESULT_OK && why == RESULT_CLOSED) {
            result = bad_response(fetch, "the upstream closed in the middle of its response");
        }
    } else if (fetch->any_byte) {
        result = bad_response(fetch, "the upstream closed in the middle of its response's head");
    }
    fetch_settle(fetch, result);
}

static void fetch_on_connected(struct upstream_user *user, enum result result)
{
    fetch_settle(fetch_of(user), result);
}

static void fetch_on_unpinned(struct upstream_user *user)
{
    fetch_unref(fetch_of(user));
}

const struct upstream_user fetch_user_events = {
    .on_connected = fetch_on_connected,
    .on_data = fetch_on_data_any,
    .on_ended = fetch_on_ended,
    .on_sent = fetch_on_sent,
    .on_unpinned = fetch_on_unpinned,
};
