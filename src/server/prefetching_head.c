#include "server/prefetching_head.h"

#include "base/check.h"
#include "cache/directives.h"

/* ---- whose requests ---- */

static bool key_has(const struct config_cache *config, enum config_part_kind kind, struct bytes name)
{
    for (unsigned i = 0; i < config->key_count; i++) {
        const struct config_part *part = &config->key[i];
        bool is_cookie = kind == CONFIG_PART_COOKIE; /* whose names have letter case */
        if (part->kind == kind && (is_cookie ? bytes_equal(part->name, name) : bytes_equal_nocase(part->name, name))) {
            return true;
        }
    }
    return false;
}

/* Whether a cookie is one that the key names, or only says whose requests belong together. */
static bool is_known_cookie(const struct config_cache *config, struct bytes name)
{
    const struct config_part *session = &config->prefetch.session;
    return key_has(config, CONFIG_PART_COOKIE, name) ||
           (session->kind == CONFIG_PART_COOKIE && bytes_equal(session->name, name));
}

/* Takes the next pair off a Cookie field's value (RFC 6265 §4.2.1: name=value, split by ';'). False: none is left. */
static bool next_cookie(struct bytes *rest, struct bytes *ret_pair, struct bytes *ret_name)
{
    while (rest->len > 0) {
        const char *end = memchr(rest->ptr, ';', rest->len);
        size_t length = end == NULL ? rest->len : (size_t)(end - rest->ptr);
        size_t used = end == NULL ? length : length + 1;
        struct bytes pair = bytes_trim((struct bytes){rest->ptr, length});
        *rest = (struct bytes){rest->ptr + used, rest->len - used};
        if (pair.len > 0) {
            const char *equals = memchr(pair.ptr, '=', pair.len);
            size_t name_bytes = equals == NULL ? pair.len : (size_t)(equals - pair.ptr);
            *ret_pair = pair;
            *ret_name = bytes_trim((struct bytes){pair.ptr, name_bytes});
            return true;
        }
    }
    return false;
}

static bool has_unknown_cookie(const struct config_cache *config, struct bytes value)
{
    struct bytes pair;
    struct bytes name;
    while (next_cookie(&value, &pair, &name)) {
        if (!is_known_cookie(config, name)) {
            return true;
        }
    }
    return false;
}

static bool shows_credentials(const struct config_cache *config, const struct cache_key_source *asked)
{
    for (unsigned i = 0; i < asked->head->field_count; i++) {
        const struct http_field *field = &asked->head->fields[i];
        struct bytes name = http_field_name(field, asked->base);
        bool is_credential =
            field->id == HTTP_FIELD_AUTHORIZATION || field->id == HTTP_FIELD_X_API_KEY ||
            (field->id == HTTP_FIELD_COOKIE && has_unknown_cookie(config, http_field_value(field, asked->base)));
        if (is_credential && !key_has(config, CONFIG_PART_HEADER, name)) {
            return true;
        }
    }
    return false;
}

bool prefetching_may_learn(const struct config_cache *config, const struct cache_key_source *asked)
{
    const struct http_head *head = asked->head;
    struct directives_request asks;
    if (head->method != HTTP_GET || head->first[HTTP_FIELD_RANGE] != 0 || shows_credentials(config, asked)) {
        return false;
    }
    directives_read_request(head, asked->base, &asks);
    return !asks.no_store;
}

/* ---- a request of our own ---- */

/* By what answers are negotiated, and what a proxy in front has said of the scheme and the host: without it a backend
 * may answer with a redirect, which would be stored for all. */
static bool is_passed_on(const struct config_cache *config, const struct http_field *field, struct bytes name)
{
    static const struct bytes negotiated[] = {BYTES("accept"), BYTES("accept-language"), BYTES("user-agent")};
    if (field->drop) {
        return false;
    }
    switch (field->id) {
    case HTTP_FIELD_ACCEPT_ENCODING:
    case HTTP_FIELD_FORWARDED:
    case HTTP_FIELD_X_FORWARDED_PROTO:
    case HTTP_FIELD_X_FORWARDED_HOST: return true;
    case HTTP_FIELD_HOST: return false;
    default: break;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(negotiated); i++) {
        if (bytes_equal_nocase(name, negotiated[i])) {
            return true;
        }
    }
    return key_has(config, CONFIG_PART_HEADER, name);
}

/* As far as there is room. */
struct writer {
    char *at;
    const char *end;
    bool is_full;
};

static void put(struct writer *writer, struct bytes text)
{
    if (writer->is_full || text.len > (size_t)(writer->end - writer->at)) {
        writer->is_full = true;
        return;
    }
    writer->at = bytes_put(writer->at, text);
}

static void put_line(struct writer *writer, struct bytes name, struct bytes value)
{
    put(writer, name);
    put(writer, BYTES(": "));
    put(writer, value);
    put(writer, BYTES("\r\n"));
}

/* Of the cookies those that the key names. */
static void put_cookies(struct writer *writer, const struct config_cache *config, struct bytes value)
{
    struct bytes before = BYTES("Cookie: ");
    struct bytes pair;
    struct bytes name;
    while (next_cookie(&value, &pair, &name)) {
        if (key_has(config, CONFIG_PART_COOKIE, name)) {
            put(writer, before);
            put(writer, pair);
            before = BYTES("; ");
        }
    }
    if (before.len == 2) {
        put(writer, BYTES("\r\n"));
    }
}

bool prefetching_head_put(const struct config_cache *config, const struct cache_key_source *asked, struct bytes target,
                          char *out, struct bytes *ret_head)
{
    struct writer writer = {.at = out, .end = out + PREFETCHING_HEAD_BYTES_MAX};
    put(&writer, BYTES("GET "));
    put(&writer, target);
    put(&writer, BYTES(" HTTP/1.1\r\n"));
    put_line(&writer, BYTES("Host"), asked->authority);
    for (unsigned i = 0; i < asked->head->field_count; i++) {
        const struct http_field *field = &asked->head->fields[i];
        struct bytes name = http_field_name(field, asked->base);
        struct bytes value = http_field_value(field, asked->base);
        if (is_passed_on(config, field, name)) {
            put_line(&writer, name, value);
        } else if (field->id == HTTP_FIELD_COOKIE && !field->drop) {
            put_cookies(&writer, config, value);
        }
    }
    put(&writer, BYTES("Priority: u=7\r\nSec-Purpose: prefetch\r\n\r\n"));
    *ret_head = (struct bytes){out, (size_t)(writer.at - out)};
    return !writer.is_full;
}
