/* /metrics in Prometheus' text exposition format 0.0.4. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "http/http.h"
#include "server/cache_figures.h"
#include "server/metrics_internal.h"
#include "server/server.h"
#include "store/store.h"

static const char *const method_names[METRICS_METHODS] = {"GET",    "HEAD",  "POST",    "PUT",
                                                          "DELETE", "PATCH", "OPTIONS", "OTHER"};
static struct bytes route_name(const struct server *server, unsigned route)
{
    return route < server->config->route_count ? server->config->routes[route].name : BYTES("none");
}

static void put_requests(FILE *out, struct bytes route, const char *method, const struct metrics_series *sum)
{
    for (unsigned i = 0; i < METRICS_STATUSES; i++) {
        uint64_t count = counter_load(&sum->by_status[i]);
        if (count == 0) {
            continue;
        }
        fputs("http_requests_total{route=\"", out);
        metrics_put_label(out, route);
        unsigned status = metrics_statuses[i];
        fprintf(out, "\",method=\"%s\",status=\"%u%s\"} %llu\n", method, status, status < 100 ? "xx" : "",
                (unsigned long long)count);
    }
}

static void put_duration(FILE *out, struct bytes route, const char *method, const struct histogram *h)
{
    uint64_t count = counter_load(&h->count);
    for (size_t i = 0; i <= METRICS_BOUNDS; i++) {
        bool is_last = i == METRICS_BOUNDS;
        uint64_t below = is_last ? count : histogram_count_below(h, metrics_bounds[i].bound_ns);
        fputs("http_request_duration_seconds_bucket{route=\"", out);
        metrics_put_label(out, route);
        fprintf(out, "\",method=\"%s\",le=\"%s\"} %llu\n", method, is_last ? "+Inf" : metrics_bounds[i].le,
                (unsigned long long)below);
    }
    fputs("http_request_duration_seconds_sum{route=\"", out);
    metrics_put_label(out, route);
    fprintf(out, "\",method=\"%s\"} %.9f\n", method, (double)counter_load(&h->sum_ns) / 1e9);
    fputs("http_request_duration_seconds_count{route=\"", out);
    metrics_put_label(out, route);
    fprintf(out, "\",method=\"%s\"} %llu\n", method, (unsigned long long)count);
}

/* Every sample of a metric stands in one group: the series are walked once for each. */
static void put_all_series(FILE *out, const struct server *server, struct metrics_series *sum)
{
    metrics_put_type(out, "http_requests_total", "counter", "Requests answered, by route, method and status.");
    for (unsigned pass = 0; pass < 2; pass++) {
        for (unsigned route = 0; route <= server->config->route_count; route++) {
            for (unsigned method = 0; method < METRICS_METHODS; method++) {
                if (!metrics_sum_series(server, route, method, sum)) {
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
            metrics_put_type(out, "http_request_duration_seconds", "histogram",
                             "From a request's head to the last byte of its answer being queued.");
        }
    }
}

/* So that a query can tell routes whose answers take as long as a model writes from those that are to be quick. */
static void put_routes(FILE *out, const struct server *server)
{
    static const char *const kinds[] = {
        [CONFIG_ROUTE_RESPOND] = "respond", [CONFIG_ROUTE_HTTP] = "http", [CONFIG_ROUTE_INFERENCE] = "inference"};
    metrics_put_type(out, "sluice_route_info", "gauge", "Always 1; which kind each route is of.");
    for (unsigned route = 0; route < server->config->route_count; route++) {
        fputs("sluice_route_info{route=\"", out);
        metrics_put_label(out, route_name(server, route));
        fprintf(out, "\",kind=\"%s\"} 1\n", kinds[server->config->routes[route].kind]);
    }
}

/* A word of a struct of counters, and what it is called. */
struct word_metric {
    const char *name;
    const char *type;
    const char *help;
    size_t offset;
};

static uint64_t load_at(const void *counters, size_t offset)
{
    return counter_load((const _Atomic uint64_t *)(const void *)((const char *)counters + offset));
}

static uint64_t sum_metric(const struct server *server, size_t offset)
{
    uint64_t sum = 0;
    for (unsigned w = 0; w < server->worker_count; w++) {
        sum += load_at(&server->workers[w], offset);
    }
    return sum;
}

static void put_totals(FILE *out, const struct server *server)
{
    static const struct word_metric totals[] = {
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
        {"sluice_sched_grants_outstanding", "gauge", "Grants that are not released: none when no request is under way.",
         offsetof(struct worker, gates.outstanding)},
        {"sluice_sched_client_paused", "gauge",
         "Requests that wait because their credentials met a 429 with Retry-After.",
         offsetof(struct worker, gates.paused_count)},
        {"sluice_upstream_cancels_total", "counter", "Upstream requests cancelled because the client left.",
         offsetof(struct worker, proxy.cancels)},
    };
    for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
        metrics_put_type(out, totals[i].name, totals[i].type, totals[i].help);
        fprintf(out, "%s %llu\n", totals[i].name, (unsigned long long)sum_metric(server, totals[i].offset));
    }
    metrics_put_type(out, "errors_total", "counter", "Requests that failed, by type.");
    for (unsigned i = 0; i < METRICS_ERRORS; i++) {
        fprintf(out, "errors_total{type=\"%s\"} %llu\n", metrics_error_names[i],
                (unsigned long long)sum_metric(server,
                                               offsetof(struct worker, metrics.errors) + i * sizeof(_Atomic uint64_t)));
    }
}

static void put_ring(FILE *out, const struct server *server)
{
    static const struct word_metric words[] = {
        {"sluice_ring_turns_total", "counter", "Turns of the loop.", offsetof(struct ring_counters, turns)},
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
        {"sluice_ring_messages_total", "counter", "Messages sent to workers.",
         offsetof(struct ring_counters, messages)},
        {"sluice_ring_wakes_total", "counter", "Wake-ups sent to other workers.",
         offsetof(struct ring_counters, wakes)},
        {"sluice_ring_fibers", "gauge", "Fibers in use now.", offsetof(struct ring_counters, fibers)},
        {"sluice_ring_streams", "gauge", "Sockets open now.", offsetof(struct ring_counters, streams)},
    };
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        metrics_put_type(out, words[i].name, words[i].type, words[i].help);
        for (unsigned w = 0; w < server->worker_count; w++) {
            fprintf(out, "%s{worker=\"%u\"} %llu\n", words[i].name, w,
                    (unsigned long long)load_at(ring_counters(server->workers[w].ring), words[i].offset));
        }
    }
}

