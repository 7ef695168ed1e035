#include "proxy/filling.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/counter.h"
#include "proxy/filling_internal.h"

enum { UNCACHEABLE_MS = 10000 }; /* how long nobody waits for another's fetch of what was not stored */

struct ring *filling_ring(const struct filling *filling)
{
    return cache_core_ring(filling->env->core);
}

static enum fetch_verdict filling_on_head(struct fetch_observer *observer, struct fetch *fetch,
                                          const struct http_head *head, const char *base);
static void filling_on_body(struct fetch_observer *observer, struct bytes run);
static void filling_on_end(struct fetch_observer *observer, struct fetch *fetch, enum result result);

/* ---- life ---- */

struct filling *filling_create(struct filling_env *env, const struct filling_route *route,
                               struct filling_counters *counters, const struct filling_rules *rules,
                               struct fetch *fetch, const struct cache_key *key)
{
    struct filling *filling = calloc(1, sizeof(*filling));
    if (filling == NULL) {
        return NULL;
    }
    arena_init(&filling->arena, NULL, 0);
    filling->key = *key;
    filling->key.bytes = arena_copy(&filling->arena, key->bytes);
    if (filling->key.bytes.ptr == NULL) {
        arena_fini(&filling->arena);
        free(filling);
        return NULL;
    }
    filling->observer = (struct fetch_observer){
        .on_head = filling_on_head,
        .on_body = rules->on_body != NULL ? filling_on_body : NULL,
        .on_end = filling_on_end,
    };
    filling->rules = rules;
    filling->env = env;
    filling->route = route;
    filling->counters = counters;
    filling->fetch = fetch;
    fetch_ref(fetch);
    list_init(&filling->node);
    list_push_back(&env->fillings, &filling->node);
    env->open++;
    return filling;
}

void filling_destroy(struct filling *filling)
{
    if (filling->rules->on_free != NULL) {
        filling->rules->on_free(filling);
    }
    entry_reader_leave(&filling->keeper);
    if (filling->combined != NULL) {
        entry_unref(filling->combined);
    }
    fetch_unref(filling->fetch);
    free(filling->own_record);
    free(filling->marker_record);
    list_remove(&filling->node);
    filling->env->open--;
    arena_fini(&filling->arena);
    free(filling);
}

/* All is settled. */
void filling_finish(struct filling *filling)
{
    if (filling->flight != NULL) {
        flight_release(filling->flight);
        filling->flight = NULL;
    }
    filling_destroy(filling);
}

static void keeper_on_progress(struct entry_reader *reader)
{
    for (;;) {
        struct hold *hold;
        struct bytes run = entry_reader_peek(reader, &hold);
        if (run.len == 0) {
            return;
        }
        entry_reader_pass(reader, run.len);
    }
}

void filling_keep_going(struct filling *filling)
{
    entry_reader_join(&filling->keeper, &filling->fetch->entry, keeper_on_progress);
}

void filling_keep_fetch(struct fetch *fetch)
{
    if (fetch->observer == NULL || fetch->observer->on_head != filling_on_head || fetch->entry.is_private) {
        return;
    }
    struct filling *filling = CONTAINER_OF(fetch->observer, struct filling, observer);
    if (filling->keeper.entry == NULL) {
        filling_keep_going(filling);
        keeper_on_progress(&filling->keeper);
    }
}

void filling_stop_all(struct filling_env *env)
{
    struct list_node *node = env->fillings.next;
    while (node != &env->fillings) {
        struct filling *filling = CONTAINER_OF(node, struct filling, node);
        node = node->next;
        entry_reader_leave(&filling->keeper); /* perhaps the last reader: ends in on_end, from the loop */
    }
}

