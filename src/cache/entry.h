/* An entry is a response, and everyone who wants it is a reader.
 *
 *   entry ── head block: status, `Name: value\r\n` lines, framing
 *         └─ chunk ─▶ chunk ─▶ chunk      append-only; grows while FILLING
 *              ▲          ▲
 *           reader     reader             each at its own place; first what is there, then what lands
 *
 * One filler appends, and ends it COMPLETE or FAILED. A reader looks, and when there is nothing new it is
 * told by `on_progress` once there is. An entry that may be joined keeps everything, and its filler goes at its own
 * pace. One that may not (`is_private`: an uncacheable response, a request's body, what has become too large to keep)
 * lets go of chunks that its readers have passed; the bytes that the slowest reader has not passed are its window, and
 * the filler waits when that is full. Readers that make the others wait for too long are shed (entry_shed_slow).
 *
 * An entry belongs to one worker; its filler and its readers run there. Readers on other cores read a mirror of it
 * (flight.h): an entry whose chunks lie elsewhere, and are copied rather than pinned. */
#ifndef SLUICE_CACHE_ENTRY_H
#define SLUICE_CACHE_ENTRY_H

#include "base/bytes.h"
#include "base/list.h"
#include "base/result.h"
#include "cache/chunk.h"

struct entry_cursor;
struct freshness;

enum entry_state { ENTRY_FILLING, ENTRY_COMPLETE, ENTRY_FAILED };

struct entry;

/* Which of several answers to one question an entry holds (RFC 9111 §4.1): who joined it compares. */
struct entry_variant {
    struct bytes fields; /* which request fields decided, in vary.h's form */
    struct bytes key;    /* what they said */
};

/* What the filler is told. */
struct entry_filler {
    void (*on_drained)(struct entry_filler *filler);   /* the window fell below its half after being full */
    void (*on_abandoned)(struct entry_filler *filler); /* the last reader has left before the end */
};

struct entry {
    struct chunk_pool *pool;
    struct chunk *first; /* the oldest chunk kept */
    struct chunk *last;
    uint64_t body_bytes;     /* appended so far */
    uint64_t passed_bytes;   /* by the slowest reader, while has_window */
    uint32_t slowest_count;  /* readers that stand there, likewise: it is looked for anew when the last of them moves */
    uint64_t keep_bytes_max; /* a longer body makes it private; 0: no bound */
    uint64_t first_at;       /* the place of the first chunk's first byte in the body */
    uint64_t window_bytes_max;
    uint64_t rewind_bytes_max; /* a private entry keeps what was read until its reader has passed more than this */
    struct list_node readers;
    struct entry_cursor *cursor; /* of the innermost entry_tell under way; NULL: none */
    struct entry_filler *filler; /* NULL once the entry has ended */
    char *trailers;              /* from malloc, `Name: value\r\n` lines; NULL when none */
    uint32_t trailer_bytes;
    uint32_t uses;
    void (*on_unused)(struct entry *entry); /* the last use has gone */
    void (*on_passed)(struct entry *entry); /* passed_bytes has moved; NULL: nobody asks */
    struct hold *hold; /* keeps the chunks of an entry that only shows a stored body; NULL: they are its own */
    enum entry_state state;
    enum result failure;        /* of FAILED */
    const char *failure_text;   /* static: what was wrong; NULL */
    bool was_connected;         /* it failed with a connection to the upstream, or after one */
    uint8_t shed;               /* of RESULT_SHED: why, in the filler's terms; */
    uint32_t retry_after_ms;    /* and when it is worth trying again */
    uint32_t batch_items;       /* of the upstream call that it is a part of; 0: it was a call of its own */
    uint32_t batch_requests;    /* that shared it */
    bool is_mid_event;          /* an event stream broke off within an event */
    bool is_look_again;         /* FAILED, because what the readers want is to be found in the cache */
    bool is_stored;             /* it will be found in the cache */
    const char *not_stored_why; /* static: why it will not; NULL: nobody has looked */
    bool is_from_tier;          /* it was not fetched but read from the second tier */
    bool is_expelled;           /* who joined it is to leave: the answer is for its leader alone */
    bool is_private;
    bool has_window; /* it is known how far the slowest reader is: private, or a mirror of what is private */
    bool is_mirror;  /* its chunks are another core's, and go when all readers have passed them */
    bool is_trimmed; /* a private entry's first bytes have gone */
    bool was_full;   /* the filler waits for on_drained */
    bool has_news;   /* readers are to be told */

    /* the head block; status 0 until it is there */
    uint16_t status;
    uint16_t origin_status;  /* what the origin said, when the head was made of a stored one; 0: the same */
    bool has_content_length; /* of this many bytes; else the end is known only when it comes */
    bool has_date;
    bool has_request_id;
    bool is_event_stream;
    uint64_t content_length;
    uint64_t ticket;                     /* of who had it fetched before anybody asked for it (object.h); 0 */
    struct chunk *head;                  /* holds the lines at its front, and the first of the body behind them */
    uint32_t head_bytes;                 /* of the lines */
    const struct entry_variant *variant; /* whose answer it is; NULL: everybody's. Lives as long as the entry */
    const struct freshness *freshness;   /* for who comes after its head; NULL: not known. Lives as long as the entry */
};

