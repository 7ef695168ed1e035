/* Partial responses: range.h's second half. */
#include "base/check.h"
#include "cache/lines.h"
#include "cache/range.h"

static const struct bytes content_range_name = {"Content-Range", 13};

bool range_parse_content_range(struct bytes value, struct range_partial *ret_partial)
{
    struct bytes unit = BYTES("bytes ");
    if (value.len < unit.len || !bytes_equal_nocase((struct bytes){value.ptr, unit.len}, unit)) {
        return false;
    }
    struct bytes text = bytes_trim((struct bytes){value.ptr + unit.len, value.len - unit.len});
    const char *slash = text.len == 0 ? NULL : memchr(text.ptr, '/', text.len);
    const char *dash = text.len == 0 ? NULL : memchr(text.ptr, '-', text.len);
    if (slash == NULL || dash == NULL || dash > slash) {
        return false;
    }
    const char *end = text.ptr + text.len;
    struct range_partial partial;
    if (!bytes_to_u64((struct bytes){text.ptr, (size_t)(dash - text.ptr)}, &partial.range.first) ||
        !bytes_to_u64((struct bytes){dash + 1, (size_t)(slash - dash) - 1}, &partial.range.last) ||
        !bytes_to_u64((struct bytes){slash + 1, (size_t)(end - slash) - 1}, &partial.complete_bytes)) {
        return false;
    }
    if (partial.range.last < partial.range.first || partial.range.last >= partial.complete_bytes ||
        partial.complete_bytes > INT64_MAX) {
        return false;
    }
    *ret_partial = partial;
    return true;
}

static bool is_of_several_parts(struct bytes content_type)
{
    struct bytes multipart = BYTES("multipart/byteranges");
    return content_type.len >= multipart.len &&
           bytes_equal_nocase((struct bytes){content_type.ptr, multipart.len}, multipart);
}

bool range_may_store_partial(const struct http_head *response, const char *base, struct range_partial *ret_partial)
{
    struct head_values values = head_values(response, base, content_range_name);
    struct bytes value;
    struct bytes another;
    struct range_partial partial;
    if (response->status != 206 || !head_next_value(&values, &value) || head_next_value(&values, &another) ||
        !range_parse_content_range(value, &partial) ||
        is_of_several_parts(http_head_value(response, base, HTTP_FIELD_CONTENT_TYPE))) {
        return false;
    }
    if (response->has_content_length) {
        struct range_partial settled = partial;
        if (!range_partial_settle(&settled, response->content_length, true)) {
            return false;
        }
    }
    *ret_partial = partial;
    return true;
}

bool range_partial_settle(struct range_partial *partial, uint64_t body_bytes, bool is_delimited)
{
    struct range range = partial->range;
    uint64_t announced_bytes = range_bytes(range);
    if (body_bytes == announced_bytes) {
        return true;
    }
    bool ends_whole = range.first > 0 && range.last == partial->complete_bytes - 1;
    if (!is_delimited || !ends_whole || body_bytes == 0 || body_bytes != announced_bytes - 1) {
        return false;
    }
    partial->range.last--;
    partial->complete_bytes--;
    return true;
}

bool range_partial_of_stored(struct bytes lines, struct range_partial *ret_partial)
{
    return range_parse_content_range(lines_find(lines, content_range_name), ret_partial);
}

static bool is_within(struct range inner, struct range outer)
{
    return inner.first >= outer.first && inner.last <= outer.last;
}

bool range_partial_covers(const struct range_partial *partial, const struct range_set *set)
{
    for (unsigned i = 0; i < set->count; i++) {
        if (!is_within(set->ranges[i], partial->range)) {
            return false;
        }
    }
    return true;
}

/* ---- completing ---- */

bool range_missing(const struct range_partial *stored, struct range wanted, struct range *ret_ask)
{
    struct range have = stored->range;
    if (wanted.first >= have.first && wanted.first <= have.last + 1 && wanted.last > have.last) {
        *ret_ask = (struct range){have.last + 1, wanted.last};
        return true;
    }
    if (wanted.first < have.first && wanted.last <= have.last && wanted.last + 1 >= have.first) {
        *ret_ask = (struct range){wanted.first, have.first - 1};
        return true;
    }
    return false;
}

char *range_put_request(char *at, struct range ask, uint64_t complete_bytes)
{
    at = bytes_put(at, BYTES("Range: bytes="));
    at += bytes_put_u64(at, ask.first);
    *at++ = '-';
    if (ask.last != complete_bytes - 1) {
        at += bytes_put_u64(at, ask.last);
    }
    return bytes_put(at, BYTES("\r\n"));
}

bool range_can_combine(const struct validators *stored)
{
    return stored->etag.len > 0 ? etag_is_strong(stored->etag) : validators_date_is_strong(stored);
}

static struct bytes if_range_value(const struct cache_head *stored)
{
    struct validators validators = validators_of_stored(stored);
    if (!range_can_combine(&validators)) {
        return BYTES("");
    }
    return validators.etag.len > 0 ? validators.etag : validator_last_modified(stored);
}

size_t range_if_range_bytes(const struct cache_head *stored)
{
    struct bytes value = if_range_value(stored);
    return value.len == 0 ? 0 : lines_line_bytes(BYTES("If-Range"), value);
}

char *range_put_if_range(char *at, const struct cache_head *stored)
{
    struct bytes value = if_range_value(stored);
    return value.len == 0 ? at : lines_put_line(at, BYTES("If-Range"), value);
}

/* ---- combining ---- */

static void add_piece(struct range_join *join, bool is_new, uint64_t offset, uint64_t bytes)
{
    CHECK(join->count < ARRAY_COUNT(join->pieces));
    join->pieces[join->count++] = (struct range_piece){is_new, offset, bytes};
}

bool range_combine(const struct range_partial *stored, const struct validators *stored_validators,
                   const struct range_partial *received, const struct validators *received_validators,
                   struct range_join *ret_join)
{
    struct range old = stored->range;
    struct range new = received->range;
    bool touching = new.first <= old.last + 1 && old.first <= new.last + 1;
    if (!touching || stored->complete_bytes != received->complete_bytes ||
        !validators_equal_strong(stored_validators, received_validators)) {
        return false;
    }
    struct range_join join = {
        .partial = {{new.first < old.first ? new.first : old.first, new.last > old.last ? new.last : old.last},
                    stored->complete_bytes}};
    if (is_within(old, new)) {
        add_piece(&join, true, 0, range_bytes(new));
    } else {
        if (new.first < old.first) {
            add_piece(&join, true, 0, old.first - new.first);
        }
        add_piece(&join, false, 0, range_bytes(old));
        if (new.last > old.last) {
            add_piece(&join, true, old.last + 1 - new.first, new.last - old.last);
        }
    }
    *ret_join = join;
    return true;
}
