#include "http/date.h"

#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

Test(http, dates_are_imf_fixdate)
{
    char out[HTTP_DATE_BYTES];
    http_date_format(784111777, out);
    cr_assert_arr_eq(out, "Sun, 06 Nov 1994 08:49:37 GMT", HTTP_DATE_BYTES);
    http_date_format(0, out);
    cr_assert_arr_eq(out, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_BYTES);
}

Test(http, dates_beyond_four_digits_of_year_stay_in_range)
{
    char out[HTTP_DATE_BYTES];
    http_date_format(INT64_MIN, out);
    cr_assert_arr_eq(out, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_BYTES);
    http_date_format(INT64_MAX, out);
    cr_assert_arr_eq(out, "Fri, 31 Dec 9999 23:59:59 GMT", HTTP_DATE_BYTES);
}

Test(http, dates_agree_with_libc_over_eight_thousand_years)
{
    for (int64_t unix_s = 0; unix_s < INT64_C(253402300800); unix_s += 86400 * 7 + 3607) {
        char out[HTTP_DATE_BYTES];
        char expected[HTTP_DATE_BYTES + 1];
        struct tm utc;
        time_t t = unix_s;
        gmtime_r(&t, &utc);
        strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &utc);
        http_date_format(unix_s, out);
        cr_assert_arr_eq(out, expected, HTTP_DATE_BYTES, "%s", expected);
    }
}
