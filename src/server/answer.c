/* Answers that are whole when they are queued: fixed ones, errors, the admin's. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/conn.h"

typedef uint8_t lanes __attribute__((vector_size(16)));
typedef uint64_t words __attribute__((vector_size(16)));

/* The 16 bytes as 32 hexadecimal digits, all at once: every answer has an id. */
static void put_hex(char out[32], words bits)
{
    lanes bytes = (lanes)bits; /* in a register: loading at once what was stored in halves would wait for the stores */
    lanes high = bytes >> 4;
    lanes low = bytes & 0x0f;
    high += '0' + ((lanes)(high > 9) & ('a' - '0' - 10));
    low += '0' + ((lanes)(low > 9) & ('a' - '0' - 10));
    lanes digits[2] = {
        __builtin_shufflevector(high, low, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23),
        __builtin_shufflevector(high, low, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31),
    };
    memcpy(out, digits, sizeof(digits));
}

void conn_make_request_id(struct conn *conn, char out[FORWARD_REQUEST_ID_BYTES])
{
    _Static_assert(FORWARD_REQUEST_ID_BYTES == 32, "two words in hexadecimal");
    uint64_t first = ring_random(conn->worker->ring);
    put_hex(out, (words){first, ring_random(conn->worker->ring)});
}

char *conn_put_common_fields(struct conn *conn, char *at, const struct conn_answer *answer, bool has_date)
{
    if (!has_date) {
        at = bytes_put(at, BYTES("Date: "));
        at = bytes_put(at, (struct bytes){worker_date(conn->worker), HTTP_DATE_BYTES});
        at = bytes_put(at, BYTES("\r\n"));
    }
    if (answer->request_id.len > 0) {
        at = bytes_put(at, BYTES("X-Request-Id: "));
        at = bytes_put(at, answer->request_id);
        at = bytes_put(at, BYTES("\r\n"));
    }
    if (!answer->keep_alive) {
        at = bytes_put(at, BYTES("Connection: close\r\n"));
    } else if (answer->version_minor == 0) {
        at = bytes_put(at, BYTES("Connection: keep-alive\r\n"));
    }
    return bytes_put(at, BYTES("\r\n"));
}

/* A large body that goes away with the caller. */
static enum result put_copy(struct outbox *outbox, struct bytes body)
{
    char *text = malloc(body.len);
    if (text == NULL) {
        return RESULT_NO_MEMORY;
    }
    memcpy(text, body.ptr, body.len);
    return outbox_take(outbox, text, body.len);
}

enum result conn_answer(struct conn *conn, const struct conn_answer *answer)
{
    struct outbox *outbox = conn_outbox(conn);
    if (outbox == NULL) {
        return RESULT_NO_MEMORY;
    }
    bool copy = answer->body.len <= OUTBOX_COPY_BYTES_MAX;
    size_t bytes_max =
        answer->fixed_head.len + CONN_COMMON_BYTES_MAX + answer->request_id.len + (copy ? answer->body.len : 0);
    char *start = outbox_reserve(outbox, bytes_max);
    if (start == NULL) {
        return RESULT_NO_MEMORY;
    }
    char *at = bytes_put(start, answer->fixed_head);
    at = conn_put_common_fields(conn, at, answer, false);
    if (copy) {
        at = bytes_put(at, answer->body);
    }
    enum result result = outbox_commit(outbox, (size_t)(at - start));
    if (result == RESULT_OK && !copy) {
        result = answer->copy_body ? put_copy(outbox, answer->body) : outbox_pin(outbox, answer->body, NULL);
    }
    return result;
}

enum result conn_answer_error(struct conn *conn, enum api_dialect dialect, const struct api_error *error,
                              struct bytes extra, struct conn_answer *answer, bool is_head)
{
    char lent[1024];
    struct arena arena;
    arena_init(&arena, lent, sizeof(lent));
    struct bytes content_type;
    struct bytes body = api_error_body(&arena, dialect, error, &content_type);
    struct bytes reason = http_reason(error->status);
    answer->fixed_head =
        arena_format(&arena, "HTTP/1.1 %u %.*s\r\nContent-Type: %.*s\r\nContent-Length: %zu\r\n%.*s", error->status,
                     BYTES_ARG(reason), BYTES_ARG(content_type), body.len, BYTES_ARG(extra));
    answer->body = is_head ? BYTES_NONE : body;
    enum result result =
        answer->fixed_head.ptr == NULL || body.ptr == NULL ? RESULT_NO_MEMORY : conn_answer(conn, answer);
    answer->fixed_head = BYTES_NONE;
    answer->body = BYTES_NONE;
    arena_fini(&arena);
    return result;
}
