/* Replays key streams through the production policies of src/cache/evict.h, and prints how much they missed: objects
 * for the traces as they are, and seconds to make again for a mix of answers of language models and of ordinary APIs
 * over the keys of web07. Exact LRU and GDSF stand beside them.
 *
 *   cache_replay --data DIR [--seeds N] [--json FILE]
 *
 * DIR holds cache/ and inference/ with the traces named in lib/trace.c. One shard, and what is charged is the trace's
 * sizes; an object of the sized trace costs as much as any other. Exit status 1: a figure is worse than it may be. */
#include "bench.h"
#include "replay.h"

#include "base/check.h"

static const double shares[2] = {0.01, 0.10}; /* of the footprint, that the cache may hold */

static uint64_t share_of(const struct trace *trace, double share)
{
    return (uint64_t)((double)trace->footprint_bytes * share);
}

static const char *verdict(double figure, double most, bool *all_good)
{
    *all_good &= figure <= most;
    return figure <= most ? "ok" : "MISS";
}

/* ---- objects missed ---- */

/* Measured with libCacheSim, at each of the shares. */
struct known {
    struct trace *(*load)(const char *data);
    double lru[2];
    double s3fifo[2];
};

static const struct known known[] = {
    {trace_load_web07, {.609, .443}, {.562, .419}},
    {trace_load_corda, {.667, .667}, {.667, .667}},
    {trace_load_adaptsize, {.791, .702}, {.754, .670}},
    {trace_load_mooncake, {.948, .722}, {.925, .754}},
};

static void report_trace(const struct trace *trace, const struct known *row, size_t at, FILE *json, bool *all_good)
{
    double missed[REPLAY_POLICIES];
    for (enum replay_policy policy = 0; policy < REPLAY_POLICIES; policy++)
        missed[policy] = replay(trace, policy, share_of(trace, shares[at])).objects;
    double s3fifo_most = row->s3fifo[at] + 0.01;
    double cost_most = (row->lru[at] < row->s3fifo[at] ? row->lru[at] : row->s3fifo[at]) + 0.02;
    printf("%-16s %3.0f%%  %6.4f %6.3f  %6.4f  ", trace->name, shares[at] * 100, missed[REPLAY_LRU], row->lru[at],
           missed[REPLAY_GDSF]);
    printf("%6.4f %6.3f %-4s  ", missed[REPLAY_S3FIFO], row->s3fifo[at],
           verdict(missed[REPLAY_S3FIFO], s3fifo_most, all_good));
    printf("%6.4f %6.3f %-4s\n", missed[REPLAY_COST], cost_most, verdict(missed[REPLAY_COST], cost_most, all_good));
    fprintf(json, "{\"trace\": \"%s\", \"share\": %.2f", trace->name, shares[at]);
    for (enum replay_policy policy = 0; policy < REPLAY_POLICIES; policy++)
        fprintf(json, ", \"%s\": %.4f", replay_names[policy], missed[policy]);
    fprintf(json, "}");
}

static void report_objects(const char *data, FILE *json, bool *all_good)
{
    printf(
        "Objects missed / requests. \"known\" is what libCacheSim measured. s3fifo may miss 0.01 more than is known;\n"
        "cost, the default, with all costs equal, \"most\": 0.02 more than the better of LRU and S3-FIFO.\n\n");
    printf("%-16s %4s  %6s %6s  %6s  %6s %6s %4s  %6s %6s\n", "trace", "size", "lru", "known", "gdsf", "s3fifo",
           "known", "", "cost", "most");
    fprintf(json, "{\"objects_missed\": [");
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        struct trace *trace = known[i].load(data);
        for (size_t at = 0; at < ARRAY_COUNT(shares); at++) {
            fprintf(json, "%s", i + at > 0 ? ", " : "");
            report_trace(trace, &known[i], at, json, all_good);
        }
        trace_free(trace);
    }
    fprintf(json, "]");
}

