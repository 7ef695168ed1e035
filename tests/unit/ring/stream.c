/* Streams against raw sockets and against each other. */
#include "ring/stream.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"
#include "peer.h"
#include "ring/internal.h"

static struct ring *ring;

static void setup(void)
{
    ring = loop_create(NULL);
}

static void teardown(void)
{
    ring_destroy(ring);
}

TestSuite(stream, .init = setup, .fini = teardown);

Test(stream, what_is_sent_is_echoed_byte_for_byte)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    peer.echoes = true;
    ring_stream_receive(&peer.stream);
    for (size_t round = 1; round < 30000; round = round * 3 + 1) {
        char out[30000];
        char in[30000];
        for (size_t i = 0; i < round; i++) {
            out[i] = (char)(i * round);
        }
        cr_assert_eq(write(raw, out, round), (ssize_t)round);
        cr_assert(loop_until_count(ring, &peer.sent_bytes, peer.sent_bytes + (unsigned)round));
        cr_assert(peer_read_all(raw, in, round));
        cr_assert_eq(memcmp(in, out, round), 0);
    }
    cr_assert_gt(peer.received_calls, 8, "longer than a buffer: several times from one armed receive");
    peer_close(&peer);
    close(raw);
}

Test(stream, an_orderly_end_comes_after_the_last_bytes)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    ring_stream_receive(&peer.stream);
    cr_assert_eq(write(raw, "last", 4), 4);
    close(raw);
    cr_assert(loop_until_true(ring, &peer.is_ended));
    cr_assert_eq(peer.why, RESULT_CLOSED);
    cr_assert_eq(peer.used, 4);
    peer_close(&peer);
}

Test(stream, receiving_stops_and_goes_on_without_losing_a_byte)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    ring_stream_receive(&peer.stream);
    char next = 0;
    for (int round = 0; round < 50; round++) {
        char run[100];
        for (size_t i = 0; i < sizeof(run); i++) {
            run[i] = next++;
        }
        peer.is_ended = false;
        if (round % 2 == 0) {
            cr_assert_eq(write(raw, run, sizeof(run)), sizeof(run));
        }
        ring_stream_receive_stop(&peer.stream);
        ring_stream_receive_stop(&peer.stream);
        if (round % 2 == 1) {
            cr_assert_eq(write(raw, run, sizeof(run)), sizeof(run));
        }
        cr_assert(loop_until_true(ring, &peer.is_ended));
        cr_assert_eq(peer.why, RESULT_CANCELED);
        size_t before = peer.used;
        loop_for_ms(ring, 2);
        cr_assert_eq(peer.used, before, "nothing comes while it is stopped");
        ring_stream_receive(&peer.stream);
    }
    cr_assert(loop_until_count(ring, &peer.used, 5000));
    for (unsigned i = 0; i < 5000; i++) {
        cr_assert_eq(peer.got[i], (char)i);
    }
    peer_close(&peer);
    close(raw);
}

Test(stream, a_single_receive_takes_no_more_than_asked_and_only_once)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    char into[8];
    ring_stream_receive_into(&peer.stream, into, sizeof(into));
    cr_assert_eq(write(raw, "0123456789", 10), 10);
    cr_assert(loop_until_count(ring, &peer.received_calls, 1));
    loop_for_ms(ring, 3);
    cr_assert_eq(peer.received_calls, 1);
    cr_assert_eq(memcmp(into, "01234567", 8), 0);
    cr_assert_eq(peer.last_at, into);
    ring_stream_receive(&peer.stream);
    cr_assert(loop_until_count(ring, &peer.used, 10));
    cr_assert_eq(memcmp(peer.got, "0123456789", 10), 0);
    peer_close(&peer);
    close(raw);
}

Test(stream, a_single_receive_can_be_stopped)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    char into[8];
    ring_stream_receive_into(&peer.stream, into, sizeof(into));
    loop_for_ms(ring, 1);
    ring_stream_receive_stop(&peer.stream);
    cr_assert(loop_until_true(ring, &peer.is_ended));
    cr_assert_eq(peer.why, RESULT_CANCELED);
    cr_assert_eq(peer.used, 0);
    peer_close(&peer);
    close(raw);
}

