/* The engine's timing against cases computed by hand. The test profile: a step takes 10 ms, 1 ms more for each
 * sequence beyond the first, 1 ms for each prefilled token; 8 prefill tokens a step, 4 sequences, 100 KV tokens. */
#include "engine_bench.h"

static struct engine_bench *start(void)
{
    struct engine_profile profile = engine_bench_profile();
    return engine_bench_start(&profile, 0);
}

Test(engine, is_idle_until_something_is_submitted)
{
    struct engine_bench *bench = start();
    cr_assert_eq(engine_next_event_ns(&bench->engine), NANOS_NEVER);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(bench->told_count, 0);
}

Test(engine, reference_profile_takes_the_time_the_formula_says)
{
    struct engine_profile profile = *profiles_find(BYTES("reference"));
    struct engine_bench *bench = engine_bench_start(&profile, 0);
    struct engine_sequence a = engine_bench_sequence(1, 1300, 3);
    engine_bench_submit(bench, MS(5), &a);
    engine_advance(&bench->engine, MS(1000));
    /* 30.6 ms + 1,300 ÷ 13,000 s, then 30.6 ms for each further token */
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(5 + 130.6));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 2), MS(5 + 161.2));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), MS(5 + 191.8));
    cr_assert_eq(engine_step_ns(&bench->engine, 64, 0), MS(30.6 + 63 * 0.3));
}

Test(engine, one_sequence_is_prefilled_then_decoded)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 5, 2);
    engine_bench_submit(bench, MS(100), &a);
    cr_assert_eq(engine_next_event_ns(&bench->engine), MS(100));
    engine_advance(&bench->engine, MS(100));
    cr_assert_eq(engine_next_event_ns(&bench->engine), MS(115));
    cr_assert_eq(bench->engine.kv_tokens, 5);
    engine_advance(&bench->engine, MS(114.9));
    cr_assert_eq(bench->told_count, 0);
    engine_advance(&bench->engine, MS(115));
    cr_assert_eq(bench->told_count, 1);
    cr_assert_eq(bench->told[0].tokens, 1);
    cr_assert_eq(bench->engine.kv_tokens, 6);
    engine_advance(&bench->engine, MS(125));
    cr_assert_eq(bench->told_count, 3);
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), MS(125));
    cr_assert_eq(a.state, ENGINE_SEQUENCE_OUT);
    cr_assert_eq(bench->engine.kv_tokens, 0);
    cr_assert_eq(engine_next_event_ns(&bench->engine), NANOS_NEVER);
}

Test(engine, being_advanced_late_changes_no_moment)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 5, 4);
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(40));
    engine_advance(&bench->engine, MS(9999));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(15));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 4), MS(45));
}

Test(engine, prompt_longer_than_a_chunk_takes_several_steps)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 20, 1);
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(1000));
    /* 8 + 8 + 4 tokens */
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(18 + 18 + 14));
    cr_assert_eq(bench->engine.counters.steps, 3);
}

Test(engine, cached_prefix_costs_no_prefill_but_takes_memory)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 20, 1);
    a.cached_prefix_tokens = 15;
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, 0);
    cr_assert_eq(bench->engine.kv_tokens, 20);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(15));
}

Test(engine, wholly_cached_prompt_still_computes_one_token)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 20, 1);
    a.cached_prefix_tokens = 20;
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(11));
}

Test(engine, sequence_without_output_finishes_with_its_prefill)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 5, 0);
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), NANOS_NEVER);
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), MS(15));
}

Test(engine, prompts_that_fit_share_one_step)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 3, 1);
    struct engine_sequence b = engine_bench_sequence(2, 5, 1);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_advance(&bench->engine, MS(1000));
    /* a batch of two, 8 tokens */
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(10 + 1 + 8));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 1), MS(10 + 1 + 8));
}

Test(engine, second_prompt_gets_what_the_first_leaves_of_the_chunk)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 6, 3);
    struct engine_sequence b = engine_bench_sequence(2, 6, 1);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_advance(&bench->engine, MS(1000));
    /* step 1: 6 of a, 2 of b; step 2: a decodes, 4 of b; step 3: a alone */
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(19));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 1), MS(19 + 15));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 2), MS(19 + 15));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), MS(19 + 15 + 10));
}

