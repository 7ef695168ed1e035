/* The relay: the least a proxy on one io_uring and one core can do. It copies bytes between a client and its own
 * upstream connection and knows nothing of HTTP; what a real proxy spends above this is its own doing.
 *
 * Bytes received on one socket of a pair wait in that side's queue, in the provided buffers they were received into,
 * and leave in order: one send in flight per direction, because a second one could overtake a first that waits for
 * room. A buffer goes back to the pool when its send is complete. When all are taken, receives end with -ENOBUFS;
 * those sides are listed and armed again once half of the pool is back.
 *
 *   client ══▶ side[client] ──queue──▶ send to side[client].peer ══▶ backend     and the same the other way round
 *
 * Limit: nothing but the pool bounds what a reader that stalls may hold, so one that never reads again can stop
 * the others. The load programs read. */
#include "bench.h"

#include <sys/socket.h>

enum {
    /* An answer of 64 KB passes in one piece. Measured with proxied-64k, CPU per answer: 62 us with 512 buffers of 4
     * KB, 34 with 16 KB, 23 with 33 KB, 21 with these; with proxied-1k and sse-fanout the size makes no difference. */
    BUFFERS = 512,
    BUFFER_BYTES = 67648,
    NONE = 0xffff, /* end of a queue of buffers */
};
_Static_assert(BUFFERS < NONE, "a buffer's number must not look like the end of a queue");

enum kind { KIND_ACCEPT, KIND_CONNECT, KIND_RECEIVE, KIND_SEND, KIND_SIGNAL };

struct side {
    int peer;
    uint16_t first, last; /* buffers received here that the peer has not taken yet */
    bool receiving;       /* a multishot receive is armed */
    bool starved;         /* listed, waiting for buffers */
    bool sending;         /* the first buffer is on its way to the peer */
    bool ended;           /* no more bytes will come from here */
};

struct chunk {
    uint16_t next;
    uint32_t sent_bytes, bytes;
};

struct relay {
    struct bench_ring ring;
    struct bench_pool pool;
    struct sockaddr_in upstream;
    int listener;
    int signals;
    unsigned buffers_held;
    unsigned starved_count;
    uint64_t chunks; /* receives passed on */
    struct chunk chunk[BUFFERS];
    int starved[BENCH_FD_MAX];
    struct side side[BENCH_FD_MAX];
};

static void receive(struct relay *relay, int fd)
{
    relay->side[fd].receiving = true;
    bench_receive_multishot(&relay->ring, fd, bench_tag(KIND_RECEIVE, 0, fd));
}

static void send_first(struct relay *relay, int fd)
{
    struct side *side = &relay->side[fd];
    const struct chunk *chunk = &relay->chunk[side->first];
    struct io_uring_sqe *sqe = bench_sqe(&relay->ring);
    side->sending = true;
    io_uring_prep_send(sqe, side->peer, bench_pool_buffer(&relay->pool, side->first) + chunk->sent_bytes,
                       chunk->bytes - chunk->sent_bytes, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data64(sqe, bench_tag(KIND_SEND, 0, fd));
}

static void release_first(struct relay *relay, struct side *side)
{
    unsigned id = side->first;
    side->first = relay->chunk[id].next;
    relay->buffers_held--;
    bench_pool_release(&relay->pool, id);
}

static bool side_is_quiet(const struct side *side)
{
    return side->ended && !side->receiving && !side->starved && !side->sending;
}

/* Passes the end of the stream on once everything before it has left, and closes the pair when both ends are through
 * and the kernel holds nothing of it any more. */
static void finish(struct relay *relay, int fd)
{
    struct side *side = &relay->side[fd];
    if (side->ended && side->first == NONE)
        shutdown(side->peer, SHUT_WR);
    if (side_is_quiet(side) && side_is_quiet(&relay->side[side->peer])) {
        close(side->peer);
        close(fd);
    }
}

/* Breaks a pair: both receives end, and what is queued is dropped as its sends fail. */
static void abandon(struct relay *relay, int fd)
{
    shutdown(fd, SHUT_RDWR);
    shutdown(relay->side[fd].peer, SHUT_RDWR);
}

static void on_accept(struct relay *relay, const struct io_uring_cqe *cqe)
{
    if (cqe->res >= BENCH_FD_MAX) {
        close(cqe->res);
    } else if (cqe->res >= 0) {
        int client = cqe->res, backend = bench_socket();
        relay->side[client] = (struct side){.peer = backend, .first = NONE};
        relay->side[backend] = (struct side){.peer = client, .first = NONE};
        struct io_uring_sqe *sqe = bench_sqe(&relay->ring);
        io_uring_prep_connect(sqe, backend, (const struct sockaddr *)&relay->upstream, sizeof relay->upstream);
        io_uring_sqe_set_data64(sqe, bench_tag(KIND_CONNECT, 0, backend));
    }
    if (!(cqe->flags & IORING_CQE_F_MORE))
        bench_accept_multishot(&relay->ring, relay->listener, bench_tag(KIND_ACCEPT, 0, relay->listener));
}

static void on_connect(struct relay *relay, const struct io_uring_cqe *cqe, int backend)
{
    int client = relay->side[backend].peer;
    if (cqe->res < 0) {
        close(backend);
        close(client);
        return;
    }
    receive(relay, client);
    receive(relay, backend);
}

static void on_receive(struct relay *relay, const struct io_uring_cqe *cqe, int fd)
{
    struct side *side = &relay->side[fd];
    side->receiving = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res > 0) {
        unsigned id = bench_cqe_buffer(cqe);
        relay->buffers_held++;
        relay->chunks++;
        relay->chunk[id] = (struct chunk){.next = NONE, .bytes = (uint32_t)cqe->res};
        if (side->first == NONE)
            side->first = (uint16_t)id;
        else
            relay->chunk[side->last].next = (uint16_t)id;
        side->last = (uint16_t)id;
        if (!side->sending)
            send_first(relay, fd);
        if (!side->receiving)
            receive(relay, fd);
    } else if (cqe->res == -ENOBUFS) {
        side->starved = true;
        relay->starved[relay->starved_count++] = fd;
    } else {
        side->ended = true;
        if (cqe->res < 0)
            abandon(relay, fd);
        finish(relay, fd);
    }
}

