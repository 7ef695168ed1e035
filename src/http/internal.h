/* Between the files of src/http: scan.c reads what is plainly right and parse.c all else, head.c says what the
 * bytes mean, body.c and chunk.c read what follows. */
#ifndef SLUICE_HTTP_INTERNAL_H
#define SLUICE_HTTP_INTERNAL_H

#include "http/http.h"

enum http_span { HTTP_SPAN_NONE, HTTP_SPAN_NAME, HTTP_SPAN_VALUE }; /* of http_parser.span */

/* Notes why the message is refused (only the first reason counts) and returns false. A response is
 * always refused with 502, whatever `status` says. */
bool http_refuse(struct http_parser *parser, unsigned status, const char *message);

/* The field behind the last one is there, and parser->name_bytes: enters it, and checks what can be said of it
 * alone. False: it is refused. */
bool http_head_add_field(struct http_parser *parser);

/* All fields are there: framing, Host, persistence, expectations, what is not to be forwarded. */
bool http_head_finish(struct http_parser *parser);

/* Fields that must not go on because of their name alone: RFC 9110 §7.6.1, and the proxy credentials:
 * they are meant for a proxy in front (§11.7.2), so no server behind a gateway has a use for them, and
 * they are secrets. Trailer is end-to-end. One bit per enum http_field_id. */
#define HTTP_FIELD_BIT(name) (UINT64_C(1) << HTTP_FIELD_##name)
#define HTTP_FIELDS_HOP_BY_HOP                                                                      \
    (HTTP_FIELD_BIT(CONNECTION) | HTTP_FIELD_BIT(KEEP_ALIVE) | HTTP_FIELD_BIT(PROXY_AUTHENTICATE) | \
     HTTP_FIELD_BIT(PROXY_AUTHORIZATION) | HTTP_FIELD_BIT(PROXY_CONNECTION) | HTTP_FIELD_BIT(TE) |  \
     HTTP_FIELD_BIT(TRANSFER_ENCODING) | HTTP_FIELD_BIT(UPGRADE))
_Static_assert(HTTP_FIELD_COUNT <= 64, "one bit per known field");

/* True when a Connection field may have a field of this id removed. */
bool http_field_may_be_nominated(enum http_field_id id);

enum http_trailer_fate { HTTP_TRAILER_KEEP, HTTP_TRAILER_DROP, HTTP_TRAILER_REFUSE };

/* What to do with a trailer field of this name (RFC 9110 §6.5.1). */
enum http_trailer_fate http_trailer_fate(struct bytes name);

/* Notes why the body is refused and returns `result`. */
enum result http_body_refuse(struct http_body *body, enum result result, const char *message);

/* Reads a chunked body; as http_body_read. */
enum result http_chunked_read(struct http_body *body, struct bytes input, size_t *ret_used,
                              enum result (*sink)(void *context, struct bytes run), void *context);

/* Reads a request's head that begins at `base` and is plainly right. False: it is not, or not all there: the head is to
 * be read by other means, and from the start; parser->head and what was noted of it mean nothing then. */
MUST_USE bool http_scan_request(struct http_parser *parser, const char *base, size_t bytes);

#endif
