/* The simulation of bench/sched: that it loses nobody, and does the same thing twice. */
#include <criterion/criterion.h>
#include <string.h>

#include "contender.h"
#include "metrics.h"
#include "oracle.h"
#include "prefix.h"
#include "run.h"
#include "scenario.h"
#include "sim/profiles.h"

#define S(n) ((nanos)(n)*NANOS_PER_S)

/* Prompts of 100 to 3,000 tokens, answers of 20 to 400, four a second, in blocks that repeat. */
static struct source *steady_source(void)
{
    struct source *source = calloc(1, sizeof *source);
    static const uint32_t prompts[] = {100, 3000, 700, 1500}, outputs[] = {20, 400, 150};
    source->block_tokens = 50;
    source->blocks = calloc(64, sizeof *source->blocks);
    source->block_count = 64;
    for (uint64_t i = 0; i < 64; i++) {
        source->blocks[i] = i;
    }
    for (unsigned i = 0; i < 1200; i++) {
        struct source_row *row = source_add(source);
        row->at_s = i * 0.25;
        row->prompt_tokens = prompts[i % 4];
        row->output_tokens = outputs[i % 3];
        row->tenant = i % 5;
        row->first_block = i % 7;
        row->block_count = 2;
    }
    source_finish(source, 300);
    return source;
}

struct fixture {
    struct source *source;
    struct workload_spec spec;
    struct workload *workload;
    struct backend_options backend;
    struct run_setup setup;
};

static void begin(struct fixture *at, double rate_per_s, nanos length_ns)
{
    memset(at, 0, sizeof *at);
    at->source = steady_source();
    at->backend.profile = *profiles_find(BYTES("reference"));
    at->spec = (struct workload_spec){
        .source = at->source,
        .arrivals = WORKLOAD_POISSON,
        .rate_per_s = rate_per_s,
        .length_ns = length_ns,
        .seed = 7,
        .tenants = 4,
        .noisy_weight = 3,
        .class0_share = 0.1,
        .context_tokens_max = at->backend.profile.context_tokens_max,
        .first_token_max_ns = S(3),
    };
    at->workload = workload_create(&at->spec);
    at->setup = (struct run_setup){
        .workload = at->workload,
        .backend = &at->backend,
        .contender = contender_from("excess"),
        .first_token_max_ns = S(3),
        .token_max_ns = 100 * NANOS_PER_MS,
    };
}

static void end(struct fixture *at)
{
    workload_destroy(at->workload);
    source_destroy(at->source);
}

/* ---- workloads ---- */

Test(bench_sched, arrivals_come_in_order_at_the_rate_asked_for)
{
    static const enum workload_arrivals kinds[] = {WORKLOAD_TRACE, WORKLOAD_POISSON};
    for (unsigned k = 0; k < 2; k++) {
        struct fixture at;
        begin(&at, 10, S(1000));
        at.spec.arrivals = kinds[k];
        struct workload *workload = workload_create(&at.spec);
        cr_assert_float_eq((double)workload->count / 1000, 10, 0.4);
        for (size_t i = 1; i < workload->count; i++) {
            cr_assert_leq(workload->requests[i - 1].at_ns, workload->requests[i].at_ns);
        }
        workload_destroy(workload);
        end(&at);
    }
}

Test(bench_sched, on_and_off_have_rates_of_their_own)
{
    struct fixture at;
    begin(&at, 20, S(1000));
    at.spec.arrivals = WORKLOAD_ON_OFF;
    at.spec.off_rate_per_s = 2;
    at.spec.on_ns = S(10);
    at.spec.off_ns = S(30);
    struct workload *workload = workload_create(&at.spec);
    size_t on = 0;
    for (size_t i = 0; i < workload->count; i++) {
        on += workload->requests[i].at_ns % S(40) < S(10);
    }
    cr_assert_float_eq((double)on / 250, 20, 1);
    cr_assert_float_eq((double)(workload->count - on) / 750, 2, 0.3);
    workload_destroy(workload);
    end(&at);
}

Test(bench_sched, the_noisy_tenant_and_class_0_have_their_shares)
{
    struct fixture at;
    begin(&at, 10, S(2000));
    size_t of_tenant[5] = {0}, of_class0 = 0;
    for (size_t i = 0; i < at.workload->count; i++) {
        cr_assert(at.workload->requests[i].tenant >= 1 && at.workload->requests[i].tenant <= 4);
        of_tenant[at.workload->requests[i].tenant]++;
        of_class0 += at.workload->requests[i].class == 0;
    }
    double count = (double)at.workload->count;
    cr_assert_float_eq((double)of_tenant[1] / count, 0.5, 0.03);
    cr_assert_float_eq((double)of_tenant[4] / count, 1.0 / 6, 0.02);
    cr_assert_float_eq((double)of_class0 / count, 0.1, 0.02);
    end(&at);
}

