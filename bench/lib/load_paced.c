/* Requests that are due at moments of their own, whatever has become of those before (open loop), each measured from
 * the moment it was due; or, without a rate, on each connection one after the other (closed loop).
 *
 *   pace ──▶ due ──▶ a free connection? ──▶ sent ──▶ first event ──▶ first token … last ──▶ over
 *             │            └ none: it waits, and that wait is part of its latency
 *             └ latency is counted from here; `service` from where it was sent, to be compared
 *
 * A request is measured when it was due within the window. After the window those that were due in it, and those
 * before, are waited for, for grace_ms at most; who was due in it and has no answer then counts as unanswered, with the
 * time it has waited so far among the latencies: a server that stalls cannot make its slowest requests disappear.
 * Answers other than 2xx have a spread of their own: a refusal is quick, and would flatter the rest.
 *
 * Whether the load itself kept pace is told by `lag`: how late requests were sent for which a connection was free. */
#include "load_paced.h"

enum {
    BUFFERS = 1024,
    BUFFER_BYTES = 16384,
    TICK_MS = 100, /* connections that could not be opened are tried again, and the grace is looked at */
    NONE = -1,
};

/* Timers are no closer than this: above 50,000/s a timer for each request would cost the load more than the request. */
#define PACE_STEP_NS 20000
#define LATE_NS      1000000 /* sent so much after it was due, with a connection free: the load could not keep pace */

enum paced_timer { TIMER_PACE = 100, TIMER_TICK, TIMER_INTERVAL }; /* beyond the phases, which load_tick uses */

/* ---- timers ---- */

