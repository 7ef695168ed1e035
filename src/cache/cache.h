/* The cache, as a worker sees it: finds what any shard holds, and asks the shards' owners for everything else.
 *
 *   worker 0: core ── shard 0 ◀──┐  reads: every worker, every shard, without a lock
 *   worker 1: core ── shard 1 ◀──┘  writes: by message to the shard's owner (cache_put, cache_remove, flights)
 *
 * A key is the bytes of a primary key (what was asked for), perhaps with a suffix that tells variants of the answer
 * apart. The primary key alone chooses the shard, so that everything about one resource has one owner.
 *
 * A cache_core belongs to its worker; everything here is called on that worker. */
#ifndef SLUICE_CACHE_CACHE_H
#define SLUICE_CACHE_CACHE_H

#include "cache/entry.h"
#include "cache/shard.h"
#include "ring/mailbox.h"
#include "ring/ring.h"

enum { CACHE_WORKERS_MAX = 1024 };

struct cache;
struct cache_core;

struct cache_options {
    unsigned workers;
    enum evict_policy policy;
    uint64_t bytes_max;        /* of all shards together */
    uint64_t entries_max;      /* likewise; 0: no bound */
    uint64_t object_bytes_max; /* of one body */
};

/* *Gives* the cache of a process. Before the workers start. NULL when memory is out. */
struct cache *cache_create(const struct cache_options *options);

/* After all workers have stopped. */
void cache_destroy(struct cache *cache);

/* A worker's side, with its shard. To be made on the worker's thread, before any worker serves. *Keeps* ring; takes its
 * turn hooks. NULL when memory is out. */
struct cache_core *cache_core_create(struct cache *cache, struct ring *ring);

/* After all workers have stopped. */
void cache_core_destroy(struct cache_core *core);

/* Nothing that this worker has asked of others (claims, flights, entries read elsewhere, puts, purges, removals) is
 * still under way. A worker has to keep turning until that holds on all: then no message is on its way to anyone. */
bool cache_core_is_settled(const struct cache_core *core);

struct ring *cache_core_ring(const struct cache_core *core);
uint64_t cache_object_bytes_max(const struct cache_core *core);
unsigned cache_shard_count(const struct cache *cache);
const struct cache_options *cache_options_of(const struct cache *cache);

/* From now on so many bytes for all shards together, at most those that the cache was made for. On every worker: each
 * has its own shard to make smaller, or to let grow again. */
void cache_core_resize(struct cache_core *core, uint64_t bytes_max);

/* What it was resized to last; at first, what it was made for. Any thread. */
uint64_t cache_bytes_max(const struct cache *cache);

/* What a shard counts; NULL before its worker has started. Any thread. */
const struct shard_counters *cache_shard_counters(const struct cache *cache, unsigned shard);

/* ---- keys ---- */

struct cache_key {
    struct bytes bytes;
    size_t primary_bytes; /* the first of them say what was asked for; the rest which variant of it */
    uint64_t hash;        /* of all bytes */
    uint64_t primary_hash;
    unsigned shard; /* by the primary ones */
};

/* *Borrows* bytes as long as the key is used. */
struct cache_key cache_key_make(const struct cache *cache, struct bytes bytes, size_t primary_bytes);
const struct cache *cache_of(const struct cache_core *core);

/* ---- reading ---- */

/* The object, or NULL; valid until this dispatch returns. Does not count as a hit: evict_touch does. */
struct cache_object *cache_find(const struct cache_core *core, const struct cache_key *key);

/* What a look found, to be compared with a later one: nothing of it is read. */
struct cache_seen {
    const struct cache_object *object; /* NULL: nothing was there */
    const struct cache_head *head;
    int64_t response_ms; /* another head may come to lie where this one did */
};

/* `object` may be NULL. */
struct cache_seen cache_seen_of(const struct cache_object *object);

/* An entry that shows the object's body, COMPLETE, kept for as long as the entry, or a run of it in an outbox, is used.
 * The head is not in it. *Gives* one use. NULL: it cannot be pinned now (treat as a miss). */
