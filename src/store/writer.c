/* The thread that writes. It owns the database: it opens it, notices that it is gone or bad, and tells everyone what
 * state it is in. Its turn: see to the file, commit a batch of what is queued, remove a slice of what has to go, wait.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/log.h"
#include "store/internal.h"

struct writer {
    struct store *store;
    sqlite3 *sqlite; /* NULL: there is no database now */
    struct cache_table table;
    struct store_write *first; /* in hand: taken from the queue and not settled, in order */
    enum store_state state;
    enum store_fault fault;
    nanos retry_at_ns; /* when to open it again, or to write again */
    nanos hurry_at_ns; /* not before is it opened again at once: an error that repeats is not to make it spin */
    nanos look_at_ns;  /* when to look whether the file is still there */
    nanos tend_at_ns;
    uint64_t
        to_prove_bytes;   /* after a full disk: when so much has been written, or for a retry interval all went well, */
    nanos prove_until_ns; /* it is full no more; the state stays READ_ONLY meanwhile, lest it flutter */
    bool is_proving;
    bool is_closing;
    bool has_vacuumed; /* the file can become shorter at the next checkpoint */
};

static nanos interval_ns(const struct writer *writer)
{
    return (nanos)writer->store->options.retry_interval_ms * NANOS_PER_MS;
}

/* ---- states ---- */

static void set_state(struct writer *writer, enum store_state state, enum store_fault fault, const char *text)
{
    struct store *store = writer->store;
    bool is_news = state != writer->state || fault != writer->fault;
    writer->state = state;
    writer->fault = fault;
    atomic_store(&store->counters.state, (uint32_t)state);
    atomic_store(&store->counters.fault, (uint32_t)fault);
    if (!is_news) {
        return;
    }
    if (state == STORE_READY) {
        log_info("store ready path=%s", store->path);
    } else {
        log_warn("store %s: %s (%s) path=%s", state == STORE_READ_ONLY ? "cannot be written" : "unavailable",
                 store_fault_name(fault), text, store->path);
    }
}

/* What workers and the reader may do from now on. */
static void set_accepts(struct writer *writer, bool reads, bool writes)
{
    struct store *store = writer->store;
    pthread_mutex_lock(&store->lock);
    store->is_settled = true;
    store->accepts_reads = reads;
    store->accepts_writes = writes && !store->is_closing;
    pthread_cond_broadcast(&store->reader_wake);
    pthread_mutex_unlock(&store->lock);
}

static void set_ready(struct writer *writer)
{
    writer->is_proving = false;
    set_accepts(writer, true, true); /* first, so that who hears of it is not refused */
    set_state(writer, STORE_READY, STORE_FAULT_NONE, "");
}

static void publish_totals(struct writer *writer)
{
    struct store_counters *counters = &writer->store->counters;
    const struct cache_totals *now = &writer->table.totals, *before = &writer->table.committed;
    store_count(&counters->purged, now->purged - before->purged);
    store_count(&counters->expired, now->expired - before->expired);
    store_count(&counters->evicted, now->evicted - before->evicted);
    store_gauge(&counters->records, now->records);
    store_gauge(&counters->bytes, now->bytes);
    writer->table.committed = *now;
}

/* ---- what waits while nothing can be written ---- */

/* Keeps those of the list that can be held, in order, and gives up the others. */
static struct store_write *keep_held(struct writer *writer, struct store_write *list)
{
    struct store_write *kept = NULL, **end = &kept;
    while (list != NULL) {
        struct store_write *write = list;
        list = write->next;
        write->next = NULL;
        if (write->kind->hold != NULL && !writer->is_closing) {
            write->kind->hold(write, writer->store);
            *end = write;
            end = &write->next;
        } else {
            write->kind->settle(write, writer->store, false);
        }
    }
    return kept;
}

static struct store_write *take_all(struct store *store)
{
    struct store_write *list = store->writes_first;
    store->writes_first = store->writes_last = NULL;
    store->write_count = 0;
    store->write_bytes = 0;
    store->is_hurried = false;
    store_gauge(&store->counters.queued_writes, 0);
    store_gauge(&store->counters.queued_bytes, 0);
    return list;
}

