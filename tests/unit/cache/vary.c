#include "cache/vary.h"

#include "rules.h"

/* ---- sets ---- */

/* The set, "" for none, or "*". */
static const char *set_of(const char *fields)
{
    static char text[VARY_SET_BYTES_MAX + 1];
    struct message message;
    struct vary_set set;
    struct vary_set same;
    const struct http_head *response = response_of(&message, 200, fields);
    bool known = vary_of_response(response, message.base, &set);
    cr_assert_eq(vary_of_lines(bytes_from(fields), &same), known, "%s", fields);
    message_free(&message);
    if (!known) {
        return "*";
    }
    cr_assert(bytes_equal(vary_set_text(&set), vary_set_text(&same)), "%s", fields);
    snprintf(text, sizeof(text), "%.*s", (int)set.bytes, set.names);
    return text;
}

Test(vary, names_are_sorted_in_lower_case_and_each_there_once)
{
    cr_assert_str_eq(set_of(""), "");
    cr_assert_str_eq(set_of("Vary:\r\n"), "");
    cr_assert_str_eq(set_of("Vary: , ,\r\n"), "");
    cr_assert_str_eq(set_of("Vary: Foo\r\n"), "foo");
    cr_assert_str_eq(set_of("Vary: Foo, Bar,Baz\r\n"), "bar,baz,foo");
    cr_assert_str_eq(set_of("Vary: Foo, FOO,, foo\r\n"), "foo");
    cr_assert_str_eq(set_of("Vary: b\r\nX: 1\r\nvary: a\r\nVARY: ab\r\n"), "a,ab,b");
    cr_assert_str_eq(set_of("Vary: Accept-Encoding, Accept-Language, Accept\r\n"),
                     "accept,accept-encoding,accept-language");
}

Test(vary, a_star_anywhere_fits_nothing_else)
{
    static const char *const fields[] = {"Vary: *\r\n",      "Vary: *, *\r\n",          "Vary: *\r\nVary: *\r\n",
                                         "Vary: , *\r\n",    "Vary:\r\nVary: *\r\n",    "Vary: *, Foo\r\n",
                                         "Vary: Foo, *\r\n", "Vary: Foo\r\nVary: *\r\n"};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        cr_assert_str_eq(set_of(fields[i]), "*", "%s", fields[i]);
    }
}

Test(vary, what_is_no_name_and_what_is_written_here_fit_nothing_else)
{
    cr_assert_str_eq(set_of("Vary: a b\r\n"), "*");
    cr_assert_str_eq(set_of("Vary: \"Foo\"\r\n"), "*");
    cr_assert_str_eq(set_of("Vary: Foo:\r\n"), "*");
    cr_assert_str_eq(set_of("Vary: X-Forwarded-For\r\n"), "*");
    cr_assert_str_eq(set_of("Vary: Accept, x-request-id\r\n"), "*");
}

Test(vary, sets_have_a_limit)
{
    char fields[2048] = "Vary: ";
    for (unsigned i = 0; i < VARY_NAMES_MAX; i++) {
        snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields), "n%02u,", i);
    }
    size_t bytes = strlen(fields);
    strcpy(fields + bytes, "n00\r\n");
    cr_assert_str_neq(set_of(fields), "*", "as many as it holds, one of them twice");
    strcpy(fields + bytes, "n99\r\n");
    cr_assert_str_eq(set_of(fields), "*", "one more");
    snprintf(fields, sizeof(fields), "Vary: %0*d\r\n", VARY_SET_BYTES_MAX, 0);
    cr_assert_str_neq(set_of(fields), "*", "the longest name");
    snprintf(fields, sizeof(fields), "Vary: %0*d\r\n", VARY_SET_BYTES_MAX + 1, 0);
    cr_assert_str_eq(set_of(fields), "*", "a longer one");
    snprintf(fields, sizeof(fields), "Vary: %0*d, a\r\n", VARY_SET_BYTES_MAX - 1, 0);
    cr_assert_str_eq(set_of(fields), "*", "with a comma it is too long");
}

/* ---- keys ---- */

static const char *key_of(const char *set, const char *fields)
{
    static char keys[2][4096]; /* two can be compared */
    static unsigned turn;
    char *key = keys[turn++ % 2];
    struct message message;
    const struct http_head *request = request_of(&message, fields);
    size_t bytes = 0;
    cr_assert_eq(vary_put_key(bytes_from(set), request, message.base, key, sizeof(keys[0]) - 1, &bytes), RESULT_OK);
    key[bytes] = '\0';
    message_free(&message);
    return key;
}

