/* A folder for a database, a worker's loop on this thread, and a store between them; asked as if it were not
 * asynchronous. */
#ifndef TESTS_UNIT_STORE_PLACE_H
#define TESTS_UNIT_STORE_PLACE_H

#include <criterion/criterion.h>
#include <sqlite3.h>

#include "loop.h"
#include "store/cache_tier.h"

enum { PLACE_PATH_BYTES = 128, PLACE_RETRY_MS = 60, PLACE_NOW_MS = 1000000 };

struct place {
    char folder[PLACE_PATH_BYTES];
    char path[PLACE_PATH_BYTES]; /* of the database */
    struct store_options options;
    struct ring_group *group;
    struct ring *ring;
    struct store *store;
    const struct store_counters *counters;
};

/* A folder of its own, empty, and a loop. */
void place_make(struct place *place);
void place_remove(struct place *place);

/* Opens the store; with a state to wait for. */
void place_open(struct place *place);
void place_open_until(struct place *place, enum store_state state);
void place_close(struct place *place);

/* Turns the loop until it is so. False: it took too long. */
bool place_await_state(struct place *place, enum store_state state);
bool place_await(struct place *place, const _Atomic uint64_t *counter, uint64_t at_least);

uint64_t place_count(const _Atomic uint64_t *counter);

/* A record with these, cost 1, made now and kept for a long time. */
struct cache_tier_record *place_record(const char *key, const char *body);
/* The same with a body of so many bytes, each its place's low bits. */
struct cache_tier_record *place_large(const char *key, size_t body_bytes);
void place_put(struct place *place, const char *key, const char *body);
/* Puts it and waits until it is committed. */
void place_put_now(struct place *place, struct cache_tier_record *record);

/* What a get of the key at this moment delivers; *ret_record is the caller's to free. */
enum cache_tier_outcome place_get_at(struct place *place, const char *key, int64_t now_ms,
                                     struct cache_tier_record **ret_record);
bool place_has(struct place *place, const char *key);

/* Purges and waits; gives how many records went, or -1 when it could not be done. */
int64_t place_purge(struct place *place, enum cache_tier_purge_kind kind, const char *text, const char *key_prefix);

/* Runs statements on the file with a connection of its own. */
sqlite3 *place_connect(const struct place *place);
void place_run(const struct place *place, const char *statements);
int64_t place_number(const struct place *place, const char *statement);
void place_write_file(const struct place *place, const char *bytes, size_t count);
long place_file_bytes(const struct place *place, const char *suffix); /* -1: it is not there */

#endif
