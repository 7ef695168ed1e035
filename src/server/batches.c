#include "server/batches.h"

#include <stdlib.h>
#include <string.h>

#include "server/exchange_cache.h"
#include "server/server.h"

static struct batch_options options_of(const struct config_batching *config)
{
    return (struct batch_options){
        .items_max = config->items_max,
        .tokens_max = config->tokens_max > 0 ? config->tokens_max : INT64_MAX,
        .bytes_max = config->body_bytes_max,
        .waiting_max = config->waiting_max,
        .wait_max_ns = config->wait_max_ms * NANOS_PER_MS,
        .latency_max_ns = config->latency_max_ms * NANOS_PER_MS,
    };
}

static struct batching_array *arrays_of(const struct config_batching *config)
{
    struct batching_array *arrays = calloc(config->array_count + 1, sizeof(*arrays));
    for (unsigned i = 0; i < config->array_count && arrays != NULL; i++) {
        const struct config_array *from = &config->arrays[i];
        arrays[i] = (struct batching_array){
            .path = from->path,
            .shape = {.items = from->items, .results = from->results, .index = from->index, .takes_any = true},
        };
    }
    return arrays;
}

struct batching_route *batches_create(const struct config *config)
{
    struct batching_route *routes = calloc(config->route_count + 1, sizeof(*routes));
    for (unsigned i = 0; i < config->route_count && routes != NULL; i++) {
        const struct config_route *from = &config->routes[i];
        struct batching_array *arrays = from->batching.enabled ? arrays_of(&from->batching) : NULL;
        if (from->batching.enabled && arrays == NULL) {
            batches_destroy(routes, config);
            return NULL;
        }
        routes[i] = (struct batching_route){
            .name = from->name,
            .index = i,
            .upstream = from->upstream,
            .options = options_of(&from->batching),
            .array_count = from->batching.array_count,
            .arrays = arrays,
        };
    }
    return routes;
}

void batches_destroy(struct batching_route *routes, const struct config *config)
{
    for (unsigned i = 0; routes != NULL && i < config->route_count; i++) {
        free((void *)(uintptr_t)routes[i].arrays);
    }
    free(routes);
}

enum result batches_init(struct worker *worker)
{
    return batching_init(&worker->batching, &(struct batching_options){
                                                .ring = worker->ring,
                                                .index = worker->index,
                                                .count = worker->server->worker_count,
                                                .peers = worker->server->batchings,
                                                .proxy = &worker->proxy,
                                                .upstreams = worker->upstreams,
                                                .gates = &worker->gates,
                                                .route_count = worker->config->route_count,
                                            });
}

bool batches_read(const struct server *server, unsigned route, struct batches_figures *ret_figures)
{
    struct batches_figures *figures = ret_figures;
    if (!server->config->routes[route].batching.enabled) {
        return false;
    }
    memset(figures, 0, sizeof(*figures));
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct batching_counters *own = &server->workers[w].batching.counters[route];
        for (unsigned i = 0; i < BATCHING_COUNTS; i++) {
            figures->counts[i] += counter_load(&own->counts[i]);
        }
        for (unsigned i = 0; i < BATCHING_SIZES; i++) {
            figures->sizes[i] += counter_load(&own->sizes[i]);
            figures->calls += counter_load(&own->sizes[i]);
        }
        for (unsigned i = 0; i < BATCHING_WHYS; i++) {
            figures->flushed[i] += counter_load(&own->flushed[i]);
        }
        double target = (double)counter_load(&own->target_milli) / 1000;
        figures->target_items = target > figures->target_items ? target : figures->target_items;
        histogram_merge(&figures->waits, &own->waits);
    }
    return true;
}

void batches_take(struct exchange *exchange)
{
    struct worker *worker = exchange_worker(exchange);
    const struct route *route = exchange->route;
    if (route->config->batching.enabled && exchange->method == HTTP_POST) {
        batching_attach(&worker->batching, &worker->server->batching_routes[route->index], exchange->fetch);
    }
}
