/* Many server-sent event streams at once: counts the events of all, the gaps between those of each, and, when they
 * carry the moment they were made ("t": CLOCK_MONOTONIC in ns, as the ticker's do), how long they were on their way. */
#include "events.h"
#include "http.h"
#include "load.h"

enum {
    BUFFERS = 1024,
    BUFFER_BYTES = 4096,
};

struct stream {
    uint64_t last_event_ns;
    struct http_body body;
    bool in_body;
    struct events events;
};

struct sse {
    struct load load;
    struct histogram gap, delay;
    uint64_t now_ns;
    uint64_t events, events_ever, ended, bad_status;
    struct stream stream[BENCH_FD_MAX];
};

static void on_event(struct sse *sse, struct stream *stream)
{
    sse->events++;
    sse->events_ever++;
    if (stream->last_event_ns == 0)
        load_ready(&sse->load);
    else
        histogram_add(&sse->gap, sse->now_ns - stream->last_event_ns);
    stream->last_event_ns = sse->now_ns;
}

static void measure_delay(struct sse *sse, const char *line, size_t length)
{
    const char *mark = memmem(line, length, "\"t\":", 4);
    if (mark == NULL)
        return;
    uint64_t made_ns = strtoull(mark + 4, NULL, 10); /* ends at the comma: the line is whole */
    if (made_ns < sse->now_ns)
        histogram_add(&sse->delay, sse->now_ns - made_ns);
}

static void read_events(struct sse *sse, struct stream *stream, const char *bytes, size_t length)
{
    const char *end = bytes + length;
    while (bytes < end) {
        const char *line = bytes;
        bool is_whole = !stream->events.in_line;
        if (events_next(&stream->events, &bytes, end))
            on_event(sse, stream);
        else if (is_whole && bytes[-1] == '\n')
            measure_delay(sse, line, (size_t)(bytes - 1 - line));
    }
}

static void read_stream(struct sse *sse, int fd, const char *bytes, size_t length)
{
    struct stream *stream = &sse->stream[fd];
    if (!stream->in_body) { /* a head of a few hundred bytes; that it comes in one piece is part of the set-up */
        struct http_head head;
        if (http_head_parse(bytes, length, &head) == HTTP_MORE)
            bench_die("the head of a stream came in pieces");
        sse->bad_status += head.status != 200;
        http_body_init(&stream->body, &head);
        stream->in_body = true;
        bytes += head.bytes;
        length -= head.bytes;
    }
    while (length > 0) {
        const char *payload;
        size_t payload_length, used;
        enum http_outcome outcome = http_body_step(&stream->body, bytes, length, &payload, &payload_length, &used);
        read_events(sse, stream, payload, payload_length);
        if (outcome != HTTP_MORE) {
            shutdown(fd, SHUT_RDWR);
            return;
        }
        bytes += used;
        length -= used;
    }
}

static void on_receive(struct sse *sse, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res == -ENOBUFS) {
        load_receive(&sse->load, fd);
        return;
    }
    if (cqe->res <= 0) {
        if (sse->ended++ == 0 && sse->load.phase == LOAD_CONNECTING)
            bench_die("a stream ended before all had begun");
        close(fd);
        return;
    }
    unsigned id = bench_cqe_buffer(cqe);
    read_stream(sse, fd, bench_pool_buffer(&sse->load.pool, id), (size_t)cqe->res);
    bench_pool_release(&sse->load.pool, id);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        load_receive(&sse->load, fd);
}

static void on_connect(struct sse *sse, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res < 0)
        bench_die("cannot connect to 127.0.0.1:%ld: %s", sse->load.options->port, strerror(-cqe->res));
    sse->stream[fd] = (struct stream){.last_event_ns = 0};
    load_receive(&sse->load, fd);
    load_send_request(&sse->load, fd);
}

static void on_tick(struct sse *sse, uint64_t tag)
{
    const struct load *load = &sse->load;
    if (!load_tick(&sse->load, tag))
        return;
    if (load->phase == LOAD_WINDOW) {
        sse->events = sse->ended = 0;
        memset(&sse->gap, 0, sizeof sse->gap);
        memset(&sse->delay, 0, sizeof sse->delay);
        return;
    }
    printf("{\"streams\":%ld,\"events\":%llu,\"events_ever\":%llu,\"per_s\":%.1f,\"ended\":%llu,\"bad_status\":%llu,",
           load->ready, (unsigned long long)sse->events, (unsigned long long)sse->events_ever,
           (double)sse->events / ((double)(load->end.at_ns - load->begin.at_ns) / 1e9), (unsigned long long)sse->ended,
           (unsigned long long)sse->bad_status);
    load_print_histogram("gap", &sse->gap);
    printf(",");
    if (sse->delay.count > 0) {
        load_print_histogram("delay", &sse->delay);
        printf(",");
    }
    usage_print(&load->begin, &load->end);
    printf("}\n");
    exit(0);
}

void load_sse(const struct load_options *options)
{
    struct sse *sse = calloc(1, sizeof *sse);
    if (sse == NULL)
        bench_die("no memory");
    load_init(&sse->load, options, BUFFERS, BUFFER_BYTES);
    struct bench_ring *ring = &sse->load.ring;
    load_open(&sse->load);
    for (;;) {
        bench_wait(ring);
        sse->now_ns = bench_now_ns();
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&ring->uring, head, cqe)
        {
            int fd = bench_tag_fd(cqe->user_data);
            seen++;
            switch ((enum load_kind)bench_tag_kind(cqe->user_data)) {
            case LOAD_RECEIVE: on_receive(sse, cqe, fd); break;
            case LOAD_CONNECT: on_connect(sse, cqe, fd); break;
            case LOAD_SEND: break; /* failed; the receive ends by itself */
            case LOAD_TIMER: on_tick(sse, cqe->user_data); break;
            case LOAD_SIGNAL: bench_report(ring, sse->load.signals, "events_ever", sse->events_ever); break;
            }
        }
        io_uring_cq_advance(&ring->uring, seen);
    }
}
