#include "dialogue.h"

#include <criterion/criterion.h>

#define OK           "HTTP/1.1 200 OK\r\n"
#define CHUNKED      OK "Transfer-Encoding: chunked\r\n\r\n"
#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

Test(http, parser_refuses_bad_status_lines)
{
    static const struct message_case cases[] = {
        REFUSED(502, "not HTTP", "h"),
        REFUSED(502, "empty line in front", "\r"),
        REFUSED(502, "space in front", " "),
        REFUSED(502, "NUL", "\0"),
        REFUSED(502, "ICY", "I"),
        REFUSED(502, "a body where a head should be", "<"),
        REFUSED(502, "HTTPS", "HTTPS"),
        REFUSED(502, "HTTP/0.9", "HTTP/0.9 "),
        REFUSED(502, "HTTP/1.2", "HTTP/1.2"),
        REFUSED(502, "HTTP/2.0", "HTTP/2.0 "),
        REFUSED(502, "no minor version", "HTTP/1 "),
        REFUSED(502, "two digits of version", "HTTP/1.10"),
        REFUSED(502, "no status", "HTTP/1.1\r"),
        REFUSED(502, "two spaces before the status", "HTTP/1.1  "),
        REFUSED(502, "tab before the status", "HTTP/1.1\t"),
        REFUSED(502, "status of two digits", "HTTP/1.1 20 "),
        REFUSED(502, "status of four digits", "HTTP/1.1 2000"),
        REFUSED(502, "status in letters", "HTTP/1.1 OK"),
        REFUSED(502, "negative status", "HTTP/1.1 -"),
        REFUSED(502, "status 000", "HTTP/1.1 000 X\r\n\r\n"),
        REFUSED(502, "status 099", "HTTP/1.1 099 X\r\n\r\n"),
        REFUSED(502, "status 600", "HTTP/1.1 600 X\r\n\r\n"),
        REFUSED(502, "status 999", "HTTP/1.1 999 X\r\n\r\n"),
        REFUSED(502, "tab after the status", "HTTP/1.1 200\t"),
        REFUSED(502, "bare LF after the status", "HTTP/1.1 200\n"),
        REFUSED(502, "bare LF after the reason", "HTTP/1.1 200 OK\n"),
        REFUSED(502, "bare CR after the reason", "HTTP/1.1 200 OK\rX"),
        REFUSED(502, "CR CR after the reason", "HTTP/1.1 200 OK\r\rContent-Length: 0\r\n\r\n"),
        REFUSED(502, "CR CR after the status", "HTTP/1.1 200\r\rContent-Length: 0\r\n\r\n"),
        REFUSED(502, "NUL in the reason", "HTTP/1.1 200 O\0K\r\n\r\n"),
        REFUSED(502, "control byte in the reason", "HTTP/1.1 200 O\x01K\r\n\r\n"),
        REFUSED(502, "white space before the first field", OK " "),
    };
    dialogue_check_cases(HTTP_RESPONSE, cases, COUNT(cases));
}

