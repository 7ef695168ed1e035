#include "proxy/fetch.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "fetching.h"
#include "loop.h"

static struct world world;
static struct backend backend;
static struct fetching fetching;

/* Answers every request with body_bytes bytes under a Content-Length, head and body in one go. */
static void serve_length(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    char *answer = malloc(self->body_bytes + 200);
    int head = sprintf(answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", self->body_bytes);
    for (size_t i = 0; i < self->body_bytes; i++) {
        answer[(size_t)head + i] = body_byte(i);
    }
    while (backend_read_head(self, fd, rest, &rest_bytes)) {
        backend_write(fd, answer, (size_t)head + self->body_bytes);
    }
    free(answer);
}

/* The same in chunks of many sizes. */
static void serve_chunked(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    while (backend_read_head(self, fd, rest, &rest_bytes)) {
        backend_say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        size_t at = 0;
        for (size_t part = 1; at < self->body_bytes; part = part * 5 % 30011 + 1) {
            char chunk[31000];
            size_t bytes = part < self->body_bytes - at ? part : self->body_bytes - at;
            int head = sprintf(chunk, "%zx\r\n", bytes);
            for (size_t i = 0; i < bytes; i++) {
                chunk[(size_t)head + i] = body_byte(at + i);
            }
            memcpy(chunk + (size_t)head + bytes, "\r\n", 2);
            backend_write(fd, chunk, (size_t)head + bytes + 2);
            at += bytes;
        }
        backend_say(fd, "0\r\nX-Sum: 5\r\n\r\n");
    }
}

static void start(void (*serve)(struct backend *self, int fd), size_t body_bytes)
{
    world_start(&world, 0, 1);
    backend.body_bytes = body_bytes;
    backend_start(&backend, serve);
    world_endpoint(&world, 0, &backend);
}

static void stop(void)
{
    world_stop(&world);
    backend_stop(&backend);
}

Test(fetch, bodies_of_any_length_come_whole_over_one_connection)
{
    start(serve_length, 0);
    static const size_t sizes[] = {0,     1,      4000,   4096,   65535,  65536,  65600,
                                   70000, 100000, 100000, 130000, 300000, 3000000};
    world_stop(&world);
    backend_stop(&backend);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        memset(&backend, 0, sizeof(backend));
        start(serve_length, sizes[i]);
        for (int round = 0; round < 10; round++) {
            fetching_do(&world, &fetching);
            cr_assert_eq(fetching.state, ENTRY_COMPLETE, "size %zu round %d", sizes[i], round);
            cr_assert_eq(fetching.got, sizes[i]);
        }
        cr_assert_eq(backend.connections, 1, "size %zu: %u connections", sizes[i], backend.connections);
        cr_assert_eq(world.proxy.reuses, 9);
        stop();
    }
}

Test(fetch, chunked_bodies_come_whole_with_their_trailers)
{
    start(serve_chunked, 700000);
    for (int round = 0; round < 3; round++) {
        fetching_make(&world, &fetching);
        fetching_start(&fetching);
        fetching_await(&world, &fetching);
        cr_assert_eq(fetching.got, 700000);
        const struct entry *entry = &fetching.fetch->entry;
        cr_assert(bytes_equal((struct bytes){entry->trailers, entry->trailer_bytes}, BYTES("X-Sum: 5\r\n")));
        fetching_done(&fetching);
    }
    cr_assert_eq(backend.connections, 1);
    stop();
}

static void hold_back_and_go_on(void)
{
    fetching_make(&world, &fetching);
    fetching.holds_back = true;
    fetching_start(&fetching);
    for (int pause = 0; pause < 5; pause++) {
        loop_for_ms(world.ring, 20);
        cr_assert_leq(world.pool.used_bytes, world.proxy.window_bytes_max + 1500000, "the window bounds what is held");
        fetching.holds_back = false;
        fetching_read(&fetching); /* the window opens, from outside of entry_tell */
        fetching.holds_back = true;
    }
    fetching.holds_back = false;
    fetching_read(&fetching);
    fetching_await(&world, &fetching);
    cr_assert_eq(fetching.state, ENTRY_COMPLETE);
    cr_assert_eq(fetching.got, backend.body_bytes);
    fetching_done(&fetching);
}

