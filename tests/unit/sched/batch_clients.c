/* What batches are to reach, on the clients and the backend of bench/batch_sim.c. */
#include "../../../bench/lib/batch_clients.c"

#include <criterion/criterion.h>

static struct batch_clients_options scene(uint32_t items_max, uint32_t calls_max)
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
        .warm_up_ns = NANOS_PER_S,
        .measured_ns = 3 * NANOS_PER_S,
        .seed = 1,
    };
}

static struct batch_clients_result serve(uint32_t items_max, uint32_t calls_max, uint32_t clients,
                                         double arrivals_per_s)
{
    struct batch_clients_options options = scene(items_max, calls_max);
    options.clients = clients;
    options.arrivals_per_s = arrivals_per_s;
    struct batch_clients_result result;
    cr_assert(batch_clients_run(&options, &result));
    return result;
}

Test(batch_clients, get_eight_times_the_throughput)
{
    struct batch_clients_result plain = serve(1, 0, 1000, 0);
    cr_assert(plain.items_per_s > 780 && plain.items_per_s < 800, "%f", plain.items_per_s);
    for (uint32_t calls_max = 0; calls_max <= 4; calls_max += 4) {
        struct batch_clients_result batched = serve(256, calls_max, 1000, 0);
        cr_assert_geq(batched.items_per_s, 8 * plain.items_per_s);
        cr_assert_leq(batched.overdue_ms, 0);
    }
}

Test(batch_clients, wait_hardly_longer_under_light_load)
{
    for (double arrivals = 40; arrivals <= 240; arrivals += 50) {
        struct batch_clients_result plain = serve(1, 0, 0, arrivals);
        struct batch_clients_result batched = serve(256, 4, 0, arrivals);
        cr_assert_leq(batched.p99_ms, 1.2 * plain.p99_ms, "%f: %f %f", arrivals, batched.p99_ms, plain.p99_ms);
        cr_assert_leq(batched.overdue_ms, 0);
    }
}