const char *filling_reason_name(const struct filling_rules *rules, unsigned reason)
{
    static const char *const names[] = {
        [FILLING_OK] = "stored",
        [FILLING_TOO_LARGE] = "too-large",
        [FILLING_FAILED] = "failed",
        [FILLING_NO_ROOM] = "no-room",
        [FILLING_PURGED] = "purged",
        [FILLING_TOO_VARIED] = "too-varied",
        [FILLING_STALE_STANDS] = "stale-stands",
    };
    return reason < FILLING_REASON_RULES ? names[reason] : rules->reason_name(reason - FILLING_REASON_RULES);
}

/* ---- start ---- */

void filling_fetch(struct filling *filling)
{
    filling->fetch->observer = &filling->observer;
    fetch_start(filling->fetch);
}

void filling_start(struct filling *filling, struct flight *flight)
{
    struct ring *ring = filling_ring(filling);
    filling->flight = flight;
    filling->started_ns = ring_now(ring);
    filling->started_ms = ring_unix_ms(ring);
    filling->fetch->entry.is_private = false; /* all of it is kept, until it proves not to be worth it */
    filling->fetch->entry.keep_bytes_max = cache_object_bytes_max(filling->env->core);
    if (flight != NULL) {
        flight_begin(flight, &filling->fetch->entry);
    }
    if (filling->may_find_in_tier && filling_look_in_tier(filling)) {
        return;
    }
    filling_fetch(filling);
}

void filling_take_over(struct filling *filling)
{
    struct entry *entry = &filling->fetch->entry;
    filling->started_ns = filling->fetch->started_ns;
    filling->started_ms = ring_unix_ms(filling_ring(filling));
    entry->is_private = false;
    entry->keep_bytes_max = cache_object_bytes_max(filling->env->core);
    filling->fetch->observer = &filling->observer;
}

/* ---- the head ---- */

static bool keep_line(const struct http_field *field)
{
    return !field->drop && field->id != HTTP_FIELD_CONTENT_LENGTH && field->id != HTTP_FIELD_TRANSFER_ENCODING;
}

enum result filling_take_lines(struct filling *filling, const struct http_head *head, const char *base,
                               bool (*keep)(const struct filling *filling, const struct http_field *field,
                                            const char *base))
{
    char *start = arena_alloc(&filling->arena, head->head_bytes + 4);
    if (start == NULL) {
        return RESULT_NO_MEMORY;
    }
    struct shard_draft *draft = &filling->draft;
    struct freshness *freshness = &draft->freshness;
    freshness->etag_bytes = 0;
    freshness->last_modified_bytes = 0;
    draft->has_date = false;
    draft->has_request_id = false;
    char *at = start;
    for (unsigned i = 0; i < head->field_count; i++) {
        const struct http_field *field = &head->fields[i];
        /* X-Request-Id is of the request that fetched, not of those that will be answered. */
        if (!keep_line(field) || field->id == HTTP_FIELD_X_REQUEST_ID || !keep(filling, field, base)) {
            continue;
        }
        struct bytes name = http_field_name(field, base);
        struct bytes value = http_field_value(field, base);
        at = bytes_put(at, name);
        at = bytes_put(at, BYTES(": "));
        if (bytes_equal_nocase(name, BYTES("etag")) && freshness->etag_bytes == 0) {
            freshness->etag_at = (uint16_t)(at - start);
            freshness->etag_bytes = (uint16_t)value.len;
        } else if (bytes_equal_nocase(name, BYTES("last-modified")) && freshness->last_modified_bytes == 0) {
            freshness->last_modified_at = (uint16_t)(at - start);
            freshness->last_modified_bytes = (uint16_t)value.len;
        }
        draft->has_date = draft->has_date || field->id == HTTP_FIELD_DATE;
        at = bytes_put(at, value);
        at = bytes_put(at, BYTES("\r\n"));
    }
    draft->lines = (struct bytes){start, (size_t)(at - start)};
    return RESULT_OK;
}

static void filling_refuse(struct filling *filling)
{
    if (filling->flight != NULL && flight_is_open(filling->flight)) {
        flight_close(filling->flight, filling->is_expelling);
    }
    if (filling->is_expelling) {
        int64_t now_ms = ring_unix_ms(filling_ring(filling));
        cache_mark_uncacheable(filling->env->core, filling->key.hash, now_ms + UNCACHEABLE_MS);
    }
    entry_make_private(&filling->fetch->entry);
}

