/* What the schedulers of models and services say, for /api/performance. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/counter.h"
#include "server/performance_internal.h"
#include "server/server.h"

struct telling {
    yyjson_mut_doc *doc;
    yyjson_mut_val *list;
    const struct server *server;
    unsigned worker;
};

static void put_name(yyjson_mut_doc *doc, yyjson_mut_val *model, const struct server *server,
                     const struct sched_view *view)
{
    char room[SCHED_VIEW_LABEL_BYTES];
    struct bytes upstream = server->config->upstreams[view->upstream].name;
    yyjson_mut_obj_add_strncpy(doc, model, "upstream", upstream.ptr, upstream.len);
    yyjson_mut_obj_add_str(doc, model, "kind", view->is_plain ? "service" : "model");
    struct bytes name = sched_view_label(view, room);
    if (name.len > 0) {
        yyjson_mut_obj_add_strncpy(doc, model, "model", name.ptr, name.len);
    } else {
        yyjson_mut_obj_add_null(doc, model, "model");
    }
}

static void put_limits(yyjson_mut_doc *doc, yyjson_mut_val *model, const struct sched_view *view)
{
    const struct admission_figures *figures = &view->figures;
    performance_put(doc, model, "limit", figures->limit);
    performance_put(doc, model, "kv_tokens_limit", figures->kv_limit_tokens);
    performance_put_ms(doc, model, "prefill_limit_ms", figures->prefill_limit_ns);
    yyjson_mut_obj_add_uint(doc, model, "in_flight", figures->census.in_flight);
    yyjson_mut_obj_add_uint(doc, model, "pending", figures->census.pending);
    yyjson_mut_obj_add_uint(doc, model, "kv_tokens", figures->census.kv_tokens);
    yyjson_mut_obj_add_uint(doc, model, "credits_lent", view->lent);
    performance_put_ms(doc, model, "base_ms", figures->base_ns);
    performance_put_ms(doc, model, "excess_ms", figures->excess_ns);
    yyjson_mut_val *cuts = yyjson_mut_obj_add_obj(doc, model, "cuts");
    for (unsigned c = 0; c < LIMITER_CAUSES; c++) {
        yyjson_mut_obj_add_uint(doc, cuts, limiter_cause_name((enum limiter_cause)c), figures->cuts[c]);
    }
}

/* By its configured name; strangers by what tells them apart here, which says nothing elsewhere. */
static void put_tenant(yyjson_mut_doc *doc, yyjson_mut_val *list, const struct server *server,
                       const struct queue_tenant_figures *figures)
{
    yyjson_mut_val *tenant = yyjson_mut_arr_add_obj(doc, list);
    struct bytes name = scheduling_tenant_name(&server->scheduling, figures->tenant);
    if (name.ptr != NULL) {
        yyjson_mut_obj_add_strncpy(doc, tenant, "tenant", name.ptr, name.len);
    } else {
        char hash[20];
        snprintf(hash, sizeof(hash), "#%016llx", (unsigned long long)figures->tenant);
        yyjson_mut_obj_add_strcpy(doc, tenant, "tenant", hash);
    }
    performance_put(doc, tenant, "weight", figures->weight / 1000.0);
    yyjson_mut_obj_add_uint(doc, tenant, "waiting", figures->waiting);
    performance_put(doc, tenant, "served", figures->served);
}

static void put_queue(yyjson_mut_doc *doc, yyjson_mut_val *model, const struct server *server,
                      const struct sched_view *view)
{
    const struct queue_figures *figures = &view->figures.queue;
    yyjson_mut_val *queue = yyjson_mut_obj_add_obj(doc, model, "queued");
    yyjson_mut_obj_add_uint(doc, queue, "requests", figures->requests);
    yyjson_mut_val *classes = yyjson_mut_obj_add_arr(doc, queue, "by_class");
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        yyjson_mut_arr_add_uint(doc, classes, figures->requests_of_class[c]);
    }
    yyjson_mut_obj_add_uint(doc, queue, "tokens", figures->tokens);
    yyjson_mut_obj_add_uint(doc, queue, "body_bytes", figures->bytes);
    bool is_none = figures->oldest_ns == NANOS_NEVER;
    nanos age = !is_none && view->at_ns > figures->oldest_ns ? view->at_ns - figures->oldest_ns : 0;
    performance_put_ms(doc, queue, "oldest_ms", is_none ? NANOS_NEVER : age);
    yyjson_mut_obj_add_uint(doc, queue, "tenants", figures->tenants_waiting);
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, queue, "by_tenant");
    for (unsigned t = 0; t < view->tenant_count; t++) {
        put_tenant(doc, list, server, &view->tenant[t]);
    }
}

