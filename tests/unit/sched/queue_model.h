/* A sequential model of the queue: one array, all of which is looked through for every question. Included by the test
 * that replays random operations against it. */
#ifndef SLUICE_TESTS_QUEUE_MODEL_H
#define SLUICE_TESTS_QUEUE_MODEL_H

#include "base/check.h"
#include "queue_world.h"

enum { TENANTS = 12, SLOTS = 96 };

struct model_seat {
    double counter;
    uint64_t turn;
};

struct model_tenant {
    bool is_known;
    uint32_t holders;
    uint64_t idle_since; /* a count of events */
    double served;
    struct model_seat seats[SCHED_CLASSES];
};

/* What the model knows of a request that is in; slots are those of the world. */
struct model_request {
    bool is_waiting, is_charged, is_deferred;
    unsigned tenant; /* 0: the strangers */
    uint64_t order;
    double charge;
    uint64_t passed_tokens;
};

struct model_choice {
    int slot; /* -1: none */
    int passed;
    bool is_lane, is_aged;
};

struct model {
    struct world world;
    struct queue_options options;
    struct model_tenant tenants[TENANTS + 1];
    struct model_request requests[SLOTS];
    int left[SCHED_CLASSES]; /* tenant whose counter is the mark; -1: left_counter is */
    double left_counter[SCHED_CLASSES];
    int sole; /* -1: none */
    uint64_t orders, turns, events;
    uint32_t credit, aged, grants;
    uint64_t lanes;
};

static struct model model;

static struct sched_request *request_in(int slot)
{
    return &model.world.requests[slot];
}

static uint64_t tokens_in(int slot)
{
    return (uint64_t)request_in(slot)->cost.prompt_tokens + request_in(slot)->cost.output_tokens;
}

/* ---- what is in */

struct held {
    uint64_t requests, tokens, bytes;
};

/* Of a tenant (-1: of all), in a class (-1: in all). */
static struct held held_by(int tenant, int class)
{
    struct held held = {0};
    for (int i = 0; i < SLOTS; i++) {
        if (model.requests[i].is_waiting && (tenant < 0 || model.requests[i].tenant == (unsigned)tenant) &&
            (class < 0 || request_in(i)->class == class)) {
            held.requests++;
            held.tokens += tokens_in(i);
            held.bytes += request_in(i)->body_bytes;
        }
    }
    return held;
}

static unsigned tenants_waiting(void)
{
    unsigned count = 0;
    for (int i = 0; i <= TENANTS; i++) {
        count += held_by(i, -1).requests > 0;
    }
    return count;
}

static const struct model_seat *seat_in(int slot)
{
    return &model.tenants[model.requests[slot].tenant].seats[request_in(slot)->class];
}

/* The order between the tenants of two that wait, whose turn comes first: classes, counters. */
static bool has_earlier_turn(int a, int b)
{
    if (request_in(a)->class != request_in(b)->class) {
        return request_in(a)->class < request_in(b)->class;
    }
    const struct model_seat *s = seat_in(a);
    const struct model_seat *t = seat_in(b);
    return s->counter != t->counter ? s->counter < t->counter : s->turn < t->turn;
}

/* Of one tenant's: by deadline, and the other way round among those that were deferred, which come last. */
static bool is_more_urgent(int a, int b)
{
    const struct model_request *x = &model.requests[a];
    const struct model_request *y = &model.requests[b];
    nanos s = request_in(a)->start_by_ns;
    nanos t = request_in(b)->start_by_ns;
    if (x->is_deferred != y->is_deferred) {
        return y->is_deferred;
    }
    bool comes_first = s != t ? s < t : x->order < y->order;
    return x->is_deferred ? !comes_first : comes_first;
}

/* The order between two that wait. */
static bool is_before(int a, int b)
{
    if (request_in(a)->class != request_in(b)->class) {
        return request_in(a)->class < request_in(b)->class;
    }
    if (model.requests[a].is_deferred != model.requests[b].is_deferred) {
        return model.requests[b].is_deferred;
    }
    bool is_same = model.requests[a].tenant == model.requests[b].tenant;
    return is_same ? is_more_urgent(a, b) : has_earlier_turn(a, b);
}