static void put_endpoints(FILE *out, const struct server *server)
{
    metrics_put_type(out, "sluice_endpoint_in_flight", "gauge", "Requests an endpoint is working on now.");
    for (unsigned u = 0; u < server->config->upstream_count; u++) {
        const struct config_upstream *upstream = &server->config->upstreams[u];
        for (unsigned e = 0; e < upstream->endpoint_count; e++) {
            uint64_t sum = 0;
            for (unsigned w = 0; w < server->worker_count; w++) {
                sum +=
                    atomic_load_explicit(&server->workers[w].upstreams[u].endpoints[e].in_flight, memory_order_relaxed);
            }
            fputs("sluice_endpoint_in_flight{upstream=\"", out);
            metrics_put_label(out, upstream->name);
            fputs("\",endpoint=\"", out);
            metrics_put_label(out, upstream->endpoints[e].text);
            fprintf(out, "\"} %llu\n", (unsigned long long)sum);
        }
    }
}

/* ---- the cache ---- */

static void put_route_sample(FILE *out, const struct config_route *route, const char *name, const char *label,
                             const char *value)
{
    fprintf(out, "%s{route=\"", name);
    metrics_put_label(out, route->name);
    if (label != NULL) {
        fprintf(out, "\",%s=\"%s", label, value);
    }
    fputs("\"} ", out);
}