static void put_waits(yyjson_mut_doc *doc, yyjson_mut_val *model, const struct sched_view *view)
{
    yyjson_mut_val *waits = yyjson_mut_obj_add_obj(doc, model, "wait_ms");
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        static const char *const names[] = {"class_0", "class_1", "class_2", "class_3"};
        _Static_assert(sizeof(names) / sizeof(names[0]) == SCHED_CLASSES, "each class has a name");
        performance_put_latency(doc, waits, names[c], &view->waits[c]);
    }
    performance_put_ms(doc, model, "predicted_wait_ms", view->figures.predicted_wait_ns);
    performance_put(doc, model, "predicted_wait_error", view->figures.wait_error);
}

static void put_counts(yyjson_mut_doc *doc, yyjson_mut_val *model, const struct sched_view *view)
{
    const struct admission_counters *counters = &view->figures.counters;
    yyjson_mut_obj_add_uint(doc, model, "submitted", counters->submitted);
    yyjson_mut_obj_add_uint(doc, model, "granted", counters->granted);
    yyjson_mut_obj_add_uint(doc, model, "granted_at_once", counters->granted_at_once);
    yyjson_mut_obj_add_uint(doc, model, "released", counters->released);
    yyjson_mut_obj_add_uint(doc, model, "outstanding", counters->granted - counters->released);
    yyjson_mut_obj_add_uint(doc, model, "canceled", counters->canceled);
    yyjson_mut_val *shed = yyjson_mut_obj_add_obj(doc, model, "shed");
    for (unsigned s = SCHED_SHED_NONE + 1; s < SCHED_SHED_REASONS; s++) {
        yyjson_mut_obj_add_uint(doc, shed, sched_shed_name((enum sched_shed)s), counters->shed[s]);
    }
    yyjson_mut_val *classes = yyjson_mut_obj_add_arr(doc, model, "shed_by_class");
    for (unsigned c = 0; c < SCHED_CLASSES; c++) {
        yyjson_mut_arr_add_uint(doc, classes, counters->shed_of_class[c]);
    }
    yyjson_mut_obj_add_uint(doc, model, "would_have_waited", counters->would_have_waited);
    yyjson_mut_obj_add_uint(doc, model, "would_have_shed", counters->would_have_shed);
    yyjson_mut_obj_add_uint(doc, model, "aged_grants", view->figures.queue.aged_grants);
    yyjson_mut_obj_add_uint(doc, model, "small_lane_grants", view->figures.queue.lane_grants);
    yyjson_mut_obj_add_uint(doc, model, "inversions", view->figures.queue.inversions);
}

/* Where there are several. */
static void put_endpoints(yyjson_mut_doc *doc, yyjson_mut_val *model, const struct server *server,
                          const struct sched_view *view)
{
    const struct config_upstream *upstream = &server->config->upstreams[view->upstream];
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, model, "endpoints");
    for (uint32_t i = 0; i < view->endpoint_count; i++) {
        const struct sched_view_endpoint *figures = &view->endpoint[i];
        struct bytes text = upstream->endpoints[i].text;
        yyjson_mut_val *endpoint = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strncpy(doc, endpoint, "endpoint", text.ptr, text.len);
        performance_put(doc, endpoint, "limit", figures->limit);
        yyjson_mut_obj_add_uint(doc, endpoint, "in_flight", figures->in_flight);
        performance_put_ms(doc, endpoint, "paused_ms", figures->paused_ns);
        yyjson_mut_obj_add_uint(doc, endpoint, "cuts", figures->cuts);
    }
}

static void put_model(const struct sched_view *view, void *context)
{
    struct telling *telling = context;
    yyjson_mut_doc *doc = telling->doc;
    yyjson_mut_val *model = yyjson_mut_arr_add_obj(doc, telling->list);
    put_name(doc, model, telling->server, view);
    yyjson_mut_obj_add_uint(doc, model, "owner", telling->worker);
    put_limits(doc, model, view);
    put_endpoints(doc, model, telling->server, view);
    put_queue(doc, model, telling->server, view);
    put_waits(doc, model, view);
    put_counts(doc, model, view);
}

bool performance_put_models(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    struct sched_view *view = malloc(sizeof(*view));
    if (view == NULL) {
        return false;
    }
    uint64_t untold = 0;
    struct telling telling = {.doc = doc, .list = yyjson_mut_obj_add_arr(doc, root, "models"), .server = server};
    for (unsigned w = 0; w < server->worker_count; w++) {
        telling.worker = w;
        sched_board_each(&server->workers[w].board, view, put_model, &telling);
        untold += counter_load(&server->workers[w].board.untold);
    }
    yyjson_mut_obj_add_uint(doc, root, "models_untold", untold);
    free(view);
    return true;
}
