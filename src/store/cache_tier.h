/* The cache's second tier: finished answers on disk, found again after memory has given them up or the process has
 * ended.
 *
 * A record is what the caller made of an answer: its key, a head that only the caller can read, the body, and what is
 * needed to keep the right ones: cost, times, tags. Records are found by a 128-bit hash of the key and confirmed by the
 * whole key. Every call hands its request over and returns; none waits, none calls back from inside.
 *
 * What goes: first what is past remove_at_ms; then, above cache_bytes_max, what is worth least: hits × cost ÷ bytes
 * plus the worth of what was last evicted (GreedyDual-Size-Frequency, Cherkasova 1998), so that what is not used any
 * more ages.
 *
 * Purges are ordered with puts: a put before a purge is gone after it, a put after it stays. From the moment
 * cache_tier_purge has returned no get delivers what it names, even if it was read before or the disk cannot be
 * written; a few other gets may miss for it. What was made before a purge and is put behind it is told by its moments
 * (asked_ns, many_ns). A put that waits in the queue is not found yet: a get misses, or finds
 * what the put is about to replace. */
#ifndef SLUICE_STORE_CACHE_TIER_H
#define SLUICE_STORE_CACHE_TIER_H

#include "base/bytes.h"
#include "base/clock.h"
#include "store/store.h"

enum {
    CACHE_TIER_OVERHEAD_BYTES = 512, /* charged for each record beside its own bytes: rows, indexes, page ends */
    CACHE_TIER_WARM_BATCH_BYTES = 512 << 10,
    CACHE_TIER_WARM_BATCH_RECORDS = 64,
};

/* One block of malloc: free(record) frees it all. */
struct cache_tier_record {
    struct cache_tier_record *next; /* in a warm batch; the owner's otherwise */
    struct bytes key;
    struct bytes route; /* a name that stays the same over restarts */
    struct bytes tags;  /* names, each ended by '\n' */
    struct bytes head;  /* the caller's own serialisation */
    struct bytes body;
    double cost;          /* > 0, the unit of the cache */
    int64_t made_ms;      /* all times: since 1970 */
    int64_t remove_at_ms; /* not found from then on */
    int64_t last_used_ms;
    uint64_t hits; /* gets and touches so far; not looked at by put */
    /* Of a put, by the monotonic clock: not written when its key was purged since asked_ns, or many were since many_ns;
     * 0: it does not matter. Keys share their moments with a few others, which are then not written either. */
    nanos asked_ns;
    nanos many_ns;
};

/* *Gives* a record with copies of what `draft` names; next is NULL. Where a run of the draft has no pointer but a
 * length, the bytes are left for the caller to fill in through cache_tier_record_bytes. NULL when memory is out. */
struct cache_tier_record *cache_tier_record_create(const struct cache_tier_record *draft);

/* The same bytes, to be filled in before the record is put. */
static inline char *cache_tier_record_bytes(struct bytes run)
{
    return (char *)(uintptr_t)run.ptr;
}

/* What it counts for in cache_bytes_max. */
uint64_t cache_tier_record_charge(const struct cache_tier_record *record);

/* ---- storing ---- */

/* Writes the record behind, in place of what is there under its key. *Takes* it. When the queue is full, nothing can be
 * written, it can never fit or a purge has come since, it is dropped and counted. */
void cache_tier_put(struct store *store, struct cache_tier_record *record);

/* Counts a use of the record under the key, if there is one: a get does so itself, this is for hits in memory.
 * *Borrows* the key. Dropped when the queue is half full. */
void cache_tier_touch(struct store *store, struct bytes key, int64_t now_ms);

/* ---- finding ---- */

enum cache_tier_outcome {
    CACHE_TIER_FOUND,
    CACHE_TIER_MISS,
    CACHE_TIER_UNAVAILABLE, /* the database failed */
};

/* A get under way: the caller's memory, which must stay until on_done, even if nobody wants the answer any more. */
struct cache_tier_get {
    struct store_request request;
    struct bytes key; /* *pins* until on_done */
    int64_t now_ms;
    /* Called on the worker's loop. *Gives* get->record when the outcome is FOUND. May free the get. */
    void (*on_done)(struct ring *ring, struct cache_tier_get *get);

    enum cache_tier_outcome outcome;
    struct cache_tier_record *record; /* NULL unless FOUND */
    unsigned char hash[16];           /* the store's own, from here on */
    uint64_t purges_seen[2];          /* of its key, of many */
};

/* Looks the key up for `worker`, who calls. The caller has set key, now_ms and on_done. RESULT_OK: on_done will be
 * called. RESULT_LIMIT: busy, RESULT_UNREACHABLE: there is no database now; then it will not, go on as after a miss. */
MUST_USE enum result cache_tier_get(struct store *store, unsigned worker, struct cache_tier_get *get);

/* ---- purging ---- */

enum cache_tier_purge_kind {
    CACHE_TIER_PURGE_KEY,
    CACHE_TIER_PURGE_PREFIX, /* of the key */
    CACHE_TIER_PURGE_TAG,    /* a name without its '\n' */
    CACHE_TIER_PURGE_ROUTE,
    CACHE_TIER_PURGE_ALL,
};

struct cache_tier_purge {
    struct ring_message message; /* the store's own */
    enum cache_tier_purge_kind kind;
    struct bytes text;       /* the key, prefix, tag or route; *borrows* for the call */
    struct bytes key_prefix; /* TAG: only records whose key begins so; may be empty: any; *borrows* for the call */
    /* Called on the worker's loop when it is over; NULL: nobody asks, and the struct is only *borrowed*. Else it is
     * *kept* until then. */
    void (*on_done)(struct ring *ring, struct cache_tier_purge *purge);

    bool is_done;     /* false: the disk cannot be written now (or memory is out); it will be done when it can */
    uint64_t removed; /* records; 0 unless it is done */
};

/* Removes what matches. It cannot fail: when too many purges wait or memory is out, all records are purged instead. */
void cache_tier_purge(struct store *store, unsigned worker, struct cache_tier_purge *purge);

/* ---- warm start ---- */

/* A walk over the records, the worthiest first, in batches that the caller asks for one after the other. */
struct cache_tier_warm {
    struct store_request request;
    int64_t now_ms;
    uint64_t bytes_left; /* what is still wanted, in bytes as charged; counted down */
    /* Called on the worker's loop with one batch. *Gives* the records. May ask for the next batch. */
    void (*on_batch)(struct ring *ring, struct cache_tier_warm *warm);

    struct cache_tier_record *records; /* linked by next; NULL: none */
    bool is_end;                       /* nothing more will come: end, bytes used up, or the database failed */
    double worth;                      /* the store's own, from here on: where the walk is */
    int64_t id;
    uint64_t purges_seen;
};

/* Begins a walk over up to `bytes` bytes; does not ask yet. */
void cache_tier_warm_init(struct cache_tier_warm *warm, uint64_t bytes, int64_t now_ms,
                          void (*on_batch)(struct ring *ring, struct cache_tier_warm *warm));

/* Asks for the next batch, for `worker`, who calls. Waits for a store that is STARTING. RESULT_LIMIT,
 * RESULT_UNREACHABLE: as for cache_tier_get; may be asked again later. */
MUST_USE enum result cache_tier_warm_next(struct store *store, unsigned worker, struct cache_tier_warm *warm);

#endif
