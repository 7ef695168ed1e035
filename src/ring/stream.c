/* Streams: arming, completions, and the way they end.
 *
 * A stream holds its slot until `outstanding` (armed operations that still owe a last completion) is
 * zero. Closing cancels them all by descriptor; the last completion puts the stream on the ring's closing
 * list, whose streams are finished at the end of the turn, so that `closed` never comes out of a call. */
#include "ring/stream.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "ring/internal.h"

static struct io_uring_sqe *stream_sqe(struct ring_stream *stream, enum ring_kind kind)
{
    struct ring *ring = stream->ring;
    struct io_uring_sqe *sqe = ring_sqe(ring);
    /* The prep functions leave user_data alone since liburing 2.2. */
    io_uring_sqe_set_data64(sqe, ring_user_data(kind, ring->slots[stream->slot].generation, stream->slot));
    return sqe;
}

/* ---- opening ---- */

static enum result stream_open(struct ring *ring, struct ring_stream *stream, const struct ring_stream_events *events,
                               int fd)
{
    memset(stream, 0, sizeof(*stream));
    stream->ring = ring;
    stream->events = events;
    stream->fd = fd;
    list_init(&stream->starved);
    list_init(&stream->sending);
    if (!ring_slot_take(ring, stream, &stream->slot)) {
        close(fd);
        return RESULT_LIMIT;
    }
    stream->is_open = true;
    return RESULT_OK;
}

enum result ring_stream_adopt(struct ring *ring, struct ring_stream *stream, const struct ring_stream_events *events,
                              int fd)
{
    return stream_open(ring, stream, events, fd);
}

enum result ring_stream_connect(struct ring *ring, struct ring_stream *stream, const struct ring_stream_events *events,
                                const struct ring_address *address)
{
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return ring_result_from(-errno);
    }
    socket_tune(fd, address);
    enum result result = stream_open(ring, stream, events, fd);
    if (result != RESULT_OK) {
        return result;
    }
    struct ring_address *kept = ring_scratch(ring, sizeof(*kept));
    *kept = *address;
    struct io_uring_sqe *sqe = stream_sqe(stream, RING_KIND_CONNECT);
    io_uring_prep_connect(sqe, fd, &kept->any, kept->bytes);
    stream->outstanding++;
    counter_add(&ring->counters.connects, 1);
    return RESULT_OK;
}

/* ---- receiving ---- */

static void stream_arm_multishot(struct ring_stream *stream)
{
    struct io_uring_sqe *sqe = stream_sqe(stream, RING_KIND_RECEIVE);
    io_uring_prep_recv_multishot(sqe, stream->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    stream->outstanding++;
}

void ring_stream_receive(struct ring_stream *stream)
{
    CHECK(!stream->receive_armed && !stream->is_closing);
    stream->receive_armed = true;
    stream->receive_multishot = true;
    stream_arm_multishot(stream);
}

void ring_stream_receive_into(struct ring_stream *stream, char *into, size_t bytes_max)
{
    CHECK(!stream->receive_armed && !stream->is_closing);
    stream->receive_armed = true;
    stream->receive_multishot = false;
    stream->receive_into = into;
    struct io_uring_sqe *sqe = stream_sqe(stream, RING_KIND_RECEIVE);
    io_uring_prep_recv(sqe, stream->fd, into, bytes_max, 0);
    stream->outstanding++;
}

void ring_stream_receive_stop(struct ring_stream *stream)
{
    if (!stream->receive_armed || stream->receive_stopping || stream->is_closing) {
        return;
    }
    stream->receive_stopping = true;
    if (list_is_linked(&stream->starved)) {
        return; /* not in the kernel: stream_feed_starved tells the end */
    }
    struct io_uring_sqe *sqe = ring_sqe(stream->ring);
    io_uring_prep_cancel64(
        sqe, ring_user_data(RING_KIND_RECEIVE, stream->ring->slots[stream->slot].generation, stream->slot), 0);
    io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_IGNORE, 0, 0));
}

void ring_stream_watch_hangup(struct ring_stream *stream)
{
    if (stream->hangup_armed || stream->is_closing) {
        return;
    }
    stream->hangup_armed = true;
    struct io_uring_sqe *sqe = stream_sqe(stream, RING_KIND_HANGUP);
    io_uring_prep_poll_add(sqe, stream->fd, POLLRDHUP | POLLHUP | POLLERR);
    stream->outstanding++;
}

