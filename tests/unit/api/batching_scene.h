/* One worker that batches, in front of a backend whose embeddings are the texts themselves: what the tests of batching
 * share. The including file has included what it tests. */
#ifndef TESTS_UNIT_API_BATCHING_SCENE_H
#define TESTS_UNIT_API_BATCHING_SCENE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../proxy/fetching.h"
#include "loop.h"

enum { ASKING = 8, TEXT_BYTES = 8192 };

struct asking {
    struct fetch *fetch;
    struct entry_reader reader;
    char answer[TEXT_BYTES];
    size_t bytes;
    bool is_over;
};

struct scene {
    struct ring_group *group;
    struct ring *ring;
    struct chunk_pool pool;
    struct proxy proxy;
    struct upstream upstream;
    struct gate_options gate_options;
    struct gates gates;
    struct gates *gate_peers[1];
    struct batching batching;
    struct batching *peers[1];
    struct batching_route route;
    struct backend backend;
    _Atomic unsigned serving; /* connections */
    struct asking asking[ASKING];
};

static struct scene scene;

/* ---- the backend ---- */

/* Reads a request; its body. .ptr NULL: the connection has ended. */
static struct bytes read_request(int fd, char *text, size_t room)
{
    size_t used = 0;
    for (;;) {
        char *end = memmem(text, used, "\r\n\r\n", 4);
        size_t length = 0;
        if (end != NULL) {
            const char *field = memmem(text, used, "Content-Length: ", 16);
            length = field == NULL ? 0 : (size_t)strtoul(field + 16, NULL, 10);
            if (used >= (size_t)(end + 4 - text) + length) {
                return (struct bytes){end + 4, length};
            }
        }
        ssize_t got = read(fd, text + used, room - used - 1);
        if (got <= 0) {
            return BYTES_NONE;
        }
        used += (size_t)got;
        text[used] = '\0';
    }
}

static void say_embeddings(int fd, struct bytes body)
{
    const struct array_terms terms = {.path = BYTES(""), .credentials = BYTES(""), .bytes_per_token = 4};
    struct array_request request;
    char text[TEXT_BYTES];
    char head[128];
    if (array_request_read(array_shape_of(BYTES("/v1/embeddings")), &terms, body, &request) != ARRAY_OK) {
        return;
    }
    size_t used = (size_t)snprintf(text, sizeof(text), "{\"data\":[");
    for (unsigned i = 0; i < request.item_count; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s{\"index\":%u,\"embedding\":%.*s}",
                                 i == 0 ? "" : ",", i, BYTES_ARG(request.items[i].text));
    }
    used += (size_t)snprintf(text + used, sizeof(text) - used, "],\"usage\":{\"total_tokens\":%u}}",
                             request.item_count * 3);
    array_request_fini(&request);
    snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", used);
    backend_write(fd, head, strlen(head));
    backend_write(fd, text, used);
}

static void *serve_connection(void *context)
{
    int fd = (int)(intptr_t)context;
    char text[TEXT_BYTES];
    struct bytes body;
    while ((body = read_request(fd, text, sizeof(text))).ptr != NULL) {
        scene.backend.requests++;
        say_embeddings(fd, body);
    }
    close(fd);
    scene.serving--;
    return NULL;
}

/* Connections are served side by side. */
static void serve_embeddings(struct backend *backend, int fd)
{
    (void)backend;
    pthread_t thread;
    scene.serving++;
    cr_assert_eq(pthread_create(&thread, NULL, serve_connection, (void *)(intptr_t)dup(fd)), 0);
    pthread_detach(thread);
}

/* ---- the worker ---- */

static void start_upstream(void)
{
    const struct upstream_options options = {
        .name = BYTES("test"),
        .connect_timeout_ms = 5000,
        .first_byte_timeout_ms = 15000,
        .idle_timeout_ms = 15000,
        .keepalive_connections_max = 8,
        .keepalive_idle_ms = 60000,
    };
    cr_assert_eq(upstream_init(&scene.upstream, &scene.proxy, &options, 1), RESULT_OK);
    scene.upstream.endpoints[0].host = BYTES("backend");
    endpoint_set_addresses(&scene.upstream.endpoints[0], &scene.backend.address, 1);
}

