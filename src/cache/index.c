/* Buckets in an array, chains behind them, and never more than two arrays: the one that grows and the one it outgrew.
 *
 *   index ─▶ table ─┬▶ buckets: | b0 | b1 | … |          which bucket: the hash's low bits; the tag: its high ones
 *                   └▶ old table, while buckets move ─▶ | b0 | b1 | … |
 *
 * Every key has one *live* chain, the one that the owner writes: in the old array until its bucket has moved, in the
 * new one from then on. A bucket or chain that is live no more is *frozen*: nothing in it changes until it is freed,
 * a grace period after it was unlinked. Readers rest on two rules.
 *
 * 1. Load a bucket's link before its words (link: acquire). The owner moves words only to where a reader that finds
 *    the new link will look afterwards, and it moves them before it changes the link (release):
 *    - A bucket moves to the new array: its words are stored there, then its link becomes MOVED. Who finds it not
 *      MOVED reads a chain that was live at that moment and holds all that was in it; who finds it MOVED goes on to the
 * new array and finds them there. The frozen words of a moved bucket are looked at by nobody who came later, so that
 *      they may go on pointing at what is freed.
 *    - The bucket behind is merged into a bucket with room: its words are stored in the holes, then it is unlinked.
 *      Who found the old link reads the unlinked one, frozen as it was; who finds the new link finds the words here.
 *    A word that stays is thus never passed by. It may be met twice, which does no harm.
 *
 * 2. What is met is alive. A link or a word that the reader loads was live when its epoch began, or later: all that was
 *    retired before that was unlinked before (qsbr.c, A and C). So the words of a frozen chain point at nothing that is
 *    freed within the epoch of a reader who can still come to it.
 *
 * A reader may hold a table that has been outgrown altogether: it finds MOVED there, and begins again with the newest,
 * which was published before the first bucket moved. Words and links are read relaxed where an acquire load of the
 * same or of an earlier one follows or precedes; each is named where it stands.
 *
 * Nothing waits for memory: when the larger array cannot be had, chains grow, and when a bucket cannot be moved, it
 * stays live where it is and is tried again. An array is mapped, not zeroed, and unmapped by RELEASE_BYTES at a time.
 */
#include "cache/index.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/check.h"
#include "base/list.h"
#include "cache/index_inline.h"

enum {
    BUCKETS_MIN = 64,     /* a page */
    NODES_PER_BUCKET = 4, /* on average, when the array is doubled */
    OVERFLOW_MAX = 16,    /* buckets in a chain, behind the first */
    CHAIN_WORDS_MAX = (OVERFLOW_MAX + 1) * INDEX_WORDS,
    MERGED_WORDS_MAX = INDEX_WORDS - 2, /* room is left, or the next insert would split what was merged */
    MOVES_PER_WRITE = 2,                /* the old array is empty long before the new one is full */
    WRITES_PER_RECLAIM = 16,            /* asking for the epochs reads a line of every worker */
    RELEASE_BYTES = 256 << 10,          /* some 20 us; 2 MB took 180 (bench/index_lookup) */
};

/* What has been unlinked, in the order of its epochs. */
struct retired {
    struct retired *newer;
    uint64_t epoch;
    bool is_table;
};

/* A bucket behind the first of its chain. The second line is the owner's. */
struct index_overflow {
    struct index_bucket bucket;
    struct list_node live; /* in index->overflow, until it is retired */
    struct retired retired;
};

_Static_assert(sizeof(struct index_overflow) == 128, "two lines");

struct index_array {
    struct index_table table; /* first: what readers see */
    struct retired retired;
    size_t bytes; /* still mapped */
};

struct index {
    struct index_reader reader; /* first, and on a line that only growing writes */
    struct qsbr *qsbr;
    size_t count;
    size_t grow_at; /* nodes */
    size_t moved;   /* buckets of the old array, from its start on */
    size_t bytes;
    unsigned writes; /* since epochs were looked at */
    struct list_node overflow;
    struct retired *oldest; /* of what waits for its grace period */
    struct retired *latest;
    struct index_array *releasing; /* nobody reads it: being unmapped */
};

/* ---- arrays */

