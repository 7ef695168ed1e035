/* Routes: that each says one thing, that it can be reached, and what it is called. */

#include "server/config_internal.h"

/* ---- one route ---- */

static void check_kind(struct config_reader *reader, struct config_route *route, const struct config_node *node)
{
    static const char *const kinds[] = {
        [CONFIG_ROUTE_RESPOND] = "respond",
        [CONFIG_ROUTE_HTTP] = "http",
        [CONFIG_ROUTE_INFERENCE] = "inference",
    };
    const char *first = NULL;
    for (unsigned kind = CONFIG_ROUTE_RESPOND; kind <= CONFIG_ROUTE_INFERENCE; kind++) {
        const struct config_node *value = config_node_get(node, kinds[kind]);
        if (value == NULL) {
            continue;
        }
        if (first != NULL) {
            config_complain(reader, value->key,
                            "a route has one of 'respond', 'http' and 'inference', and this one has "
                            "'%s' already; make it two routes",
                            first);
            continue;
        }
        first = kinds[kind];
        route->kind = (enum config_route_kind)kind;
    }
    if (first == NULL) {
        config_complain(reader, node, "this route does nothing; give it one of 'respond', 'http' and 'inference'");
    }
}

static void check_path(struct config_reader *reader, struct config_route *route, const struct config_node *node)
{
    const struct config_node *path = config_node_get(node, "path");
    const struct config_node *prefix = config_node_get(node, "path_prefix");
    if (path != NULL && prefix != NULL) {
        config_complain(reader, prefix->key,
                        "a route has 'path' or 'path_prefix', not both; keep 'path_prefix' for everything below it");
    }
    if (path == NULL && prefix == NULL) {
        config_complain(reader, node, "this route has no path; add 'path_prefix: /' for every path, or 'path' for one");
    }
    /* Segments are matched whole, so a '/' at the end says nothing. */
    if (route->path_prefix.len > 1 && route->path_prefix.ptr[route->path_prefix.len - 1] == '/') {
        route->path_prefix.len--;
    }
}

static void check_methods(struct config_reader *reader, const struct config_route *route,
                          const struct config_node *list)
{
    const struct config_node *item = list == NULL ? NULL : list->children;
    for (unsigned i = 0; i < route->method_count && item != NULL; i++, item = item->next) {
        for (unsigned j = 0; j < i; j++) {
            if (route->methods[i].len > 0 && bytes_equal(route->methods[i], route->methods[j])) {
                config_complain(reader, item, "method '%.*s' is given twice; keep one of them",
                                BYTES_ARG(route->methods[i]));
                break;
            }
        }
    }
}

