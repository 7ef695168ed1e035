/* The cache tier's tables: what is done with them on one connection, by the thread that owns it. Nothing here waits for
 * anyone or knows of requests. Every function gives the library's code; the caller runs the transactions. */
#ifndef SLUICE_STORE_CACHE_TABLE_H
#define SLUICE_STORE_CACHE_TABLE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "store/cache_tier.h"

enum {
    CACHE_KEY_HEAD_BYTES = 64,
    CACHE_SLICE_RECORDS = 256,    /* what one transaction removes at most, */
    CACHE_SLICE_BYTES = 16 << 20, /* and about so much of it: long bodies are chains of pages */
    CACHE_VACUUM_PAGES = 512,     /* given back to the system at a time, */
    CACHE_FREE_PAGES_KEPT = 1024, /* when more than these (or an eighth of what the file may be, where that is less), */
    CACHE_FREE_SHARE = 8,         /* and an eighth of what it is, are free */
    CACHE_PAGE_BYTES = 4096,
    CACHE_EMPTY_BYTES = 128 << 10, /* of the file are the schema and the first pages of tables */
};

/* A 128-bit XXH3 of the key, in canonical byte order as it is stored. */
struct cache_hash {
    unsigned char bytes[16];
};

struct cache_hash cache_hash_of(struct bytes key);

/* ---- the writer's ---- */

enum cache_statement {
    CACHE_FIND,
    CACHE_INSERT,
    CACHE_INSERT_CONTENT,
    CACHE_INSERT_TAG,
    CACHE_TOUCH,
    CACHE_KEY,
    CACHE_DELETE,
    CACHE_DELETE_CONTENT,
    CACHE_DELETE_TAGS,
    CACHE_SELECT_PREFIX,
    CACHE_SELECT_TAG,
    CACHE_SELECT_ROUTE,
    CACHE_SELECT_ALL,
    CACHE_SELECT_EXPIRED,
    CACHE_SELECT_LEAST,
    CACHE_STATEMENTS,
};

struct cache_totals {
    uint64_t records;
    uint64_t bytes;
    uint64_t purged; /* since it was opened, as the two below */
    uint64_t expired;
    uint64_t evicted;
    double inflation; /* the worth of what was last evicted */
};

struct cache_table {
    sqlite3 *sqlite;
    sqlite3_stmt *statements[CACHE_STATEMENTS];
    struct cache_totals totals;    /* in the transaction under way */
    struct cache_totals committed; /* before it */
    uint64_t charge_max;           /* what may be charged so that the file stays within its bytes, as last measured */
};

/* Prepares all and counts what is there. On failure nothing is left behind. */
int cache_table_open(struct cache_table *table, sqlite3 *sqlite);
void cache_table_close(struct cache_table *table);

int cache_table_put(struct cache_table *table, const struct cache_tier_record *record, const struct cache_hash *hash);
int cache_table_touch(struct cache_table *table, const struct cache_hash *hash, int64_t now_ms);

/* A purge under way. */
struct cache_purge {
    enum cache_tier_purge_kind kind;
    struct bytes text;
    struct bytes key_prefix;
    struct cache_hash hash; /* KEY: of the text */
    int64_t after_id;       /* where it is */
    unsigned char after_head[CACHE_KEY_HEAD_BYTES];
    int after_head_bytes;
    uint64_t removed;
};

/* Puts it at its beginning. */
void cache_purge_rewind(struct cache_purge *purge);

/* Whether it means this record. */
bool cache_purge_matches(const struct cache_purge *purge, const struct cache_tier_record *record);

/* Removes a slice of what matches. */
int cache_table_purge(struct cache_table *table, struct cache_purge *purge, bool *ret_more);

/* Removes a slice of what has expired and of what is too much. */
int cache_table_tend(struct cache_table *table, int64_t now_ms, uint64_t bytes_max, bool *ret_more);

/* Gives a slice of free pages back to the system; outside of transactions. */
int cache_table_vacuum(struct cache_table *table, uint64_t bytes_max, bool *ret_more);

/* ---- the reader's ---- */

struct cache_reading {
    sqlite3_stmt *get;
    sqlite3_stmt *warm;
};

int cache_reading_open(struct cache_reading *reading, sqlite3 *sqlite);
void cache_reading_close(struct cache_reading *reading);

/* *Gives* the record under the key, if there is one that has not expired; else *ret_record is NULL. */
int cache_reading_get(struct cache_reading *reading, struct bytes key, const struct cache_hash *hash, int64_t now_ms,
                      struct cache_tier_record **ret_record);

/* *Gives* the next batch of the walk and moves it on; the rest of warm is left alone but for bytes_left and is_end. */
int cache_reading_warm(struct cache_reading *reading, struct cache_tier_warm *warm);

#endif
