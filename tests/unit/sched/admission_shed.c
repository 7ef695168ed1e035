/* Who is turned away, why, and when it is worth trying again. */
#include "admission_world.h"

static struct admission_world world;

static void begin(double limit)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, limit);
    admission_world_begin(&world, &options);
}

static void end(void)
{
    admission_world_end(&world);
}

static struct asking *hurried(unsigned class, nanos within_ns)
{
    struct asking *asking = asking_of(&world, class);
    asking->request.deadline_ns = world.now + within_ns;
    asking_submit(&world, asking);
    return asking;
}

static void expect_shed(const struct asking *asking, enum sched_shed why)
{
    cr_expect_eq(asking->shed, 1);
    cr_expect_eq(asking->granted, 0);
    cr_expect_eq(asking->request.state, SCHED_OUT);
    cr_expect_eq(asking->why, why, "%s, not %s", sched_shed_name(asking->why), sched_shed_name(why));
    cr_expect_gt(asking->retry_after_ns, 0, "%s: at once is never worth it", sched_shed_name(why));
    cr_expect_eq(world.admission->counters.shed[why] > 0, true);
}

/* One a second leaves, ten times, so that the pace is known; `waiting` of class 1 are left, and one runs. */
static struct asking *find_pace(unsigned waiting)
{
    struct asking *running = asking_submitted(&world, 1);
    struct asking *others[64];
    for (unsigned i = 0; i < waiting + 10; i++) {
        others[i] = asking_submitted(&world, 1);
    }
    for (unsigned i = 0; i < 10; i++) {
        world.now += NANOS_PER_S;
        asking_release(&world, running);
        running = others[i];
    }
    return running;
}

/* ---- deadlines ---- */

Test(admission_shed, at_arrival_who_would_wait_for_longer_than_its_deadline_allows)
{
    begin(1);
    find_pace(4);
    struct asking *late = hurried(2, 2 * NANOS_PER_S);
    expect_shed(late, SCHED_SHED_LATE_ARRIVAL);
    cr_expect(late->retry_after_ns > 4 * NANOS_PER_S && late->retry_after_ns < 6 * NANOS_PER_S,
              "after those who wait: %.2f s", (double)late->retry_after_ns / 1e9);
    cr_expect_eq(hurried(2, 20 * NANOS_PER_S)->request.state, SCHED_QUEUED);
    cr_expect_eq(asking_submitted(&world, 2)->request.state, SCHED_QUEUED, "who has no deadline waits");
    cr_expect_eq(hurried(0, 2 * NANOS_PER_S)->request.state, SCHED_QUEUED, "nobody is ahead of an upper class");
    end();
}

Test(admission_shed, at_arrival_by_what_its_first_token_takes_as_well_as_by_its_wait)
{
    begin(1);
    find_pace(1);
    baseline_add(&world.admission->baseline, world.now, 100, 20 * NANOS_PER_S, true);
    expect_shed(hurried(2, 9 * NANOS_PER_S), SCHED_SHED_LATE_ARRIVAL);
    cr_expect_eq(hurried(2, 15 * NANOS_PER_S)->request.state, SCHED_QUEUED);
    end();
}

Test(admission_shed, at_its_turn_who_can_no_longer_make_it)
{
    begin(1);
    struct asking *running = asking_submitted(&world, 2);
    struct asking *late = hurried(2, 3 * NANOS_PER_S);
    struct asking *next = asking_submitted(&world, 2);
    baseline_add(&world.admission->baseline, world.now, 100, 4 * NANOS_PER_S, true);
    world.now += 1500 * NANOS_PER_MS;
    asking_release(&world, running);
    expect_shed(late, SCHED_SHED_LATE_DISPATCH);
    cr_expect_eq(next->granted, 1, "the place is the next one's");
    end();
}

/* So much longer than its base a first token takes while others wait. */
static void find_margin(nanos excess_ns)
{
    struct asking *running = asking_submitted(&world, 2);
    for (unsigned i = 0; i < 100; i++) {
        baseline_add(&world.admission->baseline, world.now, 100, NANOS_PER_MS, true);
        struct asking *next = asking_submitted(&world, 2);
        world.now += NANOS_PER_S;
        asking_release(&world, running);
        world.now += excess_ns;
        asking_first_token(&world, next);
        running = next;
    }
    asking_release(&world, running);
}

Test(admission_shed, not_who_may_just_make_it_but_others_go_before)
{
    begin(1);
    find_margin(500 * NANOS_PER_MS);
    struct asking *running = asking_submitted(&world, 2);
    struct asking *doubtful[2] = {hurried(2, 2000 * NANOS_PER_MS), hurried(2, 2100 * NANOS_PER_MS)};
    struct asking *sure = hurried(2, 4 * NANOS_PER_S);
    world.now += 1700 * NANOS_PER_MS;
    asking_release(&world, running);
    cr_expect_eq(sure->granted, 1);
    cr_expect_eq(doubtful[0]->request.state, SCHED_QUEUED);
    cr_expect_eq(doubtful[1]->request.state, SCHED_QUEUED);
    asking_release(&world, sure);
    cr_expect_eq(doubtful[1]->granted, 1, "the likelier one of them");
    admission_world_pass(&world, NANOS_PER_S);
    expect_shed(doubtful[0], SCHED_SHED_LATE_DISPATCH);
    end();
}

