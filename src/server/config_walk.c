/* From the tree to struct config, by the table of keys: nothing here knows any key by name.
 *
 * Keys are taken in the table's order, not the file's, so that upstreams are known before routes name them. */

#include <limits.h>
#include <stdio.h>

#include "server/config_internal.h"

/* Room for what messages call a thing: the longest path is "routes[].inference.half_close_is_departure". */
enum { WHERE_BYTES = 64 };

static void read_mapping(struct config_reader *reader, const struct config_key *container,
                         const struct config_node *node, char *base);

/* "in 'routes[]'", or "" for the file itself. */
static const char *where(const struct config_key *container, char out[WHERE_BYTES])
{
    out[0] = '\0';
    if (container != NULL) {
        snprintf(out, WHERE_BYTES, " in '%s%s'", container->path, container->type == CONFIG_LIST ? "[]" : "");
    }
    return out;
}

/* ---- keys that are not there ---- */

/* A key of that name in another place; a list's element does not count, its list does. */
static const struct config_key *find_elsewhere(struct bytes name)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        if (bytes_equal(config_key_name(config_key_at(i)), name)) {
            return config_key_at(i);
        }
    }
    return NULL;
}

static const struct config_key *find_nearest(const struct config_key *container, struct bytes name)
{
    const struct config_key *nearest = NULL;
    unsigned least = UINT_MAX;
    for (unsigned i = 0; i < config_key_count(); i++) {
        const struct config_key *key = config_key_at(i);
        if (!config_key_is_in(key, container)) {
            continue;
        }
        struct bytes known = config_key_name(key);
        /* `connect_timeout` without its unit is nearer than its distance says. */
        bool stem = name.len > 3 && bytes_starts_with(known, name);
        unsigned distance = stem ? 1 : config_distance(name, known);
        if (distance < least) {
            least = distance;
            nearest = key;
        }
    }
    return nearest != NULL && config_is_near(name, least) ? nearest : NULL;
}

static void complain_of_unknown(struct config_reader *reader, const struct config_key *container,
                                const struct config_node *key_node)
{
    if (reader->fault_count >= CONFIG_FAULTS_MAX) {
        reader->fault_count++; /* it would not be shown: not worth the search for what was meant */
        return;
    }
    char place[WHERE_BYTES];
    const char *shown = config_shown(reader, key_node->text);
    if (bytes_equal(key_node->text, BYTES("<<"))) {
        config_complain(reader, key_node, "merge keys ('<<') are not supported; write the keys out");
        return;
    }
    const struct config_key *nearest = find_nearest(container, key_node->text);
    if (nearest != NULL) {
        config_complain(reader, key_node, "unknown key '%s'%s; did you mean '%.*s'?", shown, where(container, place),
                        BYTES_ARG(config_key_name(nearest)));
        return;
    }
    const struct config_key *elsewhere = find_elsewhere(key_node->text);
    if (elsewhere != NULL) {
        config_complain(reader, key_node, "unknown key '%s'%s; it belongs at '%s'", shown, where(container, place),
                        elsewhere->path);
        return;
    }
    char known[640]; /* a test sees to it that every container's keys fit */
    size_t used = 0;
    known[0] = '\0';
    for (unsigned i = 0; i < config_key_count(); i++) {
        if (config_key_is_in(config_key_at(i), container) && used < sizeof(known)) {
            used += (size_t)snprintf(known + used, sizeof(known) - used, "%s%.*s", used == 0 ? "" : ", ",
                                     BYTES_ARG(config_key_name(config_key_at(i))));
        }
    }
    config_complain(reader, key_node, "unknown key '%s'%s; known here: %s", shown, where(container, place), known);
}

static const struct config_key *find_key(const struct config_key *container, struct bytes name)
{
    for (unsigned i = 0; i < config_key_count(); i++) {
        if (config_key_is_in(config_key_at(i), container) && bytes_equal(config_key_name(config_key_at(i)), name)) {
            return config_key_at(i);
        }
    }
    return NULL;
}

