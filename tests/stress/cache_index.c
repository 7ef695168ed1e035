/* Readers that look things up, pin some of them and look again later, against a writer that inserts, replaces, removes
 * and makes the index grow and shrink. Memory that was freed is spoiled: a reader that could still come to it would see
 * a wrong canary, or ASan would. Keys that are never removed are never missed. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/index.h"

enum {
    READERS = 3,
    WRITER = READERS, /* its worker's index */
    KEYS = 20000,
    STEADY = 8, /* one key of so many is only ever replaced */
    ROUNDS = 3, /* new index each: it grows from nothing */
    WRITES = 40000,
    BATCH = 256, /* retired at a time */
    PINS = 200,  /* of a reader at a time */
    FINDS_MAX = 40,
};

enum { CANARY = 0x5afe5afe, SPOILED = 0x0dead000 };

struct item {
    struct index_node node;
    uint64_t key;
    _Atomic uint32_t canary; /* atomic, because looking at a freed one must be a wrong value, whatever else it is */
    uint64_t epoch;
};

struct shared {
    struct qsbr *qsbr;
    struct index *index;
    _Atomic bool is_steady; /* the keys that stay are all in */
    _Atomic bool is_over;
};

static uint64_t random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* A quarter of the keys shares an eighth of the chains, so that overflow buckets come and go. */
static uint64_t hash_of(uint64_t key)
{
    uint64_t hash = (key + 1) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 29;
    return key % 4 == 0 ? hash & ~UINT64_C(0xe) : hash;
}

static bool matches(const struct index_node *node, const void *key)
{
    return ((const struct item *)(const void *)node)->key == *(const uint64_t *)key;
}

static void check_alive(const struct item *item)
{
    CHECK(atomic_load_explicit(&((struct item *)(uintptr_t)item)->canary, memory_order_relaxed) == CANARY);
}

/* ---- readers */

struct pin {
    struct item *item;
    uint64_t key;
    uint32_t slot;
};

struct reader {
    struct shared *shared;
    unsigned worker;
    uint64_t random;
    uint64_t found;
    uint64_t pinned;
    struct pin pins[PINS];
};

static void unpin(struct reader *reader, struct pin *pin)
{
    if (pin->item == NULL) {
        return;
    }
    check_alive(pin->item);
    CHECK(pin->item->key == pin->key);
    qsbr_unpin(reader->shared->qsbr, reader->worker, pin->slot);
    pin->item = NULL;
}

static void look_up(struct reader *reader)
{
    uint64_t key = random_next(&reader->random) % KEYS;
    bool is_steady = atomic_load_explicit(&reader->shared->is_steady, memory_order_acquire);
    struct item *item = (struct item *)(void *)index_find(reader->shared->index, hash_of(key), matches, &key);
    if (item == NULL) {
        CHECK(!is_steady || key % STEADY != 0);
        return;
    }
    check_alive(item);
    CHECK(item->key == key);
    reader->found++;
    struct pin *pin = &reader->pins[random_next(&reader->random) % PINS];
    if (random_next(&reader->random) % 64 == 0) {
        unpin(reader, pin);
        CHECK(qsbr_pin(reader->shared->qsbr, reader->worker, item, &pin->slot) == RESULT_OK);
        pin->item = item;
        pin->key = key;
        reader->pinned++;
    }
}

static void *reader_main(void *context)
{
    struct reader *reader = context;
    struct qsbr *qsbr = reader->shared->qsbr;
    qsbr_online(qsbr, reader->worker);
    while (!atomic_load_explicit(&reader->shared->is_over, memory_order_relaxed)) {
        for (uint64_t finds = random_next(&reader->random) % FINDS_MAX; finds > 0; finds--) {
            look_up(reader);
        }
        if (random_next(&reader->random) % 4 == 0) {
            qsbr_offline(qsbr, reader->worker);
            unpin(reader, &reader->pins[random_next(&reader->random) % PINS]);
            qsbr_online(qsbr, reader->worker);
        } else {
            qsbr_quiescent(qsbr, reader->worker);
        }
    }
    for (unsigned i = 0; i < PINS; i++) {
        unpin(reader, &reader->pins[i]);
    }
    qsbr_offline(qsbr, reader->worker);
    return NULL;
}

/* ---- the writer */

struct writer {
    struct shared *shared;
    uint64_t random;
    struct item *items[KEYS];
    struct item *retired[2 * BATCH];
    size_t retired_count;
    uint64_t freed;
    uint64_t found_pinned;
};

static int by_address(const void *a, const void *b)
{
    uintptr_t x = (uintptr_t) * (struct item *const *)a;
    uintptr_t y = (uintptr_t) * (struct item *const *)b;
    return (x > y) - (x < y);
}

