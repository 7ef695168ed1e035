/* GreedyDual-Size-Frequency over FIFO queues, with hits that cost a mark.
 *
 *   weight = cost ÷ bytes × hits            what a byte of it saves; a new object counts as a fifth of a hit
 *   value  = inflation + weight             when it is put in, and again when it is found hit at the head of its queue
 *
 *   queues by octave of weight:   [-40] n n n   [-9] n n n n n   [-8] n n …
 *                                       │            │                │
 *                                       └── the head of least value ──┘  goes, or is re-priced if it has marks
 *
 * The inflation is the highest value that has gone, so that what was worth much and is no longer asked for is caught up
 * with. Within a queue weights differ by less than two and the inflation only grows, so that arrival order is nearly
 * the order of values, and no heap is needed.
 *
 * With uniform costs the fifth makes the queue of new objects a short probation, as the small queue of S3-FIFO is one;
 * what comes back while the ghost knows it counts as hit once and gets a full turn. On web07 that is better than both
 * S3-FIFO and LRU; with a tenth the Mooncake blocks, which come back late, miss 0.02 more
 * (bench/cache_replay.c).
 *
 * Alone, that would find nothing in a loop longer than the cache, like LRU and S3-FIFO: all objects are alike, and each
 * goes before it comes round again. So one in 32, chosen by hash, starts with two hits more; in a loop they are the
 * ones that are found, and stay. It costs 0.004 on web07 (bimodal insertion: Qureshi et al., "Adaptive insertion
 * policies for high performance caching", 2007).
 *
 * Cao and Irani, "Cost-aware WWW proxy caching algorithms" (1997); Cherkasova, "Improving WWW proxies performance with
 * Greedy-Dual-Size-Frequency caching policy" (1998). */
#include "cache/evict_internal.h"

#include "base/check.h"

#include <math.h>
#include <string.h>

enum {
    LOOKS_MAX = 64,    /* nodes re-priced before one is taken whatever its marks: the bound on the work of one call */
    QUEUE_OF_ONE = 80, /* the queue of the weights from 1 to 2 */
    HITS_MAX = 15,     /* more keeps what was popular longer, and lost nothing in bench; 7 loses 0.004 on web07 */
};

static const double UNSEEN_HITS = 0.2;

enum { FAVOURED_ONE_IN = 32, FAVOURED_HITS = 2 };

/* Whatever cost and bytes the caller gives, the weight is a number and has a queue. */
static const double WEIGHT_MIN = 0x1p-80;
static const double WEIGHT_MAX = 0x1p47;

/* A sum keeps 13 bits of a weight that is so much smaller than the inflation. */
static const double ERA_SPAN = 0x1p40;

void cost_init(struct cost *cost)
{
    memset(cost, 0, sizeof(*cost));
    for (unsigned i = 0; i < COST_QUEUES; i++) {
        list_init(&cost->queues[i].nodes);
    }
}

static double weight_of(const struct evict_node *node, double hits)
{
    double bytes = node->bytes > 0 ? (double)node->bytes : 1;
    double weight = node->cost / bytes * hits;
    if (!(weight > WEIGHT_MIN)) {
        return WEIGHT_MIN;
    }
    return weight < WEIGHT_MAX ? weight : WEIGHT_MAX;
}

static struct evict_node *node_of(struct list_node *node)
{
    return CONTAINER_OF(node, struct evict_node, node);
}

static double value_of(const struct cost *cost, const struct evict_node *node)
{
    return node->value + cost->era_starts[node->era] - cost->era_starts[cost->era];
}

static void head_changed(struct cost *cost, unsigned index)
{
    struct cost_queue *queue = &cost->queues[index];
    uint64_t bit = (uint64_t)1 << index % 64;
    if (list_is_empty(&queue->nodes)) {
        cost->filled[index / 64] &= ~bit;
        return;
    }
    cost->filled[index / 64] |= bit;
    queue->head = value_of(cost, node_of(queue->nodes.next));
}

static void push(struct cost *cost, struct evict_node *node)
{
    double weight = weight_of(node, node->hits == 0 ? UNSEEN_HITS : node->hits);
    node->queue = (uint8_t)(ilogb(weight) + QUEUE_OF_ONE);
    node->value = cost->inflation + weight;
    node->era = cost->era;
    struct cost_queue *queue = &cost->queues[node->queue];
    list_push_back(&queue->nodes, &node->node);
    queue->bytes += node->bytes;
    if (queue->nodes.next == &node->node) {
        head_changed(cost, node->queue);
    }
}

