/* In and out of the queue: the trees, the counters, the sums. */
#include <stdlib.h>

#include "sched/queue_internal.h"

/* ---- the trees */

static bool place_before(const struct treap_node *a, const struct treap_node *b)
{
    return queue_place_before(place_of(a), place_of(b));
}

static inline void fit_add(struct queue_fit *fit, const struct queue_fit *added)
{
    fit->charge += added->charge;
    fit->requests += added->requests;
    fit->large += added->large;
    fit->deferred += added->deferred;
    fit->small_base_min = added->small_base_min < fit->small_base_min ? added->small_base_min : fit->small_base_min;
    fit->kv_min = added->kv_min < fit->kv_min ? added->kv_min : fit->kv_min;
    fit->endpoints |= added->endpoints;
}

static void place_sum(struct treap_node *node)
{
    struct queue_place *place = place_of(node);
    place->fit = place->own;
    if (node->left != NULL) {
        fit_add(&place->fit, &place_of(node->left)->fit);
    }
    if (node->right != NULL) {
        fit_add(&place->fit, &place_of(node->right)->fit);
    }
}

static void place_add(struct treap_node *node, const struct treap_node *added)
{
    fit_add(&place_of(node)->fit, &place_of(added)->fit);
}

static bool seat_before(const struct treap_node *a, const struct treap_node *b)
{
    const struct queue_seat *x = seat_of(a);
    const struct queue_seat *y = seat_of(b);
    return x->counter != y->counter ? x->counter < y->counter : x->turn < y->turn;
}

static inline void sum_add(struct queue_sum *sum, const struct queue_sum *added)
{
    fit_add(&sum->fit, &added->fit);
    sum->seats += added->seats;
    sum->finish_max = added->finish_max > sum->finish_max ? added->finish_max : sum->finish_max;
    sum->share_max = added->share_max > sum->share_max ? added->share_max : sum->share_max;
    sum->start_by_min = added->start_by_min < sum->start_by_min ? added->start_by_min : sum->start_by_min;
    sum->oldest_min = added->oldest_min < sum->oldest_min ? added->oldest_min : sum->oldest_min;
}

static void seat_sum(struct treap_node *node)
{
    struct queue_seat *seat = seat_of(node);
    seat->sum = seat->own;
    if (node->left != NULL) {
        sum_add(&seat->sum, &seat_of(node->left)->sum);
    }
    if (node->right != NULL) {
        sum_add(&seat->sum, &seat_of(node->right)->sum);
    }
}

static void seat_add(struct treap_node *node, const struct treap_node *added)
{
    sum_add(&seat_of(node)->sum, &seat_of(added)->sum);
}

/* What its requests come to, before seat_enter or treap_update. */
static void seat_sum_own(const struct queue *queue, struct queue_seat *seat)
{
    seat->own = (struct queue_sum){
        .fit = place_of(seat->requests.root)->fit,
        .seats = 1,
        .finish_max = seat->counter + place_of(seat->requests.root)->fit.charge,
        .start_by_min = queue_most_urgent(seat)->start_by_ns,
        .oldest_min = request_at(seat->arrivals.next)->arrived_ns,
    };
    seat->own.share_max = queue_share(queue, seat->own.fit.requests, seat->tokens, seat->bytes);
}

/* Another request has come into a seat that waits: all sums above it only grow, or shrink to its values. */
static void seat_grow(struct queue_seat *seat, const struct queue_fit *added)
{
    struct queue_sum sum = seat->own;
    sum.fit = *added;
    sum.seats = 0;
    for (struct treap_node *node = &seat->node; node != NULL; node = node->parent) {
        sum_add(&seat_of(node)->sum, &sum);
    }
}

/* Puts the seat at the place that its counter and turn ask for. */
static void seat_enter(const struct queue *queue, struct queue_class *class, struct queue_seat *seat)
{
    seat_sum_own(queue, seat);
    seat->node = (struct treap_node){.priority = treap_priority(seat->turn)};
    treap_insert(&class->seats, &seat->node, seat_before, seat_add, seat_sum);
}

static bool seat_is_waiting(const struct queue_seat *seat)
{
    return seat->requests.root != NULL;
}

/* ---- shares and sums */

double queue_share(const struct queue *queue, uint64_t requests, uint64_t tokens, uint64_t bytes)
{
    double share = (double)requests * queue->share_of_request;
    double of_tokens = (double)tokens * queue->share_of_token;
    double of_bytes = (double)bytes * queue->share_of_byte;
    share = of_tokens > share ? of_tokens : share;
    return of_bytes > share ? of_bytes : share;
}

