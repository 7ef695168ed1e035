#include "server/own_api.h"

#include "server/cache_api.h"
#include "server/performance.h"

bool own_api_is_path(struct bytes path)
{
    return cache_api_is_path(path) || performance_is_path(path);
}

bool own_api_is_offered(const struct conn *conn)
{
    return conn->is_admin || conn->worker->config->cache.api_token.len > 0;
}

/* Takes as long for a token that is nearly right as for any other of its length. */
static bool is_token(struct bytes given, struct bytes token)
{
    volatile unsigned char difference = given.len != token.len;
    for (size_t i = 0; i < given.len; i++) {
        difference |= (unsigned char)(given.ptr[i] ^ token.ptr[i % token.len]);
    }
    return difference == 0;
}

static bool is_allowed(const struct conn *conn, const struct http_head *head, const char *base, bool *ret_has_token)
{
    *ret_has_token = false;
    if (conn->is_admin) {
        return true;
    }
    const struct bytes scheme = BYTES("Bearer ");
    struct bytes value = http_head_value(head, base, HTTP_FIELD_AUTHORIZATION);
    if (value.len <= scheme.len || !bytes_equal_nocase((struct bytes){value.ptr, scheme.len}, scheme)) {
        return false;
    }
    *ret_has_token = true;
    struct bytes given = bytes_trim((struct bytes){value.ptr + scheme.len, value.len - scheme.len});
    return is_token(given, conn->worker->config->cache.api_token);
}

enum result own_api_refuse(struct conn *conn, const struct own_api_request *request, const struct api_error *error,
                           struct bytes extra, uint16_t *ret_status)
{
    *ret_status = error->status;
    return conn_answer_error(conn, API_DIALECT_OPENAI, error, extra, request->answer,
                             request->parser->head.method == HTTP_HEAD);
}

enum result own_api_answer(struct conn *conn, const struct own_api_request *request, struct bytes json,
                           uint16_t *ret_status)
{
    char lent[256];
    struct arena arena;
    arena_init(&arena, lent, sizeof(lent));
    struct conn_answer *answer = request->answer;
    answer->fixed_head = arena_format(&arena,
                                      "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                      "Cache-Control: no-store\r\nContent-Length: %zu\r\n",
                                      json.len);
    answer->body = request->parser->head.method == HTTP_HEAD ? BYTES_NONE : json;
    answer->copy_body = true;
    enum result result = answer->fixed_head.ptr == NULL ? RESULT_NO_MEMORY : conn_answer(conn, answer);
    answer->fixed_head = BYTES_NONE;
    answer->body = BYTES_NONE;
    arena_fini(&arena);
    *ret_status = 200;
    return result;
}

enum result own_api_begin(struct conn *conn, struct own_api_request *request, uint16_t *ret_status)
{
    const struct http_head *head = &request->parser->head;
    bool has_token;
    request->keep_alive = request->answer->keep_alive;
    if (head->body != HTTP_BODY_NONE) {
        request->answer->keep_alive = false; /* nobody reads it, but an exchange */
    }
    if (!is_allowed(conn, head, request->base, &has_token)) {
        struct api_error error =
            has_token
                ? (struct api_error){401, "this is not the gateway's token", "wrong_token"}
                : (struct api_error){401, "this needs the gateway's token, as Authorization: Bearer TOKEN", "no_token"};
        return own_api_refuse(conn, request, &error,
                              has_token
                                  ? BYTES("WWW-Authenticate: Bearer realm=\"sluice\", error=\"invalid_token\"\r\n")
                                  : BYTES("WWW-Authenticate: Bearer realm=\"sluice\"\r\n"),
                              ret_status);
    }
    return performance_is_path(request->path) ? performance_begin(conn, request, ret_status)
                                              : cache_api_begin(conn, request, ret_status);
}
