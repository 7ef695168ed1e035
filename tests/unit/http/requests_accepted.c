/* Requests that must pass, legal oddities included, and what is read from them. */
#include "dialogue.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define H            "Host: a\r\n"
#define GET          "GET / HTTP/1.1\r\n"
#define POST         "POST / HTTP/1.1\r\n" H
#define CHUNKED      POST "Transfer-Encoding: chunked\r\n\r\n"
#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static const struct http_limits LIMITS = {8192, 2048, 64};

Test(http, parser_accepts_what_is_legal)
{
    static const struct message_case cases[] = {
        ACCEPTED("the least", NULL, GET H "\r\n"),
        ACCEPTED("HTTP/1.0 without Host", NULL, "GET / HTTP/1.0\r\n\r\n"),
        ACCEPTED("HTTP/1.0 with Host", NULL, "GET / HTTP/1.0\r\n" H "\r\n"),
        ACCEPTED("another request behind", NULL, GET H "\r\nGET /2 HTTP/1.1\r\n"),
        ACCEPTED("an empty line in front", NULL, "\r\n" GET H "\r\n"),
        ACCEPTED("four empty lines in front", NULL, "\r\n\r\n\r\n\r\n" GET H "\r\n"),
        ACCEPTED("empty value", NULL, GET H "X:\r\n\r\n"),
        ACCEPTED("empty value last but one", NULL, GET "X:\r\nY: \r\n" H "\r\n"),
        ACCEPTED("blank value", NULL, GET H "X: \t \r\n\r\n"),
        ACCEPTED("no space after the colon", NULL, GET "Host:a\r\n\r\n"),
        ACCEPTED("white space around a value", NULL, GET H "X: \t a b\tc \t\r\n\r\n"),
        ACCEPTED("obs-text", NULL, GET H "X: \xc3\xa4\xff\x80\r\n\r\n"),
        ACCEPTED("every token character", NULL, GET H "!#$%&'*+-.^`|~09AZaz: x\r\n\r\n"),
        ACCEPTED("underscore in a name", NULL, GET H "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n\r\n"),
        ACCEPTED("colons in a value", NULL, GET H "X: a:b::c\r\n\r\n"),
        ACCEPTED("names that begin like known ones", NULL,
                 GET H "Content-Lengthy: 5\r\nTransfer-Encodings: x\r\nConnectio: y\r\nC: z\r\nHosts: b\r\n\r\n"),
        ACCEPTED("PRI in a longer method's place", NULL, "PROPFIND / HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("PUT", "ab", "PUT / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\nab"),
        ACCEPTED("M-SEARCH", NULL, "M-SEARCH / HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("QUERY", "q", "QUERY / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nq"),
        ACCEPTED("OPTIONS *", NULL, "OPTIONS * HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("CONNECT", NULL, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n\x16\x03"),
        ACCEPTED("absolute form", NULL, "GET http://b:80/x?y HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("absolute form without a path", NULL, "GET http://b?y HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("query as browsers write it", NULL, "GET /a?f[x]={1}|^`\\100%&q='z' HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("escapes", NULL, "GET /%41%2f%C3%a4 HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("two slashes", NULL, "GET //x HTTP/1.1\r\n" H "\r\n"),
        ACCEPTED("Host with a port", NULL, GET "Host: a.b-c_d:65535\r\n\r\n"),
        ACCEPTED("Host with an empty port", NULL, GET "Host: a:\r\n\r\n"),
        ACCEPTED("Host of IPv6", NULL, GET "Host: [2001:db8::1]:80\r\n\r\n"),
        ACCEPTED("Host of IPv4 in IPv6", NULL, GET "Host: [::ffff:1.2.3.4]\r\n\r\n"),
        ACCEPTED("Host of a future address", NULL, GET "Host: [v1.a:b]\r\n\r\n"),
        ACCEPTED("Host with an escape", NULL, GET "Host: a%2Db:1\r\n\r\n"),
        ACCEPTED("Content-Length", "hello", POST "Content-Length: 5\r\n\r\nhelloGET"),
        ACCEPTED("Content-Length before spaces", "hello", POST "Content-Length:   5  \r\n\r\nhello"),
        ACCEPTED("Content-Length with zeros", "hello", POST "Content-Length: 0005\r\n\r\nhello"),
        ACCEPTED("Content-Length: 0", NULL, POST "Content-Length: 0\r\n\r\nGET"),
        ACCEPTED("a body for GET", "x", "GET / HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx"),
        ACCEPTED("chunked", "hello world", CHUNKED "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET"),
        ACCEPTED("chunked in odd letters", "a", POST "transfer-ENCODING:  Chunked \r\n\r\n1\r\na\r\n0\r\n\r\n"),
        ACCEPTED("chunked and nothing", NULL, CHUNKED "0\r\n\r\n"),
        ACCEPTED("sizes in both letters", "0123456789abcdef0123456789",
                 CHUNKED "A\r\n0123456789\r\n0010\r\nabcdef0123456789\r\n00\r\n\r\n"),
        ACCEPTED("extensions", "abc",
                 CHUNKED "1;a\r\na\r\n1;a=b;c=\"d;\\\"\xff \t\";e\r\nb\r\n1;x=\"\"\r\nc\r\n0;z\r\n\r\n"),
        ACCEPTED("data that looks like framing", "\r\n0\r\n\r\n", CHUNKED "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n"),
        ACCEPTED("trailers", "a", CHUNKED "1\r\na\r\n0\r\nX-Sum:abc \t\r\nY:\r\nz: \t q r\r\n\r\nGET"),
        ACCEPTED("trailers that are dropped", "a",
                 CHUNKED "1\r\na\r\n0\r\nSet-Cookie: a=b\r\nX_Y: 1\r\nVia: x\r\n\r\n"),
        ACCEPTED("Expect", "a", POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\na"),
        ACCEPTED("another expectation in HTTP/1.0", NULL, "POST / HTTP/1.0\r\nExpect: x\r\n\r\n"),
        ACCEPTED("Connection close before a tab", NULL, GET H "Connection: close\t\r\n\r\n"),
        ACCEPTED("odd Connection lists", NULL, GET H "Connection: ,, close ,\t,x\r\nX: y\r\n\r\n"),
        ACCEPTED("Upgrade", NULL, GET H "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nraw"),
        ACCEPTED("Upgrade with a body", "ab",
                 POST "Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
    };
    dialogue_check_cases(HTTP_REQUEST, cases, COUNT(cases));
}

/* One head at a time, as the tests below want it. */
static struct http_parser parsed;

static const struct http_head *parse(const char *text)
{
    http_parser_init(&parsed, HTTP_REQUEST, &LIMITS);
    enum result result = http_parse_head(&parsed, text, strlen(text));
    cr_assert_eq(result, RESULT_OK, "%s: %s", text, parsed.fault.message);
    return &parsed.head;
}

static bool goes_on(const char *text, const char *name)
{
    const struct http_head *head = parse(text);
    for (unsigned i = 0; i < head->field_count; i++) {
        if (bytes_equal_nocase(http_field_name(&head->fields[i], text), bytes_from(name))) {
            return !head->fields[i].drop;
        }
    }
    cr_assert_fail("no field %s", name);
    return false;
}

Test(http, parser_says_where_everything_lies)
{
    const char *text = "\r\nPOST /p?q HTTP/1.1\r\nHost:  a \r\nX:\r\nhost_: b\r\n\r\nrest";
    const struct http_head *head = parse(text);
    cr_assert(bytes_equal(http_head_method(head, text), BYTES("POST")));
    cr_assert(bytes_equal(http_head_target(head, text), BYTES("/p?q")));
    cr_assert(bytes_equal(http_head_value(head, text, HTTP_FIELD_HOST), BYTES("a")));
    cr_assert_null(http_head_value(head, text, HTTP_FIELD_CONTENT_LENGTH).ptr);
    cr_assert(bytes_equal(http_head_find(head, text, BYTES("HOST_")), BYTES("b")));
    cr_assert_eq(http_head_find(head, text, BYTES("x")).len, 0);
    cr_assert_not_null(http_head_find(head, text, BYTES("x")).ptr);
    cr_assert_null(http_head_find(head, text, BYTES("y")).ptr);
    cr_assert_eq(head->method, HTTP_POST);
    cr_assert_eq(head->field_count, 3);
    cr_assert_eq(head->dropped_count, 1);
    cr_assert_str_eq(text + head->head_bytes, "rest");
}

Test(http, keep_alive_follows_version_and_connection)
{
    cr_assert(parse(GET H "\r\n")->keep_alive);
    cr_assert_not(parse(GET H "Connection: close\r\n\r\n")->keep_alive);
    cr_assert_not(parse(GET H "Connection: keep-alive\r\nConnection: x, CLOSE\r\n\r\n")->keep_alive);
    cr_assert_not(parse("GET / HTTP/1.0\r\n\r\n")->keep_alive);
    cr_assert(parse("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")->keep_alive);
    cr_assert_not(parse("GET / HTTP/1.0\r\nProxy-Connection: keep-alive\r\n\r\n")->keep_alive);
    cr_assert_not(parse("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n")->keep_alive);
}

Test(http, upgrade_needs_both_fields_and_http_1_1)
{
    cr_assert(parse(GET H "Connection: x, Upgrade\r\nUpgrade: websocket\r\n\r\n")->upgrade);
    cr_assert_not(parse(GET H "Connection: Upgrade\r\n\r\n")->upgrade);
    cr_assert_not(parse(GET H "Upgrade: websocket\r\n\r\n")->upgrade);
    cr_assert_not(parse("GET / HTTP/1.0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")->upgrade);
}

Test(http, expect_waits_only_for_a_body)
{
    cr_assert(parse(POST "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n")->expect_continue);
    cr_assert(parse(POST "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n")->expect_continue);
    cr_assert_not(parse(GET H "Expect: 100-continue\r\n\r\n")->expect_continue);
    cr_assert_not(parse("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n")->expect_continue);
}

Test(http, hop_by_hop_and_nominated_fields_are_dropped)
{
    static const char *const hop_by_hop[] = {"Connection: x",        "Keep-Alive: 5", "Proxy-Connection: x",
                                             "TE: trailers",         "Upgrade: x",    "Proxy-Authorization: x",
                                             "Proxy-Authenticate: x"};
    char text[256];
    char name[64];
    for (size_t i = 0; i < COUNT(hop_by_hop); i++) {
        snprintf(text, sizeof(text), GET H "%s\r\n\r\n", hop_by_hop[i]);
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(hop_by_hop[i], ":"), hop_by_hop[i]);
        cr_assert_not(goes_on(text, name), "%s", name);
    }
    cr_assert(goes_on(GET H "Trailer: X\r\n\r\n", "Trailer"));
    cr_assert_not(goes_on(GET H "Content_Length: 5\r\n\r\n", "content_length"));
    cr_assert_not(goes_on(GET H "X-Foo: 1\r\nConnection: close, x-fOO\r\n\r\n", "X-Foo"));
    cr_assert_not(goes_on(GET H "Connection: X-Foo\r\nX-Foo: 1\r\n\r\n", "X-Foo"));
    cr_assert(goes_on(GET H "Connection: X-Fo\r\nX-Foo: 1\r\n\r\n", "X-Foo"));
    const struct http_head *head = parse(GET H "Connection: a, a, close\r\nA: 1\r\nB: 2\r\na: 3\r\n\r\n");
    cr_assert_eq(head->dropped_count, 3);
}

Test(http, nominating_a_field_for_everyone_does_not_remove_it)
{
    static const char *const kept[] = {
        "Host: a",          "Content-Length: 0",  "Content-Type: x",     "Authorization: x",
        "Cache-Control: x", "X-Forwarded-For: x", "Content-Encoding: x", "X-Api-Key: x"};
    char text[256];
    char name[64];
    for (size_t i = 0; i < COUNT(kept); i++) {
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(kept[i], ":"), kept[i]);
        snprintf(text, sizeof(text), "GET / HTTP/1.0\r\n%s\r\nConnection: %s\r\n\r\n", kept[i], name);
        cr_assert(goes_on(text, name), "%s", name);
    }
}

Test(http, every_byte_is_allowed_or_refused_in_names_and_values)
{
    for (unsigned c = 0; c < 256; c++) {
        char text[64] = GET H "Xq: vq\r\n\r\n";
        size_t length = strlen(text);
        size_t name_at = strlen(GET H) + 1;
        bool token = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                     (c != 0 && strchr("!#$%&'*+-.^_`|~", (int)c) != NULL);
        bool plain = c == '\t' || (c >= ' ' && c != 0x7f);
        text[name_at] = (char)c;
        http_parser_init(&parsed, HTTP_REQUEST, &LIMITS);
        /* A colon ends the name sooner. */
        cr_assert_eq(http_parse_head(&parsed, text, length) == RESULT_OK, token || c == ':', "name %u", c);
        text[name_at] = 'q';
        text[name_at + 4] = (char)c;
        http_parser_init(&parsed, HTTP_REQUEST, &LIMITS);
        cr_assert_eq(http_parse_head(&parsed, text, length) == RESULT_OK, plain, "value %u", c);
    }
}

/* The least arrival that is refused, and how; nothing behind it is looked at. */
static void check_refused_at(const struct http_limits *limits, const char *text, size_t at, unsigned status)
{
    http_parser_init(&parsed, HTTP_REQUEST, limits);
    cr_assert_eq(http_parse_head(&parsed, text, at - 1), RESULT_MORE);
    cr_assert_eq(http_parse_head(&parsed, text, at), RESULT_LIMIT);
    cr_assert_eq(parsed.fault.status, status);
    cr_assert_eq(http_parse_head(&parsed, text, strlen(text)), RESULT_LIMIT, "a refusal stays one");
    http_parser_init(&parsed, HTTP_REQUEST, limits);
    cr_assert_eq(http_parse_head(&parsed, text, strlen(text)), RESULT_LIMIT);
    cr_assert_eq(parsed.fault.status, status);
}

Test(http, limits_are_met_before_the_head_is_complete)
{
    const char *text = "GET /0123456789 HTTP/1.1\r\nHost: a\r\nX: 1\r\nY: 2\r\n\r\n";
    size_t all = strlen(text);
    check_refused_at(&(struct http_limits){all, 10, 10}, text, 4 + 11, 414);
    check_refused_at(&(struct http_limits){all - 1, 100, 10}, text, all - 1, 431);
    check_refused_at(&(struct http_limits){9, 100, 10}, text, 9, 414);
    check_refused_at(&(struct http_limits){2, 100, 10}, text, 2, 431);
    check_refused_at(&(struct http_limits){all, 100, 2}, text, all - 1, 431);
    http_parser_init(&parsed, HTTP_REQUEST, &(struct http_limits){all, 11, 3});
    cr_assert_eq(http_parse_head(&parsed, text, all), RESULT_OK);
}

Test(http, a_target_that_is_too_long_is_just_that_whatever_stands_behind)
{
    const struct dialogue dialogue = {HTTP_REQUEST, false, {8192, 10, 64}};
    struct bytes text = BYTES("GET /0123456789ab\x01");
    http_parser_init(&parsed, HTTP_REQUEST, &dialogue.limits);
    cr_assert_eq(http_parse_head(&parsed, text.ptr, text.len), RESULT_LIMIT);
    cr_assert_eq(parsed.fault.status, 414);
    dialogue_check_cuts(&dialogue, text, "too long, then bad");
    dialogue_check_cuts(&dialogue, BYTES("GET /01<3456789ab\x01"), "bad, then too long");
}

Test(http, limits_beyond_what_a_parser_holds_are_cut_down)
{
    static char text[16384];
    size_t length = (size_t)sprintf(text, GET H);
    for (unsigned i = 1; i < HTTP_FIELDS_MAX; i++) {
        length += (size_t)sprintf(text + length, "X-%u: v\r\n", i);
    }
    memcpy(text + length, "\r\n", 2);
    const struct http_limits limits = {UINT32_MAX, UINT32_MAX, UINT16_MAX};
    http_parser_init(&parsed, HTTP_REQUEST, &limits);
    cr_assert_eq(http_parse_head(&parsed, text, length + 2), RESULT_OK);
    cr_assert_eq(parsed.head.field_count, HTTP_FIELDS_MAX);
    memcpy(text + length, "X: v\r\n\r\n", 8);
    http_parser_init(&parsed, HTTP_REQUEST, &limits);
    cr_assert_eq(http_parse_head(&parsed, text, length + 8), RESULT_LIMIT);
    cr_assert_eq(parsed.fault.status, 431);
}

Test(http, connection_options_are_bounded)
{
    static char text[4096];
    size_t length = (size_t)sprintf(text, GET H "Connection: a");
    for (unsigned i = 0; i < 40; i++) {
        length += (size_t)sprintf(text + length, ",a");
    }
    sprintf(text + length, "\r\n\r\n");
    http_parser_init(&parsed, HTTP_REQUEST, &LIMITS);
    cr_assert_eq(http_parse_head(&parsed, text, strlen(text)), RESULT_PROTOCOL);
    cr_assert_eq(parsed.fault.status, 400);
}

/* A head written again from what was read reads the same. */
Test(http, a_serialised_head_reads_the_same)
{
    const char *text = "PUT /x HTTP/1.1\r\nhost:a\r\nX:  1 2 \r\nContent-length: 3\r\nEmpty:\r\n\r\n";
    char again[512];
    const struct http_head *head = parse(text);
    size_t at = (size_t)sprintf(again, "%.*s %.*s HTTP/1.1\r\n", BYTES_ARG(http_head_method(head, text)),
                                BYTES_ARG(http_head_target(head, text)));
    for (unsigned i = 0; i < head->field_count; i++) {
        at += (size_t)sprintf(again + at, "%.*s: %.*s\r\n", BYTES_ARG(http_field_name(&head->fields[i], text)),
                              BYTES_ARG(http_field_value(&head->fields[i], text)));
    }
    sprintf(again + at, "\r\n");
    cr_assert_str_eq(again, "PUT /x HTTP/1.1\r\nhost: a\r\nX: 1 2\r\nContent-length: 3\r\nEmpty: \r\n\r\n");
    head = parse(again);
    cr_assert_eq(head->content_length, 3);
    cr_assert_eq(head->field_count, 4);
}
