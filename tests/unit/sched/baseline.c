#include "sched/baseline.h"

#include <criterion/criterion.h>
#include <math.h>

#define WINDOW  (30 * NANOS_PER_S)
#define MS(ms)  ((nanos)(ms)*NANOS_PER_MS)
#define SECONDS NANOS_PER_S

static struct baseline fresh(void)
{
    struct baseline baseline;
    baseline_init(&baseline, WINDOW, 0);
    return baseline;
}

static void assert_near(nanos value, double expected, double tolerance)
{
    cr_assert_float_eq((double)value, expected, expected * tolerance, "%.1f ms in place of %.1f", (double)value / 1e6,
                       expected / 1e6);
}

Test(baseline, nothing_is_known_at_first)
{
    struct baseline baseline = fresh();
    cr_assert_eq(baseline_of(&baseline, 100), 0);
}

Test(baseline, the_fastest_sample_counts_at_once)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(300), false);
    baseline_add(&baseline, 0, 100, MS(200), false);
    baseline_add(&baseline, 0, 100, MS(400), false);
    cr_assert_eq(baseline_of(&baseline, 100), MS(200));
}

Test(baseline, rises_by_five_percent_a_minute_under_constant_overload)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(100), false);
    for (nanos now = 0; now <= 600 * SECONDS; now += MS(100)) {
        baseline_add(&baseline, now, 100, MS(5000), false);
        double minutes = (double)now / 60e9;
        double most = 100e6 * pow(1.05, minutes);
        cr_assert_leq((double)baseline_of(&baseline, 100), most * 1.0001, "after %.1f minutes", minutes);
    }
    cr_assert_gt((double)baseline_of(&baseline, 100), 100e6 * pow(1.05, 8.5), "but it does rise");
}

Test(baseline, rises_no_further_than_the_samples)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(100), false);
    for (nanos now = 0; now <= 600 * SECONDS; now += MS(500)) {
        baseline_add(&baseline, now, 100, MS(110), false);
    }
    assert_near(baseline_of(&baseline, 100), 110e6, 1e-6);
}

Test(baseline, follows_a_slower_backend_within_a_minute_by_samples_at_low_load)
{
    for (nanos change = 40 * SECONDS; change < 70 * SECONDS; change += MS(1700)) {
        struct baseline baseline = fresh();
        for (nanos now = 0; now <= change + 60 * SECONDS; now += MS(700)) {
            baseline_add(&baseline, now, 100, now < change ? MS(100) : MS(250), true);
        }
        cr_assert_eq(baseline_of(&baseline, 100), MS(250), "changed at %.1f s", (double)change / 1e9);
    }
}

Test(baseline, two_slow_samples_at_low_load_are_not_believed)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(100), false);
    baseline_add(&baseline, 31 * SECONDS, 100, MS(900), true);
    baseline_add(&baseline, 32 * SECONDS, 100, MS(900), true);
    baseline_add(&baseline, 61 * SECONDS, 100, MS(900), false);
    cr_assert_leq(baseline_of(&baseline, 100), MS(106));
}

Test(baseline, what_octaves_have_in_common_at_low_load_holds_for_the_others)
{
    struct baseline baseline = fresh();
    static const uint32_t sizes[] = {10, 100, 1000, 10000};
    for (unsigned i = 0; i < 4; i++) {
        baseline_add(&baseline, 0, sizes[i], MS(sizes[i]), false);
    }
    for (unsigned i = 0; i < 3; i++) { /* one each: none has enough of its own */
        baseline_add(&baseline, 31 * SECONDS, sizes[i], MS(sizes[i]) * 2, true);
    }
    baseline_add(&baseline, 31 * SECONDS, 100000, MS(200000), true); /* its first, compared with nothing */
    baseline_add(&baseline, 61 * SECONDS, 10, MS(20), false);
    for (unsigned i = 0; i < 4; i++) {
        assert_near(baseline_of(&baseline, sizes[i]), 2e6 * sizes[i], 0.03);
    }
}

Test(baseline, idle_time_allows_no_rise)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(100), false);
    for (nanos now = 3600 * SECONDS; now <= 3631 * SECONDS; now += SECONDS) {
        baseline_add(&baseline, now, 100, MS(2000), false);
    }
    cr_assert_leq(baseline_of(&baseline, 100), MS(103));
    cr_assert_geq(baseline_of(&baseline, 100), MS(102), "but what the windows held is forgotten");
}

