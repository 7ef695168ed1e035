/* A borrowed run of bytes: never NUL-terminated, never owned. */
#ifndef SLUICE_BASE_BYTES_H
#define SLUICE_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const char *ptr;
    size_t len;
};

#define BYTES(literal) ((struct bytes){"" literal, sizeof(literal) - 1})
#define BYTES_NONE     ((struct bytes){NULL, 0})
#define BYTES_ARG(b)   (int)(b).len, (b).ptr /* for "%.*s" */

static inline struct bytes bytes_from(const char *string)
{
    return (struct bytes){string, string == NULL ? 0 : strlen(string)};
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool bytes_starts_with(struct bytes a, struct bytes prefix)
{
    return a.len >= prefix.len && (prefix.len == 0 || memcmp(a.ptr, prefix.ptr, prefix.len) == 0);
}

static inline char ascii_lower(char c)
{
    return (c >= 'A' && c <= 'Z') ? (char)(c | 0x20) : c;
}

/* Compares ASCII letters without regard to case, as header names, schemes and hosts ask. */
bool bytes_equal_nocase(struct bytes a, struct bytes b);

/* Gives `b` without leading and trailing SP and HTAB (OWS, RFC 9110 §5.6.3). */
struct bytes bytes_trim(struct bytes b);

/* Reads an unsigned decimal number that fills all of `b`: digits only, no sign, no overflow.
 * Returns false, and leaves *ret_value alone, for anything else. */
bool bytes_to_u64(struct bytes b, uint64_t *ret_value);

/* Writes `value` in decimal at `out` (room for 20 bytes) and returns how many bytes it took. */
size_t bytes_put_u64(char *out, uint64_t value);

/* Copies `b` to `at`, where there is room for it, and returns the end. */
static inline char *bytes_put(char *at, struct bytes b)
{
    if (b.len > 0) {
        memcpy(at, b.ptr, b.len);
    }
    return at + b.len;
}

/* Takes the next item of a comma-separated list (RFC 9110 §5.6.1), trimmed, from the front of
 * *list; empty items are skipped, commas inside quoted strings do not split. False at the end. */
bool bytes_next_item(struct bytes *list, struct bytes *ret_item);

#endif
