#include "shard_world.h"

static void store_tagged(struct world *world, struct bytes key, struct bytes tags, uint16_t route)
{
    struct shard_draft draft = world_draft(key, 300);
    draft.tags = tags;
    draft.route = route;
    cr_assert_eq(world_store(world, &draft, 1), RESULT_OK);
}

static uint64_t purge_all_of(struct world *world, const struct shard_filter *filter)
{
    struct shard_purge purge;
    shard_purge_begin(world->shard, &purge, filter);
    while (shard_purge_step(world->shard, &purge, 2)) {
        world_turn(world);
    }
    cr_assert_not(shard_purge_step(world->shard, &purge, 2), "it stays over");
    return purge.removed;
}

static struct world tagged_world(void)
{
    struct world world = world_create(16 << 20, 0);
    store_tagged(&world, BYTES("GET a/1"), BYTES("news\nsport\n"), 1);
    store_tagged(&world, BYTES("GET a/2"), BYTES("news\n"), 1);
    store_tagged(&world, BYTES("GET b/1"), BYTES("sport\n"), 2);
    store_tagged(&world, BYTES("GET b/2"), BYTES("sportive\n"), 2);
    store_tagged(&world, BYTES("GET"), BYTES_NONE, 3);
    return world;
}

Test(purge, by_prefix)
{
    struct world world = tagged_world();
    struct shard_filter filter = {.kind = SHARD_PREFIX, .text = BYTES("GET a"), .cause = SHARD_PURGED};
    cr_assert_eq(purge_all_of(&world, &filter), 2);
    cr_assert_null(world_find(&world, BYTES("GET a/1")));
    cr_assert_null(world_find(&world, BYTES("GET a/2")));
    cr_assert_eq(COUNTER(world, entries), 3);
    cr_assert_eq(COUNTER(world, removed[SHARD_PURGED]), 2);
    world_destroy(&world);
}

Test(purge, by_tag_whole_and_within_a_prefix)
{
    struct world world = tagged_world();
    struct shard_filter filter = {
        .kind = SHARD_TAG, .text = BYTES("sport"), .key_prefix = BYTES("GET b"), .cause = SHARD_INVALIDATED};
    cr_assert_eq(purge_all_of(&world, &filter), 1);
    cr_assert_null(world_find(&world, BYTES("GET b/1")));
    filter.key_prefix = BYTES_NONE;
    cr_assert_eq(purge_all_of(&world, &filter), 1);
    cr_assert_null(world_find(&world, BYTES("GET a/1")));
    cr_assert_not_null(world_find(&world, BYTES("GET b/2")), "a tag is not a prefix");
    cr_assert_eq(COUNTER(world, removed[SHARD_INVALIDATED]), 2);
    world_destroy(&world);
}

Test(purge, by_route_and_all)
{
    struct world world = tagged_world();
    struct shard_filter filter = {.kind = SHARD_ROUTE, .route = 2, .cause = SHARD_PURGED};
    cr_assert_eq(purge_all_of(&world, &filter), 2);
    filter = (struct shard_filter){.kind = SHARD_ALL, .cause = SHARD_PURGED};
    cr_assert_eq(purge_all_of(&world, &filter), 3);
    cr_assert_eq(COUNTER(world, entries), 0);
    cr_assert_eq(purge_all_of(&world, &filter), 0);
    world_destroy(&world);
}

Test(purge, looks_by_the_tags_of_the_newest_head)
{
    struct world world = tagged_world();
    struct shard_draft draft = world_draft(BYTES("GET a/2"), 0);
    draft.tags = BYTES("fresh\n");
    cr_assert_eq(shard_update_head(world.shard, world_find(&world, draft.key), &draft), RESULT_OK);
    struct shard_filter filter = {.kind = SHARD_TAG, .text = BYTES("fresh"), .cause = SHARD_PURGED};
    cr_assert_eq(purge_all_of(&world, &filter), 1);
    cr_assert_null(world_find(&world, draft.key));
    world_destroy(&world);
}

