/* A message's head from text, for rules that look at parsed heads. */
#ifndef SLUICE_TESTS_CACHE_MESSAGE_H
#define SLUICE_TESTS_CACHE_MESSAGE_H

#include <criterion/criterion.h>
#include <stdio.h>

#include "http/http.h"

struct message {
    struct http_parser parser;
    char text[4096];
};

/* Parses "start line, fields, blank line", of which `fields` is the middle, each line ended by CR LF. */
static inline const struct http_head *message_read(struct message *message, enum llhttp_type kind, const char *start,
                                                   const char *fields)
{
    static const struct http_limits limits = {.head_bytes_max = 4096, .target_bytes_max = 200, .fields_max = 64};
    int length = snprintf(message->text, sizeof(message->text), "%s\r\n%s\r\n", start, fields);
    cr_assert(length > 0 && (size_t)length < sizeof(message->text));
    http_parser_init(&message->parser, kind, &limits);
    cr_assert_eq(http_parse_head(&message->parser, message->text, (size_t)length), RESULT_OK, "%s", message->text);
    return &message->parser.head;
}

static inline const struct http_head *message_request(struct message *message, const char *fields)
{
    char text[2048];
    snprintf(text, sizeof(text), "Host: a\r\n%s", fields);
    return message_read(message, HTTP_REQUEST, "GET / HTTP/1.1", text);
}

static inline const struct http_head *message_response(struct message *message, unsigned status, const char *fields)
{
    char start[32];
    snprintf(start, sizeof(start), "HTTP/1.1 %u X", status);
    return message_read(message, HTTP_RESPONSE, start, fields);
}

#endif
