/* The thread that answers gets. It has a connection while the writer says that there is a database, and gives it up
 * when told to, so that the file can be moved or made anew. */
#include "base/check.h"
#include "store/internal.h"

struct reader {
    struct store *store;
    struct store_reading reading;
    uint64_t generation; /* of the database it has open */
};

static void reader_close(struct reader *reader)
{
    struct store *store = reader->store;
    if (reader->reading.sqlite != NULL) {
        cache_reading_close(&reader->reading.cache);
        sqlite3_close(reader->reading.sqlite);
        reader->reading.sqlite = NULL;
    }
    pthread_mutex_lock(&store->lock);
    store->reader_is_open = false;
    pthread_cond_signal(&store->reader_closed);
    pthread_mutex_unlock(&store->lock);
}

/* What the writer has to see to; the connection is given up, for the writer will want that. */
static void reader_fail(struct reader *reader, const struct database_error *error)
{
    struct store *store = reader->store;
    reader_close(reader);
    pthread_mutex_lock(&store->lock);
    if (store->accepts_reads && store->generation == reader->generation) {
        store->accepts_reads = false;
        store->reader_error = *error;
        pthread_cond_signal(&store->writer_wake);
    }
    pthread_mutex_unlock(&store->lock);
}

static void reader_open(struct reader *reader)
{
    struct store *store = reader->store;
    struct store_reading *reading = &reader->reading;
    struct database_error error;
    enum store_fault fault =
        database_open_reader(store->path, store->options.lock_timeout_ms, &reading->sqlite, &error);
    if (fault == STORE_FAULT_NONE) {
        int code = cache_reading_open(&reading->cache, reading->sqlite);
        if (code == SQLITE_OK) {
            return;
        }
        database_explain(reading->sqlite, code, &error);
    }
    reader_fail(reader, &error);
}

static void reader_answer(struct reader *reader, struct store_request *request, bool has_database)
{
    struct store_reading *reading = &reader->reading;
    if (has_database && reading->sqlite == NULL) {
        reader_open(reader);
    }
    reading->code = SQLITE_OK;
    request->run(request, has_database && reading->sqlite != NULL ? reading : NULL); /* the request is gone */
    if (reading->code == SQLITE_OK) {
        return;
    }
    struct database_error error;
    database_explain(reading->sqlite, reading->code, &error);
    if (error.fault == STORE_FAULT_LOCKED || error.fault == STORE_FAULT_MEMORY) {
        store_count(&reader->store->counters.errors[error.fault], 1); /* it may pass by itself */
    } else {
        reader_fail(reader, &error);
    }
}

/* Whether the connection it has is not wanted any more. The lock is held. */
static bool reader_is_stale(const struct reader *reader)
{
    const struct store *store = reader->store;
    return store->reader_is_open && (!store->accepts_reads || store->generation != reader->generation);
}

static struct store_request *pop(struct store *store)
{
    struct store_request *request = store->reads_first;
    store->reads_first = request->next;
    if (store->reads_first == NULL) {
        store->reads_last = NULL;
    }
    store->read_count--;
    store_gauge(&store->counters.queued_reads, store->read_count);
    return request;
}

/* Does the next thing there is to do. False: it is over. The lock is held, but not while doing it. */
static bool reader_turn(struct reader *reader)
{
    struct store *store = reader->store;
    if (reader_is_stale(reader)) {
        pthread_mutex_unlock(&store->lock);
        reader_close(reader);
        pthread_mutex_lock(&store->lock);
    } else if (store->reads_first != NULL && (store->is_settled || store->is_closing)) {
        struct store_request *request = pop(store);
        bool has_database = store->accepts_reads && !store->is_closing;
        if (has_database && !store->reader_is_open) {
            store->reader_is_open = true; /* said before it is: from now on the writer waits for the closing */
            reader->generation = store->generation;
        }
        pthread_mutex_unlock(&store->lock);
        reader_answer(reader, request, has_database);
        pthread_mutex_lock(&store->lock);
    } else if (store->is_closing) {
        return false;
    } else {
        pthread_cond_wait(&store->reader_wake, &store->lock);
    }
    return true;
}

void *store_reader_main(void *context)
{
    struct reader reader = {.store = context};
    pthread_setname_np(pthread_self(), "store-reader");
    pthread_mutex_lock(&reader.store->lock);
    while (reader_turn(&reader)) {
    }
    pthread_mutex_unlock(&reader.store->lock);
    reader_close(&reader);
    return NULL;
}
