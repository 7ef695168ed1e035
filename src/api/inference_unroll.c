/* Makes the events of an answer that was stored whole.
 *
 *   chat:         {role, content: ""} · a piece of content, of reasoning, a call … · {} and the finish reason
 *   completions:  a piece of text … · "" and the finish reason
 *
 * then the usage, iff asked for, and [DONE]. What is said of the whole answer beside its id, time, model and tier,
 * stands in the last choice's last chunk, once. */
#include "api/inference_internal.h"

enum {
    FRONT_BYTES_MAX = 4096, /* of what each chunk repeats */
    PIECES_MAX = 32,
    PIECE_BYTES_MIN = 64,
};

struct unrolling {
    enum inference_family family;
    bool wants_usage;
    struct json_buffer front; /* `data: {"id":…,"model":…,"choices":[` */
    struct json_buffer *out;
    yyjson_val *root;

    /* the choice under way */
    uint64_t index;
    yyjson_val *choice;
    yyjson_val *logprobs; /* still to be sent; NULL: sent, or none */
};

static bool is_one_of(yyjson_val *name, const char *const *names)
{
    for (; *names != NULL; names++) {
        if (yyjson_equals_str(name, *names)) {
            return true;
        }
    }
    return false;
}

static void put_member(struct json_buffer *out, yyjson_val *name, yyjson_val *value)
{
    json_buffer_string(out, inference_string(name));
    json_buffer_text(out, ":");
    inference_put_value(out, value);
}

/* ---- what each chunk repeats ---- */

static const char *const repeated[] = {"id", "created", "model", "system_fingerprint", "service_tier", NULL};

static void put_front(struct unrolling *unrolling)
{
    struct json_buffer *front = &unrolling->front;
    json_buffer_text(front, "data: {\"object\":");
    json_buffer_text(front, unrolling->family == INFERENCE_CHAT ? "\"chat.completion.chunk\"" : "\"text_completion\"");
    yyjson_obj_iter iter = yyjson_obj_iter_with(unrolling->root);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter)) != NULL;) {
        if (is_one_of(name, repeated)) {
            json_buffer_text(front, ",");
            put_member(front, name, yyjson_obj_iter_get_val(name));
        }
    }
    json_buffer_text(front, ",\"choices\":[");
}

static void put_rest_of_answer(const struct unrolling *unrolling)
{
    static const char *const told[] = {"object", "choices", "usage", NULL};
    yyjson_obj_iter iter = yyjson_obj_iter_with(unrolling->root);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter)) != NULL;) {
        if (!is_one_of(name, repeated) && !is_one_of(name, told)) {
            json_buffer_text(unrolling->out, ",");
            put_member(unrolling->out, name, yyjson_obj_iter_get_val(name));
        }
    }
}

/* ---- chunks ---- */

static void chunk_start(struct unrolling *unrolling)
{
    json_buffer_put(unrolling->out, (struct bytes){unrolling->front.data, unrolling->front.len});
    json_buffer_text(unrolling->out, "{\"index\":");
    json_buffer_put_u64(unrolling->out, unrolling->index);
    json_buffer_text(unrolling->out, unrolling->family == INFERENCE_CHAT ? ",\"delta\":{" : ",\"text\":");
}

/* The whole answer's log probabilities go with one of its chunks; the others say null, if there are any. */
static void put_logprobs(struct unrolling *unrolling, bool is_theirs)
{
    if (yyjson_obj_get(unrolling->choice, "logprobs") == NULL) {
        return;
    }
    json_buffer_text(unrolling->out, ",\"logprobs\":");
    if (is_theirs && unrolling->logprobs != NULL) {
        inference_put_value(unrolling->out, unrolling->logprobs);
        unrolling->logprobs = NULL;
    } else {
        json_buffer_text(unrolling->out, "null");
    }
}

static void chunk_close(struct unrolling *unrolling)
{
    json_buffer_text(unrolling->out, unrolling->wants_usage ? "],\"usage\":null" : "]");
}

