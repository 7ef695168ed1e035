#include "api/token_meter.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/check.h"

struct sample {
    const char *name;
    const char *body;
    uint32_t tokens;
    bool has_usage;
    uint32_t prompt_tokens, cached_tokens, output_tokens;
};

#define CHUNK(choices) "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[" choices "]}\n\n"
#define ROLE           CHUNK("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}")
#define DELTA(members) CHUNK("{\"index\":0,\"delta\":{" members "},\"logprobs\":null,\"finish_reason\":null}")
#define WORD           DELTA("\"content\":\" word\"")
#define STOP           CHUNK("{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}")
#define USAGE                                                                                             \
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":12,\"total_tokens\":46,\"completion_tokens\":34," \
    "\"prompt_tokens_details\":{\"cached_tokens\":5}}}\n\n"
#define DONE        "data: [DONE]\n\n"
#define EVENT(data) "data: {" data "}\n\n"

static const struct sample streams[] = {
    {"words", ROLE WORD WORD WORD STOP USAGE DONE, 3, true, 12, 5, 34},
    {"no usage", ROLE WORD STOP DONE, .tokens = 1},
    {"only a role", ROLE STOP DONE, .tokens = 0},
    {"content of null", DELTA("\"role\":\"assistant\",\"content\":null") STOP, .tokens = 0},
    {"comments", ": ping\n\n:\n\n: \"choices\":[{\"delta\":{\"content\":\"x\"}}]\n\n", .tokens = 0},
    {"usage of null", "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":null}\n\n" DONE, .tokens = 1},
    {"usage of an array", "data: {\"choices\":[],\"usage\":[{\"prompt_tokens\":1}]}\n\n", .tokens = 0},
    {"usage that tells nothing", EVENT("\"usage\":{\"cost\":1}"), .tokens = 0},
    {"white space",
     "data:{ \"choices\" : [ { \"delta\" : { \"content\" : \"x\" } } ] , \"usage\" : { \"prompt_tokens\" "
     ": 7 , \"completion_tokens\" : 1 } }\n\n",
     1, true, 7, 0, 1},
    {"reasoning", DELTA("\"reasoning_content\":\"so\"") DELTA("\"reasoning\":\"well\"") WORD STOP, .tokens = 3},
    {"both at once",
     DELTA("\"content\":null,\"reasoning_content\":\"so\"") DELTA("\"reasoning_content\":\"so\",\"content\":\"x\""),
     .tokens = 2},
    {"refusal", DELTA("\"refusal\":\"no\""), .tokens = 1},
    {"parts", DELTA("\"content\":[{\"type\":\"text\",\"text\":\"x\"}]") DELTA("\"content\":[ ]"), .tokens = 1},
    {"tool calls",
     DELTA("\"tool_calls\":[{\"index\":0,\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]")
         DELTA("\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]") DELTA("\"tool_calls\":[]")
             DELTA("\"tool_calls\":null"),
     .tokens = 2},
    {"a function call", DELTA("\"function_call\":{\"name\":\"f\"}") DELTA("\"function_call\":{}"), .tokens = 1},
    {"two choices in an event",
     CHUNK("{\"index\":0,\"delta\":{\"content\":\"a\"}},{\"index\":1,\"delta\":{\"content\":"
           "\"b\"}}"),
     .tokens = 2},
    {"choices by turns",
     CHUNK("{\"index\":0,\"delta\":{\"content\":\"a\"}}") CHUNK("{\"index\":1,\"delta\":{\"content\":\"b\"}}")
         CHUNK("{\"index\":0,\"delta\":{\"content\":\"\"}}") CHUNK("{\"index\":1,\"delta\":{\"content\":\"d\"}}"),
     .tokens = 3},
    {"token ids",
     CHUNK("{\"delta\":{\"content\":\"abc\"},\"token_ids\":[11,-2, 13]}")
         CHUNK("{\"delta\":{\"content\":\"abc\"},\"token_ids\":[11,12, 13]}")
             CHUNK("{\"delta\":{\"content\":\"\"},\"token_ids\":[]}")
                 CHUNK("{\"delta\":{\"content\":\"\"},\"token_ids\":[4]}"),
     .tokens = 7},
    {"log probabilities",
     CHUNK("{\"delta\":{\"content\":\"ab\"},\"logprobs\":{\"content\":[{\"token\":\"a\","
           "\"top_logprobs\":[{\"token\":\"c\"}]},{\"token\":\"b\"}]}}"),
     .tokens = 2},
    {"log probabilities of completions",
     CHUNK("{\"text\":\"ab\",\"logprobs\":{\"tokens\":[\"a\",\"b\"],"
           "\"token_logprobs\":[-1,-2]}}"),
     .tokens = 2},
    {"completions",
     CHUNK("{\"index\":0,\"text\":\"\",\"finish_reason\":null}") CHUNK("{\"index\":0,\"text\":\"a\"}")
         CHUNK("{\"text\":\"b\",\"index\":0}") DONE,
     .tokens = 2},
    {"llama.cpp",
     EVENT("\"index\":0,\"content\":\"a\",\"tokens\":[5],\"stop\":false")
         EVENT("\"index\":0,\"content\":\"\",\"tokens\":[],\"stop\":true"),
     .tokens = 1},
    {"responses",
     "event: response.created\n" EVENT("\"type\":\"response.created\",\"response\":{\"output\":[],"
                                       "\"usage\":null,"
                                       "\"tools\":[{\"usage\":{\"input_tokens\":9}}],\"text\":{\"format\":"
                                       "1}}") "event: response.output_item.added\n" EVENT("\"type\":"
                                                                                          "\"response."
                                                                                          "output_item."
                                                                                          "added\","
                                                                                          "\"item\":{"
                                                                                          "\"content\":[]}")
         EVENT("\"type\":\"response.content_part.added\",\"part\":{\"type\":\"output_text\",\"text\":\"\"}")
             EVENT("\"type\":\"response.output_text.delta\",\"sequence_number\":4,\"delta\":\"a\","
                   "\"logprobs\":[]") EVENT("\"type\":\"response.output_text.delta\",\"sequence_number\":5,"
                                            "\"delta\":\"b\",\"logprobs\":[]")
                 EVENT("\"type\":\"response.output_text.delta\",\"sequence_number\":16,\"delta\":\"\\\"\","
                       "\"logprobs\":[]") EVENT("\"type\":\"response.output_text.delta\",\"sequence_"
                                                "number\":17,\"delta\":\"\",\"logprobs\":[]")
                     EVENT("\"type\":\"response.output_text.done\",\"text\":\"ab\\\"\"")
                         EVENT("\"type\":\"response.content_part.done\",\"part\":{\"type\":\"output_text\","
                               "\"text\":\"ab\"}")
                             EVENT("\"type\":\"response.completed\",\"response\":{\"output\":[{\"content\":[{"
                                   "\"text\":\"ab\"}]}],\"usage\":{"
                                   "\"input_tokens\":20,\"input_tokens_details\":{\"cached_tokens\":16},\"output_"
                                   "tokens\":3,"
                                   "\"output_tokens_details\":{\"reasoning_tokens\":2},\"total_tokens\":23}}"),
     3, true, 20, 16, 3},
    {"messages",
     "event: message_start\n" EVENT(
         "\"type\":\"message_start\",\"message\":{\"content\":[],\"usage\":{"
         "\"input_tokens\":"
         "25,\"cache_creation_input_tokens\":10,\"cache_read_input_tokens\":40,"
         "\"output_tokens\":1}}") "event: content_block_start\n" EVENT("\"type\""
                                                                       ":\"conte"
                                                                       "nt_"
                                                                       "block_"
                                                                       "start\","
                                                                       "\"index"
                                                                       "\":0,"
                                                                       "\"conten"
                                                                       "t_"
                                                                       "block\":"
                                                                       "{\"type"
                                                                       "\":"
                                                                       "\"text\""
                                                                       ",\"text"
                                                                       "\":"
                                                                       "\"\"}") "event: ping\n" EVENT("\"type\":"
                                                                                                      "\"ping\"")
         EVENT("\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"thinking_delta\","
               "\"thinking\":\"hm\"}") EVENT("\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"
                                             "\"type\":\"signature_delta\",\"signature\":\"x\"}")
             EVENT("\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":"
                   "\"a\"}") EVENT("\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_"
                                   "delta\",\"text\":\"b\"}") EVENT("\"type\":\"content_block_stop\",\"index\":0")
                 EVENT("\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\","
                       "\"id\":\"t\",\"name\":"
                       "\"f\",\"input\":{}}") EVENT("\"type\":\"content_block_delta\",\"index\":1,\"delta\":{"
                                                    "\"type\":\"input_json_delta\",\"partial_json\":\"\"}")
                     EVENT("\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_"
                           "delta\",\"partial_json\":"
                           "\"{\\\"usage\\\":{\\\"output_tokens\\\":7}\"}")
                         EVENT("\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{"
                               "\"output_tokens\":15}") EVENT("\"type\":\"message_stop\""),
     5, true, 75, 40, 15},
    {"messages that break off",
     EVENT("\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}")
         EVENT("\"type\":\"content_block_delta\",\"delta\":{\"text\":\"a\"}"),
     1, false, 25, 0, 1},
    {"usage in every event",
     "data: "
     "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":"
     "1}}\n\n"
     "data: "
     "{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":"
     "2}}\n\n",
     2, true, 7, 0, 2},
    {"usage before the choices",
     "data: "
     "{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1},\"choices\":[{\"delta\":{\"content\":\"x\"}}"
     "]}\n\n"
     "data: "
     "{\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":9},\"choices\":[{\"delta\":{\"content\":\"x\"}}"
     "]}\n\n",
     2, true, 7, 0, 9},
    {"DeepSeek's cache", EVENT("\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":1,\"prompt_cache_hit_tokens\":6}"),
     0, true, 7, 6, 1},
    /* what a model writes is no event, whatever it says */
    {"needles in text",
     DELTA("\"role\":\"\\\"content\\\":\\\"x\\\"\",\"content\":\"\"")
         DELTA("\"name\":\"},\\\"content\\\":\\\"x\\\",\\\\\",\"content\":\"\"")
             EVENT("\"type\":\"t\",\"part\":{\"text\":\"\\\"delta\\\":\\\"a\\\",\\\"usage\\\":{\\\"prompt_"
                   "tokens\\\":9}\"}") DELTA("\"content\":\"\\\"usage\\\":{\\\"prompt_tokens\\\":9}\""),
     .tokens = 1},
    {"brackets in text", DELTA("\"content\":\"}]}\\n\\n{[\"") DELTA("\"x\":\"}}}}\",\"content\":\"[\""), .tokens = 2},
    {"a backslash before the quote",
     DELTA("\"content\":\"\\\\\"") DELTA("\"content\":\"\\\\\\\"\"")
         DELTA("\"content\":\"\\\\\",\"reasoning\":\"\\\\\""),
     .tokens = 3},
    {"names with escapes", DELTA("\"\\u0063ontent\":\"x\"") DELTA("\"a\\\"content\":\"x\"") WORD, .tokens = 1},
    {"names that are alike",
     DELTA("\"contents\":\"x\",\"conten\":\"y\",\"content_\":[1]")
         EVENT("\"deltas\":\"x\",\"usages\":{\"prompt_tokens\":1}"),
     .tokens = 0},
    {"a long name", DELTA("\"reasoning_content_reasoning_content_reasoning_content\":\"x\""), .tokens = 0},
    {"other places", EVENT("\"x\":{\"choices\":[{\"delta\":{\"content\":\"x\"}}],\"usage\":{\"prompt_tokens\":9}}"),
     .tokens = 0},
    {"deep places", EVENT("\"x\":[[[[[[[[[[{\"usage\":{\"prompt_tokens\":9}}]]]]]]]]]],\"delta\":\"x\""), .tokens = 1},
    {"other types", EVENT("\"choices\":{\"delta\":{\"content\":\"x\"}},\"delta\":[\"x\"],\"content\":7"), .tokens = 0},
    /* lines */
    {"line ends", "data: {\"delta\":\"a\"}\r\n\r\ndata: {\"delta\":\"a\"}\r\rdata: {\"delta\":\"a\"}\n\r\n",
     .tokens = 3},
    {"several lines",
     "data: {\"choices\":[{\"delta\":\ndata: {\"content\":\ndata:\"a\"}\r\nevent: x\r\ndata\r\n"
     "data: }]}\n\n",
     .tokens = 1},
    {"other fields", "id: data: {\"delta\":\"a\"}\ndat: {\"delta\":\"a\"}\ndatas: {\"delta\":\"a\"}\n d\n\n",
     .tokens = 0},
    {"an event without its end", WORD "data: {\"delta\":\"a\"}", .tokens = 1},
    {"the same event twice over", WORD WORD "data: {\"delta\":\"a\"}\ndata: {\"delta\":\"a\"}\n\n" WORD, .tokens = 4},
    /* what is no JSON */
    {"rubbish", "data: }]{\"\"::,\n\ndata: \"\n\ndata: {\"delta\":\n\ndata: [[[[[\n\n" WORD, .tokens = 1},
    {"an error", "data: {\"error\":{\"message\":\"oh\"}}\n\n", .tokens = 0},
    {"", "", .tokens = 0},
};

