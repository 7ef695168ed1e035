/* What an engine keeps of prompts it has computed: the blocks used last. An id stands for a block and all before it. */
#ifndef BENCH_SCHED_PREFIX_H
#define BENCH_SCHED_PREFIX_H

#include <stddef.h>
#include <stdint.h>

struct prefix_cache;

/* *Gives*. */
struct prefix_cache *prefix_cache_create(uint32_t blocks_max);
void prefix_cache_destroy(struct prefix_cache *cache);

/* How many of the prompt's first blocks are there; afterwards all of them are. */
uint32_t prefix_cache_use(struct prefix_cache *cache, const uint64_t *blocks, uint32_t count);

#endif