Test(admission_shed, nobody_whose_deadline_only_bounds_the_wait_for_what_the_backend_takes)
{
    begin(1);
    struct asking *running = find_pace(0);
    baseline_add(&world.admission->baseline, world.now, 100, 100 * NANOS_PER_S, true);
    world.admission->limiter.excess_ns = 100 * NANOS_PER_S;
    struct asking *patient[2];
    for (unsigned i = 0; i < 2; i++) {
        patient[i] = asking_of(&world, 2);
        patient[i]->request.deadline_ns = world.now + 60 * NANOS_PER_S;
        patient[i]->request.is_patient = true;
        cr_expect_not(asking_submit(&world, patient[i]));
        cr_expect_eq(patient[i]->request.state, SCHED_QUEUED);
    }
    admission_world_pass(&world, 59 * NANOS_PER_S);
    asking_release(&world, running);
    cr_expect_eq(patient[0]->granted, 1);
    admission_world_pass(&world, NANOS_PER_S);
    expect_shed(patient[1], SCHED_SHED_LATE_DISPATCH);
    end();
}

Test(admission_shed, in_the_queue_at_the_moment_when_it_is_too_late)
{
    begin(1);
    baseline_add(&world.admission->baseline, world.now, 100, 2 * NANOS_PER_S, true); /* half of it is certain */
    asking_submitted(&world, 2);
    struct asking *late = hurried(2, 3 * NANOS_PER_S);
    cr_expect_eq(late->request.start_by_ns, world.now + 2 * NANOS_PER_S);
    admission_world_pass(&world, 2 * NANOS_PER_S - 1);
    cr_expect_eq(late->request.state, SCHED_QUEUED);
    admission_world_pass(&world, 1);
    expect_shed(late, SCHED_SHED_LATE_DISPATCH);
    end();
}

Test(admission_shed, one_whose_deadline_is_shorter_than_a_first_token_takes_does_not_wait)
{
    begin(1);
    baseline_add(&world.admission->baseline, world.now, 100, 3 * NANOS_PER_S, true);
    asking_submitted(&world, 2);
    struct asking *hopeless = hurried(2, NANOS_PER_S);
    admission_world_pass(&world, 0);
    expect_shed(hopeless, SCHED_SHED_LATE_DISPATCH);
    end();
}

/* A pace that is not true any more must correct itself, though it says that nobody will make it. */
Test(admission_shed, predictions_that_have_become_wrong_do_not_turn_everyone_away_for_ever)
{
    begin(1);
    world.admission->grant_gap_ns = 100e9; /* as after a long stall */
    struct asking *running = NULL;
    unsigned granted = 0;
    nanos over_ns = NANOS_NEVER;
    nanos second = world.now;
    for (unsigned i = 0; i < 12 * 30; i++) {
        nanos arrival = second + i * NANOS_PER_S / 12;
        for (world.now = over_ns < arrival ? over_ns : arrival; world.now < arrival;) {
            asking_release(&world, running); /* one each 100 ms, and twelve a second come */
            running = NULL;
            for (unsigned k = 0; k < world.used && running == NULL; k++) {
                running = world.askings[k].request.state == SCHED_PENDING ? &world.askings[k] : NULL;
            }
            over_ns = running == NULL ? NANOS_NEVER : world.now + 100 * NANOS_PER_MS;
            granted += running != NULL && i >= 12 * 15;
            world.now = over_ns < arrival ? over_ns : arrival;
        }
        admission_advance(world.admission, world.now);
        struct asking *asking = hurried(2, NANOS_PER_S);
        if (asking->request.state == SCHED_PENDING && running == NULL) {
            running = asking;
            over_ns = world.now + 100 * NANOS_PER_MS;
        }
    }
    cr_expect_gt(granted, 140, "%u in 15 s", granted);
    end();
}

/* ---- bounds of the queue ---- */

static void begin_queue(uint32_t requests_max, uint32_t tenant_share_percent)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 1);
    options.queue.requests_max = requests_max;
    options.queue.tenant_share_percent = tenant_share_percent;
    options.queue.tokens_max = 100000;
    admission_world_begin(&world, &options);
}

Test(admission_shed, the_new_one_when_the_queue_is_full_of_its_like)
{
    begin_queue(3, 100);
    for (unsigned i = 0; i < 4; i++) {
        cr_expect_eq(asking_submitted(&world, 2)->shed, 0);
    }
    expect_shed(asking_submitted(&world, 2), SCHED_SHED_QUEUE_FULL);
    expect_shed(asking_submitted(&world, 3), SCHED_SHED_QUEUE_FULL);
    end();
}

