/* Flights, and what is stored, purged and invalidated while they are under way. */
#include "flight_world.h"

struct putting {
    struct cache_put put;
    bool is_done;
    enum result result;
};

static void on_put(struct cache_put *put, enum result result)
{
    struct putting *putting = CONTAINER_OF(put, struct putting, put);
    putting->is_done = true;
    putting->result = result;
}

/* Five bytes for the key, or a new head for them, made at `response_ms`. */
static struct putting putting_of(const struct cache_key *key, const struct flight *flight, enum cache_put_kind kind,
                                 int64_t response_ms, int64_t replaces_ms)
{
    return (struct putting){.put = {.kind = kind,
                                    .shard = key->shard,
                                    .draft = {.key = key->bytes,
                                              .hash = key->hash,
                                              .body_bytes = 5,
                                              .cost = 1,
                                              .status = 200,
                                              .freshness.response_ms = response_ms,
                                              .remove_at_ms = INT64_MAX},
                                    .body = BYTES("hello"),
                                    .flight = flight,
                                    .replaces_ms = replaces_ms,
                                    .on_done = on_put}};
}

static enum result store(struct flights *world, const struct cache_key *key, const struct flight *flight,
                         int64_t response_ms)
{
    struct putting putting = putting_of(key, flight, CACHE_PUT_STORE, response_ms, 0);
    cache_put(world->cores[0], &putting.put);
    flights_turn_until(world, &putting.is_done);
    return putting.result;
}

static enum flight_answer ask_having_seen(struct flights *world, const struct cache_key *key,
                                          const struct cache_object *seen)
{
    struct person person = person_of(world, 2, NULL);
    cr_assert_eq(flight_claim(world->cores[2], &person.waiter, key, seen, 0, 1), RESULT_OK);
    flights_run(world);
    cr_assert(person.is_answered);
    if (person.answer == FLIGHT_MINE) {
        flight_release(person.waiter.flight);
        flights_run(world);
    }
    return person.answer;
}

Test(flight, is_not_begun_when_something_was_stored_since_the_look)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    cr_assert_eq(store(&world, &key, NULL, 1000), RESULT_OK);
    cr_assert_eq(ask_having_seen(&world, &key, NULL), FLIGHT_LOOK_AGAIN);
    struct cache_object *object = cache_find(world.cores[2], &key);
    cr_assert_eq(ask_having_seen(&world, &key, object), FLIGHT_MINE, "that is what will not do");

    flights_destroy(&world);
}

static void on_nothing(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    (void)message;
}

Test(flight, is_not_begun_when_the_head_was_swapped_since_the_look)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    cr_assert_eq(store(&world, &key, NULL, 1000), RESULT_OK);
    struct cache_object *object = cache_find(world.cores[2], &key);
    struct person person = person_of(&world, 2, NULL);
    static struct ring_message before[300]; /* fill the queue, so that the claim stays behind until worker 2 turns */
    for (unsigned i = 0; i < ARRAY_COUNT(before); i++) {
        before[i].on_deliver = on_nothing;
        ring_post(world.rings[2], 1, &before[i]);
    }
    cr_assert_eq(flight_claim(world.cores[2], &person.waiter, &key, object, 0, 1), RESULT_OK);
    struct putting putting = putting_of(&key, NULL, CACHE_PUT_UPDATE, 2000, 1000);
    cache_put(world.cores[0], &putting.put);
    flights_turn_one(&world, 1);
    cr_assert_eq(cache_find(world.cores[2], &key), object);
    cr_assert_eq(cache_seen_of(object).response_ms, 2000);
    flights_run(&world);
    cr_assert(putting.is_done);
    cr_assert_eq(person.answer, FLIGHT_LOOK_AGAIN);
    cr_assert_eq(ask_having_seen(&world, &key, object), FLIGHT_MINE);
    flights_destroy(&world);
}

Test(flight, is_begun_when_what_was_seen_has_been_removed)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    cr_assert_eq(store(&world, &key, NULL, 1000), RESULT_OK);
    struct person person = person_of(&world, 2, NULL);
    cache_remove(world.cores[2], &key, SHARD_INVALIDATED);
    cr_assert_eq(flight_claim(world.cores[2], &person.waiter, &key, cache_find(world.cores[2], &key), 0, 1), RESULT_OK);
    flights_run(&world);
    cr_assert_eq(person.answer, FLIGHT_MINE);
    flight_release(person.waiter.flight);
    flights_destroy(&world);
}

Test(flight, that_ends_while_a_claim_with_an_older_look_is_under_way_is_looked_for_again)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    cr_assert_eq(store(&world, &key, fill.flight, 1000), RESULT_OK);
    fill_end(&fill);
    flights_run(&world);
    cr_assert_eq(ask_having_seen(&world, &key, NULL), FLIGHT_LOOK_AGAIN);
    flights_destroy(&world);
}

/* ---- purges and invalidations */

struct purging {
    struct cache_purge purge;
    bool is_done;
};

static void on_purged(struct cache_purge *purge)
{
    CONTAINER_OF(purge, struct purging, purge)->is_done = true;
}

static void purge(struct flights *world, const struct shard_filter *filter)
{
    struct purging purging = {.purge = {.filter = *filter, .on_done = on_purged}};
    cr_assert_eq(cache_purge(world->cores[2], &purging.purge), RESULT_OK);
    flights_turn_until(world, &purging.is_done);
}

