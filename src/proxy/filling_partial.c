/* Filling with parts (RFC 9111 §3.3, §3.4).
 *
 *   client's range, 206 ──▶ client, as it is;  at the end: joined to the part that is stored, or stored in its place
 *   part 0–k stored, all wanted: `Range: k+1-` ─▶ 206 ─▶ entry: head as of a 200, the stored bytes, then those that
 * come
 *
 * A part is stored as an object with status 206 and one Content-Range line, which says what it holds. When nothing is
 * missing any more it is stored as a 200. Joining copies in one turn, so that what is joined is bounded. */
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "proxy/filling_internal.h"
#include "proxy/forward.h"

static const struct cache_object *stored_part(const struct filling *filling, struct range_partial *ret_partial)
{
    const struct cache_object *object = cache_find(filling->env->core, &filling->key);
    if (object == NULL || cache_object_head(object)->status != 206 ||
        !range_partial_of_stored(cache_head_lines(cache_object_head(object)), ret_partial) ||
        range_bytes(ret_partial->range) != object->body_bytes) {
        return NULL;
    }
    return object;
}

/* Whether what has come goes together with what is stored, and how. */
static const struct cache_object *find_join(const struct filling *filling, const struct range_partial *received,
                                            const struct validators *validators, struct range_join *ret_join)
{
    struct range_partial stored;
    const struct cache_object *object = stored_part(filling, &stored);
    if (object == NULL) {
        return NULL;
    }
    struct validators its = validators_of_stored(cache_object_head(object));
    bool fits = range_combine(&stored, &its, received, validators, ret_join) &&
                range_bytes(ret_join->partial.range) <= FILLING_JOIN_BYTES_MAX;
    return fits ? object : NULL;
}

static void drop_content_range(struct http_parser *parser, const char *text)
{
    for (unsigned i = 0; i < parser->head.field_count; i++) {
        struct http_field *field = &parser->head.fields[i];
        if (bytes_equal_nocase(http_field_name(field, text), BYTES("content-range"))) {
            field->drop = true;
        }
    }
}

/* ---- a client's range ---- */

void filling_partial_on_head(struct filling *filling, const struct http_head *head, const char *base)
{
    struct http_own *own = filling->own;
    filling->reason = FILLING_REASON_RULES + STORING_PARTIAL;
    if (!range_may_store_partial(head, base, &own->partial)) {
        return;
    }
    filling_http_judge(filling, head, base, &own->verdict);
    if (own->verdict.reason != STORING_OK) {
        filling->reason = FILLING_REASON_RULES + own->verdict.reason;
        return;
    }
    int64_t now_ms = ring_unix_ms(cache_core_ring(filling->env->core));
    struct validators validators = validators_of_response(head, base, now_ms);
    struct range_join join;
    const struct cache_object *object = find_join(filling, &own->partial, &validators, &join);
    struct http_parser *merged = NULL;
    char *text = NULL;
    if (object != NULL) {
        own->combines_ms = cache_object_head(object)->freshness.response_ms;
        merged = filling_http_merge(cache_object_head(object), 206, head, base, &own->verdict, &text);
    }
    if (merged != NULL) {
        filling_http_judge(filling, &merged->head, text, &own->verdict);
    } else {
        own->combines_ms = 0;
    }
    bool is_taken =
        merged != NULL ? filling_http_take(filling, &merged->head, text) : filling_http_take(filling, head, base);
    free(merged);
    free(text);
    filling->reason = is_taken ? FILLING_OK : FILLING_TOO_VARIED;
}

enum result filling_partial_append(struct entry *entry, const struct chunk *chunk, uint64_t skip, uint64_t offset,
                                   uint64_t bytes)
{
    enum result result = RESULT_OK;
    offset += skip;
    while (bytes > 0 && result == RESULT_OK) {
        CHECK(chunk != NULL);
        uint32_t used = chunk_used(chunk);
        if (offset < used) {
            uint64_t part = used - offset < bytes ? used - offset : bytes;
            result = entry_append(entry, (struct bytes){chunk->data + offset, part});
            bytes -= part;
            offset = 0;
        } else {
            offset -= used;
        }
        chunk = atomic_load_explicit(&chunk->next, memory_order_acquire);
    }
    return result;
}

static void combined_on_unused(struct entry *entry)
{
    entry_fini(entry);
    free(entry);
}

/* Makes an entry of the stored part and the one that has come. NULL when memory is out. */
static struct entry *combine(struct filling *filling, const struct cache_object *object, const struct range_join *join)
{
    const struct entry *received = &filling->fetch->entry;
    struct entry *entry = malloc(sizeof(*entry));
    if (entry == NULL) {
        return NULL;
    }
    entry_init(entry, received->pool, NULL, 0, false);
    entry->on_unused = combined_on_unused;
    enum result result = RESULT_OK;
    for (unsigned i = 0; i < join->count && result == RESULT_OK; i++) {
        struct range_piece piece = join->pieces[i];
        bool has_head = received->first == received->head;
        result = piece.is_new ? filling_partial_append(entry, received->first, has_head ? received->head_bytes : 0,
                                                       piece.offset, piece.bytes)
                              : filling_partial_append(entry, object->body, 0, piece.offset, piece.bytes);
    }
    if (result != RESULT_OK) {
        entry_unref(entry);
        return NULL;
    }
    entry->has_content_length = true;
    entry->content_length = entry->body_bytes;
    entry_complete(entry, NULL, 0);
    return entry;
}

