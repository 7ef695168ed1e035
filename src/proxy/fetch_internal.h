/* What fetch.c (the way of a request) and fetch_io.c (its bytes) share. */
#ifndef SLUICE_PROXY_FETCH_INTERNAL_H
#define SLUICE_PROXY_FETCH_INTERNAL_H

#include "proxy/fetch.h"

enum {
    FETCH_WINDOW_BYTES = 256 * 1024,
    FETCH_INTERIM_MAX = 8,          /* 1xx responses before the real one */
    FETCH_DIRECT_BYTES_MIN = 65536, /* from here on a body is received without a copy */
};

extern const struct upstream_user fetch_user_events;

/* Puts head and body on their way. */
MUST_USE enum result fetch_send(struct fetch *fetch);

/* The attempt has an outcome: ends it, or wakes the fiber that waits for a connection. The fetch may be gone after it.
 */
void fetch_settle(struct fetch *fetch, enum result outcome);

/* The same, later in this turn: for places that a reader called, which must not be told of the end from inside. */
void fetch_settle_later(struct fetch *fetch, enum result outcome);

/* Looks at the deadline again after something that may have moved it nearer. */
void fetch_arm_timer(struct fetch *fetch);

/* Takes a whole response that came another way than by a connection. */
MUST_USE enum result fetch_feed(struct fetch *fetch, struct bytes head, struct bytes body);

/* Whether its detour has taken it; else it goes as any other. */
bool fetch_is_detoured(struct fetch *fetch);

/* Asks its gate, if it has one, and goes when it may. It may be over after it. */
void fetch_ask(struct fetch *fetch);

/* The end, good or bad: the connection goes back or away, the readers hear of it. */
void fetch_end(struct fetch *fetch, enum result result);

/* The entry has room again. */
void fetch_resume_receive(struct fetch *fetch);

/* The gate is told how it went, and has its slot back; once is enough. */
void fetch_leave_gate(struct fetch *fetch, enum result result);

void fetch_drop_partial(struct fetch *fetch);

#endif
