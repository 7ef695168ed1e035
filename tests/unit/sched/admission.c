/* Who is granted, and who waits for what: the bounds and the order. */
#include "admission_world.h"

static struct admission_world world;

static void begin(enum limiter_kind kind, double limit)
{
    struct admission_options options = admission_world_options(kind, limit);
    admission_world_begin(&world, &options);
}

/* What a prompt of 100 tokens takes without load, and so in proportion. */
static void know_base(nanos base_ns)
{
    baseline_add(&world.admission->baseline, world.now, 100, base_ns, true);
    cr_assert_eq(baseline_of(&world.admission->baseline, 100), base_ns);
}

/* One of this class has come a moment ago, and is over. */
static void have_seen(unsigned class)
{
    struct asking *asking = asking_submitted(&world, class);
    admission_cancel(world.admission, world.now, &asking->request);
}

static void end(void)
{
    admission_world_end(&world);
}

/* ---- at once, or later ---- */

Test(admission, grants_at_once_while_there_is_room_and_queues_the_next)
{
    begin(LIMITER_FIXED, 2);
    struct asking *first = asking_of(&world, 2);
    cr_expect(asking_submit(&world, first));
    cr_expect_eq(first->request.state, SCHED_PENDING);
    cr_expect_eq(first->granted, 0, "the return says it, no call");
    cr_expect(asking_submit(&world, asking_of(&world, 2)));
    struct asking *third = asking_of(&world, 2);
    cr_expect_not(asking_submit(&world, third));
    cr_expect_eq(third->request.state, SCHED_QUEUED);
    cr_expect(third->request.was_blocked);
    cr_expect_not(first->request.was_blocked);
    asking_release(&world, first);
    cr_expect_eq(first->request.state, SCHED_OUT);
    cr_expect_eq(third->granted, 1);
    cr_expect_eq(third->request.state, SCHED_PENDING);
    end();
}

Test(admission, one_that_has_no_first_token_to_show_runs_from_its_grant_on)
{
    begin(LIMITER_FIXED, 1);
    struct asking *whole = asking_of(&world, 2);
    whole->request.is_streamed = false;
    cr_assert(asking_submit(&world, whole));
    cr_expect_eq(whole->request.state, SCHED_RUNNING);
    cr_expect_eq(world.admission->census.running, 1);
    cr_expect_eq(world.admission->census.streaming, 0);
    asking_first_token(&world, whole);
    cr_expect_eq(whole->request.first_token_ns, 0, "it has none");
    asking_release(&world, whole);
    end();
}

Test(admission, who_waits_goes_by_class_then_by_deadline_then_as_they_came)
{
    begin(LIMITER_FIXED, 1);
    struct asking *running = asking_submitted(&world, 0);
    struct asking *order[6];
    order[5] = asking_submitted(&world, 3);
    order[3] = asking_submitted(&world, 1);
    order[4] = asking_submitted(&world, 1);
    order[2] = asking_of(&world, 1);
    order[2]->request.deadline_ns = world.now + 9 * NANOS_PER_S;
    asking_submit(&world, order[2]);
    order[1] = asking_of(&world, 1);
    order[1]->request.deadline_ns = world.now + 5 * NANOS_PER_S;
    asking_submit(&world, order[1]);
    order[0] = asking_submitted(&world, 0);
    for (unsigned i = 0; i < 6; i++) {
        world.now += NANOS_PER_MS;
        asking_release(&world, running);
        cr_expect_eq(order[i]->turn, i + 1);
        running = order[i];
    }
    end();
}

Test(admission, who_comes_later_does_not_pass_those_who_wait_though_there_is_room)
{
    begin(LIMITER_FIXED, 2);
    struct asking *first = asking_submitted(&world, 2);
    asking_submitted(&world, 2);
    struct asking *waiting = asking_submitted(&world, 2);
    asking_refuse(&world, first, NANOS_PER_S); /* a slot is free, and nobody may go */
    world.now += 2 * NANOS_PER_S;              /* the pause is over, which nobody has noticed */
    struct asking *late = asking_of(&world, 2);
    cr_expect_not(asking_submit(&world, late));
    cr_expect_eq(waiting->turn, 1);
    cr_expect_eq(late->request.state, SCHED_QUEUED);
    end();
}

