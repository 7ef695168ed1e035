#include "store/database.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"

enum { WAL_BYTES_KEPT = 16 << 20, SUFFIX_BYTES = 32 };

int database_run(sqlite3 *sqlite, const char *statements)
{
    return sqlite3_exec(sqlite, statements, NULL, NULL, NULL);
}

int database_number(sqlite3 *sqlite, const char *statement, int64_t *ret_number)
{
    sqlite3_stmt *prepared = NULL;
    int code = sqlite3_prepare_v2(sqlite, statement, -1, &prepared, NULL);
    if (code != SQLITE_OK) {
        return code;
    }
    code = sqlite3_step(prepared);
    if (code == SQLITE_ROW) {
        *ret_number = sqlite3_column_int64(prepared, 0);
    }
    int end = sqlite3_finalize(prepared);
    return code == SQLITE_ROW ? SQLITE_OK : end == SQLITE_OK ? SQLITE_ERROR : end;
}

/* ---- what a result code means ---- */

static enum store_fault fault_of_errno(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR: return STORE_FAULT_MISSING;
    case EACCES:
    case EPERM:
    case EROFS: return STORE_FAULT_UNWRITABLE;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: return STORE_FAULT_FULL;
    case ENOMEM: return STORE_FAULT_MEMORY;
    default: return STORE_FAULT_IO;
    }
}

/* Of what is open already: that something is missing is left over from another call. */
static enum store_fault fault_of_io(int error)
{
    enum store_fault fault = fault_of_errno(error);
    return fault == STORE_FAULT_MISSING ? STORE_FAULT_IO : fault;
}

static enum store_fault fault_of(sqlite3 *sqlite, int code)
{
    int error = sqlite == NULL ? ENOMEM : sqlite3_system_errno(sqlite);
    switch (code & 0xff) {
    case SQLITE_OK: return STORE_FAULT_NONE;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return STORE_FAULT_LOCKED;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB: return STORE_FAULT_CORRUPT;
    case SQLITE_FULL: return STORE_FAULT_FULL;
    case SQLITE_NOMEM: return STORE_FAULT_MEMORY;
    case SQLITE_PERM: return STORE_FAULT_UNWRITABLE;
    case SQLITE_READONLY: return code == SQLITE_READONLY_DBMOVED ? STORE_FAULT_MISSING : STORE_FAULT_UNWRITABLE;
    case SQLITE_CANTOPEN: return fault_of_errno(error);
    case SQLITE_IOERR: return code == SQLITE_IOERR_NOMEM ? STORE_FAULT_MEMORY : fault_of_io(error);
    default: return STORE_FAULT_IO;
    }
}

void database_explain(sqlite3 *sqlite, int code, struct database_error *ret_error)
{
    ret_error->fault = fault_of(sqlite, code);
    /* The connection's own words only while they are about this code. */
    bool is_own = sqlite != NULL && sqlite3_extended_errcode(sqlite) == code;
    int primary = code & 0xff;
    const char *why = is_own && (primary == SQLITE_CANTOPEN || primary == SQLITE_IOERR)
                          ? strerrordesc_np(sqlite3_system_errno(sqlite))
                          : NULL;
    snprintf(ret_error->text, sizeof(ret_error->text), "%s%s%s", is_own ? sqlite3_errmsg(sqlite) : sqlite3_errstr(code),
             why == NULL ? "" : ": ", why == NULL ? "" : why);
}

static enum store_fault refuse(enum store_fault fault, const char *text, struct database_error *ret_error)
{
    ret_error->fault = fault;
    snprintf(ret_error->text, sizeof(ret_error->text), "%s", text);
    return fault;
}

/* ---- opening ---- */

static int connect_file(const char *path, int flags, uint32_t lock_timeout_ms, sqlite3 **ret_sqlite)
{
    int code = sqlite3_open_v2(path, ret_sqlite, flags | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_busy_timeout(*ret_sqlite, (int)lock_timeout_ms);
    }
    return code;
}

