/* What becomes of the granted, and what is learned of it. */
#include "admission_world.h"

static struct admission_world world;

/* A limiter that says nothing and notes what it is told. */
static struct limiter_census ticked;
static struct limiter_end ended;
static struct limiter_sample sampled;
static unsigned ticks, ends, samples, refusals;

static void spy_on_first_token(struct limiter *limiter, nanos now, const struct limiter_sample *sample)
{
    (void)limiter;
    (void)now;
    sampled = *sample;
    samples++;
}

static void spy_on_end(struct limiter *limiter, nanos now, const struct limiter_end *end,
                       const struct limiter_census *census)
{
    (void)limiter;
    (void)now;
    (void)census;
    ended = *end;
    ends++;
}

static void spy_on_refused(struct limiter *limiter, nanos now, nanos granted_ns, const struct limiter_census *census)
{
    (void)limiter;
    (void)now;
    (void)granted_ns;
    (void)census;
    refusals++;
}

static void spy_tick(struct limiter *limiter, nanos now, const struct limiter_census *census)
{
    (void)limiter;
    (void)now;
    ticked = *census;
    ticks++;
}

static const struct limiter_ops spy = {.name = "spy",
                                       .on_first_token = spy_on_first_token,
                                       .on_end = spy_on_end,
                                       .on_refused = spy_on_refused,
                                       .tick = spy_tick};

static void begin_with(struct admission_options options)
{
    admission_world_begin(&world, &options);
    world.admission->limiter.ops = &spy;
}

static void begin(double limit)
{
    begin_with(admission_world_options(LIMITER_FIXED, limit));
}

static void end(void)
{
    admission_world_end(&world);
}

static const struct limiter_census *census(void)
{
    return &world.admission->census;
}

static nanos base(void)
{
    return baseline_of(&world.admission->baseline, 100);
}

static struct asking *whole_submitted(void)
{
    struct asking *asking = asking_of(&world, 2);
    asking->request.is_streamed = false;
    asking_submit(&world, asking);
    return asking;
}

static void release_with(struct asking *asking, struct admission_outcome outcome)
{
    admission_release(world.admission, world.now, &asking->request, &outcome);
}

static void visit_served(const struct queue_tenant_figures *figures, void *context)
{
    *(double *)context += figures->served;
}

/* Weighted tokens charged to the tenants: an answer's count twice. */
static double served(void)
{
    double sum = 0;
    queue_each_tenant(admission_queue(world.admission), visit_served, &sum);
    return sum;
}

/* ---- what is in flight ---- */

Test(admission_feedback, a_first_token_makes_a_pending_one_run)
{
    begin(10);
    struct asking *asking = asking_submitted(&world, 2);
    cr_expect_eq(census()->pending, 1);
    cr_expect_eq(census()->kv_tokens, 0);
    cr_expect_eq(census()->kv_expected, 150);
    world.now += 200 * NANOS_PER_MS;
    admission_on_first_token(world.admission, world.now, world.now - NANOS_PER_MS, &asking->request);
    cr_expect_eq(asking->request.state, SCHED_RUNNING);
    cr_expect_eq(asking->request.first_token_ns, world.now - NANOS_PER_MS);
    cr_expect_eq(census()->pending, 0);
    cr_expect_eq(census()->running, 1);
    cr_expect_eq(census()->streaming, 1);
    cr_expect_eq(census()->kv_tokens, 101);
    cr_expect_eq(sampled.first_token_ns - sampled.granted_ns, 199 * NANOS_PER_MS);
    asking_first_token(&world, asking);
    cr_expect_eq(samples, 1, "there is one first token");
    cr_expect_eq(census()->running, 1);
    end();
}

