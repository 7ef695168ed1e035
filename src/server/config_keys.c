/* Every key of the configuration, once: what it is called, what it may be, what it is when it is left out,
 * where its value goes, and one line of help. The reader (config_walk.c) and the reference
 * (docs/configuration.md, config_reference.c) are both made from it; a key that is not here does not exist. */

#include <stddef.h>

#include "base/check.h"
#include "base/log.h"
#include "cache/evict.h"
#include "http/http.h"
#include "proxy/upstream.h"
#include "server/config_internal.h"

#define AT(type, member) .at = offsetof(struct type, member), .bytes = sizeof(((struct type *)0)->member)
#define LIST_AT(type, list, count)                                                 \
    .at = offsetof(struct type, list), .bytes = sizeof(*((struct type *)0)->list), \
    .count_at = offsetof(struct type, count)
#define BOUNDS(low, high)      .min = (low), .max = (high)
#define MS(low, high)          .unit = "ms", .min = (low), .max = (high)
#define BYTES_RANGE(low, high) .unit = "bytes", .min = (low), .max = (high)

enum {
    MINUTE_MS = 60 * 1000,
    HOUR_MS = 60 * MINUTE_MS,
    DAY_MS = 24 * HOUR_MS,
};
#define YEAR_MS            (UINT64_C(365) * DAY_MS)
#define MEMORY_BYTES_LIMIT (UINT64_C(1) << 46)
#define BODY_BYTES_LIMIT   (UINT64_C(1) << 40) /* more than any body; keeps sums of them inside 64 bits */

_Static_assert(LOG_DEBUG == 0 && LOG_INFO == 1 && LOG_WARN == 2 && LOG_ERROR == 3, "as in log_levels");
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};

_Static_assert(CONFIG_HOST_CLIENT == 0 && CONFIG_HOST_ENDPOINT == 1, "as in host_headers");
static const char *const host_headers[] = {"client", "endpoint", NULL};

_Static_assert(EVICT_COST == 0 && EVICT_S3FIFO == 1, "as in evictions");
static const char *const evictions[] = {"cost", "s3fifo", NULL};

_Static_assert(CONFIG_COST_TIME == 0 && CONFIG_COST_UNIFORM == 1 && CONFIG_COST_TOKENS == 2, "as in costs");
static const char *const http_costs[] = {"time", "uniform", NULL};
static const char *const inference_costs[] = {"time", "uniform", "tokens", NULL};

_Static_assert(CONFIG_SCOPE_TENANT == 0 && CONFIG_SCOPE_SHARED == 1, "as in scopes");
static const char *const scopes[] = {"tenant", "shared", NULL};

_Static_assert(CONFIG_PART_METHOD == 1 && CONFIG_PART_HOST == 2 && CONFIG_PART_PATH == 3 && CONFIG_PART_QUERY == 4,
               "as in whole_parts, from 1");
static const char *const whole_parts[] = {"method", "host", "path", "query", NULL};

