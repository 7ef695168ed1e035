/* Of whose requests prefetch learns, and what its own look like. */
#ifndef SLUICE_SERVER_PREFETCHING_HEAD_H
#define SLUICE_SERVER_PREFETCHING_HEAD_H

#include "server/cache_key.h"

enum { PREFETCHING_HEAD_BYTES_MAX = 4096 };

/* Whether the request may be learned, and another be made after it: a GET whose client wants all of it, lets it be
 * stored, and shows no credentials but those that the key names. */
bool prefetching_may_learn(const struct config_cache *config, const struct cache_key_source *asked);

/* Writes the head of a request for `target`, such as the client that has made the request `asked` would send, to
 * `out`, which has room for PREFETCHING_HEAD_BYTES_MAX. False: it does not fit. */
bool prefetching_head_put(const struct config_cache *config, const struct cache_key_source *asked, struct bytes target,
                          char *out, struct bytes *ret_head);

#endif