Test(engine, arrival_during_a_step_waits_for_the_next)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 4, 5);
    struct engine_sequence b = engine_bench_sequence(2, 4, 1);
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, 0);
    engine_bench_submit(bench, MS(1), &b);
    engine_advance(&bench->engine, MS(1000));
    /* a's first step ends at 14; the next has both: 10 + 1 + 4 */
    cr_assert_eq(b.first_step_ns, MS(14));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 1), MS(14 + 15));
}

Test(engine, arrival_never_joins_a_step_that_began_before_it)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 4, 5);
    struct engine_sequence b = engine_bench_sequence(2, 4, 1);
    engine_bench_submit(bench, 0, &a);
    /* Nobody advanced since 0, and the step from 14 to 24 has begun when b comes at 20. */
    engine_bench_submit(bench, MS(20), &b);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(b.first_step_ns, MS(24));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 1), MS(24 + 15));
}

Test(engine, serves_first_come_first_when_slots_are_out)
{
    struct engine_bench *bench = start();
    struct engine_sequence all[6];
    for (unsigned i = 0; i < 6; i++) {
        all[i] = engine_bench_sequence(i, 1, 3);
        engine_bench_submit(bench, i, &all[i]);
    }
    engine_advance(&bench->engine, MS(5));
    cr_assert_eq(bench->engine.running_count, 1); /* only the first had arrived when the step began */
    engine_advance(&bench->engine, MS(12));
    cr_assert_eq(bench->engine.running_count, 4);
    cr_assert_eq(bench->engine.waiting_count, 2);
    engine_advance(&bench->engine, MS(1000));
    for (unsigned i = 1; i < 6; i++) {
        cr_assert_leq(all[i - 1].first_step_ns, all[i].first_step_ns);
    }
    /* the fifth starts when the first is gone, one step before the others end */
    cr_assert_eq(all[4].first_step_ns, engine_bench_when(bench, 0, ENGINE_FINISHED, 1));
    cr_assert_eq(all[5].first_step_ns, engine_bench_when(bench, 1, ENGINE_FINISHED, 1));
}

Test(engine, head_of_the_queue_blocks_smaller_ones_behind_it)
{
    struct engine_bench *bench = start();
    struct engine_sequence big = engine_bench_sequence(1, 60, 8);
    struct engine_sequence second = engine_bench_sequence(2, 50, 2);
    struct engine_sequence small = engine_bench_sequence(3, 1, 1);
    engine_bench_submit(bench, 0, &big);
    engine_bench_submit(bench, 0, &second);
    engine_bench_submit(bench, 0, &small);
    engine_advance(&bench->engine, MS(100000));
    cr_assert_eq(second.first_step_ns, engine_bench_when(bench, 1, ENGINE_FINISHED, 1));
    cr_assert_geq(small.first_step_ns, second.first_step_ns);
}

Test(engine, refuses_what_could_never_run)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 99, 2);
    cr_assert_eq(engine_submit(&bench->engine, 0, &a), RESULT_LIMIT);
    cr_assert_eq(a.state, ENGINE_SEQUENCE_OUT);
    a.output_tokens = 1;
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(100000));
    cr_assert_neq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), NANOS_NEVER);
}

Test(engine, preempts_the_newest_when_memory_is_out)
{
    struct engine_profile profile = engine_bench_profile();
    profile.kv_tokens_max = 10;
    profile.context_tokens_max = 10;
    struct engine_bench *bench = engine_bench_start(&profile, 0);
    struct engine_sequence a = engine_bench_sequence(1, 4, 4);
    struct engine_sequence b = engine_bench_sequence(2, 4, 4);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_advance(&bench->engine, MS(100000));
    /* 0–19: both prefill (8 of 10 tokens held). 19–30: both decode (10 held). At 30 a needs one more: b goes. */
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_PREEMPTED, 1), MS(30));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_PREEMPTED, 1), NANOS_NEVER);
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 3), MS(40));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), MS(50));
    /* At 40 there are 3 tokens free and b needs 6, so it comes back at 50: its prompt and the 2 tokens it had. */
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 2), MS(30));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 3), MS(50 + 16));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_FINISHED, 1), MS(50 + 16 + 10));
    cr_assert_eq(b.preemptions, 1);
    cr_assert_eq(b.first_step_ns, 0);
    cr_assert_eq(bench->engine.counters.output_tokens, 8);
}

