/* Filling by the rules of RFC 9111: what `http` routes store. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "cache/lines.h"
#include "cache/tags.h"
#include "cache/vary.h"
#include "http/date.h"
#include "proxy/filling_internal.h"

static bool keeps(const struct filling *filling, const struct http_field *field, const char *base)
{
    const struct http_own *own = filling->own;
    /* What a stored part holds is said anew, when it is known. */
    if (filling->draft.status == 206 && bytes_equal_nocase(http_field_name(field, base), BYTES("content-range"))) {
        return false;
    }
    return storing_keeps_field(&own->verdict, field, base);
}

static const char *http_reason_name(unsigned reason)
{
    return storing_reason_name((enum storing_reason)reason);
}

int64_t filling_http_remove_at_ms(const struct filling *filling)
{
    const struct freshness *freshness = &filling->draft.freshness;
    int64_t fresh_ms = freshness->lifetime_ms - freshness->initial_age_ms;
    int64_t after_ms = freshness->stale_while_revalidate_ms > freshness->stale_if_error_ms
                           ? freshness->stale_while_revalidate_ms
                           : freshness->stale_if_error_ms;
    bool has_validator = freshness->etag_bytes > 0 || freshness->last_modified_bytes > 0;
    bool may_be_stale = !freshness->no_cache && !freshness->must_revalidate;
    if (filling->route->keep_ms > after_ms && (has_validator || may_be_stale)) {
        after_ms = filling->route->keep_ms;
    }
    return freshness->response_ms + (fresh_ms > 0 ? fresh_ms : 0) + after_ms + 1000;
}

enum result filling_variant_key(char *key, size_t primary_bytes, size_t bytes_max, struct bytes generation,
                                struct bytes set, const struct http_head *request, const char *base, size_t *ret_bytes)
{
    struct bytes variant = BYTES(FILLING_VARIANT);
    size_t fixed = primary_bytes + variant.len + generation.len + 1 + set.len + 1;
    if (fixed > bytes_max) {
        return RESULT_LIMIT;
    }
    char *at = bytes_put(key + primary_bytes, variant);
    at = bytes_put(at, generation);
    *at++ = '\n';
    at = bytes_put(at, set);
    *at++ = '\n';
    size_t values = 0;
    enum result result = vary_put_key(set, request, base, at, bytes_max - fixed, &values);
    *ret_bytes = fixed + values;
    return result;
}

/* The client's request once more, for the fields that the answer says it varies by. */
static bool parse_request(const struct filling *filling, struct http_parser *parser)
{
    const struct http_limits limits = {
        .head_bytes_max = HTTP_HEAD_BYTES_MAX,
        .target_bytes_max = HTTP_HEAD_BYTES_MAX,
        .fields_max = HTTP_FIELDS_MAX,
    };
    http_parser_init(parser, HTTP_REQUEST, &limits);
    return http_parse_head(parser, filling->request_head.ptr, filling->request_head.len) == RESULT_OK;
}

/* What is known of this key's variants: its marker's generation and note. False: there is no marker. */
static bool read_marker(const struct filling *filling, struct bytes *ret_generation, struct bytes *ret_note)
{
    struct bytes primary = {filling->key.bytes.ptr, filling->key.primary_bytes};
    struct cache_key key = cache_key_make(cache_of(filling->env->core), primary, primary.len);
    const struct cache_object *object = cache_find(filling->env->core, &key);
    if (object == NULL || !filling_is_marker(cache_object_head(object))) {
        return false;
    }
    struct bytes note = cache_head_note(cache_object_head(object));
    *ret_generation = (struct bytes){note.ptr, FILLING_GENERATION_BYTES};
    *ret_note = (struct bytes){note.ptr + FILLING_GENERATION_BYTES, note.len - FILLING_GENERATION_BYTES};
    return true;
}

static void make_generation(const struct filling *filling, char out[FILLING_GENERATION_BYTES + 1])
{
    uint64_t bits = ring_random(cache_core_ring(filling->env->core));
    snprintf(out, FILLING_GENERATION_BYTES + 1, "%016llx", (unsigned long long)bits);
}

