/* One value: its text to the type, and inside the bounds, that the table of keys gives.
 *
 * The type is the key's alone: quotes do not make a text of a number, so that "${WORKERS:-4}" can be quoted
 * where YAML asks for it. */

#include <limits.h>
#include <stdio.h>

#include "base/check.h"
#include "server/config_internal.h"

enum { DESCRIPTION_BYTES = 128 };

static bool read_bool(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, char *into)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on"}; /* YAML 1.1's */
    _Static_assert(sizeof(bool) == sizeof(uint8_t), "a key that may be auto is a byte, others are bools");
    for (unsigned i = 0; i < ARRAY_COUNT(words); i++) {
        if (bytes_equal_nocase(text, bytes_from(words[i]))) {
            bool value = i % 2 == 1;
            memcpy(into, &value, sizeof(value));
            return true;
        }
    }
    if (key->words != NULL && bytes_equal_nocase(text, bytes_from(key->words[0]))) {
        uint8_t value = CONFIG_BOOL_AUTO;
        memcpy(into, &value, sizeof(value));
        return true;
    }
    config_complain(reader, node, "%s: '%s' is neither true nor false%s%s; write one of them", key->path,
                    config_shown(reader, text), key->words == NULL ? "" : " nor ",
                    key->words == NULL ? "" : key->words[0]);
    return false;
}

/* "a whole number from 1 to 1024 (ms), or auto" */
static const char *describe_number(const struct config_key *key, char out[DESCRIPTION_BYTES])
{
    snprintf(out, DESCRIPTION_BYTES, "a whole number from %llu to %llu%s%s%s%s%s", (unsigned long long)key->min,
             (unsigned long long)key->max, key->unit == NULL ? "" : " (", key->unit == NULL ? "" : key->unit,
             key->unit == NULL ? "" : ")", key->zero == NULL ? "" : ", or ", key->zero == NULL ? "" : key->zero);
    return out;
}

static void put_number(const struct config_key *key, uint64_t value, char *into)
{
    uint16_t half = (uint16_t)value;
    uint32_t word = (uint32_t)value;
    if (key->bytes == sizeof(half)) {
        memcpy(into, &half, sizeof(half));
    } else if (key->bytes == sizeof(word)) {
        memcpy(into, &word, sizeof(word));
    } else {
        CHECK(key->bytes == sizeof(value));
        memcpy(into, &value, sizeof(value));
    }
}

/* Takes "KB", "kib", "G" and the like off the end of *text; gives how many times two it multiplies by. */
static unsigned take_unit(struct bytes *text)
{
    static const char letters[] = "kmgt";
    struct bytes rest = *text;
    if (rest.len > 0 && ascii_lower(rest.ptr[rest.len - 1]) == 'b') {
        rest.len--;
    }
    bool is_binary = rest.len < text->len && rest.len > 0 && rest.ptr[rest.len - 1] == 'i';
    size_t end = rest.len - (is_binary ? 1 : 0);
    const char *letter = end == 0 ? NULL : memchr(letters, ascii_lower(rest.ptr[end - 1]), sizeof(letters) - 1);
    rest.len = letter == NULL ? rest.len : end - 1;
    *text = bytes_trim(rest);
    return letter == NULL ? 0 : 10 * (unsigned)(letter - letters + 1);
}

/* Digits, and '_' between digits as YAML 1.1 has it: 10_485_760. */
bool config_to_number(struct bytes text, bool has_unit, uint64_t *ret_value)
{
    unsigned shift = has_unit ? take_unit(&text) : 0;
    char digits[32];
    size_t count = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == '_' && i > 0 && i + 1 < text.len && text.ptr[i - 1] != '_') {
            continue;
        }
        if (count == sizeof(digits)) {
            return false;
        }
        digits[count++] = text.ptr[i];
    }
    uint64_t value;
    if (!bytes_to_u64((struct bytes){digits, count}, &value) || value > UINT64_MAX >> shift) {
        return false;
    }
    *ret_value = value << shift;
    return true;
}

static bool read_number(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        struct bytes text, char *into)
{
    char should[DESCRIPTION_BYTES];
    if (key->zero != NULL && bytes_equal_nocase(text, bytes_from(key->zero))) {
        put_number(key, 0, into);
        return true;
    }
    uint64_t value;
    bool has_unit = key->unit != NULL && strcmp(key->unit, "bytes") == 0;
    if (!config_to_number(text, has_unit, &value)) {
        config_complain(reader, node, "%s: '%s' is not a number; it should be %s", key->path,
                        config_shown(reader, text), describe_number(key, should));
        return false;
    }
    if (value < key->min || value > key->max) {
        config_complain(reader, node, "%s: %llu is too %s; it should be %s", key->path, (unsigned long long)value,
                        value < key->min ? "small" : "large", describe_number(key, should));
        return false;
    }
    put_number(key, value, into);
    return true;
}

static bool read_word(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, char *into)
{
    char known[DESCRIPTION_BYTES];
    size_t used = 0;
    for (unsigned i = 0; key->words[i] != NULL; i++) {
        if (bytes_equal(text, bytes_from(key->words[i]))) {
            memcpy(into, &i, sizeof(i));
            return true;
        }
        used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", i == 0 ? "" : ", ", key->words[i]);
        CHECK(used < sizeof(known));
    }
    config_complain(reader, node, "%s: '%s' is not known; it should be one of %s", key->path,
                    config_shown(reader, text), known);
    return false;
}