Test(admission_feedback, tokens_beyond_what_was_expected_are_counted_and_given_back)
{
    begin(10);
    struct asking *asking = asking_submitted(&world, 2);
    admission_on_tokens(world.admission, &asking->request, 5);
    cr_expect_eq(census()->kv_tokens, 0, "none before the first");
    asking_first_token(&world, asking);
    admission_on_tokens(world.admission, &asking->request, 39);
    cr_expect_eq(census()->kv_tokens, 140);
    cr_expect_eq(census()->kv_expected, 150);
    admission_on_tokens(world.admission, &asking->request, 160);
    cr_expect_eq(census()->kv_tokens, 300);
    cr_expect_eq(census()->kv_expected, 350, "a quarter more than there are");
    admission_on_tokens(world.admission, &asking->request, UINT32_MAX - 200);
    asking_release(&world, asking);
    cr_expect_eq(census()->kv_expected, 0);
    cr_expect_eq(census()->kv_tokens, 0);
    end();
}

Test(admission_feedback, the_oldest_that_should_have_been_served_by_now_stalls)
{
    begin(10);
    asking_submitted(&world, 2); /* nothing is known yet of how long it should take */
    baseline_add(&world.admission->baseline, world.now, 100, 100 * NANOS_PER_MS, true);
    world.now += NANOS_PER_MS;
    struct asking *first = asking_submitted(&world, 2);
    nanos since = world.now;
    cr_expect_eq(first->request.ahead_ns, 100 * NANOS_PER_MS, "the unknown one, as if it were alike");
    world.now += NANOS_PER_MS;
    asking_submitted(&world, 2);
    world.now = since + 200 * NANOS_PER_MS;
    cr_expect_eq(admission_world_figures(&world).census.stalled_since_ns, NANOS_NEVER);
    world.now += 50 * NANOS_PER_MS;
    struct admission_figures figures = admission_world_figures(&world);
    cr_expect_eq(figures.census.stalled_since_ns, since);
    cr_expect_eq(figures.census.stalled_ns, 50 * NANOS_PER_MS);
    asking_first_token(&world, first);
    cr_expect_eq(admission_world_figures(&world).census.stalled_since_ns, NANOS_NEVER, "the next one is not due");
    end();
}

Test(admission_feedback, a_tick_is_told_how_long_streams_take_and_what_somebody_waits_for)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 2);
    options.holdback_percent = 50;
    begin_with(options);
    struct asking *running = asking_submitted(&world, 0);
    asking_first_token(&world, running);
    admission_on_tokens(world.admission, &running->request, 10);
    struct asking *waiting = asking_submitted(&world, 3);
    cr_assert_eq(waiting->request.state, SCHED_QUEUED);
    nanos began = world.now;
    admission_world_pass(&world, world.admission->limiter.period_ns);
    cr_expect_eq(ticks, 1);
    cr_expect_eq(ticked.stream_elapsed_ns, world.now - began);
    cr_expect_eq(ticked.stream_tokens, 10);
    cr_expect_eq(ticked.tokens_emitted, 11);
    cr_expect_eq(ticked.waiting, 1);
    cr_expect(ticked.is_headroom_held);
    cr_expect(ticked.blocked_by_headroom);
    cr_expect_not(ticked.blocked_by_count);
    ticked.blocked_by_headroom = false;
    admission_world_pass(&world, world.admission->limiter.period_ns);
    cr_expect(ticked.blocked_by_headroom, "who waits since long blocks as much as who has just come");
    admission_cancel(world.admission, world.now, &waiting->request);
    admission_world_pass(&world, world.admission->limiter.period_ns);
    cr_expect_not(ticked.blocked_by_headroom);
    cr_expect(ticked.is_headroom_held);
    end();
}

Test(admission_feedback, nothing_ticks_when_nothing_is_there)
{
    begin(2);
    asking_release(&world, asking_submitted(&world, 2));
    admission_world_pass(&world, 10 * NANOS_PER_S);
    cr_expect_eq(ticks, 1);
    asking_submitted(&world, 2);
    admission_world_pass(&world, 10 * NANOS_PER_S);
    cr_expect_eq(ticks, 41);
    end();
}

