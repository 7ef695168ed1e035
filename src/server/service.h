/* What a service manager (systemd, Type=notify) is told of this process: ready, draining, alive.
 *
 * Alive is said by a thread of its own, twice in the time that the manager allows, and only while every worker's loop
 * turns (pulse.h): a manager that hears nothing ends the process and starts another. A thread of its own, because the
 * main thread waits for name servers now and then, and a slow name server is no reason to be restarted; nor is slow
 * reading of /proc, which is the observer's. Without a manager nothing happens and there is no thread. Memory: a stack
 * of 64 KB, while there is a watchdog. */
#ifndef SLUICE_SERVER_SERVICE_H
#define SLUICE_SERVER_SERVICE_H

#include <pthread.h>

#include "ring/notify.h"

struct server;

struct service {
    const struct server *server;
    struct ring_notify notify;
    nanos interval_ns; /* between two signs of life */
    nanos started_ns;
    bool has_thread;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_ending; /* under the lock */
};

/* The worker whose loop should have turned by now - patience_ns and has not; -1: all do. A worker that has not begun to
 * beat is given the time since `started_ns`. From any thread, while there are workers. */
int service_find_stuck(const struct server *server, nanos started_ns, nanos now_ns, nanos patience_ns);

/* Finds out whether there is a manager. */
void service_open(struct service *service);

/* All workers listen: says so, and from now on that they are alive. *Keeps* server until service_end_watch. */
void service_ready(struct service *service, const struct server *server);

/* Connections are taken no more, and what is in flight may last `drain_ms`: the manager is to wait as long. */
void service_stopping(const struct service *service, uint64_t drain_ms);

/* The workers are about to go: nobody looks at them from here any more. */
void service_end_watch(struct service *service);

void service_close(struct service *service);

#endif