static bool has_header(const struct config_route *route, unsigned count, struct bytes name)
{
    for (unsigned i = 0; i < count; i++) {
        if (bytes_equal_nocase(route->headers[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* A field given twice would be sent as two lines, which only Set-Cookie may be (RFC 9110 §5.3). */
static void check_headers(struct config_reader *reader, const struct config_route *route,
                          const struct config_node *headers)
{
    const struct config_node *node = headers == NULL ? NULL : headers->children;
    for (unsigned i = 0; i < route->header_count && node != NULL; i++, node = node->next) {
        struct bytes name = route->headers[i].name;
        if (name.len > 0 && !bytes_equal_nocase(name, BYTES("set-cookie")) && has_header(route, i, name)) {
            config_complain(reader, node->key, "header field '%s' is given twice; keep one of them",
                            config_shown(reader, name));
        }
    }
}

static void check_respond(struct config_reader *reader, struct config_route *route, const struct config_node *respond)
{
    unsigned status = route->status;
    if (status == 204 || status == 205 || status == 304) {
        const struct config_node *body = config_node_get(respond, "body");
        if (route->body.len > 0 && body != NULL) {
            config_complain(reader, body, "a response with status %u has no body; leave it out, or use status 200",
                            status);
        }
    }
    bool redirects = status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
    if (redirects && !has_header(route, route->header_count, BYTES("location"))) {
        config_complain(reader, respond->key,
                        "a response with status %u says where to go; add headers: { Location: /there }", status);
    }
    check_headers(reader, route, config_node_get(respond, "headers"));
}

/* What batching is told. */
static void check_batching(struct config_reader *reader, const struct config_route *route,
                           const struct config_node *inference)
{
    const struct config_batching *batching = &route->batching;
    const struct config_node *list = config_node_get(config_node_get(inference, "batching"), "arrays");
    const struct config_node *item = list == NULL ? NULL : list->children;
    for (unsigned i = 0; i < batching->array_count && item != NULL; i++, item = item->next) {
        const struct config_array *array = &batching->arrays[i];
        if (array->items.len > 0 && bytes_equal(array->index, array->results)) {
            config_complain(reader, item,
                            "'index' and 'results' are both '%s', but one lies in the other; 'index' is "
                            "a member of each result",
                            config_shown(reader, array->results));
        }
        for (unsigned j = 0; j < i && array->path.len > 0; j++) {
            if (bytes_equal(array->path, batching->arrays[j].path)) {
                config_complain(reader, item, "path '%s' is given twice among these arrays; keep one of them",
                                config_shown(reader, array->path));
                break;
            }
        }
    }
}

/* ---- one route beside the others ---- */

static bool names_method(const struct config_route *route, struct bytes method)
{
    for (unsigned i = 0; i < route->method_count; i++) {
        /* HEAD is GET without the body (RFC 9110 §9.3.2). */
        if (bytes_equal(route->methods[i], method) ||
            (bytes_equal(method, BYTES("HEAD")) && bytes_equal(route->methods[i], BYTES("GET")))) {
            return true;
        }
    }
    return false;
}

/* Whether what a route asks of a request could be read: otherwise a fault was reported already, and whom it
 * hides is not known. */
static bool is_understood(const struct config_route *route, const struct config_node *node)
{
    for (unsigned i = 0; i < route->method_count; i++) {
        if (route->methods[i].len == 0) {
            return false;
        }
    }
    bool has_host = config_node_get(node, "host") == NULL || route->host.len > 0;
    bool has_methods = config_node_get(node, "methods") == NULL || route->method_count > 0;
    return has_host && has_methods && (route->path.len == 0) != (route->path_prefix.len == 0);
}

/* Whether two routes are for the same host and path, so that only their methods and their order decide. */
static bool is_alike(const struct config_route *route, const struct config_route *other)
{
    return bytes_equal(route->host, other->host) && bytes_equal(route->path, other->path) &&
           bytes_equal(route->path_prefix, other->path_prefix);
}

/* The first earlier route that is alike and, where `method` is given, takes it too; where it is not, takes
 * every method: routes that name methods go before those that do not, so only the like hide each other. */
static const struct config_node *find_earlier(const struct config *config, const struct config_node *list,
                                              unsigned index, const struct bytes *method)
{
    const struct config_route *route = &config->routes[index];
    const struct config_node *node = list->children;
    for (unsigned i = 0; i < index && node != NULL; i++, node = node->next) {
        const struct config_route *other = &config->routes[i];
        if (is_understood(other, node) && is_alike(route, other) &&
            (method == NULL ? other->method_count == 0 : names_method(other, *method))) {
            return node;
        }
    }
    return NULL;
}

static void check_reachable(struct config_reader *reader, const struct config_node *list,
                            const struct config_node *node, unsigned index)
{
    const struct config_route *route = &reader->config->routes[index];
    const struct config_node *earlier = NULL;
    if (route->method_count == 0) {
        earlier = find_earlier(reader->config, list, index, NULL);
    }
    for (unsigned i = 0; i < route->method_count; i++) {
        earlier = find_earlier(reader->config, list, index, &route->methods[i]);
        if (earlier == NULL) {
            return; /* this method reaches it */
        }
    }
    if (earlier != NULL) {
        config_complain(reader, node,
                        "this route is never reached: the one at line %u is for the same host, path and methods, and "
                        "stands before it; remove one, or tell them apart",
                        earlier->line);
    }
}

static void check_name(struct config_reader *reader, const struct config_node *list, const struct config_node *node,
                       unsigned index)
{
    const struct config_route *routes = reader->config->routes;
    const struct config_node *name = config_node_get(node, "name");
    const struct config_node *other = list->children;
    for (unsigned i = 0; i < index && name != NULL && other != NULL; i++, other = other->next) {
        if (routes[index].name.len > 0 && bytes_equal(routes[i].name, routes[index].name)) {
            config_complain(reader, name, "there are two routes '%s', the first at line %u; give each its own name",
                            config_shown(reader, routes[index].name), other->line);
            return;
        }
    }
}

/* ---- names ---- */

static bool name_is_taken(const struct config *config, struct bytes name)
{
    for (unsigned i = 0; i < config->route_count; i++) {
        if (bytes_equal(config->routes[i].name, name)) {
            return true;
        }
    }
    return false;
}

/* A route without a name is called by its path, with as much before it as tells it from the others. */
static struct bytes make_name(struct config_reader *reader, const struct config_route *route, unsigned index)
{
    struct arena *arena = &reader->config->arena;
    struct bytes path = route->path.len > 0 ? route->path : route->path_prefix;
    if (!name_is_taken(reader->config, path)) {
        return path;
    }
    struct bytes name = arena_format(arena, "%.*s%.*s", BYTES_ARG(route->host), BYTES_ARG(path));
    if (name.ptr != NULL && name_is_taken(reader->config, name)) {
        name = arena_format(arena, "%.*s#%u", BYTES_ARG(name), index + 1);
    }
    reader->no_memory = reader->no_memory || name.ptr == NULL;
    return name;
}

void config_check_routes(struct config_reader *reader, const struct config_node *list)
{
    struct config *config = reader->config;
    const struct config_node *node = list == NULL ? NULL : list->children;
    for (unsigned i = 0; i < config->route_count && node != NULL; i++, node = node->next) {
        struct config_route *route = &config->routes[i];
        if (node->kind != CONFIG_MAPPING) {
            continue; /* its own fault was reported */
        }
        check_kind(reader, route, node);
        check_path(reader, route, node);
        check_methods(reader, route, config_node_get(node, "methods"));
        const struct config_node *respond = config_node_get(node, "respond");
        if (respond != NULL) {
            check_respond(reader, route, respond);
        }
        const struct config_node *inference = config_node_get(node, "inference");
        if (inference != NULL) {
            check_batching(reader, route, inference);
        }
    }
    node = list == NULL ? NULL : list->children;
    for (unsigned i = 0; i < config->route_count && node != NULL; i++, node = node->next) {
        if (is_understood(&config->routes[i], node)) {
            check_reachable(reader, list, node, i);
        }
        check_name(reader, list, node, i);
    }
    for (unsigned i = 0; i < config->route_count && reader->fault_count == 0; i++) {
        if (config->routes[i].name.len == 0) {
            config->routes[i].name = make_name(reader, &config->routes[i], i);
        }
    }
}
