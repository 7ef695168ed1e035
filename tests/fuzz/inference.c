/* Any bytes as an inference request's body, as an answer and as a stored body: keys do not depend on white space at the
 * ends, judgements not on how the bytes are cut, and what is made of an answer that was found storable is storable. */

#include <stdint.h>
#include <stdlib.h>

#include "api/inference_replay.h"
#include "base/check.h"

static void release(struct bytes bytes)
{
    free((char *)(uintptr_t)bytes.ptr);
}

static struct inference_key make_key(struct bytes path, struct bytes body)
{
    static const struct inference_key_options options = {.stores_sampled = true};
    const struct inference_request request = {.tenant = BYTES("t"), .path = path, .body = body};
    struct inference_key key;
    inference_key_make(&request, &options, &key);
    CHECK((key.key.ptr != NULL) == (key.may_store || key.may_join));
    CHECK(key.reason != INFERENCE_OK || (key.may_store && key.may_join));
    return key;
}

/* The canonical JSON of a key has that key, but for the model, which is no part of it. */
static void try_key(struct bytes path, struct bytes body)
{
    struct inference_key key = make_key(path, body);
    if (key.key.ptr == NULL) {
        return;
    }
    const char *end = key.key.ptr + key.key.len;
    const char *json = key.key.ptr;
    for (unsigned lines = 0; lines < 3; lines++) {
        json = (const char *)memchr(json, '\n', (size_t)(end - json)) + 1;
    }
    struct inference_key again = make_key(path, (struct bytes){json, (size_t)(end - json)});
    struct bytes tail = {json, (size_t)(end - json)};
    /* A `stream` that was left out can make the options that stay count as odd, or not be left out any more. */
    if (again.key.ptr != NULL && !key.wants_stream && key.model.ptr == NULL) {
        CHECK(again.key.len >= tail.len && bytes_equal(again.key, key.key));
    }
    inference_key_fini(&again);
    inference_key_fini(&key);
}

static struct inference_verdict judge(enum inference_family family, bool is_stream, struct bytes body, size_t step)
{
    const struct inference_answer_head head = {
        .status = 200, .content_type = BYTES("application/json"), .is_event_stream = is_stream};
    struct inference_capture capture;
    inference_capture_init(&capture, family, true, &head);
    for (size_t at = 0; at < body.len; at += step) {
        size_t rest = body.len - at;
        inference_capture_feed(&capture, (struct bytes){body.ptr + at, rest < step ? rest : step});
    }
    return inference_capture_end(&capture);
}

static void try_replay(enum inference_family family, enum inference_form form, struct bytes body, bool is_storable)
{
    for (unsigned i = 0; i < 3; i++) {
        struct bytes out;
        if (inference_convert(family, form, i > 0, i > 1, body, &out) != RESULT_OK) {
            continue;
        }
        CHECK(out.len <= body.len * 16 + (64 << 10));
        struct inference_verdict verdict = judge(family, i > 0, out, out.len + 1);
        CHECK(!is_storable || verdict.reason == INFERENCE_OK);
        release(out);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes body = {(const char *)data, size};
    try_key(BYTES("/v1/chat/completions"), body);
    try_key(BYTES("/v1/embeddings"), body);
    for (unsigned family = INFERENCE_CHAT; family <= INFERENCE_EMBEDDINGS; family++) {
        for (unsigned is_stream = 0; is_stream < 2; is_stream++) {
            struct inference_verdict whole = judge((enum inference_family)family, is_stream, body, size + 1);
            struct inference_verdict parts = judge((enum inference_family)family, is_stream, body, 1 + size % 7);
            CHECK(whole.reason == parts.reason && whole.form == parts.form);
            CHECK(whole.prompt_tokens == parts.prompt_tokens && whole.has_usage == parts.has_usage);
            enum inference_form form = is_stream ? INFERENCE_FORM_STREAM_WITH_USAGE : INFERENCE_FORM_JSON;
            try_replay((enum inference_family)family, form, body, whole.reason == INFERENCE_OK);
        }
    }
    return 0;
}
