#include "proxy/upstream.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "base/log.h"

enum { FAILED_MS_MIN = 1000, FAILED_MS_MAX = 30000 };

static void in_flight_add(struct endpoint *endpoint, int by)
{
    uint32_t now = atomic_load_explicit(&endpoint->in_flight, memory_order_relaxed);
    atomic_store_explicit(&endpoint->in_flight, now + (uint32_t)by, memory_order_relaxed);
}

/* ---- endpoints ---- */

static void endpoint_on_idle_timer(struct ring_timer *timer);

enum result upstream_init(struct upstream *upstream, struct proxy *proxy, const struct upstream_options *options,
                          unsigned endpoint_count)
{
    CHECK(endpoint_count > 0 && endpoint_count <= UPSTREAM_ENDPOINTS_MAX);
    *upstream = (struct upstream){.proxy = proxy, .options = *options, .endpoint_count = endpoint_count};
    upstream->endpoints = calloc(endpoint_count, sizeof(*upstream->endpoints));
    if (upstream->endpoints == NULL) {
        return RESULT_NO_MEMORY;
    }
    for (unsigned i = 0; i < endpoint_count; i++) {
        struct endpoint *endpoint = &upstream->endpoints[i];
        endpoint->upstream = upstream;
        endpoint->index = i;
        list_init(&endpoint->idle);
        list_init(&endpoint->busy);
        ring_timer_init(&endpoint->idle_timer, endpoint_on_idle_timer);
    }
    return RESULT_OK;
}

void endpoint_set_addresses(struct endpoint *endpoint, const struct ring_address *addresses, unsigned count)
{
    endpoint->address_count = count < UPSTREAM_ADDRESSES_MAX ? count : UPSTREAM_ADDRESSES_MAX;
    memcpy(endpoint->addresses, addresses, endpoint->address_count * sizeof(*addresses));
    endpoint->address_next = 0;
}

void endpoint_next_address(struct endpoint *endpoint)
{
    if (endpoint->address_count > 0) {
        endpoint->address_next = (endpoint->address_next + 1) % endpoint->address_count;
    }
}

void endpoint_succeeded(struct endpoint *endpoint)
{
    if (UNLIKELY(endpoint->failures_in_row > 0)) {
        endpoint->failures_in_row = 0;
        endpoint->failed_until_ns = 0;
        log_info("upstream endpoint is back upstream=%.*s endpoint=%.*s", BYTES_ARG(endpoint->upstream->options.name),
                 BYTES_ARG(endpoint->text));
    }
}

void endpoint_failed(struct endpoint *endpoint)
{
    struct proxy *proxy = endpoint->upstream->proxy;
    counter_add(&proxy->connect_failures, 1);
    unsigned shift = endpoint->failures_in_row < 5 ? endpoint->failures_in_row : 5;
    nanos wait_ms = (nanos)FAILED_MS_MIN << shift;
    wait_ms = wait_ms > FAILED_MS_MAX ? FAILED_MS_MAX : wait_ms;
    endpoint->failed_until_ns = ring_now(proxy->ring) + wait_ms * NANOS_PER_MS;
    if (endpoint->failures_in_row++ == 0) {
        log_warn("upstream endpoint cannot be reached upstream=%.*s endpoint=%.*s",
                 BYTES_ARG(endpoint->upstream->options.name), BYTES_ARG(endpoint->text));
    }
}

bool endpoint_is_failing(const struct endpoint *endpoint)
{
    return endpoint->failed_until_ns > ring_now(endpoint->upstream->proxy->ring) || endpoint->address_count == 0;
}

struct endpoint *upstream_choose(struct upstream *upstream, uint64_t allowed)
{
    if (upstream->endpoint_count == 1) {
        return (allowed & 1) != 0 ? &upstream->endpoints[0] : NULL;
    }
    struct endpoint *best = NULL;
    bool best_failed = false;
    unsigned start = upstream->turn++;
    for (unsigned i = 0; i < upstream->endpoint_count; i++) {
        struct endpoint *endpoint = &upstream->endpoints[(start + i) % upstream->endpoint_count];
        if ((allowed >> endpoint->index & 1) == 0) {
            continue;
        }
        bool failed = endpoint_is_failing(endpoint);
        bool better = best == NULL || (best_failed && !failed);
        if (!better && best_failed == failed) {
            better = failed ? endpoint->failed_until_ns < best->failed_until_ns
                            : atomic_load_explicit(&endpoint->in_flight, memory_order_relaxed) <
                                  atomic_load_explicit(&best->in_flight, memory_order_relaxed);
        }
        if (better) {
            best = endpoint;
            best_failed = failed;
        }
    }
    return best;
}

