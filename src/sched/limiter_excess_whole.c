/* Whole answers: what is not a stream shows neither a first token nor a time between tokens.
 *
 * Half the limit is put on trial. Where answers wait for each other they take half the time then, and it stays; where
 * they do not, the cut is taken back, and the excess counts as natural from then on. Times vary so widely from one
 * answer to the next that anything less than a half, or fewer samples, would be judged by chance. */
#include <math.h>

#include "sched/limiter_excess_internal.h"

#define TRIAL_CUT      0.5
#define TRIAL_HELPED   0.75   /* of the time that a cut by a half must leave at most */
#define TRIAL_TIMES    8.0    /* an answer's usual time: so long a trial takes, for the quick ones end first */
#define SETTLE_TIMES   2.0    /* the same before one begins */
#define NATURAL_MARGIN 0.5    /* of the natural excess: by so much more it must become before that is tried again */
#define NATURAL_DECAY  0.9998 /* a tick: 5 % a minute */

/* What answers took since the limit was last changed, of those that met it: the mean of the logarithms, and their mean
 * excess. False: there are not enough. */
static bool usual_time(const struct excess_state *state, double *ret_log_took, double *ret_excess_ns)
{
    double log_took = 0;
    double excess = 0;
    for (unsigned i = 0; i < EXCESS_SAMPLES; i++) {
        if (state->sample_count < EXCESS_SAMPLES || !state->samples[i].met_limit) {
            return false;
        }
        log_took += (double)state->samples[i].log_took / EXCESS_SAMPLES;
        excess += (double)state->samples[i].excess_ns / EXCESS_SAMPLES;
    }
    *ret_log_took = log_took;
    *ret_excess_ns = fmax(excess, 0);
    return true;
}

bool excess_adapt_whole(struct limiter *limiter, nanos now, bool is_used, double median_ns)
{
    struct excess_state *state = excess_state_of(limiter);
    struct excess_whole *whole = &state->whole;
    double log_took;
    double excess;
    whole->natural_ns *= NATURAL_DECAY;
    double most = whole->natural_ns + fmax((double)state->d_ns, NATURAL_MARGIN * whole->natural_ns);
    double times = whole->is_on_trial ? TRIAL_TIMES : SETTLE_TIMES;
    if (!is_used || !usual_time(state, &log_took, &excess) || (double)(now - state->cut_ns) < times * exp(log_took)) {
        return !whole->is_on_trial && median_ns <= most;
    }
    if (whole->is_on_trial) {
        whole->is_on_trial = false;
        if (log_took > whole->log_took + log(TRIAL_HELPED)) {
            whole->natural_ns = fmax(excess, whole->excess_ns);
            state->count = fmax(state->count, whole->count);
            state->cut_ns = now; /* the next is judged by what is granted from now on */
            state->sample_count = 0;
        }
        return false;
    }
    if (excess <= most) {
        return true;
    }
    whole->is_on_trial = true;
    whole->log_took = log_took;
    whole->excess_ns = excess;
    whole->count = state->count;
    excess_cut(limiter, now, state->count * TRIAL_CUT, LIMITER_CAUSE_EXCESS);
    return false;
}
