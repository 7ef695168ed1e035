/* The cache's values: memory, parts of requests, names of fields, the secret; and what follows from several of them. */

#include "base/check.h"
#include "server/config_internal.h"

/* ---- memory ---- */

bool config_read_memory(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        struct bytes text, void *into)
{
    struct config_memory *memory = (struct config_memory *)into;
    uint64_t value;
    if (text.len > 0 && text.ptr[text.len - 1] == '%') {
        struct bytes number = bytes_trim((struct bytes){text.ptr, text.len - 1});
        if (!config_to_number(number, false, &value) || value > CONFIG_PERCENT_MAX) {
            config_complain(reader, node,
                            "%s: '%s' is not a percentage from 0%% to %d%%; write one such as 25%%, or bytes "
                            "such as 512MB",
                            key->path, config_shown(reader, text), CONFIG_PERCENT_MAX);
            return false;
        }
        *memory = (struct config_memory){.percent = (unsigned)value};
        return true;
    }
    if (!config_to_number(text, true, &value)) {
        config_complain(reader, node,
                        "%s: '%s' is neither bytes nor a percentage; write 512MB or 25%%, or 0 for no cache", key->path,
                        config_shown(reader, text));
        return false;
    }
    if (value > key->max || (value < key->min && value > 0)) {
        config_complain(reader, node, "%s: %llu bytes are too %s; it takes %llu to %llu, or 0 for no cache", key->path,
                        (unsigned long long)value, value > key->max ? "many" : "few", (unsigned long long)key->min,
                        (unsigned long long)key->max);
        return false;
    }
    *memory = (struct config_memory){.bytes = value};
    return true;
}

uint64_t config_cache_memory_bytes(const struct config *config, uint64_t usable_bytes)
{
    const struct config_memory *memory = &config->cache.memory;
    return memory->percent == 0 ? memory->bytes : usable_bytes / 100 * memory->percent;
}

/* ---- texts ---- */

static bool put_copy(struct config_reader *reader, struct bytes text, bool lower, struct bytes *into)
{
    char *copy = config_alloc(reader, &reader->config->arena, text.len + 1);
    if (copy == NULL) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        copy[i] = lower ? ascii_lower(text.ptr[i]) : text.ptr[i];
    }
    copy[text.len] = '\0';
    *into = (struct bytes){copy, text.len};
    return true;
}

bool config_read_file(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, void *into)
{
    if (memchr(text.ptr, '\0', text.len) != NULL) {
        config_complain(reader, node, "%s: '%s' has a NUL in it, which no path has; take it out", key->path,
                        config_shown(reader, text));
        return false;
    }
    if (bytes_equal(text, BYTES(":memory:")) || bytes_starts_with(text, BYTES("file:"))) {
        config_complain(reader, node, "%s: '%s' is no file; write its path, or leave the line out for no second tier",
                        key->path, config_shown(reader, text));
        return false;
    }
    return put_copy(reader, text, false, (struct bytes *)into);
}

/* RFC 6750 §2.1: b64token. What it is stays out of messages: they end up in logs. */
bool config_read_secret(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                        struct bytes text, void *into)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = ascii_lower(text.ptr[i]);
        bool right = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c != '\0' && strchr("-._~+/=", c) != NULL);
        if (!right) {
            config_complain(reader, node,
                            "%s has a character that no bearer token has; use letters, digits and any of "
                            "- . _ ~ + / =",
                            key->path);
            return false;
        }
    }
    return put_copy(reader, text, false, (struct bytes *)into);
}

bool config_read_field(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                       struct bytes text, void *into)
{
    if (!config_is_token(text)) {
        config_complain(reader, node, "%s: '%s' is not a field name; use letters, digits and '-'", key->path,
                        config_shown(reader, text));
        return false;
    }
    if (bytes_equal_nocase(text, BYTES("cache-control"))) {
        config_complain(reader, node, "%s: Cache-Control counts without being named; leave it out", key->path);
        return false;
    }
    return put_copy(reader, text, true, (struct bytes *)into);
}

/* ---- parts ---- */

/* What the query calls an argument: anything that can stand there unescaped, but for what divides it. */
static bool is_argument(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        unsigned char c = (unsigned char)name.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '&' || c == '=' || c == '#') {
            return false;
        }
    }
    return name.len > 0;
}

