#include "sim/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { BUFFER_BYTES_MIN = 512 };

void sim_buffer_fini(struct sim_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct sim_buffer){0};
}

void sim_buffer_reset(struct sim_buffer *buffer, size_t keep_bytes)
{
    if (buffer->cap > keep_bytes) {
        sim_buffer_fini(buffer);
    }
    buffer->len = 0;
    buffer->failed = false;
}

void sim_buffer_drop_front(struct sim_buffer *buffer, size_t bytes)
{
    if (bytes > 0) {
        memmove(buffer->data, buffer->data + bytes, buffer->len - bytes);
        buffer->len -= bytes;
    }
}

char *sim_buffer_room(struct sim_buffer *buffer, size_t bytes)
{
    if (bytes > buffer->cap - buffer->len) {
        size_t cap = buffer->cap * 2;
        cap = cap < BUFFER_BYTES_MIN ? BUFFER_BYTES_MIN : cap;
        cap = cap < buffer->len + bytes ? buffer->len + bytes : cap;
        char *data = realloc(buffer->data, cap);
        if (data == NULL) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->cap = cap;
    }
    return buffer->data + buffer->len;
}

void sim_buffer_put(struct sim_buffer *buffer, struct bytes b)
{
    if (b.len == 0) {
        return;
    }
    char *at = sim_buffer_room(buffer, b.len);
    if (at != NULL) {
        memcpy(at, b.ptr, b.len);
        buffer->len += b.len;
    }
}

void sim_buffer_put_u64(struct sim_buffer *buffer, uint64_t value)
{
    char *at = sim_buffer_room(buffer, 20);
    if (at != NULL) {
        buffer->len += bytes_put_u64(at, value);
    }
}

void sim_buffer_format(struct sim_buffer *buffer, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0) {
        return;
    }
    char *at = sim_buffer_room(buffer, (size_t)length + 1);
    if (at != NULL) {
        va_start(args, format);
        vsnprintf(at, (size_t)length + 1, format, args);
        va_end(args);
        buffer->len += (size_t)length;
    }
}

/* ---- JSON strings ---- */

static bool is_continuation(unsigned char c)
{
    return (c & 0xc0) == 0x80;
}

/* The length of the character that begins at `at`; 0 when it is not UTF-8: overlong, a surrogate, cut, too large. */
static size_t character_bytes(const unsigned char *at, size_t left)
{
    if (at[0] < 0x80) {
        return 1;
    }
    if (at[0] >= 0xc2 && at[0] <= 0xdf) {
        return left >= 2 && is_continuation(at[1]) ? 2 : 0;
    }
    if ((at[0] & 0xf0) == 0xe0 && left >= 3 && is_continuation(at[1]) && is_continuation(at[2])) {
        bool overlong = at[0] == 0xe0 && at[1] < 0xa0;
        bool surrogate = at[0] == 0xed && at[1] >= 0xa0;
        return overlong || surrogate ? 0 : 3;
    }
    if (at[0] >= 0xf0 && at[0] <= 0xf4 && left >= 4 && is_continuation(at[1]) && is_continuation(at[2]) &&
        is_continuation(at[3])) {
        bool overlong = at[0] == 0xf0 && at[1] < 0x90;
        bool too_large = at[0] == 0xf4 && at[1] >= 0x90;
        return overlong || too_large ? 0 : 4;
    }
    return 0;
}

bool sim_buffer_is_utf8(struct bytes b)
{
    const unsigned char *at = (const unsigned char *)b.ptr;
    for (size_t i = 0; i < b.len;) {
        size_t bytes = character_bytes(at + i, b.len - i);
        if (bytes == 0) {
            return false;
        }
        i += bytes;
    }
    return true;
}

void sim_buffer_put_json(struct sim_buffer *buffer, struct bytes b)
{
    static const char hex[] = "0123456789abcdef";
    const unsigned char *in = (const unsigned char *)b.ptr;
    char *start = sim_buffer_room(buffer, 6 * b.len + 2);
    if (start == NULL) {
        return;
    }
    char *out = start;
    *out++ = '"';
    for (size_t i = 0; i < b.len;) {
        unsigned char c = in[i];
        size_t bytes = character_bytes(in + i, b.len - i);
        if (c == '"' || c == '\\') {
            *out++ = '\\';
            *out++ = (char)c;
            i++;
        } else if (bytes == 0 || c < 0x20 || c == 0x7f) {
            *out++ = '\\';
            *out++ = 'u';
            *out++ = '0';
            *out++ = '0';
            *out++ = hex[c >> 4];
            *out++ = hex[c & 15];
            i++;
        } else {
            memcpy(out, in + i, bytes);
            out += bytes;
            i += bytes;
        }
    }
    *out++ = '"';
    buffer->len += (size_t)(out - start);
}