/* Maps zero bytes, which the kernel makes page by page as they are touched. Small pages: in bench/index_lookup huge
 * ones made no lookup faster that was measured, and the insert that touched one first took 0.5 to 12 ms. */
static void *map_zeroed(size_t bytes)
{
    void *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping == MAP_FAILED) {
        return NULL;
    }
    madvise(mapping, bytes, MADV_NOHUGEPAGE); /* a kernel without them refuses */
    return mapping;
}

static struct index_array *array_create(size_t buckets)
{
    struct index_array *array = calloc(1, sizeof(*array));
    if (array == NULL) {
        return NULL;
    }
    array->bytes = buckets * sizeof(struct index_bucket);
    array->table.buckets = map_zeroed(array->bytes);
    if (array->table.buckets == NULL) {
        free(array);
        return NULL;
    }
    array->table.mask = buckets - 1;
    array->retired.is_table = true;
    return array;
}

static void array_destroy(struct index_array *array)
{
    if (array->bytes > 0) {
        munmap(array->table.buckets, array->bytes);
    }
    free(array);
}

static struct index_array *array_of(struct index_table *table)
{
    return CONTAINER_OF(table, struct index_array, table);
}

/* The owner's own: nobody else changes them. */
static struct index_array *newest(const struct index *index)
{
    struct index_reader *reader = (struct index_reader *)(uintptr_t)&index->reader;
    return array_of(atomic_load_explicit(&reader->table, memory_order_relaxed));
}

static struct index_table *outgrown(const struct index *index)
{
    return atomic_load_explicit(&newest(index)->table.old, memory_order_relaxed);
}

struct index *index_create(struct qsbr *qsbr)
{
    struct index *index = aligned_alloc(_Alignof(struct index), sizeof(*index));
    if (index == NULL) {
        return NULL;
    }
    struct index_array *array = array_create(BUCKETS_MIN);
    if (array == NULL) {
        free(index);
        return NULL;
    }
    memset(index, 0, sizeof(*index));
    atomic_init(&index->reader.table, &array->table);
    index->qsbr = qsbr;
    index->grow_at = (size_t)BUCKETS_MIN * NODES_PER_BUCKET;
    index->bytes = array->bytes;
    list_init(&index->overflow);
    return index;
}

/* Off all lists. */
static void free_overflow(struct index *index, struct index_overflow *overflow)
{
    free(overflow);
    index->bytes -= sizeof(*overflow);
}

void index_destroy(struct index *index)
{
    if (index == NULL) {
        return;
    }
    for (struct retired *retired = index->oldest; retired != NULL;) {
        struct retired *newer = retired->newer;
        if (retired->is_table) {
            array_destroy(CONTAINER_OF(retired, struct index_array, retired));
        } else {
            free_overflow(index, CONTAINER_OF(retired, struct index_overflow, retired));
        }
        retired = newer;
    }
    for (struct list_node *live = index->overflow.next; live != &index->overflow;) {
        struct list_node *next = live->next;
        free_overflow(index, CONTAINER_OF(live, struct index_overflow, live));
        live = next;
    }
    if (index->releasing != NULL) {
        array_destroy(index->releasing);
    }
    struct index_table *old = outgrown(index);
    if (old != NULL) {
        array_destroy(array_of(old));
    }
    array_destroy(newest(index));
    free(index);
}

size_t index_count(const struct index *index)
{
    return index->count;
}

size_t index_bytes(const struct index *index)
{
    return index->bytes;
}

struct index_node *index_find(const struct index *index, uint64_t hash, index_match *matches, const void *key)
{
    return index_find_inline(index, hash, matches, key);
}

/* ---- retiring */

/* What `unlinked` names can be found no more. */
static void retire(struct index *index, struct retired *unlinked, uint64_t epoch)
{
    unlinked->epoch = epoch;
    unlinked->newer = NULL;
    if (index->oldest == NULL) {
        index->oldest = unlinked;
    } else {
        index->latest->newer = unlinked;
    }
    index->latest = unlinked;
}

