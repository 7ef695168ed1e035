/* What the files of this folder share. Nobody else includes it.
 *
 * user_data of a submission, never a bare pointer:
 *
 *   63      56 55           32 31            0
 *   +---------+---------------+--------------+
 *   |  kind   |  generation   |  slot index  |
 *   +---------+---------------+--------------+
 *
 * A slot is taken when a stream or listener opens and freed when nothing is outstanding on it; the
 * generation then moves on, so that a late completion finds nobody. */
#ifndef SLUICE_RING_INTERNAL_H
#define SLUICE_RING_INTERNAL_H

#include <liburing.h>
#include <pthread.h>

#include "base/counter.h"
#include "ring/address.h"
#include "ring/fiber.h"
#include "ring/mailbox.h"
#include "ring/ring.h"
#include "ring/stream.h"

enum ring_kind {
    RING_KIND_IGNORE, /* cancel, close, wake: only failures complete, and nobody waits for them */
    RING_KIND_RECEIVE,
    RING_KIND_SEND,
    RING_KIND_CONNECT,
    RING_KIND_HANGUP,
    RING_KIND_ACCEPT,
    RING_KIND_EVENTFD,   /* a helper thread wrote */
    RING_KIND_WAKE,      /* another worker's IORING_OP_MSG_RING, on the receiver's side */
    RING_KIND_WAKE_SENT, /* the same on the sender's: it failed, and is to be sent again */
};

enum {
    RING_SUBMISSIONS = 4096,
    RING_COMPLETIONS = 16384,
    RING_DISPATCH_MAX = 512,    /* completions a turn takes before timers and tasks get their say */
    RING_SCRATCH_BYTES = 65536, /* iovecs, msghdrs and addresses that submissions point at */
    WHEEL_LEVELS = 4,
    WHEEL_SLOTS = 64,
};

struct ring_slot {
    void *owner; /* struct ring_stream or struct ring_listener; NULL when free */
    uint32_t generation;
    uint32_t next_free;
};

struct wheel {
    uint64_t now_tick;
    uint64_t occupied[WHEEL_LEVELS]; /* a bit per slot */
    struct list_node slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

struct fiber_pool {
    struct fiber *current;
    struct fiber *free;
    uint32_t count;
    uint32_t count_max;
};

struct ring {
    struct io_uring uring;
    struct ring_counters counters;
    void *context;
    struct ring_hooks hooks;
    struct ring_group *group;
    unsigned index;

    nanos now_ns;
    int64_t unix_offset_ns; /* wall clock − monotonic */
    nanos unix_read_ns;     /* when that was measured */
    uint64_t random_state[4];

    bool stopping;
    bool is_hurried; /* somebody waits for a lazy send: the next turn does not sleep */

    struct ring_slot *slots;
    uint32_t slot_count;
    uint32_t slot_count_max;
    uint32_t slot_free; /* head of the free list; UINT32_MAX: none */

    struct io_uring_buf_ring *buffer_ring;
    char *buffers;
    size_t buffers_mapped_bytes;
    uint32_t buffer_count;
    uint32_t buffer_bytes;
    uint32_t buffers_returned; /* added to the ring but not published yet */

    struct io_uring_cqe *drained; /* completions taken from the queue and not dispatched yet, in order */
    unsigned drained_count;

    char *scratch;
    size_t scratch_used;

    struct list_node starved;        /* streams whose receive found no buffer */
    struct list_node lazy_queued;    /* lazy sends not handed to the kernel yet */
    struct list_node lazy_submitted; /* handed over; settled once all completions up to then are seen */
    struct list_node closing;        /* streams with nothing outstanding, to be finished */
    struct list_node tasks;
    struct list_node mark; /* put behind the last node of a list whose growth is for the next turn */
    struct wheel wheel;
    struct fiber_pool fibers;

    int eventfd;
    uint64_t eventfd_value;
};

/* ---- loop.c ---- */

/* A submission entry with its user_data set; submits what is queued when the queue is full. */
struct io_uring_sqe *ring_sqe(struct ring *ring);

static inline uint64_t ring_user_data(enum ring_kind kind, uint32_t generation, uint32_t slot)
{
    return (uint64_t)kind << 56 | (uint64_t)(generation & 0xffffff) << 32 | slot;
}

/* Memory that lasts until the next submission, and certain room for one ring_sqe that points at it. */
void *ring_scratch(struct ring *ring, size_t bytes);

/* Takes a slot for `owner`. False when streams_max are taken or memory is out. */
MUST_USE bool ring_slot_take(struct ring *ring, void *owner, uint32_t *ret_slot);
void ring_slot_free(struct ring *ring, uint32_t slot);

/* ---- wheel.c ---- */

void wheel_init(struct wheel *wheel, nanos now_ns);
/* Fires what is due. */
void wheel_advance(struct ring *ring, nanos now_ns);
/* The moment something is to be done next; NANOS_NEVER when no timer is set. */
nanos wheel_next(const struct wheel *wheel);

/* ---- stream.c, listener.c ---- */

void stream_on_completion(struct ring *ring, struct ring_stream *stream, enum ring_kind kind, int32_t res,
                          uint32_t flags);
void stream_finish_closing(struct ring *ring);
/* Lazy sends whose submission has returned without a completion are done: tells their owners. */
void stream_settle_sends(struct ring *ring);
void stream_feed_starved(struct ring *ring);
void listener_on_completion(struct ring *ring, struct ring_listener *listener, int32_t res, uint32_t flags);

/* -errno, as the kernel gives it, becomes a result here and nowhere else. */
enum result ring_result_from(int negative_errno);

/* ---- socket.c ---- */

/* Sets what every TCP socket to or on `address` gets: TCP_NODELAY, and on loopback a congestion control that does not
 * pace. Accepted sockets inherit both from their listener. */
void socket_tune(int fd, const struct ring_address *address);

/* ---- buffers.c ---- */

MUST_USE enum result buffers_init(struct ring *ring, uint32_t count, uint32_t bytes);
void buffers_fini(struct ring *ring);
void buffers_return(struct ring *ring, uint16_t id);
static inline char *buffers_at(struct ring *ring, uint16_t id)
{
    return ring->buffers + (size_t)id * ring->buffer_bytes;
}

/* ---- fiber.c ---- */

void fiber_pool_init(struct ring *ring, uint32_t count_max);
void fiber_pool_fini(struct ring *ring);

/* ---- mailbox.c ---- */

MUST_USE enum result mailbox_attach(struct ring *ring);
/* Delivers what came; true when anything did. */
bool mailbox_deliver(struct ring *ring);
/* Says that this worker is about to sleep; false when mail came meanwhile, and it must not. */
bool mailbox_prepare_sleep(struct ring *ring);
void mailbox_awake(struct ring *ring);
/* Sends what did not fit into a full queue. */
void mailbox_flush(struct ring *ring);
void mailbox_on_eventfd(struct ring *ring, int32_t res);
void mailbox_on_wake_failed(struct ring *ring, uint32_t to);

#endif
