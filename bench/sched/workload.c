#include "workload.h"

#include <stdlib.h>

#include "die.h"
#include "random.h"
#include "sched/request.h"

static const double BYTES_PER_TOKEN = 4, BYTES_NOISE = 0.15;

/* Where the next arrival comes from. */
struct arrivals {
    const struct workload_spec *spec;
    uint64_t random;
    size_t row;
    double began_s; /* when this round through the trace began, as the trace counts */
    double at_s;    /* of this run */
};

static double stretch_of(const struct workload_spec *spec)
{
    double recorded = (double)spec->source->count / spec->source->length_s;
    return recorded / spec->rate_per_s;
}

static const struct source_row *next_of_trace(struct arrivals *arrivals)
{
    const struct source *source = arrivals->spec->source;
    const struct source_row *row = &source->rows[arrivals->row];
    arrivals->at_s = (arrivals->began_s + row->at_s) * stretch_of(arrivals->spec);
    if (++arrivals->row == source->count) {
        arrivals->row = 0;
        arrivals->began_s += source->length_s;
    }
    return row;
}

/* The moment at which so much of the intensity has passed. */
static double on_off_moment(const struct workload_spec *spec, double from_s, double intensity)
{
    double on_s = (double)spec->on_ns / 1e9, period_s = on_s + (double)spec->off_ns / 1e9;
    double at_s = from_s;
    for (;;) {
        double inside_s = fmod(at_s, period_s);
        bool is_on = inside_s < on_s;
        double rate = is_on ? spec->rate_per_s : spec->off_rate_per_s;
        double left_s = (is_on ? on_s : period_s) - inside_s;
        if (rate > 0 && intensity <= rate * left_s) {
            return at_s + intensity / rate;
        }
        intensity -= rate * left_s;
        at_s += left_s + 1e-9; /* beyond the border, however it was rounded */
    }
}

static const struct source_row *next_row(struct arrivals *arrivals)
{
    const struct workload_spec *spec = arrivals->spec;
    if (spec->arrivals == WORKLOAD_TRACE) {
        return next_of_trace(arrivals);
    }
    double intensity = random_exponential(&arrivals->random, 1);
    arrivals->at_s = spec->arrivals == WORKLOAD_POISSON ? arrivals->at_s + intensity / spec->rate_per_s
                                                        : on_off_moment(spec, arrivals->at_s, intensity);
    return &spec->source->rows[random_next(&arrivals->random) % spec->source->count];
}

static uint64_t draw_tenant(const struct workload_spec *spec, const struct source_row *row, uint64_t *random)
{
    double share = random_share(random);
    if (spec->tenants == 0) {
        return row->tenant;
    }
    double noisy = spec->noisy_weight > 0 ? spec->noisy_weight : 1;
    double place = share * (noisy + spec->tenants - 1) - noisy;
    return place <= 0 ? 1 : 2 + (uint64_t)fmin(place, spec->tenants - 2);
}

/* What does not depend on the moment is drawn from the request's number, so that it survives a change of the rate. */
static void describe(struct workload_request *request, const struct workload_spec *spec, const struct source_row *row)
{
    uint64_t random = spec->seed * 0x2545f4914f6cdd1du + request->number;
    random_next(&random);
    uint32_t output = row->output_tokens > 0 ? row->output_tokens : 1;
    uint32_t prompt = row->prompt_tokens > 0 ? row->prompt_tokens : 1;
    output = output < spec->context_tokens_max / 2 ? output : spec->context_tokens_max / 2;
    prompt = prompt < spec->context_tokens_max - output ? prompt : spec->context_tokens_max - output;
    request->row = row;
    request->prompt_tokens = prompt;
    request->output_tokens = output;
    request->tenant = draw_tenant(spec, row, &random);
    request->class = random_share(&random) <= spec->class0_share ? 0 : SCHED_CLASS_DEFAULT;
    request->prompt_bytes = (uint32_t)random_lognormal(&random, prompt * BYTES_PER_TOKEN, BYTES_NOISE) + 1;
    bool is_patient = spec->patient_tokens_min > 0 && prompt >= spec->patient_tokens_min;
    request->first_token_max_ns = is_patient ? spec->patient_ns : spec->first_token_max_ns;
}

static struct arrivals arrivals_begin(const struct workload_spec *spec)
{
    struct arrivals arrivals = {.spec = spec, .random = spec->seed};
    if (spec->arrivals == WORKLOAD_TRACE) {
        arrivals.row = random_next(&arrivals.random) % spec->source->count;
        arrivals.began_s = -spec->source->rows[arrivals.row].at_s;
    }
    return arrivals;
}

struct workload *workload_create(const struct workload_spec *spec)
{
    struct workload *workload = bench_need(1, sizeof *workload);
    workload->source = spec->source;
    workload->seed = spec->seed;
    workload->length_ns = spec->length_ns;
    size_t room = 0;
    struct arrivals arrivals = arrivals_begin(spec);
    for (;;) {
        const struct source_row *row = next_row(&arrivals);
        if (arrivals.at_s * 1e9 >= (double)spec->length_ns) {
            return workload;
        }
        if (workload->count == room) {
            room = room * 2 + 4096;
            workload->requests = realloc(workload->requests, room * sizeof *workload->requests);
            if (workload->requests == NULL) {
                bench_die("no memory for %zu requests", room);
            }
        }
        struct workload_request *request = &workload->requests[workload->count];
        *request = (struct workload_request){.at_ns = (nanos)(arrivals.at_s * 1e9)};
        request->number = (uint32_t)workload->count++;
        describe(request, spec, row);
    }
}

void workload_destroy(struct workload *workload)
{
    free(workload->requests);
    free(workload);
}

void workload_delay(struct workload *workload, nanos most_ns, uint64_t seed)
{
    uint64_t random = seed;
    nanos last_ns = 0;
    for (size_t i = 0; i < workload->count; i++) {
        nanos at_ns = workload->requests[i].at_ns + (nanos)(random_share(&random) * (double)most_ns);
        last_ns = at_ns > last_ns ? at_ns : last_ns;
        workload->requests[i].at_ns = last_ns;
    }
}

void workload_filter(struct workload *workload, bool (*keeps)(const struct workload_request *request, uint64_t bound),
                     uint64_t bound)
{
    size_t kept = 0;
    for (size_t i = 0; i < workload->count; i++) {
        if (keeps(&workload->requests[i], bound)) {
            workload->requests[kept++] = workload->requests[i];
        }
    }
    workload->count = kept;
}
