/* Which function answers what. Every path is there with and without /v1. */
#include "http/uri.h"
#include "sim/internal.h"

static const struct route ROUTES[] = {
    {.path = "/chat/completions", .post = true, .inference = true, .answer = sim_generate_chat},
    {.path = "/completions", .post = true, .inference = true, .answer = sim_generate_text},
    {.path = "/embeddings", .post = true, .inference = true, .answer = sim_embeddings_answer},
    {.path = "/models", .get = true, .answer = sim_openai_models},
    {.path = "/models/", .is_prefix = true, .get = true, .answer = sim_openai_model},
    {.path = "/tokenize", .post = true, .answer = sim_openai_tokenize},
    {.path = "/detokenize", .post = true, .answer = sim_openai_detokenize},
    {.path = "/health", .get = true, .answer = sim_openai_health},
    {.path = "/version", .get = true, .answer = sim_openai_version},
    {.path = "/metrics", .get = true, .answer = sim_metrics_answer},
    {.path = "/ticker", .get = true, .post = true, .inference = true, .answer = sim_streams_ticker},
    {.path = "/echo", .is_prefix = true, .any_method = true, .answer = sim_plain_echo},
    {.path = "/upload", .any_method = true, .body = BODY_COUNT, .answer = sim_plain_upload},
    {.path = "/bytes/", .is_prefix = true, .get = true, .answer = sim_streams_bytes},
    {.path = "/status/", .is_prefix = true, .any_method = true, .answer = sim_plain_status},
    {.path = "/delay/", .is_prefix = true, .any_method = true, .answer = sim_streams_delay},
    {.path = "/drip", .get = true, .answer = sim_streams_drip},
    {.path = "/sim/capacity", .post = true, .answer = sim_capacity_answer},
    {.path = "/api/requests", .post = true, .answer = sim_plain_requests},
    {.path = "/api/compute", .post = true, .answer = sim_plain_compute},
};

/* Copies the normalized path and the query to `target`, where they stay while `in` moves. */
static bool read_target(struct sim_connection *c)
{
    const struct http_head *head = &c->parser.head;
    struct http_target target;
    sim_buffer_reset(&c->target, SIM_BUFFER_KEEP_BYTES);
    if (http_target_parse(head->method == HTTP_CONNECT, head->method == HTTP_OPTIONS,
                          http_head_target(head, c->in.data), &target) != RESULT_OK ||
        (target.form != HTTP_TARGET_ORIGIN && target.form != HTTP_TARGET_ABSOLUTE)) {
        return false;
    }
    char *at = sim_buffer_room(&c->target, target.path.len + target.query.len);
    if (at == NULL) {
        return false;
    }
    bool same;
    size_t bytes = http_path_normalize(target.path, at, &same);
    if (same) {
        bytes = target.path.len;
        memcpy(at, target.path.ptr, bytes);
    }
    if (target.query.len > 0) {
        memcpy(at + bytes, target.query.ptr, target.query.len);
    }
    c->x.path = (struct bytes){at, bytes};
    c->x.query = (struct bytes){at + bytes, target.query.len};
    if (bytes_starts_with(c->x.path, BYTES("/v1/"))) {
        c->x.path = (struct bytes){at + 3, bytes - 3};
    }
    return bytes > 0;
}

static bool path_matches(const struct route *route, struct bytes path)
{
    struct bytes wanted = bytes_from(route->path);
    return route->is_prefix ? bytes_starts_with(path, wanted) : bytes_equal(path, wanted);
}

static bool method_matches(const struct route *route, uint8_t method)
{
    return route->any_method || (route->get && (method == HTTP_GET || method == HTTP_HEAD)) ||
           (route->post && method == HTTP_POST);
}

const struct route *sim_routes_find(struct sim_connection *c)
{
    const struct http_head *head = &c->parser.head;
    bool known = false;
    if (read_target(c)) {
        for (unsigned i = 0; i < ARRAY_COUNT(ROUTES); i++) {
            if (!path_matches(&ROUTES[i], c->x.path)) {
                continue;
            }
            if (method_matches(&ROUTES[i], head->method)) {
                size_t taken = strlen(ROUTES[i].path);
                c->x.rest = (struct bytes){c->x.path.ptr + taken, c->x.path.len - taken};
                return &ROUTES[i];
            }
            known = true;
        }
    }
    if (head->expect_continue && head->body != HTTP_BODY_NONE) {
        c->x.keep_alive = false; /* whether the client sends the body after this answer cannot be known */
    }
    sim_answer_error(c, known ? 405 : 404, known ? "Method Not Allowed" : "Not Found");
    return NULL;
}

uint64_t sim_query_u64(struct bytes query, const char *name, uint64_t otherwise)
{
    struct bytes wanted = bytes_from(name);
    while (query.len > 0) {
        const char *end = memchr(query.ptr, '&', query.len);
        struct bytes item = {query.ptr, end == NULL ? query.len : (size_t)(end - query.ptr)};
        size_t taken = end == NULL ? item.len : item.len + 1;
        query = (struct bytes){query.ptr + taken, query.len - taken};
        if (item.len > wanted.len && bytes_starts_with(item, wanted) && item.ptr[wanted.len] == '=') {
            uint64_t value;
            struct bytes text = {item.ptr + wanted.len + 1, item.len - wanted.len - 1};
            return bytes_to_u64(text, &value) ? value : otherwise;
        }
    }
    return otherwise;
}
