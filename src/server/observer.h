/* The observer: a thread that looks at the process once a second.
 *
 *   kernel (/proc, control groups) ─┐              ┌─▶ observation: /api/performance, /metrics
 *   workers' pulses ────────────────┼─▶ observer ──┼─▶ pressure: admission
 *   workers' counters ──────────────┘              └─▶ history: every ten seconds
 *
 * It also sees limits change (machine_watch.h): a line in the log, and a cache that follows.
 *
 * A thread of its own, because reading /proc blocks, and longest when memory is short; the main thread waits for names
 * to be found now and then. What it has seen it publishes (base/published.h); it writes nothing that a worker owns.
 * Memory: 190 KB, and 3 KB for each worker. */
#ifndef SLUICE_SERVER_OBSERVER_H
#define SLUICE_SERVER_OBSERVER_H

#include "ring/machine.h"
#include "server/performance_history.h"
#include "server/pressure_signals.h"

struct observer;
struct server;

/* What there was to see a moment ago. */
struct observation {
    struct ring_usage usage;
    struct machine_limits limits;
    nanos started_ns;
    int64_t started_unix_ms;
    struct pressure pressure;
    struct pressure_reading reading;
    /* Of the last PERFORMANCE_STEP_S seconds, or since the start: performance_sample_rates, and the moment's. */
    struct performance_sample recent;
    struct worker_signals workers[]; /* one for each */
};

/* Begins to look; all workers run. RESULT_NO_MEMORY also when there is no thread to be had. *Gives*. */
MUST_USE enum result observer_start(const struct server *server, struct observer **ret_observer);

/* Ends the thread, and frees; NULL: nothing. The workers may not have freed what they counted. */
void observer_stop(struct observer *observer);

/* From any thread, as of a second ago. */
uint32_t observer_pressure(const struct observer *observer);

/* What all of the cache may be now, of any thread: the share of memory that is configured follows a limit that changes.
 * The pulses hand it on. */
uint64_t observer_cache_bytes(const struct observer *observer);

/* *Gives* a copy, from malloc. NULL: memory is out. */
struct observation *observer_read(const struct observer *observer);

/* Likewise. NULL also before the first step has ended. */
struct performance_history *observer_history(const struct observer *observer);

#endif
