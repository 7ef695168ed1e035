/* Making a stored answer's head fresh (RFC 9111 §4.3.4, §4.3.5).
 *
 *   304 to our question ─▶ the stored head with its fields ─▶ for everybody: swapped in; who waits finds it
 *                                                          ─▶ for one client: goes to that one, with the stored body
 *                       ─▶ speaks of something else: what was asked about goes, ask anew
 *   200 to HEAD         ─▶ likewise swapped in; or what is stored becomes stale; or it says nothing of it
 *
 * What may not be stored as a 200 may not get into what is stored as a 304 either: its cookie, or what was said to who
 * has credentials, would be handed to everybody. */
#include <stdio.h>
#include <stdlib.h>

#include "cache/conditional.h"
#include "cache/update.h"
#include "cache/vary.h"
#include "proxy/filling_internal.h"
#include "proxy/forward.h"

struct http_parser *filling_http_merge(const struct cache_head *stored, uint16_t status, const struct http_head *head,
                                       const char *base, const struct storing_verdict *verdict, char **ret_text)
{
    struct bytes lines = cache_head_lines(stored);
    struct http_parser *parser = malloc(sizeof(*parser));
    char *text = malloc(update_lines_bytes_max(lines, head) + 64);
    if (parser == NULL || text == NULL) {
        free(parser);
        free(text);
        return NULL;
    }
    int line_bytes = snprintf(text, 32, "HTTP/1.1 %03u X\r\n", status);
    char *at = update_put_lines(text + line_bytes, lines, head, base, verdict);
    at = bytes_put(at, BYTES("\r\n"));
    const struct http_limits limits = {
        .head_bytes_max = CHUNK_LARGE_BYTES - sizeof(struct chunk), /* as of one that comes: it fits into an entry */
        .target_bytes_max = HTTP_HEAD_BYTES_MAX,
        .fields_max = HTTP_FIELDS_MAX,
    };
    http_parser_init(parser, HTTP_RESPONSE, &limits);
    http_parser_response_to_head(parser);
    if (http_parse_head(parser, text, (size_t)(at - text)) != RESULT_OK) {
        free(parser);
        free(text);
        return NULL;
    }
    *ret_text = text;
    return parser;
}

static const struct cache_object *find_stored(const struct filling *filling)
{
    const struct cache_object *object = cache_find(filling->env->core, &filling->key);
    bool is_whole =
        object != NULL && !filling_is_marker(cache_object_head(object)) && cache_object_head(object)->status != 206;
    return is_whole ? object : NULL;
}

/* What is the stored answer's and stays so; lines, tags and freshness are the caller's to set. */
static bool draft_as_stored(struct filling *filling, const struct cache_head *stored)
{
    struct shard_draft *draft = &filling->draft;
    draft->status = stored->status;
    draft->has_content_length = stored->has_content_length;
    draft->content_length = stored->content_length;
    draft->is_event_stream = stored->is_event_stream;
    draft->form = stored->form;
    draft->trailers = arena_copy(&filling->arena, cache_head_trailers(stored));
    draft->note = arena_copy(&filling->arena, cache_head_note(stored));
    draft->key = filling->key.bytes;
    draft->hash = filling->key.hash;
    filling->put.replaces_ms = stored->freshness.response_ms;
    return draft->trailers.ptr != NULL && draft->note.ptr != NULL;
}

/* ---- the stored head with a new one's fields ---- */

enum freshened {
    FRESHENED_FOR_ALL,
    FRESHENED_FOR_ONE,   /* to be given to who has asked alone; what is stored holds all the same */
    FRESHENED_FORBIDS,   /* likewise, and what is stored must not be used any more */
    FRESHENED_NO_MEMORY, /* or it has become too large */
};

struct merged {
    struct http_parser *parser;
    char *text;
};

static void merged_free(struct merged *merged)
{
    free(merged->parser);
    free(merged->text);
}

/* Whether it is selected by the same fields of requests as before: only then is it still where it will be looked for,
 * and found by those alone for whom it is. */
static bool varies_as_before(const struct cache_head *stored, const struct merged *merged)
{
    struct vary_set before;
    struct vary_set after;
    return vary_of_lines(cache_head_lines(stored), &before) &&
           vary_of_response(&merged->parser->head, merged->text, &after) &&
           bytes_equal(vary_set_text(&before), vary_set_text(&after));
}

static enum freshened merge(struct filling *filling, const struct cache_head *stored, const struct http_head *head,
                            const char *base, struct merged *ret_merged)
{
    struct http_own *own = filling->own;
    *ret_merged = (struct merged){0};
    filling_http_judge(filling, head, base, &own->verdict); /* which of its fields may be taken over */
    ret_merged->parser = filling_http_merge(stored, stored->status, head, base, &own->verdict, &ret_merged->text);
    if (ret_merged->parser == NULL) {
        return FRESHENED_NO_MEMORY;
    }
    filling_http_judge(filling, &ret_merged->parser->head, ret_merged->text, &own->verdict);
    switch (own->verdict.reason) {
    case STORING_NO_STORE:
    case STORING_PRIVATE: return FRESHENED_FORBIDS;
    case STORING_AUTHORIZATION:
    case STORING_REQUEST_NO_STORE:
    case STORING_SET_COOKIE: return FRESHENED_FOR_ONE;
    default: return varies_as_before(stored, ret_merged) ? FRESHENED_FOR_ALL : FRESHENED_FORBIDS;
    }
}

