/* What a right configuration becomes. */

#include "config_test.h"

#include <arpa/inet.h>

#include "base/log.h"
#include "http/http.h"

Test(config, smallest_file_gets_the_defaults)
{
    struct config *config = parse_right(LISTENERS ROUTES);
    cr_expect(config->workers == 0);
    cr_expect(config->pin == CONFIG_BOOL_AUTO);
    cr_expect(!config->access_log);
    cr_expect(config->log_level == LOG_INFO);
    cr_expect(!config->has_admin);
    cr_expect(config->upstream_count == 0);
    cr_expect(config->limits.head_bytes_max == 16384);
    cr_expect(config->limits.target_bytes_max == 8192);
    cr_expect(config->limits.fields_max == 100);
    cr_expect(config->limits.connections_max == 65536);
    cr_expect(config->limits.head_timeout_ms == 10000);
    cr_expect(config->limits.idle_timeout_ms == 75000);
    cr_expect(config->limits.body_rate_bytes_min == 240);
    cr_expect(config->limits.body_grace_ms == 10000);
    cr_expect(config->limits.send_timeout_ms == 60000);
    cr_expect(config->limits.drain_timeout_ms == 30000);
    cr_expect(config->limits.linger_timeout_ms == 2000);
    cr_expect(config->limits.requests_per_connection_max == 0);

    cr_assert(config->route_count == 1);
    const struct config_route *route = &config->routes[0];
    cr_expect(route->kind == CONFIG_ROUTE_RESPOND);
    cr_expect(route->status == 200);
    cr_expect(route->body.len == 0);
    BYTES_ARE(route->content_type, "text/plain; charset=utf-8");
    cr_expect(route->header_count == 0);
    cr_expect(route->method_count == 0);
    cr_expect(route->host.len == 0);
    BYTES_ARE(route->name, "/");
    config_destroy(config);
}

Test(config, upstream_gets_the_defaults)
{
    struct config *config = parse_right(LISTENERS ROUTES "upstreams: [{name: a, endpoints: ['127.0.0.1:1']}]\n");
    cr_assert(config->upstream_count == 1);
    const struct config_upstream *upstream = &config->upstreams[0];
    BYTES_ARE(upstream->name, "a");
    cr_expect(upstream->host_header == CONFIG_HOST_CLIENT);
    cr_expect(upstream->connect_timeout_ms == 2000);
    cr_expect(upstream->first_byte_timeout_ms == 600000);
    cr_expect(upstream->idle_timeout_ms == 300000);
    cr_expect(upstream->total_timeout_ms == 0);
    cr_expect(upstream->keepalive_connections_max == 256);
    cr_expect(upstream->keepalive_idle_ms == 60000);
    cr_expect(upstream->resolve_interval_ms == 30000);
    config_destroy(config);
}

Test(config, defaults_of_forwarding_depend_on_the_kind_of_route)
{
    struct config *config = parse_right(LISTENERS "routes:\n"
                                                  "  - {path_prefix: /v1, inference: {upstream: b}}\n"
                                                  "  - {path_prefix: /, http: {upstream: a}}\n"
                                                  "upstreams:\n"
                                                  "  - {name: a, endpoints: ['127.0.0.1:1']}\n"
                                                  "  - {name: b, endpoints: ['127.0.0.1:2']}\n");
    cr_assert(config->route_count == 2);
    const struct config_route *inference = &config->routes[0];
    cr_expect(inference->kind == CONFIG_ROUTE_INFERENCE);
    cr_expect(inference->upstream == 1, "routes may stand before upstreams");
    cr_expect(inference->body_bytes_max == 10485760);
    cr_expect(inference->half_close_is_departure);
    const struct config_route *http = &config->routes[1];
    cr_expect(http->kind == CONFIG_ROUTE_HTTP);
    cr_expect(http->upstream == 0);
    cr_expect(http->body_bytes_max == 0);
    cr_expect(!http->half_close_is_departure);
    config_destroy(config);
}

