/* Answers: heads, framing, and the faults that break them. */
#include <stdarg.h>
#include <stdio.h>

#include "http/date.h"
#include "sim/internal.h"

enum { MESSAGE_BYTES_MAX = 1024 };

/* ---- heads ---- */

static void put_padding(struct sim_buffer *out, uint32_t bytes)
{
    /* Fields of a KB each, so that their number and their size both grow. */
    for (uint32_t put = 0, i = 0; put < bytes; i++) {
        uint32_t piece = bytes - put < 1024 ? bytes - put : 1024;
        sim_buffer_format(out, "x-padding-%u: ", i);
        char *at = sim_buffer_room(out, piece);
        if (at == NULL) {
            return;
        }
        memset(at, 'p', piece);
        out->len += piece;
        sim_buffer_text(out, "\r\n");
        put += piece;
    }
}

static void put_status_line(struct sim_connection *c, unsigned status)
{
    if (c->x.fault.bad_status_line) {
        sim_buffer_format(&c->out, "HTTP/1.1 %u%u Nonsense\r\n", status, status);
        return;
    }
    struct bytes reason = http_reason(status);
    sim_buffer_format(&c->out, "HTTP/1.1 %u %.*s\r\n", status, BYTES_ARG(reason));
}

/* `length` is of the body, or ANSWER_CHUNKED; 204 and 304 have none. */
static void put_framing(struct sim_connection *c, unsigned status, uint64_t length)
{
    struct exchange *x = &c->x;
    bool bodiless = status == 204 || status == 304;
    x->chunked = length == ANSWER_CHUNKED && !x->http_1_0 && !x->fault.no_length && !bodiless;
    if (x->fault.no_length || (length == ANSWER_CHUNKED && x->http_1_0)) {
        x->keep_alive = false;
    }
    if (x->chunked) {
        sim_buffer_text(&c->out, "transfer-encoding: chunked\r\n");
        if (x->fault.length_and_chunked) {
            sim_buffer_text(&c->out, "content-length: 5\r\n");
        }
    } else if (length != ANSWER_CHUNKED && !x->fault.no_length && !bodiless) {
        sim_buffer_format(&c->out, "content-length: %llu\r\n", (unsigned long long)length);
        if (x->fault.two_lengths) {
            sim_buffer_format(&c->out, "content-length: %llu\r\n", (unsigned long long)length + 1);
        }
        if (x->fault.length_and_chunked) {
            sim_buffer_text(&c->out, "transfer-encoding: chunked\r\n");
        }
    }
    if (!x->keep_alive || x->fault.no_keep_alive) {
        x->keep_alive = false;
        sim_buffer_text(&c->out, "connection: close\r\n");
    } else if (x->http_1_0) {
        sim_buffer_text(&c->out, "connection: keep-alive\r\n");
    }
}

static void put_head(struct sim_connection *c, unsigned status, const char *content_type, struct bytes extra,
                     uint64_t length)
{
    struct sim_buffer *out = &c->out;
    for (uint32_t i = 0; i < c->x.fault.interim_count; i++) {
        sim_buffer_text(out, "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n");
    }
    put_status_line(c, status);
    char date[HTTP_DATE_BYTES];
    http_date_format(ring_unix_s(c->sim->ring), date);
    sim_buffer_text(out, "server: sluice-sim\r\ndate: ");
    sim_buffer_put(out, (struct bytes){date, sizeof(date)});
    sim_buffer_text(out, "\r\n");
    if (content_type != NULL) {
        sim_buffer_format(out, "content-type: %s\r\n", content_type);
    }
    struct bytes id = c->in.len == 0 ? BYTES_NONE : sim_connection_field(c, BYTES("x-request-id"));
    if (c->x.route != NULL && id.ptr != NULL) {
        sim_buffer_format(out, "x-request-id: %.*s\r\n", BYTES_ARG(id));
    }
    if (c->x.fault.has_retry_after) {
        sim_buffer_format(out, "retry-after: %u\r\n", c->x.fault.retry_after_s);
    }
    if (c->x.fault.bad_field) {
        sim_buffer_text(out, "x-bad : field\r\n");
    }
    put_framing(c, status, length);
    put_padding(out, c->x.fault.huge_head_bytes);
    sim_buffer_put(out, extra);
    sim_buffer_text(out, "\r\n");
    c->x.head_sent = true;
}

/* ---- breaking off ---- */

