/* Lookups in the cache's index beside liburcu's cds_lfht, both under quiescent states: 1 Mi keys of 16 bytes, drawn
 * uniformly, by one thread and by two, and one hot key. Both sides hash the key with the same function, compare the
 * whole of it, and pass a quiescent state after every TURN lookups. cds_lfht has a bucket for each key from the start.
 *
 *   index_lookup [ROUNDS [LOOKUPS]]
 *
 * Contenders take turns within a round; what is printed is the median of the rounds, of a ratio the median of each
 * round's. Times are CPU time of the thread: what somebody else takes from its core is not in it ("waited" says how
 * much that was). */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define _LGPL_SOURCE
#include <urcu/urcu-qsbr.h>

#include <urcu/rculfhash.h>

#include "base/check.h"
#include "cache/index_inline.h"

enum { KEYS = 1 << 20, TURN = 64, ROUNDS_MAX = 101, THREADS_MAX = 2 };

struct key {
    uint64_t words[2];
};

struct item {
    struct index_node index;
    struct key key;
};

struct other_item {
    struct cds_lfht_node node;
    struct key key;
};

enum contender { OURS, OURS_CALLED, THEIRS, CONTENDERS };
enum load { UNIFORM, ABSENT, HOT, LOADS };

static const char *const contender_names[] = {"index, inline", "index, called", "cds_lfht"};
static const char *const load_names[] = {"uniform", "absent", "hot key"};

static struct qsbr *qsbr;
static struct index *index_made;
static struct cds_lfht *other;

static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static struct key key_of(uint64_t number)
{
    return (struct key){{mix(number + 1), number}};
}

static uint64_t hash_of(const struct key *key)
{
    return XXH3_64bits_withSeed(key, sizeof(*key), 12345);
}

static bool matches(const struct index_node *node, const void *key)
{
    return memcmp(&((const struct item *)(const void *)node)->key, key, sizeof(struct key)) == 0;
}

static int other_matches(struct cds_lfht_node *node, const void *key)
{
    return memcmp(&caa_container_of(node, struct other_item, node)->key, key, sizeof(struct key)) == 0;
}

static bool look_up(enum contender contender, const struct key *key)
{
    uint64_t hash = hash_of(key);
    if (contender == OURS) {
        return index_find_inline(index_made, hash, matches, key) != NULL;
    }
    if (contender == OURS_CALLED) {
        return index_find(index_made, hash, matches, key) != NULL;
    }
    struct cds_lfht_iter found;
    cds_lfht_lookup(other, hash, other_matches, key, &found);
    return cds_lfht_iter_get_node(&found) != NULL;
}

/* ---- one thread's share */

struct run {
    enum contender contender;
    enum load load;
    unsigned thread;
    uint64_t lookups;
    uint64_t random;
    pthread_barrier_t *start;
    double cpu_ns;
    double wall_ns;
    uint64_t found;
};

static double now_ns(clockid_t clock)
{
    struct timespec at;
    clock_gettime(clock, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

/* Inlined into a loop for each contender, so that none pays for being chosen. */
static inline __attribute__((always_inline)) uint64_t turns(struct run *run, enum contender contender)
{
    uint64_t found = 0;
    uint64_t random = run->random; /* not in run, whose line the threads may share */
    uint64_t base = run->load == ABSENT ? KEYS : 0;
    uint64_t mask = run->load == HOT ? 0 : KEYS - 1;
    for (uint64_t i = 0; i < run->lookups;) {
        for (unsigned k = 0; k < TURN; k++, i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            struct key key = key_of(base + ((random >> 33) & mask));
            found += look_up(contender, &key);
        }
        if (contender == THEIRS) {
            urcu_qsbr_quiescent_state();
        } else {
            qsbr_quiescent(qsbr, run->thread);
        }
    }
    return found;
}

static void *run_main(void *context)
{
    struct run *run = context;
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(run->thread, &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus); /* refused, figures are noisier */
    urcu_qsbr_register_thread();
    qsbr_online(qsbr, run->thread);
    pthread_barrier_wait(run->start);
    double wall = now_ns(CLOCK_MONOTONIC);
    double cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
    switch (run->contender) {
    case OURS: run->found = turns(run, OURS); break;
    case OURS_CALLED: run->found = turns(run, OURS_CALLED); break;
    default: run->found = turns(run, THEIRS); break;
    }
    run->cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID) - cpu;
    run->wall_ns = now_ns(CLOCK_MONOTONIC) - wall;
    qsbr_offline(qsbr, run->thread);
    urcu_qsbr_unregister_thread();
    return NULL;
}

struct measured {
    double ns;     /* CPU time of a lookup */
    double waited; /* share of the time in which a thread had no core */
};

static struct measured measure(enum contender contender, enum load load, unsigned threads, uint64_t lookups,
                               uint64_t seed)
{
    pthread_barrier_t start;
    pthread_t handles[THREADS_MAX];
    struct run runs[THREADS_MAX];
    pthread_barrier_init(&start, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        runs[i] = (struct run){contender, load, i, lookups, .random = seed * THREADS_MAX + i, .start = &start};
        CHECK(pthread_create(&handles[i], NULL, run_main, &runs[i]) == 0);
    }
    struct measured sum = {0};
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(handles[i], NULL);
        CHECK(runs[i].found == (load == ABSENT ? 0 : lookups));
        sum.ns += runs[i].cpu_ns / (double)lookups / threads;
        sum.waited += (1 - runs[i].cpu_ns / runs[i].wall_ns) / threads;
    }
    pthread_barrier_destroy(&start);
    return sum;
}

