/* The bytes of a big body: a cycle of 251, a prime, so that a lost, repeated or swapped piece of any ordinary size is
 * noticed. Both ends work it out from the position alone. */
#ifndef BENCH_PATTERN_H
#define BENCH_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum { PATTERN_CYCLE = 251, PATTERN_PIECE_MAX = 1 << 18 };

struct pattern {
    char bytes[PATTERN_PIECE_MAX + PATTERN_CYCLE];
};

static inline void pattern_init(struct pattern *pattern)
{
    for (size_t i = 0; i < sizeof pattern->bytes; i++)
        pattern->bytes[i] = (char)(i % PATTERN_CYCLE);
}

/* Up to PATTERN_PIECE_MAX bytes as they stand at a position of the body; lent for the pattern's life. */
static inline const char *pattern_at(const struct pattern *pattern, uint64_t position)
{
    return pattern->bytes + position % PATTERN_CYCLE;
}

static inline bool pattern_holds(const struct pattern *pattern, uint64_t position, const char *bytes, size_t length)
{
    return memcmp(pattern_at(pattern, position), bytes, length) == 0;
}

#endif
