/* Measures src/sched in virtual time: requests of traces against a simulated engine, beside the best fixed limit and
 * published limiters. USAGE says what it takes, bench/README.md what comes out. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "contender.h"
#include "die.h"
#include "report.h"

enum { NAMES_MAX = 32, JOBS_MAX = 64 };

static const char USAGE[] =
    "usage: sched --data DIR [option value]...\n"
    "  --scenario A,B     all, or some of the scenarios below (steady-overload)\n"
    "  --limiter A,B      excess, fixed:N, aimd, vegas, gradient2, envoy, none (excess); all: these but fixed\n"
    "  --seeds N          so many runs, with seeds from --seed on (5)\n"
    "  --seed N           the first seed (1)\n"
    "  --jobs N           seeds at a time (1)\n"
    "  --duration S       in place of the scenario's; moments of change are stretched alike\n"
    "  --warmup S         not measured\n"
    "  --load X           share of the capacity that arrives\n"
    "  --arrivals KIND    trace, poisson or onoff\n"
    "  --trace FILE       in place of the scenario's: .csv as Azure's, .jsonl as Mooncake's, .tar as ServeGen's;\n"
    "                     packed by gzip or xz or not\n"
    "  --profile NAME     of the backend (reference)\n"
    "  --known-output 1   requests say how long their answers will be\n"
    "  --strict-oracle 1  the oracle may also give up requests earlier than their deadline\n"
    "  --prefix-cache N   the backend keeps N blocks of prompts\n"
    "  --delay MS         each request arrives by up to so much later, drawn by --delay-seed N (1)\n"
    "  --json FILE        all figures of all runs\n"
    "  --series DIR       DIR/SCENARIO-LIMITER.tsv, a line for each second of the first seed's run\n"
    "  --transit MS       each request takes so long to the backend and back (1)\n"
    "  --export DIR       DIR/SCENARIO.arrivals, the requests of the first seed: for bench/sched/live\n"
    "Exit status 1: the first limiter missed what is wanted of it.\n"
    "scenarios:";

struct arguments {
    struct scenario_options options;
    const char *scenarios[NAMES_MAX];
    unsigned scenario_count;
    const char *limiters[NAMES_MAX];
    unsigned limiter_count;
    unsigned seeds, first_seed, jobs;
    const char *json, *series, *export;
};

/* ---- the command line ---- */

static void usage(void)
{
    fputs(USAGE, stderr);
    unsigned count;
    const struct scenario *all = scenario_all(&count);
    for (unsigned i = 0; i < count; i++) {
        fprintf(stderr, " %s", all[i].name);
    }
    fputc('\n', stderr);
    exit(2);
}

static unsigned split(char *text, const char **names)
{
    unsigned count = 0;
    char *rest;
    for (char *name = strtok_r(text, ",", &rest); name != NULL && count < NAMES_MAX;
         name = strtok_r(NULL, ",", &rest)) {
        names[count++] = name;
    }
    return count;
}

static int arrivals_from(const char *name)
{
    static const char *const names[] = {"trace", "poisson", "onoff"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    bench_die("no arrivals are called %s", name);
}

static double number_from(const char *option, const char *text)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end != '\0' || number < 0) {
        bench_die("%s wants a number, not '%s'", option, text);
    }
    return number;
}

static void take_option(struct arguments *arguments, const char *option, char *value)
{
    struct scenario_options *options = &arguments->options;
    if (strcmp(option, "--data") == 0) {
        options->data = value;
    } else if (strcmp(option, "--scenario") == 0) {
        arguments->scenario_count = split(value, arguments->scenarios);
    } else if (strcmp(option, "--limiter") == 0) {
        arguments->limiter_count = split(value, arguments->limiters);
    } else if (strcmp(option, "--trace") == 0) {
        options->trace = value;
    } else if (strcmp(option, "--profile") == 0) {
        options->profile = value;
    } else if (strcmp(option, "--json") == 0) {
        arguments->json = value;
    } else if (strcmp(option, "--series") == 0) {
        arguments->series = value;
    } else if (strcmp(option, "--delay") == 0) {
        options->delay_ms = number_from(option, value);
    } else if (strcmp(option, "--delay-seed") == 0) {
        options->delay_seed = (unsigned)number_from(option, value);
    } else if (strcmp(option, "--transit") == 0) {
        options->transit_ms = number_from(option, value);
    } else if (strcmp(option, "--export") == 0) {
        arguments->export = value;
    } else if (strcmp(option, "--arrivals") == 0) {
        options->arrivals = arrivals_from(value);
    } else if (strcmp(option, "--seeds") == 0) {
        arguments->seeds = (unsigned)number_from(option, value);
    } else if (strcmp(option, "--seed") == 0) {
        arguments->first_seed = (unsigned)number_from(option, value);
    } else if (strcmp(option, "--jobs") == 0) {
        arguments->jobs = (unsigned)number_from(option, value);
    } else if (strcmp(option, "--duration") == 0) {
        options->seconds = number_from(option, value);
    } else if (strcmp(option, "--warmup") == 0) {
        options->warmup_s = number_from(option, value);
    } else if (strcmp(option, "--load") == 0) {
        options->load = number_from(option, value);
    } else if (strcmp(option, "--known-output") == 0) {
        options->is_output_known = number_from(option, value) != 0;
    } else if (strcmp(option, "--strict-oracle") == 0) {
        options->is_oracle_strict = number_from(option, value) != 0;
    } else if (strcmp(option, "--prefix-cache") == 0) {
        options->prefix_blocks_max = (uint32_t)number_from(option, value);
    } else {
        usage();
    }
}

