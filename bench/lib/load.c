#include "load.h"

#include <netinet/in.h>

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

/* Loopback is nobody else's. Any other address has to be said twice, so that a slip of the pen loads nobody's server.
 */
static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
}

static void address_init(struct load *load)
{
    const struct load_options *options = load->options;
    struct sockaddr_in *v4 = (struct sockaddr_in *)&load->server;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&load->server;
    if (inet_pton(AF_INET, options->address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)options->port);
        load->server_bytes = sizeof *v4;
    } else if (inet_pton(AF_INET6, options->address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)options->port);
        load->server_bytes = sizeof *v6;
    } else {
        bench_die("not an address in digits: '%s'", options->address);
    }
    if (!is_loopback(&load->server) && (options->mine == NULL || strcmp(options->mine, options->address) != 0))
        bench_die("%s is not this machine; for a host that is yours to load, add --host-is-mine %s", options->address,
                  options->address);
}

/* Copies the text with digits in place of each {n}. */
static char *copy_numbered(struct load *load, char *at, const char *text)
{
    for (const char *mark; (mark = strstr(text, "{n}")) != NULL; text = mark + 3) {
        at = mempcpy(at, text, (size_t)(mark - text));
        if (load->number_count == LOAD_NUMBERS_MAX)
            bench_die("{n} stands more than %d times in the request", LOAD_NUMBERS_MAX);
        load->number_at[load->number_count++] = (size_t)(at - load->request);
        memcpy(at, "1000000000", LOAD_NUMBER_DIGITS);
        at += LOAD_NUMBER_DIGITS;
    }
    return stpcpy(at, text);
}

static size_t numbered_bytes(const char *text)
{
    size_t bytes = strlen(text);
    for (const char *mark = text; (mark = strstr(mark, "{n}")) != NULL; mark += 3)
        bytes += LOAD_NUMBER_DIGITS - 3;
    return bytes;
}

static char *copy_headers(char *at, const char *lines)
{
    while (*lines != '\0') {
        size_t length = strcspn(lines, "\n");
        at = stpcpy(mempcpy(at, lines, length), "\r\n");
        lines += length + (lines[length] == '\n');
    }
    return at;
}

static char *copy_request(struct load *load, char *at)
{
    const struct load_options *options = load->options;
    at = stpcpy(stpcpy(at, options->method), " ");
    at = stpcpy(copy_numbered(load, at, options->path), " HTTP/1.1\r\nHost: ");
    if (options->authority != NULL)
        at = stpcpy(at, options->authority);
    else
        at += sprintf(at, load->server.ss_family == AF_INET ? "%s:%ld" : "[%s]:%ld", options->address, options->port);
    at = stpcpy(at, "\r\n");
    if (options->headers != NULL)
        at = copy_headers(at, options->headers);
    if (options->body != NULL)
        at += sprintf(at, "Content-Type: application/json\r\nContent-Length: %zu\r\n", numbered_bytes(options->body));
    at = stpcpy(at, "\r\n");
    return options->body != NULL ? copy_numbered(load, at, options->body) : at;
}

static void request_init(struct load *load)
{
    const struct load_options *options = load->options;
    const char *parts[] = {options->method, options->path, options->authority, options->headers, options->body};
    size_t one_max = 256;
    for (size_t i = 0; i < sizeof parts / sizeof *parts;
         i++) /* a line end in a header takes one byte more than it has */
        one_max += parts[i] != NULL ? 2 * numbered_bytes(parts[i]) : 0;
    char *at = load->request = malloc(one_max * (size_t)options->pipeline);
    if (load->request == NULL)
        bench_die("no memory for the request");
    for (long i = 0; i < options->pipeline; i++) {
        load->number_count = 0;
        at = copy_request(load, at);
    }
    load->request_bytes = (size_t)(at - load->request);
}

void load_init(struct load *load, const struct load_options *options, unsigned buffers, unsigned buffer_bytes)
{
    load->options = options;
    address_init(load);
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
    int fd = bench_socket_of(load->server.ss_family);
    struct io_uring_sqe *sqe = bench_sqe(&load->ring);
    io_uring_prep_connect(sqe, fd, (const struct sockaddr *)&load->server, load->server_bytes);
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
void load_send(struct load *load, int fd, const char *bytes, size_t length)
{
    struct io_uring_sqe *sqe = bench_sqe(&load->ring);
    io_uring_prep_send(sqe, fd, bytes, length, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, bench_tag(LOAD_SEND, 0, fd));
}

void load_send_request(struct load *load, int fd)
{
    load_send(load, fd, load->request, load->request_bytes);
}

void load_print_histogram(const char *name, const struct histogram *histogram)
{
    printf("\"%s\":{\"p50_us\":%.3f,\"p90_us\":%.3f,\"p99_us\":%.3f,\"p999_us\":%.3f}", name,
           histogram_quantile(histogram, 0.5) / 1e3, histogram_quantile(histogram, 0.9) / 1e3,
           histogram_quantile(histogram, 0.99) / 1e3, histogram_quantile(histogram, 0.999) / 1e3);
}