static void put_results(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    const struct {
        const char *result;
        uint64_t count;
    } results[] = {
        {"hit", figures->fresh_hits}, {"stale", figures->stale_hits}, {"join", figures->joins},
        {"miss", figures->misses},    {"bypass", figures->bypasses},
    };
    for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++) {
        put_route_sample(out, route, "sluice_cache_requests_total", "result", results[i].result);
        fprintf(out, "%llu\n", (unsigned long long)results[i].count);
    }
}

static void put_reasons(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    for (unsigned i = 0; i < FILLING_REASONS_MAX; i++) {
        const char *reason = cache_figures_reason(route, i);
        if (reason != NULL && figures->not_stored[i] > 0) {
            put_route_sample(out, route, "sluice_cache_not_stored_total", "reason", reason);
            fprintf(out, "%llu\n", (unsigned long long)figures->not_stored[i]);
        }
    }
}

static void put_saved(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    put_route_sample(out, route, "sluice_cache_saved_seconds_total", NULL, NULL);
    fprintf(out, "%.9f\n", (double)figures->saved_ns / 1e9);
}

static void put_saved_tokens(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    put_route_sample(out, route, "sluice_cache_saved_tokens_total", NULL, NULL);
    fprintf(out, "%llu\n", (unsigned long long)figures->saved_tokens);
}

static void put_stored(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    put_route_sample(out, route, "sluice_cache_stored_total", NULL, NULL);
    fprintf(out, "%llu\n", (unsigned long long)figures->stored);
}

static void put_updated(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    put_route_sample(out, route, "sluice_cache_updated_total", NULL, NULL);
    fprintf(out, "%llu\n", (unsigned long long)figures->updated);
}

static void put_from_tier(FILE *out, const struct config_route *route, const struct cache_figures *figures)
{
    put_route_sample(out, route, "sluice_cache_tier_answers_total", NULL, NULL);
    fprintf(out, "%llu\n", (unsigned long long)figures->tier_hits);
}

static void put_cache_routes(FILE *out, const struct server *server)
{
    static const struct {
        const char *name;
        const char *help;
        void (*put)(FILE *out, const struct config_route *route, const struct cache_figures *figures);
    } metrics[] = {
        {"sluice_cache_requests_total", "Requests on routes with a cache, by what became of them.", put_results},
        {"sluice_cache_stored_total", "Answers stored.", put_stored},
        {"sluice_cache_updated_total", "Stored answers that were confirmed, and got a new head.", put_updated},
        {"sluice_cache_not_stored_total", "Answers not stored, by reason.", put_reasons},
        {"sluice_cache_saved_seconds_total", "Seconds that the hits' answers had taken to make.", put_saved},
        {"sluice_cache_saved_tokens_total", "Tokens that the hits' answers had cost.", put_saved_tokens},
        {"sluice_cache_tier_answers_total", "Answers brought back from the second tier.", put_from_tier},
    };
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        metrics_put_type(out, metrics[i].name, "counter", metrics[i].help);
        for (unsigned r = 0; r < server->config->route_count; r++) {
            const struct config_route *route = &server->config->routes[r];
            if (route->cache.enabled) {
                struct cache_figures figures;
                cache_figures_read(server, r, &figures);
                metrics[i].put(out, route, &figures);
            }
        }
    }
}

