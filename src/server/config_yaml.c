/* YAML text to a tree of nodes that know where they stand.
 *
 * libyaml's events rather than its documents: depth, nodes and anchors are counted before anything is built
 * on them, an alias is resolved where it stands (so that no cycle can come to be), and the tree lies in the
 * scratch arena. libcyaml was not taken: it stops at its first fault, and its values have no position. */

#include <yaml.h>

#include "base/check.h"
#include "server/config_internal.h"

struct anchor {
    struct anchor *next;
    const struct config_node *node;
    struct bytes name;
};

/* A mapping or sequence that is being read. */
struct level {
    struct config_node *node;
    struct config_node **tail; /* where the next child goes */
    struct config_node *key;   /* read, its value not yet */
    struct bytes anchor;       /* known only once the node is complete */
};

struct builder {
    struct config_reader *reader;
    yaml_parser_t *parser;
    struct config_node *root;
    struct anchor *anchors;
    unsigned anchor_count;
    unsigned node_count;
    unsigned depth;
    struct level levels[CONFIG_DEPTH_MAX];
    bool failed; /* nothing after it can be read */
};

static void fail_at(struct builder *builder, yaml_mark_t mark, const char *what)
{
    builder->failed = true;
    config_complain_at(builder->reader, (unsigned)mark.line + 1, (unsigned)mark.column + 1, "%s", what);
}

/* ---- syntax errors ---- */

static unsigned line_of_offset(struct bytes text, size_t offset)
{
    unsigned line = 1;
    for (size_t i = 0; i < offset && i < text.len; i++) {
        line += text.ptr[i] == '\n';
    }
    return line;
}

/* The line (from 1) of the text, without its end. */
static struct bytes line_at(struct bytes text, size_t line)
{
    const char *end = text.ptr + text.len;
    const char *start = text.ptr;
    for (size_t i = 1; i < line && start < end; i++) {
        const char *newline = memchr(start, '\n', (size_t)(end - start));
        start = newline == NULL ? end : newline + 1;
    }
    if (start == end) {
        return BYTES_NONE;
    }
    const char *newline = memchr(start, '\n', (size_t)(end - start));
    return (struct bytes){start, (size_t)((newline == NULL ? end : newline) - start)};
}

/* libyaml says what it stumbled over; what people usually did is one of these. */
static const char *advice_for(struct bytes line)
{
    struct bytes rest = line;
    while (rest.len > 0 && (rest.ptr[0] == ' ' || rest.ptr[0] == '\t')) {
        if (rest.ptr[0] == '\t') {
            return "indent with spaces, not with tabs";
        }
        rest.ptr++;
        rest.len--;
    }
    if (line.len > 0 && memmem(line.ptr, line.len, "${", 2) != NULL && memchr(line.ptr, '"', line.len) == NULL) {
        return "inside [ ] and { } a value with ${...} needs quotes: \"${NAME}\"";
    }
    if (rest.len > 1 && memmem(rest.ptr, rest.len, ": *", 3) != NULL) {
        return "a value that begins with * needs quotes: \"*...\"";
    }
    return "check the indentation, and quote values that have any of : # { } [ ] , & * in them";
}

static void complain_of_syntax(struct builder *builder)
{
    const yaml_parser_t *parser = builder->parser;
    struct config_reader *reader = builder->reader;
    builder->failed = true;
    if (parser->error == YAML_MEMORY_ERROR) {
        reader->no_memory = true;
        return;
    }
    const char *problem = parser->problem == NULL ? "unreadable" : parser->problem;
    if (parser->error == YAML_READER_ERROR) {
        config_complain_at(reader, line_of_offset(reader->text, parser->problem_offset), 1,
                           "not valid YAML: %s; the file must be UTF-8 text without control characters", problem);
        return;
    }
    unsigned line = (unsigned)parser->problem_mark.line + 1;
    unsigned column = (unsigned)parser->problem_mark.column + 1;
    const char *advice = advice_for(line_at(reader->text, line));
    if (parser->context == NULL) {
        config_complain_at(reader, line, column, "not valid YAML: %s; %s", problem, advice);
        return;
    }
    config_complain_at(reader, line, column, "not valid YAML: %s, %s that began at line %zu; %s", problem,
                       parser->context, parser->context_mark.line + 1, advice);
}

