#include "api/inference_capture.h"

#include <criterion/criterion.h>
#include <yyjson.h>

#include "base/check.h"

static struct inference_verdict judge_in(enum inference_family family, bool is_stream, struct bytes body, size_t first,
                                         size_t second, bool stores_calls)
{
    const struct inference_answer_head head = {
        .status = 200, .content_type = BYTES("application/json"), .is_event_stream = is_stream};
    struct inference_capture capture;
    inference_capture_init(&capture, family, stores_calls, &head);
    inference_capture_feed(&capture, (struct bytes){body.ptr, first});
    inference_capture_feed(&capture, (struct bytes){body.ptr + first, second - first});
    inference_capture_feed(&capture, (struct bytes){body.ptr + second, body.len - second});
    return inference_capture_end(&capture);
}

static struct inference_verdict judge(enum inference_family family, bool is_stream, const char *body)
{
    return judge_in(family, is_stream, bytes_from(body), strlen(body), strlen(body), false);
}

#define CHUNK(choices) "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[" choices "]}\n\n"
#define ROLE           CHUNK("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}")
#define WORD           CHUNK("{\"index\":0,\"delta\":{\"content\":\"\\\"choices\\\":[{\"},\"finish_reason\":null}")
#define STOP           CHUNK("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}")
#define USAGE                                                                                             \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":46,\"completion_tokens\":34," \
    "\"prompt_tokens_details\":{\"cached_tokens\":5}}}\n\n"
#define DONE "data: [DONE]\n\n"

struct sample {
    enum inference_family family;
    bool is_stream;
    const char *body;
    enum inference_reason reason;
};

