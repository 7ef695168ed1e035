/* What reading a request's demand costs: head and body of requests as SDKs send them, and long prompts.
 *
 *   demand [ROUNDS]
 *
 * Printed is the median of the rounds, in CPU time of this thread; beside it, for scale, what yyjson takes to read the
 * same body. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <yyjson.h>

#include "api/demand.h"
#include "base/check.h"

enum { ROUNDS_MAX = 1001, BODY_BYTES_MAX = 4 << 20, WORK_BYTES = 1 << 20 };

static uint64_t cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * NANOS_PER_S + (uint64_t)now.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
    qsort(values, count, sizeof(values[0]), compare);
    return values[count / 2];
}

static void measure_head(unsigned rounds)
{
    static const char text[] =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nAccept-Encoding: gzip, deflate\r\n"
        "Connection: keep-alive\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
        "User-Agent: OpenAI/Python 1.54.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Package-Version: 1.54.0\r\n"
        "X-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\nX-Stainless-Runtime: CPython\r\n"
        "X-Stainless-Runtime-Version: 3.11.2\r\nAuthorization: Bearer sk-0123456789\r\nX-Stainless-Async: false\r\n"
        "x-stainless-retry-count: 0\r\nx-stainless-read-timeout: 600\r\nPriority: u=2\r\nContent-Length: 120\r\n\r\n";
    static struct http_parser parser;
    const struct http_limits limits = {.head_bytes_max = 4096, .target_bytes_max = 1024, .fields_max = 100};
    http_parser_init(&parser, HTTP_REQUEST, &limits);
    CHECK(http_parse_head(&parser, text, sizeof(text) - 1) == RESULT_OK);
    double took[ROUNDS_MAX];
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t began = cpu_ns();
        for (unsigned i = 0; i < 1000; i++) {
            struct demand demand;
            demand_init(&demand);
            demand_from_head(&demand, &parser.head, text);
            CHECK(demand.class == 1 && demand.silence_ns == 600 * NANOS_PER_S);
        }
        took[round] = (double)(cpu_ns() - began) / 1000;
    }
    printf("%-24s %9zu B  %9.0f ns\n", "head of the OpenAI SDK", sizeof(text) - 1, median(took, rounds));
}

static void measure_body(const char *name, struct bytes body, unsigned rounds)
{
    static uint64_t blocks[DEMAND_BLOCKS_MAX];
    static double took[3][ROUNDS_MAX];
    unsigned repeats = (unsigned)(WORK_BYTES / body.len) + 1;
    uint64_t checksum = 0;
    for (unsigned round = 0; round < rounds; round++) {
        uint64_t moments[4];
        struct demand demand;
        moments[0] = cpu_ns();
        for (unsigned i = 0; i < repeats; i++) {
            demand_init(&demand);
            demand_from_body(&demand, BYTES("/v1/chat/completions"), body);
            checksum += demand.prompt_bytes;
        }
        moments[1] = cpu_ns();
        for (unsigned i = 0; i < repeats; i++) {
            checksum += demand_blocks(&demand, blocks, DEMAND_BLOCKS_MAX);
        }
        moments[2] = cpu_ns();
        for (unsigned i = 0; i < repeats; i++) {
            yyjson_doc *doc = yyjson_read(body.ptr, body.len, 0);
            CHECK(doc != NULL);
            checksum += yyjson_doc_get_val_count(doc);
            yyjson_doc_free(doc);
        }
        moments[3] = cpu_ns();
        for (unsigned i = 0; i < 3; i++) {
            took[i][round] = (double)(moments[i + 1] - moments[i]) / repeats;
        }
    }
    CHECK(checksum != 0);
    double read = median(took[0], rounds);
    printf("%-24s %9zu B  %9.0f ns (%5.2f GB/s)   blocks %9.0f ns   yyjson %9.0f ns\n", name, body.len, read,
           (double)body.len / read, median(took[1], rounds), median(took[2], rounds));
}

/* A conversation of turns of `words` words; every so many a line ends. */
static struct bytes conversation(char *text, size_t bytes, unsigned words, const char *word)
{
    char *at = bytes_put(text, BYTES("{\"model\":\"llama-3.1-8b\",\"stream\":true,\"max_tokens\":512,\"messages\":["));
    for (unsigned turn = 0; at < text + bytes; turn++) {
        at = bytes_put(at, turn == 0 ? BYTES_NONE : BYTES(","));
        at += sprintf(at, "{\"role\":\"%s\",\"content\":\"", turn % 2 == 0 ? "user" : "assistant");
        for (unsigned i = 0; i < words; i++) {
            at = bytes_put(bytes_put(at, bytes_from(word)), i % 12 == 11 ? BYTES("\\n") : BYTES(" "));
        }
        at = bytes_put(at, BYTES("\"}"));
    }
    at = bytes_put(at, BYTES("]}"));
    return (struct bytes){text, (size_t)(at - text)};
}

static struct bytes tokens(char *text, unsigned count)
{
    char *at = bytes_put(text, BYTES("{\"model\":\"m\",\"prompt\":[1"));
    for (unsigned i = 1; i < count; i++) {
        at += sprintf(at, ",%u", i * 2654435761u % 128000);
    }
    at = bytes_put(at, BYTES("]}"));
    return (struct bytes){text, (size_t)(at - text)};
}

int main(int argc, char **argv)
{
    unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 21;
    rounds = rounds < 1 ? 1 : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    char *text = malloc(BODY_BYTES_MAX);
    CHECK(text != NULL);
    measure_head(rounds);
    measure_body("a question", conversation(text, 100, 20, "word"), rounds);
    measure_body("a conversation", conversation(text, 4 << 10, 60, "word"), rounds);
    measure_body("a long one", conversation(text, 1 << 20, 400, "word"), rounds);
    measure_body("a long one, \\u escapes", conversation(text, 1 << 20, 400, "\\u4e2d\\u6587"), rounds);
    measure_body("100,000 tokens", tokens(text, 100000), rounds);
    free(text);
    return 0;
}