/* What a request that takes so much is charged, in weighted tokens. */
static double charge_of(const struct queue *queue, const struct sched_request *request, const struct sched_cost *cost)
{
    double tokens = (double)sched_uncached_tokens(cost) * queue->options.input_weight +
                    (double)cost->output_tokens * queue->options.output_weight;
    return tokens / (request->weight == 0 ? 1000 : request->weight);
}

double queue_floor(const struct queue *queue, const struct queue_class *class)
{
    double counter = class->left != NULL ? class->left->counter : class->left_counter;
    if (class->seats.first != NULL) {
        counter = seat_of(class->seats.first)->counter;
    }
    return counter - queue->options.catch_up_tokens;
}

/* The tenant becomes active in the class, unless it is. */
static void lift(struct queue *queue, const struct queue_class *class, struct queue_seat *seat)
{
    if (!seat_is_waiting(seat)) {
        double floor = queue_floor(queue, class);
        seat->counter = seat->counter < floor ? floor : seat->counter;
        seat->turn = ++queue->turns;
    }
}

/* The seat has become empty, or was so when it was charged: who comes next is lifted to it. */
static void note_left(struct queue_class *class, struct queue_seat *seat)
{
    if (!seat_is_waiting(seat)) {
        class->left = seat;
    }
}

static void count_in(struct queue *queue, struct queue_seat *seat, const struct sched_request *request)
{
    struct queue_tenant *tenant = seat->tenant;
    uint64_t tokens = sched_tokens(&request->cost);
    queue->tenants_waiting += tenant->requests == 0;
    queue->requests++;
    queue->tokens += tokens;
    queue->bytes += request->body_bytes;
    queue->classes[request->class].requests++;
    tenant->requests++;
    tenant->tokens += tokens;
    tenant->bytes += request->body_bytes;
    seat->tokens += tokens;
    seat->bytes += request->body_bytes;
}

static void count_out(struct queue *queue, struct queue_seat *seat, const struct sched_request *request)
{
    struct queue_tenant *tenant = seat->tenant;
    uint64_t tokens = sched_tokens(&request->cost);
    queue->requests--;
    queue->tokens -= tokens;
    queue->bytes -= request->body_bytes;
    queue->classes[request->class].requests--;
    tenant->requests--;
    tenant->tokens -= tokens;
    tenant->bytes -= request->body_bytes;
    queue->tenants_waiting -= tenant->requests == 0;
    seat->tokens -= tokens;
    seat->bytes -= request->body_bytes;
}

/* ---- in and out */

/* Appends in nearly all cases; who is put back after an eviction that came to nothing goes where it was. */
static void arrive(struct queue_seat *seat, struct sched_request *request)
{
    struct list_node *after = seat->arrivals.prev;
    while (after != &seat->arrivals && request_at(after)->place.order > request->place.order) {
        after = after->prev;
    }
    list_push_front(after, &request->place.lane);
}

void queue_link(struct queue *queue, struct sched_request *request)
{
    struct queue_class *class = &queue->classes[request->class];
    struct queue_seat *seat = seat_of_request(request);
    struct queue_place *place = &request->place;
    bool was_waiting = seat_is_waiting(seat);
    place->node = (struct treap_node){.priority = treap_priority(place->order)};
    place->is_waiting = true;
    treap_insert(&seat->requests, &place->node, place_before, place_add, place_sum);
    arrive(seat, request);
    count_in(queue, seat, request);
    if (!was_waiting) {
        seat_enter(queue, class, seat);
        return;
    }
    seat_sum_own(queue, seat);
    if (seat->arrivals.prev == &place->lane) {
        seat_grow(seat, &place->own);
    } else {
        treap_update(&seat->node, seat_sum); /* it is put back, and may be the oldest again */
    }
}

/* Takes it out of its tenant's trees; the seat's own place in the class is the caller's business. */
static void unlink_from_seat(struct queue *queue, struct queue_seat *seat, struct sched_request *request)
{
    CHECK(request->place.is_waiting);
    request->place.is_waiting = false;
    treap_remove(&seat->requests, &request->place.node, place_sum);
    list_remove(&request->place.lane);
    count_out(queue, seat, request);
    if (queue->choice.request == request) {
        queue->choice.request = NULL;
    }
    if (queue->choice.passed == request) {
        queue->choice.passed = NULL;
    }
}

