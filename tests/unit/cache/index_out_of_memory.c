/* index.c once more, under other names and over allocators whose nth call fails. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/mman.h>

static unsigned calls_until_failure;
static unsigned period; /* after a failure: the next one */
static unsigned failures;

static bool fails(void)
{
    if (calls_until_failure == 0 || --calls_until_failure > 0) {
        return false;
    }
    calls_until_failure = period;
    failures++;
    return true;
}

static void *failing_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : aligned_alloc(alignment, bytes);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

static void *failing_mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset)
{
    return fails() ? MAP_FAILED : mmap(at, bytes, protection, flags, file, offset);
}

#define aligned_alloc failing_aligned_alloc
#define calloc        failing_calloc
#define mmap          failing_mmap
#define index_create  nth_index_create
#define index_destroy nth_index_destroy
#define index_find    nth_index_find
#define index_insert  nth_index_insert
#define index_replace nth_index_replace
#define index_remove  nth_index_remove
#define index_work    nth_index_work
#define index_count   nth_index_count
#define index_bytes   nth_index_bytes
#include "../../../src/cache/index.c"

enum { MANY = 4000 };

struct numbered {
    struct index_node node;
    uint64_t key;
    bool is_in;
};

static bool is_number(const struct index_node *node, const void *key)
{
    return ((const struct numbered *)(const void *)node)->key == *(const uint64_t *)key;
}

static struct numbered nodes[MANY];

/* Each of `MANY` is either refused or found; then all that are in are removed, for which no memory may be needed. */
static void fill_and_empty(struct index *index)
{
    for (uint64_t i = 0; i < MANY; i++) {
        /* 97 chains, so that most of it is overflow buckets */
        nodes[i] = (struct numbered){.node.hash = i * UINT64_C(0x9e3779b97f4a7c15) << 20 | i % 97, .key = i};
        enum result result = nth_index_insert(index, &nodes[i].node);
        cr_assert(result == RESULT_OK || result == RESULT_NO_MEMORY);
        nodes[i].is_in = result == RESULT_OK;
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        for (uint64_t i = 0; i < MANY; i++) {
            struct index_node *wanted = nodes[i].is_in ? &nodes[i].node : NULL;
            cr_assert_eq(nth_index_find(index, nodes[i].node.hash, is_number, &i), wanted);
            if (pass == 1 && wanted != NULL) {
                nth_index_remove(index, wanted);
            }
        }
    }
    cr_assert_eq(nth_index_count(index), 0);
}

Test(index, is_not_made_without_memory, .init = NULL, .fini = NULL)
{
    struct qsbr *qsbr = qsbr_create(1);
    for (unsigned nth = 1; nth <= 3; nth++) {
        calls_until_failure = nth;
        cr_assert_null(nth_index_create(qsbr));
    }
    calls_until_failure = 0;
    nth_index_destroy(nth_index_create(qsbr));
    qsbr_destroy(qsbr);
}

Test(index, loses_nothing_whichever_allocation_fails)
{
    static const unsigned periods[] = {1, 2, 3, 7, 50, 1000};
    for (size_t i = 0; i < ARRAY_COUNT(periods); i++) {
        struct qsbr *qsbr = qsbr_create(1);
        struct index *index = nth_index_create(qsbr);
        cr_assert_not_null(index);
        size_t empty_bytes = nth_index_bytes(index);
        failures = 0;
        calls_until_failure = period = periods[i];
        fill_and_empty(index);
        calls_until_failure = period = 0;
        cr_assert(failures > 0 || periods[i] == 1000);
        while (nth_index_work(index, 100)) {
        }
        fill_and_empty(index);
        while (nth_index_work(index, 100)) {
        }
        cr_assert_geq(nth_index_bytes(index), empty_bytes);
        nth_index_destroy(index);
        qsbr_destroy(qsbr);
    }
}
