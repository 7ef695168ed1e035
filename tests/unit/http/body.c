#include "http/http.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct http_parser parser;
static struct http_body body;

static void begin(enum llhttp_type kind, const char *head)
{
    const struct http_limits limits = {8192, 2048, 64};
    http_parser_init(&parser, kind, &limits);
    cr_assert_eq(http_parse_head(&parser, head, strlen(head)), RESULT_OK);
    http_body_init(&body, &parser);
}

static enum result feed(const char *text, size_t *ret_used)
{
    return http_body_read(&body, bytes_from(text), ret_used, NULL, NULL);
}

#define CHUNKED "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
#define COUNTED "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"

static enum result stop(void *context, struct bytes run)
{
    *(struct bytes *)context = run;
    return RESULT_CANCELED;
}

Test(http, body_runs_lie_in_the_input_and_a_sink_may_stop_them)
{
    size_t used;
    struct bytes run;
    struct bytes input = BYTES("3\r\nabc\r\n0\r\n\r\n");
    begin(HTTP_REQUEST, CHUNKED);
    cr_assert_eq(http_body_read(&body, input, &used, stop, &run), RESULT_CANCELED);
    cr_assert_eq(run.ptr, input.ptr + 3);
    cr_assert_eq(run.len, 3);
    cr_assert_eq(used, 6);
    /* What the sink was handed counts: reading can go on behind it. */
    input.ptr += used;
    input.len -= used;
    cr_assert_eq(http_body_read(&body, input, &used, stop, &run), RESULT_OK);
    cr_assert_eq(used, input.len);
    cr_assert_eq(body.received_bytes, 3);
}

Test(http, a_counted_body_takes_no_more_than_its_own)
{
    size_t used;
    begin(HTTP_REQUEST, COUNTED);
    cr_assert_eq(feed("abc", &used), RESULT_MORE);
    cr_assert_eq(used, 3);
    cr_assert_eq(body.remaining_bytes, 2);
    cr_assert_eq(feed("", &used), RESULT_MORE);
    cr_assert_eq(feed("deGET", &used), RESULT_OK);
    cr_assert_eq(used, 2);
    cr_assert(body.done);
    cr_assert_eq(feed("GET", &used), RESULT_OK);
    cr_assert_eq(used, 0);
}

Test(http, a_body_that_is_cut_short_is_a_fault)
{
    size_t used;
    begin(HTTP_REQUEST, COUNTED);
    cr_assert_eq(feed("abcd", &used), RESULT_MORE);
    cr_assert_eq(http_body_end(&body), RESULT_PROTOCOL);
    cr_assert_eq(body.fault.status, 400);
    begin(HTTP_REQUEST, CHUNKED);
    cr_assert_eq(feed("1\r\na\r\n0\r\n\r", &used), RESULT_MORE);
    cr_assert_eq(http_body_end(&body), RESULT_PROTOCOL);
    begin(HTTP_RESPONSE, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
    cr_assert_eq(http_body_end(&body), RESULT_PROTOCOL);
    cr_assert_eq(body.fault.status, 502);
    begin(HTTP_RESPONSE, "HTTP/1.1 200 OK\r\n\r\n");
    cr_assert_eq(http_body_end(&body), RESULT_OK);
    begin(HTTP_REQUEST, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    cr_assert_eq(http_body_end(&body), RESULT_OK);
}

Test(http, a_refused_body_stays_refused)
{
    size_t used;
    begin(HTTP_REQUEST, CHUNKED);
    cr_assert_eq(feed("x", &used), RESULT_PROTOCOL);
    cr_assert_eq(feed("0\r\n\r\n", &used), RESULT_PROTOCOL);
    cr_assert_eq(used, 0);
    cr_assert_eq(http_body_end(&body), RESULT_PROTOCOL);
}

Test(http, trailers_are_kept_in_one_form)
{
    size_t used;
    begin(HTTP_REQUEST, CHUNKED);
    cr_assert_eq(feed("0\r\nX-A:b \t\r\nVia: dropped\r\nY:\r\nx_y: dropped\r\nZ: \t1 2\r\n\r\n", &used), RESULT_OK);
    cr_assert(bytes_equal((struct bytes){body.trailers, body.trailer_bytes}, BYTES("X-A: b\r\nY: \r\nZ: 1 2\r\n")));
    http_body_fini(&body);
    begin(HTTP_REQUEST, CHUNKED);
    cr_assert_eq(feed("0\r\nVia: dropped\r\n\r\n", &used), RESULT_OK);
    cr_assert_null(body.trailers);
    http_body_fini(&body);
}

Test(http, trailers_are_bounded)
{
    static char text[HTTP_TRAILER_BYTES_MAX + 64];
    size_t used;
    size_t length = (size_t)sprintf(text, "0\r\nX: ");
    memset(text + length, 'a', HTTP_TRAILER_BYTES_MAX);
    begin(HTTP_REQUEST, CHUNKED);
    cr_assert_eq(feed(text, &used), RESULT_LIMIT);
    cr_assert_eq(body.fault.status, 431);
    http_body_fini(&body);
}

Test(http, extensions_are_bounded_but_signed_chunks_pass)
{
    size_t used;
    enum result result = RESULT_MORE;
    begin(HTTP_REQUEST, CHUNKED);
    for (unsigned i = 0; i < 1000 && result == RESULT_MORE; i++) {
        result = feed("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\na\r\n", &used);
    }
    cr_assert_eq(result, RESULT_LIMIT);
    begin(HTTP_REQUEST, CHUNKED);
    for (unsigned i = 0; i < 10000; i++) {
        cr_assert_eq(feed("32;chunk-signature=0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\r\n"
                          "01234567890123456789012345678901234567890123456789\r\n",
                          &used),
                     RESULT_MORE);
    }
}

Test(http, chunk_heads_are_shortest_hexadecimal)
{
    static const struct {
        uint64_t bytes;
        const char *text;
    } cases[] = {{1, "1\r\n"},
                 {9, "9\r\n"},
                 {10, "a\r\n"},
                 {15, "f\r\n"},
                 {16, "10\r\n"},
                 {255, "ff\r\n"},
                 {256, "100\r\n"},
                 {16384, "4000\r\n"},
                 {UINT64_C(0x100000000), "100000000\r\n"},
                 {UINT64_MAX, "ffffffffffffffff\r\n"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[HTTP_CHUNK_HEAD_BYTES_MAX];
        size_t length = http_put_chunk_head(out, cases[i].bytes);
        cr_assert(bytes_equal((struct bytes){out, length}, bytes_from(cases[i].text)), "%s", cases[i].text);
    }
}
