/* What is said of a wrong configuration, line and column included. */

#include "config_test.h"

#define UPSTREAMS "upstreams: [{name: models, endpoints: ['127.0.0.1:1']}]\n"

/* ---- YAML ---- */

Test(config_faults, empty_file_says_what_it_needs)
{
    const char *expected = "f.yaml:1:1: there is nothing in this file; it needs at least 'listeners' and 'routes'\n";
    FAULTS("", expected);
    FAULTS("\n# nothing\n", expected);
    FAULTS("---\n...\n", expected);
    FAULTS("~\n", expected);
}

Test(config_faults, file_that_is_not_a_mapping_is_told_so)
{
    FAULTS("hello\n",
           "f.yaml:1:1: the file is a single value; it should be a mapping: lines of the form 'key: value'\n");
    FAULTS("\n- a\n", "f.yaml:2:1: the file is a list; it should be a mapping: lines of the form 'key: value'\n");
}

Test(config_faults, syntax_error_has_its_line)
{
    FAULTS(
        LISTENERS ROUTES "limits: [\n",
        "f.yaml:4:1: not valid YAML: did not find expected node content, while parsing a flow node that began at line "
        "4; check the indentation, and quote values that have any of : # { } [ ] , & * in them\n");
    FAULTS(LISTENERS ROUTES "limits:\n\tfields_max: 3\n",
           "f.yaml:4:1: not valid YAML: found character that cannot start any token, while scanning for the next token "
           "that began at line 4; indent with spaces, not with tabs\n");
    FAULT_HAS("a: b: c\n", "f.yaml:1:5: not valid YAML: mapping values are not allowed in this context");
    FAULT_HAS("routes: [{path: ${P:-/}}]\n", "inside [ ] and { } a value with ${...} needs quotes");
    FAULT_HAS("listeners: [{address: *:8080}]\n", "a value that begins with * needs quotes");
}

Test(config_faults, bytes_that_are_not_text_have_their_line)
{
    FAULTS(LISTENERS "# \xff\n",
           "f.yaml:2:1: not valid YAML: invalid leading UTF-8 octet; the file must be UTF-8 text without control "
           "characters\n");
    FAULTS(
        LISTENERS "\x01",
        "f.yaml:2:1: not valid YAML: control characters are not allowed; the file must be UTF-8 text without control "
        "characters\n");
}

Test(config_faults, second_document_is_refused)
{
    FAULTS(LISTENERS ROUTES "---\nworkers: 4\n",
           "f.yaml:3:1: a second document begins here; a configuration is one document, without '---' inside it\n");
}

Test(config_faults, nesting_is_bounded)
{
    enum { LEVELS = 100000 };
    char *text = malloc(LEVELS + 1);
    memset(text, '[', LEVELS);
    text[LEVELS] = '\0';
    FAULTS(text, "f.yaml:1:33: nested more than 32 levels deep; no key here goes that deep\n");
    free(text);
}

Test(config_faults, number_of_values_is_bounded)
{
    enum { ITEMS = 200000 };
    char *text = malloc(2 * ITEMS + 4);
    char *end = stpcpy(text, "[");
    for (unsigned i = 0; i < ITEMS; i++) {
        end = stpcpy(end, "a,");
    }
    stpcpy(end, "]");
    FAULT_HAS(text, "the file has more than 100000 values; no configuration needs that many");
    free(text);
}

Test(config_faults, alias_bomb_is_refused)
{
    /* 1,000 routes of 1,000 aliases each would be a million headers, from ten kilobytes. */
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fputs(LISTENERS "routes:\n  - &r {path: /, respond: {headers: {", out);
    for (unsigned i = 0; i < 60; i++) {
        fprintf(out, "X-%u: a, ", i);
    }
    fputs("}}, methods: &m [", out);
    for (unsigned i = 0; i < 60; i++) {
        fputs("GET,", out);
    }
    fputs("]}\n", out);
    for (unsigned i = 0; i < 1000; i++) {
        fputs("  - *r\n", out);
    }
    fclose(out);
    FAULT_HAS(text, "aliases make more than 100000 values of this file; write it without them");
    free(text);
}