static void expand_names(struct arguments *arguments)
{
    static const char *const limiters[] = {"excess", "aimd", "vegas", "gradient2", "envoy", "none"};
    if (arguments->scenario_count == 1 && strcmp(arguments->scenarios[0], "all") == 0) {
        const struct scenario *all = scenario_all(&arguments->scenario_count);
        for (unsigned i = 0; i < arguments->scenario_count; i++) {
            arguments->scenarios[i] = all[i].name;
        }
    }
    if (arguments->limiter_count == 1 && strcmp(arguments->limiters[0], "all") == 0) {
        arguments->limiter_count = sizeof limiters / sizeof *limiters;
        memcpy(arguments->limiters, limiters, sizeof limiters);
    }
    for (unsigned i = 0; i < arguments->scenario_count; i++) {
        if (scenario_find(arguments->scenarios[i]) == NULL) {
            bench_die("no scenario is called %s", arguments->scenarios[i]);
        }
    }
    for (unsigned i = 0; i < arguments->limiter_count; i++) {
        contender_from(arguments->limiters[i]);
    }
}

static void read_arguments(struct arguments *arguments, int argc, char **argv)
{
    *arguments = (struct arguments){
        .options = {.warmup_s = -1, .arrivals = -1, .delay_seed = 1, .transit_ms = 1},
        .scenarios = {"steady-overload"},
        .scenario_count = 1,
        .limiters = {"excess"},
        .limiter_count = 1,
        .seeds = 5,
        .first_seed = 1,
        .jobs = 1,
    };
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc) {
            usage();
        }
        take_option(arguments, argv[i], argv[i + 1]);
    }
    if (arguments->options.data == NULL || arguments->seeds == 0 || arguments->jobs > JOBS_MAX) {
        usage();
    }
    expand_names(arguments);
}

/* ---- the runs ---- */

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void make_folder(const char *path)
{
    if (mkdir(path, 0777) != 0 && errno != EEXIST) {
        bench_die("cannot make the folder %s", path);
    }
}

static void write_arrivals(const struct arguments *arguments, const struct scene *scene)
{
    char path[4096];
    make_folder(arguments->export);
    snprintf(path, sizeof path, "%s/%s.arrivals", arguments->export, scene->stage->scenario->name);
    report_arrivals(scene, path);
}

static void write_series(const struct arguments *arguments, const struct scene *scene, const char *limiter,
                         const struct run_result *result)
{
    char path[4096];
    make_folder(arguments->series);
    snprintf(path, sizeof path, "%s/%s-%s.tsv", arguments->series, scene->stage->scenario->name, limiter);
    report_series(scene, result, path);
}

static void play(const struct arguments *arguments, struct scene *scene, const char *limiter,
                 struct scenario_outcome *ret_outcome)
{
    struct run_setup setup = scene->setup;
    setup.contender = contender_from(limiter);
    double began_s = now_s();
    struct run_result *result = run(&setup);
    double took_s = now_s() - began_s;
    scene_judge(scene, &setup.contender, result, ret_outcome);
    ret_outcome->wall_s = took_s;
    if (arguments->series != NULL && scene->seed == arguments->first_seed) {
        write_series(arguments, scene, limiter, result);
    }
    run_result_destroy(result);
}

/* What one seed brought, as it goes through a pipe. */
struct seed_record {
    unsigned seed; /* from 0 */
    unsigned phase_count;
    struct oracle_phase phases[SCENARIO_PHASES_MAX]; /* without good_of_second */
    struct scenario_outcome outcomes[NAMES_MAX];
};

