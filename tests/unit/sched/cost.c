#include "sched/cost.h"

#include <criterion/criterion.h>
#include <math.h>

static const struct cost_options usual = {
    .bytes_per_token = 4,
    .output_quantile = 0.75,
    .output_tokens = 256,
    .tenants_max = 4,
    .prefix_blocks_max = 64,
};

static uint64_t draw(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return *state >> 33;
}

static struct cost_question asks(uint64_t tenant, uint64_t bytes)
{
    return (struct cost_question){.tenant = tenant, .prompt_bytes = bytes, .output_max = UINT32_MAX, .choices = 1};
}

static void learn(struct cost_model *cost, uint64_t tenant, uint64_t bytes, uint32_t prompt, uint32_t output)
{
    struct cost_question question = asks(tenant, bytes);
    struct cost_answer answer = {.prompt_tokens = prompt, .output_tokens = output, .has_usage = true};
    cost_learn(cost, 0, &question, &answer);
}

static uint32_t output_for(const struct cost_model *cost, uint64_t tenant)
{
    struct cost_question question = asks(tenant, 100);
    return cost_estimate(cost, &question).output_tokens;
}

static double ratio_of(const struct cost_model *cost)
{
    struct cost_figures figures;
    cost_figures(cost, &figures);
    return figures.bytes_per_token;
}

Test(cost, begins_with_what_the_options_say)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_question question = asks(1, 4000);
    struct sched_cost estimate = cost_estimate(cost, &question);
    cr_assert_eq(estimate.prompt_tokens, 1000);
    cr_assert_eq(estimate.cached_tokens, 0);
    cr_assert_eq(estimate.output_tokens, 256);
    cost_destroy(cost);
}

Test(cost, bytes_per_token_converge_and_follow)
{
    struct cost_model *cost = cost_create(&usual);
    uint64_t draws = 3;
    static const double truths[] = {3.2, 1.7};
    for (int phase = 0; phase < 2; phase++) {
        for (int i = 0; i < 1500; i++) {
            uint32_t tokens = 20 + (uint32_t)(draw(&draws) % 3000);
            double noise = 0.9 + 0.2 * (double)(draw(&draws) % 1000) / 1000;
            learn(cost, 1, (uint64_t)(tokens * truths[phase] * noise), tokens, 10);
        }
        cr_assert_float_eq(ratio_of(cost), truths[phase], truths[phase] * 0.02);
    }
    cost_destroy(cost);
}

Test(cost, long_prompts_count_for_what_they_are)
{
    struct cost_model *cost = cost_create(&usual);
    for (int i = 0; i < 2000; i++) {
        learn(cost, 1, 100, 100, 10);
        learn(cost, 1, 40000, 10000, 10);
    }
    cr_assert_float_eq(ratio_of(cost), 40100 / 10100.0, 0.02);
    cost_destroy(cost);
}

Test(cost, usage_that_cannot_be_of_this_text_is_not_learned)
{
    struct cost_model *cost = cost_create(&usual);
    learn(cost, 1, 20, 1000, 10);
    learn(cost, 1, 20, UINT32_MAX, 10);
    learn(cost, 1, 1000000, 1, 10);
    cr_assert_float_eq(ratio_of(cost), 4, 1e-9);
    cost_destroy(cost);
}

Test(cost, known_prompt_tokens_are_taken_and_teach_no_ratio)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_question question = asks(1, 4000);
    question.prompt_tokens = 77;
    cr_assert_eq(cost_estimate(cost, &question).prompt_tokens, 77);
    struct cost_answer answer = {.prompt_tokens = 77, .output_tokens = 1, .has_usage = true};
    cost_learn(cost, 0, &question, &answer);
    cr_assert_float_eq(ratio_of(cost), 4, 1e-9);
    cost_destroy(cost);
}

