/* The cache's part of the configuration. */

#include "config_test.h"

#include "cache/evict.h"
#include "ring/topology.h"

#define UPSTREAM      "upstreams: [{name: u, endpoints: ['127.0.0.1:1']}]\n"
#define HTTP(cache)   LISTENERS UPSTREAM "routes: [{path_prefix: /, http: {upstream: u" cache "}}]\n"
#define INFER(cache)  LISTENERS UPSTREAM "routes: [{path_prefix: /, inference: {upstream: u" cache "}}]\n"
#define SHARED(cache) LISTENERS ROUTES "cache: {" cache "}\n"
#define HOUR_MS       (3600 * 1000)

static void forget_variables(void)
{
    unsetenv("CACHE_MAX_SIZE");
    unsetenv("CACHE_TTL_HOURS");
    unsetenv("DATABASE_PATH");
}

TestSuite(config_cache, .init = forget_variables);

/* ---- what is shared ---- */

Test(config_cache, shared_defaults)
{
    struct config *config = parse_right(LISTENERS ROUTES);
    cr_expect(config->cache.memory.percent == 25);
    cr_expect(config->cache.eviction == EVICT_COST);
    cr_expect(config->cache.object_bytes_max == 16 << 20);
    cr_expect(config->cache.entries_max == 0);
    cr_expect(config->cache.database.len == 0);
    cr_expect(config->cache.database_bytes_max == 1 << 30);
    cr_expect(config->cache.database_cost_min_ms == 100);
    cr_expect(config->cache.warm_start_percent == 25);
    cr_expect(config->cache.api_token.len == 0);
    cr_expect(!config->routes[0].cache.enabled, "a fixed answer is not cached");
    config_destroy(config);
}

Test(config_cache, shared_values_reach_their_places)
{
    struct config *config = parse_right(SHARED("memory: 64MB, eviction: s3fifo, object_bytes_max: 2MB, entries_max: 3, "
                                               "database: /a b.db, database_bytes_max: 4GB, database_cost_min_ms: 5, "
                                               "warm_start_percent: 6, api_token: 'abcdefghij-._~+/='"));
    cr_expect(config->cache.memory.percent == 0);
    cr_expect(config->cache.memory.bytes == 64 << 20);
    cr_expect(config->cache.eviction == EVICT_S3FIFO);
    cr_expect(config->cache.object_bytes_max == 2 << 20);
    cr_expect(config->cache.entries_max == 3);
    cr_expect_str_eq(config->cache.database.ptr, "/a b.db");
    cr_expect(config->cache.database_bytes_max == UINT64_C(4) << 30);
    cr_expect(config->cache.database_cost_min_ms == 5);
    cr_expect(config->cache.warm_start_percent == 6);
    BYTES_ARE(config->cache.api_token, "abcdefghij-._~+/=");
    config_destroy(config);
}

static void memory_is(const char *written, uint64_t bytes, unsigned percent)
{
    char text[200];
    snprintf(text, sizeof(text), "%s%scache: {memory: '%s'}\n", LISTENERS, ROUTES, written);
    struct config *config = parse_right(text);
    cr_expect(config->cache.memory.bytes == bytes && config->cache.memory.percent == percent, "%s", written);
    cr_expect(config_cache_memory_bytes(config, 1000) == (percent == 0 ? bytes : 10 * percent));
    config_destroy(config);
}

Test(config_cache, memory_is_bytes_with_or_without_unit_or_a_percentage)
{
    memory_is("0", 0, 0);
    memory_is("0%", 0, 0);
    memory_is("1%", 0, 1);
    memory_is("90 %", 0, 90);
    memory_is("1048576", 1 << 20, 0);
    memory_is("1_048_576", 1 << 20, 0);
    memory_is("1024k", 1 << 20, 0);
    memory_is("1024KB", 1 << 20, 0);
    memory_is("1024 KiB", 1 << 20, 0);
    memory_is("7m", 7 << 20, 0);
    memory_is("512MB", 512 << 20, 0);
    memory_is("3GiB", UINT64_C(3) << 30, 0);
    memory_is("2T", UINT64_C(2) << 40, 0);
    memory_is("1048576B", 1 << 20, 0);
}

Test(config_cache, machine_says_how_much_memory_there_is)
{
    cr_expect(ring_memory_bytes("") > 1 << 20);
}