/* Complains when an earlier key in the mapping is the same. The cost is quadratic, but mappings are small:
 * what follows CONFIG_FAULTS_MAX strange keys is not looked at. */
static bool is_duplicate(struct config_reader *reader, const struct config_node *mapping,
                         const struct config_node *value)
{
    for (const struct config_node *other = mapping->children; other != value; other = other->next) {
        if (other->key->kind == CONFIG_SCALAR && bytes_equal(other->key->text, value->key->text)) {
            config_complain(reader, value->key, "'%s' is given twice, first at line %u; keep one of them",
                            config_shown(reader, value->key->text), other->key->line);
            return true;
        }
    }
    return false;
}

static void check_keys(struct config_reader *reader, const struct config_key *container,
                       const struct config_node *mapping)
{
    unsigned before = reader->fault_count;
    for (const struct config_node *value = mapping->children; value != NULL; value = value->next) {
        if (reader->fault_count - before > CONFIG_FAULTS_MAX) {
            return;
        }
        if (value->key->kind != CONFIG_SCALAR) {
            config_complain(reader, value->key, "a key must be a single word; quote a value that begins with { or [");
        } else if (!is_duplicate(reader, mapping, value) && find_key(container, value->key->text) == NULL) {
            complain_of_unknown(reader, container, value->key);
        }
    }
}

/* ---- containers ---- */

static const char *kind_name(const struct config_node *node)
{
    switch (node->kind) {
    case CONFIG_SEQUENCE: return "a list";
    case CONFIG_MAPPING: return "a mapping";
    default: return config_node_is_null(node) ? "nothing" : "a single value";
    }
}

/* Counts one more value read; false when aliases have made it too many. */
static bool visit(struct config_reader *reader, const struct config_node *node)
{
    if (reader->visits == CONFIG_VISITS_MAX) {
        config_complain(reader, node, "aliases make more than %d values of this file; write it without them",
                        CONFIG_VISITS_MAX);
    }
    return reader->visits++ < CONFIG_VISITS_MAX && !reader->no_memory;
}

/* Room for a list's elements, all zero, once its length is known to be right. */
static char *make_elements(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                           char *base)
{
    if (node->child_count < key->min) {
        config_complain(reader, node, "'%s' has no entries; it takes %llu to %llu", key->path,
                        (unsigned long long)key->min, (unsigned long long)key->max);
    }
    if (node->child_count > key->max) {
        config_complain(reader, node, "'%s' has %u entries; it takes at most %llu", key->path, node->child_count,
                        (unsigned long long)key->max);
    }
    if (node->child_count == 0 || node->child_count > key->max) {
        return NULL;
    }
    char *elements = config_alloc(reader, &reader->config->arena, (size_t)key->bytes * node->child_count);
    if (elements == NULL) {
        return NULL;
    }
    memset(elements, 0, (size_t)key->bytes * node->child_count);
    memcpy(base + key->at, &elements, sizeof(elements));
    memcpy(base + key->count_at, &node->child_count, sizeof(unsigned));
    return elements;
}

static void read_list(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                      char *base)
{
    if (node->kind != CONFIG_SEQUENCE) {
        if (config_node_is_null(node) && key->min == 0) {
            return;
        }
        config_complain(reader, node, "'%s' is %s; it should be a list: lines that begin with '- ', or [ ... ]",
                        key->path, kind_name(node));
        return;
    }
    char *element = make_elements(reader, key, node, base);
    const struct config_key *scalar = config_key_of_elements(key);
    for (const struct config_node *item = node->children; item != NULL && element != NULL; item = item->next) {
        if (scalar != NULL) {
            if (visit(reader, item)) {
                config_read_scalar(reader, scalar, item, element);
            }
        } else {
            read_mapping(reader, key, item, element);
        }
        element += key->bytes;
    }
}

