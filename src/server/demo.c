#include "server/demo.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "server/config.h"
#include "server/server.h"
#include "sim/server.h"

struct demo {
    struct sim *sim;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_ready;
    bool has_failed;
    struct ring_address sim_address;
    const char *port;
    const char *admin_port;
};

static void on_sim_ready(void *context, const struct ring_address *address)
{
    struct demo *demo = context;
    pthread_mutex_lock(&demo->lock);
    demo->sim_address = *address;
    demo->is_ready = true;
    pthread_cond_signal(&demo->changed);
    pthread_mutex_unlock(&demo->lock);
}

static void *run_sim(void *context)
{
    struct demo *demo = context;
    if (sim_serve(demo->sim, on_sim_ready, demo) != RESULT_OK) {
        pthread_mutex_lock(&demo->lock);
        demo->has_failed = true;
        pthread_cond_signal(&demo->changed);
        pthread_mutex_unlock(&demo->lock);
    }
    return NULL;
}

static struct bytes make_config(const struct demo *demo, struct arena *arena)
{
    char model[RING_ADDRESS_TEXT_MAX];
    ring_address_format(&demo->sim_address, model);
    return arena_format(arena,
                        "listeners:\n"
                        "  - address: 127.0.0.1:%s\n"
                        "admin:\n"
                        "  address: 127.0.0.1:%s\n"
                        "upstreams:\n"
                        "  - name: simulated-model\n"
                        "    endpoints: [\"%s\"]\n"
                        "routes:\n"
                        "  - name: health\n"
                        "    path: /health\n"
                        "    methods: [GET]\n"
                        "    respond: { status: 200, content_type: application/json, body: '{\"status\":\"ok\"}' }\n"
                        "  - name: requests\n"
                        "    path: /api/requests\n"
                        "    http: { upstream: simulated-model }\n"
                        "  - name: compute\n"
                        "    path: /api/compute\n"
                        "    http: { upstream: simulated-model }\n"
                        "  - name: inference\n"
                        "    path_prefix: /\n"
                        "    inference: { upstream: simulated-model }\n",
                        demo->port, demo->admin_port, model);
}

static void on_server_ready(void *context)
{
    const struct demo *demo = context;
    char model[RING_ADDRESS_TEXT_MAX];
    ring_address_format(&demo->sim_address, model);
    printf("\n"
           "sluice is running on http://127.0.0.1:%s in front of a simulated model on %s.\n"
           "Try, in another terminal:\n"
           "\n"
           "  curl http://127.0.0.1:%s/v1/chat/completions -H 'Content-Type: application/json' -d "
           "'{\"model\":\"sluice-sim\",\"max_tokens\":32,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n"
           "\n"
           "  curl -N http://127.0.0.1:%s/v1/chat/completions -H 'Content-Type: application/json' -d "
           "'{\"model\":\"sluice-sim\",\"stream\":true,\"max_tokens\":32,\"messages\":[{\"role\":\"user\",\"content\":"
           "\"Hello\"}]}'\n"
           "\n"
           "  curl http://127.0.0.1:%s/metrics\n"
           "\n"
           "Also there, for load tests: GET /health, POST /api/requests, POST /api/compute. Ctrl-C stops.\n\n",
           demo->port, model, demo->port, demo->port, demo->admin_port);
    fflush(stdout);
}

static int serve(struct demo *demo)
{
    struct arena arena;
    arena_init(&arena, NULL, 0);
    struct config *config = NULL;
    struct bytes text = make_config(demo, &arena);
    int code = 1;
    if (text.ptr != NULL && config_parse("demo", text, stderr, &config) == RESULT_OK) {
        code = server_run(config, on_server_ready, demo);
        config_destroy(config);
    }
    arena_fini(&arena);
    return code;
}

static bool parse_arguments(struct demo *demo, int count, char **arguments)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(arguments[i], "--port") == 0 && i + 1 < count) {
            demo->port = arguments[++i];
        } else if (strcmp(arguments[i], "--admin-port") == 0 && i + 1 < count) {
            demo->admin_port = arguments[++i];
        } else {
            fprintf(stderr,
                    "sluice demo: unknown argument %s\n"
                    "usage: sluice demo [--port 8080] [--admin-port 9901]\n",
                    arguments[i]);
            return false;
        }
    }
    return true;
}

int demo_run(int argument_count, char **arguments)
{
    struct demo demo = {.port = "8080", .admin_port = "9901"};
    if (!parse_arguments(&demo, argument_count, arguments)) {
        return 2;
    }
    /* Blocked before any thread starts, so that the server's main thread alone takes them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);

    struct sim_options options;
    sim_options_init(&options);
    if (ring_address_parse(BYTES("127.0.0.1:0"), &options.listen) != RESULT_OK) {
        return 1;
    }
    demo.sim = sim_create(&options);
    if (demo.sim == NULL) {
        log_error("out of memory");
        return 1;
    }
    pthread_mutex_init(&demo.lock, NULL);
    pthread_cond_init(&demo.changed, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, run_sim, &demo) != 0) {
        log_error("cannot start a thread for the simulated model");
        sim_destroy(demo.sim);
        return 1;
    }
    pthread_mutex_lock(&demo.lock);
    while (!demo.is_ready && !demo.has_failed) {
        pthread_cond_wait(&demo.changed, &demo.lock);
    }
    bool failed = demo.has_failed;
    pthread_mutex_unlock(&demo.lock);
    int code = failed ? 1 : serve(&demo);
    sim_stop(demo.sim);
    pthread_join(thread, NULL);
    sim_destroy(demo.sim);
    return code;
}
