#include "cache/flight.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/cache_internal.h"

enum {
    TABLE_BUCKETS_MIN = 256,
    ACKNOWLEDGES_PER_WINDOW = 4, /* a mirror tells how far its readers are at least so often */
};

struct flight {
    struct ring_message message; /* one under way at a time */
    struct cache_core *core;     /* of who claims, and later leads */
    struct flight_waiter *waiter;
    uint64_t hash;
    uint64_t primary_hash;
    struct cache_seen seen; /* under the key, by who claims */
    size_t key_bytes;
    size_t primary_bytes;
    uint32_t waiters_max;
    unsigned shard;
    uint8_t variant;
    /* the owner's */
    struct flight *next;      /* in its bucket */
    struct list_node primary; /* likewise, among those by the primary key's hash */
    uint32_t joined;
    bool is_doomed;
    /* a claim's answer */
    enum flight_answer answer;
    struct flight *target;
    struct mirror *mirror;
    struct entry *joined_entry;
    /* the leader's */
    struct entry *entry;
    struct list_node feeds;
    bool is_open;
    char key[];
};

/* ---- mirrors: reading an entry of another core ---- */

/* Two halves, each its own core's. The mirror's core frees both, when the leader's has let go.
 *
 * Readers copy what they read, so that what they have passed is needed by nobody here. That is told only of a private
 * entry: another's chunks all stay, and who comes late finds the first. */
struct mirror {
    /* the leader's */
    struct cache_core *leader;
    struct entry *source; /* a use of it is ours */
    struct entry_reader reader;
    struct list_node node; /* on the flight's feeds; not linked when the flight has gone */
    struct ring_message news;
    _Atomic bool news_under_way; /* set by the leader, cleared by the mirror before it looks */
    _Atomic bool has_head;       /* what stands in source's head block is constant from then on */
    _Atomic bool is_expelled;
    _Atomic bool is_private;
    _Atomic uint32_t state; /* enum entry_state; its details are constant once it is not FILLING */
    _Atomic uint64_t body_bytes;
    _Atomic uint64_t
        slow_below; /* readers that have not passed this are too slow, if others wait; 0: nothing of the sort */
    _Atomic bool slow_others; /* readers elsewhere wait for them */

    /* the mirror's */
    struct cache_core *core;
    struct entry entry;
    struct entry_filler filler;
    uint64_t acknowledged_bytes;
    _Atomic uint64_t acknowledge_bytes;
    struct ring_message acknowledge; /* to the leader: the readers have passed */
    _Atomic bool acknowledge_under_way;
    struct ring_message detach; /* to the leader: no reader is left */
    struct ring_message gone;   /* to the leader and back: nothing is used any more */
    bool is_open;
    bool is_detached; /* nobody joins it any more */
};

static void news_on_arrived(struct ring *ring, struct ring_message *message);

/* Publishes where the entry is. */
static void feed_snapshot(struct mirror *mirror)
{
    const struct entry *source = mirror->source;
    atomic_store_explicit(&mirror->is_expelled, source->is_expelled, memory_order_relaxed);
    atomic_store_explicit(&mirror->is_private, source->is_private, memory_order_relaxed);
    atomic_store_explicit(&mirror->body_bytes, source->body_bytes, memory_order_relaxed);
    /* release pairs with the acquire in mirror_look: what the head block and the end say was written before */
    atomic_store_explicit(&mirror->has_head, source->status != 0, memory_order_release);
    atomic_store_explicit(&mirror->state, (uint32_t)source->state, memory_order_release);
}

static void feed_tell(struct mirror *mirror)
{
    feed_snapshot(mirror);
    /* seq_cst pairs with mirror_on_news: either the mirror sees what was just published, or we see that it has cleared
     * the mark, and send again. */
    if (!atomic_exchange(&mirror->news_under_way, true)) {
        mirror->news.on_deliver = news_on_arrived;
        ring_post(mirror->leader->ring, mirror->core->index, &mirror->news);
    }
}

static void feed_on_progress(struct entry_reader *reader)
{
    feed_tell(CONTAINER_OF(reader, struct mirror, reader));
}