/* Frees what has passed and is not pinned. */
static void reclaim(struct writer *writer)
{
    static struct item *due[2 * BATCH];
    static bool is_pinned[2 * BATCH];
    uint64_t passed = qsbr_passed(writer->shared->qsbr);
    size_t due_count = 0;
    size_t kept = 0;
    for (size_t i = 0; i < writer->retired_count; i++) {
        if (writer->retired[i]->epoch <= passed) {
            due[due_count++] = writer->retired[i];
        } else {
            writer->retired[kept++] = writer->retired[i];
        }
    }
    qsort(due, due_count, sizeof(due[0]), by_address);
    qsbr_find_pinned(writer->shared->qsbr, (const void *const *)due, due_count, is_pinned);
    for (size_t i = 0; i < due_count; i++) {
        if (is_pinned[i]) {
            writer->retired[kept++] = due[i];
            writer->found_pinned++;
        } else {
            atomic_store_explicit(&due[i]->canary, SPOILED, memory_order_relaxed);
            due[i]->key = UINT64_MAX;
            due[i]->node.hash = 0;
            free(due[i]);
            writer->freed++;
        }
    }
    writer->retired_count = kept;
}

static void retire(struct writer *writer, struct item *item)
{
    item->epoch = qsbr_retire(writer->shared->qsbr);
    writer->retired[writer->retired_count++] = item;
    if (writer->retired_count % BATCH == 0) {
        qsbr_quiescent(writer->shared->qsbr, WRITER);
        reclaim(writer);
        while (writer->retired_count >= BATCH) { /* readers that do not get on: they are not on a core */
            sched_yield();
            qsbr_quiescent(writer->shared->qsbr, WRITER);
            reclaim(writer);
        }
    }
}

static struct item *item_make(uint64_t key)
{
    struct item *item = malloc(sizeof(*item));
    CHECK(item != NULL);
    *item = (struct item){.node.hash = hash_of(key), .key = key, .canary = CANARY};
    return item;
}

static void write_key(struct writer *writer, uint64_t key, bool may_remove)
{
    struct index *index = writer->shared->index;
    struct item *old = writer->items[key];
    if (old == NULL) {
        struct item *item = item_make(key);
        if (index_insert(index, &item->node) == RESULT_OK) {
            writer->items[key] = item;
        } else {
            CHECK(key % STEADY != 0);
            free(item);
        }
    } else if (may_remove && key % STEADY != 0) {
        index_remove(index, &old->node);
        writer->items[key] = NULL;
        retire(writer, old);
    } else {
        writer->items[key] = item_make(key);
        index_replace(index, &old->node, &writer->items[key]->node);
        retire(writer, old);
    }
}

static void write_all(struct writer *writer)
{
    for (uint64_t key = 0; key < KEYS; key += STEADY) {
        write_key(writer, key, false);
    }
    atomic_store_explicit(&writer->shared->is_steady, true, memory_order_release);
    for (unsigned i = 0; i < WRITES; i++) {
        bool is_shrinking = i / 10000 % 2 == 1;
        write_key(writer, random_next(&writer->random) % KEYS, is_shrinking || random_next(&writer->random) % 8 == 0);
        if (i % 64 == 0) {
            qsbr_quiescent(writer->shared->qsbr, WRITER);
            index_work(writer->shared->index, 8);
        }
    }
}

static void round_run(unsigned round, struct reader *totals, struct writer *writer)
{
    struct shared shared = {.qsbr = qsbr_create(READERS + 1)};
    CHECK(shared.qsbr != NULL);
    shared.index = index_create(shared.qsbr);
    CHECK(shared.index != NULL);
    writer->shared = &shared;
    pthread_t threads[READERS];
    struct reader readers[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.shared = &shared, .worker = i, .random = round * READERS + i};
        CHECK(pthread_create(&threads[i], NULL, reader_main, &readers[i]) == 0);
    }
    qsbr_online(shared.qsbr, WRITER);
    write_all(writer);
    atomic_store(&shared.is_over, true);
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        totals->found += readers[i].found;
        totals->pinned += readers[i].pinned;
    }
    qsbr_quiescent(shared.qsbr, WRITER);
    reclaim(writer);
    CHECK(writer->retired_count == 0);
    while (index_work(shared.index, 1000)) {
        qsbr_quiescent(shared.qsbr, WRITER);
    }
    for (uint64_t key = 0; key < KEYS; key++) {
        if (writer->items[key] != NULL) {
            index_remove(shared.index, &writer->items[key]->node);
            free(writer->items[key]);
            writer->items[key] = NULL;
        }
    }
    CHECK(index_count(shared.index) == 0);
    index_destroy(shared.index);
    qsbr_destroy(shared.qsbr);
}

int main(void)
{
    static struct writer writer;
    struct reader totals = {0};
    writer.random = 1;
    for (unsigned round = 0; round < ROUNDS; round++) {
        round_run(round, &totals, &writer);
    }
    printf("%llu found, %llu pinned; %llu freed, %llu times one was pinned\n", (unsigned long long)totals.found,
           (unsigned long long)totals.pinned, (unsigned long long)writer.freed,
           (unsigned long long)writer.found_pinned);
    return totals.found > 0 && totals.pinned > 0 && writer.freed > 0 ? 0 : 1;
}
