/* Between the files of src/http: parse.c reads the bytes, head.c says what they mean, body.c and
 * chunk.c read what follows. */
#ifndef SLUICE_HTTP_INTERNAL_H
#define SLUICE_HTTP_INTERNAL_H

#include "http/http.h"

/* Notes why the message is refused (only the first reason counts) and returns false. A response is
 * always refused with 502, whatever `status` says. */
bool http_refuse(struct http_parser *parser, unsigned status, const char *message);

/* Enters the field that has just been read, and checks what can be said of it alone. */
bool http_head_add_field(struct http_parser *parser);

/* All fields are there: framing, Host, persistence, expectations, what is not to be forwarded. */
bool http_head_finish(struct http_parser *parser);

/* True when `field` must not go on because of its name alone. */
bool http_field_is_hop_by_hop(enum http_field_id id);

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

#endif
