#include <criterion/criterion.h>

#include "sim/fault.h"

static struct sim_fault parse(const char *spec)
{
    struct sim_fault fault;
    struct bytes bad;
    cr_assert(sim_fault_parse(bytes_from(spec), &fault, &bad), "%s", spec);
    return fault;
}

static void refuse(const char *spec, const char *item)
{
    struct sim_fault fault = {.status = 77};
    struct bytes bad;
    cr_assert_not(sim_fault_parse(bytes_from(spec), &fault, &bad), "%s", spec);
    cr_assert(bytes_equal(bad, bytes_from(item)), "%.*s", (int)bad.len, bad.ptr);
    cr_assert_eq(fault.status, 77, "left alone");
}

Test(fault, empty_specification_is_no_fault)
{
    struct sim_fault fault = parse("");
    cr_assert_eq(fault.start, FAULT_START_NONE);
    cr_assert_eq(fault.middle, FAULT_MIDDLE_NONE);
    cr_assert_eq(fault.late_ns, 0);
    cr_assert_eq(fault.probability_ppm, 1000000);
}

Test(fault, durations_are_milliseconds_unless_they_say_seconds)
{
    cr_assert_eq(parse("late-first-byte=2000").late_ns, 2 * NANOS_PER_S);
    cr_assert_eq(parse("late-first-byte=2000ms").late_ns, 2 * NANOS_PER_S);
    cr_assert_eq(parse("late-first-byte = 2s").late_ns, 2 * NANOS_PER_S);
    refuse("late-first-byte=2m", "late-first-byte=2m");
    refuse("late-first-byte=99999999999999999999s", "late-first-byte=99999999999999999999s");
    refuse("late-first-byte=99999s", "late-first-byte=99999s");
}

Test(fault, factors_have_up_to_three_decimals)
{
    cr_assert_eq(parse("slow-tokens=5x").slow_milli, 5000);
    cr_assert_eq(parse("slow-tokens=1.25").slow_milli, 1250);
    refuse("slow-tokens=1.2345", "slow-tokens=1.2345");
    refuse("slow-tokens=x", "slow-tokens=x");
    refuse("slow-tokens=1.2.3", "slow-tokens=1.2.3");
    cr_assert_eq(parse("p=0.05;reset").probability_ppm, 50000);
    refuse("p=1.5", "p=1.5");
}

Test(fault, several_items_are_taken_together)
{
    struct sim_fault fault = parse(" status=429 ; retry-after=2, Extra-Bytes ;;");
    cr_assert_eq(fault.status, 429);
    cr_assert(fault.has_retry_after);
    cr_assert_eq(fault.retry_after_s, 2);
    cr_assert_eq(fault.extra_bytes, 16);
}

Test(fault, middles_keep_their_place)
{
    cr_assert_eq(parse("die-after=3").middle, FAULT_MIDDLE_RESET);
    cr_assert_eq(parse("die-after=3").middle_after, 3);
    cr_assert_eq(parse("close-after=0").middle, FAULT_MIDDLE_CLOSE);
    cr_assert_eq(parse("bad-chunk").middle_after, 1);
}

Test(fault, says_which_item_it_does_not_understand)
{
    refuse("reset;sing=1", "sing=1");
    refuse("die-after", "die-after");
    refuse("reset=1", "reset=1");
    refuse("status=100", "status");
    refuse("status=999", "status=999");
    refuse("die-after=-1", "die-after=-1");
}
