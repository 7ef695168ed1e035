#include "server/worker.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "base/log.h"
#include "proxy/warming.h"
#include "server/batches.h"
#include "server/cached.h"
#include "server/conn.h"
#include "server/exchange.h"
#include "server/machine_plan.h"
#include "server/prefetching.h"
#include "server/server.h"
#include "store/store.h"

enum {
    FINISH_LOOK_MS = 1, /* between looks at what is still under way */
};

const char *worker_date(struct worker *worker)
{
    int64_t now_s = ring_unix_s(worker->ring);
    if (now_s != worker->date_s) {
        worker->date_s = now_s;
        http_date_format(now_s, worker->date);
    }
    return worker->date;
}

/* ---- start ---- */

static enum result make_upstream(struct worker *worker, unsigned index)
{
    const struct config_upstream *config = &worker->config->upstreams[index];
    const struct upstream_options options = {
        .name = config->name,
        .client_host = config->host_header == CONFIG_HOST_CLIENT,
        .connect_timeout_ms = config->connect_timeout_ms,
        .first_byte_timeout_ms = config->first_byte_timeout_ms,
        .idle_timeout_ms = config->idle_timeout_ms,
        .total_timeout_ms = config->total_timeout_ms,
        .keepalive_connections_max = config->keepalive_connections_max,
        .keepalive_idle_ms = config->keepalive_idle_ms,
    };
    struct upstream *upstream = &worker->upstreams[index];
    enum result result = upstream_init(upstream, &worker->proxy, &options, config->endpoint_count);
    if (result != RESULT_OK) {
        return result;
    }
    for (unsigned e = 0; e < config->endpoint_count; e++) {
        struct endpoint *endpoint = &upstream->endpoints[e];
        const struct resolved *resolved = &worker->server->resolved[index][e];
        endpoint->text = config->endpoints[e].text;
        endpoint->host = config->endpoints[e].host;
        endpoint_set_addresses(endpoint, resolved->addresses, resolved->count);
    }
    model_directory_init(&worker->directories[index], upstream);
    return RESULT_OK;
}

static enum result make_upstreams(struct worker *worker)
{
    unsigned count = worker->config->upstream_count;
    worker->upstreams = calloc(count + 1, sizeof(*worker->upstreams));
    worker->directories = calloc(count + 1, sizeof(*worker->directories));
    if (worker->upstreams == NULL || worker->directories == NULL) {
        return RESULT_NO_MEMORY;
    }
    enum result result = RESULT_OK;
    for (unsigned i = 0; i < count && result == RESULT_OK; i++) {
        result = make_upstream(worker, i);
    }
    for (unsigned i = 0; i < worker->config->route_count && result == RESULT_OK; i++) {
        const struct config_route *route = &worker->config->routes[i];
        struct upstream *upstream = &worker->upstreams[route->upstream];
        if (route->kind == CONFIG_ROUTE_INFERENCE && upstream->models == NULL) {
            upstream->models = &worker->directories[route->upstream];
            model_directory_start(upstream->models);
        }
    }
    return result;
}

static enum result make_gates(struct worker *worker)
{
    const struct server *server = worker->server;
    return gates_init(&worker->gates, &(struct gates_options){
                                          .ring = worker->ring,
                                          .index = worker->index,
                                          .count = server->worker_count,
                                          .peers = server->gates,
                                          .options = server->scheduling.upstreams,
                                          .upstream_count = worker->config->upstream_count,
                                      });
}

static enum result make_cache(struct worker *worker)
{
    worker->cached = calloc(worker->config->route_count, sizeof(*worker->cached));
    if (worker->cached == NULL) {
        return RESULT_NO_MEMORY;
    }
    list_init(&worker->filling.fillings);
    if (worker->server->cache == NULL) {
        return RESULT_OK;
    }
    worker->cache = cache_core_create(worker->server->cache, worker->ring);
    worker->filling.core = worker->cache;
    worker->filling.store = worker->server->store;
    worker->filling.tier_cost_min_ns = worker->config->cache.database_cost_min_ms * NANOS_PER_MS;
    return worker->cache == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

/* ---- the second tier ---- */

static void on_tier_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, tier_timer);
    store_tick(worker->server->store, ring_unix_ms(worker->ring));
    ring_timer_set(worker->ring, timer, ring_now(worker->ring) + NANOS_PER_S);
}

static int route_of(const void *context, struct bytes name)
{
    const struct config *config = context;
    for (unsigned i = 0; i < config->route_count; i++) {
        if (config->routes[i].cache.enabled && bytes_equal(config->routes[i].name, name)) {
            return (int)i;
        }
    }
    return -1;
}

static void start_tier(struct worker *worker)
{
    const struct config *config = worker->config;
    if (worker->server->store == NULL || worker->index != 0) {
        return;
    }
    ring_timer_init(&worker->tier_timer, on_tier_timer);
    on_tier_timer(&worker->tier_timer);
    uint64_t bytes_max = cache_options_of(worker->server->cache)->bytes_max;
    if (config->cache.warm_start_percent > 0) {
        worker->warming = warming_start(&(struct warming_options){
            .core = worker->cache,
            .store = worker->server->store,
            .bytes = bytes_max / 100 * config->cache.warm_start_percent,
            .route_of = route_of,
            .context = config,
        });
    }
}