static struct token_meter watch(struct bytes body, size_t first, size_t second, bool is_stream)
{
    struct token_meter meter;
    token_meter_init(&meter, is_stream);
    token_meter_feed(&meter, (struct bytes){body.ptr, first});
    token_meter_feed(&meter, (struct bytes){body.ptr + first, second - first});
    token_meter_feed(&meter, (struct bytes){body.ptr + second, body.len - second});
    return meter;
}

static void expect(const struct sample *sample, const struct token_meter *meter)
{
    cr_expect_eq(meter->tokens, sample->tokens, "%s: %u tokens", sample->name, meter->tokens);
    cr_expect_eq(meter->has_usage, sample->has_usage, "%s: usage", sample->name);
    cr_expect_eq(meter->prompt_tokens, sample->prompt_tokens, "%s: prompt %u", sample->name, meter->prompt_tokens);
    cr_expect_eq(meter->cached_tokens, sample->cached_tokens, "%s: cached %u", sample->name, meter->cached_tokens);
    cr_expect_eq(meter->output_tokens, sample->output_tokens, "%s: output %u", sample->name, meter->output_tokens);
}

Test(token_meter, counts_the_tokens_of_every_dialect)
{
    for (size_t i = 0; i < ARRAY_COUNT(streams); i++) {
        struct bytes body = bytes_from(streams[i].body);
        struct token_meter meter = watch(body, 0, body.len, true);
        expect(&streams[i], &meter);
        cr_expect(meter.has_content || meter.tokens == 0, "%s", streams[i].name);
    }
}

