/* A worker's view of the cache: what is put by one worker is found by all, until it is removed by any. */
#include "flight_world.h"

/* ---- putting */

struct putting {
    struct cache_put put;
    unsigned done;
    enum result result;
};

static void on_put(struct cache_put *put, enum result result)
{
    struct putting *putting = CONTAINER_OF(put, struct putting, put);
    putting->done++;
    putting->result = result;
}

static struct putting putting_of(const struct cache_key *key, enum cache_put_kind kind, struct bytes body)
{
    return (struct putting){.put = {.kind = kind,
                                    .shard = key->shard,
                                    .draft = {.key = key->bytes,
                                              .hash = key->hash,
                                              .body_bytes = body.len,
                                              .cost = 1,
                                              .status = 200,
                                              .freshness.response_ms = 1000,
                                              .remove_at_ms = INT64_MAX},
                                    .body = body,
                                    .primary_bytes = key->primary_bytes,
                                    .on_done = on_put}};
}

static enum result put_from(struct flights *world, unsigned worker, struct putting *putting)
{
    cache_put(world->cores[worker], &putting->put);
    cr_assert_eq(putting->done, 0, "not from inside the call");
    cr_assert_not(cache_core_is_settled(world->cores[worker]));
    for (unsigned turn = 0; turn < TURNS_MAX && putting->done == 0; turn++) {
        flights_turn(world);
    }
    cr_assert_eq(putting->done, 1);
    cr_assert(cache_core_is_settled(world->cores[worker]));
    return putting->result;
}

static enum result put(struct flights *world, const struct cache_key *key, struct bytes body)
{
    struct putting putting = putting_of(key, CACHE_PUT_STORE, body);
    return put_from(world, 0, &putting);
}

static bool has_body(const struct cache_object *object, struct bytes body)
{
    cr_assert_not_null(object);
    struct bytes left = body;
    for (struct chunk *piece = object->body; piece != NULL; piece = atomic_load(&piece->next)) {
        size_t used = chunk_used(piece);
        if (used > left.len || memcmp(piece->data, left.ptr, used) != 0) {
            return false;
        }
        left = (struct bytes){left.ptr + used, left.len - used};
    }
    return left.len == 0;
}

static struct bytes body_of(uint64_t bytes)
{
    static char body[4 << 20];
    for (uint64_t i = 0; i < bytes; i++) {
        body[i] = body_byte(1, i);
    }
    return (struct bytes){body, bytes};
}

Test(cache, finds_on_every_worker_what_one_has_put)
{
    struct flights world = flights_create();
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        for (unsigned shard = 0; shard < WORKERS; shard++) {
            struct cache_key key = flights_key_of(&world, shard, worker, "");
            cr_assert_null(cache_find(world.cores[0], &key));
            struct putting putting = putting_of(&key, CACHE_PUT_STORE, BYTES("hello"));
            cr_assert_eq(put_from(&world, worker, &putting), RESULT_OK);
            for (unsigned i = 0; i < WORKERS; i++) {
                cr_assert(has_body(cache_find(world.cores[i], &key), BYTES("hello")));
            }
        }
    }
    cr_assert_eq(atomic_load(&cache_shard_counters(world.cache, 1)->stores), WORKERS);
    flights_destroy(&world);
}

Test(cache, copies_an_entry_without_its_head_over_many_turns)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    static const uint64_t sizes[] = {0, 1, 3000, 5000, 1 << 20};
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct fill fill;
        fill_init(&fill, &world, 0, 1);
        fill_head(&fill, "A: b\r\n");
        fill_body(&fill, sizes[i]);
        entry_complete(&fill.entry, NULL, 0);
        struct putting putting = putting_of(&key, CACHE_PUT_STORE, (struct bytes){NULL, sizes[i]});
        putting.put.entry = &fill.entry;
        cr_assert_eq(put_from(&world, 0, &putting), RESULT_OK);
        cr_assert(has_body(cache_find(world.cores[2], &key), body_of(sizes[i])));
        fill_end(&fill);
    }
    flights_destroy(&world);
}

