#include <criterion/criterion.h>

#include "sim/profiles.h"

Test(profiles, reference_is_the_default_and_has_the_documented_constants)
{
    unsigned count;
    const struct engine_profile *all = profiles_all(&count);
    cr_assert_gt(count, 1);
    cr_assert_str_eq(all[0].name, "reference");
    cr_assert_eq(all[0].step_base_ns, 30600 * NANOS_PER_US);
    cr_assert_eq(all[0].step_per_sequence_ns, 300 * NANOS_PER_US);
    cr_assert_eq(all[0].prefill_tokens_per_s, 13000);
    cr_assert_eq(all[0].prefill_tokens_max, 2048);
    cr_assert_eq(all[0].sequences_max, 64);
    cr_assert_eq(all[0].kv_tokens_max, 120000);
}

Test(profiles, every_one_is_found_by_its_name_and_makes_sense)
{
    unsigned count;
    const struct engine_profile *all = profiles_all(&count);
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(profiles_find(bytes_from(all[i].name)), &all[i]);
        cr_assert(all[i].step_base_ns > 20 * NANOS_PER_MS && all[i].step_base_ns < 100 * NANOS_PER_MS);
        cr_assert(all[i].step_per_sequence_ns > 0 && all[i].step_per_sequence_ns < 2 * NANOS_PER_MS);
        cr_assert(all[i].prefill_tokens_per_s > 1000);
        cr_assert_leq(all[i].context_tokens_max, all[i].kv_tokens_max);
    }
    cr_assert_null(profiles_find(BYTES("no-such-engine")));
}

Test(profiles, newer_cards_are_faster)
{
    const struct engine_profile *a100 = profiles_find(BYTES("llama2-70b-a100-x8"));
    const struct engine_profile *h100 = profiles_find(BYTES("llama2-70b-h100-x8"));
    cr_assert_not_null(a100);
    cr_assert_not_null(h100);
    cr_assert_lt(h100->step_base_ns, a100->step_base_ns);
    cr_assert_gt(h100->prefill_tokens_per_s, a100->prefill_tokens_per_s);
}