static void unlink_node(struct cost *cost, struct evict_node *node)
{
    struct cost_queue *queue = &cost->queues[node->queue];
    bool is_head = queue->nodes.next == &node->node;
    list_remove(&node->node);
    queue->bytes -= node->bytes;
    if (is_head) {
        head_changed(cost, node->queue);
    }
}

/* About how many bytes are worth less than `value`: in each queue, values are taken to lie evenly between those of its
 * first and its last node. */
static double bytes_below(struct cost *cost, double value)
{
    double bytes = 0;
    for (unsigned word = 0; word < ARRAY_COUNT(cost->filled); word++) {
        for (uint64_t filled = cost->filled[word]; filled != 0; filled &= filled - 1) {
            struct cost_queue *queue = &cost->queues[word * 64 + (unsigned)__builtin_ctzll(filled)];
            double tail = value_of(cost, node_of(queue->nodes.prev));
            if (value >= tail) {
                bytes += (double)queue->bytes;
            } else if (value > queue->head) {
                bytes += (double)queue->bytes * (value - queue->head) / (tail - queue->head);
            }
        }
    }
    return bytes;
}

/* GreedyDual would put it in and then let the least go until all fits, itself perhaps among them. What is refused
 * raises the inflation by its share of the cache, so that what is kept has to make up for what is missed. */
bool cost_admits(struct evict *evict, const struct evict_node *node)
{
    struct cost *cost = &evict->cost;
    double weight = weight_of(node, 1);
    if (bytes_below(cost, cost->inflation + weight) >= (double)node->bytes) {
        return true;
    }
    double share = (double)node->bytes / (double)evict->bytes_max;
    cost->inflation += weight * (share < 1 ? share : 1);
    return false;
}

/* From the middle of a product, so that it has nothing to do with the hash's upper bits, by which shards may be chosen.
 */
static bool is_favoured(uint64_t hash)
{
    return (hash * 0xd1342543de82ef95u >> 32) % FAVOURED_ONE_IN == 0;
}

void cost_insert(struct evict *evict, struct evict_node *node)
{
    bool was_here = ghost_claim(&evict->ghost, node->hash, node->bytes);
    node->hits = (uint8_t)(was_here + (is_favoured(node->hash) ? FAVOURED_HITS : 0));
    push(&evict->cost, node);
}

void cost_remove(struct evict *evict, struct evict_node *node)
{
    unlink_node(&evict->cost, node);
    if (node->hits > 0 || evict_marks(node) > 0) {
        ghost_add(&evict->ghost, node->hash, node->bytes);
    }
}

static struct evict_node *least(struct cost *cost)
{
    struct cost_queue *found = NULL;
    for (unsigned word = 0; word < ARRAY_COUNT(cost->filled); word++) {
        for (uint64_t filled = cost->filled[word]; filled != 0; filled &= filled - 1) {
            struct cost_queue *queue = &cost->queues[word * 64 + (unsigned)__builtin_ctzll(filled)];
            if (found == NULL || queue->head < found->head) {
                found = queue;
            }
        }
    }
    return found != NULL ? node_of(found->nodes.next) : NULL;
}

/* Once the inflation has grown so far beyond the weights at hand that they are lost in the sum's rounding, it
 * starts again at zero: one costly object that goes must not make all others equal for ever. Values of earlier eras
 * are read with the difference. A node that has seen all eras kept is taken for new, which only lets it stay. */
static void era_begin(struct cost *cost)
{
    uint8_t next = (uint8_t)((cost->era + 1) % COST_ERAS);
    cost->era_starts[next] = cost->era_starts[cost->era] + cost->inflation;
    for (unsigned i = 0; i < COST_QUEUES; i++) {
        cost->queues[i].head -= cost->inflation;
    }
    cost->era = next;
    cost->inflation = 0;
}

struct evict_node *cost_take(struct evict *evict)
{
    struct cost *cost = &evict->cost;
    for (unsigned looks = 1;; looks++) {
        struct evict_node *node = least(cost);
        if (node == NULL) {
            return NULL;
        }
        double value = cost->queues[node->queue].head;
        cost->inflation = value > cost->inflation ? value : cost->inflation;
        unlink_node(cost, node);
        uint8_t marks = evict_marks(node);
        if (marks == 0 || looks >= LOOKS_MAX) {
            if (cost->inflation > weight_of(node, 1) * ERA_SPAN) {
                era_begin(cost);
            }
            ghost_add(&evict->ghost, node->hash, node->bytes);
            return node;
        }
        evict_marks_set(node, 0);
        node->hits = (uint8_t)(node->hits + marks < HITS_MAX ? node->hits + marks : HITS_MAX);
        push(cost, node);
    }
}
