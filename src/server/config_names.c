/* Names that HTTP gives a form: hosts, paths, methods and header fields. */

#include <limits.h>
#include <llhttp.h>

#include "base/check.h"
#include "http/uri.h"
#include "server/config_internal.h"

static bool is_alnum(char c)
{
    return (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z') || (c >= '0' && c <= '9');
}

bool config_is_token(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '\0' || !(is_alnum(c) || strchr("!#$%&'*+-.^_`|~", c) != NULL)) {
            return false;
        }
    }
    return text.len > 0;
}

bool config_read_name(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, struct bytes *into)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!is_alnum(text.ptr[i]) && text.ptr[i] != '.' && text.ptr[i] != '_' && text.ptr[i] != '-') {
            config_complain(reader, node, "%s: '%s' is not a name; use letters, digits, '.', '_' and '-'", key->path,
                            config_shown(reader, text));
            return false;
        }
    }
    struct bytes copy = config_copy(reader, &reader->config->arena, text);
    *into = copy;
    return copy.ptr != NULL;
}

/* ---- hosts ---- */

/* Labels of letters, digits, '-' and '_' (which RFC 952 lacks and private names have), between dots. */
static bool is_host_name(struct bytes text)
{
    enum { LABEL_BYTES_MAX = 63, NAME_BYTES_MAX = 253 };
    size_t label = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c == '.') {
            if (label == 0) {
                return false;
            }
            label = 0;
        } else if (!(is_alnum(c) || c == '-' || c == '_') || ++label > LABEL_BYTES_MAX) {
            return false;
        }
    }
    return label > 0 && text.len <= NAME_BYTES_MAX;
}

/* An IPv6 address in brackets, as Host has it. */
static bool is_bracketed(struct bytes text)
{
    char with_port[64];
    struct ring_address address;
    if (text.len < 4 || text.ptr[0] != '[' || text.ptr[text.len - 1] != ']' || text.len + 2 > sizeof(with_port)) {
        return false;
    }
    memcpy(with_port, text.ptr, text.len);
    memcpy(with_port + text.len, ":1", 2);
    return ring_address_parse((struct bytes){with_port, text.len + 2}, &address) == RESULT_OK;
}

bool config_read_host(struct config_reader *reader, const struct config_node *node, struct bytes text,
                      struct bytes *into)
{
    struct bytes name = text;
    if (bytes_starts_with(text, BYTES("*."))) {
        name.ptr += 2;
        name.len -= 2;
    }
    if (!is_host_name(name) && !is_bracketed(text)) {
        const char *advice = "write a name such as api.example.com, or \"*.example.com\" for every name below it";
        if (memmem(text.ptr, text.len, "://", 3) != NULL) {
            advice = "write the name alone, without a scheme";
        } else if (memchr(text.ptr, '*', text.len) != NULL) {
            advice = "a '*' stands only in front, for whole labels: \"*.example.com\"; for any host leave the line out";
        } else if (memchr(text.ptr, ':', text.len) != NULL) {
            advice = "write the name without a port";
        } else if (text.ptr[text.len - 1] == '.') {
            advice = "leave the last '.' out";
        }
        config_complain(reader, node, "routes[].host: '%s' is not a host; %s", config_shown(reader, text), advice);
        return false;
    }
    char *copy = config_alloc(reader, &reader->config->arena, text.len + 1);
    if (copy == NULL) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        copy[i] = ascii_lower(text.ptr[i]);
    }
    copy[text.len] = '\0';
    *into = (struct bytes){copy, text.len};
    return true;
}

/* ---- paths ---- */

