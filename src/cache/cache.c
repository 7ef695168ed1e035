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

static void core_on_work(struct ring_task *task)
{
    cache_core_work(CONTAINER_OF(task, struct cache_core, work));
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
        .worker = core->index,
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

/* ---- writing: at the owner ---- */

static void put_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct cache_put *put = CONTAINER_OF(message, struct cache_put, message);
    put->core->under_way--;
    put->on_done(put, put->result);
}

static void put_finish(struct cache_core *owner, struct cache_put *put, enum result result)
{
    list_remove(&put->waiting);
    put->result = result;
    put->message.on_deliver = put_on_returned;
    ring_post(owner->ring, put->core->index, &put->message);
}

/* Copies up to *io_bytes of the entry's body, and takes them off; true when all of it is there. */
static bool put_copy(struct cache_core *owner, struct cache_put *put, size_t *io_bytes)
{
    while (put->store.left_bytes > 0 && *io_bytes > 0) {
        uint32_t used = chunk_used(put->at);
        if (put->at_offset == used) {
            put->at = atomic_load_explicit(&put->at->next, memory_order_acquire);
            put->at_offset = 0;
            continue;
        }
        size_t part = used - put->at_offset;
        part = part < *io_bytes ? part : *io_bytes;
        shard_store_body(owner->shard, &put->store, (struct bytes){put->at->data + put->at_offset, part});
        put->at_offset += (uint32_t)part;
        *io_bytes -= part;
    }
    return put->store.left_bytes == 0;
}

/* The same for bytes that are no entry. */
static bool put_copy_run(struct cache_core *owner, struct cache_put *put, size_t *io_bytes)
{
    size_t part = put->body.len < *io_bytes ? put->body.len : *io_bytes;
    if (part == 0) {
        return put->body.len == 0;
    }
    *io_bytes -= part;
    shard_store_body(owner->shard, &put->store, (struct bytes){put->body.ptr, part});
    put->body = (struct bytes){put->body.ptr + part, put->body.len - part};
    return put->body.len == 0;
}

/* There is something already, perhaps newer than what is to be added. */
static bool put_is_needless(struct cache_core *owner, const struct cache_put *put)
{
    return put->kind == CACHE_PUT_ADD && shard_find(owner->shard, put->draft.hash, put->draft.key) != NULL;
}

static nanos *removal_of(struct cache_core *owner, struct bytes primary)
{
    const struct cache_key key = cache_key_make(owner->cache, primary, primary.len);
    return &owner->removed_ns[key.hash % CACHE_REMOVALS];
}

/* Whether a purge or an invalidation has come since what is to be stored was asked for. */
static bool put_is_outdated(struct cache_core *owner, const struct cache_put *put)
{
    if (put->flight != NULL) {
        return flight_is_doomed(put->flight);
    }
    if (put->asked_ns == 0) {
        return false;
    }
    struct bytes primary = {put->draft.key.ptr, put->primary_bytes};
    nanos asked_ns = put->asked_ns - CACHE_CLOCK_SLACK_NS;
    return owner->purged_ns >= asked_ns || *removal_of(owner, primary) >= asked_ns;
}

/* A step of storing; RESULT_MORE: another is needed. */
static enum result put_step(struct cache_core *owner, struct cache_put *put, size_t *io_bytes)
{
    bool is_outdated = put_is_outdated(owner, put);
    if (is_outdated || put_is_needless(owner, put)) {
        if (put->has_begun) {
            shard_store_abort(owner->shard, &put->store);
        }
        return is_outdated ? RESULT_CANCELED : RESULT_OK;
    }
    if (!put->was_admitted && !shard_admits(owner->shard, &put->draft)) {
        return RESULT_LIMIT;
    }
    put->was_admitted = true;
    if (!put->has_begun) {
        enum result result = shard_store_begin(owner->shard, &put->store, &put->draft);
        if (result != RESULT_OK) {
            bool is_late = ring_unix_ms(owner->ring) > put->give_up_ms;
            return result == RESULT_MORE && is_late ? RESULT_LIMIT : result;
        }
        put->has_begun = true;
        if (put->entry != NULL) {
            put->at = put->entry->first;
            put->at_offset = put->at != NULL && put->at == put->entry->head ? put->entry->head_bytes : 0;
        }
    }
    bool is_whole = put->entry != NULL ? put_copy(owner, put, io_bytes) : put_copy_run(owner, put, io_bytes);
    if (!is_whole) {
        return RESULT_MORE;
    }
    return shard_store_commit(owner->shard, &put->store);
}

