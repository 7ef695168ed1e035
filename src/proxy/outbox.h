/* What is still to be sent on one stream, in order: small things are copied, large ones are pinned where
 * they lie. One send is in flight at a time; what is added meanwhile leaves with the next one.
 *
 * An outbox is a pooled block that a connection holds only while it has something to send, so that an idle
 * connection costs none. It sits in a small chunk:
 *
 *   +--------+----------------+--------------------------------------------+
 *   | outbox | spans (ptr,len)| copied bytes, then in further large chunks  |
 *   +--------+----------------+--------------------------------------------+
 */
#ifndef SLUICE_PROXY_OUTBOX_H
#define SLUICE_PROXY_OUTBOX_H

#include "base/bytes.h"
#include "base/result.h"
#include "cache/chunk.h"
#include "ring/stream.h"

enum {
    OUTBOX_SPANS_MAX = 48,
    OUTBOX_COPY_BYTES_MAX = 4096,     /* a run up to this is copied: cheaper than a vector entry and a pin */
    OUTBOX_LAZY_BYTES_MAX = 16384,    /* a longer send is likely to be followed by more, or not to fit at once */
    OUTBOX_PENDING_BYTES_MAX = 65536, /* above this the producer should wait for the next `sent` */
};

_Static_assert((int)OUTBOX_SPANS_MAX <= (int)RING_IOV_MAX, "all spans leave in one send");

struct outbox_span {
    const char *ptr;
    size_t bytes;
    struct hold *hold; /* one use of it is ours; NULL: the memory outlives the outbox */
};

struct outbox {
    struct chunk *home; /* the chunk this sits in */
    struct chunk *copy; /* where copies go now: home, or a large chunk */
    char *taken;        /* from malloc, freed when all has left; NULL: none */
    char *too_long;     /* from malloc: what is reserved, when no chunk holds it; NULL: none */
    size_t pending_bytes;
    unsigned first; /* spans before it have left */
    unsigned count;
    struct outbox_span spans[OUTBOX_SPANS_MAX];
};

/* *Gives* an empty outbox from the pool; NULL when memory is out. */
struct outbox *outbox_acquire(struct chunk_pool *pool);

/* Lets go of everything. No send that uses it may be in flight. */
void outbox_release(struct outbox *outbox);

/* Adds a copy of `run`. RESULT_NO_MEMORY: nothing was added, and the stream is to be given up. */
MUST_USE enum result outbox_copy(struct outbox *outbox, struct bytes run);

/* Room for `bytes` contiguous bytes, to be filled up to what outbox_commit then says. NULL when memory is out. More
 * than a large chunk holds (the longest heads, with what is added to them) is copied once more. */
char *outbox_reserve(struct outbox *outbox, size_t bytes);
MUST_USE enum result outbox_commit(struct outbox *outbox, size_t bytes);

/* Adds `run` where it lies; takes a use of `hold`, or, when it is NULL, *keeps* the memory until all is sent. */
MUST_USE enum result outbox_pin(struct outbox *outbox, struct bytes run, struct hold *hold);

/* Adds all of `text`, from malloc, and *takes* it, even when it fails. */
MUST_USE enum result outbox_take(struct outbox *outbox, char *text, size_t bytes);

/* Adds a run of a body: copied when small, pinned when large. */
MUST_USE enum result outbox_add(struct outbox *outbox, struct bytes run, struct hold *hold);

/* Whether more can be added now without waiting. A few spans are kept back for framing. */
static inline bool outbox_has_room(const struct outbox *outbox)
{
    return outbox->pending_bytes < OUTBOX_PENDING_BYTES_MAX && outbox->count < OUTBOX_SPANS_MAX - 6;
}

/* Sends all that is there; nothing may be in flight and something must be there. *Pins* it until `sent`. `lazily`: see
 * ring_stream_send_lazily. */
void outbox_send(struct outbox *outbox, struct ring_stream *stream, bool lazily);

/* `bytes` have left. */
void outbox_sent(struct outbox *outbox, size_t bytes);

#endif