struct entry *cache_view(struct cache_core *core, struct cache_object *object);

/* ---- writing ---- */

enum cache_put_kind {
    CACHE_PUT_STORE,
    CACHE_PUT_ADD,    /* where something is stored already, nothing is done, which is as well */
    CACHE_PUT_UPDATE, /* swap the head of what is there */
};

struct flight;

/* Something to be stored, on its way to the owner and back. */
struct cache_put {
    struct ring_message message;
    struct cache_core *core; /* whose it is */
    enum cache_put_kind kind;
    unsigned shard;
    struct shard_draft draft;    /* what it borrows stays valid until on_done */
    struct entry *entry;         /* a COMPLETE entry whose body it is: kept in use by the caller; NULL: see body */
    struct bytes body;           /* else; what is left of it */
    const struct flight *flight; /* of the same primary key: not stored when that has been doomed; NULL: none */
    size_t primary_bytes;        /* of the draft's key; with asked_ns only */
    nanos asked_ns;              /* not stored when anything was removed under the key since; 0: it does not matter */
    bool is_wanted;              /* somebody is about to look for it: stored whatever it is worth */
    int64_t replaces_ms;         /* UPDATE: response_ms of the head that the new one was made from */
    void (*on_done)(struct cache_put *put, enum result result); /* RESULT_LIMIT, RESULT_NO_MEMORY: not stored */
    /* the owner's */
    struct shard_store store;
    struct list_node waiting;
    struct chunk *at;
    uint32_t at_offset;
    nanos give_up_ns;
    bool was_admitted;
    bool has_begun;
    enum result result;
};

/* Sends it to the owner; on_done comes in a later dispatch. *Keeps* put until then. */
void cache_put(struct cache_core *core, struct cache_put *put);

/* Removes what is stored under the key's primary bytes, and what is being fetched for it is not stored. */
void cache_remove(struct cache_core *core, const struct cache_key *key, enum shard_cause cause);

/* A removal whose end is told: from on_done on, no worker finds what was stored, nor is led to what was being fetched.
 */
struct cache_removal {
    struct ring_message message;
    struct cache_core *core; /* whose it is */
    struct cache_key key;    /* of the primary bytes alone; *borrows* them until on_done */
    enum shard_cause cause;
    void (*on_done)(struct cache_removal *removal);
};

/* As cache_remove. *Keeps* removal until on_done, which comes in a later dispatch. */
void cache_remove_and_tell(struct cache_core *core, struct cache_removal *removal);

/* ---- purging ---- */

struct cache_purge {
    struct shard_filter filter; /* *borrows* until on_done */
    void (*on_done)(struct cache_purge *purge);
    uint64_t removed;
    /* private */
    unsigned left;
    struct cache_core *core;
    struct cache_purge_part *parts;
};

/* Removes from all shards what fits; on_done comes when every shard is through. *Keeps* purge until then. */
MUST_USE enum result cache_purge(struct cache_core *core, struct cache_purge *purge);

/* Frees what a purge holds that will never be through: all workers have stopped. */
void cache_purge_fini(struct cache_purge *purge);

/* ---- what is remembered about keys that are not stored ---- */

/* For a while there is no use in waiting for another's fetch of this key (Varnish calls it hit-for-miss). */
void cache_mark_uncacheable(struct cache_core *core, uint64_t hash, int64_t until_ms);
bool cache_is_marked_uncacheable(const struct cache_core *core, uint64_t hash, int64_t now_ms);

/* The origin has just failed for this key: do not ask before `until_ms` where something stale will do. Each failure in
 * a row doubles the time, up to a bound, with jitter. */
void cache_mark_failed(struct cache_core *core, uint64_t hash, int64_t now_ms, bool is_unreachable);
void cache_mark_succeeded(struct cache_core *core, uint64_t hash);
bool cache_is_in_back_off(const struct cache_core *core, uint64_t hash, int64_t now_ms);

/* Whether it was not even reached when it failed last. */
bool cache_is_unreachable(const struct cache_core *core, uint64_t hash);

#endif
