/* qsbr.c once more, under other names and over an allocator whose nth call fails. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;

static bool fails(void)
{
    return calls_until_failure > 0 && --calls_until_failure == 0;
}

static void *failing_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : aligned_alloc(alignment, bytes);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

#define aligned_alloc    failing_aligned_alloc
#define calloc           failing_calloc
#define qsbr_create      nth_qsbr_create
#define qsbr_destroy     nth_qsbr_destroy
#define qsbr_quiescent   nth_qsbr_quiescent
#define qsbr_offline     nth_qsbr_offline
#define qsbr_online      nth_qsbr_online
#define qsbr_retire      nth_qsbr_retire
#define qsbr_passed      nth_qsbr_passed
#define qsbr_pin         nth_qsbr_pin
#define qsbr_unpin       nth_qsbr_unpin
#define qsbr_find_pinned nth_qsbr_find_pinned
#include "../../../src/cache/qsbr.c"

Test(qsbr, a_pin_without_memory_is_refused_and_the_next_one_is_not)
{
    calls_until_failure = 1;
    cr_assert_null(nth_qsbr_create(2));
    struct qsbr *qsbr = nth_qsbr_create(2);
    cr_assert_not_null(qsbr);
    static uint64_t objects[1000];
    unsigned refused = 0;
    for (size_t i = 0; i < ARRAY_COUNT(objects); i++) {
        uint32_t slot = NO_SLOT;
        calls_until_failure = 1;
        enum result result = nth_qsbr_pin(qsbr, 0, &objects[i], &slot);
        if (result != RESULT_OK) {
            cr_assert_eq(result, RESULT_NO_MEMORY);
            cr_assert_eq(slot, NO_SLOT);
            cr_assert_eq(nth_qsbr_pin(qsbr, 0, &objects[i], &slot), RESULT_OK);
            refused++;
        }
        cr_assert_eq(slot, i, "no slot was lost");
    }
    cr_assert_eq(refused, 5, "the segments that 1,000 slots need");
    calls_until_failure = 0;
    nth_qsbr_destroy(qsbr);
}
