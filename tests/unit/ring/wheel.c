/* The timer wheel alone: no kernel, the clock is a number. */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/check.h"
#include "ring/internal.h"

static struct ring ring;

struct alarm {
    struct ring_timer timer;
    nanos wanted_ns;
    unsigned fired;
    nanos again_ns; /* > 0: armed anew from its own callback, this much later */
};

static void on_fire(struct ring_timer *timer)
{
    struct alarm *alarm = CONTAINER_OF(timer, struct alarm, timer);
    cr_assert_not(ring_timer_is_set(timer), "it is not armed while it fires");
    cr_assert_geq(ring.now_ns, alarm->wanted_ns, "never before its moment");
    alarm->fired++;
    if (alarm->again_ns > 0) {
        alarm->wanted_ns = ring.now_ns + alarm->again_ns;
        ring_timer_set(&ring, timer, alarm->wanted_ns);
    }
}

static void begin(nanos now_ns)
{
    memset(&ring, 0, sizeof(ring));
    ring.now_ns = now_ns;
    wheel_init(&ring.wheel, now_ns);
}

static void arm(struct alarm *alarm, nanos deadline_ns)
{
    ring_timer_init(&alarm->timer, on_fire);
    alarm->wanted_ns = deadline_ns;
    ring_timer_set(&ring, &alarm->timer, deadline_ns);
}

static void go_to(nanos now_ns)
{
    ring.now_ns = now_ns;
    wheel_advance(&ring, now_ns);
}

/* As the loop does: sleeps until the wheel wants to be looked at. Returns how often it woke. */
static unsigned sleep_until(nanos end_ns)
{
    unsigned wakes = 0;
    while (ring.now_ns < end_ns) {
        nanos next = wheel_next(&ring.wheel);
        go_to(next < end_ns ? next : end_ns);
        wakes++;
        cr_assert_lt(wakes, 1000000);
    }
    return wakes;
}

Test(wheel, fires_within_a_tick_at_every_level_and_boundary)
{
    static const nanos lengths_ms[] = {1,      2,        62,       63,       64,       65,      127,
                                       128,    4094,     4095,     4096,     4097,     4159,    4160,
                                       8191,   8192,     262142,   262143,   262144,   262145,  266239,
                                       266240, 16777214, 16777215, 16777216, 16777217, 50000000};
    static const nanos starts_ms[] = {0, 1, 63, 64, 4095, 4096, 262143, 262144, 16777215, 16777216, 123456789};
    for (size_t s = 0; s < ARRAY_COUNT(starts_ms); s++) {
        for (size_t i = 0; i < ARRAY_COUNT(lengths_ms); i++) {
            nanos start = starts_ms[s] * NANOS_PER_MS;
            begin(start);
            struct alarm alarm = {0};
            nanos end = start + lengths_ms[i] * NANOS_PER_MS;
            arm(&alarm, end);
            sleep_until(end - 1);
            cr_assert_eq(alarm.fired, 0, "start %zu length %zu", s, i);
            go_to(end);
            cr_assert_eq(alarm.fired, 1, "start %zu length %zu", s, i);
            cr_assert_eq(wheel_next(&ring.wheel), NANOS_NEVER);
        }
    }
}

Test(wheel, fires_after_a_fraction_of_a_tick_at_the_next_one)
{
    begin(NANOS_PER_S + 1);
    struct alarm alarm = {0};
    arm(&alarm, ring.now_ns + 1);
    go_to(ring.now_ns + NANOS_PER_MS / 2);
    cr_assert_eq(alarm.fired, 0);
    go_to(NANOS_PER_S + NANOS_PER_MS);
    cr_assert_eq(alarm.fired, 1);
}

Test(wheel, a_moment_that_has_passed_fires_at_the_next_tick_and_not_inside_the_call)
{
    begin(NANOS_PER_S);
    struct alarm alarm = {0};
    arm(&alarm, 5);
    cr_assert_eq(alarm.fired, 0);
    cr_assert_eq(wheel_next(&ring.wheel), NANOS_PER_S + NANOS_PER_MS);
    go_to(NANOS_PER_S + NANOS_PER_MS);
    cr_assert_eq(alarm.fired, 1);
}

