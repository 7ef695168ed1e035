/* HTTP/1.0 and 1.1 as bytes in, messages out: no socket, no clock, no allocation on the usual way.
 *
 * One parser reads one message: first its head, as slices into the caller's buffer, then its body,
 * handed to a sink run by run. llhttp is the tokenizer; what a head means (framing, Host, keep-alive)
 * is decided here, strictly where two readers could disagree (RFC 9112 §6.3, §11.2).
 *
 * A head is parsed where it lies. When it arrives in pieces the caller keeps them in one growing
 * buffer and calls again: fields are offsets, so the buffer may move between calls, and no byte is
 * looked at twice. */
#ifndef SLUICE_HTTP_HTTP_H
#define SLUICE_HTTP_HTTP_H

#include <llhttp.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/result.h"
#include "http/uri.h"

enum {
    HTTP_FIELDS_MAX = 128,         /* most fields a head may have, whatever the configuration says */
    HTTP_HEAD_BYTES_MAX = 1 << 20, /* likewise for its size */
    HTTP_TRAILER_BYTES_MAX = 8192,
    HTTP_VALID_HOST_BYTES = 63,
};

/* Field names that some code here asks for; all others are HTTP_FIELD_OTHER. */
enum http_field_id {
    HTTP_FIELD_OTHER,
    HTTP_FIELD_ACCEPT_ENCODING,
    HTTP_FIELD_AGE,
    HTTP_FIELD_AUTHORIZATION,
    HTTP_FIELD_CACHE_CONTROL,
    HTTP_FIELD_CONNECTION,
    HTTP_FIELD_CONTENT_ENCODING,
    HTTP_FIELD_CONTENT_LENGTH,
    HTTP_FIELD_CONTENT_LOCATION,
    HTTP_FIELD_CONTENT_RANGE,
    HTTP_FIELD_CONTENT_TYPE,
    HTTP_FIELD_COOKIE,
    HTTP_FIELD_DATE,
    HTTP_FIELD_ETAG,
    HTTP_FIELD_EXPECT,
    HTTP_FIELD_EXPIRES,
    HTTP_FIELD_FORWARDED,
    HTTP_FIELD_HOST,
    HTTP_FIELD_IF_MATCH,
    HTTP_FIELD_IF_MODIFIED_SINCE,
    HTTP_FIELD_IF_NONE_MATCH,
    HTTP_FIELD_IF_RANGE,
    HTTP_FIELD_IF_UNMODIFIED_SINCE,
    HTTP_FIELD_KEEP_ALIVE,
    HTTP_FIELD_LAST_MODIFIED,
    HTTP_FIELD_PRAGMA,
    HTTP_FIELD_PROXY_AUTHENTICATE,
    HTTP_FIELD_PROXY_AUTHORIZATION,
    HTTP_FIELD_PROXY_CONNECTION,
    HTTP_FIELD_RANGE,
    HTTP_FIELD_RETRY_AFTER,
    HTTP_FIELD_SERVER,
    HTTP_FIELD_SET_COOKIE,
    HTTP_FIELD_TE,
    HTTP_FIELD_TRAILER,
    HTTP_FIELD_TRANSFER_ENCODING,
    HTTP_FIELD_UPGRADE,
    HTTP_FIELD_VARY,
    HTTP_FIELD_VIA,
    HTTP_FIELD_X_API_KEY,
    HTTP_FIELD_X_FORWARDED_FOR,
    HTTP_FIELD_X_FORWARDED_HOST,
    HTTP_FIELD_X_FORWARDED_PROTO,
    HTTP_FIELD_X_REQUEST_ID,
    HTTP_FIELD_COUNT,
};

struct http_field {
    uint32_t name_at; /* offsets from the start of the head */
    uint32_t value_at;
    uint32_t value_bytes; /* without surrounding white space */
    uint16_t name_bytes;
    uint8_t id;   /* enum http_field_id */
    uint8_t drop; /* nominated by Connection, or hop-by-hop, or named with '_': not to be forwarded */
};

