/* The load of bench/sched/live: replays the requests that `sched --export` has written, at their moments whatever
 * becomes of those before (open loop), as chat completions that stream. What is answered by a refusal is not sent
 * again.
 *
 * Everything takes 1/SCALE of the time it says. Prompt and answer have their true lengths in the head, where only the
 * simulated backend looks; the gateway sees as many bytes of prompt as the simulation's does, and no max_tokens.
 *
 * Writes a line for each request: when it was due and sent, its status, when the first and the last token came, how
 * many. Prints one JSON object. One thread, one ring; a connection for each request under way, kept for later ones. */
#include <inttypes.h>

#include "base/check.h"
#include "base/list.h"
#include "bench.h"
#include "http.h"
#include "usage.h"

enum {
    BUFFERS = 4096,
    BUFFER_BYTES = 4096,
    HEAD_BYTES_MAX = 4096, /* of an answer */
    REASON_BYTES = 24,
    PREFIX_BYTES = 24,
    PARTS = 4,
    GRACE_S = 20, /* for those under way when the last has come */
};

#define LATE_NS 1000000 /* sent so much after it was due: the load could not keep pace */

static const char CONTENT[] = "\"content\":\"";

enum kind { KIND_CONNECT, KIND_RECEIVE, KIND_SEND, KIND_TIMER, KIND_SIGNAL };

struct request {
    uint64_t due_ns; /* absolute */
    unsigned class;
    uint64_t tenant;
    unsigned prompt_tokens, prompt_bytes, output_tokens, first_token_max_ms;

    unsigned status; /* 0: none came, or it broke off */
    char reason[REASON_BYTES];
    uint64_t sent_ns, first_ns, last_ns; /* 0: not, or not yet */
    unsigned tokens;
    bool is_over;
};

struct connection {
    struct list_node node; /* on idle */
    struct request *request;
    int fd;
    bool in_body, close_after;
    unsigned matched; /* bytes of CONTENT seen */
    size_t head_bytes;
    struct http_body body;
    struct msghdr message;
    struct iovec parts[PARTS];
    char request_head[1024];
    char prefix[PREFIX_BYTES];
    char head[HEAD_BYTES_MAX];
};

struct replay {
    struct bench_ring ring;
    struct bench_pool pool;
    struct sockaddr_in server;
    int signals;
    long port;
    struct request *requests;
    size_t count, next, over, opened, late;
    char *filler;
    struct list_node idle;
    struct connection *connections[BENCH_FD_MAX];
    struct __kernel_timespec timer;
    struct usage begin, end;
    bool has_begun, is_ending;
    uint64_t now_ns;
};

static const char BODY_BEGIN[] =
    "{\"model\":\"sluice-sim\",\"stream\":true,\"stream_options\":{\"include_usage\":true},"
    "\"messages\":[{\"role\":\"user\",\"content\":\"";
static const char BODY_END[] = "\"}]}";

/* ---- the requests ---- */

static void add_line(struct replay *replay, const char *line, double scale, size_t *room)
{
    double at_ms, first_ms;
    struct request request = {0};
    if (sscanf(line, "%lf %u %" SCNu64 " %u %u %u %lf", &at_ms, &request.class, &request.tenant, &request.prompt_tokens,
               &request.prompt_bytes, &request.output_tokens, &first_ms) != 7)
        bench_die("not a line of arrivals: %s", line);
    request.due_ns = (uint64_t)(at_ms * 1e6 / scale);
    request.first_token_max_ms = (unsigned)(first_ms / scale + 0.5);
    if (replay->count == *room) {
        *room = *room * 2 + 4096;
        replay->requests = realloc(replay->requests, *room * sizeof *replay->requests);
        if (replay->requests == NULL)
            bench_die("no memory for %zu requests", *room);
    }
    replay->requests[replay->count++] = request;
}

static void read_requests(struct replay *replay, const char *path, double scale)
{
    FILE *from = fopen(path, "r");
    if (from == NULL)
        bench_die("cannot read %s: %s", path, strerror(errno));
    char line[256];
    size_t room = 0;
    unsigned most = 0;
    while (fgets(line, sizeof line, from) != NULL)
        if (line[0] != '#')
            add_line(replay, line, scale, &room);
    fclose(from);
    if (replay->count == 0)
        bench_die("no arrivals in %s", path);
    for (size_t i = 0; i < replay->count; i++)
        most = replay->requests[i].prompt_bytes > most ? replay->requests[i].prompt_bytes : most;
    replay->filler = malloc(most + 1);
    if (replay->filler == NULL)
        bench_die("no memory for %u bytes of prompt", most);
    memset(replay->filler, 'x', most + 1);
}