Test(cache, adds_only_where_nothing_is)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct putting first = putting_of(&key, CACHE_PUT_ADD, BYTES("first"));
    struct putting second = putting_of(&key, CACHE_PUT_ADD, BYTES("second"));
    struct putting third = putting_of(&key, CACHE_PUT_STORE, BYTES("third"));
    cr_assert_eq(put_from(&world, 0, &first), RESULT_OK);
    cr_assert_eq(put_from(&world, 2, &second), RESULT_OK);
    cr_assert(has_body(cache_find(world.cores[0], &key), BYTES("first")));
    cr_assert_eq(put_from(&world, 2, &third), RESULT_OK);
    cr_assert(has_body(cache_find(world.cores[0], &key), BYTES("third")));
    flights_destroy(&world);
}

Test(cache, swaps_the_head_it_was_made_from_and_no_other)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct putting update = putting_of(&key, CACHE_PUT_UPDATE, BYTES_NONE);
    update.put.draft.freshness.response_ms = 2000;
    update.put.draft.lines = BYTES("A: b\r\n");
    update.put.replaces_ms = 1000;
    struct putting again = update;
    struct putting late = update;
    cr_assert_eq(put_from(&world, 2, &update), RESULT_CANCELED, "nothing is there");
    cr_assert_eq(put(&world, &key, BYTES("hello")), RESULT_OK);
    cr_assert_eq(put_from(&world, 2, &again), RESULT_OK);
    struct cache_object *object = cache_find(world.cores[0], &key);
    cr_assert(bytes_equal(cache_head_lines(cache_object_head(object)), BYTES("A: b\r\n")));
    cr_assert(has_body(object, BYTES("hello")));
    cr_assert_eq(put_from(&world, 2, &late), RESULT_CANCELED, "another was quicker");
    flights_destroy(&world);
}

Test(cache, refuses_what_can_never_fit)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct putting putting = putting_of(&key, CACHE_PUT_STORE, (struct bytes){NULL, CACHE_BYTES_MAX});
    cr_assert_eq(put_from(&world, 0, &putting), RESULT_LIMIT);
    cr_assert_null(cache_find(world.cores[0], &key));
    flights_destroy(&world);
}

Test(cache, lets_no_long_body_hold_up_a_short_one)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct cache_key other = flights_key_of(&world, 1, 1, "");
    struct putting is_long = putting_of(&key, CACHE_PUT_STORE, body_of(3 << 20));
    struct putting is_short = putting_of(&other, CACHE_PUT_STORE, BYTES("hello"));
    cache_put(world.cores[0], &is_long.put);
    cache_put(world.cores[0], &is_short.put);
    flights_run(&world);
    cr_assert_eq(is_short.done, 1);
    cr_assert_eq(is_long.done, 0);
    flights_run(&world);
    flights_run(&world);
    cr_assert_eq(is_long.done, 1);
    cr_assert(has_body(cache_find(world.cores[2], &key), body_of(3 << 20)));
    flights_destroy(&world);
}

Test(cache, copies_no_more_long_keys_in_a_turn_than_it_would_bodies)
{
    enum { LONG_BYTES = 100 << 10, PUTS = 20 };
    struct flights world = flights_create();
    static char texts[PUTS][LONG_BYTES];
    static struct putting putting[PUTS];
    struct cache_key first = flights_key(&world, 1);
    for (unsigned i = 0; i < PUTS; i++) {
        memset(texts[i], 'a' + (int)i, sizeof(texts[i]));
        memcpy(texts[i], first.bytes.ptr, first.primary_bytes);
        struct cache_key key =
            cache_key_make(world.cache, (struct bytes){texts[i], sizeof(texts[i])}, first.primary_bytes);
        putting[i] = putting_of(&key, CACHE_PUT_STORE, BYTES("hello"));
        cache_put(world.cores[1], &putting[i].put);
    }
    const _Atomic uint64_t *charged = &cache_shard_counters(world.cache, 1)->charged_bytes;
    for (unsigned turn = 0; turn < PUTS; turn++) {
        uint64_t before = atomic_load(charged);
        flights_turn_one(&world, 1);
        cr_assert_leq(atomic_load(charged) - before, CACHE_PUT_STEP_BYTES + LONG_BYTES + 20000);
    }
    flights_run(&world);
    for (unsigned i = 0; i < PUTS; i++) {
        cr_assert_eq(putting[i].done, 1);
        cr_assert_eq(putting[i].result, RESULT_OK);
    }
    flights_destroy(&world);
}

