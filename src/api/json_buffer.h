/* JSON text under construction: bytes from malloc that grow up to a bound.
 *
 * A failure (memory out, or the bound met) sticks: what is put later is dropped, and one look at the end is enough. */
#ifndef SLUICE_API_JSON_BUFFER_H
#define SLUICE_API_JSON_BUFFER_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/result.h"

struct json_buffer {
    char *data;
    size_t len;
    size_t capacity;
    size_t bytes_max;
    enum result result; /* RESULT_OK, RESULT_LIMIT or RESULT_NO_MEMORY */
};

/* Starts empty, with room for `expected` bytes taken by the first put. */
void json_buffer_init(struct json_buffer *buffer, size_t expected, size_t bytes_max);
void json_buffer_fini(struct json_buffer *buffer);

/* Room for `bytes` at the end; the writer adds to .len what it wrote. NULL after a failure. */
char *json_buffer_room(struct json_buffer *buffer, size_t bytes);

void json_buffer_put(struct json_buffer *buffer, struct bytes b);
void json_buffer_put_u64(struct json_buffer *buffer, uint64_t value);

/* Inline, so that a literal's length is known when it is compiled. */
static inline void json_buffer_text(struct json_buffer *buffer, const char *text)
{
    json_buffer_put(buffer, bytes_from(text));
}

/* `b` as a JSON string, quotes included, or only what stands between them. There is one way of writing each: `\"`,
 * `\\`,
 * `\b`, `\f`, `\n`, `\r`, `\t`, `\u00XX` for the other control characters, and every other byte as it is. It is never
 * longer than the same string was as JSON. */
void json_buffer_string(struct json_buffer *buffer, struct bytes b);
void json_buffer_escaped(struct json_buffer *buffer, struct bytes b);

#endif
