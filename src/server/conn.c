/* The connection's events, its input and its end. What a request leads to is in request.c. */
#include "server/conn.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/exchange.h"
#include "server/request.h"

enum {
    KEPT_BYTES_MAX = 65536, /* pipelined while an exchange runs; beyond it nothing is received */
    INPUT_BYTES_MIN = 4096,
    SEND_LOOKS = 4,            /* at a send within its timeout: one that takes long may only be slow */
    DRAIN_FIRST_BYTE_MS = 250, /* for the request of a connection that was taken while draining */
};

static nanos now_of(const struct conn *conn)
{
    return ring_now(conn->worker->ring);
}

/* ---- timer ---- */

/* The next look at the send in flight. */
static nanos send_deadline(const struct conn *conn)
{
    nanos timeout = conn->worker->config->limits.send_timeout_ms * NANOS_PER_MS;
    return conn->send_ns + timeout / SEND_LOOKS * (conn->send_looks + 1U);
}

/* A send ends only when all of it has gone, so its own length says nothing: true when none of it moved for the whole
 * timeout, or for up to a quarter more. */
static bool send_is_stuck(struct conn *conn)
{
    uint32_t taken = ring_stream_taken(&conn->stream);
    if (taken != conn->send_taken) {
        conn->send_taken = taken;
        conn->send_ns = now_of(conn);
        conn->send_looks = 0;
        return false;
    }
    return ++conn->send_looks >= SEND_LOOKS;
}

/* The moment at which something has lasted too long; NANOS_NEVER when nothing is timed. */
static nanos conn_deadline(const struct conn *conn)
{
    const struct config *config = conn->worker->config;
    nanos ms = NANOS_PER_MS;
    nanos deadline = NANOS_NEVER;
    switch (conn->state) {
    case CONN_READY:
        if (conn->input != NULL && conn->input->has_parser) {
            deadline = conn->phase_ns + config->limits.head_timeout_ms * ms;
        } else if (conn->worker->draining) {
            /* Taken from the queue of a listener that is being closed: what it had sent by then is answered. */
            deadline = conn->active_ns + DRAIN_FIRST_BYTE_MS * ms;
        } else if (conn->requests == 0) {
            deadline = conn->active_ns + config->limits.head_timeout_ms * ms;
        } else {
            deadline = conn->active_ns + config->limits.idle_timeout_ms * ms;
        }
        break;
    case CONN_EXCHANGE: deadline = exchange_body_deadline(conn->exchange); break;
    case CONN_LINGERING: deadline = conn->phase_ns + config->limits.linger_timeout_ms * ms; break;
    case CONN_ENDING:
    case CONN_CLOSED: break;
    }
    if (conn->stream.send_armed) {
        nanos send = send_deadline(conn);
        deadline = send < deadline ? send : deadline;
    }
    return deadline;
}

/* The timer is set anew only when the deadline comes nearer: one that moves away, as it does with every request
 * of an idle connection, is seen when the timer fires. */
void conn_arm_timer(struct conn *conn)
{
    nanos deadline = conn_deadline(conn);
    if (deadline < conn->timer.deadline_ns) {
        ring_timer_set(conn->worker->ring, &conn->timer, deadline);
    }
}

static void conn_on_timer(struct ring_timer *timer)
{
    struct conn *conn = CONTAINER_OF(timer, struct conn, timer);
    nanos now = now_of(conn);
    if (conn_deadline(conn) > now) {
        conn_arm_timer(conn);
        return;
    }
    struct worker *worker = conn->worker;
    if (conn->stream.send_armed && send_deadline(conn) <= now) {
        if (send_is_stuck(conn)) {
            metrics_error(&worker->metrics, METRICS_ERROR_CLIENT_TIMEOUT);
            conn_close(conn, true);
        } else {
            conn_arm_timer(conn);
        }
    } else if (conn->state == CONN_READY && conn->input != NULL && conn->input->has_parser) {
        request_refuse(conn, 408, "the request's head did not arrive in time");
    } else if (conn->state == CONN_EXCHANGE) {
        exchange_on_body_deadline(conn->exchange);
        conn_arm_timer(conn);
    } else if (conn->state == CONN_READY && conn->stream.send_armed) {
        conn->active_ns = now; /* it is not idle while it takes its answer */
        conn_arm_timer(conn);
    } else {
        conn_close(conn, false);
    }
}

/* ---- opening and closing ---- */

static void conn_on_task(struct ring_task *task);
static const struct ring_stream_events conn_events;