bool upstream_is_idle(const struct upstream *upstream, unsigned busy_percent)
{
    uint64_t busy = 0;
    uint64_t idle = 0;
    for (unsigned i = 0; i < upstream->endpoint_count; i++) {
        const struct endpoint *endpoint = &upstream->endpoints[i];
        if (endpoint->failures_in_row > 0 || endpoint->address_count == 0) {
            return false;
        }
        busy += atomic_load_explicit(&endpoint->in_flight, memory_order_relaxed);
        idle += endpoint->idle_count;
    }
    return busy == 0 || busy * 100 < busy_percent * (busy + idle);
}

/* ---- connections ---- */

static struct upstream_conn *conn_of(struct ring_stream *stream)
{
    return CONTAINER_OF(stream, struct upstream_conn, stream);
}

static void conn_on_received(struct ring_stream *stream, const char *data, size_t bytes)
{
    struct upstream_conn *conn = conn_of(stream);
    if (conn->user != NULL) {
        conn->user->on_data(conn->user, (struct bytes){data, bytes});
    } else {
        upstream_conn_close(conn, false); /* bytes that nobody asked for */
    }
}

static void conn_on_receive_ended(struct ring_stream *stream, enum result why)
{
    struct upstream_conn *conn = conn_of(stream);
    if (conn->user != NULL) {
        conn->user->on_ended(conn->user, why);
    } else if (why == RESULT_CANCELED) {
        /* Its last user had stopped the receive, to go on in another way, when the response was over. */
        ring_stream_receive(&conn->stream);
    } else {
        upstream_conn_close(conn, false);
    }
}

static void conn_on_sent(struct ring_stream *stream, enum result result, size_t bytes)
{
    struct upstream_conn *conn = conn_of(stream);
    outbox_sent(conn->outbox, bytes);
    if (conn->outbox->pending_bytes == 0) {
        outbox_release(conn->outbox);
        conn->outbox = NULL;
    }
    if (conn->user != NULL) {
        conn->user->on_sent(conn->user, result);
    }
}

static void conn_on_connected(struct ring_stream *stream, enum result result)
{
    struct upstream_conn *conn = conn_of(stream);
    if (result == RESULT_OK) {
        ring_stream_receive(&conn->stream);
    }
    if (conn->user != NULL) {
        conn->user->on_connected(conn->user, result);
    }
}

static void conn_unpin(struct upstream_conn *conn)
{
    struct upstream_user *pinned = conn->pinned;
    if (pinned != NULL) {
        conn->pinned = NULL;
        pinned->on_unpinned(pinned);
    }
}

static void conn_on_closed(struct ring_stream *stream)
{
    struct upstream_conn *conn = conn_of(stream);
    if (conn->outbox != NULL) {
        outbox_release(conn->outbox);
    }
    conn_unpin(conn);
    free(conn);
}

static const struct ring_stream_events conn_events = {
    .received = conn_on_received,
    .receive_ended = conn_on_receive_ended,
    .sent = conn_on_sent,
    .connected = conn_on_connected,
    .closed = conn_on_closed,
};

struct upstream_conn *upstream_conn_reuse(struct endpoint *endpoint, struct upstream_user *user)
{
    struct list_node *node = list_pop_front(&endpoint->idle);
    if (node == NULL) {
        return NULL;
    }
    struct upstream_conn *conn = CONTAINER_OF(node, struct upstream_conn, node);
    endpoint->idle_count--;
    list_push_back(&endpoint->busy, &conn->node);
    conn->user = user;
    conn->pinned = user;
    in_flight_add(endpoint, 1);
    counter_add(&endpoint->upstream->proxy->reuses, 1);
    return conn;
}

