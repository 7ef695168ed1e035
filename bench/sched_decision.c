/* What a decision of the scheduler costs: a request's whole way through src/sched, without everything around it.
 *
 *   sched_decision [--rounds N] [--requests N] [--case NAME] [--json FILE]
 *
 * Cases take turns within a round; what is printed is the median of the rounds, in CPU time of the thread. Time itself
 * is virtual: 100 µs pass from one request to the next, and the admission is called as often as it asks to be.
 *
 *   at once     nothing waits: submit, grant, release; of streams the first token, too
 *   lent        the same on a slot that is at hand (lease_take, lease_give_back), and with the owner being told of it
 *   queued      so many wait, of so many tenants: submit, queue, grant, first token, release
 *
 * Reach: at most 300 ns for what is decided at once. Exits 1 when it misses it. Instructions are counted by
 *
 *   valgrind --tool=callgrind --toggle-collect=serve --callgrind-out-file=OUT \
 *       build/release/bench/sched_decision --rounds 1 --requests 1000 --case NAME */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "bench.h"
#include "sched/lease.h"

enum {
    ROUNDS_MAX = 101,
    WAITING_MAX = 1000,
    IN_FLIGHT = 32,
    REQUESTS = WAITING_MAX + IN_FLIGHT + 1,
    TENANTS_MAX = 100
};

#define STEP_NS      (100 * NANOS_PER_US)
#define LOCAL_NS_MAX 300

enum kind { AT_ONCE, LENT, LENT_TOLD, QUEUED };

struct scene {
    const char *name;
    enum kind kind;
    bool is_streamed;
    unsigned in_flight; /* others, all the time */
    unsigned waiting;
    unsigned tenants;
    double most_ns; /* 0: no aim */
};

static const struct scene scenes[] = {
    {"at-once", AT_ONCE, false, 0, 0, 1, LOCAL_NS_MAX},
    {"at-once-100-tenants", AT_ONCE, false, 0, 0, 100, LOCAL_NS_MAX},
    {"at-once-16-in-flight", AT_ONCE, false, 16, 0, 10, LOCAL_NS_MAX},
    {"at-once-stream", AT_ONCE, true, 0, 0, 1, 0},
    {"at-once-stream-16-in-flight", AT_ONCE, true, 16, 0, 10, 0},
    {"lent", LENT, false, 0, 0, 1, LOCAL_NS_MAX},
    {"lent-told", LENT_TOLD, false, 0, 0, 10, LOCAL_NS_MAX},
    {"queued-10-of-1", QUEUED, true, IN_FLIGHT, 10, 1, 0},
    {"queued-10-of-10", QUEUED, true, IN_FLIGHT, 10, 10, 0},
    {"queued-100-of-1", QUEUED, true, IN_FLIGHT, 100, 1, 0},
    {"queued-100-of-10", QUEUED, true, IN_FLIGHT, 100, 10, 0},
    {"queued-100-of-100", QUEUED, true, IN_FLIGHT, 100, 100, 0},
    {"queued-1000-of-1", QUEUED, true, IN_FLIGHT, 1000, 1, 0},
    {"queued-1000-of-10", QUEUED, true, IN_FLIGHT, 1000, 10, 0},
    {"queued-1000-of-100", QUEUED, true, IN_FLIGHT, 1000, 100, 0},
};
enum { SCENES = ARRAY_COUNT(scenes) };

/* ---- one scene's world ---- */

struct world {
    const struct scene *scene;
    struct admission *admission;
    struct lease *lease;
    nanos now;
    uint64_t random;
    struct sched_request requests[REQUESTS];
    struct sched_request *granted[REQUESTS]; /* a ring, the oldest first */
    uint64_t granted_head, granted_tail;
    unsigned shed;
};

static void on_grant(void *context, struct sched_request *request)
{
    struct world *world = context;
    world->granted[world->granted_tail++ % REQUESTS] = request;
}

static void on_shed(void *context, struct sched_request *request, enum sched_shed shed, nanos retry_after_ns)
{
    (void)request;
    (void)shed;
    (void)retry_after_ns;
    ((struct world *)context)->shed++;
}

static const struct admission_events events = {.on_grant = on_grant, .on_shed = on_shed};

static const struct admission_outcome good = {
    .has_usage = true,
    .usage = {.prompt_tokens = 100, .output_tokens = 50},
};

static uint64_t draw(struct world *world, uint64_t below)
{
    world->random = world->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (world->random >> 33) % below;
}

