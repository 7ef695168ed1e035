/* The second tier as a cache: what is put is found, until it has to go. */
#include "store/cache_tier.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "place.h"
#include "store/cache_table.h"

static struct place place;

static void set_up(void)
{
    place_make(&place);
    place_open_until(&place, STORE_READY);
}

static void tear_down(void)
{
    place_remove(&place);
}

TestSuite(cache_tier, .init = set_up, .fini = tear_down);

Test(cache_tier, all_of_a_record_comes_back)
{
    struct cache_tier_record draft = {
        .key = BYTES("k\0ey"),
        .route = BYTES("chat"),
        .tags = BYTES("a\nbb\n"),
        .head = BYTES("\x01\0\xff"),
        .body = BYTES("the body\0."),
        .cost = 2.5,
        .made_ms = 17,
        .remove_at_ms = 2000,
        .last_used_ms = 18,
    };
    place_put_now(&place, cache_tier_record_create(&draft));
    struct cache_tier_record *record = NULL;
    cr_assert_eq(place_get_at(&place, "k", 1000, &record), CACHE_TIER_MISS, "a key's beginning is not the key");
    uint64_t done = place_count(&place.counters->hits);
    struct cache_tier_record *other = place_record("other", "");
    place_put_now(&place, other);
    cr_assert_eq(place_get_at(&place, "other", 1000, &record), CACHE_TIER_FOUND);
    cr_assert(bytes_equal(record->route, BYTES("route")));
    free(record);
    cr_assert_eq(place_count(&place.counters->hits), done + 1);

    sqlite3 *sqlite = place_connect(&place);
    struct cache_reading reading;
    struct cache_hash hash = cache_hash_of(draft.key);
    cr_assert_eq(cache_reading_open(&reading, sqlite), SQLITE_OK);
    cr_assert_eq(cache_reading_get(&reading, draft.key, &hash, 1000, &record), SQLITE_OK);
    cr_assert_not_null(record);
    cr_assert(bytes_equal(record->key, draft.key));
    cr_assert(bytes_equal(record->route, draft.route));
    cr_assert(bytes_equal(record->tags, draft.tags));
    cr_assert(bytes_equal(record->head, draft.head));
    cr_assert(bytes_equal(record->body, draft.body));
    cr_assert_eq(record->cost, draft.cost);
    cr_assert_eq(record->made_ms, draft.made_ms);
    cr_assert_eq(record->remove_at_ms, draft.remove_at_ms);
    cr_assert_eq(record->last_used_ms, draft.last_used_ms);
    free(record);
    cache_reading_close(&reading);
    sqlite3_close(sqlite);
}

Test(cache_tier, a_body_may_be_empty_or_ten_megabytes)
{
    size_t large_bytes = 10 << 20;
    place_put_now(&place, place_record("empty", ""));
    place_put_now(&place, place_large("large", large_bytes));
    struct cache_tier_record *record = NULL;
    cr_assert_eq(place_get_at(&place, "empty", PLACE_NOW_MS, &record), CACHE_TIER_FOUND);
    cr_assert_eq(record->body.len, 0);
    free(record);
    cr_assert_eq(place_get_at(&place, "large", PLACE_NOW_MS, &record), CACHE_TIER_FOUND);
    cr_assert_eq(record->body.len, large_bytes);
    for (size_t i = 0; i < large_bytes; i++) {
        cr_assert_eq(record->body.ptr[i], (char)i);
    }
    free(record);
}

Test(cache_tier, a_put_replaces_what_was_there)
{
    place_put_now(&place, place_record("key", "old"));
    place_put_now(&place, place_record("key", "newer"));
    struct cache_tier_record *record = NULL;
    cr_assert_eq(place_get_at(&place, "key", PLACE_NOW_MS, &record), CACHE_TIER_FOUND);
    cr_assert(bytes_equal(record->body, BYTES("newer")));
    cr_assert_eq(place_count(&place.counters->records), 1);
    cr_assert_eq(place_count(&place.counters->bytes), cache_tier_record_charge(record));
    free(record);
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_content"), 1);
}

Test(cache_tier, another_key_under_the_same_hash_is_a_miss)
{
    place_put_now(&place, place_record("mine", "secret"));
    struct cache_hash hash = cache_hash_of(BYTES("theirs"));
    sqlite3 *sqlite = place_connect(&place);
    sqlite3_stmt *update = NULL;
    cr_assert_eq(sqlite3_prepare_v2(sqlite, "UPDATE cache_entry SET hash = ?1", -1, &update, NULL), SQLITE_OK);
    sqlite3_bind_blob(update, 1, hash.bytes, sizeof(hash.bytes), SQLITE_STATIC);
    cr_assert_eq(sqlite3_step(update), SQLITE_DONE);
    sqlite3_finalize(update);
    sqlite3_close(sqlite);
    struct cache_tier_record *record = NULL;
    cr_assert_eq(place_get_at(&place, "theirs", PLACE_NOW_MS, &record), CACHE_TIER_MISS);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_KEY, "theirs", ""), 0, "nor is it purged by it");
}

