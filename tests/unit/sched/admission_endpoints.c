/* Several servers that share a model's work, as admission sees them. */
#include <criterion/criterion.h>
#include <math.h>

#include "sched/admission.h"
#include "sched/endpoints.h"

enum { REQUESTS_MAX = 64, LIMIT = 32 };

#define MS NANOS_PER_MS

struct scene {
    struct admission *admission;
    struct sched_request requests[REQUESTS_MAX];
    unsigned count;
    unsigned granted; /* by event */
    unsigned shed;
    enum sched_shed why;
    nanos retry_after_ns;
};

static void on_grant(void *context, struct sched_request *request)
{
    (void)request;
    ((struct scene *)context)->granted++;
}

static void on_shed(void *context, struct sched_request *request, enum sched_shed why, nanos retry_after_ns)
{
    struct scene *scene = context;
    (void)request;
    scene->shed++;
    scene->why = why;
    scene->retry_after_ns = retry_after_ns;
}

static const struct admission_events events = {.on_grant = on_grant, .on_shed = on_shed};

static void start_as(struct scene *scene, unsigned count, unsigned endpoint_limit, enum limiter_kind kind,
                     bool observes)
{
    const struct admission_options options = {
        .limiter = {.kind = kind, .initial = LIMIT, .min = 1, .max = 1000, .endpoints = count},
        .queue = {.requests_max = 100,
                  .tenants_max = 4,
                  .tenant_share_percent = 100,
                  .small_tokens_max = 1000,
                  .input_weight = 1000,
                  .output_weight = 1000},
        .endpoint_count = count,
        .endpoint_limit = endpoint_limit,
        .observe_only = observes,
    };
    *scene = (struct scene){.count = 0};
    scene->admission = admission_create(&options, &events, scene, 1);
    cr_assert_not_null(scene->admission);
}

static void start(struct scene *scene, unsigned count, unsigned endpoint_limit)
{
    start_as(scene, count, endpoint_limit, LIMITER_FIXED, false);
}

static struct sched_request *ask(struct scene *scene, nanos now, uint64_t allowed, nanos deadline)
{
    cr_assert_lt(scene->count, REQUESTS_MAX);
    struct sched_request *request = &scene->requests[scene->count++];
    *request = (struct sched_request){
        .class = SCHED_CLASS_DEFAULT,
        .endpoints = allowed,
        .arrived_ns = now,
        .deadline_ns = deadline,
        .cost = {.prompt_tokens = 1},
    };
    admission_submit(scene->admission, now, request);
    return request;
}

static struct sched_request *ask_any(struct scene *scene, nanos now)
{
    return ask(scene, now, 0, NANOS_NEVER);
}

static bool is_granted(const struct sched_request *request)
{
    return request->state == SCHED_PENDING || request->state == SCHED_RUNNING;
}

static void end(struct scene *scene, nanos now, struct sched_request *request)
{
    admission_release(scene->admission, now, request, &(struct admission_outcome){.retry_after_ns = 0});
}

static void refuse(struct scene *scene, nanos now, struct sched_request *request, nanos retry_after_ns)
{
    admission_release(scene->admission, now, request,
                      &(struct admission_outcome){.is_refused = true, .retry_after_ns = retry_after_ns});
}

static uint32_t in_flight_at(const struct scene *scene, unsigned endpoint)
{
    return admission_endpoints(scene->admission)->all[endpoint].in_flight;
}

/* Lets everybody go, checks that nothing is counted any more, and frees. */
static void stop(struct scene *scene, nanos now)
{
    for (bool any = true; any;) {
        any = false;
        for (unsigned i = 0; i < scene->count; i++) {
            any |= scene->requests[i].state != SCHED_OUT;
            admission_cancel(scene->admission, now, &scene->requests[i]);
        }
    }
    cr_assert(admission_at_rest(scene->admission));
    for (unsigned i = 0; i < SCHED_ENDPOINTS_MAX; i++) {
        cr_assert_eq(in_flight_at(scene, i), 0, "endpoint %u", i);
    }
    admission_destroy(scene->admission);
}

static double limit_of(const struct scene *scene)
{
    struct admission_figures figures;
    admission_figures(scene->admission, 1, &figures);
    return figures.limit;
}

/* ---- whom a grant names */

