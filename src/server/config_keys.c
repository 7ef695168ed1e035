/* Every key of the configuration, once: what it is called, what it may be, what it is when it is left out,
 * where its value goes, and one line of help. The reader (config_walk.c) and the reference
 * (docs/configuration.md, config_reference.c) are both made from it; a key that is not here, or in the parts of the
 * table that are about the cache (config_keys_cache.c) and about scheduling (config_keys_sched.c), does not exist. */

#include "server/config_keys.h"
#include "base/check.h"
#include "base/log.h"
#include "http/http.h"
#include "proxy/upstream.h"

_Static_assert(LOG_DEBUG == 0 && LOG_INFO == 1 && LOG_WARN == 2 && LOG_ERROR == 3, "as in log_levels");
static const char *const log_levels[] = {"debug", "info", "warn", "error", NULL};

_Static_assert(CONFIG_HOST_CLIENT == 0 && CONFIG_HOST_ENDPOINT == 1, "as in host_headers");
static const char *const host_headers[] = {"client", "endpoint", NULL};

static const char *const bool_auto[] = {"auto", NULL};

static const struct config_key keys[] = {
    {.path = "workers",
     .type = CONFIG_NUMBER,
     AT(config, workers),
     BOUNDS(1, 1024),
     .zero = "auto",
     .fallback = "auto",
     .help = "How many worker threads, each with its own io_uring; `auto`: one per core this process may use, fewer "
             "under a CPU quota, with little memory, or beside backends on the same machine (`sluice check --machine` "
             "says why)."},
    {.path = "pin",
     .type = CONFIG_BOOL,
     AT(config, pin),
     .words = bool_auto,
     .fallback = "auto",
     .help = "Keep each worker on its own core; turn it off when other busy programs share the cores. `auto`: yes, but "
             "not where a CPU quota says that others use the same cores."},
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
    {.path = "listeners[].name",
     .type = CONFIG_NAME,
     AT(config_listener, name),
     BOUNDS(1, 64),
     .help = "What systemd calls its socket (`FileDescriptorName=`) when it passes one; without a name a passed socket "
             "is known by its address. The admin's is called `admin`."},

    {.path = "admin",
     .type = CONFIG_OPTIONAL,
     AT(config, has_admin),
     .help = "A listener of its own for `/health`, `/metrics` and `/api/cache`; without this section there is none."},
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
};

enum { OWN_COUNT = ARRAY_COUNT(keys) };

unsigned config_key_count(void)
{
    return OWN_COUNT + config_keys_cache_count + config_keys_batching_count + config_keys_sched_count;
}

const struct config_key *config_key_at(unsigned index)
{
    CHECK(index < config_key_count());
    if (index < OWN_COUNT) {
        return &keys[index];
    }
    index -= OWN_COUNT;
    if (index < config_keys_cache_count) {
        return &config_keys_cache[index];
    }
    index -= config_keys_cache_count;
    return index < config_keys_batching_count ? &config_keys_batching[index]
                                              : &config_keys_sched[index - config_keys_batching_count];
}

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
    for (unsigned i = 0; i < config_key_count(); i++) {
        const char *path = config_key_at(i)->path;
        if (strncmp(path, list->path, length) == 0 && strcmp(path + length, "[]") == 0) {
            return config_key_at(i);
        }
    }
    return NULL;
}