Test(config, values_reach_their_places)
{
    struct config *config = parse_right(
        "workers: 4\npin: no\naccess_log: True\nlog_level: error\n" LISTENERS "admin: {address: 'unix:/tmp/a.sock'}\n"
        "limits: {head_bytes_max: 1_024, target_bytes_max: 512, fields_max: 128, connections_max: 3,\n"
        "  head_timeout_ms: 4, idle_timeout_ms: 5, body_rate_bytes_min: 6, body_grace_ms: 7,\n"
        "  send_timeout_ms: 8, drain_timeout_ms: 9, linger_timeout_ms: 10,\n"
        "  requests_per_connection_max: 11}\n"
        "upstreams:\n"
        "  - {name: a.b_c-1, endpoints: ['127.0.0.1:1'], host_header: endpoint, connect_timeout_ms: 1,\n"
        "     first_byte_timeout_ms: 2, idle_timeout_ms: 3, total_timeout_ms: 4,\n"
        "     keepalive_connections_max: 5, keepalive_idle_ms: 6, resolve_interval_ms: 1007}\n"
        "routes:\n"
        "  - {name: r, host: '*.Example.COM', path: /a, methods: [GET, M-SEARCH],\n"
        "     respond: {status: 404, content_type: a/b, body: \"x\\0y\", headers: {X-A: b, X-B: ''}}}\n"
        "  - {path_prefix: /b/, http: {upstream: a.b_c-1, body_bytes_max: 1099511627776,\n"
        "     half_close_is_departure: true}}\n");
    cr_expect(config->workers == 4);
    cr_expect(!config->pin);
    cr_expect(config->access_log);
    cr_expect(config->log_level == LOG_ERROR);
    cr_expect(config->has_admin);
    cr_expect(config->admin.address.any.sa_family == AF_UNIX);
    BYTES_ARE(config->admin.text, "unix:/tmp/a.sock");
    cr_expect(config->limits.head_bytes_max == 1024);
    cr_expect(config->limits.target_bytes_max == 512);
    cr_expect(config->limits.fields_max == HTTP_FIELDS_MAX);
    cr_expect(config->limits.connections_max == 3);
    cr_expect(config->limits.head_timeout_ms == 4);
    cr_expect(config->limits.idle_timeout_ms == 5);
    cr_expect(config->limits.body_rate_bytes_min == 6);
    cr_expect(config->limits.body_grace_ms == 7);
    cr_expect(config->limits.send_timeout_ms == 8);
    cr_expect(config->limits.drain_timeout_ms == 9);
    cr_expect(config->limits.linger_timeout_ms == 10);
    cr_expect(config->limits.requests_per_connection_max == 11);
    const struct config_upstream *upstream = &config->upstreams[0];
    BYTES_ARE(upstream->name, "a.b_c-1");
    cr_expect(upstream->host_header == CONFIG_HOST_ENDPOINT);
    cr_expect(upstream->connect_timeout_ms == 1);
    cr_expect(upstream->first_byte_timeout_ms == 2);
    cr_expect(upstream->idle_timeout_ms == 3);
    cr_expect(upstream->total_timeout_ms == 4);
    cr_expect(upstream->keepalive_connections_max == 5);
    cr_expect(upstream->keepalive_idle_ms == 6);
    cr_expect(upstream->resolve_interval_ms == 1007);
    const struct config_route *respond = &config->routes[0];
    BYTES_ARE(respond->name, "r");
    BYTES_ARE(respond->host, "*.example.com");
    BYTES_ARE(respond->path, "/a");
    cr_expect(respond->path_prefix.len == 0);
    cr_assert(respond->method_count == 2);
    BYTES_ARE(respond->methods[1], "M-SEARCH");
    cr_expect(respond->status == 404);
    BYTES_ARE(respond->content_type, "a/b");
    cr_expect(bytes_equal(respond->body, (struct bytes){"x\0y", 3}));
    cr_assert(respond->header_count == 2);
    BYTES_ARE(respond->headers[0].name, "X-A");
    BYTES_ARE(respond->headers[0].value, "b");
    BYTES_ARE(respond->headers[1].value, "");
    const struct config_route *http = &config->routes[1];
    BYTES_ARE(http->path_prefix, "/b");
    cr_expect(http->body_bytes_max == UINT64_C(1) << 40);
    cr_expect(http->half_close_is_departure);
    config_destroy(config);
}

