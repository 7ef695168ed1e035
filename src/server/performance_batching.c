/* What batching says, for /api/performance. */
#include <stdlib.h>

#include "server/batches.h"
#include "server/performance_internal.h"
#include "server/server.h"

static void put_route(yyjson_mut_doc *doc, yyjson_mut_val *list, struct bytes name,
                      const struct batches_figures *figures)
{
    const uint64_t *counts = figures->counts;
    yyjson_mut_val *route = yyjson_mut_arr_add_obj(doc, list);
    yyjson_mut_obj_add_strncpy(doc, route, "route", name.ptr, name.len);
    yyjson_mut_obj_add_uint(doc, route, "calls", figures->calls);
    yyjson_mut_obj_add_uint(doc, route, "items", counts[BATCHING_ITEMS]);
    double room = (double)counts[BATCHING_ROOM];
    performance_put(doc, route, "fill", room > 0 ? (double)counts[BATCHING_ITEMS] / room : 0);
    performance_put(doc, route, "target_items", figures->target_items);
    yyjson_mut_obj_add_uint(doc, route, "waiting_items", counts[BATCHING_WAITING]);
    yyjson_mut_obj_add_uint(doc, route, "calls_in_flight", counts[BATCHING_CALLS]);
    yyjson_mut_val *requests = yyjson_mut_obj_add_obj(doc, route, "requests");
    yyjson_mut_obj_add_uint(doc, requests, "merged", counts[BATCHING_MERGED]);
    yyjson_mut_obj_add_uint(doc, requests, "alone", counts[BATCHING_LONE]);
    yyjson_mut_obj_add_uint(doc, requests, "unmerged", counts[BATCHING_UNMERGED]);
    yyjson_mut_obj_add_uint(doc, requests, "parts", counts[BATCHING_PARTS]);
    yyjson_mut_obj_add_uint(doc, requests, "late", counts[BATCHING_LATE]);
    yyjson_mut_val *flushes = yyjson_mut_obj_add_obj(doc, route, "flushes");
    for (unsigned i = 0; i < BATCHING_WHYS; i++) {
        yyjson_mut_obj_add_uint(doc, flushes, batching_why_name((enum batching_why)i), figures->flushed[i]);
    }
    yyjson_mut_val *retries = yyjson_mut_obj_add_obj(doc, route, "retries");
    yyjson_mut_obj_add_uint(doc, retries, "refused", counts[BATCHING_BISECTED]);
    yyjson_mut_obj_add_uint(doc, retries, "malformed", counts[BATCHING_APART]);
    yyjson_mut_obj_add_uint(doc, route, "canceled", counts[BATCHING_CANCELED]);
    performance_put_latency(doc, route, "wait_ms", &figures->waits);
}

bool performance_put_batching(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    struct batches_figures *figures = malloc(sizeof(*figures));
    if (figures == NULL) {
        return false;
    }
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "batching");
    for (unsigned r = 0; r < server->config->route_count; r++) {
        if (batches_read(server, r, figures)) {
            put_route(doc, list, server->config->routes[r].name, figures);
        }
    }
    free(figures);
    return true;
}
