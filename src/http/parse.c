/* Heads: drives llhttp over the bytes that scan.c has left, and notes where things lie.
 *
 * Invariant: the outcome, fault status included, depends on the bytes alone and not on how they were
 * cut into calls. llhttp reports a span (target, name, value) once when it is whole but piecemeal when
 * it is cut, so whatever can refuse a message is decided at a byte that is the same either way: at the
 * end of a field or line, or, for the target, by going over what was pending when llhttp stopped.
 *
 * llhttp is laxer than RFC 9112 in these, which are checked here: any number of empty lines before a
 * request, several spaces inside a request line, HTTP/0.9, HTTP/2.0, RTSP and ICE, CR CR and control
 * bytes in a status line. */
#include "base/check.h"
#include "http/chars.h"
#include "http/internal.h"
#include "http/uri.h"

enum phase { PHASE_START, PHASE_LINE, PHASE_METHOD, PHASE_FIELDS, PHASE_DONE, PHASE_FAILED };

enum { EMPTY_LINES_MAX = 4 }; /* RFC 9112 §2.2: "at least one" before a request line */
enum { METHOD_BYTES_MAX = 64 };

/* Lengths that fit the parser's 32-bit offsets. */
_Static_assert(HTTP_HEAD_BYTES_MAX < UINT32_MAX / 2, "offsets are 32 bits");
_Static_assert(HTTP_FIELDS_MAX < UINT8_MAX, "http_head.first is 8 bits");

bool http_refuse(struct http_parser *parser, unsigned status, const char *message)
{
    if (parser->phase != PHASE_FAILED) {
        bool limit = status == 414 || status == 431;
        parser->phase = PHASE_FAILED;
        parser->result = limit ? RESULT_LIMIT : RESULT_PROTOCOL;
        parser->fault.status = (uint16_t)(parser->head.kind == HTTP_RESPONSE ? 502 : status);
        parser->fault.message = message;
    }
    return false;
}

/* Checks the next bytes of the target; the first bad one or the first one too many decides. */
static bool extend_target(struct http_parser *parser, const char *at, size_t length)
{
    size_t room = parser->limits.target_bytes_max - parser->head.target_bytes;
    size_t looked_at = length < room ? length : room;
    for (size_t i = 0; i < looked_at; i++) {
        if (UNLIKELY(!char_is(at[i], CHAR_TARGET))) {
            return http_refuse(parser, 400, "The request target contains a character that is not allowed.");
        }
    }
    if (length > room) {
        return http_refuse(parser, 414, "The request target is too long.");
    }
    parser->head.target_bytes += (uint32_t)length;
    return true;
}

static int on_url(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_parser *parser = llhttp->data;
    if (parser->head.target_bytes == 0) {
        parser->head.target_at = (uint32_t)(at - parser->base);
    }
    return extend_target(parser, at, length) ? 0 : HPE_USER;
}

static int on_url_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    struct http_head *head = &parser->head;
    parser->target_done = true;
    if (llhttp->http_minor == 9) {
        http_refuse(parser, 400, "HTTP/0.9 is not supported.");
        return -1;
    }
    head->method = llhttp->method;
    head->method_bytes = head->target_at - head->method_at - 1;
    if (parser->base[head->target_at - 2] == ' ') {
        http_refuse(parser, 400, "The request line is malformed.");
        return -1;
    }
    if (http_target_parse(head->method == HTTP_CONNECT, head->method == HTTP_OPTIONS,
                          http_head_target(head, parser->base), &parser->target) != RESULT_OK) {
        http_refuse(parser, 400, "The request target is invalid.");
        return -1;
    }
    parser->target_base = parser->base;
    return 0;
}

const struct http_target *http_parser_target(struct http_parser *parser, const char *base)
{
    const struct http_head *head = &parser->head;
    if (parser->target_base != base) { /* the head came in pieces and was moved meanwhile */
        enum result result = http_target_parse(head->method == HTTP_CONNECT, head->method == HTTP_OPTIONS,
                                               http_head_target(head, base), &parser->target);
        CHECK(result == RESULT_OK); /* it was when the head was read */
        parser->target_base = base;
    }
    return &parser->target;
}

