/* Conditional requests at a shared cache: the client's conditions against a stored response, our own towards the
 * origin, and what its 304 means (RFC 9110 §13, RFC 9111 §4.3). Pure. */
#ifndef SLUICE_CACHE_CONDITIONAL_H
#define SLUICE_CACHE_CONDITIONAL_H

#include "cache/validator.h"
#include "http/http.h"

/* ---- the client's ---- */

enum conditional_answer {
    CONDITIONAL_SERVE,        /* the stored response as it is: no condition, or none that spares sending it */
    CONDITIONAL_NOT_MODIFIED, /* 304 */
    CONDITIONAL_FORWARD,      /* If-Match or If-Unmodified-Since: only the origin can say (RFC 9111 §4.3.2) */
};

/* Evaluates a GET's or HEAD's conditions against a stored response that may be used for it as it is (RFC 9110
 * §13.2.2). If-None-Match wins over If-Modified-Since; without Last-Modified the date of the response counts
 * (RFC 9111 §4.3.2). What is malformed is as if it were not there. A stored response that is no 2xx is served.
 * `now_ms` decides what a two-digit year means. If-Range is range.h's. */
enum conditional_answer conditional_evaluate(const struct http_head *request, const char *base,
                                             const struct cache_head *stored, int64_t now_ms);

/* Whether the client's request carries If-Match or If-Unmodified-Since: it has to go to the origin as it is. */
bool conditional_is_for_origin(const struct http_head *request, const char *base);

/* Whether it carries any condition of its own, If-Range included. */
bool conditional_is_conditional(const struct http_head *request, const char *base);

/* Which of the stored lines a 304 made from them carries (RFC 9110 §15.4.5): not those that describe a body it does
 * not have. A filter for lines_put_kept; `stored` is the struct cache_head the lines are of. */
bool conditional_keep_in_304(const void *stored, struct bytes name);

/* ---- ours ---- */

/* There is something to validate it by. */
static inline bool conditional_can_validate(const struct cache_head *stored)
{
    return stored->freshness.etag_bytes > 0 || stored->freshness.last_modified_ms >= 0;
}

/* Room that conditional_put_validators needs. */
size_t conditional_validators_bytes(const struct cache_head *stored);

/* Writes If-None-Match and If-Modified-Since lines with the stored response's validators, byte for byte as they came
 * (RFC 9111 §4.3.1); a Last-Modified that is no date is left out. Returns the end. */
char *conditional_put_validators(char *at, const struct cache_head *stored);

/* ---- the origin's 304 ---- */

enum conditional_304 {
    CONDITIONAL_304_ANSWER,          /* it validates the stored response: update it, answer from it (client's conditions
                                        evaluated anew) */
    CONDITIONAL_304_PASS_AND_UPDATE, /* it answers the client's own condition, and speaks of the stored response, too */
    CONDITIONAL_304_PASS,            /* it answers the client's own condition, and says nothing of what is stored */
    CONDITIONAL_304_REFETCH, /* it answers ours, but of another representation: drop what is stored and ask again
                                without conditions (RFC 9111 §4.3.4) */
};

/* `is_ours`: the request carried the stored response's validators instead of the client's conditions. `stored`: what
 * is kept under the key, may be NULL when the conditions were the client's. */
enum conditional_304 conditional_on_304(bool is_ours, const struct cache_head *stored, const struct http_head *response,
                                        const char *base, int64_t now_ms);

#endif
