#include "cache/cache.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/check.h"
#include "cache/cache_internal.h"

/* ---- life ---- */

struct cache *cache_create(const struct cache_options *options)
{
    struct cache *cache = calloc(1, sizeof(*cache));
    if (cache == NULL) {
        return NULL;
    }
    cache->options = *options;
    atomic_init(&cache->bytes_max, options->bytes_max);
    bool is_few = options->entries_max != 0 && options->entries_max < options->workers;
    cache->used_shards = is_few ? (unsigned)options->entries_max : options->workers;
    cache->qsbr = qsbr_create(options->workers);
    cache->cores = calloc(options->workers, sizeof(*cache->cores));
    if (cache->qsbr == NULL || cache->cores == NULL) {
        cache_destroy(cache);
        return NULL;
    }
    ring_entropy(cache->secret, sizeof(cache->secret));
    return cache;
}

void cache_destroy(struct cache *cache)
{
    if (cache == NULL) {
        return;
    }
    if (cache->qsbr != NULL) {
        qsbr_destroy(cache->qsbr);
    }
    free((void *)(uintptr_t)cache->cores);
    free(cache);
}

struct cache_core *cache_core_at(const struct cache *cache, unsigned index)
{
    /* acquire pairs with the release store in cache_core_create */
    return atomic_load_explicit(&cache->cores[index], memory_order_acquire);
}

/* The shard's own work, at a moment at which this worker holds nothing. */
static void core_on_turn(void *context)
{
    struct cache_core *core = context;
    qsbr_quiescent(core->cache->qsbr, core->index);
    int64_t now_ms = ring_unix_ms(core->ring);
    if (shard_turn(core->shard, now_ms)) {
        ring_defer(core->ring, &core->work);
        return;
    }
    int64_t next_ms = shard_next_ms(core->shard);
    if (next_ms == INT64_MAX) {
        return;
    }
    nanos wait_ns = next_ms > now_ms ? (nanos)(next_ms - now_ms) * NANOS_PER_MS : NANOS_PER_MS;
    nanos deadline = ring_now(core->ring) + wait_ns;
    if (!ring_timer_is_set(&core->timer) || deadline + NANOS_PER_MS < core->timer.deadline_ns) {
        ring_timer_set(core->ring, &core->timer, deadline);
    }
}

static void core_on_sleep(void *context)
{
    struct cache_core *core = context;
    qsbr_offline(core->cache->qsbr, core->index);
}

static void core_on_awake(void *context)
{
    struct cache_core *core = context;
    qsbr_online(core->cache->qsbr, core->index);
}

static void core_on_timer(struct ring_timer *timer)
{
    (void)timer; /* that the loop turns is all that was wanted: core_on_turn does the rest */
}

/* One step of everything under way: each a bounded amount, so that a turn stays short. */
static void core_work(struct cache_core *core)
{
    cache_core_work_on_puts(core);
    cache_core_work_on_purges(core);
    if (!list_is_empty(&core->puts) || !list_is_empty(&core->purges)) {
        ring_defer(core->ring, &core->work);
    }
}

static void core_on_work(struct ring_task *task)
{
    core_work(CONTAINER_OF(task, struct cache_core, work));
}

/* A shard's part of entries_max, so that all of them make just that; a shard that no key goes to has no bound. */
static uint64_t share_of_entries(const struct cache *cache, unsigned shard)
{
    uint64_t entries_max = cache->options.entries_max;
    unsigned shards = cache->used_shards;
    return shard >= shards ? 0 : entries_max / shards + (shard < entries_max % shards);
}

struct cache_core *cache_core_create(struct cache *cache, struct ring *ring)
{
    struct cache_core *core = calloc(1, sizeof(*core));
    if (core == NULL) {
        return NULL;
    }
    unsigned workers = cache->options.workers;
    core->cache = cache;
    core->ring = ring;
    core->index = ring_index(ring);
    list_init(&core->puts);
    list_init(&core->purges);
    ring_timer_init(&core->timer, core_on_timer);
    ring_task_init(&core->work, core_on_work);
    core->shard = shard_create(&(struct shard_options){
        .qsbr = cache->qsbr,
        .policy = cache->options.policy,
        .bytes_max = cache->options.bytes_max / workers,
        .entries_max = share_of_entries(cache, core->index),
    });
    if (core->shard == NULL || !flight_table_init(&core->flights)) {
        cache_core_destroy(core);
        return NULL;
    }
    qsbr_online(cache->qsbr, core->index);
    ring_set_hooks(ring, &(struct ring_hooks){
                             .on_turn = core_on_turn,
                             .on_sleep = core_on_sleep,
                             .on_awake = core_on_awake,
                             .context = core,
                         });
    /* release pairs with the acquire in cache_core_at */
    atomic_store_explicit(&cache->cores[core->index], core, memory_order_release);
    return core;
}

