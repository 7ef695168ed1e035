#include "place.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"

void place_make(struct place *place)
{
    const char *parent = getenv("TMPDIR");
    *place = (struct place){.options.retry_interval_ms = PLACE_RETRY_MS, .options.lock_timeout_ms = 20};
    log_level_set(LOG_ERROR);
    snprintf(place->folder, sizeof(place->folder), "%s/sluice-store-XXXXXX", parent == NULL ? "/tmp" : parent);
    cr_assert_not_null(mkdtemp(place->folder));
    snprintf(place->path, sizeof(place->path), "%.100s/cache.db", place->folder);
    place->options.path = place->path;
    place->group = ring_group_create(1);
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = place->group};
    place->ring = loop_create(&options);
}

void place_remove(struct place *place)
{
    char command[PLACE_PATH_BYTES + 16];
    if (place->store != NULL) {
        place_close(place);
    }
    ring_destroy(place->ring);
    ring_group_destroy(place->group);
    snprintf(command, sizeof(command), "rm -rf '%s'", place->folder);
    cr_assert_eq(system(command), 0);
}

void place_open(struct place *place)
{
    cr_assert_eq(store_open(&place->options, place->group, &place->store), RESULT_OK);
    place->counters = store_counters(place->store);
}

void place_open_until(struct place *place, enum store_state state)
{
    place_open(place);
    cr_assert(place_await_state(place, state), "the state is %s, %s",
              store_state_name(atomic_load(&place->counters->state)),
              store_fault_name(atomic_load(&place->counters->fault)));
}

void place_close(struct place *place)
{
    store_close(place->store);
    place->store = NULL;
}

/* ---- waiting ---- */

struct awaiting {
    struct place *place;
    enum store_state state;
    const _Atomic uint64_t *counter;
    uint64_t at_least;
};

static bool is_in_state(void *context)
{
    struct awaiting *awaiting = context;
    return atomic_load(&awaiting->place->counters->state) == awaiting->state;
}

static bool has_counted(void *context)
{
    struct awaiting *awaiting = context;
    return atomic_load(awaiting->counter) >= awaiting->at_least;
}

bool place_await_state(struct place *place, enum store_state state)
{
    struct awaiting awaiting = {.place = place, .state = state};
    return loop_until(place->ring, is_in_state, &awaiting);
}

bool place_await(struct place *place, const _Atomic uint64_t *counter, uint64_t at_least)
{
    struct awaiting awaiting = {.counter = counter, .at_least = at_least};
    return loop_until(place->ring, has_counted, &awaiting);
}

uint64_t place_count(const _Atomic uint64_t *counter)
{
    return atomic_load(counter);
}

/* ---- putting ---- */

static struct cache_tier_record draft_of(const char *key)
{
    return (struct cache_tier_record){
        .key = bytes_from(key),
        .route = BYTES("route"),
        .head = BYTES("head"),
        .cost = 1,
        .made_ms = PLACE_NOW_MS,
        .last_used_ms = PLACE_NOW_MS,
        .remove_at_ms = 1000 * (int64_t)PLACE_NOW_MS,
    };
}

struct cache_tier_record *place_record(const char *key, const char *body)
{
    struct cache_tier_record draft = draft_of(key);
    draft.body = bytes_from(body);
    struct cache_tier_record *record = cache_tier_record_create(&draft);
    cr_assert_not_null(record);
    return record;
}

struct cache_tier_record *place_large(const char *key, size_t body_bytes)
{
    struct cache_tier_record draft = draft_of(key);
    draft.body.len = body_bytes;
    struct cache_tier_record *record = cache_tier_record_create(&draft);
    cr_assert_not_null(record);
    char *body = cache_tier_record_bytes(record->body);
    for (size_t i = 0; i < body_bytes; i++) {
        body[i] = (char)i;
    }
    return record;
}

void place_put(struct place *place, const char *key, const char *body)
{
    cache_tier_put(place->store, place_record(key, body));
}

