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

_Static_assert(sizeof(struct baseline) <= 2048, "the header promises so");

static struct baseline_bucket *bucket_of(struct baseline *baseline, uint32_t size)
{
    unsigned octave = 31 - (unsigned)__builtin_clz(size);
    return &baseline->buckets[octave < BASELINE_BUCKETS ? octave : BASELINE_BUCKETS - 1];
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

static struct baseline_point point_of(const struct baseline_bucket *bucket)
{
    return (struct baseline_point){(double)bucket->size_sum / bucket->size_count, (double)bucket->base_ns};
}

static void make_points(struct baseline *baseline)
{
    unsigned count = 0;
    for (unsigned i = 0; i < BASELINE_BUCKETS; i++) {
        if (baseline->buckets[i].base_ns != 0) {
            baseline->points[count++] = point_of(&baseline->buckets[i]);
        }
    }
    baseline->point_count = count;
}

/* The same where only the one of a known bucket has moved. */
static void make_point(struct baseline *baseline, const struct baseline_bucket *bucket)
{
    unsigned at = 0;
    for (const struct baseline_bucket *below = baseline->buckets; below < bucket; below++) {
        at += below->base_ns != 0;
    }
    baseline->points[at] = point_of(bucket);
}

static double line_at(struct baseline_point from, struct baseline_point to, double size)
{
    return from.base_ns + (to.base_ns - from.base_ns) * (size - from.size) / (to.size - from.size);
}

/* Of at least one point. */
static double estimate(const struct baseline *baseline, double size)
{
    const struct baseline_point *points = baseline->points;
    unsigned count = baseline->point_count;
    struct baseline_point first = points[0];
    struct baseline_point last = points[count - 1];
    if (size <= first.size) {
        double by_token_ns = first.base_ns * size / first.size;
        double line_ns = count == 1 ? 0 : line_at(first, points[1], size);
        return fmin(first.base_ns, fmax(by_token_ns, line_ns));
    }
    if (size >= last.size) {
        /* Along the widest chord, which noise in two neighbours cannot tilt. */
        double line_ns = count == 1 ? last.base_ns : line_at(first, last, size);
        return fmax(last.base_ns, fmin(line_ns, EXTRAPOLATION_MAX * last.base_ns));
    }
    unsigned above = 1;
    while (points[above].size < size) {
        above++;
    }
    return line_at(points[above - 1], points[above], size);
}

nanos baseline_of(const struct baseline *baseline, uint32_t size)
{
    return baseline->point_count == 0 ? 0 : (nanos)fmax(1, estimate(baseline, size == 0 ? 1 : (double)size));
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
    make_points(baseline);
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
    const struct baseline_point *points = baseline->points;
    unsigned count = baseline->point_count;
    nanos base_ns = took_ns;
    if (!at_low_load && count >= 2 && size > points[0].size && size < points[count - 1].size) {
        base_ns = (nanos)fmax(1, fmin((double)took_ns, estimate(baseline, size)));
    }
    bucket->base_ns = base_ns;
    bucket->size_sum = size;
    bucket->size_count = 1;
}

/* Where in its octave the base stands: at the mean size of the samples that were as fast. Whether it has moved. */
static bool place_point(struct baseline_bucket *bucket, uint32_t size, nanos took_ns)
{
    if (took_ns < bucket->base_ns) {
        bucket->base_ns = took_ns;
        bucket->size_sum = size;
        bucket->size_count = 1;
        return true;
    }
    if ((double)took_ns <= (double)bucket->base_ns * SAME_BASE) {
        if (bucket->size_count == SIZES_MAX) {
            bucket->size_sum /= 2;
            bucket->size_count /= 2;
        }
        bucket->size_sum += size;
        bucket->size_count++;
        return true;
    }
    return false;
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
        make_points(baseline);
    } else if (place_point(bucket, size, took_ns)) {
        make_point(baseline, bucket);
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