Test(config_faults, alias_to_what_contains_it_is_refused)
{
    FAULTS(LISTENERS "routes: &a [*a]\n",
           "f.yaml:2:13: alias '*a' has no complete anchor '&a' before it; a value that begins with * needs quotes\n");
}

Test(config_faults, tags_are_refused)
{
    FAULTS(LISTENERS ROUTES "workers: !include x\n",
           "f.yaml:3:10: tag '!include' means nothing here; leave it out\n"
           "f.yaml:3:10: workers: 'x' is not a number; it should be a whole number from 1 to 1024, or auto\n");
}

/* ---- keys ---- */

Test(config_faults, unknown_key_is_told_the_nearest_one)
{
    FAULTS(LISTENERS ROUTES "wrokers: 4\n", "f.yaml:3:1: unknown key 'wrokers'; did you mean 'workers'?\n");
    FAULTS(LISTENERS ROUTES "limits: {head_timeout: 4}\n",
           "f.yaml:3:10: unknown key 'head_timeout' in 'limits'; did you mean 'head_timeout_ms'?\n");
    FAULTS(LISTENERS ROUTES "head_bytes_max: 4096\n",
           "f.yaml:3:1: unknown key 'head_bytes_max'; it belongs at 'limits.head_bytes_max'\n");
    FAULTS(
        LISTENERS ROUTES "plugins: []\n",
        "f.yaml:3:1: unknown key 'plugins'; known here: workers, pin, access_log, log_level, listeners, admin, limits, "
        "cache, upstreams, routes, tenants\n");
    FAULTS(
        LISTENERS ROUTES "\"a\\nb\": 1\n",
        "f.yaml:3:1: unknown key 'a\\nb'; known here: workers, pin, access_log, log_level, listeners, admin, limits, "
        "cache, upstreams, routes, tenants\n");
}

Test(config_faults, key_given_twice_is_told_where_first)
{
    FAULTS(LISTENERS ROUTES "pin: true\nworkers: 2\npin: false\n",
           "f.yaml:5:1: 'pin' is given twice, first at line 3; keep one of them\n");
}

Test(config_faults, key_that_is_no_word_is_refused)
{
    FAULTS(LISTENERS ROUTES "? [a, b]\n: c\n",
           "f.yaml:3:3: a key must be a single word; quote a value that begins with { or [\n");
    FAULTS(LISTENERS ROUTES "limits: &a {}\n<<: *a\n",
           "f.yaml:4:1: merge keys ('<<') are not supported; write the keys out\n");
}

Test(config_faults, missing_keys_are_named_where_they_are_missing)
{
    FAULT_HAS("workers: 1\n", "f.yaml:1:1: 'listeners' is missing; add it: Where clients connect.\n"
                              "f.yaml:1:1: 'routes' is missing; add it: Which request goes where. ");
    FAULTS(
        LISTENERS ROUTES "upstreams:\n  - name: a\n",
        "f.yaml:4:5: 'upstreams[].endpoints' is missing; add it: Servers that are interchangeable; each request goes "
        "to the one with the fewest in flight.\n");
    FAULT_HAS(LISTENERS ROUTES "admin:\n", "f.yaml:3:7: 'admin.address' is missing; add it: ");
    FAULT_HAS(LISTENERS "routes:\n  - path: /\n    http:\n",
              "f.yaml:4:10: 'routes[].http.upstream' is missing; add it: ");
}

