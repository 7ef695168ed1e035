/* The configuration: one YAML file, read once, constant after.
 *
 * Every key stands in one table (config_keys*.c) with its type, unit, default, bounds and one line
 * of help; docs/configuration.md is made from it. */
#ifndef SLUICE_SERVER_CONFIG_H
#define SLUICE_SERVER_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/result.h"
#include "ring/address.h"

struct config_endpoint {
    struct bytes text; /* "127.0.0.1:8000", "[::1]:8000", "name:8000", "unix:/path": no scheme, always a port */
    bool is_name;      /* to be looked up */
    struct ring_address address; /* when it is not a name */
    struct bytes host;           /* what Host says for host_header `endpoint`: text without :80; "localhost" for unix */
};

enum config_host_header { CONFIG_HOST_CLIENT, CONFIG_HOST_ENDPOINT };

/* How requests to an upstream are let through (src/sched). */
struct config_scheduling {
    bool enabled;
    bool observe_only;
    unsigned limiter;         /* enum limiter_kind */
    uint32_t concurrency;     /* 0: auto */
    uint32_t concurrency_min; /* ≤ concurrency_max */
    uint32_t concurrency_max;
    uint32_t endpoint_concurrency_max; /* 0: what is learned */
    uint64_t kv_tokens_max;            /* 0: learned */
    uint32_t first_token_ms;
    uint32_t token_ms; /* 0: no bound */
    uint32_t holdback_percent;
    uint32_t time_scale;
    struct {
        uint32_t requests_max;
        uint64_t tokens_max;     /* 0: no bound */
        uint64_t body_bytes_max; /* 0: no bound */
        uint32_t wait_max_ms;
        uint32_t tenant_share_percent;
        uint32_t aged_share_percent;
        uint32_t small_tokens_max;
        bool lifo_lowest;
    } queue;
};

struct config_upstream {
    struct bytes name;
    unsigned endpoint_count;
    struct config_endpoint *endpoints;
    enum config_host_header host_header;
    uint32_t connect_timeout_ms;
    uint32_t first_byte_timeout_ms;     /* from the request sent to the response's head */
    uint32_t idle_timeout_ms;           /* between two receives of a response, and two sends of a request */
    uint32_t total_timeout_ms;          /* 0: none */
    uint32_t keepalive_connections_max; /* per endpoint and worker */
    uint32_t keepalive_idle_ms;         /* an idle connection is closed after this */
    uint32_t resolve_interval_ms;       /* names are looked up again after this */
    struct config_scheduling scheduling;
};

enum config_route_kind { CONFIG_ROUTE_RESPOND, CONFIG_ROUTE_HTTP, CONFIG_ROUTE_INFERENCE };

struct config_header {
    struct bytes name;
    struct bytes value;
};

/* A part of a request that a cache's key is made of, or that keeps a request out of the cache. */
enum config_part_kind {
    CONFIG_PART_NONE, /* never in a configuration that was accepted */
    CONFIG_PART_METHOD,
    CONFIG_PART_HOST,
    CONFIG_PART_PATH,
    CONFIG_PART_QUERY, /* all of it */
    CONFIG_PART_HEADER,
    CONFIG_PART_COOKIE,
    CONFIG_PART_ARGUMENT, /* of the query */
    CONFIG_PART_ADDRESS,  /* the client's: of a tenant alone */
};

struct config_part {
    enum config_part_kind kind;
    struct bytes name; /* of header, cookie and argument; a field's is in lower case */
};

enum config_cache_cost { CONFIG_COST_TIME, CONFIG_COST_UNIFORM, CONFIG_COST_TOKENS };

enum config_cache_scope { CONFIG_SCOPE_TENANT, CONFIG_SCOPE_SHARED };

/* Fetching ahead what a client is likely to ask for next. */
struct config_prefetch {
    bool enabled;               /* never without the cache */
    struct config_part session; /* what tells clients apart; CONFIG_PART_NONE: their address */
    uint32_t confidence_percent;
    uint32_t precision_percent_min;
    uint32_t window_ms;
    uint32_t in_flight_max;    /* per worker */
    uint32_t busy_percent_max; /* of the worker's connections to the upstream */
    uint64_t memory_bytes_max; /* per worker */
};

/* What a route's answers may be kept for, and how. On an inference route what stands under "http" is zero, and the
 * reverse; on a `respond` route all is. */
struct config_cache {
    bool enabled;
    unsigned cost; /* enum config_cache_cost */
    uint64_t
        ttl_ms; /* http: of a response that says nothing of its own, 0: by the RFC's rules alone; inference: of all */
    unsigned bypass_count;
    const struct config_part *bypass; /* header, cookie, argument: there, and neither empty nor "0": no cache */
    bool coalesce;
    uint32_t coalesce_waiters_max;
    uint32_t coalesce_wait_ms; /* a waiter that has seen no head by then goes on its own */

    /* http */
    uint32_t negative_ttl_ms; /* 0: errors are not kept */
    uint32_t heuristic_percent;
    uint64_t heuristic_max_ms;
    uint64_t stale_while_revalidate_ms; /* when the response says nothing; 0: only what responses say */
    uint64_t stale_if_error_ms;         /* likewise */
    uint64_t keep_ms;                   /* how long a stale response with a validator is kept to be asked about */
    unsigned key_count;                 /* at least one */
    unsigned key_kinds;                 /* one bit, 1 << enum config_part_kind, for each kind of part in key */
    const struct config_part *key;      /* in the order written */
    unsigned target_count;
    const struct bytes *targets; /* targeted Cache-Control fields in lower case, the first that is there counts */
    bool set_cookie;
    struct config_prefetch prefetch;

