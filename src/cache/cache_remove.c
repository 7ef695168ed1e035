/* Removing: one key's answers, or all that a purge's filter meets. */
#include <stdlib.h>
#include <string.h>

#include "cache/cache_internal.h"

/* ---- one ---- */

nanos *cache_core_removal_of(struct cache_core *owner, struct bytes primary)
{
    const struct cache_key key = cache_key_make(owner->cache, primary, primary.len);
    return &owner->removed_ns[key.hash % CACHE_REMOVALS];
}

static void remove_at_owner(struct cache_core *owner, const struct cache_key *key, enum shard_cause cause)
{
    *cache_core_removal_of(owner, key->bytes) = ring_now(owner->ring);
    flight_table_doom_key(&owner->flights, key);
    struct cache_object *object = shard_find(owner->shard, key->hash, key->bytes);
    if (object != NULL) {
        shard_remove(owner->shard, object, cause);
    }
}

static void removal_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct cache_removal *removal = CONTAINER_OF(message, struct cache_removal, message);
    removal->core->under_way--;
    removal->on_done(removal);
}

static void removal_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct cache_removal *removal = CONTAINER_OF(message, struct cache_removal, message);
    remove_at_owner(cache_core_at(removal->core->cache, ring_index(ring)), &removal->key, removal->cause);
    removal->message.on_deliver = removal_on_returned;
    ring_post(ring, removal->core->index, &removal->message);
}

void cache_remove_and_tell(struct cache_core *core, struct cache_removal *removal)
{
    removal->core = core;
    core->under_way++;
    removal->message.on_deliver = removal_on_arrived;
    ring_post(core->ring, removal->key.shard, &removal->message);
}

/* One that nobody waits for, with the key that it removes. */
struct own_removal {
    struct cache_removal removal;
    char bytes[];
};

static void own_removal_on_done(struct cache_removal *removal)
{
    free(CONTAINER_OF(removal, struct own_removal, removal));
}

void cache_remove(struct cache_core *core, const struct cache_key *key, enum shard_cause cause)
{
    struct own_removal *own = malloc(sizeof(*own) + key->primary_bytes);
    if (own == NULL) {
        return; /* what is stored lives on until it is stale: the same as for a gateway that was not asked */
    }
    memcpy(own->bytes, key->bytes.ptr, key->primary_bytes);
    struct bytes primary = {own->bytes, key->primary_bytes};
    own->removal = (struct cache_removal){
        .key = cache_key_make(core->cache, primary, primary.len),
        .cause = cause,
        .on_done = own_removal_on_done,
    };
    cache_remove_and_tell(core, &own->removal);
}

/* ---- many ---- */

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

void cache_core_work_on_purges(struct cache_core *core)
{
    if (list_is_empty(&core->purges)) {
        return;
    }
    struct cache_purge_part *part = CONTAINER_OF(core->purges.next, struct cache_purge_part, node);
    if (!shard_purge_step(core->shard, &part->shard, CACHE_PURGE_STEP_OBJECTS)) {
        list_remove(&part->node);
        part->message.on_deliver = part_on_returned;
        ring_post(core->ring, part->purge->core->index, &part->message);
    }
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
