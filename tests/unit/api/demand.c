#include "api/demand.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/check.h"

/* ---- the head ---- */

static struct demand read_head(const char *lines)
{
    static char text[4096];
    static struct http_parser parser; /* holds what the demand borrows */
    const struct http_limits limits = {
        .head_bytes_max = sizeof(text), .target_bytes_max = 1024, .fields_max = HTTP_FIELDS_MAX};
    int length = snprintf(text, sizeof(text), "POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n%s\r\n", lines);
    http_parser_init(&parser, HTTP_REQUEST, &limits);
    cr_assert_eq(http_parse_head(&parser, text, (size_t)length), RESULT_OK, "%s", lines);
    struct demand demand;
    demand_init(&demand);
    demand_from_head(&demand, &parser.head, text);
    return demand;
}

#define MS NANOS_PER_MS
#define S  NANOS_PER_S

static const struct deadline_sample {
    const char *lines;
    nanos total_ns, first_ns, silence_ns, token_ns; /* 0: not said */
} deadlines[] = {
    {"", 0, 0, 0, 0},
    {"x-request-timeout-ms: 1500\r\n", 1500 * MS, 0, 0, 0},
    {"X-Request-Timeout-Ms: 1500\r\n", 1500 * MS, 0, 0, 0},
    {"x-litellm-timeout: 30\r\n", 30 * S, 0, 0, 0},
    {"x-litellm-timeout: 0.25\r\n", 250 * MS, 0, 0, 0},
    {"x-litellm-timeout: 1.0000000015\r\n", 1 * S + 1, 0, 0, 0},
    {"x-litellm-stream-timeout: 2.5\r\n", 0, 2500 * MS, 0, 0},
    {"x-portkey-request-timeout: 10\r\n", 10 * MS, 0, 0, 0},
    {"x-envoy-expected-rq-timeout-ms: 15000\r\n", 15 * S, 0, 0, 0},
    {"x-slo-ttft-ms: 200\r\nx-slo-tpot-ms: 50.5\r\n", 0, 200 * MS, 0, 50500 * NANOS_PER_US},
    {"x-stainless-read-timeout: 600.0\r\nx-stainless-timeout: 60\r\n", 0, 0, 60 * S, 0},
    {"grpc-timeout: 5S\r\n", 5 * S, 0, 0, 0},
    {"grpc-timeout: 2H\r\n", 7200 * S, 0, 0, 0},
    {"grpc-timeout: 2M\r\n", 120 * S, 0, 0, 0},
    {"grpc-timeout: 99999999m\r\n", 99999999 * MS, 0, 0, 0},
    {"grpc-timeout: 7u\r\n", 7 * NANOS_PER_US, 0, 0, 0},
    {"grpc-timeout: 7n\r\n", 7, 0, 0, 0},
    /* the shortest counts */
    {"x-request-timeout-ms: 1500\r\nx-litellm-timeout: 1\r\ngrpc-timeout: 3S\r\n", 1 * S, 0, 0, 0},
    {"x-request-timeout-ms: 1500\r\nx-request-timeout-ms: 900\r\n", 900 * MS, 0, 0, 0},
    /* what is malformed is not there */
    {"x-request-timeout-ms: 0\r\nx-litellm-timeout: 0.0\r\ngrpc-timeout: 0S\r\n", 0, 0, 0, 0},
    {"x-request-timeout-ms: -5\r\nx-litellm-timeout: 5s\r\n", 0, 0, 0, 0},
    {"x-request-timeout-ms:\r\nx-litellm-timeout: .5\r\n", 0, 0, 0, 0},
    {"x-litellm-timeout: 5.\r\nx-litellm-stream-timeout: 1.2.3\r\n", 0, 0, 0, 0},
    {"x-litellm-timeout: 1e3\r\nx-slo-ttft-ms: 1,5\r\n", 0, 0, 0, 0},
    {"grpc-timeout: 123456789S\r\n", 0, 0, 0, 0},
    {"grpc-timeout: S\r\n", 0, 0, 0, 0},
    {"grpc-timeout: 5\r\n", 0, 0, 0, 0},
    {"grpc-timeout: 1.5S\r\n", 0, 0, 0, 0},
    {"grpc-timeout: 5s\r\n", 0, 0, 0, 0},
    {"x-litellm-timeout: None\r\n", 0, 0, 0, 0},
    {"x-request-timeout-ms: 99999999999999999999999\r\n", 0, 0, 0, 0},
    {"x-litellm-timeout: 18446744073709551615\r\n", NANOS_NEVER / 2, 0, 0, 0},
};

