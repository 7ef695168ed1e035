/* Workers that get, put, touch and purge as fast as the store lets them, while the database is deleted, locked and
 * overwritten under it. Every answer comes once, what is found is what was put, nothing that was purged is found after
 * the purge, and the store is ready again in the end. */
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "loop.h"
#include "ring/internal.h"
#include "store/cache_tier.h"

enum { WORKERS = 3, ROUNDS = 1000, BURST = 8, KEYS = 50, KEY_BYTES = 24, NOW_MS = 1000, PATH_BYTES = 160 };

struct worker {
    struct ring_group *group;
    struct store *store;
    struct ring *ring;
    struct ring_timer timer;
    unsigned index;
    unsigned round;
    unsigned asked;
    unsigned answered;
    uint64_t random;
    unsigned version[KEYS]; /* the least that a get may find: what was put since the last purge of the key */
};

struct asking {
    struct cache_tier_get get;
    struct worker *worker;
    unsigned key;
    unsigned least; /* as it was when asked */
    char name[KEY_BYTES];
};

struct purging {
    struct cache_tier_purge purge;
    struct worker *worker;
};

static unsigned random_below(struct worker *worker, unsigned bound)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(worker->random >> 33) % bound;
}

/* Keys belong to one worker each, so that it knows in which order they were put and purged. */
static struct bytes name_of(const struct worker *worker, unsigned key, char *out)
{
    snprintf(out, KEY_BYTES, "worker %u key %u", worker->index, key);
    return bytes_from(out);
}

static void on_found(struct ring *ring, struct cache_tier_get *get)
{
    struct asking *asking = CONTAINER_OF(get, struct asking, get);
    struct worker *worker = asking->worker;
    CHECK(ring == worker->ring);
    if (get->outcome == CACHE_TIER_FOUND) {
        unsigned version = 0;
        CHECK(bytes_equal(get->record->key, get->key));
        CHECK(get->record->body.len >= sizeof(version));
        memcpy(&version, get->record->body.ptr, sizeof(version));
        CHECK(version >= worker->version[asking->key]); /* also of purges since it was asked */
    }
    free(get->record);
    free(asking);
    worker->answered++;
}

static void ask(struct worker *worker, unsigned key)
{
    struct asking *asking = malloc(sizeof(*asking));
    CHECK(asking != NULL);
    *asking = (struct asking){.worker = worker, .key = key};
    asking->get =
        (struct cache_tier_get){.key = name_of(worker, key, asking->name), .now_ms = NOW_MS, .on_done = on_found};
    if (cache_tier_get(worker->store, worker->index, &asking->get) == RESULT_OK) {
        worker->asked++;
    } else {
        free(asking);
    }
}

static void put(struct worker *worker, unsigned key)
{
    char name[KEY_BYTES];
    struct cache_tier_record draft = {
        .key = name_of(worker, key, name), .route = BYTES("route"), .tags = BYTES("tag\n"), .cost = 1};
    draft.remove_at_ms = INT64_MAX;
    draft.body.len = sizeof(unsigned) + random_below(worker, 10000);
    struct cache_tier_record *record = cache_tier_record_create(&draft);
    CHECK(record != NULL);
    memset(cache_tier_record_bytes(record->body), 'x', record->body.len);
    memcpy(cache_tier_record_bytes(record->body), &worker->round, sizeof(worker->round));
    cache_tier_put(worker->store, record);
}

static void on_purged(struct ring *ring, struct cache_tier_purge *purge)
{
    struct purging *purging = CONTAINER_OF(purge, struct purging, purge);
    CHECK(ring == purging->worker->ring);
    purging->worker->answered++;
    free(purging);
}

static void purge(struct worker *worker, unsigned key)
{
    char name[KEY_BYTES];
    struct purging *purging = malloc(sizeof(*purging));
    CHECK(purging != NULL);
    bool is_one = random_below(worker, 4) != 0;
    *purging = (struct purging){.worker = worker, .purge.on_done = on_purged};
    snprintf(name, sizeof(name), "worker %u key ", worker->index);
    purging->purge.kind = is_one ? CACHE_TIER_PURGE_KEY : CACHE_TIER_PURGE_PREFIX;
    purging->purge.text = is_one ? name_of(worker, key, name) : bytes_from(name);
    for (unsigned i = 0; i < KEYS; i++) {
        worker->version[i] = is_one && i != key ? worker->version[i] : worker->round + 1;
    }
    worker->asked++;
    cache_tier_purge(worker->store, worker->index, &purging->purge);
}

