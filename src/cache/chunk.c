#include "cache/chunk.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "cache/poison.h"

struct chunk_region {
    struct chunk_region *older;
    char *mapping;
};

void chunk_pool_init(struct chunk_pool *pool, size_t bytes_max)
{
    *pool = (struct chunk_pool){.bytes_max = bytes_max};
}

void chunk_pool_fini(struct chunk_pool *pool)
{
    struct chunk_region *region = pool->regions;
    while (region != NULL) {
        struct chunk_region *older = region->older;
        ASAN_UNPOISON_MEMORY_REGION(region->mapping, CHUNK_REGION_BYTES);
        munmap(region->mapping, CHUNK_REGION_BYTES);
        free(region);
        region = older;
    }
    chunk_pool_init(pool, 0);
}

static size_t chunk_bytes(enum chunk_size size)
{
    return size == CHUNK_SMALL ? CHUNK_SMALL_BYTES : CHUNK_LARGE_BYTES;
}

/* Takes a region from the system and cuts it into chunks of one size. Its pages are touched only when used. */
static bool chunk_pool_grow(struct chunk_pool *pool, enum chunk_size size)
{
    if (pool->bytes_max != 0 && pool->region_bytes + CHUNK_REGION_BYTES > pool->bytes_max) {
        return false;
    }
    struct chunk_region *region = malloc(sizeof(*region));
    if (region == NULL) {
        return false;
    }
    region->mapping = mmap(NULL, CHUNK_REGION_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (region->mapping == MAP_FAILED) {
        free(region);
        return false;
    }
    region->older = pool->regions;
    pool->regions = region;
    pool->region_bytes += CHUNK_REGION_BYTES;
    for (size_t at = CHUNK_REGION_BYTES; at > 0; at -= chunk_bytes(size)) {
        struct chunk *chunk = (struct chunk *)(void *)(region->mapping + at - chunk_bytes(size));
        chunk->pool = pool;
        chunk->bytes = (uint32_t)chunk_bytes(size);
        chunk->hold.kind = HOLD_CHUNK;
        atomic_init(&chunk->next, pool->free[size]);
        pool->free[size] = chunk;
        ASAN_POISON_MEMORY_REGION(chunk->data, chunk_capacity(chunk));
    }
    return true;
}

struct chunk *chunk_acquire(struct chunk_pool *pool, enum chunk_size size)
{
    if (pool->free[size] == NULL && !chunk_pool_grow(pool, size)) {
        return NULL;
    }
    struct chunk *chunk = pool->free[size];
    pool->free[size] = atomic_load_explicit(&chunk->next, memory_order_relaxed);
    ASAN_UNPOISON_MEMORY_REGION(chunk->data, chunk_capacity(chunk));
    atomic_store_explicit(&chunk->next, NULL, memory_order_relaxed);
    atomic_store_explicit(&chunk->used_bytes, 0, memory_order_relaxed);
    chunk->hold.uses = 1;
    pool->used_bytes += chunk_bytes(size);
    return chunk;
}

void chunk_release(struct chunk *chunk)
{
    struct chunk_pool *pool = chunk->pool;
    CHECK(chunk->hold.uses == 0);
    enum chunk_size size = chunk->bytes == CHUNK_SMALL_BYTES ? CHUNK_SMALL : CHUNK_LARGE;
    pool->used_bytes -= chunk->bytes;
    ASAN_POISON_MEMORY_REGION(chunk->data, chunk_capacity(chunk));
    atomic_store_explicit(&chunk->next, pool->free[size], memory_order_relaxed);
    pool->free[size] = chunk;
}
