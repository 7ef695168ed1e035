#include "proxy/fetch.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proxy/fetch_internal.h"

enum { ENDPOINT_ATTEMPTS_MAX = 4 };

static void count_up(_Atomic uint64_t *counter)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

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
    memset(fetch, 0, offsetof(struct fetch, body));
    fetch->partial = NULL;
    fetch->partial_bytes = NULL;
    fetch->partial_used = 0;
    fetch->proxy = proxy;
    fetch->filler = (struct entry_filler){.on_drained = fetch_on_drained, .on_abandoned = fetch_on_abandoned};
    fetch->user = fetch_user_events;
    ring_task_init(&fetch->failing, fetch_on_failing);
    fetch->outcome = RESULT_MORE;
    fetch->body.trailers = NULL;
    entry_init(&fetch->entry, proxy->pool, &fetch->filler, proxy->window_bytes_max, is_private);
    arena_init(&fetch->arena, fetch->arena_lent, sizeof(fetch->arena_lent));
    return fetch;
}

void fetch_unref(struct fetch *fetch)
{
    if (--fetch->entry.uses > 0) {
        return;
    }
    CHECK(fetch->conn == NULL && fetch->fiber == NULL);
    entry_fini(&fetch->entry);
    arena_fini(&fetch->arena);
    free(fetch->request.body);
    fetch_drop_partial(fetch);
    fetch->next_free = fetch->proxy->free_fetches;
    fetch->proxy->free_fetches = fetch;
}

/* ---- the fiber's waiting ---- */

static nanos fetch_deadline(const struct fetch *fetch)
{
    const struct upstream_options *options = &fetch->request.upstream->options;
    nanos deadline = NANOS_NEVER;
    nanos ms = NANOS_PER_MS;
    switch (fetch->phase) {
    case FETCH_CONNECTING: deadline = fetch->progress_ns + options->connect_timeout_ms * ms; break;
    case FETCH_SENDING:
        deadline = fetch->sent_ns != 0 ? fetch->sent_ns + options->first_byte_timeout_ms * ms
                                       : fetch->progress_ns + options->idle_timeout_ms * ms;
        break;
    case FETCH_BODY:
        if (!fetch->receive_paused) { /* the reader's slowness is not the backend's */
            deadline = fetch->progress_ns + options->idle_timeout_ms * ms;
        }
        break;
    case FETCH_IDLE:
    case FETCH_OVER: break;
    }
    if (options->total_timeout_ms != 0) {
        nanos total = fetch->started_ns + options->total_timeout_ms * ms;
        deadline = total < deadline ? total : deadline;
    }
    return deadline;
}

/* Waits until the outcome of this phase is known, or its deadline has passed. What the completions do (all is sent, the
 * head is there, the reader takes more) may bring the deadline nearer without waking the fiber: it looks again at least
 * as often as the shortest of the timeouts that begin with such a moment, so that none of them is ever seen late. */
static enum result fetch_await(struct fetch *fetch)
{
    struct ring *ring = fetch->proxy->ring;
    const struct upstream_options *options = &fetch->request.upstream->options;
    nanos shortest_ms = options->first_byte_timeout_ms < options->idle_timeout_ms ? options->first_byte_timeout_ms
                                                                                  : options->idle_timeout_ms;
    while (fetch->outcome == RESULT_MORE) {
        if (fetch->is_abandoned) {
            return RESULT_CANCELED; /* while it was not waiting */
        }
        nanos deadline = fetch_deadline(fetch);
        if (deadline <= ring_now(ring)) {
            return RESULT_TIMEOUT;
        }
        nanos look = ring_now(ring) + shortest_ms * NANOS_PER_MS;
        fetch->fiber = fiber_current(ring);
        enum result ignored = fiber_wait(ring, deadline < look ? deadline : look);
        (void)ignored;
        fetch->fiber = NULL;
    }
    return fetch->outcome;
}

