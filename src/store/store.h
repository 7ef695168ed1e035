/* Durable state: one SQLite database, used by two threads of its own, so that no worker's loop ever waits for a disk.
 *
 * Workers hand over requests and go on. A writer thread owns the one connection that writes (WAL, synchronous=NORMAL)
 * and commits what is queued in groups; a reader thread answers gets on a read-only connection, so that no long write
 * delays a read. Answers come back as ring_message, on the loop of the worker that asked. What is kept are tables, one
 * module each: today the cache tier (cache_tier.h). A store is one file of one schema, with threads of its own and
 * nothing shared, so that a process may have several.
 *
 *   workers ──requests──▶ write queue ──▶ writer ──▶ ┐
 *      ▲    ──requests──▶ read queue  ──▶ reader ◀── ┤ database, -wal, -shm
 *      └───────── ring_group_post ──────────┘
 *
 * Losing the database never stops anyone: requests are then refused at once, the reason is logged once per change and
 * counted, and the file is opened anew every retry interval.
 *
 *   STARTING ──opened──▶ READY ──disk full, lock held by another, no memory──▶ READ_ONLY ──it can write──▶ READY
 *      └──cannot──▶ UNAVAILABLE ◀──I/O error, corrupt, newer, file gone── READY, READ_ONLY
 *                        └──every retry interval: opened──▶ READY
 *
 * A corrupt database is moved aside to `<path>.corrupt-<n>` (n = 1 to 4; with all four there it stays as it is and is
 * not used), and a new one begun. A database of another application, or of a newer version of this one, is never
 * touched.
 *
 * Memory: the two queues (queue_bytes_max, and queue_reads_max requests that belong to their callers), page caches of
 * 8 MB for each connection, one record on its way per thread. Any worker may call any function here. */
#ifndef SLUICE_STORE_STORE_H
#define SLUICE_STORE_STORE_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/result.h"
#include "ring/mailbox.h"

struct store;

struct store_options {
    const char *path;         /* of the database file, always a file; *borrows*; its folder is not made */
    uint64_t cache_bytes_max; /* of the cache tier: its records as charged, and its part of the file; 0: the default */
    uint32_t lock_timeout_ms; /* how long a lock of another process is waited for; 0: the default */
    uint32_t
        retry_interval_ms; /* between attempts to get back what failed, and between looks at the file; 0: the default */
    uint64_t queue_bytes_max;  /* of writes that wait; 0: the default */
    uint32_t queue_writes_max; /* 0: the default */
    uint32_t queue_reads_max;  /* 0: the default */
};

#define STORE_CACHE_BYTES (UINT64_C(1) << 30)

enum {
    STORE_LOCK_TIMEOUT_MS = 1000,
    STORE_RETRY_INTERVAL_MS = 5000,
    STORE_QUEUE_BYTES = 64 << 20,
    STORE_QUEUE_WRITES = 8192,
    STORE_QUEUE_READS = 1024,
};

enum store_state {
    STORE_STARTING, /* the writer has not come to open the database yet */
    STORE_READY,
    STORE_READ_ONLY, /* reads are answered, cache writes are dropped, purges wait and are heeded by reads */
    STORE_UNAVAILABLE,
    STORE_STATES,
};

/* Why it is not ready. */
enum store_fault {
    STORE_FAULT_NONE,
    STORE_FAULT_MISSING,    /* the file or its folder: cannot be opened or made; or the file went away */
    STORE_FAULT_UNWRITABLE, /* no permission */
    STORE_FAULT_LOCKED,     /* another process holds it */
    STORE_FAULT_CORRUPT,
    STORE_FAULT_FOREIGN, /* another application's database */
    STORE_FAULT_NEWER,   /* made by a newer version of this one */
    STORE_FAULT_FULL,    /* no room on the disk */
    STORE_FAULT_MEMORY,
    STORE_FAULT_IO, /* anything else */
    STORE_FAULTS,
};

/* Lower-case names such as "read_only" and "locked", for logs and metrics. */
const char *store_state_name(enum store_state state);
const char *store_fault_name(enum store_fault fault);

/* Written by workers and both threads, read by anyone, at any time. */
struct store_counters {
    _Atomic uint32_t state; /* enum store_state */
    _Atomic uint32_t fault; /* enum store_fault: why the state is not READY */

    _Atomic uint64_t gets; /* that were queued; each becomes a hit, a miss or a failure */
    _Atomic uint64_t hits;
    _Atomic uint64_t misses;
    _Atomic uint64_t gets_failed;
    _Atomic uint64_t gets_busy;        /* refused: the queue was full */
    _Atomic uint64_t gets_unavailable; /* refused: no database */
    _Atomic uint64_t puts;             /* committed */
    _Atomic uint64_t put_bytes;
    _Atomic uint64_t puts_dropped;  /* queue full, too large, or nothing can be written */
    _Atomic uint64_t puts_outdated; /* purged since they were made */
    _Atomic uint64_t touches;       /* committed */
    _Atomic uint64_t touches_dropped;
    _Atomic uint64_t purges;  /* asked for */
    _Atomic uint64_t purged;  /* records that went by them */
    _Atomic uint64_t expired; /* records */
    _Atomic uint64_t evicted; /* records */

    _Atomic uint64_t batches;              /* transactions that held requests */
    _Atomic uint64_t opens;                /* times the database was opened */
    _Atomic uint64_t moved_aside;          /* corrupt files */
    _Atomic uint64_t errors[STORE_FAULTS]; /* failed calls of SQLite, by kind */

    _Atomic uint64_t records; /* gauges: of the cache tier, as of the last commit */
    _Atomic uint64_t bytes;
    _Atomic uint64_t queued_writes;
    _Atomic uint64_t queued_bytes;
    _Atomic uint64_t queued_reads;
};

/* Starts both threads and returns at once; the database is opened by the writer. *Keeps* `group` until store_close.
 * RESULT_NO_MEMORY, RESULT_LIMIT (no thread to be had): nothing is left behind. That the file cannot be used is no
 * failure: see state. To be called before the workers run, from any thread. */
MUST_USE enum result store_open(const struct store_options *options, struct ring_group *group,
                                struct store **ret_store);

/* Writes what is queued, as far as it can be written, ends the threads and frees the store. It blocks. Requests that
 * still wait are answered first (UNAVAILABLE); nobody may ask any more, and an answer that has not been delivered by
 * now must never be: call it when the workers have ended, or when all has been answered. */
void store_close(struct store *store);

const struct store_counters *store_counters(const struct store *store);

/* Tells the time (milliseconds since 1970), by which the threads expire records: they read no clock for that. Requests
 * tell it too; call this about once a second from one worker, for the times when there are none. */
void store_tick(struct store *store, int64_t now_ms);

/* ---- what requests begin with; the store's own ---- */

struct store_reading; /* the reader's side of the database: internal.h */

struct store_request {
    struct ring_message message; /* the answer's way back */
    struct store_request *next;
    struct store *store;
    unsigned worker; /* who asked */
    /* Runs on the reader; NULL as reading when there is no database. */
    void (*run)(struct store_request *request, struct store_reading *reading);
};

#endif
