#include "server/cache_key.h"

#include <string.h>

#include "cache/lines.h"
#include "http/uri.h"

/* The values that a request has for a part: each of them counts, for the origin may go by any. What the gateway does
 * not pass on is none. */
struct part_values {
    const struct config_part *part;
    struct head_values fields; /* of a header, or Cookie */
    struct bytes rest;         /* pairs not looked at yet */
};

static struct part_values part_values(const struct config_part *part, const struct cache_key_source *source)
{
    struct part_values values = {.part = part, .rest = {"", 0}};
    switch (part->kind) {
    case CONFIG_PART_HEADER: values.fields = head_values(source->head, source->base, part->name); break;
    case CONFIG_PART_COOKIE: values.fields = head_values(source->head, source->base, BYTES("cookie")); break;
    case CONFIG_PART_ARGUMENT: values.rest = source->query; break;
    default: break;
    }
    return values;
}

/* Takes the next `name=value` off *rest, up to `divider`; a pair without '=' has an empty value. */
static void take_pair(struct bytes *rest, char divider, struct bytes *ret_name, struct bytes *ret_value)
{
    const char *end = memchr(rest->ptr, divider, rest->len);
    size_t length = end != NULL ? (size_t)(end - rest->ptr) : rest->len;
    struct bytes pair = {rest->ptr, length};
    size_t used = end != NULL ? length + 1 : length;
    *rest = (struct bytes){rest->ptr + used, rest->len - used};
    const char *equals = pair.len == 0 ? NULL : memchr(pair.ptr, '=', pair.len);
    size_t name_bytes = equals != NULL ? (size_t)(equals - pair.ptr) : pair.len;
    size_t skip = equals != NULL ? name_bytes + 1 : name_bytes;
    *ret_name = (struct bytes){pair.ptr, name_bytes};
    *ret_value = (struct bytes){pair.ptr + skip, pair.len - skip};
}

