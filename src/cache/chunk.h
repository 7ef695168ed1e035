/* Chunks: the memory every message body passes through.
 *
 * A chunk of a message under way is a block of one of two sizes with a use count, from a pool that one worker owns.
 * Pools grow by regions of CHUNK_REGION_BYTES and keep what they have: after warming up, moving bytes allocates
 * nothing. A chunk of a stored object comes from a shard's slab (slab.h), has any size, and is not counted: whoever
 * looks at it is protected by its epoch or by a pin (qsbr.h).
 *
 * What lies below `used_bytes` never changes; the length is published by a release store, so that readers on
 * other cores can follow a chain while it grows. Use counts are the owner core's alone. */
#ifndef SLUICE_CACHE_CHUNK_H
#define SLUICE_CACHE_CHUNK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/list.h"

enum chunk_size { CHUNK_SMALL, CHUNK_LARGE, CHUNK_SIZES };

enum {
    CHUNK_SMALL_BYTES = 4096, /* header included */
    CHUNK_LARGE_BYTES = 16384,
    CHUNK_REGION_BYTES = 1 << 20,
};

struct chunk_pool;

/* What keeps a run of bytes in its place: a chunk's use count, or something larger that holds many runs at once (a pin
 * on a stored object, a mirror of an entry on another core). The count is one core's alone. */
struct hold {
    uint32_t uses;
    uint32_t kind; /* enum hold_kind */
};

enum hold_kind { HOLD_CHUNK, HOLD_OTHER };

/* A hold of another kind than a chunk's. */
struct hold_other {
    struct hold hold;
    void (*on_free)(struct hold_other *other); /* the last use has gone */
};

struct chunk {
    struct chunk *_Atomic next; /* in an entry's chain; release store */
    struct chunk_pool *pool;    /* NULL: a slab's */
    _Atomic uint32_t used_bytes;
    uint32_t bytes; /* header included */
    struct hold hold;
    _Alignas(16) char data[];
};

_Static_assert(sizeof(struct chunk) == 32, "a header that data follows aligned to 16");

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
    return chunk->bytes - sizeof(*chunk);
}

static inline uint32_t chunk_used(const struct chunk *chunk)
{
    return atomic_load_explicit(&chunk->used_bytes, memory_order_acquire);
}

static inline void hold_ref(struct hold *hold)
{
    hold->uses++;
}

static inline void hold_unref(struct hold *hold)
{
    if (--hold->uses > 0) {
        return;
    }
    if (hold->kind == HOLD_CHUNK) {
        chunk_release(CONTAINER_OF(hold, struct chunk, hold));
    } else {
        struct hold_other *other = CONTAINER_OF(hold, struct hold_other, hold);
        other->on_free(other);
    }
}

static inline void chunk_ref(struct chunk *chunk)
{
    hold_ref(&chunk->hold);
}

static inline void chunk_unref(struct chunk *chunk)
{
    hold_unref(&chunk->hold);
}

#endif
