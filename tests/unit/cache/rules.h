/* Heads for the tests of rules: parsed from text, and stored as a shard keeps them. */
#ifndef SLUICE_TESTS_CACHE_RULES_H
#define SLUICE_TESTS_CACHE_RULES_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cache/lines.h"
#include "cache/object.h"
#include "http/date.h"
#include "http/http.h"

static const int64_t NOW_MS = INT64_C(1700000000000); /* Tue, 14 Nov 2023 22:13:20 GMT */

#define DATE_NOW      "Tue, 14 Nov 2023 22:13:20 GMT"
#define DATE_EARLIER  "Tue, 14 Nov 2023 21:13:20 GMT"
#define DATE_EARLIEST "Tue, 14 Nov 2023 20:13:20 GMT"

/* A message; the fields are `Name: value\r\n` lines. Its bytes are followed by nothing, so that a sanitizer sees every
 * step beyond them. */
struct message {
    struct http_parser parser;
    char *base;
};

static inline void message_parse(struct message *message, enum llhttp_type kind, const char *start, const char *fields)
{
    static const struct http_limits limits = {1 << 16, 8192, HTTP_FIELDS_MAX};
    size_t bytes = strlen(start) + strlen(fields) + 4;
    char *text = malloc(bytes + 1);
    snprintf(text, bytes + 1, "%s\r\n%s\r\n", start, fields);
    message->base = malloc(bytes);
    memcpy(message->base, text, bytes);
    free(text);
    http_parser_init(&message->parser, kind, &limits);
    enum result result = http_parse_head(&message->parser, message->base, bytes);
    cr_assert_eq(result, RESULT_OK, "%s %s", start, fields);
}

/* One request and one response at a time are enough for most. */
static inline const struct http_head *request_of(struct message *message, const char *fields)
{
    char all[8192];
    snprintf(all, sizeof(all), "Host: a.example\r\n%s", fields);
    message_parse(message, HTTP_REQUEST, "GET / HTTP/1.1", all);
    return &message->parser.head;
}

static inline const struct http_head *response_of(struct message *message, unsigned status, const char *fields)
{
    char start[64];
    snprintf(start, sizeof(start), "HTTP/1.1 %u Whatever", status);
    message_parse(message, HTTP_RESPONSE, start, fields);
    return &message->parser.head;
}

static inline void message_free(struct message *message)
{
    free(message->base);
}

static inline int64_t date_ms(struct bytes text)
{
    int64_t unix_s;
    return text.ptr != NULL && http_date_parse(text, NOW_MS / 1000, &unix_s) ? unix_s * 1000 : -1;
}

/* A stored response that was received now. Free it with free. */
static inline struct cache_head *stored_head(unsigned status, const char *lines)
{
    struct bytes text = bytes_from(lines);
    struct cache_head *head = calloc(1, sizeof(*head) + text.len);
    bytes_put(head->data, text);
    head->lines_bytes = (uint32_t)text.len;
    head->status = (uint16_t)status;
    struct bytes kept = cache_head_lines(head);
    struct bytes etag = lines_find(kept, BYTES("ETag"));
    struct bytes modified = lines_find(kept, BYTES("Last-Modified"));
    int64_t date = date_ms(lines_find(kept, BYTES("Date")));
    head->freshness.response_ms = NOW_MS;
    head->freshness.date_ms = date >= 0 ? date : NOW_MS;
    head->freshness.last_modified_ms = date_ms(modified);
    if (etag.ptr != NULL) {
        head->freshness.etag_at = (uint16_t)(etag.ptr - head->data);
        head->freshness.etag_bytes = (uint16_t)etag.len;
    }
    if (modified.ptr != NULL) {
        head->freshness.last_modified_at = (uint16_t)(modified.ptr - head->data);
        head->freshness.last_modified_bytes = (uint16_t)modified.len;
    }
    return head;
}

static inline void assert_bytes(struct bytes got, const char *expected)
{
    cr_assert(bytes_equal(got, bytes_from(expected)), "got \"%.*s\", expected \"%s\"", BYTES_ARG(got), expected);
}

static inline void assert_run(const char *start, const char *end, const char *expected)
{
    assert_bytes((struct bytes){start, (size_t)(end - start)}, expected);
}

#endif