Test(admission_endpoints, a_grant_names_the_least_loaded_endpoint)
{
    struct scene scene;
    start(&scene, 3, 0);
    for (unsigned i = 0; i < 9; i++) {
        cr_assert_lt(ask_any(&scene, 10)->endpoint, 3);
    }
    for (unsigned e = 0; e < 3; e++) {
        cr_assert_eq(in_flight_at(&scene, e), 3);
    }
    struct sched_request *first = &scene.requests[1];
    unsigned freed = first->endpoint;
    end(&scene, 20, first);
    cr_assert_eq(ask_any(&scene, 30)->endpoint, freed);
    stop(&scene, 40);
}

Test(admission_endpoints, a_single_endpoint_is_not_named_nor_counted)
{
    struct scene scene;
    start(&scene, 1, 0);
    struct sched_request *request = ask_any(&scene, 10);
    cr_assert_eq(request->endpoint, SCHED_ENDPOINT_ANY);
    admission_on_endpoint(scene.admission, 11, request, 0);
    cr_assert_eq(in_flight_at(&scene, 0), 0);
    cr_assert_gt(admission_lendable(scene.admission, 11), 0);
    stop(&scene, 20);
}

Test(admission_endpoints, a_grant_names_one_of_those_that_may_serve_it)
{
    struct scene scene;
    start(&scene, 4, 1);
    cr_assert_eq(ask(&scene, 10, 1 << 2, NANOS_NEVER)->endpoint, 2);
    struct sched_request *second = ask(&scene, 10, 1 << 2, NANOS_NEVER);
    cr_assert_eq(second->state, SCHED_QUEUED);
    cr_assert_neq(ask_any(&scene, 10)->endpoint, 2, "who comes later and may go elsewhere does");
    end(&scene, 20, &scene.requests[0]);
    cr_assert(is_granted(second));
    cr_assert_eq(second->endpoint, 2);
    stop(&scene, 30);
}

/* ---- limits */

Test(admission_endpoints, nobody_is_given_more_than_was_configured)
{
    struct scene scene;
    start(&scene, 2, 3);
    for (unsigned i = 0; i < 10; i++) {
        ask_any(&scene, 10);
    }
    cr_assert_eq(in_flight_at(&scene, 0), 3);
    cr_assert_eq(in_flight_at(&scene, 1), 3);
    cr_assert_eq(scene.requests[6].state, SCHED_QUEUED);
    end(&scene, 20, &scene.requests[0]);
    cr_assert(is_granted(&scene.requests[6]));
    cr_assert_eq(scene.requests[6].endpoint, scene.requests[0].endpoint);
    cr_assert_eq(scene.granted, 1);
    stop(&scene, 30);
}

Test(admission_endpoints, a_single_endpoint_gets_no_more_than_was_configured_either)
{
    struct scene scene;
    start(&scene, 1, 3);
    for (unsigned i = 0; i < 10; i++) {
        ask_any(&scene, 10);
    }
    struct admission_figures figures;
    admission_figures(scene.admission, 10, &figures);
    cr_assert_eq(figures.census.in_flight, 3);
    stop(&scene, 30);
}

Test(admission_endpoints, a_sub_limit_that_holds_somebody_up_is_not_the_limits_doing)
{
    struct scene scene;
    start(&scene, 2, 3);
    for (unsigned i = 0; i < 4; i++) {
        ask(&scene, 10, 1, NANOS_NEVER);
    }
    struct admission_figures figures;
    admission_figures(scene.admission, 10, &figures);
    cr_assert_eq(figures.queue.requests, 1);
    cr_assert(!figures.census.blocked_by_count && !figures.census.blocked_by_headroom &&
              !figures.census.blocked_by_prefill && !figures.census.blocked_by_kv);
    for (unsigned i = 0; i < 4; i++) {
        ask(&scene, 10, 2, NANOS_NEVER);
    }
    ask_any(&scene, 10);
    admission_figures(scene.admission, 10, &figures);
    cr_assert_eq(figures.census.in_flight, 6);
    cr_assert(!figures.census.blocked_by_count);
    stop(&scene, 20);
}

/* ---- refusals */

Test(admission_endpoints, a_refusal_lowers_its_own_endpoint_and_the_others_take_the_rest)
{
    struct scene scene;
    start_as(&scene, 2, 0, LIMITER_EXCESS, false);
    for (unsigned i = 0; i < 20; i++) {
        ask_any(&scene, 10);
    }
    cr_assert_eq(in_flight_at(&scene, 0), 10);
    double before = limit_of(&scene);
    struct sched_request *refused = &scene.requests[0];
    unsigned bad = refused->endpoint;
    refuse(&scene, 20, refused, 0);
    const struct endpoints *endpoints = admission_endpoints(scene.admission);
    cr_assert_float_eq(endpoints->all[bad].limit, 7, 1e-9);
    cr_assert(isinf(endpoints->all[1 - bad].limit));
    cr_assert_float_eq(limit_of(&scene), before, 1e-9, "the others can take as much as before");
    for (unsigned i = 0; i < 5; i++) {
        cr_assert_eq(ask_any(&scene, 30)->endpoint, 1 - bad);
    }
    stop(&scene, 40);
}

