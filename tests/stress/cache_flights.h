/* The workers of cache_flights.c, and what they fill: an entry whose body can be told from its key and a stamp in its
 * head. It is filled in pieces with pauses, and stored, or fails, or sends away who joined, or becomes private. */
#ifndef TESTS_STRESS_CACHE_FLIGHTS_H
#define TESTS_STRESS_CACHE_FLIGHTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/cache.h"
#include "cache/flight.h"
#include "loop.h"
#include "ring/internal.h"

enum {
    WORKERS = 3,
    KEYS = 5,
    ASKERS = 24, /* per worker, at once */
    CLAIMS = 6000,
    CACHE_BYTES_MAX = 6 << 20,
    OBJECT_BYTES_MAX = 200 << 10,
    WINDOW_BYTES = 32 << 10,
    PIECE_BYTES_MAX = 30000,
    HEAD_BYTES = 16,
    PURGES = 2, /* per worker, at once */
};

struct worker;

struct fill {
    struct entry entry;
    struct entry_filler filler;
    struct cache_put put;
    struct worker *worker;
    struct flight *flight; /* NULL: it is filled for its asker alone */
    struct ring_timer timer;
    struct ring_task end; /* it was abandoned */
    unsigned key;
    uint64_t seed;
    uint64_t left_bytes;
    bool will_fail;
    bool will_expel;
    bool is_over;
    bool was_full;
    nanos asked_ns;
    struct cache_key cache_key;
    char text[16];
};

struct asker {
    struct flight_waiter waiter;
    struct worker *worker;
    struct ring_timer timer;
    struct entry *entry; /* one use; NULL: it asks, or rests */
    struct entry_reader reader;
    unsigned key;
    uint64_t seed;
    uint64_t seed_min; /* anything older was removed before it asked */
    bool knows_seed;
    bool is_slow; /* reads only now and then */
    uint64_t stops_at;
};

struct purging {
    struct cache_purge purge;
    struct cache_removal removal;
    struct worker *worker;
    char text[16];
    unsigned key_first; /* what is removed */
    unsigned key_count;
    uint64_t stamp;
    bool is_under_way;
};

struct shared {
    struct ring_group *group;
    struct cache *cache;
    _Atomic uint64_t stamp;         /* the last one given */
    _Atomic uint64_t removed[KEYS]; /* of the newest removal that is through: older bodies are found by nobody since */
    _Atomic unsigned ready;
    _Atomic unsigned done; /* workers who ask no more and have nothing under way */
};

struct worker {
    struct shared *shared;
    struct ring *ring;
    struct cache_core *core;
    struct chunk_pool pool;
    struct ring_timer timer; /* purges, removals, and looks whether it is over */
    uint64_t random;
    unsigned index;
    unsigned claims;
    unsigned open; /* askers, fills, purges that are not over */
    bool is_done;
    struct asker askers[ASKERS];
    struct purging purgings[PURGES];
    unsigned answers[FLIGHT_ALONE + 1];
    unsigned stored, doomed, expelled, failed, finished, hits, slow, abandoned, mirrored;
};

static inline uint64_t random_below(struct worker *worker, uint64_t bound)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (worker->random >> 33) % bound;
}

static inline bool one_in(struct worker *worker, unsigned count)
{
    return random_below(worker, count) == 0;
}

static inline void later(struct worker *worker, struct ring_timer *timer, unsigned ms_max)
{
    ring_timer_set(worker->ring, timer, ring_now(worker->ring) + random_below(worker, ms_max + 1) * NANOS_PER_MS);
}

static inline char body_byte(unsigned key, uint64_t seed, uint64_t at)
{
    return (char)((seed * 31 + key * 7 + at) * 0x9e3779b97f4a7c15u >> 56);
}

/* *text* has room for 16. */
static inline struct cache_key key_of(const struct worker *worker, unsigned key, char *text)
{
    size_t len = (size_t)snprintf(text, 16, "key %u", key);
    return cache_key_make(worker->shared->cache, (struct bytes){text, len}, len);
}

/* ---- filling */

static inline void fill_step(struct fill *fill);

static inline void fill_on_timer(struct ring_timer *timer)
{
    fill_step(CONTAINER_OF(timer, struct fill, timer));
}

static inline void fill_release(struct fill *fill)
{
    if (fill->flight != NULL) {
        flight_release(fill->flight);
        fill->flight = NULL;
    }
    entry_unref(&fill->entry);
}

static inline void fill_end_failed(struct fill *fill, enum result why)
{
    fill->is_over = true;
    ring_timer_cancel(fill->worker->ring, &fill->timer);
    fill->entry.failure_text = "failed";
    entry_fail(&fill->entry, why);
    entry_tell(&fill->entry);
    fill_release(fill);
}

static inline void fill_on_end_task(struct ring_task *task)
{
    struct fill *fill = CONTAINER_OF(task, struct fill, end);
    if (!fill->is_over) {
        fill_end_failed(fill, RESULT_CANCELED);
    }
}

static inline void fill_on_drained(struct entry_filler *filler)
{
    struct fill *fill = CONTAINER_OF(filler, struct fill, filler);
    later(fill->worker, &fill->timer, 1);
}

static inline void fill_on_abandoned(struct entry_filler *filler)
{
    struct fill *fill = CONTAINER_OF(filler, struct fill, filler);
    fill->worker->abandoned++;
    ring_defer(fill->worker->ring, &fill->end); /* from the loop, as a fetch ends */
}

