#include "cache/range.h"

#include "base/check.h"
#include "cache/lines.h"
#include "http/date.h"

/* ---- what is asked ---- */

/* Digits at the front of *text as a number, saturated: a position beyond all bytes is one however far. False when there
 * are none. */
static bool take_number(struct bytes *text, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t digits = 0;
    for (; digits < text->len && text->ptr[digits] >= '0' && text->ptr[digits] <= '9'; digits++) {
        uint64_t digit = (uint64_t)(text->ptr[digits] - '0');
        if (__builtin_mul_overflow(number, UINT64_C(10), &number) || __builtin_add_overflow(number, digit, &number)) {
            number = UINT64_MAX;
        }
    }
    text->ptr += digits;
    text->len -= digits;
    *ret_number = number;
    return digits > 0;
}

static bool take_char(struct bytes *text, char c)
{
    if (text->len == 0 || text->ptr[0] != c) {
        return false;
    }
    text->ptr++;
    text->len--;
    return true;
}

/* Reads one range-spec (RFC 9110 §14.1.1). False: malformed. *ret_any: it names bytes that are there. */
static bool read_spec(struct bytes spec, uint64_t complete_bytes, struct range *ret_range, bool *ret_any)
{
    uint64_t first;
    uint64_t last = UINT64_MAX;
    if (take_char(&spec, '-')) {
        uint64_t suffix_bytes;
        if (!take_number(&spec, &suffix_bytes) || spec.len > 0) {
            return false;
        }
        first = suffix_bytes < complete_bytes ? complete_bytes - suffix_bytes : 0;
        *ret_any = suffix_bytes > 0;
    } else {
        if (!take_number(&spec, &first) || !take_char(&spec, '-')) {
            return false;
        }
        if (spec.len > 0 && (!take_number(&spec, &last) || spec.len > 0 || last < first)) {
            return false;
        }
        *ret_any = first < complete_bytes;
    }
    *ret_range = (struct range){first, last < complete_bytes ? last : complete_bytes - 1};
    return true;
}

static bool touch(struct range a, struct range b)
{
    return a.first <= b.last + 1 && b.first <= a.last + 1;
}

static struct range joined(struct range a, struct range b)
{
    return (struct range){a.first < b.first ? a.first : b.first, a.last > b.last ? a.last : b.last};
}

/* Adds a range in the place of the first that it touches, and takes the others that it then touches into it. The set
 * stays free of overlaps, so that no byte is sent twice. */
static void add_range(struct range_set *set, struct range range)
{
    unsigned place = set->count;
    for (unsigned i = 0; i < set->count;) {
        if (!touch(set->ranges[i], range)) {
            i++;
            continue;
        }
        range = joined(set->ranges[i], range);
        place = i < place ? i : place;
        set->count--;
        memmove(&set->ranges[i], &set->ranges[i + 1], (set->count - i) * sizeof(range));
        i = 0; /* it has grown: one that was passed may touch it now */
    }
    place = place < set->count ? place : set->count;
    memmove(&set->ranges[place + 1], &set->ranges[place], (set->count - place) * sizeof(range));
    set->ranges[place] = range;
    set->count++;
}

enum range_outcome range_resolve(struct bytes value, uint64_t complete_bytes, struct range_set *ret_set)
{
    struct bytes unit = BYTES("bytes=");
    if (value.len < unit.len || !bytes_equal_nocase((struct bytes){value.ptr, unit.len}, unit)) {
        return RANGE_WHOLE;
    }
    struct bytes list = {value.ptr + unit.len, value.len - unit.len};
    struct bytes spec;
    struct range_set set = {0};
    unsigned specs = 0;
    while (bytes_next_item(&list, &spec)) {
        struct range range;
        bool any;
        if (++specs > RANGE_COUNT_MAX || !read_spec(spec, complete_bytes, &range, &any)) {
            return RANGE_WHOLE;
        }
        if (any && complete_bytes == 0) { /* the last none of no bytes: satisfiable, but not to be written as a range */
            return RANGE_WHOLE;
        }
        if (any) {
            add_range(&set, range);
        }
    }
    if (set.count == 0) {
        return specs == 0 ? RANGE_WHOLE : RANGE_UNSATISFIABLE;
    }
    *ret_set = set;
    return RANGE_SATISFIABLE;
}

/* The only value of a field that may be there once; empty when it is not, or more than once. */
static struct bytes only_value(const struct http_head *head, const char *base, struct bytes name, bool *ret_present)
{
    struct head_values values = head_values(head, base, name);
    struct bytes value = BYTES("");
    struct bytes another;
    *ret_present = head_next_value(&values, &value);
    return head_next_value(&values, &another) ? BYTES("") : value;
}

