/* The bounds: who does not get in, and who has to go. */
#include "queue_world.h"

static struct world world;

static void begin_with(uint32_t requests_max, uint64_t tokens_max, uint64_t bytes_max)
{
    struct queue_options options = world_options();
    options.requests_max = requests_max;
    options.tokens_max = tokens_max;
    options.bytes_max = bytes_max;
    world_init(&world, &options);
}

static struct sched_request *due(unsigned class, uint64_t tenant, nanos start_by_ns)
{
    struct sched_request *request = world_request(&world, class, tenant);
    request->start_by_ns = start_by_ns;
    return request;
}

static const nanos soon = 100 * NANOS_PER_S;

/* Whether it went, and it alone. */
static bool was_evicted(const struct sched_request *request)
{
    struct list_node *node = list_pop_front(&world.evicted);
    return node == &request->place.lane && request->place.tenant == NULL && !request->place.is_waiting &&
           list_is_empty(&world.evicted);
}

Test(queue_bounds, request_that_is_larger_than_the_queue_is_too_large)
{
    begin_with(10, 1000, 5000);
    struct sched_request *request = world_request(&world, 0, 1);
    request->cost.prompt_tokens = 1000;
    cr_expect(world_try(&world, request) == SCHED_SHED_TOO_LARGE);
    request->cost.prompt_tokens = 100;
    request->body_bytes = 5001;
    cr_expect(world_try(&world, request) == SCHED_SHED_TOO_LARGE);
    request->body_bytes = 5000;
    cr_expect(world_try(&world, request) == SCHED_SHED_NONE);
    world_fini(&world);
}

Test(queue_bounds, each_of_the_three_is_a_bound)
{
    const uint64_t bounds[3][3] = {{4, 0, 0}, {1000, 600, 0}, {1000, 0, 4000}};
    for (unsigned i = 0; i < 3; i++) {
        begin_with((uint32_t)bounds[i][0], bounds[i][1], bounds[i][2]);
        for (unsigned j = 0; j < 4; j++) {
            world_add(&world, 2, 1);
        }
        cr_expect(world_try(&world, world_request(&world, 2, 1)) == SCHED_SHED_QUEUE_FULL, "%u", i);
        cr_expect(list_is_empty(&world.evicted));
        world_fini(&world);
    }
}

Test(queue_bounds, nothing_waits_in_a_queue_of_none)
{
    begin_with(0, 0, 0);
    cr_expect(world_try(&world, world_request(&world, 0, 1)) == SCHED_SHED_QUEUE_FULL);
    world_fini(&world);
}

Test(queue_bounds, lowest_class_goes_first)
{
    begin_with(3, 0, 0);
    world_add(&world, 1, 1);
    struct sched_request *lowest = world_add(&world, 3, 1);
    world_add(&world, 2, 1);
    world_add(&world, 2, 1);
    cr_expect(was_evicted(lowest));
    cr_expect(world_try(&world, world_request(&world, 3, 1)) == SCHED_SHED_QUEUE_FULL);
    world_fini(&world);
}

Test(queue_bounds, latest_deadline_goes_first_even_if_it_is_the_new_one)
{
    begin_with(2, 0, 0);
    world_put(&world, due(2, 1, soon));
    struct sched_request *later = world_put(&world, due(2, 1, soon + 2));
    cr_expect(world_try(&world, due(2, 1, soon + 2)) == SCHED_SHED_QUEUE_FULL, "equal: the newest");
    cr_expect(world_try(&world, due(2, 1, soon + 1)) == SCHED_SHED_NONE);
    cr_expect(was_evicted(later));
    world_fini(&world);
}

Test(queue_bounds, tenant_that_holds_most_of_the_class_gives_one_up)
{
    begin_with(8, 0, 0);
    struct sched_request *held[4];
    for (unsigned i = 0; i < 4; i++) {
        held[i] = world_put(&world, due(2, 1, soon + i));
    }
    for (unsigned i = 0; i < 4; i++) {
        world_put(&world, due(2, 2 + i % 2, soon + 100));
    }
    cr_expect(world_try(&world, due(2, 4, soon + 200)) == SCHED_SHED_NONE);
    cr_expect(was_evicted(held[3]));
    world_fini(&world);
}

Test(queue_bounds, one_that_is_past_its_deadline_goes_before_all_others)
{
    begin_with(2, 0, 0);
    struct sched_request *late = world_put(&world, due(0, 1, world.now + 5));
    world_add(&world, 3, 1);
    world.now += 5;
    cr_expect(world_try(&world, world_request(&world, 3, 1)) == SCHED_SHED_NONE);
    cr_expect(was_evicted(late));
    world_fini(&world);
}

