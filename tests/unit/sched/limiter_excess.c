/* The limiter of excess time, told of events one by one: what makes it grow, cut and stand still. How far is not asked
 * here; limiter_excess_served.c has it find the limits of services. */
#include <criterion/criterion.h>
#include <math.h>

#include "base/check.h"
#include "limiter_run.h"

enum { INITIAL = 20 };

static struct limiter limiter;
static nanos now;

static void begin_with(struct limiter_options options)
{
    now = 1000 * NANOS_PER_S;
    limiter_init(&limiter, &options, now);
}

static struct limiter_options options(void)
{
    return (struct limiter_options){
        .kind = LIMITER_EXCESS, .initial = INITIAL, .min = 1, .max = 1000, .endpoints = 1, .slo_first_ns = MS(3000)};
}

static void begin(void)
{
    begin_with(options());
}

/* Streams that run, and nothing else. */
static struct limiter_census running(uint32_t count)
{
    return (struct limiter_census){
        .in_flight = count, .running = count, .streaming = count, .stalled_since_ns = NANOS_NEVER};
}

static struct limiter_census blocked(uint32_t count)
{
    struct limiter_census census = running(count);
    census.blocked_by_count = true;
    census.waiting = 10;
    return census;
}

/* Half of them run, and the others wait for their first tokens since so long that it is theirs no more. */
static struct limiter_census stalled(uint32_t count)
{
    struct limiter_census census = running(count / 2);
    census.in_flight = count;
    census.pending = count - count / 2;
    census.stalled_ns = MS(2000);
    census.stalled_since_ns = now - MS(2500);
    return census;
}

static void tick(const struct limiter_census *census)
{
    now += limiter.period_ns;
    limiter.ops->tick(&limiter, now, census);
}

static void ticks(unsigned count, struct limiter_census census)
{
    for (unsigned i = 0; i < count; i++) {
        tick(&census);
    }
}

/* One that was granted `ago`, and had to wait for so much more than its base. */
static void sample(nanos granted_ago_ns, nanos excess_ns, nanos ahead_ns)
{
    struct limiter_sample sample = {
        .granted_ns = now - granted_ago_ns,
        .first_token_ns = now - granted_ago_ns + MS(100) + excess_ns,
        .base_ns = MS(100),
        .ahead_ns = ahead_ns,
        .prompt_tokens = 100,
        .in_flight = 10,
    };
    limiter.ops->on_first_token(&limiter, now, &sample);
}

static void samples(unsigned count, nanos excess_ns, nanos ahead_ns)
{
    for (unsigned i = 0; i < count; i++) {
        sample(MS(100) + excess_ns, excess_ns, ahead_ns);
    }
}

static void refuse(nanos granted_ago_ns, uint32_t in_flight)
{
    struct limiter_census census = running(in_flight);
    limiter.ops->on_refused(&limiter, now, now - granted_ago_ns, &census);
}

/* ---- growing ---- */

Test(limiter_excess, begins_where_it_is_told_to)
{
    begin();
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
    cr_expect(isinf(limiter.kv_tokens));
    cr_expect_gt(limiter.prefill_ns, 0);
    cr_expect_lt(limiter.prefill_ns, NANOS_NEVER);
    cr_expect_eq(limiter.large_max, 1);
}

Test(limiter_excess, several_endpoints_have_room_for_as_many_prompts)
{
    begin();
    nanos of_one = limiter.prefill_ns;
    struct limiter_options of_three = options();
    of_three.endpoints = 3;
    begin_with(of_three);
    cr_expect_eq(limiter.prefill_ns, 3 * of_one);
    cr_expect_eq(limiter.large_max, 3);
}

Test(limiter_excess, grows_only_when_somebody_was_blocked_by_it)
{
    begin();
    ticks(100, running(INITIAL));
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
    struct limiter_census other = running(INITIAL);
    other.blocked_by_kv = true;
    other.blocked_by_prefill = true;
    other.waiting = 10;
    ticks(100, other);
    cr_expect_leq(limiter.limit, 1.3 * INITIAL + 1, "it follows what is used");
    begin();
    ticks(20, blocked(INITIAL));
    cr_expect_gt(limiter.limit, 1.5 * INITIAL);
}

