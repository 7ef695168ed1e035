#include "answer.h"

#include <stdlib.h>
#include <string.h>

void answer_reset(struct answer *answer)
{
    *answer = (struct answer){.head = answer->head};
}

void answer_fini(struct answer *answer)
{
    free(answer->head);
    answer->head = NULL;
}

/* Keeps the beginning of a head until the rest has come. */
static enum http_outcome keep(struct answer *answer, const char *bytes, size_t length)
{
    if (length >= ANSWER_HEAD_BYTES_MAX)
        return HTTP_BROKEN;
    if (answer->head_bytes == 0) {
        if (answer->head == NULL && (answer->head = malloc(ANSWER_HEAD_BYTES_MAX)) == NULL)
            return HTTP_BROKEN;
        memcpy(answer->head, bytes, length);
    }
    answer->head_bytes = length;
    return HTTP_MORE;
}

static void begin_body(struct answer *answer, const struct http_head *head, bool is_http_1_0)
{
    bool bodiless = head->status == 204 || head->status == 304;
    struct http_head framing = *head;
    answer->until_close = !bodiless && !head->chunked && !head->has_length;
    if (bodiless) {
        framing.chunked = false;
        framing.content_length = 0;
    } else if (answer->until_close) {
        framing.content_length = UINT64_MAX;
    }
    http_body_init(&answer->body, &framing);
    answer->status = head->status;
    answer->close_after = head->close || is_http_1_0 || answer->until_close;
    answer->is_events = head->is_events;
    answer->in_body = true;
}

/* Reads a head that begins in the bytes or ends in them; in_body is set when it is whole. */
static enum http_outcome read_head(struct answer *answer, const char *bytes, size_t length, size_t *ret_used)
{
    size_t before = answer->head_bytes, more = length;
    const char *whole = bytes;
    if (before > 0) {
        more = length < ANSWER_HEAD_BYTES_MAX - before ? length : ANSWER_HEAD_BYTES_MAX - before;
        memcpy(answer->head + before, bytes, more);
        whole = answer->head;
    }
    struct http_head head;
    *ret_used = length;
    if (http_head_parse(whole, before + more, &head) == HTTP_MORE)
        return keep(answer, whole, before + more);
    answer->head_bytes = 0;
    *ret_used = head.bytes - before;
    if (head.status < 100)
        return HTTP_BROKEN;
    if (head.status >= 200)
        begin_body(answer, &head, whole[7] == '0');
    return HTTP_MORE;
}

enum http_outcome answer_step(struct answer *answer, const char *bytes, size_t length, const char **ret_payload,
                              size_t *ret_payload_length, size_t *ret_used)
{
    size_t head_used = 0, body_used = 0;
    *ret_payload = bytes;
    *ret_payload_length = 0;
    if (!answer->in_body) {
        enum http_outcome outcome = read_head(answer, bytes, length, &head_used);
        *ret_used = head_used;
        if (outcome == HTTP_BROKEN || !answer->in_body)
            return outcome;
    }
    enum http_outcome outcome = http_body_step(&answer->body, bytes + head_used, length - head_used, ret_payload,
                                               ret_payload_length, &body_used);
    if (outcome == HTTP_DONE)
        answer->in_body = false;
    *ret_used = head_used + body_used;
    return outcome;
}

enum http_outcome answer_end(struct answer *answer)
{
    if (!answer->in_body || !answer->until_close)
        return HTTP_BROKEN;
    answer->in_body = false;
    return HTTP_DONE;
}