static enum result put_update(struct cache_core *owner, struct cache_put *put)
{
    struct cache_object *object = shard_find(owner->shard, put->draft.hash, put->draft.key);
    if (object == NULL || cache_object_head(object)->freshness.response_ms != put->replaces_ms) {
        return RESULT_CANCELED; /* it has gone meanwhile, or another has taken its place */
    }
    enum result result = shard_update_head(owner->shard, object, &put->draft);
    bool is_late = ring_unix_ms(owner->ring) > put->give_up_ms;
    return result == RESULT_MORE && is_late ? RESULT_LIMIT : result;
}

static void put_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct cache_put *put = CONTAINER_OF(message, struct cache_put, message);
    struct cache_core *owner = cache_core_at(put->core->cache, ring_index(ring));
    put->give_up_ms = ring_unix_ms(ring) + CACHE_PUT_GIVE_UP_MS;
    list_push_back(&owner->puts, &put->waiting);
    ring_defer(ring, &owner->work);
}

void cache_put(struct cache_core *core, struct cache_put *put)
{
    put->core = core;
    core->under_way++;
    put->has_begun = false;
    put->was_admitted = false;
    list_init(&put->waiting);
    put->message.on_deliver = put_on_arrived;
    ring_post(core->ring, put->shard, &put->message);
}

/* ---- purging ---- */

struct cache_purge_part {
    struct ring_message message;
    struct cache_purge *purge;
    struct shard_purge shard;
    struct list_node node;
};

static void part_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct cache_purge_part *part = CONTAINER_OF(message, struct cache_purge_part, message);
    struct cache_purge *purge = part->purge;
    purge->removed += part->shard.removed;
    if (--purge->left == 0) {
        purge->core->under_way--;
        cache_purge_fini(purge);
        purge->on_done(purge);
    }
}

void cache_purge_fini(struct cache_purge *purge)
{
    free(purge->parts);
    purge->parts = NULL;
}

static void part_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct cache_purge_part *part = CONTAINER_OF(message, struct cache_purge_part, message);
    struct cache_core *owner = cache_core_at(part->purge->core->cache, ring_index(ring));
    owner->purged_ns = ring_now(ring);
    flight_table_doom(&owner->flights, &part->purge->filter);
    shard_purge_begin(owner->shard, &part->shard, &part->purge->filter);
    list_push_back(&owner->purges, &part->node);
    ring_defer(ring, &owner->work);
}

enum result cache_purge(struct cache_core *core, struct cache_purge *purge)
{
    unsigned count = core->cache->options.workers;
    struct cache_purge_part *parts = calloc(count, sizeof(*parts));
    if (parts == NULL) {
        return RESULT_NO_MEMORY;
    }
    core->under_way++;
    purge->core = core;
    purge->removed = 0;
    purge->left = count;
    purge->parts = parts;
    for (unsigned i = 0; i < count; i++) {
        parts[i].purge = purge;
        list_init(&parts[i].node);
        parts[i].message.on_deliver = part_on_arrived;
        ring_post(core->ring, i, &parts[i].message);
    }
    return RESULT_OK;
}

/* Goes on with puts, each in its turn, as far as one turn of the loop may: who cannot end goes to the back, so that a
 * long body holds up nobody behind it. */
static void work_on_puts(struct cache_core *core)
{
    size_t bytes = CACHE_PUT_STEP_BYTES;
    for (unsigned i = 0; i < CACHE_PUTS_PER_TURN && bytes > 0 && !list_is_empty(&core->puts); i++) {
        struct cache_put *put = CONTAINER_OF(core->puts.next, struct cache_put, waiting);
        bool is_update = put->kind == CACHE_PUT_UPDATE;
        enum result result = is_update ? put_update(core, put) : put_step(core, put, &bytes);
        if (result != RESULT_MORE) {
            put_finish(core, put, result);
            continue;
        }
        list_remove(&put->waiting);
        list_push_back(&core->puts, &put->waiting);
        if (!put->has_begun) {
            return; /* room is being made: looking for it once a turn is enough */
        }
    }
}

/* One step of everything under way: each a bounded amount, so that a turn stays short. */
void cache_core_work(struct cache_core *core)
{
    work_on_puts(core);
    if (!list_is_empty(&core->purges)) {
        struct cache_purge_part *part = CONTAINER_OF(core->purges.next, struct cache_purge_part, node);
        if (!shard_purge_step(core->shard, &part->shard, CACHE_PURGE_STEP_OBJECTS)) {
            list_remove(&part->node);
            part->message.on_deliver = part_on_returned;
            ring_post(core->ring, part->purge->core->index, &part->message);
        }
    }
    if (!list_is_empty(&core->puts) || !list_is_empty(&core->purges)) {
        ring_defer(core->ring, &core->work);
    }
}

/* ---- removing one ---- */

