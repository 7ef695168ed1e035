/* Workers whose requests pass the same gates: some at once on credit, some in the queue, some shed, some whose client
 * leaves at the worst moment. At no time are more let through than the limit, and in the end every grant has been
 * released. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/counter.h"
#include "loop.h"
#include "proxy/gate.h"

enum { WORKERS = 3, CLIENTS = 40, ROUNDS = 150, LIMIT = 10, GATES = 4 };

static _Atomic uint32_t in_flight[GATES];
static _Atomic uint32_t most[GATES];
static _Atomic unsigned workers_done;
static pthread_barrier_t all_stopped;

struct client {
    struct worker *worker;
    struct gate_pass pass;
    struct ring_timer timer;
    unsigned rounds;
    unsigned gate;
    bool has_grant;
    bool is_under_way;
};

struct worker {
    struct ring *ring;
    struct ring_group *group;
    struct gates gates;
    struct gates *const *peers;
    const struct gate_options *options;
    unsigned index;
    unsigned active;
    bool is_done;
    uint64_t random;
    unsigned granted_at_once, granted_later, shed, left_waiting;
    struct ring_timer timer;
    struct client clients[CLIENTS];
};

static unsigned random_below(struct worker *worker, unsigned bound)
{
    worker->random = worker->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(worker->random >> 33) % bound;
}

static void wait_for(struct client *client, unsigned ms)
{
    ring_timer_set(client->worker->ring, &client->timer, ring_now(client->worker->ring) + ms * NANOS_PER_MS);
}

static void on_granted(struct client *client)
{
    uint32_t now = atomic_fetch_add(&in_flight[client->gate], 1) + 1;
    CHECK(now <= LIMIT);
    uint32_t before = atomic_load(&most[client->gate]);
    while (now > before && !atomic_compare_exchange_weak(&most[client->gate], &before, now)) {
    }
    client->has_grant = true;
    wait_for(client, random_below(client->worker, 4));
}

static void leave(struct client *client)
{
    struct worker *worker = client->worker;
    if (client->has_grant) {
        if (client->pass.request.is_streamed && random_below(worker, 4) > 0) {
            gate_on_first_token(&client->pass, ring_now(worker->ring));
            gate_on_tokens(&client->pass, random_below(worker, 40));
        }
        client->pass.outcome.is_canceled = random_below(worker, 8) == 0;
        client->has_grant = false;
        atomic_fetch_sub(&in_flight[client->gate], 1);
    } else {
        worker->left_waiting += client->pass.state == GATE_WAITING;
    }
    gate_leave(&client->pass);
    gate_pass_fini(&client->pass);
    client->is_under_way = false;
    /* Every so often a long silence, in which what is lent grows old or is taken back. */
    wait_for(client, random_below(worker, 30) == 0 ? 30 : random_below(worker, 3));
}

static void on_decided(struct gate_pass *pass)
{
    struct client *client = CONTAINER_OF(pass, struct client, pass);
    ring_timer_cancel(client->worker->ring, &client->timer);
    if (pass->state == GATE_HELD) {
        client->worker->granted_later++;
        on_granted(client);
    } else {
        CHECK(pass->shed != SCHED_SHED_NONE);
        client->worker->shed++;
        leave(client);
    }
}

static void begin(struct client *client)
{
    static const struct bytes models[GATES] = {{"", 0}, {"one", 3}, {"other", 5}, {"third", 5}};
    struct worker *worker = client->worker;
    client->gate = random_below(worker, GATES);
    struct gate *gate =
        client->gate == 0 ? gates_plain(&worker->gates, 0) : gates_model(&worker->gates, 0, models[client->gate], true);
    CHECK(gate != NULL);
    client->is_under_way = true;
    gate_pass_init(&client->pass, gate);
    client->pass.on_decided = on_decided;
    struct sched_request *request = &client->pass.request;
    nanos now = ring_now(worker->ring);
    request->class = (uint8_t)random_below(worker, SCHED_CLASSES);
    request->tenant = 1 + random_below(worker, 5);
    request->is_streamed = client->gate > 1;
    request->arrived_ns = now;
    request->deadline_ns = random_below(worker, 3) == 0 ? now + 2 * NANOS_PER_MS : NANOS_NEVER;
    request->cost = (struct sched_cost){.prompt_tokens = 1 + random_below(worker, 300), .output_tokens = 20};
    client->pass.is_now_or_never = random_below(worker, 10) == 0;
    switch (gate_enter(&client->pass)) {
    case GATE_GRANTED:
        worker->granted_at_once++;
        on_granted(client);
        break;
    case GATE_QUEUED:
        wait_for(client, random_below(worker, 3) == 0 ? 0 : 6);
        break; /* and leaves then, if it is still waiting */
    case GATE_SHED:
        worker->shed++;
        leave(client);
        break;
    }
}