static void fill_in(struct world *world, struct sched_request *request)
{
    *request = (struct sched_request){
        .class = SCHED_CLASS_DEFAULT,
        .is_streamed = world->scene->is_streamed,
        .tenant = 1 + draw(world, world->scene->tenants),
        .arrived_ns = world->now,
        .deadline_ns = world->now + 60 * NANOS_PER_S + draw(world, NANOS_PER_S),
        .body_bytes = 1000,
        .cost = {.prompt_tokens = 50 + (uint32_t)draw(world, 100), .output_tokens = 50},
    };
}

static void pass(struct world *world)
{
    world->now += STEP_NS;
    if (admission_next_ns(world->admission) <= world->now) {
        admission_advance(world->admission, world->now);
    }
}

static void submit(struct world *world, struct sched_request *request)
{
    fill_in(world, request);
    if (admission_submit(world->admission, world->now, request)) {
        on_grant(world, request);
    }
}

/* The limit stays where it is, though all of what moves it is at work. */
static void begin(struct world *world, const struct scene *scene)
{
    const struct admission_options options = {
        .limiter = {.kind = LIMITER_EXCESS,
                    .initial = IN_FLIGHT,
                    .min = IN_FLIGHT,
                    .max = IN_FLIGHT,
                    .slo_first_ns = 3 * NANOS_PER_S,
                    .slo_token_ns = 50 * NANOS_PER_MS,
                    .endpoints = 1,
                    .time_scale_milli = 1000},
        .queue = {.requests_max = 4096,
                  .tokens_max = 64 << 20,
                  .bytes_max = 64 << 20,
                  .tenants_max = 1024,
                  .tenant_share_percent = 50,
                  .aged_share_percent = 5,
                  .aged_after_ns = 5 * NANOS_PER_S,
                  .small_tokens_max = 1024,
                  .input_weight = 1000,
                  .output_weight = 2000},
        .holdback_percent = 5,
        .endpoint_count = 1,
    };
    *world = (struct world){.scene = scene, .now = NANOS_PER_S};
    world->admission = admission_create(&options, &events, world, world->now);
    CHECK(world->admission != NULL);
    if (scene->kind == LENT || scene->kind == LENT_TOLD) {
        world->lease = aligned_alloc(LEASE_LINE, sizeof(*world->lease));
        CHECK(world->lease != NULL);
        lease_init(world->lease);
        lease_lend(world->lease, 8);
        admission_set_lent(world->admission, 8, 0);
    }
    for (unsigned i = 0; i < scene->in_flight + scene->waiting; i++) {
        submit(world, &world->requests[i]);
    }
    for (uint64_t i = 0; i < world->granted_tail; i++) {
        admission_on_first_token(world->admission, world->now, world->now, world->granted[i]);
    }
}

static void end(struct world *world)
{
    CHECK(world->shed == 0);
    for (unsigned i = 0; i < REQUESTS; i++) {
        admission_cancel(world->admission, world->now, &world->requests[i]);
    }
    for (unsigned i = 0; i < REQUESTS; i++) { /* those who were let in by it */
        admission_cancel(world->admission, world->now, &world->requests[i]);
    }
    admission_destroy(world->admission);
    free(world->lease);
}

/* ---- requests ---- */

static void serve_at_once(struct world *world, struct sched_request *request)
{
    fill_in(world, request);
    bool is_granted = admission_submit(world->admission, world->now, request);
    CHECK(is_granted);
    pass(world);
    if (request->is_streamed) {
        admission_on_first_token(world->admission, world->now, world->now, request);
    }
    admission_release(world->admission, world->now, request, &good);
}

static void serve_lent(struct world *world, struct sched_request *request)
{
    fill_in(world, request);
    bool is_taken = lease_take(world->lease);
    CHECK(is_taken);
    request->granted_ns = world->now;
    pass(world);
    bool is_to_be_told = lease_give_back(world->lease);
    CHECK(!is_to_be_told);
}

static void serve_lent_told(struct world *world, struct sched_request *request)
{
    serve_lent(world, request);
    const struct lease_event ended = {
        .kind = LEASE_ENDED,
        .at_ns = world->now,
        .outcome = good,
        .lent = {.tenant = request->tenant,
                 .class = request->class,
                 .cost = request->cost,
                 .arrived_ns = request->arrived_ns,
                 .granted_ns = request->granted_ns,
                 .ended_ns = world->now,
                 .count = 1},
    };
    struct lease_event event;
    bool has_come = lease_push(world->lease, &ended) && lease_pop(world->lease, &event);
    CHECK(has_come);
    admission_on_lent_end(world->admission, world->now, &event.lent, &event.outcome);
}

