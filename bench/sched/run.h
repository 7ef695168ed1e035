/* One run: a workload goes through an admission to a backend, in virtual time, until everyone has ended.
 *
 * The admission and its queue and limiter are the server's own objects. Pure and deterministic. */
#ifndef BENCH_SCHED_RUN_H
#define BENCH_SCHED_RUN_H

#include "backend.h"
#include "sched/admission.h"
#include "workload.h"

struct contender {
    const char *name;
    bool is_none; /* no admission: first come, first served, up to `fixed` at a time; 0: all of them */
    enum limiter_kind kind;
    double fixed;    /* of LIMITER_FIXED, and of `none` */
    nanos margin_ns; /* the admission is told of deadlines so much earlier than they are */
};

struct run_setup {
    const struct workload *workload;       /* *kept* by the result, like what it points at */
    const struct backend_options *backend; /* *borrowed* */
    struct contender contender;
    nanos first_token_max_ns; /* the goal, as the limiter is told */
    nanos token_max_ns;
    nanos transit_ns; /* of a request from the gateway to the backend, and of an answer's way back, in one */
    bool is_oracle_strict;      /* it may also try margins before the deadline */
    bool is_kv_known;           /* the configuration says how much memory the backend has for KV */
    bool is_output_known;       /* requests say how long their answer will be */
    uint32_t prefix_blocks_max; /* of the backend's prefix cache, and of the gateway's idea of it; 0: none */
    /* 1 in so many of those that would be shed is served all the same, when its turn comes; 0: none. */
    uint32_t spare_one_in;
    /* The scheduler's own constants of time are so many times shorter; workload, backend and goals are the caller's to
     * scale. 0: 1. */
    uint32_t time_scale;
};

enum run_fate {
    RUN_COMING,
    RUN_WAITING, /* in the admission's queue */
    RUN_SENT,
    RUN_DONE,
    RUN_SHED,
};

struct run_request {
    struct sched_request sched;
    struct engine_sequence sequence;
    const struct workload_request *load;
    enum run_fate fate;
    enum sched_shed shed;
    struct sched_cost estimate;
    bool is_spared; /* was to be shed for `shed`, but is served beside the admission */
    bool was_blocked;
    nanos granted_ns;
    nanos predicted_ns;
    nanos first_ns; /* token */
    nanos last_ns;
    struct list_node node; /* of those spared that wait for their turn, without an admission, or in transit */
};

/* Once each second. */
struct run_sample {
    double limit;
    double excess_ms;
    double base_ms;
    uint32_t in_flight;
    uint32_t queued;
};

struct run_result {
    struct run_request *requests; /* one for each of the workload's, in its order */
    size_t count;
    struct run_sample *samples;
    size_t sample_count;
    struct engine_counters engine;
    struct admission_figures figures; /* at the end; of `none` zero */
    nanos ended_ns;
    double wall_s; /* 0 until the caller says */
};

/* *Gives*. Ends the process when a request is lost or ends twice. */
struct run_result *run(const struct run_setup *setup);
void run_result_destroy(struct run_result *result);

#endif
