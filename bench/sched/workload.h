/* The arrivals of one run, drawn by seed: the same for every contender. */
#ifndef BENCH_SCHED_WORKLOAD_H
#define BENCH_SCHED_WORKLOAD_H

#include <stdbool.h>

#include "base/clock.h"
#include "source.h"

enum workload_arrivals {
    WORKLOAD_TRACE,   /* the source's own moments, stretched to the rate, from a place in it drawn by seed, round and
                         round */
    WORKLOAD_POISSON, /* rows drawn with replacement */
    WORKLOAD_ON_OFF,  /* Poisson at two rates in turn */
};

struct workload_spec {
    const struct source *source; /* *kept* by the workload */
    enum workload_arrivals arrivals;
    double rate_per_s;     /* of on-off: while it is on */
    double off_rate_per_s; /* of on-off */
    nanos on_ns, off_ns;
    nanos length_ns;
    uint64_t seed;

    unsigned tenants;            /* drawn evenly; 0: those of the source, or nobody in particular */
    double noisy_weight;         /* tenant 1 is drawn so many times as often as another; 0: 1 */
    double class0_share;         /* of the requests; the others have the default class */
    uint32_t context_tokens_max; /* longer prompts are cut, so that everyone can be served */
    nanos first_token_max_ns;    /* the deadline, from the arrival */
    uint32_t patient_tokens_min; /* requests with more prompt tokens have patient_ns instead; 0: none has */
    nanos patient_ns;
};

struct workload_request {
    nanos at_ns;
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint32_t prompt_bytes; /* 4 a token, with 15 % of noise: what a gateway sees */
    uint32_t number;       /* the same whatever is filtered out */
    const struct source_row *row;
    uint64_t tenant;
    nanos first_token_max_ns;
    uint8_t class;
};

struct workload {
    struct workload_request *requests; /* in order of at_ns */
    size_t count;
    const struct source *source;
    uint64_t seed;
    nanos length_ns;
};

/* *Gives*. */
struct workload *workload_create(const struct workload_spec *spec);
void workload_destroy(struct workload *workload);

/* Has each arrive by up to `most_ns` later, drawn by seed, in the same order: as much as chance does in life. */
void workload_delay(struct workload *workload, nanos most_ns, uint64_t seed);

/* Leaves only those that `keeps` says; the others stay as they were, arrival by arrival. */
void workload_filter(struct workload *workload, bool (*keeps)(const struct workload_request *request, uint64_t bound),
                     uint64_t bound);

#endif
