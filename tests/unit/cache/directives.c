#include "cache/directives.h"

#include "message.h"

#define COUNT(cases) (sizeof(cases) / sizeof((cases)[0]))

enum { NO = -1, BAD = -2 }; /* DIRECTIVES_ABSENT and DIRECTIVES_INVALID in the tables */

static uint32_t in_table(int64_t seconds)
{
    return seconds == NO ? DIRECTIVES_ABSENT : seconds == BAD ? DIRECTIVES_INVALID : (uint32_t)seconds;
}

static struct directives_response response_of(struct message *message, const char *fields)
{
    struct directives_response response;
    const struct http_head *head = message_response(message, 200, fields);
    directives_read_response(head, message->text, &response);
    return response;
}

static struct directives_request request_of(struct message *message, const char *fields)
{
    struct directives_request request;
    const struct http_head *head = message_request(message, fields);
    directives_read_request(head, message->text, &request);
    return request;
}

static bool targeted(const char *value, enum directives_syntax syntax, struct directives_response *ret_response)
{
    static struct message message;
    char fields[1024];
    snprintf(fields, sizeof(fields), "CDN-Cache-Control: %s\r\n", value);
    const struct http_head *head = message_response(&message, 200, fields);
    return directives_read_targeted(head, message.text, BYTES("cdn-cache-control"), syntax, ret_response);
}

Test(directives, seconds_are_digits_alone_and_saturate)
{
    static const struct {
        const char *text;
        int64_t seconds; /* NO: refused */
    } cases[] = {
        {"0", 0},
        {"1", 1},
        {"003600", 3600},
        {"2147483647", 2147483647},
        {"2147483648", 2147483648},
        {"2147483649", 2147483648},
        {"4294967295", 2147483648},
        {"4294967296", 2147483648},
        {"18446744073709551617", 2147483648},
        {"99999999999999999999999999999999999999999999999", 2147483648},
        {"00000000000000000000000000000000000000000000007", 7},
        {"", NO},
        {"-1", NO},
        {"+1", NO},
        {"1.0", NO},
        {"1.5", NO},
        {" 1", NO},
        {"1 ", NO},
        {"0x10", NO},
        {"a1", NO},
        {"1a", NO},
        {"1e3", NO},
        {"'1'", NO},
        {"\"1\"", NO},
        {"\xd9\xa1", NO},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        uint32_t seconds = 4711;
        bool readable = directives_seconds(bytes_from(cases[i].text), &seconds);
        cr_assert_eq(readable, cases[i].seconds != NO, "%s", cases[i].text);
        cr_assert_eq(seconds, readable ? (uint32_t)cases[i].seconds : 4711, "%s", cases[i].text);
    }
}