Test(limiter_excess, grows_no_further_than_twice_what_was_in_flight)
{
    begin();
    ticks(400, blocked(15));
    cr_expect_leq(limiter.limit, 30);
    cr_expect_gt(limiter.limit, 29);
    ticks(800, blocked(4));
    cr_expect_leq(limiter.limit, 30, "a limit that was reached is no growth");
}

Test(limiter_excess, grows_no_further_than_it_may)
{
    struct limiter_options small = options();
    small.max = 32;
    begin_with(small);
    ticks(1000, blocked(32));
    cr_expect_float_eq(limiter.limit, 32, 1e-9);
}

Test(limiter_excess, grows_again_after_a_cut_to_where_it_was_and_beyond)
{
    begin();
    struct limiter_census census = stalled(INITIAL);
    tick(&census);
    double low = limiter.limit;
    cr_assert_lt(low, INITIAL);
    for (unsigned i = 0; i < 40; i++) {
        ticks(1, blocked((uint32_t)limiter.limit));
    }
    cr_expect_gt(limiter.limit, 0.9 * INITIAL);
    for (unsigned i = 0; i < 400; i++) {
        ticks(1, blocked((uint32_t)limiter.limit));
    }
    cr_expect_gt(limiter.limit, 2 * INITIAL);
}

/* ---- cutting ---- */

Test(limiter_excess, cuts_on_a_stall_to_what_runs)
{
    begin();
    struct limiter_census census = stalled(INITIAL);
    census.running = census.streaming = 14;
    census.pending = 6;
    tick(&census);
    cr_expect(limiter.limit >= 14 && limiter.limit <= 15, "%f", limiter.limit);
    cr_expect_eq(limiter.cuts[LIMITER_CAUSE_STALL], 1);
}

Test(limiter_excess, a_short_stall_is_none)
{
    begin();
    struct limiter_census census = stalled(INITIAL);
    census.stalled_ns = MS(100);
    ticks(20, census);
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
}

Test(limiter_excess, a_limit_that_is_not_used_up_is_not_what_let_too_many_in)
{
    begin();
    ticks(20, stalled(10));
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
}

Test(limiter_excess, cuts_when_first_tokens_come_late_though_nothing_stalls)
{
    begin();
    struct limiter_census census = running(8);
    census.in_flight = INITIAL;
    census.pending = INITIAL - 8;
    census.pending_base_ns = 4 * limiter.prefill_ns;
    samples(8, MS(900), 0);
    tick(&census);
    cr_expect_lt(limiter.limit, 0.8 * INITIAL);
    cr_expect_geq(limiter.limit, 8);
    cr_expect_eq(limiter.cuts[LIMITER_CAUSE_EXCESS], 1);
    cr_expect(limiter.excess_ns >= MS(899) && limiter.excess_ns <= MS(901), "predictions are told");
}

Test(limiter_excess, what_waits_for_the_prefill_ahead_of_it_is_not_late)
{
    begin();
    struct limiter_census census = running(8);
    census.in_flight = INITIAL;
    census.pending = INITIAL - 8;
    census.pending_base_ns = 4 * limiter.prefill_ns;
    samples(8, MS(900), MS(800));
    tick(&census);
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
    cr_expect_gt(limiter.excess_ns, MS(800), "yet it is what one can expect");
}

Test(limiter_excess, a_few_late_ones_among_many_that_are_not_cut_nothing)
{
    begin();
    struct limiter_census census = running(8);
    census.in_flight = INITIAL;
    census.pending = INITIAL - 8;
    census.pending_base_ns = 4 * limiter.prefill_ns;
    for (unsigned i = 0; i < 20; i++) {
        samples(5, 0, 0);
        samples(3, MS(5000), 0);
        tick(&census);
    }
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
}

Test(limiter_excess, less_than_four_samples_say_nothing)
{
    begin();
    struct limiter_census census = running(8);
    census.in_flight = INITIAL;
    census.pending = INITIAL - 8;
    census.pending_base_ns = 4 * limiter.prefill_ns;
    samples(3, MS(5000), 0);
    tick(&census);
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
}