/* ---- cost missed ---- */

static const double cost_most[2] = {0.60, 0.65};

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

/* For each policy but LRU and each seed, the missed cost ÷ LRU's. */
static void measure_cost(struct trace *trace, const struct trace_tokens *tokens, double share, size_t seeds,
                         double *ratios[REPLAY_POLICIES])
{
    for (size_t seed = 0; seed < seeds; seed++) {
        trace_mix(trace, tokens, seed + 1);
        double lru = replay(trace, REPLAY_LRU, share_of(trace, share)).cost;
        for (enum replay_policy policy = REPLAY_GDSF; policy < REPLAY_POLICIES; policy++)
            ratios[policy][seed] = replay(trace, policy, share_of(trace, share)).cost / lru;
    }
}

static void report_ratios(double *ratios[REPLAY_POLICIES], size_t at, size_t seeds, FILE *json, bool *all_good)
{
    for (enum replay_policy policy = REPLAY_GDSF; policy < REPLAY_POLICIES; policy++) {
        qsort(ratios[policy], seeds, sizeof *ratios[policy], by_value);
        double best = ratios[policy][0], median = ratios[policy][seeds / 2], worst = ratios[policy][seeds - 1];
        printf("%3.0f%% %-7s  %6.4f %6.4f %6.4f", shares[at] * 100, replay_names[policy], best, median, worst);
        if (policy == REPLAY_COST)
            printf("  %4.2f %s", cost_most[at], verdict(median, cost_most[at], all_good));
        printf("\n");
        fprintf(json, "%s{\"share\": %.2f, \"policy\": \"%s\", \"best\": %.4f, \"median\": %.4f, \"worst\": %.4f}",
                at > 0 || policy > REPLAY_GDSF ? ", " : "", shares[at], replay_names[policy], best, median, worst);
    }
}

static void report_cost(const char *data, size_t seeds, FILE *json, bool *all_good)
{
    struct trace *trace = trace_load_web07(data);
    struct trace_tokens *tokens = trace_load_tokens(data);
    double *ratios[REPLAY_POLICIES];
    for (enum replay_policy policy = 0; policy < REPLAY_POLICIES; policy++) {
        ratios[policy] = calloc(seeds, sizeof *ratios[policy]);
        if (ratios[policy] == NULL)
            bench_die("no memory");
    }
    printf("\nCost missed / LRU's, mixed answers over the keys of web07, %zu seeds. The median counts.\n\n", seeds);
    printf("%4s %-7s  %6s %6s %6s  %4s\n", "size", "policy", "best", "median", "worst", "most");
    fprintf(json, ", \"cost_missed\": [");
    for (size_t at = 0; at < ARRAY_COUNT(shares); at++) {
        measure_cost(trace, tokens, shares[at], seeds, ratios);
        report_ratios(ratios, at, seeds, json, all_good);
    }
    fprintf(json, "]}\n");
    for (enum replay_policy policy = 0; policy < REPLAY_POLICIES; policy++)
        free(ratios[policy]);
    trace_tokens_free(tokens);
    trace_free(trace);
}

int main(int argc, char **argv)
{
    const char *data = NULL, *json_path = "/dev/null";
    long seeds = 15;
    const struct bench_option options[] = {
        {"--data", "the folder of the traces", NULL, &data},
        {"--seeds", "how many draws of sizes and costs (15)", &seeds, NULL},
        {"--json", "write the figures there", NULL, &json_path},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    if (data == NULL || seeds < 1 || seeds > 1000)
        bench_die("--data is needed, --seeds is from 1 to 1000");
    FILE *json = fopen(json_path, "w");
    if (json == NULL)
        bench_die("cannot write %s", json_path);
    bool all_good = true;
    report_objects(data, json, &all_good);
    report_cost(data, (size_t)seeds, json, &all_good);
    fclose(json);
    return all_good ? 0 : 1;
}