/* ---- what is learned ---- */

Test(admission_feedback, a_stream_teaches_what_its_first_token_took)
{
    begin(10);
    struct asking *asking = asking_submitted(&world, 2);
    world.now += 300 * NANOS_PER_MS;
    asking_first_token(&world, asking);
    cr_expect_eq(base(), 300 * NANOS_PER_MS);
    cr_expect_eq(asking_submitted(&world, 2)->request.base_ns, 300 * NANOS_PER_MS);
    end();
}

Test(admission_feedback, a_whole_answer_teaches_by_what_it_took_less_what_it_made)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 10);
    options.limiter.slo_token_ns = 50 * NANOS_PER_MS;
    begin_with(options);
    struct asking *asking = whole_submitted();
    world.now += 7 * NANOS_PER_S;
    release_with(asking, (struct admission_outcome){.has_usage = true, .usage = {100, 0, 100}});
    cr_expect_eq(baseline_of(&world.admission->whole_baseline, 100), 2 * NANOS_PER_S);
    cr_expect_eq(ended.output_tokens, 100);
    cr_expect_eq(samples, 1);
    asking = whole_submitted();
    world.now += NANOS_PER_S;
    release_with(asking, (struct admission_outcome){.has_usage = true, .usage = {100, 0, 100}});
    cr_expect_eq(baseline_of(&world.admission->whole_baseline, 100), 1,
                 "faster than any stream is wanted: no time at all");
    cr_expect_eq(base(), 0, "nothing is learned of first tokens");
    end();
}

Test(admission_feedback, a_whole_answer_beside_streams_leaves_these_their_base_and_says_nothing_of_the_load)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 10);
    options.limiter.slo_token_ns = 50 * NANOS_PER_MS;
    begin_with(options);
    struct asking *stream = asking_submitted(&world, 2);
    struct asking *whole = whole_submitted();
    world.now += 300 * NANOS_PER_MS;
    asking_first_token(&world, stream);
    world.now += 700 * NANOS_PER_MS;
    samples = 0;
    release_with(whole, (struct admission_outcome){.has_usage = true, .usage = {100, 0, 100}});
    cr_expect_eq(base(), 300 * NANOS_PER_MS);
    cr_expect_eq(samples, 0);
    end();
}

Test(admission_feedback, a_whole_answer_must_leave_in_time_for_all_of_it)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 1);
    options.limiter.slo_token_ns = 50 * NANOS_PER_MS;
    begin_with(options);
    struct asking *first = whole_submitted();
    world.now += 4 * NANOS_PER_S; /* 80 ms for each of its 50 tokens */
    release_with(first, (struct admission_outcome){.has_usage = true, .usage = {100, 0, 50}});
    whole_submitted();
    struct asking *hurried = asking_of(&world, 2);
    hurried->request.is_streamed = false;
    hurried->request.deadline_ns = world.now + 10 * NANOS_PER_S;
    asking_submit(&world, hurried);
    cr_expect_eq(hurried->request.start_by_ns, world.now + 8 * NANOS_PER_S, "half of it is certain");
    admission_world_pass(&world, 8 * NANOS_PER_S - 1);
    cr_expect_eq(hurried->request.state, SCHED_QUEUED);
    admission_world_pass(&world, 1);
    cr_expect_eq(hurried->why, SCHED_SHED_LATE_DISPATCH);
    end();
}