Test(vary, a_key_holds_what_the_request_says)
{
    cr_assert_str_eq(key_of("", "Foo: 1\r\n"), "");
    cr_assert_str_eq(key_of("foo", "Foo: 1\r\nBar: 2\r\n"), "foo:1\n");
    cr_assert_str_eq(key_of("bar,foo", "Foo: 1\r\nBar: 2\r\n"), "bar:2\nfoo:1\n");
    cr_assert_str_eq(key_of("bar,foo", "Foo: 1\r\n"), "bar\nfoo:1\n");
    cr_assert_str_eq(key_of("bar,foo", "Foo: 1\r\nBar:\r\n"), "bar:\nfoo:1\n");
}

struct pair {
    const char *set;
    const char *a;
    const char *b;
};

Test(vary, requests_that_mean_the_same_have_the_same_key)
{
    static const struct pair pairs[] = {
        {"foo", "Foo: 1, 2\r\n", "Foo: 1\r\nFoo: 2\r\n"},
        {"foo", "Foo: 1,2\r\n", "Foo:  1, 2 \r\n"},
        {"foo", "Foo: 1 ,\t2\r\n", "foo: 1,2\r\nOther: 3\r\n"},
        {"foo", "Foo: \"a, b\" , c\r\n", "Foo: \"a, b\",c\r\n"},
        {"accept-language", "Accept-Language: en, de\r\n", "Accept-Language: de, en\r\n"},
        {"accept-language", "Accept-Language: en, de\r\n", "Accept-Language: eN, De\r\n"},
        {"accept-language", "Accept-Language: en, de\r\n", "Accept-Language: en ,   de\r\n"},
        {"accept-language", "Accept-Language: en, de;q=0.5\r\n", "Accept-Language: de ; Q=0.500, en;q=1.0\r\n"},
        {"accept-language", "Accept-Language: en\r\nAccept-Language: de\r\n", "Accept-Language: de,,en\r\n"},
        {"accept-encoding", "Accept-Encoding: gzip, br\r\n", "Accept-Encoding: BR,GZIP\r\n"},
        {"accept-encoding", "Accept-Encoding: x-gzip\r\n", "Accept-Encoding: gzip;q=1\r\n"},
        {"accept-encoding", "Accept-Encoding: gzip, br;q=0\r\n", "Accept-Encoding: gzip\r\n"},
        {"accept-encoding", "Accept-Encoding: br;q=0\r\n", "Accept-Encoding:\r\n"},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        cr_assert_str_eq(key_of(pairs[i].set, pairs[i].a), key_of(pairs[i].set, pairs[i].b), "%s | %s", pairs[i].a,
                         pairs[i].b);
    }
}

Test(vary, requests_that_differ_have_different_keys)
{
    static const struct pair pairs[] = {
        {"foo", "Foo: 1\r\n", "Foo: 2\r\n"},
        {"foo", "Foo: 1\r\n", ""},
        {"foo", "Foo:\r\n", ""},
        {"foo", "Foo: a\r\n", "Foo: A\r\n"},
        {"foo", "Foo: 1, 2\r\n", "Foo: 2, 1\r\n"},
        {"foo", "Foo: 1 2\r\n", "Foo: 1  2\r\n"},
        {"foo", "Foo: 1,,2\r\n", "Foo: 1,2\r\n"},
        {"foo", "Foo: \"a, b\"\r\n", "Foo: \"a,b\"\r\n"},
        {"foo", "Foo: \"a\\\", b\"\r\n", "Foo: \"a\\\",b\"\r\n"},
        {"bar,foo", "Foo: 1\r\n", "Bar: 1\r\n"},
        {"bar,foo", "Bar: x\r\nFoo: 1\r\n", "Bar: x,foo:1\r\n"},
        {"accept-language", "Accept-Language: en, de;q=0.5\r\n", "Accept-Language: de, en;q=0.5\r\n"},
        {"accept-language", "Accept-Language: en;q=0\r\n", "Accept-Language:\r\n"},
        {"accept-language", "Accept-Language: en\r\n", "Accept-Language: en-GB\r\n"},
        {"accept-encoding", "Accept-Encoding: gzip\r\n", "Accept-Encoding: gzip;q=0.5\r\n"},
        {"accept-encoding", "Accept-Encoding: gzip;q=0.5\r\n", "Accept-Encoding: gzip;q=0.05\r\n"},
        {"accept-encoding", "Accept-Encoding: gzip;q=0, *\r\n", "Accept-Encoding: *\r\n"},
        {"accept-encoding", "Accept-Encoding: identity;q=0, gzip\r\n", "Accept-Encoding: gzip\r\n"},
        {"accept-encoding", "Accept-Encoding: gzip;level=9\r\n", "Accept-Encoding: gzip\r\n"},
        {"accept-encoding", "Accept-Encoding:\r\n", ""},
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        cr_assert_str_neq(key_of(pairs[i].set, pairs[i].a), key_of(pairs[i].set, pairs[i].b), "%s | %s", pairs[i].a,
                          pairs[i].b);
    }
}

