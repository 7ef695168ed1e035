/* Purges: what they mean, and that they hold from the moment they were asked for. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "place.h"
#include "store/internal.h"

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

TestSuite(store_purge, .init = set_up, .fini = tear_down);

static void put(const char *key, const char *route, const char *tags)
{
    struct cache_tier_record draft = {
        .key = bytes_from(key),
        .route = bytes_from(route),
        .tags = bytes_from(tags),
        .body = BYTES("body"),
        .cost = 1,
        .remove_at_ms = INT64_MAX,
    };
    cache_tier_put(place.store, cache_tier_record_create(&draft));
}

/* Which of the keys "a", "b", … are there. */
static const char *there(const char *keys)
{
    static char found[32];
    unsigned count = 0;
    for (; *keys != '\0'; keys++) {
        char key[2] = {*keys, '\0'};
        if (place_has(&place, key)) {
            found[count++] = *keys;
        }
    }
    found[count] = '\0';
    return found;
}

Test(store_purge, by_key_takes_that_one)
{
    put("a", "r", "");
    put("b", "r", "");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_KEY, "a", ""), 1);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_KEY, "a", ""), 0);
    cr_assert_str_eq(there("ab"), "b");
    cr_assert_eq(place_count(&place.counters->purged), 1);
    cr_assert_eq(place_count(&place.counters->records), 1);
}

Test(store_purge, by_route_and_of_all)
{
    put("a", "r", "");
    put("b", "rr", "");
    put("c", "r", "");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ROUTE, "r", ""), 2);
    cr_assert_str_eq(there("abc"), "b");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ALL, "", ""), 1);
    cr_assert_str_eq(there("abc"), "");
}

Test(store_purge, by_tag_takes_whole_names_and_may_be_kept_to_keys_of_a_prefix)
{
    put("a", "r", "red\ngreen\n");
    put("b", "r", "reddish\n");
    put("c", "r", "red\n");
    put("d", "r", "");
    put("xa", "r", "red\n");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_TAG, "red", "x"), 1);
    cr_assert_str_eq(there("abcd"), "abcd");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_TAG, "red", ""), 2);
    cr_assert_str_eq(there("abcd"), "bd");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_TAG, "green", ""), 0, "it went with its record");
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_tag"), 1);
}

Test(store_purge, by_prefix_compares_as_much_of_the_key_as_it_has)
{
    char key[200], prefix[200];
    const char *const ends[] = {"", "x", "xa", "xb", "y"};
    memset(key, 'k', sizeof(key));
    for (unsigned length = 0; length <= 130; length += 65) { /* 64 bytes of a key are in an index */
        for (unsigned i = 0; i < ARRAY_COUNT(ends); i++) {
            snprintf(key + length, sizeof(key) - length, "%s", ends[i]);
            put(key, "r", "");
            memset(key, 'k', sizeof(key));
        }
    }
    memset(prefix, 'k', sizeof(prefix));
    snprintf(prefix + 130, sizeof(prefix) - 130, "x");
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, prefix, ""), 3);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, prefix, ""), 0);
    prefix[65] = '\0';
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, prefix, ""), 7);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, "x", ""), 3);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, "\xff", ""), 0);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, "", ""), 2);
}

Test(store_purge, of_many_goes_in_slices_and_skips_none)
{
    char key[100];
    for (int i = 0; i < 2000; i++) { /* their first 64 bytes are all the same */
        snprintf(key, sizeof(key), "%070d%04d", 0, i);
        put(key, "r", i % 2 == 0 ? "even\n" : "");
    }
    char prefix[100];
    snprintf(prefix, sizeof(prefix), "%070d1", 0);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_PREFIX, prefix, ""), 1000);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_TAG, "even", ""), 500);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ROUTE, "r", ""), 500);
}

Test(store_purge, is_ordered_with_puts_before_and_after_it)
{
    for (unsigned kind = CACHE_TIER_PURGE_KEY; kind <= CACHE_TIER_PURGE_ALL; kind++) {
        const char *const texts[] = {"a", "a", "red", "r", ""};
        struct cache_tier_purge purge = {.kind = kind, .text = bytes_from(texts[kind])};
        uint64_t puts = place_count(&place.counters->puts);
        put("a", "r", "red\n");
        cache_tier_purge(place.store, 0, &purge);
        put("b", "r", "red\n");
        put("a", "r", "red\n");
        cache_tier_purge(place.store, 0, &purge);
        put("c", "q", "");
        cr_assert(place_await(&place, &place.counters->puts, puts + 4));
        cr_assert_not(place_has(&place, "a"));
        cr_assert(place_has(&place, "c"));
        cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ALL, "", ""), kind <= CACHE_TIER_PURGE_PREFIX ? 2 : 1);
    }
}

