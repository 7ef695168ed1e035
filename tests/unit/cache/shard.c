#include "shard_world.h"

Test(shard, finds_what_was_stored_byte_for_byte)
{
    struct world world = world_create(64 << 20, 0);
    static const uint64_t sizes[] = {0, 1, 200, 2016, 2017, 16352, 16353, 40000, 1000000, 20000000};
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct shard_draft draft = world_draft(world_key(i), sizes[i]);
        draft.trailers = BYTES("X-Sum: 1\r\n");
        draft.tags = BYTES("a\nbc\n");
        draft.note = BYTES("note");
        draft.route = 7;
        draft.form = 3;
        draft.freshness.lifetime_ms = 1234;
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        struct cache_object *object = world_find(&world, world_key(i));
        cr_assert_not_null(object);
        cr_assert_eq(object->body_bytes, sizes[i]);
        world_verify_body(object, i);
        const struct cache_head *head = cache_object_head(object);
        cr_assert(bytes_equal(cache_head_lines(head), BYTES("Content-Type: text/plain\r\n")));
        cr_assert(bytes_equal(cache_head_trailers(head), BYTES("X-Sum: 1\r\n")));
        cr_assert(bytes_equal(cache_head_tags(head), BYTES("a\nbc\n")));
        cr_assert(bytes_equal(cache_head_note(head), BYTES("note")));
        cr_assert_eq(head->freshness.lifetime_ms, 1234);
        cr_assert_eq(head->status, 200);
        cr_assert_eq(head->form, 3);
        cr_assert_eq(object->route, 7);
    }
    cr_assert_eq(COUNTER(world, entries), ARRAY_COUNT(sizes));
    cr_assert_null(world_find(&world, BYTES("other")));
    world_destroy(&world);
}

Test(shard, tells_long_keys_apart_by_their_last_byte)
{
    struct world world = world_create(32 << 20, 0);
    static const size_t lengths[] = {10, 3000, 16352 - sizeof(struct cache_object), 16353, 300000, 700001};
    static char text[700001];
    memset(text, 'k', sizeof(text));
    for (unsigned i = 0; i < ARRAY_COUNT(lengths); i++) {
        struct bytes key = {text, lengths[i]};
        struct shard_draft draft = world_draft(key, 100);
        cr_assert_eq(world_store(&world, &draft, 1), RESULT_OK);
        cr_assert_eq(world_store(&world, &draft, 2), RESULT_OK);
        cr_assert_eq(COUNTER(world, entries), i + 1, "the second replaced the first");
        struct cache_object *object = world_find(&world, key);
        cr_assert_not_null(object);
        world_verify_body(object, 2);
        cr_assert(cache_object_has_prefix(object, (struct bytes){text, lengths[i] / 2}));
        cr_assert(cache_object_has_prefix(object, key));
        text[lengths[i] - 1] = 'x';
        cr_assert_null(shard_find(world.shard, draft.hash, key), "the hash is not the key");
        cr_assert_not(cache_object_has_prefix(object, key));
        text[lengths[i] - 1] = 'k';
    }
    world_destroy(&world);
}

Test(shard, charges_what_is_allocated_and_gives_it_all_back)
{
    struct world world = world_create(16 << 20, 0);
    uint64_t empty = COUNTER(world, charged_bytes);
    for (unsigned i = 0; i < 500; i++) {
        struct shard_draft draft = world_draft(world_key(i), i * 17);
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
    }
    uint64_t sum = 0;
    for (unsigned i = 0; i < 500; i++) {
        sum += world_find(&world, world_key(i))->charged_bytes;
    }
    cr_assert_geq(COUNTER(world, charged_bytes), empty + sum);
    cr_assert_leq(COUNTER(world, charged_bytes), empty + sum + (200 << 10), "records and the index");
    for (unsigned i = 0; i < 500; i++) {
        shard_remove(world.shard, world_find(&world, world_key(i)), SHARD_INVALIDATED);
        cr_assert_null(world_find(&world, world_key(i)));
    }
    cr_assert_eq(COUNTER(world, retired_bytes), sum);
    world_settle(&world);
    cr_assert_eq(COUNTER(world, retired_bytes), 0);
    cr_assert_eq(COUNTER(world, removed[SHARD_INVALIDATED]), 500);
    cr_assert_eq(COUNTER(world, mapped_bytes) % SLAB_REGION_BYTES, 0);
    cr_assert_leq(COUNTER(world, mapped_bytes), 2 * SLAB_REGION_BYTES);
    cr_assert_leq(COUNTER(world, charged_bytes), empty + (64 << 10));
    world_destroy(&world);
}

