/* What a head means (RFC 9112 §3.2, §6, §9.3; RFC 9110 §7.2, §7.6.1, §10.1.1).
 *
 * Framing is decided from the fields as received, before Connection is looked at, so that no
 * nomination can change where a message ends. */
#include "base/check.h"
#include "http/internal.h"
#include "http/uri.h"

enum { CONNECTION_OPTIONS_MAX = 32 }; /* bounds the search for nominated fields */

static struct bytes value_of(const struct http_parser *parser, const struct http_field *field)
{
    return http_field_value(field, parser->base);
}

/* White space around a framing value may only be SP: readers differ in what they make of HTAB. */
static bool has_tab_around(const struct http_parser *parser, const struct http_field *field)
{
    const char *from = parser->base + field->name_at + field->name_bytes + 1;
    const char *value_end = parser->base + field->value_at + field->value_bytes;
    size_t before = (size_t)(parser->base + field->value_at - from);
    while (*value_end == ' ') {
        value_end++; /* ends at the line's CR at the latest */
    }
    return memchr(from, '\t', before) != NULL || *value_end == '\t';
}

static bool add_content_length(struct http_parser *parser, const struct http_field *field, bool repeated)
{
    struct http_head *head = &parser->head;
    uint64_t length;
    if (repeated) { /* equal ones, too: no sender needs it, and not all readers compare */
        return http_refuse(parser, 400, "Content-Length is repeated.");
    }
    if (head->first[HTTP_FIELD_TRANSFER_ENCODING] != 0) {
        return http_refuse(parser, 400, "Content-Length and Transfer-Encoding are both present.");
    }
    if (has_tab_around(parser, field) || !bytes_to_u64(value_of(parser, field), &length) || length > INT64_MAX) {
        return http_refuse(parser, 400, "Content-Length is invalid.");
    }
    head->content_length = length;
    head->has_content_length = true;
    return true;
}

#define CHECKED (HTTP_FIELD_BIT(CONTENT_LENGTH) | HTTP_FIELD_BIT(TRANSFER_ENCODING) | HTTP_FIELD_BIT(HOST))

static bool is_valid_host(struct http_parser *parser, struct bytes host)
{
    struct http_host_memory *memory = parser->host_memory;
    if (memory != NULL && host.len > 0 && host.len == memory->bytes && memcmp(host.ptr, memory->text, host.len) == 0) {
        return true;
    }
    if (!http_authority_is_valid(host)) {
        return false;
    }
    if (memory != NULL && host.len <= sizeof(memory->text)) {
        memcpy(memory->text, host.ptr, host.len);
        memory->bytes = (uint8_t)host.len;
    }
    return true;
}

static __attribute__((noinline)) bool check_field(struct http_parser *parser, const struct http_field *field,
                                                  bool repeated)
{
    switch (field->id) {
    case HTTP_FIELD_CONTENT_LENGTH: return add_content_length(parser, field, repeated);
    case HTTP_FIELD_TRANSFER_ENCODING:
        if (parser->head.has_content_length) {
            return http_refuse(parser, 400, "Content-Length and Transfer-Encoding are both present.");
        }
        if (has_tab_around(parser, field)) {
            return http_refuse(parser, 400, "Transfer-Encoding is invalid.");
        }
        return true;
    case HTTP_FIELD_HOST:
        if (parser->head.kind == HTTP_RESPONSE) {
            return true;
        }
        if (repeated) {
            return http_refuse(parser, 400, "Host is repeated.");
        }
        if (!is_valid_host(parser, value_of(parser, field))) {
            return http_refuse(parser, 400, "Host is invalid.");
        }
        return true;
    default: return true;
    }
}

/* Has the top bit of a byte set where `word` holds '_', and none when it holds no '_' and only ASCII. */
static inline uint64_t underscores(const char *at)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t word;
    memcpy(&word, at, 8);
    word ^= ones * '_';
    return (word - ones) & ~word & ones << 7;
}

/* Runs for each field of each message: eight bytes at a time, the last eight overlapping those before. */
static inline bool has_underscore(const char *name, size_t length)
{
    uint64_t found = 0;
    if (length < 8) {
        for (size_t i = 0; i < length; i++) {
            found |= name[i] == '_';
        }
        return found != 0;
    }
    for (size_t i = 8; i < length; i += 8) {
        found |= underscores(name + i - 8);
    }
    return (found | underscores(name + length - 8)) != 0;
}

