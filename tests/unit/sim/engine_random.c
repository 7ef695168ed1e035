/* What holds in every run: seeded random loads, looked at after every event. */
#include "engine_bench.h"

#include <stdlib.h>

enum { SEQUENCES = 300 };

struct run {
    struct engine engine;
    struct engine_profile profile;
    struct engine_sequence sequences[SEQUENCES];
    uint32_t emitted[SEQUENCES];
    bool finished[SEQUENCES];
    bool cancelled[SEQUENCES];
    nanos last_event_ns;
    uint64_t digest;
    uint64_t random;
};

static uint64_t next_random(struct run *run)
{
    run->random ^= run->random << 13;
    run->random ^= run->random >> 7;
    run->random ^= run->random << 17;
    return run->random;
}

static uint32_t below(struct run *run, uint32_t bound)
{
    return (uint32_t)(next_random(run) % bound);
}

static void check_lists(const struct run *run)
{
    const struct engine *engine = &run->engine;
    uint32_t kv = 0, running = 0, prefilling = 0, waiting = 0;
    nanos arrived = 0;
    for (struct list_node *node = engine->running.next; node != &engine->running; node = node->next) {
        const struct engine_sequence *s = CONTAINER_OF(node, struct engine_sequence, node);
        kv += s->kv_tokens;
        running++;
        prefilling += s->state == ENGINE_SEQUENCE_PREFILLING;
        cr_assert_geq(s->arrived_ns, arrived, "running ones are in order of arrival");
        arrived = s->arrived_ns;
    }
    for (struct list_node *node = engine->waiting.next; node != &engine->waiting; node = node->next) {
        const struct engine_sequence *s = CONTAINER_OF(node, struct engine_sequence, node);
        waiting++;
        cr_assert_eq(s->kv_tokens, 0);
        cr_assert_geq(s->arrived_ns, arrived, "nobody waits behind one who came later");
        arrived = s->arrived_ns;
    }
    cr_assert_eq(kv, engine->kv_tokens);
    cr_assert_leq(kv, run->profile.kv_tokens_max);
    cr_assert_eq(running, engine->running_count);
    cr_assert_leq(running, run->profile.sequences_max);
    cr_assert_eq(prefilling, engine->prefilling_count);
    cr_assert_eq(waiting, engine->waiting_count);
}

static void on_event(struct engine *engine, const struct engine_event *event, void *context)
{
    struct run *run = context;
    struct engine_sequence *s = event->sequence;
    cr_assert_geq(event->at_ns, run->last_event_ns);
    cr_assert_geq(event->at_ns, s->arrived_ns);
    run->last_event_ns = event->at_ns;
    cr_assert_not(run->finished[s->id] || run->cancelled[s->id], "no event after the last");
    if (event->kind == ENGINE_TOKENS) {
        run->emitted[s->id] += event->tokens;
        cr_assert_eq(run->emitted[s->id], s->emitted_tokens, "nothing is emitted twice or lost");
    } else if (event->kind == ENGINE_FINISHED) {
        cr_assert_eq(run->emitted[s->id], s->output_tokens);
        run->finished[s->id] = true;
    }
    run->digest = (run->digest ^ event->at_ns ^ (s->id << 3) ^ event->kind) * UINT64_C(0x9e3779b97f4a7c15);
    if (event->kind != ENGINE_FINISHED && below(run, 100) == 0) {
        engine_cancel(engine, s);
        run->cancelled[s->id] = true;
    }
}

/* `stride_ns`: 0 advances exactly to each event, else in strides, as a coarse timer would. */
static uint64_t run_seed(uint64_t seed, nanos stride_ns)
{
    static struct run run;
    memset(&run, 0, sizeof(run));
    run.random = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
    run.profile = engine_bench_profile();
    run.profile.kv_tokens_max = 40 + below(&run, 200);
    run.profile.context_tokens_max = run.profile.kv_tokens_max - below(&run, 10);
    run.profile.sequences_max = 1 + below(&run, 20);
    run.profile.prefill_tokens_max = 1 + below(&run, 30);
    struct engine_options options = {
        .profile = &run.profile, .prefills_side_by_side = below(&run, 4), .time_scale_milli = 500 + below(&run, 5000)};
    engine_init(&run.engine, &options, on_event, &run);

    nanos now = 0;
    nanos arrivals[SEQUENCES];
    for (unsigned i = 0; i < SEQUENCES; i++) {
        arrivals[i] = now += below(&run, 40) * NANOS_PER_MS / (1 + below(&run, 3));
        uint32_t prompt = 1 + below(&run, run.profile.context_tokens_max - 1);
        uint32_t output = below(&run, run.profile.context_tokens_max - prompt + 1);
        run.sequences[i] = engine_bench_sequence(i, prompt, output);
        run.sequences[i].cached_prefix_tokens = below(&run, 3) == 0 ? below(&run, prompt + 1) : 0;
    }
    /* The choices inside on_event must not depend on when the loop below wakes. */
    unsigned next = 0;
    for (nanos at = 0;;) {
        nanos event = engine_next_event_ns(&run.engine);
        nanos arrival = next < SEQUENCES ? arrivals[next] : NANOS_NEVER;
        if (event == NANOS_NEVER && arrival == NANOS_NEVER) {
            break;
        }
        if (stride_ns > 0 && event != NANOS_NEVER && event > at + stride_ns) {
            at = event + stride_ns - event % stride_ns;
        } else {
            at = stride_ns > 0 ? at + stride_ns : (event < arrival ? event : arrival);
        }
        while (next < SEQUENCES && arrivals[next] <= at) {
            cr_assert_eq(engine_submit(&run.engine, arrivals[next], &run.sequences[next]), RESULT_OK);
            next++;
        }
        engine_advance(&run.engine, at);
        check_lists(&run);
    }
    for (unsigned i = 0; i < SEQUENCES; i++) {
        cr_assert(run.finished[i] != run.cancelled[i], "each sequence ends exactly once");
    }
    const struct engine_counters *c = &run.engine.counters;
    cr_assert_eq(c->submitted, SEQUENCES);
    cr_assert_eq(c->finished + c->cancelled, SEQUENCES);
    cr_assert_eq(run.engine.kv_tokens, 0);
    return run.digest;
}

Test(engine_random, keeps_its_invariants_over_many_seeds)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        run_seed(seed, 0);
    }
}

Test(engine_random, same_load_gives_the_same_events)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        cr_assert_eq(run_seed(seed, 0), run_seed(seed, 0));
    }
}

Test(engine_random, coarse_advances_give_the_events_of_exact_ones)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        cr_assert_eq(run_seed(seed, 0), run_seed(seed, 7 * NANOS_PER_MS), "seed %lu", (unsigned long)seed);
    }
}

Test(engine_random, busy_time_is_what_the_formula_gives)
{
    struct engine_profile profile = engine_bench_profile();
    profile.kv_tokens_max = profile.context_tokens_max = 10000;
    struct engine_bench *bench = engine_bench_start(&profile, 0);
    struct engine_sequence all[20];
    for (unsigned i = 0; i < 20; i++) {
        all[i] = engine_bench_sequence(i, 3 + i, 5);
        engine_bench_submit(bench, i * MS(3), &all[i]);
    }
    engine_advance(&bench->engine, MS(100000));
    const struct engine_counters *c = &bench->engine.counters;
    cr_assert_eq(c->prefill_tokens, 20 * 3 + 190);
    cr_assert_eq(c->output_tokens, 100);
    cr_assert_eq(c->busy_ns, MS(10) * c->steps + MS(1) * (c->batch_sum - c->steps) + MS(1) * c->prefill_tokens);
}
