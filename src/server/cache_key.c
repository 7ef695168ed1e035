#include "server/cache_key.h"

/* The value of a cookie (RFC 6265 §5.4: name=value pairs, split by ';'), over all Cookie fields; .ptr NULL: none. */
static struct bytes cookie_value(const struct cache_key_source *source, struct bytes name)
{
    for (unsigned i = 0; i < source->head->field_count; i++) {
        const struct http_field *field = &source->head->fields[i];
        if (!bytes_equal_nocase(http_field_name(field, source->base), BYTES("cookie"))) {
            continue;
        }
        struct bytes rest = http_field_value(field, source->base);
        while (rest.len > 0) {
            const char *end = memchr(rest.ptr, ';', rest.len);
            size_t length = end != NULL ? (size_t)(end - rest.ptr) : rest.len;
            struct bytes pair = bytes_trim((struct bytes){rest.ptr, length});
            size_t used = end != NULL ? length + 1 : length;
            rest = (struct bytes){rest.ptr + used, rest.len - used};
            if (pair.len > name.len && pair.ptr[name.len] == '=' && bytes_starts_with(pair, name)) {
                return (struct bytes){pair.ptr + name.len + 1, pair.len - name.len - 1};
            }
        }
    }
    return BYTES_NONE;
}

/* The value of an argument of the query, as it stands there; .ptr NULL: none. */
static struct bytes argument_value(struct bytes query, struct bytes name)
{
    struct bytes rest = query;
    while (rest.len > 0) {
        const char *end = memchr(rest.ptr, '&', rest.len);
        size_t length = end != NULL ? (size_t)(end - rest.ptr) : rest.len;
        struct bytes pair = {rest.ptr, length};
        size_t used = end != NULL ? length + 1 : length;
        rest = (struct bytes){rest.ptr + used, rest.len - used};
        if (bytes_starts_with(pair, name) && (pair.len == name.len || pair.ptr[name.len] == '=')) {
            size_t skip = pair.len == name.len ? name.len : name.len + 1;
            return (struct bytes){pair.ptr + skip, pair.len - skip};
        }
    }
    return BYTES_NONE;
}

struct bytes cache_key_part_value(const struct config_part *part, const struct cache_key_source *source)
{
    switch (part->kind) {
    case CONFIG_PART_HEADER: return http_head_find(source->head, source->base, part->name);
    case CONFIG_PART_COOKIE: return cookie_value(source, part->name);
    case CONFIG_PART_ARGUMENT: return argument_value(source->query, part->name);
    default: return BYTES_NONE;
    }
}

bool cache_key_is_bypassed(const struct config_cache *config, const struct cache_key_source *source)
{
    for (unsigned i = 0; i < config->bypass_count; i++) {
        struct bytes value = cache_key_part_value(&config->bypass[i], source);
        if (value.len > 0 && !bytes_equal(value, BYTES("0"))) {
            return true;
        }
    }
    return false;
}

static bool has_part(const struct config_cache *config, enum config_part_kind kind)
{
    for (unsigned i = 0; i < config->key_count; i++) {
        if (config->key[i].kind == kind) {
            return true;
        }
    }
    return false;
}

bool cache_key_is_url(const struct config_cache *config)
{
    for (unsigned i = 0; i < config->key_count; i++) {
        enum config_part_kind kind = config->key[i].kind;
        if (kind != CONFIG_PART_HOST && kind != CONFIG_PART_PATH && kind != CONFIG_PART_QUERY) {
            return false;
        }
    }
    return true;
}

static char *put_lower(char *at, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        *at++ = ascii_lower(text.ptr[i]);
    }
    return at;
}

/* example.org:80 is example.org. */
static struct bytes without_default_port(struct bytes authority)
{
    const size_t port = sizeof(":80") - 1;
    if (authority.len > port && bytes_equal((struct bytes){authority.ptr + authority.len - port, port}, BYTES(":80"))) {
        authority.len -= port;
    }
    return authority;
}

static struct bytes part_label(enum config_part_kind kind)
{
    switch (kind) {
    case CONFIG_PART_METHOD: return BYTES("\nmethod");
    case CONFIG_PART_HEADER: return BYTES("\nheader:");
    case CONFIG_PART_COOKIE: return BYTES("\ncookie:");
    case CONFIG_PART_ARGUMENT: return BYTES("\nquery:");
    default: return BYTES_NONE;
    }
}

enum result cache_key_put_url(const struct config_cache *config, const struct cache_key_source *source, char *out,
                              size_t bytes_max, size_t *ret_bytes)
{
    size_t needed = sizeof("http://?") + source->authority.len + source->path.len + source->query.len;
    if (needed > bytes_max) {
        return RESULT_LIMIT;
    }
    char *at = bytes_put(out, BYTES("http://"));
    if (has_part(config, CONFIG_PART_HOST)) {
        at = put_lower(at, without_default_port(source->authority));
    }
    if (has_part(config, CONFIG_PART_PATH)) {
        at = bytes_put(at, source->path);
    }
    if (source->query.ptr != NULL && has_part(config, CONFIG_PART_QUERY)) {
        *at++ = '?';
        at = bytes_put(at, source->query);
    }
    *ret_bytes = (size_t)(at - out);
    return RESULT_OK;
}

enum result cache_key_put(const struct config_cache *config, const struct cache_key_source *source, char *out,
                          size_t bytes_max, size_t *ret_bytes)
{
    size_t url_bytes = 0;
    enum result result = cache_key_put_url(config, source, out, bytes_max, &url_bytes);
    if (result != RESULT_OK) {
        return result;
    }
    char *at = out + url_bytes;
    for (unsigned i = 0; i < config->key_count; i++) {
        const struct config_part *part = &config->key[i];
        struct bytes label = part_label(part->kind);
        struct bytes value = part->kind == CONFIG_PART_METHOD ? source->method : cache_key_part_value(part, source);
        if (label.len == 0) {
            continue;
        }
        if ((size_t)(at - out) + label.len + part->name.len + value.len + 1 > bytes_max) {
            return RESULT_LIMIT;
        }
        at = bytes_put(at, label);
        at = bytes_put(at, part->name);
        if (value.ptr != NULL) { /* what is absent differs from what is empty */
            *at++ = '=';
            at = bytes_put(at, value);
        }
    }
    *ret_bytes = (size_t)(at - out);
    return RESULT_OK;
}
