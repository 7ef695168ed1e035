/* Any bytes as field lines, of a request, of a response and of what is stored: what must hold of the rules over several
 * messages, whatever these say. */
#include <stdlib.h>

#include "base/check.h"
#include "cache/conditional.h"
#include "cache/invalidation.h"
#include "cache/lines.h"
#include "cache/range.h"
#include "cache/tags.h"
#include "cache/update.h"
#include "cache/vary.h"

enum { INPUT_BYTES_MAX = 8192 };

static const int64_t NOW_MS = INT64_C(1700000000000);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct message {
    struct http_parser parser;
    char *base;
    bool valid;
};

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes > 0 ? bytes : 1);
    CHECK(memory != NULL);
    return memory;
}

static void parse(struct message *message, enum llhttp_type kind, struct bytes start, struct bytes fields)
{
    static const struct http_limits limits = {1 << 14, 1024, HTTP_FIELDS_MAX};
    size_t bytes = start.len + fields.len + 2;
    message->base = allocate(bytes);
    bytes_put(bytes_put(bytes_put(message->base, start), fields), BYTES("\r\n"));
    http_parser_init(&message->parser, kind, &limits);
    message->valid = http_parse_head(&message->parser, message->base, bytes) == RESULT_OK &&
                     message->parser.head.head_bytes == bytes; /* not if the input has a body */
}

static bool lies_in(struct bytes inner, struct bytes outer)
{
    return inner.len == 0 || (inner.ptr >= outer.ptr && inner.ptr + inner.len <= outer.ptr + outer.len);
}

/* ---- lines ---- */

static bool keep_all(const void *context, struct bytes name)
{
    (void)context;
    return name.len > 0;
}

static void check_lines(struct bytes text)
{
    char *copy = allocate(text.len);
    char *end = lines_put_kept(copy, text, keep_all, NULL);
    struct bytes kept = {copy, (size_t)(end - copy)};
    struct bytes rest = text;
    struct bytes rest_kept = kept;
    struct line line;
    struct line same;
    while (lines_next(&rest, &line)) {
        CHECK(lies_in(line.whole, text) && lies_in(line.name, line.whole) && lies_in(line.value, line.whole));
        CHECK(lines_next(&rest_kept, &same) && bytes_equal(line.whole, same.whole));
        CHECK(lines_find(text, line.name).ptr != NULL);
    }
    CHECK(rest_kept.len == 0);
    free(copy);
}

/* ---- tags and conditions ---- */

static void check_etags(struct bytes list)
{
    struct bytes etag;
    struct bytes all = list;
    while (etag_next(&list, &etag)) {
        CHECK(etag.len > 0 && lies_in(etag, all));
        CHECK(!etag_is_strong(etag) || (etag_equal_strong(etag, etag) && etag_equal_weak(etag, etag)));
    }
    CHECK(list.len == 0);
}

static struct cache_head *store(struct bytes lines, uint16_t status)
{
    struct cache_head *head = allocate(sizeof(*head) + lines.len);
    memset(head, 0, sizeof(*head));
    bytes_put(head->data, lines);
    head->lines_bytes = (uint32_t)lines.len;
    head->status = status;
    head->freshness.date_ms = NOW_MS;
    head->freshness.last_modified_ms = NOW_MS - 5000;
    struct bytes etag = lines_find(cache_head_lines(head), BYTES("ETag"));
    struct bytes modified = lines_find(cache_head_lines(head), BYTES("Last-Modified"));
    if (etag.len > 0) {
        head->freshness.etag_at = (uint16_t)(etag.ptr - head->data);
        head->freshness.etag_bytes = (uint16_t)etag.len;
    }
    if (modified.len > 0) {
        head->freshness.last_modified_at = (uint16_t)(modified.ptr - head->data);
        head->freshness.last_modified_bytes = (uint16_t)modified.len;
    }
    return head;
}

static void check_conditions(const struct message *request, const struct cache_head *stored)
{
    if (request->valid) {
        const struct http_head *head = &request->parser.head;
        enum conditional_answer answer = conditional_evaluate(head, request->base, stored, NOW_MS);
        CHECK(answer == CONDITIONAL_SERVE || conditional_is_conditional(head, request->base));
        CHECK((answer == CONDITIONAL_FORWARD) == conditional_is_for_origin(head, request->base));
    }
    size_t room_bytes = conditional_validators_bytes(stored);
    char *room = allocate(room_bytes);
    CHECK((size_t)(conditional_put_validators(room, stored) - room) <= room_bytes);
    free(room);
    room_bytes = range_if_range_bytes(stored);
    room = allocate(room_bytes);
    CHECK((size_t)(range_put_if_range(room, stored) - room) == room_bytes);
    free(room);
}

