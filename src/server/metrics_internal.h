/* What counting (metrics.c) and telling (metrics_*.c) share. */
#ifndef SLUICE_SERVER_METRICS_INTERNAL_H
#define SLUICE_SERVER_METRICS_INTERNAL_H

#include <stdio.h>

#include "base/bytes.h"
#include "server/metrics.h"

extern const uint16_t metrics_statuses[METRICS_STATUSES];
extern const char *const metrics_error_names[METRICS_ERRORS];

/* The buckets of every histogram told: the label, and what the histogram is asked for. */
enum { METRICS_BOUNDS = 18 };
struct metrics_bound {
    const char *le;
    nanos bound_ns;
};
extern const struct metrics_bound metrics_bounds[METRICS_BOUNDS];

void metrics_put_type(FILE *out, const char *name, const char *type, const char *help);

/* A label's value: backslash, quote and newline are escaped. */
void metrics_put_label(FILE *out, struct bytes value);

/* The process and its workers, as the observer sees them; and pressure. */
void metrics_put_process(FILE *out, const struct server *server);

/* What the schedulers of models and services say. */
void metrics_put_sched(FILE *out, const struct server *server);

/* What batching says, of routes that have it. */
void metrics_put_batching(FILE *out, const struct server *server);

#endif