Test(fetch, a_reader_that_stops_and_goes_on_gets_every_byte_of_a_counted_body)
{
    start(serve_length, 20000000);
    hold_back_and_go_on();
    stop();
}

Test(fetch, a_reader_that_stops_and_goes_on_gets_every_byte_of_a_chunked_body)
{
    start(serve_chunked, 10000000);
    hold_back_and_go_on();
    stop();
}

/* ---- ends ---- */

static void serve_text(struct backend *self, int fd)
{
    static const char *const answers[] = {
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: "
        "0\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-",
        "",
    };
    char rest[20000];
    size_t rest_bytes = 0;
    while (backend_read_head(self, fd, rest, &rest_bytes)) {
        unsigned which = self->requests - 1;
        backend_say(fd, answers[which < ARRAY_COUNT(answers) ? which : ARRAY_COUNT(answers) - 1]);
        if (which >= 3) {
            return;
        }
    }
}

Test(fetch, responses_end_as_their_heads_say)
{
    start(serve_text, 0);
    static const struct {
        enum entry_state state;
        enum result failure;
        uint16_t status;
    } wanted[] = {
        {ENTRY_COMPLETE, RESULT_OK, 204},   {ENTRY_COMPLETE, RESULT_OK, 304},     {ENTRY_COMPLETE, RESULT_OK, 200},
        {ENTRY_COMPLETE, RESULT_OK, 200},   {ENTRY_FAILED, RESULT_PROTOCOL, 200}, {ENTRY_FAILED, RESULT_PROTOCOL, 200},
        {ENTRY_FAILED, RESULT_PROTOCOL, 0}, {ENTRY_FAILED, RESULT_PROTOCOL, 0},   {ENTRY_FAILED, RESULT_CLOSED, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wanted); i++) {
        fetching_do(&world, &fetching);
        cr_assert_eq(fetching.state, wanted[i].state, "answer %zu", i);
        cr_assert_eq(fetching.failure, wanted[i].failure, "answer %zu: %s", i, result_name(fetching.failure));
        cr_assert_eq(fetching.status, wanted[i].status, "answer %zu", i);
    }
    stop();
}

static void serve_then_leave(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    if (backend_read_head(self, fd, rest, &rest_bytes)) {
        backend_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        /* The next request meets a connection that has just gone, or is about to. */
        if (backend_read_head(self, fd, rest, &rest_bytes)) {
            self->requests--;
        }
    }
}

Test(fetch, a_kept_connection_that_turns_out_dead_is_replaced_by_a_fresh_one)
{
    start(serve_then_leave, 0);
    for (unsigned i = 0; i < 10; i++) {
        fetching_do(&world, &fetching);
        cr_assert_eq(fetching.state, ENTRY_COMPLETE, "%u: %s", i, result_name(fetching.failure));
    }
    cr_assert_eq(world.proxy.retries, 9);
    cr_assert_eq(backend.connections, 10);
    stop();
}

static void serve_and_wait(struct backend *self, int fd)
{
    char rest[20000];
    size_t rest_bytes = 0;
    if (backend_read_head(self, fd, rest, &rest_bytes)) {
        if (self->body_bytes > 0) {
            backend_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
            char zeros[1000] = {0};
            backend_write(fd, zeros, 1);
        }
        backend_read_head(self, fd, rest, &rest_bytes);
    }
}

static bool has_ended(void *context)
{
    (void)context;
    return backend.ended != 0;
}

Test(fetch, a_fetch_whose_last_reader_leaves_is_cut_off_at_the_backend)
{
    for (size_t phase = 0; phase < 2; phase++) {
        memset(&backend, 0, sizeof(backend));
        start(serve_and_wait, phase);
        fetching_make(&world, &fetching);
        fetching_start(&fetching);
        while (backend.requests == 0 || (phase == 1 && fetching.got == 0)) {
            loop_for_ms(world.ring, 1);
        }
        fetching_done(&fetching);
        cr_assert(loop_until(world.ring, has_ended, NULL));
        cr_assert_eq(backend.ended, 2, "with a reset");
        cr_assert_eq(world.proxy.cancels, 1);
        stop();
    }
}

/* ---- shortage ---- */

