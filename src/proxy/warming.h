/* The warm start: the records of the second tier that are worth most are put into memory when the process starts.
 *
 * One worker walks them, batch by batch (cache_tier.h), the next one asked for when the shards have taken the last: so
 * one batch, 512 KB or a single larger record, is what it holds. What is stored or removed meanwhile counts: nothing is
 * put over it. Requests are served all the while. */
#ifndef SLUICE_PROXY_WARMING_H
#define SLUICE_PROXY_WARMING_H

#include "cache/cache.h"
#include "store/cache_tier.h"

struct warming_options {
    struct cache_core *core; /* the walking worker's */
    struct store *store;
    uint64_t bytes; /* of records, as the store charges them */
    /* The number of the route whose cache the records are for; negative: there is no such route any more. */
    int (*route_of)(const void *context, struct bytes name);
    const void *context; /* *kept* */
};

struct warming;

/* *Gives* a walk under way; NULL when memory is out. On the worker of `core`. */
struct warming *warming_start(const struct warming_options *options);

/* Asks for no more: the worker is ending. */
void warming_stop(struct warming *warming);

/* After the workers and the store have ended. NULL is right. */
void warming_destroy(struct warming *warming);

#endif