Test(admission_feedback, a_whole_answer_without_usage_or_gone_wrong_teaches_nothing)
{
    static const struct admission_outcome outcomes[] = {
        {.has_usage = false},
        {.has_usage = true, .usage = {100, 0, 1}, .is_failed = true},
        {.has_usage = true, .usage = {100, 0, 1}, .is_refused = true},
        {.has_usage = true, .usage = {100, 0, 1}, .is_canceled = true},
    };
    begin(10);
    for (unsigned i = 0; i < ARRAY_COUNT(outcomes); i++) {
        struct asking *asking = whole_submitted();
        world.now += NANOS_PER_S;
        release_with(asking, outcomes[i]);
        cr_expect_eq(base(), 0, "%u", i);
        cr_expect_eq(samples, 0);
        cr_expect_eq(ended.is_dropped, outcomes[i].is_failed || outcomes[i].is_refused);
        cr_expect_eq(ended.is_canceled, outcomes[i].is_canceled);
    }
    cr_expect_eq(ends, ARRAY_COUNT(outcomes));
    cr_expect_eq(refusals, 1);
    end();
}

Test(admission_feedback, a_plain_service_teaches_by_the_time_it_took)
{
    struct admission_options options = admission_world_options(LIMITER_FIXED, 10);
    options.is_plain = true;
    begin_with(options);
    struct asking *asking = whole_submitted();
    world.now += 30 * NANOS_PER_MS;
    asking_release(&world, asking);
    cr_expect_eq(base(), 30 * NANOS_PER_MS);
    cr_expect_eq(samples, 1);
    end();
}

Test(admission_feedback, a_tenant_is_charged_what_it_really_took)
{
    begin(10);
    struct asking *asking = asking_submitted(&world, 2);
    cr_expect_float_eq(served(), 200, 1e-9, "100 in and 50 out, as was expected");
    release_with(asking, (struct admission_outcome){.has_usage = true, .usage = {120, 100, 300}});
    cr_expect_float_eq(served(), 620, 1e-9, "20 that were not cached, 300 out");
    asking = asking_submitted(&world, 2);
    asking_first_token(&world, asking);
    admission_on_tokens(world.admission, &asking->request, 9);
    asking_release(&world, asking);
    cr_expect_float_eq(served(), 620 + 120, 1e-9, "what it was seen to emit");
    admission_cancel(world.admission, world.now, &asking_submitted(&world, 2)->request);
    cr_expect_float_eq(served(), 620 + 120 + 100, 1e-9, "its prompt");
    end();
}

Test(admission_feedback, many_refusals_at_once_are_one)
{
    struct admission_options options = admission_world_options(LIMITER_EXCESS, 100);
    admission_world_begin(&world, &options);
    struct asking *all[50];
    for (unsigned i = 0; i < 50; i++) {
        all[i] = asking_submitted(&world, 2);
    }
    for (unsigned i = 0; i < 40; i++) {
        world.now += NANOS_PER_MS;
        asking_refuse(&world, all[i], 0);
    }
    struct admission_figures figures = admission_world_figures(&world);
    cr_expect_eq(figures.cuts[LIMITER_CAUSE_REFUSED], 1);
    cr_expect_float_eq(figures.limit, 70, 1e-9, "seven tenths of a limit that was not used");
    asking_refuse(&world, asking_submitted(&world, 2), 0);
    cr_expect_eq(admission_world_figures(&world).cuts[LIMITER_CAUSE_REFUSED], 2, "one that was sent after the cut");
    end();
}

static uint64_t refusals_told(void)
{
    return admission_world_figures(&world).cuts[LIMITER_CAUSE_REFUSED];
}

Test(admission_feedback, of_a_plain_service_one_refusal_among_many_answers_is_no_reason_to_slow_down)
{
    struct admission_options options = admission_world_options(LIMITER_EXCESS, 100);
    options.is_plain = true;
    admission_world_begin(&world, &options);
    for (unsigned i = 0; i < 100; i++) {
        world.now += NANOS_PER_MS;
        struct asking *asking = asking_submitted(&world, 2);
        if (i % 20 == 0) {
            asking_refuse(&world, asking, 0);
        } else {
            asking_release(&world, asking);
        }
    }
    cr_expect_eq(refusals_told(), 0);
    for (unsigned i = 0; i < 4; i++) {
        world.now += NANOS_PER_MS;
        asking_refuse(&world, asking_submitted(&world, 2), 0);
    }
    cr_expect_gt(refusals_told(), 0, "several in a row are");
    end();
}

