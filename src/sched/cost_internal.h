/* What the files of the cost model share. Nobody else includes it. */
#ifndef SLUICE_SCHED_COST_INTERNAL_H
#define SLUICE_SCHED_COST_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

/* How many tokens answers take: a histogram of four steps an octave that forgets. Each step keeps its mean as well,
 * because answers cut off at a usual bound (256, 1,024) all stand at one place in it.
 *
 * To forget, a new answer counts for more than the one before; when that becomes large, all are scaled down. */
enum {
    OUTPUT_STEPS_BITS = 2,
    OUTPUT_OCTAVES = 21, /* up to 2 M tokens, and what is more counts as that */
    OUTPUT_BUCKETS = (OUTPUT_OCTAVES - OUTPUT_STEPS_BITS + 1) << OUTPUT_STEPS_BITS,
};

struct output_bucket {
    float weight;
    float sum; /* of weight × tokens */
};

struct outputs {
    double weight; /* of the next answer; 0 before the first */
    double total;
    struct output_bucket buckets[OUTPUT_BUCKETS];
};

/* `memory`: how many of the last answers count, about. */
void outputs_add(struct outputs *outputs, uint32_t tokens, double memory);

/* How many answers it holds, those forgotten apart. */
double outputs_count(const struct outputs *outputs);

/* The quantile of several of them together. `others` may be NULL; its answers count for others_count in all, and
 * `fallback` tokens, as a single place, for fallback_count. */
uint32_t outputs_quantile(const struct outputs *outputs, const struct outputs *others, double others_count,
                          uint32_t fallback, double fallback_count, double quantile);

/* The blocks of prompts that were sent: a bounded set of hashes, in lines of eight, of which each is its own LRU. */
struct prefixes {
    uint64_t *lines; /* *owned*; eight hashes each, the latest used first; 0: free */
    uint64_t line_mask;
};

/* For blocks_max, rounded down to a power of two, but at least 8. False when memory is out. */
bool prefixes_init(struct prefixes *prefixes, uint32_t blocks_max);
void prefixes_fini(struct prefixes *prefixes);

/* How many of the leading blocks are known. */
uint32_t prefixes_run(const struct prefixes *prefixes, const uint64_t *blocks, uint32_t count);

/* These have been sent now. */
void prefixes_teach(struct prefixes *prefixes, const uint64_t *blocks, uint32_t count);

#endif
