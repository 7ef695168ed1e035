/* The order: classes, tenants, deadlines, age. */
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

TestSuite(queue, .init = begin, .fini = end);

Test(queue, every_reason_to_shed_has_a_name_of_its_own)
{
    for (unsigned i = 0; i < SCHED_SHED_REASONS; i++) {
        for (unsigned j = 0; j < i; j++) {
            cr_expect(strcmp(sched_shed_name(i), sched_shed_name(j)) != 0);
        }
    }
    cr_expect(strcmp(sched_shed_name(SCHED_SHED_LATE_DISPATCH), "late_dispatch") == 0);
}

Test(queue, upper_class_goes_first)
{
    struct sched_request *last = world_add(&world, 3, 1);
    struct sched_request *second = world_add(&world, 1, 1);
    struct sched_request *third = world_add(&world, 2, 1);
    struct sched_request *first = world_add(&world, 0, 1);
    cr_expect(world_take(&world) == first);
    cr_expect(world_take(&world) == second);
    cr_expect(world_take(&world) == third);
    cr_expect(world_take(&world) == last);
    cr_expect(world_take(&world) == NULL);
}

Test(queue, earliest_deadline_goes_first_within_a_tenant_and_equals_in_order_of_arrival)
{
    const nanos deadlines[] = {NANOS_NEVER, 30, 20, 30, NANOS_NEVER, 10};
    const unsigned order[] = {5, 2, 1, 3, 0, 4};
    struct sched_request *requests[6];
    for (unsigned i = 0; i < 6; i++) {
        requests[i] = world_request(&world, 2, 1);
        requests[i]->start_by_ns = deadlines[i];
        world_put(&world, requests[i]);
    }
    for (unsigned i = 0; i < 6; i++) {
        cr_expect(world_take(&world) == requests[order[i]], "%u", i);
    }
}

Test(queue, class_that_may_not_pass_waits_while_the_upper_ones_go)
{
    world_add(&world, 2, 1);
    world.room.classes[2].may_pass = false;
    cr_expect(world_next(&world) == NULL);
    struct sched_request *upper = world_add(&world, 1, 1);
    cr_expect(world_take(&world) == upper);
}

Test(queue, tenants_take_turns_by_what_they_were_charged)
{
    for (unsigned i = 0; i < 20; i++) {
        struct sched_request *large = world_request(&world, 2, 1);
        large->cost = (struct sched_cost){.prompt_tokens = 300};
        world_put(&world, large);
    }
    for (unsigned i = 0; i < 20; i++) {
        struct sched_request *small = world_request(&world, 2, 2);
        small->cost = (struct sched_cost){.prompt_tokens = 100};
        world_put(&world, small);
    }
    unsigned grants[3] = {0};
    for (unsigned i = 0; i < 20; i++) {
        grants[world_take(&world)->tenant]++;
    }
    cr_expect(grants[1] == 5 && grants[2] == 15, "%u : %u", grants[1], grants[2]);
}

Test(queue, weight_buys_as_much_more_service)
{
    for (unsigned i = 0; i < 60; i++) {
        struct sched_request *request = world_request(&world, 2, 1 + i % 2);
        request->weight = i % 2 == 0 ? 3000 : 1000;
        world_put(&world, request);
    }
    unsigned grants[3] = {0};
    for (unsigned i = 0; i < 32; i++) {
        grants[world_take(&world)->tenant]++;
    }
    cr_expect(grants[1] == 24 && grants[2] == 8, "%u : %u", grants[1], grants[2]);
}

Test(queue, tenant_that_was_away_has_no_claim_on_the_time_before)
{
    for (unsigned i = 0; i < 40; i++) {
        world_add(&world, 2, 1);
    }
    for (unsigned i = 0; i < 20; i++) {
        world_take(&world);
    }
    for (unsigned i = 0; i < 10; i++) {
        world_add(&world, 2, 2);
    }
    unsigned grants[3] = {0};
    for (unsigned i = 0; i < 10; i++) {
        grants[world_take(&world)->tenant]++;
    }
    cr_expect(grants[1] == 5 && grants[2] == 5, "%u : %u", grants[1], grants[2]);
}

Test(queue, tenant_that_was_away_may_catch_up_by_as_much_as_is_allowed)
{
    queue_destroy(world.queue);
    struct queue_options options = world_options();
    options.catch_up_tokens = 600; /* three requests */
    world_init(&world, &options);
    for (unsigned i = 0; i < 40; i++) {
        world_add(&world, 2, 1);
    }
    for (unsigned i = 0; i < 20; i++) {
        world_take(&world);
    }
    for (unsigned i = 0; i < 10; i++) {
        world_add(&world, 2, 2);
    }
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(world_take(&world)->tenant == 2);
    }
    unsigned grants[3] = {0};
    for (unsigned i = 0; i < 10; i++) {
        grants[world_take(&world)->tenant]++;
    }
    cr_expect(grants[1] == 5 && grants[2] == 5, "%u : %u", grants[1], grants[2]);
}

Test(queue, who_was_served_without_waiting_is_charged_and_who_comes_after_is_lifted_to_it)
{
    for (unsigned i = 0; i < 10; i++) {
        queue_charge(world.queue, world_request(&world, 2, 1));
    }
    for (unsigned i = 0; i < 10; i++) {
        world_add(&world, 2, 2);
        world_add(&world, 2, 1);
    }
    unsigned grants[3] = {0};
    for (unsigned i = 0; i < 10; i++) {
        grants[world_take(&world)->tenant]++;
    }
    cr_expect(grants[1] == 5 && grants[2] == 5, "%u : %u", grants[1], grants[2]);
}