#define ERROR_EVENT                                                                                        \
    "data: {\"error\":{\"message\":\"EngineCore encountered an issue.\",\"type\":\"InternalServerError\"," \
    "\"param\":null,\"code\":500}}\n\n"

static void put_chunk(struct sim_connection *c, const struct bytes parts[3])
{
    size_t bytes = parts[0].len + parts[1].len + parts[2].len;
    char *at = sim_buffer_room(&c->out, bytes + HTTP_CHUNK_HEAD_BYTES_MAX + 2);
    if (at == NULL || bytes == 0) {
        return;
    }
    if (c->x.chunked) {
        at += http_put_chunk_head(at, bytes);
    }
    for (unsigned i = 0; i < 3; i++) {
        if (parts[i].len > 0) {
            memcpy(at, parts[i].ptr, parts[i].len);
            at += parts[i].len;
        }
    }
    if (c->x.chunked) {
        *at++ = '\r';
        *at++ = '\n';
    }
    c->out.len = (size_t)(at - c->out.data);
}

static void stop_silently(struct sim_connection *c)
{
    sim_glue_drop(c);
    ring_timer_cancel(c->sim->ring, &c->timer);
    c->x.on_drained = NULL;
    sim_connection_silent(c);
}

/* The moment of the fault has come: what was put before it still goes out. */
static void break_off(struct sim_connection *c)
{
    switch (c->x.fault.middle) {
    case FAULT_MIDDLE_NONE: return;
    case FAULT_MIDDLE_RESET: sim_connection_end(c, ENDING_RESET); return;
    case FAULT_MIDDLE_CLOSE: sim_connection_end(c, ENDING_LINGER); return;
    case FAULT_MIDDLE_STALL: stop_silently(c); return;
    case FAULT_MIDDLE_ERROR: {
        const struct bytes parts[3] = {BYTES(ERROR_EVENT)};
        put_chunk(c, parts);
        if (c->x.chunked) {
            sim_buffer_text(&c->out, HTTP_LAST_CHUNK);
        }
        sim_connection_end(c, ENDING_LINGER);
        return;
    }
    case FAULT_MIDDLE_BAD_CHUNK:
        sim_buffer_text(&c->out, "zz;not a size\r\nlost\r\n");
        sim_connection_end(c, ENDING_LINGER);
        return;
    }
}

/* ---- whole answers ---- */

/* A body that breaks in its middle, by bytes. */
static struct bytes cut(const struct sim_connection *c, struct bytes body)
{
    if (c->x.fault.middle != FAULT_MIDDLE_NONE && c->x.fault.middle_after < body.len) {
        body.len = c->x.fault.middle_after;
    }
    return body;
}

static void put_extra_bytes(struct sim_connection *c)
{
    char *at = c->x.fault.extra_bytes == 0 ? NULL : sim_buffer_room(&c->out, c->x.fault.extra_bytes);
    if (at != NULL) {
        memset(at, 'X', c->x.fault.extra_bytes);
        c->out.len += c->x.fault.extra_bytes;
    }
}

void sim_answer_full(struct sim_connection *c, unsigned status, const char *content_type, struct bytes extra,
                     struct bytes body)
{
    put_head(c, status, content_type, extra, body.len);
    if (!c->x.is_head && status != 204 && status != 304) {
        struct bytes part = cut(c, body);
        sim_buffer_put(&c->out, part);
        if (part.len < body.len) {
            break_off(c);
            return;
        }
    }
    put_extra_bytes(c);
    sim_connection_answered(c);
}

void sim_answer_json(struct sim_connection *c, unsigned status, struct bytes body)
{
    sim_answer_full(c, status, "application/json", BYTES_NONE, body);
}

void sim_answer_json_buffer(struct sim_connection *c, unsigned status, struct sim_buffer *body)
{
    if (body->failed) {
        sim_buffer_fini(body);
        sim_connection_close(c);
        return;
    }
    sim_answer_json(c, status, sim_buffer_bytes(body));
    sim_buffer_fini(body);
}

static const char *error_type(unsigned status)
{
    switch (status) {
    case 404: return "NotFoundError";
    case 429: return "RateLimitError";
    case 503: return "ServiceUnavailableError";
    default: return status >= 500 ? "InternalServerError" : "BadRequestError";
    }
}

