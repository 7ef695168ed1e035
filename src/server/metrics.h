/* What a worker counts, and how it is told in Prometheus' text format.
 *
 * Every word has one writer, its worker, and is read by whichever worker answers /metrics. Label values come
 * from fixed sets (configured routes, known methods, known status codes), never from a request. */
#ifndef SLUICE_SERVER_METRICS_H
#define SLUICE_SERVER_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/counter.h"
#include "base/histogram.h"
#include "base/result.h"

enum metrics_method {
    METRICS_GET,
    METRICS_HEAD,
    METRICS_POST,
    METRICS_PUT,
    METRICS_DELETE,
    METRICS_PATCH,
    METRICS_OPTIONS,
    METRICS_OTHER,
    METRICS_METHODS,
};

enum metrics_error {
    METRICS_ERROR_BAD_REQUEST,       /* 400, 501, 505: what could not be read as HTTP */
    METRICS_ERROR_TOO_LARGE,         /* 413, 414, 431 */
    METRICS_ERROR_CLIENT_TIMEOUT,    /* 408, or a client that took nothing */
    METRICS_ERROR_CLIENT_CLOSED,     /* it left before the answer was through */
    METRICS_ERROR_NO_ROUTE,          /* 404, 405 */
    METRICS_ERROR_OVERLOAD,          /* 503: a limit or memory of our own */
    METRICS_ERROR_SHED,              /* 429, 503: turned away by the scheduler */
    METRICS_ERROR_UPSTREAM_CONNECT,  /* 502: no endpoint could be connected to */
    METRICS_ERROR_UPSTREAM_TIMEOUT,  /* 504 */
    METRICS_ERROR_UPSTREAM_PROTOCOL, /* 502: what came back was not HTTP, or cut short */
    METRICS_ERRORS,
};

enum { METRICS_STATUSES = 72 };

/* One route and method. */
struct metrics_series {
    struct histogram duration;
    _Atomic uint64_t by_status[METRICS_STATUSES];
};

struct metrics {
    _Atomic uint64_t active_connections;
    _Atomic uint64_t connections;
    _Atomic uint64_t active_requests;
    _Atomic uint64_t errors[METRICS_ERRORS];
    unsigned route_count;
    struct metrics_series *_Atomic *series; /* [route * METRICS_METHODS + method], made when first needed */
};

/* RESULT_NO_MEMORY when memory is out. The last index, route_count, is for requests without a route. */
MUST_USE enum result metrics_init(struct metrics *metrics, unsigned route_count);
void metrics_fini(struct metrics *metrics);

/* A request has been answered. `method` is a llhttp_method_t. */
void metrics_request(struct metrics *metrics, unsigned route, uint8_t method, uint16_t status, nanos duration_ns);

struct server;

/* Adds up one route and method over the workers. False when nobody has counted any. */
bool metrics_sum_series(const struct server *server, unsigned route, unsigned method, struct metrics_series *ret_sum);

/* All routes, methods and workers together. */
struct metrics_all {
    struct histogram duration;
    uint64_t failed; /* answered with 500 or more */
};

/* Reads every series that is there, 3 KB each, so that a request has to be counted in one place only. */
void metrics_sum_all(const struct server *server, struct metrics_all *ret_all);

static inline void metrics_error(struct metrics *metrics, enum metrics_error error)
{
    counter_add(&metrics->errors[error], 1);
}

/* Writes everything all workers have counted; *gives* text from malloc. .ptr NULL when memory is out. */
struct bytes metrics_text(const struct server *server);

#endif
