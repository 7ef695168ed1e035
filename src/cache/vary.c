#include "cache/vary.h"

#include "base/check.h"
#include "cache/lines.h"
#include "cache/vary_internal.h"
#include "http/chars.h"

/* ---- sets ---- */

/* Names collected so far, sorted; they lie in `text`. */
struct name_list {
    unsigned count;
    size_t used;
    struct bytes names[VARY_NAMES_MAX];
    char text[VARY_SET_BYTES_MAX];
};

static int compare(struct bytes a, struct bytes b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

/* False: no other request can be known to be alike. */
static bool add_name(struct name_list *list, struct bytes item)
{
    if (item.len > sizeof(list->text) - list->used) {
        return false;
    }
    char *text = list->text + list->used;
    for (size_t i = 0; i < item.len; i++) {
        if (!char_is(item.ptr[i], CHAR_TOKEN)) {
            return false;
        }
        text[i] = ascii_lower(item.ptr[i]);
    }
    struct bytes name = {text, item.len};
    if (bytes_equal(name, BYTES("*")) || bytes_equal(name, BYTES("x-forwarded-for")) ||
        bytes_equal(name, BYTES("x-request-id"))) {
        return false;
    }
    unsigned place = 0;
    while (place < list->count && compare(list->names[place], name) < 0) {
        place++;
    }
    if (place < list->count && bytes_equal(list->names[place], name)) {
        return true;
    }
    if (list->count == VARY_NAMES_MAX) {
        return false;
    }
    memmove(&list->names[place + 1], &list->names[place], (list->count - place) * sizeof(name));
    list->names[place] = name;
    list->count++;
    list->used += name.len;
    return true;
}

static bool join(const struct name_list *list, struct vary_set *ret_set)
{
    size_t bytes = list->count == 0 ? 0 : list->used + list->count - 1;
    if (bytes > sizeof(ret_set->names)) {
        return false;
    }
    char *at = ret_set->names;
    for (unsigned i = 0; i < list->count; i++) {
        if (i > 0) {
            *at++ = ',';
        }
        at = bytes_put(at, list->names[i]);
    }
    ret_set->bytes = (uint16_t)bytes;
    return true;
}

bool vary_of_response(const struct http_head *response, const char *base, struct vary_set *ret_set)
{
    struct name_list list;
    list.count = 0;
    list.used = 0;
    struct head_values values = head_values(response, base, BYTES("Vary"));
    struct bytes value;
    struct bytes item;
    while (head_next_value(&values, &value)) {
        while (bytes_next_item(&value, &item)) {
            if (!add_name(&list, item)) {
                return false;
            }
        }
    }
    return join(&list, ret_set);
}

bool vary_of_lines(struct bytes lines, struct vary_set *ret_set)
{
    struct name_list list;
    list.count = 0;
    list.used = 0;
    struct lines_items items = lines_items(lines, BYTES("Vary"));
    struct bytes item;
    while (lines_next_item(&items, &item)) {
        if (!add_name(&list, item)) {
            return false;
        }
    }
    return join(&list, ret_set);
}

/* ---- keys ---- */

void vary_put(struct vary_out *out, struct bytes run)
{
    if (run.len > out->bytes_max - out->used) {
        out->is_full = true;
        return;
    }
    bytes_put(out->at + out->used, run);
    out->used += run.len;
}

/* Copies a value without the white space around its commas; what is within quotes stays. */
static void put_plain(struct vary_out *out, struct bytes value)
{
    size_t from = 0;
    bool quoted = false;
    for (size_t i = 0; i < value.len; i++) {
        if (quoted && value.ptr[i] == '\\') {
            i++;
        } else if (value.ptr[i] == '"') {
            quoted = !quoted;
        } else if (value.ptr[i] == ',' && !quoted) {
            vary_put(out, bytes_trim((struct bytes){value.ptr + from, i - from}));
            vary_put(out, BYTES(","));
            from = i + 1;
        }
    }
    vary_put(out, bytes_trim((struct bytes){value.ptr + from, value.len - from}));
}

/* `name` when the request does not have the field, else `name:value`. */
static void put_field(struct vary_out *out, struct bytes name, const struct http_head *request, const char *base)
{
    struct head_values values = head_values(request, base, name);
    struct head_values again = values;
    struct bytes value;
    vary_put(out, name);
    if (!head_next_passed_value(&values, &value)) {
        return;
    }
    vary_put(out, BYTES(":"));
    bool is_coding = bytes_equal(name, BYTES("accept-encoding"));
    if ((is_coding || bytes_equal(name, BYTES("accept-language"))) && vary_put_weighted(out, again, is_coding)) {
        return;
    }
    put_plain(out, value);
    while (head_next_passed_value(&values, &value)) {
        vary_put(out, BYTES(","));
        put_plain(out, value);
    }
}

enum result vary_put_key(struct bytes set, const struct http_head *request, const char *base, char *room,
                         size_t out_bytes_max, size_t *ret_bytes)
{
    struct vary_out out = {.at = room, .bytes_max = out_bytes_max};
    struct bytes name;
    while (bytes_next_item(&set, &name)) {
        put_field(&out, name, request, base);
        vary_put(&out, BYTES("\n"));
    }
    if (out.is_full) {
        return RESULT_LIMIT;
    }
    *ret_bytes = out.used;
    return RESULT_OK;
}

/* ---- the note ---- */

bool vary_note_next(struct bytes *note, struct bytes *ret_set)
{
    while (note->len > 0) {
        const char *newline = memchr(note->ptr, '\n', note->len);
        if (newline == NULL) {
            return false;
        }
        struct bytes set = {note->ptr, (size_t)(newline - note->ptr)};
        note->ptr += set.len + 1;
        note->len -= set.len + 1;
        if (set.len <= VARY_SET_BYTES_MAX) {
            *ret_set = set;
            return true;
        }
    }
    return false;
}

size_t vary_note_merge(struct bytes note, struct bytes set, char *out)
{
    CHECK(set.len <= VARY_SET_BYTES_MAX);
    char *at = bytes_put(out, set);
    *at++ = '\n';
    struct bytes known;
    for (unsigned count = 1; count < VARY_SETS_MAX && vary_note_next(&note, &known);) {
        if (!bytes_equal(known, set)) {
            at = bytes_put(at, known);
            *at++ = '\n';
            count++;
        }
    }
    return (size_t)(at - out);
}
