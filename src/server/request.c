#include "server/request.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "server/admin.h"
#include "server/cached.h"
#include "server/exchange.h"
#include "server/own_api.h"
#include "server/prefetching.h"

#define ALLOW_LINE "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"

enum { PATH_BYTES_ON_STACK = 2048 };

struct request {
    struct conn *conn;
    struct http_parser *parser;
    const struct http_head *head;
    const char *base;
    const struct http_target *target;
    struct bytes authority;
    struct bytes path;         /* normalised */
    struct conn_answer answer; /* what every answer to it shares */
    uint64_t sent_bytes;       /* of a body that is not in `answer` */
    char id[FORWARD_REQUEST_ID_BYTES];
};

static void count(struct request *request, const struct route *route, uint16_t status)
{
    struct worker *worker = request->conn->worker;
    unsigned index = route == NULL ? worker->metrics.route_count : route->index;
    metrics_request(&worker->metrics, index, request->head->method, status, 0);
    struct access_log *log = &worker->access_log;
    if (log->is_on) {
        access_log_write(log, &(struct access_log_line){
                                  .unix_ms = ring_unix_ms(worker->ring),
                                  .client = conn_client(request->conn),
                                  .method = http_head_method(request->head, request->base),
                                  .target = http_head_target(request->head, request->base),
                                  .host = request->authority,
                                  .route = route == NULL ? BYTES_NONE : route->config->name,
                                  .request_id = request->answer.request_id,
                                  .status = status,
                                  .response_bytes = request->answer.body.len + request->sent_bytes,
                              });
    }
}

/* The answer is queued; the connection goes on or ends. */
static void settle(struct request *request, enum result result)
{
    struct conn *conn = request->conn;
    if (result != RESULT_OK) {
        metrics_error(&conn->worker->metrics, METRICS_ERROR_OVERLOAD);
        conn_close(conn, true);
        return;
    }
    conn->active_ns = ring_now(conn->worker->ring);
    if (!request->answer.keep_alive) {
        conn_end(conn);
    }
}

static void refuse(struct request *request, enum api_dialect dialect, const struct api_error *error, struct bytes extra,
                   enum metrics_error kind)
{
    struct worker *worker = request->conn->worker;
    metrics_error(&worker->metrics, kind);
    /* What follows on the connection may be a body that nobody will read. */
    if (request->head->body != HTTP_BODY_NONE) {
        request->answer.keep_alive = false;
    }
    enum result result =
        conn_answer_error(request->conn, dialect, error, extra, &request->answer, request->head->method == HTTP_HEAD);
    count(request, NULL, error->status);
    settle(request, result);
}

void request_refuse(struct conn *conn, uint16_t status, const char *message)
{
    struct worker *worker = conn->worker;
    enum metrics_error kind = status == 408                                     ? METRICS_ERROR_CLIENT_TIMEOUT
                              : status == 413 || status == 414 || status == 431 ? METRICS_ERROR_TOO_LARGE
                                                                                : METRICS_ERROR_BAD_REQUEST;
    metrics_error(&worker->metrics, kind);
    metrics_request(&worker->metrics, worker->metrics.route_count, HTTP_TRACE, status, 0);
    char id[FORWARD_REQUEST_ID_BYTES];
    conn_make_request_id(conn, id);
    struct conn_answer answer = {.request_id = {id, sizeof(id)}, .version_minor = 1, .keep_alive = false};
    struct api_error error = {.status = status, .message = message};
    if (UNLIKELY(worker->access_log.is_on)) {
        /* What could not be read is not told: only that it was refused, and whose it was. */
        access_log_write(&worker->access_log, &(struct access_log_line){.unix_ms = ring_unix_ms(worker->ring),
                                                                        .client = conn_client(conn),
                                                                        .request_id = answer.request_id,
                                                                        .status = status});
    }
    if (conn_answer_error(conn, API_DIALECT_PLAIN, &error, BYTES_NONE, &answer, false) != RESULT_OK) {
        conn_close(conn, true);
        return;
    }
    conn_end(conn);
}

/* ---- routing ---- */

