#include "http/sse.h"

#include <criterion/criterion.h>

struct stream {
    const char *text;
    unsigned events;
    bool at_boundary;
    bool terminal;
};

static const struct stream STREAMS[] = {
    {"", 0, true, false},
    {"data: a\n\n", 1, true, false},
    {"data: a\r\n\r\n", 1, true, false},
    {"data: a\r\r", 1, true, false},
    {"data: a\n\r\n", 1, true, false},
    {"data: a\n", 0, false, false},
    {"data: a", 0, false, false},
    {"data: a\r\n\r", 1, true, false},
    {"data: a\n\ndata: b\ndata: c\n\nx", 2, false, false},
    {": ping\n\n", 0, true, false},
    {"\n\n\n", 0, true, false},
    {"data\n\n", 1, true, false},
    {"data:\n\n", 1, true, false},
    {"datax: a\n\n", 0, true, false},
    {"event: x\n\n", 0, true, false},
    {"id: 1\nevent: x\ndata: a\n\n", 1, true, false},
    {"data: a\n\ndata: [DONE]\n\n", 2, true, true},
    {"data: a\n\ndata:[DONE]\n\n", 2, true, true},
    {"data: [DONE]\r\n\r\n", 1, true, true},
    {"data: [DONE]\n", 0, false, true},
    {"data: [DONE]", 0, false, false},
    {"data: [DONE] \n\n", 1, true, false},
    {"data:  [DONE]\n\n", 1, true, false},
    {"data: \"[DONE]\"\n\n", 1, true, false},
    {": data: [DONE]\n\n", 0, true, false},
    {"data: {\"content\":\"[DONE]\"}\n\n", 1, true, false},
    {"data: {\"content\":\"data: [DONE]\\n\\n\"}\n\n", 1, true, false},
    {"event: response.completed\ndata: {}\n\n", 1, true, true},
    {"event: response.completed\ndata: {}\n", 0, false, false},
    {"event: response.completed\n\n", 0, true, false},
    {"event: response.completed.not\ndata: {}\n\n", 1, true, false},
    {"event:response.failed\r\ndata: {}\r\n\r\n", 1, true, true},
    {"data: {}\nevent: response.incomplete\n\n", 1, true, true},
    {"data: {\"type\":\"response.incomplete\",\"response\":{\"id\":\"0123456789012345678901234567890\"}}\n\n", 1, true,
     true},
    {"data: { \"type\" : \"message_stop\" }\n\n", 1, true, true},
    {"data: {\"type\":\"message_delta\"}\n\n", 1, true, false},
    {"data: {\"types\":\"message_stop\"}\n\n", 1, true, false},
    {"data: {\"type\":\"message_sto\n\n", 1, true, false},
    {"event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n", 1, true, true},
    {"\xef\xbb\xbf"
     "data: [DONE]\n\n",
     1, true, true},
    {"\n\xef\xbb\xbf"
     "data: [DONE]\n\n",
     0, true, false},
};

static void check(const struct sse_scanner *scanner, const struct stream *stream)
{
    cr_assert_eq(scanner->events, stream->events, "%s", stream->text);
    cr_assert_eq(scanner->at_boundary, stream->at_boundary, "%s", stream->text);
    cr_assert_eq(scanner->terminal, stream->terminal, "%s", stream->text);
}

Test(http, event_streams_are_followed_at_every_cut)
{
    for (size_t i = 0; i < sizeof(STREAMS) / sizeof(STREAMS[0]); i++) {
        struct bytes text = bytes_from(STREAMS[i].text);
        struct sse_scanner scanner;
        sse_scanner_init(&scanner);
        for (size_t at = 0; at < text.len; at++) {
            sse_scan(&scanner, (struct bytes){text.ptr + at, 1});
        }
        check(&scanner, &STREAMS[i]);
        for (size_t cut = 0; cut <= text.len; cut++) {
            sse_scanner_init(&scanner);
            sse_scan(&scanner, (struct bytes){text.ptr, cut});
            sse_scan(&scanner, (struct bytes){text.ptr + cut, text.len - cut});
            check(&scanner, &STREAMS[i]);
        }
    }
}
