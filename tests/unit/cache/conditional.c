#include "cache/conditional.h"

#include "rules.h"

/* ---- the client's conditions ---- */

struct evaluation {
    const char *request;
    const char *stored;
    enum conditional_answer answer;
};

static void evaluate(const struct evaluation *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct message message;
        const struct http_head *request = request_of(&message, cases[i].request);
        struct cache_head *stored = stored_head(200, cases[i].stored);
        enum conditional_answer answer = conditional_evaluate(request, message.base, stored, NOW_MS);
        cr_assert_eq(answer, cases[i].answer, "%zu: %s against %s: %d", i, cases[i].request, cases[i].stored, answer);
        free(stored);
        message_free(&message);
    }
}

#define EVALUATE(...)                                           \
    do {                                                        \
        static const struct evaluation cases[] = {__VA_ARGS__}; \
        evaluate(cases, sizeof(cases) / sizeof(cases[0]));      \
    } while (0)

Test(conditional, tags_are_compared_weakly)
{
    EVALUATE({"If-None-Match: \"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: W/\"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"a\"\r\n", "ETag: W/\"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: W/\"a\"\r\n", "ETag: W/\"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"a\"\r\n", "ETag: \"A\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: \"a\"\r\n", "ETag: \"ab\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: \"\"\r\n", "ETag: \"\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"a\xc3\xbc\"\r\n", "ETag: \"a\xc3\xbc\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"a\"\r\n", "X: 1\r\n", CONDITIONAL_SERVE});
}

