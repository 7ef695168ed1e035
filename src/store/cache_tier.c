#include "store/cache_tier.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/check.h"
#include "store/cache_table.h"
#include "store/internal.h"

/* ---- records ---- */

/* A record with what the write queue needs of it. */
struct block {
    struct cache_tier_record record; /* first: the caller frees it by this */
    struct store_write write;
    struct cache_hash hash;
    char bytes[];
};

static struct bytes place(char **at, struct bytes run)
{
    struct bytes placed = {*at, run.len};
    if (run.ptr != NULL) {
        bytes_put(*at, run);
    }
    *at += run.len;
    return placed;
}

static size_t runs_bytes(const struct cache_tier_record *record)
{
    return record->key.len + record->route.len + record->tags.len + record->head.len + record->body.len;
}

struct cache_tier_record *cache_tier_record_create(const struct cache_tier_record *draft)
{
    struct block *block = malloc(sizeof(*block) + runs_bytes(draft));
    if (block == NULL) {
        return NULL;
    }
    block->record = *draft;
    block->record.next = NULL;
    char *at = block->bytes;
    block->record.key = place(&at, draft->key);
    block->record.route = place(&at, draft->route);
    block->record.tags = place(&at, draft->tags);
    block->record.head = place(&at, draft->head);
    block->record.body = place(&at, draft->body);
    return &block->record;
}

uint64_t cache_tier_record_charge(const struct cache_tier_record *record)
{
    return CACHE_TIER_OVERHEAD_BYTES + runs_bytes(record);
}

/* ---- storing ---- */

static int put_apply(struct store_write *write, struct cache_table *table, bool *ret_more)
{
    const struct block *block = CONTAINER_OF(write, struct block, write);
    *ret_more = false;
    return cache_table_put(table, &block->record, &block->hash);
}

static void put_settle(struct store_write *write, struct store *store, bool is_committed)
{
    struct block *block = CONTAINER_OF(write, struct block, write);
    if (is_committed) {
        store_count(&store->counters.puts, 1);
        store_count(&store->counters.put_bytes, write->bytes);
    } else {
        store_count(&store->counters.puts_dropped, 1);
    }
    free(block);
}

static const struct store_write_kind put_kind = {.apply = put_apply, .settle = put_settle};

static nanos *key_moment(struct store *store, const struct cache_hash *hash)
{
    unsigned index = hash->bytes[0] | (unsigned)hash->bytes[1] << 8;
    return &store->key_purged_ns[index % PURGE_MOMENTS];
}

/* The lock is held. */
static bool is_outdated(struct store *store, const struct block *block)
{
    const struct cache_tier_record *record = &block->record;
    return (record->asked_ns != 0 && *key_moment(store, &block->hash) >= record->asked_ns) ||
           (record->many_ns != 0 && store->many_purged_ns >= record->many_ns);
}

void cache_tier_put(struct store *store, struct cache_tier_record *record)
{
    struct block *block = CONTAINER_OF(record, struct block, record);
    block->write = (struct store_write){.kind = &put_kind, .bytes = cache_tier_record_charge(record)};
    block->hash = cache_hash_of(record->key);
    bool fits = block->write.bytes <= store->options.cache_bytes_max;
    pthread_mutex_lock(&store->lock);
    bool has_gone = is_outdated(store, block);
    bool is_queued = fits && !has_gone && store_enqueue_write(store, &block->write);
    pthread_mutex_unlock(&store->lock);
    if (has_gone) {
        store_count(&store->counters.puts_outdated, 1);
        free(block);
    } else if (!is_queued) {
        put_settle(&block->write, store, false);
    }
}

struct touch {
    struct store_write write;
    struct cache_hash hash;
    int64_t now_ms;
};

static int touch_apply(struct store_write *write, struct cache_table *table, bool *ret_more)
{
    const struct touch *touch = CONTAINER_OF(write, struct touch, write);
    *ret_more = false;
    return cache_table_touch(table, &touch->hash, touch->now_ms);
}

static void touch_settle(struct store_write *write, struct store *store, bool is_committed)
{
    store_count(is_committed ? &store->counters.touches : &store->counters.touches_dropped, 1);
    free(CONTAINER_OF(write, struct touch, write));
}

