#include "base/arena.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>

Test(base, arena_gives_aligned_memory_that_does_not_overlap)
{
    char lent[100];
    struct arena arena;
    char *given[200];
    arena_init(&arena, lent + 1, sizeof(lent) - 1); /* lent memory need not be aligned */
    for (size_t i = 0; i < 200; i++) {
        given[i] = arena_alloc(&arena, i);
        cr_assert_not_null(given[i]);
        cr_assert_eq((uintptr_t)given[i] % 8, 0);
        memset(given[i], (int)i, i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t j = 0; j < i; j++) {
            cr_assert_eq((unsigned char)given[i][j], i);
        }
    }
    arena_fini(&arena);
}

Test(base, arena_uses_the_lent_memory_first_and_again_after_a_reset)
{
    _Alignas(8) char lent[64];
    struct arena arena;
    arena_init(&arena, lent, sizeof(lent));
    cr_assert_eq(arena_alloc(&arena, 60), lent);
    cr_assert_null(arena.blocks);
    cr_assert_not_null(arena_alloc(&arena, 1));
    cr_assert_not_null(arena.blocks);
    arena_reset(&arena);
    cr_assert_null(arena.blocks);
    cr_assert_eq(arena_alloc(&arena, 64), lent);
    arena_fini(&arena);
}

Test(base, arena_gives_blocks_larger_than_its_own)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    char *large = arena_alloc(&arena, 1 << 20);
    cr_assert_not_null(large);
    memset(large, 1, 1 << 20);
    arena_fini(&arena);
}

Test(base, arena_copies_and_formats)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct bytes copy = arena_copy(&arena, BYTES("a\0b"));
    cr_assert(bytes_equal(copy, BYTES("a\0b")));
    cr_assert_eq(copy.ptr[3], '\0');
    cr_assert_str_eq(arena_copy(&arena, BYTES_NONE).ptr, "");
    struct bytes text = arena_format(&arena, "%d-%s", 42, "x");
    cr_assert(bytes_equal(text, BYTES("42-x")));
    cr_assert_eq(text.ptr[4], '\0');
    arena_fini(&arena);
}

Test(base, arena_refuses_sizes_that_would_wrap)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    cr_assert_null(arena_alloc(&arena, SIZE_MAX));
    cr_assert_null(arena_alloc(&arena, SIZE_MAX - 7));
    cr_assert_not_null(arena_alloc(&arena, 8), "it goes on afterwards");
    arena_fini(&arena);
}
