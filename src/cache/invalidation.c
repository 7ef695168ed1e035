#include "cache/invalidation.h"

#include "base/check.h"
#include "http/uri.h"

bool invalidation_applies(uint8_t method, uint16_t status)
{
    if (status < 200 || status > 399) {
        return false;
    }
    switch (method) { /* those that are registered as safe */
    case HTTP_GET:
    case HTTP_HEAD:
    case HTTP_OPTIONS:
    case HTTP_TRACE:
    case HTTP_PROPFIND:
    case HTTP_REPORT:
    case HTTP_SEARCH:
    case HTTP_QUERY: return false;
    default: return true;
    }
}

/* ---- references ---- */

static uint64_t port_of(struct bytes scheme, struct bytes port)
{
    uint64_t number;
    if (bytes_to_u64(port, &number)) {
        return number;
    }
    return bytes_equal_nocase(scheme, BYTES("https")) ? 443 : 80;
}

bool invalidation_same_authority(struct bytes scheme, struct bytes a, struct bytes b)
{
    struct bytes host_a;
    struct bytes host_b;
    struct bytes port_a;
    struct bytes port_b;
    http_authority_split(a, &host_a, &port_a);
    http_authority_split(b, &host_b, &port_b);
    return bytes_equal_nocase(host_a, host_b) && port_of(scheme, port_a) == port_of(scheme, port_b);
}

/* A reference's parts (RFC 3986 §4.1); has_* tell an empty part from none. */
struct reference {
    struct bytes scheme;
    struct bytes authority;
    struct bytes path;
    struct bytes query; /* .ptr NULL: none */
    bool has_scheme;
    bool has_authority;
};

static size_t length_until(struct bytes text, const char *stops)
{
    size_t length = 0;
    while (length < text.len && strchr(stops, text.ptr[length]) == NULL) {
        length++;
    }
    return length;
}

static struct bytes take(struct bytes *text, size_t length)
{
    struct bytes taken = {text->ptr, length};
    text->ptr += length;
    text->len -= length;
    return taken;
}

/* False: there are bytes that no reference has. */
static bool split_reference(struct bytes text, struct reference *ret_reference)
{
    struct reference reference = {.query = BYTES_NONE};
    for (size_t i = 0; i < text.len; i++) {
        if ((unsigned char)text.ptr[i] <= ' ' || text.ptr[i] == 0x7f) {
            return false;
        }
    }
    text = text.len == 0 ? BYTES("") : (struct bytes){text.ptr, length_until(text, "#")};
    size_t colon = length_until(text, ":/?");
    if (colon < text.len && text.ptr[colon] == ':') {
        reference.has_scheme = true;
        reference.scheme = take(&text, colon);
        take(&text, 1);
    }
    if (bytes_starts_with(text, BYTES("//"))) {
        reference.has_authority = true;
        take(&text, 2);
        reference.authority = take(&text, length_until(text, "/?"));
    }
    reference.path = take(&text, length_until(text, "?"));
    if (text.len > 0) {
        reference.query = (struct bytes){text.ptr + 1, text.len - 1};
    }
    *ret_reference = reference;
    return true;
}

/* RFC 3986 §5.2.4, in place: what is written never overtakes what is read. ".." at the root stays there. */
static size_t remove_dot_segments(char *path, size_t length)
{
    size_t to = 0;
    for (size_t from = 0; from < length;) {
        size_t end = from + 1;
        while (end < length && path[end] != '/') {
            end++;
        }
        struct bytes segment = {path + from + 1, end - from - 1};
        bool is_up = bytes_equal(segment, BYTES(".."));
        while (is_up && to > 0 && path[--to] != '/') {
        }
        if (!is_up && !bytes_equal(segment, BYTES("."))) {
            memmove(path + to, path + from, segment.len + 1);
            to += segment.len + 1;
        } else if (end == length) {
            path[to++] = '/';
        }
        from = end;
    }
    return to;
}

/* The path of the reference, absolute: its own, or behind the last '/' of the base (§5.2.3). */
static struct bytes merge_paths(const struct invalidation_origin *origin, const struct reference *reference, char *room)
{
    struct bytes folder = BYTES("");
    if (reference->path.len == 0) {
        folder = BYTES("/"); /* after an authority */
    } else if (reference->path.ptr[0] != '/') {
        folder = origin->path;
        while (folder.len > 0 && folder.ptr[folder.len - 1] != '/') {
            folder.len--;
        }
    }
    char *end = bytes_put(bytes_put(room, folder), reference->path);
    return (struct bytes){room, remove_dot_segments(room, (size_t)(end - room))};
}

bool invalidation_resolve(const struct invalidation_origin *origin, struct bytes text, char *room, size_t *ret_used,
                          struct invalidation_target *ret_target)
{
    struct reference reference;
    *ret_used = 0;
    if (!split_reference(text, &reference)) {
        return false;
    }
    if (reference.has_scheme && (!reference.has_authority || !bytes_equal_nocase(reference.scheme, origin->scheme))) {
        return false;
    }
    if (reference.has_authority &&
        (!http_authority_is_valid(reference.authority) ||
         !invalidation_same_authority(origin->scheme, reference.authority, origin->authority))) {
        return false;
    }
    if (!reference.has_authority && reference.path.len == 0) {
        ret_target->path = origin->path;
        ret_target->query = reference.query.ptr != NULL ? reference.query : origin->query;
        return true;
    }
    ret_target->path = merge_paths(origin, &reference, room);
    ret_target->query = reference.query;
    *ret_used = ret_target->path.len;
    return true;
}

/* ---- targets ---- */

static const struct bytes fields[] = {BYTES("Location"), BYTES("Content-Location")};

size_t invalidation_bytes_max(const struct invalidation_origin *origin, const struct http_head *response,
                              const char *base)
{
    size_t bytes = 0;
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        bytes += origin->path.len + http_head_find(response, base, fields[i]).len + 1;
    }
    return bytes;
}

static bool is_known(const struct invalidation_target *targets, unsigned count,
                     const struct invalidation_target *target)
{
    for (unsigned i = 0; i < count; i++) {
        if (bytes_equal(targets[i].path, target->path) && bytes_equal(targets[i].query, target->query) &&
            (targets[i].query.ptr == NULL) == (target->query.ptr == NULL)) {
            return true;
        }
    }
    return false;
}

unsigned invalidation_targets(const struct invalidation_origin *origin, const struct http_head *response,
                              const char *base, char *room,
                              struct invalidation_target targets[INVALIDATION_TARGETS_MAX])
{
    unsigned count = 1;
    targets[0] = (struct invalidation_target){origin->path, origin->query};
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        struct bytes reference = http_head_find(response, base, fields[i]);
        struct invalidation_target target;
        size_t used;
        if (reference.ptr == NULL || !invalidation_resolve(origin, reference, room, &used, &target)) {
            continue;
        }
        if (!is_known(targets, count, &target)) {
            targets[count++] = target;
            room += used;
        }
    }
    return count;
}
