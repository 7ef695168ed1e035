#include "server/observer.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/counter.h"
#include "base/log.h"
#include "server/cache_figures.h"
#include "server/machine_watch.h"
#include "server/server.h"

enum { STACK_BYTES = 256 * 1024 };

/* What was counted at one of the last ten looks. */
struct look {
    nanos at_ns;
    struct performance_counts counts;
    struct metrics_all all;
};

struct observer {
    const struct server *server;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_stopping; /* under the lock */

    /* the thread's own */
    struct pressure_signals *signals;
    struct pressure pressure;
    nanos started_ns;
    struct look looks[PERFORMANCE_STEP_S]; /* a ring; `look_count` ever made */
    uint64_t look_count;
    struct look look; /* the one being made */
    struct look step; /* the one at which the history's step began */
    struct histogram since;
    struct sched_view view; /* room for one */
    struct performance_history history;
    struct observation *observation; /* the one being made */
    struct machine_watch *watch;

    /* for others */
    _Atomic uint32_t pressure_milli;
    _Atomic uint64_t cache_bytes;
    struct published published_observation;
    struct published published_history;
};

static size_t observation_bytes(const struct server *server)
{
    return sizeof(struct observation) + server->worker_count * sizeof(struct worker_signals);
}

/* ---- looking ---- */

/* Adds up what all workers have counted. */
static void take_look(const struct server *server, const struct ring_usage *usage, struct look *look)
{
    memset(look, 0, sizeof(*look));
    look->at_ns = usage->at_ns;
    struct performance_counts *counts = &look->counts;
    counts->cpu_ns = usage->cpu_ns;
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct metrics *metrics = &server->workers[w].metrics;
        counts->sheds += counter_load(&metrics->errors[METRICS_ERROR_SHED]);
    }
    metrics_sum_all(server, &look->all);
    counts->errors = look->all.failed;
    counts->requests = counter_load(&look->all.duration.count);
    struct cache_figures cache;
    cache_figures_read(server, server->config->route_count, &cache);
    counts->cache_hits = cache.hits + cache.joins;
    counts->cache_asked = cache.hits + cache.joins + cache.misses;
}

static uint32_t count_in_flight(const struct server *server)
{
    uint64_t sum = 0;
    for (unsigned w = 0; w < server->worker_count; w++) {
        for (unsigned u = 0; u < server->config->upstream_count; u++) {
            const struct upstream *upstream = &server->workers[w].upstreams[u];
            for (unsigned e = 0; e < upstream->endpoint_count; e++) {
                sum += atomic_load_explicit(&upstream->endpoints[e].in_flight, memory_order_relaxed);
            }
        }
    }
    return (uint32_t)sum;
}

static void add_queued(const struct sched_view *view, void *context)
{
    *(uint32_t *)context += view->figures.queue.requests;
}

static uint32_t count_queued(struct observer *observer)
{
    uint32_t sum = 0;
    for (unsigned w = 0; w < observer->server->worker_count; w++) {
        sched_board_each(&observer->server->workers[w].board, &observer->view, add_queued, &sum);
    }
    return sum;
}

/* What there is to say of the time between a look and the one being made. */
static void fill_sample(struct observer *observer, const struct look *from, struct performance_sample *sample)
{
    const struct look *now = &observer->look;
    const struct ring_usage *usage = &observer->observation->usage;
    performance_sample_rates(&from->counts, &now->counts, (double)(now->at_ns - from->at_ns) / 1e9, sample);
    histogram_since(&now->all.duration, &from->all.duration, &observer->since);
    bool is_empty = counter_load(&observer->since.count) == 0;
    sample->p95_seconds = is_empty ? (double)NAN : (double)histogram_quantile(&observer->since, 0.95) / 1e9;
    sample->unix_ms = usage->unix_ms;
    sample->memory_bytes = usage->resident_bytes;
    sample->queued = count_queued(observer);
    sample->in_flight = count_in_flight(observer->server);
    sample->pressure_milli = observer->pressure.level[observer->pressure.worst];
}

/* Ends the history's step when it is time. */
static void take_step(struct observer *observer)
{
    nanos passed = observer->look.at_ns - observer->step.at_ns;
    if (passed + NANOS_PER_S / 2 < PERFORMANCE_STEP_S * NANOS_PER_S) {
        return;
    }
    struct performance_sample sample;
    fill_sample(observer, &observer->step, &sample);
    performance_history_add(&observer->history, &sample);
    published_write(&observer->published_history, &observer->history);
    memcpy(&observer->step, &observer->look, sizeof(observer->step));
}

static void log_change(enum machine_severity severity, const char *text, void *context)
{
    (void)context;
    if (severity >= MACHINE_WARNING) {
        log_warn("%s", text);
    } else {
        log_info("%s", text);
    }
}

/* What an administrator has changed while we run. */
static void look_at_limits(struct observer *observer)
{
    struct machine_limits *limits = &observer->observation->limits;
    machine_limits_read("", limits);
    if (machine_watch_sees(observer->watch, limits)) {
        machine_watch_follow(observer->watch, "", observer->server->config, log_change, NULL);
        atomic_store_explicit(&observer->cache_bytes, observer->watch->cache_bytes, memory_order_relaxed);
    }
}