/* ---- nodes ---- */

static struct config_node *new_node(struct builder *builder, yaml_mark_t mark, enum config_node_kind kind)
{
    if (++builder->node_count > CONFIG_NODES_MAX) {
        fail_at(builder, mark, "the file has more than 100000 values; no configuration needs that many");
        return NULL;
    }
    struct config_node *node = config_alloc(builder->reader, &builder->reader->scratch, sizeof(*node));
    if (node == NULL) {
        builder->failed = true;
        return NULL;
    }
    *node = (struct config_node){
        .kind = kind,
        .line = (unsigned)mark.line + 1,
        .column = (unsigned)mark.column + 1,
    };
    return node;
}

static void add_anchor(struct builder *builder, struct bytes name, const struct config_node *node)
{
    if (name.ptr == NULL || builder->failed) {
        return;
    }
    if (++builder->anchor_count > CONFIG_ANCHORS_MAX) {
        builder->failed = true;
        config_complain(builder->reader, node, "more than %d anchors (&name); write the values out",
                        CONFIG_ANCHORS_MAX);
        return;
    }
    struct anchor *anchor = config_alloc(builder->reader, &builder->reader->scratch, sizeof(*anchor));
    if (anchor == NULL) {
        builder->failed = true;
        return;
    }
    *anchor = (struct anchor){.next = builder->anchors, .node = node, .name = name};
    builder->anchors = anchor;
}

static struct bytes copy_anchor_name(struct builder *builder, const yaml_char_t *name)
{
    if (name == NULL) {
        return BYTES_NONE;
    }
    struct bytes copy = config_copy(builder->reader, &builder->reader->scratch, bytes_from((const char *)name));
    builder->failed = builder->failed || copy.ptr == NULL;
    return copy;
}

/* Puts a node where the reading is: as the root, a key, a key's value or a sequence's item. */
static void place(struct builder *builder, struct config_node *node)
{
    if (builder->depth == 0) {
        builder->root = node;
        return;
    }
    struct level *level = &builder->levels[builder->depth - 1];
    CHECK(level->node != NULL);
    if (level->node->kind == CONFIG_MAPPING && level->key == NULL) {
        level->key = node;
        return;
    }
    node->key = level->key;
    level->key = NULL;
    *level->tail = node;
    level->tail = &node->next;
    level->node->child_count++;
}

static void check_tag(struct builder *builder, const yaml_char_t *tag, yaml_mark_t mark)
{
    if (tag == NULL || strcmp((const char *)tag, "!") == 0 ||
        bytes_starts_with(bytes_from((const char *)tag), BYTES("tag:yaml.org,2002:"))) {
        return;
    }
    config_complain_at(builder->reader, (unsigned)mark.line + 1, (unsigned)mark.column + 1,
                       "tag '%s' means nothing here; leave it out",
                       config_shown(builder->reader, bytes_from((const char *)tag)));
}

static void on_scalar(struct builder *builder, const yaml_event_t *event)
{
    check_tag(builder, event->data.scalar.tag, event->start_mark);
    struct config_node *node = new_node(builder, event->start_mark, CONFIG_SCALAR);
    if (node == NULL) {
        return;
    }
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    struct bytes text = {(const char *)event->data.scalar.value, event->data.scalar.length};
    node->text = config_copy(builder->reader, &builder->reader->scratch, text);
    builder->failed = builder->failed || node->text.ptr == NULL;
    place(builder, node);
    add_anchor(builder, copy_anchor_name(builder, event->data.scalar.anchor), node);
}

