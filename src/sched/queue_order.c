/* Who is next, and how many come before.
 *
 * A class's next one in order is its tenants' smallest counter's earliest start, among those that wait for nothing of
 * their own: an endpoint of theirs has room and, for a large one, the place of large ones is free. Who waits for such a
 * thing is passed by all others and loses nothing by it.
 *
 * Those that were deferred come behind all the others of their class, whatever the counters say: what they would be
 * given is likely to be wasted.
 *
 * Where the next one does not fit into the prefill time or the memory there is, the lane opens: small ones that fit may
 * pass it, first those of its class, then those of the classes below, and nobody else. The lane is bounded: what passes
 * a waiting one may together come to lane_share_percent of its size; from then on nobody of its class or below passes
 * it, and what becomes free is kept for it.
 *
 * The aged: a request that waited longer than aged_after_ns may take the turn of one of a class above, or a place that
 * is held back for them, once for every 100 ÷ aged_share_percent grants made over the heads of those that wait below.
 * Of the classes the one goes whose aged one has waited longest, there the tenant with the smallest counter. */
#include "sched/queue_internal.h"

enum {
    SEEK_NODES_MAX = 256, /* looked at for one that fits, of a tree whose sums say only that one might */
    AHEAD_SEATS_MAX = 32, /* looked at one by one by queue_ahead_of */
    LIFO_STEPS_MAX = 64,  /* back from the newest, for one that waits for nothing of its own */
    LANE_SHARE_PERCENT =
        25, /* 100: short of KV memory, large ones reach a quarter of the small ones' share; 5: no more */
};

struct limits {
    nanos prefill_ns_max; /* of small ones */
    bool large_may_pass;
    uint64_t kv_tokens_max;
    uint64_t kv_large_max;
    uint64_t endpoints;
    bool is_tenant_held;
    uint64_t held_tenant;
    bool passes_deferred;
};

/* Whether one that fits may be among so many; for a single one: whether it fits. */
static bool may_fit(const struct queue_fit *fit, const struct limits *limits)
{
    bool has_small = fit->large < fit->requests && fit->small_base_min <= limits->prefill_ns_max;
    bool has_large = fit->large > 0 && limits->large_may_pass && fit->kv_min <= limits->kv_large_max;
    bool is_deferred = limits->passes_deferred && fit->deferred == fit->requests;
    return (has_small || has_large) && !is_deferred && fit->kv_min <= limits->kv_tokens_max &&
           (fit->endpoints & limits->endpoints) != 0;
}

static bool fits(const struct sched_request *request, const struct limits *limits)
{
    if (limits->is_tenant_held && request->tenant == limits->held_tenant) {
        return false;
    }
    return may_fit(&request->place.own, limits);
}

static uint64_t kv_of_large(const struct queue_room *room, unsigned class)
{
    uint64_t all = room->classes[class].kv_tokens_max;
    return all == UINT64_MAX ? all : all > room->kv_lane_tokens ? all - room->kv_lane_tokens : 0;
}

static struct limits limits_of(const struct queue_room *room, unsigned class)
{
    const struct queue_class_room *of_class = &room->classes[class];
    return (struct limits){
        .prefill_ns_max = of_class->prefill_ns_max,
        .large_may_pass = of_class->large_may_pass,
        .kv_tokens_max = of_class->kv_tokens_max,
        .kv_large_max = kv_of_large(room, class),
        .endpoints = room->endpoints == 0 ? UINT64_MAX : room->endpoints,
        .is_tenant_held = room->is_tenant_held,
        .held_tenant = room->held_tenant,
    };
}

/* What a request may have to wait for that is its own affair. */
static struct limits limits_of_its_own(const struct queue_room *room, unsigned class, bool large_may_pass)
{
    struct limits limits = limits_of(room, class);
    limits.prefill_ns_max = NANOS_NEVER;
    limits.large_may_pass = large_may_pass;
    limits.kv_tokens_max = UINT64_MAX;
    limits.kv_large_max = room->is_lane_open ? limits.kv_large_max : UINT64_MAX;
    return limits;
}

/* ---- the first in order */

static struct sched_request *seek_in_seat(const struct treap_node *node, const struct limits *limits, unsigned *budget)
{
    while (node != NULL && *budget > 0 && may_fit(&place_of(node)->fit, limits)) {
        --*budget;
        struct sched_request *found = seek_in_seat(node->left, limits, budget);
        if (found != NULL) {
            return found;
        }
        if (fits(request_of(place_of(node)), limits)) {
            return request_of(place_of(node));
        }
        node = node->right;
    }
    return NULL;
}