enum http_body_kind {
    HTTP_BODY_NONE,
    HTTP_BODY_LENGTH,      /* Content-Length, > 0 */
    HTTP_BODY_CHUNKED,     /* Transfer-Encoding: chunked */
    HTTP_BODY_UNTIL_CLOSE, /* responses only */
};

/* What a message's head says. Offsets are relative to the buffer given to http_parse_head. */
struct http_head {
    enum llhttp_type kind; /* HTTP_REQUEST or HTTP_RESPONSE */
    uint8_t version_minor; /* of HTTP/1.x: 0 or 1 */
    bool keep_alive;       /* what version and Connection say (RFC 9112 §9.3) */
    bool expect_continue;
    bool has_content_length;
    bool upgrade;   /* Connection names upgrade, and Upgrade is there */
    uint8_t method; /* llhttp_method_t */
    uint16_t status;
    uint16_t field_count;
    uint16_t dropped_count; /* fields whose `drop` is set */
    enum http_body_kind body;
    uint64_t content_length; /* when has_content_length; also of a response to HEAD */
    uint32_t method_bytes;   /* a request's method begins at method_at */
    uint32_t method_at;
    uint32_t target_at;
    uint32_t target_bytes;
    uint32_t head_bytes; /* all of it, blank line included */
    /* Index + 1 of the first field with an id; 0 when there is none, and for HTTP_FIELD_OTHER. */
    uint8_t first[HTTP_FIELD_COUNT];
    struct http_field fields[HTTP_FIELDS_MAX + 1]; /* one more: where a field too many is found out */
};

/* Why a message was refused, in a form that can be sent to a client. */
struct http_fault {
    uint16_t status;     /* 400, 414, 417, 431, 501, 505; 502 for responses */
    const char *message; /* static, one sentence */
};

struct http_limits {
    uint32_t head_bytes_max;
    uint32_t target_bytes_max;
    uint16_t fields_max;
};

/* The last Host that was found valid: most requests say the same again. Zeroed at first. */
struct http_host_memory {
    uint8_t bytes;
    char text[HTTP_VALID_HOST_BYTES];
};

struct http_parser {
    llhttp_t llhttp;
    struct http_limits limits;
    struct http_target target; /* see http_parser_target */
    const char *target_base;
    uint32_t seen_bytes; /* of the head, fed to llhttp so far */
    struct http_fault fault;
    /* private to src/http */
    enum result result; /* why it failed */
    uint8_t phase;
    uint8_t span; /* which part of a field came last */
    uint8_t empty_lines;
    bool target_done;
    bool response_to_head;
    struct http_host_memory *host_memory; /* NULL: none */
    uint32_t name_bytes;                  /* of the field being read */
    const char *base;                     /* during http_parse_head */
    struct http_head head;                /* last: http_parser_move copies only what is used */
};

/* Makes ready for one message. *Borrows* limits. Cheap: does not clear the field table. */
void http_parser_init(struct http_parser *parser, enum llhttp_type kind, const struct http_limits *limits);

/* Spares this head the checking of a Host that `memory` knows, and notes its own. *Keeps* memory while the head is
 * read. */
static inline void http_parser_remember_host(struct http_parser *parser, struct http_host_memory *memory)
{
    parser->host_memory = memory;
}

/* For responses: the request was a HEAD, so no body follows whatever the fields say. */
void http_parser_response_to_head(struct http_parser *parser);

/* Parses the head of which `base[0 .. total_bytes)` is all that has arrived; bytes seen in earlier
 * calls must be the same, at the same offsets, though the buffer may have moved. *Borrows* base.
 *
 * RESULT_OK: parser->head is complete and its offsets are valid; what lies behind head_bytes is body
 * or the next message. RESULT_MORE: not yet. RESULT_PROTOCOL or RESULT_LIMIT: parser->fault says
 * what to answer, and the connection must be closed after it. */
MUST_USE enum result http_parse_head(struct http_parser *parser, const char *base, size_t total_bytes);

/* Copies an unfinished parser (or a finished one, with its head) to `into`. */
void http_parser_move(struct http_parser *into, const struct http_parser *from);

