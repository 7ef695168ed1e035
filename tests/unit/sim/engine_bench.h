/* An engine under test, with what it told written down. */
#ifndef TESTS_UNIT_SIM_ENGINE_BENCH_H
#define TESTS_UNIT_SIM_ENGINE_BENCH_H

#include <criterion/criterion.h>

#include "base/check.h"

#include "sim/engine.h"
#include "sim/profiles.h"

enum { TOLD_MAX = 4096 };

struct engine_bench {
    struct engine engine;
    struct engine_profile profile;
    struct engine_event told[TOLD_MAX];
    uint64_t told_ids[TOLD_MAX];
    unsigned told_count;
};

static inline void engine_bench_write_down(struct engine *engine, const struct engine_event *event, void *context)
{
    (void)engine;
    struct engine_bench *bench = context;
    cr_assert_lt(bench->told_count, TOLD_MAX);
    bench->told[bench->told_count] = *event;
    bench->told_ids[bench->told_count++] = event->sequence->id;
}

/* An engine whose steps are easy to compute by hand: 10 ms, 1 ms a further sequence, 1 ms a prefilled token. */
static inline struct engine_profile engine_bench_profile(void)
{
    return (struct engine_profile){
        .name = "test",
        .step_base_ns = 10 * NANOS_PER_MS,
        .step_per_sequence_ns = NANOS_PER_MS,
        .prefill_tokens_per_s = 1000,
        .prefill_tokens_max = 8,
        .sequences_max = 4,
        .kv_tokens_max = 100,
        .context_tokens_max = 100,
    };
}

static inline struct engine_bench *engine_bench_start(const struct engine_profile *profile, uint32_t side_by_side)
{
    static struct engine_bench bench;
    bench.profile = *profile;
    bench.told_count = 0;
    struct engine_options options = {.profile = &bench.profile, .prefills_side_by_side = side_by_side};
    engine_init(&bench.engine, &options, engine_bench_write_down, &bench);
    return &bench;
}

static inline struct engine_sequence engine_bench_sequence(uint64_t id, uint32_t prompt, uint32_t output)
{
    return (struct engine_sequence){.id = id, .prompt_tokens = prompt, .output_tokens = output};
}

static inline void engine_bench_submit(struct engine_bench *bench, nanos now, struct engine_sequence *sequence)
{
    cr_assert_eq(engine_submit(&bench->engine, now, sequence), RESULT_OK);
}

/* When the nth (from 1) event of a kind about a sequence came; NANOS_NEVER when it did not. */
static inline nanos engine_bench_when(const struct engine_bench *bench, uint64_t id, enum engine_event_kind kind,
                                      unsigned nth)
{
    for (unsigned i = 0; i < bench->told_count; i++) {
        if (bench->told_ids[i] == id && bench->told[i].kind == kind && --nth == 0) {
            return bench->told[i].at_ns;
        }
    }
    return NANOS_NEVER;
}

#define MS(n) ((nanos)((n)*1000000.0))

#endif