void sim_answer_error(struct sim_connection *c, unsigned status, const char *message, ...)
{
    char text[MESSAGE_BYTES_MAX];
    va_list args;
    va_start(args, message);
    int length = vsnprintf(text, sizeof(text), message, args);
    va_end(args);
    size_t bytes = length < 0 ? 0 : (size_t)length >= sizeof(text) ? sizeof(text) - 1 : (size_t)length;
    struct sim_buffer body = {0};
    sim_buffer_text(&body, "{\"error\":{\"message\":");
    sim_buffer_put_json(&body, (struct bytes){text, bytes});
    sim_buffer_format(&body, ",\"type\":\"%s\",\"param\":null,\"code\":%u}}", error_type(status), status);
    sim_answer_json_buffer(c, status, &body);
}

/* ---- answers in pieces ---- */

void sim_answer_start(struct sim_connection *c, unsigned status, const char *content_type, uint64_t length)
{
    put_head(c, status, content_type,
             length == ANSWER_CHUNKED ? BYTES("cache-control: no-cache\r\nx-accel-buffering: no\r\n") : BYTES_NONE,
             length);
    sim_connection_kick(c);
}

bool sim_answer_pieces(struct sim_connection *c, const struct bytes parts[3], uint64_t counts)
{
    if (c->state != CONNECTION_ANSWERING) {
        return false;
    }
    struct exchange *x = &c->x;
    if (x->fault.middle != FAULT_MIDDLE_NONE && x->body_sent + counts > x->fault.middle_after) {
        break_off(c);
        return false;
    }
    x->body_sent += counts;
    if (!x->is_head) {
        put_chunk(c, parts);
    }
    sim_connection_kick(c);
    return true;
}

bool sim_answer_piece(struct sim_connection *c, struct bytes piece, uint64_t counts)
{
    const struct bytes parts[3] = {piece};
    return sim_answer_pieces(c, parts, counts);
}

void sim_answer_finish(struct sim_connection *c)
{
    if (c->state != CONNECTION_ANSWERING) {
        return;
    }
    if (c->x.fault.middle != FAULT_MIDDLE_NONE && c->x.body_sent >= c->x.fault.middle_after) {
        break_off(c); /* the answer was just as long as the fault lets pass: its end is still missing */
        return;
    }
    if (c->x.chunked && !c->x.is_head) {
        sim_buffer_text(&c->out, HTTP_LAST_CHUNK);
    }
    put_extra_bytes(c);
    sim_connection_answered(c);
}

/* ---- the fault of a request ---- */

static uint32_t next_ppm(struct sim *sim)
{
    sim->fault_random = sim_text_mix(sim->fault_random, 1);
    return (uint32_t)(sim->fault_random % 1000000);
}

/* Reads the request's own fault, or draws one of the defaults. False: it was not understood, and 400 is answered. */
static bool choose_fault(struct sim_connection *c)
{
    struct sim *sim = c->sim;
    struct bytes spec = sim_connection_field(c, BYTES("x-sim-fault"));
    if (spec.ptr != NULL) {
        struct bytes bad;
        if (!sim_fault_parse(spec, &c->x.fault, &bad)) {
            sim_answer_error(c, 400, "x-sim-fault: \"%.*s\" was not understood.", BYTES_ARG(bad));
            return false;
        }
        sim->counters.faults += spec.len > 0;
        return true;
    }
    for (unsigned i = 0; i < sim->options.fault_count; i++) {
        if (next_ppm(sim) < sim->options.faults[i].probability_ppm) {
            c->x.fault = sim->options.faults[i];
            sim->counters.faults++;
            return true;
        }
    }
    return true;
}

static void answer_now(struct sim_connection *c)
{
    const struct sim_fault *fault = &c->x.fault;
    if (fault->status != 0) {
        sim_answer_error(c, fault->status, "This is the fault that was asked for.");
    } else {
        c->x.route->answer(c);
    }
}

void sim_answer_begin(struct sim_connection *c)
{
    if (!choose_fault(c)) {
        return;
    }
    switch (c->x.fault.start) {
    case FAULT_START_NONE: break;
    case FAULT_START_RESET: sim_connection_end(c, ENDING_RESET); return;
    case FAULT_START_CLOSE: sim_connection_end(c, ENDING_LINGER); return;
    case FAULT_START_SILENT: sim_connection_silent(c); return;
    }
    if (c->x.fault.late_ns > 0) {
        sim_connection_at(c, ring_now(c->sim->ring) + c->x.fault.late_ns, answer_now);
    } else {
        answer_now(c);
    }
}