static void put_prefetch(FILE *out, const struct server *server)
{
    static const struct {
        const char *name;
        const char *type;
        const char *help;
        const char *result; /* a label; NULL: none. Those of one name stand together. */
        size_t offset;
    } metrics[] = {
        {"sluice_cache_prefetches_total", "counter", "Answers fetched before they were asked for.", NULL,
         offsetof(struct prefetching_figures, begun)},
        {"sluice_cache_prefetch_results_total", "counter", "What became of them.", "useful",
         offsetof(struct prefetching_figures, useful)},
        {"sluice_cache_prefetch_results_total", NULL, NULL, "wasted", offsetof(struct prefetching_figures, wasted)},
        {"sluice_cache_prefetch_held_back_total", "counter", "Guesses not followed for want of idle capacity.", NULL,
         offsetof(struct prefetching_figures, held_back)},
        {"sluice_cache_prefetch_stopped", "gauge", "Workers that fetch nothing ahead: too much of it was in vain.",
         NULL, offsetof(struct prefetching_figures, is_stopped)},
    };
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        bool is_headed = false;
        for (unsigned r = 0; r < server->config->route_count; r++) {
            const struct config_route *route = &server->config->routes[r];
            if (!route->cache.prefetch.enabled) {
                continue;
            }
            if (!is_headed && metrics[i].type != NULL) {
                metrics_put_type(out, metrics[i].name, metrics[i].type, metrics[i].help);
            }
            is_headed = true;
            struct prefetching_figures figures;
            cache_figures_read_prefetch(server, r, &figures);
            uint64_t value;
            memcpy(&value, (const char *)&figures + metrics[i].offset, sizeof(value));
            put_route_sample(out, route, metrics[i].name, metrics[i].result == NULL ? NULL : "result",
                             metrics[i].result);
            fprintf(out, "%llu\n", (unsigned long long)value);
        }
    }
}

static void put_cache_memory(FILE *out, const struct server *server)
{
    struct cache_figures_memory figures;
    cache_figures_read_memory(server, &figures);
    const struct {
        const char *name;
        const char *type;
        const char *help;
        uint64_t value;
    } metrics[] = {
        {"sluice_cache_entries", "gauge", "Answers, and sets of fields they vary by, stored now.", figures.entries},
        {"sluice_cache_bytes", "gauge", "Bytes charged to the budget now.", figures.charged_bytes},
        {"sluice_cache_budget_bytes", "gauge", "Bytes that may be charged.", figures.budget_bytes},
        {"sluice_cache_mapped_bytes", "gauge", "Bytes mapped for what is stored.", figures.mapped_bytes},
        {"sluice_cache_retired_bytes", "gauge", "Bytes unlinked that are still being read.", figures.retired_bytes},
        {"sluice_cache_no_room_total", "counter", "Stores given up because nothing could go.", figures.no_room},
        {"sluice_cache_refused_total", "counter", "Answers not worth what would have had to go.", figures.refused},
    };
    for (size_t i = 0; i < sizeof(metrics) / sizeof(metrics[0]); i++) {
        metrics_put_type(out, metrics[i].name, metrics[i].type, metrics[i].help);
        fprintf(out, "%s %llu\n", metrics[i].name, (unsigned long long)metrics[i].value);
    }
    metrics_put_type(out, "sluice_cache_removals_total", "counter", "Answers that went, by cause.");
    for (unsigned i = 0; i < SHARD_CAUSES; i++) {
        fprintf(out, "sluice_cache_removals_total{cause=\"%s\"} %llu\n", cache_figures_cause((enum shard_cause)i),
                (unsigned long long)figures.removed[i]);
    }
}

