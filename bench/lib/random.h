/* Random numbers that are the same for the same seed everywhere. */
#ifndef BENCH_RANDOM_H
#define BENCH_RANDOM_H

#include <math.h>
#include <stdint.h>

/* splitmix64 */
static inline uint64_t random_next(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15u;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return word ^ word >> 31;
}

/* From 0, excluded, to 1. */
static inline double random_share(uint64_t *state)
{
    return (double)((random_next(state) >> 11) + 1) * 0x1p-53;
}

static inline double random_normal(uint64_t *state)
{
    double radius = sqrt(-2 * log(random_share(state)));
    return radius * cos(2 * M_PI * random_share(state));
}

static inline double random_lognormal(uint64_t *state, double median, double sigma)
{
    return median * exp(sigma * random_normal(state));
}

static inline double random_exponential(uint64_t *state, double mean)
{
    return -mean * log(random_share(state));
}

#endif
