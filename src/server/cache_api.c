#include "server/cache_api.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "server/cache_key.h"
#include "server/exchange_internal.h"
#include "server/server.h"
#include "store/cache_tier.h"

#define PATH_DELETE "/api/cache"
#define PATH_STATS  "/api/cache/stats"

enum { ANSWER_BYTES_MAX = 160 };

struct cache_deletion {
    struct list_node node; /* of worker->deletions, while it runs */
    struct worker *worker;
    struct exchange *exchange;  /* NULL: it has left */
    struct shard_filter filter; /* text: in `text` */
    enum cache_tier_purge_kind kind;
    struct bytes tier_text;
    bool has_lines; /* KEY: what has further lines goes, too, which the second tier sees as a prefix */
    struct cache_purge memory;
    struct cache_tier_purge tier;
    unsigned tier_step; /* of what next_step counts */
    uint64_t tier_removed;
    bool is_late; /* the disk cannot be written now */
    bool is_running;
    char text[];
};

bool cache_api_is_path(struct bytes path)
{
    const struct bytes root = BYTES(PATH_DELETE);
    return bytes_starts_with(path, root) && (path.len == root.len || path.ptr[root.len] == '/');
}

static enum result answer_stats(struct conn *conn, const struct own_api_request *request, uint16_t *ret_status)
{
    size_t bytes = 0;
    char *text = cache_api_stats(conn->worker->server, &bytes);
    if (text == NULL) {
        return RESULT_NO_MEMORY;
    }
    enum result result = own_api_answer(conn, request, (struct bytes){text, bytes}, ret_status);
    free(text);
    return result;
}

/* ---- what is to be removed ---- */

struct selector {
    struct bytes name;
    struct bytes value; /* decoded */
};

static int hex_value(char c)
{
    char lower = ascii_lower(c);
    return lower >= '0' && lower <= '9' ? lower - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* Decodes percent-encoding; a plus is a plus. .ptr NULL: malformed, or memory is out. */
static struct bytes decode(struct arena *arena, struct bytes text)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t used = 0;
    for (size_t i = 0; i < text.len && out != NULL; i++) {
        if (text.ptr[i] != '%') {
            out[used++] = text.ptr[i];
            continue;
        }
        int high = i + 2 < text.len ? hex_value(text.ptr[i + 1]) : -1;
        int low = i + 2 < text.len ? hex_value(text.ptr[i + 2]) : -1;
        if (high < 0 || low < 0) {
            return BYTES_NONE;
        }
        out[used++] = (char)(high << 4 | low);
        i += 2;
    }
    return (struct bytes){out, used};
}

/* The query's one argument; else what is wrong with it. */
static const char *read_selector(struct arena *arena, struct bytes query, struct selector *ret_selector)
{
    static const char which[] = "give exactly one of key=URL, prefix=URL, tag=NAME, group=ORIGIN%20NAME, route=NAME "
                                "and all=true";
    if (query.len == 0 || memchr(query.ptr, '&', query.len) != NULL) {
        return which;
    }
    const char *equals = memchr(query.ptr, '=', query.len);
    if (equals == NULL) {
        return which;
    }
    size_t name_bytes = (size_t)(equals - query.ptr);
    ret_selector->name = (struct bytes){query.ptr, name_bytes};
    ret_selector->value = decode(arena, (struct bytes){equals + 1, query.len - name_bytes - 1});
    if (ret_selector->value.ptr == NULL) {
        return "the value's percent-encoding is malformed; write % as %25";
    }
    if (ret_selector->value.len == 0) {
        return "the value is empty; to remove everything write all=true";
    }
    return NULL;
}

static bool has_only_url_bytes(struct bytes text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c <= 0x20 || c >= 0x7f || c == '#') {
            return false;
        }
    }
    return true;
}

static struct bytes skip_scheme(struct bytes url)
{
    static const struct bytes schemes[] = {{"http://", 7}, {"https://", 8}};
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        struct bytes scheme = schemes[i];
        if (url.len >= scheme.len && bytes_equal_nocase((struct bytes){url.ptr, scheme.len}, scheme)) {
            return (struct bytes){url.ptr + scheme.len, url.len - scheme.len};
        }
    }
    return url;
}

static size_t length_before(struct bytes text, const char *any)
{
    size_t length = 0;
    while (length < text.len && strchr(any, text.ptr[length]) == NULL) {
        length++;
    }
    return length;
}

