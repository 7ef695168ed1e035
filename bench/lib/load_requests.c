/* Requests and answers on keep-alive connections: as fast as the answers come for a fixed time, or one request on each
 * connection which is then held idle until SIGTERM. */
#include "answer.h"
#include "load.h"

enum {
    BUFFERS = 128,
    BUFFER_BYTES = 32768, /* two take an answer of 64 KB; sixteen of 1 KB fit in one */
};

struct connection {
    uint64_t sent_ns;
    long waiting; /* answers still to come for what was sent */
    struct answer answer;
};

struct requests {
    struct load load;
    struct histogram latency;
    uint64_t now_ns; /* taken once a turn */
    uint64_t answered, bytes, bad_status, dropped, broken;
    uint64_t answered_ever; /* the warm-up included, for figures that are not limited to the window */
    bool hold;
    struct connection connection[BENCH_FD_MAX];
};

static void ask(struct requests *requests, int fd)
{
    struct connection *connection = &requests->connection[fd];
    connection->waiting = requests->load.options->pipeline;
    connection->sent_ns = requests->now_ns;
    load_send_request(&requests->load, fd);
}

static void on_answer(struct requests *requests, int fd)
{
    struct connection *connection = &requests->connection[fd];
    requests->answered++;
    requests->answered_ever++;
    histogram_add(&requests->latency, requests->now_ns - connection->sent_ns);
    requests->bad_status += connection->answer.status > 299;
    if (connection->answer.close_after)
        shutdown(fd, SHUT_RDWR);
    else if (--connection->waiting == 0 && !requests->hold)
        ask(requests, fd);
    else if (requests->hold)
        load_ready(&requests->load);
}

/* False when the answer makes no sense. */
static bool read_answers(struct requests *requests, int fd, const char *bytes, size_t length)
{
    struct connection *connection = &requests->connection[fd];
    requests->bytes += length;
    while (length > 0) {
        if (connection->waiting == 0)
            return false; /* an answer nobody asked for */
        const char *payload;
        size_t payload_length, used;
        enum http_outcome outcome = answer_step(&connection->answer, bytes, length, &payload, &payload_length, &used);
        if (outcome == HTTP_BROKEN)
            return false;
        bytes += used;
        length -= used;
        if (outcome == HTTP_DONE)
            on_answer(requests, fd);
    }
    return true;
}

static void on_connect(struct requests *requests, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res < 0)
        bench_die("cannot connect to 127.0.0.1:%ld: %s", requests->load.options->port, strerror(-cqe->res));
    struct connection *connection = &requests->connection[fd];
    answer_reset(&connection->answer);
    load_receive(&requests->load, fd);
    ask(requests, fd);
    if (!requests->hold && requests->load.phase == LOAD_CONNECTING)
        load_ready(&requests->load);
}

static void on_receive(struct requests *requests, const struct io_uring_cqe *cqe, int fd)
{
    struct connection *connection = &requests->connection[fd];
    if (cqe->res == -ENOBUFS) {
        load_receive(&requests->load, fd);
        return;
    }
    if (cqe->res <= 0) { /* gone: asked for by the answer, or not */
        if (answer_end(&connection->answer) == HTTP_DONE)
            on_answer(requests, fd);
        requests->dropped += !connection->answer.close_after;
        close(fd);
        if (!requests->hold)
            load_open_one(&requests->load);
        return;
    }
    unsigned id = bench_cqe_buffer(cqe);
    if (!read_answers(requests, fd, bench_pool_buffer(&requests->load.pool, id), (size_t)cqe->res)) {
        requests->broken++;
        connection->waiting = 0;
        shutdown(fd, SHUT_RDWR);
    }
    bench_pool_release(&requests->load.pool, id);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        load_receive(&requests->load, fd);
}

static void print_result(const struct requests *requests)
{
    const struct load *load = &requests->load;
    double elapsed_s = (double)(load->end.at_ns - load->begin.at_ns) / 1e9;
    printf(
        "{\"requests\":%llu,\"requests_ever\":%llu,\"per_s\":%.1f,\"bytes\":%llu,\"bad_status\":%llu,\"dropped\":%llu,"
        "\"broken\":%llu,",
        (unsigned long long)requests->answered, (unsigned long long)requests->answered_ever,
        (double)requests->answered / elapsed_s, (unsigned long long)requests->bytes,
        (unsigned long long)requests->bad_status, (unsigned long long)requests->dropped,
        (unsigned long long)requests->broken);
    load_print_histogram("latency", &requests->latency);
    printf(",");
    usage_print(&load->begin, &load->end);
    printf("}\n");
}

static void on_tick(struct requests *requests, uint64_t tag)
{
    if (!load_tick(&requests->load, tag))
        return;
    if (requests->hold) { /* the warm-up's end says that everything is quiet; the window is as long as it is */
        printf("{\"held\":%ld,\"bad_status\":%llu,\"dropped\":%llu}\n", requests->load.ready,
               (unsigned long long)requests->bad_status, (unsigned long long)requests->dropped);
        fflush(stdout);
    } else if (requests->load.phase == LOAD_WINDOW) {
        requests->answered = requests->bytes = requests->bad_status = requests->dropped = requests->broken = 0;
        memset(&requests->latency, 0, sizeof requests->latency);
    } else {
        print_result(requests);
        exit(0);
    }
}

void load_requests(const struct load_options *options, bool hold)
{
    struct requests *requests = calloc(1, sizeof *requests);
    if (requests == NULL)
        bench_die("no memory");
    load_init(&requests->load, options, BUFFERS, BUFFER_BYTES);
    requests->hold = hold;
    struct bench_ring *ring = &requests->load.ring;
    load_open(&requests->load);
    for (;;) {
        bench_wait(ring);
        requests->now_ns = bench_now_ns();
        struct io_uring_cqe *cqe;
        unsigned head, seen = 0;
        io_uring_for_each_cqe(&ring->uring, head, cqe)
        {
            int fd = bench_tag_fd(cqe->user_data);
            seen++;
            switch ((enum load_kind)bench_tag_kind(cqe->user_data)) {
            case LOAD_RECEIVE: on_receive(requests, cqe, fd); break;
            case LOAD_CONNECT: on_connect(requests, cqe, fd); break;
            case LOAD_SEND: break; /* failed; the receive ends by itself */
            case LOAD_TIMER: on_tick(requests, cqe->user_data); break;
            case LOAD_SIGNAL:
                bench_report(ring, requests->load.signals, "requests_ever", requests->answered_ever);
                break;
            }
        }
        io_uring_cq_advance(&ring->uring, seen);
    }
}