static void write_results(const struct replay *replay, const char *path, uint64_t start_ns)
{
    FILE *to = fopen(path, "w");
    if (to == NULL)
        bench_die("cannot write %s: %s", path, strerror(errno));
    fputs("due_ms\tsent_ms\tstatus\tfirst_ms\tlast_ms\ttokens\twanted\ttenant\tclass\treason\n", to);
    for (size_t i = 0; i < replay->count; i++) {
        const struct request *request = &replay->requests[i];
        double first = request->first_ns == 0 ? -1 : (double)(request->first_ns - start_ns) / 1e6;
        double last = request->last_ns == 0 ? -1 : (double)(request->last_ns - start_ns) / 1e6;
        double sent = request->sent_ns == 0 ? -1 : (double)(request->sent_ns - start_ns) / 1e6;
        fprintf(to, "%.4f\t%.4f\t%u\t%.4f\t%.4f\t%u\t%u\t%" PRIu64 "\t%u\t%s\n",
                (double)(request->due_ns - start_ns) / 1e6, sent, request->status, first, last, request->tokens,
                request->output_tokens, request->tenant, request->class,
                request->reason[0] == '\0' ? "-" : request->reason);
    }
    if (fclose(to) != 0)
        bench_die("cannot write %s", path);
}

/* ---- sending ---- */

static void send_request(struct replay *replay, int fd)
{
    static const unsigned urgency_of[] = {0, 2, 3, 5}; /* a class, as RFC 9218 says it */
    struct connection *connection = replay->connections[fd];
    struct request *request = connection->request;
    size_t prefix = request->prompt_bytes < PREFIX_BYTES ? request->prompt_bytes : PREFIX_BYTES;
    size_t body = sizeof BODY_BEGIN - 1 + request->prompt_bytes + sizeof BODY_END - 1;
    /* Each prompt is another, so that none is answered along with another. */
    memset(connection->prefix, '.', sizeof connection->prefix);
    char number[PREFIX_BYTES];
    int digits = snprintf(number, sizeof number, "%zu", (size_t)(request - replay->requests));
    memcpy(connection->prefix, number, (size_t)digits);
    int head = snprintf(connection->request_head, sizeof connection->request_head,
                        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\n"
                        "Content-Type: application/json\r\nContent-Length: %zu\r\n"
                        "x-sim-prompt-tokens: %u\r\nx-sim-output-tokens: %u\r\nx-slo-ttft-ms: %u\r\n"
                        "Authorization: Bearer tenant-%" PRIu64 "\r\nPriority: u=%u\r\n\r\n%s",
                        replay->port, body, request->prompt_tokens, request->output_tokens, request->first_token_max_ms,
                        request->tenant, urgency_of[request->class & 3], BODY_BEGIN);
    connection->parts[0] = (struct iovec){connection->request_head, (size_t)head};
    connection->parts[1] = (struct iovec){connection->prefix, prefix};
    connection->parts[2] = (struct iovec){replay->filler, request->prompt_bytes - prefix};
    connection->parts[3] = (struct iovec){(void *)(uintptr_t)BODY_END, sizeof BODY_END - 1};
    connection->message = (struct msghdr){.msg_iov = connection->parts, .msg_iovlen = PARTS};
    request->sent_ns = replay->now_ns;
    struct io_uring_sqe *sqe = bench_sqe(&replay->ring);
    io_uring_prep_sendmsg(sqe, fd, &connection->message, MSG_NOSIGNAL | MSG_WAITALL);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, bench_tag(KIND_SEND, 0, fd));
}

static void open_connection(struct replay *replay, struct request *request)
{
    int fd = bench_socket();
    if (replay->connections[fd] == NULL && (replay->connections[fd] = malloc(sizeof **replay->connections)) == NULL)
        bench_die("no memory for a connection");
    struct connection *connection = replay->connections[fd];
    *connection = (struct connection){.request = request};
    list_init(&connection->node);
    replay->opened++;
    struct io_uring_sqe *sqe = bench_sqe(&replay->ring);
    io_uring_prep_connect(sqe, fd, (const struct sockaddr *)&replay->server, sizeof replay->server);
    io_uring_sqe_set_data64(sqe, bench_tag(KIND_CONNECT, 0, fd));
}

static void start_request(struct replay *replay, struct request *request)
{
    struct list_node *node = list_pop_front(&replay->idle);
    if (node == NULL) {
        open_connection(replay, request);
        return;
    }
    struct connection *connection = CONTAINER_OF(node, struct connection, node);
    connection->request = request;
    send_request(replay, connection->fd);
}

/* ---- the answer ---- */

