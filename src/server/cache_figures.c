#include "server/cache_figures.h"

#include <string.h>

#include "api/filling_inference.h"
#include "api/inference_reason.h"
#include "base/check.h"
#include "base/counter.h"
#include "server/cached.h"
#include "server/server.h"

_Static_assert(FILLING_REASON_RULES + STORING_REASON_COUNT <= FILLING_REASONS_MAX &&
                   FILLING_REASON_RULES + INFERENCE_REASONS <= FILLING_REASONS_MAX,
               "each reason has a counter");

static void add_route(struct cache_figures *sum, const struct cached_counters *counters)
{
    sum->fresh_hits += counter_load(&counters->fresh_hits);
    sum->stale_hits += counter_load(&counters->stale_hits);
    sum->hits = sum->fresh_hits + sum->stale_hits;
    sum->misses += counter_load(&counters->misses);
    sum->joins += counter_load(&counters->joins);
    sum->bypasses += counter_load(&counters->bypasses);
    sum->saved_ns += counter_load(&counters->saved_ns) + counter_load(&counters->filling.tier_saved_ns);
    sum->saved_tokens += counter_load(&counters->saved_tokens) + counter_load(&counters->filling.tier_saved_tokens);
    sum->stored += counter_load(&counters->filling.stored);
    sum->updated += counter_load(&counters->filling.updated);
    sum->tier_hits += counter_load(&counters->filling.tier_hits);
    for (unsigned i = 0; i < FILLING_REASONS_MAX; i++) {
        sum->not_stored[i] += counter_load(&counters->filling.not_stored[i]);
    }
}

void cache_figures_read(const struct server *server, unsigned route, struct cache_figures *ret_figures)
{
    unsigned count = server->config->route_count;
    memset(ret_figures, 0, sizeof(*ret_figures));
    for (unsigned w = 0; w < server->worker_count; w++) {
        const struct cached_counters *counters = server->workers[w].cached;
        for (unsigned r = 0; r < count; r++) {
            if (r == route || route == count) {
                add_route(ret_figures, &counters[r]);
            }
        }
    }
    if (route == count) {
        memset(ret_figures->not_stored, 0, sizeof(ret_figures->not_stored));
    }
}

double cache_figures_hit_rate(const struct cache_figures *figures)
{
    uint64_t asked = figures->hits + figures->joins + figures->misses;
    return asked == 0 ? 0 : (double)(figures->hits + figures->joins) / (double)asked;
}

void cache_figures_read_prefetch(const struct server *server, unsigned route, struct prefetching_figures *ret_figures)
{
    *ret_figures = (struct prefetching_figures){0};
    for (unsigned w = 0; w < server->worker_count; w++) {
        struct prefetching_figures figures;
        prefetching_figures(server->workers[w].prefetching, route, &figures);
        ret_figures->begun += figures.begun;
        ret_figures->useful += figures.useful;
        ret_figures->wasted += figures.wasted;
        ret_figures->held_back += figures.held_back;
        ret_figures->is_stopped += figures.is_stopped;
    }
}

const char *cache_figures_reason(const struct config_route *route, unsigned reason)
{
    bool is_http = route->kind == CONFIG_ROUTE_HTTP;
    unsigned count = FILLING_REASON_RULES + (is_http ? (unsigned)STORING_REASON_COUNT : (unsigned)INFERENCE_REASONS);
    /* The two that say that it was stored are no reasons. */
    if (reason == FILLING_OK || reason == FILLING_REASON_RULES || reason >= count) {
        return NULL;
    }
    return filling_reason_name(is_http ? &filling_http : &filling_inference, reason);
}

void cache_figures_read_memory(const struct server *server, struct cache_figures_memory *ret_memory)
{
    memset(ret_memory, 0, sizeof(*ret_memory));
    if (server->cache == NULL) {
        return;
    }
    const struct cache_options *options = cache_options_of(server->cache);
    ret_memory->budget_bytes = cache_bytes_max(server->cache);
    ret_memory->entries_max = options->entries_max;
    for (unsigned i = 0; i < cache_shard_count(server->cache); i++) {
        const struct shard_counters *counters = cache_shard_counters(server->cache, i);
        if (counters == NULL) {
            continue;
        }
        ret_memory->entries += counter_load(&counters->entries);
        ret_memory->charged_bytes += counter_load(&counters->charged_bytes);
        ret_memory->mapped_bytes += counter_load(&counters->mapped_bytes);
        ret_memory->retired_bytes += counter_load(&counters->retired_bytes);
        ret_memory->stores += counter_load(&counters->stores);
        ret_memory->updates += counter_load(&counters->updates);
        ret_memory->no_room += counter_load(&counters->no_room);
        ret_memory->refused += counter_load(&counters->refused);
        for (unsigned cause = 0; cause < SHARD_CAUSES; cause++) {
            ret_memory->removed[cause] += counter_load(&counters->removed[cause]);
        }
    }
}

const char *cache_figures_cause(enum shard_cause cause)
{
    static const char *const names[] = {
        [SHARD_EVICTED] = "evicted", [SHARD_EXPIRED] = "expired",         [SHARD_REPLACED] = "replaced",
        [SHARD_PURGED] = "purged",   [SHARD_INVALIDATED] = "invalidated",
    };
    _Static_assert(ARRAY_COUNT(names) == SHARD_CAUSES, "each cause has a name");
    return names[cause];
}
