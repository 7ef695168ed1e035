/* The arena once more, under other names and over an allocator whose nth call fails: 1, 2, 3 … until
 * everything succeeds. */
#include <criterion/criterion.h>
#include <stdlib.h>

static unsigned calls_until_failure;
static unsigned blocks_held;

static void *failing_malloc(size_t bytes)
{
    if (--calls_until_failure == 0) {
        return NULL;
    }
    blocks_held++;
    return malloc(bytes);
}

static void counting_free(void *block)
{
    blocks_held--;
    free(block);
}

#define malloc       failing_malloc
#define free         counting_free
#define arena_init   nth_arena_init
#define arena_reset  nth_arena_reset
#define arena_fini   nth_arena_fini
#define arena_alloc  nth_arena_alloc
#define arena_copy   nth_arena_copy
#define arena_format nth_arena_format
#include "../../../src/base/arena.c"

static bool fill(struct arena *arena)
{
    return arena_alloc(arena, 3000) != NULL && arena_copy(arena, BYTES("abc")).ptr != NULL &&
           arena_format(arena, "%5000d", 1).ptr != NULL && arena_alloc(arena, 3000) != NULL;
}

Test(base, arena_survives_each_failing_allocation)
{
    bool filled = false;
    unsigned nth = 0;
    while (!filled) {
        struct arena arena;
        cr_assert_lt(nth, 10);
        calls_until_failure = ++nth;
        arena_init(&arena, NULL, 0);
        filled = fill(&arena);
        calls_until_failure = 0;
        cr_assert_not_null(arena_alloc(&arena, 8), "it goes on afterwards");
        arena_fini(&arena);
        cr_assert_eq(blocks_held, 0);
    }
    cr_assert_gt(nth, 2, "some allocations did fail");
}
