#include "api/inference_replay.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <yyjson.h>

#include "api/json_buffer.h"
#include "base/check.h"

/* ---- comparing JSON ---- */

/* Equal but for the order of members; numbers as they are written. */
static bool equal(yyjson_val *a, yyjson_val *b)
{
    if (yyjson_get_type(a) != yyjson_get_type(b)) {
        return false;
    }
    if (yyjson_is_obj(a)) {
        size_t i;
        size_t count;
        yyjson_val *name;
        yyjson_val *value;
        bool all = yyjson_obj_size(a) == yyjson_obj_size(b);
        yyjson_obj_foreach(a, i, count, name, value)
        {
            yyjson_val *other = yyjson_obj_getn(b, yyjson_get_str(name), yyjson_get_len(name));
            all = all && other != NULL && equal(value, other);
        }
        return all;
    }
    if (yyjson_is_arr(a)) {
        bool all = yyjson_arr_size(a) == yyjson_arr_size(b);
        for (size_t i = 0; all && i < yyjson_arr_size(a); i++) {
            all = equal(yyjson_arr_get(a, i), yyjson_arr_get(b, i));
        }
        return all;
    }
    return yyjson_equals(a, b);
}

static bool equal_json(struct bytes a, struct bytes b)
{
    yyjson_doc *one = yyjson_read(a.ptr, a.len, YYJSON_READ_NUMBER_AS_RAW);
    yyjson_doc *two = yyjson_read(b.ptr, b.len, YYJSON_READ_NUMBER_AS_RAW);
    bool same = one != NULL && two != NULL && equal(yyjson_doc_get_root(one), yyjson_doc_get_root(two));
    yyjson_doc_free(one);
    yyjson_doc_free(two);
    return same;
}

static struct bytes convert(enum inference_family family, enum inference_form form, bool stream, bool usage,
                            struct bytes stored)
{
    struct bytes out = BYTES_NONE;
    cr_assert_eq(inference_can_serve(family, form, stream, usage), INFERENCE_REPLAY_CONVERTED);
    enum result result = inference_convert(family, form, stream, usage, stored, &out);
    cr_assert_eq(result, RESULT_OK, "%s: %.*s", result_name(result), BYTES_ARG(stored));
    return out;
}

static void drop(struct bytes bytes)
{
    free((char *)(uintptr_t)bytes.ptr);
}

static void expect_json(enum inference_family family, const char *stream, const char *json)
{
    struct bytes out = convert(family, INFERENCE_FORM_STREAM_WITH_USAGE, false, false, bytes_from(stream));
    cr_expect(equal_json(out, bytes_from(json)), "%.*s\nis not\n%s", BYTES_ARG(out), json);
    drop(out);
}

/* The stream that a JSON answer becomes, put together again, is that answer. */
static void expect_round_trip(enum inference_family family, struct bytes json)
{
    struct bytes stream = convert(family, INFERENCE_FORM_JSON, true, true, json);
    struct bytes back = convert(family, INFERENCE_FORM_STREAM_WITH_USAGE, false, false, stream);
    cr_expect(equal_json(back, json), "%.*s\nis not\n%.*s\nby way of\n%.*s", BYTES_ARG(back), BYTES_ARG(json),
              BYTES_ARG(stream));
    const struct inference_answer_head head = {.status = 200, .is_event_stream = true};
    struct inference_capture capture;
    inference_capture_init(&capture, family, true, &head);
    inference_capture_feed(&capture, stream);
    cr_expect_eq(inference_capture_end(&capture).form, INFERENCE_FORM_STREAM_WITH_USAGE, "%.*s", BYTES_ARG(stream));
    drop(stream);
    drop(back);
}

/* ---- what can be served ---- */