Test(shard, replaces_and_the_old_one_stays_for_those_who_look_at_it)
{
    struct world world = world_create(16 << 20, 0);
    struct shard_draft draft = world_draft(BYTES("key"), 30000);
    cr_assert_eq(world_store(&world, &draft, 1), RESULT_OK);
    qsbr_online(world.qsbr, WORLD_READER);
    struct cache_object *old = world_find(&world, draft.key);
    cr_assert_eq(world_store(&world, &draft, 2), RESULT_OK);
    world_settle(&world);
    world_verify_body(old, 1);
    world_verify_body(world_find(&world, draft.key), 2);
    cr_assert_gt(COUNTER(world, retired_bytes), 30000);
    cr_assert_lt(shard_next_ms(world.shard), world.now_ms + 100);
    qsbr_quiescent(world.qsbr, WORLD_READER);
    world_settle(&world);
    cr_assert_eq(COUNTER(world, retired_bytes), 0);
    cr_assert_eq(COUNTER(world, removed[SHARD_REPLACED]), 1);
    cr_assert_eq(COUNTER(world, stores), 2);
    world_destroy(&world);
}

Test(shard, an_updated_head_is_swapped_whole)
{
    struct world world = world_create(16 << 20, 0);
    struct shard_draft draft = world_draft(BYTES("key"), 5000);
    cr_assert_eq(world_store(&world, &draft, 1), RESULT_OK);
    struct cache_object *object = world_find(&world, draft.key);
    uint64_t charged = object->charged_bytes;
    const struct cache_head *old = cache_object_head(object);
    uint32_t slot;
    cr_assert_eq(qsbr_pin(world.qsbr, 0, object, &slot), RESULT_OK);
    static char lines[3000];
    memset(lines, 'l', sizeof(lines));
    draft.lines = (struct bytes){lines, sizeof(lines)};
    draft.remove_at_ms = world.now_ms + 5000;
    draft.status = 203;
    cr_assert_eq(shard_update_head(world.shard, object, &draft), RESULT_OK);
    cr_assert_eq(cache_object_head(object)->status, 203);
    cr_assert(bytes_equal(cache_head_lines(cache_object_head(object)), draft.lines));
    cr_assert_gt(object->charged_bytes, charged + 2500);
    world_settle(&world);
    cr_assert_eq(old->status, 200, "a pin on the object keeps the head it had");
    cr_assert_gt(COUNTER(world, retired_bytes), 0);
    qsbr_unpin(world.qsbr, 0, slot);
    world.now_ms += 200;
    world_settle(&world);
    cr_assert_eq(COUNTER(world, retired_bytes), 0);
    cr_assert_eq(COUNTER(world, updates), 1);
    world.now_ms += 6000;
    world_settle(&world);
    cr_assert_null(world_find(&world, draft.key), "the new time of expiry counts");
    world_destroy(&world);
}

Test(shard, pins_keep_what_is_removed)
{
    struct world world = world_create(16 << 20, 0);
    struct shard_draft draft = world_draft(BYTES("key"), 100000);
    cr_assert_eq(world_store(&world, &draft, 9), RESULT_OK);
    qsbr_online(world.qsbr, WORLD_READER);
    struct cache_object *object = world_find(&world, draft.key);
    uint32_t slots[2];
    cr_assert_eq(qsbr_pin(world.qsbr, WORLD_READER, object, &slots[0]), RESULT_OK);
    cr_assert_eq(qsbr_pin(world.qsbr, 0, object, &slots[1]), RESULT_OK);
    qsbr_offline(world.qsbr, WORLD_READER);
    shard_remove(world.shard, object, SHARD_PURGED);
    shard_remove(world.shard, object, SHARD_PURGED); /* has gone already */
    cr_assert_eq(COUNTER(world, removed[SHARD_PURGED]), 1);
    for (int i = 0; i < 2; i++) {
        world.now_ms += 1000;
        world_settle(&world);
        world_verify_body(object, 9);
        cr_assert_gt(COUNTER(world, retired_bytes), 100000);
        cr_assert_leq(shard_next_ms(world.shard), world.now_ms + 100);
        qsbr_unpin(world.qsbr, i == 0 ? WORLD_READER : 0, slots[i]);
    }
    world.now_ms += 1000;
    world_settle(&world);
    cr_assert_eq(COUNTER(world, retired_bytes), 0);
    cr_assert_eq(shard_next_ms(world.shard), INT64_MAX);
    world_destroy(&world);
}

