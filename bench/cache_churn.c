/* Whether what a cache shard charges is what it takes from the system, while the sizes of what it stores change:
 *
 *   phases of 3 KB, 20 KB, 1.5 KB (and 3 KB again), each storing several times the budget; a quarter of the objects is
 *   touched, so that they stay and lie between the new ones.
 *
 * Prints what is charged, mapped and resident (the process's growth, /proc/self/statm) at the worst moment and at the
 * end of each phase; ends with status 1 if resident ÷ charged went above --percent, or charged above the budget.
 *
 *   build/release/bench/cache_churn [--megabytes 64] [--percent 108] */
#include "bench.h"

#include "cache/qsbr.h"
#include "cache/shard.h"

enum { TURN_EVERY = 8, LOOK_EVERY = 512, TIMES_BUDGET = 3 };

struct churn {
    struct qsbr *qsbr;
    struct shard *shard;
    uint64_t bytes_max;
    uint64_t number; /* of the next object */
    uint64_t base_bytes;
    uint64_t over_budget;
    double worst;
    bool is_full;
};

static char filler[64 << 10];

static uint64_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    if (statm == NULL || fscanf(statm, "%*u %lu", &pages) != 1) {
        bench_die("cannot read /proc/self/statm");
    }
    fclose(statm);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct bytes key_of(uint64_t number, char *key, size_t bytes)
{
    return (struct bytes){key, (size_t)snprintf(key, bytes, "GET https://example.org/%lu", (unsigned long)number)};
}

static uint64_t hash_of(uint64_t number)
{
    uint64_t hash = (number + 1) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 31;
}

static void turn(struct churn *churn)
{
    qsbr_quiescent(churn->qsbr, 0);
    shard_turn(churn->shard, INT64_C(1700000000000));
}

static void store(struct churn *churn, uint64_t body_bytes)
{
    char key[64];
    struct shard_draft draft = {
        .key = key_of(churn->number, key, sizeof(key)),
        .hash = hash_of(churn->number),
        .lines = {filler, 250},
        .body_bytes = body_bytes,
        .cost = (double)(1 + hash_of(churn->number * 7) % 100),
        .remove_at_ms = INT64_MAX,
        .status = 200,
    };
    churn->number++;
    struct shard_store under_way;
    enum result result;
    while ((result = shard_store_begin(churn->shard, &under_way, &draft)) == RESULT_MORE) {
        turn(churn);
    }
    if (result != RESULT_OK) {
        bench_die("cannot store: %s", result_name(result));
    }
    shard_store_body(churn->shard, &under_way, (struct bytes){filler, body_bytes});
    if (shard_store_commit(churn->shard, &under_way) != RESULT_OK) {
        bench_die("cannot commit");
    }
}

/* One that was stored before is hit. */
static void touch(struct churn *churn)
{
    char key[64];
    uint64_t number = hash_of(churn->number * 3) % churn->number;
    struct cache_object *object = shard_find(churn->shard, hash_of(number), key_of(number, key, sizeof(key)));
    if (object != NULL) {
        evict_touch(&object->evict);
    }
}

static void look(struct churn *churn)
{
    uint64_t charged = atomic_load(&shard_counters(churn->shard)->charged_bytes);
    churn->over_budget = charged > churn->bytes_max ? charged - churn->bytes_max : churn->over_budget;
    /* Before it is full, what the process itself has grown by would count. */
    churn->is_full |= charged > churn->bytes_max * 9 / 10;
    if (churn->is_full) {
        double ratio = (double)(resident_bytes() - churn->base_bytes) / (double)charged;
        churn->worst = ratio > churn->worst ? ratio : churn->worst;
    }
}

static void phase(struct churn *churn, uint64_t body_bytes)
{
    churn->worst = 0;
    for (uint64_t stored = 0; stored < churn->bytes_max * TIMES_BUDGET; stored += body_bytes) {
        store(churn, body_bytes);
        touch(churn);
        if (churn->number % TURN_EVERY == 0) {
            turn(churn);
        }
        if (churn->number % LOOK_EVERY == 0) {
            look(churn);
        }
    }
    const struct shard_counters *counters = shard_counters(churn->shard);
    uint64_t charged = atomic_load(&counters->charged_bytes);
    uint64_t resident = resident_bytes() - churn->base_bytes;
    printf("%6lu B   entries %7lu   charged %6.2f MB   mapped %6.2f MB   resident %6.2f MB   ratio %.4f   worst %.4f\n",
           (unsigned long)body_bytes, (unsigned long)atomic_load(&counters->entries), (double)charged / 1048576.0,
           (double)atomic_load(&counters->mapped_bytes) / 1048576.0, (double)resident / 1048576.0,
           (double)resident / (double)charged, churn->worst);
}

int main(int argc, char **argv)
{
    long megabytes = 64;
    long percent = 108;
    const struct bench_option options[] = {{"--megabytes", "the shard's budget", &megabytes, NULL},
                                           {"--percent", "resident / charged, at most", &percent, NULL},
                                           {NULL, NULL, NULL, NULL}};
    bench_options_parse(argc, argv, options);
    struct churn churn = {.qsbr = qsbr_create(1), .bytes_max = (uint64_t)megabytes << 20};
    memset(filler, 'f', sizeof(filler));
    printf("budget %ld MB\n", megabytes);
    fflush(stdout);
    churn.base_bytes = resident_bytes();
    churn.shard =
        shard_create(&(struct shard_options){.qsbr = churn.qsbr, .policy = EVICT_COST, .bytes_max = churn.bytes_max});
    if (churn.qsbr == NULL || churn.shard == NULL) {
        bench_die("out of memory");
    }
    qsbr_online(churn.qsbr, 0);
    static const uint64_t sizes[] = {3000, 20000, 1500, 3000};
    double worst = 0;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        phase(&churn, sizes[i]);
        worst = churn.worst > worst ? churn.worst : worst;
    }
    shard_destroy(churn.shard);
    qsbr_destroy(churn.qsbr);
    bool is_good = worst * 100 <= (double)percent && churn.over_budget == 0;
    printf("worst resident / charged %.4f, over the budget by %lu bytes: %s\n", worst, (unsigned long)churn.over_budget,
           is_good ? "good" : "NOT GOOD");
    return is_good ? 0 : 1;
}
