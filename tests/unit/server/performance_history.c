#include "server/performance_history.h"
#include "base/clock.h"

#include <criterion/criterion.h>
#include <math.h>

static struct performance_history history;

Test(performance_history, keeps_the_last_hour_in_order)
{
    for (unsigned added = 1; added <= 3 * PERFORMANCE_SAMPLES; added++) {
        performance_history_add(&history, &(struct performance_sample){.unix_ms = added, .queued = added % 7});
        unsigned expected = added < PERFORMANCE_SAMPLES ? added : PERFORMANCE_SAMPLES;
        cr_assert_eq(history.count, expected);
        for (unsigned i = 0; i < expected; i++) {
            const struct performance_sample *sample = performance_history_at(&history, i);
            cr_assert_eq(sample->unix_ms, added - expected + 1 + i);
            cr_assert_eq(sample->queued, sample->unix_ms % 7);
        }
    }
    cr_assert_eq(PERFORMANCE_SAMPLES * PERFORMANCE_STEP_S, 3600);
}

Test(performance_history, rates_are_of_what_came_in_between)
{
    const struct performance_counts before = {1000, 10, 300, 400, 5, NANOS_PER_S};
    const struct performance_counts after = {1200, 20, 330, 500, 25, NANOS_PER_S + 5 * NANOS_PER_S};
    struct performance_sample sample = {.queued = 3};
    performance_sample_rates(&before, &after, 10, &sample);
    cr_assert_float_eq(sample.requests_per_second, 20, 1e-9);
    cr_assert_float_eq(sample.error_rate, 0.05, 1e-9);
    cr_assert_float_eq(sample.hit_rate, 0.3, 1e-9);
    cr_assert_float_eq(sample.sheds_per_second, 2, 1e-9);
    cr_assert_float_eq(sample.cpu_percent, 50, 1e-9);
    cr_assert_eq(sample.queued, 3, "what is of the moment stays");
}

Test(performance_history, a_share_of_nothing_is_not_known)
{
    const struct performance_counts counts = {7, 1, 1, 1, 1, 1};
    struct performance_sample sample;
    performance_sample_rates(&counts, &counts, 10, &sample);
    cr_assert_float_eq(sample.requests_per_second, 0, 1e-9);
    cr_assert(isnan(sample.error_rate));
    cr_assert(isnan(sample.hit_rate));
}

Test(performance_history, a_sum_that_has_fallen_is_no_rate)
{
    const struct performance_counts before = {.requests = 10, .sheds = 100};
    const struct performance_counts after = {.requests = 20, .errors = 11, .sheds = 40};
    struct performance_sample sample;
    performance_sample_rates(&before, &after, 10, &sample);
    cr_assert_float_eq(sample.sheds_per_second, 0, 1e-9, "a model that has gone took its count with it");
    cr_assert_float_eq(sample.error_rate, 1, 1e-9, "counted one after the other");
}