/* Gives up all cache writes, in hand and queued. What is held stays in hand, and in order. */
static void relinquish(struct writer *writer)
{
    struct store *store = writer->store;
    pthread_mutex_lock(&store->lock);
    struct store_write *queued = take_all(store);
    pthread_mutex_unlock(&store->lock);
    struct store_write **end = &writer->first;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = queued;
    writer->first = keep_held(writer, writer->first);
}

/* ---- the database ---- */

static void writer_close(struct writer *writer)
{
    struct store *store = writer->store;
    if (writer->sqlite == NULL) {
        return;
    }
    pthread_mutex_lock(&store->lock);
    store->accepts_reads = false;
    pthread_cond_broadcast(&store->reader_wake);
    while (store->reader_is_open) {
        pthread_cond_wait(&store->reader_closed, &store->lock);
    }
    pthread_mutex_unlock(&store->lock);
    cache_table_close(&writer->table);
    sqlite3_close(writer->sqlite);
    writer->sqlite = NULL;
    store_gauge(&store->counters.records, 0);
    store_gauge(&store->counters.bytes, 0);
}

/* A call has failed: decides what is possible from now on. */
static void writer_fail(struct writer *writer, const struct database_error *error)
{
    struct store *store = writer->store;
    bool is_open = writer->sqlite != NULL;
    bool can_read = is_open && (error->fault == STORE_FAULT_FULL || error->fault == STORE_FAULT_LOCKED ||
                                error->fault == STORE_FAULT_MEMORY);
    nanos now = store_clock();
    store_count(&store->counters.errors[error->fault], 1);
    writer->is_proving = false;
    writer->retry_at_ns = now + interval_ns(writer);
    set_accepts(writer, can_read, false);
    set_state(writer, can_read ? STORE_READ_ONLY : STORE_UNAVAILABLE, error->fault, error->text);
    relinquish(writer);
    if (can_read) {
        return;
    }
    writer_close(writer);
    bool is_cleared = error->fault == STORE_FAULT_MISSING && is_open; /* a new one in its place */
    if (error->fault == STORE_FAULT_CORRUPT && database_move_aside(store->path)) {
        log_warn("store: the corrupt file was moved aside path=%s.corrupt-*", store->path);
        store_count(&store->counters.moved_aside, 1);
        is_cleared = true;
    }
    if (is_cleared && now >= writer->hurry_at_ns) {
        writer->retry_at_ns = now;
        writer->hurry_at_ns = now + interval_ns(writer);
    }
}

static void fail_with_code(struct writer *writer, int code)
{
    struct database_error error;
    database_explain(writer->sqlite, code, &error);
    if (!sqlite3_get_autocommit(writer->sqlite)) {
        database_run(writer->sqlite, "ROLLBACK");
    }
    writer->table.totals = writer->table.committed;
    writer_fail(writer, &error);
}

static void writer_open(struct writer *writer)
{
    struct store *store = writer->store;
    struct database_error error;
    enum store_fault fault = database_open_writer(store->path, store->options.lock_timeout_ms, &database_schema_cache,
                                                  &writer->sqlite, &error);
    if (fault != STORE_FAULT_NONE) {
        writer_fail(writer, &error);
        return;
    }
    int code = cache_table_open(&writer->table, writer->sqlite);
    if (code != SQLITE_OK) {
        database_explain(writer->sqlite, code, &error);
        /* A statement that cannot be: the file says that it is ours and of this version, and has not the tables. */
        error.fault = (code & 0xff) == SQLITE_ERROR ? STORE_FAULT_CORRUPT : error.fault;
        sqlite3_close(writer->sqlite);
        writer->sqlite = NULL;
        writer_fail(writer, &error);
        return;
    }
    store_count(&store->counters.opens, 1);
    publish_totals(writer);
    writer->look_at_ns = store_clock() + interval_ns(writer);
    writer->tend_at_ns = 0;
    pthread_mutex_lock(&store->lock);
    store->generation++;
    pthread_mutex_unlock(&store->lock);
    set_ready(writer);
}

