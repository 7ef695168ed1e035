#include "api/inference_key.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/json_buffer.h"
#include "base/check.h"

#define CHAT  BYTES("/v1/chat/completions")
#define COLD  "\"temperature\":0"
#define HELLO "\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]"

static const struct inference_key_options strict = {0};

static struct inference_key make_with(struct bytes path, const char *body, const struct inference_key_options *options)
{
    const struct inference_request request = {.tenant = BYTES("t"), .path = path, .body = bytes_from(body)};
    struct inference_key key;
    inference_key_make(&request, options, &key);
    return key;
}

static struct inference_key make(const char *body)
{
    return make_with(CHAT, body, &strict);
}

static bool same(const char *one, const char *other)
{
    struct inference_key a = make(one);
    struct inference_key b = make(other);
    cr_assert(a.may_store && b.may_store, "%s %s: %s %s", one, other, inference_reason_name(a.reason),
              inference_reason_name(b.reason));
    bool equal = bytes_equal(a.key, b.key);
    inference_key_fini(&a);
    inference_key_fini(&b);
    return equal;
}

static void expect_key(const struct inference_request *request, const struct inference_key_options *options,
                       const char *expected)
{
    struct inference_key key;
    inference_key_make(request, options, &key);
    cr_assert(bytes_equal(key.key, bytes_from(expected)), "%.*s", BYTES_ARG(key.key));
    inference_key_fini(&key);
}

Test(inference_key, is_the_prefix_tenant_family_model_and_canonical_body)
{
    struct inference_request request = {
        .prefix = BYTES("r\n"),
        .tenant = BYTES("a\"b\n\xff"),
        .path = CHAT,
        .body = BYTES(" { \"stream\" : true,\n \"model\":\"m\\u0031\", \"temperature\": 0.0, \"b\":[ 1.50, 1e2,-0.0 ],"
                      "\"a\" : {\"z\":null,\"y\":\"\\u00e9\\/\\u0007\\n\"} } "),
    };
    expect_key(&request, &strict,
               "r\n\"a\\\"b\\n\xff\"\nchat.completions\n\"m1\"\n"
               "{\"a\":{\"y\":\"\xc3\xa9/\\u0007\\n\",\"z\":null},\"b\":[15e-1,1e2,0],\"temperature\":0}");
    request.model = BYTES("other");
    request.path = BYTES("/v1/completions");
    expect_key(&request, &(struct inference_key_options){.is_shared = true},
               "r\n*\ncompletions\n\"other\"\n"
               "{\"a\":{\"y\":\"\xc3\xa9/\\u0007\\n\",\"z\":null},\"b\":[15e-1,1e2,0],\"temperature\":0}");
    request = (struct inference_request){.tenant = BYTES("*"), .path = BYTES("/v1/score"), .body = BYTES("{}")};
    expect_key(&request, &strict, "\"*\"\nscore\nnull\n{}");
}

Test(inference_key, tells_the_model_that_it_holds)
{
    struct inference_key key = make("{" COLD ",\"model\":\"org/a b\"}");
    cr_assert(bytes_equal(key.model, BYTES("org/a b")));
    cr_assert(key.model.ptr > key.key.ptr && key.model.ptr < key.key.ptr + key.key.len);
    inference_key_fini(&key);
    key = make("{" COLD ",\"model\":7}");
    cr_assert_null(key.model.ptr);
    inference_key_fini(&key);
    cr_assert(!same("{" COLD ",\"model\":7}", "{" COLD ",\"model\":8}"));
    cr_assert(same("{" COLD ",\"model\":null}", "{" COLD "}"));
}

