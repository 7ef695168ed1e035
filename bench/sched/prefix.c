#include "prefix.h"

#include <stdbool.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"
#include "die.h"

struct block {
    uint64_t id;
    uint32_t next; /* with the same hash; 0: none */
    struct list_node node;
};

/* Blocks are numbered from 1; chains of them hang from a table. */
struct prefix_cache {
    struct block *blocks;
    uint32_t *heads;
    uint32_t head_mask;
    uint32_t count, blocks_max;
    struct list_node used; /* oldest first */
};

struct prefix_cache *prefix_cache_create(uint32_t blocks_max)
{
    struct prefix_cache *cache = bench_need(1, sizeof *cache);
    uint32_t heads = 1;
    while (heads < blocks_max) {
        heads *= 2;
    }
    cache->blocks = bench_need((size_t)blocks_max + 1, sizeof *cache->blocks);
    cache->heads = bench_need(heads, sizeof *cache->heads);
    cache->head_mask = heads - 1;
    cache->blocks_max = blocks_max;
    list_init(&cache->used);
    return cache;
}

void prefix_cache_destroy(struct prefix_cache *cache)
{
    free(cache->blocks);
    free(cache->heads);
    free(cache);
}

static uint32_t *head_of(struct prefix_cache *cache, uint64_t id)
{
    return &cache->heads[(id * 0x9e3779b97f4a7c15u >> 32) & cache->head_mask];
}

static uint32_t find(struct prefix_cache *cache, uint64_t id)
{
    uint32_t at = *head_of(cache, id);
    while (at != 0 && cache->blocks[at].id != id) {
        at = cache->blocks[at].next;
    }
    return at;
}

static uint32_t take_oldest(struct prefix_cache *cache)
{
    struct block *block = CONTAINER_OF(list_pop_front(&cache->used), struct block, node);
    uint32_t number = (uint32_t)(block - cache->blocks), *link = head_of(cache, block->id);
    while (*link != number) {
        link = &cache->blocks[*link].next;
    }
    *link = block->next;
    return number;
}

static void put(struct prefix_cache *cache, uint64_t id)
{
    uint32_t number = cache->count < cache->blocks_max ? ++cache->count : take_oldest(cache);
    struct block *block = &cache->blocks[number];
    uint32_t *head = head_of(cache, id);
    block->id = id;
    block->next = *head;
    *head = number;
    list_push_back(&cache->used, &block->node);
}

uint32_t prefix_cache_use(struct prefix_cache *cache, const uint64_t *blocks, uint32_t count)
{
    uint32_t found = 0;
    bool is_prefix = true;
    /* A prompt longer than the cache would push out its own beginning. */
    count = count < cache->blocks_max ? count : cache->blocks_max;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t number = find(cache, blocks[i]);
        is_prefix = is_prefix && number != 0;
        found += is_prefix;
        if (number == 0) {
            put(cache, blocks[i]);
        } else {
            list_remove(&cache->blocks[number].node);
            list_push_back(&cache->used, &cache->blocks[number].node);
        }
    }
    return found;
}
