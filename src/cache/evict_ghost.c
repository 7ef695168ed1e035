#include "cache/evict_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    LINES_MIN = 16,
    TICKS_PER_WINDOW = 2048, /* a 16-bit time comes round after 32 windows */
};

/* ---- tables ---- */

static MUST_USE enum result table_init(struct ghost_table *table, uint32_t line_count)
{
    uint32_t segment_count = (line_count + GHOST_SEGMENT_LINES - 1) / GHOST_SEGMENT_LINES;
    table->segments = calloc(segment_count, sizeof(*table->segments));
    if (table->segments == NULL) {
        return RESULT_NO_MEMORY;
    }
    table->line_count = line_count;
    table->segment_count = segment_count;
    table->bytes = segment_count * sizeof(*table->segments);
    return RESULT_OK;
}

static size_t segment_bytes(const struct ghost_table *table)
{
    uint32_t lines = table->line_count < GHOST_SEGMENT_LINES ? table->line_count : GHOST_SEGMENT_LINES;
    return lines * sizeof(struct ghost_line);
}

/* Frees the last segment, or the table when there is none. */
static void table_shrink(struct ghost_table *table)
{
    if (table->segment_count == 0) {
        free(table->segments);
        memset(table, 0, sizeof(*table));
        return;
    }
    struct ghost_line **segment = &table->segments[--table->segment_count];
    if (*segment != NULL) {
        free(*segment);
        table->bytes -= segment_bytes(table);
    }
}

static void table_fini(struct ghost_table *table)
{
    while (table->segments != NULL) {
        table_shrink(table);
    }
}

static uint32_t line_index(const struct ghost_table *table, uint64_t mixed)
{
    return (uint32_t)((mixed >> 32) * table->line_count >> 32);
}

/* NULL: nothing was ever put there, or its segment is gone. */
static struct ghost_line *table_line(const struct ghost_table *table, uint64_t mixed)
{
    uint32_t index = line_index(table, mixed);
    uint32_t segment = index / GHOST_SEGMENT_LINES;
    if (segment >= table->segment_count || table->segments[segment] == NULL) {
        return NULL;
    }
    return &table->segments[segment][index % GHOST_SEGMENT_LINES];
}

static void table_provide(struct ghost_table *table, uint64_t mixed)
{
    struct ghost_line **segment = &table->segments[line_index(table, mixed) / GHOST_SEGMENT_LINES];
    if (*segment == NULL) {
        *segment = calloc(1, segment_bytes(table));
        table->bytes += *segment != NULL ? segment_bytes(table) : 0;
    }
}

/* ---- the ghost ---- */

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
    return ghost->table.bytes + ghost->old.bytes;
}

void ghost_fit(struct ghost *ghost, uint64_t residents)
{
    uint64_t slots = (uint64_t)ghost->table.line_count * GHOST_WAYS;
    bool is_small = residents + residents / 4 > slots;
    bool is_large = residents < slots / 8 && ghost->table.line_count > LINES_MIN;
    if ((!is_small && !is_large) || ghost->old.segments != NULL) {
        return;
    }
    uint64_t wanted = residents * 2 / GHOST_WAYS;
    uint32_t line_count = wanted < LINES_MIN ? LINES_MIN : wanted < UINT32_MAX / 2 ? (uint32_t)wanted : UINT32_MAX / 2;
    struct ghost_table table;
    if (table_init(&table, line_count) != RESULT_OK) {
        return;
    }
    if (ghost->table.bytes == ghost->table.segment_count * sizeof(*table.segments)) {
        table_fini(&ghost->table); /* nothing was ever put in */
    } else {
        ghost->old = ghost->table;
        ghost->old_until_bytes = ghost->gone_bytes + ghost->window_bytes;
    }
    ghost->table = table;
}

/* One segment at a time, once everything in it is out of the window. */
static void forget_old(struct ghost *ghost)
{
    if (ghost->old.segments != NULL && ghost->gone_bytes >= ghost->old_until_bytes) {
        table_shrink(&ghost->old);
    }
}

/* Shards and the index have used up bits of the hash; the upper half of a product depends on all of them. */
static uint64_t mix(uint64_t hash)
{
    hash = (hash ^ hash >> 32) * 0x9e3779b97f4a7c15u;
    return hash ^ hash >> 29;
}

static uint16_t print_of(uint64_t mixed)
{
    uint16_t print = (uint16_t)mixed;
    return print != 0 ? print : 1;
}

/* In ticks. */
static uint16_t age_of(const struct ghost *ghost, uint16_t time)
{
    return (uint16_t)(ghost->gone_bytes / ghost->tick_bytes - time);
}

/* The slot of this fingerprint, else a free one, else the oldest. */
static unsigned slot_for(const struct ghost *ghost, const struct ghost_line *line, uint16_t print)
{
    unsigned slot = 0;
    uint32_t slot_age = 0;
    for (unsigned i = 0; i < GHOST_WAYS; i++) {
        if (line->prints[i] == print) {
            return i;
        }
        uint32_t age = line->prints[i] == 0 ? UINT16_MAX + 1 : age_of(ghost, line->times[i]);
        if (age > slot_age) {
            slot = i;
            slot_age = age;
        }
    }
    return slot;
}

void ghost_add(struct ghost *ghost, uint64_t hash, uint64_t bytes)
{
    uint64_t spared = bytes < ghost->claimed_bytes ? bytes : ghost->claimed_bytes;
    ghost->claimed_bytes -= spared;
    ghost->gone_bytes += bytes - spared;
    forget_old(ghost);
    uint64_t mixed = mix(hash);
    table_provide(&ghost->table, mixed);
    struct ghost_line *line = table_line(&ghost->table, mixed);
    if (line != NULL) {
        unsigned slot = slot_for(ghost, line, print_of(mixed));
        line->prints[slot] = print_of(mixed);
        line->times[slot] = (uint16_t)(ghost->gone_bytes / ghost->tick_bytes);
    }
}

/* The slot that remembers it, or NULL. */
static uint16_t *table_find(const struct ghost *ghost, const struct ghost_table *table, uint64_t mixed)
{
    struct ghost_line *line = table_line(table, mixed);
    for (unsigned i = 0; line != NULL && i < GHOST_WAYS; i++) {
        if (line->prints[i] == print_of(mixed)) {
            bool is_recent = age_of(ghost, line->times[i]) <= ghost->window_bytes / ghost->tick_bytes;
            return is_recent ? &line->prints[i] : NULL;
        }
    }
    return NULL;
}

static uint16_t *find(const struct ghost *ghost, uint64_t hash)
{
    uint64_t mixed = mix(hash);
    uint16_t *found = table_find(ghost, &ghost->table, mixed);
    return found != NULL ? found : table_find(ghost, &ghost->old, mixed);
}

bool ghost_knows(const struct ghost *ghost, uint64_t hash)
{
    return find(ghost, hash) != NULL;
}

bool ghost_claim(struct ghost *ghost, uint64_t hash, uint64_t bytes)
{
    uint16_t *print = find(ghost, hash);
    if (print == NULL) {
        return false;
    }
    *print = 0;
    ghost->claimed_bytes += bytes;
    return true;
}