Test(directives, max_age_is_read_strictly_and_the_first_counts)
{
    static const struct {
        const char *fields;
        int64_t max_age;
    } cases[] = {
        {"", NO},
        {"Cache-Control:\r\n", NO},
        {"Cache-Control: , ,\r\n", NO},
        {"Cache-Control: max-age=3600\r\n", 3600},
        {"cache-control: MaX-aGe=3600\r\n", 3600},
        {"Cache-Control: max-age=\"3600\"\r\n", 3600},
        {"Cache-Control: max-age=003600\r\n", 3600},
        {"Cache-Control: max-age=2147483648\r\n", 2147483648},
        {"Cache-Control: max-age=99999999999\r\n", 2147483648},
        {"Cache-Control: foobar, max-age=1\r\n", 1},
        {"Cache-Control: foobar=1,max-age=1\r\n", 1},
        {"Cache-Control:,\t,max-age=1 ,\r\n", 1},
        {"Cache-Control: a\r\nX: y\r\nCache-Control: max-age=1\r\n", 1},
        {"Cache-Control: max-age=1800, max-age=1\r\n", 1800},
        {"Cache-Control: max-age=1, max-age=1800\r\n", 1},
        {"Cache-Control: max-age=1\r\nCache-Control: max-age=1800\r\n", 1},
        {"Cache-Control: max-age=x, max-age=1800\r\n", BAD},
        {"Cache-Control: max-age\r\n", BAD},
        {"Cache-Control: max-age=\r\n", BAD},
        {"Cache-Control: max-age=\"\"\r\n", BAD},
        {"Cache-Control: max-age =3600\r\n", BAD},
        {"Cache-Control: max-age= 3600\r\n", BAD},
        {"Cache-Control: max-age = 3600\r\n", BAD},
        {"Cache-Control: max-age=-3600\r\n", BAD},
        {"Cache-Control: max-age=+3600\r\n", BAD},
        {"Cache-Control: max-age='3600'\r\n", BAD},
        {"Cache-Control: max-age=3600.0\r\n", BAD},
        {"Cache-Control: max-age=3600.5\r\n", BAD},
        {"Cache-Control: max-age=a3600\r\n", BAD},
        {"Cache-Control: max-age=3600a\r\n", BAD},
        {"Cache-Control: max-age=0x10\r\n", BAD},
        {"Cache-Control: max-age=3600;a=b\r\n", BAD},
        {"Cache-Control: max-age=36 00\r\n", BAD},
        {"Cache-Control: max-age=\"3600\"0\r\n", BAD},
        {"Cache-Control: max-age=\"36\\00\"\r\n", BAD},
        {"Cache-Control: max-age:3600\r\n", BAD},
        {"Cache-Control: max-age\r\nCache-Control: =3600\r\n", BAD},
        {"Cache-Control: xmax-age=3600\r\n", NO},
        {"Cache-Control: max-age2=3600\r\n", NO},
        {"Cache-Control: \"max-age=3600\"\r\n", NO},
        {"Cache-Control: =3600, max-age=1\r\n", 1},
        {"Cache-Control: @, max-age=1\r\n", 1},
        {"Cache-Control: extension=\"max-age=3600\", max-age=1\r\n", 1},
        {"Cache-Control: max-age=1, extension=\"max-age=3600\"\r\n", 1},
        {"Cache-Control: extension=\"a, max-age=3600, b\"\r\n", NO},
        {"Cache-Control: extension=\"a\\\", max-age=3600\", max-age=1\r\n", 1},
        {"Cache-Control: extension=\"a\\\\\", max-age=1\r\n", 1},
        {"Cache-Control: a b \"c, max-age=3600\" d, max-age=1\r\n", 1},
        {"Pragma: max-age=1\r\nX-Cache-Control: max-age=1\r\n", NO},
    };
    static struct message message;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct directives_response response = response_of(&message, cases[i].fields);
        cr_assert_eq(response.max_age_s, in_table(cases[i].max_age), "%s: %u", cases[i].fields, response.max_age_s);
    }
}

Test(directives, behind_an_open_quote_only_restrictions_are_believed)
{
    static struct message message;
    struct directives_response response = response_of(
        &message, "Cache-Control: max-age=60, x=\"a, public, s-maxage=60, stale-if-error=60, immutable, no-store\r\n"
                  "Cache-Control: stale-while-revalidate=60, must-revalidate, private=\"a\", must-understand\r\n");
    cr_assert_eq(response.max_age_s, 60);
    cr_assert_eq(response.s_maxage_s, DIRECTIVES_INVALID);
    cr_assert_eq(response.stale_while_revalidate_s, DIRECTIVES_ABSENT);
    cr_assert_eq(response.stale_if_error_s, DIRECTIVES_ABSENT);
    cr_assert(!response.is_public && !response.is_immutable && !response.allows_authorized);
    cr_assert(!response.must_understand);
    cr_assert(response.no_store && response.must_revalidate && response.is_private);
    cr_assert_eq(response.named.count, 0);
}

Test(directives, restrictions_hold_however_they_are_spoiled_and_permissions_only_when_well_formed)
{
    static const char *const spoils[] = {"%s=1", "%s=", "%s =", "%s x", "%s;a", "%s=\"1\"", "%s\"", "%s=\"", "%s/"};
    static struct message message;
    for (size_t i = 0; i < COUNT(spoils); i++) {
        static const char *const names[] = {"No-Store",        "no-cache",         "private", "must-revalidate",
                                            "must-understand", "proxy-revalidate", "public",  "immutable"};
        char fields[512] = "";
        size_t length = 0;
        for (size_t j = 0; j < COUNT(names); j++) {
            length += (size_t)snprintf(fields + length, sizeof(fields) - length, "Cache-Control: ");
            length += (size_t)snprintf(fields + length, sizeof(fields) - length, spoils[i], names[j]);
            length += (size_t)snprintf(fields + length, sizeof(fields) - length, "\r\n");
        }
        struct directives_response response = response_of(&message, fields);
        bool is_named = response.named.count > 0; /* no-cache=1 is well-formed: it names a field */
        cr_assert(response.no_store && response.must_revalidate, "%s", fields);
        cr_assert(is_named || (response.no_cache && response.is_private), "%s", fields);
        cr_assert(!response.is_public && !response.is_immutable && !response.must_understand, "%s", fields);
        cr_assert(!response.allows_authorized, "%s", fields);
    }
}

