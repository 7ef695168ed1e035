/* The file: opened, recognised, brought to the present schema, told apart from other applications' files. What the
 * library's result codes mean is decided here and nowhere else.
 *
 * A connection belongs to the thread that opened it; it is made without the library's own locks. */
#ifndef SLUICE_STORE_DATABASE_H
#define SLUICE_STORE_DATABASE_H

#include <sqlite3.h>
#include <stdbool.h>

#include "store/store.h"

enum {
    DATABASE_PAGE_CACHE_KB = 8192,
    DATABASE_ASIDE_MAX = 4, /* corrupt files kept */
    DATABASE_ERROR_BYTES = 160,
};

/* What a file holds, and a way up: the statements that make version n + 1 out of version n. Files of different kinds
 * have different ids, so that none is ever migrated as another: to each, the other is another application's. */
struct database_schema {
    const char *const *migrations; /* [n] */
    int version;                   /* how many there are */
    int application_id;            /* in the file's header; not 0 */
};

/* The cache tier's, as it is at present: schema.c. */
extern const struct database_schema database_schema_cache;

/* Why an open failed, or what a call's result means; `text` for people. */
struct database_error {
    enum store_fault fault;
    char text[DATABASE_ERROR_BYTES];
};

/* Opens the file for writing, makes it (for this user alone) if it is not there, and brings its schema up to date, each
 * step in a transaction of its own. A file that is another application's, or newer, is closed as it was.
 * STORE_FAULT_NONE and a connection, or the reason, in *ret_error too. */
enum store_fault database_open_writer(const char *path, uint32_t lock_timeout_ms, const struct database_schema *schema,
                                      sqlite3 **ret_sqlite, struct database_error *ret_error);

/* Opens it for reading; the writer has it open. */
enum store_fault database_open_reader(const char *path, uint32_t lock_timeout_ms, sqlite3 **ret_sqlite,
                                      struct database_error *ret_error);

/* What a call that returned `code` on this connection (NULL: none could be made) has met. */
void database_explain(sqlite3 *sqlite, int code, struct database_error *ret_error);

/* Whether the file under its path is still the one that is open, and of this version: MISSING, NEWER, or NONE. */
enum store_fault database_check(sqlite3 *sqlite, const struct database_schema *schema,
                                struct database_error *ret_error);

/* A small write that changes nothing. The library's code; on failure a transaction may be open. */
int database_probe(sqlite3 *sqlite, const struct database_schema *schema);

/* Runs statements that give no rows. The library's code. */
int database_run(sqlite3 *sqlite, const char *statements);

/* Reads the single number that a statement gives. The library's code. */
int database_number(sqlite3 *sqlite, const char *statement, int64_t *ret_number);

/* Renames the file, closed by everyone, with its log to `<path>.corrupt-<n>`. False: all names are taken, or it failed.
 */
bool database_move_aside(const char *path);

#endif
