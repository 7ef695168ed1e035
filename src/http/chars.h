/* Which bytes may stand where: one table, one load per byte. For those who parse what HTTP carries. */
#ifndef SLUICE_HTTP_CHARS_H
#define SLUICE_HTTP_CHARS_H

#include <stdbool.h>
#include <stdint.h>

enum {
    CHAR_TOKEN = 1 << 0,      /* tchar, RFC 9110 §5.6.2 */
    CHAR_TEXT = 1 << 1,       /* HTAB, SP, VCHAR, obs-text: values and reason phrases */
    CHAR_TARGET = 1 << 2,     /* anywhere in a request target */
    CHAR_PATH = 1 << 3,       /* of a path, '/' included, '%' not */
    CHAR_QUERY = 1 << 4,      /* of a query, '%' included */
    CHAR_HOST = 1 << 5,       /* of a reg-name, '%' not */
    CHAR_UNRESERVED = 1 << 6, /* RFC 3986 §2.3 */
    CHAR_HEX = 1 << 7,
};

extern const uint8_t http_chars[256];

static inline bool char_is(char c, unsigned classes)
{
    return (http_chars[(uint8_t)c] & classes) != 0;
}

/* The value of a hexadecimal digit; `c` must be one. */
static inline unsigned char_hex(char c)
{
    unsigned byte = (uint8_t)c;
    return byte <= '9' ? byte - '0' : (byte | 0x20) - 'a' + 10;
}

#endif
