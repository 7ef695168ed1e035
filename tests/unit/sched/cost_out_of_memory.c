/* cost.c once more, under other names and over an allocator that counts, and whose nth call fails. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static unsigned calls;
static unsigned calls_until_failure;

static bool fails(void)
{
    calls++;
    return calls_until_failure > 0 && --calls_until_failure == 0;
}

static void *failing_malloc(size_t bytes)
{
    return fails() ? NULL : malloc(bytes);
}

static void *failing_calloc(size_t count, size_t bytes)
{
    return fails() ? NULL : calloc(count, bytes);
}

static void *failing_aligned_alloc(size_t alignment, size_t bytes)
{
    return fails() ? NULL : aligned_alloc(alignment, bytes);
}

#define malloc               failing_malloc
#define calloc               failing_calloc
#define aligned_alloc        failing_aligned_alloc
#define cost_create          nth_cost_create
#define cost_destroy         nth_cost_destroy
#define cost_estimate        nth_cost_estimate
#define cost_learn           nth_cost_learn
#define cost_output_expected nth_cost_output_expected
#define cost_figures         nth_cost_figures
#define prefixes_init        nth_prefixes_init
#define prefixes_fini        nth_prefixes_fini
#define prefixes_run         nth_prefixes_run
#define prefixes_teach       nth_prefixes_teach
#include "../../../src/sched/cost.c"
#include "../../../src/sched/cost_prefixes.c"

static const struct cost_options options = {
    .bytes_per_token = 4,
    .output_quantile = 0.75,
    .output_tokens = 256,
    .tenants_max = 100,
    .prefix_blocks_max = 1000,
};

Test(cost, a_model_without_memory_is_not_made_and_leaves_nothing)
{
    struct cost_model *cost = NULL;
    unsigned failures = 0;
    while (cost == NULL) {
        calls_until_failure = failures + 1;
        cost = nth_cost_create(&options);
        failures += cost == NULL;
    }
    cr_assert_eq(failures, 4, "model, chains, tenants, blocks");
    nth_cost_destroy(cost);
}

Test(cost, nothing_is_allocated_after_the_start_however_many_tenants_and_blocks_come)
{
    struct cost_model *cost = nth_cost_create(&options);
    calls = 0;
    for (uint64_t i = 1; i <= 20000; i++) {
        uint64_t blocks[] = {i / 16, i};
        struct cost_question question = {.tenant = i * UINT64_C(0x9e3779b97f4a7c15),
                                         .prompt_bytes = 4096,
                                         .output_max = UINT32_MAX,
                                         .choices = 1,
                                         .blocks = blocks,
                                         .block_count = 2,
                                         .block_bytes = 2048};
        struct cost_answer answer = {.prompt_tokens = 1000, .output_tokens = 100, .has_usage = true};
        cost_learn(cost, i * NANOS_PER_S, &question, &answer);
        cr_assert_geq(nth_cost_estimate(cost, &question).cached_tokens, 900, "it was taught just now");
    }
    cr_assert_eq(calls, 0);
    cr_assert_eq(cost->tenant_count, 100);
    unsigned listed = 0;
    for (struct list_node *node = cost->recent.next; node != &cost->recent; node = node->next) {
        listed++;
    }
    cr_assert_eq(listed, 100);
    nth_cost_destroy(cost);
}