bool http_head_add_field(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    unsigned index = head->field_count;
    struct http_field *field = &head->fields[index];
    const char *base = parser->base;
    const char *name = base + field->name_at;
    uint32_t name_bytes = parser->name_bytes;
    parser->span = HTTP_SPAN_NONE;
    if (UNLIKELY(index >= parser->limits.fields_max || name_bytes > UINT16_MAX)) {
        return http_refuse(parser, 431, "There are too many header fields, or one has too long a name.");
    }
    field->name_bytes = (uint16_t)name_bytes;
    const char *value = base + field->value_at;
    uint32_t value_bytes = field->value_bytes;
    while (value_bytes > 0 && (value[value_bytes - 1] == ' ' || value[value_bytes - 1] == '\t')) {
        value_bytes--;
    }
    field->value_bytes = value_bytes;
    head->field_count = (uint16_t)(index + 1);
    enum http_field_id id = http_field_id((struct bytes){name, name_bytes});
    field->id = (uint8_t)id;
    if (id == HTTP_FIELD_OTHER) {
        /* Behind a gateway many a server reads '_' as '-' (CGI's HTTP_ names): such a field could pass
         * for one that was checked here. */
        field->drop = has_underscore(name, name_bytes);
        head->dropped_count = (uint16_t)(head->dropped_count + field->drop);
        return true;
    }
    field->drop = HTTP_FIELDS_HOP_BY_HOP >> id & 1;
    head->dropped_count = (uint16_t)(head->dropped_count + field->drop);
    bool repeated = head->first[id] != 0;
    if (!repeated) {
        head->first[id] = (uint8_t)(index + 1);
    }
    return (CHECKED >> id & 1) == 0 || check_field(parser, field, repeated);
}

static bool is_token(struct bytes b)
{
    static const struct bytes separators = BYTES("\"(),/:;<=>?@[\\]{}");
    for (size_t i = 0; i < b.len; i++) {
        uint8_t c = (uint8_t)b.ptr[i];
        if (c <= ' ' || c >= 0x7f || memchr(separators.ptr, c, separators.len) != NULL) {
            return false;
        }
    }
    return b.len > 0;
}

/* Goes through every Transfer-Encoding field as one list. Exactly `chunked` is right; a coding that we do
 * not know in front of a final `chunked` is legal but 501 (RFC 9112 §6.1); all else is wrong. */
static bool check_transfer_encoding(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    unsigned codings = 0;
    bool chunked_last = false;
    if (head->version_minor == 0) {
        return http_refuse(parser, 400, "Transfer-Encoding is not part of HTTP/1.0.");
    }
    for (uint16_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id != HTTP_FIELD_TRANSFER_ENCODING) {
            continue;
        }
        struct bytes list = value_of(parser, &head->fields[i]);
        for (bool more = true; more;) {
            const char *comma = list.len == 0 ? NULL : memchr(list.ptr, ',', list.len);
            struct bytes item = {list.ptr, comma == NULL ? list.len : (size_t)(comma - list.ptr)};
            more = comma != NULL;
            list.ptr += item.len + more;
            list.len -= item.len + more;
            item = bytes_trim(item);
            if (chunked_last || !is_token(item)) {
                return http_refuse(parser, 400, "Transfer-Encoding is invalid.");
            }
            chunked_last = bytes_equal_nocase(item, BYTES("chunked"));
            codings++;
        }
    }
    if (!chunked_last) {
        return http_refuse(parser, 400, "Transfer-Encoding does not end in chunked.");
    }
    if (codings > 1) {
        return http_refuse(parser, 501, "Only the transfer coding chunked is supported.");
    }
    return true;
}

static void mark_nominated(struct http_parser *parser, struct bytes name)
{
    struct http_head *head = &parser->head;
    enum http_field_id id = http_field_id(name);
    if (!http_field_may_be_nominated(id) || (id != HTTP_FIELD_OTHER && head->first[id] == 0)) {
        return;
    }
    for (uint16_t i = 0; i < head->field_count; i++) {
        struct http_field *field = &head->fields[i];
        if (field->drop == 0 && field->id == id &&
            (id != HTTP_FIELD_OTHER || bytes_equal_nocase(http_field_name(field, parser->base), name))) {
            field->drop = 1;
            head->dropped_count++;
        }
    }
}

