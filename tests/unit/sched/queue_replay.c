/* The queue against a sequential model: random operations from a seed. What the model says and what the queue says is
 * the same at every step. */
#include "queue_model.h"

enum { STEPS = 4000, SEEDS = 40 };

static uint64_t state;
static uint64_t flooding; /* the only tenant that comes; 0: all do */

static uint64_t draw(uint64_t below)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (state >> 11) % below;
}

static uint64_t pick(const uint64_t *values, unsigned count)
{
    return values[draw(count)];
}
#define PICK(...) pick((const uint64_t[]){__VA_ARGS__}, sizeof((const uint64_t[]){__VA_ARGS__}) / sizeof(uint64_t))

static int random_slot(bool is_waiting, bool is_charged)
{
    int start = (int)draw(SLOTS);
    for (int i = 0; i < SLOTS; i++) {
        int slot = (start + i) % SLOTS;
        if (model.requests[slot].is_waiting == is_waiting && model.requests[slot].is_charged == is_charged) {
            return slot;
        }
    }
    return -1;
}

static void draw_request(int slot)
{
    nanos now = model.world.now;
    *request_in(slot) = (struct sched_request){
        .class = (uint8_t)draw(SCHED_CLASSES),
        .weight = (uint32_t)PICK(0, 0, 1000, 500, 3000),
        .tenant = flooding > 0   ? flooding
                  : draw(4) == 0 ? draw(TENANTS + 1)
                                 : draw(4),
        .endpoints = PICK(0, 0, 0, 0, 1, 2, 3, 4),
        .arrived_ns = now - draw(3),
        .start_by_ns = draw(3) == 0 ? NANOS_NEVER : now + draw(40),
        .base_ns = PICK(0, 5, 10, 40, 200),
        .body_bytes = PICK(0, 100, 100, 700),
        .cost = {.prompt_tokens = (uint32_t)PICK(1, 10, 10, 50, 200, 700),
                 .cached_tokens = (uint32_t)PICK(0, 0, 0, 40),
                 .output_tokens = (uint32_t)PICK(0, 10, 10, 300)},
    };
}

static void step_put(void)
{
    int slot = random_slot(false, false);
    if (slot < 0) {
        return;
    }
    draw_request(slot);
    enum sched_shed shed = world_try(&model.world, request_in(slot));
    enum sched_shed expected = model_put(slot);
    cr_assert(shed == expected, "%s, not %s", sched_shed_name(shed), sched_shed_name(expected));
}

static void step_charge(void)
{
    int slot = random_slot(false, false);
    if (slot < 0) {
        return;
    }
    draw_request(slot);
    struct sched_request *request = request_in(slot);
    queue_charge(model.world.queue, request);
    unsigned tenant = tenant_of(request->tenant);
    hold(tenant);
    lift(tenant, request->class);
    model.requests[slot] =
        (struct model_request){.is_charged = true, .tenant = tenant, .charge = charge_for(request, &request->cost)};
    earn(request->class, false);
    charge(tenant, request->class, model.requests[slot].charge);
    note_left(tenant, request->class);
}

static struct queue_room random_room(void)
{
    struct queue_room room = {
        .endpoints = PICK(0, 0, 0, 1, 2, 4, 6),
        .is_overloaded = draw(2) == 0,
    };
    bool may_pass = draw(8) > 0;
    bool large_may_pass = draw(3) > 0;
    uint64_t kv = PICK(UINT64_MAX, UINT64_MAX, 5, 20, 400);
    nanos prefill = PICK(NANOS_NEVER, NANOS_NEVER, 300, 60, 20, 5, 0);
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        room.classes[i].may_pass = may_pass;
        room.classes[i].prefill_ns_max = prefill;
        room.classes[i].large_may_pass = large_may_pass;
        room.classes[i].kv_tokens_max = kv;
        kv = draw(4) == 0 ? kv / 2 : kv;
        may_pass = may_pass && draw(8) > 0;
        large_may_pass = large_may_pass && draw(4) > 0;
        prefill = draw(4) == 0 ? prefill / 2 : prefill;
    }
    return room;
}

static void step_next(struct queue_room room)
{
    model.world.room = room;
    struct sched_request *next = world_next(&model.world);
    struct model_choice choice = model_next(&room);
    cr_assert((next == NULL ? -1 : (int)(next - model.world.requests)) == choice.slot);
    if (next == NULL || draw(4) == 0) {
        return;
    }
    cr_assert(next->is_lane_grant == (choice.is_lane || choice.is_aged));
    queue_take(model.world.queue, next);
    struct model_request *taken = &model.requests[choice.slot];
    if (choice.passed >= 0) {
        model.requests[choice.passed].passed_tokens += tokens_in(choice.slot);
    }
    model.lanes += choice.is_lane;
    earn(next->class, choice.is_aged);
    taken->is_waiting = false;
    taken->is_charged = true;
    charge(taken->tenant, next->class, taken->charge);
    note_left(taken->tenant, next->class);
}

static void step_remove(void)
{
    int slot = random_slot(true, false);
    if (slot < 0) {
        return;
    }
    queue_remove(model.world.queue, request_in(slot));
    model.requests[slot].is_waiting = false;
    note_left(model.requests[slot].tenant, request_in(slot)->class);
    let_go(model.requests[slot].tenant);
}