Test(inference_key, is_equal_for_bodies_that_mean_the_same)
{
    static const char *const pairs[][2] = {
        {"{\"x\":1,\"seed\":1}", "{\"seed\":1,\"x\":1}"},
        {"{\"x\":1,\"temperature\":0}", "\n{ \"x\" :\t1.0 , \"temperature\" : 0e1 }\r\n"},
        {"{" COLD ",\"x\":1e2}", "{" COLD ",\"x\":100}"},
        {"{" COLD ",\"x\":1E+2}", "{" COLD ",\"x\":100.000}"},
        {"{" COLD ",\"x\":0.5}", "{" COLD ",\"x\":5e-1}"},
        {"{" COLD ",\"x\":0.00120}", "{" COLD ",\"x\":12E-4}"},
        {"{" COLD ",\"x\":-0.0e7}", "{" COLD ",\"x\":0}"},
        {"{" COLD ",\"x\":-2.50}", "{" COLD ",\"x\":-25e-1}"},
        {"{" COLD ",\"x\":10e-1}", "{" COLD ",\"x\":1}"},
        {"{" COLD ",\"x\":1e-0000000001}", "{" COLD ",\"x\":0.1}"},
        {"{" COLD ",\"x\":123456789012345678901234567890}", "{" COLD ",\"x\":12345678901234567890123456789.0e1}"},
        {"{" COLD ",\"x\":\"\\u0061\\t\"}", "{" COLD ",\"x\":\"a\\u0009\"}"},
        {"{" COLD ",\"x\":\"\\ud83d\\ude00\"}", "{" COLD ",\"x\":\"\xf0\x9f\x98\x80\"}"},
        {"{" COLD ",\"x\":\"a\\/b\"}", "{" COLD ",\"x\":\"a/b\"}"},
        {"{" COLD ",\"\\u0078\":1}", "{" COLD ",\"x\":1}"},
        {"{" COLD ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"a\":{\"c\":1,\"b\":[]}}}]}",
         "{\"tools\":[{\"function\":{\"a\":{\"b\":[],\"c\":1},\"name\":\"f\"},\"type\":\"function\"}]," COLD "}"},
        /* what is left out */
        {"{" COLD "}", "{" COLD ",\"stream\":true}"},
        {"{" COLD "}", "{" COLD ",\"stream\":false,\"stream_options\":null}"},
        {"{" COLD "}", "{" COLD ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}"},
        {"{" COLD "}", "{" COLD ",\"stream\":true,\"stream_options\":{\"include_usage\":false}}"},
        {"{" COLD "}", "{" COLD ",\"stream\":true,\"stream_options\":{}}"},
        {"{" COLD "}", "{" COLD ",\"user\":\"u\",\"safety_identifier\":\"s\",\"metadata\":{\"a\":\"b\"}}"},
        {"{" COLD "}", "{" COLD ",\"priority\":3,\"service_tier\":\"flex\",\"prompt_cache_key\":\"k\"}"},
        {"{" COLD "}", "{" COLD ",\"store\":false,\"prompt_cache_retention\":\"24h\"}"},
        {"{" COLD "}", "{" COLD ",\"cache\":{\"ttl\":5,\"no-cache\":true}}"},
        {"{" COLD ",\"cache\":{\"namespace\":\"n\"}}", "{" COLD ",\"cache\":{\"namespace\":\"n\",\"ttl\":5}}"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(pairs); i++) {
        cr_expect(same(pairs[i][0], pairs[i][1]), "%s %s", pairs[i][0], pairs[i][1]);
    }
}

Test(inference_key, differs_for_bodies_that_may_mean_something_else)
{
    static const char *const bodies[] = {
        "{" COLD "}",
        "{\"seed\":0}",
        "{\"seed\":1}",
        "{" COLD ",\"top_p\":1}",
        "{" COLD ",\"n\":1}",
        "{" COLD ",\"n\":2}",
        "{" COLD ",\"n\":\"2\"}",
        "{" COLD ",\"n\":null}",
        "{" COLD ",\"x\":9007199254740993}",
        "{" COLD ",\"x\":9007199254740992}",
        "{" COLD ",\"x\":0.1}",
        "{" COLD ",\"x\":0.10000000000000001}",
        "{" COLD ",\"x\":1e999999999}",
        "{" COLD ",\"x\":1e9999999999999999999999}",
        "{" COLD ",\"x\":-1e9999999999999999999999}",
        "{" COLD ",\"x\":-1}",
        "{" COLD ",\"x\":1}",
        "{" COLD ",\"x\":10}",
        "{" COLD ",\"x\":\"1\"}",
        "{" COLD ",\"x\":true}",
        "{" COLD ",\"x\":false}",
        "{" COLD ",\"x\":[]}",
        "{" COLD ",\"x\":{}}",
        "{" COLD ",\"x\":[[]]}",
        "{" COLD ",\"x\":[[],[]]}",
        "{" COLD ",\"x\":[1,2]}",
        "{" COLD ",\"x\":[2,1]}",
        "{" COLD ",\"x\":\"e\xcc\x81\"}",
        "{" COLD ",\"x\":\"\xc3\xa9\"}",
        "{" COLD ",\"x\":\"\\u0000\"}",
        "{" COLD ",\"x\":\"\"}",
        "{" COLD ",\"x\":\" \"}",
        "{" COLD ",\"X\":\"\"}",
        "{" COLD ",\"x\":{\"user\":\"a\"}}",
        "{" COLD ",\"x\":{\"user\":\"b\"}}",
        "{" COLD ",\"x\":{\"stream_options\":{\"include_usage\":true}}}",
        "{" COLD ",\"cache\":{\"namespace\":\"n\"}}",
        "{" COLD ",\"cache\":{\"namespace\":\"m\"}}",
        "{" COLD ",\"stream\":false,\"stream_options\":{\"include_usage\":true}}",
        "{" COLD ",\"stream\":true,\"stream_options\":{\"continuous_usage_stats\":true}}",
        "{" COLD ",\"model\":\"a\"}",
        "{" COLD ",\"model\":\"b\"}",
        "{" COLD ",\"cache_salt\":\"a\"}",
        "{" COLD "," HELLO "}",
        "{" COLD ",\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        for (size_t k = 0; k < i; k++) {
            cr_expect(!same(bodies[i], bodies[k]), "%s %s", bodies[i], bodies[k]);
        }
    }
}

