#include "api/json_canonical.h"

#include <stdlib.h>

#include "base/check.h"

/* More digits of an exponent than this are left as they are written: nobody's numbers, and no sum can overflow. */
enum { EXPONENT_DIGITS_MAX = 9, INSERTION_SORT_MAX = 12 };

/* A container under way. Of an object, the names still to come lie in writer.names[next, end). */
struct frame {
    bool is_object;
    size_t next;
    size_t end;
    size_t first;     /* of the object's names */
    yyjson_val *item; /* of an array */
};

struct writer {
    struct json_buffer *out;
    json_canonical_omits *omits;
    const void *context;
    yyjson_val **names; /* of all objects under way, innermost last */
    size_t name_count;
    size_t name_capacity;
    uint32_t depth;
    struct frame frames[JSON_CANONICAL_DEPTH_MAX];
};

static struct bytes string_of(yyjson_val *value)
{
    return (struct bytes){unsafe_yyjson_get_str(value), unsafe_yyjson_get_len(value)};
}

/* ---- numbers ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Reads what follows the `e`. False when it has too many digits. */
static bool read_exponent(struct bytes text, int64_t *ret_exponent)
{
    size_t at = text.len > 0 && !is_digit(text.ptr[0]) ? 1 : 0;
    bool negative = at == 1 && text.ptr[0] == '-';
    while (at < text.len && text.ptr[at] == '0') {
        at++;
    }
    if (text.len - at > EXPONENT_DIGITS_MAX) {
        return false;
    }
    int64_t exponent = 0;
    for (; at < text.len; at++) {
        exponent = exponent * 10 + (text.ptr[at] - '0');
    }
    *ret_exponent = negative ? -exponent : exponent;
    return true;
}

static void put_digits(struct json_buffer *out, struct bytes digits)
{
    const char *point = memchr(digits.ptr, '.', digits.len);
    size_t before = point == NULL ? digits.len : (size_t)(point - digits.ptr);
    json_buffer_put(out, (struct bytes){digits.ptr, before});
    if (point != NULL) {
        json_buffer_put(out, (struct bytes){point + 1, digits.len - before - 1});
    }
}

/* Most are: counts, and the ids of tokens, of which there may be many thousands. */
static bool is_canonical_integer(struct bytes raw)
{
    for (size_t i = 0; i < raw.len; i++) {
        if (!is_digit(raw.ptr[i])) {
            return false;
        }
    }
    return raw.len > 0 && (raw.ptr[raw.len - 1] != '0' || raw.len == 1);
}

/* A number's value is (digits without the point) × 10^(exponent - digits behind the point). */
static void put_number(struct json_buffer *out, struct bytes raw)
{
    if (is_canonical_integer(raw)) {
        json_buffer_put(out, raw);
        return;
    }
    size_t sign = raw.len > 0 && raw.ptr[0] == '-' ? 1 : 0;
    struct bytes digits = {raw.ptr + sign, 0};
    while (sign + digits.len < raw.len && (is_digit(digits.ptr[digits.len]) || digits.ptr[digits.len] == '.')) {
        digits.len++;
    }
    size_t used = sign + digits.len + 1; /* and the `e` */
    int64_t exponent = 0;
    bool readable = used > raw.len || read_exponent((struct bytes){raw.ptr + used, raw.len - used}, &exponent);
    const char *point = memchr(digits.ptr, '.', digits.len);
    exponent -= point == NULL ? 0 : (int64_t)digits.len - (point - digits.ptr) - 1;
    while (digits.len > 0 && (digits.ptr[0] == '0' || digits.ptr[0] == '.')) {
        digits = (struct bytes){digits.ptr + 1, digits.len - 1};
    }
    while (digits.len > 0 && (digits.ptr[digits.len - 1] == '0' || digits.ptr[digits.len - 1] == '.')) {
        exponent += digits.ptr[digits.len - 1] == '0';
        digits.len--;
    }
    if (digits.len == 0) {
        json_buffer_text(out, "0"); /* -0, too: it compares equal */
        return;
    }
    if (!readable) {
        json_buffer_put(out, raw);
        return;
    }
    json_buffer_text(out, sign == 1 ? "-" : "");
    put_digits(out, digits);
    if (exponent != 0) {
        json_buffer_text(out, exponent < 0 ? "e-" : "e");
        json_buffer_put_u64(out, (uint64_t)(exponent < 0 ? -exponent : exponent));
    }
}

/* ---- the order of members ---- */

static int compare(yyjson_val *a, yyjson_val *b)
{
    struct bytes x = string_of(a);
    struct bytes y = string_of(b);
    int order = memcmp(x.ptr, y.ptr, x.len < y.len ? x.len : y.len);
    return order != 0 ? order : (x.len > y.len) - (x.len < y.len);
}

static int compare_places(const void *a, const void *b)
{
    return compare(*(yyjson_val *const *)a, *(yyjson_val *const *)b);
}

/* Most objects have a few members: for them a call of qsort costs more than the sorting. */
static void sort_names(yyjson_val **names, size_t count)
{
    if (count > INSERTION_SORT_MAX) {
        qsort(names, count, sizeof(*names), compare_places);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        yyjson_val *name = names[i];
        size_t k = i;
        for (; k > 0 && compare(names[k - 1], name) > 0; k--) {
            names[k] = names[k - 1];
        }
        names[k] = name;
    }
}