Test(inference_replay, serves_each_client_as_the_table_says)
{
    enum { NO = INFERENCE_REPLAY_IMPOSSIBLE, AS_IS = INFERENCE_REPLAY_AS_IS, TO = INFERENCE_REPLAY_CONVERTED };
    static const struct {
        enum inference_family family;
        enum inference_form form;
        int json;
        int stream;
        int with_usage;
    } rows[] = {
        {INFERENCE_CHAT, INFERENCE_FORM_NONE, NO, NO, NO},
        {INFERENCE_CHAT, INFERENCE_FORM_JSON, AS_IS, TO, TO},
        {INFERENCE_CHAT, INFERENCE_FORM_STREAM, NO, AS_IS, NO},
        {INFERENCE_CHAT, INFERENCE_FORM_STREAM_WITH_USAGE, TO, TO, AS_IS},
        {INFERENCE_CHAT, INFERENCE_FORM_STREAM_TELLING, TO, AS_IS, NO},
        {INFERENCE_CHAT, (enum inference_form)77, NO, NO, NO},
        {INFERENCE_COMPLETIONS, INFERENCE_FORM_JSON, AS_IS, TO, TO},
        {INFERENCE_COMPLETIONS, INFERENCE_FORM_STREAM, NO, AS_IS, NO},
        {INFERENCE_COMPLETIONS, INFERENCE_FORM_STREAM_WITH_USAGE, TO, TO, AS_IS},
        {INFERENCE_RESPONSES, INFERENCE_FORM_JSON, AS_IS, NO, NO},
        {INFERENCE_RESPONSES, INFERENCE_FORM_STREAM, TO, AS_IS, AS_IS},
        {INFERENCE_RESPONSES, INFERENCE_FORM_STREAM_WITH_USAGE, TO, AS_IS, AS_IS},
        {INFERENCE_EMBEDDINGS, INFERENCE_FORM_JSON, AS_IS, AS_IS, AS_IS},
        {INFERENCE_EMBEDDINGS, INFERENCE_FORM_STREAM, NO, NO, NO},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        cr_expect_eq((int)inference_can_serve(rows[i].family, rows[i].form, false, false), rows[i].json, "%zu", i);
        cr_expect_eq((int)inference_can_serve(rows[i].family, rows[i].form, true, false), rows[i].stream, "%zu", i);
        cr_expect_eq((int)inference_can_serve(rows[i].family, rows[i].form, true, true), rows[i].with_usage, "%zu", i);
    }
    cr_assert(bytes_starts_with(inference_replay_content_type(true), BYTES("text/event-stream")));
    cr_assert(bytes_equal(inference_replay_content_type(false), BYTES("application/json")));
}

Test(inference_replay, keeps_the_lines_that_are_true_of_what_it_makes)
{
    static const struct {
        const char *name;
        bool in_other_shape;
        bool in_same_shape; /* events without the usage */
    } lines[] = {
        {"Server", true, true},         {"x-request-cost", true, true}, {"Vary", true, true},
        {"Content-Type", false, false}, {"ETAG", false, false},         {"content-digest", false, false},
        {"Cache-Control", false, true}, {"expires", false, true},       {"X-Accel-Buffering", false, true},
        {"Content-Types", true, true},
    };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        const struct inference_conversion conversions[] = {{INFERENCE_FORM_JSON, true},
                                                           {INFERENCE_FORM_STREAM_WITH_USAGE, false},
                                                           {INFERENCE_FORM_STREAM_TELLING, false}};
        const struct inference_conversion same = {INFERENCE_FORM_STREAM_WITH_USAGE, true};
        for (size_t k = 0; k < ARRAY_COUNT(conversions); k++) {
            cr_expect_eq(inference_replay_keeps_line(&conversions[k], bytes_from(lines[i].name)),
                         lines[i].in_other_shape, "%s %zu", lines[i].name, k);
        }
        cr_expect_eq(inference_replay_keeps_line(&same, bytes_from(lines[i].name)), lines[i].in_same_shape, "%s",
                     lines[i].name);
    }
}

/* ---- events to JSON ---- */

#define TOP(choices)                                                                                               \
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"choices\":[" choices \
    "]}\n\n"
#define USAGE \
    "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n"
#define DONE "data: [DONE]\n\n"
#define JSON(choice)                                                                                              \
    "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":7,\"model\":\"m\",\"usage\":{\"prompt_tokens\":1}," \
    "\"choices\":[" choice "]}"