/* The end of a chunk that is not its choice's last. */
static void chunk_end(struct unrolling *unrolling, bool has_logprobs)
{
    json_buffer_text(unrolling->out, unrolling->family == INFERENCE_CHAT ? "}" : "");
    put_logprobs(unrolling, has_logprobs);
    json_buffer_text(unrolling->out, ",\"finish_reason\":null");
    /* vLLM says it in all chunks of a completion, and of a chat in the last one only. */
    bool has_stop =
        unrolling->family == INFERENCE_COMPLETIONS && yyjson_obj_get(unrolling->choice, "stop_reason") != NULL;
    json_buffer_text(unrolling->out, has_stop ? ",\"stop_reason\":null}" : "}");
    chunk_close(unrolling);
    json_buffer_text(unrolling->out, "}\n\n");
}

/* The choice's last: the finish reason, and whatever else is said of the choice. */
static void put_finish(struct unrolling *unrolling, bool is_last)
{
    static const char *const told[] = {"index", "message", "text", "logprobs", NULL};
    chunk_start(unrolling);
    json_buffer_text(unrolling->out, unrolling->family == INFERENCE_CHAT ? "}" : "\"\"");
    put_logprobs(unrolling, true);
    yyjson_obj_iter iter = yyjson_obj_iter_with(unrolling->choice);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter)) != NULL;) {
        if (!is_one_of(name, told)) {
            json_buffer_text(unrolling->out, ",");
            put_member(unrolling->out, name, yyjson_obj_iter_get_val(name));
        }
    }
    json_buffer_text(unrolling->out, "}");
    chunk_close(unrolling);
    if (is_last) {
        put_rest_of_answer(unrolling);
    }
    json_buffer_text(unrolling->out, "}\n\n");
}

/* ---- pieces of text ---- */

/* Takes a piece from the front: about an even share, but whole characters, and up to a space when one is near. */
static struct bytes next_piece(struct bytes *rest, size_t share)
{
    size_t length = rest->len < share ? rest->len : share;
    for (size_t back = 0; length < rest->len && back < length / 2; back++) {
        if (rest->ptr[length - 1 - back] == ' ') {
            length -= back;
            break;
        }
    }
    while (length < rest->len && ((unsigned char)rest->ptr[length] & 0xc0) == 0x80) {
        length++;
    }
    struct bytes piece = {rest->ptr, length};
    *rest = (struct bytes){rest->ptr + length, rest->len - length};
    return piece;
}

static size_t share_of(struct bytes text)
{
    size_t share = text.len / PIECES_MAX * 2; /* twice, since spaces may halve it */
    return share < PIECE_BYTES_MIN ? PIECE_BYTES_MIN : share;
}

/* `name` is NULL for a completion's text. */
static void put_pieces(struct unrolling *unrolling, yyjson_val *name, struct bytes text, bool has_logprobs)
{
    size_t share = share_of(text);
    do {
        chunk_start(unrolling);
        if (name != NULL) {
            json_buffer_string(unrolling->out, inference_string(name));
            json_buffer_text(unrolling->out, ":");
        }
        json_buffer_string(unrolling->out, next_piece(&text, share));
        chunk_end(unrolling, has_logprobs);
    } while (text.len > 0);
}

/* ---- messages ---- */

static void put_role(struct unrolling *unrolling, yyjson_val *message)
{
    yyjson_val *role = yyjson_obj_get(message, "role");
    chunk_start(unrolling);
    json_buffer_text(unrolling->out, "\"role\":");
    json_buffer_string(unrolling->out, yyjson_is_str(role) ? inference_string(role) : BYTES("assistant"));
    bool has_content = yyjson_is_str(yyjson_obj_get(message, "content"));
    json_buffer_text(unrolling->out, has_content ? ",\"content\":\"\"" : ",\"content\":null");
    chunk_end(unrolling, false);
}

static void put_call(struct unrolling *unrolling, yyjson_val *call, uint64_t index)
{
    chunk_start(unrolling);
    json_buffer_text(unrolling->out, "\"tool_calls\":[{\"index\":");
    json_buffer_put_u64(unrolling->out, index);
    yyjson_obj_iter iter = yyjson_obj_iter_with(call);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter)) != NULL;) {
        if (!yyjson_equals_str(name, "index")) {
            json_buffer_text(unrolling->out, ",");
            put_member(unrolling->out, name, yyjson_obj_iter_get_val(name));
        }
    }
    json_buffer_text(unrolling->out, "}]");
    chunk_end(unrolling, false);
}

