#include "cache/evict_internal.h"

#include "base/check.h"

#include <stdlib.h>

struct evict *evict_create(enum evict_policy policy, uint64_t bytes_max)
{
    struct evict *evict = calloc(1, sizeof(*evict));
    if (evict == NULL) {
        return NULL;
    }
    evict->policy = policy;
    evict->bytes_max = bytes_max;
    if (ghost_init(&evict->ghost, policy == EVICT_S3FIFO ? bytes_max - bytes_max / 10 : bytes_max) != RESULT_OK) {
        free(evict);
        return NULL;
    }
    if (policy == EVICT_S3FIFO) {
        s3fifo_init(&evict->s3fifo);
    } else {
        cost_init(&evict->cost);
    }
    return evict;
}

void evict_destroy(struct evict *evict)
{
    if (evict == NULL) {
        return;
    }
    ghost_fini(&evict->ghost);
    free(evict);
}

uint64_t evict_bytes(const struct evict *evict)
{
    return sizeof(*evict) + ghost_bytes(&evict->ghost);
}

bool evict_admits(struct evict *evict, const struct evict_node *node)
{
    bool admits = evict->policy == EVICT_S3FIFO ? s3fifo_admits(evict, node) : cost_admits(evict, node);
    if (!admits) {
        ghost_add(&evict->ghost, node->hash, node->bytes);
    }
    return admits;
}

void evict_insert(struct evict *evict, struct evict_node *node)
{
    evict_marks_set(node, 0);
    evict->count++;
    ghost_fit(&evict->ghost, evict->count);
    if (evict->policy == EVICT_S3FIFO) {
        s3fifo_insert(evict, node);
    } else {
        cost_insert(evict, node);
    }
}

void evict_remove(struct evict *evict, struct evict_node *node)
{
    CHECK(evict->count > 0);
    evict->count--;
    if (evict->policy == EVICT_S3FIFO) {
        s3fifo_remove(evict, node);
    } else {
        cost_remove(evict, node);
    }
}

struct evict_node *evict_take(struct evict *evict)
{
    struct evict_node *node = evict->policy == EVICT_S3FIFO ? s3fifo_take(evict) : cost_take(evict);
    if (node != NULL) {
        evict->count--;
    }
    return node;
}