static nanos or_never(nanos length)
{
    return length == 0 ? NANOS_NEVER : length;
}

Test(demand, reads_the_deadlines_that_clients_and_gateways_send)
{
    for (size_t i = 0; i < ARRAY_COUNT(deadlines); i++) {
        struct demand demand = read_head(deadlines[i].lines);
        cr_expect_eq(demand.total_ns, or_never(deadlines[i].total_ns), "%s: %lu", deadlines[i].lines, demand.total_ns);
        cr_expect_eq(demand.first_ns, or_never(deadlines[i].first_ns), "%s: %lu", deadlines[i].lines, demand.first_ns);
        cr_expect_eq(demand.silence_ns, or_never(deadlines[i].silence_ns), "%s", deadlines[i].lines);
        cr_expect_eq(demand.token_ns, or_never(deadlines[i].token_ns), "%s", deadlines[i].lines);
    }
}

static const struct class_sample {
    const char *lines;
    uint8_t class;
} classes[] = {
    {"", DEMAND_CLASS_NONE},
    {"Priority: u=0\r\n", 0},
    {"Priority: u=1\r\n", 0},
    {"Priority: u=2, i\r\n", 1},
    {"priority: i, u=3\r\n", 2},
    {"Priority: u=4\r\n", 2},
    {"Priority: u=5\r\n", 3},
    {"Priority: u=6;x=1\r\n", 3},
    {"Priority: u=7\r\n", 3},
    {"Priority: u=7, u=0\r\n", 0},
    {"Priority: i\r\nPriority: u=1\r\n", 0},
    {"Priority: i\r\n", DEMAND_CLASS_NONE},
    {"Priority: u=8\r\n", DEMAND_CLASS_NONE},
    {"Priority: u=-1\r\n", DEMAND_CLASS_NONE},
    {"Priority: u=1.0\r\n", DEMAND_CLASS_NONE},
    {"Priority: u\r\n", DEMAND_CLASS_NONE},
    {"Priority: U=1\r\n", DEMAND_CLASS_NONE},
    {"Priority: u=1\r\nPriority: =\r\n", DEMAND_CLASS_NONE},
    {"Priority: high\r\n", DEMAND_CLASS_NONE},
};

Test(demand, reads_the_class_from_the_urgency_of_rfc_9218)
{
    for (size_t i = 0; i < ARRAY_COUNT(classes); i++) {
        cr_expect_eq(read_head(classes[i].lines).class, classes[i].class, "%s", classes[i].lines);
    }
}

/* ---- the body ---- */

static struct demand read_body(const char *path, struct bytes body)
{
    struct demand demand;
    demand_init(&demand);
    demand_from_body(&demand, bytes_from(path), body);
    return demand;
}

static struct demand read_chat(const char *members)
{
    static char text[16384];
    int length = snprintf(text, sizeof(text), "{\"model\":\"m\"%s}", members);
    return read_body("/v1/chat/completions", (struct bytes){text, (size_t)length});
}

#define NONE UINT32_MAX

