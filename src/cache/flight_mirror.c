/* Mirrors: reading an entry of another core.
 *
 * Two halves, each its own core's. The mirror's core frees both, when the leader's has let go.
 *
 * Readers copy what they read, so that what they have passed is needed by nobody here. That is told only of a private
 * entry: another's chunks all stay, and who comes late finds the first. */
#include <stdlib.h>

#include "cache/flight_internal.h"

/* A mirror tells how far its readers are at least so often. */
enum { ACKNOWLEDGES_PER_WINDOW = 4 };

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
    _Atomic uint64_t slow_below; /* readers that have not passed this are too slow; 0: nothing of the sort */
    _Atomic bool slow_others;    /* readers elsewhere wait for them */

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
    /* seq_cst pairs with news_on_arrived: either the mirror sees what was just published, or we see that it has cleared
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
        entry->ticket = source->ticket;
        entry->head = source->head;
        entry->head_bytes = source->head_bytes;
        entry->variant = source->variant;
        entry->freshness = source->freshness;
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
        entry->shed = source->shed;
        entry->retry_after_ms = source->retry_after_ms;
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

struct mirror *flight_mirror_for(struct flight *flight, struct cache_core *core)
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

enum flight_answer flight_mirror_open(struct mirror *mirror, struct entry **ret_entry)
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

void flight_mirrors_leave(struct flight *flight)
{
    while (!list_is_empty(&flight->feeds)) {
        list_remove(flight->feeds.next); /* mirrors outlive the flight: they have the entry */
    }
}
