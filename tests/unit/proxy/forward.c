#include "proxy/forward.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

static struct arena arena;
static struct http_parser parser;

static const struct http_head *parse(enum llhttp_type kind, const char *text)
{
    static const struct http_limits limits = {16000, 8000, 100};
    http_parser_init(&parser, kind, &limits);
    cr_assert_eq(http_parse_head(&parser, text, strlen(text)), RESULT_OK, "%s", text);
    return &parser.head;
}

/* The request that goes upstream for this one, line by line, but for the framing and Host. */
static const char *forwarded(const char *text, struct bytes client, struct bytes *ret_host)
{
    static char out[20000];
    arena_init(&arena, NULL, 0);
    const struct http_head *head = parse(HTTP_REQUEST, text);
    const struct http_target *target = http_parser_target(&parser, text);
    struct forward forward = {
        .head = head,
        .base = text,
        .path = target->path,
        .query = target->query,
        .authority = http_head_value(head, text, HTTP_FIELD_HOST),
        .client = client,
        .request_id = BYTES("id-1"),
    };
    struct fetch_request request = {0};
    cr_assert_eq(forward_request_head(&forward, &arena, &request), RESULT_OK);
    snprintf(out, sizeof(out), "%.*s%.*s", BYTES_ARG(request.line), BYTES_ARG(request.fields));
    if (ret_host != NULL) {
        static char host[300];
        snprintf(host, sizeof(host), "%.*s", BYTES_ARG(request.host));
        *ret_host = bytes_from(host);
    }
    arena_fini(&arena);
    return out;
}

Test(forward, other_lines_pass_byte_for_byte_and_what_is_added_comes_last)
{
    struct bytes host;
    cr_assert_str_eq(forwarded("GET /a/b?c=d HTTP/1.1\r\nX-One:  two  \r\nHost: h:81\r\nAccept: */*\r\n\r\n",
                               BYTES("1.2.3.4"), &host),
                     "GET /a/b?c=d HTTP/1.1\r\nX-One:  two  \r\nAccept: */*\r\n"
                     "X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: h:81\r\n"
                     "Via: 1.1 sluice\r\nX-Request-Id: id-1\r\n\r\n");
    cr_assert(bytes_equal(host, BYTES("h:81")));
}

Test(forward, hop_by_hop_fields_and_what_connection_names_go)
{
    cr_assert_str_eq(
        forwarded("POST / HTTP/1.1\r\nHost: h\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n"
                  "x-secret: 2\r\nTE: trailers\r\nTrailer: a\r\nUpgrade: websocket\r\nProxy-Connection: x\r\n"
                  "Proxy-Authorization: y\r\nX-Kept: 3\r\nContent-Length: 5\r\nExpect: 100-continue\r\n"
                  "with_underscore: 4\r\n\r\n",
                  BYTES_NONE, NULL),
        "POST / HTTP/1.1\r\nTrailer: a\r\nX-Kept: 3\r\n"
        "X-Forwarded-Proto: http\r\nX-Forwarded-Host: h\r\nVia: 1.1 sluice\r\nX-Request-Id: id-1\r\n\r\n");
}

Test(forward, several_forwarded_for_become_one_in_order)
{
    cr_assert_str_eq(
        forwarded("GET / HTTP/1.0\r\nX-Forwarded-For: a, b\r\nX-Other: 1\r\nX-Forwarded-For:\r\n"
                  "x-forwarded-for: c\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: o\r\nX-Request-Id: old\r\n"
                  "Via: 1.1 other\r\n\r\n",
                  BYTES("::1"), NULL),
        "GET / HTTP/1.1\r\nX-Other: 1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: o\r\nVia: 1.1 other\r\n"
        "X-Forwarded-For: a, b, c, ::1\r\nVia: 1.0 sluice\r\nX-Request-Id: id-1\r\n\r\n");
}

Test(forward, a_head_full_of_forwarded_for_fits_what_was_measured)
{
    char text[16000] = "GET / HTTP/1.1\r\nHost: h\r\n";
    for (int i = 0; i < 95; i++) {
        strcat(text, i % 2 == 0 ? "X-Forwarded-For:a\r\n" : "x-forwarded-for:\r\n");
    }
    strcat(text, "\r\n");
    const char *out = forwarded(text, BYTES("1.2.3.4"), NULL);
    cr_assert_not_null(strstr(out, "a, a, 1.2.3.4\r\n"));
}