static void timer_relative(struct paced *paced, struct __kernel_timespec *at, long ms, enum paced_timer which)
{
    *at = (struct __kernel_timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    struct io_uring_sqe *sqe = bench_sqe(&paced->load.ring);
    io_uring_prep_timeout(sqe, at, 0, 0);
    io_uring_sqe_set_data64(sqe, bench_tag(LOAD_TIMER, which, 0));
}

/* The moments only go forward, so a timer that is armed is never later than the next one needs. */
static void pace_arm(struct paced *paced)
{
    if (paced->pace_armed || paced->idle == NONE)
        return;
    uint64_t at = paced->pace.due_ns, soonest = paced->now_ns + PACE_STEP_NS;
    at = at > soonest ? at : soonest;
    paced->pace_timer =
        (struct __kernel_timespec){.tv_sec = (int64_t)(at / 1000000000u), .tv_nsec = (long long)(at % 1000000000u)};
    struct io_uring_sqe *sqe = bench_sqe(&paced->load.ring);
    io_uring_prep_timeout(sqe, &paced->pace_timer, 0, IORING_TIMEOUT_ABS);
    io_uring_sqe_set_data64(sqe, bench_tag(LOAD_TIMER, TIMER_PACE, 0));
    paced->pace_armed = true;
}

/* ---- sending ---- */

static void idle_push(struct paced *paced, int fd)
{
    struct paced_connection *connection = &paced->connection[fd];
    connection->idle_since_ns = paced->now_ns;
    connection->is_idle = true;
    connection->next_idle = paced->idle;
    paced->idle = fd;
    paced->idle_count++;
}

static int idle_pop(struct paced *paced)
{
    int fd = paced->idle;
    paced->idle = paced->connection[fd].next_idle;
    paced->connection[fd].is_idle = false;
    paced->idle_count--;
    return fd;
}

/* A free connection was closed: rare, so the stack is walked. */
static void idle_remove(struct paced *paced, int fd)
{
    int *at = &paced->idle;
    while (*at != fd)
        at = &paced->connection[*at].next_idle;
    *at = paced->connection[fd].next_idle;
    paced->connection[fd].is_idle = false;
    paced->idle_count--;
}

static const char *numbered(struct paced *paced, struct paced_connection *connection)
{
    const struct load *load = &paced->load;
    if (load->number_count == 0)
        return load->request;
    if (connection->request == NULL) {
        if ((connection->request = malloc(load->request_bytes)) == NULL)
            bench_die("no memory for a request");
        memcpy(connection->request, load->request, load->request_bytes);
    }
    uint64_t keys = (uint64_t)load->options->keys;
    uint64_t number = keys > 0 ? random_next(&paced->random) % keys : paced->number++;
    number = 1000000000 + number % 9000000000;
    for (unsigned i = 0; i < load->number_count; i++) {
        char *digits = connection->request + load->number_at[i];
        for (uint64_t left = number, at = LOAD_NUMBER_DIGITS; at-- > 0; left /= 10)
            digits[at] = (char)('0' + left % 10);
    }
    return connection->request;
}

/* A request that is late was kept waiting by the server if there was no free connection, else by the load. */
static void note_pace(struct paced *paced, const struct paced_connection *connection)
{
    uint64_t late_ns = connection->sent_ns - connection->due_ns;
    paced->due++;
    if (!paced->is_open)
        return;
    if (connection->idle_since_ns > connection->due_ns) {
        paced->waited++;
        return;
    }
    spread_add(&paced->lag, late_ns);
    paced->late += late_ns > LATE_NS;
}

static void ask(struct paced *paced, uint64_t due_ns)
{
    int fd = idle_pop(paced);
    struct paced_connection *connection = &paced->connection[fd];
    connection->events = (struct events){0};
    connection->first_event_ns = connection->first_token_ns = connection->last_token_ns = 0;
    connection->due_ns = due_ns;
    connection->sent_ns = paced->now_ns;
    connection->is_asked = true;
    connection->is_measured = due_ns >= paced->window_begin_ns && due_ns < paced->window_end_ns;
    paced->sent_ever++;
    paced->outstanding++;
    if (connection->is_measured)
        note_pace(paced, connection);
    load_send(&paced->load, fd, numbered(paced, connection), paced->load.request_bytes);
}

static void send_due(struct paced *paced)
{
    enum load_phase phase = paced->load.phase;
    if (phase == LOAD_CONNECTING)
        return;
    if (!paced->is_open) {
        while (paced->idle != NONE && phase != LOAD_OVER)
            ask(paced, paced->now_ns);
        return;
    }
    while (paced->idle != NONE && paced->pace.due_ns <= paced->now_ns && paced->pace.due_ns < paced->window_end_ns) {
        ask(paced, paced->pace.due_ns);
        pace_next(&paced->pace);
    }
    if (paced->pace.due_ns < paced->window_end_ns)
        pace_arm(paced);
}

/* ---- answers ---- */

static void note_answer(struct paced *paced, const struct paced_connection *connection, bool is_good)
{
    uint64_t took_ns = paced->now_ns - connection->due_ns;
    paced->status[connection->answer.status < PACED_STATUS_MAX ? connection->answer.status : 0]++;
    if (!is_good) {
        paced->failed++;
        spread_add(&paced->refusal, took_ns);
        return;
    }
    paced->good++;
    spread_add(&paced->latency, took_ns);
    if (paced->is_open)
        spread_add(&paced->service, paced->now_ns - connection->sent_ns);
}

static void on_answer(struct paced *paced, int fd)
{
    struct paced_connection *connection = &paced->connection[fd];
    bool is_good = connection->answer.status <= 299;
    connection->is_asked = false;
    paced->outstanding--;
    paced->answered_ever++;
    paced->good_ever += is_good;
    if (paced->load.phase == LOAD_WINDOW) {
        paced->in_window += is_good;
        paced->interval.answered += is_good;
        paced->interval.failed += !is_good;
        if (is_good)
            spread_add(&paced->interval.latency, paced->now_ns - connection->due_ns);
    }
    if (connection->is_measured)
        note_answer(paced, connection, is_good);
    if (connection->answer.close_after)
        shutdown(fd, SHUT_RDWR);
    else
        idle_push(paced, fd);
}

static void note_tokens(struct paced *paced, struct paced_connection *connection, unsigned count)
{
    if (paced->load.phase == LOAD_WINDOW) {
        paced->interval.tokens += count;
        paced->tokens_in_window += count;
    }
    if (!connection->is_measured)
        return;
    paced->tokens += count;
    for (unsigned i = 0; i < count; i++) {
        if (connection->first_token_ns == 0) {
            connection->first_token_ns = paced->now_ns;
            spread_add(&paced->first_token, paced->now_ns - connection->due_ns);
        } else {
            spread_add(&paced->token_gap, paced->now_ns - connection->last_token_ns);
        }
        connection->last_token_ns = paced->now_ns;
    }
}

static void note_payload(struct paced *paced, struct paced_connection *connection, const char *bytes, size_t length)
{
    const char *at = bytes, *end = bytes + length;
    if (connection->is_measured)
        paced->bytes += length;
    if (!connection->answer.is_events)
        return;
    note_tokens(paced, connection, events_tokens(&connection->events, bytes, length));
    while (at < end) {
        if (!events_next(&connection->events, &at, end) || !connection->is_measured)
            continue;
        paced->events++;
        if (connection->first_event_ns == 0) {
            connection->first_event_ns = paced->now_ns;
            spread_add(&paced->first_event, paced->now_ns - connection->due_ns);
        }
    }
}

/* False when the answer makes no sense. */
static bool read_answer(struct paced *paced, int fd, const char *bytes, size_t length)
{
    struct paced_connection *connection = &paced->connection[fd];
    while (length > 0) {
        const char *payload;
        size_t payload_length, used;
        if (!connection->is_asked)
            return false; /* an answer nobody asked for */
        enum http_outcome outcome = answer_step(&connection->answer, bytes, length, &payload, &payload_length, &used);
        if (outcome == HTTP_BROKEN)
            return false;
        if (payload_length > 0)
            note_payload(paced, connection, payload, payload_length);
        bytes += used;
        length -= used;
        if (outcome == HTTP_DONE)
            on_answer(paced, fd);
    }
    return true;
}

/* ---- connections ---- */

static void on_connect(struct paced *paced, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res < 0) {
        if (paced->load.phase == LOAD_CONNECTING)
            bench_die("cannot connect to %s port %ld: %s", paced->load.options->address, paced->load.options->port,
                      strerror(-cqe->res));
        paced->connect_failures++;
        paced->missing++;
        close(fd);
        return;
    }
    answer_reset(&paced->connection[fd].answer);
    load_receive(&paced->load, fd);
    idle_push(paced, fd);
    if (paced->load.phase == LOAD_CONNECTING)
        load_ready(&paced->load);
}

