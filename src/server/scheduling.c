#include "server/scheduling.h"

#include <stdlib.h>
#include <xxhash.h>

#include "base/check.h"
#include "server/cache_key.h"

enum {
    TENANTS_KNOWN_MAX = 1024, /* per model, at a time: beyond it strangers share one record */
    WEIGHT_ORDINARY = 1000,
    MODEL_CONCURRENCY = 32, /* for each endpoint, to begin with: what engines batch without strain */
    PLAIN_CONCURRENCY = 1024,
    INPUT_WEIGHT = 1000, /* a prompt's token against an answer's */
    OUTPUT_WEIGHT = 2000,
    CATCH_UP_TOKENS = 10000,   /* bench/sched noisy-tenant: others shed 380 without it, 200 with; 50,000 gains little */
    TENANTS_LEARNED_MAX = 128, /* per model and worker: whose answers' lengths are known apart */
    BYTES_PER_TOKEN = 4,       /* until usage has told */
    OUTPUT_TOKENS = 256,
};

#define OUTPUT_QUANTILE 0.75 /* so that most answers take no more than they were given room for */

#define AGED_AFTER_NS (5 * NANOS_PER_S)

/* ---- upstreams ---- */

static struct admission_options admission_options_of(const struct config_upstream *upstream, bool is_plain)
{
    const struct config_scheduling *config = &upstream->scheduling;
    uint32_t initial = config->concurrency;
    if (initial == 0) {
        initial = upstream->endpoint_count * (is_plain ? PLAIN_CONCURRENCY : MODEL_CONCURRENCY);
    }
    initial = initial < config->concurrency_min ? config->concurrency_min : initial;
    initial = initial > config->concurrency_max ? config->concurrency_max : initial;
    return (struct admission_options){
        .limiter =
            {
                .kind = (enum limiter_kind)config->limiter,
                .initial = initial,
                .min = config->concurrency_min,
                .max = config->concurrency_max,
                .kv_tokens_max = is_plain ? 0 : (double)config->kv_tokens_max,
                .slo_first_ns = config->first_token_ms * NANOS_PER_MS,
                .slo_token_ns = is_plain ? 0 : config->token_ms * NANOS_PER_MS,
                .endpoints = upstream->endpoint_count,
                .seed = 1,
                .time_scale_milli = config->time_scale * 1000,
            },
        .queue =
            {
                .requests_max = config->queue.requests_max,
                .tokens_max = config->queue.tokens_max,
                .bytes_max = config->queue.body_bytes_max,
                .tenants_max = TENANTS_KNOWN_MAX,
                .tenant_share_percent = config->queue.tenant_share_percent,
                .aged_share_percent = config->queue.aged_share_percent,
                .aged_after_ns = AGED_AFTER_NS / config->time_scale,
                .small_tokens_max = config->queue.small_tokens_max,
                .input_weight = INPUT_WEIGHT,
                .output_weight = OUTPUT_WEIGHT,
                .catch_up_tokens = CATCH_UP_TOKENS,
                .lifo_lowest = config->queue.lifo_lowest,
            },
        .holdback_percent = config->holdback_percent,
        .endpoint_limit = config->endpoint_concurrency_max,
        .endpoint_count = upstream->endpoint_count,
        .observe_only = config->observe_only,
        .is_plain = is_plain,
    };
}

/* ---- life ---- */

static int compare_keys(struct bytes a, struct bytes b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common == 0 ? 0 : memcmp(a.ptr, b.ptr, common);
    return order != 0 ? order : (a.len > b.len) - (a.len < b.len);
}

static int compare_by_key(const void *a, const void *b)
{
    const struct config_tenant *const *one = a;
    const struct config_tenant *const *other = b;
    return compare_keys((*one)->key, (*other)->key);
}

static int compare_by_value(const void *a, const void *b)
{
    const struct config_tenant *const *one = a;
    const struct config_tenant *const *other = b;
    return compare_keys((*one)->value, (*other)->value);
}