/* Unmaps a piece of an array that nobody reads. */
static void release_some(struct index *index)
{
    struct index_array *array = index->releasing;
    size_t bytes = array->bytes < RELEASE_BYTES ? array->bytes : RELEASE_BYTES;
    array->bytes -= bytes;
    index->bytes -= bytes;
    munmap((char *)array->table.buckets + array->bytes, bytes);
    if (array->bytes == 0) {
        array_destroy(array);
        index->releasing = NULL;
    }
}

/* Frees up to `count` things that the epochs allow; arrays are unmapped one after the other. */
static void reclaim(struct index *index, unsigned count)
{
    if (index->releasing != NULL) {
        release_some(index);
    }
    if (index->oldest == NULL) {
        return;
    }
    uint64_t passed = qsbr_passed(index->qsbr);
    while (count-- > 0 && index->oldest != NULL && index->oldest->epoch <= passed) {
        struct retired *retired = index->oldest;
        if (retired->is_table && index->releasing != NULL) {
            return;
        }
        index->oldest = retired->newer;
        if (retired->is_table) {
            index->releasing = CONTAINER_OF(retired, struct index_array, retired);
        } else {
            free_overflow(index, CONTAINER_OF(retired, struct index_overflow, retired));
        }
    }
}

/* ---- chains, as the owner sees them: relaxed loads, nobody else writes */

static uint64_t word_at(struct index_bucket *bucket, unsigned i)
{
    return atomic_load_explicit(&bucket->words[i], memory_order_relaxed);
}

static struct index_bucket *next_of(struct index_bucket *bucket)
{
    return (struct index_bucket *)atomic_load_explicit(&bucket->link, memory_order_relaxed);
}

static struct index_overflow *overflow_of(struct index_bucket *bucket)
{
    return CONTAINER_OF(bucket, struct index_overflow, bucket);
}

/* The word's index, or INDEX_WORDS. An empty place is found as the word 0. */
static unsigned place_of(struct index_bucket *bucket, uint64_t word)
{
    unsigned i = 0;
    while (i < INDEX_WORDS && word_at(bucket, i) != word) {
        i++;
    }
    return i;
}

static unsigned words_used(struct index_bucket *bucket)
{
    unsigned used = 0;
    for (unsigned i = 0; i < INDEX_WORDS; i++) {
        used += word_at(bucket, i) != 0;
    }
    return used;
}

static uint64_t word_of(const struct index_node *node)
{
    return index_tag(node->hash) | (uint64_t)(uintptr_t)node;
}

static struct index_overflow *overflow_create(struct index *index)
{
    struct index_overflow *overflow = aligned_alloc(_Alignof(struct index_overflow), sizeof(*overflow));
    if (overflow == NULL) {
        return NULL;
    }
    memset(overflow, 0, sizeof(*overflow));
    index->bytes += sizeof(*overflow);
    list_push_back(&index->overflow, &overflow->live);
    return overflow;
}

/* The first bucket of the live chain. */
static struct index_bucket *live_bucket(const struct index *index, uint64_t hash)
{
    struct index_table *old = outgrown(index);
    if (old != NULL && (hash & old->mask) >= index->moved) {
        return &old->buckets[hash & old->mask];
    }
    struct index_table *table = &newest(index)->table;
    return &table->buckets[hash & table->mask];
}

/* ---- growing */

/* What a bucket's words become: the chains of two buckets of the new array, built where no reader looks yet. */
struct split {
    uint64_t words[2][CHAIN_WORDS_MAX];
    unsigned counts[2];
};

static void split_chain(struct split *split, struct index_bucket *bucket, uint64_t upper_bit)
{
    split->counts[0] = split->counts[1] = 0;
    for (; bucket != NULL; bucket = next_of(bucket)) {
        for (unsigned i = 0; i < INDEX_WORDS; i++) {
            __builtin_prefetch(index_word_node(word_at(bucket, i)));
        }
        for (unsigned i = 0; i < INDEX_WORDS; i++) {
            uint64_t word = word_at(bucket, i);
            if (word != 0) {
                unsigned side = (index_word_node(word)->hash & upper_bit) != 0;
                split->words[side][split->counts[side]++] = word;
            }
        }
    }
}

