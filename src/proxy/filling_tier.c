/* A filling's dealings with the second tier.
 *
 *   look ─▶ an answer ─▶ rules->on_record ─▶ into the entry; and into memory
 *      │       └─ no rule: into memory ─▶ all who wait look again, and find it there
 *      ├──▶ a marker ─▶ into memory; look for the variant, by one set of fields after the other
 *      └──▶ nothing, or nothing that will do ─▶ fetch
 *
 * Found in memory, an answer is judged there like any other: by its freshness, the client's conditions and ranges. */
#include <stdlib.h>
#include <string.h>

#include "base/counter.h"
#include "proxy/filling_internal.h"
#include "proxy/tier.h"

static void on_record(struct ring *ring, struct cache_tier_get *get);

static bool ask_tier(struct filling *filling, const struct cache_key *key)
{
    filling->tier_key = *key;
    filling->get.key = filling->tier_key.bytes;
    filling->get.now_ms = filling->started_ms;
    filling->get.on_done = on_record;
    return cache_tier_get(filling->env->store, ring_index(filling_ring(filling)), &filling->get) == RESULT_OK;
}

bool filling_look_in_tier(struct filling *filling)
{
    return filling->env->store != NULL && ask_tier(filling, &filling->key);
}

static void drop_record(struct filling *filling)
{
    free(filling->own_record);
    filling->own_record = NULL;
    filling->draft = (struct shard_draft){0};
}

/* Nothing here will do. */
static void go_on(struct filling *filling)
{
    drop_record(filling);
    if (filling->fetch->is_abandoned) {
        entry_fail(&filling->fetch->entry, RESULT_CANCELED);
        entry_tell(&filling->fetch->entry); /* somebody may have joined since */
        filling_finish(filling);
    } else {
        filling_fetch(filling);
    }
}

/* ---- answers ---- */

static void count_hit(struct filling *filling)
{
    counter_add(&filling->counters->tier_hits, 1);
}

/* Into the entry as if it had been fetched. */
static bool fill_entry(struct filling *filling, const struct filling_replay *replay)
{
    struct entry *entry = &filling->fetch->entry;
    const struct shard_draft *draft = &filling->draft;
    const struct bytes age = BYTES("Age: ");
    uint64_t age_s = freshness_age_s(&draft->freshness, filling->started_ms);
    char *at;
    size_t head_bytes_max = replay->lines.len + age.len + 24;
    if (head_bytes_max > CHUNK_LARGE_BYTES - sizeof(struct chunk) ||
        replay->body.len > cache_object_bytes_max(filling->env->core)) {
        return false; /* written when more was allowed */
    }
    if (entry_room_for_head(entry, head_bytes_max, &at) != RESULT_OK) {
        return false;
    }
    char *start = at;
    at = bytes_put(bytes_put(at, replay->lines), age);
    at += bytes_put_u64(at, age_s);
    at = bytes_put(at, BYTES("\r\n"));
    entry->has_content_length = true;
    entry->content_length = replay->body.len;
    entry->has_date = draft->has_date;
    entry->has_request_id = false;
    entry->is_event_stream = replay->is_event_stream;
    entry->is_from_tier = true;
    entry_commit_head(entry, draft->status, (size_t)(at - start));
    enum result result = entry_append(entry, replay->body);
    if (result == RESULT_OK) {
        entry_complete(entry, NULL, 0);
    } else {
        entry_fail(entry, result);
    }
    return true;
}

static void served_on_done(struct cache_put *put, enum result result)
{
    (void)result; /* it has been given; the next request finds it on disk again */
    filling_finish(CONTAINER_OF(put, struct filling, put));
}

static void loaded_on_done(struct cache_put *put, enum result result)
{
    struct filling *filling = CONTAINER_OF(put, struct filling, put);
    if (result != RESULT_OK) {
        go_on(filling); /* no room in memory, or it has just been purged */
        return;
    }
    count_hit(filling);
    filling->fetch->entry.is_from_tier = true;
    filling_look_again(filling);
    filling_finish(filling);
}

static void load(struct filling *filling, void (*on_done)(struct cache_put *put, enum result result))
{
    filling->put.kind = CACHE_PUT_ADD;
    filling->put.draft = filling->draft;
    filling->put.draft.ticket = filling->ticket;
    filling->put.entry = NULL;
    filling->put.body = filling->own_record->body;
    filling->put.shard = filling->tier_key.shard;
    filling->put.flight = filling->flight;
    filling->put.primary_bytes = filling->tier_key.primary_bytes;
    filling->put.asked_ns = filling->started_ns;
    /* Where it is answered from memory only, a refusal would mean to ask the origin for what is at hand. */
    filling->put.is_wanted = filling->rules->on_record == NULL;
    filling->put.on_done = on_done;
    cache_put(filling->env->core, &filling->put);
}

