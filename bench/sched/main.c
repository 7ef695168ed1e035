/* Measures src/sched in virtual time: requests of traces against a simulated engine, beside the best fixed limit and
 * published limiters. `sched --help` says what it takes; README.md what comes out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "contender.h"
#include "die.h"
#include "scenario.h"

enum { CONTENDERS_MAX = 16 };

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void play(struct scene *scene, const char *name)
{
    struct run_setup setup = scene->setup;
    setup.contender = contender_from(name);
    double began = now_s();
    struct run_result *result = run(&setup);
    double took = now_s() - began;
    struct scenario_outcome outcome;
    scene_judge(scene, &setup.contender, result, &outcome);
    const struct metrics *m = &outcome.metrics;
    printf("seed %lu %-10s goodput %.3f/s of %.3f at %.0f; done %zu of %zu; L %.1f (%+.1f/h); p50 %.2f p99 %.2f s; "
           "wait error %.2f; %.2f s\n",
           (unsigned long)scene->seed, name, m->goodput_per_s, scene->phases[0].goodput_per_s, scene->phases[0].limit,
           m->done, m->requests, m->limit_mean, m->limit_slope_per_hour, m->all_p50_s, m->all_p99_s, m->wait_error,
           took);
    for (unsigned i = 0; i < outcome.figure_count; i++) {
        printf("    %s %.3f\n", outcome.figures[i].name, outcome.figures[i].value);
    }
    run_result_destroy(result);
}

int main(int argc, char **argv)
{
    struct scenario_options options = {.warmup_s = -1, .arrivals = -1};
    const char *name = "steady-overload", *limiters[CONTENDERS_MAX];
    unsigned limiter_count = 0, seeds = 5;
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *option = argv[i], *value = argv[i + 1];
        if (strcmp(option, "--data") == 0) {
            options.data = value;
        } else if (strcmp(option, "--scenario") == 0) {
            name = value;
        } else if (strcmp(option, "--limiter") == 0) {
            limiters[limiter_count++] = value;
        } else if (strcmp(option, "--seeds") == 0) {
            seeds = (unsigned)strtoul(value, NULL, 10);
        } else if (strcmp(option, "--duration") == 0) {
            options.seconds = strtod(value, NULL);
        } else {
            bench_die("unknown option %s", option);
        }
    }
    const struct scenario *scenario = scenario_find(name);
    if (scenario == NULL || options.data == NULL) {
        bench_die("no such scenario, or no --data");
    }
    struct stage stage;
    stage_init(&stage, scenario, &options);
    printf("capacity %.2f/s with %.0f in flight\n", stage.capacity_per_s, stage.capacity_limit);
    for (unsigned seed = 1; seed <= seeds; seed++) {
        struct scene scene;
        double began = now_s();
        scene_init(&scene, &stage, seed);
        printf("oracle: %.1f s\n", now_s() - began);
        for (unsigned i = 0; i < limiter_count; i++) {
            play(&scene, limiters[i]);
        }
        scene_fini(&scene);
    }
    stage_fini(&stage);
    return 0;
}