void place_put_now(struct place *place, struct cache_tier_record *record)
{
    uint64_t before = place_count(&place->counters->puts);
    cache_tier_put(place->store, record);
    cr_assert(place_await(place, &place->counters->puts, before + 1));
}

/* ---- asking ---- */

struct asking {
    struct cache_tier_get get;
    bool is_done;
};

static void on_done(struct ring *ring, struct cache_tier_get *get)
{
    (void)ring;
    CONTAINER_OF(get, struct asking, get)->is_done = true;
}

enum cache_tier_outcome place_get_at(struct place *place, const char *key, int64_t now_ms,
                                     struct cache_tier_record **ret_record)
{
    struct asking asking = {.get = {.key = bytes_from(key), .now_ms = now_ms, .on_done = on_done}};
    *ret_record = NULL;
    if (cache_tier_get(place->store, 0, &asking.get) != RESULT_OK) {
        return CACHE_TIER_UNAVAILABLE;
    }
    cr_assert_not(asking.is_done, "not from inside the call");
    cr_assert(loop_until_true(place->ring, &asking.is_done));
    *ret_record = asking.get.record;
    cr_assert_eq(asking.get.record != NULL, asking.get.outcome == CACHE_TIER_FOUND);
    return asking.get.outcome;
}

bool place_has(struct place *place, const char *key)
{
    struct cache_tier_record *record;
    enum cache_tier_outcome outcome = place_get_at(place, key, PLACE_NOW_MS, &record);
    free(record);
    return outcome == CACHE_TIER_FOUND;
}

struct purging {
    struct cache_tier_purge purge;
    bool is_done;
};

static void on_purged(struct ring *ring, struct cache_tier_purge *purge)
{
    (void)ring;
    CONTAINER_OF(purge, struct purging, purge)->is_done = true;
}

int64_t place_purge(struct place *place, enum cache_tier_purge_kind kind, const char *text, const char *key_prefix)
{
    struct purging purging = {
        .purge = {.kind = kind, .text = bytes_from(text), .key_prefix = bytes_from(key_prefix), .on_done = on_purged}};
    cache_tier_purge(place->store, 0, &purging.purge);
    cr_assert(loop_until_true(place->ring, &purging.is_done));
    return purging.purge.is_done ? (int64_t)purging.purge.removed : -1;
}

/* ---- the file ---- */

sqlite3 *place_connect(const struct place *place)
{
    sqlite3 *sqlite = NULL;
    cr_assert_eq(sqlite3_open(place->path, &sqlite), SQLITE_OK);
    sqlite3_busy_timeout(sqlite, 5000);
    return sqlite;
}

void place_run(const struct place *place, const char *statements)
{
    sqlite3 *sqlite = place_connect(place);
    int code = sqlite3_exec(sqlite, statements, NULL, NULL, NULL);
    cr_assert_eq(code, SQLITE_OK, "%s", sqlite3_errmsg(sqlite));
    sqlite3_close(sqlite);
}

int64_t place_number(const struct place *place, const char *statement)
{
    sqlite3 *sqlite = place_connect(place);
    sqlite3_stmt *prepared = NULL;
    cr_assert_eq(sqlite3_prepare_v2(sqlite, statement, -1, &prepared, NULL), SQLITE_OK, "%s", sqlite3_errmsg(sqlite));
    cr_assert_eq(sqlite3_step(prepared), SQLITE_ROW, "%s", sqlite3_errmsg(sqlite));
    int64_t number = sqlite3_column_int64(prepared, 0);
    sqlite3_finalize(prepared);
    sqlite3_close(sqlite);
    return number;
}

void place_write_file(const struct place *place, const char *bytes, size_t count)
{
    FILE *file = fopen(place->path, "r+");
    file = file == NULL ? fopen(place->path, "w") : file;
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, count, file), count);
    fclose(file);
}

long place_file_bytes(const struct place *place, const char *suffix)
{
    char path[PLACE_PATH_BYTES + 32];
    struct stat status;
    snprintf(path, sizeof(path), "%s%s", place->path, suffix);
    return stat(path, &status) == 0 ? (long)status.st_size : -1;
}
