/* Of whose requests prefetch learns, and what it asks in their place. */
#include "server/prefetching_head.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct http_parser parser;
static char text[8192];

static struct cache_key_source request_of(const char *method, const char *fields)
{
    static const struct http_limits limits = {.head_bytes_max = 8192, .target_bytes_max = 200, .fields_max = 64};
    int bytes = snprintf(text, sizeof(text), "%s /here HTTP/1.1\r\nHost: Test:81\r\n%s\r\n", method, fields);
    cr_assert(bytes > 0 && (size_t)bytes < sizeof(text));
    http_parser_init(&parser, HTTP_REQUEST, &limits);
    cr_assert(http_parse_head(&parser, text, (size_t)bytes) == RESULT_OK, "%s", text);
    const struct http_target *target = http_parser_target(&parser, text);
    return (struct cache_key_source){
        .method = http_head_method(&parser.head, text),
        .authority = http_head_value(&parser.head, text, HTTP_FIELD_HOST),
        .path = target->path,
        .query = target->query,
        .head = &parser.head,
        .base = text,
    };
}

static const struct config_part url_key[] = {{.kind = CONFIG_PART_HOST}, {.kind = CONFIG_PART_PATH}};
static const struct config_part wide_key[] = {
    {.kind = CONFIG_PART_PATH},
    {.kind = CONFIG_PART_HEADER, .name = {"authorization", 13}},
    {.kind = CONFIG_PART_HEADER, .name = {"x-plan", 6}},
    {.kind = CONFIG_PART_COOKIE, .name = {"Lang", 4}},
    {.kind = CONFIG_PART_COOKIE, .name = {"a", 1}},
};
static const struct config_part cookie_key[] = {
    {.kind = CONFIG_PART_HEADER, .name = {"cookie", 6}},
    {.kind = CONFIG_PART_COOKIE, .name = {"a", 1}},
};
static const struct config_cache plain = {.key = url_key, .key_count = 2};
static const struct config_cache wide = {
    .key = wide_key,
    .key_count = 5,
    .prefetch.session = {.kind = CONFIG_PART_COOKIE, .name = {"sid", 3}},
};
static const struct config_cache by_cookie = {.key = cookie_key, .key_count = 2};

static bool may_learn(const struct config_cache *config, const char *method, const char *fields)
{
    const struct cache_key_source asked = request_of(method, fields);
    return prefetching_may_learn(config, &asked);
}

Test(prefetching_head, only_whole_gets_that_may_be_stored_are_learned)
{
    cr_expect(may_learn(&plain, "GET", ""));
    cr_expect(may_learn(&plain, "GET", "Cache-Control: no-cache\r\nIf-None-Match: \"x\"\r\n"));
    cr_expect(!may_learn(&plain, "GET", "Cache-Control: max-age=0, no-store\r\n"));
    cr_expect(!may_learn(&plain, "GET", "Range: bytes=0-\r\n"));
    static const char *const others[] = {"HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        cr_expect(!may_learn(&plain, others[i], ""), "%s", others[i]);
    }
}

Test(prefetching_head, credentials_are_learned_only_if_the_key_has_them)
{
    cr_expect(!may_learn(&plain, "GET", "Authorization: x\r\n"));
    cr_expect(!may_learn(&plain, "GET", "X-Api-Key: x\r\n"));
    cr_expect(!may_learn(&plain, "GET", "Cookie: a=1\r\n"));
    cr_expect(may_learn(&plain, "GET", "Cookie: \r\n"));
    cr_expect(may_learn(&wide, "GET", "Authorization: x\r\n"));
    cr_expect(!may_learn(&wide, "GET", "Authorization: x\r\nX-Api-Key: x\r\n"));
    cr_expect(may_learn(&wide, "GET", "Cookie: sid=7;a=1 ; Lang=de;\r\n"));
    cr_expect(!may_learn(&wide, "GET", "Cookie: a=1; lang=de\r\n"), "names of cookies have letter case");
    cr_expect(!may_learn(&wide, "GET", "Cookie: a=1\r\nCookie: b=1\r\n"));
    cr_expect(!may_learn(&wide, "GET", "Cookie: a=1; token\r\n"));
    cr_expect(may_learn(&by_cookie, "GET", "Cookie: a=1; b=2\r\n"));
}

static void head_is(const struct config_cache *config, const char *fields, const char *expected)
{
    const struct cache_key_source asked = request_of("GET", fields);
    char room[PREFETCHING_HEAD_BYTES_MAX];
    char whole[PREFETCHING_HEAD_BYTES_MAX];
    struct bytes head;
    cr_assert(prefetching_head_put(config, &asked, BYTES("/there?x"), room, &head));
    snprintf(whole, sizeof(whole),
             "GET /there?x HTTP/1.1\r\nHost: Test:81\r\n%sPriority: u=7\r\nSec-Purpose: prefetch\r\n\r\n", expected);
    cr_expect(bytes_equal(head, bytes_from(whole)), "%.*s", BYTES_ARG(head));
}

Test(prefetching_head, what_negotiates_goes_along_and_nothing_else)
{
    head_is(&plain, "", "");
    head_is(&plain,
            "ACCEPT: a/b\r\nAccept-Encoding: gzip\r\nReferer: http://x/\r\nUser-Agent: me\r\nX-Plan: pro\r\n"
            "If-None-Match: \"x\"\r\nCookie: \r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 192.0.2.1\r\n"
            "Connection: accept-language\r\nAccept-Language: de\r\n",
            "ACCEPT: a/b\r\nAccept-Encoding: gzip\r\nUser-Agent: me\r\nX-Forwarded-Proto: https\r\n");
}

Test(prefetching_head, what_the_key_names_goes_along)
{
    head_is(&wide, "Authorization: x\r\nX-Plan: pro\r\nCookie: sid=7; Lang=de; a=1\r\n",
            "Authorization: x\r\nX-Plan: pro\r\nCookie: Lang=de; a=1\r\n");
    head_is(&wide, "Cookie: sid=7\r\n", "");
    head_is(&wide, "Cookie: a=1; sid=7; a=2\r\nX-Plan: x\r\nCookie: Lang=fr\r\n",
            "Cookie: a=1; a=2\r\nX-Plan: x\r\nCookie: Lang=fr\r\n");
    head_is(&by_cookie, "Cookie: b=1; a=2\r\n", "Cookie: b=1; a=2\r\n");
}

Test(prefetching_head, what_does_not_fit_is_not_asked)
{
    char fields[PREFETCHING_HEAD_BYTES_MAX + 64];
    unsigned fitted = 0;
    for (unsigned length = PREFETCHING_HEAD_BYTES_MAX - 200; length < PREFETCHING_HEAD_BYTES_MAX; length++) {
        snprintf(fields, sizeof(fields), "Accept: %0*d\r\n", (int)length, 0);
        const struct cache_key_source asked = request_of("GET", fields);
        char *room = malloc(PREFETCHING_HEAD_BYTES_MAX); /* so that a sanitizer sees every byte too many */
        struct bytes head;
        bool fits = prefetching_head_put(&plain, &asked, BYTES("/"), room, &head);
        cr_expect(fits == (length + 81 <= PREFETCHING_HEAD_BYTES_MAX), "%u", length);
        fitted += fits;
        free(room);
    }
    cr_expect(fitted > 50 && fitted < 150);
}
