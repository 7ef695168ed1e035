#include "api/json_walk.h"

#include <criterion/criterion.h>

static bool value_is(const char *text, const char *expected)
{
    struct json_walk walk;
    struct bytes value;
    json_walk_init(&walk, bytes_from(text));
    return json_walk_value(&walk, &value) && bytes_equal(value, bytes_from(expected));
}

Test(json_walk, gives_values_as_they_stand)
{
    cr_assert(value_is(" \n\t\r12.5e-1 ,", "12.5e-1"));
    cr_assert(value_is("\"a\\\"b\\\\\",", "\"a\\\"b\\\\\""));
    cr_assert(value_is("[1, \"]\", {\"a\":[]}] ]", "[1, \"]\", {\"a\":[]}]"));
    cr_assert(value_is("true}", "true"));
}

Test(json_walk, refuses_what_does_not_end_or_match)
{
    static const char *const wrong[] = {"", " ", "\"a", "\"a\\", "[1", "[}", "{\"a\":1]", "[{]}", "]", ",", "[\"]"};
    for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct json_walk walk;
        struct bytes value;
        json_walk_init(&walk, bytes_from(wrong[i]));
        cr_assert_not(json_walk_value(&walk, &value), "%s", wrong[i]);
    }
}

Test(json_walk, passes_over_so_many_levels_and_no_more)
{
    char text[2 * (JSON_WALK_DEPTH_MAX + 1)];
    for (unsigned depth = JSON_WALK_DEPTH_MAX; depth <= JSON_WALK_DEPTH_MAX + 1; depth++) {
        for (unsigned i = 0; i < depth; i++) {
            text[i] = i % 3 == 0 ? '{' : '[';
            text[2 * depth - 1 - i] = i % 3 == 0 ? '}' : ']';
        }
        struct json_walk walk;
        struct bytes value;
        json_walk_init(&walk, (struct bytes){text, (size_t)2 * depth});
        cr_assert_eq(json_walk_value(&walk, &value), depth == JSON_WALK_DEPTH_MAX);
    }
}

Test(json_walk, finds_what_ends_a_container_wherever_it_stands)
{
    static const char filler[] = "0123456789,.-+eEyY_\x7f\x79\x59 \xc3\xbb\xfd\xa2\xff";
    for (unsigned before = 0; before < 40; before++) {
        for (unsigned behind = 0; behind < 12; behind++) {
            char text[64] = "[";
            unsigned len = 1;
            for (unsigned i = 0; i < before; i++) {
                text[len++] = filler[i % (sizeof(filler) - 1)];
            }
            text[len++] = ']';
            memset(text + len, ']', behind);
            struct json_walk walk;
            struct bytes value;
            json_walk_init(&walk, (struct bytes){text, len + behind});
            cr_assert(json_walk_value(&walk, &value));
            cr_assert_eq(value.len, before + 2);
        }
    }
}

Test(json_walk, ends_a_string_at_the_first_quote_that_is_not_escaped)
{
    for (unsigned slashes = 0; slashes < 9; slashes++) {
        char text[32] = "\"";
        memset(text + 1, '\\', slashes);
        memcpy(text + 1 + slashes, "\"x\"", 3);
        struct json_walk walk;
        struct bytes value;
        json_walk_init(&walk, (struct bytes){text, 4 + slashes});
        cr_assert(json_walk_value(&walk, &value));
        cr_assert_eq(value.len, slashes + (slashes % 2 == 0 ? 2 : 4));
    }
}

/* Every prefix of a text is either refused or, at its end, the whole. */
Test(json_walk, refuses_every_prefix)
{
    const char *text = "{\"a\":[1,{\"b\":\"\\\"\"}],\"c\":null}";
    for (size_t len = 0; len <= strlen(text); len++) {
        struct json_walk walk;
        struct bytes name;
        struct bytes value;
        bool more;
        json_walk_init(&walk, (struct bytes){text, len});
        bool ok = json_walk_open(&walk, '{');
        unsigned members = 0;
        while ((ok = ok && json_walk_next(&walk, '}', &more)) && more) {
            ok = json_walk_name(&walk, &name) && json_walk_value(&walk, &value);
            members++;
        }
        ok = ok && json_walk_end(&walk);
        cr_assert_eq(ok, len == strlen(text), "%zu", len);
        cr_assert(!ok || members == 2);
    }
}
