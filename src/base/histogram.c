#include "base/histogram.h"

#define RELAXED memory_order_relaxed

static unsigned bucket_of(nanos sample_ns)
{
    uint64_t units = sample_ns >> HISTOGRAM_UNIT_SHIFT;
    if (units < HISTOGRAM_STEPS) {
        return (unsigned)units;
    }
    unsigned octave = 63U - (unsigned)__builtin_clzll(units);
    unsigned step = (unsigned)(units >> (octave - HISTOGRAM_STEPS_BITS)) & (HISTOGRAM_STEPS - 1);
    unsigned bucket = (octave - HISTOGRAM_STEPS_BITS + 1) * HISTOGRAM_STEPS + step;
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

/* The largest sample that falls into the bucket. */
static nanos bucket_top(unsigned bucket)
{
    uint64_t units;
    if (bucket < HISTOGRAM_STEPS) {
        units = bucket + 1;
    } else {
        unsigned octave = bucket / HISTOGRAM_STEPS - 1;
        units = (uint64_t)(HISTOGRAM_STEPS + bucket % HISTOGRAM_STEPS + 1) << octave;
    }
    return (units << HISTOGRAM_UNIT_SHIFT) - 1;
}

/* Single writer: a load and a store, no locked instruction. */
static void bump(_Atomic uint64_t *word, uint64_t by)
{
    atomic_store_explicit(word, atomic_load_explicit(word, RELAXED) + by, RELAXED);
}

void histogram_add(struct histogram *h, nanos sample_ns)
{
    bump(&h->buckets[bucket_of(sample_ns)], 1);
    bump(&h->sum_ns, sample_ns);
    bump(&h->count, 1);
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        bump(&into->buckets[i], atomic_load_explicit(&from->buckets[i], RELAXED));
    }
    bump(&into->sum_ns, atomic_load_explicit(&from->sum_ns, RELAXED));
    bump(&into->count, atomic_load_explicit(&from->count, RELAXED));
}

void histogram_since(const struct histogram *now, const struct histogram *before, struct histogram *ret_since)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        atomic_store_explicit(&ret_since->buckets[i],
                              atomic_load_explicit(&now->buckets[i], RELAXED) -
                                  atomic_load_explicit(&before->buckets[i], RELAXED),
                              RELAXED);
    }
    atomic_store_explicit(&ret_since->sum_ns,
                          atomic_load_explicit(&now->sum_ns, RELAXED) - atomic_load_explicit(&before->sum_ns, RELAXED),
                          RELAXED);
    atomic_store_explicit(&ret_since->count,
                          atomic_load_explicit(&now->count, RELAXED) - atomic_load_explicit(&before->count, RELAXED),
                          RELAXED);
}

uint64_t histogram_count_below(const struct histogram *h, nanos bound_ns)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && bucket_top(i) <= bound_ns; i++) {
        count += atomic_load_explicit(&h->buckets[i], RELAXED);
    }
    return count;
}

nanos histogram_quantile(const struct histogram *h, double quantile)
{
    uint64_t total = atomic_load_explicit(&h->count, RELAXED);
    if (total == 0) {
        return 0;
    }
    uint64_t rank = (uint64_t)(quantile * (double)total);
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += atomic_load_explicit(&h->buckets[i], RELAXED);
        if (seen > rank) {
            return bucket_top(i);
        }
    }
    return bucket_top(HISTOGRAM_BUCKETS - 1);
}

nanos histogram_max(const struct histogram *h)
{
    for (unsigned i = HISTOGRAM_BUCKETS; i > 0; i--) {
        if (atomic_load_explicit(&h->buckets[i - 1], RELAXED) > 0) {
            return bucket_top(i - 1);
        }
    }
    return 0;
}
