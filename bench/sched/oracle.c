#include "oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "contender.h"
#include "die.h"
#include "metrics.h"

enum { LIMIT_MOST = 160, MARGIN_MOST_MS = 2600 };

static const double STEP = 1.25;

struct sweep {
    const struct run_setup *setup;
    struct oracle_phase *phases;
    unsigned count;
    bool was_tried[LIMIT_MOST + 1];
};

uint16_t *oracle_good_of_second(const struct run_result *result, nanos token_max_ns, size_t seconds)
{
    uint16_t *good = bench_need(seconds, sizeof *good);
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        size_t second = request->load->at_ns / NANOS_PER_S;
        if (second < seconds && metrics_is_good(request, token_max_ns)) {
            good[second]++;
        }
    }
    return good;
}

double oracle_capacity(const struct run_setup *setup, nanos from, nanos to, double *ret_limit)
{
    double most = 0;
    for (double limit = 2; limit <= LIMIT_MOST; limit = ceil(limit * STEP)) {
        struct run_setup at = *setup;
        at.contender = (struct contender){.name = "first come", .is_none = true, .fixed = limit};
        struct run_result *result = run(&at);
        size_t done = 0;
        for (size_t i = 0; i < result->count; i++) {
            done += result->requests[i].last_ns >= from && result->requests[i].last_ns < to;
        }
        run_result_destroy(result);
        double per_s = (double)done / ((double)(to - from) / 1e9);
        if (per_s > most) {
            most = per_s;
            *ret_limit = limit;
        }
    }
    return most;
}

static void try(struct sweep *sweep, unsigned limit, nanos margin_ns)
{
    struct run_setup setup = *sweep->setup;
    setup.contender = contender_fixed(limit);
    setup.contender.margin_ns = margin_ns;
    setup.spare_one_in = 0;
    struct run_result *result = run(&setup);
    for (unsigned i = 0; i < sweep->count; i++) {
        struct oracle_phase *phase = &sweep->phases[i];
        double goodput = metrics_goodput(result, phase->from, phase->to, setup.token_max_ns);
        if (goodput > phase->goodput_per_s) {
            free(phase->good_of_second);
            phase->limit = limit;
            phase->margin_ns = margin_ns;
            phase->goodput_per_s = goodput;
            phase->seconds = setup.workload->length_ns / NANOS_PER_S + 1;
            phase->good_of_second = oracle_good_of_second(result, setup.token_max_ns, phase->seconds);
        }
    }
    run_result_destroy(result);
}

static void try_limit(struct sweep *sweep, unsigned limit)
{
    if (limit >= 1 && limit <= LIMIT_MOST && !sweep->was_tried[limit]) {
        sweep->was_tried[limit] = true;
        try(sweep, limit, 0);
    }
}

static void try_margins(struct sweep *sweep)
{
    for (unsigned i = 0; i < sweep->count; i++) {
        unsigned best = (unsigned)sweep->phases[i].limit;
        for (nanos margin_ms = 200; margin_ms <= MARGIN_MOST_MS; margin_ms += 200) {
            for (unsigned limit = best > 2 ? best - 2 : 1; limit <= best + 6; limit += 2) {
                try(sweep, limit, margin_ms * NANOS_PER_MS);
            }
        }
    }
}

static void try_around(struct sweep *sweep, unsigned step, unsigned reach)
{
    for (unsigned i = 0; i < sweep->count; i++) {
        unsigned best = (unsigned)sweep->phases[i].limit;
        for (unsigned away = step; away <= reach; away += step) {
            try_limit(sweep, best > away ? best - away : 1);
            try_limit(sweep, best + away);
        }
    }
}

void oracle_find(const struct run_setup *setup, struct oracle_phase *phases, unsigned count)
{
    struct sweep sweep = {.setup = setup, .phases = phases, .count = count};
    for (double limit = 2; limit <= LIMIT_MOST; limit = ceil(limit * STEP)) {
        try_limit(&sweep, (unsigned)limit);
    }
    unsigned largest = 0;
    for (unsigned i = 0; i < count; i++) {
        largest = phases[i].limit > largest ? (unsigned)phases[i].limit : largest;
    }
    unsigned step = largest / 20 > 0 ? largest / 20 : 1;
    try_around(&sweep, step, largest / 5);
    if (step > 1) {
        try_around(&sweep, 1, step - 1);
    }
    if (setup->is_oracle_strict) {
        try_margins(&sweep);
    }
}

void oracle_fini(struct oracle_phase *phases, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        free(phases[i].good_of_second);
        phases[i].good_of_second = NULL;
    }
}