static const struct sample samples[] = {
    /* streams */
    {INFERENCE_CHAT, true, ROLE WORD STOP DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, ROLE WORD STOP USAGE DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, ": ping\n\n" ROLE ":\n\n" STOP "retry: 5\n\n" DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, "\xef\xbb\xbf" ROLE STOP DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, ROLE STOP "data:[DONE]\r\n\r\n", INFERENCE_OK},
    {INFERENCE_CHAT, true,
     "data: {\"choices\":\rdata:[{\"index\":0,\r\ndata\ndata: \"finish_reason\":\"length\"}]}\r\r" DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n" DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, ROLE CHUNK("{\"finish_reason\":\"stop\",\"delta\":{},\"index\":0}") DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, CHUNK("") ROLE STOP DONE, INFERENCE_OK},
    {INFERENCE_CHAT, true, "", INFERENCE_NO_END},
    {INFERENCE_CHAT, true, ROLE WORD STOP, INFERENCE_NO_END},
    {INFERENCE_CHAT, true, ROLE WORD STOP "data: [DONE]\n", INFERENCE_NO_END},
    {INFERENCE_CHAT, true, ROLE WORD STOP "data: [DONE]", INFERENCE_NO_END},
    {INFERENCE_CHAT, true, ROLE WORD STOP DONE "x", INFERENCE_NO_END},
    {INFERENCE_CHAT, true, DONE, INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, true, ROLE WORD DONE, INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, true, ROLE CHUNK("{\"index\":0,\"finish_reason\":\"\"}") DONE, INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, true, ROLE STOP CHUNK("{\"index\":1,\"delta\":{\"content\":\"b\"}}") DONE, INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, true, ROLE STOP DONE ROLE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, ROLE "data: {\"choices\":[\n\n" STOP DONE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, ROLE "data: 7\n\n" STOP DONE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, ROLE "data: []\n\n" STOP DONE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, ROLE "data\n\n" STOP DONE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, CHUNK("7") STOP DONE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":-1}") STOP DONE, INFERENCE_MALFORMED},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":512,\"finish_reason\":\"stop\"}") STOP DONE, INFERENCE_TOO_MANY_CHOICES},
    {INFERENCE_CHAT, true, ROLE "data: {\"error\":{\"message\":\"oh\"}}\n\n" STOP DONE, INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, true, ROLE "error: {\"message\":\"oh\"}\n\n" STOP DONE, INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, true, ROLE "event: error\ndata: {\"message\":\"oh\"}\n\n" STOP DONE, INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":0,\"error\":{\"code\":1},\"finish_reason\":\"stop\"}") DONE,
     INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, true, ROLE CHUNK("{\"index\":0,\"finish_reason\":\"abort\"}") DONE, INFERENCE_FINISHED_BADLY},
    {INFERENCE_CHAT, true, ROLE CHUNK("{\"index\":0,\"finish_reason\":\"error\"}") DONE, INFERENCE_FINISHED_BADLY},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":0,\"finish_reason\":\"content_filter\"}") DONE, INFERENCE_FINISHED_BADLY},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0}]}}") STOP DONE,
     INFERENCE_TOOL_CALLS},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"f\"}}}") STOP DONE,
     INFERENCE_TOOL_CALLS},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":0,\"finish_reason\":\"tool_calls\"}") DONE, INFERENCE_TOOL_CALLS},
    {INFERENCE_CHAT, true, CHUNK("{\"index\":0,\"delta\":{\"tool_calls\":[],\"function_call\":null}}") STOP DONE,
     INFERENCE_OK},
    {INFERENCE_COMPLETIONS, true,
     "data: {\"choices\":[{\"index\":1,\"text\":\"a\",\"finish_reason\":\"length\"},{\"index\":0,\"text\":\"b\","
     "\"finish_reason\":\"stop\"}],\"error\":null}\n\n" DONE,
     INFERENCE_OK},
    {INFERENCE_EMBEDDINGS, true, STOP DONE, INFERENCE_CONTENT_TYPE},
    /* whole answers */
    {INFERENCE_CHAT, false,
     " {\"id\":\"c\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"\\ud83d\\n\","
     "\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":12,"
     "\"completion_tokens\":34}}\n",
     INFERENCE_OK},
    {INFERENCE_CHAT, false, "{\"choices\":[{\"finish_reason\":\"stop\"},{\"finish_reason\":\"stop\"}]}", INFERENCE_OK},
    {INFERENCE_CHAT, false, "{\"choices\":[{\"finish_reason\":\"stop\"},{\"finish_reason\":null}]}",
     INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, false, "{\"choices\":[]}", INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, false, "{}", INFERENCE_TRUNCATED},
    {INFERENCE_CHAT, false, "", INFERENCE_MALFORMED},
    {INFERENCE_CHAT, false, "[]", INFERENCE_MALFORMED},
    {INFERENCE_CHAT, false, "\"choices\"", INFERENCE_MALFORMED},
    {INFERENCE_CHAT, false, "{\"choices\":[{\"finish_reason\":\"stop\"}]", INFERENCE_MALFORMED},
    {INFERENCE_CHAT, false, "{\"choices\":[{\"finish_reason\":\"stop\"}]}}", INFERENCE_MALFORMED},
    {INFERENCE_CHAT, false, "<html>", INFERENCE_MALFORMED},
    {INFERENCE_CHAT, false, "{\"error\":{\"message\":\"no\"},\"choices\":[]}", INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, false, "{\"error\":\"no\"}", INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, false, "{\"object\":\"error\",\"message\":\"no\"}", INFERENCE_ERROR_IN_BODY},
    {INFERENCE_CHAT, false, "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"tool_calls\":[{}]}}]}",
     INFERENCE_TOOL_CALLS},
    {INFERENCE_EMBEDDINGS, false, "{\"data\":[{\"embedding\":[0.1,-1e-9]}],\"usage\":{\"prompt_tokens\":3}}",
     INFERENCE_OK},
    {INFERENCE_RERANK, false, "{\"results\":[{\"error\":1}],\"error\":\"\"}", INFERENCE_OK},
    {INFERENCE_SCORE, false, "{\"error\":{}}", INFERENCE_ERROR_IN_BODY},
    {INFERENCE_SCORE, false, "{\"data\":[]}", INFERENCE_OK},
    {INFERENCE_EMBEDDINGS, false, "{\"message\":\"busy\"}", INFERENCE_TRUNCATED},
    {INFERENCE_EMBEDDINGS, false, "{\"data\":{\"data\":[]}}", INFERENCE_TRUNCATED},
    {INFERENCE_FAMILY_NONE, false, "{}", INFERENCE_UNKNOWN_FAMILY},
    /* the Responses API */
    {INFERENCE_RESPONSES, false,
     "{\"status\":\"completed\",\"error\":null,\"output\":[{\"type\":\"reasoning\"},{\"type\":\"message\"}],"
     "\"usage\":{\"input_tokens\":12,\"output_tokens\":34}}",
     INFERENCE_OK},
    {INFERENCE_RESPONSES, false, "{\"status\":\"incomplete\",\"output\":[]}", INFERENCE_TRUNCATED},
    {INFERENCE_RESPONSES, false, "{\"status\":\"failed\",\"output\":[]}", INFERENCE_ERROR_IN_BODY},
    {INFERENCE_RESPONSES, false, "{\"status\":\"completed\",\"output\":[{\"type\":\"function_call\"}]}",
     INFERENCE_TOOL_CALLS},
    {INFERENCE_RESPONSES, true,
     "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\","
     "\"output\":[]}}\n\nevent: response.completed\ndata: {\"sequence_number\":2,\"type\":\"response.completed\","
     "\"response\":{\"status\":\"completed\",\"output\":[{\"type\":\"message\"}],\"usage\":{\"input_tokens\":12,"
     "\"output_tokens\":34}}}\n\n",
     INFERENCE_OK},
    {INFERENCE_RESPONSES, true, "data: {\"type\":\"response.completed\",\"response\":{}}\n\n" DONE,
     INFERENCE_TRUNCATED},
    {INFERENCE_RESPONSES, true,
     "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n" DONE, INFERENCE_OK},
    {INFERENCE_RESPONSES, true, "data: {\"type\":\"response.created\"}\n\n" DONE, INFERENCE_NO_END},
    {INFERENCE_RESPONSES, true, "data: {\"type\":\"response.failed\",\"response\":{}}\n\n", INFERENCE_ERROR_IN_BODY},
    {INFERENCE_RESPONSES, true, "data: {\"type\":\"response.incomplete\",\"response\":{}}\n\n", INFERENCE_TRUNCATED},
    {INFERENCE_RESPONSES, true, "data: {\"type\":\"error\"}\n\n", INFERENCE_ERROR_IN_BODY},
};

