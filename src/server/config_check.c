/* What is wrong between keys that are each right: names and addresses given twice, limits that contradict
 * each other. Routes have a file of their own. */

#include "sched/limiter.h"
#include "server/config_internal.h"

/* The element of a list that stands at `index`. */
static const struct config_node *item_at(const struct config_node *list, unsigned index)
{
    const struct config_node *item = list->children;
    while (index-- > 0) {
        item = item->next;
    }
    return item;
}

/* The place to point at: a key's value when it is there, else what should hold it. */
static const struct config_node *at_key(const struct config_node *mapping, const char *key)
{
    const struct config_node *value = config_node_get(mapping, key);
    return value == NULL ? mapping : value;
}

static void check_limits(struct config_reader *reader, const struct config_node *limits)
{
    struct config *config = reader->config;
    if (config->limits.target_bytes_max <= config->limits.head_bytes_max) {
        return;
    }
    const struct config_node *target = config_node_get(limits, "target_bytes_max");
    if (target == NULL) {
        /* Only the head's limit was lowered, and the default of the target's goes with it. */
        config->limits.target_bytes_max = config->limits.head_bytes_max;
        return;
    }
    config_complain(reader, target,
                    "limits.target_bytes_max: %u is more than the whole head may have; it should be at most "
                    "limits.head_bytes_max, which is %u",
                    config->limits.target_bytes_max, config->limits.head_bytes_max);
}

/* Port 0 asks for a free one, which is another each time. */
static bool is_free_port(const struct ring_address *address)
{
    switch (address->any.sa_family) {
    case AF_INET: return address->v4.sin_port == 0;
    case AF_INET6: return address->v6.sin6_port == 0;
    default: return false;
    }
}

static void complain_of_address(struct config_reader *reader, const struct config_node *node,
                                const struct config_listener *listener, unsigned line)
{
    config_complain(reader, node, "address '%s' is listened at twice, first at line %u; give each listener its own",
                    config_shown(reader, listener->text), line);
}

static void check_listeners(struct config_reader *reader, const struct config_node *root)
{
    const struct config *config = reader->config;
    const struct config_node *list = config_node_get(root, "listeners");
    const struct config_node *admin = config_node_get(config_node_get(root, "admin"), "address");
    for (unsigned i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        const struct config_node *node = at_key(item_at(list, i), "address");
        if (listener->address.bytes == 0 || is_free_port(&listener->address)) {
            continue; /* its own fault was reported, or there is none */
        }
        for (unsigned j = 0; j < i; j++) {
            if (ring_address_equal(&listener->address, &config->listeners[j].address)) {
                complain_of_address(reader, node, listener, at_key(item_at(list, j), "address")->line);
                break;
            }
        }
        if (admin != NULL && config->admin.address.bytes > 0 &&
            ring_address_equal(&listener->address, &config->admin.address)) {
            complain_of_address(reader, admin, &config->admin, node->line);
            admin = NULL; /* once is enough */
        }
    }
}

/* A service manager passes a socket by a name, which says whose it is. */
static void check_listener_names(struct config_reader *reader, const struct config_node *list)
{
    const struct config *config = reader->config;
    for (unsigned i = 0; i < config->listener_count; i++) {
        struct bytes name = config->listeners[i].name;
        const struct config_node *node = at_key(item_at(list, i), "name");
        if (name.len == 0) {
            continue;
        }
        if (config->has_admin && bytes_equal(name, BYTES("admin"))) {
            config_complain(reader, node, "a listener is named 'admin', as the admin's is; give it another name");
        }
        for (unsigned j = 0; j < i; j++) {
            if (bytes_equal(name, config->listeners[j].name)) {
                config_complain(reader, node, "two listeners are named '%s', the first at line %u; give each its own",
                                config_shown(reader, name), at_key(item_at(list, j), "name")->line);
                break;
            }
        }
    }
}

