/* The store's outside: its queues, its beginning and its end. */
#include "store/store.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "store/internal.h"

const char *store_state_name(enum store_state state)
{
    static const char *const names[STORE_STATES] = {
        [STORE_STARTING] = "starting",
        [STORE_READY] = "ready",
        [STORE_READ_ONLY] = "read_only",
        [STORE_UNAVAILABLE] = "unavailable",
    };
    return names[state];
}

const char *store_fault_name(enum store_fault fault)
{
    static const char *const names[STORE_FAULTS] = {
        [STORE_FAULT_NONE] = "none",     [STORE_FAULT_MISSING] = "missing", [STORE_FAULT_UNWRITABLE] = "unwritable",
        [STORE_FAULT_LOCKED] = "locked", [STORE_FAULT_CORRUPT] = "corrupt", [STORE_FAULT_FOREIGN] = "foreign",
        [STORE_FAULT_NEWER] = "newer",   [STORE_FAULT_FULL] = "full",       [STORE_FAULT_MEMORY] = "memory",
        [STORE_FAULT_IO] = "io",
    };
    return names[fault];
}

const struct store_counters *store_counters(const struct store *store)
{
    return &store->counters;
}

void store_tick(struct store *store, int64_t now_ms)
{
    store_learn_time(store, now_ms);
}

nanos store_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (nanos)now.tv_sec * NANOS_PER_S + (nanos)now.tv_nsec;
}

void store_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, nanos deadline_ns)
{
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / NANOS_PER_S),
                                .tv_nsec = (long)(deadline_ns % NANOS_PER_S)};
    pthread_cond_timedwait(condition, lock, &deadline); /* whoever waits looks again for why it was woken */
}

/* ---- queues ---- */

void store_enqueue_write_always(struct store *store, struct store_write *write)
{
    write->next = NULL;
    if (store->writes_last == NULL) {
        store->writes_first = write;
    } else {
        store->writes_last->next = write;
    }
    store->writes_last = write;
    store->write_count++;
    store->write_bytes += write->bytes;
    store->is_hurried |= write->kind->hold != NULL; /* somebody may wait for it */
    store_gauge(&store->counters.queued_writes, store->write_count);
    store_gauge(&store->counters.queued_bytes, store->write_bytes);
    if (store->writer_is_idle || store->is_hurried || store->write_count == BATCH_WRITES_MAX) {
        pthread_cond_signal(&store->writer_wake);
    }
}

bool store_enqueue_write(struct store *store, struct store_write *write)
{
    if (!store->accepts_writes || store->write_count >= store->options.queue_writes_max ||
        store->write_bytes + write->bytes > store->options.queue_bytes_max) {
        return false;
    }
    store_enqueue_write_always(store, write);
    return true;
}

enum result store_enqueue_read(struct store *store, struct store_request *request, bool waits_for_start)
{
    enum result result = RESULT_OK;
    request->next = NULL;
    pthread_mutex_lock(&store->lock);
    if (store->is_closing || !(store->accepts_reads || (waits_for_start && !store->is_settled))) {
        result = RESULT_UNREACHABLE;
    } else if (store->read_count >= store->options.queue_reads_max) {
        result = RESULT_LIMIT;
    } else {
        if (store->reads_last == NULL) {
            store->reads_first = request;
        } else {
            store->reads_last->next = request;
        }
        store->reads_last = request;
        store->read_count++;
        store_gauge(&store->counters.queued_reads, store->read_count);
        pthread_cond_signal(&store->reader_wake);
    }
    pthread_mutex_unlock(&store->lock);
    return result;
}

/* ---- beginning and end ---- */

static void options_default(struct store_options *options)
{
    options->cache_bytes_max = options->cache_bytes_max == 0 ? STORE_CACHE_BYTES : options->cache_bytes_max;
    options->lock_timeout_ms = options->lock_timeout_ms == 0 ? STORE_LOCK_TIMEOUT_MS : options->lock_timeout_ms;
    options->retry_interval_ms = options->retry_interval_ms == 0 ? STORE_RETRY_INTERVAL_MS : options->retry_interval_ms;
    options->queue_bytes_max = options->queue_bytes_max == 0 ? STORE_QUEUE_BYTES : options->queue_bytes_max;
    options->queue_writes_max = options->queue_writes_max == 0 ? STORE_QUEUE_WRITES : options->queue_writes_max;
    options->queue_reads_max = options->queue_reads_max == 0 ? STORE_QUEUE_READS : options->queue_reads_max;
}

/* Two names that begin with no folder are no files to SQLite: ":memory:" and "file:…". */
static char *path_copy(const char *path)
{
    const char *folder = path[0] == '/' ? "" : "./";
    char *copy = malloc(strlen(folder) + strlen(path) + 1);
    if (copy != NULL) {
        strcpy(stpcpy(copy, folder), path);
    }
    return copy;
}

static void store_free(struct store *store)
{
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->writer_wake);
    pthread_cond_destroy(&store->reader_wake);
    pthread_cond_destroy(&store->reader_closed);
    free(store->purge_all);
    free(store->path);
    free(store);
}

static void conditions_init(struct store *store)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->writer_wake, &attributes);
    pthread_cond_init(&store->reader_wake, &attributes);
    pthread_cond_init(&store->reader_closed, &attributes);
    pthread_condattr_destroy(&attributes);
}

static void close_threads(struct store *store, bool has_reader)
{
    pthread_mutex_lock(&store->lock);
    store->is_closing = true;
    store->accepts_writes = false;
    pthread_cond_broadcast(&store->writer_wake);
    pthread_cond_broadcast(&store->reader_wake);
    pthread_mutex_unlock(&store->lock);
    if (has_reader) {
        pthread_join(store->reader, NULL);
    }
    pthread_join(store->writer, NULL);
}

/* Signals are the workers' business; and one of them, SIGXFSZ, would kill the process where a write should fail. */
static enum result start_threads(struct store *store)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool has_writer = pthread_create(&store->writer, NULL, store_writer_main, store) == 0;
    bool has_reader = has_writer && pthread_create(&store->reader, NULL, store_reader_main, store) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (has_writer && !has_reader) {
        close_threads(store, false);
    }
    return has_reader ? RESULT_OK : RESULT_LIMIT;
}

enum result store_open(const struct store_options *options, struct ring_group *group, struct store **ret_store)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL) {
        return RESULT_NO_MEMORY;
    }
    conditions_init(store);
    store->options = *options;
    options_default(&store->options);
    store->group = group;
    store->accepts_writes = true;
    store->path = path_copy(options->path);
    store->options.path = store->path;
    enum result result = store->path != NULL && cache_tier_init(store) ? start_threads(store) : RESULT_NO_MEMORY;
    if (result != RESULT_OK) {
        store_free(store);
        return result;
    }
    *ret_store = store;
    return RESULT_OK;
}

void store_close(struct store *store)
{
    close_threads(store, true);
    CHECK(store->writes_first == NULL && store->reads_first == NULL && store->purges == NULL);
    store_free(store);
}