struct need {
    int class;
    nanos small_base_max;
    bool large_may_pass;
    uint64_t kv_max, endpoints;
};

static bool is_large(int slot)
{
    return sched_uncached_tokens(&request_in(slot)->cost) > model.options.small_tokens_max;
}

static bool can_go(int slot, const struct need *need)
{
    const struct sched_request *request = request_in(slot);
    return model.requests[slot].is_waiting && request->class == need->class &&
           (is_large(slot) ? need->large_may_pass : request->base_ns <= need->small_base_max) &&
           tokens_in(slot) <= need->kv_max &&
           (need->endpoints == 0 || request->endpoints == 0 || (request->endpoints & need->endpoints) != 0);
}

static int first_that_can_go(const struct need *need)
{
    int first = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (can_go(i, need) && (first < 0 || is_before(i, first))) {
            first = i;
        }
    }
    return first;
}

/* ---- who is next */

static struct need need_of(int class, const struct queue_room *room)
{
    return (struct need){class, room->classes[class].prefill_ns_max, room->classes[class].large_may_pass,
                         room->classes[class].kv_tokens_max, room->endpoints};
}

static int first_in_order(int class, const struct queue_room *room, bool large_may_pass)
{
    const struct need need = {class, NANOS_NEVER, large_may_pass, UINT64_MAX, room->endpoints};
    int first = first_that_can_go(&need);
    if (first < 0 || class != SCHED_CLASSES - 1 || !room->is_overloaded || !model.options.lifo_lowest) {
        return first;
    }
    unsigned tenant = model.requests[first].tenant;
    for (int i = 0; i < SLOTS; i++) {
        if (can_go(i, &need) && model.requests[i].tenant == tenant &&
            model.requests[i].is_deferred == model.requests[first].is_deferred &&
            model.requests[i].order > model.requests[first].order) {
            first = i;
        }
    }
    return first;
}

/* Whether the one that was passed stands against all that would pass it now. */
static bool choose(const struct queue_room *room, struct model_choice *choice)
{
    for (int i = 0; i < SCHED_CLASSES; i++) {
        if (held_by(-1, i).requests == 0 || !room->classes[i].may_pass) {
            continue;
        }
        struct need need = need_of(i, room);
        if (choice->passed < 0) {
            int first = first_in_order(i, room, room->classes[i].large_may_pass);
            if (first >= 0 && can_go(first, &need)) {
                choice->slot = first;
                choice->is_lane = first_in_order(i, room, true) != first;
                return false;
            }
            if (first < 0) {
                continue;
            }
            choice->passed = first;
            if (model.requests[first].passed_tokens * 100 >= tokens_in(first) * model.options.lane_share_percent) {
                return true;
            }
        }
        need.large_may_pass = false;
        choice->slot = first_that_can_go(&need);
        if (choice->slot >= 0) {
            choice->is_lane = true;
            return false;
        }
    }
    return false;
}

static bool is_aged(int slot, int class)
{
    return model.requests[slot].is_waiting && request_in(slot)->class == class;
}

/* The oldest of a tenant in a class; -1: none. */
static int oldest_of(unsigned tenant, int class)
{
    int oldest = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (is_aged(i, class) && model.requests[i].tenant == tenant &&
            (oldest < 0 || model.requests[i].order < model.requests[oldest].order)) {
            oldest = i;
        }
    }
    return oldest;
}

static int aged_of(int class)
{
    int best = -1;
    for (unsigned tenant = 0; tenant <= TENANTS; tenant++) {
        int oldest = oldest_of(tenant, class);
        if (oldest >= 0 && request_in(oldest)->arrived_ns + model.options.aged_after_ns <= model.world.now &&
            (best < 0 || has_earlier_turn(oldest, best))) {
            best = oldest;
        }
    }
    return best;
}

