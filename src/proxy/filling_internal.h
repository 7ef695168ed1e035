/* What the files of a filling share. */
#ifndef SLUICE_PROXY_FILLING_INTERNAL_H
#define SLUICE_PROXY_FILLING_INTERNAL_H

#include "cache/range.h"
#include "proxy/filling.h"

/* ---- filling.c ---- */

struct ring *filling_ring(const struct filling *filling);

/* Asks the origin. */
void filling_fetch(struct filling *filling);

/* Whoever waits finds what has just been made fresh, or asks anew. */
void filling_look_again(struct filling *filling);

/* All is settled: frees it. */
void filling_finish(struct filling *filling);

/* ---- filling_tier.c ---- */

/* Looks in the second tier, and goes on from what is there. False: it cannot be asked. */
MUST_USE bool filling_look_in_tier(struct filling *filling);

/* What has just been stored in memory goes there, too, when it is worth it; if not, what is there goes. */
void filling_write_behind(struct filling *filling);

/* ---- filling_http.c ---- */

/* What lasts from the head to the end. */
struct http_own {
    struct storing_verdict verdict;
    struct range_partial partial; /* of a 206: what it holds */
    int64_t combines_ms;          /* response_ms of the stored part that it goes together with; 0: none */
};

void filling_http_judge(struct filling *filling, const struct http_head *head, const char *base,
                        struct storing_verdict *verdict);

/* Takes everything that is kept of an answer whose head this is. False: it cannot be kept. */
MUST_USE bool filling_http_take(struct filling *filling, const struct http_head *head, const char *base);

/* Puts the answer's lines into the draft, whose freshness is known: those that the verdict keeps, and Date. */
MUST_USE bool filling_http_take_lines(struct filling *filling, const struct http_head *head, const char *base);

/* Puts the names by which the answer is removed into the draft. False: memory is out, or they are too many. */
MUST_USE bool filling_http_take_tags(struct filling *filling, const struct http_head *head, const char *base);

/* When the draft is of no use any more: not even stale, not even to be asked about, nor while its origin is away. */
int64_t filling_http_remove_at_ms(const struct filling *filling);

/* What was stored is out of date, and what has come is not stored in its place. */
void filling_http_forget(struct filling *filling);

/* ---- filling_freshen.c ---- */

/* The stored head with this one's fields, parsed as if it had come so, with `status`. *Gives* the parser and, in
 * *ret_text, its bytes. NULL: memory is out, or it has become too large. */
struct http_parser *filling_http_merge(const struct cache_head *stored, uint16_t status, const struct http_head *head,
                                       const char *base, const struct storing_verdict *verdict, char **ret_text);

/* The origin's 304 to a question of ours. */
void filling_freshen_on_304(struct filling *filling, const struct http_head *head, const char *base);

/* What an answer to HEAD says of the answer that is stored for GET (RFC 9111 §4.3.5). */
void filling_freshen_on_head(struct filling *filling, const struct http_head *head, const char *base);

/* ---- filling_partial.c ---- */

/* A 206 to a range that the client has asked for. */
void filling_partial_on_head(struct filling *filling, const struct http_head *head, const char *base);

/* It is there. */
void filling_partial_on_end(struct filling *filling);

/* The answer to what we have asked to complete a stored part. False: it is as any other answer. */
bool filling_partial_complete(struct filling *filling, const struct http_head *head, const char *base);

/* Appends bytes [offset, offset + bytes) of a chain of chunks, of which the first `skip` bytes are none of it. */
MUST_USE enum result filling_partial_append(struct entry *entry, const struct chunk *chunk, uint64_t skip,
                                            uint64_t offset, uint64_t bytes);

#endif
