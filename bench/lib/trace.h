/* Key streams to replay through a cache: which object each request asks for, how large it is, what it costs to make.
 *
 * Objects are numbered in the order of their first request. Files are read through xz and gzip when their names end so.
 */
#ifndef BENCH_TRACE_H
#define BENCH_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace {
    char *name;
    uint32_t *requests; /* the objects asked for, in order */
    size_t request_count;
    uint64_t *bytes; /* of each object */
    double *costs;   /* of each object; 1 unless trace_mix has drawn others */
    uint32_t object_count;
    uint64_t footprint_bytes; /* of all objects together */
};

/* Each loads one of the traces in the folder `data`, and ends the process when it is not there. *Give* a trace. */
struct trace *trace_load_web07(const char *data);
struct trace *trace_load_corda(const char *data);
struct trace *trace_load_adaptsize(const char *data);
struct trace *trace_load_mooncake(const char *data);

/* Output and prompt tokens of the requests in the Azure trace. */
struct trace_tokens {
    uint32_t *prompt;
    uint32_t *output;
    size_t count;
};

struct trace_tokens *trace_load_tokens(const char *data);
void trace_tokens_free(struct trace_tokens *tokens);

/* Draws sizes and costs (seconds) anew: with probability 0.3 an answer of a language model, else one of an API. */
void trace_mix(struct trace *trace, const struct trace_tokens *tokens, uint64_t seed);

void trace_free(struct trace *trace);

#endif