void conn_accept(struct worker *worker, int fd, bool is_admin)
{
    struct conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        metrics_error(&worker->metrics, METRICS_ERROR_OVERLOAD);
        ring_refuse(fd);
        return;
    }
    if (ring_stream_adopt(worker->ring, &conn->stream, &conn_events, fd) != RESULT_OK) {
        metrics_error(&worker->metrics, METRICS_ERROR_OVERLOAD);
        free(conn);
        return;
    }
    conn->worker = worker;
    conn->is_admin = is_admin;
    conn->active_ns = now_of(conn);
    ring_task_init(&conn->task, conn_on_task);
    ring_timer_init(&conn->timer, conn_on_timer);
    list_init(&conn->node);
    list_push_back(&worker->conns, &conn->node);
    worker->conn_count++;
    if (!is_admin) {
        worker->client_count++;
        worker_on_client(worker);
    }
    counter_add(&worker->metrics.active_connections, 1);
    counter_add(&worker->metrics.connections, 1);
    ring_stream_receive(&conn->stream);
    conn_arm_timer(conn);
}

static void conn_drop_input(struct conn *conn)
{
    if (conn->input != NULL) {
        free(conn->input->bytes);
        free(conn->input);
        conn->input = NULL;
    }
}

void conn_close(struct conn *conn, bool abort)
{
    if (conn->state == CONN_CLOSED) {
        return;
    }
    conn->state = CONN_CLOSED;
    struct exchange *exchange = conn->exchange;
    conn->exchange = NULL;
    if (abort) {
        ring_stream_reset(&conn->stream);
    } else {
        ring_stream_close(&conn->stream);
    }
    ring_timer_cancel(conn->worker->ring, &conn->timer);
    ring_task_cancel(&conn->task);
    if (exchange != NULL) {
        exchange_abort(exchange);
    }
}

static void conn_on_closed(struct ring_stream *stream)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);
    struct worker *worker = conn->worker;
    if (conn->outbox != NULL) {
        outbox_release(conn->outbox);
    }
    conn_drop_input(conn);
    list_remove(&conn->node);
    worker->conn_count--;
    worker->client_count -= conn->is_admin ? 0 : 1;
    counter_add(&worker->metrics.active_connections, (uint64_t)-1);
    free(conn);
    worker_on_conn_gone(worker);
}

/* All is sent: FIN, and the client's bytes are read away for a while, or closing would reset the connection and
 * take the answer from under it (RFC 9112 §9.6). */
static void conn_linger(struct conn *conn)
{
    if (conn->peer_closed) {
        conn_close(conn, false);
        return;
    }
    conn->state = CONN_LINGERING;
    conn->phase_ns = now_of(conn);
    ring_stream_shutdown(&conn->stream);
    conn_resume_receive(conn);
    conn_arm_timer(conn);
}

void conn_end(struct conn *conn)
{
    if (conn->state == CONN_CLOSED || conn->state == CONN_LINGERING) {
        return;
    }
    conn->state = CONN_ENDING;
    conn_drop_input(conn);
    conn_flush(conn);
    if (!conn->stream.send_armed) {
        conn_linger(conn);
    } else {
        conn_resume_receive(conn);
    }
}

void conn_drain(struct conn *conn)
{
    /* A head that has begun to arrive is still answered, with `Connection: close`. */
    if (conn->state == CONN_READY && conn->input == NULL) {
        conn_end(conn);
    }
}

/* ---- output ---- */

struct outbox *conn_outbox(struct conn *conn)
{
    if (conn->outbox == NULL) {
        conn->outbox = outbox_acquire(&conn->worker->pool);
    }
    return conn->outbox;
}

/* Whether somebody goes on only when the next send is over. A lazy one that succeeds wakes nobody, so that the ring
 * could sleep over it. What is sent need not be long for that: it may be the little that came behind a long send before
 * the outbox was full. */
static bool conn_awaits_sent(const struct conn *conn)
{
    return conn->state == CONN_ENDING || conn->peer_closed || (conn->input != NULL && !conn->input->has_parser) ||
           (conn->state == CONN_EXCHANGE && exchange_awaits_sent(conn->exchange));
}

void conn_flush(struct conn *conn)
{
    if (conn->outbox == NULL || conn->state == CONN_CLOSED) {
        return;
    }
    if (conn->stream.send_armed) {
        ring_stream_hurry(&conn->stream); /* more has come behind it, or the end waits for it */
        return;
    }
    if (conn->outbox->pending_bytes == 0) {
        outbox_release(conn->outbox);
        conn->outbox = NULL;
        return;
    }
    outbox_send(conn->outbox, &conn->stream, !conn_awaits_sent(conn));
    conn->send_ns = now_of(conn);
    conn->send_looks = 0;
    conn_arm_timer(conn);
}

