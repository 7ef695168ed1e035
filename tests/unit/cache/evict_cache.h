/* A cache in front of eviction, for its tests: it keeps the budget as a shard does and knows what is in. */
#ifndef TESTS_EVICT_CACHE_H
#define TESTS_EVICT_CACHE_H

#include "cache/evict.h"

#include <stddef.h>

struct cached {
    struct evict_node evict;
    bool is_in;
};

struct evict_cache {
    struct evict *evict;
    struct cached *objects;
    uint64_t bytes_max;
    uint64_t used_bytes;
    uint64_t count; /* objects that are in */
    uint64_t hits;
};

/* `objects` objects of one byte and cost 1 each, none of them in. */
void evict_cache_init(struct evict_cache *cache, enum evict_policy policy, uint64_t bytes_max, size_t objects);
void evict_cache_fini(struct evict_cache *cache);

/* Takes one object, and checks that it was in. False: none is left, and none should be. */
bool evict_cache_take(struct evict_cache *cache);

/* Asked for: a hit, or put in (unless it is refused) with as much taken as must be. */
void evict_cache_get(struct evict_cache *cache, size_t object);

void evict_cache_remove(struct evict_cache *cache, size_t object);

/* How many of `count` objects from `first` on are in. */
size_t evict_cache_count(const struct evict_cache *cache, size_t first, size_t count);

/* splitmix64 */
uint64_t evict_cache_random(uint64_t *state);

#endif
