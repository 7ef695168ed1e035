#include "api/inference_meter.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "loop.h"

/* A worker with the gate of one model, and a fetch that it has let through. */
struct scene {
    struct ring *ring;
    struct chunk_pool pool;
    struct proxy proxy;
    struct gates gates;
    struct gates *peers[1];
    struct gate_options options;
    struct gate *gate;
    struct fetch *fetch;
    struct http_parser parser;
};

static void scene_init(struct scene *scene)
{
    memset(scene, 0, sizeof(*scene));
    scene->ring = loop_create(NULL);
    chunk_pool_init(&scene->pool, 1 << 20);
    proxy_init(&scene->proxy, scene->ring, &scene->pool);
    scene->options = (struct gate_options){
        .is_enabled = true,
        .model =
            {
                .limiter = {.kind = LIMITER_FIXED, .initial = 4, .min = 1, .max = 4, .endpoints = 1, .seed = 1},
                .queue = {.requests_max = 4, .tenants_max = 4, .tenant_share_percent = 50, .small_tokens_max = 1024},
                .endpoint_count = 1,
            },
        .cost = {.bytes_per_token = 4, .output_quantile = 0.75, .output_tokens = 256, .tenants_max = 4},
    };
    scene->peers[0] = &scene->gates;
    const struct gates_options options = {
        .ring = scene->ring, .count = 1, .peers = scene->peers, .options = &scene->options, .upstream_count = 1};
    cr_assert_eq(gates_init(&scene->gates, &options), RESULT_OK);
    scene->gate = gates_model(&scene->gates, 0, BYTES("m"), true);
    cr_assert_not_null(scene->gate);
}

static const struct cost_question question = {.prompt_bytes = 4000, .output_max = 512, .choices = 1};

static void begin(struct scene *scene, bool is_streamed, const char *head)
{
    struct fetch *fetch = calloc(1, sizeof(*fetch));
    cr_assert_not_null(fetch);
    scene->fetch = fetch;
    fetch->proxy = &scene->proxy;
    arena_init(&fetch->arena, fetch->arena_lent, sizeof(fetch->arena_lent));
    gate_pass_init(&fetch->pass, scene->gate);
    fetch->pass.request.is_streamed = is_streamed;
    fetch->pass.request.cost = cost_estimate(gate_cost(scene->gate), &question);
    cr_assert(inference_meter_attach(fetch, &question));
    cr_assert_eq(gate_enter(&fetch->pass), GATE_GRANTED);
    const struct http_limits limits = {.head_bytes_max = 4096, .fields_max = 20};
    http_parser_init(&scene->parser, HTTP_RESPONSE, &limits);
    cr_assert_eq(http_parse_head(&scene->parser, head, strlen(head)), RESULT_OK);
    fetch->meter->on_head(fetch->meter, fetch, &scene->parser.head, head);
}

static void feed(struct scene *scene, const char *text)
{
    scene->fetch->meter->on_body(scene->fetch->meter, scene->fetch, bytes_from(text));
}

/* Gives what was told of the usage. */
static struct admission_outcome end(struct scene *scene, enum result result)
{
    struct fetch *fetch = scene->fetch;
    fetch->meter->on_end(fetch->meter, fetch, result);
    struct admission_outcome outcome = fetch->pass.outcome;
    gate_leave(&fetch->pass);
    gate_pass_fini(&fetch->pass);
    arena_fini(&fetch->arena);
    free(fetch);
    return outcome;
}

static void scene_fini(struct scene *scene)
{
    gates_close(&scene->gates);
    gates_fini(&scene->gates);
    chunk_pool_fini(&scene->pool);
    ring_destroy(scene->ring);
}

struct asking {
    nanos now;
    struct admission_figures figures;
};

static void take_figures(const struct gate_view *view, void *context)
{
    struct asking *asking = context;
    admission_figures(view->admission, asking->now, &asking->figures);
}

static uint64_t first_tokens(struct scene *scene)
{
    struct asking asking = {.now = ring_now(scene->ring)};
    gates_each_owned(&scene->gates, take_figures, &asking);
    return asking.figures.counters.first_tokens;
}

#define EVENTS "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"
#define JSON   "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"

Test(inference_meter, tells_of_the_first_token_when_content_has_come_and_of_those_that_follow)
{
    struct scene scene;
    scene_init(&scene);
    begin(&scene, true, EVENTS);
    feed(&scene, "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n");
    cr_expect_eq(first_tokens(&scene), 0);
    feed(&scene, "data: {\"choices\":[{\"delta\":{\"content\":\"a");
    cr_expect_eq(first_tokens(&scene), 1);
    cr_expect_eq(scene.fetch->pass.request.emitted_tokens, 1);
    feed(&scene, "\"}}]}\n\n");
    cr_expect_eq(scene.fetch->pass.request.emitted_tokens, 1);
    feed(&scene, "data: {\"choices\":[{\"delta\":{\"content\":\"b\"}}]}\n\ndata: "
                 "{\"choices\":[{\"delta\":{\"content\":\"c\"}}]}\n\n");
    cr_expect_eq(scene.fetch->pass.request.emitted_tokens, 3);
    cr_expect_eq(first_tokens(&scene), 1);
    cr_expect_not(end(&scene, RESULT_OK).has_usage);
    scene_fini(&scene);
}

