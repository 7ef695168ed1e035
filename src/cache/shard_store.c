/* Storing: begin reserves, body copies, commit publishes. */
#include "base/counter.h"
#include "cache/shard_internal.h"

enum { PIECE_MIN_BYTES = SHARD_BODY_MIN_UNITS * SLAB_UNIT_BYTES - (int)sizeof(struct chunk) };

static uint64_t round_up(uint64_t bytes, uint64_t to)
{
    return (bytes + to - 1) / to * to;
}

/* The most that a chain of pieces for `bytes` takes: each but the last holds PIECE_MIN_BYTES at least. */
static uint64_t chain_cost_bytes(uint64_t bytes)
{
    uint64_t pieces = bytes <= PIECE_MIN_BYTES ? 1 : bytes / PIECE_MIN_BYTES + 1;
    return bytes == 0 ? 0 : round_up(bytes + pieces * sizeof(struct chunk), SLAB_UNIT_BYTES);
}

/* What the records of new regions take, if none of the mapped ones has room. */
static uint64_t regions_cost_bytes(uint64_t bytes)
{
    return (bytes / SLAB_REGION_BYTES + 1) * slab_region_cost_bytes();
}

static size_t head_bytes_of(const struct shard_draft *draft)
{
    return sizeof(struct cache_head) + draft->lines.len + draft->trailers.len + draft->tags.len + draft->note.len;
}

/* A piece for the next part of `left_bytes`: long, or as long as there is, or at least of use. NULL: see slab_alloc. */
static struct chunk *piece_for(struct shard *shard, uint64_t left_bytes)
{
    size_t wanted = left_bytes < SLAB_PIECE_BYTES_MAX ? (size_t)left_bytes : (size_t)SLAB_PIECE_BYTES_MAX;
    size_t least = wanted < PIECE_MIN_BYTES ? wanted : PIECE_MIN_BYTES;
    struct chunk *piece = slab_alloc(&shard->slab, wanted, least);
    return piece != NULL ? piece : slab_alloc(&shard->slab, wanted, 1); /* more headers than were reckoned with */
}

/* Appends what fits of `run` to a piece that no reader sees yet. */
static void piece_fill(struct chunk *piece, struct bytes *run)
{
    uint32_t used = chunk_used(piece);
    size_t room = chunk_capacity(piece) - used;
    size_t part = run->len < room ? run->len : room;
    memcpy(piece->data + used, run->ptr, part);
    atomic_store_explicit(&piece->used_bytes, used + (uint32_t)part, memory_order_relaxed);
    run->ptr += part;
    run->len -= part;
}

/* ---- making an object */

/* *Gives* a head in a piece of its own. NULL: slab_alloc has none. */
static struct cache_head *head_make(struct shard *shard, const struct shard_draft *draft)
{
    size_t bytes = head_bytes_of(draft);
    struct chunk *piece = slab_alloc(&shard->slab, bytes, bytes);
    if (piece == NULL) {
        return NULL;
    }
    atomic_store_explicit(&piece->used_bytes, (uint32_t)bytes, memory_order_relaxed);
    struct cache_head *head = (struct cache_head *)(void *)piece->data;
    *head = (struct cache_head){
        .freshness = draft->freshness,
        .content_length = draft->content_length,
        .ticket = draft->ticket,
        .piece = piece,
        .lines_bytes = (uint32_t)draft->lines.len,
        .trailer_bytes = (uint32_t)draft->trailers.len,
        .tag_bytes = (uint32_t)draft->tags.len,
        .note_bytes = (uint32_t)draft->note.len,
        .status = draft->status,
        .has_content_length = draft->has_content_length,
        .has_date = draft->has_date,
        .has_request_id = draft->has_request_id,
        .is_event_stream = draft->is_event_stream,
        .form = draft->form,
    };
    list_init(&head->retired);
    char *at = bytes_put(head->data, draft->lines);
    at = bytes_put(at, draft->trailers);
    at = bytes_put(at, draft->tags);
    bytes_put(at, draft->note);
    return head;
}

/* Puts what does not fit behind the struct into a chain; false: slab_alloc has no more. */
static bool key_put(struct shard *shard, struct cache_object *object, struct bytes key)
{
    size_t room = chunk_capacity(object->piece) - sizeof(*object);
    object->key_bytes = key.len;
    object->key_here_bytes = (uint16_t)(key.len < room ? key.len : room);
    bytes_put(object->key, (struct bytes){key.ptr, object->key_here_bytes});
    struct bytes rest = {key.ptr + object->key_here_bytes, key.len - object->key_here_bytes};
    struct chunk *last = NULL;
    while (rest.len > 0) {
        struct chunk *piece = piece_for(shard, rest.len);
        if (piece == NULL) {
            return false;
        }
        if (last == NULL) {
            object->key_rest = piece;
        } else {
            atomic_store_explicit(&last->next, piece, memory_order_relaxed);
        }
        last = piece;
        object->charged_bytes += piece->bytes;
        piece_fill(piece, &rest);
    }
    return true;
}

