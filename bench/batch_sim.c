/* What batches are worth: 1,000 clients of one item each against a backend that takes 5 ms + 0.05 ms × items for a call
 * and four calls at once, with and without the batch former, on a virtual clock; and the same under light load.
 *
 * Reach: ≥ 8 times the throughput; p99 ≤ 1.2 times under light load; no item older than its maximum while a call is
 * free. Exits 1 when it misses one of them. `calls_max` 0 leaves it to the backend how many calls run at once.
 *
 *   build/release/bench/batch_sim [seed] */
#include <stdio.h>
#include <stdlib.h>

#include "batch_clients.h"

static const double throughput_ratio_min = 8;
static const double p99_ratio_max = 1.2;

static struct batch_clients_options scene(uint32_t items_max, uint32_t calls_max, uint64_t seed)
{
    return (struct batch_clients_options){
        .former = {.items_max = items_max,
                   .tokens_max = UINT64_MAX,
                   .bytes_max = UINT64_MAX,
                   .calls_max = calls_max,
                   .waiting_max = 100000,
                   .wait_max_ns = 5 * NANOS_PER_MS},
        .slots = 4,
        .call_ns = 5 * NANOS_PER_MS,
        .item_ns = 50 * NANOS_PER_US,
        .warm_up_ns = 2 * NANOS_PER_S,
        .measured_ns = 10 * NANOS_PER_S,
        .seed = seed,
    };
}

static struct batch_clients_result measure(const struct batch_clients_options *options)
{
    struct batch_clients_result result;
    if (!batch_clients_run(options, &result)) {
        abort();
    }
    return result;
}

static bool compare(const char *load, uint32_t clients, double arrivals_per_s, uint32_t calls_max, uint64_t seed)
{
    struct batch_clients_options options = scene(1, 0, seed);
    options.clients = clients;
    options.arrivals_per_s = arrivals_per_s;
    struct batch_clients_result plain = measure(&options);
    options.former = scene(256, calls_max, seed).former;
    struct batch_clients_result batched = measure(&options);
    double throughput = batched.items_per_s / plain.items_per_s;
    double p99 = batched.p99_ms / plain.p99_ms;
    bool is_reached =
        (clients > 0 ? throughput >= throughput_ratio_min : p99 <= p99_ratio_max) && batched.overdue_ms <= 0;
    printf("%-14s %5u %10.0f %10.0f %7.2f %9.2f %9.2f %7.3f %8.1f %9.2f %8.2f  %s\n", load, calls_max,
           plain.items_per_s, batched.items_per_s, throughput, plain.p99_ms, batched.p99_ms, p99,
           batched.items_per_call, batched.oldest_ms, batched.overdue_ms, is_reached ? "ok" : "MISSED");
    return is_reached;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    static const double light[] = {20, 80, 160, 240};
    bool is_reached = true;
    printf("%-14s %5s %10s %10s %7s %9s %9s %7s %8s %9s %8s\n", "load", "calls", "plain/s", "batched/s", "ratio",
           "plain p99", "p99 ms", "ratio", "per call", "oldest ms", "overdue");
    for (uint32_t calls_max = 0; calls_max <= 4; calls_max += 4) {
        is_reached &= compare("1000 clients", 1000, 0, calls_max, seed);
        for (unsigned i = 0; i < sizeof(light) / sizeof(light[0]); i++) {
            char name[32];
            snprintf(name, sizeof(name), "%.0f items/s", light[i]);
            is_reached &= compare(name, 0, light[i], calls_max, seed);
        }
    }
    return is_reached ? 0 : 1;
}