Test(config_cache, wrong_memory_is_a_fault)
{
    static const char *const neither[] = {"much", "MB", "B", "1.5GB", "-1", "12 parsecs", "5XB", "99999999999TB"};
    for (unsigned i = 0; i < sizeof(neither) / sizeof(neither[0]); i++) {
        char text[200];
        char expected[200];
        snprintf(text, sizeof(text), "%s%scache: {memory: '%s'}\n", LISTENERS, ROUTES, neither[i]);
        snprintf(expected, sizeof(expected),
                 "f.yaml:3:17: cache.memory: '%s' is neither bytes nor a percentage; write 512MB or 25%%, or 0 for no "
                 "cache\n",
                 neither[i]);
        FAULTS(text, expected);
    }
    FAULTS(SHARED("memory: 91%"),
           "f.yaml:3:17: cache.memory: '91%' is not a percentage from 0% to 90%; write one such as "
           "25%, or bytes such as 512MB\n");
    FAULT_HAS(SHARED("memory: '%'"), "is not a percentage");
    FAULT_HAS(SHARED("memory: 1k%"), "is not a percentage");
    FAULTS(SHARED("memory: 512"),
           "f.yaml:3:17: cache.memory: 512 bytes are too few; it takes 1048576 to 70368744177664, "
           "or 0 for no cache\n");
    FAULT_HAS(SHARED("memory: 65T"), "bytes are too many");
}

Test(config_cache, units_belong_to_bytes_alone)
{
    struct config *config = parse_right(LISTENERS ROUTES "limits: {head_bytes_max: 32KB}\n");
    cr_expect(config->limits.head_bytes_max == 32768);
    config_destroy(config);
    FAULT_HAS(LISTENERS ROUTES "limits: {head_timeout_ms: 10k}\n", "limits.head_timeout_ms: '10k' is not a number");
    FAULT_HAS(LISTENERS ROUTES "limits: {head_bytes_max: 2MB}\n", "limits.head_bytes_max: 2097152 is too large");
    FAULT_HAS(LISTENERS ROUTES "limits: {head_bytes_max: 17179869184GB}\n", "is not a number");
}

Test(config_cache, object_fits_into_the_memory)
{
    struct config *config = parse_right(SHARED("memory: 4MB"));
    cr_expect(config->cache.object_bytes_max == 4 << 20, "the default goes with the memory");
    config_destroy(config);
    FAULTS(SHARED("memory: 4MB, object_bytes_max: 5MB"),
           "f.yaml:3:40: cache.object_bytes_max: 5242880 is more than the whole cache may have; it should be at most "
           "cache.memory, which is 4194304\n");
}

Test(config_cache, wrong_shared_values_are_faults)
{
    FAULTS(SHARED("eviction: lru"),
           "f.yaml:3:19: cache.eviction: 'lru' is not known; it should be one of cost, s3fifo\n");
    FAULTS(SHARED("database: \"a\\0b\""),
           "f.yaml:3:19: cache.database: 'a\\x00b' has a NUL in it, which no path has; take it out\n");
    FAULTS(SHARED("database: ':memory:'"),
           "f.yaml:3:19: cache.database: ':memory:' is no file; write its path, or leave the line out for no second "
           "tier\n");
    FAULT_HAS(SHARED("database: 'file:/a?mode=ro'"), "is no file");
    config_destroy(parse_right(SHARED("database: ':memory'")));
    FAULTS(SHARED("api_token: short"), "f.yaml:3:20: cache.api_token: 5 bytes are too few; it takes at least 16\n");
    FAULTS(
        SHARED("api_token: 'sixteen bytes in it'"),
        "f.yaml:3:20: cache.api_token has a character that no bearer token has; use letters, digits and any of - . _ ~ "
        "+ / =\n");
    FAULTS(LISTENERS ROUTES "cache: true\n",
           "f.yaml:3:8: cache is a single value; it should be a mapping: lines of the form 'key: value'\n");
    FAULTS(SHARED("ttl_ms: 1"),
           "f.yaml:3:9: unknown key 'ttl_ms' in 'cache'; it belongs at 'routes[].http.cache.ttl_ms'\n");
}

/* ---- routes ---- */

static void part_is(const struct config_part *part, enum config_part_kind kind, const char *name)
{
    cr_expect(part->kind == kind && bytes_equal(part->name, bytes_from(name)), "%s", name);
}