Test(engine, preempted_sequence_goes_before_those_that_never_ran)
{
    struct engine_profile profile = engine_bench_profile();
    profile.kv_tokens_max = 10;
    profile.context_tokens_max = 10;
    struct engine_bench *bench = engine_bench_start(&profile, 0);
    struct engine_sequence a = engine_bench_sequence(1, 4, 4);
    struct engine_sequence b = engine_bench_sequence(2, 4, 4);
    struct engine_sequence c = engine_bench_sequence(3, 1, 1);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_bench_submit(bench, MS(20), &c);
    engine_advance(&bench->engine, MS(100000));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_PREEMPTED, 1), MS(30));
    cr_assert_eq(c.first_step_ns, MS(50));
}

Test(engine, cancel_while_running_frees_memory_at_once)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 8, 10);
    struct engine_sequence b = engine_bench_sequence(2, 96, 1);
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(1));
    engine_bench_submit(bench, MS(1), &b);
    cr_assert_eq(bench->engine.kv_tokens, 8);
    engine_cancel(&bench->engine, &a);
    cr_assert_eq(bench->engine.kv_tokens, 0);
    cr_assert_eq(a.state, ENGINE_SEQUENCE_OUT);
    /* The step that had begun still takes its time. */
    engine_advance(&bench->engine, MS(100000));
    cr_assert_eq(b.first_step_ns, MS(18));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), NANOS_NEVER);
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), NANOS_NEVER);
    cr_assert_eq(bench->engine.counters.cancelled, 1);
}

Test(engine, cancel_while_waiting_lets_the_next_go)
{
    struct engine_bench *bench = start();
    struct engine_sequence a = engine_bench_sequence(1, 60, 2);
    struct engine_sequence b = engine_bench_sequence(2, 60, 2);
    struct engine_sequence c = engine_bench_sequence(3, 1, 1);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_bench_submit(bench, 0, &c);
    engine_cancel(&bench->engine, &b);
    engine_cancel(&bench->engine, &b);
    engine_advance(&bench->engine, MS(100000));
    cr_assert_eq(bench->engine.counters.cancelled, 1);
    /* seven full chunks of a, then its last 4 tokens and c beside them */
    cr_assert_eq(c.first_step_ns, MS(7 * 18));
}

Test(engine, one_prompt_at_a_time_leaves_the_rest_of_the_chunk_unused)
{
    struct engine_profile profile = engine_bench_profile();
    struct engine_bench *bench = engine_bench_start(&profile, 1);
    struct engine_sequence a = engine_bench_sequence(1, 6, 1);
    struct engine_sequence b = engine_bench_sequence(2, 6, 1);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(16));
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 1), MS(32));
}

Test(engine, side_by_side_a_short_prompt_passes_a_long_one)
{
    struct engine_profile profile = engine_bench_profile();
    struct engine_bench *bench = engine_bench_start(&profile, 2);
    struct engine_sequence a = engine_bench_sequence(1, 40, 1);
    struct engine_sequence b = engine_bench_sequence(2, 3, 1);
    struct engine_sequence c = engine_bench_sequence(3, 1, 1);
    engine_bench_submit(bench, 0, &a);
    engine_bench_submit(bench, 0, &b);
    engine_bench_submit(bench, 0, &c);
    engine_advance(&bench->engine, MS(100000));
    /* b uses 3 of its 4, the fourth goes to a: a has 35 left; c is third and waits for b */
    cr_assert_eq(engine_bench_when(bench, 2, ENGINE_TOKENS, 1), MS(10 + 1 + 8));
    cr_assert_eq(c.first_step_ns, MS(19));
    cr_assert_eq(engine_bench_when(bench, 3, ENGINE_TOKENS, 1), MS(19 + 19));
    /* then a alone: 28 left after its 7 beside c, in chunks of 8, 8, 8, 4 */
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(38 + 18 + 18 + 18 + 14));
}

