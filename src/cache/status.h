/* Cache-Status (RFC 9211): says to whoever looks how the cache handled a request. */
#ifndef SLUICE_CACHE_STATUS_H
#define SLUICE_CACHE_STATUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

enum {
    CACHE_STATUS_DETAIL_BYTES = 64, /* of a detail are written at most; more is cut off */
    CACHE_STATUS_BYTES_MAX = 256,   /* of a member */
};

/* Why the request went on to the origin (§2.2). */
enum cache_status_forward {
    CACHE_STATUS_HIT, /* it did not */
    CACHE_STATUS_BYPASS,
    CACHE_STATUS_METHOD,
    CACHE_STATUS_URI_MISS,
    CACHE_STATUS_VARY_MISS,
    CACHE_STATUS_MISS,
    CACHE_STATUS_REQUEST,
    CACHE_STATUS_STALE,
    CACHE_STATUS_PARTIAL,
    CACHE_STATUS_FORWARD_COUNT,
};

struct cache_status {
    enum cache_status_forward forward;
    uint16_t forward_status; /* what the origin answered; 0: not known. Not written with a hit, as the next two */
    bool stored;
    bool collapsed; /* with another request (§2.6) */
    bool has_ttl;
    int64_t ttl_ms;      /* what is left of the freshness; negative when stale */
    struct bytes detail; /* .len 0: none. Bytes a structured field cannot hold are written as '?' */
};

/* Writes our member, e.g. `sluice; hit; ttl=30`, and returns its length. `out` has room for CACHE_STATUS_BYTES_MAX; no
 * NUL. Where the response has a Cache-Status already, ours goes behind it: the nearest to the client is last (§2). */
size_t cache_status_put(char *out, const struct cache_status *status);

/* The token for `fwd`, e.g. "uri-miss"; "hit" for a hit: for logs and metrics. */
const char *cache_status_name(enum cache_status_forward forward);

#endif
