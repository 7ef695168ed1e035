#include "store/cache_table.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <xxhash.h>

#include "base/check.h"
#include "store/database.h"

/* A record's content, whose key is longer than the head of it that the entry has, is looked at only when it must be. */
static const char *const STATEMENTS[CACHE_STATEMENTS] = {
    [CACHE_FIND] = "SELECT id, bytes, hits FROM cache_entry WHERE hash = ?1",
    [CACHE_INSERT] = "INSERT INTO cache_entry (hash, key_head, route, cost, hits, made_ms, remove_at_ms, last_used_ms,"
                     " bytes, worth) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    [CACHE_INSERT_CONTENT] = "INSERT INTO cache_content (id, key, tags, head, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    [CACHE_INSERT_TAG] = "INSERT OR IGNORE INTO cache_tag (tag, id) VALUES (?1, ?2)",
    [CACHE_TOUCH] = "UPDATE cache_entry SET hits = hits + 1, last_used_ms = max(last_used_ms, ?2),"
                    " worth = ?3 + (hits + 2) * cost / bytes WHERE hash = ?1",
    [CACHE_KEY] = "SELECT key FROM cache_content WHERE id = ?1",
    [CACHE_DELETE] = "DELETE FROM cache_entry WHERE id = ?1",
    [CACHE_DELETE_CONTENT] = "DELETE FROM cache_content WHERE id = ?1",
    [CACHE_DELETE_TAGS] = "DELETE FROM cache_tag WHERE id = ?1",
    [CACHE_SELECT_PREFIX] = "SELECT id, bytes, key_head FROM cache_entry WHERE (key_head, id) > (?1, ?2)"
                            " AND key_head <= ?3 ORDER BY key_head, id",
    [CACHE_SELECT_TAG] = "SELECT e.id, e.bytes FROM cache_tag t CROSS JOIN cache_entry e ON e.id = t.id"
                         " WHERE t.tag = ?1 AND t.id > ?2 ORDER BY t.id",
    [CACHE_SELECT_ROUTE] = "SELECT id, bytes FROM cache_entry WHERE route = ?1 AND id > ?2 ORDER BY id",
    [CACHE_SELECT_ALL] = "SELECT id, bytes FROM cache_entry WHERE id > ?1 ORDER BY id",
    [CACHE_SELECT_EXPIRED] = "SELECT id, bytes FROM cache_entry WHERE remove_at_ms <= ?1",
    [CACHE_SELECT_LEAST] = "SELECT id, bytes, worth FROM cache_entry ORDER BY worth, id",
};

static const double COST_MIN = 1e-9; /* nothing is worth nothing: among the free ones the small and used ones stay */

struct cache_hash cache_hash_of(struct bytes key)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(key.ptr, key.len));
    struct cache_hash hash;
    _Static_assert(sizeof(hash.bytes) == sizeof(canonical.digest), "128 bits");
    memcpy(hash.bytes, canonical.digest, sizeof(hash.bytes));
    return hash;
}

/* ---- statements ---- */

/* An empty run is an empty blob, not NULL, which the tables refuse. */
static int bind_bytes(sqlite3_stmt *statement, int place, struct bytes bytes)
{
    return sqlite3_bind_blob64(statement, place, bytes.len == 0 ? "" : bytes.ptr, bytes.len, SQLITE_STATIC);
}

static int bind_hash(sqlite3_stmt *statement, int place, const struct cache_hash *hash)
{
    return sqlite3_bind_blob(statement, place, hash->bytes, sizeof(hash->bytes), SQLITE_STATIC);
}