Test(admission, one_of_an_upper_class_passes_those_of_a_lower_one_that_wait_for_its_headroom)
{
    begin(LIMITER_FIXED, 10);
    have_seen(0);
    admission_world_fill(&world, 3);
    struct asking *low = asking_submitted(&world, 3);
    cr_expect_eq(low->request.state, SCHED_QUEUED);
    cr_expect(asking_submit(&world, asking_of(&world, 0)));
    cr_expect_eq(low->request.state, SCHED_QUEUED);
    end();
}

/* ---- headroom by count ---- */

Test(admission, lower_classes_leave_a_part_of_the_limit_free_while_an_upper_one_is_in_use)
{
    begin(LIMITER_FIXED, 20);
    cr_expect_eq(admission_world_fill(&world, 3), 20, "nobody to leave it for");
    end();
    begin(LIMITER_FIXED, 20);
    have_seen(0);
    cr_expect_eq(admission_world_fill(&world, 3), 18);
    cr_expect_eq(admission_world_fill(&world, 2), 0);
    cr_expect(world.admission->census.blocked_by_headroom);
    cr_expect_not(world.admission->census.blocked_by_count);
    cr_expect_eq(admission_world_fill(&world, 0), 2);
    cr_expect(world.admission->census.blocked_by_count);
    end();
}

Test(admission, headroom_is_given_up_a_minute_after_the_last_of_an_upper_class)
{
    begin(LIMITER_FIXED, 20);
    have_seen(1);
    struct asking *first = asking_submitted(&world, 3);
    cr_expect_eq(admission_world_fill(&world, 3), 17);
    struct asking *waiting = asking_submitted(&world, 3);
    admission_world_pass(&world, 59 * NANOS_PER_S);
    cr_expect_eq(waiting->request.state, SCHED_QUEUED);
    admission_world_pass(&world, 2 * NANOS_PER_S);
    cr_expect_eq(waiting->granted, 1, "no request is needed to notice it");
    asking_release(&world, first);
    end();
}

Test(admission, a_limit_of_one_is_no_dead_end_for_lower_classes)
{
    begin(LIMITER_FIXED, 1);
    have_seen(0);
    cr_expect_eq(admission_world_fill(&world, 3), 1);
    end();
}

Test(admission, the_highest_class_goes_a_quarter_beyond_what_was_learned)
{
    begin(LIMITER_EXCESS, 20);
    cr_assert_eq(admission_world_fill(&world, 3), 20);
    cr_expect_eq(admission_world_fill(&world, 1), 5);
    cr_expect_eq(admission_world_fill(&world, 0), 0, "it is the limit for all of them together");
    end();
    begin(LIMITER_EXCESS, 20);
    have_seen(3);
    cr_expect_eq(admission_world_fill(&world, 0), 20, "those like it alone stay within it");
    end();
    begin(LIMITER_EXCESS, 20);
    cr_expect_eq(admission_world_fill(&world, 0), 20, "nobody is below");
    end();
}

Test(admission, nobody_goes_beyond_a_limit_that_somebody_has_set)
{
    begin(LIMITER_FIXED, 20);
    cr_assert_eq(admission_world_fill(&world, 3), 20);
    cr_expect_eq(admission_world_fill(&world, 0), 0);
    end();
    struct admission_options options = admission_world_options(LIMITER_EXCESS, 20);
    options.limiter.max = 22;
    admission_world_begin(&world, &options);
    cr_assert_eq(admission_world_fill(&world, 3), 20);
    cr_expect_eq(admission_world_fill(&world, 0), 2, "not beyond the most either");
    end();
}

/* ---- prefill ---- */

