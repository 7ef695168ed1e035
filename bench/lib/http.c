#include "http.h"

#include <string.h>
#include <strings.h>

enum state {
    STATE_PLAIN,     /* Content-Length */
    STATE_SIZE,      /* digits of a chunk's size */
    STATE_EXTENSION, /* the rest of that line */
    STATE_DATA,
    STATE_DATA_END, /* the CR LF behind a chunk */
    STATE_TRAILER,  /* at the start of a line behind the last chunk */
    STATE_TRAILER_LINE,
};

static uint64_t decimal(const char *at, const char *end)
{
    uint64_t value = 0;
    while (at < end && *at == ' ')
        at++;
    for (; at < end && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    return value;
}

static void field(struct http_head *head, const char *line, size_t length)
{
    static const char CONTENT_LENGTH[] = "content-length:", TRANSFER[] = "transfer-encoding: chunked",
                      CONNECTION[] = "connection: close", EVENTS[] = "content-type: text/event-stream";
    if (length >= sizeof CONTENT_LENGTH - 1 && strncasecmp(line, CONTENT_LENGTH, sizeof CONTENT_LENGTH - 1) == 0) {
        head->content_length = decimal(line + sizeof CONTENT_LENGTH - 1, line + length);
        head->has_length = true;
    } else if (length == sizeof TRANSFER - 1 && strncasecmp(line, TRANSFER, length) == 0) {
        head->chunked = true;
    } else if (length == sizeof CONNECTION - 1 && strncasecmp(line, CONNECTION, length) == 0) {
        head->close = true;
    } else if (length >= sizeof EVENTS - 1 && strncasecmp(line, EVENTS, sizeof EVENTS - 1) == 0) {
        head->is_events = true;
    }
}

enum http_outcome http_head_parse(const char *bytes, size_t length, struct http_head *ret_head)
{
    const char *blank = memmem(bytes, length, "\r\n\r\n", 4);
    if (blank == NULL)
        return HTTP_MORE;
    struct http_head head = {.bytes = (size_t)(blank - bytes) + 4};
    if (length >= 12 && memcmp(bytes, "HTTP/1.", 7) == 0)
        head.status = (unsigned)decimal(bytes + 9, bytes + 12);
    const char *line = memchr(bytes, '\n', head.bytes);
    while (line != NULL && ++line < blank) {
        const char *end = memchr(line, '\n', (size_t)(blank + 2 - line));
        /* all the fields that matter start with C or T; a compare of one byte keeps the rest cheap */
        if ((*line | 0x20) == 'c' || (*line | 0x20) == 't')
            field(&head, line, (size_t)(end - 1 - line));
        line = end;
    }
    *ret_head = head;
    return HTTP_DONE;
}

void http_body_init(struct http_body *body, const struct http_head *head)
{
    *body = (struct http_body){
        .left = head->chunked ? 0 : head->content_length,
        .state = head->chunked ? STATE_SIZE : STATE_PLAIN,
        .chunked = head->chunked,
    };
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static size_t take(struct http_body *body, size_t length)
{
    size_t taken = body->left < length ? (size_t)body->left : length;
    body->left -= taken;
    return taken;
}

/* One byte of chunked framing. */
static enum http_outcome framing(struct http_body *body, char c)
{
    switch ((enum state)body->state) {
    case STATE_SIZE:
        if (hex_digit(c) >= 0) {
            body->left = body->left << 4 | (uint64_t)hex_digit(c);
            return HTTP_MORE;
        }
        body->state = STATE_EXTENSION;
        return c == '\r' || c == ';' || c == ' ' ? HTTP_MORE : HTTP_BROKEN;
    case STATE_EXTENSION:
        if (c == '\n')
            body->state = body->left > 0 ? STATE_DATA : STATE_TRAILER;
        return HTTP_MORE;
    case STATE_DATA_END:
        if (c == '\n')
            body->state = STATE_SIZE;
        return c == '\n' || c == '\r' ? HTTP_MORE : HTTP_BROKEN;
    case STATE_TRAILER:
        if (c == '\n')
            return HTTP_DONE;
        if (c != '\r')
            body->state = STATE_TRAILER_LINE;
        return HTTP_MORE;
    case STATE_TRAILER_LINE:
        if (c == '\n')
            body->state = STATE_TRAILER;
        return HTTP_MORE;
    case STATE_PLAIN:
    case STATE_DATA: break;
    }
    return HTTP_BROKEN;
}

enum http_outcome http_body_step(struct http_body *body, const char *bytes, size_t length, const char **ret_payload,
                                 size_t *ret_payload_length, size_t *ret_used)
{
    *ret_payload = bytes;
    *ret_payload_length = 0;
    size_t at = 0;
    enum http_outcome outcome = HTTP_MORE;
    while (at < length && outcome == HTTP_MORE && body->state != STATE_PLAIN && body->state != STATE_DATA)
        outcome = framing(body, bytes[at++]);
    if (outcome == HTTP_MORE && (body->state == STATE_PLAIN || body->state == STATE_DATA)) {
        *ret_payload = bytes + at;
        *ret_payload_length = take(body, length - at);
        at += *ret_payload_length;
        if (body->left == 0 && body->state == STATE_PLAIN)
            outcome = HTTP_DONE;
        else if (body->left == 0)
            body->state = STATE_DATA_END;
    }
    *ret_used = at;
    return outcome;
}
