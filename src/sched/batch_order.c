#include <stdlib.h>

#include "base/check.h"
#include "sched/batch_internal.h"

/* How many items that do not fit are passed by while a call is filled, in search of one that does. */
enum { MISSES_MAX = 8 };

enum { BUCKETS_MIN = 64, BUCKETS_MAX = 8192, ITEMS_PER_BUCKET = 4, WEIGHT_ORDINARY = 1000 };

/* ---- tables ---- */

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t x = (a ^ (b * UINT64_C(0x9e3779b97f4a7c15))) * UINT64_C(0xff51afd7ed558ccd);
    return x ^ (x >> 32);
}

static struct batch_link **bucket_of(const struct batch_table *table, uint64_t hash)
{
    return &table->buckets[mix(hash, 0) & table->mask];
}

static struct batch_link *table_next(struct batch_link *link, uint64_t hash)
{
    while (link != NULL && link->hash != hash) {
        link = link->next;
    }
    return link;
}

static void table_put(struct batch_table *table, struct batch_link *link, uint64_t hash)
{
    struct batch_link **bucket = bucket_of(table, hash);
    link->hash = hash;
    link->next = *bucket;
    *bucket = link;
}

static void table_remove(struct batch_table *table, struct batch_link *link)
{
    struct batch_link **at = bucket_of(table, link->hash);
    while (*at != link) {
        at = &(*at)->next;
    }
    *at = link->next;
}

/* ---- what comes before what ---- */

static bool item_before(const struct pairing_node *a, const struct pairing_node *b)
{
    const struct batch_item *x = CONTAINER_OF(a, const struct batch_item, place);
    const struct batch_item *y = CONTAINER_OF(b, const struct batch_item, place);
    return x->deadline_ns != y->deadline_ns ? x->deadline_ns < y->deadline_ns : x->order < y->order;
}

static struct batch_item *first_item(const struct batch_lane *lane)
{
    return CONTAINER_OF(lane->items.root, struct batch_item, place);
}

static bool lane_before_in_tenant(const struct pairing_node *a, const struct pairing_node *b)
{
    const struct batch_lane *x = CONTAINER_OF(a, const struct batch_lane, in_tenant);
    const struct batch_lane *y = CONTAINER_OF(b, const struct batch_lane, in_tenant);
    return item_before(x->items.root, y->items.root);
}

static bool lane_before_in_group(const struct pairing_node *a, const struct pairing_node *b)
{
    const struct batch_lane *x = CONTAINER_OF(a, const struct batch_lane, in_group);
    const struct batch_lane *y = CONTAINER_OF(b, const struct batch_lane, in_group);
    return x->counter_seen != y->counter_seen ? x->counter_seen < y->counter_seen
                                              : item_before(x->items.root, y->items.root);
}

static bool tenant_before(const struct pairing_node *a, const struct pairing_node *b)
{
    const struct batch_tenant *x = CONTAINER_OF(a, const struct batch_tenant, in_class);
    const struct batch_tenant *y = CONTAINER_OF(b, const struct batch_tenant, in_class);
    return x->counter != y->counter ? x->counter < y->counter : lane_before_in_tenant(x->ready.root, y->ready.root);
}

/* ---- making and unmaking ---- */

enum result batch_order_init(struct batch_former *former)
{
    struct batch_table *tables[] = {&former->groups, &former->tenants, &former->lanes};
    uint64_t buckets = BUCKETS_MIN;
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        pairing_init(&former->classes[i].ready, tenant_before);
    }
    while (buckets < BUCKETS_MAX && buckets * ITEMS_PER_BUCKET < former->options.waiting_max) {
        buckets *= 2;
    }
    for (size_t i = 0; i < ARRAY_COUNT(tables); i++) {
        tables[i]->mask = buckets - 1;
        tables[i]->buckets = calloc(buckets, sizeof(struct batch_link *));
        if (tables[i]->buckets == NULL) {
            return RESULT_NO_MEMORY;
        }
    }
    return RESULT_OK;
}

void batch_order_fini(struct batch_former *former)
{
    free(former->groups.buckets);
    free(former->tenants.buckets);
    free(former->lanes.buckets);
}

/* ---- groups ---- */

struct batch_group *batch_group_find(const struct batch_former *former, uint64_t key)
{
    struct batch_link *link = table_next(*bucket_of(&former->groups, key), key);
    return link == NULL ? NULL : CONTAINER_OF(link, struct batch_group, link);
}

struct batch_group *batch_group_create(struct batch_former *former, uint64_t key)
{
    struct batch_group *group = calloc(1, sizeof(*group));
    if (group == NULL) {
        return NULL;
    }
    group->key = key;
    group->urgent_ns = NANOS_NEVER;
    list_init(&group->items);
    list_init(&group->lanes);
    list_init(&group->idle);
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        pairing_init(&group->by_class[i], lane_before_in_group);
    }
    table_put(&former->groups, &group->link, key);
    return group;
}