/* The oldest ends, which lets one in that waits; its first token comes, and another is queued. */
static void serve_queued(struct world *world)
{
    struct sched_request *oldest = world->granted[world->granted_head++ % REQUESTS];
    admission_release(world->admission, world->now, oldest, &good);
    CHECK(world->granted_tail - world->granted_head == IN_FLIGHT);
    pass(world);
    struct sched_request *newest = world->granted[(world->granted_tail - 1) % REQUESTS];
    admission_on_first_token(world->admission, world->now, world->now, newest);
    fill_in(world, oldest);
    bool is_granted = admission_submit(world->admission, world->now, oldest);
    CHECK(!is_granted);
}

static __attribute__((noinline)) void serve(struct world *world, unsigned requests)
{
    struct sched_request *request = &world->requests[REQUESTS - 1];
    for (unsigned i = 0; i < requests; i++) {
        switch (world->scene->kind) {
        case AT_ONCE: serve_at_once(world, request); break;
        case LENT: serve_lent(world, request); break;
        case LENT_TOLD: serve_lent_told(world, request); break;
        case QUEUED: serve_queued(world); break;
        }
    }
}

/* ---- figures ---- */

static double cpu_ns(void)
{
    struct timespec at;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &at);
    return (double)at.tv_sec * 1e9 + (double)at.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double measure(const struct scene *scene, unsigned requests)
{
    static struct world world;
    begin(&world, scene);
    double began = cpu_ns();
    serve(&world, requests);
    double took = cpu_ns() - began;
    end(&world);
    return took / requests;
}

static bool report(const struct scene *scene, double *took, unsigned rounds, FILE *json, bool is_first)
{
    qsort(took, rounds, sizeof(took[0]), by_size);
    double median = took[rounds / 2];
    bool is_reached = scene->most_ns == 0 || median <= scene->most_ns;
    printf("%-28s %9u %8u %10u %9.0f ns %9.0f ns  %s\n", scene->name, scene->waiting, scene->tenants, scene->in_flight,
           median, took[0],
           scene->most_ns == 0 ? ""
           : is_reached        ? "ok"
                               : "MISSED");
    fprintf(json,
            "%s\n  {\"case\": \"%s\", \"waiting\": %u, \"tenants\": %u, \"in_flight\": %u, \"median_ns\": %.1f, "
            "\"least_ns\": %.1f}",
            is_first ? "" : ",", scene->name, scene->waiting, scene->tenants, scene->in_flight, median, took[0]);
    return is_reached;
}

int main(int argc, char **argv)
{
    static double took[SCENES][ROUNDS_MAX];
    long rounds = 9;
    long requests = 50000;
    const char *only = NULL;
    const char *json_path = "/dev/null";
    bench_options_parse(argc, argv,
                        (struct bench_option[]){{"--rounds", "turns of each case (9)", &rounds, NULL},
                                                {"--requests", "in a turn (50000)", &requests, NULL},
                                                {"--case", "only this one", NULL, &only},
                                                {"--json", "write the figures there", NULL, &json_path},
                                                {NULL, NULL, NULL, NULL}});
    if (rounds < 1 || rounds > ROUNDS_MAX || requests < 1 || requests > 1000000000) {
        bench_die("from 1 to %d rounds, of 1 to 1,000,000,000 requests", ROUNDS_MAX);
    }
    FILE *json = fopen(json_path, "w");
    if (json == NULL) {
        bench_die("%s: %s", json_path, strerror(errno));
    }
    for (unsigned round = 0; round < rounds; round++) {
        for (unsigned i = 0; i < SCENES; i++) {
            const struct scene *scene = &scenes[(i + round) % SCENES];
            if (only == NULL || strcmp(only, scene->name) == 0) {
                took[scene - scenes][round] = measure(scene, (unsigned)requests);
            }
        }
    }
    bool is_reached = true;
    bool is_first = true;
    printf("%-28s %9s %8s %10s %12s %12s\n", "case", "waiting", "tenants", "in flight", "median", "least");
    fprintf(json, "{\"rounds\": %ld, \"requests\": %ld, \"cases\": [", rounds, requests);
    for (unsigned i = 0; i < SCENES; i++) {
        if (only == NULL || strcmp(only, scenes[i].name) == 0) {
            is_reached &= report(&scenes[i], took[i], (unsigned)rounds, json, is_first);
            is_first = false;
        }
    }
    fprintf(json, "\n]}\n");
    if (fclose(json) != 0) {
        bench_die("%s: %s", json_path, strerror(errno));
    }
    return is_reached ? 0 : 1;
}
