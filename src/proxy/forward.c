#include "proxy/forward.h"

#include <string.h>

#include "base/check.h"
#include "cache/conditional.h"

/* ---- writing into memory that was measured before ---- */

static char *put_line(char *at, struct bytes name_and_colon, struct bytes value)
{
    at = bytes_put(at, name_and_colon);
    at = bytes_put(at, value);
    return bytes_put(at, BYTES("\r\n"));
}

/* Copies the field lines for which `keep` holds, as they were; neighbours in one go. */
static char *put_kept_lines(char *at, const struct http_head *head, const char *base,
                            bool (*keep)(const struct http_field *field))
{
    uint32_t run_at = 0;
    uint32_t run_end = 0;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        if (!keep(field)) {
            continue;
        }
        uint32_t end = i + 1U < head->field_count ? head->fields[i + 1].name_at : head->head_bytes - 2;
        if (field->name_at != run_end) {
            at = bytes_put(at, (struct bytes){base + run_at, run_end - run_at});
            run_at = field->name_at;
        }
        run_end = end;
    }
    return bytes_put(at, (struct bytes){base + run_at, run_end - run_at});
}

/* ---- requests ---- */

static bool keep_in_request(const struct http_field *field)
{
    if (field->drop) {
        return false;
    }
    switch (field->id) {
    case HTTP_FIELD_HOST:
    case HTTP_FIELD_CONTENT_LENGTH:
    case HTTP_FIELD_TRANSFER_ENCODING:
    case HTTP_FIELD_EXPECT: /* met here: 100 (Continue) is the gateway's to send */
    case HTTP_FIELD_X_FORWARDED_FOR:
    case HTTP_FIELD_X_REQUEST_ID: return false;
    default: return true;
    }
}

/* The client's conditions and range would make an answer for this client alone (RFC 9111 §4.3.1). */
static bool keep_for_all(const struct http_field *field)
{
    switch (field->id) {
    case HTTP_FIELD_IF_MODIFIED_SINCE:
    case HTTP_FIELD_IF_NONE_MATCH:
    case HTTP_FIELD_IF_RANGE:
    case HTTP_FIELD_RANGE: return false;
    default: return keep_in_request(field);
    }
}

struct bytes forward_request_id(const struct http_head *head, const char *base)
{
    struct bytes id = http_head_value(head, base, HTTP_FIELD_X_REQUEST_ID);
    if (id.ptr == NULL || id.len == 0 || id.len > 128) {
        return BYTES_NONE;
    }
    for (size_t i = 0; i < id.len; i++) {
        if (id.ptr[i] <= ' ' || id.ptr[i] > '~') {
            return BYTES_NONE;
        }
    }
    return id;
}

/* One X-Forwarded-For with what came before and the client behind it; several lines become one. */
static char *put_forwarded_for(char *at, const struct forward *forward)
{
    const struct http_head *head = forward->head;
    bool any = false;
    for (unsigned i = 0; i <= head->field_count; i++) {
        struct bytes value = forward->client; /* comes last */
        if (i < head->field_count) {
            const struct http_field *field = &head->fields[i];
            if (field->id != HTTP_FIELD_X_FORWARDED_FOR || field->drop) {
                continue;
            }
            value = http_field_value(field, forward->base);
        }
        if (value.len > 0) {
            at = bytes_put(at, any ? BYTES(", ") : BYTES("X-Forwarded-For: "));
            at = bytes_put(at, value);
            any = true;
        }
    }
    return any ? bytes_put(at, BYTES("\r\n")) : at;
}

static char *put_forwarded(char *at, const struct forward *forward)
{
    const struct http_head *head = forward->head;
    at = put_forwarded_for(at, forward);
    if (head->first[HTTP_FIELD_X_FORWARDED_PROTO] == 0) {
        at = bytes_put(at, BYTES("X-Forwarded-Proto: http\r\n"));
    }
    if (head->first[HTTP_FIELD_X_FORWARDED_HOST] == 0 && forward->authority.len > 0) {
        at = put_line(at, BYTES("X-Forwarded-Host: "), forward->authority);
    }
    return at;
}

enum result forward_request_head(const struct forward *forward, struct arena *arena, struct fetch_request *request)
{
    const struct http_head *head = forward->head;
    /* What is kept, moved or repeated once, and room for what is added. */
    size_t bytes_max =
        (size_t)head->head_bytes * 2 + forward->path.len + forward->query.len + forward->authority.len * 2 +
        forward->client.len + forward->request_id.len + 256 +
        (forward->validating != NULL ? conditional_validators_bytes(forward->validating) : 0) +
        (forward->completing != NULL ? range_if_range_bytes(forward->completing) + RANGE_LINE_BYTES_MAX : 0);
    char *start = arena_alloc(arena, bytes_max);
    if (start == NULL) {
        return RESULT_NO_MEMORY;
    }
    char *at = bytes_put(start, forward->for_all ? BYTES("GET") : http_head_method(head, forward->base));
    *at++ = ' ';
    at = bytes_put(at, forward->path);
    if (forward->query.ptr != NULL) {
        *at++ = '?';
        at = bytes_put(at, forward->query);
    }
    at = bytes_put(at, BYTES(" HTTP/1.1\r\n"));
    request->line = (struct bytes){start, (size_t)(at - start)};
    char *host = at;
    at = bytes_put(at, forward->authority);
    request->host = (struct bytes){host, (size_t)(at - host)};

