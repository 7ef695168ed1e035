/* What the files of the limiter by excess share: limiter_excess.c says what it does; limiter_excess_decode.c guards the
 * time between tokens, limiter_excess_whole.c puts whole answers on trial. Nobody else includes it. The state lies in
 * the limiter itself; nothing is allocated. */
#ifndef SLUICE_SCHED_LIMITER_EXCESS_INTERNAL_H
#define SLUICE_SCHED_LIMITER_EXCESS_INTERNAL_H

#include "sched/limiter_internal.h"

enum { EXCESS_SAMPLES = 64 };

struct excess_sample {
    nanos at_ns;
    int64_t excess_ns; /* over the base */
    int64_t net_ns;    /* over the base and the prefill that was ahead of it */
    float log_took;    /* logarithm of the whole time in ns */
    bool met_limit;    /* the limit was used up at its grant */
};

/* The guard of decode. */
struct excess_decode {
    double aim_share;   /* of what is wanted: the mean to aim at, so that few requests miss it */
    double limit;       /* in flight; INFINITY: it has nothing to say */
    nanos began_ns;     /* of the window */
    nanos last_ns;      /* the last tick */
    uint32_t streams;   /* at that */
    uint64_t emitted;   /* tokens_emitted at the window's beginning */
    double streams_ns;  /* of this window: streams × ns */
    double guard_count; /* in flight, and the time, when the guard began to cut */
    double guard_time_ns;
    double judged_ns; /* the sum of the times since there are far fewer, and of how many windows */
    unsigned judged_windows;
    nanos until_ns; /* until then it lets the limit be */
};

/* Whole answers: is a cut followed by shorter times? */
struct excess_whole {
    double natural_ns; /* excess that no cut removes */
    bool is_on_trial;
    double log_took;  /* before the cut of the trial */
    double excess_ns; /* then, over the base alone */
    double count;     /* then */
};

struct excess_state {
    nanos d_ns;     /* the excess that is allowed */
    double count;   /* requests in flight, before the guard of decode has had its say */
    nanos cut_ns;   /* the last cut: what was granted before it says nothing any more */
    bool had_cut;   /* slow start is over */
    double height;  /* of the last cut: where the cubic is flat */
    double low;     /* what it was cut to */
    nanos epoch_ns; /* from when the cubic counts */

    double probe_from;  /* the limit before it was raised */
    double probe_step;  /* 0: the last one failed */
    nanos probe_end_ns; /* 0: none is under way */
    nanos probed_ns;

    struct excess_sample samples[EXCESS_SAMPLES];
    unsigned sample_count, sample_next;
    nanos known_ns; /* when there were last enough of them */

    double peak; /* most in flight in this minute, and in the one before */
    double peak_before;
    nanos peak_began_ns;

    double kv_seen; /* most held at a stall in this minute, and in the one before */
    double kv_before;
    nanos kv_began_ns;
    nanos kv_stall_ns;
    double held_mean, running_mean; /* at stalls, and by how much they differ from one to the next */
    double held_spread, running_spread;
    unsigned stalls;

    struct excess_decode decode;
    struct excess_whole whole;
};

_Static_assert(sizeof(struct excess_state) <= LIMITER_STATE_BYTES, "the state fits");

#define EXCESS_USED_SHARE 0.8 /* of the limit: only a limit in use is cut */

static inline struct excess_state *excess_state_of(struct limiter *limiter)
{
    return (struct excess_state *)limiter->state;
}

static inline double excess_clamp(double value, double low, double high)
{
    return value < low ? low : value > high ? high : value;
}

/* ---- limiter_excess.c */

/* Cuts the count to `limit`, within what the options allow: an epoch begins. */
void excess_cut(struct limiter *limiter, nanos now, double limit, enum limiter_cause cause);

/* ---- limiter_excess_decode.c */

void excess_decode_init(struct limiter *limiter, nanos now);

/* Each tick: moves decode.limit, and gives the count back where cutting was futile. */
void excess_guard_decode(struct limiter *limiter, nanos now, const struct limiter_census *census);

/* A request has ended: moves what is aimed at. */
void excess_aim_decode(struct limiter *limiter, const struct limiter_end *end);

/* ---- limiter_excess_whole.c */

/* Tries half the limit where whole answers take longer than is natural, and judges a trial that is under way. Whether
 * the limit may grow; `median_ns` is the excess of the last moments. */
bool excess_adapt_whole(struct limiter *limiter, nanos now, bool is_used, double median_ns);

#endif