static void on_client_timer(struct ring_timer *timer)
{
    struct client *client = CONTAINER_OF(timer, struct client, timer);
    if (client->is_under_way) {
        leave(client);
    } else if (client->rounds-- > 0) {
        begin(client);
    } else {
        client->worker->active--;
    }
}

/* Whether it, and then all, are done. */
static void on_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, timer);
    if (!worker->is_done && worker->active == 0 && gates_are_settled(&worker->gates)) {
        worker->is_done = true;
        atomic_fetch_add(&workers_done, 1);
    }
    if (atomic_load(&workers_done) == WORKERS) {
        ring_stop(worker->ring);
        return;
    }
    ring_timer_set(worker->ring, timer, ring_now(worker->ring) + NANOS_PER_MS);
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .group = worker->group, .index = worker->index};
    worker->ring = loop_create(&options);
    CHECK(gates_init(&worker->gates, &(struct gates_options){.ring = worker->ring,
                                                             .index = worker->index,
                                                             .count = WORKERS,
                                                             .peers = worker->peers,
                                                             .options = worker->options,
                                                             .upstream_count = 1}) == RESULT_OK);
    pthread_barrier_wait(&all_stopped); /* all have been made */
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct client *client = &worker->clients[i];
        client->worker = worker;
        client->rounds = ROUNDS;
        ring_timer_init(&client->timer, on_client_timer);
        wait_for(client, random_below(worker, 10));
    }
    worker->active = CLIENTS;
    ring_timer_init(&worker->timer, on_timer);
    ring_timer_set(worker->ring, &worker->timer, ring_now(worker->ring));
    ring_run(worker->ring);
    gates_close(&worker->gates);
    pthread_barrier_wait(&all_stopped);
    CHECK(counter_load(&worker->gates.outstanding) == 0);
    gates_fini(&worker->gates);
    ring_destroy(worker->ring);
    return NULL;
}

int main(void)
{
    ring_destroy(loop_create(NULL)); /* ends the program where there is no io_uring */
    alarm(120);
    const struct admission_options admission = {
        .limiter = {.kind = LIMITER_FIXED, .initial = LIMIT, .min = 1, .max = LIMIT, .endpoints = 1},
        .queue = {.requests_max = 20,
                  .tenants_max = 16,
                  .tenant_share_percent = 50,
                  .small_tokens_max = 200,
                  .input_weight = 1000,
                  .output_weight = 1000,
                  .lifo_lowest = true,
                  .aged_share_percent = 5,
                  .aged_after_ns = NANOS_PER_MS},
        .holdback_percent = 0, /* upper classes may go beyond the limit by it */
        .endpoint_count = 1,
    };
    struct gate_options options = {.is_enabled = true, .model = admission, .plain = admission};
    options.plain.is_plain = true;
    struct worker *workers = calloc(WORKERS, sizeof(*workers));
    struct gates *peers[WORKERS];
    pthread_t threads[WORKERS];
    struct ring_group *group = ring_group_create(WORKERS);
    CHECK(workers != NULL && group != NULL);
    CHECK(pthread_barrier_init(&all_stopped, NULL, WORKERS) == 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        peers[i] = &workers[i].gates;
        workers[i].group = group;
        workers[i].index = i;
        workers[i].peers = peers;
        workers[i].options = &options;
        workers[i].random = i + 1;
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        printf("worker %u: %u granted at once, %u later, %u shed, %u left while they waited\n", i,
               workers[i].granted_at_once, workers[i].granted_later, workers[i].shed, workers[i].left_waiting);
    }
    for (unsigned i = 0; i < GATES; i++) {
        printf("gate %u: at most %u of %u in flight\n", i, atomic_load(&most[i]), (unsigned)LIMIT);
        CHECK(atomic_load(&in_flight[i]) == 0);
    }
    ring_group_destroy(group);
    free(workers);
    return 0;
}
