/* What the schedulers of models and services say. Each metric's samples stand in one group, so all views are taken
 * before the first is told. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "server/metrics_internal.h"
#include "server/server.h"

/* ---- taking ---- */

struct views {
    unsigned count;
    unsigned room;
    struct sched_view *list;
};

/* Without memory it is left out: the next scrape may have it. */
static void take_view(const struct sched_view *view, void *context)
{
    struct views *views = context;
    if (views->count == views->room) {
        unsigned room = views->room == 0 ? 8 : views->room * 2;
        struct sched_view *list = realloc(views->list, room * sizeof(*list));
        if (list == NULL) {
            return;
        }
        views->list = list;
        views->room = room;
    }
    memcpy(&views->list[views->count++], view, sizeof(*view));
}

/* ---- telling ---- */

struct sample {
    FILE *out;
    const struct server *server;
    const char *name;
    const struct sched_view *view;
};

/* `suffix`: of the metric's name. Up to where further labels go, or the end of them. */
static void put_begin(const struct sample *sample, const char *suffix)
{
    char room[SCHED_VIEW_LABEL_BYTES];
    fprintf(sample->out, "%s%s{upstream=\"", sample->name, suffix);
    metrics_put_label(sample->out, sample->server->config->upstreams[sample->view->upstream].name);
    fputs("\",model=\"", sample->out);
    metrics_put_label(sample->out, sched_view_label(sample->view, room));
    fputc('"', sample->out);
}

/* A value that is not finite is no limit, or nothing known: no sample. */
static void put_real(const struct sample *sample, double value)
{
    if (isfinite(value)) {
        put_begin(sample, "");
        fprintf(sample->out, "} %.9g\n", value);
    }
}

static void put_count(const struct sample *sample, const char *label, const char *name, uint64_t value)
{
    put_begin(sample, "");
    if (label != NULL) {
        fprintf(sample->out, ",%s=\"%s\"", label, name);
    }
    fprintf(sample->out, "} %llu\n", (unsigned long long)value);
}

static const char *const class_names[SCHED_CLASSES] = {"0", "1", "2", "3"};

static void put_limit(const struct sample *sample)
{
    put_real(sample, sample->view->figures.limit);
}

/* What is fixed does not fall, so it has no floor: no sample. */
static void put_limit_min(const struct sample *sample)
{
    const struct config_scheduling *scheduling = &sample->server->config->upstreams[sample->view->upstream].scheduling;
    if (scheduling->limiter != LIMITER_FIXED) {
        put_real(sample, scheduling->concurrency_min);
    }
}

static void put_kv_limit(const struct sample *sample)
{
    put_real(sample, sample->view->figures.kv_limit_tokens);
}

static void put_in_flight(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->view->figures.census.in_flight);
}

static void put_pending(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->view->figures.census.pending);
}

static void put_kv_tokens(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->view->figures.census.kv_tokens);
}

static void put_queued(const struct sample *sample)
{
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        put_count(sample, "class", class_names[c], sample->view->figures.queue.requests_of_class[c]);
    }
}

static void put_wait(const struct sample *sample)
{
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        const struct histogram *h = &sample->view->waits[c];
        unsigned long long count = counter_load(&h->count);
        for (size_t i = 0; i <= METRICS_BOUNDS; i++) {
            bool is_last = i == METRICS_BOUNDS;
            put_begin(sample, "_bucket");
            fprintf(sample->out, ",class=\"%u\",le=\"%s\"} %llu\n", c, is_last ? "+Inf" : metrics_bounds[i].le,
                    is_last ? count : (unsigned long long)histogram_count_below(h, metrics_bounds[i].bound_ns));
        }
        put_begin(sample, "_sum");
        fprintf(sample->out, ",class=\"%u\"} %.9f\n", c, (double)counter_load(&h->sum_ns) / 1e9);
        put_begin(sample, "_count");
        fprintf(sample->out, ",class=\"%u\"} %llu\n", c, count);
    }
}

