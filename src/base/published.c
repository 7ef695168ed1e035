#include "base/published.h"

#include <stdlib.h>
#include <string.h>

static size_t words_of(const struct published *published)
{
    return (published->bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t);
}

enum result published_init(struct published *published, size_t bytes)
{
    *published = (struct published){.bytes = bytes};
    published->room = calloc(2 * words_of(published), sizeof(*published->room));
    return published->room == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

void published_fini(struct published *published)
{
    free(published->room);
    published->room = NULL;
}

/* The bytes of the value that stand in word `i`: all eight but in the last. */
static size_t bytes_at(const struct published *published, size_t i)
{
    size_t left = published->bytes - i * sizeof(uint64_t);
    return left < sizeof(uint64_t) ? left : sizeof(uint64_t);
}

void published_write(struct published *published, const void *value)
{
    uint64_t count = atomic_load_explicit(&published->count, memory_order_relaxed);
    size_t words = words_of(published);
    _Atomic uint64_t *copy = published->room + ((count + 1) & 1) * words;
    for (size_t i = 0; i < words; i++) {
        uint64_t word = 0;
        memcpy(&word, (const char *)value + i * sizeof(word), bytes_at(published, i));
        /* release pairs with the acquire in published_read: who sees this word sees the count of the write before, too,
         * and so that what it reads has been overtaken. Words rather than a fence, which ThreadSanitizer does not know.
         */
        atomic_store_explicit(&copy[i], word, memory_order_release);
    }
    atomic_store_explicit(&published->count, count + 1, memory_order_release);
}

bool published_read(const struct published *published, void *ret_value)
{
    size_t words = words_of(published);
    uint64_t count = atomic_load_explicit(&published->count, memory_order_acquire);
    if (count == 0) {
        return false;
    }
    for (;;) {
        _Atomic uint64_t *copy = published->room + (count & 1) * words;
        for (size_t i = 0; i < words; i++) {
            uint64_t word = atomic_load_explicit(&copy[i], memory_order_acquire);
            memcpy((char *)ret_value + i * sizeof(word), &word, bytes_at(published, i));
        }
        /* This copy is written again only after the count has moved on. */
        uint64_t after = atomic_load_explicit(&published->count, memory_order_acquire);
        if (after == count) {
            return true;
        }
        count = after;
    }
}
