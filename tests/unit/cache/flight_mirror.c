/* Reading an entry of another worker: what is shown there, who waits for whom, and who leaves when. Worker 0 leads. */
#include "flight_world.h"

static void joined(struct person *person, struct flights *world, unsigned worker, const struct cache_key *key)
{
    *person = person_of(world, worker, NULL);
    cr_assert_eq(person_ask(person, key), FLIGHT_JOINED);
}

static unsigned count_readers(const struct entry *entry)
{
    unsigned count = 0;
    for (const struct list_node *node = entry->readers.next; node != &entry->readers; node = node->next) {
        count++;
    }
    return count;
}

/* ---- what is shown */

Test(flight_mirror, shows_head_body_and_trailers_as_they_come)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        joined(&people[i], &world, i, &key);
    }
    static const struct entry_variant variant = {.key = BYTES("x")};
    fill.entry.content_length = 70000;
    fill.entry.has_content_length = true;
    fill.entry.has_date = true;
    fill.entry.is_event_stream = true;
    fill.entry.variant = &variant;
    fill.entry.not_stored_why = "why";
    fill_head(&fill, "A: b\r\n");
    fill_body(&fill, 100);
    entry_tell(&fill.entry);
    flights_run(&world);
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct entry *entry = people[i].entry;
        cr_assert_eq(entry->status, 200);
        cr_assert(entry->has_content_length && entry->has_date && entry->is_event_stream && !entry->has_request_id);
        cr_assert_eq(entry->content_length, 70000);
        cr_assert_eq(entry->variant, &variant);
        cr_assert_str_eq(entry->not_stored_why, "why");
        cr_assert(bytes_equal((struct bytes){entry->head->data, entry->head_bytes}, BYTES("A: b\r\n")));
        cr_assert_eq(people[i].reader.position, 100);
        cr_assert_eq(entry->body_bytes, 100);
    }
    fill_body(&fill, 69900);
    entry_complete(&fill.entry, strdup("T: v\r\n"), 6);
    entry_tell(&fill.entry);
    flights_run(&world);
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct entry *entry = people[i].entry;
        cr_assert_eq(entry->state, ENTRY_COMPLETE);
        cr_assert_eq(people[i].reader.position, 70000);
        cr_assert(entry_reader_is_level(&people[i].reader));
        cr_assert(bytes_equal((struct bytes){entry->trailers, entry->trailer_bytes}, BYTES("T: v\r\n")));
        person_leave(&people[i]);
    }
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, shows_who_joins_late_everything_from_the_first_byte)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 2);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    fill_head(&fill, "A: b\r\n");
    struct person people[6];
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        fill_body(&fill, 30000);
        entry_tell(&fill.entry);
        joined(&people[i], &world, i % WORKERS, &key);
        cr_assert_eq(people[i].reader.position, (i + 1) * 30000);
    }
    entry_complete(&fill.entry, NULL, 0);
    entry_tell(&fill.entry);
    struct person last;
    joined(&last, &world, 1, &key);
    cr_assert_eq(last.reader.position, ARRAY_COUNT(people) * 30000);
    cr_assert_eq(last.entry->state, ENTRY_COMPLETE, "it is over, and not released yet");
    flights_run(&world);
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        cr_assert_eq(people[i].reader.position, ARRAY_COUNT(people) * 30000);
        person_leave(&people[i]);
    }
    person_leave(&last);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, is_one_for_all_who_read_on_a_worker)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[20];
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        joined(&people[i], &world, 1 + i % 2, &key);
    }
    cr_assert_eq(count_readers(&fill.entry), 2);
    fill_head(&fill, "A: b\r\n");
    for (unsigned i = 0; i < 50; i++) {
        fill_body(&fill, 10);
        entry_tell(&fill.entry); /* worker 0 alone turns: all of it is one piece of news to the others */
        flights_turn_one(&world, 0);
    }
    flights_run(&world);
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        cr_assert_eq(people[i].told, 1, "%u times", people[i].told);
        cr_assert_eq(people[i].reader.position, 500);
        person_leave(&people[i]);
    }
    fill_end(&fill);
    flights_destroy(&world);
}

/* ---- leaving */