/* Worker 2 does not turn, and could be reading anything: what is retired cannot be freed. */
static unsigned turn_without_2(struct flights *world, const unsigned *done, nanos ns)
{
    nanos until = ring_now(world->rings[0]) + ns;
    unsigned turns = 0;
    while (*done == 0 && ring_now(world->rings[0]) < until) {
        flights_turn_one(world, 0);
        flights_turn_one(world, 1);
        turns++;
    }
    return turns;
}

/* Fills a shard with bodies that were replaced, and so are retired, until a put has to wait for room. */
static void put_until_it_waits(struct flights *world, struct putting *putting, struct bytes body)
{
    static struct cache_key key;
    key = flights_key(world, 1);
    for (unsigned i = 0; i < 100; i++) {
        *putting = putting_of(&key, CACHE_PUT_STORE, body);
        cache_put(world->cores[0], &putting->put);
        turn_without_2(world, &putting->done, 100 * NANOS_PER_MS);
        if (putting->done == 0) {
            return;
        }
    }
    cr_assert_fail("there was always room");
}

Test(cache, makes_a_put_wait_for_room_but_not_for_ever)
{
    struct flights world = flights_create();
    struct putting putting;
    put_until_it_waits(&world, &putting, body_of(1 << 20));
    turn_without_2(&world, &putting.done, 3 * NANOS_PER_S);
    cr_assert_eq(putting.done, 1);
    cr_assert_eq(putting.result, RESULT_LIMIT);
    struct cache_key key = flights_key(&world, 0);
    cr_assert_eq(put(&world, &key, BYTES("hello")), RESULT_OK, "other shards have room");
    flights_run(&world);
    put_until_it_waits(&world, &putting, body_of(1 << 20));
    flights_run(&world);
    cr_assert_eq(putting.done, 1);
    cr_assert_eq(putting.result, RESULT_OK, "worker 2 has turned");
    flights_destroy(&world);
}

Test(cache, gives_a_put_up_in_time_though_the_wall_clock_is_set_back)
{
    struct flights world = flights_create();
    struct putting putting;
    put_until_it_waits(&world, &putting, body_of(1 << 20));
    for (unsigned i = 0; i < 200 && putting.done == 0; i++) {
        for (unsigned worker = 0; worker < 2; worker++) { /* an hour, again whenever it is measured anew */
            struct ring *ring = world.rings[worker];
            ring->unix_read_ns = ring->now_ns;
            ring->unix_offset_ns -= i == 0 ? 3600 * (int64_t)NANOS_PER_S : 0;
        }
        turn_without_2(&world, &putting.done, 10 * NANOS_PER_MS);
    }
    cr_assert_eq(putting.done, 1);
    cr_assert_eq(putting.result, RESULT_LIMIT);
    flights_destroy(&world);
}

/* ---- viewing */

Test(cache, shows_a_body_to_who_has_a_view_after_it_was_removed)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    cr_assert_eq(put(&world, &key, body_of(300000)), RESULT_OK);
    struct entry *views[3];
    struct entry_reader readers[ARRAY_COUNT(views)];
    for (unsigned i = 0; i < ARRAY_COUNT(views); i++) {
        views[i] = cache_view(world.cores[i], cache_find(world.cores[i], &key));
        cr_assert_not_null(views[i]);
        cr_assert_eq(views[i]->state, ENTRY_COMPLETE);
        entry_reader_join(&readers[i], views[i], NULL);
    }
    cache_remove(world.cores[0], &key, SHARD_PURGED);
    flights_run(&world);
    cr_assert_null(cache_find(world.cores[2], &key));
    const struct shard_counters *counters = cache_shard_counters(world.cache, 1);
    cr_assert_gt(atomic_load(&counters->retired_bytes), 300000);
    struct hold *hold = NULL;
    for (unsigned i = 0; i < ARRAY_COUNT(views); i++) {
        struct bytes run;
        while ((run = entry_reader_peek(&readers[i], &hold)).len > 0) {
            cr_assert_eq(memcmp(run.ptr, body_of(300000).ptr + readers[i].position, run.len), 0);
            entry_reader_pass(&readers[i], run.len);
        }
        cr_assert_eq(readers[i].position, 300000);
        entry_reader_leave(&readers[i]);
    }
    hold_ref(hold); /* a run of the last one is still to be sent */
    for (unsigned i = 0; i < ARRAY_COUNT(views); i++) {
        entry_unref(views[i]);
    }
    loop_for_ms(world.rings[1], 120); /* what is pinned is looked at again */
    flights_run(&world);
    cr_assert_gt(atomic_load(&counters->retired_bytes), 300000);
    hold_unref(hold);
    for (unsigned i = 0; i < 50 && atomic_load(&counters->retired_bytes) > 0; i++) {
        loop_for_ms(world.rings[1], 20);
        flights_run(&world);
    }
    cr_assert_eq(atomic_load(&counters->retired_bytes), 0);
    flights_destroy(&world);
}

