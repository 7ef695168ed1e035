/* Replays key streams through the production policies of src/cache/evict.h and through an exact LRU, and prints how
 * much each missed: objects for the traces as they are, and seconds to make again for a mix of answers of language
 * models and of ordinary APIs over the keys of web07.
 *
 *   cache_replay --data DIR [--seeds N] [--json FILE]
 *
 * DIR holds cache/ and inference/ with the traces named in lib/trace.c. One shard, what is charged is the trace's
 * sizes; the sized trace has equal costs per object. Room is made before an object is put in, as the shard does. */
#include "bench.h"
#include "trace.h"

#include "base/check.h"
#include "cache/evict.h"

/* ---- one replay ---- */

enum policy { POLICY_LRU, POLICY_S3FIFO, POLICY_COST, POLICIES };

static const char *const policy_names[POLICIES] = {"lru", "s3fifo", "cost"};

struct object {
    struct evict_node evict;
    struct list_node recency;
    bool is_in;
};

struct cache {
    enum policy policy;
    struct evict *evict;
    struct list_node recency; /* LRU: the oldest first */
    struct object *objects;
    uint64_t used_bytes;
};

struct missed {
    double objects; /* ÷ requests */
    double cost;    /* ÷ cost of all requests */
};

static void cache_hit(struct cache *cache, struct object *object)
{
    if (cache->policy != POLICY_LRU) {
        evict_touch(&object->evict);
        return;
    }
    list_remove(&object->recency);
    list_push_back(&cache->recency, &object->recency);
}

static void cache_make_room(struct cache *cache, uint64_t bytes, uint64_t bytes_max)
{
    while (cache->used_bytes + bytes > bytes_max) {
        struct object *object;
        if (cache->policy == POLICY_LRU)
            object = CONTAINER_OF(list_pop_front(&cache->recency), struct object, recency);
        else
            object = CONTAINER_OF(evict_take(cache->evict), struct object, evict);
        object->is_in = false;
        cache->used_bytes -= object->evict.bytes;
    }
}

/* As a store does: it asks only when something would have to go. */
static bool cache_admits(struct cache *cache, const struct object *object, uint64_t bytes_max)
{
    if (object->evict.bytes > bytes_max)
        return false;
    bool fits = cache->used_bytes + object->evict.bytes <= bytes_max;
    return fits || cache->policy == POLICY_LRU || evict_admits(cache->evict, &object->evict);
}

static void cache_insert(struct cache *cache, struct object *object)
{
    if (cache->policy == POLICY_LRU)
        list_push_back(&cache->recency, &object->recency);
    else
        evict_insert(cache->evict, &object->evict);
    object->is_in = true;
    cache->used_bytes += object->evict.bytes;
}

/* The number, as the index would hash a key: murmur's finalizer. */
static uint64_t hash_of(uint64_t number)
{
    number = (number ^ number >> 33) * 0xff51afd7ed558ccdu;
    number = (number ^ number >> 33) * 0xc4ceb9fe1a85ec53u;
    return number ^ number >> 33;
}

static struct object *objects_of(const struct trace *trace)
{
    struct object *objects = calloc(trace->object_count, sizeof *objects);
    if (objects == NULL)
        bench_die("no memory for %u objects", trace->object_count);
    for (uint32_t i = 0; i < trace->object_count; i++) {
        objects[i].evict.hash = hash_of(i + 1);
        objects[i].evict.bytes = trace->bytes[i];
        objects[i].evict.cost = trace->costs[i];
    }
    return objects;
}

static struct missed replay(const struct trace *trace, enum policy policy, uint64_t bytes_max)
{
    struct cache cache = {.policy = policy, .objects = objects_of(trace)};
    list_init(&cache.recency);
    cache.evict = evict_create(policy == POLICY_S3FIFO ? EVICT_S3FIFO : EVICT_COST, bytes_max);
    if (cache.evict == NULL)
        bench_die("no memory");
    double cost = 0, missed_cost = 0;
    uint64_t missed = 0;
    for (size_t i = 0; i < trace->request_count; i++) {
        struct object *object = &cache.objects[trace->requests[i]];
        cost += object->evict.cost;
        if (object->is_in) {
            cache_hit(&cache, object);
            continue;
        }
        missed++;
        missed_cost += object->evict.cost;
        if (cache_admits(&cache, object, bytes_max)) {
            cache_make_room(&cache, object->evict.bytes, bytes_max);
            cache_insert(&cache, object);
        }
    }
    evict_destroy(cache.evict);
    free(cache.objects);
    return (struct missed){(double)missed / (double)trace->request_count, missed_cost / cost};
}

/* ---- objects missed ---- */

/* From the traces' README, measured with libCacheSim. */
struct expected {
    struct trace *(*load)(const char *data);
    double lru[2];
    double s3fifo[2];
};

static const struct expected traces[] = {
    {trace_load_web07, {.609, .443}, {.562, .419}},
    {trace_load_corda, {.667, .667}, {.667, .667}},
    {trace_load_adaptsize, {.791, .702}, {.754, .670}},
    {trace_load_mooncake, {.948, .722}, {.925, .754}},
};