static bool is_of_class0(const struct workload_request *request, uint64_t bound)
{
    (void)bound;
    return request->class == 0;
}

Test(bench_sched, a_filter_leaves_the_others_as_they_were)
{
    struct fixture at;
    begin(&at, 10, S(100));
    struct workload *some = workload_create(&at.spec);
    workload_filter(some, is_of_class0, 0);
    cr_assert(some->count > 0 && some->count < at.workload->count);
    for (size_t i = 0; i < some->count; i++) {
        const struct workload_request *kept = &some->requests[i];
        const struct workload_request *original = &at.workload->requests[kept->number];
        cr_assert_eq(kept->class, 0);
        cr_assert_eq(memcmp(kept, original, sizeof *kept), 0);
    }
    workload_destroy(some);
    end(&at);
}

/* ---- runs ---- */

Test(bench_sched, delays_are_bounded_keep_the_order_and_are_the_seeds)
{
    struct fixture at, same, other;
    begin(&at, 20, S(60));
    begin(&same, 20, S(60));
    begin(&other, 20, S(60));
    workload_delay(at.workload, S(1), 3);
    workload_delay(same.workload, S(1), 3);
    workload_delay(other.workload, S(1), 4);
    struct workload *before = workload_create(&at.spec);
    size_t moved = 0, alike = 0;
    for (size_t i = 0; i < before->count; i++) {
        nanos was = before->requests[i].at_ns, now = at.workload->requests[i].at_ns;
        cr_assert(now >= was && now < was + S(1));
        cr_assert(i == 0 || now >= at.workload->requests[i - 1].at_ns);
        cr_assert_eq(now, same.workload->requests[i].at_ns);
        moved += now > was;
        alike += now == other.workload->requests[i].at_ns;
    }
    cr_expect(moved > before->count / 2);
    cr_expect(alike < before->count / 2);
    workload_destroy(before);
    end(&at);
    end(&same);
    end(&other);
}

static void assert_nobody_is_lost(const struct fixture *at, const struct run_result *result)
{
    size_t done = 0, shed = 0;
    cr_assert_eq(result->count, at->workload->count);
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        cr_assert(request->fate == RUN_DONE || request->fate == RUN_SHED);
        if (request->fate == RUN_DONE) {
            done++;
            cr_assert_eq(request->sequence.emitted_tokens, request->load->output_tokens);
            cr_assert_leq(request->load->at_ns, request->granted_ns);
            cr_assert_lt(request->granted_ns, request->first_ns);
            cr_assert_leq(request->first_ns, request->last_ns);
        } else {
            shed++;
            cr_assert_neq(request->shed, SCHED_SHED_NONE);
            cr_assert_eq(request->first_ns, 0);
        }
    }
    cr_assert_eq(result->engine.submitted, done);
    cr_assert_eq(result->engine.finished, done);
    if (!at->setup.contender.is_none) {
        const struct admission_counters *counters = &result->figures.counters;
        uint64_t turned_away = 0;
        for (unsigned why = 0; why < SCHED_SHED_REASONS; why++) {
            turned_away += counters->shed[why];
        }
        cr_assert_eq(counters->submitted, result->count);
        cr_assert_eq(counters->granted, counters->released);
        cr_assert_eq(counters->granted + turned_away, result->count);
        cr_assert_geq(turned_away, shed);
        cr_assert_eq(result->figures.census.in_flight, 0);
        cr_assert_eq(result->figures.census.kv_expected, 0);
        cr_assert_eq(result->figures.queue.requests, 0);
    }
}

Test(bench_sched, every_request_ends_exactly_once_whatever_the_limiter)
{
    static const char *const names[] = {"none", "excess", "fixed:8", "aimd", "vegas", "gradient2", "envoy"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        struct fixture at;
        begin(&at, 12, S(120));
        at.backend.changes[0] = (struct backend_change){S(30), BACKEND_HALVE};
        at.backend.changes[1] = (struct backend_change){S(60), BACKEND_DOUBLE};
        at.backend.changes[2] = (struct backend_change){S(90), BACKEND_SLOW};
        at.backend.change_count = 3;
        at.setup.contender = contender_from(names[i]);
        struct run_result *result = run(&at.setup);
        assert_nobody_is_lost(&at, result);
        run_result_destroy(result);
        end(&at);
    }
}

Test(bench_sched, nobody_is_lost_where_the_kv_memory_is_short_and_prefixes_are_kept)
{
    struct fixture at;
    begin(&at, 12, S(120));
    at.backend.profile.kv_tokens_max = 9000;
    at.backend.profile.context_tokens_max = 9000;
    at.setup.prefix_blocks_max = 8;
    at.setup.contender = contender_fixed(40);
    struct run_result *result = run(&at.setup);
    assert_nobody_is_lost(&at, result);
    cr_assert_gt(result->engine.preemptions, 0);
    run_result_destroy(result);
    end(&at);
}

