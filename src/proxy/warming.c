#include "proxy/warming.h"

#include <stdlib.h>

#include "base/log.h"
#include "proxy/filling.h"
#include "proxy/tier.h"

enum { RETRY_MS = 100 };

struct warming_put {
    struct cache_put put;
    struct warming *warming;
    struct cache_tier_record *record;
};

struct warming {
    struct warming_options options;
    struct cache_tier_warm walk;
    struct ring_timer timer; /* the store was busy */
    nanos asked_ns;
    unsigned left; /* puts under way */
    unsigned loaded;
    bool is_stopped;
    struct warming_put puts[CACHE_TIER_WARM_BATCH_RECORDS];
};

static struct ring *ring_of(const struct warming *warming)
{
    return cache_core_ring(warming->options.core);
}

static void finish(struct warming *warming)
{
    warming->is_stopped = true;
    log_info("the cache has %u answers from the database", warming->loaded);
}

static void ask(struct warming *warming)
{
    if (warming->is_stopped) {
        return;
    }
    if (warming->walk.is_end) {
        finish(warming);
        return;
    }
    struct ring *ring = ring_of(warming);
    warming->asked_ns = ring_now(ring);
    switch (cache_tier_warm_next(warming->options.store, ring_index(ring), &warming->walk)) {
    case RESULT_OK: break;
    case RESULT_LIMIT: ring_timer_set(ring, &warming->timer, ring_now(ring) + RETRY_MS * NANOS_PER_MS); break;
    default: finish(warming); break;
    }
}

static void on_timer(struct ring_timer *timer)
{
    ask(CONTAINER_OF(timer, struct warming, timer));
}

static void on_put(struct cache_put *put, enum result result)
{
    struct warming_put *own = CONTAINER_OF(put, struct warming_put, put);
    struct warming *warming = own->warming;
    free(own->record);
    own->record = NULL;
    warming->loaded += result == RESULT_OK && put->draft.status != 0;
    if (--warming->left == 0) {
        ask(warming);
    }
}

/* An http key may have a variant behind its primary bytes (filling.h); others are primary as a whole. */
static size_t primary_bytes(struct bytes key)
{
    const struct bytes variant = BYTES(FILLING_VARIANT);
    if (!bytes_starts_with(key, BYTES("http://"))) {
        return key.len;
    }
    const char *at = memmem(key.ptr, key.len, variant.ptr, variant.len);
    return at == NULL ? key.len : (size_t)(at - key.ptr);
}

/* *Takes* the record; false: it is of no use. */
static bool put_record(struct warming *warming, struct warming_put *own, struct cache_tier_record *record)
{
    struct cache_core *core = warming->options.core;
    struct shard_draft draft;
    int route = warming->options.route_of(warming->options.context, record->route);
    bool is_over = record->remove_at_ms <= ring_unix_ms(ring_of(warming));
    if (route < 0 || is_over || record->body.len > cache_object_bytes_max(core) || !tier_read_head(record, &draft)) {
        free(record);
        return false;
    }
    struct cache_key key = cache_key_make(cache_of(core), record->key, primary_bytes(record->key));
    draft.hash = key.hash;
    draft.route = (uint16_t)route;
    if (draft.status == 0) {
        draft.cost = FILLING_MARKER_COST;
    }
    *own = (struct warming_put){
        .put =
            {
                .kind = CACHE_PUT_ADD,
                .draft = draft,
                .body = record->body,
                .shard = key.shard,
                .primary_bytes = key.primary_bytes,
                .asked_ns = warming->asked_ns,
                .on_done = on_put,
            },
        .warming = warming,
        .record = record,
    };
    cache_put(core, &own->put);
    return true;
}

static void on_batch(struct ring *ring, struct cache_tier_warm *walk)
{
    (void)ring;
    struct warming *warming = CONTAINER_OF(walk, struct warming, walk);
    struct cache_tier_record *record = walk->records;
    walk->records = NULL;
    unsigned used = 0;
    while (record != NULL) {
        struct cache_tier_record *next = record->next;
        if (warming->is_stopped || used == CACHE_TIER_WARM_BATCH_RECORDS) {
            free(record);
        } else if (put_record(warming, &warming->puts[used], record)) {
            used++;
        }
        record = next;
    }
    warming->left = used;
    if (used == 0) {
        ask(warming);
    }
}

struct warming *warming_start(const struct warming_options *options)
{
    struct warming *warming = calloc(1, sizeof(*warming));
    if (warming == NULL) {
        return NULL;
    }
    warming->options = *options;
    ring_timer_init(&warming->timer, on_timer);
    cache_tier_warm_init(&warming->walk, options->bytes, ring_unix_ms(cache_core_ring(options->core)), on_batch);
    ask(warming);
    return warming;
}

void warming_stop(struct warming *warming)
{
    warming->is_stopped = true;
    ring_timer_cancel(ring_of(warming), &warming->timer);
}

void warming_destroy(struct warming *warming)
{
    if (warming == NULL) {
        return;
    }
    for (unsigned i = 0; i < CACHE_TIER_WARM_BATCH_RECORDS; i++) {
        free(warming->puts[i].record);
    }
    while (warming->walk.records != NULL) {
        struct cache_tier_record *record = warming->walk.records;
        warming->walk.records = record->next;
        free(record);
    }
    free(warming);
}