/* Makes the draft of a new head for the stored answer. */
static bool freshen(struct filling *filling, const struct cache_head *stored, const struct merged *merged)
{
    const struct http_own *own = filling->own;
    filling->draft.freshness = own->verdict.freshness;
    const struct http_head *head = &merged->parser->head;
    bool ok = draft_as_stored(filling, stored) && filling_http_take_lines(filling, head, merged->text) &&
              filling_http_take_tags(filling, head, merged->text);
    filling->draft.remove_at_ms = filling_http_remove_at_ms(filling);
    return ok;
}

/* ---- HEAD ---- */

/* Makes the draft of a head like the stored one, but stale. */
static bool outdate(struct filling *filling, const struct cache_head *stored)
{
    struct shard_draft *draft = &filling->draft;
    draft->freshness = stored->freshness;
    draft->freshness.lifetime_ms = 0;
    draft->freshness.stale_while_revalidate_ms = 0;
    draft->has_date = stored->has_date;
    draft->lines = arena_copy(&filling->arena, cache_head_lines(stored));
    draft->tags = arena_copy(&filling->arena, cache_head_tags(stored));
    draft->remove_at_ms = filling_http_remove_at_ms(filling);
    return draft_as_stored(filling, stored) && draft->lines.ptr != NULL && draft->tags.ptr != NULL;
}

void filling_freshen_on_head(struct filling *filling, const struct http_head *head, const char *base)
{
    int64_t now_ms = ring_unix_ms(filling_ring(filling));
    const struct cache_object *object = find_stored(filling);
    const struct cache_head *stored = object == NULL ? NULL : cache_object_head(object);
    filling->reason = FILLING_REASON_RULES + STORING_METHOD;
    if (head->status != 200 || stored == NULL || stored->status != 200) {
        return;
    }
    struct validators validators = validators_of_stored(stored);
    if (update_by_head(&validators, object->body_bytes, head, base, now_ms) == UPDATE_BY_HEAD_OUTDATES) {
        filling->is_freshening = outdate(filling, stored);
        return;
    }
    struct merged merged;
    switch (merge(filling, stored, head, base, &merged)) {
    case FRESHENED_FOR_ALL: filling->is_freshening = freshen(filling, stored, &merged); break;
    case FRESHENED_FORBIDS: filling->is_freshening = outdate(filling, stored); break;
    case FRESHENED_FOR_ONE:
    case FRESHENED_NO_MEMORY: break;
    }
    merged_free(&merged);
}

/* ---- 304 ---- */

/* Nobody sees it; what is stored is asked for anew, without conditions. */
static void ask_anew(struct filling *filling)
{
    filling->is_swallowing = true;
    filling->is_refetching = true;
}

/* Gives the stored body with the new head to who has asked, and to nobody else. */
static void give_to_one(struct filling *filling, const struct cache_object *object, const struct merged *merged,
                        enum storing_reason reason)
{
    struct entry *entry = &filling->fetch->entry;
    filling->reason = reason == STORING_OK ? FILLING_TOO_VARIED : FILLING_REASON_RULES + (unsigned)reason;
    filling->is_expelling = true;
    filling->is_taken = true;
    if (forward_response_head(entry, &merged->parser->head, merged->text) != RESULT_OK) {
        filling->is_out_of_memory = true;
        return;
    }
    entry->has_content_length = true;
    entry->content_length = object->body_bytes;
    entry->origin_status = 304;
    filling->is_out_of_memory = filling_partial_append(entry, object->body, 0, 0, object->body_bytes) != RESULT_OK;
}

void filling_freshen_on_304(struct filling *filling, const struct http_head *head, const char *base)
{
    const struct http_own *own = filling->own;
    int64_t now_ms = ring_unix_ms(filling_ring(filling));
    const struct cache_object *object = find_stored(filling);
    const struct cache_head *stored = object == NULL ? NULL : cache_object_head(object);
    /* What was asked about may have been replaced meanwhile: then a 304 speaks of it only if it says so. */
    bool is_ours = stored != NULL && stored->freshness.response_ms == filling->validates_ms;
    enum conditional_304 means = conditional_on_304(is_ours, stored, head, base, now_ms);
    if (means == CONDITIONAL_304_PASS || means == CONDITIONAL_304_REFETCH) {
        ask_anew(filling);
        if (is_ours) {
            filling_http_forget(filling);
        }
        return;
    }
    struct merged merged;
    enum freshened freshened = merge(filling, stored, head, base, &merged);
    if (freshened == FRESHENED_FOR_ALL && freshen(filling, stored, &merged)) {
        filling->is_swallowing = true;
    } else if ((freshened == FRESHENED_FOR_ONE || freshened == FRESHENED_FORBIDS) &&
               object->body_bytes <= FILLING_JOIN_BYTES_MAX) {
        give_to_one(filling, object, &merged, own->verdict.reason);
        if (freshened == FRESHENED_FORBIDS) {
            filling_http_forget(filling);
        }
    } else {
        ask_anew(filling);
        filling_http_forget(filling);
    }
    merged_free(&merged);
}
