#include "base/histogram.h"

#include <criterion/criterion.h>

static struct histogram h;
static struct histogram other;

Test(base, histogram_quantiles_are_within_an_eighth)
{
    for (nanos sample = 10000; sample < NANOS_PER_S * 3600; sample += sample / 3) {
        h = (struct histogram){0};
        histogram_add(&h, sample);
        nanos quantile = histogram_quantile(&h, 0.5);
        cr_assert_geq(quantile, sample);
        cr_assert_leq(quantile, sample + sample / 8 + 1024, "%llu", (unsigned long long)sample);
    }
}

Test(base, histogram_orders_its_samples)
{
    h = (struct histogram){0};
    cr_assert_eq(histogram_quantile(&h, 0.99), 0);
    for (unsigned i = 1; i <= 1000; i++) {
        histogram_add(&h, i * NANOS_PER_MS);
    }
    cr_assert_eq(h.count, 1000);
    cr_assert_eq(h.sum_ns, 500500 * NANOS_PER_MS);
    nanos median = histogram_quantile(&h, 0.5);
    nanos p99 = histogram_quantile(&h, 0.99);
    cr_assert(median >= 500 * NANOS_PER_MS && median <= 563 * NANOS_PER_MS);
    cr_assert(p99 >= 990 * NANOS_PER_MS && p99 <= 1115 * NANOS_PER_MS);
    cr_assert_geq(histogram_quantile(&h, 1.0), p99);
}

Test(base, histogram_counts_below_never_count_too_many)
{
    h = (struct histogram){0};
    uint64_t before = 0;
    for (unsigned i = 1; i <= 100; i++) {
        histogram_add(&h, i * NANOS_PER_MS);
    }
    for (nanos bound = 0; bound < 200 * NANOS_PER_MS; bound += NANOS_PER_MS / 2) {
        uint64_t count = histogram_count_below(&h, bound);
        cr_assert_leq(count, bound / NANOS_PER_MS);
        cr_assert_geq(count, before);
        before = count;
    }
    cr_assert_eq(before, 100);
}

Test(base, histogram_keeps_the_smallest_and_the_largest)
{
    h = (struct histogram){0};
    histogram_add(&h, 0);
    histogram_add(&h, UINT64_MAX);
    cr_assert_eq(h.count, 2);
    cr_assert_eq(atomic_load(&h.buckets[0]), 1);
    cr_assert_eq(atomic_load(&h.buckets[HISTOGRAM_BUCKETS - 1]), 1);
}

Test(base, histogram_merge_adds_up)
{
    h = (struct histogram){0};
    other = (struct histogram){0};
    histogram_add(&h, NANOS_PER_MS);
    histogram_add(&other, NANOS_PER_MS);
    histogram_add(&other, NANOS_PER_S);
    histogram_merge(&h, &other);
    cr_assert_eq(h.count, 3);
    cr_assert_eq(h.sum_ns, NANOS_PER_S + 2 * NANOS_PER_MS);
    cr_assert_eq(histogram_count_below(&h, 2 * NANOS_PER_MS), 2);
}

Test(base, histogram_since_tells_only_what_came_in_between)
{
    static struct histogram before;
    static struct histogram since;
    h = (struct histogram){0};
    for (unsigned i = 0; i < 10; i++) {
        histogram_add(&h, NANOS_PER_S);
    }
    before = (struct histogram){0};
    histogram_merge(&before, &h);
    histogram_add(&h, NANOS_PER_MS);
    histogram_add(&h, NANOS_PER_MS);
    histogram_since(&h, &before, &since);
    cr_assert_eq(since.count, 2);
    cr_assert_eq(since.sum_ns, 2 * NANOS_PER_MS);
    cr_assert_leq(histogram_max(&since), NANOS_PER_MS + NANOS_PER_MS / 8);
    histogram_since(&h, &h, &since);
    cr_assert_eq(since.count, 0);
    cr_assert_eq(histogram_max(&since), 0);
}

Test(base, histogram_max_is_the_top_of_the_largest)
{
    h = (struct histogram){0};
    cr_assert_eq(histogram_max(&h), 0);
    histogram_add(&h, 3 * NANOS_PER_S);
    for (unsigned i = 0; i < 1000; i++) {
        histogram_add(&h, NANOS_PER_MS);
    }
    cr_assert(histogram_max(&h) >= 3 * NANOS_PER_S && histogram_max(&h) <= 3 * NANOS_PER_S + 3 * NANOS_PER_S / 8);
}