Test(config, listeners_take_every_form_of_address)
{
    struct config *config = parse_right("listeners:\n"
                                        "  - address: 127.0.0.1:8080\n"
                                        "  - address: \"[::1]:8080\"\n"
                                        "  - address: :8081\n"
                                        "  - address: \"*:8082\"\n"
                                        "  - address: unix:/run/sluice.sock\n" ROUTES);
    cr_assert(config->listener_count == 5);
    const struct config_listener *listeners = config->listeners;
    cr_expect(ntohs(listeners[0].address.v4.sin_port) == 8080);
    cr_expect(listeners[1].address.any.sa_family == AF_INET6);
    cr_expect(listeners[2].address.v4.sin_addr.s_addr == INADDR_ANY);
    cr_expect(ntohs(listeners[3].address.v4.sin_port) == 8082);
    cr_expect_str_eq(listeners[4].address.un.sun_path, "/run/sluice.sock");
    BYTES_ARE(listeners[3].text, "*:8082");
    config_destroy(config);
}

Test(config, endpoints_take_every_form_of_address)
{
    struct config *config = parse_right(
        LISTENERS ROUTES "upstreams:\n"
                         "  - name: a\n"
                         "    endpoints: [\"127.0.0.1:8000\", \"[::1]:8000\", \"unix:/run/x.sock\", \"gpu.lan:8000\",\n"
                         "                \"http://10.0.0.1:80/\", \"HTTP://gpu.lan\", \"http://[::2]\"]\n");
    static const struct {
        const char *text;
        const char *host;
        bool is_name;
    } expected[] = {
        {"127.0.0.1:8000", "127.0.0.1:8000", false},
        {"[::1]:8000", "[::1]:8000", false},
        {"unix:/run/x.sock", "localhost", false},
        {"gpu.lan:8000", "gpu.lan:8000", true},
        {"10.0.0.1:80", "10.0.0.1", false},
        {"gpu.lan:80", "gpu.lan", true},
        {"[::2]:80", "[::2]", false},
    };
    const struct config_upstream *upstream = &config->upstreams[0];
    cr_assert(upstream->endpoint_count == sizeof(expected) / sizeof(expected[0]));
    for (unsigned i = 0; i < upstream->endpoint_count; i++) {
        const struct config_endpoint *endpoint = &upstream->endpoints[i];
        BYTES_ARE(endpoint->text, expected[i].text);
        BYTES_ARE(endpoint->host, expected[i].host);
        cr_expect(endpoint->is_name == expected[i].is_name);
        cr_expect(endpoint->is_name || endpoint->address.bytes > 0);
    }
    config_destroy(config);
}

Test(config, routes_without_a_name_are_called_by_their_path_and_stay_distinct)
{
    struct config *config = parse_right(LISTENERS "routes:\n"
                                                  "  - {path: /a, respond: {}}\n"
                                                  "  - {path_prefix: /a, respond: {}}\n"
                                                  "  - {path: /a, host: b.c, methods: [GET], respond: {}}\n"
                                                  "  - {path: /a, host: b.c, respond: {}}\n"
                                                  "  - {path_prefix: /b/, respond: {}}\n");
    BYTES_ARE(config->routes[0].name, "/a");
    BYTES_ARE(config->routes[1].name, "/a#2");
    BYTES_ARE(config->routes[2].name, "b.c/a");
    BYTES_ARE(config->routes[3].name, "b.c/a#4");
    BYTES_ARE(config->routes[4].name, "/b");
    config_destroy(config);
}

Test(config, aliases_stand_for_what_their_anchors_hold)
{
    struct config *config = parse_right(LISTENERS "upstreams:\n"
                                                  "  - {name: &n a, endpoints: &e ['127.0.0.1:1', '127.0.0.1:2']}\n"
                                                  "  - {name: b, endpoints: *e, idle_timeout_ms: &t 77}\n"
                                                  "  - {name: c, endpoints: *e, idle_timeout_ms: *t}\n"
                                                  "routes: [{path: /, http: &h {upstream: *n}},\n"
                                                  "  {path: /x, http: *h}]\n");
    cr_expect(config->upstreams[2].endpoint_count == 2);
    cr_expect(config->upstreams[2].idle_timeout_ms == 77);
    cr_expect(config->routes[1].upstream == 0);
    config_destroy(config);
}