Test(config_cache, http_route_defaults)
{
    struct config *config = parse_right(HTTP(""));
    const struct config_cache *cache = &config->routes[0].cache;
    cr_expect(!cache->enabled);
    cr_expect(cache->ttl_ms == 0);
    cr_expect(cache->negative_ttl_ms == 1000);
    cr_expect(cache->heuristic_percent == 10);
    cr_expect(cache->heuristic_max_ms == 24 * HOUR_MS);
    cr_expect(cache->stale_while_revalidate_ms == 0);
    cr_expect(cache->stale_if_error_ms == 0);
    cr_expect(cache->keep_ms == HOUR_MS);
    cr_assert(cache->key_count == 3);
    part_is(&cache->key[0], CONFIG_PART_HOST, "");
    part_is(&cache->key[1], CONFIG_PART_PATH, "");
    part_is(&cache->key[2], CONFIG_PART_QUERY, "");
    cr_expect(cache->bypass_count == 0);
    cr_assert(cache->target_count == 1);
    BYTES_ARE(cache->targets[0], "cdn-cache-control");
    cr_expect(cache->cost == CONFIG_COST_TIME);
    cr_expect(cache->coalesce);
    cr_expect(cache->coalesce_waiters_max == 10000);
    cr_expect(cache->coalesce_wait_ms == 30000);
    cr_expect(!cache->set_cookie);
    cr_expect(!cache->prefetch.enabled);
    cr_expect(cache->prefetch.session.kind == CONFIG_PART_NONE);
    cr_expect(cache->prefetch.confidence_percent == 60);
    cr_expect(cache->prefetch.precision_percent_min == 40);
    cr_expect(cache->prefetch.window_ms == 60000);
    cr_expect(cache->prefetch.in_flight_max == 2);
    cr_expect(cache->prefetch.busy_percent_max == 50);
    cr_expect(cache->prefetch.memory_bytes_max == 1 << 20);
    config_destroy(config);
}

Test(config_cache, inference_route_defaults)
{
    struct config *config = parse_right(INFER(""));
    const struct config_cache *cache = &config->routes[0].cache;
    cr_expect(cache->enabled);
    cr_expect(cache->ttl_ms == 24 * HOUR_MS);
    cr_expect(cache->cost == CONFIG_COST_TIME);
    cr_expect(cache->coalesce);
    cr_expect(cache->coalesce_waiters_max == 10000);
    cr_expect(cache->coalesce_wait_ms == 600000);
    cr_expect(cache->scope == CONFIG_SCOPE_TENANT);
    cr_expect(!cache->sampled && !cache->coalesce_sampled && !cache->tool_calls);
    cr_expect(cache->key_count == 0 && cache->target_count == 0, "its key is made from the body");
    config_destroy(config);
    config = parse_right(INFER(", cache: {key: ['header:X-Adapter', 'query:lora']}"));
    cache = &config->routes[0].cache;
    cr_assert_eq(cache->key_count, 2);
    cr_expect(cache->enabled && cache->key[0].kind == CONFIG_PART_HEADER);
    cr_expect(bytes_equal(cache->key[0].name, BYTES("x-adapter")));
    config_destroy(config);
    FAULTS(INFER(", cache: {key: [path]}"),
           "f.yaml:3:66: routes[].inference.cache.key[]: 'path' is not known; it should be "
           "one of header:NAME, cookie:NAME, query:NAME\n");
}

