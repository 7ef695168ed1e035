#include "http/date.h"

#include <string.h>

enum { SECONDS_PER_DAY = 86400 };

static const int64_t UNIX_S_MAX = INT64_C(253402300799); /* the last second of the year 9999 */

static const char DAYS_OF_WEEK[] = "ThuFriSatSunMonTueWed"; /* 1970 began on a Thursday */
static const char MONTHS[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

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
    unsigned year;
    unsigned month;
    unsigned day;
    int64_t clamped = unix_s < 0 ? 0 : unix_s > UNIX_S_MAX ? UNIX_S_MAX : unix_s;
    uint32_t day_count = (uint32_t)(clamped / SECONDS_PER_DAY);
    uint32_t second = (uint32_t)(clamped % SECONDS_PER_DAY);
    civil_from_days(day_count, &year, &month, &day);
    memcpy(out, "Thu, 01 Jan 1970 00:00:00 GMT", HTTP_DATE_BYTES);
    memcpy(out, DAYS_OF_WEEK + day_count % 7 * 3, 3);
    put2(out + 5, day);
    memcpy(out + 8, MONTHS + (month - 1) * 3, 3);
    put2(out + 12, year / 100);
    put2(out + 14, year % 100);
    put2(out + 17, second / 3600);
    put2(out + 20, second / 60 % 60);
    put2(out + 23, second % 60);
}

/* A date as read: nothing of it checked against the rest yet. */
struct civil {
    unsigned year;
    unsigned month; /* 1 … 12 */
    unsigned day;
    unsigned second; /* of the day; 86,400 for a leap second at its end */
};