void fetch_settle(struct fetch *fetch, enum result outcome)
{
    if (fetch->outcome == RESULT_MORE) {
        fetch->outcome = outcome;
    }
    if (fetch->fiber != NULL) {
        fiber_wake(fetch->fiber);
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
    fetch_settle(fetch, fetch->outcome);
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

/* Opens a connection to the endpoint's address whose turn it is. */
static enum result fetch_open(struct fetch *fetch, struct endpoint *endpoint)
{
    fetch->phase = FETCH_CONNECTING;
    fetch->outcome = RESULT_MORE;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    enum result result = upstream_conn_open(endpoint, &fetch->user, &fetch->conn);
    if (result == RESULT_OK) {
        fetch_ref(fetch);
        result = fetch_await(fetch);
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
        if (endpoint->address_next == tried) { /* else another fetch has found out as well */
            endpoint_next_address(endpoint);
        }
    }
    endpoint_failed(endpoint);
    return result;
}

/* Chooses endpoints until one can be connected to. */
static enum result fetch_acquire(struct fetch *fetch)
{
    uint64_t allowed = fetch->request.endpoints_allowed;
    enum result result = RESULT_UNREACHABLE;
    for (unsigned i = 0; i < ENDPOINT_ATTEMPTS_MAX; i++) {
        struct endpoint *endpoint = upstream_choose(fetch->request.upstream, allowed);
        if (endpoint == NULL) {
            return result;
        }
        result = fetch_connect(fetch, endpoint);
        if (result == RESULT_OK || result == RESULT_CANCELED || is_out_of_resources(result)) {
            return result;
        }
        allowed &= ~(UINT64_C(1) << endpoint->index);
    }
    return result;
}

static bool can_send_again(const struct fetch *fetch)
{
    const struct entry *stream = fetch->request.stream;
    return !fetch->any_byte && !fetch->is_abandoned &&
           (stream == NULL || (!stream->is_trimmed && stream->state != ENTRY_FAILED));
}

/* Sends the request on the connection and reads the response to its end. */
static enum result fetch_exchange(struct fetch *fetch)
{
    fetch->phase = FETCH_SENDING;
    fetch->outcome = RESULT_MORE;
    fetch->progress_ns = ring_now(fetch->proxy->ring);
    fetch->sent_ns = 0;
    enum result result = fetch_send(fetch);
    return result == RESULT_OK ? fetch_await(fetch) : result;
}

static enum result fetch_attempt(struct fetch *fetch)
{
    for (;;) {
        fetch->attempts++;
        enum result result = fetch_acquire(fetch);
        if (result != RESULT_OK) {
            return result;
        }
        bool was_reused = fetch->conn->is_reused;
        result = fetch_exchange(fetch);
        bool was_dead = result == RESULT_CLOSED || result == RESULT_RESET || result == RESULT_IO;
        if (!was_dead || !was_reused || fetch->is_retry_fresh || !can_send_again(fetch)) {
            return result;
        }
        fetch_drop_conn(fetch, false);
        fetch->is_retry_fresh = true; /* the other idle ones are likely to be as dead */
        count_up(&fetch->proxy->retries);
    }
}

static void fetch_run(void *context)
{
    struct fetch *fetch = context;
    enum result result = fetch_attempt(fetch);
    fetch->phase = FETCH_OVER;
    if (fetch->stream_reader.entry != NULL) {
        /* Answered before the body was through, or given up: the rest of it is nobody's. */
        fetch->keep_alive = false;
        entry_reader_leave(&fetch->stream_reader);
    }
    char *trailers = fetch->body.trailers;
    uint32_t trailer_bytes = fetch->body.trailer_bytes;
    fetch->body.trailers = NULL;
    if (result == RESULT_OK) {
        endpoint_succeeded(fetch->endpoint);
        struct upstream_conn *conn = fetch->conn;
        if (fetch->keep_alive && fetch->sent_ns != 0) {
            fetch->conn = NULL;
            upstream_conn_release(conn);
        }
        entry_complete(&fetch->entry, trailers, trailer_bytes);
    } else {
        free(trailers);
        if (result == RESULT_CANCELED) {
            count_up(&fetch->proxy->cancels);
        }
        entry_fail(&fetch->entry, fetch->is_abandoned ? RESULT_CANCELED : result);
    }
    /* A request cut off in its middle must not look whole to the backend: reset. */
    fetch_drop_conn(fetch, result != RESULT_OK);
    entry_tell(&fetch->entry);
    fetch_unref(fetch);
}

void fetch_start(struct fetch *fetch)
{
    fetch->started_ns = ring_now(fetch->proxy->ring);
    fetch_ref(fetch); /* the fiber's */
    if (!fiber_start(fetch->proxy->ring, fetch_run, fetch)) {
        fetch->phase = FETCH_OVER;
        entry_fail(&fetch->entry, RESULT_LIMIT);
        entry_tell(&fetch->entry);
        fetch_unref(fetch);
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
    /* When the fiber itself is running, it sees the outcome when it next waits. */
    fetch_settle(fetch, RESULT_CANCELED);
}
