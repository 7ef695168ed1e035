/* What the files of eviction share. Nobody else includes it. */
#ifndef SLUICE_CACHE_EVICT_INTERNAL_H
#define SLUICE_CACHE_EVICT_INTERNAL_H

#include "cache/evict.h"

/* ---- the ghost: which hashes went lately ----
 *
 * A table of fixed associativity: a line is 16 slots of a 16-bit fingerprint and a 16-bit time, 64 bytes, in which the
 * newest replaces the oldest. Time is the bytes that have gone, so that what is remembered is the last window of bytes.
 * It forgets early when a line overflows, and takes a stranger for an acquaintance about once in 4,000 times; both cost
 * only a little of the hit ratio.
 *
 * Its size follows the number of objects in the cache: 5 to 8 bytes for each. When it changes, nothing is moved: the
 * old table is looked at until all in it are out of the window, and both are allocated and freed by segments, one at a
 * time as they are first written, so that no call pauses. */

enum { GHOST_WAYS = 16, GHOST_SEGMENT_LINES = 256 };

struct ghost_line {
    uint16_t prints[GHOST_WAYS]; /* 0: free */
    uint16_t times[GHOST_WAYS];
};

struct ghost_table {
    struct ghost_line **segments; /* NULL: nothing there yet */
    uint32_t line_count;
    uint32_t segment_count;
    uint64_t bytes; /* allocated */
};

struct ghost {
    struct ghost_table table;
    struct ghost_table old; /* without segments: none */
    uint64_t old_until_bytes;
    uint64_t gone_bytes;    /* the time */
    uint64_t claimed_bytes; /* room that claims have left: time stands still while it is filled */
    uint64_t tick_bytes;
    uint64_t window_bytes;
};

MUST_USE enum result ghost_init(struct ghost *ghost, uint64_t window_bytes);
void ghost_fini(struct ghost *ghost);
uint64_t ghost_bytes(const struct ghost *ghost);

/* Follows the number of objects in the cache. Without memory it stays as it is. */
void ghost_fit(struct ghost *ghost, uint64_t residents);

/* Without memory it is forgotten. */
void ghost_add(struct ghost *ghost, uint64_t hash, uint64_t bytes);

/* Whether it went lately. The second forgets it with that. */
bool ghost_knows(const struct ghost *ghost, uint64_t hash);
bool ghost_claim(struct ghost *ghost, uint64_t hash, uint64_t bytes);

/* ---- S3-FIFO ---- */

struct s3fifo {
    struct list_node small;
    struct list_node main;
    uint64_t small_bytes;
    uint64_t main_bytes;
};

void s3fifo_init(struct s3fifo *s3fifo);
bool s3fifo_admits(struct evict *evict, const struct evict_node *node);
void s3fifo_insert(struct evict *evict, struct evict_node *node);
void s3fifo_remove(struct evict *evict, struct evict_node *node);
struct evict_node *s3fifo_take(struct evict *evict);

/* ---- cost ---- */

enum { COST_QUEUES = 128, COST_ERAS = 16 };

struct cost_queue {
    struct list_node nodes;
    double head;    /* the value of its first node, in this era */
    uint64_t bytes; /* of all its nodes */
};

struct cost {
    struct cost_queue queues[COST_QUEUES]; /* by octave of weight, the lightest first */
    uint64_t filled[COST_QUEUES / 64];     /* which of them have nodes */
    double inflation;
    double era_starts[COST_ERAS]; /* the inflation at which each era began, counted from the start of the first */
    uint8_t era;
};

void cost_init(struct cost *cost);
bool cost_admits(struct evict *evict, const struct evict_node *node);
void cost_insert(struct evict *evict, struct evict_node *node);
void cost_remove(struct evict *evict, struct evict_node *node);
struct evict_node *cost_take(struct evict *evict);

/* ---- both ---- */

struct evict {
    enum evict_policy policy;
    uint64_t bytes_max;
    uint64_t count; /* nodes in */
    struct ghost ghost;
    union {
        struct s3fifo s3fifo;
        struct cost cost;
    };
};

static inline uint8_t evict_marks(const struct evict_node *node)
{
    return atomic_load_explicit(&((struct evict_node *)(uintptr_t)node)->marks, memory_order_relaxed);
}

/* A mark that another core sets between load and store is lost: it is one of many, and worth no locked instruction. */
static inline void evict_marks_set(struct evict_node *node, uint8_t marks)
{
    atomic_store_explicit(&node->marks, marks, memory_order_relaxed);
}

#endif
