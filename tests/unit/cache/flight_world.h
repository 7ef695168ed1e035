/* Three workers' views of one cache, turned in order on one thread, and people who ask: who is to fetch fills an entry,
 * who is led to one reads it. What is filled can be told from its seed. */
#ifndef TESTS_CACHE_FLIGHT_WORLD_H
#define TESTS_CACHE_FLIGHT_WORLD_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"
#include "cache/flight.h"
#include "loop.h"
#include "ring/internal.h"

enum {
    WORKERS = 3,
    CACHE_BYTES_MAX = 24 << 20,
    TURNS_MAX = 20000,
    WINDOW_BYTES = 64 << 10,
};

struct flights {
    struct ring_group *group;
    struct cache *cache;
    struct ring *rings[WORKERS];
    struct cache_core *cores[WORKERS];
    struct chunk_pool pools[WORKERS];
};

static inline struct flights flights_create(void)
{
    struct flights world = {.group = ring_group_create(WORKERS)};
    world.cache = cache_create(&(struct cache_options){
        .workers = WORKERS, .policy = EVICT_COST, .bytes_max = CACHE_BYTES_MAX, .object_bytes_max = 4 << 20});
    cr_assert(world.group != NULL && world.cache != NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        world.rings[i] =
            loop_create(&(struct ring_options){.cpu = -1, .receive_buffers = 8, .group = world.group, .index = i});
        world.cores[i] = cache_core_create(world.cache, world.rings[i]);
        cr_assert_not_null(world.cores[i]);
        chunk_pool_init(&world.pools[i], 0);
    }
    return world;
}

struct stop_task {
    struct ring_task task;
    struct ring *ring;
};

static inline void stop_on_run(struct ring_task *task)
{
    ring_stop(CONTAINER_OF(task, struct stop_task, task)->ring);
}

/* One turn of one worker; it does not sleep. */
static inline void flights_turn_one(struct flights *world, unsigned worker)
{
    struct stop_task stop = {.ring = world->rings[worker]};
    ring_task_init(&stop.task, stop_on_run);
    ring_defer(stop.ring, &stop.task);
    stop.ring->stopping = false;
    ring_run(stop.ring);
}

static inline void flights_turn(struct flights *world)
{
    for (unsigned i = 0; i < WORKERS; i++) {
        flights_turn_one(world, i);
    }
}

/* As many turns as messages between any two need to have come and gone, and what they cause, too. */
static inline void flights_run(struct flights *world)
{
    for (unsigned turn = 0; turn < 12; turn++) {
        flights_turn(world);
    }
}

static inline bool flights_are_settled(const struct flights *world)
{
    bool are_settled = true;
    for (unsigned i = 0; i < WORKERS; i++) {
        are_settled = are_settled && cache_core_is_settled(world->cores[i]);
    }
    return are_settled;
}

static inline void flights_turn_until(struct flights *world, const bool *flag)
{
    for (unsigned turn = 0; turn < TURNS_MAX && !*flag; turn++) {
        flights_turn(world);
    }
    cr_assert(*flag, "it never happened");
}

/* Everything is over: nothing may be under way, no chunk in use, and all goes. */
static inline void flights_destroy(struct flights *world)
{
    flights_run(world);
    cr_assert(flights_are_settled(world), "something is still under way");
    for (unsigned i = 0; i < WORKERS; i++) {
        cr_assert_eq(world->cores[i]->flights.count, 0);
        cr_assert_eq(world->pools[i].used_bytes, 0, "worker %u has chunks in use", i);
        chunk_pool_fini(&world->pools[i]);
        cache_core_destroy(world->cores[i]);
        ring_destroy(world->rings[i]);
    }
    cache_destroy(world->cache);
    ring_group_destroy(world->group);
}

/* ---- keys */

/* The `number`th key whose shard is `shard`'s, with `suffix` behind the primary bytes. */
static inline struct cache_key flights_key_of(const struct flights *world, unsigned shard, unsigned number,
                                              const char *suffix)
{
    static char texts[16][64];
    static unsigned next;
    char *text = texts[next++ % 16];
    for (unsigned i = 0;; i++) {
        size_t primary = (size_t)snprintf(text, sizeof(texts[0]), "http://host/%u/%u", number, i);
        size_t len = primary + (size_t)snprintf(text + primary, sizeof(texts[0]) - primary, "%s", suffix);
        struct cache_key key = cache_key_make(world->cache, (struct bytes){text, len}, primary);
        if (key.shard == shard) {
            return key;
        }
    }
}

static inline struct cache_key flights_key(const struct flights *world, unsigned shard)
{
    return flights_key_of(world, shard, 0, "");
}

/* ---- filling */

static inline char body_byte(uint64_t seed, uint64_t at)
{
    return (char)((seed * 31 + at) * 0x9e3779b97f4a7c15u >> 56);
}

struct fill {
    struct entry entry;
    struct entry_filler filler;
    struct flight *flight;
    uint64_t seed;
    unsigned drained;
    unsigned abandoned;
    bool is_gone; /* the last use */
};

static inline void fill_on_drained(struct entry_filler *filler)
{
    CONTAINER_OF(filler, struct fill, filler)->drained++;
}

static inline void fill_on_abandoned(struct entry_filler *filler)
{
    CONTAINER_OF(filler, struct fill, filler)->abandoned++;
}

static inline void fill_on_unused(struct entry *entry)
{
    entry_fini(entry);
    CONTAINER_OF(entry, struct fill, entry)->is_gone = true;
}

