#include "proxy/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "proxy/fetch_internal.h"

enum { ENDPOINT_ATTEMPTS_MAX = 4 };

/* ---- a worker's side ---- */

void proxy_init(struct proxy *proxy, struct ring *ring, struct chunk_pool *pool)
{
    memset(proxy, 0, sizeof(*proxy));
    proxy->ring = ring;
    proxy->pool = pool;
    proxy->window_bytes_max = FETCH_WINDOW_BYTES;
    proxy->limits = (struct http_limits){
        /* a head block fills at most one large chunk */
        .head_bytes_max = CHUNK_LARGE_BYTES - sizeof(struct chunk),
        .target_bytes_max = CHUNK_LARGE_BYTES,
        .fields_max = HTTP_FIELDS_MAX,
    };
}

void proxy_fini(struct proxy *proxy)
{
    while (proxy->free_fetches != NULL) {
        struct fetch *fetch = proxy->free_fetches;
        proxy->free_fetches = fetch->next_free;
        free(fetch);
    }
}

/* ---- life ---- */

static void fetch_on_drained(struct entry_filler *filler);
static void fetch_on_abandoned(struct entry_filler *filler);
static void fetch_on_failing(struct ring_task *task);
static void fetch_on_unused(struct entry *entry);
static void fetch_on_timer(struct ring_timer *timer);

struct fetch *fetch_create(struct proxy *proxy, bool is_private)
{
    struct fetch *fetch = proxy->free_fetches;
    if (fetch != NULL) {
        proxy->free_fetches = fetch->next_free;
    } else {
        fetch = malloc(sizeof(*fetch));
        if (fetch == NULL) {
            return NULL;
        }
    }
    /* What lies before is entry_init's, what lies behind is made when it is needed. */
    memset(&fetch->proxy, 0, offsetof(struct fetch, body) - offsetof(struct fetch, proxy));
    fetch->partial = NULL;
    fetch->partial_bytes = NULL;
    fetch->partial_used = 0;
    fetch->proxy = proxy;
    fetch->filler = (struct entry_filler){.on_drained = fetch_on_drained, .on_abandoned = fetch_on_abandoned};
    fetch->user = fetch_user_events;
    ring_task_init(&fetch->failing, fetch_on_failing);
    ring_timer_init(&fetch->timer, fetch_on_timer);
    fetch->outcome = RESULT_MORE;
    fetch->body.trailers = NULL;
    fetch->pass.gate = NULL;
    fetch->pass.state = GATE_OUT;
    fetch->pass.seat = NULL;
    entry_init(&fetch->entry, proxy->pool, &fetch->filler, proxy->window_bytes_max, is_private);
    fetch->entry.on_unused = fetch_on_unused;
    arena_init(&fetch->arena, fetch->arena_lent, sizeof(fetch->arena_lent));
    return fetch;
}

static void fetch_on_unused(struct entry *entry)
{
    struct fetch *fetch = CONTAINER_OF(entry, struct fetch, entry);
    CHECK(fetch->conn == NULL && fetch->fiber == NULL);
    if (fetch->meter != NULL) {
        fetch->meter->on_end(fetch->meter, fetch, RESULT_CANCELED); /* it was never begun */
    }
    if (fetch->pass.gate != NULL) {
        fetch->pass.outcome.is_canceled = true;
        gate_leave(&fetch->pass); /* it had a grant, and was never begun */
        gate_pass_fini(&fetch->pass);
    }
    entry_fini(&fetch->entry);
    arena_fini(&fetch->arena);
    free(fetch->request.body);
    fetch_drop_partial(fetch);
    fetch->next_free = fetch->proxy->free_fetches;
    fetch->proxy->free_fetches = fetch;
}

/* ---- deadlines ---- */

/* Others than the one client may be reading what it brings. */
static bool is_shared(const struct fetch *fetch)
{
    return fetch->observer != NULL && fetch->proxy->stall_timeout_ms > 0;
}

