#include "http/http.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>

static const struct {
    const char *name;
    enum http_field_id id;
} KNOWN[] = {
    {"Accept-Encoding", HTTP_FIELD_ACCEPT_ENCODING},
    {"Age", HTTP_FIELD_AGE},
    {"Authorization", HTTP_FIELD_AUTHORIZATION},
    {"Cache-Control", HTTP_FIELD_CACHE_CONTROL},
    {"Connection", HTTP_FIELD_CONNECTION},
    {"Content-Encoding", HTTP_FIELD_CONTENT_ENCODING},
    {"Content-Length", HTTP_FIELD_CONTENT_LENGTH},
    {"Content-Location", HTTP_FIELD_CONTENT_LOCATION},
    {"Content-Range", HTTP_FIELD_CONTENT_RANGE},
    {"Content-Type", HTTP_FIELD_CONTENT_TYPE},
    {"Cookie", HTTP_FIELD_COOKIE},
    {"Date", HTTP_FIELD_DATE},
    {"ETag", HTTP_FIELD_ETAG},
    {"Expect", HTTP_FIELD_EXPECT},
    {"Expires", HTTP_FIELD_EXPIRES},
    {"Forwarded", HTTP_FIELD_FORWARDED},
    {"Host", HTTP_FIELD_HOST},
    {"If-Match", HTTP_FIELD_IF_MATCH},
    {"If-Modified-Since", HTTP_FIELD_IF_MODIFIED_SINCE},
    {"If-None-Match", HTTP_FIELD_IF_NONE_MATCH},
    {"If-Range", HTTP_FIELD_IF_RANGE},
    {"If-Unmodified-Since", HTTP_FIELD_IF_UNMODIFIED_SINCE},
    {"Keep-Alive", HTTP_FIELD_KEEP_ALIVE},
    {"Last-Modified", HTTP_FIELD_LAST_MODIFIED},
    {"Pragma", HTTP_FIELD_PRAGMA},
    {"Proxy-Authenticate", HTTP_FIELD_PROXY_AUTHENTICATE},
    {"Proxy-Authorization", HTTP_FIELD_PROXY_AUTHORIZATION},
    {"Proxy-Connection", HTTP_FIELD_PROXY_CONNECTION},
    {"Range", HTTP_FIELD_RANGE},
    {"Retry-After", HTTP_FIELD_RETRY_AFTER},
    {"Server", HTTP_FIELD_SERVER},
    {"Set-Cookie", HTTP_FIELD_SET_COOKIE},
    {"TE", HTTP_FIELD_TE},
    {"Trailer", HTTP_FIELD_TRAILER},
    {"Transfer-Encoding", HTTP_FIELD_TRANSFER_ENCODING},
    {"Upgrade", HTTP_FIELD_UPGRADE},
    {"Vary", HTTP_FIELD_VARY},
    {"Via", HTTP_FIELD_VIA},
    {"X-Api-Key", HTTP_FIELD_X_API_KEY},
    {"X-Forwarded-For", HTTP_FIELD_X_FORWARDED_FOR},
    {"X-Forwarded-Host", HTTP_FIELD_X_FORWARDED_HOST},
    {"X-Forwarded-Proto", HTTP_FIELD_X_FORWARDED_PROTO},
    {"X-Request-Id", HTTP_FIELD_X_REQUEST_ID},
};

Test(http, every_known_field_is_known_in_any_letters_and_no_neighbour_is)
{
    cr_assert_eq(sizeof(KNOWN) / sizeof(KNOWN[0]) + 1, HTTP_FIELD_COUNT);
    for (size_t i = 0; i < sizeof(KNOWN) / sizeof(KNOWN[0]); i++) {
        char name[32];
        size_t length = strlen(KNOWN[i].name);
        cr_assert_eq(http_field_id(bytes_from(KNOWN[i].name)), KNOWN[i].id, "%s", KNOWN[i].name);
        for (size_t j = 0; j < length; j++) {
            strcpy(name, KNOWN[i].name);
            name[j] = (char)(islower(name[j]) ? toupper(name[j]) : tolower(name[j]));
            cr_assert_eq(http_field_id(bytes_from(name)), KNOWN[i].id, "%s", name);
            name[j] = name[j] == '-' ? '_' : '!';
            cr_assert_eq(http_field_id(bytes_from(name)), HTTP_FIELD_OTHER, "%s", name);
        }
        strcpy(name, KNOWN[i].name);
        cr_assert_eq(http_field_id((struct bytes){name, length - 1}), HTTP_FIELD_OTHER, "%s", name);
        strcat(name, "x");
        cr_assert_eq(http_field_id(bytes_from(name)), HTTP_FIELD_OTHER, "%s", name);
    }
    cr_assert_eq(http_field_id(BYTES("")), HTTP_FIELD_OTHER);
}

Test(http, status_lines_and_reasons_agree)
{
    cr_assert(bytes_equal(http_status_line(200), BYTES("HTTP/1.1 200 OK\r\n")));
    cr_assert(bytes_equal(http_reason(200), BYTES("OK")));
    cr_assert(bytes_equal(http_reason(431), BYTES("Request Header Fields Too Large")));
    cr_assert_null(http_status_line(599).ptr);
    cr_assert(bytes_equal(http_reason(599), BYTES("Unknown")));
    cr_assert(bytes_equal(http_reason(0), BYTES("Unknown")));
    for (unsigned status = 0; status < 1000; status++) {
        char line[128];
        struct bytes reason = http_reason(status);
        if (http_status_line(status).ptr != NULL) {
            snprintf(line, sizeof(line), "HTTP/1.1 %u %.*s\r\n", status, BYTES_ARG(reason));
            cr_assert(bytes_equal(http_status_line(status), bytes_from(line)), "%s", line);
        }
    }
}
