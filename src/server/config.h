/* The configuration: one YAML file, read once, constant after.
 *
 * Every key stands in one table (config_keys.c) with its type, unit, default, bounds and one line of help;
 * docs/configuration.md is made from it. */
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
};

enum config_route_kind { CONFIG_ROUTE_RESPOND, CONFIG_ROUTE_HTTP, CONFIG_ROUTE_INFERENCE };

struct config_header {
    struct bytes name;
    struct bytes value;
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
};

struct config_listener {
    struct bytes text;
    struct ring_address address;
};

struct config {
    struct arena arena; /* holds all of it */
    unsigned workers;   /* 0: auto = one per allowed core */
    bool pin;
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

    bool access_log;
    unsigned log_level; /* enum log_level */

    unsigned upstream_count;
    struct config_upstream *upstreams;
    unsigned route_count;
    struct config_route *routes;
};

/* Reads FILE. Everything that is wrong is written to `errors` as "FILE:LINE: what is wrong; what would be
 * right" lines, and RESULT_CONFIG returned with *ret_config untouched. *Gives* the configuration. */
MUST_USE enum result config_load(const char *path, FILE *errors, struct config **ret_config);

/* The same from memory; `path` is only named in messages. */
MUST_USE enum result config_parse(const char *path, struct bytes text, FILE *errors, struct config **ret_config);
void config_destroy(struct config *config);

/* Writes docs/configuration.md. */
void config_write_reference(FILE *out);

#endif