Test(flight_mirror, goes_when_its_last_reader_has_left_and_comes_anew)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person own, first, second;
    joined(&own, &world, 0, &key);
    joined(&first, &world, 2, &key);
    joined(&second, &world, 2, &key);
    fill_head(&fill, "A: b\r\n");
    fill_body(&fill, 5000);
    person_leave(&first);
    flights_run(&world);
    cr_assert_eq(count_readers(&fill.entry), 2);
    person_leave(&second);
    flights_run(&world);
    cr_assert_eq(count_readers(&fill.entry), 1);
    cr_assert(cache_core_is_settled(world.cores[2]));
    cr_assert_eq(fill.abandoned, 0, "its own client still reads");
    joined(&first, &world, 2, &key);
    cr_assert_eq(first.reader.position, 5000);
    person_leave(&own);
    cr_assert_eq(fill.abandoned, 0, "somebody elsewhere reads");
    person_leave(&first);
    flights_run(&world);
    cr_assert_eq(fill.abandoned, 1);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, that_has_just_been_left_is_looked_for_again)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person own, first;
    joined(&own, &world, 0, &key);
    joined(&first, &world, 2, &key);
    struct person second = person_of(&world, 2, NULL);
    person_claim(&second, &key);
    flights_turn_one(&world, 1); /* the owner sends it on */
    flights_turn_one(&world, 0); /* the leader leads it to the mirror that there is */
    person_leave(&first);
    flights_run(&world);
    cr_assert_eq(second.answer, FLIGHT_LOOK_AGAIN);
    struct person third;
    joined(&third, &world, 2, &key);
    person_leave(&third);
    person_leave(&own);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, is_read_on_after_leader_and_flight_have_gone)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person slow, other;
    joined(&slow, &world, 2, &key);
    joined(&other, &world, 1, &key);
    slow.read_max = 10;
    fill_head(&fill, "A: b\r\n");
    fill_body(&fill, 200000);
    entry_complete(&fill.entry, strdup("T: v\r\n"), 6);
    fill_end(&fill);
    flights_run(&world);
    cr_assert_eq(other.reader.position, 200000);
    cr_assert_eq(world.cores[1]->flights.count, 0);
    cr_assert(cache_core_is_settled(world.cores[0]));
    cr_assert_not(fill.is_gone);
    person_leave(&other);
    slow.read_max = UINT64_MAX;
    person_read(&slow);
    cr_assert_eq(slow.reader.position, 200000);
    cr_assert_str_eq(slow.entry->trailers, "T: v\r\n");
    cr_assert_not(cache_core_is_settled(world.cores[2]));
    person_leave(&slow);
    flights_run(&world);
    cr_assert(fill.is_gone);
    flights_destroy(&world);
}

/* Leaves, and gives its use back, from inside being told. */
static void on_progress_leave(struct entry_reader *reader)
{
    struct person *person = CONTAINER_OF(reader, struct person, reader);
    person->told++;
    person_leave(person);
}

Test(flight_mirror, may_be_left_by_all_from_inside_being_told)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[9];
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        joined(&people[i], &world, i % WORKERS, &key);
        people[i].reader.on_progress = on_progress_leave;
    }
    fill_head(&fill, "A: b\r\n");
    entry_tell(&fill.entry);
    fill_body(&fill, 10);
    entry_tell(&fill.entry); /* news of what nobody over there wants any more */
    flights_run(&world);
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        cr_assert_eq(people[i].told, 1);
    }
    cr_assert_eq(fill.abandoned, 1);
    fill_end(&fill);
    flights_destroy(&world);
}

/* ---- entries that are not kept */

Test(flight_mirror, of_what_has_become_private_is_joined_by_nobody_any_more)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person early;
    joined(&early, &world, 2, &key);
    fill_head(&fill, "A: b\r\n");
    entry_make_private(&fill.entry);
    entry_tell(&fill.entry);
    for (unsigned i = 0; i < WORKERS; i++) {
        struct person late = person_of(&world, i, NULL);
        cr_assert_eq(person_ask(&late, &key), FLIGHT_ALONE);
    }
    fill_body(&fill, 1000);
    entry_tell(&fill.entry);
    flights_run(&world);
    cr_assert_eq(early.reader.position, 1000);
    person_leave(&early);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, of_what_becomes_private_on_the_way_is_read_whole_or_not_at_all)
{
    for (unsigned turns = 0; turns < 9; turns++) {
        struct flights world = flights_create();
        struct cache_key key = flights_key(&world, 1);
        struct fill fill;
        fill_lead(&fill, &world, 0, &key);
        fill_head(&fill, "A: b\r\n");
        fill_body(&fill, 40000);
        struct person people[WORKERS];
        for (unsigned i = 0; i < WORKERS; i++) {
            people[i] = person_of(&world, i, NULL);
            person_claim(&people[i], &key);
        }
        for (unsigned i = 0; i < turns; i++) {
            flights_turn_one(&world, (i + 1) % WORKERS);
        }
        entry_make_private(&fill.entry);
        for (unsigned i = 0; i < 20; i++) {
            fill_body(&fill, 10000);
            entry_tell(&fill.entry);
            flights_turn(&world);
        }
        flights_run(&world);
        for (unsigned i = 0; i < WORKERS; i++) {
            cr_assert(people[i].answer == FLIGHT_ALONE || people[i].reader.position == 240000);
            person_leave(&people[i]);
        }
        fill_end(&fill);
        flights_destroy(&world);
    }
}