Test(purge, does_not_see_what_is_stored_after_it_began)
{
    struct world world = world_create(16 << 20, 0);
    struct shard_filter filter = {.kind = SHARD_ALL, .cause = SHARD_PURGED};
    for (unsigned i = 0; i < 20; i++) {
        store_tagged(&world, world_key(i), BYTES_NONE, 0);
    }
    struct shard_purge purge;
    shard_purge_begin(world.shard, &purge, &filter);
    bool has_more = true;
    for (unsigned i = 0; has_more; i++) {
        store_tagged(&world, world_key(100 + i), BYTES_NONE, 0);
        store_tagged(&world, world_key(i % 20), BYTES_NONE, 0); /* again, or anew */
        has_more = shard_purge_step(world.shard, &purge, 1);
        cr_assert_lt(i, 30);
    }
    cr_assert_leq(purge.removed, 20);
    cr_assert_not_null(world_find(&world, world_key(100)));
    cr_assert_not_null(world_find(&world, world_key(0)));
    cr_assert_eq(COUNTER(world, entries),
                 COUNTER(world, stores) - COUNTER(world, removed[SHARD_REPLACED]) - purge.removed);
    world_destroy(&world);
}

Test(purge, several_at_once_while_the_objects_they_stand_at_go)
{
    struct world world = world_create(16 << 20, 0);
    enum { OBJECTS = 300, PURGES = 4 };
    for (unsigned i = 0; i < OBJECTS; i++) {
        store_tagged(&world, world_key(i), i % 2 == 0 ? BYTES("even\n") : BYTES("odd\n"), (uint16_t)(i % 3));
    }
    struct shard_filter filters[PURGES] = {
        {.kind = SHARD_TAG, .text = BYTES("even"), .cause = SHARD_PURGED},
        {.kind = SHARD_TAG, .text = BYTES("even"), .cause = SHARD_PURGED},
        {.kind = SHARD_ROUTE, .route = 1, .cause = SHARD_PURGED},
        {.kind = SHARD_PREFIX, .text = BYTES("nothing"), .cause = SHARD_PURGED},
    };
    struct shard_purge purges[PURGES];
    for (unsigned i = 0; i < PURGES; i++) {
        shard_purge_begin(world.shard, &purges[i], &filters[i]);
    }
    bool has_more = true;
    for (unsigned step = 0; has_more; step++) {
        has_more = false;
        for (unsigned i = 0; i < PURGES; i++) {
            has_more |= shard_purge_step(world.shard, &purges[i], 1 + i);
        }
        /* from behind and from in front: the cursors' neighbours on either side */
        unsigned targets[] = {step, OBJECTS - 1 - step};
        for (unsigned i = 0; i < 2 && step < OBJECTS; i++) {
            struct cache_object *object = world_find(&world, world_key(targets[i]));
            if (object != NULL && targets[i] % 7 == 0) {
                shard_remove(world.shard, object, SHARD_INVALIDATED);
            }
        }
        world_turn(&world);
        cr_assert_lt(step, 1000);
    }
    for (unsigned i = 0; i < OBJECTS; i++) {
        bool goes = i % 2 == 0 || i % 3 == 1;
        bool is_there = world_find(&world, world_key(i)) != NULL;
        cr_assert(goes ? !is_there : is_there || i % 7 == 0, "%u", i);
    }
    cr_assert_eq(purges[3].removed, 0);
    cr_assert_eq(COUNTER(world, removed[SHARD_PURGED]), purges[0].removed + purges[1].removed + purges[2].removed);
    world_destroy(&world);
}

Test(purge, can_be_ended_early_and_outlive_the_shard)
{
    struct world world = tagged_world();
    struct shard_filter filter = {.kind = SHARD_ALL, .cause = SHARD_PURGED};
    struct shard_purge ended;
    struct shard_purge left;
    shard_purge_begin(world.shard, &left, &filter);
    shard_purge_begin(world.shard, &ended, &filter);
    cr_assert(shard_purge_step(world.shard, &ended, 2));
    shard_purge_end(&ended);
    cr_assert_not(shard_purge_step(world.shard, &ended, 2));
    cr_assert_eq(ended.removed, 1, "the other's cursor counts as a step");
    world_destroy(&world);
    shard_purge_end(&left);
}
