/* Puts a stream together: every chunk is merged into a tree, and the tree is written.
 *
 *   top ── id, created, model, usage, …     the last that is not null counts
 *    └─ choices, by index
 *         ├─ finish_reason, stop_reason, …  likewise
 *         ├─ text (completions)             joined
 *         ├─ logprobs, token_ids, …         objects member by member, lists one behind the other
 *         └─ message, from the deltas       strings joined, lists with indexes (tool calls) item by item
 *
 * A chunk's JSON is gone once it is merged: what is kept is text, in an arena, so the memory is a few times what
 * the answer takes. Limits keep hostile streams from being slow: names are looked up one by one. */
#include <stdlib.h>

#include "api/inference_events.h"
#include "api/inference_internal.h"
#include "base/arena.h"

enum {
    CHOICES_MAX = 512, /* as many as inference_capture lets pass */
    MEMBERS_MAX = 256, /* of an object that is merged, or calls in a list */
    DEPTH_MAX = 8,     /* that is merged; below, the last value counts */
};

enum kind {
    KIND_NONE,   /* absent, or null */
    KIND_JSON,   /* any value, as text; the next replaces it */
    KIND_STRING, /* decoded */
    KIND_LIST,   /* items as text, with commas between */
    KIND_OBJECT,
    KIND_INDEXED, /* a list whose items are told apart by their "index"; the members are the items */
};

struct node {
    enum kind kind;
    char *text;
    size_t text_bytes;
    size_t text_capacity;
    struct member *first;
    struct member **end; /* NULL: no member yet */
    unsigned member_count;
};

struct member {
    struct member *next;
    struct bytes name; /* of KIND_INDEXED: the index, as it was written */
    uint64_t index;
    struct node node;
};

struct assembly {
    struct arena arena;
    enum inference_family family;
    enum result result; /* the first failure sticks */
    bool has_usage;
    bool ended; /* [DONE] has come */
    struct node top;
    struct node *choices[CHOICES_MAX];
    unsigned choice_end; /* behind the highest index */
};

/* How strings of a member are taken up, and those within it. Only deltas and texts go on from chunk to chunk: what a
 * choice says beside them (a content filter's verdict, for one) is said anew. */
enum strings { STRINGS_REPLACE, STRINGS_JOIN };

static void fail(struct assembly *assembly, enum result result)
{
    assembly->result = assembly->result == RESULT_OK ? result : assembly->result;
}

/* ---- nodes ---- */

static void text_add(struct assembly *assembly, struct node *node, struct bytes text)
{
    size_t needed = node->text_bytes + text.len;
    if (needed > node->text_capacity || node->text == NULL) {
        size_t capacity = needed * 2 < 32 ? 32 : needed * 2;
        char *grown = arena_alloc(&assembly->arena, capacity);
        if (grown == NULL) {
            fail(assembly, RESULT_NO_MEMORY);
            return;
        }
        bytes_put(grown, (struct bytes){node->text, node->text_bytes});
        node->text = grown;
        node->text_capacity = capacity;
    }
    bytes_put(node->text + node->text_bytes, text);
    node->text_bytes = needed;
}

static struct bytes text_of(const struct node *node)
{
    return (struct bytes){node->text, node->text_bytes};
}

static void text_add_value(struct assembly *assembly, struct node *node, yyjson_val *value)
{
    if (yyjson_is_str(value) && node->kind == KIND_STRING) {
        text_add(assembly, node, inference_string(value));
        return;
    }
    size_t length;
    char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &length);
    if (text == NULL) {
        fail(assembly, RESULT_NO_MEMORY);
        return;
    }
    struct bytes all = {text, length};
    text_add(assembly, node, node->kind == KIND_LIST ? (struct bytes){text + 1, length - 2} : all);
    free(text);
}

static struct member *find(const struct node *node, struct bytes name)
{
    for (struct member *member = node->first; member != NULL; member = member->next) {
        if (bytes_equal(member->name, name)) {
            return member;
        }
    }
    return NULL;
}

