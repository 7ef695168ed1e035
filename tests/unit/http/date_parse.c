#include <criterion/criterion.h>
#include <string.h>
#include <time.h>

#include "http/date.h"

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

static const int64_t NOW_S = 1760000000; /* Thu, 09 Oct 2025 08:53:20 GMT */
static const int64_t REFUSED = INT64_MIN;

struct date_case {
    const char *text;
    int64_t unix_s; /* REFUSED: not a date */
};

static void check(const struct date_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t unix_s = REFUSED;
        bool readable = http_date_parse(bytes_from(cases[i].text), NOW_S, &unix_s);
        cr_assert_eq(readable, cases[i].unix_s != REFUSED, "%s", cases[i].text);
        cr_assert_eq(unix_s, cases[i].unix_s, "%s: %lld", cases[i].text, (long long)unix_s);
    }
}

Test(http, dates_are_read_in_three_formats_and_any_case)
{
    static const struct date_case cases[] = {
        {"Sun, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sunday, 06-Nov-94 08:49:37 GMT", 784111777},
        {"Sun Nov  6 08:49:37 1994", 784111777},
        {"Wed Nov 16 08:49:37 1994", 784975777},
        {"SUN, 06 Nov 1994 08:49:37 GMT", 784111777},
        {"Sun, 06 NOV 1994 08:49:37 GMT", 784111777},
        {"sun, 06 nov 1994 08:49:37 gMT", 784111777},
        {"sUNDAY, 06-nOV-94 08:49:37 gmt", 784111777},
        {"Thu, 06 Nov 1994 08:49:37 GMT", 784111777}, /* the wrong weekday */
        {"Thu, 01 Jan 1970 00:00:00 GMT", 0},
        {"Wed, 31 Dec 1969 23:59:59 GMT", -1},
        {"Sat, 01 Jan 0000 00:00:00 GMT", -62167219200},
        {"Tue, 19 Jan 2038 14:14:08 GMT", 2147523248},
        {"Sun, 21 Nov 2286 04:46:39 GMT", 10000039599},
        {"Fri, 31 Dec 9999 23:59:59 GMT", 253402300799},
        {"Tue, 29 Feb 2000 00:00:00 GMT", 951782400},
        {"Thu, 29 Feb 2024 00:00:00 GMT", 1709164800},
        {"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800}, /* a leap second is the next one */
        {"Thu Aug  8 02:01:18 2050", 2543536878},
    };
    check(cases, COUNT(cases));
}

Test(http, dates_that_deviate_are_none)
{
    static const char *const texts[] = {
        "",
        "0",
        "-1",
        "foo",
        "784111777",
        "Sun",
        "Sun,",
        "Sun, 06 Nov 1994",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 ",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 AEST",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, x",
        "Sun 06 Nov 1994 08:49:37 GMT",
        "Sun, 06  Nov  1994 08:49:37 GMT",
        "Sun,06 Nov 1994 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sunday 06-Nov-94 08:49:37 GMT",
        "Monsday, 06-Nov-94 08:49:37 GMT",
        "Tueday, 06-Nov-94 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, 06 Nov 1994 08.49.37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 -8:49:37 GMT",
        "Sun, 06 Nov +994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Nvo 1994 08:49:37 GMT",
        "Son, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994 GMT",
        "Sun Nov  6 08:49:37 94",
        "Sun Nov  16 08:49:37 1994",
        "Sun Nov   6 08:49:37 1994",
        "Sun, Nov  6 08:49:37 1994",
    };
    for (size_t i = 0; i < COUNT(texts); i++) {
        int64_t unix_s = 4711;
        cr_assert_not(http_date_parse(bytes_from(texts[i]), NOW_S, &unix_s), "%s", texts[i]);
        cr_assert_eq(unix_s, 4711);
    }
    int64_t unix_s;
    cr_assert_not(http_date_parse(BYTES("Sun, 06 Nov 1994 08:49:37 GM\0"), NOW_S, &unix_s));
}

Test(http, two_digits_of_year_are_never_more_than_fifty_years_away)
{
    static const struct date_case cases[] = {
        {"Thursday, 18-Aug-50 02:01:18 GMT", 2544400878},  /* 2050 */
        {"Wednesday, 09-Oct-75 08:53:20 GMT", 3337836800}, /* 2075: 50 years to the second */
        {"Wednesday, 09-Oct-75 08:53:21 GMT", 182076801},  /* one more: 1975 */
        {"Thursday, 10-Oct-75 00:00:00 GMT", 182131200},   /* 1975 */
        {"Wednesday, 01-Jan-75 00:00:00 GMT", 3313526400}, /* 2075 */
        {"Thursday, 01-Jan-76 00:00:00 GMT", 189302400},   /* 1976 */
        {"Friday, 31-Dec-99 23:59:59 GMT", 946684799},     /* 1999 */
        {"Saturday, 01-Jan-00 00:00:00 GMT", 946684800},   /* 2000 */
        {"Tuesday, 29-Feb-00 00:00:00 GMT", 951782400},    /* 2000 */
    };
    check(cases, COUNT(cases));
    int64_t unix_s;
    /* In 2090 a 29-Feb-00 is 2100's, which had none. */
    cr_assert_not(http_date_parse(BYTES("Monday, 29-Feb-00 00:00:00 GMT"), INT64_C(3786912000), &unix_s));
    cr_assert(http_date_parse(BYTES("Monday, 01-Jan-95 00:00:00 GMT"), INT64_MIN, &unix_s));
    cr_assert_eq(unix_s, 788918400, "before 1970 it is as in 1970");
    cr_assert(http_date_parse(BYTES("Monday, 01-Jan-49 00:00:00 GMT"), INT64_MAX, &unix_s));
}

Test(http, dates_are_read_as_they_are_written)
{
    for (int64_t unix_s = 0; unix_s < INT64_C(253402300800); unix_s += 86400 * 11 + 3607) {
        char text[64];
        int64_t read_s;
        struct tm utc;
        time_t t = unix_s;
        http_date_format(unix_s, text);
        cr_assert(http_date_parse((struct bytes){text, HTTP_DATE_BYTES}, NOW_S, &read_s));
        cr_assert_eq(read_s, unix_s);
        gmtime_r(&t, &utc);
        strftime(text, sizeof(text), "%a %b %e %H:%M:%S %Y", &utc);
        cr_assert(http_date_parse(bytes_from(text), NOW_S, &read_s), "%s", text);
        cr_assert_eq(read_s, unix_s);
        strftime(text, sizeof(text), "%A, %d-%b-%y %H:%M:%S GMT", &utc);
        cr_assert(http_date_parse(bytes_from(text), unix_s - INT64_C(49) * 365 * 86400, &read_s), "%s", text);
        cr_assert_eq(read_s, unix_s < INT64_C(49) * 365 * 86400 ? read_s : unix_s, "%s", text);
    }
}
