/* /api/cache: what the cache does, and removing from it.
 *
 *   GET /api/cache/stats                                   at once
 *   DELETE /api/cache?key= | prefix= | tag= | group= | route= | all=true
 *                                                          when all shards and the second tier are through */
#ifndef SLUICE_SERVER_CACHE_API_H
#define SLUICE_SERVER_CACHE_API_H

#include "server/own_api.h"

struct exchange;
struct server;

/* A removal that an exchange waits for. */
struct cache_deletion;

/* Whether the path is one of these, be there something or not. */
bool cache_api_is_path(struct bytes path);

/* For own_api_begin, whose client has been let in: queues the answer and gives its status, or begins an exchange and
 * gives 0. On failure the connection is to be closed. */
MUST_USE enum result cache_api_begin(struct conn *conn, const struct own_api_request *request, uint16_t *ret_status);

/* ---- for exchanges ---- */

/* Begins to remove, and answers the exchange when that is over. */
void cache_api_delete(struct exchange *exchange, struct cache_deletion *deletion);

/* The exchange has gone: what has begun is brought to its end without an answer. *Takes* it. */
void cache_api_leave(struct cache_deletion *deletion);

/* Frees what never came back, after the workers and the store have ended. */
void cache_api_fini(struct list_node *deletions);

/* *Gives* the text of /api/cache/stats; NULL when memory is out. */
char *cache_api_stats(const struct server *server, size_t *ret_bytes);

#endif
