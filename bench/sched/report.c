#include "report.h"

#include <stdlib.h>
#include <string.h>

#include "die.h"

struct spread {
    double least, median, most;
};

static int compare(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static struct spread spread_of(double *values, unsigned count)
{
    qsort(values, count, sizeof *values, compare);
    double median = (values[(count - 1) / 2] + values[count / 2]) / 2;
    return (struct spread){.least = values[0], .median = median, .most = values[count - 1]};
}

static const struct scenario_outcome *outcome_of(const struct report *report, unsigned contender, unsigned seed)
{
    return &report->outcomes[contender * report->seed_count + seed];
}

typedef double value_of(const struct scenario_outcome *outcome, unsigned at);

static struct spread spread_over_seeds(const struct report *report, unsigned contender, value_of *value, unsigned at)
{
    double *values = bench_need(report->seed_count, sizeof *values);
    for (unsigned seed = 0; seed < report->seed_count; seed++) {
        values[seed] = value(outcome_of(report, contender, seed), at);
    }
    struct spread spread = spread_of(values, report->seed_count);
    free(values);
    return spread;
}

static double figure_value(const struct scenario_outcome *outcome, unsigned at)
{
    return outcome->figures[at].value;
}

/* ---- the table ---- */

static bool holds(const struct scenario_figure *figure, double value)
{
    return figure->is_upper_bound ? value <= figure->wanted : value >= figure->wanted;
}

static bool print_figure(const struct report *report, unsigned contender, unsigned at, FILE *to)
{
    const struct scenario_figure *figure = &outcome_of(report, contender, 0)->figures[at];
    struct spread spread = spread_over_seeds(report, contender, figure_value, at);
    double worst = figure->is_upper_bound ? spread.most : spread.least;
    fprintf(to, "  %-10s %-30s %9.3f %9.3f", at == 0 ? report->contenders[contender] : "", figure->name, worst,
            spread.median);
    bool is_good = !figure->is_judged || holds(figure, worst);
    if (figure->is_judged) {
        const char *verdict = is_good ? "ok" : holds(figure, spread.median) ? "median only" : "MISS";
        fprintf(to, "  %s %7.3f  %s", figure->is_upper_bound ? "<=" : ">=", figure->wanted, verdict);
    }
    fputc('\n', to);
    return is_good;
}

#define METRIC(name, expression)                                            \
    static double name(const struct scenario_outcome *outcome, unsigned at) \
    {                                                                       \
        (void)at;                                                           \
        const struct metrics *metrics = &outcome->metrics;                  \
        return expression;                                                  \
    }
METRIC(goodput_value, metrics->goodput_per_s)
METRIC(limit_value, metrics->limit_mean)
METRIC(slope_value, metrics->limit_slope_per_hour)
METRIC(p50_value, metrics->all_p50_s)
METRIC(p99_value, metrics->all_p99_s)
METRIC(prompt_bias_value, metrics->prompt_bias)
METRIC(output_bias_value, metrics->output_bias)
METRIC(requests_value, (double)metrics->requests)
METRIC(preemptions_value, (double)metrics->preemptions)
METRIC(late_value, metrics->done > 0 ? (double)metrics->late / (double)metrics->done : 0)
METRIC(slow_value, metrics->done > 0 ? (double)metrics->slow / (double)metrics->done : 0)
METRIC(wait_error_value, metrics->wait_error)
METRIC(wait_bias_value, metrics->wait_bias)

static double wall_value(const struct scenario_outcome *outcome, unsigned at)
{
    (void)at;
    return outcome->wall_s;
}

static double shed_value(const struct scenario_outcome *outcome, unsigned at)
{
    return (double)outcome->metrics.shed[at];
}

static double median_of(const struct report *report, unsigned contender, value_of *value, unsigned at)
{
    return spread_over_seeds(report, contender, value, at).median;
}

static void print_metrics(const struct report *report, unsigned contender, FILE *to)
{
    fprintf(to,
            "             goodput %.3f/s, L %.1f (%+.1f/h), first token p50 %.3f p99 %.3f s, wait error %.2f bias %.2f",
            median_of(report, contender, goodput_value, 0), median_of(report, contender, limit_value, 0),
            median_of(report, contender, slope_value, 0), median_of(report, contender, p50_value, 0),
            median_of(report, contender, p99_value, 0), median_of(report, contender, wait_error_value, 0),
            median_of(report, contender, wait_bias_value, 0));
    fprintf(to, ", of those served %.1f %% too late %.1f %% too slowly",
            100 * median_of(report, contender, late_value, 0), 100 * median_of(report, contender, slow_value, 0));
    fprintf(to, ", size of the good %.2f in %.2f out", median_of(report, contender, prompt_bias_value, 0),
            median_of(report, contender, output_bias_value, 0));
    fprintf(to, ", preemptions %.0f, of %.0f requests shed", median_of(report, contender, preemptions_value, 0),
            median_of(report, contender, requests_value, 0));
    double all = 0;
    for (unsigned why = SCHED_SHED_NONE + 1; why < SCHED_SHED_REASONS; why++) {
        double shed = median_of(report, contender, shed_value, why);
        all += shed;
        if (shed > 0) {
            fprintf(to, " %s %.0f", sched_shed_name((enum sched_shed)why), shed);
        }
    }
    fprintf(to, "%s; %.2f s\n", all > 0 ? "" : " none", median_of(report, contender, wall_value, 0));
}

bool report_print(const struct report *report, FILE *to)
{
    const struct stage *stage = report->stage;
    bool all_good = true;
    fprintf(to, "\n%s: %.0f s, %u seeds; capacity %.3f/s with %.0f in flight\n", stage->scenario->name,
            (double)(stage->to - stage->from) / 1e9, report->seed_count, stage->capacity_per_s, stage->capacity_limit);
    for (unsigned i = 0; i < report->phase_count; i++) {
        fprintf(to, "  oracle of %4.0f to %4.0f s:", (double)report->phases[i].from / 1e9,
                (double)report->phases[i].to / 1e9);
        for (unsigned seed = 0; seed < report->seed_count; seed++) {
            const struct oracle_phase *phase = &report->phases[seed * SCENARIO_PHASES_MAX + i];
            fprintf(to, " %.3f/s at %.0f", phase->goodput_per_s, phase->limit);
            if (phase->margin_ns > 0) {
                fprintf(to, " - %.1f s", (double)phase->margin_ns / 1e9);
            }
        }
        fputc('\n', to);
    }
    fprintf(to, "  %-10s %-30s %9s %9s  %s\n", "", "", "worst", "median", "wanted");
    for (unsigned contender = 0; contender < report->contender_count; contender++) {
        unsigned figures = outcome_of(report, contender, 0)->figure_count;
        for (unsigned at = 0; at < figures; at++) {
            bool is_good = print_figure(report, contender, at, to);
            all_good &= is_good || contender > 0;
        }
        print_metrics(report, contender, to);
    }
    fprintf(to, "  (%.1f s)\n", report->seconds);
    fflush(to);
    return all_good;
}

/* ---- JSON ---- */

static void json_metrics(const struct metrics *metrics, FILE *to)
{
    fprintf(to, "\"requests\": %zu, \"done\": %zu, \"good\": %zu, \"goodput_per_s\": %.5f, ", metrics->requests,
            metrics->done, metrics->good, metrics->goodput_per_s);
    fprintf(to,
            "\"limit_mean\": %.3f, \"limit_slope_per_hour\": %.3f, \"wait_error\": %.4f, \"wait_bias\": %.4f, "
            "\"preemptions\": %zu, \"late\": %zu, \"slow\": %zu, ",
            metrics->limit_mean, metrics->limit_slope_per_hour, metrics->wait_error, metrics->wait_bias,
            metrics->preemptions, metrics->late, metrics->slow);
    fprintf(to, "\"prompt_bias\": %.4f, \"output_bias\": %.4f, ", metrics->prompt_bias, metrics->output_bias);
    fprintf(to, "\"first_token_p50_s\": %.4f, \"first_token_p99_s\": %.4f, \"classes\": [", metrics->all_p50_s,
            metrics->all_p99_s);
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        fprintf(to, "%s{\"p50_s\": %.4f, \"p99_s\": %.4f, \"shed\": %zu}", class > 0 ? ", " : "",
                metrics->first_p50_s[class], metrics->first_p99_s[class], metrics->shed_of_class[class]);
    }
    fputs("], \"shed\": {", to);
    const char *comma = "";
    for (unsigned why = SCHED_SHED_NONE + 1; why < SCHED_SHED_REASONS; why++) {
        fprintf(to, "%s\"%s\": %zu", comma, sched_shed_name((enum sched_shed)why), metrics->shed[why]);
        comma = ", ";
    }
    fputs("}", to);
}