Test(admission_feedback, of_a_plain_service_who_asks_for_a_pause_is_heard_at_once)
{
    struct admission_options options = admission_world_options(LIMITER_EXCESS, 100);
    options.is_plain = true;
    admission_world_begin(&world, &options);
    asking_refuse(&world, asking_submitted(&world, 2), NANOS_PER_S);
    cr_expect_eq(refusals_told(), 1);
    struct asking *next = asking_submitted(&world, 2);
    cr_expect_eq(next->request.state, SCHED_QUEUED);
    admission_world_pass(&world, NANOS_PER_S);
    cr_expect_eq(next->granted, 1);
    end();
}

/* ---- what went on slots that were lent ---- */

static struct admission_lent lent_one(nanos took_ns)
{
    return (struct admission_lent){
        .tenant = 7,
        .class = 1,
        .is_streamed = true,
        .cost = {.prompt_tokens = 100, .output_tokens = 50},
        .arrived_ns = world.now - took_ns,
        .granted_ns = world.now - took_ns,
        .first_token_ns = world.now - took_ns + 80 * NANOS_PER_MS,
        .ended_ns = world.now,
        .emitted_tokens = 10,
        .in_flight = 1,
        .count = 1,
    };
}

Test(admission_feedback, what_went_on_a_lent_slot_is_learned_from_like_any_other)
{
    begin(10);
    admission_set_lent(world.admission, 5, 1);
    struct admission_lent lent = lent_one(NANOS_PER_S);
    lent.count = 3;
    admission_on_lent_end(world.admission, world.now, &lent, &(struct admission_outcome){.is_failed = false});
    struct admission_counters counters = admission_world_figures(&world).counters;
    cr_expect_eq(counters.submitted, 3);
    cr_expect_eq(counters.granted, 3);
    cr_expect_eq(counters.granted_at_once, 3);
    cr_expect_eq(counters.released, 3);
    cr_expect_eq(base(), 80 * NANOS_PER_MS);
    cr_expect_eq(samples, 1);
    cr_expect_eq(ends, 1);
    cr_expect_float_eq(served(), 120, 1e-9, "100 in, 10 out");
    cr_expect(admission_at_rest(world.admission));
    cr_expect_eq(admission_world_fill(&world, 3), 4, "of ten, five are lent and one is for the class it was of");
    end();
}

Test(admission_feedback, a_refusal_on_a_lent_slot_pauses_all)
{
    begin(10);
    struct admission_lent lent = lent_one(NANOS_PER_S);
    lent.first_token_ns = 0;
    admission_on_lent_end(world.admission, world.now, &lent,
                          &(struct admission_outcome){.is_refused = true, .retry_after_ns = 5 * NANOS_PER_S});
    cr_expect_eq(refusals, 1);
    cr_expect_eq(base(), 0);
    cr_expect_eq(asking_submitted(&world, 0)->request.state, SCHED_QUEUED);
    cr_expect_eq(admission_lendable(world.admission, world.now), -1);
    end();
}

Test(admission_feedback, where_all_goes_on_lent_slots_the_limiter_ticks_too)
{
    begin(10);
    admission_set_lent(world.admission, 5, 1);
    cr_assert_eq(admission_next_ns(world.admission), NANOS_NEVER);
    struct admission_lent lent = lent_one(NANOS_PER_S);
    admission_on_lent_end(world.admission, world.now, &lent, &(struct admission_outcome){.is_failed = false});
    admission_world_pass(&world, 10 * NANOS_PER_S);
    cr_expect_eq(ticks, 40);
    cr_expect_eq(ticked.in_flight, 1);
    admission_set_lent(world.admission, 5, 0);
    admission_world_pass(&world, 10 * NANOS_PER_S);
    cr_expect_eq(ticks, 41, "and no longer than there is something");
    end();
}