Test(queue_bounds, several_go_for_one_large_request)
{
    begin_with(100, 1000, 0);
    for (unsigned i = 0; i < 6; i++) {
        world_add(&world, 3, 1);
    }
    struct sched_request *large = world_request(&world, 2, 1);
    large->cost.prompt_tokens = 500;
    cr_expect(world_try(&world, large) == SCHED_SHED_NONE);
    unsigned gone = 0;
    while (list_pop_front(&world.evicted) != NULL) {
        gone++;
    }
    cr_expect(gone == 3, "%u", gone);
    cr_expect(world_figures(&world).tokens == 3 * 150 + 550);
    world_fini(&world);
}

Test(queue_bounds, nobody_goes_for_a_request_that_does_not_get_in_after_all)
{
    begin_with(100, 1000, 0);
    for (unsigned i = 0; i < 3; i++) {
        world_put(&world, due(2, 1, soon));
    }
    struct sched_request *lowest[2];
    for (unsigned i = 0; i < 2; i++) {
        lowest[i] = world_put(&world, due(3, 1, soon + 1 - i));
    }
    struct sched_request *large = due(2, 1, soon);
    large->cost.prompt_tokens = 900;
    cr_expect(world_try(&world, large) == SCHED_SHED_QUEUE_FULL);
    cr_expect(list_is_empty(&world.evicted));
    struct queue_figures figures = world_figures(&world);
    cr_expect(figures.requests == 5 && figures.tokens == 750 && figures.requests_of_class[3] == 2);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(world_take(&world)->class == 2);
    }
    cr_expect(world_take(&world) == lowest[1]);
    cr_expect(world_take(&world) == lowest[0]);
    world_fini(&world);
}

Test(queue_bounds, tenant_that_waits_alone_may_use_all_of_the_queue)
{
    begin_with(10, 0, 0);
    for (unsigned i = 0; i < 10; i++) {
        world_add(&world, 2, 1);
    }
    cr_expect(world_try(&world, world_request(&world, 2, 1)) == SCHED_SHED_QUEUE_FULL);
    world_fini(&world);
}

Test(queue_bounds, tenant_may_hold_its_share_while_others_wait)
{
    begin_with(10, 0, 0);
    world_add(&world, 2, 2);
    for (unsigned i = 0; i < 5; i++) {
        world_add(&world, 2, 1);
    }
    cr_expect(world_try(&world, world_request(&world, 2, 1)) == SCHED_SHED_TENANT_SHARE);
    cr_expect(sched_shed_is_clients(SCHED_SHED_TENANT_SHARE));
    for (unsigned i = 0; i < 4; i++) {
        world_add(&world, 2, 2);
    }
    world_fini(&world);
}

Test(queue_bounds, share_is_of_tokens_and_bytes_too_but_one_request_anybody_may_have)
{
    const uint64_t bounds[2][2] = {{1500, 0}, {0, 10000}};
    for (unsigned i = 0; i < 2; i++) {
        begin_with(1000, bounds[i][0], bounds[i][1]);
        world_add(&world, 2, 2);
        struct sched_request *large = world_request(&world, 2, 3);
        large->cost.prompt_tokens = 800;
        large->body_bytes = 6000;
        cr_expect(world_try(&world, large) == SCHED_SHED_NONE);
        queue_remove(world.queue, large);
        for (unsigned j = 0; j < 5; j++) {
            world_add(&world, 2, 1);
        }
        cr_expect(world_try(&world, world_request(&world, 2, 1)) == SCHED_SHED_TENANT_SHARE, "%u", i);
        world_fini(&world);
    }
}

Test(queue_bounds, lower_classes_of_the_same_tenant_give_way_to_its_upper_ones)
{
    begin_with(10, 0, 0);
    world_add(&world, 2, 2);
    world_put(&world, due(3, 1, soon));
    struct sched_request *worst = world_put(&world, due(3, 1, soon + 1));
    for (unsigned i = 0; i < 3; i++) {
        world_add(&world, 2, 1);
    }
    cr_expect(world_try(&world, world_request(&world, 1, 1)) == SCHED_SHED_NONE);
    cr_expect(was_evicted(worst));
    world_fini(&world);
}

Test(queue_bounds, when_a_second_tenant_comes_the_one_that_filled_the_queue_gives_up_its_worst)
{
    begin_with(10, 0, 0);
    struct sched_request *filling[10];
    for (unsigned i = 0; i < 10; i++) {
        filling[i] = world_put(&world, due(1, 1, soon + i));
    }
    for (unsigned i = 0; i < 5; i++) {
        cr_expect(world_try(&world, due(3, 2, soon)) == SCHED_SHED_NONE, "%u", i);
        cr_expect(was_evicted(filling[9 - i]));
    }
    cr_expect(world_try(&world, due(3, 3, soon)) == SCHED_SHED_NONE, "the second holds most of class 3");
    world_fini(&world);
}