static const struct store_write_kind touch_kind = {.apply = touch_apply, .settle = touch_settle};

static void touch_hash(struct store *store, const struct cache_hash *hash, int64_t now_ms)
{
    struct touch *touch = malloc(sizeof(*touch));
    if (touch == NULL) {
        store_count(&store->counters.touches_dropped, 1);
        return;
    }
    *touch = (struct touch){.write = {.kind = &touch_kind, .bytes = sizeof(*touch)}, .hash = *hash, .now_ms = now_ms};
    pthread_mutex_lock(&store->lock);
    bool has_room =
        store->write_count < store->options.queue_writes_max / 2 && store_enqueue_write(store, &touch->write);
    pthread_mutex_unlock(&store->lock);
    if (!has_room) {
        touch_settle(&touch->write, store, false);
    }
}

void cache_tier_touch(struct store *store, struct bytes key, int64_t now_ms)
{
    struct cache_hash hash = cache_hash_of(key);
    store_learn_time(store, now_ms);
    touch_hash(store, &hash, now_ms);
}

/* ---- purging ---- */

struct purge {
    struct store_write write;
    struct purge *next;
    struct cache_purge purge;
    struct cache_tier_purge *asker; /* NULL: nobody waits for it any more */
    unsigned worker;
    bool is_spare; /* the store's own, for all records */
    bool is_used;  /* of the spare: it waits */
    bool is_again; /* of the spare: asked for again meanwhile */
    char bytes[];
};

static void purge_on_deliver(struct ring *ring, struct ring_message *message)
{
    struct cache_tier_purge *request = CONTAINER_OF(message, struct cache_tier_purge, message);
    request->on_done(ring, request);
}

static void answer(struct store *store, unsigned worker, struct cache_tier_purge *request, bool is_done,
                   uint64_t removed)
{
    request->is_done = is_done;
    request->removed = removed;
    request->message.on_deliver = purge_on_deliver;
    ring_group_post(store->group, worker, &request->message);
}

static void answer_asker(struct store *store, struct purge *purge, bool is_done)
{
    struct cache_tier_purge *asker = purge->asker;
    purge->asker = NULL;
    if (asker != NULL) {
        answer(store, purge->worker, asker, is_done, is_done ? purge->purge.removed : 0);
    }
}

/* Gets that began before a purge begins or ends, and are delivered after it, are not to be trusted. The lock is held.
 */
static void mark_purge(struct store *store, const struct purge *purge)
{
    bool is_key = purge->purge.kind == CACHE_TIER_PURGE_KEY;
    atomic_fetch_add(is_key ? &store->purges_of_key[purge->purge.hash.bytes[0]] : &store->purges_of_many, 1);
}

static int purge_apply(struct store_write *write, struct cache_table *table, bool *ret_more)
{
    struct purge *purge = CONTAINER_OF(write, struct purge, write);
    return cache_table_purge(table, &purge->purge, ret_more);
}

static void purge_hold(struct store_write *write, struct store *store)
{
    struct purge *purge = CONTAINER_OF(write, struct purge, write);
    cache_purge_rewind(&purge->purge);
    answer_asker(store, purge, false);
}

static void purge_accept(struct store *store, struct purge *purge);

static void purge_settle(struct store_write *write, struct store *store, bool is_committed)
{
    struct purge *purge = CONTAINER_OF(write, struct purge, write);
    pthread_mutex_lock(&store->lock);
    struct purge **at = &store->purges;
    while (*at != purge) {
        at = &(*at)->next;
    }
    *at = purge->next;
    store->purge_count--;
    mark_purge(store, purge);
    if (purge->is_spare) {
        purge->is_used = false;
        if (purge->is_again && is_committed) {
            purge_accept(store, purge);
        }
    }
    pthread_mutex_unlock(&store->lock);
    answer_asker(store, purge, is_committed);
    if (!purge->is_spare) {
        free(purge);
    }
}

static const struct store_write_kind purge_kind = {
    .apply = purge_apply,
    .settle = purge_settle,
    .hold = purge_hold,
};