static void choose_aged(const struct queue_room *room, struct model_choice *choice)
{
    int above = choice->slot >= 0 ? request_in(choice->slot)->class : 0;
    if (model.credit < 100 || !room->classes[above].may_pass) {
        return;
    }
    int best = -1;
    for (int i = above + 1; i < SCHED_CLASSES; i++) {
        int aged = aged_of(i);
        struct need need = need_of(above, room);
        need.class = i;
        if (aged >= 0 && can_go(aged, &need) &&
            (best < 0 || request_in(aged)->arrived_ns < request_in(best)->arrived_ns)) {
            best = aged;
        }
    }
    if (best >= 0) {
        choice->slot = best;
        choice->is_lane = false;
        choice->is_aged = true;
    }
}

static struct model_choice model_next(const struct queue_room *room)
{
    struct model_choice choice = {.slot = -1, .passed = -1};
    if (!choose(room, &choice)) {
        choose_aged(room, &choice);
    }
    return choice;
}

/* ---- counters */

static void hold(unsigned tenant)
{
    model.tenants[tenant].holders++;
}

static void let_go(unsigned tenant)
{
    if (--model.tenants[tenant].holders == 0) {
        model.tenants[tenant].idle_since = ++model.events;
    }
}

static double floor_of(int class)
{
    const struct need anything = {class, NANOS_NEVER, true, UINT64_MAX, 0};
    int first = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (can_go(i, &anything) && (first < 0 || has_earlier_turn(i, first))) {
            first = i;
        }
    }
    double counter = first >= 0               ? seat_in(first)->counter
                     : model.left[class] >= 0 ? model.tenants[model.left[class]].seats[class].counter
                                              : model.left_counter[class];
    return counter - model.options.catch_up_tokens;
}

static void lift(unsigned tenant, int class)
{
    if (held_by((int)tenant, class).requests == 0) {
        struct model_seat *seat = &model.tenants[tenant].seats[class];
        double floor = floor_of(class);
        seat->counter = seat->counter < floor ? floor : seat->counter;
        seat->turn = ++model.turns;
    }
}

static void note_left(unsigned tenant, int class)
{
    if (held_by((int)tenant, class).requests == 0) {
        model.left[class] = (int)tenant;
    }
}

static double charge_for(const struct sched_request *request, const struct sched_cost *cost)
{
    double tokens = (double)sched_uncached_tokens(cost) * model.options.input_weight +
                    (double)cost->output_tokens * model.options.output_weight;
    return tokens / (request->weight == 0 ? 1000 : request->weight);
}

static void charge(unsigned tenant, int class, double tokens)
{
    model.tenants[tenant].served += tokens;
    model.tenants[tenant].seats[class].counter += tokens;
    if (held_by((int)tenant, class).requests > 0) {
        model.tenants[tenant].seats[class].turn = ++model.turns;
    }
}

static void earn(int class, bool was_aged)
{
    uint64_t below = 0;
    for (int i = class + 1; i < SCHED_CLASSES; i++) {
        below += held_by(-1, i).requests;
    }
    model.grants++;
    if (was_aged) {
        model.aged++;
        model.credit -= 100;
    }
    if (was_aged || below > 0) {
        model.credit += model.options.aged_share_percent;
        model.credit = model.credit > 100 ? 100 : model.credit;
    }
}

/* ---- tenants */

static void forget(unsigned tenant)
{
    for (int i = 0; i < SCHED_CLASSES; i++) {
        if (model.left[i] == (int)tenant) {
            model.left[i] = -1;
            model.left_counter[i] = model.tenants[tenant].seats[i].counter;
        }
    }
    model.sole = model.sole == (int)tenant ? -1 : model.sole;
    model.tenants[tenant] = (struct model_tenant){.is_known = false};
}

