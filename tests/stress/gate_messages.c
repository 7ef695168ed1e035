/* What a request of another worker's costs in messages: two workers, of which the first owns the gate and the second
 * asks. While there is a backlog at most three (the question, the grant, the release), fewer where one message tells of
 * several; without one none at all. Printed is what was counted. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/counter.h"
#include "loop.h"
#include "proxy/gate.h"

enum { WORKERS = 2, OWNER = 0, ASKER = 1, CLIENTS_MAX = 64, WARM_UP = 200, MEASURED = 2000, TOKENS = 20 };

struct scene {
    const char *name;
    bool is_model; /* streams of a model; else whole answers of a plain service */
    unsigned limit;
    unsigned clients[WORKERS];
    double messages_max; /* for each of the asker's requests */
    double wakes_max;
};

/* A worker that sleeps has to be woken, so that with one client alone each message is a wake; with many it is one for
 * two requests, and up to one where everything is slower (sanitizers). */
static const struct scene scenes[] = {
    {"backlog, one client", false, 1, {1, 1}, 3.05, 3.05},   {"backlog, many clients", false, 4, {16, 32}, 3.05, 1.5},
    {"backlog, many streams", true, 4, {16, 32}, 3.05, 1.5}, {"no backlog", false, 64, {0, 8}, 0.02, 0.02},
    {"no backlog, streams", true, 64, {0, 8}, 0.02, 0.02},
};

struct counts {
    uint64_t messages, wakes;
};

struct worker;

struct client {
    struct worker *worker;
    struct gate_pass pass;
    struct ring_timer timer;
    unsigned steps; /* of its answer, that are still to come */
};

struct worker {
    const struct scene *scene;
    struct ring *ring;
    struct ring_group *group;
    struct gates gates;
    struct worker *workers;
    struct gates *const *peers;
    const struct gate_options *options;
    struct bytes model;
    unsigned index;
    unsigned active;
    uint64_t served;
    struct counts before, after;
    struct ring_timer timer;
    struct client clients[CLIENTS_MAX];
};

static pthread_barrier_t barrier;
static _Atomic bool is_measured;
static _Atomic unsigned workers_done;

static struct counts count(const struct worker *workers)
{
    struct counts counts = {0};
    for (unsigned i = 0; i < WORKERS; i++) {
        const struct ring_counters *counters = ring_counters(workers[i].ring);
        counts.messages += counter_load(&counters->messages);
        counts.wakes += counter_load(&counters->wakes);
    }
    return counts;
}

static void wait_for(struct client *client, nanos length)
{
    ring_timer_set(client->worker->ring, &client->timer, ring_now(client->worker->ring) + length);
}

static void on_granted(struct client *client)
{
    client->steps = client->worker->scene->is_model ? 2 : 1;
    wait_for(client, 2 * NANOS_PER_MS);
}

static void on_decided(struct gate_pass *pass)
{
    CHECK(pass->state == GATE_HELD);
    on_granted(CONTAINER_OF(pass, struct client, pass));
}

static void begin(struct client *client)
{
    struct worker *worker = client->worker;
    struct gate *gate =
        worker->scene->is_model ? gates_model(&worker->gates, 0, worker->model, true) : gates_plain(&worker->gates, 0);
    CHECK(gate != NULL);
    gate_pass_init(&client->pass, gate);
    client->pass.on_decided = on_decided;
    client->pass.request.tenant = 1;
    client->pass.request.is_streamed = worker->scene->is_model;
    client->pass.request.arrived_ns = ring_now(worker->ring);
    client->pass.request.cost = (struct sched_cost){.prompt_tokens = 10, .output_tokens = TOKENS};
    enum gate_answer answer = gate_enter(&client->pass);
    CHECK(answer != GATE_SHED);
    if (answer == GATE_GRANTED) {
        on_granted(client);
    }
}

static void note_served(struct worker *worker)
{
    worker->served++;
    if (worker->index != ASKER) {
        return;
    }
    if (worker->served == WARM_UP) {
        worker->before = count(worker->workers);
    } else if (worker->served == WARM_UP + MEASURED) {
        worker->after = count(worker->workers);
        atomic_store(&is_measured, true);
    }
}

/* The next step of its answer, or its end, and the next request. */
static void on_client_timer(struct ring_timer *timer)
{
    struct client *client = CONTAINER_OF(timer, struct client, timer);
    if (client->steps > 1) {
        gate_on_first_token(&client->pass, ring_now(client->worker->ring));
        gate_on_tokens(&client->pass, TOKENS - 1);
        client->steps--;
        wait_for(client, NANOS_PER_MS);
        return;
    }
    if (client->steps == 1) {
        gate_leave(&client->pass);
        gate_pass_fini(&client->pass);
        client->steps = 0;
        note_served(client->worker);
    }
    if (atomic_load(&is_measured)) {
        client->worker->active--;
        return;
    }
    begin(client);
}