static nanos fetch_deadline(const struct fetch *fetch)
{
    const struct upstream_options *options = &fetch->request.upstream->options;
    nanos deadline = NANOS_NEVER;
    nanos ms = NANOS_PER_MS;
    switch (fetch->phase) {
    case FETCH_CONNECTING: deadline = fetch->progress_ns + options->connect_timeout_ms * ms; break;
    case FETCH_SENDING:
        if (fetch->sent_ns != 0) {
            deadline = fetch->sent_ns + options->first_byte_timeout_ms * ms;
        } else if (ring_stream_is_sent_lazily(&fetch->conn->stream)) {
            deadline = fetch->progress_ns + options->first_byte_timeout_ms * ms; /* it left when it was submitted */
        } else if (fetch->stream_reader.entry == NULL || fetch->conn->stream.send_armed) {
            deadline = fetch->progress_ns + options->idle_timeout_ms * ms;
        } /* else the client has nothing for us to send: its slowness is not the backend's */
        break;
    case FETCH_BODY:
        if (!fetch->receive_paused) { /* the reader's slowness is not the backend's */
            deadline = fetch->progress_ns + options->idle_timeout_ms * ms;
        } else if (is_shared(fetch)) {
            deadline = fetch->paused_ns + fetch->proxy->stall_timeout_ms * ms;
        }
        break;
    case FETCH_IDLE:
    case FETCH_OVER: break;
    case FETCH_QUEUED: return NANOS_NEVER;   /* the gate sees to that */
    case FETCH_DETOURED: return NANOS_NEVER; /* the call that is made in its place has its own */
    }
    if (options->total_timeout_ms != 0) {
        nanos total = fetch->started_ns + options->total_timeout_ms * ms;
        deadline = total < deadline ? total : deadline;
    }
    return deadline;
}

void fetch_arm_timer(struct fetch *fetch)
{
    nanos deadline = fetch_deadline(fetch);
    if (deadline < fetch->timer.deadline_ns) { /* one that moves away is seen when the timer fires */
        ring_timer_set(fetch->proxy->ring, &fetch->timer, deadline);
    }
}

static bool is_out_of_time(const struct fetch *fetch)
{
    uint32_t total_ms = fetch->request.upstream->options.total_timeout_ms;
    return total_ms != 0 && fetch->started_ns + total_ms * NANOS_PER_MS <= ring_now(fetch->proxy->ring);
}

/* The entry is full: who lacks more than half of the window holds up who lacks less. */
static void fetch_shed_slow(struct fetch *fetch, nanos now)
{
    if (fetch->paused_ns + fetch->proxy->stall_timeout_ms * NANOS_PER_MS <= now) {
        struct entry *entry = &fetch->entry;
        fetch->paused_ns = now;
        fetch_ref(fetch); /* the last reader may leave */
        entry_shed_slow(entry, entry->body_bytes - entry->window_bytes_max / 2, false);
        if (fetch->outcome == RESULT_MORE) {
            fetch_arm_timer(fetch);
        }
        fetch_unref(fetch);
    } else {
        fetch_arm_timer(fetch);
    }
}

static void fetch_on_timer(struct ring_timer *timer)
{
    struct fetch *fetch = CONTAINER_OF(timer, struct fetch, timer);
    nanos now = ring_now(fetch->proxy->ring);
    if (fetch->phase == FETCH_BODY && fetch->receive_paused && is_shared(fetch) && !is_out_of_time(fetch)) {
        fetch_shed_slow(fetch, now);
        return;
    }
    if (fetch_deadline(fetch) <= now) {
        fetch_settle(fetch, RESULT_TIMEOUT);
    } else {
        fetch_arm_timer(fetch);
    }
}

/* ---- outcomes ---- */

static void fetch_conclude(struct fetch *fetch);