Test(baseline, is_a_line_between_two_octaves)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(50), false);
    baseline_add(&baseline, 0, 1100, MS(250), false);
    assert_near(baseline_of(&baseline, 600), 150e6, 1e-6);
    assert_near(baseline_of(&baseline, 350), 100e6, 1e-6);
}

Test(baseline, goes_on_beyond_the_known_sizes_but_not_far)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 1000, MS(200), false);
    cr_assert_eq(baseline_of(&baseline, 100000), MS(200), "one point has no slope");
    assert_near(baseline_of(&baseline, 500), 100e6, 1e-6);
    baseline_add(&baseline, 0, 2000, MS(300), false);
    assert_near(baseline_of(&baseline, 3000), 400e6, 1e-6);
    assert_near(baseline_of(&baseline, 10000000), 1200e6, 1e-6);
    assert_near(baseline_of(&baseline, 500), 150e6, 1e-6);
    assert_near(baseline_of(&baseline, 1), 100.1e6, 1e-6);
}

Test(baseline, an_octave_first_seen_under_load_starts_on_its_neighbours_line)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(50), false);
    baseline_add(&baseline, 0, 1100, MS(250), false);
    baseline_add(&baseline, 0, 600, MS(3000), false);
    assert_near(baseline_of(&baseline, 600), 150e6, 1e-6);
    baseline_add(&baseline, 0, 300, MS(120), true);
    cr_assert_eq(baseline_of(&baseline, 300), MS(120), "at low load it is the truth");
}

Test(baseline, larger_prompts_of_the_same_octave_do_not_raise_it)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 64, MS(64), false);
    baseline_add(&baseline, 0, 128, MS(128), false);
    for (nanos now = 0; now < 300 * SECONDS; now += SECONDS) {
        baseline_add(&baseline, now, 120, MS(120), false);
    }
    assert_near(baseline_of(&baseline, 64), 64e6, 0.01);
    assert_near(baseline_of(&baseline, 120), 120e6, 0.01);
}

Test(baseline, the_smaller_of_two_windows_counts)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(100), false);
    baseline_add(&baseline, 31 * SECONDS, 100, MS(200), false);
    baseline_add(&baseline, 61 * SECONDS, 100, MS(200), false);
    cr_assert_eq(baseline_of(&baseline, 100), MS(100));
    baseline_add(&baseline, 91 * SECONDS, 100, MS(200), false);
    assert_near(baseline_of(&baseline, 100), 102.47e6, 1e-4);
}

Test(baseline, a_smaller_prompt_says_no_more_than_that_it_took_so_long)
{
    struct baseline baseline = fresh();
    baseline_add(&baseline, 0, 100, MS(100), false);
    for (nanos now = 0; now < 600 * SECONDS; now += SECONDS) {
        baseline_add(&baseline, now, 70, MS(110), false);
    }
    cr_assert_leq(baseline_of(&baseline, 100), MS(110));
}

Test(baseline, shorter_windows_scale_its_time)
{
    struct baseline slow = fresh();
    struct baseline fast;
    baseline_init(&fast, WINDOW / 10, 0);
    for (nanos now = 0; now < 300 * SECONDS; now += SECONDS) {
        nanos took = now == 0 ? MS(100) : MS(1000);
        baseline_add(&slow, now, 100, took, false);
        baseline_add(&fast, now / 10, 100, took, false);
    }
    cr_assert_gt(baseline_of(&slow, 100), MS(110));
    cr_assert_eq(baseline_of(&slow, 100), baseline_of(&fast, 100));
}

Test(baseline, any_size_and_any_time_give_an_answer)
{
    struct baseline baseline = fresh();
    uint64_t draws = 7;
    nanos now = 0;
    for (int i = 0; i < 200000; i++) {
        draws = draws * UINT64_C(6364136223846793005) + 1442695040888963407;
        uint32_t size = (uint32_t)(draws >> 32) >> (draws % 32);
        nanos took = (draws >> 20) >> (draws / 32 % 44);
        now += took % (40 * SECONDS) / 64;
        baseline_add(&baseline, now, size, took, draws % 5 == 0);
        cr_assert_neq(baseline_of(&baseline, size), 0);
        cr_assert_leq(baseline_of(&baseline, size), NANOS_NEVER / 2);
    }
}
