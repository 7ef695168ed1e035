#include "api/error.h"

#include <criterion/criterion.h>
#include <yyjson.h>

#include "base/check.h"

static const struct api_error errors[] = {
    {400, "the request target is malformed", "bad_target"},
    {401, "who are you", NULL},
    {404, "no route fits", "not_found"},
    {408, "too slow", "request_timeout"},
    {429, "later", "rate_limited"},
    {502, "the upstream could not be reached", "upstream"},
    {503, "no room", "overloaded"},
    {504, "no answer in time", "upstream_timeout"},
    {500, "", NULL},
    {418, "short and stout", "teapot"},
};

static void check_json(const char *json, size_t bytes, const struct api_error *error)
{
    yyjson_doc *doc = yyjson_read(json, bytes, 0);
    cr_assert_not_null(doc, "%.*s", (int)bytes, json);
    yyjson_val *root = yyjson_doc_get_root(doc);
    cr_assert_eq(yyjson_obj_size(root), 1);
    yyjson_val *inner = yyjson_obj_get(root, "error");
    cr_assert_eq(yyjson_obj_size(inner), 4);
    cr_assert_str_eq(yyjson_get_str(yyjson_obj_get(inner, "message")), error->message);
    cr_assert(yyjson_is_str(yyjson_obj_get(inner, "type")));
    cr_assert(yyjson_is_null(yyjson_obj_get(inner, "param")));
    yyjson_val *code = yyjson_obj_get(inner, "code");
    cr_assert(error->code == NULL ? yyjson_is_null(code) : yyjson_equals_str(code, error->code));
    yyjson_doc_free(doc);
}

Test(error, is_valid_json_on_inference_routes)
{
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        struct arena arena;
        struct bytes type;
        arena_init(&arena, NULL, 0);
        struct bytes body = api_error_body(&arena, API_DIALECT_OPENAI, &errors[i], &type);
        cr_assert(bytes_equal(type, BYTES("application/json")));
        check_json(body.ptr, body.len, &errors[i]);
        arena_fini(&arena);
    }
}

Test(error, is_one_event_in_the_middle_of_a_stream)
{
    for (size_t i = 0; i < ARRAY_COUNT(errors); i++) {
        struct arena arena;
        arena_init(&arena, NULL, 0);
        struct bytes event = api_error_event(&arena, &errors[i]);
        cr_assert(bytes_starts_with(event, BYTES("data: ")));
        cr_assert_eq(memcmp(event.ptr + event.len - 2, "\n\n", 2), 0);
        cr_assert_eq(memchr(event.ptr, '\n', event.len), event.ptr + event.len - 2, "one line");
        check_json(event.ptr + 6, event.len - 8, &errors[i]);
        arena_fini(&arena);
    }
}

Test(error, is_a_line_of_text_elsewhere)
{
    struct arena arena;
    struct bytes type;
    arena_init(&arena, NULL, 0);
    struct bytes body = api_error_body(&arena, API_DIALECT_PLAIN, &errors[6], &type);
    cr_assert(bytes_equal(body, BYTES("503 Service Unavailable: no room\n")));
    cr_assert(bytes_starts_with(type, BYTES("text/plain")));
    arena_fini(&arena);
}