Test(conditional, any_tag_of_a_list_may_match)
{
    EVALUATE({"If-None-Match: \"x\", \"a\", \"y\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"x\",\"y\",W/\"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"x\"\r\nIf-None-Match: \"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: , ,\"a\",\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"x\", \"y\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE});
}

Test(conditional, commas_and_backslashes_within_quotes_belong_to_the_tag)
{
    EVALUATE({"If-None-Match: \"a,b\"\r\n", "ETag: \"a,b\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"x\", \"a,b\"\r\n", "ETag: \"b\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: \"a\\\", \"b\"\r\n", "ETag: \"b\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"a\\\"\r\n", "ETag: \"a\\\"\r\n", CONDITIONAL_NOT_MODIFIED});
}

Test(conditional, a_star_matches_whatever_is_stored_but_only_alone)
{
    EVALUATE({"If-None-Match: *\r\n", "ETag: \"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: *\r\n", "X: 1\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: \"*\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: *, \"b\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE});
}

Test(conditional, malformed_tags_match_only_themselves)
{
    EVALUATE({"If-None-Match: a\r\n", "ETag: a\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: a\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: \"a\"\r\n", "ETag: a\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: w/\"a\"\r\n", "ETag: w/\"a\"\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match: w/\"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: \"a\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match:\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: W/\r\n", "ETag: W/\r\n", CONDITIONAL_SERVE});
}

Test(conditional, tags_win_over_dates)
{
    EVALUATE({"If-None-Match: \"x\"\r\nIf-Modified-Since: " DATE_NOW "\r\n",
              "ETag: \"a\"\r\nLast-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_SERVE},
             {"If-None-Match: \"a\"\r\nIf-Modified-Since: " DATE_EARLIEST "\r\n",
              "ETag: \"a\"\r\nLast-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-None-Match:\r\nIf-Modified-Since: " DATE_NOW "\r\n", "Last-Modified: " DATE_EARLIER "\r\n",
              CONDITIONAL_SERVE});
}

Test(conditional, dates_are_compared_to_the_second)
{
    EVALUATE(
        {"If-Modified-Since: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_NOT_MODIFIED},
        {"If-Modified-Since: " DATE_NOW "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_NOT_MODIFIED},
        {"If-Modified-Since: " DATE_EARLIEST "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_SERVE},
        {"If-Modified-Since: Tuesday, 14-Nov-23 21:13:20 GMT\r\n", "Last-Modified: " DATE_EARLIER "\r\n",
         CONDITIONAL_NOT_MODIFIED},
        {"If-Modified-Since: Tue Nov 14 21:13:20 2023\r\n", "Last-Modified: " DATE_EARLIER "\r\n",
         CONDITIONAL_NOT_MODIFIED});
}

Test(conditional, without_last_modified_the_responses_date_counts)
{
    EVALUATE({"If-Modified-Since: " DATE_EARLIER "\r\n", "Date: " DATE_EARLIER "\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-Modified-Since: " DATE_EARLIEST "\r\n", "Date: " DATE_EARLIER "\r\n", CONDITIONAL_SERVE},
             {"If-Modified-Since: " DATE_NOW "\r\n", "X: received now\r\n", CONDITIONAL_NOT_MODIFIED},
             {"If-Modified-Since: " DATE_EARLIER "\r\n", "X: received now\r\n", CONDITIONAL_SERVE},
             {"If-Modified-Since: " DATE_EARLIER "\r\n", "Last-Modified: junk\r\nDate: " DATE_EARLIER "\r\n",
              CONDITIONAL_NOT_MODIFIED});
}

Test(conditional, what_is_no_single_date_is_ignored)
{
    EVALUATE({"If-Modified-Since: yesterday\r\n", "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_SERVE},
             {"If-Modified-Since:\r\n", "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_SERVE},
             {"If-Modified-Since: " DATE_NOW "\r\nIf-Modified-Since: " DATE_NOW "\r\n",
              "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_SERVE});
}

Test(conditional, what_only_the_origin_can_say_is_forwarded)
{
    EVALUATE({"If-Match: \"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_FORWARD},
             {"If-Unmodified-Since: " DATE_NOW "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", CONDITIONAL_FORWARD},
             {"If-None-Match: \"a\"\r\nIf-Match: *\r\n", "ETag: \"a\"\r\n", CONDITIONAL_FORWARD},
             {"Accept: */*\r\n", "ETag: \"a\"\r\n", CONDITIONAL_SERVE});
}

Test(conditional, conditions_mean_nothing_to_what_is_no_success)
{
    struct message message;
    const struct http_head *request = request_of(&message, "If-None-Match: *\r\n");
    static const struct {
        unsigned status;
        enum conditional_answer answer;
    } cases[] = {{200, CONDITIONAL_NOT_MODIFIED}, {203, CONDITIONAL_NOT_MODIFIED}, {206, CONDITIONAL_NOT_MODIFIED},
                 {301, CONDITIONAL_SERVE},        {404, CONDITIONAL_SERVE},        {500, CONDITIONAL_SERVE}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cache_head *stored = stored_head(cases[i].status, "ETag: \"a\"\r\n");
        cr_assert_eq(conditional_evaluate(request, message.base, stored, NOW_MS), cases[i].answer, "%u",
                     cases[i].status);
        free(stored);
    }
    message_free(&message);
}

Test(conditional, a_request_tells_whether_it_has_conditions)
{
    static const struct {
        const char *fields;
        bool any;
        bool for_origin;
    } cases[] = {{"", false, false},
                 {"Range: bytes=0-1\r\n", false, false},
                 {"If-None-Match: x\r\n", true, false},
                 {"If-Modified-Since: x\r\n", true, false},
                 {"If-Range: x\r\n", true, false},
                 {"if-match: x\r\n", true, true},
                 {"If-Unmodified-Since:\r\n", true, true}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message;
        const struct http_head *request = request_of(&message, cases[i].fields);
        cr_assert_eq(conditional_is_conditional(request, message.base), cases[i].any, "%s", cases[i].fields);
        cr_assert_eq(conditional_is_for_origin(request, message.base), cases[i].for_origin, "%s", cases[i].fields);
        message_free(&message);
    }
}

Test(conditional, a_304_carries_no_field_of_a_body)
{
    struct cache_head *stored = stored_head(
        200,
        "Date: " DATE_NOW "\r\nContent-Type: text/plain\r\nCONTENT-ENCODING: gzip\r\nETag: \"a\"\r\n"
        "Last-Modified: " DATE_EARLIER "\r\nCache-Control: max-age=1\r\nContent-Language: de\r\nVary: x\r\n"
        "Content-Location: /b\r\nExpires: 0\r\nContent-Security-Policy: default-src 'self'\r\nAccept-Ranges: bytes\r\n"
        "Content-Range: bytes 0-1/2\r\nX-Other: 1\r\n");
    char room[1024];
    char *end = lines_put_kept(room, cache_head_lines(stored), conditional_keep_in_304, stored);
    assert_run(room, end,
               "Date: " DATE_NOW "\r\nETag: \"a\"\r\nCache-Control: max-age=1\r\nVary: x\r\nContent-Location: /b\r\n"
               "Expires: 0\r\nContent-Security-Policy: default-src 'self'\r\nX-Other: 1\r\n");
    free(stored);
}

Test(conditional, a_304_carries_last_modified_where_there_is_no_tag)
{
    struct cache_head *stored = stored_head(200, "Last-Modified: " DATE_EARLIER "\r\nContent-Type: a/b\r\n");
    char room[128];
    char *end = lines_put_kept(room, cache_head_lines(stored), conditional_keep_in_304, stored);
    assert_run(room, end, "Last-Modified: " DATE_EARLIER "\r\n");
    free(stored);
}

/* ---- ours ---- */

Test(conditional, validators_are_sent_byte_for_byte)
{
    static const struct {
        const char *stored;
        const char *lines;
        bool can_validate;
    } cases[] = {
        {"ETag: W/\"a\"\r\n", "If-None-Match: W/\"a\"\r\n", true},
        {"ETag: a b\r\n", "If-None-Match: a b\r\n", true},
        {"Last-Modified: " DATE_EARLIER "\r\n", "If-Modified-Since: " DATE_EARLIER "\r\n", true},
        {"Last-Modified: Tuesday, 14-Nov-23 21:13:20 GMT\r\n", "If-Modified-Since: Tuesday, 14-Nov-23 21:13:20 GMT\r\n",
         true},
        {"Last-Modified: " DATE_EARLIER "\r\nETag: \"a\"\r\n",
         "If-None-Match: \"a\"\r\nIf-Modified-Since: " DATE_EARLIER "\r\n", true},
        {"Last-Modified: junk\r\nETag: \"a\"\r\n", "If-None-Match: \"a\"\r\n", true},
        {"Last-Modified: junk\r\n", "", false},
        {"X: 1\r\n", "", false},
        {"ETag:\r\n", "", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cache_head *stored = stored_head(200, cases[i].stored);
        size_t room_bytes = conditional_validators_bytes(stored);
        char *room = malloc(room_bytes);
        char *end = conditional_put_validators(room, stored);
        assert_run(room, end, cases[i].lines);
        cr_assert_eq(conditional_can_validate(stored), cases[i].can_validate, "%s", cases[i].stored);
        free(room);
        free(stored);
    }
}

/* ---- the origin's 304 ---- */

Test(conditional, a_304_is_for_whoever_asked)
{
    static const struct {
        bool is_ours;
        const char *stored; /* NULL: nothing */
        const char *fields;
        enum conditional_304 meaning;
    } cases[] = {
        {true, "ETag: \"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_304_ANSWER},
        {true, "ETag: \"a\"\r\n", "", CONDITIONAL_304_ANSWER},
        {true, "ETag: \"a\"\r\n", "ETag: \"b\"\r\n", CONDITIONAL_304_REFETCH},
        {true, "Last-Modified: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_NOW "\r\n", CONDITIONAL_304_REFETCH},
        {false, "ETag: \"a\"\r\n", "ETag: \"a\"\r\n", CONDITIONAL_304_PASS_AND_UPDATE},
        {false, "ETag: \"a\"\r\n", "ETag: \"b\"\r\n", CONDITIONAL_304_PASS},
        {false, "ETag: \"a\"\r\n", "", CONDITIONAL_304_PASS},
        {false, NULL, "ETag: \"a\"\r\n", CONDITIONAL_304_PASS},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message;
        const struct http_head *response = response_of(&message, 304, cases[i].fields);
        struct cache_head *stored = cases[i].stored == NULL ? NULL : stored_head(200, cases[i].stored);
        cr_assert_eq(conditional_on_304(cases[i].is_ours, stored, response, message.base, NOW_MS), cases[i].meaning,
                     "%zu", i);
        free(stored);
        message_free(&message);
    }
}