struct removal {
    struct ring_message message;
    struct cache_core *core; /* whose it is */
    struct cache_key key;
    enum shard_cause cause;
    char bytes[];
};

static void remove_at_owner(struct cache_core *owner, const struct cache_key *key, enum shard_cause cause)
{
    *removal_of(owner, key->bytes) = ring_now(owner->ring);
    flight_table_doom_key(&owner->flights, key);
    struct cache_object *object = shard_find(owner->shard, key->hash, key->bytes);
    if (object != NULL) {
        shard_remove(owner->shard, object, cause);
    }
}

static void removal_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct removal *removal = CONTAINER_OF(message, struct removal, message);
    removal->core->under_way--;
    free(removal);
}

static void removal_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct removal *removal = CONTAINER_OF(message, struct removal, message);
    remove_at_owner(cache_core_at(removal->core->cache, ring_index(ring)), &removal->key, removal->cause);
    removal->message.on_deliver = removal_on_returned;
    ring_post(ring, removal->core->index, &removal->message);
}

static void told_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct cache_removal *removal = CONTAINER_OF(message, struct cache_removal, message);
    removal->core->under_way--;
    removal->on_done(removal);
}

static void told_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct cache_removal *removal = CONTAINER_OF(message, struct cache_removal, message);
    remove_at_owner(cache_core_at(removal->core->cache, ring_index(ring)), &removal->key, removal->cause);
    removal->message.on_deliver = told_on_returned;
    ring_post(ring, removal->core->index, &removal->message);
}

void cache_remove_and_tell(struct cache_core *core, struct cache_removal *removal)
{
    removal->core = core;
    core->under_way++;
    removal->message.on_deliver = told_on_arrived;
    ring_post(core->ring, removal->key.shard, &removal->message);
}

void cache_remove(struct cache_core *core, const struct cache_key *key, enum shard_cause cause)
{
    struct removal *removal = malloc(sizeof(*removal) + key->primary_bytes);
    if (removal == NULL) {
        return; /* what is stored lives on until it is stale: the same as for a gateway that was not asked */
    }
    memcpy(removal->bytes, key->bytes.ptr, key->primary_bytes);
    struct bytes primary = {removal->bytes, key->primary_bytes};
    removal->core = core;
    removal->key = cache_key_make(core->cache, primary, primary.len);
    removal->cause = cause;
    core->under_way++;
    removal->message.on_deliver = removal_on_arrived;
    ring_post(core->ring, key->shard, &removal->message);
}

/* ---- marks ---- */

enum {
    BACK_OFF_MS_MIN = 1000,
    BACK_OFF_MS_MAX = 60000,
};

static struct cache_mark *mark_at(struct cache_core *core, uint64_t hash)
{
    struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    if (mark->hash != hash) {
        *mark = (struct cache_mark){.hash = hash};
    }
    return mark;
}

void cache_mark_uncacheable(struct cache_core *core, uint64_t hash, int64_t until_ms)
{
    mark_at(core, hash)->uncacheable_until_ms = until_ms;
}

bool cache_is_marked_uncacheable(const struct cache_core *core, uint64_t hash, int64_t now_ms)
{
    const struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    return mark->hash == hash && mark->uncacheable_until_ms > now_ms;
}

void cache_mark_failed(struct cache_core *core, uint64_t hash, int64_t now_ms, bool is_unreachable)
{
    struct cache_mark *mark = mark_at(core, hash);
    int64_t wait_ms = BACK_OFF_MS_MIN;
    for (uint8_t i = 0; i < mark->failures && wait_ms < BACK_OFF_MS_MAX; i++) {
        wait_ms *= 2;
    }
    wait_ms = wait_ms < BACK_OFF_MS_MAX ? wait_ms : BACK_OFF_MS_MAX;
    if (mark->failures < UINT8_MAX) {
        mark->failures++;
    }
    mark->is_unreachable = is_unreachable;
    /* Between half of it and all of it, so that those who failed together do not come back together. */
    mark->retry_at_ms = now_ms + wait_ms / 2 + (int64_t)(ring_random(core->ring) % (uint64_t)(wait_ms / 2));
}

void cache_mark_succeeded(struct cache_core *core, uint64_t hash)
{
    struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    if (mark->hash == hash) {
        mark->failures = 0;
        mark->retry_at_ms = 0;
    }
}

bool cache_is_unreachable(const struct cache_core *core, uint64_t hash)
{
    const struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    return mark->hash == hash && mark->failures > 0 && mark->is_unreachable;
}

bool cache_is_in_back_off(const struct cache_core *core, uint64_t hash, int64_t now_ms)
{
    const struct cache_mark *mark = &core->marks[hash % CACHE_MARKS];
    return mark->hash == hash && mark->retry_at_ms > now_ms;
}
