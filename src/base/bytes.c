#include "base/bytes.h"

bool bytes_equal_nocase(struct bytes a, struct bytes b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (ascii_lower(a.ptr[i]) != ascii_lower(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

static bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

struct bytes bytes_trim(struct bytes b)
{
    while (b.len > 0 && is_ows(b.ptr[0])) {
        b.ptr++;
        b.len--;
    }
    while (b.len > 0 && is_ows(b.ptr[b.len - 1])) {
        b.len--;
    }
    return b;
}

bool bytes_to_u64(struct bytes b, uint64_t *ret_value)
{
    if (b.len == 0) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < b.len; i++) {
        if (b.ptr[i] < '0' || b.ptr[i] > '9') {
            return false;
        }
        uint64_t digit = (uint64_t)(b.ptr[i] - '0');
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) || __builtin_add_overflow(value, digit, &value)) {
            return false;
        }
    }
    *ret_value = value;
    return true;
}

size_t bytes_put_u64(char *out, uint64_t value)
{
    size_t count = 1;
    for (uint64_t limit = 10; value >= limit; limit *= 10) {
        count++;
        if (count == 20) {
            break; /* the next limit is more than 64 bits hold */
        }
    }
    for (size_t i = count; i > 0; i--) {
        out[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
    return count;
}

bool bytes_next_item(struct bytes *list, struct bytes *ret_item)
{
    while (list->len > 0) {
        size_t end = 0;
        bool quoted = false;
        for (; end < list->len; end++) {
            char c = list->ptr[end];
            if (quoted && c == '\\' && end + 1 < list->len) {
                end++;
            } else if (c == '"') {
                quoted = !quoted;
            } else if (c == ',' && !quoted) {
                break;
            }
        }
        struct bytes item = bytes_trim((struct bytes){list->ptr, end});
        size_t taken = end < list->len ? end + 1 : end;
        list->ptr += taken;
        list->len -= taken;
        if (item.len > 0) {
            *ret_item = item;
            return true;
        }
    }
    return false;
}