const struct config_key config_keys[] = {
    {.path = "workers",
     .type = CONFIG_NUMBER,
     AT(config, workers),
     BOUNDS(1, 1024),
     .zero = "auto",
     .fallback = "auto",
     .help = "How many worker threads, each with its own io_uring; `auto`: one per core this process may use."},
    {.path = "pin",
     .type = CONFIG_BOOL,
     AT(config, pin),
     .fallback = "true",
     .help = "Keep each worker on its own core; turn it off when other busy programs share the cores."},
    {.path = "access_log",
     .type = CONFIG_BOOL,
     AT(config, access_log),
     .fallback = "false",
     .help = "Write one line of JSON per request to standard output."},
    {.path = "log_level",
     .type = CONFIG_WORD,
     AT(config, log_level),
     .words = log_levels,
     .fallback = "info",
     .help = "The least important lines that still go to standard error."},

    {.path = "listeners",
     .type = CONFIG_LIST,
     .required = true,
     LIST_AT(config, listeners, listener_count),
     BOUNDS(1, 64),
     .help = "Where clients connect."},
    {.path = "listeners[].address",
     .type = CONFIG_LISTENS,
     .required = true,
     .at = 0,
     BOUNDS(1, 120),
     .help = "`127.0.0.1:8080`, `\"[::1]:8080\"`, `:8080` or `\"*:8080\"` (every IPv4 address of the machine), or "
             "`unix:/run/sluice.sock`."},

    {.path = "admin",
     .type = CONFIG_OPTIONAL,
     AT(config, has_admin),
     .help = "A listener of its own for `/health` and `/metrics`; without this section there is none."},
    {.path = "admin.address",
     .type = CONFIG_LISTENS,
     .required = true,
     AT(config, admin),
     BOUNDS(1, 120),
     .help = "As a listener's; keep it where only you can reach it."},

    {.path = "limits",
     .type = CONFIG_SECTION,
     .help = "What one client may ask for. A request over a limit gets the status named here and a closed "
             "connection."},
    {.path = "limits.head_bytes_max",
     .type = CONFIG_NUMBER,
     AT(config, limits.head_bytes_max),
     BYTES_RANGE(512, HTTP_HEAD_BYTES_MAX),
     .fallback = "16384",
     .help = "Largest request head (request line and all header fields): 431 beyond."},
    {.path = "limits.target_bytes_max",
     .type = CONFIG_NUMBER,
     AT(config, limits.target_bytes_max),
     BYTES_RANGE(64, HTTP_HEAD_BYTES_MAX),
     .fallback = "8192",
     .help = "Longest request target (path and query), at most head_bytes_max: 414 beyond."},
    {.path = "limits.fields_max",
     .type = CONFIG_NUMBER,
     AT(config, limits.fields_max),
     BOUNDS(1, HTTP_FIELDS_MAX),
     .fallback = "100",
     .help = "Most header fields in a request: 431 beyond."},
    {.path = "limits.connections_max",
     .type = CONFIG_NUMBER,
     AT(config, limits.connections_max),
     BOUNDS(1, 1 << 20),
     .fallback = "65536",
     .help = "Most client connections per worker; further ones wait in the kernel's queue. The limit on open files "
             "(`ulimit -n`) must allow it."},
    {.path = "limits.head_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config, limits.head_timeout_ms),
     MS(1, DAY_MS),
     .fallback = "10000",
     .help = "From the first byte of a request's head (or the accept) to its last: 408 beyond."},
    {.path = "limits.idle_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config, limits.idle_timeout_ms),
     MS(1, DAY_MS),
     .fallback = "75000",
     .help = "A connection without a request for this long is closed."},
    {.path = "limits.body_rate_bytes_min",
     .type = CONFIG_NUMBER,
     AT(config, limits.body_rate_bytes_min),
     .unit = "bytes/s",
     BOUNDS(0, 1 << 30),
     .fallback = "240",
     .help = "Slowest average a request's body may arrive at, once body_grace_ms have passed: 408 below; 0: any."},
    {.path = "limits.body_grace_ms",
     .type = CONFIG_NUMBER,
     AT(config, limits.body_grace_ms),
     MS(0, DAY_MS),
     .fallback = "10000",
     .help = "For how long a request's body may be slower than body_rate_bytes_min."},
    {.path = "limits.send_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config, limits.send_timeout_ms),
     MS(1, DAY_MS),
     .fallback = "60000",
     .help = "A client that takes none of its response for this long is reset."},
    {.path = "limits.drain_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config, limits.drain_timeout_ms),
     MS(0, DAY_MS),
     .fallback = "30000",
     .help = "After SIGTERM, how long requests in flight may take to finish before they are cut off."},
    {.path = "limits.linger_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config, limits.linger_timeout_ms),
     MS(0, 10 * MINUTE_MS),
     .fallback = "2000",
     .help = "After an error, how long the rest of a client's request is read and thrown away, so that it can read "
             "the answer."},
    {.path = "limits.requests_per_connection_max",
     .type = CONFIG_NUMBER,
     AT(config, limits.requests_per_connection_max),
     BOUNDS(0, UINT32_MAX),
     .fallback = "0",
     .help = "A connection is closed after this many requests; 0: never."},

    {.path = "cache",
     .type = CONFIG_SECTION,
     .help = "What all routes' caches share. Which routes use it, and how, is said in their own `cache`."},
    {.path = "cache.memory",
     .type = CONFIG_MEMORY,
     AT(config, cache.memory),
     BYTES_RANGE(1 << 20, MEMORY_BYTES_LIMIT),
     .fallback = "25%",
     .help =
         "For everything that is stored, keys and index included: `512MB`, or a percentage of what the cgroup or the "
         "machine allows. `0` switches the cache off."},
    {.path = "cache.object_bytes_max",
     .type = CONFIG_NUMBER,
     AT(config, cache.object_bytes_max),
     BYTES_RANGE(1, UINT64_C(1) << 30),
     .fallback = "16777216",
     .help = "A response larger than this is passed on and not stored."},
    {.path = "cache.eviction",
     .type = CONFIG_WORD,
     AT(config, cache.eviction),
     .words = evictions,
     .fallback = "cost",
     .help = "Which response goes when memory is full: `cost` weighs what each took to make against its size, `s3fifo` "
             "counts uses alone."},
    {.path = "cache.entries_max",
     .type = CONFIG_NUMBER,
     AT(config, cache.entries_max),
     BOUNDS(0, UINT32_MAX),
     .fallback = "0",
     .variable = "CACHE_MAX_SIZE",
     .help = "Most responses stored, of all workers together; 0: as many as memory holds."},
    {.path = "cache.database",
     .type = CONFIG_FILE,
     AT(config, cache.database),
     BOUNDS(1, 4000),
     .variable = "DATABASE_PATH",
     .help =
         "The file of a second tier (SQLite, made when it is not there) that outlives restarts; without it there is "
         "none."},
    {.path = "cache.database_bytes_max",
     .type = CONFIG_NUMBER,
     AT(config, cache.database_bytes_max),
     BYTES_RANGE(1 << 20, BODY_BYTES_LIMIT),
     .fallback = "1073741824",
     .help = "How large the file may grow; what was used longest ago goes first."},
    {.path = "cache.database_cost_min_ms",
     .type = CONFIG_NUMBER,
     AT(config, cache.database_cost_min_ms),
     MS(0, HOUR_MS),
     .fallback = "100",
     .help = "What took less than this to make is not written to the database: asking again is as cheap."},
    {.path = "cache.warm_start_percent",
     .type = CONFIG_NUMBER,
     AT(config, cache.warm_start_percent),
     .unit = "%",
     BOUNDS(0, 100),
     .fallback = "25",
     .help = "How much of the cache's memory is filled from the database at the start, the most used first."},
    {.path = "cache.api_token",
     .type = CONFIG_SECRET,
     AT(config, cache.api_token),
     BOUNDS(16, 256),
     .help =
         "When set, `/api/cache` is answered on the public listeners too, to requests with `Authorization: Bearer` and "
         "this; `${CACHE_TOKEN}` keeps it out of the file. The admin listener asks for none."},

    {.path = "upstreams",
     .type = CONFIG_LIST,
     LIST_AT(config, upstreams, upstream_count),
     BOUNDS(0, 256),
     .help = "The servers that requests are forwarded to."},
    {.path = "upstreams[].name",
     .type = CONFIG_NAME,
     .required = true,
     AT(config_upstream, name),
     BOUNDS(1, 64),
     .help = "What routes and metrics call it."},
    {.path = "upstreams[].endpoints",
     .type = CONFIG_LIST,
     .required = true,
     LIST_AT(config_upstream, endpoints, endpoint_count),
     BOUNDS(1, UPSTREAM_ENDPOINTS_MAX),
     .help = "Servers that are interchangeable; each request goes to the one with the fewest in flight."},
    {.path = "upstreams[].endpoints[]",
     .type = CONFIG_ENDPOINT,
     .at = 0,
     BOUNDS(1, 270),
     .help = "`127.0.0.1:8000`, `\"[::1]:8000\"`, `gpu.lan:8000` (looked up again every resolve_interval_ms) or "
             "`unix:/run/x.sock`; `http://` may stand in front, `https://` is not supported yet."},
    {.path = "upstreams[].host_header",
     .type = CONFIG_WORD,
     AT(config_upstream, host_header),
     .words = host_headers,
     .fallback = "client",
     .help = "What Host says upstream: what the `client` sent, or the `endpoint` as written above (`localhost` for a "
             "unix socket)."},
    {.path = "upstreams[].connect_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config_upstream, connect_timeout_ms),
     MS(1, HOUR_MS),
     .fallback = "2000",
     .help = "For a connection to be made: 504 beyond."},
    {.path = "upstreams[].first_byte_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config_upstream, first_byte_timeout_ms),
     MS(1, DAY_MS),
     .fallback = "600000",
     .help = "From the request sent to the response's head: 504 beyond. Ten minutes, as the OpenAI clients wait: a "
             "prompt can queue for minutes before its first token; 60000 suits ordinary services."},
    {.path = "upstreams[].idle_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config_upstream, idle_timeout_ms),
     MS(1, DAY_MS),
     .fallback = "300000",
     .help = "Longest silence inside a response, or while a request is being sent."},
    {.path = "upstreams[].total_timeout_ms",
     .type = CONFIG_NUMBER,
     AT(config_upstream, total_timeout_ms),
     MS(0, DAY_MS),
     .fallback = "0",
     .help = "For the whole exchange with the upstream; 0: no limit."},
    {.path = "upstreams[].keepalive_connections_max",
     .type = CONFIG_NUMBER,
     AT(config_upstream, keepalive_connections_max),
     BOUNDS(0, 65536),
     .fallback = "256",
     .help = "Most idle connections kept for reuse, per endpoint and worker; 0: none."},
    {.path = "upstreams[].keepalive_idle_ms",
     .type = CONFIG_NUMBER,
     AT(config_upstream, keepalive_idle_ms),
     MS(1, DAY_MS),
     .fallback = "60000",
     .help = "An idle connection is closed after this; keep it below the upstream's own timeout (uvicorn: 5000)."},
    {.path = "upstreams[].resolve_interval_ms",
     .type = CONFIG_NUMBER,
     AT(config_upstream, resolve_interval_ms),
     MS(1000, DAY_MS),
     .fallback = "30000",
     .help = "Endpoints given by name are looked up again after this."},

    {.path = "routes",
     .type = CONFIG_LIST,
     .required = true,
     LIST_AT(config, routes, route_count),
     BOUNDS(1, 1024),
     .help = "Which request goes where. Each has `path` or `path_prefix`, and exactly one of `respond`, `http` and "
             "`inference`. Of those that fit a request the most specific takes it, wherever it stands: an exact host "
             "before `*.`, an exact path before a longer prefix before a shorter one, one with methods before one "
             "without."},
    {.path = "routes[].name",
     .type = CONFIG_NAME,
     AT(config_route, name),
     BOUNDS(1, 64),
     .fallback_says = "its path",
     .help = "What metrics and logs call it."},
    {.path = "routes[].host",
     .type = CONFIG_HOST,
     AT(config_route, host),
     BOUNDS(1, 255),
     .fallback_says = "any",
     .help = "Only requests for this host: `api.example.com`, or `\"*.example.com\"` for every name below it; without "
             "a port."},
    {.path = "routes[].path",
     .type = CONFIG_PATH,
     AT(config_route, path),
     BOUNDS(1, 4096),
     .help = "Only this path, exactly."},
    {.path = "routes[].path_prefix",
     .type = CONFIG_PATH,
     AT(config_route, path_prefix),
     BOUNDS(1, 4096),
     .help = "This path and everything below it, by whole segments: `/v1` is for /v1 and /v1/models, not /v1x; `/` "
             "is for everything."},
    {.path = "routes[].methods",
     .type = CONFIG_LIST,
     LIST_AT(config_route, methods, method_count),
     BOUNDS(1, 64),
     .fallback_says = "any",
     .help = "Only requests with one of these methods; GET stands for HEAD too."},
    {.path = "routes[].methods[]",
     .type = CONFIG_METHOD,
     .at = 0,
     BOUNDS(1, 32),
     .help = "one such as GET or POST, in capitals."},

    {.path = "routes[].respond",
     .type = CONFIG_OPTIONAL,
     .at = CONFIG_NOWHERE,
     .help = "Answer at once, always the same."},
    {.path = "routes[].respond.status",
     .type = CONFIG_NUMBER,
     AT(config_route, status),
     BOUNDS(200, 599),
     .fallback = "200",
     .help = "The status code."},
    {.path = "routes[].respond.content_type",
     .type = CONFIG_VALUE,
     AT(config_route, content_type),
     BOUNDS(1, 256),
     .fallback = "text/plain; charset=utf-8",
     .help = "The Content-Type of the body."},
    {.path = "routes[].respond.body",
     .type = CONFIG_TEXT,
     AT(config_route, body),
     BOUNDS(0, CONFIG_FILE_BYTES_MAX),
     .fallback = "",
     .fallback_says = "empty",
     .help = "The body; not with a status of 204, 205 or 304."},
    {.path = "routes[].respond.headers",
     .type = CONFIG_HEADERS,
     LIST_AT(config_route, headers, header_count),
     BOUNDS(0, 64),
     .fallback_says = "none",
     .help = "Further header fields, as `Name: value`; framing, Date and Content-Type are written by the server."},

    {.path = "routes[].http",
     .type = CONFIG_OPTIONAL,
     .at = CONFIG_NOWHERE,
     .help = "Forward to an ordinary HTTP service; bodies stream through in both directions."},
    {.path = "routes[].http.upstream",
     .type = CONFIG_UPSTREAM,
     .required = true,
     AT(config_route, upstream),
     BOUNDS(1, 64),
     .help = "The name of one of `upstreams`."},
    {.path = "routes[].http.body_bytes_max",
     .type = CONFIG_NUMBER,
     AT(config_route, body_bytes_max),
     BYTES_RANGE(0, BODY_BYTES_LIMIT),
     .fallback = "0",
     .help = "Largest request body: 413 beyond; 0: no limit."},
    {.path = "routes[].http.half_close_is_departure",
     .type = CONFIG_BOOL,
     AT(config_route, half_close_is_departure),
     .fallback = "false",
     .help = "A client that shuts down its sending side counts as gone, and its request is cancelled."},
    {.path = "routes[].http.cache",
     .type = CONFIG_SECTION,
     .alone = "enabled",
     .help = "Keeping responses and answering from them, by the rules for shared caches (RFC 9111). `cache: true` is "
             "all that most routes need."},
    {.path = "routes[].http.cache.enabled",
     .type = CONFIG_BOOL,
     AT(config_route, cache.enabled),
     .fallback = "false",
     .fallback_says = "`true` when `cache` is given, else `false`",
     .help = "Whether responses are stored, and requests answered from the store."},
    {.path = "routes[].http.cache.ttl_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.ttl_ms),
     MS(0, YEAR_MS),
     .fallback = "0",
     .help = "How long a response that says nothing of its own lifetime is fresh; 0: then only as RFC 9111 lets a "
             "cache guess, by heuristic_percent. What a response says always counts more."},
    {.path = "routes[].http.cache.negative_ttl_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.negative_ttl_ms),
     MS(0, DAY_MS),
     .fallback = "1000",
     .help = "How long an error that says nothing of its own lifetime is fresh, 401, 403 and 429 excepted; 0: errors "
             "are not stored."},
    {.path = "routes[].http.cache.heuristic_percent",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.heuristic_percent),
     .unit = "%",
     BOUNDS(0, 100),
     .fallback = "10",
     .help = "A response without a lifetime but with Last-Modified is fresh for this much of the time since then (RFC "
             "9111 §4.2.2); 0: not at all."},
    {.path = "routes[].http.cache.heuristic_max_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.heuristic_max_ms),
     MS(0, YEAR_MS),
     .fallback = "86400000",
     .help = "Longest lifetime that is guessed so."},
    {.path = "routes[].http.cache.stale_while_revalidate_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.stale_while_revalidate_ms),
     MS(0, YEAR_MS),
     .fallback = "0",
     .help = "For how long beyond its lifetime a response is still sent, while it is asked for anew, when it says "
             "nothing of that (RFC 5861); 0: only what responses say."},
    {.path = "routes[].http.cache.stale_if_error_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.stale_if_error_ms),
     MS(0, YEAR_MS),
     .fallback = "0",
     .help = "For how long beyond its lifetime a response is sent in the place of an upstream's error, when it says "
             "nothing of that (RFC 5861); 0: only what responses say."},
    {.path = "routes[].http.cache.keep_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.keep_ms),
     MS(0, YEAR_MS),
     .fallback = "3600000",
     .help =
         "For how long beyond its lifetime a response is kept: to be asked about, where it has a validator, and to be "
         "sent when the upstream cannot be reached, unless the response forbids that (must-revalidate, no-cache)."},
    {.path = "routes[].http.cache.key",
     .type = CONFIG_LIST,
     LIST_AT(config_route, cache.key, cache.key_count),
     BOUNDS(1, 16),
     .fallback_says = "`[host, path, query]`",
     .help = "What makes two requests ask for the same. Vary is heeded besides."},
    {.path = "routes[].http.cache.key[]",
     .type = CONFIG_PART,
     .at = 0,
     BOUNDS(1, 256),
     .words = whole_parts,
     .help = "one of `method`, `host`, `path`, `query` (all of it), `header:NAME`, `cookie:NAME` and `query:NAME`."},
    {.path = "routes[].http.cache.targets",
     .type = CONFIG_LIST,
     LIST_AT(config_route, cache.targets, cache.target_count),
     BOUNDS(0, 8),
     .fallback_says = "`[CDN-Cache-Control]`",
     .help = "Fields that count in the place of Cache-Control and Expires when a response has them, the first before "
             "the second (RFC 9213)."},
    {.path = "routes[].http.cache.targets[]",
     .type = CONFIG_FIELD,
     .at = 0,
     BOUNDS(1, 128),
     .help = "the name of a field."},
    {.path = "routes[].http.cache.set_cookie",
     .type = CONFIG_BOOL,
     AT(config_route, cache.set_cookie),
     .fallback = "false",
     .help = "Store responses with Set-Cookie too. RFC 9111 §7.3 lets a cache do so, but one client's session would be "
             "handed to all who ask for the same."},
    {.path = "routes[].http.cache.bypass",
     .type = CONFIG_LIST,
     LIST_AT(config_route, cache.bypass, cache.bypass_count),
     BOUNDS(0, 16),
     .fallback_says = "none",
     .help = "A request that has one of these, neither empty nor `0`, is neither answered from the cache nor stored."},
    {.path = "routes[].http.cache.bypass[]",
     .type = CONFIG_PART,
     .at = 0,
     BOUNDS(1, 256),
     .help = "`header:NAME`, `cookie:NAME` or `query:NAME`."},
    {.path = "routes[].http.cache.cost",
     .type = CONFIG_WORD,
     AT(config_route, cache.cost),
     .words = http_costs,
     .fallback = "time",
     .help = "What a stored response is worth, for `eviction: cost`: the `time` it took to make, or `uniform`: each "
             "the same."},
    {.path = "routes[].http.cache.coalesce",
     .type = CONFIG_BOOL,
     AT(config_route, cache.coalesce),
     .fallback = "true",
     .help = "Requests for the same, while the first is under way, wait for its response and share it as it arrives."},
    {.path = "routes[].http.cache.coalesce_waiters_max",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.coalesce_waiters_max),
     BOUNDS(1, 1 << 20),
     .fallback = "10000",
     .help = "Most that wait for one request; further ones go upstream themselves."},
    {.path = "routes[].http.cache.coalesce_wait_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.coalesce_wait_ms),
     MS(1, DAY_MS),
     .fallback = "30000",
     .help = "A request that has waited this long for the head of another's response goes upstream itself."},

    {.path = "routes[].inference",
     .type = CONFIG_OPTIONAL,
     .at = CONFIG_NOWHERE,
     .help = "Forward to servers that speak the OpenAI HTTP API; request bodies are buffered, responses and event "
             "streams are not."},
    {.path = "routes[].inference.upstream",
     .type = CONFIG_UPSTREAM,
     .required = true,
     AT(config_route, upstream),
     BOUNDS(1, 64),
     .help = "The name of one of `upstreams`."},
    {.path = "routes[].inference.body_bytes_max",
     .type = CONFIG_NUMBER,
     AT(config_route, body_bytes_max),
     BYTES_RANGE(1, UINT64_C(1) << 30),
     .fallback = "10485760",
     .help = "Largest request body, held in memory while it is sent: 413 beyond. Ten megabytes hold any prompt and "
             "several images."},
    {.path = "routes[].inference.half_close_is_departure",
     .type = CONFIG_BOOL,
     AT(config_route, half_close_is_departure),
     .fallback = "true",
     .help = "A client that shuts down its sending side counts as gone, and its generation is cancelled upstream."},
    {.path = "routes[].inference.cache",
     .type = CONFIG_SECTION,
     .alone = "enabled",
     .help = "Keeping answers: those of one tenant, for requests that say the same in every field that shapes the "
             "output. `cache: false` switches it off."},
    {.path = "routes[].inference.cache.enabled",
     .type = CONFIG_BOOL,
     AT(config_route, cache.enabled),
     .fallback = "true",
     .help = "Whether answers are stored, and requests answered from the store."},
    {.path = "routes[].inference.cache.ttl_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.ttl_ms),
     MS(0, YEAR_MS),
     .fallback = "86400000",
     .variable = "CACHE_TTL_HOURS",
     .variable_scale = HOUR_MS,
     .variable_unit = "hours",
     .help = "How long an answer is kept; 0: not at all, and only requests under way are shared."},
    {.path = "routes[].inference.cache.bypass",
     .type = CONFIG_LIST,
     LIST_AT(config_route, cache.bypass, cache.bypass_count),
     BOUNDS(0, 16),
     .fallback_says = "none",
     .help = "A request that has one of these, neither empty nor `0`, is neither answered from the cache nor stored."},
    {.path = "routes[].inference.cache.bypass[]",
     .type = CONFIG_PART,
     .at = 0,
     BOUNDS(1, 256),
     .help = "`header:NAME`, `cookie:NAME` or `query:NAME`."},
    {.path = "routes[].inference.cache.cost",
     .type = CONFIG_WORD,
     AT(config_route, cache.cost),
     .words = inference_costs,
     .fallback = "time",
     .help = "What a stored answer is worth, for `eviction: cost`: the `time` it took to make, its `tokens`, or "
             "`uniform`: each the same."},
    {.path = "routes[].inference.cache.coalesce",
     .type = CONFIG_BOOL,
     AT(config_route, cache.coalesce),
     .fallback = "true",
     .help = "Requests for the same, while the first is under way, wait for its response and share it as it arrives."},
    {.path = "routes[].inference.cache.coalesce_waiters_max",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.coalesce_waiters_max),
     BOUNDS(1, 1 << 20),
     .fallback = "10000",
     .help = "Most that wait for one request; further ones go upstream themselves."},
    {.path = "routes[].inference.cache.coalesce_wait_ms",
     .type = CONFIG_NUMBER,
     AT(config_route, cache.coalesce_wait_ms),
     MS(1, DAY_MS),
     .fallback = "600000",
     .help = "A request that has waited this long for the head of another's answer goes upstream itself. As "
             "first_byte_timeout_ms: a whole answer has its head at the end."},
    {.path = "routes[].inference.cache.scope",
     .type = CONFIG_WORD,
     AT(config_route, cache.scope),
     .words = scopes,
     .fallback = "tenant",
     .help = "Who is answered from it: only the `tenant` (by its API key) whose request it was, or all, `shared`."},
    {.path = "routes[].inference.cache.sampled",
     .type = CONFIG_BOOL,
     AT(config_route, cache.sampled),
     .fallback = "false",
     .help =
         "Store answers that another run would not repeat: those to requests with a temperature above 0 and no seed."},
    {.path = "routes[].inference.cache.coalesce_sampled",
     .type = CONFIG_BOOL,
     AT(config_route, cache.coalesce_sampled),
     .fallback = "false",
     .help = "Share one run of such a request among those who ask for the same while it is under way."},
    {.path = "routes[].inference.cache.tool_calls",
     .type = CONFIG_BOOL,
     AT(config_route, cache.tool_calls),
     .fallback = "false",
     .help = "Store answers that call tools."},
};
const unsigned config_key_count = ARRAY_COUNT(config_keys);