void batch_group_destroy(struct batch_former *former, struct batch_group *group)
{
    table_remove(&former->groups, &group->link);
    list_remove(&group->idle);
    free(group);
}

/* ---- tenants and lanes ---- */

static struct batch_tenant *tenant_get(struct batch_former *former, const struct batch_item *item)
{
    uint64_t hash = mix(item->tenant, item->class);
    struct batch_link *link = *bucket_of(&former->tenants, hash);
    while ((link = table_next(link, hash)) != NULL) {
        struct batch_tenant *tenant = CONTAINER_OF(link, struct batch_tenant, link);
        if (tenant->id == item->tenant && tenant->class == item->class) {
            return tenant;
        }
        link = link->next;
    }
    struct batch_tenant *tenant = calloc(1, sizeof(*tenant));
    if (tenant == NULL) {
        return NULL;
    }
    tenant->id = item->tenant;
    tenant->class = item->class;
    tenant->counter = former->classes[item->class].counter_served;
    pairing_init(&tenant->ready, lane_before_in_tenant);
    table_put(&former->tenants, &tenant->link, hash);
    return tenant;
}

static void tenant_let_go(struct batch_former *former, struct batch_tenant *tenant)
{
    if (tenant->lanes == 0) {
        table_remove(&former->tenants, &tenant->link);
        free(tenant);
    }
}

static struct batch_lane *lane_find(const struct batch_former *former, const struct batch_group *group,
                                    const struct batch_tenant *tenant, uint64_t hash)
{
    struct batch_link *link = *bucket_of(&former->lanes, hash);
    while ((link = table_next(link, hash)) != NULL) {
        struct batch_lane *lane = CONTAINER_OF(link, struct batch_lane, link);
        if (lane->group == group && lane->tenant == tenant) {
            return lane;
        }
        link = link->next;
    }
    return NULL;
}

static struct batch_lane *lane_get(struct batch_former *former, struct batch_group *group,
                                   const struct batch_item *item)
{
    struct batch_tenant *tenant = tenant_get(former, item);
    if (tenant == NULL) {
        return NULL;
    }
    uint64_t hash = mix(tenant->link.hash, group->key);
    struct batch_lane *lane = lane_find(former, group, tenant, hash);
    if (lane != NULL) {
        return lane;
    }
    lane = calloc(1, sizeof(*lane));
    if (lane == NULL) {
        tenant_let_go(former, tenant);
        return NULL;
    }
    lane->tenant = tenant;
    lane->group = group;
    pairing_init(&lane->items, item_before);
    list_push_back(&group->lanes, &lane->of_group);
    tenant->lanes++;
    table_put(&former->lanes, &lane->link, hash);
    return lane;
}

static void lane_destroy(struct batch_former *former, struct batch_lane *lane)
{
    struct batch_tenant *tenant = lane->tenant;
    table_remove(&former->lanes, &lane->link);
    list_remove(&lane->of_group);
    free(lane);
    tenant->lanes--;
    tenant_let_go(former, tenant);
}

/* ---- a lane's two heaps ---- */

static void unlink_ready(struct batch_former *former, struct batch_lane *lane)
{
    struct batch_tenant *tenant = lane->tenant;
    if (!pairing_is_in(&lane->in_tenant)) {
        return;
    }
    struct pairing *ready = &former->classes[tenant->class].ready;
    /* Out first: what orders it is about to change. */
    pairing_remove(ready, &tenant->in_class);
    pairing_remove(&tenant->ready, &lane->in_tenant);
    if (tenant->ready.root != NULL) {
        pairing_put(ready, &tenant->in_class);
    }
}

static void link_ready(struct batch_former *former, struct batch_lane *lane)
{
    struct batch_tenant *tenant = lane->tenant;
    struct pairing *ready = &former->classes[tenant->class].ready;
    if (pairing_is_in(&tenant->in_class)) {
        pairing_remove(ready, &tenant->in_class);
    }
    pairing_put(&tenant->ready, &lane->in_tenant);
    pairing_put(ready, &tenant->in_class);
}

/* Out of both heaps, since what orders the lane in them is about to change; and back, or away for ever. */
static void lane_lift(struct batch_former *former, struct batch_lane *lane)
{
    unlink_ready(former, lane);
    if (pairing_is_in(&lane->in_group)) {
        pairing_remove(&lane->group->by_class[lane->tenant->class], &lane->in_group);
    }
}

static void lane_settle(struct batch_former *former, struct batch_lane *lane)
{
    if (lane->items.root == NULL) {
        lane_destroy(former, lane);
        return;
    }
    lane->counter_seen = lane->tenant->counter;
    pairing_put(&lane->group->by_class[lane->tenant->class], &lane->in_group);
    if (lane->group->state == BATCH_READY) {
        link_ready(former, lane);
    }
}