Test(token_meter, counts_the_same_however_the_stream_is_cut)
{
    for (size_t i = 0; i < ARRAY_COUNT(streams); i++) {
        /* twice: events that are known by then take another way */
        char twice[8192];
        struct bytes once = bytes_from(streams[i].body);
        cr_assert(once.len * 2 < sizeof(twice));
        char *end = bytes_put(bytes_put(twice, once), once);
        struct bytes body = {twice, (size_t)(end - twice)};
        struct token_meter whole = watch(body, 0, body.len, true);
        struct token_meter bytewise;
        token_meter_init(&bytewise, true);
        for (size_t at = 0; at < body.len; at++) {
            token_meter_feed(&bytewise, (struct bytes){body.ptr + at, 1});
        }
        struct sample same = {
            streams[i].name,    NULL, whole.tokens, whole.has_usage, whole.prompt_tokens, whole.cached_tokens,
            whole.output_tokens};
        expect(&same, &bytewise);
        for (size_t first = 0; first <= body.len; first++) {
            struct token_meter cut = watch(body, first, first + (body.len - first) / 3, true);
            expect(&same, &cut);
            cr_expect_eq(cut.has_content, whole.has_content);
        }
    }
}

Test(token_meter, says_that_content_has_come_with_its_first_byte)
{
    static const char role[] = ROLE;
    static const char chunk[] = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"";
    struct token_meter meter;
    token_meter_init(&meter, true);
    token_meter_feed(&meter, bytes_from(role));
    token_meter_feed(&meter, bytes_from(chunk));
    cr_expect_not(meter.has_content);
    token_meter_feed(&meter, BYTES("x"));
    cr_expect(meter.has_content);
    cr_expect_eq(meter.tokens, 0);
    token_meter_feed(&meter, BYTES("\"}}"));
    cr_expect_eq(meter.tokens, 1);
}