Test(shard, interleaved_stores_never_fail_midway)
{
    struct world world = world_create(8 << 20, 0);
    enum { STORES = 6, ROUNDS = 20, PART = 8192 };
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct shard_store stores[STORES];
        uint64_t done[STORES] = {0};
        unsigned begun = 0;
        uint64_t body = 600000 + round * 1000;
        for (unsigned i = 0; i < STORES; i++) {
            struct shard_draft draft = world_draft(world_key(round * STORES + i), body);
            enum result result = shard_store_begin(world.shard, &stores[begun], &draft);
            for (int turn = 0; turn < 100 && result == RESULT_MORE; turn++) {
                world_turn(&world);
                result = shard_store_begin(world.shard, &stores[begun], &draft);
            }
            cr_assert_eq(result, RESULT_OK);
            begun++;
        }
        for (uint64_t at = 0; at < body; at += PART) {
            for (unsigned i = 0; i < begun; i++) {
                uint64_t to = at + PART < body ? at + PART : body;
                world_body(&world, &stores[i], i, at, to);
                done[i] = to;
                cr_assert_leq(COUNTER(world, charged_bytes), 8 << 20);
            }
            if (round % 3 == 0) {
                world_turn(&world);
            }
        }
        for (unsigned i = 0; i < begun; i++) {
            cr_assert_eq(done[i], body);
            if (i == 2) {
                shard_store_abort(world.shard, &stores[i]);
                cr_assert_null(world_find(&world, world_key(round * STORES + i)));
                continue;
            }
            cr_assert_eq(shard_store_commit(world.shard, &stores[i]), RESULT_OK);
            world_verify_body(world_find(&world, world_key(round * STORES + i)), i);
        }
    }
    cr_assert_gt(COUNTER(world, removed[SHARD_EVICTED]), 10);
    world_destroy(&world);
}

Test(shard, what_can_never_fit_is_refused_at_once)
{
    struct world world = world_create(4 << 20, 0);
    struct shard_store store;
    struct shard_draft draft = world_draft(BYTES("key"), 3 << 20);
    cr_assert_eq(shard_store_begin(world.shard, &store, &draft), RESULT_LIMIT, "more than half of it");
    draft.body_bytes = UINT64_MAX;
    cr_assert_eq(shard_store_begin(world.shard, &store, &draft), RESULT_LIMIT);
    static char lines[SLAB_PIECE_BYTES_MAX];
    draft = world_draft(BYTES("key"), 0);
    draft.lines = (struct bytes){lines, sizeof(lines)};
    cr_assert_eq(shard_store_begin(world.shard, &store, &draft), RESULT_LIMIT, "a head is one piece");
    draft.lines.len = SLAB_PIECE_BYTES_MAX - sizeof(struct cache_head);
    cr_assert_eq(world_store(&world, &draft, 0), RESULT_OK);
    cr_assert_eq(COUNTER(world, no_room), 0);
    world_destroy(&world);
}

/* Fills it with objects of 20,000 bytes; how many have been stored. */
static unsigned fill(struct world *world, uint64_t bytes)
{
    unsigned count = 0;
    for (; count * UINT64_C(20000) < bytes; count++) {
        struct shard_draft draft = world_draft(world_key(count), 20000);
        cr_assert_eq(world_store(world, &draft, count), RESULT_OK);
    }
    return count;
}

