#include <stdlib.h>

#include "api/array_internal.h"
#include "api/json_walk.h"

/* Names of one level above the numbers they lead to. */
struct level {
    uint64_t path;
    bool is_output;
};

static uint64_t path_of(uint64_t outer, struct bytes name)
{
    uint64_t hash = outer ^ UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < name.len; i++) {
        hash = (hash ^ (unsigned char)name.ptr[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

static bool names_output(struct bytes name)
{
    return bytes_starts_with(name, BYTES("completion_")) || bytes_starts_with(name, BYTES("output_"));
}

/* What may be summed with its like. */
static bool is_count(struct bytes value, uint64_t *ret_count)
{
    return bytes_to_u64(value, ret_count) && *ret_count <= INT64_MAX;
}

static bool add_number(struct usage *usage, const struct level *level, struct bytes value)
{
    uint64_t count;
    if (!is_count(value, &count)) {
        return true;
    }
    if (usage->count == USAGE_NUMBERS_MAX) {
        return false;
    }
    usage->numbers[usage->count++] = (struct usage_number){.at = (size_t)(value.ptr - usage->text.ptr),
                                                           .len = value.len,
                                                           .value = count,
                                                           .path = level->path,
                                                           .is_output = level->is_output};
    return true;
}

/* One member of the object under way, into which it goes if that is an object itself. */
static bool read_member(struct json_walk *walk, struct usage *usage, struct level *levels, unsigned *depth)
{
    struct bytes name;
    struct bytes value;
    if (!json_walk_name(walk, &name)) {
        return false;
    }
    const struct level *outer = &levels[*depth];
    struct level level = {path_of(outer->path, name), outer->is_output || names_output(name)};
    if (json_walk_peek(walk) == '{') {
        if (*depth + 1 == USAGE_DEPTH_MAX) {
            return false;
        }
        levels[++*depth] = level;
        return json_walk_open(walk, '{');
    }
    return json_walk_value(walk, &value) && add_number(usage, &level, value);
}

bool usage_read(struct bytes text, struct usage *ret_usage)
{
    struct json_walk walk;
    struct level levels[USAGE_DEPTH_MAX] = {{0}};
    unsigned depth = 0;
    *ret_usage = (struct usage){.text = text};
    json_walk_init(&walk, text);
    if (json_walk_peek(&walk) != '{') {
        struct bytes value; /* null, or nothing that is known */
        return json_walk_value(&walk, &value) && json_walk_end(&walk);
    }
    if (!json_walk_open(&walk, '{')) {
        return false;
    }
    for (;;) {
        bool more;
        if (!json_walk_next(&walk, '}', &more)) {
            return false;
        }
        if (!more) {
            if (depth == 0) {
                return json_walk_end(&walk);
            }
            depth--;
        } else if (!read_member(&walk, ret_usage, levels, &depth)) {
            return false;
        }
    }
}

/* ---- shares ---- */

struct rank {
    uint64_t remainder;
    unsigned index;
};

static int compare_ranks(const void *a, const void *b)
{
    const struct rank *x = a;
    const struct rank *y = b;
    return x->remainder != y->remainder ? (x->remainder < y->remainder) - (x->remainder > y->remainder)
                                        : (x->index > y->index) - (x->index < y->index);
}

static uint64_t weight_of(const struct usage_number *number, const struct usage_weight *weight)
{
    return number->is_output ? weight->output : weight->prompt;
}

/* Largest remainders: nobody is off by as much as one. */
static void share_number(const struct usage_number *number, const struct usage_weight *weights, unsigned count,
                         struct rank *ranks, uint64_t *shares)
{
    uint64_t sum = 0;
    uint64_t given = 0;
    for (unsigned i = 0; i < count; i++) {
        sum += weight_of(number, &weights[i]);
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t weight = sum == 0 ? 1 : weight_of(number, &weights[i]);
        uint64_t whole = sum == 0 ? count : sum;
        unsigned __int128 product = (unsigned __int128)number->value * weight;
        shares[i] = (uint64_t)(product / whole);
        ranks[i] = (struct rank){(uint64_t)(product % whole), i};
        given += shares[i];
    }
    if (given < number->value) {
        qsort(ranks, count, sizeof(*ranks), compare_ranks);
    }
    for (unsigned i = 0; given < number->value; i++, given++) {
        shares[ranks[i].index]++;
    }
}

static const struct usage_number *number_named(const struct usage *usage, struct bytes name)
{
    uint64_t path = path_of(0, name);
    for (unsigned i = 0; i < usage->count; i++) {
        if (usage->numbers[i].path == path) {
            return &usage->numbers[i];
        }
    }
    return NULL;
}

/* Two roundings need not add up to the third. */
static void share_total(const struct usage *usage, unsigned count, uint64_t *shares)
{
    const struct usage_number *total = number_named(usage, BYTES("total_tokens"));
    const struct usage_number *prompt = number_named(usage, BYTES("prompt_tokens"));
    const struct usage_number *completion = number_named(usage, BYTES("completion_tokens"));
    if (total == NULL || prompt == NULL || completion == NULL || total->value != prompt->value + completion->value) {
        return;
    }
    for (unsigned i = 0; i < count; i++) {
        shares[(size_t)(total - usage->numbers) * count + i] =
            shares[(size_t)(prompt - usage->numbers) * count + i] +
            shares[(size_t)(completion - usage->numbers) * count + i];
    }
}

enum result usage_share(const struct usage *usage, const struct usage_weight *weights, unsigned count, uint64_t *shares)
{
    struct rank *ranks = calloc(count, sizeof(*ranks));
    if (ranks == NULL) {
        return RESULT_NO_MEMORY;
    }
    for (unsigned i = 0; i < usage->count; i++) {
        share_number(&usage->numbers[i], weights, count, ranks, shares + (size_t)i * count);
    }
    share_total(usage, count, shares);
    free(ranks);
    return RESULT_OK;
}

void usage_add(const struct usage *usage, uint64_t *sums, const struct usage *other)
{
    for (unsigned i = 0; i < usage->count; i++) {
        for (unsigned k = 0; k < other->count; k++) {
            if (usage->numbers[i].path == other->numbers[k].path) {
                sums[i] += other->numbers[k].value;
                break;
            }
        }
    }
}

void usage_put(struct json_buffer *out, const struct usage *usage, const uint64_t *values, size_t stride)
{
    size_t from = 0;
    for (unsigned i = 0; i < usage->count; i++) {
        const struct usage_number *number = &usage->numbers[i];
        json_buffer_put(out, (struct bytes){usage->text.ptr + from, number->at - from});
        json_buffer_put_u64(out, values[i * stride]);
        from = number->at + number->len;
    }
    json_buffer_put(out, (struct bytes){usage->text.ptr + from, usage->text.len - from});
}
