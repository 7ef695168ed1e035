/* The parts of the load that decide what is counted: answers, events, tokens, when requests are due, percentiles. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "answer.h"
#include "events.h"
#include "pace.h"
#include "spread.h"

struct reading {
    unsigned answers, last_status;
    size_t body_bytes;
    bool is_broken;
};

/* Reads the text in pieces of so many bytes, each of them from memory of exactly its size. */
static struct reading read_in_pieces(struct answer *answer, const char *text, size_t piece_bytes)
{
    struct reading reading = {0};
    size_t length = strlen(text);
    for (size_t from = 0; from < length && !reading.is_broken; from += piece_bytes) {
        size_t left = length - from < piece_bytes ? length - from : piece_bytes;
        char *copy = malloc(left), *at = copy;
        cr_assert_not_null(copy);
        memcpy(copy, text + from, left);
        while (left > 0 && !reading.is_broken) {
            const char *payload;
            size_t payload_bytes, used;
            enum http_outcome outcome = answer_step(answer, at, left, &payload, &payload_bytes, &used);
            reading.is_broken = outcome == HTTP_BROKEN;
            reading.body_bytes += reading.is_broken ? 0 : payload_bytes;
            if (outcome == HTTP_DONE) {
                reading.answers++;
                reading.last_status = answer->status;
            }
            at += used;
            left -= used;
        }
        free(copy);
    }
    return reading;
}

Test(bench_answer, answers_are_counted_alike_however_they_are_cut)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
                               "HTTP/1.1 204 No Content\r\n\r\n"
                               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                               "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nno";
    for (size_t piece = 1; piece < sizeof text; piece++) {
        struct answer answer = {0};
        struct reading reading = read_in_pieces(&answer, text, piece);
        cr_assert_not(reading.is_broken, "pieces of %zu", piece);
        cr_assert_eq(reading.answers, 4, "pieces of %zu: %u", piece, reading.answers);
        cr_assert_eq(reading.last_status, 503);
        cr_assert_eq(reading.body_bytes, 5 + 3 + 2);
        answer_fini(&answer);
    }
}

Test(bench_answer, a_body_without_length_ends_with_the_connection)
{
    struct answer answer = {0};
    struct reading reading = read_in_pieces(&answer, "HTTP/1.1 200 OK\r\n\r\nall of this", 4);
    cr_assert_eq(reading.answers, 0);
    cr_assert_eq(reading.body_bytes, 11);
    cr_assert(answer.close_after);
    cr_assert_eq(answer_end(&answer), HTTP_DONE);
    cr_assert_eq(answer_end(&answer), HTTP_BROKEN);
    answer_fini(&answer);
}

Test(bench_answer, an_end_within_a_measured_body_is_broken)
{
    struct answer answer = {0};
    read_in_pieces(&answer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", 100);
    cr_assert_eq(answer_end(&answer), HTTP_BROKEN);
    answer_fini(&answer);
}

Test(bench_answer, an_http_1_0_answer_is_the_last_of_its_connection)
{
    struct answer answer = {0};
    cr_assert_eq(read_in_pieces(&answer, "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 100).answers, 1);
    cr_assert(answer.close_after);
    answer_reset(&answer);
    cr_assert_eq(read_in_pieces(&answer, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 100).answers, 1);
    cr_assert_not(answer.close_after);
    answer_fini(&answer);
}

Test(bench_answer, a_head_beyond_its_bound_is_broken)
{
    size_t length = ANSWER_HEAD_BYTES_MAX + 100;
    char *text = malloc(length + 1);
    cr_assert_not_null(text);
    memset(text, 'x', length);
    memcpy(text, "HTTP/1.1 200 OK\r\nA: ", 20);
    text[length] = '\0';
    struct answer answer = {0};
    cr_assert(read_in_pieces(&answer, text, 1000).is_broken);
    answer_fini(&answer);
    free(text);
}

static const char STREAM[] = ": a comment\n\n"
                             "data: {\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}\n\n"
                             "data: {\"delta\":{\"content\":\"dry \"}}\n\n"
                             "event: x\r\ndata: {\"delta\":{\"content\":\"\\\"win\"}}\r\n\r\n"
                             "data: [DONE]\n\n";

Test(bench_events, events_and_tokens_are_counted_alike_however_they_are_cut)
{
    for (size_t piece = 1; piece < sizeof STREAM; piece++) {
        struct events events = {0};
        unsigned count = 0, tokens = 0;
        for (size_t from = 0; from < sizeof STREAM - 1; from += piece) {
            size_t left = sizeof STREAM - 1 - from;
            const char *at = STREAM + from, *end = at + (left < piece ? left : piece);
            tokens += events_tokens(&events, at, (size_t)(end - at));
            while (at < end)
                count += events_next(&events, &at, end);
        }
        cr_assert_eq(count, 4, "pieces of %zu: %u events", piece, count);
        cr_assert_eq(tokens, 2, "pieces of %zu: %u tokens", piece, tokens);
    }
}

Test(bench_pace, even_arrivals_do_not_drift)
{
    struct pace pace = {.rate = 3};
    pace_begin(&pace, 1000);
    for (unsigned i = 0; i < 3000000; i++)
        pace_next(&pace);
    cr_assert_eq(pace.due_ns, 1000 + 1000000ull * 1000000000ull);
}

Test(bench_pace, poisson_arrivals_have_the_rate_and_the_spread_of_chance)
{
    enum { COUNT = 200000 };
    struct pace pace = {.rate = 1000, .is_poisson = true, .seed = 7};
    pace_begin(&pace, 0);
    uint64_t before = 0;
    double squares = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        pace_next(&pace);
        double gap_ms = (double)(pace.due_ns - before) / 1e6;
        squares += gap_ms * gap_ms;
        before = pace.due_ns;
    }
    cr_assert_float_eq((double)pace.due_ns / 1e6 / COUNT, 1, 0.01);
    cr_assert_float_eq(squares / COUNT, 2, 0.05); /* of an exponential with mean 1 */
}

Test(bench_spread, quantiles_are_within_a_step_and_never_beyond_the_highest)
{
    struct spread *spread = calloc(1, sizeof *spread);
    cr_assert_not_null(spread);
    for (uint64_t i = 1; i <= 100000; i++)
        spread_add(spread, i * 1000);
    static const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < sizeof shares / sizeof *shares; i++)
        cr_assert_float_eq(spread_quantile_us(spread, shares[i]), shares[i] * 100000, shares[i] * 1000, "%f",
                           shares[i]);
    cr_assert_float_eq(spread_mean_us(spread), 50000.5, 0.1);
    cr_assert_leq(spread_quantile_us(spread, 0.999999), 100000);
    free(spread);
}

Test(bench_spread, nothing_has_quantiles_of_zero)
{
    struct spread *spread = calloc(1, sizeof *spread);
    cr_assert_not_null(spread);
    cr_assert_float_eq(spread_quantile_us(spread, 0.99), 0, 1e-9);
    cr_assert_float_eq(spread_mean_us(spread), 0, 1e-9);
    free(spread);
}