/* A place in an entry, and a wish to hear of more. */
struct entry_reader {
    struct entry *entry; /* NULL: reads nothing */
    struct list_node node;
    struct chunk *chunk; /* NULL: at the first, when there is one */
    uint32_t chunk_offset;
    uint64_t position; /* bytes passed */
    void (*on_progress)(struct entry_reader *reader);
    /* It has not passed `below` for too long. `others_wait`: for it, so it should leave. NULL: it is never too slow. */
    void (*on_slow)(struct entry_reader *reader, uint64_t below, bool others_wait);
};

/* Starts an empty entry with one use, held by the caller. *Keeps* pool and filler. The caller sets on_unused if uses
 * are to be counted. */
void entry_init(struct entry *entry, struct chunk_pool *pool, struct entry_filler *filler, uint64_t window_bytes_max,
                bool is_private);

/* Frees what it holds; no reader may be attached. */
void entry_fini(struct entry *entry);

static inline void entry_ref(struct entry *entry)
{
    entry->uses++;
}

static inline void entry_unref(struct entry *entry)
{
    if (--entry->uses == 0) {
        entry->on_unused(entry);
    }
}

/* ---- filling ---- */

/* Nobody joins any more: what all readers have passed goes, and the window counts. */
void entry_make_private(struct entry *entry);

/* Begins to count how far the slowest reader is, for on_passed. */
void entry_watch_slowest(struct entry *entry);

/* The filler has waited too long for a full window: tells readers that have not passed `below`. `others_wait`: readers
 * elsewhere have; those here that have are seen. May end the entry, unless the caller has a use of it. */
void entry_shed_slow(struct entry *entry, uint64_t below, bool others_wait);

/* Room for a head block of at most `bytes` (up to what a large chunk holds), before any body. The writer puts it there,
 * then sets the head's fields and calls entry_commit_head. RESULT_NO_MEMORY when the pool is out. */
MUST_USE enum result entry_room_for_head(struct entry *entry, size_t bytes, char **ret_at);
void entry_commit_head(struct entry *entry, uint16_t status, size_t bytes);

/* Room at the end of the chain for at least one byte: writes go to *ret_at, and entry_commit publishes them.
 * RESULT_NO_MEMORY when the pool is out. */
MUST_USE enum result entry_room(struct entry *entry, char **ret_at, size_t *ret_bytes);
void entry_commit(struct entry *entry, size_t bytes);

/* Copies `run` to the end. RESULT_NO_MEMORY: a part may be there already; the entry must be failed. */
MUST_USE enum result entry_append(struct entry *entry, struct bytes run);

/* The window is full: the filler should wait for on_drained, which is then certain to come, or on_abandoned. */
bool entry_is_full(struct entry *entry);

/* Ends the entry; the filler is told nothing any more. *Takes* trailers (may be NULL). */
void entry_complete(struct entry *entry, char *trailers, uint32_t trailer_bytes);
void entry_fail(struct entry *entry, enum result why);

/* Tells the readers of all that came since the last time. The filler calls it when it is about to wait, so
 * that head, body and end which came together are told once. Readers may leave, and the filler be told
 * so, from inside this call. */
void entry_tell(struct entry *entry);

/* ---- reading ---- */

/* *Keeps* entry until entry_reader_leave. A private entry takes no second reader. The caller may then set on_slow. */
void entry_reader_join(struct entry_reader *reader, struct entry *entry,
                       void (*on_progress)(struct entry_reader *reader));
void entry_reader_leave(struct entry_reader *reader);

/* The next run of bytes that is there, not consumed; *ret_hold keeps it (take a use to keep it longer); NULL: it is to
 * be copied before it is passed. Empty when nothing new is there: the entry's state then says whether more can come. */
struct bytes entry_reader_peek(struct entry_reader *reader, struct hold **ret_hold);

/* Passes `bytes` of what peek gave. A private entry lets go of chunks that lie behind. */
void entry_reader_pass(struct entry_reader *reader, size_t bytes);

/* Moves to `position` from the start of a COMPLETE entry. */
void entry_reader_skip(struct entry_reader *reader, uint64_t position);

/* For a reader that stands for others elsewhere: they have all passed `position`. */
void entry_reader_acknowledge(struct entry_reader *reader, uint64_t position);

/* Puts a private entry's reader back to the beginning; nothing may be trimmed yet. */
void entry_reader_rewind(struct entry_reader *reader);

/* Everything that was appended has been passed. */
static inline bool entry_reader_is_level(const struct entry_reader *reader)
{
    return reader->position == reader->entry->body_bytes;
}

#endif
