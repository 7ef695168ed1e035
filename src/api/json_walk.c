#include "api/json_walk.h"

/* Characters at which the inside of a container has to be looked at: most are digits and letters. */
static const bool is_structure[256] = {['"'] = true, ['['] = true, [']'] = true, ['{'] = true, ['}'] = true};

static char char_at(const struct json_walk *walk)
{
    return walk->at < walk->text.len ? walk->text.ptr[walk->at] : '\0';
}

char json_walk_peek(struct json_walk *walk)
{
    char c;
    while ((c = char_at(walk)) == ' ' || c == '\n' || c == '\r' || c == '\t') {
        walk->at++;
    }
    return c;
}

bool json_walk_open(struct json_walk *walk, char open)
{
    if (json_walk_peek(walk) != open) {
        return false;
    }
    walk->at++;
    walk->is_first = true;
    return true;
}

bool json_walk_next(struct json_walk *walk, char close, bool *ret_more)
{
    char c = json_walk_peek(walk);
    if (c == close) {
        walk->at++;
        walk->is_first = false;
        *ret_more = false;
        return true;
    }
    if (!walk->is_first) {
        if (c != ',') {
            return false;
        }
        walk->at++;
    }
    walk->is_first = false;
    *ret_more = true;
    return true;
}

/* From the opening quote to behind the closing one. */
static bool pass_string(struct json_walk *walk)
{
    const char *text = walk->text.ptr;
    for (size_t at = walk->at + 1; at < walk->text.len; at++) {
        if (text[at] == '\\') {
            at++;
        } else if (text[at] == '"') {
            walk->at = at + 1;
            return true;
        }
    }
    return false;
}

bool json_walk_name(struct json_walk *walk, struct bytes *ret_name)
{
    if (json_walk_peek(walk) != '"') {
        return false;
    }
    size_t from = walk->at + 1;
    if (!pass_string(walk)) {
        return false;
    }
    struct bytes name = {walk->text.ptr + from, walk->at - from - 1};
    if (json_walk_peek(walk) != ':') {
        return false;
    }
    walk->at++;
    *ret_name = name;
    return true;
}

static bool pass_scalar(struct json_walk *walk)
{
    size_t from = walk->at;
    for (char c; (c = char_at(walk)) != '\0'; walk->at++) {
        bool is_part = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E';
        if (!is_part) {
            break;
        }
    }
    return walk->at > from;
}

static bool pass_container(struct json_walk *walk)
{
    uint64_t is_object[JSON_WALK_DEPTH_MAX / 64] = {0};
    unsigned depth = 0;
    while (walk->at < walk->text.len) {
        char c = walk->text.ptr[walk->at];
        if (!is_structure[(unsigned char)c]) {
            walk->at++;
            continue;
        }
        if (c == '"') {
            if (!pass_string(walk)) {
                return false;
            }
            continue;
        }
        walk->at++;
        uint64_t object = c == '{' || c == '}';
        if (c == '[' || c == '{') {
            if (depth == JSON_WALK_DEPTH_MAX) {
                return false;
            }
            uint64_t bit = UINT64_C(1) << (depth % 64);
            is_object[depth / 64] = (is_object[depth / 64] & ~bit) | (object != 0 ? bit : 0);
            depth++;
            continue;
        }
        depth--;
        if ((is_object[depth / 64] >> (depth % 64) & 1) != object) {
            return false;
        }
        if (depth == 0) {
            return true;
        }
    }
    return false;
}

bool json_walk_value(struct json_walk *walk, struct bytes *ret_value)
{
    char c = json_walk_peek(walk);
    size_t from = walk->at;
    bool is_container = c == '{' || c == '[';
    bool is_whole = is_container ? pass_container(walk) : c == '"' ? pass_string(walk) : pass_scalar(walk);
    if (!is_whole) {
        return false;
    }
    walk->is_first = false;
    *ret_value = (struct bytes){walk->text.ptr + from, walk->at - from};
    return true;
}

bool json_walk_end(struct json_walk *walk)
{
    return json_walk_peek(walk) == '\0' && walk->at == walk->text.len;
}