/* Links as many empty overflow buckets behind `bucket` as `count` words need. */
static bool chain_make_room(struct index *index, struct index_bucket *bucket, unsigned count)
{
    for (; count > INDEX_WORDS; count -= INDEX_WORDS) {
        struct index_overflow *overflow = overflow_create(index);
        if (overflow == NULL) {
            return false;
        }
        atomic_store_explicit(&bucket->link, (uintptr_t)&overflow->bucket, memory_order_relaxed);
        bucket = &overflow->bucket;
    }
    return true;
}

/* Takes the room away again. */
static void chain_drop_room(struct index *index, struct index_bucket *bucket)
{
    struct index_bucket *next = next_of(bucket);
    atomic_store_explicit(&bucket->link, 0, memory_order_relaxed);
    while (next != NULL) {
        bucket = next;
        next = next_of(bucket);
        list_remove(&overflow_of(bucket)->live);
        free_overflow(index, overflow_of(bucket));
    }
}

/* Relaxed: readers come here only through the moved bucket's link, which is released after this. */
static void chain_fill(struct index_bucket *bucket, const uint64_t *words, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (i > 0 && i % INDEX_WORDS == 0) {
            bucket = next_of(bucket);
        }
        atomic_store_explicit(&bucket->words[i % INDEX_WORDS], words[i], memory_order_relaxed);
    }
}

/* Moves the next bucket of `old`. False: no memory for its chains, and it stays where it is. */
static bool move_bucket(struct index *index, struct index_table *old)
{
    struct index_table *table = &newest(index)->table;
    struct index_bucket *from = &old->buckets[index->moved];
    struct index_bucket *to[2] = {&table->buckets[index->moved], &table->buckets[index->moved + old->mask + 1]};
    struct split split;
    split_chain(&split, from, old->mask + 1);
    for (unsigned side = 0; side < 2; side++) {
        if (!chain_make_room(index, to[side], split.counts[side])) {
            chain_drop_room(index, to[0]);
            chain_drop_room(index, to[1]);
            return false;
        }
    }
    for (unsigned side = 0; side < 2; side++) {
        chain_fill(to[side], split.words[side], split.counts[side]);
    }
    struct index_bucket *next = next_of(from);
    /* Release pairs with the reader's acquire of the link: who finds MOVED finds the words in the new array. */
    atomic_store_explicit(&from->link, INDEX_MOVED, memory_order_release);
    index->moved++;
    if (next != NULL) {
        uint64_t epoch = qsbr_retire(index->qsbr);
        for (; next != NULL; next = next_of(next)) {
            list_remove(&overflow_of(next)->live);
            retire(index, &overflow_of(next)->retired, epoch);
        }
    }
    return true;
}

/* Moves up to `buckets` buckets. The old array goes when it is empty. */
static void move_some(struct index *index, unsigned buckets)
{
    struct index_table *old = outgrown(index);
    if (old == NULL) {
        return;
    }
    while (buckets-- > 0 && index->moved <= old->mask) {
        if (!move_bucket(index, old)) {
            return;
        }
    }
    if (index->moved > old->mask) {
        /* Relaxed would do: a reader that still finds the old array finds MOVED in all of it. */
        atomic_store_explicit(&newest(index)->table.old, NULL, memory_order_release);
        retire(index, &array_of(old)->retired, qsbr_retire(index->qsbr));
    }
}

static void grow_if_due(struct index *index)
{
    if (index->count < index->grow_at || outgrown(index) != NULL) {
        return;
    }
    struct index_array *smaller = newest(index);
    size_t buckets = 2 * (smaller->table.mask + 1);
    struct index_array *array = array_create(buckets);
    if (array == NULL) {
        index->grow_at +=
            index->grow_at / 8; /* longer chains until then; asking each time would cost a call each time */
        return;
    }
    atomic_init(&array->table.old, &smaller->table);
    index->bytes += array->bytes;
    index->moved = 0;
    index->grow_at = buckets * NODES_PER_BUCKET;
    /* Release pairs with the reader's acquire of the table: its fields are set. Nothing has moved yet. */
    atomic_store_explicit(&index->reader.table, &array->table, memory_order_release);
}

