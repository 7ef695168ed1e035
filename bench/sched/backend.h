/* The backend of a run: src/sim's engine, whose capacity can change at given moments. */
#ifndef BENCH_SCHED_BACKEND_H
#define BENCH_SCHED_BACKEND_H

#include "sim/engine.h"

enum backend_change_kind {
    BACKEND_HALVE, /* half the sequences and half the prefill rate, as when one of two ranks dies */
    BACKEND_DOUBLE,
    BACKEND_SLOW, /* decoding takes twice as long: step_base and step_per_sequence */
};

struct backend_change {
    nanos at_ns;
    enum backend_change_kind kind;
};

enum { BACKEND_CHANGES_MAX = 4 };

struct backend_options {
    struct engine_profile profile;
    uint32_t prefills_side_by_side;
    uint32_t time_scale_milli;                          /* as engine.h has it; 0: as the profile says */
    struct backend_change changes[BACKEND_CHANGES_MAX]; /* in order of at_ns */
    unsigned change_count;
};

struct backend {
    struct engine engine;
    struct engine_profile profile; /* as it is now: the engine looks at it at each step */
    const struct backend_options *options;
    unsigned changes_done;
};

/* *Keeps* options and context. */
void backend_init(struct backend *backend, const struct backend_options *options, engine_on_event *on_event,
                  void *context);

/* The next moment at which backend_advance is to be called. */
nanos backend_next_ns(const struct backend *backend);
void backend_advance(struct backend *backend, nanos now);

#endif