/* The marker to be stored at the primary key: a new one, or the one that is there with this set in front. */
static bool prepare_marker(struct filling *filling, struct bytes generation, struct bytes note, struct bytes set)
{
    char *text = arena_alloc(&filling->arena, FILLING_GENERATION_BYTES + VARY_NOTE_BYTES_MAX);
    if (text == NULL) {
        return false;
    }
    memcpy(text, generation.ptr, FILLING_GENERATION_BYTES);
    size_t note_bytes = vary_note_merge(note, set, text + FILLING_GENERATION_BYTES);
    struct bytes primary = {filling->key.bytes.ptr, filling->key.primary_bytes};
    struct cache_key key = cache_key_make(cache_of(filling->env->core), primary, primary.len);
    filling->has_marker = true;
    filling->marker.kind = CACHE_PUT_STORE;
    filling->marker.draft = (struct shard_draft){
        .key = key.bytes,
        .hash = key.hash,
        .note = {text, FILLING_GENERATION_BYTES + note_bytes},
        .cost = FILLING_MARKER_COST,
        .remove_at_ms = filling->draft.remove_at_ms,
        .route = filling->route->index,
    };
    return true;
}

/* The key of the variant that the client's request selects; .ptr NULL: it does not fit, or memory is out. */
static struct bytes variant_key(struct filling *filling, struct bytes generation, struct bytes set)
{
    struct http_parser *parser = malloc(sizeof(*parser));
    char *key = arena_alloc(&filling->arena, FILLING_KEY_BYTES_MAX);
    size_t bytes = 0;
    bool ok = parser != NULL && key != NULL && filling->key.primary_bytes < FILLING_KEY_BYTES_MAX &&
              parse_request(filling, parser);
    if (ok) {
        memcpy(key, filling->key.bytes.ptr, filling->key.primary_bytes);
        ok = filling_variant_key(key, filling->key.primary_bytes, FILLING_KEY_BYTES_MAX, generation, set, &parser->head,
                                 filling->request_head.ptr, &bytes) == RESULT_OK;
    }
    free(parser);
    return ok ? (struct bytes){key, bytes} : BYTES_NONE;
}

/* A variant whose marker is in the second tier. */
static bool http_variant(struct filling *filling, struct bytes note, unsigned set, struct cache_key *ret_key)
{
    struct bytes fields;
    if (note.len < FILLING_GENERATION_BYTES) {
        return false;
    }
    struct bytes generation = {note.ptr, FILLING_GENERATION_BYTES};
    note = (struct bytes){note.ptr + FILLING_GENERATION_BYTES, note.len - FILLING_GENERATION_BYTES};
    for (unsigned i = 0; i <= set; i++) {
        if (!vary_note_next(&note, &fields)) {
            return false;
        }
    }
    struct bytes key = variant_key(filling, generation, fields);
    *ret_key = key.ptr == NULL ? (struct cache_key){0}
                               : cache_key_make(cache_of(filling->env->core), key, filling->key.primary_bytes);
    return true;
}

/* Where the answer varies, or others for this key have varied, it is stored under a variant's key. */
static bool choose_key(struct filling *filling, const struct vary_set *set)
{
    struct bytes generation;
    struct bytes note = BYTES_NONE;
    char fresh[FILLING_GENERATION_BYTES + 1];
    bool has_marker = read_marker(filling, &generation, &note);
    if (!has_marker && set->bytes == 0) {
        filling->key.bytes.len = filling->key.primary_bytes;
        filling->key = cache_key_make(cache_of(filling->env->core), filling->key.bytes, filling->key.primary_bytes);
        return true;
    }
    if (!has_marker) {
        make_generation(filling, fresh);
        generation = (struct bytes){fresh, FILLING_GENERATION_BYTES};
    }
    struct bytes key = variant_key(filling, generation, vary_set_text(set));
    if (key.ptr == NULL || !prepare_marker(filling, generation, note, vary_set_text(set))) {
        return false;
    }
    filling->key = cache_key_make(cache_of(filling->env->core), key, filling->key.primary_bytes);
    return true;
}

/* Who joined compares this with their own request. It has to live as long as the entry. */
static bool tell_variant(struct filling *filling, struct bytes fields, struct bytes key)
{
    struct arena *arena = &filling->fetch->arena;
    struct entry_variant *variant = arena_alloc(arena, sizeof(*variant));
    if (variant == NULL) {
        return false;
    }
    variant->fields = arena_copy(arena, fields);
    variant->key = arena_copy(arena, key);
    filling->fetch->entry.variant = variant;
    return variant->fields.ptr != NULL && variant->key.ptr != NULL;
}