Test(stream, a_single_receive_armed_anew_from_received_outlives_an_older_stop)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    char into[8];
    peer.into_again = into;
    ring_stream_receive_into(&peer.stream, into, sizeof(into));
    cr_assert_eq(write(raw, "01234567", 8), 8);
    ring_stream_receive_stop(&peer.stream); /* in the same submission: the bytes are first */
    cr_assert(loop_until_count(ring, &peer.used, 8));
    loop_for_ms(ring, 3);
    cr_assert_not(peer.is_ended, "what is armed has not ended");
    cr_assert_eq(write(raw, "89", 2), 2);
    cr_assert(loop_until_count(ring, &peer.used, 10));
    peer_close(&peer);
    close(raw);
}

Test(stream, all_of_a_long_send_arrives_through_a_small_socket_buffer)
{
    struct peer peer;
    int raw = peer_adopt_small(&peer, ring);
    static char out[4 << 20];
    static char in[4 << 20];
    for (size_t i = 0; i < sizeof(out); i++) {
        out[i] = (char)(i ^ i >> 11);
    }
    struct iovec iov[RING_IOV_MAX];
    for (size_t i = 0; i < RING_IOV_MAX; i++) {
        iov[i] = (struct iovec){out + i * (sizeof(out) / RING_IOV_MAX), sizeof(out) / RING_IOV_MAX};
    }
    ring_stream_send(&peer.stream, iov, RING_IOV_MAX);
    size_t got = 0;
    while (got < sizeof(in)) {
        loop_for_ms(ring, 1);
        ssize_t part = recv(raw, in + got, sizeof(in) - got, MSG_DONTWAIT);
        got += part > 0 ? (size_t)part : 0;
        if (!peer.stream.send_armed && peer.sent_bytes < sizeof(out)) {
            struct iovec rest = {out + peer.sent_bytes, sizeof(out) - peer.sent_bytes}; /* a short send */
            ring_stream_send(&peer.stream, &rest, 1);
        }
    }
    cr_assert(loop_until_count(ring, &peer.sent_bytes, sizeof(out)));
    cr_assert_eq(memcmp(in, out, sizeof(out)), 0);
    peer_close(&peer);
    close(raw);
}

Test(stream, close_lets_go_of_everything_outstanding)
{
    unsigned before = loop_open_descriptors();
    struct peer peer;
    int raw = peer_adopt_small(&peer, ring);
    static char out[4 << 20];
    ring_stream_receive(&peer.stream);
    ring_stream_watch_hangup(&peer.stream);
    ring_stream_watch_hangup(&peer.stream);
    ring_stream_send(&peer.stream, &(struct iovec){out, sizeof(out)}, 1);
    loop_for_ms(ring, 3);
    cr_assert_eq(peer.stream.outstanding, 3);
    peer.used = 0;
    cr_assert_gt(write(raw, "late", 4), 0);
    ring_stream_close(&peer.stream);
    ring_stream_close(&peer.stream);
    cr_assert_not(peer.is_closed, "never from inside the call");
    cr_assert(loop_until_true(ring, &peer.is_closed));
    cr_assert_eq(peer.used + peer.sent_calls + peer.is_ended + peer.is_hung_up, 0, "no event after close");
    close(raw);
    loop_for_ms(ring, 2);
    cr_assert_eq(loop_open_descriptors(), before);
    cr_assert_eq(ring_counters(ring)->streams, 0);
}

Test(stream, a_close_in_the_last_turn_still_happens)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    peer.stops_loop_when_closed = true;
    ring_stream_close(&peer.stream);
    cr_assert(!loop_until(ring, peer_never, NULL) && peer.is_closed);
    struct pollfd poll_fd = {.fd = raw, .events = POLLIN};
    cr_assert_eq(poll(&poll_fd, 1, 5000), 1, "the other side sees the end");
    close(raw);
}

