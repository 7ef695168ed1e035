#include "measures.h"

#include <math.h>
#include <stdlib.h>

enum {
    SETTLED_SECONDS = 10, /* the limit counts as found when it stays right for so long */
    GOODPUT_SECONDS = 30, /* over which goodput is compared, from the second that is asked about */
    SMALL_TOKENS = 2048,  /* prompts up to this are small beside Mooncake's */
    JAIN_WINDOW_S = 60,
    SPARE_ONE_IN = 100,
};

/* In place of a ratio, where there is nothing to compare. */
static const double NOBODY_SERVED = 1e6;

/* How much more than its share everyone wants where fairness is looked at, so that all are backlogged. */
static const double GREED = 1.5;

/* ---- changes of the capacity ---- */

static const struct oracle_phase *last_phase(const struct scene *scene)
{
    return &scene->phases[scene->phase_count - 1];
}

static double share_in(const struct scene *scene, const struct oracle_phase *phase, const struct run_result *result)
{
    double goodput = metrics_goodput(result, phase->from, phase->to, scene->setup.token_max_ns);
    return phase->goodput_per_s > 0 ? goodput / phase->goodput_per_s : 0;
}

/* Seconds from the phase's begin until the limit is within a fifth of the best, and stays; the phase's length: never.
 */
static double settled_after(const struct oracle_phase *phase, const struct run_result *result)
{
    size_t from = phase->from / NANOS_PER_S, to = phase->to / NANOS_PER_S, right = 0;
    for (size_t second = from; second < to && second < result->sample_count; second++) {
        double away = fabs(result->samples[second].limit - phase->limit);
        right = away <= 0.2 * phase->limit ? right + 1 : 0;
        if (right == SETTLED_SECONDS) {
            return (double)(second + 1 - SETTLED_SECONDS - from);
        }
    }
    return (double)(to - from);
}

/* Seconds from the phase's begin until goodput is nine tenths of the oracle's for the same arrivals. */
static double recovered_after(const struct scene *scene, const struct oracle_phase *phase,
                              const struct run_result *result)
{
    uint16_t *good = oracle_good_of_second(result, scene->setup.token_max_ns, phase->seconds);
    size_t from = phase->from / NANOS_PER_S, to = phase->to / NANOS_PER_S, at = from;
    for (; at + GOODPUT_SECONDS <= to; at++) {
        unsigned ours = 0, best = 0;
        for (size_t second = at; second < at + GOODPUT_SECONDS; second++) {
            ours += good[second];
            best += phase->good_of_second[second];
        }
        if (ours >= 0.9 * best) {
            break;
        }
    }
    free(good);
    return (double)(at - from);
}

void measure_halves(struct scene *scene, const struct contender *contender, const struct run_result *result,
                    struct scenario_outcome *outcome)
{
    (void)contender;
    outcome_add(outcome, "share after the change", share_in(scene, last_phase(scene), result), 0.92, false);
    outcome_add(outcome, "L within 20 %, s", settled_after(last_phase(scene), result), 15, true);
}

void measure_doubles(struct scene *scene, const struct contender *contender, const struct run_result *result,
                     struct scenario_outcome *outcome)
{
    (void)contender;
    outcome_tell(outcome, "share after the change", share_in(scene, last_phase(scene), result));
    outcome_add(outcome, "90 % of the goodput, s", recovered_after(scene, last_phase(scene), result), 45, true);
}

void measure_slows(struct scene *scene, const struct contender *contender, const struct run_result *result,
                   struct scenario_outcome *outcome)
{
    (void)contender;
    outcome_add(outcome, "share after the change", share_in(scene, last_phase(scene), result), 0.85, false);
}

/* ---- counts of the run itself ---- */

void measure_steady(struct scene *scene, const struct contender *contender, const struct run_result *result,
                    struct scenario_outcome *outcome)
{
    (void)scene, (void)contender, (void)result;
    const struct metrics *metrics = &outcome->metrics;
    double trend = metrics->limit_mean > 0 ? fabs(metrics->limit_slope_per_hour) / metrics->limit_mean : 0;
    outcome_add(outcome, "trend of L per hour / L", trend, 0.1, true);
}

void measure_third(struct scene *scene, const struct contender *contender, const struct run_result *result,
                   struct scenario_outcome *outcome)
{
    (void)scene, (void)contender, (void)result;
    const struct metrics *metrics = &outcome->metrics;
    outcome_add(outcome, "shed", (double)(metrics->requests - metrics->done), 0, true);
}

void measure_kv(struct scene *scene, const struct contender *contender, const struct run_result *result,
                struct scenario_outcome *outcome)
{
    (void)scene, (void)contender, (void)result;
    const struct metrics *metrics = &outcome->metrics;
    double share = metrics->done > 0 ? (double)metrics->preemptions / (double)metrics->done : 0;
    outcome_add(outcome, "preemptions / served", share, 0.01, true);
}

/* ---- beside another run ---- */

typedef bool keeps_request(const struct workload_request *request, uint64_t bound);

static bool is_small(const struct workload_request *request, uint64_t bound)
{
    return request->prompt_tokens <= bound;
}

static bool is_of_class(const struct workload_request *request, uint64_t class)
{
    return request->class == class;
}

static bool is_of_another(const struct workload_request *request, uint64_t tenant)
{
    return request->tenant != tenant;
}

