/* /sim/capacity: the engine loses or gets back some of what it can do, as when one of two ranks dies. */
#include "sim/internal.h"

enum { SEQUENCES_MAX = 1000000, PERCENT_MAX = 10000 };

static uint32_t share_of(uint32_t whole, uint64_t percent)
{
    uint64_t share = whole * percent / 100;
    return share < 1 ? 1 : share > UINT32_MAX ? UINT32_MAX : (uint32_t)share;
}

static void answer_with(struct sim_connection *c, const struct engine_profile *profile)
{
    struct sim_buffer body = {0};
    sim_buffer_format(
        &body, "{\"sequences\":%u,\"prefill_tokens_per_s\":%u,\"step_base_ns\":%llu,\"step_per_sequence_ns\":%llu}",
        profile->sequences_max, profile->prefill_tokens_per_s, (unsigned long long)profile->step_base_ns,
        (unsigned long long)profile->step_per_sequence_ns);
    sim_answer_json_buffer(c, 200, &body);
}

/* Nothing is changed unless all of it was understood. */
void sim_capacity_answer(struct sim_connection *c)
{
    yyjson_doc *doc = sim_openai_read(c);
    if (doc == NULL) {
        return;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    const struct engine_profile *whole = &c->sim->whole;
    struct engine_profile *now = &c->sim->options.profile;
    uint64_t sequences, prefill_percent, step_percent;
    if (!sim_openai_u64(c, root, "sequences", now->sequences_max, &sequences) ||
        !sim_openai_u64(c, root, "prefill_percent", UINT64_MAX, &prefill_percent) ||
        !sim_openai_u64(c, root, "step_percent", UINT64_MAX, &step_percent)) {
        /* answered */
    } else if (sequences < 1 || sequences > SEQUENCES_MAX) {
        sim_answer_error(c, 400, "'sequences' must be 1 to %u.", SEQUENCES_MAX);
    } else if ((prefill_percent != UINT64_MAX && (prefill_percent < 1 || prefill_percent > PERCENT_MAX)) ||
               (step_percent != UINT64_MAX && (step_percent < 1 || step_percent > PERCENT_MAX))) {
        sim_answer_error(c, 400, "'prefill_percent' and 'step_percent' must be 1 to %u.", PERCENT_MAX);
    } else {
        now->sequences_max = (uint32_t)sequences;
        if (prefill_percent != UINT64_MAX) {
            now->prefill_tokens_per_s = share_of(whole->prefill_tokens_per_s, prefill_percent);
        }
        if (step_percent != UINT64_MAX) {
            now->step_base_ns = whole->step_base_ns * step_percent / 100;
            now->step_per_sequence_ns = whole->step_per_sequence_ns * step_percent / 100;
        }
        answer_with(c, now);
    }
    yyjson_doc_free(doc);
}