static void scene_start(uint32_t items_max)
{
    memset(&scene, 0, sizeof(scene));
    backend_start(&scene.backend, serve_embeddings);
    scene.group = ring_group_create(1);
    scene.ring = loop_create(&(struct ring_options){.cpu = -1, .receive_buffers = 64, .group = scene.group});
    chunk_pool_init(&scene.pool, 0);
    proxy_init(&scene.proxy, scene.ring, &scene.pool);
    start_upstream();
    scene.gate_peers[0] = &scene.gates;
    scene.peers[0] = &scene.batching;
    const struct gates_options gates = {
        .ring = scene.ring,
        .count = 1,
        .peers = scene.gate_peers,
        .options = &scene.gate_options,
        .upstream_count = 1,
    };
    cr_assert_eq(gates_init(&scene.gates, &gates), RESULT_OK);
    scene.route = (struct batching_route){
        .name = BYTES("route"),
        .options = {.items_max = items_max,
                    .tokens_max = 10000,
                    .bytes_max = 10000,
                    .waiting_max = 1000,
                    .wait_max_ns = 20 * NANOS_PER_MS},
    };
}

/* RESULT_NO_MEMORY, if memory may be short. */
static enum result scene_batch(void)
{
    return batching_init(&scene.batching, &(struct batching_options){
                                              .ring = scene.ring,
                                              .count = 1,
                                              .peers = scene.peers,
                                              .proxy = &scene.proxy,
                                              .upstreams = &scene.upstream,
                                              .gates = &scene.gates,
                                              .route_count = 1,
                                          });
}

static bool is_quiet(void *context)
{
    (void)context;
    return atomic_load(&ring_counters(scene.ring)->streams) == 0 && scene.serving == 0;
}

static bool is_settled(void *context)
{
    (void)context;
    return batching_is_settled(&scene.batching);
}

/* Checks that nothing is held any more. */
static void scene_stop(void)
{
    cr_assert(loop_until(scene.ring, is_settled, NULL), "nothing of batching is under way");
    upstream_close_idle(&scene.upstream);
    cr_assert(loop_until(scene.ring, is_quiet, NULL));
    cr_expect_eq(scene.batching.held_bytes, 0);
    batching_fini(&scene.batching);
    gates_fini(&scene.gates);
    upstream_fini(&scene.upstream);
    proxy_fini(&scene.proxy);
    cr_expect_eq(scene.pool.used_bytes, 0, "every chunk is back");
    ring_destroy(scene.ring);
    ring_group_destroy(scene.group);
    chunk_pool_fini(&scene.pool);
    backend_stop(&scene.backend);
}

/* ---- asking ---- */

static void asking_on_progress(struct entry_reader *reader)
{
    struct asking *asking = CONTAINER_OF(reader, struct asking, reader);
    struct hold *hold;
    struct bytes run;
    while ((run = entry_reader_peek(reader, &hold)).len > 0) {
        cr_assert(asking->bytes + run.len < sizeof(asking->answer));
        bytes_put(asking->answer + asking->bytes, run);
        asking->bytes += run.len;
        entry_reader_pass(reader, run.len);
    }
    asking->is_over = reader->entry->state != ENTRY_FILLING;
}

/* The fields end with the blank line. */
static struct asking *ask_with(unsigned number, const char *body, const char *fields)
{
    struct asking *asking = &scene.asking[number];
    memset(asking, 0, sizeof(*asking));
    asking->fetch = fetch_create(&scene.proxy, true);
    cr_assert_not_null(asking->fetch);
    struct fetch_request *request = &asking->fetch->request;
    request->upstream = &scene.upstream;
    request->endpoints_allowed = UINT64_MAX;
    request->line = BYTES("POST /v1/embeddings HTTP/1.1\r\n");
    request->fields = bytes_from(fields);
    request->body = strdup(body);
    request->body_bytes = strlen(body);
    request->has_length = true;
    request->length = request->body_bytes;
    batching_attach(&scene.batching, &scene.route, asking->fetch);
    entry_reader_join(&asking->reader, &asking->fetch->entry, asking_on_progress);
    fetch_start(asking->fetch);
    return asking;
}

static struct asking *ask(unsigned number, const char *body)
{
    return ask_with(number, body, "X-Request-Id: one\r\n\r\n");
}

static void await(struct asking *asking)
{
    cr_assert(loop_until_true(scene.ring, &asking->is_over));
}

static void leave(struct asking *asking)
{
    entry_reader_leave(&asking->reader);
    fetch_unref(asking->fetch);
}

#endif