/* ---- removing */

struct removing {
    struct cache_removal removal;
    unsigned done;
};

static void on_removed(struct cache_removal *removal)
{
    CONTAINER_OF(removal, struct removing, removal)->done++;
}

Test(cache, tells_who_removed_a_key_when_nobody_finds_it_any_more)
{
    struct flights world = flights_create();
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        struct cache_key key = flights_key(&world, 1);
        cr_assert_eq(put(&world, &key, BYTES("hello")), RESULT_OK);
        struct removing removing = {.removal = {.key = key, .cause = SHARD_INVALIDATED, .on_done = on_removed}};
        cache_remove_and_tell(world.cores[worker], &removing.removal);
        cr_assert_not(cache_core_is_settled(world.cores[worker]));
        for (unsigned turn = 0; turn < 20 && removing.done == 0; turn++) {
            flights_turn(&world);
        }
        cr_assert_eq(removing.done, 1);
        cr_assert_null(cache_find(world.cores[2], &key));
        cr_assert(cache_core_is_settled(world.cores[worker]));
    }
    cr_assert_eq(atomic_load(&cache_shard_counters(world.cache, 1)->removed[SHARD_INVALIDATED]), WORKERS);
    flights_destroy(&world);
}

Test(cache, removes_the_primary_key_of_a_variant_and_leaves_the_rest)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key_of(&world, 1, 0, "");
    struct cache_key variant = flights_key_of(&world, 1, 0, "\nvary:x");
    struct cache_key other = flights_key_of(&world, 1, 1, "");
    cr_assert_eq(variant.shard, key.shard);
    cr_assert_eq(variant.primary_hash, key.hash);
    cr_assert_neq(variant.hash, key.hash);
    cr_assert_eq(put(&world, &key, BYTES("key")), RESULT_OK);
    cr_assert_eq(put(&world, &variant, BYTES("variant")), RESULT_OK);
    cr_assert_eq(put(&world, &other, BYTES("other")), RESULT_OK);
    cache_remove(world.cores[0], &variant, SHARD_INVALIDATED);
    flights_run(&world);
    cr_assert_null(cache_find(world.cores[2], &key));
    cr_assert_not_null(cache_find(world.cores[2], &variant), "nothing leads to it any more; it goes in its time");
    cr_assert_not_null(cache_find(world.cores[2], &other));
    flights_destroy(&world);
}

struct purging {
    struct cache_purge purge;
    unsigned done;
};

static void on_purged(struct cache_purge *purge)
{
    CONTAINER_OF(purge, struct purging, purge)->done++;
}

static uint64_t purge(struct flights *world, struct shard_filter filter)
{
    struct purging purging = {.purge = {.filter = filter, .on_done = on_purged}};
    cr_assert_eq(cache_purge(world->cores[2], &purging.purge), RESULT_OK);
    cr_assert_not(cache_core_is_settled(world->cores[2]));
    for (unsigned turn = 0; turn < 1000 && purging.done == 0; turn++) {
        flights_turn(world);
    }
    cr_assert_eq(purging.done, 1);
    cr_assert(cache_core_is_settled(world->cores[2]));
    return purging.purge.removed;
}