static enum store_fault judge_version(const struct database_schema *schema, int64_t version,
                                      struct database_error *ret_error)
{
    return version >= 0 && version <= schema->version
               ? STORE_FAULT_NONE
               : refuse(STORE_FAULT_NEWER, "it was made by a newer version", ret_error);
}

/* What is kept may be nobody else's business, such as prompts. The library gives its log and index the file's mode. */
static void create_private(const char *path)
{
    int file = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, S_IRUSR | S_IWUSR);
    if (file >= 0) {
        close(file);
    } /* else it is there, or the library will say why it cannot be */
}

/* Whose the file is, and how old. Reads only. */
static int recognise(sqlite3 *sqlite, const struct database_schema *schema, bool *ret_is_new, int *ret_version,
                     struct database_error *ret_error)
{
    int64_t application = 0, version = 0, objects = 0;
    int code = database_number(sqlite, "PRAGMA application_id", &application);
    code = code == SQLITE_OK ? database_number(sqlite, "PRAGMA user_version", &version) : code;
    code = code == SQLITE_OK ? database_number(sqlite, "SELECT count(*) FROM sqlite_schema", &objects) : code;
    if (code != SQLITE_OK) {
        return code;
    }
    bool is_new = application == 0 && version == 0 && objects == 0;
    if (!is_new && application != schema->application_id) {
        refuse(STORE_FAULT_FOREIGN, "it is another application's database", ret_error);
    } else {
        judge_version(schema, version, ret_error);
    }
    *ret_is_new = is_new;
    *ret_version = (int)version;
    return SQLITE_OK;
}

static int migrate(sqlite3 *sqlite, const struct database_schema *schema, int version)
{
    int code = SQLITE_OK;
    for (; version < schema->version && code == SQLITE_OK; version++) {
        char stamp[96];
        snprintf(stamp, sizeof(stamp), "PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
                 schema->application_id, version + 1);
        code = database_run(sqlite, "BEGIN IMMEDIATE");
        code = code == SQLITE_OK ? database_run(sqlite, schema->migrations[version]) : code;
        code = code == SQLITE_OK ? database_run(sqlite, stamp) : code;
        if (code != SQLITE_OK && !sqlite3_get_autocommit(sqlite)) {
            database_run(sqlite, "ROLLBACK");
        }
    }
    return code;
}

static int settle_pragmas(sqlite3 *sqlite, bool is_new)
{
    /* Has to come before anything is written; later it would take a VACUUM. */
    int code = is_new ? database_run(sqlite, "PRAGMA auto_vacuum = INCREMENTAL") : SQLITE_OK;
    code = code == SQLITE_OK ? database_run(sqlite, "PRAGMA journal_mode = WAL") : code;
    char rest[192];
    /* NORMAL: a crash of the machine may lose the last commits but never the database; a cache can bear that. What must
     * survive sets FULL for its own transactions. */
    snprintf(rest, sizeof(rest),
             "PRAGMA synchronous = NORMAL; PRAGMA journal_size_limit = %d; PRAGMA cache_size = -%d;"
             "PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF",
             WAL_BYTES_KEPT, DATABASE_PAGE_CACHE_KB);
    return code == SQLITE_OK ? database_run(sqlite, rest) : code;
}