Test(directives, a_response_that_says_all_is_heard)
{
    static struct message message;
    struct directives_response response = response_of(
        &message, "Cache-Control: PUBLIC, s-maxage=5, stale-while-revalidate=6, stale-if-error=\"7\", immutable\r\n"
                  "Cache-Control: must-understand, no-store\r\n");
    cr_assert_eq(response.max_age_s, DIRECTIVES_ABSENT);
    cr_assert_eq(response.s_maxage_s, 5);
    cr_assert_eq(response.stale_while_revalidate_s, 6);
    cr_assert_eq(response.stale_if_error_s, 7);
    cr_assert(response.is_public && response.is_immutable && response.must_understand && response.no_store);
    cr_assert(!response.no_cache && !response.is_private && !response.must_revalidate);
}

Test(directives, credentials_are_outweighed_by_public_must_revalidate_and_s_maxage_alone)
{
    static const struct {
        const char *value;
        bool allows;
    } cases[] = {
        {"public", true},          {"must-revalidate", true},
        {"s-maxage=0", true},      {"proxy-revalidate", true},
        {"max-age=1", false},      {"s-maxage=x", false},
        {"immutable", false},      {"s-maxage=x, s-maxage=1", false},
        {"no-cache=\"a\"", false}, {"public=1", false},
        {"x=\"public\"", false},
    };
    static struct message message;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char fields[128];
        snprintf(fields, sizeof(fields), "Cache-Control: %s\r\n", cases[i].value);
        cr_assert_eq(response_of(&message, fields).allows_authorized, cases[i].allows, "%s", cases[i].value);
    }
}

Test(directives, qualified_ones_name_fields)
{
    static struct message message;
    struct directives_response response =
        response_of(&message, "Cache-Control: no-cache=\"a, B\", private=\"Set-Cookie\", private=x-one\r\n");
    cr_assert(!response.no_cache && !response.is_private);
    cr_assert_eq(response.named.count, 3);
    cr_assert(directives_name_field(&response.named, BYTES("A")));
    cr_assert(directives_name_field(&response.named, BYTES("b")));
    cr_assert(directives_name_field(&response.named, BYTES("set-cookie")));
    cr_assert(directives_name_field(&response.named, BYTES("X-One")));
    cr_assert_not(directives_name_field(&response.named, BYTES("a, B")));
    cr_assert_not(directives_name_field(&response.named, BYTES("x-on")));
    cr_assert_not(directives_name_field(&response.named, BYTES("")));
}

Test(directives, qualified_ones_that_name_nothing_plain_or_too_much_are_unqualified)
{
    static const char *const values[] = {
        "private=\"\"",     "private=\" , \"",    "private=\"a b\"",
        "private=\"a\\b\"", "private=\"\"a\"",    "private=\"a;b\"",
        "private=\"a\"b",   "private=a, private", "private=a, private=b, private=c, private=d, private=e",
    };
    static struct message message;
    for (size_t i = 0; i < COUNT(values); i++) {
        char fields[128];
        snprintf(fields, sizeof(fields), "Cache-Control: %s\r\n", values[i]);
        cr_assert(response_of(&message, fields).is_private, "%s", values[i]);
    }
}

Test(directives, the_unqualified_one_holds_beside_the_qualified)
{
    static struct message message;
    cr_assert(response_of(&message, "Cache-Control: private, private=a\r\n").is_private);
    cr_assert(response_of(&message, "Cache-Control: private=a, private\r\n").is_private);
    cr_assert(response_of(&message, "Cache-Control: no-cache, no-cache=a\r\n").no_cache);
    cr_assert(response_of(&message, "Cache-Control: no-cache=a, no-cache\r\n").no_cache);
}

Test(directives, a_plain_request_asks_nothing)
{
    static struct message message;
    struct directives_request request = request_of(&message, "Accept: */*\r\nCookie: a=b\r\n");
    cr_assert_not(request.has_any);
    cr_assert_not(request.has_authorization);
    cr_assert_eq(request.max_age_s, DIRECTIVES_ABSENT);
    cr_assert(request_of(&message, "Authorization: x\r\n").has_authorization);
}

