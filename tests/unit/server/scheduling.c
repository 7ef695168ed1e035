/* What the configuration says of scheduling, in the scheduler's terms. */
#include "config_test.h"

#include "server/scheduling.h"

#define SCHEDULED(keys) \
    LISTENERS ROUTES "upstreams: [{name: u, endpoints: ['127.0.0.1:1', '127.0.0.1:2'], scheduling: {" keys "}}]\n"

static void begin(const char *text, struct config **ret_config, struct scheduling *ret_scheduling)
{
    *ret_config = parse_right(text);
    cr_assert(scheduling_init(ret_scheduling, *ret_config) == RESULT_OK);
}

static void end(struct config *config, struct scheduling *scheduling)
{
    scheduling_fini(scheduling);
    config_destroy(config);
}

Test(scheduling, time_is_as_it_is_when_nothing_is_said)
{
    struct config *config;
    struct scheduling scheduling;
    begin(SCHEDULED(""), &config, &scheduling);
    const struct admission_options *model = &scheduling.upstreams[0].model;
    cr_expect(model->limiter.time_scale_milli == 1000);
    cr_expect(model->queue.aged_after_ns == 5 * NANOS_PER_S);
    cr_expect(model->limiter.slo_first_ns == 3 * NANOS_PER_S);
    cr_expect(model->limiter.initial == 64, "32 for each endpoint");
    end(config, &scheduling);
}

Test(scheduling, time_scale_shortens_the_schedulers_own_constants_and_no_goal)
{
    struct config *config;
    struct scheduling scheduling;
    begin(SCHEDULED("time_scale: 10, first_token_ms: 300"), &config, &scheduling);
    const struct admission_options *model = &scheduling.upstreams[0].model;
    const struct admission_options *plain = &scheduling.upstreams[0].plain;
    cr_expect(model->limiter.time_scale_milli == 10000);
    cr_expect(plain->limiter.time_scale_milli == 10000);
    cr_expect(model->queue.aged_after_ns == NANOS_PER_S / 2);
    cr_expect(model->limiter.slo_first_ns == 300 * NANOS_PER_MS, "goals are told as they are to be met");
    end(config, &scheduling);
}