Test(inference_key, keeps_tenants_and_families_apart)
{
    struct inference_request request = {.tenant = BYTES("a"), .path = CHAT, .body = BYTES("{" COLD "}")};
    struct inference_key one;
    struct inference_key two;
    inference_key_make(&request, &strict, &one);
    request.tenant = BYTES("b");
    inference_key_make(&request, &strict, &two);
    cr_assert(!bytes_equal(one.key, two.key));
    inference_key_fini(&two);
    inference_key_make(&request, &(struct inference_key_options){.is_shared = true}, &two);
    inference_key_fini(&one);
    request.tenant = BYTES("*");
    inference_key_make(&request, &strict, &one);
    cr_assert(!bytes_equal(one.key, two.key), "no tenant's name is that of all");
    inference_key_fini(&one);
    request.path = BYTES("/v1/completions");
    inference_key_make(&request, &(struct inference_key_options){.is_shared = true}, &one);
    cr_assert(!bytes_equal(one.key, two.key));
    inference_key_fini(&one);
    inference_key_fini(&two);
}

Test(inference_key, says_why_there_is_none)
{
    static const struct {
        const char *body;
        enum inference_reason reason;
    } cases[] = {
        {"", INFERENCE_NOT_JSON},
        {"[]", INFERENCE_NOT_JSON},
        {"{" COLD, INFERENCE_NOT_JSON},
        {"{" COLD "}x", INFERENCE_NOT_JSON},
        {"{" COLD ",\"x\":\"\xff\"}", INFERENCE_NOT_JSON},
        {"{" COLD ",\"x\":\"\\ud800\"}", INFERENCE_NOT_JSON},
        {"{" COLD ",\"x\":01}", INFERENCE_NOT_JSON},
        {"{" COLD ",\"x\":1,\"x\":1}", INFERENCE_DUPLICATE_MEMBER},
        {"{" COLD ",\"x\":1,\"\\u0078\":2}", INFERENCE_DUPLICATE_MEMBER},
        {"{" COLD ",\"user\":1,\"user\":2}", INFERENCE_DUPLICATE_MEMBER},
        {"{" COLD ",\"x\":[{\"y\":[{\"a\":1,\"b\":2,\"a\":3}]}]}", INFERENCE_DUPLICATE_MEMBER},
        {"{" HELLO "}", INFERENCE_SAMPLED},
        {"{\"temperature\":null}", INFERENCE_SAMPLED},
        {"{\"temperature\":\"0\"}", INFERENCE_SAMPLED},
        {"{\"temperature\":0.01}", INFERENCE_SAMPLED},
        {"{\"temperature\":1e-9}", INFERENCE_SAMPLED},
        {"{\"temperature\":0.7,\"seed\":null}", INFERENCE_SAMPLED},
        {"{\"seed\":-1}", INFERENCE_SAMPLED},
        {"{\"seed\":4294967295}", INFERENCE_SAMPLED},
        {"{\"seed\":\"1\"}", INFERENCE_SAMPLED},
        {"{" COLD ",\"store\":true}", INFERENCE_STORE_REQUESTED},
        {"{" COLD ",\"store\":1}", INFERENCE_ODD_MEMBER},
        {"{" COLD ",\"stream\":1}", INFERENCE_ODD_MEMBER},
        {"{" COLD ",\"stream\":\"true\"}", INFERENCE_ODD_MEMBER},
        {"{" COLD ",\"stream\":true,\"stream_options\":{\"include_usage\":1}}", INFERENCE_ODD_MEMBER},
        {"{" COLD ",\"stream\":true,\"stream_options\":[]}", INFERENCE_ODD_MEMBER},
        {"{" COLD ",\"previous_response_id\":\"r\"}", INFERENCE_STATEFUL},
        {"{" COLD ",\"background\":true}", INFERENCE_STATEFUL},
        {"{" COLD ",\"conversation\":{\"id\":\"c\"}}", INFERENCE_STATEFUL},
        {"{" COLD ",\"web_search_options\":{}}", INFERENCE_SERVER_TOOLS},
        {"{" COLD ",\"tools\":[{\"type\":\"function\"},{\"type\":\"web_search\"}]}", INFERENCE_SERVER_TOOLS},
        {"{" COLD ",\"cache\":{\"no-store\":true}}", INFERENCE_NO_STORE},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct inference_key key = make(cases[i].body);
        cr_expect_eq(key.reason, cases[i].reason, "%s: %s", cases[i].body, inference_reason_name(key.reason));
        cr_expect(!key.may_store && !key.may_join && key.key.ptr == NULL, "%s", cases[i].body);
        inference_key_fini(&key);
    }
}