/* At the leader's: somebody over there holds up the others. */
static void feed_on_slow(struct entry_reader *reader, uint64_t below, bool others_wait)
{
    struct mirror *mirror = CONTAINER_OF(reader, struct mirror, reader);
    atomic_store_explicit(&mirror->slow_others, others_wait, memory_order_relaxed);
    atomic_store_explicit(&mirror->slow_below, below, memory_order_release);
    feed_tell(mirror);
}

static void acknowledge_on_arrived(struct ring *ring, struct ring_message *message);

/* Tells the leader how far all readers here are. */
static void mirror_acknowledge(struct mirror *mirror)
{
    uint64_t passed = mirror->entry.passed_bytes;
    if (mirror->entry.state != ENTRY_FILLING || passed == mirror->acknowledged_bytes) {
        return;
    }
    mirror->acknowledged_bytes = passed;
    atomic_store_explicit(&mirror->acknowledge_bytes, passed, memory_order_relaxed);
    if (!atomic_exchange(&mirror->acknowledge_under_way, true)) {
        mirror->acknowledge.on_deliver = acknowledge_on_arrived;
        ring_post(mirror->core->ring, mirror->leader->index, &mirror->acknowledge);
    }
}

static void mirror_on_passed(struct entry *entry)
{
    struct mirror *mirror = CONTAINER_OF(entry, struct mirror, entry);
    if (entry->passed_bytes - mirror->acknowledged_bytes >=
        mirror->source->window_bytes_max / ACKNOWLEDGES_PER_WINDOW) {
        mirror_acknowledge(mirror);
    }
}

/* The leader's entry keeps what was read no longer: from here on it hears how far that is. */
static void mirror_go_private(struct mirror *mirror)
{
    struct entry *entry = &mirror->entry;
    entry->on_passed = mirror_on_passed;
    entry_watch_slowest(entry);
    mirror_acknowledge(mirror);
}

/* Takes over what is new of the leader's entry. */
static void mirror_look(struct mirror *mirror)
{
    struct entry *entry = &mirror->entry;
    const struct entry *source = mirror->source;
    enum entry_state state = (enum entry_state)atomic_load_explicit(&mirror->state, memory_order_acquire);
    if (entry->status == 0 && atomic_load_explicit(&mirror->has_head, memory_order_acquire)) {
        entry->has_content_length = source->has_content_length;
        entry->has_date = source->has_date;
        entry->has_request_id = source->has_request_id;
        entry->is_event_stream = source->is_event_stream;
        entry->content_length = source->content_length;
        entry->head = source->head;
        entry->head_bytes = source->head_bytes;
        entry->variant = source->variant;
        entry->is_from_tier = source->is_from_tier;
        entry->not_stored_why = source->not_stored_why;
        entry->origin_status = source->origin_status;
        entry->status = source->status;
        entry->first = source->head;
    }
    entry->is_expelled = atomic_load_explicit(&mirror->is_expelled, memory_order_relaxed);
    entry->body_bytes = atomic_load_explicit(&mirror->body_bytes, memory_order_relaxed);
    if (entry->state == ENTRY_FILLING && state != ENTRY_FILLING) {
        entry->failure = source->failure;
        entry->failure_text = source->failure_text;
        entry->was_connected = source->was_connected;
        entry->is_mid_event = source->is_mid_event;
        entry->is_look_again = source->is_look_again;
        entry->is_from_tier = source->is_from_tier;
        entry->is_stored = source->is_stored;
        entry->trailers = source->trailers; /* borrowed: mirror_on_unused takes them out again */
        entry->trailer_bytes = source->trailer_bytes;
        entry->state = state;
        entry->filler = NULL;
        /* acknowledging is over, and leaving needs no word to the filler: gone says it all */
    }
    if (!entry->has_window && atomic_load_explicit(&mirror->is_private, memory_order_relaxed)) {
        mirror_go_private(mirror);
    }
    entry->has_news = true;
}