/* Whether what a flight on worker 0 brings is not stored, when `happens` has happened meanwhile. */
static bool is_doomed_by(const struct cache_key *key, struct flights *world, void (*happens)(struct flights *, void *),
                         void *context)
{
    struct fill fill;
    fill_lead(&fill, world, 0, key);
    happens(world, context);
    flights_run(world);
    enum result result = store(world, key, fill.flight, 1000);
    cr_assert(result == RESULT_OK || result == RESULT_CANCELED);
    cr_assert_eq(cache_find(world->cores[1], key) != NULL, result == RESULT_OK);
    fill_end(&fill);
    flights_run(world);
    cache_remove(world->cores[0], key, SHARD_PURGED);
    flights_run(world);
    return result == RESULT_CANCELED;
}

static void happens_purge(struct flights *world, void *filter)
{
    purge(world, filter);
}

static bool is_doomed_by_purge(const struct cache_key *key, struct flights *world, struct shard_filter filter)
{
    return is_doomed_by(key, world, happens_purge, &filter);
}

Test(flight, is_doomed_by_purges_that_may_mean_it)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key_of(&world, 1, 0, "\nvary:x");
    struct bytes primary = {key.bytes.ptr, key.primary_bytes};
    struct shard_filter filter = {.kind = SHARD_ALL};
    cr_assert(is_doomed_by_purge(&key, &world, filter));
    cr_assert(is_doomed_by_purge(&key, &world, (struct shard_filter){.kind = SHARD_ROUTE, .route = 77}));
    cr_assert(is_doomed_by_purge(&key, &world, (struct shard_filter){.kind = SHARD_KEY, .text = primary}));
    cr_assert(is_doomed_by_purge(&key, &world, (struct shard_filter){.kind = SHARD_PREFIX, .text = BYTES("http://")}));
    cr_assert(is_doomed_by_purge(&key, &world, (struct shard_filter){.kind = SHARD_TAG, .text = BYTES("tag")}));
    filter = (struct shard_filter){.kind = SHARD_TAG, .text = BYTES("tag"), .key_prefix = BYTES("http://host/")};
    cr_assert(is_doomed_by_purge(&key, &world, filter));
    flights_destroy(&world);
}

Test(flight, outlives_purges_of_something_else)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct cache_key other = flights_key_of(&world, 1, 9, "");
    cr_assert_not(is_doomed_by_purge(&key, &world, (struct shard_filter){.kind = SHARD_KEY, .text = other.bytes}));
    cr_assert_not(
        is_doomed_by_purge(&key, &world, (struct shard_filter){.kind = SHARD_PREFIX, .text = BYTES("https://")}));
    cr_assert_not(is_doomed_by_purge(
        &key, &world,
        (struct shard_filter){.kind = SHARD_TAG, .text = BYTES("tag"), .key_prefix = BYTES("http://other/")}));
    flights_destroy(&world);
}

static void happens_remove(struct flights *world, void *key)
{
    cache_remove(world->cores[2], key, SHARD_INVALIDATED);
}

Test(flight, of_any_variant_is_doomed_by_removing_its_primary_key)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key_of(&world, 1, 0, "");
    struct cache_key variant = flights_key_of(&world, 1, 0, "\nvary:x");
    struct cache_key other = flights_key_of(&world, 1, 5, "");
    cr_assert(is_doomed_by(&key, &world, happens_remove, &key));
    cr_assert(is_doomed_by(&variant, &world, happens_remove, &key));
    cr_assert(is_doomed_by(&variant, &world, happens_remove, &variant), "its primary bytes count");
    cr_assert_not(is_doomed_by(&variant, &world, happens_remove, &other));
    flights_destroy(&world);
}

Test(flight, that_is_doomed_goes_on_for_its_readers_while_the_next_who_asks_leads_another)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill old;
    fill_lead(&old, &world, 0, &key);
    struct person reader = person_of(&world, 2, NULL);
    cr_assert_eq(person_ask(&reader, &key), FLIGHT_JOINED);
    cache_remove(world.cores[0], &key, SHARD_INVALIDATED);
    flights_run(&world);

    struct fill new;
    fill_lead(&new, &world, 1, &key);
    new.seed = 2;
    struct person second = person_of(&world, 2, NULL);
    second.seed = 2;
    cr_assert_eq(person_ask(&second, &key), FLIGHT_JOINED, "one fetch for all who ask after it");
    cr_assert_eq(world.cores[1]->flights.count, 1);

    fill_head(&old, "A: b\r\n");
    fill_body(&old, 3000);
    entry_complete(&old.entry, NULL, 0);
    fill_head(&new, "C: d\r\n");
    fill_body(&new, 2000);
    entry_tell(&old.entry);
    entry_tell(&new.entry);
    flights_run(&world);
    cr_assert_eq(reader.reader.position, 3000);
    cr_assert_eq(second.reader.position, 2000);
    cr_assert_eq(store(&world, &key, old.flight, 1000), RESULT_CANCELED);
    fill_end(&old);
    flights_run(&world);
    cr_assert_eq(world.cores[1]->flights.count, 1, "the end of the old one does not end the new one");
    person_leave(&reader);
    person_leave(&second);
    cr_assert_eq(store(&world, &key, new.flight, 2000), RESULT_OK);
    fill_end(&new);
    flights_destroy(&world);
}