Test(cache, purges_all_shards_and_says_how_many_have_gone)
{
    struct flights world = flights_create();
    for (unsigned i = 0; i < 1800; i++) { /* more than a turn's worth a shard */
        struct cache_key key = flights_key_of(&world, i % WORKERS, i, "");
        struct putting putting = putting_of(&key, CACHE_PUT_STORE, BYTES("hello"));
        putting.put.draft.route = (uint16_t)(i % 2);
        cr_assert_eq(put_from(&world, i % WORKERS, &putting), RESULT_OK);
    }
    cr_assert_eq(purge(&world, (struct shard_filter){.kind = SHARD_PREFIX, .text = BYTES("https://")}), 0);
    cr_assert_eq(purge(&world, (struct shard_filter){.kind = SHARD_PREFIX, .text = BYTES("http://host/7/")}), 1);
    cr_assert_eq(purge(&world, (struct shard_filter){.kind = SHARD_ROUTE, .route = 1}), 899);
    cr_assert_eq(purge(&world, (struct shard_filter){.kind = SHARD_ALL}), 900);
    flights_destroy(&world);
}

Test(cache, carries_out_purges_that_overlap)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    cr_assert_eq(put(&world, &key, BYTES("hello")), RESULT_OK);
    struct purging purgings[20];
    for (unsigned i = 0; i < ARRAY_COUNT(purgings); i++) {
        purgings[i] = (struct purging){.purge = {.filter = {.kind = SHARD_ALL}, .on_done = on_purged}};
        cr_assert_eq(cache_purge(world.cores[i % WORKERS], &purgings[i].purge), RESULT_OK);
    }
    flights_run(&world);
    flights_run(&world);
    uint64_t removed = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(purgings); i++) {
        cr_assert_eq(purgings[i].done, 1);
        removed += purgings[i].purge.removed;
    }
    cr_assert_eq(removed, 1);
    flights_destroy(&world);
}

/* ---- what was asked for before a removal */

static enum result put_asked_ago(struct flights *world, const struct cache_key *key, nanos ago_ns)
{
    struct putting putting = putting_of(key, CACHE_PUT_STORE, BYTES("hello"));
    putting.put.asked_ns = ring_now(world->rings[0]) - ago_ns;
    return put_from(world, 0, &putting);
}

Test(cache, stores_nothing_that_was_asked_for_before_its_key_was_removed)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct cache_key variant = flights_key_of(&world, 1, 0, "\nvary:x");
    struct cache_key other = flights_key_of(&world, 1, 1, "");
    flights_run(&world);
    cr_assert_eq(put_asked_ago(&world, &key, NANOS_PER_S), RESULT_OK, "nothing was removed");
    cache_remove(world.cores[2], &key, SHARD_INVALIDATED);
    flights_run(&world);
    cr_assert_eq(put_asked_ago(&world, &key, NANOS_PER_S), RESULT_CANCELED);
    cr_assert_eq(put_asked_ago(&world, &variant, NANOS_PER_S), RESULT_CANCELED);
    cr_assert_eq(put_asked_ago(&world, &other, NANOS_PER_S), RESULT_OK);
    cr_assert_eq(put(&world, &key, BYTES("hello")), RESULT_OK, "where it does not matter");
    for (unsigned i = 0; i < WORKERS; i++) {
        loop_for_ms(world.rings[i], CACHE_CLOCK_SLACK_NS / NANOS_PER_MS + 5);
    }
    cr_assert_eq(put_asked_ago(&world, &key, 0), RESULT_OK, "asked for after it");
    purge(&world, (struct shard_filter){.kind = SHARD_PREFIX, .text = BYTES("https://")});
    cr_assert_eq(put_asked_ago(&world, &other, NANOS_PER_S), RESULT_CANCELED, "any purge may have meant it");
    flights_destroy(&world);
}

Test(cache, drops_a_body_half_way_when_its_key_is_removed)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct putting putting = putting_of(&key, CACHE_PUT_STORE, body_of(3 << 20));
    putting.put.asked_ns = ring_now(world.rings[0]);
    cache_put(world.cores[0], &putting.put);
    flights_turn(&world);
    flights_turn(&world);
    cache_remove(world.cores[2], &key, SHARD_INVALIDATED);
    flights_run(&world);
    cr_assert_eq(putting.done, 1);
    cr_assert_eq(putting.result, RESULT_CANCELED);
    cr_assert_null(cache_find(world.cores[0], &key));
    flights_run(&world);
    cr_assert_lt(atomic_load(&cache_shard_counters(world.cache, 1)->charged_bytes), 1 << 20,
                 "its memory is given back");
    flights_destroy(&world);
}
