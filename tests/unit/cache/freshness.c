#include "cache/freshness.h"

#include "http/date.h"
#include "message.h"

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static const int64_t T0_MS = INT64_C(1760000000000); /* Thu, 09 Oct 2025 08:53:20 GMT */

static const struct freshness_rules RULES = {
    .heuristic_permille = 100,
    .heuristic_lifetime_max_ms = INT64_C(24) * 3600 * 1000,
};

/* Writes the fields with each "@<seconds>" replaced by the date that is so far from T0. */
static void put_dates(const char *fields, char text[1024])
{
    while (*fields != '\0') {
        if (*fields == '@') {
            char *end;
            http_date_format(T0_MS / 1000 + strtol(fields + 1, &end, 10), text);
            text += HTTP_DATE_BYTES;
            fields = end;
        } else {
            *text++ = *fields++;
        }
    }
    *text = '\0';
}

static struct freshness compute(unsigned status, const char *fields, const struct freshness_rules *rules,
                                int64_t delay_ms)
{
    static struct message message;
    char text[1024];
    struct directives_response directives;
    struct freshness freshness;
    put_dates(fields, text);
    const struct http_head *head = message_response(&message, status, text);
    directives_read_response(head, message.text, &directives);
    struct freshness_source source = {.head = head,
                                      .base = message.text,
                                      .directives = &directives,
                                      .request_ms = T0_MS - delay_ms,
                                      .response_ms = T0_MS};
    freshness_compute(&source, rules, &freshness);
    return freshness;
}

static struct directives_request request_of(const char *value)
{
    static struct message message;
    struct directives_request request;
    char fields[256] = "";
    if (value[0] != '\0') {
        snprintf(fields, sizeof(fields), "Cache-Control: %s\r\n", value);
    }
    const struct http_head *head = message_request(&message, fields);
    directives_read_request(head, message.text, &request);
    return request;
}

Test(freshness, lifetimes_come_from_s_maxage_then_max_age_then_expires)
{
    static const struct {
        const char *fields;
        int64_t lifetime_s;
    } cases[] = {
        {"", 0},
        {"Cache-Control: max-age=3600\r\n", 3600},
        {"Cache-Control: max-age=0\r\nDate: @0\r\nExpires: @3600\r\n", 0},
        {"Cache-Control: max-age=3600\r\nDate: @0\r\nExpires: @-7200\r\n", 3600},
        {"Cache-Control: max-age=3600\r\nDate: @0\r\nExpires: 0\r\n", 3600},
        {"Cache-Control: max-age=1, s-maxage=3600\r\n", 3600},
        {"Cache-Control: s-maxage=1\r\nCache-Control: max-age=3600\r\n", 1},
        {"Expires: @-10\r\nCache-Control: max-age=0, s-maxage=3600\r\n", 3600},
        {"Cache-Control: s-maxage=x, max-age=3600\r\n", 0},
        {"Cache-Control: max-age=x\r\nDate: @0\r\nExpires: @3600\r\n", 0},
        {"Cache-Control: max-age=99999999999\r\n", INT64_C(2147483648)},
        {"Date: @0\r\nExpires: @3600\r\n", 3600},
        {"Date: @-10\r\nExpires: @10\r\n", 20},
        {"Date: @400\r\nExpires: @300\r\n", 0},
        {"Date: @0\r\nExpires: @0\r\n", 0},
        {"Date: foo\r\nExpires: @10\r\n", 10},
        {"Expires: @10\r\n", 10},
        {"Date: @0\r\nExpires: @10\r\nExpires: @20\r\n", 10},
        {"Date: @0\r\nExpires: x\r\nExpires: @20\r\n", 0},
        {"Date: @0\r\nDate: @5\r\nExpires: @10\r\n", 10},
        {"Date: @0\r\nExpires:\r\n", 0},
        {"Date: @0\r\nExpires: @10, @20\r\n", 0},
        {"Date: @0\r\nExpires: Thursday, 09-Oct-25 08:53:30 GMT\r\n", 10},
        {"Date: @0\r\nExpires: Thu Oct  9 08:53:30 2025\r\n", 10},
        {"Date: @0\r\nExpires: Thu, 01 Jan 1600 00:00:00 GMT\r\n", 0},
        {"Date: @0\r\nExpires: Fri, 31 Dec 9999 23:59:59 GMT\r\n", INT64_C(251642300799)},
        {"Date: @0\r\nExpires: @10\r\nPragma: no-cache\r\n", 10},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct freshness freshness = compute(200, cases[i].fields, &RULES, 0);
        cr_assert_eq(freshness.lifetime_ms, cases[i].lifetime_s * 1000, "%s: %lld", cases[i].fields,
                     (long long)freshness.lifetime_ms);
        cr_assert_eq(freshness.is_heuristic, i == 0, "%s", cases[i].fields);
    }
}