static void on_start(struct builder *builder, const yaml_event_t *event, enum config_node_kind kind,
                     const yaml_char_t *anchor, const yaml_char_t *tag)
{
    check_tag(builder, tag, event->start_mark);
    if (builder->depth == CONFIG_DEPTH_MAX) {
        fail_at(builder, event->start_mark, "nested more than 32 levels deep; no key here goes that deep");
        return;
    }
    struct config_node *node = new_node(builder, event->start_mark, kind);
    if (node == NULL) {
        return;
    }
    place(builder, node);
    builder->levels[builder->depth++] = (struct level){
        .node = node,
        .tail = &node->children,
        .anchor = copy_anchor_name(builder, anchor),
    };
}

static void on_end(struct builder *builder)
{
    struct level *level = &builder->levels[--builder->depth];
    add_anchor(builder, level->anchor, level->node);
}

/* The alias becomes a node of its own that shares its target's children, which are complete by now. */
static void on_alias(struct builder *builder, const yaml_event_t *event)
{
    struct bytes name = bytes_from((const char *)event->data.alias.anchor);
    const struct anchor *anchor = builder->anchors;
    while (anchor != NULL && !bytes_equal(anchor->name, name)) {
        anchor = anchor->next;
    }
    struct config_node *node = new_node(builder, event->start_mark, CONFIG_SCALAR);
    if (node == NULL) {
        return;
    }
    if (anchor == NULL) {
        builder->failed = true;
        config_complain(builder->reader, node,
                        "alias '*%s' has no complete anchor '&%s' before it; a value that begins with * needs quotes",
                        config_shown(builder->reader, name), config_shown(builder->reader, name));
        return;
    }
    node->kind = anchor->node->kind;
    node->plain = anchor->node->plain;
    node->text = anchor->node->text;
    node->children = anchor->node->children;
    node->child_count = anchor->node->child_count;
    place(builder, node);
}

static void on_event(struct builder *builder, const yaml_event_t *event, unsigned *documents)
{
    switch (event->type) {
    case YAML_DOCUMENT_START_EVENT:
        if (++*documents > 1) {
            fail_at(builder, event->start_mark,
                    "a second document begins here; a configuration is one document, "
                    "without '---' inside it");
        }
        break;
    case YAML_SCALAR_EVENT: on_scalar(builder, event); break;
    case YAML_ALIAS_EVENT: on_alias(builder, event); break;
    case YAML_SEQUENCE_START_EVENT:
        on_start(builder, event, CONFIG_SEQUENCE, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        break;
    case YAML_MAPPING_START_EVENT:
        on_start(builder, event, CONFIG_MAPPING, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT: on_end(builder); break;
    default: break;
    }
}

struct config_node *config_read_tree(struct config_reader *reader)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        reader->no_memory = true;
        return NULL;
    }
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING); /* not UTF-16, whatever the first bytes say */
    yaml_parser_set_input_string(&parser, (const unsigned char *)reader->text.ptr, reader->text.len);
    struct builder builder = {.reader = reader, .parser = &parser};
    unsigned documents = 0;
    bool ended = false;
    while (!ended && !builder.failed) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            complain_of_syntax(&builder);
            break;
        }
        on_event(&builder, &event, &documents);
        ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    if (builder.failed || reader->no_memory) {
        return NULL;
    }
    if (builder.root == NULL || config_node_is_null(builder.root)) {
        config_complain_at(reader, 1, 1, "there is nothing in this file; it needs at least 'listeners' and 'routes'");
        return NULL;
    }
    return builder.root;
}

bool config_node_is_null(const struct config_node *node)
{
    return node->kind == CONFIG_SCALAR && node->plain &&
           (node->text.len == 0 || bytes_equal(node->text, BYTES("~")) ||
            bytes_equal_nocase(node->text, BYTES("null")));
}

struct config_node *config_node_get(const struct config_node *mapping, const char *key)
{
    if (mapping == NULL || mapping->kind != CONFIG_MAPPING) {
        return NULL;
    }
    struct config_node *node = mapping->children;
    while (node != NULL && !(node->key->kind == CONFIG_SCALAR && bytes_equal(node->key->text, bytes_from(key)))) {
        node = node->next;
    }
    return node;
}
