/* Validators: entity tags and modification dates, and when two of them are the same (RFC 9110 §8.8). Pure. */
#ifndef SLUICE_CACHE_VALIDATOR_H
#define SLUICE_CACHE_VALIDATOR_H

#include "base/bytes.h"
#include "cache/object.h"
#include "http/http.h"

/* What a message says of its representation. */
struct validators {
    struct bytes etag;        /* as it stands, W/ included; .len 0: none */
    int64_t last_modified_ms; /* -1: none, or not a date */
    int64_t date_ms;          /* -1: none, or not a date */
};

/* The values as they were stored: empty when there is none. They lie in the head. */
static inline struct bytes validator_etag(const struct cache_head *stored)
{
    return (struct bytes){stored->data + stored->freshness.etag_at, stored->freshness.etag_bytes};
}

static inline struct bytes validator_last_modified(const struct cache_head *stored)
{
    return (struct bytes){stored->data + stored->freshness.last_modified_at, stored->freshness.last_modified_bytes};
}

/* A stored response's validators; they lie in the head. A response that came without Date counts as dated when it was
 * received. */
struct validators validators_of_stored(const struct cache_head *stored);

/* A parsed response's. `now_ms` decides what a two-digit year means. */
struct validators validators_of_response(const struct http_head *response, const char *base, int64_t now_ms);

/* Whether a tag is a strong validator: quoted, without W/. Malformed tags are not. */
bool etag_is_strong(struct bytes etag);

/* Both are strong, and the same (§8.8.3.2). */
bool etag_equal_strong(struct bytes a, struct bytes b);

/* The same but for W/ (§8.8.3.2). Empty tags equal nothing. A tag that a server sent without quotes equals itself. */
bool etag_equal_weak(struct bytes a, struct bytes b);

/* Takes the next tag from a list such as If-None-Match has; commas within quotes belong to the tag, and a backslash
 * escapes nothing there (§8.8.3). False at the end. */
bool etag_next(struct bytes *list, struct bytes *ret_etag);

/* Whether the modification date is a strong validator: the response was made at least a second after (§8.8.2.2). */
bool validators_date_is_strong(const struct validators *validators);

/* Both speak of the same bytes: they share a strong validator, the tag when both have one, else the date (RFC 9111
 * §3.4, §4.3.4). */
bool validators_equal_strong(const struct validators *a, const struct validators *b);

#endif