Test(cost, an_empty_prompt_is_one_token)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_question question = asks(1, 0);
    struct sched_cost estimate = cost_estimate(cost, &question);
    cr_assert_eq(estimate.prompt_tokens, 1);
    cr_assert_eq(estimate.cached_tokens, 0);
    cost_destroy(cost);
}

Test(cost, output_is_bounded_by_the_request_and_multiplied_by_its_choices)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_question question = asks(1, 100);
    question.output_max = 100;
    cr_assert_eq(cost_estimate(cost, &question).output_tokens, 100);
    question.choices = 3;
    cr_assert_eq(cost_estimate(cost, &question).output_tokens, 300);
    question.output_max = UINT32_MAX;
    cr_assert_eq(cost_estimate(cost, &question).output_tokens, 768);
    question.choices = UINT32_MAX;
    cr_assert_eq(cost_estimate(cost, &question).output_tokens, UINT32_MAX);
    question.output_max = 0;
    cr_assert_eq(cost_estimate(cost, &question).output_tokens, 0);
    cost_destroy(cost);
}

Test(cost, answers_of_several_choices_teach_what_one_takes)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_question question = asks(1, 100);
    question.choices = 4;
    struct cost_answer answer = {.prompt_tokens = 25, .output_tokens = 400, .has_usage = true};
    for (int i = 0; i < 300; i++) {
        cost_learn(cost, 0, &question, &answer);
    }
    cr_assert_eq(output_for(cost, 1), 100);
    cost_destroy(cost);
}

Test(cost, the_quantile_of_a_spread_is_found)
{
    struct cost_model *cost = cost_create(&usual);
    uint64_t draws = 11;
    for (int i = 0; i < 2000; i++) {
        learn(cost, 1, 400, 100, 1 + (uint32_t)(draw(&draws) % 1000));
    }
    cr_assert_float_eq((double)output_for(cost, 1), 750, 110, "%u", output_for(cost, 1));
    cost_destroy(cost);
}

Test(cost, answers_that_all_take_the_same_are_known_exactly)
{
    static const uint32_t lengths[] = {1, 3, 4, 17, 512, 1000, 65536};
    for (unsigned i = 0; i < 7; i++) {
        struct cost_model *cost = cost_create(&usual);
        for (int j = 0; j < 500; j++) {
            learn(cost, 1, 400, 100, lengths[i]);
        }
        cr_assert_eq(output_for(cost, 1), lengths[i], "%u in place of %u", output_for(cost, 1), lengths[i]);
        cost_destroy(cost);
    }
}

Test(cost, a_tenant_with_few_answers_leans_on_the_others)
{
    struct cost_model *cost = cost_create(&usual);
    for (int i = 0; i < 200; i++) {
        learn(cost, 1, 400, 100, 100);
    }
    cr_assert_eq(output_for(cost, 2), 100, "one never seen is as the others");
    learn(cost, 2, 400, 100, 2000);
    learn(cost, 2, 400, 100, 2000);
    cr_assert_eq(output_for(cost, 2), 100);
    for (int i = 0; i < 60; i++) {
        learn(cost, 2, 400, 100, 2000);
    }
    cr_assert_eq(output_for(cost, 2), 2000);
    cr_assert_eq(output_for(cost, 1), 100);
    cost_destroy(cost);
}

Test(cost, a_tenant_that_changes_is_followed)
{
    struct cost_model *cost = cost_create(&usual);
    for (int i = 0; i < 5000; i++) {
        learn(cost, 1, 400, 100, 1000);
    }
    for (int i = 0; i < 400; i++) {
        learn(cost, 1, 400, 100, 60);
    }
    cr_assert_eq(output_for(cost, 1), 60);
    cost_destroy(cost);
}

Test(cost, forgetting_goes_on_for_ever)
{
    struct cost_model *cost = cost_create(&usual);
    for (int i = 0; i < 100000; i++) {
        learn(cost, 1, 400, 100, i % 5 == 4 ? 900 : 30);
    }
    cr_assert_eq(output_for(cost, 1), 30, "four fifths are at most 30: %u", output_for(cost, 1));
    cost_destroy(cost);
}

