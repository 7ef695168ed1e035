#include "load.h"

enum {
    CONNECTING_MAX = 256, /* below the listeners' backlogs, so that no SYN is dropped and retried a second later */
    CONNECT_TIMEOUT_S = 60,
};

static void timer_start(struct load *load, long ms)
{
    load->timer = (struct __kernel_timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    struct io_uring_sqe *sqe = bench_sqe(&load->ring);
    io_uring_prep_timeout(sqe, &load->timer, 0, 0);
    io_uring_sqe_set_data64(sqe, bench_tag(LOAD_TIMER, (unsigned)load->phase, 0));
}

static void request_init(struct load *load)
{
    const struct load_options *options = load->options;
    size_t body_bytes = options->body != NULL ? strlen(options->body) : 0;
    size_t one_max = strlen(options->path) + body_bytes + 256;
    char *at = load->request = malloc(one_max * (size_t)options->pipeline);
    if (load->request == NULL)
        bench_die("no memory for the request");
    for (long i = 0; i < options->pipeline; i++) {
        at += sprintf(at, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n", options->method, options->path, options->port);
        if (options->body != NULL)
            at += sprintf(at, "Content-Type: application/json\r\nContent-Length: %zu\r\n", body_bytes);
        at += sprintf(at, "\r\n%s", options->body != NULL ? options->body : "");
    }
    load->request_bytes = (size_t)(at - load->request);
}

void load_init(struct load *load, const struct load_options *options, unsigned buffers, unsigned buffer_bytes)
{
    load->options = options;
    load->server = bench_loopback(options->port);
    load->phase = LOAD_CONNECTING;
    bench_ring_init(&load->ring);
    bench_pool_init(&load->pool, &load->ring, buffers, buffer_bytes);
    load->signals = bench_signals(&load->ring, bench_tag(LOAD_SIGNAL, 0, 0));
    request_init(load);
    usage_init(&load->begin, options->watch);
    usage_init(&load->end, options->watch);
    timer_start(load, CONNECT_TIMEOUT_S * 1000);
}

void load_open_one(struct load *load)
{
    int fd = bench_socket();
    struct io_uring_sqe *sqe = bench_sqe(&load->ring);
    io_uring_prep_connect(sqe, fd, (const struct sockaddr *)&load->server, sizeof load->server);
    io_uring_sqe_set_data64(sqe, bench_tag(LOAD_CONNECT, 0, fd));
}

void load_open(struct load *load)
{
    while (load->opened < load->options->connections && load->opened - load->ready < CONNECTING_MAX) {
        load->opened++;
        load_open_one(load);
    }
}

void load_ready(struct load *load)
{
    load->ready++;
    load_open(load);
    if (load->ready == load->options->connections && load->phase == LOAD_CONNECTING) {
        load->phase = LOAD_WARMUP;
        timer_start(load, load->options->warmup_ms);
    }
}

bool load_tick(struct load *load, uint64_t tag)
{
    if (bench_tag_number(tag) != (unsigned)load->phase) /* the time allowed for connecting, long over */
        return false;
    switch (load->phase) {
    case LOAD_CONNECTING:
        bench_die("only %ld of %ld connections were ready after %d s", load->ready, load->options->connections,
                  CONNECT_TIMEOUT_S);
    case LOAD_WARMUP:
        load->phase = LOAD_WINDOW;
        usage_take(&load->begin);
        timer_start(load, load->options->window_ms);
        return true;
    case LOAD_WINDOW:
        load->phase = LOAD_OVER;
        usage_take(&load->end);
        return true;
    case LOAD_OVER: break;
    }
    return false;
}

void load_receive(struct load *load, int fd)
{
    bench_receive_multishot(&load->ring, fd, bench_tag(LOAD_RECEIVE, 0, fd));
}

/* Leaves no completion when it succeeds: the answer is the proof. */
void load_send_request(struct load *load, int fd)
{
    struct io_uring_sqe *sqe = bench_sqe(&load->ring);
    io_uring_prep_send(sqe, fd, load->request, load->request_bytes, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, bench_tag(LOAD_SEND, 0, fd));
}

void load_print_histogram(const char *name, const struct histogram *histogram)
{
    printf("\"%s\":{\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f}", name,
           histogram_quantile(histogram, 0.5) / 1e3, histogram_quantile(histogram, 0.9) / 1e3,
           histogram_quantile(histogram, 0.99) / 1e3, histogram_quantile(histogram, 0.999) / 1e3);
}
