/* The reader's half of the cache tier's tables. */
#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "store/cache_table.h"

#define COLUMNS "c.key, e.route, c.tags, c.head, c.body, e.cost, e.made_ms, e.remove_at_ms, e.last_used_ms, e.hits"

enum column { KEY, ROUTE, TAGS, HEAD, BODY, COST, MADE, REMOVE_AT, LAST_USED, HITS, ID, WORTH };

int cache_reading_open(struct cache_reading *reading, sqlite3 *sqlite)
{
    static const char get[] = "SELECT " COLUMNS " FROM cache_entry e CROSS JOIN cache_content c ON c.id = e.id"
                              " WHERE e.hash = ?1 AND e.remove_at_ms > ?2";
    static const char warm[] = "SELECT " COLUMNS ", e.id, e.worth"
                               " FROM cache_entry e CROSS JOIN cache_content c ON c.id = e.id"
                               " WHERE (e.worth, e.id) < (?1, ?2) AND e.remove_at_ms > ?3"
                               " ORDER BY e.worth DESC, e.id DESC";
    *reading = (struct cache_reading){.get = NULL};
    int code = sqlite3_prepare_v3(sqlite, get, sizeof(get), SQLITE_PREPARE_PERSISTENT, &reading->get, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_prepare_v3(sqlite, warm, sizeof(warm), SQLITE_PREPARE_PERSISTENT, &reading->warm, NULL);
    }
    if (code != SQLITE_OK) {
        cache_reading_close(reading);
    }
    return code;
}

void cache_reading_close(struct cache_reading *reading)
{
    sqlite3_finalize(reading->get);
    sqlite3_finalize(reading->warm);
    *reading = (struct cache_reading){.get = NULL};
}

static void finish(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

/* Borrowed until the next step. */
static struct bytes column_bytes(sqlite3_stmt *row, int column)
{
    const char *ptr = sqlite3_column_blob(row, column);
    return (struct bytes){ptr, ptr == NULL ? 0 : (size_t)sqlite3_column_bytes(row, column)};
}

/* *Gives* the record of the row that the statement stands on. NULL: memory is out. */
static struct cache_tier_record *record_from(sqlite3_stmt *row)
{
    struct cache_tier_record draft = {
        .key = column_bytes(row, KEY),
        .route = column_bytes(row, ROUTE),
        .tags = column_bytes(row, TAGS),
        .head = column_bytes(row, HEAD),
        .body = column_bytes(row, BODY),
        .cost = sqlite3_column_double(row, COST),
        .made_ms = sqlite3_column_int64(row, MADE),
        .remove_at_ms = sqlite3_column_int64(row, REMOVE_AT),
        .last_used_ms = sqlite3_column_int64(row, LAST_USED),
        .hits = (uint64_t)sqlite3_column_int64(row, HITS),
    };
    return cache_tier_record_create(&draft);
}

int cache_reading_get(struct cache_reading *reading, struct bytes key, const struct cache_hash *hash, int64_t now_ms,
                      struct cache_tier_record **ret_record)
{
    sqlite3_stmt *get = reading->get;
    *ret_record = NULL;
    int code = sqlite3_bind_blob(get, 1, hash->bytes, sizeof(hash->bytes), SQLITE_STATIC);
    code = code == SQLITE_OK ? sqlite3_bind_int64(get, 2, now_ms) : code;
    code = code == SQLITE_OK ? sqlite3_step(get) : code;
    if (code == SQLITE_ROW && bytes_equal(column_bytes(get, KEY), key)) {
        *ret_record = record_from(get);
        code = *ret_record == NULL ? SQLITE_NOMEM : code;
    }
    finish(get);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

int cache_reading_warm(struct cache_reading *reading, struct cache_tier_warm *warm)
{
    sqlite3_stmt *walk = reading->warm;
    struct cache_tier_record **end = &warm->records;
    uint64_t bytes = 0;
    int code = sqlite3_bind_double(walk, 1, warm->worth);
    code = code == SQLITE_OK ? sqlite3_bind_int64(walk, 2, warm->id) : code;
    code = code == SQLITE_OK ? sqlite3_bind_int64(walk, 3, warm->now_ms) : code;
    for (unsigned i = 0; i < CACHE_TIER_WARM_BATCH_RECORDS && bytes < CACHE_TIER_WARM_BATCH_BYTES; i++) {
        code = code == SQLITE_OK ? sqlite3_step(walk) : code;
        if (code != SQLITE_ROW) {
            break;
        }
        struct cache_tier_record *record = record_from(walk);
        if (record == NULL) {
            code = SQLITE_NOMEM;
            break;
        }
        uint64_t charge = cache_tier_record_charge(record);
        if (charge > warm->bytes_left) {
            free(record);
            code = SQLITE_DONE;
            break;
        }
        *end = record;
        end = &record->next;
        bytes += charge;
        warm->bytes_left -= charge;
        warm->id = sqlite3_column_int64(walk, ID);
        warm->worth = sqlite3_column_double(walk, WORTH);
        code = SQLITE_OK;
    }
    warm->is_end = code != SQLITE_OK;
    finish(walk);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}
