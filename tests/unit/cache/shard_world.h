/* A shard with a qsbr of two workers, and what its tests do with it. Worker 0 owns the shard and is online. */
#ifndef TESTS_CACHE_SHARD_WORLD_H
#define TESTS_CACHE_SHARD_WORLD_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/qsbr.h"
#include "cache/shard.h"

struct world {
    struct qsbr *qsbr;
    struct shard *shard;
    int64_t now_ms;
};

enum { WORLD_READER = 1 };

static inline struct world world_create_with(enum evict_policy policy, uint64_t bytes_max, uint64_t entries_max)
{
    struct world world = {.qsbr = qsbr_create(2), .now_ms = INT64_C(1700000000000)};
    cr_assert_not_null(world.qsbr);
    qsbr_online(world.qsbr, 0);
    world.shard = shard_create(&(struct shard_options){
        .qsbr = world.qsbr, .policy = policy, .bytes_max = bytes_max, .entries_max = entries_max});
    cr_assert_not_null(world.shard);
    return world;
}

static inline struct world world_create(uint64_t bytes_max, uint64_t entries_max)
{
    return world_create_with(EVICT_COST, bytes_max, entries_max);
}

static inline void world_destroy(struct world *world)
{
    shard_destroy(world->shard);
    qsbr_destroy(world->qsbr);
}

static inline bool world_turn(struct world *world)
{
    qsbr_quiescent(world->qsbr, 0);
    return shard_turn(world->shard, world->now_ms);
}

/* Turns until nothing is left to do at once, and nothing waits but for others. */
static inline void world_settle(struct world *world)
{
    for (int turn = 0; turn < 5; turn++) {
        while (world_turn(world)) {
        }
    }
}

/* Not the real one, but as good: FNV-1a, mixed. */
static inline uint64_t world_hash(struct bytes key)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < key.len; i++) {
        hash = (hash ^ (unsigned char)key.ptr[i]) * 0x100000001b3u;
    }
    hash ^= hash >> 32;
    return hash * 0x9e3779b97f4a7c15u;
}

static inline struct shard_draft world_draft(struct bytes key, uint64_t body_bytes)
{
    return (struct shard_draft){
        .key = key,
        .hash = world_hash(key),
        .lines = BYTES("Content-Type: text/plain\r\n"),
        .body_bytes = body_bytes,
        .content_length = body_bytes,
        .cost = 1.0,
        .remove_at_ms = INT64_MAX,
        .status = 200,
        .has_content_length = true,
    };
}

/* What stands at `at` of the body made from `seed`. */
static inline char world_byte(uint64_t seed, uint64_t at)
{
    return (char)((seed * 31 + at) * 0x9e3779b97f4a7c15u >> 56);
}

static inline void world_body(struct world *world, struct shard_store *store, uint64_t seed, uint64_t from, uint64_t to)
{
    char run[5000];
    while (from < to) {
        size_t part = to - from < sizeof(run) ? (size_t)(to - from) : sizeof(run);
        for (size_t i = 0; i < part; i++) {
            run[i] = world_byte(seed, from + i);
        }
        shard_store_body(world->shard, store, (struct bytes){run, part});
        from += part;
    }
}

/* Stores with as many turns as it takes; the result is of the last call. */
static inline enum result world_store(struct world *world, const struct shard_draft *draft, uint64_t seed)
{
    struct shard_store store;
    enum result result = RESULT_MORE;
    for (int turn = 0; turn < 1000 && (result = shard_store_begin(world->shard, &store, draft)) == RESULT_MORE;
         turn++) {
        world_turn(world);
    }
    if (result != RESULT_OK) {
        return result;
    }
    world_body(world, &store, seed, 0, draft->body_bytes);
    return shard_store_commit(world->shard, &store);
}

static inline struct cache_object *world_find(struct world *world, struct bytes key)
{
    return shard_find(world->shard, world_hash(key), key);
}

static inline void world_verify_body(const struct cache_object *object, uint64_t seed)
{
    uint64_t at = 0;
    for (const struct chunk *piece = object->body; piece != NULL; piece = atomic_load(&piece->next)) {
        for (uint32_t i = 0; i < chunk_used(piece); i++, at++) {
            if (piece->data[i] != world_byte(seed, at)) {
                cr_assert_fail("byte %lu of the body is not what was stored", (unsigned long)at);
            }
        }
    }
    cr_assert_eq(at, object->body_bytes);
}

static inline uint64_t world_counter(const _Atomic uint64_t *counter)
{
    return atomic_load(counter);
}

#define COUNTER(world, name) world_counter(&shard_counters((world).shard)->name)

/* "k17" and the like; static, so one at a time. */
static inline struct bytes world_key(unsigned number)
{
    static char keys[4][24];
    static unsigned next;
    char *key = keys[next++ % 4];
    return (struct bytes){key, (size_t)snprintf(key, sizeof(keys[0]), "k%u", number)};
}

#endif