Test(config_faults, lists_and_mappings_are_not_each_other)
{
    FAULTS("listeners: 8080\n" ROUTES,
           "f.yaml:1:12: 'listeners' is a single value; it should be a list: lines that begin with '- ', or [ ... ]\n");
    FAULTS("listeners: [8080]\n" ROUTES,
           "f.yaml:1:13: listeners[] is a single value; it should be a mapping: lines of the form 'key: value'\n");
    FAULTS(LISTENERS ROUTES "limits: [1]\n",
           "f.yaml:3:9: limits is a list; it should be a mapping: lines of the form 'key: value'\n");
    FAULTS(LISTENERS ROUTES "workers: [1]\n", "f.yaml:3:10: workers is a list; it should be a single value\n");
    FAULTS(LISTENERS ROUTES "workers: {a: 1}\n", "f.yaml:3:10: workers is a mapping; it should be a single value\n");
    FAULT_HAS(
        LISTENERS "routes: [{path: /, respond: {headers: a}}]\n",
        "f.yaml:2:39: 'routes[].respond.headers' is a single value; it should be a mapping: { Name: value, ... }");
    FAULTS("listeners:\n" ROUTES,
           "f.yaml:1:11: 'listeners' is nothing; it should be a list: lines that begin with '- ', or [ ... ]\n");
}

Test(config_faults, lists_have_bounds)
{
    FAULTS("listeners: []\n" ROUTES, "f.yaml:1:12: 'listeners' has no entries; it takes 1 to 64\n");
    FAULTS(LISTENERS "routes: []\n", "f.yaml:2:9: 'routes' has no entries; it takes 1 to 1024\n");
    FAULTS(LISTENERS ROUTES "upstreams: [{name: a, endpoints: []}]\n",
           "f.yaml:3:34: 'upstreams[].endpoints' has no entries; it takes 1 to 64\n");
}

/* ---- values ---- */

Test(config_faults, numbers_are_whole_and_inside_their_bounds)
{
    FAULTS(
        LISTENERS ROUTES "workers: many\nlimits:\n  fields_max: 129\n  head_timeout_ms: 0\n  idle_timeout_ms: 10s\n"
                         "  send_timeout_ms: 1.5\n  body_grace_ms: -1\n  head_bytes_max: 99999999999999999999\n",
        "f.yaml:3:10: workers: 'many' is not a number; it should be a whole number from 1 to 1024, or auto\n"
        "f.yaml:5:15: limits.fields_max: 129 is too large; it should be a whole number from 1 to 128\n"
        "f.yaml:6:20: limits.head_timeout_ms: 0 is too small; it should be a whole number from 1 to 86400000 (ms)\n"
        "f.yaml:7:20: limits.idle_timeout_ms: '10s' is not a number; it should be a whole number from 1 to 86400000 "
        "(ms)\n"
        "f.yaml:8:20: limits.send_timeout_ms: '1.5' is not a number; it should be a whole number from 1 to 86400000 "
        "(ms)\n"
        "f.yaml:9:18: limits.body_grace_ms: '-1' is not a number; it should be a whole number from 0 to 86400000 "
        "(ms)\n"
        "f.yaml:10:19: limits.head_bytes_max: '99999999999999999999' is not a number; it should be a whole number from "
        "512 to 1048576 (bytes)\n");
    FAULT_HAS(LISTENERS ROUTES "workers: 1__0\n", "'1__0' is not a number");
    FAULT_HAS(LISTENERS ROUTES "workers: 10_\n", "'10_' is not a number");
    FAULT_HAS(LISTENERS ROUTES "workers: 0\n", "workers: 0 is too small");
}

Test(config_faults, words_and_flags_say_what_they_may_be)
{
    FAULTS(LISTENERS ROUTES "pin: maybe\nlog_level: verbose\n" UPSTREAMS,
           "f.yaml:3:6: pin: 'maybe' is neither true nor false nor auto; write one of them\n"
           "f.yaml:4:12: log_level: 'verbose' is not known; it should be one of debug, info, warn, error\n");
}

