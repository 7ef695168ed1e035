/* The server's start, run and stop. */
#include "sim/server.h"

#include <stdlib.h>

#include "base/log.h"
#include "sim/internal.h"
#include "sim/profiles.h"

void sim_options_init(struct sim_options *ret_options)
{
    unsigned count;
    *ret_options = (struct sim_options){
        .profile = profiles_all(&count)[0],
        .time_scale_milli = 1000,
        .models = {"sluice-sim"},
        .model_count = 1,
        .embedding_dimensions = 384,
        .ticker_rate_milli = 20000,
        .seed = 1,
        .body_bytes_max = 64 << 20,
        .cpu = -1,
    };
    enum result result = ring_address_parse(BYTES("127.0.0.1:9000"), &ret_options->listen);
    CHECK(result == RESULT_OK);
}

static void on_stop(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct sim *sim = CONTAINER_OF(message, struct sim, stop_message);
    sim->stopping = true;
    ring_timer_cancel(sim->ring, &sim->engine_timer);
    if (sim->listening) {
        ring_listener_stop(&sim->listener);
    }
    for (struct list_node *node = sim->connections.next; node != &sim->connections;) {
        struct sim_connection *c = CONTAINER_OF(node, struct sim_connection, node);
        node = node->next;
        sim_connection_close(c);
    }
}

static void on_listener_stopped(struct ring_listener *listener)
{
    struct sim *sim = CONTAINER_OF(listener, struct sim, listener);
    sim->listening = false;
    if (list_is_empty(&sim->connections)) {
        ring_stop(sim->ring);
    }
}

static void on_accepted(struct ring_listener *listener, int fd)
{
    sim_connection_accept(CONTAINER_OF(listener, struct sim, listener), fd);
}

struct sim *sim_create(const struct sim_options *options)
{
    CHECK(options->model_count > 0 && options->model_count <= SIM_MODELS_MAX);
    CHECK(options->fault_count <= SIM_FAULTS_MAX && options->ticker_rate_milli > 0);
    struct sim *sim = calloc(1, sizeof(*sim));
    if (sim == NULL) {
        return NULL;
    }
    sim->options = *options;
    sim->whole = options->profile;
    sim->group = ring_group_create(1);
    if (sim->group == NULL) {
        free(sim);
        return NULL;
    }
    sim->stop_message.on_deliver = on_stop;
    sim->fault_random = sim_text_mix(options->seed, 0);
    list_init(&sim->connections);
    sim_text_crc_init(&sim->crc);
    /* Printable, without the two characters JSON would escape. */
    for (unsigned i = 0; i < SIM_PATTERN_BYTES; i++) {
        char byte = (char)(33 + (i * UINT64_C(7919) + i / 94) % 94);
        byte = byte == '"' || byte == '\\' ? '_' : byte;
        sim->pattern[i] = byte;
        sim->pattern[i + SIM_PATTERN_BYTES] = byte;
    }
    return sim;
}

void sim_destroy(struct sim *sim)
{
    ring_group_destroy(sim->group);
    free(sim);
}

void sim_stop(struct sim *sim)
{
    if (!atomic_exchange(&sim->stop_asked, true)) {
        ring_group_post(sim->group, 0, &sim->stop_message);
    }
}

static enum result listen_on(struct sim *sim, struct ring_address *ret_address)
{
    int fd = -1;
    enum result result = ring_listen_open(&sim->options.listen, false, &fd);
    if (result != RESULT_OK) {
        char text[RING_ADDRESS_TEXT_MAX];
        ring_address_format(&sim->options.listen, text);
        log_error("cannot listen on %s: %s", text, result == RESULT_REFUSED ? "it is in use" : result_name(result));
        return result;
    }
    *ret_address = ring_listen_address(fd);
    sim->listener.stopped = on_listener_stopped;
    ring_listener_start(sim->ring, &sim->listener, fd, on_accepted);
    sim->listening = true;
    return RESULT_OK;
}

enum result sim_serve(struct sim *sim, void (*on_ready)(void *context, const struct ring_address *address),
                      void *context)
{
    struct ring_options options = {.group = sim->group, .cpu = sim->options.cpu};
    enum result result = ring_create(&options, &sim->ring);
    if (result != RESULT_OK) {
        return result;
    }
    sim->started_unix_s = ring_unix_s(sim->ring);
    sim_glue_init(sim);
    struct ring_address address;
    result = listen_on(sim, &address);
    if (result == RESULT_OK) {
        if (on_ready != NULL) {
            on_ready(context, &address);
        }
        ring_run(sim->ring);
    }
    ring_destroy(sim->ring);
    sim->ring = NULL;
    return result;
}
