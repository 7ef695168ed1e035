#include "proxy/upstream.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "fetching.h"
#include "loop.h"

static struct world world;
static struct backend backend;
static struct fetching fetching;

static void serve_empty(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    while (backend_read_head(self, fd, rest, &rest_bytes)) {
        backend_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
}

/* An address at which nobody listens. */
static struct ring_address nobody(void)
{
    struct ring_address address;
    int fd = -1;
    cr_assert_eq(ring_address_parse(BYTES("127.0.0.1:0"), &address), RESULT_OK);
    cr_assert_eq(ring_listen_open(&address, false, &fd), RESULT_OK);
    address = ring_listen_address(fd);
    close(fd);
    return address;
}

static void give_addresses(unsigned endpoints)
{
    struct ring_address address;
    cr_assert_eq(ring_address_parse(BYTES("127.0.0.1:1"), &address), RESULT_OK);
    for (unsigned i = 0; i < endpoints; i++) {
        endpoint_set_addresses(&world.upstream.endpoints[i], &address, 1);
    }
}

Test(upstream_is_idle, is_so_while_less_than_its_share_of_connections_is_busy)
{
    world_start(&world, 0, 2);
    give_addresses(2);
    struct endpoint *endpoints = world.upstream.endpoints;
    cr_expect(upstream_is_idle(&world.upstream, 50), "without any connection nothing is in flight");
    endpoints[0].in_flight = 1;
    cr_expect(!upstream_is_idle(&world.upstream, 50));
    cr_expect(!upstream_is_idle(&world.upstream, 100), "all of one is busy");
    endpoints[1].idle_count = 1;
    cr_expect(!upstream_is_idle(&world.upstream, 50), "half is not less than half");
    cr_expect(upstream_is_idle(&world.upstream, 51));
    endpoints[0].idle_count = 1;
    cr_expect(upstream_is_idle(&world.upstream, 50));
    endpoints[1].in_flight = 1;
    cr_expect(!upstream_is_idle(&world.upstream, 50));
    for (int i = 0; i < 2; i++) {
        endpoints[i].in_flight = 0;
        endpoints[i].idle_count = 0;
    }
    world_stop(&world);
}

Test(upstream_is_idle, is_not_so_while_an_endpoint_fails)
{
    world_start(&world, 0, 2);
    give_addresses(2);
    endpoint_failed(&world.upstream.endpoints[1]);
    cr_expect(!upstream_is_idle(&world.upstream, 100));
    endpoint_succeeded(&world.upstream.endpoints[1]);
    cr_expect(upstream_is_idle(&world.upstream, 100));
    world.upstream.endpoints[0].address_count = 0;
    cr_expect(!upstream_is_idle(&world.upstream, 100), "it has not been found yet");
    world_stop(&world);
}

Test(upstream_choose, takes_the_one_with_the_least_in_flight)
{
    world_start(&world, 0, 3);
    give_addresses(3);
    struct endpoint *endpoints = world.upstream.endpoints;
    endpoints[0].in_flight = 2;
    endpoints[1].in_flight = 1;
    endpoints[2].in_flight = 2;
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(upstream_choose(&world.upstream, UINT64_MAX), &endpoints[1]);
    }
    cr_assert_eq(upstream_choose(&world.upstream, 1 << 2), &endpoints[2]);
    cr_assert_null(upstream_choose(&world.upstream, 0));
    cr_assert_null(upstream_choose(&world.upstream, UINT64_C(1) << 63));
    for (int i = 0; i < 3; i++) {
        endpoints[i].in_flight = 0;
    }
    world_stop(&world);
}

Test(upstream_choose, breaks_ties_in_turn)
{
    world_start(&world, 0, 3);
    give_addresses(3);
    unsigned chosen[3] = {0};
    for (int i = 0; i < 30; i++) {
        chosen[upstream_choose(&world.upstream, UINT64_MAX)->index]++;
    }
    cr_assert(chosen[0] == 10 && chosen[1] == 10 && chosen[2] == 10);
    world_stop(&world);
}

Test(upstream_choose, leaves_failed_ones_out_until_only_they_are_left)
{
    world_start(&world, 0, 3);
    give_addresses(3);
    struct endpoint *endpoints = world.upstream.endpoints;
    endpoint_failed(&endpoints[0]);
    endpoints[1].in_flight = 50;
    endpoints[2].in_flight = 50;
    for (int i = 0; i < 5; i++) {
        cr_assert_neq(upstream_choose(&world.upstream, UINT64_MAX), &endpoints[0]);
    }
    cr_assert_eq(upstream_choose(&world.upstream, 1), &endpoints[0]);
    endpoint_failed(&endpoints[1]);
    endpoint_failed(&endpoints[1]);
    endpoint_failed(&endpoints[2]);
    endpoint_failed(&endpoints[2]);
    endpoint_failed(&endpoints[2]);
    cr_assert_eq(upstream_choose(&world.upstream, UINT64_MAX), &endpoints[0], "the one that may be back first");
    endpoint_succeeded(&endpoints[2]);
    cr_assert_eq(upstream_choose(&world.upstream, UINT64_MAX), &endpoints[2]);
    endpoints[1].in_flight = 0;
    endpoints[2].in_flight = 0;
    world_stop(&world);
}

