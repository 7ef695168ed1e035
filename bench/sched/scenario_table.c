#include <string.h>

#include "base/check.h"
#include "scenario.h"

#define AZURE    "inference/azure2023_conversation.csv"
#define MOONCAKE "inference/mooncake_conversation.jsonl.xz"

static const struct scenario SCENARIOS[] = {
    {.name = "steady-overload", .trace = AZURE, .load = 2, .seconds = 3600, .warmup_s = 60, .wanted_share = 0.95},
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
    {.name = "third", .trace = AZURE, .load = 1.0 / 3, .seconds = 1800, .warmup_s = 60, .wanted_share = 0.99},
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
