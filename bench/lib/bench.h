/* What every bench program needs: one ring, one pool of provided buffers, a pinned core, command-line options and
 * a way to be asked for counters while running.
 *
 * These programs are measuring instruments, not servers: they serve 127.0.0.1, they end the process when the kernel
 * refuses something, and they bound nothing but memory. One thread, one ring; every struct below belongs to it. */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "die.h"

#include <arpa/inet.h>
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BENCH_FD_MAX = 1 << 16,  /* per-descriptor tables are indexed by fd; the descriptor limit is held below this */
    BENCH_SQ_ENTRIES = 4096, /* one turn of 2,000 streams fits without an early submit */
    BENCH_CQ_ENTRIES = 16384,
    BENCH_LISTEN_BACKLOG = 4096,
};

static inline uint64_t bench_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- command line ---------------------------------------------------------------------------------------------- */

struct bench_option {
    const char *name; /* "--port" */
    const char *help;
    long *number;      /* exactly one of number and text is set */
    const char **text; /* keeps a pointer into argv */
};

/* Reads `--name value` pairs into the table, whose last row has no name. Ends the process on anything else. */
void bench_options_parse(int argc, char **argv, const struct bench_option *table);

/* Binds this thread to one core; a negative number leaves the inherited mask alone. */
void bench_pin(long cpu);

/* Takes as many descriptors as the tables have room for and the system allows. */
void bench_descriptors_raise(void);

/* ---- the ring -------------------------------------------------------------------------------------------------- */

struct bench_ring {
    struct io_uring uring;
    uint64_t enters; /* io_uring_enter calls, the figure compared per request */
};

/* user_data is a kind, a small number (buffer or slot) and a descriptor. */
static inline uint64_t bench_tag(unsigned kind, unsigned number, int fd)
{
    return (uint64_t)kind << 56 | (uint64_t)number << 32 | (uint32_t)fd;
}
static inline unsigned bench_tag_kind(uint64_t tag)
{
    return (unsigned)(tag >> 56);
}
static inline unsigned bench_tag_number(uint64_t tag)
{
    return (unsigned)(tag >> 32) & 0xffffff;
}
static inline int bench_tag_fd(uint64_t tag)
{
    return (int)(uint32_t)tag;
}

void bench_ring_init(struct bench_ring *ring);

static inline struct io_uring_sqe *bench_sqe(struct bench_ring *ring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
    while (sqe == NULL) {
        ring->enters++;
        io_uring_submit(&ring->uring);
        sqe = io_uring_get_sqe(&ring->uring);
    }
    return sqe;
}

/* Submits what was prepared and sleeps until at least one completion is there. */
static inline void bench_wait(struct bench_ring *ring)
{
    ring->enters++;
    int result = io_uring_submit_and_wait(&ring->uring, 1);
    if (result < 0 && result != -EINTR && result != -EAGAIN && result != -EBUSY)
        bench_die("io_uring_enter: %s", strerror(-result));
}

/* ---- provided buffers ------------------------------------------------------------------------------------------ */

struct bench_pool {
    struct io_uring_buf_ring *ring;
    char *memory;
    unsigned count; /* a power of two */
    unsigned size_bytes;
};

static inline char *bench_pool_buffer(const struct bench_pool *pool, unsigned id)
{
    return pool->memory + (size_t)id * pool->size_bytes;
}

/* Gives buffer `id` back to the kernel, which may fill it at the next enter. */
static inline void bench_pool_release(struct bench_pool *pool, unsigned id)
{
    io_uring_buf_ring_add(pool->ring, bench_pool_buffer(pool, id), pool->size_bytes, (unsigned short)id,
                          (int)pool->count - 1, 0);
    io_uring_buf_ring_advance(pool->ring, 1);
}

void bench_pool_init(struct bench_pool *pool, struct bench_ring *ring, unsigned count, unsigned size_bytes);

static inline unsigned bench_cqe_buffer(const struct io_uring_cqe *cqe)
{
    return cqe->flags >> IORING_CQE_BUFFER_SHIFT;
}

static inline void bench_receive_multishot(struct bench_ring *ring, int fd, uint64_t tag)
{
    struct io_uring_sqe *sqe = bench_sqe(ring);
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    io_uring_sqe_set_data64(sqe, tag);
}

/* ---- sockets --------------------------------------------------------------------------------------------------- */

static inline struct sockaddr_in bench_loopback(long port)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
}

int bench_socket_of(int family);

static inline int bench_socket(void)
{
    return bench_socket_of(AF_INET);
}

/* Accepted sockets inherit TCP_NODELAY from the listener, which saves a call for each. */
int bench_listen(long port);

static inline void bench_accept_multishot(struct bench_ring *ring, int listener, uint64_t tag)
{
    struct io_uring_sqe *sqe = bench_sqe(ring);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data64(sqe, tag);
}

/* ---- signals --------------------------------------------------------------------------------------------------- */

/* SIGUSR1 asks for a line of counters, SIGTERM and SIGINT for the same and the end. They come through the ring as a
 * readable descriptor, so that no handler and no mutable global is needed. Gives the signalfd. */
int bench_signals(struct bench_ring *ring, uint64_t tag);

/* Reads what arrived; true when the program was asked to end. */
bool bench_signals_read(int fd);

/* Answers a signal with one JSON line on stdout: {"enters":…,"NAME":…}. Ends the process if it was told to. */
void bench_report(struct bench_ring *ring, int signals, const char *name, uint64_t count);

#endif