Test(upstream_choose, failing_lasts_longer_each_time_up_to_half_a_minute)
{
    world_start(&world, 0, 1);
    give_addresses(1);
    struct endpoint *endpoint = &world.upstream.endpoints[0];
    static const nanos wanted_s[] = {1, 2, 4, 8, 16, 30, 30, 30};
    for (size_t i = 0; i < ARRAY_COUNT(wanted_s); i++) {
        endpoint_failed(endpoint);
        cr_assert_eq(endpoint->failed_until_ns - ring_now(world.ring), wanted_s[i] * NANOS_PER_S);
    }
    world_stop(&world);
}

/* ---- addresses and connections ---- */

Test(upstream, an_endpoint_is_reached_by_whichever_of_its_addresses_works)
{
    world_start(&world, 0, 1);
    backend_start(&backend, serve_empty);
    struct endpoint *endpoint = &world.upstream.endpoints[0];
    endpoint->host = BYTES("many");
    struct ring_address addresses[3] = {nobody(), nobody(), backend.address};
    endpoint_set_addresses(endpoint, addresses, 3);
    fetching_do(&world, &fetching);
    cr_assert_eq(fetching.state, ENTRY_COMPLETE, "%s", result_name(fetching.failure));
    cr_assert_eq(endpoint->failures_in_row, 0);
    cr_assert_eq(endpoint->address_next, 2, "that one first from now on");
    cr_assert_eq(world.proxy.connects, 3);
    world_stop(&world);
    backend_stop(&backend);
}

Test(upstream, another_endpoint_is_tried_when_one_cannot_be_reached)
{
    world_start(&world, 0, 2);
    backend_start(&backend, serve_empty);
    struct ring_address dead = nobody();
    endpoint_set_addresses(&world.upstream.endpoints[0], &dead, 1);
    world_endpoint(&world, 1, &backend);
    for (int i = 0; i < 6; i++) {
        fetching_do(&world, &fetching);
        cr_assert_eq(fetching.state, ENTRY_COMPLETE, "%s", result_name(fetching.failure));
    }
    cr_assert_leq(world.proxy.connect_failures, 1, "and then left alone for a while");
    world_stop(&world);
    backend_stop(&backend);
}

Test(upstream, nobody_there_is_said_so)
{
    world_start(&world, 0, 2);
    struct ring_address dead = nobody();
    endpoint_set_addresses(&world.upstream.endpoints[0], &dead, 1);
    endpoint_set_addresses(&world.upstream.endpoints[1], &dead, 0); /* a name not found yet */
    fetching_do(&world, &fetching);
    cr_assert_eq(fetching.state, ENTRY_FAILED);
    cr_assert(fetching.failure == RESULT_REFUSED || fetching.failure == RESULT_UNREACHABLE);
    world_stop(&world);
}

static void serve_then_speak(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    if (backend_read_head(self, fd, rest, &rest_bytes)) {
        backend_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        usleep(30000);
        backend_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison");
        backend_read_head(self, fd, rest, &rest_bytes);
    }
}

Test(upstream, an_idle_connection_that_speaks_unasked_is_dropped)
{
    world_start(&world, 0, 1);
    backend_start(&backend, serve_then_speak);
    world_endpoint(&world, 0, &backend);
    for (int i = 0; i < 3; i++) {
        fetching_do(&world, &fetching);
        cr_assert_eq(fetching.state, ENTRY_COMPLETE);
        cr_assert_eq(fetching.got, 0);
        loop_for_ms(world.ring, 150);
        cr_assert_eq(world.upstream.endpoints[0].idle_count, 0);
    }
    cr_assert_eq(world.proxy.reuses, 0);
    world_stop(&world);
    backend_stop(&backend);
}

Test(upstream, idle_connections_go_after_their_time)
{
    world_start(&world, 0, 1);
    backend_start(&backend, serve_empty);
    world_endpoint(&world, 0, &backend);
    world.upstream.options.keepalive_idle_ms = 30;
    fetching_do(&world, &fetching);
    cr_assert_eq(world.upstream.endpoints[0].idle_count, 1);
    loop_for_ms(world.ring, 100);
    cr_assert_eq(world.upstream.endpoints[0].idle_count, 0);
    world.upstream.options.keepalive_connections_max = 0;
    fetching_do(&world, &fetching);
    cr_assert_eq(world.upstream.endpoints[0].idle_count, 0);
    world_stop(&world);
    backend_stop(&backend);
}

/* ---- uploads ---- */

struct upload {
    struct entry entry;
    struct entry_filler filler;
    uint64_t filled;
    uint64_t total;
    bool is_abandoned;
};

static struct upload upload;

static void fill(void)
{
    while (!upload.is_abandoned && upload.filled < upload.total && !entry_is_full(&upload.entry)) {
        char *at;
        size_t room;
        cr_assert_eq(entry_room(&upload.entry, &at, &room), RESULT_OK);
        room = room < upload.total - upload.filled ? room : (size_t)(upload.total - upload.filled);
        for (size_t i = 0; i < room; i++) {
            at[i] = body_byte(upload.filled + i);
        }
        entry_commit(&upload.entry, room);
        upload.filled += room;
    }
    if (!upload.is_abandoned && upload.filled == upload.total && upload.entry.state == ENTRY_FILLING) {
        entry_complete(&upload.entry, NULL, 0);
    }
}

