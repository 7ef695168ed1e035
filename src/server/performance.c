#include "server/performance.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/counter.h"
#include "server/cache_figures.h"
#include "server/machine_plan.h"
#include "server/metrics_internal.h"
#include "server/observer.h"
#include "server/performance_internal.h"
#include "server/server.h"

#define PATH "/api/performance"

/* ---- numbers ---- */

void performance_put(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, double value)
{
    if (isfinite(value)) {
        yyjson_mut_obj_add_real(doc, into, name, round(value * 1000) / 1000);
    } else {
        yyjson_mut_obj_add_null(doc, into, name);
    }
}

void performance_put_ms(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, nanos length)
{
    performance_put(doc, into, name, length == NANOS_NEVER ? (double)NAN : (double)length / (double)NANOS_PER_MS);
}

void performance_put_latency(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, const struct histogram *h)
{
    uint64_t count = counter_load(&h->count);
    yyjson_mut_val *latency = yyjson_mut_obj_add_obj(doc, into, name);
    double mean_ns = count == 0 ? (double)NAN : (double)counter_load(&h->sum_ns) / (double)count;
    yyjson_mut_obj_add_uint(doc, latency, "count", count);
    performance_put(doc, latency, "mean", mean_ns / (double)NANOS_PER_MS);
    performance_put_ms(doc, latency, "p50", count == 0 ? NANOS_NEVER : histogram_quantile(h, 0.50));
    performance_put_ms(doc, latency, "p95", count == 0 ? NANOS_NEVER : histogram_quantile(h, 0.95));
    performance_put_ms(doc, latency, "p99", count == 0 ? NANOS_NEVER : histogram_quantile(h, 0.99));
    performance_put_ms(doc, latency, "max", count == 0 ? NANOS_NEVER : histogram_max(h));
}

/* What the kernel does not say is null. */
static void put_known(yyjson_mut_doc *doc, yyjson_mut_val *into, const char *name, uint64_t value)
{
    if (value > 0) {
        yyjson_mut_obj_add_uint(doc, into, name, value);
    } else {
        yyjson_mut_obj_add_null(doc, into, name);
    }
}

/* Shares below 0 are not known. */
static double percent(double share)
{
    return share < 0 ? (double)NAN : share * 100;
}

/* ---- the process ---- */

static void put_process(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct observation *observation)
{
    const struct ring_usage *usage = &observation->usage;
    yyjson_mut_val *process = yyjson_mut_obj_add_obj(doc, root, "process");
    performance_put(doc, process, "cpu_percent", observation->recent.cpu_percent);
    performance_put(doc, process, "cpu_seconds", (double)usage->cpu_ns / (double)NANOS_PER_S);
    put_known(doc, process, "threads", usage->threads);
    put_known(doc, process, "descriptors", usage->descriptors);
    put_known(doc, process, "descriptors_max", usage->descriptors_max);
}

static void put_memory(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server,
                       const struct observation *observation)
{
    uint64_t pool_bytes = 0;
    uint64_t pool_used_bytes = 0;
    for (unsigned w = 0; w < server->worker_count; w++) {
        pool_bytes += counter_load(&server->workers[w].pulse.pool_bytes);
        pool_used_bytes += counter_load(&server->workers[w].pulse.pool_used_bytes);
    }
    const struct ring_usage *usage = &observation->usage;
    yyjson_mut_val *memory = yyjson_mut_obj_add_obj(doc, root, "memory");
    put_known(doc, memory, "resident_bytes", usage->resident_bytes);
    put_known(doc, memory, "used_bytes", usage->memory_used_bytes);
    put_known(doc, memory, "limit_bytes", usage->memory_max_bytes);
    performance_put(doc, memory, "stall_percent", percent(usage->memory_stall));
    yyjson_mut_obj_add_uint(doc, memory, "chunk_pool_bytes", pool_bytes);
    yyjson_mut_obj_add_uint(doc, memory, "chunk_pool_used_bytes", pool_used_bytes);
}

static void put_machine(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server,
                        const struct machine_limits *limits)
{
    const struct machine *machine = server->machine;
    yyjson_mut_val *told = yyjson_mut_obj_add_obj(doc, root, "machine");
    yyjson_mut_obj_add_strcpy(doc, told, "kernel", machine->kernel);
    yyjson_mut_obj_add_uint(doc, told, "cores", machine->topology.core_count);
    yyjson_mut_obj_add_uint(doc, told, "nodes", machine->topology.node_count);
    yyjson_mut_obj_add_uint(doc, told, "gpus", machine->gpu_count);
    yyjson_mut_obj_add_uint(doc, told, "cpus_allowed", limits->cpus_allowed);
    performance_put(doc, told, "cpu_quota", limits->cpu.cpus > 0 ? limits->cpu.cpus : (double)NAN);
    performance_put(doc, told, "throttled_seconds",
                    limits->cpu.is_counted ? (double)limits->cpu.throttled_ns / (double)NANOS_PER_S : (double)NAN);
    put_known(doc, told, "memory_bytes", limits->memory_bytes);
    yyjson_mut_obj_add_str(doc, told, "workers_reason", server->plan->figures[MACHINE_WORKERS].reason);
}