Test(inference_capture, finds_what_speaks_against_storing)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        const struct sample *s = &samples[i];
        struct inference_verdict verdict = judge(s->family, s->is_stream, s->body);
        cr_expect_eq(verdict.reason, s->reason, "%s: %s", s->body, inference_reason_name(verdict.reason));
        cr_expect_eq(verdict.form != INFERENCE_FORM_NONE, s->reason == INFERENCE_OK);
    }
}

Test(inference_capture, judges_the_same_however_the_bytes_are_cut)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        const struct sample *s = &samples[i];
        struct bytes body = bytes_from(s->body);
        struct inference_verdict whole = judge(s->family, s->is_stream, s->body);
        for (size_t first = 0; first <= body.len; first++) {
            for (size_t step = 0; step < 3; step++) {
                size_t second = first + step < body.len ? first + step : body.len;
                struct inference_verdict cut = judge_in(s->family, s->is_stream, body, first, second, false);
                cr_assert_eq(cut.reason, whole.reason, "%s cut at %zu and %zu", s->body, first, second);
                cr_assert_eq(cut.form, whole.form);
                cr_assert_eq(cut.prompt_tokens, whole.prompt_tokens);
                cr_assert_eq(cut.completion_tokens, whole.completion_tokens);
            }
        }
    }
}

Test(inference_capture, refuses_every_part_of_an_answer)
{
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        const struct sample *s = &samples[i];
        size_t length = strlen(s->body);
        if (length > 1 && (s->body[length - 2] == '\r' || !s->is_stream)) {
            length--; /* a CR ends the line already, and white space behind JSON is no part of it */
        }
        for (size_t part = 0; s->reason == INFERENCE_OK && s->family != INFERENCE_RESPONSES && part < length; part++) {
            struct inference_verdict verdict =
                judge_in(s->family, s->is_stream, (struct bytes){s->body, part}, part, part, false);
            cr_assert_neq(verdict.reason, INFERENCE_OK, "%.*s", (int)part, s->body);
        }
    }
}

Test(inference_capture, tells_the_form_and_what_was_used)
{
    struct inference_verdict verdict = judge(INFERENCE_CHAT, true, ROLE WORD STOP USAGE DONE);
    cr_assert_eq(verdict.form, INFERENCE_FORM_STREAM_WITH_USAGE);
    cr_assert(verdict.has_usage && verdict.prompt_tokens == 12 && verdict.completion_tokens == 34);
    verdict = judge(INFERENCE_CHAT, true, ROLE "data: {\"usage\":null,\"choices\":[]}\n\n" STOP DONE);
    cr_assert_eq(verdict.form, INFERENCE_FORM_STREAM);
    cr_assert(!verdict.has_usage);
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        if (strstr(samples[i].body, "tokens\":12,") != NULL) {
            verdict = judge(samples[i].family, samples[i].is_stream, samples[i].body);
            cr_expect(verdict.has_usage && verdict.prompt_tokens == 12 && verdict.completion_tokens == 34, "%s",
                      samples[i].body);
        }
    }
}

Test(inference_capture, stores_tool_calls_when_told_to)
{
    struct bytes body = BYTES(ROLE CHUNK("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0}]}}")
                                  CHUNK("{\"index\":0,\"finish_reason\":\"tool_calls\"}") DONE);
    cr_assert_eq(judge_in(INFERENCE_CHAT, true, body, 0, 0, true).reason, INFERENCE_OK);
    cr_assert_eq(judge_in(INFERENCE_CHAT, true, body, 0, 0, false).reason, INFERENCE_TOOL_CALLS);
}

