/* Who is next, and how many come before.
 *
 * A class's next one in order is its tenants' smallest counter's earliest deadline, among those whose endpoints have
 * room. Where that one does not fit into the tokens there are, the lane opens: small ones that fit may pass it, first
 * those of its class, then those of the classes below, and nobody else. The lane is bounded: what passes a waiting one
 * may together be as large as it is (lane_share_percent), so that it waits at most about twice as long as its size is
 * worth; from then on nobody of its class or below passes it, and what becomes free is kept for it.
 *
 * The aged: a request that waited longer than aged_after_ns may take the turn of one of a class above, or a place that
 * is held back for them, once for every 100 ÷ aged_share_percent grants made over the heads of those that wait below.
 * Of the classes the one goes whose aged one has waited longest, there the tenant with the smallest counter. */
#include "sched/queue_internal.h"

enum {
    SEEK_NODES_MAX = 256, /* looked at for one that fits, of a tree whose sums say only that one might */
    AHEAD_SEATS_MAX = 64, /* looked at one by one by queue_ahead_of */
    LANE_SHARE_PERCENT =
        25,              /* 100: short of KV memory, large ones reach a quarter of the small ones' share; 5: no more */
    LIFO_STEPS_MAX = 64, /* back from the newest, for one whose endpoints have room */
};

struct limits {
    nanos prefill_ns_max;
    bool large_may_pass;
    uint32_t small_tokens_max;
    uint64_t kv_tokens_max;
    uint64_t endpoints;
};

/* Whether one that fits may be among so many; for a single one: whether it fits. */
static bool may_fit(const struct queue_fit *fit, const struct limits *limits)
{
    return (fit->base_min <= limits->prefill_ns_max || limits->large_may_pass) &&
           fit->kv_min <= limits->kv_tokens_max && (fit->endpoints & limits->endpoints) != 0;
}

static bool fits(const struct sched_request *request, const struct limits *limits)
{
    bool is_large = sched_uncached_tokens(&request->cost) > limits->small_tokens_max;
    return (is_large ? limits->large_may_pass : request->base_ns <= limits->prefill_ns_max) &&
           tokens_of(request) <= limits->kv_tokens_max &&
           (request->endpoints == 0 || (request->endpoints & limits->endpoints) != 0);
}

static struct limits limits_of(const struct queue *queue, const struct queue_room *room, unsigned class)
{
    return (struct limits){
        .prefill_ns_max = room->prefill_ns_max[class],
        .large_may_pass = room->large_may_pass[class],
        .small_tokens_max = queue->options.small_tokens_max,
        .kv_tokens_max = room->kv_tokens_max,
        .endpoints = room->endpoints == 0 ? UINT64_MAX : room->endpoints,
    };
}

static struct limits limits_of_endpoints(const struct queue_room *room)
{
    return (struct limits){
        .prefill_ns_max = NANOS_NEVER,
        .large_may_pass = true,
        .kv_tokens_max = UINT64_MAX,
        .endpoints = room->endpoints == 0 ? UINT64_MAX : room->endpoints,
    };
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
    while (node != NULL && *budget > 0 && may_fit(&seat_of(node)->fit, limits)) {
        --*budget;
        struct sched_request *found = seek_in_class(node->left, limits, budget);
        if (found == NULL) {
            found = seek_in_seat(seat_of(node)->requests.root, limits, budget);
        }
        if (found != NULL) {
            return found;
        }
        node = node->right;
    }
    return NULL;
}

static struct sched_request *first_within(const struct queue_class *class, const struct limits *limits)
{
    unsigned budget = SEEK_NODES_MAX;
    return seek_in_class(class->seats.root, limits, &budget);
}

/* The newest of whoever's turn it is: between tenants it stays with the counters. */
static struct sched_request *newest_of(struct sched_request *first, const struct limits *limits)
{
    const struct queue_seat *seat = seat_of_request(first);
    const struct list_node *node = seat->arrivals.prev;
    for (unsigned i = 0; i < LIFO_STEPS_MAX && node != &seat->arrivals; i++, node = node->prev) {
        if (fits(request_at(node), limits)) {
            return request_at(node);
        }
    }
    return first;
}