static void put_base(const struct sample *sample)
{
    put_real(sample, (double)sample->view->figures.base_ns / 1e9);
}

static void put_excess(const struct sample *sample)
{
    put_real(sample, (double)sample->view->figures.excess_ns / 1e9);
}

static void put_cuts(const struct sample *sample)
{
    for (unsigned c = 0; c < LIMITER_CAUSES; c++) {
        put_count(sample, "cause", limiter_cause_name((enum limiter_cause)c), sample->view->figures.cuts[c]);
    }
}

static void put_shed(const struct sample *sample)
{
    for (unsigned s = SCHED_SHED_NONE + 1; s < SCHED_SHED_REASONS; s++) {
        put_count(sample, "reason", sched_shed_name((enum sched_shed)s), sample->view->figures.counters.shed[s]);
    }
}

static void put_shed_of_class(const struct sample *sample)
{
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        put_count(sample, "class", class_names[c], sample->view->figures.counters.shed_of_class[c]);
    }
}

static void put_granted(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->view->figures.counters.granted);
}

static void put_lent(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->view->lent);
}

static void put_wait_error(const struct sample *sample)
{
    put_real(sample, sample->view->figures.wait_error);
}

static void put_would(const struct sample *sample)
{
    const struct admission_counters *counters = &sample->view->figures.counters;
    put_count(sample, "what", "wait", counters->would_have_waited);
    put_count(sample, "what", "shed", counters->would_have_shed);
}

static void put_inversions(const struct sample *sample)
{
    put_count(sample, NULL, NULL, sample->view->figures.queue.inversions);
}

/* Of configured tenants alone: others' names come from requests. */
static void put_tenants(const struct sample *sample, bool is_served)
{
    for (unsigned t = 0; t < sample->view->tenant_count; t++) {
        const struct queue_tenant_figures *figures = &sample->view->tenant[t];
        struct bytes name = scheduling_tenant_name(&sample->server->scheduling, figures->tenant);
        if (name.ptr != NULL) {
            put_begin(sample, "");
            fputs(",tenant=\"", sample->out);
            metrics_put_label(sample->out, name);
            fprintf(sample->out, "\"} %.15g\n", is_served ? figures->served : figures->waiting);
        }
    }
}

static void put_tenants_waiting(const struct sample *sample)
{
    put_tenants(sample, false);
}

static void put_tenants_served(const struct sample *sample)
{
    put_tenants(sample, true);
}

/* ---- of several endpoints ---- */

static void put_endpoint(const struct sample *sample, uint32_t index, double value)
{
    const struct config_upstream *upstream = &sample->server->config->upstreams[sample->view->upstream];
    put_begin(sample, "");
    fputs(",endpoint=\"", sample->out);
    metrics_put_label(sample->out, upstream->endpoints[index].text);
    fprintf(sample->out, "\"} %.15g\n", value);
}

static void put_endpoint_limits(const struct sample *sample)
{
    for (uint32_t i = 0; i < sample->view->endpoint_count; i++) {
        if (isfinite(sample->view->endpoint[i].limit)) {
            put_endpoint(sample, i, sample->view->endpoint[i].limit);
        }
    }
}

static void put_endpoints_in_flight(const struct sample *sample)
{
    for (uint32_t i = 0; i < sample->view->endpoint_count; i++) {
        put_endpoint(sample, i, sample->view->endpoint[i].in_flight);
    }
}

static void put_endpoint_pauses(const struct sample *sample)
{
    for (uint32_t i = 0; i < sample->view->endpoint_count; i++) {
        put_endpoint(sample, i, (double)sample->view->endpoint[i].paused_ns / 1e9);
    }
}

static void put_endpoint_cuts(const struct sample *sample)
{
    for (uint32_t i = 0; i < sample->view->endpoint_count; i++) {
        put_endpoint(sample, i, (double)sample->view->endpoint[i].cuts);
    }
}