/* From here on gets heed it. The lock is held. */
static void purge_accept(struct store *store, struct purge *purge)
{
    purge->is_used = true;
    purge->is_again = false;
    purge->purge.removed = 0;
    cache_purge_rewind(&purge->purge);
    purge->next = store->purges;
    store->purges = purge;
    store->purge_count++;
    mark_purge(store, purge);
    store_enqueue_write_always(store, &purge->write);
}

static struct purge *purge_create(const struct cache_tier_purge *request)
{
    size_t bytes = sizeof(struct purge) + request->text.len + request->key_prefix.len;
    struct purge *purge = malloc(bytes);
    if (purge == NULL) {
        return NULL;
    }
    *purge = (struct purge){.write = {.kind = &purge_kind, .bytes = bytes}, .purge.kind = request->kind};
    char *at = purge->bytes;
    purge->purge.text = place(&at, request->text);
    purge->purge.key_prefix = place(&at, request->key_prefix);
    if (request->kind == CACHE_TIER_PURGE_KEY) {
        purge->purge.hash = cache_hash_of(request->text);
    }
    return purge;
}

bool cache_tier_init(struct store *store)
{
    store->purge_all = purge_create(&(struct cache_tier_purge){.kind = CACHE_TIER_PURGE_ALL});
    if (store->purge_all != NULL) {
        store->purge_all->is_spare = true;
    }
    return store->purge_all != NULL;
}

void cache_tier_purge(struct store *store, unsigned worker, struct cache_tier_purge *request)
{
    struct purge *purge = purge_create(request);
    struct purge *unused = NULL;
    bool is_held = true;
    store_count(&store->counters.purges, 1);
    pthread_mutex_lock(&store->lock);
    bool is_key = purge != NULL && store->purge_count < PURGES_MAX && request->kind == CACHE_TIER_PURGE_KEY;
    *(is_key ? key_moment(store, &purge->purge.hash) : &store->many_purged_ns) = store_clock();
    if (purge != NULL && store->purge_count < PURGES_MAX) {
        is_held = !store->accepts_writes;
        purge->worker = worker;
        purge->asker = is_held || request->on_done == NULL ? NULL : request;
        purge_accept(store, purge);
    } else {
        unused = purge;
        if (store->purge_all->is_used) {
            /* Where it waits it purges what was put before it; once more for what was put since. */
            store->purge_all->is_again = true;
        } else {
            purge_accept(store, store->purge_all);
        }
    }
    pthread_mutex_unlock(&store->lock);
    free(unused);
    if (is_held && request->on_done != NULL) {
        answer(store, worker, request, false, 0);
    }
}

/* Whether a purge that waits means the record. */
static bool is_purged(struct store *store, const struct cache_tier_record *record)
{
    pthread_mutex_lock(&store->lock);
    const struct purge *purge = store->purges;
    while (purge != NULL && !cache_purge_matches(&purge->purge, record)) {
        purge = purge->next;
    }
    pthread_mutex_unlock(&store->lock);
    return purge != NULL;
}

/* ---- finding ---- */

static void get_look_at_purges(const struct cache_tier_get *get, uint64_t seen[2])
{
    const struct store *store = get->request.store;
    seen[0] = atomic_load(&store->purges_of_key[get->hash[0]]);
    seen[1] = atomic_load(&store->purges_of_many);
}

/* On the reader. A purge may come or end at any moment: what waits when the row has been read is asked; what came or
 * went between the first look and the delivery is seen by its mark. */
static void get_run(struct store_request *request, struct store_reading *reading)
{
    struct cache_tier_get *get = CONTAINER_OF(request, struct cache_tier_get, request);
    struct store *store = request->store;
    get->outcome = CACHE_TIER_UNAVAILABLE;
    if (reading != NULL) {
        struct cache_hash hash;
        memcpy(hash.bytes, get->hash, sizeof(hash.bytes));
        get_look_at_purges(get, get->purges_seen);
        reading->code = cache_reading_get(&reading->cache, get->key, &hash, get->now_ms, &get->record);
        if (get->record != NULL && is_purged(store, get->record)) {
            free(get->record);
            get->record = NULL;
        }
        if (get->record != NULL) {
            get->outcome = CACHE_TIER_FOUND;
            touch_hash(store, &hash, get->now_ms);
        } else if (reading->code == SQLITE_OK) {
            get->outcome = CACHE_TIER_MISS;
        }
    }
    ring_group_post(store->group, request->worker, &request->message);
}