Test(shard, waits_for_a_reader_who_has_not_passed_and_goes_on_when_he_has)
{
    struct world world = world_create(4 << 20, 0);
    fill(&world, 6 << 20);
    qsbr_online(world.qsbr, WORLD_READER);
    struct shard_draft draft = world_draft(BYTES("large"), 1 << 20);
    struct shard_store store;
    for (int turn = 0; turn < 50; turn++) {
        cr_assert_eq(shard_store_begin(world.shard, &store, &draft), RESULT_MORE);
        world_turn(&world);
    }
    uint64_t evicted = COUNTER(world, removed[SHARD_EVICTED]);
    cr_assert_eq(shard_store_begin(world.shard, &store, &draft), RESULT_MORE);
    cr_assert_eq(COUNTER(world, removed[SHARD_EVICTED]), evicted, "room on its way is not made twice");
    cr_assert_gt(COUNTER(world, entries), 50);
    qsbr_quiescent(world.qsbr, WORLD_READER);
    cr_assert_eq(world_store(&world, &draft, 5), RESULT_OK);
    world_verify_body(world_find(&world, draft.key), 5);
    cr_assert_eq(COUNTER(world, no_room), 0);
    world_destroy(&world);
}

Test(shard, gives_up_when_everything_is_pinned_and_recovers)
{
    struct world world = world_create(4 << 20, 0);
    unsigned count = fill(&world, 6 << 20);
    uint32_t slots[400];
    unsigned pinned = 0;
    for (unsigned i = 0; i < count; i++) {
        struct cache_object *object = world_find(&world, world_key(i));
        if (object != NULL) {
            cr_assert_eq(qsbr_pin(world.qsbr, 0, object, &slots[pinned++]), RESULT_OK);
        }
    }
    struct shard_draft draft = world_draft(BYTES("large"), 1 << 20);
    cr_assert_eq(world_store(&world, &draft, 5), RESULT_LIMIT);
    cr_assert_eq(COUNTER(world, no_room), 1);
    cr_assert_leq(COUNTER(world, charged_bytes), 4 << 20);
    while (pinned > 0) {
        qsbr_unpin(world.qsbr, 0, slots[--pinned]);
    }
    world.now_ms += 1000;
    world_settle(&world);
    cr_assert_eq(world_store(&world, &draft, 5), RESULT_OK);
    world_destroy(&world);
}

Test(shard, most_stores_into_a_full_shard_need_no_wait)
{
    struct world world = world_create(32 << 20, 0);
    fill(&world, 40 << 20);
    unsigned waits = 0;
    for (unsigned i = 0; i < 2000; i++) {
        struct shard_draft draft = world_draft(world_key(100000 + i), 20000);
        struct shard_store store;
        enum result result = shard_store_begin(world.shard, &store, &draft);
        waits += result == RESULT_MORE;
        if (result == RESULT_OK) {
            world_body(&world, &store, 1, 0, 20000);
            cr_assert_eq(shard_store_commit(world.shard, &store), RESULT_OK);
        }
        world_turn(&world);
        cr_assert_leq(COUNTER(world, charged_bytes), 32 << 20);
    }
    cr_assert_leq(waits, 10);
    cr_assert_gt(COUNTER(world, charged_bytes), (32 << 20) * 9 / 10, "and the reserve is small");
    world_destroy(&world);
}

/* Fills the shard with answers of 4 KB that took a second. Gives their number. */
static unsigned fill_with_costly(struct world *world)
{
    unsigned count = 0;
    for (; COUNTER(*world, removed[SHARD_EVICTED]) == 0; count++) {
        struct shard_draft draft = world_draft(world_key(count), 4000);
        cr_assert(shard_admits(world->shard, &draft));
        cr_assert_eq(world_store(world, &draft, count), RESULT_OK);
        world_settle(world);
    }
    return count;
}

Test(shard, admits_what_is_worth_what_would_have_to_go)
{
    struct world world = world_create(16 << 20, 0);
    unsigned count = fill_with_costly(&world);
    struct shard_draft cheap = world_draft(world_key(count), 4 << 20);
    cheap.cost = 1e-3;
    cr_assert_not(shard_admits(world.shard, &cheap), "megabytes that took a millisecond");
    cr_assert_eq(COUNTER(world, refused), 1);
    struct shard_draft costly = world_draft(world_key(count + 1), 4000);
    costly.cost = 2;
    cr_assert(shard_admits(world.shard, &costly));
    struct shard_draft newer = world_draft(world_key(count - 1), 4 << 20);
    newer.cost = 1e-3;
    cr_assert(shard_admits(world.shard, &newer), "what it replaces is out of date");
    cr_assert_eq(COUNTER(world, refused), 1);
    world_destroy(&world);
}

