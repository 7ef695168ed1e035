/* Each turn: what nobody reads any more is freed, what has expired is unlinked, room is made ahead. */
#include <stdlib.h>

#include "cache/shard_internal.h"

/* ---- which of the retired are pinned */

static int address_compare(const void *a, const void *b)
{
    uintptr_t one = (uintptr_t) * (const void *const *)a;
    uintptr_t other = (uintptr_t) * (const void *const *)b;
    return (one > other) - (one < other);
}

/* Asks about the first `count` of shard.addresses; they are then sorted, and each is there once: so many are left. */
static size_t pins_look(struct shard *shard, size_t count)
{
    if (count == 0) {
        return 0;
    }
    qsort(shard->addresses, count, sizeof(shard->addresses[0]), address_compare);
    size_t kept = 1;
    for (size_t i = 1; i < count; i++) {
        if (shard->addresses[i] != shard->addresses[kept - 1]) {
            shard->addresses[kept++] = shard->addresses[i];
        }
    }
    qsbr_find_pinned(shard->qsbr, shard->addresses, kept, shard->is_pinned);
    return kept;
}

static bool pins_have(const struct shard *shard, size_t count, const void *address)
{
    const void *const *found = bsearch(&address, shard->addresses, count, sizeof(shard->addresses[0]), address_compare);
    return shard->is_pinned[found - shard->addresses];
}

/* Moves up to SHARD_RETIRED_PER_TURN objects of `from`, whose epochs have passed, to where they now belong. */
static void sort_out_objects(struct shard *shard, struct list_node *from, uint64_t passed)
{
    size_t count = 0;
    for (struct list_node *node = from->next; node != from && count < SHARD_RETIRED_PER_TURN; node = node->next) {
        struct cache_object *object = CONTAINER_OF(node, struct cache_object, all);
        if (object->retired_epoch > passed) {
            break;
        }
        shard->addresses[count++] = object;
    }
    size_t known = pins_look(shard, count);
    for (; count > 0; count--) {
        struct cache_object *object = CONTAINER_OF(list_pop_front(from), struct cache_object, all);
        shard->pinned_bytes -= from == &shard->pinned ? object->charged_bytes : 0;
        if (pins_have(shard, known, object)) {
            shard->pinned_bytes += object->charged_bytes;
            list_push_back(&shard->pinned, &object->all);
        } else {
            list_push_back(&shard->freeing, &object->all);
        }
    }
}

static void head_free(struct shard *shard, struct cache_head *head)
{
    shard->retired_bytes -= head->piece->bytes;
    slab_free(&shard->slab, head->piece);
}

/* The same for heads, which are one piece and freed at once. */
static void sort_out_heads(struct shard *shard, struct list_node *from, uint64_t passed)
{
    size_t count = 0;
    for (struct list_node *node = from->next; node != from && count < SHARD_RETIRED_PER_TURN; node = node->next) {
        struct cache_head *head = CONTAINER_OF(node, struct cache_head, retired);
        if (head->retired_epoch > passed) {
            break;
        }
        shard->addresses[2 * count] = head;
        shard->addresses[2 * count + 1] = head->object;
        count++;
    }
    size_t known = pins_look(shard, 2 * count);
    for (; count > 0; count--) {
        struct cache_head *head = CONTAINER_OF(list_pop_front(from), struct cache_head, retired);
        shard->pinned_bytes -= from == &shard->pinned_heads ? head->piece->bytes : 0;
        if (pins_have(shard, known, head) || pins_have(shard, known, head->object)) {
            shard->pinned_bytes += head->piece->bytes;
            list_push_back(&shard->pinned_heads, &head->retired);
        } else {
            head_free(shard, head);
        }
    }
}

/* Looks at what is retired; true while more of it could be freed at once. */
static bool reclaim(struct shard *shard, int64_t now_ms)
{
    bool has_pinned = !list_is_empty(&shard->pinned) || !list_is_empty(&shard->pinned_heads);
    if (has_pinned && (shard->is_starved || now_ms >= shard->pins_again_ms)) {
        sort_out_objects(shard, &shard->pinned, UINT64_MAX);
        sort_out_heads(shard, &shard->pinned_heads, UINT64_MAX);
        shard->pins_again_ms = now_ms + SHARD_PIN_WAIT_MS;
    }
    if (list_is_empty(&shard->retired) && list_is_empty(&shard->retired_heads)) {
        return false;
    }
    uint64_t passed = qsbr_passed(shard->qsbr);
    sort_out_objects(shard, &shard->retired, passed);
    sort_out_heads(shard, &shard->retired_heads, passed);
    struct cache_object *object = CONTAINER_OF(shard->retired.next, struct cache_object, all);
    struct cache_head *head = CONTAINER_OF(shard->retired_heads.next, struct cache_head, retired);
    return (!list_is_empty(&shard->retired) && object->retired_epoch <= passed) ||
           (!list_is_empty(&shard->retired_heads) && head->retired_epoch <= passed);
}

