/* The gateway's own API: /api/cache and /api/performance. Answered on the admin listener, and on the public ones where
 * cache.api_token is configured: there only to requests that carry it (RFC 6750). All answers are JSON. */
#ifndef SLUICE_SERVER_OWN_API_H
#define SLUICE_SERVER_OWN_API_H

#include "http/uri.h"
#include "server/conn.h"

/* Whether the path is one of these, be there something or not. */
bool own_api_is_path(struct bytes path);

/* Whether this listener's clients are answered at all. */
bool own_api_is_offered(const struct conn *conn);

/* A request, *borrowed* for the call. */
struct own_api_request {
    const struct http_parser *parser; /* holds the head */
    const char *base;
    const struct http_target *target;
    struct bytes path; /* normalised */
    struct bytes authority;
    struct conn_answer *answer; /* what every answer to it shares; its keep_alive counts that nobody reads the body */
    bool keep_alive;            /* as it was before that: own_api_begin's */
};

/* Queues the answer and gives its status, or begins an exchange and gives 0. On failure the connection is to be closed.
 */
MUST_USE enum result own_api_begin(struct conn *conn, struct own_api_request *request, uint16_t *ret_status);

/* ---- for what is in it ---- */

/* Queues 200 with this JSON, which is copied. */
MUST_USE enum result own_api_answer(struct conn *conn, const struct own_api_request *request, struct bytes json,
                                    uint16_t *ret_status);

/* Queues an error. `extra`: further field lines, or empty. */
MUST_USE enum result own_api_refuse(struct conn *conn, const struct own_api_request *request,
                                    const struct api_error *error, struct bytes extra, uint16_t *ret_status);

#endif
