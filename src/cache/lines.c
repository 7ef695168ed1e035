#include "cache/lines.h"

bool lines_next(struct bytes *rest, struct line *ret_line)
{
    while (rest->len > 0) {
        const char *newline = memchr(rest->ptr, '\n', rest->len);
        size_t whole = newline == NULL ? rest->len : (size_t)(newline - rest->ptr) + 1;
        struct bytes text = {rest->ptr, newline == NULL ? whole : whole - 1};
        struct bytes line = {rest->ptr, whole};
        rest->ptr += whole;
        rest->len -= whole;
        if (text.len > 0 && text.ptr[text.len - 1] == '\r') {
            text.len--;
        }
        const char *colon = text.len == 0 ? NULL : memchr(text.ptr, ':', text.len);
        if (colon != NULL && colon > text.ptr) {
            ret_line->name = (struct bytes){text.ptr, (size_t)(colon - text.ptr)};
            ret_line->value = bytes_trim((struct bytes){colon + 1, text.len - ret_line->name.len - 1});
            ret_line->whole = line;
            return true;
        }
    }
    return false;
}

struct bytes lines_find(struct bytes lines, struct bytes name)
{
    struct line line;
    while (lines_next(&lines, &line)) {
        if (bytes_equal_nocase(line.name, name)) {
            return line.value;
        }
    }
    return BYTES_NONE;
}

bool lines_next_item(struct lines_items *items, struct bytes *ret_item)
{
    struct line line;
    while (!bytes_next_item(&items->list, ret_item)) {
        do {
            if (!lines_next(&items->rest, &line)) {
                return false;
            }
        } while (!bytes_equal_nocase(line.name, items->name));
        items->list = line.value;
    }
    return true;
}

char *lines_put_kept(char *at, struct bytes lines, bool (*keep)(const void *context, struct bytes name),
                     const void *context)
{
    struct bytes run = {lines.ptr, 0}; /* kept, not copied yet */
    struct line line;
    while (lines_next(&lines, &line)) {
        if (!keep(context, line.name)) {
            continue;
        }
        if (line.whole.ptr != run.ptr + run.len) {
            at = bytes_put(at, run);
            run = (struct bytes){line.whole.ptr, 0};
        }
        run.len += line.whole.len;
    }
    return bytes_put(at, run);
}

char *lines_put_line(char *at, struct bytes name, struct bytes value)
{
    at = bytes_put(at, name);
    at = bytes_put(at, BYTES(": "));
    at = bytes_put(at, value);
    return bytes_put(at, BYTES("\r\n"));
}

struct head_values head_values(const struct http_head *head, const char *base, struct bytes name)
{
    struct head_values values = {head, base, name, http_field_id(name), 0};
    if (values.id != HTTP_FIELD_OTHER) {
        values.index = head->first[values.id] == 0 ? head->field_count : head->first[values.id] - 1U;
    }
    return values;
}

bool head_next_value(struct head_values *values, struct bytes *ret_value)
{
    while (values->index < values->head->field_count) {
        const struct http_field *field = &values->head->fields[values->index++];
        if (field->id == values->id &&
            (field->id != HTTP_FIELD_OTHER || bytes_equal_nocase(http_field_name(field, values->base), values->name))) {
            *ret_value = http_field_value(field, values->base);
            return true;
        }
    }
    return false;
}

bool head_next_passed_value(struct head_values *values, struct bytes *ret_value)
{
    while (head_next_value(values, ret_value)) {
        if (values->head->fields[values->index - 1].drop == 0) {
            return true;
        }
    }
    return false;
}
