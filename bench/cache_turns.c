/* How long one call of a cache shard keeps its worker busy, at worst: the longest CPU time of a single call
 *
 *   while the index grows to --entries (small objects), while 1 GiB of objects of mixed sizes is stored, while it is
 *   replaced by evicting, and while all of it is purged and freed.
 *
 * Prints a row for each kind of call: how many, the mean, the 99.9th percentile and the longest. Times are the thread's
 * CPU time, so that a busy machine does not count, but page faults do. A virtual machine's thread is also charged what
 * its host takes from it; the work is the same in each round, so the longest is given for the best round.
 *
 *   build/release/bench/cache_turns [--entries 1048576] [--megabytes 1024] [--rounds 3] */
#include "bench.h"

#include "base/histogram.h"
#include "cache/qsbr.h"
#include "cache/shard.h"

enum { PURGE_OBJECTS = 64, RUN_BYTES = 256 << 10 };

enum phase { PHASE_GROWING, PHASE_EXPIRING, PHASE_FILLING, PHASE_EVICTING, PHASE_PURGING, PHASES };

static const char *const phase_names[PHASES] = {"growing", "expiring", "filling", "evicting", "purging"};

enum call { CALL_BEGIN, CALL_BODY, CALL_COMMIT, CALL_TURN, CALL_PURGE, CALLS };

static const char *const call_names[CALLS] = {"store_begin", "store_body", "store_commit", "turn", "purge_step"};

struct timing {
    struct histogram histogram;
    uint64_t sum_ns;
    uint64_t longest_ns;
    uint64_t calls;
};

struct turns {
    struct qsbr *qsbr;
    struct shard *shard;
    struct timing timings[CALLS];
    uint64_t best_ns[PHASES][CALLS]; /* the least of the rounds' longest; 0: none yet */
    uint64_t random;
    int64_t now_ms;
};

static char filler[RUN_BYTES];

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void timing_add(struct turns *turns, enum call call, uint64_t since_ns)
{
    struct timing *timing = &turns->timings[call];
    uint64_t took_ns = cpu_ns() - since_ns;
    histogram_add(&timing->histogram, took_ns);
    timing->sum_ns += took_ns;
    timing->calls++;
    timing->longest_ns = took_ns > timing->longest_ns ? took_ns : timing->longest_ns;
}

/* Ends a phase; a row of the last round is printed. */
static void report(struct turns *turns, enum phase phase, bool is_last)
{
    const struct shard_counters *counters = shard_counters(turns->shard);
    if (is_last) {
        printf("%s: %lu entries, %lu MB charged, %lu MB mapped at its end\n", phase_names[phase],
               (unsigned long)atomic_load(&counters->entries),
               (unsigned long)atomic_load(&counters->charged_bytes) >> 20,
               (unsigned long)atomic_load(&counters->mapped_bytes) >> 20);
    }
    for (int call = 0; call < CALLS; call++) {
        struct timing *timing = &turns->timings[call];
        uint64_t *best_ns = &turns->best_ns[phase][call];
        *best_ns = *best_ns == 0 || timing->longest_ns < *best_ns ? timing->longest_ns : *best_ns;
        if (is_last && timing->calls > 0) {
            printf("  %-14s %9lu calls   mean %8.2f us   p99.9 %8.1f us   longest %8.1f us\n", call_names[call],
                   (unsigned long)timing->calls, (double)timing->sum_ns / (double)timing->calls / 1e3,
                   (double)histogram_quantile(&timing->histogram, 0.999) / 1e3, (double)*best_ns / 1e3);
        }
        memset(timing, 0, sizeof(*timing));
    }
}

static bool turn(struct turns *turns)
{
    qsbr_quiescent(turns->qsbr, 0);
    uint64_t since = cpu_ns();
    bool has_more = shard_turn(turns->shard, turns->now_ms);
    timing_add(turns, CALL_TURN, since);
    return has_more;
}

static void store(struct turns *turns, uint64_t number, uint64_t body_bytes)
{
    char key[64];
    int key_bytes = snprintf(key, sizeof(key), "GET https://example.org/objects/%lu", (unsigned long)number);
    struct shard_draft draft = {
        .key = {key, (size_t)key_bytes},
        .hash = (number + 1) * 0x9e3779b97f4a7c15u,
        .lines = {filler, 300},
        .body_bytes = body_bytes,
        .cost = (double)(1 + number % 1000),
        .remove_at_ms = turns->now_ms + 1000 + (int64_t)(number % 1000) * 3600,
        .status = 200,
    };
    draft.hash ^= draft.hash >> 31;
    struct shard_store under_way;
    enum result result;
    do {
        uint64_t since = cpu_ns();
        result = shard_store_begin(turns->shard, &under_way, &draft);
        timing_add(turns, CALL_BEGIN, since);
    } while (result == RESULT_MORE && (turn(turns), true));
    if (result != RESULT_OK) {
        bench_die("cannot store: %s", result_name(result));
    }
    for (uint64_t left = body_bytes; left > 0;) {
        size_t part = left < RUN_BYTES ? (size_t)left : (size_t)RUN_BYTES;
        uint64_t since = cpu_ns();
        shard_store_body(turns->shard, &under_way, (struct bytes){filler, part});
        timing_add(turns, CALL_BODY, since);
        left -= part;
    }
    uint64_t since = cpu_ns();
    result = shard_store_commit(turns->shard, &under_way);
    timing_add(turns, CALL_COMMIT, since);
    if (result != RESULT_OK) {
        bench_die("cannot commit: %s", result_name(result));
    }
}

