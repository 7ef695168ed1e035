/* The load: a client cheap enough that the core it runs on is not what limits a server on another core.
 *
 *   --mode requests   N keep-alive connections, each asking again when it is answered (or 16 at a time: --pipeline)
 *   --mode hold       N connections with one request each, held idle until SIGTERM
 *   --mode sse        N event streams
 *   --mode download   one big body, checked byte for byte
 *   --mode upload     the same the other way
 *
 * Prints one JSON object, with the CPU time that the processes in --watch spent in exactly the measured window. */
#include "load.h"

int main(int argc, char **argv)
{
    long cpu = -1;
    struct load_options load = {
        .mode = "requests",
        .connections = 64,
        .pipeline = 1,
        .warmup_ms = 500,
        .window_ms = 3000,
        .method = "GET",
        .path = "/",
        .bytes = 1 << 30,
    };
    const struct bench_option options[] = {
        {"--mode", "requests, hold, sse, download or upload (requests)", NULL, &load.mode},
        {"--port", "connect to 127.0.0.1:PORT", &load.port, NULL},
        {"--cpu", "run on this core", &cpu, NULL},
        {"--connections", "how many (64)", &load.connections, NULL},
        {"--pipeline", "requests sent at once (1)", &load.pipeline, NULL},
        {"--warmup-ms", "not measured, before the window (500)", &load.warmup_ms, NULL},
        {"--window-ms", "measured (3000)", &load.window_ms, NULL},
        {"--method", "(GET)", NULL, &load.method},
        {"--path", "(/)", NULL, &load.path},
        {"--body", "sent with each request as application/json", NULL, &load.body},
        {"--bytes", "size of an upload (1 GiB)", &load.bytes, NULL},
        {"--watch", "PID,PID: report their CPU time", NULL, &load.watch},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    if (load.port == 0 || load.connections == 0 || load.pipeline == 0)
        bench_die("--port is needed, --connections and --pipeline must be at least 1");
    bench_pin(cpu);
    bench_descriptors_raise();
    if (strcmp(load.mode, "requests") == 0)
        load_requests(&load, false);
    else if (strcmp(load.mode, "hold") == 0)
        load_requests(&load, true);
    else if (strcmp(load.mode, "sse") == 0)
        load_sse(&load);
    else if (strcmp(load.mode, "download") == 0)
        load_transfer(&load, false);
    else if (strcmp(load.mode, "upload") == 0)
        load_transfer(&load, true);
    else
        bench_die("there is no mode '%s'", load.mode);
    return 0;
}
