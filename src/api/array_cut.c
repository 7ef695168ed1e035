#include <math.h>
#include <stdlib.h>

#include "api/array_internal.h"
#include "api/json_walk.h"

enum { SCORE_BYTES_MAX = 40 };

static bool fail(struct array_cut *answer, const char *error)
{
    answer->error = error;
    return false;
}

/* ---- cutting ---- */

static double score_of(struct bytes value)
{
    char text[SCORE_BYTES_MAX + 1];
    size_t bytes = value.len < SCORE_BYTES_MAX ? value.len : SCORE_BYTES_MAX;
    *bytes_put(text, (struct bytes){value.ptr, bytes}) = '\0';
    double score = strtod(text, NULL);
    return isnan(score) ? 0 : score; /* for it has no place in any order */
}

/* Walks an object for its index and score. */
static bool cut_entry(struct array_cut *answer, struct json_walk *walk, struct array_result *entry)
{
    const struct array_shape *shape = answer->shape;
    size_t from = walk->at;
    bool more = json_walk_open(walk, '{');
    if (!more) {
        return fail(answer, "a result is not an object");
    }
    for (;;) {
        struct bytes name;
        struct bytes value;
        if (!json_walk_next(walk, '}', &more)) {
            return fail(answer, "it is not JSON");
        }
        if (!more) {
            break;
        }
        if (!json_walk_name(walk, &name) || !json_walk_value(walk, &value)) {
            return fail(answer, "it is not JSON");
        }
        if (bytes_equal(name, shape->index)) {
            if (entry->index.len > 0 || !bytes_to_u64(value, &entry->position)) {
                return fail(answer, "a result's index is no number");
            }
            entry->index = value;
        } else if (shape->score.len > 0 && bytes_equal(name, shape->score)) {
            entry->score = score_of(value);
        }
    }
    entry->text = (struct bytes){walk->text.ptr + from, walk->at - from};
    return entry->index.len > 0 || fail(answer, "a result has no index");
}

static bool add_entry(struct array_cut *answer, const struct array_result *entry, uint32_t entries_max)
{
    if (answer->entry_count == entries_max) {
        return fail(answer, "it has more results than were asked for");
    }
    if (answer->entry_count == answer->entry_capacity) {
        uint32_t capacity = answer->entry_capacity * 2 + 64;
        capacity = capacity < entries_max ? capacity : entries_max;
        struct array_result *entries = realloc(answer->entries, capacity * sizeof(*entries));
        if (entries == NULL) {
            return fail(answer, NULL);
        }
        answer->entries = entries;
        answer->entry_capacity = capacity;
    }
    answer->entries[answer->entry_count++] = *entry;
    return true;
}

static bool cut_results(struct array_cut *answer, struct json_walk *walk, uint32_t entries_max)
{
    char next = json_walk_peek(walk);
    size_t from = walk->at;
    if (next != '[' || answer->results.len > 0 || !json_walk_open(walk, '[')) {
        return fail(answer, "it has no single array of results");
    }
    for (bool more;;) {
        if (!json_walk_next(walk, ']', &more)) {
            return fail(answer, "it is not JSON");
        }
        if (!more) {
            break;
        }
        struct array_result entry = {.position = answer->entry_count};
        json_walk_peek(walk);
        if (answer->shape->index.len > 0) {
            if (!cut_entry(answer, walk, &entry)) {
                return false;
            }
        } else if (!json_walk_value(walk, &entry.text)) {
            return fail(answer, "it is not JSON");
        }
        if (!add_entry(answer, &entry, entries_max)) {
            return false;
        }
    }
    answer->results = (struct bytes){walk->text.ptr + from, walk->at - from};
    return true;
}

static bool cut_usage(struct array_cut *answer, struct json_walk *walk)
{
    struct bytes value;
    if (!json_walk_value(walk, &value)) {
        return fail(answer, "it is not JSON");
    }
    if (answer->usage.text.len > 0 || !usage_read(value, &answer->usage)) {
        return fail(answer, "its usage is not what is known as such");
    }
    return true;
}