Test(vary, qualities_are_spelt_one_way)
{
    cr_assert_str_eq(key_of("accept-encoding", "Accept-Encoding: zstd, gzip;q=0.80, br;q=0.25, identity;q=0\r\n"),
                     "accept-encoding:zstd,gzip;q=0.8,br;q=0.25,identity;q=0\n");
    cr_assert_str_eq(key_of("accept-encoding", "Accept-Encoding: a;q=0.001,b;q=0.\r\n"), "accept-encoding:a;q=0.001\n");
    cr_assert_str_eq(key_of("accept-language", "Accept-Language: fr;q=0.1, *;q=0, en\r\n"),
                     "accept-language:en,fr;q=0.1,*;q=0\n");
}

Test(vary, malformed_qualities_leave_the_value_as_it_is)
{
    static const char *const values[] = {"b;q=1.1, a", "b;q=2, a", "b;q=0.1234, a", "b;q, a",  "b;q=, a",
                                         "b;q=x, a",   "b;, a",    "b c, a",        ";q=1, a", "b;q=1;q=1, a"};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char fields[64];
        char expected[64];
        snprintf(fields, sizeof(fields), "Accept-Encoding: %s\r\n", values[i]);
        snprintf(expected, sizeof(expected), "accept-encoding:%.*s,a\n", (int)(strlen(values[i]) - 3), values[i]);
        cr_assert_str_eq(key_of("accept-encoding", fields), expected);
    }
    char many[256] = "Accept-Encoding: b";
    for (unsigned i = 0; i < 32; i++) {
        strcat(many, ", a");
    }
    strcat(many, "\r\n");
    cr_assert(strncmp(key_of("accept-encoding", many), "accept-encoding:b,a,", 20) == 0, "too many to be sorted");
}

Test(vary, a_key_is_written_whole_or_not_at_all)
{
    struct message message;
    const struct http_head *request = request_of(&message, "Foo: 1, 2\r\nAccept-Encoding: gzip\r\n");
    size_t bytes = 0;
    for (size_t room = 0; room < 40; room++) {
        char *out = malloc(room);
        enum result result = vary_put_key(BYTES("accept-encoding,foo"), request, message.base, out, room, &bytes);
        cr_assert_eq(result, room < 29 ? RESULT_LIMIT : RESULT_OK, "%zu", room);
        if (result == RESULT_OK) {
            assert_bytes((struct bytes){out, bytes}, "accept-encoding:gzip\nfoo:1,2\n");
        }
        free(out);
    }
    message_free(&message);
}

/* ---- the note ---- */

Test(vary, the_note_lists_the_newest_set_first)
{
    char a[VARY_NOTE_BYTES_MAX];
    char b[VARY_NOTE_BYTES_MAX];
    size_t bytes = vary_note_merge(BYTES(""), BYTES("foo"), a);
    assert_bytes((struct bytes){a, bytes}, "foo\n");
    bytes = vary_note_merge((struct bytes){a, bytes}, BYTES(""), b);
    assert_bytes((struct bytes){b, bytes}, "\nfoo\n");
    bytes = vary_note_merge((struct bytes){b, bytes}, BYTES("bar,foo"), a);
    assert_bytes((struct bytes){a, bytes}, "bar,foo\n\nfoo\n");
    bytes = vary_note_merge((struct bytes){a, bytes}, BYTES("foo"), b);
    assert_bytes((struct bytes){b, bytes}, "foo\nbar,foo\n\n");
}

Test(vary, the_note_forgets_the_oldest_set)
{
    char notes[2][VARY_NOTE_BYTES_MAX];
    size_t bytes = 0;
    for (unsigned i = 0; i < VARY_SETS_MAX + 3; i++) {
        char name = (char)('a' + i);
        bytes = vary_note_merge((struct bytes){notes[i % 2], bytes}, (struct bytes){&name, 1}, notes[(i + 1) % 2]);
    }
    assert_bytes((struct bytes){notes[(VARY_SETS_MAX + 3) % 2], bytes}, "k\nj\ni\nh\ng\nf\ne\nd\n");
}

Test(vary, a_damaged_note_ends_early)
{
    struct bytes note = BYTES("a\nb");
    struct bytes set;
    cr_assert(vary_note_next(&note, &set));
    assert_bytes(set, "a");
    cr_assert_not(vary_note_next(&note, &set));
    char text[VARY_SET_BYTES_MAX + 8];
    memset(text, 'x', sizeof(text));
    memcpy(text + VARY_SET_BYTES_MAX + 1, "\nok\n", 4);
    note = (struct bytes){text, VARY_SET_BYTES_MAX + 5};
    cr_assert(vary_note_next(&note, &set));
    assert_bytes(set, "ok");
}