Test(inference_replay, puts_a_chat_together)
{
    static const char *const pairs[][2] = {
        {TOP("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_"
             "reason\":null}") TOP("{\"index\":0,\"delta\":{\"content\":\"a\\n\"},\"logprobs\":null,\"finish_"
                                   "reason\":null}") ": ping\n\n" TOP("{\"index\":0,\"delta\":{\"content\":\"\\u00e9\"}"
                                                                      ",\"finish_reason\":null}")
             TOP("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"stop_reason\":7}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"a\\n\xc3\xa9\"},\"logprobs\":null,"
              "\"finish_reason\":\"stop\",\"stop_reason\":7}")},
        /* reasoning, and an answer that never came to its content */
        {TOP("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"reasoning_content\":\"hm\"}}")
             TOP("{\"index\":0,\"delta\":{\"reasoning_content\":\"m\",\"reasoning\":\"x\"}}")
                 TOP("{\"index\":0,\"delta\":{\"reasoning\":\"y\"},\"finish_reason\":\"length\"}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"reasoning_content\":\"hmm\","
              "\"reasoning\":\"xy\"},\"finish_reason\":\"length\"}")},
        /* choices that come interleaved and out of order */
        {TOP("{\"index\":1,\"delta\":{\"content\":\"b\"}}")
             TOP("{\"index\":0,\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"},{\"index\":1,"
                 "\"delta\":{\"content\":"
                 "\"b\"},\"finish_reason\":\"length\"}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"finish_reason\":\"stop\"},"
              "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"bb\"},\"finish_reason\":"
              "\"length\"}")},
        /* tool calls, in parts and out of order */
        {TOP("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}")
             TOP("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":1,\"id\":\"b\",\"type\":\"function\","
                 "\"function\":{"
                 "\"name\":\"g\",\"arguments\":\"\"}}]}}")
                 TOP("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"type\":\"function\","
                     "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\"\"}},{\"index\":1,\"function\":{"
                     "\"arguments\":\"{}\"}}]}}")
                     TOP("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":null,\"function\":{"
                         "\"name\":null,"
                         "\"arguments\":\":1}\"}}]},\"finish_reason\":\"tool_calls\"}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\","
              "\"type\":"
              "\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\":1}\"}},{\"id\":\"b\","
              "\"type\":"
              "\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_"
              "calls\"}")},
        {TOP("{\"index\":0,\"delta\":{\"function_call\":{\"name\":\"f\",\"arguments\":\"{\"}}}")
             TOP("{\"index\":0,\"delta\":{\"function_call\":{\"arguments\":\"}\"}},\"finish_reason\":"
                 "\"function_call\"}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":"
              "\"f\","
              "\"arguments\":\"{}\"}},\"finish_reason\":\"function_call\"}")},
        /* log probabilities: numbers to the digit */
        {TOP("{\"index\":0,\"delta\":{\"content\":\"a\"},\"logprobs\":{\"content\":[{\"token\":\"a\","
             "\"logprob\":"
             "-0.10000000149011612,\"bytes\":[97],\"top_logprobs\":[]}],\"refusal\":null}}")
             TOP("{\"index\":0,\"delta\":{\"content\":\"b\"},\"logprobs\":{\"content\":[{\"token\":\"b\","
                 "\"logprob\":"
                 "-1e-7}],\"refusal\":null}}")
                 TOP("{\"index\":0,\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"ab\"},\"logprobs\":{\"content\":[{"
              "\"token\":\"a\",\"logprob\":-0.10000000149011612,\"bytes\":[97],\"top_logprobs\":[]},{\"token\":"
              "\"b\","
              "\"logprob\":-1e-7}],\"refusal\":null},\"finish_reason\":\"stop\"}")},
        /* what is not known */
        {"data: "
         "{\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":7,\"model\":\"m\",\"prompt_logprobs\":"
         "[null,{\"5\":1}],\"service_tier\":null,\"obfuscation\":\"xx\",\"choices\":[{\"index\":0,\"delta\":{"
         "\"odd\":{"
         "\"a\":\"x\",\"b\":[1]},\"annotations\":[{\"t\":1}]},\"token_ids\":[1,2]}]}\n\n"
         "data: "
         "{\"service_tier\":\"flex\",\"choices\":[{\"index\":0,\"delta\":{\"odd\":{\"a\":\"y\",\"b\":[2],\"c\":"
         "3},"
         "\"annotations\":[{\"t\":2}]},\"token_ids\":[3],\"finish_reason\":\"stop\"}],\"prompt_logprobs\":null}"
         "\n\n" USAGE DONE,
         "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":7,\"model\":\"m\",\"usage\":{\"prompt_"
         "tokens\":1},"
         "\"prompt_logprobs\":[null,{\"5\":1}],\"service_tier\":\"flex\",\"choices\":[{\"index\":0,\"message\":"
         "{\"role\":"
         "\"assistant\",\"content\":null,\"odd\":{\"a\":\"xy\",\"b\":[1,2],\"c\":3},\"annotations\":[{\"t\":1},"
         "{\"t\":2}]"
         "},\"token_ids\":[1,2,3],\"finish_reason\":\"stop\"}]}"},
        /* what is said beside a delta is said anew, not gone on with; and so are the labels within one */
        {TOP("{\"index\":0,\"delta\":{\"reasoning_details\":[{\"index\":0,\"format\":\"f\",\"text\":\"a\"}]},"
             "\"content_filter_results\":{\"hate\":{\"severity\":\"safe\",\"filtered\":false}}}")
             TOP("{\"index\":0,\"delta\":{\"reasoning_details\":[{\"index\":0,\"format\":\"f\",\"text\":\"b\"}]},"
                 "\"content_filter_results\":{\"hate\":{\"severity\":\"low\",\"filtered\":false}}}")
                 TOP("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"content_filter_results\":{}}") USAGE DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"reasoning_details\":[{\"index\":0,"
              "\"format\":\"f\",\"text\":\"ab\"}]},\"content_filter_results\":{\"hate\":{\"severity\":\"low\","
              "\"filtered\":false}},\"finish_reason\":\"stop\"}")},
        /* a chunk in several lines, and the usage in the last chunk */
        {"data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"created\":7,\r\ndata: "
         "\"model\":\"m\",\"choices\":[{"
         "\"index\":0,\rdata:\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_"
         "tokens\":1}}"
         "\r\n\r\n" DONE,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"a\"},\"finish_reason\":"
              "\"stop\"}")},
    };
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        expect_json(INFERENCE_CHAT, pairs[i][0], pairs[i][1]);
    }
}

