/* The table of tenants: its bound, and who shares. */
#include "queue_world.h"

static struct world world;

static void begin_with(uint32_t tenants_max)
{
    struct queue_options options = world_options();
    options.tenants_max = tenants_max;
    world_init(&world, &options);
}

struct seen {
    struct queue_tenant_figures figures[16];
    unsigned count;
};

static void see(const struct queue_tenant_figures *figures, void *context)
{
    struct seen *seen = context;
    cr_assert(seen->count < 16);
    seen->figures[seen->count++] = *figures;
}

static struct seen look(void)
{
    struct seen seen = {.count = 0};
    queue_each_tenant(world.queue, see, &seen);
    return seen;
}

static void serve(uint64_t tenant)
{
    struct sched_request *request = world_request(&world, 2, tenant);
    queue_charge(world.queue, request);
    world_settle(&world, request);
}

Test(queue_tenants, those_that_wait_are_seen_first)
{
    begin_with(10);
    struct sched_request *running = world_request(&world, 2, 1);
    queue_charge(world.queue, running);
    serve(2);
    struct sched_request *waiting = world_request(&world, 2, 3);
    waiting->weight = 500;
    world_put(&world, waiting);
    struct seen seen = look();
    cr_assert(seen.count == 3);
    cr_expect(seen.figures[0].tenant == 3 && seen.figures[0].waiting == 1 && seen.figures[0].weight == 500);
    cr_expect(seen.figures[1].tenant == 1 && seen.figures[1].served == 200 && seen.figures[1].weight == 1000);
    cr_expect(seen.figures[2].tenant == 2 && seen.figures[2].served == 200 && seen.figures[2].waiting == 0);
    world_fini(&world);
}

Test(queue_tenants, one_that_has_been_idle_for_longest_is_forgotten_first)
{
    begin_with(3);
    serve(1);
    serve(2);
    serve(3);
    serve(1);
    serve(4);
    struct seen seen = look();
    cr_assert(seen.count == 3);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(seen.figures[i].tenant != 2, "was idle since before the others");
    }
    world_fini(&world);
}

Test(queue_tenants, one_that_was_charged_and_is_not_over_is_not_forgotten)
{
    begin_with(1);
    struct sched_request *running = world_request(&world, 2, 1);
    queue_charge(world.queue, running);
    serve(2);
    struct seen seen = look();
    cr_assert(seen.count == 1 && seen.figures[0].tenant == 1);
    world_settle(&world, running);
    serve(2);
    seen = look();
    cr_assert(seen.count == 1 && seen.figures[0].tenant == 2);
    world_fini(&world);
}

Test(queue_tenants, counter_outlives_its_tenant_as_the_mark_to_which_others_are_lifted)
{
    begin_with(1);
    for (unsigned i = 0; i < 5; i++) {
        serve(0);
        serve(1);
    }
    for (unsigned i = 0; i < 5; i++) {
        world_add(&world, 2, 2);
        world_add(&world, 2, 0);
    }
    struct seen seen = look();
    cr_assert(seen.count == 2 && (seen.figures[0].tenant == 2 || seen.figures[1].tenant == 2), "1 is forgotten");
    unsigned grants[3] = {0};
    for (unsigned i = 0; i < 4; i++) {
        grants[world_take(&world)->tenant]++;
    }
    cr_expect(grants[0] == 2 && grants[2] == 2, "%u : %u", grants[0], grants[2]);
    world_fini(&world);
}

Test(queue_tenants, strangers_beyond_the_bound_share_one_turn)
{
    begin_with(1);
    for (unsigned i = 0; i < 12; i++) {
        world_add(&world, 2, 1);
    }
    for (unsigned i = 0; i < 12; i++) {
        world_add(&world, 2, 100 + i);
    }
    unsigned known = 0;
    for (unsigned i = 0; i < 12; i++) {
        known += world_take(&world)->tenant == 1;
    }
    cr_expect(known == 6, "%u", known);
    struct seen seen = look();
    cr_assert(seen.count == 2);
    world_fini(&world);
}

Test(queue_tenants, nobody_in_particular_is_one_tenant_outside_the_table)
{
    begin_with(0);
    world_add(&world, 2, 0);
    world_add(&world, 2, 7);
    struct seen seen = look();
    cr_assert(seen.count == 1);
    cr_expect(seen.figures[0].tenant == 0 && seen.figures[0].waiting == 2);
    world_fini(&world);
}
