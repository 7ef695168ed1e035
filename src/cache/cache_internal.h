/* What the parts of a worker's view share: reading (cache.c), storing (cache_put.c), removing (cache_remove.c), and
 * claims (flight*.c). */
#ifndef SLUICE_CACHE_CACHE_INTERNAL_H
#define SLUICE_CACHE_CACHE_INTERNAL_H

#include "cache/cache.h"
#include "cache/flight.h"

enum {
    CACHE_SECRET_BYTES = 192,       /* as long as XXH3's own */
    CACHE_REMOVALS = 1024,          /* a power of two */
    CACHE_MARKS = 4096,             /* per worker; a power of two */
    CACHE_PUT_STEP_BYTES = 1 << 17, /* copied per turn for all puts */
    CACHE_PUTS_PER_TURN = 32,       /* begun, or gone on with */
    CACHE_PURGE_STEP_OBJECTS = 512,
    CACHE_PUT_GIVE_UP_MS = 1000,
};

/* What is remembered about a key: a direct-mapped table, so that it is bounded; a later key takes an earlier one's
 * place. */
struct cache_mark {
    uint64_t hash;
    int64_t uncacheable_until_ms;
    int64_t retry_at_ms;
    uint8_t failures; /* in a row */
    bool is_unreachable;
};

struct cache {
    struct cache_options options;
    _Atomic uint64_t bytes_max; /* as resized */
    struct qsbr *qsbr;
    struct cache_core *_Atomic *cores; /* one per worker; release store when it is made */
    unsigned used_shards; /* which keys go to, the first ones: fewer than workers only where fewer entries may be */
    uint8_t secret[CACHE_SECRET_BYTES];
};

/* Workers read the clock once a turn, so that moments of two of them compare to within a turn. */
#define CACHE_CLOCK_SLACK_NS (50 * NANOS_PER_MS)

struct cache_view;

/* The flights whose keys this worker's shard has, by hash, and by the primary key's: the owner's. */
struct flight_table {
    struct flight **buckets;
    struct list_node *primaries; /* as many */
    size_t bucket_count;         /* a power of two */
    size_t count;
};

struct cache_core {
    struct cache *cache;
    struct ring *ring;
    unsigned index;
    struct shard *shard;
    struct flight_table flights;
    struct ring_timer timer; /* for the shard's own work */
    struct ring_task work;   /* steps of puts and purges */
    struct list_node puts;   /* under way at this owner */
    struct list_node purges; /* likewise */
    struct cache_view *free_views;
    uint64_t under_way; /* what this worker has sent to others, itself included, and what is to come back */
    /* When something was last removed whose primary key's hash falls there, and by a purge: the owner's. What nobody's
     * flight stands for is compared with it. A hash that falls on another's place costs a store, no more. */
    nanos removed_ns[CACHE_REMOVALS];
    nanos purged_ns;
    struct cache_mark marks[CACHE_MARKS];
};

static inline bool cache_seen_same(const struct cache_seen *one, const struct cache_seen *other)
{
    return one->object == other->object && one->head == other->head && one->response_ms == other->response_ms;
}

/* Goes on with puts, and with a purge, as far as one turn of the loop may. */
void cache_core_work_on_puts(struct cache_core *core);
void cache_core_work_on_purges(struct cache_core *core);

/* At the owner: when something was last removed under this primary key, or one that shares its place. */
nanos *cache_core_removal_of(struct cache_core *owner, struct bytes primary);

struct cache_core *cache_core_at(const struct cache *cache, unsigned index);

MUST_USE bool flight_table_init(struct flight_table *table);
void flight_table_fini(struct flight_table *table);

/* What is being fetched for these keys is not to be stored, and nobody joins it any more. */
void flight_table_doom_key(struct flight_table *table, const struct cache_key *primary);
void flight_table_doom(struct flight_table *table, const struct shard_filter *filter);

#endif