Test(cache_tier, a_record_is_not_found_from_its_last_moment_on_and_goes_soon)
{
    struct cache_tier_record *record = place_record("key", "body");
    record->remove_at_ms = PLACE_NOW_MS + 10;
    place_put_now(&place, record);
    place_put_now(&place, place_record("stays", "body"));
    cr_assert_eq(place_get_at(&place, "key", PLACE_NOW_MS + 9, &record), CACHE_TIER_FOUND);
    free(record);
    cr_assert_eq(place_count(&place.counters->expired), 0);
    cr_assert_eq(place_get_at(&place, "key", PLACE_NOW_MS + 10, &record), CACHE_TIER_MISS);
    cr_assert(place_await(&place, &place.counters->expired, 1), "the get has told the time");
    cr_assert_eq(place_count(&place.counters->records), 1);
    cr_assert(place_has(&place, "stays"));
}

Test(cache_tier, time_that_is_told_expires_many_in_slices)
{
    char key[32];
    for (int i = 0; i < 700; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        struct cache_tier_record *record = place_record(key, "body");
        record->remove_at_ms = PLACE_NOW_MS + 1;
        cache_tier_put(place.store, record);
    }
    cr_assert(place_await(&place, &place.counters->puts, 700));
    cr_assert_eq(place_count(&place.counters->records), 700);
    store_tick(place.store, PLACE_NOW_MS + 1);
    cr_assert(place_await(&place, &place.counters->expired, 700));
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_content"), 0);
    cr_assert_eq(place_count(&place.counters->bytes), 0);
}

Test(cache_tier, what_was_put_survives_a_restart)
{
    place_put(&place, "first", "1");
    place_put(&place, "second", "22");
    place_close(&place); /* which writes what is queued */
    place_open_until(&place, STORE_READY);
    cr_assert_eq(place_count(&place.counters->records), 2);
    cr_assert_eq(place_count(&place.counters->bytes), 2 * (CACHE_TIER_OVERHEAD_BYTES + 9) + 5 + 1 + 6 + 2);
    cr_assert(place_has(&place, "first"));
    cr_assert(place_has(&place, "second"));
}

Test(cache_tier, the_dear_and_the_used_stay_when_room_is_short)
{
    char key[32];
    place_close(&place);
    place.options.cache_bytes_max = 400 << 10;
    place_open_until(&place, STORE_READY);
    struct cache_tier_record *dear = place_large("dear", 8000);
    dear->cost = 100;
    place_put_now(&place, dear);
    place_put_now(&place, place_large("used", 8000));
    for (int i = 0; i < 5; i++) {
        cache_tier_touch(place.store, BYTES("used"), PLACE_NOW_MS);
    }
    cr_assert(place_await(&place, &place.counters->touches, 5));
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        place_put_now(&place, place_large(key, 8000));
        cr_assert_leq(place_count(&place.counters->bytes), place.options.cache_bytes_max + (1 << 20));
    }
    cr_assert(place_await(&place, &place.counters->evicted, 50));
    cr_assert(place_has(&place, "dear"));
    cr_assert(place_has(&place, "used"));
    cr_assert(place_has(&place, "key 99"), "the last put");
    cr_assert_not(place_has(&place, "key 0"), "of what is worth the same, the oldest goes");
    loop_for_ms(place.ring, 50);
    cr_assert_leq(place_count(&place.counters->bytes), place.options.cache_bytes_max);
    cr_assert_eq((uint64_t)place_number(&place, "SELECT sum(bytes) FROM cache_entry"),
                 place_count(&place.counters->bytes));
}

Test(cache_tier, what_is_not_used_any_more_ages)
{
    char key[32];
    place_close(&place);
    place.options.cache_bytes_max = 100 << 10;
    place_open_until(&place, STORE_READY);
    struct cache_tier_record *once_dear = place_large("once dear", 8000);
    once_dear->cost = 5;
    place_put_now(&place, once_dear);
    for (int i = 0; i < 200 && place_has(&place, "key 0") == (i > 0); i++) {
        snprintf(key, sizeof(key), "key %d", i);
        place_put_now(&place, place_large(key, 8000));
    }
    for (int i = 0; i < 400; i++) {
        snprintf(key, sizeof(key), "later %d", i);
        cache_tier_put(place.store, place_large(key, 8000));
    }
    cr_assert(place_await(&place, &place.counters->evicted, 380));
    cr_assert_not(place_has(&place, "once dear"));
}