void stream_feed_starved(struct ring *ring)
{
    if (LIKELY(list_is_empty(&ring->starved))) {
        return;
    }
    /* Every buffer that was lent in this turn is back by now. */
    list_push_back(&ring->starved, &ring->mark);
    struct list_node *node;
    while ((node = list_pop_front(&ring->starved)) != &ring->mark) {
        struct ring_stream *stream = CONTAINER_OF(node, struct ring_stream, starved);
        if (stream->receive_stopping) {
            stream->receive_stopping = false;
            stream->receive_armed = false;
            stream->events->receive_ended(stream, RESULT_CANCELED);
        } else {
            stream_arm_multishot(stream);
        }
    }
}

/* The armed receive owes nothing more: what is next? */
static void stream_receive_over(struct ring_stream *stream, int32_t res)
{
    bool was_stopping = stream->receive_stopping;
    if (res == -ENOBUFS && !was_stopping) {
        counter_add(&stream->ring->counters.buffer_shortages, 1);
        list_push_back(&stream->ring->starved, &stream->starved);
        return;
    }
    if (res > 0 && stream->receive_multishot && !was_stopping) {
        stream_arm_multishot(stream); /* ended without a reason of its own: armed anew */
        return;
    }
    stream->receive_armed = false;
    stream->receive_stopping = false;
    enum result why = RESULT_CANCELED;
    if (res == 0) {
        why = RESULT_CLOSED;
    } else if (res < 0 && res != -ECANCELED && res != -ENOBUFS) {
        why = ring_result_from(res);
    }
    stream->events->receive_ended(stream, why);
}

static void stream_on_receive(struct ring *ring, struct ring_stream *stream, int32_t res, uint32_t flags)
{
    bool over = (flags & IORING_CQE_F_MORE) == 0;
    bool is_provided = (flags & IORING_CQE_F_BUFFER) != 0;
    uint16_t id = (uint16_t)(flags >> IORING_CQE_BUFFER_SHIFT);
    bool is_told_single = over && res > 0 && !stream->receive_multishot;
    bool was_stopping = stream->receive_stopping;
    if (over) {
        stream->outstanding--;
    }
    if (is_told_single) {
        /* `received` may arm the next one. */
        stream->receive_armed = false;
        stream->receive_stopping = false;
    }
    if (res > 0 && !stream->is_closing) {
        counter_add(&ring->counters.received_bytes, (uint64_t)res);
        stream->events->received(stream, is_provided ? buffers_at(ring, id) : stream->receive_into, (size_t)res);
    }
    if (is_provided) {
        buffers_return(ring, id);
    }
    if (!over || stream->is_closing) {
        return;
    }
    if (!is_told_single) {
        stream_receive_over(stream, res);
    } else if (was_stopping && !stream->receive_armed) {
        stream->events->receive_ended(stream, RESULT_CANCELED);
    }
}

/* ---- sending ---- */

static void stream_send(struct ring_stream *stream, const struct iovec *iov, unsigned iov_count, bool lazily)
{
    CHECK(!stream->send_armed && !stream->is_closing && iov_count > 0 && iov_count <= RING_IOV_MAX);
    struct ring *ring = stream->ring;
    unsigned flags = MSG_NOSIGNAL | MSG_WAITALL | (lazily ? MSG_DONTWAIT : 0U);
    stream->send_armed = true;
    stream->outstanding++;
    struct io_uring_sqe *sqe;
    if (iov_count == 1) {
        sqe = stream_sqe(stream, RING_KIND_SEND);
        io_uring_prep_send(sqe, stream->fd, iov->iov_base, iov->iov_len, (int)flags);
        stream->send_bytes = iov->iov_len;
    } else {
        struct msghdr *message = ring_scratch(ring, sizeof(*message) + iov_count * sizeof(*iov));
        struct iovec *kept = (struct iovec *)(message + 1);
        stream->send_bytes = 0;
        for (unsigned i = 0; i < iov_count; i++) {
            kept[i] = iov[i];
            stream->send_bytes += iov[i].iov_len;
        }
        *message = (struct msghdr){.msg_iov = kept, .msg_iovlen = iov_count};
        sqe = stream_sqe(stream, RING_KIND_SEND);
        io_uring_prep_sendmsg(sqe, stream->fd, message, flags);
    }
    if (lazily) {
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        list_push_back(&ring->lazy_queued, &stream->sending);
    }
}

void ring_stream_send(struct ring_stream *stream, const struct iovec *iov, unsigned iov_count)
{
    stream_send(stream, iov, iov_count, false);
}

/* MSG_DONTWAIT: the kernel does it while it is submitted, or fails. With MSG_WAITALL a short send is a failure, too,
 * and only failures complete (IOSQE_CQE_SKIP_SUCCESS). So when the submission has returned, a lazy send without a
 * completion is done. What fell short goes on as an ordinary send, which waits for room in the kernel. */
