/* A connection: what arrives goes into `in`, requests are taken from its front one at a time, and answers are put into
 * `out`, which is swapped with `sending` whenever no send is in flight.
 *
 * The head of the request at hand stays at the front of `in` until it is answered; its body is taken out as it comes,
 * so that `in` stays small however large the body is.
 *
 *   HEAD ─head▶ BODY ─whole▶ ANSWERING ─answered▶ HEAD …
 *    any ─sim_connection_end▶ ENDING ─sent▶ LINGERING ─FIN or timer▶ CLOSING */
#include <stdlib.h>

#include "sim/internal.h"

static const struct http_limits LIMITS = {
    .head_bytes_max = SIM_HEAD_BYTES_MAX,
    .target_bytes_max = SIM_TARGET_BYTES_MAX,
    .fields_max = HTTP_FIELDS_MAX,
};

static struct sim_connection *connection_of(struct ring_stream *stream)
{
    return CONTAINER_OF(stream, struct sim_connection, stream);
}

struct bytes sim_connection_field(const struct sim_connection *c, struct bytes name)
{
    return http_head_find(&c->parser.head, c->in.data, name);
}

void sim_connection_kick(struct sim_connection *c)
{
    if (c->state != CONNECTION_CLOSING) {
        ring_defer(c->sim->ring, &c->task);
    }
}

void sim_connection_at(struct sim_connection *c, nanos when, void (*on_time)(struct sim_connection *c))
{
    if (c->state == CONNECTION_CLOSING) {
        return;
    }
    c->x.on_time = on_time;
    ring_timer_set(c->sim->ring, &c->timer, when);
}

static void on_timer(struct ring_timer *timer)
{
    struct sim_connection *c = CONTAINER_OF(timer, struct sim_connection, timer);
    c->x.on_time(c);
}

/* ---- ending ---- */

static void close_stream(struct sim_connection *c, bool reset)
{
    if (c->state == CONNECTION_CLOSING) {
        return;
    }
    c->state = CONNECTION_CLOSING;
    ring_timer_cancel(c->sim->ring, &c->timer);
    ring_task_cancel(&c->task);
    sim_glue_drop(c);
    if (reset) {
        ring_stream_reset(&c->stream);
    } else {
        ring_stream_close(&c->stream);
    }
}

void sim_connection_close(struct sim_connection *c)
{
    close_stream(c, false);
}

void sim_connection_end(struct sim_connection *c, enum connection_ending ending)
{
    if (c->state >= CONNECTION_ENDING) {
        return;
    }
    ring_timer_cancel(c->sim->ring, &c->timer);
    sim_glue_drop(c);
    c->state = CONNECTION_ENDING;
    c->ending = ending;
    sim_connection_kick(c);
}

/* Everything has been sent. The client gets a moment to read it and to close by itself: a close with unread input
 * would reset the connection, and take what it has not read yet with it. */
static void finish_ending(struct sim_connection *c)
{
    if (c->ending == ENDING_RESET || c->client_gone) {
        close_stream(c, c->ending == ENDING_RESET);
        return;
    }
    c->state = CONNECTION_LINGERING;
    ring_stream_shutdown(&c->stream);
    sim_connection_at(c, ring_now(c->sim->ring) + SIM_LINGER_MS * NANOS_PER_MS, sim_connection_close);
    if (!c->stream.receive_armed) {
        ring_stream_receive(&c->stream);
    }
}

/* ---- out ---- */

static void send_rest(struct sim_connection *c)
{
    size_t left = c->sending.len - c->sending_at;
    uint32_t split = c->x.fault.split_bytes;
    struct iovec iov = {c->sending.data + c->sending_at, split > 0 && left > split ? split : left};
    ring_stream_send(&c->stream, &iov, 1);
}

static void flush(struct sim_connection *c)
{
    if (c->stream.send_armed || c->state >= CONNECTION_LINGERING) {
        return;
    }
    if (c->out.failed) {
        close_stream(c, true); /* what would be sent is not what was meant */
        return;
    }
    if (c->out.len > 0) {
        struct sim_buffer swapped = c->sending;
        c->sending = c->out;
        c->out = swapped;
        c->sending_at = 0;
        send_rest(c);
    } else if (c->state == CONNECTION_ENDING) {
        finish_ending(c);
    }
}

static void on_sent(struct ring_stream *stream, enum result result, size_t bytes)
{
    struct sim_connection *c = connection_of(stream);
    if (c->state == CONNECTION_CLOSING) {
        return;
    }
    if (result != RESULT_OK) {
        close_stream(c, false);
        return;
    }
    c->sending_at += bytes;
    if (c->sending_at < c->sending.len) {
        send_rest(c);
        return;
    }
    sim_buffer_reset(&c->sending, SIM_BUFFER_KEEP_BYTES);
    if (c->out.len == 0 && c->state == CONNECTION_ANSWERING && c->x.on_drained != NULL) {
        c->x.on_drained(c);
    }
    flush(c);
}

/* ---- requests ---- */