static void look_around(struct observer *observer)
{
    struct observation *observation = observer->observation;
    ring_usage_read("", &observation->usage);
    look_at_limits(observer);
    const struct ring_usage *usage = &observation->usage;
    pressure_signals_read(observer->signals, usage, observation->limits.cpu.cpus, observation->workers,
                          &observation->reading);
    atomic_store_explicit(&observer->pressure_milli,
                          pressure_update(&observer->pressure, usage->at_ns, &observation->reading),
                          memory_order_relaxed);
    observation->pressure = observer->pressure;
    observation->started_ns = observer->started_ns;

    take_look(observer->server, usage, &observer->look);
    /* The oldest look known, which is PERFORMANCE_STEP_S seconds ago once there were so many. */
    struct look *place = &observer->looks[observer->look_count % PERFORMANCE_STEP_S];
    const struct look *oldest = observer->look_count < PERFORMANCE_STEP_S ? &observer->looks[0] : place;
    fill_sample(observer, oldest, &observation->recent);
    memcpy(place, &observer->look, sizeof(*place));
    observer->look_count++;
    published_write(&observer->published_observation, observation);
    take_step(observer);
}

/* Where all differences begin. Nothing is known yet of what takes time. */
static void look_first(struct observer *observer)
{
    struct observation *observation = observer->observation;
    const struct ring_usage *usage = &observation->usage;
    ring_usage_read("", &observation->usage);
    observer->started_ns = usage->at_ns;
    pressure_init(&observer->pressure, observer->started_ns);
    observation->limits = observer->server->machine->limits;
    pressure_signals_read(observer->signals, usage, observation->limits.cpu.cpus, observation->workers,
                          &observation->reading);
    take_look(observer->server, usage, &observer->looks[0]);
    observer->look_count = 1;
    memcpy(&observer->step, &observer->looks[0], sizeof(observer->step));
    observation->pressure = observer->pressure;
    observation->started_ns = observer->started_ns;
    observation->started_unix_ms = usage->unix_ms;
    observation->recent = (struct performance_sample){
        .unix_ms = usage->unix_ms,
        .error_rate = (double)NAN,
        .p95_seconds = (double)NAN,
        .hit_rate = (double)NAN,
        .memory_bytes = usage->resident_bytes,
    };
    published_write(&observer->published_observation, observation);
}

static void *observer_main(void *context)
{
    struct observer *observer = context;
    nanos due_ns = observer->started_ns + NANOS_PER_S;
    pthread_mutex_lock(&observer->lock);
    while (!observer->is_stopping) {
        struct timespec due = {.tv_sec = (time_t)(due_ns / NANOS_PER_S), .tv_nsec = (long)(due_ns % NANOS_PER_S)};
        if (pthread_cond_clockwait(&observer->changed, &observer->lock, CLOCK_MONOTONIC, &due) == 0) {
            continue;
        }
        pthread_mutex_unlock(&observer->lock);
        look_around(observer);
        /* A look that came late is not made up for. */
        while (due_ns <= observer->observation->usage.at_ns) {
            due_ns += NANOS_PER_S;
        }
        pthread_mutex_lock(&observer->lock);
    }
    pthread_mutex_unlock(&observer->lock);
    return NULL;
}

/* ---- beginning and ending ---- */

static void observer_free(struct observer *observer)
{
    pthread_cond_destroy(&observer->changed);
    pthread_mutex_destroy(&observer->lock);
    pressure_signals_destroy(observer->signals);
    published_fini(&observer->published_observation);
    published_fini(&observer->published_history);
    free(observer->observation);
    free(observer->watch);
    free(observer);
}

static bool start_thread(struct observer *observer)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool started = pthread_create(&observer->thread, &attributes, observer_main, observer) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

enum result observer_start(const struct server *server, struct observer **ret_observer)
{
    struct observer *observer = calloc(1, sizeof(*observer));
    if (observer == NULL) {
        return RESULT_NO_MEMORY;
    }
    observer->server = server;
    pthread_mutex_init(&observer->lock, NULL);
    pthread_cond_init(&observer->changed, NULL);
    observer->signals = pressure_signals_create(server);
    observer->observation = calloc(1, observation_bytes(server));
    observer->watch = malloc(sizeof(*observer->watch));
    bool made = observer->signals != NULL && observer->observation != NULL && observer->watch != NULL &&
                published_init(&observer->published_observation, observation_bytes(server)) == RESULT_OK &&
                published_init(&observer->published_history, sizeof(observer->history)) == RESULT_OK;
    if (made) {
        machine_watch_init(observer->watch, server->machine, server->plan);
        atomic_init(&observer->cache_bytes, observer->watch->cache_bytes);
        look_first(observer);
    }
    if (!made || !start_thread(observer)) {
        observer_free(observer);
        return RESULT_NO_MEMORY;
    }
    *ret_observer = observer;
    return RESULT_OK;
}

void observer_stop(struct observer *observer)
{
    if (observer == NULL) {
        return;
    }
    pthread_mutex_lock(&observer->lock);
    observer->is_stopping = true;
    pthread_cond_signal(&observer->changed);
    pthread_mutex_unlock(&observer->lock);
    pthread_join(observer->thread, NULL);
    observer_free(observer);
}

/* ---- for others ---- */

uint32_t observer_pressure(const struct observer *observer)
{
    return atomic_load_explicit(&observer->pressure_milli, memory_order_relaxed);
}

uint64_t observer_cache_bytes(const struct observer *observer)
{
    return atomic_load_explicit(&observer->cache_bytes, memory_order_relaxed);
}

static void *read_copy(const struct published *published)
{
    void *copy = malloc(published->bytes);
    if (copy != NULL && !published_read(published, copy)) {
        free(copy);
        copy = NULL;
    }
    return copy;
}

struct observation *observer_read(const struct observer *observer)
{
    return read_copy(&observer->published_observation);
}

struct performance_history *observer_history(const struct observer *observer)
{
    return read_copy(&observer->published_history);
}
