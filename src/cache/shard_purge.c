/* Purging: a cursor that stands between the objects of a shard and walks away from where new ones are put. */
#include "cache/shard_internal.h"

void shard_purge_begin(struct shard *shard, struct shard_purge *purge, const struct shard_filter *filter)
{
    *purge = (struct shard_purge){.filter = *filter};
    list_push_back(&shard->purges, &purge->node);
    list_push_front(&shard->all, &purge->cursor);
}

void shard_purge_end(struct shard_purge *purge)
{
    list_remove(&purge->node);
    list_remove(&purge->cursor);
}

/* Whether a node of shard.all is the cursor of some purge. They are few: a purge is somebody's explicit request. */
static bool is_cursor(const struct shard *shard, const struct list_node *node)
{
    for (const struct list_node *at = shard->purges.next; at != &shard->purges; at = at->next) {
        if (node == &((const struct shard_purge *)(const void *)at)->cursor) {
            return true;
        }
    }
    return false;
}

_Static_assert(offsetof(struct shard_purge, node) == 0, "a purge is found by its node");

static bool has_tag(const struct cache_object *object, struct bytes tag)
{
    struct bytes tags = cache_head_tags(shard_head(object));
    while (tags.len > 0) {
        const char *end = memchr(tags.ptr, '\n', tags.len);
        size_t len = end == NULL ? tags.len : (size_t)(end - tags.ptr);
        if (bytes_equal((struct bytes){tags.ptr, len}, tag)) {
            return true;
        }
        len += end != NULL;
        tags.ptr += len;
        tags.len -= len;
    }
    return false;
}

/* Whether a piece of the chain lies there. */
static bool chain_reaches(const struct chunk *piece, const char *address)
{
    while (piece != NULL && (const char *)piece < address) {
        piece = atomic_load_explicit(&piece->next, memory_order_relaxed);
    }
    return piece != NULL;
}

static bool reaches(const struct cache_object *object, const char *address)
{
    return (const char *)object >= address || (const char *)shard_head(object) >= address ||
           chain_reaches(object->body, address) || chain_reaches(object->key_rest, address);
}

static bool filter_matches(const struct shard_filter *filter, const struct cache_object *object)
{
    switch (filter->kind) {
    case SHARD_ALL: return true;
    case SHARD_KEY: return cache_object_has_first_line(object, filter->text);
    case SHARD_PREFIX: return cache_object_has_prefix(object, filter->text);
    case SHARD_TAG: return cache_object_has_prefix(object, filter->key_prefix) && has_tag(object, filter->text);
    case SHARD_ROUTE: return object->route == filter->route;
    case SHARD_BEYOND: return reaches(object, filter->address);
    }
    return false;
}

bool shard_purge_step(struct shard *shard, struct shard_purge *purge, unsigned objects)
{
    if (!list_is_linked(&purge->node)) {
        return false;
    }
    while (objects > 0 && purge->cursor.next != &shard->all) {
        struct list_node *node = purge->cursor.next;
        list_remove(&purge->cursor);
        list_push_front(node, &purge->cursor); /* behind it */
        objects--;
        if (is_cursor(shard, node)) {
            continue;
        }
        struct cache_object *object = CONTAINER_OF(node, struct cache_object, all);
        if (filter_matches(&purge->filter, object)) {
            purge->removed += shard_head(object)->status != 0; /* what only tells where variants are is no answer */
            shard_unlink(shard, object, purge->filter.cause, false, false);
        }
    }
    shard_account(shard);
    if (purge->cursor.next != &shard->all) {
        return true;
    }
    shard_purge_end(purge);
    return false;
}
