#include "api/inference.h"

#include <criterion/criterion.h>

#include "base/check.h"

Test(inference, the_api_without_its_prefix_gets_it_and_everything_else_passes)
{
    static const char *const paths[][2] = {
        {"/chat/completions", "/v1/chat/completions"},
        {"/v1/chat/completions", "/v1/chat/completions"},
        {"/completions", "/v1/completions"},
        {"/models", "/v1/models"},
        {"/models/a/b", "/v1/models/a/b"},
        {"/embeddings", "/v1/embeddings"},
        {"/v1", "/v1"},
        {"/v1/unknown", "/v1/unknown"},
        {"/chatter", "/chatter"},
        {"/model", "/model"},
        {"/health", "/health"},
        {"/", "/"},
        {"", ""},
        {"//models", "//models"},
        {"/v2/chat/completions", "/v2/chat/completions"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(paths); i++) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct bytes path = inference_upstream_path(&arena, bytes_from(paths[i][0]));
        cr_assert(bytes_equal(path, bytes_from(paths[i][1])), "%s: %.*s", paths[i][0], BYTES_ARG(path));
        arena_fini(&arena);
    }
    cr_assert(inference_is_model_list(BYTES("/v1/models")));
    cr_assert_not(inference_is_model_list(BYTES("/v1/models/")));
    cr_assert_not(inference_is_model_list(BYTES("/models")));
}

Test(inference, the_model_is_the_top_level_string_of_that_name)
{
    static const struct {
        const char *body;
        const char *model;
    } bodies[] = {
        {"{\"model\":\"m-1\"}", "m-1"},
        {" {\"a\":{\"model\":\"inner\"},\"model\":\"caf\\u00e9 \\\"x\\\"\"}", "caf\xc3\xa9 \"x\""},
        {"{\"model\":\"\"}", ""},
        {"{\"model\":5}", NULL},
        {"{\"model\":null}", NULL},
        {"{\"a\":{\"model\":\"inner\"}}", NULL},
        {"[{\"model\":\"m\"}]", NULL},
        {"\"model\"", NULL},
        {"{\"model\":\"m\"", NULL},
        {"{\"model\":\"m\"}x", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct arena arena;
        struct bytes model = BYTES("untouched");
        arena_init(&arena, NULL, 0);
        bool found = inference_model(&arena, bytes_from(bodies[i].body), &model);
        cr_assert_eq(found, bodies[i].model != NULL, "%s", bodies[i].body);
        cr_assert(bytes_equal(model, found ? bytes_from(bodies[i].model) : BYTES("untouched")), "%s", bodies[i].body);
        arena_fini(&arena);
    }
    struct arena arena;
    struct bytes model;
    arena_init(&arena, NULL, 0);
    cr_assert_not(inference_model(&arena, BYTES_NONE, &model), "no body at all");
    arena_fini(&arena);
}

Test(inference, a_deeply_nested_body_does_not_use_the_stack)
{
    enum { DEPTH = 2000000 };
    static char body[DEPTH * 2];
    memset(body, '[', DEPTH);
    memset(body + DEPTH, ']', DEPTH);
    struct arena arena;
    struct bytes model;
    arena_init(&arena, NULL, 0);
    cr_assert_not(inference_model(&arena, (struct bytes){body, sizeof(body)}, &model));
    arena_fini(&arena);
}
