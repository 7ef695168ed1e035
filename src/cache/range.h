/* Byte ranges (RFC 9110 §14, RFC 9111 §3.3, §3.4): what a Range asks of a representation, how it is answered from
 * stored bytes, and how partial responses are kept and put together. Pure.
 *
 *   Range ─ range_resolve ─▶ WHOLE          200
 *                            SATISFIABLE    206: one range: Content-Range and those bytes
 *                                                several:   part head, bytes, part head, bytes, …, end
 *                            UNSATISFIABLE  416: Content-Range: bytes * / length
 *
 * Positions are offsets from 0, `last` is the last byte's, and lengths fit in 63 bits. */
#ifndef SLUICE_CACHE_RANGE_H
#define SLUICE_CACHE_RANGE_H

#include "cache/validator.h"

enum {
    RANGE_COUNT_MAX = 16, /* more in one Range, and the whole is sent (RFC 9110 §14.2 allows it, §17.15 says why) */
    RANGE_LINE_BYTES_MAX = 96,     /* room for a Content-Range or Range line of ours */
    RANGE_BOUNDARY_BYTES_MAX = 70, /* RFC 2046 §5.1.1 */
};

struct range {
    uint64_t first;
    uint64_t last; /* >= first */
};

static inline uint64_t range_bytes(struct range range)
{
    return range.last - range.first + 1;
}

/* ---- what is asked ---- */

enum range_outcome { RANGE_WHOLE, RANGE_SATISFIABLE, RANGE_UNSATISFIABLE };

struct range_set {
    unsigned count; /* at least 1 */
    struct range ranges[RANGE_COUNT_MAX];
};

/* What the value of a Range field asks of a representation of `complete_bytes`. Overlapping and adjacent ranges are put
 * together where the first of them stands; unsatisfiable ones among others are left out (§15.3.7). WHOLE for another
 * unit, for anything malformed, for more than RANGE_COUNT_MAX ranges, and when `value` is empty: such a Range is
 * ignored. *ret_set is written when SATISFIABLE. Only a GET's Range counts: that is the caller's to see to. */
enum range_outcome range_resolve(struct bytes value, uint64_t complete_bytes, struct range_set *ret_set);

/* The Range of a request as range_resolve wants it: empty when there is none, or more than one. */
struct bytes range_of_request(const struct http_head *request, const char *base);

/* Whether If-Range lets a Range count: there is none, or it is the stored response's strong tag, or exactly its
 * Last-Modified and that is strong (§13.1.5). False: the Range is ignored. */
bool range_if_range_holds(const struct http_head *request, const char *base, const struct validators *stored,
                          int64_t now_ms);

/* ---- how it is answered ---- */

/* Writes `Content-Range: bytes 0-4/10\r\n` (at most RANGE_LINE_BYTES_MAX) and returns the end. */
char *range_put_content_range(char *at, struct range range, uint64_t complete_bytes);

/* Writes `Content-Range: bytes *`/`10\r\n`, of a 416. */
char *range_put_unsatisfied(char *at, uint64_t complete_bytes);

/* Which of the stored lines a 206 made from them carries: not Content-Range, which is written anew, and when it
 * has several parts, not Content-Type. A filter for lines_put_kept; `context` points to a bool: several parts. */
bool range_keep_in_206(const void *is_multipart, struct bytes name);

/* A response of several parts. The caller chooses a boundary that does not occur in the body: a hash or random bits,
 * in characters that need no quotes. */
struct range_multipart {
    const struct range_set *set; /* borrowed */
    uint64_t complete_bytes;
    struct bytes content_type; /* of the stored response; .len 0: none */
    struct bytes boundary;
};

/* Writes `Content-Type: multipart/byteranges; boundary=…\r\n`. */
char *range_put_multipart_type(char *at, struct bytes boundary);

/* What goes before the bytes of part `index`, and behind the last part; *_bytes say how much that is. */
size_t range_part_head_bytes(const struct range_multipart *multipart, unsigned index);
char *range_put_part_head(char *at, const struct range_multipart *multipart, unsigned index);
size_t range_multipart_end_bytes(const struct range_multipart *multipart);
char *range_put_multipart_end(char *at, const struct range_multipart *multipart);