void queue_unlink(struct queue *queue, struct sched_request *request)
{
    struct queue_seat *seat = seat_of_request(request);
    unlink_from_seat(queue, seat, request);
    if (seat_is_waiting(seat)) {
        seat_sum_own(queue, seat);
        treap_update(&seat->node, seat_sum);
    } else {
        treap_remove(&queue->classes[request->class].seats, &seat->node, seat_sum);
    }
}

void queue_let_go(struct queue *queue, struct sched_request *request)
{
    struct queue_tenant *tenant = request->place.tenant;
    note_left(&queue->classes[request->class], seat_of_request(request));
    request->place.tenant = NULL;
    queue_tenant_let_go(queue, tenant);
}

static struct queue_fit fit_of(const struct queue *queue, const struct sched_request *request)
{
    bool is_large = sched_uncached_tokens(&request->cost) > queue->options.small_tokens_max;
    return (struct queue_fit){
        .charge = charge_of(queue, request, &request->cost),
        .requests = 1,
        .large = is_large,
        .small_base_min = is_large ? NANOS_NEVER : request->base_ns,
        .kv_min = sched_tokens(&request->cost),
        .endpoints = request->endpoints == 0 ? UINT64_MAX : request->endpoints,
    };
}

enum sched_shed queue_put(struct queue *queue, nanos now, struct sched_request *request, struct list_node *evicted)
{
    CHECK(request->class < SCHED_CLASSES && request->place.tenant == NULL);
    struct queue_tenant *tenant = queue_tenant_get(queue, request->tenant);
    enum sched_shed shed = queue_make_room(queue, now, tenant, request, evicted);
    if (shed != SCHED_SHED_NONE) {
        return shed;
    }
    tenant->weight = request->weight == 0 ? 1000 : request->weight;
    queue_tenant_hold(queue, tenant);
    lift(queue, &queue->classes[request->class], &tenant->seats[request->class]);
    request->place = (struct queue_place){
        .own = fit_of(queue, request),
        .start_by_ns = request->start_by_ns,
        .order = ++queue->orders,
        .tenant = tenant,
    };
    queue_link(queue, request);
    if (queue->tenants_waiting == 1) {
        queue->sole = tenant;
    }
    return SCHED_SHED_NONE;
}

void queue_remove(struct queue *queue, struct sched_request *request)
{
    queue_unlink(queue, request);
    queue_let_go(queue, request);
}

void queue_defer(struct queue *queue, struct sched_request *request)
{
    struct queue_seat *seat = seat_of_request(request);
    struct queue_place *place = &request->place;
    CHECK(place->is_waiting && place->own.deferred == 0);
    treap_remove(&seat->requests, &place->node, place_sum);
    place->own.deferred = 1;
    treap_insert(&seat->requests, &place->node, place_before, place_add, place_sum);
    seat_sum_own(queue, seat);
    treap_update(&seat->node, seat_sum);
}

bool queue_is_deferred(const struct sched_request *request)
{
    return request->place.own.deferred > 0;
}

/* Adds to the seat's counter, and moves it to where it belongs now; `was_waiting`: it is in its class's tree. */
static void seat_charge(struct queue *queue, struct queue_class *class, struct queue_seat *seat, double charge,
                        bool was_waiting)
{
    seat->tenant->served += charge;
    if (was_waiting) {
        treap_remove(&class->seats, &seat->node, seat_sum);
    }
    seat->counter += charge;
    if (seat_is_waiting(seat)) {
        seat->turn = ++queue->turns;
        seat_enter(queue, class, seat);
    }
}

/* Each grant while somebody of a lower class waits earns the aged a part of one; what is not used is not saved up. */
static void earn_aged(struct queue *queue, unsigned class, enum queue_grant grant)
{
    uint32_t waiting_below = 0;
    for (unsigned i = class + 1; i < SCHED_CLASSES; i++) {
        waiting_below += queue->classes[i].requests;
    }
    if (grant == QUEUE_GRANT_AGED) {
        queue->aged_credit -= 100;
    } else if (waiting_below == 0) {
        return;
    }
    queue->aged_credit += queue->options.aged_share_percent;
    queue->aged_credit = queue->aged_credit > 100 ? 100 : queue->aged_credit;
}

void queue_take(struct queue *queue, struct sched_request *request)
{
    CHECK(request != NULL && queue->choice.request == request);
    struct queue_choice choice = queue->choice;
    queue->aged_grants += choice.grant == QUEUE_GRANT_AGED;
    queue->lane_grants += choice.grant == QUEUE_GRANT_LANE;
    queue->inversions += choice.is_inversion;
    if (choice.passed != NULL) {
        choice.passed->place.passed_tokens += sched_tokens(&request->cost);
    }
    earn_aged(queue, request->class, choice.grant);

    struct queue_class *class = &queue->classes[request->class];
    struct queue_seat *seat = seat_of_request(request);
    unlink_from_seat(queue, seat, request);
    request->place.charged = request->place.own.charge;
    seat_charge(queue, class, seat, request->place.charged, true);
    note_left(class, seat);
}