/* The share of the work that every write does. */
static void work_a_little(struct index *index)
{
    move_some(index, MOVES_PER_WRITE);
    if (++index->writes >= WRITES_PER_RECLAIM) {
        index->writes = 0;
        reclaim(index, 2 * WRITES_PER_RECLAIM);
    }
}

bool index_work(struct index *index, unsigned buckets)
{
    move_some(index, buckets);
    reclaim(index, buckets);
    return outgrown(index) != NULL || index->releasing != NULL || index->oldest != NULL;
}

/* ---- writing */

static void check_node(const struct index_node *node)
{
    CHECK(((uintptr_t)node & 7) == 0 && (uint64_t)(uintptr_t)node >> INDEX_TAG_SHIFT == 0);
}

enum result index_insert(struct index *index, struct index_node *node)
{
    check_node(node);
    grow_if_due(index);
    work_a_little(index);
    struct index_bucket *bucket = live_bucket(index, node->hash);
    unsigned place = place_of(bucket, 0);
    unsigned overflow = 0;
    while (place == INDEX_WORDS && next_of(bucket) != NULL) {
        bucket = next_of(bucket);
        place = place_of(bucket, 0);
        overflow++;
    }
    /* Each release pairs with the reader's acquire of the same word or link. */
    if (place < INDEX_WORDS) {
        atomic_store_explicit(&bucket->words[place], word_of(node), memory_order_release);
    } else if (overflow == OVERFLOW_MAX) {
        return RESULT_LIMIT;
    } else {
        struct index_overflow *added = overflow_create(index);
        if (added == NULL) {
            return RESULT_NO_MEMORY;
        }
        atomic_store_explicit(&added->bucket.words[0], word_of(node), memory_order_relaxed);
        atomic_store_explicit(&bucket->link, (uintptr_t)&added->bucket, memory_order_release);
    }
    index->count++;
    return RESULT_OK;
}

/* Where a node of the index is. */
struct position {
    struct index_bucket *before; /* NULL: bucket is the first of its chain */
    struct index_bucket *bucket;
    unsigned place;
};

static struct position position_of(const struct index *index, const struct index_node *node)
{
    uint64_t word = word_of(node);
    struct position at = {.bucket = live_bucket(index, node->hash)};
    while ((at.place = place_of(at.bucket, word)) == INDEX_WORDS) {
        at.before = at.bucket;
        at.bucket = next_of(at.bucket);
        CHECK(at.bucket != NULL);
    }
    return at;
}

void index_replace(struct index *index, struct index_node *old, struct index_node *node)
{
    check_node(node);
    CHECK(old->hash == node->hash);
    work_a_little(index);
    struct position at = position_of(index, old);
    /* Release pairs with the reader's acquire of the word. */
    atomic_store_explicit(&at.bucket->words[at.place], word_of(node), memory_order_release);
}

/* Merges the bucket behind `bucket` into it, if both fit with some room left. */
static bool merge_next(struct index *index, struct index_bucket *bucket)
{
    struct index_bucket *next = next_of(bucket);
    if (next == NULL || words_used(bucket) + words_used(next) > MERGED_WORDS_MAX) {
        return false;
    }
    for (unsigned i = 0; i < INDEX_WORDS; i++) {
        if (word_at(next, i) != 0) {
            atomic_store_explicit(&bucket->words[place_of(bucket, 0)], word_at(next, i), memory_order_release);
        }
    }
    /* Release pairs with the reader's acquire of the link: who finds this one finds the words above. */
    atomic_store_explicit(&bucket->link, (uintptr_t)next_of(next), memory_order_release);
    list_remove(&overflow_of(next)->live);
    retire(index, &overflow_of(next)->retired, qsbr_retire(index->qsbr));
    return true;
}

void index_remove(struct index *index, struct index_node *node)
{
    work_a_little(index);
    struct position at = position_of(index, node);
    /* Relaxed: nothing is published, and who finds it gone does not look at it. */
    atomic_store_explicit(&at.bucket->words[at.place], 0, memory_order_relaxed);
    index->count--;
    if (at.before == NULL || !merge_next(index, at.before)) {
        merge_next(index, at.bucket);
    }
}
