/* The schema, as the steps that led to it. A step that has been released is never changed: what is wrong with it is
 * mended by the next one.
 *
 * What is looked through often is apart from what is large: a touch rewrites a row of cache_entry, about 200 bytes, and
 * never a body; expiry, eviction and most purges read no content. */
#include "base/check.h"
#include "store/database.h"

static const char *const migrations[] = {
    /* 1: the cache tier */
    "CREATE TABLE cache_entry ("
    "  id INTEGER PRIMARY KEY,"
    "  hash BLOB NOT NULL UNIQUE," /* XXH3-128 of the key */
    "  key_head BLOB NOT NULL,"    /* its first bytes: purging by prefix is a range */
    "  route BLOB NOT NULL,"
    "  cost REAL NOT NULL,"
    "  hits INTEGER NOT NULL,"
    "  made_ms INTEGER NOT NULL,"
    "  remove_at_ms INTEGER NOT NULL,"
    "  last_used_ms INTEGER NOT NULL,"
    "  bytes INTEGER NOT NULL," /* as charged */
    "  worth REAL NOT NULL"     /* the least goes first */
    ") STRICT;"
    "CREATE INDEX cache_entry_key_head ON cache_entry (key_head, id);"
    "CREATE INDEX cache_entry_route ON cache_entry (route, id);"
    "CREATE INDEX cache_entry_remove_at ON cache_entry (remove_at_ms);"
    "CREATE INDEX cache_entry_worth ON cache_entry (worth, id);"
    "CREATE TABLE cache_content ("
    "  id INTEGER PRIMARY KEY,"
    "  key BLOB NOT NULL,"
    "  tags BLOB NOT NULL,"
    "  head BLOB NOT NULL,"
    "  body BLOB NOT NULL"
    ") STRICT;"
    "CREATE TABLE cache_tag ("
    "  tag BLOB NOT NULL,"
    "  id INTEGER NOT NULL,"
    "  PRIMARY KEY (tag, id)"
    ") STRICT, WITHOUT ROWID;"
    "CREATE INDEX cache_tag_id ON cache_tag (id);",
};

const struct database_schema database_schema_cache = {
    .migrations = migrations, .version = ARRAY_COUNT(migrations), .application_id = 0x536c7563, /* "Sluc" */
};
