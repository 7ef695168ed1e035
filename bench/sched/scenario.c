#include "scenario.h"

#include <stdio.h>
#include <string.h>

#include "contender.h"
#include "die.h"
#include "sim/profiles.h"

enum { CAPACITY_SECONDS = 400, CAPACITY_WARMUP_S = 60, CAPACITY_SEED = 424242 };

#define FIRST_TOKEN_MAX_NS (3 * NANOS_PER_S)
#define TOKEN_MAX_NS       (100 * NANOS_PER_MS)
/* Arrivals go on behind the window, so that its last ones do not meet an emptying backend. */
#define TAIL_NS (10 * NANOS_PER_S)

static nanos from_s(double seconds)
{
    return (nanos)(seconds * 1e9);
}

/* ---- the stage ---- */

static void set_backend(struct stage *stage)
{
    const struct scenario *scenario = stage->scenario;
    const char *name = stage->options->profile != NULL ? stage->options->profile : "reference";
    const struct engine_profile *profile = profiles_find(bytes_from(name));
    if (profile == NULL) {
        bench_die("no profile is called %s", name);
    }
    stage->backend = (struct backend_options){
        .profile = *profile,
        .prefills_side_by_side = scenario->prefills_side_by_side,
        .change_count = scenario->change_count,
    };
    if (scenario->kv_tokens_max > 0) {
        stage->backend.profile.kv_tokens_max = scenario->kv_tokens_max;
        stage->backend.profile.context_tokens_max = scenario->kv_tokens_max;
    }
    double stretch = stage->options->seconds > 0 ? stage->options->seconds / scenario->seconds : 1;
    for (unsigned i = 0; i < scenario->change_count; i++) {
        stage->backend.changes[i] = (struct backend_change){.at_ns = from_s(scenario->changes[i].at_s * stretch),
                                                            .kind = scenario->changes[i].kind};
    }
}

/* Requests a second of a backend that does nothing but this source's requests, all sequences in use. */
static double analytic_rate(const struct stage *stage)
{
    const struct engine_profile *profile = &stage->backend.profile;
    double prompts = 0, outputs = 0, count = (double)stage->source->count;
    for (size_t i = 0; i < stage->source->count; i++) {
        prompts += stage->source->rows[i].prompt_tokens;
        outputs += stage->source->rows[i].output_tokens;
    }
    double held = (prompts + outputs) / count;
    double batch = (double)profile->kv_tokens_max / held;
    batch = batch < profile->sequences_max ? batch : profile->sequences_max;
    double step_s = (double)(profile->step_base_ns + profile->step_per_sequence_ns * (nanos)batch) / 1e9;
    return 1 / (prompts / count / profile->prefill_tokens_per_s + outputs / count * step_s / batch);
}

static void fill_setup(struct run_setup *setup, const struct stage *stage, const struct workload *workload)
{
    *setup = (struct run_setup){
        .workload = workload,
        .backend = &stage->backend,
        .first_token_max_ns = FIRST_TOKEN_MAX_NS,
        .token_max_ns = TOKEN_MAX_NS,
        .transit_ns = (nanos)(stage->options->transit_ms * 1e6),
        .is_kv_known = stage->scenario->is_kv_known,
        .is_output_known = stage->options->is_output_known,
        .is_oracle_strict = stage->options->is_oracle_strict,
        .prefix_blocks_max = stage->options->prefix_blocks_max,
    };
}

static void measure_capacity(struct stage *stage)
{
    struct workload_spec spec = scene_spec(stage, CAPACITY_SEED);
    spec.arrivals = WORKLOAD_POISSON;
    spec.rate_per_s = 2 * analytic_rate(stage);
    spec.length_ns = from_s(CAPACITY_SECONDS) + TAIL_NS;
    spec.tenants = 0;
    spec.class0_share = 0;
    struct workload *workload = workload_create(&spec);
    unsigned changes = stage->backend.change_count;
    stage->backend.change_count = 0;
    struct run_setup setup;
    fill_setup(&setup, stage, workload);
    stage->capacity_per_s =
        oracle_capacity(&setup, from_s(CAPACITY_WARMUP_S), from_s(CAPACITY_SECONDS), &stage->capacity_limit);
    stage->backend.change_count = changes;
    workload_destroy(workload);
}

void stage_init(struct stage *stage, const struct scenario *scenario, const struct scenario_options *options)
{
    *stage = (struct stage){.scenario = scenario, .options = options};
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", options->data, scenario->trace);
    stage->source = source_load(options->trace != NULL ? options->trace : path, 1);
    double warmup_s = options->warmup_s >= 0 ? options->warmup_s : scenario->warmup_s;
    double seconds = options->seconds > 0 ? options->seconds : scenario->seconds;
    if (warmup_s >= seconds) {
        bench_die("a warm-up of %.0f s, and the run takes %.0f s", warmup_s, seconds);
    }
    stage->from = from_s(warmup_s);
    stage->to = from_s(seconds);
    set_backend(stage);
    measure_capacity(stage);
}

