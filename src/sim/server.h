/* The simulated inference server: one worker, everything in memory.
 *
 *     struct sim_options options;
 *     sim_options_init(&options);
 *     struct sim *sim = sim_create(&options);
 *     sim_serve(sim, on_ready, context);    // blocks; sim_stop from another thread ends it
 *     sim_destroy(sim);
 *
 * The calling thread of sim_serve owns the ring; a program that has a server of its own runs this on a thread of its
 * own, or in a process of its own. Memory: a few KB a connection, what an answer needs while it is made, and
 * bodies up to body_bytes_max each. */
#ifndef SLUICE_SIM_SERVER_H
#define SLUICE_SIM_SERVER_H

#include "base/result.h"
#include "ring/address.h"
#include "sim/engine.h"
#include "sim/fault.h"

enum { SIM_MODELS_MAX = 16, SIM_FAULTS_MAX = 16 };

struct sim_options {
    struct ring_address listen;         /* 127.0.0.1:9000; port 0: a free one */
    struct engine_profile profile;      /* a copy, so that its bounds can be changed */
    uint32_t time_scale_milli;          /* 1,000: as the profile says */
    uint32_t prefills_side_by_side;     /* see engine.h */
    const char *models[SIM_MODELS_MAX]; /* *keeps* until sim_destroy; the first serves requests without a model */
    unsigned model_count;
    unsigned embedding_dimensions;
    bool ticker;                /* generation without the engine: every stream at ticker_rate_milli */
    uint32_t ticker_rate_milli; /* thousandths of an event per second */
    struct sim_fault
        faults[SIM_FAULTS_MAX]; /* each tried in order with its probability, for requests without their own */
    unsigned fault_count;
    uint64_t seed;           /* of those probabilities */
    uint64_t body_bytes_max; /* of bodies that are kept */
    int cpu;                 /* to be pinned to; -1: not pinned */
};

/* The defaults: "sluice-sim" on 127.0.0.1:9000 with the reference profile. */
void sim_options_init(struct sim_options *ret_options);

struct sim;

/* *Gives* a server that is not running yet; copies the options. NULL when memory is out. */
struct sim *sim_create(const struct sim_options *options);
void sim_destroy(struct sim *sim);

/* Serves on the calling thread until sim_stop; once for each sim. `on_ready` (may be NULL) is called when connections
 * are taken, with the real port. RESULT_OK after a stop; otherwise why it could not start (the log says so). */
MUST_USE enum result sim_serve(struct sim *sim, void (*on_ready)(void *context, const struct ring_address *address),
                               void *context);

/* Ends it: what is in flight is cut off. Any thread, any time between create and destroy, any number of times. */
void sim_stop(struct sim *sim);

#endif
