#include "server/metrics.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/metrics_internal.h"
#include "server/server.h"

/* The codes of the IANA registry that a gateway meets, and one "other" per class at the end. */
const uint16_t metrics_statuses[METRICS_STATUSES] = {
    200, 201, 202, 203, 204, 205, 206, 207, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400, 401, 402, 403, 404,
    405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418, 421, 422, 423, 424, 425, 426, 428, 429,
    431, 451, 499, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511, 520, 521, 522, 523, 524, 529, /* 64 */
    1,   2,   3,   4,   5, /* 69: other 1xx … 5xx */
};

static unsigned status_index(uint16_t status)
{
    if (LIKELY(status == 200)) {
        return 0;
    }
    unsigned other = status < 600 ? 0 : METRICS_STATUSES - 1; /* no class has it: taken for a 5xx (RFC 9110 §15) */
    for (unsigned i = 0; i < METRICS_STATUSES; i++) {
        if (metrics_statuses[i] == status) {
            return i;
        }
        if (metrics_statuses[i] == status / 100) {
            other = i;
        }
    }
    return other;
}

static enum metrics_method method_index(uint8_t method)
{
    switch ((llhttp_method_t)method) {
    case HTTP_GET: return METRICS_GET;
    case HTTP_HEAD: return METRICS_HEAD;
    case HTTP_POST: return METRICS_POST;
    case HTTP_PUT: return METRICS_PUT;
    case HTTP_DELETE: return METRICS_DELETE;
    case HTTP_PATCH: return METRICS_PATCH;
    case HTTP_OPTIONS: return METRICS_OPTIONS;
    default: return METRICS_OTHER;
    }
}

enum result metrics_init(struct metrics *metrics, unsigned route_count)
{
    memset(metrics, 0, sizeof(*metrics));
    metrics->route_count = route_count;
    metrics->series = calloc((size_t)(route_count + 1) * METRICS_METHODS, sizeof(*metrics->series));
    return metrics->series == NULL ? RESULT_NO_MEMORY : RESULT_OK;
}

void metrics_fini(struct metrics *metrics)
{
    if (metrics->series != NULL) {
        for (unsigned i = 0; i < (metrics->route_count + 1) * METRICS_METHODS; i++) {
            free(atomic_load(&metrics->series[i]));
        }
        free(metrics->series);
        metrics->series = NULL;
    }
}

void metrics_request(struct metrics *metrics, unsigned route, uint8_t method, uint16_t status, nanos duration_ns)
{
    struct metrics_series *_Atomic *place = &metrics->series[route * METRICS_METHODS + (unsigned)method_index(method)];
    struct metrics_series *series = atomic_load_explicit(place, memory_order_relaxed);
    if (series == NULL) {
        series = calloc(1, sizeof(*series));
        if (series == NULL) {
            return; /* not counted: better than not answered */
        }
        /* release pairs with the acquire of whoever tells it: the zeros are there before the pointer */
        atomic_store_explicit(place, series, memory_order_release);
    }
    histogram_add(&series->duration, duration_ns);
    counter_add(&series->by_status[status_index(status)], 1);
}

bool metrics_sum_series(const struct server *server, unsigned route, unsigned method, struct metrics_series *ret_sum)
{
    bool any = false;
    memset(ret_sum, 0, sizeof(*ret_sum));
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct metrics *metrics = &server->workers[w].metrics;
        /* acquire pairs with the release in metrics_request */
        struct metrics_series *series =
            atomic_load_explicit(&metrics->series[route * METRICS_METHODS + method], memory_order_acquire);
        if (series == NULL) {
            continue;
        }
        any = true;
        histogram_merge(&ret_sum->duration, &series->duration);
        for (unsigned i = 0; i < METRICS_STATUSES; i++) {
            counter_add(&ret_sum->by_status[i], counter_load(&series->by_status[i]));
        }
    }
    return any;
}

static void add_series(const struct metrics_series *series, struct metrics_all *all)
{
    histogram_merge(&all->duration, &series->duration);
    for (unsigned i = 0; i < METRICS_STATUSES; i++) {
        unsigned class = metrics_statuses[i] < 100 ? metrics_statuses[i] : metrics_statuses[i] / 100;
        all->failed += class >= 5 ? counter_load(&series->by_status[i]) : 0;
    }
}

void metrics_sum_all(const struct server *server, struct metrics_all *ret_all)
{
    memset(ret_all, 0, sizeof(*ret_all));
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct metrics *metrics = &server->workers[w].metrics;
        for (unsigned i = 0; i < (metrics->route_count + 1) * METRICS_METHODS; i++) {
            /* acquire pairs with the release in metrics_request */
            const struct metrics_series *series = atomic_load_explicit(&metrics->series[i], memory_order_acquire);
            if (series != NULL) {
                add_series(series, ret_all);
            }
        }
    }
}