Test(admission_endpoints, refusals_of_what_was_granted_before_the_cut_teach_nothing_new)
{
    struct scene scene;
    start(&scene, 2, 0);
    for (unsigned i = 0; i < 20; i++) {
        ask(&scene, 10, 1, NANOS_NEVER);
    }
    for (unsigned i = 0; i < 10; i++) {
        refuse(&scene, 20 + i, &scene.requests[i], 0);
    }
    cr_assert_eq(admission_endpoints(scene.admission)->all[0].cuts, 1);
    cr_assert_float_eq(admission_endpoints(scene.admission)->all[0].limit, 14, 1e-9);
    stop(&scene, 40);
}

Test(admission_endpoints, a_pause_is_for_one_alone_and_for_all_when_all_are_paused)
{
    struct scene scene;
    start(&scene, 2, 0);
    struct sched_request *first = ask_any(&scene, 10);
    struct sched_request *second = ask_any(&scene, 10);
    unsigned other = second->endpoint;
    refuse(&scene, 1 * MS, first, 10000 * MS);
    struct sched_request *third = ask_any(&scene, 2 * MS);
    cr_assert_eq(third->endpoint, other);
    refuse(&scene, 3 * MS, second, 5000 * MS);
    struct sched_request *waits = ask_any(&scene, 4 * MS);
    cr_assert_eq(waits->state, SCHED_QUEUED);
    struct sched_request *cannot = ask(&scene, 4 * MS, 0, 4000 * MS);
    cr_assert_eq(cannot->state, SCHED_OUT);
    cr_assert_eq(scene.why, SCHED_SHED_BACKEND_BUSY);
    cr_assert_eq(scene.retry_after_ns, 4999 * MS);
    admission_cancel(scene.admission, 5 * MS, third);
    cr_assert_eq(waits->state, SCHED_QUEUED, "it has no load, but its pause");
    admission_advance(scene.admission, 4900 * MS);
    cr_assert_leq(admission_next_ns(scene.admission), 5003 * MS);
    admission_advance(scene.admission, 5003 * MS);
    cr_assert(is_granted(waits));
    cr_assert_eq(waits->endpoint, other);
    stop(&scene, 6000 * MS);
}

Test(admission_endpoints, the_end_of_a_pause_is_a_moment_to_look_only_while_somebody_waits)
{
    struct scene scene;
    start(&scene, 2, 0);
    struct sched_request *first = ask(&scene, 10, 1, NANOS_NEVER);
    refuse(&scene, 1 * MS, first, 100 * MS);
    admission_advance(scene.admission, 2 * MS);
    struct sched_request *waits = ask(&scene, 3 * MS, 1, NANOS_NEVER);
    cr_assert_eq(waits->state, SCHED_QUEUED);
    cr_assert_eq(admission_next_ns(scene.admission), 101 * MS);
    admission_advance(scene.admission, 101 * MS);
    cr_assert(is_granted(waits));
    cr_assert_gt(admission_next_ns(scene.admission), 101 * MS);
    stop(&scene, 200 * MS);
    (void)first;
}

/* ---- somewhere else */

Test(admission_endpoints, what_is_served_elsewhere_counts_there_and_the_named_one_is_left_alone)
{
    struct scene scene;
    start(&scene, 2, 2);
    struct sched_request *moved = ask_any(&scene, 10);
    unsigned named = moved->endpoint;
    admission_on_endpoint(scene.admission, 20, moved, 1 - named);
    cr_assert_eq(in_flight_at(&scene, named), 0);
    cr_assert_eq(in_flight_at(&scene, 1 - named), 1);
    cr_assert_eq(ask_any(&scene, 30)->endpoint, 1 - named);
    struct sched_request *waits = ask_any(&scene, 30);
    cr_assert_eq(waits->state, SCHED_QUEUED, "one is full, and one is left alone");
    end(&scene, 40, moved);
    cr_assert(is_granted(waits));
    stop(&scene, 50);
}

Test(admission_endpoints, one_that_has_left_is_not_moved)
{
    struct scene scene;
    start(&scene, 2, 2);
    struct sched_request *request = ask_any(&scene, 10);
    admission_cancel(scene.admission, 20, request);
    admission_on_endpoint(scene.admission, 30, request, 1);
    stop(&scene, 40);
}