/* ---- freeing */

/* Frees the next piece of an object that nobody sees; false: that was all of it. */
static bool object_free_piece(struct shard *shard, struct cache_object *object)
{
    CHECK(object->canary == CACHE_CANARY_RETIRED);
    struct chunk **chain = object->body != NULL ? &object->body : &object->key_rest;
    struct chunk *piece = *chain;
    struct cache_head *head = shard_head(object);
    if (piece != NULL) {
        *chain = atomic_load_explicit(&piece->next, memory_order_relaxed);
    } else if (head != NULL) {
        piece = head->piece;
        atomic_store_explicit(&object->head, NULL, memory_order_relaxed);
    } else {
        piece = object->piece;
        object->canary = CACHE_CANARY_FREE;
        list_remove(&object->all);
    }
    bool is_last = piece == object->piece;
    shard->retired_bytes -= piece->bytes;
    slab_free(&shard->slab, piece);
    return !is_last;
}

static void free_some(struct shard *shard)
{
    unsigned pieces = 0;
    while (pieces < SHARD_PIECES_PER_TURN && !list_is_empty(&shard->freeing)) {
        struct cache_object *object = CONTAINER_OF(shard->freeing.next, struct cache_object, all);
        do {
            pieces++;
        } while (object_free_piece(shard, object) && pieces < SHARD_PIECES_PER_TURN);
    }
}

/* Regions come and go all the time in a full cache: they are given back when they have become a matter of percents. */
static bool trim(struct shard *shard)
{
    size_t charged = shard->slab.charged_bytes;
    return shard->slab.mapped_bytes > charged + charged / 32 + SLAB_REGION_BYTES &&
           slab_trim(&shard->slab, SHARD_TRIMS_PER_TURN);
}

/* ---- the turn */

/* True while there is more than a turn's worth. */
static bool expire(struct shard *shard, int64_t now_ms)
{
    unsigned looks = SHARD_EXPIRIES_PER_TURN;
    struct cache_object *object;
    while ((object = expiry_take(&shard->expiry, now_ms, &looks)) != NULL) {
        shard_unlink(shard, object, SHARD_EXPIRED, false, false);
    }
    return looks == 0;
}

/* More is charged than may be, after a grace period too: the shard was made smaller. */
static bool is_too_large(const struct shard *shard)
{
    uint64_t taken =
        shard->slab.charged_bytes + shard->reserved_bytes + index_bytes(shard->index) + evict_bytes(shard->evict);
    return taken > shard->bytes_max + (shard->retired_bytes - shard->pinned_bytes);
}

/* True while there is more than a turn's worth. */
static bool shrink(struct shard *shard)
{
    if (shard_purge_step(shard, &shard->shrinking, SHARD_SHRINKS_PER_TURN)) {
        return true;
    }
    bool is_smaller = shard->bytes_max < shard->made_bytes_max; /* nearly never: a turn is to stay cheap */
    for (unsigned i = 0; is_smaller && is_too_large(shard); i++) {
        if (i == SHARD_SHRINKS_PER_TURN) {
            return true;
        }
        if (!shard_evict_one(shard)) {
            return false; /* what is left is its tables */
        }
    }
    return false;
}

bool shard_turn(struct shard *shard, int64_t now_ms)
{
    shard->now_ms = now_ms;
    bool has_more = expire(shard, now_ms);
    has_more |= shrink(shard);
    has_more |= reclaim(shard, now_ms);
    free_some(shard);
    has_more |= !list_is_empty(&shard->freeing);
    has_more |= trim(shard);
    shard->is_index_moving = index_work(shard->index, SHARD_BUCKETS_PER_TURN);
    shard->is_starved = false;
    shard_account(shard);
    return has_more;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

int64_t shard_next_ms(const struct shard *shard)
{
    int64_t next_ms = expiry_next_ms(&shard->expiry);
    if (!list_is_empty(&shard->freeing)) {
        return shard->now_ms;
    }
    if (!list_is_empty(&shard->retired) || !list_is_empty(&shard->retired_heads) || shard->is_index_moving) {
        next_ms = earlier(next_ms, shard->now_ms + SHARD_GRACE_WAIT_MS);
    }
    if (!list_is_empty(&shard->pinned) || !list_is_empty(&shard->pinned_heads)) {
        next_ms = earlier(next_ms, shard->pins_again_ms);
    }
    return next_ms;
}