static const double shares[2] = {0.01, 0.10};

static double lesser(double a, double b)
{
    return a < b ? a : b;
}

static void report_objects(const char *data, FILE *json)
{
    printf("object miss ratio; at most: S3-FIFO's + 0.01 for s3fifo, the better of LRU's and S3-FIFO's + 0.02 for "
           "cost\n\n");
    printf("%-16s %4s  %6s %6s  %6s %6s %4s  %6s %6s %4s\n", "trace", "size", "lru", "known", "s3fifo", "known", "",
           "cost", "most", "");
    fprintf(json, "{\"objects_missed\": [");
    for (size_t i = 0; i < ARRAY_COUNT(traces); i++) {
        const struct expected *expected = &traces[i];
        struct trace *trace = expected->load(data);
        for (size_t size = 0; size < ARRAY_COUNT(shares); size++) {
            uint64_t bytes_max = (uint64_t)((double)trace->footprint_bytes * shares[size]);
            double missed[POLICIES];
            for (enum policy policy = 0; policy < POLICIES; policy++)
                missed[policy] = replay(trace, policy, bytes_max).objects;
            double most = lesser(expected->lru[size], expected->s3fifo[size]) + 0.02;
            printf("%-16s %3.0f%%  %6.4f %6.3f  %6.4f %6.3f %4s  %6.4f %6.3f %4s\n", trace->name, shares[size] * 100,
                   missed[POLICY_LRU], expected->lru[size], missed[POLICY_S3FIFO], expected->s3fifo[size],
                   missed[POLICY_S3FIFO] <= expected->s3fifo[size] + 0.01 ? "ok" : "MISS", missed[POLICY_COST], most,
                   missed[POLICY_COST] <= most ? "ok" : "MISS");
            fprintf(json, "%s{\"trace\": \"%s\", \"share\": %.2f", i + size > 0 ? ", " : "", trace->name, shares[size]);
            for (enum policy policy = 0; policy < POLICIES; policy++)
                fprintf(json, ", \"%s\": %.4f", policy_names[policy], missed[policy]);
            fprintf(json, "}");
        }
        trace_free(trace);
    }
    fprintf(json, "]");
}

/* ---- cost missed ---- */

static int by_value(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void report_cost(const char *data, unsigned seeds, FILE *json)
{
    static const double most[2] = {0.60, 0.65};
    struct trace *trace = trace_load_web07(data);
    struct trace_tokens *tokens = trace_load_tokens(data);
    double *ratios = calloc(seeds, sizeof *ratios);
    if (ratios == NULL)
        bench_die("no memory");
    printf("\nrecompute cost missed / LRU's, web07 keys with mixed answers, %u seeds\n\n", seeds);
    printf("%4s %-7s  %6s %6s %6s  %6s\n", "size", "policy", "median", "worst", "best", "most");
    fprintf(json, ", \"cost_missed\": [");
    for (size_t size = 0; size < ARRAY_COUNT(shares); size++) {
        for (enum policy policy = POLICY_S3FIFO; policy < POLICIES; policy++) {
            for (unsigned seed = 0; seed < seeds; seed++) {
                trace_mix(trace, tokens, seed + 1);
                uint64_t bytes_max = (uint64_t)((double)trace->footprint_bytes * shares[size]);
                ratios[seed] = replay(trace, policy, bytes_max).cost / replay(trace, POLICY_LRU, bytes_max).cost;
            }
            qsort(ratios, seeds, sizeof *ratios, by_value);
            double median = ratios[seeds / 2], worst = ratios[seeds - 1];
            printf("%3.0f%% %-7s  %6.4f %6.4f %6.4f  %6.2f %s\n", shares[size] * 100, policy_names[policy], median,
                   worst, ratios[0], most[size],
                   policy != POLICY_COST ? ""
                   : worst <= most[size] ? "ok"
                                         : "MISS");
            fprintf(json, "%s{\"share\": %.2f, \"policy\": \"%s\", \"median\": %.4f, \"worst\": %.4f}",
                    size > 0 || policy > POLICY_S3FIFO ? ", " : "", shares[size], policy_names[policy], median, worst);
        }
    }
    fprintf(json, "]}\n");
    free(ratios);
    trace_tokens_free(tokens);
    trace_free(trace);
}

int main(int argc, char **argv)
{
    const char *data = NULL, *json_path = "/dev/null";
    long seeds = 9;
    const struct bench_option options[] = {
        {"--data", "the folder of the traces", NULL, &data},
        {"--seeds", "how many draws of sizes and costs (9)", &seeds, NULL},
        {"--json", "write the figures there", NULL, &json_path},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    if (data == NULL || seeds < 1 || seeds > 1000)
        bench_die("--data is needed, --seeds is from 1 to 1000");
    FILE *json = fopen(json_path, "w");
    if (json == NULL)
        bench_die("cannot write %s", json_path);
    report_objects(data, json);
    report_cost(data, (unsigned)seeds, json);
    fclose(json);
    return 0;
}
