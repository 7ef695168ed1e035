/* Field lines as a stored response keeps them: `Name: value\r\n`, one behind the other, without a status line.
 *
 * Reading only: nothing is owned, nothing is copied but by lines_put_kept, and no byte outside the run is looked at
 * whatever the run holds. What has no colon is no line and is passed over; the last line's CRLF may be missing. */
#ifndef SLUICE_CACHE_LINES_H
#define SLUICE_CACHE_LINES_H

#include <stdbool.h>

#include "base/bytes.h"
#include "http/http.h"

struct line {
    struct bytes name;
    struct bytes value; /* without surrounding white space */
    struct bytes whole; /* as it stands, CRLF included */
};

/* Takes the next line from the front of *rest; false at the end. The slices lie in the run. */
bool lines_next(struct bytes *rest, struct line *ret_line);

/* The value of the first line of this name (any letter case); .ptr NULL when there is none. */
struct bytes lines_find(struct bytes lines, struct bytes name);

/* The members of a list field, over all its lines (RFC 9110 §5.3, §5.6.1), as bytes_next_item takes them. */
struct lines_items {
    struct bytes rest; /* lines not looked at yet */
    struct bytes name;
    struct bytes list; /* what is left of the line at hand */
};

static inline struct lines_items lines_items(struct bytes lines, struct bytes name)
{
    return (struct lines_items){lines, name, {"", 0}};
}

bool lines_next_item(struct lines_items *items, struct bytes *ret_item);

/* Copies the lines whose name `keep` accepts to `at`, where there is room for all of them, neighbours in one go.
 * Returns the end. */
char *lines_put_kept(char *at, struct bytes lines, bool (*keep)(const void *context, struct bytes name),
                     const void *context);

/* Writes `name: value\r\n` at `at` and returns the end; lines_line_bytes says how much that is. */
char *lines_put_line(char *at, struct bytes name, struct bytes value);

static inline size_t lines_line_bytes(struct bytes name, struct bytes value)
{
    return name.len + value.len + 4;
}

/* ---- the same questions to a parsed head; `base` is the buffer it lies in ---- */

/* The values of all fields of one name (any letter case), in order. A name that has an id costs no search. */
struct head_values {
    const struct http_head *head;
    const char *base;
    struct bytes name;
    enum http_field_id id;
    unsigned index; /* of the field to be looked at next */
};

struct head_values head_values(const struct http_head *head, const char *base, struct bytes name);

bool head_next_value(struct head_values *values, struct bytes *ret_value);

/* As head_next_value, without what the gateway does not pass on (http_field's `drop`): what a client lets stop here, by
 * Connection or a name with '_', decides nothing about the answer. */
bool head_next_passed_value(struct head_values *values, struct bytes *ret_value);

#endif
