/* Bodies: counted, until the connection ends, or chunked (chunk.c). */
#include "http/internal.h"

#include <stdlib.h>

enum result http_body_refuse(struct http_body *body, enum result result, const char *message)
{
    if (body->fault.status == 0) {
        body->fault.status = result == RESULT_LIMIT && body->fault_status == 400 ? 431 : body->fault_status;
        body->fault.message = message;
    }
    return result;
}

void http_body_init(struct http_body *body, const struct http_parser *parser)
{
    const struct http_head *head = &parser->head;
    *body = (struct http_body){
        .kind = head->body,
        .done = head->body == HTTP_BODY_NONE,
        .remaining_bytes = head->body == HTTP_BODY_LENGTH ? head->content_length : 0,
        .fault_status = head->kind == HTTP_REQUEST ? 400 : 502,
    };
}

void http_body_fini(struct http_body *body)
{
    free(body->trailers);
    body->trailers = NULL;
    body->trailer_bytes = 0;
}

static enum result read_run(struct http_body *body, struct bytes run, size_t *ret_used,
                            enum result (*sink)(void *context, struct bytes run), void *context)
{
    *ret_used = run.len;
    body->received_bytes += run.len;
    return sink == NULL || run.len == 0 ? RESULT_OK : sink(context, run);
}

enum result http_body_read(struct http_body *body, struct bytes input, size_t *ret_used,
                           enum result (*sink)(void *context, struct bytes run), void *context)
{
    *ret_used = 0;
    if (body->fault.status != 0) {
        return RESULT_PROTOCOL;
    }
    if (body->done) {
        return RESULT_OK;
    }
    if (body->kind == HTTP_BODY_CHUNKED) {
        return http_chunked_read(body, input, ret_used, sink, context);
    }
    struct bytes run = input;
    if (body->kind == HTTP_BODY_LENGTH && run.len > body->remaining_bytes) {
        run.len = body->remaining_bytes;
    }
    enum result result = read_run(body, run, ret_used, sink, context);
    if (body->kind == HTTP_BODY_LENGTH) {
        body->remaining_bytes -= run.len;
        body->done = body->remaining_bytes == 0;
    }
    if (result != RESULT_OK) {
        return result;
    }
    return body->done ? RESULT_OK : RESULT_MORE;
}

enum result http_body_end(struct http_body *body)
{
    if (body->fault.status != 0) {
        return RESULT_PROTOCOL;
    }
    if (body->kind == HTTP_BODY_UNTIL_CLOSE) {
        body->done = true;
    }
    if (body->done) {
        return RESULT_OK;
    }
    return http_body_refuse(body, RESULT_PROTOCOL, "The connection ended before the body did.");
}

size_t http_put_chunk_head(char *out, uint64_t bytes)
{
    size_t digits = bytes == 0 ? 1 : (67U - (unsigned)__builtin_clzll(bytes)) / 4;
    for (size_t i = digits; i > 0; i--) {
        out[i - 1] = "0123456789abcdef"[bytes & 15];
        bytes >>= 4;
    }
    out[digits] = '\r';
    out[digits + 1] = '\n';
    return digits + 2;
}