/* *Gives* the object with key and head, not in the index. NULL: slab_alloc has none. */
static struct cache_object *object_make(struct shard *shard, const struct shard_draft *draft)
{
    size_t wanted = sizeof(struct cache_object) + draft->key.len;
    wanted = wanted < SLAB_PIECE_BYTES_MAX ? wanted : (size_t)SLAB_PIECE_BYTES_MAX;
    struct chunk *piece = slab_alloc(&shard->slab, wanted, wanted < PIECE_MIN_BYTES ? wanted : PIECE_MIN_BYTES);
    if (piece == NULL) {
        return NULL;
    }
    struct cache_object *object = (struct cache_object *)(void *)piece->data;
    *object = (struct cache_object){
        .index.hash = draft->hash,
        .body_bytes = draft->body_bytes,
        .cost_ns = draft->cost_ns,
        .cost_tokens = draft->cost_tokens,
        .evict = {.hash = draft->hash, .cost = draft->cost},
        .remove_at_ms = draft->remove_at_ms,
        .charged_bytes = piece->bytes,
        .piece = piece,
        .canary = CACHE_CANARY_STORING,
        .route = draft->route,
    };
    list_init(&object->all);
    list_init(&object->expiry);
    list_init(&object->evict.node);
    struct cache_head *head = key_put(shard, object, draft->key) ? head_make(shard, draft) : NULL;
    if (head == NULL) {
        shard_discard(shard, object);
        return NULL;
    }
    atomic_init(&object->head, head);
    object->charged_bytes += head->piece->bytes;
    return object;
}

/* There was room, but the slab could not give a run that long, or the system no memory. What is evicted leaves longer
 * runs behind. */
static enum result store_without_run(struct shard *shard)
{
    enum { EVICTIONS = 8 };
    for (unsigned i = 0; i < EVICTIONS && shard_evict_one(shard); i++) {
    }
    bool is_coming = shard->retired_bytes > shard->pinned_bytes;
    shard_account(shard);
    return is_coming ? RESULT_MORE : RESULT_NO_MEMORY;
}

/* Makes room for a store or an update; what cannot have it is counted. */
static enum result room_for(struct shard *shard, uint64_t need_bytes)
{
    if (need_bytes > shard->bytes_max / 2) {
        return RESULT_LIMIT;
    }
    enum result result = shard_make_room(shard, need_bytes);
    if (result == RESULT_LIMIT) {
        counter_add(&shard->counters.no_room, 1);
    }
    shard_account(shard);
    return result;
}

/* The most that object, key and head are charged with. */
static uint64_t own_cost_bytes(const struct shard_draft *draft)
{
    return chain_cost_bytes(sizeof(struct cache_object) + draft->key.len) + chain_cost_bytes(head_bytes_of(draft));
}

bool shard_admits(struct shard *shard, const struct shard_draft *draft)
{
    const struct evict_node node = {
        .hash = draft->hash,
        .cost = draft->cost,
        .bytes = own_cost_bytes(draft) + chain_cost_bytes(draft->body_bytes),
    };
    bool is_full = shard->entries_max != 0 && index_count(shard->index) >= shard->entries_max;
    bool has_room = !is_full && shard_has_room(shard, node.bytes);
    bool admits = has_room || shard_find(shard, draft->hash, draft->key) != NULL || evict_admits(shard->evict, &node);
    if (!admits) {
        counter_add(&shard->counters.refused, 1);
    }
    return admits;
}

enum result shard_store_begin(struct shard *shard, struct shard_store *store, const struct shard_draft *draft)
{
    *store = (struct shard_store){.left_bytes = draft->body_bytes};
    if (head_bytes_of(draft) > SLAB_PIECE_BYTES_MAX || draft->body_bytes > shard->bytes_max) {
        return RESULT_LIMIT;
    }
    uint64_t body_cost = chain_cost_bytes(draft->body_bytes);
    uint64_t own_cost = own_cost_bytes(draft);
    uint64_t records = regions_cost_bytes(own_cost + body_cost);
    enum result result = room_for(shard, own_cost + body_cost + records);
    if (result != RESULT_OK) {
        return result;
    }
    store->object = object_make(shard, draft);
    if (store->object == NULL) {
        return store_without_run(shard);
    }
    store->reserved_bytes = body_cost + records;
    shard->reserved_bytes += store->reserved_bytes;
    shard_account(shard);
    return RESULT_OK;
}

/* ---- the body */