static void put_pressure(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct observation *observation)
{
    const struct pressure *state = &observation->pressure;
    uint32_t level = state->level[state->worst];
    yyjson_mut_val *pressure = yyjson_mut_obj_add_obj(doc, root, "pressure");
    yyjson_mut_obj_add_uint(doc, pressure, "level", level);
    if (level > 0) {
        yyjson_mut_obj_add_str(doc, pressure, "worst", pressure_signal_name(state->worst));
    } else {
        yyjson_mut_obj_add_null(doc, pressure, "worst");
    }
    yyjson_mut_val *signals = yyjson_mut_obj_add_obj(doc, pressure, "signals");
    for (unsigned s = 0; s < PRESSURE_SIGNALS; s++) {
        double value = observation->reading.value[s];
        yyjson_mut_val *signal = yyjson_mut_obj_add_obj(doc, signals, pressure_signal_name((enum pressure_signal)s));
        performance_put(doc, signal, "value", value < 0 ? (double)NAN : value);
        performance_put(doc, signal, "smoothed", state->smoothed[s]);
        yyjson_mut_obj_add_uint(doc, signal, "level", state->level[s]);
    }
}

static void put_workers(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server,
                        const struct observation *observation)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "workers");
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct worker *worker = &server->workers[w];
        const struct worker_signals *signals = &observation->workers[w];
        yyjson_mut_val *told = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_uint(doc, told, "worker", w);
        if (worker->cpu >= 0) {
            yyjson_mut_obj_add_int(doc, told, "cpu", worker->cpu);
        } else {
            yyjson_mut_obj_add_null(doc, told, "cpu");
        }
        performance_put(doc, told, "cpu_percent", percent(signals->cpu_share));
        performance_put(doc, told, "run_queue_percent", percent(signals->wait_share));
        yyjson_mut_obj_add_uint(doc, told, "turns", counter_load(&ring_counters(worker->ring)->turns));
        performance_put(doc, told, "turns_per_second", signals->turns_per_second);
        performance_put(doc, told, "loop_lag_ms", signals->late_seconds * 1000);
        performance_put(doc, told, "loop_lag_max_ms", signals->late_seconds_max * 1000);
        yyjson_mut_obj_add_uint(doc, told, "connections", counter_load(&worker->metrics.active_connections));
        yyjson_mut_obj_add_uint(doc, told, "active_requests", counter_load(&worker->metrics.active_requests));
    }
}

/* ---- requests ---- */

static void sum_errors(const struct server *server, uint64_t errors[METRICS_ERRORS])
{
    memset(errors, 0, METRICS_ERRORS * sizeof(*errors));
    for (unsigned w = 0; w < server->worker_count; w++) {
        for (unsigned i = 0; i < METRICS_ERRORS; i++) {
            errors[i] += counter_load(&server->workers[w].metrics.errors[i]);
        }
    }
}

/* Those that wait for the end of a pause that the backend wants of their credentials: in no queue as yet. */
static uint64_t sum_paused(const struct server *server)
{
    uint64_t sum = 0;
    for (unsigned w = 0; w < server->worker_count; w++) {
        sum += counter_load(&server->workers[w].gates.paused_count);
    }
    return sum;
}

static void put_requests(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server,
                         const struct performance_sample *recent)
{
    struct metrics_all all;
    uint64_t errors[METRICS_ERRORS];
    metrics_sum_all(server, &all);
    sum_errors(server, errors);
    yyjson_mut_val *requests = yyjson_mut_obj_add_obj(doc, root, "requests");
    yyjson_mut_obj_add_uint(doc, requests, "total", counter_load(&all.duration.count));
    yyjson_mut_obj_add_uint(doc, requests, "failed", all.failed);
    performance_put(doc, requests, "per_second", recent->requests_per_second);
    performance_put(doc, requests, "error_rate", recent->error_rate);
    performance_put(doc, requests, "p95_ms", recent->p95_seconds * 1000);
    performance_put_latency(doc, requests, "latency_ms", &all.duration);
    yyjson_mut_obj_add_uint(doc, requests, "client_paused", sum_paused(server));
    yyjson_mut_val *types = yyjson_mut_obj_add_obj(doc, requests, "errors");
    for (unsigned i = 0; i < METRICS_ERRORS; i++) {
        yyjson_mut_obj_add_uint(doc, types, metrics_error_names[i], errors[i]);
    }
}