static const struct body_sample {
    const char *path;
    const char *body;
    uint64_t prompt_bytes;
    uint32_t prompt_tokens, output_max, choices;
} bodies[] = {
    {"/v1/chat/completions", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}", 9, 0, NONE,
     1},
    {"/v1/chat/completions",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"hello\"},{\"type\":\"image_url\","
     "\"image_url\":{\"url\":\"data:image/png;base64,AAAA\",\"detail\":\"high\"}}]}],\"max_tokens\":7,\"n\":3}",
     4 + 5 + DEMAND_MEDIA_BYTES, 0, 7, 3},
    {"/v1/chat/completions",
     " { \"messages\" : [ { \"role\" : \"tool\" , \"tool_call_id\" : \"call_1\" , \"content\" : \"ok\" } ] , "
     "\"max_tokens\" : 7 , \"max_completion_tokens\" : 9 } ",
     4 + 2, 0, 9, 1},
    {"/v1/chat/completions",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\",\"type\":\"function\","
     "\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}}]}],\"tools\":[{\"x\":1}]}",
     9 + 1 + 7 + 9, 0, NONE, 1},
    {"/v1/chat/completions",
     "{\"messages\":[],\"metadata\":{\"messages\":[{\"content\":\"no\"}]},\"response_format\":{\"input\":\"no\"}}", 0,
     0, NONE, 1},
    {"/v1/chat/completions", "{\"mess\\u0061ges\":[{\"content\":\"a\"}],\"max_tokens\":1}", 17, 0, 1, 1},
    {"/v1/chat/completions",
     "{\"messages\":[{\"content\":\"a\",\"content\":\"bc\"}],\"max_tokens\":1,\"max_tokens\":2}", 3, 0, 2, 1},
    {"/v1/completions", "{\"prompt\":\"hello\",\"max_tokens\":16,\"n\":2,\"best_of\":5}", 5, 0, 16, 5},
    {"/v1/completions", "{\"prompt\":[\"hello\",\"you\"],\"n\":2}", 8, 0, NONE, 4},
    {"/v1/completions", "{\"prompt\":[1, 22,333]}", 12, 3, NONE, 1},
    {"/v1/completions", "{\"prompt\":[[1,2],[3], [4]],\"max_tokens\":0}", 16, 4, 0, 3},
    {"/v1/completions", "{\"prompt\":[],\"suffix\":\"abc\"}", 3, 0, NONE, 1},
    {"/v1/completions", "{\"prompt\":null}", 0, 0, NONE, 1},
    {"/v1/embeddings", "{\"input\":[\"a\",\"bc\"],\"model\":\"m\"}", 3, 0, 0, 1},
    {"/v1/embeddings", "{\"input\":[[1,2,3],[4]]}", 16, 4, 0, 1},
    {"/v1/embeddings", "{\"input\":\"a\",\"max_tokens\":9}", 1, 0, 0, 1},
    {"/v1/rerank", "{\"query\":\"four\",\"documents\":[\"a\",{\"text\":\"bc\"},\"d\"]}", 4 * 3 + 4, 0, 0, 1},
    {"/v1/score", "{\"text_1\":\"four\",\"text_2\":\"ab\"}", 6, 0, 0, 1},
    {"/v1/score", "{\"text_1\":[\"a\",\"b\"],\"text_2\":[\"c\",\"d\"]}", 4, 0, 0, 1},
    {"/v1/responses", "{\"input\":\"hello\",\"instructions\":\"be good\",\"max_output_tokens\":50}", 12, 0, 50, 1},
    {"/v1/responses",
     "{\"input\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_text\",\"text\":\"hi\"},{\"type\":\"input_image\","
     "\"image_url\":\"data:x\"}]},{\"type\":\"function_call_output\",\"call_id\":\"c\",\"output\":\"yes\"}]}",
     4 + 2 + DEMAND_MEDIA_BYTES + 3, 0, NONE, 1},
    {"/v1/messages",
     "{\"max_tokens\":1024,\"system\":[{\"type\":\"text\",\"text\":\"be "
     "good\",\"cache_control\":{\"type\":\"ephemeral\"}}],"
     "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_use\",\"id\":\"x\",\"name\":\"f\",\"input\":{"
     "\"a\":1}},"
     "{\"type\":\"image\",\"source\":{\"type\":\"base64\",\"data\":\"AAAA\"}}]}]}",
     7 + 4 + 1 + 7 + DEMAND_MEDIA_BYTES, 0, 1024, 1},
    {"/v1/messages/count_tokens", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}", 5, 0, 0, 1},
    /* values that are none are not there */
    {"/v1/chat/completions", "{\"max_tokens\":\"7\",\"n\":-1,\"messages\":7}", 0, 0, NONE, 1},
    {"/v1/chat/completions", "{\"max_tokens\":-1,\"n\":1.5,\"messages\":{\"content\":\"a\"}}", 1, 0, NONE, 1},
    {"/v1/chat/completions", "{\"max_tokens\":99999999999,\"n\":0,\"n\":99999999999}", 0, 0, NONE - 1, NONE - 1},
    {"/v1/chat/completions", "{\"max_completion_tokens\":null,\"max_tokens\":3}", 0, 0, 3, 1},
    /* nor is what is no JSON object */
    {"/v1/chat/completions", "", 0, 0, NONE, 1},
    {"/v1/chat/completions", "[{\"max_tokens\":3}]", 0, 0, NONE, 1},
    {"/v1/chat/completions", "--boundary\r\nContent-Disposition: form-data\r\n", 0, 0, NONE, 1},
    {"/v1/chat/completions", "{\"max_tokens\":3,,\"n\":2}", 0, 0, 3, 1},
    {"/v1/chat/completions", "{\"max_tokens\":3,\"messages\":[{\"content\":\"abc", 3, 0, 3, 1},
};