static void news_on_arrived(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct mirror *mirror = CONTAINER_OF(message, struct mirror, news);
    atomic_exchange(&mirror->news_under_way, false); /* see feed_tell */
    if (mirror->is_detached) {
        return;
    }
    mirror_look(mirror);
    entry_tell(&mirror->entry);
    uint64_t below = atomic_exchange_explicit(&mirror->slow_below, 0, memory_order_acquire);
    if (below > 0 && !mirror->is_detached) {
        entry_shed_slow(&mirror->entry, below, atomic_load_explicit(&mirror->slow_others, memory_order_relaxed));
    }
}

/* Back at the mirror's core: no news can be under way behind this. */
static void gone_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct mirror *mirror = CONTAINER_OF(message, struct mirror, gone);
    mirror->core->under_way--;
    free(mirror);
}

static void feed_leave(struct mirror *mirror)
{
    list_remove(&mirror->node);
    entry_reader_leave(&mirror->reader); /* perhaps the last: the fetch is given up */
}

static void gone_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct mirror *mirror = CONTAINER_OF(message, struct mirror, gone);
    feed_leave(mirror);
    entry_unref(mirror->source);
    mirror->gone.on_deliver = gone_on_returned;
    ring_post(ring, mirror->core->index, &mirror->gone);
}

static void detach_on_arrived(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    feed_leave(CONTAINER_OF(message, struct mirror, detach));
}

/* At the leader's: moves the place up to which the mirror's readers need nothing any more. */
static void acknowledge_on_arrived(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct mirror *mirror = CONTAINER_OF(message, struct mirror, acknowledge);
    atomic_exchange(&mirror->acknowledge_under_way, false);
    uint64_t bytes = atomic_load_explicit(&mirror->acknowledge_bytes, memory_order_relaxed);
    if (mirror->reader.entry != NULL && bytes > mirror->reader.position) {
        entry_reader_acknowledge(&mirror->reader, bytes);
    }
}

static void mirror_on_drained(struct entry_filler *filler)
{
    (void)filler; /* a mirror has no window: the leader's entry counts it as one slow reader */
}

static void mirror_on_abandoned(struct entry_filler *filler)
{
    struct mirror *mirror = CONTAINER_OF(filler, struct mirror, filler);
    if (!mirror->is_detached) {
        mirror->is_detached = true;
        mirror->detach.on_deliver = detach_on_arrived;
        ring_post(mirror->core->ring, mirror->leader->index, &mirror->detach);
    }
}

static void mirror_on_unused(struct entry *entry)
{
    struct mirror *mirror = CONTAINER_OF(entry, struct mirror, entry);
    entry->trailers = NULL; /* the source's */
    mirror->is_detached = true;
    mirror->gone.on_deliver = gone_on_arrived;
    ring_post(mirror->core->ring, mirror->leader->index, &mirror->gone);
}

/* At the leader's: the feed for readers on `core`, one for all of them. */
static struct mirror *mirror_for(struct flight *flight, struct cache_core *core)
{
    for (struct list_node *node = flight->feeds.next; node != &flight->feeds; node = node->next) {
        struct mirror *mirror = CONTAINER_OF(node, struct mirror, node);
        if (mirror->core == core) {
            return mirror; /* if its last reader has just left, its core says so to who comes with this answer */
        }
    }
    struct mirror *mirror = calloc(1, sizeof(*mirror));
    if (mirror == NULL) {
        return NULL;
    }
    mirror->leader = flight->core;
    mirror->core = core;
    mirror->source = flight->entry;
    entry_ref(flight->entry);
    list_init(&mirror->node);
    list_push_back(&flight->feeds, &mirror->node);
    entry_reader_join(&mirror->reader, flight->entry, feed_on_progress);
    mirror->reader.on_slow = feed_on_slow;
    feed_snapshot(mirror);
    return mirror;
}

/* At the mirror's core: its own half, with a use for the caller. FLIGHT_LOOK_AGAIN: it is on its way out.
 * FLIGHT_ALONE: its first bytes may have gone. */