static enum fetch_verdict filling_on_head(struct fetch_observer *observer, struct fetch *fetch,
                                          const struct http_head *head, const char *base)
{
    struct filling *filling = CONTAINER_OF(observer, struct filling, observer);
    filling->draft.key = filling->key.bytes;
    filling->draft.hash = filling->key.hash;
    filling->draft.route = filling->route->index;
    filling->draft.status = head->status;
    filling->reason = FILLING_OK;
    filling->rules->on_head(filling, head, base);
    if (filling->is_swallowing) {
        return FETCH_SWALLOW;
    }
    if (filling->is_out_of_memory) {
        return FETCH_GIVE_UP;
    }
    if (filling->reason == FILLING_OK && head->has_content_length &&
        head->content_length > cache_object_bytes_max(filling->env->core)) {
        filling->reason = FILLING_TOO_LARGE;
    }
    fetch->entry.is_stored = filling->reason == FILLING_OK && !filling->is_join_only;
    fetch->entry.not_stored_why =
        filling->reason == FILLING_OK ? NULL : filling_reason_name(filling->rules, filling->reason);
    if (filling->reason != FILLING_OK) {
        filling_refuse(filling);
    }
    return filling->is_taken ? FETCH_TAKEN : FETCH_TAKE;
}

static void filling_on_body(struct fetch_observer *observer, struct bytes run)
{
    struct filling *filling = CONTAINER_OF(observer, struct filling, observer);
    if (filling->reason == FILLING_OK) {
        filling->rules->on_body(filling, run);
    }
}

/* ---- the end ---- */

static void marker_on_done(struct cache_put *put, enum result result)
{
    (void)result; /* without a marker the variant is not found, and goes in its time */
    filling_finish(CONTAINER_OF(put, struct filling, marker));
}

/* Whoever waits finds what has just been made fresh, or asks anew. */
void filling_look_again(struct filling *filling)
{
    struct entry *entry = &filling->fetch->entry;
    if (filling->flight != NULL) {
        flight_close(filling->flight, false);
    }
    entry->is_look_again = true;
    entry_fail(entry, RESULT_CANCELED);
    entry_tell(entry);
}

static void put_on_done(struct cache_put *put, enum result result)
{
    struct filling *filling = CONTAINER_OF(put, struct filling, put);
    if (result == RESULT_OK) {
        counter_add(put->kind == CACHE_PUT_UPDATE ? &filling->counters->updated : &filling->counters->stored, 1);
    } else {
        unsigned reason = result == RESULT_CANCELED ? FILLING_PURGED : FILLING_NO_ROOM;
        counter_add(&filling->counters->not_stored[reason], 1);
    }
    if (result != RESULT_CANCELED) {
        filling_write_behind(filling); /* what memory has no room for, too: there is more of it on disk */
    }
    if (filling->is_swallowing) {
        filling->fetch->entry.is_stored = result == RESULT_OK;
        filling_look_again(filling);
    }
    if (result == RESULT_OK && filling->has_marker) {
        filling->marker.draft.cost = filling->draft.cost; /* without it, what it leads to is lost */
        filling->marker.shard = filling->key.shard;
        filling->marker.flight = filling->flight;
        filling->marker.primary_bytes = filling->key.primary_bytes;
        filling->marker.asked_ns = filling->put.asked_ns;
        filling->marker.on_done = marker_on_done;
        cache_put(filling->env->core, &filling->marker);
        return;
    }
    filling_finish(filling);
}

static double cost_of(const struct filling *filling)
{
    double seconds = (double)filling->draft.cost_ns / (double)NANOS_PER_S;
    switch (filling->route->cost) {
    case FILLING_COST_TOKENS:
        if (filling->draft.cost_tokens > 0) {
            return (double)filling->draft.cost_tokens;
        }
        break;
    case FILLING_COST_UNIFORM: return 1.0;
    default: break;
    }
    return seconds > 1e-6 ? seconds : 1e-6;
}

