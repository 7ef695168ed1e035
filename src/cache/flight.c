#include "cache/flight.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/flight_internal.h"

/* ---- claiming ---- */

static void flight_free(struct flight *flight)
{
    flight->core->under_way--;
    free(flight);
}

static void settled_on_returned(struct ring *ring, struct ring_message *message);

/* An answer came for somebody who has gone. */
static void claim_drop(struct flight *claim)
{
    switch (claim->answer) {
    case FLIGHT_MINE: flight_release(claim); return;
    case FLIGHT_JOINED:
        CHECK(claim->joined_entry != NULL);
        entry_unref(claim->joined_entry);
        break;
    case FLIGHT_LOOK_AGAIN:
    case FLIGHT_ALONE: break;
    }
    flight_free(claim);
}

static void answer_on_arrived(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct flight *claim = CONTAINER_OF(message, struct flight, message);
    if (claim->mirror != NULL) {
        claim->answer = flight_mirror_open(claim->mirror, &claim->joined_entry);
    } else if (claim->joined_entry != NULL && claim->joined_entry->is_private) {
        entry_unref(claim->joined_entry); /* since it was said, its first bytes may have gone */
        claim->joined_entry = NULL;
        claim->answer = FLIGHT_ALONE;
    }
    struct flight_waiter *waiter = claim->waiter;
    if (waiter == NULL) {
        claim_drop(claim);
        return;
    }
    enum flight_answer answer = claim->answer;
    waiter->claim = NULL;
    waiter->flight = answer == FLIGHT_MINE ? claim : NULL;
    waiter->entry = claim->joined_entry;
    claim->waiter = NULL;
    if (answer != FLIGHT_MINE) {
        flight_free(claim);
    }
    waiter->on_answer(waiter, answer);
}

static void send_answer(struct cache_core *from, struct flight *claim, enum flight_answer answer)
{
    claim->answer = answer;
    claim->message.on_deliver = answer_on_arrived;
    ring_post(from->ring, claim->core->index, &claim->message);
}

/* At the leader's: leads the claimer to the entry. */
static void join_on_arrived(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct flight *claim = CONTAINER_OF(message, struct flight, message);
    struct flight *flight = claim->target;
    struct cache_core *leader = flight->core;
    const struct entry *entry = flight->entry;
    if (!flight->is_open || entry->is_private) {
        /* What goes on is for those who read it already; what is over may be stored. */
        bool goes_on = entry != NULL && entry->state == ENTRY_FILLING;
        send_answer(leader, claim, goes_on ? FLIGHT_ALONE : FLIGHT_LOOK_AGAIN);
        return;
    }
    if (claim->core == leader) {
        entry_ref(flight->entry);
        claim->joined_entry = flight->entry;
    } else {
        claim->mirror = flight_mirror_for(flight, claim->core);
        if (claim->mirror == NULL) {
            send_answer(leader, claim, FLIGHT_ALONE);
            return;
        }
    }
    send_answer(leader, claim, FLIGHT_JOINED);
}

static void claim_on_arrived(struct ring *ring, struct ring_message *message);

/* At the leader's, of a flight for the same key in another shape. What is there to be stored may serve both shapes in a
 * moment: waiting for that costs less than fetching it again. Before, each shape is fetched on its own, for neither
 * could be shown before the other's end. */
static void sibling_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct flight *claim = CONTAINER_OF(message, struct flight, message);
    struct flight *flight = claim->target;
    const struct entry *entry = flight->entry;
    claim->target = NULL;
    if (flight->is_released) {
        send_answer(flight->core, claim, FLIGHT_LOOK_AGAIN);
    } else if (flight->is_open && entry->state == ENTRY_COMPLETE && !entry->is_private) {
        list_push_back(&flight->parked, &claim->primary);
    } else {
        claim->passes_siblings = true;
        claim->message.on_deliver = claim_on_arrived;
        ring_post(ring, claim->shard, &claim->message);
    }
}

