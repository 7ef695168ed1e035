/* Streams when something is scarce: provided buffers, slots. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"
#include "peer.h"
#include "ring/internal.h"

enum { CONNECTIONS = 100, BYTES_EACH = 40000 };

static char byte_of(unsigned connection, unsigned at)
{
    return (char)(connection * 31 + at * 7 + (at >> 8));
}

static unsigned total;
static bool are_whole(void *context)
{
    const struct peer *peers = context;
    total = 0;
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        total += peers[i].used;
    }
    return total == CONNECTIONS * BYTES_EACH;
}

Test(pool, a_pool_of_eight_buffers_and_many_talkers_lose_no_byte)
{
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .receive_buffer_bytes = 64};
    struct ring *ring = loop_create(&options);
    static struct peer peers[CONNECTIONS];
    int raws[CONNECTIONS];
    static char out[BYTES_EACH];
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        raws[i] = peer_adopt(&peers[i], ring);
        for (unsigned k = 0; k < BYTES_EACH; k++) {
            out[k] = byte_of(i, k);
        }
        cr_assert_eq(write(raws[i], out, BYTES_EACH), BYTES_EACH);
        ring_stream_receive(&peers[i].stream);
    }
    cr_assert(loop_until(ring, are_whole, peers), "%u of %u", total, CONNECTIONS * BYTES_EACH);
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        for (unsigned k = 0; k < BYTES_EACH; k++) {
            cr_assert_eq(peers[i].got[k], byte_of(i, k), "connection %u byte %u", i, k);
        }
        close(raws[i]);
    }
    cr_assert_gt(ring_counters(ring)->buffer_shortages, 0, "the pool did run out");
    for (unsigned i = 0; i < CONNECTIONS; i++) {
        cr_assert(loop_until_true(ring, &peers[i].is_ended));
        peer_close(&peers[i]);
    }
    ring_destroy(ring);
}

/* Every callback stops its own receive: some of them are on the list of those that wait for a buffer. */
Test(pool, receives_that_wait_for_a_buffer_can_be_stopped_and_closed)
{
    struct ring_options options = {.cpu = -1, .receive_buffers = 1, .receive_buffer_bytes = 16};
    struct ring *ring = loop_create(&options);
    static struct peer peers[8];
    int raws[8];
    for (unsigned i = 0; i < 8; i++) {
        raws[i] = peer_adopt(&peers[i], ring);
        cr_assert_eq(write(raws[i], "0123456789abcdef0123456789abcdef", 32), 32);
        ring_stream_receive(&peers[i].stream);
    }
    loop_for_ms(ring, 0);
    for (unsigned i = 0; i < 8; i++) {
        ring_stream_receive_stop(&peers[i].stream);
        if (i % 2 == 1) {
            ring_stream_close(&peers[i].stream);
        }
    }
    for (unsigned i = 0; i < 8; i++) {
        cr_assert(loop_until_true(ring, i % 2 == 1 ? &peers[i].is_closed : &peers[i].is_ended));
        if (i % 2 == 0) {
            cr_assert_eq(peers[i].why, RESULT_CANCELED);
            ring_stream_receive(&peers[i].stream);
            cr_assert(loop_until_count(ring, &peers[i].used, 32));
            cr_assert_eq(memcmp(peers[i].got, "0123456789abcdef0123456789abcdef", 32), 0);
            peer_close(&peers[i]);
        }
        close(raws[i]);
    }
    ring_destroy(ring);
}

Test(pool, more_streams_than_streams_max_are_refused_and_their_descriptors_closed)
{
    struct ring_options options = {.cpu = -1, .receive_buffers = 8, .streams_max = 3};
    struct ring *ring = loop_create(&options);
    struct peer *peers = calloc(4, sizeof(*peers));
    int raws[3];
    for (unsigned i = 0; i < 3; i++) {
        raws[i] = peer_adopt(&peers[i], ring);
    }
    unsigned before = loop_open_descriptors();
    int fd = dup(raws[0]);
    cr_assert_eq(ring_stream_adopt(ring, &peers[3].stream, &peer_events, fd), RESULT_LIMIT);
    struct ring_address address;
    cr_assert_eq(ring_address_parse(BYTES("127.0.0.1:9"), &address), RESULT_OK);
    cr_assert_eq(ring_stream_connect(ring, &peers[3].stream, &peer_events, &address), RESULT_LIMIT);
    cr_assert_eq(loop_open_descriptors(), before);
    peer_close(&peers[1]);
    close(raws[1]);
    raws[1] = peer_adopt(&peers[3], ring);
    peer_close(&peers[0]);
    peer_close(&peers[2]);
    peer_close(&peers[3]);
    for (unsigned i = 0; i < 3; i++) {
        close(raws[i]);
    }
    free(peers);
    ring_destroy(ring);
}

Test(pool, a_slot_used_again_has_moved_on_and_late_completions_find_nobody)
{
    struct ring *ring = loop_create(NULL);
    struct peer peer;
    uint32_t slot = 0;
    for (unsigned i = 0; i < 200; i++) {
        int raw = peer_adopt(&peer, ring);
        cr_assert(i == 0 || peer.stream.slot == slot);
        slot = peer.stream.slot;
        uint64_t stale = ring_user_data(RING_KIND_RECEIVE, ring->slots[slot].generation - 1, slot);
        ring_stream_receive(&peer.stream);
        struct io_uring_sqe *sqe = ring_sqe(ring);
        io_uring_prep_nop(sqe);
        io_uring_sqe_set_data64(sqe, stale);
        cr_assert_eq(write(raw, "x", 1), 1);
        cr_assert(loop_until_count(ring, &peer.used, 1));
        cr_assert_not(peer.is_ended);
        cr_assert_eq(peer.stream.outstanding, 1);
        peer_close(&peer);
        close(raw);
    }
    ring_destroy(ring);
}