Test(config_cache, http_values_reach_their_places)
{
    struct config *config = parse_right(HTTP(
        ", cache: {enabled: true, ttl_ms: 1, negative_ttl_ms: 2, heuristic_percent: 3, heuristic_max_ms: 4, "
        "stale_while_revalidate_ms: 5, stale_if_error_ms: 6, keep_ms: 31536000000, coalesce: false, "
        "coalesce_waiters_max: 8, coalesce_wait_ms: 9, set_cookie: true, cost: uniform, "
        "key: [method, query:Id, 'header:Accept-Language', cookie:Lang], "
        "bypass: [header:X-Fresh, cookie:session, 'query:a[]'], targets: [Sluice-Cache-Control, CDN-Cache-Control]}"));
    const struct config_cache *cache = &config->routes[0].cache;
    cr_expect(cache->enabled);
    cr_expect(cache->ttl_ms == 1);
    cr_expect(cache->negative_ttl_ms == 2);
    cr_expect(cache->heuristic_percent == 3);
    cr_expect(cache->heuristic_max_ms == 4);
    cr_expect(cache->stale_while_revalidate_ms == 5);
    cr_expect(cache->stale_if_error_ms == 6);
    cr_expect(cache->keep_ms == UINT64_C(31536000000));
    cr_expect(!cache->coalesce);
    cr_expect(cache->coalesce_waiters_max == 8);
    cr_expect(cache->coalesce_wait_ms == 9);
    cr_expect(cache->set_cookie);
    cr_expect(cache->cost == CONFIG_COST_UNIFORM);
    cr_assert(cache->key_count == 4);
    part_is(&cache->key[0], CONFIG_PART_METHOD, "");
    part_is(&cache->key[1], CONFIG_PART_ARGUMENT, "Id");
    part_is(&cache->key[2], CONFIG_PART_HEADER, "accept-language");
    part_is(&cache->key[3], CONFIG_PART_COOKIE, "Lang");
    cr_assert(cache->bypass_count == 3);
    part_is(&cache->bypass[0], CONFIG_PART_HEADER, "x-fresh");
    part_is(&cache->bypass[1], CONFIG_PART_COOKIE, "session");
    part_is(&cache->bypass[2], CONFIG_PART_ARGUMENT, "a[]");
    cr_assert(cache->target_count == 2);
    BYTES_ARE(cache->targets[0], "sluice-cache-control");
    BYTES_ARE(cache->targets[1], "cdn-cache-control");
    config_destroy(config);
}

Test(config_cache, inference_values_reach_their_places)
{
    struct config *config =
        parse_right(INFER(", cache: {enabled: false, ttl_ms: 0, cost: tokens, scope: shared, sampled: true, "
                          "coalesce_sampled: true, tool_calls: true, bypass: [query:q]}"));
    const struct config_cache *cache = &config->routes[0].cache;
    cr_expect(!cache->enabled);
    cr_expect(cache->ttl_ms == 0);
    cr_expect(cache->cost == CONFIG_COST_TOKENS);
    cr_expect(cache->scope == CONFIG_SCOPE_SHARED);
    cr_expect(cache->sampled && cache->coalesce_sampled && cache->tool_calls);
    cr_assert(cache->bypass_count == 1);
    part_is(&cache->bypass[0], CONFIG_PART_ARGUMENT, "q");
    config_destroy(config);
}

static void is_enabled(const char *text, bool expected)
{
    struct config *config = parse_right(text);
    cr_expect(config->routes[0].cache.enabled == expected, "%s", text);
    cr_expect(config->routes[0].cache.coalesce_waiters_max == 10000, "the other defaults hold");
    config_destroy(config);
}

Test(config_cache, single_value_switches_it_and_so_does_saying_how)
{
    setenv("SLUICE_TEST_A", "on", 1);
    is_enabled(HTTP(", cache: true"), true);
    is_enabled(HTTP(", cache: false"), false);
    is_enabled(HTTP(", cache: \"${SLUICE_TEST_A}\""), true);
    is_enabled(INFER(", cache: false"), false);
    is_enabled(INFER(", cache: true"), true);
    is_enabled(HTTP(", cache: {ttl_ms: 5}"), true);
    is_enabled(HTTP(", cache: {ttl_ms: 5, enabled: false}"), false);
    is_enabled(HTTP(", cache: {}"), true);
    is_enabled(HTTP(", cache: "), false);
    is_enabled(INFER(", cache: "), true);
}

Test(config_cache, prefetch_values_reach_their_places)
{
    struct config *config =
        parse_right(HTTP(", cache: {prefetch: {enabled: true, session: cookie:Sid, confidence_percent: 1, "
                         "precision_percent_min: 2, window_ms: 3, in_flight_max: 4, busy_percent_max: 5, "
                         "memory_bytes_max: 64KB}}"));
    const struct config_prefetch *prefetch = &config->routes[0].cache.prefetch;
    cr_expect(config->routes[0].cache.enabled, "who says how it is to be cached wants it cached");
    cr_expect(prefetch->enabled);
    part_is(&prefetch->session, CONFIG_PART_COOKIE, "Sid");
    cr_expect(prefetch->confidence_percent == 1);
    cr_expect(prefetch->precision_percent_min == 2);
    cr_expect(prefetch->window_ms == 3);
    cr_expect(prefetch->in_flight_max == 4);
    cr_expect(prefetch->busy_percent_max == 5);
    cr_expect(prefetch->memory_bytes_max == 64 << 10);
    config_destroy(config);
}

