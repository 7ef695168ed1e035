#include "http/uri.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static struct http_target parse(const char *text)
{
    struct http_target target;
    cr_assert_eq(http_target_parse(false, false, bytes_from(text), &target), RESULT_OK, "%s", text);
    return target;
}

static bool is(struct bytes b, const char *text)
{
    return text == NULL ? b.ptr == NULL : b.ptr != NULL && bytes_equal(b, bytes_from(text));
}

Test(http, origin_form_is_split_at_the_first_question_mark)
{
    static const struct {
        const char *text;
        const char *path;
        const char *query;
    } cases[] = {{"/", "/", NULL},        {"/?", "/", ""},      {"/a/b?c=d", "/a/b", "c=d"},
                 {"/a?b?c", "/a", "b?c"}, {"//a", "//a", NULL}, {"/:@!", "/:@!", NULL}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_target target = parse(cases[i].text);
        cr_assert_eq(target.form, HTTP_TARGET_ORIGIN);
        cr_assert(is(target.path, cases[i].path) && is(target.query, cases[i].query), "%s", cases[i].text);
        cr_assert(is(target.path_and_query, cases[i].text));
        cr_assert_null(target.authority.ptr);
    }
}

Test(http, absolute_form_is_split_into_its_parts)
{
    static const struct {
        const char *text;
        const char *scheme;
        const char *authority;
        const char *path;
        const char *query;
        const char *upstream;
        bool path_is_empty;
    } cases[] = {
        {"http://a/b?c", "http", "a", "/b", "c", "/b?c", false},
        {"HTTPS://A:443/", "HTTPS", "A:443", "/", NULL, "/", false},
        {"http://a", "http", "a", "/", NULL, "", true},
        {"http://a?b/c", "http", "a", "/", "b/c", "?b/c", true},
        {"ws+x.1-2://[::1]:80/p", "ws+x.1-2", "[::1]:80", "/p", NULL, "/p", false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_target target = parse(cases[i].text);
        cr_assert_eq(target.form, HTTP_TARGET_ABSOLUTE);
        cr_assert(is(target.scheme, cases[i].scheme) && is(target.authority, cases[i].authority), "%s", cases[i].text);
        cr_assert(is(target.path, cases[i].path) && is(target.query, cases[i].query), "%s", cases[i].text);
        cr_assert(is(target.path_and_query, cases[i].upstream), "%s", cases[i].text);
        cr_assert_eq(target.path_is_empty, cases[i].path_is_empty);
    }
}

Test(http, only_connect_takes_an_authority_and_only_options_an_asterisk)
{
    struct http_target target;
    cr_assert_eq(http_target_parse(true, false, BYTES("a:443"), &target), RESULT_OK);
    cr_assert_eq(target.form, HTTP_TARGET_AUTHORITY);
    cr_assert(is(target.authority, "a:443"));
    cr_assert_eq(http_target_parse(false, true, BYTES("*"), &target), RESULT_OK);
    cr_assert_eq(target.form, HTTP_TARGET_ASTERISK);
    cr_assert(is(target.path, "*"));
    cr_assert_eq(http_target_parse(false, false, BYTES("*"), &target), RESULT_PROTOCOL);
    cr_assert_eq(http_target_parse(false, false, BYTES("a:443"), &target), RESULT_PROTOCOL);
    cr_assert_eq(http_target_parse(true, false, BYTES("/"), &target), RESULT_PROTOCOL);
    cr_assert_eq(http_target_parse(true, false, BYTES("a:"), &target), RESULT_PROTOCOL);
    cr_assert_eq(http_target_parse(true, false, BYTES("http://a:1/"), &target), RESULT_PROTOCOL);
}

Test(http, targets_of_no_form_are_refused)
{
    static const char *const cases[] = {"",          "a",           "?a",          "a/b",         "/a b",
                                        "/a#b",      "/%",          "/%1",         "/%1g",        "/\xe4",
                                        "/<",        "/a?\"",       "http:/a",     "http:a",      "http://",
                                        "http:///a", "http://:1",   "http://u@a/", "1http://a/",  "://a/",
                                        "ht_p://a/", "http://a:b/", "http://[/",   "http://a/%x", "http://a b/",
                                        "/\x7f",     "/{",          "/\\",         "**"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_target target;
        cr_assert_eq(http_target_parse(false, false, bytes_from(cases[i]), &target), RESULT_PROTOCOL, "%s", cases[i]);
    }
}

Test(http, authorities_are_split_before_the_port)
{
    static const struct {
        const char *text;
        const char *host;
        const char *port;
    } cases[] = {
        {"a", "a", ""},          {"a:", "a", ""},           {"a:80", "a", "80"},       {"1.2.3.4:5", "1.2.3.4", "5"},
        {"123", "123", ""},      {"[::1]", "[::1]", ""},    {"[::1]:8", "[::1]", "8"}, {"[::12]", "[::12]", ""},
        {"[::1]:", "[::1]", ""}, {"a%3a1:2", "a%3a1", "2"}, {"a1", "a1", ""}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct bytes host;
        struct bytes port;
        cr_assert(http_authority_is_valid(bytes_from(cases[i].text)), "%s", cases[i].text);
        http_authority_split(bytes_from(cases[i].text), &host, &port);
        cr_assert(is(host, cases[i].host) && is(port, cases[i].port), "%s", cases[i].text);
    }
}

Test(http, bad_authorities_are_refused)
{
    static const char *const cases[] = {"",          ":",
                                        ":80",       "a:65536",
                                        "a:-1",      "a:1:2",
                                        "a b",       "a/",
                                        "u@a",       "[",
                                        "[]",        "[::1",
                                        "[::1]a",    "[::1]:x",
                                        "[1.2.3.4]", "[fe80::1%25eth0]",
                                        "[v.a]",     "[v1]",
                                        "[v1.]",     "[vx.a]",
                                        "a%",        "a%2",
                                        "a%zz",      "::1",
                                        "a:0x1",     "a:999999999999999999999",
                                        "\xe4",      "a\tb",
                                        "[:::1]",    "a]",
                                        "a?",        "a#"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_not(http_authority_is_valid(bytes_from(cases[i])), "%s", cases[i]);
    }
    cr_assert_not(http_authority_is_valid((struct bytes){"a\0b", 3}));
    cr_assert_not(http_authority_is_valid((struct bytes){"[::1\0]", 6}));
}

Test(http, paths_come_into_one_form)
{
    static const struct {
        const char *path;
        const char *normal; /* NULL: refused */
    } cases[] = {
        {"/a/./b", "/a/b"},
        {"/a/../b", "/b"},
        {"/a/b/..", "/a/"},
        {"/a/.", "/a/"},
        {"/.", "/"},
        {"/./", "/"},
        {"/..", NULL},
        {"/../a", NULL},
        {"/a/../..", NULL},
        {"/a/../../b", NULL},
        {"//", "/"},
        {"//a///b//", "/a/b/"},
        {"/%41%7e%2D", "/A~-"},
        {"/%2f", "/%2F"},
        {"/%c3%a4", "/%C3%A4"},
        {"/%2e%2e/a", NULL},
        {"/a/%2E%2e/b", "/b"},
        {"/a/%2e/b", "/a/b"},
        {"/%00", NULL},
        {"/a%0", NULL},
        {"/%", NULL},
        {"/%g0", NULL},
        {"/%252e", "/%252e"},
        {"/a/...", "/a/..."},
        {"/.a", "/.a"},
        {"/a//../b", "/b"},
        {"/a/b/../..", "/"},
        {"/a/b/c/../../d/", "/a/d/"},
        {"a", NULL},
        {"", NULL},
        {"/%2F..", "/%2F.."},
        {"/x/..;/y", "/x/..;/y"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool same;
        size_t length = strlen(cases[i].path);
        char *out = malloc(length + 1); /* exactly the room that is promised */
        size_t written = http_path_normalize(bytes_from(cases[i].path), out, &same);
        if (cases[i].normal == NULL) {
            cr_assert_eq(written, 0, "%s", cases[i].path);
        } else {
            cr_assert_not(same);
            cr_assert(is((struct bytes){out, written}, cases[i].normal), "%s: %.*s", cases[i].path, (int)written, out);
            size_t again = http_path_normalize(bytes_from(cases[i].normal), out, &same);
            cr_assert_eq(again, written, "%s: done twice", cases[i].path);
        }
        free(out);
    }
}

Test(http, a_path_with_a_dot_segment_or_two_slashes_in_front_is_ambiguous)
{
    static const char *const ambiguous[] = {"/.",      "/..",    "/./a", "/a/..", "/a/../b", "/a/%2e%2E/b",
                                            "/a/.%2e", "/a/%2e", "//",   "//a",   "/a//../b"};
    static const char *const clear[] = {"/",   "/a",     "/a//b",    "/...",    "/a/.b",    "/a/..b", "/%2e%2e%2e",
                                        "/%2", "/a/b..", "/a/%252e", "/..%2Fa", "/a/..;/b", "/%41/"};
    for (size_t i = 0; i < COUNT(ambiguous); i++) {
        cr_assert(http_path_is_ambiguous(bytes_from(ambiguous[i])), "%s", ambiguous[i]);
    }
    for (size_t i = 0; i < COUNT(clear); i++) {
        cr_assert_not(http_path_is_ambiguous(bytes_from(clear[i])), "%s", clear[i]);
    }
}

Test(http, a_normal_path_is_not_copied)
{
    static const char *const cases[] = {"/", "/a", "/a/b/", "/a.b/c..d", "/v1/chat/completions"};
    for (size_t i = 0; i < COUNT(cases); i++) {
        bool same = false;
        cr_assert_eq(http_path_normalize(bytes_from(cases[i]), NULL, &same), strlen(cases[i]));
        cr_assert(same);
    }
}
