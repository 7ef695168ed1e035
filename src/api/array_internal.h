/* What the files of the array APIs share. */
#ifndef SLUICE_API_ARRAY_INTERNAL_H
#define SLUICE_API_ARRAY_INTERNAL_H

#include "api/array.h"
#include "api/json_buffer.h"

enum { USAGE_NUMBERS_MAX = 32, USAGE_DEPTH_MAX = 8 };

/* A whole number in a `usage`, and where it stands. */
struct usage_number {
    size_t at;
    size_t len;
    uint64_t value;
    uint64_t path;  /* a hash of the names that lead to it */
    bool is_output; /* it counts what was made, not what was sent */
};

struct usage {
    struct bytes text; /* the value of the member */
    unsigned count;
    struct usage_number numbers[USAGE_NUMBERS_MAX];
};

/* Finds the numbers; what lies in arrays, or is no whole number below 2^63, is left as it is. False when it is not
 * JSON, or has more of them than are expected of anybody. */
bool usage_read(struct bytes text, struct usage *ret_usage);

/* By what a run is weighed. */
struct usage_weight {
    uint64_t prompt;
    uint64_t output;
};

/* shares[number × count + i] is what the i-th gets of the number: by largest remainder, sums exact; and where the total
 * is that of prompt and completion, so is each one's. The weights' sums are below 2^64. RESULT_NO_MEMORY. */
enum result usage_share(const struct usage *usage, const struct usage_weight *weights, unsigned count,
                        uint64_t *shares);

/* Adds the numbers of `other` to the sums, one for each number of `usage`, where the same names lead to them. */
void usage_add(const struct usage *usage, uint64_t *sums, const struct usage *other);

/* Puts the usage with other numbers: values[number × stride]. */
void usage_put(struct json_buffer *out, const struct usage *usage, const uint64_t *values, size_t stride);

/* One result, as it stands in the answer. */
struct array_result {
    struct bytes text;
    struct bytes index; /* its number, within the text; .len 0: there is none */
    uint64_t position;  /* which item it is for */
    double score;
};

/* An answer, cut up. What lies between results and usage is passed on as it is. */
struct array_cut {
    const struct array_shape *shape;
    struct bytes text;
    struct bytes results; /* the value, brackets included */
    struct usage usage;   /* .text.len 0: there is none */
    struct array_result *entries;
    uint32_t entry_count;
    uint32_t entry_capacity;
    const char *error;
};

/* False: .error says why; NULL: memory is out. Either way array_cut_fini is to be called. */
bool array_cut_read(struct array_cut *answer, uint32_t entries_max);
void array_cut_fini(struct array_cut *answer);

/* The answer's text with other results and numbers: what is put at which of the two is the caller's. */
struct array_rewriting {
    const struct array_cut *around;
    struct array_result *const *entries;
    const uint64_t *positions; /* of the entries, as the client counts; NULL: they stay as they are */
    uint32_t entry_count;
    const uint64_t *values; /* of the usage's numbers */
    size_t stride;
};

/* *Gives* the text. RESULT_NO_MEMORY. */
enum result array_rewrite(const struct array_rewriting *rewriting, struct bytes *ret_text);

#endif