static void step_defer(void)
{
    int slot = random_slot(true, false);
    if (slot >= 0 && !model.requests[slot].is_deferred) {
        queue_defer(model.world.queue, request_in(slot));
        model.requests[slot].is_deferred = true;
    }
}

static void step_settle(void)
{
    int slot = random_slot(false, true);
    if (slot < 0) {
        return;
    }
    struct model_request *charged = &model.requests[slot];
    struct sched_cost really = request_in(slot)->cost;
    if (draw(2) == 0) {
        really.output_tokens = (uint32_t)PICK(0, 10, 300, 2000);
    }
    bool is_over = draw(3) > 0;
    queue_settle(model.world.queue, request_in(slot), &really, is_over);
    double took = charge_for(request_in(slot), &really);
    if (took != charged->charge) {
        charge(charged->tenant, request_in(slot)->class, took - charged->charge);
        charged->charge = took;
    }
    if (is_over) {
        charged->is_charged = false;
        let_go(charged->tenant);
    }
}

/* ---- at every step */

static void check_tenant(const struct queue_tenant_figures *figures, void *context)
{
    (void)context;
    const struct model_tenant *tenant = &model.tenants[figures->tenant];
    cr_assert(figures->tenant == 0 || tenant->is_known);
    cr_assert(figures->waiting == held_by((int)figures->tenant, -1).requests);
    cr_assert(figures->served == tenant->served);
}

static void check_figures(void)
{
    struct queue_figures figures = world_figures(&model.world);
    struct held held = held_by(-1, -1);
    cr_assert(figures.requests == held.requests && figures.tokens == held.tokens && figures.bytes == held.bytes);
    cr_assert(figures.tenants_waiting == tenants_waiting());
    cr_assert(figures.aged_grants == model.aged && figures.lane_grants == model.lanes);
    cr_assert(figures.inversions == 0);
    cr_assert(model.aged * 100 <= model.grants * model.options.aged_share_percent);
    nanos oldest = NANOS_NEVER;
    for (int i = 0; i < SCHED_CLASSES; i++) {
        cr_assert(figures.requests_of_class[i] == held_by(-1, i).requests);
        for (unsigned tenant = 0; tenant <= TENANTS; tenant++) {
            int slot = oldest_of(tenant, i);
            oldest = slot >= 0 && request_in(slot)->arrived_ns < oldest ? request_in(slot)->arrived_ns : oldest;
        }
    }
    cr_assert(figures.oldest_ns == oldest);
    struct sched_request *request;
    int earliest = earliest_deadline();
    nanos deadline = queue_deadline(model.world.queue, &request);
    cr_assert(deadline == (earliest < 0 ? NANOS_NEVER : request_in(earliest)->start_by_ns));
    cr_assert(request == (earliest < 0 ? NULL : request_in(earliest)));
}

/* All kinds of steps; in between the queue runs dry, and is filled by one tenant alone. */
static void random_step(unsigned step)
{
    unsigned phase = step % 500;
    flooding = phase < 200 ? 1 + step / 500 % 3 : 0;
    if (phase < 120) {
        step_next(world_room());
        return;
    }
    switch (phase < 200 ? 17 : draw(18)) {
    case 0:
    case 1: step_charge(); break;
    case 2: step_remove(); break;
    case 3:
    case 4: step_settle(); break;
    case 5:
    case 6:
    case 7:
    case 8: step_next(random_room()); break;
    case 9: step_defer(); break;
    default: step_put(); break;
    }
}

static void replay(uint64_t seed)
{
    memset(&model, 0, sizeof(model));
    state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    model.options = (struct queue_options){
        .requests_max = (uint32_t)PICK(8, 30, 60, 200),
        .tokens_max = PICK(0, 3000, 6000),
        .bytes_max = PICK(0, 3000, 6000),
        .tenants_max = (uint32_t)PICK(1, 2, 5, 50),
        .tenant_share_percent = (uint32_t)PICK(50, 30, 100),
        .aged_share_percent = (uint32_t)PICK(5, 20, 0),
        .aged_after_ns = PICK(20, 100),
        .small_tokens_max = (uint32_t)PICK(10, 50, 1000),
        .input_weight = 1000,
        .output_weight = (uint32_t)PICK(1000, 2000),
        .catch_up_tokens = (uint32_t)PICK(0, 0, 300),
        .lifo_lowest = draw(2) == 0,
        .lane_share_percent = (uint32_t)PICK(100, 40),
    };
    world_init(&model.world, &model.options);
    model.world.used = SLOTS;
    model.sole = -1;
    for (int i = 0; i < SCHED_CLASSES; i++) {
        model.left[i] = -1;
    }
    for (unsigned step = 0; step < STEPS; step++) {
        random_step(step);
        model.world.now += draw(3);
        check_figures();
        if (step % 64 == 0) {
            queue_each_tenant(model.world.queue, check_tenant, NULL);
        }
    }
    world_fini(&model.world);
}

Test(queue_replay, does_what_its_model_does)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        replay(seed);
    }
}