static enum flight_answer mirror_open(struct mirror *mirror, struct entry **ret_entry)
{
    struct entry *entry = &mirror->entry;
    if (mirror->is_detached) {
        return FLIGHT_LOOK_AGAIN;
    }
    if (mirror->is_open && entry->has_window) {
        return FLIGHT_ALONE;
    }
    *ret_entry = entry;
    if (mirror->is_open) {
        entry_ref(entry);
        return FLIGHT_JOINED;
    }
    mirror->is_open = true;
    mirror->core->under_way++;
    mirror->filler = (struct entry_filler){.on_drained = mirror_on_drained, .on_abandoned = mirror_on_abandoned};
    entry_init(entry, NULL, &mirror->filler, 0, false);
    entry->is_mirror = true;
    entry->on_unused = mirror_on_unused;
    mirror_look(mirror);
    return FLIGHT_JOINED;
}

/* ---- the owner's table ---- */

static bool table_make(struct flight_table *table, size_t bucket_count)
{
    *table = (struct flight_table){.bucket_count = bucket_count};
    table->buckets = calloc(bucket_count, sizeof(struct flight *));
    table->primaries = malloc(bucket_count * sizeof(struct list_node));
    if (table->buckets == NULL || table->primaries == NULL) {
        flight_table_fini(table);
        return false;
    }
    for (size_t i = 0; i < bucket_count; i++) {
        list_init(&table->primaries[i]);
    }
    return true;
}

bool flight_table_init(struct flight_table *table)
{
    return table_make(table, TABLE_BUCKETS_MIN);
}

void flight_table_fini(struct flight_table *table)
{
    free(table->buckets);
    free(table->primaries);
    table->buckets = NULL;
    table->primaries = NULL;
}

static struct flight **table_bucket(const struct flight_table *table, uint64_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

static struct list_node *table_primary(const struct flight_table *table, uint64_t primary_hash)
{
    return &table->primaries[primary_hash & (table->bucket_count - 1)];
}

static void table_link(struct flight_table *table, struct flight *flight)
{
    struct flight **bucket = table_bucket(table, flight->hash);
    flight->next = *bucket;
    *bucket = flight;
    list_push_back(table_primary(table, flight->primary_hash), &flight->primary);
    table->count++;
}

/* Twice as many buckets; when memory is out, chains grow instead. */
static void table_grow(struct flight_table *table)
{
    struct flight_table larger;
    if (!table_make(&larger, table->bucket_count * 2)) {
        return;
    }
    for (size_t i = 0; i < table->bucket_count; i++) {
        struct flight *flight = table->buckets[i];
        while (flight != NULL) {
            struct flight *next = flight->next;
            list_remove(&flight->primary);
            table_link(&larger, flight);
            flight = next;
        }
    }
    flight_table_fini(table);
    *table = larger;
}

static struct flight *table_find(const struct flight_table *table, const struct flight *like)
{
    struct flight *flight = *table_bucket(table, like->hash);
    while (flight != NULL &&
           (flight->hash != like->hash || flight->variant != like->variant || flight->key_bytes != like->key_bytes ||
            memcmp(flight->key, like->key, like->key_bytes) != 0)) {
        flight = flight->next;
    }
    return flight;
}

static void table_add(struct flight_table *table, struct flight *flight)
{
    if (table->count >= table->bucket_count) {
        table_grow(table);
    }
    table_link(table, flight);
}

static void table_remove(struct flight_table *table, struct flight *flight)
{
    struct flight **at = table_bucket(table, flight->hash);
    while (*at != flight) {
        at = &(*at)->next;
    }
    *at = flight->next;
    list_remove(&flight->primary);
    table->count--;
}

static bool is_met(const struct flight *flight, const struct shard_filter *filter)
{
    struct bytes key = {flight->key, flight->key_bytes};
    switch (filter->kind) {
    case SHARD_KEY: /* with a few that only begin so: rather fetched once more than stale */
    case SHARD_PREFIX: return bytes_starts_with(key, filter->text);
    case SHARD_TAG: return bytes_starts_with(key, filter->key_prefix); /* its tags are not known yet */
    case SHARD_ALL:
    case SHARD_ROUTE: return true; /* nor is what its route stands for here */
    }
    return true;
}

void flight_table_doom(struct flight_table *table, const struct shard_filter *filter)
{
    for (size_t i = 0; i < table->bucket_count && table->count > 0; i++) {
        for (struct flight *flight = table->buckets[i]; flight != NULL; flight = flight->next) {
            if (is_met(flight, filter)) {
                flight->is_doomed = true;
            }
        }
    }
}

void flight_table_doom_key(struct flight_table *table, const struct cache_key *primary)
{
    const struct list_node *head = table_primary(table, primary->primary_hash);
    for (struct list_node *node = head->next; node != head; node = node->next) {
        struct flight *flight = CONTAINER_OF(node, struct flight, primary);
        struct bytes its = {flight->key, flight->primary_bytes};
        flight->is_doomed = flight->is_doomed || bytes_equal(its, primary->bytes);
    }
}

bool flight_is_doomed(const struct flight *flight)
{
    return flight->is_doomed;
}

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
    case FLIGHT_JOINED: entry_unref(claim->joined_entry); break;
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
        claim->answer = mirror_open(claim->mirror, &claim->joined_entry);
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
        claim->mirror = mirror_for(flight, claim->core);
        if (claim->mirror == NULL) {
            send_answer(leader, claim, FLIGHT_ALONE);
            return;
        }
    }
    send_answer(leader, claim, FLIGHT_JOINED);
}

