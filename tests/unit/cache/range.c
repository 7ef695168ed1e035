#include "cache/range.h"

#include <inttypes.h>

#include "rules.h"

/* ---- what is asked ---- */

/* "0-4 6-9", "whole" or "416". */
static const char *resolved(const char *value, uint64_t complete_bytes)
{
    static char text[RANGE_COUNT_MAX * 48];
    struct range_set set;
    switch (range_resolve(bytes_from(value), complete_bytes, &set)) {
    case RANGE_WHOLE: return "whole";
    case RANGE_UNSATISFIABLE: return "416";
    default: break;
    }
    size_t used = 0;
    cr_assert(set.count >= 1 && set.count <= RANGE_COUNT_MAX);
    for (unsigned i = 0; i < set.count; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%" PRIu64 "-%" PRIu64, i > 0 ? " " : "",
                                 set.ranges[i].first, set.ranges[i].last);
    }
    return text;
}

struct resolution {
    const char *value;
    uint64_t complete_bytes;
    const char *expected;
};

static void resolve(const struct resolution *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *got = resolved(cases[i].value, cases[i].complete_bytes);
        cr_assert_str_eq(got, cases[i].expected, "\"%s\" of %" PRIu64 ": %s, not %s", cases[i].value,
                         cases[i].complete_bytes, got, cases[i].expected);
    }
}

#define RESOLVE(...)                                            \
    do {                                                        \
        static const struct resolution cases[] = {__VA_ARGS__}; \
        resolve(cases, sizeof(cases) / sizeof(cases[0]));       \
    } while (0)

Test(range, one_range_is_cut_at_the_end)
{
    RESOLVE({"bytes=0-4", 10, "0-4"}, {"bytes=0-0", 10, "0-0"}, {"bytes=9-9", 10, "9-9"}, {"bytes=5-", 10, "5-9"},
            {"bytes=5-99", 10, "5-9"}, {"bytes=0-", 1, "0-0"}, {"bytes=-3", 10, "7-9"}, {"bytes=-10", 10, "0-9"},
            {"bytes=-99", 10, "0-9"}, {"BYTES=1-2", 10, "1-2"}, {"bytes=007-08", 10, "7-8"});
}

Test(range, what_lies_behind_the_end_cannot_be_had)
{
    RESOLVE({"bytes=10-", 10, "416"}, {"bytes=10-20", 10, "416"}, {"bytes=-0", 10, "416"}, {"bytes=0-", 0, "416"},
            {"bytes=10-,11-", 10, "416"}, {"bytes=10-,2-3", 10, "2-3"}, {"bytes=-0,-1", 10, "9-9"},
            {"bytes=0-5", 0, "416"}, {"bytes=-5", 0, "whole"});
}

Test(range, what_is_malformed_is_ignored_as_a_whole)
{
    RESOLVE({"", 10, "whole"}, {"bytes", 10, "whole"}, {"bytes=", 10, "whole"}, {"bytes= ,", 10, "whole"},
            {"bytes=-", 10, "whole"}, {"bytes=a-b", 10, "whole"}, {"bytes=1", 10, "whole"}, {"bytes=4-2", 10, "whole"},
            {"bytes=1-2,x", 10, "whole"}, {"bytes=1-2,3-1", 10, "whole"}, {"bytes=1-2-3", 10, "whole"},
            {"bytes=--1", 10, "whole"}, {"bytes=+1-2", 10, "whole"}, {"bytes=1 - 2", 10, "whole"},
            {"bytes =1-2", 10, "whole"}, {"items=1-2", 10, "whole"}, {"bytes:1-2", 10, "whole"},
            {"bytes=0x1-2", 10, "whole"}, {"bytes=1-\"2\"", 10, "whole"}, {"bytes=12-4", 10, "whole"});
}

Test(range, white_space_and_empty_members_of_the_list_are_allowed)
{
    RESOLVE({"bytes= 0-1", 10, "0-1"}, {"bytes=0-1 , 4-5", 10, "0-1 4-5"}, {"bytes=,0-1,,\t4-5,", 10, "0-1 4-5"});
}