Test(admission_shed, one_of_a_lower_class_makes_room)
{
    begin_queue(3, 100);
    struct asking *all[4];
    for (unsigned i = 0; i < 4; i++) {
        all[i] = asking_submitted(&world, i == 3 ? 3 : 2);
    }
    struct asking *high = asking_submitted(&world, 0);
    cr_expect_eq(high->request.state, SCHED_QUEUED);
    expect_shed(all[3], SCHED_SHED_EVICTED);
    cr_expect_eq(all[1]->shed + all[2]->shed, 0);
    cr_expect_eq(world.admission->counters.shed_of_class[3], 1);
    end();
}

Test(admission_shed, a_tenant_that_would_hold_more_than_its_share_of_the_queue)
{
    begin_queue(4, 50);
    asking_submitted(&world, 2);
    struct asking *other = asking_of(&world, 2);
    other->request.tenant = 2;
    asking_submit(&world, other);
    cr_expect_eq(asking_submitted(&world, 2)->request.state, SCHED_QUEUED);
    cr_expect_eq(asking_submitted(&world, 2)->request.state, SCHED_QUEUED);
    expect_shed(asking_submitted(&world, 2), SCHED_SHED_TENANT_SHARE);
    end();
}

Test(admission_shed, one_that_is_larger_than_the_queue_may_ever_hold)
{
    begin_queue(4, 100);
    asking_submitted(&world, 2);
    struct asking *huge = asking_of(&world, 0);
    huge->request.cost.prompt_tokens = 200000;
    asking_submit(&world, huge);
    expect_shed(huge, SCHED_SHED_TOO_LARGE);
    end();
}

/* ---- this machine, and the backend ---- */

Test(admission_shed, a_class_of_which_pressure_leaves_nothing)
{
    begin(10);
    admission_set_pressure(world.admission, 600);
    struct asking *low = asking_submitted(&world, 3);
    expect_shed(low, SCHED_SHED_PRESSURE);
    cr_expect_geq(low->retry_after_ns, NANOS_PER_S, "it takes seconds to pass");
    cr_expect(asking_submit(&world, asking_of(&world, 2)));
    admission_set_pressure(world.admission, 1000);
    expect_shed(asking_submitted(&world, 2), SCHED_SHED_PRESSURE);
    expect_shed(asking_submitted(&world, 1), SCHED_SHED_PRESSURE);
    cr_expect(asking_submit(&world, asking_of(&world, 0)));
    end();
}

Test(admission_shed, who_cannot_wait_for_as_long_as_the_backend_asks)
{
    begin(10);
    struct asking *running = asking_submitted(&world, 2);
    asking_refuse(&world, asking_submitted(&world, 2), 10 * NANOS_PER_S);
    struct asking *hasty = hurried(0, 5 * NANOS_PER_S);
    expect_shed(hasty, SCHED_SHED_BACKEND_BUSY);
    cr_expect_eq(hasty->retry_after_ns, 10 * NANOS_PER_S);
    struct asking *patient = hurried(2, 20 * NANOS_PER_S);
    struct asking *calm = asking_submitted(&world, 2);
    asking_release(&world, running);
    admission_world_pass(&world, 10 * NANOS_PER_S - 1);
    cr_expect_eq(patient->request.state, SCHED_QUEUED, "nobody goes before it is over");
    cr_expect_eq(calm->request.state, SCHED_QUEUED);
    admission_world_pass(&world, 1);
    cr_expect_eq(patient->granted, 1);
    cr_expect_eq(calm->granted, 1);
    end();
}

Test(admission_shed, the_longest_of_several_pauses_holds)
{
    begin(10);
    struct asking *others[3] = {asking_submitted(&world, 2), asking_submitted(&world, 2), asking_submitted(&world, 2)};
    asking_refuse(&world, others[0], 10 * NANOS_PER_S);
    asking_refuse(&world, others[1], 2 * NANOS_PER_S);
    asking_refuse(&world, others[2], 0);
    struct asking *waiting = asking_submitted(&world, 2);
    admission_world_pass(&world, 9 * NANOS_PER_S);
    cr_expect_eq(waiting->request.state, SCHED_QUEUED);
    admission_world_pass(&world, NANOS_PER_S);
    cr_expect_eq(waiting->granted, 1);
    end();
}

Test(admission_shed, a_refusal_without_a_pause_stops_nobody)
{
    begin(10);
    asking_refuse(&world, asking_submitted(&world, 2), 0);
    cr_expect(asking_submit(&world, asking_of(&world, 2)));
    end();
}

Test(admission_shed, nobody_is_sent_away_for_more_than_a_minute_on_a_guess)
{
    begin(1);
    asking_submitted(&world, 2);
    for (unsigned i = 0; i < 50; i++) {
        asking_submitted(&world, 2);
    }
    world.admission->grant_gap_ns = 30e9;
    struct asking *late = hurried(2, 5 * NANOS_PER_S);
    expect_shed(late, SCHED_SHED_LATE_ARRIVAL);
    cr_expect_eq(late->retry_after_ns, 60 * NANOS_PER_S);
    end();
}