static struct bytes allow_line(struct arena *arena, uint64_t allow)
{
    static const struct {
        llhttp_method_t method;
        const char *name;
    } names[] = {{HTTP_GET, "GET"},     {HTTP_HEAD, "HEAD"},     {HTTP_POST, "POST"},      {HTTP_PUT, "PUT"},
                 {HTTP_PATCH, "PATCH"}, {HTTP_DELETE, "DELETE"}, {HTTP_OPTIONS, "OPTIONS"}};
    struct bytes line = BYTES("Allow: ");
    const char *comma = "";
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (allow >> names[i].method & 1) {
            line = arena_format(arena, "%.*s%s%s", BYTES_ARG(line), comma, names[i].name);
            comma = ", ";
        }
    }
    line = arena_format(arena, "%.*s\r\n", BYTES_ARG(line));
    return line.ptr == NULL ? BYTES_NONE : line;
}

/* Whether a client without a route would rather read JSON: what OpenAI's SDKs send. */
static enum api_dialect dialect_by_accept(const struct request *request)
{
    struct bytes accept = http_head_find(request->head, request->base, BYTES("accept"));
    bool json = accept.len >= 16 && bytes_equal_nocase((struct bytes){accept.ptr, 16}, BYTES("application/json"));
    return json ? API_DIALECT_OPENAI : API_DIALECT_PLAIN;
}

static void refuse_unrouted(struct request *request, uint64_t allow)
{
    char lent[512];
    struct arena arena;
    arena_init(&arena, lent, sizeof(lent));
    if (allow != 0) {
        struct api_error error = {405, "this path does not take this method", "method_not_allowed"};
        refuse(request, dialect_by_accept(request), &error, allow_line(&arena, allow), METRICS_ERROR_NO_ROUTE);
    } else {
        struct api_error error = {404, "no route takes this host and path", "not_found"};
        refuse(request, dialect_by_accept(request), &error, BYTES_NONE, METRICS_ERROR_NO_ROUTE);
    }
    arena_fini(&arena);
}

static void begin_exchange(struct request *request, const struct route *route)
{
    struct exchange_start start = {
        .route = route,
        .parser = request->parser,
        .base = request->base,
        .target = request->target,
        .path = request->path,
        .authority = request->authority,
        .request_id = request->answer.request_id,
        .keep_alive = request->answer.keep_alive,
    };
    if (exchange_begin(request->conn, &start) != RESULT_OK) {
        struct api_error error = {503, "the gateway is out of memory", "overloaded"};
        refuse(request, exchange_dialect(route), &error, CONN_OVERLOADED_LINES, METRICS_ERROR_OVERLOAD);
    }
}

/* What is stored and fresh is answered here and now, when it is not too long. False: an exchange sees to it. */
static bool answer_from_cache(struct request *request, const struct route *route)
{
    struct conn *conn = request->conn;
    struct worker *worker = conn->worker;
    if (!cached_concerns(worker, route, request->head)) {
        return false;
    }
    char key_room[CACHED_KEY_ROOM_BYTES];
    struct cached_look look = {
        .worker = worker,
        .route = route,
        .source = {http_head_method(request->head, request->base), request->authority,
                   cache_key_path(request->target->path, request->path), request->target->query, request->head,
                   request->base},
        .key_room = key_room,
    };
    cached_look(&look);
    if (look.plan != CACHED_FRESH) {
        return false;
    }
    int64_t now_ms = ring_unix_ms(worker->ring);
    struct cached_serving serving;
    cached_serve(request->head, request->base, look.object, worker->ring, &serving);
    struct entry *view = NULL;
    if (!cached_is_small(&serving) && (view = cached_pin(conn, &serving, look.object)) == NULL) {
        return false;
    }
    enum result result = cached_put_head(conn, &serving, &look.status, now_ms, &request->answer);
    if (view != NULL && result == RESULT_OK) {
        result = cached_put_pinned(conn->outbox, &serving, view);
    } else if (view != NULL) {
        entry_unref(view);
    } else if (result == RESULT_OK) {
        result = cached_put_body(conn->outbox, &serving, look.object);
    }
    cached_count_hit(worker, route, look.object, look.status.ttl_ms < 0);
    request->sent_bytes = cached_body_bytes(&serving);
    count(request, route, serving.status);
    if (UNLIKELY(prefetching_is_on(route)) && serving.status < 400) {
        const struct prefetching_asked asked = {request->head, request->base, request->target, request->path,
                                                request->authority};
        prefetching_on_hit(conn, route, &asked);
    }
    settle(request, result);
    return true;
}

static void answer_own_api(struct request *request)
{
    uint16_t status = 0;
    struct own_api_request asked = {
        .parser = request->parser,
        .base = request->base,
        .target = request->target,
        .path = request->path,
        .authority = request->authority,
        .answer = &request->answer,
    };
    enum result result = own_api_begin(request->conn, &asked, &status);
    if (status == 0 && result == RESULT_OK) {
        return; /* an exchange sees to it */
    }
    if (!request->conn->is_admin && result == RESULT_OK) {
        count(request, NULL, status);
    }
    settle(request, result);
}