Test(inference_key, is_made_for_the_families_it_knows_only)
{
    static const struct {
        const char *path;
        const char *body;
        enum inference_family family;
        enum inference_reason reason;
    } cases[] = {
        {"/v1/chat/completions", "{" COLD "}", INFERENCE_CHAT, INFERENCE_OK},
        {"/v1/completions", "{\"seed\":7,\"temperature\":0.9,\"prompt\":\"p\"}", INFERENCE_COMPLETIONS, INFERENCE_OK},
        {"/v1/embeddings", "{\"input\":[\"a\"]}", INFERENCE_EMBEDDINGS, INFERENCE_OK},
        {"/v1/rerank", "{\"query\":\"a\"}", INFERENCE_RERANK, INFERENCE_OK},
        {"/v1/score", "{\"text_1\":\"a\"}", INFERENCE_SCORE, INFERENCE_OK},
        {"/v1/responses", "{" COLD ",\"store\":false}", INFERENCE_RESPONSES, INFERENCE_OK},
        {"/v1/responses", "{" COLD "}", INFERENCE_RESPONSES, INFERENCE_STORE_REQUESTED},
        {"/v1/responses", "{" COLD ",\"store\":false,\"prompt\":{\"id\":\"p\"}}", INFERENCE_RESPONSES,
         INFERENCE_STATEFUL},
        {"/v1/responses/r", "{" COLD "}", INFERENCE_FAMILY_NONE, INFERENCE_UNKNOWN_FAMILY},
        {"/v1/audio/speech", "{" COLD "}", INFERENCE_FAMILY_NONE, INFERENCE_UNKNOWN_FAMILY},
        {"/chat/completions", "{" COLD "}", INFERENCE_FAMILY_NONE, INFERENCE_UNKNOWN_FAMILY},
        {"", "{" COLD "}", INFERENCE_FAMILY_NONE, INFERENCE_UNKNOWN_FAMILY},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct inference_key key = make_with(bytes_from(cases[i].path), cases[i].body, &strict);
        cr_expect_eq(key.family, cases[i].family, "%s", cases[i].path);
        cr_expect_eq(key.reason, cases[i].reason, "%s %s", cases[i].path, inference_reason_name(key.reason));
        cr_expect_eq(key.may_store, cases[i].reason == INFERENCE_OK);
        cr_expect_eq(key.may_join, cases[i].reason == INFERENCE_OK);
        inference_key_fini(&key);
    }
}

