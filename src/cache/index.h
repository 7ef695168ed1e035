/* A shard's index: from a key's hash to what is stored under it. One writer, many readers, who take no lock and write
 * nothing (CREW).
 *
 *   bucket (64 B): | word 0 | … | word 6 | overflow ─▶ bucket |      word: 16-bit tag | 48-bit pointer
 *
 * A reader finds the bucket, compares tags, follows the pointers whose tag fits, and lets the caller compare the whole
 * key (XXH3 is fast, not collision-resistant: a hash alone would hand one tenant another's answer). Words are single
 * release stores; what they point at is retired through qsbr.h, and so are bucket arrays. The index grows without a
 * pause: a larger array is made, and every write moves some buckets over until the old one is empty; meanwhile readers
 * look where the key's bucket says it is, and never miss what is in the index all along.
 *
 * Chains are capped: a bucket whose chain is full refuses (RESULT_LIMIT), which with a secret seed does not happen to
 * keys that nobody can choose by their hash. */
#ifndef SLUICE_CACHE_INDEX_H
#define SLUICE_CACHE_INDEX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/result.h"
#include "cache/qsbr.h"

/* The first member of what is indexed. Aligned to 8 at least. */
struct index_node {
    uint64_t hash; /* constant while it is in the index */
};

struct index; /* the layout is in index.c, but for what index_find needs inline (index_inline.h, if any) */

/* Whether `node` is the one that `key` means: the whole key, compared. */
typedef bool index_match(const struct index_node *node, const void *key);

/* An empty index. *Keeps* qsbr. NULL when memory is out. */
struct index *index_create(struct qsbr *qsbr);

/* No reader may be left. */
void index_destroy(struct index *index);

/* Any worker, online: the node, or NULL. Valid until its next quiescent state. */
struct index_node *index_find(const struct index *index, uint64_t hash, index_match *matches, const void *key);

/* ---- the owner ---- */

/* Adds `node`, whose key is not there yet. RESULT_LIMIT: the chain is full. RESULT_NO_MEMORY. */
MUST_USE enum result index_insert(struct index *index, struct index_node *node);

/* Puts `node` in the place of `old`, which has the same key: a reader sees one or the other. */
void index_replace(struct index *index, struct index_node *old, struct index_node *node);

/* Takes `node` out. The caller retires it. */
void index_remove(struct index *index, struct index_node *node);

/* Does at most `buckets` buckets' worth of moving and frees what the epochs allow; true while there is more to do.
 * Writes do it by themselves, this is for an owner that writes nothing. */
bool index_work(struct index *index, unsigned buckets);

size_t index_count(const struct index *index);

/* Of bucket arrays and overflow buckets, retired ones included: they count against the budget. */
size_t index_bytes(const struct index *index);

#endif