/* What the reader has met, and whether the file is still the one that is open. */
static void writer_look(struct writer *writer, nanos now)
{
    struct store *store = writer->store;
    pthread_mutex_lock(&store->lock);
    struct database_error error = store->reader_error;
    store->reader_error.fault = STORE_FAULT_NONE;
    pthread_mutex_unlock(&store->lock);
    if (writer->sqlite == NULL) {
        return;
    }
    if (error.fault == STORE_FAULT_NONE && now >= writer->look_at_ns) {
        writer->look_at_ns = now + interval_ns(writer);
        database_check(writer->sqlite, &database_schema_cache, &error);
    }
    if (error.fault != STORE_FAULT_NONE) {
        writer_fail(writer, &error);
    }
}

/* ---- writing ---- */

/* Waits a moment for company, then takes as much as one transaction may hold. */
static void take_batch(struct writer *writer)
{
    struct store *store = writer->store;
    nanos deadline = store_clock() + BATCH_WAIT_MS * NANOS_PER_MS;
    pthread_mutex_lock(&store->lock);
    while (store->writes_first != NULL && !store->is_hurried && !store->is_closing &&
           store->write_count < BATCH_WRITES_MAX && store->write_bytes < BATCH_BYTES_MAX && store_clock() < deadline) {
        store_wait_until(&store->writer_wake, &store->lock, deadline);
    }
    struct store_write **end = &writer->first;
    size_t bytes = 0;
    for (unsigned i = 0; i < BATCH_WRITES_MAX && store->writes_first != NULL && bytes < BATCH_BYTES_MAX; i++) {
        struct store_write *write = store->writes_first;
        store->writes_first = write->next;
        write->next = NULL;
        *end = write;
        end = &write->next;
        bytes += write->bytes;
        store->write_count--;
    }
    store->write_bytes -= bytes;
    if (store->writes_first == NULL) {
        store->writes_last = NULL;
        store->is_hurried = false;
    }
    store_gauge(&store->counters.queued_writes, store->write_count);
    store_gauge(&store->counters.queued_bytes, store->write_bytes);
    pthread_mutex_unlock(&store->lock);
}

/* The batch is in the database: those before `end` are over. */
static void settle_batch(struct writer *writer, const struct store_write *end)
{
    uint64_t bytes = 0;
    while (writer->first != end) {
        struct store_write *write = writer->first;
        writer->first = write->next;
        bytes += write->bytes;
        write->kind->settle(write, writer->store, true);
    }
    store_count(&writer->store->counters.batches, 1);
    publish_totals(writer);
    if (writer->table.totals.bytes > writer->table.charge_max) {
        writer->tend_at_ns = 0;
    }
    if (writer->is_proving && bytes >= writer->to_prove_bytes) {
        set_ready(writer);
    } else if (writer->is_proving) {
        writer->to_prove_bytes -= bytes;
    }
}

static void write_batch(struct writer *writer)
{
    nanos until = store_clock() + BATCH_RUN_MS * NANOS_PER_MS;
    struct store_write *write = writer->first;
    uint64_t bytes = 0;
    bool has_more = false;
    int code = database_run(writer->sqlite, "BEGIN IMMEDIATE");
    while (code == SQLITE_OK && write != NULL && !has_more && (write == writer->first || store_clock() < until)) {
        bytes += write->bytes;
        code = write->kind->apply(write, &writer->table, &has_more);
        write = has_more || code != SQLITE_OK ? write : write->next;
    }
    code = code == SQLITE_OK ? database_run(writer->sqlite, "COMMIT") : code;
    if (code == SQLITE_OK) {
        settle_batch(writer, write);
    } else {
        writer->to_prove_bytes = bytes;
        fail_with_code(writer, code);
    }
}

/* The time to try again has come: a small write tells whether writing is possible at all. What was held goes first. */
static bool resume(struct writer *writer, nanos now)
{
    int code = database_probe(writer->sqlite, &database_schema_cache);
    if (code != SQLITE_OK) {
        fail_with_code(writer, code);
        return false;
    }
    if (writer->fault != STORE_FAULT_FULL) {
        set_ready(writer);
        return true;
    }
    writer->is_proving = true;
    writer->prove_until_ns = now + interval_ns(writer);
    set_accepts(writer, true, true);
    return true;
}