/* A token is an event whose content is not empty: the one that tells the role has an empty one. */
static void read_events(struct replay *replay, struct connection *connection, const char *bytes, size_t length)
{
    struct request *request = connection->request;
    unsigned matched = connection->matched;
    for (size_t i = 0; i < length; i++) {
        if (matched == sizeof CONTENT - 1) {
            if (bytes[i] != '"') {
                request->tokens++;
                request->first_ns = request->first_ns == 0 ? replay->now_ns : request->first_ns;
                request->last_ns = replay->now_ns;
            }
            matched = 0;
        }
        matched = bytes[i] == CONTENT[matched] ? matched + 1 : bytes[i] == CONTENT[0];
    }
    connection->matched = matched;
}

static void note_reason(struct request *request, const char *head, size_t bytes)
{
    static const char name[] = "X-Sluice-Reason: ";
    const char *at = memmem(head, bytes, name, sizeof name - 1);
    if (at == NULL)
        return;
    at += sizeof name - 1;
    size_t length = strcspn(at, "\r");
    length = length < REASON_BYTES - 1 ? length : REASON_BYTES - 1;
    memcpy(request->reason, at, length);
}

/* Adds to the head what has come; how much of it belonged to it, or all. */
static size_t read_head(struct connection *connection, const char *bytes, size_t length)
{
    size_t before = connection->head_bytes;
    size_t room = sizeof connection->head - 1 - before;
    size_t taken = length < room ? length : room;
    memcpy(connection->head + before, bytes, taken);
    connection->head_bytes += taken;
    connection->head[connection->head_bytes] = '\0';
    struct http_head head;
    switch (http_head_parse(connection->head, connection->head_bytes, &head)) {
    case HTTP_MORE:
        if (taken == room)
            bench_die("an answer's head is longer than %d bytes", HEAD_BYTES_MAX);
        return length;
    case HTTP_BROKEN: bench_die("an answer's head is none");
    case HTTP_DONE: break;
    }
    connection->request->status = head.status;
    note_reason(connection->request, connection->head, head.bytes);
    http_body_init(&connection->body, &head);
    connection->in_body = true;
    connection->close_after = head.close;
    return head.bytes - before;
}

static void end_request(struct replay *replay, struct connection *connection)
{
    connection->request->is_over = true;
    connection->request = NULL;
    connection->in_body = false;
    connection->head_bytes = 0;
    connection->matched = 0;
    replay->over++;
}

static void on_whole_answer(struct replay *replay, struct connection *connection)
{
    end_request(replay, connection);
    if (connection->close_after)
        shutdown(connection->fd, SHUT_RDWR);
    else
        list_push_front(&replay->idle, &connection->node);
}

static void read_answer(struct replay *replay, struct connection *connection, const char *bytes, size_t length)
{
    if (connection->request == NULL)
        bench_die("an answer to no request");
    if (!connection->in_body) {
        size_t taken = read_head(connection, bytes, length);
        bytes += taken;
        length -= taken;
    }
    while (connection->in_body) {
        const char *payload;
        size_t payload_length, used;
        enum http_outcome outcome = http_body_step(&connection->body, bytes, length, &payload, &payload_length, &used);
        read_events(replay, connection, payload, payload_length);
        bytes += used;
        length -= used;
        if (outcome == HTTP_BROKEN)
            bench_die("an answer's framing is broken");
        if (outcome == HTTP_DONE) {
            on_whole_answer(replay, connection);
            return;
        }
        if (length == 0)
            return;
    }
}

static void receive(struct replay *replay, int fd)
{
    bench_receive_multishot(&replay->ring, fd, bench_tag(KIND_RECEIVE, 0, fd));
}

static void on_receive(struct replay *replay, const struct io_uring_cqe *cqe, int fd)
{
    struct connection *connection = replay->connections[fd];
    if (cqe->res == -ENOBUFS) {
        receive(replay, fd);
        return;
    }
    if (cqe->res <= 0) {
        list_remove(&connection->node);
        if (connection->request != NULL) {
            connection->request->status = 0;
            end_request(replay, connection);
        }
        close(fd);
        return;
    }
    unsigned id = bench_cqe_buffer(cqe);
    read_answer(replay, connection, bench_pool_buffer(&replay->pool, id), (size_t)cqe->res);
    bench_pool_release(&replay->pool, id);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        receive(replay, fd);
}

static void on_connect(struct replay *replay, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res < 0)
        bench_die("cannot connect to 127.0.0.1:%ld: %s", replay->port, strerror(-cqe->res));
    replay->connections[fd]->fd = fd;
    receive(replay, fd);
    send_request(replay, fd);
}

/* ---- time ---- */

