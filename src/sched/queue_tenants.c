/* The table of tenants: bounded, chained, the idle ones in the order in which they became so. */
#include <stdlib.h>

#include "sched/queue_internal.h"

enum { RATE_WINDOWS = 6 }; /* rates are over so many times aged_after_ns: half a minute */

/* e^-x, near enough: rates need no more. */
static double faded(const struct queue *queue, nanos elapsed)
{
    double x = (double)elapsed / (double)(RATE_WINDOWS * queue->options.aged_after_ns + 1);
    return 1 / (1 + x + x * x / 2 + x * x * x / 6);
}

double rate_at(const struct queue *queue, const struct queue_rate *rate, nanos now)
{
    return rate->sum * faded(queue, now > rate->at_ns ? now - rate->at_ns : 0);
}

void rate_add(const struct queue *queue, struct queue_rate *rate, nanos now, double amount)
{
    rate->sum = rate_at(queue, rate, now) + amount;
    rate->at_ns = now;
}

static struct queue_tenant **bucket_of(const struct queue *queue, uint64_t id)
{
    /* Tenants are hashes already, but not necessarily good ones in their low bits. */
    uint64_t mixed = id * UINT64_C(0x9e3779b97f4a7c15);
    return &queue->buckets[(mixed >> 32) & queue->buckets_mask];
}

static void tenant_init(struct queue_tenant *tenant, uint64_t id)
{
    *tenant = (struct queue_tenant){.id = id, .weight = 1000};
    list_init(&tenant->node);
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        tenant->seats[i].tenant = tenant;
        list_init(&tenant->seats[i].arrivals);
    }
}

bool queue_tenants_init(struct queue *queue)
{
    list_init(&queue->busy);
    list_init(&queue->idle);
    tenant_init(&queue->strangers, 0);
    uint32_t buckets = 1;
    while (buckets < queue->options.tenants_max && buckets < UINT32_C(1) << 31) {
        buckets *= 2;
    }
    queue->buckets_mask = buckets - 1;
    queue->buckets = calloc(buckets, sizeof(struct queue_tenant *));
    return queue->buckets != NULL;
}

void queue_tenants_fini(struct queue *queue)
{
    CHECK(list_is_empty(&queue->busy) && queue->strangers.holders == 0);
    struct list_node *node;
    while ((node = list_pop_front(&queue->idle)) != NULL) {
        free(CONTAINER_OF(node, struct queue_tenant, node));
    }
    free(queue->buckets);
}

static struct queue_tenant *lookup(const struct queue *queue, uint64_t id)
{
    struct queue_tenant *tenant = *bucket_of(queue, id);
    while (tenant != NULL && tenant->id != id) {
        tenant = tenant->chained;
    }
    return tenant;
}

/* Nobody may point at it any more: it is about to be somebody else's. */
static void forget(struct queue *queue, struct queue_tenant *tenant)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        struct queue_class *class = &queue->classes[i];
        if (class->left == &tenant->seats[i]) {
            class->left = NULL;
            class->left_counter = tenant->seats[i].counter;
        }
    }
    if (queue->sole == tenant) {
        queue->sole = NULL;
    }
    struct queue_tenant **at = bucket_of(queue, tenant->id);
    while (*at != tenant) {
        at = &(*at)->chained;
    }
    *at = tenant->chained;
    list_remove(&tenant->node);
    queue->tenants--;
}

/* The strangers' record is never on idle, so that whoever is there can be forgotten. */
static struct queue_tenant *reuse(struct queue *queue)
{
    if (list_is_empty(&queue->idle)) {
        return NULL;
    }
    struct queue_tenant *tenant = CONTAINER_OF(queue->idle.next, struct queue_tenant, node);
    forget(queue, tenant);
    return tenant;
}

