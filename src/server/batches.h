/* What the configuration says of batching, in its own terms (api/batching.h); and which requests come to it. */
#ifndef SLUICE_SERVER_BATCHES_H
#define SLUICE_SERVER_BATCHES_H

#include "api/batching.h"
#include "server/config.h"

struct exchange;
struct server;
struct worker;

/* *Gives* an array with an element for each route, for batches_destroy; it *keeps* config. NULL: memory is out. */
struct batching_route *batches_create(const struct config *config);
void batches_destroy(struct batching_route *routes, const struct config *config);

/* A worker's part; its gates and upstreams are there. */
MUST_USE enum result batches_init(struct worker *worker);

/* What a route's requests came to, on all workers. False: it does not batch. */
struct batches_figures {
    uint64_t counts[BATCHING_COUNTS];
    uint64_t sizes[BATCHING_SIZES];
    uint64_t calls; /* the sum of sizes */
    uint64_t flushed[BATCHING_WHYS];
    double target_items; /* the largest worker's */
    struct histogram waits;
};
bool batches_read(const struct server *server, unsigned route, struct batches_figures *ret_figures);

/* Its body is there, and its fetch is about to begin or to be claimed: has it be merged, if its route does that. */
void batches_take(struct exchange *exchange);

#endif