Test(inference_replay, puts_a_completion_together)
{
    expect_json(
        INFERENCE_COMPLETIONS,
        "data: {\"id\":\"c\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"a\",\"logprobs\":{"
        "\"tokens\":[\"a\"],\"token_logprobs\":[-0.5],\"top_logprobs\":[{\"a\":-0.5}],\"text_offset\":[0]},"
        "\"finish_reason\":null,\"stop_reason\":null}]}\n\n"
        "data: {\"id\":\"c\",\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\" b\",\"logprobs\":{"
        "\"tokens\":[\" b\"],\"token_logprobs\":[null],\"top_logprobs\":[{}],\"text_offset\":[1]},\"finish_reason\":"
        "\"stop\",\"stop_reason\":\"###\"}]}\n\n"
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n" DONE,
        "{\"id\":\"c\",\"object\":\"text_completion\",\"usage\":{\"total_tokens\":3},\"choices\":[{\"index\":0,"
        "\"text\":"
        "\"a b\",\"logprobs\":{\"tokens\":[\"a\",\" b\"],\"token_logprobs\":[-0.5,null],\"top_logprobs\":[{\"a\":-0.5},"
        "{}],\"text_offset\":[0,1]},\"finish_reason\":\"stop\",\"stop_reason\":\"###\"}]}");
}

Test(inference_replay, takes_a_response_from_its_last_event)
{
    struct bytes stream =
        BYTES("event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"a\":0}}\n\n"
              "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":"
              "{\"id\":\"r\",\"temperature\":0.10,\"output\":[{\"type\":\"message\"}]}}\n\n");
    struct bytes out = convert(INFERENCE_RESPONSES, INFERENCE_FORM_STREAM, false, false, stream);
    cr_assert(bytes_equal(out, BYTES("{\"id\":\"r\",\"temperature\":0.10,\"output\":[{\"type\":\"message\"}]}")));
    drop(out);
}

Test(inference_replay, takes_a_stream_that_is_not_whole_for_a_miss)
{
    static const char *const streams[] = {
        "",
        DONE,
        TOP("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}") DONE, /* no usage */
        TOP("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}") USAGE,
        TOP("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}") USAGE "data: [DONE]\n",
        USAGE DONE,
        TOP("{\"index\":0") USAGE DONE,
        TOP("{\"index\":\"0\"}") USAGE DONE,
        TOP("{\"index\":512}") USAGE DONE,
        TOP("{\"index\":-1}") USAGE DONE,
        TOP("1") USAGE DONE,
        TOP("{\"index\":0,\"delta\":{\"tool_calls\":[{\"index\":0},{}]}}") USAGE DONE,
        "data: []\n\n" USAGE DONE,
    };
    for (size_t i = 0; i < ARRAY_COUNT(streams); i++) {
        struct bytes out = BYTES_NONE;
        enum result result = inference_convert(INFERENCE_CHAT, INFERENCE_FORM_STREAM_WITH_USAGE, false, false,
                                               bytes_from(streams[i]), &out);
        cr_expect_eq(result, RESULT_PROTOCOL, "%zu: %s %s", i, result_name(result), streams[i]);
        cr_expect_null(out.ptr);
    }
}