Test(inference_capture, looks_at_the_head_first)
{
    static const struct {
        struct inference_answer_head head;
        enum inference_reason reason;
    } cases[] = {
        {{.status = 200, .content_type = BYTES("application/json")}, INFERENCE_OK},
        {{.status = 200, .content_type = BYTES("Application/JSON ; charset=utf-8")}, INFERENCE_OK},
        {{.status = 200, .is_event_stream = true}, INFERENCE_OK},
        {{.status = 201, .content_type = BYTES("application/json")}, INFERENCE_STATUS},
        {{.status = 400, .content_type = BYTES("application/json")}, INFERENCE_STATUS},
        {{.status = 503, .is_event_stream = true}, INFERENCE_STATUS},
        {{.status = 200, .content_type = BYTES("text/html")}, INFERENCE_CONTENT_TYPE},
        {{.status = 200}, INFERENCE_CONTENT_TYPE},
        {{.status = 200, .content_type = BYTES("application/json"), .has_content_coding = true},
         INFERENCE_CONTENT_TYPE},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct inference_capture capture;
        inference_capture_init(&capture, INFERENCE_CHAT, false, &cases[i].head);
        cr_expect_eq(inference_capture_reason(&capture), cases[i].reason, "%zu", i);
    }
}

/* ---- the scanner underneath ---- */

static void ignore(void *context, uint8_t place, enum json_scan_event event, struct bytes text)
{
    (void)place;
    (void)event;
    (void)text;
    *(unsigned *)context += 1;
}

static bool scans(struct bytes json, size_t cut)
{
    static const struct json_step steps[] = {{JSON_SCAN_ROOT, 2, BYTES("a")}, {2, 3, BYTES_NONE}, {0, 0, BYTES_NONE}};
    struct json_scan scan;
    unsigned told = 0;
    json_scan_init(&scan, steps);
    (void)json_scan_feed(&scan, (struct bytes){json.ptr, cut}, ignore, &told);
    (void)json_scan_feed(&scan, (struct bytes){json.ptr + cut, json.len - cut}, ignore, &told);
    return json_scan_end(&scan, ignore, &told);
}

Test(inference_capture, knows_json_as_a_reader_of_it_does)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "-",
        "00",
        "01",
        "1.",
        "1.5",
        ".5",
        "1e",
        "1e+",
        "1e+5",
        "1E-05",
        "1.0e5",
        "1.e5",
        "--1",
        "+1",
        "1-",
        "1e5.5",
        "123456789012345678901234567890123456789012345.5e10",
        "null",
        "nul",
        "nulll",
        "true",
        "false",
        "tru e",
        "True",
        "NaN",
        "\"\"",
        "\"a",
        "\"\\\"",
        "\"\\\"\"",
        "\"\\u12g4\"",
        "\"\\u12\"",
        "\"\\u0041\"",
        "\"\\x\"",
        "\"\t\"",
        "\"\\t\"",
        "[]",
        "[",
        "]",
        "[,]",
        "[1,]",
        "[1]",
        "[1 2]",
        "[1,2]",
        "[[[]]]",
        "[}",
        "{]",
        "{}",
        "{",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,\"b\":[{\"a\":null}]}",
        "{a:1}",
        "{1:1}",
        "{\"a\"::1}",
        "{\"a\":1}}",
        "{} {}",
        " {} ",
        "\n[ 1 , 2 ]\t",
        "",
        " ",
        "[\"a\",{\"b\":[true,false]}]",
        "[-1.5e-3,0,1]",
        "[0.5,]",
        "[1.5.5]",
        "[\"\\u00e9\xc3\xa9\"]",
        "/**/1",
        "'a'",
        "[1]x",
        "\xef\xbb\xbf{}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct bytes json = bytes_from(texts[i]);
        yyjson_doc *doc = yyjson_read(json.ptr, json.len, YYJSON_READ_NUMBER_AS_RAW);
        for (size_t cut = 0; cut <= json.len; cut++) {
            cr_expect_eq(scans(json, cut), doc != NULL, "%s cut at %zu", texts[i], cut);
        }
        yyjson_doc_free(doc);
    }
}

Test(inference_capture, has_a_bound_on_nesting)
{
    char text[JSON_SCAN_DEPTH_MAX * 2 + 4];
    for (size_t depth = JSON_SCAN_DEPTH_MAX - 1; depth <= JSON_SCAN_DEPTH_MAX + 1; depth++) {
        memset(text, '[', depth);
        memset(text + depth, ']', depth);
        cr_assert_eq(scans((struct bytes){text, depth * 2}, depth), depth <= JSON_SCAN_DEPTH_MAX);
    }
}
