#include "sched/cost_internal.h"

#include <stdlib.h>
#include <string.h>

enum { WAYS = 8 };

_Static_assert(WAYS * sizeof(uint64_t) == 64, "a line of the set is one of the processor's");

static uint64_t *line_of(const struct prefixes *prefixes, uint64_t hash)
{
    /* Multiplied, so that hashes of poor low bits spread too (Knuth's golden ratio). */
    uint64_t line = (hash * UINT64_C(0x9e3779b97f4a7c15)) >> 32;
    return prefixes->lines + (line & prefixes->line_mask) * WAYS;
}

/* 0 marks a free place. */
static uint64_t marked(uint64_t hash)
{
    return hash == 0 ? 1 : hash;
}

static unsigned find(const uint64_t *line, uint64_t hash)
{
    unsigned way = 0;
    while (way < WAYS && line[way] != hash) {
        way++;
    }
    return way;
}

bool prefixes_init(struct prefixes *prefixes, uint32_t blocks_max)
{
    uint64_t lines = 1;
    while (lines * 2 * WAYS <= blocks_max) {
        lines *= 2;
    }
    prefixes->line_mask = lines - 1;
    prefixes->lines = aligned_alloc(64, lines * WAYS * sizeof(uint64_t));
    if (prefixes->lines == NULL) {
        return false;
    }
    memset(prefixes->lines, 0, lines * WAYS * sizeof(uint64_t));
    return true;
}

void prefixes_fini(struct prefixes *prefixes)
{
    free(prefixes->lines);
}

uint32_t prefixes_run(const struct prefixes *prefixes, const uint64_t *blocks, uint32_t count)
{
    uint32_t run = 0;
    while (run < count && find(line_of(prefixes, marked(blocks[run])), marked(blocks[run])) < WAYS) {
        run++;
    }
    return run;
}

void prefixes_teach(struct prefixes *prefixes, const uint64_t *blocks, uint32_t count)
{
    /* From the last to the first: a block is worth nothing without those before it, so these stay longer. */
    for (uint32_t i = count; i-- > 0;) {
        uint64_t hash = marked(blocks[i]);
        uint64_t *line = line_of(prefixes, hash);
        unsigned way = find(line, hash);
        way = way < WAYS ? way : WAYS - 1;
        memmove(line + 1, line, way * sizeof *line);
        line[0] = hash;
    }
}