static void measure_seed(const struct arguments *arguments, const struct stage *stage, unsigned seed,
                         struct seed_record *ret_record)
{
    struct scene scene;
    scene_init(&scene, stage, arguments->first_seed + seed);
    *ret_record = (struct seed_record){.seed = seed, .phase_count = scene.phase_count};
    if (arguments->export != NULL && seed == 0) {
        write_arrivals(arguments, &scene);
    }
    for (unsigned i = 0; i < arguments->limiter_count; i++) {
        play(arguments, &scene, arguments->limiters[i], &ret_record->outcomes[i]);
    }
    scene_fini(&scene);
    memcpy(ret_record->phases, scene.phases, sizeof scene.phases);
}

/* Measures each jobs-th seed in a process of its own; names in the records are the parent's too. Its end of a pipe. */
static FILE *start_job(const struct arguments *arguments, const struct stage *stage, unsigned first)
{
    int ends[2];
    if (pipe(ends) != 0) {
        bench_die("no pipe: %s", strerror(errno));
    }
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) {
        bench_die("no further process: %s", strerror(errno));
    }
    if (child > 0) {
        close(ends[1]);
        return fdopen(ends[0], "rb");
    }
    FILE *to = fdopen(ends[1], "wb");
    struct seed_record *record = bench_need(1, sizeof *record);
    for (unsigned seed = first; seed < arguments->seeds; seed += arguments->jobs) {
        measure_seed(arguments, stage, seed, record);
        fwrite(record, sizeof *record, 1, to);
    }
    _exit(fclose(to) == 0 ? 0 : 1);
}

static void measure_seeds(const struct arguments *arguments, const struct stage *stage, struct seed_record *records)
{
    FILE *jobs[JOBS_MAX];
    unsigned job_count = arguments->jobs < arguments->seeds ? arguments->jobs : arguments->seeds, got = 0;
    if (job_count <= 1) {
        for (unsigned seed = 0; seed < arguments->seeds; seed++) {
            measure_seed(arguments, stage, seed, &records[seed]);
        }
        return;
    }
    for (unsigned i = 0; i < job_count; i++) {
        jobs[i] = start_job(arguments, stage, i);
    }
    for (unsigned i = 0; i < job_count; i++) {
        struct seed_record *record = bench_need(1, sizeof *record);
        while (fread(record, sizeof *record, 1, jobs[i]) == 1) {
            records[record->seed] = *record;
            got++;
        }
        free(record);
        fclose(jobs[i]);
        wait(NULL);
    }
    if (got != arguments->seeds) {
        bench_die("%u of %u seeds came to an end", got, arguments->seeds);
    }
}

static bool measure(const struct arguments *arguments, const char *name, FILE *json)
{
    double began_s = now_s();
    struct stage stage;
    stage_init(&stage, scenario_find(name), &arguments->options);
    struct seed_record *records = bench_need(arguments->seeds, sizeof *records);
    measure_seeds(arguments, &stage, records);
    struct scenario_outcome *outcomes =
        bench_need((size_t)arguments->limiter_count * arguments->seeds, sizeof *outcomes);
    struct oracle_phase *phases = bench_need((size_t)arguments->seeds * SCENARIO_PHASES_MAX, sizeof *phases);
    for (unsigned i = 0; i < arguments->seeds; i++) {
        for (unsigned k = 0; k < arguments->limiter_count; k++) {
            outcomes[k * arguments->seeds + i] = records[i].outcomes[k];
        }
        memcpy(&phases[i * SCENARIO_PHASES_MAX], records[i].phases, sizeof records[i].phases);
    }
    struct report report = {
        .stage = &stage,
        .contenders = arguments->limiters,
        .contender_count = arguments->limiter_count,
        .seed_count = arguments->seeds,
        .outcomes = outcomes,
        .phases = phases,
        .phase_count = records[0].phase_count,
        .seconds = now_s() - began_s,
    };
    bool all_good = report_print(&report, stdout);
    if (json != NULL) {
        report_json(&report, json);
    }
    free(records);
    free(outcomes);
    free(phases);
    stage_fini(&stage);
    return all_good;
}

int main(int argc, char **argv)
{
    struct arguments arguments;
    read_arguments(&arguments, argc, argv);
    FILE *json = NULL;
    if (arguments.json != NULL && (json = fopen(arguments.json, "w")) == NULL) {
        bench_die("cannot write %s", arguments.json);
    }
    bool all_good = true;
    for (unsigned i = 0; i < arguments.scenario_count; i++) {
        if (json != NULL) {
            fputs(i > 0 ? ",\n" : "[\n", json);
        }
        all_good &= measure(&arguments, arguments.scenarios[i], json);
    }
    if (json != NULL) {
        fputs("\n]\n", json);
        if (fclose(json) != 0) {
            bench_die("cannot write %s", arguments.json);
        }
    }
    return all_good ? 0 : 1;
}