static void is_fetched_ahead(const char *text, bool expected)
{
    struct config *config = parse_right(text);
    cr_expect(config->routes[0].cache.prefetch.enabled == expected, "%s", text);
    cr_expect(!expected || config->routes[0].cache.prefetch.in_flight_max == 2, "the other defaults hold");
    config_destroy(config);
}

Test(config_cache, prefetch_is_on_when_it_is_asked_for_and_there_is_a_cache)
{
    is_fetched_ahead(HTTP(", cache: true"), false);
    is_fetched_ahead(HTTP(", cache: {ttl_ms: 1}"), false);
    is_fetched_ahead(HTTP(", cache: {prefetch: true}"), true);
    is_fetched_ahead(HTTP(", cache: {prefetch: false}"), false);
    is_fetched_ahead(HTTP(", cache: {prefetch: }"), false);
    is_fetched_ahead(HTTP(", cache: {prefetch: {window_ms: 5}}"), true);
    is_fetched_ahead(HTTP(", cache: {prefetch: {window_ms: 5, enabled: false}}"), false);
    is_fetched_ahead(HTTP(", cache: {enabled: false, prefetch: true}"), false);
    is_fetched_ahead(HTTP(", cache: {enabled: false, prefetch: {window_ms: 5}}"), false);
}

Test(config_cache, wrong_prefetch_values_are_faults)
{
    FAULT_HAS(HTTP(", cache: {prefetch: 5}"), "routes[].http.cache.prefetch.enabled: '5' is neither true nor false");
    FAULT_HAS(HTTP(", cache: {prefetch: {session: address}}"),
              "routes[].http.cache.prefetch.session: 'address' is not known; it should be one of header:NAME, "
              "cookie:NAME, query:NAME");
    FAULT_HAS(HTTP(", cache: {prefetch: {confidence_percent: 0}}"), "it should be a whole number from 1 to 100");
    FAULT_HAS(HTTP(", cache: {prefetch: {memory_bytes_max: 1KB}}"), "memory_bytes_max: 1024 is too small");
    FAULT_HAS(HTTP(", cache: {prefetch: {precision: 5}}"), "unknown key 'precision'");
    FAULT_HAS(INFER(", cache: {prefetch: true}"), "it belongs at 'routes[].http.cache.prefetch'");
}

Test(config_cache, empty_list_of_targets_is_none)
{
    struct config *config = parse_right(HTTP(", cache: {targets: []}"));
    cr_expect(config->routes[0].cache.target_count == 0);
    config_destroy(config);
}

Test(config_cache, wrong_route_values_are_faults)
{
    FAULTS(HTTP(", cache: maybe"),
           "f.yaml:3:54: routes[].http.cache.enabled: 'maybe' is neither true nor false; write one "
           "of them\n");
    FAULTS(HTTP(", cache: [true]"),
           "f.yaml:3:54: routes[].http.cache is a list; it should be a mapping: lines of the form 'key: value'\n");
    FAULTS(HTTP(", cache: {key: []}"), "f.yaml:3:60: 'routes[].http.cache.key' has no entries; it takes 1 to 16\n");
    FAULTS(HTTP(", cache: {cost: tokens}"),
           "f.yaml:3:61: routes[].http.cache.cost: 'tokens' is not known; it should be one of time, uniform\n");
    FAULTS(HTTP(", cache: {sampled: true}"),
           "f.yaml:3:55: unknown key 'sampled' in 'routes[].http.cache'; it belongs at "
           "'routes[].inference.cache.sampled'\n");
    FAULTS(INFER(", cache: {keep_ms: 1}"),
           "f.yaml:3:60: unknown key 'keep_ms' in 'routes[].inference.cache'; it belongs "
           "at 'routes[].http.cache.keep_ms'\n");
    FAULTS(HTTP(", cache: {ttl_ms: 31536000001}"),
           "f.yaml:3:63: routes[].http.cache.ttl_ms: 31536000001 is too large; it "
           "should be a whole number from 0 to 31536000000 (ms)\n");
    FAULTS(HTTP(", cache: {targets: [cache-control, 'a b']}"),
           "f.yaml:3:65: routes[].http.cache.targets[]: Cache-Control counts without being named; leave it out\n"
           "f.yaml:3:80: routes[].http.cache.targets[]: 'a b' is not a field name; use letters, digits and '-'\n");
}