static char *put_authority(char *at, struct bytes authority, bool is_whole)
{
    const struct bytes port = BYTES(":80");
    bool is_default = is_whole && authority.len > port.len &&
                      bytes_equal((struct bytes){authority.ptr + authority.len - port.len, port.len}, port);
    for (size_t i = 0; i < authority.len - (is_default ? port.len : 0); i++) {
        *at++ = ascii_lower(authority.ptr[i]);
    }
    return at;
}

/* Whether a route leaves the host out of its keys, so that a URL without one may name something. */
static bool may_lack_host(const struct config *config)
{
    for (unsigned r = 0; r < config->route_count; r++) {
        const struct config_route *route = &config->routes[r];
        if (route->kind == CONFIG_ROUTE_HTTP && route->cache.enabled && !cache_key_has_host(&route->cache)) {
            return true;
        }
    }
    return false;
}

/* Writes what a request for this URL is stored under (cache_key.h), or its beginning, to `out`, which has room for the
 * URL and eight bytes more. What is wrong with it, or NULL. */
static const char *put_url(const struct config *config, struct bytes url, bool is_prefix, char *out, size_t *ret_bytes)
{
    if (!has_only_url_bytes(url)) {
        return "the URL has characters that no request's target has; percent-encode the whole URL once more, as "
               "curl -G --data-urlencode does";
    }
    url = skip_scheme(url);
    struct bytes authority = {url.ptr, length_before(url, "/?")};
    struct bytes rest = {url.ptr + authority.len, url.len - authority.len};
    if (authority.len == 0 && rest.len > 0 && !may_lack_host(config)) {
        return "every URL here begins with its host, as clients name it; write http://HOST/PATH or HOST/PATH";
    }
    char *at = bytes_put(out, BYTES("http://"));
    at = put_authority(at, authority, !is_prefix || rest.len > 0);
    if (is_prefix) {
        at = bytes_put(at, rest);
        *ret_bytes = (size_t)(at - out);
        return NULL;
    }
    if (authority.len > 0 && !http_authority_is_valid(authority)) {
        return "what stands before the path is no host; write http://HOST/PATH or HOST/PATH";
    }
    struct bytes path = {rest.ptr, length_before(rest, "?")};
    struct bytes query = {rest.ptr + path.len, rest.len - path.len};
    if (path.len == 0) {
        *at++ = '/';
    } else {
        bool same = false;
        size_t length = http_path_normalize(path, at, &same);
        if (!same && length == 0) {
            return "the URL's path has malformed percent-encoding, or leaves its root";
        }
        const struct bytes normal = same ? path : (struct bytes){at, length};
        const struct bytes chosen = cache_key_path(path, normal);
        at = chosen.ptr == at ? at + length : bytes_put(at, chosen);
    }
    at = bytes_put(at, query);
    *ret_bytes = (size_t)(at - out);
    return NULL;
}

static struct cache_deletion *deletion_create(struct worker *worker, size_t text_bytes)
{
    struct cache_deletion *deletion = calloc(1, sizeof(*deletion) + text_bytes);
    if (deletion != NULL) {
        list_init(&deletion->node);
        deletion->worker = worker;
        deletion->filter.cause = SHARD_PURGED;
    }
    return deletion;
}

