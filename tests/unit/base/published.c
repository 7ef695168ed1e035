#include "base/published.h"

#include <criterion/criterion.h>

Test(base, published_is_nothing_until_it_is_written)
{
    struct published published;
    uint64_t value = 7;
    cr_assert_eq(published_init(&published, sizeof(value)), RESULT_OK);
    cr_assert(!published_read(&published, &value));
    cr_assert_eq(value, 7);
    published_fini(&published);
}

Test(base, published_gives_what_was_written_last_whatever_its_size)
{
    for (size_t bytes = 1; bytes < 40; bytes++) {
        struct published published;
        cr_assert_eq(published_init(&published, bytes), RESULT_OK);
        for (unsigned char round = 1; round < 6; round++) {
            unsigned char value[40];
            unsigned char read[40];
            memset(value, round, sizeof(value));
            memset(read, 0xee, sizeof(read));
            published_write(&published, value);
            for (unsigned again = 0; again < 2; again++) {
                cr_assert(published_read(&published, read));
                cr_assert_arr_eq(read, value, bytes);
                cr_assert_eq(read[bytes], 0xee, "nothing beyond it is written");
            }
        }
        published_fini(&published);
    }
}
