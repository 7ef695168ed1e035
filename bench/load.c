/* The load: a client cheap enough that the core it runs on is not what limits a server on another core.
 *
 *   --mode requests   N keep-alive connections, each asking again when it is answered (or 16 at a time: --pipeline)
 *   --mode hold       N connections with one request each, held idle until SIGTERM
 *   --mode paced      the same at --rate R whatever becomes of those before (open loop), with latencies from the moment
 *                     each was due, first events, tokens and the gaps between them; without --rate as requests does
 *   --mode sse        N event streams without end
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
        .address = "127.0.0.1",
        .arrivals = "even",
        .grace_ms = 5000,
        .seed = 1,
        .connections = 64,
        .pipeline = 1,
        .warmup_ms = 500,
        .window_ms = 3000,
        .method = "GET",
        .path = "/",
        .bytes = 1 << 30,
    };
    const struct bench_option options[] = {
        {"--mode", "requests, paced, hold, sse, download or upload (requests)", NULL, &load.mode},
        {"--port", "connect to this port", &load.port, NULL},
        {"--address", "of this address, in digits (127.0.0.1)", NULL, &load.address},
        {"--host-is-mine", "the address once more: needed for any but loopback", NULL, &load.mine},
        {"--authority", "what Host says (address and port)", NULL, &load.authority},
        {"--cpu", "run on this core", &cpu, NULL},
        {"--connections", "how many (64)", &load.connections, NULL},
        {"--pipeline", "requests sent at once (1)", &load.pipeline, NULL},
        {"--warmup-ms", "not measured, before the window (500)", &load.warmup_ms, NULL},
        {"--window-ms", "measured (3000)", &load.window_ms, NULL},
        {"--method", "(GET)", NULL, &load.method},
        {"--path", "(/); in path and body {n} becomes a number of ten digits", NULL, &load.path},
        {"--headers", "further lines of the head, a newline between them", NULL, &load.headers},
        {"--body", "sent with each request as application/json", NULL, &load.body},
        {"--rate", "paced: requests a second, due whatever becomes of those before", NULL, &load.rate},
        {"--arrivals", "paced: even or poisson (even)", NULL, &load.arrivals},
        {"--keys", "paced: {n} is one of so many by chance (0: each request another)", &load.keys, NULL},
        {"--grace-ms", "paced: how long answers are waited for after the window (5000)", &load.grace_ms, NULL},
        {"--interval-ms", "paced: a line of figures so often (0: none)", &load.interval_ms, NULL},
        {"--seed", "paced: of what is by chance, and the first {n} (1)", &load.seed, NULL},
        {"--bytes", "size of an upload (1 GiB)", &load.bytes, NULL},
        {"--watch", "PID,PID: report their CPU time", NULL, &load.watch},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    if (load.port == 0 || load.connections == 0 || load.pipeline == 0)
        bench_die("--port is needed, --connections and --pipeline must be at least 1");
    if (strcmp(load.method, "HEAD") == 0)
        bench_die("answers to HEAD cannot be told from others here");
    if (strcmp(load.mode, "paced") == 0 && load.pipeline != 1)
        bench_die("--mode paced sends one request after the other on a connection");
    bench_pin(cpu);
    bench_descriptors_raise();
    if (strcmp(load.mode, "requests") == 0)
        load_requests(&load, false);
    else if (strcmp(load.mode, "hold") == 0)
        load_requests(&load, true);
    else if (strcmp(load.mode, "paced") == 0)
        load_paced(&load);
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
