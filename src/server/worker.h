/* A worker: everything one thread owns. Nothing in here is touched by another, but for the metrics and
 * counters, which others read. */
#ifndef SLUICE_SERVER_WORKER_H
#define SLUICE_SERVER_WORKER_H

#include <pthread.h>

#include "api/batching.h"
#include "api/models.h"
#include "cache/cache.h"
#include "cache/chunk.h"
#include "http/date.h"
#include "http/http.h"
#include "proxy/filling.h"
#include "proxy/gate.h"
#include "proxy/upstream.h"
#include "ring/mailbox.h"
#include "ring/ring.h"
#include "ring/stream.h"
#include "sched/snapshot.h"
#include "server/access_log.h"
#include "server/config.h"
#include "server/metrics.h"
#include "server/pulse.h"
#include "server/route.h"

struct server;
struct cached_counters;
struct conn;
struct exchange;
struct prefetching;
struct warming;

enum { WORKER_FINISH_GRACE_MS = 2000 }; /* after the drain timeout, for what is still under way then */

struct worker_listener {
    struct ring_listener listener;
    struct worker *worker;
    bool is_admin;
};

struct worker {
    struct server *server;
    const struct config *config;
    unsigned index;
    int cpu; /* -1: not pinned */
    pthread_t thread;

    struct ring *ring;
    struct chunk_pool pool;
    struct proxy proxy;
    struct gates gates;
    struct batching batching;
    struct cache_core *cache; /* NULL: the cache is off */
    struct filling_env filling;
    struct warming *warming;         /* worker 0's, when there is a second tier; else NULL */
    struct ring_timer tier_timer;    /* likewise: tells the store the time */
    unsigned tier_hits;              /* in memory, of what the second tier may have, too */
    struct cached_counters *cached;  /* per route */
    struct prefetching *prefetching; /* NULL: no route fetches ahead */
    struct list_node deletions;      /* of /api/cache, under way */
    struct upstream *upstreams;
    struct route_table routes;
    struct route api; /* what /api/cache counts under: none of those */
    struct metrics metrics;
    struct pulse pulse;
    struct sched_board board; /* of the models that this worker owns */
    struct access_log access_log;

    unsigned listener_count;
    unsigned listeners_open;
    struct worker_listener *listeners;

    struct http_limits limits;
    struct http_parser parser; /* for heads that arrive in one piece: most */
    struct http_host_memory host_memory;
    struct list_node conns; /* all of them */
    uint32_t conn_count;
    uint32_t client_count; /* of them, not the admin's: up to connections_max */
    bool is_full;          /* the listeners are held */
    struct exchange *free_exchanges;

    char date[HTTP_DATE_BYTES]; /* of date_s */
    int64_t date_s;

    bool draining;
    struct ring_timer drain_timer;
    struct ring_message stop_message;    /* drain */
    struct ring_message cut_message;     /* and then no longer wait */
    struct ring_message end_message;     /* all workers are done: stop */
    nanos finish_by_ns;                  /* the latest moment at which it is done */
    bool is_finishing;                   /* its clients have gone */
    struct model_directory *directories; /* per upstream; used by those of inference routes */
};

/* Runs on the worker's own thread until it has drained; the thread's start routine. */
void *worker_main(void *worker);

/* The date of this second, for Date. */
const char *worker_date(struct worker *worker);

/* A client's connection was taken: at connections_max the further ones wait in the kernel's queue. */
void worker_on_client(struct worker *worker);

/* A connection has gone: when draining, the last one ends the loop. */
void worker_on_conn_gone(struct worker *worker);

#endif
