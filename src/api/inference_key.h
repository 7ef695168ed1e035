/* The key of an inference request: two requests with equal keys ask for the same answer.
 *
 *   prefix | tenant | '\n' | family | '\n' | model | '\n' | canonical JSON of what shapes the answer
 *
 * The tenant is a JSON string, or `*` when all tenants share; the model is a JSON string, or `null`. In the canonical
 * JSON the members of objects are sorted, white space is gone, strings have one way of escaping, and numbers are
 * written by exact value (1, 1.0 and 10e-1 are the same; integers of any size differ when they differ). Members
 * that this file does not know are part of it; defaults are not filled in, since they are the backend's.
 *
 * Left out, at the top level only (the table in inference_key.c says why of each): what names the user, labels the
 * request, says when it runs or where its prefix may be cached; and `stream` and `stream_options.include_usage`, since
 * both shapes are made from one stored answer (inference_replay.h). The Responses API echoes most of these in its
 * answers, and there they stay in.
 *
 * Pure: no state. Time: one pass, and n log n in the members of an object. Memory: at most 8 times the body and 1 MiB
 * while it reads, and the key, which is about as long as the body at most; nested to at most INFERENCE_DEPTH_MAX,
 * without recursion. */
#ifndef SLUICE_API_INFERENCE_KEY_H
#define SLUICE_API_INFERENCE_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "api/inference_reason.h"
#include "base/bytes.h"

enum { INFERENCE_DEPTH_MAX = 128 };

enum inference_family {
    INFERENCE_FAMILY_NONE, /* unknown: never stored */
    INFERENCE_CHAT,        /* /v1/chat/completions */
    INFERENCE_COMPLETIONS, /* /v1/completions */
    INFERENCE_RESPONSES,   /* /v1/responses */
    INFERENCE_EMBEDDINGS,  /* /v1/embeddings */
    INFERENCE_RERANK,      /* /v1/rerank */
    INFERENCE_SCORE,       /* /v1/score */
    INFERENCE_FAMILIES,
};

/* What a route allows. All false is the default. */
struct inference_key_options {
    bool is_shared;         /* one tenant's answer may be given to another */
    bool stores_sampled;    /* answers that are not deterministic are stored, too */
    bool coalesces_sampled; /* and requests for them joined */
};

struct inference_request {
    struct bytes prefix; /* what the caller wants first in the key, as it is; may be empty */
    struct bytes tenant; /* any bytes */
    struct bytes path;   /* as inference_upstream_path gives it, without the query */
    struct bytes model;  /* as resolved: it stands for the body's own "model"; .ptr NULL: the body's counts */
    struct bytes body;   /* without content coding */
};

struct inference_key {
    struct bytes key;   /* from malloc; .ptr NULL unless may_store or may_join */
    struct bytes model; /* within the key, between its quotes (so escaped as JSON is); .ptr NULL when there is none */
    enum inference_family family;
    enum inference_reason reason; /* why may_store or may_join is false; INFERENCE_OK when both are true */
    bool wants_stream;
    bool wants_usage;      /* of a stream: `stream_options.include_usage` */
    bool is_deterministic; /* temperature 0, a seed, or an endpoint that samples nothing; whatever `n` is */
    bool may_store;
    bool may_join;

    /* LiteLLM's `cache` member, which counts as the request's own Cache-Control. Its "namespace" is part of the
     * key. */
    bool no_cache;     /* do not answer from the cache: the caller's to obey */
    bool no_store;     /* neither store nor share: may_store and may_join are false already */
    int64_t ttl_s;     /* how long the answer may be stored; at most INT32_MAX; -1: not said */
    int64_t max_age_s; /* how old an answer may be ("s-maxage"); likewise */
};

/* Reads a request. *Borrows* all of it; *gives* ret_key->key, for inference_key_fini. It cannot fail: a request that
 * has no key is one that is neither stored nor joined, for ret_key->reason. wants_stream and wants_usage are right
 * whenever the body is a JSON object, in a known family. */
void inference_key_make(const struct inference_request *request, const struct inference_key_options *options,
                        struct inference_key *ret_key);
void inference_key_fini(struct inference_key *key);

/* The endpoint of a path: INFERENCE_FAMILY_NONE when it is not one of those above. */
enum inference_family inference_family_of(struct bytes upstream_path);

#endif
