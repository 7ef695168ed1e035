/* Any bytes as the value of a field that the cache reads: directives in every syntax, a dictionary, a date, an age.
 * What must hold whichever they are:
 * - slices lie inside the value, and a dictionary that is accepted, written again, reads the same;
 * - a restriction is never lost by adding to the list, neither in front nor behind;
 * - what a naive reader finds forbidden in a plain list is forbidden;
 * - a date that is accepted, written again, is the same second;
 * - no lifetime or age is negative, and what must not be used stale is not.
 * A broken promise aborts. The first byte chooses the field, the rest is its value. */
#include <stdio.h>
#include <stdlib.h>

#include "cache/storing.h"
#include "http/date.h"
#include "http/structured.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

enum { VALUE_BYTES_MAX = 1024 };

static const int64_t NOW_MS = INT64_C(1760000000000);

static const char *const NAMES[] = {
    "Cache-Control", "CDN-Cache-Control", "Surrogate-Control", "Expires", "Age", "Date", "Last-Modified", "Vary",
    "Pragma"};

static struct http_parser parser;
static char text[2 * VALUE_BYTES_MAX];

/* Gives the head with the field in it, or NULL when the value cannot be one: then the parser refuses it. */
static const struct http_head *head_with(enum llhttp_type kind, const char *before, const char *name,
                                         struct bytes value, const char *behind)
{
    static const struct http_limits limits = {.head_bytes_max = 4096, .target_bytes_max = 200, .fields_max = 24};
    const char *start = kind == HTTP_REQUEST ? "GET / HTTP/1.1\r\nHost: a\r\n" : "HTTP/1.1 200 OK\r\n";
    char *at = bytes_put(text, bytes_from(start));
    at = bytes_put(at, bytes_from(name));
    at = bytes_put(bytes_put(at, BYTES(": ")), bytes_from(before));
    at = bytes_put(bytes_put(at, value), bytes_from(behind));
    at = bytes_put(at, BYTES("\r\n\r\n"));
    size_t length = (size_t)(at - text);
    http_parser_init(&parser, kind, &limits);
    bool is_head = http_parse_head(&parser, text, length) == RESULT_OK && parser.head.head_bytes == length;
    return is_head ? &parser.head : NULL;
}

static void check_inside(struct bytes part, struct bytes whole)
{
    MUST(part.ptr >= whole.ptr && part.len <= whole.len && (size_t)(part.ptr - whole.ptr) <= whole.len - part.len);
}

static bool same_member(const struct structured_member *a, const struct structured_member *b)
{
    return bytes_equal(a->key, b->key) && a->type == b->type && a->integer == b->integer && a->boolean == b->boolean &&
           bytes_equal(a->text, b->text);
}

/* Writes a member without parameters, and reads it again. */
static void check_member(const struct structured_member *member)
{
    static char again[VALUE_BYTES_MAX + 8];
    char *at = bytes_put(again, member->key);
    if (member->text.len > 0 || member->type != STRUCTURED_BOOLEAN) {
        *at++ = '=';
        at = bytes_put(at, member->type == STRUCTURED_STRING       ? BYTES("\"")
                           : member->type == STRUCTURED_INNER_LIST ? BYTES("(")
                           : member->type == STRUCTURED_BYTES      ? BYTES(":")
                                                                   : BYTES(""));
        at = bytes_put(at, member->text);
        at = bytes_put(at, member->type == STRUCTURED_STRING       ? BYTES("\"")
                           : member->type == STRUCTURED_INNER_LIST ? BYTES(")")
                           : member->type == STRUCTURED_BYTES      ? BYTES(":")
                                                                   : BYTES(""));
    }
    struct bytes rest = {again, (size_t)(at - again)};
    struct structured_member read;
    MUST(structured_next_member(&rest, &read) == STRUCTURED_MEMBER && rest.len == 0 && same_member(member, &read));
}

static void check_dictionary(struct bytes value)
{
    struct bytes rest = value;
    struct structured_member member;
    enum structured_step step;
    while ((step = structured_next_member(&rest, &member)) == STRUCTURED_MEMBER) {
        check_inside(member.key, value);
        MUST(member.key.len > 0);
        if (member.text.len > 0) {
            check_inside(member.text, value);
        }
        MUST(member.integer > -INT64_C(1000000000000000) && member.integer < INT64_C(1000000000000000));
        check_member(&member);
    }
    MUST(step == STRUCTURED_FAILED || rest.len == 0);
}

static void check_date(struct bytes value)
{
    int64_t unix_s;
    int64_t again_s;
    char written[HTTP_DATE_BYTES];
    if (!http_date_parse(value, NOW_MS / 1000, &unix_s) || unix_s < 0 || unix_s > INT64_C(253402300799)) {
        return;
    }
    http_date_format(unix_s, written);
    MUST(http_date_parse((struct bytes){written, HTTP_DATE_BYTES}, NOW_MS / 1000, &again_s) && again_s == unix_s);
}

