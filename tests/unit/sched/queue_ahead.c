/* How many come before a request: what is said beside what then happens. */
#include <math.h>

#include "queue_world.h"

static struct world world;
static uint64_t state;

static uint32_t draw(uint32_t below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)((state >> 33) % below);
}

static void begin(void)
{
    struct queue_options options = world_options();
    options.requests_max = WORLD_REQUESTS;
    options.tenants_max = WORLD_REQUESTS;
    options.tokens_max = 0;
    options.bytes_max = 0;
    options.tenant_share_percent = 100;
    world_init(&world, &options);
}

static void end(void)
{
    world_fini(&world);
}

TestSuite(queue_ahead, .init = begin, .fini = end);

/* Puts it in, and serves until it is its turn. */
static unsigned happens(struct sched_request *request)
{
    world_put(&world, request);
    unsigned ahead = 0;
    while (world_take(&world) != request) {
        ahead++;
    }
    return ahead;
}

Test(queue_ahead, nobody_is_ahead_in_an_empty_queue)
{
    cr_expect(queue_ahead_of(world.queue, world_request(&world, 3, 1)) == 0);
}

Test(queue_ahead, upper_classes_are_ahead_and_lower_ones_are_not)
{
    for (unsigned i = 0; i < 8; i++) {
        world_add(&world, i % 4, 1 + i % 3);
    }
    cr_expect(queue_ahead_of(world.queue, world_request(&world, 0, 9)) <= 2);
    struct sched_request *request = world_request(&world, 3, 1);
    unsigned ahead = queue_ahead_of(world.queue, request);
    cr_expect(ahead >= 6 && ahead <= 8);
    cr_expect(abs((int)happens(request) - (int)ahead) <= 1);
}

Test(queue_ahead, of_its_own_tenant_those_with_earlier_deadlines_are)
{
    for (unsigned i = 0; i < 10; i++) {
        struct sched_request *request = world_request(&world, 2, 1);
        request->start_by_ns = 100 + 10 * i;
        world_put(&world, request);
    }
    struct sched_request *request = world_request(&world, 2, 1);
    request->start_by_ns = 140;
    cr_expect(queue_ahead_of(world.queue, request) == 5);
    world_put(&world, request);
    cr_expect(queue_ahead_of(world.queue, request) == 5, "itself is not ahead of itself");
    request = world_request(&world, 2, 1);
    cr_expect(queue_ahead_of(world.queue, request) == 11);
}

Test(queue_ahead, newest_of_the_lowest_class_is_first_of_its_tenant_while_it_is_served_so)
{
    queue_destroy(world.queue);
    struct queue_options options = world_options();
    options.lifo_lowest = true;
    world_init(&world, &options);
    for (unsigned i = 0; i < 10; i++) {
        world_add(&world, 3, 1);
    }
    cr_expect(queue_ahead_of(world.queue, world_request(&world, 3, 1)) == 10);
    world.room.is_overloaded = true;
    world_next(&world);
    cr_expect(queue_ahead_of(world.queue, world_request(&world, 3, 1)) == 0);
}

Test(queue_ahead, tenant_with_little_does_not_wait_for_one_with_much)
{
    for (unsigned i = 0; i < 100; i++) {
        world_add(&world, 2, 1);
    }
    cr_expect(queue_ahead_of(world.queue, world_request(&world, 2, 2)) <= 1);
    cr_expect(queue_ahead_of(world.queue, world_request(&world, 2, 1)) == 100);
}

Test(queue_ahead, equal_costs_are_foreseen_to_within_one_request)
{
    for (unsigned round = 0; round < 200; round++) {
        state = round;
        unsigned tenants = 1 + draw(12);
        for (unsigned i = draw(60); i > 0; i--) {
            world_add(&world, 2, 1 + draw(tenants));
        }
        for (unsigned i = draw(10); i > 0; i--) {
            world_take(&world);
        }
        struct sched_request *request = world_request(&world, 2, 1 + draw(tenants));
        unsigned foreseen = queue_ahead_of(world.queue, request);
        unsigned happened = happens(request);
        cr_expect(abs((int)foreseen - (int)happened) <= 1, "round %u: %u, not %u", round, foreseen, happened);
        end();
        begin();
    }
}

/* The mean of |foreseen − happened| ÷ happened, over requests before which there are at least ten. */
static double error_with(unsigned tenants, unsigned waiting, bool is_skewed)
{
    double sum = 0;
    unsigned count = 0;
    for (unsigned round = 0; round < 100; round++) {
        state = round;
        for (unsigned i = 0; i < waiting; i++) {
            uint32_t tenant = is_skewed && draw(2) == 0 ? 1 : 1 + draw(tenants);
            struct sched_request *request = world_request(&world, 2, tenant);
            request->cost = (struct sched_cost){.prompt_tokens = 1 + draw(2000), .output_tokens = draw(500)};
            request->start_by_ns = NANOS_PER_S + draw(1000);
            world_put(&world, request);
        }
        struct sched_request *request = world_request(&world, 2, 1 + draw(tenants));
        request->start_by_ns = NANOS_PER_S + draw(1000);
        double foreseen = queue_ahead_of(world.queue, request);
        double happened = happens(request);
        if (happened >= 10) {
            sum += fabs(foreseen - happened) / happened;
            count++;
        }
        end();
        begin();
    }
    cr_expect(count >= 20);
    return sum / count;
}

Test(queue_ahead, unequal_costs_are_foreseen_in_the_mean)
{
    double few = error_with(5, 100, false);
    double skewed = error_with(20, 200, true);
    double many = error_with(150, 500, false);
    double many_skewed = error_with(150, 500, true);
    cr_expect(few < 0.1, "%.3f", few);
    cr_expect(skewed < 0.1, "%.3f", skewed);
    cr_expect(many < 0.1, "%.3f", many);
    cr_expect(many_skewed < 0.1, "%.3f", many_skewed);
}