static void on_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, timer);
    if (worker->round == ROUNDS && worker->asked == worker->answered) {
        ring_stop(worker->ring);
        return;
    }
    for (unsigned i = 0; i < BURST && worker->round < ROUNDS; i++) {
        unsigned key = random_below(worker, KEYS), what = random_below(worker, 32);
        char name[KEY_BYTES];
        if (what == 0 && i == BURST - 1) {
            purge(worker, key);
        } else if (what < 12) {
            put(worker, key);
        } else if (what < 16) {
            cache_tier_touch(worker->store, name_of(worker, key, name), NOW_MS);
        } else {
            ask(worker, key);
        }
    }
    worker->round += worker->round < ROUNDS;
    ring_timer_set(worker->ring, timer, ring_now(worker->ring) + (1 + random_below(worker, 4)) * NANOS_PER_MS);
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = worker->group, .index = worker->index};
    worker->ring = loop_create(&options);
    ring_timer_init(&worker->timer, on_timer);
    ring_timer_set(worker->ring, &worker->timer, ring_now(worker->ring));
    ring_run(worker->ring);
    return NULL;
}

/* ---- what happens to the database meanwhile ---- */

static void hold_lock(const char *path, unsigned ms)
{
    sqlite3 *sqlite = NULL;
    if (sqlite3_open(path, &sqlite) == SQLITE_OK) {
        sqlite3_exec(sqlite, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        usleep(ms * 1000);
    }
    sqlite3_close(sqlite);
}

static void overwrite(const char *path)
{
    char garbage[16384];
    FILE *file = fopen(path, "r+");
    memset(garbage, 'x', sizeof(garbage));
    if (file != NULL) {
        fwrite(garbage, 1, sizeof(garbage), file);
        fclose(file);
    }
}

static void trouble(const char *path, const struct store_counters *counters)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    char aside[PATH_BYTES + 32];
    for (unsigned turn = 0; turn < 12; turn++) {
        uint64_t opens = atomic_load(&counters->opens);
        usleep(100000);
        switch (turn % 4) {
        case 0: unlink(path); break;
        case 1: hold_lock(path, 30); break;
        case 2:
            for (size_t i = 0; i < ARRAY_COUNT(suffixes); i++) { /* all of it at once */
                snprintf(aside, sizeof(aside), "%s%s", path, suffixes[i]);
                unlink(aside);
            }
            break;
        default:
            unlink(path);
            overwrite(path); /* there only if the store was quick */
            break;
        }
        for (unsigned i = 0; i < 50 && turn % 4 != 1 && atomic_load(&counters->opens) == opens; i++) {
            usleep(10000);
        }
    }
}

static struct store *open_store(const char *path, struct ring_group *group)
{
    struct store *store = NULL;
    struct store_options options = {.path = path,
                                    .cache_bytes_max = 400 << 10,
                                    .lock_timeout_ms = 5,
                                    .retry_interval_ms = 20,
                                    .queue_writes_max = 200,
                                    .queue_reads_max = 100};
    CHECK(store_open(&options, group, &store) == RESULT_OK);
    return store;
}

int main(void)
{
    ring_destroy(loop_create(NULL)); /* ends the program where there is no io_uring */
    alarm(240);                      /* an answer that never comes leaves everybody asleep: end in a way that is seen */
    log_level_set(LOG_ERROR);
    char folder[] = "/tmp/sluice-store-XXXXXX", path[PATH_BYTES], command[PATH_BYTES];
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/cache.db", folder);
    struct ring_group *group = ring_group_create(WORKERS);
    CHECK(group != NULL);
    struct store *store = open_store(path, group);
    const struct store_counters *counters = store_counters(store);
    static struct worker workers[WORKERS];
    pthread_t threads[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i] = (struct worker){.group = group, .store = store, .index = i, .random = i + 1};
        CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0);
    }
    trouble(path, counters);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < 500 && atomic_load(&counters->state) != STORE_READY; i++) {
        usleep(10000);
    }
    CHECK(atomic_load(&counters->state) == STORE_READY);
    uint64_t gets = atomic_load(&counters->gets), hits = atomic_load(&counters->hits);
    CHECK(gets == hits + atomic_load(&counters->misses) + atomic_load(&counters->gets_failed));
    printf("%llu gets, %llu found, %llu puts, %llu dropped, %llu purges, %llu evicted, opened %llu times\n",
           (unsigned long long)gets, (unsigned long long)hits, (unsigned long long)atomic_load(&counters->puts),
           (unsigned long long)atomic_load(&counters->puts_dropped), (unsigned long long)atomic_load(&counters->purges),
           (unsigned long long)atomic_load(&counters->evicted), (unsigned long long)atomic_load(&counters->opens));
    int status = hits > 0 && atomic_load(&counters->opens) > 1 ? 0 : 1;
    store_close(store);
    for (unsigned i = 0; i < WORKERS; i++) {
        ring_destroy(workers[i].ring);
    }
    ring_group_destroy(group);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command) == 0 ? status : 1;
}
