/* Whatever happens, in whatever order: sums are what a recount says, everyone is answered once, and in the end nothing
 * is left over. */
#include "admission_world.h"
#include "sched/cost.h"

enum { STEPS = 20000, SEEDS = 14, PLACES = 80, MOST = 24 };

/* Where a request is, as far as its submitter has been told. */
enum place { GONE, WAITS, GRANTED };

struct guest {
    struct sched_request request;
    enum place place;
};

static struct admission *admission;
static struct guest guests[PLACES];
static struct guest *submitting;
static nanos now;
static uint32_t lent;
static uint64_t state;
static uint64_t submitted, granted, shed, left_waiting, released;

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

static void note_grant(struct guest *guest)
{
    guest->place = GRANTED;
    granted++;
    cr_assert_leq(admission_in_flight(admission) + lent, MOST, "never more than was configured");
}

static void on_grant(void *context, struct sched_request *request)
{
    (void)context;
    struct guest *guest = CONTAINER_OF(request, struct guest, request);
    cr_assert(guest->place == WAITS || guest == submitting);
    note_grant(guest);
}

static void on_shed(void *context, struct sched_request *request, enum sched_shed why, nanos retry_after_ns)
{
    (void)context;
    struct guest *guest = CONTAINER_OF(request, struct guest, request);
    cr_assert(guest->place == WAITS || guest == submitting);
    cr_assert(why != SCHED_SHED_NONE && request->state == SCHED_OUT);
    cr_assert(retry_after_ns > 0 && retry_after_ns <= 60 * NANOS_PER_S);
    guest->place = GONE;
    shed++;
}

static const struct admission_events events = {.on_grant = on_grant, .on_shed = on_shed};

static void begin(uint64_t seed)
{
    static const enum limiter_kind kinds[] = {LIMITER_EXCESS, LIMITER_EXCESS, LIMITER_EXCESS, LIMITER_FIXED,
                                              LIMITER_AIMD,   LIMITER_VEGAS,  LIMITER_ENVOY};
    struct admission_options options = admission_world_options(kinds[seed % ARRAY_COUNT(kinds)], 12);
    options.limiter.max = MOST;
    options.limiter.kv_tokens_max = seed % 2 == 0 ? 8000 : 0;
    options.limiter.slo_token_ns = seed % 3 == 0 ? 0 : 30 * NANOS_PER_MS;
    options.queue.requests_max = 40;
    options.queue.tokens_max = 60000;
    options.queue.bytes_max = 200000;
    options.queue.tenants_max = 4; /* of six */
    options.queue.tenant_share_percent = 50;
    options.queue.aged_share_percent = 10;
    options.queue.aged_after_ns = NANOS_PER_S;
    options.queue.lifo_lowest = seed % 2 == 1;
    options.is_plain = seed % 5 == 4;
    state = seed * UINT64_C(0x9e3779b97f4a7c15);
    now = NANOS_PER_S;
    lent = 0;
    submitted = granted = shed = left_waiting = released = 0;
    admission = admission_create(&options, &events, NULL, now);
    cr_assert_not_null(admission);
    for (unsigned i = 0; i < PLACES; i++) {
        guests[i] = (struct guest){.place = GONE};
    }
}

/* ---- what may happen ---- */

static void arrive(struct guest *guest)
{
    static const uint32_t prompts[] = {1, 10, 100, 100, 900, 3000, 20000};
    guest->request = (struct sched_request){
        .class = (uint8_t)draw(SCHED_CLASSES),
        .is_streamed = draw(3) > 0,
        .weight = (uint32_t)draw(3) * 1000,
        .tenant = draw(7),
        .arrived_ns = now,
        .deadline_ns = draw(3) == 0 ? NANOS_NEVER : now + draw(4 * NANOS_PER_S),
        .body_bytes = draw(9000),
        .cost = {.prompt_tokens = prompts[draw(ARRAY_COUNT(prompts))],
                 .cached_tokens = (uint32_t)(draw(4) == 0 ? draw(1000) : 0),
                 .output_tokens = (uint32_t)draw(400)},
    };
    submitting = guest;
    submitted++;
    bool is_granted = admission_submit(admission, now, &guest->request);
    submitting = NULL;
    if (is_granted) {
        note_grant(guest);
    } else if (guest->request.state == SCHED_QUEUED) {
        guest->place = WAITS;
    }
}

