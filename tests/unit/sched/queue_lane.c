/* What does not fit: the lane for small requests, its bound, and the endpoints. */
#include "queue_world.h"

static struct world world;

static void begin(void)
{
    struct queue_options options = world_options();
    world_init(&world, &options);
}

static void end(void)
{
    world_fini(&world);
}

TestSuite(queue_lane, .init = begin, .fini = end);

static struct sched_request *add(unsigned class, uint64_t tenant, uint32_t prompt_tokens)
{
    struct sched_request *request = world_request(&world, class, tenant);
    request->cost = (struct sched_cost){.prompt_tokens = prompt_tokens};
    return world_put(&world, request);
}

static void set_prefill(uint32_t tokens)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        world.room.prefill_tokens_max[i] = tokens;
    }
}

Test(queue_lane, small_request_passes_a_large_one_that_does_not_fit)
{
    struct sched_request *large = add(2, 1, 1000);
    add(2, 2, 100);
    struct sched_request *small = add(2, 3, 50);
    set_prefill(500);
    cr_expect(world_take(&world) == small);
    cr_expect(small->is_lane_grant && world.is_blocked);
    cr_expect(world_take(&world) == NULL, "one of 100 tokens is not small");
    cr_expect(world.is_blocked);
    set_prefill(1000);
    cr_expect(world_take(&world) == large);
    cr_expect(!large->is_lane_grant);
    cr_expect(world_figures(&world).lane_grants == 1);
}

Test(queue_lane, lane_of_the_own_class_comes_before_that_of_the_lower_ones)
{
    add(1, 1, 1000);
    struct sched_request *lower = add(2, 1, 10);
    struct sched_request *same = add(1, 1, 20);
    set_prefill(500);
    cr_expect(world_take(&world) == same);
    cr_expect(world_take(&world) == lower);
}

Test(queue_lane, memory_opens_the_lane_as_well)
{
    add(2, 1, 1000);
    struct sched_request *small = add(2, 1, 30);
    world.room.kv_tokens_max = 100;
    cr_expect(world_take(&world) == small);
    struct sched_request *greedy = world_request(&world, 2, 1);
    greedy->cost = (struct sched_cost){.prompt_tokens = 10, .output_tokens = 5000};
    world_put(&world, greedy);
    cr_expect(world_take(&world) == NULL, "small in prompt, but its output does not fit");
}

Test(queue_lane, small_ones_that_pass_a_large_one_are_together_no_larger_than_it_is)
{
    struct sched_request *large = add(2, 1, 1000);
    for (unsigned i = 0; i < 40; i++) {
        add(2, 2, 50);
    }
    struct sched_request *lower = add(3, 3, 50);
    set_prefill(500);
    for (unsigned i = 0; i < 20; i++) {
        cr_expect(world_take(&world)->tenant == 2);
    }
    cr_expect(world_take(&world) == NULL, "what becomes free is kept for the large one");
    struct sched_request *upper = add(1, 3, 50);
    cr_expect(world_take(&world) == upper, "that holds for its class and below");
    set_prefill(UINT32_MAX);
    cr_expect(world_take(&world) == large);
    for (unsigned i = 0; i < 20; i++) {
        cr_expect(world_take(&world)->tenant == 2);
    }
    cr_expect(world_take(&world) == lower);
}

Test(queue_lane, share_of_the_lane_can_be_set)
{
    queue_destroy(world.queue);
    struct queue_options options = world_options();
    options.lane_share_percent = 25;
    world_init(&world, &options);
    add(2, 1, 1000);
    for (unsigned i = 0; i < 40; i++) {
        add(2, 2, 50);
    }
    set_prefill(500);
    for (unsigned i = 0; i < 5; i++) {
        cr_expect(world_take(&world) != NULL);
    }
    cr_expect(world_take(&world) == NULL);
}

Test(queue_lane, request_for_a_full_endpoint_is_passed_by_anybody_for_another)
{
    struct sched_request *first = world_request(&world, 1, 1);
    first->endpoints = 1;
    world_put(&world, first);
    struct sched_request *second = world_request(&world, 1, 1);
    second->endpoints = 2 | 4;
    world_put(&world, second);
    struct sched_request *lower = add(2, 1, 5000);
    world.room.endpoints = 4 | 8;
    cr_expect(world_take(&world) == second);
    cr_expect(!second->is_lane_grant);
    cr_expect(world_take(&world) == lower, "it goes anywhere, large as it is");
    cr_expect(world_take(&world) == NULL && world.is_blocked);
    world.room.endpoints = 1;
    cr_expect(world_take(&world) == first);
}

Test(queue_lane, cached_tokens_need_no_room_for_prefill)
{
    struct sched_request *cached = world_request(&world, 2, 1);
    cached->cost = (struct sched_cost){.prompt_tokens = 5000, .cached_tokens = 4900};
    world_put(&world, cached);
    set_prefill(100);
    cr_expect(world_take(&world) == cached);
    cr_expect(!cached->is_lane_grant);
}

Test(queue_lane, one_that_fits_is_found_behind_many_that_do_not)
{
    for (unsigned i = 0; i < 80; i++) {
        add(2, 1, 200);
    }
    struct sched_request *small = add(2, 1, 60);
    set_prefill(100);
    cr_expect(world_take(&world) == small);
}