Test(cost, tenants_beyond_the_bound_share_one_record_until_a_place_is_stale)
{
    struct cost_model *cost = cost_create(&usual);
    for (uint64_t tenant = 1; tenant <= 4; tenant++) {
        for (int i = 0; i < 100; i++) {
            learn(cost, tenant, 400, 100, 100);
        }
    }
    struct cost_question question = asks(5, 400);
    struct cost_answer answer = {.prompt_tokens = 100, .output_tokens = 3000, .has_usage = true};
    for (int i = 0; i < 100; i++) {
        cost_learn(cost, NANOS_PER_S, &question, &answer);
    }
    cr_assert_eq(output_for(cost, 6), 3000, "as the fifth, which has no record of its own either");
    cr_assert_eq(output_for(cost, 1), 100);
    question.tenant = 7;
    answer.output_tokens = 50;
    for (int i = 0; i < 100; i++) {
        cost_learn(cost, 601 * NANOS_PER_S, &question, &answer);
    }
    cr_assert_eq(output_for(cost, 7), 50, "it has got the first one's place");
    cr_assert_eq(output_for(cost, 1), 3000, "which is a stranger now");
    cr_assert_eq(output_for(cost, 2), 100);
    cost_destroy(cost);
}

Test(cost, without_a_table_of_tenants_all_are_strangers)
{
    struct cost_options options = usual;
    options.tenants_max = 0;
    struct cost_model *cost = cost_create(&options);
    for (int i = 0; i < 100; i++) {
        learn(cost, (uint64_t)i, 400, 100, 70);
    }
    cr_assert_eq(output_for(cost, 1234), 70);
    cost_destroy(cost);
}

Test(cost, an_answer_without_usage_teaches_the_tokens_that_were_counted)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_question question = asks(1, 400);
    struct cost_answer nothing = {.has_usage = false};
    struct cost_answer counted = {.output_tokens = 33, .has_usage = false};
    for (int i = 0; i < 100; i++) {
        cost_learn(cost, 0, &question, &nothing);
    }
    cr_assert_eq(output_for(cost, 1), 256);
    for (int i = 0; i < 200; i++) {
        cost_learn(cost, 0, &question, &counted);
    }
    cr_assert_eq(output_for(cost, 1), 33);
    cr_assert_float_eq(ratio_of(cost), 4, 1e-9);
    cost_destroy(cost);
}

static void ask_blocks(struct cost_question *question, const uint64_t *blocks, uint32_t count)
{
    *question = asks(1, count * 400);
    question->blocks = blocks;
    question->block_count = count;
    question->block_bytes = 400;
}

Test(cost, the_leading_known_blocks_are_expected_to_be_cached)
{
    struct cost_model *cost = cost_create(&usual);
    uint64_t blocks[] = {0, 22, 33, 44, 55};
    struct cost_question question;
    struct cost_answer answer = {.prompt_tokens = 300, .output_tokens = 1, .has_usage = true};
    ask_blocks(&question, blocks, 5);
    cr_assert_eq(cost_estimate(cost, &question).cached_tokens, 0);
    ask_blocks(&question, blocks, 3);
    cost_learn(cost, 0, &question, &answer);
    cr_assert_eq(cost_estimate(cost, &question).cached_tokens, 299, "the last token is always computed");
    ask_blocks(&question, blocks, 5);
    cr_assert_eq(cost_estimate(cost, &question).prompt_tokens, 500);
    cr_assert_eq(cost_estimate(cost, &question).cached_tokens, 300);
    blocks[1] = 23;
    cr_assert_eq(cost_estimate(cost, &question).cached_tokens, 100, "what follows an unknown block is not cached");
    cost_destroy(cost);
}

