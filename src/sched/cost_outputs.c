#include "sched/cost_internal.h"

#include <math.h>
#include <stddef.h>

#define WEIGHT_MAX 1e9 /* far from where a float loses small ones that still count */

static unsigned bucket_of(uint32_t tokens)
{
    if (tokens < 1 << OUTPUT_STEPS_BITS) {
        return tokens;
    }
    unsigned octave = 31 - (unsigned)__builtin_clz(tokens);
    unsigned step = (tokens >> (octave - OUTPUT_STEPS_BITS)) & ((1 << OUTPUT_STEPS_BITS) - 1);
    unsigned bucket = ((octave - OUTPUT_STEPS_BITS + 1) << OUTPUT_STEPS_BITS) + step;
    return bucket < OUTPUT_BUCKETS ? bucket : OUTPUT_BUCKETS - 1;
}

static void scale_down(struct outputs *outputs)
{
    float factor = (float)(1 / outputs->weight);
    for (unsigned i = 0; i < OUTPUT_BUCKETS; i++) {
        outputs->buckets[i].weight *= factor;
        outputs->buckets[i].sum *= factor;
    }
    outputs->total /= outputs->weight;
    outputs->weight = 1;
}

void outputs_add(struct outputs *outputs, uint32_t tokens, double memory)
{
    if (outputs->weight == 0) {
        outputs->weight = 1;
    }
    struct output_bucket *bucket = &outputs->buckets[bucket_of(tokens)];
    bucket->weight += (float)outputs->weight;
    bucket->sum += (float)(outputs->weight * tokens);
    outputs->total += outputs->weight;
    outputs->weight *= 1 + 1 / memory;
    if (outputs->weight > WEIGHT_MAX) {
        scale_down(outputs);
    }
}

double outputs_count(const struct outputs *outputs)
{
    return outputs->weight == 0 ? 0 : outputs->total / outputs->weight;
}

uint32_t outputs_quantile(const struct outputs *outputs, const struct outputs *others, double others_count,
                          uint32_t fallback, double fallback_count, double quantile)
{
    double own_share = outputs->weight == 0 ? 0 : 1 / outputs->weight;
    double others_share = others == NULL || others->total == 0 ? 0 : others_count / others->total;
    double left = quantile * (outputs_count(outputs) + (others_share > 0 ? others_count : 0) + fallback_count);
    unsigned fallback_bucket = bucket_of(fallback);
    double mean = fallback;
    for (unsigned i = 0; i < OUTPUT_BUCKETS; i++) {
        double weight = own_share * (double)outputs->buckets[i].weight;
        double sum = own_share * (double)outputs->buckets[i].sum;
        if (others_share > 0) {
            weight += others_share * (double)others->buckets[i].weight;
            sum += others_share * (double)others->buckets[i].sum;
        }
        if (i == fallback_bucket) {
            weight += fallback_count;
            sum += fallback_count * fallback;
        }
        if (weight == 0) {
            continue;
        }
        mean = sum / weight; /* of the last one that has any, when rounding leaves a rest */
        left -= weight;
        if (left <= 0) {
            break;
        }
    }
    return (uint32_t)fmin(ceil(mean - 1e-3), UINT32_MAX); /* a float's mean of equal ones is a little off */
}