/* At the owner's. */
static void claim_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct flight *claim = CONTAINER_OF(message, struct flight, message);
    struct cache_core *owner = cache_core_at(claim->core->cache, ring_index(ring));
    struct flight *flight = flight_table_find(&owner->flights, claim);
    struct flight *sibling = claim->passes_siblings ? NULL : flight_table_find_sibling(&owner->flights, claim);
    struct bytes key = {claim->key, claim->key_bytes};
    struct cache_seen seen = cache_seen_of(flight == NULL ? shard_find(owner->shard, claim->hash, key) : NULL);
    if (flight == NULL && seen.object != NULL && !cache_seen_same(&seen, &claim->seen)) {
        send_answer(owner, claim, FLIGHT_LOOK_AGAIN); /* stored since who claims has looked */
    } else if (flight == NULL && sibling != NULL) {
        claim->target = sibling;
        claim->message.on_deliver = sibling_on_arrived;
        ring_post(ring, sibling->core->index, &claim->message);
    } else if (flight == NULL) {
        flight_table_add(&owner->flights, claim);
        send_answer(owner, claim, FLIGHT_MINE);
    } else if (flight->joined >= claim->waiters_max) {
        send_answer(owner, claim, FLIGHT_ALONE);
    } else {
        flight->joined++;
        claim->target = flight;
        claim->message.on_deliver = join_on_arrived;
        ring_post(ring, flight->core->index, &claim->message);
    }
}

enum result flight_claim(struct cache_core *core, struct flight_waiter *waiter, const struct cache_key *key,
                         const struct cache_object *seen, uint8_t variant, uint32_t waiters_max)
{
    struct flight *claim = malloc(sizeof(*claim) + key->bytes.len);
    if (claim == NULL) {
        return RESULT_NO_MEMORY;
    }
    *claim = (struct flight){
        .core = core,
        .waiter = waiter,
        .hash = key->hash,
        .primary_hash = key->primary_hash,
        .seen = cache_seen_of(seen),
        .key_bytes = key->bytes.len,
        .primary_bytes = key->primary_bytes,
        .waiters_max = waiters_max,
        .shard = key->shard,
        .variant = variant,
    };
    list_init(&claim->feeds);
    list_init(&claim->primary);
    list_init(&claim->parked);
    memcpy(claim->key, key->bytes.ptr, key->bytes.len);
    core->under_way++;
    waiter->claim = claim;
    waiter->flight = NULL;
    waiter->entry = NULL;
    claim->message.on_deliver = claim_on_arrived;
    ring_post(core->ring, key->shard, &claim->message);
    return RESULT_OK;
}

void flight_claim_cancel(struct flight_waiter *waiter)
{
    if (waiter->claim != NULL) {
        waiter->claim->waiter = NULL;
        waiter->claim = NULL;
    }
}

/* ---- leading ---- */

void flight_begin(struct flight *flight, struct entry *entry)
{
    entry_ref(entry);
    flight->entry = entry;
    flight->is_open = true;
}

void flight_close(struct flight *flight, bool expel)
{
    flight->is_open = false;
    flight->entry->is_expelled = flight->entry->is_expelled || expel;
}

bool flight_is_open(const struct flight *flight)
{
    return flight->is_open;
}

static void release_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct flight *flight = CONTAINER_OF(message, struct flight, message);
    struct cache_core *owner = cache_core_at(flight->core->cache, ring_index(ring));
    flight_table_remove(&owner->flights, flight);
    flight->message.on_deliver = settled_on_returned;
    ring_post(ring, flight->core->index, &flight->message);
}

/* No join can be under way any more: the owner has sent the last one before this. */
static void settled_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct flight *flight = CONTAINER_OF(message, struct flight, message);
    flight_mirrors_leave(flight);
    if (flight->entry != NULL) {
        entry_unref(flight->entry);
    }
    flight_free(flight);
}

void flight_release(struct flight *flight)
{
    flight->is_released = true;
    while (!list_is_empty(&flight->parked)) {
        struct flight *claim = CONTAINER_OF(flight->parked.next, struct flight, primary);
        list_remove(&claim->primary);
        send_answer(flight->core, claim, FLIGHT_LOOK_AGAIN);
    }
    flight->message.on_deliver = release_on_arrived;
    ring_post(flight->core->ring, flight->shard, &flight->message);
}
