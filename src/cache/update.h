/* Freshening what is stored by a 304, a HEAD's 200 or a further 206 (RFC 9111 §3.2, §4.3.4, §4.3.5). Pure. */
#ifndef SLUICE_CACHE_UPDATE_H
#define SLUICE_CACHE_UPDATE_H

#include "cache/storing.h"
#include "cache/validator.h"

/* Whether a 304 speaks of this stored response (§4.3.4): a strong tag must be its tag; else a weak tag, else the date
 * must agree. One without any validator speaks of it when `is_ours`: the request carried this response's validators
 * and no others. Of several candidates the caller takes the one with the latest Date. */
bool update_selects(const struct validators *stored, const struct validators *received, bool is_ours);

enum update_by_head {
    UPDATE_BY_HEAD_FRESHENS, /* update the stored response with its fields */
    UPDATE_BY_HEAD_OUTDATES, /* the stored response is to be validated before it is used again */
};

/* What a 200 to HEAD says of the stored response to GET (§4.3.5): outdated when a validator or Content-Length that it
 * carries differs. `stored_bytes`: the length of the stored body. */
enum update_by_head update_by_head(const struct validators *stored, uint64_t stored_bytes,
                                   const struct http_head *response, const char *base, int64_t now_ms);

/* Room that update_put_lines needs at most. */
size_t update_lines_bytes_max(struct bytes stored_lines, const struct http_head *response);

/* Writes the stored lines with those of `response` in the place of all that have the same name (§3.2), and returns the
 * end. Left as stored: Content-Length, Content-Type, Content-Encoding, Content-Range, which belong to the stored bytes.
 * Not taken over: what storing_keeps_field refuses by the verdict on this very response (of a 304 the verdict is not to
 * store it, but it says which fields are named). What stood there under a name that is not taken over stays, but for
 * Age: the age is counted anew; and for Date, so that a response without it is dated when it was received (RFC 9110
 * §6.6.1). The validators' places are the caller's to find anew. */
char *update_put_lines(char *at, struct bytes stored_lines, const struct http_head *response, const char *base,
                       const struct storing_verdict *verdict);

#endif
