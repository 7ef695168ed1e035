/* When requests are due in an open loop: a schedule that does not wait for answers.
 *
 * Even arrivals, or Poisson ones as many independent users make them. The next moment is made only when the one before
 * was used, so that any backlog takes no memory. Pure. */
#ifndef BENCH_PACE_H
#define BENCH_PACE_H

#include "random.h"

#include <stdbool.h>

struct pace {
    double rate; /* requests a second */
    bool is_poisson;
    uint64_t seed;
    double begin_ns;
    double at_ns; /* of Poisson arrivals: since begin, kept fractional so that roundings do not add up */
    uint64_t count;
    uint64_t due_ns; /* the next one */
};

static inline void pace_begin(struct pace *pace, uint64_t now_ns)
{
    pace->begin_ns = (double)now_ns;
    pace->at_ns = 0;
    pace->count = 0;
    pace->due_ns = now_ns;
}

static inline void pace_next(struct pace *pace)
{
    pace->count++;
    if (pace->is_poisson)
        pace->at_ns += random_exponential(&pace->seed, 1e9 / pace->rate);
    else
        pace->at_ns = (double)pace->count * (1e9 / pace->rate);
    pace->due_ns = (uint64_t)(pace->begin_ns + pace->at_ns);
}

#endif
