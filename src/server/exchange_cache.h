/* What an exchange has to do with the cache: shared by exchange_cache.c (in general, and `http`) and
 * exchange_inference.c. */
#ifndef SLUICE_SERVER_EXCHANGE_CACHE_H
#define SLUICE_SERVER_EXCHANGE_CACHE_H

#include "server/cached.h"
#include "server/exchange.h"

struct exchange_inference;

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
    bool is_asked; /* the origin has said that what is stored holds: what it said since began_ms is used without asking
                    */
    bool is_plain;       /* http: what is stored was asked about in vain */
    bool is_conditional; /* http: the client has conditions of its own, which were left out of what was asked */
    bool is_joined;
    bool is_from_tier; /* what is to be found in memory was put there from the second tier for us */
    bool is_alone;     /* claims no more */
    bool is_other_variant;
};

/* *Gives* it to the exchange. NULL when memory is out. */
struct exchange_cache *exchange_cache_create(struct exchange *exchange);

/* Has what is stored nowhere fetched, once for all who want it now: `prepared` is ready. `seen`: what is stored, and
 * will not do; may be NULL. */
void exchange_cache_claim(struct exchange *exchange, const struct cache_key *key, const struct cache_object *seen,
                          uint8_t variant);

/* Answers from a stored object. False: it cannot be pinned, and nothing was done. Else the exchange may be gone. */
bool exchange_serve(struct exchange *exchange, struct cache_object *object, struct cached_serving *serving,
                    const struct cache_status *status);

void exchange_cache_source(const struct exchange_start *start, struct cache_key_source *ret_source);

#endif
