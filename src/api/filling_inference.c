#include "api/filling_inference.h"

#include <stdlib.h>

#include "api/inference_capture.h"
#include "api/inference_replay.h"
#include "base/check.h"
#include "cache/directives.h"
#include "cache/lines.h"
#include "proxy/forward.h"

struct inference_own {
    struct inference_capture capture;
    enum inference_family family;
    struct filling_inference_terms terms;
    int64_t max_age_s; /* of a stored answer; -1: any */
    bool wants_stream;
    bool wants_usage;
    char *converted; /* from malloc; NULL: none */
};

enum result filling_inference_init(struct filling *filling, const struct inference_key *key,
                                   const struct filling_inference_terms *terms)
{
    struct inference_own *own = arena_alloc(&filling->arena, sizeof(*own));
    if (own == NULL) {
        return RESULT_NO_MEMORY;
    }
    own->family = key->family;
    own->terms = *terms;
    own->max_age_s = key->max_age_s;
    own->wants_stream = key->wants_stream;
    own->wants_usage = key->wants_usage;
    own->converted = NULL;
    filling->own = own;
    filling->is_join_only = terms->not_kept != INFERENCE_OK;
    return RESULT_OK;
}

/* Cookies are for one client; what a cache between the backend and us has said of age, and how many requests were left
 * to somebody at some time, is not true for long. */
static bool keep_line(const struct filling *filling, const struct http_field *field, const char *base)
{
    (void)filling;
    const struct bytes limits[] = {BYTES("x-ratelimit-"), BYTES("ratelimit")};
    struct bytes name = http_field_name(field, base);
    for (size_t i = 0; i < ARRAY_COUNT(limits); i++) {
        if (name.len >= limits[i].len && bytes_equal_nocase((struct bytes){name.ptr, limits[i].len}, limits[i])) {
            return false;
        }
    }
    return field->id != HTTP_FIELD_SET_COOKIE && field->id != HTTP_FIELD_AGE;
}

/* An answer that was not coded serves whoever accepts codings. */
static bool varies_beside_key(const struct inference_own *own, const struct http_head *head, const char *base)
{
    struct head_values values = head_values(head, base, BYTES("vary"));
    struct bytes list;
    struct bytes name;
    while (head_next_value(&values, &list)) {
        while (bytes_next_item(&list, &name)) {
            if (name.len > 0 && !bytes_equal_nocase(name, BYTES("accept-encoding")) &&
                !own->terms.is_in_key(own->terms.context, name)) {
                return true;
            }
        }
    }
    return false;
}

/* These answers are stored by the rules of this program, which RFC 9111 would not store at all (a POST's, which says
 * nothing of its freshness); but what forbids it in so many words counts. `no-cache` is written on event streams to
 * keep proxies from buffering them, and says nothing here. */
static enum inference_reason reason_of_backend(const struct inference_own *own, const struct http_head *head,
                                               const char *base)
{
    struct directives_response directives;
    directives_read_response(head, base, &directives);
    if (directives.no_store) {
        return INFERENCE_BACKEND_NO_STORE;
    }
    if (varies_beside_key(own, head, base)) {
        return INFERENCE_BACKEND_VARY;
    }
    return directives.is_private && own->terms.is_shared ? INFERENCE_BACKEND_PRIVATE : INFERENCE_OK;
}

static void inference_on_head(struct filling *filling, const struct http_head *head, const char *base)
{
    struct inference_own *own = filling->own;
    struct bytes coding = http_head_value(head, base, HTTP_FIELD_CONTENT_ENCODING);
    const struct bytes content_type = http_head_value(head, base, HTTP_FIELD_CONTENT_TYPE);
    const struct inference_answer_head answer = {
        .status = head->status,
        .content_type = content_type,
        .has_content_coding = coding.len > 0 && !bytes_equal_nocase(coding, BYTES("identity")),
        .is_event_stream = forward_is_event_stream(content_type),
    };
    inference_capture_init(&own->capture, own->family, own->terms.stores_tool_calls, &answer);
    enum inference_reason of_backend = reason_of_backend(own, head, base);
    enum inference_reason reason = inference_capture_reason(&own->capture);
    reason = reason == INFERENCE_OK ? of_backend : reason;
    if (reason != INFERENCE_OK) {
        filling->reason = FILLING_REASON_RULES + (unsigned)reason;
        /* Whose credentials were refused says nothing of the others', and what was coded for one may be unreadable to
         * another. Other errors serve all who wait, or each would ask a backend that is in trouble again. */
        filling->is_expelling = head->status == 401 || head->status == 403 || head->status == 407 ||
                                answer.has_content_coding || of_backend != INFERENCE_OK ||
                                http_head_value(head, base, HTTP_FIELD_SET_COOKIE).len > 0;
        return;
    }
    int64_t now_ms = ring_unix_ms(cache_core_ring(filling->env->core));
    filling->draft.freshness = (struct freshness){
        .response_ms = now_ms,
        .lifetime_ms = own->terms.ttl_ms,
        .date_ms = now_ms,
        .last_modified_ms = -1,
    };
    filling->draft.remove_at_ms = now_ms + own->terms.ttl_ms;
    if (filling_take_lines(filling, head, base, keep_line) != RESULT_OK) {
        filling->reason = FILLING_NO_ROOM;
    }
    if (http_head_value(head, base, HTTP_FIELD_SET_COOKIE).len > 0 && filling->flight != NULL) {
        flight_close(filling->flight, true); /* who joined would be given another's cookie */
    }
    filling->draft.freshness.etag_bytes = 0; /* nobody is asked about it again */
    filling->draft.freshness.last_modified_bytes = 0;
}

