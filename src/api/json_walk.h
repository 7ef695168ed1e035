/* Walks through a JSON text and gives its pieces as they stand there, byte for byte.
 *
 * It checks what it needs to cut rightly: strings that end, brackets that match, commas and colons where it walks. What
 * stands inside a value that it passes over is not looked at otherwise; who needs that reads the text with a parser.
 * Pure, allocates nothing, one pass. */
#ifndef SLUICE_API_JSON_WALK_H
#define SLUICE_API_JSON_WALK_H

#include "base/bytes.h"

enum { JSON_WALK_DEPTH_MAX = 128 }; /* of a value that is passed over */

struct json_walk {
    struct bytes text;
    size_t at;
    bool is_first; /* nothing of the innermost container has been seen yet */
};

static inline void json_walk_init(struct json_walk *walk, struct bytes text)
{
    *walk = (struct json_walk){.text = text};
}

/* The first character of what comes next, white space apart; 0 at the end. */
char json_walk_peek(struct json_walk *walk);

/* Into the container that comes next; `open` is its bracket. False when something else comes. */
bool json_walk_open(struct json_walk *walk, char open);

/* To the next member or item of the container that is closed by `close`; *ret_more is false when it was closed.
 * False when the text is wrong. */
bool json_walk_next(struct json_walk *walk, char close, bool *ret_more);

/* The name of a member, without its quotes and with its escapes, and the colon behind it. */
bool json_walk_name(struct json_walk *walk, struct bytes *ret_name);

/* A whole value, without white space around it. */
bool json_walk_value(struct json_walk *walk, struct bytes *ret_value);

/* Nothing but white space comes. */
bool json_walk_end(struct json_walk *walk);

#endif
