/* A stored response, as a shard keeps it and every worker reads it.
 *
 *   index ─▶ +-- object: piece of the slab --------+
 *            | hash, body's length, costs, key …   |──▶ rest of a long key, further pieces
 *            +--------------------------------------+
 *              │ head (release store)   │ body
 *              ▼                        ▼
 *            +-- head: one piece -------+   piece ─▶ piece ─▶ piece
 *            | freshness | field lines  |
 *            +--------------------------+
 *
 * Everything below is constant once it is published, but for `head`, which is swapped whole when a 304 brings new
 * field lines, and for the marks of eviction. What is swapped or unlinked is retired (qsbr.h). */
#ifndef SLUICE_CACHE_OBJECT_H
#define SLUICE_CACHE_OBJECT_H

#include "base/bytes.h"
#include "cache/chunk.h"
#include "cache/evict.h"
#include "cache/freshness.h"
#include "cache/index.h"

/* The response's head: what a reader decides by, and the lines it sends. */
struct cache_head {
    struct freshness freshness;
    uint64_t content_length; /* when has_content_length */
    uint64_t ticket;         /* of whoever had it fetched before anybody asked for it; 0: somebody did */
    struct chunk *piece;     /* it lies in */
    uint32_t lines_bytes;    /* `Name: value\r\n` lines, as forward_response_head made them; first in data */
    uint32_t trailer_bytes;  /* likewise, behind them */
    uint32_t tag_bytes;      /* names of groups and tags, each ended by '\n', behind them */
    uint32_t note_bytes;     /* what the layer above wants to find again, behind them: the vary list, a stream's form */
    uint16_t status;
    bool has_content_length;
    bool has_date;
    bool has_request_id;
    bool is_event_stream;
    uint8_t form; /* the layer above's: what the body is */
    /* the owner's, once another has taken its place */
    struct list_node retired;
    const struct cache_object *object; /* whose it was: a pin on that keeps it, too */
    uint64_t retired_epoch;
    char data[];
};

/* Where an object is in its life, in a pattern that memory of any other kind does not hold. */
enum cache_canary {
    CACHE_CANARY_STORING = 0x5107ed01, /* being made */
    CACHE_CANARY_LIVE = 0x5107ed02,    /* in the index */
    CACHE_CANARY_RETIRED = 0x5107ed03, /* unlinked; readers may be looking at it */
    CACHE_CANARY_FREE = 0x5107ed04,
};

struct cache_object {
    struct index_node index; /* first: hash */
    _Atomic(struct cache_head *) head;
    struct chunk *body; /* NULL: none */
    uint64_t body_bytes;
    uint64_t key_bytes;
    uint64_t cost_ns;     /* what it took to make */
    uint64_t cost_tokens; /* 0: not known */
    struct evict_node evict;
    /* the owner's */
    struct list_node all;    /* every object of the shard; then the retired */
    struct list_node expiry; /* in a slot of the wheel */
    int64_t remove_at_ms;    /* of no use to anybody from then on */
    uint64_t charged_bytes;  /* object, key, head and body as allocated */
    uint64_t retired_epoch;
    struct chunk *piece;    /* it lies in */
    struct chunk *key_rest; /* what did not fit behind this struct */
    uint32_t canary;        /* enum cache_canary */
    uint16_t route;         /* whose configuration it was stored by */
    uint16_t key_here_bytes;
    char key[];
};

static inline const struct cache_head *cache_object_head(const struct cache_object *object)
{
    /* acquire pairs with the release store that swaps heads */
    return atomic_load_explicit(&((struct cache_object *)(uintptr_t)object)->head, memory_order_acquire);
}

static inline struct bytes cache_head_lines(const struct cache_head *head)
{
    return (struct bytes){head->data, head->lines_bytes};
}

static inline struct bytes cache_head_trailers(const struct cache_head *head)
{
    return (struct bytes){head->data + head->lines_bytes, head->trailer_bytes};
}

static inline struct bytes cache_head_tags(const struct cache_head *head)
{
    return (struct bytes){head->data + head->lines_bytes + head->trailer_bytes, head->tag_bytes};
}

static inline struct bytes cache_head_note(const struct cache_head *head)
{
    return (struct bytes){head->data + head->lines_bytes + head->trailer_bytes + head->tag_bytes, head->note_bytes};
}

/* Whether the object's whole key is `key`. */
bool cache_object_has_key(const struct cache_object *object, struct bytes key);

/* Whether two objects have the same key. */
bool cache_object_same_key(const struct cache_object *a, const struct cache_object *b);

/* Whether the key is `text`, or `text` and then further lines. */
bool cache_object_has_first_line(const struct cache_object *object, struct bytes text);

/* Whether the key begins with `prefix`. */
bool cache_object_has_prefix(const struct cache_object *object, struct bytes prefix);

#endif
