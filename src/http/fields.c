/* Field names: which are known here, and which may go where. */
#include "http/chars.h"
#include "http/internal.h"

#define INLINE static inline __attribute__((always_inline))

/* Compares a token with a lower-case literal of the same, constant length, eight or four bytes at a time, the last ones
 * overlapping those before. Setting bit 5 folds letters; the only other bytes it could turn into one of a name's are
 * control characters and no token has those. */
INLINE bool same(const char *name, const char *lower, size_t length)
{
    const uint64_t fold = UINT64_C(0x2020202020202020);
    uint64_t a;
    uint64_t b;
    if (length >= 4 && length < 8) {
        uint32_t first[2];
        uint32_t last[2];
        memcpy(&first[0], name, 4);
        memcpy(&first[1], lower, 4);
        memcpy(&last[0], name + length - 4, 4);
        memcpy(&last[1], lower + length - 4, 4);
        return (first[0] | (uint32_t)fold) == first[1] && (last[0] | (uint32_t)fold) == last[1];
    }
    if (length < 8) {
        bool equal = true;
        for (size_t i = 0; i < length; i++) {
            equal &= (name[i] | 0x20) == lower[i];
        }
        return equal;
    }
    for (size_t i = 0; i + 8 <= length; i += 8) {
        memcpy(&a, name + i, 8);
        memcpy(&b, lower + i, 8);
        if ((a | fold) != b) {
            return false;
        }
    }
    memcpy(&a, name + length - 8, 8);
    memcpy(&b, lower + length - 8, 8);
    return (a | fold) == b;
}

#define KNOWN(literal, id)                              \
    if (same(name.ptr, literal, sizeof(literal) - 1)) { \
        return id;                                      \
    }

static enum http_field_id short_field_id(struct bytes name)
{
    switch (name.len) {
    case 2: KNOWN("te", HTTP_FIELD_TE) break;
    case 3: KNOWN("via", HTTP_FIELD_VIA) KNOWN("age", HTTP_FIELD_AGE) break;
    case 4:
        KNOWN("host", HTTP_FIELD_HOST)
        KNOWN("date", HTTP_FIELD_DATE)
        KNOWN("etag", HTTP_FIELD_ETAG)
        KNOWN("vary", HTTP_FIELD_VARY)
        break;
    case 5: KNOWN("range", HTTP_FIELD_RANGE) break;
    case 6:
        KNOWN("expect", HTTP_FIELD_EXPECT)
        KNOWN("server", HTTP_FIELD_SERVER)
        KNOWN("cookie", HTTP_FIELD_COOKIE)
        KNOWN("pragma", HTTP_FIELD_PRAGMA)
        break;
    case 7:
        KNOWN("trailer", HTTP_FIELD_TRAILER)
        KNOWN("upgrade", HTTP_FIELD_UPGRADE)
        KNOWN("expires", HTTP_FIELD_EXPIRES)
        break;
    case 8: KNOWN("if-match", HTTP_FIELD_IF_MATCH) KNOWN("if-range", HTTP_FIELD_IF_RANGE) break;
    case 9: KNOWN("forwarded", HTTP_FIELD_FORWARDED) KNOWN("x-api-key", HTTP_FIELD_X_API_KEY) break;
    case 10:
        KNOWN("connection", HTTP_FIELD_CONNECTION)
        KNOWN("keep-alive", HTTP_FIELD_KEEP_ALIVE)
        KNOWN("set-cookie", HTTP_FIELD_SET_COOKIE)
        break;
    default: break;
    }
    return HTTP_FIELD_OTHER;
}

enum http_field_id http_field_id(struct bytes name)
{
    switch (name.len) {
    case 11: KNOWN("retry-after", HTTP_FIELD_RETRY_AFTER) break;
    case 12: KNOWN("content-type", HTTP_FIELD_CONTENT_TYPE) KNOWN("x-request-id", HTTP_FIELD_X_REQUEST_ID) break;
    case 13:
        KNOWN("authorization", HTTP_FIELD_AUTHORIZATION)
        KNOWN("cache-control", HTTP_FIELD_CACHE_CONTROL)
        KNOWN("content-range", HTTP_FIELD_CONTENT_RANGE)
        KNOWN("if-none-match", HTTP_FIELD_IF_NONE_MATCH)
        KNOWN("last-modified", HTTP_FIELD_LAST_MODIFIED)
        break;
    case 14: KNOWN("content-length", HTTP_FIELD_CONTENT_LENGTH) break;
    case 15:
        KNOWN("accept-encoding", HTTP_FIELD_ACCEPT_ENCODING)
        KNOWN("x-forwarded-for", HTTP_FIELD_X_FORWARDED_FOR)
        break;
    case 16:
        KNOWN("content-encoding", HTTP_FIELD_CONTENT_ENCODING)
        KNOWN("proxy-connection", HTTP_FIELD_PROXY_CONNECTION)
        KNOWN("x-forwarded-host", HTTP_FIELD_X_FORWARDED_HOST)
        KNOWN("content-location", HTTP_FIELD_CONTENT_LOCATION)
        break;
    case 17:
        KNOWN("transfer-encoding", HTTP_FIELD_TRANSFER_ENCODING)
        KNOWN("x-forwarded-proto", HTTP_FIELD_X_FORWARDED_PROTO)
        KNOWN("if-modified-since", HTTP_FIELD_IF_MODIFIED_SINCE)
        break;
    case 18: KNOWN("proxy-authenticate", HTTP_FIELD_PROXY_AUTHENTICATE) break;
    case 19:
        KNOWN("proxy-authorization", HTTP_FIELD_PROXY_AUTHORIZATION)
        KNOWN("if-unmodified-since", HTTP_FIELD_IF_UNMODIFIED_SINCE)
        break;
    default: return short_field_id(name);
    }
    return HTTP_FIELD_OTHER;
}