Test(shard, refuses_nothing_while_there_is_room)
{
    struct world world = world_create(16 << 20, 0);
    struct shard_draft costly = world_draft(world_key(1), 4000);
    cr_assert_eq(world_store(&world, &costly, 1), RESULT_OK);
    struct shard_draft cheap = world_draft(world_key(2), 4 << 20);
    cheap.cost = 1e-6;
    cr_assert(shard_admits(world.shard, &cheap));
    world_destroy(&world);
}

Test(shard, a_full_number_of_entries_is_no_room_either)
{
    struct world world = world_create(16 << 20, 10);
    for (unsigned i = 0; i < 10; i++) {
        struct shard_draft draft = world_draft(world_key(i), 100);
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
    }
    struct shard_draft cheap = world_draft(world_key(10), 100000);
    cheap.cost = 1e-6;
    cr_assert_not(shard_admits(world.shard, &cheap));
    world_destroy(&world);
}

Test(shard, holds_no_more_entries_than_it_may)
{
    struct world world = world_create(16 << 20, 10);
    for (unsigned i = 0; i < 100; i++) {
        struct shard_draft draft = world_draft(world_key(i % 30), 100);
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
        cr_assert_leq(COUNTER(world, entries), 10);
        cr_assert_not_null(world_find(&world, world_key(i % 30)));
    }
    cr_assert_eq(COUNTER(world, entries), 10);
    cr_assert_eq(COUNTER(world, removed[SHARD_EVICTED]) + COUNTER(world, removed[SHARD_REPLACED]), 90);
    world_destroy(&world);
}

Test(shard, expires_what_nobody_asks_for)
{
    struct world world = world_create(16 << 20, 0);
    static const int64_t after_ms[] = {-5,
                                       0,
                                       1,
                                       999,
                                       1000,
                                       1001,
                                       59999,
                                       64000,
                                       70000,
                                       4096000,
                                       5000000,
                                       262144000,
                                       INT64_C(20) * 86400000,
                                       INT64_C(400) * 86400000};
    int64_t start_ms = world.now_ms;
    for (unsigned i = 0; i < ARRAY_COUNT(after_ms); i++) {
        struct shard_draft draft = world_draft(world_key(i), 10);
        draft.remove_at_ms = start_ms + after_ms[i];
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
    }
    struct shard_draft draft = world_draft(BYTES("for good"), 10);
    cr_assert_eq(world_store(&world, &draft, 0), RESULT_OK);
    unsigned wakes = 0;
    for (;;) {
        world_settle(&world);
        for (unsigned i = 0; i < ARRAY_COUNT(after_ms); i++) {
            int64_t late_ms = world.now_ms - start_ms - after_ms[i];
            cr_assert(late_ms >= 0 || world_find(&world, world_key(i)) != NULL, "%u too early", i);
            cr_assert(late_ms < 1000 || world_find(&world, world_key(i)) == NULL, "%u too late", i);
        }
        int64_t next_ms = shard_next_ms(world.shard);
        if (next_ms == INT64_MAX) {
            break;
        }
        cr_assert_gt(next_ms, world.now_ms);
        world.now_ms = next_ms;
        cr_assert_lt(wakes++, 60, "it sleeps in between");
    }
    cr_assert_eq(COUNTER(world, removed[SHARD_EXPIRED]), ARRAY_COUNT(after_ms));
    cr_assert_not_null(world_find(&world, BYTES("for good")));
    world_destroy(&world);
}

Test(shard, a_clock_set_back_keeps_no_expiry_waiting)
{
    struct world world = world_create(16 << 20, 0);
    world_settle(&world);
    struct shard_draft draft = world_draft(BYTES("a"), 10);
    draft.remove_at_ms = world.now_ms + 10000;
    cr_assert_eq(world_store(&world, &draft, 0), RESULT_OK);
    world.now_ms -= 3600000;
    world_settle(&world);
    draft = world_draft(BYTES("b"), 10);
    draft.remove_at_ms = world.now_ms + 5000;
    cr_assert_eq(world_store(&world, &draft, 0), RESULT_OK);
    world.now_ms += 4000;
    world_settle(&world);
    cr_assert_not_null(world_find(&world, BYTES("b")));
    world.now_ms += 2000;
    world_settle(&world);
    cr_assert_null(world_find(&world, BYTES("b")));
    cr_assert_not_null(world_find(&world, BYTES("a")));
    world.now_ms += 3700000;
    world_settle(&world);
    cr_assert_null(world_find(&world, BYTES("a")));
    world_destroy(&world);
}

