/* The shard and its slab once more, under other names and over a system whose nth allocation fails: 1, 2, 3 … until the
 * whole story passes without a failure. Failing are: memory for the shard, its index and eviction, the slab's mappings,
 * its pieces, and the index's room for a node. */
#define slab_init              nth_slab_init
#define slab_fini              nth_slab_fini
#define slab_alloc             nth_slab_alloc
#define slab_free              nth_slab_free
#define slab_trim              nth_slab_trim
#define slab_region_cost_bytes nth_slab_region_cost_bytes
#define expiry_init            nth_expiry_init
#define expiry_add             nth_expiry_add
#define expiry_remove          nth_expiry_remove
#define expiry_take            nth_expiry_take
#define expiry_next_ms         nth_expiry_next_ms
#define shard_create           nth_shard_create
#define shard_destroy          nth_shard_destroy
#define shard_find             nth_shard_find
#define shard_counters         nth_shard_counters
#define shard_store_begin      nth_shard_store_begin
#define shard_store_body       nth_shard_store_body
#define shard_store_commit     nth_shard_store_commit
#define shard_store_abort      nth_shard_store_abort
#define shard_update_head      nth_shard_update_head
#define shard_remove           nth_shard_remove
#define shard_resize           nth_shard_resize
#define shard_purge_begin      nth_shard_purge_begin
#define shard_purge_step       nth_shard_purge_step
#define shard_purge_end        nth_shard_purge_end
#define shard_turn             nth_shard_turn
#define shard_next_ms          nth_shard_next_ms
#define shard_account          nth_shard_account
#define shard_room_bytes       nth_shard_room_bytes
#define shard_unlink           nth_shard_unlink
#define shard_evict_one        nth_shard_evict_one
#define shard_make_room        nth_shard_make_room
#define shard_has_room         nth_shard_has_room
#define shard_admits           nth_shard_admits
#define shard_retire_head      nth_shard_retire_head
#define shard_discard          nth_shard_discard

#include "shard_world.h"

#include <sys/mman.h>

static unsigned calls_until_failure; /* 0: none fails */
static bool has_failed;

static bool fails(void)
{
    if (calls_until_failure == 0 || --calls_until_failure > 0) {
        return false;
    }
    has_failed = true;
    return true;
}

static void *failing_mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    return fails() ? MAP_FAILED : mmap(at, bytes, protection, flags, fd, offset);
}

static int failing_mprotect(void *at, size_t bytes, int protection)
{
    return fails() ? -1 : mprotect(at, bytes, protection);
}

#define mmap     failing_mmap
#define mprotect failing_mprotect
#include "../../../src/cache/slab.c"
#undef mmap
#undef mprotect

static struct chunk *failing_slab_alloc(struct slab *slab, size_t bytes_wanted, size_t bytes_min)
{
    return fails() ? NULL : slab_alloc(slab, bytes_wanted, bytes_min);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

static struct index *failing_index_create(struct qsbr *qsbr)
{
    return fails() ? NULL : index_create(qsbr);
}

static struct evict *failing_evict_create(enum evict_policy policy, uint64_t bytes_max)
{
    return fails() ? NULL : evict_create(policy, bytes_max);
}

static enum result failing_index_insert(struct index *index, struct index_node *node)
{
    return fails() ? RESULT_NO_MEMORY : index_insert(index, node);
}

#undef slab_alloc
#define slab_alloc   failing_slab_alloc
#define calloc       failing_calloc
#define index_create failing_index_create
#define evict_create failing_evict_create
#define index_insert failing_index_insert
#include "../../../src/cache/expiry.c"
#include "../../../src/cache/shard.c"
#include "../../../src/cache/shard_purge.c"
#include "../../../src/cache/shard_reclaim.c"
#include "../../../src/cache/shard_store.c"

static char long_key[40000];

/* Whether what `number` stands for is there afterwards. */
static bool store(struct world *world, unsigned number)
{
    struct bytes key = number % 3 == 0 ? (struct bytes){long_key, sizeof(long_key) - number} : world_key(number);
    struct shard_draft draft = world_draft(key, number * 30000);
    enum result result = world_store(world, &draft, number);
    if (result != RESULT_OK) {
        cr_assert(has_failed);
        cr_assert_eq(result, RESULT_NO_MEMORY);
        cr_assert_null(world_find(world, key));
        return false;
    }
    world_verify_body(world_find(world, key), number);
    draft.status = 304;
    result = shard_update_head(world->shard, world_find(world, key), &draft);
    struct cache_object *object = world_find(world, key);
    if (result != RESULT_OK) {
        cr_assert(has_failed && (result == RESULT_MORE || result == RESULT_NO_MEMORY));
        cr_assert(object == NULL || cache_object_head(object)->status == 200);
        return object != NULL;
    }
    cr_assert_eq(cache_object_head(object)->status, 304);
    return true;
}

static void story(struct world *world)
{
    for (unsigned number = 0; number < 8; number++) {
        store(world, number);
        cr_assert_leq(COUNTER(*world, charged_bytes), 4 << 20);
    }
    bool had_failed = has_failed;
    calls_until_failure = 0;
    world_settle(world);
    cr_assert_eq(COUNTER(*world, retired_bytes), 0, "what failed halfway is given back");
    cr_assert_eq(world->shard->reserved_bytes, 0);
    if (!had_failed) {
        cr_assert_eq(COUNTER(*world, entries), 8);
    }
    cr_assert(store(world, 9), "it goes on afterwards");
}

Test(shard, survives_each_failing_allocation)
{
    unsigned nth = 0;
    do {
        cr_assert_lt(nth, 500);
        struct world world = {.qsbr = qsbr_create(2), .now_ms = 1000000};
        qsbr_online(world.qsbr, 0);
        struct shard_options options = {.qsbr = world.qsbr, .policy = EVICT_COST, .bytes_max = 4 << 20};
        has_failed = false;
        calls_until_failure = ++nth;
        world.shard = shard_create(&options);
        if (world.shard != NULL) {
            story(&world);
        }
        cr_assert(world.shard != NULL || has_failed);
        calls_until_failure = 0;
        world_destroy(&world);
    } while (has_failed);
    cr_assert_gt(nth, 60, "many allocations did fail");
}