static struct node *get(struct assembly *assembly, struct node *node, struct bytes name)
{
    struct member *member = find(node, name);
    if (member != NULL) {
        return &member->node;
    }
    if (node->member_count == MEMBERS_MAX) {
        fail(assembly, RESULT_LIMIT);
        return NULL;
    }
    member = arena_alloc(&assembly->arena, sizeof(*member));
    struct bytes kept = member == NULL ? BYTES_NONE : arena_copy(&assembly->arena, name);
    if (kept.ptr == NULL) {
        fail(assembly, RESULT_NO_MEMORY);
        return NULL;
    }
    *member = (struct member){.name = kept};
    *(node->end == NULL ? &node->first : node->end) = member;
    node->end = &member->next;
    node->member_count++;
    return &member->node;
}

/* ---- merging ---- */

static bool has_index(yyjson_val *list)
{
    return yyjson_is_raw(yyjson_obj_get(yyjson_arr_get_first(list), "index"));
}

static enum kind kind_for(yyjson_val *value, unsigned depth)
{
    switch (yyjson_get_type(value)) {
    case YYJSON_TYPE_STR: return KIND_STRING;
    case YYJSON_TYPE_ARR: return depth < DEPTH_MAX && has_index(value) ? KIND_INDEXED : KIND_LIST;
    case YYJSON_TYPE_OBJ: return depth < DEPTH_MAX ? KIND_OBJECT : KIND_JSON;
    default: return KIND_JSON;
    }
}

/* Strings of a delta that name something, and are said again rather than gone on with. */
static bool is_label(struct bytes name)
{
    return bytes_equal(name, BYTES("id")) || bytes_equal(name, BYTES("type")) || bytes_equal(name, BYTES("role")) ||
           bytes_equal(name, BYTES("format"));
}

static void merge(struct assembly *assembly, struct node *node, yyjson_val *value, enum strings strings,
                  unsigned depth);

static void merge_object(struct assembly *assembly, struct node *node, yyjson_val *object, enum strings strings,
                         unsigned depth)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    for (yyjson_val *key; assembly->result == RESULT_OK && (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        struct bytes name = inference_string(key);
        struct node *member = get(assembly, node, name);
        if (member != NULL) {
            merge(assembly, member, yyjson_obj_iter_get_val(key), is_label(name) ? STRINGS_REPLACE : strings,
                  depth + 1);
        }
    }
}

static void merge_indexed(struct assembly *assembly, struct node *node, yyjson_val *list, enum strings strings,
                          unsigned depth)
{
    yyjson_arr_iter iter = yyjson_arr_iter_with(list);
    for (yyjson_val *item; assembly->result == RESULT_OK && (item = yyjson_arr_iter_next(&iter)) != NULL;) {
        yyjson_val *index = yyjson_obj_get(item, "index");
        struct bytes name = {yyjson_get_raw(index), yyjson_is_raw(index) ? yyjson_get_len(index) : 0};
        uint64_t number;
        if (!bytes_to_u64(name, &number)) {
            fail(assembly, RESULT_PROTOCOL);
            return;
        }
        struct node *member = get(assembly, node, name);
        if (member != NULL) {
            member->kind = KIND_OBJECT;
            merge_object(assembly, member, item, strings, depth);
        }
    }
}