/* Persistence (RFC 9112 §9.3) and nominated fields. */
static bool read_connection(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    unsigned options = 0;
    bool close = false;
    bool upgrade = false;
    bool keep_alive = head->version_minor == 1;
    for (uint16_t i = head->first[HTTP_FIELD_CONNECTION]; i > 0 && i <= head->field_count; i++) {
        if (head->fields[i - 1].id != HTTP_FIELD_CONNECTION) {
            continue;
        }
        struct bytes list = value_of(parser, &head->fields[i - 1]);
        struct bytes option;
        while (bytes_next_item(&list, &option)) {
            if (++options > CONNECTION_OPTIONS_MAX) {
                return http_refuse(parser, 400, "Connection names too many options.");
            }
            if (bytes_equal_nocase(option, BYTES("close"))) {
                close = true;
            } else if (bytes_equal_nocase(option, BYTES("keep-alive"))) {
                keep_alive = true;
            } else if (bytes_equal_nocase(option, BYTES("upgrade"))) {
                upgrade = true;
            } else {
                mark_nominated(parser, option);
            }
        }
    }
    head->keep_alive = keep_alive && !close;
    head->upgrade = upgrade && head->version_minor == 1 && head->first[HTTP_FIELD_UPGRADE] != 0;
    return true;
}

/* HTTP/1.0 has no expectations: there the field is ignored (RFC 9110 §10.1.1). */
static bool read_expect(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    if (head->version_minor == 0) {
        return true;
    }
    for (uint16_t i = 0; i < head->field_count; i++) {
        if (head->fields[i].id == HTTP_FIELD_EXPECT &&
            !bytes_equal_nocase(value_of(parser, &head->fields[i]), BYTES("100-continue"))) {
            return http_refuse(parser, 417, "The expectation is not supported.");
        }
    }
    /* Without a body there is nothing to wait for. */
    head->expect_continue = head->body != HTTP_BODY_NONE;
    return true;
}

static void body_from_fields(struct http_head *head, enum http_body_kind otherwise)
{
    if (head->first[HTTP_FIELD_TRANSFER_ENCODING] != 0) {
        head->body = HTTP_BODY_CHUNKED;
    } else if (head->has_content_length) {
        head->body = head->content_length > 0 ? HTTP_BODY_LENGTH : HTTP_BODY_NONE;
    } else {
        head->body = otherwise;
    }
}

static bool finish_request(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    if (head->version_minor == 1 && head->first[HTTP_FIELD_HOST] == 0) {
        return http_refuse(parser, 400, "Host is missing.");
    }
    body_from_fields(head, HTTP_BODY_NONE);
    if (head->method == HTTP_CONNECT) {
        /* What follows is a tunnel's, never a message: it must not be read as the next request. */
        head->body = HTTP_BODY_NONE;
        head->keep_alive = false;
    }
    return head->first[HTTP_FIELD_EXPECT] == 0 || read_expect(parser);
}

static bool finish_response(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    if (head->status < 100 || head->status > 599) {
        return http_refuse(parser, 502, "The status code is out of range.");
    }
    body_from_fields(head, HTTP_BODY_UNTIL_CLOSE);
    bool bodiless = head->status < 200 || head->status == 204;
    if (bodiless && head->body != HTTP_BODY_UNTIL_CLOSE && head->body != HTTP_BODY_NONE) {
        /* Such a sender may well send that body (RFC 9112 §6.3 says there is none): the connection is
         * not to be trusted with another response. */
        head->keep_alive = false;
    }
    if (bodiless || head->status == 304 || parser->response_to_head) {
        head->body = HTTP_BODY_NONE;
    }
    if (head->body == HTTP_BODY_UNTIL_CLOSE) {
        head->keep_alive = false;
    }
    return true;
}

bool http_head_finish(struct http_parser *parser)
{
    struct http_head *head = &parser->head;
    if (head->first[HTTP_FIELD_TRANSFER_ENCODING] != 0 && !check_transfer_encoding(parser)) {
        return false;
    }
    head->keep_alive = head->version_minor == 1;
    if (head->first[HTTP_FIELD_CONNECTION] != 0 && !read_connection(parser)) {
        return false;
    }
    return head->kind == HTTP_REQUEST ? finish_request(parser) : finish_response(parser);
}
