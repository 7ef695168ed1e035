/* The queue's bounds: who has to go when it is full.
 *
 * Nobody is evicted for a request that does not get in after all: the victims are unlinked one by one, and linked
 * again when it turns out that the new one is the worst. */
#include "sched/queue_internal.h"

/* What a request would take that comes on top of so much, in the dimensions that have bounds. */
static bool is_beyond(uint64_t requests, uint64_t tokens, uint64_t bytes, uint64_t requests_max, uint64_t tokens_max,
                      uint64_t bytes_max)
{
    return requests > requests_max || (tokens_max > 0 && tokens > tokens_max) || (bytes_max > 0 && bytes > bytes_max);
}

static bool is_full_for(const struct queue *queue, const struct sched_request *request)
{
    const struct queue_options *options = &queue->options;
    return is_beyond((uint64_t)queue->requests + 1, queue->tokens + sched_tokens(&request->cost),
                     queue->bytes + request->body_bytes, options->requests_max, options->tokens_max,
                     options->bytes_max);
}

static bool is_too_large(const struct queue *queue, const struct sched_request *request)
{
    const struct queue_options *options = &queue->options;
    return is_beyond(0, sched_tokens(&request->cost), request->body_bytes, 0, options->tokens_max, options->bytes_max);
}

/* Whether so much is more than one tenant's share; one request anybody may have. */
static bool is_overfull(const struct queue *queue, uint64_t requests, uint64_t tokens, uint64_t bytes)
{
    return requests > 1 && is_beyond(requests, tokens, bytes, queue->requests_cap, queue->tokens_cap, queue->bytes_cap);
}

/* Whether its tenant would be above its share with it, while others wait. */
static bool is_beyond_share(const struct queue *queue, const struct queue_tenant *tenant,
                            const struct sched_request *request)
{
    uint32_t others = queue->tenants_waiting - (tenant->requests > 0);
    return others > 0 &&
           is_overfull(queue, (uint64_t)tenant->requests + 1, tenant->tokens + sched_tokens(&request->cost),
                       tenant->bytes + request->body_bytes);
}

static struct sched_request *last_of(const struct queue_seat *seat)
{
    return request_of(place_of(treap_last(&seat->requests)));
}

/* The tenant's latest start, of its lowest class below `above`; NULL: it has none there. */
static struct sched_request *worst_of_tenant(const struct queue_tenant *tenant, int above)
{
    for (int class = SCHED_CLASSES - 1; class > above; class --) {
        const struct queue_seat *seat = &tenant->seats[class];
        if (seat->requests.root != NULL) {
            return last_of(seat);
        }
    }
    return NULL;
}

/* The seat that holds most in the class; among equals the one whose turn comes last. */
static const struct queue_seat *fullest(const struct queue_class *class)
{
    const struct treap_node *node = class->seats.root;
    double share = seat_of(node)->sum.share_max;
    for (;;) {
        if (node->right != NULL && seat_of(node->right)->sum.share_max >= share) {
            node = node->right;
        } else if (seat_of(node)->own.share_max >= share) {
            return seat_of(node);
        } else {
            node = node->left;
        }
    }
}

/* Of the new one's own class: NULL when that is the new one itself. */
static struct sched_request *worst_of_class(const struct queue *queue, const struct queue_tenant *tenant,
                                            const struct sched_request *request)
{
    const struct queue_seat *seat = fullest(&queue->classes[request->class]);
    const struct queue_seat *own = &tenant->seats[request->class];
    uint64_t requests = own->requests.root != NULL ? place_of(own->requests.root)->fit.requests : 0;
    double share =
        queue_share(queue, requests + 1, own->tokens + sched_tokens(&request->cost), own->bytes + request->body_bytes);
    if (share < seat->own.share_max) {
        return last_of(seat);
    }
    if (requests == 0) {
        return NULL;
    }
    struct sched_request *last = last_of(own);
    return queue_is_deferred(last) || last->place.start_by_ns > request->start_by_ns ? last : NULL;
}

/* Who has to go so that the new one may come; NULL: nobody is worse than it is. */
static struct sched_request *worst(const struct queue *queue, nanos now, const struct queue_tenant *tenant,
                                   const struct sched_request *request)
{
    struct sched_request *late;
    if (queue_deadline(queue, &late) <= now) {
        return late; /* it is lost in any case */
    }
    const struct queue_tenant *sole = queue->sole;
    if (sole != NULL && sole != tenant && is_overfull(queue, sole->requests, sole->tokens, sole->bytes)) {
        return worst_of_tenant(sole, -1);
    }
    for (unsigned class = SCHED_CLASSES - 1; class > request->class; class --) {
        if (queue->classes[class].requests > 0) {
            return last_of(fullest(&queue->classes[class]));
        }
    }
    return queue->classes[request->class].requests > 0 ? worst_of_class(queue, tenant, request) : NULL;
}

static void unlink_to(struct queue *queue, struct sched_request *victim, struct list_node *victims)
{
    queue_unlink(queue, victim);
    list_push_back(victims, &victim->place.lane);
}

static enum sched_shed make_room(struct queue *queue, nanos now, struct queue_tenant *tenant,
                                 const struct sched_request *request, struct list_node *victims)
{
    while (is_beyond_share(queue, tenant, request)) {
        struct sched_request *victim = worst_of_tenant(tenant, request->class);
        if (victim == NULL) {
            return SCHED_SHED_TENANT_SHARE;
        }
        unlink_to(queue, victim, victims);
    }
    while (is_full_for(queue, request)) {
        struct sched_request *victim = worst(queue, now, tenant, request);
        if (victim == NULL) {
            return SCHED_SHED_QUEUE_FULL;
        }
        unlink_to(queue, victim, victims);
    }
    return SCHED_SHED_NONE;
}

enum sched_shed queue_make_room(struct queue *queue, nanos now, struct queue_tenant *tenant,
                                const struct sched_request *request, struct list_node *evicted)
{
    if (is_too_large(queue, request)) {
        return SCHED_SHED_TOO_LARGE;
    }
    struct list_node victims;
    list_init(&victims);
    enum sched_shed shed = make_room(queue, now, tenant, request, &victims);
    struct list_node *node;
    while ((node = list_pop_front(&victims)) != NULL) {
        struct sched_request *victim = request_at(node);
        if (shed == SCHED_SHED_NONE) {
            queue_let_go(queue, victim);
            list_push_back(evicted, node);
        } else {
            queue_link(queue, victim);
        }
    }
    return shed;
}
