/* The floor: the least an io_uring server can do for an HTTP request on one core.
 *
 * It understands nothing: for every blank line that ends a request head it sends one fixed 200 answer, and all the
 * answers one receive asks for leave in one send. What a real server spends above this is its own doing. It also
 * plays the backend behind the proxies, where its cheapness keeps the load's core from becoming the bottleneck.
 *
 * Limits, which the load programs respect: a request's body must hold no blank line; a client that pipelines waits
 * for all answers before it sends more, because sends are fired without waiting for the one before. */
#include "bench.h"

enum {
    BUFFERS = 1024, /* each goes back within the turn that received it */
    BUFFER_BYTES = 2048,
    ANSWERS_PER_SEND_MAX = 64,
};

enum kind { KIND_ACCEPT, KIND_RECEIVE, KIND_SEND, KIND_SIGNAL };

struct floor {
    struct bench_ring ring;
    struct bench_pool pool;
    int listener;
    int signals;
    char *answers; /* ANSWERS_PER_SEND_MAX copies, back to back */
    size_t answer_bytes;
    uint64_t requests;
    uint8_t matched[BENCH_FD_MAX]; /* how much of CR LF CR LF the last receive on this descriptor ended with */
};

static const char BLANK_LINE[] = "\r\n\r\n";

static void answers_init(struct floor *floor, size_t body_bytes, long max_age_s)
{
    char head[256];
    char lifetime[64] = "";
    if (max_age_s > 0)
        snprintf(lifetime, sizeof lifetime, "Cache-Control: max-age=%ld\r\n", max_age_s);
    int head_bytes =
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%sContent-Length: %zu\r\n\r\n",
                 lifetime, body_bytes);
    floor->answer_bytes = (size_t)head_bytes + body_bytes;
    floor->answers = malloc(floor->answer_bytes * ANSWERS_PER_SEND_MAX);
    if (floor->answers == NULL)
        bench_die("no memory for answers of %zu bytes", body_bytes);
    for (size_t i = 0; i < ANSWERS_PER_SEND_MAX; i++) {
        char *answer = floor->answers + i * floor->answer_bytes;
        memcpy(answer, head, (size_t)head_bytes);
        memset(answer + head_bytes, 'x', body_bytes);
    }
}

static void receive(struct floor *floor, int fd)
{
    bench_receive_multishot(&floor->ring, fd, bench_tag(KIND_RECEIVE, 0, fd));
}

/* A send that succeeds leaves no completion: nothing is waiting for it. */
static void answer(struct floor *floor, int fd, unsigned count)
{
    floor->requests += count;
    while (count > 0) {
        unsigned now = count < ANSWERS_PER_SEND_MAX ? count : ANSWERS_PER_SEND_MAX;
        struct io_uring_sqe *sqe = bench_sqe(&floor->ring);
        io_uring_prep_send(sqe, fd, floor->answers, floor->answer_bytes * now, MSG_NOSIGNAL | MSG_WAITALL);
        sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
        io_uring_sqe_set_data64(sqe, bench_tag(KIND_SEND, 0, fd));
        count -= now;
    }
}

/* Counts the blank lines in the bytes, the one begun in an earlier receive included. */
static unsigned heads_ended(uint8_t *matched, const char *bytes, size_t length)
{
    const char *at = bytes, *end = bytes + length;
    unsigned count = 0, state = *matched;
    while (state != 0 && at < end) {
        state = *at == BLANK_LINE[state] ? state + 1 : *at == '\r';
        at++;
        if (state == 4) {
            count++;
            state = 0;
        }
    }
    const char *found;
    while ((found = memmem(at, (size_t)(end - at), BLANK_LINE, 4)) != NULL) {
        count++;
        at = found + 4;
    }
    if (at < end) { /* what is left may end with the beginning of a blank line */
        size_t left = (size_t)(end - at);
        for (state = left < 3 ? (unsigned)left : 3; state > 0; state--)
            if (memcmp(end - state, BLANK_LINE, state) == 0)
                break;
    }
    *matched = (uint8_t)state;
    return count;
}

static void on_accept(struct floor *floor, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= BENCH_FD_MAX) {
        close(cqe->res);
    } else if (cqe->res >= 0) {
        floor->matched[cqe->res] = 0;
        receive(floor, cqe->res);
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        bench_accept_multishot(&floor->ring, floor->listener, bench_tag(KIND_ACCEPT, 0, floor->listener));
}

static void on_receive(struct floor *floor, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res == -ENOBUFS) { /* they are back by the time this is submitted */
        receive(floor, fd);
        return;
    }
    if (cqe->res <= 0) {
        close(fd);
        return;
    }
    unsigned id = bench_cqe_buffer(cqe);
    unsigned count = heads_ended(&floor->matched[fd], bench_pool_buffer(&floor->pool, id), (size_t)cqe->res);
    bench_pool_release(&floor->pool, id);
    if (count > 0)
        answer(floor, fd, count);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        receive(floor, fd);
}

int main(int argc, char **argv)
{
    long port = 0, cpu = -1, body_bytes = 1024, max_age_s = 0;
    const struct bench_option options[] = {
        {"--port", "listen on 127.0.0.1:PORT", &port, NULL},
        {"--cpu", "run on this core", &cpu, NULL},
        {"--body", "bytes of body in each answer (1024)", &body_bytes, NULL},
        {"--max-age", "seconds that caches may keep an answer; 0: it says nothing of that (0)", &max_age_s, NULL},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    bench_pin(cpu);
    bench_descriptors_raise();

    struct floor *floor = calloc(1, sizeof *floor);
    if (floor == NULL)
        bench_die("no memory");
    answers_init(floor, (size_t)body_bytes, max_age_s);
    bench_ring_init(&floor->ring);
    bench_pool_init(&floor->pool, &floor->ring, BUFFERS, BUFFER_BYTES);
    floor->signals = bench_signals(&floor->ring, bench_tag(KIND_SIGNAL, 0, 0));
    floor->listener = bench_listen(port);
    bench_accept_multishot(&floor->ring, floor->listener, bench_tag(KIND_ACCEPT, 0, floor->listener));

    for (;;) {
        bench_wait(&floor->ring);
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&floor->ring.uring, head, cqe)
        {
            seen++;
            switch ((enum kind)bench_tag_kind(cqe->user_data)) {
            case KIND_RECEIVE: on_receive(floor, cqe, bench_tag_fd(cqe->user_data)); break;
            case KIND_ACCEPT: on_accept(floor, cqe); break;
            case KIND_SEND: break; /* failed; the receive ends by itself */
            case KIND_SIGNAL: bench_report(&floor->ring, floor->signals, "requests", floor->requests); break;
            }
        }
        io_uring_cq_advance(&floor->ring.uring, seen);
    }
}
