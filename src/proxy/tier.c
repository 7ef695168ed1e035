/* The head of a record: a fixed struct, then what the record's key, tags and body do not hold.
 *
 *   magic, version | fixed | lines | trailers | note
 *
 * Written and read by one machine: the fixed part is in its own byte order, and its size is part of the version. The
 * checksum is there because SQLite has none: what a disk has changed is not to be answered with. */
#include "proxy/tier.h"

#include <string.h>
#include <xxhash.h>

#include "base/check.h"

enum { TIER_VERSION = 2 };
#define TIER_MAGIC UINT32_C(0x534c5443)

struct tier_fixed {
    uint32_t magic;
    uint16_t version;
    uint16_t fixed_bytes;
    uint64_t checksum; /* XXH3 of body and head, itself taken as 0 */
    struct freshness freshness;
    uint64_t cost_ns;
    uint64_t cost_tokens;
    uint32_t lines_bytes;
    uint32_t trailer_bytes;
    uint32_t note_bytes;
    uint16_t status;
    uint8_t has_date;
    uint8_t is_event_stream;
    uint8_t form;
};

static uint64_t checksum_of(const struct cache_tier_record *record, const struct tier_fixed *given)
{
    struct tier_fixed fixed;
    memcpy(&fixed, given, sizeof(fixed)); /* with its padding, which an assignment may leave out */
    fixed.checksum = 0;
    uint64_t sum = XXH3_64bits(record->body.ptr, record->body.len);
    sum = XXH3_64bits_withSeed(record->head.ptr + sizeof(fixed), record->head.len - sizeof(fixed), sum);
    return XXH3_64bits_withSeed(&fixed, sizeof(fixed), sum);
}

struct cache_tier_record *tier_record(const struct shard_draft *draft, const struct entry *entry, struct bytes route,
                                      int64_t now_ms)
{
    size_t head_bytes = sizeof(struct tier_fixed) + draft->lines.len + draft->trailers.len + draft->note.len;
    const struct cache_tier_record like = {
        .key = draft->key,
        .route = route,
        .tags = draft->tags,
        .head = {NULL, head_bytes},
        .body = {NULL, entry == NULL ? 0 : entry->body_bytes},
        .cost = draft->cost,
        .made_ms = now_ms,
        .remove_at_ms = draft->remove_at_ms,
        .last_used_ms = now_ms,
    };
    struct cache_tier_record *record = cache_tier_record_create(&like);
    if (record == NULL) {
        return NULL;
    }
    struct tier_fixed fixed;
    memset(&fixed, 0, sizeof(fixed)); /* its padding is written, too */
    fixed.magic = TIER_MAGIC;
    fixed.version = TIER_VERSION;
    fixed.fixed_bytes = sizeof(fixed);
    fixed.freshness = draft->freshness;
    fixed.cost_ns = draft->cost_ns;
    fixed.cost_tokens = draft->cost_tokens;
    fixed.lines_bytes = (uint32_t)draft->lines.len;
    fixed.trailer_bytes = (uint32_t)draft->trailers.len;
    fixed.note_bytes = (uint32_t)draft->note.len;
    fixed.status = draft->status;
    fixed.has_date = draft->has_date;
    fixed.is_event_stream = draft->is_event_stream;
    fixed.form = draft->form;
    char *at = cache_tier_record_bytes(record->head);
    at += sizeof(fixed);
    at = bytes_put(at, draft->lines);
    at = bytes_put(at, draft->trailers);
    bytes_put(at, draft->note);
    at = cache_tier_record_bytes(record->body);
    for (const struct chunk *chunk = entry == NULL ? NULL : entry->first; chunk != NULL;
         chunk = atomic_load_explicit(&chunk->next, memory_order_acquire)) {
        size_t skip = chunk == entry->head ? entry->head_bytes : 0;
        at = bytes_put(at, (struct bytes){chunk->data + skip, chunk_used(chunk) - skip});
    }
    CHECK((size_t)(at - record->body.ptr) == record->body.len);
    fixed.checksum = checksum_of(record, &fixed);
    bytes_put(cache_tier_record_bytes(record->head), (struct bytes){(const char *)&fixed, sizeof(fixed)});
    return record;
}

bool tier_read_head(const struct cache_tier_record *record, struct shard_draft *ret_draft)
{
    struct tier_fixed fixed;
    if (record->head.len < sizeof(fixed)) {
        return false;
    }
    memcpy(&fixed, record->head.ptr, sizeof(fixed));
    uint64_t rest = record->head.len - sizeof(fixed);
    if (fixed.magic != TIER_MAGIC || fixed.version != TIER_VERSION || fixed.fixed_bytes != sizeof(fixed) ||
        (uint64_t)fixed.lines_bytes + fixed.trailer_bytes + fixed.note_bytes != rest ||
        (uint64_t)fixed.freshness.etag_at + fixed.freshness.etag_bytes > fixed.lines_bytes ||
        (uint64_t)fixed.freshness.last_modified_at + fixed.freshness.last_modified_bytes > fixed.lines_bytes ||
        fixed.checksum != checksum_of(record, &fixed)) {
        return false;
    }
    const char *at = record->head.ptr + sizeof(fixed);
    *ret_draft = (struct shard_draft){
        .key = record->key,
        .lines = {at, fixed.lines_bytes},
        .trailers = {at + fixed.lines_bytes, fixed.trailer_bytes},
        .note = {at + fixed.lines_bytes + fixed.trailer_bytes, fixed.note_bytes},
        .tags = record->tags,
        .freshness = fixed.freshness,
        .content_length = record->body.len,
        .body_bytes = record->body.len,
        .cost_ns = fixed.cost_ns,
        .cost_tokens = fixed.cost_tokens,
        .cost = record->cost,
        .remove_at_ms = record->remove_at_ms,
        .status = fixed.status,
        .has_content_length = true,
        .has_date = fixed.has_date != 0,
        .is_event_stream = fixed.is_event_stream != 0,
        .form = fixed.form,
    };
    return true;
}