/* Takes a value up into a node. Null says nothing; a value of another type than before replaces it. */
static void merge(struct assembly *assembly, struct node *node, yyjson_val *value, enum strings strings, unsigned depth)
{
    if (yyjson_is_null(value)) {
        return;
    }
    enum kind kind = kind_for(value, depth);
    if (kind == KIND_LIST && node->kind == KIND_INDEXED && yyjson_arr_size(value) == 0) {
        return;
    }
    bool goes_on = kind == node->kind && kind != KIND_JSON && !(kind == KIND_STRING && strings == STRINGS_REPLACE);
    if (!goes_on) {
        char *text = node->text;
        *node = (struct node){.kind = kind, .text = text, .text_capacity = node->text_capacity};
    }
    switch (kind) {
    case KIND_OBJECT: merge_object(assembly, node, value, strings, depth); return;
    case KIND_INDEXED: merge_indexed(assembly, node, value, strings, depth); return;
    case KIND_LIST:
        if (node->text_bytes > 0 && yyjson_arr_size(value) > 0) {
            text_add(assembly, node, BYTES(","));
        }
        text_add_value(assembly, node, value);
        return;
    default: text_add_value(assembly, node, value); return;
    }
}

/* The last one that is not null counts. */
static void replace(struct assembly *assembly, struct node *node, yyjson_val *value)
{
    if (!yyjson_is_null(value)) {
        node->kind = KIND_JSON;
        node->text_bytes = 0;
        text_add_value(assembly, node, value);
    }
}

/* ---- chunks ---- */

static struct node *choice_of(struct assembly *assembly, yyjson_val *choice, uint64_t position)
{
    yyjson_val *said = yyjson_obj_get(choice, "index");
    uint64_t index = position;
    bool is_good = said == NULL || (yyjson_is_raw(said) &&
                                    bytes_to_u64((struct bytes){yyjson_get_raw(said), yyjson_get_len(said)}, &index));
    if (!is_good || !yyjson_is_obj(choice) || index >= CHOICES_MAX) {
        fail(assembly, RESULT_PROTOCOL);
        return NULL;
    }
    if (assembly->choices[index] == NULL) {
        assembly->choices[index] = arena_alloc(&assembly->arena, sizeof(struct node));
        if (assembly->choices[index] == NULL) {
            fail(assembly, RESULT_NO_MEMORY);
            return NULL;
        }
        *assembly->choices[index] = (struct node){.kind = KIND_OBJECT};
    }
    assembly->choice_end = index >= assembly->choice_end ? (unsigned)index + 1 : assembly->choice_end;
    return assembly->choices[index];
}