/* The request target of a complete head, split (RFC 9112 §3.2); valid as long as `base`, which holds the head. */
const struct http_target *http_parser_target(struct http_parser *parser, const char *base);

/* ---- the head's fields; `base` is the buffer that holds the head now ---- */

static inline struct bytes http_field_name(const struct http_field *field, const char *base)
{
    return (struct bytes){base + field->name_at, field->name_bytes};
}

static inline struct bytes http_field_value(const struct http_field *field, const char *base)
{
    return (struct bytes){base + field->value_at, field->value_bytes};
}

/* The value of the first field with this id; .ptr is NULL when there is none. */
static inline struct bytes http_head_value(const struct http_head *head, const char *base, enum http_field_id id)
{
    uint8_t index = head->first[id];
    return index == 0 ? BYTES_NONE : http_field_value(&head->fields[index - 1], base);
}

/* Finds a field by name (any letter case); .ptr is NULL when there is none. */
struct bytes http_head_find(const struct http_head *head, const char *base, struct bytes name);

static inline struct bytes http_head_target(const struct http_head *head, const char *base)
{
    return (struct bytes){base + head->target_at, head->target_bytes};
}

static inline struct bytes http_head_method(const struct http_head *head, const char *base)
{
    return (struct bytes){base + head->method_at, head->method_bytes};
}

/* Which known field a name is, in any letter case. */
enum http_field_id http_field_id(struct bytes name);

/* ---- body ---- */

/* Reads a body to its end; small enough to sit in a connection. */
struct http_body {
    enum http_body_kind kind;
    bool done;
    uint64_t remaining_bytes; /* HTTP_BODY_LENGTH */
    uint64_t received_bytes;  /* of payload, so far */
    struct http_fault fault;
    char *trailers; /* serialised `Name: value\r\n` lines, from malloc; NULL when none */
    uint32_t trailer_bytes;
    /* private to src/http */
    uint32_t trailer_line_at;  /* where the line being read begins */
    uint32_t trailer_value_at; /* and its value */
    uint32_t extension_excess; /* bytes of chunk extensions beyond what the payload excuses */
    uint16_t fault_status;     /* 400 or 502 */
    uint8_t chunk_phase;
    uint8_t size_digits;
};

/* Starts reading the body of the message whose head `parser` has just completed. */
void http_body_init(struct http_body *body, const struct http_parser *parser);

/* Frees the trailers, if any. */
void http_body_fini(struct http_body *body);

/* Reads from `input`; payload is handed to `sink` in runs that lie in the input (*borrows*, for the
 * call of the sink). *ret_used: how many bytes belong to this message; the rest is the next one's.
 *
 * RESULT_OK: the body is complete (done). RESULT_MORE: all of the input was used. RESULT_PROTOCOL or
 * RESULT_LIMIT: body->fault says why. A failure that the sink returns ends the reading and is returned;
 * the run it was handed counts as used. `sink` may be NULL: the payload is then discarded.
 * RESULT_NO_MEMORY: there was no room for trailers. */
MUST_USE enum result http_body_read(struct http_body *body, struct bytes input, size_t *ret_used,
                                    enum result (*sink)(void *context, struct bytes run), void *context);

/* The connection has ended: RESULT_OK when that completes the body (UNTIL_CLOSE, or done already),
 * else RESULT_PROTOCOL: it was cut short. */
MUST_USE enum result http_body_end(struct http_body *body);

/* ---- chunked, outgoing (RFC 9112 §7.1) ---- */

enum { HTTP_CHUNK_HEAD_BYTES_MAX = 18 }; /* 16 hex digits and CRLF */

/* Writes `<hex>\r\n` for a chunk of `bytes` > 0 bytes and returns its length. After the data comes CRLF. */
size_t http_put_chunk_head(char *out, uint64_t bytes);

#define HTTP_LAST_CHUNK "0\r\n\r\n"

/* ---- status ---- */

/* The standard reason phrase, or "Unknown". Static. */
struct bytes http_reason(unsigned status);

/* A ready status line "HTTP/1.1 200 OK\r\n" for the codes that have a phrase; .ptr NULL otherwise. Static. */
struct bytes http_status_line(unsigned status);

#endif
