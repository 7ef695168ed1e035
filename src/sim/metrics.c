/* /metrics: the gauges a load balancer reads from vLLM, under its names, and the simulator's own. */
#include "sim/internal.h"

static void put_metric(struct sim_buffer *out, const char *name, const char *type, const char *help)
{
    sim_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_labelled(struct sim *sim, struct sim_buffer *out, const char *name, const char *type, const char *help,
                         double value)
{
    put_metric(out, name, type, help);
    sim_buffer_format(out, "%s{model_name=", name);
    sim_buffer_put_json(out, bytes_from(sim->options.models[0]));
    sim_buffer_format(out, "} %.10g\n", value);
}

static void put_plain(struct sim_buffer *out, const char *name, const char *type, const char *help, uint64_t value)
{
    put_metric(out, name, type, help);
    sim_buffer_format(out, "%s %llu\n", name, (unsigned long long)value);
}

static void put_vllm(struct sim *sim, struct sim_buffer *out)
{
    const struct engine *engine = &sim->engine;
    double kv = (double)engine->kv_tokens / sim->options.profile.kv_tokens_max;
    put_labelled(sim, out, "vllm:num_requests_running", "gauge", "Sequences in the running batch.",
                 engine->running_count);
    put_labelled(sim, out, "vllm:num_requests_waiting", "gauge", "Sequences waiting to be processed.",
                 engine->waiting_count);
    put_labelled(sim, out, "vllm:kv_cache_usage_perc", "gauge", "KV memory in use; 1 is all of it.", kv);
    put_labelled(sim, out, "vllm:gpu_cache_usage_perc", "gauge", "The same, under its former name.", kv);
    put_labelled(sim, out, "vllm:num_preemptions_total", "counter", "Sequences preempted.",
                 (double)engine->counters.preemptions);
    put_labelled(sim, out, "vllm:prompt_tokens_total", "counter", "Prompt tokens of accepted requests.",
                 (double)sim->counters.prompt_tokens);
    put_labelled(sim, out, "vllm:generation_tokens_total", "counter", "Tokens generated.",
                 (double)engine->counters.output_tokens);
    put_metric(out, "vllm:request_success_total", "counter", "Choices finished, by reason.");
    const struct {
        const char *reason;
        uint64_t count;
    } reasons[] = {{"stop", sim->counters.finished_stop}, {"length", sim->counters.finished_length}};
    for (unsigned i = 0; i < ARRAY_COUNT(reasons); i++) {
        sim_buffer_format(out, "vllm:request_success_total{finished_reason=\"%s\",model_name=", reasons[i].reason);
        sim_buffer_put_json(out, bytes_from(sim->options.models[0]));
        sim_buffer_format(out, "} %llu\n", (unsigned long long)reasons[i].count);
    }
}

static void put_own(struct sim *sim, struct sim_buffer *out)
{
    const struct sim_counters *own = &sim->counters;
    const struct engine_counters *engine = &sim->engine.counters;
    put_plain(out, "sim_connections", "gauge", "Connections open.", own->connections_open);
    put_plain(out, "sim_connections_total", "counter", "Connections accepted.", own->connections);
    put_plain(out, "sim_requests_total", "counter", "Requests whose head was read.", own->requests);
    put_plain(out, "sim_bad_requests_total", "counter", "Requests refused for what HTTP forbids.", own->bad_requests);
    put_plain(out, "sim_faults_total", "counter", "Requests with a fault.", own->faults);
    put_plain(out, "sim_cancelled_total", "counter", "Sequences taken out of the engine before their end.",
              own->cancelled);
    put_plain(out, "sim_ticker_events_total", "counter", "Events of /ticker.", own->ticks);
    put_plain(out, "sim_engine_steps_total", "counter", "Steps of the engine.", engine->steps);
    put_plain(out, "sim_engine_batch_total", "counter", "Sequences in all steps.", engine->batch_sum);
    put_plain(out, "sim_engine_prefill_tokens_total", "counter", "Prompt tokens computed, again after preemptions too.",
              engine->prefill_tokens);
    put_plain(out, "sim_engine_submitted_total", "counter", "Sequences submitted.", engine->submitted);
    put_plain(out, "sim_engine_finished_total", "counter", "Sequences finished.", engine->finished);
    put_metric(out, "sim_engine_busy_seconds_total", "counter", "Time in steps.");
    sim_buffer_format(out, "sim_engine_busy_seconds_total %.6f\n", (double)engine->busy_ns / (double)NANOS_PER_S);
}

void sim_metrics_answer(struct sim_connection *c)
{
    struct sim_buffer body = {0};
    put_vllm(c->sim, &body);
    put_own(c->sim, &body);
    sim_answer_full(c, 200, "text/plain; version=0.0.4; charset=utf-8", BYTES_NONE, sim_buffer_bytes(&body));
    sim_buffer_fini(&body);
}