static void take_choice(struct assembly *assembly, yyjson_val *value, uint64_t position)
{
    struct node *choice = choice_of(assembly, value, position);
    yyjson_obj_iter iter = yyjson_obj_iter_with(choice == NULL ? NULL : value);
    for (yyjson_val *key; assembly->result == RESULT_OK && (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        struct bytes name = inference_string(key);
        bool is_delta = bytes_equal(name, BYTES("delta"));
        struct node *member = get(assembly, choice, is_delta ? BYTES("message") : name);
        if (member != NULL) {
            bool goes_on = is_delta || bytes_equal(name, BYTES("text"));
            merge(assembly, member, yyjson_obj_iter_get_val(key), goes_on ? STRINGS_JOIN : STRINGS_REPLACE, 0);
        }
    }
}

static void take_chunk(struct assembly *assembly, yyjson_val *root)
{
    yyjson_obj_iter iter = yyjson_obj_iter_with(root);
    for (yyjson_val *key; assembly->result == RESULT_OK && (key = yyjson_obj_iter_next(&iter)) != NULL;) {
        struct bytes name = inference_string(key);
        yyjson_val *value = yyjson_obj_iter_get_val(key);
        if (bytes_equal(name, BYTES("obfuscation"))) {
            continue; /* padding against those who measure the chunks */
        }
        struct node *member = get(assembly, &assembly->top, name);
        if (member == NULL) {
            return;
        }
        if (!bytes_equal(name, BYTES("choices"))) {
            replace(assembly, member, value);
            assembly->has_usage |= bytes_equal(name, BYTES("usage")) && yyjson_is_obj(value);
            continue;
        }
        yyjson_arr_iter choices = yyjson_arr_iter_with(value);
        for (size_t i = 0; i < yyjson_arr_size(value); i++) {
            take_choice(assembly, yyjson_arr_iter_next(&choices), i);
        }
    }
}

static void take_event(struct assembly *assembly, struct bytes data)
{
    if (data.ptr == NULL || assembly->ended) {
        return;
    }
    if (bytes_starts_with(data, BYTES("[DONE]"))) {
        assembly->ended = true;
        return;
    }
    yyjson_doc *doc;
    enum result result = inference_read_object(data, &doc);
    if (result != RESULT_OK) {
        fail(assembly, result);
        return;
    }
    take_chunk(assembly, yyjson_doc_get_root(doc));
    yyjson_doc_free(doc);
}

/* ---- writing ---- */

static void put_node(struct json_buffer *out, struct bytes name, const struct node *node);

static void put_name(struct json_buffer *out, struct bytes name, bool *is_first)
{
    json_buffer_text(out, *is_first ? "" : ",");
    json_buffer_string(out, name);
    json_buffer_text(out, ":");
    *is_first = false;
}

static void put_members(struct json_buffer *out, const struct node *node, bool has_index)
{
    bool is_first = true;
    json_buffer_text(out, "{");
    for (const struct member *member = node->first; member != NULL; member = member->next) {
        if (has_index || !bytes_equal(member->name, BYTES("index"))) {
            put_name(out, member->name, &is_first);
            put_node(out, member->name, &member->node);
        }
    }
    json_buffer_text(out, "}");
}

static int compare_indexes(const void *a, const void *b)
{
    uint64_t x = (*(const struct member *const *)a)->index;
    uint64_t y = (*(const struct member *const *)b)->index;
    return (x > y) - (x < y);
}

static void put_indexed(struct json_buffer *out, const struct node *node, bool has_index)
{
    struct member *items[MEMBERS_MAX];
    unsigned count = 0;
    for (struct member *member = node->first; member != NULL; member = member->next) {
        (void)bytes_to_u64(member->name, &member->index);
        items[count++] = member;
    }
    qsort(items, count, sizeof(struct member *), compare_indexes);
    json_buffer_text(out, "[");
    for (unsigned i = 0; i < count; i++) {
        json_buffer_text(out, i == 0 ? "" : ",");
        put_members(out, &items[i]->node, has_index);
    }
    json_buffer_text(out, "]");
}

static void put_node(struct json_buffer *out, struct bytes name, const struct node *node)
{
    switch (node->kind) {
    case KIND_NONE: json_buffer_text(out, "null"); return;
    case KIND_JSON: json_buffer_put(out, text_of(node)); return;
    case KIND_STRING: json_buffer_string(out, text_of(node)); return;
    case KIND_LIST:
        json_buffer_text(out, "[");
        json_buffer_put(out, text_of(node));
        json_buffer_text(out, "]");
        return;
    case KIND_OBJECT: put_members(out, node, true); return;
    case KIND_INDEXED:
        /* The calls of a whole message stand in their order, without the index that a delta's need. */
        put_indexed(out, node, !bytes_equal(name, BYTES("tool_calls")));
        return;
    }
}

static bool calls_tools(const struct node *message)
{
    const struct member *calls = find(message, BYTES("tool_calls"));
    const struct member *call = find(message, BYTES("function_call"));
    return (calls != NULL && (calls->node.kind == KIND_INDEXED || calls->node.text_bytes > 0)) ||
           (call != NULL && call->node.kind == KIND_OBJECT);
}

/* What the deltas did not say, since a whole message has it anyway. */
static void complete_message(struct assembly *assembly, struct node *choice)
{
    struct node *message = get(assembly, choice, BYTES("message"));
    struct node *role = message == NULL ? NULL : get(assembly, message, BYTES("role"));
    struct node *content = role == NULL ? NULL : get(assembly, message, BYTES("content"));
    if (content == NULL) {
        return;
    }
    message->kind = KIND_OBJECT;
    if (role->kind == KIND_NONE) {
        role->kind = KIND_STRING;
        text_add(assembly, role, BYTES("assistant"));
    }
    /* The first chunk of any answer says `"content": ""`; a message that only calls tools has none. */
    if (content->kind == KIND_STRING && content->text_bytes == 0 && calls_tools(message)) {
        content->kind = KIND_NONE;
    }
}

static void put_choices(struct assembly *assembly, struct json_buffer *out)
{
    bool is_first = true;
    json_buffer_text(out, "[");
    for (unsigned i = 0; i < assembly->choice_end; i++) {
        struct node *choice = assembly->choices[i];
        if (choice == NULL) {
            continue;
        }
        if (assembly->family == INFERENCE_CHAT) {
            complete_message(assembly, choice);
        }
        json_buffer_text(out, is_first ? "" : ",");
        put_members(out, choice, true);
        is_first = false;
    }
    json_buffer_text(out, "]");
}

static void put_answer(struct assembly *assembly, struct json_buffer *out)
{
    bool is_first = true;
    json_buffer_text(out, "{");
    for (const struct member *member = assembly->top.first; member != NULL; member = member->next) {
        put_name(out, member->name, &is_first);
        if (bytes_equal(member->name, BYTES("choices"))) {
            put_choices(assembly, out);
        } else if (bytes_equal(member->name, BYTES("object")) && assembly->family == INFERENCE_CHAT) {
            json_buffer_text(out, "\"chat.completion\"");
        } else {
            put_node(out, member->name, &member->node);
        }
    }
    json_buffer_text(out, "}");
}

/* ---- the Responses API ---- */

/* Its last event holds the whole answer. */
static enum result take_response(struct bytes data, struct json_buffer *out, bool *ret_found)
{
    yyjson_doc *doc;
    if (data.ptr == NULL || bytes_starts_with(data, BYTES("[DONE]"))) {
        return RESULT_OK;
    }
    enum result result = inference_read_object(data, &doc);
    if (result != RESULT_OK) {
        return result;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *response = yyjson_obj_get(root, "response");
    if (yyjson_equals_str(yyjson_obj_get(root, "type"), "response.completed") && yyjson_is_obj(response)) {
        *ret_found = true;
        inference_put_value(out, response);
    }
    yyjson_doc_free(doc);
    return RESULT_OK;
}

static enum result assemble_response(struct bytes stream, struct json_buffer *out)
{
    struct inference_events events;
    struct inference_event event;
    bool found = false;
    enum result result = RESULT_OK;
    inference_events_init(&events, stream);
    while (result == RESULT_OK && !found && inference_events_next(&events, &event)) {
        result = take_response(event.data, out, &found);
    }
    result = result == RESULT_OK ? events.joined.result : result;
    inference_events_fini(&events);
    return result == RESULT_OK && !found ? RESULT_PROTOCOL : result;
}

/* ---- the whole ---- */

enum result inference_assemble(enum inference_family family, struct bytes stream, struct json_buffer *out)
{
    if (family == INFERENCE_RESPONSES) {
        return assemble_response(stream, out);
    }
    struct assembly *assembly = calloc(1, sizeof(*assembly));
    if (assembly == NULL) {
        return RESULT_NO_MEMORY;
    }
    assembly->family = family;
    assembly->top.kind = KIND_OBJECT;
    arena_init(&assembly->arena, NULL, 0);
    struct inference_events events;
    struct inference_event event;
    inference_events_init(&events, stream);
    while (assembly->result == RESULT_OK && inference_events_next(&events, &event)) {
        take_event(assembly, event.data);
    }
    fail(assembly, events.joined.result);
    inference_events_fini(&events);
    if (!assembly->ended || !assembly->has_usage || assembly->choice_end == 0) {
        fail(assembly, RESULT_PROTOCOL);
    }
    if (assembly->result == RESULT_OK) {
        put_answer(assembly, out);
    }
    enum result result = assembly->result;
    arena_fini(&assembly->arena);
    free(assembly);
    return result;
}