enum result upstream_conn_open(struct endpoint *endpoint, struct upstream_user *user, struct upstream_conn **ret_conn)
{
    if (endpoint->address_count == 0) {
        return RESULT_UNREACHABLE;
    }
    struct upstream_conn *conn = calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return RESULT_NO_MEMORY;
    }
    struct proxy *proxy = endpoint->upstream->proxy;
    const struct ring_address *address = &endpoint->addresses[endpoint->address_next];
    enum result result = ring_stream_connect(proxy->ring, &conn->stream, &conn_events, address);
    if (result != RESULT_OK) {
        free(conn);
        return result;
    }
    conn->endpoint = endpoint;
    conn->user = user;
    conn->pinned = user;
    list_init(&conn->node);
    list_push_back(&endpoint->busy, &conn->node);
    in_flight_add(endpoint, 1);
    counter_add(&proxy->connects, 1);
    *ret_conn = conn;
    return RESULT_OK;
}

void upstream_conn_flush(struct upstream_conn *conn, bool lazily)
{
    if (conn->is_closing || conn->outbox == NULL) {
        return;
    }
    if (conn->stream.send_armed) {
        ring_stream_hurry(&conn->stream); /* more has come behind it */
    } else if (conn->outbox->pending_bytes > 0) {
        outbox_send(conn->outbox, &conn->stream, lazily);
        conn->flushed_ns = ring_now(conn->endpoint->upstream->proxy->ring);
        conn->is_lazy = ring_stream_is_sent_lazily(&conn->stream);
    }
}

/* One timer for all idle connections of an endpoint; it looks at the one unused for longest. */
static void endpoint_on_idle_timer(struct ring_timer *timer)
{
    struct endpoint *endpoint = CONTAINER_OF(timer, struct endpoint, idle_timer);
    struct proxy *proxy = endpoint->upstream->proxy;
    nanos limit = (nanos)endpoint->upstream->options.keepalive_idle_ms * NANOS_PER_MS;
    while (!list_is_empty(&endpoint->idle)) {
        struct upstream_conn *oldest = CONTAINER_OF(endpoint->idle.prev, struct upstream_conn, node);
        if (oldest->idle_since_ns + limit > ring_now(proxy->ring)) {
            ring_timer_set(proxy->ring, timer, oldest->idle_since_ns + limit);
            return;
        }
        upstream_conn_close(oldest, false);
    }
}

void upstream_conn_release(struct upstream_conn *conn)
{
    struct endpoint *endpoint = conn->endpoint;
    struct proxy *proxy = endpoint->upstream->proxy;
    if (endpoint->idle_count >= endpoint->upstream->options.keepalive_connections_max) {
        upstream_conn_close(conn, false);
        return;
    }
    CHECK(conn->outbox == NULL && !conn->is_closing);
    in_flight_add(endpoint, -1);
    conn->user = NULL;
    conn->is_reused = true;
    conn->idle_since_ns = ring_now(proxy->ring);
    list_remove(&conn->node);
    list_push_front(&endpoint->idle, &conn->node);
    endpoint->idle_count++;
    if (!conn->stream.receive_armed) {
        ring_stream_receive(&conn->stream);
    }
    if (!ring_timer_is_set(&endpoint->idle_timer)) {
        nanos limit = (nanos)endpoint->upstream->options.keepalive_idle_ms * NANOS_PER_MS;
        ring_timer_set(proxy->ring, &endpoint->idle_timer, conn->idle_since_ns + limit);
    }
    conn_unpin(conn);
}

void upstream_conn_close(struct upstream_conn *conn, bool abort)
{
    if (conn->is_closing) {
        return;
    }
    conn->is_closing = true;
    if (conn->user == NULL) {
        conn->endpoint->idle_count--;
    } else {
        in_flight_add(conn->endpoint, -1);
        conn->user = NULL;
    }
    list_remove(&conn->node);
    if (abort) {
        ring_stream_reset(&conn->stream);
    } else {
        ring_stream_close(&conn->stream);
    }
}

void upstream_close_idle(struct upstream *upstream)
{
    for (unsigned i = 0; i < upstream->endpoint_count; i++) {
        struct endpoint *endpoint = &upstream->endpoints[i];
        ring_timer_cancel(upstream->proxy->ring, &endpoint->idle_timer);
        while (!list_is_empty(&endpoint->idle)) {
            upstream_conn_close(CONTAINER_OF(endpoint->idle.next, struct upstream_conn, node), false);
        }
    }
}

void upstream_fini(struct upstream *upstream)
{
    if (upstream->endpoints != NULL) {
        upstream_close_idle(upstream);
        free(upstream->endpoints);
        upstream->endpoints = NULL;
    }
}