Test(inference_key, keeps_what_a_response_repeats)
{
    static const char *const bodies[] = {
        "{" COLD ",\"store\":false}",
        "{" COLD ",\"store\":false,\"user\":\"a\"}",
        "{" COLD ",\"store\":false,\"metadata\":{\"a\":\"b\"}}",
        "{" COLD ",\"store\":false,\"service_tier\":\"flex\"}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bodies); i++) {
        struct inference_key one = make_with(BYTES("/v1/responses"), bodies[i], &strict);
        for (size_t k = 0; k < i; k++) {
            struct inference_key two = make_with(BYTES("/v1/responses"), bodies[k], &strict);
            cr_assert(one.may_store && two.may_store && !bytes_equal(one.key, two.key), "%s", bodies[i]);
            inference_key_fini(&two);
        }
        inference_key_fini(&one);
    }
}

Test(inference_key, is_made_of_a_sampled_request_for_routes_that_ask_for_it)
{
    const char *body = "{" HELLO ",\"temperature\":0.7,\"stream\":true}";
    struct inference_key key = make_with(CHAT, body, &(struct inference_key_options){.stores_sampled = true});
    cr_assert(key.may_store && !key.may_join && key.key.ptr != NULL && !key.is_deterministic);
    cr_assert_eq(key.reason, INFERENCE_SAMPLED);
    inference_key_fini(&key);
    key = make_with(CHAT, body, &(struct inference_key_options){.coalesces_sampled = true});
    cr_assert(!key.may_store && key.may_join && key.key.ptr != NULL);
    inference_key_fini(&key);
    key = make_with(CHAT, body, &(struct inference_key_options){.stores_sampled = true, .coalesces_sampled = true});
    cr_assert(key.may_store && key.may_join);
    cr_assert_eq(key.reason, INFERENCE_OK);
    inference_key_fini(&key);
    key = make(body);
    cr_assert(key.wants_stream, "which is told even without a key");
    inference_key_fini(&key);
}

