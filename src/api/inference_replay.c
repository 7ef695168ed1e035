#include "api/inference_replay.h"

#include <stdlib.h>

#include "api/inference_events.h"
#include "api/inference_internal.h"
#include "base/check.h"

enum { OUTPUT_FACTOR = 16, OUTPUT_BYTES_MIN = 64 << 10 };

enum inference_replay inference_can_serve(enum inference_family family, enum inference_form form, bool wants_stream,
                                          bool wants_usage)
{
    bool has_stream = family == INFERENCE_CHAT || family == INFERENCE_COMPLETIONS || family == INFERENCE_RESPONSES;
    switch (form) {
    case INFERENCE_FORM_NONE: return INFERENCE_REPLAY_IMPOSSIBLE;
    case INFERENCE_FORM_JSON:
        if (!wants_stream || !has_stream) {
            return INFERENCE_REPLAY_AS_IS;
        }
        return family == INFERENCE_RESPONSES ? INFERENCE_REPLAY_IMPOSSIBLE : INFERENCE_REPLAY_CONVERTED;
    case INFERENCE_FORM_STREAM:
    case INFERENCE_FORM_STREAM_WITH_USAGE:
    case INFERENCE_FORM_STREAM_TELLING: break;
    default: return INFERENCE_REPLAY_IMPOSSIBLE; /* of a record that is damaged, or another version's */
    }
    if (!has_stream) {
        return INFERENCE_REPLAY_IMPOSSIBLE;
    }
    if (family == INFERENCE_RESPONSES) { /* the last event holds the whole answer, with what usage there is */
        return wants_stream ? INFERENCE_REPLAY_AS_IS : INFERENCE_REPLAY_CONVERTED;
    }
    if (form != INFERENCE_FORM_STREAM_WITH_USAGE && wants_stream) {
        return wants_usage ? INFERENCE_REPLAY_IMPOSSIBLE : INFERENCE_REPLAY_AS_IS;
    }
    if (form == INFERENCE_FORM_STREAM) {
        return INFERENCE_REPLAY_IMPOSSIBLE;
    }
    return wants_stream && wants_usage ? INFERENCE_REPLAY_AS_IS : INFERENCE_REPLAY_CONVERTED;
}

struct bytes inference_replay_content_type(bool wants_stream)
{
    return wants_stream ? BYTES("text/event-stream; charset=utf-8") : BYTES("application/json");
}

bool inference_replay_keeps_line(const void *context, struct bytes name)
{
    const struct inference_conversion *conversion = context;
    static const char *const of_the_bytes[] = {"content-type", "etag",   "last-modified", "accept-ranges",
                                               "content-md5",  "digest", "repr-digest",   "content-digest"};
    static const char *const of_the_way[] = {"cache-control", "pragma", "expires", "x-accel-buffering"};
    for (size_t i = 0; i < ARRAY_COUNT(of_the_bytes); i++) {
        if (bytes_equal_nocase(name, bytes_from(of_the_bytes[i]))) {
            return false;
        }
    }
    bool stays_in_shape = conversion->wants_stream == (conversion->form != INFERENCE_FORM_JSON);
    for (size_t i = 0; !stays_in_shape && i < ARRAY_COUNT(of_the_way); i++) {
        if (bytes_equal_nocase(name, bytes_from(of_the_way[i]))) {
            return false;
        }
    }
    return true;
}

/* ---- what is shared ---- */

enum result inference_read_object(struct bytes json, yyjson_doc **ret_doc)
{
    yyjson_read_err error;
    /* The text is not changed without YYJSON_READ_INSITU, though the parameter is not const. */
    yyjson_doc *doc = yyjson_read_opts((char *)(uintptr_t)json.ptr, json.len, YYJSON_READ_NUMBER_AS_RAW, NULL, &error);
    if (doc == NULL) {
        return error.code == YYJSON_READ_ERROR_MEMORY_ALLOCATION ? RESULT_NO_MEMORY : RESULT_PROTOCOL;
    }
    if (!yyjson_is_obj(yyjson_doc_get_root(doc))) {
        yyjson_doc_free(doc);
        return RESULT_PROTOCOL;
    }
    *ret_doc = doc;
    return RESULT_OK;
}

void inference_put_value(struct json_buffer *out, yyjson_val *value)
{
    if (yyjson_is_str(value)) {
        json_buffer_string(out, inference_string(value));
        return;
    }
    size_t length;
    char *text = yyjson_val_write(value, YYJSON_WRITE_NOFLAG, &length);
    if (text == NULL) {
        out->result = out->result == RESULT_OK ? RESULT_NO_MEMORY : out->result;
        return;
    }
    json_buffer_put(out, (struct bytes){text, length});
    free(text);
}