static struct sched_request *seek_in_class(const struct treap_node *node, const struct limits *limits, unsigned *budget)
{
    while (node != NULL && *budget > 0 && may_fit(&seat_of(node)->sum.fit, limits)) {
        --*budget;
        struct sched_request *found = seek_in_class(node->left, limits, budget);
        bool is_held = limits->is_tenant_held && seat_of(node)->tenant->id == limits->held_tenant;
        if (found == NULL && !is_held) {
            found = seek_in_seat(seat_of(node)->requests.root, limits, budget);
        }
        if (found != NULL) {
            return found;
        }
        node = node->right;
    }
    return NULL;
}

/* Those that were deferred come behind all others of the class, whoever's they are. */
static struct sched_request *first_within(const struct queue_class *class, const struct limits *limits)
{
    if (class->seats.first == NULL) {
        return NULL;
    }
    /* The very first, in nearly all cases. */
    struct sched_request *first = request_of(place_of(seat_of(class->seats.first)->requests.first));
    if (first->place.own.deferred == 0 && fits(first, limits)) {
        return first;
    }
    const struct queue_fit *fit = &seat_of(class->seats.root)->sum.fit;
    unsigned budget = SEEK_NODES_MAX;
    struct limits surer = *limits;
    surer.passes_deferred = true;
    first = fit->deferred < fit->requests ? seek_in_class(class->seats.root, &surer, &budget) : NULL;
    if (first != NULL || fit->deferred == 0) {
        return first;
    }
    budget = SEEK_NODES_MAX;
    return seek_in_class(class->seats.root, limits, &budget);
}

/* The newest of whoever's turn it is: between tenants it stays with the counters. */
static struct sched_request *newest_of(struct sched_request *first, const struct limits *limits)
{
    const struct queue_seat *seat = seat_of_request(first);
    const struct list_node *node = seat->arrivals.prev;
    for (unsigned i = 0; i < LIFO_STEPS_MAX && node != &seat->arrivals; i++, node = node->prev) {
        bool is_behind = queue_is_deferred(request_at(node)) && !queue_is_deferred(first);
        if (!is_behind && fits(request_at(node), limits)) {
            return request_at(node);
        }
    }
    return first;
}

static struct sched_request *first_in_order(const struct queue *queue, const struct queue_room *room, unsigned class,
                                            bool large_may_pass)
{
    struct limits limits = limits_of_its_own(room, class, large_may_pass);
    struct sched_request *first = first_within(&queue->classes[class], &limits);
    if (first != NULL && queue->is_lifo && class == SCHED_CLASSES - 1) {
        return newest_of(first, &limits);
    }
    return first;
}

/* Whether a large one would come before it, had large ones room. */
static bool passes_large(const struct queue *queue, const struct queue_room *room, unsigned class,
                         const struct sched_request *request)
{
    return !room->classes[class].large_may_pass && seat_of(queue->classes[class].seats.root)->sum.fit.large > 0 &&
           first_in_order(queue, room, class, true) != request;
}

static struct sched_request *first_small(const struct queue *queue, const struct queue_room *room, unsigned class)
{
    struct limits limits = limits_of(room, class);
    limits.large_may_pass = false;
    return first_within(&queue->classes[class], &limits);
}

/* Whether as many have gone before it as may. */
static bool is_passed_enough(const struct queue *queue, const struct sched_request *request)
{
    uint32_t percent = queue->options.lane_share_percent == 0 ? LANE_SHARE_PERCENT : queue->options.lane_share_percent;
    return request->place.passed_tokens * 100 >= sched_tokens(&request->cost) * percent;
}