Test(token_meter, says_that_content_has_come_when_only_its_token_ids_have)
{
    struct token_meter meter;
    token_meter_init(&meter, true);
    token_meter_feed(&meter, BYTES("data: {\"choices\":[{\"delta\":{\"content\":\"\"},\"token_ids\":[5]}]}\n\n"));
    cr_expect(meter.has_content);
}

static const struct sample texts[] = {
    {"embeddings",
     "{\"object\":\"list\",\"data\":[{\"embedding\":[0.5,-1e-3,[]],\"index\":0}],\"usage\":{\"prompt_tokens\":8,"
     "\"total_tokens\":8}}",
     0, true, 8, 0, 0},
    {"usage in front", "{\"usage\":{\"prompt_tokens\":8,\"total_tokens\":8},\"data\":[{\"embedding\":\"AAAA\"}]}", 0,
     true, 8, 0, 0},
    {"rerank", "{\"results\":[{\"document\":{\"text\":\"\\\"usage\\\":{\"}}],\"usage\":{\"total_tokens\":56}}", 0, true,
     56, 0, 0},
    {"chat",
     "{\n  \"choices\": [\n {\"message\": {\"content\": \"usage\"}, \"usage\": {\"prompt_tokens\": 3}}],\n  \"usage\": "
     "{\n"
     "    \"prompt_tokens\": 11,\n    \"completion_tokens\": 5.0,\n \"total_tokens\": 16\n  }\n}\n",
     0, true, 11, 0, 5},
    {"messages",
     "{\"content\":[{\"type\":\"tool_use\",\"input\":{\"usage\":{\"input_tokens\":1}}}],\"usage\":{"
     "\"input_tokens\":6,\"output_tokens\":2}}",
     0, true, 6, 0, 2},
    {"responses",
     "{\"output\":[],\"usage\":{\"input_tokens\":6,\"input_tokens_details\":{\"cached_tokens\":4},"
     "\"output_tokens\":2,\"total_tokens\":8}}",
     0, true, 6, 4, 2},
    {"details that are null",
     "{\"usage\":{\"prompt_tokens\":6,\"prompt_tokens_details\":null,\"completion_tokens\":2}}", 0, true, 6, 0, 2},
    {"figures beyond all bounds", "{\"usage\":{\"prompt_tokens\":99999999999999999999999,\"completion_tokens\":-4}}", 0,
     true, UINT32_MAX - 1, 0, 0},
    {"an event's content is none", "{\"delta\":\"x\",\"choices\":[{\"text\":\"x\",\"token_ids\":[1]}]}", .tokens = 0},
    {"no usage", "{\"data\":[]}", .tokens = 0},
    {"an array", "[{\"usage\":{\"prompt_tokens\":1}}]", .tokens = 0},
    {"a string", "\"usage\"", .tokens = 0},
    {"usage that is cut", "{\"usage\":{\"prompt_tokens\":8", .tokens = 0},
};