static void read_headers(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                         char *base)
{
    if (config_node_is_null(node)) {
        return;
    }
    if (node->kind != CONFIG_MAPPING) {
        config_complain(reader, node, "'%s' is %s; it should be a mapping: { Name: value, ... }", key->path,
                        kind_name(node));
        return;
    }
    struct config_header *header = (struct config_header *)(void *)make_elements(reader, key, node, base);
    for (const struct config_node *value = node->children; value != NULL && header != NULL; value = value->next) {
        if (visit(reader, value)) {
            config_read_header(reader, value, header++);
        }
    }
}

/* `cache: true` stands for `cache: { enabled: true }`, where the table says so. */
static void read_section(struct config_reader *reader, const struct config_key *key, const struct config_node *node,
                         char *base)
{
    bool is_alone = key->alone != NULL && node != NULL && node->kind == CONFIG_SCALAR && !config_node_is_null(node);
    read_mapping(reader, key, is_alone ? NULL : node, base);
    if (is_alone && visit(reader, node)) {
        config_read_scalar(reader, find_key(key, bytes_from(key->alone)), node, base);
    }
}

static void read_key(struct config_reader *reader, const struct config_key *key, const struct config_node *mapping,
                     const struct config_node *value, char *base)
{
    if (value == NULL && key->required && mapping != NULL) {
        config_complain(reader, mapping, "'%s' is missing; add it: %s", key->path, key->help);
        return;
    }
    switch (key->type) {
    case CONFIG_SECTION: read_section(reader, key, value, base); break;
    case CONFIG_OPTIONAL:
        if (value != NULL) {
            bool there = true;
            if (key->at != CONFIG_NOWHERE) {
                memcpy(base + key->at, &there, sizeof(there));
            }
            read_mapping(reader, key, value, base);
        }
        break;
    case CONFIG_LIST:
        if (value != NULL) {
            read_list(reader, key, value, base);
        }
        break;
    case CONFIG_HEADERS:
        if (value != NULL) {
            read_headers(reader, key, value, base);
        }
        break;
    default:
        if (key->fallback != NULL) {
            struct config_node fallback = {.kind = CONFIG_SCALAR, .text = bytes_from(key->fallback)};
            config_read_scalar(reader, key, &fallback, base);
        }
        if (value != NULL) {
            config_read_scalar(reader, key, value, base);
        } else {
            config_read_variable(reader, key, base);
        }
        break;
    }
}

/* `node` may be NULL: the container is left out, and only its defaults are set. */
static void read_mapping(struct config_reader *reader, const struct config_key *container,
                         const struct config_node *node, char *base)
{
    static const struct config_node nothing = {.kind = CONFIG_MAPPING};
    if (node != NULL && !visit(reader, node)) {
        return;
    }
    struct config_node empty;
    if (node != NULL && config_node_is_null(node)) {
        /* All the lines below the key are commented out, usually. */
        empty = nothing;
        empty.line = node->line;
        empty.column = node->column;
        node = &empty;
    }
    if (node != NULL && node->kind != CONFIG_MAPPING) {
        config_complain(reader, node, "%s%s is %s; it should be a mapping: lines of the form 'key: value'",
                        container == NULL ? "the file" : container->path,
                        container != NULL && container->type == CONFIG_LIST ? "[]" : "", kind_name(node));
        node = NULL;
    }
    if (node != NULL) {
        check_keys(reader, container, node);
    }
    for (unsigned i = 0; i < config_key_count() && !reader->no_memory; i++) {
        const struct config_key *key = config_key_at(i);
        if (config_key_is_in(key, container)) {
            struct config_node *value = node == NULL ? NULL : config_node_get(node, config_key_name(key).ptr);
            read_key(reader, key, node, value, base);
        }
    }
}

void config_walk(struct config_reader *reader, const struct config_node *root)
{
    read_mapping(reader, NULL, root, (char *)reader->config);
}