/* Mostly small, some large, one in 4,096 of 16 MB. */
static uint64_t mixed_bytes(struct turns *turns)
{
    turns->random ^= turns->random << 13;
    turns->random ^= turns->random >> 7;
    turns->random ^= turns->random << 17;
    uint64_t which = turns->random >> 40 & 4095;
    uint64_t any = turns->random & 0xffffff;
    return which == 0 ? 16 << 20 : which < 40 ? any % (1 << 20) : which < 600 ? any % 65536 : any % 4096;
}

static void start(struct turns *turns, uint64_t bytes_max)
{
    turns->qsbr = qsbr_create(2);
    if (turns->qsbr == NULL) {
        bench_die("out of memory");
    }
    qsbr_online(turns->qsbr, 0);
    struct shard_options options = {.qsbr = turns->qsbr, .policy = EVICT_COST, .bytes_max = bytes_max};
    turns->shard = shard_create(&options);
    if (turns->shard == NULL) {
        bench_die("out of memory");
    }
    turns->random = 88172645463325252u;
    turns->now_ms = INT64_C(1700000000000);
}

static void end(struct turns *turns)
{
    shard_destroy(turns->shard);
    qsbr_destroy(turns->qsbr);
}

static void purge(struct turns *turns)
{
    struct shard_filter filter = {.kind = SHARD_ALL, .cause = SHARD_PURGED};
    struct shard_purge under_way;
    shard_purge_begin(turns->shard, &under_way, &filter);
    bool has_more = true;
    while (has_more) {
        uint64_t since = cpu_ns();
        has_more = shard_purge_step(turns->shard, &under_way, PURGE_OBJECTS);
        timing_add(turns, CALL_PURGE, since);
        turn(turns);
    }
    while (turn(turns)) {
    }
}

static void round_of_growth(struct turns *turns, long entries, bool is_last)
{
    start(turns, (uint64_t)entries * 1100 + (64u << 20));
    for (long i = 0; i < entries; i++) {
        store(turns, (uint64_t)i, 0);
        if (i % 16 == 0) {
            turn(turns);
        }
    }
    report(turns, PHASE_GROWING, is_last);
    turns->now_ms += 3000000; /* most of them expire at once */
    while (turn(turns)) {
    }
    report(turns, PHASE_EXPIRING, is_last);
    end(turns);
}

/* Stores that many bytes of objects from number on; the next number. */
static uint64_t store_mixed(struct turns *turns, uint64_t number, uint64_t bytes_sum)
{
    for (uint64_t stored = 0; stored < bytes_sum; number++) {
        uint64_t bytes = mixed_bytes(turns);
        store(turns, number, bytes);
        stored += bytes + 1000;
        turn(turns);
    }
    return number;
}

static void round_of_purging(struct turns *turns, uint64_t bytes_max, bool is_last)
{
    start(turns, bytes_max);
    uint64_t number = store_mixed(turns, 0, bytes_max * 9 / 10);
    report(turns, PHASE_FILLING, is_last);
    store_mixed(turns, number, bytes_max / 2);
    report(turns, PHASE_EVICTING, is_last);
    purge(turns);
    report(turns, PHASE_PURGING, is_last);
    end(turns);
}

int main(int argc, char **argv)
{
    static struct turns turns;
    long entries = 1 << 20;
    long megabytes = 1024;
    long rounds = 3;
    long cpu = -1;
    const struct bench_option options[] = {{"--entries", "to grow the index to", &entries, NULL},
                                           {"--megabytes", "of objects to purge, at least 64", &megabytes, NULL},
                                           {"--rounds", "of the same work", &rounds, NULL},
                                           {"--cpu", "to run on", &cpu, NULL},
                                           {NULL, NULL, NULL, NULL}};
    bench_options_parse(argc, argv, options);
    bench_pin(cpu);
    for (long round = 1; round <= rounds; round++) {
        round_of_growth(&turns, entries, round == rounds);
    }
    for (long round = 1; round <= rounds; round++) {
        round_of_purging(&turns, (uint64_t)megabytes << 20, round == rounds);
    }
    return 0;
}