enum result batch_order_put(struct batch_former *former, struct batch_group *group, struct batch_item *item)
{
    struct batch_lane *lane = lane_get(former, group, item);
    if (lane == NULL) {
        return RESULT_NO_MEMORY;
    }
    lane->tenant->weight = item->weight == 0 ? WEIGHT_ORDINARY : item->weight;
    item->lane = lane;
    item->order = ++former->order;
    item->place.prev = NULL;
    lane_lift(former, lane);
    pairing_put(&lane->items, &item->place);
    lane_settle(former, lane);
    list_push_back(&group->items, &item->node);
    list_push_back(&former->ages, &item->age);
    group->waiting_items += item->items;
    group->waiting_tokens += item->tokens;
    group->waiting_bytes += item->bytes;
    former->waiting_items += item->items;
    item->is_waiting = true;
    return RESULT_OK;
}

/* Leaves the lane lifted. */
static struct batch_lane *take_out(struct batch_former *former, struct batch_item *item)
{
    struct batch_lane *lane = item->lane;
    struct batch_group *group = lane->group;
    lane_lift(former, lane);
    pairing_remove(&lane->items, &item->place);
    list_remove(&item->node);
    list_remove(&item->age);
    group->waiting_items -= item->items;
    group->waiting_tokens -= item->tokens;
    group->waiting_bytes -= item->bytes;
    former->waiting_items -= item->items;
    item->is_waiting = false;
    item->lane = NULL;
    return lane;
}

void batch_order_remove(struct batch_former *former, struct batch_item *item)
{
    lane_settle(former, take_out(former, item));
}

void batch_order_set_ready(struct batch_former *former, struct batch_group *group, bool is_ready)
{
    for (struct list_node *node = group->lanes.next; node != &group->lanes; node = node->next) {
        struct batch_lane *lane = CONTAINER_OF(node, struct batch_lane, of_group);
        if (is_ready) {
            link_ready(former, lane);
        } else {
            unlink_ready(former, lane);
        }
    }
}

struct batch_group *batch_order_best(const struct batch_former *former)
{
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        const struct pairing_node *root = former->classes[i].ready.root;
        if (root != NULL) {
            const struct batch_tenant *tenant = CONTAINER_OF(root, const struct batch_tenant, in_class);
            return CONTAINER_OF(tenant->ready.root, struct batch_lane, in_tenant)->group;
        }
    }
    return NULL;
}

/* ---- filling ---- */

static bool fits(const struct batch_former *former, const struct batch_call *call, const struct batch_item *item)
{
    /* The first always does: nothing is let in that does not fit alone, and the target is not a bound for one list. */
    return call->item_count == 0 || (call->item_count + item->items <= call->item_max &&
                                     call->tokens + item->tokens <= former->options.tokens_max &&
                                     call->bytes + item->bytes <= former->options.bytes_max);
}

static void charge(struct batch_former *former, struct batch_tenant *tenant, const struct batch_item *item)
{
    struct batch_class *class = &former->classes[tenant->class];
    class->counter_served = tenant->counter > class->counter_served ? tenant->counter : class->counter_served;
    double cost = ((double)item->items + (double)item->tokens) * WEIGHT_ORDINARY / tenant->weight;
    if (pairing_is_in(&tenant->in_class)) { /* by lanes of other groups */
        pairing_remove(&class->ready, &tenant->in_class);
        tenant->counter += cost;
        pairing_put(&class->ready, &tenant->in_class);
    } else {
        tenant->counter += cost;
    }
}

static void take(struct batch_former *former, struct batch_item *item, struct batch_call *call)
{
    struct batch_lane *lane = take_out(former, item);
    charge(former, lane->tenant, item);
    lane_settle(former, lane);
    list_push_back(call->items, &item->node);
    call->item_count += item->items;
    call->tokens += item->tokens;
    call->bytes += item->bytes;
}

static void fill_from_class(struct batch_former *former, struct pairing *lanes, struct batch_call *call,
                            struct batch_lane **misses, unsigned *miss_count)
{
    while (lanes->root != NULL && *miss_count < MISSES_MAX && call->item_count < call->item_max) {
        struct batch_lane *lane = CONTAINER_OF(lanes->root, struct batch_lane, in_group);
        if (lane->counter_seen < lane->tenant->counter) { /* served elsewhere meanwhile */
            pairing_remove(lanes, &lane->in_group);
            lane->counter_seen = lane->tenant->counter;
            pairing_put(lanes, &lane->in_group);
        } else if (fits(former, call, first_item(lane))) {
            take(former, first_item(lane), call);
        } else {
            pairing_remove(lanes, &lane->in_group);
            misses[(*miss_count)++] = lane;
        }
    }
}

void batch_order_fill(struct batch_former *former, struct batch_group *group, struct batch_item *first,
                      struct batch_call *call)
{
    struct batch_lane *misses[MISSES_MAX];
    unsigned miss_count = 0;
    if (first != NULL) {
        take(former, first, call);
    }
    for (unsigned i = 0; i < SCHED_CLASSES; i++) {
        fill_from_class(former, &group->by_class[i], call, misses, &miss_count);
    }
    for (unsigned i = 0; i < miss_count; i++) {
        pairing_put(&group->by_class[misses[i]->tenant->class], &misses[i]->in_group);
    }
}