/* ---- without the usage ---- */

static size_t string_end(struct bytes json, size_t at)
{
    for (at++; at < json.len && json.ptr[at] != '"'; at++) {
        at += json.ptr[at] == '\\';
    }
    return at;
}

/* Where the member stands in an object that is known to be well-formed, with one comma beside it. */
static struct bytes member_span(struct bytes json, struct bytes quoted_name)
{
    size_t start = 0; /* of the member under way: the comma or the brace in front of it */
    size_t depth = 0;
    bool name_is_next = false;
    bool is_it = false;
    for (size_t at = 0; at < json.len; at++) {
        char c = json.ptr[at];
        if (c == '"') {
            size_t end = string_end(json, at);
            is_it |= name_is_next && bytes_equal((struct bytes){json.ptr + at, end - at + 1}, quoted_name);
            name_is_next = false;
            at = end;
        } else if (depth == 1 && (c == ',' || c == '}')) {
            if (is_it) {
                bool comma_before = json.ptr[start] == ',';
                size_t from = comma_before ? start : start + 1;
                return (struct bytes){json.ptr + from, at - from + (!comma_before && c == ',')};
            }
            start = at;
            name_is_next = true;
            depth -= c == '}';
        } else if (c == '{' || c == '[') {
            start = depth == 0 ? at : start;
            name_is_next = depth++ == 0;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return BYTES_NONE;
}

/* What is not to be sent of an event: part of it, nothing (.ptr NULL), or all. */
static enum result unwanted_part(const struct inference_event *event, struct bytes *ret_unwanted)
{
    *ret_unwanted = BYTES_NONE;
    if (event->data.len == 0 || memmem(event->data.ptr, event->data.len, "\"usage\"", 7) == NULL) {
        return RESULT_OK;
    }
    yyjson_doc *doc;
    enum result result = inference_read_object(event->data, &doc);
    if (result != RESULT_OK) {
        return result;
    }
    yyjson_val *root = yyjson_doc_get_root(doc);
    yyjson_val *usage = yyjson_obj_get(root, "usage");
    yyjson_val *choices = yyjson_obj_get(root, "choices");
    bool in_one_line = event->data.ptr >= event->raw.ptr && event->data.ptr < event->raw.ptr + event->raw.len;
    if (yyjson_is_null(usage) && in_one_line) {
        *ret_unwanted = member_span(event->data, BYTES("\"usage\""));
    } else if (yyjson_is_obj(usage) && yyjson_is_arr(choices) && yyjson_arr_size(choices) == 0) {
        *ret_unwanted = event->raw;
    }
    yyjson_doc_free(doc);
    return RESULT_OK;
}

enum result inference_drop_usage(struct bytes stream, struct json_buffer *out)
{
    struct inference_events events;
    struct inference_event event;
    inference_events_init(&events, stream);
    enum result result = RESULT_OK;
    while (result == RESULT_OK && inference_events_next(&events, &event)) {
        struct bytes unwanted;
        result = unwanted_part(&event, &unwanted);
        if (unwanted.ptr == NULL) {
            json_buffer_put(out, event.raw);
        } else {
            const char *end = unwanted.ptr + unwanted.len;
            json_buffer_put(out, (struct bytes){event.raw.ptr, (size_t)(unwanted.ptr - event.raw.ptr)});
            json_buffer_put(out, (struct bytes){end, (size_t)(event.raw.ptr + event.raw.len - end)});
        }
    }
    json_buffer_put(out, events.rest);
    result = result == RESULT_OK ? events.joined.result : result;
    inference_events_fini(&events);
    return result;
}

/* ---- the whole ---- */

enum result inference_convert(enum inference_family family, enum inference_form form, bool wants_stream,
                              bool wants_usage, struct bytes stored, struct bytes *ret_converted)
{
    if (inference_can_serve(family, form, wants_stream, wants_usage) != INFERENCE_REPLAY_CONVERTED) {
        return RESULT_PROTOCOL;
    }
    struct json_buffer out;
    size_t bytes_max = stored.len < SIZE_MAX / OUTPUT_FACTOR / 2 ? stored.len * OUTPUT_FACTOR : stored.len;
    json_buffer_init(&out, stored.len, bytes_max + OUTPUT_BYTES_MIN);
    enum result result = form == INFERENCE_FORM_JSON ? inference_unroll(family, stored, wants_usage, &out)
                         : wants_stream              ? inference_drop_usage(stored, &out)
                                                     : inference_assemble(family, stored, &out);
    result = result == RESULT_OK ? out.result : result;
    if (result != RESULT_OK) {
        json_buffer_fini(&out);
        return result;
    }
    *ret_converted = (struct bytes){out.data, out.len};
    return RESULT_OK;
}
