/* Byte streams: TCP and unix sockets, told about by events.
 *
 * A stream sits inside its owner's struct and must not move while it is open. Its owner has at most one
 * send in flight. Events come from the loop only, never from inside a call; after `closed` the memory is
 * the owner's again, and no event comes any more. */
#ifndef SLUICE_RING_STREAM_H
#define SLUICE_RING_STREAM_H

#include <sys/uio.h>

#include "ring/address.h"
#include "ring/ring.h"

struct ring_stream;

struct ring_stream_events {
    /* Bytes came. *Borrows* data: a provided buffer goes back to the pool when this returns. */
    void (*received)(struct ring_stream *stream, const char *data, size_t bytes);
    /* Receiving is over and not armed any more: RESULT_CLOSED the peer sent FIN; RESULT_CANCELED it was
     * stopped by receive_stop; RESULT_RESET or RESULT_IO the connection broke. */
    void (*receive_ended)(struct ring_stream *stream, enum result why);
    /* The send is over: `bytes` went out; with RESULT_OK fewer than asked is possible, and the rest is to be
     * sent again. Any other result: the connection can send no more. */
    void (*sent)(struct ring_stream *stream, enum result result, size_t bytes);
    /* The connect is over. On failure the stream is to be closed. NULL for accepted streams. */
    void (*connected)(struct ring_stream *stream, enum result result);
    /* watch_hangup: the peer shut down its side, which may stand behind bytes that were not received yet, or, with
     * `is_broken`, nothing can be sent to it any more either. May be NULL. */
    void (*hung_up)(struct ring_stream *stream, bool is_broken);
    /* After ring_stream_close: nothing is outstanding, the descriptor is gone. */
    void (*closed)(struct ring_stream *stream);
};

struct ring_stream {
    struct ring *ring;
    const struct ring_stream_events *events;
    struct list_node starved; /* waits for provided buffers; or to be closed */
    struct list_node sending; /* a lazy send, until it is settled */
    int fd;
    uint32_t slot;
    uint8_t outstanding; /* completions still to come */
    bool is_open;
    bool is_closing;
    bool receive_armed; /* a receive is in the kernel or on the starved list */
    bool receive_multishot;
    bool receive_stopping;
    bool send_armed;
    bool send_blocked; /* the last lazy send fell short: the next one waits in the kernel */
    bool hangup_armed;
    char *receive_into;
    size_t send_bytes; /* of the send in flight */
};

/* ---- opening ---- */

/* Takes an accepted descriptor (see ring_listener). RESULT_LIMIT: streams_max reached; the descriptor is closed. */
MUST_USE enum result ring_stream_adopt(struct ring *ring, struct ring_stream *stream,
                                       const struct ring_stream_events *events, int fd);

/* Begins to connect; `connected` tells the end. *Borrows* address. On failure nothing is open. */
MUST_USE enum result ring_stream_connect(struct ring *ring, struct ring_stream *stream,
                                         const struct ring_stream_events *events, const struct ring_address *address);

/* ---- receiving: at most one of these is armed ---- */

/* Receives into provided buffers until stopped; for idle connections and heads: holds no memory. */
void ring_stream_receive(struct ring_stream *stream);

/* Receives once, into `into` (*pins* it until `received` or `receive_ended`): for bodies. */
void ring_stream_receive_into(struct ring_stream *stream, char *into, size_t bytes_max);

/* Stops receiving; `received` may come some more times before `receive_ended(RESULT_CANCELED)`. */
void ring_stream_receive_stop(struct ring_stream *stream);

/* While nothing is received: tells of the peer's departure by `hung_up`. */
void ring_stream_watch_hangup(struct ring_stream *stream);

/* ---- sending ---- */

/* Sends all of `iov` in one operation. *Borrows* the array, *pins* what it points at until `sent`. */
void ring_stream_send(struct ring_stream *stream, const struct iovec *iov, unsigned iov_count);

/* The same for an owner that is in no hurry to hear of it: `sent` comes no later than the next thing that happens on
 * this ring, and before it, but the send alone wakes nobody. Nearly every send is done while it is submitted; its
 * completion would end the wait for the next event at once. */