Test(token_meter, finds_the_usage_of_one_json_text_however_it_is_cut)
{
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct bytes body = bytes_from(texts[i].body);
        for (size_t first = 0; first <= body.len; first++) {
            struct token_meter cut = watch(body, first, first + (body.len - first) / 2, false);
            expect(&texts[i], &cut);
            cr_expect_not(cut.has_content);
        }
    }
}

Test(token_meter, finds_the_usage_behind_a_large_body)
{
    enum { BODY_BYTES = 3 << 20 };
    char *body = malloc(BODY_BYTES);
    cr_assert_not_null(body);
    char *at = bytes_put(body, BYTES("{\"data\":[{\"embedding\":["));
    while (at < body + BODY_BYTES - 128) {
        at = bytes_put(at, BYTES("-0.012345678,"));
    }
    at = bytes_put(at, BYTES("0]}],\"usage\":{\"prompt_tokens\":17,\"total_tokens\":17}}"));
    struct bytes all = {body, (size_t)(at - body)};
    struct token_meter meter = watch(all, 1 << 20, (1 << 20) + 7, false);
    cr_expect(meter.has_usage);
    cr_expect_eq(meter.prompt_tokens, 17);
    free(body);
}

/* A frame is learned from one event and believed of the next: what differs must be seen. */
Test(token_meter, looks_again_at_an_event_that_differs_from_the_last_one)
{
    static const char *const others[] = {
        "data: {\"n\":12,\"choices\":[{\"delta\":{\"content\":\"\"},\"f\":null}]}",
        "data: {\"n\":12,\"choices\":[{\"delta\":{\"contenx\":\"x\"},\"f\":null}]}",
        "data: {\"n\":12,\"choices\":[{\"delta\":{\"content\":\"\",\"x\":\"x\"},\"f\":null}]}",
        "data: {\"n\":\"12\",\"choices\":[{\"delta\":{\"content\":null},\"f\":null}]}",
    };
    struct token_meter meter;
    token_meter_init(&meter, true);
    uint32_t tokens = 0;
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        token_meter_feed(&meter, BYTES("data: {\"n\":8,\"choices\":[{\"delta\":{\"content\":\"x\"},\"f\":null}]}\n\n"));
        token_meter_feed(&meter, BYTES("data: {\"n\":9,\"choices\":[{\"delta\":{\"content\":\"y\"},\"f\":null}]}\n\n"));
        token_meter_feed(&meter,
                         BYTES("data: {\"n\":10,\"choices\":[{\"delta\":{\"content\":\"\\\\\"},\"f\":null}]}\n\n"));
        token_meter_feed(&meter,
                         BYTES("data: {\"n\":11,\"choices\":[{\"delta\":{\"content\":\"x\"},\"f\":null}],\"usage\":"
                               "{\"prompt_tokens\":3,\"completion_tokens\":4}}\n\n"));
        tokens += 4;
        cr_expect_eq(meter.tokens, tokens);
        cr_expect(meter.has_usage);
        token_meter_feed(&meter, bytes_from(others[i]));
        token_meter_feed(&meter, BYTES("\n\n"));
        cr_expect_eq(meter.tokens, tokens, "%s", others[i]);
    }
}

Test(token_meter, counts_cached_tokens_anew_though_all_else_in_an_event_is_the_same)
{
    struct token_meter meter;
    token_meter_init(&meter, true);
    token_meter_feed(&meter, BYTES("data: {\"usage\":{\"cached_tokens\":1},\"delta\":\"x\"}\n\n"));
    token_meter_feed(&meter, BYTES("data: {\"usage\":{\"cached_tokens\":2},\"delta\":\"x\"}\n\n"));
    token_meter_feed(&meter, BYTES("data: {\"usage\":{\"cached_tokens\":3},\"delta\":\"x\"}\n\n"));
    cr_expect_eq(meter.cached_tokens, 3);
    cr_expect_eq(meter.tokens, 3);
}