Test(cost, the_set_of_blocks_is_bounded_and_forgets_the_tail_first)
{
    struct cost_model *cost = cost_create(&usual);
    static uint64_t blocks[1000];
    for (uint64_t i = 0; i < 1000; i++) {
        blocks[i] = (i + 1) * UINT64_C(0x123456789abcdef1);
    }
    struct cost_question question;
    struct cost_answer answer = {0};
    ask_blocks(&question, blocks, 1000);
    cost_learn(cost, 0, &question, &answer);
    uint32_t cached = cost_estimate(cost, &question).cached_tokens;
    cr_assert_geq(cached, 20 * 100, "%u tokens", cached);
    cr_assert_leq(cached, 64 * 100, "%u tokens", cached);
    cost_destroy(cost);
}

Test(cost, a_backend_that_tells_of_fewer_cached_tokens_is_believed)
{
    struct cost_model *cost = cost_create(&usual);
    uint64_t blocks[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    struct cost_question question;
    ask_blocks(&question, blocks, 10);
    struct cost_answer silent = {.prompt_tokens = 1000, .output_tokens = 1, .has_usage = true};
    for (int i = 0; i < 50; i++) {
        cost_learn(cost, 0, &question, &silent);
    }
    cr_assert_eq(cost_estimate(cost, &question).cached_tokens, 999, "it may have them, and not tell");
    struct cost_answer telling = silent;
    telling.cached_tokens = 400;
    for (int i = 0; i < 2000; i++) {
        cost_learn(cost, 0, &question, &telling);
    }
    cr_assert_float_eq((double)cost_estimate(cost, &question).cached_tokens, 400, 5, "%u",
                       cost_estimate(cost, &question).cached_tokens);
    cost_destroy(cost);
}

Test(cost, without_a_set_of_blocks_nothing_is_expected_to_be_cached)
{
    struct cost_options options = usual;
    options.prefix_blocks_max = 0;
    struct cost_model *cost = cost_create(&options);
    uint64_t blocks[] = {1, 2};
    struct cost_question question;
    struct cost_answer answer = {.prompt_tokens = 200, .output_tokens = 1, .has_usage = true};
    ask_blocks(&question, blocks, 2);
    cost_learn(cost, 0, &question, &answer);
    cr_assert_eq(cost_estimate(cost, &question).cached_tokens, 0);
    cost_destroy(cost);
}

Test(cost, errors_are_those_of_the_estimates)
{
    struct cost_model *cost = cost_create(&usual);
    struct cost_figures figures;
    learn(cost, 1, 400, 80, 512); /* 100 and 256 were expected */
    cost_figures(cost, &figures);
    cr_assert_float_eq(figures.prompt_error, 0.25, 1e-9);
    cr_assert_float_eq(figures.output_error, 0.5, 1e-9);
    for (int i = 0; i < 1000; i++) {
        learn(cost, 1, 400, 80, 512);
    }
    cost_figures(cost, &figures);
    cr_assert_lt(figures.prompt_error, 0.02);
    cr_assert_lt(figures.output_error, 0.02);
    cr_assert_eq(figures.answers, 1001);
    cost_destroy(cost);
}

Test(cost, what_is_expected_grows_with_what_was_emitted_and_never_falls)
{
    cr_assert_eq(cost_output_expected(256, 0, 1000), 256);
    cr_assert_eq(cost_output_expected(256, 200, 1000), 256);
    cr_assert_eq(cost_output_expected(256, 256, 1000), 320);
    cr_assert_eq(cost_output_expected(256, 900, 1000), 1000, "no more than the request allows");
    cr_assert_eq(cost_output_expected(256, 1200, 1000), 1200, "but no less than there is");
    cr_assert_eq(cost_output_expected(0, 0, 0), 0);
    cr_assert_eq(cost_output_expected(1, UINT32_MAX, UINT32_MAX), UINT32_MAX);
    uint32_t before = 0;
    for (uint32_t emitted = 0; emitted < 5000; emitted++) {
        uint32_t expected = cost_output_expected(300, emitted, 4096);
        cr_assert_geq(expected, before);
        cr_assert_geq(expected, emitted);
        before = expected;
    }
}
