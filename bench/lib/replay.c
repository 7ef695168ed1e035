#include "replay.h"

#include "bench.h"

#include "base/check.h"
#include "cache/evict.h"

const char *const replay_names[REPLAY_POLICIES] = {"lru", "gdsf", "s3fifo", "cost"};

struct object {
    struct evict_node evict; /* its list node is LRU's, too */
    double value;            /* GDSF */
    uint32_t hits;
    uint32_t heap_index;
    bool is_in;
};

struct cache {
    enum replay_policy policy;
    struct object *objects;
    uint64_t bytes_max;
    uint64_t used_bytes;
    struct evict *evict;
    struct list_node recency; /* LRU: the oldest first */
    struct object **heap;     /* GDSF: the least value first */
    uint32_t heap_count;
    double inflation;
};

/* ---- GDSF ---- */

static void heap_put(struct cache *cache, struct object *object, uint32_t index)
{
    cache->heap[index] = object;
    object->heap_index = index;
}

static void heap_up(struct cache *cache, struct object *object)
{
    uint32_t index = object->heap_index;
    for (; index > 0 && cache->heap[(index - 1) / 2]->value > object->value; index = (index - 1) / 2)
        heap_put(cache, cache->heap[(index - 1) / 2], index);
    heap_put(cache, object, index);
}

static void heap_down(struct cache *cache, struct object *object)
{
    uint32_t index = object->heap_index;
    for (;;) {
        uint32_t child = index * 2 + 1;
        if (child + 1 < cache->heap_count && cache->heap[child + 1]->value < cache->heap[child]->value)
            child++;
        if (child >= cache->heap_count || cache->heap[child]->value >= object->value)
            break;
        heap_put(cache, cache->heap[child], index);
        index = child;
    }
    heap_put(cache, object, index);
}

static void gdsf_value(struct cache *cache, struct object *object)
{
    object->value = cache->inflation + object->hits * object->evict.cost / (double)object->evict.bytes;
}

static void gdsf_insert(struct cache *cache, struct object *object)
{
    object->hits = 1;
    object->heap_index = cache->heap_count++;
    gdsf_value(cache, object);
    heap_up(cache, object);
}

static struct object *gdsf_take(struct cache *cache)
{
    struct object *taken = cache->heap[0], *last = cache->heap[--cache->heap_count];
    cache->inflation = taken->value;
    last->heap_index = 0;
    heap_down(cache, last);
    return taken;
}

/* ---- one cache ---- */

static void cache_hit(struct cache *cache, struct object *object)
{
    switch (cache->policy) {
    case REPLAY_LRU:
        list_remove(&object->evict.node);
        list_push_back(&cache->recency, &object->evict.node);
        break;
    case REPLAY_GDSF:
        object->hits++;
        gdsf_value(cache, object);
        heap_down(cache, object);
        break;
    default: evict_touch(&object->evict);
    }
}

static struct object *cache_take(struct cache *cache)
{
    switch (cache->policy) {
    case REPLAY_LRU: return CONTAINER_OF(list_pop_front(&cache->recency), struct object, evict.node);
    case REPLAY_GDSF: return gdsf_take(cache);
    default: return CONTAINER_OF(evict_take(cache->evict), struct object, evict);
    }
}

static void cache_insert(struct cache *cache, struct object *object)
{
    switch (cache->policy) {
    case REPLAY_LRU: list_push_back(&cache->recency, &object->evict.node); break;
    case REPLAY_GDSF: gdsf_insert(cache, object); break;
    default: evict_insert(cache->evict, &object->evict);
    }
    object->is_in = true;
    cache->used_bytes += object->evict.bytes;
}

static bool cache_admits(struct cache *cache, const struct object *object)
{
    if (object->evict.bytes > cache->bytes_max)
        return false;
    if (cache->used_bytes + object->evict.bytes <= cache->bytes_max)
        return true;
    return cache->policy < REPLAY_S3FIFO || evict_admits(cache->evict, &object->evict);
}

static void cache_miss(struct cache *cache, struct object *object)
{
    if (!cache_admits(cache, object))
        return;
    while (cache->used_bytes + object->evict.bytes > cache->bytes_max) {
        struct object *taken = cache_take(cache);
        taken->is_in = false;
        cache->used_bytes -= taken->evict.bytes;
    }
    cache_insert(cache, object);
}

/* The number, as the index would hash a key: murmur's finalizer. */
static uint64_t hash_of(uint64_t number)
{
    number = (number ^ number >> 33) * 0xff51afd7ed558ccdu;
    number = (number ^ number >> 33) * 0xc4ceb9fe1a85ec53u;
    return number ^ number >> 33;
}

static void cache_init(struct cache *cache, const struct trace *trace, enum replay_policy policy, uint64_t bytes_max)
{
    *cache = (struct cache){.policy = policy, .bytes_max = bytes_max};
    list_init(&cache->recency);
    cache->objects = calloc(trace->object_count, sizeof *cache->objects);
    cache->heap = calloc(trace->object_count, sizeof *cache->heap);
    cache->evict = evict_create(policy == REPLAY_S3FIFO ? EVICT_S3FIFO : EVICT_COST, bytes_max);
    if (cache->objects == NULL || cache->heap == NULL || cache->evict == NULL)
        bench_die("no memory for %u objects", trace->object_count);
    for (uint32_t i = 0; i < trace->object_count; i++) {
        struct evict_node *node = &cache->objects[i].evict;
        node->hash = hash_of(i + 1);
        node->bytes = trace->bytes[i];
        node->cost = trace->costs[i];
    }
}

static void cache_fini(struct cache *cache)
{
    evict_destroy(cache->evict);
    free(cache->heap);
    free(cache->objects);
}

struct replay_missed replay(const struct trace *trace, enum replay_policy policy, uint64_t bytes_max)
{
    struct cache cache;
    cache_init(&cache, trace, policy, bytes_max);
    double cost = 0, missed_cost = 0;
    uint64_t missed = 0;
    for (size_t i = 0; i < trace->request_count; i++) {
        struct object *object = &cache.objects[trace->requests[i]];
        cost += object->evict.cost;
        if (object->is_in) {
            cache_hit(&cache, object);
            continue;
        }
        missed++;
        missed_cost += object->evict.cost;
        cache_miss(&cache, object);
    }
    cache_fini(&cache);
    return (struct replay_missed){(double)missed / (double)trace->request_count, missed_cost / cost};
}