struct scheduling_name {
    uint64_t hash;
    const struct config_tenant *tenant;
};

static int compare_names(const void *a, const void *b)
{
    const struct scheduling_name *one = a;
    const struct scheduling_name *other = b;
    return (one->hash > other->hash) - (one->hash < other->hash);
}

struct identity {
    enum identity_kind kind;
    struct bytes text; /* empty: nobody in particular */
};

static uint64_t hash(const struct scheduling *scheduling, struct identity identity)
{
    if (identity.text.len == 0) {
        return 0;
    }
    uint64_t value = XXH3_64bits_withSeed(identity.text.ptr, identity.text.len, scheduling->seeds[identity.kind]);
    return value == 0 ? 1 : value;
}

enum result scheduling_init(struct scheduling *scheduling, const struct config *config)
{
    *scheduling = (struct scheduling){
        .config = config,
        .upstreams = calloc(config->upstream_count + 1, sizeof(*scheduling->upstreams)),
        .by_key = calloc(config->tenant_count + 1, sizeof(const struct config_tenant *)),
        .by_value = calloc(config->tenant_count + 1, sizeof(const struct config_tenant *)),
        .by_hash = calloc(config->tenant_count + 1, sizeof(*scheduling->by_hash)),
    };
    if (scheduling->upstreams == NULL || scheduling->by_key == NULL || scheduling->by_value == NULL ||
        scheduling->by_hash == NULL) {
        scheduling_fini(scheduling);
        return RESULT_NO_MEMORY;
    }
    ring_entropy(scheduling->seeds, sizeof(scheduling->seeds));
    for (unsigned i = 0; i < config->upstream_count; i++) {
        scheduling->upstreams[i] = (struct gate_options){
            .name = config->upstreams[i].name,
            .is_enabled = config->upstreams[i].scheduling.enabled,
            .model = admission_options_of(&config->upstreams[i], false),
            .plain = admission_options_of(&config->upstreams[i], true),
            .cost =
                {
                    .bytes_per_token = BYTES_PER_TOKEN,
                    .output_quantile = OUTPUT_QUANTILE,
                    .output_tokens = OUTPUT_TOKENS,
                    .tenants_max = TENANTS_LEARNED_MAX,
                },
        };
    }
    for (unsigned i = 0; i < config->tenant_count; i++) {
        const struct config_tenant *tenant = &config->tenants[i];
        scheduling->by_key[i] = tenant;
        scheduling->by_value[i] = tenant;
        const struct identity identity = {IDENTITY_NAME, tenant->name};
        scheduling->by_hash[i] = (struct scheduling_name){hash(scheduling, identity), tenant};
    }
    qsort(scheduling->by_hash, config->tenant_count, sizeof(*scheduling->by_hash), compare_names);
    qsort(scheduling->by_key, config->tenant_count, sizeof(const struct config_tenant *), compare_by_key);
    qsort(scheduling->by_value, config->tenant_count, sizeof(const struct config_tenant *), compare_by_value);
    return RESULT_OK;
}

void scheduling_fini(struct scheduling *scheduling)
{
    free(scheduling->upstreams);
    free(scheduling->by_key);
    free(scheduling->by_value);
    free(scheduling->by_hash);
    scheduling->upstreams = NULL;
    scheduling->by_key = NULL;
    scheduling->by_value = NULL;
    scheduling->by_hash = NULL;
}

/* ---- tenants ---- */

/* The key itself, of `Authorization: Bearer KEY` (RFC 6750), X-API-Key or api-key; .ptr NULL: none. */
static struct bytes api_key_of(const struct cache_key_source *source)
{
    const struct http_head *head = source->head;
    struct bytes value = http_head_value(head, source->base, HTTP_FIELD_AUTHORIZATION);
    if (value.len > 7 && bytes_equal_nocase((struct bytes){value.ptr, 7}, BYTES("bearer "))) {
        return bytes_trim((struct bytes){value.ptr + 7, value.len - 7});
    }
    if (value.len > 0) {
        return value; /* another scheme: all of it stands for who it is */
    }
    return http_head_value(head, source->base, HTTP_FIELD_X_API_KEY);
}