/* ---- JSON to events ---- */

Test(inference_replay, unrolls_a_chat)
{
    struct bytes json =
        BYTES("{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":7,\"model\":\"m\",\"choices\":[{"
              "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"hello\",\"tool_calls\":[]},"
              "\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{\"total_tokens\":3},\"x\":1.50}");
    struct bytes out = convert(INFERENCE_CHAT, INFERENCE_FORM_JSON, true, false, json);
    const struct bytes expected = BYTES(
        "data: "
        "{\"object\":\"chat.completion.chunk\",\"id\":\"c\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":0,"
        "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
        "data: "
        "{\"object\":\"chat.completion.chunk\",\"id\":\"c\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":0,"
        "\"delta\":{\"content\":\"hello\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"
        "data: "
        "{\"object\":\"chat.completion.chunk\",\"id\":\"c\",\"created\":7,\"model\":\"m\",\"choices\":[{\"index\":0,"
        "\"delta\":{},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"x\":1.50}\n\n"
        "data: [DONE]\n\n");
    cr_assert(bytes_equal(out, expected), "%.*s", BYTES_ARG(out));
    drop(out);
    out = convert(INFERENCE_CHAT, INFERENCE_FORM_JSON, true, true, json);
    const struct bytes end = BYTES("\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\ndata: [DONE]\n\n");
    cr_assert(out.len > end.len && memcmp(out.ptr + out.len - end.len, end.ptr, end.len) == 0);
    cr_assert_not_null(memmem(out.ptr, out.len, "}],\"usage\":null}", 16));
    drop(out);
}

Test(inference_replay, comes_back_to_the_same_json)
{
    static const struct {
        enum inference_family family;
        const char *json;
    } cases[] = {
        {INFERENCE_CHAT, JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":"
                              "\"stop\"}")},
        {INFERENCE_CHAT,
         JSON("{\"index\":1,\"message\":{\"role\":\"tool\",\"content\":\"a\\u0000b\"},\"finish_reason\":"
              "\"length\"},{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"b\"},"
              "\"finish_reason\":\"stop\",\"stop_reason\":2}")},
        {INFERENCE_CHAT,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":"
              "\"a\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},{\"id\":"
              "\"b\",\"type\":\"function\",\"function\":{\"name\":\"g\",\"arguments\":\"\"}}]},"
              "\"finish_reason\":\"tool_calls\"}")},
        {INFERENCE_CHAT,
         JSON("{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"x y\",\"reasoning_content\":"
              "\"because\",\"refusal\":\"no\",\"audio\":{\"id\":\"a\",\"data\":\"QQ==\"}},\"logprobs\":{"
              "\"content\":[{\"token\":\"x\",\"logprob\":-1.0e-05}],\"refusal\":null},\"finish_reason\":"
              "\"stop\"}")},
        {INFERENCE_COMPLETIONS,
         "{\"id\":\"c\",\"object\":\"text_completion\",\"created\":10000000000000000000000,"
         "\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":{\"tokens\":[]},\"finish_reason\":"
         "\"stop\",\"stop_reason\":null}],\"usage\":{\"a\":1},\"extra\":[{\"b\":null}]}"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        /* The order of choices is that of their indexes afterwards. */
        struct bytes json = bytes_from(cases[i].json);
        struct bytes stream = convert(cases[i].family, INFERENCE_FORM_JSON, true, true, json);
        struct bytes ordered = convert(cases[i].family, INFERENCE_FORM_STREAM_WITH_USAGE, false, false, stream);
        expect_round_trip(cases[i].family, ordered);
        cr_expect(i == 1 || equal_json(ordered, json), "%.*s\nis not\n%s", BYTES_ARG(ordered), cases[i].json);
        drop(stream);
        drop(ordered);
    }
}

