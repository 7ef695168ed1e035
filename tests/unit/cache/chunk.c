#include "cache/chunk.h"

#include <criterion/criterion.h>
#include <string.h>

Test(chunk, has_room_to_its_end_and_starts_empty)
{
    struct chunk_pool pool;
    chunk_pool_init(&pool, 0);
    for (int size = 0; size < CHUNK_SIZES; size++) {
        struct chunk *chunk = chunk_acquire(&pool, (enum chunk_size)size);
        cr_assert_not_null(chunk);
        cr_assert_eq(chunk_used(chunk), 0);
        cr_assert_eq(chunk->hold.uses, 1);
        cr_assert_eq((uintptr_t)chunk->data % 16, 0);
        cr_assert_geq(chunk_capacity(chunk), (size == CHUNK_SMALL ? 4096 : 16384) - 64);
        memset(chunk->data, 1, chunk_capacity(chunk));
        chunk_unref(chunk);
    }
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(chunk, goes_back_with_its_last_use_and_is_given_out_again)
{
    struct chunk_pool pool;
    chunk_pool_init(&pool, 0);
    struct chunk *chunk = chunk_acquire(&pool, CHUNK_LARGE);
    atomic_store(&chunk->used_bytes, 5);
    chunk_ref(chunk);
    chunk_unref(chunk);
    cr_assert_eq(pool.used_bytes, CHUNK_LARGE_BYTES);
    chunk_unref(chunk);
    cr_assert_eq(pool.used_bytes, 0);
    struct chunk *again = chunk_acquire(&pool, CHUNK_LARGE);
    cr_assert_eq(again, chunk, "the warm one first");
    cr_assert_eq(chunk_used(again), 0);
    cr_assert_null(atomic_load(&again->next));
    chunk_unref(again);
    chunk_pool_fini(&pool);
}

Test(chunk, the_pool_keeps_to_its_bound_and_charges_what_is_held)
{
    struct chunk_pool pool;
    chunk_pool_init(&pool, CHUNK_REGION_BYTES);
    enum { MOST = CHUNK_REGION_BYTES / CHUNK_SMALL_BYTES };
    struct chunk *chunks[MOST];
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < MOST; i++) {
            chunks[i] = chunk_acquire(&pool, CHUNK_SMALL);
            cr_assert_not_null(chunks[i]);
            memset(chunks[i]->data, (int)i, chunk_capacity(chunks[i]));
        }
        cr_assert_null(chunk_acquire(&pool, CHUNK_SMALL));
        cr_assert_null(chunk_acquire(&pool, CHUNK_LARGE));
        cr_assert_eq(pool.used_bytes, CHUNK_REGION_BYTES);
        for (size_t i = 0; i < MOST; i++) {
            cr_assert_eq((unsigned char)chunks[i]->data[chunk_capacity(chunks[i]) - 1], i % 256, "no overlap");
            chunk_unref(chunks[i]);
        }
        cr_assert_eq(pool.used_bytes, 0);
    }
    cr_assert_eq(pool.region_bytes, CHUNK_REGION_BYTES);
    chunk_pool_fini(&pool);
}

Test(chunk, a_pool_that_may_take_nothing_gives_nothing)
{
    struct chunk_pool pool;
    chunk_pool_init(&pool, CHUNK_REGION_BYTES - 1);
    cr_assert_null(chunk_acquire(&pool, CHUNK_SMALL));
    cr_assert_eq(pool.region_bytes, 0);
    chunk_pool_fini(&pool);
}