Test(config_cache, wrong_parts_are_faults)
{
    FAULTS(HTTP(", cache: {key: [path, url, 'header:', 'header:a b', 'query:a=b', path]}"),
           "f.yaml:3:67: routes[].http.cache.key[]: 'url' is not known; it should be one of method, host, path, query, "
           "header:NAME, cookie:NAME, query:NAME\n"
           "f.yaml:3:72: routes[].http.cache.key[]: 'header:' has no name behind the colon that can be one; write "
           "'header:name'\n"
           "f.yaml:3:83: routes[].http.cache.key[]: 'header:a b' has no name behind the colon that can be one; write "
           "'header:name'\n"
           "f.yaml:3:97: routes[].http.cache.key[]: 'query:a=b' has no name behind the colon that can be one; write "
           "'query:name'\n"
           "f.yaml:3:110: 'path' is given twice; keep one of them\n");
    FAULTS(HTTP(", cache: {bypass: [path]}"),
           "f.yaml:3:64: routes[].http.cache.bypass[]: 'path' is not known; it should be "
           "one of header:NAME, cookie:NAME, query:NAME\n");
    FAULTS(INFER(", cache: {bypass: [header:A, header:a]}"),
           "f.yaml:3:79: 'header:a' is given twice; keep one of them\n");
}

/* ---- the environment ---- */

Test(config_cache, variables_count_where_keys_are_left_out)
{
    setenv("CACHE_MAX_SIZE", "1000", 1);
    setenv("CACHE_TTL_HOURS", "2", 1);
    setenv("DATABASE_PATH", "/tmp/${A}.db", 1);
    struct config *config = parse_right(INFER(""));
    cr_expect(config->cache.entries_max == 1000);
    cr_expect(config->routes[0].cache.ttl_ms == 2 * HOUR_MS);
    BYTES_ARE(config->cache.database, "/tmp/${A}.db");
    config_destroy(config);
    config = parse_right(INFER(", cache: {ttl_ms: 5}") "cache: {entries_max: 6, database: a}\n");
    cr_expect(config->cache.entries_max == 6);
    cr_expect(config->routes[0].cache.ttl_ms == 5);
    BYTES_ARE(config->cache.database, "a");
    config_destroy(config);
    config = parse_right(HTTP(""));
    cr_expect(config->routes[0].cache.ttl_ms == 0, "an http route goes by what responses say");
    config_destroy(config);
}

Test(config_cache, empty_variables_are_as_if_unset)
{
    setenv("CACHE_MAX_SIZE", "", 1);
    setenv("CACHE_TTL_HOURS", "", 1);
    setenv("DATABASE_PATH", "", 1);
    struct config *config = parse_right(INFER(""));
    cr_expect(config->cache.entries_max == 0);
    cr_expect(config->routes[0].cache.ttl_ms == 24 * HOUR_MS);
    cr_expect(config->cache.database.len == 0);
    config_destroy(config);
}

Test(config_cache, wrong_variables_are_named_once)
{
    setenv("CACHE_MAX_SIZE", "many", 1);
    setenv("CACHE_TTL_HOURS", "9000", 1);
    FAULTS(
        LISTENERS UPSTREAM
        "routes:\n  - {path: /a, inference: {upstream: u}}\n  - {path: /b, inference: {upstream: u}}\n",
        "f.yaml: environment variable CACHE_MAX_SIZE: 'many' is not a number; it should be a whole number from 0 to "
        "4294967295\n"
        "f.yaml: environment variable CACHE_TTL_HOURS: 9000 is too large; it should be a whole number from 0 to 8760 "
        "(hours)\n");
    setenv("CACHE_TTL_HOURS", "0.5", 1);
    FAULT_HAS(INFER(""),
              "environment variable CACHE_TTL_HOURS: '0.5' is not a number; it should be a whole number from 0 to "
              "8760 (hours)");
    FAULT_HAS(INFER("") "cache: {entries_max: 1}\n", "f.yaml: environment variable CACHE_TTL_HOURS");
}