void ring_stream_send_lazily(struct ring_stream *stream, const struct iovec *iov, unsigned iov_count)
{
    bool lazily = !stream->send_blocked;
    stream->send_blocked = false;
    stream_send(stream, iov, iov_count, lazily);
}

void ring_stream_hurry(struct ring_stream *stream)
{
    if (list_is_linked(&stream->sending)) {
        stream->ring->is_hurried = true;
    }
}

void stream_settle_sends(struct ring *ring)
{
    struct list_node *node;
    while ((node = list_pop_front(&ring->lazy_submitted)) != NULL) {
        struct ring_stream *stream = CONTAINER_OF(node, struct ring_stream, sending);
        stream_on_completion(ring, stream, RING_KIND_SEND, (int32_t)stream->send_bytes, 0);
    }
}

/* ---- ending ---- */

void ring_stream_shutdown(struct ring_stream *stream)
{
    /* The ring's own operation would be punted to a kernel thread; the call does not block. */
    if (!stream->is_closing) {
        shutdown(stream->fd, SHUT_WR);
    }
}

void ring_stream_close(struct ring_stream *stream)
{
    CHECK(stream->is_open);
    if (stream->is_closing) {
        return;
    }
    struct ring *ring = stream->ring;
    stream->is_closing = true;
    list_remove(&stream->starved);
    if (stream->outstanding == 0) {
        list_push_back(&ring->closing, &stream->starved);
        return;
    }
    struct io_uring_sqe *sqe = ring_sqe(ring);
    io_uring_prep_cancel_fd(sqe, stream->fd, IORING_ASYNC_CANCEL_ALL);
    io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_IGNORE, 0, 0));
}

void ring_stream_reset(struct ring_stream *stream)
{
    if (stream->is_open && !stream->is_closing) {
        struct linger abort_now = {.l_onoff = 1, .l_linger = 0};
        setsockopt(stream->fd, SOL_SOCKET, SO_LINGER, &abort_now, sizeof(abort_now));
        ring_stream_close(stream);
    }
}

void stream_finish_closing(struct ring *ring)
{
    struct list_node *node;
    while ((node = list_pop_front(&ring->closing)) != NULL) {
        struct ring_stream *stream = CONTAINER_OF(node, struct ring_stream, starved);
        struct io_uring_sqe *sqe = ring_sqe(ring);
        io_uring_prep_close(sqe, stream->fd);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_IGNORE, 0, 0));
        ring_slot_free(ring, stream->slot);
        stream->is_open = false;
        stream->events->closed(stream);
    }
}

struct ring_address ring_stream_peer(const struct ring_stream *stream)
{
    struct ring_address address;
    memset(&address, 0, sizeof(address));
    address.bytes = sizeof(address) - sizeof(address.bytes);
    if (getpeername(stream->fd, &address.any, &address.bytes) != 0) {
        address.bytes = 0;
    }
    return address;
}

void stream_on_completion(struct ring *ring, struct ring_stream *stream, enum ring_kind kind, int32_t res,
                          uint32_t flags)
{
    switch (kind) {
    case RING_KIND_RECEIVE: stream_on_receive(ring, stream, res, flags); break;
    case RING_KIND_SEND:
        stream->outstanding--;
        stream->send_armed = false;
        if (list_is_linked(&stream->sending)) { /* a lazy one that failed: for want of room, most likely */
            list_remove(&stream->sending);
            stream->send_blocked = true;
            res = res == -EAGAIN ? 0 : res;
        }
        if (!stream->is_closing) {
            if (res >= 0) {
                counter_add(&ring->counters.sent_bytes, (uint64_t)res);
            }
            stream->events->sent(stream, res < 0 ? ring_result_from(res) : RESULT_OK, res < 0 ? 0 : (size_t)res);
        }
        break;
    case RING_KIND_CONNECT:
        stream->outstanding--;
        if (!stream->is_closing) {
            stream->events->connected(stream, ring_result_from(res));
        }
        break;
    case RING_KIND_HANGUP:
        stream->outstanding--;
        stream->hangup_armed = false;
        if (!stream->is_closing && res != -ECANCELED && stream->events->hung_up != NULL) {
            stream->events->hung_up(stream, res < 0 || (res & (POLLHUP | POLLERR)) != 0);
        }
        break;
    default: CHECK(false);
    }
    if (stream->is_closing && stream->outstanding == 0 && !list_is_linked(&stream->starved)) {
        list_push_back(&ring->closing, &stream->starved);
    }
}