static void json_outcome(const struct scenario_outcome *outcome, unsigned seed, FILE *to)
{
    fprintf(to, "      {\"seed\": %u, \"wall_s\": %.4f, ", seed + 1, outcome->wall_s);
    json_metrics(&outcome->metrics, to);
    fputs(", \"figures\": {", to);
    for (unsigned i = 0; i < outcome->figure_count; i++) {
        fprintf(to, "%s\"%s\": %.5f", i > 0 ? ", " : "", outcome->figures[i].name, outcome->figures[i].value);
    }
    fputs("}}", to);
}

static void json_summary(const struct report *report, unsigned contender, FILE *to)
{
    const struct scenario_outcome *first = outcome_of(report, contender, 0);
    fputs("\"summary\": {", to);
    for (unsigned i = 0; i < first->figure_count; i++) {
        struct spread spread = spread_over_seeds(report, contender, figure_value, i);
        fprintf(to, "%s\"%s\": {\"min\": %.5f, \"median\": %.5f, \"max\": %.5f", i > 0 ? ", " : "",
                first->figures[i].name, spread.least, spread.median, spread.most);
        if (first->figures[i].is_judged) {
            fprintf(to, ", \"wanted\": \"%s %g\"",
                    first->figures[i].is_upper_bound ? "<=" : ">=", first->figures[i].wanted);
        }
        fputs("}", to);
    }
    fputs("}", to);
}