static void on_end(struct paced *paced, int fd)
{
    struct paced_connection *connection = &paced->connection[fd];
    if (connection->is_asked && answer_end(&connection->answer) == HTTP_DONE)
        on_answer(paced, fd);
    if (connection->is_asked) {
        connection->is_asked = false;
        paced->outstanding--;
        paced->interval.failed += paced->load.phase == LOAD_WINDOW;
        paced->broken += connection->is_measured;
    }
    if (connection->is_idle)
        idle_remove(paced, fd);
    paced->closed++;
    close(fd);
    if (paced->load.phase == LOAD_OVER)
        return;
    /* What broke is tried again with the next tick, so that a server that is gone is not asked in a tight loop. */
    if (connection->answer.close_after)
        load_open_one(&paced->load);
    else
        paced->missing++;
}

static void on_receive(struct paced *paced, const struct io_uring_cqe *cqe, int fd)
{
    if (cqe->res == -ENOBUFS) {
        load_receive(&paced->load, fd);
        return;
    }
    if (cqe->res <= 0) {
        on_end(paced, fd);
        return;
    }
    unsigned id = bench_cqe_buffer(cqe);
    if (!read_answer(paced, fd, bench_pool_buffer(&paced->load.pool, id), (size_t)cqe->res))
        shutdown(fd, SHUT_RDWR);
    bench_pool_release(&paced->load.pool, id);
    if (!(cqe->flags & IORING_CQE_F_MORE))
        load_receive(&paced->load, fd);
}

/* ---- time ---- */

static void finish(struct paced *paced)
{
    paced_print_result(paced);
    exit(0);
}

static void on_phase(struct paced *paced)
{
    const struct load_options *options = paced->load.options;
    if (paced->load.phase == LOAD_WINDOW) {
        paced->window_begin_ns = paced->load.begin.at_ns;
        if (options->interval_ms > 0)
            timer_relative(paced, &paced->interval_timer, options->interval_ms, TIMER_INTERVAL);
        return;
    }
    paced->window_end_ns = paced->load.end.at_ns;
    paced->give_up_ns = paced->window_end_ns + (uint64_t)options->grace_ms * 1000000;
}

