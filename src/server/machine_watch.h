/* Limits that change while the server runs: what is said of them, and what follows.
 *
 * A quota, a cpuset and a memory limit can be changed under a running process. Pressure is measured by what they are
 * now, and the cache follows the memory, up to what it was made for. The number of workers is decided at the start:
 * where another would be right now, that is said. Owned by one thread, which may block. Memory: 35 KB. */
#ifndef SLUICE_SERVER_MACHINE_WATCH_H
#define SLUICE_SERVER_MACHINE_WATCH_H

#include "server/machine_plan.h"

struct machine_watch {
    const struct machine_plan *running; /* what the server was started by */
    struct machine machine;             /* as it was read last */
    struct machine_plan plan;           /* what would be made of it now */
    uint64_t cache_bytes;               /* what the cache may be now */
};

/* *Keeps* running. */
void machine_watch_init(struct machine_watch *watch, const struct machine *machine, const struct machine_plan *running);

/* Whether limits read just now differ from those known, so that there is something to follow. Memory that is not known
 * any more changes nothing. */
bool machine_watch_sees(const struct machine_watch *watch, const struct machine_limits *limits);

/* Reads the machine again, and tells what has changed, each in one sentence. */
void machine_watch_follow(struct machine_watch *watch, const char *root, const struct config *config,
                          void (*tell)(enum machine_severity severity, const char *text, void *context), void *context);

#endif
