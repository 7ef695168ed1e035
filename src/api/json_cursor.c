#include "api/json_cursor.h"

#include "api/json_skim.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

char json_cursor_peek(struct json_cursor *cursor)
{
    while (cursor->at < cursor->end && is_space(*cursor->at)) {
        cursor->at++;
    }
    return cursor->at < cursor->end ? *cursor->at : '\0';
}

bool json_cursor_take(struct json_cursor *cursor, char c)
{
    if (json_cursor_peek(cursor) != c) {
        return false;
    }
    cursor->at++;
    return true;
}

/* What `\uXXXX` makes in UTF-8; half of a pair counts half. */
static unsigned escaped_bytes(const char *digits)
{
    if (digits[0] != '0') {
        return (digits[0] | 0x20) == 'd' && (digits[1] >= '8') ? 2 : 3;
    }
    if (digits[1] >= '8') {
        return 3;
    }
    return digits[1] == '0' && digits[2] < '8' ? 1 : 2;
}

struct json_string json_cursor_string(struct json_cursor *cursor)
{
    const char *from = cursor->at;
    const char *end = cursor->end;
    const char *at = json_skim_string(from, end);
    size_t saved = 0;
    while (at < end && *at == '\\') {
        size_t length = end - at > 1 && at[1] == 'u' ? 6 : 2;
        if ((size_t)(end - at) < length) {
            at = end;
            break;
        }
        saved += length == 6 ? 6 - escaped_bytes(at + 2) : 1;
        at += length;
        at = at < end && (*at == '\\' || *at == '"') ? at : json_skim_string(at, end);
    }
    cursor->at = at < end ? at + 1 : end;
    return (struct json_string){{from, (size_t)(at - from)}, (size_t)(at - from) - saved};
}

static void skip_container(struct json_cursor *cursor)
{
    uint64_t depth = 0;
    do {
        const char *at = json_skim_bracket(cursor->at, cursor->end);
        cursor->at = at < cursor->end ? at + 1 : at;
        if (at == cursor->end) {
            return;
        }
        if (*at == '"') {
            (void)json_cursor_string(cursor);
        } else if ((*at | 0x20) == '{') {
            depth++;
        } else {
            depth--;
        }
    } while (depth > 0);
}

struct bytes json_cursor_value(struct json_cursor *cursor)
{
    char c = json_cursor_peek(cursor);
    const char *from = cursor->at;
    if (c == '"') {
        cursor->at++;
        (void)json_cursor_string(cursor);
    } else if (c == '{' || c == '[') {
        skip_container(cursor);
    } else {
        while (cursor->at < cursor->end && *cursor->at != ',' && *cursor->at != '}' && *cursor->at != ']' &&
               !is_space(*cursor->at)) {
            cursor->at++;
        }
    }
    return (struct bytes){from, (size_t)(cursor->at - from)};
}