Test(wheel, a_cancelled_timer_stays_silent_at_every_level)
{
    begin(77 * NANOS_PER_MS);
    static const nanos lengths_ms[] = {1, 60, 100, 5000, 300000, 20000000};
    struct alarm alarms[ARRAY_COUNT(lengths_ms)] = {0};
    for (size_t i = 0; i < ARRAY_COUNT(alarms); i++) {
        arm(&alarms[i], ring.now_ns + lengths_ms[i] * NANOS_PER_MS);
    }
    for (size_t i = 0; i < ARRAY_COUNT(alarms); i += 2) {
        ring_timer_cancel(&ring, &alarms[i].timer);
        ring_timer_cancel(&ring, &alarms[i].timer);
        cr_assert_not(ring_timer_is_set(&alarms[i].timer));
    }
    ring_timer_set(&ring, &alarms[1].timer, NANOS_NEVER);
    sleep_until(30000000 * NANOS_PER_MS);
    for (size_t i = 0; i < ARRAY_COUNT(alarms); i++) {
        cr_assert_eq(alarms[i].fired, i % 2 == 1 && i != 1, "%zu", i);
    }
    cr_assert_eq(wheel_next(&ring.wheel), NANOS_NEVER);
}

Test(wheel, arming_anew_moves_a_timer_both_ways)
{
    begin(0);
    struct alarm alarm = {0};
    arm(&alarm, 10 * NANOS_PER_MS);
    alarm.wanted_ns = 10000 * NANOS_PER_MS;
    ring_timer_set(&ring, &alarm.timer, alarm.wanted_ns);
    sleep_until(9999 * NANOS_PER_MS);
    cr_assert_eq(alarm.fired, 0);
    alarm.wanted_ns = 10 * NANOS_PER_S + NANOS_PER_MS;
    ring_timer_set(&ring, &alarm.timer, alarm.wanted_ns);
    go_to(10000 * NANOS_PER_MS);
    cr_assert_eq(alarm.fired, 0);
    go_to(alarm.wanted_ns);
    cr_assert_eq(alarm.fired, 1);
}

Test(wheel, a_timer_that_arms_itself_in_its_callback_fires_once_a_period)
{
    begin(3 * NANOS_PER_MS);
    struct alarm every_ms = {.again_ns = NANOS_PER_MS};
    struct alarm every_64_ms = {.again_ns = 64 * NANOS_PER_MS};
    struct alarm at_once = {.again_ns = 1};
    arm(&every_ms, ring.now_ns + NANOS_PER_MS);
    arm(&every_64_ms, ring.now_ns + 64 * NANOS_PER_MS);
    arm(&at_once, ring.now_ns);
    for (unsigned i = 0; i < 6400; i++) {
        go_to(ring.now_ns + NANOS_PER_MS);
    }
    cr_assert_eq(every_ms.fired, 6400);
    cr_assert_eq(every_64_ms.fired, 100);
    cr_assert_eq(at_once.fired, 6400);
    go_to(ring.now_ns + 1000 * NANOS_PER_MS);
    cr_assert_eq(every_ms.fired, 6401, "what was missed in a long turn is not made up for");
}

static struct alarm victim;

static void on_fire_cancel_the_other(struct ring_timer *timer)
{
    (void)timer;
    ring_timer_cancel(&ring, &victim.timer);
}

Test(wheel, a_callback_may_cancel_a_timer_due_at_the_same_tick)
{
    begin(0);
    struct ring_timer first;
    ring_timer_init(&first, on_fire_cancel_the_other);
    ring_timer_set(&ring, &first, 5000 * NANOS_PER_MS);
    arm(&victim, 5000 * NANOS_PER_MS);
    go_to(6000 * NANOS_PER_MS);
    cr_assert_eq(victim.fired, 0);
    cr_assert_not(ring_timer_is_set(&victim.timer));
}

