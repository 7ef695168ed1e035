/* /metrics in Prometheus' text exposition format 0.0.4. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/http.h"
#include "server/metrics_internal.h"
#include "server/server.h"

static const char *const method_names[METRICS_METHODS] = {"GET",    "HEAD",  "POST",    "PUT",
                                                          "DELETE", "PATCH", "OPTIONS", "OTHER"};
static const char *const error_names[METRICS_ERRORS] = {
    "bad_request", "too_large",        "client_timeout",   "client_closed",     "no_route",
    "overload",    "upstream_connect", "upstream_timeout", "upstream_protocol",
};
/* Seconds, with the nanoseconds the histogram is asked for: from a local answer to a long generation. */
static const struct {
    const char *le;
    nanos bound_ns;
} bounds[] = {
    {"0.0005", 500000},  {"0.001", 1000000},    {"0.0025", 2500000},   {"0.005", 5000000},  {"0.01", 10000000},
    {"0.025", 25000000}, {"0.05", 50000000},    {"0.1", 100000000},    {"0.25", 250000000}, {"0.5", 500000000},
    {"1", 1000000000},   {"2.5", 2500000000},   {"5", 5000000000},     {"10", 10000000000}, {"30", 30000000000},
    {"60", 60000000000}, {"120", 120000000000}, {"300", 300000000000},
};

static uint64_t load(const _Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static void put_type(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* A label's value: backslash, quote and newline are escaped. */
static void put_label(FILE *out, struct bytes value)
{
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        if (c == '\n') {
            fputs("\\n", out);
        } else {
            if (c == '"' || c == '\\') {
                fputc('\\', out);
            }
            fputc(c, out);
        }
    }
}

static struct bytes route_name(const struct server *server, unsigned route)
{
    return route < server->config->route_count ? server->config->routes[route].name : BYTES("none");
}

/* Adds up one route and method over the workers. False when nobody has counted any. */
static bool sum_series(const struct server *server, unsigned route, unsigned method, struct metrics_series *sum)
{
    bool any = false;
    memset(sum, 0, sizeof(*sum));
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct metrics *metrics = &server->workers[w].metrics;
        /* acquire pairs with the release in metrics_request */
        struct metrics_series *series =
            atomic_load_explicit(&metrics->series[route * METRICS_METHODS + method], memory_order_acquire);
        if (series == NULL) {
            continue;
        }
        any = true;
        histogram_merge(&sum->duration, &series->duration);
        for (unsigned i = 0; i < METRICS_STATUSES; i++) {
            counter_add(&sum->by_status[i], load(&series->by_status[i]));
        }
    }
    return any;
}

static void put_requests(FILE *out, struct bytes route, const char *method, const struct metrics_series *sum)
{
    for (unsigned i = 0; i < METRICS_STATUSES; i++) {
        uint64_t count = load(&sum->by_status[i]);
        if (count == 0) {
            continue;
        }
        fputs("http_requests_total{route=\"", out);
        put_label(out, route);
        unsigned status = metrics_statuses[i];
        fprintf(out, "\",method=\"%s\",status=\"%u%s\"} %llu\n", method, status, status < 100 ? "xx" : "",
                (unsigned long long)count);
    }
}

static void put_duration(FILE *out, struct bytes route, const char *method, const struct histogram *h)
{
    uint64_t count = load(&h->count);
    for (size_t i = 0; i <= sizeof(bounds) / sizeof(bounds[0]); i++) {
        bool is_last = i == sizeof(bounds) / sizeof(bounds[0]);
        uint64_t below = is_last ? count : histogram_count_below(h, bounds[i].bound_ns);
        fputs("http_request_duration_seconds_bucket{route=\"", out);
        put_label(out, route);
        fprintf(out, "\",method=\"%s\",le=\"%s\"} %llu\n", method, is_last ? "+Inf" : bounds[i].le,
                (unsigned long long)below);
    }
    fputs("http_request_duration_seconds_sum{route=\"", out);
    put_label(out, route);
    fprintf(out, "\",method=\"%s\"} %.9f\n", method, (double)load(&h->sum_ns) / 1e9);
    fputs("http_request_duration_seconds_count{route=\"", out);
    put_label(out, route);
    fprintf(out, "\",method=\"%s\"} %llu\n", method, (unsigned long long)count);
}

/* Every sample of a metric stands in one group: the series are walked once for each. */
static void put_all_series(FILE *out, const struct server *server, struct metrics_series *sum)
{
    put_type(out, "http_requests_total", "counter", "Requests answered, by route, method and status.");
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned route = 0; route <= server->config->route_count; route++) {
            for (unsigned method = 0; method < METRICS_METHODS; method++) {
                if (!sum_series(server, route, method, sum)) {
                    continue;
                }
                if (pass == 0) {
                    put_requests(out, route_name(server, route), method_names[method], sum);
                } else {
                    put_duration(out, route_name(server, route), method_names[method], &sum->duration);
                }
            }
        }
        if (pass == 0) {
            put_type(out, "http_request_duration_seconds", "histogram",
                     "From a request's head to the last byte of its answer being queued.");
        }
    }
}

static uint64_t sum_metric(const struct server *server, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned w = 0; w < server->worker_count; w++) {
        sum += load((const _Atomic uint64_t *)(const void *)((const char *)&server->workers[w] + offset));
    }
    return sum;
}