/* Fills in what is removed in both tiers. *ret_error: what is wrong, with a status. */
static bool deletion_select(struct cache_deletion *deletion, const struct selector *selector,
                            struct api_error *ret_error)
{
    struct shard_filter *filter = &deletion->filter;
    const struct config *config = deletion->worker->config;
    struct bytes name = selector->name;
    struct bytes value = selector->value;
    size_t bytes = 0;
    const char *wrong = NULL;
    if (bytes_equal(name, BYTES("key")) || bytes_equal(name, BYTES("prefix"))) {
        bool is_prefix = bytes_equal(name, BYTES("prefix"));
        filter->kind = is_prefix ? SHARD_PREFIX : SHARD_KEY;
        deletion->kind = is_prefix ? CACHE_TIER_PURGE_PREFIX : CACHE_TIER_PURGE_KEY;
        deletion->has_lines = !is_prefix;
        wrong = put_url(config, value, is_prefix, deletion->text, &bytes);
        deletion->text[bytes] = '\n';
    } else if (bytes_equal(name, BYTES("tag")) || bytes_equal(name, BYTES("group"))) {
        bool is_group = bytes_equal(name, BYTES("group"));
        filter->kind = SHARD_TAG;
        /* Only these have tags: what a model is still generating is not given up for a tag it cannot have. */
        filter->key_prefix = BYTES("http://");
        deletion->kind = CACHE_TIER_PURGE_TAG;
        char *at = bytes_put(bytes_put(deletion->text, name), BYTES(":"));
        bytes = (size_t)(bytes_put(at, value) - deletion->text);
        if (memchr(value.ptr, '\n', value.len) != NULL) {
            wrong = "no name has a line feed in it";
        } else if (is_group && (memchr(value.ptr, ' ', value.len) == NULL || value.ptr[0] == ' ')) {
            wrong = "a group is named with its origin, as in group=http://example.org%20NAME";
        }
    } else if (bytes_equal(name, BYTES("route"))) {
        filter->kind = SHARD_ROUTE;
        deletion->kind = CACHE_TIER_PURGE_ROUTE;
        bytes = (size_t)(bytes_put(deletion->text, value) - deletion->text);
        unsigned route = 0;
        while (route < config->route_count && !bytes_equal(config->routes[route].name, value)) {
            route++;
        }
        filter->route = (uint16_t)route;
        if (route == config->route_count) {
            *ret_error = (struct api_error){404, "there is no route of this name; GET " PATH_STATS " names them",
                                            "no_such_route"};
            return false;
        }
    } else if (bytes_equal(name, BYTES("all"))) {
        filter->kind = SHARD_ALL;
        deletion->kind = CACHE_TIER_PURGE_ALL;
        wrong = bytes_equal(value, BYTES("true")) ? NULL : "write all=true to remove everything";
    } else {
        wrong = "only key, prefix, tag, group, route and all select what is removed";
    }
    filter->text = (struct bytes){deletion->text, bytes};
    deletion->tier_text = filter->text;
    *ret_error = (struct api_error){400, wrong, "bad_selector"};
    return wrong == NULL;
}

/* ---- removing ---- */

/* Both tiers are gone through in an order in which nothing can slip from one to the other: first what is on disk, so
 * that it is not brought back to memory; then memory, after which what is still on its way is not stored any more; then
 * the disk once more, for what was written behind meanwhile. A key's variants are a step of their own. */
enum { STEP_TIER, STEP_TIER_LINES, STEP_MEMORY, STEP_TIER_AGAIN, STEP_TIER_LINES_AGAIN, STEP_END };

static void next_step(struct cache_deletion *deletion);

static void deletion_over(struct cache_deletion *deletion)
{
    struct exchange *exchange = deletion->exchange;
    char json[ANSWER_BYTES_MAX];
    int bytes = snprintf(json, sizeof(json), "{\"removed\":%llu,\"memory\":%llu,\"second_tier\":%llu%s}\n",
                         (unsigned long long)(deletion->memory.removed + deletion->tier_removed),
                         (unsigned long long)deletion->memory.removed, (unsigned long long)deletion->tier_removed,
                         deletion->is_late ? ",\"second_tier_pending\":true" : "");
    list_remove(&deletion->node);
    free(deletion);
    if (exchange != NULL) {
        exchange->deletion = NULL;
        exchange_answer_json(exchange, 200, (struct bytes){json, (size_t)bytes});
    }
}

static void on_memory_done(struct cache_purge *purge)
{
    next_step(CONTAINER_OF(purge, struct cache_deletion, memory));
}

static void on_tier_done(struct ring *ring, struct cache_tier_purge *purge)
{
    (void)ring;
    struct cache_deletion *deletion = CONTAINER_OF(purge, struct cache_deletion, tier);
    deletion->tier_removed += purge->removed;
    deletion->is_late = deletion->is_late || !purge->is_done;
    next_step(deletion);
}

static bool step_is_void(const struct cache_deletion *deletion, unsigned step)
{
    if (step == STEP_MEMORY || step == STEP_END) {
        return false;
    }
    bool is_of_lines = step == STEP_TIER_LINES || step == STEP_TIER_LINES_AGAIN;
    return deletion->worker->server->store == NULL || (is_of_lines && !deletion->has_lines);
}

static void purge_tier(struct cache_deletion *deletion, bool is_of_lines)
{
    struct bytes text = deletion->tier_text;
    deletion->tier = (struct cache_tier_purge){
        .kind = is_of_lines ? CACHE_TIER_PURGE_PREFIX : deletion->kind,
        .text = {text.ptr, text.len + (is_of_lines ? 1 : 0)},
        .on_done = on_tier_done,
    };
    cache_tier_purge(deletion->worker->server->store, deletion->worker->index, &deletion->tier);
}

