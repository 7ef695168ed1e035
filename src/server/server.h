/* The process: workers, their listeners, signals, names to look up.
 *
 * The main thread is no worker. It opens the listeners, starts the workers, and then waits for signals: SIGTERM and
 * SIGINT drain (a second one cuts off). Between, it looks up the names of endpoints and tells the workers. */
#ifndef SLUICE_SERVER_SERVER_H
#define SLUICE_SERVER_SERVER_H

#include "server/config.h"
#include "server/listeners.h"
#include "server/scheduling.h"
#include "server/service.h"
#include "server/worker.h"

struct machine;
struct machine_plan;
struct observer;

struct resolved {
    unsigned count;
    struct ring_address addresses[UPSTREAM_ADDRESSES_MAX];
};

struct server {
    const struct config *config;
    const struct machine *machine;   /* as it was at the start */
    const struct machine_plan *plan; /* what was made of it */
    unsigned worker_count;
    struct worker *workers;
    struct ring_group *group;
    struct scheduling scheduling;
    struct gates **gates;                   /* the workers', by index: so that they find each other's */
    struct batching **batchings;            /* likewise */
    struct batching_route *batching_routes; /* by route */
    struct cache *cache;                    /* NULL: it is off */
    struct store *store;                    /* its second tier; NULL: none */
    struct resolved **resolved;             /* [upstream][endpoint]; the main thread's */
    struct observer *observer;              /* from before the first connection until after the last */
    struct listeners listeners;
    struct service service;

    /* the start and the end, between main and the workers */
    pthread_mutex_t start_lock;
    pthread_cond_t start_changed;
    unsigned started; /* workers running */
    unsigned failed;
    bool is_open;          /* all workers and the observer are there: connections may come */
    bool is_over;          /* all have stopped */
    _Atomic unsigned done; /* workers that have drained */
    _Atomic bool is_cut;   /* one of them had to leave something behind */
};

/* Runs until a signal has drained it. *Borrows* config. `on_ready` (may be NULL) is called once connections are
 * taken. Returns the exit code: 0 after a drain, 1 when it could not start (the log says why).
 * SIGTERM, SIGINT and SIGHUP are taken over. */
int server_run(const struct config *config, void (*on_ready)(void *context), void *context);

/* A worker tells how its start went, and waits for the others and for the observer: whoever answers /metrics reads all
 * workers' counters, so none takes connections before all are there. False when one of them could not start. */
MUST_USE bool server_on_worker_start(struct server *server, bool ok);

/* A worker tells that it has drained. It goes on turning, since it owns what others still ask for, until all have: then
 * every worker gets its end_message. */
void server_on_worker_done(struct server *server);

/* A worker tells that it has stopped, and waits for the others: until then they, and the main thread, may look at what
 * it owns. */
void server_on_worker_stop(struct server *server);

#endif