static void refuse(struct sim_connection *c, const struct http_fault *fault)
{
    c->sim->counters.bad_requests++;
    c->x = (struct exchange){.keep_alive = false};
    sim_answer_error(c, fault->status, "%s", fault->message);
}

static void start_request(struct sim_connection *c)
{
    struct http_head *head = &c->parser.head;
    c->sim->counters.requests++;
    c->x = (struct exchange){
        .is_head = bytes_equal(http_head_method(head, c->in.data), BYTES("HEAD")),
        .keep_alive = head->keep_alive,
        .http_1_0 = head->version_minor == 0,
    };
    sim_buffer_reset(&c->payload, SIM_BUFFER_KEEP_BYTES);
    http_body_init(&c->body, &c->parser);
    c->state = CONNECTION_BODY;
    c->x.route = sim_routes_find(c);
    if (c->x.route == NULL) {
        return; /* answered; what there is of a body is read past */
    }
    if (c->x.route->body == BODY_KEEP && head->has_content_length &&
        head->content_length > c->sim->options.body_bytes_max) {
        c->x.keep_alive = false;
        sim_answer_error(c, 413, "The body is larger than %llu bytes.",
                         (unsigned long long)c->sim->options.body_bytes_max);
        return;
    }
    if (head->expect_continue && head->body != HTTP_BODY_NONE) {
        sim_buffer_text(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
    }
}

static enum result take_body(void *context, struct bytes run)
{
    struct sim_connection *c = context;
    if (c->x.head_sent || c->x.route == NULL) {
        return RESULT_OK; /* answered already: read past */
    }
    if (c->x.route->body == BODY_COUNT) {
        c->x.crc = sim_text_crc32(&c->sim->crc, c->x.crc, run);
        return RESULT_OK;
    }
    if (c->payload.len + run.len > c->sim->options.body_bytes_max) {
        return RESULT_LIMIT;
    }
    sim_buffer_put(&c->payload, run);
    return c->payload.failed ? RESULT_NO_MEMORY : RESULT_OK;
}

/* Reads what there is of the body. False: more has to come, or the connection is ending. */
static bool read_body(struct sim_connection *c)
{
    size_t head_bytes = c->parser.head.head_bytes;
    size_t used = 0;
    struct bytes input = {c->in.data + head_bytes, c->in.len - head_bytes};
    enum result result = http_body_read(&c->body, input, &used, take_body, c);
    memmove(c->in.data + head_bytes, c->in.data + head_bytes + used, input.len - used);
    c->in.len -= used;
    if (result == RESULT_OK) {
        return true;
    }
    if (result == RESULT_MORE) {
        return false;
    }
    c->x.keep_alive = false;
    c->state = CONNECTION_ANSWERING;
    if (!c->x.head_sent) {
        c->sim->counters.bad_requests++;
        if (c->body.fault.status != 0) {
            sim_answer_error(c, c->body.fault.status, "%s", c->body.fault.message);
        } else {
            sim_answer_error(c, result == RESULT_LIMIT ? 413 : 500, "The body could not be kept.");
        }
    }
    sim_connection_end(c, ENDING_LINGER);
    return false;
}

/* Frees what the answered request still holds and makes ready for the next. */
static void next_request(struct sim_connection *c)
{
    http_body_fini(&c->body);
    sim_buffer_drop_front(&c->in, c->parser.head.head_bytes);
    if (c->in.len == 0) {
        sim_buffer_reset(&c->in, SIM_BUFFER_KEEP_BYTES);
    }
    http_parser_init(&c->parser, HTTP_REQUEST, &LIMITS);
    c->state = CONNECTION_HEAD;
}

void sim_connection_silent(struct sim_connection *c)
{
    c->x.silent = true;
    if (c->client_gone) {
        close_stream(c, false);
    }
    sim_connection_kick(c); /* to receive again, if that was stopped: its FIN may be behind much else */
}

void sim_connection_answered(struct sim_connection *c)
{
    if (c->state >= CONNECTION_ENDING) {
        return;
    }
    sim_glue_drop(c);
    ring_timer_cancel(c->sim->ring, &c->timer);
    c->x.on_drained = NULL;
    if (!c->x.keep_alive) {
        sim_connection_end(c, ENDING_LINGER);
        return;
    }
    if (c->state == CONNECTION_ANSWERING) {
        next_request(c);
    }
    /* In BODY the answer came early: the rest of the body is read past first. */
    sim_connection_kick(c);
}

/* Takes requests from the front of `in` as long as they are answered at once. */
static void take_requests(struct sim_connection *c)
{
    for (;;) {
        if (c->state == CONNECTION_HEAD) {
            if (c->in.len == 0) {
                return;
            }
            enum result result = http_parse_head(&c->parser, c->in.data, c->in.len);
            if (result == RESULT_MORE) {
                return;
            }
            if (result != RESULT_OK) {
                refuse(c, &c->parser.fault);
                return;
            }
            start_request(c);
            if (c->client_gone && c->x.route != NULL && c->x.route->inference) {
                close_stream(c, false);
            }
        } else if (c->state == CONNECTION_BODY) {
            if (!read_body(c)) {
                return;
            }
            c->state = CONNECTION_ANSWERING;
            if (c->x.head_sent || c->x.route == NULL) {
                next_request(c);
            } else {
                sim_answer_begin(c);
            }
        } else {
            return;
        }
    }
}

/* Goes on with what has arrived, and sends what came of it. */
static void go_on(struct sim_connection *c)
{
    take_requests(c);
    if (c->client_gone && c->state == CONNECTION_HEAD) {
        sim_connection_end(c, ENDING_LINGER); /* all that was asked is answered */
    } else if (c->client_gone && c->state == CONNECTION_BODY) {
        close_stream(c, false); /* the rest of the body will not come */
    }
    flush(c);
}

static void on_task(struct ring_task *task)
{
    struct sim_connection *c = CONTAINER_OF(task, struct sim_connection, task);
    go_on(c);
    if (c->state < CONNECTION_ENDING && !c->stream.receive_armed && !c->client_gone &&
        (c->in.len <= SIM_PIPELINED_BYTES_MAX || c->x.silent)) {
        ring_stream_receive(&c->stream);
    }
}

/* ---- what the stream tells ---- */

static void on_received(struct ring_stream *stream, const char *data, size_t bytes)
{
    struct sim_connection *c = connection_of(stream);
    if (c->state >= CONNECTION_ENDING || c->x.silent) {
        return;
    }
    sim_buffer_put(&c->in, (struct bytes){data, bytes});
    if (c->in.failed) {
        close_stream(c, true);
        return;
    }
    if (c->state == CONNECTION_ANSWERING) {
        if (c->in.len > SIM_PIPELINED_BYTES_MAX) {
            ring_stream_receive_stop(stream);
        }
        return;
    }
    go_on(c);
}

/* The client has sent its FIN, or is gone for good. */
static void client_left(struct sim_connection *c)
{
    bool owed = c->state == CONNECTION_ANSWERING && !c->x.silent && !c->x.route->inference;
    if (owed || (c->state == CONNECTION_ENDING && c->ending == ENDING_LINGER)) {
        c->client_gone = true; /* it may still read: the answer is finished, then the connection closed */
        return;
    }
    bool unanswered = c->state == CONNECTION_HEAD && (c->stream.send_armed || c->out.len > 0);
    if (unanswered) {
        c->client_gone = true;
        sim_connection_end(c, ENDING_LINGER);
        return;
    }
    close_stream(c, c->state == CONNECTION_ENDING);
}

static void on_receive_ended(struct ring_stream *stream, enum result why)
{
    struct sim_connection *c = connection_of(stream);
    if (c->state == CONNECTION_CLOSING) {
        return;
    }
    if (why == RESULT_CANCELED) {
        if (c->state == CONNECTION_ANSWERING) {
            ring_stream_watch_hangup(stream);
        }
        sim_connection_kick(c);
    } else if (why == RESULT_CLOSED) {
        client_left(c);
    } else {
        close_stream(c, false);
    }
}

static void on_hung_up(struct ring_stream *stream, bool is_broken)
{
    (void)is_broken;
    struct sim_connection *c = connection_of(stream);
    /* Where the answer is owed all the same, receive_ended tells it again, and what came before the FIN with it. */
    if (c->state == CONNECTION_ANSWERING && !stream->receive_armed && (c->x.silent || c->x.route->inference)) {
        close_stream(c, false);
    }
}

static void on_closed(struct ring_stream *stream)
{
    struct sim_connection *c = connection_of(stream);
    struct sim *sim = c->sim;
    list_remove(&c->node);
    sim->counters.connections_open--;
    http_body_fini(&c->body);
    sim_buffer_fini(&c->in);
    sim_buffer_fini(&c->out);
    sim_buffer_fini(&c->sending);
    sim_buffer_fini(&c->payload);
    sim_buffer_fini(&c->target);
    free(c);
    if (sim->stopping && !sim->listening && list_is_empty(&sim->connections)) {
        ring_stop(sim->ring);
    }
}

static const struct ring_stream_events EVENTS = {
    .received = on_received,
    .receive_ended = on_receive_ended,
    .sent = on_sent,
    .hung_up = on_hung_up,
    .closed = on_closed,
};

void sim_connection_accept(struct sim *sim, int fd)
{
    struct sim_connection *c = calloc(1, sizeof(*c));
    if (c == NULL || sim->stopping) {
        free(c);
        ring_refuse(fd);
        return;
    }
    c->sim = sim;
    ring_task_init(&c->task, on_task);
    ring_timer_init(&c->timer, on_timer);
    http_parser_init(&c->parser, HTTP_REQUEST, &LIMITS);
    if (ring_stream_adopt(sim->ring, &c->stream, &EVENTS, fd) != RESULT_OK) {
        free(c);
        return;
    }
    list_push_back(&sim->connections, &c->node);
    sim->counters.connections++;
    sim->counters.connections_open++;
    ring_stream_receive(&c->stream);
}
