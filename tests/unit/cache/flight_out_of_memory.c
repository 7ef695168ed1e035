/* Flights once more, under other names and over a system whose nth allocation fails: 1, 2, 3 … until the whole story
 * passes without a failure. Failing are: the claims, the mirrors, and larger tables. */
#define flight_table_init         nth_flight_table_init
#define flight_table_fini         nth_flight_table_fini
#define flight_table_find         nth_flight_table_find
#define flight_table_add          nth_flight_table_add
#define flight_table_find_sibling nth_flight_table_find_sibling
#define flight_table_remove       nth_flight_table_remove
#define flight_table_doom         nth_flight_table_doom
#define flight_table_doom_key     nth_flight_table_doom_key
#define flight_is_doomed          nth_flight_is_doomed
#define flight_mirror_for         nth_flight_mirror_for
#define flight_mirrors_leave      nth_flight_mirrors_leave
#define flight_mirror_open        nth_flight_mirror_open
#define flight_claim              nth_flight_claim
#define flight_claim_cancel       nth_flight_claim_cancel
#define flight_begin              nth_flight_begin
#define flight_close              nth_flight_close
#define flight_is_open            nth_flight_is_open
#define flight_release            nth_flight_release

#include "flight_world.h"

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

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

static void *failing_malloc(size_t bytes)
{
    return fails() ? NULL : malloc(bytes);
}

#define calloc failing_calloc
#define malloc failing_malloc
#include "../../../src/cache/flight.c"
#include "../../../src/cache/flight_mirror.c"
#include "../../../src/cache/flight_table.c"
#undef calloc
#undef malloc

enum { FLIGHTS = 600 }; /* the table grows twice */

/* What the claim came to; FLIGHT_ALONE, too, when it could not be made. */
static enum flight_answer ask(struct person *person, const struct cache_key *key)
{
    struct cache_core *core = person->world->cores[person->worker];
    if (flight_claim(core, &person->waiter, key, NULL, 0, UINT32_MAX) != RESULT_OK) {
        cr_assert(has_failed);
        cr_assert_null(person->waiter.claim);
        return FLIGHT_ALONE;
    }
    flights_run(person->world);
    cr_assert(person->is_answered);
    return person->answer;
}

/* One fetch, two who join: who cannot goes alone, the others see all of it. */
static void story(struct flights *world, const struct cache_key *key)
{
    struct fill fill;
    fill_init(&fill, world, 0, 1);
    struct person people[WORKERS];
    unsigned alone = 0;
    for (unsigned i = 0; i < WORKERS; i++) {
        people[i] = person_of(world, i, i == 0 ? &fill : NULL);
        enum flight_answer answer = ask(&people[i], key);
        alone += answer == FLIGHT_ALONE;
        if (answer == FLIGHT_MINE && i > 0) {
            flight_release(people[i].waiter.flight);
        }
    }
    cr_assert(has_failed || alone == 0);
    fill_head(&fill, "A: b\r\n");
    fill_body(&fill, 20000);
    entry_complete(&fill.entry, NULL, 0);
    entry_tell(&fill.entry);
    flights_turn(world);
    for (unsigned i = 0; i < WORKERS; i++) {
        cr_assert(people[i].entry == NULL || people[i].reader.position == 20000);
        person_leave(&people[i]);
    }
    fill_end(&fill);
    flights_run(world);
    cr_assert(fill.is_gone);
}

Test(flight, survives_each_failing_allocation)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    unsigned nth = 0;
    do {
        cr_assert_lt(nth, 50);
        has_failed = false;
        calls_until_failure = ++nth;
        story(&world, &key);
        calls_until_failure = 0;
    } while (has_failed);
    cr_assert_gt(nth, 4, "claims and mirrors did fail");
    flights_destroy(&world);
}

static void lead_many(struct flights *world, struct fill *fills)
{
    for (unsigned i = 0; i < FLIGHTS; i++) {
        struct cache_key key = flights_key_of(world, 0, i, "");
        struct person leader = person_of(world, 0, &fills[i]);
        fill_init(&fills[i], world, 0, i);
        if (ask(&leader, &key) == FLIGHT_MINE) {
            struct person second = person_of(world, 0, NULL);
            cr_assert_neq(ask(&second, &key), FLIGHT_MINE, "found in longer chains, too");
            person_leave(&second);
        }
    }
    for (unsigned i = 0; i < FLIGHTS; i++) {
        fill_end(&fills[i]);
    }
    flights_run(world);
}

Test(flight, is_found_though_its_table_could_not_grow)
{
    static struct fill fills[FLIGHTS];
    struct flights world = flights_create();
    for (unsigned nth = 1; nth < 4; nth++) {
        has_failed = false;
        calls_until_failure = 2 * 256 + nth; /* the claim that makes it grow, and the two parts of the larger one */
        lead_many(&world, fills);
        cr_assert(has_failed);
        cr_assert_eq(world.cores[0]->flights.count, 0);
    }
    cr_assert_geq(world.cores[0]->flights.bucket_count, FLIGHTS, "it grew when it could");
    flights_destroy(&world);
}
