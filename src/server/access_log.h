/* The access log: one JSON object a line on standard output, off by default. Lines gather in a buffer that is
 * written when it is full or half a second old, so that a request costs no system call. */
#ifndef SLUICE_SERVER_ACCESS_LOG_H
#define SLUICE_SERVER_ACCESS_LOG_H

#include "base/bytes.h"
#include "ring/ring.h"

struct access_log {
    struct ring *ring;
    bool is_on;
    size_t used;
    struct ring_timer timer;
    char *buffer; /* from malloc; NULL when off */
};

struct access_log_line {
    int64_t unix_ms;
    struct bytes client;
    struct bytes method;
    struct bytes target;
    struct bytes host;
    struct bytes route;
    struct bytes endpoint; /* .ptr NULL: none */
    struct bytes request_id;
    uint16_t status;
    uint64_t request_bytes; /* of body */
    uint64_t response_bytes;
    nanos duration_ns;
    nanos first_byte_ns; /* of the upstream, since the request came; 0: none */
};

MUST_USE enum result access_log_init(struct access_log *log, struct ring *ring, bool is_on);
void access_log_write(struct access_log *log, const struct access_log_line *line);
/* Writes what is left and frees. */
void access_log_fini(struct access_log *log);

#endif