void stage_fini(struct stage *stage)
{
    source_destroy(stage->source);
}

/* ---- the scene ---- */

struct workload_spec scene_spec(const struct stage *stage, uint64_t seed)
{
    const struct scenario *scenario = stage->scenario;
    const struct scenario_options *options = stage->options;
    double load = options->load > 0 ? options->load : scenario->load;
    return (struct workload_spec){
        .source = stage->source,
        .arrivals = options->arrivals >= 0 ? (enum workload_arrivals)options->arrivals : scenario->arrivals,
        .rate_per_s = load > 0 ? load * stage->capacity_per_s : scenario->rate_per_s,
        .off_rate_per_s = scenario->off_rate_per_s,
        .on_ns = from_s(scenario->on_s),
        .off_ns = from_s(scenario->off_s),
        .length_ns = stage->to + TAIL_NS,
        .seed = seed,
        .tenants = scenario->tenants,
        .noisy_weight = scenario->noisy_weight,
        .class0_share = scenario->class0_share,
        .context_tokens_max = stage->backend.profile.context_tokens_max,
        .first_token_max_ns = FIRST_TOKEN_MAX_NS,
        .patient_tokens_min = scenario->patient_tokens_min,
        .patient_ns = from_s(scenario->patient_s),
    };
}

static void set_phases(struct scene *scene)
{
    const struct stage *stage = scene->stage;
    nanos from = stage->from;
    for (unsigned i = 0; i < stage->backend.change_count; i++) {
        nanos at = stage->backend.changes[i].at_ns;
        if (at > from && at < stage->to) {
            scene->phases[scene->phase_count++] = (struct oracle_phase){.from = from, .to = at};
            from = at;
        }
    }
    scene->phases[scene->phase_count++] = (struct oracle_phase){.from = from, .to = stage->to};
}

void scene_init(struct scene *scene, const struct stage *stage, uint64_t seed)
{
    *scene = (struct scene){.stage = stage, .seed = seed};
    struct workload_spec spec = scene_spec(stage, seed);
    scene->workload = workload_create(&spec);
    if (stage->options->delay_ms > 0) {
        workload_delay(scene->workload, (nanos)(stage->options->delay_ms * 1e6), stage->options->delay_seed);
    }
    fill_setup(&scene->setup, stage, scene->workload);
    set_phases(scene);
    oracle_find(&scene->setup, scene->phases, scene->phase_count);
}

void scene_fini(struct scene *scene)
{
    oracle_fini(scene->phases, scene->phase_count);
    workload_destroy(scene->workload);
}

/* ---- judging ---- */

void outcome_tell(struct scenario_outcome *outcome, const char *name, double value)
{
    if (outcome->figure_count < SCENARIO_FIGURES_MAX) {
        outcome->figures[outcome->figure_count++] = (struct scenario_figure){.name = name, .value = value};
    }
}

void outcome_add(struct scenario_outcome *outcome, const char *name, double value, double wanted, bool is_upper_bound)
{
    if (outcome->figure_count < SCENARIO_FIGURES_MAX) {
        outcome->figures[outcome->figure_count++] = (struct scenario_figure){
            .name = name, .value = value, .wanted = wanted, .is_upper_bound = is_upper_bound, .is_judged = true};
    }
}

static void tell_shares(const struct scene *scene, const struct run_result *result, struct scenario_outcome *outcome)
{
    static const char *const names[SCENARIO_PHASES_MAX] = {"share in phase 1", "share in phase 2", "share in phase 3",
                                                           "share in phase 4", "share in phase 5"};
    double good = 0, best = 0;
    for (unsigned i = 0; i < scene->phase_count; i++) {
        const struct oracle_phase *phase = &scene->phases[i];
        double seconds = (double)(phase->to - phase->from) / 1e9;
        double goodput = metrics_goodput(result, phase->from, phase->to, scene->setup.token_max_ns);
        good += goodput * seconds;
        best += phase->goodput_per_s * seconds;
        if (scene->phase_count > 1) {
            outcome_tell(outcome, names[i], phase->goodput_per_s > 0 ? goodput / phase->goodput_per_s : 0);
        }
    }
    double share = best > 0 ? good / best : 0;
    if (scene->stage->scenario->wanted_share > 0) {
        outcome_add(outcome, "share of the oracle", share, scene->stage->scenario->wanted_share, false);
    } else {
        outcome_tell(outcome, "share of the oracle", share);
    }
}

void scene_judge(struct scene *scene, const struct contender *contender, const struct run_result *result,
                 struct scenario_outcome *ret_outcome)
{
    *ret_outcome = (struct scenario_outcome){0};
    metrics_of(result, scene->stage->from, scene->stage->to, scene->setup.token_max_ns, &ret_outcome->metrics);
    tell_shares(scene, result, ret_outcome);
    if (scene->stage->scenario->measure != NULL) {
        scene->stage->scenario->measure(scene, contender, result, ret_outcome);
    }
}
