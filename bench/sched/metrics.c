#include "metrics.h"

#include <math.h>
#include <stdlib.h>

#include "die.h"

static const double SHORT_WAIT_S = 0.010;
/* Of tokens, as contender.c has the queue charge them. */
static const double INPUT_WEIGHT = 1, OUTPUT_WEIGHT = 2;

static bool has_late_first(const struct run_request *request)
{
    return request->first_ns - request->load->at_ns > request->load->first_token_max_ns;
}

bool metrics_is_good(const struct run_request *request, nanos token_max_ns)
{
    if (request->fate != RUN_DONE || request->is_spared || has_late_first(request)) {
        return false;
    }
    uint32_t gaps = request->load->output_tokens - 1;
    return request->last_ns - request->first_ns <= gaps * token_max_ns;
}

static bool is_within(const struct run_request *request, nanos from, nanos to)
{
    return request->load->at_ns >= from && request->load->at_ns < to;
}

double metrics_goodput(const struct run_result *result, nanos from, nanos to, nanos token_max_ns)
{
    size_t good = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        good += is_within(request, from, to) && metrics_is_good(request, token_max_ns);
    }
    return (double)good / ((double)(to - from) / 1e9);
}

/* ---- quantiles ---- */

static int compare(const void *a, const void *b)
{
    double one = *(const double *)a, other = *(const double *)b;
    return (one > other) - (one < other);
}

static double quantile(double *values, size_t count, double share)
{
    if (count == 0) {
        return 0;
    }
    qsort(values, count, sizeof *values, compare);
    size_t at = (size_t)(share * (double)count);
    return values[at < count ? at : count - 1];
}

static double first_s(const struct run_request *request)
{
    return (double)(request->first_ns - request->load->at_ns) / 1e9;
}

static bool was_served(const struct run_request *request)
{
    return request->fate == RUN_DONE && !request->is_spared;
}

/* Of class `class`; SCHED_CLASSES: of all. */
static void first_tokens(const struct run_result *result, nanos from, nanos to, unsigned class, double *ret_p50,
                         double *ret_p99)
{
    double *values = bench_need(result->count, sizeof *values);
    size_t count = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        if (is_within(request, from, to) && was_served(request) &&
            (class == SCHED_CLASSES || request->load->class == class)) {
            values[count++] = first_s(request);
        }
    }
    *ret_p50 = quantile(values, count, 0.5);
    *ret_p99 = quantile(values, count, 0.99);
    free(values);
}

double metrics_first_p99(const struct run_result *result, nanos from, nanos to,
                         bool (*keeps)(const struct workload_request *request, uint64_t bound), uint64_t bound)
{
    double *values = bench_need(result->count, sizeof *values);
    size_t count = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        if (is_within(request, from, to) && was_served(request) && keeps(request->load, bound)) {
            values[count++] = first_s(request);
        }
    }
    double p99 = quantile(values, count, 0.99);
    free(values);
    return p99;
}

/* ---- all of it ---- */

/* Mean, and the slope of the line of least squares. */
static void limit_trend(const struct run_result *result, nanos from, nanos to, struct metrics *metrics)
{
    double n = 0, sum_t = 0, sum_l = 0, sum_tt = 0, sum_tl = 0;
    for (size_t second = from / NANOS_PER_S; second < result->sample_count && second * NANOS_PER_S < to; second++) {
        double t = (double)(second - from / NANOS_PER_S) / 3600, limit = result->samples[second].limit;
        n++;
        sum_t += t;
        sum_l += limit;
        sum_tt += t * t;
        sum_tl += t * limit;
    }
    double spread = n * sum_tt - sum_t * sum_t;
    metrics->limit_mean = n > 0 ? sum_l / n : 0;
    metrics->limit_slope_per_hour = spread > 0 ? (n * sum_tl - sum_t * sum_l) / spread : 0;
}

struct waits {
    double error_s, predicted_s, real_s;
};