/* Whether a list without quotes has the item, as the simplest reader would look for it. */
static bool plainly_has(struct bytes value, struct bytes name)
{
    struct bytes item;
    if (value.len == 0 || memchr(value.ptr, '"', value.len) != NULL) {
        return false;
    }
    while (bytes_next_item(&value, &item)) {
        if (bytes_equal_nocase(item, name)) {
            return true;
        }
    }
    return false;
}

static struct directives_response read_list(const char *before, struct bytes value, const char *behind)
{
    struct directives_response response = {0};
    const struct http_head *head = head_with(HTTP_RESPONSE, before, "Cache-Control", value, behind);
    MUST(head != NULL);
    directives_read_response(head, text, &response);
    MUST(response.named.count <= DIRECTIVES_LISTS_MAX);
    for (unsigned i = 0; i < response.named.count; i++) {
        check_inside(response.named.lists[i], (struct bytes){text, sizeof(text)});
    }
    return response;
}

static void check_list(struct bytes value)
{
    struct directives_response alone = read_list("", value, "");
    MUST(!plainly_has(value, BYTES("no-store")) || alone.no_store);
    MUST(!plainly_has(value, BYTES("no-cache")) || alone.no_cache);
    MUST(!plainly_has(value, BYTES("private")) || alone.is_private);
    MUST(!alone.is_public || alone.allows_authorized);
    MUST(alone.max_age_s <= DIRECTIVES_SECONDS_MAX || alone.max_age_s >= DIRECTIVES_INVALID);
    struct directives_response more = read_list("x=1, ", value, "");
    MUST(more.no_store == alone.no_store && more.no_cache == alone.no_cache && more.is_private == alone.is_private);
    MUST(more.max_age_s == alone.max_age_s && more.s_maxage_s == alone.s_maxage_s);
    more = read_list("max-age=7, ", value, "");
    MUST(more.max_age_s == 7);
    more = read_list("", value, "\r\nCache-Control: no-store, no-cache, private");
    MUST(more.no_store && more.no_cache && more.is_private && more.max_age_s == alone.max_age_s);
}

static void check_use(const struct freshness *freshness, const struct directives_request *request)
{
    for (int64_t after_ms = 0; after_ms < INT64_C(8000000000000); after_ms = after_ms * 3 + 1000) {
        int64_t now_ms = NOW_MS + after_ms;
        enum freshness_use use = freshness_decide(freshness, request, now_ms, NULL);
        bool on_error = freshness_allows_on_error(freshness, request, now_ms);
        bool is_stale = freshness_ttl_ms(freshness, now_ms) <= 0;
        MUST(freshness_age_ms(freshness, now_ms) >= after_ms);
        MUST(!freshness->no_cache || (use >= FRESHNESS_VALIDATE && !on_error));
        MUST(!(freshness->must_revalidate && is_stale) || (use >= FRESHNESS_VALIDATE && !on_error));
        MUST(!request->no_cache || use >= FRESHNESS_VALIDATE);
        MUST(use != FRESHNESS_FRESH || !is_stale);
    }
}

static void check_verdict(const char *name, struct bytes value)
{
    static const struct storing_target targets[] = {{BYTES("CDN-Cache-Control"), DIRECTIVES_DICTIONARY},
                                                    {BYTES("Surrogate-Control"), DIRECTIVES_SURROGATE}};
    struct storing_policy policy = STORING_POLICY_DEFAULT;
    struct directives_request request;
    struct storing_verdict verdict;
    policy.targets = targets;
    policy.target_count = 2;
    const struct http_head *head = head_with(HTTP_REQUEST, "", name, value, "");
    MUST(head != NULL);
    directives_read_request(head, text, &request);
    head = head_with(HTTP_RESPONSE, "", name, value, "");
    struct storing_exchange exchange = {
        .request = &request, .response = head, .base = text, .request_ms = NOW_MS, .response_ms = NOW_MS};
    storing_judge(&exchange, &policy, &verdict);
    MUST(verdict.freshness.lifetime_ms >= 0 && verdict.freshness.initial_age_ms >= 0);
    MUST(verdict.freshness.stale_while_revalidate_ms >= 0 && verdict.freshness.stale_if_error_ms >= 0);
    MUST(verdict.freshness.last_modified_ms >= -1 && verdict.freshness.date_ms >= 0);
    check_use(&verdict.freshness, &request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > VALUE_BYTES_MAX) {
        return 0;
    }
    struct bytes value = bytes_trim((struct bytes){(const char *)data + 1, size - 1});
    check_dictionary(value);
    check_date(value);
    if (value.len > 0 && memchr(value.ptr, '\r', value.len) != NULL) {
        return 0; /* more than one field */
    }
    if (head_with(HTTP_RESPONSE, "", "X", value, "") == NULL) {
        return 0;
    }
    check_list(value);
    check_verdict(NAMES[data[0] % (sizeof(NAMES) / sizeof(NAMES[0]))], value);
    return 0;
}
