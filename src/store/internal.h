/* The store's two threads, what passes between them and the workers, and what a table module plugs in. */
#ifndef SLUICE_STORE_INTERNAL_H
#define SLUICE_STORE_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>

#include "base/clock.h"
#include "store/cache_table.h"
#include "store/database.h"
#include "store/store.h"

enum {
    BATCH_WRITES_MAX = 256,    /* a transaction holds at most so many writes, */
    BATCH_BYTES_MAX = 8 << 20, /* so many bytes and one write, */
    BATCH_RUN_MS = 50,         /* and begins no write after so long */
    BATCH_WAIT_MS = 5,         /* for company, after the first */
    TEND_INTERVAL_MS = 1000,
    PURGES_MAX = 1024, /* that wait; more become one of everything */
    PURGE_BUCKETS = 256,
    PURGE_MOMENTS = 4096, /* of keys, by hash */
};

/* Something to be written. It begins the struct of its kind. */
struct store_write {
    struct store_write *next;
    const struct store_write_kind *kind;
    size_t bytes; /* it takes in the queue */
};

struct store_write_kind {
    /* Inside a transaction, perhaps again after one that failed. *ret_more: a bounded part is done, call again in the
     * next transaction. The library's code. */
    int (*apply)(struct store_write *write, struct cache_table *table, bool *ret_more);
    /* It is over: frees it. Not committed: given up. */
    void (*settle)(struct store_write *write, struct store *store, bool is_committed);
    /* Nothing can be written now, but it is kept for when it can be. NULL: given up instead. */
    void (*hold)(struct store_write *write, struct store *store);
};

/* The reader's side of the database. */
struct store_reading {
    sqlite3 *sqlite;
    struct cache_reading cache;
    int code; /* what the last request met, the library's */
};

struct store {
    struct store_options options;
    char *path;
    struct ring_group *group;
    struct store_counters counters;
    pthread_t writer;
    pthread_t reader;
    _Atomic int64_t now_ms; /* the latest that was told */

    /* How often the purges of some keys (by hash), and those of anything else, have begun or ended. */
    _Atomic uint64_t purges_of_key[PURGE_BUCKETS];
    _Atomic uint64_t purges_of_many;

    pthread_mutex_t lock; /* guards all below; held for moments only */
    pthread_cond_t writer_wake;
    pthread_cond_t reader_wake;
    pthread_cond_t reader_closed;
    struct store_write *writes_first;
    struct store_write *writes_last;
    struct store_request *reads_first;
    struct store_request *reads_last;
    uint64_t write_bytes;
    unsigned write_count;
    unsigned read_count;
    bool writer_is_idle; /* it waits for a first write */
    bool is_hurried;     /* do not wait for company */
    bool is_closing;
    bool is_settled;     /* the first attempt to open is over */
    bool accepts_reads;  /* there is a database */
    bool accepts_writes; /* and it can be written, as far as is known */
    bool reader_is_open;
    uint64_t generation;                /* of the database that is open */
    struct database_error reader_error; /* what the reader met that the writer has to see to; fault NONE: nothing */
    struct purge *purges;               /* accepted and not over, in no order */
    struct purge *purge_all;            /* kept for the moment when no other can be made */
    unsigned purge_count;
    nanos key_purged_ns[PURGE_MOMENTS]; /* when one of these keys was last purged */
    nanos many_purged_ns;               /* and when many were */
};

/* Monotonic; for deadlines of waiting only. */
nanos store_clock(void);

/* Waits for the condition, whose lock is held, up to the deadline. */
void store_wait_until(pthread_cond_t *condition, pthread_mutex_t *lock, nanos deadline_ns);

void *store_writer_main(void *store);
void *store_reader_main(void *store);

/* Queues a write; the lock is held. True: *takes* it. False: there is no room, or nothing can be written. */
bool store_enqueue_write(struct store *store, struct store_write *write);
/* The same with no bound and in any state. */
void store_enqueue_write_always(struct store *store, struct store_write *write);

/* Queues a request for the reader. RESULT_OK: it will be answered by a message. RESULT_LIMIT, RESULT_UNREACHABLE. */
enum result store_enqueue_read(struct store *store, struct store_request *request, bool waits_for_start);

/* Makes what the cache tier keeps in the store (purge_all, which store_close frees). False: memory is out. */
bool cache_tier_init(struct store *store);

/* Advances the time that is known. */
static inline void store_learn_time(struct store *store, int64_t now_ms)
{
    int64_t known = atomic_load_explicit(&store->now_ms, memory_order_relaxed);
    while (known < now_ms && !atomic_compare_exchange_weak_explicit(&store->now_ms, &known, now_ms,
                                                                    memory_order_relaxed, memory_order_relaxed)) {
    }
}

static inline void store_count(_Atomic uint64_t *counter, uint64_t by)
{
    atomic_fetch_add_explicit(counter, by, memory_order_relaxed); /* many threads write it */
}

static inline void store_gauge(_Atomic uint64_t *gauge, uint64_t value)
{
    atomic_store_explicit(gauge, value, memory_order_relaxed);
}

#endif
