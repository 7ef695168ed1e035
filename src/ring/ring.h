/* A worker: one thread, one ring, and everything on it that waits.
 *
 * This folder is the only door to the world: it alone makes I/O system calls and reads the clock and
 * random bits, so that a second implementation of these headers (virtual time, injected faults) can
 * carry the whole server. ring.h is the loop with its clock, timers and tasks; stream.h are sockets;
 * fiber.h is waiting in the middle of a function; mailbox.h is talking to other workers; address.h and
 * topology.h are what is asked at start.
 *
 * Everything here belongs to the thread that made the ring, unless it says otherwise. A turn of the loop:
 * submit and wait, drain the completion queue, dispatch what came, run deferred tasks and due timers.
 * Nothing is called back from inside a call to this folder, but for fibers that are woken. */
#ifndef SLUICE_RING_RING_H
#define SLUICE_RING_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/result.h"

struct ring;
struct ring_group;

struct ring_options {
    struct ring_group *group;      /* *keeps* until destroyed; NULL: no mailbox */
    unsigned index;                /* this worker's place in the group */
    int cpu;                       /* to be pinned to; -1: not pinned */
    uint32_t receive_buffers;      /* a power of two, up to 32,768; 0: the default */
    uint32_t receive_buffer_bytes; /* 0: the default */
    uint32_t fibers_max;           /* 0: the default */
    uint32_t streams_max;          /* 0: the default */
};

enum {
    RING_RECEIVE_BUFFERS = 1024,
    RING_RECEIVE_BUFFER_BYTES = 16384, /* 4 KB ones cost 6 % more on 64 KB bodies: bench/run --scenario proxied-64k */
    RING_FIBERS_MAX = 16384,           /* each takes two of the 65,530 mappings a process has by default */
    RING_STREAMS_MAX = 1 << 20,
};

/* Makes the ring of the calling thread, which alone may use it from now on, and pins that thread.
 * RESULT_UNREACHABLE: the kernel has no io_uring or refuses it, or is too old. RESULT_NO_MEMORY, also of what a user
 * may lock. One line in the log says which. */
MUST_USE enum result ring_create(const struct ring_options *options, struct ring **ret_ring);

/* Frees it. Nothing may be outstanding but what ring_run left behind. */
void ring_destroy(struct ring *ring);

/* Turns the loop until ring_stop; *borrows*. */
void ring_run(struct ring *ring);

/* Lets ring_run return after this turn. */
void ring_stop(struct ring *ring);

/* Any pointer the owner wants to find again from a callback. */
void ring_set_context(struct ring *ring, void *context);
void *ring_context(const struct ring *ring);
unsigned ring_index(const struct ring *ring);

/* Called around each wait, for who must know when this worker holds no reference to shared memory. */
struct ring_hooks {
    void (*on_turn)(void *context);  /* at the top of each turn: nothing of the last one is held any more */
    void (*on_sleep)(void *context); /* then, when it may wait: until on_awake nothing is looked at */
    void (*on_awake)(void *context);
    void *context;
};

/* *Copies* hooks. NULL: none. */
void ring_set_hooks(struct ring *ring, const struct ring_hooks *hooks);

/* The monotonic clock, read once a turn and after a wait. */
nanos ring_now(const struct ring *ring);

/* Seconds, and milliseconds, since 1970 (UTC), read with ring_now. */
int64_t ring_unix_s(const struct ring *ring);
int64_t ring_unix_ms(const struct ring *ring);

/* 64 bits from a generator seeded by the kernel at start: unpredictable enough for request ids and
 * jitter, not for keys. */
uint64_t ring_random(struct ring *ring);

/* Keys: bytes from the kernel. Off the hot path. */
void ring_entropy(void *out, size_t bytes);

/* ---- timers: one hierarchical wheel, 1 ms a tick ---- */

struct ring_timer {
    struct list_node node;
    nanos deadline_ns;
    void (*on_fire)(struct ring_timer *timer);
};

void ring_timer_init(struct ring_timer *timer, void (*on_fire)(struct ring_timer *timer));

/* Arms, or arms anew, the timer for a moment of ring_now's clock. *Keeps* it until it fires or is
 * cancelled. It fires at that moment or up to a tick after it, never before. NANOS_NEVER cancels. */
void ring_timer_set(struct ring *ring, struct ring_timer *timer, nanos deadline_ns);
void ring_timer_cancel(struct ring *ring, struct ring_timer *timer);
static inline bool ring_timer_is_set(const struct ring_timer *timer)
{
    return list_is_linked(&timer->node);
}

/* ---- tasks: run once, later in this turn ---- */

struct ring_task {
    struct list_node node;
    void (*on_run)(struct ring_task *task);
};

void ring_task_init(struct ring_task *task, void (*on_run)(struct ring_task *task));

/* *Keeps* the task until it runs. Deferring what is deferred already changes nothing. */
void ring_defer(struct ring *ring, struct ring_task *task);
void ring_task_cancel(struct ring_task *task);

/* ---- counters: one writer, read by anyone ---- */

struct ring_counters {
    _Atomic uint64_t turns;
    _Atomic uint64_t enters;           /* io_uring_enter calls */
    _Atomic uint64_t submissions;      /* entries submitted */
    _Atomic uint64_t completions;      /* entries reaped */
    _Atomic uint64_t buffer_shortages; /* receives that found no provided buffer */
    _Atomic uint64_t overflows;        /* completions the kernel had to set aside or drop */
    _Atomic uint64_t accepts;
    _Atomic uint64_t accept_failures;
    _Atomic uint64_t connects;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t sent_bytes;
    _Atomic uint64_t messages; /* sent to workers, this one included */
    _Atomic uint64_t wakes;    /* of them, to sleeping ones */
    _Atomic uint64_t fibers;   /* in use now */
    _Atomic uint64_t streams;  /* open now */
};

const struct ring_counters *ring_counters(const struct ring *ring);

#endif
