#include "http/date.h"

#include <string.h>

enum { SECONDS_PER_DAY = 86400 };

static const int64_t UNIX_S_MAX = INT64_C(253402300799); /* the last second of the year 9999 */

static void put2(char *out, unsigned value)
{
    out[0] = (char)('0' + value / 10 % 10);
    out[1] = (char)('0' + value % 10);
}

/* The proleptic Gregorian date of a day, counted in years that begin on 1 March, so that a leap day comes
 * last: 400 years are 146,097 days, and five months from March on are 153. */
static void civil_from_days(uint32_t days, unsigned *ret_year, unsigned *ret_month, unsigned *ret_day)
{
    uint32_t shifted = days + 719468; /* from 0000-03-01 to 1970-01-01 */
    uint32_t era = shifted / 146097;
    uint32_t day_of_era = shifted % 146097;
    uint32_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint32_t march_month = (5 * day_of_year + 2) / 153;
    *ret_day = day_of_year - (153 * march_month + 2) / 5 + 1;
    *ret_month = march_month < 10 ? march_month + 3 : march_month - 9;
    *ret_year = year_of_era + era * 400 + (*ret_month <= 2);
}

void http_date_format(int64_t unix_s, char out[HTTP_DATE_BYTES])
{
    static const char days_of_week[] = "ThuFriSatSunMonTueWed"; /* 1970 began on a Thursday */
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    unsigned year;
    unsigned month;
    unsigned day;
    int64_t clamped = unix_s < 0 ? 0 : unix_s > UNIX_S_MAX ? UNIX_S_MAX : unix_s;
    uint32_t day_count = (uint32_t)(clamped / SECONDS_PER_DAY);
    uint32_t second = (uint32_t)(clamped % SECONDS_PER_DAY);
    civil_from_days(day_count, &year, &month, &day);
    memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_BYTES);
    memcpy(out, days_of_week + day_count % 7 * 3, 3);
    put2(out + 5, day);
    memcpy(out + 8, months + (month - 1) * 3, 3);
    put2(out + 12, year / 100);
    put2(out + 14, year % 100);
    put2(out + 17, second / 3600);
    put2(out + 20, second / 60 % 60);
    put2(out + 23, second % 60);
}