/* ---- listeners ---- */

static void on_accepted(struct ring_listener *listener, int fd)
{
    struct worker_listener *own = CONTAINER_OF(listener, struct worker_listener, listener);
    conn_accept(own->worker, fd, own->is_admin);
}

static void worker_finish_if_done(struct worker *worker);

static void on_listener_stopped(struct ring_listener *listener)
{
    struct worker_listener *own = CONTAINER_OF(listener, struct worker_listener, listener);
    own->worker->listeners_open--;
    worker_finish_if_done(own->worker);
}

static enum result make_listeners(struct worker *worker)
{
    worker->listener_count = worker->server->listeners.count;
    worker->listeners = calloc(worker->listener_count, sizeof(*worker->listeners));
    return worker->listeners == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

static void start_listeners(struct worker *worker)
{
    struct server *server = worker->server;
    for (unsigned i = 0; i < worker->listener_count; i++) {
        struct worker_listener *listener = &worker->listeners[i];
        listener->worker = worker;
        listener->is_admin = i >= worker->config->listener_count;
        listener->listener.stopped = on_listener_stopped;
        struct listeners_one *one = &server->listeners.each[i];
        listener->listener.share = one->is_shared ? &one->share : NULL;
        listener->listener.is_lasting = one->is_passed;
        ring_listener_start(worker->ring, &listener->listener, listeners_take(&server->listeners, worker->index, i),
                            on_accepted);
        worker->listeners_open++;
    }
}

static void on_drain_timer(struct ring_timer *timer);
static void on_stop(struct ring *ring, struct ring_message *message);
static void on_cut(struct ring *ring, struct ring_message *message);
static void on_end(struct ring *ring, struct ring_message *message);

static const struct config_route api_route = {.name = {"api", 3}, .kind = CONFIG_ROUTE_RESPOND};

static enum result worker_start(struct worker *worker)
{
    const struct config *config = worker->server->config;
    worker->config = config;
    list_init(&worker->conns);
    worker->api = (struct route){.config = &api_route, .index = config->route_count};
    worker->stop_message.on_deliver = on_stop;
    worker->cut_message.on_deliver = on_cut;
    worker->end_message.on_deliver = on_end;
    ring_timer_init(&worker->drain_timer, on_drain_timer);
    chunk_pool_init(&worker->pool, 0);
    const struct machine_plan *plan = worker->server->plan;
    const struct ring_options options = {
        .group = worker->server->group,
        .index = worker->index,
        .cpu = worker->cpu,
        .receive_buffers = (uint32_t)plan->figures[MACHINE_RECEIVE_BUFFERS].value,
        .fibers_max = (uint32_t)plan->figures[MACHINE_FIBERS].value,
    };
    enum result result = ring_create(&options, &worker->ring);
    if (result != RESULT_OK) {
        return result;
    }
    ring_set_context(worker->ring, worker);
    pulse_init(&worker->pulse, worker);
    proxy_init(&worker->proxy, worker->ring, &worker->pool);
    worker->proxy.stall_timeout_ms = config->limits.send_timeout_ms;
    worker->limits = (struct http_limits){
        .head_bytes_max = config->limits.head_bytes_max,
        .target_bytes_max = config->limits.target_bytes_max,
        .fields_max = (uint16_t)config->limits.fields_max,
    };
    result = metrics_init(&worker->metrics, config->route_count);
    if (result == RESULT_OK) {
        result = access_log_init(&worker->access_log, worker->ring, config->access_log);
    }
    if (result == RESULT_OK) {
        result = route_table_init(&worker->routes, config);
    }
    if (result == RESULT_OK) {
        result = make_cache(worker);
    }
    if (result == RESULT_OK) {
        result = make_upstreams(worker);
    }
    if (result == RESULT_OK) {
        result = make_gates(worker);
    }
    if (result == RESULT_OK) {
        result = batches_init(worker);
    }
    if (result == RESULT_OK) {
        result = prefetching_create(worker);
    }
    return result == RESULT_OK ? make_listeners(worker) : result;
}

/* ---- end ---- */

/* The clients have gone. What they began may go on: closes on their way through the ring, an answer being stored or
 * read by clients of other workers, messages. on_drain_timer looks until it is over. */
static void worker_finish_if_done(struct worker *worker)
{
    if (!worker->draining || worker->conn_count > 0 || worker->listeners_open > 0 || worker->is_finishing) {
        return;
    }
    worker->is_finishing = true;
    for (unsigned i = 0; i < worker->config->upstream_count; i++) {
        model_directory_stop(&worker->directories[i]);
    }
    ring_timer_set(worker->ring, &worker->drain_timer, ring_now(worker->ring));
}

/* Whether nothing that this worker began is under way: nobody will send to it but for its shard's sake. */
static bool is_settled(struct worker *worker)
{
    uint64_t streams = counter_load(&ring_counters(worker->ring)->streams);
    return streams == 0 && worker->filling.open == 0 && gates_are_settled(&worker->gates) &&
           batching_is_settled(&worker->batching) && (worker->cache == NULL || cache_core_is_settled(worker->cache));
}

static void worker_finish(struct worker *worker)
{
    filling_stop_all(&worker->filling);
    for (unsigned i = 0; i < worker->config->upstream_count; i++) {
        upstream_close_idle(&worker->upstreams[i]);
    }
    bool has_settled = is_settled(worker);
    if (has_settled || ring_now(worker->ring) >= worker->finish_by_ns) {
        if (!has_settled) {
            atomic_store(&worker->server->is_cut, true);
        }
        server_on_worker_done(worker->server); /* and then turns, for the others, until on_end */
    } else {
        ring_timer_set(worker->ring, &worker->drain_timer, ring_now(worker->ring) + FINISH_LOOK_MS * NANOS_PER_MS);
    }
}

static void on_end(struct ring *ring, struct ring_message *message)
{
    (void)message;
    ring_stop(ring);
}

static void close_all(struct worker *worker)
{
    struct list_node *node = worker->conns.next;
    while (node != &worker->conns) {
        struct list_node *next = node->next; /* closing unlinks later, from the loop */
        conn_close(CONTAINER_OF(node, struct conn, node), true);
        node = next;
    }
}

static void on_drain_timer(struct ring_timer *timer)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, drain_timer);
    if (worker->is_finishing) {
        worker_finish(worker);
        return;
    }
    log_warn("drain timeout: cutting off connections worker=%u left=%u", worker->index, worker->conn_count);
    close_all(worker);
}