/* The inverse of civil_from_days, for any year from 0 on: negative before 1970. */
static int64_t days_from_civil(const struct civil *civil)
{
    int64_t year = (int64_t)civil->year - (civil->month <= 2);
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t march_month = civil->month > 2 ? civil->month - 3 : civil->month + 9;
    int64_t day_of_year = (153 * march_month + 2) / 5 + civil->day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static bool take_literal(struct bytes *text, struct bytes literal)
{
    if (text->len < literal.len || !bytes_equal_nocase((struct bytes){text->ptr, literal.len}, literal)) {
        return false;
    }
    text->ptr += literal.len;
    text->len -= literal.len;
    return true;
}

static bool take_digits(struct bytes *text, size_t count, unsigned *ret_value)
{
    uint64_t value;
    if (text->len < count || !bytes_to_u64((struct bytes){text->ptr, count}, &value)) {
        return false;
    }
    text->ptr += count;
    text->len -= count;
    *ret_value = (unsigned)value;
    return true;
}

/* Takes one of the three-letter names in `names` and tells which. */
static bool take_name(struct bytes *text, const char *names, unsigned count, unsigned *ret_index)
{
    if (text->len < 3) {
        return false;
    }
    char a = ascii_lower(text->ptr[0]);
    char b = ascii_lower(text->ptr[1]);
    char c = ascii_lower(text->ptr[2]);
    for (unsigned i = 0; i < count; i++, names += 3) {
        if (ascii_lower(names[0]) == a && names[1] == b && names[2] == c) { /* only the first is a capital */
            text->ptr += 3;
            text->len -= 3;
            *ret_index = i;
            return true;
        }
    }
    return false;
}

static bool take_month(struct bytes *text, unsigned *ret_month)
{
    unsigned index;
    if (!take_name(text, MONTHS, 12, &index)) {
        return false;
    }
    *ret_month = index + 1;
    return true;
}

static bool take_time(struct bytes *text, unsigned *ret_second)
{
    unsigned hour;
    unsigned minute;
    unsigned second;
    if (!take_digits(text, 2, &hour) || !take_literal(text, BYTES(":")) || !take_digits(text, 2, &minute) ||
        !take_literal(text, BYTES(":")) || !take_digits(text, 2, &second)) {
        return false;
    }
    *ret_second = hour * 3600 + minute * 60 + second;
    return hour < 24 && minute < 60 && second <= 60;
}

/* Behind "Sun, ": 06 Nov 1994 08:49:37 GMT */
static bool take_imf_fixdate(struct bytes *text, struct civil *ret_civil)
{
    return take_digits(text, 2, &ret_civil->day) && take_literal(text, BYTES(" ")) &&
           take_month(text, &ret_civil->month) && take_literal(text, BYTES(" ")) &&
           take_digits(text, 4, &ret_civil->year) && take_literal(text, BYTES(" ")) &&
           take_time(text, &ret_civil->second) && take_literal(text, BYTES(" GMT"));
}

/* Behind "Sun ": Nov  6 08:49:37 1994 */
static bool take_asctime(struct bytes *text, struct civil *ret_civil)
{
    return take_month(text, &ret_civil->month) && take_literal(text, BYTES(" ")) &&
           (take_literal(text, BYTES(" ")) ? take_digits(text, 1, &ret_civil->day)
                                           : take_digits(text, 2, &ret_civil->day)) &&
           take_literal(text, BYTES(" ")) && take_time(text, &ret_civil->second) && take_literal(text, BYTES(" ")) &&
           take_digits(text, 4, &ret_civil->year);
}

/* Gives the year that is meant by its last two digits: not more than 50 years after `now_s`, to the second. */
static unsigned whole_year(const struct civil *civil, int64_t now_s)
{
    struct civil limit;
    int64_t clamped = now_s < 0 ? 0 : now_s > UNIX_S_MAX ? UNIX_S_MAX : now_s;
    civil_from_days((uint32_t)(clamped / SECONDS_PER_DAY), &limit.year, &limit.month, &limit.day);
    limit.second = (unsigned)(clamped % SECONDS_PER_DAY);
    limit.year += 50;
    unsigned year = limit.year - (limit.year % 100 + 100 - civil->year) % 100;
    bool later_in_year = civil->month != limit.month ? civil->month > limit.month
                         : civil->day != limit.day   ? civil->day > limit.day
                                                     : civil->second > limit.second;
    return year == limit.year && later_in_year ? year - 100 : year;
}

/* Behind "Sunday, ": 06-Nov-94 08:49:37 GMT */
static bool take_rfc850(struct bytes *text, int64_t now_s, struct civil *ret_civil)
{
    if (!take_digits(text, 2, &ret_civil->day) || !take_literal(text, BYTES("-")) ||
        !take_month(text, &ret_civil->month) || !take_literal(text, BYTES("-")) ||
        !take_digits(text, 2, &ret_civil->year) || !take_literal(text, BYTES(" ")) ||
        !take_time(text, &ret_civil->second) || !take_literal(text, BYTES(" GMT"))) {
        return false;
    }
    ret_civil->year = whole_year(ret_civil, now_s);
    return true;
}

static bool has_day(const struct civil *civil)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = civil->year % 4 == 0 && (civil->year % 100 != 0 || civil->year % 400 == 0);
    unsigned last = days[civil->month - 1] + (civil->month == 2 && is_leap ? 1U : 0U);
    return civil->day >= 1 && civil->day <= last;
}

bool http_date_parse(struct bytes text, int64_t now_s, int64_t *ret_unix_s)
{
    static const struct bytes rest_of_day_names[] = {
        BYTES("rsday"), BYTES("day"), BYTES("urday"), BYTES("day"), BYTES("day"), BYTES("sday"), BYTES("nesday"),
    };
    struct civil civil;
    unsigned weekday;
    bool taken;
    if (!take_name(&text, DAYS_OF_WEEK, 7, &weekday)) {
        return false;
    }
    if (take_literal(&text, BYTES(", "))) {
        taken = take_imf_fixdate(&text, &civil);
    } else if (take_literal(&text, BYTES(" "))) {
        taken = take_asctime(&text, &civil);
    } else {
        taken = take_literal(&text, rest_of_day_names[weekday]) && take_literal(&text, BYTES(", ")) &&
                take_rfc850(&text, now_s, &civil);
    }
    if (!taken || text.len > 0 || !has_day(&civil)) {
        return false;
    }
    *ret_unix_s = days_from_civil(&civil) * SECONDS_PER_DAY + civil.second;
    return true;
}