void fetch_settle(struct fetch *fetch, enum result outcome)
{
    if (fetch->outcome != RESULT_MORE) {
        return;
    }
    fetch->outcome = outcome;
    if (fetch->fiber != NULL) {
        fiber_wake(fetch->fiber); /* it waits for a connection */
    } else if (fetch->phase == FETCH_SENDING || fetch->phase == FETCH_BODY) {
        fetch_conclude(fetch);
    } else if (fetch->phase == FETCH_QUEUED || fetch->phase == FETCH_DETOURED) {
        fetch_end(fetch, outcome);
    }
}

void fetch_settle_later(struct fetch *fetch, enum result outcome)
{
    if (fetch->outcome == RESULT_MORE) {
        fetch->outcome = outcome;
        fetch_ref(fetch);
        ring_defer(fetch->proxy->ring, &fetch->failing);
    }
}

static void fetch_on_failing(struct ring_task *task)
{
    struct fetch *fetch = CONTAINER_OF(task, struct fetch, failing);
    if (fetch->phase == FETCH_SENDING || fetch->phase == FETCH_BODY) {
        fetch_conclude(fetch);
    }
    fetch_unref(fetch);
}

/* ---- the way of a request ---- */

static void fetch_drop_conn(struct fetch *fetch, bool abort)
{
    if (fetch->conn != NULL) {
        struct upstream_conn *conn = fetch->conn;
        fetch->conn = NULL;
        upstream_conn_close(conn, abort);
    }
}

static bool is_out_of_resources(enum result result)
{
    return result == RESULT_NO_MEMORY || result == RESULT_LIMIT;
}

/* Waits until the connection is there, or is known not to come. */
static enum result fetch_await_connection(struct fetch *fetch)
{
    struct ring *ring = fetch->proxy->ring;
    while (fetch->outcome == RESULT_MORE) {
        if (fetch->is_abandoned) {
            return RESULT_CANCELED; /* while it was not waiting */
        }
        nanos deadline = fetch_deadline(fetch);
        if (deadline <= ring_now(ring)) {
            return RESULT_TIMEOUT;
        }
        fetch->fiber = fiber_current(ring);
        enum result ignored = fiber_wait(ring, deadline); /* the outcome tells, or the deadline */
        (void)ignored;
        fetch->fiber = NULL;
    }
    return fetch->outcome;
}

/* Opens a connection to the endpoint's address whose turn it is. */
static enum result fetch_open(struct fetch *fetch, struct endpoint *endpoint)
{
    fetch->phase = FETCH_CONNECTING;
    fetch->outcome = RESULT_MORE;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    enum result result = upstream_conn_open(endpoint, &fetch->user, &fetch->conn);
    if (result == RESULT_OK) {
        fetch_ref(fetch);
        result = fetch_await_connection(fetch);
    }
    if (result != RESULT_OK) {
        fetch_drop_conn(fetch, false);
    }
    return result;
}

/* Gets a connection to `endpoint`, reused or new: to the address that worked last, or else to the next ones. */
static enum result fetch_connect(struct fetch *fetch, struct endpoint *endpoint)
{
    fetch->endpoint = endpoint;
    if (!fetch->is_retry_fresh) {
        fetch->conn = upstream_conn_reuse(endpoint, &fetch->user);
        if (fetch->conn != NULL) {
            fetch_ref(fetch);
            return RESULT_OK;
        }
    }
    enum result result = RESULT_UNREACHABLE;
    for (unsigned i = 0; i < endpoint->address_count; i++) {
        unsigned tried = endpoint->address_next;
        result = fetch_open(fetch, endpoint);
        if (result == RESULT_OK || result == RESULT_CANCELED || is_out_of_resources(result)) {
            return result; /* our own shortage says nothing about the endpoint */
        }
        if (is_out_of_time(fetch)) {
            return RESULT_TIMEOUT; /* the request's own time, which says nothing about the endpoint either */
        }
        if (endpoint->address_next == tried) { /* else another fetch has found out as well */
            endpoint_next_address(endpoint);
        }
    }
    endpoint_failed(endpoint);
    return result;
}

