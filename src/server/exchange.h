/* An exchange: a request that cannot be answered at once, from its head to the last byte of the answer.
 *
 *   client's bytes ─▶ body ─┬─ buffered (inference) ─┐
 *                           ├─ streamed (http) ──────┼─▶ fetch ─▶ entry ─▶ reader ─▶ outbox ─▶ client
 *                           └─ read away (respond) ──┘                       └ fixed answer
 *
 * It is the client's side of things only: when the client leaves, it goes, and with it its reader; what
 * happens to the fetch is the entry's affair. */
#ifndef SLUICE_SERVER_EXCHANGE_H
#define SLUICE_SERVER_EXCHANGE_H

#include "api/error.h"
#include "api/models.h"
#include "http/uri.h"
#include "proxy/fetch.h"
#include "server/conn.h"

enum {
    EXCHANGE_ARENA_BYTES = 1024,
    EXCHANGE_STREAM_WINDOW_BYTES = 256 * 1024,
    EXCHANGE_STREAM_REWIND_BYTES = 64 * 1024, /* of a body, kept to be sent again when a kept connection was dead */
};

enum exchange_body { EXCHANGE_BODY_NONE, EXCHANGE_BODY_AWAY, EXCHANGE_BODY_BUFFERED, EXCHANGE_BODY_STREAMED };

struct exchange {
    struct conn *conn;
    const struct route *route;
    struct exchange *next_free;
    nanos started_ns;
    uint8_t method; /* llhttp_method_t */
    uint8_t version_minor;
    bool is_head;
    bool keep_alive;
    bool body_done;  /* the request's */
    bool head_sent;  /* the answer's */
    bool is_chunked; /* the answer goes out chunked */
    bool is_until_close;
    bool is_over;
    bool is_model_list;
    uint16_t status;     /* answered; 0: not yet */
    uint64_t sent_bytes; /* of the answer's body, queued */

    enum exchange_body body_kind;
    uint64_t body_bytes_max; /* 0: none */
    nanos body_started_ns;   /* moved on by the time for which we held the body back */
    nanos held_since_ns;     /* 0: it is not held back */
    char *buffer;            /* BUFFERED, from malloc */
    size_t buffered;
    size_t buffer_capacity;

    struct fetch *fetch;          /* its own; NULL: none, or another's is read */
    struct fetch_interim interim; /* set in a fetch that is followed */
    struct entry *entry;          /* another's, or a stored answer's: a use of it is ours; NULL: none */
    struct entry_reader reader;
    uint64_t body_left;                         /* of the answer's body: of a range less than all */
    struct exchange_cache *cache;               /* its dealings with the cache (exchange_cache.c); NULL: none */
    struct exchange_invalidation *invalidation; /* of an unsafe request (exchange_invalidation.c); NULL: none */
    const struct exchange_start *start;         /* while the head is still in the client's buffer */
    struct model_gathering *gathering;          /* instead of the fetch; NULL: none */
    struct cache_deletion *deletion;            /* likewise (cache_api.h) */

    struct demand *demand; /* what the head says, until the body is there; in the arena, like all below; NULL: none */
    struct bytes request_id;
    struct bytes log_method;
    struct bytes log_target;
    struct bytes log_host;
    struct arena arena;

    /* made when needed */
    struct http_body body;
    struct entry stream; /* STREAMED */
    struct entry_filler stream_filler;
    char arena_lent[EXCHANGE_ARENA_BYTES];
};

/* What was found out about a request before it became an exchange. *Borrows* all. */
struct exchange_start {
    const struct route *route;
    const struct http_parser *parser; /* holds the head */
    const char *base;
    const struct http_target *target;
    struct bytes path;      /* normalised */
    struct bytes authority; /* the target's, or Host */
    struct bytes request_id;
    bool keep_alive;
    struct cache_deletion *deletion; /* *taken* in any case; NULL: the route says what to do */
};

/* Begins; on RESULT_OK conn->exchange is set, unless it ended at once. */
MUST_USE enum result exchange_begin(struct conn *conn, const struct exchange_start *start);

/* Bytes of the client's came: uses those of the request's body, and says how many. */
size_t exchange_on_input(struct exchange *exchange, struct bytes input);

/* The client sent FIN or is gone. `is_reset`: nothing can be sent to it. May end the exchange. */
void exchange_on_client_end(struct exchange *exchange, bool is_reset);

/* There is room in the outbox again. */
void exchange_on_sent(struct exchange *exchange);

/* Whether more of the answer is there than the outbox had room for: only exchange_on_sent moves it on. */
bool exchange_awaits_sent(const struct exchange *exchange);

/* Moment at which the request's body is looked at for its rate; NANOS_NEVER when it is not awaited. */
nanos exchange_body_deadline(const struct exchange *exchange);

/* That moment has come. */
void exchange_on_body_deadline(struct exchange *exchange);

/* Drops it without an answer: the connection is being closed. */
void exchange_abort(struct exchange *exchange);

/* The form of errors on a route. */
enum api_dialect exchange_dialect(const struct route *route);

/* Frees the pool. */
void exchange_pool_fini(struct worker *worker);

#endif
