/* The chunked coding, incoming (RFC 9112 §7.1), one byte of framing at a time, payload by the run.
 *
 * Not left to llhttp, though it could go on where the head ended: its state would cost each exchange
 * another 88 bytes, it sets no bound to chunk extensions, and it knows nothing of which trailers are
 * safe. It serves as the oracle this is fuzzed against: what is accepted here, llhttp accepts too, with
 * the same payload and the same end.
 *
 *   SIZE_FIRST ─hex▶ SIZE ─CR▶ SIZE_LF ─LF, size > 0▶ DATA ▶ DATA_CR ▶ DATA_LF ▶ SIZE_FIRST
 *                     └';'▶ EXT_… ─CR▶ SIZE_LF ─LF, size = 0▶ LINE ─CR▶ LAST_LF ─LF▶ done
 *                                               LINE ─token▶ NAME ─':'▶ VALUE ─CR▶ VALUE_LF ─LF▶ LINE */
#include "base/check.h"
#include "http/chars.h"
#include "http/internal.h"

#include <stdlib.h>

enum chunk_phase {
    SIZE_FIRST,
    SIZE,
    SIZE_LF,
    EXT_NAME_FIRST,
    EXT_NAME,
    EXT_VALUE_FIRST,
    EXT_VALUE,
    EXT_QUOTED,
    EXT_ESCAPED,
    EXT_END,
    DATA,
    DATA_CR,
    DATA_LF,
    LINE,
    NAME,
    VALUE,
    VALUE_LF,
    LAST_LF,
};

enum {
    SIZE_DIGITS_MAX = 16,
    /* Extensions mean nothing here, so what they cost is bounded: 16 bytes a chunk and as many as twice
     * its payload are free (AWS signs each chunk with 85), beyond that a body may waste this much. */
    EXTENSION_EXCESS_MAX = 16384,
    EXTENSION_FREE_BYTES = 16,
};

static const char BAD_SIZE[] = "A chunk size is malformed.";
static const char BAD_EXTENSION[] = "A chunk extension is malformed.";
static const char BAD_DATA_END[] = "A chunk does not end in CR LF.";
static const char BAD_TRAILER[] = "A trailer field is malformed.";

static enum result size_done(struct http_body *body)
{
    uint32_t excess = body->extension_excess;
    uint64_t payload = body->remaining_bytes < EXTENSION_EXCESS_MAX ? body->remaining_bytes : EXTENSION_EXCESS_MAX;
    uint32_t excused = 2 * (uint32_t)payload + EXTENSION_FREE_BYTES;
    body->size_digits = 0;
    body->extension_excess = excess > excused ? excess - excused : 0;
    body->chunk_phase = body->remaining_bytes > 0 ? DATA : LINE;
    return RESULT_MORE;
}

static enum result step_size(struct http_body *body, char c)
{
    if (body->chunk_phase == SIZE_LF) {
        return c == '\n' ? size_done(body) : http_body_refuse(body, RESULT_PROTOCOL, BAD_SIZE);
    }
    if (char_is(c, CHAR_HEX)) {
        uint64_t size = body->remaining_bytes << 4 | char_hex(c);
        if (++body->size_digits > SIZE_DIGITS_MAX || size > INT64_MAX) {
            return http_body_refuse(body, RESULT_PROTOCOL, "A chunk size is too large.");
        }
        body->remaining_bytes = size;
        body->chunk_phase = SIZE;
        return RESULT_MORE;
    }
    if (body->chunk_phase == SIZE && (c == '\r' || c == ';')) {
        body->chunk_phase = c == '\r' ? SIZE_LF : EXT_NAME_FIRST;
        return RESULT_MORE;
    }
    return http_body_refuse(body, RESULT_PROTOCOL, BAD_SIZE);
}

/* `;name`, `;name=token` or `;name="quoted"`, without the white space that RFC 9112 calls bad. */
static enum result step_extension(struct http_body *body, char c)
{
    uint8_t phase = body->chunk_phase;
    uint8_t next = SIZE_FIRST; /* none */
    if (++body->extension_excess > EXTENSION_EXCESS_MAX) {
        return http_body_refuse(body, RESULT_LIMIT, "The chunk extensions are too large.");
    }
    if (phase == EXT_QUOTED) {
        next = c == '"' ? EXT_END : c == '\\' ? EXT_ESCAPED : char_is(c, CHAR_TEXT) ? EXT_QUOTED : SIZE_FIRST;
    } else if (phase == EXT_ESCAPED) {
        next = char_is(c, CHAR_TEXT) ? EXT_QUOTED : SIZE_FIRST;
    } else if (char_is(c, CHAR_TOKEN) && phase != EXT_END) {
        next = phase == EXT_NAME_FIRST || phase == EXT_NAME ? EXT_NAME : EXT_VALUE;
    } else if (phase == EXT_NAME && c == '=') {
        next = EXT_VALUE_FIRST;
    } else if (phase == EXT_VALUE_FIRST) {
        next = c == '"' ? EXT_QUOTED : SIZE_FIRST;
    } else if (phase != EXT_NAME_FIRST) {
        next = c == ';' ? EXT_NAME_FIRST : c == '\r' ? SIZE_LF : SIZE_FIRST;
    }
    if (next == SIZE_FIRST) {
        return http_body_refuse(body, RESULT_PROTOCOL, BAD_EXTENSION);
    }
    body->chunk_phase = next;
    return RESULT_MORE;
}