bool config_read_path(struct config_reader *reader, const struct config_node *node, struct bytes text,
                      struct bytes *into)
{
    const char *shown = config_shown(reader, text);
    if (text.ptr[0] != '/') {
        config_complain(reader, node, "path '%s' does not begin with '/'; write '/%s'", shown,
                        memmem(text.ptr, text.len, "://", 3) == NULL ? shown : "...");
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= 0x20 || c >= 0x7f || strchr("?#*\"<>\\^`{|}", c) != NULL) {
            config_complain(reader, node, "path '%s' has a character that no path has; %s", shown,
                            c == '*'   ? "there are no patterns: use path_prefix"
                            : c == '?' ? "the query is not part of it"
                                       : "write it percent-encoded, as clients do");
            return false;
        }
    }
    /* Requests are matched by their normal form; a path that is not in it would never match. */
    char *normal = config_alloc(reader, &reader->scratch, text.len + 1);
    bool same = false;
    if (normal == NULL) {
        return false;
    }
    size_t length = http_path_normalize(text, normal, &same);
    if (!same && !bytes_equal(text, (struct bytes){normal, length})) {
        config_complain(reader, node, "path '%s' never matches, since requests are matched by their normal form; %s%s",
                        shown, length == 0 ? "correct its %-escapes and '..'" : "write ",
                        length == 0 ? "" : config_shown(reader, (struct bytes){normal, length}));
        return false;
    }
    *into = config_copy(reader, &reader->config->arena, text);
    return into->ptr != NULL;
}

/* ---- methods ---- */

bool config_read_method(struct config_reader *reader, const struct config_node *node, struct bytes text,
                        struct bytes *into)
{
#define NAME(number, name, string) {#string, sizeof(#string) - 1},
    static const struct bytes methods[] = {HTTP_METHOD_MAP(NAME)};
#undef NAME
    unsigned nearest = 0;
    unsigned least = UINT_MAX;
    for (unsigned i = 0; i < ARRAY_COUNT(methods); i++) {
        if (bytes_equal(text, methods[i])) {
            *into = config_copy(reader, &reader->config->arena, text);
            return into->ptr != NULL;
        }
        unsigned distance = config_distance(text, methods[i]);
        if (distance < least) {
            least = distance;
            nearest = i;
        }
    }
    bool near = config_is_near(text, least);
    config_complain(reader, node, "routes[].methods: '%s' is not a method%s; %s%s", config_shown(reader, text),
                    config_is_token(text) ? " this server reads" : "",
                    near ? "write " : "write one such as GET or POST", near ? methods[nearest].ptr : "");
    return false;
}

/* ---- header fields ---- */

bool config_value_is_valid(struct bytes value)
{
    for (size_t i = 0; i < value.len; i++) {
        unsigned char c = (unsigned char)value.ptr[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            return false;
        }
    }
    return bytes_equal(bytes_trim(value), value);
}

/* Fields that the server writes itself: a second one would contradict it (RFC 9112 §6). */
static const char *why_reserved(struct bytes name)
{
    static const char *const written[] = {"connection", "content-length",   "date",    "keep-alive",
                                          "te",         "trailer",          "upgrade", "proxy-connection",
                                          "server",     "transfer-encoding"};
    for (unsigned i = 0; i < ARRAY_COUNT(written); i++) {
        if (bytes_equal_nocase(name, bytes_from(written[i]))) {
            return "the server writes it itself; leave it out";
        }
    }
    return bytes_equal_nocase(name, BYTES("content-type")) ? "use content_type for it" : NULL;
}

bool config_read_header(struct config_reader *reader, const struct config_node *node, struct config_header *into)
{
    struct bytes name = node->key->text;
    if (node->key->kind != CONFIG_SCALAR || !config_is_token(name)) {
        config_complain(reader, node->key,
                        "routes[].respond.headers: '%s' is not a field name; use letters, digits and '-'",
                        node->key->kind == CONFIG_SCALAR ? config_shown(reader, name) : "{}");
        return false;
    }
    const char *reserved = why_reserved(name);
    if (reserved != NULL) {
        config_complain(reader, node->key, "routes[].respond.headers: '%s' cannot be set here; %s",
                        config_shown(reader, name), reserved);
        return false;
    }
    struct bytes value = BYTES("");
    if (node->kind != CONFIG_SCALAR) {
        config_complain(reader, node, "routes[].respond.headers: '%s' is not a single value; write 'Name: value'",
                        config_shown(reader, name));
        return false;
    }
    if (!config_node_is_null(node) && !config_expand(reader, node, &value)) {
        return false;
    }
    if (!config_value_is_valid(value)) {
        config_complain(reader, node,
                        "routes[].respond.headers: the value of '%s' has a line break, another control character or "
                        "white space at an end; write visible characters on one line",
                        config_shown(reader, name));
        return false;
    }
    into->name = config_copy(reader, &reader->config->arena, name);
    into->value = config_copy(reader, &reader->config->arena, value);
    return into->value.ptr != NULL;
}
