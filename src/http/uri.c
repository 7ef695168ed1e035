#include "http/uri.h"

#include <arpa/inet.h>

#include "http/chars.h"

enum { PORT_MAX = 65535 };

static bool is_escape(const char *at, size_t left)
{
    return left >= 3 && at[0] == '%' && char_is(at[1], CHAR_HEX) && char_is(at[2], CHAR_HEX);
}

/* All of `b` is of `classes` or percent-encoded. */
static bool is_encoded_as(struct bytes b, unsigned classes)
{
    for (size_t i = 0; i < b.len; i++) {
        if (char_is(b.ptr[i], classes)) {
            continue;
        }
        if (!is_escape(b.ptr + i, b.len - i)) {
            return false;
        }
        i += 2;
    }
    return true;
}

static bool is_query(struct bytes query)
{
    for (size_t i = 0; i < query.len; i++) {
        if (!char_is(query.ptr[i], CHAR_QUERY)) {
            return false;
        }
    }
    return true;
}

static bool split_path_and_query(struct bytes text, struct http_target *target)
{
    const char *mark = text.len == 0 ? NULL : memchr(text.ptr, '?', text.len);
    target->path_and_query = text;
    target->path = text;
    target->query = BYTES_NONE;
    if (mark != NULL) {
        target->path.len = (size_t)(mark - text.ptr);
        target->query = (struct bytes){mark + 1, text.len - target->path.len - 1};
    }
    return is_query(target->query) && is_encoded_as(target->path, CHAR_PATH);
}

static enum result parse_absolute(struct bytes text, struct http_target *target)
{
    const char *colon = text.len == 0 ? NULL : memchr(text.ptr, ':', text.len);
    if (colon == NULL || text.len - (size_t)(colon - text.ptr) < 3 || memcmp(colon, "://", 3) != 0) {
        return RESULT_PROTOCOL;
    }
    target->form = HTTP_TARGET_ABSOLUTE;
    target->scheme = (struct bytes){text.ptr, (size_t)(colon - text.ptr)};
    for (size_t i = 0; i < target->scheme.len; i++) {
        char c = ascii_lower(text.ptr[i]);
        bool letter = c >= 'a' && c <= 'z';
        if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'))) {
            return RESULT_PROTOCOL;
        }
    }
    struct bytes rest = {colon + 3, text.len - target->scheme.len - 3};
    size_t end = 0;
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?') {
        end++;
    }
    target->authority = (struct bytes){rest.ptr, end};
    if (target->scheme.len == 0 || !http_authority_is_valid(target->authority) ||
        !split_path_and_query((struct bytes){rest.ptr + end, rest.len - end}, target)) {
        return RESULT_PROTOCOL;
    }
    if (target->path.len == 0) {
        target->path = BYTES("/");
        target->path_is_empty = true;
    }
    return RESULT_OK;
}

/* The form nearly every request has: written straight to where it goes. */
static enum result parse_origin(struct bytes text, struct http_target *ret_target)
{
    const char *mark = memchr(text.ptr, '?', text.len);
    struct bytes path = {text.ptr, mark == NULL ? text.len : (size_t)(mark - text.ptr)};
    struct bytes query = BYTES_NONE;
    if (mark != NULL) {
        query = (struct bytes){mark + 1, text.len - path.len - 1};
    }
    if (!is_query(query) || !is_encoded_as(path, CHAR_PATH)) {
        return RESULT_PROTOCOL;
    }
    ret_target->form = HTTP_TARGET_ORIGIN;
    ret_target->scheme = BYTES_NONE;
    ret_target->authority = BYTES_NONE;
    ret_target->path = path;
    ret_target->query = query;
    ret_target->path_and_query = text;
    ret_target->path_is_empty = false;
    return RESULT_OK;
}

