/* Where requests come from: rows of a trace, with their moments and sizes.
 *
 * A source says what was asked and when, as recorded; workload.h makes the arrivals of one run from it. */
#ifndef BENCH_SCHED_SOURCE_H
#define BENCH_SCHED_SOURCE_H

#include <stddef.h>
#include <stdint.h>

struct source_row {
    double at_s; /* from the first row */
    uint32_t prompt_tokens;
    uint32_t output_tokens;
    uint64_t tenant;      /* 0: the source does not say */
    uint32_t first_block; /* of source.blocks */
    uint32_t block_count; /* 0: the source has none */
};

struct source {
    struct source_row *rows; /* in order of at_s */
    size_t count;
    double length_s; /* of the whole recording: when it begins again */
    uint64_t *blocks;
    size_t block_count;
    uint32_t block_tokens; /* prompt tokens of a block */
};

/* Reads TIMESTAMP,ContextTokens,GeneratedTokens. *Gives*; ends the process when it cannot be had, like the others. */
struct source *source_load_azure(const char *path);

/* Reads one JSON object a line: timestamp (ms), input_length, output_length, hash_ids. The timestamps are rounded to a
 * few seconds, so they are spread evenly between one and the next. */
struct source *source_load_mooncake(const char *path);

/* Draws `length_s` seconds, from `from_s` of the recorded day, of a tar with a rate and token lengths for each client;
 * a client is a tenant. */
struct source *source_load_servegen(const char *path, double from_s, double length_s, uint64_t seed);

/* By the name: .csv, .jsonl, .tar, each perhaps packed. ServeGen's are drawn for an hour from hour 3. */
struct source *source_load(const char *path, uint64_t seed);

void source_destroy(struct source *source);

/* For the loaders. Adds a row at the end; returned to be filled in. */
struct source_row *source_add(struct source *source);
/* Sorts, and makes moments count from the first. */
void source_finish(struct source *source, double length_s);

#endif