Test(engine, time_scale_divides_every_moment)
{
    struct engine_profile profile = engine_bench_profile();
    struct engine_bench *bench = engine_bench_start(&profile, 0);
    struct engine_options options = {.profile = &profile, .time_scale_milli = 10000};
    engine_init(&bench->engine, &options, engine_bench_write_down, bench);
    struct engine_sequence a = engine_bench_sequence(1, 5, 2);
    engine_bench_submit(bench, 0, &a);
    engine_advance(&bench->engine, MS(1000));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_TOKENS, 1), MS(1.5));
    cr_assert_eq(engine_bench_when(bench, 1, ENGINE_FINISHED, 1), MS(2.5));
}

/* ---- receivers that change the engine they are told about ---- */

struct meddler {
    struct engine_sequence *victim;
    enum engine_event_kind when;
    struct engine_sequence *again;
    unsigned events;
};

static void meddle(struct engine *engine, const struct engine_event *event, void *context)
{
    struct meddler *meddler = context;
    meddler->events++;
    if (event->kind == meddler->when && meddler->victim != NULL) {
        engine_cancel(engine, meddler->victim);
        memset(meddler->victim, 0xdd, sizeof(*meddler->victim)); /* its owner may free it */
        meddler->victim = NULL;
    }
    if (event->kind == ENGINE_FINISHED && event->sequence == meddler->again) {
        meddler->again = NULL;
        cr_assert_eq(engine_submit(engine, event->at_ns, event->sequence), RESULT_OK);
    }
}

static void run_with_meddler(uint32_t kv_tokens, unsigned victim, enum engine_event_kind when)
{
    struct engine_profile profile = engine_bench_profile();
    profile.kv_tokens_max = kv_tokens;
    profile.context_tokens_max = kv_tokens;
    struct engine_options options = {.profile = &profile};
    struct engine_sequence all[3];
    struct meddler meddler = {.victim = &all[victim], .when = when};
    struct engine engine;
    engine_init(&engine, &options, meddle, &meddler);
    for (unsigned i = 0; i < 3; i++) {
        all[i] = engine_bench_sequence(i, 2, 4);
        cr_assert_eq(engine_submit(&engine, 0, &all[i]), RESULT_OK);
    }
    engine_advance(&engine, MS(100000));
    cr_assert_null(meddler.victim);
    cr_assert_eq(engine.counters.finished, 2);
    cr_assert_eq(engine.counters.cancelled, 1);
    cr_assert_eq(engine.kv_tokens, 0);
    cr_assert_eq(engine.running_count + engine.waiting_count + engine.prefilling_count, 0);
}

Test(engine, receiver_may_cancel_the_sequence_it_is_told_about)
{
    run_with_meddler(100, 0, ENGINE_TOKENS);
}

Test(engine, receiver_may_cancel_the_sequence_that_would_be_next)
{
    run_with_meddler(100, 1, ENGINE_TOKENS);
}

Test(engine, receiver_may_cancel_another_when_told_of_a_preemption)
{
    for (unsigned victim = 0; victim < 3; victim++) {
        run_with_meddler(7, victim, ENGINE_PREEMPTED);
    }
}

Test(engine, receiver_may_submit_a_finished_sequence_again)
{
    struct engine_profile profile = engine_bench_profile();
    struct engine_options options = {.profile = &profile};
    struct engine_sequence a = engine_bench_sequence(1, 5, 1);
    struct meddler meddler = {.again = &a, .when = ENGINE_PREEMPTED};
    struct engine engine;
    engine_init(&engine, &options, meddle, &meddler);
    cr_assert_eq(engine_submit(&engine, 0, &a), RESULT_OK);
    engine_advance(&engine, MS(30));
    cr_assert_eq(engine.counters.finished, 2);
    cr_assert_eq(engine.clock_ns, MS(30));
}