Test(config_faults, key_without_a_value_is_told_so)
{
    FAULTS(LISTENERS ROUTES "workers:\npin: ~\nlog_level: ''\n",
           "f.yaml:3:9: workers has no value; give it one, or leave the line out\n"
           "f.yaml:4:6: pin has no value; give it one, or leave the line out\n"
           "f.yaml:5:12: log_level: '' is not known; it should be one of debug, info, warn, error\n");
}

Test(config_faults, target_over_the_head_is_told_both)
{
    FAULTS(LISTENERS ROUTES "limits: {head_bytes_max: 1024, target_bytes_max: 2048}\n",
           "f.yaml:3:50: limits.target_bytes_max: 2048 is more than the whole head may have; it should be at most "
           "limits.head_bytes_max, which is 1024\n");
}

/* ---- addresses ---- */

Test(config_faults, listener_addresses_say_what_would_be_right)
{
    FAULTS(
        "listeners:\n"
        "  - address: localhost:8080\n"
        "  - address: 8080\n"
        "  - address: 127.0.0.1\n"
        "  - address: ::1:8080\n"
        "  - address: 127.0.0.1:99999\n"
        "  - address: http://127.0.0.1:80\n"
        "  - address: 'unix:'\n" ROUTES,
        "f.yaml:2:14: listeners[].address: 'localhost:8080' is a name; listen at an address: 127.0.0.1:8080 for this "
        "machine only, :8080 for all of its addresses\n"
        "f.yaml:3:14: listeners[].address: '8080' is not an address to listen at; it is only a number; for a port "
        "write "
        ":8080 or 127.0.0.1:8080\n"
        "f.yaml:4:14: listeners[].address: '127.0.0.1' is not an address to listen at; it has no port; write it behind "
        "a colon, as in 127.0.0.1:8080\n"
        "f.yaml:5:14: listeners[].address: '::1:8080' is not an address to listen at; an IPv6 address stands in "
        "brackets; write \"[::1]:8080\"\n"
        "f.yaml:6:14: listeners[].address: '127.0.0.1:99999' is not an address to listen at; its port is not a number "
        "up to 65535\n"
        "f.yaml:7:14: listeners[].address: 'http://127.0.0.1:80' is not an address to listen at; it has a path; write "
        "only the address and the port, or unix:/run/name.sock\n"
        "f.yaml:8:14: listeners[].address: 'unix:' is not an address to listen at; the path of a unix socket must be 1 "
        "to 107 bytes long; write unix:/run/name.sock\n");
}

Test(config_faults, listeners_have_different_names)
{
    FAULTS("listeners:\n  - {address: ':1', name: a}\n  - {address: ':2', name: b}\n  - {address: ':3', name: a}\n"
           "  - {address: ':4', name: admin}\nadmin: {address: ':5'}\n" ROUTES,
           "f.yaml:4:27: two listeners are named 'a', the first at line 2; give each its own\n"
           "f.yaml:5:27: a listener is named 'admin', as the admin's is; give it another name\n");
    FAULT_HAS("listeners: [{address: ':1', name: 'a:b'}]\n" ROUTES, "listeners[].name");
}

Test(config_faults, addresses_are_listened_at_once)
{
    FAULTS("listeners:\n  - address: :8080\n  - address: '*:8080'\nadmin: {address: '0.0.0.0:8080'}\n" ROUTES,
           "f.yaml:3:14: address '*:8080' is listened at twice, first at line 2; give each listener its own\n"
           "f.yaml:4:18: address '0.0.0.0:8080' is listened at twice, first at line 2; give each listener its own\n");
}

