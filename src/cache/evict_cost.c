#include "cache/evict_internal.h"

#include "base/check.h"

#include <math.h>
#include <string.h>

enum {
    LOOKS_MAX = 64,    /* nodes re-priced before one is taken whatever its marks: the bound on the work of one call */
    QUEUE_OF_ONE = 80, /* the queue of the weights from 1 to 2 */
    HITS_MAX = 15,
};

static const double WEIGHT_MIN = 0x1p-80;
static const double WEIGHT_MAX = 0x1p47;
static const double UNSEEN_SHARE = 0.25;
static const double ERA_SPAN = 0x1p40;

void cost_init(struct cost *cost)
{
    memset(cost, 0, sizeof(*cost));
    for (unsigned i = 0; i < COST_QUEUES; i++) {
        list_init(&cost->queues[i]);
    }
}

static double weight_of(const struct evict_node *node)
{
    double bytes = node->bytes > 0 ? (double)node->bytes : 1;
    double factor = node->hits == 0 ? UNSEEN_SHARE : (double)node->hits;
    double weight = node->cost / bytes * factor;
    if (!(weight > WEIGHT_MIN)) {
        return WEIGHT_MIN;
    }
    return weight < WEIGHT_MAX ? weight : WEIGHT_MAX;
}

static double value_now(const struct cost *cost, const struct evict_node *node)
{
    return node->value + cost->era_starts[node->era] - cost->era_starts[cost->era];
}

/* The queue's head has changed. */
static void head_changed(struct cost *cost, unsigned queue)
{
    struct list_node *head = cost->queues[queue].next;
    if (head == &cost->queues[queue]) {
        cost->filled[queue / 64] &= ~((uint64_t)1 << queue % 64);
        return;
    }
    cost->filled[queue / 64] |= (uint64_t)1 << queue % 64;
    cost->heads[queue] = value_now(cost, CONTAINER_OF(head, struct evict_node, node));
}

static void push(struct cost *cost, struct evict_node *node)
{
    double weight = weight_of(node);
    int queue = ilogb(weight) + QUEUE_OF_ONE;
    node->queue = (uint8_t)(queue < 0 ? 0 : queue >= COST_QUEUES ? COST_QUEUES - 1 : queue);
    node->value = cost->inflation + weight;
    node->era = cost->era;
    bool is_head = list_is_empty(&cost->queues[node->queue]);
    list_push_back(&cost->queues[node->queue], &node->node);
    if (is_head) {
        head_changed(cost, node->queue);
    }
}

static void unlink_node(struct cost *cost, struct evict_node *node)
{
    bool is_head = cost->queues[node->queue].next == &node->node;
    list_remove(&node->node);
    if (is_head) {
        head_changed(cost, node->queue);
    }
}

void cost_insert(struct evict *evict, struct evict_node *node)
{
    node->hits = ghost_claim(&evict->ghost, node->hash, node->bytes);
    push(&evict->cost, node);
}

void cost_remove(struct evict *evict, struct evict_node *node)
{
    unlink_node(&evict->cost, node);
}

static struct evict_node *least(const struct cost *cost)
{
    unsigned found = COST_QUEUES;
    for (unsigned word = 0; word < ARRAY_COUNT(cost->filled); word++) {
        for (uint64_t filled = cost->filled[word]; filled != 0; filled &= filled - 1) {
            unsigned queue = word * 64 + (unsigned)__builtin_ctzll(filled);
            if (found == COST_QUEUES || cost->heads[queue] < cost->heads[found]) {
                found = queue;
            }
        }
    }
    CHECK(found < COST_QUEUES);
    return CONTAINER_OF(cost->queues[found].next, struct evict_node, node);
}

/* Once the inflation has grown so far beyond the weights at hand that adding them would be lost in rounding, it starts
 * again at zero. Values of before are read with the difference; a node older than all eras kept would be misread. */
static void era_begin(struct cost *cost)
{
    uint8_t next = (uint8_t)((cost->era + 1) % COST_ERAS);
    cost->era_starts[next] = cost->era_starts[cost->era] + cost->inflation;
    for (unsigned i = 0; i < COST_QUEUES; i++) {
        cost->heads[i] -= cost->inflation;
    }
    cost->era = next;
    cost->inflation = 0;
}

struct evict_node *cost_take(struct evict *evict)
{
    struct cost *cost = &evict->cost;
    for (unsigned looks = 1; evict->count > 0; looks++) {
        struct evict_node *node = least(cost);
        cost->inflation = fmax(cost->inflation, cost->heads[node->queue]);
        unlink_node(cost, node);
        uint8_t marks = evict_marks(node);
        if (marks == 0 || looks > LOOKS_MAX) {
            if (cost->inflation > weight_of(node) * ERA_SPAN) {
                era_begin(cost);
            }
            ghost_add(&evict->ghost, node->hash, node->bytes);
            return node;
        }
        evict_marks_set(node, 0);
        node->hits = (uint8_t)(node->hits + marks < HITS_MAX ? node->hits + marks : HITS_MAX);
        push(cost, node);
    }
    return NULL;
}