static void put_totals(FILE *out, const struct server *server)
{
    static const struct {
        const char *name;
        const char *type;
        const char *help;
        size_t offset;
    } totals[] = {
        {"active_connections", "gauge", "Client connections open now.",
         offsetof(struct worker, metrics.active_connections)},
        {"sluice_connections_total", "counter", "Client connections accepted.",
         offsetof(struct worker, metrics.connections)},
        {"sluice_active_requests", "gauge", "Requests that wait for something now.",
         offsetof(struct worker, metrics.active_requests)},
        {"sluice_upstream_connects_total", "counter", "Connections opened to endpoints.",
         offsetof(struct worker, proxy.connects)},
        {"sluice_upstream_connect_failures_total", "counter", "Connections to endpoints that failed.",
         offsetof(struct worker, proxy.connect_failures)},
        {"sluice_upstream_reuses_total", "counter", "Requests sent on a kept connection.",
         offsetof(struct worker, proxy.reuses)},
        {"sluice_upstream_retries_total", "counter", "Requests sent again because a kept connection was dead.",
         offsetof(struct worker, proxy.retries)},
        {"sluice_upstream_cancels_total", "counter", "Upstream requests cancelled because the client left.",
         offsetof(struct worker, proxy.cancels)},
    };
    for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
        put_type(out, totals[i].name, totals[i].type, totals[i].help);
        fprintf(out, "%s %llu\n", totals[i].name, (unsigned long long)sum_metric(server, totals[i].offset));
    }
    put_type(out, "errors_total", "counter", "Requests that failed, by type.");
    for (unsigned i = 0; i < METRICS_ERRORS; i++) {
        fprintf(out, "errors_total{type=\"%s\"} %llu\n", error_names[i],
                (unsigned long long)sum_metric(server,
                                               offsetof(struct worker, metrics.errors) + i * sizeof(_Atomic uint64_t)));
    }
}

static void put_ring(FILE *out, const struct server *server)
{
    static const struct {
        const char *name;
        const char *type;
        const char *help;
        size_t offset;
    } words[] = {
        {"sluice_ring_enters_total", "counter", "io_uring_enter calls.", offsetof(struct ring_counters, enters)},
        {"sluice_ring_submissions_total", "counter", "Submission entries.",
         offsetof(struct ring_counters, submissions)},
        {"sluice_ring_completions_total", "counter", "Completion entries.",
         offsetof(struct ring_counters, completions)},
        {"sluice_ring_buffer_shortages_total", "counter", "Receives that found no provided buffer.",
         offsetof(struct ring_counters, buffer_shortages)},
        {"sluice_ring_overflows_total", "counter", "Completion queue overflows.",
         offsetof(struct ring_counters, overflows)},
        {"sluice_ring_accepts_total", "counter", "Connections accepted.", offsetof(struct ring_counters, accepts)},
        {"sluice_ring_accept_failures_total", "counter", "Accepts that failed and paused.",
         offsetof(struct ring_counters, accept_failures)},
        {"sluice_ring_received_bytes_total", "counter", "Bytes received.",
         offsetof(struct ring_counters, received_bytes)},
        {"sluice_ring_sent_bytes_total", "counter", "Bytes sent.", offsetof(struct ring_counters, sent_bytes)},
        {"sluice_ring_wakes_total", "counter", "Wake-ups sent to other workers.",
         offsetof(struct ring_counters, wakes)},
        {"sluice_ring_fibers", "gauge", "Fibers in use now.", offsetof(struct ring_counters, fibers)},
        {"sluice_ring_streams", "gauge", "Sockets open now.", offsetof(struct ring_counters, streams)},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        put_type(out, words[i].name, words[i].type, words[i].help);
        for (unsigned w = 0; w < server->worker_count; w++) {
            const char *counters = (const char *)ring_counters(server->workers[w].ring);
            fprintf(out, "%s{worker=\"%u\"} %llu\n", words[i].name, w,
                    (unsigned long long)load((const _Atomic uint64_t *)(const void *)(counters + words[i].offset)));
        }
    }
}

static void put_endpoints(FILE *out, const struct server *server)
{
    put_type(out, "sluice_endpoint_in_flight", "gauge", "Requests an endpoint is working on now.");
    for (unsigned u = 0; u < server->config->upstream_count; u++) {
        const struct config_upstream *upstream = &server->config->upstreams[u];
        for (unsigned e = 0; e < upstream->endpoint_count; e++) {
            uint64_t sum = 0;
            for (unsigned w = 0; w < server->worker_count; w++) {
                sum +=
                    atomic_load_explicit(&server->workers[w].upstreams[u].endpoints[e].in_flight, memory_order_relaxed);
            }
            fputs("sluice_endpoint_in_flight{upstream=\"", out);
            put_label(out, upstream->name);
            fputs("\",endpoint=\"", out);
            put_label(out, upstream->endpoints[e].text);
            fprintf(out, "\"} %llu\n", (unsigned long long)sum);
        }
    }
}

struct bytes metrics_text(const struct server *server)
{
    char *text = NULL;
    size_t length = 0;
    FILE *out = open_memstream(&text, &length);
    struct metrics_series *sum = malloc(sizeof(*sum));
    if (out == NULL || sum == NULL) {
        if (out != NULL) {
            fclose(out);
        }
        free(sum);
        free(text);
        return BYTES_NONE;
    }
    put_type(out, "sluice_build_info", "gauge", "Always 1; the version is a label.");
    fprintf(out, "sluice_build_info{version=\"%s\"} 1\n", SLUICE_VERSION);
    put_all_series(out, server, sum);
    put_totals(out, server);
    put_endpoints(out, server);
    put_ring(out, server);
    free(sum);
    if (fclose(out) != 0) {
        free(text);
        return BYTES_NONE;
    }
    return (struct bytes){text, length};
}