Test(config_faults, endpoints_say_what_would_be_right)
{
    FAULTS(
        LISTENERS ROUTES "upstreams:\n"
                         "  - name: a\n"
                         "    endpoints:\n"
                         "      - https://gpu.lan:8000\n"
                         "      - gpu.lan\n"
                         "      - http://gpu.lan:8000/v1\n"
                         "      - :8000\n"
                         "      - 127.0.0.1:0\n"
                         "      - gpu.lan:8000\n"
                         "      - http://GPU.lan:8000\n"
                         "      - http://\n"
                         "      - [a]\n",
        "f.yaml:6:9: upstreams[].endpoints[]: 'https://gpu.lan:8000': TLS to upstreams is not supported yet; use "
        "http:// to a server in your own network\n"
        "f.yaml:7:9: upstreams[].endpoints[]: 'gpu.lan' is not an address to connect to; it has no port; write it "
        "behind a colon, as in 127.0.0.1:8080\n"
        "f.yaml:8:9: upstreams[].endpoints[]: 'http://gpu.lan:8000/v1' is not an address to connect to; it has a path; "
        "write only the address and the port, or unix:/run/name.sock\n"
        "f.yaml:9:9: upstreams[].endpoints[]: ':8000' names no host; for this machine write 127.0.0.1:8000\n"
        "f.yaml:10:9: upstreams[].endpoints[]: '127.0.0.1:0': nobody can be reached at port 0; write the port the "
        "server listens at\n"
        "f.yaml:12:9: endpoint 'GPU.lan:8000' is given twice; keep one of them\n"
        "f.yaml:13:9: upstreams[].endpoints[]: 'http://' names no host; write http://host:port\n"
        "f.yaml:14:9: upstreams[].endpoints[] is a list; it should be a single value\n");
}

Test(config_faults, upstream_names_are_names_and_distinct)
{
    FAULTS(LISTENERS ROUTES "upstreams:\n"
                            "  - {name: a b, endpoints: ['127.0.0.1:1']}\n"
                            "  - {name: c, endpoints: ['127.0.0.1:1']}\n"
                            "  - {name: c, endpoints: ['127.0.0.1:1']}\n",
           "f.yaml:4:12: upstreams[].name: 'a b' is not a name; use letters, digits, '.', '_' and '-'\n"
           "f.yaml:6:12: there are two upstreams 'c', the first at line 5; give each its own name\n");
}

/* ---- routes ---- */

Test(config_faults, upstream_that_is_not_there_is_told_those_that_are)
{
    FAULTS(
        LISTENERS UPSTREAMS "routes:\n  - {path: /, http: {upstream: modles}}\n"
                            "  - {path: /a, inference: {upstream: billing}}\n",
        "f.yaml:4:32: routes[].http.upstream: there is no upstream 'modles'; did you mean 'models'? (known: models)\n"
        "f.yaml:5:38: routes[].inference.upstream: there is no upstream 'billing'; known: models\n");
    FAULTS(LISTENERS "routes: [{path: /, http: {upstream: a}}]\n",
           "f.yaml:2:37: routes[].http.upstream: there is no upstream 'a'; 'upstreams' has none at all\n");
}

Test(config_faults, route_does_exactly_one_thing)
{
    FAULTS(
        LISTENERS UPSTREAMS "routes:\n  - path: /\n  - path: /a\n    respond: {}\n    http: {upstream: models}\n",
        "f.yaml:4:5: this route does nothing; give it one of 'respond', 'http' and 'inference'\n"
        "f.yaml:7:5: a route has one of 'respond', 'http' and 'inference', and this one has 'respond' already; make it "
        "two routes\n");
}

Test(config_faults, route_has_one_path)
{
    FAULTS(LISTENERS "routes:\n  - respond: {}\n  - path: /\n    path_prefix: /\n    respond: {}\n",
           "f.yaml:3:5: this route has no path; add 'path_prefix: /' for every path, or 'path' for one\n"
           "f.yaml:5:5: a route has 'path' or 'path_prefix', not both; keep 'path_prefix' for everything below it\n");
}