Test(bench_sched, those_spared_are_served_and_the_others_end_as_ever)
{
    struct fixture at;
    begin(&at, 12, S(200));
    at.setup.spare_one_in = 10;
    struct run_result *result = run(&at.setup);
    assert_nobody_is_lost(&at, result);
    size_t spared = 0;
    for (size_t i = 0; i < result->count; i++) {
        spared += result->requests[i].is_spared;
        cr_assert(!result->requests[i].is_spared || result->requests[i].fate == RUN_DONE);
    }
    cr_assert_gt(spared, 20);
    run_result_destroy(result);
    end(&at);
}

Test(bench_sched, the_same_seed_gives_the_same_run)
{
    struct fixture one, other;
    begin(&one, 12, S(200));
    begin(&other, 12, S(200));
    struct run_result *first = run(&one.setup), *second = run(&other.setup);
    cr_assert_eq(first->count, second->count);
    cr_assert_eq(first->ended_ns, second->ended_ns);
    for (size_t i = 0; i < first->count; i++) {
        const struct run_request *a = &first->requests[i], *b = &second->requests[i];
        cr_assert_eq(a->load->at_ns, b->load->at_ns);
        cr_assert_eq(a->fate, b->fate);
        cr_assert_eq(a->shed, b->shed);
        cr_assert_eq(a->first_ns, b->first_ns);
        cr_assert_eq(a->last_ns, b->last_ns);
    }
    cr_assert_eq(first->sample_count, second->sample_count);
    cr_assert_eq(memcmp(first->samples, second->samples, first->sample_count * sizeof *first->samples), 0);
    run_result_destroy(first);
    run_result_destroy(second);
    end(&one);
    end(&other);
}

Test(bench_sched, the_way_to_the_backend_takes_its_time)
{
    struct fixture at;
    begin(&at, 4, S(100));
    at.setup.transit_ns = 40 * NANOS_PER_MS;
    struct run_result *result = run(&at.setup);
    assert_nobody_is_lost(&at, result);
    size_t served = 0;
    for (size_t i = 0; i < result->count; i++) {
        const struct run_request *request = &result->requests[i];
        if (request->fate == RUN_DONE) {
            served++;
            cr_assert_gt(request->first_ns, request->granted_ns + at.setup.transit_ns);
        }
    }
    cr_assert_gt(served, 100);
    run_result_destroy(result);
    end(&at);
}

Test(bench_sched, another_seed_gives_another_run)
{
    struct fixture at;
    begin(&at, 12, S(50));
    at.spec.seed++;
    struct workload *other = workload_create(&at.spec);
    cr_assert_neq(other->requests[0].at_ns, at.workload->requests[0].at_ns);
    workload_destroy(other);
    end(&at);
}

/* Good requests of 480 s at about twice the capacity, which halves and comes back, all of it `scale` times faster. */
static size_t good_in_accelerated_time(const char *limiter, uint32_t scale)
{
    struct fixture at;
    begin(&at, 8, S(480));
    for (size_t i = 0; i < at.workload->count; i++) {
        at.workload->requests[i].at_ns /= scale;
        at.workload->requests[i].first_token_max_ns /= scale;
    }
    at.backend.time_scale_milli = 1000 * scale;
    at.backend.changes[0] = (struct backend_change){S(160) / scale, BACKEND_HALVE};
    at.backend.changes[1] = (struct backend_change){S(320) / scale, BACKEND_DOUBLE};
    at.backend.change_count = 2;
    at.setup.contender = contender_from(limiter);
    at.setup.first_token_max_ns /= scale;
    at.setup.token_max_ns /= scale;
    at.setup.time_scale = scale;
    struct run_result *result = run(&at.setup);
    assert_nobody_is_lost(&at, result);
    size_t good = 0;
    for (size_t i = 0; i < result->count; i++) {
        good += metrics_is_good(&result->requests[i], at.setup.token_max_ns);
    }
    run_result_destroy(result);
    end(&at);
    return good;
}

Test(bench_sched, accelerated_time_changes_nothing_so_no_constant_of_time_escapes_the_scale)
{
    static const char *const names[] = {"excess", "fixed:8", "aimd", "vegas", "gradient2", "envoy"};
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        size_t here = good_in_accelerated_time(names[i], 1), there = good_in_accelerated_time(names[i], 10);
        cr_expect(there * 100 >= here * 97 && there * 100 <= here * 103, "%s: %zu good ones, accelerated %zu", names[i],
                  here, there);
    }
}

/* ---- figures ---- */

