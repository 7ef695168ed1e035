/* The load program's modes and what they share: its options, the opening of many connections, and the two ends of the
 * measured window.
 *
 *   connect all ──▶ "ready" ──▶ warm-up ──▶ window ──▶ one JSON object on stdout
 *
 * Each mode is a file load_MODE.c with one entry. One thread, one ring. */
#ifndef BENCH_LOAD_H
#define BENCH_LOAD_H

#include "bench.h"
#include "histogram.h"
#include "usage.h"

struct load_options {
    const char *mode;
    long port;
    long connections;
    long pipeline; /* requests sent at once, all answered before the next are sent */
    long warmup_ms;
    long window_ms;
    const char *method;
    const char *path;
    const char *body;  /* NULL when there is none */
    long bytes;        /* to upload */
    const char *watch; /* process ids whose CPU time is wanted */
};

enum load_kind { LOAD_CONNECT, LOAD_RECEIVE, LOAD_SEND, LOAD_TIMER, LOAD_SIGNAL };
enum load_phase { LOAD_CONNECTING, LOAD_WARMUP, LOAD_WINDOW, LOAD_OVER };

struct load {
    const struct load_options *options;
    struct bench_ring ring;
    struct bench_pool pool;
    struct sockaddr_in server;
    int signals;
    char *request; /* as often as it is pipelined */
    size_t request_bytes;
    long opened, ready; /* connections begun, and those a mode has called ready */
    enum load_phase phase;
    struct __kernel_timespec timer;
    struct usage begin, end;
};

/* Makes ring, buffers and the request's bytes. Keeps the options until the end of the process. */
void load_init(struct load *load, const struct load_options *options, unsigned buffers, unsigned buffer_bytes);

/* Begins as many connections as may be in progress at once; each completes as LOAD_CONNECT with its descriptor. */
void load_open(struct load *load);
void load_open_one(struct load *load);

/* To be called when a connection has become useful: opens the next, and starts the warm-up at the last. */
void load_ready(struct load *load);

/* To be called for LOAD_TIMER. True when the phase changed; the mode clears its figures when LOAD_WINDOW begins and
 * prints them when LOAD_OVER is reached. */
bool load_tick(struct load *load, uint64_t tag);

void load_receive(struct load *load, int fd);
void load_send_request(struct load *load, int fd);

/* Prints `"NAME":{"p50_us":…,"p90_us":…,"p99_us":…,"p999_us":…}`. */
void load_print_histogram(const char *name, const struct histogram *histogram);

void load_requests(const struct load_options *options, bool hold);
void load_sse(const struct load_options *options);
void load_transfer(const struct load_options *options, bool upload);

#endif