/* Budgets around the one that is full just when the index doubles, by more than is kept free anyway. */
Test(shard, stays_within_its_budget_while_the_index_doubles)
{
    uint64_t most = 0;
    for (uint64_t budget = 8500000; budget < 10500000; budget += 250000) {
        struct world world = world_create(budget, 0);
        for (unsigned i = 0; i < 24000; i++) {
            struct shard_draft draft = world_draft(world_key(i), 0);
            draft.lines = BYTES("A: b\r\n");
            cr_assert_eq(world_store(&world, &draft, 0), RESULT_OK);
            cr_assert_leq(COUNTER(world, charged_bytes), budget, "with %u stored", i);
            if (i % 5 == 0) {
                world_turn(&world);
            }
        }
        uint64_t entries = COUNTER(world, entries);
        most = entries > most ? entries : most;
        cr_assert_geq(entries, 12000);
        world_destroy(&world);
    }
    cr_assert_gt(most, 16384, "it did double");
}

Test(shard, frees_a_large_body_over_several_turns)
{
    struct world world = world_create(256 << 20, 0);
    struct shard_draft draft = world_draft(BYTES("large"), 100 << 20);
    cr_assert_eq(world_store(&world, &draft, 1), RESULT_OK);
    shard_remove(world.shard, world_find(&world, draft.key), SHARD_PURGED);
    unsigned turns = 1;
    while (world_turn(&world)) {
        cr_assert_lt(turns++, 200);
    }
    cr_assert_gt(turns, 5);
    world_settle(&world);
    cr_assert_eq(COUNTER(world, retired_bytes), 0);
    cr_assert_leq(COUNTER(world, mapped_bytes), 4 * SLAB_REGION_BYTES);
    world_destroy(&world);
}

Test(shard, made_smaller_it_lets_go_over_several_turns_and_gives_memory_back)
{
    struct world world = world_create(64 << 20, 0);
    for (unsigned i = 0; i < 3000; i++) {
        struct shard_draft draft = world_draft(world_key(i), 16000);
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
    }
    cr_assert_gt(COUNTER(world, charged_bytes), 40 << 20);
    shard_resize(world.shard, 8 << 20);
    shard_turn(world.shard, world.now_ms);
    cr_expect_gt(COUNTER(world, entries), 2000, "a turn is short");
    world_settle(&world);
    cr_expect_leq(COUNTER(world, charged_bytes), 8 << 20);
    cr_expect_gt(COUNTER(world, entries), 200, "what fits has stayed");
    cr_expect_leq(COUNTER(world, mapped_bytes), 12 << 20, "%llu", (unsigned long long)COUNTER(world, mapped_bytes));
    struct shard_draft draft = world_draft(BYTES("large"), 5 << 20);
    cr_expect_neq(world_store(&world, &draft, 1), RESULT_OK, "more than half of what there is");
    shard_resize(world.shard, UINT64_MAX);
    cr_expect_eq(world_store(&world, &draft, 1), RESULT_OK, "as large as it was made, and no larger");
    for (unsigned i = 0; i < 5000; i++) {
        draft = world_draft(world_key(10000 + i), 16000);
        cr_assert_eq(world_store(&world, &draft, i), RESULT_OK);
    }
    cr_expect_leq(COUNTER(world, charged_bytes), 64 << 20);
    world_destroy(&world);
}

Test(shard, made_smaller_it_keeps_what_a_store_was_promised)
{
    struct world world = world_create(16 << 20, 0);
    struct shard_draft draft = world_draft(BYTES("key"), 4 << 20);
    struct shard_store store;
    cr_assert_eq(shard_store_begin(world.shard, &store, &draft), RESULT_OK);
    shard_resize(world.shard, 1 << 20);
    static char body[64 << 10];
    for (unsigned i = 0; i < 64; i++) {
        shard_store_body(world.shard, &store, (struct bytes){body, sizeof(body)});
        shard_turn(world.shard, world.now_ms);
    }
    cr_expect_eq(shard_store_commit(world.shard, &store), RESULT_OK);
    world_settle(&world);
    cr_expect_leq(COUNTER(world, charged_bytes), 1 << 20, "then it goes, too");
    world_destroy(&world);
}