Test(inference_meter, hands_the_usage_to_the_gate_and_to_the_costs)
{
    struct scene scene;
    scene_init(&scene);
    uint32_t before = cost_estimate(gate_cost(scene.gate), &question).prompt_tokens;
    for (unsigned i = 0; i < 50; i++) {
        begin(&scene, false, JSON);
        feed(&scene,
             "{\"usage\":{\"prompt_tokens\":2000,\"completion_tokens\":30,\"prompt_tokens_details\":{\"cached_");
        feed(&scene, "tokens\":7}}}");
        struct admission_outcome outcome = end(&scene, RESULT_OK);
        cr_expect(outcome.has_usage);
        cr_expect_eq(outcome.usage.prompt_tokens, 2000);
        cr_expect_eq(outcome.usage.cached_tokens, 7);
        cr_expect_eq(outcome.usage.output_tokens, 30);
    }
    struct sched_cost learned = cost_estimate(gate_cost(scene.gate), &question);
    cr_expect_eq(before, 1000);
    cr_expect(learned.prompt_tokens > 1500 && learned.prompt_tokens <= 2000, "%u", learned.prompt_tokens);
    cr_expect(learned.output_tokens >= 30 && learned.output_tokens < 100, "%u", learned.output_tokens);
    cr_expect_eq(first_tokens(&scene), 0, "a whole answer has none to show");
    scene_fini(&scene);
}

Test(inference_meter, learns_from_counted_tokens_where_there_is_no_usage)
{
    struct scene scene;
    scene_init(&scene);
    for (unsigned i = 0; i < 50; i++) {
        begin(&scene, true, EVENTS);
        for (unsigned k = 0; k < 20; k++) {
            feed(&scene, "data: {\"choices\":[{\"text\":\"a\"}]}\n\n");
        }
        cr_expect_not(end(&scene, RESULT_OK).has_usage);
    }
    struct sched_cost learned = cost_estimate(gate_cost(scene.gate), &question);
    cr_expect(learned.output_tokens >= 20 && learned.output_tokens < 100, "%u", learned.output_tokens);
    cr_expect_eq(learned.prompt_tokens, 1000);
    scene_fini(&scene);
}

static uint64_t answers(struct scene *scene)
{
    struct cost_figures figures;
    cost_figures(gate_cost(scene->gate), &figures);
    return figures.answers;
}

Test(inference_meter, takes_the_first_byte_of_an_answer_with_a_content_coding_for_its_first_token)
{
    struct scene scene;
    scene_init(&scene);
    begin(&scene, true, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: gzip\r\n\r\n");
    cr_expect_eq(first_tokens(&scene), 0);
    feed(&scene, "\x1f\x8b");
    cr_expect_eq(first_tokens(&scene), 1);
    feed(&scene, "{\"usage\":{\"prompt_tokens\":2000}}");
    cr_expect_not(end(&scene, RESULT_OK).has_usage);
    cr_expect_eq(first_tokens(&scene), 1);
    cr_expect_eq(answers(&scene), 0);
    scene_fini(&scene);
}

Test(inference_meter, learns_nothing_from_errors_and_from_answers_that_broke_off)
{
    static const char *const heads[] = {
        "HTTP/1.1 500 No\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 503 No\r\nContent-Type: text/event-stream\r\n\r\n",
    };
    struct scene scene;
    scene_init(&scene);
    for (unsigned i = 0; i < 2; i++) {
        begin(&scene, true, heads[i]);
        feed(&scene, "{\"usage\":{\"prompt_tokens\":2000},\"delta\":\"a\"}\n\ndata: {\"delta\":\"a\"}\n\n");
        cr_expect_not(end(&scene, RESULT_OK).has_usage);
    }
    cr_expect_eq(first_tokens(&scene), 0);
    begin(&scene, true, EVENTS);
    feed(&scene, "data: {\"delta\":\"a\"}\n\n");
    (void)end(&scene, RESULT_RESET);
    cr_expect_eq(first_tokens(&scene), 1);
    cr_expect_eq(answers(&scene), 0);
    scene_fini(&scene);
}

Test(inference_meter, has_nothing_to_say_of_a_fetch_that_was_never_begun)
{
    struct scene scene;
    scene_init(&scene);
    begin(&scene, true, EVENTS);
    struct fetch *fetch = scene.fetch;
    cr_assert(inference_meter_attach(fetch, &question));
    cr_expect_not(end(&scene, RESULT_CANCELED).has_usage);
    cr_expect_eq(answers(&scene), 0);
    scene_fini(&scene);
}