bool array_cut_read(struct array_cut *answer, uint32_t entries_max)
{
    struct json_walk walk;
    json_walk_init(&walk, answer->text);
    bool more = json_walk_open(&walk, '{');
    if (!more) {
        return fail(answer, "it is not a JSON object");
    }
    for (;;) {
        struct bytes name;
        struct bytes value;
        if (!json_walk_next(&walk, '}', &more) || (more && !json_walk_name(&walk, &name))) {
            return fail(answer, "it is not JSON");
        }
        if (!more) {
            break;
        }
        if (bytes_equal(name, answer->shape->results)) {
            if (!cut_results(answer, &walk, entries_max)) {
                return false;
            }
        } else if (bytes_equal(name, BYTES("usage"))) {
            if (!cut_usage(answer, &walk)) {
                return false;
            }
        } else if (!json_walk_value(&walk, &value)) {
            return fail(answer, "it is not JSON");
        }
    }
    if (!json_walk_end(&walk)) {
        return fail(answer, "it is not JSON");
    }
    return answer->results.len > 0 || fail(answer, "it has no array of results");
}

void array_cut_fini(struct array_cut *answer)
{
    free(answer->entries);
}

/* ---- writing ---- */

static void put_entry(struct json_buffer *out, const struct array_result *entry, const uint64_t *position)
{
    if (position == NULL || entry->index.len == 0) {
        json_buffer_put(out, entry->text);
        return;
    }
    const char *end = entry->index.ptr + entry->index.len;
    json_buffer_put(out, (struct bytes){entry->text.ptr, (size_t)(entry->index.ptr - entry->text.ptr)});
    json_buffer_put_u64(out, *position);
    json_buffer_put(out, (struct bytes){end, (size_t)(entry->text.ptr + entry->text.len - end)});
}

static void put_results(struct json_buffer *out, const struct array_rewriting *rewriting)
{
    json_buffer_text(out, "[");
    for (uint32_t i = 0; i < rewriting->entry_count; i++) {
        json_buffer_text(out, i > 0 ? "," : "");
        put_entry(out, rewriting->entries[i], rewriting->positions == NULL ? NULL : &rewriting->positions[i]);
    }
    json_buffer_text(out, "]");
}

enum result array_rewrite(const struct array_rewriting *rewriting, struct bytes *ret_text)
{
    const struct array_cut *around = rewriting->around;
    const struct bytes *usage = &around->usage.text;
    bool usage_is_first = usage->len > 0 && usage->ptr < around->results.ptr;
    size_t expected = around->text.len - around->results.len + 64;
    for (uint32_t i = 0; i < rewriting->entry_count; i++) {
        expected += rewriting->entries[i]->text.len + 24;
    }
    struct json_buffer out;
    json_buffer_init(&out, expected, SIZE_MAX);
    const char *from = around->text.ptr;
    for (unsigned i = 0; i < 2; i++) {
        bool is_usage = (i == 0) == usage_is_first;
        const struct bytes *replaced = is_usage ? usage : &around->results;
        if (replaced->len == 0) {
            continue;
        }
        json_buffer_put(&out, (struct bytes){from, (size_t)(replaced->ptr - from)});
        if (is_usage) {
            usage_put(&out, &around->usage, rewriting->values, rewriting->stride);
        } else {
            put_results(&out, rewriting);
        }
        from = replaced->ptr + replaced->len;
    }
    json_buffer_put(&out, (struct bytes){from, (size_t)(around->text.ptr + around->text.len - from)});
    if (out.result != RESULT_OK) {
        json_buffer_fini(&out);
        return RESULT_NO_MEMORY;
    }
    *ret_text = (struct bytes){out.data, out.len};
    return RESULT_OK;
}
