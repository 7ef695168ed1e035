/* Clients of an array API, the batch former, and a backend with a few calls at once, on a virtual clock.
 *
 * A call of n items takes call_ns + n × item_ns; calls beyond `slots` wait at the backend, first come first served.
 * Clients are either a closed loop (each sends its next item when it has its answer) or Poisson arrivals. */
#ifndef SLUICE_BENCH_BATCH_CLIENTS_H
#define SLUICE_BENCH_BATCH_CLIENTS_H

#include "sched/batch.h"

struct batch_clients_options {
    struct batch_options former;
    uint32_t slots;
    nanos call_ns;
    nanos item_ns;
    uint32_t clients;      /* of the closed loop, each a tenant of its own; 0: Poisson arrivals */
    double arrivals_per_s; /* of Poisson arrivals */
    nanos warm_up_ns;      /* not measured */
    nanos measured_ns;
    uint64_t seed;
};

struct batch_clients_result {
    double items_per_s;
    double p50_ms, p99_ms; /* of items, from arrival to answer */
    double items_per_call;
    double oldest_ms;  /* the longest that an item waited in the former */
    double overdue_ms; /* the longest beyond wait_max_ns that one waited while a call was free */
};

/* False when memory is out. */
bool batch_clients_run(const struct batch_clients_options *options, struct batch_clients_result *ret_result);

#endif