Test(range, numbers_beyond_64_bits_are_only_large)
{
    RESOLVE({"bytes=0-99999999999999999999999", 10, "0-9"}, {"bytes=-99999999999999999999999", 10, "0-9"},
            {"bytes=99999999999999999999999-", 10, "416"},
            {"bytes=18446744073709551615-18446744073709551615", 10, "416"},
            {"bytes=99999999999999999999999-1", 10, "whole"}, {"bytes=1-2", UINT64_C(9223372036854775807), "1-2"},
            {"bytes=-1", UINT64_C(9223372036854775807), "9223372036854775806-9223372036854775806"});
}

Test(range, several_keep_their_order_unless_they_touch)
{
    RESOLVE({"bytes=5-6,0-1", 10, "5-6 0-1"}, {"bytes=0-1,2-3", 10, "0-3"}, {"bytes=2-3,0-1", 10, "0-3"},
            {"bytes=0-5,3-8", 10, "0-8"}, {"bytes=8-9,0-1,4-5,1-4", 10, "8-9 0-5"}, {"bytes=0-,0-,0-", 10, "0-9"},
            {"bytes=0-0,2-2,4-4,1-1,3-3", 10, "0-4"}, {"bytes=4-4,0-0,8-8,0-9", 10, "0-9"},
            {"bytes=0-0,-1", 10, "0-0 9-9"}, {"bytes=6-6,2-2,4-4,3-3", 10, "6-6 2-4"});
}

Test(range, more_than_the_limit_get_the_whole)
{
    char value[512] = "bytes=0-0";
    for (unsigned i = 1; i < RANGE_COUNT_MAX; i++) {
        snprintf(value + strlen(value), sizeof(value) - strlen(value), ",%u-%u", i * 2, i * 2);
    }
    struct range_set set;
    cr_assert_eq(range_resolve(bytes_from(value), 1000, &set), RANGE_SATISFIABLE);
    cr_assert_eq(set.count, RANGE_COUNT_MAX);
    strcat(value, ",500-500");
    cr_assert_eq(range_resolve(bytes_from(value), 1000, &set), RANGE_WHOLE);
}

Test(range, no_byte_is_in_two_ranges_of_a_set)
{
    uint32_t seed = 1;
    for (unsigned round = 0; round < 20000; round++) {
        char value[512] = "bytes=";
        bool wanted[40] = {false};
        unsigned count = 1 + round % RANGE_COUNT_MAX;
        for (unsigned i = 0; i < count; i++) {
            seed = seed * 1664525 + 1013904223;
            unsigned first = seed >> 16 & 31;
            unsigned last = first + (seed >> 24 & 7);
            snprintf(value + strlen(value), sizeof(value) - strlen(value), "%s%u-%u", i > 0 ? "," : "", first, last);
            for (unsigned b = first; b <= last; b++) {
                wanted[b] = true;
            }
        }
        struct range_set set;
        cr_assert_eq(range_resolve(bytes_from(value), 40, &set), RANGE_SATISFIABLE);
        bool got[40] = {false};
        for (unsigned i = 0; i < set.count; i++) {
            for (uint64_t b = set.ranges[i].first; b <= set.ranges[i].last; b++) {
                cr_assert_not(got[b], "%s: byte %u twice", value, (unsigned)b);
                got[b] = true;
            }
        }
        cr_assert_arr_eq(got, wanted, sizeof(got), "%s", value);
    }
}

Test(range, a_request_with_two_range_fields_asks_for_the_whole)
{
    struct message message;
    const struct http_head *request = request_of(&message, "Range: bytes=0-1\r\n");
    assert_bytes(range_of_request(request, message.base), "bytes=0-1");
    message_free(&message);
    request = request_of(&message, "Range: bytes=0-1\r\nRange: bytes=0-1\r\n");
    cr_assert_eq(range_of_request(request, message.base).len, 0);
    message_free(&message);
    request = request_of(&message, "");
    cr_assert_eq(range_of_request(request, message.base).len, 0);
    message_free(&message);
}

