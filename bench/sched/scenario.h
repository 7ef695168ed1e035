/* The scenarios: what arrives, at which backend, and what is looked at.
 *
 * A stage is a scenario with its trace loaded and its backend's capacity measured; a scene is a stage with the arrivals
 * of one seed; every contender plays the same scenes, and the oracle of a scene is found once. */
#ifndef BENCH_SCHED_SCENARIO_H
#define BENCH_SCHED_SCENARIO_H

#include "metrics.h"
#include "oracle.h"
#include "run.h"

enum {
    SCENARIO_FIGURES_MAX = 12,
    SCENARIO_PHASES_MAX = BACKEND_CHANGES_MAX + 1,
};

struct scenario_options {
    const char *data;    /* the folder with inference/ */
    const char *trace;   /* a file in place of the scenario's; NULL: the scenario's */
    const char *profile; /* NULL: the scenario's */
    double load;         /* share of the capacity; 0: the scenario's */
    double seconds;      /* 0: the scenario's */
    double warmup_s;     /* < 0: the scenario's */
    int arrivals;        /* enum workload_arrivals; < 0: the scenario's */
    bool is_output_known;
    bool is_oracle_strict;
    uint32_t prefix_blocks_max; /* of the backend's prefix cache; 0: it has none */
    double delay_ms;            /* arrivals are later by up to so much, by chance; 0: they are not */
    unsigned delay_seed;
    double transit_ms; /* of each request, to the backend and back */
};

struct scene;
struct scenario_outcome;

struct scenario {
    const char *name;
    const char *trace; /* under the data folder */
    enum workload_arrivals arrivals;
    double load; /* share of the capacity; 0: the rates say */
    double rate_per_s, off_rate_per_s;
    double on_s, off_s;
    double seconds, warmup_s;
    unsigned tenants;
    double noisy_weight;
    double class0_share;
    uint32_t patient_tokens_min;
    double patient_s;
    uint32_t kv_tokens_max; /* 0: the profile's */
    bool is_kv_known;       /* the gateway's configuration says it */
    uint32_t prefills_side_by_side;
    struct {
        double at_s;
        enum backend_change_kind kind;
    } changes[BACKEND_CHANGES_MAX];
    unsigned change_count;
    double wanted_share; /* of the oracle's goodput; 0: something else is wanted */
    /* Adds the figures that are its own; NULL: none. */
    void (*measure)(struct scene *scene, const struct contender *contender, const struct run_result *result,
                    struct scenario_outcome *outcome);
};

struct stage {
    const struct scenario *scenario;
    const struct scenario_options *options;
    struct source *source;
    double capacity_per_s; /* the most that any fixed limit completes under saturation */
    double capacity_limit; /* with which it does */
    struct backend_options backend;
    nanos from, to; /* the window that counts */
};

struct scene {
    const struct stage *stage;
    uint64_t seed;
    struct workload *workload;
    struct run_setup setup; /* but for the contender */
    struct oracle_phase phases[SCENARIO_PHASES_MAX];
    unsigned phase_count;
};

/* A figure that is looked at: at most, or at least, what is wanted. */
struct scenario_figure {
    const char *name;
    double value;
    double wanted;
    bool is_upper_bound; /* value ≤ wanted is good */
    bool is_judged;
};

struct scenario_outcome {
    struct metrics metrics;
    struct scenario_figure figures[SCENARIO_FIGURES_MAX];
    unsigned figure_count;
    double wall_s; /* of the run itself; for the caller to fill in */
};

const struct scenario *scenario_all(unsigned *ret_count);
const struct scenario *scenario_find(const char *name); /* NULL: none */

/* Loads and measures; ends the process when it cannot. *Keeps* options. */
void stage_init(struct stage *stage, const struct scenario *scenario, const struct scenario_options *options);
void stage_fini(struct stage *stage);

/* Draws the arrivals and finds the oracle. */
void scene_init(struct scene *scene, const struct stage *stage, uint64_t seed);
void scene_fini(struct scene *scene);

/* What workload_create is asked for a seed, for runs to compare with. */
struct workload_spec scene_spec(const struct stage *stage, uint64_t seed);

/* Judges a finished run. */
void scene_judge(struct scene *scene, const struct contender *contender, const struct run_result *result,
                 struct scenario_outcome *ret_outcome);

/* For `measure`. */
void outcome_add(struct scenario_outcome *outcome, const char *name, double value, double wanted, bool is_upper_bound);
void outcome_tell(struct scenario_outcome *outcome, const char *name, double value);

#endif