Test(freshness, a_targeted_field_puts_expires_aside)
{
    static struct message message;
    char text[1024];
    struct freshness freshness;
    put_dates("Date: @0\r\nExpires: @10\r\n", text);
    const struct http_head *head = message_response(&message, 200, text);
    struct directives_response directives;
    directives_read_response(head, message.text, &directives);
    struct freshness_source source = {head, message.text, &directives, true, T0_MS, T0_MS};
    freshness_compute(&source, &RULES, &freshness);
    cr_assert_eq(freshness.lifetime_ms, 0);
    cr_assert(freshness.is_heuristic);
}

Test(freshness, guesses_are_a_tenth_of_the_time_since_the_last_change_where_they_are_allowed)
{
    static const struct {
        unsigned status;
        const char *fields;
        int64_t lifetime_s;
    } cases[] = {
        {200, "Date: @0\r\nLast-Modified: @-86400\r\n", 8640},
        {200, "Date: @0\r\nLast-Modified: @-8640000\r\n", 86400}, /* the bound */
        {200, "Date: @0\r\nLast-Modified: @0\r\n", 0},
        {200, "Date: @0\r\nLast-Modified: @10\r\n", 0},
        {200, "Date: @0\r\nLast-Modified: x\r\n", 0},
        {200, "Last-Modified: @-100\r\n", 10}, /* no Date: as if sent when received */
        {203, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {204, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {206, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {301, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {308, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {404, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {404, "Date: @0\r\nLast-Modified: @10\r\n", 0},
        {405, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {410, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {414, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {501, "Date: @0\r\nLast-Modified: @-100\r\n", 10},
        {201, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {202, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {302, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {403, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {429, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {502, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {503, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {504, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {599, "Date: @0\r\nLast-Modified: @-100\r\n", 0},
        {599, "Date: @0\r\nLast-Modified: @-100\r\nCache-Control: public\r\n", 10},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct freshness freshness = compute(cases[i].status, cases[i].fields, &RULES, 0);
        cr_assert_eq(freshness.lifetime_ms, cases[i].lifetime_s * 1000, "%u %s", cases[i].status, cases[i].fields);
        cr_assert(freshness.is_heuristic);
    }
}

Test(freshness, a_route_may_give_what_the_response_does_not)
{
    struct freshness_rules rules = RULES;
    rules.default_lifetime_ms = 5000;
    rules.negative_lifetime_ms = 2000;
    cr_assert_eq(compute(200, "", &rules, 0).lifetime_ms, 5000);
    cr_assert_eq(compute(301, "", &rules, 0).lifetime_ms, 5000);
    cr_assert_eq(compute(200, "Last-Modified: @-100\r\n", &rules, 0).lifetime_ms, 10000);
    cr_assert_eq(compute(200, "Cache-Control: max-age=0\r\n", &rules, 0).lifetime_ms, 0);
    cr_assert_eq(compute(200, "Expires: 0\r\n", &rules, 0).lifetime_ms, 0);
    static const unsigned negative[] = {404, 405, 410, 414, 501};
    for (size_t i = 0; i < COUNT(negative); i++) {
        cr_assert_eq(compute(negative[i], "", &rules, 0).lifetime_ms, 2000);
        cr_assert_eq(compute(negative[i], "Last-Modified: @-100\r\n", &rules, 0).lifetime_ms, 2000);
        cr_assert_eq(compute(negative[i], "Last-Modified: @-10\r\n", &rules, 0).lifetime_ms, 1000);
        cr_assert_eq(compute(negative[i], "Cache-Control: max-age=9\r\n", &rules, 0).lifetime_ms, 9000);
    }
    static const unsigned never[] = {302, 307, 400, 401, 403, 429, 500, 502, 503, 504};
    for (size_t i = 0; i < COUNT(never); i++) {
        cr_assert_eq(compute(never[i], "", &rules, 0).lifetime_ms, 0, "%u", never[i]);
        cr_assert_eq(compute(never[i], "Cache-Control: public\r\n", &rules, 0).lifetime_ms, 0, "%u", never[i]);
    }
    rules.heuristic_permille = 0;
    cr_assert_eq(compute(200, "Last-Modified: @-100\r\n", &rules, 0).lifetime_ms, 5000);
}

Test(freshness, ages_are_read_as_strictly_as_asked)
{
    static const struct {
        const char *fields;
        int64_t age_s;
    } cases[] = {
        {"Age: 7200\r\n", 7200},
        {"Age: 007\r\n", 7},
        {"Age: 2147483647\r\n", 2147483647},
        {"Age: 2147483648\r\n", INT64_C(2147483648)},
        {"Age: 2147483649\r\n", INT64_C(2147483648)},
        {"Age: 99999999999999999999\r\n", INT64_C(2147483648)},
        {"Age: 7200, 0\r\n", 7200},
        {"Age: 0, 7200\r\n", 0},
        {"Age: , 5\r\n", 5},
        {"Age: 7200\r\nAge: 0\r\n", 7200},
        {"Age: 0\r\nAge: 7200\r\n", 0},
        {"Age: abc\r\n", 0},
        {"Age: abc, 7200\r\n", 0},
        {"Age: -7200\r\n", 0},
        {"Age: +7200\r\n", 0},
        {"Age: 7200.0\r\n", 0},
        {"Age: 7200;foo=bar\r\n", 0},
        {"Age: 7200;foo=111\r\n", 0},
        {"Age: \"7200\"\r\n", 0},
        {"Age:\r\n", 0},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct freshness freshness = compute(200, cases[i].fields, &RULES, 0);
        cr_assert_eq(freshness.initial_age_ms, cases[i].age_s * 1000, "%s: %lld", cases[i].fields,
                     (long long)freshness.initial_age_ms);
    }
}

Test(freshness, the_initial_age_is_the_greater_of_what_date_shows_and_what_age_says_with_the_delay)
{
    cr_assert_eq(compute(200, "Date: @0\r\n", &RULES, 0).initial_age_ms, 0);
    cr_assert_eq(compute(200, "Date: @-10\r\n", &RULES, 0).initial_age_ms, 10000);
    cr_assert_eq(compute(200, "Date: @10\r\n", &RULES, 0).initial_age_ms, 0);
    cr_assert_eq(compute(200, "Date: x\r\n", &RULES, 0).initial_age_ms, 0);
    cr_assert_eq(compute(200, "", &RULES, 5000).initial_age_ms, 5000);
    cr_assert_eq(compute(200, "Age: 7\r\n", &RULES, 5000).initial_age_ms, 12000);
    cr_assert_eq(compute(200, "Age: 7\r\nDate: @-11\r\n", &RULES, 5000).initial_age_ms, 12000);
    cr_assert_eq(compute(200, "Age: 7\r\nDate: @-13\r\n", &RULES, 5000).initial_age_ms, 13000);
    cr_assert_eq(compute(200, "Age: 7\r\n", &RULES, -5000).initial_age_ms, 7000, "a clock set back");
}

Test(freshness, the_part_of_a_second_that_date_cannot_say_is_no_age)
{
    static struct message message;
    char text[1024];
    struct directives_response directives;
    struct freshness freshness;
    put_dates("Date: @0\r\nCache-Control: max-age=1\r\n", text);
    const struct http_head *head = message_response(&message, 200, text);
    directives_read_response(head, message.text, &directives);
    struct freshness_source source = {head, message.text, &directives, false, T0_MS + 999, T0_MS + 999};
    freshness_compute(&source, &RULES, &freshness);
    cr_assert_eq(freshness.initial_age_ms, 0);
    cr_assert_eq(freshness.date_ms, T0_MS);
}

Test(freshness, ages_grow_and_never_shrink)
{
    struct freshness freshness = compute(200, "Age: 30\r\nCache-Control: max-age=100\r\n", &RULES, 0);
    cr_assert_eq(freshness_age_ms(&freshness, T0_MS + 2500), 32500);
    cr_assert_eq(freshness_age_s(&freshness, T0_MS + 2500), 32);
    cr_assert_eq(freshness_ttl_ms(&freshness, T0_MS + 2500), 67500);
    cr_assert_eq(freshness_age_ms(&freshness, T0_MS - 9999), 30000, "a clock set back");
    freshness = compute(200, "Age: 2147483648\r\n", &RULES, 0);
    cr_assert_eq(freshness_age_s(&freshness, T0_MS + 5000), UINT32_C(2147483648));
}

Test(freshness, dates_and_flags_are_kept)
{
    struct freshness freshness =
        compute(200, "Date: @-5\r\nLast-Modified: @-100\r\nCache-Control: immutable, no-cache\r\n", &RULES, 0);
    cr_assert_eq(freshness.response_ms, T0_MS);
    cr_assert_eq(freshness.date_ms, T0_MS - 5000);
    cr_assert_eq(freshness.last_modified_ms, T0_MS - 100000);
    cr_assert(freshness.is_immutable && freshness.no_cache && !freshness.must_revalidate);
    cr_assert_eq(freshness.etag_bytes + freshness.last_modified_bytes, 0);
    freshness = compute(200, "Last-Modified: 0\r\n", &RULES, 0);
    cr_assert_eq(freshness.date_ms, T0_MS);
    cr_assert_eq(freshness.last_modified_ms, -1);
    freshness = compute(200, "Last-Modified: Thu, 01 Jan 1969 00:00:00 GMT\r\n", &RULES, 0);
    cr_assert_eq(freshness.last_modified_ms, 0);
}

Test(freshness, stale_windows_are_the_responses_or_the_routes_and_fall_to_must_revalidate)
{
    static const struct {
        const char *value;
        int64_t behind_ms, on_error_ms;
        bool must_revalidate;
    } cases[] = {
        {"max-age=1", 7000, 9000, false},
        {"max-age=0", 0, 9000, false},
        {"max-age=0, stale-while-revalidate=5", 5000, 9000, false},
        {"max-age=1, stale-while-revalidate=5, stale-if-error=6", 5000, 6000, false},
        {"max-age=1, stale-while-revalidate=0, stale-if-error=0", 0, 0, false},
        {"max-age=1, stale-while-revalidate=x", 7000, 9000, false},
        {"max-age=1, must-revalidate, stale-while-revalidate=5", 0, 0, true},
        {"max-age=1, proxy-revalidate, stale-if-error=5", 0, 0, true},
        {"max-age=1, no-cache, stale-if-error=5", 0, 0, false},
        {"s-maxage=1", 0, 0, true},
        {"s-maxage=1, stale-while-revalidate=5", 0, 0, true},
    };
    struct freshness_rules rules = RULES;
    rules.stale_while_revalidate_ms = 7000;
    rules.stale_if_error_ms = 9000;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char fields[256];
        snprintf(fields, sizeof(fields), "Cache-Control: %s\r\n", cases[i].value);
        struct freshness freshness = compute(200, fields, &rules, 0);
        cr_assert_eq(freshness.stale_while_revalidate_ms, cases[i].behind_ms, "%s", cases[i].value);
        cr_assert_eq(freshness.stale_if_error_ms, cases[i].on_error_ms, "%s", cases[i].value);
        cr_assert_eq(freshness.must_revalidate, cases[i].must_revalidate, "%s", cases[i].value);
    }
    rules.stale_despite_s_maxage = true;
    struct freshness freshness = compute(200, "Cache-Control: s-maxage=1, stale-while-revalidate=5\r\n", &rules, 0);
    cr_assert_eq(freshness.stale_while_revalidate_ms, 5000);
    cr_assert_not(freshness.must_revalidate);
    cr_assert(compute(200, "Cache-Control: s-maxage=1\r\n", &rules, 0).must_revalidate);
    cr_assert(
        compute(200, "Cache-Control: s-maxage=1, must-revalidate, stale-if-error=5\r\n", &rules, 0).must_revalidate);
}

Test(freshness, the_use_follows_from_age_response_and_request)
{
    static const struct {
        const char *response;
        const char *request;
        int64_t after_ms;
        enum freshness_use use;
        enum freshness_why why;
    } cases[] = {
        {"max-age=10", "", 0, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "", 9999, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "", 10000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=0", "", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, no-cache", "", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, no-cache", "max-stale", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, must-revalidate", "", 5000, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10, must-revalidate", "max-stale", 15000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, proxy-revalidate", "max-stale", 15000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"s-maxage=10", "max-stale", 15000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10", "max-stale", 15000, FRESHNESS_STALE, FRESHNESS_WHY_NOT},
        {"max-age=10", "max-stale=5", 15000, FRESHNESS_STALE, FRESHNESS_WHY_NOT},
        {"max-age=10", "max-stale=5", 15001, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "", 14999, FRESHNESS_STALE_BEHIND, FRESHNESS_WHY_NOT},
        {"max-age=10, stale-while-revalidate=5", "", 15000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "max-stale=9", 12000, FRESHNESS_STALE_BEHIND, FRESHNESS_WHY_NOT},
        {"max-age=10, stale-while-revalidate=5", "max-stale=9", 16000, FRESHNESS_STALE, FRESHNESS_WHY_NOT},
        {"max-age=10, stale-while-revalidate=5", "no-cache", 12000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "max-age=11", 12000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "max-age=13", 12000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "max-age=13, max-stale", 12000, FRESHNESS_STALE_BEHIND,
         FRESHNESS_WHY_NOT},
        {"max-age=10, stale-while-revalidate=5", "min-fresh=1", 12000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "min-fresh=0", 10000, FRESHNESS_VALIDATE, FRESHNESS_WHY_STALE},
        {"max-age=10, stale-while-revalidate=5", "min-fresh=0", 9999, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "no-cache", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "no-cache, max-stale", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "no-store", 0, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "max-age=0", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10, immutable", "max-age=0", 0, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "max-age=1", 999, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "max-age=1", 1000, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "max-age=1, max-stale", 5000, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "max-age=1, max-stale=4", 5000, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "max-age=1, max-stale=4", 5001, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "min-fresh=5", 5000, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "min-fresh=5", 5001, FRESHNESS_VALIDATE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "only-if-cached", 5000, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
        {"max-age=10", "only-if-cached", 10000, FRESHNESS_UNAVAILABLE, FRESHNESS_WHY_STALE},
        {"max-age=10", "only-if-cached, no-cache", 0, FRESHNESS_UNAVAILABLE, FRESHNESS_WHY_REQUEST},
        {"max-age=10", "only-if-cached, max-stale", 20000, FRESHNESS_STALE, FRESHNESS_WHY_NOT},
        {"max-age=10", "unknown, max-age=x", 5000, FRESHNESS_FRESH, FRESHNESS_WHY_NOT},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char fields[256];
        enum freshness_why why = FRESHNESS_WHY_NOT;
        snprintf(fields, sizeof(fields), "Cache-Control: %s\r\n", cases[i].response);
        struct freshness freshness = compute(200, fields, &RULES, 0);
        struct directives_request request = request_of(cases[i].request);
        enum freshness_use use = freshness_decide(&freshness, &request, T0_MS + cases[i].after_ms, &why);
        cr_assert_eq(use, cases[i].use, "%s | %s | %lld: %d", cases[i].response, cases[i].request,
                     (long long)cases[i].after_ms, (int)use);
        cr_assert_eq(why, cases[i].why, "%s | %s", cases[i].response, cases[i].request);
        cr_assert_eq(freshness_decide(&freshness, &request, T0_MS + cases[i].after_ms, NULL), use);
    }
}

Test(freshness, errors_are_bridged_within_the_window_unless_staleness_is_forbidden)
{
    static const struct {
        const char *response;
        const char *request;
        int64_t after_ms;
        bool allowed;
    } cases[] = {
        {"max-age=2", "", 3000, false},
        {"max-age=2, stale-if-error=60", "", 61999, true},
        {"max-age=2, stale-if-error=60", "", 62000, false},
        {"max-age=2, stale-if-error=60", "max-age=0", 3000, true},
        {"max-age=2, stale-if-error=60", "no-cache", 3000, false},
        {"max-age=2, stale-if-error=60, must-revalidate", "", 3000, false},
        {"max-age=2, stale-if-error=60, no-cache", "", 3000, false},
        {"max-age=2, stale-if-error=60, no-cache", "", 1000, false},
        {"s-maxage=2, stale-if-error=60", "stale-if-error=60", 3000, false},
        {"max-age=2, must-revalidate", "max-age=0", 1000, true}, /* fresh; only the client had doubts */
        {"max-age=2", "stale-if-error=60", 61000, true},
        {"max-age=2", "stale-if-error=60", 62000, false},
        {"max-age=2, stale-if-error=9", "stale-if-error=1", 10000, true},
        {"max-age=2", "no-cache", 1000, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char fields[256];
        snprintf(fields, sizeof(fields), "Cache-Control: %s\r\n", cases[i].response);
        struct freshness freshness = compute(200, fields, &RULES, 0);
        struct directives_request request = request_of(cases[i].request);
        cr_assert_eq(freshness_allows_on_error(&freshness, &request, T0_MS + cases[i].after_ms), cases[i].allowed,
                     "%s | %s | %lld", cases[i].response, cases[i].request, (long long)cases[i].after_ms);
    }
}
