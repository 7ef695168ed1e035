/* What changes in a message on its way through: hop-by-hop fields go (RFC 9110 §7.6.1), Via, X-Forwarded-*
 * and X-Request-Id come, the framing is written anew; every other line passes byte for byte. */
#ifndef SLUICE_PROXY_FORWARD_H
#define SLUICE_PROXY_FORWARD_H

#include "base/arena.h"
#include "cache/entry.h"
#include "cache/object.h"
#include "cache/range.h"
#include "http/http.h"
#include "proxy/fetch.h"
#include "proxy/outbox.h"

enum { FORWARD_REQUEST_ID_BYTES = 32 };

struct forward {
    const struct http_head *head;
    const char *base;       /* the head's bytes */
    struct bytes path;      /* what goes upstream before the query */
    struct bytes query;     /* .ptr NULL: none */
    struct bytes authority; /* of an absolute-form target, which wins over Host; or Host's */
    struct bytes client;    /* the client's address, for X-Forwarded-For; empty: not added */
    struct bytes request_id;
    /* for the cache */
    bool for_all;                        /* the answer may serve others: all of it is asked for, without conditions */
    const struct cache_head *validating; /* but for these: a stored answer to be asked about; NULL: none */
    const struct cache_head *completing; /* or a stored part, whose rest is asked for; NULL: none */
    struct range rest;
    uint64_t complete_bytes;
};

/* Writes line, host and fields of `request` into `arena`. *Borrows* everything in `forward`. */
MUST_USE enum result forward_request_head(const struct forward *forward, struct arena *arena,
                                          struct fetch_request *request);

/* The client's X-Request-Id when it is fit to be passed on (RFC-token-like, at most 128 bytes); else empty. */
struct bytes forward_request_id(const struct http_head *head, const char *base);

/* Whether a Content-Type says text/event-stream. */
bool forward_is_event_stream(struct bytes content_type);

/* Writes a response's head block into `entry`. RESULT_PROTOCOL is not among the results: the head was
 * judged when it was parsed. */
MUST_USE enum result forward_response_head(struct entry *entry, const struct http_head *head, const char *base);

/* Adds an interim response: its status line and what stays of its lines. */
MUST_USE enum result forward_add_interim(struct outbox *outbox, const struct http_head *head, const char *base);

/* Adds a run of body, in a chunk of its own when `chunked`. `hold` NULL: a copy of it. */
MUST_USE enum result forward_add_body(struct outbox *outbox, struct bytes run, struct hold *hold, bool chunked);

/* Adds the last chunk with trailers (`Name: value\r\n` lines, may be empty). */
MUST_USE enum result forward_add_body_end(struct outbox *outbox, struct bytes trailers);

#endif