/* Tries the endpoint that was chosen, then others, until one can be connected to. */
static enum result fetch_acquire(struct fetch *fetch)
{
    uint64_t allowed = fetch->request.endpoints_allowed;
    enum result result = RESULT_UNREACHABLE;
    struct endpoint *endpoint = fetch->endpoint;
    for (unsigned i = 0; i < ENDPOINT_ATTEMPTS_MAX && endpoint != NULL; i++) {
        result = fetch_connect(fetch, endpoint);
        if (result == RESULT_OK || result == RESULT_CANCELED || is_out_of_resources(result) || is_out_of_time(fetch)) {
            return result;
        }
        allowed &= ~(UINT64_C(1) << endpoint->index);
        endpoint = upstream_choose(fetch->request.upstream, allowed);
    }
    return result;
}

static bool can_send_again(const struct fetch *fetch)
{
    const struct entry *stream = fetch->request.stream;
    return !fetch->any_byte && !fetch->is_abandoned &&
           (stream == NULL || (!stream->is_trimmed && stream->state != ENTRY_FAILED));
}

/* The backend has said no, or would not even speak. An engine's 429 may be about its own queue, which the gate finds
 * out; that of an ordinary service is about the client who asks too often (RFC 6585 §4), on whose account nobody else
 * is to wait. */
static bool is_refused(const struct fetch *fetch, enum result result)
{
    bool was_hung_up = (result == RESULT_RESET || result == RESULT_CLOSED) && fetch->was_connected;
    bool is_too_many = fetch->status == 429 && !gate_is_plain(fetch->pass.gate);
    return is_too_many || fetch->status == 503 || (was_hung_up && !fetch->any_byte);
}

void fetch_leave_gate(struct fetch *fetch, enum result result)
{
    struct admission_outcome *outcome = &fetch->pass.outcome;
    if (fetch->is_abandoned || result == RESULT_CANCELED || is_out_of_resources(result)) {
        outcome->is_canceled = true; /* which says nothing about the backend */
    } else if (is_refused(fetch, result)) {
        outcome->is_refused = true;
    } else {
        outcome->is_failed = result != RESULT_OK;
    }
    gate_leave(&fetch->pass);
}

/* The end, good or bad: the connection goes back or away, the readers hear of it. */
void fetch_end(struct fetch *fetch, enum result result)
{
    fetch->phase = FETCH_OVER;
    fetch->outcome = result;
    ring_timer_cancel(fetch->proxy->ring, &fetch->timer);
    if (fetch->stream_reader.entry != NULL) {
        /* Answered before the body was through, or given up: the rest of it is nobody's. */
        fetch->keep_alive = false;
        entry_reader_leave(&fetch->stream_reader);
    }
    char *trailers = fetch->body.trailers;
    uint32_t trailer_bytes = fetch->body.trailer_bytes;
    fetch->body.trailers = NULL;
    if (result == RESULT_OK) {
        struct upstream_conn *conn = fetch->conn;
        if (conn != NULL) { /* else it came by a detour */
            endpoint_succeeded(fetch->endpoint);
        }
        if (conn != NULL && fetch->keep_alive && fetch->sent_ns != 0 && conn->outbox == NULL) {
            fetch->conn = NULL;
            upstream_conn_release(conn);
        }
        if (fetch->is_swallowed) {
            free(trailers);
        } else {
            entry_complete(&fetch->entry, trailers, trailer_bytes);
        }
    } else {
        free(trailers);
        if (result == RESULT_CANCELED) {
            counter_add(&fetch->proxy->cancels, 1);
        }
        fetch->entry.failure_text = fetch->fault;
        fetch->entry.was_connected = fetch->was_connected;
        fetch->entry.is_mid_event = fetch->entry.is_event_stream && !fetch->sse.at_boundary;
        entry_fail(&fetch->entry, fetch->is_abandoned ? RESULT_CANCELED : result);
    }
    /* A request cut off in its middle must not look whole to the backend: reset. */
    fetch_drop_conn(fetch, result != RESULT_OK);
    struct fetch_meter *meter = fetch->meter;
    if (meter != NULL) {
        fetch->meter = NULL;
        meter->on_end(meter, fetch, result);
    }
    if (fetch->pass.gate != NULL) {
        fetch_leave_gate(fetch, result);
    }
    struct fetch_detour *detour = fetch->detour;
    if (UNLIKELY(detour != NULL)) {
        fetch->detour = NULL;
        detour->on_end(detour, fetch, result);
    }
    struct fetch_observer *observer = fetch->observer;
    if (observer != NULL) {
        fetch->observer = NULL;
        observer->on_end(observer, fetch, result);
    }
    entry_tell(&fetch->entry);
    fetch_unref(fetch); /* fetch_start's */
}

