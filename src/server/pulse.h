/* A worker's pulse: a timer that finds out how late this loop is, and says what only the worker itself can look at: its
 * pool of chunks, and once a second the schedulers of the models that it owns, which hear of the pressure in turn.
 *
 * It beats 20 times a second while the worker has something to do, and once a second while it has not. A beat that
 * comes late by 30 ms was kept waiting by turns that long, or by a thread that did not get to run: so would everything
 * else have been. Owned by its worker; the observer (observer.h) reads what it says. Memory: 2 KB. */
#ifndef SLUICE_SERVER_PULSE_H
#define SLUICE_SERVER_PULSE_H

#include "base/histogram.h"
#include "ring/ring.h"

struct worker;

struct pulse {
    struct worker *worker;
    struct ring_timer timer;
    nanos beat_ns;        /* the last one */
    uint64_t turns;       /* of the ring, at that moment */
    nanos told_ns;        /* when the schedulers were put up last */
    uint64_t cache_bytes; /* what the cache was told last that it may be */
    int thread_id;        /* constant once the worker has started */

    /* one writer, read by others */
    struct histogram late;       /* how late each beat came */
    _Atomic uint64_t due_ns;     /* when the next is to come: a worker that is stuck does not beat */
    _Atomic uint64_t pool_bytes; /* of chunks, taken from the system */
    _Atomic uint64_t pool_used_bytes;
};

/* On the worker's own thread, before others may look. */
void pulse_init(struct pulse *pulse, struct worker *worker);

/* The first beat comes a second later. */
void pulse_start(struct pulse *pulse);

#endif