static void get_on_deliver(struct ring *ring, struct ring_message *message)
{
    struct store_request *request = CONTAINER_OF(message, struct store_request, message);
    struct cache_tier_get *get = CONTAINER_OF(request, struct cache_tier_get, request);
    struct store_counters *counters = &request->store->counters;
    if (get->outcome == CACHE_TIER_FOUND) {
        uint64_t seen[2];
        get_look_at_purges(get, seen);
        if (seen[0] != get->purges_seen[0] || seen[1] != get->purges_seen[1]) {
            free(get->record);
            get->record = NULL;
            get->outcome = CACHE_TIER_MISS;
        }
    }
    store_count(get->outcome == CACHE_TIER_FOUND  ? &counters->hits
                : get->outcome == CACHE_TIER_MISS ? &counters->misses
                                                  : &counters->gets_failed,
                1);
    get->on_done(ring, get);
}

enum result cache_tier_get(struct store *store, unsigned worker, struct cache_tier_get *get)
{
    struct cache_hash hash = cache_hash_of(get->key);
    get->request =
        (struct store_request){.message.on_deliver = get_on_deliver, .store = store, .worker = worker, .run = get_run};
    get->record = NULL;
    memcpy(get->hash, hash.bytes, sizeof(get->hash));
    store_learn_time(store, get->now_ms);
    enum result result = store_enqueue_read(store, &get->request, false);
    store_count(result == RESULT_OK      ? &store->counters.gets
                : result == RESULT_LIMIT ? &store->counters.gets_busy
                                         : &store->counters.gets_unavailable,
                1);
    return result;
}

/* ---- warm start ---- */

static uint64_t all_purges(const struct store *store)
{
    uint64_t sum = atomic_load(&store->purges_of_many);
    for (unsigned i = 0; i < PURGE_BUCKETS; i++) {
        sum += atomic_load(&store->purges_of_key[i]);
    }
    return sum;
}

/* Takes out of the batch what a purge that waits means, or all of it. */
static void drop_records(struct cache_tier_warm *warm, bool is_all)
{
    struct cache_tier_record **at = &warm->records;
    while (*at != NULL) {
        struct cache_tier_record *record = *at;
        if (is_all || is_purged(warm->request.store, record)) {
            *at = record->next;
            free(record);
        } else {
            at = &record->next;
        }
    }
}

static void warm_run(struct store_request *request, struct store_reading *reading)
{
    struct cache_tier_warm *warm = CONTAINER_OF(request, struct cache_tier_warm, request);
    warm->is_end = true;
    if (reading != NULL) {
        warm->purges_seen = all_purges(request->store);
        reading->code = cache_reading_warm(&reading->cache, warm);
        drop_records(warm, false);
    }
    ring_group_post(request->store->group, request->worker, &request->message);
}

static void warm_on_deliver(struct ring *ring, struct ring_message *message)
{
    struct store_request *request = CONTAINER_OF(message, struct store_request, message);
    struct cache_tier_warm *warm = CONTAINER_OF(request, struct cache_tier_warm, request);
    if (warm->records != NULL && all_purges(request->store) != warm->purges_seen) {
        drop_records(warm, true); /* which of them is not known; a batch is small */
    }
    warm->on_batch(ring, warm);
}

void cache_tier_warm_init(struct cache_tier_warm *warm, uint64_t bytes, int64_t now_ms,
                          void (*on_batch)(struct ring *ring, struct cache_tier_warm *warm))
{
    *warm = (struct cache_tier_warm){
        .now_ms = now_ms, .bytes_left = bytes, .on_batch = on_batch, .worth = INFINITY, .id = INT64_MAX};
}

enum result cache_tier_warm_next(struct store *store, unsigned worker, struct cache_tier_warm *warm)
{
    warm->request = (struct store_request){
        .message.on_deliver = warm_on_deliver, .store = store, .worker = worker, .run = warm_run};
    warm->records = NULL;
    store_learn_time(store, warm->now_ms);
    return store_enqueue_read(store, &warm->request, true);
}