Test(directives, requests_are_read_and_what_cannot_be_read_is_void)
{
    static const struct {
        const char *fields;
        int64_t max_age, min_fresh, max_stale, stale_if_error;
        const char *flags; /* of "csoa": no-cache, no-store, only-if-cached, has_any */
    } cases[] = {
        {"Cache-Control: max-age=0\r\n", 0, NO, NO, NO, "a"},
        {"Cache-Control: max-age=\"10\", min-fresh=5\r\n", 10, 5, NO, NO, "a"},
        {"Cache-Control: max-stale\r\n", NO, NO, 2147483648, NO, "a"},
        {"Cache-Control: max-stale=7\r\n", NO, NO, 7, NO, "a"},
        {"Cache-Control: max-stale=x\r\n", NO, NO, NO, NO, ""},
        {"Cache-Control: max-stale=\r\n", NO, NO, NO, NO, ""},
        {"Cache-Control: max-stale, max-stale=1\r\n", NO, NO, 2147483648, NO, "a"},
        {"Cache-Control: stale-if-error=99999999999\r\n", NO, NO, NO, 2147483648, "a"},
        {"Cache-Control: max-age=-1, min-fresh=1.5\r\n", NO, NO, NO, NO, ""},
        {"Cache-Control: NO-CACHE\r\n", NO, NO, NO, NO, "ca"},
        {"Cache-Control: no-cache=x\r\n", NO, NO, NO, NO, "ca"},
        {"Cache-Control: no-store\r\n", NO, NO, NO, NO, "sa"},
        {"Cache-Control: only-if-cached\r\n", NO, NO, NO, NO, "oa"},
        {"Cache-Control: x=\"no-cache\"\r\n", NO, NO, NO, NO, ""},
        {"Cache-Control: x\r\nCache-Control: no-cache, no-store\r\n", NO, NO, NO, NO, "csa"},
        {"Cache-Control: s-maxage=1, private, must-revalidate\r\n", NO, NO, NO, NO, ""},
        {"Pragma: no-cache\r\n", NO, NO, NO, NO, "ca"},
        {"Pragma: x\r\nPragma: y=\",\", No-Cache\r\n", NO, NO, NO, NO, "ca"},
        {"Pragma: unrecognised-extension\r\n", NO, NO, NO, NO, ""},
        {"Pragma: no-cache=1\r\n", NO, NO, NO, NO, ""},
        {"Pragma: no-cache\r\nCache-Control: max-age=5\r\n", 5, NO, NO, NO, "a"},
        {"Pragma: no-cache\r\nCache-Control:\r\n", NO, NO, NO, NO, ""},
    };
    static struct message message;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct directives_request request = request_of(&message, cases[i].fields);
        cr_assert_eq(request.max_age_s, in_table(cases[i].max_age), "%s", cases[i].fields);
        cr_assert_eq(request.min_fresh_s, in_table(cases[i].min_fresh), "%s", cases[i].fields);
        cr_assert_eq(request.max_stale_s, in_table(cases[i].max_stale), "%s", cases[i].fields);
        cr_assert_eq(request.stale_if_error_s, in_table(cases[i].stale_if_error), "%s", cases[i].fields);
        cr_assert_eq(request.no_cache, strchr(cases[i].flags, 'c') != NULL, "%s", cases[i].fields);
        cr_assert_eq(request.no_store, strchr(cases[i].flags, 's') != NULL, "%s", cases[i].fields);
        cr_assert_eq(request.only_if_cached, strchr(cases[i].flags, 'o') != NULL, "%s", cases[i].fields);
        cr_assert_eq(request.has_any, strchr(cases[i].flags, 'a') != NULL, "%s", cases[i].fields);
    }
}

