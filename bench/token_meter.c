/* What watching a stream costs: token_meter_feed over events of each dialect, one event a run, as they come from a
 * backend, and in runs of 4 KB, as they come when it is ahead; and over the JSON of embeddings.
 *
 *   token_meter [ROUNDS]
 *
 * Printed is the median of the rounds, in nanoseconds an event (of CPU time of this thread), and what they are a byte.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/token_meter.h"
#include "base/check.h"

enum { EVENTS = 4096, ROUNDS_MAX = 101, EVENT_BYTES_MAX = 1024, NUMBERS = 100000 };

static const struct dialect {
    const char *name;
    const char *event; /* %u: a number that rises */
} dialects[] = {
    {"chat (vLLM)",
     "data: {\"id\":\"chatcmpl-6f7d0c3a2b1e4f5a9c8d7e6f5a4b3c2d\",\"object\":\"chat.completion.chunk\","
     "\"created\":1730000000,\"model\":\"llama-3.1-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
     "\" word\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n"},
    {"chat (reasoning)",
     "data: {\"id\":\"chatcmpl-6f7d0c3a2b1e\",\"object\":\"chat.completion.chunk\",\"created\":"
     "1730000000,\"model\":\"deepseek-r1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":null,"
     "\"reasoning_content\":\" so\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n"},
    {"completions",
     "data: {\"id\":\"cmpl-6f7d0c3a2b1e4f5a9c8d7e6f5a4b3c2d\",\"object\":\"text_completion\",\"created\":"
     "1730000000,\"model\":\"llama-3.1-8b\",\"choices\":[{\"index\":0,\"text\":\" word\",\"logprobs\":null,"
     "\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\n"},
    {"responses",
     "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":"
     "%u,\"item_id\":\"msg_6f7d0c3a2b1e4f5a9c8d\",\"output_index\":0,\"content_index\":0,\"delta\":\" word\","
     "\"logprobs\":[]}\n\n"},
    {"messages", "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
                 "\"text_delta\",\"text\":\" word\"}}\n\n"},
    {"chat with usage",
     "data: {\"id\":\"chatcmpl-6f7d0c3a2b1e\",\"object\":\"chat.completion.chunk\",\"created\":"
     "1730000000,\"model\":\"llama-3.1-8b\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word\"},"
     "\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":812,\"total_tokens\":900,"
     "\"completion_tokens\":%u}}\n\n"},
};

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Feeds the text in runs that end where `ends` says; gives the median of the rounds. */
static double measure(struct bytes text, const size_t *ends, unsigned runs, bool is_stream, unsigned rounds)
{
    double took[ROUNDS_MAX];
    for (unsigned round = 0; round < rounds; round++) {
        struct token_meter meter;
        token_meter_init(&meter, is_stream);
        uint64_t began = cpu_ns();
        size_t at = 0;
        for (unsigned i = 0; i < runs; i++) {
            token_meter_feed(&meter, (struct bytes){text.ptr + at, ends[i] - at});
            at = ends[i];
        }
        took[round] = (double)(cpu_ns() - began);
        CHECK(is_stream ? meter.tokens == EVENTS : meter.has_usage && meter.prompt_tokens == 17);
    }
    qsort(took, rounds, sizeof(took[0]), compare);
    return took[rounds / 2];
}

static unsigned cut_evenly(size_t bytes, size_t step, size_t *ends)
{
    unsigned runs = 0;
    for (size_t at = 0; at < bytes;) {
        at = bytes - at < step ? bytes : at + step;
        ends[runs++] = at;
    }
    return runs;
}

static void measure_dialect(const struct dialect *dialect, unsigned rounds)
{
    static char text[EVENTS * EVENT_BYTES_MAX];
    static size_t ends[EVENTS];
    static size_t pages[sizeof(text) / 4096 + 1];
    size_t used = 0;
    for (unsigned i = 0; i < EVENTS; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, dialect->event, i + 1);
        ends[i] = used;
    }
    struct bytes all = {text, used};
    double single = measure(all, ends, EVENTS, true, rounds);
    double paged = measure(all, pages, cut_evenly(used, 4096, pages), true, rounds);
    printf("%-18s %5zu B   %6.1f ns an event, one a run   %6.1f ns in runs of 4 KB   %.2f ns a byte\n", dialect->name,
           used / EVENTS, single / EVENTS, paged / EVENTS, paged / (double)used);
}

static void measure_embeddings(unsigned rounds)
{
    static char text[NUMBERS * 24];
    static size_t ends[sizeof(text) / 4096 + 1];
    size_t used = (size_t)snprintf(text, sizeof(text), "{\"object\":\"list\",\"data\":[{\"index\":0,\"embedding\":[0");
    for (unsigned i = 1; i < NUMBERS; i++) {
        used += (size_t)snprintf(text + used, sizeof(text) - used, ",%.17g", (double)(i * 2654435761u) / 4e9 - 0.5);
    }
    used +=
        (size_t)snprintf(text + used, sizeof(text) - used, "]}],\"usage\":{\"prompt_tokens\":17,\"total_tokens\":17}}");
    unsigned runs = cut_evenly(used, 4096, ends);
    double took = measure((struct bytes){text, used}, ends, runs, false, rounds);
    printf("%-18s %5zu KB  %6.1f µs   %.2f ns a byte\n", "embeddings (JSON)", used >> 10, took / 1e3,
           took / (double)used);
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 21;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    for (size_t i = 0; i < ARRAY_COUNT(dialects); i++) {
        measure_dialect(&dialects[i], rounds);
    }
    measure_embeddings(rounds);
    return 0;
}
