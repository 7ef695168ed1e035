/* Which stored object goes first. Pure: no clock, no lock; one owner.
 *
 * Two policies behind one interface.
 *
 * EVICT_COST (the default): one FIFO per octave of (cost to make again ÷ bytes), CLOCK marks, and an inflation value as
 * in GreedyDual, applied lazily: a hit, on any core, only sets a mark in the node; the owner re-prices the node
 * when it comes to the head of its queue; the queue whose head is worth least gives up its head. Where all costs per
 * byte are alike it must not be worse than plain policies.
 *
 * EVICT_S3FIFO: for uniform cost. A small queue that most objects leave unseen, a main queue, a ghost
 * of what left the small one (Yang et al., SOSP 2023). */
#ifndef SLUICE_CACHE_EVICT_H
#define SLUICE_CACHE_EVICT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/result.h"

enum evict_policy { EVICT_COST, EVICT_S3FIFO };

enum { EVICT_MARKS_MAX = 3 };

/* Sits inside an object. */
struct evict_node {
    struct list_node node;
    uint64_t hash;  /* for the ghost */
    uint64_t bytes; /* charged */
    double cost;    /* to make it again, in any one unit; > 0 */
    double value;   /* private to evict.c */
    uint8_t queue;  /* private, as the next two */
    uint8_t hits;
    uint8_t era;
    _Atomic uint8_t marks; /* hits since the owner last looked, up to EVICT_MARKS_MAX */
};

struct evict;

/* *Gives* the state of one shard of `bytes_max` bytes. NULL when memory is out. Its own memory is bounded in proportion
 * to what it holds (evict_bytes). */
struct evict *evict_create(enum evict_policy policy, uint64_t bytes_max);
void evict_destroy(struct evict *evict);
uint64_t evict_bytes(const struct evict *evict);

/* Whether a new object, whose hash, bytes and cost are set in node, is worth what would have to go for it; nothing else
 * in node is looked at. Asked before room is made, not when there is room: evict_take knows nothing of what the room is
 * for, and one large object that is cheap would drive out many small ones that are not (missed cost of the mixed load
 * in bench/cache_replay.c at 1 %, relative to LRU: 0.64 without asking, 0.58 with it). A refused object is remembered
 * as seen. One that is asked for again and again is let in once what it has cost outweighs what is kept. Looks at no
 * object but at most one for each queue. */
bool evict_admits(struct evict *evict, const struct evict_node *node);

/* A new object: hash, bytes and cost of the node are set. *Keeps* node until it is removed or taken. */
void evict_insert(struct evict *evict, struct evict_node *node);

/* It goes for another reason: purged, expired, replaced. If it had been hit, it is remembered: what takes its place
 * counts as seen when it is inserted after this. */
void evict_remove(struct evict *evict, struct evict_node *node);

/* The object to go: out of the policy's hands. NULL when there is none, and only then. Every object looked at and kept
 * has been hit since it was last looked at, so the work is a hit's share of a constant; a call looks at no more
 * than 64. */
struct evict_node *evict_take(struct evict *evict);

/* A hit, on any core: writes the shared line only when that changes something. */
static inline void evict_touch(struct evict_node *node)
{
    uint8_t marks = atomic_load_explicit(&node->marks, memory_order_relaxed);
    if (marks < EVICT_MARKS_MAX) {
        atomic_store_explicit(&node->marks, (uint8_t)(marks + 1), memory_order_relaxed);
    }
}

#endif
