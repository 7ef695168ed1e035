#include "cache/update.h"

#include "base/check.h"
#include "cache/lines.h"

bool update_selects(const struct validators *stored, const struct validators *received, bool is_ours)
{
    if (received->etag.len > 0 && stored->etag.len > 0) {
        return etag_is_strong(received->etag) ? etag_equal_strong(received->etag, stored->etag)
                                              : etag_equal_weak(received->etag, stored->etag);
    }
    if (etag_is_strong(received->etag)) {
        return false;
    }
    if (received->last_modified_ms >= 0 && stored->last_modified_ms >= 0) {
        return received->last_modified_ms == stored->last_modified_ms;
    }
    /* Nothing contradicts: it is the answer to the one validator that was asked with. */
    return is_ours;
}

enum update_by_head update_by_head(const struct validators *stored, uint64_t stored_bytes,
                                   const struct http_head *response, const char *base, int64_t now_ms)
{
    struct validators received = validators_of_response(response, base, now_ms);
    bool other_etag = received.etag.len > 0 && !bytes_equal(received.etag, stored->etag);
    bool other_date = received.last_modified_ms >= 0 && received.last_modified_ms != stored->last_modified_ms;
    bool other_length = response->has_content_length && response->content_length != stored_bytes;
    return other_etag || other_date || other_length ? UPDATE_BY_HEAD_OUTDATES : UPDATE_BY_HEAD_FRESHENS;
}

/* Fields that say how the stored bytes are to be read: a 304 for another form of the representation, or one made by a
 * server that guesses, must not change them. */
static bool belongs_to_body(struct bytes name)
{
    static const struct bytes names[] = {
        BYTES("Content-Encoding"),
        BYTES("Content-Length"),
        BYTES("Content-Range"),
        BYTES("Content-Type"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (bytes_equal_nocase(name, names[i])) {
            return true;
        }
    }
    return false;
}

/* What the stored lines are changed by. */
struct change {
    const struct http_head *response;
    const char *base;
    const struct storing_verdict *verdict;
};

static bool is_taken_over(const struct change *change, const struct http_field *field)
{
    return storing_keeps_field(change->verdict, field, change->base) &&
           !belongs_to_body(http_field_name(field, change->base));
}

/* Those that the new response does not have, and may not replace. */
static bool is_left(const void *context, struct bytes name)
{
    const struct change *change = context;
    if (bytes_equal_nocase(name, BYTES("Age")) ||
        (bytes_equal_nocase(name, BYTES("Date")) && change->response->first[HTTP_FIELD_DATE] == 0)) {
        return false;
    }
    for (unsigned i = 0; i < change->response->field_count; i++) {
        const struct http_field *field = &change->response->fields[i];
        if (field->name_bytes == name.len && bytes_equal_nocase(http_field_name(field, change->base), name) &&
            is_taken_over(change, field)) {
            return false;
        }
    }
    return true;
}

size_t update_lines_bytes_max(struct bytes stored_lines, const struct http_head *response)
{
    /* A line is written with ": ", and was received with ":" at least. */
    return stored_lines.len + 2 + response->head_bytes + response->field_count;
}

char *update_put_lines(char *at, struct bytes stored_lines, const struct http_head *response, const char *base,
                       const struct storing_verdict *verdict)
{
    struct change change = {response, base, verdict};
    char *start = at;
    at = lines_put_kept(at, stored_lines, is_left, &change);
    if (at > start && at[-1] != '\n') {
        at = bytes_put(at, BYTES("\r\n"));
    }
    for (unsigned i = 0; i < response->field_count; i++) {
        const struct http_field *field = &response->fields[i];
        if (is_taken_over(&change, field)) {
            at = lines_put_line(at, http_field_name(field, base), http_field_value(field, base));
        }
    }
    return at;
}