Test(http, parser_refuses_responses_of_ambiguous_length)
{
    static const struct message_case cases[] = {
        REFUSED(502, "differing lengths", OK "Content-Length: 5\r\nContent-Length: 6"),
        REFUSED(502, "equal lengths", OK "Content-Length: 5\r\nContent-Length: 5"),
        REFUSED(502, "list of lengths", OK "Content-Length: 5, 5"),
        REFUSED(502, "signed length", OK "Content-Length: +5"),
        REFUSED(502, "negative length", OK "Content-Length: -5"),
        REFUSED(502, "hexadecimal length", OK "Content-Length: 0x5"),
        REFUSED(502, "empty length", OK "Content-Length:\r\n\r\n"),
        REFUSED(502, "length beyond 63 bits", OK "Content-Length: 9223372036854775808\r\n\r\n"),
        REFUSED(502, "length beyond 64 bits", OK "Content-Length: 99999999999999999999"),
        REFUSED(502, "CL.TE", OK "Content-Length: 5\r\nTransfer-Encoding:"),
        REFUSED(502, "TE.CL", OK "Transfer-Encoding: chunked\r\nContent-Length:"),
        REFUSED(502, "gzip", OK "Transfer-Encoding: gzip\r\n\r\n"),
        REFUSED(502, "gzip, chunked", OK "Transfer-Encoding: gzip, chunked\r\n\r\n"),
        REFUSED(502, "chunked, gzip", OK "Transfer-Encoding: chunked, gzip\r\n\r\n"),
        REFUSED(502, "chunked twice", OK "Transfer-Encoding: chunked, chunked\r\n\r\n"),
        REFUSED(502, "identity", OK "Transfer-Encoding: identity\r\n\r\n"),
        REFUSED(502, "xchunked", OK "Transfer-Encoding: xchunked\r\n\r\n"),
        REFUSED(502, "chunked and a tab", OK "Transfer-Encoding: chunked\t\r\n\r\n"),
        REFUSED(502, "TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        REFUSED(502, "bad lengths of a 304", "HTTP/1.1 304 X\r\nContent-Length: 1\r\nContent-Length: 2"),
        REFUSED(502, "space before the colon", OK "Content-Length "),
        REFUSED(502, "obs-fold", OK "X: a\r\n "),
        REFUSED(502, "bare LF", OK "X: a\n"),
        REFUSED(502, "bare CR", OK "X: a\rb"),
        REFUSED(502, "NUL in a value", OK "X: \0"),
        REFUSED(502, "empty name", OK ":"),
        REFUSED(502, "bad chunk size", CHUNKED "x"),
        REFUSED(502, "chunk size with a space", CHUNKED "5 "),
        REFUSED(502, "chunk size that overflows", CHUNKED "fffffffffffffffff"),
        REFUSED(502, "chunk that is too long", CHUNKED "5\r\nhello!"),
        REFUSED(502, "bare LF after a size", CHUNKED "5\n"),
        REFUSED(502, "Content-Length as a trailer", CHUNKED "0\r\nContent-Length: 5\r\n"),
        REFUSED(502, "folded trailer", CHUNKED "0\r\nX: y\r\n "),
    };
    dialogue_check_cases(HTTP_RESPONSE, cases, COUNT(cases));
}

Test(http, parser_accepts_legal_responses)
{
    static const struct message_case cases[] = {
        ACCEPTED("the least", "", OK "\r\n"),
        ACCEPTED("no reason", "", "HTTP/1.1 200 \r\n\r\n"),
        ACCEPTED("no reason and no space", "", "HTTP/1.1 200\r\n\r\n"),
        ACCEPTED("8-bit reason", "", "HTTP/1.1 200 \xc3\xa4\t\xff\r\n\r\n"),
        ACCEPTED("until close", "all of it", OK "\r\nall of it"),
        ACCEPTED("HTTP/1.0 until close", "all of it", "HTTP/1.0 200 OK\r\n\r\nall of it"),
        ACCEPTED("HTTP/1.0 counted", "abc", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabcX"),
        ACCEPTED("counted", "hello", OK "Content-Length: 5\r\n\r\nhelloHTTP/1.1"),
        ACCEPTED("counted 0", NULL, OK "Content-Length: 0\r\n\r\nHTTP/1.1"),
        ACCEPTED("chunked", "hello", CHUNKED "5\r\nhello\r\n0\r\n\r\nHTTP/1.1"),
        ACCEPTED("trailers", "hello", CHUNKED "5;x=y\r\nhello\r\n0\r\nX-Sum: 5\r\n\r\n"),
        ACCEPTED("events", "data: a\n\ndata: [DONE]\n\n",
                 OK "Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                    "9\r\ndata: a\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"),
        ACCEPTED("100", NULL, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200"),
        ACCEPTED("103", NULL, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        ACCEPTED("101", NULL, "HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nraw"),
        ACCEPTED("204", NULL, "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1"),
        ACCEPTED("204 with a length", NULL, "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        ACCEPTED("204 that says chunked", NULL, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"),
        ACCEPTED("304 with a length", NULL, "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\nHTTP"),
        ACCEPTED("599", NULL, "HTTP/1.1 599 X\r\nContent-Length: 0\r\n\r\n"),
        ACCEPTED("unknown status", "a", "HTTP/1.1 299 X\r\nContent-Length: 1\r\n\r\na"),
        ACCEPTED("two Hosts mean nothing here", NULL, OK "Host: a b\r\nHost: c\r\nContent-Length: 0\r\n\r\n"),
        ACCEPTED("underscore", NULL, OK "Content_Length: 9\r\nContent-Length: 0\r\n\r\n"),
        ACCEPTED("empty values", NULL, OK "X:\r\nContent-Length: 0\r\nY:\r\n\r\n"),
        ACCEPTED("repeated fields", NULL, OK "Set-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"),
        {.says = "HEAD, counted", .input = INPUT(OK "Content-Length: 5\r\n\r\nHTTP/1.1"), .to_head = true},
        {.says = "HEAD, chunked", .input = INPUT(OK "Transfer-Encoding: chunked\r\n\r\nHTTP/1.1"), .to_head = true},
        {.says = "HEAD, neither", .input = INPUT(OK "\r\nHTTP/1.1"), .to_head = true},
    };
    dialogue_check_cases(HTTP_RESPONSE, cases, COUNT(cases));
}

static const struct http_head *parse(const char *text, bool to_head)
{
    static struct http_parser parser;
    const struct http_limits limits = {8192, 2048, 64};
    http_parser_init(&parser, HTTP_RESPONSE, &limits);
    if (to_head) {
        http_parser_response_to_head(&parser);
    }
    cr_assert_eq(http_parse_head(&parser, text, strlen(text)), RESULT_OK, "%s", text);
    return &parser.head;
}

Test(http, a_response_says_whether_its_connection_goes_on)
{
    cr_assert(parse(OK "Content-Length: 0\r\n\r\n", false)->keep_alive);
    cr_assert(parse(CHUNKED, false)->keep_alive);
    cr_assert_not(parse(OK "\r\n", false)->keep_alive, "it ends with its connection");
    cr_assert(parse(OK "\r\n", true)->keep_alive, "to a HEAD there is no body to end");
    cr_assert_not(parse(OK "Content-Length: 0\r\nConnection: close\r\n\r\n", false)->keep_alive);
    cr_assert_not(parse("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false)->keep_alive);
    cr_assert(parse("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", false)->keep_alive);
    cr_assert(parse("HTTP/1.1 204 X\r\n\r\n", false)->keep_alive);
    cr_assert(parse("HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", false)->keep_alive);
    cr_assert_not(parse("HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", false)->keep_alive);
}

Test(http, a_response_to_head_keeps_the_length_it_names)
{
    const struct http_head *head = parse(OK "Content-Length: 77\r\n\r\n", true);
    cr_assert(head->has_content_length);
    cr_assert_eq(head->content_length, 77);
    cr_assert_eq(head->body, HTTP_BODY_NONE);
}

Test(http, a_response_beyond_a_limit_is_a_bad_gateway)
{
    static struct http_parser parser;
    const struct http_limits limits = {40, 10, 1};
    const char *text = OK "A: 1\r\nB: 2\r\n\r\n";
    http_parser_init(&parser, HTTP_RESPONSE, &limits);
    cr_assert_eq(http_parse_head(&parser, text, strlen(text)), RESULT_LIMIT);
    cr_assert_eq(parser.fault.status, 502);
    text = OK "A: 1234567890123456789012345\r\n\r\n";
    http_parser_init(&parser, HTTP_RESPONSE, &limits);
    cr_assert_eq(http_parse_head(&parser, text, strlen(text)), RESULT_LIMIT);
    cr_assert_eq(parser.fault.status, 502);
}
