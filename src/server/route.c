#include "server/route.h"

#include <llhttp.h>
#include <stdlib.h>
#include <string.h>

#include "http/http.h"

static unsigned host_rank(const struct config_route *config)
{
    if (config->host.len == 0) {
        return 2;
    }
    return config->host.ptr[0] == '*' ? 1 : 0;
}

static int compare_size(size_t a, size_t b)
{
    return a < b ? 1 : a > b ? -1 : 0; /* the longer first */
}

static int compare_routes(const void *left, const void *right)
{
    const struct route *a = left;
    const struct route *b = right;
    int order = (int)host_rank(a->config) - (int)host_rank(b->config);
    if (order == 0) {
        order = compare_size(a->config->host.len, b->config->host.len);
    }
    if (order == 0) {
        order = (a->config->path.len == 0) - (b->config->path.len == 0);
    }
    if (order == 0) {
        order = compare_size(a->config->path_prefix.len, b->config->path_prefix.len);
    }
    if (order == 0) {
        order = (a->methods == 0) - (b->methods == 0);
    }
    return order != 0 ? order : (int)a->index - (int)b->index;
}

static uint64_t method_bits(const struct config_route *config)
{
    static const struct {
        const char *name;
        llhttp_method_t method;
    } known[] = {
#define METHOD(number, name, string) {#string, HTTP_##name},
        HTTP_METHOD_MAP(METHOD)
#undef METHOD
    };
    uint64_t bits = 0;
    for (unsigned i = 0; i < config->method_count; i++) {
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++) {
            if (bytes_equal(config->methods[i], bytes_from(known[k].name))) {
                bits |= UINT64_C(1) << known[k].method;
            }
        }
    }
    /* HEAD is GET without the body (RFC 9110 §9.3.2). */
    if (bits >> HTTP_GET & 1) {
        bits |= UINT64_C(1) << HTTP_HEAD;
    }
    return bits;
}

/* A status without content has no Content-Type and no Content-Length (RFC 9110 §8.6). */
static struct bytes make_fixed_head(struct arena *arena, const struct config_route *config)
{
    struct bytes reason = http_reason(config->status);
    struct bytes head = arena_format(arena, "HTTP/1.1 %u %.*s\r\n", config->status, BYTES_ARG(reason));
    bool has_body = config->status != 204 && config->status != 304;
    if (has_body && head.ptr != NULL) {
        head = arena_format(arena, "%.*sContent-Type: %.*s\r\nContent-Length: %zu\r\n", BYTES_ARG(head),
                            BYTES_ARG(config->content_type), config->body.len);
    }
    for (unsigned i = 0; i < config->header_count && head.ptr != NULL; i++) {
        head = arena_format(arena, "%.*s%.*s: %.*s\r\n", BYTES_ARG(head), BYTES_ARG(config->headers[i].name),
                            BYTES_ARG(config->headers[i].value));
    }
    return head;
}

static enum result make_cache_policy(struct arena *arena, struct route *route)
{
    const struct config_cache *config = &route->config->cache;
    struct storing_target *targets = arena_alloc(arena, config->target_count * sizeof(*targets) + 1);
    if (targets == NULL) {
        return RESULT_NO_MEMORY;
    }
    for (unsigned i = 0; i < config->target_count; i++) {
        bool is_surrogate = bytes_equal_nocase(config->targets[i], BYTES("surrogate-control"));
        targets[i] = (struct storing_target){
            .name = config->targets[i],
            .syntax = is_surrogate ? DIRECTIVES_SURROGATE : DIRECTIVES_DICTIONARY,
        };
    }
    route->policy = (struct storing_policy){
        .freshness =
            {
                .default_lifetime_ms = (int64_t)config->ttl_ms,
                .negative_lifetime_ms = config->negative_ttl_ms,
                .heuristic_lifetime_max_ms = (int64_t)config->heuristic_max_ms,
                .heuristic_permille = (uint16_t)(config->heuristic_percent * 10),
                .stale_while_revalidate_ms = (int64_t)config->stale_while_revalidate_ms,
                .stale_if_error_ms = (int64_t)config->stale_if_error_ms,
                .stale_despite_s_maxage = true,
            },
        .targets = targets,
        .target_count = config->target_count,
        .refuses_set_cookie = !config->set_cookie,
    };
    route->filling = (struct filling_route){
        .name = route->config->name,
        .index = (uint16_t)route->index,
        .cost = config->cost == CONFIG_COST_TOKENS    ? FILLING_COST_TOKENS
                : config->cost == CONFIG_COST_UNIFORM ? FILLING_COST_UNIFORM
                                                      : FILLING_COST_TIME,
        .keep_ms = (int64_t)config->keep_ms,
        .ttl_ms = (int64_t)config->ttl_ms,
        .tool_calls = config->tool_calls,
    };
    return RESULT_OK;
}

enum result route_table_init(struct route_table *table, const struct config *config)
{
    *table = (struct route_table){.count = config->route_count};
    arena_init(&table->arena, NULL, 0);
    table->routes = calloc(config->route_count, sizeof(*table->routes));
    if (table->routes == NULL) {
        return RESULT_NO_MEMORY;
    }
    for (unsigned i = 0; i < config->route_count; i++) {
        struct route *route = &table->routes[i];
        route->config = &config->routes[i];
        route->index = i;
        route->methods = method_bits(route->config);
        if (make_cache_policy(&table->arena, route) != RESULT_OK) {
            return RESULT_NO_MEMORY;
        }
        if (route->config->kind == CONFIG_ROUTE_RESPOND) {
            route->fixed_head = make_fixed_head(&table->arena, route->config);
            if (route->fixed_head.ptr == NULL) {
                return RESULT_NO_MEMORY;
            }
        }
    }
    qsort(table->routes, table->count, sizeof(*table->routes), compare_routes);
    for (unsigned i = 0; i < config->route_count; i++) {
        struct route *route = &table->routes[i];
        route->filling.policy = &route->policy; /* where it stays from now on */
    }
    return RESULT_OK;
}

void route_table_fini(struct route_table *table)
{
    free(table->routes);
    table->routes = NULL;
    arena_fini(&table->arena);
}

static bool host_fits(struct bytes pattern, struct bytes host)
{
    if (pattern.ptr[0] != '*') {
        return bytes_equal_nocase(pattern, host);
    }
    struct bytes suffix = {pattern.ptr + 1, pattern.len - 1}; /* ".example.com" */
    if (host.len <= suffix.len) {
        return false;
    }
    return bytes_equal_nocase(suffix, (struct bytes){host.ptr + host.len - suffix.len, suffix.len});
}

static bool path_fits(const struct config_route *config, struct bytes path)
{
    if (config->path.len > 0) {
        return bytes_equal(config->path, path);
    }
    struct bytes prefix = config->path_prefix;
    if (!bytes_starts_with(path, prefix)) {
        return false;
    }
    /* whole segments only: /v1 takes /v1 and /v1/x, not /v1x */
    return path.len == prefix.len || prefix.ptr[prefix.len - 1] == '/' || path.ptr[prefix.len] == '/';
}

const struct route *route_find(const struct route_table *table, const struct route_query *query, uint64_t *ret_allow)
{
    *ret_allow = 0;
    for (unsigned i = 0; i < table->count; i++) {
        const struct route *route = &table->routes[i];
        const struct config_route *config = route->config;
        if ((config->host.len > 0 && !host_fits(config->host, query->host)) || !path_fits(config, query->path)) {
            continue;
        }
        if (route->methods == 0 || (route->methods >> query->method & 1) != 0) {
            return route;
        }
        *ret_allow |= route->methods;
    }
    return NULL;
}