static void put_message_member(struct unrolling *unrolling, yyjson_val *name, yyjson_val *value)
{
    bool is_content = yyjson_equals_str(name, "content");
    if (yyjson_is_null(value) || yyjson_equals_str(name, "role")) {
        return;
    }
    if (yyjson_is_arr(value) && yyjson_equals_str(name, "tool_calls")) {
        yyjson_arr_iter iter = yyjson_arr_iter_with(value);
        for (size_t i = 0; i < yyjson_arr_size(value); i++) {
            put_call(unrolling, yyjson_arr_iter_next(&iter), i);
        }
    } else if (yyjson_is_str(value)) {
        if (!is_content || yyjson_get_len(value) > 0) { /* the role's chunk says that it is there */
            put_pieces(unrolling, name, inference_string(value), is_content);
        }
    } else if (!yyjson_is_arr(value) || yyjson_arr_size(value) > 0) {
        chunk_start(unrolling);
        put_member(unrolling->out, name, value);
        chunk_end(unrolling, false);
    }
}

static enum result put_choice(struct unrolling *unrolling, yyjson_val *choice, uint64_t position, bool is_last)
{
    yyjson_val *message = yyjson_obj_get(choice, "message");
    yyjson_val *text = yyjson_obj_get(choice, "text");
    yyjson_val *index = yyjson_obj_get(choice, "index");
    yyjson_val *logprobs = yyjson_obj_get(choice, "logprobs");
    unrolling->choice = choice;
    unrolling->index = position;
    unrolling->logprobs = yyjson_is_null(logprobs) ? NULL : logprobs;
    struct bytes raw = {yyjson_get_raw(index), yyjson_is_raw(index) ? yyjson_get_len(index) : 0};
    if (index != NULL && !bytes_to_u64(raw, &unrolling->index)) {
        return RESULT_PROTOCOL;
    }
    if (unrolling->family == INFERENCE_CHAT ? !yyjson_is_obj(message) : !yyjson_is_str(text)) {
        return RESULT_PROTOCOL;
    }
    if (unrolling->family == INFERENCE_CHAT) {
        put_role(unrolling, message);
        yyjson_obj_iter iter = yyjson_obj_iter_with(message);
        for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter)) != NULL;) {
            put_message_member(unrolling, name, yyjson_obj_iter_get_val(name));
        }
    } else {
        put_pieces(unrolling, NULL, inference_string(text), true);
    }
    put_finish(unrolling, is_last);
    return unrolling->out->result;
}

/* ---- the whole ---- */

static enum result unroll(struct unrolling *unrolling)
{
    yyjson_val *choices = yyjson_obj_get(unrolling->root, "choices");
    yyjson_val *usage = yyjson_obj_get(unrolling->root, "usage");
    size_t count = yyjson_arr_size(choices);
    if (count == 0 || (unrolling->wants_usage && !yyjson_is_obj(usage))) {
        return RESULT_PROTOCOL;
    }
    put_front(unrolling);
    enum result result = unrolling->front.result;
    yyjson_arr_iter iter = yyjson_arr_iter_with(choices);
    for (size_t i = 0; result == RESULT_OK && i < count; i++) {
        result = put_choice(unrolling, yyjson_arr_iter_next(&iter), i, i + 1 == count);
    }
    if (result == RESULT_OK && unrolling->wants_usage) {
        json_buffer_put(unrolling->out, (struct bytes){unrolling->front.data, unrolling->front.len});
        json_buffer_text(unrolling->out, "],\"usage\":");
        inference_put_value(unrolling->out, usage);
        json_buffer_text(unrolling->out, "}\n\n");
    }
    json_buffer_text(unrolling->out, "data: [DONE]\n\n");
    return result;
}

enum result inference_unroll(enum inference_family family, struct bytes json, bool wants_usage, struct json_buffer *out)
{
    yyjson_doc *doc;
    enum result result = inference_read_object(json, &doc);
    if (result != RESULT_OK) {
        return result;
    }
    struct unrolling unrolling = {
        .family = family, .wants_usage = wants_usage, .out = out, .root = yyjson_doc_get_root(doc)};
    json_buffer_init(&unrolling.front, 512, FRONT_BYTES_MAX);
    result = unroll(&unrolling);
    json_buffer_fini(&unrolling.front);
    yyjson_doc_free(doc);
    return result;
}