void queue_offer(struct queue *queue, nanos now, const struct sched_request *request)
{
    struct queue_tenant *tenant = queue_tenant_get(queue, request->tenant);
    double tokens = (double)sched_tokens(&request->cost);
    rate_add(queue, &tenant->offered, now, tokens);
}

void queue_served(struct queue *queue, nanos now, const struct sched_request *request)
{
    rate_add(queue, &queue->served, now, (double)sched_tokens(&request->cost));
}

void queue_charge(struct queue *queue, struct sched_request *request)
{
    CHECK(request->class < SCHED_CLASSES && request->place.tenant == NULL);
    struct queue_tenant *tenant = queue_tenant_get(queue, request->tenant);
    struct queue_class *class = &queue->classes[request->class];
    struct queue_seat *seat = &tenant->seats[request->class];
    tenant->weight = request->weight == 0 ? 1000 : request->weight;
    queue_tenant_hold(queue, tenant);
    lift(queue, class, seat);
    request->place = (struct queue_place){.tenant = tenant, .charged = charge_of(queue, request, &request->cost)};
    earn_aged(queue, request->class, QUEUE_GRANT_ORDER);
    seat_charge(queue, class, seat, request->place.charged, seat_is_waiting(seat));
    note_left(class, seat);
}

void queue_settle(struct queue *queue, struct sched_request *request, const struct sched_cost *really, bool is_over)
{
    struct queue_tenant *tenant = request->place.tenant;
    CHECK(tenant != NULL && !request->place.is_waiting);
    struct queue_seat *seat = seat_of_request(request);
    double charge = charge_of(queue, request, really);
    if (charge != request->place.charged) {
        seat_charge(queue, &queue->classes[request->class], seat, charge - request->place.charged,
                    seat_is_waiting(seat));
        request->place.charged = charge;
    }
    if (is_over) {
        request->place.tenant = NULL;
        queue_tenant_let_go(queue, tenant);
    }
}

/* ---- the whole */

static uint64_t part_of(uint64_t whole, uint32_t percent)
{
    return whole / 100 * percent + whole % 100 * percent / 100;
}

struct queue *queue_create(const struct queue_options *options)
{
    struct queue *queue = calloc(1, sizeof(*queue));
    if (queue == NULL) {
        return NULL;
    }
    queue->options = *options;
    uint32_t percent = options->tenant_share_percent;
    percent = percent == 0 || percent > 100 ? 100 : percent;
    queue->requests_cap = (uint32_t)part_of(options->requests_max, percent);
    queue->tokens_cap = part_of(options->tokens_max, percent);
    queue->bytes_cap = part_of(options->bytes_max, percent);
    queue->share_of_request = options->requests_max == 0 ? 0 : 1.0 / options->requests_max;
    queue->share_of_token = options->tokens_max == 0 ? 0 : 1.0 / (double)options->tokens_max;
    queue->share_of_byte = options->bytes_max == 0 ? 0 : 1.0 / (double)options->bytes_max;
    if (!queue_tenants_init(queue)) {
        free(queue);
        return NULL;
    }
    return queue;
}

void queue_destroy(struct queue *queue)
{
    CHECK(queue->requests == 0);
    queue_tenants_fini(queue);
    free(queue);
}

uint32_t queue_length(const struct queue *queue)
{
    return queue->requests;
}

uint32_t queue_length_of(const struct queue *queue, unsigned class)
{
    return queue->classes[class].requests;
}

void queue_figures(const struct queue *queue, struct queue_figures *ret_figures)
{
    struct queue_figures figures = {
        .requests = queue->requests,
        .tokens = queue->tokens,
        .bytes = queue->bytes,
        .tenants_waiting = queue->tenants_waiting,
        .oldest_ns = NANOS_NEVER,
        .inversions = queue->inversions,
        .aged_grants = queue->aged_grants,
        .lane_grants = queue->lane_grants,
    };
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        const struct queue_class *class = &queue->classes[i];
        figures.requests_of_class[i] = class->requests;
        if (class->requests > 0) {
            nanos oldest = seat_of(class->seats.root)->sum.oldest_min;
            figures.oldest_ns = oldest < figures.oldest_ns ? oldest : figures.oldest_ns;
        }
    }
    *ret_figures = figures;
}