Test(queue, charge_is_corrected_by_what_a_request_really_took)
{
    for (unsigned i = 0; i < 20; i++) {
        world_add(&world, 2, 1 + i % 2);
    }
    struct sched_request *first = world_take(&world);
    cr_expect(first->tenant == 1);
    const struct sched_cost nothing = {.prompt_tokens = 1, .output_tokens = 0};
    queue_settle(world.queue, first, &nothing, true);
    cr_expect(world_take(&world)->tenant == 2, "that one is still behind");
    cr_expect(world_take(&world)->tenant == 1);
    const struct sched_cost much = {.prompt_tokens = 100, .output_tokens = 50 + 300};
    struct sched_request *second = world_take(&world);
    cr_expect(second->tenant == 1 || second->tenant == 2);
    uint64_t owing = second->tenant;
    queue_settle(world.queue, second, &much, false);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect(world_take(&world)->tenant != owing, "%u", i);
    }
}

Test(queue, removed_request_is_not_charged)
{
    struct sched_request *gone = world_add(&world, 2, 1);
    struct sched_request *second = world_add(&world, 2, 2);
    struct sched_request *first = world_add(&world, 2, 1);
    queue_remove(world.queue, gone);
    cr_expect(world_take(&world) == first);
    cr_expect(world_take(&world) == second);
}

Test(queue, aged_of_lower_classes_take_their_share_of_the_grants_and_no_more)
{
    for (unsigned i = 0; i < 20; i++) {
        world_add(&world, 3, 1);
    }
    world.now += 11 * NANOS_PER_S;
    unsigned lower = 0;
    for (unsigned i = 0; i < 200; i++) {
        world_add(&world, 0, 1);
        struct sched_request *request = world_take(&world);
        cr_expect(request->is_lane_grant == (request->class == 3));
        lower += request->class == 3;
        cr_expect(lower * 100 <= (i + 1) * 5);
        if (request->class == 3) {
            cr_expect(world_take(&world)->class == 0);
            i++;
        }
    }
    cr_expect(lower >= 9, "%u", lower);
    cr_expect(world_figures(&world).aged_grants == lower);
}

Test(queue, aged_share_is_not_for_those_that_have_not_waited_long)
{
    world_add(&world, 3, 1);
    world.now += 9 * NANOS_PER_S;
    for (unsigned i = 0; i < 100; i++) {
        world_add(&world, 0, 1);
        cr_expect(world_take(&world)->class == 0);
    }
}

Test(queue, aged_request_that_is_held_back_takes_the_headroom_of_the_upper_ones_in_its_share)
{
    world_add(&world, 3, 1);
    world.now += 11 * NANOS_PER_S;
    world.room.classes[3].may_pass = false;
    for (unsigned i = 0; i < 19; i++) {
        queue_charge(world.queue, world_request(&world, 0, 1));
        cr_expect(world_next(&world) == NULL);
    }
    queue_charge(world.queue, world_request(&world, 0, 1));
    cr_expect(world_take(&world)->class == 3);
    cr_expect(world_figures(&world).aged_grants == 1);
}

Test(queue, lowest_class_is_served_newest_first_under_overload_only)
{
    queue_destroy(world.queue);
    struct queue_options options = world_options();
    options.lifo_lowest = true;
    world_init(&world, &options);
    struct sched_request *lowest[3];
    for (unsigned i = 0; i < 3; i++) {
        lowest[i] = world_add(&world, 3, 1);
    }
    cr_expect(world_next(&world) == lowest[0]);
    world.room.is_overloaded = true;
    cr_expect(world_take(&world) == lowest[2]);
    struct sched_request *upper = world_add(&world, 2, 1);
    world_add(&world, 2, 1);
    cr_expect(world_take(&world) == upper, "other classes stay in order");
}

Test(queue, earliest_deadline_of_all_is_known)
{
    struct sched_request *request;
    cr_expect(queue_deadline(world.queue, &request) == NANOS_NEVER && request == NULL);
    world_add(&world, 0, 1);
    cr_expect(queue_deadline(world.queue, &request) == NANOS_NEVER && request == NULL);
    struct sched_request *late = world_request(&world, 1, 2);
    late->start_by_ns = 500;
    world_put(&world, late);
    struct sched_request *early = world_request(&world, 3, 3);
    early->start_by_ns = 400;
    world_put(&world, early);
    cr_expect(queue_deadline(world.queue, &request) == 400 && request == early);
    queue_remove(world.queue, early);
    cr_expect(queue_deadline(world.queue, &request) == 500 && request == late);
}

Test(queue, figures_tell_what_waits)
{
    cr_expect(world_figures(&world).oldest_ns == NANOS_NEVER);
    nanos oldest = world.now;
    struct sched_request *first = world_add(&world, 1, 1);
    world.now += 5;
    world_add(&world, 3, 2);
    struct queue_figures figures = world_figures(&world);
    cr_expect(figures.requests == 2 && figures.tokens == 300 && figures.bytes == 2000);
    cr_expect(figures.requests_of_class[1] == 1 && figures.requests_of_class[3] == 1);
    cr_expect(figures.tenants_waiting == 2 && figures.oldest_ns == oldest);
    queue_remove(world.queue, first);
    figures = world_figures(&world);
    cr_expect(figures.requests == 1 && figures.tokens == 150 && figures.oldest_ns == oldest + 5);
    cr_expect(figures.tenants_waiting == 1);
}