Test(limiter_excess, what_was_granted_before_a_cut_says_nothing_after_it)
{
    begin();
    struct limiter_census census = stalled(INITIAL);
    tick(&census);
    nanos cut_ns = now;
    double limit = limiter.limit;
    struct limiter_census after = running((uint32_t)limit);
    for (unsigned i = 0; i < 20; i++) {
        for (unsigned k = 0; k < 8; k++) {
            sample(now - cut_ns + 1 + k, MS(4000), 0);
        }
        tick(&after);
    }
    cr_expect_float_eq(limiter.limit, limit, 1e-9);
    after.pending = after.in_flight - 3;
    after.running = after.streaming = 3;
    after.pending_base_ns = 20 * limiter.prefill_ns;
    for (unsigned k = 0; k < 8; k++) {
        sample(now - cut_ns - 1, MS(4000), 0);
    }
    tick(&after);
    cr_expect_lt(limiter.limit, limit, "what was granted later does");
}

Test(limiter_excess, one_stall_is_not_cut_for_again_before_the_cut_is_in_force)
{
    begin();
    for (unsigned i = 0; i < 4; i++) {
        struct limiter_census census = stalled(INITIAL); /* none has left */
        census.running = census.streaming = 14 - i;
        tick(&census);
    }
    cr_expect_eq(limiter.cuts[LIMITER_CAUSE_STALL], 1);
    cr_expect_geq(limiter.limit, 14);
}

Test(limiter_excess, never_cuts_below_its_least)
{
    struct limiter_options at_least_five = options();
    at_least_five.min = 5;
    begin_with(at_least_five);
    for (unsigned i = 0; i < 200; i++) {
        struct limiter_census census = stalled((uint32_t)limiter.limit);
        census.running = census.streaming = 0;
        samples(8, MS(9000), 0);
        tick(&census);
        refuse(0, (uint32_t)limiter.limit);
        cr_assert_geq(limiter.limit, 5);
    }
    cr_expect_float_eq(limiter.limit, 5, 1e-9);
}

/* ---- refusals ---- */

Test(limiter_excess, refusals_of_what_was_sent_before_a_cut_are_one)
{
    begin();
    for (unsigned i = 0; i < 10; i++) {
        now += MS(1);
        refuse(MS(500), INITIAL);
    }
    cr_expect_eq(limiter.cuts[LIMITER_CAUSE_REFUSED], 1);
    cr_expect(limiter.limit > 0.6 * INITIAL && limiter.limit < 0.8 * INITIAL, "%f", limiter.limit);
    double limit = limiter.limit;
    now += MS(1000);
    refuse(MS(100), (uint32_t)limit);
    cr_expect_eq(limiter.cuts[LIMITER_CAUSE_REFUSED], 2);
    cr_expect_lt(limiter.limit, limit);
}

Test(limiter_excess, a_refusal_never_raises_the_limit)
{
    begin();
    refuse(0, 10 * INITIAL);
    cr_expect_leq(limiter.limit, INITIAL);
}

/* ---- probes ---- */

/* So many minutes in which lower classes are kept out of the headroom. What is in flight is `share` of the limit. */
static double probe_for(unsigned minutes, double share, double *ret_most)
{
    double fixed = share > 0 ? 0 : limiter.limit - 2;
    *ret_most = 0;
    for (unsigned i = 0; i < minutes * 240; i++) {
        struct limiter_census census = running((uint32_t)(share > 0 ? share * limiter.limit : fixed));
        census.waiting = 5;
        census.is_headroom_held = true;
        census.blocked_by_headroom = true;
        tick(&census);
        *ret_most = fmax(*ret_most, limiter.limit);
    }
    return limiter.limit;
}

Test(limiter_excess, headroom_is_not_grown_into_but_probed_for_a_moment)
{
    begin();
    refuse(0, 2 * INITIAL); /* the search is over */
    double limit = limiter.limit;
    double most;
    double after = probe_for(5, 0, &most);
    cr_expect_gt(most, limit + 1, "it was tried");
    cr_expect_leq(after, limit, "nobody came, and it was taken back");
}

Test(limiter_excess, a_probe_that_is_filled_and_stalls_nobody_is_kept)
{
    begin();
    refuse(0, 2 * INITIAL);
    double limit = limiter.limit;
    double most;
    double after = probe_for(5, 0.95, &most);
    cr_expect_gt(after, 1.3 * limit);
}

/* ---- memory ---- */

/* Four stalls or more at which the same was held, by few streams or by many. */
static void run_out_of_memory(uint64_t held)
{
    for (unsigned i = 0; i < 12; i++) {
        struct limiter_census census = stalled(INITIAL);
        census.running = census.streaming = i % 2 == 0 ? 4 : 16;
        census.kv_tokens = held;
        tick(&census);
        ticks(6, running(10));
    }
}

