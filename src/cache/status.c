#include "cache/status.h"

/* The longest member: 2 bytes for each of the detail's, and less than 128 for all else. */
_Static_assert(2 * CACHE_STATUS_DETAIL_BYTES + 128 <= CACHE_STATUS_BYTES_MAX, "a member fits");

const char *cache_status_name(enum cache_status_forward forward)
{
    static const char *const names[CACHE_STATUS_FORWARD_COUNT] = {
        [CACHE_STATUS_HIT] = "hit",
        [CACHE_STATUS_BYPASS] = "bypass",
        [CACHE_STATUS_METHOD] = "method",
        [CACHE_STATUS_URI_MISS] = "uri-miss",
        [CACHE_STATUS_VARY_MISS] = "vary-miss",
        [CACHE_STATUS_MISS] = "miss",
        [CACHE_STATUS_REQUEST] = "request",
        [CACHE_STATUS_STALE] = "stale",
        [CACHE_STATUS_PARTIAL] = "partial",
    };
    return names[forward];
}

/* Whole seconds, rounded down, so that what has just become stale is not said to have 0 left; within the 15 digits of
 * an integer (RFC 8941 §3.3.1). */
static char *put_ttl(char *at, int64_t ttl_ms)
{
    const int64_t most_s = INT64_C(999999999999999);
    int64_t ttl_s = ttl_ms / 1000 - (ttl_ms % 1000 < 0);
    ttl_s = ttl_s > most_s ? most_s : ttl_s < -most_s ? -most_s : ttl_s;
    at = bytes_put(at, BYTES("; ttl="));
    if (ttl_s < 0) {
        *at++ = '-';
    }
    return at + bytes_put_u64(at, ttl_s < 0 ? (uint64_t)-ttl_s : (uint64_t)ttl_s);
}

/* A string (RFC 8941 §3.3.3). */
static char *put_string(char *at, struct bytes text, size_t bytes_max)
{
    *at++ = '"';
    for (size_t i = 0; i < text.len && i < bytes_max; i++) {
        char c = text.ptr[i];
        if (c == '"' || c == '\\') {
            *at++ = '\\';
        }
        *at++ = c >= ' ' && c <= '~' ? c : '?';
    }
    *at++ = '"';
    return at;
}

static char *put_forward(char *at, const struct cache_status *status)
{
    at = bytes_put(at, BYTES("; fwd="));
    at = bytes_put(at, bytes_from(cache_status_name(status->forward)));
    if (status->forward_status != 0) {
        at = bytes_put(at, BYTES("; fwd-status="));
        at += bytes_put_u64(at, status->forward_status);
    }
    if (status->stored) {
        at = bytes_put(at, BYTES("; stored"));
    }
    if (status->collapsed) {
        at = bytes_put(at, BYTES("; collapsed"));
    }
    return at;
}

size_t cache_status_put(char *out, const struct cache_status *status)
{
    char *at = bytes_put(out, BYTES("sluice"));
    at = status->forward == CACHE_STATUS_HIT ? bytes_put(at, BYTES("; hit")) : put_forward(at, status);
    if (status->has_ttl) {
        at = put_ttl(at, status->ttl_ms);
    }
    if (status->detail.len > 0) {
        at = put_string(bytes_put(at, BYTES("; detail=")), status->detail, CACHE_STATUS_DETAIL_BYTES);
    }
    return (size_t)(at - out);
}