/* ---- what is lent */

Test(admission_endpoints, slots_are_lent_only_while_no_endpoint_has_to_be_counted)
{
    struct scene scene;
    start(&scene, 2, 0);
    cr_assert_gt(admission_lendable(scene.admission, 10), 0);
    struct sched_request *request = ask_any(&scene, 10);
    refuse(&scene, 20, request, 0);
    cr_assert_lt(admission_lendable(scene.admission, 30), 0);
    stop(&scene, 40);
    start(&scene, 2, 5);
    cr_assert_lt(admission_lendable(scene.admission, 10), 0, "a limit that was configured is kept exactly");
    stop(&scene, 40);
}

Test(admission_endpoints, a_refusal_of_one_that_was_lent_is_told_to_the_endpoint_that_it_used)
{
    struct scene scene;
    start_as(&scene, 2, 0, LIMITER_EXCESS, false);
    double before = limit_of(&scene);
    admission_set_lent(scene.admission, 20, 20);
    const struct admission_lent lent = {.class = 2,
                                        .endpoint = 1,
                                        .cost = {.prompt_tokens = 1},
                                        .granted_ns = 10,
                                        .arrived_ns = 10,
                                        .ended_ns = 30,
                                        .count = 1};
    admission_on_lent_end(scene.admission, 30, &lent, &(struct admission_outcome){.is_refused = true});
    const struct endpoints *endpoints = admission_endpoints(scene.admission);
    cr_assert_float_eq(endpoints->all[1].limit, 7, 1e-9, "of half of what is lent");
    cr_assert(isinf(endpoints->all[0].limit));
    cr_assert_float_eq(limit_of(&scene), before, 1e-9);
    admission_set_lent(scene.admission, 0, 0);
    stop(&scene, 40);
}

/* ---- observing */

Test(admission_endpoints, observing_names_none_and_says_who_would_have_waited)
{
    struct scene scene;
    start_as(&scene, 2, 2, LIMITER_FIXED, true);
    for (unsigned i = 0; i < 6; i++) {
        struct sched_request *request = ask_any(&scene, 10);
        cr_assert(is_granted(request));
        cr_assert_eq(request->endpoint, SCHED_ENDPOINT_ANY);
        admission_on_endpoint(scene.admission, 10, request, i % 2);
    }
    struct admission_figures figures;
    admission_figures(scene.admission, 10, &figures);
    cr_assert_eq(figures.counters.would_have_waited, 2);
    cr_assert_eq(in_flight_at(&scene, 0), 3);
    stop(&scene, 40);
}

/* ---- whatever happens */

/* Requests of random kinds come, move and end in random ways; no sub-limit is ever passed but by what was moved. */
Test(admission_endpoints, counts_are_right_whatever_happens)
{
    for (unsigned seed = 1; seed <= 50; seed++) {
        struct scene scene;
        uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15);
        unsigned limit = seed % 3 == 0 ? 0 : 2;
        start(&scene, 3, limit);
        bool was_moved = false;
        nanos now = 10;
        for (unsigned step = 0; step < 500; step++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            unsigned draw = (unsigned)(state >> 33);
            now += draw % 97 * MS;
            if (draw % 3 == 0 && scene.count < REQUESTS_MAX) {
                ask(&scene, now, draw >> 4 & 7, NANOS_NEVER);
            } else if (scene.count > 0) {
                struct sched_request *request = &scene.requests[(draw >> 8) % scene.count];
                if (!is_granted(request)) {
                    admission_cancel(scene.admission, now, request);
                } else if (draw % 16 == 1) {
                    admission_on_endpoint(scene.admission, now, request, (draw >> 16) % 3);
                    was_moved = true;
                } else if (draw % 16 == 2) {
                    refuse(&scene, now, request, (draw >> 16) % 2 * 300 * MS);
                } else {
                    end(&scene, now, request);
                }
            }
            admission_advance(scene.admission, now);
            uint32_t counted = in_flight_at(&scene, 0) + in_flight_at(&scene, 1) + in_flight_at(&scene, 2);
            struct admission_figures figures;
            admission_figures(scene.admission, now, &figures);
            cr_assert_eq(counted, figures.census.in_flight);
            for (unsigned e = 0; e < 3 && limit > 0 && !was_moved; e++) {
                cr_assert_leq(in_flight_at(&scene, e), limit);
            }
        }
        stop(&scene, now);
    }
}