Test(limiter_excess, what_is_alike_at_all_stalls_is_what_it_runs_out_of)
{
    begin();
    run_out_of_memory(50000);
    cr_expect(limiter.kv_tokens > 0.8 * 50000 && limiter.kv_tokens <= 50000, "%f", limiter.kv_tokens);
    begin();
    for (unsigned i = 0; i < 12; i++) {
        struct limiter_census census = stalled(INITIAL);
        census.running = census.streaming = 10;
        census.kv_tokens = i % 2 == 0 ? 5000 : 50000;
        tick(&census);
        ticks(6, running(10));
    }
    cr_expect(isinf(limiter.kv_tokens), "it was slots");
}

Test(limiter_excess, memory_that_is_not_missed_any_more_is_found_again)
{
    begin();
    run_out_of_memory(50000);
    double tokens = limiter.kv_tokens;
    struct limiter_census census = running(10);
    census.blocked_by_kv = true;
    ticks(600, census);
    cr_expect_gt(limiter.kv_tokens, 1.1 * tokens);
}

Test(limiter_excess, memory_that_was_set_stays_as_it_was_set)
{
    struct limiter_options set = options();
    set.kv_tokens_max = 70000;
    begin_with(set);
    double tokens = limiter.kv_tokens;
    cr_expect(tokens > 60000 && tokens <= 70000, "%f", tokens);
    run_out_of_memory(50000);
    cr_expect_float_eq(limiter.kv_tokens, tokens, 1e-9);
}

/* ---- decode ---- */

/* So many seconds of `count` streams that take token_ns for each token. */
static void decode(unsigned seconds, uint32_t count, nanos token_ns, nanos mean_ns)
{
    static uint64_t emitted;
    for (unsigned i = 0; i < seconds * 4; i++) {
        struct limiter_census census = blocked(count);
        emitted += count * limiter.period_ns / token_ns;
        census.tokens_emitted = emitted;
        census.stream_elapsed_ns = count * MS(1000);
        census.stream_tokens = census.stream_elapsed_ns / mean_ns;
        tick(&census);
    }
}

Test(limiter_excess, slow_decode_is_cut_for_and_forgotten_when_it_is_over)
{
    struct limiter_options guarded = options();
    guarded.slo_token_ns = MS(50);
    guarded.max = INITIAL;
    begin_with(guarded);
    decode(10, INITIAL, MS(30), MS(30));
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
    decode(5, INITIAL, MS(80), MS(80));
    cr_expect_lt(limiter.limit, 0.95 * INITIAL);
    cr_expect_gt(limiter.cuts[LIMITER_CAUSE_TOKENS], 0);
    double cut = limiter.limit;
    decode(5, INITIAL, MS(80), MS(80));
    cr_expect_float_eq(limiter.limit, cut, 1e-9, "what a cut does is seen only once it is in force");
    decode(60, (uint32_t)cut, MS(20), MS(20));
    cr_expect_float_eq(limiter.limit, INITIAL, 1e-9);
}

/* Streams as many as the limit allows, for two minutes; each token takes fixed_ns and more_ns by the share of INITIAL
 * that runs. Returns the least limit, and *ret_most after it. */
static double follow_decode(nanos fixed_ns, nanos more_ns, double *ret_most)
{
    double least = limiter.limit;
    *ret_most = 0;
    for (unsigned i = 0; i < 60; i++) {
        nanos token = fixed_ns + (nanos)((double)more_ns * limiter.limit / INITIAL);
        decode(2, (uint32_t)limiter.limit, token, token);
        if (limiter.limit < least) {
            least = limiter.limit;
            *ret_most = least;
        }
        *ret_most = limiter.limit > *ret_most ? limiter.limit : *ret_most;
    }
    return least;
}

Test(limiter_excess, slow_decode_that_no_cut_makes_faster_is_let_be)
{
    struct limiter_options guarded = options();
    guarded.slo_token_ns = MS(50);
    guarded.max = INITIAL;
    begin_with(guarded);
    double most;
    double least = follow_decode(MS(80), 0, &most);
    cr_expect_lt(least, 0.3 * INITIAL, "a cut must have had its chance");
    cr_expect_float_eq(most, INITIAL, 1e-9);
}

