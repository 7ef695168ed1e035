#include "base/bytes.h"

#include <criterion/criterion.h>
#include <stdlib.h>

Test(base, bytes_are_compared_by_content)
{
    cr_assert(bytes_equal(BYTES(""), BYTES_NONE));
    cr_assert(bytes_equal(BYTES("a\0b"), BYTES("a\0b")));
    cr_assert_not(bytes_equal(BYTES("a\0b"), BYTES("a\0c")));
    cr_assert_not(bytes_equal(BYTES("a"), BYTES("A")));
    cr_assert(bytes_equal_nocase(BYTES("aZ-09"), BYTES("Az-09")));
    cr_assert_not(bytes_equal_nocase(BYTES("a"), BYTES("ab")));
    cr_assert_not(bytes_equal_nocase(BYTES("@"), BYTES("`")), "only letters have a case");
    cr_assert_not(bytes_equal_nocase(BYTES("["), BYTES("{")));
    cr_assert(bytes_starts_with(BYTES("abc"), BYTES("ab")));
    cr_assert(bytes_starts_with(BYTES("abc"), BYTES_NONE));
    cr_assert_not(bytes_starts_with(BYTES("a"), BYTES("ab")));
}

Test(base, trim_takes_only_spaces_and_tabs)
{
    cr_assert(bytes_equal(bytes_trim(BYTES(" \t a b \t")), BYTES("a b")));
    cr_assert_eq(bytes_trim(BYTES(" \t ")).len, 0);
    cr_assert(bytes_equal(bytes_trim(BYTES("\na\r")), BYTES("\na\r")));
}

Test(base, numbers_are_digits_and_nothing_else)
{
    static const char *const bad[] = {
        "", "+1", "-1", " 1", "1 ", "0x1", "1_0", "18446744073709551616", "99999999999999999999", "1.0"};
    uint64_t value = 7;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cr_assert_not(bytes_to_u64(bytes_from(bad[i]), &value), "%s", bad[i]);
        cr_assert_eq(value, 7, "left alone");
    }
    cr_assert(bytes_to_u64(BYTES("18446744073709551615"), &value));
    cr_assert_eq(value, UINT64_MAX);
    cr_assert(bytes_to_u64(BYTES("0000000000000000000000012"), &value));
    cr_assert_eq(value, 12);
}

Test(base, numbers_come_back_as_they_were_put)
{
    static const uint64_t values[] = {0, 1, 9, 10, 99, 100, 12345678901234567890U, UINT64_MAX};
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        char out[20];
        uint64_t value;
        size_t length = bytes_put_u64(out, values[i]);
        cr_assert(bytes_to_u64((struct bytes){out, length}, &value));
        cr_assert_eq(value, values[i]);
        cr_assert(length == 1 || out[0] != '0');
    }
}

Test(base, list_items_are_split_outside_of_quotes)
{
    static const char *const items[] = {"a", "b c", "\"d,e\\\"f,\"", "g=\"h,i\";j", "k"};
    struct bytes list = BYTES(" a ,, \t,b c,\"d,e\\\"f,\",g=\"h,i\";j,k,");
    struct bytes item;
    for (size_t i = 0; i < sizeof(items) / sizeof(items[0]); i++) {
        cr_assert(bytes_next_item(&list, &item));
        cr_assert(bytes_equal(item, bytes_from(items[i])), "%.*s", BYTES_ARG(item));
    }
    cr_assert_not(bytes_next_item(&list, &item));
    list = BYTES("\"open, a");
    cr_assert(bytes_next_item(&list, &item));
    cr_assert(bytes_equal(item, BYTES("\"open, a")));
    cr_assert_not(bytes_next_item(&list, &item));
}
