#include "cache/validator.h"

#include "cache/lines.h"
#include "http/date.h"

enum { SECOND_MS = 1000 };

static int64_t date_ms(struct bytes text, int64_t now_ms)
{
    int64_t unix_s;
    return text.len > 0 && http_date_parse(text, now_ms / SECOND_MS, &unix_s) && unix_s >= 0 ? unix_s * SECOND_MS : -1;
}

struct validators validators_of_stored(const struct cache_head *stored)
{
    const struct freshness *freshness = &stored->freshness;
    return (struct validators){
        .etag = validator_etag(stored),
        .last_modified_ms = freshness->last_modified_ms,
        .date_ms = freshness->date_ms,
    };
}

struct validators validators_of_response(const struct http_head *response, const char *base, int64_t now_ms)
{
    return (struct validators){
        .etag = http_head_value(response, base, HTTP_FIELD_ETAG),
        .last_modified_ms = date_ms(http_head_value(response, base, HTTP_FIELD_LAST_MODIFIED), now_ms),
        .date_ms = date_ms(http_head_value(response, base, HTTP_FIELD_DATE), now_ms),
    };
}

static struct bytes without_weakness(struct bytes etag)
{
    if (bytes_starts_with(etag, BYTES("W/"))) {
        return (struct bytes){etag.ptr + 2, etag.len - 2};
    }
    return etag;
}

bool etag_is_strong(struct bytes etag)
{
    return etag.len >= 2 && etag.ptr[0] == '"' && memchr(etag.ptr + 1, '"', etag.len - 1) == etag.ptr + etag.len - 1;
}

bool etag_equal_strong(struct bytes a, struct bytes b)
{
    return etag_is_strong(a) && bytes_equal(a, b);
}

bool etag_equal_weak(struct bytes a, struct bytes b)
{
    a = without_weakness(a);
    return a.len > 0 && bytes_equal(a, without_weakness(b));
}

bool etag_next(struct bytes *list, struct bytes *ret_etag)
{
    while (list->len > 0) {
        size_t end = 0;
        bool quoted = false;
        while (end < list->len && (quoted || list->ptr[end] != ',')) {
            quoted ^= list->ptr[end] == '"';
            end++;
        }
        struct bytes etag = bytes_trim((struct bytes){list->ptr, end});
        size_t taken = end < list->len ? end + 1 : end;
        list->ptr += taken;
        list->len -= taken;
        if (etag.len > 0) {
            *ret_etag = etag;
            return true;
        }
    }
    return false;
}

bool validators_date_is_strong(const struct validators *validators)
{
    return validators->last_modified_ms >= 0 && validators->date_ms >= validators->last_modified_ms + SECOND_MS;
}

bool validators_equal_strong(const struct validators *a, const struct validators *b)
{
    if (a->etag.len > 0 && b->etag.len > 0) {
        return etag_equal_strong(a->etag, b->etag);
    }
    return a->last_modified_ms == b->last_modified_ms && validators_date_is_strong(a) && validators_date_is_strong(b);
}