static void expect(const struct body_sample *sample, const struct demand *demand)
{
    cr_expect_eq(demand->prompt_bytes, sample->prompt_bytes, "%s: %lu bytes", sample->body, demand->prompt_bytes);
    cr_expect_eq(demand->prompt_tokens, sample->prompt_tokens, "%s: %u tokens", sample->body, demand->prompt_tokens);
    cr_expect_eq(demand->output_max, sample->output_max, "%s: output %u", sample->body, demand->output_max);
    cr_expect_eq(demand->choices, sample->choices, "%s: %u choices", sample->body, demand->choices);
}

Test(demand, reads_what_a_body_costs_in_every_dialect)
{
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct demand demand = read_body(bodies[i].path, bytes_from(bodies[i].body));
        expect(&bodies[i], &demand);
    }
}

Test(demand, reads_no_byte_behind_a_body_that_is_cut_anywhere)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *map = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(map, MAP_FAILED);
    cr_assert_eq(mprotect(map + page, page, PROT_NONE), 0);
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct bytes body = bytes_from(bodies[i].body);
        for (size_t length = 0; length <= body.len; length++) {
            char *at = map + page - length;
            bytes_put(at, (struct bytes){body.ptr, length});
            struct demand demand = read_body(bodies[i].path, (struct bytes){at, length});
            uint64_t blocks[4];
            cr_expect(demand.prompt_bytes <= bodies[i].prompt_bytes + length);
            cr_expect_leq(demand_blocks(&demand, blocks, 4), 2);
        }
    }
    munmap(map, 2 * page);
}

Test(demand, counts_text_as_it_is_in_utf_8_whatever_its_escapes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } texts[] = {
        {"a\\nb", 3},
        {"\\\\", 1},
        {"\\\\\\\"x", 3},
        {"\\u0041", 1},
        {"\\u00e9", 2},
        {"\\u07ff", 2},
        {"\\u0800", 3},
        {"\\u4e2d", 3},
        {"\\ud7ff", 3},
        {"\\uD83D\\uDE00", 4},
        {"\\u4e2d\\u6587", 6},
        {"\xc3\xa9\\t", 3},
        {"\\/", 1},
        {"", 0},
        {"\\u007F", 1},
        {"0123456789abcdef\\n0123456789abcdef", 33},
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        char members[256];
        snprintf(members, sizeof(members), ",\"prompt\":\"%s\"", texts[i].text);
        struct demand demand = read_chat(members);
        cr_expect_eq(demand.prompt_bytes, texts[i].bytes, "%s: %lu", texts[i].text, demand.prompt_bytes);
    }
}

Test(demand, reads_the_model_and_says_when_it_has_escapes)
{
    struct demand demand =
        read_body("/v1/completions", BYTES("{\"prompt\":\"\\\"model\\\":\\\"x\\\"\",\"model\":\"a/b\"}"));
    cr_expect(bytes_equal(demand.model, BYTES("a/b")));
    cr_expect_not(demand.model_is_escaped);
    demand = read_body("/v1/completions", BYTES("{\"model\":\"a\\/b\"}"));
    cr_expect(bytes_equal(demand.model, BYTES("a\\/b")));
    cr_expect(demand.model_is_escaped);
    cr_expect_null(read_body("/v1/completions", BYTES("{\"model\":7}")).model.ptr);
    cr_expect_null(read_body("/v1/completions", BYTES("{\"model\":\"")).model.ptr);
}

Test(demand, is_a_stream_only_when_the_body_says_true)
{
    cr_expect(read_chat(",\"stream\":true").is_stream);
    cr_expect(read_chat(",\"stream\" : true ").is_stream);
    cr_expect_not(read_chat(",\"stream\":false").is_stream);
    cr_expect_not(read_chat(",\"stream\":\"true\"").is_stream);
    cr_expect_not(read_chat(",\"stream\":null").is_stream);
    cr_expect_not(read_chat(",\"x\":{\"stream\":true}").is_stream);
}

