/* The ticker: the cheapest backend that feeds many event streams at a steady rate, so that the proxy in front of it is
 * what is measured.
 *
 * Every request (but a GET, which gets a short JSON answer so that health checks are content) opens a stream that lasts
 * until its client goes. Streams are dealt round robin to slots, one slot for each millisecond of the period; a timer
 * wakes once a millisecond and sends the same event to all streams of the slot that is due. An event is one chunk of
 * about 120 bytes in the shape of a chat completion's, with the moment it was made.
 *
 * A reader that has let its socket buffer fill up loses its stream rather than getting half an event. */
#include "bench.h"
#include "http.h"

enum {
    BUFFERS = 256,
    BUFFER_BYTES = 4096,
    SLOTS_MAX = 1000, /* 1 event a second */
    TEXTS = 64,       /* events in memory: the kernel copies them at submit, long before 64 ticks are over */
    TEXT_BYTES = 256,
    TICK_NS = 1000000,
};

enum kind { KIND_ACCEPT, KIND_RECEIVE, KIND_SEND, KIND_TICK, KIND_SIGNAL };

struct stream {
    uint32_t slot, place; /* in slot[].fds, while streaming */
    bool streaming;
    bool has_head;
    uint64_t body_left; /* of the request */
};

struct slot {
    int *fds;
    uint32_t count, room;
};

struct ticker {
    struct bench_ring ring;
    struct bench_pool pool;
    int listener, signals;
    uint32_t slot_count, slot_next; /* for the next stream */
    uint64_t ticks, tick_due_ns;
    uint64_t events;
    struct __kernel_timespec due;
    char text[TEXTS][TEXT_BYTES];
    struct slot slot[SLOTS_MAX];
    struct stream stream[BENCH_FD_MAX];
};

static const char STREAM_HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
                                  "Transfer-Encoding: chunked\r\n\r\n";
static const char JSON_ANSWER[] =
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 71\r\n\r\n"
    "{\"object\":\"list\",\"data\":[{\"id\":\"ticker\",\"object\":\"model\",\"created\":0}]}";

/* A send that succeeds leaves no completion; one that finds no room fails at once instead of waiting. */
static void send_bytes(struct ticker *ticker, int fd, const char *bytes, size_t length)
{
    struct io_uring_sqe *sqe = bench_sqe(&ticker->ring);
    io_uring_prep_send(sqe, fd, bytes, length, MSG_NOSIGNAL | MSG_WAITALL | MSG_DONTWAIT);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, bench_tag(KIND_SEND, 0, fd));
}

static void stream_start(struct ticker *ticker, int fd)
{
    struct stream *stream = &ticker->stream[fd];
    struct slot *slot = &ticker->slot[ticker->slot_next];
    if (slot->count == slot->room) {
        slot->room = slot->room == 0 ? 64 : slot->room * 2;
        slot->fds = realloc(slot->fds, slot->room * sizeof *slot->fds);
        if (slot->fds == NULL)
            bench_die("no memory for %u streams", slot->room);
    }
    stream->streaming = true;
    stream->slot = ticker->slot_next;
    stream->place = slot->count;
    slot->fds[slot->count++] = fd;
    ticker->slot_next = (ticker->slot_next + 1) % ticker->slot_count;
    send_bytes(ticker, fd, STREAM_HEAD, sizeof STREAM_HEAD - 1);
}

static void stream_stop(struct ticker *ticker, int fd)
{
    struct stream *stream = &ticker->stream[fd];
    if (!stream->streaming)
        return;
    struct slot *slot = &ticker->slot[stream->slot];
    int moved = slot->fds[--slot->count];
    slot->fds[stream->place] = moved;
    ticker->stream[moved].place = stream->place;
    stream->streaming = false;
}

static void receive(struct ticker *ticker, int fd)
{
    bench_receive_multishot(&ticker->ring, fd, bench_tag(KIND_RECEIVE, 0, fd));
}

/* Takes the request's head (in one piece, as proxies send it) and body; what follows is not looked at. */
static void read_request(struct ticker *ticker, int fd, const char *bytes, size_t length)
{
    struct stream *stream = &ticker->stream[fd];
    if (stream->streaming)
        return;
    if (!stream->has_head) {
        struct http_head head;
        if (http_head_parse(bytes, length, &head) == HTTP_MORE) {
            shutdown(fd, SHUT_RDWR);
            return;
        }
        if (memcmp(bytes, "GET ", 4) == 0) {
            send_bytes(ticker, fd, JSON_ANSWER, sizeof JSON_ANSWER - 1);
            return;
        }
        stream->has_head = true;
        stream->body_left = head.chunked ? 0 : head.content_length;
        length -= head.bytes;
    }
    stream->body_left -= length < stream->body_left ? length : stream->body_left;
    if (stream->body_left == 0)
        stream_start(ticker, fd);
}