static void conn_on_sent(struct ring_stream *stream, enum result result, size_t bytes)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);
    outbox_sent(conn->outbox, bytes);
    if (result != RESULT_OK) {
        if (conn->state == CONN_EXCHANGE) {
            exchange_on_client_end(conn->exchange, true);
        }
        conn_close(conn, false);
        return;
    }
    conn_flush(conn);
    if (conn->stream.send_armed) {
        return;
    }
    if (conn->state == CONN_EXCHANGE) {
        exchange_on_sent(conn->exchange);
    } else if (conn->state == CONN_ENDING) {
        conn_linger(conn);
    } else if (conn->state == CONN_READY) {
        if (conn->input != NULL && !conn->input->has_parser) {
            ring_defer(conn->worker->ring, &conn->task);
        } else if (conn->peer_closed) {
            conn_close(conn, false);
        }
    }
}

/* ---- input ---- */

static bool conn_keep(struct conn *conn, struct bytes data)
{
    struct conn_input *input = conn->input;
    if (input == NULL) {
        input = malloc(sizeof(*input));
        if (input == NULL) {
            return false;
        }
        input->has_parser = false;
        input->used = 0;
        input->capacity = 0;
        input->bytes = NULL;
        conn->input = input;
        conn->phase_ns = now_of(conn);
    }
    if (input->capacity - input->used < data.len) {
        size_t capacity = input->capacity < INPUT_BYTES_MIN ? INPUT_BYTES_MIN : input->capacity * 2;
        while (capacity - input->used < data.len) {
            capacity *= 2;
        }
        char *bytes = realloc(input->bytes, capacity);
        if (bytes == NULL) {
            return false;
        }
        input->bytes = bytes;
        input->capacity = capacity;
    }
    memcpy(input->bytes + input->used, data.ptr, data.len);
    input->used += data.len;
    return true;
}

/* What is left of the input is kept for later: the beginning of a head, with the parser that has read it, or
 * whole requests that must wait their turn. */
static bool conn_keep_rest(struct conn *conn, struct bytes rest, const struct http_parser *parser)
{
    struct conn_input *input = conn->input;
    if (input != NULL && rest.len <= input->used && input->bytes + (input->used - rest.len) == rest.ptr) {
        memmove(input->bytes, rest.ptr, rest.len);
        input->used = rest.len;
    } else if (!conn_keep(conn, rest)) {
        return false;
    }
    input = conn->input;
    if (parser != NULL && parser != &input->parser) {
        http_parser_move(&input->parser, parser);
        conn->phase_ns = now_of(conn); /* another head has begun, behind those that were answered */
    }
    input->has_parser = parser != NULL;
    return true;
}

/* Reads requests from what was kept and `data`, as long as they can be answered at once or go to an exchange
 * that ends at once. */
static void conn_process(struct conn *conn, struct bytes data)
{
    struct worker *worker = conn->worker;
    struct http_parser *unfinished = NULL;
    if (conn->input != NULL) {
        if (data.len > 0 && !conn_keep(conn, data)) {
            conn_close(conn, true);
            return;
        }
        data = (struct bytes){conn->input->bytes, conn->input->used};
        if (conn->input->has_parser) {
            unfinished = &conn->input->parser;
        }
    }
    conn->is_processing = true;
    while (data.len > 0 && conn->state == CONN_READY && (conn->outbox == NULL || outbox_has_room(conn->outbox))) {
        struct http_parser *parser = unfinished;
        if (parser == NULL) {
            parser = &worker->parser;
            http_parser_init(parser, HTTP_REQUEST, &worker->limits);
            http_parser_remember_host(parser, &worker->host_memory);
        }
        enum result result = http_parse_head(parser, data.ptr, data.len);
        if (result == RESULT_MORE) {
            unfinished = parser;
            break;
        }
        if (result != RESULT_OK) {
            request_refuse(conn, parser->fault.status, parser->fault.message);
            break;
        }
        size_t used = parser->head.head_bytes;
        unfinished = NULL;
        request_begin(conn, parser, data.ptr);
        data.ptr += used;
        data.len -= used;
        if (conn->state == CONN_EXCHANGE && data.len > 0) {
            used = exchange_on_input(conn->exchange, data);
            data.ptr += used;
            data.len -= used;
        }
    }
    conn->is_processing = false;
    if (conn->state == CONN_CLOSED) {
        return;
    }
    if (data.len == 0 || (conn->state != CONN_READY && conn->state != CONN_EXCHANGE)) {
        conn_drop_input(conn);
    } else if (!conn_keep_rest(conn, data, unfinished)) {
        conn_close(conn, true);
        return;
    }
    conn_flush(conn);
    if (conn->input != NULL) {
        conn_arm_timer(conn);
    }
}

static void conn_on_task(struct ring_task *task)
{
    struct conn *conn = CONTAINER_OF(task, struct conn, task);
    if (conn->state == CONN_READY && conn->input != NULL) {
        conn_process(conn, BYTES_NONE);
        /* Whole requests still wait their turn, or more of a head or a body is needed to go on. */
        const struct conn_input *input = conn->input;
        if (input == NULL || input->has_parser || input->used <= KEPT_BYTES_MAX / 2) {
            conn_resume_receive(conn);
        }
    }
    if (conn->state == CONN_READY && conn->peer_closed && !conn->stream.send_armed) {
        conn_close(conn, false);
    }
}