/* "known: a, b, ..." */
static const char *known_upstreams(struct config_reader *reader)
{
    enum { LISTED_MAX = 8 };
    const struct config *config = reader->config;
    struct bytes known = BYTES("known: ");
    unsigned listed = 0;
    for (unsigned i = 0; i < config->upstream_count && !reader->no_memory; i++) {
        struct bytes name = config->upstreams[i].name;
        if (name.len == 0) {
            continue; /* its own fault was reported */
        }
        bool last = listed == LISTED_MAX;
        known = arena_format(&reader->scratch, "%.*s%s%.*s", BYTES_ARG(known), listed == 0 ? "" : ", ",
                             last ? 3 : (int)name.len, last ? "..." : name.ptr);
        reader->no_memory = reader->no_memory || known.ptr == NULL;
        if (listed++ == LISTED_MAX) {
            break;
        }
    }
    return listed == 0 ? "'upstreams' has none at all" : known.ptr;
}

static bool read_upstream(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                          struct bytes text, char *into)
{
    const struct config *config = reader->config;
    unsigned nearest = 0;
    unsigned least = UINT_MAX;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        if (bytes_equal(config->upstreams[i].name, text)) {
            memcpy(into, &i, sizeof(i));
            return true;
        }
        unsigned distance = config_distance(text, config->upstreams[i].name);
        if (distance < least) {
            least = distance;
            nearest = i;
        }
    }
    const char *shown = config_shown(reader, text);
    const char *known = known_upstreams(reader);
    if (reader->no_memory) {
        return false;
    }
    if (config_is_near(text, least)) {
        config_complain(reader, node, "%s: there is no upstream '%s'; did you mean '%.*s'? (%s)", key->path, shown,
                        BYTES_ARG(config->upstreams[nearest].name), known);
    } else {
        config_complain(reader, node, "%s: there is no upstream '%s'; %s", key->path, shown, known);
    }
    return false;
}

static bool read_text(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, char *into)
{
    if (key->type == CONFIG_VALUE && !config_value_is_valid(text)) {
        config_complain(reader, node, "%s: '%s' cannot stand in a header field; use visible characters on one line",
                        key->path, config_shown(reader, text));
        return false;
    }
    struct bytes copy = config_copy(reader, &reader->config->arena, text);
    memcpy(into, &copy, sizeof(copy));
    return copy.ptr != NULL;
}

/* A text's bounds are of its length. */
static bool length_is_right(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                            struct bytes text)
{
    if (text.len == 0 && key->min > 0) {
        config_complain(reader, node, "%s is empty; give it a value, or leave the line out", key->path);
        return false;
    }
    if (text.len < key->min || text.len > key->max) {
        bool few = text.len < key->min;
        config_complain(reader, node, "%s: %zu bytes are too %s; it takes at %s %llu", key->path, text.len,
                        few ? "few" : "many", few ? "least" : "most", (unsigned long long)(few ? key->min : key->max));
        return false;
    }
    return true;
}

bool config_read_scalar(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        char *base)
{
    if (node->kind != CONFIG_SCALAR) {
        config_complain(reader, node, "%s is a %s; it should be a single value", key->path,
                        node->kind == CONFIG_SEQUENCE ? "list" : "mapping");
        return false;
    }
    struct bytes text;
    if (config_node_is_null(node)) {
        config_complain(reader, node, "%s has no value; give it one, or leave the line out", key->path);
        return false;
    }
    return config_expand(reader, node, &text) && config_read_text(reader, key, node, text, base);
}

bool config_read_text(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, char *base)
{
    char *into = base + key->at;
    switch (key->type) {
    case CONFIG_BOOL: return read_bool(reader, key, node, text, into);
    case CONFIG_NUMBER: return read_number(reader, key, node, text, into);
    case CONFIG_WORD: return read_word(reader, key, node, text, into);
    case CONFIG_MEMORY: return config_read_memory(reader, key, node, text, into);
    default: break;
    }
    if (!length_is_right(reader, key, node, text)) {
        return false;
    }
    switch (key->type) {
    case CONFIG_TEXT:
    case CONFIG_VALUE: return read_text(reader, key, node, text, into);
    case CONFIG_NAME: return config_read_name(reader, key, node, text, (struct bytes *)(void *)into);
    case CONFIG_HOST: return config_read_host(reader, node, text, (struct bytes *)(void *)into);
    case CONFIG_PATH: return config_read_path(reader, node, text, (struct bytes *)(void *)into);
    case CONFIG_METHOD: return config_read_method(reader, node, text, (struct bytes *)(void *)into);
    case CONFIG_LISTENS: return config_read_listener(reader, key, node, text, into);
    case CONFIG_ENDPOINT: return config_read_endpoint(reader, key, node, text, into);
    case CONFIG_UPSTREAM: return read_upstream(reader, key, node, text, into);
    case CONFIG_FILE: return config_read_file(reader, key, node, text, into);
    case CONFIG_SECRET: return config_read_secret(reader, key, node, text, into);
    case CONFIG_PART: return config_read_part(reader, key, node, text, into);
    case CONFIG_FIELD: return config_read_field(reader, key, node, text, into);
    default: CHECK(false); return false; /* containers are read by config_walk.c */
    }
}
