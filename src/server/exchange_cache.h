/* What an exchange has to do with the cache: shared by the files below and exchange_inference.c. */
#ifndef SLUICE_SERVER_EXCHANGE_CACHE_H
#define SLUICE_SERVER_EXCHANGE_CACHE_H

#include "server/cached.h"
#include "server/exchange.h"
#include "server/worker.h"

struct exchange_inference;

enum { EXCHANGE_CACHE_RUNS_MAX = 4 }; /* looks again, before it goes alone */

/* Under what a request is counted, once, when it is over; hits are counted with what they saved as they are answered.
 */
enum exchange_cache_outcome {
    EXCHANGE_CACHE_COUNTED,
    EXCHANGE_CACHE_TIER_HIT,
    EXCHANGE_CACHE_MISS,
    EXCHANGE_CACHE_JOIN,
    EXCHANGE_CACHE_BYPASS,
};

/* In the exchange's arena. */
struct exchange_cache {
    struct exchange *exchange;
    void (*run)(struct exchange *exchange);  /* inference; NULL: http */
    void (*fini)(struct exchange *exchange); /* likewise */
    struct exchange_inference *inference;    /* likewise */
    struct bytes head;                       /* the request's, as it came; http */
    struct bytes path;                       /* normalised */
    char *key_room;                          /* from malloc */
    struct flight_waiter waiter;
    struct ring_timer timer;  /* joined, and no head has come: how long that may last */
    struct filling *prepared; /* not started yet */
    struct cache_status status;
    enum exchange_cache_outcome outcome;
    unsigned runs;
    int64_t began_ms;
    enum cache_status_forward asked_why; /* when is_asked */
    bool is_asked;       /* the origin has confirmed what is stored: what it said since began_ms needs no asking */
    bool is_plain;       /* http: what is stored was asked about in vain */
    bool is_conditional; /* http: the client has conditions of its own, which were left out of what was asked */
    bool is_joined;
    bool is_from_tier; /* what is to be found in memory was put there from the second tier for us */
    bool is_alone;     /* claims no more */
    bool is_other_variant;
    bool is_late;           /* what was joined had its head before this request came */
    bool is_too_old;        /* and is not fresh enough for it */
    uint64_t claimed_hash;  /* of the key that was claimed last */
    struct bytes varied_by; /* what the answer to it varies by, and what this request says of that; .len 0: not known */
};

static inline struct worker *exchange_worker(const struct exchange *exchange)
{
    return exchange->conn->worker;
}

static inline int64_t exchange_now_ms(const struct exchange *exchange)
{
    return ring_unix_ms(exchange_worker(exchange)->ring);
}

/* ---- exchange_cache.c: looking and deciding ---- */

/* *Gives* it to the exchange. NULL when memory is out. */
struct exchange_cache *exchange_cache_create(struct exchange *exchange);

/* Calls `act` with the request's head: the client's buffer, while it is there, or the copy, parsed again. `act` may end
 * the exchange. */
void exchange_cache_with_head(struct exchange *exchange, void (*act)(struct exchange *, const struct exchange_start *));

/* Leaves the entry that was read so far; nothing of it has been shown. */
void exchange_cache_leave_entry(struct exchange *exchange);

void exchange_cache_source(const struct exchange_start *start, struct cache_key_source *ret_source);

/* What the cache has for an `http` request; the key stands in the exchange's key_room. */
void exchange_cache_look(struct exchange *exchange, const struct exchange_start *start, struct cached_look *ret_look);

/* ---- exchange_claim.c: fetching once for many ---- */

void exchange_claim_init(struct exchange *exchange);

/* Waits no more, and drops the filling that was prepared. */
void exchange_claim_fini(struct exchange *exchange);

/* Has what is stored nowhere fetched, once for all who want it now: `prepared` is ready. `seen`: what is stored, and
 * will not do; may be NULL. */
void exchange_cache_claim(struct exchange *exchange, const struct cache_key *key, const struct cache_object *seen,
                          uint8_t variant);

/* Runs the filling that is prepared, and reads its entry. *Takes* flight (may be NULL). */
void exchange_claim_follow(struct exchange *exchange, struct flight *flight);

/* The first news of an entry that another's request fills: true when this one leaves it. */
bool exchange_claim_intercept(struct exchange *exchange);

/* ---- exchange_ask.c: what the origin is asked ---- */

/* Asks for what is not stored, or not any more: once for all, if it may. */
void exchange_ask(struct exchange *exchange, const struct exchange_start *start, struct cached_look *look);

/* Refreshes what was found stale, for whoever comes next. */
void exchange_ask_behind(struct exchange *exchange, const struct exchange_start *start, const struct cached_look *look);

/* Passes the cache by, as any proxied request does. */
void exchange_ask_past(struct exchange *exchange, const struct exchange_start *start);

/* ---- exchange_serve.c: answering from what is stored ---- */

/* Answers from a stored object. False: it cannot be pinned, and nothing was done. Else the exchange may be gone. */
bool exchange_serve(struct exchange *exchange, struct cache_object *object, struct cached_serving *serving,
                    const struct cache_status *status);

/* Whether what is stored may stand in for an answer that the origin fails to give. */
bool exchange_may_serve_failing(const struct cached_look *look, bool is_unreachable, int64_t now_ms);

/* Answers from what is stored, if it may stand in for the failure that the entry is; else does nothing. */
void exchange_serve_stale(struct exchange *exchange, const struct exchange_start *start);

/* Answers 304 when the client has what has been fetched, and the fetch goes on without it; else does nothing. */
void exchange_serve_not_modified(struct exchange *exchange, const struct exchange_start *start);

#endif