Test(config_faults, path_is_one_that_a_request_can_have)
{
    FAULTS(LISTENERS "routes:\n"
                     "  - {path: a, respond: {}}\n"
                     "  - {path: /a*, respond: {}}\n"
                     "  - {path: '/a?b', respond: {}}\n"
                     "  - {path: '/a b', respond: {}}\n"
                     "  - {path: /a/../b, respond: {}}\n"
                     "  - {path: /%zz, respond: {}}\n"
                     "  - {path: '', respond: {}}\n",
           "f.yaml:3:12: path 'a' does not begin with '/'; write '/a'\n"
           "f.yaml:4:12: path '/a*' has a character that no path has; there are no patterns: use path_prefix\n"
           "f.yaml:5:12: path '/a?b' has a character that no path has; the query is not part of it\n"
           "f.yaml:6:12: path '/a b' has a character that no path has; write it percent-encoded, as clients do\n"
           "f.yaml:7:12: path '/a/../b' never matches, since requests are matched by their normal form; write /b\n"
           "f.yaml:8:12: path '/%zz' never matches, since requests are matched by their normal form; correct its "
           "%-escapes and '..'\n"
           "f.yaml:9:12: routes[].path is empty; give it a value, or leave the line out\n");
}

Test(config_faults, host_is_a_name_without_port)
{
    FAULTS(
        LISTENERS "routes:\n"
                  "  - {path: /, host: 'a.b:80', respond: {}}\n"
                  "  - {path: /, host: 'a.*', respond: {}}\n"
                  "  - {path: /, host: 'http://a', respond: {}}\n"
                  "  - {path: /, host: 'a..b', respond: {}}\n"
                  "  - {path: /, host: '*', respond: {}}\n"
                  "  - {path: /, host: a., respond: {}}\n",
        "f.yaml:3:21: routes[].host: 'a.b:80' is not a host; write the name without a port\n"
        "f.yaml:4:21: routes[].host: 'a.*' is not a host; a '*' stands only in front, for whole labels: "
        "\"*.example.com\"; for any host leave the line out\n"
        "f.yaml:5:21: routes[].host: 'http://a' is not a host; write the name alone, without a scheme\n"
        "f.yaml:6:21: routes[].host: 'a..b' is not a host; write a name such as api.example.com, or \"*.example.com\" "
        "for every name below it\n"
        "f.yaml:7:21: routes[].host: '*' is not a host; a '*' stands only in front, for whole labels: "
        "\"*.example.com\"; for any host leave the line out\n"
        "f.yaml:8:21: routes[].host: 'a.' is not a host; leave the last '.' out\n");
}

Test(config_faults, methods_are_methods)
{
    FAULTS(LISTENERS "routes: [{path: /, respond: {}, methods: [get, 'G T', BREW, POST, POST]}]\n",
           "f.yaml:2:43: routes[].methods: 'get' is not a method this server reads; write GET\n"
           "f.yaml:2:48: routes[].methods: 'G T' is not a method; write GET\n"
           "f.yaml:2:55: routes[].methods: 'BREW' is not a method this server reads; write one such as GET or POST\n"
           "f.yaml:2:67: method 'POST' is given twice; keep one of them\n");
}

Test(config_faults, fixed_answer_is_one_that_can_be_sent)
{
    FAULTS(
        LISTENERS "routes:\n"
                  "  - {path: /a, respond: {status: 199}}\n"
                  "  - {path: /b, respond: {status: 600}}\n"
                  "  - {path: /c, respond: {status: 204, body: x}}\n"
                  "  - {path: /d, respond: {status: 304, body: x}}\n"
                  "  - {path: /e, respond: {status: 302}}\n"
                  "  - {path: /f, respond: {content_type: \"a\\nb\"}}\n",
        "f.yaml:3:34: routes[].respond.status: 199 is too small; it should be a whole number from 200 to 599\n"
        "f.yaml:4:34: routes[].respond.status: 600 is too large; it should be a whole number from 200 to 599\n"
        "f.yaml:5:45: a response with status 204 has no body; leave it out, or use status 200\n"
        "f.yaml:6:45: a response with status 304 has no body; leave it out, or use status 200\n"
        "f.yaml:7:16: a response with status 302 says where to go; add headers: { Location: /there }\n"
        "f.yaml:8:40: routes[].respond.content_type: 'a\\nb' cannot stand in a header field; use visible characters on "
        "one line\n");
}