static void end(struct guest *guest)
{
    struct admission_outcome outcome = {
        .is_failed = draw(20) == 0,
        .is_refused = draw(30) == 0,
        .is_canceled = draw(10) == 0,
        .has_usage = draw(2) == 0,
        .usage = {(uint32_t)draw(3000), (uint32_t)draw(500), (uint32_t)draw(1000)},
    };
    outcome.retry_after_ns = outcome.is_refused ? draw(2) * draw(2 * NANOS_PER_S) : 0;
    guest->place = GONE;
    released++;
    admission_release(admission, now, &guest->request, &outcome);
}

static void leave(struct guest *guest)
{
    left_waiting += guest->place == WAITS;
    released += guest->place == GRANTED;
    guest->place = GONE;
    admission_cancel(admission, now, &guest->request);
    cr_assert_eq(guest->request.state, SCHED_OUT);
}

static void happen(struct guest *guest)
{
    switch (guest->place) {
    case GONE: arrive(guest); break;
    case WAITS:
        if (draw(20) == 0) {
            leave(guest);
        }
        break;
    case GRANTED:
        switch (draw(8)) {
        case 0: leave(guest); break;
        case 1:
        case 2:
        case 3: end(guest); break;
        case 4: admission_on_tokens(admission, &guest->request, (uint32_t)draw(60)); break;
        default: admission_on_first_token(admission, now, now - draw(1000), &guest->request); break;
        }
        break;
    }
}

/* Any, or as often one that is granted: few are, and most happens to them. */
static struct guest *pick(void)
{
    unsigned start = (unsigned)draw(PLACES);
    unsigned looked_at = draw(2) == 0 ? PLACES : 0;
    for (unsigned i = 0; i < looked_at; i++) {
        struct guest *guest = &guests[(start + i) % PLACES];
        if (guest->place == GRANTED) {
            return guest;
        }
    }
    return &guests[start];
}

static void end_on_lent_slot(void)
{
    struct admission_lent ended = {
        .tenant = draw(7),
        .class = (uint8_t)draw(SCHED_CLASSES),
        .is_streamed = draw(2) == 0,
        .cost = {.prompt_tokens = (uint32_t)draw(1000), .output_tokens = 10},
        .arrived_ns = now - NANOS_PER_MS,
        .granted_ns = now - NANOS_PER_MS,
        .first_token_ns = draw(2) == 0 ? 0 : now,
        .ended_ns = now,
        .count = 1,
    };
    submitted++;
    granted++;
    released++;
    admission_on_lent_end(admission, now, &ended, &(struct admission_outcome){.is_failed = draw(9) == 0});
}

static void happen_elsewhere(void)
{
    int lendable = admission_lendable(admission, now);
    switch (draw(6)) {
    case 0: admission_set_pressure(admission, (uint32_t)(draw(3) == 0 ? draw(1001) : 0)); break;
    case 1: lent += lendable > 0 ? (uint32_t)draw((uint64_t)lendable / 2 + 1) : 0; break;
    case 2: end_on_lent_slot(); break;
    default: lent -= (uint32_t)draw(lent + 1); break;
    }
    admission_set_lent(admission, lent, (uint32_t)draw(lent + 1));
}

static void pass(void)
{
    static const nanos steps[] = {0, 0, NANOS_PER_MS, 20 * NANOS_PER_MS, 100 * NANOS_PER_MS};
    nanos end_ns = now + (draw(2000) == 0 ? 100 * NANOS_PER_S : steps[draw(ARRAY_COUNT(steps))]);
    for (nanos next; (next = admission_next_ns(admission)) <= end_ns;) {
        now = next > now ? next : now;
        admission_advance(admission, now);
        cr_assert_gt(admission_next_ns(admission), now);
    }
    now = end_ns;
}

/* ---- the recount ---- */

struct recount {
    struct limiter_census census;
    uint32_t of_class[SCHED_CLASSES], large, unknown, waiting;
    nanos large_base_ns;
};

