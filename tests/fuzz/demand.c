/* Any bytes as a request's head, as its body, and as an answer: what a body is found to cost does not depend on white
 * space before it and is no more than it can be; what an answer's meter says does not depend on how it is cut. */

#include <stdint.h>
#include <stdlib.h>

#include "api/demand.h"
#include "api/token_meter.h"
#include "base/check.h"

enum { BLOCKS = 16 };

static void try_head(struct bytes text)
{
    static struct http_parser parser;
    const struct http_limits limits = {.head_bytes_max = 1 << 16, .target_bytes_max = 1 << 12, .fields_max = 100};
    http_parser_init(&parser, HTTP_REQUEST, &limits);
    if (http_parse_head(&parser, text.ptr, text.len) != RESULT_OK) {
        return;
    }
    struct demand demand;
    demand_init(&demand);
    demand_from_head(&demand, &parser.head, text.ptr);
    CHECK(demand.class <= DEMAND_CLASS_NONE && demand_class(&demand, 2) < SCHED_CLASSES);
    CHECK(demand.total_ns > 0 && demand.first_ns > 0 && demand.silence_ns > 0 && demand.token_ns > 0);
    CHECK(demand_deadline(&demand, 1, NANOS_NEVER) > 1);
}

static uint32_t read_body(struct bytes path, struct bytes body, struct demand *demand, uint64_t *blocks)
{
    demand_init(demand);
    demand_from_body(demand, path, body);
    CHECK(demand->class <= DEMAND_CLASS_NONE && demand->choices >= 1);
    CHECK(demand->prompt_bytes <= (uint64_t)body.len * (body.len + DEMAND_MEDIA_BYTES));
    struct bytes model = demand->model;
    CHECK(model.ptr == NULL || (model.ptr > body.ptr && model.ptr + model.len < body.ptr + body.len));
    struct cost_question question;
    uint32_t count = demand_blocks(demand, blocks, BLOCKS);
    demand_question(demand, 1, blocks, count, &question);
    CHECK(question.block_bytes <= DEMAND_BLOCK_BYTES * 4 || question.block_count == 0);
    return count;
}

static void try_body(struct bytes path, struct bytes body)
{
    struct demand demand;
    struct demand again;
    uint64_t blocks[BLOCKS];
    uint64_t blocks_again[BLOCKS];
    uint32_t count = read_body(path, body, &demand, blocks);
    char *longer = malloc(body.len + 1);
    CHECK(longer != NULL);
    longer[0] = '\n';
    bytes_put(longer + 1, body);
    uint32_t count_again = read_body(path, (struct bytes){longer, body.len + 1}, &again, blocks_again);
    CHECK(count == count_again && memcmp(blocks, blocks_again, count * sizeof(blocks[0])) == 0);
    CHECK(demand.is_stream == again.is_stream && demand.choices == again.choices);
    free(longer);
}

static struct token_meter watch(struct bytes body, bool is_stream, size_t first, size_t step)
{
    struct token_meter meter;
    token_meter_init(&meter, is_stream);
    token_meter_feed(&meter, (struct bytes){body.ptr, first});
    for (size_t at = first; at < body.len; at += step) {
        size_t rest = body.len - at;
        token_meter_feed(&meter, (struct bytes){body.ptr + at, rest < step ? rest : step});
    }
    return meter;
}

static void try_answer(struct bytes body, bool is_stream)
{
    struct token_meter whole = watch(body, is_stream, body.len, 1);
    size_t firsts = body.len < 32 ? body.len + 1 : 32;
    for (size_t i = 0; i <= firsts; i++) {
        bool is_bytewise = i == firsts;
        size_t first = is_bytewise ? 0 : body.len * i / firsts;
        struct token_meter cut = watch(body, is_stream, first, is_bytewise ? 1 : body.len + 1);
        CHECK(cut.has_content == whole.has_content && cut.tokens == whole.tokens);
        CHECK(cut.has_usage == whole.has_usage && cut.output_tokens == whole.output_tokens);
        CHECK(cut.prompt_tokens == whole.prompt_tokens && cut.cached_tokens == whole.cached_tokens);
    }
    CHECK(is_stream || (!whole.has_content && whole.tokens == 0));
    CHECK(whole.tokens == 0 || whole.has_content);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = {(const char *)data, size};
    try_head(text);
    try_body(BYTES("/v1/chat/completions"), text);
    try_body(BYTES("/v1/completions"), text);
    try_body(BYTES("/v1/rerank"), text);
    try_answer(text, true);
    try_answer(text, false);
    return 0;
}