static unsigned tenant_of(uint64_t id)
{
    if (id == 0 || model.tenants[id].is_known) {
        return (unsigned)id;
    }
    unsigned known = 0;
    unsigned idle = 0;
    for (unsigned i = 1; i <= TENANTS; i++) {
        const struct model_tenant *tenant = &model.tenants[i];
        known += tenant->is_known;
        if (tenant->is_known && tenant->holders == 0 &&
            (idle == 0 || tenant->idle_since < model.tenants[idle].idle_since)) {
            idle = i;
        }
    }
    if (known == model.options.tenants_max) {
        if (idle == 0) {
            return 0;
        }
        forget(idle);
    }
    model.tenants[id] = (struct model_tenant){.is_known = true, .idle_since = ++model.events};
    return (unsigned)id;
}

/* ---- bounds */

static bool is_beyond(struct held held, uint64_t requests_max, uint64_t tokens_max, uint64_t bytes_max)
{
    return held.requests > requests_max || (tokens_max > 0 && held.tokens > tokens_max) ||
           (bytes_max > 0 && held.bytes > bytes_max);
}

static struct held with(struct held held, int slot)
{
    return (struct held){held.requests + 1, held.tokens + tokens_in(slot), held.bytes + request_in(slot)->body_bytes};
}

static bool is_overfull(struct held held)
{
    const struct queue_options *options = &model.options;
    uint32_t percent = options->tenant_share_percent;
    return held.requests > 1 && is_beyond(held, options->requests_max * percent / 100,
                                          options->tokens_max * percent / 100, options->bytes_max * percent / 100);
}

static double share_of(struct held held)
{
    double share = (double)held.requests * (1.0 / model.options.requests_max);
    double tokens = model.options.tokens_max == 0 ? 0 : (double)held.tokens * (1.0 / (double)model.options.tokens_max);
    double bytes = model.options.bytes_max == 0 ? 0 : (double)held.bytes * (1.0 / (double)model.options.bytes_max);
    share = tokens > share ? tokens : share;
    return bytes > share ? bytes : share;
}

/* The latest deadline of a tenant in a class; -1: none. */
static int last_of(unsigned tenant, int class)
{
    int last = -1;
    for (int i = 0; i < SLOTS; i++) {
        if (is_aged(i, class) && model.requests[i].tenant == tenant && (last < 0 || is_more_urgent(last, i))) {
            last = i;
        }
    }
    return last;
}

static int worst_of_tenant(unsigned tenant, int above)
{
    for (int class = SCHED_CLASSES - 1; class > above; class --) {
        if (last_of(tenant, class) >= 0) {
            return last_of(tenant, class);
        }
    }
    return -1;
}

/* The last request of whoever holds most in the class. */
static int last_of_fullest(int class)
{
    int best = -1;
    for (unsigned tenant = 0; tenant <= TENANTS; tenant++) {
        int last = last_of(tenant, class);
        if (last < 0) {
            continue;
        }
        double share = share_of(held_by((int)tenant, class));
        double most = best < 0 ? -1 : share_of(held_by((int)model.requests[best].tenant, class));
        if (share > most || (share == most && has_earlier_turn(best, last))) {
            best = last;
        }
    }
    return best;
}

/* Whether `a` comes first of two with the same deadline: by turns, then those that were not deferred, then by arrival.
 */
static bool wins_tie(int a, int b)
{
    const struct model_request *x = &model.requests[a];
    const struct model_request *y = &model.requests[b];
    if (request_in(a)->class != request_in(b)->class || x->tenant != y->tenant) {
        return has_earlier_turn(a, b);
    }
    return x->is_deferred != y->is_deferred ? y->is_deferred : x->order < y->order;
}

static int earliest_deadline(void)
{
    int earliest = -1;
    for (int i = 0; i < SLOTS; i++) {
        nanos deadline = request_in(i)->start_by_ns;
        if (!model.requests[i].is_waiting || deadline == NANOS_NEVER) {
            continue;
        }
        if (earliest < 0 || deadline < request_in(earliest)->start_by_ns ||
            (deadline == request_in(earliest)->start_by_ns && wins_tie(i, earliest))) {
            earliest = i;
        }
    }
    return earliest;
}