static void inference_on_body(struct filling *filling, struct bytes run)
{
    struct inference_own *own = filling->own;
    inference_capture_feed(&own->capture, run);
}

static void inference_on_end(struct filling *filling)
{
    struct inference_own *own = filling->own;
    struct inference_verdict verdict = inference_capture_end(&own->capture);
    if (verdict.reason != INFERENCE_OK) {
        filling->reason = FILLING_REASON_RULES + (unsigned)verdict.reason;
        return;
    }
    if (filling->is_join_only) {
        filling->reason = FILLING_REASON_RULES + (unsigned)own->terms.not_kept;
        return;
    }
    bool was_asked = verdict.form != INFERENCE_FORM_STREAM_WITH_USAGE || own->wants_usage;
    filling->draft.form = (uint8_t)(was_asked ? verdict.form : INFERENCE_FORM_STREAM_TELLING);
    filling->draft.cost_tokens = verdict.prompt_tokens + verdict.completion_tokens;
}

/* ---- what the second tier has ---- */

/* The answer in the shape that is asked for. False: it cannot be made. */
static bool convert(struct filling *filling, struct filling_replay *replay)
{
    struct inference_own *own = filling->own;
    struct bytes body;
    const struct inference_conversion conversion = {(enum inference_form)filling->draft.form, own->wants_stream};
    struct bytes type = inference_replay_content_type(own->wants_stream);
    char *lines = arena_alloc(&filling->arena, replay->lines.len + lines_line_bytes(BYTES("Content-Type"), type));
    if (lines == NULL || inference_convert(own->family, conversion.form, own->wants_stream, own->wants_usage,
                                           replay->body, &body) != RESULT_OK) {
        return false;
    }
    own->converted = (char *)(uintptr_t)body.ptr;
    char *end = lines_put_kept(lines, replay->lines, inference_replay_keeps_line, &conversion);
    end = lines_put_line(end, BYTES("Content-Type"), type);
    *replay = (struct filling_replay){{lines, (size_t)(end - lines)}, body, own->wants_stream};
    return true;
}

static bool inference_on_record(struct filling *filling, struct filling_replay *replay)
{
    const struct inference_own *own = filling->own;
    const struct freshness *freshness = &filling->draft.freshness;
    enum freshness_use use = freshness_decide(freshness, &filling->asks, filling->started_ms, NULL);
    bool is_too_old = own->max_age_s >= 0 && freshness_age_ms(freshness, filling->started_ms) > own->max_age_s * 1000;
    if ((use != FRESHNESS_FRESH && use != FRESHNESS_STALE) || is_too_old) {
        return false;
    }
    switch (inference_can_serve(own->family, (enum inference_form)filling->draft.form, own->wants_stream,
                                own->wants_usage)) {
    case INFERENCE_REPLAY_AS_IS: return true;
    case INFERENCE_REPLAY_CONVERTED: return convert(filling, replay);
    case INFERENCE_REPLAY_IMPOSSIBLE: break;
    }
    return false;
}

static void inference_on_free(struct filling *filling)
{
    struct inference_own *own = filling->own;
    if (own != NULL) {
        free(own->converted);
    }
}

static const char *reason_name(unsigned reason)
{
    return inference_reason_name((enum inference_reason)reason);
}

const struct filling_rules filling_inference = {
    .on_head = inference_on_head,
    .on_body = inference_on_body,
    .on_end = inference_on_end,
    .on_free = inference_on_free,
    .reason_name = reason_name,
    .on_record = inference_on_record,
};
