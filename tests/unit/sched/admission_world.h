/* An admission, requests for it, and what became of them, for the tests of this folder. */
#ifndef SLUICE_TESTS_ADMISSION_WORLD_H
#define SLUICE_TESTS_ADMISSION_WORLD_H

#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>

#include "base/check.h"
#include "sched/admission_internal.h"

enum { ADMISSION_WORLD_REQUESTS = 512 };

/* A request and what it was told. */
struct asking {
    struct sched_request request;
    unsigned granted, shed; /* how often by the events */
    enum sched_shed why;
    nanos retry_after_ns;
    unsigned turn; /* of its grant, among all that came by the events; from 1 on */
};

struct admission_world {
    struct admission *admission;
    nanos now;
    unsigned used;
    unsigned turns;
    struct asking askings[ADMISSION_WORLD_REQUESTS];
};

static inline void admission_world_on_grant(void *context, struct sched_request *request)
{
    struct admission_world *world = context;
    struct asking *asking = CONTAINER_OF(request, struct asking, request);
    cr_expect(request->state == (request->is_streamed ? SCHED_PENDING : SCHED_RUNNING));
    asking->granted++;
    asking->turn = ++world->turns;
}

static inline void admission_world_on_shed(void *context, struct sched_request *request, enum sched_shed shed,
                                           nanos retry_after_ns)
{
    (void)context;
    struct asking *asking = CONTAINER_OF(request, struct asking, request);
    cr_expect(request->state == SCHED_OUT);
    asking->shed++;
    asking->why = shed;
    asking->retry_after_ns = retry_after_ns;
}

static const struct admission_events admission_world_events = {.on_grant = admission_world_on_grant,
                                                               .on_shed = admission_world_on_shed};

/* A limit that is set, a queue of 100, a tenth held back. */
static inline struct admission_options admission_world_options(enum limiter_kind kind, double limit)
{
    return (struct admission_options){
        .limiter =
            {.kind = kind, .initial = limit, .min = 1, .max = 1000, .slo_first_ns = 3 * NANOS_PER_S, .endpoints = 1},
        .queue = {.requests_max = 100,
                  .tenants_max = 64,
                  .tenant_share_percent = 100,
                  .small_tokens_max = 1000,
                  .input_weight = 1000,
                  .output_weight = 2000},
        .holdback_percent = 10,
        .endpoint_count = 1,
    };
}

static inline void admission_world_begin(struct admission_world *world, const struct admission_options *options)
{
    *world = (struct admission_world){.now = 1000 * NANOS_PER_S};
    world->admission = admission_create(options, &admission_world_events, world, world->now);
    cr_assert_not_null(world->admission);
}

/* A stream of 100 tokens in, 50 out, in no hurry, that has not been submitted. */
static inline struct asking *asking_of(struct admission_world *world, unsigned class)
{
    cr_assert_lt(world->used, ADMISSION_WORLD_REQUESTS);
    struct asking *asking = &world->askings[world->used++];
    asking->request = (struct sched_request){
        .class = (uint8_t) class,
        .is_streamed = true,
        .tenant = 1,
        .arrived_ns = world->now,
        .deadline_ns = NANOS_NEVER,
        .cost = {.prompt_tokens = 100, .output_tokens = 50},
    };
    return asking;
}

static inline bool asking_submit(struct admission_world *world, struct asking *asking)
{
    return admission_submit(world->admission, world->now, &asking->request);
}

static inline struct asking *asking_submitted(struct admission_world *world, unsigned class)
{
    struct asking *asking = asking_of(world, class);
    asking_submit(world, asking);
    return asking;
}

/* How many of `class` were granted at once until one was not; that one leaves. */
static inline unsigned admission_world_fill(struct admission_world *world, unsigned class)
{
    for (unsigned count = 0;; count++) {
        struct asking *asking = asking_of(world, class);
        if (!asking_submit(world, asking)) {
            admission_cancel(world->admission, world->now, &asking->request);
            return count;
        }
    }
}

static inline void asking_first_token(struct admission_world *world, struct asking *asking)
{
    admission_on_first_token(world->admission, world->now, world->now, &asking->request);
}

static inline void asking_release(struct admission_world *world, struct asking *asking)
{
    admission_release(world->admission, world->now, &asking->request, &(struct admission_outcome){.is_failed = false});
}

static inline void asking_refuse(struct admission_world *world, struct asking *asking, nanos retry_after_ns)
{
    admission_release(world->admission, world->now, &asking->request,
                      &(struct admission_outcome){.is_refused = true, .retry_after_ns = retry_after_ns});
}

/* Goes on for so long, as often as the admission wants to be called. */
static inline void admission_world_pass(struct admission_world *world, nanos length)
{
    nanos end = world->now + length;
    for (;;) {
        nanos next = admission_next_ns(world->admission);
        if (next > end) {
            break;
        }
        world->now = next > world->now ? next : world->now;
        admission_advance(world->admission, world->now);
        cr_assert(admission_next_ns(world->admission) > world->now, "it does not ask to be called again at once");
    }
    world->now = end;
}

static inline struct admission_figures admission_world_figures(const struct admission_world *world)
{
    struct admission_figures figures;
    admission_figures(world->admission, world->now, &figures);
    return figures;
}

/* The census after everything has left: nothing may be left over. */
static inline void admission_world_expect_empty(const struct admission_world *world)
{
    const struct admission *admission = world->admission;
    const struct limiter_census *census = &admission->census;
    cr_expect(admission_at_rest(admission));
    cr_expect_eq(census->in_flight, 0);
    cr_expect_eq(census->pending, 0);
    cr_expect_eq(census->running, 0);
    cr_expect_eq(census->streaming, 0);
    cr_expect_eq(census->kv_tokens, 0);
    cr_expect_eq(census->kv_expected, 0);
    cr_expect_eq(census->pending_base_ns, 0);
    cr_expect_eq(admission->large_pending, 0);
    cr_expect_eq(admission->large_base_ns, 0);
    cr_expect_eq(admission->unknown_pending, 0);
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        cr_expect_eq(admission->in_flight_of[i], 0);
    }
    const struct admission_counters *counters = &admission->counters;
    uint64_t shed = 0;
    for (unsigned i = 0; i < SCHED_SHED_REASONS; i++) {
        shed += counters->shed[i];
    }
    uint64_t shed_of_class = 0;
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        shed_of_class += counters->shed_of_class[i];
    }
    cr_expect_eq(counters->granted, counters->released);
    cr_expect_eq(shed, shed_of_class);
    cr_expect_eq(counters->shed[SCHED_SHED_NONE], 0);
}

/* Everything leaves, and nothing is left over. */
static inline void admission_world_end(struct admission_world *world)
{
    for (unsigned i = world->used; i > 0; i--) {
        admission_cancel(world->admission, world->now, &world->askings[i - 1].request);
    }
    for (unsigned i = 0; i < world->used; i++) { /* leaving lets others in */
        admission_cancel(world->admission, world->now, &world->askings[i].request);
    }
    admission_world_expect_empty(world);
    admission_destroy(world->admission);
}

#endif
