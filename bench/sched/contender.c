#include "contender.h"

#include <stdlib.h>
#include <string.h>

#include "die.h"

struct contender contender_fixed(double limit)
{
    return (struct contender){.name = "fixed", .kind = LIMITER_FIXED, .fixed = limit};
}

struct contender contender_from(const char *name)
{
    struct contender contender = {.name = name, .is_none = strcmp(name, "none") == 0};
    if (contender.is_none) {
        return contender;
    }
    if (strncmp(name, "fixed:", 6) == 0) {
        contender = contender_fixed(strtod(name + 6, NULL));
        contender.name = name;
        if (contender.fixed < 1) {
            bench_die("%s: less than 1", name);
        }
        return contender;
    }
    if (!limiter_kind_from(bytes_from(name), &contender.kind) || contender.kind == LIMITER_FIXED) {
        bench_die("no limiter is called %s", name);
    }
    return contender;
}

struct admission_options contender_admission(const struct run_setup *setup)
{
    uint32_t scale = setup->time_scale > 0 ? setup->time_scale : 1;
    return (struct admission_options){
        .limiter = {.kind = setup->contender.kind,
                    .initial = setup->contender.kind == LIMITER_FIXED ? setup->contender.fixed : 32,
                    .min = 1,
                    .max = 65536,
                    .slo_first_ns = setup->first_token_max_ns,
                    .slo_token_ns = setup->token_max_ns,
                    .endpoints = 1,
                    .kv_tokens_max = setup->is_kv_known ? setup->backend->profile.kv_tokens_max : 0,
                    .seed = (uint32_t)setup->workload->seed + 1,
                    .time_scale_milli = 1000 * scale},
        .queue = {.requests_max = 4096,
                  .tokens_max = 0,
                  .bytes_max = 256 << 20,
                  .tenants_max = 1024,
                  .tenant_share_percent = 50,
                  .aged_share_percent = 5,
                  .aged_after_ns = 5 * NANOS_PER_S / scale,
                  .small_tokens_max = 4096,
                  .input_weight = 1000,
                  .output_weight = 2000,
                  .catch_up_tokens = 10000,
                  .lifo_lowest = true},
        .holdback_percent = 12,
        .endpoint_count = 1,
    };
}

struct cost_options contender_cost(const struct run_setup *setup)
{
    return (struct cost_options){
        .bytes_per_token = 4,
        .output_quantile = 0.75,
        .output_tokens = 256,
        .tenants_max = 1024,
        .prefix_blocks_max = setup->prefix_blocks_max,
    };
}