Test(config_faults, header_fields_are_ones_that_can_be_sent)
{
    FAULTS(
        LISTENERS "routes:\n"
                  "  - path: /\n"
                  "    respond:\n"
                  "      headers:\n"
                  "        X A: b\n"
                  "        Content-Length: 4\n"
                  "        content-type: a/b\n"
                  "        X-B: \"a\\r\\nX-C: d\"\n"
                  "        X-D: [a]\n"
                  "        X-E: a\n"
                  "        x-e: b\n"
                  "        Set-Cookie: a\n"
                  "        set-cookie: b\n",
        "f.yaml:6:9: routes[].respond.headers: 'X A' is not a field name; use letters, digits and '-'\n"
        "f.yaml:7:9: routes[].respond.headers: 'Content-Length' cannot be set here; the server writes it itself; leave "
        "it out\n"
        "f.yaml:8:9: routes[].respond.headers: 'content-type' cannot be set here; use content_type for it\n"
        "f.yaml:9:14: routes[].respond.headers: the value of 'X-B' has a line break, another control character or "
        "white space at an end; write visible characters on one line\n"
        "f.yaml:10:14: routes[].respond.headers: 'X-D' is not a single value; write 'Name: value'\n"
        "f.yaml:12:9: header field 'x-e' is given twice; keep one of them\n");
}

Test(config_faults, route_that_an_earlier_one_hides_is_told_which)
{
    FAULTS(LISTENERS "routes:\n"
                     "  - {path: /a, methods: [GET, POST], respond: {}}\n"
                     "  - {path: /a, methods: [POST], respond: {}}\n"
                     "  - {path_prefix: /b, host: A.b, respond: {}}\n"
                     "  - {path_prefix: /b/, host: a.B, respond: {}}\n",
           "f.yaml:4:5: this route is never reached: the one at line 3 is for the same host, path and methods, and "
           "stands before it; remove one, or tell them apart\n"
           "f.yaml:6:5: this route is never reached: the one at line 5 is for the same host, path and methods, and "
           "stands before it; remove one, or tell them apart\n");
    FAULT_HAS(LISTENERS "routes:\n"
                        "  - {path: /a, methods: [GET], respond: {}}\n"
                        "  - {path: /a, methods: [PUT], respond: {}}\n"
                        "  - {path: /a, methods: [HEAD, PUT], respond: {}}\n",
              "f.yaml:5:5: this route is never reached: the one at line 4 ");
}

Test(config_faults, route_names_are_distinct)
{
    FAULTS(LISTENERS "routes:\n  - {name: a, path: /a, respond: {}}\n  - {name: a, path: /b, respond: {}}\n",
           "f.yaml:4:12: there are two routes 'a', the first at line 3; give each its own name\n");
}

/* ---- all of it ---- */

Test(config_faults, everything_is_said_at_once_and_in_the_order_of_the_file)
{
    FAULTS("routes:\n"
           "  - {path: a, respond: {status: x}}\n"
           "wrokers: 4\n"
           "limits: {fields_max: 0}\n"
           "listeners: [{address: a}]\n",
           "f.yaml:2:12: path 'a' does not begin with '/'; write '/a'\n"
           "f.yaml:2:33: routes[].respond.status: 'x' is not a number; it should be a whole number from 200 to 599\n"
           "f.yaml:3:1: unknown key 'wrokers'; did you mean 'workers'?\n"
           "f.yaml:4:22: limits.fields_max: 0 is too small; it should be a whole number from 1 to 128\n"
           "f.yaml:5:23: listeners[].address: 'a' is not an address to listen at; it has no port; write it behind a "
           "colon, as in 127.0.0.1:8080\n");
}

