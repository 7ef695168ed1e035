/* GET /api/cache/stats. */
#include <yyjson.h>

#include "base/counter.h"
#include "server/cache_api.h"
#include "server/cache_figures.h"
#include "server/server.h"
#include "store/store.h"

static void put_figures(yyjson_mut_doc *doc, yyjson_mut_val *into, const struct cache_figures *figures)
{
    yyjson_mut_obj_add_uint(doc, into, "hits", figures->hits);
    yyjson_mut_obj_add_uint(doc, into, "misses", figures->misses);
    yyjson_mut_obj_add_uint(doc, into, "joins", figures->joins);
    yyjson_mut_obj_add_uint(doc, into, "bypasses", figures->bypasses);
    yyjson_mut_obj_add_real(doc, into, "hit_rate", cache_figures_hit_rate(figures));
    yyjson_mut_obj_add_uint(doc, into, "stale_hits", figures->stale_hits);
    yyjson_mut_obj_add_uint(doc, into, "second_tier_hits", figures->tier_hits);
    yyjson_mut_obj_add_uint(doc, into, "stored", figures->stored);
    yyjson_mut_obj_add_uint(doc, into, "updated", figures->updated);
    yyjson_mut_obj_add_real(doc, into, "saved_seconds", (double)figures->saved_ns / (double)NANOS_PER_S);
    yyjson_mut_obj_add_uint(doc, into, "saved_tokens", figures->saved_tokens);
}

static void put_prefetch(yyjson_mut_doc *doc, yyjson_mut_val *route, const struct server *server, unsigned index)
{
    struct prefetching_figures figures;
    cache_figures_read_prefetch(server, index, &figures);
    yyjson_mut_val *prefetch = yyjson_mut_obj_add_obj(doc, route, "prefetch");
    yyjson_mut_obj_add_uint(doc, prefetch, "fetches", figures.begun);
    yyjson_mut_obj_add_uint(doc, prefetch, "useful", figures.useful);
    yyjson_mut_obj_add_uint(doc, prefetch, "wasted", figures.wasted);
    uint64_t judged = figures.useful + figures.wasted;
    if (judged > 0) {
        yyjson_mut_obj_add_real(doc, prefetch, "precision", (double)figures.useful / (double)judged);
    } else {
        yyjson_mut_obj_add_null(doc, prefetch, "precision");
    }
    yyjson_mut_obj_add_uint(doc, prefetch, "held_back", figures.held_back);
    yyjson_mut_obj_add_uint(doc, prefetch, "stopped_workers", figures.is_stopped);
}

static void put_routes(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, root, "routes");
    for (unsigned r = 0; r < server->config->route_count; r++) {
        const struct config_route *config = &server->config->routes[r];
        if (!config->cache.enabled) {
            continue;
        }
        struct cache_figures figures;
        cache_figures_read(server, r, &figures);
        yyjson_mut_val *route = yyjson_mut_arr_add_obj(doc, list);
        yyjson_mut_obj_add_strncpy(doc, route, "route", config->name.ptr, config->name.len);
        yyjson_mut_obj_add_str(doc, route, "kind", config->kind == CONFIG_ROUTE_HTTP ? "http" : "inference");
        put_figures(doc, route, &figures);
        yyjson_mut_val *reasons = yyjson_mut_obj_add_obj(doc, route, "not_stored");
        for (unsigned i = 0; i < FILLING_REASONS_MAX; i++) {
            const char *name = cache_figures_reason(config, i);
            if (name != NULL && figures.not_stored[i] > 0) {
                yyjson_mut_obj_add_uint(doc, reasons, name, figures.not_stored[i]);
            }
        }
        if (config->cache.prefetch.enabled) {
            put_prefetch(doc, route, server, r);
        }
    }
}

