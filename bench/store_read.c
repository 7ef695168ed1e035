/* How long a worker waits for a record of the store's cache tier, while others are written: from cache_tier_get to
 * on_done on the loop, the file's pages in memory.
 *
 *   store_read [SECONDS [GETS_PER_SECOND [PUTS_PER_SECOND [FOLDER]]]]
 *
 * 10,000 records of 1 to 64 KB (log-uniform); gets arrive evenly in time, whatever the store does (open loop), of keys
 * drawn evenly. How long the call itself keeps the worker is printed too. Exit 1 when the p99 is above a millisecond.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/histogram.h"
#include "base/log.h"
#include "ring/ring.h"
#include "store/cache_tier.h"

enum { RECORDS = 10000, BODY_BYTES_MIN = 1 << 10, BODY_BYTES_MAX = 64 << 10, KEY_BYTES = 32, PATH_BYTES = 256 };

struct bench {
    struct ring *ring;
    struct store *store;
    struct ring_timer timer;
    struct histogram waits;
    struct histogram calls; /* how long cache_tier_get keeps the worker */
    double gets_per_ns, puts_per_ns;
    nanos start_ns, end_ns;
    uint64_t gets, puts, failed, waiting, bytes;
    unsigned filled;
    bool is_measuring;
};

struct asking {
    struct cache_tier_get get;
    struct bench *bench;
    nanos asked_ns;
    char key[KEY_BYTES];
};

static nanos clock_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (nanos)now.tv_sec * NANOS_PER_S + (nanos)now.tv_nsec;
}

static struct bytes key_of(unsigned number, char *out)
{
    snprintf(out, KEY_BYTES, "record %u", number);
    return bytes_from(out);
}

static void put(struct bench *bench, unsigned number)
{
    char key[KEY_BYTES];
    double share = (double)ring_random(bench->ring) / (double)UINT64_MAX;
    struct cache_tier_record draft = {.key = key_of(number, key), .route = BYTES("bench"), .cost = 1};
    draft.remove_at_ms = INT64_MAX;
    draft.body.len = (size_t)(BODY_BYTES_MIN * pow((double)BODY_BYTES_MAX / BODY_BYTES_MIN, share));
    struct cache_tier_record *record = cache_tier_record_create(&draft);
    CHECK(record != NULL);
    memset(cache_tier_record_bytes(record->body), (int)number, record->body.len);
    cache_tier_put(bench->store, record);
}

static void on_done(struct ring *ring, struct cache_tier_get *get)
{
    struct asking *asking = CONTAINER_OF(get, struct asking, get);
    struct bench *bench = asking->bench;
    (void)ring;
    histogram_add(&bench->waits, clock_now() - asking->asked_ns);
    bench->failed += get->outcome != CACHE_TIER_FOUND;
    bench->bytes += get->record == NULL ? 0 : get->record->body.len;
    bench->waiting--;
    free(get->record);
    free(asking);
}

static void ask(struct bench *bench)
{
    struct asking *asking = malloc(sizeof(*asking));
    CHECK(asking != NULL);
    *asking = (struct asking){.bench = bench, .asked_ns = clock_now()};
    struct bytes key = key_of((unsigned)(ring_random(bench->ring) % RECORDS), asking->key);
    asking->get = (struct cache_tier_get){.key = key, .now_ms = 1, .on_done = on_done};
    if (cache_tier_get(bench->store, 0, &asking->get) == RESULT_OK) {
        bench->waiting++;
        histogram_add(&bench->calls, clock_now() - asking->asked_ns);
    } else {
        bench->failed++;
        free(asking);
    }
}

static void fill(struct bench *bench)
{
    const struct store_counters *counters = store_counters(bench->store);
    while (bench->filled < RECORDS && atomic_load(&counters->queued_writes) < 1000) {
        put(bench, bench->filled++);
    }
    if (atomic_load(&counters->puts) == RECORDS) {
        bench->is_measuring = true;
        bench->start_ns = clock_now();
    }
}

static void on_timer(struct ring_timer *timer)
{
    struct bench *bench = CONTAINER_OF(timer, struct bench, timer);
    nanos now = clock_now();
    if (!bench->is_measuring) {
        fill(bench);
    } else if (now < bench->start_ns + bench->end_ns) {
        double since = (double)(now - bench->start_ns);
        for (; (double)bench->gets < since * bench->gets_per_ns; bench->gets++) {
            ask(bench);
        }
        for (; (double)bench->puts < since * bench->puts_per_ns; bench->puts++) {
            put(bench, (unsigned)(ring_random(bench->ring) % RECORDS));
        }
    } else if (bench->waiting == 0) {
        ring_stop(bench->ring);
        return;
    }
    ring_timer_set(bench->ring, timer, ring_now(bench->ring) + NANOS_PER_MS);
}

static double us(const struct histogram *histogram, double quantile)
{
    return (double)histogram_quantile(histogram, quantile) / 1000;
}

static void report(const struct bench *bench)
{
    const struct store_counters *counters = store_counters(bench->store);
    printf("%-34s %10s %10s %10s\n", "microseconds", "p50", "p99", "p99.9");
    printf("%-34s %10.1f %10.1f %10.1f\n", "get, from call to on_done", us(&bench->waits, 0.5), us(&bench->waits, 0.99),
           us(&bench->waits, 0.999));
    printf("%-34s %10.1f %10.1f %10.1f\n", "get, the call itself", us(&bench->calls, 0.5), us(&bench->calls, 0.99),
           us(&bench->calls, 0.999));
    printf("%" PRIu64 " gets (%" PRIu64 " not found), %.0f MB; %" PRIu64 " puts in %" PRIu64 " batches, %" PRIu64
           " dropped; %.0f MB kept\n",
           bench->gets, bench->failed, (double)bench->bytes / 1e6, bench->puts, atomic_load(&counters->batches),
           atomic_load(&counters->puts_dropped), (double)atomic_load(&counters->bytes) / 1e6);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        puts("store_read [SECONDS [GETS_PER_SECOND [PUTS_PER_SECOND [FOLDER]]]]: 5, 2000, 200, /tmp");
        return 0;
    }
    double seconds = argc > 1 ? atof(argv[1]) : 5, gets = argc > 2 ? atof(argv[2]) : 2000;
    double writes = argc > 3 ? atof(argv[3]) : 200;
    char folder[PATH_BYTES], path[PATH_BYTES + 16], command[PATH_BYTES + 16];
    snprintf(folder, sizeof(folder), "%s/sluice-bench-XXXXXX", argc > 4 ? argv[4] : "/tmp");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof(path), "%s/cache.db", folder);
    log_level_set(LOG_WARN);

    static struct bench bench;
    struct ring_group *group = ring_group_create(1);
    CHECK(group != NULL);
    struct ring_options options = {.cpu = -1, .group = group};
    struct store_options store_options = {.path = path};
    CHECK(ring_create(&options, &bench.ring) == RESULT_OK);
    CHECK(store_open(&store_options, group, &bench.store) == RESULT_OK);
    bench.gets_per_ns = gets / (double)NANOS_PER_S;
    bench.puts_per_ns = writes / (double)NANOS_PER_S;
    bench.end_ns = (nanos)(seconds * (double)NANOS_PER_S);
    ring_timer_init(&bench.timer, on_timer);
    ring_timer_set(bench.ring, &bench.timer, ring_now(bench.ring));
    ring_run(bench.ring);
    report(&bench);

    store_close(bench.store);
    ring_destroy(bench.ring);
    ring_group_destroy(group);
    snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    return system(command) == 0 && us(&bench.waits, 0.99) <= 1000 ? 0 : 1;
}