/* ---- tables */

static double fill_ours(struct item *items)
{
    double longest_ns = 0;
    for (uint64_t i = 0; i < KEYS; i++) {
        items[i].key = key_of(i);
        items[i].index.hash = hash_of(&items[i].key);
        double start = now_ns(CLOCK_THREAD_CPUTIME_ID);
        CHECK(index_insert(index_made, &items[i].index) == RESULT_OK);
        double took = now_ns(CLOCK_THREAD_CPUTIME_ID) - start;
        longest_ns = took > longest_ns ? took : longest_ns;
    }
    while (index_work(index_made, 1024)) {
    }
    return longest_ns;
}

static void fill_theirs(struct other_item *items)
{
    urcu_qsbr_register_thread();
    for (uint64_t i = 0; i < KEYS; i++) {
        items[i].key = key_of(i);
        cds_lfht_node_init(&items[i].node);
        cds_lfht_add(other, hash_of(&items[i].key), &items[i].node);
    }
    urcu_qsbr_unregister_thread();
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const double *values, unsigned count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, count * sizeof(values[0]));
    qsort(sorted, count, sizeof(sorted[0]), by_size);
    return sorted[count / 2];
}

/* ---- the table that is printed */

static double ns[CONTENDERS][LOADS][THREADS_MAX][ROUNDS_MAX];

static double median_ratio(const double *values, const double *bases, unsigned rounds)
{
    double ratios[ROUNDS_MAX];
    for (unsigned i = 0; i < rounds; i++) {
        ratios[i] = values[i] / bases[i];
    }
    return median(ratios, rounds);
}

static void print_table(unsigned rounds)
{
    printf("%-10s %-15s %10s %10s %12s %12s\n", "load", "contender", "1 thread", "2 threads", "x cds_lfht",
           "x throughput");
    for (unsigned load = 0; load < LOADS; load++) {
        for (unsigned contender = 0; contender < CONTENDERS; contender++) {
            double *one = ns[contender][load][0];
            double *two = ns[contender][load][1];
            printf("%-10s %-15s %7.1f ns %7.1f ns %12.2f %12.2f\n", load_names[load], contender_names[contender],
                   median(one, rounds), median(two, rounds), median_ratio(one, ns[THEIRS][load][0], rounds),
                   2 * median_ratio(one, two, rounds));
        }
    }
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 9;
    uint64_t lookups = argc > 2 ? strtoull(argv[2], NULL, 10) / TURN * TURN : 2000000 / TURN * TURN;
    if (rounds < 1 || rounds > ROUNDS_MAX || lookups < TURN) {
        fprintf(stderr, "usage: index_lookup [ROUNDS [LOOKUPS]]\n");
        return 2;
    }
    qsbr = qsbr_create(THREADS_MAX);
    CHECK(qsbr != NULL);
    index_made = index_create(qsbr);
    other = cds_lfht_new_flavor(KEYS, KEYS, 0, 0, &urcu_qsbr_flavor, NULL);
    struct item *items = calloc(KEYS, sizeof(*items));
    struct other_item *other_items = calloc(KEYS, sizeof(*other_items));
    CHECK(index_made != NULL && other != NULL && items != NULL && other_items != NULL);
    double longest_ns = fill_ours(items);
    fill_theirs(other_items);
    double waited[ROUNDS_MAX];
    for (unsigned round = 0; round < rounds; round++) {
        waited[round] = 0;
        for (unsigned at = 0; at < CONTENDERS * LOADS * THREADS_MAX; at++) {
            enum contender contender = (enum contender)((at + round) % CONTENDERS);
            enum load load = (enum load)(at / CONTENDERS % LOADS);
            unsigned threads = 1 + at / (CONTENDERS * LOADS);
            struct measured measured = measure(contender, load, threads, lookups, round + 1);
            ns[contender][load][threads - 1][round] = measured.ns;
            waited[round] += measured.waited / (CONTENDERS * LOADS * THREADS_MAX);
        }
    }
    print_table(rounds);
    printf("%u rounds of %llu lookups; waited %.1f %%; index %.1f MB, its longest insert %.0f us\n", rounds,
           (unsigned long long)lookups, 100 * median(waited, rounds), (double)index_bytes(index_made) / 1e6,
           longest_ns / 1e3);
    index_destroy(index_made);
    qsbr_destroy(qsbr);
    free(items);
    free(other_items); /* the table of the others goes with the process */
    return 0;
}
