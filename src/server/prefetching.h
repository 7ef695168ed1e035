/* Predictive prefetch: what a client is likely to ask for next is fetched before it does.
 *
 *   an answer from, or into, the cache ─▶ learn (cache/prefetch.h) ─▶ a guess?
 *        ─▶ may its ledger spend (cache/prefetch_ledger.h)?  ─▶ a request of our own; not stored fresh?
 *        ─▶ capacity idle?  ─▶ claim ─▶ a filling without a client ─▶ stored, with a ticket
 *                               └─ a client that comes meanwhile joins it (exchange_claim.c)
 *        a hit on what has a ticket ─▶ the ledger: useful
 *
 * Learned, and so ever fetched, are GET requests alone, whose answers were stored, and which bring no range, no
 * no-store and no credentials (Authorization, X-Api-Key, Cookie) but those that the route's key names. The request that
 * is made has the target, the host, and of the fields of the client's last request those by which answers are
 * negotiated, those that the key names, and what a proxy in front says of scheme and host; it says of itself that
 * nobody waits for it (Priority: u=7, RFC 9218; Sec-Purpose: prefetch).
 *
 * Capacity is idle when fewer than `in_flight_max` of these are under way on this worker, and upstream_is_idle. Nothing
 * begins, and what is under way is given up, when the worker drains.
 *
 * Per worker; each route has tables of its own, so that the memory is their sum, 40 KB for each one's ledger and
 * 25 KB for the worker. */
#ifndef SLUICE_SERVER_PREFETCHING_H
#define SLUICE_SERVER_PREFETCHING_H

#include "server/conn.h"
#include "server/exchange.h"

struct prefetching;

/* One route's counts on one worker. */
struct prefetching_figures {
    uint64_t begun;
    uint64_t useful;
    uint64_t wasted;
    uint64_t held_back;  /* guesses that were not followed: no idle capacity */
    uint64_t is_stopped; /* by the floor of its precision */
};

/* Sets worker->prefetching; it stays NULL where no route asks for it. */
MUST_USE enum result prefetching_create(struct worker *worker);

/* Gives up what is under way, as the worker begins to drain. NULL is right, here and below. */
void prefetching_stop(struct prefetching *prefetching);

/* After all workers have stopped. */
void prefetching_destroy(struct prefetching *prefetching);

static inline bool prefetching_is_on(const struct route *route)
{
    return route->config->cache.prefetch.enabled;
}

/* A request, *borrowed*. */
struct prefetching_asked {
    const struct http_head *head;
    const char *base;
    const struct http_target *target;
    struct bytes path; /* normalised */
    struct bytes authority;
};

/* A request has been answered from the cache, well: learns, and perhaps fetches ahead. Only where prefetching_is_on. */
void prefetching_on_hit(struct conn *conn, const struct route *route, const struct prefetching_asked *asked);

/* The same for an exchange that is about to finish: if its answer was stored, or came from there. */
void prefetching_on_exchange(const struct exchange *exchange);

/* An answer with a ticket is given to a client: it is stored, or the client has joined its fetch. */
void prefetching_on_use(struct worker *worker, const struct route *route, uint64_t ticket);

/* Any thread; `prefetching` may be NULL. */
void prefetching_figures(const struct prefetching *prefetching, unsigned route,
                         struct prefetching_figures *ret_figures);

#endif