static void count_one(const struct run_request *request, struct metrics *metrics, struct waits *waits)
{
    metrics->done += was_served(request);
    metrics->preemptions += request->sequence.preemptions;
    if (request->fate == RUN_SHED) {
        metrics->shed[request->shed]++;
        metrics->shed_of_class[request->load->class]++;
    }
    if (request->is_spared) {
        bool has_missed = has_late_first(request);
        metrics->spared++;
        metrics->spared_missed += has_missed;
        metrics->spared_for[request->shed]++;
        metrics->spared_missed_for[request->shed] += has_missed;
    } else if (request->fate == RUN_DONE && request->was_blocked) {
        double real = (double)(request->granted_ns - request->load->at_ns) / 1e9;
        if (real >= SHORT_WAIT_S) {
            waits->error_s += fabs((double)request->predicted_ns / 1e9 - real);
            waits->predicted_s += (double)request->predicted_ns / 1e9;
            waits->real_s += real;
        }
    }
}

struct tokens {
    double prompts, outputs;
};

static void add_tokens(struct tokens *tokens, const struct workload_request *load)
{
    tokens->prompts += load->prompt_tokens;
    tokens->outputs += load->output_tokens;
}

void metrics_of(const struct run_result *result, nanos from, nanos to, nanos token_max_ns, struct metrics *ret_metrics)
{
    struct metrics metrics = {0};
    struct waits waits = {0};
    struct tokens all = {0}, good = {0};
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        if (is_within(request, from, to)) {
            metrics.requests++;
            bool is_good = metrics_is_good(request, token_max_ns);
            metrics.good += is_good;
            if (was_served(request) && !is_good) {
                bool is_late = has_late_first(request);
                metrics.late += is_late;
                metrics.slow += !is_late;
            }
            add_tokens(&all, request->load);
            if (is_good) {
                add_tokens(&good, request->load);
            }
            count_one(request, &metrics, &waits);
        }
    }
    metrics.goodput_per_s = (double)metrics.good / ((double)(to - from) / 1e9);
    metrics.wait_error = waits.real_s > 0 ? waits.error_s / waits.real_s : 0;
    metrics.wait_bias = waits.real_s > 0 ? waits.predicted_s / waits.real_s : 0;
    if (metrics.good > 0) {
        double scale = (double)metrics.requests / (double)metrics.good;
        metrics.prompt_bias = good.prompts / all.prompts * scale;
        metrics.output_bias = good.outputs / all.outputs * scale;
    }
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        first_tokens(result, from, to, class, &metrics.first_p50_s[class], &metrics.first_p99_s[class]);
    }
    first_tokens(result, from, to, SCHED_CLASSES, &metrics.all_p50_s, &metrics.all_p99_s);
    limit_trend(result, from, to, &metrics);
    *ret_metrics = metrics;
}

/* ---- fairness ---- */

struct share {
    double served;
    bool is_backlogged;
};

static double jain_of(const struct share *shares, unsigned tenants, unsigned *ret_count)
{
    double sum = 0, squares = 0;
    unsigned count = 0;
    for (unsigned i = 0; i < tenants; i++) {
        if (shares[i].is_backlogged) {
            count++;
            sum += shares[i].served;
            squares += shares[i].served * shares[i].served;
        }
    }
    *ret_count = count;
    return squares > 0 ? sum * sum / (count * squares) : 0;
}

double metrics_jain(const struct run_result *result, nanos from, nanos to, nanos window_ns, unsigned tenants)
{
    size_t windows = (to - from) / window_ns;
    struct share *shares = bench_need(windows * tenants, sizeof *shares);
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        const struct workload_request *load = request->load;
        bool was_sent = request->fate == RUN_DONE;
        nanos at = was_sent ? request->granted_ns : load->at_ns;
        if (at < from || (at - from) / window_ns >= windows || load->tenant < 1 || load->tenant > tenants) {
            continue;
        }
        struct share *share = &shares[(at - from) / window_ns * tenants + load->tenant - 1];
        if (was_sent) {
            share->served += load->prompt_tokens * INPUT_WEIGHT + load->output_tokens * OUTPUT_WEIGHT;
        } else {
            share->is_backlogged = true;
        }
    }
    double sum = 0;
    size_t counted = 0;
    for (size_t i = 0; i < windows; i++) {
        unsigned backlogged;
        double jain = jain_of(shares + i * tenants, tenants, &backlogged);
        if (backlogged >= 2) {
            sum += jain;
            counted++;
        }
    }
    free(shares);
    return counted > 0 ? sum / (double)counted : 1;
}