static void on_send(struct relay *relay, const struct io_uring_cqe *cqe, int fd)
{
    struct side *side = &relay->side[fd];
    side->sending = false;
    if (cqe->res < 0) {
        while (side->first != NONE)
            release_first(relay, side);
        abandon(relay, fd);
        finish(relay, fd);
        return;
    }
    struct chunk *chunk = &relay->chunk[side->first];
    chunk->sent_bytes += (uint32_t)cqe->res;
    if (chunk->sent_bytes == chunk->bytes)
        release_first(relay, side);
    if (side->first != NONE)
        send_first(relay, fd);
    else if (side->ended)
        finish(relay, fd);
}

/* Runs once a turn, so that a shortage that ended within the turn is noticed too. */
static void feed_starved(struct relay *relay)
{
    if (relay->starved_count == 0 || relay->buffers_held > BUFFERS / 2)
        return;
    for (unsigned i = 0; i < relay->starved_count; i++) {
        relay->side[relay->starved[i]].starved = false;
        receive(relay, relay->starved[i]);
    }
    relay->starved_count = 0;
}

int main(int argc, char **argv)
{
    long port = 0, upstream = 0, cpu = -1;
    const struct bench_option options[] = {
        {"--port", "listen on 127.0.0.1:PORT", &port, NULL},
        {"--upstream", "connect to 127.0.0.1:PORT, once for each client", &upstream, NULL},
        {"--cpu", "run on this core", &cpu, NULL},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    bench_pin(cpu);
    bench_descriptors_raise();

    struct relay *relay = calloc(1, sizeof *relay);
    if (relay == NULL)
        bench_die("no memory");
    relay->upstream = bench_loopback(upstream);
    bench_ring_init(&relay->ring);
    bench_pool_init(&relay->pool, &relay->ring, BUFFERS, BUFFER_BYTES);
    relay->signals = bench_signals(&relay->ring, bench_tag(KIND_SIGNAL, 0, 0));
    relay->listener = bench_listen(port);
    bench_accept_multishot(&relay->ring, relay->listener, bench_tag(KIND_ACCEPT, 0, relay->listener));

    for (;;) {
        bench_wait(&relay->ring);
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&relay->ring.uring, head, cqe)
        {
            int fd = bench_tag_fd(cqe->user_data);
            seen++;
            switch ((enum kind)bench_tag_kind(cqe->user_data)) {
            case KIND_RECEIVE: on_receive(relay, cqe, fd); break;
            case KIND_SEND: on_send(relay, cqe, fd); break;
            case KIND_ACCEPT: on_accept(relay, cqe); break;
            case KIND_CONNECT: on_connect(relay, cqe, fd); break;
            case KIND_SIGNAL: bench_report(&relay->ring, relay->signals, "chunks", relay->chunks); break;
            }
        }
        io_uring_cq_advance(&relay->ring.uring, seen);
        feed_starved(relay);
    }
}