Test(limiter_excess, slow_decode_that_a_deep_cut_makes_faster_stays_cut)
{
    struct limiter_options guarded = options();
    guarded.slo_token_ns = MS(50);
    guarded.max = INITIAL;
    begin_with(guarded);
    decode(10, INITIAL, MS(30), MS(30));
    double most;
    double least = follow_decode(MS(38), MS(42), &most);
    cr_expect(least > 0.1 * INITIAL && most < 0.5 * INITIAL, "%f to %f", least, most);
}

Test(limiter_excess, a_burst_of_prefill_that_slows_decode_for_a_moment_is_no_reason_to_cut)
{
    struct limiter_options guarded = options();
    guarded.slo_token_ns = MS(50);
    begin_with(guarded);
    decode(10, INITIAL, MS(80), MS(30)); /* these two seconds are slow; the streams' own means are not */
    cr_expect_eq(limiter.cuts[LIMITER_CAUSE_TOKENS], 0);
}

/* ---- whatever it is told ---- */

static uint64_t random_state;

static uint64_t draw(uint64_t below)
{
    return limiter_run_draw(&random_state) % below;
}

static nanos some_time(void)
{
    static const nanos times[] = {0, 1, MS(1), MS(100), MS(1000), MS(60000), NANOS_PER_S * 1000};
    return times[draw(ARRAY_COUNT(times))];
}

static struct limiter_census any_census(void)
{
    uint32_t in_flight = (uint32_t)draw(2 * (uint64_t)limiter.limit + 3);
    uint32_t pending = (uint32_t)draw(in_flight + 1);
    uint32_t streaming = (uint32_t)draw(in_flight - pending + 1);
    bool is_stalled = draw(3) == 0;
    return (struct limiter_census){
        .in_flight = in_flight,
        .pending = pending,
        .running = in_flight - pending,
        .streaming = streaming,
        .kv_tokens = draw(2) * draw(100000),
        .kv_expected = draw(200000),
        .pending_base_ns = some_time(),
        .stalled_ns = is_stalled ? some_time() : 0,
        .stalled_since_ns = is_stalled ? now - MS(1) : NANOS_NEVER,
        .stream_elapsed_ns = some_time(),
        .stream_tokens = draw(1000),
        .tokens_emitted = now / MS(10) + draw(100),
        .blocked_by_count = draw(2) == 0,
        .blocked_by_kv = draw(2) == 0,
        .blocked_by_prefill = draw(2) == 0,
        .is_headroom_held = draw(2) == 0,
        .blocked_by_headroom = draw(2) == 0,
        .waiting = (uint32_t)draw(3),
    };
}

static void any_event(void)
{
    struct limiter_census census = any_census();
    struct limiter_end end = {.granted_ns = now - some_time(),
                              .ended_ns = now,
                              .first_token_ns = draw(2) == 0 ? 0 : now - MS(1),
                              .output_tokens = (uint32_t)draw(1000)};
    switch (draw(8)) {
    case 0: limiter.ops->on_end(&limiter, now, &end, &census); break;
    case 1:
        if (draw(10) == 0) {
            limiter.ops->on_refused(&limiter, now, now - some_time(), &census);
        }
        break;
    case 2: tick(&census); break;
    case 3: now += draw(200) == 0 ? some_time() : MS(5); break;
    default: sample(some_time(), some_time(), some_time()); break;
    }
}

static void expect_sense(uint64_t seed, const struct limiter_options *options)
{
    cr_assert(limiter.limit >= options->min && limiter.limit <= options->max, "seed %llu: %f", (unsigned long long)seed,
              limiter.limit);
    cr_assert(limiter.kv_tokens > 0, "seed %llu: %f", (unsigned long long)seed, limiter.kv_tokens);
    cr_assert(limiter.prefill_ns > 0 && limiter.prefill_ns <= 60 * NANOS_PER_S, "seed %llu: %llu",
              (unsigned long long)seed, (unsigned long long)limiter.prefill_ns);
}

Test(limiter_excess, says_something_sensible_whatever_it_is_told)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        random_state = seed;
        struct limiter_options some = options();
        some.min = 1 + (double)draw(3);
        some.max = some.min + (double)draw(200);
        some.endpoints = 1 + (uint32_t)draw(3);
        some.slo_token_ns = draw(2) * MS(50);
        some.slo_first_ns = draw(2) * MS(2000);
        some.time_scale_milli = draw(2) == 0 ? 1000 : 10000;
        begin_with(some);
        for (unsigned step = 0; step < 20000; step++) {
            any_event();
            expect_sense(seed, &some);
        }
    }
}