Test(inference_key, tells_which_shape_is_asked_for)
{
    static const struct {
        const char *path;
        const char *body;
        bool stream;
        bool usage;
    } cases[] = {
        {"/v1/chat/completions", "{" COLD "}", false, false},
        {"/v1/chat/completions", "{" COLD ",\"stream\":null}", false, false},
        {"/v1/chat/completions", "{" COLD ",\"stream\":true}", true, false},
        {"/v1/completions", "{\"stream\":true,\"stream_options\":{\"include_usage\":true}}", true, true},
        {"/v1/completions", "{\"stream\":true,\"stream_options\":{\"include_usage\":false}}", true, false},
        {"/v1/chat/completions", "{\"stream_options\":{\"include_usage\":true}}", false, false},
        {"/v1/responses", "{\"stream\":true}", true, false},
        {"/v1/embeddings", "{\"stream\":true}", false, false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct inference_key key = make_with(bytes_from(cases[i].path), cases[i].body, &strict);
        cr_expect_eq(key.wants_stream, cases[i].stream, "%s", cases[i].body);
        cr_expect_eq(key.wants_usage, cases[i].usage, "%s", cases[i].body);
        inference_key_fini(&key);
    }
}

Test(inference_key, reads_the_cache_member)
{
    struct inference_key key = make("{" COLD ",\"cache\":{\"ttl\":90.5,\"s-maxage\":7,\"no-cache\":true}}");
    cr_assert(key.may_store && key.no_cache && !key.no_store);
    cr_assert_eq(key.ttl_s, 90);
    cr_assert_eq(key.max_age_s, 7);
    inference_key_fini(&key);
    static const char *const odd[] = {"-1", "1e3", "\"60\"", "null", "99999999999999999999"};
    for (size_t i = 0; i < ARRAY_COUNT(odd); i++) {
        char body[128];
        snprintf(body, sizeof(body), "{" COLD ",\"cache\":{\"ttl\":%s}}", odd[i]);
        key = make(body);
        cr_expect_eq(key.ttl_s, -1, "%s", body);
        cr_expect_eq(key.max_age_s, -1);
        inference_key_fini(&key);
    }
    static const char *const for_ever[] = {"2147483648", "9223372036854775807", "18446744073709551615.9"};
    for (size_t i = 0; i < ARRAY_COUNT(for_ever); i++) {
        char body[128];
        snprintf(body, sizeof(body), "{" COLD ",\"cache\":{\"ttl\":%s,\"s-maxage\":%s}}", for_ever[i], for_ever[i]);
        key = make(body);
        cr_expect_eq(key.ttl_s, INT32_MAX, "%s", body);
        cr_expect_eq(key.max_age_s, INT32_MAX, "%s", body);
        inference_key_fini(&key);
    }
}

/* ---- shuffles ---- */

static uint64_t state = 20240229;

static unsigned draw(unsigned below)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((state >> 33) % below);
}

/* Writes the value that `seed` names, its objects' members in an order of their own each time. */
static void put_random(struct json_buffer *out, uint64_t *seed, unsigned depth)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    unsigned kind = (unsigned)(*seed >> 33) % (depth < 5 ? 5 : 3);
    unsigned count = (unsigned)(*seed >> 40) % 20;
    uint64_t seeds[20];
    unsigned order[20];
    for (unsigned i = 0; i < count; i++) {
        order[i] = i;
        seeds[i] = *seed + i * 977;
    }
    for (unsigned i = count; kind == 3 && i > 1; i--) {
        unsigned k = draw(i);
        unsigned kept = order[i - 1];
        order[i - 1] = order[k];
        order[k] = kept;
    }
    static const char *const ones[] = {"1", "1.0", "10e-1", "0.1E1"};
    static const char *const words[] = {"\"\\u00e9\\n\"", "\"\xc3\xa9\\u000a\"", "\"\\u00E9\\u000A\""};
    switch (kind) {
    case 0: json_buffer_text(out, ones[draw(4)]); return;
    case 1: json_buffer_text(out, words[draw(3)]); return;
    case 2: json_buffer_text(out, draw(2) == 0 ? " null" : "null\n"); return;
    default: break;
    }
    json_buffer_text(out, kind == 3 ? "{" : "[");
    for (unsigned i = 0; i < count; i++) {
        json_buffer_text(out, i == 0 ? "" : draw(2) == 0 ? "," : " , ");
        if (kind == 3) {
            char name[32];
            snprintf(name, sizeof(name), "\"%.*s%u\":", (int)(seeds[order[i]] % 9), "longishname", order[i]);
            json_buffer_text(out, name);
        }
        put_random(out, &seeds[order[i]], depth + 1);
    }
    json_buffer_text(out, kind == 3 ? "}" : "]");
}

Test(inference_key, does_not_depend_on_the_order_or_the_writing)
{
    for (unsigned round = 0; round < 300; round++) {
        struct bytes first = BYTES_NONE;
        char *kept = NULL;
        for (unsigned again = 0; again < 4; again++) {
            struct json_buffer body;
            json_buffer_init(&body, 1024, SIZE_MAX / 2);
            uint64_t seed = round;
            json_buffer_text(&body, again % 2 == 0 ? "{" COLD ",\"x\":" : "{\"x\":");
            put_random(&body, &seed, 0);
            json_buffer_text(&body, again % 2 == 0 ? "}" : "," COLD "}");
            json_buffer_put(&body, (struct bytes){"", 1});
            struct inference_key key = make(body.data);
            cr_assert(key.may_store, "%s: %s", inference_reason_name(key.reason), body.data);
            if (again == 0) {
                kept = malloc(key.key.len);
                memcpy(kept, key.key.ptr, key.key.len);
                first = (struct bytes){kept, key.key.len};
            }
            cr_assert(bytes_equal(key.key, first), "%s", body.data);
            inference_key_fini(&key);
            json_buffer_fini(&body);
        }
        free(kept);
    }
}

