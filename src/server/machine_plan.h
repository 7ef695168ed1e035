/* What the gateway makes of its machine: how many workers, where they run, how large what they hold is; and what about
 * the machine will hurt.
 *
 * Pure: facts (ring/machine.h) and the configuration go in. The server starts by this very plan, and `sluice check
 * --machine` prints it: there is no second calculation. What the configuration says wins always, and is said so.
 * Memory: 14 KB. */
#ifndef SLUICE_SERVER_MACHINE_PLAN_H
#define SLUICE_SERVER_MACHINE_PLAN_H

#include "ring/machine.h"
#include "server/config.h"

enum {
    MACHINE_REASON_BYTES = 320,
    MACHINE_FINDINGS_MAX = 32,
    MACHINE_WORKER_MEMORY_BYTES = 32 << 20,  /* the least a worker gets, or there are fewer of them */
    MACHINE_WORKER_LOCKED_BYTES = 704 << 10, /* what is reckoned for a ring; 532 to 704 KB were seen on Linux 6.18 */
    MACHINE_BUFFERS_MIN = 128,               /* receive buffers of a worker */
    MACHINE_FIBERS_MIN = 256,
    MACHINE_SMALL_CPUS = 4, /* so few are all taken, second threads of cores included */
};

enum machine_figure_name {
    MACHINE_WORKERS,
    MACHINE_PINNED, /* workers that are kept on a CPU of their own: all or none */
    MACHINE_CACHE_BYTES,
    MACHINE_RECEIVE_BUFFERS, /* of each worker, a power of two */
    MACHINE_FIBERS,          /* requests that may wait for a connection at once, of each worker */
    MACHINE_CONNECTIONS,     /* clients and upstreams, of all workers, that descriptors allow */
    MACHINE_FIGURES
};

enum machine_source { MACHINE_DERIVED, MACHINE_CONFIGURED };

struct machine_figure {
    uint64_t value;
    enum machine_source source;
    char reason[MACHINE_REASON_BYTES];
};

enum machine_severity {
    MACHINE_NOTE,    /* could be better */
    MACHINE_WARNING, /* will hurt */
    MACHINE_ERROR,   /* it will not start */
    MACHINE_SEVERITIES
};

struct machine_finding {
    enum machine_severity severity;
    const char *subject;             /* what it is about: a sysctl, a key of the configuration, … */
    char what[MACHINE_REASON_BYTES]; /* how it is, and why that hurts */
    const char *remedy;
    const char *tune; /* what to ask tune.sh to explain; NULL: it has nothing on it */
};

struct machine_plan {
    unsigned workers;
    unsigned cpu_count;               /* CPUs that may be used */
    bool pin;                         /* each worker to its own of cpus */
    uint16_t cpus[TOPOLOGY_CPUS_MAX]; /* the kernel's numbers, in the order of workers */
    struct machine_figure figures[MACHINE_FIGURES];
    unsigned finding_count;
    struct machine_finding findings[MACHINE_FINDINGS_MAX]; /* the worst first */
};

void machine_plan_make(const struct machine *machine, const struct config *config, struct machine_plan *ret_plan);

/* How many findings are at least so bad. */
unsigned machine_plan_count(const struct machine_plan *plan, enum machine_severity severity);

const char *machine_figure_name(enum machine_figure_name figure);
const char *machine_severity_name(enum machine_severity severity);

/* "1.5 GB"; *gives* out. */
enum { MACHINE_SIZE_BYTES = 24 };
const char *machine_size(uint64_t bytes, char out[MACHINE_SIZE_BYTES]);

/* ---- between the plan's own files ---- */

/* Whether a backend runs here: one of the endpoints is a loopback address or a unix socket. */
bool machine_has_own_backends(const struct config *config);

/* Adds what is to be said of the machine to a plan whose figures are made (machine_findings.c). */
void machine_find(const struct machine *machine, const struct config *config, struct machine_plan *plan);

#endif