/* Asked to end: what was measured so far is the result. */
static void on_signal(struct paced *paced)
{
    struct load *load = &paced->load;
    if (!bench_signals_read(load->signals)) {
        printf("{\"answered_ever\":%llu}\n", (unsigned long long)paced->answered_ever);
        fflush(stdout);
        return;
    }
    if (load->phase == LOAD_OVER || load->phase == LOAD_WINDOW) {
        if (load->phase == LOAD_WINDOW) {
            usage_take(&load->end);
            paced->window_end_ns = paced->now_ns;
        }
        finish(paced);
    }
    bench_die("ended before the window began");
}

static void on_timer(struct paced *paced, uint64_t tag)
{
    const struct load_options *options = paced->load.options;
    switch (bench_tag_number(tag)) {
    case TIMER_PACE: paced->pace_armed = false; return;
    case TIMER_INTERVAL:
        if (paced->load.phase == LOAD_WINDOW) {
            paced_print_interval(paced);
            timer_relative(paced, &paced->interval_timer, options->interval_ms, TIMER_INTERVAL);
        }
        return;
    case TIMER_TICK:
        timer_relative(paced, &paced->tick_timer, TICK_MS, TIMER_TICK);
        for (; paced->missing > 0 && paced->load.phase != LOAD_OVER; paced->missing--)
            load_open_one(&paced->load);
        return;
    default: break;
    }
    if (load_tick(&paced->load, tag))
        on_phase(paced);
}

static void turn(struct paced *paced)
{
    struct bench_ring *ring = &paced->load.ring;
    bench_wait(ring);
    paced->now_ns = bench_now_ns();
    struct io_uring_cqe *cqe;
    unsigned head, seen = 0;
    io_uring_for_each_cqe(&ring->uring, head, cqe)
    {
        int fd = bench_tag_fd(cqe->user_data);
        seen++;
        switch ((enum load_kind)bench_tag_kind(cqe->user_data)) {
        case LOAD_RECEIVE: on_receive(paced, cqe, fd); break;
        case LOAD_CONNECT: on_connect(paced, cqe, fd); break;
        case LOAD_SEND: break; /* failed; the receive ends by itself */
        case LOAD_TIMER: on_timer(paced, cqe->user_data); break;
        case LOAD_SIGNAL: on_signal(paced); break;
        }
    }
    io_uring_cq_advance(&ring->uring, seen);
    if (paced->begin_ns == 0 && paced->load.phase == LOAD_WARMUP) {
        paced->begin_ns = paced->now_ns;
        pace_begin(&paced->pace, paced->now_ns);
    }
    send_due(paced);
}

static bool is_over(const struct paced *paced)
{
    if (paced->load.phase != LOAD_OVER)
        return false;
    bool all_sent = !paced->is_open || paced->pace.due_ns >= paced->window_end_ns;
    return (all_sent && paced->outstanding == 0) || paced->now_ns >= paced->give_up_ns;
}

void load_paced(const struct load_options *options)
{
    struct paced *paced = calloc(1, sizeof *paced);
    if (paced == NULL)
        bench_die("no memory");
    paced->is_open = options->rate != NULL;
    paced->idle = NONE;
    paced->random = (uint64_t)options->seed;
    paced->number = (uint64_t)options->seed;
    paced->window_begin_ns = paced->window_end_ns = UINT64_MAX;
    paced->pace = (struct pace){
        .rate = paced->is_open ? strtod(options->rate, NULL) : 1,
        .is_poisson = strcmp(options->arrivals, "poisson") == 0,
        .seed = (uint64_t)options->seed,
    };
    if (!(paced->pace.rate > 0) || paced->pace.rate > 1e7)
        bench_die("--rate must be above 0 and at most 10,000,000, not '%s'", options->rate);
    if (!paced->pace.is_poisson && strcmp(options->arrivals, "even") != 0)
        bench_die("--arrivals are even or poisson, not '%s'", options->arrivals);
    load_init(&paced->load, options, BUFFERS, BUFFER_BYTES);
    timer_relative(paced, &paced->tick_timer, TICK_MS, TIMER_TICK);
    load_open(&paced->load);
    while (!is_over(paced))
        turn(paced);
    finish(paced);
}
