#include "peer.h"

#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"

static struct peer *peer_of(struct ring_stream *stream)
{
    return CONTAINER_OF(stream, struct peer, stream);
}

static void on_received(struct ring_stream *stream, const char *data, size_t bytes)
{
    struct peer *peer = peer_of(stream);
    size_t room = peer->used < sizeof(peer->got) ? sizeof(peer->got) - peer->used : 0;
    char *at = peer->got + (room == 0 ? 0 : peer->used);
    memcpy(at, data, bytes < room ? bytes : room);
    peer->last_at = data;
    peer->used += (unsigned)bytes;
    peer->received_calls++;
    if (peer->into_again != NULL && !stream->receive_armed) {
        ring_stream_receive_into(stream, peer->into_again, 8);
    }
    if (peer->echoes && !stream->send_armed) {
        unsigned from = peer->sent_bytes % sizeof(peer->got);
        ring_stream_send(stream, &(struct iovec){peer->got + from, peer->used - peer->sent_bytes}, 1);
    }
}

static void on_receive_ended(struct ring_stream *stream, enum result why)
{
    peer_of(stream)->why = why;
    peer_of(stream)->is_ended = true;
}

static void on_sent(struct ring_stream *stream, enum result result, size_t bytes)
{
    struct peer *peer = peer_of(stream);
    peer->sent_calls++;
    peer->sent_result = result;
    peer->sent_bytes += (unsigned)bytes;
    if (peer->echoes && peer->sent_bytes < peer->used) {
        ring_stream_send(stream, &(struct iovec){peer->got + peer->sent_bytes, peer->used - peer->sent_bytes}, 1);
    }
}

static void on_connected(struct ring_stream *stream, enum result result)
{
    peer_of(stream)->connect_result = result;
    peer_of(stream)->is_connected = true;
}

static void on_hung_up(struct ring_stream *stream, bool is_broken)
{
    peer_of(stream)->is_broken = is_broken;
    peer_of(stream)->is_hung_up = true;
}

static void on_closed(struct ring_stream *stream)
{
    struct peer *peer = peer_of(stream);
    cr_assert_not(peer->is_closed, "told once");
    peer->is_closed = true;
    if (peer->stops_loop_when_closed) {
        ring_stop(stream->ring);
    }
}

const struct ring_stream_events peer_events = {
    .received = on_received,
    .receive_ended = on_receive_ended,
    .sent = on_sent,
    .connected = on_connected,
    .hung_up = on_hung_up,
    .closed = on_closed,
};

static int adopt(struct peer *peer, struct ring *ring, int buffer_bytes)
{
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    int raw = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof(address);
    if (buffer_bytes > 0) {
        setsockopt(raw, SOL_SOCKET, SO_RCVBUF, &buffer_bytes, sizeof(buffer_bytes));
        setsockopt(listener, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof(buffer_bytes));
    }
    cr_assert_eq(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    cr_assert_eq(listen(listener, 1), 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&address, &bytes), 0);
    cr_assert_eq(connect(raw, (struct sockaddr *)&address, sizeof(address)), 0);
    int fd = accept(listener, NULL, NULL);
    cr_assert_geq(fd, 0);
    close(listener);
    memset(peer, 0, sizeof(*peer));
    cr_assert_eq(ring_stream_adopt(ring, &peer->stream, &peer_events, fd), RESULT_OK);
    return raw;
}

int peer_adopt(struct peer *peer, struct ring *ring)
{
    return adopt(peer, ring, 0);
}

int peer_adopt_small(struct peer *peer, struct ring *ring)
{
    return adopt(peer, ring, 16384);
}

void peer_close(struct peer *peer)
{
    ring_stream_close(&peer->stream);
    cr_assert(loop_until_true(peer->stream.ring, &peer->is_closed));
}

void peer_reset(int fd)
{
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    close(fd);
}

bool peer_read_all(int fd, char *into, size_t bytes)
{
    while (bytes > 0) {
        ssize_t got = read(fd, into, bytes);
        if (got <= 0) {
            return false;
        }
        into += got;
        bytes -= (size_t)got;
    }
    return true;
}

bool peer_never(void *context)
{
    (void)context;
    return false;
}
