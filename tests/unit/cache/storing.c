#include "cache/storing.h"

#include "message.h"

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static const int64_t T0_MS = INT64_C(1760000000000); /* Thu, 09 Oct 2025 08:53:20 GMT */

#define DATE     "Date: Thu, 09 Oct 2025 08:53:20 GMT\r\n"
#define TOMORROW "Expires: Fri, 10 Oct 2025 08:53:20 GMT\r\n"
#define MODIFIED "Last-Modified: Wed, 08 Oct 2025 08:53:20 GMT\r\n"
#define CC(text) "Cache-Control: " text "\r\n"

static struct message response;
static struct message request;

struct judged {
    enum storing_method method;
    bool can_combine;
    const char *request;
    unsigned status;
    const char *response;
};

static struct storing_verdict judge(const struct judged *judged, const struct storing_policy *policy)
{
    struct directives_request directives;
    struct storing_verdict verdict;
    const struct http_head *head = message_request(&request, judged->request == NULL ? "" : judged->request);
    directives_read_request(head, request.text, &directives);
    struct storing_exchange exchange = {
        .request = &directives,
        .response = message_response(&response, judged->status, judged->response),
        .base = response.text,
        .request_ms = T0_MS,
        .response_ms = T0_MS,
        .method = judged->method,
        .can_combine = judged->can_combine,
    };
    storing_judge(&exchange, policy, &verdict);
    return verdict;
}

static enum storing_reason reason_of(unsigned status, const char *fields)
{
    struct judged judged = {.status = status, .response = fields};
    return judge(&judged, &STORING_POLICY_DEFAULT).reason;
}

Test(storing, what_the_response_says_decides)
{
    static const struct {
        unsigned status;
        const char *response;
        enum storing_reason reason;
    } cases[] = {
        {200, CC("max-age=10"), STORING_OK},
        {200, DATE TOMORROW, STORING_OK},
        {200, DATE MODIFIED, STORING_OK},
        {200, "ETag: \"a\"\r\n", STORING_OK},
        {200, CC("no-cache") "ETag: \"a\"\r\n", STORING_OK},
        {200, CC("max-age=0, stale-while-revalidate=5"), STORING_OK},
        {200, CC("max-age=0, stale-if-error=5"), STORING_OK},
        {200, CC("max-age=10") "Pragma: no-cache\r\n", STORING_OK},
        {200, CC("max-age=10") "Set-Cookie: a=b\r\n", STORING_OK},
        {200, CC("max-age=10") "Content-Range: x\r\n", STORING_OK},
        {200, "", STORING_USELESS},
        {200, "ETag:\r\n", STORING_USELESS},
        {200, "Last-Modified: x\r\n", STORING_USELESS},
        {200, CC("max-age=0"), STORING_USELESS},
        {200, CC("max-age=10, no-cache"), STORING_USELESS},
        {200, CC("max-age=10, no-cache, stale-if-error=5"), STORING_USELESS},
        {200, "Expires: 0\r\n", STORING_USELESS},
        {404, "", STORING_USELESS},
        {200, CC("no-store"), STORING_NO_STORE},
        {200, CC("No-StOrE, max-age=10") DATE TOMORROW, STORING_NO_STORE},
        {200, CC("private, max-age=10"), STORING_PRIVATE},
        {200, CC("private=\"a\", max-age=10"), STORING_OK},
        {200, CC("private=\"\", max-age=10"), STORING_PRIVATE},
        {200, CC("max-age=10, no-store, must-understand"), STORING_OK},
        {404, CC("max-age=10, no-store, must-understand"), STORING_OK},
        {599, CC("max-age=10, no-store, must-understand"), STORING_STATUS},
        {599, CC("max-age=10, must-understand"), STORING_STATUS},
        {200, CC("max-age=10, no-store, must-understand=1"), STORING_NO_STORE},
        {200, CC("max-age=10, private, no-store, must-understand"), STORING_PRIVATE},
        {200, CC("max-age=10") "Vary: *\r\n", STORING_VARY_ALL},
        {200, CC("max-age=10") "Vary: a\r\nVary: b , *, c\r\n", STORING_VARY_ALL},
        {200, CC("max-age=10") "Vary: a*, **\r\n", STORING_OK},
        {200, DATE MODIFIED "Set-Cookie: a=b\r\n", STORING_SET_COOKIE},
        {200, DATE MODIFIED CC("public") "Set-Cookie: a=b\r\n", STORING_OK},
        {200, CC("no-cache") "ETag: \"a\"\r\nSet-Cookie: a=b\r\n", STORING_SET_COOKIE},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        enum storing_reason reason = reason_of(cases[i].status, cases[i].response);
        cr_assert_eq(reason, cases[i].reason, "%u %s: %s", cases[i].status, cases[i].response,
                     storing_reason_name(reason));
    }
}