struct cache_view {
    struct entry entry;
    struct hold_other holder; /* the entry has one use of it, each run in an outbox another */
    struct cache_core *core;
    uint32_t slot;
    struct cache_view *next_free;
};

void cache_core_destroy(struct cache_core *core)
{
    if (core == NULL) {
        return;
    }
    while (core->free_views != NULL) {
        struct cache_view *view = core->free_views;
        core->free_views = view->next_free;
        free(view);
    }
    flight_table_fini(&core->flights);
    if (core->shard != NULL) {
        shard_destroy(core->shard);
    }
    free(core);
}

bool cache_core_is_settled(const struct cache_core *core)
{
    return core->under_way == 0;
}

struct ring *cache_core_ring(const struct cache_core *core)
{
    return core->ring;
}

void cache_core_resize(struct cache_core *core, uint64_t bytes_max)
{
    struct cache *cache = core->cache;
    bytes_max = bytes_max < cache->options.bytes_max ? bytes_max : cache->options.bytes_max;
    atomic_store_explicit(&cache->bytes_max, bytes_max, memory_order_relaxed);
    shard_resize(core->shard, bytes_max / cache->options.workers);
    ring_defer(core->ring, &core->work); /* so that the loop turns, and core_on_turn begins */
}

uint64_t cache_bytes_max(const struct cache *cache)
{
    return atomic_load_explicit(&cache->bytes_max, memory_order_relaxed);
}

uint64_t cache_object_bytes_max(const struct cache_core *core)
{
    return core->cache->options.object_bytes_max;
}

unsigned cache_shard_count(const struct cache *cache)
{
    return cache->options.workers;
}

const struct cache_options *cache_options_of(const struct cache *cache)
{
    return &cache->options;
}

const struct cache *cache_of(const struct cache_core *core)
{
    return core->cache;
}

const struct shard_counters *cache_shard_counters(const struct cache *cache, unsigned shard)
{
    const struct cache_core *core = cache_core_at(cache, shard);
    return core == NULL ? NULL : shard_counters(core->shard);
}

/* ---- keys ---- */

struct cache_key cache_key_make(const struct cache *cache, struct bytes bytes, size_t primary_bytes)
{
    struct cache_key key = {.bytes = bytes, .primary_bytes = primary_bytes};
    key.hash = XXH3_64bits_withSecret(bytes.ptr, bytes.len, cache->secret, sizeof(cache->secret));
    uint64_t primary = key.hash;
    if (primary_bytes != bytes.len) {
        primary = XXH3_64bits_withSecret(bytes.ptr, primary_bytes, cache->secret, sizeof(cache->secret));
    }
    /* From the middle: the index takes its buckets from one end and its tags from the other. */
    key.primary_hash = primary;
    key.shard = (unsigned)((primary >> 24 & 0xffffff) % cache->used_shards);
    return key;
}

/* ---- reading ---- */

struct cache_object *cache_find(const struct cache_core *core, const struct cache_key *key)
{
    const struct cache_core *owner = cache_core_at(core->cache, key->shard);
    return owner == NULL ? NULL : shard_find(owner->shard, key->hash, key->bytes);
}

struct cache_seen cache_seen_of(const struct cache_object *object)
{
    if (object == NULL) {
        return (struct cache_seen){.object = NULL};
    }
    const struct cache_head *head = cache_object_head(object);
    return (struct cache_seen){.object = object, .head = head, .response_ms = head->freshness.response_ms};
}

static void view_on_free(struct hold_other *holder)
{
    struct cache_view *view = CONTAINER_OF(holder, struct cache_view, holder);
    struct cache_core *core = view->core;
    qsbr_unpin(core->cache->qsbr, core->index, view->slot);
    view->next_free = core->free_views;
    core->free_views = view;
}

static void view_on_unused(struct entry *entry)
{
    struct cache_view *view = CONTAINER_OF(entry, struct cache_view, entry);
    hold_unref(&view->holder.hold);
}

struct entry *cache_view(struct cache_core *core, struct cache_object *object)
{
    struct cache_view *view = core->free_views;
    if (view != NULL) {
        core->free_views = view->next_free;
    } else {
        view = malloc(sizeof(*view));
        if (view == NULL) {
            return NULL;
        }
    }
    if (qsbr_pin(core->cache->qsbr, core->index, object, &view->slot) != RESULT_OK) {
        view->next_free = core->free_views;
        core->free_views = view;
        return NULL;
    }
    view->core = core;
    view->holder = (struct hold_other){.hold = {.uses = 1, .kind = HOLD_OTHER}, .on_free = view_on_free};
    entry_init(&view->entry, NULL, NULL, 0, false);
    view->entry.on_unused = view_on_unused;
    view->entry.hold = &view->holder.hold;
    view->entry.first = object->body;
    view->entry.body_bytes = object->body_bytes;
    view->entry.state = ENTRY_COMPLETE;
    return &view->entry;
}
