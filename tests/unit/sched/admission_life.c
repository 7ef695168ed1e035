/* Observing, lending, leaving, and when it is to be called. */
#include "admission_world.h"

static struct admission_world world;

static void begin(enum limiter_kind kind, double limit)
{
    struct admission_options options = admission_world_options(kind, limit);
    admission_world_begin(&world, &options);
}

static void begin_kv(double tokens)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 100);
    options.limiter.kv_tokens_max = tokens;
    admission_world_begin(&world, &options);
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

/* ---- observing only ---- */

Test(admission_life, who_only_observes_grants_all_and_says_what_it_would_have_done)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 2);
    options.observe_only = true;
    options.queue.requests_max = 1;
    admission_world_begin(&world, &options);
    for (unsigned i = 0; i < 5; i++) {
        struct asking *asking = asking_of(&world, 2);
        cr_expect(asking_submit(&world, asking));
        cr_expect_not(asking->request.was_blocked);
    }
    baseline_add(&world.admission->baseline, world.now, 100, 20 * NANOS_PER_S, true);
    struct asking *hurried = asking_of(&world, 2);
    hurried->request.deadline_ns = world.now + NANOS_PER_S;
    cr_expect(asking_submit(&world, hurried));
    struct admission_figures figures = admission_world_figures(&world);
    cr_expect_eq(figures.counters.would_have_waited, 4);
    cr_expect_eq(figures.counters.would_have_shed, 1);
    cr_expect_eq(figures.counters.granted_at_once, 6);
    cr_expect_eq(figures.queue.requests, 0);
    end();
}

Test(admission_life, who_only_observes_learns_the_pace_of_those_who_would_have_waited)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 1);
    options.observe_only = true;
    admission_world_begin(&world, &options);
    for (unsigned i = 0; i < 4; i++) {
        asking_submitted(&world, 2);
        for (unsigned k = 0; k < 20; k++) { /* however often it is looked at between them */
            world.now += 5 * NANOS_PER_MS;
            admission_advance(world.admission, world.now);
        }
    }
    for (unsigned is_patient = 0; is_patient < 2; is_patient++) {
        struct asking *asking = asking_of(&world, 2);
        asking->request.deadline_ns = world.now + (is_patient ? NANOS_PER_S : 100 * NANOS_PER_MS);
        asking_submit(&world, asking);
    }
    cr_expect_eq(admission_world_figures(&world).counters.would_have_shed, 1, "four before it, 100 ms each");
    end();
}

/* ---- slots that are lent ---- */

Test(admission_life, what_is_lent_counts_against_the_limit_and_what_is_used_of_it_as_in_flight)
{
    begin(LIMITER_FIXED, 20);
    admission_set_lent(world.admission, 5, 3);
    struct asking *first = asking_submitted(&world, 2);
    cr_expect_eq(first->request.in_flight_at_grant, 3);
    cr_expect_eq(admission_world_fill(&world, 2), 14);
    cr_expect_eq(admission_in_flight(world.admission), 15);
    cr_expect_eq(admission_world_figures(&world).census.in_flight, 18);
    end();
}

Test(admission_life, as_many_may_be_lent_as_nobody_else_may_need)
{
    begin(LIMITER_FIXED, 20);
    cr_expect_eq(admission_lendable(world.admission, world.now), 20);
    asking_submitted(&world, 3);
    admission_set_lent(world.admission, 6, 0);
    cr_expect_eq(admission_lendable(world.admission, world.now), 13);
    have_seen(0);
    cr_expect_eq(admission_lendable(world.admission, world.now), 11, "the headroom is not lent");
    admission_set_pressure(world.admission, 325);
    cr_expect_lt(admission_lendable(world.admission, world.now), 2, "who lends does not know for which class");
    admission_set_pressure(world.admission, 0);
    admission_set_lent(world.admission, 30, 0);
    cr_expect_eq(admission_lendable(world.admission, world.now), -1, "some of it is to come back");
    admission_set_lent(world.admission, 0, 0);
    end();
}

Test(admission_life, nothing_is_lent_while_somebody_waits_or_the_backend_has_asked_for_a_pause)
{
    begin(LIMITER_FIXED, 20);
    have_seen(0);
    asking_refuse(&world, asking_submitted(&world, 2), NANOS_PER_S);
    cr_expect_eq(admission_lendable(world.admission, world.now), -1);
    world.now += NANOS_PER_S;
    cr_expect_gt(admission_lendable(world.admission, world.now), 0);
    admission_world_fill(&world, 3);
    struct asking *waiting = asking_submitted(&world, 3);
    cr_expect_eq(waiting->request.state, SCHED_QUEUED);
    cr_expect_eq(admission_lendable(world.admission, world.now), -1, "though there is headroom");
    end();
}

Test(admission_life, nothing_is_lent_where_the_count_alone_does_not_decide)
{
    begin_kv(1500);
    for (unsigned i = 0; i < 6; i++) {
        asking_submitted(&world, 2);
    }
    cr_expect_eq(admission_lendable(world.admission, world.now), 0);
    end();
    begin(LIMITER_EXCESS, 100);
    baseline_add(&world.admission->baseline, world.now, 100, 50 * NANOS_PER_MS, true);
    world.admission->limiter.prefill_ns = 200 * NANOS_PER_MS;
    for (unsigned i = 0; i < 3; i++) {
        asking_submitted(&world, 2);
    }
    cr_expect_eq(admission_lendable(world.admission, world.now), 0);
    end();
}