void report_json(const struct report *report, FILE *to)
{
    fprintf(to, "  {\"scenario\": \"%s\", \"capacity_per_s\": %.5f, \"capacity_limit\": %.0f, \"oracle\": [\n",
            report->stage->scenario->name, report->stage->capacity_per_s, report->stage->capacity_limit);
    for (unsigned seed = 0; seed < report->seed_count; seed++) {
        for (unsigned i = 0; i < report->phase_count; i++) {
            const struct oracle_phase *phase = &report->phases[seed * SCENARIO_PHASES_MAX + i];
            fprintf(
                to,
                "    {\"seed\": %u, \"from_s\": %.1f, \"to_s\": %.1f, \"limit\": %.0f, \"goodput_per_s\": %.5f}%s\n",
                seed + 1, (double)phase->from / 1e9, (double)phase->to / 1e9, phase->limit, phase->goodput_per_s,
                seed + 1 < report->seed_count || i + 1 < report->phase_count ? "," : "");
        }
    }
    fputs("  ], \"contenders\": [\n", to);
    for (unsigned contender = 0; contender < report->contender_count; contender++) {
        fprintf(to, "    {\"limiter\": \"%s\", ", report->contenders[contender]);
        json_summary(report, contender, to);
        fputs(", \"runs\": [\n", to);
        for (unsigned seed = 0; seed < report->seed_count; seed++) {
            json_outcome(outcome_of(report, contender, seed), seed, to);
            fputs(seed + 1 < report->seed_count ? ",\n" : "\n", to);
        }
        fprintf(to, "    ]}%s\n", contender + 1 < report->contender_count ? "," : "");
    }
    fputs("  ]}", to);
}

/* ---- time series ---- */

/* Less than 0: it is not known, outside of the window. */
static int good_of_oracle(const struct scene *scene, size_t second)
{
    for (unsigned i = 0; i < scene->phase_count; i++) {
        const struct oracle_phase *phase = &scene->phases[i];
        if (second * NANOS_PER_S >= phase->from && second * NANOS_PER_S < phase->to) {
            return second < phase->seconds ? phase->good_of_second[second] : 0;
        }
    }
    return -1;
}

void report_series(const struct scene *scene, const struct run_result *result, const char *path)
{
    FILE *to = fopen(path, "w");
    if (to == NULL) {
        bench_die("cannot write %s", path);
    }
    size_t seconds = scene->stage->to / NANOS_PER_S;
    uint16_t *good = oracle_good_of_second(result, scene->setup.token_max_ns, seconds);
    fputs("second\tlimit\tin_flight\tqueued\tgood\toracle_good\texcess_ms\tbase_ms\n", to);
    for (size_t second = 0; second < seconds && second < result->sample_count; second++) {
        const struct run_sample *sample = &result->samples[second];
        fprintf(to, "%zu\t%.2f\t%u\t%u\t%u\t%d\t%.1f\t%.1f\n", second, sample->limit, sample->in_flight, sample->queued,
                good[second], good_of_oracle(scene, second), sample->excess_ms, sample->base_ms);
    }
    free(good);
    if (fclose(to) != 0) {
        bench_die("cannot write %s", path);
    }
}

/* ---- arrivals ---- */

void report_arrivals(const struct scene *scene, const char *path)
{
    static const char *const kinds[] = {
        [BACKEND_HALVE] = "halve", [BACKEND_DOUBLE] = "double", [BACKEND_SLOW] = "slow"};
    const struct stage *stage = scene->stage;
    FILE *to = fopen(path, "w");
    if (to == NULL) {
        bench_die("cannot write %s", path);
    }
    fprintf(to, "# window %.3f %.3f\n", (double)stage->from / 1e9, (double)stage->to / 1e9);
    fprintf(to, "# engine %s %u %u %u\n", stage->backend.profile.name, stage->backend.profile.sequences_max,
            stage->backend.profile.kv_tokens_max, stage->backend.prefills_side_by_side);
    for (unsigned i = 0; i < stage->backend.change_count; i++) {
        const struct backend_change *change = &stage->backend.changes[i];
        fprintf(to, "# change %.3f %s\n", (double)change->at_ns / 1e9, kinds[change->kind]);
    }
    fputs("# at_ms class tenant prompt_tokens prompt_bytes output_tokens first_token_max_ms\n", to);
    for (size_t i = 0; i < scene->workload->count; i++) {
        const struct workload_request *request = &scene->workload->requests[i];
        fprintf(to, "%.3f\t%u\t%llu\t%u\t%u\t%u\t%.3f\n", (double)request->at_ns / 1e6, request->class,
                (unsigned long long)request->tenant, request->prompt_tokens, request->prompt_bytes,
                request->output_tokens, (double)request->first_token_max_ns / 1e6);
    }
    if (fclose(to) != 0) {
        bench_die("cannot write %s", path);
    }
}
