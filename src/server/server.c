#include "server/server.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "base/check.h"
#include "base/log.h"
#include "proxy/warming.h"
#include "server/batches.h"
#include "server/cache_api.h"
#include "server/machine_plan.h"
#include "server/observer.h"

enum {
    RESOLVE_SECONDS_MIN = 1,
};

/* ---- start ---- */

/* Up to what we are allowed: the plan counts on it. */
static void raise_limit(__rlimit_resource_t resource)
{
    struct rlimit limit;
    if (getrlimit(resource, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(resource, &limit);
    }
}

/* Looks every name up; with `tell`, the workers hear of what changed. Blocks. */
static void resolve_all(struct server *server, bool tell);

static bool make_resolved(struct server *server)
{
    const struct config *config = server->config;
    server->resolved = calloc(config->upstream_count + 1, sizeof(*server->resolved));
    if (server->resolved == NULL) {
        return false;
    }
    for (unsigned u = 0; u < config->upstream_count; u++) {
        const struct config_upstream *upstream = &config->upstreams[u];
        server->resolved[u] = calloc(upstream->endpoint_count, sizeof(struct resolved));
        if (server->resolved[u] == NULL) {
            return false;
        }
        for (unsigned e = 0; e < upstream->endpoint_count; e++) {
            if (!upstream->endpoints[e].is_name) {
                server->resolved[u][e] = (struct resolved){.count = 1, .addresses = {upstream->endpoints[e].address}};
            }
        }
    }
    resolve_all(server, false);
    return true;
}

static bool start_workers(struct server *server)
{
    for (unsigned i = 0; i < server->worker_count; i++) {
        int error = pthread_create(&server->workers[i].thread, NULL, worker_main, &server->workers[i]);
        if (error != 0) {
            log_error("cannot start a thread: %s", strerror(error));
            exit(1);
        }
    }
    pthread_mutex_lock(&server->start_lock);
    while (server->started + server->failed < server->worker_count) {
        pthread_cond_wait(&server->start_changed, &server->start_lock);
    }
    bool ok = server->failed == 0;
    pthread_mutex_unlock(&server->start_lock);
    return ok;
}

/* All workers are there: with the observer, connections may come. */
static bool open_server(struct server *server)
{
    if (observer_start(server, &server->observer) != RESULT_OK) {
        log_error("cannot start the thread that watches the process");
        return false;
    }
    pthread_mutex_lock(&server->start_lock);
    server->is_open = true;
    pthread_cond_broadcast(&server->start_changed);
    pthread_mutex_unlock(&server->start_lock);
    return true;
}

bool server_on_worker_start(struct server *server, bool ok)
{
    pthread_mutex_lock(&server->start_lock);
    server->started += ok ? 1 : 0;
    server->failed += ok ? 0 : 1;
    pthread_cond_broadcast(&server->start_changed);
    while (server->failed == 0 && !server->is_open) {
        pthread_cond_wait(&server->start_changed, &server->start_lock);
    }
    bool all = server->failed == 0;
    pthread_mutex_unlock(&server->start_lock);
    return all;
}

void server_on_worker_done(struct server *server)
{
    if (atomic_fetch_add(&server->done, 1) + 1 < server->worker_count) {
        return;
    }
    for (unsigned w = 0; w < server->worker_count; w++) {
        ring_group_post(server->group, w, &server->workers[w].end_message);
    }
}

void server_on_worker_stop(struct server *server)
{
    pthread_mutex_lock(&server->start_lock);
    server->started--;
    while (!server->is_over) {
        pthread_cond_wait(&server->start_changed, &server->start_lock);
    }
    pthread_mutex_unlock(&server->start_lock);
}

/* ---- names ---- */

struct resolved_message {
    struct ring_message message;
    unsigned upstream;
    unsigned endpoint;
    struct resolved resolved;
};

static void on_resolved(struct ring *ring, struct ring_message *message)
{
    struct worker *worker = ring_context(ring);
    struct resolved_message *told = CONTAINER_OF(message, struct resolved_message, message);
    endpoint_set_addresses(&worker->upstreams[told->upstream].endpoints[told->endpoint], told->resolved.addresses,
                           told->resolved.count);
    free(told);
}

static void tell_resolved(struct server *server, unsigned upstream, unsigned endpoint)
{
    for (unsigned w = 0; w < server->worker_count; w++) {
        struct resolved_message *message = malloc(sizeof(*message));
        if (message != NULL) {
            *message = (struct resolved_message){.message.on_deliver = on_resolved,
                                                 .upstream = upstream,
                                                 .endpoint = endpoint,
                                                 .resolved = server->resolved[upstream][endpoint]};
            ring_group_post(server->group, w, &message->message);
        }
    }
}

static bool resolved_equal(const struct resolved *a, const struct resolved *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (unsigned i = 0; i < a->count; i++) {
        if (!ring_address_equal(&a->addresses[i], &b->addresses[i])) {
            return false;
        }
    }
    return true;
}

static void resolve_all(struct server *server, bool tell)
{
    const struct config *config = server->config;
    for (unsigned u = 0; u < config->upstream_count; u++) {
        const struct config_upstream *upstream = &config->upstreams[u];
        for (unsigned e = 0; e < upstream->endpoint_count; e++) {
            const struct config_endpoint *endpoint = &upstream->endpoints[e];
            if (!endpoint->is_name) {
                continue;
            }
            struct resolved found = {0};
            if (ring_address_resolve(endpoint->text, found.addresses, UPSTREAM_ADDRESSES_MAX, &found.count) !=
                RESULT_OK) {
                log_warn("name not found upstream=%.*s endpoint=%.*s; %s", BYTES_ARG(upstream->name),
                         BYTES_ARG(endpoint->text),
                         server->resolved[u][e].count > 0 ? "keeping the addresses known" : "it is left out for now");
                continue;
            }
            if (!resolved_equal(&found, &server->resolved[u][e])) {
                server->resolved[u][e] = found;
                if (tell) {
                    tell_resolved(server, u, e);
                }
            }
        }
    }
}

/* Seconds between two look-ups: the shortest interval that any upstream with names asks for; 0: no names. */
static unsigned resolve_interval_s(const struct config *config)
{
    unsigned interval_ms = 0;
    for (unsigned u = 0; u < config->upstream_count; u++) {
        const struct config_upstream *upstream = &config->upstreams[u];
        for (unsigned e = 0; e < upstream->endpoint_count; e++) {
            if (upstream->endpoints[e].is_name && (interval_ms == 0 || upstream->resolve_interval_ms < interval_ms)) {
                interval_ms = upstream->resolve_interval_ms;
            }
        }
    }
    if (interval_ms == 0) {
        return 0;
    }
    return interval_ms < RESOLVE_SECONDS_MIN * 1000 ? RESOLVE_SECONDS_MIN : interval_ms / 1000;
}

/* ---- running ---- */

static void ask_to_stop(struct server *server)
{
    for (unsigned w = 0; w < server->worker_count; w++) {
        ring_group_post(server->group, w, &server->workers[w].stop_message);
    }
}

static void cut_off(struct server *server)
{
    for (unsigned w = 0; w < server->worker_count; w++) {
        ring_group_post(server->group, w, &server->workers[w].cut_message);
    }
}

/* All have stopped: what they own may go, once nobody looks at it any more. */
static void end_workers(struct server *server)
{
    service_end_watch(&server->service);
    observer_stop(server->observer);
    pthread_mutex_lock(&server->start_lock);
    server->is_over = true;
    pthread_cond_broadcast(&server->start_changed);
    pthread_mutex_unlock(&server->start_lock);
}

/* Waits for signals until the workers have been told to stop and have stopped. */
static void wait_for_end(struct server *server, const sigset_t *signals)
{
    unsigned interval_s = resolve_interval_s(server->config);
    bool draining = false;
    bool is_cut = false;
    for (;;) {
        if (draining) {
            pthread_mutex_lock(&server->start_lock);
            bool have_stopped = server->started == 0;
            pthread_mutex_unlock(&server->start_lock);
            if (have_stopped) {
                end_workers(server);
                return;
            }
        }
        struct timespec wait = {.tv_sec = interval_s > 0 ? interval_s : 3600};
        if (draining) {
            wait = (struct timespec){.tv_nsec = 20 * 1000 * 1000};
        }
        int signal = sigtimedwait(signals, NULL, &wait);
        if (signal < 0) {
            if (errno == EAGAIN && !draining && interval_s > 0) {
                resolve_all(server, true);
            }
        } else if (signal == SIGHUP) {
            log_warn("the configuration is read at start only: restart to change it");
        } else if (!draining) {
            log_info("draining: no new connections; what is in flight may end within %u ms",
                     server->config->limits.drain_timeout_ms);
            draining = true;
            service_stopping(&server->service, server->config->limits.drain_timeout_ms + WORKER_FINISH_GRACE_MS);
            ask_to_stop(server);
        } else if (!is_cut) {
            log_info("asked again: cutting off what is left");
            is_cut = true;
            cut_off(server);
        }
    }
}

/* The cache and its second tier. A database that cannot be used is no reason not to start. */
static bool make_cache(struct server *server)
{
    const struct config *config = server->config;
    uint64_t bytes_max = server->plan->figures[MACHINE_CACHE_BYTES].value;
    if (bytes_max == 0) {
        return true;
    }
    server->cache = cache_create(&(struct cache_options){
        .workers = server->worker_count,
        .policy = (enum evict_policy)config->cache.eviction,
        .bytes_max = bytes_max,
        .entries_max = config->cache.entries_max,
        .object_bytes_max = config->cache.object_bytes_max,
    });
    if (server->cache == NULL) {
        return false;
    }
    if (config->cache.database.len == 0) {
        return true;
    }
    const struct store_options options = {
        .path = config->cache.database.ptr,
        .cache_bytes_max = config->cache.database_bytes_max,
    };
    return store_open(&options, server->group, &server->store) == RESULT_OK;
}

static void server_free(struct server *server)
{
    for (unsigned u = 0; server->resolved != NULL && u < server->config->upstream_count; u++) {
        free(server->resolved[u]);
    }
    free(server->resolved);
    listeners_close(&server->listeners);
    if (server->store != NULL) {
        store_close(server->store); /* writes what is queued */
    }
    for (unsigned w = 0; server->workers != NULL && w < server->worker_count; w++) {
        cache_api_fini(&server->workers[w].deletions);
        warming_destroy(server->workers[w].warming);
    }
    free(server->workers);
    free(server->gates);
    free(server->batchings);
    batches_destroy(server->batching_routes, server->config);
    scheduling_fini(&server->scheduling);
    cache_destroy(server->cache);
    if (server->group != NULL) {
        ring_group_destroy(server->group);
    }
    service_close(&server->service);
}

/* What will hurt; the rest is for `sluice check --machine`. */
static void tell_findings(const struct machine_plan *plan)
{
    for (unsigned i = 0; i < plan->finding_count; i++) {
        const struct machine_finding *finding = &plan->findings[i];
        if (finding->severity >= MACHINE_WARNING) {
            log_warn("%s: %s; remedy: %s", finding->subject, finding->what, finding->remedy);
        }
    }
}

static int run_as_planned(const struct config *config, const struct machine *machine, const struct machine_plan *plan,
                          const sigset_t *signals, void (*on_ready)(void *context), void *context)
{
    struct server server = {.config = config, .machine = machine, .plan = plan, .worker_count = plan->workers};
    service_open(&server.service);
    raise_limit(RLIMIT_NOFILE);
    raise_limit(RLIMIT_MEMLOCK);
    tell_findings(plan);
    pthread_mutex_init(&server.start_lock, NULL);
    pthread_cond_init(&server.start_changed, NULL);
    server.group = ring_group_create(server.worker_count);
    server.workers = calloc(server.worker_count, sizeof(*server.workers));
    server.gates = calloc(server.worker_count, sizeof(struct gates *));
    server.batchings = calloc(server.worker_count, sizeof(struct batching *));
    server.batching_routes = batches_create(config);
    bool ok = server.group != NULL && server.workers != NULL && server.gates != NULL && server.batchings != NULL &&
              server.batching_routes != NULL;
    for (unsigned w = 0; server.workers != NULL && w < server.worker_count; w++) {
        list_init(&server.workers[w].deletions);
    }
    for (unsigned w = 0; ok && w < server.worker_count; w++) {
        server.gates[w] = &server.workers[w].gates;
        server.batchings[w] = &server.workers[w].batching;
    }
    if (!ok || scheduling_init(&server.scheduling, config) != RESULT_OK || !make_cache(&server) ||
        !make_resolved(&server) || !listeners_open(&server.listeners, config, server.worker_count)) {
        server_free(&server);
        return 1;
    }
    for (unsigned w = 0; w < server.worker_count; w++) {
        server.workers[w].server = &server;
        server.workers[w].index = w;
        server.workers[w].cpu = plan->pin ? plan->cpus[w] : -1;
    }
    log_info("starting %u worker%s on %u core%s: %s", server.worker_count, server.worker_count == 1 ? "" : "s",
             machine->topology.core_count, machine->topology.core_count == 1 ? "" : "s",
             plan->figures[MACHINE_WORKERS].reason);
    if (!start_workers(&server) || !open_server(&server)) {
        exit(1); /* the reason is in the log; other workers may be running: nothing is worth unwinding */
    }
    service_ready(&server.service, &server);
    if (on_ready != NULL) {
        on_ready(context);
    }
    wait_for_end(&server, signals);
    for (unsigned w = 0; w < server.worker_count; w++) {
        pthread_join(server.workers[w].thread, NULL);
    }
    server_free(&server);
    log_info("stopped");
    return 0;
}

int server_run(const struct config *config, void (*on_ready)(void *context), void *context)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL); /* the workers inherit it: signals come to this thread only */
    signal(SIGPIPE, SIG_IGN);

    struct machine *machine = malloc(sizeof(*machine));
    struct machine_plan *plan = malloc(sizeof(*plan));
    if (machine == NULL || plan == NULL) {
        log_error("out of memory");
        free(machine);
        free(plan);
        return 1;
    }
    machine_read("", machine);
    machine_plan_make(machine, config, plan);
    int code = run_as_planned(config, machine, plan, &signals, on_ready, context);
    free(machine);
    free(plan);
    return code;
}