enum result http_target_parse(bool is_connect, bool is_options, struct bytes text, struct http_target *ret_target)
{
    if (!is_connect && text.len > 0 && text.ptr[0] == '/') {
        return parse_origin(text, ret_target);
    }
    struct http_target target = {0};
    if (is_connect) {
        struct bytes host;
        struct bytes port;
        if (!http_authority_is_valid(text)) {
            return RESULT_PROTOCOL;
        }
        http_authority_split(text, &host, &port);
        if (port.len == 0) { /* RFC 9112 §3.2.3: there is no default */
            return RESULT_PROTOCOL;
        }
        target.form = HTTP_TARGET_AUTHORITY;
        target.authority = text;
    } else if (is_options && bytes_equal(text, BYTES("*"))) {
        target.form = HTTP_TARGET_ASTERISK;
        target.path = text;
        target.path_and_query = text;
    } else if (parse_absolute(text, &target) != RESULT_OK) {
        return RESULT_PROTOCOL;
    }
    *ret_target = target;
    return RESULT_OK;
}

/* IPv6address or IPvFuture, between the brackets (RFC 3986 §3.2.2). */
static bool is_ip_literal(struct bytes b)
{
    char text[INET6_ADDRSTRLEN];
    struct in6_addr address;
    if (b.len > 2 && (b.ptr[0] == 'v' || b.ptr[0] == 'V')) {
        size_t i = 1;
        while (i < b.len && char_is(b.ptr[i], CHAR_HEX)) {
            i++;
        }
        if (i == 1 || i + 1 >= b.len || b.ptr[i] != '.') {
            return false;
        }
        for (i++; i < b.len; i++) {
            if (!char_is(b.ptr[i], CHAR_HOST) && b.ptr[i] != ':') {
                return false;
            }
        }
        return true;
    }
    if (b.len >= sizeof(text) || memchr(b.ptr, '\0', b.len) != NULL) {
        return false;
    }
    memcpy(text, b.ptr, b.len);
    text[b.len] = '\0';
    return inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_port(struct bytes b)
{
    uint64_t port;
    return b.len == 0 || (bytes_to_u64(b, &port) && port <= PORT_MAX);
}

bool http_authority_is_valid(struct bytes authority)
{
    if (authority.len > 0 && authority.ptr[0] == '[') {
        const char *bracket = memchr(authority.ptr, ']', authority.len);
        if (bracket == NULL) {
            return false;
        }
        struct bytes literal = {authority.ptr + 1, (size_t)(bracket - authority.ptr) - 1};
        struct bytes rest = {bracket + 1, authority.len - literal.len - 2};
        return is_ip_literal(literal) &&
               (rest.len == 0 || (rest.ptr[0] == ':' && is_port((struct bytes){rest.ptr + 1, rest.len - 1})));
    }
    size_t end = 0;
    while (end < authority.len && char_is(authority.ptr[end], CHAR_HOST)) {
        end++;
    }
    if (end < authority.len && authority.ptr[end] == '%') { /* rare */
        const char *colon = memchr(authority.ptr, ':', authority.len);
        end = colon == NULL ? authority.len : (size_t)(colon - authority.ptr);
        if (!is_encoded_as((struct bytes){authority.ptr, end}, CHAR_HOST)) {
            return false;
        }
    }
    if (end == 0 || end == authority.len) {
        return end > 0;
    }
    return authority.ptr[end] == ':' && is_port((struct bytes){authority.ptr + end + 1, authority.len - end - 1});
}

void http_authority_split(struct bytes authority, struct bytes *ret_host, struct bytes *ret_port)
{
    size_t end = authority.len;
    while (end > 0 && authority.ptr[end - 1] >= '0' && authority.ptr[end - 1] <= '9') {
        end--;
    }
    if (end > 0 && authority.ptr[end - 1] == ':') { /* inside brackets a ']' stands between */
        *ret_host = (struct bytes){authority.ptr, end - 1};
        *ret_port = (struct bytes){authority.ptr + end, authority.len - end};
        return;
    }
    *ret_host = authority;
    *ret_port = BYTES("");
}