static int hex_value(char c)
{
    char lower = ascii_lower(c);
    if (lower >= '0' && lower <= '9') {
        return lower - '0';
    }
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Whether `text`, in which characters may be written as %XX, is the name. */
static bool is_argument_name(struct bytes text, struct bytes name)
{
    size_t at = 0;
    for (size_t i = 0; i < name.len; i++) {
        if (at == text.len) {
            return false;
        }
        char c = text.ptr[at++];
        if (c == '%' && text.len - at >= 2 && hex_value(text.ptr[at]) >= 0 && hex_value(text.ptr[at + 1]) >= 0) {
            c = (char)(hex_value(text.ptr[at]) << 4 | hex_value(text.ptr[at + 1]));
            at += 2;
        }
        if (c != name.ptr[i]) {
            return false;
        }
    }
    return at == text.len;
}

/* The next argument's value, as it stands there. */
static bool next_argument(struct part_values *values, struct bytes *ret_value)
{
    struct bytes name;
    while (values->rest.len > 0) {
        take_pair(&values->rest, '&', &name, ret_value);
        if (is_argument_name(name, values->part->name)) {
            return true;
        }
    }
    return false;
}

/* The next cookie's value (RFC 6265 §5.4: name=value pairs, split by ';'), over all Cookie fields. */
static bool next_cookie(struct part_values *values, struct bytes *ret_value)
{
    struct bytes name;
    do {
        while (values->rest.len > 0) {
            take_pair(&values->rest, ';', &name, ret_value);
            *ret_value = bytes_trim(*ret_value);
            if (bytes_equal(bytes_trim(name), values->part->name)) {
                return true;
            }
        }
    } while (head_next_passed_value(&values->fields, &values->rest));
    return false;
}

static bool next_part_value(struct part_values *values, struct bytes *ret_value)
{
    switch (values->part->kind) {
    case CONFIG_PART_HEADER: return head_next_passed_value(&values->fields, ret_value);
    case CONFIG_PART_COOKIE: return next_cookie(values, ret_value);
    case CONFIG_PART_ARGUMENT: return next_argument(values, ret_value);
    default: return false;
    }
}

struct bytes cache_key_part_value(const struct config_part *part, const struct cache_key_source *source)
{
    struct part_values values = part_values(part, source);
    struct bytes value;
    return next_part_value(&values, &value) ? value : BYTES_NONE;
}

bool cache_key_is_bypassed(const struct config_cache *config, const struct cache_key_source *source)
{
    for (unsigned i = 0; i < config->bypass_count; i++) {
        struct part_values values = part_values(&config->bypass[i], source);
        struct bytes value;
        while (next_part_value(&values, &value)) {
            if (value.len > 0 && !bytes_equal(value, BYTES("0"))) {
                return true;
            }
        }
    }
    return false;
}

enum {
    KINDS_OF_URL = 1 << CONFIG_PART_HOST | 1 << CONFIG_PART_PATH | 1 << CONFIG_PART_QUERY,
};

bool cache_key_is_url(const struct config_cache *config)
{
    return (config->key_kinds & ~(unsigned)KINDS_OF_URL) == 0;
}

bool cache_key_has_host(const struct config_cache *config)
{
    return (config->key_kinds & 1U << CONFIG_PART_HOST) != 0;
}

static char *put_lower(char *at, struct bytes text)
{
    size_t i = 0;
    for (; i + 8 <= text.len; i += 8) {
        const uint64_t ones = UINT64_C(0x0101010101010101);
        uint64_t word;
        memcpy(&word, text.ptr + i, sizeof(word));
        uint64_t seven_bits = word & ones * 0x7f;
        uint64_t from_a = seven_bits + ones * (0x80 - 'A'); /* the top bit of each byte says so */
        uint64_t beyond_z = seven_bits + ones * (0x7f - 'Z');
        word |= (from_a & ~beyond_z & ~word & ones * 0x80) >> 2;
        memcpy(at + i, &word, sizeof(word));
    }
    for (; i < text.len; i++) {
        at[i] = ascii_lower(text.ptr[i]);
    }
    return at + text.len;
}

struct bytes cache_key_path(struct bytes path, struct bytes normal)
{
    bool has_empty = path.ptr != normal.ptr && memmem(path.ptr, path.len, "//", 2) != NULL;
    return has_empty && !http_path_is_ambiguous(path) ? path : normal;
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

static enum result put_url(unsigned kinds, const struct cache_key_source *source, char *out, size_t bytes_max,
                           size_t *ret_bytes)
{
    size_t needed = sizeof("http://?") + source->authority.len + source->path.len + source->query.len;
    if (needed > bytes_max) {
        return RESULT_LIMIT;
    }
    char *at = bytes_put(out, BYTES("http://"));
    if ((kinds & 1U << CONFIG_PART_HOST) != 0) {
        at = put_lower(at, without_default_port(source->authority));
    }
    if ((kinds & 1U << CONFIG_PART_PATH) != 0) {
        at = bytes_put(at, source->path);
    }
    if (source->query.ptr != NULL && (kinds & 1U << CONFIG_PART_QUERY) != 0) {
        *at++ = '?';
        at = bytes_put(at, source->query);
    }
    *ret_bytes = (size_t)(at - out);
    return RESULT_OK;
}

enum result cache_key_put_url(const struct config_cache *config, const struct cache_key_source *source, char *out,
                              size_t bytes_max, size_t *ret_bytes)
{
    return put_url(config->key_kinds, source, out, bytes_max, ret_bytes);
}

/* Puts what a part says behind its label: nothing when it is absent, which differs from what is empty. Several values
 * are divided by what divides them in the request, so that it cannot stand in any. False: there is no room. */
static bool put_part(char **at, const char *end, const struct config_part *part, const struct cache_key_source *source)
{
    char divider = part->kind == CONFIG_PART_HEADER ? ',' : part->kind == CONFIG_PART_COOKIE ? ';' : '&';
    struct part_values values = part_values(part, source);
    struct bytes label = part_label(part->kind);
    struct bytes value = source->method;
    bool has_value = part->kind == CONFIG_PART_METHOD || next_part_value(&values, &value);
    if (label.len + part->name.len > (size_t)(end - *at)) {
        return false;
    }
    *at = bytes_put(bytes_put(*at, label), part->name);
    for (char before = '='; has_value; before = divider) {
        if (value.len + 1 > (size_t)(end - *at)) {
            return false;
        }
        *(*at)++ = before;
        *at = bytes_put(*at, value);
        has_value = next_part_value(&values, &value);
    }
    return true;
}

enum result cache_key_put(const struct config_cache *config, const struct cache_key_source *source, char *out,
                          size_t bytes_max, size_t *ret_bytes)
{
    size_t url_bytes = 0;
    unsigned kinds = config->key_kinds;
    enum result result = put_url(kinds, source, out, bytes_max, &url_bytes);
    *ret_bytes = url_bytes;
    if (result != RESULT_OK || (kinds & ~(unsigned)KINDS_OF_URL) == 0) {
        return result;
    }
    char *at = out + url_bytes;
    for (unsigned i = 0; i < config->key_count; i++) {
        const struct config_part *part = &config->key[i];
        if (part_label(part->kind).len > 0 && !put_part(&at, out + bytes_max, part, source)) {
            return RESULT_LIMIT;
        }
    }
    *ret_bytes = (size_t)(at - out);
    return RESULT_OK;
}
