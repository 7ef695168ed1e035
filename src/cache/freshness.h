/* How long a stored response may be used, and how (RFC 9111 §4, §5; RFC 5861; RFC 9213). Pure: fields and
 * timestamps in, decisions out. All times are milliseconds since 1970 (UTC), or lengths in milliseconds. */
#ifndef SLUICE_CACHE_FRESHNESS_H
#define SLUICE_CACHE_FRESHNESS_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/directives.h"

/* What is kept of a response's freshness with the response: computed once, when it was received. */
struct freshness {
    int64_t response_ms;               /* when it was received, or last validated */
    int64_t initial_age_ms;            /* its corrected age at that moment (§4.2.3) */
    int64_t lifetime_ms;               /* §4.2.1; 0: stale at once */
    int64_t stale_while_revalidate_ms; /* beyond the lifetime */
    int64_t stale_if_error_ms;         /* beyond the lifetime */
    int64_t date_ms;                   /* its Date, or when it was received */
    int64_t last_modified_ms;          /* -1: none, or not a date */
    bool must_revalidate; /* never used stale without asking: must-revalidate, proxy-revalidate, s-maxage */
    bool no_cache;        /* never used without asking */
    bool is_heuristic;    /* the lifetime is our guess (§4.2.2) */
    bool is_immutable;
    /* Where the validators stand in the stored field lines: offset and length of the value; length 0: none. The layer
     * that writes those lines sets them. */
    uint16_t etag_at, etag_bytes;
    uint16_t last_modified_at, last_modified_bytes;
};

/* What a route adds to what a response says of itself. */
struct freshness_rules {
    int64_t default_lifetime_ms;       /* successes and lasting redirects that say nothing; 0: stale at once */
    int64_t negative_lifetime_ms;      /* 404, 405, 410, 414 and 501 that say nothing; 0: stale at once */
    int64_t heuristic_lifetime_max_ms; /* bound of the guess by Last-Modified */
    uint16_t heuristic_permille;       /* of Date − Last-Modified (§4.2.2); 0: no such guess */
    int64_t stale_while_revalidate_ms; /* where the response does not say: these two */
    int64_t stale_if_error_ms;
    /* §5.2.2.10 lets s-maxage forbid stale use. Set: not where the same response grants stale-while-revalidate or
     * stale-if-error, which origins that write `s-maxage=…, stale-while-revalidate=…` mean. */
    bool stale_despite_s_maxage;
};

/* What a response's freshness follows from. */
struct freshness_source {
    const struct http_head *head; /* the response's */
    const char *base;
    const struct directives_response *directives; /* which hold for us */
    bool ignores_expires;                         /* they come from a targeted field (RFC 9213 §2.2) */
    int64_t request_ms;                           /* when the request was sent */
    int64_t response_ms;                          /* when the head had been read */
};

/* Computes lifetime and age (§4.2). *Borrows* everything. Fills all of *ret_freshness but the validators' places. */
void freshness_compute(const struct freshness_source *source, const struct freshness_rules *rules,
                       struct freshness *ret_freshness);

/* Whether a status is cacheable by default (RFC 9110 §15.1): without word from the origin. */
bool freshness_status_is_heuristic(unsigned status);

/* Its age at `now_ms` (§4.2.3), never negative. */
static inline int64_t freshness_age_ms(const struct freshness *freshness, int64_t now_ms)
{
    int64_t resident_ms = now_ms - freshness->response_ms;
    return freshness->initial_age_ms + (resident_ms > 0 ? resident_ms : 0);
}

/* What Age says: whole seconds, at most 2^31. */
static inline uint32_t freshness_age_s(const struct freshness *freshness, int64_t now_ms)
{
    int64_t age_s = freshness_age_ms(freshness, now_ms) / 1000;
    return age_s < (int64_t)DIRECTIVES_SECONDS_MAX ? (uint32_t)age_s : DIRECTIVES_SECONDS_MAX;
}

/* How long it is still fresh; negative: how long it has been stale. */
static inline int64_t freshness_ttl_ms(const struct freshness *freshness, int64_t now_ms)
{
    return freshness->lifetime_ms - freshness_age_ms(freshness, now_ms);
}

/* How a stored response may be used for a request. */
enum freshness_use {
    FRESHNESS_FRESH,        /* as it is */
    FRESHNESS_STALE,        /* as it is, though stale: the client said so (max-stale) */
    FRESHNESS_STALE_BEHIND, /* as it is, while it is validated (stale-while-revalidate) */
    FRESHNESS_VALIDATE,     /* after the origin was asked; when that fails see freshness_allows_on_error */
    FRESHNESS_UNAVAILABLE,  /* not, and the origin must not be asked (only-if-cached): 504 */
};

/* Why it must be validated: the `fwd` of Cache-Status (RFC 9211 §2.2). */
enum freshness_why {
    FRESHNESS_WHY_NOT,
    FRESHNESS_WHY_STALE,   /* the response's own doing, no-cache included */
    FRESHNESS_WHY_REQUEST, /* fresh enough, but not for this request */
};

/* Decides for a response that was selected for the request (§4). *ret_why (NULL: not wanted) is set for every use.
 * Storing the request's no-store forbids is not this function's affair: what is stored already may be used (§5.2.1.5).
 * A request with only-if-cached for which nothing is stored is for the caller to answer (504). */
enum freshness_use freshness_decide(const struct freshness *freshness, const struct directives_request *request,
                                    int64_t now_ms, enum freshness_why *ret_why);

/* Whether a status says that the origin fails: 500, 502, 503 or 504 (RFC 5861 §4). */
bool freshness_is_failure(unsigned status);

/* Whether it may be used after validating it failed: no connection, no answer in time, or an answer that says so. */
bool freshness_allows_on_error(const struct freshness *freshness, const struct directives_request *request,
                               int64_t now_ms);

/* Whether it may be used, however stale, because the origin cannot be reached (RFC 9111 §4.2.4). What an origin
 * answers, an error included, is none of that. */
bool freshness_allows_disconnected(const struct freshness *freshness, const struct directives_request *request);

#endif