static void put_memory(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    struct cache_figures_memory figures;
    cache_figures_read_memory(server, &figures);
    yyjson_mut_val *memory = yyjson_mut_obj_add_obj(doc, root, "memory");
    yyjson_mut_obj_add_uint(doc, memory, "entries", figures.entries);
    yyjson_mut_obj_add_uint(doc, memory, "entries_max", figures.entries_max);
    yyjson_mut_obj_add_uint(doc, memory, "bytes", figures.charged_bytes);
    yyjson_mut_obj_add_uint(doc, memory, "budget_bytes", figures.budget_bytes);
    yyjson_mut_obj_add_uint(doc, memory, "mapped_bytes", figures.mapped_bytes);
    yyjson_mut_obj_add_uint(doc, memory, "retired_bytes", figures.retired_bytes);
    yyjson_mut_obj_add_uint(doc, memory, "stores", figures.stores);
    yyjson_mut_obj_add_uint(doc, memory, "updates", figures.updates);
    yyjson_mut_obj_add_uint(doc, memory, "no_room", figures.no_room);
    yyjson_mut_obj_add_uint(doc, memory, "refused", figures.refused);
    yyjson_mut_val *removed = yyjson_mut_obj_add_obj(doc, memory, "removed");
    for (unsigned i = 0; i < SHARD_CAUSES; i++) {
        yyjson_mut_obj_add_uint(doc, removed, cache_figures_cause((enum shard_cause)i), figures.removed[i]);
    }
}

static void put_tier(yyjson_mut_doc *doc, yyjson_mut_val *root, const struct server *server)
{
    if (server->store == NULL) {
        yyjson_mut_obj_add_null(doc, root, "second_tier");
        return;
    }
    const struct store_counters *counters = store_counters(server->store);
    const struct {
        const char *name;
        uint64_t value;
    } figures[] = {
        {"hits", counter_load(&counters->hits)},
        {"misses", counter_load(&counters->misses)},
        {"gets_failed", counter_load(&counters->gets_failed)},
        {"gets_busy", counter_load(&counters->gets_busy)},
        {"gets_unavailable", counter_load(&counters->gets_unavailable)},
        {"puts", counter_load(&counters->puts)},
        {"puts_dropped", counter_load(&counters->puts_dropped)},
        {"puts_outdated", counter_load(&counters->puts_outdated)},
        {"records", counter_load(&counters->records)},
        {"bytes", counter_load(&counters->bytes)},
        {"budget_bytes", server->config->cache.database_bytes_max},
        {"expired", counter_load(&counters->expired)},
        {"evicted", counter_load(&counters->evicted)},
        {"purged", counter_load(&counters->purged)},
        {"queued_writes", counter_load(&counters->queued_writes)},
        {"queued_bytes", counter_load(&counters->queued_bytes)},
        {"queued_reads", counter_load(&counters->queued_reads)},
    };
    yyjson_mut_val *tier = yyjson_mut_obj_add_obj(doc, root, "second_tier");
    uint32_t state = atomic_load_explicit(&counters->state, memory_order_relaxed);
    uint32_t fault = atomic_load_explicit(&counters->fault, memory_order_relaxed);
    yyjson_mut_obj_add_str(doc, tier, "state", store_state_name((enum store_state)state));
    yyjson_mut_obj_add_str(doc, tier, "fault", store_fault_name((enum store_fault)fault));
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++) {
        yyjson_mut_obj_add_uint(doc, tier, figures[i].name, figures[i].value);
    }
    yyjson_mut_val *errors = yyjson_mut_obj_add_obj(doc, tier, "errors");
    for (unsigned i = 0; i < STORE_FAULTS; i++) {
        uint64_t count = counter_load(&counters->errors[i]);
        if (count > 0) {
            yyjson_mut_obj_add_uint(doc, errors, store_fault_name((enum store_fault)i), count);
        }
    }
}

char *cache_api_stats(const struct server *server, size_t *ret_bytes)
{
    yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
    yyjson_mut_val *root = yyjson_mut_obj(doc); /* of no document: NULL, as all that follows */
    yyjson_mut_doc_set_root(doc, root);
    yyjson_mut_obj_add_bool(doc, root, "enabled", server->cache != NULL);
    struct cache_figures figures;
    cache_figures_read(server, server->config->route_count, &figures);
    put_figures(doc, yyjson_mut_obj_add_obj(doc, root, "totals"), &figures);
    put_routes(doc, root, server);
    put_memory(doc, root, server);
    put_tier(doc, root, server);
    char *text = doc == NULL ? NULL : yyjson_mut_write(doc, YYJSON_WRITE_NEWLINE_AT_END, ret_bytes);
    yyjson_mut_doc_free(doc);
    return text;
}