Test(admission, prefill_that_is_pending_is_bounded)
{
    begin(LIMITER_EXCESS, 100);
    know_base(50 * NANOS_PER_MS);
    world.admission->limiter.prefill_ns = 200 * NANOS_PER_MS;
    struct asking *first = asking_submitted(&world, 2);
    cr_expect_eq(admission_world_fill(&world, 2), 3);
    cr_expect(world.admission->census.blocked_by_prefill);
    cr_expect_not(world.admission->census.blocked_by_count);
    struct asking *waiting = asking_submitted(&world, 2);
    cr_expect_eq(waiting->request.state, SCHED_QUEUED);
    asking_first_token(&world, first);
    cr_expect_eq(waiting->granted, 1, "each first token lets the next one go");
    cr_expect_eq(waiting->request.ahead_ns, 150 * NANOS_PER_MS);
    end();
}

Test(admission, one_alone_goes_however_long_its_prefill_is)
{
    begin(LIMITER_EXCESS, 100);
    know_base(900 * NANOS_PER_MS);
    world.admission->limiter.prefill_ns = 200 * NANOS_PER_MS;
    cr_expect_eq(admission_world_fill(&world, 2), 1);
    end();
}

Test(admission, lower_classes_have_a_quarter_of_the_prefill_and_the_highest_is_not_held_up)
{
    begin(LIMITER_EXCESS, 100);
    know_base(50 * NANOS_PER_MS);
    world.admission->limiter.prefill_ns = 400 * NANOS_PER_MS;
    have_seen(0);
    cr_expect_eq(admission_world_fill(&world, 3), 2);
    struct asking *high[20];
    for (unsigned i = 0; i < 20; i++) {
        high[i] = asking_of(&world, 0);
        cr_expect(asking_submit(&world, high[i]), "%u", i);
    }
    end();
}

Test(admission, a_large_prompt_waits_for_the_one_before_it_and_small_ones_do_not)
{
    begin(LIMITER_EXCESS, 100);
    struct asking *large[3];
    for (unsigned i = 0; i < 3; i++) {
        large[i] = asking_of(&world, 2);
        large[i]->request.cost.prompt_tokens = 5000;
        asking_submit(&world, large[i]);
    }
    cr_expect_eq(large[0]->request.state, SCHED_PENDING);
    cr_expect_eq(large[1]->request.state, SCHED_QUEUED);
    struct asking *small = asking_submitted(&world, 2);
    cr_expect_eq(small->request.state, SCHED_PENDING);
    asking_first_token(&world, large[0]);
    cr_expect_eq(large[1]->request.state, SCHED_PENDING);
    cr_expect_eq(large[2]->request.state, SCHED_QUEUED);
    asking_release(&world, large[1]);
    cr_expect_eq(large[2]->request.state, SCHED_PENDING);
    end();
}

Test(admission, cached_tokens_make_no_prompt_large)
{
    begin(LIMITER_EXCESS, 100);
    for (unsigned i = 0; i < 3; i++) {
        struct asking *asking = asking_of(&world, 2);
        asking->request.cost = (struct sched_cost){.prompt_tokens = 5000, .cached_tokens = 4500, .output_tokens = 1};
        cr_expect(asking_submit(&world, asking));
    }
    end();
}

Test(admission, a_large_prompt_of_a_lower_class_goes_only_where_nothing_else_is_pending)
{
    begin(LIMITER_EXCESS, 100);
    have_seen(0);
    struct asking *small = asking_submitted(&world, 3);
    struct asking *low = asking_of(&world, 3);
    low->request.cost.prompt_tokens = 5000;
    cr_expect_not(asking_submit(&world, low));
    for (unsigned i = 0; i < 3; i++) {
        struct asking *high = asking_of(&world, 0);
        high->request.cost.prompt_tokens = 5000;
        cr_expect(asking_submit(&world, high), "of the highest they are not counted: %u", i);
        asking_first_token(&world, high);
    }
    asking_first_token(&world, small);
    cr_expect_eq(low->request.state, SCHED_PENDING);
    end();
}

