/* Watches a text/event-stream go by (WHATWG HTML §9.2.6) without holding any of it back. */
#ifndef SLUICE_HTTP_SSE_H
#define SLUICE_HTTP_SSE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

struct sse_scanner {
    uint64_t events;  /* blank lines that ended an event with at least one `data` line */
    bool at_boundary; /* nothing has come since the last blank line (or at all) */
    bool terminal;    /* a terminal event was seen: `data: [DONE]`, or `event:`/`"type"` of
                         response.completed|failed|incomplete, message_stop. The
                         data's "type" counts when it is the object's first member */
    /* private */
    bool has_data;
    bool has_terminal_name; /* the event's `event:` line names a terminal type */
    bool past_bom;          /* the first line is over: only before it may a byte order mark stand */
    bool skip_lf;           /* the last byte was CR: a LF belongs to it */
    uint8_t line_bytes;     /* of `line`, at most its size */
    char line[64];          /* how a line begins: enough for a terminal event's */
};

void sse_scanner_init(struct sse_scanner *scanner);

/* Looks at the next bytes of the stream, cut anywhere. Lines end in LF, CR or CRLF. */
void sse_scan(struct sse_scanner *scanner, struct bytes run);

#endif