/* What the upstream knows a client by: all of it goes there as it came. */
static struct bytes credential_of(const struct cache_key_source *source, struct bytes api_key)
{
    static const char *const names[] = {"api-key", "x-goog-api-key"};
    for (size_t i = 0; i < ARRAY_COUNT(names) && api_key.len == 0; i++) {
        api_key = http_head_find(source->head, source->base, bytes_from(names[i]));
    }
    return api_key;
}

/* The configured tenant with this key, or this value; NULL: none, or it is empty. */
static const struct config_tenant *find_tenant(const struct scheduling *scheduling, const struct config_tenant *wanted)
{
    bool is_key = wanted->key.len > 0;
    if (scheduling->config->tenant_count == 0 || wanted->key.len + wanted->value.len == 0) {
        return NULL;
    }
    const struct config_tenant **found =
        bsearch(&wanted, is_key ? scheduling->by_key : scheduling->by_value, scheduling->config->tenant_count,
                sizeof(const struct config_tenant *), is_key ? compare_by_key : compare_by_value);
    return found == NULL ? NULL : *found;
}

/* By what the route says, or else its key or address. */
static struct identity stranger_of(const struct config_route *route, const struct cache_key_source *source,
                                   struct bytes client, struct bytes api_key)
{
    for (unsigned i = 0; i < route->tenant_count; i++) {
        const struct config_part *part = &route->tenant[i];
        bool is_address = part->kind == CONFIG_PART_ADDRESS;
        struct bytes value = is_address ? client : cache_key_part_value(part, source);
        if (value.len > 0) {
            return (struct identity){is_address ? IDENTITY_ADDRESS : IDENTITY_PART, value};
        }
    }
    if (route->tenant_count > 0) {
        return (struct identity){IDENTITY_PART, BYTES_NONE};
    }
    return api_key.len > 0 ? (struct identity){IDENTITY_KEY, api_key} : (struct identity){IDENTITY_ADDRESS, client};
}

struct scheduling_tenant scheduling_tenant_of(const struct scheduling *scheduling, const struct config_route *route,
                                              const struct cache_key_source *source, struct bytes client)
{
    struct scheduling_tenant tenant = {.weight = WEIGHT_ORDINARY, .class = (uint8_t)route->class};
    struct bytes api_key = api_key_of(source);
    const struct config_tenant *known = find_tenant(scheduling, &(struct config_tenant){.key = api_key});
    struct identity identity = {IDENTITY_NAME, known == NULL ? BYTES_NONE : known->name};
    if (known == NULL || route->tenant_count > 0) {
        identity = stranger_of(route, source, client, api_key);
    }
    if (route->tenant_count > 0) {
        const struct config_tenant *named = find_tenant(scheduling, &(struct config_tenant){.value = identity.text});
        if (named != NULL) {
            known = named;
            identity = (struct identity){IDENTITY_NAME, named->name};
        }
    }
    if (known != NULL) {
        tenant.weight = known->weight * WEIGHT_ORDINARY;
        tenant.class = (uint8_t)(known->class < SCHED_CLASSES ? known->class : route->class);
    }
    tenant.hash = hash(scheduling, identity);
    tenant.account = hash(scheduling, (struct identity){IDENTITY_KEY, credential_of(source, api_key)});
    return tenant;
}

struct bytes scheduling_tenant_name(const struct scheduling *scheduling, uint64_t hash_of_name)
{
    const struct scheduling_name wanted = {.hash = hash_of_name};
    const struct scheduling_name *found =
        bsearch(&wanted, scheduling->by_hash, scheduling->config->tenant_count, sizeof(wanted), compare_names);
    return found == NULL ? BYTES_NONE : found->tenant->name;
}
