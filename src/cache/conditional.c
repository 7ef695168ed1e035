#include "cache/conditional.h"

#include "base/check.h"
#include "cache/lines.h"
#include "cache/update.h"
#include "http/date.h"

static const struct bytes if_none_match = {"If-None-Match", 13};
static const struct bytes if_modified_since = {"If-Modified-Since", 17};

/* ---- the client's ---- */

bool conditional_is_for_origin(const struct http_head *request, const char *base)
{
    return http_head_value(request, base, HTTP_FIELD_IF_MATCH).ptr != NULL ||
           http_head_value(request, base, HTTP_FIELD_IF_UNMODIFIED_SINCE).ptr != NULL;
}

bool conditional_is_conditional(const struct http_head *request, const char *base)
{
    return http_head_value(request, base, HTTP_FIELD_IF_NONE_MATCH).ptr != NULL ||
           http_head_value(request, base, HTTP_FIELD_IF_MODIFIED_SINCE).ptr != NULL ||
           http_head_value(request, base, HTTP_FIELD_IF_RANGE).ptr != NULL || conditional_is_for_origin(request, base);
}

/* RFC 9110 §13.1.2. `*` is a wild card only as the whole of the field: any stored response matches. */
static bool none_match_is_false(const struct http_head *request, const char *base, struct bytes etag, bool *ret_present)
{
    struct head_values values = head_values(request, base, if_none_match);
    struct bytes value;
    struct bytes candidate;
    *ret_present = false;
    while (head_next_value(&values, &value)) {
        *ret_present = true;
        if (bytes_equal(value, BYTES("*"))) {
            return true;
        }
        while (etag_next(&value, &candidate)) {
            if (etag_equal_weak(candidate, etag)) {
                return true;
            }
        }
    }
    return false;
}

/* RFC 9110 §13.1.3: ignored unless it is one valid date. */
static bool modified_since_is_false(const struct http_head *request, const char *base,
                                    const struct freshness *freshness, int64_t now_ms)
{
    struct head_values values = head_values(request, base, if_modified_since);
    struct bytes value;
    struct bytes another;
    int64_t since_s;
    if (!head_next_value(&values, &value) || head_next_value(&values, &another) ||
        !http_date_parse(value, now_ms / 1000, &since_s)) {
        return false;
    }
    int64_t modified_ms = freshness->last_modified_ms >= 0 ? freshness->last_modified_ms : freshness->date_ms;
    int64_t modified_s = modified_ms / 1000; /* a date of ours, when it was received, has more than seconds */
    return modified_s <= since_s;
}

enum conditional_answer conditional_evaluate(const struct http_head *request, const char *base,
                                             const struct cache_head *stored, int64_t now_ms)
{
    if (conditional_is_for_origin(request, base)) {
        return CONDITIONAL_FORWARD;
    }
    if (stored->status < 200 || stored->status > 299) { /* §13.2.1 */
        return CONDITIONAL_SERVE;
    }
    bool has_none_match;
    bool spares = none_match_is_false(request, base, validator_etag(stored), &has_none_match);
    if (!has_none_match) {
        spares = modified_since_is_false(request, base, &stored->freshness, now_ms);
    }
    return spares ? CONDITIONAL_NOT_MODIFIED : CONDITIONAL_SERVE;
}

bool conditional_keep_in_304(const void *stored, struct bytes name)
{
    static const struct bytes of_the_body[] = {
        BYTES("Accept-Ranges"),    BYTES("Content-Digest"), BYTES("Content-Disposition"), BYTES("Content-Encoding"),
        BYTES("Content-Language"), BYTES("Content-Length"), BYTES("Content-MD5"),         BYTES("Content-Range"),
        BYTES("Content-Type"),     BYTES("Digest"),         BYTES("Repr-Digest"),         BYTES("Trailer"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(of_the_body); i++) {
        if (bytes_equal_nocase(name, of_the_body[i])) {
            return false;
        }
    }
    /* A date is of use to a client's cache only where there is no tag to tell representations apart by. */
    const struct cache_head *head = stored;
    return head->freshness.etag_bytes == 0 || !bytes_equal_nocase(name, BYTES("Last-Modified"));
}

/* ---- ours ---- */

size_t conditional_validators_bytes(const struct cache_head *stored)
{
    return lines_line_bytes(if_none_match, validator_etag(stored)) +
           lines_line_bytes(if_modified_since, validator_last_modified(stored));
}

char *conditional_put_validators(char *at, const struct cache_head *stored)
{
    struct bytes etag = validator_etag(stored);
    struct bytes last_modified = validator_last_modified(stored);
    if (etag.len > 0) {
        at = lines_put_line(at, if_none_match, etag);
    }
    if (last_modified.len > 0 && stored->freshness.last_modified_ms >= 0) {
        at = lines_put_line(at, if_modified_since, last_modified);
    }
    return at;
}

/* ---- the origin's 304 ---- */

enum conditional_304 conditional_on_304(bool is_ours, const struct cache_head *stored, const struct http_head *response,
                                        const char *base, int64_t now_ms)
{
    bool selects = false;
    if (stored != NULL) {
        struct validators kept = validators_of_stored(stored);
        struct validators received = validators_of_response(response, base, now_ms);
        selects = update_selects(&kept, &received, is_ours);
    }
    if (is_ours) {
        return selects ? CONDITIONAL_304_ANSWER : CONDITIONAL_304_REFETCH;
    }
    return selects ? CONDITIONAL_304_PASS_AND_UPDATE : CONDITIONAL_304_PASS;
}
