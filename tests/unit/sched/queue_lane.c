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

/* A millisecond of prefill for each token; above 64 tokens it is large. */
static struct sched_request *add(unsigned class, uint64_t tenant, uint32_t prompt_tokens)
{
    struct sched_request *request = world_request(&world, class, tenant);
    request->cost = (struct sched_cost){.prompt_tokens = prompt_tokens};
    request->base_ns = prompt_tokens * NANOS_PER_MS;
    return world_put(&world, request);
}

static void set_prefill_ms(nanos prefill_ms)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        world.room.classes[i].prefill_ns_max = prefill_ms * NANOS_PER_MS;
    }
}

static void set_kv(uint64_t tokens)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        world.room.classes[i].kv_tokens_max = tokens;
    }
}

static void set_large(bool may_pass)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        world.room.classes[i].large_may_pass = may_pass;
    }
}

static void begin_with_share(uint32_t percent)
{
    world_fini(&world);
    struct queue_options options = world_options();
    options.lane_share_percent = percent;
    world_init(&world, &options);
}

Test(queue_lane, large_request_waits_for_the_place_of_large_ones_and_is_passed_by_all_others)
{
    struct sched_request *large = add(2, 1, 1000);
    set_large(false);
    for (unsigned i = 0; i < 30; i++) {
        struct sched_request *small = add(2 + i % 2, 2, 50);
        cr_expect(world_take(&world) == small);
        cr_expect(small->is_lane_grant == (small->class == 2), "%u", i);
    }
    cr_expect(world_take(&world) == NULL);
    set_large(true);
    set_prefill_ms(0);
    cr_expect(world_take(&world) == large, "it needs none of the small ones' prefill time");
    cr_expect(!large->is_lane_grant);
    cr_expect(world_figures(&world).lane_grants == 15);
}

Test(queue_lane, small_request_passes_one_that_does_not_fit)
{
    struct sched_request *first = add(2, 1, 60);
    add(2, 1, 50);
    struct sched_request *small = add(2, 1, 10);
    set_prefill_ms(30);
    cr_expect(world_take(&world) == small);
    cr_expect(small->is_lane_grant);
    cr_expect(world_take(&world) == NULL);
    set_prefill_ms(60);
    cr_expect(world_take(&world) == first);
    cr_expect(!first->is_lane_grant);
    cr_expect(world_figures(&world).lane_grants == 1);
}

Test(queue_lane, lane_of_the_own_class_comes_before_that_of_the_lower_ones)
{
    begin_with_share(100);
    add(1, 1, 60);
    struct sched_request *lower = add(2, 1, 10);
    struct sched_request *same = add(1, 1, 20);
    set_prefill_ms(50);
    cr_expect(world_take(&world) == same);
    cr_expect(world_take(&world) == lower);
}

Test(queue_lane, memory_opens_the_lane_for_small_ones_only)
{
    struct sched_request *large = add(2, 1, 1000);
    add(2, 1, 70);
    struct sched_request *small = add(2, 1, 30);
    set_kv(100);
    cr_expect(world_take(&world) == small);
    struct sched_request *greedy = world_request(&world, 2, 1);
    greedy->cost = (struct sched_cost){.prompt_tokens = 10, .output_tokens = 5000};
    world_put(&world, greedy);
    cr_expect(world_take(&world) == NULL, "70 tokens are not small, and the output of the other does not fit");
    set_kv(1000);
    cr_expect(world_take(&world) == large);
}

Test(queue_lane, small_ones_that_pass_a_large_one_together_come_to_a_share_of_its_size)
{
    const uint32_t shares[] = {0, 100, 40};
    const unsigned passing[] = {5, 20, 8};
    for (unsigned round = 0; round < 3; round++) {
        begin_with_share(shares[round]);
        struct sched_request *large = add(2, 1, 1000);
        for (unsigned i = 0; i < 40; i++) {
            add(2, 2, 50);
        }
        struct sched_request *lower = add(3, 3, 50);
        set_kv(500);
        for (unsigned i = 0; i < passing[round]; i++) {
            cr_expect(world_take(&world)->tenant == 2);
        }
        cr_expect(world_take(&world) == NULL, "what becomes free is kept for the large one");
        struct sched_request *upper = add(1, 3, 50);
        cr_expect(world_take(&world) == upper, "that holds for its class and below");
        set_kv(UINT64_MAX);
        cr_expect(world_take(&world) == large);
        for (unsigned i = passing[round]; i < 40; i++) {
            cr_expect(world_take(&world)->tenant == 2);
        }
        cr_expect(world_take(&world) == lower);
    }
}

Test(queue_lane, small_one_behind_a_waiting_large_one_is_not_passed_for_ever_by_lower_classes)
{
    add(1, 1, 1000);
    struct sched_request *small = add(1, 1, 60);
    set_large(false);
    set_prefill_ms(50);
    unsigned passed = 0;
    for (unsigned i = 0; i < 20; i++) {
        add(2, 1, 5);
        passed += world_take(&world) != NULL;
    }
    cr_expect(passed == 3, "%u", passed);
    set_prefill_ms(60);
    cr_expect(world_take(&world) == small);
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
    cr_expect(world_take(&world) == NULL);
    world.room.endpoints = 1;
    cr_expect(world_take(&world) == first);
}

Test(queue_lane, request_is_as_large_as_what_is_not_cached_of_it)
{
    struct sched_request *cached = world_request(&world, 2, 1);
    cached->cost = (struct sched_cost){.prompt_tokens = 5000, .cached_tokens = 4960};
    world_put(&world, cached);
    set_large(false);
    cr_expect(world_take(&world) == cached);
    cr_expect(!cached->is_lane_grant);
}

Test(queue_lane, one_that_fits_is_found_behind_many_that_do_not)
{
    for (unsigned i = 0; i < 80; i++) {
        add(2, 1, 60);
    }
    struct sched_request *small = add(2, 1, 10);
    set_prefill_ms(20);
    cr_expect(world_take(&world) == small);
}

Test(queue_lane, small_requests_have_memory_of_their_own_beside_a_large_one_that_waits_for_it)
{
    struct sched_request *large = add(2, 1, 950);
    set_kv(1000);
    world.room.kv_lane_tokens = 100;
    world.room.is_lane_open = true;
    for (unsigned i = 0; i < 10; i++) { /* together half as large as it is: more than may pass otherwise */
        struct sched_request *small = add(2, 2, 50);
        cr_expect(world_take(&world) == small, "%u", i);
    }
    cr_expect(world_next(&world) == NULL, "what is theirs is not the large one's");
    set_kv(1050);
    cr_expect(world_take(&world) == large);
}

Test(queue_lane, small_requests_that_hold_their_memory_wait_for_the_large_one)
{
    add(2, 1, 950);
    set_kv(1000);
    world.room.kv_lane_tokens = 100;
    unsigned passed = 0;
    for (unsigned i = 0; i < 10; i++) {
        add(2, 2, 50);
        passed += world_next(&world) != NULL && world_take(&world) != NULL;
    }
    cr_expect(passed > 0 && passed < 10, "%u passed", passed);
}