static void fetch_run(void *context);

static void fetch_run_on_fiber(struct fetch *fetch)
{
    fetch->phase = FETCH_CONNECTING;
    if (!fiber_start(fetch->proxy->ring, fetch_run, fetch)) {
        fetch_end(fetch, RESULT_LIMIT);
    }
}

/* The outcome of an attempt is known: again, or the end. */
static void fetch_conclude(struct fetch *fetch)
{
    enum result result = fetch->outcome;
    if (fetch->is_sending) {
        return; /* fetch_begin looks at the outcome */
    }
    bool was_dead = result == RESULT_CLOSED || result == RESULT_RESET || result == RESULT_IO;
    if (was_dead && fetch->conn->is_reused && !fetch->is_retry_fresh && can_send_again(fetch)) {
        fetch_drop_conn(fetch, false);
        fetch->is_retry_fresh = true; /* the other idle ones are likely to be as dead */
        counter_add(&fetch->proxy->retries, 1);
        fetch_run_on_fiber(fetch);
        return;
    }
    fetch_end(fetch, result);
}

/* Sends the request on the connection; from here on completions drive it. */
static void fetch_begin(struct fetch *fetch)
{
    fetch->phase = FETCH_SENDING;
    fetch->was_connected = true;
    fetch->outcome = fetch->is_abandoned ? RESULT_CANCELED : RESULT_MORE;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    fetch->sent_ns = 0;
    if (fetch->pass.gate != NULL) {
        gate_on_endpoint(&fetch->pass, fetch->endpoint->index);
    }
    if (fetch->outcome == RESULT_MORE) {
        fetch->is_sending = true;
        enum result result = fetch_send(fetch);
        fetch->is_sending = false;
        if (result != RESULT_OK && fetch->outcome == RESULT_MORE) {
            fetch->outcome = result;
        }
    }
    if (fetch->outcome != RESULT_MORE) {
        fetch_conclude(fetch);
    } else {
        fetch_arm_timer(fetch);
    }
}

/* On a fiber: waits until the request may go, and sends it. */
static void fetch_run(void *context)
{
    struct fetch *fetch = context;
    fetch->attempts++;
    enum result result = fetch_acquire(fetch);
    if (result == RESULT_OK) {
        fetch_begin(fetch);
    } else {
        fetch_end(fetch, result);
    }
}

/* The endpoint that the gate has named, which knows what others have in flight there; or, where that is known to be out
 * of reach, the one that the pool chooses. */
static struct endpoint *fetch_choose(const struct fetch *fetch)
{
    struct upstream *upstream = fetch->request.upstream;
    unsigned named = fetch->pass.gate == NULL ? SCHED_ENDPOINT_ANY : gate_endpoint(&fetch->pass);
    bool is_named = named < upstream->endpoint_count && (fetch->request.endpoints_allowed >> named & 1) != 0;
    return is_named && !endpoint_is_failing(&upstream->endpoints[named])
               ? &upstream->endpoints[named]
               : upstream_choose(upstream, fetch->request.endpoints_allowed);
}