static enum result put_trailer(struct http_body *body, char c)
{
    if (body->trailers == NULL) {
        body->trailers = malloc(HTTP_TRAILER_BYTES_MAX);
        if (body->trailers == NULL) {
            return RESULT_NO_MEMORY;
        }
    }
    if (body->trailer_bytes == HTTP_TRAILER_BYTES_MAX) {
        return http_body_refuse(body, RESULT_LIMIT, "The trailer section is too large.");
    }
    body->trailers[body->trailer_bytes++] = c;
    return RESULT_MORE;
}

/* The line at trailer_line_at has reached its LF: keep it, forget it, or refuse the message. */
static enum result trailer_line_done(struct http_body *body)
{
    struct bytes name = {body->trailers + body->trailer_line_at, body->trailer_value_at - body->trailer_line_at - 2};
    enum http_trailer_fate fate = http_trailer_fate(name);
    if (fate == HTTP_TRAILER_REFUSE) {
        return http_body_refuse(body, RESULT_PROTOCOL, "A trailer field must not be sent as a trailer.");
    }
    if (fate == HTTP_TRAILER_DROP) {
        body->trailer_bytes = body->trailer_line_at;
    }
    body->chunk_phase = LINE;
    return RESULT_MORE;
}

static enum result step_trailer_value(struct http_body *body, char c)
{
    bool empty = body->trailer_bytes == body->trailer_value_at;
    if (c != '\r') {
        if (!char_is(c, CHAR_TEXT)) {
            return http_body_refuse(body, RESULT_PROTOCOL, BAD_TRAILER);
        }
        return empty && (c == ' ' || c == '\t') ? RESULT_MORE : put_trailer(body, c);
    }
    while (body->trailer_bytes > body->trailer_value_at &&
           (body->trailers[body->trailer_bytes - 1] == ' ' || body->trailers[body->trailer_bytes - 1] == '\t')) {
        body->trailer_bytes--;
    }
    body->chunk_phase = VALUE_LF;
    enum result result = put_trailer(body, '\r');
    return result == RESULT_MORE ? put_trailer(body, '\n') : result;
}

static enum result step_trailer(struct http_body *body, char c)
{
    enum result result;
    switch (body->chunk_phase) {
    case LINE:
        body->trailer_line_at = body->trailer_bytes;
        body->chunk_phase = c == '\r' ? LAST_LF : NAME;
        if (c == '\r') {
            return RESULT_MORE;
        }
        return char_is(c, CHAR_TOKEN) ? put_trailer(body, c) : http_body_refuse(body, RESULT_PROTOCOL, BAD_TRAILER);
    case NAME:
        if (char_is(c, CHAR_TOKEN)) {
            return put_trailer(body, c);
        }
        if (c != ':') {
            return http_body_refuse(body, RESULT_PROTOCOL, BAD_TRAILER);
        }
        result = put_trailer(body, ':');
        result = result == RESULT_MORE ? put_trailer(body, ' ') : result;
        body->trailer_value_at = body->trailer_bytes;
        body->chunk_phase = VALUE;
        return result;
    case VALUE: return step_trailer_value(body, c);
    case VALUE_LF: return c == '\n' ? trailer_line_done(body) : http_body_refuse(body, RESULT_PROTOCOL, BAD_TRAILER);
    default: /* LAST_LF */
        if (c != '\n') {
            return http_body_refuse(body, RESULT_PROTOCOL, BAD_TRAILER);
        }
        body->done = true;
        return RESULT_OK;
    }
}

static enum result step(struct http_body *body, char c)
{
    if (body->chunk_phase <= SIZE_LF) {
        return step_size(body, c);
    }
    if (body->chunk_phase <= EXT_END) {
        return step_extension(body, c);
    }
    if (body->chunk_phase >= LINE) {
        return step_trailer(body, c);
    }
    if (c != (body->chunk_phase == DATA_CR ? '\r' : '\n')) {
        return http_body_refuse(body, RESULT_PROTOCOL, BAD_DATA_END);
    }
    body->chunk_phase = body->chunk_phase == DATA_CR ? DATA_LF : SIZE_FIRST;
    return RESULT_MORE;
}

enum result http_chunked_read(struct http_body *body, struct bytes input, size_t *ret_used,
                              enum result (*sink)(void *context, struct bytes run), void *context)
{
    enum result result = RESULT_MORE;
    size_t at = 0;
    while (at < input.len && result == RESULT_MORE) {
        if (body->chunk_phase != DATA) {
            result = step(body, input.ptr[at]);
            at++;
            continue;
        }
        struct bytes run = {input.ptr + at, input.len - at};
        if (run.len > body->remaining_bytes) {
            run.len = body->remaining_bytes;
        }
        at += run.len;
        body->received_bytes += run.len;
        body->remaining_bytes -= run.len;
        if (body->remaining_bytes == 0) {
            body->chunk_phase = DATA_CR;
        }
        enum result sunk = sink == NULL ? RESULT_OK : sink(context, run);
        if (sunk != RESULT_OK) {
            *ret_used = at;
            return sunk;
        }
    }
    *ret_used = at;
    if (body->done && body->trailer_bytes == 0) {
        http_body_fini(body);
    }
    return result;
}
