#include "sched/baseline.h"

#include <math.h>

#include "base/check.h"

enum {
    LOW_SAMPLES_MIN = 3,   /* one alone may have met a hiccup */
    SIZES_MAX = 64,        /* sizes averaged into a point; then they count for half */
    EXTRAPOLATION_MAX = 4, /* times the largest known base */
};

#define RISE_A_WINDOW 1.0246950765959599 /* √1.05: there are two windows to a minute */
#define SAME_BASE     1.05               /* up to here a sample says where the base stands, no less than its minimum */

_Static_assert(sizeof(struct baseline) <= 1536, "the header promises so");

struct point {
    double size;
    double base_ns;
};

static struct baseline_bucket *bucket_of(struct baseline *baseline, uint32_t size)
{
    unsigned octave = 31 - (unsigned)__builtin_clz(size);
    return &baseline->buckets[octave < BASELINE_BUCKETS ? octave : BASELINE_BUCKETS - 1];
}

static double point_size(const struct baseline_bucket *bucket)
{
    return (double)bucket->size_sum / bucket->size_count;
}

void baseline_init(struct baseline *baseline, nanos window_ns, nanos now)
{
    *baseline = (struct baseline){
        .window_ns = window_ns == 0 ? 1 : window_ns,
        .window_began_ns = now,
        .low_ratio = INFINITY,
    };
    for (unsigned i = 0; i < BASELINE_BUCKETS; i++) {
        struct baseline_bucket *bucket = &baseline->buckets[i];
        bucket->minimum_ns = bucket->previous_ns = bucket->low_minimum_ns = NANOS_NEVER;
    }
}

/* The known points, smaller first. A larger prompt cannot take less, so a base above that of a larger octave was
 * learned under load, and is taken for that one's. */
static unsigned points_of(const struct baseline *baseline, struct point points[BASELINE_BUCKETS])
{
    unsigned count = 0;
    double least_ns = INFINITY;
    for (unsigned i = BASELINE_BUCKETS; i-- > 0;) {
        const struct baseline_bucket *bucket = &baseline->buckets[i];
        if (bucket->base_ns == 0) {
            continue;
        }
        least_ns = fmin(least_ns, (double)bucket->base_ns);
        count++;
        points[BASELINE_BUCKETS - count] = (struct point){point_size(bucket), least_ns};
    }
    for (unsigned i = 0; i < count; i++) {
        points[i] = points[BASELINE_BUCKETS - count + i];
    }
    return count;
}

static double line_at(struct point from, struct point to, double size)
{
    return from.base_ns + (to.base_ns - from.base_ns) * (size - from.size) / (to.size - from.size);
}

static double estimate(const struct point *points, unsigned count, double size)
{
    struct point first = points[0];
    struct point last = points[count - 1];
    if (size <= first.size) {
        double by_token_ns = first.base_ns * size / first.size;
        return count == 1 ? by_token_ns : fmax(by_token_ns, line_at(first, points[1], size));
    }
    if (size >= last.size) {
        /* Along the widest chord, which noise in two neighbours cannot tilt. */
        double line_ns = count == 1 ? last.base_ns : line_at(first, last, size);
        return fmin(line_ns, EXTRAPOLATION_MAX * last.base_ns);
    }
    unsigned above = 1;
    while (points[above].size < size) {
        above++;
    }
    return line_at(points[above - 1], points[above], size);
}

nanos baseline_of(const struct baseline *baseline, uint32_t size)
{
    struct point points[BASELINE_BUCKETS];
    unsigned count = points_of(baseline, points);
    return count == 0 ? 0 : (nanos)fmax(1, estimate(points, count, size == 0 ? 1 : (double)size));
}

/* What the samples at low load say of one octave: its own, if there are enough; else what all have in common. */
static void believe_low_load(struct baseline_bucket *bucket, double common_ratio)
{
    if (bucket->low_count >= LOW_SAMPLES_MIN) {
        if (bucket->low_minimum_ns > bucket->base_ns) {
            bucket->base_ns = bucket->low_minimum_ns;
        }
        bucket->low_count = 0;
        bucket->low_minimum_ns = NANOS_NEVER;
    } else if (bucket->base_ns != 0 && common_ratio > 1) {
        bucket->base_ns = (nanos)((double)bucket->base_ns * common_ratio);
    }
}