    /* inference */
    unsigned scope; /* enum config_cache_scope */
    bool sampled;
    bool coalesce_sampled;
    bool tool_calls;
};

/* An API that takes an array. */
struct config_array {
    struct bytes path;
    struct bytes items;
    struct bytes results;
    struct bytes index; /* .len 0: in order */
};

/* Of an inference route: which requests are merged, and how. */
struct config_batching {
    bool enabled;
    uint32_t items_max;
    uint64_t tokens_max; /* 0: no bound */
    uint64_t body_bytes_max;
    uint32_t waiting_max;
    uint32_t wait_max_ms;
    uint32_t latency_max_ms; /* 0: no bound */
    unsigned array_count;
    const struct config_array *arrays;
};

struct config_route {
    struct bytes name;        /* for metrics: as configured, or made from its path */
    struct bytes host;        /* lower case; empty: any; "*.example.com": any name below it */
    struct bytes path;        /* exact; empty when path_prefix is used */
    struct bytes path_prefix; /* matches whole segments: /v1 matches /v1 and /v1/x, not /v1x */
    unsigned method_count;    /* 0: any */
    struct bytes *methods;
    enum config_route_kind kind;

    /* respond */
    uint16_t status;
    struct bytes body;
    struct bytes content_type;
    unsigned header_count;
    struct config_header *headers;

    /* http, inference */
    unsigned upstream;            /* index */
    uint64_t body_bytes_max;      /* http: 0 = none (streamed anyway); inference: what is buffered, default 10 MB */
    bool half_close_is_departure; /* a client's FIN counts as gone: default inference true, http false */
    struct config_cache cache;
    struct config_batching batching; /* inference */
    uint32_t class;
    bool trust_class;
    uint32_t deadline_ms; /* 0: the upstream's wait_max_ms */
    unsigned tenant_count;
    const struct config_part *tenant; /* the first that a request has; none: the API key, else the address */
};

/* Who has this API key, or this value of what a route says tenants are known by. */
struct config_tenant {
    struct bytes name;
    struct bytes key;   /* empty: none */
    struct bytes value; /* likewise */
    uint32_t class;     /* 4: the route's */
    uint32_t weight;
};

struct config_listener {
    struct bytes text;
    struct ring_address address;
    struct bytes name; /* by which a service manager passes its socket; empty: by its address alone */
};

/* So many bytes, or so many percent of what this process may use. */
struct config_memory {
    uint64_t bytes;
    unsigned percent; /* 0: bytes holds */
};

/* Beside false and true, where the table of keys allows it. */
enum { CONFIG_BOOL_AUTO = 2 };

struct config {
    struct arena arena; /* holds all of it */
    unsigned workers;   /* 0: auto, see server/machine_plan.h */
    uint8_t pin;        /* false, true or CONFIG_BOOL_AUTO */
    unsigned listener_count;
    struct config_listener *listeners;
    bool has_admin;
    struct config_listener admin;

    struct {
        uint32_t head_bytes_max;
        uint32_t target_bytes_max;
        uint32_t fields_max;
        uint32_t connections_max;     /* per worker */
        uint32_t head_timeout_ms;     /* from the first byte of a head (or the accept) to its end: 408 */
        uint32_t idle_timeout_ms;     /* keep-alive, between requests: closed silently */
        uint32_t body_rate_bytes_min; /* a request body slower than this, averaged, after body_grace_ms: 408 */
        uint32_t body_grace_ms;
        uint32_t send_timeout_ms;             /* a client that takes nothing for this long is reset */
        uint32_t drain_timeout_ms;            /* SIGTERM: then what is left is cut off */
        uint32_t linger_timeout_ms;           /* after an error: how long the client's bytes are read and thrown away */
        uint32_t requests_per_connection_max; /* 0: no limit */
    } limits;

    struct {
        struct config_memory memory;
        unsigned eviction; /* enum evict_policy */
        uint64_t object_bytes_max;
        uint64_t entries_max;  /* 0: no bound */
        struct bytes database; /* a path, ends with NUL; empty: no second tier */
        uint64_t database_bytes_max;
        uint32_t database_cost_min_ms; /* entries that took less are not written behind */
        uint32_t warm_start_percent;   /* of the memory, filled from the database at start */
        struct bytes api_token;        /* empty: /api/cache is answered on the admin listener alone */
    } cache;

    bool access_log;
    unsigned log_level; /* enum log_level */

    unsigned upstream_count;
    struct config_upstream *upstreams;
    unsigned route_count;
    struct config_route *routes;
    unsigned tenant_count;
    struct config_tenant *tenants;
};

/* Reads FILE. Everything that is wrong is written to `errors` as "FILE:LINE: what is wrong; what would be
 * right" lines, and RESULT_CONFIG returned with *ret_config untouched. *Gives* the configuration. */
MUST_USE enum result config_load(const char *path, FILE *errors, struct config **ret_config);

/* The same from memory; `path` is only named in messages. */
MUST_USE enum result config_parse(const char *path, struct bytes text, FILE *errors, struct config **ret_config);
void config_destroy(struct config *config);

/* What `cache.memory` comes to where a process may use so much, of all workers together; 0: there is no cache. */
uint64_t config_cache_memory_bytes(const struct config *config, uint64_t usable_bytes);

/* Writes docs/configuration.md. */
void config_write_reference(FILE *out);

#endif