/* ---- memory of the backend ---- */

static void begin_kv(double tokens)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 100);
    options.limiter.kv_tokens_max = tokens;
    admission_world_begin(&world, &options);
}

Test(admission, kv_tokens_in_flight_are_bounded_and_a_part_is_left_for_the_highest)
{
    begin_kv(1500);
    cr_expect_eq(admission_world_fill(&world, 2), 10);
    cr_expect(world.admission->census.blocked_by_kv);
    cr_expect_not(world.admission->census.blocked_by_count);
    end();
    begin_kv(1500);
    have_seen(0);
    cr_expect_eq(admission_world_fill(&world, 2), 9);
    cr_expect_eq(admission_world_fill(&world, 0), 1);
    end();
}

Test(admission, one_alone_goes_however_much_memory_it_takes)
{
    begin_kv(1000);
    struct asking *huge = asking_of(&world, 2);
    huge->request.cost = (struct sched_cost){.prompt_tokens = 100000, .output_tokens = UINT32_MAX};
    cr_expect(asking_submit(&world, huge));
    cr_expect_not(asking_submit(&world, asking_of(&world, 2)));
    end();
}

Test(admission, no_bound_on_memory_stays_none_with_a_part_of_it_held_back)
{
    begin(LIMITER_EXCESS, 50); /* infinity less a part of it was not a number once, and let nobody go */
    cr_assert(isinf(world.admission->limiter.kv_tokens));
    have_seen(0);
    cr_expect_eq(admission_world_fill(&world, 3), 45);
    cr_expect_not(world.admission->census.blocked_by_kv);
    end();
}

Test(admission, small_ones_go_past_one_that_does_not_fit_into_memory)
{
    begin_kv(1500);
    asking_submitted(&world, 2);
    struct asking *big = asking_of(&world, 2);
    big->request.cost = (struct sched_cost){.prompt_tokens = 900, .output_tokens = 900};
    cr_expect_not(asking_submit(&world, big));
    struct asking *small = asking_of(&world, 2);
    cr_expect_not(asking_submit(&world, small), "by the queue, not at once");
    cr_expect_eq(small->granted, 1);
    cr_expect(small->request.is_lane_grant);
    end();
}

/* ---- pressure of this machine ---- */

static unsigned fill_under(uint32_t pressure_milli, unsigned class)
{
    begin(LIMITER_FIXED, 100);
    admission_set_pressure(world.admission, pressure_milli);
    unsigned granted = admission_world_fill(&world, class);
    end();
    return granted;
}

Test(admission, pressure_lowers_the_lowest_class_first)
{
    static const struct {
        uint32_t milli;
        unsigned of_class[SCHED_CLASSES];
    } all[] = {
        {0, {100, 100, 100, 100}}, {100, {100, 100, 100, 100}}, {325, {100, 100, 100, 50}}, {500, {100, 100, 100, 11}},
        {625, {100, 100, 50, 0}},  {850, {100, 50, 0, 0}},      {1000, {100, 0, 0, 0}},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(all); i++) {
        for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
            unsigned granted = fill_under(all[i].milli, class);
            cr_expect(abs((int)granted - (int)all[i].of_class[class]) <= 1, "%u of class %u at %u", granted, class,
                      all[i].milli);
        }
    }
}

Test(admission, who_waits_for_pressure_to_end_goes_when_it_does)
{
    begin(LIMITER_FIXED, 4);
    admission_set_pressure(world.admission, 400);
    struct asking *running = asking_submitted(&world, 3);
    struct asking *waiting = asking_submitted(&world, 3);
    cr_expect_eq(waiting->request.state, SCHED_QUEUED);
    admission_set_pressure(world.admission, 0);
    admission_world_pass(&world, NANOS_PER_S);
    cr_expect_eq(waiting->granted, 1);
    asking_release(&world, running);
    end();
}