Test(inference_replay, takes_json_that_is_not_an_answer_for_a_miss)
{
    static const char *const bodies[] = {
        "",
        "[]",
        "{}",
        "{\"choices\":[]}",
        "{\"choices\":[1],\"usage\":{}}",
        "{\"choices\":[{}],\"usage\":{}}",
        "{\"choices\":[{\"text\":\"a\"}],\"usage\":{}}",
        "{\"choices\":[{\"message\":{}}]}",
        "{\"choices\":[{\"message\":{}}],\"usage\":null}",
        "{\"choices\":[{\"index\":-1,\"message\":{}}],\"usage\":{}}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct bytes out;
        cr_expect_eq(inference_convert(INFERENCE_CHAT, INFERENCE_FORM_JSON, true, true, bytes_from(bodies[i]), &out),
                     RESULT_PROTOCOL, "%s", bodies[i]);
    }
}

Test(inference_replay, has_a_bound_on_what_it_makes)
{
    struct json_buffer body;
    struct bytes out;
    json_buffer_init(&body, 0, SIZE_MAX / 2);
    json_buffer_text(&body, "{\"id\":\"");
    for (unsigned i = 0; i < 2000; i++) {
        json_buffer_text(&body, "id");
    }
    json_buffer_text(&body, "\",\"choices\":[");
    for (unsigned i = 0; i < 1000; i++) {
        json_buffer_text(&body, i == 0 ? "{\"text\":\"\"}" : ",{\"text\":\"\"}");
    }
    json_buffer_text(&body, "]}");
    cr_assert_eq(inference_convert(INFERENCE_COMPLETIONS, INFERENCE_FORM_JSON, true, false,
                                   (struct bytes){body.data, body.len}, &out),
                 RESULT_LIMIT);
    json_buffer_fini(&body);
}

/* ---- without the usage ---- */

Test(inference_replay, leaves_out_the_usage_and_nothing_else)
{
    static const char *const pairs[][2] = {
        {"data: {\"choices\":[{\"index\":0}],\"usage\":null}\n\n", "data: {\"choices\":[{\"index\":0}]}\n\n"},
        {"data: {\"usage\":null,\"choices\":[{}]}\n\n", "data: {\"choices\":[{}]}\n\n"},
        {"data: {\"a\": 1.0 , \"usage\" : null , \"choices\":[{}]}\r\n\r\n",
         "data: {\"a\": 1.0 , \"choices\":[{}]}\r\n\r\n"},
        {"data: {\"usage\":null}\n\n", "data: {}\n\n"},
        {"data: {\"choices\":[],\"usage\":{\"a\":1}}\n\n" DONE, DONE},
        {": ping\n\nid: 5\ndata: {\"choices\":[],\"usage\":{}}\n\n" DONE, ": ping\n\n" DONE},
        {"data: {\"choices\":[{\"delta\":{\"usage\":null,\"content\":\"\\\"usage\\\":null\"}}],\"u\":\"usage\"}\n\n",
         "data: {\"choices\":[{\"delta\":{\"usage\":null,\"content\":\"\\\"usage\\\":null\"}}],\"u\":\"usage\"}\n\n"},
        {"data: {\"u\":\"usage\",\"v\":[\"usage\",{\"usage\":1}],\"usage\":null}\n\n",
         "data: {\"u\":\"usage\",\"v\":[\"usage\",{\"usage\":1}]}\n\n"},
        {"data: {\"choices\":[{\"index\":0}],\"usage\":{\"a\":1}}\n\n",
         "data: {\"choices\":[{\"index\":0}],\"usage\":{\"a\":1}}\n\n"},
        {"data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
         "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n"},
        {"data: {\"choices\":[],\ndata:\"usage\":{}}\n\n" DONE, DONE},
        {": no end", ": no end"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        struct bytes out =
            convert(INFERENCE_CHAT, INFERENCE_FORM_STREAM_WITH_USAGE, true, false, bytes_from(pairs[i][0]));
        cr_expect(bytes_equal(out, bytes_from(pairs[i][1])), "%.*s\nis not\n%s", BYTES_ARG(out), pairs[i][1]);
        drop(out);
    }
}

/* ---- random answers ---- */

static uint64_t state;

static unsigned draw(unsigned below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % below);
}

/* Inside of a JSON string. */
static void put_text(struct json_buffer *out, unsigned words)
{
    static const char *const some[] = {
        "word ", "\\n", "\xc3\xa9", "\xf0\x9f\x98\x80 ", "\\\"q\\\"", "longerwords", " ", "\\u0001 tab ", "{\\\\}"};
    for (unsigned i = 0; i < words; i++) {
        json_buffer_text(out, some[draw(ARRAY_COUNT(some))]);
    }
}

