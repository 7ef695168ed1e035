#include "evict_cache.h"

#include "base/check.h"

#include <criterion/criterion.h>
#include <stdlib.h>

uint64_t evict_cache_random(uint64_t *state)
{
    uint64_t word = *state += 0x9e3779b97f4a7c15u;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return word ^ word >> 31;
}

void evict_cache_init(struct evict_cache *cache, enum evict_policy policy, uint64_t bytes_max, size_t objects)
{
    *cache = (struct evict_cache){.bytes_max = bytes_max};
    cache->evict = evict_create(policy, bytes_max);
    cr_assert_not_null(cache->evict);
    cache->objects = calloc(objects, sizeof(*cache->objects));
    cr_assert_not_null(cache->objects);
    uint64_t state = 1;
    for (size_t i = 0; i < objects; i++) {
        cache->objects[i].evict.hash = evict_cache_random(&state);
        cache->objects[i].evict.bytes = 1;
        cache->objects[i].evict.cost = 1;
    }
}

void evict_cache_fini(struct evict_cache *cache)
{
    evict_destroy(cache->evict);
    free(cache->objects);
}

bool evict_cache_take(struct evict_cache *cache)
{
    struct evict_node *node = evict_take(cache->evict);
    cr_assert_eq(node != NULL, cache->count > 0);
    if (node == NULL) {
        return false;
    }
    struct cached *cached = CONTAINER_OF(node, struct cached, evict);
    cr_assert(cached->is_in, "given back twice, or never put in");
    cached->is_in = false;
    cache->count--;
    cache->used_bytes -= node->bytes;
    return true;
}

void evict_cache_get(struct evict_cache *cache, size_t object)
{
    struct cached *cached = &cache->objects[object];
    if (cached->is_in) {
        cache->hits++;
        evict_touch(&cached->evict);
        return;
    }
    bool fits = cache->used_bytes + cached->evict.bytes <= cache->bytes_max;
    if (!fits && !evict_admits(cache->evict, &cached->evict)) {
        return;
    }
    while (cache->used_bytes + cached->evict.bytes > cache->bytes_max && evict_cache_take(cache)) {
    }
    evict_insert(cache->evict, &cached->evict);
    cached->is_in = true;
    cache->count++;
    cache->used_bytes += cached->evict.bytes;
}

void evict_cache_remove(struct evict_cache *cache, size_t object)
{
    struct cached *cached = &cache->objects[object];
    evict_remove(cache->evict, &cached->evict);
    cached->is_in = false;
    cache->count--;
    cache->used_bytes -= cached->evict.bytes;
}

size_t evict_cache_count(const struct evict_cache *cache, size_t first, size_t count)
{
    size_t in = 0;
    for (size_t i = first; i < first + count; i++) {
        in += cache->objects[i].is_in;
    }
    return in;
}