/* What comes without Date is dated when it was received (RFC 9110 §6.6.1), once, so that who gets it later can see how
 * old it is. */
static bool put_date(struct filling *filling)
{
    struct shard_draft *draft = &filling->draft;
    char date[HTTP_DATE_BYTES];
    struct bytes name = BYTES("Date");
    if (draft->has_date) {
        return true;
    }
    char *start =
        arena_alloc(&filling->arena, draft->lines.len + lines_line_bytes(name, (struct bytes){date, sizeof(date)}));
    if (start == NULL) {
        return false;
    }
    http_date_format(draft->freshness.date_ms / 1000, date);
    char *end = lines_put_line(bytes_put(start, draft->lines), name, (struct bytes){date, HTTP_DATE_BYTES});
    draft->lines = (struct bytes){start, (size_t)(end - start)};
    draft->has_date = true;
    return true;
}

bool filling_http_take_lines(struct filling *filling, const struct http_head *head, const char *base)
{
    return filling_take_lines(filling, head, base, keeps) == RESULT_OK && put_date(filling);
}

bool filling_http_take_tags(struct filling *filling, const struct http_head *head, const char *base)
{
    char *tags = arena_alloc(&filling->arena, TAGS_BYTES_MAX);
    size_t bytes = 0;
    if (tags == NULL || tags_of_response(BYTES("http"), filling->scheme_and_authority, head, base, tags, TAGS_BYTES_MAX,
                                         &bytes) != RESULT_OK) {
        return false;
    }
    filling->draft.tags = (struct bytes){tags, bytes};
    return true;
}

/* Who joins when the head is there already judges by it whether the answer is fresh enough. */
static bool tell_freshness(struct filling *filling)
{
    struct freshness *freshness = arena_alloc(&filling->fetch->arena, sizeof(*freshness));
    if (freshness == NULL) {
        return false;
    }
    *freshness = filling->draft.freshness;
    filling->fetch->entry.freshness = freshness;
    return true;
}

/* What the client's request says of the fields in `set`: the end of the key that the answer is stored under. */
static struct bytes told_of(const struct filling *filling, const struct vary_set *set)
{
    size_t before =
        filling->key.primary_bytes + sizeof(FILLING_VARIANT) - 1 + FILLING_GENERATION_BYTES + 1 + set->bytes + 1;
    return (struct bytes){filling->key.bytes.ptr + before, filling->key.bytes.len - before};
}

/* Whether an answer that is not stored may go to those who wait for it, too: a failing origin's may, or each of them
 * would ask again; then it is told which of them it fits. */
static bool is_shared(struct filling *filling, const struct http_head *head, const char *base)
{
    const struct http_own *own = filling->own;
    struct vary_set set;
    if (head->status < 500 || own->verdict.is_for_one || !vary_of_response(head, base, &set)) {
        return false;
    }
    if (set.bytes == 0) {
        return true;
    }
    struct http_parser *parser = malloc(sizeof(*parser));
    char *key = arena_alloc(&filling->arena, FILLING_KEY_BYTES_MAX);
    size_t bytes = 0;
    bool ok = parser != NULL && key != NULL && parse_request(filling, parser) &&
              vary_put_key(vary_set_text(&set), &parser->head, filling->request_head.ptr, key, FILLING_KEY_BYTES_MAX,
                           &bytes) == RESULT_OK;
    free(parser);
    return ok && tell_variant(filling, vary_set_text(&set), (struct bytes){key, bytes});
}

/* Everything that is kept of an answer whose head this is. */
bool filling_http_take(struct filling *filling, const struct http_head *head, const char *base)
{
    const struct http_own *own = filling->own;
    struct vary_set *set = arena_alloc(&filling->arena, sizeof(*set));
    if (set == NULL || !vary_of_response(head, base, set) || !filling_http_take_tags(filling, head, base)) {
        return false;
    }
    filling->draft.freshness = own->verdict.freshness;
    if (!filling_http_take_lines(filling, head, base)) {
        return false;
    }
    filling->draft.remove_at_ms = filling_http_remove_at_ms(filling);
    if (!choose_key(filling, set)) {
        return false;
    }
    filling->draft.key = filling->key.bytes;
    filling->draft.hash = filling->key.hash;
    return tell_freshness(filling) &&
           (!filling->has_marker || tell_variant(filling, vary_set_text(set), told_of(filling, set)));
}