/* The length of the whole body: heads, bytes, end. */
uint64_t range_multipart_bytes(const struct range_multipart *multipart);

/* ---- partial responses, stored ---- */

/* One run of a representation whose length is known. */
struct range_partial {
    struct range range; /* what is there */
    uint64_t complete_bytes;
};

/* Reads a Content-Range value that names a range and a complete length; false for anything else: another unit,
 * `bytes *`/`10`, `bytes 0-4/` with a length of `*`, last before first or not below the length. */
bool range_parse_content_range(struct bytes value, struct range_partial *ret_partial);

/* Whether a 206 is of a form that can be kept (RFC 9111 §3.3): one range of a known length, not several parts, and a
 * declared body length that fits (range_partial_settle). */
bool range_may_store_partial(const struct http_head *response, const char *base, struct range_partial *ret_partial);

/* The body has ended after `body_bytes`, by its length or its last chunk (`is_delimited`) or by the connection's end:
 * false when these are not the bytes that Content-Range announced, and the response must not be kept.
 *
 * A delimited body that is one byte short of a range that reaches to the representation's end, but does not begin at
 * its start, comes from a server that counts the end as exclusive (the public suite has such): it is taken at its word,
 * the representation ends where the body did, and *partial is corrected. It combines with nothing that says otherwise.
 * Store range_put_content_range's line, not the one received. */
bool range_partial_settle(struct range_partial *partial, uint64_t body_bytes, bool is_delimited);

/* Reads it back from the lines of a stored 206. */
bool range_partial_of_stored(struct bytes lines, struct range_partial *ret_partial);

/* It is the whole. */
static inline bool range_partial_is_complete(const struct range_partial *partial)
{
    return partial->range.first == 0 && range_bytes(partial->range) == partial->complete_bytes;
}

/* Every range of the set lies in what is stored, so that it can be answered (RFC 9111 §3.3). */
bool range_partial_covers(const struct range_partial *partial, const struct range_set *set);

/* ---- completing ---- */

/* What to ask the origin for, so that what is stored and the answer together hold `wanted`, in one run. False: nothing
 * that can be asked in one range would do (or all is there): forward what the client asked. To fill up to the whole,
 * want {0, complete_bytes - 1}. */
bool range_missing(const struct range_partial *stored, struct range wanted, struct range *ret_ask);

/* Writes `Range: bytes=5-\r\n` (open when it reaches to the end) or `Range: bytes=5-7\r\n`. */
char *range_put_request(char *at, struct range ask, uint64_t complete_bytes);

/* Whether a 206 could be combined with what is stored, so that it makes sense to ask for a part: it has a strong
 * validator. Without one a 206 has to be thrown away and the whole asked for. */
bool range_can_combine(const struct validators *stored);

/* Room for, and writing of, an If-Range line with the stored strong tag or strong date (as stored, byte for byte). It
 * makes the origin send the whole when the representation has changed. Nothing is written when there is none. */
size_t range_if_range_bytes(const struct cache_head *stored);
char *range_put_if_range(char *at, const struct cache_head *stored);

/* ---- combining ---- */

struct range_piece {
    bool is_new;     /* from the response just received, else from what is stored */
    uint64_t offset; /* into that body's bytes */
    uint64_t bytes;
};

/* The pieces that make one run, in order. */
struct range_join {
    struct range_partial partial; /* what they make */
    unsigned count;               /* 1 to 3 */
    struct range_piece pieces[3];
};

/* Puts a stored partial and a received one together. False when they do not touch, or speak of different lengths, or
 * the validators do not show that they are of the same representation (RFC 9111 §3.4). The new response's fields go
 * into the stored lines as a 304's would (update.h). A `stored` that is complete is {{0, n - 1}, n}. */
bool range_combine(const struct range_partial *stored, const struct validators *stored_validators,
                   const struct range_partial *received, const struct validators *received_validators,
                   struct range_join *ret_join);

#endif