enum store_fault database_open_writer(const char *path, uint32_t lock_timeout_ms, const struct database_schema *schema,
                                      sqlite3 **ret_sqlite, struct database_error *ret_error)
{
    *ret_error = (struct database_error){.fault = STORE_FAULT_NONE};
    sqlite3 *sqlite = NULL;
    bool is_new = false;
    int version = 0;
    create_private(path);
    int code = connect_file(path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, lock_timeout_ms, &sqlite);
    if (code == SQLITE_OK && sqlite3_db_readonly(sqlite, "main") == 1) {
        refuse(STORE_FAULT_UNWRITABLE, "no permission to write it", ret_error);
        goto fail;
    }
    code = code == SQLITE_OK ? recognise(sqlite, schema, &is_new, &version, ret_error) : code;
    if (ret_error->fault != STORE_FAULT_NONE) {
        goto fail;
    }
    code = code == SQLITE_OK ? settle_pragmas(sqlite, is_new) : code;
    code = code == SQLITE_OK ? migrate(sqlite, schema, version) : code;
    if (code != SQLITE_OK) {
        database_explain(sqlite, code, ret_error);
        goto fail;
    }
    *ret_sqlite = sqlite;
    return STORE_FAULT_NONE;

fail:
    if (sqlite != NULL) { /* whoever's it is: its log stays as it was */
        sqlite3_db_config(sqlite, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    }
    sqlite3_close(sqlite);
    return ret_error->fault;
}

enum store_fault database_open_reader(const char *path, uint32_t lock_timeout_ms, sqlite3 **ret_sqlite,
                                      struct database_error *ret_error)
{
    *ret_error = (struct database_error){.fault = STORE_FAULT_NONE};
    sqlite3 *sqlite = NULL;
    char pragmas[64];
    snprintf(pragmas, sizeof(pragmas), "PRAGMA cache_size = -%d; PRAGMA trusted_schema = OFF", DATABASE_PAGE_CACHE_KB);
    int code = connect_file(path, SQLITE_OPEN_READONLY, lock_timeout_ms, &sqlite);
    code = code == SQLITE_OK ? database_run(sqlite, pragmas) : code;
    if (code != SQLITE_OK) {
        database_explain(sqlite, code, ret_error);
        sqlite3_close(sqlite);
        return ret_error->fault;
    }
    *ret_sqlite = sqlite;
    return STORE_FAULT_NONE;
}

/* ---- the file itself ---- */

enum store_fault database_check(sqlite3 *sqlite, const struct database_schema *schema, struct database_error *ret_error)
{
    *ret_error = (struct database_error){.fault = STORE_FAULT_NONE};
    int moved = 0;
    int64_t version = schema->version;
    if (sqlite3_file_control(sqlite, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK && moved != 0) {
        return refuse(STORE_FAULT_MISSING, "the file is gone or another is in its place", ret_error);
    }
    /* What it cannot read now, whoever reads next will meet. */
    return database_number(sqlite, "PRAGMA user_version", &version) == SQLITE_OK
               ? judge_version(schema, version, ret_error)
               : STORE_FAULT_NONE;
}

int database_probe(sqlite3 *sqlite, const struct database_schema *schema)
{
    char stamp[64];
    int64_t version = 0;
    snprintf(stamp, sizeof(stamp), "PRAGMA user_version = %d", schema->version);
    int code = database_run(sqlite, "BEGIN IMMEDIATE");
    code = code == SQLITE_OK ? database_number(sqlite, "PRAGMA user_version", &version) : code;
    code = code == SQLITE_OK && version == schema->version ? database_run(sqlite, stamp) : code;
    return code == SQLITE_OK ? database_run(sqlite, "COMMIT") : code;
}

bool database_move_aside(const char *path)
{
    /* The log goes with the file under the name that the library will look for, so that what can be read still is. */
    static const char *const companions[] = {"-wal", "-shm", ""};
    size_t room = strlen(path) + SUFFIX_BYTES;
    char *from = malloc(2 * room);
    if (from == NULL) {
        return false;
    }
    char *to = from + room;
    bool is_done = false;
    for (int n = 1; n <= DATABASE_ASIDE_MAX && !is_done; n++) {
        snprintf(to, room, "%s.corrupt-%d", path, n);
        if (access(to, F_OK) == 0) {
            continue;
        }
        for (size_t i = 0; i < ARRAY_COUNT(companions); i++) {
            snprintf(from, room, "%s%s", path, companions[i]);
            snprintf(to, room, "%s.corrupt-%d%s", path, n, companions[i]);
            is_done = rename(from, to) == 0; /* the last is what counts: a log there need not be */
        }
        break;
    }
    free(from);
    return is_done;
}
