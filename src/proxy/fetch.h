/* A fetch: one request sent upstream, and the entry that its response fills.
 *
 * The fetch belongs to the entry, not to a client, and ends early when the last reader has left. What may have to wait,
 * getting a connection, runs on a fiber; where an idle connection is at hand there is none, and the rest is driven by
 * completions, so that a stream holds no stack. It retries where that is safe (another endpoint when none of it was
 * sent; a fresh connection when a reused one turned out dead before a byte came back), and never after the first byte.
 *
 *   fetch_start ─▶ may it go? ─▶ idle connection? ──yes──▶ fetch_begin: send ─▶ head ─▶ body ─▶ fetch_end: release,
 * tell │ (gate.h)        │ no                      ▲     │ reused and dead │ no              └─▶ fetch_run (fiber):
 * ───┘◀────┘ ├─▶ queued ─▶ again     choose, connect └─▶ shed ─▶ fetch_end
 *
 * Nothing but the fetch itself is held while it is queued: no fiber, no connection. Before it asks, a detour may take
 * it, and have an answer come that another fetch has brought. */
#ifndef SLUICE_PROXY_FETCH_H
#define SLUICE_PROXY_FETCH_H

#include "base/arena.h"
#include "cache/entry.h"
#include "http/http.h"
#include "http/sse.h"
#include "proxy/gate.h"
#include "proxy/upstream.h"
#include "ring/fiber.h"

enum { FETCH_ARENA_BYTES = 2048 };

/* What to send; the memory belongs to the fetch's arena or outlives it. */
struct fetch_request {
    struct upstream *upstream;
    uint64_t endpoints_allowed; /* a bit per endpoint */
    struct bytes line;          /* "POST /path HTTP/1.1\r\n" */
    struct bytes host;          /* what Host says when the upstream wants the client's */
    struct bytes fields;        /* the other lines, with the blank one */
    bool is_head;               /* the response has no body */
    bool has_length;            /* Content-Length is sent, of this many bytes */
    uint64_t length;
    char *body; /* buffered, from malloc; *taken* by the fetch; NULL when none */
    size_t body_bytes;
    struct entry *stream;   /* or streamed: an entry that the client fills; *keeps* it until
                               the fetch has ended or been abandoned */
    bool stream_is_chunked; /* it goes out chunked, else its length was in the fields */
};

struct fetch;

enum fetch_verdict {
    FETCH_TAKE,    /* the response goes into the entry */
    FETCH_TAKEN,   /* the observer has put a head, and perhaps the body's beginning, into the entry; the rest follows */
    FETCH_GIVE_UP, /* the observer was out of memory: the fetch fails */
    FETCH_SWALLOW, /* it does not, and the entry is not ended: on_end sees to that */
};

/* Who wants to know what becomes of a fetch: what fills the cache. */
struct fetch_observer {
    /* The response's head has come, and is not yet in the entry. *Borrows* all. */
    enum fetch_verdict (*on_head)(struct fetch_observer *observer, struct fetch *fetch, const struct http_head *head,
                                  const char *base);
    /* A run of the body is there, in the entry or about to be; NULL: nobody asks, and it may be received in place. */
    void (*on_body)(struct fetch_observer *observer, struct bytes run);
    /* It is over, the entry has its end (but for what was swallowed) and its readers are about to hear of it. The last
     * call. */
    void (*on_end)(struct fetch_observer *observer, struct fetch *fetch, enum result result);
};

/* Who reads of a response what the scheduler wants to know: when it began, and what it took. */
struct fetch_meter {
    /* The response's head has come. *Borrows* all. */
    void (*on_head)(struct fetch_meter *meter, struct fetch *fetch, const struct http_head *head, const char *base);
    /* A run of the body has come. */
    void (*on_body)(struct fetch_meter *meter, struct fetch *fetch, struct bytes run);
    /* It is over, or was never begun: the last call. Before its pass leaves the gate, whose outcome's usage it fills
     * in. */
    void (*on_end)(struct fetch_meter *meter, struct fetch *fetch, enum result result);
};

/* Who passes interim responses on: whoever has asked, and nobody who reads along (RFC 9110 §15.2). */
struct fetch_interim {
    /* One has come, other than 100 and 101. *Borrows* the head. */
    void (*on_interim)(struct fetch_interim *interim, const struct http_head *head, const char *base);
};