Test(config_faults, faults_beyond_the_bound_are_counted)
{
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_memstream(&text, &bytes);
    fputs(LISTENERS "routes:\n", out);
    for (unsigned i = 0; i < 300; i++) {
        fputs("  - 5\n", out);
    }
    fclose(out);
    FAULT_HAS(text, "f.yaml: and 100 more faults; correct the first ones and check again\n");
    free(text);
}

Test(config_faults, long_and_strange_values_are_shown_short_and_printable)
{
    char text[400];
    snprintf(text, sizeof(text), "%s%sworkers: \"%0200d\\x1b[31m\"\n", LISTENERS, ROUTES, 0);
    FAULT_HAS(text,
              "workers: '00000000000000000000000000000000000000000000000000000000000000000000000000000000...' is ");
    FAULT_HAS(LISTENERS ROUTES "workers: \"\\e[31m\"\n", "workers: '\\x1b[31m' is ");
}

/* Each of its prefixes is either right or refused with a reason, and nothing behind it is read. */
Test(config_faults, every_prefix_of_an_example_is_read_or_refused)
{
    FILE *file = fopen("examples/mixed.yaml", "r");
    cr_assert_not_null(file);
    char text[8192];
    size_t bytes = fread(text, 1, sizeof(text), file);
    fclose(file);
    cr_assert(bytes > 0 && bytes < sizeof(text));
    for (size_t length = 0; length <= bytes; length++) {
        char *exact = malloc(length == 0 ? 1 : length); /* ASan watches its end */
        memcpy(exact, text, length);
        char *said = NULL;
        size_t said_bytes = 0;
        FILE *errors = open_memstream(&said, &said_bytes);
        struct config *config = NULL;
        enum result result = config_parse("f.yaml", (struct bytes){exact, length}, errors, &config);
        fclose(errors);
        cr_expect((result == RESULT_OK && said_bytes == 0) ||
                  (result == RESULT_CONFIG && said_bytes > 0 && said[said_bytes - 1] == '\n'));
        config_destroy(config);
        free(said);
        free(exact);
    }
}

/* ---- scheduling ---- */

Test(config_faults, a_fixed_limiter_is_told_how_many)
{
    FAULTS(LISTENERS ROUTES "upstreams:\n"
                            "  - name: b\n"
                            "    endpoints: [\"127.0.0.1:1\"]\n"
                            "    scheduling: { limiter: fixed }\n",
           "f.yaml:6:28: the limiter 'fixed' has to be told how many; add concurrency: 16, or whatever it can take\n");
}

Test(config_faults, the_least_concurrency_is_at_most_the_most)
{
    FAULTS(LISTENERS ROUTES "upstreams:\n"
                            "  - name: b\n"
                            "    endpoints: [\"127.0.0.1:1\"]\n"
                            "    scheduling: { concurrency_min: 9, concurrency_max: 8 }\n",
           "f.yaml:6:36: scheduling.concurrency_min: 9 is more than concurrency_max, which is 8; it should be at most "
           "that\n");
}

Test(config_faults, a_tenant_is_known_by_something_of_its_own)
{
    FAULTS(LISTENERS ROUTES "tenants:\n"
                            "  - { name: a, value: x }\n"
                            "  - { name: b }\n"
                            "  - { name: c, value: x }\n",
           "f.yaml:5:5: nothing tells the requests of tenant 'b'; give it a 'key', or a 'value' of what a route's "
           "'tenant' looks at\n"
           "f.yaml:6:23: tenant 'c' has the same value as the one at line 4; give each its own\n");
}

Test(config_faults, no_two_tenants_have_one_key)
{
    FAULTS(LISTENERS ROUTES "tenants:\n"
                            "  - { name: a, key: x }\n"
                            "  - { name: b, key: y }\n"
                            "  - { name: c, key: x }\n",
           "f.yaml:6:21: tenant 'c' has the same key as the one at line 4; give each its own\n");
}