static void conn_on_received(struct ring_stream *stream, const char *bytes, size_t count)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);
    struct bytes data = {bytes, count};
    if (conn->state == CONN_EXCHANGE && conn->input == NULL) {
        size_t used = exchange_on_input(conn->exchange, data);
        data.ptr += used;
        data.len -= used;
    }
    if (data.len == 0) {
        return;
    }
    if (conn->state == CONN_READY) {
        conn_process(conn, data);
    } else if (conn->state == CONN_EXCHANGE) {
        if (!conn_keep(conn, data)) {
            conn_close(conn, true);
            return;
        }
        conn->input->has_parser = false;
    }
    /* While ending and lingering, bytes are read away. */
    if (conn->input != NULL && conn->input->used > KEPT_BYTES_MAX && conn->state != CONN_CLOSED) {
        conn_pause_receive(conn);
    }
}

void conn_pause_receive(struct conn *conn)
{
    if (!conn->receive_paused) {
        conn->receive_paused = true;
        ring_stream_receive_stop(&conn->stream);
    }
}

void conn_resume_receive(struct conn *conn)
{
    conn->receive_paused = false;
    if (!conn->stream.receive_armed && !conn->peer_closed && conn->state != CONN_CLOSED) {
        ring_stream_receive(&conn->stream);
    }
}

static void conn_on_receive_ended(struct ring_stream *stream, enum result why)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);
    if (why == RESULT_CANCELED) {
        if (conn->receive_paused) {
            ring_stream_watch_hangup(&conn->stream); /* nothing is received: a departure must still be seen */
        } else {
            conn_resume_receive(conn);
        }
        return;
    }
    conn->peer_closed = true;
    bool is_reset = why != RESULT_CLOSED;
    if (conn->state == CONN_EXCHANGE) {
        exchange_on_client_end(conn->exchange, is_reset);
        if (is_reset) {
            conn_close(conn, false);
        }
    } else if (is_reset || conn->state == CONN_LINGERING || !conn->stream.send_armed) {
        if (conn->state == CONN_READY && conn->input != NULL && !conn->input->has_parser && !is_reset) {
            return; /* whole requests are waiting: conn_on_task goes on */
        }
        conn_close(conn, false);
    } else {
        ring_stream_hurry(&conn->stream); /* closed when that has left */
    }
}

static void conn_on_hung_up(struct ring_stream *stream, bool is_broken)
{
    struct conn *conn = CONTAINER_OF(stream, struct conn, stream);
    if (!conn->receive_paused || conn->state != CONN_EXCHANGE) {
        return; /* the receive tells */
    }
    /* Only a half-close may be meant; whether that counts as gone is the route's to say. One in the middle of a body
     * may stand behind the rest of it: it is met when receiving goes on. */
    if (is_broken || conn->exchange->body_done) {
        exchange_on_client_end(conn->exchange, is_broken);
    }
}

static const struct ring_stream_events conn_events = {
    .received = conn_on_received,
    .receive_ended = conn_on_receive_ended,
    .sent = conn_on_sent,
    .hung_up = conn_on_hung_up,
    .closed = conn_on_closed,
};

/* ---- after an exchange ---- */

void conn_exchange_over(struct conn *conn, bool keep_alive)
{
    conn->exchange = NULL;
    conn->active_ns = now_of(conn);
    conn->phase_ns = conn->active_ns;
    if (conn->state != CONN_EXCHANGE) {
        return;
    }
    conn->state = CONN_READY;
    if (!keep_alive) {
        conn_end(conn);
        return;
    }
    conn_flush(conn);
    if (conn->is_processing) {
        return; /* conn_process goes on by itself */
    }
    if (conn->input != NULL || conn->peer_closed) {
        ring_defer(conn->worker->ring, &conn->task);
    } else {
        conn_resume_receive(conn);
    }
    conn_arm_timer(conn);
}

struct bytes conn_client(struct conn *conn)
{
    if (!conn->client_is_known) {
        conn->client_is_known = true;
        struct ring_address peer = ring_stream_peer(&conn->stream);
        char text[RING_ADDRESS_TEXT_MAX];
        size_t bytes = ring_address_format_host(&peer, text);
        if (bytes > 0 && bytes < sizeof(conn->client) && peer.any.sa_family != AF_UNIX) {
            memcpy(conn->client, text, bytes);
            conn->client_bytes = (uint8_t)bytes;
        }
    }
    return (struct bytes){conn->client, conn->client_bytes};
}