/* All methods of a route together. False when nobody has asked for it. */
static bool sum_route(const struct server *server, unsigned index, struct metrics_series *room,
                      struct metrics_series *ret_sum)
{
    bool any = false;
    memset(ret_sum, 0, sizeof(*ret_sum));
    for (unsigned method = 0; method < METRICS_METHODS; method++) {
        if (!metrics_sum_series(server, index, method, room)) {
            continue;
        }
        any = true;
        histogram_merge(&ret_sum->duration, &room->duration);
        for (unsigned i = 0; i < METRICS_STATUSES; i++) {
            counter_add(&ret_sum->by_status[i], counter_load(&room->by_status[i]));
        }
    }
    return any;
}

static void put_statuses(yyjson_mut_doc *doc, yyjson_mut_val *route, const struct metrics_series *sum)
{
    yyjson_mut_val *statuses = yyjson_mut_obj_add_obj(doc, route, "statuses");
    for (unsigned i = 0; i < METRICS_STATUSES; i++) {
        uint64_t count = counter_load(&sum->by_status[i]);
        if (count > 0) {
            char name[8];
            unsigned status = metrics_statuses[i];
            snprintf(name, sizeof(name), "%u%s", status, status < 100 ? "xx" : "");
            yyjson_mut_obj_add(statuses, yyjson_mut_strcpy(doc, name), yyjson_mut_uint(doc, count));
        }
    }
}

static void put_routes(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    static const char *const kinds[] = {
        [CONFIG_ROUTE_RESPOND] = "respond", [CONFIG_ROUTE_HTTP] = "http", [CONFIG_ROUTE_INFERENCE] = "inference"};
    const struct config *config = server->config;
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "routes");
    struct metrics_series room;
    struct metrics_series sum;
    for (unsigned r = 0; r <= config->route_count; r++) {
        bool is_any = sum_route(server, r, &room, &sum);
        if (r == config->route_count && !is_any) {
            return; /* nobody has asked for what there is no route for */
        }
        yyjson_mut_val *route = yyjson_mut_arr_add_obj(doc, list);
        if (r < config->route_count) {
            const struct config_route *own = &config->routes[r];
            yyjson_mut_obj_add_strncpy(doc, route, "route", own->name.ptr, own->name.len);
            yyjson_mut_obj_add_str(doc, route, "kind", kinds[own->kind]);
        } else {
            yyjson_mut_obj_add_str(doc, route, "route", "none");
            yyjson_mut_obj_add_null(doc, route, "kind");
        }
        performance_put_latency(doc, route, "latency_ms", &sum.duration);
        put_statuses(doc, route, &sum);
    }
}

static void put_cache(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server,
                      const struct performance_sample *recent)
{
    struct cache_figures figures;
    cache_figures_read(server, server->config->route_count, &figures);
    uint64_t asked = figures.hits + figures.joins + figures.misses;
    yyjson_mut_val *cache = yyjson_mut_obj_add_obj(doc, root, "cache");
    yyjson_mut_obj_add_bool(doc, cache, "enabled", server->cache != NULL);
    performance_put(doc, cache, "hit_rate", asked == 0 ? (double)NAN : cache_figures_hit_rate(&figures));
    performance_put(doc, cache, "recent_hit_rate", recent->hit_rate);
    yyjson_mut_obj_add_uint(doc, cache, "hits", figures.hits);
    yyjson_mut_obj_add_uint(doc, cache, "joins", figures.joins);
    yyjson_mut_obj_add_uint(doc, cache, "misses", figures.misses);
    yyjson_mut_obj_add_uint(doc, cache, "bypasses", figures.bypasses);
}

/* ---- upstreams ---- */

static void put_connections(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    uint64_t connects = 0;
    uint64_t failures = 0;
    uint64_t reuses = 0;
    uint64_t retries = 0;
    uint64_t cancels = 0;
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct proxy *proxy = &server->workers[w].proxy;
        connects += counter_load(&proxy->connects);
        failures += counter_load(&proxy->connect_failures);
        reuses += counter_load(&proxy->reuses);
        retries += counter_load(&proxy->retries);
        cancels += counter_load(&proxy->cancels);
    }
    yyjson_mut_val *told = yyjson_mut_obj_add_obj(doc, root, "upstream_connections");
    yyjson_mut_obj_add_uint(doc, told, "connects", connects);
    yyjson_mut_obj_add_uint(doc, told, "connect_failures", failures);
    yyjson_mut_obj_add_uint(doc, told, "reuses", reuses);
    yyjson_mut_obj_add_uint(doc, told, "retries", retries);
    yyjson_mut_obj_add_uint(doc, told, "cancels", cancels);
}