static bool can_write(struct writer *writer, nanos now)
{
    if (writer->sqlite == NULL) {
        return false;
    }
    if (writer->state == STORE_READY) {
        return true;
    }
    if (writer->is_proving) {
        if (now >= writer->prove_until_ns) {
            set_ready(writer);
        }
        return true;
    }
    return (now >= writer->retry_at_ns || writer->is_closing) && resume(writer, now);
}

/* ---- tending ---- */

static int give_back_pages(struct writer *writer, bool *ret_more)
{
    int code = cache_table_vacuum(&writer->table, writer->store->options.cache_bytes_max, ret_more);
    if (code == SQLITE_OK && *ret_more) {
        writer->has_vacuumed = true;
    } else if (code == SQLITE_OK && writer->has_vacuumed) {
        /* The file becomes shorter when the log has been carried over; if a read stands in the way, another time. */
        sqlite3_wal_checkpoint_v2(writer->sqlite, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
        writer->has_vacuumed = false;
    }
    return code;
}

static void tend(struct writer *writer, nanos now)
{
    struct store *store = writer->store;
    bool has_more = false;
    int64_t now_ms = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    int code = database_run(writer->sqlite, "BEGIN IMMEDIATE");
    if (code == SQLITE_OK) {
        code = cache_table_tend(&writer->table, now_ms, store->options.cache_bytes_max, &has_more);
    }
    code = code == SQLITE_OK ? database_run(writer->sqlite, "COMMIT") : code;
    if (code == SQLITE_OK) {
        publish_totals(writer);
        code = has_more ? SQLITE_OK : give_back_pages(writer, &has_more);
    }
    writer->tend_at_ns = has_more ? now : now + TEND_INTERVAL_MS * NANOS_PER_MS;
    if (code != SQLITE_OK) {
        fail_with_code(writer, code);
    }
}

/* ---- turns ---- */

static nanos earlier(nanos a, nanos b)
{
    return a < b ? a : b;
}

/* Waits for something to do. Returns false when the store is closing and nothing is queued. */
static bool writer_wait(struct writer *writer)
{
    struct store *store = writer->store;
    bool is_writing = writer->sqlite != NULL && (writer->state == STORE_READY || writer->is_proving);
    nanos deadline = writer->sqlite == NULL || !is_writing ? writer->retry_at_ns : writer->tend_at_ns;
    deadline = writer->sqlite == NULL ? deadline : earlier(deadline, writer->look_at_ns);
    deadline = writer->is_proving ? earlier(deadline, writer->prove_until_ns) : deadline;
    bool is_idle = writer->first == NULL || !is_writing;
    pthread_mutex_lock(&store->lock);
    store->writer_is_idle = is_writing;
    while (is_idle && !store->is_closing && store->reader_error.fault == STORE_FAULT_NONE &&
           !(is_writing && store->writes_first != NULL) && store_clock() < deadline) {
        store_wait_until(&store->writer_wake, &store->lock, deadline);
    }
    store->writer_is_idle = false;
    writer->is_closing = store->is_closing;
    bool goes_on = !store->is_closing || store->writes_first != NULL || writer->first != NULL;
    pthread_mutex_unlock(&store->lock);
    return goes_on;
}

static void writer_turn(struct writer *writer)
{
    nanos now = store_clock();
    writer_look(writer, now);
    if (writer->sqlite == NULL && now >= writer->retry_at_ns) {
        writer_open(writer);
    }
    if (!can_write(writer, now)) {
        if (writer->is_closing) {
            relinquish(writer);
        }
        return;
    }
    if (writer->first == NULL) {
        take_batch(writer);
    }
    if (writer->first != NULL) {
        write_batch(writer);
    }
    if (now >= writer->tend_at_ns && writer->sqlite != NULL && !writer->is_closing &&
        (writer->state == STORE_READY || writer->is_proving)) {
        tend(writer, now);
    }
}

void *store_writer_main(void *context)
{
    struct writer writer = {.store = context};
    pthread_setname_np(pthread_self(), "store-writer");
    do {
        writer_turn(&writer);
    } while (writer_wait(&writer));
    writer_close(&writer);
    return NULL;
}
