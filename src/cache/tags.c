#include "cache/tags.h"

#include "base/check.h"
#include "cache/lines.h"
#include "http/uri.h"

/* ---- writing ---- */

struct tag_out {
    char *start;
    size_t bytes_max;
    size_t used;
    unsigned count;
    bool is_full;
    struct bytes scheme; /* the origin's, for groups */
    struct bytes host;
    struct bytes port; /* empty: the scheme's own */
};

static struct tag_out tag_out(struct bytes scheme, struct bytes authority, char *out, size_t out_bytes_max)
{
    struct tag_out to = {.start = out, .bytes_max = out_bytes_max < TAGS_BYTES_MAX ? out_bytes_max : TAGS_BYTES_MAX};
    to.scheme = scheme;
    http_authority_split(authority, &to.host, &to.port);
    struct bytes own = bytes_equal_nocase(scheme, BYTES("https")) ? BYTES("443") : BYTES("80");
    if (bytes_equal(to.port, own)) {
        to.port = BYTES("");
    }
    return to;
}

static char *put_lower(char *at, struct bytes run)
{
    for (size_t i = 0; i < run.len; i++) {
        *at++ = ascii_lower(run.ptr[i]);
    }
    return at;
}

/* What stands between the quotes of a string, without its escapes (RFC 8941 §3.3.3). */
static char *put_unescaped(char *at, struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        i += text.ptr[i] == '\\' && i + 1 < text.len;
        *at++ = text.ptr[i];
    }
    return at;
}

/* Keeps what has been put behind the last name, unless it is there already. */
static void commit(struct tag_out *to, char *end)
{
    char *name = to->start + to->used;
    if (!tags_have((struct bytes){to->start, to->used}, (struct bytes){name, (size_t)(end - name)})) {
        *end++ = '\n';
        to->used = (size_t)(end - to->start);
        to->count++;
    }
}

/* Room for a name and what goes around it. */
static bool has_room(struct tag_out *to, size_t bytes, size_t name_bytes)
{
    if (name_bytes > TAGS_NAME_BYTES_MAX || to->count == TAGS_COUNT_MAX || bytes > to->bytes_max - to->used) {
        to->is_full = true;
        return false;
    }
    return true;
}

static void add_group(struct tag_out *to, struct bytes escaped)
{
    size_t around = BYTES("group://: \n").len + 1 + to->scheme.len + to->host.len + to->port.len;
    if (!has_room(to, around + escaped.len, escaped.len)) {
        return;
    }
    char *at = bytes_put(to->start + to->used, BYTES("group:"));
    at = put_lower(at, to->scheme);
    at = bytes_put(at, BYTES("://"));
    at = put_lower(at, to->host);
    if (to->port.len > 0) {
        *at++ = ':';
        at = bytes_put(at, to->port);
    }
    *at++ = ' ';
    commit(to, put_unescaped(at, escaped));
}

static void add_tag(struct tag_out *to, struct bytes name)
{
    if (has_room(to, BYTES("tag:\n").len + name.len, name.len)) {
        commit(to, bytes_put(bytes_put(to->start + to->used, BYTES("tag:")), name));
    }
}

/* ---- lists of strings (RFC 8941 §3.1, §3.3.3) ---- */

static bool is_at(const struct bytes *text, char c)
{
    return text->len > 0 && text->ptr[0] == c;
}

static void skip(struct bytes *text, size_t count)
{
    text->ptr += count;
    text->len -= count;
}

static bool take_string(struct bytes *text, struct bytes *ret_string)
{
    if (!is_at(text, '"')) {
        return false;
    }
    for (size_t i = 1; i < text->len; i++) {
        char c = text->ptr[i];
        if (c == '"') {
            *ret_string = (struct bytes){text->ptr + 1, i - 1};
            skip(text, i + 1);
            return true;
        }
        if (c == '\\' && (++i == text->len || (text->ptr[i] != '"' && text->ptr[i] != '\\'))) {
            return false;
        }
        if (c < ' ' || c > '~') {
            return false;
        }
    }
    return false;
}

