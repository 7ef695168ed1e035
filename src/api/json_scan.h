/* Reads one JSON text that comes in runs cut anywhere, keeping next to nothing (RFC 8259).
 *
 * It tells of the members that a table names, and checks the grammar of the rest as strictly as a reader would, but
 * for the UTF-8 of strings. Where it is, is a number from that table: a member's name leads from one place to another;
 * what the table does not know is passed over. */
#ifndef SLUICE_API_JSON_SCAN_H
#define SLUICE_API_JSON_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

enum { JSON_SCAN_DEPTH_MAX = 128, JSON_SCAN_PLACES_MAX = 8, JSON_SCAN_TEXT_BYTES = 32 };

/* From the object at place `from`, the member `name` leads to the place `to`; with .name.ptr NULL, each item of the
 * array at `from` does. Place 0 is nowhere, JSON_SCAN_ROOT the whole text; the others are the caller's. */
struct json_step {
    uint8_t from;
    uint8_t to;
    struct bytes name;
};

enum { JSON_SCAN_NOWHERE = 0, JSON_SCAN_ROOT = 1 };

enum json_scan_event {
    JSON_SCAN_STRING,
    JSON_SCAN_NUMBER,
    JSON_SCAN_WORD, /* true, false, null */
    JSON_SCAN_OPEN, /* of an object or an array */
    JSON_SCAN_CLOSE,
};

struct json_scan {
    const struct json_step *steps; /* ends with .from 0 */

    /* private */
    uint8_t state;
    uint8_t text_bytes; /* of `text`, at most its size */
    bool text_is_whole; /* it is all of the token, and nothing in it was escaped */
    bool in_key;
    uint8_t digits_left; /* of `\u`: still to come */
    uint8_t place;       /* of the value that comes next or is under way */
    uint32_t depth;
    uint64_t is_object[JSON_SCAN_DEPTH_MAX / 64]; /* a bit for each level */
    uint8_t places[JSON_SCAN_PLACES_MAX];         /* of the outer levels */
    char text[JSON_SCAN_TEXT_BYTES];
};

/* What is told at a place of the table (never at JSON_SCAN_NOWHERE). `text` is the token (a string without its quotes),
 * or .ptr NULL when it is longer than JSON_SCAN_TEXT_BYTES or has escapes; of OPEN, "{" or "[". */
typedef void json_scan_tell(void *context, uint8_t place, enum json_scan_event event, struct bytes text);

/* *Keeps* steps. */
void json_scan_init(struct json_scan *scan, const struct json_step *steps);

/* False when the text is not JSON, now or before. */
bool json_scan_feed(struct json_scan *scan, struct bytes run, json_scan_tell *tell, void *context);

/* The end has come: true when the text was one whole value. */
bool json_scan_end(struct json_scan *scan, json_scan_tell *tell, void *context);

#endif
