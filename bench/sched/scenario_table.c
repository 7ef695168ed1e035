#include <string.h>

#include "base/check.h"
#include "measures.h"

#define AZURE    "inference/azure2023_conversation.csv"
#define MOONCAKE "inference/mooncake_conversation.jsonl.xz"

static const struct scenario SCENARIOS[] = {
    {.name = "steady-overload",
     .trace = AZURE,
     .load = 2,
     .seconds = 3600,
     .warmup_s = 60,
     .wanted_share = 0.95,
     .measure = measure_steady},
    {.name = "capacity-halves",
     .trace = AZURE,
     .load = 2,
     .seconds = 600,
     .warmup_s = 120,
     .changes = {{300, BACKEND_HALVE}},
     .change_count = 1,
     .measure = measure_halves},
    {.name = "capacity-doubles",
     .trace = AZURE,
     .load = 2,
     .seconds = 900,
     .warmup_s = 120,
     .changes = {{300, BACKEND_HALVE}, {600, BACKEND_DOUBLE}},
     .change_count = 2,
     .measure = measure_doubles},
    {.name = "decode-slows",
     .trace = AZURE,
     .load = 2,
     .seconds = 900,
     .warmup_s = 120,
     .changes = {{300, BACKEND_SLOW}},
     .change_count = 1,
     .measure = measure_slows},
    {.name = "bursts",
     .trace = AZURE,
     .arrivals = WORKLOAD_ON_OFF,
     .rate_per_s = 18,
     .off_rate_per_s = 3,
     .on_s = 30,
     .off_s = 30,
     .seconds = 1800,
     .warmup_s = 60,
     .wanted_share = 0.96},
    {.name = "third",
     .trace = AZURE,
     .load = 1.0 / 3,
     .seconds = 1800,
     .warmup_s = 60,
     .wanted_share = 0.99,
     .measure = measure_third},
    /* Who asks for much has to wait for it: the deadline of a long prompt is no use as one. */
    {.name = "mooncake-small",
     .trace = MOONCAKE,
     .load = 0.8,
     .seconds = 3600,
     .warmup_s = 60,
     .patient_tokens_min = 8192,
     .patient_s = 120,
     .kv_tokens_max = 262144,
     .is_kv_known = true,
     .prefills_side_by_side = 4,
     .measure = measure_mooncake},
    {.name = "kv-bound",
     .trace = AZURE,
     .load = 2,
     .seconds = 1800,
     .warmup_s = 60,
     .kv_tokens_max = 60000,
     .wanted_share = 0.95,
     .measure = measure_kv},
    /* Nine tenants want 0.8 of a tenth of the capacity each, and the noisy one ten tenths. */
    {.name = "noisy-tenant",
     .trace = AZURE,
     .arrivals = WORKLOAD_POISSON,
     .load = 1.72,
     .seconds = 1800,
     .warmup_s = 60,
     .tenants = 10,
     .noisy_weight = 12.5,
     .measure = measure_noisy},
    {.name = "class0",
     .trace = AZURE,
     .load = 2,
     .seconds = 1800,
     .warmup_s = 60,
     .class0_share = 0.1,
     .measure = measure_class0},
    {.name = "shed-accuracy",
     .trace = AZURE,
     .load = 2,
     .seconds = 3600,
     .warmup_s = 60,
     .measure = measure_shed_accuracy},
};

const struct scenario *scenario_all(unsigned *ret_count)
{
    *ret_count = ARRAY_COUNT(SCENARIOS);
    return SCENARIOS;
}

const struct scenario *scenario_find(const char *name)
{
    for (unsigned i = 0; i < ARRAY_COUNT(SCENARIOS); i++) {
        if (strcmp(SCENARIOS[i].name, name) == 0) {
            return &SCENARIOS[i];
        }
    }
    return NULL;
}
