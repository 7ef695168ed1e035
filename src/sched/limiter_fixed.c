/* What the configuration says: the limit is `initial`, and `kv_tokens_max` if that is given. Nothing is learned. */
#include "sched/limiter_internal.h"

static void init(struct limiter *limiter, nanos now)
{
    (void)now;
    limiter->limit = limiter->options.initial < 1 ? 1 : limiter->options.initial;
}

const struct limiter_ops limiter_fixed_ops = {
    .name = "fixed",
    .init = init,
    .on_first_token = limiter_ignore_first_token,
    .on_end = limiter_ignore_end,
    .on_refused = limiter_ignore_refused,
    .tick = limiter_ignore_tick,
};