static inline void fill_on_unused(struct entry *entry)
{
    struct fill *fill = CONTAINER_OF(entry, struct fill, entry);
    CHECK(fill->is_over);
    ring_task_cancel(&fill->end);
    ring_timer_cancel(fill->worker->ring, &fill->timer);
    fill->worker->open--;
    entry_fini(entry);
    free(fill);
}

static inline void fill_on_put(struct cache_put *put, enum result result)
{
    struct fill *fill = CONTAINER_OF(put, struct fill, put);
    CHECK(result == RESULT_OK || result == RESULT_CANCELED || result == RESULT_LIMIT || result == RESULT_NO_MEMORY);
    fill->worker->stored += result == RESULT_OK;
    fill->worker->doomed += result == RESULT_CANCELED;
    fill_release(fill);
}

static inline void fill_complete(struct fill *fill)
{
    fill->is_over = true;
    entry_complete(&fill->entry, NULL, 0);
    entry_tell(&fill->entry);
    if (fill->entry.is_private || (fill->flight != NULL && !flight_is_open(fill->flight))) {
        fill_release(fill);
        return;
    }
    fill->put = (struct cache_put){.kind = CACHE_PUT_STORE,
                                   .shard = fill->cache_key.shard,
                                   .draft = {.key = fill->cache_key.bytes,
                                             .hash = fill->cache_key.hash,
                                             .body_bytes = fill->entry.body_bytes,
                                             .cost = 1,
                                             .cost_ns = fill->seed,
                                             .status = 200,
                                             .freshness.response_ms = (int64_t)fill->seed,
                                             .remove_at_ms = ring_unix_ms(fill->worker->ring) + 20},
                                   .entry = &fill->entry,
                                   .flight = fill->flight,
                                   .primary_bytes = fill->cache_key.primary_bytes,
                                   .asked_ns = fill->asked_ns,
                                   .on_done = fill_on_put};
    cache_put(fill->worker->core, &fill->put);
}

static inline void fill_head(struct fill *fill)
{
    char *at;
    CHECK(entry_room_for_head(&fill->entry, HEAD_BYTES, &at) == RESULT_OK);
    memset(at, 0, HEAD_BYTES);
    memcpy(at, &fill->seed, sizeof(fill->seed));
    if (fill->flight != NULL && fill->will_expel) {
        flight_close(fill->flight, true);
        entry_make_private(&fill->entry);
    }
    entry_commit_head(&fill->entry, 200, HEAD_BYTES);
}

static inline void fill_piece(struct fill *fill)
{
    static _Thread_local char run[PIECE_BYTES_MAX];
    size_t bytes = 1 + random_below(fill->worker, PIECE_BYTES_MAX);
    bytes = bytes < fill->left_bytes ? bytes : (size_t)fill->left_bytes;
    for (size_t i = 0; i < bytes; i++) {
        run[i] = body_byte(fill->key, fill->seed, fill->entry.body_bytes + i);
    }
    CHECK(entry_append(&fill->entry, (struct bytes){run, bytes}) == RESULT_OK);
    fill->left_bytes -= bytes;
}

static inline void fill_step(struct fill *fill)
{
    struct worker *worker = fill->worker;
    if (fill->is_over) {
        return;
    }
    if (entry_is_full(&fill->entry)) {
        if (fill->was_full) {
            entry_shed_slow(&fill->entry, fill->entry.body_bytes - WINDOW_BYTES / 2, false);
        }
        fill->was_full = true;
        if (!fill->is_over) {
            ring_timer_set(worker->ring, &fill->timer, ring_now(worker->ring) + 5 * NANOS_PER_MS);
        }
        return;
    }
    fill->was_full = false;
    if (fill->will_fail && one_in(worker, 4)) {
        fill_end_failed(fill, RESULT_RESET);
        return;
    }
    if (fill->entry.status == 0) {
        fill_head(fill);
    }
    for (uint64_t pieces = random_below(worker, 4); pieces > 0 && fill->left_bytes > 0; pieces--) {
        fill_piece(fill);
    }
    if (fill->left_bytes == 0) {
        fill_complete(fill);
        return;
    }
    later(worker, &fill->timer, 2);
    entry_tell(&fill->entry); /* perhaps it is abandoned from in here */
}

/* An entry for `asker`, who reads it. */
static inline struct fill *fill_create(struct asker *asker, struct flight *flight)
{
    struct worker *worker = asker->worker;
    struct fill *fill = calloc(1, sizeof(*fill));
    CHECK(fill != NULL);
    fill->filler = (struct entry_filler){fill_on_drained, fill_on_abandoned};
    entry_init(&fill->entry, &worker->pool, &fill->filler, WINDOW_BYTES, flight == NULL && one_in(worker, 2));
    fill->entry.on_unused = fill_on_unused;
    fill->entry.keep_bytes_max = OBJECT_BYTES_MAX;
    fill->worker = worker;
    fill->flight = flight;
    fill->key = asker->key;
    fill->cache_key = key_of(worker, fill->key, fill->text);
    fill->seed = atomic_fetch_add(&worker->shared->stamp, 1) + 1;
    fill->asked_ns = ring_now(worker->ring);
    fill->left_bytes = random_below(worker, one_in(worker, 8) ? 2 * OBJECT_BYTES_MAX : 40000);
    fill->will_fail = one_in(worker, 10);
    fill->will_expel = one_in(worker, 10);
    ring_timer_init(&fill->timer, fill_on_timer);
    ring_task_init(&fill->end, fill_on_end_task);
    later(worker, &fill->timer, 2);
    worker->open++;
    if (flight != NULL) {
        flight_begin(flight, &fill->entry);
    }
    return fill;
}

#endif