static struct ring_task fill_task;
static void on_fill_task(struct ring_task *task)
{
    (void)task;
    fill();
    entry_tell(&upload.entry);
}

static void on_drained(struct entry_filler *filler)
{
    (void)filler;
    ring_defer(world.ring, &fill_task);
}

static void on_abandoned(struct entry_filler *filler)
{
    (void)filler;
    upload.is_abandoned = true;
}

/* Reads all of the body before it answers with how many of its bytes were right. */
static void serve_upload(struct backend *self, int fd)
{
    char rest[20000];
    size_t used = 0;
    while (backend_read_head(self, fd, rest, &used)) {
        usleep(20000); /* the windows on the way fill */
        uint64_t right = 0;
        uint64_t at = 0;
        while (at < self->body_bytes) {
            ssize_t got = (ssize_t)used;
            if (used == 0 && (got = read(fd, rest, sizeof(rest))) <= 0) {
                return;
            }
            for (ssize_t i = 0; i < got; i++, at++) {
                right += rest[i] == body_byte(at);
            }
            used = 0;
        }
        backend_say(fd, right == self->body_bytes ? "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                                                  : "HTTP/1.1 500 Wrong\r\nContent-Length: 0\r\n\r\n");
    }
}

/* Answers at once and never reads the body. */
static void serve_early(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    if (backend_read_head(self, fd, rest, &rest_bytes)) {
        backend_say(fd, "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
        char byte;
        self->ended = read(fd, &byte, 1) >= 0 ? 1 : 2;
        usleep(50000);
    }
}

static void do_upload(uint64_t total)
{
    upload = (struct upload){.filler = {on_drained, on_abandoned}, .total = total};
    ring_task_init(&fill_task, on_fill_task);
    entry_init(&upload.entry, &world.pool, &upload.filler, 100000, true);
    fetching_make(&world, &fetching);
    fetching.fetch->request.stream = &upload.entry;
    fetching.fetch->request.has_length = true;
    fetching.fetch->request.length = total;
    fetching_start(&fetching);
    fill();
    entry_tell(&upload.entry);
    fetching_await(&world, &fetching);
    fetching_done(&fetching);
    ring_task_cancel(&fill_task);
    entry_fini(&upload.entry);
}

Test(upload, a_streamed_body_arrives_whole_within_its_window_and_the_connection_is_kept)
{
    static const uint64_t sizes[] = {1, 5000, 100000, 7000000};
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        memset(&backend, 0, sizeof(backend));
        backend.body_bytes = sizes[i];
        world_start(&world, 0, 1);
        backend_start(&backend, serve_upload);
        world_endpoint(&world, 0, &backend);
        for (int round = 0; round < 3; round++) {
            do_upload(sizes[i]);
            cr_assert_eq(fetching.status, 200, "size %zu round %d: %s", i, round, result_name(fetching.failure));
            cr_assert_not(upload.is_abandoned);
        }
        cr_assert_eq(backend.connections, 1);
        world_stop(&world);
        backend_stop(&backend);
    }
}

Test(upload, an_answer_before_the_end_of_the_body_ends_the_upload_and_the_connection)
{
    world_start(&world, 0, 1);
    backend_start(&backend, serve_early);
    world_endpoint(&world, 0, &backend);
    do_upload(50000000);
    cr_assert_eq(fetching.status, 403);
    cr_assert_eq(fetching.state, ENTRY_COMPLETE);
    cr_assert(upload.is_abandoned);
    cr_assert_eq(world.upstream.endpoints[0].idle_count, 0);
    world_stop(&world);
    backend_stop(&backend);
}

Test(upload, a_body_that_is_cut_short_is_reset_at_the_backend)
{
    world_start(&world, 0, 1);
    backend.body_bytes = 1000;
    backend_start(&backend, serve_upload);
    world_endpoint(&world, 0, &backend);
    upload = (struct upload){.filler = {on_drained, on_abandoned}};
    entry_init(&upload.entry, &world.pool, &upload.filler, 100000, true);
    fetching_make(&world, &fetching);
    fetching.fetch->request.stream = &upload.entry;
    fetching.fetch->request.has_length = true;
    fetching.fetch->request.length = 1000;
    fetching_start(&fetching);
    cr_assert_eq(entry_append(&upload.entry, BYTES("half of it")), RESULT_OK);
    entry_tell(&upload.entry);
    loop_for_ms(world.ring, 10);
    cr_assert_not(fetching.is_over);
    entry_fail(&upload.entry, RESULT_CANCELED);
    entry_tell(&upload.entry);
    fetching_await(&world, &fetching);
    cr_assert_eq(fetching.failure, RESULT_CANCELED);
    fetching_done(&fetching);
    entry_fini(&upload.entry);
    world_stop(&world);
    backend_stop(&backend);
}