/* RFC 9110 §7.6.1 forbids senders to nominate what is meant for everyone along the way. Were it obeyed
 * all the same, a client could strip the Content-Length a backend frames by, the credentials or the
 * address that a proxy in front of us has added, or turn a request into one for another host. Those
 * fields stay, everything else goes. */
bool http_field_may_be_nominated(enum http_field_id id)
{
    switch (id) {
    case HTTP_FIELD_AGE:
    case HTTP_FIELD_AUTHORIZATION:
    case HTTP_FIELD_CACHE_CONTROL:
    case HTTP_FIELD_CONTENT_ENCODING:
    case HTTP_FIELD_CONTENT_LENGTH:
    case HTTP_FIELD_CONTENT_RANGE:
    case HTTP_FIELD_CONTENT_TYPE:
    case HTTP_FIELD_DATE:
    case HTTP_FIELD_EXPECT:
    case HTTP_FIELD_EXPIRES:
    case HTTP_FIELD_FORWARDED:
    case HTTP_FIELD_HOST:
    case HTTP_FIELD_VARY:
    case HTTP_FIELD_VIA:
    case HTTP_FIELD_X_API_KEY:
    case HTTP_FIELD_X_FORWARDED_FOR:
    case HTTP_FIELD_X_FORWARDED_HOST:
    case HTTP_FIELD_X_FORWARDED_PROTO: return false;
    default: return true;
    }
}

/* Trailers that would change what has already been decided: refused when they speak of framing,
 * routing or credentials, dropped when a merge into the header section would only mislead. */
enum http_trailer_fate http_trailer_fate(struct bytes name)
{
    static const struct bytes dropped[] = {BYTES("Location"), BYTES("Max-Forwards"), BYTES("WWW-Authenticate")};
    switch (http_field_id(name)) {
    case HTTP_FIELD_OTHER:
    case HTTP_FIELD_CONTENT_LOCATION:
    case HTTP_FIELD_ETAG:
    case HTTP_FIELD_LAST_MODIFIED: break;
    case HTTP_FIELD_ACCEPT_ENCODING:
    case HTTP_FIELD_AGE:
    case HTTP_FIELD_CONTENT_RANGE:
    case HTTP_FIELD_COOKIE:
    case HTTP_FIELD_DATE:
    case HTTP_FIELD_EXPIRES:
    case HTTP_FIELD_IF_MATCH:
    case HTTP_FIELD_IF_MODIFIED_SINCE:
    case HTTP_FIELD_IF_NONE_MATCH:
    case HTTP_FIELD_IF_RANGE:
    case HTTP_FIELD_IF_UNMODIFIED_SINCE:
    case HTTP_FIELD_PRAGMA:
    case HTTP_FIELD_RANGE:
    case HTTP_FIELD_RETRY_AFTER:
    case HTTP_FIELD_SERVER:
    case HTTP_FIELD_SET_COOKIE:
    case HTTP_FIELD_VARY:
    case HTTP_FIELD_VIA:
    case HTTP_FIELD_X_REQUEST_ID: return HTTP_TRAILER_DROP;
    default: return HTTP_TRAILER_REFUSE;
    }
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++) {
        if (bytes_equal_nocase(name, dropped[i])) {
            return HTTP_TRAILER_DROP;
        }
    }
    return memchr(name.ptr, '_', name.len) == NULL ? HTTP_TRAILER_KEEP : HTTP_TRAILER_DROP;
}

struct bytes http_head_find(const struct http_head *head, const char *base, struct bytes name)
{
    for (uint16_t i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        if (field->name_bytes == name.len && bytes_equal_nocase(http_field_name(field, base), name)) {
            return http_field_value(field, base);
        }
    }
    return BYTES_NONE;
}