static bool names_reserve(struct writer *writer, size_t count)
{
    if (writer->name_capacity - writer->name_count >= count) {
        return true;
    }
    size_t capacity = writer->name_capacity * 2 + count + 64;
    yyjson_val **names = realloc(writer->names, capacity * sizeof(*names));
    if (names == NULL) {
        return false;
    }
    writer->names = names;
    writer->name_capacity = capacity;
    return true;
}

/* The name under which the object on top stands in the root; NULL: it is the root itself. */
static yyjson_val *outer_name(const struct writer *writer)
{
    const struct frame *root = &writer->frames[0];
    return writer->depth == 0 ? NULL : writer->names[root->next - 1];
}

static bool is_omitted(const struct writer *writer, yyjson_val *name)
{
    bool asked = writer->depth == 0 || (writer->depth == 1 && writer->frames[0].is_object);
    return asked && writer->omits(writer->context, outer_name(writer), name);
}

/* Collects the object's names behind those of the objects around it, sorted, and drops what is left out. */
static enum json_canonical_result open_object(struct writer *writer, yyjson_val *object, struct frame *frame)
{
    size_t first = writer->name_count;
    if (!names_reserve(writer, unsafe_yyjson_get_len(object))) {
        return JSON_CANONICAL_NO_MEMORY;
    }
    yyjson_obj_iter iter = yyjson_obj_iter_with(object);
    for (yyjson_val *name; (name = yyjson_obj_iter_next(&iter)) != NULL;) {
        writer->names[writer->name_count++] = name;
    }
    sort_names(writer->names + first, writer->name_count - first);
    size_t kept = first;
    for (size_t i = first; i < writer->name_count; i++) {
        yyjson_val *name = writer->names[i];
        if (i + 1 < writer->name_count && compare(name, writer->names[i + 1]) == 0) {
            return JSON_CANONICAL_DUPLICATE_MEMBER;
        }
        if (!is_omitted(writer, name)) {
            writer->names[kept++] = name;
        }
    }
    writer->name_count = kept;
    *frame = (struct frame){.is_object = true, .next = first, .end = kept, .first = first};
    return JSON_CANONICAL_OK;
}

/* ---- writing ---- */

static void put_scalar(struct json_buffer *out, yyjson_val *value)
{
    switch (unsafe_yyjson_get_type(value)) {
    case YYJSON_TYPE_STR: json_buffer_string(out, string_of(value)); return;
    case YYJSON_TYPE_RAW: put_number(out, string_of(value)); return;
    case YYJSON_TYPE_BOOL: json_buffer_text(out, unsafe_yyjson_is_true(value) ? "true" : "false"); return;
    default: json_buffer_text(out, "null"); return;
    }
}

static enum json_canonical_result put_value(struct writer *writer, yyjson_val *value)
{
    if (!unsafe_yyjson_is_ctn(value)) {
        put_scalar(writer->out, value);
        return JSON_CANONICAL_OK;
    }
    if (writer->depth == JSON_CANONICAL_DEPTH_MAX) {
        return JSON_CANONICAL_TOO_DEEP;
    }
    struct frame frame = {.end = unsafe_yyjson_get_len(value), .item = unsafe_yyjson_get_first(value)};
    enum json_canonical_result result = JSON_CANONICAL_OK;
    if (unsafe_yyjson_is_obj(value)) {
        result = open_object(writer, value, &frame);
    }
    json_buffer_text(writer->out, unsafe_yyjson_is_obj(value) ? "{" : "[");
    writer->frames[writer->depth++] = frame;
    return result;
}

/* The next member or item of the container on top, or its end. */
static enum json_canonical_result step(struct writer *writer)
{
    struct frame *frame = &writer->frames[writer->depth - 1];
    if (frame->next == frame->end) {
        json_buffer_text(writer->out, frame->is_object ? "}" : "]");
        writer->name_count = frame->is_object ? frame->first : writer->name_count;
        writer->depth--;
        return JSON_CANONICAL_OK;
    }
    if (frame->next > frame->first) {
        json_buffer_text(writer->out, ",");
    }
    yyjson_val *value = frame->item;
    if (frame->is_object) {
        yyjson_val *name = writer->names[frame->next];
        json_buffer_string(writer->out, string_of(name));
        json_buffer_text(writer->out, ":");
        value = yyjson_obj_iter_get_val(name);
    } else {
        frame->item = unsafe_yyjson_get_next(value);
    }
    frame->next++;
    return put_value(writer, value);
}

enum json_canonical_result json_canonical_put(struct json_buffer *out, yyjson_val *root, json_canonical_omits *omits,
                                              const void *context)
{
    struct writer writer;
    writer.out = out;
    writer.omits = omits;
    writer.context = context;
    writer.names = NULL;
    writer.name_count = 0;
    writer.name_capacity = 0;
    writer.depth = 0;
    enum json_canonical_result result = put_value(&writer, root);
    while (result == JSON_CANONICAL_OK && writer.depth > 0) {
        result = out->result == RESULT_OK ? step(&writer) : JSON_CANONICAL_NO_MEMORY;
    }
    free(writer.names);
    return result == JSON_CANONICAL_OK && out->result != RESULT_OK ? JSON_CANONICAL_NO_MEMORY : result;
}