Test(range, if_range_wants_a_strong_tag_or_exactly_the_date)
{
    static const struct {
        const char *request;
        const char *stored;
        bool holds;
    } cases[] = {
        {"", "ETag: \"a\"\r\n", true},
        {"If-Range: \"a\"\r\n", "ETag: \"a\"\r\n", true},
        {"If-Range: \"b\"\r\n", "ETag: \"a\"\r\n", false},
        {"If-Range: W/\"a\"\r\n", "ETag: W/\"a\"\r\n", false},
        {"If-Range: \"a\"\r\n", "ETag: W/\"a\"\r\n", false},
        {"If-Range: a\r\n", "ETag: a\r\n", false},
        {"If-Range:\r\n", "ETag: \"a\"\r\n", false},
        {"If-Range: \"a\", \"b\"\r\n", "ETag: \"a\"\r\n", false},
        {"If-Range: \"a\"\r\nIf-Range: \"a\"\r\n", "ETag: \"a\"\r\n", false},
        {"If-Range: " DATE_EARLIER "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", true},
        {"If-Range: Tuesday, 14-Nov-23 21:13:20 GMT\r\n", "Last-Modified: " DATE_EARLIER "\r\n", true},
        {"If-Range: " DATE_NOW "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", false},
        {"If-Range: " DATE_EARLIEST "\r\n", "Last-Modified: " DATE_EARLIER "\r\n", false},
        {"If-Range: " DATE_EARLIER "\r\n", "Date: " DATE_EARLIER "\r\nLast-Modified: " DATE_EARLIER "\r\n", false},
        {"If-Range: " DATE_EARLIER "\r\n", "ETag: \"a\"\r\n", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message;
        const struct http_head *request = request_of(&message, cases[i].request);
        struct cache_head *stored = stored_head(200, cases[i].stored);
        struct validators validators = validators_of_stored(stored);
        cr_assert_eq(range_if_range_holds(request, message.base, &validators, NOW_MS), cases[i].holds, "%zu: %s", i,
                     cases[i].request);
        free(stored);
        message_free(&message);
    }
}

/* ---- how it is answered ---- */

Test(range, lines_fit_the_room_that_is_said)
{
    char room[RANGE_LINE_BYTES_MAX];
    struct range range = {0, 4};
    assert_run(room, range_put_content_range(room, range, 10), "Content-Range: bytes 0-4/10\r\n");
    assert_run(room, range_put_unsatisfied(room, 10), "Content-Range: bytes */10\r\n");
    struct range far = {INT64_MAX - 2, INT64_MAX - 1};
    cr_assert(range_put_content_range(room, far, INT64_MAX) <= room + sizeof(room));
}

Test(range, a_206_gets_its_own_content_range)
{
    static const char lines[] =
        "Content-Type: a/b\r\ncontent-range: bytes 0-1/2\r\nETag: \"a\"\r\nContent-Length: 2\r\n";
    char room[256];
    bool is_multipart = false;
    assert_run(room, lines_put_kept(room, bytes_from(lines), range_keep_in_206, &is_multipart),
               "Content-Type: a/b\r\nETag: \"a\"\r\n");
    is_multipart = true;
    assert_run(room, lines_put_kept(room, bytes_from(lines), range_keep_in_206, &is_multipart), "ETag: \"a\"\r\n");
}

static void assert_multipart(struct bytes content_type, const char *expected)
{
    static const char body[] = "0123456789";
    struct range_set set = {2, {{0, 1}, {8, 9}}};
    struct range_multipart multipart = {&set, 10, content_type, BYTES("B")};
    char room[512];
    char *at = room;
    for (unsigned i = 0; i < set.count; i++) {
        char *before = at;
        at = range_put_part_head(at, &multipart, i);
        cr_assert_eq((size_t)(at - before), range_part_head_bytes(&multipart, i));
        at = bytes_put(at, (struct bytes){body + set.ranges[i].first, range_bytes(set.ranges[i])});
    }
    char *before = at;
    at = range_put_multipart_end(at, &multipart);
    cr_assert_eq((size_t)(at - before), range_multipart_end_bytes(&multipart));
    cr_assert_eq((uint64_t)(at - room), range_multipart_bytes(&multipart));
    assert_run(room, at, expected);
}

Test(range, several_parts_are_told_apart_by_the_boundary)
{
    assert_multipart(BYTES("text/plain"), "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
                                          "--B\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n"
                                          "--B--\r\n");
    assert_multipart(BYTES(""), "--B\r\nContent-Range: bytes 0-1/10\r\n\r\n01\r\n"
                                "--B\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n--B--\r\n");
    char room[128];
    assert_run(room, range_put_multipart_type(room, BYTES("B")), "Content-Type: multipart/byteranges; boundary=B\r\n");
}

/* ---- partial responses ---- */

Test(range, a_content_range_is_read_strictly)
{
    static const struct {
        const char *value;
        bool valid;
        struct range_partial partial;
    } cases[] = {
        {"bytes 0-4/10", true, {{0, 4}, 10}},
        {"Bytes 0-9/10", true, {{0, 9}, 10}},
        {"bytes  4-4/5 ", true, {{4, 4}, 5}},
        {"bytes */10", false, {{0, 0}, 0}},
        {"bytes 0-4/*", false, {{0, 0}, 0}},
        {"bytes 0-10/10", false, {{0, 0}, 0}},
        {"bytes 4-3/10", false, {{0, 0}, 0}},
        {"bytes 0-4", false, {{0, 0}, 0}},
        {"bytes=0-4/10", false, {{0, 0}, 0}},
        {"bytes 0/4-10", false, {{0, 0}, 0}},
        {"bytes -4/10", false, {{0, 0}, 0}},
        {"bytes 0-/10", false, {{0, 0}, 0}},
        {"bytes 0 - 4/10", false, {{0, 0}, 0}},
        {"bytes 0-4/10, bytes 5-9/10", false, {{0, 0}, 0}},
        {"items 0-4/10", false, {{0, 0}, 0}},
        {"bytes 0-4/99999999999999999999", false, {{0, 0}, 0}},
        {"bytes 0-4/9223372036854775808", false, {{0, 0}, 0}},
        {"bytes", false, {{0, 0}, 0}},
        {"", false, {{0, 0}, 0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct range_partial partial;
        bool valid = range_parse_content_range(bytes_from(cases[i].value), &partial);
        cr_assert_eq(valid, cases[i].valid, "%s", cases[i].value);
        if (valid) {
            cr_assert(partial.range.first == cases[i].partial.range.first &&
                          partial.range.last == cases[i].partial.range.last &&
                          partial.complete_bytes == cases[i].partial.complete_bytes,
                      "%s", cases[i].value);
        }
    }
}

Test(range, only_one_range_of_a_known_length_is_kept)
{
    static const struct {
        unsigned status;
        const char *fields;
        bool may;
    } cases[] = {
        {206, "Content-Range: bytes 0-4/10\r\nContent-Length: 5\r\n", true},
        {206, "Content-Range: bytes 0-4/10\r\nTransfer-Encoding: chunked\r\n", true},
        {206, "Content-Range: bytes 4-9/10\r\nContent-Length: 5\r\n", true},
        {206, "Content-Range: bytes 0-4/10\r\nContent-Length: 4\r\n", false},
        {206, "Content-Range: bytes 0-4/10\r\nContent-Length: 6\r\n", false},
        {206, "Content-Range: bytes 0-4/*\r\nContent-Length: 5\r\n", false},
        {206, "Content-Length: 5\r\n", false},
        {206, "Content-Range: bytes 0-4/10\r\nContent-Range: bytes 0-4/10\r\n", false},
        {206, "Content-Range: bytes 0-4/10\r\nContent-Type: Multipart/ByteRanges; boundary=x\r\n", false},
        {200, "Content-Range: bytes 0-4/10\r\nContent-Length: 5\r\n", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct message message;
        struct range_partial partial;
        const struct http_head *response = response_of(&message, cases[i].status, cases[i].fields);
        cr_assert_eq(range_may_store_partial(response, message.base, &partial), cases[i].may, "%zu", i);
        message_free(&message);
    }
}

Test(range, a_body_must_be_as_long_as_announced)
{
    static const struct {
        struct range_partial partial;
        uint64_t body_bytes;
        bool is_delimited;
        bool settles;
        struct range_partial settled;
    } cases[] = {
        {{{0, 4}, 10}, 5, true, true, {{0, 4}, 10}},
        {{{0, 4}, 10}, 5, false, true, {{0, 4}, 10}},
        {{{0, 4}, 10}, 4, true, false, {{0, 4}, 10}},
        {{{0, 4}, 10}, 6, true, false, {{0, 4}, 10}},
        {{{4, 9}, 10}, 5, true, true, {{4, 8}, 9}}, /* an exclusive end */
        {{{4, 9}, 10}, 5, false, false, {{4, 9}, 10}},
        {{{4, 9}, 10}, 4, true, false, {{4, 9}, 10}},
        {{{4, 8}, 10}, 4, true, false, {{4, 8}, 10}},
        {{{0, 9}, 10}, 9, true, false, {{0, 9}, 10}}, /* what was cut must not pass for the whole */
        {{{9, 9}, 10}, 0, true, false, {{9, 9}, 10}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct range_partial partial = cases[i].partial;
        cr_assert_eq(range_partial_settle(&partial, cases[i].body_bytes, cases[i].is_delimited), cases[i].settles,
                     "%zu", i);
        cr_assert(partial.range.last == cases[i].settled.range.last &&
                      partial.complete_bytes == cases[i].settled.complete_bytes,
                  "%zu", i);
    }
}

/* The cases of the public suite: 5 bytes that came as `bytes 4-9/10`, asked for again in several ways. */
Test(range, a_stored_part_answers_what_lies_in_it)
{
    static const struct {
        const char *value;
        const char *text; /* NULL: not covered */
    } cases[] = {
        {"bytes=-5", "01234"}, {"bytes=6-8", "234"}, {"bytes=6-", "234"},    {"bytes=-1", "4"},
        {"bytes=0-1", NULL},   {"bytes=3-5", NULL},  {"bytes=4-4,8-8", "0"}, {"bytes=4-4,0-0", NULL},
    };
    struct range_partial partial = {{4, 9}, 10};
    cr_assert(range_partial_settle(&partial, 5, true));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct range_set set;
        cr_assert_eq(range_resolve(bytes_from(cases[i].value), partial.complete_bytes, &set), RANGE_SATISFIABLE);
        bool covers = range_partial_covers(&partial, &set);
        cr_assert_eq(covers, cases[i].text != NULL, "%s", cases[i].value);
        if (covers) {
            assert_bytes(
                (struct bytes){&"01234"[set.ranges[0].first - partial.range.first], range_bytes(set.ranges[0])},
                cases[i].text);
        }
    }
}

Test(range, a_stored_206_says_what_it_holds)
{
    struct range_partial partial;
    cr_assert(range_partial_of_stored(BYTES("A: 1\r\nContent-Range: bytes 2-4/10\r\n"), &partial));
    cr_assert(partial.range.first == 2 && partial.range.last == 4 && partial.complete_bytes == 10);
    cr_assert_not(range_partial_is_complete(&partial));
    cr_assert_not(range_partial_of_stored(BYTES("A: 1\r\n"), &partial));
    cr_assert(range_partial_of_stored(BYTES("Content-Range: bytes 0-9/10\r\n"), &partial));
    cr_assert(range_partial_is_complete(&partial));
}

Test(range, what_is_missing_is_asked_for_in_one_range_or_not_at_all)
{
    static const struct {
        struct range stored;
        struct range wanted;
        const char *line; /* NULL: not this way */
    } cases[] = {
        {{0, 4}, {0, 9}, "Range: bytes=5-\r\n"},
        {{5, 9}, {0, 9}, "Range: bytes=0-4\r\n"},
        {{3, 6}, {0, 9}, NULL},
        {{0, 9}, {0, 9}, NULL},
        {{3, 6}, {4, 5}, NULL},
        {{3, 6}, {5, 8}, "Range: bytes=7-8\r\n"},
        {{3, 6}, {7, 8}, "Range: bytes=7-8\r\n"},
        {{3, 6}, {8, 9}, NULL},
        {{3, 6}, {1, 4}, "Range: bytes=1-2\r\n"},
        {{3, 6}, {1, 2}, "Range: bytes=1-2\r\n"},
        {{3, 6}, {0, 1}, NULL},
        {{3, 6}, {7, 9}, "Range: bytes=7-\r\n"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct range_partial stored = {cases[i].stored, 10};
        struct range ask;
        char room[RANGE_LINE_BYTES_MAX];
        bool can = range_missing(&stored, cases[i].wanted, &ask);
        cr_assert_eq(can, cases[i].line != NULL, "%zu", i);
        if (can) {
            assert_run(room, range_put_request(room, ask, 10), cases[i].line);
        }
    }
}

Test(range, completing_is_bound_to_a_strong_validator)
{
    static const struct {
        const char *stored;
        const char *line;
    } cases[] = {
        {"ETag: \"a\"\r\n", "If-Range: \"a\"\r\n"},
        {"ETag: W/\"a\"\r\n", ""},
        {"ETag: a\r\n", ""},
        {"ETag: W/\"a\"\r\nLast-Modified: " DATE_EARLIER "\r\n", ""},
        {"Last-Modified: " DATE_EARLIER "\r\n", "If-Range: " DATE_EARLIER "\r\n"},
        {"Last-Modified: " DATE_EARLIER "\r\nDate: " DATE_EARLIER "\r\n", ""},
        {"X: 1\r\n", ""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cache_head *stored = stored_head(206, cases[i].stored);
        struct validators validators = validators_of_stored(stored);
        char room[128];
        char *end = range_put_if_range(room, stored);
        assert_run(room, end, cases[i].line);
        cr_assert_eq((size_t)(end - room), range_if_range_bytes(stored));
        cr_assert_eq(range_can_combine(&validators), end > room);
        free(stored);
    }
}

static const struct validators SAME = {{"\"a\"", 3}, -1, -1};

/* Puts it together and reads what it makes. */
static const char *combined(struct range old, struct range new)
{
    static const char body[] = "0123456789";
    static char text[32];
    struct range_partial stored = {old, 10};
    struct range_partial received = {new, 10};
    struct range_join join;
    if (!range_combine(&stored, &SAME, &received, &SAME, &join)) {
        return "no";
    }
    char *at = text;
    for (unsigned i = 0; i < join.count; i++) {
        struct range source = join.pieces[i].is_new ? new : old;
        cr_assert(join.pieces[i].offset + join.pieces[i].bytes <= range_bytes(source));
        at = bytes_put(at, (struct bytes){body + source.first + join.pieces[i].offset, join.pieces[i].bytes});
    }
    *at = '\0';
    cr_assert_eq((uint64_t)(at - text), range_bytes(join.partial.range));
    cr_assert_eq(join.partial.complete_bytes, 10);
    cr_assert_eq(text[0], body[join.partial.range.first]);
    return text;
}

Test(range, touching_parts_are_put_together_without_gap_or_repetition)
{
    for (uint64_t a = 0; a < 10; a++) {
        for (uint64_t b = a; b < 10; b++) {
            for (uint64_t c = 0; c < 10; c++) {
                for (uint64_t d = c; d < 10; d++) {
                    const char *got = combined((struct range){a, b}, (struct range){c, d});
                    if (c > b + 1 || a > d + 1) {
                        cr_assert_str_eq(got, "no");
                        continue;
                    }
                    uint64_t first = a < c ? a : c;
                    uint64_t last = b > d ? b : d;
                    assert_bytes((struct bytes){&"0123456789"[first], last - first + 1}, got);
                }
            }
        }
    }
}

Test(range, parts_of_different_representations_stay_apart)
{
    struct range_partial stored = {{0, 4}, 10};
    struct range_partial received = {{5, 9}, 10};
    struct range_partial longer = {{5, 9}, 11};
    struct validators other = {BYTES("\"b\""), -1, -1};
    struct validators weak = {BYTES("W/\"a\""), -1, -1};
    struct validators none = {BYTES_NONE, -1, -1};
    struct validators dated = {BYTES_NONE, 1000, 5000};
    struct validators too_new = {BYTES_NONE, 1000, 1000};
    struct range_join join;
    cr_assert(range_combine(&stored, &SAME, &received, &SAME, &join));
    cr_assert_not(range_combine(&stored, &SAME, &longer, &SAME, &join));
    cr_assert_not(range_combine(&stored, &SAME, &received, &other, &join));
    cr_assert_not(range_combine(&stored, &weak, &received, &weak, &join));
    cr_assert_not(range_combine(&stored, &none, &received, &none, &join));
    cr_assert_not(range_combine(&stored, &SAME, &received, &none, &join));
    cr_assert(range_combine(&stored, &dated, &received, &dated, &join));
    cr_assert_not(range_combine(&stored, &dated, &received, &too_new, &join));
}