/* Chooses an endpoint. Nothing has to be waited for when it has an idle connection. */
static bool fetch_take_idle(struct fetch *fetch)
{
    fetch->endpoint = fetch_choose(fetch);
    if (fetch->endpoint == NULL) {
        return false;
    }
    fetch->conn = upstream_conn_reuse(fetch->endpoint, &fetch->user);
    if (fetch->conn == NULL) {
        return false;
    }
    fetch_ref(fetch); /* the connection's */
    return true;
}

static void fetch_go(struct fetch *fetch)
{
    if (fetch_take_idle(fetch)) {
        fetch->attempts++;
        fetch_begin(fetch);
    } else {
        fetch_run_on_fiber(fetch);
    }
}

/* ---- the gate ---- */

static void fetch_shed(struct fetch *fetch)
{
    const struct gate_pass *pass = &fetch->pass;
    nanos ms = (pass->retry_after_ns + NANOS_PER_MS - 1) / NANOS_PER_MS;
    fetch->entry.shed = (uint8_t)pass->shed;
    fetch->entry.retry_after_ms = ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX;
    fetch_end(fetch, RESULT_SHED);
}

static void fetch_on_decided(struct gate_pass *pass)
{
    struct fetch *fetch = CONTAINER_OF(pass, struct fetch, pass);
    fetch->started_ns = ring_now(fetch->proxy->ring); /* the wait was not the upstream's */
    if (pass->state != GATE_OUT) {
        fetch_go(fetch);
    } else {
        fetch_shed(fetch);
    }
}

/* Asks the gate. False: it waits, or is over. */
static bool fetch_may_go(struct fetch *fetch)
{
    struct gate_pass *pass = &fetch->pass;
    if (pass->state == GATE_LENT) {
        return true;
    }
    uint64_t allowed = fetch->request.endpoints_allowed;
    pass->on_decided = fetch_on_decided;
    pass->request.endpoints = allowed == UINT64_MAX ? 0 : allowed;
    pass->request.body_bytes = fetch->request.body_bytes;
    if (pass->request.arrived_ns == 0) {
        pass->request.arrived_ns = fetch->started_ns;
    }
    switch (gate_enter(pass)) {
    case GATE_GRANTED: return true;
    case GATE_QUEUED: fetch->phase = FETCH_QUEUED; return false;
    case GATE_SHED: fetch_shed(fetch); return false;
    }
    return true;
}

void fetch_ask(struct fetch *fetch)
{
    if (fetch->pass.gate == NULL || fetch_may_go(fetch)) {
        fetch_go(fetch);
    }
}

void fetch_start(struct fetch *fetch)
{
    fetch->started_ns = ring_now(fetch->proxy->ring);
    fetch_ref(fetch); /* until fetch_end */
    if (LIKELY(!fetch_is_detoured(fetch))) {
        fetch_ask(fetch);
    }
}

/* ---- what the readers say ---- */

static void fetch_on_drained(struct entry_filler *filler)
{
    struct fetch *fetch = CONTAINER_OF(filler, struct fetch, filler);
    fetch_resume_receive(fetch);
}

static void fetch_on_abandoned(struct entry_filler *filler)
{
    struct fetch *fetch = CONTAINER_OF(filler, struct fetch, filler);
    fetch->is_abandoned = true;
    if (fetch->phase == FETCH_SENDING || fetch->phase == FETCH_BODY) {
        fetch->outcome = RESULT_MORE; /* whatever was to come of it later: it ends now, before the reader has gone */
    }
    fetch_settle(fetch, RESULT_CANCELED); /* a fiber that is not waiting sees is_abandoned */
}
