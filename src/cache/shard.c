#include "cache/shard.h"

#include <stdlib.h>

#include "base/counter.h"
#include "cache/shard_internal.h"

enum {
    RESERVE_BYTES_MIN = 256 << 10,
    GHOST_BYTES_PER_ENTRY = 8, /* what eviction's next, larger ghost takes at most */
    GHOST_BYTES_MIN = 4096,
    INDEX_GROWTH_PER_ENTRY = 32, /* what an index that doubles takes at that moment: 64 bytes for two entries */
    INDEX_GROWN_PER_ENTRY = 40,  /* an index that has so much for each is still moving, or far from doubling */
};

struct shard *shard_create(const struct shard_options *options)
{
    struct shard *shard = calloc(1, sizeof(*shard));
    if (shard == NULL) {
        return NULL;
    }
    shard->qsbr = options->qsbr;
    shard->bytes_max = options->bytes_max;
    shard->made_bytes_max = options->bytes_max;
    shard->entries_max = options->entries_max;
    slab_init(&shard->slab, options->bytes_max);
    expiry_init(&shard->expiry);
    struct list_node *lists[] = {&shard->all,     &shard->purges,        &shard->retired,     &shard->pinned,
                                 &shard->freeing, &shard->retired_heads, &shard->pinned_heads};
    for (size_t i = 0; i < ARRAY_COUNT(lists); i++) {
        list_init(lists[i]);
    }
    list_init(&shard->shrinking.node);
    shard->index = index_create(options->qsbr);
    shard->evict = evict_create(options->policy, options->bytes_max);
    if (shard->index == NULL || shard->evict == NULL) {
        shard_destroy(shard);
        return NULL;
    }
    shard_account(shard);
    return shard;
}

void shard_destroy(struct shard *shard)
{
    if (shard == NULL) {
        return;
    }
    while (!list_is_empty(&shard->purges)) {
        shard_purge_end(CONTAINER_OF(shard->purges.next, struct shard_purge, node));
    }
    if (shard->index != NULL) {
        index_destroy(shard->index);
    }
    if (shard->evict != NULL) {
        evict_destroy(shard->evict);
    }
    slab_fini(&shard->slab); /* and with it every object */
    free(shard);
}

static bool object_matches(const struct index_node *node, const void *key)
{
    const struct cache_object *object = (const struct cache_object *)(const void *)node;
    return cache_object_has_key(object, *(const struct bytes *)key);
}

_Static_assert(offsetof(struct cache_object, index) == 0, "an index node is its object");

struct cache_object *shard_find(const struct shard *shard, uint64_t hash, struct bytes key)
{
    return (struct cache_object *)(void *)index_find(shard->index, hash, object_matches, &key);
}

const struct shard_counters *shard_counters(const struct shard *shard)
{
    return &shard->counters;
}

/* ---- the account */

static void counter_set(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, value, memory_order_relaxed);
}

void shard_account(struct shard *shard)
{
    uint64_t aside_bytes = index_bytes(shard->index) + evict_bytes(shard->evict);
    uint64_t promised_bytes = shard->slab.charged_bytes + shard->reserved_bytes; /* in a shard just made smaller */
    uint64_t left_bytes = shard->bytes_max > aside_bytes ? shard->bytes_max - aside_bytes : 0;
    shard->slab.bytes_max = left_bytes > promised_bytes ? left_bytes : promised_bytes;
    counter_set(&shard->counters.entries, index_count(shard->index));
    counter_set(&shard->counters.charged_bytes, shard->slab.charged_bytes + aside_bytes);
    counter_set(&shard->counters.mapped_bytes, shard->slab.mapped_bytes);
    counter_set(&shard->counters.retired_bytes, shard->retired_bytes);
}

uint64_t shard_room_bytes(const struct shard *shard)
{
    uint64_t entries = index_count(shard->index);
    uint64_t index = index_bytes(shard->index);
    if (index < entries * INDEX_GROWN_PER_ENTRY) {
        index += entries * INDEX_GROWTH_PER_ENTRY;
    }
    uint64_t ghosts = evict_bytes(shard->evict) + entries * GHOST_BYTES_PER_ENTRY + GHOST_BYTES_MIN;
    uint64_t taken = shard->slab.charged_bytes + shard->reserved_bytes + ghosts + index;
    return taken < shard->bytes_max ? shard->bytes_max - taken : 0;
}