/* p99 of the first token of those kept, when nobody else came. */
static double p99_alone(const struct scene *scene, const struct contender *contender, keeps_request *keeps,
                        uint64_t bound)
{
    struct workload_spec spec = scene_spec(scene->stage, scene->seed);
    struct workload *workload = workload_create(&spec);
    workload_filter(workload, keeps, bound);
    struct run_setup setup = scene->setup;
    setup.workload = workload;
    setup.contender = *contender;
    struct run_result *result = run(&setup);
    double p99 = metrics_first_p99(result, scene->stage->from, scene->stage->to, keeps, bound);
    run_result_destroy(result);
    workload_destroy(workload);
    return p99;
}

static void compare_p99(struct scene *scene, const struct contender *contender, const struct run_result *result,
                        struct scenario_outcome *outcome, keeps_request *keeps, uint64_t bound, const char *name,
                        double wanted)
{
    double alone = p99_alone(scene, contender, keeps, bound);
    double together = metrics_first_p99(result, scene->stage->from, scene->stage->to, keeps, bound);
    bool were_served = alone > 0 && together > 0;
    outcome_add(outcome, name, were_served ? together / alone : NOBODY_SERVED, wanted, true);
    outcome_tell(outcome, "p99 in it, s", together);
    outcome_tell(outcome, "p99 alone, s", alone);
}

static size_t count_shed(const struct scene *scene, const struct run_result *result, keeps_request *keeps,
                         uint64_t bound)
{
    size_t shed = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        shed += request->fate == RUN_SHED && request->load->at_ns >= scene->stage->from &&
                request->load->at_ns < scene->stage->to && keeps(request->load, bound);
    }
    return shed;
}

void measure_mooncake(struct scene *scene, const struct contender *contender, const struct run_result *result,
                      struct scenario_outcome *outcome)
{
    compare_p99(scene, contender, result, outcome, is_small, SMALL_TOKENS, "small p99 / without the long", 1.5);
    outcome_tell(outcome, "small shed", (double)count_shed(scene, result, is_small, SMALL_TOKENS));
}

void measure_class0(struct scene *scene, const struct contender *contender, const struct run_result *result,
                    struct scenario_outcome *outcome)
{
    compare_p99(scene, contender, result, outcome, is_of_class, 0, "class 0 p99 / unloaded", 1.5);
    outcome_add(outcome, "class 0 shed", (double)outcome->metrics.shed_of_class[0], 0, true);
    outcome_add(outcome, "inversions", (double)result->figures.queue.inversions, 0, true);
}

/* ---- tenants ---- */

/* Everyone wants more than a fair share, and one of them ten shares: what do they get? */
static void measure_fairness(const struct scene *scene, const struct contender *contender,
                             struct scenario_outcome *outcome)
{
    const struct stage *stage = scene->stage;
    struct workload_spec spec = scene_spec(stage, scene->seed);
    unsigned tenants = spec.tenants;
    double fair_per_s = stage->capacity_per_s / tenants;
    spec.noisy_weight = 10 / GREED;
    spec.rate_per_s = fair_per_s * (10 + GREED * (tenants - 1));
    struct workload *workload = workload_create(&spec);
    struct run_setup setup = scene->setup;
    setup.workload = workload;
    setup.contender = *contender;
    struct run_result *result = run(&setup);
    double jain = metrics_jain(result, stage->from, stage->to, JAIN_WINDOW_S * NANOS_PER_S, tenants);
    double long_jain = metrics_jain(result, stage->from, stage->to, stage->to - stage->from, tenants);
    outcome_add(outcome, "Jain", jain, 0.95, false);
    outcome_tell(outcome, "Jain of the whole run", long_jain);
    run_result_destroy(result);
    workload_destroy(workload);
}

void measure_noisy(struct scene *scene, const struct contender *contender, const struct run_result *result,
                   struct scenario_outcome *outcome)
{
    compare_p99(scene, contender, result, outcome, is_of_another, 1, "others' p99 / without it", 1.3);
    outcome_tell(outcome, "others shed", (double)count_shed(scene, result, is_of_another, 1));
    if (!contender->is_none) { /* which sheds nobody, so that nobody can be seen to want more */
        measure_fairness(scene, contender, outcome);
    }
}

/* ---- those shed ---- */

static double share_of(size_t part, size_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 1;
}

void measure_shed_accuracy(struct scene *scene, const struct contender *contender, const struct run_result *result,
                           struct scenario_outcome *outcome)
{
    (void)result;
    if (contender->is_none) {
        return;
    }
    struct run_setup setup = scene->setup;
    setup.contender = *contender;
    setup.spare_one_in = SPARE_ONE_IN;
    struct run_result *again = run(&setup);
    struct metrics metrics;
    metrics_of(again, scene->stage->from, scene->stage->to, setup.token_max_ns, &metrics);
    outcome_add(outcome, "shed that would have missed", share_of(metrics.spared_missed, metrics.spared), 0.95, false);
    outcome_tell(
        outcome, "of those shed at arrival",
        share_of(metrics.spared_missed_for[SCHED_SHED_LATE_ARRIVAL], metrics.spared_for[SCHED_SHED_LATE_ARRIVAL]));
    outcome_tell(
        outcome, "of those shed at dispatch",
        share_of(metrics.spared_missed_for[SCHED_SHED_LATE_DISPATCH], metrics.spared_for[SCHED_SHED_LATE_DISPATCH]));
    outcome_tell(outcome, "of so many looked at", (double)metrics.spared);
    run_result_destroy(again);
}
