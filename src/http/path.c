/* The one form of a path that routes are matched against. */
#include "http/chars.h"
#include "http/uri.h"

/* No escape, no empty segment, and no segment that begins with a dot, which is all that could change. */
static bool is_normal(struct bytes path)
{
    for (size_t i = 0; i < path.len; i++) {
        char c = path.ptr[i];
        if (c == '%' || (c == '/' && i + 1 < path.len && (path.ptr[i + 1] == '/' || path.ptr[i + 1] == '.'))) {
            return false;
        }
    }
    return true;
}

/* Decodes what need not be encoded; returns 0 for a malformed escape and for NUL. */
static size_t decode(struct bytes path, char *out)
{
    static const char upper[] = "0123456789ABCDEF";
    size_t length = 0;
    for (size_t i = 0; i < path.len; i++) {
        if (path.ptr[i] != '%') {
            out[length++] = path.ptr[i];
            continue;
        }
        if (path.len - i < 3 || !char_is(path.ptr[i + 1], CHAR_HEX) || !char_is(path.ptr[i + 2], CHAR_HEX)) {
            return 0;
        }
        unsigned byte = char_hex(path.ptr[i + 1]) << 4 | char_hex(path.ptr[i + 2]);
        if (byte == 0) {
            return 0;
        }
        if (char_is((char)byte, CHAR_UNRESERVED)) {
            out[length++] = (char)byte;
        } else {
            out[length++] = '%';
            out[length++] = upper[byte >> 4];
            out[length++] = upper[byte & 15];
        }
        i += 2;
    }
    return length;
}

/* Removes dot segments and empty ones in place: what is written never overtakes what is read.
 * Returns 0 when ".." leaves the root. */
static size_t remove_dots(char *path, size_t length)
{
    size_t from = 0; /* at a '/' */
    size_t to = 0;
    while (from < length) {
        size_t end = from + 1;
        while (end < length && path[end] != '/') {
            end++;
        }
        size_t segment = end - from - 1;
        bool last = end == length;
        bool dot = segment == 1 && path[from + 1] == '.';
        bool dots = segment == 2 && path[from + 1] == '.' && path[from + 2] == '.';
        if (dots) {
            if (to == 0) {
                return 0;
            }
            while (path[--to] != '/') {
            }
        }
        if (!dot && !dots && (segment > 0 || last)) {
            memmove(path + to, path + from, segment + 1);
            to += segment + 1;
        } else if (last) {
            path[to++] = '/'; /* "/a/." and "/a/b/.." name the folder */
        }
        from = end;
    }
    return to;
}

size_t http_path_normalize(struct bytes path, char *out, bool *ret_same)
{
    *ret_same = false;
    if (path.len == 0 || path.ptr[0] != '/') {
        return 0;
    }
    if (is_normal(path)) {
        *ret_same = true;
        return path.len;
    }
    size_t length = decode(path, out);
    return length == 0 ? 0 : remove_dots(out, length);
}

bool http_path_is_ambiguous(struct bytes path)
{
    if (bytes_starts_with(path, BYTES("//"))) {
        return true;
    }
    size_t at = 0;
    while (at < path.len) {
        at++; /* the '/' */
        unsigned dots = 0;
        while (at < path.len && path.ptr[at] != '/') {
            bool escaped = path.len - at >= 3 && path.ptr[at] == '%' && path.ptr[at + 1] == '2' &&
                           ascii_lower(path.ptr[at + 2]) == 'e';
            bool dot = escaped || path.ptr[at] == '.';
            dots = dot && dots < 3 ? dots + 1 : 3;
            at += escaped ? 3 : 1;
        }
        if (dots == 1 || dots == 2) {
            return true;
        }
    }
    return false;
}