static int on_version_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    struct http_head *head = &parser->head;
    /* llhttp also takes RTSP/1.0 and ICE/1.0 for some methods, and spaces before the name. */
    if (head->kind == HTTP_REQUEST && memcmp(parser->base + head->target_at + head->target_bytes, " HTTP/", 6) != 0) {
        http_refuse(parser, 400, "The request line is malformed.");
        return -1;
    }
    if (llhttp->http_major != 1) {
        http_refuse(parser, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
        return -1;
    }
    head->version_minor = llhttp->http_minor;
    parser->phase = PHASE_FIELDS;
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_parser *parser = llhttp->data;
    if (parser->span != HTTP_SPAN_NAME) {
        parser->span = HTTP_SPAN_NAME;
        parser->name_bytes = 0;
        parser->head.fields[parser->head.field_count].name_at = (uint32_t)(at - parser->base);
    }
    parser->name_bytes += (uint32_t)length;
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *at, size_t length)
{
    struct http_parser *parser = llhttp->data;
    struct http_field *field = &parser->head.fields[parser->head.field_count];
    if (parser->span != HTTP_SPAN_VALUE) {
        parser->span = HTTP_SPAN_VALUE;
        field->value_at = (uint32_t)(at - parser->base);
        field->value_bytes = 0;
    }
    field->value_bytes += (uint32_t)length;
    return 0;
}

static int on_header_value_complete(llhttp_t *llhttp)
{
    return http_head_add_field(llhttp->data) ? 0 : -1;
}

/* The status line, which llhttp reads too kindly, begins at 0: "HTTP/1.x NNN" and a phrase or none. */
static bool check_status_line(struct http_parser *parser)
{
    const char *at = parser->base + 12;
    if (*at != ' ' && *at != '\r') {
        return http_refuse(parser, 502, "The status line is malformed.");
    }
    while (char_is(*at, CHAR_TEXT)) {
        at++; /* ends at the CR that llhttp has seen */
    }
    if (at[0] != '\r' || at[1] != '\n') {
        return http_refuse(parser, 502, "The status line is malformed.");
    }
    return true;
}

static int on_headers_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = llhttp->data;
    parser->head.status = llhttp->status_code;
    if (parser->head.kind == HTTP_RESPONSE && !check_status_line(parser)) {
        return -1;
    }
    return http_head_finish(parser) ? HPE_PAUSED : -1;
}

static const llhttp_settings_t request_settings = {
    .on_url = on_url,
    .on_url_complete = on_url_complete,
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
};

static const llhttp_settings_t response_settings = {
    .on_version_complete = on_version_complete,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
};

/* Nothing has been read. Not llhttp: see start_llhttp. */
static void forget(struct http_parser *parser, enum llhttp_type kind)
{
    memset(&parser->seen_bytes, 0,
           offsetof(struct http_parser, head.fields) - offsetof(struct http_parser, seen_bytes));
    parser->head.kind = kind;
}

static void start_llhttp(struct http_parser *parser)
{
    enum llhttp_type kind = parser->head.kind;
    llhttp_init(&parser->llhttp, kind, kind == HTTP_REQUEST ? &request_settings : &response_settings);
    parser->llhttp.data = parser;
}

void http_parser_init(struct http_parser *parser, enum llhttp_type kind, const struct http_limits *limits)
{
    parser->limits = *limits;
    if (parser->limits.fields_max > HTTP_FIELDS_MAX) {
        parser->limits.fields_max = HTTP_FIELDS_MAX;
    }
    if (parser->limits.head_bytes_max > HTTP_HEAD_BYTES_MAX) {
        parser->limits.head_bytes_max = HTTP_HEAD_BYTES_MAX;
    }
    forget(parser, kind);
}

void http_parser_response_to_head(struct http_parser *parser)
{
    parser->response_to_head = true;
}

void http_parser_move(struct http_parser *into, const struct http_parser *from)
{
    size_t fields = from->head.field_count + (size_t)1; /* the one being read, too */
    memcpy(into, from, offsetof(struct http_parser, head.fields) + fields * sizeof(struct http_field));
    into->llhttp.data = into;
}