static bool is_about_request(unsigned status)
{
    return status == 304 || status == 412 || status == 416 || status == 417;
}

Test(storing, every_final_status_that_is_not_about_the_request_may_be_stored_with_an_explicit_lifetime)
{
    for (unsigned status = 200; status <= 599; status++) {
        enum storing_reason expected = status == 206              ? STORING_PARTIAL
                                       : is_about_request(status) ? STORING_STATUS
                                                                  : STORING_OK;
        cr_assert_eq(reason_of(status, CC("max-age=10")), expected, "%u", status);
        cr_assert_eq(reason_of(status, DATE TOMORROW), expected, "%u", status);
    }
    cr_assert_eq(reason_of(103, CC("max-age=10")), STORING_STATUS);
    cr_assert_eq(reason_of(101, CC("max-age=10")), STORING_STATUS);
}

Test(storing, without_one_only_those_cacheable_by_default_or_public)
{
    for (unsigned status = 200; status <= 599; status++) {
        if (status != 206 && !is_about_request(status)) {
            bool by_default = freshness_status_is_heuristic(status);
            cr_assert_eq(reason_of(status, DATE MODIFIED), by_default ? STORING_OK : STORING_NOT_CACHEABLE, "%u",
                         status);
            cr_assert_eq(reason_of(status, DATE MODIFIED CC("public")), STORING_OK, "%u", status);
        }
    }
}

Test(storing, the_request_has_its_say)
{
    static const struct {
        struct judged judged;
        enum storing_reason reason;
    } cases[] = {
        {{STORING_OTHER, false, "", 200, CC("max-age=10")}, STORING_METHOD},
        {{STORING_POST_LOCATED, false, "", 200, CC("max-age=10")}, STORING_OK},
        {{STORING_POST_LOCATED, false, "", 200, DATE MODIFIED}, STORING_METHOD},
        {{STORING_GET, false, CC("no-store"), 200, CC("max-age=10")}, STORING_REQUEST_NO_STORE},
        {{STORING_GET, false, CC("no-cache"), 200, CC("max-age=10")}, STORING_OK},
        {{STORING_GET, false, "Pragma: no-cache\r\n", 200, CC("max-age=10")}, STORING_OK},
        {{STORING_GET, false, "Cookie: a=b\r\n", 200, CC("max-age=10")}, STORING_OK},
        {{STORING_GET, false, "Authorization: a\r\n", 200, CC("max-age=10")}, STORING_AUTHORIZATION},
        {{STORING_GET, false, "Authorization: a\r\n", 200, DATE TOMORROW}, STORING_AUTHORIZATION},
        {{STORING_GET, false, "Authorization: a\r\n", 200, CC("max-age=10, public")}, STORING_OK},
        {{STORING_GET, false, "Authorization: a\r\n", 200, CC("max-age=10, must-revalidate")}, STORING_OK},
        {{STORING_GET, false, "Authorization: a\r\n", 200, CC("s-maxage=10")}, STORING_OK},
        {{STORING_GET, false, "Authorization: a\r\n", 200, CC("s-maxage=x, max-age=10")}, STORING_AUTHORIZATION},
        {{STORING_GET, true, "", 206, CC("max-age=10")}, STORING_OK},
        {{STORING_GET, true, "", 304, CC("max-age=10")}, STORING_STATUS},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct storing_verdict verdict = judge(&cases[i].judged, &STORING_POLICY_DEFAULT);
        cr_assert_eq(verdict.reason, cases[i].reason, "%zu: %s", i, storing_reason_name(verdict.reason));
    }
}

