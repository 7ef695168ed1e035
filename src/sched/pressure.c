#include "sched/pressure.h"

/* A rise is believed within a few seconds, a fall is waited for: what was shed for is then really over. */
#define RISE_NS (2 * NANOS_PER_S)
#define FALL_NS (5 * NANOS_PER_S)

/* A worker that computes all the time is not late yet: a gateway at full load in front of fast services is as it should
 * be. Likewise one that shares its core. So those two stay in the range in which admission holds back its lowest class
 * alone; lag says whether it hurts. Memory ends in the kernel killing the process: it goes all the way. */
static const struct {
    const char *name;
    double end, begin, full;
    uint32_t ceiling;
} signals[PRESSURE_SIGNALS] = {
    [PRESSURE_CPU] = {"cpu", 0.85, 0.95, 1.0, 300},
    [PRESSURE_MEMORY] = {"memory", 0.85, 0.90, 0.98, PRESSURE_MAX},
    [PRESSURE_RECLAIM] = {"reclaim", 0.05, 0.10, 0.50, PRESSURE_MAX},
    [PRESSURE_RUN_QUEUE] = {"run_queue", 0.30, 0.50, 0.95, 450},
    [PRESSURE_LAG] = {"lag", 0.020, 0.050, 0.500, PRESSURE_MAX},
};

const char *pressure_signal_name(enum pressure_signal signal)
{
    return signals[signal].name;
}

void pressure_init(struct pressure *pressure, nanos now)
{
    *pressure = (struct pressure){.updated_ns = now};
}

static uint32_t level_of(enum pressure_signal signal, double value, bool *has_begun)
{
    double end = signals[signal].end;
    double full = signals[signal].full;
    *has_begun = value >= (*has_begun ? end : signals[signal].begin);
    if (!*has_begun) {
        return 0;
    }
    double share = value >= full ? 1 : (value - end) / (full - end);
    return (uint32_t)(share * signals[signal].ceiling);
}

/* Far beyond `full` is no worse than a little beyond it, or one long stop would count for minutes. */
static double bounded(enum pressure_signal signal, double value)
{
    double most = signals[signal].full + (signals[signal].full - signals[signal].end) / 4;
    return value < 0 ? 0 : value > most ? most : value;
}

uint32_t pressure_update(struct pressure *pressure, nanos now, const struct pressure_reading *reading)
{
    nanos passed = now > pressure->updated_ns ? now - pressure->updated_ns : 0;
    pressure->updated_ns = now;
    pressure->worst = 0;
    for (unsigned s = 0; s < PRESSURE_SIGNALS; s++) {
        double value = bounded((enum pressure_signal)s, reading->value[s]);
        double *smoothed = &pressure->smoothed[s];
        nanos constant = value > *smoothed ? RISE_NS : FALL_NS;
        *smoothed += (value - *smoothed) * (double)passed / (double)(passed + constant);
        pressure->level[s] = level_of((enum pressure_signal)s, *smoothed, &pressure->has_begun[s]);
        if (pressure->level[s] > pressure->level[pressure->worst]) {
            pressure->worst = (enum pressure_signal)s;
        }
    }
    return pressure->level[pressure->worst];
}