Test(bench_sched, a_request_is_good_when_first_token_and_gaps_are_in_time)
{
    struct workload_request load = {.at_ns = S(10), .output_tokens = 11, .first_token_max_ns = S(3)};
    struct run_request request = {.load = &load, .fate = RUN_DONE, .first_ns = S(13), .last_ns = S(14)};
    nanos token_max_ns = 100 * NANOS_PER_MS;
    cr_assert(metrics_is_good(&request, token_max_ns));
    request.last_ns++;
    cr_assert_not(metrics_is_good(&request, token_max_ns));
    request.first_ns++;
    cr_assert_not(metrics_is_good(&request, token_max_ns), "the first token is late");
    request.first_ns = S(12);
    request.last_ns = S(13);
    request.is_spared = true;
    cr_assert_not(metrics_is_good(&request, token_max_ns), "it was to be shed");
}

Test(bench_sched, goodput_counts_those_that_arrived_in_the_window)
{
    struct fixture at;
    begin(&at, 1, S(200));
    struct run_result *result = run(&at.setup);
    size_t arrived = 0;
    for (size_t i = 0; i < at.workload->count; i++) {
        arrived += at.workload->requests[i].at_ns >= S(50) && at.workload->requests[i].at_ns < S(150);
    }
    struct metrics metrics;
    metrics_of(result, S(50), S(150), at.setup.token_max_ns, &metrics);
    cr_assert_eq(metrics.requests, arrived);
    cr_assert_eq(metrics.good, arrived, "one a second is no load");
    cr_assert_float_eq(metrics.goodput_per_s, (double)arrived / 100, 1e-9);
    cr_assert_float_eq(metrics.prompt_bias, 1, 1e-9);
    run_result_destroy(result);
    end(&at);
}

Test(bench_sched, jain_is_1_for_even_shares_and_1_in_n_for_one_that_has_all)
{
    struct workload_request loads[4];
    struct run_request requests[4];
    memset(loads, 0, sizeof loads);
    memset(requests, 0, sizeof requests);
    for (unsigned i = 0; i < 4; i++) {
        loads[i] =
            (struct workload_request){.at_ns = S(1), .prompt_tokens = 100, .output_tokens = 10, .tenant = 1 + i % 2};
        requests[i] = (struct run_request){.load = &loads[i], .granted_ns = S(2), .fate = i < 2 ? RUN_DONE : RUN_SHED};
    }
    struct run_result result = {.requests = requests, .count = 4};
    cr_assert_float_eq(metrics_jain(&result, 0, S(60), S(60), 2), 1, 1e-9);
    loads[1].tenant = 1;
    cr_assert_float_eq(metrics_jain(&result, 0, S(60), S(60), 2), 0.5, 1e-9);
}

Test(bench_sched, the_oracle_is_no_worse_than_any_limit_it_tried)
{
    struct fixture at;
    begin(&at, 12, S(100));
    struct oracle_phase phase = {.from = S(20), .to = S(100)};
    oracle_find(&at.setup, &phase, 1);
    static const double limits[] = {2, 9, 24, 48, 94}; /* of the coarse steps */
    for (unsigned i = 0; i < sizeof limits / sizeof *limits; i++) {
        at.setup.contender = contender_fixed(limits[i]);
        struct run_result *result = run(&at.setup);
        cr_assert_leq(metrics_goodput(result, phase.from, phase.to, at.setup.token_max_ns), phase.goodput_per_s);
        run_result_destroy(result);
    }
    oracle_fini(&phase, 1);
    end(&at);
}

Test(bench_sched, kept_prefixes_count_from_the_front_and_the_oldest_goes)
{
    struct prefix_cache *cache = prefix_cache_create(4);
    static const uint64_t one[] = {1, 2, 3}, other[] = {1, 2, 9}, third[] = {7, 2, 3};
    cr_assert_eq(prefix_cache_use(cache, one, 3), 0);
    cr_assert_eq(prefix_cache_use(cache, one, 3), 3);
    cr_assert_eq(prefix_cache_use(cache, other, 3), 2);
    cr_assert_eq(prefix_cache_use(cache, third, 3), 0, "its first block is new, and takes the place of 3 or 1");
    cr_assert_eq(prefix_cache_use(cache, other, 3), 0, "1 had to go");
    prefix_cache_destroy(cache);
}

Test(bench_sched, every_scenario_has_a_name_a_trace_and_something_wanted)
{
    unsigned count;
    const struct scenario *all = scenario_all(&count);
    cr_assert_eq(count, 11);
    for (unsigned i = 0; i < count; i++) {
        cr_assert_eq(scenario_find(all[i].name), &all[i], "its name is its own");
        cr_assert(all[i].trace != NULL && (all[i].load > 0 || all[i].rate_per_s > 0));
        cr_assert(all[i].wanted_share > 0 || all[i].measure != NULL);
        cr_assert_lt(all[i].warmup_s, all[i].seconds);
    }
    cr_assert_null(scenario_find("no-such"));
}