static void on_accept(struct ticker *ticker, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= BENCH_FD_MAX) {
        close(cqe->res);
    } else if (cqe->res >= 0) {
        ticker->stream[cqe->res] = (struct stream){.streaming = false};
        receive(ticker, cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        bench_accept_multishot(&ticker->ring, ticker->listener, bench_tag(KIND_ACCEPT, 0, ticker->listener));
}

static void on_receive(struct ticker *ticker, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res == -ENOBUFS) {
        receive(ticker, fd);
        return;
    }
    if (cqe->res <= 0) {
        stream_stop(ticker, fd);
        close(fd);
        return;
    }
    unsigned id = bench_cqe_buffer(cqe);
    read_request(ticker, fd, bench_pool_buffer(&ticker->pool, id), (size_t)cqe->res);
    bench_pool_release(&ticker->pool, id);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        receive(ticker, fd);
}

/* The failure may come after the stream's end, when its descriptor already names another connection: only a descriptor
 * that still streams is touched. The receive then ends and closes it. */
static void on_send_failed(struct ticker *ticker, int fd)
{
    if (!ticker->stream[fd].streaming)
        return;
    stream_stop(ticker, fd);
    shutdown(fd, SHUT_RDWR);
}

static void timer_arm(struct ticker *ticker)
{
    ticker->due = (struct __kernel_timespec){
        .tv_sec = (long long)(ticker->tick_due_ns / 1000000000u),
        .tv_nsec = (long long)(ticker->tick_due_ns % 1000000000u),
    };
    struct io_uring_sqe *sqe = bench_sqe(&ticker->ring);
    io_uring_prep_timeout(sqe, &ticker->due, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, bench_tag(KIND_TICK, 0, 0));
}

static void send_slot(struct ticker *ticker, uint64_t now_ns)
{
    const struct slot *slot = &ticker->slot[ticker->ticks % ticker->slot_count];
    char event[TEXT_BYTES - 16], *text = ticker->text[ticker->ticks % TEXTS];
    ticker->ticks++;
    ticker->tick_due_ns += TICK_NS;
    if (slot->count == 0)
        return;
    int event_bytes = snprintf(event, sizeof event,
                               "data: {\"object\":\"chat.completion.chunk\",\"t\":%llu,"
                               "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" tick\"}}]}\n\n",
                               (unsigned long long)now_ns);
    int length = snprintf(text, TEXT_BYTES, "%x\r\n%s\r\n", (unsigned)event_bytes, event);
    for (uint32_t i = 0; i < slot->count; i++)
        send_bytes(ticker, slot->fds[i], text, (size_t)length);
    ticker->events += slot->count;
}

/* Ticks that were missed are made up for, so that the rate is what was asked for whatever the core was busy with. */
static void on_tick(struct ticker *ticker)
{
    uint64_t now_ns = bench_now_ns();
    for (uint32_t made_up = 0; ticker->tick_due_ns <= now_ns && made_up < TEXTS / 2; made_up++)
        send_slot(ticker, now_ns);
    timer_arm(ticker);
}

int main(int argc, char **argv)
{
    long port = 0, cpu = -1, rate = 20;
    const struct bench_option options[] = {
        {"--port", "listen on 127.0.0.1:PORT", &port, NULL},
        {"--cpu", "run on this core", &cpu, NULL},
        {"--rate", "events per second on each stream, 1 to 1000 (20)", &rate, NULL},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    if (rate < 1 || rate > 1000)
        bench_die("--rate is from 1 to 1000");
    bench_pin(cpu);
    bench_descriptors_raise();

    struct ticker *ticker = calloc(1, sizeof *ticker);
    if (ticker == NULL)
        bench_die("no memory");
    ticker->slot_count = (uint32_t)(1000 / rate);
    bench_ring_init(&ticker->ring);
    bench_pool_init(&ticker->pool, &ticker->ring, BUFFERS, BUFFER_BYTES);
    ticker->signals = bench_signals(&ticker->ring, bench_tag(KIND_SIGNAL, 0, 0));
    ticker->listener = bench_listen(port);
    bench_accept_multishot(&ticker->ring, ticker->listener, bench_tag(KIND_ACCEPT, 0, ticker->listener));
    ticker->tick_due_ns = bench_now_ns() + TICK_NS;
    timer_arm(ticker);

    for (;;) {
        bench_wait(&ticker->ring);
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&ticker->ring.uring, head, cqe)
        {
            int fd = bench_tag_fd(cqe->user_data);
            seen++;
            switch ((enum kind)bench_tag_kind(cqe->user_data)) {
            case KIND_RECEIVE: on_receive(ticker, cqe, fd); break;
            case KIND_TICK: on_tick(ticker); break;
            case KIND_ACCEPT: on_accept(ticker, cqe); break;
            case KIND_SEND: on_send_failed(ticker, fd); break;
            case KIND_SIGNAL: bench_report(&ticker->ring, ticker->signals, "events", ticker->events); break;
            }
        }
        io_uring_cq_advance(&ticker->ring.uring, seen);
    }
}
