#include "cache/evict_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINES_MIN = 16,
    TICKS_PER_WINDOW = 2048, /* a 16-bit time comes round after 32 windows */
};

static MUST_USE enum result table_init(struct ghost_table *table, uint32_t line_count)
{
    table->lines = calloc(line_count, sizeof(struct ghost_line));
    if (table->lines == NULL) {
        return RESULT_NO_MEMORY;
    }
    table->line_count = line_count;
    return RESULT_OK;
}

static void table_fini(struct ghost_table *table)
{
    free(table->lines);
    *table = (struct ghost_table){NULL, 0};
}

enum result ghost_init(struct ghost *ghost, uint64_t window_bytes)
{
    memset(ghost, 0, sizeof(*ghost));
    ghost->window_bytes = window_bytes;
    ghost->tick_bytes = window_bytes / TICKS_PER_WINDOW + 1;
    return table_init(&ghost->table, LINES_MIN);
}

void ghost_fini(struct ghost *ghost)
{
    table_fini(&ghost->table);
    table_fini(&ghost->old);
}

uint64_t ghost_bytes(const struct ghost *ghost)
{
    return ((uint64_t)ghost->table.line_count + ghost->old.line_count) * sizeof(struct ghost_line);
}

void ghost_fit(struct ghost *ghost, uint64_t residents)
{
    uint64_t slots = (uint64_t)ghost->table.line_count * GHOST_WAYS;
    bool is_small = residents + residents / 4 > slots;
    bool is_large = residents * 8 < slots && ghost->table.line_count > LINES_MIN;
    if ((!is_small && !is_large) || ghost->old.lines != NULL) {
        return;
    }
    uint64_t wanted = residents * 2 / GHOST_WAYS;
    uint32_t line_count = wanted < LINES_MIN ? LINES_MIN : wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted;
    struct ghost_table table;
    if (line_count == ghost->table.line_count || table_init(&table, line_count) != RESULT_OK) {
        return;
    }
    if (ghost->remembered == 0) {
        table_fini(&ghost->table);
    } else {
        ghost->old = ghost->table;
        ghost->old_until_bytes = ghost->gone_bytes + ghost->window_bytes;
    }
    ghost->table = table;
    ghost->remembered = 0;
}

/* Shards and the index have used up bits of the hash; a product's upper half depends on all of them. */
static uint64_t mix(uint64_t hash)
{
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static struct ghost_line *line_of(const struct ghost_table *table, uint64_t mixed)
{
    return &table->lines[(mixed >> 32) * table->line_count >> 32];
}

static uint16_t print_of(uint64_t mixed)
{
    uint16_t print = (uint16_t)mixed;
    return print != 0 ? print : 1;
}

static uint16_t age_of(const struct ghost *ghost, uint16_t time)
{
    return (uint16_t)(ghost->gone_bytes / ghost->tick_bytes - time);
}

void ghost_add(struct ghost *ghost, uint64_t hash, uint64_t bytes)
{
    uint64_t spared = bytes < ghost->claimed_bytes ? bytes : ghost->claimed_bytes;
    ghost->claimed_bytes -= spared;
    ghost->gone_bytes += bytes - spared;
    if (ghost->old.lines != NULL && ghost->gone_bytes >= ghost->old_until_bytes) {
        table_fini(&ghost->old);
    }
    uint64_t mixed = mix(hash);
    struct ghost_line *line = line_of(&ghost->table, mixed);
    unsigned oldest = 0;
    for (unsigned i = 0; i < GHOST_WAYS; i++) {
        if (line->prints[i] == 0 || line->prints[i] == print_of(mixed)) {
            oldest = i;
            break;
        }
        if (age_of(ghost, line->times[i]) > age_of(ghost, line->times[oldest])) {
            oldest = i;
        }
    }
    line->prints[oldest] = print_of(mixed);
    line->times[oldest] = (uint16_t)(ghost->gone_bytes / ghost->tick_bytes);
    ghost->remembered++;
}

static bool table_claim(const struct ghost *ghost, const struct ghost_table *table, uint64_t mixed)
{
    if (table->lines == NULL) {
        return false;
    }
    struct ghost_line *line = line_of(table, mixed);
    for (unsigned i = 0; i < GHOST_WAYS; i++) {
        if (line->prints[i] == print_of(mixed)) {
            line->prints[i] = 0;
            return (uint64_t)age_of(ghost, line->times[i]) * ghost->tick_bytes <= ghost->window_bytes;
        }
    }
    return false;
}

bool ghost_claim(struct ghost *ghost, uint64_t hash, uint64_t bytes)
{
    uint64_t mixed = mix(hash);
    bool was_here = table_claim(ghost, &ghost->table, mixed) || table_claim(ghost, &ghost->old, mixed);
    ghost->claimed_bytes += was_here ? bytes : 0;
    return was_here;
}