static void recount_granted(const struct sched_request *request, struct recount *sum)
{
    struct limiter_census *census = &sum->census;
    census->in_flight++;
    sum->of_class[request->class]++;
    census->kv_expected += request->cost.prompt_tokens +
                           cost_output_expected(request->cost.output_tokens, request->emitted_tokens, UINT32_MAX);
    if (request->state == SCHED_RUNNING) {
        census->running++;
        census->streaming += request->first_token_ns != 0;
        census->kv_tokens += request->cost.prompt_tokens + request->emitted_tokens;
        return;
    }
    census->pending++;
    sum->unknown += request->base_ns == 0;
    if (sched_uncached_tokens(&request->cost) > 1000) {
        sum->large++;
        sum->large_base_ns += request->base_ns;
    } else {
        census->pending_base_ns += request->base_ns;
    }
}

static void compare_with_recount(void)
{
    struct recount sum = {0};
    for (unsigned i = 0; i < PLACES; i++) {
        const struct sched_request *request = &guests[i].request;
        enum sched_state expected = guests[i].place == GONE    ? SCHED_OUT
                                    : guests[i].place == WAITS ? SCHED_QUEUED
                                    : request->is_streamed     ? SCHED_PENDING
                                                               : SCHED_RUNNING;
        bool has_begun = expected == SCHED_PENDING && request->state == SCHED_RUNNING;
        cr_assert(request->state == expected || has_begun, "%u", i);
        sum.waiting += guests[i].place == WAITS;
        if (guests[i].place == GRANTED) {
            recount_granted(request, &sum);
        }
    }
    const struct limiter_census *census = &admission->census;
    cr_assert_eq(census->in_flight, sum.census.in_flight);
    cr_assert_eq(census->pending, sum.census.pending);
    cr_assert_eq(census->running, sum.census.running);
    cr_assert_eq(census->streaming, sum.census.streaming);
    cr_assert_eq(census->kv_tokens, sum.census.kv_tokens);
    cr_assert_eq(census->kv_expected, sum.census.kv_expected);
    cr_assert_eq(census->pending_base_ns, sum.census.pending_base_ns);
    cr_assert_eq(admission->large_pending, sum.large);
    cr_assert_eq(admission->large_base_ns, sum.large_base_ns);
    cr_assert_eq(admission->unknown_pending, sum.unknown);
    cr_assert_eq(queue_length(admission->queue), sum.waiting);
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        cr_assert_eq(admission->in_flight_of[i], sum.of_class[i]);
    }
    cr_assert_eq(admission_at_rest(admission), sum.waiting + sum.census.in_flight == 0);
}

/* What must hold of any moment, by what the admission says of itself. */
static void look_at_figures(void)
{
    struct admission_figures figures;
    admission_figures(admission, now, &figures);
    cr_assert(figures.limit >= 1 && figures.limit <= MOST, "%f", figures.limit);
    cr_assert(figures.kv_limit_tokens >= 0, "%f", figures.kv_limit_tokens);
    cr_assert(figures.wait_error >= 0 && isfinite(figures.wait_error));
    cr_assert_eq(figures.queue.inversions, 0);
    cr_assert_eq(figures.counters.submitted, submitted);
    cr_assert_eq(figures.counters.granted, granted);
    cr_assert_eq(figures.counters.released, released);
    cr_assert_eq(figures.counters.canceled, left_waiting);
    cr_assert_eq(submitted, granted + shed + left_waiting + figures.queue.requests);
    cr_assert_eq(granted, released + admission_in_flight(admission));
}

static void run(uint64_t seed)
{
    begin(seed);
    for (unsigned step = 0; step < STEPS; step++) {
        happen(pick());
        if (draw(20) == 0) {
            happen_elsewhere();
        }
        if (draw(4) == 0) {
            pass();
        }
        compare_with_recount();
        look_at_figures();
    }
    for (unsigned round = 0; round < 2; round++) { /* leaving lets others in */
        for (unsigned i = 0; i < PLACES; i++) {
            leave(&guests[i]);
        }
    }
    compare_with_recount();
    const struct admission_world rest = {.admission = admission, .now = now};
    admission_world_expect_empty(&rest);
    cr_expect(granted > STEPS / 50 && shed > STEPS / 50 && left_waiting > STEPS / 500,
              "seed %llu: %llu granted, %llu shed, %llu left", (unsigned long long)seed, (unsigned long long)granted,
              (unsigned long long)shed, (unsigned long long)left_waiting);
    admission_destroy(admission);
}

Test(admission_random, sums_are_right_and_all_are_answered_whatever_happens, .timeout = 120)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        run(seed);
    }
}
