/* Counts server-sent events in the pieces of a body, and among them the tokens of a chat completion.
 *
 * An event is a blank line behind at least one line that begins with "d" (data). A token is a `"content":"` that is not
 * followed at once by the closing quote: the event that only tells the role has an empty one. Pure, no memory. */
#ifndef BENCH_EVENTS_H
#define BENCH_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#define EVENTS_CONTENT "\"content\":\""

struct events {
    bool in_line;     /* bytes of the present line were seen */
    bool has_data;    /* a data line was seen since the last blank one */
    unsigned matched; /* bytes of EVENTS_CONTENT seen */
};

/* Goes on to the end of the next line, or of the bytes: moves *at there. True when that line ended an event. */
static inline bool events_next(struct events *events, const char **at, const char *end)
{
    const char *bytes = *at, *newline = memchr(bytes, '\n', (size_t)(end - bytes));
    if (!events->in_line && *bytes == 'd')
        events->has_data = true;
    if (newline == NULL) {
        events->in_line |= *bytes != '\r';
        *at = end;
        return false;
    }
    bool blank = !events->in_line && (newline == bytes || *bytes == '\r');
    bool ended = blank && events->has_data;
    if (ended)
        events->has_data = false;
    events->in_line = false;
    *at = newline + 1;
    return ended;
}

/* How many tokens begin in these bytes, or in what came before and end in them. */
static inline unsigned events_tokens(struct events *events, const char *bytes, size_t length)
{
    static const char mark[] = EVENTS_CONTENT;
    unsigned count = 0, matched = events->matched;
    for (size_t i = 0; i < length; i++) {
        if (matched == sizeof mark - 1) {
            count += bytes[i] != '"';
            matched = 0;
        }
        matched = bytes[i] == mark[matched] ? matched + 1 : bytes[i] == mark[0];
    }
    events->matched = matched;
    return count;
}

#endif