Test(flight_mirror, tells_how_far_its_readers_are_so_that_the_filler_goes_on)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person people[4];
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        joined(&people[i], &world, 1 + i % 2, &key);
        people[i].seed = 1;
    }
    fill_head(&fill, "A: b\r\n");
    entry_make_private(&fill.entry);
    for (unsigned i = 0; i < 100; i++) {
        while (!entry_is_full(&fill.entry)) {
            fill_body(&fill, 7000);
        }
        entry_tell(&fill.entry);
        flights_run(&world);
        cr_assert_eq(fill.drained, i + 1, "the filler waits for ever after %u windows", i);
        cr_assert_leq(world.pools[0].used_bytes, WINDOW_BYTES + 4 * CHUNK_LARGE_BYTES, "what was read is let go");
    }
    for (unsigned i = 0; i < ARRAY_COUNT(people); i++) {
        cr_assert_eq(people[i].reader.position, fill.entry.body_bytes);
        person_leave(&people[i]);
    }
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, holds_the_filler_up_for_its_slowest_reader_until_it_reads_or_leaves)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person quick, slow, slowest;
    joined(&quick, &world, 0, &key);
    joined(&slow, &world, 1, &key);
    joined(&slowest, &world, 1, &key);
    fill_head(&fill, "A: b\r\n");
    fill.entry.keep_bytes_max = 1000; /* it becomes private by growing */
    slow.read_max = WINDOW_BYTES;
    slowest.read_max = 5000;
    while (!entry_is_full(&fill.entry)) {
        fill_body(&fill, 7000);
    }
    entry_tell(&fill.entry);
    flights_run(&world);
    cr_assert_eq(quick.reader.position, fill.entry.body_bytes);
    cr_assert_eq(fill.drained, 0);
    person_leave(&slowest);
    flights_run(&world);
    cr_assert_eq(fill.drained, 1, "the next slowest counts");
    while (!entry_is_full(&fill.entry)) {
        fill_body(&fill, 7000);
    }
    entry_tell(&fill.entry);
    flights_run(&world);
    cr_assert_eq(fill.drained, 1);
    slow.read_max = UINT64_MAX;
    person_read(&slow);
    flights_run(&world);
    cr_assert_eq(fill.drained, 2);
    person_leave(&slow);
    person_leave(&quick);
    fill_end(&fill);
    flights_destroy(&world);
}

Test(flight_mirror, tells_readers_there_that_they_hold_up_others_here)
{
    struct flights world = flights_create();
    struct cache_key key = flights_key(&world, 1);
    struct fill fill;
    fill_lead(&fill, &world, 0, &key);
    struct person quick, slow, fast;
    joined(&slow, &world, 1, &key);
    slow.read_max = 10;
    fill_head(&fill, "A: b\r\n");
    joined(&quick, &world, 0, &key);
    joined(&fast, &world, 1, &key);
    entry_make_private(&fill.entry);
    fill_body(&fill, 50000);
    entry_tell(&fill.entry);
    flights_run(&world);
    entry_shed_slow(&fill.entry, 20000, false);
    flights_run(&world);
    cr_assert_eq(slow.slow, 1);
    cr_assert_eq(slow.slow_below, 20000);
    cr_assert(slow.others_wait);
    cr_assert_eq(fast.slow, 0);
    cr_assert_eq(quick.slow, 0);
    person_leave(&quick);
    person_leave(&fast);
    flights_run(&world);
    entry_shed_slow(&fill.entry, 20000, false);
    flights_run(&world);
    cr_assert_eq(slow.slow, 2);
    cr_assert_not(slow.others_wait, "it is alone by now");
    person_leave(&slow);
    fill_end(&fill);
    flights_destroy(&world);
}
