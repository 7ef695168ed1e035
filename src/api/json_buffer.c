#include "api/json_buffer.h"

#include <stdlib.h>

enum { CAPACITY_MIN = 256 };

void json_buffer_init(struct json_buffer *buffer, size_t expected, size_t bytes_max)
{
    *buffer = (struct json_buffer){.capacity = expected < bytes_max ? expected : bytes_max, .bytes_max = bytes_max};
}

void json_buffer_fini(struct json_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct json_buffer){0};
}

static char *grow(struct json_buffer *buffer, size_t bytes)
{
    if (buffer->result != RESULT_OK) {
        return NULL;
    }
    if (bytes > buffer->bytes_max - buffer->len) {
        buffer->result = RESULT_LIMIT;
        return NULL;
    }
    size_t capacity = buffer->data == NULL ? buffer->capacity : buffer->capacity * 2;
    capacity = capacity < CAPACITY_MIN ? CAPACITY_MIN : capacity;
    capacity = capacity < buffer->len + bytes ? buffer->len + bytes : capacity;
    char *data = realloc(buffer->data, capacity);
    if (data == NULL) {
        buffer->result = RESULT_NO_MEMORY;
        return NULL;
    }
    buffer->data = data;
    buffer->capacity = capacity;
    return data + buffer->len;
}

char *json_buffer_room(struct json_buffer *buffer, size_t bytes)
{
    if (buffer->data == NULL || buffer->result != RESULT_OK || buffer->capacity - buffer->len < bytes ||
        buffer->bytes_max - buffer->len < bytes) {
        return grow(buffer, bytes);
    }
    return buffer->data + buffer->len;
}

void json_buffer_put(struct json_buffer *buffer, struct bytes b)
{
    char *at = json_buffer_room(buffer, b.len);
    if (at != NULL) {
        bytes_put(at, b);
        buffer->len += b.len;
    }
}

void json_buffer_put_u64(struct json_buffer *buffer, uint64_t value)
{
    char digits[20];
    json_buffer_put(buffer, (struct bytes){digits, bytes_put_u64(digits, value)});
}

/* ---- strings ---- */

/* For each byte of `word`: its high bit, when the byte is below 0x20, a quote or a backslash. A borrow may mark bytes
 * behind one that is marked rightly, and never one before it: the first mark is exact. */
static uint64_t escape_marks(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    uint64_t quotes = word ^ (ones * '"');
    uint64_t slashes = word ^ (ones * '\\');
    return (((word - ones * 0x20) & ~word) | ((quotes - ones) & ~quotes) | ((slashes - ones) & ~slashes)) & highs;
}

static bool must_escape(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

/* How many bytes stand before the next that must be escaped: prompts are long, and few of their bytes must. */
static size_t plain_length(struct bytes b)
{
    size_t at = 0;
    for (; b.len - at >= sizeof(uint64_t); at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, b.ptr + at, sizeof(word));
        if (escape_marks(word) != 0) {
            break;
        }
    }
    while (at < b.len && !must_escape(b.ptr[at])) {
        at++;
    }
    return at;
}

static void put_escape(struct json_buffer *buffer, char c)
{
    static const char shorts[32] = {['\b'] = 'b', ['\f'] = 'f', ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't'};
    char *at = json_buffer_room(buffer, 6);
    if (at == NULL) {
        return;
    }
    at[0] = '\\';
    if ((unsigned char)c >= 0x20 || shorts[(unsigned char)c] != 0) {
        at[1] = (unsigned char)c >= 0x20 ? c : shorts[(unsigned char)c];
        buffer->len += 2;
    } else {
        memcpy(at + 1, "u00", 3);
        at[4] = (char)('0' + (c >> 4));
        at[5] = "0123456789abcdef"[c & 15];
        buffer->len += 6;
    }
}

void json_buffer_escaped(struct json_buffer *buffer, struct bytes b)
{
    while (b.len > 0) {
        size_t plain = plain_length(b);
        json_buffer_put(buffer, (struct bytes){b.ptr, plain});
        if (plain == b.len) {
            return;
        }
        put_escape(buffer, b.ptr[plain]);
        b = (struct bytes){b.ptr + plain + 1, b.len - plain - 1};
    }
}

void json_buffer_string(struct json_buffer *buffer, struct bytes b)
{
    json_buffer_text(buffer, "\"");
    json_buffer_escaped(buffer, b);
    json_buffer_text(buffer, "\"");
}