static const struct {
    const char *name;
    const char *type;
    const char *help;
    void (*put)(const struct sample *sample);
} metrics[] = {
    {"sluice_sched_limit", "gauge", "Requests that may be in flight.", put_limit},
    {"sluice_sched_limit_min", "gauge", "How low that may fall; no sample: it is fixed.", put_limit_min},
    {"sluice_sched_kv_tokens_limit", "gauge", "KV tokens that may be in flight; no sample: no bound.", put_kv_limit},
    {"sluice_sched_in_flight", "gauge", "Requests granted and not over.", put_in_flight},
    {"sluice_sched_pending", "gauge", "Of them, waiting for their first token.", put_pending},
    {"sluice_sched_kv_tokens", "gauge", "KV tokens in flight, as estimated.", put_kv_tokens},
    {"sluice_sched_queued", "gauge", "Requests that wait, by class.", put_queued},
    {"sluice_sched_wait_seconds", "histogram", "How long granted requests had waited, by class.", put_wait},
    {"sluice_sched_base_seconds", "gauge", "What a first token takes without load.", put_base},
    {"sluice_sched_excess_seconds", "gauge", "What it takes beyond that now.", put_excess},
    {"sluice_sched_cuts_total", "counter", "Times the limit was cut, by cause.", put_cuts},
    {"sluice_sched_shed_total", "counter", "Requests turned away, by reason.", put_shed},
    {"sluice_sched_shed_of_class_total", "counter", "Requests turned away, by class.", put_shed_of_class},
    {"sluice_sched_granted_total", "counter", "Requests let through.", put_granted},
    {"sluice_sched_credits_lent", "gauge", "Credits that other workers hold.", put_lent},
    {"sluice_sched_predicted_wait_error_ratio", "gauge", "Mean error of predicted waits, as a share of the real ones.",
     put_wait_error},
    {"sluice_sched_would_have_total", "counter", "What would have been done, where it only observes.", put_would},
    {"sluice_sched_tenant_waiting", "gauge", "Requests of configured tenants that wait.", put_tenants_waiting},
    {"sluice_sched_tenant_served", "gauge", "Weighted tokens that configured tenants were charged.",
     put_tenants_served},
    {"sluice_sched_endpoint_limit", "gauge", "Requests that one of several endpoints may have; no sample: no bound.",
     put_endpoint_limits},
    {"sluice_sched_endpoint_in_flight", "gauge", "Requests that were given to it and are not over, credits apart.",
     put_endpoints_in_flight},
    {"sluice_sched_endpoint_pause_seconds", "gauge", "For how long it is left alone.", put_endpoint_pauses},
    {"sluice_sched_endpoint_cuts_total", "counter", "Times its limit was cut.", put_endpoint_cuts},
    {"sluice_sched_inversions_total", "counter", "Grants that passed an upper class: has to stay 0.", put_inversions},
};

void metrics_put_sched(FILE *out, const struct server *server)
{
    struct sched_view *view = malloc(sizeof(*view));
    struct views views = {0};
    uint64_t untold = 0;
    for (unsigned w = 0; w < server->worker_count && view != NULL; w++) {
        sched_board_each(&server->workers[w].board, view, take_view, &views);
        untold += counter_load(&server->workers[w].board.untold);
    }
    free(view);
    metrics_put_type(out, "sluice_sched_models_untold", "gauge", "Models beyond those that are told of.");
    fprintf(out, "sluice_sched_models_untold %llu\n", (unsigned long long)untold);
    for (size_t m = 0; m < sizeof(metrics) / sizeof(metrics[0]) && views.count > 0; m++) {
        metrics_put_type(out, metrics[m].name, metrics[m].type, metrics[m].help);
        for (unsigned v = 0; v < views.count; v++) {
            metrics[m].put(&(struct sample){out, server, metrics[m].name, &views.list[v]});
        }
    }
    free(views.list);
}
