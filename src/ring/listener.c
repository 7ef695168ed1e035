/* Listening sockets: opening them anywhere, accepting on a ring. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/check.h"
#include "base/log.h"
#include "ring/internal.h"

enum {
    LISTEN_BACKLOG = 65535, /* cut to net.core.somaxconn by the kernel */
    ACCEPT_RETRY_MS = 100,
    SHARE_SLACK = 4, /* connections that one may be ahead */
    SHARE_YIELD_MS = 1,
    PROBE_RETRY_MS = 20,
    PROBE_RETRIES = 10,
};

static bool is_unix(const struct ring_address *address)
{
    return address->any.sa_family == AF_UNIX;
}

/* A socket file that nobody listens on any more is what a crash leaves behind. */
static void remove_stale_unix(const struct ring_address *address)
{
    struct stat info;
    if (stat(address->un.sun_path, &info) != 0 || !S_ISSOCK(info.st_mode)) {
        return;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return;
    }
    if (connect(fd, &address->any, address->bytes) != 0 && errno == ECONNREFUSED) {
        unlink(address->un.sun_path);
    }
    close(fd);
}

enum result ring_listen_open(const struct ring_address *address, bool share, int *ret_fd)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ring_result_from(-errno);
    }
    int on = 1;
    if (is_unix(address)) {
        remove_stale_unix(address);
    } else {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (share) {
            setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
        }
        socket_tune(fd, address);
        if (address->any.sa_family == AF_INET6) {
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        }
    }
    if (bind(fd, &address->any, address->bytes) != 0 || listen(fd, LISTEN_BACKLOG) != 0) {
        int error = errno;
        close(fd);
        return error == EADDRINUSE ? RESULT_REFUSED : ring_result_from(-error);
    }
    *ret_fd = fd;
    return RESULT_OK;
}

enum result ring_listen_share(int fd, int *ret_fd)
{
    int other = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (other < 0) {
        return ring_result_from(-errno);
    }
    *ret_fd = other;
    return RESULT_OK;
}

enum result ring_listen_probe(const struct ring_address *address)
{
    int fd = -1;
    enum result result = ring_listen_open(address, false, &fd);
    /* A process that was killed lets go of the sockets its io_uring works on some milliseconds after it has gone (6
     * were measured): its successor waits for them. */
    for (int i = 0; i < PROBE_RETRIES && result == RESULT_REFUSED; i++) {
        nanosleep(&(struct timespec){.tv_nsec = PROBE_RETRY_MS * 1000 * 1000}, NULL);
        result = ring_listen_open(address, false, &fd);
    }
    if (result == RESULT_OK) {
        close(fd);
        if (is_unix(address)) {
            unlink(address->un.sun_path);
        }
    }
    return result;
}

void ring_listen_remove(const struct ring_address *address)
{
    if (is_unix(address)) {
        unlink(address->un.sun_path);
    }
}

struct ring_address ring_listen_address(int fd)
{
    struct ring_address address;
    memset(&address, 0, sizeof(address));
    address.bytes = sizeof(address) - sizeof(address.bytes);
    if (getsockname(fd, &address.any, &address.bytes) != 0) {
        address.bytes = 0;
    }
    return address;
}

void ring_refuse(int fd)
{
    close(fd);
}

/* ---- accepting ---- */

static void listener_arm(struct ring_listener *listener)
{
    struct ring *ring = listener->ring;
    struct io_uring_sqe *sqe = ring_sqe(ring);
    if (listener->share != NULL) {
        /* Whoever waits first is woken: one that waits anew goes to the end of the line, a multishot stays at its head
         * and gets nearly everything. */
        atomic_fetch_add_explicit(&listener->share->waiting, 1, memory_order_relaxed);
        io_uring_prep_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    } else {
        io_uring_prep_multishot_accept(sqe, listener->fd, NULL, NULL, SOCK_CLOEXEC);
    }
    io_uring_sqe_set_data64(sqe,
                            ring_user_data(RING_KIND_ACCEPT, ring->slots[listener->slot].generation, listener->slot));
    listener->armed = true;
}

static void listener_finish(struct ring_listener *listener);

static void listener_on_retry(struct ring_timer *timer)
{
    struct ring_listener *listener = CONTAINER_OF(timer, struct ring_listener, retry);
    if (listener->stopping) {
        listener_finish(listener);
    } else if (!listener->armed && !listener->held) {
        listener_arm(listener);
    }
}