static void put_string(struct json_buffer *out, const char *name, unsigned words)
{
    json_buffer_text(out, name);
    json_buffer_text(out, "\"");
    put_text(out, words);
    json_buffer_text(out, "\"");
}

static void put_message(struct json_buffer *out)
{
    json_buffer_text(out, "\"message\":{\"role\":\"assistant\"");
    if (draw(4) > 0) {
        put_string(out, ",\"content\":", 1 + draw(300));
    } else {
        json_buffer_text(out, ",\"content\":null");
    }
    if (draw(3) == 0) {
        put_string(out, ",\"reasoning_content\":", 1 + draw(50));
    }
    if (draw(3) == 0) {
        json_buffer_text(out, ",\"tool_calls\":[");
        for (unsigned i = 0, count = 1 + draw(12); i < count; i++) {
            put_string(out, i == 0 ? "{\"id\":" : ",{\"id\":", 2);
            put_string(out, ",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":", draw(30));
            json_buffer_text(out, "}}");
        }
        json_buffer_text(out, "]");
    }
    json_buffer_text(out, "}");
}

static void put_answer(struct json_buffer *out, bool is_chat)
{
    unsigned count = 1 + draw(4);
    bool has_logprobs = draw(2) == 0;
    json_buffer_text(out, is_chat ? "{\"object\":\"chat.completion\",\"id\":\""
                                  : "{\"object\":\"text_completion\",\"id\":\"");
    put_text(out, 3);
    json_buffer_text(out, "\",\"created\":1764000000,\"choices\":[");
    for (unsigned i = 0; i < count; i++) {
        json_buffer_text(out, i == 0 ? "{\"index\":" : ",{\"index\":");
        json_buffer_put_u64(out, i);
        json_buffer_text(out, ",");
        if (is_chat) {
            put_message(out);
        } else {
            put_string(out, "\"text\":", draw(200));
        }
        if (has_logprobs) {
            json_buffer_text(out, draw(2) == 0 ? ",\"logprobs\":null"
                                               : ",\"logprobs\":{\"content\":[{\"a\":-0.10},{\"b\":1e-9}]}");
        }
        json_buffer_text(out, ",\"finish_reason\":\"stop\"}");
    }
    json_buffer_text(out, "],\"usage\":{\"prompt_tokens\":3,\"completion_tokens_details\":{\"x\":[1.0]}}}");
}

Test(inference_replay, keeps_random_answers_through_both_conversions)
{
    for (unsigned round = 0; round < 400; round++) {
        struct json_buffer json;
        state = round;
        json_buffer_init(&json, 0, SIZE_MAX / 2);
        put_answer(&json, round % 2 == 0);
        expect_round_trip(round % 2 == 0 ? INFERENCE_CHAT : INFERENCE_COMPLETIONS, (struct bytes){json.data, json.len});
        json_buffer_fini(&json);
    }
}

/* A stream whose strings come in many small parts makes the same JSON as one whose strings come whole. */
Test(inference_replay, does_not_depend_on_how_a_stream_was_cut_into_chunks)
{
    enum { TOKENS = 20000 };
    struct json_buffer stream;
    struct json_buffer expected;
    json_buffer_init(&stream, 0, SIZE_MAX / 2);
    json_buffer_init(&expected, 0, SIZE_MAX / 2);
    json_buffer_text(&expected, "{\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"");
    for (unsigned i = 0; i < TOKENS; i++) {
        char chunk[128];
        snprintf(chunk, sizeof(chunk), "data: {\"choices\":[{\"index\":0,\"text\":\" t%u\"}]}\n\n", i);
        json_buffer_text(&stream, chunk);
        snprintf(chunk, sizeof(chunk), " t%u", i);
        json_buffer_text(&expected, chunk);
    }
    json_buffer_text(&stream,
                     "data: {\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"finish_reason\":\"stop\"}]}\n\n"
                     "data: {\"choices\":[],\"usage\":{\"a\":1}}\n\n" DONE);
    json_buffer_text(&expected, "\",\"finish_reason\":\"stop\"}],\"usage\":{\"a\":1}}");
    struct bytes out = convert(INFERENCE_COMPLETIONS, INFERENCE_FORM_STREAM_WITH_USAGE, false, false,
                               (struct bytes){stream.data, stream.len});
    cr_assert(equal_json(out, (struct bytes){expected.data, expected.len}));
    drop(out);
    json_buffer_fini(&stream);
    json_buffer_fini(&expected);
}
