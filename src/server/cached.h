/* Answers from the cache: looking for a request's, deciding whether it will do, and writing it.
 *
 *   cached_look ─▶ FRESH ─▶ cached_serve, cached_put_…   in the completion handler, no exchange, when the body is not
 * long ─▶ anything else                        exchange_cache.c */
#ifndef SLUICE_SERVER_CACHED_H
#define SLUICE_SERVER_CACHED_H

#include "cache/cache.h"
#include "cache/directives.h"
#include "cache/range.h"
#include "cache/status.h"
#include "proxy/filling.h"
#include "server/cache_key.h"
#include "server/conn.h"

enum {
    CACHED_KEY_BYTES_MAX = 8192, /* of an `http` request; one with a longer key is not cached */
    CACHED_TOUCH_EVERY = 16,     /* hits in memory, of those that the second tier hears of */
    CACHED_COPY_BYTES_MAX =
        16 * 1024, /* bodies up to this are copied out within the dispatch, longer ones are pinned */
    CACHED_AT_ONCE_BYTES_MAX = 256 * 1024, /* bodies up to this need no exchange: all of it goes to the outbox */
};

/* One route's counts on one worker; one writer, read by the metrics and /api/cache/stats. */
struct cached_counters {
    _Atomic uint64_t fresh_hits; /* each request is counted once: under one of these five */
    _Atomic uint64_t stale_hits;
    _Atomic uint64_t misses;
    _Atomic uint64_t joins;
    _Atomic uint64_t bypasses;
    _Atomic uint64_t saved_ns; /* what the hits' answers had cost to make */
    _Atomic uint64_t saved_tokens;
    struct filling_counters filling;
};

enum cached_plan {
    CACHED_BYPASS, /* neither looked up nor stored */
    CACHED_MISS,
    CACHED_FRESH,
    CACHED_BEHIND, /* to be answered now and refreshed behind */
    CACHED_VALIDATE,
    CACHED_UNAVAILABLE, /* only-if-cached: 504 */
};

/* A request, and what the cache has for it. */
struct cached_look {
    /* given */
    struct worker *worker;
    const struct route *route;
    struct cache_key_source source;
    char *key_room; /* CACHED_KEY_ROOM_BYTES */
    /* found */
    enum cached_plan plan;
    struct directives_request asks;
    struct cache_key key;        /* of the object found, or of what would be stored; in key_room */
    struct cache_object *object; /* NULL: none; as long as this dispatch */
    struct cache_object *part;   /* instead: a fresh part that does not hold what is asked for; NULL: none */
    struct cache_status status;  /* for Cache-Status */
};

#define CACHED_KEY_ROOM_BYTES (FILLING_KEY_BYTES_MAX)

/* Whether a request on this route has to do with the cache at all: GET and HEAD without a body. */
bool cached_concerns(const struct worker *worker, const struct route *route, const struct http_head *head);

/* Makes the key, looks it up, and decides. */
void cached_look(struct cached_look *look);

/* How a stored answer goes to the client. */
struct cached_serving {
    const struct cache_head *head;
    uint64_t body_at;        /* where in the representation the stored body begins: of a part */
    uint64_t body_bytes;     /* of the stored body; of a part: of what it is a part of */
    uint16_t status;         /* the stored one, or 206, 304, 416 */
    struct range_set ranges; /* of a 206 */
    uint64_t boundary;       /* random: what is between the parts of one that has several */
    bool has_body;
    struct bytes content_type; /* .len > 0: of a converted body, in the place of the stored one */
    bool (*keep)(const void *context, struct bytes name); /* likewise: which of the stored lines are true of it, too */
    const void *keep_context;
};

/* Decides on conditions and ranges. The ring gives the time, and random bits. */
void cached_serve(const struct http_head *request, const char *base, const struct cache_object *object,
                  struct ring *ring, struct cached_serving *ret_serving);

/* Queues the head of the answer. `answer`: what every answer has. */
MUST_USE enum result cached_put_head(struct conn *conn, const struct cached_serving *serving,
                                     const struct cache_status *status, int64_t now_ms,
                                     const struct conn_answer *answer);

/* How many bytes of body the answer has. */
uint64_t cached_body_bytes(const struct cached_serving *serving);

/* Queues a copy of a small body, or of its one range, at once. */
MUST_USE enum result cached_put_body(struct outbox *outbox, const struct cached_serving *serving,
                                     const struct cache_object *object);

/* Pins the body of one that is not small, but can be queued at once. NULL: an exchange has to see to it, piece by
 * piece, or there is no pin left now. */
struct entry *cached_pin(struct conn *conn, const struct cached_serving *serving, struct cache_object *object);

/* Queues a pinned body, or its one range, where it lies, at once. *Takes* view. */
MUST_USE enum result cached_put_pinned(struct outbox *outbox, const struct cached_serving *serving, struct entry *view);

/* Whether all of the answer can be copied within the dispatch. */
bool cached_is_small(const struct cached_serving *serving);

/* Counts an answer from the cache. */
void cached_count_hit(struct worker *worker, const struct route *route, struct cache_object *object, bool is_stale);

struct cached_counters *cached_counters_of(struct worker *worker, const struct route *route);

#endif
