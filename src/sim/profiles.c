#include "sim/profiles.h"

#include "base/check.h"

/* Base and per-sequence time in µs, prefill in tokens a second, KV memory in tokens. Chunk and batch bound are the
 * usual settings of the engines, not measured ones. The models' own context is shorter than the KV memory; what is
 * simulated is the engine, so the memory is the bound. */
#define MEASURED(profile_name, base_us, sequence_us, tokens_per_s, kv_tokens)                                         \
    {                                                                                                                 \
        .name = profile_name, .step_base_ns = base_us * NANOS_PER_US,                                                 \
        .step_per_sequence_ns = sequence_us * NANOS_PER_US, .prefill_tokens_per_s = tokens_per_s,                     \
        .prefill_tokens_max = 2048, .sequences_max = 64, .kv_tokens_max = kv_tokens, .context_tokens_max = kv_tokens, \
    }

static const struct engine_profile PROFILES[] = {
    /* Round figures between the 4- and the 8-card H100 below, with little KV memory, so that it is felt. */
    MEASURED("reference", 30600, 300, 13000, 120000),
    /* Below: python3 src/sim/fit_profiles.py splitwise_step_times.csv (pcap: with the cards' power capped). */
    /* mean error: decode 2.1%, prefill 2.8% */
    MEASURED("bloom-176b-a100-x8", 49024, 705, 4206, 55000),
    /* mean error: decode 1.8%, prefill 10.2% */
    MEASURED("bloom-176b-h100-x8", 36088, 414, 10213, 55000),
    /* mean error: decode 1.8%, prefill 6.6% */
    MEASURED("bloom-176b-h100-pcap-x8", 36088, 414, 7320, 55000),
    /* mean error: decode 5.1%, prefill 14.6% */
    MEASURED("llama2-70b-a100-x2", 57982, 225, 3044, 18000),
    /* mean error: decode 2.4%, prefill 12.4% */
    MEASURED("llama2-70b-a100-x4", 44212, 409, 5101, 457000),
    /* mean error: decode 1.9%, prefill 7.6% */
    MEASURED("llama2-70b-a100-x8", 44844, 387, 8927, 1336000),
    /* mean error: decode 3.2%, prefill 14.7% */
    MEASURED("llama2-70b-h100-x2", 37856, 155, 8318, 18000),
    /* mean error: decode 1.8%, prefill 11.4% */
    MEASURED("llama2-70b-h100-x4", 29244, 334, 12849, 457000),
    /* mean error: decode 2.3%, prefill 7.8% */
    MEASURED("llama2-70b-h100-x8", 30326, 303, 19912, 1336000),
    /* mean error: decode 3.2%, prefill 9.8% */
    MEASURED("llama2-70b-h100-pcap-x2", 37856, 155, 6022, 18000),
    /* mean error: decode 1.8%, prefill 9.6% */
    MEASURED("llama2-70b-h100-pcap-x4", 29244, 334, 9197, 457000),
    /* mean error: decode 2.3%, prefill 9.1% */
    MEASURED("llama2-70b-h100-pcap-x8", 30326, 303, 13676, 1336000),
};

const struct engine_profile *profiles_all(unsigned *ret_count)
{
    *ret_count = ARRAY_COUNT(PROFILES);
    return PROFILES;
}

const struct engine_profile *profiles_find(struct bytes name)
{
    for (unsigned i = 0; i < ARRAY_COUNT(PROFILES); i++) {
        if (bytes_equal(name, bytes_from(PROFILES[i].name))) {
            return &PROFILES[i];
        }
    }
    return NULL;
}
