#include "sched/pressure.h"

#include <criterion/criterion.h>

static struct pressure pressure;
static nanos now;

static void begin(void)
{
    now = 5 * NANOS_PER_S;
    pressure_init(&pressure, now);
}

/* The same value for so many seconds; the others are calm. */
static uint32_t hold(enum pressure_signal signal, double value, unsigned seconds)
{
    struct pressure_reading reading = {0};
    reading.value[signal] = value;
    uint32_t level = 0;
    for (unsigned i = 0; i < seconds; i++) {
        now += NANOS_PER_S;
        level = pressure_update(&pressure, now, &reading);
    }
    return level;
}

TestSuite(pressure, .init = begin);

Test(pressure, is_none_when_all_is_calm)
{
    static const double calm[PRESSURE_SIGNALS] = {0.90, 0.80, 0.02, 0.25, 0.010};
    struct pressure_reading reading;
    for (unsigned s = 0; s < PRESSURE_SIGNALS; s++) {
        reading.value[s] = calm[s];
    }
    for (unsigned i = 0; i < 100; i++) {
        now += NANOS_PER_S;
        cr_assert_eq(pressure_update(&pressure, now, &reading), 0);
    }
}

Test(pressure, does_not_believe_one_reading)
{
    cr_assert_eq(hold(PRESSURE_MEMORY, 1.0, 1), 0);
    cr_assert_eq(hold(PRESSURE_MEMORY, 0.5, 1), 0);
}

Test(pressure, is_full_after_seconds_of_the_worst)
{
    cr_assert_eq(hold(PRESSURE_MEMORY, 1.0, 12), PRESSURE_MAX);
    cr_assert_eq(pressure.worst, PRESSURE_MEMORY);
    begin();
    cr_assert_eq(hold(PRESSURE_LAG, 2.0, 12), PRESSURE_MAX);
    cr_assert_eq(pressure.worst, PRESSURE_LAG);
}

Test(pressure, of_one_long_stop_is_over_within_half_a_minute)
{
    uint32_t level = hold(PRESSURE_LAG, 60, 1);
    cr_assert(level > 100 && level < 500, "%u", level);
    cr_assert_eq(hold(PRESSURE_LAG, 0.001, 30), 0);
}

Test(pressure, grows_with_its_signal)
{
    uint32_t before = 0;
    for (double lag = 0.060; lag < 0.500; lag += 0.040) {
        uint32_t level = hold(PRESSURE_LAG, lag, 30);
        cr_assert_gt(level, before, "%g", lag);
        before = level;
    }
    cr_assert_lt(before, PRESSURE_MAX);
}

Test(pressure, of_a_busy_cpu_alone_stays_small)
{
    uint32_t level = hold(PRESSURE_CPU, 1.0, 60);
    cr_assert(level > 200 && level <= 300, "%u", level);
}

Test(pressure, does_not_flap_around_its_threshold)
{
    cr_assert_eq(hold(PRESSURE_MEMORY, 0.89, 200), 0, "it has not begun yet");
    cr_assert_gt(hold(PRESSURE_MEMORY, 0.93, 60), 0);
    cr_assert_gt(hold(PRESSURE_MEMORY, 0.89, 200), 0, "the same value, once it has begun");
    cr_assert_eq(hold(PRESSURE_MEMORY, 0.84, 200), 0);
    cr_assert_eq(hold(PRESSURE_MEMORY, 0.89, 200), 0, "and it has ended");
}

Test(pressure, falls_slower_than_it_rises)
{
    unsigned up = 0;
    while (hold(PRESSURE_LAG, 1.0, 1) < PRESSURE_MAX && up < 100) {
        up++;
    }
    unsigned down = 0;
    while (hold(PRESSURE_LAG, 0.0, 1) > 0 && down < 1000) {
        down++;
    }
    cr_assert_lt(up, 10);
    cr_assert(down > 2 * up && down < 100, "up %u down %u", up, down);
}

Test(pressure, is_the_worst_of_all)
{
    struct pressure_reading reading = {.value = {[PRESSURE_CPU] = 1.0, [PRESSURE_MEMORY] = 0.95}};
    uint32_t level = 0;
    for (unsigned i = 0; i < 60; i++) {
        now += NANOS_PER_S;
        level = pressure_update(&pressure, now, &reading);
    }
    cr_assert_eq(pressure.worst, PRESSURE_MEMORY);
    cr_assert_eq(level, pressure.level[PRESSURE_MEMORY]);
    cr_assert_gt(pressure.level[PRESSURE_CPU], 0);
    cr_assert_gt(level, pressure.level[PRESSURE_CPU]);
}

Test(pressure, takes_what_is_not_known_for_none)
{
    cr_assert_gt(hold(PRESSURE_RECLAIM, 0.9, 20), 0);
    cr_assert_eq(hold(PRESSURE_RECLAIM, -1, 200), 0);
}

Test(pressure, is_the_same_however_often_it_is_asked_in_a_moment)
{
    hold(PRESSURE_LAG, 0.2, 10);
    uint32_t level = pressure.level[PRESSURE_LAG];
    struct pressure_reading reading = {0};
    for (unsigned i = 0; i < 1000; i++) {
        cr_assert_eq(pressure_update(&pressure, now, &reading), level);
    }
}

Test(pressure, has_a_name_for_each_signal)
{
    for (unsigned a = 0; a < PRESSURE_SIGNALS; a++) {
        for (unsigned b = 0; b < a; b++) {
            cr_assert_str_neq(pressure_signal_name((enum pressure_signal)a),
                              pressure_signal_name((enum pressure_signal)b));
        }
    }
}