void shard_resize(struct shard *shard, uint64_t bytes_max)
{
    shard->bytes_max = bytes_max < shard->made_bytes_max ? bytes_max : shard->made_bytes_max;
    if (list_is_linked(&shard->shrinking.node)) {
        shard_purge_end(&shard->shrinking);
    }
    if (shard->slab.mapped_bytes > shard->bytes_max) {
        size_t kept_bytes = shard->bytes_max / SLAB_REGION_BYTES * SLAB_REGION_BYTES;
        shard_purge_begin(shard, &shard->shrinking,
                          &(struct shard_filter){
                              .kind = SHARD_BEYOND,
                              .cause = SHARD_EVICTED,
                              .address = shard->slab.base + kept_bytes,
                          });
    }
    shard_account(shard);
}

/* ---- making room */

/* What is kept free beyond a store's need, so that the next ones need not wait for a grace period. */
static uint64_t reserve_bytes(const struct shard *shard)
{
    uint64_t reserve = shard->bytes_max / 64;
    reserve = reserve > RESERVE_BYTES_MIN ? reserve : RESERVE_BYTES_MIN;
    return reserve < shard->bytes_max / 8 ? reserve : shard->bytes_max / 8;
}

bool shard_evict_one(struct shard *shard)
{
    struct evict_node *node = evict_take(shard->evict);
    if (node == NULL) {
        return false;
    }
    shard_unlink(shard, CONTAINER_OF(node, struct cache_object, evict), SHARD_EVICTED, false, true);
    return true;
}

bool shard_has_room(const struct shard *shard, uint64_t need_bytes)
{
    uint64_t coming_bytes = shard->retired_bytes - shard->pinned_bytes; /* after a grace period */
    return shard_room_bytes(shard) + coming_bytes >= need_bytes + reserve_bytes(shard);
}

enum result shard_make_room(struct shard *shard, uint64_t need_bytes)
{
    unsigned evictions = 0;
    bool can_evict = true;
    while (can_evict && evictions < SHARD_EVICTIONS_PER_CALL && !shard_has_room(shard, need_bytes)) {
        can_evict = shard_evict_one(shard);
        evictions++;
    }
    if (shard_room_bytes(shard) >= need_bytes) {
        return RESULT_OK;
    }
    shard->is_starved = true;
    return can_evict || shard->retired_bytes > shard->pinned_bytes ? RESULT_MORE : RESULT_LIMIT;
}

/* ---- unlinking */

void shard_unlink(struct shard *shard, struct cache_object *object, enum shard_cause cause, bool is_out_of_index,
                  bool is_out_of_evict)
{
    CHECK(object->canary == CACHE_CANARY_LIVE);
    if (!is_out_of_index) {
        index_remove(shard->index, &object->index);
    }
    if (!is_out_of_evict) {
        evict_remove(shard->evict, &object->evict);
    }
    expiry_remove(object);
    list_remove(&object->all);
    object->canary = CACHE_CANARY_RETIRED;
    object->retired_epoch = qsbr_retire(shard->qsbr);
    list_push_back(&shard->retired, &object->all);
    shard->retired_bytes += object->charged_bytes;
    counter_add(&shard->counters.removed[cause], 1);
}

void shard_remove(struct shard *shard, struct cache_object *object, enum shard_cause cause)
{
    if (object->canary == CACHE_CANARY_LIVE) { /* else it went since it was found */
        shard_unlink(shard, object, cause, false, false);
        shard_account(shard);
    }
}

void shard_retire_head(struct shard *shard, struct cache_object *object, struct cache_head *head)
{
    head->object = object;
    head->retired_epoch = qsbr_retire(shard->qsbr);
    list_push_back(&shard->retired_heads, &head->retired);
    shard->retired_bytes += head->piece->bytes;
}

void shard_discard(struct shard *shard, struct cache_object *object)
{
    object->canary = CACHE_CANARY_RETIRED;
    list_push_back(&shard->freeing, &object->all);
    shard->retired_bytes += object->charged_bytes;
}
