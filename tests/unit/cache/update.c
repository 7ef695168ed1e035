#include "cache/update.h"

#include "rules.h"

Test(update, a_304_selects_by_its_strongest_validator)
{
    static const struct {
        const char *stored;
        const char *received;
        bool ours;   /* selected when the request carried the stored validators */
        bool theirs; /* when it carried others */
    } cases[] = {
        {"ETag: \"a\"\r\n", "ETag: \"a\"\r\n", true, true},
        {"ETag: \"a\"\r\n", "ETag: \"b\"\r\n", false, false},
        {"ETag: W/\"a\"\r\n", "ETag: \"a\"\r\n", false, false},
        {"ETag: \"a\"\r\n", "ETag: W/\"a\"\r\n", true, true},
        {"ETag: W/\"a\"\r\n", "ETag: W/\"a\"\r\n", true, true},
        {"ETag: W/\"a\"\r\n", "ETag: W/\"b\"\r\n", false, false},
        {"ETag: a\r\n", "ETag: a\r\n", true, true},
        {"Last-Modified: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", true, true},
        {"Last-Modified: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_NOW "\r\n", false, false},
        {"Last-Modified: " DATE_EARLIER "\r\n", "ETag: \"new\"\r\n", false, false},
        {"Last-Modified: " DATE_EARLIER "\r\n", "ETag: W/\"new\"\r\nLast-Modified: " DATE_EARLIER "\r\n", true, true},
        {"ETag: \"a\"\r\nLast-Modified: " DATE_EARLIER "\r\n", "ETag: \"a\"\r\nLast-Modified: " DATE_NOW "\r\n", true,
         true},
        {"ETag: \"a\"\r\nLast-Modified: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", true, true},
        {"ETag: \"a\"\r\n", "Last-Modified: " DATE_EARLIER "\r\n", true, false},
        {"ETag: \"a\"\r\n", "Date: " DATE_NOW "\r\n", true, false},
        {"Last-Modified: " DATE_EARLIER "\r\n", "Last-Modified: junk\r\n", true, false},
        {"X: 1\r\n", "Date: " DATE_NOW "\r\n", true, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message;
        struct cache_head *head = stored_head(200, cases[i].stored);
        const struct http_head *response = response_of(&message, 304, cases[i].received);
        struct validators stored = validators_of_stored(head);
        struct validators received = validators_of_response(response, message.base, NOW_MS);
        cr_assert_eq(update_selects(&stored, &received, true), cases[i].ours, "%zu, ours", i);
        cr_assert_eq(update_selects(&stored, &received, false), cases[i].theirs, "%zu, theirs", i);
        message_free(&message);
        free(head);
    }
}

Test(update, a_head_outdates_what_it_contradicts)
{
    static const struct {
        const char *stored;
        const char *received;
        enum update_by_head verdict;
    } cases[] = {
        {"ETag: \"a\"\r\n", "", UPDATE_BY_HEAD_FRESHENS},
        {"ETag: \"a\"\r\n", "ETag: \"a\"\r\nContent-Length: 10\r\n", UPDATE_BY_HEAD_FRESHENS},
        {"ETag: \"a\"\r\n", "ETag: \"b\"\r\n", UPDATE_BY_HEAD_OUTDATES},
        {"X: 1\r\n", "ETag: \"b\"\r\n", UPDATE_BY_HEAD_OUTDATES},
        {"X: 1\r\n", "Content-Length: 10\r\n", UPDATE_BY_HEAD_FRESHENS},
        {"X: 1\r\n", "Content-Length: 11\r\n", UPDATE_BY_HEAD_OUTDATES},
        {"Last-Modified: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", UPDATE_BY_HEAD_FRESHENS},
        {"Last-Modified: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_NOW "\r\n", UPDATE_BY_HEAD_OUTDATES},
        {"X: 1\r\n", "Last-Modified: " DATE_NOW "\r\n", UPDATE_BY_HEAD_OUTDATES},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message;
        struct cache_head *head = stored_head(200, cases[i].stored);
        const struct http_head *response = response_of(&message, 200, cases[i].received);
        struct validators stored = validators_of_stored(head);
        cr_assert_eq(update_by_head(&stored, 10, response, message.base, NOW_MS), cases[i].verdict, "%zu", i);
        message_free(&message);
        free(head);
    }
}

struct updating {
    const char *stored;
    const char *received;
    const char *expected;
};

static void update(const struct updating *cases, size_t count, const struct storing_verdict *verdict)
{
    for (size_t i = 0; i < count; i++) {
        struct message message;
        const struct http_head *response = response_of(&message, 304, cases[i].received);
        char *room = malloc(update_lines_bytes_max(bytes_from(cases[i].stored), response));
        char *end = update_put_lines(room, bytes_from(cases[i].stored), response, message.base, verdict);
        cr_assert((size_t)(end - room) <= update_lines_bytes_max(bytes_from(cases[i].stored), response));
        assert_run(room, end, cases[i].expected);
        free(room);
        message_free(&message);
    }
}

static const struct storing_verdict NONE_NAMED = {0};

Test(update, every_line_of_a_name_is_replaced_by_all_of_the_new)
{
    static const struct updating cases[] = {
        {"A: 1\r\nB: 2\r\n", "", "A: 1\r\nB: 2\r\n"},
        {"A: 1\r\nB: 2\r\n", "B: 3\r\nC: 4\r\n", "A: 1\r\nB: 3\r\nC: 4\r\n"},
        {"A: 1\r\nB: 2\r\na: 3\r\n", "a: 4\r\nA: 5\r\n", "B: 2\r\na: 4\r\nA: 5\r\n"},
        {"Set-Cookie: a=b\r\n", "Set-Cookie: a=c\r\n", "Set-Cookie: a=c\r\n"},
        {"Content-MD5: a\r\nX-Content-Foo: 1\r\n", "Content-MD5: b\r\nX-Content-Foo: 2\r\n",
         "Content-MD5: b\r\nX-Content-Foo: 2\r\n"},
        {"", "A:1\r\nB:\r\n", "A: 1\r\nB: \r\n"},
        {"A: 1", "B: 2\r\n", "A: 1\r\nB: 2\r\n"},
    };
    update(cases, sizeof(cases) / sizeof(cases[0]), &NONE_NAMED);
}

Test(update, what_belongs_to_the_stored_body_stays)
{
    static const struct updating cases[] = {
        {"Content-Type: a/b\r\nContent-Encoding: gzip\r\n", "Content-Type: c/d\r\nContent-Encoding: br\r\nA: 1\r\n",
         "Content-Type: a/b\r\nContent-Encoding: gzip\r\nA: 1\r\n"},
        {"A: 1\r\n", "Content-Length: 7\r\nContent-Range: bytes 0-1/2\r\nContent-Encoding: br\r\n", "A: 1\r\n"},
        {"Content-Length: 36\r\n", "Content-Length: 10\r\n", "Content-Length: 36\r\n"},
    };
    update(cases, sizeof(cases) / sizeof(cases[0]), &NONE_NAMED);
}

Test(update, what_may_not_be_stored_is_not_taken_over)
{
    static const struct updating cases[] = {
        {"A: 1\r\n", "Connection: b, close\r\nB: 2\r\nKeep-Alive: 3\r\nProxy-Authentication-Info: 4\r\nC: 5\r\n",
         "A: 1\r\nC: 5\r\n"},
        {"B: 1\r\n", "Connection: b\r\nB: 2\r\n", "B: 1\r\n"},
        {"Age: 100\r\nA: 1\r\n", "Age: 7\r\n", "A: 1\r\n"},
    };
    update(cases, sizeof(cases) / sizeof(cases[0]), &NONE_NAMED);
}

Test(update, what_the_response_names_is_not_taken_over)
{
    static const struct updating cases[] = {
        {"A: 1\r\nSet-Cookie: a=b\r\n", "Set-Cookie: a=c\r\nB: 2\r\nC: 3\r\n", "A: 1\r\nSet-Cookie: a=b\r\nC: 3\r\n"},
    };
    struct storing_verdict verdict = {.named = {1, {BYTES("set-cookie, b")}}};
    update(cases, sizeof(cases) / sizeof(cases[0]), &verdict);
}