/* ---- ranges ---- */

static void check_multipart(const struct range_set *set, uint64_t complete_bytes)
{
    struct range_multipart multipart = {set, complete_bytes, BYTES("a/b"), BYTES("boundary")};
    uint64_t bytes = 0;
    for (unsigned i = 0; i < set->count; i++) {
        size_t head_bytes = range_part_head_bytes(&multipart, i);
        char *room = allocate(head_bytes);
        CHECK((size_t)(range_put_part_head(room, &multipart, i) - room) == head_bytes);
        free(room);
        bytes += head_bytes + range_bytes(set->ranges[i]);
    }
    CHECK(bytes + range_multipart_end_bytes(&multipart) == range_multipart_bytes(&multipart));
}

static void check_range(struct bytes value)
{
    static const uint64_t lengths[] = {0, 1, 10, 1000, INT64_MAX};
    for (size_t l = 0; l < ARRAY_COUNT(lengths); l++) {
        struct range_set set;
        if (range_resolve(value, lengths[l], &set) != RANGE_SATISFIABLE) {
            continue;
        }
        CHECK(set.count >= 1 && set.count <= RANGE_COUNT_MAX);
        for (unsigned i = 0; i < set.count; i++) {
            CHECK(set.ranges[i].first <= set.ranges[i].last && set.ranges[i].last < lengths[l]);
            for (unsigned j = 0; j < i; j++) {
                CHECK(set.ranges[i].last < set.ranges[j].first || set.ranges[i].first > set.ranges[j].last);
            }
        }
        check_multipart(&set, lengths[l]);
    }
}

/* What is asked for to complete a part completes it. */
static void check_partial(struct bytes content_range, struct bytes asked)
{
    static const struct validators same = {{"\"a\"", 3}, -1, -1};
    struct range_partial stored;
    struct range_set set;
    if (!range_parse_content_range(content_range, &stored)) {
        return;
    }
    CHECK(stored.range.first <= stored.range.last && stored.range.last < stored.complete_bytes);
    struct range_partial settled = stored;
    if (range_partial_settle(&settled, range_bytes(stored.range) - 1, true)) {
        CHECK(settled.range.last < settled.complete_bytes && settled.range.first <= settled.range.last);
    }
    if (range_resolve(asked, stored.complete_bytes, &set) != RANGE_SATISFIABLE) {
        return;
    }
    struct range wanted = set.ranges[0];
    set.count = 1;
    bool covers = range_partial_covers(&stored, &set);
    struct range_partial received = {.complete_bytes = stored.complete_bytes};
    if (!range_missing(&stored, wanted, &received.range)) {
        return;
    }
    char line[RANGE_LINE_BYTES_MAX];
    struct range_join join;
    CHECK(!covers && range_put_request(line, received.range, stored.complete_bytes) <= line + sizeof(line));
    CHECK(range_combine(&stored, &same, &received, &same, &join));
    CHECK(range_partial_covers(&join.partial, &set));
    uint64_t bytes = 0;
    for (unsigned i = 0; i < join.count; i++) {
        struct range source = join.pieces[i].is_new ? received.range : stored.range;
        CHECK(join.pieces[i].offset + join.pieces[i].bytes <= range_bytes(source));
        bytes += join.pieces[i].bytes;
    }
    CHECK(bytes == range_bytes(join.partial.range));
}

/* ---- Vary ---- */

static void check_note(struct bytes note, struct bytes set)
{
    char *merged = allocate(VARY_NOTE_BYTES_MAX);
    char *again = allocate(VARY_NOTE_BYTES_MAX);
    size_t bytes = vary_note_merge(note, set, merged);
    struct bytes rest = {merged, bytes};
    struct bytes first;
    CHECK(bytes <= VARY_NOTE_BYTES_MAX && vary_note_next(&rest, &first) && bytes_equal(first, set));
    CHECK(vary_note_merge((struct bytes){merged, bytes}, set, again) == bytes && memcmp(merged, again, bytes) == 0);
    free(again);
    free(merged);
}