static void on_answer(struct filling *filling)
{
    struct fetch *fetch = filling->fetch;
    struct shard_draft *draft = &filling->draft;
    draft->key = filling->tier_key.bytes;
    draft->hash = filling->tier_key.hash;
    draft->route = filling->route->index;
    if (filling->rules->on_record == NULL) {
        load(filling, loaded_on_done);
        return;
    }
    struct filling_replay replay = {draft->lines, filling->own_record->body, draft->is_event_stream};
    if (!filling->rules->on_record(filling, &replay) || !fill_entry(filling, &replay)) {
        go_on(filling);
        return;
    }
    count_hit(filling);
    counter_add(&filling->counters->tier_saved_ns, draft->cost_ns);
    counter_add(&filling->counters->tier_saved_tokens, draft->cost_tokens);
    load(filling, served_on_done);
    fetch_ref(fetch);
    entry_tell(&fetch->entry);
    fetch_unref(fetch);
}

/* ---- markers ---- */

/* Looks for the variant by the next set of fields. */
static void try_next_set(struct filling *filling)
{
    struct shard_draft draft;
    struct cache_key key;
    while (tier_read_head(filling->marker_record, &draft) &&
           filling->rules->variant(filling, draft.note, filling->marker_sets++, &key)) {
        if (key.bytes.ptr != NULL && ask_tier(filling, &key)) {
            return;
        }
    }
    go_on(filling);
}

static void marker_on_loaded(struct cache_put *put, enum result result)
{
    struct filling *filling = CONTAINER_OF(put, struct filling, marker);
    if (result == RESULT_OK) {
        try_next_set(filling);
    } else {
        go_on(filling);
    }
}

static void on_marker(struct filling *filling, struct cache_tier_record *record, const struct shard_draft *draft)
{
    filling->marker_record = record;
    struct cache_put *put = &filling->marker;
    *put = (struct cache_put){
        .kind = CACHE_PUT_ADD,
        .draft = *draft,
        .shard = filling->tier_key.shard,
        .flight = filling->flight,
        .primary_bytes = filling->tier_key.primary_bytes,
        .asked_ns = filling->started_ns,
        .is_wanted = true,
        .on_done = marker_on_loaded,
    };
    put->draft.key = filling->tier_key.bytes;
    put->draft.hash = filling->tier_key.hash;
    put->draft.route = filling->route->index;
    put->draft.cost = FILLING_MARKER_COST;
    cache_put(filling->env->core, put);
}

static void on_record(struct ring *ring, struct cache_tier_get *get)
{
    (void)ring;
    struct filling *filling = CONTAINER_OF(get, struct filling, get);
    struct cache_tier_record *record = get->outcome == CACHE_TIER_FOUND ? get->record : NULL;
    struct shard_draft draft;
    bool is_read = record != NULL && tier_read_head(record, &draft);
    filling->tier_has_none = get->outcome == CACHE_TIER_MISS;
    if (filling->fetch->is_abandoned || !is_read) {
        free(record);
        if (filling->marker_record != NULL && !filling->fetch->is_abandoned) {
            try_next_set(filling);
        } else {
            go_on(filling);
        }
    } else if (draft.status != 0) {
        filling->own_record = record;
        filling->draft = draft;
        on_answer(filling);
    } else if (filling->marker_record == NULL && filling->rules->variant != NULL) {
        on_marker(filling, record, &draft);
    } else {
        free(record);
        go_on(filling);
    }
}

/* ---- writing ---- */

static void remove_record(struct filling_env *env, struct bytes key)
{
    struct cache_tier_purge purge = {.kind = CACHE_TIER_PURGE_KEY, .text = key};
    cache_tier_purge(env->store, ring_index(cache_core_ring(env->core)), &purge);
}

static void write_record(struct filling *filling, const struct shard_draft *draft, const struct entry *entry)
{
    struct cache_tier_record *record = tier_record(draft, entry, filling->route->name, filling->started_ms);
    if (record != NULL) {
        /* A purge may have come behind the put. One of the key is told to memory and here at once. One of many is told
         * here again when it is through with memory, where whatever came before it was not stored. */
        record->asked_ns = filling->put.asked_ns;
        record->many_ns = filling->put_ns;
        cache_tier_put(filling->env->store, record);
    }
}

void filling_write_behind(struct filling *filling)
{
    struct filling_env *env = filling->env;
    bool is_part = filling->draft.status == 206; /* only wholes are kept there */
    if (env->store == NULL || filling->put.kind != CACHE_PUT_STORE || is_part) {
        return;
    }
    bool is_worth_it = filling->draft.cost_ns >= env->tier_cost_min_ns;
    if (is_worth_it) {
        write_record(filling, &filling->draft, filling->put.entry);
    } else if (!filling->tier_has_none) {
        remove_record(env, filling->key.bytes); /* what is there is older */
    }
    if (filling->has_marker && is_worth_it) {
        struct shard_draft marker = filling->marker.draft;
        marker.cost = filling->draft.cost; /* it stays as long as what it leads to */
        write_record(filling, &marker, NULL);
    } else if (filling->has_marker && !filling->tier_has_none) {
        remove_record(env, filling->marker.draft.key);
    }
}

void filling_remove(struct filling_env *env, const struct cache_key *key, enum shard_cause cause)
{
    if (env->store != NULL) {
        remove_record(env, (struct bytes){key->bytes.ptr, key->primary_bytes});
    }
    cache_remove(env->core, key, cause);
}
