/* The signals of pressure (sched/pressure.h), from what the kernel and the workers' pulses say.
 *
 * Shares are of the time since they were read before. Read by one thread that is no worker: it blocks (ring/usage.h).
 * Memory: 2 KB for each worker. */
#ifndef SLUICE_SERVER_PRESSURE_SIGNALS_H
#define SLUICE_SERVER_PRESSURE_SIGNALS_H

#include "base/histogram.h"
#include "base/result.h"
#include "ring/usage.h"
#include "sched/pressure.h"

struct server;

/* How one worker has fared since the reading before. */
struct worker_signals {
    double cpu_share;  /* below 0: the kernel does not say */
    double wait_share; /* ready to run, and did not; below 0: likewise */
    double turns_per_second;
    double late_seconds; /* mean of its beats; a beat that is overdue counts */
    double late_seconds_max;
};

struct pressure_signals;

/* *Keeps* server, whose workers are running. NULL when memory is out. */
struct pressure_signals *pressure_signals_create(const struct server *server);
void pressure_signals_destroy(struct pressure_signals *signals);

/* Reads all: into ret_workers, one for each worker, and into ret_reading. `usage`: read just now. `cpu_quota`: in CPUs;
 * 0: none. */
void pressure_signals_read(struct pressure_signals *signals, const struct ring_usage *usage, double cpu_quota,
                           struct worker_signals *ret_workers, struct pressure_reading *ret_reading);

#endif