bool config_read_part(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      struct bytes text, void *into)
{
    static const struct {
        const char *word;
        enum config_part_kind kind;
    } wholes[] = {
        {"method", CONFIG_PART_METHOD}, {"host", CONFIG_PART_HOST},       {"path", CONFIG_PART_PATH},
        {"query", CONFIG_PART_QUERY},   {"address", CONFIG_PART_ADDRESS},
    };
    static const struct {
        const char *prefix;
        enum config_part_kind kind;
    } named[] = {
        {"header:", CONFIG_PART_HEADER},
        {"cookie:", CONFIG_PART_COOKIE},
        {"query:", CONFIG_PART_ARGUMENT},
    };
    struct config_part *part = (struct config_part *)into;
    struct bytes words = BYTES_NONE; /* those it may be, for a message */
    for (unsigned i = 0; key->words != NULL && key->words[i] != NULL; i++) {
        for (unsigned k = 0; k < ARRAY_COUNT(wholes); k++) {
            if (strcmp(key->words[i], wholes[k].word) == 0 && bytes_equal(text, bytes_from(wholes[k].word))) {
                *part = (struct config_part){.kind = wholes[k].kind};
                return true;
            }
        }
        words = arena_format(&reader->scratch, "%.*s%s, ", BYTES_ARG(words), key->words[i]);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(named); i++) {
        size_t skip = strlen(named[i].prefix);
        if (!bytes_starts_with(text, bytes_from(named[i].prefix))) {
            continue;
        }
        struct bytes name = {text.ptr + skip, text.len - skip};
        bool is_argument_name = named[i].kind == CONFIG_PART_ARGUMENT;
        if (!(is_argument_name ? is_argument(name) : config_is_token(name))) {
            config_complain(reader, node, "%s: '%s' has no name behind the colon that can be one; write '%sname'",
                            key->path, config_shown(reader, text), named[i].prefix);
            return false;
        }
        part->kind = named[i].kind;
        return put_copy(reader, name, named[i].kind == CONFIG_PART_HEADER, &part->name);
    }
    config_complain(reader, node, "%s: '%s' is not known; it should be one of %.*sheader:NAME, cookie:NAME, query:NAME",
                    key->path, config_shown(reader, text), BYTES_ARG(words));
    return false;
}

/* ---- what follows from several ---- */

static void check_object(struct config_reader *reader, const struct config_node *cache)
{
    struct config *config = reader->config;
    uint64_t memory = config->cache.memory.bytes;
    if (memory == 0 || config->cache.object_bytes_max <= memory) {
        return;
    }
    const struct config_node *object = config_node_get(cache, "object_bytes_max");
    if (object == NULL) {
        config->cache.object_bytes_max = memory; /* only the memory was lowered, and the default goes with it */
        return;
    }
    config_complain(
        reader, object,
        "cache.object_bytes_max: %llu is more than the whole cache may have; it should be at most cache.memory, "
        "which is %llu",
        (unsigned long long)config->cache.object_bytes_max, (unsigned long long)memory);
}

static void check_parts(struct config_reader *reader, const struct config_part *parts, const struct config_node *list)
{
    const struct config_node *node = list == NULL ? NULL : list->children;
    for (unsigned i = 0; parts != NULL && node != NULL; i++, node = node->next) {
        for (unsigned j = 0; j < i; j++) {
            if (parts[i].kind != CONFIG_PART_NONE && parts[i].kind == parts[j].kind &&
                bytes_equal(parts[i].name, parts[j].name)) {
                config_complain(reader, node, "'%s' is given twice; keep one of them",
                                config_shown(reader, node->text));
                break;
            }
        }
    }
}

void config_check_cache(struct config_reader *reader, const struct config_node *root)
{
    static const struct config_part default_key[] = {
        {.kind = CONFIG_PART_HOST}, {.kind = CONFIG_PART_PATH}, {.kind = CONFIG_PART_QUERY}};
    static const struct bytes default_targets[] = {{"cdn-cache-control", sizeof("cdn-cache-control") - 1}};
    struct config *config = reader->config;
    check_object(reader, config_node_get(root, "cache"));
    const struct config_node *list = config_node_get(root, "routes");
    const struct config_node *node = list == NULL ? NULL : list->children;
    for (unsigned i = 0; i < config->route_count && node != NULL; i++, node = node->next) {
        struct config_route *route = &config->routes[i];
        if (route->kind == CONFIG_ROUTE_RESPOND) {
            continue;
        }
        bool is_http = route->kind == CONFIG_ROUTE_HTTP;
        const struct config_node *cache =
            config_node_get(config_node_get(node, is_http ? "http" : "inference"), "cache");
        check_parts(reader, route->cache.key, config_node_get(cache, "key"));
        check_parts(reader, route->cache.bypass, config_node_get(cache, "bypass"));
        if (cache != NULL && cache->kind == CONFIG_MAPPING && config_node_get(cache, "enabled") == NULL) {
            route->cache.enabled = true; /* who says how it is to be cached wants it cached */
        }
        const struct config_node *prefetch = config_node_get(cache, "prefetch");
        if (prefetch != NULL && prefetch->kind == CONFIG_MAPPING && config_node_get(prefetch, "enabled") == NULL) {
            route->cache.prefetch.enabled = true; /* likewise */
        }
        route->cache.prefetch.enabled = route->cache.prefetch.enabled && route->cache.enabled;
        if (is_http && route->cache.key_count == 0) {
            route->cache.key = default_key;
            route->cache.key_count = ARRAY_COUNT(default_key);
        }
        for (unsigned part = 0; part < route->cache.key_count; part++) {
            route->cache.key_kinds |= 1U << route->cache.key[part].kind;
        }
        if (is_http && config_node_get(cache, "targets") == NULL) {
            route->cache.targets = default_targets;
            route->cache.target_count = ARRAY_COUNT(default_targets);
        }
    }
}
