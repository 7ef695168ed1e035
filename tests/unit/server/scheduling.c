/* What the configuration says of scheduling, in the scheduler's terms. */
#include "config_test.h"

#include "server/cache_key.h"
#include "server/scheduling.h"

#define SCHEDULED(keys) \
    LISTENERS ROUTES "upstreams: [{name: u, endpoints: ['127.0.0.1:1', '127.0.0.1:2'], scheduling: {" keys "}}]\n"

static void begin(const char *text, struct config **ret_config, struct scheduling *ret_scheduling)
{
    *ret_config = parse_right(text);
    cr_assert(scheduling_init(ret_scheduling, *ret_config) == RESULT_OK);
}

static void end(struct config *config, struct scheduling *scheduling)
{
    scheduling_fini(scheduling);
    config_destroy(config);
}

Test(scheduling, time_is_as_it_is_when_nothing_is_said)
{
    struct config *config;
    struct scheduling scheduling;
    begin(SCHEDULED(""), &config, &scheduling);
    const struct admission_options *model = &scheduling.upstreams[0].model;
    cr_expect(model->limiter.time_scale_milli == 1000);
    cr_expect(model->queue.aged_after_ns == 5 * NANOS_PER_S);
    cr_expect(model->limiter.slo_first_ns == 3 * NANOS_PER_S);
    cr_expect(model->limiter.initial == 64, "32 for each endpoint");
    end(config, &scheduling);
}

Test(scheduling, time_scale_shortens_the_schedulers_own_constants_and_no_goal)
{
    struct config *config;
    struct scheduling scheduling;
    begin(SCHEDULED("time_scale: 10, first_token_ms: 300"), &config, &scheduling);
    const struct admission_options *model = &scheduling.upstreams[0].model;
    const struct admission_options *plain = &scheduling.upstreams[0].plain;
    cr_expect(model->limiter.time_scale_milli == 10000);
    cr_expect(plain->limiter.time_scale_milli == 10000);
    cr_expect(model->queue.aged_after_ns == NANOS_PER_S / 2);
    cr_expect(model->limiter.slo_first_ns == 300 * NANOS_PER_MS, "goals are told as they are to be met");
    end(config, &scheduling);
}

/* ---- whose a request is */

#define TENANTS "tenants: [{name: gold, key: sk-gold, weight: 4, class: 1}, {name: sk-lead, key: gold2}]\n"

static struct http_parser parser;
static char text[512];

static struct scheduling_tenant tenant_of(const struct scheduling *scheduling, const struct config_route *route,
                                          const char *fields, const char *address)
{
    static const struct http_limits limits = {.head_bytes_max = 512, .target_bytes_max = 200, .fields_max = 16};
    int bytes = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: t\r\n%s\r\n", fields);
    cr_assert(bytes > 0 && (size_t)bytes < sizeof(text));
    http_parser_init(&parser, HTTP_REQUEST, &limits);
    cr_assert(http_parse_head(&parser, text, (size_t)bytes) == RESULT_OK, "%s", text);
    const struct cache_key_source source = {.head = &parser.head, .base = text};
    return scheduling_tenant_of(scheduling, route, &source, bytes_from(address));
}

static bool is_named(const struct scheduling *scheduling, uint64_t hash, const char *name)
{
    return bytes_equal(scheduling_tenant_name(scheduling, hash), bytes_from(name));
}

Test(scheduling, a_configured_tenant_is_found_by_its_key_wherever_that_stands)
{
    struct config *config;
    struct scheduling scheduling;
    begin(SCHEDULED("") TENANTS, &config, &scheduling);
    const char *const fields[] = {"Authorization: Bearer sk-gold\r\n", "authorization: bearer  sk-gold \r\n",
                                  "X-API-Key: sk-gold\r\n"};
    for (unsigned i = 0; i < 3; i++) {
        struct scheduling_tenant tenant = tenant_of(&scheduling, &config->routes[0], fields[i], "10.0.0.1");
        cr_expect(is_named(&scheduling, tenant.hash, "gold"), "%s", fields[i]);
        cr_expect(tenant.weight == 4000);
        cr_expect(tenant.class == 1);
    }
    end(config, &scheduling);
}

Test(scheduling, a_stranger_whose_key_is_a_configured_tenants_name_is_a_stranger)
{
    struct config *config;
    struct scheduling scheduling;
    begin(SCHEDULED("") TENANTS, &config, &scheduling);
    const struct config_route *route = &config->routes[0];
    uint64_t gold = tenant_of(&scheduling, route, "Authorization: Bearer sk-gold\r\n", "10.0.0.1").hash;
    struct scheduling_tenant stranger = tenant_of(&scheduling, route, "Authorization: Bearer gold\r\n", "10.0.0.1");
    cr_expect(stranger.hash != 0 && stranger.hash != gold);
    cr_expect(stranger.weight == 1000);
    cr_expect(scheduling_tenant_name(&scheduling, stranger.hash).ptr == NULL);
    end(config, &scheduling);
}

Test(scheduling, keys_addresses_and_what_a_route_names_are_never_the_same)
{
    struct config *config;
    struct scheduling scheduling;
    begin(LISTENERS "routes: [{path: /a, respond: {}}, {path: /b, http: {upstream: u}, tenant: ['header:x-who']},"
                    " {path: /c, http: {upstream: u}, tenant: [address]}]\n"
                    "upstreams: [{name: u, endpoints: ['127.0.0.1:1']}]\n" TENANTS,
          &config, &scheduling);
    const struct config_route *plain = &config->routes[0];
    const struct config_route *by_header = &config->routes[1];
    const struct config_route *by_address = &config->routes[2];
    uint64_t hashes[] = {
        tenant_of(&scheduling, plain, "", "gold").hash,
        tenant_of(&scheduling, plain, "X-API-Key: gold\r\n", "10.0.0.1").hash,
        tenant_of(&scheduling, by_header, "X-Who: gold\r\n", "10.0.0.1").hash,
        tenant_of(&scheduling, plain, "X-API-Key: sk-gold\r\n", "10.0.0.1").hash,
    };
    for (unsigned i = 0; i < 4; i++) {
        cr_expect(hashes[i] != 0);
        for (unsigned j = 0; j < i; j++) {
            cr_expect(hashes[i] != hashes[j], "%u and %u", i, j);
        }
    }
    cr_expect(tenant_of(&scheduling, by_address, "X-API-Key: k\r\n", "gold").hash == hashes[0], "of another route");
    cr_expect(tenant_of(&scheduling, by_header, "", "10.0.0.1").hash == 0, "it does not say");
    end(config, &scheduling);
}