/* ---- leaving ---- */

Test(admission_life, one_may_leave_in_any_state)
{
    begin(LIMITER_FIXED, 2);
    struct asking *running = asking_submitted(&world, 2);
    struct asking *pending = asking_submitted(&world, 2);
    struct asking *queued = asking_submitted(&world, 2);
    struct asking *next = asking_submitted(&world, 2);
    asking_first_token(&world, running);
    cr_assert_eq(running->request.state, SCHED_RUNNING);
    cr_assert_eq(pending->request.state, SCHED_PENDING);
    cr_assert_eq(queued->request.state, SCHED_QUEUED);
    struct asking *all[] = {queued, pending, running, next};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned again = 0; again < 2; again++) {
            admission_cancel(world.admission, world.now, &all[i]->request);
            cr_expect_eq(all[i]->request.state, SCHED_OUT);
        }
    }
    cr_expect_eq(next->granted, 1);
    cr_expect_eq(queued->granted, 0);
    cr_expect(admission_at_rest(world.admission));
    struct admission_counters counters = admission_world_figures(&world).counters;
    cr_expect_eq(counters.canceled, 1, "of those that waited");
    cr_expect_eq(counters.released, 3);
    end();
}

Test(admission_life, one_that_leaves_lets_go_who_waited_behind_it)
{
    begin_kv(1500);
    struct asking *first = asking_of(&world, 2);
    first->request.cost.prompt_tokens = 1000;
    asking_submit(&world, first);
    struct asking *big = asking_of(&world, 2);
    big->request.cost = (struct sched_cost){.prompt_tokens = 900, .output_tokens = 100};
    asking_submit(&world, big);
    struct asking *passing[8];
    for (unsigned i = 0; i < 8; i++) { /* until the lane past the big one is used up */
        passing[i] = asking_submitted(&world, 2);
    }
    cr_assert_eq(passing[7]->request.state, SCHED_QUEUED);
    unsigned before = world.turns;
    admission_cancel(world.admission, world.now, &big->request);
    cr_expect_gt(world.turns, before);
    end();
}

Test(admission_life, nothing_may_be_released_twice, .signal = SIGABRT)
{
    begin(LIMITER_FIXED, 2);
    struct asking *asking = asking_submitted(&world, 2);
    asking_release(&world, asking);
    asking_release(&world, asking);
}

Test(admission_life, what_waits_is_not_released, .signal = SIGABRT)
{
    begin(LIMITER_FIXED, 1);
    asking_submitted(&world, 2);
    asking_release(&world, asking_submitted(&world, 2));
}

Test(admission_life, nothing_is_submitted_twice, .signal = SIGABRT)
{
    begin(LIMITER_FIXED, 2);
    asking_submit(&world, asking_submitted(&world, 2));
}

Test(admission_life, an_admission_with_somebody_in_it_is_not_destroyed, .signal = SIGABRT)
{
    begin(LIMITER_FIXED, 2);
    asking_submitted(&world, 2);
    cr_expect_not(admission_at_rest(world.admission));
    admission_destroy(world.admission);
}

/* ---- time ---- */

Test(admission_life, asks_to_be_called_only_while_there_is_something_to_do)
{
    begin(LIMITER_FIXED, 1);
    cr_expect_eq(admission_next_ns(world.admission), NANOS_NEVER);
    struct asking *running = asking_submitted(&world, 2);
    cr_expect_eq(admission_next_ns(world.admission), world.now + world.admission->limiter.period_ns);
    struct asking *waiting = asking_of(&world, 2);
    waiting->request.deadline_ns = world.now + 100 * NANOS_PER_MS;
    asking_submit(&world, waiting);
    cr_expect_eq(admission_next_ns(world.admission), world.now + 100 * NANOS_PER_MS);
    asking_refuse(&world, running, 10 * NANOS_PER_S);
    admission_world_pass(&world, NANOS_PER_S);
    cr_expect_eq(admission_next_ns(world.admission), NANOS_NEVER, "nobody waits for the pause to end");
    struct asking *after = asking_submitted(&world, 2);
    cr_expect_eq(after->request.state, SCHED_QUEUED);
    admission_world_pass(&world, 9 * NANOS_PER_S - 1);
    cr_expect_eq(after->request.state, SCHED_QUEUED);
    cr_expect_eq(admission_next_ns(world.admission), world.now + 1);
    admission_world_pass(&world, 1);
    cr_expect_eq(after->granted, 1, "to the nanosecond");
    end();
}

Test(admission_life, says_how_long_one_would_wait_and_how_far_off_it_was)
{
    begin(LIMITER_FIXED, 1);
    cr_expect_eq(admission_world_figures(&world).predicted_wait_ns, 0);
    struct asking *running = asking_submitted(&world, 1);
    struct asking *waiting[40];
    for (unsigned i = 0; i < 40; i++) {
        waiting[i] = asking_submitted(&world, 1);
    }
    for (unsigned i = 0; i < 30; i++) {
        world.now += 100 * NANOS_PER_MS;
        asking_release(&world, running);
        running = waiting[i];
    }
    double predicted_ms = (double)admission_world_figures(&world).predicted_wait_ns / 1e6;
    cr_expect(predicted_ms > 1000 && predicted_ms < 1200, "%.0f: ten and itself, 100 ms each", predicted_ms);
    cr_expect_gt(admission_world_figures(&world).wait_error, 0.9, "nothing was known when they came");
    end();
}