static struct sched_request *first_in_order(const struct queue *queue, const struct queue_room *room, unsigned class)
{
    const struct queue_class *of = &queue->classes[class];
    struct limits limits = limits_of_endpoints(room);
    /* Endpoints alone are one condition, for which the sums are exact: the search goes straight down. */
    struct sched_request *first = first_within(of, &limits);
    if (first != NULL && queue->is_lifo && class == SCHED_CLASSES - 1) {
        return newest_of(first, &limits);
    }
    return first;
}

static struct sched_request *first_small(const struct queue *queue, const struct queue_room *room, unsigned class)
{
    struct limits limits = limits_of(queue, room, class);
    limits.large_may_pass = false;
    return first_within(&queue->classes[class], &limits);
}

/* Whether as many have gone before it as may. */
static bool is_passed_enough(const struct queue *queue, const struct sched_request *request)
{
    uint32_t percent = queue->options.lane_share_percent == 0 ? LANE_SHARE_PERCENT : queue->options.lane_share_percent;
    return request->place.passed_tokens * 100 >= tokens_of(request) * percent;
}

/* Returns whether a waiting one has the right that nobody passes it. Sets *ret_blocked, not clears it. */
static bool choose_in_order(const struct queue *queue, const struct queue_room *room, struct queue_choice *choice,
                            bool *ret_blocked)
{
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        if (queue->classes[class].requests == 0) {
            continue;
        }
        if (!room->class_may_pass[class]) {
            *ret_blocked = true;
            continue;
        }
        if (choice->passed == NULL) {
            struct sched_request *first = first_in_order(queue, room, class);
            struct limits limits = limits_of(queue, room, class);
            if (first != NULL && fits(first, &limits)) {
                choice->request = first;
                return false;
            }
            *ret_blocked = true;
            if (first == NULL) {
                continue; /* only their endpoints are full: nothing is taken from them by others */
            }
            /* A large one that waits for the place of large ones loses nothing to small ones. */
            bool waits_for_large =
                sched_uncached_tokens(&first->cost) > limits.small_tokens_max && !limits.large_may_pass;
            choice->passed = waits_for_large ? NULL : first;
            if (!waits_for_large && is_passed_enough(queue, first)) {
                return true;
            }
        }
        choice->request = first_small(queue, room, class);
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
    while (node != NULL && seat_of(node)->oldest_min <= arrived_max_ns) {
        const struct queue_seat *seat = seat_of(node);
        if (node->left != NULL && seat_of(node->left)->oldest_min <= arrived_max_ns) {
            node = node->left;
        } else if (request_at(seat->arrivals.next)->arrived_ns <= arrived_max_ns) {
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
    struct limits limits = limits_of(queue, room, above);
    struct sched_request *oldest = NULL;
    for (unsigned class = above + 1; class < SCHED_CLASSES && room->class_may_pass[above]; class ++) {
        const struct queue_seat *seat = first_aged_seat(&queue->classes[class], now - queue->options.aged_after_ns);
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
    for (unsigned class = 0; class < below; class ++) {
        struct limits limits = limits_of(queue, room, class);
        if (queue->classes[class].requests > 0 && room->class_may_pass[class] &&
            first_within(&queue->classes[class], &limits) != NULL) {
            return true;
        }
    }
    return false;
}

struct sched_request *queue_next(struct queue *queue, nanos now, const struct queue_room *room, bool *ret_blocked)
{
    struct queue_choice choice = {.grant = QUEUE_GRANT_ORDER};
    bool is_blocked = false;
    queue->is_lifo = queue->options.lifo_lowest && room->is_overloaded;
    bool is_reserved = choose_in_order(queue, room, &choice, &is_blocked);
    if (!is_reserved) {
        choose_aged(queue, now, room, &choice);
    }
    if (choice.request != NULL) {
        choice.request->is_lane_grant = choice.grant != QUEUE_GRANT_ORDER;
        choice.is_inversion = choice.grant == QUEUE_GRANT_ORDER && is_inversion(queue, room, choice.request->class);
    }
    queue->choice = choice;
    *ret_blocked = is_blocked;
    return choice.request;
}

/* ---- what is asked of the whole */

nanos queue_deadline(const struct queue *queue, struct sched_request **ret_request)
{
    const struct queue_seat *seat = NULL;
    for (unsigned class = 0; class < SCHED_CLASSES; class ++) {
        const struct treap_node *root = queue->classes[class].seats.root;
        if (root != NULL && (seat == NULL || seat_of(root)->deadline_min < seat->deadline_min)) {
            seat = seat_of(root);
        }
    }
    if (seat == NULL || seat->deadline_min == NANOS_NEVER) {
        *ret_request = NULL;
        return NANOS_NEVER;
    }
    nanos deadline = seat->deadline_min;
    while (place_of(seat->requests.first)->deadline_ns != deadline) {
        const struct treap_node *left = seat->node.left;
        seat = seat_of(left != NULL && seat_of(left)->deadline_min == deadline ? left : seat->node.right);
    }
    *ret_request = request_of(place_of(seat->requests.first));
    return deadline;
}

/* How many of the tenant's own come before it. */
static uint32_t rank_in_seat(const struct queue_seat *seat, const struct sched_request *request)
{
    const struct queue_place *own = &request->place;
    uint64_t order = own->is_waiting ? own->order : UINT64_MAX;
    uint32_t rank = 0;
    for (const struct treap_node *node = seat->requests.root; node != NULL;) {
        const struct queue_place *place = place_of(node);
        bool is_before = place->deadline_ns != request->start_by_ns ? place->deadline_ns < request->start_by_ns
                                                                    : place->order < order;
        if (is_before) {
            rank += 1 + (node->left != NULL ? place_of(node->left)->fit.requests : 0);
        }
        node = is_before ? node->right : node->left;
    }
    return rank;
}

/* How far the order goes before its turn, and what its own tenant has until then. */
struct ahead {
    double counter;
    const struct queue_seat *own;
    uint32_t rank;
};

/* How many of the seat's requests are served until all counters have reached the one asked for: turns of its mean. */
static uint32_t served_of(const struct queue_seat *seat, const struct ahead *ahead)
{
    uint32_t requests = place_of(seat->requests.root)->fit.requests;
    if (seat == ahead->own) {
        return ahead->rank;
    }
    if (seat->counter > ahead->counter) {
        return 0;
    }
    double room = ahead->counter - seat->counter;
    return room >= seat->cost ? requests : 1 + (uint32_t)(room / seat->cost * requests);
}

/* Over a subtree. Those that are served entirely are counted at once, those behind are left out; beyond the budget a
 * subtree is taken to be like its root. */
static uint64_t served_before(const struct treap_node *node, const struct ahead *ahead, uint32_t budget)
{
    if (node == NULL) {
        return 0;
    }
    const struct queue_seat *seat = seat_of(node);
    if (seat->finish_max <= ahead->counter) {
        return seat->fit.requests;
    }
    if (seat->counter > ahead->counter) {
        return served_before(node->left, ahead, budget);
    }
    uint64_t served = served_of(seat, ahead);
    if (budget <= 1) {
        served *= seat->seats;
        return served < seat->fit.requests ? served : seat->fit.requests;
    }
    budget--;
    uint32_t left = node->left == NULL ? 0 : budget * seat_of(node->left)->seats / seat->seats;
    return served + served_before(node->left, ahead, left) + served_before(node->right, ahead, budget - left);
}

uint32_t queue_ahead_of(const struct queue *queue, const struct sched_request *request)
{
    uint64_t served = 0;
    for (unsigned class = 0; class < request->class; class ++) {
        served += queue->classes[class].requests;
    }
    const struct queue_class *class = &queue->classes[request->class];
    const struct queue_tenant *tenant = queue_tenant_find(queue, request->tenant);
    const struct queue_seat *own = tenant == NULL ? NULL : &tenant->seats[request->class];
    struct ahead ahead = {.counter = queue_floor(class), .own = own};
    if (own != NULL && own->requests.root == NULL) {
        ahead.counter = own->counter > ahead.counter ? own->counter : ahead.counter;
    } else if (own != NULL) {
        bool is_newest_first = queue->is_lifo && request->class == SCHED_CLASSES - 1;
        ahead.rank = is_newest_first ? 0 : rank_in_seat(own, request);
        ahead.counter = own->counter + own->cost * ahead.rank / place_of(own->requests.root)->fit.requests;
    }
    served += served_before(class->seats.root, &ahead, AHEAD_SEATS_MAX);
    return served > UINT32_MAX ? UINT32_MAX : (uint32_t)served;
}