Test(wheel, an_idle_hour_costs_a_handful_of_wake_ups)
{
    begin(12345 * NANOS_PER_MS);
    struct alarm alarm = {0};
    arm(&alarm, ring.now_ns + 3600 * NANOS_PER_S);
    unsigned wakes = sleep_until(ring.now_ns + 3600 * NANOS_PER_S);
    cr_assert_eq(alarm.fired, 1);
    cr_assert_leq(wakes, WHEEL_LEVELS + 1);
}

Test(wheel, a_clock_that_jumps_over_everything_fires_everything_once)
{
    begin(99 * NANOS_PER_MS);
    static struct alarm alarms[2000];
    for (unsigned i = 0; i < 2000; i++) {
        arm(&alarms[i], ring.now_ns + (nanos)i * i * 7 * NANOS_PER_MS);
    }
    go_to(ring.now_ns + 40000 * NANOS_PER_S);
    for (unsigned i = 0; i < 2000; i++) {
        cr_assert_eq(alarms[i].fired, 1, "%u", i);
    }
}

/* ---- against a list that is simply searched ---- */

enum { MODEL_TIMERS = 300, MODEL_STEPS = 30000 };

static uint64_t random_state;

static uint64_t random_below(uint64_t bound)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (random_state >> 20) % bound;
}

static nanos random_length(void)
{
    static const nanos tops_ms[] = {3, 70, 5000, 300000, 20000000};
    return random_below(tops_ms[random_below(ARRAY_COUNT(tops_ms))] * NANOS_PER_MS);
}

static void check_model(const struct alarm *alarms, const nanos *model_ns)
{
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        /* Due by the tick that the clock has reached: fired. Not due yet: still armed. */
        nanos due_tick = model_ns[i] / NANOS_PER_MS + (model_ns[i] % NANOS_PER_MS != 0);
        bool is_due = model_ns[i] != NANOS_NEVER && due_tick <= ring.now_ns / NANOS_PER_MS;
        bool is_armed = model_ns[i] != NANOS_NEVER && !is_due;
        cr_assert_eq(ring_timer_is_set(&alarms[i].timer), is_armed, "timer %u", i);
        cr_assert_eq(alarms[i].fired, is_due, "timer %u", i);
    }
}

static void replay(uint64_t seed)
{
    static struct alarm alarms[MODEL_TIMERS];
    nanos model_ns[MODEL_TIMERS];
    memset(alarms, 0, sizeof(alarms));
    random_state = seed;
    begin(random_below(UINT64_C(1) << 50));
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        ring_timer_init(&alarms[i].timer, on_fire);
        model_ns[i] = NANOS_NEVER;
    }
    for (unsigned step = 0; step < MODEL_STEPS; step++) {
        unsigned i = (unsigned)random_below(MODEL_TIMERS);
        uint64_t what = random_below(10);
        if (what < 5) {
            /* A moment in the current tick counts as the next one: see ring_timer_set. */
            model_ns[i] = (ring.now_ns / NANOS_PER_MS + 1) * NANOS_PER_MS + random_length();
            alarms[i].fired = 0;
            alarms[i].wanted_ns = model_ns[i];
            ring_timer_set(&ring, &alarms[i].timer, model_ns[i]);
        } else if (what == 5) {
            if (alarms[i].fired == 0) {
                model_ns[i] = NANOS_NEVER;
            }
            ring_timer_cancel(&ring, &alarms[i].timer);
        } else {
            nanos next = wheel_next(&ring.wheel);
            nanos by = what < 9 || next == NANOS_NEVER ? ring.now_ns + random_length() / 100 : next;
            go_to(by > ring.now_ns ? by : ring.now_ns);
            check_model(alarms, model_ns);
        }
    }
}

Test(wheel, agrees_with_a_plain_list_over_random_histories)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        replay(seed);
    }
}
