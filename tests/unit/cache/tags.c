#include "cache/tags.h"

#include "rules.h"

static void assert_tags(const char *fields, const char *expected)
{
    struct message message;
    const struct http_head *response = response_of(&message, 200, fields);
    char room[TAGS_BYTES_MAX];
    size_t bytes = 0;
    cr_assert_eq(
        tags_of_response(BYTES("http"), BYTES("A.example:8080"), response, message.base, room, sizeof(room), &bytes),
        RESULT_OK, "%s", fields);
    assert_bytes((struct bytes){room, bytes}, expected);
    message_free(&message);
}

#define GROUP "group:http://a.example:8080 "

Test(tags, groups_are_strings_and_belong_to_their_origin)
{
    assert_tags("", "");
    assert_tags("Cache-Groups: \"a\"\r\n", GROUP "a\n");
    assert_tags("Cache-Groups: \"a\", \"B c\" ,\"a\"\r\ncache-groups: \"d\"\r\n",
                GROUP "a\n" GROUP "B c\n" GROUP "d\n");
    assert_tags("Cache-Groups: \"a,b\", \"c\\\"d\\\\e\"\r\n", GROUP "a,b\n" GROUP "c\"d\\e\n");
    assert_tags("Cache-Groups: \"a\";x;y=\"1;2\"; z=3, \"b\";w=?1\r\n", GROUP "a\n" GROUP "b\n");
    assert_tags("Cache-Groups: \"\"\r\n", GROUP "\n");
}

Test(tags, what_is_no_list_of_strings_is_ignored_as_a_whole)
{
    static const char *const values[] = {"a",       "\"a\", b", "\"a\",",       "\"a", ",\"a\"",   "\"a\" \"b\"",
                                         "(\"a\")", "\"a\\b\"", "\"\xc3\xa4\"", "1",   "\"a\";=1", "\"a\";x="};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char fields[128];
        snprintf(fields, sizeof(fields), "Cache-Groups: %s\r\nxkey: t\r\n", values[i]);
        assert_tags(fields, "tag:t\n");
    }
    assert_tags("Cache-Groups: \"a\"\r\nCache-Groups: b\r\n", "");
}

Test(tags, tags_are_separated_by_blanks_or_commas)
{
    assert_tags("Surrogate-Key: a b  c\r\n", "tag:a\ntag:b\ntag:c\n");
    assert_tags("Cache-Tag: a,b , c,\r\nEdge-Cache-Tag: d\r\nxkey: e\r\nXKEY: a f\r\n",
                "tag:a\ntag:b\ntag:c\ntag:d\ntag:e\ntag:f\n");
    assert_tags("Cache-Groups: \"a\"\r\nCache-Tag: a\r\n", GROUP "a\ntag:a\n");
    assert_tags("Cache-Tag:\r\nxkey: ,\r\n", "");
}

Test(tags, the_schemes_own_port_is_not_part_of_the_origin)
{
    struct message message;
    const struct http_head *response = response_of(&message, 200, "Cache-Group-Invalidation: \"a\"\r\n");
    char room[128];
    size_t bytes = tags_to_invalidate(BYTES("https"), BYTES("A:443"), response, message.base, room, sizeof(room));
    assert_bytes((struct bytes){room, bytes}, "group:https://a a\n");
    bytes = tags_to_invalidate(BYTES("http"), BYTES("a:443"), response, message.base, room, sizeof(room));
    assert_bytes((struct bytes){room, bytes}, "group:http://a:443 a\n");
    message_free(&message);
}

Test(tags, what_does_not_fit_is_said)
{
    struct message message;
    char fields[8192] = "Cache-Tag: ";
    for (unsigned i = 0; i < TAGS_COUNT_MAX; i++) {
        snprintf(fields + strlen(fields), sizeof(fields) - strlen(fields), "t%u ", i);
    }
    size_t length = strlen(fields);
    size_t bytes;
    char room[TAGS_BYTES_MAX];
    static const struct {
        const char *more;
        enum result result;
    } cases[] = {{"\r\n", RESULT_OK}, {"one-more\r\n", RESULT_LIMIT}};
    for (size_t i = 0; i < 2; i++) {
        strcpy(fields + length, cases[i].more);
        const struct http_head *response = response_of(&message, 200, fields);
        cr_assert_eq(tags_of_response(BYTES("http"), BYTES("a"), response, message.base, room, sizeof(room), &bytes),
                     cases[i].result);
        message_free(&message);
    }
    snprintf(fields, sizeof(fields), "Cache-Tag: %0*d\r\n", TAGS_NAME_BYTES_MAX + 1, 0);
    const struct http_head *response = response_of(&message, 200, fields);
    cr_assert_eq(tags_of_response(BYTES("http"), BYTES("a"), response, message.base, room, sizeof(room), &bytes),
                 RESULT_LIMIT);
    message_free(&message);
}

Test(tags, any_room_is_kept_to)
{
    struct message message;
    const struct http_head *response =
        response_of(&message, 200, "Cache-Groups: \"a\\\"\"\r\nCache-Group-Invalidation: \"b\"\r\nxkey: c\r\n");
    for (size_t room_bytes = 0; room_bytes < 40; room_bytes++) {
        char *room = malloc(room_bytes);
        size_t bytes = 0;
        enum result result =
            tags_of_response(BYTES("http"), BYTES("a"), response, message.base, room, room_bytes, &bytes);
        cr_assert(result == RESULT_LIMIT || bytes <= room_bytes);
        cr_assert(tags_to_invalidate(BYTES("http"), BYTES("a"), response, message.base, room, room_bytes) <=
                  room_bytes);
        free(room);
    }
    message_free(&message);
}

Test(tags, names_are_found_again)
{
    struct bytes tags = BYTES("tag:a\ntag:bc\n");
    cr_assert(tags_have(tags, BYTES("tag:bc")));
    cr_assert_not(tags_have(tags, BYTES("tag:b")));
    cr_assert_not(tags_have(tags, BYTES("a")));
    cr_assert_not(tags_have(BYTES(""), BYTES("tag:a")));
    struct bytes name;
    cr_assert(tags_next(&tags, &name));
    assert_bytes(name, "tag:a");
    cr_assert(tags_next(&tags, &name));
    cr_assert_not(tags_next(&tags, &name));
}
