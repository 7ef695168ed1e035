/* What the cache has counted, added up over the workers: for /metrics and /api/cache/stats.
 *
 * Every counter has one writer and is read while it is written: the sums are as of about now. */
#ifndef SLUICE_SERVER_CACHE_FIGURES_H
#define SLUICE_SERVER_CACHE_FIGURES_H

#include "cache/shard.h"
#include "proxy/filling.h"
#include "server/prefetching.h"

struct config_route;
struct server;

/* What became of requests that had to do with the cache: each counts under one of the first four. */
struct cache_figures {
    uint64_t hits; /* answered from what is stored: fresh_hits and stale_hits */
    uint64_t misses;
    uint64_t joins;
    uint64_t bypasses;
    uint64_t fresh_hits; /* counted apart: a difference of two counters could go down */
    uint64_t stale_hits;
    uint64_t tier_hits; /* answers brought back from the second tier */
    uint64_t stored;
    uint64_t updated;
    uint64_t not_stored[FILLING_REASONS_MAX];
    uint64_t saved_ns;
    uint64_t saved_tokens;
};

/* Of one route, or with `route` = the number of routes of all together; not_stored is then not told, as the reasons of
 * different kinds of routes share their numbers. */
void cache_figures_read(const struct server *server, unsigned route, struct cache_figures *ret_figures);

/* Hits and joins as a share of all that asked the cache (bypasses left out); 0 when nobody did. */
double cache_figures_hit_rate(const struct cache_figures *figures);

/* Of one route; is_stopped: on how many workers. */
void cache_figures_read_prefetch(const struct server *server, unsigned route, struct prefetching_figures *ret_figures);

/* The name of a reason on this kind of route, or NULL when it has none. */
const char *cache_figures_reason(const struct config_route *route, unsigned reason);

/* All shards together. */
struct cache_figures_memory {
    uint64_t entries;
    uint64_t charged_bytes;
    uint64_t mapped_bytes;
    uint64_t retired_bytes;
    uint64_t stores;
    uint64_t updates;
    uint64_t no_room;
    uint64_t refused;
    uint64_t removed[SHARD_CAUSES];
    uint64_t budget_bytes;
    uint64_t entries_max; /* 0: no bound */
};

/* Zeros when the cache is off. */
void cache_figures_read_memory(const struct server *server, struct cache_figures_memory *ret_memory);

/* A lower-case name such as "evicted". */
const char *cache_figures_cause(enum shard_cause cause);

#endif