static void check_endpoints(struct config_reader *reader, const struct config_upstream *upstream,
                            const struct config_node *list)
{
    for (unsigned i = 1; i < upstream->endpoint_count; i++) {
        for (unsigned j = 0; j < i; j++) {
            struct bytes text = upstream->endpoints[i].text;
            if (text.len > 0 && bytes_equal_nocase(text, upstream->endpoints[j].text)) {
                config_complain(reader, item_at(list, i), "endpoint '%s' is given twice; keep one of them",
                                config_shown(reader, text));
                break;
            }
        }
    }
}

static void check_upstreams(struct config_reader *reader, const struct config_node *list)
{
    const struct config *config = reader->config;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        const struct config_upstream *upstream = &config->upstreams[i];
        const struct config_node *node = item_at(list, i);
        for (unsigned j = 0; j < i && upstream->name.len > 0; j++) {
            if (bytes_equal(upstream->name, config->upstreams[j].name)) {
                config_complain(reader, at_key(node, "name"),
                                "there are two upstreams '%s', the first at line %u; give each its own name",
                                config_shown(reader, upstream->name), item_at(list, j)->line);
                break;
            }
        }
        check_endpoints(reader, upstream, config_node_get(node, "endpoints"));
    }
}

static void check_scheduling(struct config_reader *reader, const struct config_node *list)
{
    const struct config *config = reader->config;
    for (unsigned i = 0; i < config->upstream_count; i++) {
        struct config_scheduling *scheduling = &config->upstreams[i].scheduling;
        const struct config_node *node = config_node_get(item_at(list, i), "scheduling");
        if (scheduling->concurrency_min > scheduling->concurrency_max) {
            config_complain(reader, at_key(node, "concurrency_min"),
                            "scheduling.concurrency_min: %u is more than concurrency_max, which is %u; it should be at "
                            "most that",
                            scheduling->concurrency_min, scheduling->concurrency_max);
        }
        if (scheduling->limiter == LIMITER_FIXED && scheduling->concurrency == 0) {
            config_complain(
                reader, at_key(node, "limiter"),
                "the limiter 'fixed' has to be told how many; add concurrency: 16, or whatever it can take");
        }
    }
}

static bool is_same(struct bytes a, struct bytes b)
{
    return a.len > 0 && bytes_equal(a, b);
}

/* One key, or one value, has one class and one share. A key's text stays out of messages: they end up in logs. */
static void check_tenants(struct config_reader *reader, const struct config_node *list)
{
    const struct config_tenant *tenants = reader->config->tenants;
    for (unsigned i = 0; i < reader->config->tenant_count; i++) {
        const char *name = config_shown(reader, tenants[i].name);
        if (tenants[i].key.len + tenants[i].value.len == 0) {
            config_complain(
                reader, item_at(list, i),
                "nothing tells the requests of tenant '%s'; give it a 'key', or a 'value' of what a route's "
                "'tenant' looks at",
                name);
        }
        for (unsigned j = 0; j < i; j++) {
            bool has_same_key = is_same(tenants[i].key, tenants[j].key);
            if (has_same_key || is_same(tenants[i].value, tenants[j].value)) {
                const char *what = has_same_key ? "key" : "value";
                config_complain(reader, at_key(item_at(list, i), what),
                                "tenant '%s' has the same %s as the one at line %u; give each its own", name, what,
                                item_at(list, j)->line);
                break;
            }
        }
    }
}

void config_check(struct config_reader *reader, const struct config_node *root)
{
    check_limits(reader, config_node_get(root, "limits"));
    check_listeners(reader, root);
    check_listener_names(reader, config_node_get(root, "listeners"));
    check_upstreams(reader, config_node_get(root, "upstreams"));
    check_scheduling(reader, config_node_get(root, "upstreams"));
    check_tenants(reader, config_node_get(root, "tenants"));
    config_check_routes(reader, config_node_get(root, "routes"));
    config_check_cache(reader, root);
}