/* Returns whether a waiting one has the right that nobody passes it. */
static bool choose_in_order(const struct queue *queue, const struct queue_room *room, struct queue_choice *choice)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        if (queue->classes[i].requests == 0 || !room->classes[i].may_pass) {
            continue;
        }
        if (choice->passed == NULL) {
            struct sched_request *first = first_in_order(queue, room, i, room->classes[i].large_may_pass);
            struct limits limits = limits_of(room, i);
            if (first != NULL && fits(first, &limits)) {
                choice->request = first;
                choice->grant = passes_large(queue, room, i, first) ? QUEUE_GRANT_LANE : QUEUE_GRANT_ORDER;
                return false;
            }
            if (first == NULL) {
                continue; /* all wait for something of their own */
            }
            choice->passed = first;
            if (is_passed_enough(queue, first)) {
                return true;
            }
        }
        choice->request = first_small(queue, room, i);
        if (choice->request != NULL) {
            choice->grant = QUEUE_GRANT_LANE;
            return false;
        }
    }
    return false;
}

/* ---- the aged */

/* The first seat in order whose oldest came by then. */
static const struct queue_seat *first_aged_seat(const struct queue_class *class, nanos arrived_max_ns)
{
    const struct treap_node *node = class->seats.root;
    while (node != NULL && seat_of(node)->sum.oldest_min <= arrived_max_ns) {
        const struct queue_seat *seat = seat_of(node);
        if (node->left != NULL && seat_of(node->left)->sum.oldest_min <= arrived_max_ns) {
            node = node->left;
        } else if (seat->own.oldest_min <= arrived_max_ns) {
            return seat;
        } else {
            node = node->right;
        }
    }
    return NULL;
}

static void choose_aged(const struct queue *queue, nanos now, const struct queue_room *room,
                        struct queue_choice *choice)
{
    if (queue->aged_credit < 100 || now < queue->options.aged_after_ns) {
        return;
    }
    unsigned above = choice->request != NULL ? choice->request->class : 0;
    struct limits limits = limits_of(room, above);
    struct sched_request *oldest = NULL;
    for (unsigned i = above + 1; i < SCHED_CLASSES && room->classes[above].may_pass; i++) {
        const struct queue_seat *seat = first_aged_seat(&queue->classes[i], now - queue->options.aged_after_ns);
        struct sched_request *aged = seat == NULL ? NULL : request_at(seat->arrivals.next);
        if (aged != NULL && fits(aged, &limits) && (oldest == NULL || aged->arrived_ns < oldest->arrived_ns)) {
            oldest = aged;
        }
    }
    if (oldest != NULL) {
        choice->request = oldest;
        choice->grant = QUEUE_GRANT_AGED;
    }
}

/* Whether one of a class above waits and fits: looked for afresh, by what it is defined as. */
static bool is_inversion(const struct queue *queue, const struct queue_room *room, unsigned below)
{
    for (unsigned i = 0; i < below; i++) {
        struct limits limits = limits_of(room, i);
        if (queue->classes[i].requests > 0 && room->classes[i].may_pass &&
            first_within(&queue->classes[i], &limits) != NULL) {
            return true;
        }
    }
    return false;
}

struct sched_request *queue_next(struct queue *queue, nanos now, const struct queue_room *room)
{
    struct queue_choice choice = {.grant = QUEUE_GRANT_ORDER};
    queue->is_lifo = queue->options.lifo_lowest && room->is_overloaded;
    bool is_reserved = choose_in_order(queue, room, &choice);
    if (!is_reserved) {
        choose_aged(queue, now, room, &choice);
    }
    if (choice.request != NULL) {
        choice.request->is_lane_grant = choice.grant != QUEUE_GRANT_ORDER;
        choice.is_inversion = choice.grant == QUEUE_GRANT_ORDER && is_inversion(queue, room, choice.request->class);
    }
    queue->choice = choice;
    return choice.request;
}

/* ---- what is asked of the whole */

nanos queue_deadline(const struct queue *queue, struct sched_request **ret_request)
{
    const struct queue_seat *seat = NULL;
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        const struct treap_node *root = queue->classes[i].seats.root;
        if (root != NULL && (seat == NULL || seat_of(root)->sum.start_by_min < seat->sum.start_by_min)) {
            seat = seat_of(root);
        }
    }
    if (seat == NULL || seat->sum.start_by_min == NANOS_NEVER) {
        *ret_request = NULL;
        return NANOS_NEVER;
    }
    nanos start_by = seat->sum.start_by_min;
    for (;;) {
        if (seat->node.left != NULL && seat_of(seat->node.left)->sum.start_by_min == start_by) {
            seat = seat_of(seat->node.left);
        } else if (seat->own.start_by_min == start_by) {
            *ret_request = request_of(queue_most_urgent(seat));
            return start_by;
        } else {
            seat = seat_of(seat->node.right);
        }
    }
}

