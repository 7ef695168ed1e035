/* How an index lies in memory, and the read path. What orders these loads is argued at the head of index.c.
 *
 * index_find is as good with link-time optimisation (bench/index_lookup measures both); without it, index_find_inline
 * spares two calls. */
#ifndef SLUICE_CACHE_INDEX_INLINE_H
#define SLUICE_CACHE_INDEX_INLINE_H

#include "base/check.h"
#include "cache/index.h"

enum {
    INDEX_WORDS = 7, /* in a bucket */
    INDEX_TAG_SHIFT = 48,
    INDEX_MOVED = 1, /* as the link of an array's bucket: it has moved to the newer array */
};

/* A word: tag and pointer, or 0. A link: the next bucket of the chain, INDEX_MOVED, or 0. */
struct index_bucket {
    _Alignas(64) _Atomic uint64_t words[INDEX_WORDS];
    _Atomic uintptr_t link;
};

_Static_assert(sizeof(struct index_bucket) == 64, "a cache line");

struct index_table {
    struct index_bucket *buckets;
    uint64_t mask;                   /* number of buckets - 1 */
    struct index_table *_Atomic old; /* whose buckets are being moved here, or NULL */
};

/* The first member of struct index. */
struct index_reader {
    _Alignas(64) struct index_table *_Atomic table;
};

/* The hash's upper bits, where a word has its tag. Never 0, so that no empty word fits. */
static inline uint64_t index_tag(uint64_t hash)
{
    uint64_t tag = hash >> INDEX_TAG_SHIFT << INDEX_TAG_SHIFT;
    return tag != 0 ? tag : UINT64_C(1) << INDEX_TAG_SHIFT;
}

static inline struct index_node *index_word_node(uint64_t word)
{
    return (struct index_node *)(uintptr_t)(word & ((UINT64_C(1) << INDEX_TAG_SHIFT) - 1));
}

/* Which words of the bucket have the tag: bit i for word i. */
static inline unsigned index_tags_fit(struct index_bucket *bucket, uint64_t tag)
{
    unsigned fit = 0;
    for (unsigned i = INDEX_WORDS; i-- > 0;) {
        uint64_t word = atomic_load_explicit(&bucket->words[i], memory_order_relaxed);
        /* Doubling and adding the comparison is one instruction with the carry. */
        fit = fit + fit + ((word ^ tag) < UINT64_C(1) << INDEX_TAG_SHIFT);
    }
    return fit;
}

/* `link` is the bucket's, loaded (acquire) before its words. */
static inline struct index_node *index_find_in_chain(struct index_bucket *bucket, uintptr_t link, uint64_t hash,
                                                     index_match *matches, const void *key)
{
    uint64_t tag = index_tag(hash);
    for (;;) {
        for (unsigned fit = index_tags_fit(bucket, tag); fit != 0; fit &= fit - 1) {
            /* Acquire pairs with the owner's release of the word: what it points at is complete. It may have changed
             * since it was looked at, but only if what was in it is gone. */
            uint64_t word = atomic_load_explicit(&bucket->words[__builtin_ctz(fit)], memory_order_acquire);
            struct index_node *node = index_word_node(word);
            if (node != NULL && node->hash == hash && matches(node, key)) {
                return node;
            }
        }
        if (LIKELY(link == 0)) {
            return NULL;
        }
        bucket = (struct index_bucket *)link;
        link = atomic_load_explicit(&bucket->link, memory_order_acquire);
    }
}

/* As index_find. */
static inline struct index_node *index_find_inline(const struct index *index, uint64_t hash, index_match *matches,
                                                   const void *key)
{
    struct index_reader *reader = (struct index_reader *)(uintptr_t)index;
    for (;;) {
        struct index_table *table = atomic_load_explicit(&reader->table, memory_order_acquire);
        struct index_table *old = atomic_load_explicit(&table->old, memory_order_acquire);
        if (UNLIKELY(old != NULL)) {
            struct index_bucket *bucket = &old->buckets[hash & old->mask];
            uintptr_t link = atomic_load_explicit(&bucket->link, memory_order_acquire);
            if (link != INDEX_MOVED) {
                return index_find_in_chain(bucket, link, hash, matches, key);
            }
        }
        struct index_bucket *bucket = &table->buckets[hash & table->mask];
        uintptr_t link = atomic_load_explicit(&bucket->link, memory_order_acquire);
        if (LIKELY(link != INDEX_MOVED)) {
            return index_find_in_chain(bucket, link, hash, matches, key);
        }
        /* The table was outgrown while we held it; the newer one was published before the bucket moved. */
    }
}

#endif