Test(storing, a_valid_targeted_field_puts_cache_control_and_expires_aside)
{
    static const struct {
        const char *response;
        enum storing_reason reason;
        int64_t lifetime_s;
    } cases[] = {
        {"CDN-Cache-Control: max-age=100\r\n", STORING_OK, 100},
        {"CDN-Cache-Control: max-age=100\r\n" CC("no-store"), STORING_OK, 100},
        {"CDN-Cache-Control: max-age=100\r\n" CC("max-age=1"), STORING_OK, 100},
        {"CDN-Cache-Control: max-age=1\r\n" CC("max-age=100"), STORING_OK, 1},
        {"CDN-Cache-Control: max-age=100\r\nExpires: 0\r\n", STORING_OK, 100},
        {"CDN-Cache-Control: max-age=0\r\n" DATE TOMORROW, STORING_USELESS, 0},
        {"CDN-Cache-Control: private\r\n" CC("max-age=100") DATE TOMORROW, STORING_PRIVATE, 0},
        {"CDN-Cache-Control: no-cache\r\n" CC("max-age=100") DATE TOMORROW, STORING_USELESS, 0},
        {"CDN-Cache-Control: no-store\r\n" CC("max-age=100") DATE TOMORROW, STORING_NO_STORE, 0},
        {"CDN-Cache-Control: max-age=100, &&&&&\r\n" CC("no-store"), STORING_NO_STORE, 0},
        {"CDN-Cache-Control: max-age=\"100\"\r\n" CC("no-store"), STORING_USELESS, 0},
        {"CDN-Cache-Control: max-age =100\r\n" CC("max-age=1"), STORING_OK, 1},
        {"CDN-Cache-Control:\r\n" CC("max-age=1"), STORING_OK, 1},
        {"CDN-Cache-Control: foo\r\n" CC("max-age=1"), STORING_USELESS, 0},
        {"Surrogate-Control: max-age=100\r\n" CC("max-age=1"), STORING_OK, 1},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct judged judged = {.status = 200, .response = cases[i].response};
        struct storing_verdict verdict = judge(&judged, &STORING_POLICY_DEFAULT);
        cr_assert_eq(verdict.reason, cases[i].reason, "%s: %s", cases[i].response, storing_reason_name(verdict.reason));
        cr_assert_eq(verdict.freshness.lifetime_ms, cases[i].lifetime_s * 1000, "%s", cases[i].response);
    }
}

Test(storing, the_first_target_that_is_there_and_valid_counts)
{
    static const struct storing_target targets[] = {
        {BYTES("Sluice-Cache-Control"), DIRECTIVES_DICTIONARY},
        {BYTES("CDN-Cache-Control"), DIRECTIVES_DICTIONARY},
        {BYTES("Surrogate-Control"), DIRECTIVES_SURROGATE},
    };
    struct storing_policy policy = STORING_POLICY_DEFAULT;
    policy.targets = targets;
    policy.target_count = COUNT(targets);
    static const struct {
        const char *response;
        int64_t lifetime_s;
    } cases[] = {
        {"Surrogate-Control: max-age=3\r\nCDN-Cache-Control: max-age=2\r\nsluice-cache-control: max-age=1\r\n", 1},
        {"Surrogate-Control: max-age=3\r\nCDN-Cache-Control: max-age=2\r\nSluice-Cache-Control: @\r\n", 2},
        {"Surrogate-Control: max-age=3\r\nCDN-Cache-Control:\r\n" CC("max-age=4"), 3},
        {"Surrogate-Control: content=\"x\"\r\n" CC("max-age=4"), 4},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct judged judged = {.status = 200, .response = cases[i].response};
        cr_assert_eq(judge(&judged, &policy).freshness.lifetime_ms, cases[i].lifetime_s * 1000, "%s",
                     cases[i].response);
    }
}

Test(storing, a_policy_may_refuse_cookies_and_grant_lifetimes)
{
    struct storing_policy policy = STORING_POLICY_DEFAULT;
    struct judged cookie = {.status = 200, .response = CC("max-age=10") "Set-Cookie: a=b\r\n"};
    struct judged silent = {.status = 200, .response = ""};
    struct judged silent_cookie = {.status = 200, .response = "Set-Cookie: a=b\r\n"};
    struct judged missing = {.status = 404, .response = ""};
    policy.refuses_set_cookie = true;
    policy.freshness.default_lifetime_ms = 5000;
    policy.freshness.negative_lifetime_ms = 1000;
    cr_assert_eq(judge(&cookie, &policy).reason, STORING_SET_COOKIE);
    cr_assert_eq(judge(&silent, &policy).reason, STORING_OK);
    cr_assert_eq(judge(&missing, &policy).reason, STORING_OK);
    policy.refuses_set_cookie = false;
    cr_assert_eq(judge(&silent_cookie, &policy).reason, STORING_SET_COOKIE, "a guess hands out no cookies");
}

