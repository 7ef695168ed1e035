/* S3-FIFO, as in Yang et al., "FIFO queues are all you need for cache eviction" (SOSP 2023), and as libCacheSim has it.
 */
#include "cache/evict_internal.h"

#include "base/check.h"

enum {
    SMALL_SHARE = 10, /* a tenth of the bytes */
    SEEN_MARKS = 2,   /* in the small queue: what was hit so often is worth the main one */
    LOOKS_MAX = 64,   /* nodes moved before one is taken whatever its marks: the bound on the work of one call */
};

enum { IN_SMALL, IN_MAIN };

void s3fifo_init(struct s3fifo *s3fifo)
{
    *s3fifo = (struct s3fifo){0};
    list_init(&s3fifo->small);
    list_init(&s3fifo->main);
}

static void push(struct s3fifo *s3fifo, struct evict_node *node, uint8_t queue)
{
    node->queue = queue;
    if (queue == IN_MAIN) {
        list_push_back(&s3fifo->main, &node->node);
        s3fifo->main_bytes += node->bytes;
    } else {
        list_push_back(&s3fifo->small, &node->node);
        s3fifo->small_bytes += node->bytes;
    }
}

static void unlink_node(struct s3fifo *s3fifo, struct evict_node *node)
{
    list_remove(&node->node);
    if (node->queue == IN_MAIN) {
        s3fifo->main_bytes -= node->bytes;
    } else {
        s3fifo->small_bytes -= node->bytes;
    }
}

/* What would fill the small queue would drive out all that is in it, unseen. */
bool s3fifo_admits(struct evict *evict, const struct evict_node *node)
{
    return node->bytes < evict->bytes_max / SMALL_SHARE || ghost_knows(&evict->ghost, node->hash);
}

void s3fifo_insert(struct evict *evict, struct evict_node *node)
{
    struct s3fifo *s3fifo = &evict->s3fifo;
    bool was_here = ghost_claim(&evict->ghost, node->hash, node->bytes);
    push(s3fifo, node, was_here ? IN_MAIN : IN_SMALL);
}

void s3fifo_remove(struct evict *evict, struct evict_node *node)
{
    unlink_node(&evict->s3fifo, node);
    if (node->queue == IN_MAIN || evict_marks(node) >= SEEN_MARKS) {
        ghost_add(&evict->ghost, node->hash, node->bytes);
    }
}

/* The head of the main queue goes unless it was hit, which gives it another round for each hit. */
static struct evict_node *take_main(struct s3fifo *s3fifo, struct evict_node *node, bool must)
{
    uint8_t marks = evict_marks(node);
    unlink_node(s3fifo, node);
    if (marks == 0 || must) {
        return node;
    }
    evict_marks_set(node, (uint8_t)(marks - 1));
    push(s3fifo, node, IN_MAIN);
    return NULL;
}

static struct evict_node *take_small(struct evict *evict, struct evict_node *node, bool must)
{
    struct s3fifo *s3fifo = &evict->s3fifo;
    bool is_seen = evict_marks(node) >= SEEN_MARKS;
    unlink_node(s3fifo, node);
    if (is_seen && !must) {
        evict_marks_set(node, 0);
        push(s3fifo, node, IN_MAIN);
        return NULL;
    }
    ghost_add(&evict->ghost, node->hash, node->bytes);
    return node;
}

struct evict_node *s3fifo_take(struct evict *evict)
{
    struct s3fifo *s3fifo = &evict->s3fifo;
    struct evict_node *taken = NULL;
    for (unsigned looks = 1; taken == NULL && evict->count > 0; looks++) {
        bool must = looks >= LOOKS_MAX;
        uint64_t total_bytes = s3fifo->small_bytes + s3fifo->main_bytes;
        bool small_is_due = s3fifo->small_bytes >= total_bytes / SMALL_SHARE;
        if (list_is_empty(&s3fifo->main) || (small_is_due && !list_is_empty(&s3fifo->small))) {
            struct list_node *head = s3fifo->small.next;
            taken = take_small(evict, CONTAINER_OF(head, struct evict_node, node), must);
        } else {
            struct list_node *head = s3fifo->main.next;
            taken = take_main(s3fifo, CONTAINER_OF(head, struct evict_node, node), must);
        }
    }
    return taken;
}
