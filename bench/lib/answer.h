/* Reads answers from bytes as they come: a head that may come in pieces, then the body, as it is framed.
 *
 * One per connection. Memory: HEAD_BYTES_MAX once a head has come in pieces, kept until answer_fini. Not a validator:
 * see http.h. */
#ifndef BENCH_ANSWER_H
#define BENCH_ANSWER_H

#include "http.h"

enum { ANSWER_HEAD_BYTES_MAX = 16384 };

struct answer {
    struct http_body body;
    unsigned status;  /* of the answer whose head came last */
    bool in_body;     /* a head is whole, its body is not */
    bool close_after; /* the connection ends with this answer */
    bool is_events;   /* Content-Type: text/event-stream */
    bool until_close; /* so does the body: no length was given */
    char *head;       /* the part of a head that came so far; NULL unless one came in pieces */
    size_t head_bytes;
};

/* Makes it ready for the first answer of a connection; zeroed memory or one that was used before. */
void answer_reset(struct answer *answer);
void answer_fini(struct answer *answer);

/* Takes a step of at most one answer: sets *ret_payload and *ret_payload_length to bytes of its body (borrowed from
 * `bytes`, possibly none), *ret_used to how many bytes are used up. DONE: the answer is over; the rest belongs to the
 * next one. MORE: call again while bytes are left. BROKEN: no sense in it, or a head beyond ANSWER_HEAD_BYTES_MAX, or
 * no memory. Interim answers (1xx) are passed over. */
enum http_outcome answer_step(struct answer *answer, const char *bytes, size_t length, const char **ret_payload,
                              size_t *ret_payload_length, size_t *ret_used);

/* The connection has ended. DONE when that is how the body was to end, else BROKEN. */
enum http_outcome answer_end(struct answer *answer);

#endif
