/* A way through a JSON text that is all there, which takes what is wanted and goes past the rest as fast as brackets
 * and quotes can be found. It trusts the text to be JSON: what is not is read in one way or another, within its bounds.
 */
#ifndef SLUICE_API_JSON_CURSOR_H
#define SLUICE_API_JSON_CURSOR_H

#include <stdbool.h>

#include "base/bytes.h"

struct json_cursor {
    const char *at;
    const char *end;
};

/* Goes to the next byte that is no white space, and gives it; '\0' at the end. */
char json_cursor_peek(struct json_cursor *cursor);

/* Goes behind that byte if it is this one. */
bool json_cursor_take(struct json_cursor *cursor, char c);

struct json_string {
    struct bytes written; /* between the quotes; within the text */
    size_t bytes;         /* as UTF-8, without its escapes */
};

/* From behind the opening quote to behind the closing one, or to the end. */
struct json_string json_cursor_string(struct json_cursor *cursor);

/* Gives the value that stands next, and goes behind it, or to the end. */
struct bytes json_cursor_value(struct json_cursor *cursor);

#endif
