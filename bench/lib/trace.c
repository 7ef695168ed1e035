#include "trace.h"

#include "bench.h"
#include "file.h"
#include "random.h"

#include <ctype.h>
#include <math.h>

static struct bench_file file_read(const char *data, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", data, name);
    return bench_file_read(path);
}

/* ---- from keys to numbers ---- */

struct numbering {
    uint64_t *keys;
    uint32_t *numbers; /* the object's + 1; 0: free */
    size_t slots;      /* a power of two */
};

static struct trace *trace_create(const char *name, size_t requests_max, struct numbering *numbering)
{
    struct trace *trace = bench_need(1, sizeof *trace);
    trace->name = strdup(name);
    trace->requests = bench_need(requests_max, sizeof *trace->requests);
    trace->bytes = bench_need(requests_max, sizeof *trace->bytes);
    trace->costs = bench_need(requests_max, sizeof *trace->costs);
    numbering->slots = 1;
    while (numbering->slots < requests_max * 2)
        numbering->slots *= 2;
    numbering->keys = bench_need(numbering->slots, sizeof *numbering->keys);
    numbering->numbers = bench_need(numbering->slots, sizeof *numbering->numbers);
    return trace;
}

static void trace_request(struct trace *trace, struct numbering *numbering, uint64_t key, uint64_t bytes)
{
    size_t slot = (key * 0x9e3779b97f4a7c15u >> 20) & (numbering->slots - 1);
    while (numbering->numbers[slot] != 0 && numbering->keys[slot] != key)
        slot = (slot + 1) & (numbering->slots - 1);
    if (numbering->numbers[slot] == 0) {
        uint32_t object = trace->object_count++;
        numbering->keys[slot] = key;
        numbering->numbers[slot] = object + 1;
        trace->bytes[object] = bytes;
        trace->costs[object] = 1;
        trace->footprint_bytes += bytes;
    }
    trace->requests[trace->request_count++] = numbering->numbers[slot] - 1;
}

static struct trace *trace_done(struct trace *trace, struct numbering *numbering, struct bench_file *file)
{
    free(numbering->keys);
    free(numbering->numbers);
    free(file->bytes);
    return trace;
}

/* ---- the traces ---- */

static struct trace *load_big_endian(const char *name, const char *data, const char *path, size_t key_bytes)
{
    struct bench_file file = file_read(data, path);
    struct numbering numbering;
    struct trace *trace = trace_create(name, file.count / key_bytes, &numbering);
    for (size_t at = 0; at + key_bytes <= file.count; at += key_bytes) {
        uint64_t key = 0;
        for (size_t i = 0; i < key_bytes; i++)
            key = key << 8 | (uint8_t)file.bytes[at + i];
        trace_request(trace, &numbering, key, 1);
    }
    return trace_done(trace, &numbering, &file);
}

struct trace *trace_load_web07(const char *data)
{
    return load_big_endian("web07", data, "cache/web07.trace.xz", 4);
}

struct trace *trace_load_corda(const char *data)
{
    return load_big_endian("corda_loop", data, "cache/corda_loop.trace.gz", 8);
}

static size_t count_of(const struct bench_file *file, char wanted)
{
    size_t count = 0;
    for (size_t i = 0; i < file->count; i++)
        count += file->bytes[i] == wanted;
    return count;
}

/* Lines of time, id and bytes. An id comes with several sizes, which are different objects. */
struct trace *trace_load_adaptsize(const char *data)
{
    struct bench_file file = file_read(data, "cache/adaptsize_sized.trace.xz");
    struct numbering numbering;
    struct trace *trace = trace_create("adaptsize_sized", count_of(&file, '\n') + 1, &numbering);
    char *at = file.bytes;
    for (;;) {
        char *end;
        (void)strtoull(at, &end, 10);
        if (end == at)
            break;
        uint64_t id = strtoull(end, &at, 10);
        uint64_t bytes = strtoull(at, &at, 10);
        trace_request(trace, &numbering, id << 32 | bytes, bytes);
    }
    return trace_done(trace, &numbering, &file);
}

/* The ids of all blocks of all prompts, in order. */
struct trace *trace_load_mooncake(const char *data)
{
    static const char list[] = "\"hash_ids\": [";
    struct bench_file file = file_read(data, "inference/mooncake_conversation.jsonl.xz");
    struct numbering numbering;
    struct trace *trace = trace_create("mooncake_blocks", count_of(&file, ',') + 1, &numbering);
    for (char *at = strstr(file.bytes, list); at != NULL; at = strstr(at, list)) {
        at += sizeof list - 1;
        while (isdigit((unsigned char)*at)) {
            trace_request(trace, &numbering, strtoull(at, &at, 10), 1);
            at += strspn(at, ", ");
        }
    }
    return trace_done(trace, &numbering, &file);
}

/* ---- costs ---- */

struct trace_tokens *trace_load_tokens(const char *data)
{
    struct bench_file file = file_read(data, "inference/azure2023_conversation.csv");
    struct trace_tokens *tokens = bench_need(1, sizeof *tokens);
    size_t lines = count_of(&file, '\n') + 1;
    tokens->prompt = bench_need(lines, sizeof *tokens->prompt);
    tokens->output = bench_need(lines, sizeof *tokens->output);
    for (char *at = strchr(file.bytes, '\n'); at != NULL; at = strchr(at, '\n')) {
        at = strpbrk(at, ",");
        if (at == NULL)
            break;
        tokens->prompt[tokens->count] = (uint32_t)strtoul(at + 1, &at, 10);
        tokens->output[tokens->count] = (uint32_t)strtoul(at + 1, &at, 10);
        tokens->count++;
    }
    free(file.bytes);
    return tokens;
}

void trace_tokens_free(struct trace_tokens *tokens)
{
    free(tokens->prompt);
    free(tokens->output);
    free(tokens);
}

void trace_mix(struct trace *trace, const struct trace_tokens *tokens, uint64_t seed)
{
    trace->footprint_bytes = 0;
    for (uint32_t i = 0; i < trace->object_count; i++) {
        if (random_share(&seed) <= 0.3) {
            size_t row = random_next(&seed) % tokens->count;
            trace->bytes[i] = 600 + 5 * (uint64_t)tokens->output[row];
            trace->costs[i] = 0.3 + 0.0002 * tokens->prompt[row] + 0.02 * tokens->output[row];
        } else {
            double bytes = random_lognormal(&seed, 4096, 1.8);
            trace->bytes[i] = (uint64_t)fmin(fmax(bytes, 1024), 10e6);
            trace->costs[i] = random_lognormal(&seed, 0.020, 1.0);
        }
        trace->footprint_bytes += trace->bytes[i];
    }
}

void trace_free(struct trace *trace)
{
    free(trace->name);
    free(trace->requests);
    free(trace->bytes);
    free(trace->costs);
    free(trace);
}