static struct bytes request_id(const char *value)
{
    static char text[1000];
    snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: h\r\n%s%s%s\r\n",
             value == NULL ? "" : "X-Request-Id: ", value == NULL ? "" : value, value == NULL ? "" : "\r\n");
    return forward_request_id(parse(HTTP_REQUEST, text), text);
}

Test(forward, a_request_id_is_passed_on_only_when_it_is_fit)
{
    cr_assert(bytes_equal(request_id("abc-123/+=~!"), BYTES("abc-123/+=~!")));
    char longest[130];
    memset(longest, 'x', 129);
    longest[129] = '\0';
    cr_assert_null(request_id(longest).ptr);
    longest[128] = '\0';
    cr_assert_eq(request_id(longest).len, 128);
    cr_assert_null(request_id(NULL).ptr);
    cr_assert_null(request_id("").ptr);
    cr_assert_null(request_id("a b").ptr);
    cr_assert_null(request_id("a\tb").ptr);
    cr_assert_null(request_id("caf\xc3\xa9").ptr);
}

Test(forward, a_response_keeps_its_lines_but_not_its_framing)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 12\r\nConnection: X-Hop\r\nX-Hop: 1\r\n"
                               "Set-Cookie: a\r\nSet-Cookie: b\r\nDate: now\r\nX-Request-Id: theirs\r\n"
                               "Content-Type: Text/Event-Stream; charset=utf-8\r\n\r\n";
    struct chunk_pool pool;
    struct entry entry;
    chunk_pool_init(&pool, 0);
    entry_init(&entry, &pool, NULL, 1000, true);
    cr_assert_eq(forward_response_head(&entry, parse(HTTP_RESPONSE, text), text), RESULT_OK);
    struct bytes kept = {entry.head->data, entry.head_bytes};
    cr_assert(
        bytes_equal(kept, BYTES("Server: x\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: now\r\nX-Request-Id: theirs\r\n"
                                "Content-Type: Text/Event-Stream; charset=utf-8\r\n")));
    cr_assert(entry.status == 200 && entry.has_content_length && entry.content_length == 12);
    cr_assert(entry.has_date && entry.has_request_id && entry.is_event_stream && entry.has_news);
    entry_fini(&entry);
    cr_assert_eq(pool.used_bytes, 0);
    chunk_pool_fini(&pool);
}

Test(forward, only_the_exact_type_is_an_event_stream)
{
    static const char *const types[] = {"text/event-stream", "text/event-streams",   "text/event-strea",
                                        "application/json",  "text/event-stream ;x", ""};
    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        char text[200];
        snprintf(text, sizeof(text), "HTTP/1.1 200 \r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n",
                 types[i]);
        struct chunk_pool pool;
        struct entry entry;
        chunk_pool_init(&pool, 0);
        entry_init(&entry, &pool, NULL, 1000, true);
        cr_assert_eq(forward_response_head(&entry, parse(HTTP_RESPONSE, text), text), RESULT_OK);
        cr_assert_eq(entry.is_event_stream, i == 0 || i == 4, "%s", types[i]);
        cr_assert_not(entry.has_content_length);
        entry_fini(&entry);
        chunk_pool_fini(&pool);
    }
}

Test(forward, a_chunked_body_is_framed_run_by_run)
{
    struct chunk_pool pool;
    chunk_pool_init(&pool, 0);
    struct outbox *outbox = outbox_acquire(&pool);
    static char large[5000];
    memset(large, 'l', sizeof(large));
    cr_assert_eq(forward_add_body(outbox, BYTES("small"), NULL, true), RESULT_OK);
    cr_assert_eq(forward_add_body(outbox, (struct bytes){large, sizeof(large)}, NULL, true), RESULT_OK);
    cr_assert_eq(forward_add_body_end(outbox, BYTES("A: b\r\n")), RESULT_OK);
    char wanted[6000];
    char got[6000];
    int wanted_bytes = snprintf(wanted, sizeof(wanted), "5\r\nsmall\r\n1388\r\n%.5000s\r\n0\r\nA: b\r\n\r\n", large);
    size_t got_bytes = 0;
    for (unsigned i = 0; i < outbox->count; i++) {
        memcpy(got + got_bytes, outbox->spans[i].ptr, outbox->spans[i].bytes);
        got_bytes += outbox->spans[i].bytes;
    }
    cr_assert_eq(got_bytes, wanted_bytes);
    for (size_t i = 0; i < got_bytes; i++) {
        cr_assert(ascii_lower(got[i]) == ascii_lower(wanted[i]), "byte %zu", i);
    }
    outbox_release(outbox);
    chunk_pool_fini(&pool);
}