static void on_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, timer);
    if (worker->active == 0 && gates_are_settled(&worker->gates)) {
        worker->active = UINT32_MAX;
        atomic_fetch_add(&workers_done, 1);
    }
    if (atomic_load(&workers_done) == WORKERS) {
        ring_stop(worker->ring);
        return;
    }
    ring_timer_set(worker->ring, timer, ring_now(worker->ring) + 50 * NANOS_PER_MS);
}

static void *worker_main(void *context)
{
    struct worker *worker = context;
    worker->ring = loop_create(
        &(struct ring_options){.cpu = -1, .receive_buffers = 8, .group = worker->group, .index = worker->index});
    CHECK(gates_init(&worker->gates, &(struct gates_options){.ring = worker->ring,
                                                             .index = worker->index,
                                                             .count = WORKERS,
                                                             .peers = worker->peers,
                                                             .options = worker->options,
                                                             .upstream_count = 1}) == RESULT_OK);
    pthread_barrier_wait(&barrier); /* all have been made */
    worker->active = worker->scene->clients[worker->index];
    for (unsigned i = 0; i < worker->active; i++) {
        worker->clients[i].worker = worker;
        ring_timer_init(&worker->clients[i].timer, on_client_timer);
        wait_for(&worker->clients[i], i * NANOS_PER_MS / 8);
    }
    ring_timer_init(&worker->timer, on_timer);
    ring_timer_set(worker->ring, &worker->timer, ring_now(worker->ring));
    ring_run(worker->ring);
    gates_close(&worker->gates);
    pthread_barrier_wait(&barrier); /* nobody looks at another's any more */
    gates_fini(&worker->gates);
    ring_destroy(worker->ring);
    return NULL;
}

/* A name that the first worker owns: names are tried until it does. */
static struct bytes model_of_owner(const struct gate_options *options)
{
    static char name[16];
    struct ring_group *group = ring_group_create(WORKERS);
    CHECK(group != NULL);
    struct ring *ring =
        loop_create(&(struct ring_options){.cpu = -1, .receive_buffers = 8, .group = group, .index = OWNER});
    struct gates gates;
    CHECK(gates_init(&gates,
                     &(struct gates_options){
                         .ring = ring, .index = OWNER, .count = WORKERS, .options = options, .upstream_count = 1}) ==
          RESULT_OK);
    struct bytes model = {name, 0};
    for (unsigned i = 0, owned = 0; owned == 0; i++) {
        model.len = (size_t)snprintf(name, sizeof(name), "model-%u", i);
        CHECK(gates_model(&gates, 0, model, true) != NULL);
        owned = !list_is_empty(&gates.owners);
    }
    gates_fini(&gates);
    ring_destroy(ring);
    ring_group_destroy(group);
    return model;
}

static struct gate_options options_of(const struct scene *scene)
{
    const struct admission_options admission = {
        .limiter = {.kind = LIMITER_FIXED, .initial = scene->limit, .min = 1, .max = scene->limit, .endpoints = 1},
        .queue = {.requests_max = 256,
                  .tenants_max = 16,
                  .tenant_share_percent = 100,
                  .small_tokens_max = 200,
                  .input_weight = 1000,
                  .output_weight = 1000},
        .endpoint_count = 1,
    };
    struct gate_options options = {.is_enabled = true, .model = admission, .plain = admission};
    options.plain.is_plain = true;
    return options;
}

static bool run(const struct scene *scene)
{
    struct gate_options options = options_of(scene);
    struct worker *workers = calloc(WORKERS, sizeof(*workers));
    struct gates *peers[WORKERS];
    pthread_t threads[WORKERS];
    struct bytes model = scene->is_model ? model_of_owner(&options) : BYTES_NONE;
    struct ring_group *group = ring_group_create(WORKERS);
    CHECK(workers != NULL && group != NULL);
    CHECK(pthread_barrier_init(&barrier, NULL, WORKERS) == 0);
    atomic_store(&is_measured, false);
    atomic_store(&workers_done, 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        peers[i] = &workers[i].gates;
        workers[i].scene = scene;
        workers[i].workers = workers;
        workers[i].group = group;
        workers[i].index = i;
        workers[i].peers = peers;
        workers[i].options = &options;
        workers[i].model = model;
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        CHECK(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    const struct worker *asker = &workers[ASKER];
    double messages = (double)(asker->after.messages - asker->before.messages) / MEASURED;
    double wakes = (double)(asker->after.wakes - asker->before.wakes) / MEASURED;
    bool is_good = messages <= scene->messages_max && wakes <= scene->wakes_max;
    printf("%-22s %6.3f messages, %6.3f wakes a request (%.2f, %.2f)  %s\n", scene->name, messages, wakes,
           scene->messages_max, scene->wakes_max, is_good ? "ok" : "TOO MANY");
    pthread_barrier_destroy(&barrier);
    ring_group_destroy(group);
    free(workers);
    return is_good;
}

int main(void)
{
    ring_destroy(loop_create(NULL)); /* ends the program where there is no io_uring */
    alarm(120);
    bool is_good = true;
    for (unsigned i = 0; i < ARRAY_COUNT(scenes); i++) {
        is_good &= run(&scenes[i]);
    }
    return is_good ? 0 : 1;
}
