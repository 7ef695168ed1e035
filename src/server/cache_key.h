/* The primary key of a request on an `http` route: what two requests must have in common to get one answer.
 *
 *   http://example.org/path?query            the parts that the route's `key` names, host, path and query by default
 *   http://example.org/path?query\nheader:accept-language=de\ncookie:plan=pro
 *
 * It is text, so that what stands in a purge's `key` or `prefix` can be read off a URL. Where a request has a header, a
 * cookie or an argument several times, all its values are in the key: which of them the origin goes by is its own. */
#ifndef SLUICE_SERVER_CACHE_KEY_H
#define SLUICE_SERVER_CACHE_KEY_H

#include "http/http.h"
#include "server/config.h"

struct cache_key_source {
    struct bytes method;
    struct bytes authority;
    struct bytes path;  /* by cache_key_path */
    struct bytes query; /* .ptr NULL: none */
    const struct http_head *head;
    const char *base;
};

/* How the key has a target's path, of which `normal` is the normalised form: as that, for two spellings of one URI (RFC
 * 9110 §4.2.3) have one answer; but with empty segments where the origin gets them, for there /a//b need not be /a/b.
 */
struct bytes cache_key_path(struct bytes path, struct bytes normal);

/* Writes the key to `out`; RESULT_LIMIT: it needs more than bytes_max. */
MUST_USE enum result cache_key_put(const struct config_cache *config, const struct cache_key_source *source, char *out,
                                   size_t bytes_max, size_t *ret_bytes);

/* The same without what headers, cookies, arguments and the method add: the key itself where there is no such part,
 * else what stands before their first '\n'. */
MUST_USE enum result cache_key_put_url(const struct config_cache *config, const struct cache_key_source *source,
                                       char *out, size_t bytes_max, size_t *ret_bytes);

/* Whether the key is made of the URL alone, so that an invalidation by URL names it exactly. */
bool cache_key_is_url(const struct config_cache *config);

/* Whether the host is part of it. */
bool cache_key_has_host(const struct config_cache *config);

/* The first value of a header, cookie or argument in the request; .ptr NULL: it is not there. */
struct bytes cache_key_part_value(const struct config_part *part, const struct cache_key_source *source);

/* Whether one of the route's `bypass` parts is in the request, and neither empty nor "0". */
bool cache_key_is_bypassed(const struct config_cache *config, const struct cache_key_source *source);

#endif