/* At the owner's. */
static void claim_on_arrived(struct ring *ring, struct ring_message *message)
{
    struct flight *claim = CONTAINER_OF(message, struct flight, message);
    struct cache_core *owner = cache_core_at(claim->core->cache, ring_index(ring));
    struct flight *flight = table_find(&owner->flights, claim);
    struct bytes key = {claim->key, claim->key_bytes};
    struct cache_seen seen = cache_seen_of(flight == NULL ? shard_find(owner->shard, claim->hash, key) : NULL);
    if (flight == NULL && seen.object != NULL && !cache_seen_same(&seen, &claim->seen)) {
        send_answer(owner, claim, FLIGHT_LOOK_AGAIN); /* stored since who claims has looked */
    } else if (flight == NULL) {
        table_add(&owner->flights, claim);
        send_answer(owner, claim, FLIGHT_MINE);
    } else if (flight_is_doomed(flight)) {
        send_answer(owner, claim, FLIGHT_ALONE); /* asked after the purge: must not get what was asked before it */
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
    struct flight *claim = calloc(1, sizeof(*claim) + key->bytes.len);
    if (claim == NULL) {
        return RESULT_NO_MEMORY;
    }
    claim->core = core;
    claim->waiter = waiter;
    claim->hash = key->hash;
    claim->primary_hash = key->primary_hash;
    claim->seen = cache_seen_of(seen);
    claim->key_bytes = key->bytes.len;
    claim->primary_bytes = key->primary_bytes;
    claim->waiters_max = waiters_max;
    claim->shard = key->shard;
    claim->variant = variant;
    list_init(&claim->feeds);
    list_init(&claim->primary);
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

struct bytes flight_key(const struct flight *flight)
{
    return (struct bytes){flight->key, flight->key_bytes};
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
    table_remove(&owner->flights, flight);
    flight->message.on_deliver = settled_on_returned;
    ring_post(ring, flight->core->index, &flight->message);
}

/* No join can be under way any more: the owner has sent the last one before this. */
static void settled_on_returned(struct ring *ring, struct ring_message *message)
{
    (void)ring;
    struct flight *flight = CONTAINER_OF(message, struct flight, message);
    while (!list_is_empty(&flight->feeds)) {
        list_remove(flight->feeds.next); /* mirrors outlive the flight: they have the entry */
    }
    if (flight->entry != NULL) {
        entry_unref(flight->entry);
    }
    flight_free(flight);
}

void flight_release(struct flight *flight)
{
    flight->message.on_deliver = release_on_arrived;
    ring_post(flight->core->ring, flight->shard, &flight->message);
}