/* HTTP/2's preface (RFC 9113 §3.4) is told apart by its method; PRI is reserved for it. Returns false
 * when it is that, or may be and more bytes are needed. */
static bool is_not_http2(struct http_parser *parser, const char *at, size_t length)
{
    size_t compared = length < 4 ? length : 4;
    if (memcmp(at, "PRI ", compared) != 0) {
        return true;
    }
    if (compared == 4) {
        http_refuse(parser, 505, "HTTP/2 is not spoken here.");
    }
    return false;
}

/* Skips empty lines in front and looks at the first bytes; in PHASE_LINE when llhttp may go on. */
static void begin(struct http_parser *parser, const char *base, uint32_t limit)
{
    bool request = parser->head.kind == HTTP_REQUEST;
    while (request && parser->seen_bytes < limit && base[parser->seen_bytes] == '\r') {
        if (limit - parser->seen_bytes < 2) {
            return;
        }
        if (base[parser->seen_bytes + 1] != '\n' || ++parser->empty_lines > EMPTY_LINES_MAX) {
            http_refuse(parser, 400, "The request does not begin with a request line.");
            return;
        }
        parser->seen_bytes += 2;
    }
    if (parser->seen_bytes == limit) {
        return;
    }
    const char *at = base + parser->seen_bytes;
    if (request ? !char_is(*at, CHAR_TOKEN) : *at != 'H') {
        http_refuse(parser, 400,
                    *at == 0x16 ? "This port speaks HTTP without TLS."
                                : "The message does not begin with a valid start line.");
        return;
    }
    if (!request || *at != 'P' || is_not_http2(parser, at, limit - parser->seen_bytes)) {
        parser->head.method_at = parser->seen_bytes;
        parser->phase = PHASE_LINE;
    }
}

/* llhttp does not know the method: malformed, or only foreign? That shows at the first space. */
static void read_unknown_method(struct http_parser *parser, const char *base, uint32_t limit)
{
    uint32_t at = parser->head.method_at;
    while (at < limit && char_is(base[at], CHAR_TOKEN)) {
        at++;
    }
    bool too_long = at - parser->head.method_at > METHOD_BYTES_MAX;
    if (too_long || (at < limit && base[at] == ' ')) {
        http_refuse(parser, 501, "The request method is not supported.");
    } else if (at < limit) {
        http_refuse(parser, 400, "The request method is malformed.");
    } else {
        parser->phase = PHASE_METHOD;
        parser->seen_bytes = limit;
    }
}

/* A target that llhttp gave up on was not reported: our own checks on what came before have priority. */
static void check_pending_target(struct http_parser *parser, const char *base, const char *stop)
{
    uint32_t from = parser->head.target_at + parser->head.target_bytes;
    if (parser->head.target_bytes == 0) {
        from = parser->head.method_at;
        while (base + from < stop && base[from] != ' ') {
            from++;
        }
        while (base + from < stop && base[from] == ' ') {
            from++;
        }
    }
    if (base + from < stop) {
        (void)extend_target(parser, base + from, (size_t)(stop - (base + from)));
    }
}

/* "HTTP/" digit "." digit stands there, but not a version that we speak. */
static bool is_other_version(const struct http_parser *parser, const char *base, uint32_t limit)
{
    uint32_t at = parser->head.target_at + parser->head.target_bytes + 6;
    return parser->phase == PHASE_LINE && at + 3 <= limit && base[at] >= '0' && base[at] <= '9' &&
           base[at + 1] == '.' && base[at + 2] >= '0' && base[at + 2] <= '9';
}

static const char *message_for(enum llhttp_errno error)
{
    switch (error) {
    case HPE_INVALID_URL: return "The request target is invalid.";
    case HPE_INVALID_VERSION:
    case HPE_INVALID_CONSTANT:
    case HPE_INVALID_STATUS: return "The start line is malformed.";
    case HPE_CR_EXPECTED:
    case HPE_LF_EXPECTED:
    case HPE_STRICT: return "A line does not end in CR LF.";
    case HPE_UNEXPECTED_CONTENT_LENGTH: return "Content-Length is repeated.";
    case HPE_INVALID_CONTENT_LENGTH: return "Content-Length is invalid.";
    case HPE_INVALID_TRANSFER_ENCODING: return "Transfer-Encoding is invalid.";
    case HPE_UNEXPECTED_SPACE: return "A field line begins with white space.";
    default: return "A header field is malformed.";
    }
}

