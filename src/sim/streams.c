/* Endpoints that take their time or their size: /bytes, /delay, /drip, /ticker. */
#include <stdio.h>

#include "sim/internal.h"

enum {
    BYTES_PIECE = 65536, /* that /bytes puts at a time: its memory bound */
    DELAY_MS_MAX = 3600000,
    DRIP_PIECE_MAX = 65521,
    TICKER_UNSENT_MAX = 262144, /* of a reader that is too slow: it then gets no events until it has read */
    TICKER_DATA_MAX = 65521,
};

/* The body's bytes from `at` on: the pattern of docs/simulator.md. */
static struct bytes pattern_at(const struct sim *sim, uint64_t at, uint64_t bytes)
{
    return (struct bytes){sim->pattern + at % SIM_PATTERN_BYTES, bytes < SIM_PATTERN_BYTES ? bytes : SIM_PATTERN_BYTES};
}

/* ---- /bytes/N?chunked=1 ---- */

static void put_bytes(struct sim_connection *c)
{
    uint64_t put = 0;
    while (c->x.left > 0 && put < BYTES_PIECE) {
        uint64_t want = c->x.left < BYTES_PIECE ? c->x.left : BYTES_PIECE;
        /* A fault at a byte: the piece before it has just these bytes. */
        uint64_t until = c->x.fault.middle_after - c->x.body_sent;
        if (c->x.fault.middle != FAULT_MIDDLE_NONE && until > 0 && want > until) {
            want = until;
        }
        struct bytes piece = pattern_at(c->sim, c->x.done_count, want);
        if (!sim_answer_piece(c, piece, piece.len)) {
            return;
        }
        c->x.done_count += piece.len;
        c->x.left -= piece.len;
        put += piece.len;
    }
    if (c->x.left == 0) {
        sim_answer_finish(c);
    }
}

void sim_streams_bytes(struct sim_connection *c)
{
    uint64_t count;
    if (!bytes_to_u64(c->x.rest, &count)) {
        sim_answer_error(c, 400, "The path ends in a number of bytes.");
        return;
    }
    bool chunked = sim_query_u64(c->x.query, "chunked", 0) != 0;
    c->x.left = c->x.is_head ? 0 : count;
    sim_answer_start(c, 200, "application/octet-stream", chunked ? ANSWER_CHUNKED : count);
    c->x.on_drained = put_bytes;
    put_bytes(c);
}

/* ---- /delay/MS ---- */

static void delay_over(struct sim_connection *c)
{
    struct sim_buffer body = {0};
    sim_buffer_format(&body, "{\"delay_ms\":%llu}", (unsigned long long)c->x.left);
    sim_answer_json_buffer(c, 200, &body);
}

void sim_streams_delay(struct sim_connection *c)
{
    if (!bytes_to_u64(c->x.rest, &c->x.left) || c->x.left > DELAY_MS_MAX) {
        sim_answer_error(c, 400, "The path ends in a number of milliseconds of at most %u.", DELAY_MS_MAX);
        return;
    }
    sim_connection_at(c, ring_now(c->sim->ring) + c->x.left * NANOS_PER_MS, delay_over);
}

/* ---- /drip?bytes=N&piece=P&every-ms=T&chunked=1 ---- */

static void put_drop(struct sim_connection *c)
{
    uint64_t want = c->x.left < c->x.piece_bytes ? c->x.left : c->x.piece_bytes;
    struct bytes piece = pattern_at(c->sim, c->x.done_count, want);
    if (!sim_answer_piece(c, piece, piece.len)) {
        return;
    }
    c->x.done_count += piece.len;
    c->x.left -= piece.len;
    if (c->x.left == 0) {
        sim_answer_finish(c);
    } else {
        sim_connection_at(c, ring_now(c->sim->ring) + c->x.period_ns, put_drop);
    }
}

void sim_streams_drip(struct sim_connection *c)
{
    uint64_t count = sim_query_u64(c->x.query, "bytes", 1000);
    uint64_t piece = sim_query_u64(c->x.query, "piece", 100);
    uint64_t every_ms = sim_query_u64(c->x.query, "every-ms", 100);
    if (piece < 1 || piece > DRIP_PIECE_MAX || every_ms > DELAY_MS_MAX) {
        sim_answer_error(c, 400, "'piece' must be 1 to %u, 'every-ms' at most %u.", DRIP_PIECE_MAX, DELAY_MS_MAX);
        return;
    }
    c->x.left = c->x.is_head ? 0 : count;
    c->x.piece_bytes = (uint32_t)piece;
    c->x.period_ns = every_ms * NANOS_PER_MS;
    sim_answer_start(c, 200, "application/octet-stream",
                     sim_query_u64(c->x.query, "chunked", 0) != 0 ? ANSWER_CHUNKED : count);
    if (c->x.left == 0) {
        sim_answer_finish(c);
    } else {
        put_drop(c);
    }
}

/* ---- /ticker?events=N&rate=R&bytes=B ---- */

static void on_tick(struct sim_connection *c)
{
    struct exchange *x = &c->x;
    nanos now = ring_now(c->sim->ring);
    nanos due = x->started_ns + x->done_count * x->period_ns;
    while (due <= now && x->left > 0 && c->out.len < TICKER_UNSENT_MAX) {
        char head[96];
        /* When it is sent, on the clock a client of the same machine reads, and when it should have been. */
        int bytes = snprintf(head, sizeof(head), "data: {\"i\":%llu,\"sent_ns\":%llu,\"due_ns\":%llu,\"data\":\"",
                             (unsigned long long)x->done_count, (unsigned long long)now, (unsigned long long)due);
        const struct bytes parts[3] = {{head, (size_t)bytes}, pattern_at(c->sim, 0, x->piece_bytes), BYTES("\"}\n\n")};
        if (!sim_answer_pieces(c, parts, 1)) {
            return;
        }
        c->sim->counters.ticks++;
        x->done_count++;
        x->left--;
        due += x->period_ns;
    }
    if (x->left == 0) {
        sim_answer_piece(c, BYTES("data: [DONE]\n\n"), 0);
        sim_answer_finish(c);
        return;
    }
    if (due <= now) {
        /* The reader is behind; what it missed comes when it has read, at once. */
        due = now + x->period_ns;
    }
    sim_connection_at(c, due, on_tick);
}

void sim_streams_ticker(struct sim_connection *c)
{
    uint64_t events = sim_query_u64(c->x.query, "events", 100);
    uint64_t rate = sim_query_u64(c->x.query, "rate", c->sim->options.ticker_rate_milli / 1000);
    uint64_t bytes = sim_query_u64(c->x.query, "bytes", 16);
    if (rate < 1 || rate > 100000 || bytes > TICKER_DATA_MAX) {
        sim_answer_error(c, 400, "'rate' must be 1 to 100000 events a second, 'bytes' at most %u.", TICKER_DATA_MAX);
        return;
    }
    struct exchange *x = &c->x;
    x->left = events == 0 ? UINT64_MAX : events;
    x->period_ns = NANOS_PER_S / rate;
    x->piece_bytes = (uint32_t)bytes;
    x->period_ns = x->fault.slow_milli > 0 ? x->period_ns * x->fault.slow_milli / 1000 + 1 : x->period_ns;
    x->started_ns = ring_now(c->sim->ring);
    sim_answer_start(c, 200, "text/event-stream; charset=utf-8", ANSWER_CHUNKED);
    if (x->is_head) {
        sim_answer_finish(c);
    } else {
        on_tick(c);
    }
}