void filling_http_judge(struct filling *filling, const struct http_head *head, const char *base,
                        struct storing_verdict *verdict)
{
    const struct storing_exchange exchange = {
        .request = &filling->asks,
        .response = head,
        .base = base,
        .request_ms = filling->started_ms,
        .response_ms = ring_unix_ms(cache_core_ring(filling->env->core)),
        .method = filling->method,
        .can_combine = filling->is_range || filling->is_completing,
    };
    storing_judge(&exchange, filling->route->policy, verdict);
}

void filling_http_forget(struct filling *filling)
{
    bool may_be_in_tier = filling->env->store != NULL && !filling->tier_has_none;
    if (cache_find(filling->env->core, &filling->key) == NULL && !may_be_in_tier) {
        return; /* nothing was: and removing is by the primary key, which other variants share */
    }
    if (filling->tier_has_none) {
        cache_remove(filling->env->core, &filling->key, SHARD_REPLACED);
    } else {
        filling_remove(filling->env, &filling->key, SHARD_REPLACED);
    }
}

/* ---- the head ---- */

/* The answer is a failure, and what is stored may be used in its place: it stays, though the failure be one that can be
 * stored, else who asks next would get that (RFC 5861 §4). */
static bool stale_stands(const struct filling *filling, const struct http_head *head, int64_t now_ms)
{
    const struct cache_object *object = cache_find(filling->env->core, &filling->key);
    const struct cache_head *stored = object == NULL ? NULL : cache_object_head(object);
    return freshness_is_failure(head->status) && stored != NULL && !filling_is_marker(stored) &&
           !freshness_is_failure(stored->status) &&
           freshness_allows_on_error(&stored->freshness, &filling->asks, now_ms);
}

static void http_on_head(struct filling *filling, const struct http_head *head, const char *base)
{
    struct cache_core *core = filling->env->core;
    int64_t now_ms = ring_unix_ms(cache_core_ring(core));
    if (freshness_is_failure(head->status)) {
        cache_mark_failed(core, filling->key.hash, now_ms, false);
    } else {
        cache_mark_succeeded(core, filling->key.hash);
    }
    struct http_own *own = arena_alloc(&filling->arena, sizeof(*own));
    filling->own = own;
    if (own == NULL) {
        filling->reason = FILLING_NO_ROOM;
        return;
    }
    own->combines_ms = 0;
    if (head->status == 304 && filling->validates_ms != 0) {
        filling_freshen_on_304(filling, head, base);
        return;
    }
    if (filling->is_for_head) {
        filling_freshen_on_head(filling, head, base);
        return;
    }
    if (filling->is_completing && filling_partial_complete(filling, head, base)) {
        return;
    }
    if (filling->is_range && head->status == 206) {
        filling_partial_on_head(filling, head, base);
        return;
    }
    filling_http_judge(filling, head, base, &own->verdict);
    if (stale_stands(filling, head, now_ms)) {
        filling->reason = FILLING_STALE_STANDS;
    } else if (own->verdict.reason == STORING_OK) {
        if (filling_http_take(filling, head, base)) {
            /* Who joined would see lines that are not stored. */
            if (own->verdict.named.count > 0 && filling->flight != NULL) {
                flight_close(filling->flight, true);
            }
            return;
        }
        filling->reason = FILLING_TOO_VARIED;
    } else {
        filling->reason = FILLING_REASON_RULES + own->verdict.reason;
    }
    if (own->verdict.replaces_stored && filling->reason != FILLING_STALE_STANDS) {
        filling_http_forget(filling);
    }
    filling->is_expelling = !is_shared(filling, head, base);
}

static void http_on_end(struct filling *filling)
{
    if (filling->draft.status == 206) {
        filling_partial_on_end(filling);
    }
}

const struct filling_rules filling_http = {
    .on_head = http_on_head,
    .on_end = http_on_end,
    .reason_name = http_reason_name,
    .variant = http_variant,
};