/* ---- bounds ---- */

static char *nested(const char *open, const char *close, size_t depth)
{
    size_t unit = strlen(open);
    char *body = malloc(64 + depth * (unit + strlen(close)));
    char *at = body + sprintf(body, "{" COLD ",\"x\":");
    for (size_t i = 0; i < depth; i++) {
        at += sprintf(at, "%s", open);
    }
    at += sprintf(at, "1");
    for (size_t i = 0; i < depth; i++) {
        at += sprintf(at, "%s", close);
    }
    sprintf(at, "}");
    return body;
}

Test(inference_key, has_a_bound_on_nesting)
{
    static const struct {
        const char *open;
        const char *close;
        size_t depth;
        enum inference_reason reason;
    } cases[] = {
        {"[", "]", INFERENCE_DEPTH_MAX - 1, INFERENCE_OK},
        {"[", "]", INFERENCE_DEPTH_MAX, INFERENCE_TOO_DEEP},
        {"{\"a\":", "}", INFERENCE_DEPTH_MAX - 1, INFERENCE_OK},
        {"{\"a\":", "}", INFERENCE_DEPTH_MAX, INFERENCE_TOO_DEEP},
        {"[", "]", 2000000, INFERENCE_TOO_COMPLEX},
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        char *body = nested(cases[i].open, cases[i].close, cases[i].depth);
        struct inference_key key = make(body);
        cr_expect_eq(key.reason, cases[i].reason, "%zu: %s", i, inference_reason_name(key.reason));
        inference_key_fini(&key);
        free(body);
    }
}

Test(inference_key, of_a_long_prompt_is_about_as_long)
{
    enum { BYTES_OF_TEXT = 8 << 20 };
    char *body = malloc(BYTES_OF_TEXT + 64);
    size_t start = (size_t)sprintf(body, "{" COLD ",\"prompt\":\"");
    for (size_t i = 0; i < BYTES_OF_TEXT; i += 8) {
        memcpy(body + start + i, i % 128 == 0 ? "line\\n\\\"x" : "word of ", 8);
    }
    sprintf(body + start + BYTES_OF_TEXT, "\"}");
    struct inference_key key = make(body);
    cr_assert(key.may_store);
    cr_assert(key.key.len > BYTES_OF_TEXT && key.key.len < BYTES_OF_TEXT + 128, "%zu", key.key.len);
    const char *text = memmem(key.key.ptr, key.key.len, "{\"prompt\":\"", 11);
    cr_assert(text != NULL && memcmp(text + 11, body + start, BYTES_OF_TEXT + 1) == 0, "it was canonical already");
    inference_key_fini(&key);
    free(body);
}

Test(inference_key, of_many_members_is_made_in_no_time)
{
    enum { COUNT = 200000 };
    char *body = malloc(COUNT * 24);
    char *at = body + sprintf(body, "{" COLD);
    for (unsigned i = 0; i < COUNT; i++) {
        at += sprintf(at, ",\"%u\":%u", (i * 7919) % 1000003, i);
    }
    sprintf(at, "}");
    struct inference_key key = make(body);
    cr_assert(key.may_store, "%s", inference_reason_name(key.reason));
    inference_key_fini(&key);
    free(body);
}

Test(inference_key, has_a_name_for_each_reason_and_family)
{
    for (unsigned i = 0; i < INFERENCE_REASONS; i++) {
        for (unsigned k = 0; k < i; k++) {
            cr_assert_str_neq(inference_reason_name((enum inference_reason)i),
                              inference_reason_name((enum inference_reason)k));
        }
    }
}