static void put_upstreams(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "upstreams");
    for (unsigned u = 0; u < server->config->upstream_count; u++) {
        const struct config_upstream *config = &server->config->upstreams[u];
        yyjson_mut_val *upstream = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strncpy(doc, upstream, "upstream", config->name.ptr, config->name.len);
        yyjson_mut_val *endpoints = yyjson_mut_obj_add_arr(doc, upstream, "endpoints");
        for (unsigned e = 0; e < config->endpoint_count; e++) {
            uint64_t sum = 0;
            for (unsigned w = 0; w < server->worker_count; w++) {
                sum +=
                    atomic_load_explicit(&server->workers[w].upstreams[u].endpoints[e].in_flight, memory_order_relaxed);
            }
            struct bytes text = config->endpoints[e].text;
            yyjson_mut_val *endpoint = yyjson_mut_arr_add_obj(doc, endpoints);
            yyjson_mut_obj_add_strncpy(doc, endpoint, "endpoint", text.ptr, text.len);
            yyjson_mut_obj_add_uint(doc, endpoint, "in_flight", sum);
        }
    }
}

/* ---- the whole ---- */

enum history { HISTORY_TOO, HISTORY_NOT, HISTORY_ONLY };

static bool put_all(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server,
                    const struct observation *observation)
{
    const struct performance_sample *recent = &observation->recent;
    yyjson_mut_obj_add_str(doc, root, "version", SLUICE_VERSION);
    performance_put(doc, root, "uptime_seconds",
                    (double)(observation->usage.at_ns - observation->started_ns) / (double)NANOS_PER_S);
    yyjson_mut_obj_add_int(doc, root, "unix_ms", observation->usage.unix_ms);
    put_process(doc, root, observation);
    put_memory(doc, root, server, observation);
    put_machine(doc, root, server, &observation->limits);
    put_pressure(doc, root, observation);
    put_workers(doc, root, server, observation);
    put_requests(doc, root, server, recent);
    put_routes(doc, root, server);
    put_cache(doc, root, server, recent);
    put_connections(doc, root, server);
    put_upstreams(doc, root, server);
    return performance_put_models(doc, root, server) && performance_put_batching(doc, root, server);
}

/* *Gives* the text; NULL when memory is out. */
static char *performance_text(const struct server *server, enum history history, size_t *ret_bytes)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc); /* of no document: NULL, as all that follows */
    yyjson_mut_doc_set_root(doc, root);
    struct observation *observation = observer_read(server->observer);
    struct performance_history *past = history == HISTORY_NOT ? NULL : observer_history(server->observer);
    char *text = NULL;
    bool is_made =
        doc != NULL && observation != NULL && (history == HISTORY_ONLY || put_all(doc, root, server, observation));
    if (is_made && history != HISTORY_NOT) {
        performance_put_history(doc, root, past);
    }
    if (is_made) {
        text = yyjson_mut_write(doc, YYJSON_WRITE_NEWLINE_AT_END, ret_bytes);
    }
    free(observation);
    free(past);
    yyjson_mut_doc_free(doc);
    return text;
}

bool performance_is_path(struct bytes path)
{
    return bytes_equal(path, BYTES(PATH));
}

enum result performance_begin(struct conn *conn, const struct own_api_request *request, uint16_t *ret_status)
{
    const struct http_head *head = &request->parser->head;
    struct bytes query = request->target->query;
    if (head->method != HTTP_GET && head->method != HTTP_HEAD) {
        struct api_error error = {405, PATH " takes GET", "method_not_allowed"};
        return own_api_refuse(conn, request, &error, BYTES("Allow: GET, HEAD\r\n"), ret_status);
    }
    enum history history = HISTORY_TOO;
    if (bytes_equal(query, BYTES("history=0"))) {
        history = HISTORY_NOT;
    } else if (bytes_equal(query, BYTES("history=only"))) {
        history = HISTORY_ONLY;
    } else if (query.len > 0) {
        struct api_error error = {400, "there are history=0, which leaves it out, and history=only", "bad_query"};
        return own_api_refuse(conn, request, &error, BYTES_NONE, ret_status);
    }
    size_t bytes = 0;
    char *text = performance_text(conn->worker->server, history, &bytes);
    if (text == NULL) {
        return RESULT_NO_MEMORY;
    }
    enum result result = own_api_answer(conn, request, (struct bytes){text, bytes}, ret_status);
    free(text);
    return result;
}
