/* What a response to an unsafe request makes unusable (RFC 9111 §4.4). Pure: heads in, paths out. */
#ifndef SLUICE_CACHE_INVALIDATION_H
#define SLUICE_CACHE_INVALIDATION_H

#include "base/bytes.h"
#include "http/http.h"

/* Where the request went: what its key was made of. */
struct invalidation_origin {
    struct bytes scheme;    /* "http" or "https" */
    struct bytes authority; /* host [":" port] */
    struct bytes path;      /* begins with '/' */
    struct bytes query;     /* .ptr NULL: none */
};

/* What is to be removed, of the same origin. */
struct invalidation_target {
    struct bytes path;  /* begins with '/', without dot segments */
    struct bytes query; /* .ptr NULL: none */
};

enum { INVALIDATION_TARGETS_MAX = 3 };

/* Whether a response with this status to this method invalidates at all: the method is not known to be safe (RFC 9110
 * §9.2.1), and the status is 2xx or 3xx. */
bool invalidation_applies(uint8_t method, uint16_t status);

/* Room that invalidation_targets needs. */
size_t invalidation_bytes_max(const struct invalidation_origin *origin, const struct http_head *response,
                              const char *base);

/* The request's own URI first, then those of Location and Content-Location that are of the same origin, so that a
 * server cannot remove what another's is; without repetition. Relative references are resolved (RFC 3986 §5.2),
 * fragments cut. What is written lies in `room`; the slices lie there or in the origin's. Returns how many. */
unsigned invalidation_targets(const struct invalidation_origin *origin, const struct http_head *response,
                              const char *base, char *room,
                              struct invalidation_target targets[INVALIDATION_TARGETS_MAX]);

/* Resolves one reference against the origin's URI. False: it is of another origin, or of no form. `room` has
 * origin->path.len + reference.len + 1 bytes; *ret_used: how many of them were taken. */
bool invalidation_resolve(const struct invalidation_origin *origin, struct bytes reference, char *room,
                          size_t *ret_used, struct invalidation_target *ret_target);

/* Same host without regard to case, same port, the scheme's own when none is given. */
bool invalidation_same_authority(struct bytes scheme, struct bytes a, struct bytes b);

#endif
