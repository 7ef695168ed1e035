#include "server/service.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/counter.h"
#include "base/log.h"
#include "ring/usage.h"
#include "server/server.h"

enum {
    STACK_BYTES = 64 * 1024,
    TEXT_BYTES = 256,
    LOOKS_WHILE_STUCK = 8, /* in an interval: one that turns again is to be heard of in time */
};

void service_open(struct service *service)
{
    memset(service, 0, sizeof(*service));
    ring_notify_open(&service->notify);
}

void service_close(struct service *service)
{
    ring_notify_close(&service->notify);
}

/* ---- alive ---- */

int service_find_stuck(const struct server *server, nanos started_ns, nanos now_ns, nanos patience_ns)
{
    for (unsigned w = 0; w < server->worker_count; w++) {
        nanos due_ns = counter_load(&server->workers[w].pulse.due_ns);
        due_ns = due_ns == NANOS_NEVER ? started_ns : due_ns;
        if (now_ns > due_ns && now_ns - due_ns > patience_ns) {
            return (int)w;
        }
    }
    return -1;
}

/* One look at the workers: says that all is well, or once that it is not. Returns when to look next. */
static nanos look(struct service *service, bool *is_stuck)
{
    nanos now = ring_clock();
    int stuck = service_find_stuck(service->server, service->started_ns, now, service->interval_ns);
    if (stuck < 0) {
        if (*is_stuck) {
            log_info("all workers turn again");
        }
        ring_notify_send(&service->notify, *is_stuck ? "WATCHDOG=1\nSTATUS=serving" : "WATCHDOG=1");
        *is_stuck = false;
        return now + service->interval_ns;
    }
    if (!*is_stuck) {
        char text[TEXT_BYTES];
        snprintf(text, sizeof(text), "STATUS=worker %d is stuck: the watchdog is not fed", stuck);
        log_error("worker %d has not turned its loop for %llu ms; the service manager's watchdog is not fed", stuck,
                  (unsigned long long)(service->interval_ns / NANOS_PER_MS));
        ring_notify_send(&service->notify, text);
        *is_stuck = true;
    }
    return now + service->interval_ns / LOOKS_WHILE_STUCK;
}

static void *watch(void *context)
{
    struct service *service = context;
    bool is_stuck = false;
    nanos due_ns = ring_clock();
    pthread_mutex_lock(&service->lock);
    while (!service->is_ending) {
        struct timespec due = {.tv_sec = (time_t)(due_ns / NANOS_PER_S), .tv_nsec = (long)(due_ns % NANOS_PER_S)};
        if (pthread_cond_clockwait(&service->changed, &service->lock, CLOCK_MONOTONIC, &due) == 0) {
            continue;
        }
        pthread_mutex_unlock(&service->lock);
        due_ns = look(service, &is_stuck);
        pthread_mutex_lock(&service->lock);
    }
    pthread_mutex_unlock(&service->lock);
    return NULL;
}

static bool start_thread(struct service *service)
{
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) {
        return false;
    }
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    bool started = pthread_create(&service->thread, &attributes, watch, service) == 0;
    pthread_attr_destroy(&attributes);
    return started;
}

static void start_watch(struct service *service)
{
    nanos watchdog_ns = ring_notify_watchdog_ns();
    if (watchdog_ns == 0 || service->notify.fd < 0) {
        return;
    }
    service->interval_ns = watchdog_ns / 2;
    service->started_ns = ring_clock();
    pthread_mutex_init(&service->lock, NULL);
    pthread_cond_init(&service->changed, NULL);
    service->has_thread = start_thread(service);
    if (!service->has_thread) {
        pthread_cond_destroy(&service->changed);
        pthread_mutex_destroy(&service->lock);
        log_error("cannot start the thread that feeds the service manager's watchdog: it will end this process");
    }
}

void service_end_watch(struct service *service)
{
    if (!service->has_thread) {
        return;
    }
    pthread_mutex_lock(&service->lock);
    service->is_ending = true;
    pthread_cond_signal(&service->changed);
    pthread_mutex_unlock(&service->lock);
    pthread_join(service->thread, NULL);
    pthread_cond_destroy(&service->changed);
    pthread_mutex_destroy(&service->lock);
    service->has_thread = false;
}

/* ---- ready, draining ---- */

void service_ready(struct service *service, const struct server *server)
{
    service->server = server;
    if (service->notify.fd >= 0 && !ring_notify_send(&service->notify, "READY=1\nSTATUS=serving")) {
        log_warn("the service manager could not be told that all is ready (NOTIFY_SOCKET)");
    }
    start_watch(service);
}

void service_stopping(const struct service *service, uint64_t drain_ms)
{
    char text[TEXT_BYTES];
    snprintf(text, sizeof(text), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%llu\nSTATUS=draining for up to %llu s",
             (unsigned long long)drain_ms * 1000, (unsigned long long)(drain_ms + 999) / 1000);
    ring_notify_send(&service->notify, text);
}
