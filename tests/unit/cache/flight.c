/* Claims: who fetches, who is led to whom, who goes alone; and what ends a flight. What is stored and removed
 * meanwhile: flight_store.c; reading across workers: flight_mirror.c. The same under true concurrency:
 * tests/stress/cache_flights.c. */
#include "flight_world.h"

/* ---- claiming */

Test(flight, is_of_who_claims_alone_on_any_worker_for_any_shard)
{
    struct flights world = flights_create();
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        for (unsigned shard = 0; shard < WORKERS; shard++) {
            struct cache_key key = flights_key(&world, shard);
            struct fill fill;
            fill_lead(&fill, &world, worker, &key);
            cr_assert(flight_is_open(fill.flight));
            cr_assert_not(cache_core_is_settled(world.cores[worker]), "a flight is under way");
            fill_end(&fill);
            flights_run(&world);
            cr_assert(flights_are_settled(&world));
            cr_assert(fill.is_gone, "the flight gave its use back");
        }
    }
    flights_destroy(&world);
}

Test(flight, is_joined_by_the_second_claim_before_its_head_has_come)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        struct person person = person_of(&world, worker, NULL);
        cr_assert_eq(person_ask(&person, &key), FLIGHT_JOINED);
        cr_assert_eq(person.entry->status, 0);
        cr_assert_eq(person.entry == &fill.entry, worker == 0, "elsewhere it is a mirror");
        person_leave(&person);
        flights_run(&world);
        cr_assert_eq(fill.abandoned, worker + 1, "the last reader of all tells the filler");
    }
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight, of_another_variant_or_key_is_a_flight_of_its_own)
{
    struct flights world = flights_create();
    struct cache_key keys[] = {flights_key_of(&world, 1, 0, ""), flights_key_of(&world, 1, 0, "\nvary:a"),
                               flights_key_of(&world, 1, 0, "\nvary:b"), flights_key_of(&world, 1, 7, "")};
    struct fill fills[2 * ARRAY_COUNT(keys)];
    for (unsigned i = 0; i < ARRAY_COUNT(fills); i++) {
        fill_init(&fills[i], &world, 0, i);
        struct person person = person_of(&world, 0, &fills[i]);
        cr_assert_eq(flight_claim(world.cores[0], &person.waiter, &keys[i / 2], NULL, (uint8_t)(i % 2), UINT32_MAX),
                     RESULT_OK);
        flights_run(&world);
        cr_assert_eq(person.answer, FLIGHT_MINE);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(fills); i++) {
        fill_end(&fills[i]);
    }
    flights_destroy(&world);
}

static void claim_variant(struct person *person, const struct cache_key *key, uint8_t variant)
{
    struct cache_core *core = person->world->cores[person->worker];
    cr_assert_eq(flight_claim(core, &person->waiter, key, NULL, variant, UINT32_MAX), RESULT_OK);
    flights_run(person->world);
}

Test(flight, that_is_being_stored_is_waited_for_by_who_claims_another_variant)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    fill_head(&fill, "a: b\r\n");
    entry_complete(&fill.entry, NULL, 0);
    struct person waiting[WORKERS];
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        waiting[worker] = person_of(&world, worker, NULL);
        claim_variant(&waiting[worker], &key, (uint8_t)(1 + worker));
        cr_assert_not(waiting[worker].is_answered);
    }
    flight_claim_cancel(&waiting[1].waiter); /* goes while it waits */
    flight_release(fill.flight);
    fill.flight = NULL;
    flights_run(&world);
    cr_assert_not(waiting[1].is_answered);
    cr_assert(waiting[0].is_answered && waiting[2].is_answered);
    cr_assert_eq(waiting[0].answer, FLIGHT_LOOK_AGAIN);
    cr_assert_eq(waiting[2].answer, FLIGHT_LOOK_AGAIN);
    cr_assert(flights_are_settled(&world));
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight, that_will_not_be_stored_holds_up_no_other_variant)
{
    for (unsigned how = 0; how < 3; how++) {
        struct flights world = flights_create();
        struct cache_key key = flights_key(&world, 1);
        struct fill fill;
        struct fill other;
        fill_lead(&fill, &world, 0, &key);
        fill_head(&fill, "a: b\r\n");
        switch (how) {
        case 0: break; /* it goes on */
        case 1: entry_fail(&fill.entry, RESULT_CLOSED); break;
        default: entry_complete(&fill.entry, NULL, 0); flight_close(fill.flight, false);
        }
        fill_init(&other, &world, 2, 2);
        struct person person = person_of(&world, 2, &other);
        claim_variant(&person, &key, 3);
        cr_assert(person.is_answered, "%u", how);
        cr_assert_eq(person.answer, FLIGHT_MINE, "%u", how);
        fill_end(&other);
        fill_end(&fill);
        flights_run(&world);
        cr_assert(flights_are_settled(&world));
        flights_destroy(&world);
    }
}