Test(config, sections_whose_lines_are_all_commented_out_are_empty)
{
    struct config *config = parse_right(LISTENERS "limits:\n"
                                                  "#  fields_max: 3\n"
                                                  "upstreams:\n"
                                                  "routes:\n"
                                                  "  - path: /\n"
                                                  "    respond:\n");
    cr_expect(config->limits.fields_max == 100);
    cr_expect(config->routes[0].status == 200);
    config_destroy(config);
}

Test(config, lower_limit_of_the_head_takes_the_default_of_the_target_with_it)
{
    struct config *config = parse_right(LISTENERS ROUTES "limits: {head_bytes_max: 4096}\n");
    cr_expect(config->limits.target_bytes_max == 4096);
    config_destroy(config);
}

Test(config, byte_order_mark_and_carriage_returns_are_no_fault)
{
    struct config *config = parse_right("\xef\xbb\xbf---\r\n"
                                        "listeners:\r\n  - address: :80\r\n"
                                        "routes:\r\n  - {path: /, respond: {}}\r\n...\r\n");
    cr_expect(config->listener_count == 1);
    config_destroy(config);
}

Test(config, routes_that_differ_in_one_condition_are_all_reached)
{
    struct config *config = parse_right(LISTENERS "routes:\n"
                                                  "  - {path: /a, methods: [GET], respond: {}}\n"
                                                  "  - {path: /a, methods: [POST, GET], respond: {}}\n"
                                                  "  - {path: /a, respond: {}}\n"
                                                  "  - {path: /a, methods: [PUT], respond: {}}\n"
                                                  "  - {path_prefix: /a, respond: {}}\n"
                                                  "  - {path: /a, host: a.b, respond: {}}\n");
    cr_expect(config->route_count == 6);
    config_destroy(config);
}

/* ---- files ---- */

Test(config, every_example_is_right)
{
    static const char *const paths[] = {"examples/cache.yaml", "examples/http.yaml", "examples/inference.yaml",
                                        "examples/mixed.yaml"};
    for (unsigned i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        struct config *config = NULL;
        cr_assert(config_load(paths[i], stderr, &config) == RESULT_OK, "%s", paths[i]);
        cr_expect(config->route_count > 0);
        config_destroy(config);
    }
}

static void expect_unreadable(const char *path, const char *expected)
{
    char *said = NULL;
    size_t said_bytes = 0;
    FILE *errors = open_memstream(&said, &said_bytes);
    struct config *config = NULL;
    enum result result = config_load(path, errors, &config);
    fclose(errors);
    cr_expect(result == RESULT_CONFIG);
    cr_expect_null(config);
    cr_expect_str_eq(said, expected, "%s", said);
    free(said);
}

Test(config, file_that_cannot_be_read_is_named_with_the_reason)
{
    expect_unreadable("no/such.yaml", "no/such.yaml: cannot be read: No such file or directory; check its name\n");
    expect_unreadable("/", "/: cannot be read: Is a directory; name a file in it\n");
    expect_unreadable("/dev/zero", "/dev/zero: it has more than 1048576 bytes; is it a configuration?\n");
}

Test(config, reference_is_the_one_in_docs)
{
    char *made = NULL;
    size_t made_bytes = 0;
    FILE *out = open_memstream(&made, &made_bytes);
    config_write_reference(out);
    fclose(out);
    FILE *file = fopen("docs/configuration.md", "r");
    cr_assert_not_null(file);
    char *kept = calloc(1, made_bytes + 2);
    size_t kept_bytes = fread(kept, 1, made_bytes + 1, file);
    fclose(file);
    cr_expect(kept_bytes == made_bytes && memcmp(kept, made, made_bytes) == 0,
              "docs/configuration.md is not what the table of keys says; make it again: "
              "SLUICE_WRITE_REFERENCE=1 with this test");
    if (getenv("SLUICE_WRITE_REFERENCE") != NULL) {
        file = fopen("docs/configuration.md", "w");
        cr_assert_not_null(file);
        fwrite(made, 1, made_bytes, file);
        fclose(file);
    }
    free(kept);
    free(made);
}