static void dispatch(struct request *request)
{
    struct worker *worker = request->conn->worker;
    if (UNLIKELY(own_api_is_path(request->path)) && own_api_is_offered(request->conn)) {
        answer_own_api(request);
        return;
    }
    struct bytes host;
    struct bytes port;
    http_authority_split(request->authority, &host, &port);
    uint64_t allow;
    const struct route *route =
        route_find(&worker->routes,
                   &(struct route_query){.host = host, .path = request->path, .method = request->head->method}, &allow);
    if (route == NULL) {
        refuse_unrouted(request, allow);
    } else if (route->config->kind == CONFIG_ROUTE_RESPOND && request->head->body == HTTP_BODY_NONE) {
        request->answer.fixed_head = route->fixed_head;
        if (request->head->method != HTTP_HEAD) {
            request->answer.body = route->config->body;
        }
        enum result result = conn_answer(request->conn, &request->answer);
        count(request, route, route->config->status);
        settle(request, result);
    } else if (!answer_from_cache(request, route)) {
        begin_exchange(request, route);
    }
}

static void normalize_and_dispatch(struct request *request)
{
    char on_stack[PATH_BYTES_ON_STACK];
    struct bytes path = request->target->path;
    char *out = path.len <= sizeof(on_stack) ? on_stack : malloc(path.len);
    if (out == NULL) {
        conn_close(request->conn, true);
        return;
    }
    bool same = false;
    size_t length = http_path_normalize(path, out, &same);
    if (!same && length == 0) {
        struct api_error error = {400, "the path's percent-encoding or dot segments are malformed", "bad_path"};
        refuse(request, API_DIALECT_PLAIN, &error, BYTES_NONE, METRICS_ERROR_BAD_REQUEST);
    } else {
        request->path = same ? path : (struct bytes){out, length};
        dispatch(request);
    }
    if (out != on_stack) {
        free(out);
    }
}

void request_begin(struct conn *conn, struct http_parser *parser, const char *base)
{
    struct worker *worker = conn->worker;
    const struct http_head *head = &parser->head;
    uint32_t requests_max = worker->config->limits.requests_per_connection_max;
    conn->requests++;
    struct request request = {.conn = conn, .parser = parser, .head = head, .base = base};
    request.answer.version_minor = head->version_minor;
    request.answer.keep_alive =
        head->keep_alive && !worker->draining && (requests_max == 0 || conn->requests < requests_max);
    request.answer.request_id = forward_request_id(head, base);
    if (request.answer.request_id.ptr == NULL) {
        conn_make_request_id(conn, request.id);
        request.answer.request_id = (struct bytes){request.id, sizeof(request.id)};
    }
    request.authority = http_head_value(head, base, HTTP_FIELD_HOST);

    request.target = http_parser_target(parser, base);
    bool is_connect = head->method == HTTP_CONNECT;

    if (is_connect || head->method == HTTP_TRACE) {
        struct api_error error = {is_connect ? 501 : 405, "this gateway does not take this method",
                                  "method_not_allowed"};
        request.answer.keep_alive = false;
        refuse(&request, API_DIALECT_PLAIN, &error, is_connect ? BYTES_NONE : BYTES(ALLOW_LINE),
               METRICS_ERROR_BAD_REQUEST);
        return;
    }
    if (request.target->form == HTTP_TARGET_ABSOLUTE) {
        request.authority = request.target->authority; /* wins over Host (RFC 9112 §3.2.2) */
    }
    if (conn->is_admin && own_api_is_path(request.target->path)) {
        request.path = request.target->path;
        answer_own_api(&request);
    } else if (conn->is_admin) {
        admin_answer(conn, head, request.target->path, &request.answer);
        settle(&request, RESULT_OK);
    } else if (request.target->form == HTTP_TARGET_ASTERISK) {
        /* The gateway's own options (RFC 9110 §9.3.7). A body that came with it must not be read as the next request.
         */
        if (head->body != HTTP_BODY_NONE) {
            request.answer.keep_alive = false;
        }
        request.answer.fixed_head = BYTES("HTTP/1.1 204 No Content\r\n" ALLOW_LINE);
        enum result result = conn_answer(conn, &request.answer);
        count(&request, NULL, 204);
        settle(&request, result);
    } else {
        normalize_and_dispatch(&request);
    }
}