/* How far the order goes before a request's turn. */
struct ahead {
    const struct queue_seat *own; /* its tenant's; NULL: none yet */
    uint32_t rank;                /* how many of its tenant's own come before it */
    double counter;               /* its tenant's, when these will have been served */
    double counter_now;
    uint64_t turn; /* now, among equals */
};

/* Counts those of its own that come before it. */
static void count_own(const struct sched_request *request, struct ahead *ahead)
{
    struct queue_place own = request->place;
    if (!own.is_waiting) {
        own = (struct queue_place){.start_by_ns = request->start_by_ns, .order = UINT64_MAX};
    }
    for (const struct treap_node *node = ahead->own->requests.root; node != NULL;) {
        const struct queue_place *place = place_of(node);
        if (!queue_place_before(place, &own)) {
            node = node->left;
            continue;
        }
        ahead->rank++;
        ahead->counter += place->own.charge;
        if (node->left != NULL) {
            ahead->rank += place_of(node->left)->fit.requests;
            ahead->counter += place_of(node->left)->fit.charge;
        }
        node = node->right;
    }
}

/* Whether a seat that comes to the very same counter goes first there. Turns go round: who has begun higher was there
 * before, who has begun lower comes after, and equals keep their turns. */
static bool wins_tie(const struct queue_seat *seat, const struct ahead *ahead)
{
    return seat->counter != ahead->counter_now ? seat->counter > ahead->counter_now : seat->turn < ahead->turn;
}

/* How many of the seat's requests are served until all counters have reached the one asked for: turns of its mean. */
static uint32_t served_of(const struct queue_seat *seat, const struct ahead *ahead)
{
    const struct queue_fit *fit = &seat->own.fit;
    double room = ahead->counter - seat->counter;
    if (seat == ahead->own) {
        return ahead->rank;
    }
    if (room >= fit->charge) {
        return fit->requests;
    }
    double turns = room * fit->requests / fit->charge;
    uint32_t whole = (uint32_t)turns;
    return whole + (turns > whole || wins_tie(seat, ahead));
}

/* Over a subtree. Those that are served entirely are counted at once, those behind are left out; beyond the budget a
 * subtree is taken to be like its root. */
static uint64_t served_before(const struct treap_node *node, const struct ahead *ahead, uint32_t budget)
{
    if (node == NULL) {
        return 0;
    }
    const struct queue_seat *seat = seat_of(node);
    if (seat->sum.finish_max <= ahead->counter) {
        return seat->sum.fit.requests;
    }
    if (seat->counter > ahead->counter) {
        return served_before(node->left, ahead, budget);
    }
    uint64_t served = served_of(seat, ahead);
    if (budget <= 1) {
        served *= seat->sum.seats;
        return served < seat->sum.fit.requests ? served : seat->sum.fit.requests;
    }
    budget--;
    uint32_t left = node->left == NULL ? 0 : budget * seat_of(node->left)->sum.seats / seat->sum.seats;
    return served + served_before(node->left, ahead, left) + served_before(node->right, ahead, budget - left);
}

uint32_t queue_ahead_of(const struct queue *queue, const struct sched_request *request)
{
    if (queue->requests == 0) {
        return 0; /* as with nearly all that are granted at once */
    }
    uint64_t served = 0;
    for (unsigned i = 0; i < request->class; i++) {
        served += queue->classes[i].requests;
    }
    const struct queue_class *class = &queue->classes[request->class];
    const struct queue_tenant *tenant = queue_tenant_find(queue, request->tenant);
    const struct queue_seat *own = tenant == NULL ? NULL : &tenant->seats[request->class];
    struct ahead ahead = {.own = own, .counter = queue_floor(queue, class), .turn = UINT64_MAX};
    if (own != NULL && own->requests.root != NULL) {
        ahead.counter = own->counter;
        ahead.turn = own->turn;
    } else if (own != NULL && own->counter > ahead.counter) {
        ahead.counter = own->counter;
    }
    ahead.counter_now = ahead.counter;
    if (own != NULL && !(queue->is_lifo && request->class == SCHED_CLASSES - 1)) {
        count_own(request, &ahead);
    }
    served += served_before(class->seats.root, &ahead, AHEAD_SEATS_MAX);
    return served > UINT32_MAX ? UINT32_MAX : (uint32_t)served;
}