bool config_key_is_in(const struct config_key *key, const struct config_key *container)
{
    const char *rest = key->path;
    if (container != NULL) {
        size_t length = strlen(container->path);
        if (strncmp(rest, container->path, length) != 0) {
            return false;
        }
        rest += length;
        const char *joint = container->type == CONFIG_LIST ? "[]." : ".";
        if (strncmp(rest, joint, strlen(joint)) != 0) {
            return false;
        }
        rest += strlen(joint);
    }
    return strpbrk(rest, ".[") == NULL;
}

struct bytes config_key_name(const struct config_key *key)
{
    struct bytes name = bytes_from(key->path);
    if (name.len > 2 && name.ptr[name.len - 1] == ']') {
        name.len -= 2;
    }
    const char *dot = memrchr(name.ptr, '.', name.len);
    if (dot != NULL) {
        name.len -= (size_t)(dot + 1 - name.ptr);
        name.ptr = dot + 1;
    }
    return name;
}

const struct config_key *config_key_of_elements(const struct config_key *list)
{
    size_t length = strlen(list->path);
    for (unsigned i = 0; i < config_key_count; i++) {
        const char *path = config_keys[i].path;
        if (strncmp(path, list->path, length) == 0 && strcmp(path + length, "[]") == 0) {
            return &config_keys[i];
        }
    }
    return NULL;
}
