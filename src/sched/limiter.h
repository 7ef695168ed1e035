/* How much a backend can take at a time, found out from how long it takes to answer.
 *
 * A limiter is told of what happened and says three bounds: requests in flight, estimated KV tokens in flight, and time
 * of prefill not yet past the first token. Its algorithms differ in what they make of the same events; each is one file
 * (limiter_*.c) behind the vtable below. Pure: moments are handed in, nothing is allocated. Owned by the model's owner
 * core.
 *
 * excess    ours: size-normalised excess time to the first token (limiter_excess.c says how)
 * fixed     what the configuration says
 * aimd, vegas, gradient2 (Netflix concurrency-limits), envoy (adaptive concurrency filter): end-to-end latency, as
 *           published: to compare with, and for who wants them */
#ifndef SLUICE_SCHED_LIMITER_H
#define SLUICE_SCHED_LIMITER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/clock.h"

enum limiter_kind {
    LIMITER_EXCESS,
    LIMITER_FIXED,
    LIMITER_AIMD,
    LIMITER_VEGAS,
    LIMITER_GRADIENT2,
    LIMITER_ENVOY,
    LIMITER_KINDS,
};

struct limiter_options {
    enum limiter_kind kind;
    double initial;       /* in flight, to begin with; of `fixed`: always */
    double min, max;      /* min ≥ 1 */
    double kv_tokens_max; /* 0: to be learned */
    nanos slo_first_ns;   /* time to the first token that is wanted */
    nanos slo_token_ns;   /* mean time between tokens that is wanted; 0: no guard */
    uint32_t endpoints;   /* ≥ 1: servers that share the work */
    uint32_t seed;        /* for those that draw */
    /* 1,000: as it is; 10,000: all time constants are a tenth (for runs in accelerated time) */
    uint32_t time_scale_milli;
};

/* What there is in flight, at the moment of the call. */
struct limiter_census {
    uint32_t in_flight;     /* all that was granted and is not over */
    uint32_t pending;       /* of them, waiting for their first token */
    uint32_t running;       /* of them, past it, or without one to show */
    uint32_t streaming;     /* of running, those that told a first token */
    uint64_t kv_tokens;     /* held now, as estimated: prompts, and what was emitted */
    uint64_t kv_expected;   /* the same when all have come to their expected end */
    nanos pending_base_ns;  /* sum of base_ns over pending */
    nanos stalled_ns;       /* by how much the oldest pending one is beyond its base_ns; 0: it is not; only in a tick */
    nanos stalled_since_ns; /* when that one was granted; NANOS_NEVER: none is; only in a tick */
    nanos stream_elapsed_ns; /* of the streams that run, since their first tokens, all together; only in a tick */
    uint64_t stream_tokens;  /* and what they emitted in it */
    uint64_t tokens_emitted; /* ever, of all streams */
    bool blocked_by_count, blocked_by_kv, blocked_by_prefill; /* somebody had to wait for it since the last census */
    bool is_headroom_held;    /* a part of the limit is kept free for upper classes; only in a tick */
    bool blocked_by_headroom; /* for the headroom of upper classes: the limit itself was not reached */
    uint32_t waiting;         /* in the queue */
};

/* One request's first token (of a plain service or a whole answer: its end). */
struct limiter_sample {
    nanos granted_ns;
    nanos first_token_ns;   /* the moment */
    nanos base_ns;          /* what it would have taken without load; 0: nothing known */
    nanos ahead_ns;         /* the base of what was pending when it was granted: it had to wait for that */
    uint32_t prompt_tokens; /* uncached */
    uint32_t in_flight;     /* at the grant */
};

/* One request's end. */
struct limiter_end {
    nanos granted_ns;
    nanos ended_ns;
    nanos first_token_ns; /* 0: it had none to show */
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint32_t in_flight; /* at the grant */
    bool is_dropped;    /* timed out, refused or reset: what the published ones call a drop */
    bool is_canceled;   /* the client left: says nothing about the backend's latency */
};

enum limiter_cause {
    LIMITER_CAUSE_EXCESS,
    LIMITER_CAUSE_STALL,
    LIMITER_CAUSE_TOKENS,
    LIMITER_CAUSE_REFUSED,
    LIMITER_CAUSE_PROBE,
    LIMITER_CAUSES
};
const char *limiter_cause_name(enum limiter_cause cause);

struct limiter;

struct limiter_ops {
    const char *name;
    void (*init)(struct limiter *limiter, nanos now);
    void (*on_first_token)(struct limiter *limiter, nanos now, const struct limiter_sample *sample);
    void (*on_end)(struct limiter *limiter, nanos now, const struct limiter_end *end,
                   const struct limiter_census *census);
    /* The backend said 429 or 503, or reset the connection, for a request granted then. */
    void (*on_refused)(struct limiter *limiter, nanos now, nanos granted_ns, const struct limiter_census *census);
    /* Called at least every period_ns while there is anything in flight or waiting. */
    void (*tick)(struct limiter *limiter, nanos now, const struct limiter_census *census);
};

/* Each algorithm keeps its own state in it, and asserts that it fits. */
enum { LIMITER_STATE_BYTES = 4096 };

struct limiter {
    const struct limiter_ops *ops;
    struct limiter_options options;
    nanos period_ns; /* between ticks */

    /* what it says */
    double limit;       /* requests in flight; ≥ 1 */
    bool is_found;      /* the limit is one that was met, not merely the beginning of a search */
    double kv_tokens;   /* estimated tokens at their expected end, in flight; INFINITY: no bound */
    nanos prefill_ns;   /* sum of base_ns of those pending; NANOS_NEVER: no bound */
    uint32_t large_max; /* large prompts pending beside the small ones; UINT32_MAX: no bound */
    nanos excess_ns;    /* what a dispatch can expect beyond its base now: for predictions */

    uint64_t cuts[LIMITER_CAUSES];
    _Alignas(16) unsigned char state[LIMITER_STATE_BYTES];
};

void limiter_init(struct limiter *limiter, const struct limiter_options *options, nanos now);

/* NULL when there is none of this name. */
const struct limiter_ops *limiter_ops_of(enum limiter_kind kind);
bool limiter_kind_from(struct bytes name, enum limiter_kind *ret_kind);

/* `length`, as the options' time scale has it. */
static inline nanos limiter_scaled(const struct limiter *limiter, nanos length)
{
    uint32_t scale = limiter->options.time_scale_milli;
    return scale == 0 || scale == 1000 ? length : length * 1000 / scale;
}

#endif
