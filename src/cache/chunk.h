/* Chunks: the memory every message body passes through.
 *
 * A chunk is a block of one of two sizes with a use count, from a pool that one worker owns. Pools grow by
 * regions of CHUNK_REGION_BYTES and keep what they have: after warming up, moving bytes allocates nothing.
 *
 * What lies below `used_bytes` never changes; the length is published by a release store, so that readers on
 * other cores can follow a chain while it grows. Use counts are the owner core's alone. */
#ifndef SLUICE_CACHE_CHUNK_H
#define SLUICE_CACHE_CHUNK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

enum chunk_size { CHUNK_SMALL, CHUNK_LARGE, CHUNK_SIZES };

enum {
    CHUNK_SMALL_BYTES = 4096, /* header included */
    CHUNK_LARGE_BYTES = 16384,
    CHUNK_REGION_BYTES = 1 << 20,
};

struct chunk_pool;

struct chunk {
    struct chunk *_Atomic next; /* in an entry's chain; release store */
    struct chunk_pool *pool;
    _Atomic uint32_t used_bytes;
    uint32_t uses;
    uint32_t size; /* enum chunk_size */
    _Alignas(16) char data[];
};

struct chunk_region;

struct chunk_pool {
    struct chunk *free[CHUNK_SIZES];
    struct chunk_region *regions;
    size_t region_bytes; /* taken from the system */
    size_t bytes_max;    /* 0: no bound */
    size_t used_bytes;   /* in chunks that somebody holds */
};

void chunk_pool_init(struct chunk_pool *pool, size_t bytes_max);
void chunk_pool_fini(struct chunk_pool *pool);

/* *Gives* an empty chunk with one use. NULL when memory, or the pool's bound, is out. */
struct chunk *chunk_acquire(struct chunk_pool *pool, enum chunk_size size);

/* Frees a chunk whose last use has gone: chunk_unref calls it. */
void chunk_release(struct chunk *chunk);

static inline size_t chunk_capacity(const struct chunk *chunk)
{
    return (chunk->size == CHUNK_SMALL ? CHUNK_SMALL_BYTES : CHUNK_LARGE_BYTES) - sizeof(*chunk);
}

static inline uint32_t chunk_used(const struct chunk *chunk)
{
    return atomic_load_explicit(&chunk->used_bytes, memory_order_acquire);
}

static inline void chunk_ref(struct chunk *chunk)
{
    chunk->uses++;
}

static inline void chunk_unref(struct chunk *chunk)
{
    if (--chunk->uses == 0) {
        chunk_release(chunk);
    }
}

#endif
