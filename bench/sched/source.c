#include "source.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "die.h"
#include "file.h"

enum { MOONCAKE_BLOCK_TOKENS = 512 };

/* Room for one more, doubling at powers of two. */
static void *grow(void *array, size_t count, size_t bytes)
{
    if ((count & (count - 1)) != 0) {
        return array;
    }
    void *larger = realloc(array, (count == 0 ? 1 : count * 2) * bytes);
    if (larger == NULL) {
        bench_die("no memory");
    }
    return larger;
}

struct source_row *source_add(struct source *source)
{
    source->rows = grow(source->rows, source->count, sizeof *source->rows);
    struct source_row *row = &source->rows[source->count++];
    *row = (struct source_row){0};
    return row;
}

static int compare_rows(const void *a, const void *b)
{
    double one = ((const struct source_row *)a)->at_s, other = ((const struct source_row *)b)->at_s;
    return (one > other) - (one < other);
}

void source_finish(struct source *source, double length_s)
{
    if (source->count == 0) {
        bench_die("a trace without requests");
    }
    qsort(source->rows, source->count, sizeof *source->rows, compare_rows);
    double first_s = source->rows[0].at_s;
    for (size_t i = 0; i < source->count; i++) {
        source->rows[i].at_s -= first_s;
    }
    double last_s = source->rows[source->count - 1].at_s;
    source->length_s = length_s > last_s ? length_s : last_s + last_s / (double)source->count;
}

/* Seconds since the epoch; "2023-11-16 18:15:46.6805900". */
static double parse_timestamp(const char *text)
{
    struct tm date = {0};
    const char *rest = strptime(text, "%Y-%m-%d %H:%M:%S", &date);
    if (rest == NULL) {
        bench_die("not a timestamp: %.30s", text);
    }
    return (double)timegm(&date) + (*rest == '.' ? strtod(rest, NULL) : 0);
}

struct source *source_load_azure(const char *path)
{
    struct bench_file file = bench_file_read(path);
    struct source *source = bench_need(1, sizeof *source);
    for (char *line = strchr(file.bytes, '\n'); line != NULL && line[1] != '\0'; line = strchr(line, '\n')) {
        char *at = strchr(++line, ',');
        if (at == NULL) {
            break;
        }
        struct source_row *row = source_add(source);
        row->at_s = parse_timestamp(line);
        row->prompt_tokens = (uint32_t)strtoul(at + 1, &at, 10);
        row->output_tokens = (uint32_t)strtoul(at + (*at == ','), &at, 10);
        line = at;
    }
    source_finish(source, 0);
    free(file.bytes);
    return source;
}

/* The number behind `"name":` in the line at `at`. */
static double number_of(const char *at, const char *name, const char *path)
{
    const char *found = strstr(at, name);
    if (found == NULL) {
        bench_die("no %s in %s", name, path);
    }
    return strtod(found + strlen(name), NULL);
}

static void read_blocks(struct source *source, struct source_row *row, const char *line, const char *end)
{
    const char *at = strstr(line, "\"hash_ids\":");
    if (at == NULL || at > end) {
        return;
    }
    row->first_block = (uint32_t)source->block_count;
    at = strchr(at, '[');
    while (at != NULL && isdigit((unsigned char)at[1 + strspn(at + 1, " ")])) {
        char *next;
        source->blocks = grow(source->blocks, source->block_count, sizeof *source->blocks);
        source->blocks[source->block_count++] = strtoull(at + 1, &next, 10);
        row->block_count++;
        at = next;
    }
}

/* Rows of one recorded moment are spread evenly up to the next. */
static void spread_bins(struct source *source)
{
    size_t count = source->count;
    double width_s = 0;
    for (size_t i = 0, end; i < count; i = end) {
        double at_s = source->rows[i].at_s;
        for (end = i; end < count && source->rows[end].at_s == at_s; end++) {
        }
        width_s = end < count ? source->rows[end].at_s - at_s : width_s;
        for (size_t k = i; k < end; k++) {
            source->rows[k].at_s += width_s * (double)(k - i) / (double)(end - i);
        }
    }
}

struct source *source_load_mooncake(const char *path)
{
    struct bench_file file = bench_file_read(path);
    struct source *source = bench_need(1, sizeof *source);
    source->block_tokens = MOONCAKE_BLOCK_TOKENS;
    for (char *line = file.bytes; *line != '\0';) {
        char *end = strchr(line, '\n');
        if (end == NULL) {
            end = line + strlen(line);
        }
        struct source_row *row = source_add(source);
        row->at_s = number_of(line, "\"timestamp\":", path) / 1000;
        row->prompt_tokens = (uint32_t)number_of(line, "\"input_length\":", path);
        row->output_tokens = (uint32_t)number_of(line, "\"output_length\":", path);
        read_blocks(source, row, line, end);
        line = end + (*end != '\0');
    }
    spread_bins(source);
    source_finish(source, 0);
    free(file.bytes);
    return source;
}

static bool contains(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

struct source *source_load(const char *path, uint64_t seed)
{
    if (contains(path, ".csv")) {
        return source_load_azure(path);
    }
    if (contains(path, ".jsonl")) {
        return source_load_mooncake(path);
    }
    if (contains(path, ".tar")) {
        return source_load_servegen(path, 3 * 3600.0, 3600.0, seed);
    }
    bench_die("%s: neither .csv, .jsonl nor .tar", path);
}

void source_destroy(struct source *source)
{
    free(source->rows);
    free(source->blocks);
    free(source);
}