Test(stream, a_reset_is_seen_as_one_and_a_close_as_an_end)
{
    for (int with_reset = 0; with_reset < 2; with_reset++) {
        struct peer peer;
        int raw = peer_adopt(&peer, ring);
        ring_stream_receive(&peer.stream);
        loop_for_ms(ring, 1);
        if (with_reset) {
            ring_stream_reset(&peer.stream);
        } else {
            ring_stream_close(&peer.stream);
        }
        cr_assert(loop_until_true(ring, &peer.is_closed));
        loop_for_ms(ring, 2);
        char byte;
        ssize_t got = read(raw, &byte, 1);
        cr_assert_eq(got, with_reset ? -1 : 0);
        cr_assert(!with_reset || errno == ECONNRESET);
        close(raw);
    }
}

Test(stream, a_reset_by_the_peer_is_told)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    ring_stream_receive(&peer.stream);
    loop_for_ms(ring, 1);
    peer_reset(raw);
    cr_assert(loop_until_true(ring, &peer.is_ended));
    cr_assert_eq(peer.why, RESULT_RESET);
    ring_stream_send(&peer.stream, &(struct iovec){"x", 1}, 1);
    cr_assert(loop_until_count(ring, &peer.sent_calls, 1));
    cr_assert_neq(peer.sent_result, RESULT_OK);
    peer_close(&peer);
}

Test(stream, the_hang_up_watch_tells_a_half_close_from_a_reset)
{
    for (int with_reset = 0; with_reset < 2; with_reset++) {
        struct peer peer;
        int raw = peer_adopt(&peer, ring);
        cr_assert_eq(write(raw, "unread", 6), 6);
        ring_stream_watch_hangup(&peer.stream);
        loop_for_ms(ring, 3);
        cr_assert_not(peer.is_hung_up, "bytes are no departure");
        if (with_reset) {
            peer_reset(raw);
        } else {
            shutdown(raw, SHUT_WR);
        }
        cr_assert(loop_until_true(ring, &peer.is_hung_up));
        cr_assert_eq(peer.is_broken, with_reset);
        if (!with_reset) {
            ring_stream_receive(&peer.stream);
            cr_assert(loop_until_true(ring, &peer.is_ended));
            cr_assert_eq(peer.used, 6, "what stood before the end is still there");
            close(raw);
        }
        peer_close(&peer);
    }
}

Test(stream, a_shutdown_sends_the_end_and_receiving_goes_on)
{
    struct peer peer;
    int raw = peer_adopt(&peer, ring);
    ring_stream_receive(&peer.stream);
    ring_stream_shutdown(&peer.stream);
    char byte;
    cr_assert_eq(read(raw, &byte, 1), 0);
    cr_assert_eq(write(raw, "more", 4), 4);
    cr_assert(loop_until_count(ring, &peer.used, 4));
    peer_close(&peer);
    close(raw);
}

Test(stream, memory_of_a_submission_outlasts_an_early_submit)
{
    /* The submission queue is full: the first send has to submit before it can be queued, and the memory its vectors
     * stand in must not be given to the second one. */
    struct peer peers[2];
    int raws[2] = {peer_adopt(&peers[0], ring), peer_adopt(&peers[1], ring)};
    while (io_uring_sq_space_left(&ring->uring) > 0) {
        struct io_uring_sqe *sqe = ring_sqe(ring);
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, ring_user_data(RING_KIND_IGNORE, 0, 0));
    }
    ring_stream_send(&peers[0].stream, (struct iovec[]){{"fi", 2}, {"rst", 3}}, 2);
    ring_stream_send(&peers[1].stream, (struct iovec[]){{"sec", 3}, {"nd", 2}}, 2);
    cr_assert(loop_until_count(ring, &peers[0].sent_bytes, 5) && loop_until_count(ring, &peers[1].sent_bytes, 5));
    char in[5];
    cr_assert(peer_read_all(raws[0], in, 5) && memcmp(in, "first", 5) == 0, "%.5s", in);
    cr_assert(peer_read_all(raws[1], in, 5) && memcmp(in, "secnd", 5) == 0, "%.5s", in);
    for (int i = 0; i < 2; i++) {
        peer_close(&peers[i]);
        close(raws[i]);
    }
}