/* The entry is complete: it goes to the shard's owner. */
static void filling_store(struct filling *filling)
{
    struct shard_draft *draft = &filling->draft;
    struct entry *entry = filling->combined != NULL ? filling->combined : &filling->fetch->entry;
    struct ring *ring = filling_ring(filling);
    draft->body_bytes = entry->body_bytes;
    draft->trailers = (struct bytes){entry->trailers, entry->trailer_bytes};
    draft->is_event_stream = entry->is_event_stream;
    draft->has_content_length = entry->has_content_length;
    draft->content_length = entry->content_length;
    draft->cost_ns = ring_now(ring) - filling->started_ns;
    draft->cost = cost_of(filling);
    filling->put.kind = CACHE_PUT_STORE;
    filling->put.draft = *draft;
    filling->put.draft.ticket = filling->ticket;
    filling->put.entry = entry;
    filling->put.shard = filling->key.shard;
    filling->put.flight = filling->flight;
    filling->put.primary_bytes = filling->key.primary_bytes;
    /* A POST's answer is stored behind the removal that it has caused itself. */
    filling->put.asked_ns = filling->method == STORING_POST_LOCATED ? 0 : filling->started_ns;
    filling->put.on_done = put_on_done;
    filling->put_ns = ring_now(ring);
    cache_put(filling->env->core, &filling->put);
}

static void filling_update(struct filling *filling)
{
    filling->put.kind = CACHE_PUT_UPDATE;
    filling->put.draft = filling->draft;
    filling->put.draft.ticket = filling->ticket;
    filling->put.shard = filling->key.shard;
    filling->put.on_done = put_on_done;
    cache_put(filling->env->core, &filling->put);
}

bool filling_is_unreachable(enum result failure)
{
    switch (failure) {
    case RESULT_REFUSED:
    case RESULT_TIMEOUT:
    case RESULT_CLOSED:
    case RESULT_RESET:
    case RESULT_UNREACHABLE:
    case RESULT_SHED:
    case RESULT_IO: return true;
    default: return false;
    }
}

/* What the origin failed at; our own want of memory, a client that left, and one that was never sent say nothing of it.
 */
static void mark_failure(struct filling *filling, enum result result)
{
    bool is_unreachable = filling_is_unreachable(result);
    if (!filling->fetch->is_abandoned && result != RESULT_SHED && (is_unreachable || result == RESULT_PROTOCOL)) {
        int64_t now_ms = ring_unix_ms(filling_ring(filling));
        cache_mark_failed(filling->env->core, filling->key.hash, now_ms, is_unreachable);
    }
}

static void filling_on_end(struct fetch_observer *observer, struct fetch *fetch, enum result result)
{
    struct filling *filling = CONTAINER_OF(observer, struct filling, observer);
    struct entry *entry = &fetch->entry;
    if (result == RESULT_OK && filling->is_refetching) {
        filling_look_again(filling);
        filling_finish(filling);
        return;
    }
    if (result == RESULT_OK && (filling->is_swallowing || filling->is_freshening)) {
        filling_update(filling);
        return;
    }
    if (result != RESULT_OK) {
        filling->reason = FILLING_FAILED;
        mark_failure(filling, result);
    } else if (filling->reason == FILLING_OK && entry->is_private) {
        filling->reason = FILLING_TOO_LARGE; /* that turned out on the way */
    } else if (filling->reason == FILLING_OK && filling->rules->on_end != NULL) {
        filling->rules->on_end(filling);
    }
    if (filling->reason == FILLING_OK) {
        filling_store(filling);
        return;
    }
    counter_add(&filling->counters->not_stored[filling->reason < FILLING_REASONS_MAX ? filling->reason : 0], 1);
    if (filling->flight != NULL && flight_is_open(filling->flight)) {
        flight_close(filling->flight, false);
    }
    filling_finish(filling);
}