/* Puts a record that was asked for, and handed to memory, at these moments. */
static void put_made_at(const char *key, nanos asked_ns, nanos many_ns)
{
    struct cache_tier_record *record = place_record(key, "body");
    record->asked_ns = asked_ns;
    record->many_ns = many_ns;
    cache_tier_put(place.store, record);
}

Test(store_purge, meets_what_was_made_before_it_and_is_put_behind_it)
{
    nanos before = store_clock();
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_KEY, "a", ""), 0);
    put_made_at("a", before, store_clock());
    put_made_at("b", before, before);
    cr_assert(place_await(&place, &place.counters->puts, 1));
    cr_assert_eq(place_count(&place.counters->puts_outdated), 1);
    cr_assert_str_eq(there("ab"), "b");
    put_made_at("a", store_clock(), 0);
    cr_assert(place_await(&place, &place.counters->puts, 2));
    for (unsigned kind = CACHE_TIER_PURGE_PREFIX; kind <= CACHE_TIER_PURGE_ALL; kind++) {
        before = store_clock();
        cr_assert_geq(place_purge(&place, kind, "none", ""), 0);
        put_made_at("c", before, before);
        cr_assert_eq(place_count(&place.counters->puts_outdated), kind + 1);
    }
    put_made_at("c", before, store_clock());
    cr_assert(place_await(&place, &place.counters->puts, 3));
    cr_assert_str_eq(there("c"), "c");
    cr_assert_eq(place_count(&place.counters->puts_dropped), 0);
}

static struct cache_tier_record *delivered;
static enum cache_tier_outcome outcome;
static bool is_delivered;

static void on_done(struct ring *ring, struct cache_tier_get *get)
{
    (void)ring;
    delivered = get->record;
    outcome = get->outcome;
    is_delivered = true;
}

Test(store_purge, holds_for_a_get_that_was_read_before_it)
{
    put("a", "r", "");
    put("b", "r", "");
    cr_assert(place_has(&place, "a") || place_await(&place, &place.counters->puts, 2));
    struct cache_tier_get get = {.key = BYTES("a"), .now_ms = PLACE_NOW_MS, .on_done = on_done};
    uint64_t touched = place_count(&place.counters->touches);
    cr_assert_eq(cache_tier_get(place.store, 0, &get), RESULT_OK);
    while (place_count(&place.counters->touches) == touched) { /* the loop does not turn: read, and not delivered */
    }
    struct cache_tier_purge purge = {.kind = CACHE_TIER_PURGE_KEY, .text = BYTES("a")};
    cache_tier_purge(place.store, 0, &purge);
    cr_assert(loop_until_true(place.ring, &is_delivered));
    cr_assert_eq(outcome, CACHE_TIER_MISS);
    cr_assert_null(delivered);
    cr_assert(place_has(&place, "b"));
}

Test(store_purge, holds_while_the_disk_cannot_be_written)
{
    put("a", "r", "");
    put("b", "r", "");
    cr_assert(place_await(&place, &place.counters->puts, 2));
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_KEY, "a", ""), -1);
    cr_assert_eq(atomic_load(&place.counters->state), STORE_READ_ONLY);
    cr_assert_eq(place_purge(&place, CACHE_TIER_PURGE_ROUTE, "q", ""), -1);
    cr_assert_str_eq(there("ab"), "b");
    sqlite3_close(other);
    cr_assert(place_await_state(&place, STORE_READY));
    cr_assert(place_await(&place, &place.counters->purged, 1));
    cr_assert_str_eq(there("ab"), "b");
    cr_assert_eq(place_number(&place, "SELECT count(*) FROM cache_entry"), 1);
}

Test(store_purge, too_many_at_once_become_one_of_all)
{
    put("a", "r", "");
    put("b", "r", "");
    cr_assert(place_await(&place, &place.counters->puts, 2));
    sqlite3 *other = place_connect(&place);
    cr_assert_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct cache_tier_purge purge = {.kind = CACHE_TIER_PURGE_KEY, .text = BYTES("a")};
    for (int i = 0; i < 1024; i++) {
        cache_tier_purge(place.store, 0, &purge);
    }
    cr_assert_str_eq(there("ab"), "b");
    cache_tier_purge(place.store, 0, &purge);
    cache_tier_purge(place.store, 0, &purge);
    cr_assert_str_eq(there("ab"), "");
    sqlite3_close(other);
    cr_assert(place_await(&place, &place.counters->purged, 2));
    cr_assert(place_await_state(&place, STORE_READY));
    for (int i = 0; i < 1000 && !place_has(&place, "c"); i++) { /* the second of the two purges everything once more */
        put("c", "r", "");
        loop_for_ms(place.ring, 5);
    }
    cr_assert(place_has(&place, "c"));
}