Test(directives, a_targeted_field_is_a_dictionary_or_nothing)
{
    static const struct {
        const char *value;
        bool is_valid;
        int64_t max_age;
        const char *flags; /* of "spcm": no-store, private, no-cache, must-revalidate */
    } cases[] = {
        {"max-age=3600", true, 3600, ""},
        {"max-age=2147483648", true, 2147483648, ""},
        {"max-age=99999999999", true, 2147483648, ""},
        {"max-age=999999999999999", true, 2147483648, ""},
        {"max-age=9999999999999999", false, 0, ""},
        {"foobar, max-age=3600", true, 3600, ""},
        {"foo", true, NO, ""},
        {"foo=\"a, b\", max-age=1;x=y;z", true, 1, ""},
        {"max-age=1, max-age=2", true, 2, ""},
        {"max-age=x, max-age=2", true, 2, ""},
        {"max-age=2, max-age=x", true, BAD, ""},
        {"no-store, private, no-cache, must-revalidate", true, NO, "spcm"},
        {"no-store=?0, private=?0, no-cache=?0, proxy-revalidate=?0", true, NO, ""},
        {"no-store, no-store=?0", true, NO, ""},
        {"no-store=?0, no-store", true, NO, "s"},
        {"no-store=1, private=2, no-cache=(a b), must-revalidate=x", true, NO, "spcm"},
        {"max-age=\"10000\"", true, BAD, ""},
        {"max-age=10.0", true, BAD, ""},
        {"max-age=-1", true, BAD, ""},
        {"max-age", true, BAD, ""},
        {"max-age=?0", true, NO, ""},
        {"", false, 0, ""},
        {"max-age=10000, &&&&&", false, 0, ""},
        {"max-age =100", false, 0, ""},
        {"max-age= 100", false, 0, ""},
        {"MaX-aGe=3600", false, 0, ""},
        {"max-age=100,", false, 0, ""},
        {",max-age=100", false, 0, ""},
        {"max-age=+100", false, 0, ""},
        {"max-age='100'", false, 0, ""},
        {"max-age=100a", false, 0, ""},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct directives_response response;
        cr_assert_eq(targeted(cases[i].value, DIRECTIVES_DICTIONARY, &response), cases[i].is_valid, "%s",
                     cases[i].value);
        if (cases[i].is_valid) {
            cr_assert_eq(response.max_age_s, in_table(cases[i].max_age), "%s", cases[i].value);
            cr_assert_eq(response.no_store, strchr(cases[i].flags, 's') != NULL, "%s", cases[i].value);
            cr_assert_eq(response.is_private, strchr(cases[i].flags, 'p') != NULL, "%s", cases[i].value);
            cr_assert_eq(response.no_cache, strchr(cases[i].flags, 'c') != NULL, "%s", cases[i].value);
            cr_assert_eq(response.must_revalidate, strchr(cases[i].flags, 'm') != NULL, "%s", cases[i].value);
        }
    }
}

Test(directives, a_targeted_field_of_several_lines_is_one_dictionary)
{
    static struct message message;
    struct directives_response response;
    const struct http_head *head =
        message_response(&message, 200, "X-T: max-age=1\r\nx-t:\r\nX-T: private=\"a\", max-age=2\r\n");
    cr_assert(directives_read_targeted(head, message.text, BYTES("X-T"), DIRECTIVES_DICTIONARY, &response));
    cr_assert_eq(response.max_age_s, 2);
    cr_assert_eq(response.named.count, 1);
    cr_assert_not(directives_read_targeted(head, message.text, BYTES("X-U"), DIRECTIVES_DICTIONARY, &response));
    head = message_response(&message, 200, "X-T: max-age=1\r\nX-T: &\r\n");
    cr_assert_not(directives_read_targeted(head, message.text, BYTES("X-T"), DIRECTIVES_DICTIONARY, &response));
}

Test(directives, a_surrogate_field_has_its_own_manners)
{
    static const struct {
        const char *value;
        bool is_valid;
        int64_t max_age;
        int64_t stale;
        bool no_store;
    } cases[] = {
        {"max-age=3600", true, 3600, NO, false},
        {"max-age=3600+600", true, 3600, 600, false},
        {"max-age=3600+", true, 3600, NO, false},
        {"max-age=+600", true, BAD, 600, false},
        {"no-store, content=\"ESI/1.0\"", true, NO, NO, true},
        {"no-store-remote", true, NO, NO, true},
        {"content=\"ESI/1.0\"", false, 0, 0, false},
        {"max-age=60;other, max-age=5", true, 5, NO, false},
        {"no-store;other", false, 0, 0, false},
        {"private", false, 0, 0, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct directives_response response;
        cr_assert_eq(targeted(cases[i].value, DIRECTIVES_SURROGATE, &response), cases[i].is_valid, "%s",
                     cases[i].value);
        if (cases[i].is_valid) {
            cr_assert_eq(response.max_age_s, in_table(cases[i].max_age), "%s", cases[i].value);
            cr_assert_eq(response.stale_while_revalidate_s, in_table(cases[i].stale), "%s", cases[i].value);
            cr_assert_eq(response.no_store, cases[i].no_store, "%s", cases[i].value);
        }
    }
}

Test(directives, a_targeted_field_may_be_a_plain_list)
{
    struct directives_response response;
    cr_assert(targeted("MAX-AGE=\"5\", private=\"a\"", DIRECTIVES_LIST, &response));
    cr_assert_eq(response.max_age_s, 5);
    cr_assert_eq(response.named.count, 1);
    cr_assert_not(targeted(" , ", DIRECTIVES_LIST, &response));
}
