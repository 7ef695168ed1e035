/* The common head, read in one go: a request of a common method in origin-form that is all there, and nothing in it
 * that needs judgement beyond a field's own. Most are like that, and cost less than half of what they cost byte by byte
 * (callgrind, GET with Host: 1,460 instructions by llhttp, 480 here).
 *
 * Whatever is not plainly right is left to llhttp, from its first byte, so that there is one judge of what is wrong and
 * what is said about it. tests/fuzz/http_request.c holds the two against each other: whole it is read here, cut in
 * pieces there. */
#include "http/chars.h"
#include "http/internal.h"
#include "http/uri.h"

struct scan {
    struct http_parser *parser;
    const char *base;
    const char *at;
    const char *end;
};

enum { LINE_BYTES_MIN = 14 }; /* of a request line, "GET / HTTP/1.1" */

/* Compares as many bytes as the literal has, the space behind it included: a comparison of words. */
#define METHOD(literal, id)                                      \
    if (memcmp(scan->base, literal " ", sizeof(literal)) == 0) { \
        return set_method(scan, id, sizeof(literal) - 1);        \
    }

static bool set_method(struct scan *scan, uint8_t method, uint32_t bytes)
{
    struct http_head *head = &scan->parser->head;
    head->method = method;
    head->method_at = 0;
    head->method_bytes = bytes;
    scan->at = scan->base + bytes + 1;
    return true;
}

static bool scan_method(struct scan *scan)
{
    if (scan->end - scan->base < LINE_BYTES_MIN) {
        return false;
    }
    METHOD("GET", HTTP_GET)
    METHOD("POST", HTTP_POST)
    METHOD("HEAD", HTTP_HEAD)
    METHOD("PUT", HTTP_PUT)
    METHOD("DELETE", HTTP_DELETE)
    METHOD("PATCH", HTTP_PATCH)
    return false;
}

static bool scan_target(struct scan *scan)
{
    struct http_parser *parser = scan->parser;
    struct http_head *head = &parser->head;
    const char *at = scan->at;
    if (*at != '/') {
        return false;
    }
    while (at < scan->end && char_is(*at, CHAR_TARGET)) {
        at++;
    }
    size_t bytes = (size_t)(at - scan->at);
    if (bytes > parser->limits.target_bytes_max) {
        return false;
    }
    head->target_at = (uint32_t)(scan->at - scan->base);
    head->target_bytes = (uint32_t)bytes;
    scan->at = at;
    return http_target_parse(false, false, http_head_target(head, scan->base), &parser->target) == RESULT_OK;
}

static bool scan_version(struct scan *scan)
{
    const size_t bytes = sizeof(" HTTP/1.x\r\n") - 1;
    if ((size_t)(scan->end - scan->at) < bytes || memcmp(scan->at, " HTTP/1.", 8) != 0 ||
        memcmp(scan->at + 9, "\r\n", 2) != 0 || (scan->at[8] != '0' && scan->at[8] != '1')) {
        return false;
    }
    scan->parser->head.version_minor = (uint8_t)(scan->at[8] - '0');
    scan->at += bytes;
    return true;
}

/* Has the top bit of the first byte set that is below ' ' or DEL; bytes behind that one may be marked, too. */
static inline uint64_t controls(uint64_t word)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t is_low = (word - ones * ' ') & ~word;
    uint64_t deleted = word ^ ones * 0x7f;
    uint64_t is_delete = (deleted - ones) & ~deleted;
    return (is_low | is_delete) & ones << 7;
}

/* The first byte that is no text (RFC 9110 §5.5: HTAB, SP, VCHAR, obs-text), or `end`. */
static const char *skip_text(const char *at, const char *end)
{
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, sizeof(word));
        if (controls(word) != 0) {
            break;
        }
        at += 8;
    }
    while (at < end && char_is(*at, CHAR_TEXT)) {
        at++;
    }
    return at;
}

/* One field line. */
static bool scan_field(struct scan *scan)
{
    struct http_parser *parser = scan->parser;
    struct http_head *head = &parser->head;
    const char *name = scan->at;
    const char *end = scan->end;
    const char *at = name;
    if (head->field_count >= parser->limits.fields_max) {
        return false;
    }
    while (at < end && char_is(*at, CHAR_TOKEN)) {
        at++;
    }
    if (at == name || at == end || *at != ':') {
        return false;
    }
    parser->name_bytes = (uint32_t)(at - name);
    at++;
    while (at < end && (*at == ' ' || *at == '\t')) {
        at++;
    }
    const char *value = at;
    at = skip_text(at, end);
    if (end - at < 2 || at[0] != '\r' || at[1] != '\n') {
        return false;
    }
    struct http_field *field = &head->fields[head->field_count];
    field->name_at = (uint32_t)(name - scan->base);
    field->value_at = (uint32_t)(value - scan->base);
    field->value_bytes = (uint32_t)(at - value);
    scan->at = at + 2;
    return http_head_add_field(parser) && field->id != HTTP_FIELD_TRANSFER_ENCODING;
}

bool http_scan_request(struct http_parser *parser, const char *base, size_t bytes)
{
    struct scan scan = {parser, base, base, base + bytes};
    if (!scan_method(&scan) || !scan_target(&scan) || !scan_version(&scan)) {
        return false;
    }
    for (;;) {
        if (scan.end - scan.at < 2) {
            return false;
        }
        if (scan.at[0] == '\r') {
            break;
        }
        if (!scan_field(&scan)) {
            return false;
        }
    }
    if (scan.at[1] != '\n' || !http_head_finish(parser)) {
        return false;
    }
    parser->head.head_bytes = (uint32_t)(scan.at + 2 - base);
    return true;
}