static void purge_memory(struct cache_deletion *deletion)
{
    deletion->memory.filter = deletion->filter;
    deletion->memory.on_done = on_memory_done;
    if (cache_purge(deletion->worker->cache, &deletion->memory) != RESULT_OK) {
        struct exchange *exchange = deletion->exchange;
        list_remove(&deletion->node);
        free(deletion);
        if (exchange != NULL) {
            exchange->deletion = NULL;
            exchange_answer_error(exchange, 503, "the gateway is out of memory; nothing was removed from the cache",
                                  "overloaded", METRICS_ERROR_OVERLOAD);
        }
    }
}

static void next_step(struct cache_deletion *deletion)
{
    unsigned step = deletion->tier_step;
    while (step_is_void(deletion, step)) {
        step++;
    }
    deletion->tier_step = step + 1;
    switch (step) {
    case STEP_MEMORY: purge_memory(deletion); break;
    case STEP_END: deletion_over(deletion); break;
    default: purge_tier(deletion, step == STEP_TIER_LINES || step == STEP_TIER_LINES_AGAIN); break;
    }
}

void cache_api_delete(struct exchange *exchange, struct cache_deletion *deletion)
{
    deletion->exchange = exchange;
    deletion->is_running = true;
    list_push_back(&deletion->worker->deletions, &deletion->node);
    next_step(deletion);
}

void cache_api_leave(struct cache_deletion *deletion)
{
    if (deletion->is_running) {
        deletion->exchange = NULL;
    } else {
        free(deletion);
    }
}

void cache_api_fini(struct list_node *deletions)
{
    struct list_node *node;
    while ((node = list_pop_front(deletions)) != NULL) {
        struct cache_deletion *deletion = CONTAINER_OF(node, struct cache_deletion, node);
        cache_purge_fini(&deletion->memory);
        free(deletion);
    }
}

static enum result begin_delete(struct conn *conn, const struct own_api_request *request, struct arena *arena,
                                uint16_t *ret_status)
{
    struct selector selector;
    struct api_error error = {400, read_selector(arena, request->target->query, &selector), "bad_selector"};
    if (error.message != NULL) {
        return own_api_refuse(conn, request, &error, BYTES_NONE, ret_status);
    }
    struct cache_deletion *deletion = deletion_create(conn->worker, selector.name.len + selector.value.len + 16);
    if (deletion == NULL) {
        return RESULT_NO_MEMORY;
    }
    if (!deletion_select(deletion, &selector, &error)) {
        free(deletion);
        return own_api_refuse(conn, request, &error, BYTES_NONE, ret_status);
    }
    if (conn->worker->cache == NULL) {
        free(deletion);
        return own_api_answer(conn, request, BYTES("{\"removed\":0,\"memory\":0,\"second_tier\":0}\n"), ret_status);
    }
    const struct exchange_start start = {
        .route = &conn->worker->api,
        .parser = request->parser,
        .base = request->base,
        .target = request->target,
        .path = request->path,
        .authority = request->authority,
        .request_id = request->answer->request_id,
        .keep_alive = request->keep_alive, /* it reads what comes with the request */
        .deletion = deletion,
    };
    *ret_status = 0;
    return exchange_begin(conn, &start);
}

enum result cache_api_begin(struct conn *conn, const struct own_api_request *request, uint16_t *ret_status)
{
    const struct http_head *head = &request->parser->head;
    struct api_error error;
    bool is_stats = bytes_equal(request->path, BYTES(PATH_STATS));
    bool is_delete = bytes_equal(request->path, BYTES(PATH_DELETE));
    bool is_read = head->method == HTTP_GET || head->method == HTTP_HEAD;
    if (!is_stats && !is_delete) {
        error = (struct api_error){404, "there are GET " PATH_STATS " and DELETE " PATH_DELETE, "not_found"};
        return own_api_refuse(conn, request, &error, BYTES_NONE, ret_status);
    }
    if (is_stats && is_read) {
        return answer_stats(conn, request, ret_status);
    }
    if (is_stats || head->method != HTTP_DELETE) {
        error = (struct api_error){405, is_stats ? PATH_STATS " takes GET" : PATH_DELETE " takes DELETE",
                                   "method_not_allowed"};
        return own_api_refuse(conn, request, &error,
                              is_stats ? BYTES("Allow: GET, HEAD\r\n") : BYTES("Allow: DELETE\r\n"), ret_status);
    }
    char lent[1024];
    struct arena arena;
    arena_init(&arena, lent, sizeof(lent));
    enum result result = begin_delete(conn, request, &arena, ret_status);
    arena_fini(&arena);
    return result;
}
