/* Just enough HTTP/1.1 to count correctly: where a head ends, how long its body is, and when that body is over.
 *
 * Pure functions over bytes. Not a validator: both ends of a bench are known, and a malformed message is reported as
 * BROKEN and ends the run. */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct http_head {
    size_t bytes;            /* the blank line included */
    unsigned status;         /* of a response, else 0 */
    uint64_t content_length; /* meaningful unless chunked; 0 when absent */
    bool has_length;
    bool chunked;
    bool close;     /* Connection: close */
    bool is_events; /* Content-Type: text/event-stream */
};

enum http_outcome { HTTP_MORE, HTTP_DONE, HTTP_BROKEN };

/* Reads one head, of a request or a response, from the start of the bytes (borrows them). MORE when its blank line is
 * not there yet. */
enum http_outcome http_head_parse(const char *bytes, size_t length, struct http_head *ret_head);

/* The position inside a body whose head was parsed; zeroed by http_body_init. */
struct http_body {
    uint64_t left; /* of the body, or of the present chunk */
    uint8_t state;
    bool chunked;
};

void http_body_init(struct http_body *body, const struct http_head *head);

/* Takes a step: sets *ret_payload and *ret_payload_length to the payload found next in the bytes (possibly none) and
 * *ret_used to how many bytes that step consumed. MORE when the body goes on (call again while bytes are left), DONE
 * when this step ended it. */
enum http_outcome http_body_step(struct http_body *body, const char *bytes, size_t length, const char **ret_payload,
                                 size_t *ret_payload_length, size_t *ret_used);

#endif
