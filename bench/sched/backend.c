#include "backend.h"

void backend_init(struct backend *backend, const struct backend_options *options, engine_on_event *on_event,
                  void *context)
{
    backend->options = options;
    backend->profile = options->profile;
    backend->changes_done = 0;
    engine_init(&backend->engine,
                &(struct engine_options){.profile = &backend->profile,
                                         .time_scale_milli = options->time_scale_milli,
                                         .prefills_side_by_side = options->prefills_side_by_side},
                on_event, context);
}

nanos backend_next_ns(const struct backend *backend)
{
    nanos next = engine_next_event_ns(&backend->engine);
    if (backend->changes_done < backend->options->change_count) {
        nanos change = backend->options->changes[backend->changes_done].at_ns;
        next = change < next ? change : next;
    }
    return next;
}

static void change(struct engine_profile *profile, enum backend_change_kind kind)
{
    switch (kind) {
    case BACKEND_HALVE:
        profile->sequences_max /= 2;
        profile->prefill_tokens_per_s /= 2;
        break;
    case BACKEND_DOUBLE:
        profile->sequences_max *= 2;
        profile->prefill_tokens_per_s *= 2;
        break;
    case BACKEND_SLOW:
        profile->step_base_ns *= 2;
        profile->step_per_sequence_ns *= 2;
        break;
    }
}

void backend_advance(struct backend *backend, nanos now)
{
    while (backend->changes_done < backend->options->change_count &&
           backend->options->changes[backend->changes_done].at_ns <= now) {
        change(&backend->profile, backend->options->changes[backend->changes_done++].kind);
    }
    engine_advance(&backend->engine, now);
}
