/* A shard: the part of the cache that one worker owns, writes and frees, and all workers read.
 *
 * It puts together the index (who finds what), the slab (where it lies), eviction (who goes first) and a wheel of
 * expiry times (who goes anyway). Storing is a conversation, because room may have to be made and a large body is
 * copied over many turns: begin, body…, commit. What is unlinked is retired, and freed by shard_turn once no worker can
 * be looking at it; until then it stays charged. Room is made ahead, so that most stores need not wait for that.
 *
 * All of it belongs to the owner, but for shard_find and the counters. No call does more than a bounded amount of work,
 * so that no turn of the worker's loop is long. */
#ifndef SLUICE_CACHE_SHARD_H
#define SLUICE_CACHE_SHARD_H

#include "cache/object.h"
#include "cache/slab.h"

struct shard;

enum shard_cause {
    SHARD_EVICTED, /* for room */
    SHARD_EXPIRED,
    SHARD_REPLACED,
    SHARD_PURGED,
    SHARD_INVALIDATED, /* by an unsafe method */
    SHARD_CAUSES,
};

struct shard_options {
    struct qsbr *qsbr;
    enum evict_policy policy;
    uint64_t bytes_max;   /* all that is charged: slab, index, eviction's ghosts */
    uint64_t entries_max; /* 0: no bound but bytes */
};

/* One writer, read by anyone. */
struct shard_counters {
    _Atomic uint64_t entries;
    _Atomic uint64_t charged_bytes;
    _Atomic uint64_t mapped_bytes;
    _Atomic uint64_t stores;
    _Atomic uint64_t updates; /* heads swapped */
    _Atomic uint64_t removed[SHARD_CAUSES];
    _Atomic uint64_t no_room;       /* stores given up because nothing could go */
    _Atomic uint64_t refused;       /* not worth what would have had to go: shard_admits */
    _Atomic uint64_t retired_bytes; /* unlinked and still charged */
};

/* *Gives* a shard. *Keeps* qsbr. NULL when memory is out. */
struct shard *shard_create(const struct shard_options *options);

/* From now on so many bytes, at most those that it was made for. What is too much then goes in the next turns, and the
 * memory that it took: first whatever lies in regions that are too many, whatever it is worth, or hardly a region would
 * become empty; then the least worth. What a store has reserved may still come. */
void shard_resize(struct shard *shard, uint64_t bytes_max);

/* No reader may be left. */
void shard_destroy(struct shard *shard);

/* Any worker, online: the object, or NULL; valid until the worker's next quiescent state. Does not mark it as hit. */
struct cache_object *shard_find(const struct shard *shard, uint64_t hash, struct bytes key);

const struct shard_counters *shard_counters(const struct shard *shard);

/* ---- storing ---- */

/* What is to be stored. *Borrows* all until the call returns. */
struct shard_draft {
    struct bytes key;
    uint64_t hash;
    struct bytes lines;
    struct bytes trailers;
    struct bytes tags;
    struct bytes note;
    struct freshness freshness;
    uint64_t content_length;
    uint64_t ticket;     /* for the layer above to find in the head; 0: none */
    uint64_t body_bytes; /* that shard_store_body will bring */
    uint64_t cost_ns;
    uint64_t cost_tokens;
    double cost; /* for eviction, in the route's unit; > 0 */
    int64_t remove_at_ms;
    uint16_t status;
    uint16_t route;
    bool has_content_length;
    bool has_date;
    bool has_request_id;
    bool is_event_stream;
    uint8_t form;
};

/* A store under way. The caller's memory; zeroed by shard_store_begin. */
struct shard_store {
    struct cache_object *object;
    struct chunk *last;
    uint64_t left_bytes;     /* of the body */
    uint64_t reserved_bytes; /* of the budget, for what is still to come */
    bool has_failed;         /* the system had no memory for a part of the body: commit will say so */
};

/* Whether what is to be stored is worth what would have to go for it (evict.h); true when there is room, or something
 * is stored under its key. Asked once for each object, before the first shard_store_begin: a refusal is remembered, and
 * counted. */
MUST_USE bool shard_admits(struct shard *shard, const struct shard_draft *draft);

/* Makes room, and the object with key and head. RESULT_MORE: room is being made, begin again in the next turn (give up
 * after a second). RESULT_LIMIT: it can never fit, or nothing can go (counted in no_room). RESULT_NO_MEMORY. */
MUST_USE enum result shard_store_begin(struct shard *shard, struct shard_store *store, const struct shard_draft *draft);

/* Copies `run` to the end of the body. Cannot fail: begin has reserved the room. At most 256 KB a call is good manners.
 */
void shard_store_body(struct shard *shard, struct shard_store *store, struct bytes run);

/* Publishes it: all body bytes are there. What was stored under the key is replaced. RESULT_LIMIT, RESULT_NO_MEMORY:
 * the index refused, or the system had no memory for the room reserved; it is gone. */
MUST_USE enum result shard_store_commit(struct shard *shard, struct shard_store *store);
void shard_store_abort(struct shard *shard, struct shard_store *store);

/* Swaps the head for one made from `draft` (its body_bytes and costs are not looked at). RESULT_MORE and RESULT_LIMIT
 * as for shard_store_begin: the old head stays. */
MUST_USE enum result shard_update_head(struct shard *shard, struct cache_object *object,
                                       const struct shard_draft *draft);

/* Unlinks it. */
void shard_remove(struct shard *shard, struct cache_object *object, enum shard_cause cause);

/* ---- purging, many at a time ---- */

enum shard_filter_kind {
    SHARD_ALL,
    SHARD_KEY, /* this one, and those that go on behind it with a line of their own: its variants */
    SHARD_PREFIX,
    SHARD_TAG,
    SHARD_ROUTE,
    SHARD_BEYOND, /* those that have memory at an address or above: shard_resize */
};

struct shard_filter {
    enum shard_filter_kind kind;
    uint16_t route;
    struct bytes text;       /* the key, its prefix, or the tag; outlives the purge */
    struct bytes key_prefix; /* TAG: only objects whose key begins so; may be empty: any */
    enum shard_cause cause;
    const char *address; /* BEYOND */
};

/* A purge under way: the caller's memory, not to move; linked into the shard until it is over. Objects stored after it
 * began are not looked at. */
struct shard_purge {
    struct list_node node;
    struct list_node cursor;
    struct shard_filter filter;
    uint64_t removed;
};

void shard_purge_begin(struct shard *shard, struct shard_purge *purge, const struct shard_filter *filter);

/* Looks at up to `objects` objects; true while there are more. */
bool shard_purge_step(struct shard *shard, struct shard_purge *purge, unsigned objects);

/* Ends it early. */
void shard_purge_end(struct shard_purge *purge);

/* ---- each turn ---- */

/* At the owner's quiescent state: removes what has expired, frees what nobody reads any more, moves the index on; a
 * bounded amount. True while there is more that could be done at once. Cheap when there is nothing. */
bool shard_turn(struct shard *shard, int64_t now_ms);

/* When shard_turn should be called although nothing else happens (a wait for a grace period: soon; the next expiry);
 * INT64_MAX: no need. */
int64_t shard_next_ms(const struct shard *shard);

#endif