Test(flight, is_joined_by_no_more_than_may_wait)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 2);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[4];
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        people[i] = person_of(&world, i % WORKERS, NULL);
        cr_assert_eq(flight_claim(world.cores[i % WORKERS], &people[i].waiter, &key, NULL, 0, 3), RESULT_OK);
    }
    flights_run(&world);
    unsigned joined = 0;
    unsigned alone = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        joined += people[i].answer == FLIGHT_JOINED;
        alone += people[i].answer == FLIGHT_ALONE;
        person_leave(&people[i]);
    }
    cr_assert_eq(joined, 3);
    cr_assert_eq(alone, 1);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight, is_found_among_thousands)
{
    enum { FLIGHTS = 1500 };
    struct flights world = flights_create();
    struct fill *fills = calloc(FLIGHTS, sizeof(*fills));
    struct person *people = calloc(FLIGHTS, sizeof(*people));
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < FLIGHTS; i++) {
            struct cache_key key = flights_key_of(&world, 0, i, "");
            if (round == 0) {
                fill_init(&fills[i], &world, 1, i);
            }
            people[i] = person_of(&world, round == 0 ? 1 : 2, &fills[i]);
            person_claim(&people[i], &key);
        }
        flights_run(&world);
        for (unsigned i = 0; i < FLIGHTS; i++) {
            cr_assert(people[i].is_answered);
            cr_assert_eq(people[i].answer, round == 0 ? FLIGHT_MINE : FLIGHT_JOINED);
            person_leave(&people[i]);
        }
    }
    cr_assert_eq(world.cores[0]->flights.count, FLIGHTS);
    for (unsigned i = 0; i < FLIGHTS; i++) {
        fill_end(&fills[i]);
    }
    flights_destroy(&world);
    free(fills);
    free(people);
}

/* ---- claims that nobody waits for any more */

Test(flight, claimed_by_somebody_who_has_gone_is_free_again)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct person gone = person_of(&world, 0, NULL);
    person_claim(&gone, &key);
    flight_claim_cancel(&gone.waiter);
    flight_claim_cancel(&gone.waiter); /* twice is once */
    struct person behind = person_of(&world, 2, NULL);
    person_claim(&behind, &key);
    flights_run(&world);
    cr_assert_not(gone.is_answered);
    if (behind.answer == FLIGHT_MINE) {
        flight_release(behind.waiter.flight); /* it came before the other one's claim */
    } else {
        cr_assert_eq(behind.answer, FLIGHT_LOOK_AGAIN, "its leader never began");
    }
    flights_run(&world);
    struct fill fill;
    fill_lead(&fill, &world, 1, &key);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight, joined_by_somebody_who_has_gone_is_left_again)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    for (unsigned worker = 0; worker < WORKERS; worker++) {
        struct person gone = person_of(&world, worker, NULL);
        person_claim(&gone, &key);
        flights_turn(&world);
        flight_claim_cancel(&gone.waiter);
        flights_run(&world);
        cr_assert_not(gone.is_answered);
        cr_assert(list_is_empty(&fill.entry.readers), "no mirror is left behind");
    }
    fill_end(&fill);
    flights_run(&world);
    cr_assert(fill.is_gone);
    flights_destroy(&world);
}

Test(flight, released_before_it_began_is_looked_for_again_by_who_joined)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct person leader = person_of(&world, 0, NULL);
    cr_assert_eq(person_ask(&leader, &key), FLIGHT_MINE);
    struct person others[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        others[i] = person_of(&world, i, NULL);
        cr_assert_eq(person_ask(&others[i], &key), FLIGHT_LOOK_AGAIN);
    }
    flight_release(leader.waiter.flight);
    flights_run(&world);
    cr_assert(flights_are_settled(&world));
    struct fill fill;
    fill_lead(&fill, &world, 2, &key);
    fill_end(&fill);
    flights_destroy(&world);
}

/* ---- closing, failing */

Test(flight, closed_while_it_goes_on_sends_who_comes_later_alone_and_nobody_away)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person early = person_of(&world, 2, NULL);
    cr_assert_eq(person_ask(&early, &key), FLIGHT_JOINED);
    flight_close(fill.flight, false);
    cr_assert_not(flight_is_open(fill.flight));
    for (unsigned i = 0; i < WORKERS; i++) {
        struct person late = person_of(&world, i, NULL);
        cr_assert_eq(person_ask(&late, &key), FLIGHT_ALONE);
    }
    fill_head(&fill, "A: b\r\n");
    entry_tell(&fill.entry);
    flights_run(&world);
    cr_assert_eq(early.told, 1);
    cr_assert_not(early.entry->is_expelled);
    entry_complete(&fill.entry, NULL, 0);
    entry_tell(&fill.entry);
    struct person last = person_of(&world, 1, NULL);
    cr_assert_eq(person_ask(&last, &key), FLIGHT_LOOK_AGAIN, "it is over: perhaps it was stored");
    person_leave(&early);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight, closed_with_expel_tells_all_who_joined_before_they_see_a_head)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        people[i] = person_of(&world, i, NULL);
        cr_assert_eq(person_ask(&people[i], &key), FLIGHT_JOINED);
    }
    flight_close(fill.flight, true);
    fill_head(&fill, "A: b\r\n");
    entry_tell(&fill.entry);
    flights_run(&world);
    for (unsigned i = 0; i < WORKERS; i++) {
        cr_assert_eq(people[i].told, 1);
        cr_assert(people[i].entry->is_expelled);
        person_leave(&people[i]);
    }
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight, that_fails_says_why_to_all_who_joined)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        people[i] = person_of(&world, i, NULL);
        cr_assert_eq(person_ask(&people[i], &key), FLIGHT_JOINED);
    }
    fill.entry.failure_text = "no";
    fill.entry.was_connected = true;
    entry_fail(&fill.entry, RESULT_RESET);
    entry_tell(&fill.entry);
    flights_run(&world);
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct entry *entry = people[i].entry;
        cr_assert_eq(entry->state, ENTRY_FAILED);
        cr_assert_eq(entry->failure, RESULT_RESET);
        cr_assert_str_eq(entry->failure_text, "no");
        cr_assert(entry->was_connected);
        person_leave(&people[i]);
    }
    fill_end(&fill);
    flights_destroy(&world);
}