/* An empty entry, of whose uses one is the test's: fill_end takes it back. */
static inline void fill_init(struct fill *fill, struct flights *world, unsigned worker, uint64_t seed)
{
    *fill = (struct fill){.seed = seed, .filler = {fill_on_drained, fill_on_abandoned}};
    entry_init(&fill->entry, &world->pools[worker], &fill->filler, WINDOW_BYTES, false);
    fill->entry.on_unused = fill_on_unused;
}

static inline void fill_head(struct fill *fill, const char *lines)
{
    char *at;
    cr_assert_eq(entry_room_for_head(&fill->entry, strlen(lines), &at), RESULT_OK);
    memcpy(at, lines, strlen(lines));
    entry_commit_head(&fill->entry, 200, strlen(lines));
}

static inline void fill_body(struct fill *fill, uint64_t bytes)
{
    while (bytes > 0) {
        char run[1000];
        size_t part = bytes < sizeof(run) ? (size_t)bytes : sizeof(run);
        for (size_t i = 0; i < part; i++) {
            run[i] = body_byte(fill->seed, fill->entry.body_bytes + i);
        }
        cr_assert_eq(entry_append(&fill->entry, (struct bytes){run, part}), RESULT_OK);
        bytes -= part;
    }
}

/* Releases the flight, if it leads one, and gives back the test's use. */
static inline void fill_end(struct fill *fill)
{
    if (fill->flight != NULL) {
        flight_release(fill->flight);
        fill->flight = NULL;
    }
    if (fill->entry.state == ENTRY_FILLING) {
        entry_fail(&fill->entry, RESULT_CANCELED);
    }
    entry_tell(&fill->entry);
    entry_unref(&fill->entry);
}

/* ---- asking */

struct person {
    struct flight_waiter waiter;
    struct flights *world;
    unsigned worker;
    struct fill *fill; /* what is filled when it is to fetch; NULL: it is not begun */
    uint64_t read_max; /* reads no further */
    uint64_t seed;     /* of what it reads */

    bool is_answered;
    enum flight_answer answer;
    struct entry *entry; /* joined: one use */
    struct entry_reader reader;
    unsigned told;
    unsigned slow; /* times that it was told to be too slow */
    uint64_t slow_below;
    bool others_wait;
};

static inline void person_read(struct person *person)
{
    struct entry_reader *reader = &person->reader;
    while (reader->position < person->read_max) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(reader, &hold);
        if (run.len == 0) {
            return;
        }
        uint64_t left = person->read_max - reader->position;
        size_t part = run.len < left ? run.len : (size_t)left;
        for (size_t i = 0; i < part; i++) {
            if (run.ptr[i] != body_byte(person->seed, reader->position + i)) {
                cr_assert_fail("byte %lu is not what was filled", (unsigned long)(reader->position + i));
            }
        }
        entry_reader_pass(reader, part);
    }
}

static inline void person_on_progress(struct entry_reader *reader)
{
    struct person *person = CONTAINER_OF(reader, struct person, reader);
    person->told++;
    person_read(person);
}

static inline void person_on_slow(struct entry_reader *reader, uint64_t below, bool others_wait)
{
    struct person *person = CONTAINER_OF(reader, struct person, reader);
    person->slow++;
    person->slow_below = below;
    person->others_wait = others_wait;
}

static inline void person_on_answer(struct flight_waiter *waiter, enum flight_answer answer)
{
    struct person *person = CONTAINER_OF(waiter, struct person, waiter);
    cr_assert_not(person->is_answered);
    person->is_answered = true;
    person->answer = answer;
    if (answer == FLIGHT_MINE && person->fill != NULL) {
        person->fill->flight = waiter->flight;
        flight_begin(waiter->flight, &person->fill->entry);
    }
    if (answer == FLIGHT_JOINED) {
        person->entry = waiter->entry;
        entry_reader_join(&person->reader, person->entry, person_on_progress);
        person->reader.on_slow = person_on_slow;
        person_read(person);
    }
}

static inline struct person person_of(struct flights *world, unsigned worker, struct fill *fill)
{
    return (struct person){.waiter.on_answer = person_on_answer,
                           .world = world,
                           .worker = worker,
                           .fill = fill,
                           .read_max = UINT64_MAX,
                           .seed = 1};
}

/* Asks; the answer comes while the world turns. *Keeps* person. */
static inline void person_claim(struct person *person, const struct cache_key *key)
{
    enum result result = flight_claim(person->world->cores[person->worker], &person->waiter, key, NULL, 0, UINT32_MAX);
    cr_assert_eq(result, RESULT_OK);
    cr_assert_not(person->is_answered, "not from inside the call");
}

static inline enum flight_answer person_ask(struct person *person, const struct cache_key *key)
{
    person_claim(person, key);
    flights_run(person->world);
    cr_assert(person->is_answered);
    return person->answer;
}

/* Leaves what it reads. */
static inline void person_leave(struct person *person)
{
    entry_reader_leave(&person->reader);
    if (person->entry != NULL) {
        entry_unref(person->entry);
        person->entry = NULL;
    }
}

/* Claims the key on `worker` for an entry, which is begun. */
static inline void fill_lead(struct fill *fill, struct flights *world, unsigned worker, const struct cache_key *key)
{
    fill_init(fill, world, worker, 1);
    struct person leader = person_of(world, worker, fill);
    cr_assert_eq(person_ask(&leader, key), FLIGHT_MINE);
}

#endif
