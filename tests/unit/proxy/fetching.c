#include "fetching.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "loop.h"

/* ---- backends ---- */

static void *backend_main(void *context)
{
    struct backend *backend = context;
    for (;;) {
        int fd = accept(backend->listener, NULL, NULL);
        if (fd < 0 && errno == EMFILE) {
            usleep(1000); /* a test has taken the descriptors away for a while */
            continue;
        }
        if (fd < 0) {
            return NULL;
        }
        backend->connections++;
        backend->serve(backend, fd);
        close(fd);
    }
}

void backend_start(struct backend *backend, void (*serve)(struct backend *backend, int fd))
{
    cr_assert_eq(ring_address_parse(BYTES("127.0.0.1:0"), &backend->address), RESULT_OK);
    backend->listener = -1;
    cr_assert_eq(ring_listen_open(&backend->address, false, &backend->listener), RESULT_OK);
    backend->address = ring_listen_address(backend->listener);
    backend->serve = serve;
    cr_assert_eq(pthread_create(&backend->thread, NULL, backend_main, backend), 0);
}

void backend_stop(struct backend *backend)
{
    shutdown(backend->listener, SHUT_RDWR);
    pthread_join(backend->thread, NULL);
    close(backend->listener);
}

bool backend_read_head(struct backend *backend, int fd, char *rest, size_t *io_rest)
{
    char head[20000];
    size_t used = *io_rest;
    memcpy(head, rest, used);
    for (;;) {
        char *end = memmem(head, used, "\r\n\r\n", 4);
        if (end != NULL) {
            *io_rest = used - (size_t)(end + 4 - head);
            memcpy(rest, end + 4, *io_rest);
            backend->requests++;
            return true;
        }
        ssize_t got = read(fd, head + used, sizeof(head) - used);
        if (got <= 0) {
            backend->ended = got == 0 ? 1 : 2;
            return false;
        }
        used += (size_t)got;
    }
}

void backend_write(int fd, const char *bytes, size_t count)
{
    while (count > 0) {
        ssize_t wrote = send(fd, bytes, count, MSG_NOSIGNAL);
        if (wrote <= 0) {
            return;
        }
        bytes += wrote;
        count -= (size_t)wrote;
    }
}

void backend_say(int fd, const char *text)
{
    backend_write(fd, text, strlen(text));
}

/* ---- the worker's side ---- */

void world_start(struct world *world, size_t pool_bytes_max, unsigned endpoints)
{
    memset(world, 0, sizeof(*world));
    world->ring = loop_create(NULL);
    chunk_pool_init(&world->pool, pool_bytes_max);
    proxy_init(&world->proxy, world->ring, &world->pool);
    const struct upstream_options options = {
        .name = BYTES("test"),
        .connect_timeout_ms = 5000,
        .first_byte_timeout_ms = 15000,
        .idle_timeout_ms = 15000,
        .keepalive_connections_max = 8,
        .keepalive_idle_ms = 60000,
    };
    cr_assert_eq(upstream_init(&world->upstream, &world->proxy, &options, endpoints), RESULT_OK);
}

static bool has_no_streams(void *context)
{
    return atomic_load(&ring_counters(context)->streams) == 0;
}

void world_stop(struct world *world)
{
    upstream_close_idle(&world->upstream);
    cr_assert(loop_until(world->ring, has_no_streams, world->ring));
    for (unsigned i = 0; i < world->upstream.endpoint_count; i++) {
        cr_assert_eq(world->upstream.endpoints[i].in_flight, 0);
        cr_assert_eq(world->upstream.endpoints[i].idle_count, 0);
    }
    upstream_fini(&world->upstream);
    proxy_fini(&world->proxy);
    cr_assert_eq(world->pool.used_bytes, 0, "every chunk is back");
    cr_assert_eq(atomic_load(&ring_counters(world->ring)->fibers), 0);
    ring_destroy(world->ring);
    chunk_pool_fini(&world->pool);
}

void world_endpoint(struct world *world, unsigned index, const struct backend *backend)
{
    struct endpoint *endpoint = &world->upstream.endpoints[index];
    endpoint->host = BYTES("backend");
    endpoint_set_addresses(endpoint, &backend->address, 1);
}

void fetching_read(struct fetching *fetching)
{
    struct entry_reader *reader = &fetching->reader;
    while (reader->entry != NULL && !fetching->holds_back) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(reader, &hold);
        if (run.len == 0) {
            break;
        }
        for (size_t i = 0; i < run.len; i++) {
            fetching->is_wrong = fetching->is_wrong || run.ptr[i] != body_byte(fetching->got + i);
        }
        fetching->got += run.len;
        entry_reader_pass(reader, run.len);
    }
    const struct entry *entry = &fetching->fetch->entry;
    fetching->status = entry->status;
    fetching->state = entry->state;
    fetching->failure = entry->failure;
    fetching->is_over = entry->state != ENTRY_FILLING && fetching->got == entry->body_bytes;
}

static void on_progress(struct entry_reader *reader)
{
    fetching_read(CONTAINER_OF(reader, struct fetching, reader));
}

void fetching_make(struct world *world, struct fetching *fetching)
{
    memset(fetching, 0, sizeof(*fetching));
    fetching->fetch = fetch_create(&world->proxy, true);
    fetching->fetch->request = (struct fetch_request){
        .upstream = &world->upstream,
        .endpoints_allowed = UINT64_MAX,
        .line = BYTES("GET / HTTP/1.1\r\n"),
        .fields = BYTES("X-Test: 1\r\n\r\n"),
    };
}

void fetching_start(struct fetching *fetching)
{
    entry_reader_join(&fetching->reader, &fetching->fetch->entry, on_progress);
    fetch_start(fetching->fetch);
}

void fetching_await(struct world *world, struct fetching *fetching)
{
    cr_assert(loop_until_true(world->ring, &fetching->is_over), "after %llu bytes", (unsigned long long)fetching->got);
    cr_assert_not(fetching->is_wrong);
}

void fetching_done(struct fetching *fetching)
{
    entry_reader_leave(&fetching->reader);
    fetch_unref(fetching->fetch);
}

void fetching_do(struct world *world, struct fetching *fetching)
{
    fetching_make(world, fetching);
    fetching_start(fetching);
    fetching_await(world, fetching);
    fetching_done(fetching);
}
