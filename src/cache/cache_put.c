/* Storing: a put goes to the shard's owner, is carried out there in steps, and comes back. */
#include "cache/cache_internal.h"

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

/* Keys may be as long as a request's body, and are copied and compared whole: they count, too. */
static void put_spend(size_t *io_bytes, size_t bytes)
{
    *io_bytes -= bytes < *io_bytes ? bytes : *io_bytes;
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
    return owner->purged_ns >= asked_ns || *cache_core_removal_of(owner, primary) >= asked_ns;
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
    if (!put->was_admitted && !put->is_wanted && !shard_admits(owner->shard, &put->draft)) {
        return RESULT_LIMIT;
    }
    put->was_admitted = true;
    if (!put->has_begun) {
        enum result result = shard_store_begin(owner->shard, &put->store, &put->draft);
        if (result != RESULT_OK) {
            bool is_late = ring_now(owner->ring) > put->give_up_ns;
            return result == RESULT_MORE && is_late ? RESULT_LIMIT : result;
        }
        put->has_begun = true;
        const struct shard_draft *draft = &put->draft;
        put_spend(io_bytes,
                  draft->key.len + draft->lines.len + draft->trailers.len + draft->tags.len + draft->note.len);
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

static enum result put_update(struct cache_core *owner, struct cache_put *put, size_t *io_bytes)
{
    put_spend(io_bytes, put->draft.key.len);
    struct cache_object *object = shard_find(owner->shard, put->draft.hash, put->draft.key);
    if (object == NULL || cache_object_head(object)->freshness.response_ms != put->replaces_ms) {
        return RESULT_CANCELED; /* it has gone meanwhile, or another has taken its place */
    }
    enum result result = shard_update_head(owner->shard, object, &put->draft);
    bool is_late = ring_now(owner->ring) > put->give_up_ns;
    return result == RESULT_MORE && is_late ? RESULT_LIMIT : result;
}

static void put_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct cache_put *put = CONTAINER_OF(message, struct cache_put, message);
    struct cache_core *owner = cache_core_at(put->core->cache, ring_index(ring));
    put->give_up_ns = ring_now(ring) + CACHE_PUT_GIVE_UP_MS * NANOS_PER_MS;
    list_push_back(&owner->puts, &put->waiting);
    ring_defer(ring, &owner->work);
}

/* Who cannot end goes to the back, so that a long body holds up nobody behind it. */
void cache_core_work_on_puts(struct cache_core *core)
{
    size_t bytes = CACHE_PUT_STEP_BYTES;
    for (unsigned i = 0; i < CACHE_PUTS_PER_TURN && bytes > 0 && !list_is_empty(&core->puts); i++) {
        struct cache_put *put = CONTAINER_OF(core->puts.next, struct cache_put, waiting);
        bool is_update = put->kind == CACHE_PUT_UPDATE;
        enum result result = is_update ? put_update(core, put, &bytes) : put_step(core, put, &bytes);
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
