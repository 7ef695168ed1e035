/* How long a stored response may be used, and how (RFC 9111 §4, §5; RFC 5861; RFC 9213). Pure: fields and
 * timestamps in, decisions out. All times are milliseconds since 1970 (UTC), or lengths in milliseconds. */
#ifndef SLUICE_CACHE_FRESHNESS_H
#define SLUICE_CACHE_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>

/* What is kept of a response's freshness with the response: computed once, when it was received. */
struct freshness {
    int64_t response_ms;               /* when it was received, or last validated */
    int64_t initial_age_ms;            /* its corrected age at that moment (§4.2.3) */
    int64_t lifetime_ms;               /* §4.2.1; 0: stale at once */
    int64_t stale_while_revalidate_ms; /* beyond the lifetime */
    int64_t stale_if_error_ms;         /* beyond the lifetime */
    int64_t date_ms;                   /* its Date, or when it was received */
    int64_t last_modified_ms;          /* -1: none, or not a date */
    bool must_revalidate;              /* never used stale without asking: must-revalidate, proxy-revalidate, s-maxage */
    bool no_cache;                     /* never used without asking */
    bool is_heuristic;                 /* the lifetime is our guess (§4.2.2) */
    bool is_immutable;
    /* Where the validators stand in the stored field lines: offset and length of the value; length 0: none. */
    uint16_t etag_at, etag_bytes;
    uint16_t last_modified_at, last_modified_bytes;
};

/* Its age at `now_ms` (§4.2.3), never negative. */
static inline int64_t freshness_age_ms(const struct freshness *freshness, int64_t now_ms)
{
    int64_t resident_ms = now_ms - freshness->response_ms;
    return freshness->initial_age_ms + (resident_ms > 0 ? resident_ms : 0);
}

#endif
