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

enum {
    LOAD_NUMBERS_MAX = 8,
    LOAD_NUMBER_DIGITS = 10, /* of what stands for {n}: from 1,000,000,000 on, so that the length is always the same */
};

struct load_options {
    const char *mode;
    const char *address;   /* IPv4 or IPv6, as digits */
    const char *authority; /* for Host; NULL: address and port */
    const char *mine;      /* the address once more, for one that is not loopback */
    long port;
    long connections;
    long pipeline; /* requests sent at once, all answered before the next are sent */
    long warmup_ms;
    long window_ms;
    const char *method;
    const char *path;
    const char *headers; /* further lines of the head, each ended by a newline but the last; NULL when there are none */
    const char *body;    /* NULL when there is none */
    long bytes;          /* to upload */
    const char *watch;   /* process ids whose CPU time is wanted */

    /* of the mode paced alone */
    const char *rate;     /* requests a second; NULL: each connection asks again when it is answered */
    const char *arrivals; /* even or poisson */
    long keys;            /* {n} is one of so many by chance; 0: another in each request */
    long grace_ms;        /* for those that are under way when the window ends */
    long interval_ms;     /* a line of figures so often; 0: none */
    long seed;
};

enum load_kind { LOAD_CONNECT, LOAD_RECEIVE, LOAD_SEND, LOAD_TIMER, LOAD_SIGNAL };
enum load_phase { LOAD_CONNECTING, LOAD_WARMUP, LOAD_WINDOW, LOAD_OVER };

struct load {
    const struct load_options *options;
    struct bench_ring ring;
    struct bench_pool pool;
    struct sockaddr_storage server;
    socklen_t server_bytes;
    int signals;
    char *request; /* as often as it is pipelined */
    size_t request_bytes;
    size_t number_at[LOAD_NUMBERS_MAX]; /* where digits stand for {n}, in a request that is not pipelined */
    unsigned number_count;
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

/* Sends bytes that stay as they are until the answer has come. */
void load_send(struct load *load, int fd, const char *bytes, size_t length);
void load_send_request(struct load *load, int fd);

/* Prints `"NAME":{"p50_us":…,"p90_us":…,"p99_us":…,"p999_us":…}`. */
void load_print_histogram(const char *name, const struct histogram *histogram);

void load_requests(const struct load_options *options, bool hold);
void load_sse(const struct load_options *options);
void load_transfer(const struct load_options *options, bool upload);
void load_paced(const struct load_options *options);

#endif
