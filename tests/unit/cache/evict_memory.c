/* Out of memory: the nth allocation fails, and all after it, for each n until none does.
 *
 * The allocator is glibc's, reached under the name it keeps for this; under a sanitizer it is not, and the test is
 * skipped. */
#include "evict_cache.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || !defined(__GLIBC__)
#define CAN_FAIL 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define CAN_FAIL 0
#endif
#endif
#ifndef CAN_FAIL
#define CAN_FAIL 1
#endif

#if CAN_FAIL
void *__libc_calloc(size_t count, size_t bytes);

static uint64_t left = UINT64_MAX; /* how many allocations still succeed; UINT64_MAX: all */
static bool failed;

void *calloc(size_t count, size_t bytes)
{
    if (left == 0) {
        failed = true;
        return NULL;
    }
    left -= left != UINT64_MAX;
    return __libc_calloc(count, bytes);
}

/* Eviction itself allocates with calloc alone. */
static void use_without_memory(enum evict_policy policy)
{
    enum { OBJECTS = 3000, CAPACITY = 1000 };
    for (uint64_t n = 0; n < 1000; n++) {
        struct evict_cache cache;
        evict_cache_init(&cache, policy, CAPACITY, OBJECTS);
        evict_destroy(cache.evict);
        failed = false;
        left = n;
        cache.evict = evict_create(policy, CAPACITY);
        for (size_t object = 0; cache.evict != NULL && object < 2 * OBJECTS; object++) {
            evict_cache_get(&cache, object % OBJECTS);
        }
        left = UINT64_MAX;
        cr_assert(cache.evict != NULL || n < 2);
        cr_assert_eq(cache.count, cache.evict != NULL ? CAPACITY : 0);
        evict_cache_fini(&cache);
        if (!failed) {
            cr_assert_gt(n, 5);
            return;
        }
    }
    cr_assert_fail("it never had enough");
}

Test(evict_memory, without_memory_it_remembers_less_and_works_on)
{
    use_without_memory(EVICT_COST);
    use_without_memory(EVICT_S3FIFO);
}
#else
Test(evict_memory, without_memory_it_remembers_less_and_works_on)
{
    cr_skip_test("the sanitizer has an allocator of its own");
}
#endif