static int worst(unsigned tenant, int slot)
{
    const struct sched_request *request = request_in(slot);
    int late = earliest_deadline();
    if (late >= 0 && request_in(late)->start_by_ns <= model.world.now) {
        return late;
    }
    if (model.sole >= 0 && model.sole != (int)tenant && is_overfull(held_by(model.sole, -1))) {
        return worst_of_tenant((unsigned)model.sole, -1);
    }
    for (int class = SCHED_CLASSES - 1; class > request->class; class --) {
        if (held_by(-1, class).requests > 0) {
            return last_of_fullest(class);
        }
    }
    int victim = last_of_fullest(request->class);
    int own = last_of(tenant, request->class);
    if (victim >= 0 && share_of(with(held_by((int)tenant, request->class), slot)) <
                           share_of(held_by((int)model.requests[victim].tenant, request->class))) {
        return victim;
    }
    bool is_worse =
        own >= 0 && (model.requests[own].is_deferred || request_in(own)->start_by_ns > request->start_by_ns);
    return is_worse ? own : -1;
}

/* Marks those that have to go as not waiting, or says why there is no room. */
static enum sched_shed make_room(unsigned tenant, int slot)
{
    const struct queue_options *options = &model.options;
    struct held alone = with((struct held){0}, slot);
    if ((options->tokens_max > 0 && alone.tokens > options->tokens_max) ||
        (options->bytes_max > 0 && alone.bytes > options->bytes_max)) {
        return SCHED_SHED_TOO_LARGE;
    }
    while (tenants_waiting() > (held_by((int)tenant, -1).requests > 0) &&
           is_overfull(with(held_by((int)tenant, -1), slot))) {
        int victim = worst_of_tenant(tenant, request_in(slot)->class);
        if (victim < 0) {
            return SCHED_SHED_TENANT_SHARE;
        }
        model.requests[victim].is_waiting = false;
    }
    while (is_beyond(with(held_by(-1, -1), slot), options->requests_max, options->tokens_max, options->bytes_max)) {
        int victim = worst(tenant, slot);
        if (victim < 0) {
            return SCHED_SHED_QUEUE_FULL;
        }
        model.requests[victim].is_waiting = false;
    }
    return SCHED_SHED_NONE;
}

/* Those that were evicted, in any order, are out of both. */
static void check_evicted(const struct model_request *before)
{
    for (int i = 0; i < SLOTS; i++) {
        if (before[i].is_waiting && !model.requests[i].is_waiting) {
            cr_assert(request_in(i)->place.tenant == NULL);
            list_remove(&request_in(i)->place.lane);
        }
    }
    cr_assert(list_is_empty(&model.world.evicted), "nobody else went");
}

static enum sched_shed model_put(int slot)
{
    struct model_request before[SLOTS];
    memcpy(before, model.requests, sizeof(before));
    const struct sched_request *request = request_in(slot);
    unsigned tenant = tenant_of(request->tenant);
    enum sched_shed shed = make_room(tenant, slot);
    if (shed != SCHED_SHED_NONE) {
        memcpy(model.requests, before, sizeof(before));
        return shed;
    }
    /* In the order in which they went, which is that of the list. */
    for (struct list_node *node = model.world.evicted.next; node != &model.world.evicted; node = node->next) {
        int i = (int)(CONTAINER_OF(node, struct sched_request, place.lane) - model.world.requests);
        note_left(before[i].tenant, request_in(i)->class);
        let_go(before[i].tenant);
    }
    check_evicted(before);
    hold(tenant);
    lift(tenant, request->class);
    model.requests[slot] = (struct model_request){
        .is_waiting = true,
        .tenant = tenant,
        .order = ++model.orders,
        .charge = charge_for(request, &request->cost),
    };
    if (tenants_waiting() == 1) {
        model.sole = (int)tenant;
    }
    return SCHED_SHED_NONE;
}

#endif