static const struct resolved_sample {
    const char *lines;
    const char *members;
    uint8_t from, class;
} resolved[] = {
    {"", "", 2, 2},
    {"", "", 0, 0},
    {"", ",\"priority\":0", 2, 2},
    {"", ",\"priority\":-1", 2, 1},
    {"", ",\"priority\":-100", 0, 0},
    {"", ",\"priority\":5", 1, 3},
    {"", ",\"priority\":\"5\"", 1, 1},
    {"", ",\"priority\":-", 1, 1},
    {"", ",\"service_tier\":\"priority\"", 2, 1},
    {"", ",\"service_tier\":\"flex\"", 2, 3},
    {"", ",\"service_tier\":\"auto\"", 2, 2},
    {"", ",\"service_tier\":\"default\"", 0, 0},
    {"", ",\"service_tier\":\"priority\",\"priority\":-1", 2, 0},
    {"Priority: u=5\r\n", ",\"service_tier\":\"priority\"", 2, 3},
    {"Priority: u=5\r\n", ",\"priority\":-1", 2, 2},
    {"Priority: u=0\r\n", "", 3, 0},
};

Test(demand, resolves_the_class_from_all_that_says_something)
{
    for (size_t i = 0; i < ARRAY_COUNT(resolved); i++) {
        struct demand demand = read_head(resolved[i].lines);
        char body[256];
        snprintf(body, sizeof(body), "{\"model\":\"m\"%s}", resolved[i].members);
        demand_from_body(&demand, BYTES("/v1/chat/completions"), bytes_from(body));
        cr_expect_eq(demand_class(&demand, resolved[i].from), resolved[i].class, "%zu", i);
    }
}

Test(demand, has_a_stream_meet_the_deadline_of_its_first_token_and_an_answer_that_of_its_end)
{
    struct demand demand = read_head("x-request-timeout-ms: 1000\r\nx-slo-ttft-ms: 200\r\nx-stainless-timeout: 5\r\n");
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 1000 * MS);
    demand.is_stream = true;
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 200 * MS);
    demand = read_head("x-slo-ttft-ms: 200\r\n");
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 30 * S, "what is no stream has no first token");
}

Test(demand, has_a_deadline_only_where_one_is_named_or_the_client_leaves_sooner_than_is_usual)
{
    cr_expect_not(demand_has_deadline(&(struct demand){.total_ns = NANOS_NEVER, .silence_ns = NANOS_NEVER}, S));
    struct demand demand = read_head("x-stainless-read-timeout: 600\r\nx-slo-ttft-ms: 200\r\n");
    cr_expect_not(demand_has_deadline(&demand, 60 * S));
    cr_expect(demand_has_deadline(&demand, 700 * S));
    demand.is_stream = true;
    cr_expect(demand_has_deadline(&demand, 60 * S));
    demand = read_head("x-litellm-timeout: 600\r\n");
    cr_expect(demand_has_deadline(&demand, 60 * S));
}

Test(demand, lets_a_client_name_a_later_moment_than_is_usual_but_not_by_its_patience)
{
    struct demand demand = read_head("");
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 30 * S);
    cr_expect_eq(demand_deadline(&demand, 7, NANOS_NEVER), NANOS_NEVER);
    demand = read_head("x-litellm-timeout: 60\r\n");
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 60 * S);
    demand = read_head("x-stainless-read-timeout: 600\r\n");
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 30 * S);
    demand = read_head("x-stainless-read-timeout: 5\r\n");
    cr_expect_eq(demand_deadline(&demand, 7, 30 * S), 7 + 5 * S);
    demand = read_head("x-litellm-timeout: 18446744073709551615\r\n");
    cr_expect_eq(demand_deadline(&demand, NANOS_NEVER - 7, 30 * S), NANOS_NEVER);
}

/* ---- blocks ---- */

enum { TEXT_BYTES = 9000 };

static uint32_t blocks_of(const char *before, const char *text, const char *behind, uint64_t *blocks)
{
    static char body[4 * TEXT_BYTES];
    int length = snprintf(body, sizeof(body), "{%s%s%s}", before, text, behind);
    struct demand demand = read_body("/v1/chat/completions", (struct bytes){body, (size_t)length});
    return demand_blocks(&demand, blocks, 8);
}

static void fill(char *text, char seed)
{
    for (unsigned i = 0; i < TEXT_BYTES; i++) {
        text[i] = (char)('a' + (i / 7 * 11 + i % 7 + (unsigned)seed) % 26);
    }
    text[TEXT_BYTES] = '\0';
}