/* The next piece of the body, at the end of its chain. */
static struct chunk *body_piece(struct shard *shard, struct shard_store *store)
{
    struct chunk *piece = piece_for(shard, store->left_bytes);
    if (piece == NULL) {
        return NULL;
    }
    if (store->last == NULL) {
        store->object->body = piece;
    } else {
        atomic_store_explicit(&store->last->next, piece, memory_order_relaxed);
    }
    store->last = piece;
    store->object->charged_bytes += piece->bytes;
    uint64_t reserved = store->reserved_bytes < piece->bytes ? store->reserved_bytes : piece->bytes;
    store->reserved_bytes -= reserved;
    shard->reserved_bytes -= reserved;
    return piece;
}

void shard_store_body(struct shard *shard, struct shard_store *store, struct bytes run)
{
    CHECK(run.len <= store->left_bytes);
    while (run.len > 0 && !store->has_failed) {
        struct chunk *piece = store->last;
        if (piece == NULL || chunk_used(piece) == chunk_capacity(piece)) {
            piece = body_piece(shard, store);
        }
        if (piece == NULL) {
            store->has_failed = true;
            break;
        }
        size_t before = run.len;
        piece_fill(piece, &run);
        store->left_bytes -= before - run.len;
    }
    store->left_bytes -= run.len; /* of a store that has failed */
    shard_account(shard);
}

/* ---- the end */

/* Gives back what was reserved and not taken. */
static struct cache_object *store_end(struct shard *shard, struct shard_store *store)
{
    struct cache_object *object = store->object;
    CHECK(object->canary == CACHE_CANARY_STORING);
    shard->reserved_bytes -= store->reserved_bytes;
    *store = (struct shard_store){0};
    return object;
}

void shard_store_abort(struct shard *shard, struct shard_store *store)
{
    shard_discard(shard, store_end(shard, store));
    shard_account(shard);
}

static bool same_key(const struct index_node *node, const void *key)
{
    return cache_object_same_key((const struct cache_object *)(const void *)node, key);
}

/* Puts the object into the index, in the place of what has its key. */
static enum result object_publish(struct shard *shard, struct cache_object *object)
{
    struct index_node *old = index_find(shard->index, object->index.hash, same_key, object);
    if (old != NULL) {
        index_replace(shard->index, old, &object->index);
        shard_unlink(shard, CONTAINER_OF(old, struct cache_object, index), SHARD_REPLACED, true, false);
        return RESULT_OK;
    }
    while (shard->entries_max != 0 && index_count(shard->index) >= shard->entries_max && shard_evict_one(shard)) {
    }
    return index_insert(shard->index, &object->index);
}

enum result shard_store_commit(struct shard *shard, struct shard_store *store)
{
    CHECK(store->left_bytes == 0);
    enum result result = store->has_failed ? RESULT_NO_MEMORY : RESULT_OK;
    struct cache_object *object = store_end(shard, store);
    if (result == RESULT_OK) {
        result = object_publish(shard, object);
    }
    if (result != RESULT_OK) {
        shard_discard(shard, object);
        shard_account(shard);
        return result;
    }
    object->canary = CACHE_CANARY_LIVE;
    object->evict.bytes = object->charged_bytes;
    evict_insert(shard->evict, &object->evict);
    expiry_add(&shard->expiry, object);
    list_push_front(&shard->all, &object->all);
    counter_add(&shard->counters.stores, 1);
    shard_account(shard);
    return RESULT_OK;
}

enum result shard_update_head(struct shard *shard, struct cache_object *object, const struct shard_draft *draft)
{
    size_t bytes = head_bytes_of(draft);
    if (object->canary != CACHE_CANARY_LIVE || bytes > SLAB_PIECE_BYTES_MAX) {
        return RESULT_LIMIT;
    }
    uint64_t cost = chain_cost_bytes(bytes);
    enum result result = room_for(shard, cost + regions_cost_bytes(cost));
    if (result != RESULT_OK) {
        return result;
    }
    if (object->canary != CACHE_CANARY_LIVE) {
        return RESULT_LIMIT; /* it was its own turn to make room */
    }
    struct cache_head *head = head_make(shard, draft);
    if (head == NULL) {
        return store_without_run(shard);
    }
    struct cache_head *old = shard_head(object);
    /* release pairs with the acquire in cache_object_head: the head is whole before it is seen */
    atomic_store_explicit(&object->head, head, memory_order_release);
    object->charged_bytes += head->piece->bytes;
    object->charged_bytes -= old->piece->bytes;
    shard_retire_head(shard, object, old);
    expiry_remove(object);
    object->remove_at_ms = draft->remove_at_ms;
    expiry_add(&shard->expiry, object);
    counter_add(&shard->counters.updates, 1);
    shard_account(shard);
    return RESULT_OK;
}