/* Writes what the part holds behind its other lines, or makes the whole of it a 200. */
static bool describe(struct filling *filling, const struct range_partial *partial)
{
    struct shard_draft *draft = &filling->draft;
    if (range_partial_is_complete(partial)) {
        draft->status = 200;
        return true;
    }
    char *start = arena_alloc(&filling->arena, draft->lines.len + RANGE_LINE_BYTES_MAX);
    if (start == NULL) {
        return false;
    }
    char *at = bytes_put(start, draft->lines);
    at = range_put_content_range(at, partial->range, partial->complete_bytes);
    draft->lines = (struct bytes){start, (size_t)(at - start)};
    return true;
}

void filling_partial_on_end(struct filling *filling)
{
    struct http_own *own = filling->own;
    const struct entry *entry = &filling->fetch->entry;
    bool is_delimited = filling->fetch->body.kind != HTTP_BODY_UNTIL_CLOSE;
    const struct cache_object *whole = cache_find(filling->env->core, &filling->key);
    bool has_whole = whole != NULL && cache_object_head(whole)->status == 200; /* worth more than a part of it */
    if (has_whole || !range_partial_settle(&own->partial, entry->body_bytes, is_delimited)) {
        filling->reason = FILLING_REASON_RULES + STORING_PARTIAL;
        return;
    }
    struct range_join join;
    const struct cache_object *object = NULL;
    if (own->combines_ms != 0) {
        /* That they are of one representation was seen in the head; the stored one must still be that. */
        struct range_partial stored;
        object = stored_part(filling, &stored);
        struct validators its;
        if (object != NULL) {
            its = validators_of_stored(cache_object_head(object));
        }
        if (object != NULL && (cache_object_head(object)->freshness.response_ms != own->combines_ms ||
                               !range_combine(&stored, &its, &own->partial, &its, &join))) {
            object = NULL;
        }
    }
    if (object != NULL) {
        filling->combined = combine(filling, object, &join);
    }
    if (!describe(filling, filling->combined != NULL ? &join.partial : &own->partial)) {
        filling->reason = FILLING_NO_ROOM;
    }
}

/* ---- the rest of what is wanted whole ---- */

/* Puts the head of a 200, and the bytes that are stored, in front of those that come. */
static bool put_beginning(struct filling *filling, const struct cache_object *object, const struct http_parser *merged,
                          const char *text, uint64_t complete_bytes)
{
    struct entry *entry = &filling->fetch->entry;
    if (forward_response_head(entry, &merged->head, text) != RESULT_OK) {
        return false;
    }
    entry->has_content_length = true;
    entry->content_length = complete_bytes;
    entry->origin_status = 206;
    return filling_partial_append(entry, object->body, 0, 0, object->body_bytes) == RESULT_OK;
}

bool filling_partial_complete(struct filling *filling, const struct http_head *head, const char *base)
{
    if (head->status != 206 && head->status != 416) {
        return false;
    }
    struct http_own *own = filling->own;
    int64_t now_ms = ring_unix_ms(cache_core_ring(filling->env->core));
    struct validators validators = validators_of_response(head, base, now_ms);
    struct range_join join;
    struct http_parser *merged = NULL;
    char *text = NULL;
    const struct cache_object *object = NULL;
    /* The client is promised a length: the rest has to be promised to us. */
    if (range_may_store_partial(head, base, &own->partial) && head->has_content_length &&
        head->content_length == range_bytes(own->partial.range)) {
        object = find_join(filling, &own->partial, &validators, &join);
    }
    if (object != NULL && range_partial_is_complete(&join.partial) && join.count == 2 && !join.pieces[0].is_new &&
        join.pieces[1].offset == 0) {
        filling_http_judge(filling, head, base, &own->verdict);
        merged = filling_http_merge(cache_object_head(object), 200, head, base, &own->verdict, &text);
    }
    if (merged == NULL) { /* what is stored is of no use for this: ask for all */
        filling->is_swallowing = true;
        filling->is_refetching = true;
        cache_remove(filling->env->core, &filling->key, SHARD_REPLACED);
        return true;
    }
    drop_content_range(merged, text);
    filling->draft.status = 200;
    filling->is_taken = true;
    filling->is_out_of_memory = !put_beginning(filling, object, merged, text, join.partial.complete_bytes);
    filling_http_judge(filling, &merged->head, text, &own->verdict);
    if (own->verdict.reason != STORING_OK) {
        filling->reason = FILLING_REASON_RULES + own->verdict.reason;
    } else if (!filling_http_take(filling, &merged->head, text)) {
        filling->reason = FILLING_TOO_VARIED;
    }
    filling->is_expelling = filling->reason != FILLING_OK;
    free(merged);
    free(text);
    return true;
}