Test(demand, gives_prompts_that_begin_alike_equal_hashes_as_far_as_they_do)
{
    static char text[TEXT_BYTES + 1];
    uint64_t one[8];
    uint64_t other[8];
    fill(text, 0);
    cr_expect_eq(blocks_of("\"messages\":[{\"role\":\"user\",\"content\":\"", text, "\"}]", one), 4);
    /* a turn more, and the members in another order */
    cr_expect_eq(
        blocks_of("\"n\":1,\"messages\":[{\"content\":\"x\",\"content\":null},{\"role\":\"user\",\"content\":\"", text,
                  "\"}]", other),
        4);
    cr_expect_neq(one[0], other[0]);
    cr_expect_eq(blocks_of("\"n\":1,\"messages\":[{\"role\":\"user\",\"content\":\"", text,
                           "\"},{\"role\":\"assistant\",\"content\":\"hello\"}],\"temperature\":0", other),
                 4);
    cr_expect_arr_eq(one, other, 4 * sizeof(one[0]));
    text[5000] = 'A'; /* in the third block */
    cr_expect_eq(blocks_of("\"messages\":[{\"role\":\"user\",\"content\":\"", text, "\"}]", other), 4);
    cr_expect_arr_eq(one, other, 2 * sizeof(one[0]));
    cr_expect_neq(one[2], other[2]);
    cr_expect_neq(one[3], other[3], "a block's hash is over all before it, too");
}

Test(demand, puts_tools_and_instructions_before_the_conversation_in_blocks)
{
    static char text[TEXT_BYTES + 1];
    static char behind[3 * TEXT_BYTES];
    static char before[3 * TEXT_BYTES];
    uint64_t one[8];
    uint64_t other[8];
    fill(text, 3);
    snprintf(behind, sizeof(behind), "\",\"input\":\"now\",\"tools\":[\"%s\"]", text);
    cr_expect_eq(blocks_of("\"instructions\":\"", text, behind, one), 8);
    snprintf(before, sizeof(before), "\"tools\":[\"%s\"],\"input\":\"then\",\"instructions\":\"", text);
    cr_expect_eq(blocks_of(before, text, "\"", other), 8);
    cr_expect_arr_eq(one, other, 8 * sizeof(one[0]));
}

Test(demand, hashes_tokens_and_says_what_a_block_of_them_is_worth)
{
    static char body[TEXT_BYTES * 4];
    size_t used = (size_t)snprintf(body, sizeof(body), "{\"prompt\":[1");
    for (unsigned i = 1; i < 1200; i++) {
        used += (size_t)snprintf(body + used, sizeof(body) - used, ", %u", i * 37);
    }
    used += (size_t)snprintf(body + used, sizeof(body) - used, "]}");
    struct demand demand = read_body("/v1/completions", (struct bytes){body, used});
    uint64_t blocks[8];
    struct cost_question question;
    uint32_t count = demand_blocks(&demand, blocks, 8);
    demand_question(&demand, 5, blocks, count, &question);
    cr_expect_eq(question.prompt_tokens, 1200);
    cr_expect_eq(question.prompt_bytes, 4800);
    cr_expect_eq(question.block_count, 2);
    cr_expect_eq(question.block_bytes, DEMAND_BLOCK_BYTES);
    cr_expect_eq(question.tenant, 5);
}

Test(demand, counts_a_block_for_less_where_the_text_is_written_with_escapes)
{
    static char text[TEXT_BYTES + 1];
    for (unsigned i = 0; i < TEXT_BYTES; i += 6) {
        memcpy(text + i, "\\u4e2d", 6);
    }
    text[TEXT_BYTES] = '\0';
    static char body[2 * TEXT_BYTES];
    int length = snprintf(body, sizeof(body), "{\"prompt\":\"%s\"}", text);
    struct demand demand = read_body("/v1/completions", (struct bytes){body, (size_t)length});
    struct cost_question question;
    uint64_t blocks[8];
    demand_question(&demand, 0, blocks, demand_blocks(&demand, blocks, 8), &question);
    cr_expect_eq(question.prompt_bytes, TEXT_BYTES / 2);
    cr_expect_eq(question.block_bytes, DEMAND_BLOCK_BYTES / 2);
    cr_expect_eq(question.block_count, TEXT_BYTES / DEMAND_BLOCK_BYTES);
}

Test(demand, gives_no_more_blocks_than_there_is_room_for)
{
    static char text[TEXT_BYTES + 1];
    fill(text, 9);
    static char body[2 * TEXT_BYTES];
    int length = snprintf(body, sizeof(body), "{\"prompt\":\"%s\"}", text);
    struct demand demand = read_body("/v1/completions", (struct bytes){body, (size_t)length});
    uint64_t blocks[3] = {0, 0, 42};
    cr_expect_eq(demand_blocks(&demand, blocks, 2), 2);
    cr_expect_eq(blocks[2], 42);
    cr_expect_eq(demand_blocks(&demand, blocks, 0), 0);
}