static void check_vary(struct bytes lines, const struct message *request, const struct message *response)
{
    struct vary_set set;
    if (!vary_of_lines(lines, &set)) {
        return;
    }
    check_note(lines, vary_set_text(&set));
    if (response->valid) {
        struct vary_set same;
        CHECK(vary_of_response(&response->parser.head, response->base, &same));
        CHECK(bytes_equal(vary_set_text(&set), vary_set_text(&same)));
    }
    if (!request->valid) {
        return;
    }
    size_t bytes;
    size_t bytes_max = VARY_SET_BYTES_MAX + 64 + 8 * lines.len;
    char *key = allocate(bytes_max);
    CHECK(vary_put_key(vary_set_text(&set), &request->parser.head, request->base, key, bytes_max, &bytes) == RESULT_OK);
    char *exact = allocate(bytes);
    size_t same_bytes;
    CHECK(vary_put_key(vary_set_text(&set), &request->parser.head, request->base, exact, bytes, &same_bytes) ==
          RESULT_OK);
    CHECK(same_bytes == bytes && memcmp(key, exact, bytes) == 0);
    free(exact);
    free(key);
}

/* ---- updates, invalidation, tags ---- */

static void check_update(struct bytes stored, const struct message *response)
{
    static const struct storing_verdict none = {0};
    const struct http_head *head = &response->parser.head;
    size_t bytes_max = update_lines_bytes_max(stored, head);
    char *once = allocate(bytes_max);
    struct bytes lines = {once, (size_t)(update_put_lines(once, stored, head, response->base, &none) - once)};
    CHECK(lines.len <= bytes_max);
    size_t again_max = update_lines_bytes_max(lines, head);
    char *again = allocate(again_max);
    struct bytes twice = {again, (size_t)(update_put_lines(again, lines, head, response->base, &none) - again)};
    CHECK(twice.len <= again_max && bytes_equal(lines, twice));
    free(again);
    free(once);
}

static bool has_dot_segment(struct bytes path)
{
    for (size_t i = 0; i < path.len; i++) {
        struct bytes rest = {path.ptr + i, path.len - i};
        if (bytes_equal(rest, BYTES("/.")) || bytes_equal(rest, BYTES("/..")) ||
            bytes_starts_with(rest, BYTES("/./")) || bytes_starts_with(rest, BYTES("/../"))) {
            return true;
        }
    }
    return false;
}

static void check_reference(struct bytes reference)
{
    static const struct invalidation_origin origin = {{"http", 4}, {"a", 1}, {"/b/c/d;p", 8}, {"q", 1}};
    struct invalidation_target target;
    struct invalidation_target again;
    size_t used;
    size_t bytes_max = origin.path.len + reference.len + 1;
    char *room = allocate(bytes_max);
    if (invalidation_resolve(&origin, reference, room, &used, &target)) {
        CHECK(used <= bytes_max && target.path.len > 0 && target.path.ptr[0] == '/' && !has_dot_segment(target.path));
        if (!bytes_starts_with(target.path, BYTES("//"))) {
            char *second = allocate(origin.path.len + target.path.len + 1);
            CHECK(invalidation_resolve(&origin, target.path, second, &used, &again));
            CHECK(bytes_equal(again.path, target.path));
            free(second);
        }
    }
    free(room);
}

static void check_tags(const struct message *response)
{
    static const size_t rooms[] = {0, 1, 40, TAGS_BYTES_MAX};
    for (size_t i = 0; i < ARRAY_COUNT(rooms); i++) {
        char *room = allocate(rooms[i]);
        size_t bytes = 0;
        enum result result = tags_of_response(BYTES("http"), BYTES("A:81"), &response->parser.head, response->base,
                                              room, rooms[i], &bytes);
        CHECK(bytes <= rooms[i] && (result == RESULT_OK || bytes == 0));
        CHECK(bytes == 0 || room[bytes - 1] == '\n');
        bytes =
            tags_to_invalidate(BYTES("http"), BYTES("A:81"), &response->parser.head, response->base, room, rooms[i]);
        CHECK(bytes <= rooms[i]);
        free(room);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct message request;
    static struct message response;
    struct bytes input = {(const char *)data, size};
    if (size == 0 || size > INPUT_BYTES_MAX) {
        return 0;
    }
    parse(&request, HTTP_REQUEST, BYTES("GET / HTTP/1.1\r\nHost: a\r\n"), input);
    parse(&response, HTTP_RESPONSE, BYTES("HTTP/1.1 206 X\r\n"), input);
    struct cache_head *stored = store(input, 200);

    check_lines(input);
    check_etags(input);
    check_etags(lines_find(input, BYTES("If-None-Match")));
    check_range(lines_find(input, BYTES("Range")));
    check_partial(lines_find(input, BYTES("Content-Range")), lines_find(input, BYTES("Range")));
    check_reference(lines_find(input, BYTES("Location")));
    check_conditions(&request, stored);
    check_vary(input, &request, &response);
    if (response.valid) {
        check_update(input, &response);
        check_tags(&response);
    }
    free(stored);
    free(response.base);
    free(request.base);
    return 0;
}
