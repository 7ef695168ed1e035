#include "sched/limiter_internal.h"

#define WINDOW_NS   NANOS_PER_S          /* both the least and the most that a window lasts, in the original */
#define TOOK_NS_MIN (100 * NANOS_PER_US) /* shorter ones say nothing */

enum { SAMPLES_MIN = 10 };

bool limiter_window_add(const struct limiter *limiter, struct limiter_window *window, const struct limiter_end *end,
                        struct limiter_window_mean *ret_mean)
{
    nanos took_ns = end->ended_ns - end->granted_ns;
    if (took_ns < limiter_scaled(limiter, TOOK_NS_MIN)) {
        return false;
    }
    window->sum_ns += took_ns;
    window->samples++;
    window->in_flight_max = end->in_flight > window->in_flight_max ? end->in_flight : window->in_flight_max;
    window->is_dropped = window->is_dropped || end->is_dropped;
    if (end->ended_ns <= window->ends_ns || window->samples < SAMPLES_MIN) {
        return false;
    }
    *ret_mean = (struct limiter_window_mean){
        .took_ns = (double)window->sum_ns / window->samples,
        .in_flight = window->in_flight_max,
        .is_dropped = window->is_dropped,
    };
    *window = (struct limiter_window){.ends_ns = end->ended_ns + limiter_scaled(limiter, WINDOW_NS)};
    return true;
}

uint64_t limiter_draw(uint64_t *state)
{
    *state += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}
