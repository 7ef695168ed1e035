/* Upstreams: groups of equal endpoints, and the keep-alive connections to each, per worker.
 *
 * An idle connection stays armed with a receive that holds no memory, so that its end is seen when it
 * happens; whatever comes on it while nobody asked makes it unusable. Endpoints are chosen by least in flight;
 * one that could not be connected to is left out for a while (1 s, doubling up to 30 s), or a dead
 * endpoint, which fails fast, would attract every request. */
#ifndef SLUICE_PROXY_UPSTREAM_H
#define SLUICE_PROXY_UPSTREAM_H

#include "base/bytes.h"
#include "base/list.h"
#include "base/result.h"
#include "cache/chunk.h"
#include "http/http.h"
#include "proxy/outbox.h"
#include "ring/stream.h"

enum { UPSTREAM_ADDRESSES_MAX = 8, UPSTREAM_ENDPOINTS_MAX = 64 };

struct fetch;
struct model_directory;

/* A worker's side of proxying: what all its upstreams share. */
struct proxy {
    struct ring *ring;
    struct chunk_pool *pool;
    struct http_limits limits; /* for the heads of responses */
    struct http_parser parser; /* for heads that arrive in one piece: most */
    struct fetch *free_fetches;
    uint64_t window_bytes_max; /* how far a fetch may run ahead of its slowest reader */
    uint32_t stall_timeout_ms; /* a reader that makes others wait for so long is shed; 0: never */
    /* one writer, read by the metrics */
    _Atomic uint64_t connects;
    _Atomic uint64_t connect_failures;
    _Atomic uint64_t reuses;
    _Atomic uint64_t retries;
    _Atomic uint64_t cancels;
};

void proxy_init(struct proxy *proxy, struct ring *ring, struct chunk_pool *pool);
void proxy_fini(struct proxy *proxy);

struct upstream_options {
    struct bytes name;
    bool client_host; /* Host goes upstream as the client sent it, else the endpoint's */
    uint32_t connect_timeout_ms;
    uint32_t first_byte_timeout_ms;
    uint32_t idle_timeout_ms;
    uint32_t total_timeout_ms;          /* 0: none */
    uint32_t keepalive_connections_max; /* per endpoint */
    uint32_t keepalive_idle_ms;
};

struct endpoint {
    struct upstream *upstream;
    struct bytes text; /* as configured */
    struct bytes host; /* for Host */
    unsigned index;
    unsigned address_count; /* 0: a name that has not been found yet */
    unsigned address_next;  /* tried first next time */
    struct ring_address addresses[UPSTREAM_ADDRESSES_MAX];
    struct list_node idle; /* most recently used first */
    unsigned idle_count;
    struct list_node busy;
    _Atomic uint32_t in_flight;
    unsigned failures_in_row;
    nanos failed_until_ns;
    struct ring_timer idle_timer;
};

struct upstream {
    struct proxy *proxy;
    struct upstream_options options;
    unsigned endpoint_count;
    struct endpoint *endpoints;
    unsigned turn;                  /* ties are broken in turn */
    struct model_directory *models; /* what each endpoint offers (src/api); NULL: not an inference upstream */
};

/* *Keeps* options' and specs' memory. The endpoints' addresses are set by endpoint_set_addresses. */
MUST_USE enum result upstream_init(struct upstream *upstream, struct proxy *proxy,
                                   const struct upstream_options *options, unsigned endpoint_count);
/* Closes idle connections and frees; no fetch may be running. */
void upstream_fini(struct upstream *upstream);

/* Drops the idle connections: for draining. */
void upstream_close_idle(struct upstream *upstream);

/* Gives an endpoint its addresses (at most UPSTREAM_ADDRESSES_MAX are kept). */
void endpoint_set_addresses(struct endpoint *endpoint, const struct ring_address *addresses, unsigned count);

/* The endpoint to use among those whose bit in `allowed` is set: usable, least in flight. NULL when none is
 * allowed. */
struct endpoint *upstream_choose(struct upstream *upstream, uint64_t allowed);

/* Whether it could not be connected to a moment ago, or has no address yet. */
bool endpoint_is_failing(const struct endpoint *endpoint);

/* Whether there is capacity for what nobody waits for: no endpoint has just failed, and of the connections that this
 * worker has to the upstream less than `busy_percent` carry a request, or none at all does. The pool is as large as the
 * last keepalive_idle_ms needed, so that it is the measure of what the upstream is used to. */
bool upstream_is_idle(const struct upstream *upstream, unsigned busy_percent);

/* ---- connections ---- */

struct upstream_conn;

/* Who uses a connection. Every event may release or close it. */
struct upstream_user {
    void (*on_connected)(struct upstream_user *user, enum result result);
    void (*on_data)(struct upstream_user *user, struct bytes data);
    void (*on_ended)(struct upstream_user *user, enum result why);
    void (*on_sent)(struct upstream_user *user, enum result result);
    /* The last call, once per connection, after release or close: no send can look at the user's memory now. */
    void (*on_unpinned)(struct upstream_user *user);
};

struct upstream_conn {
    struct ring_stream stream;
    struct endpoint *endpoint;
    struct list_node node;        /* on idle or busy */
    struct upstream_user *user;   /* NULL: idle, or closing */
    struct upstream_user *pinned; /* whose memory the outbox may point at */
    struct outbox *outbox;
    nanos idle_since_ns;
    nanos flushed_ns; /* when the send in flight, or the last one, was submitted */
    bool is_lazy;     /* it was a lazy one: done when it was submitted, but told later */
    bool is_reused;   /* has carried a response before */
    bool is_closing;
};

/* Takes the idle connection used last, or NULL. */
struct upstream_conn *upstream_conn_reuse(struct endpoint *endpoint, struct upstream_user *user);

/* Begins a connection to one of the endpoint's addresses; on_connected tells. */
MUST_USE enum result upstream_conn_open(struct endpoint *endpoint, struct upstream_user *user,
                                        struct upstream_conn **ret_conn);

/* Sends what the outbox holds, if nothing is in flight; on_sent tells each time a send is over, and without hurry when
 * `lazily` (ring_stream_send_lazily). */
void upstream_conn_flush(struct upstream_conn *conn, bool lazily);

/* Puts it back for others; nothing may be owed on it in either direction. */
void upstream_conn_release(struct upstream_conn *conn);

/* Ends it, with a reset when `abort`; the user hears no more. */
void upstream_conn_close(struct upstream_conn *conn, bool abort);

/* The address whose turn it is could not be reached: the next one's turn. */
void endpoint_next_address(struct endpoint *endpoint);

/* The endpoint answered, or none of its addresses could be reached: for upstream_choose. */
void endpoint_succeeded(struct endpoint *endpoint);
void endpoint_failed(struct endpoint *endpoint);

#endif