struct bytes range_of_request(const struct http_head *request, const char *base)
{
    bool present;
    return request->first[HTTP_FIELD_RANGE] == 0 ? BYTES("") : only_value(request, base, BYTES("Range"), &present);
}

bool range_if_range_holds(const struct http_head *request, const char *base, const struct validators *stored,
                          int64_t now_ms)
{
    bool present;
    struct bytes value = only_value(request, base, BYTES("If-Range"), &present);
    int64_t unix_s;
    if (!present) {
        return true;
    }
    if (!http_date_parse(value, now_ms / 1000, &unix_s)) {
        return etag_equal_strong(value, stored->etag);
    }
    return validators_date_is_strong(stored) && unix_s == stored->last_modified_ms / 1000;
}

/* ---- how it is answered ---- */

static char *put_number(char *at, uint64_t number)
{
    return at + bytes_put_u64(at, number);
}

static size_t number_bytes(uint64_t number)
{
    char digits[20];
    return bytes_put_u64(digits, number);
}

char *range_put_content_range(char *at, struct range range, uint64_t complete_bytes)
{
    at = bytes_put(at, BYTES("Content-Range: bytes "));
    at = put_number(at, range.first);
    *at++ = '-';
    at = put_number(at, range.last);
    *at++ = '/';
    at = put_number(at, complete_bytes);
    return bytes_put(at, BYTES("\r\n"));
}

char *range_put_unsatisfied(char *at, uint64_t complete_bytes)
{
    at = bytes_put(at, BYTES("Content-Range: bytes */"));
    at = put_number(at, complete_bytes);
    return bytes_put(at, BYTES("\r\n"));
}

bool range_keep_in_206(const void *is_multipart, struct bytes name)
{
    return !bytes_equal_nocase(name, BYTES("Content-Range")) && !bytes_equal_nocase(name, BYTES("Content-Length")) &&
           !(*(const bool *)is_multipart && bytes_equal_nocase(name, BYTES("Content-Type")));
}

static size_t content_range_bytes(struct range range, uint64_t complete_bytes)
{
    return BYTES("Content-Range: bytes -/\r\n").len + number_bytes(range.first) + number_bytes(range.last) +
           number_bytes(complete_bytes);
}

char *range_put_multipart_type(char *at, struct bytes boundary)
{
    at = bytes_put(at, BYTES("Content-Type: multipart/byteranges; boundary="));
    at = bytes_put(at, boundary);
    return bytes_put(at, BYTES("\r\n"));
}

static const struct bytes content_type_name = {"Content-Type", 12};

size_t range_part_head_bytes(const struct range_multipart *multipart, unsigned index)
{
    size_t bytes = (index > 0 ? 2U : 0U) + 2 + multipart->boundary.len + 2;
    if (multipart->content_type.len > 0) {
        bytes += lines_line_bytes(content_type_name, multipart->content_type);
    }
    return bytes + content_range_bytes(multipart->set->ranges[index], multipart->complete_bytes) + 2;
}

char *range_put_part_head(char *at, const struct range_multipart *multipart, unsigned index)
{
    at = bytes_put(at, index > 0 ? BYTES("\r\n--") : BYTES("--"));
    at = bytes_put(at, multipart->boundary);
    at = bytes_put(at, BYTES("\r\n"));
    if (multipart->content_type.len > 0) {
        at = lines_put_line(at, content_type_name, multipart->content_type);
    }
    at = range_put_content_range(at, multipart->set->ranges[index], multipart->complete_bytes);
    return bytes_put(at, BYTES("\r\n"));
}

size_t range_multipart_end_bytes(const struct range_multipart *multipart)
{
    return multipart->boundary.len + BYTES("\r\n----\r\n").len;
}

char *range_put_multipart_end(char *at, const struct range_multipart *multipart)
{
    at = bytes_put(at, BYTES("\r\n--"));
    at = bytes_put(at, multipart->boundary);
    return bytes_put(at, BYTES("--\r\n"));
}

uint64_t range_multipart_bytes(const struct range_multipart *multipart)
{
    uint64_t bytes = range_multipart_end_bytes(multipart);
    for (unsigned i = 0; i < multipart->set->count; i++) {
        bytes += range_part_head_bytes(multipart, i) + range_bytes(multipart->set->ranges[i]);
    }
    return bytes;
}
