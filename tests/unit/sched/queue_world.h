/* A queue and requests for it, for the tests of this folder. */
#ifndef SLUICE_TESTS_QUEUE_WORLD_H
#define SLUICE_TESTS_QUEUE_WORLD_H

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "sched/queue.h"

enum { WORLD_REQUESTS = 512 };

struct world {
    struct queue *queue;
    struct queue_room room;
    struct sched_request requests[WORLD_REQUESTS];
    unsigned used;
    nanos now;
    struct list_node evicted;
};

static inline struct queue_options world_options(void)
{
    return (struct queue_options){
        .requests_max = 100,
        .tokens_max = 100000,
        .bytes_max = 1000000,
        .tenants_max = 50,
        .tenant_share_percent = 50,
        .aged_share_percent = 5,
        .aged_after_ns = 10 * NANOS_PER_S,
        .small_tokens_max = 64,
        .input_weight = 1000,
        .output_weight = 2000,
    };
}

static inline struct queue_room world_room(void)
{
    struct queue_room room = {0};
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        room.classes[i].may_pass = true;
        room.classes[i].prefill_ns_max = NANOS_NEVER;
        room.classes[i].large_may_pass = true;
        room.classes[i].kv_tokens_max = UINT64_MAX;
    }
    return room;
}

static inline void world_init(struct world *world, const struct queue_options *options)
{
    *world = (struct world){.room = world_room(), .now = NANOS_PER_S};
    world->queue = queue_create(options);
    cr_assert(world->queue != NULL);
    list_init(&world->evicted);
}

/* A request that is not in yet: 100 tokens in, 50 out, 1,000 bytes. */
static inline struct sched_request *world_request(struct world *world, unsigned class, uint64_t tenant)
{
    cr_assert(world->used < WORLD_REQUESTS);
    struct sched_request *request = &world->requests[world->used++];
    *request = (struct sched_request){
        .class = (uint8_t) class,
        .tenant = tenant,
        .arrived_ns = world->now,
        .start_by_ns = NANOS_NEVER,
        .body_bytes = 1000,
        .cost = {.prompt_tokens = 100, .output_tokens = 50},
    };
    return request;
}

static inline enum sched_shed world_try(struct world *world, struct sched_request *request)
{
    return queue_put(world->queue, world->now, request, &world->evicted);
}

static inline struct sched_request *world_put(struct world *world, struct sched_request *request)
{
    enum sched_shed shed = world_try(world, request);
    cr_assert(shed == SCHED_SHED_NONE, "%s", sched_shed_name(shed));
    return request;
}

/* A request of this class and tenant, put in. */
static inline struct sched_request *world_add(struct world *world, unsigned class, uint64_t tenant)
{
    return world_put(world, world_request(world, class, tenant));
}

static inline struct sched_request *world_next(struct world *world)
{
    return queue_next(world->queue, world->now, &world->room);
}

/* What is next, taken out; its charge stays. NULL: none. */
static inline struct sched_request *world_take(struct world *world)
{
    struct sched_request *request = world_next(world);
    if (request != NULL) {
        queue_take(world->queue, request);
    }
    return request;
}

static inline void world_settle(struct world *world, struct sched_request *request)
{
    queue_settle(world->queue, request, &request->cost, true);
}

static inline struct queue_figures world_figures(const struct world *world)
{
    struct queue_figures figures;
    queue_figures(world->queue, &figures);
    return figures;
}

/* Everything leaves: what waits is removed, what was charged is settled. */
static inline void world_fini(struct world *world)
{
    for (unsigned i = 0; i < world->used; i++) {
        struct sched_request *request = &world->requests[i];
        if (request->place.tenant == NULL) {
            continue;
        }
        if (request->place.is_waiting) {
            queue_remove(world->queue, request);
        } else {
            world_settle(world, request);
        }
    }
    cr_expect(world_figures(world).inversions == 0);
    queue_destroy(world->queue);
}

#endif