struct queue_tenant *queue_tenant_get(struct queue *queue, uint64_t id)
{
    if (id == 0) {
        return &queue->strangers;
    }
    struct queue_tenant *tenant = lookup(queue, id);
    if (tenant != NULL) {
        return tenant;
    }
    if (queue->tenants < queue->options.tenants_max) {
        tenant = malloc(sizeof(*tenant));
    }
    if (tenant == NULL) {
        tenant = reuse(queue);
    }
    if (tenant == NULL) {
        return &queue->strangers;
    }
    tenant_init(tenant, id);
    struct queue_tenant **bucket = bucket_of(queue, id);
    tenant->chained = *bucket;
    *bucket = tenant;
    list_push_back(&queue->idle, &tenant->node);
    queue->tenants++;
    return tenant;
}

const struct queue_tenant *queue_tenant_find(const struct queue *queue, uint64_t id)
{
    if (id == 0) {
        return &queue->strangers;
    }
    const struct queue_tenant *tenant = lookup(queue, id);
    if (tenant == NULL && queue->tenants >= queue->options.tenants_max && list_is_empty(&queue->idle)) {
        return &queue->strangers;
    }
    return tenant;
}

void queue_tenant_hold(struct queue *queue, struct queue_tenant *tenant)
{
    queue->holders++;
    if (tenant->holders++ == 0) {
        tenant->held_weight = tenant->weight;
        queue->busy_weight += tenant->held_weight;
        list_remove(&tenant->node);
        list_push_back(&queue->busy, &tenant->node);
    }
}

void queue_tenant_let_go(struct queue *queue, struct queue_tenant *tenant)
{
    CHECK(tenant->holders > 0);
    queue->holders--;
    if (--tenant->holders > 0) {
        return;
    }
    queue->busy_weight -= tenant->held_weight;
    list_remove(&tenant->node);
    if (tenant != &queue->strangers) {
        list_push_back(&queue->idle, &tenant->node);
    }
}

static const struct queue_tenant *tenant_of(const struct queue *queue, const struct sched_request *request)
{
    return request->place.tenant != NULL ? request->place.tenant : queue_tenant_find(queue, request->tenant);
}

static struct queue_share share_of(const struct queue *queue, const struct queue_tenant *tenant,
                                   const struct sched_request *request)
{
    uint32_t in_flight = queue->holders - queue->requests;
    bool is_busy = tenant != NULL && tenant->holders > 0;
    uint32_t weight = is_busy ? tenant->held_weight : request->weight == 0 ? 1000 : request->weight;
    uint32_t own = is_busy ? tenant->holders - tenant->requests : 0;
    return (struct queue_share){
        .own = own,
        .others = in_flight - own,
        .share = weight / (double)(queue->busy_weight + (is_busy ? 0 : weight)),
    };
}

struct queue_share queue_share_of(const struct queue *queue, const struct sched_request *request)
{
    return share_of(queue, tenant_of(queue, request), request);
}

double queue_greed_of(const struct queue *queue, nanos now, const struct sched_request *request)
{
    const struct queue_tenant *tenant = tenant_of(queue, request);
    double served = rate_at(queue, &queue->served, now);
    if (tenant == NULL || served <= 0) {
        return 0;
    }
    return rate_at(queue, &tenant->offered, now) / (served * share_of(queue, tenant, request).share);
}

void queue_each_tenant(const struct queue *queue,
                       void (*visit)(const struct queue_tenant_figures *figures, void *context), void *context)
{
    for (unsigned pass = 0; pass < 3; pass++) {
        const struct list_node *head = pass < 2 ? &queue->busy : &queue->idle;
        for (const struct list_node *node = head->next; node != head; node = node->next) {
            const struct queue_tenant *tenant = CONTAINER_OF(node, struct queue_tenant, node);
            bool is_waiting = tenant->requests > 0;
            if (pass < 2 && is_waiting != (pass == 0)) {
                continue;
            }
            const struct queue_tenant_figures figures = {
                .tenant = tenant->id,
                .weight = tenant->weight,
                .waiting = tenant->requests,
                .served = tenant->served,
            };
            visit(&figures, context);
        }
    }
}