void ring_listener_start(struct ring *ring, struct ring_listener *listener, int fd,
                         void (*accepted)(struct ring_listener *listener, int fd))
{
    listener->ring = ring;
    listener->accepted = accepted;
    listener->fd = fd;
    listener->stopping = false;
    listener->paused = false;
    listener->held = false;
    ring_timer_init(&listener->retry, listener_on_retry);
    bool taken = ring_slot_take(ring, listener, &listener->slot);
    CHECK(taken); /* listeners come before any stream */
    listener_arm(listener);
}

/* Connections whose handshake is done belong to clients that were told they are accepted. On a lasting socket they are
 * the next process's; and its flags are not ours to set. */
static void listener_finish(struct ring_listener *listener)
{
    if (!listener->is_lasting) {
        fcntl(listener->fd, F_SETFL, O_NONBLOCK);
    }
    while (!listener->is_lasting) {
        int fd = accept4(listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            break;
        }
        counter_add(&listener->ring->counters.accepts, 1);
        listener->accepted(listener, fd);
    }
    close(listener->fd);
    listener->fd = -1;
    ring_slot_free(listener->ring, listener->slot);
    if (listener->stopped != NULL) {
        listener->stopped(listener);
    }
}

static void listener_cancel(struct ring_listener *listener)
{
    struct ring *ring = listener->ring;
    struct io_uring_sqe *sqe = ring_sqe(ring);
    io_uring_prep_cancel64(sqe,
                           ring_user_data(RING_KIND_ACCEPT, ring->slots[listener->slot].generation, listener->slot), 0);
    io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_IGNORE, 0, 0));
}

void ring_listener_hold(struct ring_listener *listener)
{
    if (listener->held || listener->stopping || listener->fd < 0) {
        return;
    }
    listener->held = true;
    if (listener->armed) {
        listener_cancel(listener);
    }
}

void ring_listener_go_on(struct ring_listener *listener)
{
    if (!listener->held || listener->stopping || listener->fd < 0) {
        return;
    }
    listener->held = false;
    /* Still armed: its end, on the way, arms it anew. A retry that is set does so in its time. */
    if (!listener->armed && !ring_timer_is_set(&listener->retry)) {
        listener_arm(listener);
    }
}

void ring_listener_stop(struct ring_listener *listener)
{
    if (listener->stopping || listener->fd < 0) {
        return;
    }
    listener->stopping = true;
    struct ring *ring = listener->ring;
    if (!listener->armed) {
        ring_timer_set(ring, &listener->retry, ring_now(ring)); /* paused: the end is told from the loop all the same */
        return;
    }
    listener_cancel(listener);
}

/* Counts what this worker's accept on a shared socket has ended with. True: it is ahead, and others wait, so that the
 * next connection is theirs. Who is awake would else take all of a burst, before those that it woke have got to run.
 * The counts are hints; not all can be ahead, so that somebody always takes the next at once. */
static bool share_is_ahead(struct ring_listener *listener, bool has_accepted)
{
    struct ring_listener_share *share = listener->share;
    unsigned waiting = atomic_fetch_sub_explicit(&share->waiting, 1, memory_order_relaxed) - 1;
    if (!has_accepted) {
        return false;
    }
    uint64_t all = atomic_fetch_add_explicit(&share->accepted, 1, memory_order_relaxed) + 1;
    listener->share_accepted++;
    return waiting > 0 && listener->share_accepted > all / share->workers + SHARE_SLACK;
}

void listener_on_completion(struct ring *ring, struct ring_listener *listener, int32_t res, uint32_t flags)
{
    if (res >= 0) {
        counter_add(&ring->counters.accepts, 1);
        if (listener->paused) {
            listener->paused = false;
            log_info("accepting again");
        }
        listener->accepted(listener, res);
    }
    if (flags & IORING_CQE_F_MORE) {
        return;
    }
    listener->armed = false;
    bool is_ahead = listener->share != NULL && share_is_ahead(listener, res >= 0);
    if (listener->stopping) {
        listener_finish(listener);
        return;
    }
    if (listener->held) {
        return; /* ring_listener_go_on arms it */
    }
    if (is_ahead) {
        ring_timer_set(ring, &listener->retry, ring_now(ring) + SHARE_YIELD_MS * NANOS_PER_MS);
        return;
    }
    if (res >= 0 || res == -ECONNABORTED || res == -EPROTO || res == -ECANCELED) {
        listener_arm(listener);
        return;
    }
    counter_add(&ring->counters.accept_failures, 1);
    if (!listener->paused) {
        listener->paused = true;
        log_error("cannot accept: %s; paused, trying again every %d ms%s", strerror(-res), ACCEPT_RETRY_MS,
                  res == -EMFILE || res == -ENFILE ? "; raise the limit on open files (ulimit -n)" : "");
    }
    ring_timer_set(ring, &listener->retry, ring_now(ring) + ACCEPT_RETRY_MS * NANOS_PER_MS);
}