static void set_timer(struct replay *replay)
{
    uint64_t at = replay->next < replay->count ? replay->requests[replay->next].due_ns
                                               : replay->requests[replay->count - 1].due_ns + GRACE_S * 1000000000ull;
    replay->timer =
        (struct __kernel_timespec){.tv_sec = (int64_t)(at / 1000000000u), .tv_nsec = (long long)(at % 1000000000u)};
    struct io_uring_sqe *sqe = bench_sqe(&replay->ring);
    io_uring_prep_timeout(sqe, &replay->timer, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, bench_tag(KIND_TIMER, 0, 0));
}

static void on_timer(struct replay *replay)
{
    if (!replay->has_begun) {
        replay->has_begun = true;
        usage_take(&replay->begin);
    }
    if (replay->next == replay->count) {
        replay->is_ending = true;
        return;
    }
    while (replay->next < replay->count && replay->requests[replay->next].due_ns <= replay->now_ns) {
        struct request *request = &replay->requests[replay->next++];
        replay->late += replay->now_ns - request->due_ns > LATE_NS;
        start_request(replay, request);
    }
    if (replay->next == replay->count)
        usage_take(&replay->end);
    set_timer(replay);
}

static void turn(struct replay *replay)
{
    bench_wait(&replay->ring);
    replay->now_ns = bench_now_ns();
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    io_uring_for_each_cqe(&replay->ring.uring, head, cqe)
    {
        int fd = bench_tag_fd(cqe->user_data);
        seen++;
        switch ((enum kind)bench_tag_kind(cqe->user_data)) {
        case KIND_CONNECT: on_connect(replay, cqe, fd); break;
        case KIND_RECEIVE: on_receive(replay, cqe, fd); break;
        case KIND_SEND: break; /* failed; the receive ends by itself */
        case KIND_TIMER: on_timer(replay); break;
        case KIND_SIGNAL: bench_report(&replay->ring, replay->signals, "over", replay->over); break;
        }
    }
    io_uring_cq_advance(&replay->ring.uring, seen);
}

static void print_summary(const struct replay *replay)
{
    size_t answered = 0, refused = 0, broken = 0;
    for (size_t i = 0; i < replay->count; i++) {
        const struct request *request = &replay->requests[i];
        answered += request->is_over && request->status == 200;
        refused += request->is_over && (request->status == 429 || request->status == 503);
        broken += !request->is_over || (request->status != 200 && request->status != 429 && request->status != 503);
    }
    printf("{\"requests\":%zu,\"answered\":%zu,\"refused\":%zu,\"broken\":%zu,\"late\":%zu,\"connections\":%zu,",
           replay->count, answered, refused, broken, replay->late, replay->opened);
    usage_print(&replay->begin, &replay->end);
    printf("}\n");
}

int main(int argc, char **argv)
{
    long cpu = -1, port = 0, start_ms = 0;
    const char *arrivals = NULL, *results = NULL, *watch = NULL, *scale_text = "1";
    const struct bench_option options[] = {
        {"--port", "connect to 127.0.0.1:PORT", &port, NULL},
        {"--cpu", "run on this core", &cpu, NULL},
        {"--arrivals", "FILE as `sched --export` writes it", NULL, &arrivals},
        {"--results", "FILE to write", NULL, &results},
        {"--scale", "so many times faster (1)", NULL, &scale_text},
        {"--start-ms", "when 0 is, on the monotonic clock (in half a second)", &start_ms, NULL},
        {"--watch", "PID,PID: report their CPU time", NULL, &watch},
        {NULL, NULL, NULL, NULL},
    };
    bench_options_parse(argc, argv, options);
    double scale = strtod(scale_text, NULL);
    if (port == 0 || arrivals == NULL || results == NULL || !(scale > 0))
        bench_die("--port, --arrivals and --results are needed, and --scale above 0");
    bench_pin(cpu);
    bench_descriptors_raise();
    struct replay *replay = calloc(1, sizeof *replay);
    if (replay == NULL)
        bench_die("no memory");
    replay->port = port;
    replay->server = bench_loopback(port);
    list_init(&replay->idle);
    read_requests(replay, arrivals, scale);
    bench_ring_init(&replay->ring);
    bench_pool_init(&replay->pool, &replay->ring, BUFFERS, BUFFER_BYTES);
    replay->signals = bench_signals(&replay->ring, bench_tag(KIND_SIGNAL, 0, 0));
    usage_init(&replay->begin, watch);
    usage_init(&replay->end, watch);
    uint64_t start_ns = start_ms > 0 ? (uint64_t)start_ms * 1000000 : bench_now_ns() + 500000000;
    for (size_t i = 0; i < replay->count; i++)
        replay->requests[i].due_ns += start_ns;
    set_timer(replay);
    while (replay->over < replay->count && !replay->is_ending)
        turn(replay);
    write_results(replay, results, start_ns);
    print_summary(replay);
    return 0;
}
