/* Names under which stored responses are removed together: cache groups (RFC 9875), and the tags that
 * content systems send: Surrogate-Key, Cache-Tag, Edge-Cache-Tag, xkey. Pure.
 *
 * They are kept as `struct cache_head` has them, each ended by '\n' and marked with where it comes from, so that a
 * group of one origin is not taken for another's, nor for a tag:
 *
 *   group:https://example.org:8443 scripts\n        origin in lower case, a blank, the name
 *   tag:product-17\n */
#ifndef SLUICE_CACHE_TAGS_H
#define SLUICE_CACHE_TAGS_H

#include "base/bytes.h"
#include "base/result.h"
#include "http/http.h"

enum {
    TAGS_COUNT_MAX = 256,      /* of one response, and RFC 9875 §2.1 asks for at least 128 */
    TAGS_NAME_BYTES_MAX = 256, /* and for names of at least 128 */
    TAGS_BYTES_MAX = 32768,
};

/* Writes the groups and tags of a response to `out` (room for out_bytes_max, of which at most TAGS_BYTES_MAX are used);
 * *ret_bytes: how many. Repeated names are written once. A Cache-Groups that is no list of strings is ignored as a
 * whole (RFC 8941 §4.2). RESULT_LIMIT: there are too many, or one is too long: the response could not be removed by all
 * its names and should not be stored. */
MUST_USE enum result tags_of_response(struct bytes scheme, struct bytes authority, const struct http_head *response,
                                      const char *base, char *out, size_t out_bytes_max, size_t *ret_bytes);

/* The same for Cache-Group-Invalidation: what is to be removed. The caller heeds it only in responses to unsafe
 * methods (RFC 9875 §3). Beyond the limits the rest is left out. */
size_t tags_to_invalidate(struct bytes scheme, struct bytes authority, const struct http_head *response,
                          const char *base, char *out, size_t out_bytes_max);

/* Takes the next name from the front of *tags, without its '\n'; false at the end. */
bool tags_next(struct bytes *tags, struct bytes *ret_name);

/* Whether the name is among them. */
bool tags_have(struct bytes tags, struct bytes name);

#endif
