/* Which route a request takes: the most specific one that fits its host, path and method.
 *
 * Order of specificity: an exact host before "*.suffix" before any; an exact path before a longer prefix
 * before a shorter one; then a route with methods before one for all; then the order in the file. The table is
 * sorted so once, and the first that fits is taken. */
#ifndef SLUICE_SERVER_ROUTE_H
#define SLUICE_SERVER_ROUTE_H

#include "proxy/filling.h"
#include "server/config.h"

struct route {
    const struct config_route *config;
    unsigned index;   /* in the configuration: for metrics */
    uint64_t methods; /* a bit per llhttp_method_t; 0: any */
    /* respond: the answer but for Date, X-Request-Id, Connection and the blank line */
    struct bytes fixed_head;
    /* http, inference: how its answers are cached */
    struct filling_route filling;
    struct storing_policy policy;
};

struct route_table {
    unsigned count;
    struct route *routes;
    struct arena arena;
};

/* *Keeps* config until route_table_fini. */
MUST_USE enum result route_table_init(struct route_table *table, const struct config *config);
void route_table_fini(struct route_table *table);

struct route_query {
    struct bytes host; /* without port, any letter case; empty: none */
    struct bytes path; /* normalised */
    uint8_t method;    /* llhttp_method_t */
};

/* The route, or NULL; then *ret_allow has the bits of the methods that the path would take (0: no such path). */
const struct route *route_find(const struct route_table *table, const struct route_query *query, uint64_t *ret_allow);

#endif
