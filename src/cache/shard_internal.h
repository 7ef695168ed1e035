/* What the files of a shard share: shard.c (making, finding, unlinking, the account), shard_store.c (storing),
 * shard_reclaim.c (each turn: freeing, making room, expiry), shard_purge.c.
 *
 *   store ─▶ STORING ──commit──▶ LIVE ──unlink──▶ RETIRED: retired ─▶ (pinned ⇄) ─▶ freeing ─▶ the slab
 *               └──────abort────────────────────────────────────────────────────────┘
 *
 * The account: slab.charged_bytes + index_bytes + evict_bytes is what is charged, and stays within bytes_max, because a
 * store begins only when the free rest holds all it will still need, with what other stores have reserved and what the
 * index takes when it doubles left out. */
#ifndef SLUICE_CACHE_SHARD_INTERNAL_H
#define SLUICE_CACHE_SHARD_INTERNAL_H

#include "cache/expiry.h"
#include "cache/shard.h"

enum {
    /* What one call does at most. Chosen with build/release/bench/cache_turns: the longest turn takes 0.3 ms, the
     * longest call of storing and purging 0.4 ms. */
    SHARD_EVICTIONS_PER_CALL = 128,
    SHARD_EXPIRIES_PER_TURN = 128, /* objects looked at */
    SHARD_RETIRED_PER_TURN = 256,  /* objects, and heads, looked at */
    SHARD_PIECES_PER_TURN = 1024,  /* freed */
    SHARD_SHRINKS_PER_TURN = 64,   /* objects looked at because the shard was made smaller */
    SHARD_TRIMS_PER_TURN = 4,      /* regions given back */
    SHARD_BUCKETS_PER_TURN = 256,  /* of the index moved */

    SHARD_GRACE_WAIT_MS = 2, /* other workers pass in about this time */
    SHARD_PIN_WAIT_MS = 100, /* a pin lasts as long as a client reads */
    /* A piece of a body has at least so many units, or holds all the rest. With 8, fragments that only heads can use
     * grow to an eighth of what is mapped; with 4 to 5 % (build/release/bench/cache_churn). */
    SHARD_BODY_MIN_UNITS = 4,
};

struct shard {
    struct qsbr *qsbr;
    struct index *index;
    struct evict *evict;
    struct slab slab;
    struct expiry expiry;
    uint64_t bytes_max;      /* as it was resized last */
    uint64_t made_bytes_max; /* as it was made: tables are as large */
    uint64_t entries_max;
    uint64_t reserved_bytes;        /* for what stores under way still bring */
    uint64_t retired_bytes;         /* on the lists below */
    uint64_t pinned_bytes;          /* on `pinned` and `pinned_heads`, of retired_bytes */
    int64_t now_ms;                 /* of the last turn */
    int64_t pins_again_ms;          /* when to look at the pinned ones again */
    bool is_index_moving;           /* it grows, or waits for a grace period */
    bool is_starved;                /* a store found no room: pinned ones are looked at in every turn */
    struct list_node all;           /* objects in the index, new ones in front; purges' cursors between them */
    struct list_node purges;        /* under way */
    struct shard_purge shrinking;   /* one of them, while the shard is being made smaller */
    struct list_node retired;       /* objects, by cache_object.all, oldest epoch first */
    struct list_node pinned;        /* objects that a reader held on to when their time had come */
    struct list_node freeing;       /* objects that nobody sees; the first may be half gone */
    struct list_node retired_heads; /* likewise */
    struct list_node pinned_heads;
    struct shard_counters counters;
    const void *addresses[2 * SHARD_RETIRED_PER_TURN]; /* scratch: what to ask qsbr_find_pinned about */
    bool is_pinned[2 * SHARD_RETIRED_PER_TURN];
};

/* Publishes the account in the counters and hands what is left of the budget to the slab. */
void shard_account(struct shard *shard);

/* What can be allocated, less what is reserved and what the index may take. */
uint64_t shard_room_bytes(const struct shard *shard);

/* Takes an object out of everything and retires it. `is_out` of the index, or of eviction: already taken from there. */
void shard_unlink(struct shard *shard, struct cache_object *object, enum shard_cause cause, bool is_out_of_index,
                  bool is_out_of_evict);

/* Retires one object by the policy's choice; false when it has none. */
bool shard_evict_one(struct shard *shard);

/* Whether as much, and a reserve above it, is free or on its way. */
bool shard_has_room(const struct shard *shard, uint64_t need_bytes);

/* Evicts until `need_bytes` and a reserve above them are free or on their way, or the call's bound is met.
 * RESULT_OK: they are free. RESULT_MORE: on their way. RESULT_LIMIT: nothing can go. */
MUST_USE enum result shard_make_room(struct shard *shard, uint64_t need_bytes);

/* Retires a head that another has replaced. */
void shard_retire_head(struct shard *shard, struct cache_object *object, struct cache_head *head);

/* Frees an object that was never published, bit by bit in the turns to come. */
void shard_discard(struct shard *shard, struct cache_object *object);

static inline struct cache_head *shard_head(const struct cache_object *object)
{
    /* the owner reads what it wrote */
    return atomic_load_explicit(&((struct cache_object *)(uintptr_t)object)->head, memory_order_relaxed);
}

#endif