Test(cache_tier, the_file_becomes_shorter_when_its_records_go)
{
    char key[32];
    for (int i = 0; i < 40; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        cache_tier_put(place.store, place_large(key, 500000));
    }
    cr_assert(place_await(&place, &place.counters->puts, 40));
    sqlite3 *sqlite = place_connect(&place);
    sqlite3_wal_checkpoint_v2(sqlite, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    sqlite3_close(sqlite);
    long before = place_file_bytes(&place, "");
    cr_assert_gt(before, 40 * 500000 / 2);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ALL, "", ""), 40);
    for (int i = 0; i < 400 && place_file_bytes(&place, "") > before / 2; i++) {
        loop_for_ms(place.ring, 20);
    }
    cr_assert_lt(place_file_bytes(&place, ""), before / 2);
}

Test(cache_tier, the_file_stays_about_as_large_as_it_may_be)
{
    char key[32];
    place_close(&place);
    place.options.cache_bytes_max = 2 << 20;
    place_open_until(&place, STORE_READY);
    for (int i = 0; i < 400; i++) {
        snprintf(key, sizeof(key), "key %d", i);
        place_put_now(&place, place_large(key, 50000));
    }
    long most = (2 << 20) + (2 << 20) / 4;
    for (int i = 0; i < 400 && place_file_bytes(&place, "") > most; i++) {
        sqlite3 *sqlite = place_connect(&place);
        sqlite3_wal_checkpoint_v2(sqlite, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        sqlite3_close(sqlite);
        loop_for_ms(place.ring, 20);
    }
    cr_assert_leq(place_file_bytes(&place, ""), most);
    cr_assert_gt(place_count(&place.counters->records), 20);
}

Test(cache_tier, what_can_never_fit_is_dropped_and_counted)
{
    place_close(&place);
    place.options.cache_bytes_max = 10000;
    place_open_until(&place, STORE_READY);
    cache_tier_put(place.store, place_large("large", 10001));
    cr_assert_eq(place_count(&place.counters->puts_dropped), 1);
}

/* ---- warm start ---- */

struct warming {
    struct cache_tier_warm warm;
    char keys[512];
    unsigned records;
    unsigned batches;
    bool is_done;
};

static void on_batch(struct ring *ring, struct cache_tier_warm *warm)
{
    struct warming *warming = CONTAINER_OF(warm, struct warming, warm);
    (void)ring;
    warming->batches++;
    while (warm->records != NULL) {
        struct cache_tier_record *record = warm->records;
        warm->records = record->next;
        size_t used = strlen(warming->keys);
        snprintf(warming->keys + used, sizeof(warming->keys) - used, "%.*s ", BYTES_ARG(record->key));
        warming->records++;
        free(record);
    }
    warming->is_done = warm->is_end;
    if (!warm->is_end) {
        cr_assert_eq(cache_tier_warm_next(place.store, 0, warm), RESULT_OK);
    }
}

static void walk(struct warming *warming, uint64_t bytes)
{
    *warming = (struct warming){.batches = 0};
    cache_tier_warm_init(&warming->warm, bytes, PLACE_NOW_MS, on_batch);
    cr_assert_eq(cache_tier_warm_next(place.store, 0, &warming->warm), RESULT_OK);
    cr_assert(loop_until_true(place.ring, &warming->is_done));
}

static void put_with_cost(const char *key, double cost)
{
    struct cache_tier_record *record = place_large(key, 1000);
    record->cost = cost;
    cache_tier_put(place.store, record);
}

Test(cache_tier, a_walk_gives_the_worthiest_first_up_to_its_bytes)
{
    put_with_cost("b", 2);
    put_with_cost("d", 1);
    put_with_cost("a", 3);
    put_with_cost("c", 1.5);
    struct cache_tier_record *gone = place_record("gone", "");
    gone->remove_at_ms = PLACE_NOW_MS;
    gone->cost = 100;
    cache_tier_put(place.store, gone);
    cache_tier_touch(place.store, BYTES("d"), PLACE_NOW_MS);
    cache_tier_touch(place.store, BYTES("d"), PLACE_NOW_MS); /* three times 1 is as much as a, and a came later */
    cr_assert(place_await(&place, &place.counters->touches, 2));
    struct warming warming;
    walk(&warming, 1 << 20);
    cr_assert_str_eq(warming.keys, "a d b c ");
    walk(&warming, 3 * (1000 + 10 + CACHE_TIER_OVERHEAD_BYTES));
    cr_assert_str_eq(warming.keys, "a d b ");
}

Test(cache_tier, a_walk_comes_in_batches_and_leaves_nothing_out)
{
    char key[32];
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof(key), "%d", i);
        cache_tier_put(place.store, place_large(key, i < 10 ? 200000 : 100));
    }
    cr_assert(place_await(&place, &place.counters->puts, 300));
    struct warming warming;
    walk(&warming, UINT64_MAX);
    cr_assert_eq(warming.records, 300);
    cr_assert_geq(warming.batches, 7);
}

Test(cache_tier, a_walk_asked_for_before_the_database_is_open_waits_for_it)
{
    place_put(&place, "key", "body");
    place_close(&place);
    place_open(&place);
    struct warming warming;
    walk(&warming, UINT64_MAX);
    cr_assert_str_eq(warming.keys, "key ");
}