    char *fields = at;
    at = put_kept_lines(at, head, forward->base, forward->for_all ? keep_for_all : keep_in_request);
    if (forward->validating != NULL) {
        at = conditional_put_validators(at, forward->validating);
    }
    if (forward->completing != NULL) {
        at = range_put_request(at, forward->rest, forward->complete_bytes);
        at = range_put_if_range(at, forward->completing);
    }
    at = put_forwarded(at, forward);
    at = bytes_put(at, head->version_minor == 0 ? BYTES("Via: 1.0 sluice\r\n") : BYTES("Via: 1.1 sluice\r\n"));
    at = put_line(at, BYTES("X-Request-Id: "), forward->request_id);
    at = bytes_put(at, BYTES("\r\n"));
    request->fields = (struct bytes){fields, (size_t)(at - fields)};
    CHECK((size_t)(at - start) <= bytes_max);
    return RESULT_OK;
}

/* ---- responses ---- */

static bool keep_in_response(const struct http_field *field)
{
    return !field->drop && field->id != HTTP_FIELD_CONTENT_LENGTH && field->id != HTTP_FIELD_TRANSFER_ENCODING;
}

bool forward_is_event_stream(struct bytes content_type)
{
    struct bytes wanted = BYTES("text/event-stream");
    if (content_type.len < wanted.len) {
        return false;
    }
    struct bytes type = {content_type.ptr, wanted.len};
    char after = content_type.len > wanted.len ? content_type.ptr[wanted.len] : ';';
    return bytes_equal_nocase(type, wanted) && (after == ';' || after == ' ' || after == '\t');
}

enum result forward_response_head(struct entry *entry, const struct http_head *head, const char *base)
{
    char *at;
    enum result result = entry_room_for_head(entry, head->head_bytes, &at); /* proxy_init's limit: it fits */
    if (result != RESULT_OK) {
        return result;
    }
    char *end = put_kept_lines(at, head, base, keep_in_response);
    entry->has_content_length = head->has_content_length && head->body != HTTP_BODY_CHUNKED;
    entry->content_length = head->content_length;
    entry->has_date = head->first[HTTP_FIELD_DATE] != 0;
    entry->has_request_id = head->first[HTTP_FIELD_X_REQUEST_ID] != 0;
    entry->is_event_stream = forward_is_event_stream(http_head_value(head, base, HTTP_FIELD_CONTENT_TYPE));
    entry_commit_head(entry, head->status, (size_t)(end - at));
    return RESULT_OK;
}

enum result forward_add_interim(struct outbox *outbox, const struct http_head *head, const char *base)
{
    char *start = outbox_reserve(outbox, 64 + head->head_bytes);
    if (start == NULL) {
        return RESULT_NO_MEMORY;
    }
    char *at = bytes_put(start, BYTES("HTTP/1.1 "));
    at += bytes_put_u64(at, head->status);
    *at++ = ' ';
    at = bytes_put(at, http_reason(head->status));
    at = bytes_put(at, BYTES("\r\n"));
    at = put_kept_lines(at, head, base, keep_in_response);
    at = bytes_put(at, BYTES("\r\n"));
    return outbox_commit(outbox, (size_t)(at - start));
}

/* ---- bodies ---- */

enum result forward_add_body(struct outbox *outbox, struct bytes run, struct hold *hold, bool chunked)
{
    if (!chunked) {
        return hold == NULL ? outbox_copy(outbox, run) : outbox_add(outbox, run, hold);
    }
    if (run.len <= OUTBOX_COPY_BYTES_MAX) {
        char *at = outbox_reserve(outbox, HTTP_CHUNK_HEAD_BYTES_MAX + run.len + 2);
        if (at == NULL) {
            return RESULT_NO_MEMORY;
        }
        size_t head_bytes = http_put_chunk_head(at, run.len);
        memcpy(at + head_bytes, run.ptr, run.len);
        memcpy(at + head_bytes + run.len, "\r\n", 2);
        return outbox_commit(outbox, head_bytes + run.len + 2);
    }
    char head[HTTP_CHUNK_HEAD_BYTES_MAX];
    enum result result = outbox_copy(outbox, (struct bytes){head, http_put_chunk_head(head, run.len)});
    if (result == RESULT_OK) {
        result = hold == NULL ? outbox_copy(outbox, run) : outbox_pin(outbox, run, hold);
    }
    return result == RESULT_OK ? outbox_copy(outbox, BYTES("\r\n")) : result;
}

enum result forward_add_body_end(struct outbox *outbox, struct bytes trailers)
{
    enum result result = outbox_copy(outbox, BYTES("0\r\n"));
    if (result == RESULT_OK) {
        result = outbox_copy(outbox, trailers);
    }
    return result == RESULT_OK ? outbox_copy(outbox, BYTES("\r\n")) : result;
}