void ring_stream_send_lazily(struct ring_stream *stream, const struct iovec *iov, unsigned iov_count);

/* A lazy send has been handed over and not been told yet: it is done, but for the rare case that it fell short. */
static inline bool ring_stream_is_sent_lazily(const struct ring_stream *stream)
{
    return list_is_linked(&stream->sending);
}

/* The owner does want to hear of the lazy send soon: it has more to send, or is about to close. */
void ring_stream_hurry(struct ring_stream *stream);

enum { RING_IOV_MAX = 64 };

/* ---- ending ---- */

/* Sends FIN; receiving goes on. Nothing may be in flight. */
void ring_stream_shutdown(struct ring_stream *stream);

/* Lets go of everything outstanding, then closes and tells `closed` (never from inside this call). */
void ring_stream_close(struct ring_stream *stream);

/* As close, but the peer sees a reset: it cannot take what it got for complete. */
void ring_stream_reset(struct ring_stream *stream);

/* The peer's address; .bytes is 0 when it has gone. A system call: once per connection. */
struct ring_address ring_stream_peer(const struct ring_stream *stream);

/* A number that changes when the peer has taken more of what was sent. A system call: for deciding whether a send that
 * takes long is stuck or only slow. */
uint32_t ring_stream_taken(const struct ring_stream *stream);

/* ---- listening ---- */

/* One socket on which several workers accept. Each takes one connection at a time, and one that has had more than its
 * share leaves the next to others that wait. Zeroed, but for `workers`, before the first of them starts. */
struct ring_listener_share {
    unsigned workers;
    _Atomic unsigned waiting; /* who has an accept with the kernel */
    _Atomic uint64_t accepted;
};

struct ring_listener {
    struct ring *ring;
    void (*accepted)(struct ring_listener *listener, int fd); /* *gives* fd: for ring_stream_adopt, or ring_refuse */
    void (*stopped)(struct ring_listener *listener);          /* after ring_listener_stop; may be NULL */
    struct ring_timer retry;
    int fd;
    uint32_t slot;
    bool armed;
    bool stopping;
    bool paused; /* the descriptor table is full */
    bool held;   /* by ring_listener_hold */

    /* set before the start */
    struct ring_listener_share *share; /* *borrowed* until stopped; NULL: nobody else accepts on this socket */
    uint64_t share_accepted;           /* of its connections, here */
    bool is_lasting; /* the socket outlives this process: what is queued at the end is left to who comes next */
};

/* Opens a listening socket. `share`: SO_REUSEPORT, for one listener per worker; the address must have been
 * probed before (ring_listen_probe). For unix sockets a stale file is replaced, and the workers share one socket
 * (ring_listen_share). Off the hot path; any thread. */
MUST_USE enum result ring_listen_open(const struct ring_address *address, bool share, int *ret_fd);

/* Whether the address can be listened on now, by nobody else: SO_REUSEPORT alone would let a second
 * instance take half of the connections. RESULT_REFUSED: in use. RESULT_UNREACHABLE: not ours, or not allowed. */
MUST_USE enum result ring_listen_probe(const struct ring_address *address);

/* The address a listening socket really has (its port, when 0 was asked). */
struct ring_address ring_listen_address(int fd);

/* Another descriptor of the same listening socket, for another worker to take. */
MUST_USE enum result ring_listen_share(int fd, int *ret_fd);

/* Removes the file of a unix socket that is listened on no more; nothing for other addresses. */
void ring_listen_remove(const struct ring_address *address);

/* Accepts on `fd` (*takes* it) until stopped. */
void ring_listener_start(struct ring *ring, struct ring_listener *listener, int fd,
                         void (*accepted)(struct ring_listener *listener, int fd));

/* Accepts no more until ring_listener_go_on: further connections wait in the kernel's queue. What the kernel had
 * accepted by then still comes. Either may be called at any time before ring_listener_stop. */
void ring_listener_hold(struct ring_listener *listener);
void ring_listener_go_on(struct ring_listener *listener);

/* Accepts what is queued (not of a socket that is lasting), then closes; `stopped` tells the end. */
void ring_listener_stop(struct ring_listener *listener);

/* Closes a descriptor that nobody wants. */
void ring_refuse(int fd);

#endif
