/* Batching's part of the configuration. */

#include "config_test.h"

#define UPSTREAM        "upstreams: [{name: u, endpoints: ['127.0.0.1:1']}]\n"
#define INFER(batching) LISTENERS UPSTREAM "routes: [{path_prefix: /, inference: {upstream: u" batching "}}]\n"

Test(config_batching, it_is_off_unless_asked_for)
{
    struct config *config = parse_right(INFER(""));
    cr_expect(!config->routes[0].batching.enabled);
    config_destroy(config);
    config = parse_right(INFER(", batching: {items_max: 8}"));
    cr_expect(!config->routes[0].batching.enabled);
    config_destroy(config);
}

Test(config_batching, defaults)
{
    struct config *config = parse_right(INFER(", batching: true"));
    const struct config_batching *batching = &config->routes[0].batching;
    cr_expect(batching->enabled);
    cr_expect_eq(batching->items_max, 256);
    cr_expect_eq(batching->tokens_max, 0);
    cr_expect_eq(batching->body_bytes_max, 4 << 20);
    cr_expect_eq(batching->waiting_max, 16384);
    cr_expect_eq(batching->wait_max_ms, 10);
    cr_expect_eq(batching->latency_max_ms, 0);
    cr_expect_eq(batching->array_count, 0);
    config_destroy(config);
}

Test(config_batching, arrays_of_other_apis)
{
    struct config *config = parse_right(INFER(", batching: {enabled: true, arrays: [{path: /v1/classify, items: texts, "
                                              "results: labels}, {path: /a, items: i, results: r, index: n}]}"));
    const struct config_batching *batching = &config->routes[0].batching;
    cr_assert_eq(batching->array_count, 2);
    BYTES_ARE(batching->arrays[0].path, "/v1/classify");
    BYTES_ARE(batching->arrays[0].items, "texts");
    BYTES_ARE(batching->arrays[0].results, "labels");
    cr_expect_eq(batching->arrays[0].index.len, 0);
    BYTES_ARE(batching->arrays[1].index, "n");
    config_destroy(config);
}

Test(config_batching, an_ordinary_route_has_none)
{
    FAULT_HAS(LISTENERS UPSTREAM "routes: [{path_prefix: /, http: {upstream: u, batching: true}}]\n", "'batching'");
}

Test(config_batching, what_is_wrong_is_said)
{
    FAULT_HAS(INFER(", batching: {items_max: 0}"), "items_max: 0 is");
    FAULT_HAS(INFER(", batching: {wait_max_ms: 100000}"), "wait_max_ms");
    FAULT_HAS(INFER(", batching: {arrays: [{path: /a, items: i}]}"), "results");
    FAULT_HAS(INFER(", batching: {arrays: [{path: a, items: i, results: r}]}"), "does not begin with '/'");
    FAULT_HAS(INFER(", batching: {arrays: [{path: /a, items: i, results: r, index: r}]}"),
              "'index' and 'results' are both 'r'");
    FAULT_HAS(INFER(", batching: {arrays: [{path: /a, items: i, results: r}, {path: /a, items: j, results: r}]}"),
              "path '/a' is given twice");
}
