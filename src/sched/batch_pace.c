#include <math.h>

#include "sched/batch_internal.h"

/* The simulation (bench/batch_sim.c) is not sensitive to any of these within a factor of two, except for PATIENCE: the
 * share of a call's time that an item may wait is what a lightly loaded client sees on top. */
static const double target_at_start = 8;
static const double growth = 1.25;
static const double failure_shrinks = 0.5;
static const double representative = 0.75; /* of the target: a call with fewer items says nothing of it */
static const double gain_min = 0.02;       /* less per item, twice as large: else larger is not better */
static const double loss_max = 0.10;       /* more per item: smaller is better */
static const double call_alpha = 0.125;
static const double patience = 0.125;   /* of a call's time */
static const double company_min = 0.25; /* items expected to come meanwhile; with fewer it is not worth waiting */
static const double same_latency = 0.9; /* a smaller call that takes this share of the time is no faster */
enum { OCTAVE_CALLS_MIN = 4 };
static const nanos octave_valid_ns = 60 * NANOS_PER_S;
static const nanos regrow_ns = 10 * NANOS_PER_S;
static const nanos unbound_ns = 60 * NANOS_PER_S;
static const double memory_calls = 4; /* the rate of arrivals is that of the last few calls' time */
static const double memory_min_ns = 64e6;

void batch_pace_init(struct batch_pace *pace, const struct batch_options *options)
{
    *pace = (struct batch_pace){
        .items_max = options->items_max,
        .latency_max_ns = (double)options->latency_max_ns,
        .target = fmin(target_at_start, options->items_max),
    };
}

static unsigned octave_of(uint32_t items)
{
    return 31 - (unsigned)__builtin_clz(items);
}

static bool is_known(const struct batch_octave *octave, nanos now)
{
    return octave->calls >= OCTAVE_CALLS_MIN && now - octave->at_ns <= octave_valid_ns;
}

static double mean(double old, double value, bool is_first)
{
    return is_first ? value : old + call_alpha * (value - old);
}

static void octave_learn(struct batch_octave *octave, nanos now, uint32_t items, double took_ns)
{
    bool is_first = octave->calls == 0 || now - octave->at_ns > octave_valid_ns;
    octave->calls = is_first ? 1 : octave->calls + 1;
    octave->item_ns = mean(octave->item_ns, took_ns / items, is_first);
    octave->call_ns = mean(octave->call_ns, took_ns, is_first);
    octave->at_ns = now;
}

static void cut(struct batch_pace *pace, nanos now, double target)
{
    pace->target = fmax(1, target);
    pace->cut_ns = now;
}

static bool is_bounded(const struct batch_pace *pace, nanos now)
{
    return pace->latency_max_ns > 0 && now >= pace->bound_after_ns;
}

/* The calls of this size take too long: smaller ones, unless it was seen that those take as long. A backend that is
 * slow because it is overloaded would be made slower by that, and the bound then waits until the overload has gone. */
static void cut_to_bound(struct batch_pace *pace, nanos now, uint32_t items, double took_ns)
{
    const struct batch_octave *octave = &pace->octaves[octave_of(items)];
    const struct batch_octave *below = octave - (octave_of(items) > 0);
    bool is_smallest = below == octave;
    if (is_smallest || (is_known(below, now) && below->call_ns > same_latency * octave->call_ns)) {
        pace->bound_after_ns = now + unbound_ns;
        return;
    }
    cut(pace, now, fmin(pace->target, items) * fmax(0.5, representative * pace->latency_max_ns / took_ns));
}

/* Larger by steps, each size class judged against the one below once a few calls of it have been seen. */
static void follow_cost(struct batch_pace *pace, nanos now, uint32_t items, double took_ns)
{
    unsigned at = octave_of(items);
    const struct batch_octave *octave = &pace->octaves[at];
    if (!is_known(octave, now)) {
        return;
    }
    bool compares = at > 0 && is_known(octave - 1, now);
    double ratio = compares ? octave->item_ns / (octave - 1)->item_ns : 0;
    if (ratio > 1 + loss_max) {
        pace->grow_after_ns = now + regrow_ns;
        cut(pace, now, representative * (double)(UINT32_C(1) << at));
        return;
    }
    bool keeps_bound = !is_bounded(pace, now) || took_ns * growth <= pace->latency_max_ns;
    if (ratio <= 1 - gain_min && keeps_bound && now >= pace->grow_after_ns) {
        pace->target = fmin(pace->items_max, fmax(pace->target + 1, pace->target * growth));
    }
}

void batch_pace_learn(struct batch_pace *pace, nanos now, const struct batch_end *end)
{
    double took_ns = fmax(1, (double)end->took_ns);
    nanos sent_ns = now > end->took_ns ? now - end->took_ns : 0;
    bool is_representative = end->items >= representative * pace->target && sent_ns >= pace->cut_ns;
    if (end->is_failed) {
        /* What fails may do so for being large: memory, or a time-out. */
        if (is_representative) {
            cut(pace, now, pace->target * failure_shrinks);
        }
        return;
    }
    pace->call_ns = mean(pace->call_ns, took_ns, pace->call_ns == 0);
    struct batch_octave *octave = &pace->octaves[octave_of(end->items)];
    octave_learn(octave, now, end->items, took_ns);
    if (!is_representative) {
        return;
    }
    if (is_bounded(pace, now) && took_ns > pace->latency_max_ns) {
        if (octave->call_ns > pace->latency_max_ns) {
            cut_to_bound(pace, now, end->items, took_ns);
        }
        return;
    }
    follow_cost(pace, now, end->items, took_ns);
}

uint32_t batch_pace_items(const struct batch_pace *pace)
{
    return (uint32_t)pace->target;
}

nanos batch_pace_patience(const struct batch_pace *pace, nanos wait_max_ns, double rate, double pressure)
{
    double longest_ns = (double)wait_max_ns;
    if (pace->call_ns > 0) {
        longest_ns = fmin(longest_ns, patience * pace->call_ns);
    }
    if (rate * longest_ns < company_min || pressure >= 1) {
        return 0;
    }
    return (nanos)(longest_ns * (1 - pressure));
}

double batch_pace_memory_ns(const struct batch_pace *pace)
{
    return fmax(memory_min_ns, memory_calls * pace->call_ns);
}