Test(storing, a_response_that_is_of_no_use_still_replaces_what_was_stored)
{
    struct judged judged = {.status = 200, .response = CC("max-age=10")};
    cr_assert(judge(&judged, &STORING_POLICY_DEFAULT).replaces_stored);
    judged.response = CC("max-age=0");
    cr_assert(judge(&judged, &STORING_POLICY_DEFAULT).replaces_stored);
    judged.response = CC("no-store, max-age=0");
    cr_assert_not(judge(&judged, &STORING_POLICY_DEFAULT).replaces_stored);
    judged.status = 503;
    judged.response = "";
    cr_assert_not(judge(&judged, &STORING_POLICY_DEFAULT).replaces_stored);
}

/* Two things speak against each of the first: the reason says one of them, is_for_one must not miss the other. */
Test(storing, what_is_one_clients_own_is_known_as_such_whatever_else_speaks_against_storing_it)
{
    static const struct judged one[] = {
        {.status = 500, .response = DATE "Set-Cookie: a=b\r\n"},
        {.status = 599, .response = DATE CC("must-understand, private")},
        {.status = 599, .response = DATE CC("must-understand, no-store")},
        {.status = 500, .response = DATE CC("private=\"x-own\"") "X-Own: a\r\n"},
        {.status = 206, .response = DATE CC("private")},
        {.status = 500, .response = DATE "Vary: *\r\n", .request = "Cache-Control: no-store\r\n"},
        {.status = 500, .response = DATE, .request = "Cache-Control: no-store\r\n"},
        {.status = 500, .response = DATE, .request = "Authorization: a\r\n"},
        {.status = 500, .response = DATE "Vary: *\r\n"},
    };
    static const struct judged all[] = {
        {.status = 500, .response = DATE},
        {.status = 500, .response = DATE "Vary: Accept-Language\r\n"},
        {.status = 500, .response = DATE CC("public"), .request = "Authorization: a\r\n"},
    };
    for (size_t i = 0; i < COUNT(one); i++) {
        struct storing_verdict verdict = judge(&one[i], &STORING_POLICY_DEFAULT);
        cr_expect(verdict.reason != STORING_OK && verdict.is_for_one, "%zu: %s", i,
                  storing_reason_name(verdict.reason));
    }
    for (size_t i = 0; i < COUNT(all); i++) {
        cr_expect_not(judge(&all[i], &STORING_POLICY_DEFAULT).is_for_one, "%zu", i);
    }
}

Test(storing, fields_of_the_hop_the_proxy_and_one_reader_are_left_out)
{
    static const struct {
        const char *name;
        bool kept;
    } fields[] = {
        {"A", false},
        {"b", false},
        {"C", true},
        {"Set-Cookie", false},
        {"Nominated", false},
        {"Age", false},
        {"Proxy-Authenticate", false},
        {"Proxy-Authentication-Info", false},
        {"Proxy-Authorization", false},
        {"Proxy-Connection", false},
        {"Keep-Alive", false},
        {"TE", false},
        {"Upgrade", false},
        {"Connection", false},
        {"Cache-Control", true},
        {"ETag", true},
        {"Expires", true},
        {"Vary", true},
        {"X-Unknown", true},
    };
    char text[2048] = "";
    size_t length = 0;
    for (size_t i = 0; i < COUNT(fields); i++) {
        const char *value = strcmp(fields[i].name, "Connection") == 0 ? "nominated"
                            : strcmp(fields[i].name, "Cache-Control") == 0
                                ? "no-cache=\"a, B\", private=set-cookie, max-age=10"
                                : "1";
        length += (size_t)snprintf(text + length, sizeof(text) - length, "%s: %s\r\n", fields[i].name, value);
    }
    struct judged judged = {.status = 200, .response = text};
    struct storing_verdict verdict = judge(&judged, &STORING_POLICY_DEFAULT);
    const struct http_head *head = &response.parser.head;
    cr_assert_eq(verdict.reason, STORING_OK);
    cr_assert_eq(head->field_count, COUNT(fields));
    for (size_t i = 0; i < COUNT(fields); i++) {
        cr_assert_eq(storing_keeps_field(&verdict, &head->fields[i], response.text), fields[i].kept, "%s",
                     fields[i].name);
    }
}

Test(storing, every_reason_has_a_name_of_its_own)
{
    for (int i = 0; i < STORING_REASON_COUNT; i++) {
        cr_assert_not_null(storing_reason_name((enum storing_reason)i));
        for (int j = 0; j < i; j++) {
            cr_assert_str_neq(storing_reason_name((enum storing_reason)i), storing_reason_name((enum storing_reason)j));
        }
    }
}
