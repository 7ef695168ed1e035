#include "api/inference_meter.h"

#include "base/check.h"
#include "proxy/forward.h"

static struct inference_meter *meter_of(struct fetch_meter *meter)
{
    return CONTAINER_OF(meter, struct inference_meter, meter);
}

static void on_head(struct fetch_meter *base_meter, struct fetch *fetch, const struct http_head *head, const char *base)
{
    (void)fetch;
    struct inference_meter *meter = meter_of(base_meter);
    struct bytes coding = http_head_value(head, base, HTTP_FIELD_CONTENT_ENCODING);
    meter->is_answer = head->status == 200;
    meter->is_coded = coding.len > 0 && !bytes_equal_nocase(coding, BYTES("identity"));
    token_meter_init(&meter->tokens, forward_is_event_stream(http_head_value(head, base, HTTP_FIELD_CONTENT_TYPE)));
}

/* The first token is one of those that follow. */
static void tell_first(struct inference_meter *meter, struct fetch *fetch)
{
    if (meter->told_tokens == 0 && fetch->pass.request.is_streamed) {
        meter->told_tokens = 1;
        gate_on_first_token(&fetch->pass, ring_now(fetch->proxy->ring));
    }
}

static void on_body(struct fetch_meter *base_meter, struct fetch *fetch, struct bytes run)
{
    struct inference_meter *meter = meter_of(base_meter);
    if (!meter->is_answer || run.len == 0) {
        return;
    }
    if (meter->is_coded) {
        tell_first(meter, fetch);
        return;
    }
    token_meter_feed(&meter->tokens, run);
    if (meter->tokens.has_content) {
        tell_first(meter, fetch);
    }
    if (meter->tokens.tokens > meter->told_tokens && meter->told_tokens > 0) {
        gate_on_tokens(&fetch->pass, meter->tokens.tokens - meter->told_tokens);
        meter->told_tokens = meter->tokens.tokens;
    }
}

static void on_end(struct fetch_meter *base_meter, struct fetch *fetch, enum result result)
{
    struct inference_meter *meter = meter_of(base_meter);
    struct cost_model *cost = gate_cost(fetch->pass.gate);
    if (!meter->is_answer || meter->is_coded) {
        return;
    }
    const struct token_meter *told = &meter->tokens;
    struct admission_outcome *outcome = &fetch->pass.outcome;
    outcome->has_usage = told->has_usage;
    outcome->usage = (struct sched_cost){told->prompt_tokens, told->cached_tokens, told->output_tokens};
    if (result == RESULT_OK && cost != NULL) {
        const struct cost_answer answer = {
            .prompt_tokens = told->prompt_tokens,
            .cached_tokens = told->cached_tokens,
            .output_tokens = told->has_usage ? told->output_tokens : told->tokens,
            .has_usage = told->has_usage,
        };
        cost_learn(cost, ring_now(fetch->proxy->ring), &meter->question, &answer);
    }
}

bool inference_meter_attach(struct fetch *fetch, const struct cost_question *question)
{
    struct inference_meter *meter = arena_alloc(&fetch->arena, sizeof(*meter));
    if (meter == NULL) {
        return false;
    }
    meter->meter = (struct fetch_meter){on_head, on_body, on_end};
    meter->question = *question;
    meter->is_answer = false;
    meter->is_coded = false;
    meter->told_tokens = 0;
    fetch->meter = &meter->meter;
    return true;
}
