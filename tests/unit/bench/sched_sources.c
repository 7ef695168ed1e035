/* Traces as they are written by those who publish them. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "source.h"

struct trace_file {
    char path[64];
};

/* A file of this ending with these bytes. */
static struct trace_file write_trace(const char *ending, const char *bytes, size_t count)
{
    struct trace_file file;
    snprintf(file.path, sizeof file.path, "/tmp/bench-trace-XXXXXX%s", ending);
    int fd = mkstemps(file.path, (int)strlen(ending));
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, bytes, count), (ssize_t)count);
    close(fd);
    return file;
}

Test(bench_sources, azure_rows_have_moments_and_tokens)
{
    static const char text[] = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
                               "2023-11-16 23:59:59.5000000,374,44\n"
                               "2023-11-17 00:00:01.7500000,396,109";
    struct trace_file file = write_trace(".csv", text, sizeof text - 1);
    struct source *source = source_load(file.path, 1);
    cr_assert_eq(source->count, 2);
    cr_assert_eq(source->rows[0].prompt_tokens, 374);
    cr_assert_eq(source->rows[0].output_tokens, 44);
    cr_assert_float_eq(source->rows[0].at_s, 0, 1e-6);
    cr_assert_float_eq(source->rows[1].at_s, 2.25, 1e-6);
    cr_assert_eq(source->rows[1].output_tokens, 109);
    source_destroy(source);
    unlink(file.path);
}

Test(bench_sources, mooncake_rows_are_spread_inside_their_bin_and_have_blocks)
{
    static const char text[] =
        "{\"timestamp\": 0, \"input_length\": 6758, \"output_length\": 500, \"hash_ids\": [0, 1, 2]}\n"
        "{\"timestamp\": 0, \"input_length\": 7322, \"output_length\": 490, \"hash_ids\": [0, 14]}\n"
        "{\"timestamp\": 0, \"input_length\": 100, \"output_length\": 1, \"hash_ids\": []}\n"
        "{\"timestamp\": 3000, \"input_length\": 512, \"output_length\": 2, \"hash_ids\": [77]}\n";
    struct trace_file file = write_trace(".jsonl", text, sizeof text - 1);
    struct source *source = source_load(file.path, 1);
    cr_assert_eq(source->count, 4);
    cr_assert_float_eq(source->rows[1].at_s, 1, 1e-6);
    cr_assert_float_eq(source->rows[2].at_s, 2, 1e-6);
    cr_assert_float_eq(source->rows[3].at_s, 3, 1e-6);
    cr_assert_eq(source->rows[0].block_count, 3);
    cr_assert_eq(source->rows[1].block_count, 2);
    cr_assert_eq(source->blocks[source->rows[1].first_block + 1], 14);
    cr_assert_eq(source->rows[2].block_count, 0);
    cr_assert_eq(source->blocks[source->rows[3].first_block], 77);
    source_destroy(source);
    unlink(file.path);
}

static size_t put_entry(char *tar, const char *name, const char *text)
{
    size_t count = strlen(text);
    memset(tar, 0, 512);
    memcpy(tar, name, strlen(name));
    snprintf(tar + 124, 12, "%07o", (unsigned)count & 0xfffff);
    memcpy(tar + 512, text, count);
    return 512 + (count + 511) / 512 * 512;
}

Test(bench_sources, servegen_clients_are_tenants_with_rates_and_lengths)
{
    static char tar[8192];
    static const char lengths[] =
        "{\"0\": {\"input_tokens\": \"{50: 0.5, 60: 0.5}\", \"output_tokens\": \"{7: 1.0}\"}, "
        "\"1800\": {\"input_tokens\": \"{900: 1.0}\", \"output_tokens\": \"{8: 1.0}\"}}";
    size_t count = put_entry(tar, "x/chunk-3-trace.csv", "0,2,1,Gamma,1,0.5\n1800,1,2,Weibull,0.5,1\n3600,0,0,,0,0\n");
    count += put_entry(tar + count, "x/chunk-3-dataset.json", lengths);
    count += put_entry(tar + count, "x/chunk-4-trace.csv", "0,0,0,,0,0\n600,0.5,1,,0,0\n1200,0,0,,0,0\n");
    count += put_entry(tar + count, "x/chunk-4-dataset.json", lengths);
    struct trace_file file = write_trace(".tar", tar, count + 1024);
    struct source *source = source_load_servegen(file.path, 0, 3600, 5);
    size_t of_first[2] = {0}, of_second = 0;
    for (size_t i = 0; i < source->count; i++) {
        const struct source_row *row = &source->rows[i];
        if (row->tenant == 5) {
            of_second++;
            continue;
        }
        bool is_late = row->prompt_tokens == 900;
        cr_assert_eq(row->tenant, 4);
        cr_assert_eq(row->output_tokens, is_late ? 8 : 7);
        cr_assert(is_late || row->prompt_tokens == 50 || row->prompt_tokens == 60);
        of_first[is_late]++;
    }
    cr_assert_float_eq((double)of_first[0], 3600, 250);
    cr_assert_float_eq((double)of_first[1], 1800, 350);
    cr_assert_float_eq((double)of_second, 300, 60);
    source_destroy(source);
    unlink(file.path);
}
