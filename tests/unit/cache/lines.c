#include "cache/lines.h"

#include "rules.h"

/* Copies to memory of just that size. */
static struct bytes exact(const char *text)
{
    size_t bytes = strlen(text);
    char *copy = malloc(bytes);
    memcpy(copy, text, bytes);
    return (struct bytes){copy, bytes};
}

Test(lines, come_one_by_one_with_their_white_space_trimmed)
{
    struct bytes all = exact("A: 1\r\nB:2\r\nC:\t 3 \r\nD:\r\n");
    struct bytes rest = all;
    struct line line;
    cr_assert(lines_next(&rest, &line));
    assert_bytes(line.name, "A");
    assert_bytes(line.value, "1");
    assert_bytes(line.whole, "A: 1\r\n");
    cr_assert(lines_next(&rest, &line));
    assert_bytes(line.whole, "B:2\r\n");
    assert_bytes(line.value, "2");
    cr_assert(lines_next(&rest, &line));
    assert_bytes(line.value, "3");
    cr_assert(lines_next(&rest, &line));
    assert_bytes(line.name, "D");
    cr_assert_eq(line.value.len, 0);
    cr_assert_not(lines_next(&rest, &line));
    free((void *)(uintptr_t)all.ptr);
}

Test(lines, every_prefix_is_read_without_a_step_beyond_it)
{
    static const char text[] = "Cache-Control: a, \"b,\\\"c\"\r\nno colon\r\n: no name\r\ncache-control: d\r\nX:";
    for (size_t cut = 0; cut < sizeof(text); cut++) {
        char *copy = malloc(cut);
        memcpy(copy, text, cut);
        struct bytes rest = {copy, cut};
        struct line line;
        size_t seen = 0;
        while (lines_next(&rest, &line)) {
            seen += line.whole.len;
            cr_assert(line.name.len > 0);
            cr_assert(line.whole.ptr >= copy && line.whole.ptr + line.whole.len <= copy + cut);
        }
        cr_assert(seen <= cut && rest.len == 0);
        struct lines_items items = lines_items((struct bytes){copy, cut}, BYTES("cache-control"));
        struct bytes item;
        unsigned count = 0;
        while (lines_next_item(&items, &item)) {
            count++;
        }
        cr_assert(count <= 3);
        free(copy);
    }
}

Test(lines, what_has_no_colon_or_no_name_is_passed_over)
{
    struct bytes rest = BYTES("junk\r\n: x\r\n\r\nA: 1\r\nmore junk");
    struct line line;
    cr_assert(lines_next(&rest, &line));
    assert_bytes(line.name, "A");
    cr_assert_not(lines_next(&rest, &line));
}

Test(lines, the_first_of_a_name_is_found_in_any_letter_case)
{
    struct bytes lines = BYTES("X-A: 0\r\nETAG: \"1\"\r\netag: \"2\"\r\nA:\r\n");
    assert_bytes(lines_find(lines, BYTES("ETag")), "\"1\"");
    cr_assert_null(lines_find(lines, BYTES("Tag")).ptr);
    cr_assert_null(lines_find(lines, BYTES("ETags")).ptr);
    cr_assert_null(lines_find(BYTES(""), BYTES("ETag")).ptr);
    cr_assert_not_null(lines_find(lines, BYTES("a")).ptr, "an empty value is there");
}

Test(lines, members_of_a_list_are_taken_over_all_its_lines)
{
    struct bytes lines = BYTES("Vary: a, b\r\nOther: x\r\nvary:\r\nVARY: ,c,, \"d,e\" ,\r\n");
    static const char *const expected[] = {"a", "b", "c", "\"d,e\""};
    struct lines_items items = lines_items(lines, BYTES("Vary"));
    struct bytes item;
    for (size_t i = 0; i < 4; i++) {
        cr_assert(lines_next_item(&items, &item));
        assert_bytes(item, expected[i]);
    }
    cr_assert_not(lines_next_item(&items, &item));
    cr_assert_not(lines_next_item(&items, &item), "the end stays the end");
}

static bool is_not_x(const void *context, struct bytes name)
{
    (*(unsigned *)(uintptr_t)context)++;
    return name.ptr[0] != 'X';
}

Test(lines, a_filter_decides_which_are_copied)
{
    static const struct {
        const char *lines;
        const char *kept;
        unsigned asked;
    } cases[] = {
        {"", "", 0},
        {"X: 1\r\n", "", 1},
        {"A: 1\r\n", "A: 1\r\n", 1},
        {"A: 1\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n", 2},
        {"X: 0\r\nA: 1\r\nX: 2\r\nX: 3\r\nB: 4\r\nC: 5\r\nX: 6\r\n", "A: 1\r\nB: 4\r\nC: 5\r\n", 7},
        {"A: 1\r\njunk\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n", 2},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char room[128];
        unsigned asked = 0;
        char *end = lines_put_kept(room, bytes_from(cases[i].lines), is_not_x, &asked);
        assert_run(room, end, cases[i].kept);
        cr_assert_eq(asked, cases[i].asked);
    }
}

Test(lines, a_line_takes_as_many_bytes_as_said)
{
    char room[32];
    char *end = lines_put_line(room, BYTES("Age"), BYTES("7"));
    assert_run(room, end, "Age: 7\r\n");
    cr_assert_eq((size_t)(end - room), lines_line_bytes(BYTES("Age"), BYTES("7")));
}

Test(lines, a_heads_values_come_in_order_with_and_without_an_id)
{
    struct message message;
    const struct http_head *head = response_of(&message, 200, "Vary: a\r\nFoo: 1\r\nvary: b\r\nFOO: 2\r\nFooo: 3\r\n");
    struct head_values values = head_values(head, message.base, BYTES("VARY"));
    struct bytes value;
    cr_assert(head_next_value(&values, &value));
    assert_bytes(value, "a");
    cr_assert(head_next_value(&values, &value));
    assert_bytes(value, "b");
    cr_assert_not(head_next_value(&values, &value));
    values = head_values(head, message.base, BYTES("foo"));
    cr_assert(head_next_value(&values, &value));
    assert_bytes(value, "1");
    cr_assert(head_next_value(&values, &value));
    assert_bytes(value, "2");
    cr_assert_not(head_next_value(&values, &value));
    values = head_values(head, message.base, BYTES("ETag"));
    cr_assert_not(head_next_value(&values, &value));
    message_free(&message);
}