/* Who may have another call answer in a fetch's place: a batch. */
struct fetch_detour {
    /* It begins, and has not asked its gate. True: taken; later, and not from inside, fetch_go_on, fetch_answer or
     * fetch_give_up is called, unless it ends before. False: it goes as any other. */
    bool (*on_start)(struct fetch_detour *detour, struct fetch *fetch);
    /* It is over. Only after on_start gave true, and then the last call; `fetch` is not kept. */
    void (*on_end)(struct fetch_detour *detour, struct fetch *fetch, enum result result);
};

/* An answer that came another way. *Borrowed*. */
struct fetch_answer {
    struct bytes head; /* status line, lines, the blank one: as from the wire, with Content-Length */
    struct bytes body;
    unsigned endpoint;       /* that gave it */
    uint32_t batch_items;    /* of the call that it was a part of */
    uint32_t batch_requests; /* that shared it */
};

/* Why there is none. */
struct fetch_failure {
    enum result result;
    const char *fault; /* static; NULL */
    bool was_connected;
    uint8_t shed; /* of RESULT_SHED */
    uint32_t retry_after_ms;
};

enum fetch_phase {
    FETCH_IDLE,
    FETCH_DETOURED, /* its detour has it */
    FETCH_QUEUED,   /* waits until its gate lets it go */
    FETCH_CONNECTING,
    FETCH_SENDING, /* and waiting for the head, which may come before all is sent */
    FETCH_BODY,
    FETCH_OVER,
};

struct fetch {
    struct entry entry; /* its last use frees the fetch */
    struct proxy *proxy;
    struct fetch_request request;
    struct arena arena;
    struct fetch_observer *observer; /* NULL: none */
    struct fetch_interim *interim;   /* NULL: none; to be taken out before it goes */
    struct fetch_meter *meter;       /* NULL: none; told to the end */
    struct fetch_detour *detour;     /* NULL: none; until it has ended */

    /* how it went; valid when the entry has ended */
    const char *fault;         /* static: what was wrong with a response; NULL */
    struct endpoint *endpoint; /* the last one tried; NULL: none */
    nanos started_ns;
    nanos first_byte_ns; /* 0: none came */
    unsigned attempts;
    bool is_retry_fresh;
    bool was_connected; /* a connection was had, and at least a part of the request sent */

    /* private */
    struct entry_filler filler;
    struct upstream_user user;
    struct fiber *fiber; /* waits for a connection; NULL: none does */
    struct ring_timer timer;
    struct ring_task failing;
    struct upstream_conn *conn;
    struct entry_reader stream_reader;
    enum fetch_phase phase;
    enum result outcome; /* RESULT_MORE while it is open */
    nanos progress_ns;   /* bytes went or came */
    nanos paused_ns;     /* since then the entry has been full, or its slow readers were last told */
    nanos sent_ns;       /* the request was out; 0: not yet */
    unsigned interim_count;
    uint16_t status; /* of the response's head; 0: none has come */
    bool any_byte;
    bool stream_is_started; /* bytes of a streamed body have been taken */
    bool is_sending;        /* in fetch_send: an outcome waits until it returns */
    bool is_abandoned;
    bool receive_paused;
    bool is_direct; /* the rest of the body is received straight into the entry */
    bool keep_alive;
    bool is_swallowed; /* the observer's verdict */
    struct http_body body;
    struct sse_scanner sse;
    struct http_parser *partial; /* a head that came in pieces */
    char *partial_bytes;
    size_t partial_used;
    struct fetch *next_free;
    struct gate_pass pass; /* to be made before fetch_start, for a gate that is to be asked whether it may go */
    char arena_lent[FETCH_ARENA_BYTES];
};

/* *Gives* a fetch with one use, to fill its request. NULL when memory is out. */
struct fetch *fetch_create(struct proxy *proxy, bool is_private);

/* Runs it. It may have ended when this returns. When no fiber is to be had the entry fails with RESULT_LIMIT. */
void fetch_start(struct fetch *fetch);

/* ---- for a detour ---- */

/* It goes as if there had been none. It may have ended when this returns. */
void fetch_go_on(struct fetch *fetch);

/* It has its answer, and is over. */
void fetch_answer(struct fetch *fetch, const struct fetch_answer *answer);

/* It has none, and is over. */
void fetch_give_up(struct fetch *fetch, const struct fetch_failure *failure);

static inline void fetch_ref(struct fetch *fetch)
{
    entry_ref(&fetch->entry);
}

static inline void fetch_unref(struct fetch *fetch)
{
    entry_unref(&fetch->entry);
}

#endif