/* llhttp has stopped for good. */
static void on_llhttp_error(struct http_parser *parser, enum llhttp_errno error, const char *base, uint32_t limit)
{
    unsigned method = parser->llhttp.method;
    if (parser->phase == PHASE_FAILED) {
        return; /* one of the callbacks has said why */
    }
    if (parser->head.kind == HTTP_REQUEST && parser->phase == PHASE_LINE) {
        if (error == HPE_INVALID_METHOD) {
            read_unknown_method(parser, base, limit);
            return;
        }
        if (!parser->target_done) {
            check_pending_target(parser, base, llhttp_get_error_pos(&parser->llhttp));
        } else if (error == HPE_INVALID_VERSION && is_other_version(parser, base, limit)) {
            http_refuse(parser, 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here.");
        } else if (error == HPE_INVALID_CONSTANT && method >= HTTP_PRI && method <= HTTP_FLUSH) {
            http_refuse(parser, 501, "The request method is not supported."); /* RTSP's own */
        }
    }
    http_refuse(parser, 400, message_for(error));
}

static void feed(struct http_parser *parser, const char *base, uint32_t limit)
{
    const char *from = base + parser->seen_bytes;
    enum llhttp_errno error = llhttp_execute(&parser->llhttp, from, limit - parser->seen_bytes);
    if (error == HPE_OK) {
        parser->seen_bytes = limit;
        if (parser->phase == PHASE_LINE && !parser->target_done && base[limit - 1] == '\n') {
            /* llhttp would say so at the next byte, for which such a client does not wait. */
            http_refuse(parser, 400, "HTTP/0.9 is not supported.");
        }
    } else if (error == HPE_PAUSED) {
        parser->head.head_bytes = (uint32_t)(llhttp_get_error_pos(&parser->llhttp) - base);
        parser->seen_bytes = parser->head.head_bytes;
        parser->phase = PHASE_DONE;
    } else {
        on_llhttp_error(parser, error, base, limit);
    }
}

/* True: it is a request whose head was plainly right. */
static bool scan(struct http_parser *parser, const char *base, uint32_t limit)
{
    if (parser->head.kind != HTTP_REQUEST || parser->seen_bytes > 0) {
        return false;
    }
    struct http_host_memory *host_memory = parser->host_memory;
    bool is_right = http_scan_request(parser, base, limit);
    if (!is_right) {
        forget(parser, HTTP_REQUEST);
        parser->host_memory = host_memory;
        parser->base = base;
        return false;
    }
    parser->target_done = true;
    parser->target_base = base;
    parser->seen_bytes = parser->head.head_bytes;
    parser->phase = PHASE_DONE;
    return true;
}

enum result http_parse_head(struct http_parser *parser, const char *base, size_t total_bytes)
{
    uint32_t most = parser->limits.head_bytes_max;
    uint32_t limit = total_bytes < most ? (uint32_t)total_bytes : most;
    parser->base = base;
    if (parser->phase == PHASE_START) {
        if (scan(parser, base, limit)) {
            return RESULT_OK;
        }
        start_llhttp(parser);
        begin(parser, base, limit);
    }
    if (parser->phase == PHASE_METHOD) {
        read_unknown_method(parser, base, limit);
    } else if ((parser->phase == PHASE_LINE || parser->phase == PHASE_FIELDS) && parser->seen_bytes < limit) {
        feed(parser, base, limit);
    }
    if (parser->phase == PHASE_DONE) {
        return RESULT_OK;
    }
    if (parser->phase != PHASE_FAILED && limit == most) {
        bool in_target = parser->phase == PHASE_LINE && parser->head.target_bytes > 0 && !parser->target_done;
        http_refuse(parser, in_target ? 414 : 431,
                    in_target ? "The request target is too long." : "The header section is too large.");
    }
    return parser->phase == PHASE_FAILED ? parser->result : RESULT_MORE;
}
