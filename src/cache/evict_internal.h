/* What the files of eviction share. Nobody else includes it. */
#ifndef SLUICE_CACHE_EVICT_INTERNAL_H
#define SLUICE_CACHE_EVICT_INTERNAL_H

#include "cache/evict.h"

/* ---- the ghost: which hashes went lately ----
 *
 * A table of fixed associativity: 16 slots of a 16-bit fingerprint and a 16-bit time, one cache line, in which the
 * newest replaces the oldest. Time is the bytes that have gone, so that what is remembered is the last window of bytes.
 * It forgets early when a line overflows and takes a stranger for an acquaintance about once in 10,000; both only cost
 * a little of the hit ratio. */

enum { GHOST_WAYS = 16 };

struct ghost_line {
    uint16_t prints[GHOST_WAYS]; /* 0: free */
    uint16_t times[GHOST_WAYS];
};

struct ghost_table {
    struct ghost_line *lines;
    uint32_t line_count;
};

struct ghost {
    struct ghost_table table;
    struct ghost_table
        old; /* looked at until all in it have been forgotten; instead of moving them when the size changes */
    uint64_t old_until_bytes;
    uint64_t gone_bytes; /* the time */
    uint64_t claimed_bytes; /* room that a claim has left: time stands still while it is filled */
    uint64_t tick_bytes;
    uint64_t window_bytes;
    uint64_t remembered; /* hashes put into table, ever */
};

MUST_USE enum result ghost_init(struct ghost *ghost, uint64_t window_bytes);
void ghost_fini(struct ghost *ghost);
uint64_t ghost_bytes(const struct ghost *ghost);

/* Follows the number of objects in the cache: 5 to 8 bytes for each, twice that while an old table is forgotten.
 * Without memory it stays as it is. */
void ghost_fit(struct ghost *ghost, uint64_t residents);

void ghost_add(struct ghost *ghost, uint64_t hash, uint64_t bytes);

/* Whether it went lately; it is forgotten with that. */
bool ghost_claim(struct ghost *ghost, uint64_t hash, uint64_t bytes);

/* ---- S3-FIFO ---- */

struct s3fifo {
    struct list_node small;
    struct list_node main;
    uint64_t small_bytes;
    uint64_t main_bytes;
};

void s3fifo_init(struct s3fifo *s3fifo);
void s3fifo_insert(struct evict *evict, struct evict_node *node);
void s3fifo_remove(struct evict *evict, struct evict_node *node);
struct evict_node *s3fifo_take(struct evict *evict);

/* ---- cost ---- */

enum { COST_QUEUES = 128, COST_ERAS = 16 };

struct cost {
    struct list_node queues[COST_QUEUES]; /* by octave of weight, the lightest first */
    double heads[COST_QUEUES];            /* the value of each queue's head, in this era */
    uint64_t filled[COST_QUEUES / 64];    /* which queues have one */
    double inflation;                     /* the highest value that has gone */
    double era_starts[COST_ERAS]; /* the inflation at which each began, counted from the first one's beginning */
    uint8_t era;
};

void cost_init(struct cost *cost);
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