static void put_cache_tier(FILE *out, const struct server *server)
{
    static const struct word_metric words[] = {
        {"sluice_cache_tier_hits_total", "counter", "Reads that found a record.",
         offsetof(struct store_counters, hits)},
        {"sluice_cache_tier_misses_total", "counter", "Reads that found none.",
         offsetof(struct store_counters, misses)},
        {"sluice_cache_tier_reads_failed_total", "counter", "Reads that the database failed at.",
         offsetof(struct store_counters, gets_failed)},
        {"sluice_cache_tier_reads_busy_total", "counter", "Reads not begun: too many waited.",
         offsetof(struct store_counters, gets_busy)},
        {"sluice_cache_tier_reads_unavailable_total", "counter", "Reads not begun: no database.",
         offsetof(struct store_counters, gets_unavailable)},
        {"sluice_cache_tier_writes_total", "counter", "Records written.", offsetof(struct store_counters, puts)},
        {"sluice_cache_tier_writes_dropped_total", "counter", "Records dropped: queue full, too large, no database.",
         offsetof(struct store_counters, puts_dropped)},
        {"sluice_cache_tier_writes_outdated_total", "counter", "Records not written: purged since they were made.",
         offsetof(struct store_counters, puts_outdated)},
        {"sluice_cache_tier_expired_total", "counter", "Records that expired.",
         offsetof(struct store_counters, expired)},
        {"sluice_cache_tier_evicted_total", "counter", "Records that went for room.",
         offsetof(struct store_counters, evicted)},
        {"sluice_cache_tier_purged_total", "counter", "Records purged.", offsetof(struct store_counters, purged)},
        {"sluice_cache_tier_opens_total", "counter", "Times the database was opened.",
         offsetof(struct store_counters, opens)},
        {"sluice_cache_tier_moved_aside_total", "counter", "Corrupt files moved aside.",
         offsetof(struct store_counters, moved_aside)},
        {"sluice_cache_tier_records", "gauge", "Records now.", offsetof(struct store_counters, records)},
        {"sluice_cache_tier_bytes", "gauge", "Bytes charged for them.", offsetof(struct store_counters, bytes)},
        {"sluice_cache_tier_queued_writes", "gauge", "Writes that wait.",
         offsetof(struct store_counters, queued_writes)},
        {"sluice_cache_tier_queued_bytes", "gauge", "Bytes that wait to be written.",
         offsetof(struct store_counters, queued_bytes)},
        {"sluice_cache_tier_queued_reads", "gauge", "Reads that wait.", offsetof(struct store_counters, queued_reads)},
    };
    const struct store_counters *counters = store_counters(server->store);
    uint32_t state = atomic_load_explicit(&counters->state, memory_order_relaxed);
    metrics_put_type(out, "sluice_cache_tier_state", "gauge", "1 for the state that the database is in.");
    for (unsigned i = 0; i < STORE_STATES; i++) {
        fprintf(out, "sluice_cache_tier_state{state=\"%s\"} %d\n", store_state_name((enum store_state)i), i == state);
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        metrics_put_type(out, words[i].name, words[i].type, words[i].help);
        fprintf(out, "%s %llu\n", words[i].name, (unsigned long long)load_at(counters, words[i].offset));
    }
    metrics_put_type(out, "sluice_cache_tier_budget_bytes", "gauge", "Bytes that may be charged for them.");
    fprintf(out, "sluice_cache_tier_budget_bytes %llu\n", (unsigned long long)server->config->cache.database_bytes_max);
    metrics_put_type(out, "sluice_cache_tier_errors_total", "counter", "Failed calls of the database, by fault.");
    for (unsigned i = STORE_FAULT_NONE + 1; i < STORE_FAULTS; i++) {
        fprintf(out, "sluice_cache_tier_errors_total{fault=\"%s\"} %llu\n", store_fault_name((enum store_fault)i),
                (unsigned long long)counter_load(&counters->errors[i]));
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
    metrics_put_type(out, "sluice_build_info", "gauge", "Always 1; the version is a label.");
    fprintf(out, "sluice_build_info{version=\"%s\"} 1\n", SLUICE_VERSION);
    put_routes(out, server);
    put_all_series(out, server, sum);
    put_totals(out, server);
    put_endpoints(out, server);
    put_ring(out, server);
    metrics_put_process(out, server);
    metrics_put_sched(out, server);
    metrics_put_batching(out, server);
    if (server->cache != NULL) {
        put_cache_routes(out, server);
        put_prefetch(out, server);
        put_cache_memory(out, server);
    }
    if (server->store != NULL) {
        put_cache_tier(out, server);
    }
    free(sum);
    if (fclose(out) != 0) {
        free(text);
        return BYTES_NONE;
    }
    return (struct bytes){text, length};
}
