/* Workers with gates, turned in order on one thread, and passes that note what becomes of them. */
#ifndef TESTS_UNIT_PROXY_GATE_WORLD_H
#define TESTS_UNIT_PROXY_GATE_WORLD_H

#include <criterion/criterion.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "loop.h"
#include "proxy/gate_internal.h"
#include "ring/internal.h"

enum { GATE_WORKERS_MAX = 2 };

struct gate_world {
    unsigned count;
    struct ring_group *group;
    struct ring *rings[GATE_WORKERS_MAX];
    struct gates gates[GATE_WORKERS_MAX];
    struct gates *peers[GATE_WORKERS_MAX];
    struct gate_options options[2]; /* upstream 0 belongs to worker 0, upstream 1 to the last */
};

/* One that asks. */
struct asker {
    struct gate_pass pass;
    unsigned decided; /* how often it was told */
};

static inline struct admission_options gate_world_admission(double limit)
{
    return (struct admission_options){
        .limiter = {.kind = LIMITER_FIXED, .initial = limit, .min = 1, .max = limit, .endpoints = 1},
        .queue = {.requests_max = 8,
                  .tenants_max = 16,
                  .tenant_share_percent = 100,
                  .small_tokens_max = 1000,
                  .input_weight = 1000,
                  .output_weight = 1000},
        .endpoint_count = 1,
    };
}

static inline void gate_world_start(struct gate_world *world, unsigned count, double limit)
{
    *world = (struct gate_world){.count = count, .group = ring_group_create(count)};
    cr_assert_not_null(world->group);
    for (unsigned i = 0; i < 2; i++) {
        struct admission_options admission = gate_world_admission(limit);
        world->options[i] = (struct gate_options){.is_enabled = true, .model = admission, .plain = admission};
        world->options[i].plain.is_plain = true;
    }
    for (unsigned i = 0; i < count; i++) {
        world->rings[i] =
            loop_create(&(struct ring_options){.cpu = -1, .receive_buffers = 8, .group = world->group, .index = i});
        world->peers[i] = &world->gates[i];
        cr_assert_eq(gates_init(&world->gates[i], &(struct gates_options){.ring = world->rings[i],
                                                                          .index = i,
                                                                          .count = count,
                                                                          .peers = world->peers,
                                                                          .options = world->options,
                                                                          .upstream_count = 2}),
                     RESULT_OK);
    }
}

struct gate_world_stop {
    struct ring_task task;
    struct ring *ring;
};

static inline void gate_world_on_stop(struct ring_task *task)
{
    ring_stop(CONTAINER_OF(task, struct gate_world_stop, task)->ring);
}

/* One turn of one worker; it does not sleep. */
static inline void gate_world_turn(struct gate_world *world, unsigned worker)
{
    struct gate_world_stop stop = {.ring = world->rings[worker]};
    ring_task_init(&stop.task, gate_world_on_stop);
    ring_defer(stop.ring, &stop.task);
    stop.ring->stopping = false;
    ring_run(stop.ring);
}

/* As many as messages between any two need to have come and gone, and what they cause, too. */
static inline void gate_world_run(struct gate_world *world)
{
    for (unsigned i = 0; i < 8 * world->count; i++) {
        gate_world_turn(world, i % world->count);
    }
}

static inline uint64_t gate_world_outstanding(const struct gate_world *world)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < world->count; i++) {
        sum += counter_load(&world->gates[i].outstanding);
    }
    return sum;
}

/* Checks that every grant was released. */
static inline void gate_world_stop(struct gate_world *world)
{
    gate_world_run(world);
    cr_expect_eq(gate_world_outstanding(world), 0);
    for (unsigned i = 0; i < world->count; i++) {
        gates_close(&world->gates[i]);
    }
    for (unsigned i = 0; i < world->count; i++) {
        gates_fini(&world->gates[i]);
        ring_destroy(world->rings[i]);
    }
    ring_group_destroy(world->group);
}

static inline void asker_on_decided(struct gate_pass *pass)
{
    CONTAINER_OF(pass, struct asker, pass)->decided++;
}

static inline enum gate_answer ask(struct asker *asker, struct gate *gate)
{
    memset(asker, 0, sizeof(*asker));
    cr_assert_not_null(gate);
    gate_pass_init(&asker->pass, gate);
    asker->pass.on_decided = asker_on_decided;
    asker->pass.request.arrived_ns = ring_now(gate->gates->ring);
    asker->pass.request.cost.prompt_tokens = 1;
    asker->pass.request.tenant = 1;
    return gate_enter(&asker->pass);
}

static inline void leave(struct asker *asker)
{
    gate_leave(&asker->pass);
    cr_expect_eq(asker->pass.state, GATE_OUT);
    gate_pass_fini(&asker->pass);
}

#endif