static void on_stop(struct ring *ring, struct ring_message *message)
{
    struct worker *worker = CONTAINER_OF(message, struct worker, stop_message);
    if (worker->draining) {
        return;
    }
    worker->draining = true;
    if (worker->warming != NULL) {
        warming_stop(worker->warming);
    }
    prefetching_stop(worker->prefetching);
    nanos cut_ns = ring_now(ring) + worker->config->limits.drain_timeout_ms * NANOS_PER_MS;
    worker->finish_by_ns = cut_ns + WORKER_FINISH_GRACE_MS * NANOS_PER_MS;
    ring_timer_set(ring, &worker->drain_timer, cut_ns);
    for (unsigned i = 0; i < worker->listener_count; i++) {
        ring_listener_stop(&worker->listeners[i].listener);
    }
    struct list_node *node = worker->conns.next;
    while (node != &worker->conns) {
        struct list_node *next = node->next;
        conn_drain(CONTAINER_OF(node, struct conn, node));
        node = next;
    }
    worker_finish_if_done(worker);
}

static void on_cut(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    close_all(CONTAINER_OF(message, struct worker, cut_message));
}

static void hold_listeners(struct worker *worker, bool hold)
{
    worker->is_full = hold;
    for (unsigned i = 0; i < worker->listener_count; i++) {
        struct worker_listener *listener = &worker->listeners[i];
        if (!listener->is_admin && hold) {
            ring_listener_hold(&listener->listener);
        } else if (!listener->is_admin) {
            ring_listener_go_on(&listener->listener);
        }
    }
}

void worker_on_client(struct worker *worker)
{
    if (worker->client_count >= worker->config->limits.connections_max && !worker->is_full) {
        hold_listeners(worker, true);
    }
}

void worker_on_conn_gone(struct worker *worker)
{
    if (UNLIKELY(worker->is_full) && worker->client_count < worker->config->limits.connections_max) {
        hold_listeners(worker, false);
    }
    worker_finish_if_done(worker);
}

static void worker_free(struct worker *worker)
{
    for (unsigned i = 0; worker->upstreams != NULL && i < worker->config->upstream_count; i++) {
        model_directory_fini(&worker->directories[i]);
        upstream_fini(&worker->upstreams[i]);
    }
    ring_set_hooks(worker->ring, NULL);
    batching_fini(&worker->batching);
    gates_fini(&worker->gates);
    prefetching_destroy(worker->prefetching);
    cache_core_destroy(worker->cache);
    free(worker->cached);
    free(worker->upstreams);
    free(worker->directories);
    free(worker->listeners);
    exchange_pool_fini(worker);
    access_log_fini(&worker->access_log);
    proxy_fini(&worker->proxy);
    route_table_fini(&worker->routes);
    ring_destroy(worker->ring);
    chunk_pool_fini(&worker->pool);
    metrics_fini(&worker->metrics);
    sched_board_fini(&worker->board);
}

void *worker_main(void *context)
{
    struct worker *worker = context;
    enum result result = worker_start(worker);
    if (result != RESULT_OK) {
        log_error("worker %u cannot start: %s", worker->index, result_name(result));
    }
    if (server_on_worker_start(worker->server, result == RESULT_OK)) {
        start_listeners(worker);
        start_tier(worker);
        pulse_start(&worker->pulse);
        ring_run(worker->ring);
        if (!atomic_load(&worker->server->is_cut)) {
            gates_close(&worker->gates);
        }
        server_on_worker_stop(worker->server);
        worker_free(worker);
    }
    return NULL;
}