Test(fetch, a_pool_that_is_out_fails_the_fetch_and_leaks_nothing)
{
    /* The nth chunk is missing: the bound grows by a chunk each time, until all is there. */
    unsigned failed = 0;
    backend.body_bytes = 90000;
    backend_start(&backend, serve_length);
    for (unsigned taken = 256;; taken--) {
        world_start(&world, (size_t)CHUNK_REGION_BYTES * 2, 1);
        world_endpoint(&world, 0, &backend);
        struct chunk *chunks[320];
        unsigned count = 0;
        for (; count < taken; count++) {
            chunks[count] = chunk_acquire(&world.pool, CHUNK_SMALL);
            cr_assert_not_null(chunks[count]);
        }
        for (; taken > 250 && count < taken + 64; count++) {
            chunks[count] = chunk_acquire(&world.pool, CHUNK_LARGE);
        }
        if (taken > 250) {
            for (unsigned given = 0; given < (256 - taken) && count > taken; given++) {
                count--;
                chunk_unref(chunks[count]);
            }
        }
        fetching_make(&world, &fetching);
        fetching_start(&fetching);
        fetching_await(&world, &fetching);
        bool is_complete = fetching.state == ENTRY_COMPLETE;
        cr_assert(is_complete || fetching.failure == RESULT_NO_MEMORY, "%s", result_name(fetching.failure));
        failed += !is_complete;
        fetching_done(&fetching);
        cr_assert_eq(world.upstream.endpoints[0].failures_in_row, 0, "that is not the endpoint's fault");
        while (count > 0) {
            chunk_unref(chunks[--count]);
        }
        world_stop(&world);
        if (is_complete) {
            break;
        }
    }
    cr_assert_gt(failed, 1);
    backend_stop(&backend);
}

static bool is_paused(void *context)
{
    (void)context;
    return fetching.fetch->receive_paused && !fetching.fetch->conn->stream.receive_armed;
}

static bool is_told_inside;
static bool is_reading;
static void on_progress_noting(struct entry_reader *reader)
{
    is_told_inside = is_told_inside || is_reading;
    fetching.is_over = reader->entry->state != ENTRY_FILLING;
}

Test(fetch, a_reader_that_opens_the_window_when_the_pool_is_out_is_not_told_from_inside)
{
    start(serve_length, 20000000);
    fetching_make(&world, &fetching);
    entry_reader_join(&fetching.reader, &fetching.fetch->entry, on_progress_noting);
    fetch_start(fetching.fetch);
    cr_assert(loop_until(world.ring, is_paused, NULL));
    world.pool.bytes_max = world.pool.region_bytes; /* nothing more from the system */
    static struct chunk *taken[1000];
    unsigned count = 0;
    while ((taken[count] = chunk_acquire(&world.pool, CHUNK_LARGE)) != NULL) {
        count++;
    }
    /* Passes all that is there while it keeps the chunks, as an outbox does that pins them. */
    struct hold *hold;
    struct bytes run;
    is_reading = true;
    while ((run = entry_reader_peek(&fetching.reader, &hold)).len > 0) {
        hold_ref(hold);
        taken[count++] = CONTAINER_OF(hold, struct chunk, hold);
        entry_reader_pass(&fetching.reader, run.len);
    }
    is_reading = false;
    cr_assert(loop_until_true(world.ring, &fetching.is_over));
    cr_assert_not(is_told_inside);
    cr_assert_eq(fetching.fetch->entry.failure, RESULT_NO_MEMORY);
    fetching_done(&fetching);
    while (count > 0) {
        chunk_unref(taken[--count]);
    }
    stop();
}

Test(fetch, no_descriptor_left_is_our_own_shortage_and_not_the_endpoints_fault)
{
    start(serve_length, 0);
    struct rlimit before;
    getrlimit(RLIMIT_NOFILE, &before);
    int lowest = dup(0);
    close(lowest);
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)lowest, before.rlim_max});
    fetching_do(&world, &fetching);
    cr_assert_eq(fetching.failure, RESULT_LIMIT);
    cr_assert_eq(world.upstream.endpoints[0].failures_in_row, 0);
    setrlimit(RLIMIT_NOFILE, &before);
    fetching_do(&world, &fetching);
    cr_assert_eq(fetching.state, ENTRY_COMPLETE);
    stop();
}
