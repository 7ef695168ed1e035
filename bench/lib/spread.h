/* A histogram with what it loses: the highest value and the sum. */
#ifndef BENCH_SPREAD_H
#define BENCH_SPREAD_H

#include "histogram.h"

struct spread {
    struct histogram histogram;
    uint64_t max_ns;
    double sum_ns;
};

static inline void spread_add(struct spread *spread, uint64_t value_ns)
{
    histogram_add(&spread->histogram, value_ns);
    spread->max_ns = value_ns > spread->max_ns ? value_ns : spread->max_ns;
    spread->sum_ns += (double)value_ns;
}

/* The middle of a step may be beyond the highest value in it. */
static inline double spread_quantile_us(const struct spread *spread, double fraction)
{
    double value = histogram_quantile(&spread->histogram, fraction), max = (double)spread->max_ns;
    return (value < max ? value : max) / 1e3;
}

static inline double spread_mean_us(const struct spread *spread)
{
    return spread->histogram.count > 0 ? spread->sum_ns / (double)spread->histogram.count / 1e3 : 0;
}

/* Prints `"NAME":{"count":…,"mean_us":…,"p50_us":…,…,"max_us":…,"curve":[[share, us],…]}`. The curve has as many points
 * as the count can tell apart. */
void spread_print(const char *name, const struct spread *spread);

#endif