/* Parameters mean nothing here, but may come (RFC 9875 §2): a key, and a value that is a string or one word. */
static bool skip_parameters(struct bytes *text)
{
    while (is_at(text, ';')) {
        skip(text, 1);
        while (is_at(text, ' ')) {
            skip(text, 1);
        }
        size_t key = 0;
        while (key < text->len && memchr(";,= \t\"", text->ptr[key], 6) == NULL) {
            key++;
        }
        skip(text, key);
        if (key == 0) {
            return false;
        }
        if (!is_at(text, '=')) {
            continue;
        }
        skip(text, 1);
        struct bytes string;
        size_t word = 0;
        while (word < text->len && memchr(";, \t\"", text->ptr[word], 5) == NULL) {
            word++;
        }
        skip(text, word);
        if (word == 0 && !take_string(text, &string)) {
            return false;
        }
    }
    return true;
}

enum step { STEP_MEMBER, STEP_END, STEP_FAILED };

/* Takes the next member off one line. A comma at the end is a failure (§4.2.1). */
static enum step next_string(struct bytes *text, struct bytes *ret_string)
{
    if (text->len == 0) {
        return STEP_END;
    }
    if (!take_string(text, ret_string) || !skip_parameters(text)) {
        return STEP_FAILED;
    }
    *text = bytes_trim(*text);
    if (is_at(text, ',')) {
        skip(text, 1);
        *text = bytes_trim(*text);
        return text->len > 0 ? STEP_MEMBER : STEP_FAILED;
    }
    return text->len == 0 ? STEP_MEMBER : STEP_FAILED;
}

/* Walks all lines of the field; `to` NULL: only to see whether they are a list of strings. */
static bool walk_groups(const struct http_head *response, const char *base, struct bytes name, struct tag_out *to)
{
    struct head_values values = head_values(response, base, name);
    struct bytes value;
    while (head_next_value(&values, &value)) {
        struct bytes string;
        enum step step;
        while ((step = next_string(&value, &string)) == STEP_MEMBER) {
            if (to != NULL) {
                add_group(to, string);
            }
        }
        if (step == STEP_FAILED) {
            return false;
        }
    }
    return true;
}

static void add_groups(const struct http_head *response, const char *base, struct bytes name, struct tag_out *to)
{
    if (walk_groups(response, base, name, NULL)) {
        walk_groups(response, base, name, to);
    }
}

/* ---- tags ---- */

static bool is_between(char c)
{
    return c == ' ' || c == '\t' || c == ',';
}

/* Some separate them by blanks, some by commas; none has either within a name. */
static void add_tags(struct bytes value, struct tag_out *to)
{
    while (value.len > 0) {
        size_t length = 0;
        while (length < value.len && !is_between(value.ptr[length])) {
            length++;
        }
        if (length > 0) {
            add_tag(to, (struct bytes){value.ptr, length});
        }
        skip(&value, length < value.len ? length + 1 : length);
    }
}

enum result tags_of_response(struct bytes scheme, struct bytes authority, const struct http_head *response,
                             const char *base, char *out, size_t out_bytes_max, size_t *ret_bytes)
{
    static const struct bytes fields[] = {
        BYTES("Surrogate-Key"),
        BYTES("Cache-Tag"),
        BYTES("Edge-Cache-Tag"),
        BYTES("xkey"),
    };
    struct tag_out to = tag_out(scheme, authority, out, out_bytes_max);
    add_groups(response, base, BYTES("Cache-Groups"), &to);
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        struct head_values values = head_values(response, base, fields[i]);
        struct bytes value;
        while (head_next_value(&values, &value)) {
            add_tags(value, &to);
        }
    }
    if (to.is_full) {
        return RESULT_LIMIT;
    }
    *ret_bytes = to.used;
    return RESULT_OK;
}

size_t tags_to_invalidate(struct bytes scheme, struct bytes authority, const struct http_head *response,
                          const char *base, char *out, size_t out_bytes_max)
{
    struct tag_out to = tag_out(scheme, authority, out, out_bytes_max);
    add_groups(response, base, BYTES("Cache-Group-Invalidation"), &to);
    return to.used;
}

bool tags_next(struct bytes *tags, struct bytes *ret_name)
{
    const char *newline = tags->len == 0 ? NULL : memchr(tags->ptr, '\n', tags->len);
    if (newline == NULL) {
        return false;
    }
    *ret_name = (struct bytes){tags->ptr, (size_t)(newline - tags->ptr)};
    skip(tags, ret_name->len + 1);
    return true;
}

bool tags_have(struct bytes tags, struct bytes name)
{
    struct bytes other;
    while (tags_next(&tags, &other)) {
        if (bytes_equal(other, name)) {
            return true;
        }
    }
    return false;
}