/* Ends a statement and lets go of what was bound to it: that is the callers' memory. */
static void finish(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

/* Runs a statement that gives no rows, if binding its values has worked. */
static int run(sqlite3_stmt *statement, int bound)
{
    int code = bound == SQLITE_OK ? sqlite3_step(statement) : bound;
    finish(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static struct bytes column_bytes(sqlite3_stmt *statement, int column)
{
    const char *ptr = sqlite3_column_blob(statement, column);
    return (struct bytes){ptr, ptr == NULL ? 0 : (size_t)sqlite3_column_bytes(statement, column)};
}

static struct bytes key_head(struct bytes key)
{
    return (struct bytes){key.ptr, key.len < CACHE_KEY_HEAD_BYTES ? key.len : CACHE_KEY_HEAD_BYTES};
}

/* ---- opening ---- */

static int count_totals(struct cache_table *table)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(table->sqlite, "SELECT count(*), total(bytes), min(worth) FROM cache_entry", -1,
                                  &statement, NULL);
    if (code == SQLITE_OK && (code = sqlite3_step(statement)) == SQLITE_ROW) {
        table->totals = (struct cache_totals){
            .records = (uint64_t)sqlite3_column_int64(statement, 0),
            .bytes = (uint64_t)sqlite3_column_double(statement, 1),
            /* All that is here is worth at least what was last evicted. */
            .inflation = sqlite3_column_double(statement, 2),
        };
        table->committed = table->totals;
        code = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return code;
}

int cache_table_open(struct cache_table *table, sqlite3 *sqlite)
{
    *table = (struct cache_table){.sqlite = sqlite, .charge_max = UINT64_MAX};
    int code = count_totals(table);
    for (unsigned i = 0; i < CACHE_STATEMENTS && code == SQLITE_OK; i++) {
        code = sqlite3_prepare_v3(sqlite, STATEMENTS[i], -1, SQLITE_PREPARE_PERSISTENT, &table->statements[i], NULL);
    }
    if (code != SQLITE_OK) {
        cache_table_close(table);
    }
    return code;
}

void cache_table_close(struct cache_table *table)
{
    for (unsigned i = 0; i < CACHE_STATEMENTS; i++) {
        sqlite3_finalize(table->statements[i]);
        table->statements[i] = NULL;
    }
}

/* ---- one record ---- */

static int remove_record(struct cache_table *table, int64_t id, uint64_t bytes)
{
    static const enum cache_statement deletes[] = {CACHE_DELETE_TAGS, CACHE_DELETE_CONTENT, CACHE_DELETE};
    for (size_t i = 0; i < ARRAY_COUNT(deletes); i++) {
        sqlite3_stmt *statement = table->statements[deletes[i]];
        int code = run(statement, sqlite3_bind_int64(statement, 1, id));
        if (code != SQLITE_OK) {
            return code;
        }
    }
    table->totals.records--;
    table->totals.bytes -= bytes;
    return SQLITE_OK;
}

/* Removes what is under the hash, so that a put replaces it; its uses are the new one's. */
static int remove_former(struct cache_table *table, const struct cache_hash *hash, int64_t *ret_hits)
{
    sqlite3_stmt *find = table->statements[CACHE_FIND];
    int code = bind_hash(find, 1, hash);
    code = code == SQLITE_OK ? sqlite3_step(find) : code;
    int64_t id = sqlite3_column_int64(find, 0);
    uint64_t bytes = (uint64_t)sqlite3_column_int64(find, 1);
    int64_t hits = sqlite3_column_int64(find, 2);
    finish(find);
    if (code != SQLITE_ROW) {
        *ret_hits = 0;
        return code == SQLITE_DONE ? SQLITE_OK : code;
    }
    *ret_hits = hits;
    return remove_record(table, id, bytes);
}

static int insert_entry(struct cache_table *table, const struct cache_tier_record *record,
                        const struct cache_hash *hash, int64_t hits)
{
    sqlite3_stmt *insert = table->statements[CACHE_INSERT];
    double cost = isfinite(record->cost) && record->cost > COST_MIN ? record->cost : COST_MIN;
    uint64_t charge = cache_tier_record_charge(record);
    int code = bind_hash(insert, 1, hash);
    code |= bind_bytes(insert, 2, key_head(record->key));
    code |= bind_bytes(insert, 3, record->route);
    code |= sqlite3_bind_double(insert, 4, cost);
    code |= sqlite3_bind_int64(insert, 5, hits);
    code |= sqlite3_bind_int64(insert, 6, record->made_ms);
    code |= sqlite3_bind_int64(insert, 7, record->remove_at_ms);
    code |= sqlite3_bind_int64(insert, 8, record->last_used_ms);
    code |= sqlite3_bind_int64(insert, 9, (int64_t)charge);
    code |= sqlite3_bind_double(insert, 10, table->totals.inflation + (double)(hits + 1) * cost / (double)charge);
    return run(insert, code == SQLITE_OK ? SQLITE_OK : SQLITE_NOMEM);
}

static int insert_content(struct cache_table *table, const struct cache_tier_record *record, int64_t id)
{
    sqlite3_stmt *insert = table->statements[CACHE_INSERT_CONTENT];
    const struct bytes columns[] = {record->key, record->tags, record->head, record->body};
    int code = sqlite3_bind_int64(insert, 1, id);
    for (int i = 0; i < (int)ARRAY_COUNT(columns) && code == SQLITE_OK; i++) {
        code = bind_bytes(insert, 2 + i, columns[i]);
    }
    return run(insert, code);
}

/* Takes the next name from the front of the list. */
static bool next_tag(struct bytes *tags, struct bytes *ret_tag)
{
    const char *end = tags->len == 0 ? NULL : memchr(tags->ptr, '\n', tags->len);
    if (end == NULL) {
        return false;
    }
    *ret_tag = (struct bytes){tags->ptr, (size_t)(end - tags->ptr)};
    tags->len -= ret_tag->len + 1;
    tags->ptr = end + 1;
    return true;
}

static int insert_tags(struct cache_table *table, struct bytes tags, int64_t id)
{
    sqlite3_stmt *insert = table->statements[CACHE_INSERT_TAG];
    struct bytes tag;
    int code = SQLITE_OK;
    while (code == SQLITE_OK && next_tag(&tags, &tag)) {
        code = bind_bytes(insert, 1, tag);
        code = code == SQLITE_OK ? sqlite3_bind_int64(insert, 2, id) : code;
        code = run(insert, code);
    }
    return code;
}

int cache_table_put(struct cache_table *table, const struct cache_tier_record *record, const struct cache_hash *hash)
{
    int64_t hits = 0;
    int code = remove_former(table, hash, &hits);
    code = code == SQLITE_OK ? insert_entry(table, record, hash, hits) : code;
    if (code != SQLITE_OK) {
        return code;
    }
    int64_t id = sqlite3_last_insert_rowid(table->sqlite);
    table->totals.records++;
    table->totals.bytes += cache_tier_record_charge(record);
    code = insert_content(table, record, id);
    return code == SQLITE_OK ? insert_tags(table, record->tags, id) : code;
}

int cache_table_touch(struct cache_table *table, const struct cache_hash *hash, int64_t now_ms)
{
    sqlite3_stmt *touch = table->statements[CACHE_TOUCH];
    int code = bind_hash(touch, 1, hash);
    code = code == SQLITE_OK ? sqlite3_bind_int64(touch, 2, now_ms) : code;
    code = code == SQLITE_OK ? sqlite3_bind_double(touch, 3, table->totals.inflation) : code;
    return run(touch, code);
}

/* ---- many records, a slice at a time ---- */

/* What is to be removed: collected first, because a statement is not to see its table change. */
struct slice {
    unsigned count;
    unsigned looked_at;
    uint64_t bytes;
    struct {
        int64_t id;
        uint64_t bytes;
    } records[CACHE_SLICE_RECORDS];
};

static bool slice_is_full(const struct slice *slice)
{
    return slice->looked_at == CACHE_SLICE_RECORDS || slice->bytes >= CACHE_SLICE_BYTES;
}

static void slice_add(struct slice *slice, sqlite3_stmt *statement)
{
    uint64_t bytes = (uint64_t)sqlite3_column_int64(statement, 1);
    slice->records[slice->count].id = sqlite3_column_int64(statement, 0);
    slice->records[slice->count].bytes = bytes;
    slice->count++;
    slice->bytes += bytes;
}

static int slice_remove(struct cache_table *table, const struct slice *slice)
{
    int code = SQLITE_OK;
    for (unsigned i = 0; i < slice->count && code == SQLITE_OK; i++) {
        code = remove_record(table, slice->records[i].id, slice->records[i].bytes);
    }
    return code;
}

/* ---- purging ---- */

void cache_purge_rewind(struct cache_purge *purge)
{
    struct bytes head = key_head(purge->text);
    purge->after_id = INT64_MIN;
    if (purge->kind == CACHE_TIER_PURGE_PREFIX) {
        bytes_put((char *)purge->after_head, head);
        purge->after_head_bytes = (int)head.len;
    }
}

static bool has_tag(struct bytes tags, struct bytes wanted)
{
    struct bytes tag;
    while (next_tag(&tags, &tag)) {
        if (bytes_equal(tag, wanted)) {
            return true;
        }
    }
    return false;
}

bool cache_purge_matches(const struct cache_purge *purge, const struct cache_tier_record *record)
{
    switch (purge->kind) {
    case CACHE_TIER_PURGE_KEY: return bytes_equal(record->key, purge->text);
    case CACHE_TIER_PURGE_PREFIX: return bytes_starts_with(record->key, purge->text);
    case CACHE_TIER_PURGE_TAG:
        return bytes_starts_with(record->key, purge->key_prefix) && has_tag(record->tags, purge->text);
    case CACHE_TIER_PURGE_ROUTE: return bytes_equal(record->route, purge->text);
    case CACHE_TIER_PURGE_ALL: return true;
    }
    return false;
}

static enum cache_statement purge_statement(enum cache_tier_purge_kind kind)
{
    switch (kind) {
    case CACHE_TIER_PURGE_KEY: return CACHE_FIND;
    case CACHE_TIER_PURGE_PREFIX: return CACHE_SELECT_PREFIX;
    case CACHE_TIER_PURGE_TAG: return CACHE_SELECT_TAG;
    case CACHE_TIER_PURGE_ROUTE: return CACHE_SELECT_ROUTE;
    case CACHE_TIER_PURGE_ALL: break;
    }
    return CACHE_SELECT_ALL;
}

/* The greatest head a key with this prefix can have, in `out`; its length. */
static int last_head(struct bytes prefix, unsigned char *out)
{
    memset(out, 0xff, CACHE_KEY_HEAD_BYTES);
    bytes_put((char *)out, key_head(prefix));
    return CACHE_KEY_HEAD_BYTES;
}

static int purge_bind(const struct cache_purge *purge, sqlite3_stmt *statement, unsigned char *last)
{
    int code = SQLITE_OK;
    switch (purge->kind) {
    case CACHE_TIER_PURGE_KEY: return bind_hash(statement, 1, &purge->hash);
    case CACHE_TIER_PURGE_ALL: return sqlite3_bind_int64(statement, 1, purge->after_id);
    case CACHE_TIER_PURGE_PREFIX:
        code =
            bind_bytes(statement, 1, (struct bytes){(const char *)purge->after_head, (size_t)purge->after_head_bytes});
        code = code == SQLITE_OK ? sqlite3_bind_blob(statement, 3, last, last_head(purge->text, last), SQLITE_STATIC)
                                 : code;
        break;
    case CACHE_TIER_PURGE_TAG:
    case CACHE_TIER_PURGE_ROUTE: code = bind_bytes(statement, 1, purge->text); break;
    }
    return code == SQLITE_OK ? sqlite3_bind_int64(statement, 2, purge->after_id) : code;
}

/* Whether the row that the index led to is meant, when that takes its whole key. */
static int purge_confirm(struct cache_table *table, const struct cache_purge *purge, int64_t id, bool *ret_is_meant)
{
    bool is_exact = purge->kind == CACHE_TIER_PURGE_KEY;
    struct bytes prefix = purge->kind == CACHE_TIER_PURGE_TAG ? purge->key_prefix : purge->text;
    *ret_is_meant = true;
    if (!is_exact && !(purge->kind == CACHE_TIER_PURGE_TAG && prefix.len > 0) &&
        !(purge->kind == CACHE_TIER_PURGE_PREFIX && prefix.len > CACHE_KEY_HEAD_BYTES)) {
        return SQLITE_OK;
    }
    sqlite3_stmt *statement = table->statements[CACHE_KEY];
    int code = sqlite3_bind_int64(statement, 1, id);
    code = code == SQLITE_OK ? sqlite3_step(statement) : code;
    if (code == SQLITE_ROW) {
        struct bytes key = column_bytes(statement, 0);
        *ret_is_meant = is_exact ? bytes_equal(key, prefix) : bytes_starts_with(key, prefix);
    }
    finish(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

static void purge_advance(struct cache_purge *purge, sqlite3_stmt *statement)
{
    purge->after_id = sqlite3_column_int64(statement, 0);
    if (purge->kind == CACHE_TIER_PURGE_PREFIX) {
        struct bytes head = column_bytes(statement, 2);
        purge->after_head_bytes = (int)head.len;
        bytes_put((char *)purge->after_head, key_head(head));
    }
}

static int purge_collect(struct cache_table *table, struct cache_purge *purge, struct slice *slice)
{
    unsigned char last[CACHE_KEY_HEAD_BYTES];
    sqlite3_stmt *select = table->statements[purge_statement(purge->kind)];
    int code = purge_bind(purge, select, last);
    while (code == SQLITE_OK && !slice_is_full(slice)) {
        code = sqlite3_step(select);
        if (code != SQLITE_ROW) {
            break;
        }
        bool is_meant;
        slice->looked_at++;
        code = purge_confirm(table, purge, sqlite3_column_int64(select, 0), &is_meant);
        if (code == SQLITE_OK && is_meant) {
            slice_add(slice, select);
        }
    }
    if (code == SQLITE_OK) { /* full: the select stands on the last row it gave */
        purge_advance(purge, select);
    }
    finish(select);
    return code;
}

int cache_table_purge(struct cache_table *table, struct cache_purge *purge, bool *ret_more)
{
    struct slice slice = {.count = 0};
    int code = purge_collect(table, purge, &slice);
    *ret_more = code == SQLITE_OK;
    if (code != SQLITE_OK && code != SQLITE_DONE) {
        return code;
    }
    code = slice_remove(table, &slice);
    purge->removed += slice.count;
    table->totals.purged += slice.count;
    return code;
}

/* ---- tending ---- */

static int expire(struct cache_table *table, int64_t now_ms, struct slice *slice)
{
    sqlite3_stmt *select = table->statements[CACHE_SELECT_EXPIRED];
    int code = sqlite3_bind_int64(select, 1, now_ms);
    while (code == SQLITE_OK && !slice_is_full(slice)) {
        code = sqlite3_step(select);
        if (code == SQLITE_ROW) {
            slice->looked_at++;
            slice_add(slice, select);
            code = SQLITE_OK;
        }
    }
    finish(select);
    if (code != SQLITE_OK && code != SQLITE_DONE) {
        return code;
    }
    table->totals.expired += slice->count;
    return slice_remove(table, slice);
}

static int evict(struct cache_table *table, uint64_t charge_max, struct slice *slice)
{
    sqlite3_stmt *select = table->statements[CACHE_SELECT_LEAST];
    double worth = table->totals.inflation;
    int code = SQLITE_OK;
    while (code == SQLITE_OK && !slice_is_full(slice) && table->totals.bytes > charge_max + slice->bytes) {
        code = sqlite3_step(select);
        if (code == SQLITE_ROW) {
            slice->looked_at++;
            slice_add(slice, select);
            worth = sqlite3_column_double(select, 2);
            code = SQLITE_OK;
        }
    }
    finish(select);
    if (code != SQLITE_OK && code != SQLITE_DONE) {
        return code;
    }
    table->totals.inflation = fmax(worth, table->totals.inflation);
    table->totals.evicted += slice->count;
    return slice_remove(table, slice);
}

/* Records take up to 1.4 times what they are charged, as they happen to fill pages; how much it is in this file tells
 * how many of them make up bytes_max on the disk. */
static int measure(struct cache_table *table, uint64_t bytes_max)
{
    int64_t pages = 0, free_pages = 0, page_bytes = 0;
    table->charge_max = bytes_max;
    int code = database_number(table->sqlite, "PRAGMA page_count", &pages);
    code = code == SQLITE_OK ? database_number(table->sqlite, "PRAGMA freelist_count", &free_pages) : code;
    code = code == SQLITE_OK ? database_number(table->sqlite, "PRAGMA page_size", &page_bytes) : code;
    int64_t used = (pages - free_pages) * page_bytes - CACHE_EMPTY_BYTES;
    if (code == SQLITE_OK && used > (int64_t)(bytes_max / 2) && (uint64_t)used > table->totals.bytes) {
        table->charge_max = (uint64_t)((double)bytes_max * ((double)table->totals.bytes / (double)used));
    }
    return code;
}

int cache_table_tend(struct cache_table *table, int64_t now_ms, uint64_t bytes_max, bool *ret_more)
{
    struct slice expired = {.count = 0}, least = {.count = 0};
    int code = expire(table, now_ms, &expired);
    code = code == SQLITE_OK ? measure(table, bytes_max) : code;
    code = code == SQLITE_OK ? evict(table, table->charge_max, &least) : code;
    *ret_more = slice_is_full(&expired) || slice_is_full(&least);
    return code;
}

int cache_table_vacuum(struct cache_table *table, uint64_t bytes_max, bool *ret_more)
{
    int64_t free_pages = 0, pages = 0;
    int64_t kept = (int64_t)(bytes_max / CACHE_FREE_SHARE / CACHE_PAGE_BYTES);
    kept = kept < CACHE_FREE_PAGES_KEPT ? kept : CACHE_FREE_PAGES_KEPT;
    *ret_more = false;
    int code = database_number(table->sqlite, "PRAGMA freelist_count", &free_pages);
    code = code == SQLITE_OK ? database_number(table->sqlite, "PRAGMA page_count", &pages) : code;
    if (code != SQLITE_OK || free_pages <= kept || free_pages <= pages / CACHE_FREE_SHARE) {
        return code;
    }
    char statement[48];
    snprintf(statement, sizeof(statement), "PRAGMA incremental_vacuum(%d)", CACHE_VACUUM_PAGES);
    code = database_run(table->sqlite, statement);
    *ret_more = code == SQLITE_OK;
    return code;
}
