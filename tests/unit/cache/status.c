#include "cache/status.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "http/structured.h"

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static const char *member(struct cache_status status)
{
    static char text[CACHE_STATUS_BYTES_MAX + 1];
    text[cache_status_put(text, &status)] = '\0';
    return text;
}

Test(cache_status, says_what_the_cache_did)
{
    cr_assert_str_eq(member((struct cache_status){0}), "sluice; hit");
    cr_assert_str_eq(member((struct cache_status){.has_ttl = true, .ttl_ms = 30999}), "sluice; hit; ttl=30");
    cr_assert_str_eq(member((struct cache_status){.has_ttl = true, .ttl_ms = -1}), "sluice; hit; ttl=-1");
    cr_assert_str_eq(member((struct cache_status){.has_ttl = true, .ttl_ms = -2000}), "sluice; hit; ttl=-2");
    cr_assert_str_eq(member((struct cache_status){.forward = CACHE_STATUS_URI_MISS,
                                                  .forward_status = 200,
                                                  .stored = true,
                                                  .collapsed = true,
                                                  .has_ttl = true,
                                                  .ttl_ms = 5000}),
                     "sluice; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=5");
    cr_assert_str_eq(member((struct cache_status){.forward = CACHE_STATUS_BYPASS, .detail = BYTES("GET /a\"b\\c")}),
                     "sluice; fwd=bypass; detail=\"GET /a\\\"b\\\\c\"");
    cr_assert_str_eq(member((struct cache_status){.stored = true, .collapsed = true, .forward_status = 200}),
                     "sluice; hit", "what only a forwarded request has is left out");
    cr_assert_str_eq(member((struct cache_status){.detail = BYTES("\0\x1f ~\x7f\xc3\xa9")}),
                     "sluice; hit; detail=\"?? ~???\"");
}

Test(cache_status, names_each_reason_to_forward_as_registered)
{
    static const char *const names[] = {"hit",  "bypass",  "method", "uri-miss", "vary-miss",
                                        "miss", "request", "stale",  "partial"};
    cr_assert_eq(COUNT(names), CACHE_STATUS_FORWARD_COUNT);
    for (size_t i = 0; i < COUNT(names); i++) {
        cr_assert_str_eq(cache_status_name((enum cache_status_forward)i), names[i]);
    }
}

Test(cache_status, the_longest_member_keeps_to_its_bound_and_is_a_structured_item)
{
    static char long_text[1000];
    static char out[CACHE_STATUS_BYTES_MAX + 16];
    for (int c = 0; c < 256; c++) {
        memset(long_text, c, sizeof(long_text));
        memset(out, 0x5a, sizeof(out));
        struct cache_status status = {
            .forward = CACHE_STATUS_VARY_MISS,
            .forward_status = UINT16_MAX,
            .stored = true,
            .collapsed = true,
            .has_ttl = true,
            .ttl_ms = INT64_MIN,
            .detail = {long_text, sizeof(long_text)},
        };
        size_t length = cache_status_put(out, &status);
        cr_assert_leq(length, CACHE_STATUS_BYTES_MAX);
        cr_assert_eq(out[length], 0x5a);
        struct bytes rest = {out, length};
        struct structured_member parsed;
        cr_assert_eq(structured_next_member(&rest, &parsed), STRUCTURED_MEMBER, "%.*s", (int)length, out);
        cr_assert(bytes_equal(parsed.key, BYTES("sluice")));
        cr_assert_eq(structured_next_member(&rest, &parsed), STRUCTURED_END);
    }
}