static void close_window(struct baseline *baseline)
{
    double common_ratio = baseline->low_count >= LOW_SAMPLES_MIN ? baseline->low_ratio : 1;
    for (unsigned i = 0; i < BASELINE_BUCKETS; i++) {
        struct baseline_bucket *bucket = &baseline->buckets[i];
        nanos minimum_ns = bucket->minimum_ns < bucket->previous_ns ? bucket->minimum_ns : bucket->previous_ns;
        if (minimum_ns != NANOS_NEVER && minimum_ns > bucket->base_ns) {
            bucket->base_ns = (nanos)fmin((double)minimum_ns, (double)bucket->base_ns * RISE_A_WINDOW);
        }
        believe_low_load(bucket, common_ratio);
        bucket->previous_ns = bucket->minimum_ns;
        bucket->minimum_ns = NANOS_NEVER;
    }
    baseline->low_ratio = INFINITY;
    baseline->low_count = 0;
}

/* Time in which nothing came allows no rise: two closings forget all that the windows held. */
static void close_windows(struct baseline *baseline, nanos now)
{
    if (now < baseline->window_began_ns + baseline->window_ns) {
        return;
    }
    nanos passed = (now - baseline->window_began_ns) / baseline->window_ns;
    close_window(baseline);
    if (passed > 1) {
        close_window(baseline);
    }
    baseline->window_began_ns += passed * baseline->window_ns;
}

/* An octave's first sample may have met load; between two that are known it starts no higher than their line. */
static void begin_bucket(struct baseline *baseline, struct baseline_bucket *bucket, uint32_t size, nanos took_ns,
                         bool at_low_load)
{
    struct point points[BASELINE_BUCKETS];
    unsigned count = points_of(baseline, points);
    nanos base_ns = took_ns;
    if (!at_low_load && count >= 2 && size > points[0].size && size < points[count - 1].size) {
        base_ns = (nanos)fmax(1, fmin((double)took_ns, estimate(points, count, size)));
    }
    bucket->base_ns = base_ns;
    bucket->size_sum = size;
    bucket->size_count = 1;
}

/* Where in its octave the base stands: at the mean size of the samples that were as fast. */
static void place_point(struct baseline_bucket *bucket, uint32_t size, nanos took_ns)
{
    if (took_ns < bucket->base_ns) {
        bucket->base_ns = took_ns;
        bucket->size_sum = size;
        bucket->size_count = 1;
    } else if ((double)took_ns <= (double)bucket->base_ns * SAME_BASE) {
        if (bucket->size_count == SIZES_MAX) {
            bucket->size_sum /= 2;
            bucket->size_count /= 2;
        }
        bucket->size_sum += size;
        bucket->size_count++;
    }
}

void baseline_add(struct baseline *baseline, nanos now, uint32_t size, nanos took_ns, bool at_low_load)
{
    size = size == 0 ? 1 : size;
    took_ns = took_ns == 0 ? 1 : took_ns;
    close_windows(baseline, now);
    struct baseline_bucket *bucket = bucket_of(baseline, size);
    bool is_first = bucket->base_ns == 0;
    if (is_first) {
        begin_bucket(baseline, bucket, size, took_ns, at_low_load);
    } else {
        place_point(bucket, size, took_ns);
    }

    double ratio = (double)took_ns / (double)baseline_of(baseline, size);
    /* A larger sample of the same octave takes longer without anything having become slower. */
    double at_point_ns = fmin((double)took_ns, ratio * (double)bucket->base_ns);
    nanos normal_ns = at_point_ns < 1 ? 1 : (nanos)at_point_ns;
    bucket->minimum_ns = normal_ns < bucket->minimum_ns ? normal_ns : bucket->minimum_ns;
    if (at_low_load) {
        bucket->low_minimum_ns = normal_ns < bucket->low_minimum_ns ? normal_ns : bucket->low_minimum_ns;
        bucket->low_count++;
        if (!is_first) { /* which would be compared with itself */
            baseline->low_ratio = fmin(baseline->low_ratio, ratio);
            baseline->low_count++;
        }
    }
}
