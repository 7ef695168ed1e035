/* Readers that find objects, read head, key and body, and pin some to read them again later, against the owner, who
 * stores, replaces, updates heads, evicts, expires, purges and frees. What an object holds can be told from the object
 * itself: a reader that comes to memory used anew sees bytes that do not belong together, and TSan or ASan more. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/shard.h"

enum {
    READERS = 2,
    OWNER = READERS, /* its worker's index */
    KEYS = 500,
    STORES = 12000,
    BYTES_MAX = 3 << 20,
    BODY_BYTES_MAX = 40000,
    LINES_BYTES_MAX = 2000,
    KEY_BYTES_MAX = 18000,
    PINS = 8,
};

struct shared {
    struct qsbr *qsbr;
    struct shard *shard;
    _Atomic bool is_over;
};

static uint64_t random_next(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return *state >> 33;
}

/* Every 16th key is longer than a piece. */
static struct bytes key_of(uint64_t number, char *at)
{
    size_t len = (size_t)snprintf(at, KEY_BYTES_MAX, "%lu/", (unsigned long)number);
    if (number % 16 == 0) {
        memset(at + len, 'k', KEY_BYTES_MAX - len);
        len = KEY_BYTES_MAX;
    }
    return (struct bytes){at, len};
}

static uint64_t hash_of(uint64_t number)
{
    uint64_t hash = (number + 1) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

/* ---- readers */

struct pin {
    const struct cache_object *object; /* NULL: none */
    uint32_t slot;
};

struct reader {
    struct shared *shared;
    unsigned worker;
    uint64_t random;
    uint64_t found;
    uint64_t pinned;
    struct pin pins[PINS];
    char key[KEY_BYTES_MAX];
};

/* The cost says what the body is made of. */
static void check_body(const struct cache_object *object)
{
    uint64_t bytes = 0;
    for (const struct chunk *piece = object->body; piece != NULL;
         piece = atomic_load_explicit(&piece->next, memory_order_acquire)) {
        uint32_t used = chunk_used(piece);
        CHECK(used > 0);
        for (uint32_t i = 0; i < used; i += 61) {
            CHECK(piece->data[i] == (char)object->cost_ns);
        }
        CHECK(piece->data[used - 1] == (char)object->cost_ns);
        bytes += used;
    }
    CHECK(bytes == object->body_bytes);
}

/* The status says what the lines are made of. */
static void check_head(const struct cache_head *head)
{
    struct bytes lines = cache_head_lines(head);
    for (size_t i = 0; i < lines.len; i++) {
        CHECK(lines.ptr[i] == (char)head->status);
    }
}

static void unpin(struct reader *reader, struct pin *pin)
{
    if (pin->object != NULL) {
        check_body(pin->object);
        qsbr_unpin(reader->shared->qsbr, reader->worker, pin->slot);
        pin->object = NULL;
    }
}

static void look_up(struct reader *reader)
{
    uint64_t number = random_next(&reader->random) % KEYS;
    struct bytes key = key_of(number, reader->key);
    struct cache_object *object = shard_find(reader->shared->shard, hash_of(number), key);
    if (object == NULL) {
        return;
    }
    reader->found++;
    CHECK(cache_object_has_key(object, key));
    check_head(cache_object_head(object));
    check_body(object);
    evict_touch(&object->evict);
    struct pin *pin = &reader->pins[random_next(&reader->random) % PINS];
    if (random_next(&reader->random) % 16 == 0) {
        unpin(reader, pin);
        CHECK(qsbr_pin(reader->shared->qsbr, reader->worker, object, &pin->slot) == RESULT_OK);
        pin->object = object;
        reader->pinned++;
    }
}

static void *reader_main(void *context)
{
    struct reader *reader = context;
    struct qsbr *qsbr = reader->shared->qsbr;
    qsbr_online(qsbr, reader->worker);
    while (!atomic_load_explicit(&reader->shared->is_over, memory_order_relaxed)) {
        for (uint64_t finds = random_next(&reader->random) % 8; finds > 0; finds--) {
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

/* ---- the owner */

struct owner {
    struct shared *shared;
    uint64_t random;
    int64_t now_ms;
    char key[KEY_BYTES_MAX];
    char body[BODY_BYTES_MAX];
    char lines[LINES_BYTES_MAX];
};

static void turn(struct owner *owner)
{
    qsbr_quiescent(owner->shared->qsbr, OWNER);
    shard_turn(owner->shared->shard, owner->now_ms);
}

static struct shard_draft draft_of(struct owner *owner, uint64_t number)
{
    uint64_t letter = random_next(&owner->random) % 100;
    memset(owner->lines, (int)letter, sizeof(owner->lines));
    return (struct shard_draft){
        .key = key_of(number, owner->key),
        .hash = hash_of(number),
        .lines = {owner->lines, random_next(&owner->random) % LINES_BYTES_MAX},
        .status = (uint16_t)letter,
        .body_bytes = random_next(&owner->random) % (number % 8 == 0 ? BODY_BYTES_MAX : 3000),
        .cost_ns = random_next(&owner->random) % 100,
        .cost = 1.0 + (double)(number % 10),
        .remove_at_ms = owner->now_ms + 1000 + (int64_t)(random_next(&owner->random) % 20000),
        .route = (uint16_t)(number % 7),
    };
}

static void store(struct owner *owner, uint64_t number)
{
    struct shard_draft draft = draft_of(owner, number);
    struct shard_store under_way;
    enum result result = shard_store_begin(owner->shared->shard, &under_way, &draft);
    if (result != RESULT_OK) {
        CHECK(result == RESULT_MORE || result == RESULT_LIMIT);
        sched_yield();
        return;
    }
    memset(owner->body, (int)draft.cost_ns, draft.body_bytes);
    shard_store_body(owner->shared->shard, &under_way, (struct bytes){owner->body, draft.body_bytes / 2});
    shard_store_body(owner->shared->shard, &under_way,
                     (struct bytes){owner->body, draft.body_bytes - draft.body_bytes / 2});
    CHECK(shard_store_commit(owner->shared->shard, &under_way) == RESULT_OK);
}

static void update(struct owner *owner, uint64_t number)
{
    struct shard_draft draft = draft_of(owner, number);
    struct cache_object *object = shard_find(owner->shared->shard, draft.hash, draft.key);
    if (object != NULL) {
        enum result result = shard_update_head(owner->shared->shard, object, &draft);
        CHECK(result == RESULT_OK || result == RESULT_MORE || result == RESULT_LIMIT);
    }
}

static void purge(struct owner *owner)
{
    struct shard_filter filter = {.kind = SHARD_ROUTE, .cause = SHARD_PURGED};
    filter.route = (uint16_t)(random_next(&owner->random) % 7);
    struct shard_purge under_way;
    shard_purge_begin(owner->shared->shard, &under_way, &filter);
    while (shard_purge_step(owner->shared->shard, &under_way, 16)) {
        turn(owner);
    }
}

static void owner_run(struct owner *owner)
{
    for (unsigned i = 0; i < STORES; i++) {
        uint64_t number = random_next(&owner->random) % KEYS;
        store(owner, number);
        if (i % 4 == 0) {
            update(owner, random_next(&owner->random) % KEYS);
        }
        if (i % 16 == 0) {
            owner->now_ms += 50;
        }
        if (i % 1000 == 0) {
            purge(owner);
        }
        turn(owner);
        CHECK(atomic_load(&shard_counters(owner->shared->shard)->charged_bytes) <= BYTES_MAX);
    }
}

int main(void)
{
    static struct reader readers[READERS];
    static struct owner owner;
    struct shared shared = {.qsbr = qsbr_create(READERS + 1)};
    CHECK(shared.qsbr != NULL);
    struct shard_options options = {.qsbr = shared.qsbr, .policy = EVICT_COST, .bytes_max = BYTES_MAX};
    shared.shard = shard_create(&options);
    CHECK(shared.shard != NULL);
    qsbr_online(shared.qsbr, OWNER);
    owner = (struct owner){.shared = &shared, .random = 7, .now_ms = INT64_C(1700000000000)};
    pthread_t threads[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        readers[i] = (struct reader){.shared = &shared, .worker = i, .random = i + 1};
        CHECK(pthread_create(&threads[i], NULL, reader_main, &readers[i]) == 0);
    }
    owner_run(&owner);
    atomic_store_explicit(&shared.is_over, true, memory_order_relaxed);
    uint64_t found = 0;
    uint64_t pinned = 0;
    for (unsigned i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        found += readers[i].found;
        pinned += readers[i].pinned;
    }
    owner.now_ms += 1000;
    for (int i = 0; i < 1000; i++) {
        turn(&owner);
    }
    const struct shard_counters *counters = shard_counters(shared.shard);
    CHECK(atomic_load(&counters->retired_bytes) == 0);
    printf("%lu stores, %lu updates, %lu evicted, %lu expired, %lu purged; %lu found, %lu pinned\n",
           (unsigned long)atomic_load(&counters->stores), (unsigned long)atomic_load(&counters->updates),
           (unsigned long)atomic_load(&counters->removed[SHARD_EVICTED]),
           (unsigned long)atomic_load(&counters->removed[SHARD_EXPIRED]),
           (unsigned long)atomic_load(&counters->removed[SHARD_PURGED]), (unsigned long)found, (unsigned long)pinned);
    CHECK(found > 1000 && pinned > 100 && atomic_load(&counters->stores) > STORES / 10);
    CHECK(atomic_load(&counters->removed[SHARD_EVICTED]) > 0 && atomic_load(&counters->updates) > 0);
    shard_destroy(shared.shard);
    qsbr_destroy(shared.qsbr);
    return 0;
}
