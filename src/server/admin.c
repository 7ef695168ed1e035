#include "server/admin.h"

#include <stdlib.h>

#include "server/server.h"

static enum result answer_text(struct conn *conn, const char *fixed_head, struct bytes body, bool is_head,
                               struct conn_answer *answer)
{
    char lent[512];
    struct arena arena;
    arena_init(&arena, lent, sizeof(lent));
    answer->fixed_head = arena_format(&arena, "%sContent-Length: %zu\r\n", fixed_head, body.len);
    answer->body = is_head ? BYTES_NONE : body;
    answer->copy_body = true;
    enum result result = answer->fixed_head.ptr == NULL ? RESULT_NO_MEMORY : conn_answer(conn, answer);
    answer->fixed_head = BYTES_NONE;
    answer->body = BYTES_NONE;
    arena_fini(&arena);
    return result;
}

static enum result answer_metrics(struct conn *conn, bool is_head, struct conn_answer *answer)
{
    struct bytes text = metrics_text(conn->worker->server);
    if (text.ptr == NULL) {
        return RESULT_NO_MEMORY;
    }
    enum result result = answer_text(
        conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n", text, is_head, answer);
    free((void *)(uintptr_t)text.ptr);
    return result;
}

void admin_answer(struct conn *conn, const struct http_head *head, struct bytes path, struct conn_answer *answer)
{
    bool is_head = head->method == HTTP_HEAD;
    enum result result;
    if (head->body != HTTP_BODY_NONE) {
        answer->keep_alive = false; /* nobody reads it */
    }
    if (!is_head && head->method != HTTP_GET) {
        struct api_error error = {405, "the admin listener takes GET, and DELETE for /api/cache", "method_not_allowed"};
        result = conn_answer_error(conn, API_DIALECT_PLAIN, &error, BYTES("Allow: GET, HEAD\r\n"), answer, is_head);
    } else if (bytes_equal(path, BYTES("/health"))) {
        bool draining = conn->worker->draining;
        const char *fixed_head = draining ? "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                                          : "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        struct bytes body = draining ? BYTES("{\"status\":\"draining\"}\n") : BYTES("{\"status\":\"ok\"}\n");
        result = answer_text(conn, fixed_head, body, is_head, answer);
    } else if (bytes_equal(path, BYTES("/metrics"))) {
        result = answer_metrics(conn, is_head, answer);
    } else {
        struct api_error error = {
            404, "the admin listener has /health, /metrics, /api/performance, /api/cache/stats and /api/cache",
            "not_found"};
        result = conn_answer_error(conn, API_DIALECT_PLAIN, &error, BYTES_NONE, answer, is_head);
    }
    if (result != RESULT_OK) {
        conn_close(conn, true);
    }
}
